"""Does the training steps that it is told, with a peer's own model: python loop.py SETTINGS.json

    stdin     a line for each round: {"steps": [[request, ...], ...]}, the requests of each step, or {"score": [request, ...]}
    stdout    {"peer", "version", "model", "trimmed", "torch"} when it is ready, then for each round {"seconds", "losses"}

Pasts are filled up with 0 behind the events, once, before the first step, as these libraries are given them. A step takes its rows of that,
all of their `longest` cells, or those up to the longest past of the batch where it is asked to trim and the peer can.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np
import torch


class Arrays:
    """Q requests of P people, pasts of T cells."""

    def __init__(self, file: str, longest: int) -> None:
        with np.load(file) as given:
            self.item, self.person, self.label = given["item"], given["person"], given["label"]  # [Q] each
            self.category, self.other = given["category"], given["other"]  # of each item; of each event an item not chosen then
            start, event = given["start"], given["event"]
        self.length = np.diff(start)  # [P]
        place = np.arange(longest)
        there = place < self.length[:, None]
        where = np.where(there, start[:-1, None] + place, 0)
        self.past, self.not_chosen = np.where(there, event[where], 0), np.where(there, self.other[where], 0)  # [P, T]
        self.items, self.categories, self.longest = len(self.category), int(self.category.max()) + 1, longest

    def batch(self, request: list[int], trim: bool, others: bool) -> dict[str, torch.Tensor]:
        """item, category, label, length [B]; past_item, past_category and, where `others`, not_item, not_category [B, T]."""
        rows = np.array(request)
        person = self.person[rows]
        length = self.length[person]
        cells = int(length.max()) if trim else self.longest
        past = self.past[person, :cells]
        found = {
            "item": self.item[rows],
            "category": self.category[self.item[rows]],
            "label": self.label[rows],
            "length": length,
            "past_item": past,
            "past_category": self.category[past],
        }
        if others:
            found["not_item"] = self.not_chosen[person, :cells]
            found["not_category"] = self.category[found["not_item"]]
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}


def main(file: str) -> None:
    with open(file, encoding="utf-8") as given:
        settings: dict[str, Any] = json.load(given)
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    arrays = Arrays(settings["arrays"], settings["longest"])
    answers, sys.stdout = sys.stdout, sys.stderr  # what a peer prints is no answer
    peer = import_module(f"of_{settings['peer']}").Peer(arrays, settings)
    trim, others = bool(settings["trim"]) and peer.trims, settings["model"] == "dien"
    facts = {"peer": settings["peer"], "version": peer.version, "model": peer.name, "trimmed": trim, "torch": torch.__version__}
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        told, losses = json.loads(line), []
        begun = time.perf_counter()
        for request in told.get("steps", []):
            losses.append(peer.step(arrays.batch(request, trim, others)))
        if "score" in told:
            with torch.inference_mode():
                peer.score(arrays.batch(told["score"], trim, others))
        seconds = time.perf_counter() - begun
        print(json.dumps({"seconds": seconds, "losses": [float(loss) for loss in losses]}), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
