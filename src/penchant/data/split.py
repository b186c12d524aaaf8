"""Which events are learned from and which are judged by.

    leave-last-out   the last positive of each person tests, the one before validates, what came before trains
    time             two moments cut the whole log: before the first trains, from the second on tests
    ratio            each person's requests are cut by shares, in their order
    random           each request falls into a part by chance
    people           each person falls into a part by chance, with all their events
    items            each item falls into a part by chance, with all its events
    column           the log says it itself (schema: events.split)

The rows of one request are always in one part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import Field as Limits
from pydantic import model_validator

from penchant.config import Config
from penchant.data.draw import bits, share
from penchant.data.log import PARTS, Log
from penchant.encoding import Bools, Ints
from penchant.errors import ConfigError, DataError

LEAST = 3  # positives that a person needs: one each to train, choose and test by


class SplitConfig(Config):
    """How a log is split."""

    name: Literal["leave-last-out", "time", "ratio", "random", "people", "items", "column"] = "leave-last-out"
    valid: float = Limits(0.1, ge=0, lt=1)  # share of events ("time"), requests ("random"), people, items, or one's requests ("ratio")
    test: float = Limits(0.1, gt=0, lt=1)
    valid_from: str | None = None  # "time": ISO 8601 moments in place of shares, in events.zone where they name no zone
    test_from: str | None = None
    seed: int = 0  # of "random", "people" and "items"

    @model_validator(mode="after")
    def _consistent(self) -> SplitConfig:
        if self.valid + self.test >= 1:
            raise ValueError(f"split.valid and split.test are {self.valid:g} and {self.test:g}: nothing would be left to train by")
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("split.valid_from and split.test_from go together")
        if self.valid_from is not None and self.name != "time":
            raise ValueError(f"split.valid_from cuts by time; the split is {self.name!r}")
        return self


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in a Log, ascending."""

    config: SplitConfig
    train: Ints
    valid: Ints
    test: Ints
    dropped: int  # people with nothing to be judged by in the test part
    hidden: Bools | None = None  # [N] events that stand in no past, because the parts are not in the order of time; None: none

    @property
    def name(self) -> str:
        return self.config.name

    def judged(self, log: Log, part: Literal["valid", "test"]) -> Ints:
        """The events that a part judges by: the last positive of each person in it."""
        position = self.valid if part == "valid" else self.test
        position = position[log.positive[position]]
        user = log.user_of(position)
        last = np.append(user[1:] != user[:-1], True) if len(user) else np.zeros(0, dtype=bool)
        found: Ints = position[last]
        return found


def split_of(log: Log, config: SplitConfig = SplitConfig()) -> Split:
    """The Log's events in three parts. Raises DataError when nobody could be judged, ConfigError for what the Log does not have."""
    return SPLITS[config.name](log, config)


def leave_last_out(log: Log, config: SplitConfig = SplitConfig()) -> Split:
    """The last positive of each person tests, the one before validates, and all that came before trains.

    Rows of no positive after the validating one are in no part; they stand in the pasts of what follows.

    "Last" is by (time, source row). Raises DataError when nobody has three positives.
    """
    positive = np.flatnonzero(log.positive).astype(np.int64)
    begin = np.searchsorted(positive, log.start)  # where each person's positives begin
    judged = np.flatnonzero(np.diff(begin) >= LEAST)
    if not len(judged):
        raise DataError(f"{log.folder}: nobody of {len(log.users):,} people has {LEAST} positive events, so there is nothing to judge by.")
    test = positive[begin[judged + 1] - 1]
    earlier = np.searchsorted(positive, log.begin(test)) - 1  # the last positive before the request that tests
    apart = earlier >= begin[judged]
    if not apart.any():
        raise DataError(f"{log.folder}: nobody has positives in two requests, so there is nothing to choose and to judge by.")
    judged, test, valid = judged[apart], test[apart], positive[earlier[apart]]
    end = log.start[1:].copy()
    end[judged] = log.begin(valid)
    train = np.arange(log.size, dtype=np.int64)
    train = train[train < np.repeat(end, np.diff(log.start))]
    return Split(config=config, train=train, valid=valid, test=test, dropped=len(log.users) - len(judged))


def by_time(log: Log, config: SplitConfig) -> Split:
    """Two moments cut the log, for everybody alike: nothing that trains is later than anything that is judged.

    Shares are of events: the moments are those before which 1 - valid - test, and 1 - test, of the events lie.
    """
    time = np.asarray(log.events["time"])
    if log.schema.events.time.unit == "rows":
        raise ConfigError("split 'time' needs times; this log knows the order of its rows alone. Split by 'random', 'ratio' or 'column'.")
    if config.valid_from is not None and config.test_from is not None:
        first, second = (moment(written, log.schema.events.zone) for written in (config.valid_from, config.test_from))
        if first >= second:
            raise ConfigError(f"split: valid_from {config.valid_from} is not before test_from {config.test_from}.")
    else:
        ordered = np.sort(time)
        first, second = (int(ordered[int(len(time) * round(1 - kept, 9))]) for kept in (config.valid + config.test, config.test))
    return _of_parts(log, config, (time >= first).astype(np.int64) + (time >= second))


