"""Whether a wider vector of a person buys what several vectors buy: pooling at widths 8 to 256 beside DIN, MIND and AMP at 16.

    market    a steady market of interest_family.py, of 1,000 people and 2,000 items: a person's tastes and an item's are known. Models
              learn from what requests showed (split by time) and are judged by protocol "impressions"; a seed is a market of its own
    beauty    Amazon Beauty by recipes/amazon-beauty.toml: protocol "ctr"; a seed is another run on the same people

All arms of one kind of data have one budget, item vectors of the same attributes (`item.attributes` is on for MIND and AMP as well) and
their own losses: pooling and DIN cross-entropy of what was shown or drawn, AMP a softmax over the same candidates, MIND a softmax over
its own 32 drawn items, so that MIND never hears what was shown in vain. `item.dim` is of each part of an item's vector, of which a market
has four and Beauty two. `popularity` learns nothing and is there to be read beside.

    parameters     all, and those outside of tables of ids
    test           AUC of all rows together and GAUC, on the test part, with intervals over people
    gap            the metric on training events less that on validation events, at the weights that validation chose. Both are judged by
                   one protocol, each event given the past before it alone and candidates by the same rule. Training events are, of a
                   market, the requests of the latest training times, as many rows as validate; of Beauty, each person's last training
                   event, the one before that which validates. The interval draws people with all that they have in both parts
    lists          the first ten of the whole catalogue but for the past (last-full; loo-full), of at most PEOPLE people drawn by seed;
                   what `evaluate.lists` says of them: popularity lift over the past, coverage, Gini
    crowding       of people with two or more tastes in their past: minor tastes are those but the one with most of its events (of equal
                   ones the lowest number). Ratio: the mean share of the ten that is of minor tastes over the mean share of the past that
                   is; 1 is as in the past, 0 is crowded out. `chance`: that of ten drawn uniformly from the same candidates.
                   A market's item has the taste that was planted, and only tastes planted in the person are counted as theirs; an item of
                   Beauty has the commonest of its attributes (by items), which parts the catalogue into seven kinds
    upper half     of a market's test requests, the share of the clicks on items of the person's minor planted tastes (all but the one of
                   greatest weight) that are ranked in the upper half of what was shown; and of the main taste

    python studies/fixed_vectors.py OUT [--beauty LOG] [--seeds N] [--arms ARM,ARM] [--kinds market,beauty]      # prints one JSON object

What OUT holds already is not trained or judged again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from interest_family import ALL, MARKETS, MODELS, RUN, true_tastes

from penchant.bundle import Bundle, load_bundle
from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.fit import with_items_of
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.data.sets.market import MarketConfig, make_market
from penchant.data.split import Split, split_of
from penchant.encoding import Bools, Ints
from penchant.evaluate.compare import compare, evaluate
from penchant.evaluate.judge import judge, pool
from penchant.evaluate.judged import Judged
from penchant.evaluate.lists import of_lists
from penchant.evaluate.protocol import PROTOCOLS, Protocol
from penchant.metrics import Interval, bootstrap
from penchant.nn.embedding import Table
from penchant.train.config import RunConfig
from penchant.train.fit import fit

PEOPLE, RESAMPLES = 1000, 1000
LARGER = {"people": 1000, "items": 2000}  # than interest_family.py's markets, whose 33 items a taste are soon all in a past
ARMS: dict[str, tuple[dict[str, Any], int]] = {
    "popularity": ({"name": "popularity"}, 16),
    **{f"pooling {dim}": ({"name": "pooling"}, dim) for dim in (8, 16, 32, 64, 128, 256)},
    "din 16": ({}, 16),  # as each kind of data has it
    "mind 16": ({"name": "mind"}, 16),
    "amp 16": ({"name": "amp", "other_entropy": 0.2}, 16),
}
BASE = "pooling 16"
RECIPE = Path(__file__).parent.parent / "recipes" / "amazon-beauty.toml"


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Data to learn from and be judged on."""

    log: Log
    run: RunConfig
    split: Split
    whole: Protocol  # what makes lists
    taste: Ints  # [I] of each of the Log's items
    weight: np.ndarray | None  # [U, T] of each person's planted tastes, 0 where they have none; None: nobody knows

    @property
    def protocol(self) -> Protocol:
        return self.run.judging().protocol

    def config(self, arm: str) -> RunConfig:
        model, dim = ARMS[arm]
        item = {} if model.get("name") == "popularity" else {"item": {"dim": dim, "attributes": True}}
        return read(RunConfig, {**self.run.model_dump(mode="json", exclude_none=True), **({"model": model} if model else {}), **item})

    @property
    def latest(self) -> Split:
        """The split with the latest training events in the place of those that validate."""
        train = self.split.train
        if self.split.name == "leave-last-out":  # whose protocols judge the last of each person's
            return replace(self.split, valid=train)
        when = np.asarray(self.log.events["time"])[train]
        return replace(self.split, valid=train[when >= np.sort(when)[-len(self.split.valid)]])


