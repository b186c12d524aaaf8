"""Dice, the data-adaptive activation of DIN (Zhou et al., KDD 2018, section 5.2, eq. 9).

    p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps)),   f(s) = p(s) s + (1 - p(s)) alpha s

E and Var are those of the batch in training and moving averages at test, per channel, over real rows alone: there are
no others here. Where several processes share a batch, they are those of the whole of it. alpha is learned and starts at 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as processes
from torch.nn import functional as F


class Dice(nn.Module):
    """[*, dim] -> [*, dim]."""

    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))  # moving averages
        self.register_buffer("variance", torch.ones(dim))
        self.alpha = nn.Parameter(torch.zeros(dim))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor) -> Tensor:
        flat = x.float().reshape(-1, x.shape[-1])
        shared = self.training and processes.is_available() and processes.is_initialized()
        gate = torch.sigmoid(self._normalised_together(flat) if shared else self._normalised(flat))
        return torch.lerp(x * self.alpha.to(x.dtype), x, gate.view(x.shape).to(x.dtype))

    def _normalised(self, flat: Tensor) -> Tensor:
        moments = self.training and flat.shape[0] > 1  # one row has none
        return F.batch_norm(flat, self.mean, self.variance, training=moments, momentum=self.momentum, eps=self.eps)

    def _normalised_together(self, flat: Tensor) -> Tensor:
        """The same by the moments of all processes' rows: how many, their sum, then their squares about the mean of all."""
        total = _everywhere(F.pad(flat.sum(0), (0, 1), value=float(flat.shape[0])))
        count = total[-1].detach()
        mean = total[:-1] / count.clamp(min=1)
        squares = _everywhere((flat - mean).square().sum(0))
        enough = count > 1
        with torch.no_grad():
            rate = self.momentum * enough
            self.mean.lerp_(mean, rate)
            self.variance.lerp_(squares / (count - 1).clamp(min=1), rate)
        mean = torch.where(enough, mean, self.mean)
        variance = torch.where(enough, squares / count.clamp(min=1), self.variance)
        return (flat - mean) / (variance + self.eps).sqrt()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each one's loss depends on it, so its gradient is a sum over them too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        processes.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _everywhere(gradient.contiguous())


def _everywhere(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total
