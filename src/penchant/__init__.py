"""penchant: from a log of what people did to a recommender that looks, for each candidate, at the part of the past that matters.

The names below are the public ones; each is imported when it is first asked for, so that the command line starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penchant.batch import Batch, History, Memory, Output, Segments
    from penchant.bundle import Bundle, load_bundle, save_bundle
    from penchant.data.log import Log, open_log
    from penchant.data.prepare import prepare
    from penchant.encoding import Encoding
    from penchant.errors import PenchantError
    from penchant.evaluate.judge import judge
    from penchant.evaluate.protocol import PROTOCOLS
    from penchant.models import MODELS
    from penchant.nn.model import Model
    from penchant.request import Event, Request
    from penchant.schema import Schema, read_schema
    from penchant.scorer import Scorer
    from penchant.train.config import RunConfig
    from penchant.train.fit import fit, resume

__version__ = "0.1.0"

_HOME = {
    "Batch": "batch",
    "Bundle": "bundle",
    "Encoding": "encoding",
    "Event": "request",
    "History": "batch",
    "Log": "data.log",
    "MODELS": "models",
    "Memory": "batch",
    "Model": "nn.model",
    "Output": "batch",
    "PROTOCOLS": "evaluate.protocol",
    "PenchantError": "errors",
    "Request": "request",
    "RunConfig": "train.config",
    "Schema": "schema",
    "Scorer": "scorer",
    "Segments": "batch",
    "judge": "evaluate.judge",
    "load_bundle": "bundle",
    "open_log": "data.log",
    "prepare": "data.prepare",
    "read_schema": "schema",
    "save_bundle": "bundle",
    "fit": "train.fit",
    "resume": "train.fit",
}

__all__ = [
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
    "fit",
    "judge",
    "load_bundle",
    "open_log",
    "prepare",
    "read_schema",
    "resume",
    "save_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'penchant' has no attribute {name!r}")
    return getattr(import_module(f"penchant.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
