"""docs/trust.md: what would have fooled a reader is said, on MovieLens-100K as it stands there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penchant.compare import compare_models, entries
from penchant.config import read
from penchant.data.check import check
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets import get
from penchant.data.split import SplitConfig
from penchant.metrics.dialects import DIALECTS
from penchant.train.config import RunConfig

pytestmark = [pytest.mark.slow, pytest.mark.data]
RECIPES = Path(__file__).parents[1] / "recipes" / "trust"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Log:
    folder = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENCHANT_DATA", str(real_data))
        get("movielens-100k", folder / "raw")
    return prepare(folder / "raw", folder / "log")


def test_an_untuned_baseline_is_named(films: Log, tmp_path: Path) -> None:
    base = read(RunConfig, RECIPES / "base.toml").model_copy(update={"log": str(films.folder)})
    given = entries(base, ["mf", str(RECIPES / "mf-tuned.toml")])
    found = compare_models(given, 1, tmp_path / "out")
    assert [row.model for row in found.rows] == ["mf-tuned", "mf"]
    assert found.pairs[0].significant
    assert found.budget.startswith("Budgets differ (batch_size, data, epochs, patience, rate, table_l2)")
    assert found.warnings[0].startswith("Still improving when the budget ended: mf (1 of 1 seeds)")


def test_a_leaking_split_is_named(films: Log) -> None:
    found = check(films, SplitConfig(name="random"))
    assert [finding.name for finding in found.findings if finding.grave] == ["parts-overlap-in-time"]
    assert not check(films, SplitConfig(name="ratio")).grave


def test_dialects_make_gains_that_nobody_made() -> None:
    draw = np.random.default_rng(4)
    user = np.repeat(np.arange(300), draw.integers(2, 40, 300))
    label = (draw.random(len(user)) < 0.12).astype(float)
    score = np.round(0.3 * label + draw.normal(size=len(user)), 1)
    gauc = {name: DIALECTS[name].gauc(score, label, user) for name in ("recbole", "fuxictr", "torchrec", "torch-rechub")}
    assert np.isnan(gauc.pop("torch-rechub"))
    assert max(gauc.values()) - min(gauc.values()) > 0.005
