"""Items that a person did not choose: drawn from a pool, and never from what they have chosen.

    uniform      every item with training rows alike
    popularity   in proportion to (its positive training rows) ** power           (Mikolov et al., NeurIPS 2013: power 0.75)
    category     of the positive's category, alike: what is told apart is no longer the category
    alive        of the items that had events in the hours before the moment, alike: what could have been chosen then

"Chosen" is counted by whoever draws: in training over a person's positives of the training rows, in evaluation over all
of their positives in the Log.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Limits

from penchant.config import Config
from penchant.data.draw import Bits, below, bits, share
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import DataError

ATTEMPTS = 32  # redraws before the choice is made from what is left, counted out
PARTS_OF_WINDOW = 12  # "the hours before a moment" are counted in parts of the window


class SamplerConfig(Config):
    """Where negatives come from."""

    name: Literal["uniform", "popularity", "category", "alive"] = "uniform"
    power: float = Limits(0.75, ge=0)  # of "popularity"
    field: str | None = None  # of "category": an item's field of one category; None: the first
    hours: float = Limits(24, gt=0)  # of "alive"


class Seen:
    """Which catalogue rows each person has chosen, among the given events."""

    def __init__(self, user: Ints, row: Ints, *, users: int, rows: int) -> None:
        self._rows = rows
        self._key = np.unique(user * rows + row)
        self._start = np.searchsorted(self._key, np.arange(users + 1) * rows)

    def has(self, user: Ints, row: Ints) -> Bools:
        """bool, whether each (person, row) was chosen; the two broadcast together."""
        key = user * self._rows + row
        if not len(self._key):
            return np.zeros(key.shape, dtype=bool)
        place = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        found: Bools = self._key[place] == key
        return found

    @property
    def pairs(self) -> tuple[Ints, Ints]:
        """int64 [n] people and rows, each pair once, by person and row."""
        user, row = np.divmod(self._key, self._rows)
        return user, row

    def rows(self, user: int) -> Ints:
        """The rows that one person has chosen, ascending."""
        return self._key[self._start[user] : self._start[user + 1]] - user * self._rows


@dataclass(frozen=True, eq=False)
class Pool:
    """Groups of catalogue rows that are drawn from: those of group g are row[begin[g] : end[g]]. None is empty; several may share rows."""

    row: Ints  # [P], ascending where there are weights
    begin: Ints  # [G]
    end: Ints  # [G]
    weight: NDArray[np.float64] | None = None  # [P], > 0; None: all alike

    @staticmethod
    def of(row: Ints, weight: NDArray[np.float64] | None = None) -> Pool:
        """One group."""
        return Pool(row=row, begin=np.array([0]), end=np.array([len(row)]), weight=weight)

    @property
    def groups(self) -> int:
        return len(self.begin)

    def of_group(self, group: int) -> Ints:
        return self.row[self.begin[group] : self.end[group]]

    @cached_property
    def _end(self) -> NDArray[np.float64]:
        """The running sum of the weights, [P + 1]."""
        return np.concatenate([[0.0], np.cumsum(np.ones(len(self.row)) if self.weight is None else self.weight)])

    def pick(self, group: Ints, random: Bits) -> Ints:
        """int64 of the shape of `random`, a row of each group; the two broadcast together."""
        begin, end = self.begin[group], self.end[group]
        if self.weight is None:
            alike: Ints = self.row[begin + below(end - begin, random)]
            return alike
        low, high = self._end[begin], self._end[end]
        place = np.searchsorted(self._end, low + share(random) * (high - low), side="right") - 1
        found: Ints = self.row[np.clip(place, begin, end - 1)]
        return found

    def log_q(self, group: Ints, row: Ints) -> Floats:
        """float32, the log-probability with which each row is drawn from each group; of a row outside its group, a share alike."""
        begin, end = np.broadcast_arrays(self.begin[group], self.end[group])
        alike = -np.log(end - begin)
        if self.weight is None:
            return np.broadcast_to(alike, np.broadcast_shapes(alike.shape, row.shape)).astype(np.float32)
        place = np.searchsorted(self.row, row).clip(max=len(self.row) - 1)  # weighted pools have one group
        there = np.where(self.row[place] == row, self.weight[place] / self._end[-1], 0.0)
        return np.where(there > 0, np.log(np.where(there > 0, there, 1)), alike).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Negatives:
    """Draws from the groups of `pool`, but for what a person has seen."""

    pool: Pool
    seen: Seen
    seed: int

    def draw(self, user: Ints, example: Ints, epoch: int, count: int, group: Ints | None = None) -> Ints:
        """int64 [n, count] rows, with replacement, a function of (seed, epoch, example).

        group: int64 [n] that each example draws from; None: the first.
        A person who has seen a whole group gets rows of the last one, and who has seen all of that, rows of it at random.
        """
        place = np.arange(count)
        group = np.zeros(len(user), dtype=np.int64) if group is None else group
        example, user, group = example[:, None], user[:, None], group[:, None]
        row = self.pool.pick(group, bits(self.seed, epoch, example, place, 0))
        bad = self.seen.has(user, row)
        for attempt in range(1, ATTEMPTS):
            if not bad.any():
                return row
            at, column = np.nonzero(bad)
            row[at, column] = self.pool.pick(group[at, 0], bits(self.seed, epoch, example[at, 0], column, attempt))
            bad[at, column] = self.seen.has(user[at, 0], row[at, column])
        for which in map(int, np.flatnonzero(bad.any(axis=1))):
            left = self._left(int(user[which, 0]), int(group[which, 0]))
            if len(left):
                random = bits(self.seed, epoch, int(example[which, 0]), np.flatnonzero(bad[which]), ATTEMPTS)
                row[which, bad[which]] = left[below(len(left), random)]
                bad[which] = False
        last = self.pool.groups - 1
        if bad.any() and (group[bad.any(axis=1)] != last).any():  # of whoever has seen a whole group the rest is drawn from all
            rest = np.flatnonzero(bad.any(axis=1))
            fresh = self.draw(user[rest, 0], ~example[rest, 0], epoch, count, np.full(len(rest), last))
            row[rest] = np.where(bad[rest], fresh, row[rest])
        return row

    def distinct(self, user: Ints, example: Ints, count: int) -> Ints:
        """int64 [n, count] rows of the first group, all different within an example. Raises DataError when somebody has too few left."""
        place, group = np.arange(2 * count), np.zeros((1, 1), dtype=np.int64)
        row = self.pool.pick(group, bits(self.seed, -1, example[:, None], place, 0))
        good = ~self.seen.has(user[:, None], row) & _first(row)
        rank = np.cumsum(good, axis=1)
        enough = rank[:, -1] >= count
        out = np.empty((len(user), count), dtype=np.int64)
        out[enough] = row[enough][(good & (rank <= count))[enough]].reshape(-1, count)
        for at in map(int, np.flatnonzero(~enough)):
            left = self._left(int(user[at]), 0)
            if len(left) < count:
                raise DataError(
                    f"{count} different items that a person has not chosen were wanted; "
                    f"one has only {len(left)} of {len(self.pool.row):,} left."
                )
            out[at] = left[np.argsort(bits(self.seed, -2, int(example[at]), left), kind="stable")[:count]]
        return out

    def _left(self, user: int, group: int) -> Ints:
        """What a person has not seen of a group."""
        return np.setdiff1d(self.pool.of_group(group), self.seen.rows(user))


def by_popularity(row: Ints, count: Ints, power: float) -> Pool:
    """One group: each row in proportion to count ** power. Rows without positives are left out, unless the power is 0."""
    weight = count[row].astype(np.float64) ** power
    return Pool.of(row[weight > 0], weight[weight > 0])


def by_category(row: Ints, code: Ints) -> Pool:
    """A group a category, `code` [V] saying which each catalogue row is of.

    Of an item alone in its category, or of none, there is nothing to be told from: its group is all rows.
    """
    order = np.argsort(code[row], kind="stable")
    length = np.bincount(code[row], minlength=int(code.max(initial=0)) + 1)
    return _with_all(row, row[order], length, (length > 1) & (np.arange(len(length)) > 0))


def by_life(row: Ints, item: Ints, bucket: Ints, buckets: int) -> Pool:
    """A group a bucket of time: the rows with events in the PARTS_OF_WINDOW buckets before it; all rows where there are none.

    item, bucket: of each event, the bucket from 0.
    """
    width = int(item.max(initial=0)) + 1
    where, what = np.divmod(np.unique(bucket * width + item), width)
    later = (where[:, None] + np.arange(1, PARTS_OF_WINDOW + 1)).reshape(-1)
    where, what = np.divmod(np.unique(later * width + np.repeat(what, PARTS_OF_WINDOW)), width)
    there = where < buckets
    length = np.bincount(where[there], minlength=buckets)
    return _with_all(row, what[there], length, length > 0)


def _with_all(row: Ints, grouped: Ints, length: Ints, usable: Bools) -> Pool:
    """Groups of these lengths, laid end to end in `grouped`; all rows stand in for those not usable, and are one more group at the end."""
    end = np.cumsum(length)
    begin = end - length
    first, last = len(grouped), len(grouped) + len(row)
    return Pool(
        row=np.concatenate([grouped, row]),
        begin=np.append(np.where(usable, begin, first), first),
        end=np.append(np.where(usable, end, last), last),
    )


def _first(row: Ints) -> Bools:
    """bool [n, k], whether each value is the first of its kind in its row."""
    order = np.argsort(row, axis=1, kind="stable")
    ordered = np.take_along_axis(row, order, axis=1)
    first = np.ones(row.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    out = np.empty_like(first)
    np.put_along_axis(out, order, first, axis=1)
    return out
