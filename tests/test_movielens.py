"""MovieLens-1M from raw files to numbers that are known from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets import get
from penchant.data.split import leave_last_out
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.models import build
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

pytestmark = [pytest.mark.slow, pytest.mark.data]


@pytest.fixture(scope="module")
def films(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENCHANT_DATA", str(real_data))
        get("movielens-1m", folder / "raw")
    return prepare(folder / "raw", folder / "log")


def test_counts(films: Log) -> None:
    assert (films.size, len(films.users), len(films.items)) == (1_000_209, 6_040, 3_883)
    assert len(np.unique(films.events["item"])) == 3_706
    split = leave_last_out(films)
    assert (len(split.train), len(split.valid), len(split.test), split.dropped) == (1_000_209 - 2 * 6_040, 6_040, 6_040, 0)


def test_the_tie_rule_matters(films: Log) -> None:
    """42% of people have a last event that shares its second with the one before: under `strict`, their pasts are shorter."""
    test = leave_last_out(films).test
    tied = films.tie[test] < test
    assert tied.mean() == pytest.approx(0.42, abs=0.005)


def test_popularity_is_what_others_measured(films: Log) -> None:
    """HR/NDCG@10 of .438/.242 and .461/.254 were measured elsewhere under the same protocol, with other draws of candidates."""
    split = leave_last_out(films)
    encoding = fit_encoding(films, split.train)
    model = build(encoding, "popularity", {})
    judged = judge(model, EncodedLog(films, encoding), split, PROTOCOLS["loo-99"], past=0)
    assert judged.value("hr@10") == pytest.approx(0.45, abs=0.02)
    assert judged.value("ndcg@10") == pytest.approx(0.25, abs=0.015)
    whole = judge(model, EncodedLog(films, encoding), split, PROTOCOLS["loo-full"], past=0)
    assert whole.value("hr@10") == pytest.approx(0.037, abs=0.01)


def test_a_short_run_of_mf_learns(films: Log, tmp_path: Path) -> None:
    settings = RunConfig(log=str(films.folder), model={"name": "mf"}, train=TrainConfig(epochs=2, batch_size=1024, rate=5e-3))
    run = fit(settings, tmp_path / "run", log=films)
    judged = judge(run.model, run.data, run.split, PROTOCOLS["loo-99"], past=0)
    assert judged.value("ndcg@10") > 0.32
