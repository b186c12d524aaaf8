"""The public names are a list."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import penchant


def test_public_names() -> None:
    assert sorted(penchant.__all__) == sorted(penchant._HOME)
    assert penchant.__all__ == sorted(penchant.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in penchant.__all__:
        assert not isinstance(getattr(penchant, name), ModuleType), name
    assert set(dir(penchant)) == {*penchant.__all__, "__version__"}


def test_the_names_are_these() -> None:
    assert set(penchant.__all__) == {
        "MODELS",
        "PROTOCOLS",
        "Batch",
        "Bundle",
        "Encoding",
        "Event",
        "History",
        "Log",
        "Memory",
        "Model",
        "Output",
        "PenchantError",
        "Request",
        "RunConfig",
        "Schema",
        "Scorer",
        "Segments",
        "judge",
        "load_bundle",
        "open_log",
        "prepare",
        "read_schema",
        "save_bundle",
        "fit",
        "resume",
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'penchant' has no attribute 'nothing'$"):
        penchant.nothing  # noqa: B018


def test_importing_penchant_imports_no_torch() -> None:
    code = "import sys, penchant, penchant.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
