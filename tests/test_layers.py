"""Imports point down, by this table. `serve`, `explain` and later rooms join it when they are built."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "penchant"

LOW = ("errors", "config", "schema", "files", "arrow")
CONTRACT = (*LOW, "encoding", "batch", "collate", "cold", "request")
MAY = {
    "errors": (),
    "config": ("errors",),
    "schema": ("errors", "config"),
    "files": ("errors",),
    "arrow": ("errors",),
    "tensors": (),
    "request": (),
    "batch": (),
    "encoding": ("errors", "schema"),
    "collate": ("batch", "encoding"),
    "cold": ("errors", "config", "encoding", "collate"),
    "metrics": ("errors",),
    "calibration": ("errors", "metrics"),
    "data": (*CONTRACT, "metrics"),
    "nn": ("errors", "config", "encoding", "batch"),
    "models": ("errors", "config", "schema", "encoding", "batch", "nn"),
    "bundle": (*CONTRACT, "calibration", "nn", "models", "tensors"),
    "scorer": (*CONTRACT, "calibration", "nn", "models", "bundle"),
    "evaluate": (*CONTRACT, "calibration", "nn", "models", "bundle", "metrics", "data"),
    "train": (*CONTRACT, "calibration", "nn", "models", "bundle", "metrics", "data", "evaluate", "tensors"),
    "bench": (*CONTRACT, "nn", "models", "data", "train"),
    "conformance": (*CONTRACT, "nn", "models", "metrics", "data", "train"),
    "demo": (*CONTRACT, "models", "bundle", "scorer", "data", "evaluate", "train"),
    "compare": (*CONTRACT, "models", "bundle", "metrics", "data", "evaluate", "train"),
    "figures": ("errors", "files", "compare"),
    "show": ("scorer", "compare", "train"),
    "__main__": ("cli",),
    "progress": ("train", "bench"),
    "cli": (
        *CONTRACT,
        "models",
        "bundle",
        "scorer",
        "data",
        "evaluate",
        "train",
        "bench",
        "conformance",
        "demo",
        "compare",
        "figures",
        "show",
        "progress",
    ),
    "__init__": (*CONTRACT, "nn", "models", "bundle", "scorer", "data", "evaluate", "train"),
}
NO_TORCH = (
    "errors",
    "config",
    "schema",
    "files",
    "arrow",
    "request",
    "encoding",
    "metrics",
    "calibration",
    "data/log.py",
    "data/prepare.py",
    "data/read.py",
)


def room(path: Path) -> str:
    part = path.relative_to(SOURCE).parts[0]
    return part.removesuffix(".py")


def imported(path: Path) -> list[tuple[str, bool]]:
    """(module, whether the import stands inside a function) of every import in a file."""
    tree = ast.parse(path.read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "penchant" else [node.module]
            found += [(name, id(node) in inside) for name in names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in MAY, f"{here} is a room without a line in the table"
    for module, _ in imported(path):
        if module.startswith("penchant."):
            there = module.split(".")[1]
            assert there == here or there in MAY[here] or there == "__version__", f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_only_the_command_line_imports_inside_functions(path: Path) -> None:
    if room(path) != "cli":  # which starts at once because torch is imported when a command needs it
        assert [module for module, inside in imported(path) if inside] == []


@pytest.mark.parametrize("name", NO_TORCH)
def test_no_torch(name: str) -> None:
    paths = [path for path in FILES if room(path) == name or path == SOURCE / name]
    assert paths
    assert [module for path in paths for module, _ in imported(path) if module.split(".")[0] == "torch"] == []


def test_no_room_is_named_for_nothing() -> None:
    assert {path.stem for path in FILES} & {"utils", "util", "common", "base", "helpers", "misc", "core"} == set()
