"""L2 of embedding tables, on the rows of a batch alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from penchant.data.log import Log
from penchant.nn.embedding import Table
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.optimiser import Optimiser
from penchant.train.rows import RowAdam

STEPS = ([1, 1, 4], [0, 4, 4], [4, 1, 0])  # rows that occur; row 0 is UNKNOWN


def plain(weight: NDArray[np.float64], push: NDArray[np.float64], rate: float, l2: float) -> NDArray[np.float64]:
    """Adam by its equations on the rows that occur, whose gradient is that of push . w + l2 / 2 |w|^2."""
    weight, mean, square = weight.copy(), np.zeros_like(weight), np.zeros_like(weight)
    for step, rows in enumerate(STEPS, start=1):
        for row in sorted(set(rows)):
            gradient = sum(push[place] for place, other in enumerate(rows) if other == row) + l2 * weight[row]
            mean[row] = 0.9 * mean[row] + 0.1 * gradient
            square[row] = 0.999 * square[row] + 0.001 * gradient**2
            weight[row] -= rate * (mean[row] / (1 - 0.9**step)) / (np.sqrt(square[row] / (1 - 0.999**step)) + 1e-8)
    return weight


@pytest.mark.parametrize("l2", [0.0, 0.5])
@pytest.mark.parametrize("size", [5, 50], ids=["small table", "large table"])
def test_l2_is_added_once_to_each_row_that_occurs(size: int, l2: float) -> None:
    table = Table(size, 3, std=1.0)
    with torch.no_grad():
        table.weight[0] = 2.0  # as if UNKNOWN had learned something
    before, push = table.weight.detach().clone(), torch.randn(3, 3)
    adam = RowAdam([table.weight], 0.1, l2=l2)
    for rows in STEPS:
        adam.zero_grad()
        (table(torch.tensor(rows)) * push).sum().backward()
        adam.step()
    expected = plain(before.double().numpy(), push.double().numpy(), 0.1, l2)
    torch.testing.assert_close(table.weight.detach(), torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)
    still = [row for row in range(size) if row not in {0, 1, 4}]
    assert torch.equal(table.weight[still], before[still])


def test_it_is_the_gradient_of_half_the_squares() -> None:
    """Said to autograd instead, of a dense table whose other rows are looked at."""
    table, dense = Table(50, 3, std=1.0), torch.nn.Embedding(50, 3)
    dense.weight.data.copy_(table.weight.data)
    push, rows = torch.randn(3, 3), [1, 1, 4]
    ours, theirs = RowAdam([table.weight], 0.1, l2=0.3), torch.optim.Adam(dense.parameters(), 0.1)
    for _ in range(3):
        for module, optimiser in ((table, ours), (dense, theirs)):
            optimiser.zero_grad()
            loss = (module(torch.tensor(rows)) * push).sum()
            if module is dense:
                loss = loss + 0.3 / 2 * module.weight[[1, 4]].square().sum()
            loss.backward()
            optimiser.step()
    torch.testing.assert_close(table.weight, dense.weight)


def test_a_row_that_nothing_pulls_shrinks() -> None:
    table = Table(50, 3, std=1.0)
    optimiser = Optimiser(table, rate=0.01, table_rate=0.01, table_l2=1.0)
    before = table.weight.detach().clone()
    for _ in range(20):
        optimiser.zero_grad()
        (0 * table(torch.tensor([7]))).sum().backward()
        optimiser.step()
    assert (table.weight[7].abs() < before[7].abs()).all()
    assert torch.equal(table.weight[8:], before[8:])


def test_l2_is_of_tables_alone() -> None:
    """What is dense has weight_decay instead."""
    linear, table = torch.nn.Linear(3, 1), Table(5, 3)
    both = torch.nn.Sequential(table, linear)
    before = linear.weight.detach().clone()
    optimiser = Optimiser(both, rate=0.1, table_rate=0.1, table_l2=10.0)
    (0 * both(torch.tensor([1]))).sum().backward()
    optimiser.step()
    assert torch.equal(linear.weight, before)


def test_a_run_s_table_l2_keeps_its_tables_small(log: Log, tmp_path: Path) -> None:
    def size(l2: float) -> float:
        train = TrainConfig(epochs=2, batch_size=64, rate=0.02, table_l2=l2)
        run = fit(RunConfig(log=str(log.folder), protocol="loo-full", model={"name": "mf"}, train=train), tmp_path / str(l2))
        return sum(float(part.weight.detach().square().sum()) for part in run.model.modules() if isinstance(part, Table))

    assert size(1.0) < 0.8 * size(0.0)