def of_market(out: Path, seed: int) -> Ground:
    if not (out / "log").exists():
        make_market(out / "raw", read(MarketConfig, {**ALL, **MARKETS["steady"], **LARGER, "seed": seed}))
        prepare(out / "raw", out / "log")
    log = open_log(out / "log")
    run = read(RunConfig, {**RUN, "log": str(log.folder), "seed": seed, "model": MODELS["din"]})
    taste = true_tastes(out, log)
    held = pq.read_table(out / "raw" / "truth" / "tastes.parquet").to_pydict()
    place = {str(user): at for at, user in enumerate(log.users.column("id").to_pylist())}
    weight = np.zeros((len(place), int(taste.max()) + 1))
    for user, kind, much in zip(held["user"], held["taste"], held["weight"], strict=True):  # a steady taste has many equal intervals
        if str(user) in place:
            weight[place[str(user)], kind] = max(much, weight[place[str(user)], kind])
    return Ground(log=log, run=run, split=split_of(log, run.judging().split), whole=PROTOCOLS["last-full"], taste=taste, weight=weight)


def of_beauty(folder: Path, seed: int) -> Ground:
    log = open_log(folder)
    run = read(RunConfig, RECIPE).model_copy(update={"log": str(folder), "seed": seed})
    column = log.items.column("item.attributes")
    code, owner = pc.list_flatten(column).to_numpy(), pc.list_parent_indices(column).to_numpy()
    items = np.bincount(code)[code]
    order = np.lexsort((code, -items, owner))  # the commonest first
    _, first = np.unique(owner[order], return_index=True)
    kind = np.zeros(len(log.items), dtype=np.int64)
    kind[owner[order][first]] = 1 + np.unique(code[order][first], return_inverse=True)[1]  # 0: no attribute at all
    return Ground(log=log, run=run, split=split_of(log, run.judging().split), whole=PROTOCOLS["loo-full"], taste=kind, weight=None)


def learned(ground: Ground, arm: str, folder: Path) -> Bundle:
    """The arm's model, trained where it is not there, with all of the Log's items in its catalogue."""
    if not (folder / "run" / "bundle" / "manifest.json").exists():
        shutil.rmtree(folder / "run", ignore_errors=True)  # it broke before its end
        fit(ground.config(arm), folder / "run", log=ground.log)
    bundle = load_bundle(folder / "run" / "bundle")
    encoding = with_items_of(bundle.encoding, ground.log)
    bundle.model.item.extend(encoding.catalogue)
    return replace(bundle, encoding=encoding)


def studied(ground: Ground, arm: str, folder: Path) -> dict[str, Any]:
    """All that is measured of one arm; beside it test.npz, its judgement of the test part, and crowding.npz, person by person."""
    bundle = learned(ground, arm, folder)
    test = evaluate(bundle, ground.log, ground.protocol)
    test.save(folder / "test.npz")
    data = EncodedLog(ground.log, bundle.encoding, ground.split.hidden)
    found = {"parameters": parameters(bundle), "epochs": epochs(folder / "run")}
    found |= {"test": test.summary(), "gap": gap(ground, bundle, data)}
    seed = ground.run.seed
    lists = judge(bundle.model, data, ground.split, ground.whole, past=bundle.past, seed=seed, people=PEOPLE)
    found["lists"] = {"people": lists.people, **of_lists(data, lists)}
    found["crowding"], listed, base = crowding(ground, data, lists)
    np.savez(folder / "crowding.npz", listed=listed, base=base)
    if ground.weight is not None:
        found["upper half"] = upper_half(ground, test)
    return found


