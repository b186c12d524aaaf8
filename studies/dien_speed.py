"""How quick a training step of `dien` is beside that of DeepCTR-Torch's DIEN, on the same arrays in one run.

    pip install --no-deps --target PEER deepctr-torch==0.3.0 tqdm requests urllib3 idna certifi charset-normalizer
    PYTHONPATH=PEER python studies/dien_speed.py            # a few minutes on two cores; prints one JSON object

Made requests (penchant.bench.simulate): 192,403 people, 63,001 items of 801 categories, item and category 64 wide each, 1,024 requests a
step, pasts of 9 events in the mean and 50 at most, then of exactly 50. Both read item and category alone; both score attention by an
MLP of 80-40 and the next item by one of 100-50 with one negative an event, evolve by the paper's AUGRU, end in a head of 200-80, and
step by Adam at a rate of 0.001: theirs over all rows, as it comes. Rounds alternate; what is compared is the ratio of each round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import dien as theirs
from torch.nn import functional as F

from penchant.bench.simulate import Made, simulate
from penchant.bench.train import OurLoop

SIZE, DIM, LONGEST, ROUNDS, STEPS, WARM_UP = 1024, 64, 50, 5, 2, 2
SIZES = {"users": 192_403, "items": 63_001, "categories": 801}
OURS = {"attention_score": "mlp", "auxiliary_score": "mlp", "head": [200, 80], "activation": "relu"}


class TheirLoop:
    """Their model, its training step as their `fit` takes it, and the arrays that it wants."""

    def __init__(self, made: Made) -> None:
        self.made, self.category = made, made.encoding.catalogue.code[:, 0]
        self.random = np.random.default_rng(0)
        item = SparseFeat("item", SIZES["items"] + 1, DIM)
        category = SparseFeat("category", SIZES["categories"] + 1, DIM)
        each = [
            SparseFeat(f"{kind}_{of.name}", of.vocabulary_size, DIM, embedding_name=of.name)
            for kind in ("hist", "neg_hist")
            for of in (item, category)
        ]
        pasts = [VarLenSparseFeat(one, LONGEST, length_name="length") for one in each]
        self.model = theirs.DIEN(
            [item, category, *pasts],
            ["item", "category"],
            gru_type="AUGRU",
            use_negsampling=True,
            att_hidden_units=(80, 40),
            dnn_hidden_units=(200, 80),
            l2_reg_embedding=0,
        )
        self.model.compile("adam", "binary_crossentropy")
        self.model.train()

    def step(self, request: np.ndarray[Any, Any]) -> None:
        made = self.made
        begin, end = made.start[made.person[request], None], made.start[made.person[request] + 1, None]
        place = begin + np.arange(LONGEST)
        past = np.where(place < end, made.event[np.minimum(place, end - 1)], 0)
        other = np.where(past > 0, self.random.integers(1, SIZES["items"] + 1, past.shape), 0)
        wanted = {
            "item": made.item[request],
            "category": self.category[made.item[request]],
            "hist_item": past,
            "hist_category": self.category[past],
            "neg_hist_item": other,
            "neg_hist_category": self.category[other],
            "length": (end - begin)[:, 0],
        }
        columns = [np.reshape(wanted[name], (len(request), -1)) for name in self.model.feature_index]
        x = torch.from_numpy(np.concatenate(columns, 1)).float()
        model = self.model
        said = model(x).squeeze(-1)
        model.optim.zero_grad()
        loss = F.binary_cross_entropy(said, torch.from_numpy(made.label[request]), reduction="sum")
        (loss + model.get_regularization_loss() + model.aux_loss).backward()
        model.optim.step()


def seconds(step: Callable[[Any], object], made: Made, steps: range) -> float:
    begun = time.perf_counter()
    for at in steps:
        step(made.requests(at, SIZE))
    return time.perf_counter() - begun


def measured(full: bool) -> dict[str, Any]:
    made = simulate(**SIZES, mean_past=9, longest=LONGEST, full=full, seed=0)
    torch.manual_seed(0)
    ours, other = OurLoop(made, "dien", dim=DIM, own=OURS), TheirLoop(made)
    for loop in (ours, other):
        seconds(loop.step, made, range(WARM_UP))
    each: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        steps = range(WARM_UP + number * STEPS, WARM_UP + (number + 1) * STEPS)
        each.append((seconds(ours.step, made, steps), seconds(other.step, made, steps)))
    rate = SIZE * STEPS
    return {
        "ours, samples a second": median(rate / a for a, _ in each),
        "theirs": median(rate / b for _, b in each),
        "ratio, median": median(b / a for a, b in each),
        "ratio, least and most": [min(b / a for a, b in each), max(b / a for a, b in each)],
    }


if __name__ == "__main__":
    print(json.dumps({"pasts of 9 in the mean": measured(full=False), "pasts of 50": measured(full=True)}, indent=1))
