"""Whether ratios to the reference, which never changes and is measured in the same minutes, are still those of a baseline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penchant.bench.reference import REFERENCE
from penchant.bench.score import bench_score
from penchant.bench.train import bench_train, machine
from penchant.errors import ArtefactError
from penchant.files import disk_errors, write_text

FALL = 0.15  # of a ratio, that is too much
CASES: Mapping[str, Callable[[], float]] = {
    "train din": lambda: bench_train(model="din", threads=1).ratio.median,
    "train din, pasts full": lambda: bench_train(model="din", full=True, rounds=3, steps=10, threads=1).ratio.median,
    "train dien": lambda: bench_train(model="dien", rounds=3, steps=10, threads=1).ratio.median,
    "train dsin": lambda: bench_train(model="dsin", rounds=3, steps=10, threads=1).ratio.median,
    "score din": lambda: bench_score(model="din", threads=1).ratio.median,
    "score dien": lambda: bench_score(model="dien", rounds=3, threads=1).ratio.median,
}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A ratio now and in the baseline."""

    name: str
    now: float
    baseline: float

    @property
    def fell(self) -> bool:
        return self.now < (1 - FALL) * self.baseline


def measure(cases: Mapping[str, Callable[[], float]] = CASES, say: Callable[[str], None] = lambda line: None) -> dict[str, float]:
    """Our speed over that of the reference loop, of each case."""
    found = {}
    for name, case in cases.items():
        say(f"measuring: {name}")
        found[name] = case()
    return found


def write(file: Path, ratios: Mapping[str, float]) -> None:
    """A baseline. Raises DiskError."""
    facts = machine() | {"threads": 1}  # of all CASES
    with disk_errors(file, what="baseline"):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"reference": REFERENCE, "ratios": dict(ratios), "facts": facts}, indent=1) + "\n", what="baseline")


def read_baseline(file: Path) -> dict[str, float]:
    """The ratios of a baseline. Raises ArtefactError for what is none, or of another reference."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        ratios = {str(name): float(ratio) for name, ratio in found["ratios"].items()}
        reference = int(found["reference"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as fault:
        raise ArtefactError(f"{file}: cannot be read as a baseline ({fault}).") from None
    if reference != REFERENCE:
        raise ArtefactError(f"{file}: its ratios are to reference {reference}; this penchant has {REFERENCE}. Measure a new one: --write.")
    return ratios


def compare(now: Mapping[str, float], baseline: Mapping[str, float]) -> Sequence[Compared]:
    """Each case of now. Raises ArtefactError where the baseline lacks one."""
    if missing := [name for name in now if name not in baseline]:
        raise ArtefactError(f"the baseline has no ratio of {', '.join(missing)}; measure a new one: --write.")
    return [Compared(name=name, now=now[name], baseline=baseline[name]) for name in now]


def as_dicts(found: Sequence[Compared]) -> list[dict[str, Any]]:
    return [{**asdict(one), "fell": one.fell} for one in found]