def by_ratio(log: Log, config: SplitConfig) -> Split:
    """Of each person's n requests the last floor(test n) test, the floor(valid n) before those validate, and the others train.

    A request is an event, unless the log has impressions.
    """
    begin = log.begin(np.arange(log.size))
    running = np.cumsum(begin == np.arange(log.size))  # the requests so far, this one included
    before = np.concatenate([[0], running])[log.start]
    count = np.diff(before)
    place = running - 1 - np.repeat(before[:-1], np.diff(log.start))
    test = np.floor(count * config.test + 1e-9).astype(np.int64)
    valid = np.floor(count * config.valid + 1e-9).astype(np.int64)
    first, second = (np.repeat(cut, np.diff(log.start)) for cut in (count - test - valid, count - test))
    return _of_parts(log, config, (place >= first).astype(np.int64) + (place >= second))


def by_chance(log: Log, config: SplitConfig) -> Split:
    """Each request falls into a part by the hash of (seed, its first position). What does not train stands in no past."""
    chance = share(bits(config.seed, log.begin(np.arange(log.size))))
    part = (chance >= 1 - config.valid - config.test).astype(np.int64) + (chance >= 1 - config.test)
    return _of_parts(log, config, part, hidden=part > 0)


def by_people(log: Log, config: SplitConfig) -> Split:
    """Each person falls into a part by the hash of (seed, their place in the Log): who tests is unknown to training, past and all."""
    chance = share(bits(config.seed, np.arange(len(log.users))))
    part = (chance >= 1 - config.valid - config.test).astype(np.int64) + (chance >= 1 - config.test)
    split = _of_parts(log, config, np.repeat(part, np.diff(log.start)))
    return replace(split, dropped=int((part == PARTS.index("test")).sum()) - len(split.judged(log, "test")))


def by_items(log: Log, config: SplitConfig) -> Split:
    """Each item falls into a part by the hash of (seed, its place in the Log): what tests is unknown to training, and stands in no past.

    A person's training events may be later than what they are judged by, as under `by_chance`. Raises ConfigError for logged requests,
    which show items of several parts.
    """
    if log.asked is not None:
        raise ConfigError("split 'items' takes single events apart; the rows of this log's requests (events.impressions) belong together.")
    chance = share(bits(config.seed, np.arange(len(log.items))))
    of_item = (chance >= 1 - config.valid - config.test).astype(np.int64) + (chance >= 1 - config.test)
    part = of_item[np.asarray(log.events["item"])]
    return _of_parts(log, config, part, hidden=part > 0)


def by_column(log: Log, config: SplitConfig) -> Split:
    """As the log's own column says. Unless everybody's parts follow each other in time, what does not train stands in no past."""
    if "split" not in log.events:
        raise ConfigError(f"split 'column' needs a column that says {', '.join(PARTS)}: name it as events.split in the schema.")
    part = np.asarray(log.events["split"]).astype(np.int64)
    if (part != part[log.begin(np.arange(log.size))]).any():
        raise DataError(f"{log.folder}: the rows of one request are in several parts of the split column; one was wanted.")
    inside = np.ones(log.size, dtype=bool)
    inside[log.start[:-1]] = False
    ordered = not (inside[1:] & (np.diff(part) < 0)).any()
    return _of_parts(log, config, part, hidden=None if ordered else part > 0)


def _of_parts(log: Log, config: SplitConfig, part: Ints, hidden: Bools | None = None) -> Split:
    train, valid, test = (np.flatnonzero(part == one).astype(np.int64) for one in range(len(PARTS)))
    for what, mine in (("train", train), ("test", test)):
        if not log.positive[mine].any():
            raise DataError(f"{log.folder}: split {config.name!r} leaves no positive event in the part {what!r}.")
    people = len(np.unique(log.user_of(test[log.positive[test]])))
    return Split(config=config, train=train, valid=valid, test=test, dropped=len(log.users) - people, hidden=hidden)


def moment(text: str, zone: str, *, said: str = "split") -> int:
    """Unix milliseconds of an ISO 8601 text, in `zone` where it names none. Raises ConfigError, which begins with `said`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{said}: {text!r} is no ISO 8601 moment such as '2024-03-01' or '2024-03-01T12:00+01:00'.") from None
    found = found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))
    return int(found.astimezone(UTC).timestamp() * 1000)


SPLITS: Mapping[str, Callable[[Log, SplitConfig], Split]] = {
    "leave-last-out": leave_last_out,
    "time": by_time,
    "ratio": by_ratio,
    "random": by_chance,
    "people": by_people,
    "items": by_items,
    "column": by_column,
}
