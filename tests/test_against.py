"""Other libraries' models in processes of their own: what they are given, what is measured, and what is said where they fail."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from said import Said

from penchant.bench import against
from penchant.bench.against import PEERS, SCRIPTS, find_peer, make_environment, peer_loop
from penchant.bench.score import bench_score
from penchant.bench.simulate import Made, simulate
from penchant.bench.train import bench_train
from penchant.errors import ConfigError, UnknownNameError
from penchant.models import DIN

SMALL: dict[str, Any] = {"users": 60, "items": 120, "categories": 6, "longest": 12, "mean_past": 4}
SCORED: dict[str, Any] = {"events": 30, "candidates": 8, "items": 120, "categories": 6, "dim": 4, "rounds": 3, "threads": 1}
SETTINGS: dict[str, Any] = {"model": "din", "dim": 4, "longest": 12, "attention": [8], "head": [8], "rate": 1e-3, "threads": 1, "seed": 0}
FAKE = '''
class Peer:
    """Says a number of all that it was given."""
    name, trims, version = "Fake", True, "1.0"

    def __init__(self, arrays, settings):
        print("a peer's own words are no answer")
        self.sizes = arrays.items, arrays.categories

    def step(self, batch):
        self.batch = batch
        assert self.sizes[1] == 7
        weights = {"item": 1, "category": 1e3, "label": 1e6, "length": 1e7}
        said = sum(weight * float(batch[name].sum()) for name, weight in weights.items())
        cells = batch["past_item"].shape[1]
        past = float((batch["past_item"] * (1 + batch["past_category"])).sum())
        assert ((batch["past_item"] > 0).sum(1) == batch["length"]).all()
        if "not_item" in batch:
            assert ((batch["not_item"] > 0) == (batch["past_item"] > 0)).all()
            assert batch["not_category"].shape == batch["past_item"].shape
        return said + past / 1e7 + 1e9 * cells

    def score(self, batch):
        assert len(batch["item"]) == 8 and batch["length"].tolist() == [30] * 8
        return batch["item"]
'''


@pytest.fixture
def made() -> Made:
    return simulate(**SMALL, full=False, seed=0)


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, Any]:
    """A peer in our own environment."""
    shutil.copy(SCRIPTS / "loop.py", tmp_path / "loop.py")
    (tmp_path / "of_fuxictr.py").write_text(FAKE)
    return {"python": Path(sys.executable), "scripts": tmp_path}


@pytest.mark.parametrize("trim", [False, True])
def test_a_peer_is_given_the_same_requests(trim: bool, made: Made, fake: dict[str, Any]) -> None:
    requests = [made.requests(step, 16) for step in range(3)]
    with peer_loop("fuxictr", made, SETTINGS, trim=trim, **fake) as peer:
        assert peer.facts == {"peer": "fuxictr", "version": "1.0", "model": "Fake", "trimmed": trim, "torch": torch.__version__}
        assert peer.seconds(requests[:1]) > 0
        assert peer.seconds(requests[1:]) > 0
        process = peer.process
    assert process.poll() is not None
    category, expected = made.encoding.catalogue.code[:, 0], []
    for request in requests:
        past, length = made.past(request)
        item, event = made.item[request], made.event[past]
        said = item.sum() + 1e3 * category[item].sum() + 1e6 * made.label[request].sum() + 1e7 * length.sum()
        expected.append(said + (event * (1 + category[event])).sum() / 1e7 + 1e9 * (length.max() if trim else 12))
    np.testing.assert_allclose(peer.losses, expected, rtol=1e-14)


def test_a_peer_takes_its_turn(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(name: str, made: Made, settings: dict[str, Any], *, trim: bool, folder: Path) -> Any:
        return peer_loop(name, made, settings, trim=trim, **fake)

    monkeypatch.setattr("penchant.bench.train.peer_loop", loop)
    seen: list[Any] = []
    found = bench_train(**SMALL, dim=4, batch_size=16, rounds=3, steps=2, threads=1, against="fuxictr", report=seen.append)
    assert found.against is not None
    assert [one.peer for one in seen] == list(found.against.speed.each)
    assert found.against.ratio.each == tuple(a / b for a, b in zip(found.ours.each, found.against.speed.each, strict=True))
    assert json.loads(json.dumps(found.as_dict()))["against"]["facts"]["model"] == "Fake"
    assert bench_train(**SMALL, dim=4, batch_size=16, rounds=1, steps=1, threads=1).against is None


def test_a_peer_scores_in_its_turn(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(name: str, made: Made, settings: dict[str, Any], *, folder: Path) -> Any:
        return peer_loop(name, made, settings, **fake)

    monkeypatch.setattr("penchant.bench.score.peer_loop", loop)
    found = bench_score(**SCORED, against="fuxictr")
    assert found.against is not None
    assert found.against["ratio"]["each"] == tuple(a / b for a, b in zip(found.against["ms"]["each"], found.ours.each, strict=True))
    assert found.against["kept_ratio"]["each"] == tuple(a / b for a, b in zip(found.against["ms"]["each"], found.score.each, strict=True))


@pytest.mark.parametrize("model", ["din", "dien", "pooling"])
def test_scoring_holds_together(model: str) -> None:
    found = bench_score(**SCORED, model=model)
    parts = [sum(parts) for parts in zip(found.items.each, found.read.each, found.score.each, strict=True)]
    assert all(whole > part for whole, part in zip(found.ours.each, parts, strict=True))
    assert found.ratio.each == tuple(a / b for a, b in zip(found.reference.each, found.ours.each, strict=True))
    assert len(found.ours.each) == 3
    assert found.difference < 1e-5
    assert 0 <= found.half["overlap@10"] <= 1 == found.half["overlap@100"]
    assert json.loads(json.dumps(found.as_dict()))["facts"]["events"] == 30
    assert found.memory_bytes > 0


def test_scores_that_depend_on_other_candidates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = DIN.score

    def score(model: DIN, items: Any, memory: Any, batch: Any, *, explain: bool = False) -> Any:
        found = real(model, items, memory, batch, explain=explain)
        return replace(found, logit=found.logit - found.logit.mean(1, keepdim=True))

    monkeypatch.setattr(DIN, "score", score)
    with pytest.raises(ConfigError, match="logits differ by"):
        bench_score(**SCORED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        (FAKE.replace("self.batch = batch", "raise LookupError('of a step')"), "LookupError: of a step"),
        ("raise SystemExit(7)", "exit status 7"),
    ],
)
def test_a_peer_that_fails_says_why(text: str, said: str, made: Made, fake: dict[str, Any]) -> None:
    (fake["scripts"] / "of_fuxictr.py").write_text(text)
    with pytest.raises(ConfigError) as fault, peer_loop("fuxictr", made, SETTINGS, **fake) as peer:
        peer.seconds([made.requests(0, 4)])
    assert str(fault.value) == f"the peer's process ended: {said}"


def test_what_is_refused(made: Made, tmp_path: Path) -> None:
    assert find_peer("torch-rechub") is PEERS["torch_rechub"]
    with pytest.raises(UnknownNameError, match="Did you mean 'fuxictr'"):
        find_peer("fuxictrl")
    with pytest.raises(ConfigError) as model, peer_loop("torch-rechub", made, {**SETTINGS, "model": "dien"}):
        pass
    assert str(model.value) == "torch-rechub has no model 'dien' here; din was wanted."
    with pytest.raises(ConfigError) as there, peer_loop("fuxictr", made, SETTINGS, folder=tmp_path):
        pass
    assert str(there.value) == f"{tmp_path}: there is no environment of fuxictr; make it by `penchant bench peer fuxictr`."


def test_an_environment_that_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(against.venv, "create", lambda place, **more: place.mkdir(exist_ok=True))

    def pip(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        installed.append(words)
        return subprocess.CompletedProcess(words, len(installed) == 2, "", "no room\n" * (len(installed) == 2))

    monkeypatch.setattr(against.subprocess, "run", pip)
    with pytest.raises(ConfigError) as fault:
        make_environment("fuxictr", tmp_path)
    assert str(fault.value).startswith(f"{tmp_path / 'fuxictr'}: pip could not install numpy pandas")
    assert str(fault.value).endswith(": no room")
    assert make_environment("fuxictr", tmp_path) == tmp_path / "fuxictr" / "bin" / "python"  # what was broken off is begun again
    assert [words[-1] for words in installed[2:]][-1] == "fuxictr==2.3.10"
    count = len(installed)
    make_environment("fuxictr", tmp_path)
    assert len(installed) == count


def test_a_folder_may_be_named_from_here(made: Made, fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    python = Path(".peers") / "fuxictr" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with peer_loop("fuxictr", made, SETTINGS, scripts=fake["scripts"]) as peer:
        assert peer.seconds([made.requests(0, 4)]) > 0


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def test_by_the_command_line(run: Said, tmp_path: Path) -> None:
    said = run("bench", "train", "--against", "fuxictr", "--peers", str(tmp_path), "--rounds", "1", "--steps", "1")
    assert (said.status, said.err) == (
        2,
        f"penchant: {tmp_path}: there is no environment of fuxictr; make it by `penchant bench peer fuxictr`.\n",
    )


def test_scoring_by_the_command_line(run: Said) -> None:
    said = run("bench", "score", "--events", "20", "--candidates", "10", "--rounds", "1", "--threads", "1")
    assert (said.status, said.err) == (0, "")
    assert re.search(r"^off candidates alone +\S+$", said.out, re.MULTILINE)
    assert run("bench", "score", "--events", "0").err == "penchant: bench score: events is 0; at least 1 was wanted.\n"


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(PEERS))
def test_a_peer_s_own_model_learns(name: str, tmp_path: Path, run: Said) -> None:
    """From its own package, installed for this."""
    said = run("bench", "peer", name, "--peers", str(tmp_path))
    assert (said.status, said.err) == (0, "")
    data = simulate(users=2000, items=500, categories=12, mean_past=5, longest=12, full=False, seed=0)
    for model in find_peer(name).models:
        settings = {**SETTINGS, "model": model, "dim": 16, "rate": 1e-2}
        with peer_loop(name, data, settings, folder=tmp_path) as peer:
            assert re.fullmatch(r"\d+\.\d+\.\d+", peer.facts["version"])
            peer.seconds([data.requests(step, 128) for step in range(60)])
            assert peer.scoring(data.requests(0, 16)) > 0
        assert np.mean(peer.losses[-10:]) < np.mean(peer.losses[:5]) - 0.01
