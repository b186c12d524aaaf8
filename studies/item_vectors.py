"""Does the text of reviews, as a vector of each item, make rankings better than ids alone?

Set     Amazon Musical Instruments, 10,261 reviews of 1,429 people and 900 items.
Text    TF-IDF over the words of each item's reviews, the 64 largest directions of their singular value decomposition, unit length.
Leak    A review of an item by the person who is judged tells that the person has the item. So only the reviews of the training part
        of leave-last-out are read: neither of the last two of anybody by (time, source row). The study checks this by itself once
        more. An item without training reviews has no vector, and the model learns one for all such items.
Arms    "without": no vectors. "with": each item's own. "shuffled": the same vectors dealt anew among the items that have one, another
        way each seed: as wide and as many parameters as "with", but of nothing. If "with" is better than both, the words are why.
Models  din and pooling; popularity (training events of an item) as the floor.
Budget  The same for all arms: epochs, patience, widths, batches, and one grid of learning rates, from which each model and arm takes
        the one that is best in validation of seed 0. "shuffled" takes that of "with". Results are of the other seeds.
Judged  loo-99, one draw of candidates for all. A person's metric is averaged over seeds, then paired person by person; intervals of
        95% by bootstrap over people. Also over those alone whose judged item has few training events.

    OMP_NUM_THREADS=1 PENCHANT_DATA=FOLDER python studies/item_vectors.py

prints one JSON object. Without PENCHANT_DATA the set is fetched from its official place.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.config import dump
from penchant.data.load import LoadConfig
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets import get
from penchant.data.sets.tables import link
from penchant.data.split import split_of
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judge import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import Difference, bootstrap, paired
from penchant.nn.item import ItemConfig
from penchant.schema import Field, Items, Schema, read_schema
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

Floats = NDArray[np.float64]
Vectors = Mapping[str, Floats]  # by raw item id

SET = "amazon-musical-instruments"
WIDTH = 64
MODELS = ("din", "pooling")
ARMS = ("without", "with", "shuffled")
PAIRS = (("with", "without"), ("with", "shuffled"), ("shuffled", "without"), ("without", "popularity"), ("with", "popularity"))
METRICS = ("hr@10", "ndcg@10", "gauc")
RATES = (3e-4, 1e-3, 3e-3)
VALID_EVERY = 58  # steps, two epochs
FEW = 2  # training events of an item that counts as cold
WORD = re.compile(r"[a-z]{2,}")
LEAST_PEOPLE = 5  # who use a word: those of fewer tell who wrote, not of what
MOST_ITEMS = 0.5  # share of items that a word may stand in


@dataclass(frozen=True, kw_only=True)
class Review:
    """One review's person, item and words."""

    user: str
    item: str
    words: list[str]


def read_reviews(path: Path, rows: Sequence[int]) -> list[Review]:
    """The reviews in these rows (from 0) of a file of JSON lines; no other row is looked at."""
    wanted = set(rows)
    found = []
    with path.open(encoding="utf-8") as file:
        for row, line in enumerate(file):
            if row in wanted:
                one = json.loads(line)
                text = f"{one.get('summary') or ''} {one.get('reviewText') or ''}"
                found.append(Review(user=one["reviewerID"], item=one["asin"], words=WORD.findall(text.lower())))
    return found


def refuse_judged(path: Path, rows: Sequence[int]) -> None:
    """Raises AssertionError if these rows hold one of the last two reviews of anybody: found without the Log's help."""
    of = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row, line in enumerate(file):
            one = json.loads(line)
            of[one["reviewerID"]].append((one["unixReviewTime"], row))
    judged = {row for mine in of.values() for _, row in sorted(mine)[-2:]}
    if not judged.isdisjoint(rows) or len(judged) + len(set(rows)) != sum(map(len, of.values())):
        raise AssertionError("the text holds reviews that are judged by, or lacks some that are not.")


