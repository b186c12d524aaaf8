"""A small made world whose truth is known: people with a few tastes, items of one taste each.

Somebody who likes a taste picks its items; which of their tastes an event belongs to is random. So the events of a
past that speak for a candidate are those of the candidate's taste, and no fixed vector says so for all candidates.

Pasts are of all lengths from nothing on, with ties and gaps; fields of every kind are there, and every kind is missing somewhere.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.prepare import prepare
from penchant.data.split import Split, leave_last_out

SCHEMA = """
name = "world"

[events]
file = "events.csv"
user = "user_id"
item = "item_id"
time = { column = "time", unit = "s" }
moment = ["hour", "weekday"]
action = { kind = {}, dwell = { kind = "number" } }
context = { device = {}, battery = { kind = "number" } }

[items]
file = "items.csv"
key = "item_id"
title = "title"
fields = { maker = {}, tags = { kind = "categories", most = 3 }, price = { kind = "number" } }

[users]
file = "users.csv"
key = "user_id"
fields = { town = {}, age = { kind = "number" } }
"""

PRICE = 'price = { kind = "number" }'
WITH_VECTOR = SCHEMA.replace(PRICE, f'{PRICE}, look = {{ kind = "vector" }}')
TASTES = 6


def write_world(
    folder: Path, *, people: int = 60, items: int = 80, tastes: int = TASTES, events: int = 25, seed: int = 0, vectors: bool = False
) -> None:
    """events.csv, items.csv, users.csv and schema.toml of a made world; item i has taste i % tastes; no item twice a person.

    Of some items and people nothing but the id is known; item 0 never happens. vectors: whether items have one, `look`.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.toml").write_text(WITH_VECTOR if vectors else SCHEMA)
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "maker", "tags", "price", *(["look"] if vectors else [])])
        for item in range(items):
            bare = item % 17 == 3
            known = ["", "", ""] if bare else [f"maker{item % tastes}", "|".join(tags(item)), 1 + item]
            drawn = [] if not vectors else [""] if bare else [" ".join(map(str, look(item)))]
            rows.writerow([f"i{item}", f"Item {item}", *known, *drawn])
    with (folder / "users.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "town", "age"])
        for person in range(people):
            rows.writerow([f"u{person}", "" if person % 11 == 5 else f"town{person % 3}", "" if person % 7 == 2 else 20 + person % 50])
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "time", "kind", "dwell", "device", "battery"])
        written = []
        for person in range(people):
            mine = random.choice(tastes, size=1 + person % 3, replace=False)
            pool = np.array([i for i in range(1, items) if i % tastes in mine])
            count = min(len(pool), 3 + int(random.integers(events)))
            time = 1_000_000_000 + int(random.integers(100_000))
            for item in random.choice(pool, size=count, replace=False):
                time += int(random.choice([0, 60, 90_000]))  # ties, sessions, days
                dwell = "" if random.random() < 0.2 else round(float(random.random()), 3)
                written.append(
                    [
                        f"u{person}",
                        f"i{item}",
                        time,
                        random.choice(["view", "buy"]),
                        dwell,
                        random.choice(["phone", "desk", ""]),
                        round(float(random.random()), 3),
                    ]
                )
        random.shuffle(written)
        rows.writerows(written)


def tags(item: int) -> list[str]:
    """The tags of an item."""
    return [f"tag{(item * step) % 7}" for step in range(1, 1 + item % 4)]


def look(item: int) -> list[float]:
    """The vector of an item."""
    return [round(math.cos(item * step), 3) for step in (1, 2, 3)]


def raw_item(like: str, id: str, *, vectors: bool = False) -> dict[str, Any]:
    """What the world's items.csv says of an item, under another id."""
    item = int(like[1:])
    known = {"maker": f"maker{item % TASTES}", "tags": tags(item), "price": 1 + item, **({"look": look(item)} if vectors else {})}
    return {"id": id, "title": "New", **known}


def training(data: EncodedLog, split: Split) -> Loader:
    """The world's training batches, with everything in them that a loss may ask for."""
    return Loader.for_training(data, split.train, LoadConfig(past=10, negatives=2, unknown=0.1), 0, others=True, further=5)


@contextmanager
def made_world() -> Iterator[Loader]:
    """The training batches of a world that is made in a temporary folder, vectors of items included; it goes with the block."""
    with TemporaryDirectory(prefix="penchant-world-") as folder:
        raw = Path(folder) / "raw"
        write_world(raw, vectors=True)
        log = prepare(raw, Path(folder) / "log")
        split = leave_last_out(log)
        yield training(EncodedLog(log, fit_encoding(log, split.train)), split)
