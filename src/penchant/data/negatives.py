"""Items that a person did not choose, drawn uniformly from a pool and never from what they have chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penchant.data.draw import below, bits
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import DataError

ATTEMPTS = 32  # redraws before the choice is made from what is left, counted out


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
    def count(self) -> Ints:
        """int64 [users] how many rows each person has chosen."""
        return np.diff(self._start).astype(np.int64)

    def rows(self, user: int) -> Ints:
        """The rows that one person has chosen, ascending."""
        return self._key[self._start[user] : self._start[user + 1]] - user * self._rows


@dataclass(frozen=True, eq=False)
class Uniform:
    """Draws from `pool` (int64 catalogue rows), uniformly but for what a person has seen."""

    pool: Ints
    seen: Seen
    seed: int

    def draw(self, user: Ints, example: Ints, epoch: int, count: int) -> Ints:
        """int64 [n, count] rows, with replacement, a function of (seed, epoch, example).

        A person who has seen the whole pool gets rows of it at random, there being nothing else.
        """
        place = np.arange(count)
        example, user = example[:, None], user[:, None]
        row = self.pool[below(len(self.pool), bits(self.seed, epoch, example, place, 0))]
        bad = self.seen.has(user, row)
        for attempt in range(1, ATTEMPTS):
            if not bad.any():
                return row
            at, column = np.nonzero(bad)
            row[at, column] = self.pool[below(len(self.pool), bits(self.seed, epoch, example[at, 0], column, attempt))]
            bad[at, column] = self.seen.has(user[at, 0], row[at, column])
        for which in map(int, np.flatnonzero(bad.any(axis=1))):
            left = np.setdiff1d(self.pool, self.seen.rows(int(user[which, 0])))
            if len(left):
                random = bits(self.seed, epoch, int(example[which, 0]), np.flatnonzero(bad[which]), ATTEMPTS)
                row[which, bad[which]] = left[below(len(left), random)]
        return row

    def log_q(self, row: Ints) -> Floats:
        """float32 of the same shape, the log-probability with which each of these rows is drawn."""
        return np.full(row.shape, -np.log(len(self.pool)), dtype=np.float32)

    def distinct(self, user: Ints, example: Ints, count: int) -> Ints:
        """int64 [n, count] rows, all different within an example. Raises DataError when somebody has too few left."""
        place = np.arange(2 * count)
        row = self.pool[below(len(self.pool), bits(self.seed, -1, example[:, None], place, 0))]
        good = ~self.seen.has(user[:, None], row) & _first(row)
        rank = np.cumsum(good, axis=1)
        enough = rank[:, -1] >= count
        out = np.empty((len(user), count), dtype=np.int64)
        out[enough] = row[enough][(good & (rank <= count))[enough]].reshape(-1, count)
        for at in map(int, np.flatnonzero(~enough)):
            left = np.setdiff1d(self.pool, self.seen.rows(int(user[at])))
            if len(left) < count:
                raise DataError(
                    f"{count} different items that a person has not chosen were wanted; "
                    f"one has only {len(left)} of {len(self.pool):,} left."
                )
            out[at] = left[np.argsort(bits(self.seed, -2, int(example[at]), left), kind="stable")[:count]]
        return out


def _first(row: Ints) -> Bools:
    """bool [n, k], whether each value is the first of its kind in its row."""
    order = np.argsort(row, axis=1, kind="stable")
    ordered = np.take_along_axis(row, order, axis=1)
    first = np.ones(row.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    out = np.empty_like(first)
    np.put_along_axis(out, order, first, axis=1)
    return out
