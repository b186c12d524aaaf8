"""What stands in pasts, and in training, that is not to be known when an event is judged."""

from __future__ import annotations

import numpy as np

from penchant.data.checks.subject import NO_TIMES, SECOND, SHOWN, Finding, Found, Subject, iso, part, percent
from penchant.encoding import Bools, Ints

MOMENT = 60 * SECOND  # ms: an act and its echo (shown and clicked, clicked twice) lie closer; who listens again has heard the first
ECHOES = 0.01  # share of judged events: fewer cannot move a metric beyond its interval
FEW_ECHOES = 0.001  # and fewer than these are counted among honest repeats
REPEATS = 0.01  # share of judged events that are of an item known already, from where on it is worth saying
TIED = 0.01  # share of judged events with others of their moment in their past
OWN_LATER = 0.01  # share of judged events: fewer are a clock set back, not a way of splitting
OVERLAP = 0.01  # share of the training events that are later than a judged one


def target_in_past(subject: Subject) -> Found:
    """Judged events whose own item stands in their past; a moment before, it is the same act written twice."""
    judged, time = subject.judged, subject.time
    previous = _previous(subject, judged)
    again = previous >= 0
    count, of = int(again.sum()), len(judged)
    known = not subject.timeless and subject.resolution == 1  # how long ago it was
    near = again & known & (time[judged] - time[previous] <= MOMENT)
    near &= near.sum() > FEW_ECHOES * of
    found = []
    if near.any():
        echoes = int(near.sum())
        grave = echoes > ECHOES * of
        says = (
            f"{part(echoes, of)} judged events have their own person and item in their past, at most {MOMENT // SECOND} seconds before: "
            + ("the answer stands in the question. " if grave else "the answer stands in the question, though too seldom to matter much. ")
            + "Let one act be one row: what was only shown belongs to events.impressions (or events.past = 'positive'), and "
            "duplicates = 'drop' leaves out rows that repeat one of the same time."
        )
        found.append(
            Finding(name="target-in-past", grave=grave, says=says, count=echoes, of=of, examples=_pairs(subject, judged, previous, near))
        )
    count -= int(near.sum())
    if count > REPEATS * of:
        says = (
            f"{part(count, of)} judged events are of an item that stands in their past already"
            f"{', longer ago' if near.any() else ''}. That is honest where people come back to items; but candidates are mostly drawn from "
            "what a person did not choose, so compare with a model that only repeats the past."
        )
        rest = again & ~near
        found.append(
            Finding(name="target-in-past", grave=False, says=says, count=count, of=of, examples=_pairs(subject, judged, previous, rest))
        )
    return found


def _previous(subject: Subject, judged: Ints) -> Ints:
    """int64, where the past of each judged event last has its item; -1 where it does not."""
    log, size = subject.log, subject.log.size
    key = subject.user * len(log.items) + subject.item
    wanted = np.unique(key[judged])
    past = np.flatnonzero(subject.usable)
    place = np.minimum(np.searchsorted(wanted, key[past]), len(wanted) - 1)
    same = wanted[place] == key[past]
    code = np.sort(place[same] * size + past[same])
    if not len(code):
        return np.full(len(judged), -1)
    mine = np.searchsorted(wanted, key[judged])
    at = np.searchsorted(code, mine * size + subject.past_end(judged)) - 1
    there = (at >= 0) & (code[at] // size == mine)
    return np.where(there, code[at] % size, -1)


def _pairs(subject: Subject, judged: Ints, previous: Ints, which: Bools) -> tuple[str, ...]:
    source = subject.log.events["source"]
    return tuple(
        f"{subject.event(int(judged[at]))}; before: "
        + ("" if subject.timeless else f"{iso(int(subject.time[previous[at]]))} ")
        + f"(row {int(source[previous[at]]) + 1:,})"
        for at in np.flatnonzero(which)[:SHOWN]
    )


def same_moment(subject: Subject) -> Found:
    """Judged events with others of the very same time in their past, whose order is that of the rows alone."""
    if subject.timeless:
        return NO_TIMES
    judged = subject.judged
    end = subject.past_end(judged)
    before = np.concatenate([[0], np.cumsum(subject.usable)])
    tied = (subject.log.tie[end] == subject.log.tie[judged]) & (before[end] > before[subject.log.tie[end]])
    count, of = int(tied.sum()), len(judged)
    if count <= TIED * of:
        return []
    says = (
        f"{part(count, of)} judged events have events of the very same time in their past: which came first is the order of the rows, "
        "not of the world. Under tie 'strict' (--tie strict; protocols such as loo-99-strict) a past holds earlier times only, and results "
        "differ: say which one is meant."
    )
    return [Finding(name="same-moment", grave=False, says=says, count=count, of=of, examples=subject.events(judged[tied]))]


def parts_overlap_in_time(subject: Subject) -> Found:
    """Training events that are later than judged ones."""
    if subject.timeless:
        return NO_TIMES
    log, train, judged, time, name = subject.log, subject.split.train, subject.judged, subject.time, subject.split.name
    cut = np.searchsorted(train, log.start)  # where each person's training events begin
    last = np.where(np.diff(cut) > 0, time[train[np.maximum(cut[1:] - 1, 0)]], np.iinfo(np.int64).min)
    until = last[subject.user[judged]]
    own = until > time[judged]
    count, of = int(own.sum()), len(judged)
    if count:
        says = (
            f"Split {name!r}: {part(count, of)} judged events have training events of the same person that are later, so a model learns "
            "from what came after what it is judged by. Split by 'time', 'ratio' or 'leave-last-out'."
        )
        few = tuple(f"{subject.event(int(judged[at]))}; trains until {iso(int(until[at]))}" for at in np.flatnonzero(own)[:SHOWN])
        return [Finding(name="parts-overlap-in-time", grave=count > OWN_LATER * of, says=says, count=count, of=of, examples=few)]
    ordered = np.sort(time[train])
    later = len(train) - np.searchsorted(ordered, time[judged], side="right")
    share = float(later.mean()) / len(train)
    if share <= OVERLAP:
        return []
    says = (
        f"Split {name!r}: on average {percent(share)} of the training events, of other people, are later than a judged event, so a model "
        "knows what was to become popular. That is in the nature of this split; split 'time' has none of it."
    )
    worst = int(np.argmax(later))
    few = (f"{subject.event(int(judged[worst]))}; {part(int(later[worst]), len(train))} training events are later",)
    count = round(share * len(train))
    return [Finding(name="parts-overlap-in-time", grave=False, says=says, count=count, of=len(train), examples=few)]
