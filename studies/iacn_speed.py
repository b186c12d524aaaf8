"""What the auxiliary network costs a training step, beside its control of equal width.

    OMP_NUM_THREADS=2 python studies/iacn_speed.py [MODEL ...]      # wide-deep, din and dien by default; prints one JSON object

Made arrays of Amazon-Electronics' shape, 1,024 requests a step, item and category 32 wide each and 32 more of each in the auxiliary
tables; rounds of both alternate in one run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from penchant.bench.simulate import Made, simulate
from penchant.bench.train import OurLoop

DIM, BATCH, ROUNDS, STEPS = 32, 1024, 7, 10


def seconds(made: Made, loop: OurLoop, first: int, steps: int) -> float:
    begun = time.perf_counter()
    for step in range(first, first + steps):
        loop.step(made.requests(step, BATCH))
    return (time.perf_counter() - begun) / steps


def main(models: Sequence[str]) -> dict[str, Any]:
    made = simulate(users=192_403, items=63_001, categories=801, mean_past=9, longest=50, full=False, seed=0)
    found: dict[str, Any] = {}
    for model in models:
        loops = [OurLoop(made, f"{model}+{around}", dim=DIM) for around in ("wider", "iacn")]
        for loop in loops:
            seconds(made, loop, 0, 3)
        each = [[seconds(made, loop, 3 + at * STEPS, STEPS) for loop in loops] for at in range(ROUNDS)]
        ratio = sorted(iacn / wider for wider, iacn in each)
        found[model] = {
            "wider ms": round(1000 * median(wider for wider, _ in each), 1),
            "iacn ms": round(1000 * median(iacn for _, iacn in each), 1),
            "ratio": round(median(ratio), 2),
            "least to most": [round(ratio[0], 2), round(ratio[-1], 2)],
        }
        print(json.dumps({model: found[model]}), file=sys.stderr)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:] or ["wide-deep", "din", "dien"]), indent=1))
