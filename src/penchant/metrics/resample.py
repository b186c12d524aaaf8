"""How sure one may be of a mean, and of a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from penchant.errors import DataError
from penchant.metrics.labelled import auc_of_runs, classes
from penchant.metrics.rows import Floats, as_share, at_least_one, codes, finite, same, scored, starts, weights

BLOCK = 1 << 22  # numbers drawn at a time: 32 MiB


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

    def says(self, a: str, b: str, metric: str) -> str:
        """The difference of models a and b in a metric, in words."""
        return f"{a} - {b}: {self.difference:+.4f} {metric} [{self.low:+.4f}, {self.high:+.4f}]"

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def bootstrap(value: ArrayLike, weight: ArrayLike | None = None, *, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """The percentile interval of a mean over users, users drawn with replacement (Efron 1979).

    value [U] one finite number a user; weight [U] of at least 0 makes it a ratio of sums: `bootstrap(g.auc, g.size)`
    is GAUC's. The same seed gives the same interval.
    """
    value = finite("value", value)
    weight = weights(weight, len(value))
    level = as_share(level)
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
    score, positive = scored(score, label)
    ids, code = codes(group, len(score))
    level = as_share(level)
    if not len(ids):
        raise DataError("bootstrap_auc has no rows: wanted at least one.")
    order = np.argsort(score)
    start, positive, code = starts(score[order]), positive[order], code[order]
    draw = _generator(seed)
    values = np.full(at_least_one("resamples", resamples), np.nan)
    for i in range(len(values)):
        times = np.bincount(draw.integers(len(ids), size=len(ids)), minlength=len(ids)).astype(np.float64)
        values[i] = auc_of_runs(*classes(positive, times[code], start), np.zeros(1, np.int64))[0]
    return _interval(values, level)


def paired(
    a: ArrayLike, b: ArrayLike, weight: ArrayLike | None = None, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Difference:
    """Whether model a's mean over users differs from model b's.

    a [U], b [U] one finite number a user, the same users in the same order; weight [U] of at least 0, the same for both, makes the
    means ratios of sums. The interval is `bootstrap`'s over the
    users' differences. p is from a sign-flip permutation test: the share of `resamples` random swaps of the two
    models, user by user, whose mean is as far from zero, the observed one counted in (Phipson and Smyth 2010), so it
    is never below 1 / (resamples + 1).
    """
    a, b = finite("a", a), finite("b", b)
    same("b", b, "a", a)
    weight = weights(weight, len(a))
    each = a - b
    interval = bootstrap(each, weight, resamples=resamples, seed=seed, level=level)
    moved = (weight * each)[weight * each != 0]  # a swap of equals changes nothing
    total, slack = moved.sum(), 1e-12 * np.abs(moved).sum()  # slack: one sum, added in two orders
    draw = _generator(seed + 1)
    as_far = 0
    for count in _blocks(resamples, len(moved)):
        bits = draw.integers(256, size=(count, -(-len(moved) // 8)), dtype=np.uint8)
        keep = np.unpackbits(bits, axis=1, count=len(moved)).astype(np.float64)
        as_far += int(np.count_nonzero(np.abs(2.0 * (keep @ moved) - total) >= abs(total) - slack))
    mean = float(each @ weight / weight.sum())
    return Difference(mean, interval.low, interval.high, (1 + as_far) / (1 + resamples), len(each))


def _blocks(resamples: int, width: int) -> Iterator[int]:
    """How many resamples of `width` numbers to draw at a time, until all are drawn."""
    resamples = at_least_one("resamples", resamples)
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
