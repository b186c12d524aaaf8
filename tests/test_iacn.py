"""The auxiliary network around any model: the mixture of gradients, its loss, and its control."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from penchant.models.iacn import scale_grad


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_scale_grad(scale: float) -> None:
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(scale_grad(x, scale), x)
    assert_close(torch.autograd.grad(scale_grad(x, scale).square().sum(), x)[0], scale * 2 * x)


def test_gradient_mixing() -> None:
    table = torch.tensor([[1.0, 2], [3, 4]], requires_grad=True)
    loss = scale_grad(table, 0.3).square().sum() + 0.5 * 3 * scale_grad(table, 0.7).sum()
    loss.backward()
    assert float(loss.detach()) == 45
    assert_close(table.grad, torch.tensor([[1.65, 2.25], [2.85, 3.45]]))
