"""Metrics of rows with a label each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, unknown_name
from penchant.metrics.rows import Floats, Whole, codes, ordered, scored, starts, weights

By = Literal["impressions", "positives", "users"]


@dataclass(frozen=True, eq=False)
class GroupedAUC:
    """The AUC of each group that has both classes, G of them, and their mean."""

    value: float  # sum(size * auc) / sum(size), NaN where no group has both classes
    auc: Floats  # [G]
    size: Floats  # [G]  what a group counts for in the mean: its rows, its positives (or the sum of their weights), or 1
    group: NDArray[Any]  # [G]  ids, ascending
    dropped: int  # groups of one class: in neither sum


def auc(score: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The chance that a positive scores above a negative, a tie counting one half (Mann and Whitney 1947).

    score [N] numbers, label [N] 0 or 1, weight [N] of at least 0: a weight of 2 is the row given twice.
    NaN where one of the classes is absent.
    """
    score, positive = scored(score, label)
    weight = weights(weight, len(score))
    order = np.argsort(score)
    start = starts(score[order])
    won, lost = classes(positive[order], weight[order], start)
    return float(auc_of_runs(won, lost, np.zeros(1, np.int64))[0]) if won.any() and lost.any() else float("nan")


def grouped_auc(
    score: ArrayLike, label: ArrayLike, group: ArrayLike, weight: ArrayLike | None = None, *, by: By = "impressions"
) -> GroupedAUC:
    """GAUC: the mean of the groups' own AUCs (Zhou et al. 2018, DIN, section 6.3).

    score [N] numbers, label [N] 0 or 1, group [N] ids in any order, weight [N] of at least 0. Ties count one half.
    A weight of 2 is the row given twice; a group whose weights are all 0 is among the dropped.
    by: what a group counts for. "impressions" is its rows, as in the paper; "positives" is its positive rows, which
    makes the mean one over positives; "users" is once for each group. What other libraries do is in `DIALECTS`.
    """
    if by not in get_args(By):
        raise unknown_name("weight of a group", by, get_args(By))
    score, positive = scored(score, label)
    ids, code = codes(group, len(score))
    weight = None if weight is None else weights(weight, len(score))
    order = ordered(score, code)
    score, code = score[order], code[order]
    start = starts(code, score)  # one run for each score of a group
    won, lost = classes(positive[order], None if weight is None else weight[order], start)
    first = starts(code[start])  # the first run of each group
    value = auc_of_runs(won, lost, first) if len(first) else won
    if by == "users" or not len(first):
        size = np.ones(len(first))
    else:
        size = np.add.reduceat(won if by == "positives" else won + lost, first)
    both = ~np.isnan(value)
    value, size = value[both], size[both]
    mean = float(value @ size / size.sum()) if both.any() else float("nan")
    return GroupedAUC(mean, value, size, ids[both], len(ids) - len(value))


def log_loss(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The mean cross-entropy in nats, from logits, so that no probability is rounded to 0 or 1.

    logit [N] numbers, label [N] 0 or 1, weight [N] of at least 0.
    """
    logit, positive = scored(logit, label, "logit")
    weight = weights(weight, len(logit))
    if not weight.any():
        raise DataError(f"log_loss has no row of any weight among {len(logit)}: wanted at least one.")
    loss = np.logaddexp(0.0, np.where(positive == 1, -logit, logit))
    return float(loss @ weight / weight.sum())


def rel_improvement(auc_model: float, auc_base: float) -> float:
    """RelaImpr in percent: how much further than the base the model is from a coin's 0.5 (DIN, section 6.3)."""
    if auc_base == 0.5:
        raise DataError("auc_base is 0.5, which is a coin's: wanted a base that knows something.")
    return ((auc_model - 0.5) / (auc_base - 0.5) - 1.0) * 100.0


def auc_of_runs(positive: Floats, negative: Floats, first: Whole) -> Floats:
    """The AUC [G] of runs of equal scores, ascending, from both classes' weights in each; `first` opens a group."""
    below = np.cumsum(negative) - negative
    below -= np.repeat(below[first], np.diff(first, append=len(negative)))
    won = np.add.reduceat(positive * (below + 0.5 * negative), first)
    pairs = np.add.reduceat(positive, first) * np.add.reduceat(negative, first)
    value = np.full(len(first), np.nan)
    np.divide(won, pairs, out=value, where=pairs > 0)
    return value


def classes(positive: Floats, weight: Floats | None, start: Whole) -> tuple[Floats, Floats]:
    """The weight of the positives and of the negatives in each run; their numbers, where weight is None."""
    if not len(start):
        return positive, positive
    if weight is None:
        won = np.add.reduceat(positive, start)
        return won, np.diff(start, append=len(positive)) - won
    return np.add.reduceat(positive * weight, start), np.add.reduceat((1.0 - positive) * weight, start)
