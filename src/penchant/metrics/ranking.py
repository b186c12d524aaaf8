"""Metrics of lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.metrics.rows import Floats, Whole, as_counts, at_least_one, codes, ordered, same, scored, starts


@dataclass(frozen=True, eq=False)
class Ranking:
    """Five metrics at a cut k for each of the G groups that have a positive; each lies in 0..1."""

    hr: Floats  # [G]  a positive is among the first k
    ndcg: Floats  # [G]  DCG over the ideal DCG of min(R, k) positives, gains 0 or 1
    map: Floats  # [G]  sum of precision(i) * positive(i) for i <= k, over min(R, k)
    mrr: Floats  # [G]  1 / the first positive's rank, 0 beyond k
    recall: Floats  # [G]  positives among the first k, over R
    group: NDArray[Any]  # [G]  ids, ascending
    dropped: int  # groups without a positive


def ranking(score: ArrayLike, label: ArrayLike, group: ArrayLike, k: int) -> Ranking:
    """The five metrics of each group's list, highest score first, by closed forms (McSherry and Najork 2008).

    score [N] numbers, label [N] 0 or 1, group [N] ids in any order: any number of positives R in a group. Ties are
    averaged over all their orders. Fastest where the groups lie together and are of one size: nothing below a
    group's k-th score is then sorted.
    """
    score, positive = scored(score, label)
    ids, code = codes(group, len(score))
    k = at_least_one("k", k)
    total = np.bincount(code, positive, len(ids)).astype(np.float64)
    row = _contenders(score, code, len(ids), k)
    row = row[ordered(-score[row], code[row])]
    start = starts(code[row], score[row])  # one run for each score of a group
    run = code[row[start]]
    first = starts(run)  # the first run of each group
    runs = np.diff(first, append=len(run))
    relevant = np.add.reduceat(positive[row], start) if len(start) else positive
    earlier = np.cumsum(relevant) - relevant
    before = earlier - np.repeat(earlier[first], runs)
    begin = start - np.repeat(start[first], runs)
    size = np.diff(start, append=len(row))
    kept = total > 0
    new = np.cumsum(kept) - 1  # where a group stands once those without a positive are gone
    use = (relevant > 0) & (begin < k)
    return _expected(new[run[use]], begin[use], size[use], relevant[use], before[use], total[kept], ids[kept], len(ids), k)


def ranking_of_one(above: ArrayLike, tied: ArrayLike, k: int) -> Ranking:
    """`ranking` for lists with one positive each, from counts alone.

    above int64 [U] how many candidates score higher than the positive, tied int64 [U] how many others score the same.
    The group of a list is its place, 0..U-1.
    """
    above, tied = as_counts("above", above), as_counts("tied", tied)
    k = at_least_one("k", k)
    same("tied", tied, "above", above)
    group = np.arange(len(above))
    use = above < k
    one = np.ones(len(above))
    return _expected(group[use], above[use], tied[use] + 1, one[use], 0 * one[use], one, group, len(group), k)


def _expected(
    group: Whole, begin: Whole, size: Whole, relevant: Floats, before: Floats, total: Floats, ids: NDArray[Any], seen: int, k: int
) -> Ranking:
    """The metrics of G groups from those runs of equal scores that hold a positive and begin above the cut.

    A run of `size` rows, `relevant` of them positive, comes after `begin` rows, `before` of them positive. Place i of
    it is positive with chance relevant / size; given that, each other place of it is with chance `other`. So
    precision(i) expects before + 1 + other * (i - begin - 1) hits in i, and its sum is one of 1 / i and of 1.
    """
    place = np.arange(1, k + 1)
    reciprocal = np.append(0.0, np.cumsum(1.0 / place))
    discount = np.append(0.0, np.cumsum(1.0 / np.log2(place + 1)))
    end = np.minimum(begin + size, k)
    chance, other = relevant / size, (relevant - 1) / np.maximum(size - 1, 1)
    gain = chance * (discount[end] - discount[begin])
    precision = chance * ((before + 1 - other * (begin + 1)) * (reciprocal[end] - reciprocal[begin]) + other * (end - begin))

    def per_group(value: Floats) -> Floats:
        return np.bincount(group, value, len(total)).astype(np.float64)

    opens = before == 0  # the one run of a group in which its first positive lies
    room = np.where(opens, end - begin, 0)
    missed, mrr = np.ones(len(group)), np.zeros(len(group))
    for j in range(room.max(initial=0)):
        found = np.where(j < room, missed * relevant / np.maximum(size - j, 1), 0.0)
        mrr += found / (begin + j + 1)
        missed -= found
    most = np.minimum(total, k).astype(np.int64)
    return Ranking(
        hr=per_group(np.where(opens, 1.0 - missed, 0.0)),
        ndcg=per_group(gain) / discount[most],
        map=per_group(precision) / most,
        mrr=per_group(mrr),
        recall=per_group(chance * (end - begin)) / total,
        group=ids,
        dropped=seen - len(ids),
    )


def _contenders(score: Floats, code: Whole, groups: int, k: int) -> Whole:
    """The rows that may be among their group's first k: those below its k-th score go, where that is cheap to find."""
    rows, size = len(score), len(score) // max(groups, 1)
    if size <= k or rows != groups * size or np.any(code.reshape(groups, size) != np.arange(groups)[:, None]):
        return np.arange(rows)
    table = score.reshape(groups, size)
    return np.flatnonzero(table >= np.partition(table, size - k, axis=1)[:, size - k, None])
