"""Where does a new item's vector start best, before anything has taught it?

A trained bundle forgets a fifth of its items: their rows in the tables of ids are put where each rule puts those of new items. Judged
again are the people whose judged item is among them, and the others, for whom they stand among the rivals.

    trained   as they were
    unknown   UNKNOWN's row
    mean      the mean of the other rows, each counted by its training events
    values    `start_of_items`: the mean of what the item's attribute values say
    alike     the same, every old item counting alike
    ridge     ridge regression on the same values, counted by training events

    python studies/new_items.py BUNDLE LOG --people 1500          # prints one JSON object
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.bundle import Bundle, load_bundle
from penchant.data.encoded import EncodedLog
from penchant.data.log import Log, open_log
from penchant.data.split import split_of
from penchant.encoding import Bools, Ints
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.nn.embedding import Table
from penchant.train.grow import PRIOR, start_of_items, values_of

PROTOCOL, METRICS = PROTOCOLS["loo-99"], ("ndcg@10", "gauc")
SHARE = 5  # one in so many items is forgotten
Rule = Callable[[Bundle, Tensor, Bools], Tensor]  # a table [rows, D] and which of its rows are learned -> the table with others put


def unknown(bundle: Bundle, weight: Tensor, learned: Bools) -> Tensor:
    return torch.where(torch.from_numpy(learned)[:, None], weight, weight[:1])


def counted(bundle: Bundle, learned: Bools) -> Tensor:
    """[rows, 1] what each row counts for: its training events, nothing where it is not learned."""
    return torch.from_numpy(bundle.encoding.catalogue.count * learned).double()[:, None]


def mean(bundle: Bundle, weight: Tensor, learned: Bools) -> Tensor:
    events = counted(bundle, learned)
    return torch.where(torch.from_numpy(learned)[:, None], weight, ((events * weight).sum(0) / events.sum()).to(weight.dtype))


def values(bundle: Bundle, weight: Tensor, learned: Bools) -> Tensor:
    put = unknown(bundle, weight, learned)
    place, vectors = start_of_items(bundle.encoding.catalogue, weight, learned, bundle.encoding.catalogue.count)
    put[place] = vectors
    return put


def alike(bundle: Bundle, weight: Tensor, learned: Bools) -> Tensor:
    put = unknown(bundle, weight, learned)
    place, vectors = start_of_items(bundle.encoding.catalogue, weight, learned, np.ones(bundle.encoding.catalogue.size, dtype=np.int64))
    put[place] = vectors
    return put


def ridge(bundle: Bundle, weight: Tensor, learned: Bools) -> Tensor:
    """The least of sum of c_i |w_i - m - sum of b_v over its values|^2 + PRIOR |b|^2, by conjugate gradients."""
    row, value = map(torch.from_numpy, values_of(bundle.encoding.catalogue))
    events, size = counted(bundle, learned), int(value.max()) + 1
    mean = (events * weight).sum(0) / events.sum()

    def of_rows(effect: Tensor) -> Tensor:
        return torch.zeros(len(weight), effect.shape[1], dtype=torch.float64).index_add_(0, row, effect[value])

    def of_values(vectors: Tensor) -> Tensor:
        return torch.zeros(size, vectors.shape[1], dtype=torch.float64).index_add_(0, value, vectors[row])

    found = torch.zeros(size, weight.shape[1], dtype=torch.float64)
    rest = of_values(events * (weight.double() - mean))
    way, left = rest.clone(), rest.square().sum(0)
    for _ in range(200):
        step = of_values(events * of_rows(way)) + PRIOR * way
        along = left / (way * step).sum(0).clamp(min=1e-30)
        found, rest = found + along * way, rest - along * step
        now = rest.square().sum(0)
        way, left = rest + now / left.clamp(min=1e-30) * way, now
    return torch.where(torch.from_numpy(learned)[:, None], weight, (mean + of_rows(found)).to(weight.dtype))


RULES: Mapping[str, Rule] = {
    "trained": lambda bundle, weight, learned: weight,
    "unknown": unknown,
    "mean": mean,
    "values": values,
    "alike": alike,
    "ridge": ridge,
}


def judged(bundle: Bundle, log: Log, forgotten: Ints, people: int) -> dict[str, Any]:
    """By rule and metric: of people whose judged item is forgotten, and of the others."""
    split = split_of(log)
    data = EncodedLog(log, bundle.encoding)
    tables = [table for table in bundle.model.modules() if isinstance(table, Table) and table.of == "items"]
    before = [table.weight.detach().clone() for table in tables]
    learned = bundle.encoding.catalogue.known.copy()
    learned[forgotten] = False
    answer: dict[str, Any] = {}
    for name, rule in RULES.items():
        with torch.no_grad():
            for table, weight in zip(tables, before, strict=True):
                table.weight.copy_(rule(bundle, weight, learned))
        found = judge(bundle.model, data, split, PROTOCOL, past=bundle.past, people=people)
        new = np.isin(data.rows(found.position), forgotten)
        answer[name] = {
            metric: {"forgotten": float(found.each(metric)[new].mean()), "others": float(found.each(metric)[~new].mean())}
            for metric in METRICS
        } | {"people": [int(new.sum()), int((~new).sum())]}
        print(json.dumps({name: answer[name]}), file=sys.stderr)
    return answer


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("bundle", type=Path)
    asked.add_argument("log", type=Path)
    asked.add_argument("--people", type=int, default=1500)
    given = asked.parse_args()
    loaded = load_bundle(given.bundle)
    if loaded.encoding.catalogue.slot is not None:
        sys.exit("a bundle that has not grown was wanted.")
    trained = np.flatnonzero(loaded.encoding.catalogue.known)
    which = np.random.default_rng(0).choice(trained, len(trained) // SHARE, replace=False)
    print(json.dumps(judged(loaded, open_log(given.log), which, given.people), indent=1))
