"""A small made world whose truth is known: people with a few tastes, items of one taste each.

Somebody who likes a taste picks its items; which of their tastes an event belongs to is random. So the events of a
past that speak for a candidate are those of the candidate's taste, and no fixed vector says so for all candidates.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

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


def write_world(folder: Path, *, people: int = 60, items: int = 80, tastes: int = 6, events: int = 25, seed: int = 0) -> None:
    """events.csv, items.csv, users.csv and schema.toml of a made world; item i has taste i % tastes; no item twice a person.

    Every kind of field is there; of some items and people nothing but the id is known; item 0 never happens.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.toml").write_text(SCHEMA)
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "maker", "tags", "price"])
        for item in range(items):
            bare = item % 17 == 3
            tags = "|".join(f"tag{(item * step) % 7}" for step in range(1, 1 + item % 4))
            rows.writerow(
                [f"i{item}", f"Item {item}", "" if bare else f"maker{item % tastes}", "" if bare else tags, "" if bare else 1 + item]
            )
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
