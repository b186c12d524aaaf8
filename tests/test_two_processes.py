"""Two processes, each with half of every batch, take the steps that one process takes on the whole of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing
from torch import distributed as processes
from torch.nn import functional as F
from torch.testing import assert_close

from penchant.batch import Batch
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log, open_log
from penchant.data.split import leave_last_out
from penchant.models import build
from penchant.nn.dice import Dice
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model

STEPS, BATCH = 2, 21  # an odd batch, so that the halves are unequal


def load(log: Log) -> Loader:
    split = leave_last_out(log)
    return Loader.for_training(EncodedLog(log, fit_encoding(log, split.train)), split.train, LoadConfig(past=10, negatives=2), 0)


def weighed(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Weights that differ by request, so that a mean of the halves' means is not the mean of the whole."""
    for batch in batches:
        yield replace(batch, weight=(1 + batch.user.code[:, :1] % 3).float().expand_as(batch.item))


def step(model: Model, batch: Batch, *, shared: bool) -> Tensor:
    """One of plain gradient descent, by sums over all processes; the loss."""
    together = processes.all_reduce if shared else lambda x: None
    weight = batch.weight.sum()
    together(weight)
    loss = (F.binary_cross_entropy_with_logits(model(batch).logit, batch.label, reduction="none") * batch.weight).sum() / weight
    model.zero_grad()
    loss.backward()
    loss = loss.detach()
    together(loss)
    for parameter in model.parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
        together(gradient)
        parameter.data -= 0.5 * gradient
    return loss


def train(loader: Loader, name: str, part: tuple[int, int]) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    config = {"attention": [8, 4], "head": [8], "profile": 4} if name == "din" else {}
    model = build(loader.data.encoding, name, config, ItemConfig(dim=4, std=1.0)).train()
    batches = weighed(loader.epoch(0, BATCH, part=part))
    losses = torch.stack([step(model, next(batches), shared=part[1] > 1) for _ in range(STEPS)])
    return model.state_dict(), losses


def rows_of_dice(me: int) -> Tensor:
    """None in the first process; far from zero, where a sum of squares less the square of a sum has no digits left."""
    return torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) * 0.1 + 100 if me else torch.zeros(0, 3)


def dice(x: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(0)
    layer, x = Dice(3), x.requires_grad_()
    layer.alpha.data.fill_(0.2)
    out = layer(x)
    out.square().sum().backward()
    return {"out": out.detach(), "gradient": x.grad, "mean": layer.mean, "variance": layer.variance}


def work(me: int, folder: str, log: str) -> None:
    torch.set_num_threads(1)
    processes.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=me, world_size=2)
    loader = load(open_log(log))
    said = {"mf": train(loader, "mf", (me, 2)), "din": train(loader, "din", (me, 2))}
    torch.save({**said, "dice": dice(rows_of_dice(me)), "one": dice(torch.ones(1 - me, 3))}, Path(folder) / f"{me}.pt")
    processes.destroy_process_group()


@pytest.fixture(scope="module")
def said(log: Log, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        multiprocessing.spawn(work, (str(folder), str(log.folder)), nprocs=2)
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    return [torch.load(folder / f"{me}.pt") for me in range(2)]


@pytest.mark.parametrize("name", ["mf", "din"])
def test_two_halves_are_the_whole(name: str, log: Log, said: list[dict]) -> None:
    expected = train(load(log), name, (0, 1))
    for weights, losses in (one[name] for one in said):
        assert_close(losses, expected[1], rtol=1e-5, atol=1e-5)
        assert_close(weights, expected[0], rtol=1e-5, atol=1e-5)


def test_dice_of_unequal_halves(said: list[dict]) -> None:
    expected, nothing, all_of_it = dice(rows_of_dice(1)), said[0]["dice"], said[1]["dice"]
    for name, value in expected.items():
        assert_close(all_of_it[name], value, rtol=1e-4, atol=1e-3 * float(value.abs().max()) if name == "gradient" else 1e-3)
    assert nothing["out"].shape == (0, 3)
    for average in ("mean", "variance"):
        assert_close(nothing[average], expected[average])


def test_dice_of_one_row_in_all(said: list[dict]) -> None:
    expected = dice(torch.ones(1, 3))
    assert_close(said[0]["one"], expected)
    assert torch.equal(said[1]["one"]["mean"], torch.zeros(3))
    assert torch.equal(said[1]["one"]["variance"], torch.ones(3))
