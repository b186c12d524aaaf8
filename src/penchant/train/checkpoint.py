"""A run's state on disk: whole or absent, never half, and never lost to the next.

last/    weights.safetensors, optimiser.safetensors, arrays.safetensors, state.json: all that a run goes on from
best/    weights.safetensors, state.json, judged.npz: the weights that validation found best, and what it found

What is to be best stands in best.next/ until last/ says that it is.

A new checkpoint is written whole beside the one that is there, and takes its name then. What a kill leaves between the two is put right
by whoever comes next.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from penchant.errors import ArtefactError
from penchant.evaluate.judged import Judged
from penchant.files import disk_errors, read_manifest, sweep, whole, write_manifest
from penchant.tensors import save_tensors
from penchant.train.optimiser import Optimiser

KIND, VERSION = "penchant checkpoint", 2
WEIGHTS, OPTIMISER, ARRAYS, STATE, JUDGED = (
    "weights.safetensors",
    "optimiser.safetensors",
    "arrays.safetensors",
    "state.json",
    "judged.npz",
)


def save(
    folder: Path,
    model: nn.Module,
    state: Mapping[str, Any],
    *,
    optimiser: Optimiser | None = None,
    arrays: Mapping[str, Tensor] | None = None,
    judged: Judged | None = None,
) -> None:
    """What is given, in place of what `folder` held. Raises DiskError, the old one kept."""
    fresh, old = _beside(folder)
    put_right(folder)
    tensors = {
        WEIGHTS: model.state_dict(),
        OPTIMISER: None if optimiser is None else optimiser.tensors(),
        ARRAYS: arrays,
    }
    with whole(fresh, what="checkpoint") as draft:
        for name, values in tensors.items():
            if values is not None:
                save_tensors(values, draft / name)
        if judged is not None:
            judged.save(draft / JUDGED)
        (draft / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        write_manifest(draft, {"kind": KIND, "version": VERSION})
    _put_in_place(fresh, folder, old)


def state_of(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint, all of whose files are as they were written. Raises ArtefactError."""
    read_manifest(folder, kind=KIND, version=VERSION, files=(WEIGHTS, STATE))
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return state


def load(folder: Path, model: nn.Module) -> None:
    """Puts a checkpoint's weights into `model`. Raises ArtefactError."""
    state_of(folder)
    model.load_state_dict(load_file(folder / WEIGHTS))


def restore(folder: Path, model: nn.Module, optimiser: Optimiser) -> dict[str, Tensor]:
    """As `load`, with what the optimiser keeps; returns the arrays. Raises ArtefactError."""
    load(folder, model)
    optimiser.take(load_file(folder / OPTIMISER))
    return load_file(folder / ARRAYS)


def take_place(folder: Path, other: Path) -> None:
    """A checkpoint takes another's place; a kill in between is put right by `choose`."""
    _put_in_place(folder, other, _beside(other)[1])


def choose(other: Path, folder: Path, step: int) -> None:
    """Of a checkpoint and the one that was to take its place, that of this step stays, as `other`. Raises ArtefactError for neither."""
    for place in (folder, other):
        if _step_of(place) == step:
            if place == folder:
                take_place(folder, other)
            shutil.rmtree(folder, ignore_errors=True)
            return
    raise ArtefactError(f"{other}: the checkpoint of step {step}, from which this run would go on, is missing or not whole.")


def _step_of(folder: Path) -> int | None:
    """None where there is no checkpoint, or one that a kill left half removed."""
    try:
        return int(state_of(folder)["step"]) if put_right(folder) else None
    except ArtefactError:
        return None


def _put_in_place(fresh: Path, folder: Path, old: Path) -> None:
    """`old` is where what stood in `folder` is until `fresh` has its place."""
    with disk_errors(folder, what="checkpoint"):
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def put_right(folder: Path) -> bool:
    """Ends what a kill has broken off in the middle of `save`; whether there is a checkpoint then."""
    fresh, old = _beside(folder)
    if not folder.exists():
        whole_one = next((place for place in (fresh, old) if place.exists()), None)
        if whole_one is not None:
            whole_one.rename(folder)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    sweep(fresh)
    return folder.exists()


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
