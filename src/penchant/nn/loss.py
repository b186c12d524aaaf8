"""What the losses of models and those of runs share."""

from __future__ import annotations

from torch import Tensor

from penchant.batch import Batch
from penchant.errors import TrainingError

TINY = 1.2e-38  # the least total weight: with nothing to learn from, a loss is 0 and not 0 / 0


def labels(batch: Batch) -> Tensor:
    """float32 [R, C]. Raises TrainingError when the batch has none."""
    if batch.label is None:
        raise TrainingError("this batch has no labels; a loss was asked for.")
    return batch.label


def mean(each: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of all, weighted where there are weights."""
    return each.mean() if weight is None else (each * weight).sum() / weight.sum().clamp(min=TINY)
