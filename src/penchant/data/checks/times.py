"""Times that cannot be what they claim."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.data.checks.subject import DAY, HOUR, NO_TIMES, SHOWN, Finding, Found, Subject, iso, part, percent
from penchant.encoding import Ints

Reals = NDArray[np.float64]

AT_ONCE, LEAST_AT_ONCE = 0.01, 100  # share of all events at one moment, and how many: more than people do by chance
FIRST = 315_532_800_000  # 1980-01-01: nothing that people click on is older
WRONG = 0.01  # share of events at impossible times: fewer are a few broken clocks
SHORT, MANY = HOUR, 1000  # ms that a log of so many events hardly ever fits into: a thousandth of six weeks
UNITS = {"s": 1000.0, "ms": 1.0, "us": 0.001}  # of events.time, in milliseconds
BEFORE = 0.01  # share of the events of dated items that are older than their item: fewer are previews
NOT_YET = 0.05  # share of uniformly drawn candidates that nobody had met then: fewer hardly ease the task
DATED = ("year", "release", "published", "created")  # parts of the names of fields that date an item
SLACK = DAY  # ms that an event may be older than its item: a date knows no zone, and the float32 of a unix time is rounded to minutes
MOST_DATES = 0.9  # share of a field's values that must be dates for it to be read as one
YEARS = (1900, 2100)
NEVER, NOBODY = (
    np.iinfo(np.int64).min,
    np.iinfo(np.int64).max,
)  # the birth of an item without a date, and the first event of one without any


def one_timestamp(subject: Subject) -> Found:
    """Clocks that stand still: many events at one moment, or full hours and days only."""
    if subject.timeless:
        return NO_TIMES
    (time, count), of = subject.moments, subject.log.size
    if subject.resolution > 1:
        unit = "day" if subject.resolution == DAY else "hour"
        says = (
            f"All times are full {unit}s: within one the order is that of the rows, and gaps and sessions mean nothing. "
            "Ask the source for finer times, or let pasts end before the moment that is judged (tie 'strict')."
        )
        return [Finding(name="one-timestamp", grave=False, says=says, count=of, of=of, examples=subject.events(np.arange(min(SHOWN, of))))]
    most = np.argsort(-count, kind="stable")
    most = most[count[most] >= max(AT_ONCE * of, LEAST_AT_ONCE)]
    if not len(most):
        return []
    shared = int(count[most].sum())
    moments = "one moment" if len(most) == 1 else f"{len(most)} moments"
    says = (
        f"{part(shared, of)} events share {moments}: an import rather than what people did then. Their order is that of the rows; "
        "leave them out if their true times are not known."
    )
    few = tuple(f"{iso(int(time[at]))}, {count[at]:,} events" for at in most[:SHOWN])
    return [Finding(name="one-timestamp", grave=False, says=says, count=shared, of=of, examples=few)]


def wrong_units(subject: Subject) -> Found:
    """Times before computers, in the future, or all within a blink."""
    if subject.timeless:
        return NO_TIMES
    time, of = subject.time, subject.log.size
    wrong = np.flatnonzero((time < FIRST) | (time > subject.now + DAY))
    if len(wrong):
        says = f"{part(len(wrong), of)} events lie before {iso(FIRST)[:4]} or in the future. {_better_unit(subject, wrong)}"
        few = subject.events(wrong)
        return [Finding(name="wrong-units", grave=len(wrong) > WRONG * of, says=says, count=len(wrong), of=of, examples=few)]
    span = int(time.max() - time.min())
    if of < MANY or span >= SHORT:
        return []
    says = (
        f"All {of:,} events lie within {span / 1000:,.0f} seconds. If they are of days or months, their times are in a larger unit than "
        f"events.time.unit, which is {subject.log.schema.events.time.unit!r}."
    )
    few = (f"first {iso(int(time.min()))}", f"last {iso(int(time.max()))}")
    return [Finding(name="wrong-units", grave=False, says=says, count=of, of=of, examples=few)]


def _better_unit(subject: Subject, wrong: Ints) -> str:
    """Which unit would make sense of these times."""
    unit, middle = subject.log.schema.events.time.unit, float(np.median(subject.time[wrong]))
    for other, factor in UNITS.items():
        there = middle * factor / UNITS.get(unit, 1.0)
        if unit in UNITS and FIRST <= there <= subject.now + DAY:
            return f"events.time.unit is {unit!r}; {other!r} would put them around {iso(int(there))[:10]}."
    return f"No other unit than events.time.unit = {unit!r} makes sense of them: look at the clocks, or leave these rows out."


def before_it_existed(subject: Subject) -> Found:
    """Events of items that were not there yet, and candidates that nobody had met."""
    if subject.timeless:
        return NO_TIMES
    return [*_older_than_their_item(subject), *_not_yet_alive(subject)]


def _older_than_their_item(subject: Subject) -> Iterator[Finding]:
    for name, birth in _births(subject):
        born = birth[subject.item]
        dated = int(np.count_nonzero(born != NEVER))
        early = np.flatnonzero((born != NEVER) & (subject.time + SLACK < born))
        if len(early):
            says = (
                f"{part(len(early), dated)} events of items with a date in {name!r} are older than that date. Either the date or the times "
                "are wrong, or the field was filled in later, and tells a model what was not known then."
            )
            few = tuple(f"{subject.event(int(at))}; {name} is {iso(int(born[at]))[:10]}" for at in early[:SHOWN])
            yield Finding(name="before-it-existed", grave=len(early) > BEFORE * dated, says=says, count=len(early), of=dated, examples=few)


def _births(subject: Subject) -> Iterator[tuple[str, Ints]]:
    """The fields that date items, and the first moment of each item's date in unix milliseconds."""
    log = subject.log
    for group, name, field in log.schema.fields():
        if group != "item" or field.kind not in ("number", "category") or not any(word in name.casefold() for word in DATED):
            continue
        column = log.items.column(f"item.{name}").to_numpy()
        if field.kind == "number":
            birth = _of_numbers(column.astype(np.float64))
        else:
            birth = _of_texts(log.values[f"item.{name}"].to_pylist())
            birth = None if birth is None else np.concatenate([[NEVER], birth])[column]
        if birth is not None:
            yield name, birth


