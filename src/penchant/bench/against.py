"""Other libraries' own models beside ours, each in a process and an environment of its own.

    penchant bench peer fuxictr                    makes .peers/fuxictr: a virtual environment with that library
    penchant bench train --against fuxictr         rounds of ours, of the reference loop and of the peer, in turns, on the same requests

A peer's model is built from its own package and does its own step (bench/peers/of_NAME.py); no peer is ever imported by penchant. All
that a peer pads is padded before its first step, so that only the step is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import torch

from penchant.bench.simulate import Made
from penchant.encoding import Ints
from penchant.errors import ConfigError, unknown_name

SCRIPTS = Path(__file__).parent / "peers"
FOLDER = Path(".peers")
READY = ".ready"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another library."""

    models: tuple[str, ...]  # of ours that it has
    alone: tuple[str, ...]  # what is installed without what it asks for
    needs: tuple[str, ...]  # what its model and its step import, beside torch


PEERS: Mapping[str, Peer] = {
    "fuxictr": Peer(
        models=("din",),
        alone=("fuxictr==2.3.10",),
        needs=("numpy", "pandas", "pyyaml", "scikit-learn", "h5py", "tqdm", "pyarrow", "polars", "pydantic", "ray[data]"),
    ),
    "torch_rechub": Peer(models=("din",), alone=("torch-rechub==0.9.0",), needs=("numpy", "pandas", "scikit-learn", "tqdm")),
    "deepctr_torch": Peer(models=("din", "dien"), alone=("deepctr-torch==0.3.0",), needs=("numpy", "scikit-learn", "tqdm", "requests")),
}


def find_peer(name: str) -> Peer:
    """Raises UnknownNameError with the nearest."""
    known = name.replace("-", "_")
    if known not in PEERS:
        raise unknown_name("peer", name, PEERS)
    return PEERS[known]


def make_environment(name: str, folder: Path = FOLDER) -> Path:
    """A virtual environment with a peer in it, at `folder`/NAME; the interpreter of the one that is there. Needs a package registry.

    It has our version of torch, so that libraries are compared and not versions of torch; which build, the peer's facts say.
    Raises UnknownNameError, ConfigError where pip fails.
    """
    peer, place = find_peer(name), folder / name.replace("-", "_")
    python = interpreter(name, folder)
    if (place / READY).exists():
        return python
    venv.create(place, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for words in ([f"torch=={torch.__version__.partition('+')[0]}"], peer.needs, ["--no-deps", *peer.alone]):
        done = subprocess.run([*pip, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ConfigError(f"{place}: pip could not install {' '.join(words)}: {last}")
    (place / READY).touch()  # last: what was broken off is begun again
    return python


def interpreter(name: str, folder: Path) -> Path:
    """Absolute, and no link is followed: where a virtual environment's python stands is what makes it that environment's."""
    return folder.absolute() / name.replace("-", "_") / "bin" / "python"


class PeerLoop:
    """A peer's process, which does the steps that it is told."""

    def __init__(self, process: subprocess.Popen[str], said: IO[str]) -> None:
        """said: the file that its stderr goes to."""
        self.process, self.said = process, said
        self.facts: Mapping[str, Any] = {}  # peer, version, model, trimmed, torch
        self.losses: list[float] = []

    def seconds(self, requests: Sequence[Ints]) -> float:
        """What the steps of these requests take, by the peer's own clock: what is said between the processes is not in it."""
        told = self._told({"steps": [request.tolist() for request in requests]})
        self.losses += told["losses"]
        return float(told["seconds"])

    def scoring(self, request: Ints) -> float:
        """What scoring these requests takes, as one batch."""
        return float(self._told({"score": request.tolist()})["seconds"])

    def _told(self, question: Mapping[str, Any]) -> dict[str, Any]:
        stdin: IO[str] = self.process.stdin  # type: ignore[assignment]
        with suppress(BrokenPipeError):  # it has ended, and `answer` says why
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that it says. Raises ConfigError with its last words where it has ended."""
        stdout: IO[str] = self.process.stdout  # type: ignore[assignment]
        line = stdout.readline()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        status = self.process.wait()
        self.said.seek(0)
        words = self.said.read().strip().splitlines() or [f"exit status {status}"]
        raise ConfigError(f"the peer's process ended: {words[-1]}")


@contextmanager
def peer_loop(
    name: str,
    made: Made,
    settings: Mapping[str, Any],
    *,
    trim: bool = False,
    folder: Path = FOLDER,
    python: Path | None = None,
    scripts: Path = SCRIPTS,
) -> Iterator[PeerLoop]:
    """A peer's loop on this data, ready to step. settings: model, dim, longest, attention, head, rate, threads, seed.

    Raises UnknownNameError, ConfigError for a model that it does not have, or an environment that is not there or does not run.
    """
    peer = find_peer(name)
    if settings["model"] not in peer.models:
        raise ConfigError(f"{name} has no model {settings['model']!r} here; {' or '.join(peer.models)} was wanted.")
    python = python or interpreter(name, folder)
    if not python.exists():
        raise ConfigError(f"{folder}: there is no environment of {name}; make it by `penchant bench peer {name}`.")
    category = made.encoding.catalogue.code[:, 0]
    other = 1 + np.random.default_rng(0).integers(0, made.items, len(made.event))
    arrays = {name: getattr(made, name) for name in ("item", "person", "label", "start", "event")}
    with TemporaryDirectory() as place:
        np.savez(Path(place) / "arrays.npz", category=category, other=other, **arrays)
        asked = {**settings, "peer": name.replace("-", "_"), "arrays": str(Path(place) / "arrays.npz"), "trim": trim}
        (Path(place) / "settings.json").write_text(json.dumps(asked), encoding="utf-8")
        with (Path(place) / "said.txt").open("w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                [str(python), str(scripts / "loop.py"), str(Path(place) / "settings.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=place,
                env=_environ(settings["threads"]),
            )
            loop = PeerLoop(process, said)
            try:
                loop.facts = loop.answer()
                yield loop
            finally:
                process.kill()
                process.communicate()


def _environ(threads: int) -> dict[str, str]:
    """Ours, but for what would let a peer's Python find our packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": str(threads)}
