"""What training knew that it should not, and what it could not know of what is judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.data.checks.subject import SHOWN, Column, Finding, Found, Subject, columns, part, percent
from penchant.data.fit import fit_encoding
from penchant.encoding import Encoding, Ints, Vocabulary

COUNTED_MORE = 0.001  # share by which a bundle's count of the items' positives exceeds the training part's
UNKNOWN = 0.01  # share of judged events with an item or a person that training does not know
STABLE = 0.25  # population stability index, from where on a field is held to have changed (the custom of credit scoring)
MOST_VALUES, BINS = 50, 10  # values of a category that are compared, the commonest, and bins of a number
CALENDAR = "context.weekday"  # not compared: a part of some days has not all of them, and training has seen each
RATE = 1.25  # how many times as frequent positives are in one part as in the other
ENOUGH = 200  # events of a part: a distribution of fewer is not compared


def unseen_in_vocabulary(subject: Subject) -> Found:
    """Ids that a bundle knows though they have no training row."""
    encoding, log = subject.encoding, subject.log
    if encoding is None:
        return "no bundle was given"
    fitted = fit_encoding(log, subject.split.train)
    found = []
    for what, known, trained, there in _vocabularies(subject, encoding, fitted):
        outside = (Vocabulary(trained).encode(known) == 0) & (Vocabulary(there).encode(known) > 0)
        count, of = int(outside.sum()), len(known)
        if count:
            says = (
                f"{part(count, of)} {what} that the bundle knows stand in this log, but in no training row of split "
                f"{subject.split.name!r}: it was fitted on more than the training part. Train it on this split, or judge it by its own."
            )
            few = tuple(f"{what}: {known[int(at)].as_py()}" for at in np.flatnonzero(outside)[:SHOWN])
            found.append(Finding(name="unseen-in-vocabulary", grave=True, says=says, count=count, of=of, examples=few))
    mine, wanted = (int(one.catalogue.count[one.catalogue.items.encode(log.items.column("id"))].sum()) for one in (encoding, fitted))
    if not found and mine > wanted * (1 + COUNTED_MORE):
        says = (
            f"The bundle counted {mine:,} positives of these items, but the training part of split {subject.split.name!r} has {wanted:,}: "
            "it was fitted on more than the training part. Train it on this split, or judge it by its own."
        )
        found.append(Finding(name="unseen-in-vocabulary", grave=True, says=says, count=mine - wanted, of=wanted))
    return found


def _vocabularies(subject: Subject, encoding: Encoding, fitted: Encoding) -> Iterator[tuple[str, pa.Array, pa.Array, pa.Array]]:
    """What ids are of, those that the bundle knows, those that train, and those of the whole log."""
    log = subject.log
    yield "people", encoding.users.values, fitted.users.values, log.users.column("id")
    mine, wanted = (one.catalogue.items.values.filter(pa.array(one.catalogue.known[1:])) for one in (encoding, fitted))
    yield "items", mine, wanted, log.items.column("id")
    for name, vocabulary in encoding.vocabularies.items():
        if name in fitted.vocabularies:
            yield f"values of {name}", vocabulary.values, fitted.vocabularies[name].values, log.values[name]


def drift(subject: Subject) -> Found:
    """What is judged by that training does not know, or has seen otherwise."""
    return [*_unknown(subject), *_changed(subject), *_rates(subject)]


def _unknown(subject: Subject) -> Iterator[Finding]:
    judged = subject.judged
    items, people = subject.trained
    for what, known, advice in (
        ("an item", items[subject.item[judged]], "its attributes alone can speak for it, so items should have some"),
        ("a person", people[subject.user[judged]], "their id says nothing, so only their past and profile can"),
    ):
        count, of = int((~known).sum()), len(judged)
        if count > UNKNOWN * of:
            says = f"{part(count, of)} judged events are of {what} without training rows: {advice}."
            yield Finding(name="drift", grave=False, says=says, count=count, of=of, examples=subject.events(judged[~known]))


def _changed(subject: Subject) -> Iterator[Finding]:
    """Fields whose values among the positives that test are not those among the positives that train."""
    test = subject.split.test[subject.log.positive[subject.split.test]]
    if min(len(subject.chosen), len(test)) < ENOUGH:
        return
    every = [one for one in columns(subject, "user", "item", "context", "shown", "action") if one.name != CALENDAR]
    moved = [(shift, one) for one in every if (shift := _shift(one, subject.chosen, test))[0] > STABLE]
    if moved:
        moved.sort(key=lambda pair: -pair[0][0])
        names = ", ".join(f"{one.name} ({shift[0]:.2f})" for shift, one in moved)
        says = (
            f"{len(moved)} of {len(every)} fields, with other values in the test part than in training (population stability index above "
            f"{STABLE}): {names}. What was learned of them may not hold then; see whether a model without them does as well."
        )
        few = tuple(shift[1] for shift, _ in moved[:SHOWN])
        yield Finding(name="drift", grave=False, says=says, count=len(moved), of=len(every), examples=few)


def _shift(column: Column, train: Ints, test: Ints) -> tuple[float, str]:
    """The population stability index of a field, less what chance is expected to make of it, and where it changed most."""
    before, after = column.of(train), column.of(test)
    if column.kind == "number":
        label, before, after = _bins(before, after)
    else:
        order = np.argsort(-np.bincount(before, minlength=int(max(before.max(), after.max())) + 1), kind="stable")
        place = np.full(len(order), MOST_VALUES)
        place[order[:MOST_VALUES]] = np.arange(min(MOST_VALUES, len(order)))
        label = [*(column.value(int(code)) for code in order[:MOST_VALUES]), "any other value"]
        before, after = place[before], place[after]
    was, now = (np.bincount(one, minlength=len(label)).astype(np.float64) for one in (before, after))
    there = was + now > 0
    p, q = ((one + 0.5) / (one.sum() + 0.5 * there.sum()) for one in (was, now))  # half an event each: no share is 0
    each = np.where(there, (q - p) * np.log(q / p), 0.0)
    most = int(np.argmax(np.abs(q - p)))
    chance = (there.sum() - 1) * (1 / len(train) + 1 / len(test))
    shares = f"{percent(was[most] / was.sum())} of the training events, {percent(now[most] / now.sum())} of the test events"
    return float(each.sum() - chance), f"{column.name}, {label[most]}: {shares}"


def _bins(before: NDArray[Any], after: NDArray[Any]) -> tuple[list[str], Ints, Ints]:
    """Numbers by the tenths of those that train, and what is missing by itself."""
    there = before[~np.isnan(before)]
    edge = np.unique(np.quantile(there, np.arange(1, BINS) / BINS)) if len(there) else np.zeros(0)
    label = [f"up to {one:g}" for one in edge] + [f"above {edge[-1]:g}" if len(edge) else "any", "nothing"]
    place = (np.where(np.isnan(one), len(edge) + 1, np.searchsorted(edge, one)) for one in (before, after))
    first, second = place
    return label, first, second


def _rates(subject: Subject) -> Iterator[Finding]:
    """How often rows are positives, where the split does not itself choose them."""
    log, split = subject.log, subject.split
    if log.positive.all() or split.name == "leave-last-out":
        return
    was, now = (float(log.positive[position].mean()) for position in (split.train, split.test))
    if max(was, now) > RATE * min(was, now):
        says = (
            f"{percent(was)} of the training rows are positives, but {percent(now)} of the test rows: probabilities that were learned will "
            "be off by as much, though rankings need not be."
        )
        yield Finding(name="drift", grave=False, says=says, count=int(log.positive[split.test].sum()), of=len(split.test))