def _of_numbers(value: Reals) -> Ints | None:
    """Years, unix seconds or unix milliseconds, whichever nearly all of the numbers are; None: no dates."""
    there = ~np.isnan(value)
    for least, most, read in AS_DATES.values():
        fits = there & (value >= least) & (value < most)
        if there.any() and fits.sum() >= MOST_DATES * there.sum():
            return np.where(fits, read(np.where(fits, value, least)), NEVER)
    return None


# A number as a date: from where to where it is one, and its first moment.
AS_DATES: Mapping[str, tuple[float, float, Callable[[Reals], Ints]]] = {
    "year": (
        *YEARS,
        lambda value: (np.floor(value).astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[ms]").astype(np.int64),
    ),
    "s": (FIRST / 1000, 4.1e9, lambda value: (value * 1000).astype(np.int64)),
    "ms": (FIRST, 4.1e12, lambda value: value.astype(np.int64)),
}


def _of_texts(texts: list[str]) -> Ints | None:
    """Texts that are numbers as above, or begin with an ISO 8601 date."""
    if texts and sum(bool(re.match(r"\d{4}-\d\d", text)) for text in texts) >= MOST_DATES * len(texts):
        return np.array([_of_date(text) for text in texts])
    return _of_numbers(np.array([_number(text) for text in texts]))


def _of_date(text: str) -> int:
    found = re.match(r"\d{4}-\d\d(-\d\d)?", text)
    try:
        return int(np.datetime64(found[0], "ms").astype(np.int64)) if found else NEVER
    except ValueError:  # the 31st of a month that has none
        return NEVER


def _number(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _not_yet_alive(subject: Subject) -> Iterator[Finding]:
    log, judged = subject.log, subject.judged
    first = np.full(len(log.items), NOBODY)
    np.minimum.at(first, subject.item, subject.time)
    pool = np.sort(first[first < NOBODY])
    unborn = len(pool) - np.searchsorted(pool, subject.time[judged], side="right")
    count, of = int(unborn.sum()), len(pool) * len(judged)
    if count <= NOT_YET * of:
        return
    says = (
        f"About {percent(count / of)} of the candidates that are drawn uniformly for judged events have their first event in the log "
        "later: nobody could have chosen them then, and a model that knows what is new needs to know nothing of the person. "
        "data.sampler.name = 'alive' trains against what was there."
    )
    most = np.argsort(-unborn, kind="stable")[:SHOWN]
    few = tuple(f"{subject.event(int(judged[at]))}; {part(int(unborn[at]), len(pool))} items have their first event later" for at in most)
    yield Finding(name="before-it-existed", grave=False, says=says, count=count, of=of, examples=few)
