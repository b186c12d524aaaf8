"""What each way with long pasts costs, and what it loses against attention over all of a past.

    cost     one person, 10,000 events, 200 candidates, item and category 32 wide: reading the past, scoring with the memory kept, bytes;
             beside attention over 100 events. Made arrays, untrained weights, rounds of all ways in turn
    movies   MovieLens-1M: DIN within each way, pasts of up to 500 events; the latest two events of each person but the last two train.
             Judged by DIN's protocol (the last event and one drawn), on people of 200 events or more: AUC, and GAUC paired with
             attention over all events
    market   a made market of long pasts, tastes that come and go: judged by how later requests are ordered (impressions)

    OMP_NUM_THREADS=1 python studies/long_pasts.py OUT cost|movies|market [--ways WAY ...] [--seeds N]

Every way may read 60 events or vectors a candidate, 10 of them the latest. All have one budget. Prints one JSON object; OUT keeps
what is done. `movies` needs data/movielens-1m.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from penchant.batch import Batch
from penchant.bench.simulate import simulate
from penchant.collate import Pasts, Requests, collate
from penchant.compare import Entry, compare_models
from penchant.config import read
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.data.sets.market import MarketConfig, make_market
from penchant.encoding import Encoding
from penchant.evaluate.judged import Judged
from penchant.metrics import auc, bootstrap, paired
from penchant.models import build
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model, score_in_chunks
from penchant.train.config import RunConfig

FULL, SHORT = "all events", "latest 60"
WAYS: dict[str, dict[str, Any] | None] = {
    FULL: None,
    SHORT: {"name": "recent", "most": 60},
    "sample": {"name": "sample", "most": 50},
    "sparse": {"name": "sparse", "stride": 10, "most": 50},
    "chunks": {"name": "chunks", "size": 10},
    "low-rank": {"name": "low-rank", "rank": 50},
    "sim-hard": {"name": "sim-hard"},
    "sim-soft": {"name": "sim-soft"},
    "eta": {"name": "eta"},
    "sdim": {"name": "sdim"},
    "linear": {"name": "linear"},
}
DIN = {"name": "din", "normalize": "softmax", "attention_activation": "sigmoid"}
LONG_PAST = 200  # events, from where on a past is long
MOVIES: dict[str, Any] = {
    "log": "data/movielens-1m",
    "protocol": "ctr",
    "data": {"past": 500, "negatives": 1, "latest": 2},
    "model": DIN,
    "item": {"dim": 16},
    "train": {"epochs": 6, "batch_size": 256, "rate": 2e-3, "monitor": "auc", "patience": 2},
}
MARKET = {"people": 250, "items": 1000, "requests": 300.0, "days": 300, "drift": 0.3, "bots": 0.0, "tastes": 24, "own": 0.5}
OF_MARKET: dict[str, Any] = {
    "split": {"name": "time"},
    "protocol": "impressions",
    "data": {"past": 500, "negatives": 0, "latest": 40},
    "model": DIN,
    "item": {"dim": 16},
    "train": {"epochs": 4, "batch_size": 128, "rate": 2e-3, "monitor": "gauc", "patience": 2},
}
EVENTS, CANDIDATES, ROUNDS, BEST = 10_000, 200, 9, 3


def asked(encoding: Encoding, events: int, candidates: int) -> Batch:
    """One request of a person with a made past."""
    draw = np.random.default_rng(0)
    nothing, items = np.zeros((1, 0)), encoding.catalogue.size
    request = Requests(
        user=np.ones((1, 1), np.int64),
        user_number=nothing.astype(np.float32),
        number=nothing.astype(np.float32),
        context=nothing.astype(np.int64),
        time=np.array([10**9 * (events + 1)]),
        item=draw.integers(1, items, (1, candidates)),
    )
    past = Pasts(
        item=draw.integers(1, items, events),
        time=10**9 * np.arange(events),
        action=np.zeros((events, 0), np.int64),
        number=np.zeros((events, 0), np.float32),
        length=np.array([events]),
    )
    return collate(encoding, request, past)


def cost(ways: Sequence[str]) -> dict[str, Any]:
    encoding = simulate(users=2000, items=63_001, categories=801, mean_past=9, longest=50, full=False, seed=0).encoding
    long, short = asked(encoding, EVENTS, CANDIDATES), asked(encoding, 100, CANDIDATES)
    base = "all of 100 events"
    made: dict[str, tuple[Model, Batch]] = {}
    for way in (base, *ways):
        torch.manual_seed(0)
        model = build(encoding, "din", {"normalize": "softmax"}, ItemConfig(dim=32), None, WAYS.get(way)).eval()
        made[way] = model, short if way == base else long
    reading: dict[str, list[float]] = {way: [] for way in made}
    scoring: dict[str, list[float]] = {way: [] for way in made}
    held: dict[str, int] = {}
    with torch.inference_mode():
        for turn in range(ROUNDS):
            for way, (model, batch) in made.items():
                if way == FULL and turn >= BEST:  # a quarter of a minute each
                    continue
                items = model.item(batch.row, batch.known)
                begun = time.perf_counter()
                memory = model.read(items, batch.user, batch.history)
                reading[way].append(time.perf_counter() - begun)
                begun = time.perf_counter()
                score_in_chunks(model, items, memory, batch)
                scoring[way].append(time.perf_counter() - begun)
                held[way] = memory.bytes
    one = median(scoring[base])
    return {
        way: {
            "read ms": round(1000 * median(reading[way]), 1),
            "score ms": round(1000 * median(scoring[way]), 1),
            "times 100 events": round(median(scoring[way]) / one, 2),
            "memory bytes": held[way],
        }
        for way in made
    }


def quality(out: Path, config: RunConfig, ways: Sequence[str], seeds: int, least: int) -> dict[str, Any]:
    """Each way trained and judged, on people of `least` events or more before the one that is judged."""
    entries = [Entry(label=way, config=config.model_copy(update={"long": WAYS[way]})) for way in ways]
    compare_models(entries, seeds, out, say=lambda line: print(line, file=sys.stderr, flush=True))
    protocol, numbers = config.judging().protocol, range(config.seed, config.seed + seeds)
    judged = {way: [Judged.load(out / "judged" / f"{way}-{n}-{protocol.name}.npz", protocol) for n in numbers] for way in ways}
    people = long_pasts(open_log(config.log), judged[ways[0]][0], least)
    weight = judged[ways[0]][0].weight("gauc")[people]
    each = {way: np.mean([one.each("gauc")[people] for one in of_way], 0) for way, of_way in judged.items()}
    found: dict[str, Any] = {"people": int(people.sum()), "protocol": protocol.says}
    for way in ways:
        interval = bootstrap(each[way], weight)
        found[way] = {
            "auc": [of_people(one, people) for one in judged[way]],
            "gauc": [float(np.average(each[way], weights=weight)), interval.low, interval.high],
        }
        if FULL in ways and way != FULL:
            less = paired(each[way], each[FULL], weight)
            found[way]["less all events"] = [less.difference, less.low, less.high]
    return found


def long_pasts(log: Log, judged: Judged, least: int) -> np.ndarray:
    """bool, of each judged person, whether their Log holds so many events."""
    have: np.ndarray = np.diff(log.start)[judged.person] >= least
    return have


def of_people(judged: Judged, people: np.ndarray) -> float:
    """AUC over all that was asked about these people."""
    assert judged.rows is not None
    here = np.isin(judged.rows.user, judged.person[people])
    return auc(judged.rows.score[here], judged.rows.label[here])


def main(given: argparse.Namespace) -> Mapping[str, Any]:
    if given.what == "cost":
        return cost(given.ways)
    if given.what == "movies":
        return quality(given.out / "movies", read(RunConfig, MOVIES), given.ways, given.seeds, LONG_PAST)
    folder = given.out / "market"
    if not (folder / "log").exists():
        make_market(folder / "raw", read(MarketConfig, MARKET))
        prepare(folder / "raw", folder / "log")
    return quality(folder, read(RunConfig, {**OF_MARKET, "log": str(folder / "log")}), given.ways, given.seeds, LONG_PAST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=("cost", "movies", "market"))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(main(arguments), indent=1))
