"""Which events are learned from and which are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penchant.data.log import Log
from penchant.encoding import Ints
from penchant.errors import DataError

LEAST = 3  # positives that a person needs: one each to train, choose and test by


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in a Log, ascending."""

    name: str
    train: Ints
    valid: Ints
    test: Ints
    dropped: int  # people with too few positives to be judged by; all of their events train


def leave_last_out(log: Log) -> Split:
    """The last positive of each person tests, the one before validates, and all that came before trains.

    Rows of no positive after the validating one are in no part; they stand in the pasts of what follows.

    "Last" is by (time, source row). Raises DataError when nobody has three positives.
    """
    positive = np.flatnonzero(log.positive).astype(np.int64)
    begin = np.searchsorted(positive, log.start)  # where each person's positives begin
    judged = np.flatnonzero(np.diff(begin) >= LEAST)
    if not len(judged):
        raise DataError(f"{log.folder}: nobody of {len(log.users):,} people has {LEAST} positive events, so there is nothing to judge by.")
    test, valid = positive[begin[judged + 1] - 1], positive[begin[judged + 1] - 2]
    end = log.start[1:].copy()
    end[judged] = valid
    train = np.arange(log.size, dtype=np.int64)
    train = train[train < np.repeat(end, np.diff(log.start))]
    return Split(name="leave-last-out", train=train, valid=valid, test=test, dropped=len(log.users) - len(judged))


SPLITS = {"leave-last-out": leave_last_out}
