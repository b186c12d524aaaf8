"""What lending does for people with few events, and what attributes do for items that nobody has met.

people   DIN on the split `people`: a share of the people is held out, past and all. Each of them is judged once by their sixth positive
         event ("sixth": they are truly new) and once by their last ("last"), as if they had 0, 1, 2, 3 or 5 events of their own, the
         latest before it. Arms: nothing lent; each step of the fallback alone (similar, profile, category, popular), so that its worth
         is seen; all in their order ("steps"); and popularity, which knows nobody. Nobody has enough events here (cold.enough is one more
         than the most that are kept), so that it is also seen from how many on lending no longer helps. All arms are of one trained
         model: lending changes what it reads, not what it learned. An arm whose step has nothing for somebody lends them nothing, as
         stands beside it ("lent")
items    DIN on the split `items`: a share of the items is held out, all their rows. Arms: with attributes and without, each with
         data.unknown as the recipe has it and with 0, which never trains the id UNKNOWN that a cold item has; and popularity. Judged
         by cold-99 (rivals as cold as the item) and by last-99 (rivals of all kinds)

Everybody is judged by 99 drawn items: of kind "people" uniformly, and in proportion to their training positives, where popularity by
itself tells least. The recipe of the set is every run's budget, with a share of --held to test by and validated by NDCG@10 of the
split's own people or items; MovieLens-1M's recipe is the one that learns from every event, because a model that was told of long pasts
alone could not read short ones. A metric is a person's mean over seeds (of training; the split has one); intervals are of 95%, by
bootstrap over people, differences are paired person by person.

    OMP_NUM_THREADS=1 python studies/cold_start.py OUT --set movielens-1m
    OMP_NUM_THREADS=1 python studies/cold_start.py OUT --set amazon-beauty --log LOG --kinds people --seeds 0 1 2

prints one JSON object. What OUT has already is not trained or judged again. Small: --epochs 1 --people 100 --kept 0 2.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant.bundle import Bundle, load_bundle
from penchant.cold import STEPS, ColdConfig, Lender
from penchant.config import dump, read
from penchant.data.encoded import EncodedLog
from penchant.data.lend import fit_lender
from penchant.data.log import Log, open_log
from penchant.data.split import Split, split_of
from penchant.encoding import Ints
from penchant.errors import ExistsError
from penchant.evaluate.judge import judge
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS, Protocol
from penchant.metrics import bootstrap, paired
from penchant.models.popularity import Popularity
from penchant.nn.model import Model
from penchant.train.config import RunConfig
from penchant.train.fit import fit

RECIPES = Path(__file__).parents[1] / "recipes"
SETS = {"movielens-1m": "movielens-1m-din", "amazon-beauty": "amazon-beauty"}
KEPT = (0, 1, 2, 3, 5)
SIXTH = 5  # the place of the positive event that "sixth" judges by
METRICS = ("ndcg@10", "hr@10", "gauc")
ALONE = STEPS[1:]
LENDING = {"nothing": (), **{step: (step,) for step in ALONE}, "steps": ALONE}
OF_PEOPLE = (PROTOCOLS["last-99"], replace(PROTOCOLS["last-99"], name="last-99-popular", candidates="popular"))
OF_ITEMS = (PROTOCOLS["cold-99"], PROTOCOLS["last-99"])
ITEM_ARMS: Mapping[str, Mapping[str, Any]] = {
    "attributes": {},
    "attributes, unknown 0": {"data.unknown": 0.0},
    "ids alone": {"item.attributes": False},
    "ids alone, unknown 0": {"item.attributes": False, "data.unknown": 0.0},
}
ITEM_PAIRS = [
    ("attributes", "popularity"),
    ("attributes", "ids alone"),
    ("attributes", "attributes, unknown 0"),
    ("ids alone", "ids alone, unknown 0"),
    ("attributes, unknown 0", "ids alone, unknown 0"),
]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for on the command line."""

    out: Path
    set: str
    log: Path
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    kept: tuple[int, ...]
    held: float  # share of people, or of items, that test
    people: int | None  # who are judged, drawn by seed; None: all
    epochs: int | None  # None: as the recipe has it

    def config(self, kind: str, seed: int, keys: Mapping[str, Any]) -> RunConfig:
        """One run."""
        protocol = {"people": "last-99", "items": "cold-99"}[kind]
        flags = {
            "log": str(self.log),
            "seed": seed,
            "protocol": protocol,
            "split": {"name": kind, "test": self.held},
            "train.monitor": "ndcg@10",
            **({} if self.epochs is None else {"train.epochs": self.epochs}),
            **keys,
        }
        return read(RunConfig, RECIPES / f"{SETS[self.set]}.toml", flags)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """One trained model, and all that judging it takes."""

    folder: Path
    bundle: Bundle
    data: EncodedLog
    split: Split
    wanted: Wanted

    def judged(
        self, name: str, protocol: Protocol, split: Split, model: Model, lender: Lender | None = None, keep: int | None = None
    ) -> Judged:
        """A judgement of the test part, made where it was not."""
        some = "" if self.wanted.people is None else f" of {self.wanted.people}"
        file = self.folder / "judged" / f"{name} {protocol.name}{some}.npz"
        if not file.exists():
            found = judge(model, self.data, split, protocol, past=self.bundle.past, people=self.wanted.people, lender=lender, keep=keep)
            file.parent.mkdir(parents=True, exist_ok=True)
            found.save(file)
        return Judged.load(file, protocol)

    @property
    def popularity(self) -> Model:
        return Popularity(self.bundle.encoding, self.bundle.model.item)


