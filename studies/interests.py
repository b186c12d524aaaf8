"""What several vectors find: interests and personas beside the tastes that simulated people have.

    tastes    do the events of one interest share a taste? Adjusted Rand index of events by interest (argmax of Output.member) against the
              planted taste of their items, person by person; the same of AMP's personas, and how often two events of different tastes
              share one
    sweep     1, 2, 4 or 8 interests: GAUC by how many tastes a person has, beside models that keep one vector, or look at each event

Three markets whose tastes stay ("steady" of interest_family.py), of 1,500 people each. All models of a market have the same budget: three
epochs, in which they learn from what its requests showed and eight items more, drawn from all. They are judged by how they order what
later requests showed (split by time, protocol "impressions"). The budget and the "events" form's numbers were chosen on three
other markets (seeds 0 to 2), by how well interests are found there.

MIND stands in two forms. "paper": first logits drawn by place, three rounds, all interests kept, ReLU. "events": first logits from
events that stand out, six rounds, interests that point the same way are one, no ReLU. Gradients go through all rounds of routing; each
form stands also with gradients through the last round alone. Pasts have 50 events at most, so that of eight interests a
person has five (K' = log2 n, rounded down).

A past is the last of a person: before what they chose last in the test part. Its events of the person's own tastes
(truth/tastes.parquet) count; the others, chance clicks, belong to no taste of theirs: how many they are is said, and they are left
out. People of two or more tastes among the events that count are asked about. Of two events of different tastes the share that have
one interest stands beside the same of any two events, which is what chance gives: interests of those sizes, dealt to events at
random. Categories, which the models are told, stand there as one more way to part events: by the taste that most items of the category
have. No model is told which categories share a taste, and of 15% of the items the category says nothing.

    OMP_NUM_THREADS=1 python studies/interests.py OUT [--kinds KIND ...] [--seeds SEED ...]

Prints one JSON object; a market is about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from interest_family import METRIC, PROTOCOL, RUN, market, true_tastes  # beside this file
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from penchant.bundle import Bundle, load_bundle
from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.split import split_of
from penchant.encoding import Bools, Ints
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judged import Judged
from penchant.metrics import bootstrap, paired
from penchant.train.config import RunConfig
from penchant.train.fit import fit

PEOPLE, TASTES = 1500, (1, 2, 3, 4)
EVENTS = {"first": "events", "spread": 5.0, "merge": 0.75, "merge_learning": 0.7, "rounds": 6, "rectify": False}
FORMS: dict[str, dict[str, Any]] = {"paper": {}, "events": EVENTS}
COUNTS = (1, 2, 4, 8)
MODELS: dict[str, dict[str, Any]] = {
    "pooling": {"name": "pooling"},
    "din": {"name": "din", "normalize": "softmax"},
    **{f"mind {form} {count}": {"name": "mind", "interests": count, **keys} for count in COUNTS for form, keys in FORMS.items()},
    "mind paper 4, last round": {"name": "mind", "through": "last"},
    "mind events 8, last round": {"name": "mind", **EVENTS, "interests": 8, "through": "last"},
    "amp 0": {"name": "amp", "personas": 4},
    "amp 0.2": {"name": "amp", "personas": 4, "other_entropy": 0.2},
}
ASKED = (
    "mind paper 4",
    "mind paper 4, last round",
    "mind events 4",
    "mind events 8",
    "mind events 8, last round",
    "amp 0",
    "amp 0.2",
)  # which event is of which interest
PAIRS = [
    *((f"mind {form} {count}", f"mind {form} 1") for form in FORMS for count in COUNTS[1:]),
    ("mind events 4", "mind paper 4"),
    ("mind events 8", "mind events 8, last round"),
    ("mind paper 4", "mind paper 4, last round"),
    ("mind events 4", "pooling"),
    ("mind paper 4", "pooling"),
    ("mind events 4", "din"),
    ("mind paper 4", "din"),
    ("pooling", "din"),
    ("amp 0.2", "amp 0"),
]
SETTINGS: dict[str, Any] = {
    **RUN,
    "item": {"dim": 16, "attributes": True},
    "data": {**RUN["data"], "negatives": 8},
    "train": {**RUN["train"], "rate": 5e-3, "epochs": 3, "valid_every": 10**9},  # the last weights, whatever their GAUC
}
CATEGORY = "category"
AT_ONCE = 512  # requests that members are asked about at a time


@dataclass(frozen=True, kw_only=True)
class Pasts:
    """The last past of each of P people, E events in all."""

    user: Ints  # [P] a place in the Log
    start: Ints  # [P + 1] the first event of each
    taste: Ints  # [E] of the item
    own: Bools  # [E] whether that is a taste of the person's
    category: Ints  # [E] the taste that most items of its category have


def learned(folder: Path, log: Log, model: str, seed: int) -> Bundle:
    """A model trained on a market, where it is not there."""
    if not (folder / model / "bundle" / "manifest.json").exists():
        shutil.rmtree(folder / model, ignore_errors=True)  # it broke before its end
        begun = time.perf_counter()
        fit(read(RunConfig, {**SETTINGS, "log": str(log.folder), "seed": seed, "model": MODELS[model]}), folder / model, log=log)
        print(f"{folder.name} {model}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return load_bundle(folder / model / "bundle")


def own_tastes(folder: Path, log: Log) -> Bools:
    """[U, tastes], which are each person's, in the order of the Log."""
    table = pq.read_table(folder / "raw" / "truth" / "tastes.parquet", columns=["user", "taste"])
    place = {user: at for at, user in enumerate(log.users.column("id").to_pylist())}
    user, taste = table.column("user").to_pylist(), table.column("taste").to_numpy()
    own = np.zeros((len(place), int(taste.max()) + 1), dtype=bool)
    held = np.array([place.get(str(one), -1) for one in user])  # -1: who never clicked on anything, nor was shown anything
    own[held[held >= 0], taste[held >= 0]] = True
    return own


