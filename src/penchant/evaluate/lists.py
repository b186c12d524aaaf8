"""What the first ten of each list over the whole catalogue are like, beside being right."""

from __future__ import annotations

from typing import Any

import numpy as np

from penchant.data.encoded import EncodedLog
from penchant.encoding import Ints
from penchant.evaluate.judge import pool
from penchant.evaluate.judged import Judged
from penchant.metrics import Interval, bootstrap
from penchant.metrics.catalogue import PerPerson, coverage, divergence, diversity, gini, novelty, popularity_lift


def of_lists(data: EncodedLog, judged: Judged, *, resamples: int = 1000) -> dict[str, Any]:
    """Coverage, exposure, popularity, novelty, variety and likeness to taste, with intervals where each is of people.

    Nothing for protocols that rank less than the whole catalogue. Tastes are by the first category that items have.
    """
    if judged.top is None:
        return {}
    catalogue, seed = data.encoding.catalogue, judged.seed
    there = judged.top >= 0
    item, start = judged.top[there], np.concatenate([[0], np.cumsum(there.sum(1))])
    past, length = data.past(judged.position, data.log.size, judged.protocol.tie)
    before, since = data.rows(past), np.concatenate([[0], np.cumsum(length)])
    recommendable = np.zeros(catalogue.size, dtype=bool)
    recommendable[pool(data)] = True
    found: dict[str, Any] = {"coverage@10": coverage(item, recommendable), "gini@10": gini(item, recommendable)}
    intervals: dict[str, Interval] = {}

    def add(name: str, value: PerPerson) -> None:
        if len(value.value):
            found[name], intervals[name] = value.mean, bootstrap(value.value, resamples=resamples, seed=seed)

    lift = popularity_lift(item, start, before, since, catalogue.count)
    if len(lift.past) and lift.past.any():
        found["popularity-lift@10"] = lift.ratio
        intervals["popularity-lift@10"] = _of_ratio(lift.shown, lift.past, resamples, seed)
    if catalogue.count.any():
        add("novelty@10", novelty(item, start, catalogue.count, int(catalogue.count.sum())))
    named, category = _category(data)
    if category is not None:
        add("diversity@10", diversity(item, start, category=category))
        add("taste-divergence@10", divergence(item, start, before, since, category))
        found["tastes-by"] = named
    return {**found, "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()}}


def _of_ratio(shown: np.ndarray, past: np.ndarray, resamples: int, seed: int) -> Interval:
    """The interval of sum(shown) / sum(past). A past of nothing popular weighs next to nothing, and not nothing: its list counts."""
    weight = np.maximum(past, past.mean() * 1e-9)
    return bootstrap(shown / weight, weight, resamples=resamples, seed=seed)


def _category(data: EncodedLog) -> tuple[str, Ints | None]:
    """The first category of each catalogue row, [V]; of several-valued ones the first value; None where items have none."""
    schema, catalogue = data.encoding.schema, data.encoding.catalogue
    if names := schema.named("item", "category"):
        return names[0], catalogue.code[:, 0]
    if names := schema.named("item", "categories"):
        return f"{names[0]} (the first)", catalogue.many[0][:, 0]
    return "", None
