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
        if self.training and processes.is_available() and processes.is_initialized():
            return self._gated(x, self._normalised_together(flat))
        if self.training and torch.is_grad_enabled() and flat.shape[0] > 1:
            out: Tensor = _Fused.apply(flat, self.alpha, self.mean, self.variance, self.momentum, self.eps)  # type: ignore[no-untyped-call]
            return out.view(x.shape).to(x.dtype)
        return self._gated(x, self._normalised(flat))

    def _gated(self, x: Tensor, normalised: Tensor) -> Tensor:
        gate = torch.sigmoid(normalised).view(x.shape).to(x.dtype)
        return torch.lerp(x * self.alpha.to(x.dtype), x, gate)

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


class _Fused(torch.autograd.Function):
    """Dice in training with its gradient in closed form: half the passes over memory that its parts would make.

    With w = alpha + (1 - alpha) p, z the normalised s and g the gradient of f = w s:
    df/dalpha = sum g s (1 - p), and df/ds = g w + BN'(g s (1 - alpha) p (1 - p)), BN' being batch normalisation's own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, mean: Tensor, variance: Tensor, momentum: float, eps: float) -> Tensor:
        gate, now, scale = torch.native_batch_norm(x, None, None, mean, variance, True, momentum, eps)
        gate.sigmoid_()
        ctx.save_for_backward(x, alpha, gate, now, scale)
        ctx.eps = eps
        return torch.addcmul(alpha, gate, 1 - alpha).mul_(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, gate, now, scale = ctx.saved_tensors
        rest = gradient * x
        rest.addcmul_(rest, gate, value=-1)  # g s (1 - p)
        to_alpha = rest.sum(0)
        rest.mul_(gate)
        to_x, _, _ = torch.ops.aten.native_batch_norm_backward(
            rest, x, 1 - alpha, None, None, now, scale, True, ctx.eps, [True, False, False]
        )
        to_x.addcmul_(gradient, torch.addcmul(alpha, gate, 1 - alpha, out=rest))
        return to_x, to_alpha, None, None, None, None


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
