"""What the checks look at, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penchant.data.log import Log
from penchant.data.split import Split
from penchant.encoding import DERIVED, Bools, Encoding, Ints, local_milliseconds
from penchant.schema import Tie

SHOWN = 3  # examples of a finding
SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000  # milliseconds
NO_TIMES = "the log knows the order of its rows alone"
FEW_TIMES = 20  # events: of fewer, full hours may be a coincidence


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A leak, a trap, or a fact that should be known of a Log."""

    name: str  # of the check
    grave: bool  # it spoils numbers; else it is a fact that explains some
    says: str  # how much, and what to do
    count: int
    of: int
    examples: tuple[str, ...] = ()  # at most SHOWN; rows are counted from 1, header lines not among them


Found = list[Finding] | str  # what a check finds; or why it does not apply


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A Log of N events under a split, and what a model was given of it."""

    log: Log
    split: Split
    encoding: Encoding | None  # of a bundle
    tie: Tie
    seed: int
    now: int  # unix milliseconds

    @property
    def timeless(self) -> bool:
        return self.log.schema.events.time.unit == "rows"

    @cached_property
    def item(self) -> Ints:
        return np.asarray(self.log.events["item"]).astype(np.int64)

    @cached_property
    def time(self) -> Ints:
        return np.asarray(self.log.events["time"])

    @cached_property
    def user(self) -> Ints:
        """int64 [N], whose each event is."""
        return np.repeat(np.arange(len(self.log.users)), np.diff(self.log.start))

    @cached_property
    def judged(self) -> Ints:
        """The positives of the validation and the test part, ascending."""
        position = np.sort(np.concatenate([self.split.valid, self.split.test]))
        found: Ints = position[self.log.positive[position]]
        return found

    @cached_property
    def chosen(self) -> Ints:
        """The positives that train."""
        found: Ints = self.split.train[self.log.positive[self.split.train]]
        return found

    @cached_property
    def usable(self) -> Bools:
        """bool [N], which events may stand in a past."""
        usable = np.ones(self.log.size, dtype=bool) if self.split.hidden is None else ~self.split.hidden
        return usable & self.log.positive if self.log.schema.events.past_is_positive else usable

    @cached_property
    def trained(self) -> tuple[Bools, Bools]:
        """bool [I] and [U], the items and the people with training rows."""
        items, people = np.zeros(len(self.log.items), dtype=bool), np.zeros(len(self.log.users), dtype=bool)
        items[self.item[self.split.train]] = people[self.user[self.split.train]] = True
        return items, people

    @cached_property
    def moments(self) -> tuple[Ints, Ints]:
        """The distinct times, ascending, and how many events have each."""
        time, count = np.unique(self.time, return_counts=True)
        return time, count.astype(np.int64)

    @cached_property
    def resolution(self) -> int:
        """Milliseconds of the clock: DAY or HOUR where every time is a full one, on the wall or in UTC; else 1."""
        time = self.moments[0]
        if self.timeless or self.log.size < FEW_TIMES:
            return 1
        clocks = (time, local_milliseconds(time, self.log.schema.events.zone))
        return next((unit for unit in (DAY, HOUR) if any((clock % unit == 0).all() for clock in clocks)), 1)

    def past_end(self, position: Ints) -> Ints:
        """Where the pasts of these events end."""
        end = self.log.begin(position)
        return end if self.tie == "order" else self.log.tie[end]

    def person(self, user: int) -> str:
        return f"person {self.log.users.column('id')[user].as_py()}"

    def event(self, position: int) -> str:
        """ "person u5, item i7, 2000-12-31T22:12:40Z (row 18)"."""
        item = self.log.items.column("id")[int(self.item[position])].as_py()
        time = "" if self.timeless else f", {iso(int(self.time[position]))}"
        return f"{self.person(int(self.user[position]))}, item {item}{time} (row {int(self.log.events['source'][position]) + 1:,})"

    def events(self, position: Ints) -> tuple[str, ...]:
        """The first few of these events."""
        return tuple(self.event(int(at)) for at in position[:SHOWN])


def iso(time: int) -> str:
    """Unix milliseconds as ISO 8601 text."""
    moment = np.datetime64(time, "ms")
    return str(np.datetime_as_string(moment, unit="ms" if time % SECOND else "s")) + "Z"


def part(count: int, of: int) -> str:
    """ "312 of 1,000 (31.2%)"."""
    return f"{count:,} of {of:,} ({percent(count / of if of else 0.0)})"


def percent(share: float) -> str:
    """ "31.2%"; what is not nothing, or not all, is not rounded to it."""
    if 0 < share < 0.0005:
        return "less than 0.1%"
    return "more than 99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One fact of events, wherever the Log keeps it."""

    name: str  # "item.genre", "context.hour", "user id"
    kind: Literal["category", "number"]
    of: Callable[[Ints], NDArray[Any]]  # positions -> places among the values (0: absent), or numbers (NaN: absent)
    value: Callable[[int], str]  # a place as text


def columns(subject: Subject, *groups: str) -> Iterator[Column]:
    """The categories and numbers of these groups, and the derived moments with "context"."""
    log = subject.log
    for group, name, field in log.schema.fields():
        whole = f"{group}.{name}"
        if group in groups and field.kind in ("category", "number"):
            if group in ("user", "item"):
                table = log.users if group == "user" else log.items
                if whole not in table.schema.names:
                    continue
                owner, values = (subject.user if group == "user" else subject.item), table.column(whole).to_numpy()
                take = _of_owner(values, owner)
            else:
                take = np.asarray(log.events[whole]).__getitem__
            yield Column(name=whole, kind="number" if field.kind == "number" else "category", of=take, value=_texts(log, whole))
    if "context" in groups:
        for moment in log.schema.events.moment:
            yield Column(name=f"context.{moment}", kind="category", of=_moment(subject, moment), value=NAMES[moment])


def ids(subject: Subject) -> Iterator[Column]:
    """Whose events are, and of what: places from 0."""
    for name, place, table in (("user id", subject.user, subject.log.users), ("item id", subject.item, subject.log.items)):
        yield Column(name=name, kind="category", of=place.__getitem__, value=_ids(table))


def _of_owner(values: NDArray[Any], owner: Ints) -> Callable[[Ints], NDArray[Any]]:
    return lambda position: values[owner[position]]


def _ids(table: Any) -> Callable[[int], str]:
    return lambda place: repr(table.column("id")[place].as_py())


def _texts(log: Log, name: str) -> Callable[[int], str]:
    return lambda place: repr(log.values[name][place - 1].as_py()) if place else "nothing"


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES: Mapping[str, Callable[[int], str]] = {  # the ids of derived moments as text
    "hour": lambda place: f"{place - 1} to {place} o'clock",
    "weekday": lambda place: DAYS[place - 1],
    "month": lambda place: f"the {place}. month",
    "tenure": lambda place: f"at least {(1 << place - 1) - 1} days after the first event",
}


def _moment(subject: Subject, name: str) -> Callable[[Ints], Ints]:
    def of(position: Ints) -> Ints:
        time, first = subject.time[position], subject.time[subject.log.start[subject.user[position]]]
        return DERIVED[name](local_milliseconds(time, subject.log.schema.events.zone), time, first)

    return of
