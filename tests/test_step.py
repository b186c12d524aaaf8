"""What makes a step: rows, clipping, several batches together, precision, schedules, means of weights."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from said import Said
from torch import Tensor, nn

from penchant.config import read
from penchant.data.load import Loader
from penchant.data.log import Log
from penchant.errors import ConfigError
from penchant.models import build
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig
from penchant.train import checkpoint
from penchant.train.average import Average
from penchant.train.config import RunConfig, ScheduleConfig, TrainConfig
from penchant.train.estimate import estimate
from penchant.train.fit import fit
from penchant.train.loss import BCE
from penchant.train.optimiser import Optimiser, Scale
from penchant.train.rows import TABLES, RowAdagrad, RowSGD
from penchant.train.step import PRECISIONS, Step

STEPS = ([1, 1, 4], [0, 4, 4], [4, 1, 0])  # rows that occur


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def run_config(log: Log, **train: Any) -> RunConfig:
    base = {"log": str(log.folder), "protocol": "loo-full", "data": {"past": 10, "negatives": 2}, "item": {"dim": 4}}
    return read(
        RunConfig,
        {
            **base,
            "model": {"name": "pooling", "activation": "prelu"},
            "train": {"epochs": 2, "batch_size": 32, "rate": 3e-3, "patience": 5, **train},
        },
    )


# -------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("size", [5, 50], ids=["small table", "large table"])
def test_adagrad_keeps_a_number_a_row(size: int) -> None:
    table = Table(size, 3, std=1.0)
    weight, push, summed = table.weight.detach().double().numpy().copy(), torch.randn(3, 3), np.zeros(size)
    adagrad = RowAdagrad([table.weight], 0.1)
    for rows in STEPS:
        adagrad.zero_grad()
        (table(torch.tensor(rows)) * push).sum().backward()
        adagrad.step()
        for row in set(rows):
            gradient = sum(push[place].double().numpy() for place, other in enumerate(rows) if other == row)
            summed[row] += (gradient**2).sum() / 3
            weight[row] -= 0.1 * gradient / (math.sqrt(summed[row]) + 1e-8)
    torch.testing.assert_close(table.weight.detach(), torch.from_numpy(weight).float(), rtol=1e-5, atol=1e-6)
    assert [value.shape for value in adagrad.state[table.weight].values()] == [(size,)]


def test_gradient_descent_of_rows_is_that_of_the_table() -> None:
    table, dense = Table(50, 3, std=1.0), nn.Embedding(50, 3)
    dense.weight.data.copy_(table.weight.data)
    push = torch.randn(3, 3)
    for module, optimiser in ((table, RowSGD([table.weight], 0.1)), (dense, torch.optim.SGD(dense.parameters(), 0.1))):
        for rows in STEPS:
            optimiser.zero_grad()
            (module(torch.tensor(rows)) * push).sum().backward()
            optimiser.step()
    torch.testing.assert_close(table.weight, dense.weight)


@pytest.mark.parametrize("name", list(TABLES))
def test_a_run_learns_with_each(name: str, log: Log, tmp_path: Path) -> None:
    rate = {"adam": 3e-3, "adagrad": 3e-2, "sgd": 1.0}[name]
    run = fit(run_config(log, tables=name, table_rate=rate), tmp_path / "run")
    found = losses(run.folder)
    assert found[-1] < found[0]
    kept = checkpoint.load_file(run.folder / "checkpoints" / "last" / checkpoint.OPTIMISER)
    assert {key.rpartition(".")[2] for key in kept if key.startswith("1.")} == {
        "adam": {"step", "mean", "square"},
        "adagrad": {"sum"},
        "sgd": set(),
    }[name]


# ------------------------------------------------------------------------------------------------------------ clipping


class Both(nn.Module):
    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.table = Table(50, 3, std=1.0) if sparse else nn.Embedding(50, 3)
        self.linear = nn.Linear(3, 1)

    def forward(self, rows: Sequence[int]) -> Tensor:
        return self.linear(self.table(torch.tensor(rows))).square().sum()


@pytest.mark.parametrize("most", [0.5, 1e4])
def test_clipping_is_that_of_all_gradients_together(most: float) -> None:
    ours, theirs = Both(sparse=True), Both(sparse=False)
    theirs.load_state_dict(ours.state_dict())
    optimiser = Optimiser(ours, 0.1, 0.1, tables="sgd", clip=most)
    ours([1, 1, 4]).backward()
    theirs([1, 1, 4]).backward()
    norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), most)
    assert 0.5 < norm < 1e4
    optimiser.step()
    torch.testing.assert_close(ours.linear.weight.grad, theirs.linear.weight.grad)
    before = theirs.table.weight.detach().clone()
    torch.testing.assert_close(ours.table.weight.detach(), before - 0.1 * theirs.table.weight.grad)


# ------------------------------------------------------------------------------------------------------ several batches


PLAIN = {"mf": {}, "pooling": {"activation": "prelu"}}  # no layer of which sees a batch as a whole


def learner(loader: Loader, name: str = "mf", **keys: Any) -> tuple[nn.Module, Step]:
    torch.manual_seed(0)
    model = build(loader.data.encoding, name, PLAIN[name], ItemConfig(dim=4)).train()
    return model, Step(model, Optimiser(model, 0.01, 0.01, **keys), BCE())


@pytest.mark.parametrize("name", ["mf", "pooling"])
def test_batches_of_one_step_are_one_batch(name: str, loader: Loader) -> None:
    position = loader.position[:60]
    parts = [loader.batch(part, 0) for part in np.split(position, [16, 32, 48])]  # the last is smaller
    one, many = learner(loader, name, tables="sgd"), learner(loader, name, tables="sgd")
    losses = one[1]([loader.batch(position, 0)]), many[1](parts)
    torch.testing.assert_close(*losses)
    for (key, expected), found in zip(one[0].named_parameters(), many[0].parameters(), strict=True):
        torch.testing.assert_close(found.grad.to_dense(), expected.grad.to_dense(), rtol=1e-4, atol=1e-7, msg=key)


def written(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in written(run) if "loss" in line]


def test_a_run_of_several_batches_a_step(log: Log, tmp_path: Path) -> None:
    fit(run_config(log), tmp_path / "whole")
    fit(run_config(log, batch_size=16, accumulate=2), tmp_path / "halves")
    steps = [[(line["step"], line["epoch"]) for line in written(tmp_path / name) if "step" in line] for name in ("whole", "halves")]
    assert steps[0] == steps[1]
    np.testing.assert_allclose(losses(tmp_path / "whole"), losses(tmp_path / "halves"), rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_about_the_same(precision: str, log: Log, tmp_path: Path) -> None:
    runs = [fit(run_config(log, precision=name, epochs=4), tmp_path / name) for name in ("float32", precision)]
    found = [losses(run.folder) for run in runs]
    np.testing.assert_allclose(*found, rtol=0.02)
    assert found[0] != found[1]
    assert all(weight.dtype == torch.float32 for weight in runs[1].model.parameters())


def test_products_are_of_the_precision(loader: Loader) -> None:
    seen: list[torch.dtype] = []
    for name, dtype in PRECISIONS.items():
        model, _ = learner(loader, "pooling")
        seen.clear()
        for part in model.modules():
            if isinstance(part, nn.Linear):
                part.register_forward_hook(lambda part, given, out: seen.append(out.dtype))
        Step(model, Optimiser(model, 0.01, 0.01), BCE(), name)([loader.batch(loader.position[:20], 0)])
        assert set(seen) == {dtype}


@pytest.mark.parametrize("where", ["dense", "table"])
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_step_of_which_any_gradient_is_not_finite_is_left_out(where: str, clip: float | None, value: float) -> None:
    model = Both(sparse=True)
    optimiser = Optimiser(model, 0.1, 0.1, 0.1, scaled=True, clip=clip, average=0.9)
    assert optimiser.scale is not None
    for number in range(3):
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        kept = {name: tensor.clone() for name, tensor in optimiser.tensors().items() if not name.startswith("scale.")}
        optimiser.zero_grad()
        optimiser.backward(model([1, 1, 4]))
        if number == 1:
            gradient = model.linear.weight.grad if where == "dense" else model.table.weight.grad._values()
            gradient.flatten()[0] = value
        optimiser.step()
        same = all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
        assert same == (number == 1)
        if number == 1:
            now = optimiser.tensors()
            assert all(torch.equal(tensor, now[name]) for name, tensor in kept.items())
    assert (optimiser.scale.value, optimiser.scale.skipped, optimiser.scale.good) == (2.0**15, 1, 1)


def test_steps_that_are_left_out_are_said(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.train.optimiser.Scale", lambda: Scale(value=2.0**140))  # no float32 holds what comes of it
    fit(run_config(log, precision="float16", epochs=8), tmp_path / "run")
    found = [line.get("skipped", 0) for line in written(tmp_path / "run") if "loss" in line]
    assert found == sorted(found)
    assert found[0] == 20
    fit(run_config(log, precision="float32"), tmp_path / "plain")
    assert not any("skipped" in line for line in written(tmp_path / "plain"))


def test_a_scale_is_doubled_after_many_good_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.train.optimiser.GOOD", 3)
    scale = Scale()
    for expected in (2.0**16, 2.0**16, 2.0**17, 2.0**17):
        assert scale.held(torch.ones(()))
        assert scale.value == expected


class Summed(nn.Module):
    """Two tables whose vectors are added: both get the same tensor as their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Table(50, 3, std=1.0), Table(50, 3, std=1.0)

    def forward(self, rows: Sequence[int]) -> Tensor:
        place = torch.tensor(rows)
        return (self.one(place) + self.other(place)).square().sum()