def learned(wanted: Wanted, log: Log, kind: str, seed: int, name: str, keys: Mapping[str, Any]) -> Ground:
    """A model trained where it was not."""
    folder = wanted.out / wanted.set / f"{kind}-{seed}" / name.replace(" ", "-").replace(",", "")
    config = wanted.config(kind, seed, keys)
    config = config.judging().named(config)
    if not (folder / "run" / "bundle" / "manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # it broke before its end
        folder.mkdir(parents=True)
        begun = time.perf_counter()
        run = fit(config, folder / "run", log=log)
        _say(f"{wanted.set} {kind} {seed} {name}: {time.perf_counter() - begun:.0f} s, best {run.best}")
    if (folder / "run" / "config.toml").read_text(encoding="utf-8") != dump(config):
        raise ExistsError(f"{folder}: this is a run of another configuration; remove it, or study in another folder.")
    bundle = load_bundle(folder / "run" / "bundle")
    split = split_of(log, config.judging().split)
    return Ground(folder=folder, bundle=bundle, data=EncodedLog(log, bundle.encoding, split.hidden), split=split, wanted=wanted)


def sixth(log: Log, split: Split) -> Split:
    """The split with each testing person's sixth positive event in the place of all their events; who has fewer is left out."""
    chosen = split.test[log.positive[split.test]]
    user = log.user_of(chosen)
    place = np.arange(len(chosen)) - np.searchsorted(user, user)
    return replace(split, test=chosen[place == SIXTH], dropped=split.dropped + len(np.unique(user)) - int((place == SIXTH).sum()))


def of_people(wanted: Wanted, log: Log) -> dict[str, Any]:
    """Each arm at each number of events, by both targets and protocols."""
    grounds = [learned(wanted, log, "people", seed, "din", {}) for seed in wanted.seeds]
    lenders = [{arm: lender_of(one, steps, max(wanted.kept)) for arm, steps in LENDING.items()} for one in grounds]
    found: dict[str, Any] = {"lender": {arm: described(lender) for arm, lender in lenders[0].items() if lender}}
    arms = [arm for arm in LENDING if arm not in ALONE or found["lender"][arm]["lists"][arm]]
    found["left out"] = [arm for arm in LENDING if arm not in arms]  # this Log has nothing for it
    for target, cut in (("sixth", sixth), ("last", _same)):
        splits = [cut(log, one.split) for one in grounds]
        for protocol in OF_PEOPLE:
            begun, here = time.perf_counter(), dict[str, Any]()
            plain = [
                one.judged(f"{target} popularity", protocol, split, one.popularity) for one, split in zip(grounds, splits, strict=True)
            ]
            for keep in wanted.kept:
                of = {
                    arm: [
                        one.judged(f"{target} {arm} {keep}", protocol, split, one.bundle.model, lender[arm], keep)
                        for one, split, lender in zip(grounds, splits, lenders, strict=True)
                    ]
                    for arm in arms
                }
                pairs = [(arm, other) for other in ("nothing", "popularity") for arm in arms if arm != other]
                table = measured({**of, "popularity": plain}, [*pairs, ("steps", "popular")])
                here[str(keep)] = {**table, "lent": {arm: judged[0].lent for arm, judged in of.items()}}
            found[f"{target}, {protocol.name}"] = {"people": plain[0].people, "events of one's own": here}
            _say(f"{wanted.set} people {target} {protocol.name}: {time.perf_counter() - begun:.0f} s")
    return found


def lender_of(ground: Ground, steps: Sequence[str], most: int) -> Lender | None:
    """Of these steps alone, for whoever has at most `most` events."""
    if not steps:
        return None
    config = read(ColdConfig, {"method": "lend", "enough": most + 1, "steps": list(steps)})
    return fit_lender(ground.data, ground.split.train, config)


def described(lender: Lender) -> dict[str, Any]:
    """How many lists there are of each step, and of how many rows in the mean."""
    size = {step: float((lists.row > 0).sum(1).mean()) if len(lists.key) else 0.0 for step, lists in lender.lists.items()}
    return {"people": lender.people, "lists": {step: len(lists.key) for step, lists in lender.lists.items()}, "rows": size}


def of_items(wanted: Wanted, log: Log) -> dict[str, Any]:
    """Each arm, by both protocols."""
    grounds = {arm: [learned(wanted, log, "items", seed, arm, keys) for seed in wanted.seeds] for arm, keys in ITEM_ARMS.items()}
    first = grounds["attributes"][0]
    known = first.bundle.encoding.catalogue.known
    tested: Ints = np.unique(first.data.rows(first.split.test))
    found: dict[str, Any] = {"items": {"trained": int(known.sum()), "tested": len(tested)}}
    for protocol in OF_ITEMS:
        of = {arm: [one.judged("test", protocol, one.split, one.bundle.model) for one in some] for arm, some in grounds.items()}
        of["popularity"] = [first.judged("popularity", protocol, first.split, first.popularity)]
        found[protocol.name] = {"people": of["attributes"][0].people, **measured(of, ITEM_PAIRS)}
    return found


def measured(of: Mapping[str, Sequence[Judged]], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Each metric of each arm with its interval, and the arms paired person by person."""
    alike = next(iter(of.values()))[0]
    for judged in (one for some in of.values() for one in some):
        if not np.array_equal(judged.position, alike.position) or judged.seed != alike.seed:
            raise AssertionError("the arms were judged by different people or candidates.")
    found: dict[str, Any] = {}
    for metric in METRICS:
        each = {arm: np.stack([one.each(metric) for one in some]) for arm, some in of.items()}  # [seeds, people]
        mean = {arm: values.mean(0) for arm, values in each.items()}
        levels = {arm: {**_with(mean[arm].mean(), bootstrap(mean[arm])), "seeds": _rounded(each[arm].mean(1))} for arm in of}
        there = [(a, b) for a, b in pairs if a in of and b in of and a != b]
        gains = {f"{a} - {b}": paired(mean[a], mean[b]) for a, b in there}
        less = {said: {**_with(gain.difference, gain), "p": round(gain.p, 4)} for said, gain in gains.items()}
        found[metric] = {"arms": levels, "differences": less}
    return found


def _with(value: float, interval: Any) -> dict[str, Any]:
    return {"value": round(float(value), 4), "interval": [round(interval.low, 4), round(interval.high, 4)]}


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def _same(log: Log, split: Split) -> Split:
    return split


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


KINDS: Mapping[str, Callable[[Wanted, Log], dict[str, Any]]] = {"people": of_people, "items": of_items}


def main(wanted: Wanted) -> dict[str, Any]:
    begun, log = time.perf_counter(), open_log(wanted.log)
    found: dict[str, Any] = {
        "set": wanted.set,
        "log": log.version,
        "recipe": f"{SETS[wanted.set]}.toml",
        "seeds": list(wanted.seeds),
        "held": wanted.held,
        "protocols": {one.name: one.says for one in (*OF_PEOPLE, *OF_ITEMS)},
    }
    for kind in wanted.kinds:
        config = wanted.config(kind, wanted.seeds[0], {})
        budget = {"data": config.data.model_dump(), "model": config.model, "train": config.train.model_dump()}
        found[kind] = {"budget": budget, **KINDS[kind](wanted, log)}
    return {**found, "seconds": round(time.perf_counter() - begun)}


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("out", type=Path)
    asked.add_argument("--set", choices=list(SETS), required=True)
    asked.add_argument("--log", type=Path, help="the prepared Log; by default where the recipe says")
    asked.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    asked.add_argument("--seeds", nargs="*", type=int, default=[0])
    asked.add_argument("--kept", nargs="*", type=int, default=list(KEPT), help="events of their own that people have, at most 5")
    asked.add_argument("--held", type=float, default=0.2, help="share of people, or of items, that test")
    asked.add_argument("--people", type=int, help="judge only as many, drawn by seed")
    asked.add_argument("--epochs", type=int, help="at most, in place of the recipe's")
    given = asked.parse_args()
    print(
        json.dumps(
            main(
                Wanted(
                    out=given.out,
                    set=given.set,
                    log=given.log or Path(read(RunConfig, RECIPES / f"{SETS[given.set]}.toml").log),
                    kinds=tuple(given.kinds),
                    seeds=tuple(given.seeds),
                    kept=tuple(given.kept),
                    held=given.held,
                    people=given.people,
                    epochs=given.epochs,
                )
            ),
            indent=1,
        )
    )
