"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, Output
from penchant.errors import TrainingError


def binary_cross_entropy(output: Output, batch: Batch) -> Tensor:
    """The mean over candidates of -y log p - (1 - y) log(1 - p), weighted where the batch has weights."""
    if batch.label is None:
        raise TrainingError("this batch has no labels; a loss was asked for.")
    if batch.weight is None:
        return F.binary_cross_entropy_with_logits(output.logit, batch.label)
    each = F.binary_cross_entropy_with_logits(output.logit, batch.label, reduction="none")
    return (each * batch.weight).sum() / batch.weight.sum()


def total(output: Output, batch: Batch) -> Tensor:
    """The loss of the candidates and whatever else the model says is to be minimised."""
    return sum(output.losses.values(), start=binary_cross_entropy(output, batch))
