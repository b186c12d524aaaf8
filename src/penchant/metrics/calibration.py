"""Whether a probability is as often true as it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from penchant.errors import DataError, unknown_name
from penchant.metrics.rows import Floats, as_numbers, at_least_one, refuse, same, starts, weights

Equal = Literal["mass", "width"]


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """The expected calibration error, and the table of the B bins that hold any rows, from low to high."""

    value: float  # sum(size * |predicted - observed|) / sum(size), in 0..1
    predicted: Floats  # [B]  the mean probability
    observed: Floats  # [B]  the share of positives
    size: Floats  # [B]  rows, or the sum of their weights
    low: Floats  # [B]  the least probability in the bin
    high: Floats  # [B]  the greatest


def calibration_error(
    probability: ArrayLike, label: ArrayLike, bins: int = 15, weight: ArrayLike | None = None, *, equal: Equal = "mass"
) -> CalibrationError:
    """ECE: how far, on average over the rows, a bin's mean probability is from its share of positives (Naeini et al. 2015).

    probability [N] in 0..1, label [N] 0 or 1, weight [N] of at least 0: a weight of 2 is the row given twice.
    equal: "mass" puts the same weight of rows into each bin (Nguyen and O'Connor 2015), "width" cuts 0..1 evenly, a
    bin holding its lower end. Rows of one probability are never parted: of equal mass they all go where the middle of
    them falls. The value is of these bins: more bins find more, and of few rows it is above 0 even where nothing is
    wrong (Roelofs et al. 2022), so compare at the same bins and rows.
    """
    if equal not in get_args(Equal):
        raise unknown_name("way to cut bins", equal, get_args(Equal))
    chance, positive, weight = _chances("calibration_error", probability, label, weight)
    bins = at_least_one("bins", bins)
    order = np.argsort(chance)
    start = starts(chance[order])  # one run for each probability
    size, won = np.add.reduceat(weight[order], start), np.add.reduceat((positive * weight)[order], start)
    value = chance[order[start]]
    value, size, won = value[size > 0], size[size > 0], won[size > 0]
    if equal == "mass":
        place = np.floor((np.cumsum(size) - size / 2) / size.sum() * bins)
    else:
        place = np.floor(value * bins)
    first = starts(np.minimum(place, bins - 1))
    each = np.add.reduceat(size, first)
    predicted = np.add.reduceat(size * value, first) / each
    observed = np.add.reduceat(won, first) / each
    error = float(each @ np.abs(predicted - observed) / each.sum())
    return CalibrationError(error, predicted, observed, each, value[first], value[np.append(first[1:], len(value)) - 1])


def predicted_over_observed(probability: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> float:
    """How many positives were foretold for each that came: sum(probability) / sum(label) (He et al. 2014).

    probability [N] in 0..1, label [N] 0 or 1, weight [N] of at least 0. 1 is right, above 1 promises too much; COPC,
    clicks over predicted clicks, is its reciprocal. It is blind to errors that cancel: see `calibration_error`.
    """
    chance, positive, weight = _chances("predicted_over_observed", probability, label, weight)
    came = float(positive @ weight)
    if not came:
        raise DataError(f"predicted_over_observed has no positive row of any weight among {len(chance)}: wanted at least one.")
    return float(chance @ weight) / came


def _chances(who: str, probability: ArrayLike, label: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    chance, positive = as_numbers("probability", probability), as_numbers("label", label)
    same("label", positive, "probability", chance)
    refuse("probability", chance, ~((chance >= 0) & (chance <= 1)), "a number from 0 to 1")
    refuse("label", positive, (positive != 0) & (positive != 1), "0 or 1")
    weight = weights(weight, len(chance))
    if not weight.any():
        raise DataError(f"{who} has no row of any weight among {len(chance)}: wanted at least one.")
    return chance, positive, weight