def embed(reviews: Sequence[Review], width: int = WIDTH) -> tuple[Vectors, dict[str, Any]]:
    """A vector of unit length for each item that has reviews with words in them; and what it is made of."""
    count: dict[str, Counter[str]] = defaultdict(Counter)
    people: dict[str, set[str]] = defaultdict(set)
    for review in reviews:
        count[review.item].update(review.words)
        for word in set(review.words):
            people[word].add(review.user)
    items = sorted(count)
    inside = Counter(word for words in count.values() for word in words)
    words = sorted(w for w, n in inside.items() if len(people[w]) >= LEAST_PEOPLE and n <= MOST_ITEMS * len(items))
    place = {word: at for at, word in enumerate(words)}
    matrix = np.zeros((len(items), len(words)))
    for row, item in enumerate(items):
        for word, times in count[item].items():
            if word in place:
                matrix[row, place[word]] = (1 + np.log(times)) * np.log(len(items) / inside[word])
    matrix = _unit(matrix)
    # the left singular vectors times their values, from the small one of the two products
    value, vector = np.linalg.eigh(matrix @ matrix.T)
    chosen = np.argsort(-value, kind="stable")[:width]
    short = vector[:, chosen] * np.sqrt(np.maximum(value[chosen], 0))
    there = np.linalg.norm(matrix, axis=1) > 0
    facts = {
        "reviews": len(reviews),
        "words": len(words),
        "items": int(there.sum()),
        "width": width,
        "squares_kept": round(float(value[chosen].sum() / value.sum()), 3),
    }
    return {item: row for item, row, some in zip(items, _unit(short), there, strict=True) if some}, facts


