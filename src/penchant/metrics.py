"""What a model is measured by: numpy in, numbers out, the same for every model.

    score, label                 auc, log_loss            one number for all rows
    score, label, group          grouped_auc              one AUC a user, then their mean
    score, label, group, k       ranking                  five metrics a user, for whole lists
    above, tied, k               ranking_of_one           the same where each list has one positive
    one value a user             bootstrap, paired        how sure one may be of a mean, and of a difference

Tied scores are shared evenly: every metric here is its own mean over all orders of the tied rows, so no model
gains by saying the same of everything, and none depends on the order in which its rows came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

BLOCK = 1 << 22  # numbers drawn at a time: 32 MiB


@dataclass(frozen=True, eq=False)
class GroupedAUC:
    """The AUC of each group that has both classes, G of them, and their mean."""

    value: float  # sum(size * auc) / sum(size), NaN where no group has both classes
    auc: Floats  # [G]
    size: Floats  # [G]  rows, or the sum of their weights
    group: NDArray[Any]  # [G]  ids, ascending
    dropped: int  # groups of one class: in neither sum


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


@dataclass(frozen=True)
class Interval:
    """Where a share `level` of the resampled values lies."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Model a less model b, over the same users."""

    difference: float  # mean(a) - mean(b)
    low: float
    high: float
    p: float  # two-sided, of no difference
    users: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def auc(score: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The chance that a positive scores above a negative, a tie counting one half (Mann and Whitney 1947).

    score [N] numbers, label [N] 0 or 1, weight [N] of at least 0: a weight of 2 is the row given twice.
    NaN where one of the classes is absent.
    """
    score, positive = _scored(score, label)
    weight = _weights(weight, len(score))
    order = np.argsort(score)
    start = _starts(score[order])
    won, lost = _classes(positive[order], weight[order], start)
    return float(_auc(won, lost, np.zeros(1, np.int64))[0]) if won.any() and lost.any() else float("nan")


def grouped_auc(score: ArrayLike, label: ArrayLike, group: ArrayLike, weight: ArrayLike | None = None) -> GroupedAUC:
    """GAUC: the mean of the groups' own AUCs by their rows (Zhou et al. 2018, DIN, section 6.3).

    score [N] numbers, label [N] 0 or 1, group [N] ids in any order, weight [N] of at least 0. Ties count one half.
    A weight of 2 is the row given twice; a group whose weights are all 0 is among the dropped.
    """
    score, positive = _scored(score, label)
    ids, code = _codes(group, len(score))
    weight = _weights(weight, len(score))
    order = _order(score, code)
    start = _starts(code[order], score[order])  # one run for each score of a group
    won, lost = _classes(positive[order], weight[order], start)
    first = _starts(code[order[start]])  # the first run of each group
    size = np.add.reduceat(won + lost, first) if len(first) else won
    value = _auc(won, lost, first) if len(first) else won
    both = ~np.isnan(value)
    value, size = value[both], size[both]
    mean = float(value @ size / size.sum()) if both.any() else float("nan")
    return GroupedAUC(mean, value, size, ids[both], len(ids) - len(value))


def log_loss(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The mean cross-entropy in nats, from logits, so that no probability is rounded to 0 or 1.

    logit [N] numbers, label [N] 0 or 1, weight [N] of at least 0.
    """
    logit, positive = _scored(logit, label, "logit")
    weight = _weights(weight, len(logit))
    if not weight.any():
        raise DataError(f"log_loss has no row of any weight among {len(logit)}: wanted at least one.")
    loss = np.logaddexp(0.0, np.where(positive == 1, -logit, logit))
    return float(loss @ weight / weight.sum())


def rel_improvement(auc_model: float, auc_base: float) -> float:
    """RelaImpr in percent: how much further than the base the model is from a coin's 0.5 (DIN, section 6.3)."""
    if auc_base == 0.5:
        raise DataError("auc_base is 0.5, which is a coin's: wanted a base that knows something.")
    return ((auc_model - 0.5) / (auc_base - 0.5) - 1.0) * 100.0


def ranking(score: ArrayLike, label: ArrayLike, group: ArrayLike, k: int) -> Ranking:
    """The five metrics of each group's list, highest score first, by closed forms (McSherry and Najork 2008).

    score [N] numbers, label [N] 0 or 1, group [N] ids in any order: any number of positives R in a group. Ties are
    averaged over all their orders. Fastest where the groups lie together and are of one size: nothing below a
    group's k-th score is then sorted.
    """
    score, positive = _scored(score, label)
    ids, code = _codes(group, len(score))
    k = _at_least_one("k", k)
    total = np.bincount(code, positive, len(ids)).astype(np.float64)
    row = _contenders(score, code, len(ids), k)
    row = row[_order(-score[row], code[row])]
    start = _starts(code[row], score[row])  # one run for each score of a group
    run = code[row[start]]
    first = _starts(run)  # the first run of each group
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
    above, tied = _counts("above", above), _counts("tied", tied)
    k = _at_least_one("k", k)
    _same("tied", tied, "above", above)
    group = np.arange(len(above))
    use = above < k
    one = np.ones(len(above))
    return _expected(group[use], above[use], tied[use] + 1, one[use], 0 * one[use], one, group, len(group), k)


def bootstrap(value: ArrayLike, weight: ArrayLike | None = None, *, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """The percentile interval of a mean over users, users drawn with replacement (Efron 1979).

    value [U] one finite number a user; weight [U] of at least 0 makes it a ratio of sums: `bootstrap(g.auc, g.size)`
    is GAUC's. The same seed gives the same interval.
    """
    value = _finite("value", value)
    weight = _weights(weight, len(value))
    level = _level(level)
    if not weight.any():
        raise DataError(f"bootstrap has no user of any weight among {len(value)}: wanted at least one.")
    weighted = value * weight
    draw = _generator(seed)
    means = []
    for count in _blocks(resamples, len(value)):
        user = draw.integers(len(value), size=(count, len(value)))
        with np.errstate(invalid="ignore"):  # a resample of weightless users has no mean, and is left out
            means.append(weighted[user].sum(1) / weight[user].sum(1))
    return _interval(np.concatenate(means), level)


def bootstrap_auc(
    score: ArrayLike, label: ArrayLike, group: ArrayLike, *, resamples: int = 200, seed: int = 0, level: float = 0.95
) -> Interval:
    """The percentile interval of the pooled `auc`, groups (users) drawn with replacement, each with all its rows.

    score [N], label [N], group [N] as in `grouped_auc`. The rows are sorted once. A resample without both classes is
    left out; where one class is absent from the rows both ends are NaN.
    """
    score, positive = _scored(score, label)
    ids, code = _codes(group, len(score))
    level = _level(level)
    if not len(ids):
        raise DataError("bootstrap_auc has no rows: wanted at least one.")
    order = np.argsort(score)
    start, positive, code = _starts(score[order]), positive[order], code[order]
    draw = _generator(seed)
    values = np.full(_at_least_one("resamples", resamples), np.nan)
    for i in range(len(values)):
        times = np.bincount(draw.integers(len(ids), size=len(ids)), minlength=len(ids)).astype(np.float64)
        values[i] = _auc(*_classes(positive, times[code], start), np.zeros(1, np.int64))[0]
    return _interval(values, level)


def paired(a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> Difference:
    """Whether model a's mean over users differs from model b's.

    a [U], b [U] one finite number a user, the same users in the same order. The interval is `bootstrap`'s over the
    users' differences. p is from a sign-flip permutation test: the share of `resamples` random swaps of the two
    models, user by user, whose mean is as far from zero, the observed one counted in (Phipson and Smyth 2010), so it
    is never below 1 / (resamples + 1).
    """
    a, b = _finite("a", a), _finite("b", b)
    _same("b", b, "a", a)
    each = a - b
    interval = bootstrap(each, resamples=resamples, seed=seed, level=level)
    moved = each[each != 0]  # a swap of equals changes nothing
    total, slack = moved.sum(), 1e-12 * np.abs(moved).sum()  # slack: one sum, added in two orders
    draw = _generator(seed + 1)
    as_far = 0
    for count in _blocks(resamples, len(moved)):
        bits = draw.integers(256, size=(count, -(-len(moved) // 8)), dtype=np.uint8)
        keep = np.unpackbits(bits, axis=1, count=len(moved)).astype(np.float64)
        as_far += int(np.count_nonzero(np.abs(2.0 * (keep @ moved) - total) >= abs(total) - slack))
    return Difference(float(each.mean()), interval.low, interval.high, (1 + as_far) / (1 + resamples), len(each))


def _auc(positive: Floats, negative: Floats, first: Whole) -> Floats:
    """The AUC [G] of runs of equal scores, ascending, from both classes' weights in each; `first` opens a group."""
    below = np.cumsum(negative) - negative
    below -= np.repeat(below[first], np.diff(first, append=len(negative)))
    won = np.add.reduceat(positive * (below + 0.5 * negative), first)
    pairs = np.add.reduceat(positive, first) * np.add.reduceat(negative, first)
    value = np.full(len(first), np.nan)
    np.divide(won, pairs, out=value, where=pairs > 0)
    return value


def _classes(positive: Floats, weight: Floats, start: Whole) -> tuple[Floats, Floats]:
    """The weight of the positives and of the negatives in each run."""
    if not len(start):
        return weight, weight
    return np.add.reduceat(positive * weight, start), np.add.reduceat((1.0 - positive) * weight, start)


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


def _codes(group: ArrayLike, rows: int) -> tuple[NDArray[Any], Whole]:
    """The ids [G], ascending, and each row's place among them [N]; no sort where the rows lie in order."""
    group = np.asarray(group)
    if group.shape != (rows,):
        raise DataError(f"group has shape {group.shape}: wanted {(rows,)}, one for each score.")
    if np.all(group[1:] >= group[:-1]):
        start = _starts(group)
        return group[start], np.repeat(np.arange(len(start)), np.diff(start, append=rows))
    ids, code = np.unique(group, return_inverse=True)
    return ids, code


def _order(score: Floats, code: Whole) -> Whole:
    """The rows by group, then by score: as np.lexsort, faster, for 16 bits of the code at a time take no comparison."""
    order = np.argsort(score)
    for shift in range(0, int(code.max(initial=0)).bit_length(), 16):
        digit = (code >> shift & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _starts(*keys: NDArray[Any]) -> Whole:
    """Where each run of rows with equal keys begins."""
    new = np.ones(len(keys[0]), np.bool_)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(new)


def _blocks(resamples: int, width: int) -> Iterator[int]:
    """How many resamples of `width` numbers to draw at a time, until all are drawn."""
    resamples = _at_least_one("resamples", resamples)
    most = max(1, BLOCK // max(width, 1))
    for done in range(0, resamples, most):
        yield min(most, resamples - done)


def _interval(values: Floats, level: float) -> Interval:
    tail = (1.0 - level) / 2.0
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [tail, 1.0 - tail]) if len(values) else (np.nan, np.nan)
    return Interval(float(low), float(high))


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _scored(score: ArrayLike, label: ArrayLike, name: str = "score") -> tuple[Floats, Floats]:
    score, label = _numbers(name, score), _numbers("label", label)
    _same("label", label, name, score)
    _refuse(name, score, np.isnan(score), "a number")
    _refuse("label", label, (label != 0) & (label != 1), "0 or 1")
    return score, label


def _weights(weight: ArrayLike | None, rows: int) -> Floats:
    if weight is None:
        return np.ones(rows)
    weight = _numbers("weight", weight)
    if weight.shape != (rows,):
        raise DataError(f"weight has shape {weight.shape}: wanted {(rows,)}.")
    _refuse("weight", weight, ~((weight >= 0) & np.isfinite(weight)), "a finite number of at least 0")
    return weight


def _finite(name: str, value: ArrayLike) -> Floats:
    value = _numbers(name, value)
    _refuse(name, value, ~np.isfinite(value), "a finite number")
    if not len(value):
        raise DataError(f"{name} is empty: wanted a number for each user.")
    return value


def _counts(name: str, value: ArrayLike) -> Whole:
    numbers = _numbers(name, value)
    _refuse(name, numbers, ~((numbers >= 0) & (numbers == np.floor(numbers))), "a count of at least 0")
    return numbers.astype(np.int64)


def _numbers(name: str, value: ArrayLike) -> Floats:
    value = np.asarray(value)
    if value.ndim != 1 or value.dtype.kind not in "biuf":
        raise DataError(f"{name} has shape {value.shape} and dtype {value.dtype}: wanted one number a row.")
    return value.astype(np.float64, copy=False)


def _same(name: str, value: NDArray[Any], other: str, wanted: NDArray[Any]) -> None:
    if value.shape != wanted.shape:
        raise DataError(f"{name} has shape {value.shape}: wanted {wanted.shape}, that of {other}.")


def _refuse(name: str, value: Floats, bad: NDArray[np.bool_], wanted: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{name} holds {value[row]} at row {row}, the first of {bad.sum()} such in {len(bad)}: wanted {wanted}.")


def _at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise DataError(f"{name} is {value!r}: wanted a whole number of at least 1.")
    return int(value)


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(f"level is {level!r}: wanted a share between 0 and 1.")
    return level
