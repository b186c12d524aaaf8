"""Capsules: routing, what tells them apart, reading them out, and MIND, which is made of them."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from penchant.batch import Segments
from penchant.nn.capsule import route, squash


@pytest.mark.parametrize(
    ("rounds", "golden"),
    [(1, (0.575146, 0.359246)), (2, (0.591932, 0.339261)), (3, (0.608739, 0.318623))],
)
def test_routing(rounds: int, golden: tuple[float, float]) -> None:
    e, first = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([[0.5, -0.5], [-0.5, 0.5], [0, 0]])
    expected = torch.tensor([golden, golden[::-1]])
    alone, say = route(Segments.of(torch.tensor([3])), e, first, rounds)
    assert_close(alone[0], expected, rtol=0, atol=1e-5)
    assert_close(say.sum(-1), torch.ones(3))
    together, _ = route(Segments.of(torch.tensor([3, 0, 3])), e.repeat(2, 1), first.repeat(2, 1), rounds)
    assert_close(together, torch.stack([expected, torch.zeros(2, 2), expected]), rtol=0, atol=1e-5)


def test_routing_from_nothing_leaves_all_capsules_alike() -> None:
    e = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    alike, _ = route(Segments.of(torch.tensor([3])), e, torch.zeros(3, 2), 3)
    assert_close(alike[0], torch.full((2, 2), 0.471405), rtol=0, atol=1e-5)
    assert (squash(torch.randn(50, 4) * 100).norm(dim=-1) < 1 + 1e-6).all()
