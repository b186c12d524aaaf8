"""Labels that contradict each other, and what gives them away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.data.checks.subject import Column, Finding, Found, Subject, columns, ids, part, percent
from penchant.data.draw import bits
from penchant.encoding import Bools, Ints
from penchant.metrics import auc

CONTRADICTED = 0.01  # share of the positives that are negatives as well: fewer are slips of whoever logs
LATER = 0.01  # share of uniformly drawn negatives that their person chooses later
TELLS, HINTS = 0.95, 0.85  # AUC of one field alone: no honest fact reaches the first, and hardly any the second
SMOOTH = 20.0  # rows at the mean rate that are added to each value's own: a value seen once says little
LEAST_OF_A_CLASS = 50  # judged rows of either class: of fewer, an AUC is no evidence
MOST_ROWS = 2_000_000  # judged rows that an AUC is of; beyond them, as many are drawn


def negatives_that_are_positives(subject: Subject) -> Found:
    """Rows that say no where another says yes, and drawn negatives that are chosen later."""
    return [*_contradictions(subject), *_chosen_later(subject)]


def _contradictions(subject: Subject) -> Iterator[Finding]:
    log, positive = subject.log, subject.log.positive
    if positive.all() or (subject.timeless and log.asked is None):
        return
    group = log.tie if log.asked is None else log.asked  # of one moment, or of one request
    several = np.flatnonzero(np.bincount(group, minlength=log.size)[group] > 1)
    key = group[several] * len(log.items) + subject.item[several]
    _, place = np.unique(key, return_inverse=True)
    both = (np.bincount(place, positive[several]) > 0) & (np.bincount(place, ~positive[several]) > 0)
    contradicted = several[both[place] & positive[several]]
    count, of = len(contradicted), int(positive.sum())
    if count:
        where = "at the same moment" if log.asked is None else "in the same request"
        says = (
            f"{part(count, of)} positives stand {where} as a negative of the same person and item as well. Keep one row of each: "
            "what was shown and then chosen is a positive."
        )
        yield Finding(
            name="negatives-that-are-positives",
            grave=count > CONTRADICTED * of,
            says=says,
            count=count,
            of=of,
            examples=subject.events(contradicted),
        )


def _chosen_later(subject: Subject) -> Iterator[Finding]:
    """What a uniform draw from the items that train, but for what the person chose in training, is expected to hit."""
    log, width, people = subject.log, len(subject.log.items), len(subject.log.users)
    everything = (subject.user * width + subject.item)[log.positive]
    learned = np.unique(subject.user[subject.chosen] * width + subject.item[subject.chosen])
    seen = np.bincount(learned // width, minlength=people)
    unseen = np.setdiff1d(everything, learned)  # chosen, but in no training row
    unseen = unseen[subject.trained[0][unseen % width]]
    later = np.bincount(unseen // width, minlength=people)
    drawn = np.bincount(subject.user[subject.chosen], minlength=people).astype(np.float64)  # in proportion to their positives
    left = np.maximum(int(subject.trained[0].sum()) - seen, 1)
    share = float(drawn @ (later / left) / drawn.sum())
    if share <= LATER:
        return
    says = (
        f"{percent(share)} of the negatives that are drawn uniformly for training are items that their person chooses outside it: "
        "a model learns to reject what it is then judged by, the more so the more negatives a run draws in all."
    )
    worst = np.argsort(-later / left, kind="stable")[:3]
    few = tuple(f"{subject.person(int(user))}, {later[user]:,} of the {left[user]:,} items that are drawn from" for user in worst)
    count, of = round(share * drawn.sum()), int(drawn.sum())
    yield Finding(name="negatives-that-are-positives", grave=False, says=says, count=count, of=of, examples=few)


def tells_the_label(subject: Subject) -> Found:
    """Facts known before the answer that alone give it away. Fields of `action` are no inputs of a request, so are not asked."""
    log, train = subject.log, subject.split.train
    label = log.positive
    if label.all():
        return "every event is a positive"
    held = np.ones(log.size, dtype=bool)
    held[train] = False
    rows = np.flatnonzero(held)
    if len(rows) > MOST_ROWS:
        rows = rows[np.argsort(bits(subject.seed, rows), kind="stable")[:MOST_ROWS]]
    if min(label[rows].sum(), (~label[rows]).sum()) < LEAST_OF_A_CLASS:
        return f"fewer than {LEAST_OF_A_CLASS} rows of a class lie outside the training part"
    told = [(_told(one, train, rows, label), one) for one in (*columns(subject, "user", "item", "context", "shown"), *ids(subject))]
    found = []
    for value, column in sorted(told, key=lambda pair: -pair[0]):
        if value > HINTS:
            grave = value > TELLS
            says = f"{column.name} alone tells positives from negatives with an AUC of {value:.3f}: " + (
                "it was filled in after the answer, or negatives were made in another way than positives. Leave it out, or mend them."
                if grave
                else "a model may need nothing else. See that it is known before the answer, and for both kinds of rows alike."
            )
            few = _telling(column, train, label)
            found.append(Finding(name="tells-the-label", grave=grave, says=says, count=len(rows), of=log.size, examples=few))
    return found


def _told(column: Column, train: Ints, rows: Ints, label: Bools) -> float:
    """The AUC of one fact among these rows."""
    if column.kind == "number":
        return _by_size(column.of(rows).astype(np.float64), label[rows])
    return _by_codes(column.of(train), column.of(rows), label[train], label[rows])


def _telling(column: Column, train: Ints, label: Bools) -> tuple[str, ...]:
    """What positives and negatives of the training part have of a fact."""
    kinds = {"positives": train[label[train]], "negatives": train[~label[train]]}
    if column.kind == "number":
        medians = {kind: _median(column.of(position).astype(np.float64)) for kind, position in kinds.items()}
        return tuple(f"{kind}: the median of {column.name} is {median}" for kind, median in medians.items())
    counts = {kind: np.bincount(column.of(position)) for kind, position in kinds.items()}
    return tuple(
        f"{kind}: {column.name} is most often {column.value(int(count.argmax()))}, {part(int(count.max()), int(count.sum()))}"
        for kind, count in counts.items()
    )


def _median(value: NDArray[np.float64]) -> str:
    there = value[~np.isnan(value)]
    return f"{np.median(there):g}, {part(len(value) - len(there), len(value))} missing" if len(there) else "missing throughout"


def _by_codes(train: NDArray[Any], rows: NDArray[Any], learned: Bools, label: Bools) -> float:
    """By the rate of positives that each value has in training."""
    size = int(max(train.max(initial=0), rows.max(initial=0))) + 1
    count, positive = np.bincount(train, minlength=size), np.bincount(train, learned, minlength=size)
    rate = (positive + SMOOTH * learned.mean()) / (count + SMOOTH)
    return auc(rate[rows], label)


def _by_size(value: NDArray[np.float64], label: Bools) -> float:
    """By the number itself, up or down; where it is missing, below or above all others."""
    missing = np.isnan(value)
    ends = (-np.inf, np.inf) if missing.any() else (0.0,)
    found = [auc(np.where(missing, end, value), label) for end in ends]
    return max(*found, *(1 - one for one in found))
