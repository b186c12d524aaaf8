"""A result as another library's arithmetic would give it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from penchant.errors import ConfigError, DataError, unknown_name
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import Protocol
from penchant.metrics.dialects import DIALECTS


def refuse_dialect(name: str, protocol: Protocol) -> None:
    """Raises UnknownNameError, and ConfigError where the whole catalogue is ranked: of that no rows are kept."""
    if name not in DIALECTS:
        raise unknown_name("dialect", name, DIALECTS)
    if protocol.candidates == "catalogue":
        raise ConfigError(f"dialect {name} needs the rows of a result; {protocol.name} ranks the whole catalogue and keeps none.")


def in_dialect(judged: Judged, name: str, k: int = 10) -> dict[str, Any]:
    """The numbers of the same scores by DIALECTS[name], and what they do otherwise; what it refuses of these rows is None.

    Raises as `refuse_dialect` does.
    """
    refuse_dialect(name, judged.protocol)
    dialect, rows = DIALECTS[name], judged.rows
    if rows is None:
        raise ConfigError(f"dialect {name} needs the rows of a result; this one has none.")
    numbers: dict[str, Callable[[], float]] = {
        "auc": partial(dialect.auc, rows.score, rows.label),
        "gauc": partial(dialect.gauc, rows.score, rows.label, rows.user),
    }
    numbers |= {f"{metric}@{k}": partial(at, rows.score, rows.label, rows.list, k) for metric, at in dialect.at_k.items()}
    numbers |= {also: partial(of, rows.score, rows.label, rows.user) for also, of in dialect.also.items()}
    if judged.protocol.labelled and dialect.log_loss is not None:
        numbers["log-loss"] = partial(dialect.log_loss, rows.probability, rows.label)
    found: dict[str, Any] = {"dialect": name, "source": dialect.source, "says": list(dialect.says)}
    refused: dict[str, str] = {}
    for metric, number in numbers.items():
        try:
            found[metric] = number()
        except DataError as fault:
            found[metric], refused[metric] = None, str(fault)
    return {**found, "refused": refused}
