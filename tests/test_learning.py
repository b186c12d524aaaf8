"""It learns: on a planted world attention finds what was planted, and knowing what of a past matters pays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from penchant.conformance.world import write_world
from penchant.data.encoded import EncodedLog
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.evaluate.judge import Judged, judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import paired
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

pytestmark = pytest.mark.slow

TASTES = 8
PROTOCOL = replace(PROTOCOLS["loo-99"], name="loo-30", count=30)


@dataclass
class Learned:
    model: Model
    data: EncodedLog
    judged: Judged


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("planted")
    write_world(folder / "raw", people=600, items=160, tastes=TASTES, events=40, seed=1)
    return prepare(folder / "raw", folder / "log")


@pytest.fixture(scope="module")
def learned(planted: Log, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Learned]:
    """Models that know items by their id alone, so that tastes are learned and not read off the maker."""
    out = {}
    for name in ("popularity", "mf", "pooling", "din"):
        config = RunConfig(
            log=str(planted.folder),
            model={"name": name},
            item=ItemConfig(dim=16, attributes=False),
            protocol="loo-full",
            data=LoadConfig(past=30, negatives=4, unknown=0),
            train=TrainConfig(epochs=12, batch_size=128, rate=3e-3, patience=12),
        )
        run = fit(config, tmp_path_factory.mktemp(name) / "run", log=planted)
        out[name] = Learned(run.model, run.data, judge(run.model, run.data, run.split, PROTOCOL, past=30))
    return out


def test_every_model_beats_popularity(learned: dict[str, Learned]) -> None:
    floor = learned["popularity"].judged
    for name in ("mf", "pooling", "din"):
        difference = paired(learned[name].judged.each("ndcg@10"), floor.each("ndcg@10"))
        assert difference.low > 0.05, name


def test_din_beats_pooling(learned: dict[str, Learned]) -> None:
    difference = paired(learned["din"].judged.each("gauc"), learned["pooling"].judged.each("gauc"))
    assert difference.low > 0, difference


def test_attention_finds_the_candidate_s_own_taste(learned: dict[str, Learned], planted: Log) -> None:
    """For people of several tastes: the share of |attention| on events of the candidate's taste, beside their share of the past."""
    din = learned["din"]
    position = din.judged.position
    loader = Loader(data=din.data, position=position, config=LoadConfig(past=30), seed=0)
    batch = loader.assemble(position, din.data.rows(position)[:, None])
    with torch.inference_mode():
        attention = din.model(batch, explain=True).attention
    assert attention is not None
    say = attention[:, 0].abs().numpy()
    ids = np.array([int(raw[1:]) for raw in planted.items.column("id").to_pylist()])
    taste = np.concatenate([[-1], ids % TASTES])
    events = batch.history.events
    own = taste[batch.row[batch.history.item].numpy()] == taste[din.data.rows(position)][events.row.numpy()]
    share, base = [], []
    for begin, end in zip(events.start[:-1].tolist(), events.start[1:].tolist(), strict=True):
        mine = own[begin:end]
        if 0 < mine.sum() < len(mine) and say[begin:end].sum() > 0:
            share.append(say[begin:end][mine].sum() / say[begin:end].sum())
            base.append(mine.mean())
    assert len(share) > 200
    assert np.mean(share) > 0.7
    assert np.mean(share) > 1.4 * np.mean(base)
