"""What helps against clicks that mean nothing, and against bots: losses and defences on markets whose truth is known.

    clean      as people clicked
    tenth      of a tenth of the rows the click is turned over: of the clicks of the log four in ten are none
    three      of three tenths: seven in ten
    bots       one person in a hundred is a bot and asks twenty times as often: a sixth of the rows

Each loss (bce, truncated, reweighted, gce) learns as it is, with choices weighed by how well they fit (data.noise.fit), and among
bots also without who looks like one (data.noise.bots). All have the same model, din, and the same eight epochs; the best of them is
chosen by noisy labels, as in life. They are judged by clean ones: by the clicks of people, no bots, in the part of the time that
tests, before any was turned over. Differences are from bce without a defence, paired over all people of the markets of a kind.

    python studies/noise.py OUT [SEEDS]      # three seeds, about an hour on one core; prints one JSON object

A run that is done is not done again; what remains is said on stderr.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.config import read
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.data.sets.market import MarketConfig, make_market, read_truth
from penchant.data.split import SplitConfig, split_of
from penchant.encoding import Bools
from penchant.evaluate.compare import evaluate
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import Lists, auc, paired
from penchant.train.config import RunConfig
from penchant.train.fit import fit

Found = dict[str, NDArray[Any]]  # of one run: auc [], and of people with clicks and others: each [U], weight [U]

MARKET = {"people": 600, "items": 400, "requests": 30.0, "slots": 8, "own": 0.6, "popular": 0.2, "bots": 0.0, "format": "parquet"}
MARKETS: dict[str, dict[str, Any]] = {"clean": {}, "tenth": {"flip": 0.1}, "three": {"flip": 0.3}, "bots": {"bots": 0.01}}
LOSSES: dict[str, dict[str, Any]] = {
    "bce": {"name": "bce"},
    "truncated": {"name": "truncated", "over": 300},
    "reweighted": {"name": "reweighted"},
    "gce": {"name": "gce"},
}
DEFENCES: dict[str, dict[str, Any]] = {"none": {}, "weight": {"fit": "weight"}, "no bots": {"bots": "drop"}}
RUN: dict[str, Any] = {
    "split": {"name": "time"},
    "protocol": "impressions",
    "model": {"name": "din", "normalize": "softmax", "attention": [32, 16], "head": [64, 32]},
    "item": {"dim": 8},
    "train": {"epochs": 8, "batch_size": 64, "rate": 5e-3, "monitor": "gauc", "patience": 8},
}
PLAIN = ("bce", "none")


def asked(kind: str) -> list[tuple[str, str]]:
    """The losses and defences that are tried on a kind of market; where there are no bots, none are dropped."""
    return [(loss, defence) for loss in LOSSES for defence in DEFENCES if defence != "no bots" or kind == "bots"]


def market(folder: Path, kind: str, seed: int, sizes: dict[str, Any]) -> Log:
    """A market's Log, made where it is not there."""
    if not (folder / "log").exists():
        shutil.rmtree(folder / "raw", ignore_errors=True)
        make_market(folder / "raw", read(MarketConfig, {**MARKET, **sizes, **MARKETS[kind], "seed": seed}))
        prepare(folder / "raw", folder / "log")
    return open_log(folder / "log")


def truth(folder: Path, log: Log) -> tuple[Bools, Bools]:
    """bool [N] and [N]: what was clicked before any click was turned over, and whose events are a bot's."""
    known = read_truth(folder / "raw")
    bot = dict(zip(known.user.astype(str).tolist(), known.bot.tolist(), strict=True))
    person = np.array([bot[name] for name in log.users.column("id").to_pylist()])
    return log.positive ^ known.flipped[log.events["source"]], person[log.user_of(np.arange(log.size))]


def tried(folder: Path, log: Log, loss: str, defence: str, seed: int) -> Found:
    """One run, trained and judged by the truth where that is not done yet."""
    out = folder / f"{loss}, {defence}"
    if (out / "found.npz").exists():
        with np.load(out / "found.npz") as stored:
            return dict(stored)
    shutil.rmtree(out, ignore_errors=True)  # a run that broke
    data = {"past": 20, "negatives": 0, "noise": DEFENCES[defence]}
    run = fit(read(RunConfig, {**RUN, "log": str(log.folder), "seed": seed, "loss": LOSSES[loss], "data": data}), out, log=log)
    rows = evaluate(run.bundle, log, PROTOCOLS["logged"]).rows
    assert rows is not None
    test = split_of(log, SplitConfig(name="time")).test
    clean, bot = truth(folder, log)
    score, label, user = (column[~bot[test]] for column in (rows.score, clean[test].astype(np.float32), rows.user))
    lists = Lists.of(score, label, user)
    lists = lists.take(lists.positives < lists.rows)
    found: Found = {"auc": np.array(auc(score, label)), "person": lists.group, "each": lists.auc, "weight": lists.rows.astype(float)}
    np.savez(out / "found.npz", **found)
    return found


def main(out: Path, seeds: int = 3, kinds: tuple[str, ...] = tuple(MARKETS), sizes: dict[str, Any] | None = None) -> dict[str, Any]:
    runs = [(kind, seed, *one) for seed in range(seeds) for kind in kinds for one in asked(kind)]
    done: dict[tuple[str, int, str, str], Found] = {}
    begun, new = time.perf_counter(), 0
    for kind, seed, loss, defence in runs:
        folder = out / f"{kind}-{seed}"
        new += not (folder / f"{loss}, {defence}" / "found.npz").exists()
        done[kind, seed, loss, defence] = tried(folder, market(folder, kind, seed, sizes or {}), loss, defence, seed)
        left = (len(runs) - len(done)) * (time.perf_counter() - begun) / max(new, 1) / 60
        print(f"{kind}-{seed}: {loss}, {defence}; {len(runs) - len(done)} runs remain, about {left:.0f} minutes", file=sys.stderr)
    return {
        "judged by": "clean labels of the rows that test, of people; GAUC by person, weighed by rows",
        "seeds": seeds,
        "markets": {kind: {f"{loss}, {how}": of_runs(done, kind, seeds, loss, how) for loss, how in asked(kind)} for kind in kinds},
    }


def of_runs(done: dict[tuple[str, int, str, str], Found], kind: str, seeds: int, loss: str, defence: str) -> dict[str, Any]:
    """A loss and a defence over all seeds, beside bce without one."""
    mine, plain = ([done[kind, seed, *one] for seed in range(seeds)] for one in ((loss, defence), PLAIN))
    for a, b in zip(mine, plain, strict=True):
        assert np.array_equal(a["person"], b["person"])
    each, base, weight = (np.concatenate([one[name] for one in runs]) for runs, name in ((mine, "each"), (plain, "each"), (mine, "weight")))
    gain = paired(each, base, weight)
    return {
        "auc": [float(one["auc"]) for one in mine],
        "gauc": [float(np.average(one["each"], weights=one["weight"])) for one in mine],
        "gauc, difference": gain.difference,
        "interval": [gain.low, gain.high],
        "p": gain.p,
        "people": gain.users,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3), indent=1))