def shuffled(vectors: Vectors, seed: int) -> Vectors:
    """The same vectors dealt anew among the same items."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    rows = list(vectors.values())
    return {item: rows[at] for item, at in zip(vectors, order, strict=True)}


def write_folder(plain: Path, folder: Path, schema: Schema, items: Sequence[str], vectors: Vectors | None) -> None:
    """A folder of plain files: the reviews, items.csv (with a column of vectors, if there are any), and schema.toml."""
    link(plain / schema.events.file, folder)
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["item_id"] if vectors is None else ["item_id", "text"])
        for item in items:
            text = "" if vectors is None or item not in vectors else " ".join(f"{value:.7g}" for value in vectors[item])
            rows.writerow([item] if vectors is None else [item, text])
    fields = {} if vectors is None else {"text": Field(kind="vector")}
    of = schema.model_copy(update={"items": Items(file="items.csv", key="item_id", fields=fields)})
    (folder / "schema.toml").write_text(dump(of), encoding="utf-8")


def config_of(log: Log, model: str, seed: int, rate: float, epochs: int) -> RunConfig:
    """One run; the arms differ in their Log and their rate alone."""
    return RunConfig(
        log=str(log.folder),
        seed=seed,
        protocol="loo-99",
        data=LoadConfig(past=50, negatives=4),
        model={"name": model},
        item=ItemConfig(dim=32),
        train=TrainConfig(epochs=epochs, batch_size=256, rate=rate, patience=3, valid_every=VALID_EVERY),
    )


class Study:
    """The Logs of all arms, and what was trained on them."""

    def __init__(self, work: Path, seeds: int, epochs: int) -> None:
        self.work, self.seeds, self.epochs = work, range(1, seeds + 1), epochs
        folder = get(SET, work / "raw").folder
        self.schema = read_schema(folder / "schema.toml")
        reviews = folder / self.schema.events.file
        plain = prepare(folder, work / "plain")
        self.split = split_of(plain)
        rows = plain.events["source"][self.split.train].tolist()
        refuse_judged(reviews, rows)
        self.vectors, self.facts = embed(read_reviews(reviews, rows))
        self.items = plain.items.column("id").to_pylist()
        self.count = np.bincount(plain.events["item"][self.split.train], minlength=len(plain.items))  # training events of each item
        self.logs: dict[str, Log] = {}

    def log(self, arm: str, seed: int) -> Log:
        """The Log of an arm; of "shuffled" another one each seed."""
        name = f"{arm}-{seed}" if arm == "shuffled" else arm
        if name not in self.logs:
            vectors = {"without": None, "with": self.vectors, "shuffled": shuffled(self.vectors, seed)}[arm]
            write_folder(self.work / "raw", self.work / f"raw-{name}", self.schema, self.items, vectors)
            self.logs[name] = prepare(self.work / f"raw-{name}", self.work / f"log-{name}")
        return self.logs[name]

    def choose(self, model: str, arm: str) -> tuple[float, dict[str, float]]:
        """The learning rate that is best in validation of seed 0, and what each came to."""
        log = self.log(arm, 0)
        found = {}
        for rate in RATES:
            run = fit(config_of(log, model, 0, rate, self.epochs), self.work / "runs" / f"{model}-{arm}-{rate:g}", log=log)
            found[rate] = float(run.best["ndcg@10"])
            _say(f"{model} {arm} rate {rate:g}: {found[rate]:.4f} in validation, epoch {run.best['epoch']}, {run.seconds:.0f} s")
        return max(found, key=lambda rate: found[rate]), {f"{rate:g}": round(value, 4) for rate, value in found.items()}

    def judged(self, model: str, arm: str, seed: int, rate: float) -> Judged:
        log = self.log(arm, seed)
        run = fit(config_of(log, model, seed, rate, self.epochs), self.work / "runs" / f"{model}-{arm}-seed{seed}", log=log)
        judged = evaluate(run.bundle, log, PROTOCOLS["loo-99"])
        _say(f"{model} {arm} seed {seed}: {judged.value('ndcg@10'):.4f} NDCG@10, epoch {run.best['epoch']}, {run.seconds:.0f} s")
        return judged

    def run(self) -> dict[str, Any]:
        """The whole study."""
        begun, out = time.perf_counter(), dict[str, Any]()
        floor = self.judged("popularity", "without", 0, RATES[0])
        groups = self._groups(floor)
        for model in MODELS:
            chosen = {arm: self.choose(model, arm) for arm in ("without", "with")}
            rate = {arm: chosen["without" if arm == "without" else "with"][0] for arm in ARMS}
            of = {arm: [self.judged(model, arm, seed, rate[arm]) for seed in self.seeds] for arm in ARMS}
            of["popularity"] = [floor]  # there is no chance in it
            for judged in (one for arm in ARMS for one in of[arm]):
                if judged.seed != floor.seed or not np.array_equal(judged.position, floor.position):
                    raise AssertionError("the arms were judged by different people or candidates.")
            out[model] = {
                "validation": {arm: tried for arm, (_, tried) in chosen.items()},
                "rate": rate,
                "people": {name: results(of, mine) for name, mine in groups.items()},
            }
        return {
            "set": SET,
            "protocol": PROTOCOLS["loo-99"].says,
            "seeds": list(self.seeds),
            "epochs": self.epochs,
            "text": {**self.facts, "items_without": len(self.items) - len(self.vectors)},
            "models": out,
            "seconds": round(time.perf_counter() - begun),
        }

    def _groups(self, judged: Judged) -> dict[str, NDArray[np.bool_]]:
        """All people, and those by how many training events the judged item has."""
        events = self.count[self.log("without", 0).events["item"][judged.position]]
        return {
            "all": events >= 0,
            f"at most {FEW}": events <= FEW,
            "none": events == 0,
            f"1 to {FEW}": (events > 0) & (events <= FEW),
            f"{FEW + 1} to 10": (events > FEW) & (events <= 10),
            "more": events > 10,
        }


def results(of: Mapping[str, Sequence[Judged]], mine: NDArray[np.bool_]) -> dict[str, Any]:
    """Means over seeds of each arm, and the arms paired person by person, over the people `mine`."""
    found: dict[str, Any] = {"people": int(mine.sum())}
    for metric in METRICS:
        each = {arm: np.stack([one.each(metric)[mine] for one in judged]) for arm, judged in of.items()}  # [seeds, people]
        mean = {arm: values.mean(0) for arm, values in each.items()}
        found[metric] = {arm: _arm(values) for arm, values in each.items()}
        found[metric] |= {f"{a} - {b}": _difference(paired(mean[a], mean[b]), each[a] - each[b]) for a, b in PAIRS}
    return found


def _arm(each: Floats) -> dict[str, Any]:
    mean = each.mean(0)
    interval = bootstrap(mean)
    return {
        "mean": round(float(mean.mean()), 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
        "seeds": [round(float(value), 4) for value in each.mean(1)],
    }


def _difference(found: Difference, each: Floats) -> dict[str, Any]:
    return {
        "difference": round(found.difference, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
        "seeds": [round(float(value), 4) for value in each.mean(1)],
    }


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the study and prints what it found as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many, beside the one that the rates are chosen by")
    parser.add_argument("--epochs", type=int, default=20, help="at most, of each run")
    wanted = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(Study(Path(work), wanted.seeds, wanted.epochs).run(), indent=1))


if __name__ == "__main__":
    main()