@pytest.mark.parametrize("keys", [{"scaled": True}, {"clip": 0.5}])
def test_tables_that_share_a_gradient_are_scaled_once(keys: dict[str, Any]) -> None:
    model, plain = Summed(), Summed()
    plain.load_state_dict(model.state_dict())
    before = plain.one.weight.detach().clone()
    for one, more in ((model, keys), (plain, {})):
        optimiser = Optimiser(one, 0.1, 0.1, tables="sgd", **more)
        optimiser.backward(one([1, 4, 7]))
        optimiser.step()
    moved = [(weight.detach() - before).norm() for weight in (model.one.weight, plain.one.weight)]
    norm = math.sqrt(2) * float(moved[1]) / 0.1
    torch.testing.assert_close(moved[0], moved[1] * (0.5 / norm if "clip" in keys else 1.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(model.other.weight - plain.other.weight, model.one.weight - plain.one.weight)


# ------------------------------------------------------------------------------------------------------------ schedules


def multiples(keys: dict[str, Any], drops: int = 0) -> list[float]:
    """Of two epochs of three steps."""
    return [read(ScheduleConfig, keys).multiple(step, 3, 2, drops) for step in range(6)]


def test_schedules() -> None:
    assert multiples({}) == [1.0] * 6
    assert multiples({"warm_up": 4}) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert multiples({"name": "epoch"}) == [1.0] * 3 + [0.5] * 3
    assert multiples({"name": "epoch", "factor": 0.1, "warm_up": 2}) == pytest.approx([0.5, 1.0, 1.0, 0.1, 0.1, 0.1])
    assert multiples({"name": "plateau", "factor": 0.2}, drops=2) == pytest.approx([0.04] * 6)
    assert multiples({"name": "cosine"}) == pytest.approx([1.0, 0.933013, 0.75, 0.5, 0.25, 0.066987], abs=1e-6)
    with pytest.raises(ConfigError, match=r"schedule.factor is of 'epoch' and 'plateau'; the schedule is 'cosine'"):
        read(ScheduleConfig, {"name": "cosine", "factor": 0.1})


def test_rates_follow_the_schedule(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []
    real = Optimiser.step

    def step(optimiser: Optimiser, multiple: float = 1.0) -> None:
        real(optimiser, multiple)
        seen.append(tuple(group["lr"] for part in optimiser.parts for group in part.param_groups))

    monkeypatch.setattr(Optimiser, "step", step)
    fit(run_config(log, schedule={"name": "epoch", "warm_up": 2}, table_rate=1.0), tmp_path / "run")
    half = len(seen) // 2
    assert [rate[0] for rate in seen] == pytest.approx([1.5e-3] + [3e-3] * (half - 1) + [1.5e-3] * half)
    assert [set(rate[1:]) for rate in seen] == [{0.5}] + [{1.0}] * (half - 1) + [{0.5}] * half


def test_a_plateau_is_a_validation_that_is_no_better(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drops: dict[int, int] = {}  # of the first step of an epoch
    real = ScheduleConfig.multiple

    def multiple(config: ScheduleConfig, step: int, steps: int, epochs: int, dropped: int) -> float:
        drops.setdefault(step // steps, dropped)
        return real(config, step, steps, epochs, dropped)

    monkeypatch.setattr(ScheduleConfig, "multiple", multiple)
    run = fit(run_config(log, schedule={"name": "plateau"}, epochs=12, rate=0.1), tmp_path / "run")
    found = [line["valid"]["ndcg@10"] for line in written(run.folder) if "valid" in line]
    no_better = [value <= max(found[:at], default=-1.0) for at, value in enumerate(found)]
    assert list(drops.values()) == [sum(no_better[:at]) for at in range(len(drops))]
    assert max(drops.values()) > 1


# ----------------------------------------------------------------------------------------------------- means of weights


@given(steps=st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=12), decay=st.sampled_from([0.5, 0.9, 0.99, 0.999999]))
def test_means_of_rows_are_those_of_a_table_that_is_looked_at_each_step(steps: list[list[int]], decay: float) -> None:
    draw = torch.Generator().manual_seed(len(steps))
    table, dense = torch.randn(6, 2, generator=draw), torch.randn(3, generator=draw)
    average = Average([dense], [table], decay)
    sums = [torch.zeros_like(table, dtype=torch.float64), torch.zeros_like(dense, dtype=torch.float64)]
    for number, rows in enumerate(steps, start=1):
        row = torch.tensor(sorted(set(rows)), dtype=torch.int64)
        given = {table: (row, torch.zeros(len(row), 2))}
        average.before(given)
        table[row] += torch.randn(len(row), 2, generator=draw)
        dense += torch.randn(3, generator=draw)
        average.after(given)
        sums = [decay * one + (1 - decay) * now.double() for one, now in zip(sums, (table, dense), strict=True)]
        means = dict(zip(("dense", "table"), average.means(), strict=True))
        torch.testing.assert_close(means["table"].double(), sums[0] / (1 - decay**number), rtol=2e-5, atol=1e-6)
        torch.testing.assert_close(means["dense"].double(), sums[1] / (1 - decay**number), rtol=2e-5, atol=1e-6)


def test_moments_of_batches_are_averaged_too(loader: Loader) -> None:
    torch.manual_seed(0)
    model = build(loader.data.encoding, "pooling", {}, ItemConfig(dim=4)).train()
    step = Step(model, Optimiser(model, 0.01, 0.01, average=0.5), BCE())
    name = next(name for name in model.state_dict() if name.endswith(".mean"))
    seen = []
    for _ in range(3):
        step([loader.batch(loader.position[:20], 0)])
        seen.append(model.state_dict()[name].clone())
    with step.optimiser.averaged():
        inside = model.state_dict()[name].clone()
    torch.testing.assert_close(inside, (seen[0] + 2 * seen[1] + 4 * seen[2]) / 7)


def test_inside_are_the_means_and_outside_the_weights(loader: Loader) -> None:
    model, step = learner(loader, "pooling", average=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with step.optimiser.averaged():  # nothing has been learned yet
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for _ in range(3):
        step([loader.batch(loader.position[:20], 0)])
    after = {name: value.clone() for name, value in model.state_dict().items()}
    with step.optimiser.averaged():
        inside = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(inside[name], after[name]) for name in after)


def test_what_is_validated_and_kept_are_the_means(log: Log, tmp_path: Path) -> None:
    settings = run_config(log, average=0.9, epochs=1)
    run = fit(settings, tmp_path / "run")
    last = checkpoint.load_file(run.folder / "checkpoints" / "last" / checkpoint.WEIGHTS)
    best = checkpoint.load_file(run.folder / "checkpoints" / "best" / checkpoint.WEIGHTS)
    optimiser = Optimiser(run.model, 1e-3, 1e-3, average=0.9)
    checkpoint.restore(run.folder / "checkpoints" / "last", run.model, optimiser)
    with optimiser.averaged():
        means = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert all(torch.equal(best[name], means[name]) for name in best)
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_ill_formed() -> None:
    for keys in ({"average": 1.0}, {"clip": 0.0}, {"accumulate": 0}, {"precision": "int8"}, {"tables": "adamw"}):
        with pytest.raises(ConfigError, match=next(iter(keys))):
            read(TrainConfig, keys)


# ------------------------------------------------------------------------------------------------------------- estimates


def test_an_estimate_writes_nothing_and_counts_what_a_run_does(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = run_config(log, epochs=3, valid_every=10, patience=20)
    found = estimate(settings, log=log)
    assert list(tmp_path.iterdir()) == []
    run = fit(settings, tmp_path / "run", log=log)
    lines = written(run.folder)
    assert found.epochs * found.steps == max(line["step"] for line in lines if "step" in line)
    assert found.validations == sum("valid" in line for line in lines)
    assert found.parameters == sum(value.numel() for value in run.model.parameters())
    assert found.seconds == pytest.approx(
        found.begin_seconds + 3 * found.steps * found.step_seconds + found.validations * found.validation_seconds
    )
    kept = sum(file.stat().st_size for file in run.folder.rglob("*") if file.is_file())
    replaced = sum(file.stat().st_size for file in (run.folder / "checkpoints").rglob("*.safetensors"))
    assert found.disk == pytest.approx(kept + replaced, rel=0.15)


def test_an_estimate_by_the_command_line(run: Said, log: Log, tmp_path: Path) -> None:
    words = ["--log", str(log.folder), "--protocol", "loo-full", "--model.name", "pooling", "--train.epochs", "2"]
    said = run("train", *words, "--estimate")
    assert (said.status, said.err) == (0, "")
    assert re.fullmatch(
        r"parameters  [\d,]+\nmemory      [\d.]+ [MG]B\ndisk        [\d.]+ [kM]B\n"
        r"time        \d+ s for all epochs: \S+ s to begin, 2 epochs of \d+ steps of \S+ s, 2 validations of \S+ s\n",
        said.out,
    )
    assert json.loads(run("train", *words, "--estimate", "--json").out)["epochs"] == 2
    assert run("train", "--resume", "x", "--estimate").status == 2


def test_a_validation_of_more_people_takes_as_much_more(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    people = []

    def slow(*given: Any, people: int, **more: Any) -> None:
        judged.append(people)
        time.sleep(0.01 + 0.002 * people)

    judged = people
    monkeypatch.setattr("penchant.train.estimate.judge", slow)
    monkeypatch.setattr("penchant.train.estimate.PEOPLE", 20)
    found = estimate(run_config(log, valid_people=50), log=log)
    assert people == [5, 5, 20]
    assert 0.11 < found.validation_seconds < 0.25


@pytest.mark.slow
def test_an_estimate_is_right_within_a_factor_of_two(log: Log, tmp_path: Path) -> None:
    settings = run_config(log, epochs=40, patience=40, batch_size=8)
    found = estimate(settings, log=log)
    begun = time.perf_counter()
    fit(settings, tmp_path / "run", log=log)
    assert 0.5 < found.seconds / (time.perf_counter() - begun) < 2
