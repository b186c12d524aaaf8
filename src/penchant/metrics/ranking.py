"""Metrics of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.metrics.rows import Floats, Whole, as_counts, at_least_one, codes, ordered, same, scored, starts


@dataclass(frozen=True, eq=False)
class Ranking:
    """Six metrics at a cut k for each of the G groups that have a positive; each lies in 0..1."""

    hr: Floats  # [G]  a positive is among the first k
    ndcg: Floats  # [G]  DCG over the ideal DCG of min(R, k) positives, gains 0 or 1
    map: Floats  # [G]  sum of precision(i) * positive(i) for i <= k, over min(R, k)
    map_r: Floats  # [G]  the same sum over R
    mrr: Floats  # [G]  1 / the first positive's rank, 0 beyond k
    recall: Floats  # [G]  positives among the first k, over R
    group: NDArray[Any]  # [G]  ids, ascending
    dropped: int  # groups without a positive


@dataclass(frozen=True, eq=False)
class Lists:
    """All that ranking metrics need to know of G lists: of each, the runs of equal scores that hold a positive, N in all.

    A few numbers a positive, whatever the length of a list; every cut, and the lists' own AUC, follow from them.
    """

    owner: Whole  # [N]  whose run it is: a place in `group`, ascending; the runs of one list best first
    begin: Whole  # [N]  rows of the list that score higher
    size: Whole  # [N]  rows in the run
    relevant: Floats  # [N]  positives in the run
    before: Floats  # [N]  positives that score higher
    rows: Whole  # [G]  rows of the list
    positives: Floats  # [G]  R, at least 1
    group: NDArray[Any]  # [G]  ids, ascending
    dropped: int = 0  # lists without a positive

    @staticmethod
    def of(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> Lists:
        """score [N] numbers, label [N] 0 or 1, group [N] ids in any order: any number of positives in a group."""
        score, positive = scored(score, label)
        ids, code = codes(group, len(score))
        return _lists(score, positive, code, ids, np.arange(len(score)))

    @staticmethod
    def of_one(above: ArrayLike, tied: ArrayLike, others: ArrayLike) -> Lists:
        """Lists with one positive each, from counts alone: the group of a list is its place, 0..G-1.

        above int64 [G] how many others score higher than the positive, tied int64 [G] how many score the same, others int64 [G]
        how many there are.
        """
        above, tied, others = as_counts("above", above), as_counts("tied", tied), as_counts("others", others)
        same("tied", tied, "above", above)
        same("others", others, "above", above)
        place, one = np.arange(len(above)), np.ones(len(above))
        return Lists(place, above, tied + 1, one, 0 * one, others + 1, one, place)

    @staticmethod
    def join(parts: Sequence[Lists]) -> Lists:
        """Lists of several parts, one part after the other; the group of a list is its place."""
        shift = np.cumsum([0, *(len(part.rows) for part in parts)])

        def all_of(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in parts])

        return Lists(
            owner=np.concatenate([part.owner + at for part, at in zip(parts, shift, strict=False)]),
            begin=all_of("begin"),
            size=all_of("size"),
            relevant=all_of("relevant"),
            before=all_of("before"),
            rows=all_of("rows"),
            positives=all_of("positives"),
            group=np.arange(shift[-1]),
            dropped=sum(part.dropped for part in parts),
        )

    def take(self, kept: NDArray[np.bool_]) -> Lists:
        """Some of the lists: bool [G]."""
        mine, new = kept[self.owner], np.cumsum(kept) - 1
        return Lists(
            owner=new[self.owner[mine]],
            begin=self.begin[mine],
            size=self.size[mine],
            relevant=self.relevant[mine],
            before=self.before[mine],
            rows=self.rows[kept],
            positives=self.positives[kept],
            group=self.group[kept],
            dropped=self.dropped,
        )

    @cached_property
    def auc(self) -> Floats:
        """[G] the share of a list's pairs of a positive and a negative in which the positive scores higher; NaN without a negative."""
        negatives = self.rows - self.positives
        higher, level = self.begin - self.before, self.size - self.relevant
        won = np.bincount(self.owner, self.relevant * (negatives[self.owner] - higher - level / 2), len(self.rows))
        value = np.full(len(won), np.nan)
        np.divide(won, self.positives * negatives, out=value, where=negatives > 0)
        return value

    def at(self, k: int) -> Ranking:
        """The metrics at a cut, each its mean over all orders of the tied rows (McSherry and Najork 2008).

        A run of `size` rows, `relevant` of them positive, comes after `begin` rows, `before` of them positive. Place i of it is
        positive with chance relevant / size; given that, each other place of it is with chance `other`. So precision(i) expects
        before + 1 + other * (i - begin - 1) hits in i, and its sum is one of 1 / i and of 1.
        """
        k = at_least_one("k", k)
        use = self.begin < k
        owner, begin, size, relevant, before = (v[use] for v in (self.owner, self.begin, self.size, self.relevant, self.before))
        place = np.arange(1, k + 1)
        reciprocal = np.append(0.0, np.cumsum(1.0 / place))
        discount = np.append(0.0, np.cumsum(1.0 / np.log2(place + 1)))
        end = np.minimum(begin + size, k)
        chance, other = relevant / size, (relevant - 1) / np.maximum(size - 1, 1)
        gain = chance * (discount[end] - discount[begin])
        precision = chance * ((before + 1 - other * (begin + 1)) * (reciprocal[end] - reciprocal[begin]) + other * (end - begin))

        def per_list(value: Floats) -> Floats:
            return np.bincount(owner, value, len(self.rows)).astype(np.float64)

        first = before == 0  # the one run of a list in which its first positive lies
        room = np.where(first, end - begin, 0)
        missed, mrr = np.ones(len(owner)), np.zeros(len(owner))
        for j in range(room.max(initial=0)):
            found = np.where(j < room, missed * relevant / np.maximum(size - j, 1), 0.0)
            mrr += found / (begin + j + 1)
            missed -= found
        most, total = np.minimum(self.positives, k).astype(np.int64), per_list(precision)
        return Ranking(
            hr=per_list(np.where(first, 1.0 - missed, 0.0)),
            ndcg=per_list(gain) / discount[most],
            map=total / most,
            map_r=total / self.positives,
            mrr=per_list(mrr),
            recall=per_list(chance * (end - begin)) / self.positives,
            group=self.group,
            dropped=self.dropped,
        )


