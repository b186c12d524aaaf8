"""Does the capsule network help beyond the width that it brings?

    main        a model as it is, with `wider` (the auxiliary tables alone) and with `iacn`, three seeds, paired over people
    delta       the model's share of the auxiliary tables' gradient, .1 to 1; one seed
    length      events of a past that are kept: 10, 20, 50; one seed
    interests   the most interests a person, 1 to 8; one seed
    ratio       lambda and delta of one lambda (1 - delta) / delta, and of others; one seed

    python studies/iacn.py OUT main --set amazon-beauty --models wide-deep,din,dien      # prints one JSON object
    python studies/iacn.py OUT delta --set amazon-beauty --models din

A set is a recipe of that name, whose Log is where the recipe says: its budget and protocol are every arm's. What OUT has already is not
trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penchant.compare import Entry, compare_models
from penchant.config import read
from penchant.evaluate.judged import Judged
from penchant.metrics import paired
from penchant.models.iacn import IaCNConfig
from penchant.train.config import RunConfig

RECIPES = Path(__file__).parents[1] / "recipes"
ARMS = ("", "+wider", "+iacn")
DELTAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RATIOS = ((1.0, 0.5), (3.0, 0.75), (1 / 3, 0.25), (1.0, 0.1), (1.0, 0.9))  # lambda, delta: three of ratio 1, then 9 and 1 / 9
PASTS = (10, 20, 50)
METRICS = {"ctr": ("auc", "gauc"), "loo-99": ("ndcg@10", "gauc")}
OF_EACH = {name: [metric for metric in of if metric != "auc"] for name, of in METRICS.items()}  # which has no one person's


def arm(recipe: RunConfig, model: str, label: str, auxiliary: dict[str, Any] | None, past: int | None = None) -> Entry:
    """A run of the study: the recipe's budget, the model's own keys where the recipe has them, and what it is wrapped in."""
    own = recipe.model if recipe.model.get("name") == model else {"name": model}
    data = recipe.data if past is None else recipe.data.model_copy(update={"past": past})
    return Entry(label=label, config=recipe.model_copy(update={"model": own, "auxiliary": auxiliary, "data": data}))


def judged(out: Path, recipe: RunConfig, entries: Sequence[Entry], seeds: int) -> dict[str, list[Judged]]:
    """What each arm did in each seed, trained where it was not."""
    protocol = recipe.judging().protocol
    compare_models(entries, seeds, out, say=lambda line: print(line, file=sys.stderr))
    numbers = range(recipe.seed, recipe.seed + seeds)
    return {e.label: [Judged.load(out / "judged" / f"{e.label}-{n}-{protocol.name}.npz", protocol) for n in numbers] for e in entries}


def difference(one: Sequence[Judged], other: Sequence[Judged], metric: str) -> dict[str, Any]:
    """One less the other, means over seeds, paired over people; and that of each seed."""
    a, b = (np.stack([found.each(metric) for found in of_arm]) for of_arm in (one, other))
    weight = one[0].weight(metric)
    found = paired(a.mean(0), b.mean(0), weight)
    each = [float((x - y) @ weight / weight.sum()) for x, y in zip(a, b, strict=True)]
    return {"difference": found.difference, "interval": [found.low, found.high], "p": found.p, "seeds": each}


def main_study(out: Path, recipe: RunConfig, models: Sequence[str], seeds: int) -> dict[str, Any]:
    metrics = METRICS[recipe.judging().protocol.name]
    answer: dict[str, Any] = {}
    for model in models:
        auxiliary = {"+wider": {"name": "wider"}, "+iacn": {"name": "iacn"}}
        of_arm = judged(out, recipe, [arm(recipe, model, f"{model}{name}", auxiliary.get(name)) for name in ARMS], seeds)
        levels = {label: {metric: [one.value(metric) for one in found] for metric in metrics} for label, found in of_arm.items()}
        plain, wider, iacn = (of_arm[f"{model}{name}"] for name in ARMS)
        answer[model] = {
            "levels": levels,
            **{
                f"{said}, {metric}": difference(a, b, metric)
                for metric in OF_EACH[recipe.judging().protocol.name]
                for said, a, b in (("iacn - wider", iacn, wider), ("wider - alone", wider, plain))
            },
        }
        print(json.dumps({model: answer[model]}), file=sys.stderr)
    return answer


def sweep(out: Path, recipe: RunConfig, what: str, models: Sequence[str], seeds: int) -> dict[str, Any]:
    metrics = METRICS[recipe.judging().protocol.name]
    answer: dict[str, Any] = {}
    for model in models:
        found = judged(out, recipe, arms_of(recipe, what, model), seeds)
        answer[model] = {label: {metric: [one.value(metric) for one in of_arm] for metric in metrics} for label, of_arm in found.items()}
        for label in found:
            name, around, rest = label.partition("+iacn")
            if around:
                control = found[f"{name}+wider{rest if what == 'length' else ''}"]
                less = {
                    f"less wider, {metric}": difference(found[label], control, metric) for metric in OF_EACH[recipe.judging().protocol.name]
                }
                answer[model][label] |= less
        print(json.dumps({model: answer[model]}), file=sys.stderr)
    return answer


def arms_of(recipe: RunConfig, what: str, model: str) -> list[Entry]:
    """The arms of a sweep, its control among them. What is as by default is not said, so that sweeps and `main` share their runs."""
    if what == "length":
        made = {"": None, "+wider": {"name": "wider"}, "+iacn": {"name": "iacn"}}
        pasts = [("" if past == recipe.data.past else f" past {past}", past) for past in PASTS]
        return [arm(recipe, model, f"{model}{name}{said}", keys, past) for said, past in pasts for name, keys in made.items()]
    settings: dict[str, list[dict[str, Any]]] = {
        "delta": [{"delta": delta} for delta in DELTAS],
        "interests": [{"interests": count} for count in (1, 2, 4, 8)],
        "ratio": [{"weight": weight, "delta": delta} for weight, delta in RATIOS],
    }
    entries, default = [arm(recipe, model, f"{model}+wider", {"name": "wider"})], IaCNConfig()
    for keys in settings[what]:
        unlike = {key: value for key, value in keys.items() if value != getattr(default, key)}
        said = " ".join([f"{model}+iacn", *(f"{key} {value:.3g}" for key, value in unlike.items())])
        entries.append(arm(recipe, model, said, {"name": "iacn", **unlike}))
    return entries


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("out", type=Path)
    asked.add_argument("what", choices=("main", "delta", "length", "interests", "ratio"))
    asked.add_argument("--set", default="amazon-beauty")
    asked.add_argument("--models", default="din")
    asked.add_argument("--seeds", type=int)
    given = asked.parse_args()
    of_set, names = read(RunConfig, RECIPES / f"{given.set}.toml"), given.models.split(",")
    if given.what == "main":
        print(json.dumps(main_study(given.out / given.set, of_set, names, given.seeds or 3), indent=1))
    else:
        print(json.dumps(sweep(given.out / given.set, of_set, given.what, names, given.seeds or 1), indent=1))
