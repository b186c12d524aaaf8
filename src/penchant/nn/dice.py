"""Dice, the data-adaptive activation of DIN (Zhou et al., KDD 2018, section 5.2, eq. 9).

    p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps)),   f(s) = p(s) s + (1 - p(s)) alpha s

E and Var are those of the batch in training and moving averages at test, per channel, over real rows alone: there are
no others here. alpha is learned and starts at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dice(nn.Module):
    """[*, dim] -> [*, dim]."""

    def __init__(self, dim: int, *, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=eps, momentum=momentum, affine=False)
        self.alpha = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.float().reshape(-1, x.shape[-1])
        gate = torch.sigmoid(self._normalised(flat)).view(x.shape).to(x.dtype)
        return torch.lerp(x * self.alpha.to(x.dtype), x, gate)

    def _normalised(self, flat: Tensor) -> Tensor:
        if self.training and flat.shape[0] < 2:  # one row has no moments
            mean, variance = self.norm.running_mean, self.norm.running_var
            return F.batch_norm(flat, mean, variance, eps=self.norm.eps)
        out: Tensor = self.norm(flat)
        return out
