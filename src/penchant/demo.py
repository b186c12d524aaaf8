"""The whole way on MovieLens-100K: get, prepare, train, compare with popularity, recommend to one person."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penchant.bundle import load_bundle
from penchant.data.prepare import prepare
from penchant.data.replay import request_now, user_number
from penchant.data.sets import get
from penchant.errors import ExistsError
from penchant.evaluate.compare import compare, described, evaluate
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.files import disk_errors
from penchant.scorer import Scored, Scorer
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.loop import Report

PERSON = "42"
BUDGET = TrainConfig(epochs=4, batch_size=256, patience=2)  # pooling and din share it; mf, being far quicker, has its own
BUDGETS = {
    "popularity": BUDGET,
    "mf": TrainConfig(epochs=20, batch_size=256, rate=3e-3, patience=3),
    "pooling": BUDGET,
    "din": BUDGET,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Demo:
    """What the demo found."""

    results: list[dict[str, Any]]  # a summary a model
    difference: dict[str, Any]  # din less pooling
    protocol: str  # in words
    person: str
    recommended: Scored
    bundle: Path
    report: Path  # all of this as JSON
    seconds: float  # without the download

    def as_dict(self) -> dict[str, Any]:
        return {
            "results": self.results,
            "difference": self.difference,
            "protocol": self.protocol,
            "person": self.person,
            "recommended": self.recommended.as_dict(),
            "bundle": str(self.bundle),
            "report": str(self.report),
            "seconds": self.seconds,
        }


def demo(out: Path | str = "demo", *, say: Callable[[str], None] = lambda line: None, report: Report | None = None) -> Demo:
    """Runs the whole way into the new folder `out`; `say` is told of each stage. Raises ExistsError, FetchError."""
    out = Path(out)
    if out.exists():
        raise ExistsError(f"{out}: this exists already; remove it, or run the demo in another folder.")
    try:
        return _demo(out, say, report)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # the next try needs the place
        raise


def _demo(out: Path, say: Callable[[str], None], report: Report | None) -> Demo:
    say("getting MovieLens-100K")
    got = get("movielens-100k", out / "raw")
    begun = time.perf_counter()
    say(f"preparing {got.events:,} events from {got.place}")
    log = prepare(out / "raw", out / "log")
    protocol, judged = PROTOCOLS["loo-99"], {}
    for name, budget in BUDGETS.items():
        say(f"training {name}")
        config = RunConfig(log=str(out / "log"), model={"name": name}, train=budget)
        run = fit(config, out / "runs" / name, log=log, report=report)
        judged[name] = evaluate(run.bundle, log, protocol)
    say("recommending")
    bundle = out / "runs" / "din" / "bundle"
    recommended = Scorer(load_bundle(bundle)).recommend(request_now(log, user_number(log, PERSON)), 10, reasons=3)
    found = Demo(
        results=[{"model": name, **result.summary()} for name, result in judged.items()],
        difference=_difference(judged),
        protocol=protocol.says,
        person=PERSON,
        recommended=recommended,
        bundle=bundle,
        report=out / "report.json",
        seconds=round(time.perf_counter() - begun, 1),
    )
    with disk_errors(found.report, what="report"):
        found.report.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    return found


def _difference(judged: dict[str, Judged]) -> dict[str, Any]:
    return described(compare(judged["din"], judged["pooling"]), "din", "pooling", "ndcg@10")
