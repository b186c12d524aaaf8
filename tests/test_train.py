"""A run: its folder, its determinism, when it stops, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penchant.batch import Batch, Output
from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.errors import ConfigError, ExistsError, TrainingError, UnknownNameError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.models import MODELS
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.loop import Progress
from penchant.train.loss import BCE
from penchant.train.rows import RowAdam, rows_of


def config(log: Log, name: str = "din", **own: Any) -> RunConfig:
    fast = TrainConfig(epochs=2, batch_size=64, rate=3e-3, patience=5)
    return RunConfig(
        log=str(log.folder), protocol="loo-full", model={"name": name, **own}, data=LoadConfig(past=10, negatives=2), train=fast
    )


def test_a_run_leaves_its_folder(log: Log, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run = fit(config(log), tmp_path / "run", report=seen.append)
    assert {path.name for path in run.folder.iterdir()} == {"config.toml", "metrics.jsonl", "checkpoints", "bundle", "diagnosis.json"}
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"best", "last"}
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    valid = [line["valid"] for line in lines if "valid" in line]
    assert [line["epoch"] for line in valid] == [0, 1]
    assert run.best["ndcg@10"] == max(line["ndcg@10"] for line in valid)
    assert sum("loss" in line for line in lines) == len([at for at in seen if at.valid is None]) > 0
    assert all(at.rate > 0 for at in seen if at.valid is None)


@pytest.mark.parametrize("name", ["mf", "din"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(log: Log, tmp_path: Path, name: str) -> None:
    settings = config(log, name)
    runs = [fit(c, tmp_path / n) for n, c in {"a": settings, "b": settings, "c": settings.model_copy(update={"seed": 1})}.items()]
    weights = [(run.folder / "bundle" / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_the_best_weights_are_kept_not_the_last(log: Log, tmp_path: Path) -> None:
    settings = config(log).model_copy(update={"train": TrainConfig(epochs=8, batch_size=32, rate=0.05, patience=2)})
    run = fit(settings, tmp_path / "run")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    valid = [line["valid"] for line in lines if "valid" in line]
    best = max(valid, key=lambda line: line["ndcg@10"])
    assert run.best["step"] == best["step"]
    worse = len(valid) - 1 - valid.index(best)
    assert worse == 2 or len(valid) == 8  # patience, or all epochs
    judged = judge(run.model, run.data, run.split, PROTOCOLS["loo-full"], past=10, part="valid")
    assert judged.value("ndcg@10") == best["ndcg@10"]


def test_a_loss_that_is_no_number_ends_the_run(log: Log, tmp_path: Path) -> None:
    settings = config(log).model_copy(update={"train": TrainConfig(epochs=3, batch_size=16, rate=1e30)})
    with pytest.raises(
        TrainingError, match=r"^.*run: the loss is (nan|inf) at step \d+; a smaller train.rate or train.table_rate may help.$"
    ):
        fit(settings, tmp_path / "run")


def test_a_run_that_fails_before_its_first_validation_leaves_nothing(log: Log, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        fit(config(log).model_copy(update={"train": TrainConfig(epochs=3, batch_size=16, rate=1e30)}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_nothing_to_learn_leaves_nothing(log: Log, tmp_path: Path) -> None:
    settings = config(log).model_copy(update={"data": LoadConfig(negatives=0)})
    with pytest.raises(ConfigError) as fault:
        fit(settings, tmp_path / "run")
    assert str(fault.value) == "data.negatives is 0, but every training event is a positive: there is nothing to tell them from."
    assert list(tmp_path.iterdir()) == []


def test_the_last_steps_are_validated_too(log: Log, tmp_path: Path) -> None:
    settings = config(log).model_copy(update={"train": TrainConfig(epochs=2, batch_size=64, valid_every=10_000)})
    run = fit(settings, tmp_path / "run")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    (valid,) = [line["valid"] for line in lines if "valid" in line]
    assert valid["step"] == run.best["step"] == max(line["step"] for line in lines if "loss" in line)


def test_a_key_of_the_item_encoder_leaves_the_model_s_other_wishes(log: Log, tmp_path: Path) -> None:
    run = fit(config(log, "mf").model_copy(update={"item": ItemConfig(dim=7)}), tmp_path / "run")
    assert run.bundle.item == ItemConfig(dim=7, attributes=False, std=0.1)
    assert run.model.item.dim == 8  # and the bias


def test_refusals(log: Log, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ExistsError) as there:
        fit(config(log), tmp_path / "there")
    assert str(there.value) == f"{tmp_path / 'there'}: this exists already; remove it, or train into another folder."
    with pytest.raises(UnknownNameError) as name:
        fit(config(log, "dinn"), tmp_path / "run")
    assert str(name.value) == f"'dinn' is not a model: there are {', '.join(MODELS)}. Did you mean 'din'?"
    with pytest.raises(ConfigError) as key:
        fit(config(log, hed=[3]), tmp_path / "run")
    assert str(key.value) == "run: model.hed is not a key of DINConfig. Did you mean 'head'?"
    monitor = config(log).model_copy(update={"train": TrainConfig(monitor="ndgc@10", epochs=1)})
    with pytest.raises(UnknownNameError) as metric:
        fit(monitor, tmp_path / "run2")
    assert str(metric.value).startswith("'ndgc@10' is not a metric here: there are hr@10")


def test_row_adam_is_adam_on_the_rows_of_a_batch() -> None:
    torch.manual_seed(0)
    table, dense = Table(6, 3), torch.nn.Embedding(6, 3)
    dense.weight.data.copy_(table.weight.data)
    before = table.weight.detach().clone()
    rows, adam = RowAdam([table.weight], 0.1), torch.optim.Adam(dense.parameters(), 0.1)
    for ids in ([1, 1, 4], [1, 4, 4], [4, 1, 1]):
        index = torch.tensor(ids)
        for module, optimiser in ((table, rows), (dense, adam)):
            optimiser.zero_grad()
            (module(index) * torch.arange(9.0).view(3, 3)).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(table.weight[[1, 4]], dense.weight[[1, 4]])
    assert torch.equal(table.weight[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_rows_of_sums_each_row_once() -> None:
    gradient = torch.sparse_coo_tensor(torch.tensor([[3, 0, 3]]), torch.tensor([[1.0, 2], [3, 4], [5, 6]]), (5, 2))
    row, value = rows_of(gradient)
    assert row.tolist() == [0, 3]
    assert value.tolist() == [[3, 4], [6, 8]]


def test_weights_weigh(loader: Any) -> None:
    batch: Batch = loader.batch(loader.position[:4], 0)
    logit = torch.randn(batch.item.shape)
    weight = torch.rand(batch.item.shape)
    weighted = Batch(**{**batch.__dict__, "weight": weight})
    plain = float(BCE()(Output(logit=logit), batch))
    assert batch.label is not None
    by_hand = [
        -math.log(1 / (1 + math.exp(-z if y else z))) for z, y in zip(logit.flatten().tolist(), batch.label.flatten().tolist(), strict=True)
    ]
    assert plain == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert float(BCE()(Output(logit=logit), weighted)) == pytest.approx(np.average(by_hand, weights=weight.flatten()), rel=1e-5)
    with pytest.raises(TrainingError) as fault:
        BCE()(Output(logit=logit), Batch(**{**batch.__dict__, "label": None}))
    assert str(fault.value) == "this batch has no labels; a loss was asked for."


def test_ncf_starts_from_its_trained_halves(log: Log, tmp_path: Path) -> None:
    budget = TrainConfig(epochs=1, batch_size=64)
    halves = []
    for part in ("gmf", "mlp"):
        run = fit(
            RunConfig(log=str(log.folder), protocol="loo-full", model={"name": "ncf", "parts": [part]}, train=budget),
            tmp_path / part,
            log=log,
        )
        halves.append(run.bundle.model)
    start = tuple(str(tmp_path / part / "bundle") for part in ("gmf", "mlp"))
    still = budget.model_copy(update={"rate": 1e-12})
    run = fit(
        RunConfig(log=str(log.folder), protocol="loo-full", model={"name": "ncf"}, start=start, train=still), tmp_path / "both", log=log
    )
    position = run.split.test[:20]
    batch = Loader(data=run.data, position=position, config=LoadConfig(past=0), seed=0).assemble(position, run.data.rows(position)[:, None])
    with torch.inference_mode():
        mean = sum(half(batch).logit for half in halves) / 2
        torch.testing.assert_close(run.model.eval()(batch).logit, mean, atol=1e-6, rtol=1e-5)
    write_world(tmp_path / "raw", people=61)
    other = prepare(tmp_path / "raw", tmp_path / "elsewhere")
    with pytest.raises(ConfigError) as caught:
        fit(RunConfig(log=str(other.folder), protocol="loo-full", model={"name": "ncf"}, start=start, train=still), tmp_path / "other")
    assert str(caught.value) == (
        f"start: {start[0]} knows other people, items or values than this run; train it on the same Log and split."
    )
