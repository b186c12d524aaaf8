"""Who makes the host wait for a device: seen on any machine, without one."""

from __future__ import annotations

import traceback
from collections import Counter
from inspect import currentframe
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import penchant.batch

WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "equal"}
HOST = {"of", "sizes", "longest", "_steps", "ends", "_grouped", "sessions"}  # of Segments and History: they work in host memory
TORCH, RNN = f"{Path(torch.__file__).parent}/", "torch/nn/modules/rnn.py"


class Spy(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what would make the host wait for a device: (operation, "file.py:line function")."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        waits = name in WAITS
        if name == "repeat_interleave":
            waits = not kwargs.get("output_size") and not (len(args) > 1 and isinstance(args[1], int))
        if name in ("index", "index_put", "index_put_"):
            waits = any(i is not None and i.dtype == torch.bool for i in args[1])
        if waits:
            stack = [(frame.f_code, line) for frame, line in traceback.walk_stack(currentframe())][1:]  # the innermost first
            code, line = next((code, line) for code, line in stack if not code.co_filename.startswith(TORCH))
            on_host = code.co_filename == penchant.batch.__file__ and code.co_name in HOST
            of_pack = any(code.co_filename.endswith(RNN) for code, _ in stack)  # reads a pack's sizes, on the host too
            if not on_host and not of_pack:
                self.seen[name, f"{Path(code.co_filename).name}:{line} {code.co_name}"] += 1
        return func(*args, **kwargs)
