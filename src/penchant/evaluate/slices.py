"""Results apart: for whom, for which items, and in which moments a model is good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from penchant.cold import STEPS
from penchant.data.encoded import EncodedLog
from penchant.encoding import Ints
from penchant.evaluate.judged import Judged, Slicing
from penchant.metrics import bootstrap
from penchant.schema import MOMENTS

LENGTHS = (1, 3, 5, 21, 51)  # from where on a past is of the next length, of a person's own events
MOST = 24  # values of a context field that are shown apart: the hours of a day
MOMENT_NAMES: Mapping[str, Callable[[int], str]] = {
    "hour": lambda hour: f"{hour:02}:00",
    "weekday": lambda day: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"][day],
    "month": lambda month: str(1 + month),
    "tenure": lambda bucket: f"{2**bucket - 1} days or more",
}
FEW = 2  # people, below which an interval says nothing


def slicings(data: EncodedLog, judged: Judged) -> tuple[Slicing, ...]:
    """By person, past, item and moment, as far as they part anything: those of one slice are left out."""
    found = [*_of_people(data, judged), *_of_items(data, judged), *_of_moments(data, judged)]
    return tuple(one for one in found if len(np.unique(one.code)) > 1)


def by_slice(judged: Judged, metric: str, *, resamples: int = 300) -> list[dict[str, Any]]:
    """A metric of each slice with its interval, and how many people and lists it has."""
    rows: list[dict[str, Any]] = []
    for part in judged.slices:
        for place, name in enumerate(part.names):
            mine = judged.only(part.code == place)
            if not mine.people:
                continue
            row = {"by": part.by, "slice": name, "people": mine.people, "lists": len(mine.user), metric: mine.value(metric)}
            if mine.people >= FEW and metric != "auc":
                interval = bootstrap(mine.each(metric), mine.weight(metric), resamples=resamples, seed=judged.seed)
                row["interval"] = [interval.low, interval.high]
            rows.append(row)
    return rows


def _of_people(data: EncodedLog, judged: Judged) -> Iterator[Slicing]:
    yield Slicing("person", ("new to training", "trained"), (data.user[judged.user, 0] > 0).astype(np.int64))
    length = data.past_length(judged.position, judged.protocol.tie)
    if judged.keep is not None:
        length = np.minimum(length, judged.keep)
    ends = [f"{low} to {high - 1}" for low, high in pairwise(LENGTHS)]
    yield Slicing("past", ("none", *ends, f"{LENGTHS[-1]} or more"), np.searchsorted(LENGTHS, length, side="right").astype(np.int64))
    if judged.step is not None:
        yield Slicing("lent by", STEPS, judged.step)


def _of_items(data: EncodedLog, judged: Judged) -> Iterator[Slicing]:
    """By the judged item, where a list has just one."""
    if judged.protocol.judged != "last":
        return
    catalogue, row = data.encoding.catalogue, data.rows(judged.position)
    yield Slicing("item", ("new to training", "trained"), catalogue.known[row].astype(np.int64))
    order = np.argsort(-catalogue.count, kind="stable")
    third = np.empty(catalogue.size, dtype=np.int64)
    third[order] = np.minimum(3 * (np.cumsum(catalogue.count[order]) - catalogue.count[order]) // max(int(catalogue.count.sum()), 1), 2)
    third[catalogue.count == 0] = -1
    names = ("head: the most chosen third of events", "middle third", "tail third")
    yield Slicing("popularity of the item", names, third[row])


def _of_moments(data: EncodedLog, judged: Judged) -> Iterator[Slicing]:
    if judged.protocol.judged == "rows":  # a list is a person's, of many moments
        return
    log, events = data.log, data.encoding.schema.events
    code = data.context(judged.position, np.asarray(log.events["time"])[judged.position])
    for place, moment in enumerate(events.moment):
        yield Slicing(moment, tuple(MOMENT_NAMES[moment](value) for value in range(MOMENTS[moment])), code[:, place] - 1)
    for name in data.encoding.schema.named("context", "category"):
        if f"context.{name}" in log.events:
            yield _most_often(name, log.values[f"context.{name}"].to_pylist(), np.asarray(log.events[f"context.{name}"])[judged.position])


def _most_often(name: str, values: Sequence[str], place: Ints) -> Slicing:
    """The values that most lists have, the others together; place 0 is absent."""
    often = np.argsort(-np.bincount(place, minlength=len(values) + 1), kind="stable")[:MOST]
    often = often[np.isin(often, place)]
    at = np.full(len(values) + 1, len(often))
    at[often] = np.arange(len(often))
    names = tuple("absent" if one == 0 else values[one - 1] for one in often.tolist())
    return Slicing(name, (*names, "others"), at[place])
