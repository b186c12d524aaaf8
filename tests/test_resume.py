"""A run that is killed goes on where its last checkpoint stands, and ends with the bits of one that never broke."""

from __future__ import annotations

import errno
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from said import Said
from torch import nn

from penchant.compare import Entry, compare_models, entries
from penchant.config import read
from penchant.conformance.world import write_world
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.errors import ArtefactError, ConfigError, DiskError, ExistsError
from penchant.files import disk_errors
from penchant.train import checkpoint
from penchant.train.config import RunConfig
from penchant.train.fit import fit, resume
from penchant.train.loop import Loop, Progress
from penchant.train.optimiser import Optimiser
from penchant.train.step import Step

FAST = {"epochs": 4, "batch_size": 32, "rate": 3e-3, "patience": 5, "valid_every": 30, "save_every": 0}
KINDS: dict[str, dict[str, Any]] = {
    "din": {"model": {"name": "din", "dropout": 0.3}},  # what is dropped is drawn step by step
    "dien+iacn": {"model": "dien", "auxiliary": "iacn"},
    "eta": {"model": "din", "long": "eta"},
    "aware": {"model": "din", "train": {"mini_batch_aware": 1e-3, "weight_decay": 1e-2}},
    "truncated": {"model": "din", "loss": {"name": "truncated", "over": 50}},  # of the step
    "crafted": {
        "model": "din",
        "train": {
            "rate": 0.1,
            "accumulate": 2,
            "batch_size": 16,
            "average": 0.9,
            "clip": 0.1,
            "tables": "adagrad",
            "schedule": {"name": "plateau", "warm_up": 10},
        },
    },
    "float16": {"model": "pooling", "train": {"precision": "float16", "tables": "sgd"}},
    "mf": {"model": "mf"},  # with its own idea of an item's vector, of which the run says but the width
}


class Killed(BaseException):
    """What nothing catches."""


def config(log: Log, **keys: Any) -> RunConfig:
    train = {**FAST, **keys.pop("train", {})}
    base = {"log": str(log.folder), "protocol": "loo-full", "data": {"past": 10, "negatives": 2}, "item": {"dim": 4}}
    return read(RunConfig, {**base, "train": train, **keys})


def bits(run: Path) -> dict[str, bytes]:
    """All files of a run that say what was learned, but for what its seconds stand in."""
    files = [run / "metrics.jsonl", *sorted((run / "bundle").iterdir()), run / "checkpoints" / "best" / "weights.safetensors"]
    last = run / "checkpoints" / "last"
    files += [last / name for name in (checkpoint.WEIGHTS, checkpoint.OPTIMISER, checkpoint.ARRAYS) if (last / name).exists()]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def killed_after(reports: int) -> Callable[[Progress], None]:
    left = [reports]

    def report(_: Progress) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return report


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_broken_run_ends_with_the_bits_of_one_that_never_broke(kind: str, log: Log, tmp_path: Path) -> None:
    settings, run = config(log, **KINDS[kind]), tmp_path / "broken"
    whole = fit(settings, tmp_path / "whole")
    draw, breaks = random.Random(kind), 0
    try:
        fit(settings, run, report=killed_after(draw.randrange(1, 4)))
    except Killed:
        breaks += 1
    while not (run / "diagnosis.json").exists():
        assert (run / "checkpoints" / "last").exists()
        try:
            ended = resume(run, report=killed_after(draw.randrange(1, 4)))
        except Killed:
            breaks += 1
    assert breaks >= 3
    assert ended.best == whole.best
    assert bits(run) == bits(tmp_path / "whole")


