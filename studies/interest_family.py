"""What attention finds, and where order and sessions pay: on markets whose truth is known.

    steady      tastes that stay; whose events does DIN look at? |attention| on the candidate's own taste, beside its share of the past
    drifting    half of a person's tastes are replaced every eight days: what was done last says more than what was done first
    sessions    sessions of eight requests, each with one active taste that nothing but its clicks gives away

Three markets of each kind. The models of a market have the same budget and learn from what its requests showed, to their patience; they
are judged by how they order what later requests showed (split by time, protocol "impressions"), paired over all people of the three
markets.

`din` weighs events by a softmax here; in the steady market also without, as its paper has it.

    python studies/interest_family.py OUT [KIND ...]      # about forty minutes on one core; prints one JSON object
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from penchant.bundle import Bundle, load_bundle
from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.data.sets.market import MarketConfig, make_market
from penchant.data.split import split_of
from penchant.encoding import Ints
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import paired
from penchant.train.config import RunConfig
from penchant.train.fit import fit

METRIC, PROTOCOL = "gauc", PROTOCOLS["impressions"]
ALL = {"items": 400, "requests": 50.0, "own": 0.6, "popular": 0.2, "position": 0.3, "bots": 0.0}
MARKETS: dict[str, dict[str, Any]] = {
    "steady": {"drift": 0.0},
    "drifting": {"drift": 0.5, "stage": 8.0, "context": 0.0},
    "sessions": {"drift": 0.0, "session": 8.0, "context": 0.0},
}
MODELS: dict[str, dict[str, Any]] = {
    "din": {"name": "din", "normalize": "softmax"},
    "din, no softmax": {"name": "din"},
    "dien": {"name": "dien"},
    "dsin": {"name": "dsin"},
}
ASKED = {"steady": ["din", "din, no softmax"], "drifting": ["din", "dien"], "sessions": ["din", "dsin"]}
RUN: dict[str, Any] = {
    "split": {"name": "time"},
    "protocol": "impressions",
    "data": {"past": 50, "negatives": 0},
    "item": {"dim": 16},
    "train": {"epochs": 20, "batch_size": 128, "rate": 2e-3, "monitor": METRIC, "patience": 3},
}
AT_ONCE = 512  # requests that attention is asked about at a time


def market(folder: Path, kind: str, seed: int, people: int = 600) -> Log:
    """A market's Log, made where it is not there."""
    if not (folder / "log").exists():
        make_market(folder / "raw", read(MarketConfig, {**ALL, **MARKETS[kind], "people": people, "seed": seed}))
        prepare(folder / "raw", folder / "log")
    return open_log(folder / "log")


def learned(folder: Path, log: Log, model: str, seed: int) -> tuple[Bundle, Judged]:
    """A model trained on it where it is not there, and judged."""
    if not (folder / model / "bundle").exists():
        fit(read(RunConfig, {**RUN, "log": str(log.folder), "seed": seed, "model": MODELS[model]}), folder / model, log=log)
    bundle = load_bundle(folder / model / "bundle")
    return bundle, evaluate(bundle, log, PROTOCOL)


def attention_by_taste(bundle: Bundle, log: Log, folder: Path) -> tuple[list[float], list[float]]:
    """Of people with several tastes in their past, for each item that they chose in the test part: the share of |attention| on events of
    the item's own taste, and the share of events that are of it.
    """
    taste = true_tastes(folder, log)
    split = split_of(log, read(RunConfig, {**RUN, "log": str(log.folder)}).judging().split)
    data = EncodedLog(log, bundle.encoding, split.hidden)
    chosen = split.test[log.positive[split.test]]
    loader = Loader(data=data, position=chosen, config=LoadConfig(past=bundle.past), seed=0)
    rows = np.zeros(bundle.encoding.catalogue.size, dtype=np.int64) - 1
    rows[data.item] = taste
    share: list[float] = []
    base: list[float] = []
    for begin in range(0, len(chosen), AT_ONCE):
        position = chosen[begin : begin + AT_ONCE]
        batch = loader.assemble(position, data.rows(position)[:, None])
        with torch.inference_mode():
            attention = bundle.model(batch, explain=True).attention
        say, events = attention[:, 0].abs().double().numpy(), batch.history.events
        past = rows[batch.row[batch.history.item].numpy()]
        own = past == rows[data.rows(position)][events.row.numpy()]
        for first, last in zip(events.start[:-1].tolist(), events.start[1:].tolist(), strict=True):
            mine, whole = own[first:last], say[first:last].sum()
            if mine.any() and not mine.all() and whole > 0:
                share.append(float(say[first:last][mine].sum() / whole))
                base.append(float(mine.mean()))
    return share, base


def true_tastes(folder: Path, log: Log) -> Ints:
    """int64, the taste of each of the Log's items."""
    table = pq.read_table(folder / "raw" / "truth" / "items.parquet").to_pydict()
    known = dict(zip(map(str, table["item"]), table["taste"], strict=True))
    return np.array([known[str(item)] for item in log.items.column("id").to_pylist()], dtype=np.int64)


def main(out: Path, kinds: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"metric": METRIC, "protocol": PROTOCOL.says}
    for kind in kinds:
        models = ASKED[kind]
        judged: dict[str, list[Judged]] = {model: [] for model in models}
        looked: dict[str, tuple[list[float], list[float]]] = {model: ([], []) for model in models if model.startswith("din")}
        for seed in range(3):
            folder = out / f"{kind}-{seed}"
            log = market(folder, kind, seed)
            for model in models:
                bundle, one = learned(folder, log, model, seed)
                judged[model].append(one)
                if model in looked:
                    for kept, more in zip(looked[model], attention_by_taste(bundle, log, folder), strict=True):
                        kept.extend(more)
        each = {model: np.concatenate([one.each(METRIC) for one in of_kind]) for model, of_kind in judged.items()}
        weight = np.concatenate([one.weight(METRIC) for one in judged["din"]])
        found[kind] = {model: [one.value(METRIC) for one in of_kind] for model, of_kind in judged.items()}
        for model, (share, base) in looked.items():
            found[kind][f"attention of {model}"] = {"share": np.mean(share), "of the past": np.mean(base), "choices": len(share)}
        for model in models:
            if model != "din":
                gain = paired(each[model], each["din"], weight)
                found[kind][f"{model} - din"] = [gain.difference, gain.low, gain.high]
        print(json.dumps({kind: found[kind]}), file=sys.stderr)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:] or list(MARKETS)), indent=1))