def members(bundle: Bundle, log: Log, folder: Path, own: Bools) -> tuple[Pasts, Ints]:
    """The last pasts of those who chose something in the test part, and the interest or persona of each event [E]."""
    split = split_of(log, read(RunConfig, {**SETTINGS, "log": str(log.folder)}).judging().split)
    data = EncodedLog(log, bundle.encoding, split.hidden)
    chosen = split.test[log.positive[split.test]]
    user = log.user_of(chosen)
    last = np.append(user[1:] != user[:-1], True)  # events stand person by person, in the order of time
    chosen, user = chosen[last], user[last]
    taste, category = true_tastes(folder, log), log.items.column("item.category").to_numpy()
    count = np.zeros((category.max() + 1, own.shape[1]), dtype=np.int64)
    np.add.at(count, (category, taste), 1)
    facts = np.stack([taste, count.argmax(1)[category]], -1)
    rows = np.full((bundle.encoding.catalogue.size, 2), -1, dtype=np.int64)
    rows[data.item] = facts
    loader = Loader(data=data, position=chosen, config=LoadConfig(past=bundle.past), seed=0)
    of_event: list[NDArray[np.int64]] = []
    owner: list[Ints] = []
    label: list[Ints] = []
    for begin in range(0, len(chosen), AT_ONCE):
        position = chosen[begin : begin + AT_ONCE]
        batch = loader.assemble(position, data.rows(position)[:, None])
        with torch.inference_mode():
            member = bundle.model(batch, explain=True).member
        of_event.append(rows[batch.row[batch.history.item].numpy()])
        owner.append(begin + batch.history.events.row.numpy())
        label.append(member.argmax(-1).numpy())
    event, of = np.concatenate(of_event), np.concatenate(owner)
    start = np.searchsorted(of, np.arange(len(chosen) + 1)).astype(np.int64)
    pasts = Pasts(user=user, start=start, taste=event[:, 0], own=own[user[of], event[:, 0]], category=event[:, 1])
    return pasts, np.concatenate(label)


def together(label: Ints, taste: Ints) -> tuple[float, float, float]:
    """Of pairs of events of different tastes, of one taste, and of all pairs: the share that have one label; nan of no pairs."""
    counts = np.unique(np.stack([label, taste]), axis=1, return_inverse=True)[1]
    both, one, same = (pairs(np.bincount(x)) for x in (counts.ravel(), np.unique(label, return_inverse=True)[1], taste))
    every = pairs(np.array([len(taste)]))
    return (one - both) / (every - same), both / same if same else np.nan, one / every