def test_a_run_that_continues_a_bundle_is_resumed(log: Log, tmp_path: Path) -> None:
    """And takes a key of its bundle's model as that model has it."""
    fit(config(log, model="dien", train={"epochs": 1}), tmp_path / "old")
    keys = {"bundle": str(tmp_path / "old" / "bundle"), "since": "2000-01-01"}
    settings = read(RunConfig, {"log": str(log.folder), "grow": keys, "model": {"auxiliary": 1.0}, "train": {"epochs": 2}})
    whole = fit(settings, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(settings, tmp_path / "run", report=killed_after(2))
    resume(tmp_path / "run")
    assert bits(tmp_path / "run") == bits(whole.folder)
    assert (tmp_path / "run" / "growth.json").read_bytes() == (whole.folder / "growth.json").read_bytes()


def test_a_run_goes_on_in_the_middle_of_an_epoch(log: Log, tmp_path: Path) -> None:
    settings, seen = config(log, model="din", train={"valid_every": 10_000, "batch_size": 8}), []
    with pytest.raises(Killed):
        fit(settings, tmp_path / "run", report=killed_after(1))  # after 20 steps, and not after 40
    resume(tmp_path / "run", report=seen.append)
    assert seen[0].step == 40
    assert seen[0].epoch == 0
    assert seen[0].steps > 40


def test_checkpoints_are_as_far_apart_as_asked(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock, of which a step here is a second; looked at every 20 steps, and at no step that a validation saves anyway."""
    clock, saved = [0.0], []
    step, save = Step.__call__, checkpoint.save

    def slow(*given: Any) -> torch.Tensor:
        clock[0] += 1
        return step(*given)

    def keep(folder: Path, model: nn.Module, state: dict[str, Any], **more: Any) -> None:
        save(folder, model, state, **more)
        if folder.name == "last":
            saved.append(state["step"])

    monkeypatch.setattr(Step, "__call__", slow)
    monkeypatch.setattr(checkpoint, "save", keep)
    monkeypatch.setattr("penchant.train.loop.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr("penchant.train.fit.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    fit(config(log, model="mf", train={"batch_size": 8, "epochs": 3, "valid_every": 70, "save_every": 30}), tmp_path / "run")
    assert saved == [40, 70, 100, 140, 180, 210, 240, 273]  # the last is the end
    saved.clear()
    fit(config(log, model="mf", train={"batch_size": 8, "epochs": 3, "valid_every": 70, "save_every": 1e9}), tmp_path / "seldom")
    assert saved == [70, 140, 210, 273]


def test_what_cannot_be_resumed(log: Log, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as nothing:
        resume(tmp_path)
    assert str(nothing.value) == f"{tmp_path}: there is no run here to resume: config.toml is missing."
    ended = fit(config(log, model="popularity"), tmp_path / "ended")
    with pytest.raises(ExistsError) as over:
        resume(ended.folder)
    assert str(over.value) == f"{ended.folder}: this run has ended; its bundle is {ended.folder / 'bundle'}."
    with pytest.raises(ExistsError) as there:
        fit(config(log, model="popularity"), ended.folder)
    assert str(there.value) == f"{ended.folder}: this exists already; remove it, or train into another folder."
    write_world(tmp_path / "raw", people=40, items=30, events=12, seed=3)
    prepare(tmp_path / "raw", tmp_path / "log")
    settings = config(log, model="mf", train={"save_every": 0}).model_copy(update={"log": str(tmp_path / "log")})
    with pytest.raises(Killed):
        fit(settings, tmp_path / "run", report=killed_after(1))
    with pytest.raises(ExistsError, match="remove it, go on with it by --resume, or train into another folder"):
        fit(settings, tmp_path / "run")
    shutil.rmtree(tmp_path / "log")
    shutil.rmtree(tmp_path / "raw")
    write_world(tmp_path / "raw", people=50, items=35, events=12, seed=4)
    prepare(tmp_path / "raw", tmp_path / "log")
    with pytest.raises(ConfigError) as other:
        resume(tmp_path / "run")
    assert str(other.value) == f"{tmp_path / 'run'}: the Log {tmp_path / 'log'} is not what it was when this run began; train anew."


def test_a_run_killed_before_its_first_checkpoint_begins_again(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(log, model="din", train={"save_every": 1e9})
    whole = fit(settings, tmp_path / "whole")
    monkeypatch.setattr(shutil, "rmtree", lambda *given, **more: None)  # SIGKILL cleans nothing up
    with pytest.raises(Killed):
        fit(settings, tmp_path / "run", report=killed_after(0))
    monkeypatch.undo()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"half')
    resume(tmp_path / "run")
    assert bits(tmp_path / "run") == bits(whole.folder)


@pytest.mark.parametrize(
    "keys",
    [{"model": "mf"}, {"model": "mf", "train": {"epochs": 30, "rate": 0.3, "patience": 1}}, {"model": "popularity"}],
    ids=["at its end", "out of patience", "that learns nothing"],
)
def test_a_run_killed_while_it_writes_its_bundle(keys: dict[str, Any], log: Log, tmp_path: Path) -> None:
    whole = fit(config(log, **keys), tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (tmp_path / "run" / "diagnosis.json").unlink()
    (tmp_path / "run" / "bundle" / "manifest.json").unlink()
    (tmp_path / "run" / ".bundle.x.part").mkdir()
    resume(tmp_path / "run")
    assert bits(tmp_path / "run") == bits(whole.folder)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in whole.folder.iterdir()}


def test_compare_goes_on_with_a_broken_run(log: Log, tmp_path: Path) -> None:
    given = [Entry(label=name, config=config(log, model=name)) for name in ("mf", "pooling")]
    found = compare_models(given, 2, tmp_path / "whole")
    with pytest.raises(Killed):
        compare_models(given, 2, tmp_path / "broken", report=killed_after(2))
    other = [Entry(label=name, config=config(log, model=name, train={"rate": 1e-2})) for name in ("mf", "pooling")]
    with pytest.raises(ExistsError, match=r"mf-0: this is the run of another configuration"):
        compare_models(other, 2, tmp_path / "broken")
    seen: list[Progress] = []
    assert compare_models(given, 2, tmp_path / "broken", report=seen.append) == found
    assert (seen[0].epoch, seen[0].step) > (0, 20)


def test_compare_begins_again_where_the_checkpoint_is_of_an_older_penchant(log: Log, tmp_path: Path) -> None:
    given = [Entry(label=name, config=config(log, model=name)) for name in ("mf", "popularity")]
    with pytest.raises(Killed):
        compare_models(given, 1, tmp_path / "broken", report=killed_after(2))
    manifest = tmp_path / "broken" / "runs" / "mf-0" / "checkpoints" / "last" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    seen: list[Progress] = []
    compare_models(given, 1, tmp_path / "broken", report=seen.append)
    assert (seen[0].epoch, seen[0].step) == (0, 20)


def test_compare_lends_to_those_that_read_a_past(log: Log) -> None:
    asked = entries(config(log, model="din", cold={"method": "lend"}), ["din", "popularity", "mf"])
    assert [entry.config.cold.method for entry in asked] == ["lend", "none", "none"]


# --------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, nn.Module, Optimiser]:
    model = nn.Linear(2, 2)
    optimiser = Optimiser(model, 0.1, 0.1)
    checkpoint.save(tmp_path / "last", model, {"step": 1}, optimiser=optimiser, arrays={"x": torch.ones(1)})
    return tmp_path / "last", model, optimiser


RENAMES = 3  # of a save: the draft to .new, the old one away, .new to its place


@pytest.mark.parametrize("at", range(RENAMES))
def test_a_save_that_is_killed_loses_no_checkpoint(
    at: int, kept: tuple[Path, nn.Module, Optimiser], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model, optimiser = kept
    real, done = Path.rename, [0]

    def rename(path: Path, target: Path) -> Path:
        done[0] += 1
        if done[0] > at:
            raise Killed
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(shutil, "rmtree", lambda *given, **more: None)
    with pytest.raises(Killed):
        checkpoint.save(folder, model, {"step": 2}, optimiser=optimiser, arrays={})
    monkeypatch.undo()
    assert checkpoint.put_right(folder)
    assert checkpoint.state_of(folder)["step"] == (1 if at < 2 else 2)
    assert [path.name for path in folder.parent.iterdir()] == ["last"]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses to write more into a file, as it does where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [1_000, 10_000, 20_000], ids=["weights", "optimiser", "arrays"])
def test_a_full_disk_loses_no_earlier_checkpoint(size: int, tmp_path: Path) -> None:
    model = nn.Linear(40, 40)  # 6.6 kB of weights, twice as much of moments
    optimiser, folder = Optimiser(model, 0.1, 0.1), tmp_path / "last"
    optimiser.backward(model(torch.ones(40)).sum())
    optimiser.step()
    checkpoint.save(folder, model, {"step": 1}, optimiser=optimiser, arrays={"x": torch.ones(1)})
    with pytest.raises(DiskError, match="no room to write the checkpoint"), no_file_above(size):
        checkpoint.save(folder, model, {"step": 2}, optimiser=optimiser, arrays={"x": torch.ones(10_000)})
    assert checkpoint.state_of(folder)["step"] == 1
    assert [path.name for path in folder.parent.iterdir()] == ["last"]


def test_a_full_disk_at_the_first_checkpoint_leaves_the_best_weights(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(loop: Loop) -> None:
        with disk_errors(loop.out, what="checkpoint"):
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Loop, "_save", full)
    settings = config(log, model="mf", train={"save_every": 1e9})
    with pytest.raises(DiskError):
        fit(settings, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "best.next" / checkpoint.WEIGHTS).exists()
    monkeypatch.undo()
    resume(tmp_path / "run")
    assert bits(tmp_path / "run") == bits(fit(settings, tmp_path / "whole").folder)


@pytest.mark.parametrize("at", ["before last", "after last", "half way"])
def test_the_best_weights_are_those_that_the_last_checkpoint_names(
    at: str, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two of a validation that found better weights."""
    settings = config(log, model="mf", train={"rate": 0.03, "valid_every": 20})
    whole = fit(settings, tmp_path / "whole")
    lines = [json.loads(line)["valid"] for line in (whole.folder / "metrics.jsonl").read_text().splitlines() if "valid" in line]
    assert whole.best["step"] > lines[0]["step"]  # there is a better one than the first
    real, moved = {"save": Loop._save, "place": checkpoint.take_place}, [0]

    def save(loop: Loop) -> None:
        better = loop.next_folder.exists() and loop.best_folder.exists()
        if not (better and at == "before last"):
            real["save"](loop)
        if better and at != "half way":
            raise Killed

    def place(folder: Path, other: Path) -> None:
        if other.exists() and at == "half way":
            (other / "manifest.json").unlink()  # as if it were being removed
            raise Killed
        moved[0] += 1
        real["place"](folder, other)

    monkeypatch.setattr(Loop, "_save", save)
    monkeypatch.setattr(checkpoint, "take_place", place)
    with pytest.raises(Killed):
        fit(settings, tmp_path / "run")
    monkeypatch.undo()
    named = json.loads((tmp_path / "run" / "checkpoints" / "last" / "state.json").read_text())["best"]["step"]
    seen: list[int] = []
    choose = checkpoint.choose

    def chosen(other: Path, folder: Path, step: int) -> None:
        choose(other, folder, step)
        seen.append(checkpoint.state_of(other)["step"])

    monkeypatch.setattr(checkpoint, "choose", chosen)
    resume(tmp_path / "run")
    assert seen == [named]
    assert bits(tmp_path / "run") == bits(whole.folder)
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"best", "last"}


def test_metrics_that_were_lost_are_said(log: Log, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(config(log, model="mf"), tmp_path / "run", report=killed_after(3))
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_text("")
    with pytest.raises(ArtefactError, match=r"metrics.jsonl: this file has 0 bytes; \d+ were written before the last checkpoint"):
        resume(tmp_path / "run")


def test_an_optimiser_goes_on_as_it_was(log: Log, tmp_path: Path) -> None:
    run = fit(config(log, model="din"), tmp_path / "run")
    optimiser = Optimiser(run.model, 0.1, 0.1)
    checkpoint.restore(run.folder / "checkpoints" / "last", run.model, optimiser)
    before = checkpoint.load_file(run.folder / "checkpoints" / "last" / checkpoint.OPTIMISER)
    after = optimiser.tensors()
    assert before.keys() == after.keys()
    assert len(after) > 10
    assert all(torch.equal(before[name], after[name]) for name in after)
    with pytest.raises(ArtefactError, match=r"keeps 7\.0\.step, which is of no parameter"):
        optimiser.take({"7.0.step": torch.ones(())})


# ------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def test_resume_by_the_command_line(run: Said, log: Log, tmp_path: Path) -> None:
    said = run("train", "--resume", str(tmp_path / "no"))
    assert (said.status, said.err) == (2, f"penchant: {tmp_path / 'no'}: there is no run here to resume: config.toml is missing.\n")
    said = run("train", "--resume", str(tmp_path), "--out", str(tmp_path / "new"))
    assert said.err == "penchant: --resume goes on with a run as it was configured; nothing else can be said beside it.\n"
    assert run("train", "--log", "x").err == "penchant: --out names the new folder for the run; or --resume one that broke off.\n"
    with pytest.raises(Killed):
        fit(config(log, model="mf"), tmp_path / "run", report=killed_after(2))
    said = run("train", "--resume", str(tmp_path / "run"), "--json")
    assert said.status == 0
    assert json.loads(said.out)["bundle"] == str(tmp_path / "run" / "bundle")


@pytest.mark.slow
def test_a_run_killed_twenty_times_at_random_moments(log: Log, tmp_path: Path) -> None:
    """By SIGKILL, in processes of their own."""
    words = ["--log", str(log.folder), "--protocol", "loo-full", "--data.past", "10", "--data.negatives", "2", "--item.dim", "4"]
    words += ["--model.name", "din", "--model.dropout", "0.3", "--train.epochs", "25", "--train.batch_size", "16", "--train.patience", "99"]
    words += ["--train.save_every", "0.05", "--train.valid_every", "50"]

    def penchant(*given: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "penchant", "train", *given], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def changed(file: Path) -> int:
        return file.stat().st_mtime_ns if file.exists() else 0

    whole, run = tmp_path / "whole", tmp_path / "run"
    process = penchant(*words, "--out", str(whole))
    while not (whole / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    begun = time.perf_counter()
    assert process.wait() == 0
    seconds, draw, kills = time.perf_counter() - begun, random.Random(0), 0
    for _ in range(20):
        before = changed(run / "metrics.jsonl")
        process = penchant("--resume", str(run)) if (run / "config.toml").exists() else penchant(*words, "--out", str(run))
        early = draw.random() < 0.2  # before it has learned anything
        while not early and process.poll() is None and changed(run / "metrics.jsonl") == before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 4.0 if early else seconds / 15))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not (run / "diagnosis.json").exists():
        assert penchant("--resume", str(run)).wait() == 0
    assert kills >= 15
    assert bits(run) == bits(whole)
