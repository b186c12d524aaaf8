"""A run's state on disk: whole or absent, never half."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from penchant.files import disk_errors, read_manifest, whole, write_manifest
from penchant.train.optimiser import Optimiser

KIND, VERSION = "penchant checkpoint", 1


def save(folder: Path, model: nn.Module, optimiser: Optimiser | None, state: dict[str, Any]) -> None:
    """Weights, the optimiser's tensors and `state` in place of what `folder` held. Raises DiskError, the old one kept."""
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with whole(fresh, what="checkpoint") as draft:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, draft / "weights.safetensors")
        if optimiser is not None:
            save_file({name: value.contiguous() for name, value in optimiser.tensors().items()}, draft / "optimiser.safetensors")
        (draft / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        write_manifest(draft, {"kind": KIND, "version": VERSION})
    with disk_errors(folder, what="checkpoint"):
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Puts a checkpoint's weights into `model`; returns its state. Raises ArtefactError."""
    read_manifest(folder, kind=KIND, version=VERSION, files=("weights.safetensors", "state.json"))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return state
