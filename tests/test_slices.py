"""Results apart, and what lists are like, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from penchant.bundle import Bundle
from penchant.data.encoded import EncodedLog
from penchant.data.log import Log
from penchant.data.split import Split
from penchant.encoding import Encoding
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.evaluate.slices import by_slice
from penchant.models import build
from penchant.nn.model import Model


@pytest.fixture(scope="module")
def judged(encoding: Encoding, log: Log) -> Judged:
    torch.manual_seed(2)
    model = build(encoding, "din", {"attention": [8], "head": [16], "profile": 4})
    bundle = Bundle(name="din", model=model, encoding=encoding, config={}, item=Model.Item, past=10, tie="order")
    return evaluate(bundle, log, PROTOCOLS["loo-full"])


def names(judged: Judged, by: str) -> list[str]:
    (one,) = [one for one in judged.slices if one.by == by]
    return [one.names[code] if code >= 0 else "" for code in one.code]


def test_slices_of_pasts_and_items(judged: Judged, data: EncodedLog, log: Log) -> None:
    length = judged.position - log.start[judged.user]
    for said, events in zip(names(judged, "past"), length.tolist(), strict=True):
        low, _, high = said.replace("none", "0 to 0").partition(" to ")
        assert int(low.split()[0]) <= events <= int(high or 10**9)
    count, row = data.encoding.catalogue.count, data.rows(judged.position)
    said = names(judged, "popularity of the item")
    for one, other in zip(("head: the most chosen third of events", "middle third"), ("middle third", "tail third"), strict=True):
        more, less = ([int(count[r]) for r, s in zip(row, said, strict=True) if s == part] for part in (one, other))
        assert min(more) >= max(less)
    head = np.unique(row[[s.startswith("head") for s in said]])
    assert count[head].sum() < 0.6 * count.sum()


def test_slices_of_moments(judged: Judged, log: Log) -> None:
    time = np.asarray(log.events["time"])[judged.position]
    hour = (time // 3_600_000) % 24
    if log.schema.events.zone == "UTC":
        assert names(judged, "hour") == [f"{h:02}:00" for h in hour]
    device, values = log.events["context.device"][judged.position], log.values["context.device"].to_pylist()
    assert names(judged, "device") == ["absent" if d == 0 else values[d - 1] for d in device]


def test_a_slice_is_the_mean_of_its_people(judged: Judged) -> None:
    each = judged.each("ndcg@10")
    for row in by_slice(judged, "ndcg@10", resamples=50):
        mine = np.array([name == row["slice"] for name in names(judged, row["by"])])
        assert row["ndcg@10"] == pytest.approx(each[mine].mean())
        assert row["people"] == row["lists"] == mine.sum()
        if "interval" in row:
            assert row["interval"][0] <= row["ndcg@10"] <= row["interval"][1]
    apart = by_slice(judged, "ndcg@10", resamples=50)
    assert sum(row["people"] for row in apart if row["by"] == "past") == judged.people
    assert not judged.only(np.zeros(judged.people, dtype=bool)).people


def test_what_lists_are_like(judged: Judged, data: EncodedLog, split: Split, log: Log) -> None:
    assert judged.top is not None
    summary, count = judged.summary(resamples=50), data.encoding.catalogue.count
    shown = set(judged.top.ravel().tolist())
    happened = set(data.rows(np.arange(log.size)).tolist())
    assert summary["coverage@10"] == pytest.approx(len(shown) / len(happened))
    lift = np.mean([count[row].mean() for row in judged.top])
    pasts = [data.rows(np.arange(log.start[user], at)) for user, at in zip(judged.user, judged.position, strict=True)]
    assert summary["popularity-lift@10"] == pytest.approx(lift / np.mean([count[past].mean() for past in pasts if len(past)]))
    kind = data.encoding.catalogue.code[:, 0]
    assert summary["tastes-by"] == data.encoding.schema.named("item", "category")[0]
    different = [np.mean([kind[a] != kind[b] for at, a in enumerate(row) for b in row[:at]]) for row in judged.top]
    assert summary["diversity@10"] == pytest.approx(np.mean(different))
    for name in ("popularity-lift@10", "novelty@10", "diversity@10", "taste-divergence@10"):
        low, high = summary["intervals"][name]
        assert low <= summary[name] <= high
    for past, row in zip(pasts, judged.top, strict=True):
        assert not set(past.tolist()) & set(row.tolist())