def parameters(bundle: Bundle) -> dict[str, int]:
    """How many numbers a model learns."""
    total = sum(one.numel() for one in bundle.model.parameters())
    tables = sum(one.weight.numel() for one in bundle.model.modules() if isinstance(one, Table))
    return {"all": total, "outside tables": total - tables}


def epochs(run: Path) -> dict[str, int]:
    """How many epochs ran, and after how many the kept weights were found."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [line["valid"]["epoch"] for line in lines if "valid" in line][-1]
    best = json.loads((run / "bundle" / "facts.json").read_text(encoding="utf-8"))["valid"]["epoch"]
    return {"run": 1 + int(last), "kept": 1 + int(best)}


def gap(ground: Ground, bundle: Bundle, data: EncodedLog) -> dict[str, Any]:
    """AUC and GAUC on training events less those on validation events."""
    seed = ground.run.seed
    train, valid = (
        judge(bundle.model, data, split, ground.protocol, past=bundle.past, part="valid", seed=seed)
        for split in (ground.latest, ground.split)
    )
    found: dict[str, Any] = {"lists": [len(train.user), len(valid.user)]}
    for metric in ("auc", "gauc"):
        found[metric] = {"train": train.value(metric), "valid": valid.value(metric), "gap": train.value(metric) - valid.value(metric)}
    interval = apart(train, valid, "gauc", seed)
    found["gauc"]["interval"] = [interval.low, interval.high]
    return found


def apart(a: Judged, b: Judged, metric: str, seed: int) -> Interval:
    """The interval of a's value less b's: people are drawn with all that they have in both."""
    people = np.union1d(a.person, b.person)
    value, weight = np.zeros((2, len(people))), np.zeros((2, len(people)))
    for row, one in enumerate((a, b)):
        mine = np.searchsorted(people, one.person)
        weight[row, mine] = one.weight(metric)
        value[row, mine] = one.weight(metric) * one.each(metric)
    draw, differences = np.random.default_rng(seed), np.empty(RESAMPLES)
    for at in range(RESAMPLES):
        drawn = draw.integers(len(people), size=len(people))
        mean = value[:, drawn].sum(1) / weight[:, drawn].sum(1)
        differences[at] = mean[0] - mean[1]
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(float(low), float(high))


def crowding(ground: Ground, data: EncodedLog, lists: Judged) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """How much of lists, of pasts, and of what lists could hold is of main and of minor tastes; the minor shares of lists and of pasts."""
    kinds, people = int(ground.taste.max()) + 1, len(lists.user)
    of_row = np.zeros(data.encoding.catalogue.size, dtype=np.int64)
    of_row[data.item] = ground.taste
    past, length = data.past(lists.position, data.log.size, lists.protocol.tie)
    before, owner = data.rows(past), np.repeat(np.arange(people), length)
    assert lists.top is not None
    whose, place = np.nonzero(lists.top >= 0)
    much = _table(owner, of_row[before], people, kinds)
    listed = _table(whose, of_row[lists.top[whose, place]], people, kinds)
    gone = np.unique(owner * len(of_row) + before)  # an item of the past, once
    left = np.bincount(of_row[pool(data)], minlength=kinds) - _table(gone // len(of_row), of_row[gone % len(of_row)], people, kinds)
    own = much > 0 if ground.weight is None else (much > 0) & (ground.weight[lists.user] > 0)
    several = own.sum(1) > 1
    main = np.zeros_like(own)
    main[np.arange(people), np.where(own, much, -1).argmax(1)] = True
    minor = own & ~main

    def shares(count: np.ndarray, which: Bools) -> np.ndarray:
        share: np.ndarray = (count * which)[several].sum(1) / count[several].sum(1)
        return share

    base, shown = shares(much, minor), shares(listed, minor)
    found: dict[str, Any] = {"people": int(several.sum()), "ratio": float(shown.mean() / base.mean())}
    interval = bootstrap(shown / base, base, resamples=RESAMPLES, seed=lists.seed)
    found |= {"interval": [interval.low, interval.high], "chance": float(shares(left, minor).mean() / base.mean())}
    for name, count in {"past": much, "list": listed, "candidates": left}.items():
        found[name] = {"main": float(shares(count, main).mean()), "minor": float(shares(count, minor).mean())}
    return found, shown, base


def _table(row: Ints, column: Ints, rows: int, columns: int) -> Ints:
    counts: Ints = np.bincount(row * columns + column, minlength=rows * columns).reshape(rows, columns)
    return counts


def upper_half(ground: Ground, judged: Judged) -> dict[str, Any]:
    """The share of clicks that are ranked in the upper half of their request, ties by half, of the main planted taste and of the others."""
    assert judged.rows is not None
    assert ground.weight is not None
    rows, log, weight = judged.rows, ground.log, ground.weight
    start = np.flatnonzero(np.append(True, np.diff(rows.list) != 0))
    size = np.diff(start, append=len(rows.list))
    position = rows.list + np.arange(len(rows.list)) - np.repeat(start, size)  # a request's rows stand side by side in the Log
    assert np.array_equal(log.positive[position], rows.label > 0.5)
    share = np.empty(len(position))
    for first, count in zip(start.tolist(), size.tolist(), strict=True):
        score = rows.score[first : first + count]
        rank = (score > score[:, None]).sum(1) + ((score == score[:, None]).sum(1) - 1) / 2
        share[first : first + count] = np.where(rank < (count - 1) / 2, 1.0, np.where(rank > (count - 1) / 2, 0.0, 0.5))
    taste, chosen = ground.taste[log.events["item"][position]], rows.label > 0.5
    held, several = weight[rows.user, taste] > 0, (weight[rows.user] > 0).sum(1) > 1
    main = taste == weight[rows.user].argmax(1)
    found: dict[str, Any] = {}
    for name, which in {"minor": ~main, "main": main}.items():
        mine = chosen & held & several & which
        number = np.bincount(rows.user[mine], minlength=len(weight))
        there = number > 0
        each = np.bincount(rows.user[mine], share[mine], len(weight))[there] / number[there]
        interval = bootstrap(each, number[there].astype(float), resamples=RESAMPLES, seed=judged.seed)
        found[name] = {"share": float(share[mine].mean()), "interval": [interval.low, interval.high], "clicks": int(mine.sum())}
    return found


def main(out: Path, kinds: Sequence[str], arms: Sequence[str], seeds: int, beauty: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in kinds:
        for seed in range(seeds):
            home = out / f"{kind}-{seed}"
            ground = of_market(home, seed) if kind == "market" else of_beauty(beauty, seed)
            here: dict[str, Any] = {"protocol": ground.protocol.says, "lists": ground.whole.says}
            for arm in arms:
                folder = home / arm.replace(" ", "-")
                file = folder / "measured.json"
                if not file.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    one = studied(ground, arm, folder)
                    file.write_text(json.dumps(one, indent=1) + "\n", encoding="utf-8")
                    print(json.dumps({kind: seed, arm: brief(one)}), file=sys.stderr, flush=True)
                here[arm] = json.loads(file.read_text(encoding="utf-8"))
            if BASE in arms:
                here[f"less {BASE}"] = {arm: against(ground, home, arm) for arm in arms if arm != BASE}
            found[f"{kind} {seed}"] = here
    return found


def against(ground: Ground, home: Path, arm: str) -> dict[str, list[float]]:
    """An arm's GAUC and crowding less the base's, over the same people, with intervals."""
    folders = [home / one.replace(" ", "-") for one in (arm, BASE)]
    gain = compare(*(Judged.load(folder / "test.npz", ground.protocol) for folder in folders), "gauc")
    mine, other = (np.load(folder / "crowding.npz") for folder in folders)
    base, more = mine["base"], mine["listed"] - other["listed"]
    interval = bootstrap(more / base, base, resamples=RESAMPLES, seed=ground.run.seed)
    return {
        "gauc": [gain.difference, gain.low, gain.high],
        "crowding": [float(more.sum() / base.sum()), interval.low, interval.high],
    }


def brief(one: Mapping[str, Any]) -> dict[str, Any]:
    """What to watch while it runs."""
    test, lists, seen = one["test"], one["lists"], one["crowding"]
    told = {"auc": test["auc"], "gauc": test["gauc"], "gap": one["gap"]["gauc"]["gap"], "lift": lists.get("popularity-lift@10")}
    return {**told, "crowding": seen["ratio"], "epochs": one["epochs"]}


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("out", type=Path)
    asked.add_argument("--beauty", type=Path, default=Path("data/beauty"))
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--arms", default=",".join(ARMS))
    asked.add_argument("--kinds", default="market,beauty")
    given = asked.parse_args()
    print(json.dumps(main(given.out, given.kinds.split(","), given.arms.split(","), given.seeds, given.beauty), indent=1))
