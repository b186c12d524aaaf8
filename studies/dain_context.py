"""Does a recommender that is told the moment use it, and only where it says something?

Two kinds of simulated market: in one the device and the part of the day decide which of a person's tastes is active, in the
other they say nothing. On three markets of each kind `dain` learns from logged impressions with context and without, at the same
budget (to its patience), and is judged by how it orders what a later request showed (split by time, protocol "impressions"); the
difference is paired over all people of the three markets.

    python studies/dain_context.py OUT          # about fifteen minutes on one core; prints one JSON object
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from penchant.config import read
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.data.sets.market import MarketConfig, make_market
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judge import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import paired
from penchant.train.config import RunConfig
from penchant.train.fit import fit

METRIC, PROTOCOL = "gauc", PROTOCOLS["impressions"]
MARKET = {
    "people": 1000,
    "items": 1000,
    "requests": 30.0,
    "own": 0.6,
    "popular": 0.2,
    "most_tastes": 6,
    "position": 0.3,
    "bots": 0.0,
    "drift": 0.0,
}
RUN: dict[str, Any] = {
    "split": {"name": "time"},
    "protocol": "impressions",
    "data": {"past": 0, "negatives": 0},
    "item": {"attributes": True, "dim": 16},
    "train": {"epochs": 40, "batch_size": 64, "rate": 1e-3, "table_l2": 1e-5, "monitor": METRIC, "patience": 5},
}


def market(folder: Path, decides: float, seed: int) -> Log:
    """A market's Log, made where it is not there."""
    if not (folder / "log").exists():
        make_market(folder / "raw", read(MarketConfig, {**MARKET, "context": decides, "seed": seed}))
        prepare(folder / "raw", folder / "log")
    return open_log(folder / "log")


def judged(folder: Path, log: Log, context: str, seed: int) -> Judged:
    """dain trained with this form of context, judged."""
    config = read(RunConfig, {**RUN, "log": str(log.folder), "seed": seed, "model": {"name": "dain", "context": context, "field": 2}})
    run = fit(config, folder / context, log=log)
    return evaluate(run.bundle, log, PROTOCOL)


def main(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"metric": METRIC, "protocol": PROTOCOL.says}
    for name, decides in (("context decides", 1.0), ("context says nothing", 0.0)):
        with_context, without = [], []
        for seed in range(3):
            folder = out / f"market-{decides:g}-{seed}"
            log = market(folder, decides, seed)
            with_context.append(judged(folder, log, "embedding", seed))
            without.append(judged(folder, log, "none", seed))
            with_context[-1].refuse_other(without[-1])
        each = [np.concatenate([one.each(METRIC) for one in of_kind]) for of_kind in (with_context, without)]
        difference = paired(*each, np.concatenate([one.weight(METRIC) for one in with_context]))
        found[name] = {
            "with context": [one.value(METRIC) for one in with_context],
            "without": [one.value(METRIC) for one in without],
            "difference": difference.difference,
            "interval": [difference.low, difference.high],
            "people": difference.users,
        }
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=1))