def ranking(score: ArrayLike, label: ArrayLike, group: ArrayLike, k: int) -> Ranking:
    """The metrics of each group's list at a cut: `Lists.of(score, label, group).at(k)`, sooner.

    Fastest where the groups lie together and are of one size: nothing below a group's k-th score is then sorted.
    """
    score, positive = scored(score, label)
    ids, code = codes(group, len(score))
    k = at_least_one("k", k)
    return _lists(score, positive, code, ids, _contenders(score, code, len(ids), k)).at(k)


def _lists(score: Floats, positive: Floats, code: Whole, ids: NDArray[Any], row: Whole) -> Lists:
    """The lists of all rows, of which only `row` are sorted: the others score lower."""
    rows, total = np.bincount(code, minlength=len(ids)), np.bincount(code, positive, len(ids)).astype(np.float64)
    row = row[ordered(-score[row], code[row])]
    start = starts(code[row], score[row])  # one run for each score of a group
    owner = code[row[start]]
    first = starts(owner)  # the first run of each group
    runs = np.diff(first, append=len(owner))
    relevant = np.add.reduceat(positive[row], start) if len(start) else positive
    earlier = np.cumsum(relevant) - relevant
    before = earlier - np.repeat(earlier[first], runs)
    begin = start - np.repeat(start[first], runs)
    size = np.diff(start, append=len(row))
    kept, use = total > 0, relevant > 0
    new = np.cumsum(kept) - 1  # where a group stands once those without a positive are gone
    dropped = len(ids) - int(kept.sum())
    return Lists(new[owner[use]], begin[use], size[use], relevant[use], before[use], rows[kept], total[kept], ids[kept], dropped)


def _contenders(score: Floats, code: Whole, groups: int, k: int) -> Whole:
    """The rows that may be among their group's first k: those below its k-th score go, where that is cheap to find."""
    rows, size = len(score), len(score) // max(groups, 1)
    if size <= k or rows != groups * size or np.any(code.reshape(groups, size) != np.arange(groups)[:, None]):
        return np.arange(rows)
    table = score.reshape(groups, size)
    return np.flatnonzero(table >= np.partition(table, size - k, axis=1)[:, size - k, None])
