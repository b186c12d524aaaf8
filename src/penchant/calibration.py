"""From a logit to a probability that is as often true as it says; kept in the bundle, beside the weights.

    Identity     sigmoid(logit)                        what a model of all rows means already
    Prior        sigmoid(logit + shift)                after sampling negatives at a known rate: exact, nothing to fit
    Platt        sigmoid(a * logit + b)                two numbers, fitted on rows held out
    Isotonic     any rising steps, joined by lines     what many rows held out say

Each is monotone: no calibration puts b above a where the logit puts a above b, though it may make them equal (Isotonic
does; a probability near 0 or 1 does by rounding), so rank by logits. Fit on rows that neither trained the model nor
judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import ArtefactError, DataError, nearest
from penchant.metrics.rows import Floats, as_numbers, refuse, same, starts, weights

STEPS = 100  # of Newton's method at most; it takes fewer than ten


@dataclass(frozen=True)
class Identity:
    """The logit is right as it is."""

    def probability(self, logit: ArrayLike) -> NDArray[np.floating[Any]]:
        """sigmoid(logit), of any shape; float32 of float32 logits, else float64."""
        return _through(logit, lambda x: x)

    def as_dict(self) -> dict[str, Any]:
        """What `calibration_from` makes the same calibration of."""
        return {"kind": "identity"}


@dataclass(frozen=True)
class Prior:
    """The odds are wrong by one known factor, as they are after sampling: see `prior_shift`."""

    shift: float  # added to every logit

    def __post_init__(self) -> None:
        _want("shift", self.shift, isfinite(self.shift), "a finite number")

    def probability(self, logit: ArrayLike) -> NDArray[np.floating[Any]]:
        """sigmoid(logit + shift), of any shape; float32 of float32 logits, else float64."""
        return _through(logit, lambda x: x + self.shift)

    def as_dict(self) -> dict[str, Any]:
        """What `calibration_from` makes the same calibration of."""
        return {"kind": "prior", "shift": self.shift}


@dataclass(frozen=True)
class Platt:
    """A straight line through the logits (Platt 2000)."""

    a: float  # above 0, so that the order stays
    b: float

    def __post_init__(self) -> None:
        _want("a", self.a, isfinite(self.a) and self.a > 0, "a finite number above 0")
        _want("b", self.b, isfinite(self.b), "a finite number")

    def probability(self, logit: ArrayLike) -> NDArray[np.floating[Any]]:
        """sigmoid(a * logit + b), of any shape; float32 of float32 logits, else float64."""
        return _through(logit, lambda x: self.a * x + self.b)

    def as_dict(self) -> dict[str, Any]:
        """What `calibration_from` makes the same calibration of."""
        return {"kind": "platt", "a": self.a, "b": self.b}


@dataclass(frozen=True, eq=False)
class Isotonic:
    """Straight lines between K points, constant outside them."""

    logit: Floats  # [K]  rising
    probability_at: Floats  # [K]  in 0..1, never falling

    def __post_init__(self) -> None:
        at, value = as_numbers("logit", self.logit), as_numbers("probability", self.probability_at)
        same("probability", value, "logit", at)
        if not len(at):
            raise DataError("logit is empty: wanted a point at least.")
        refuse("logit", at, ~np.isfinite(at), "a finite number")
        refuse("logit", at, np.append(False, np.diff(at) <= 0), "more than the one before")
        refuse("probability", value, ~((value >= 0) & (value <= 1)), "a number from 0 to 1")
        refuse("probability", value, np.append(False, np.diff(value) < 0), "no less than the one before")
        object.__setattr__(self, "logit", at)
        object.__setattr__(self, "probability_at", value)

    def probability(self, logit: ArrayLike) -> NDArray[np.floating[Any]]:
        """The points joined by lines, of any shape; float32 of float32 logits, else float64."""
        return _through(logit, self._between, squash=False)

    def as_dict(self) -> dict[str, Any]:
        """What `calibration_from` makes the same calibration of."""
        return {"kind": "isotonic", "logit": self.logit.tolist(), "probability": self.probability_at.tolist()}

    def _between(self, x: Floats) -> Floats:
        at, value = self.logit, self.probability_at
        x = np.clip(x, at[0], at[-1])
        low = np.minimum(np.searchsorted(at, x, side="right") - 1, max(len(at) - 2, 0))
        high = np.minimum(low + 1, len(at) - 1)
        way = np.divide(x - at[low], at[high] - at[low], out=np.zeros_like(x), where=high > low)
        between: Floats = np.minimum(value[low] + way * (value[high] - value[low]), value[high])  # never past the next by rounding
        return between


Calibration: TypeAlias = Identity | Prior | Platt | Isotonic


def prior_shift(positives_kept: float, negatives_kept: float) -> Prior:
    """The exact correction for rows kept at known rates: King and Zeng 2001, He et al. 2014, section 6.3.

    positives_kept, negatives_kept: what share of each class the training rows hold; above 1 where rows were repeated.
    Sampling multiplies the odds by positives_kept / negatives_kept, whose logarithm is taken off every logit. With
    positives whole and w of the negatives it is q = p / (p + (1 - p) / w).
    """
    for name, kept in (("positives_kept", positives_kept), ("negatives_kept", negatives_kept)):
        _want(name, kept, isfinite(kept) and kept > 0, "a finite number above 0")
    return Prior(log(negatives_kept) - log(positives_kept))


def fit_platt(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None, *, smooth: bool = True) -> Platt:
    """The line through the logits that makes the labels likeliest, by Newton's method (Lin, Lin and Weng 2007).

    logit [N] finite, label [N] 0 or 1 of both classes, weight [N] of at least 0. smooth: the targets are Platt's, (P + 1)
    / (P + 2) and 1 / (Q + 2) of P positives and Q negatives, so that there is a best line even where a logit parts the
    classes. A line that does not rise is refused: it would turn every list round.
    """
    x, positive, weight = _fitted("fit_platt", logit, label, weight)
    many, rest = float(positive @ weight), float((1.0 - positive) @ weight)
    if not many or not rest:
        raise DataError(f"fit_platt has {'no positive' if not many else 'no negative'} row of any weight among {len(x)}: wanted both.")
    up, down = x[(positive == 1) & (weight > 0)], x[(positive == 0) & (weight > 0)]
    if not smooth and (down.max() <= up.min() or up.max() <= down.min()):
        raise DataError("logit parts the classes wholly, so that the likeliest line is upright: let the targets be smooth.")
    mean = float(x @ weight) / (many + rest)
    spread = float(np.sqrt(((x - mean) ** 2) @ weight / (many + rest)))
    if not spread:
        raise DataError(f"logit is {x[weight > 0][0]} in every row of any weight: no line can be fitted to one value.")
    z = (x - mean) / spread
    target = np.where(positive == 1, (many + 1) / (many + 2), 1 / (rest + 2)) if smooth else positive
    a, b = _newton(z, target, weight, log((many + 1) / (rest + 1)))
    if a <= 0:
        raise DataError(
            f"the slope is {a / spread:.3g}: a higher logit goes with fewer positives here, and a calibration keeps the order. "
            "Are these the logits of these labels?"
        )
    return Platt(a / spread, b - a * mean / spread)


def fit_isotonic(logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None, *, least: float = 1e-6) -> Isotonic:
    """The rising function nearest to the labels, by pooling adjacent violators (Ayer et al. 1955; Zadrozny and Elkan 2002).

    logit [N] finite, label [N] 0 or 1, weight [N] of at least 0. Rows of one logit are pooled first. At a row's logit it
    is the share of positives of the row's block; between blocks a straight line; constant outside. least: every
    probability is held within least .. 1 - least, so that a row that comes out otherwise costs a finite log loss; 0
    leaves the blocks at either end as they are, which may be 0 and 1.
    """
    _want("least", least, 0 <= least < 0.5, "a number of at least 0 and below 0.5")
    x, positive, weight = _fitted("fit_isotonic", logit, label, weight)
    x, positive, weight = x[weight > 0], positive[weight > 0], weight[weight > 0]
    order = np.argsort(x)
    start = starts(x[order])
    at = x[order[start]]
    size, won = np.add.reduceat(weight[order], start), np.add.reduceat((positive * weight)[order], start)
    first = _pooled(won, size)
    last = np.append(first[1:], len(at)) - 1
    value = np.add.reduceat(won, first) / np.add.reduceat(size, first)
    value = np.clip(np.maximum.accumulate(value), least, 1 - least)  # accumulated: sums in two orders may differ in the last bit
    point, which = np.unique(np.concatenate([first, last]), return_index=True)
    return Isotonic(at[point], np.concatenate([value, value])[which])


def calibration_from(found: Mapping[str, Any]) -> Calibration:
    """The calibration that `as_dict` described, bit for bit, after JSON too. Raises ArtefactError in words."""
    kinds: dict[str, tuple[Callable[..., Calibration], tuple[str, ...]]] = {
        "identity": (Identity, ()),
        "prior": (Prior, ("shift",)),
        "platt": (Platt, ("a", "b")),
        "isotonic": (Isotonic, ("logit", "probability")),
    }
    kind = found.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ArtefactError(f"calibration: kind is {kind!r}: wanted one of {', '.join(kinds)}.{nearest(str(kind), kinds)}")
    make, keys = kinds[kind]
    if set(found) != {"kind", *keys}:
        raise ArtefactError(f"calibration: {kind} has the keys {', '.join(sorted(found))}: wanted {', '.join(sorted(('kind', *keys)))}.")
    try:
        return make(*(np.asarray(found[key]) if kind == "isotonic" else _number(key, found[key]) for key in keys))
    except ValueError as fault:
        raise ArtefactError(f"calibration: {fault}") from fault


def _through(logit: ArrayLike, move: Callable[[Floats], Floats], *, squash: bool = True) -> NDArray[np.floating[Any]]:
    given = np.asarray(logit)
    if given.dtype.kind not in "iuf":
        raise DataError(f"logit has dtype {given.dtype}: wanted numbers.")
    x = given.astype(np.float64).ravel()
    refuse("logit", x, np.isnan(x), "a number")
    x = _sigmoid(move(x)) if squash else move(x)
    return x.astype(given.dtype if given.dtype == np.float32 else np.float64).reshape(given.shape)


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _fitted(who: str, logit: ArrayLike, label: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    x, positive = as_numbers("logit", logit), as_numbers("label", label)
    same("label", positive, "logit", x)
    refuse("logit", x, ~np.isfinite(x), "a finite number")
    refuse("label", positive, (positive != 0) & (positive != 1), "0 or 1")
    weight = weights(weight, len(x))
    if not weight.any():
        raise DataError(f"{who} has no row of any weight among {len(x)}: wanted at least one.")
    return x, positive, weight


def _newton(z: Floats, target: Floats, weight: Floats, b: float) -> tuple[float, float]:
    """Slope and intercept of the least cross-entropy, from (0, b), halving a step until it gains."""

    def loss(a: float, b: float) -> float:
        line = a * z + b
        return float((np.logaddexp(0.0, line) - target * line) @ weight)

    a, now = 0.0, loss(0.0, b)
    for _ in range(STEPS):
        p = _sigmoid(a * z + b)
        slack, curve = (p - target) * weight, p * (1.0 - p) * weight
        down = np.array([slack @ z, slack.sum()])
        if np.abs(down).max() <= 1e-12 * weight.sum():
            return a, b
        bend = np.array([[curve @ z**2, curve @ z], [curve @ z, curve.sum()]])
        move = np.linalg.solve(bend + 1e-12 * curve.sum() * np.eye(2), -down)
        step = 1.0
        while (then := loss(a + step * move[0], b + step * move[1])) > now + 1e-4 * step * float(down @ move):
            step /= 2
            if step < 1e-10:  # as low as rounding lets it see
                return a, b
        a, b, now = a + step * float(move[0]), b + step * float(move[1]), then
    return a, b


def _pooled(won: Floats, size: Floats) -> NDArray[np.int64]:
    """Where each block begins once no block's mean is above the next one's; [K] of K points, O(K).

    Runs of falling means are pooled at once while that makes them fewer fast; what is left goes block by block.
    """
    first = np.arange(len(size))
    while True:
        many, much = np.add.reduceat(size, first), np.add.reduceat(won, first)
        mean = much / many
        opens = np.append(True, mean[1:] >= mean[:-1])
        if opens.all():
            return first
        fewer = np.count_nonzero(opens) < 0.9 * len(opens)
        first = first[opens]
        if not fewer:
            break
    blocks: list[tuple[int, float, float]] = []
    much, many = np.add.reduceat(won, first), np.add.reduceat(size, first)
    for begin, good, count in zip(first.tolist(), much.tolist(), many.tolist(), strict=True):
        while blocks and blocks[-1][1] * count > good * blocks[-1][2]:
            begin, more, rest = blocks.pop()
            good, count = good + more, count + rest
        blocks.append((begin, good, count))
    return np.array([begin for begin, _, _ in blocks])


def _want(name: str, value: float, right: bool, wanted: str) -> None:
    if not right:
        raise DataError(f"{name} is {value!r}: wanted {wanted}.")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{name} is {value!r}: wanted a number.")
    return float(value)
