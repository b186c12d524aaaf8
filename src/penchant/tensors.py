"""Tensors in a file, and a disk that is full said as what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """A safetensors file. Raises OSError where the system does, which safetensors says in words alone."""
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    except SafetensorError as fault:
        number = re.search(r"\(os error (\d+)\)", str(fault))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from fault