def pairs(count: Ints) -> float:
    return float((count * (count - 1) // 2).sum())


def person_by_person(pasts: Pasts, label: Ints) -> dict[str, list[float]]:
    """Of people with two or more of their tastes among the events of their past, what their labels are like."""
    found: dict[str, list[float]] = {
        name: [] for name in ("tastes", "events", "others", "rare", "ari", "used", "used by all", "apart", "alike", "any")
    }
    for first, last in zip(pasts.start[:-1], pasts.start[1:], strict=True):
        own = pasts.own[first:last]
        taste, mine = pasts.taste[first:last][own], label[first:last][own]
        present = np.unique(taste)
        if len(present) < 2:
            continue
        apart, alike, every = together(mine, taste)
        found["tastes"].append(len(present))
        found["events"].append(last - first)
        found["others"].append(last - first - len(taste))
        found["rare"].append(float(np.unique(taste, return_counts=True)[1].min() < 3))
        found["ari"].append(adjusted_rand_score(taste, mine))
        found["used"].append(len(np.unique(mine)))
        found["used by all"].append(len(np.unique(label[first:last])))
        found["apart"].append(apart)
        found["alike"].append(alike)
        found["any"].append(every)
    return found


def tastes_found(markets: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Means over the people of all markets, by how many of their tastes their past holds, with the interval of the adjusted Rand index."""
    column = {name: np.concatenate([np.array(one[name], dtype=np.float64) for one in markets]) for name in markets[0]}
    found: dict[str, Any] = {"share of other events": column["others"].sum() / column["events"].sum()}
    for tastes in (*TASTES[1:], "all"):
        here = column["tastes"] == tastes if tastes != "all" else column["tastes"] > 0
        for name, kept in ((str(tastes), here), (f"{tastes}, three events of each or more", here & (column["rare"] == 0))):
            interval = bootstrap(column["ari"][kept])
            means = {key: float(np.nanmean(column[key][kept])) for key in ("ari", "used", "used by all", "apart", "alike", "any")}
            found[name] = {"people": int(kept.sum()), **means, "interval": [interval.low, interval.high]}
    return found


def sliced(judged: Mapping[str, Sequence[Judged]], tastes: Ints) -> dict[str, Any]:
    """GAUC of each model by how many tastes a person has, and of each pair of models the difference, paired over people."""
    each = {model: np.concatenate([one.each(METRIC) for one in of_model]) for model, of_model in judged.items()}
    weight = np.concatenate([one.weight(METRIC) for one in judged["din"]])
    found: dict[str, Any] = {}
    for name in (*map(str, TASTES), "all"):
        here = tastes == int(name) if name != "all" else tastes > 0
        found[name] = {"people": int(here.sum())}
        for model, values in each.items():
            interval = bootstrap(values[here], weight[here])
            found[name][model] = [float(np.average(values[here], weights=weight[here])), interval.low, interval.high]
        for a, b in PAIRS:
            gain = paired(each[a][here], each[b][here], weight[here])
            found[name][f"{a} - {b}"] = [gain.difference, gain.low, gain.high]
    return found


def main(out: Path, kinds: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    asked = {"tastes": ASKED, "sweep": tuple(MODELS)}
    models = [model for model in MODELS if any(model in asked[kind] for kind in kinds)]
    judged: dict[str, list[Judged]] = {model: [] for model in models}
    looked: dict[str, list[dict[str, list[float]]]] = {model: [] for model in (CATEGORY, *ASKED)}
    tastes: list[Ints] = []
    for seed in seeds:
        folder = out / f"steady-{seed}"
        log = market(folder, "steady", seed, PEOPLE)
        own = own_tastes(folder, log)
        for model in models:
            bundle = learned(folder, log, model, seed)
            judged[model].append(evaluate(bundle, log, PROTOCOL))
            if model in ASKED:
                pasts, label = members(bundle, log, folder, own)
                looked[model].append(person_by_person(pasts, label))
                if model == ASKED[0]:
                    looked[CATEGORY].append(person_by_person(pasts, pasts.category))
        tastes.append(own[judged[models[0]][-1].person].sum(1))
    found: dict[str, Any] = {"metric": METRIC, "protocol": PROTOCOL.says, "markets": list(seeds)}
    found["gauc by market"] = {model: [one.value(METRIC) for one in some] for model, some in judged.items()}
    if "tastes" in kinds:
        found["ari by market"] = {model: [float(np.mean(one["ari"])) for one in some] for model, some in looked.items()}
        found["tastes"] = {model: tastes_found(some) for model, some in looked.items()}
    if "sweep" in kinds:
        found["gauc by tastes"] = sliced(judged, np.concatenate(tastes))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", nargs="*", default=["tastes", "sweep"], choices=["tastes", "sweep"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[3, 4, 5])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(main(given.out, given.kinds, given.seeds), indent=1))
