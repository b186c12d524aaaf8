"""What a run will take, before it starts: a few of its steps and validations are done for real, and thrown away."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from penchant.bundle import save_bundle
from penchant.data.log import Log
from penchant.evaluate.judge import asked, judge
from penchant.train.config import RunConfig
from penchant.train.fit import Plan, begin, bundle_of
from penchant.train.loop import Loop

WARM, STEPS = 3, 30  # steps before those that are timed, and those; fewer where an epoch has fewer
PEOPLE = 1000  # that a validation is timed on, beside one of a quarter as many


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run of all its epochs takes; one that runs out of patience takes less time. Calibration and diagnosis are not in it."""

    parameters: int
    memory: int  # bytes: the most that this process held until all of that was done, pages of mapped files that it read included
    disk: int  # bytes of the run folder while checkpoints are replaced, but for a few of metrics and judgements
    begin_seconds: float  # until the first step
    step_seconds: float
    steps: int  # of an epoch
    epochs: int
    validation_seconds: float
    validations: int

    @property
    def seconds(self) -> float:
        return self.begin_seconds + self.epochs * self.steps * self.step_seconds + self.validations * self.validation_seconds


def estimate(config: RunConfig, *, log: Log | None = None) -> Estimate:
    """Measures a run of `config` on this machine as it is now. Raises what `fit` raises before it begins."""
    begun = time.perf_counter()
    ground, loop = begin(Plan.of(config), log, Path())
    wanted = ground.config.train
    before = time.perf_counter() - begun
    took = _steps(loop) if loop.learns else [0.0]
    with loop.optimiser.averaged(), TemporaryDirectory() as place:
        validation = _validation(loop)
        begun = time.perf_counter()
        save_bundle(bundle_of(ground, {}), Path(place) / "bundle")
        saving = time.perf_counter() - begun
        bundle = sum(file.stat().st_size for file in (Path(place) / "bundle").iterdir())
    every = wanted.valid_every or loop.steps
    steps = wanted.epochs * loop.steps if loop.learns else 0
    weights = _bytes(ground.model.state_dict())
    kept = _bytes(loop.optimiser.tensors())
    return Estimate(
        parameters=sum(parameter.numel() for parameter in ground.model.parameters()),
        memory=most_held(),
        disk=bundle + 2 * weights + 2 * (weights + kept),  # the best, last, and of each the one that takes its place
        begin_seconds=before,
        step_seconds=sum(took) / len(took),
        steps=loop.steps if loop.learns else 0,
        epochs=wanted.epochs if loop.learns else 0,
        validation_seconds=validation + saving,  # with its checkpoints, about as much as a bundle
        validations=-(-steps // every) if steps else 1,
    )


def _steps(loop: Loop) -> list[float]:
    """Seconds of each of the first steps, the making of its batches included."""
    wanted, took = loop.config.train, []
    batches = loop.loader.epoch(0, wanted.batch_size)
    loop.model.train()
    begun = time.perf_counter()
    for number in range(min(WARM + STEPS, loop.steps)):
        loop.learning(list(islice(batches, wanted.accumulate)), number)
        now = time.perf_counter()
        took.append(now - begun)
        begun = now
    return took[WARM:] or took


def _validation(loop: Loop) -> float:
    """Seconds of a validation: of few people and of some more, and in proportion for the rest. The first is not timed."""
    wanted = loop.config.train.valid_people
    everybody = min(wanted, len(asked(loop.data.log, loop.split, loop.judging.protocol, "valid")))
    few, some = min(everybody, PEOPLE // 4), min(everybody, PEOPLE)
    seconds = []
    for people in (few, few, some):
        begun = time.perf_counter()
        judge(
            loop.model,
            loop.data,
            loop.split,
            loop.judging.protocol,
            past=loop.config.data.past,
            part="valid",
            seed=loop.config.seed,
            people=people,
            lender=loop.lender,
        )
        seconds.append(time.perf_counter() - begun)
    if some == few:
        return seconds[2]
    return seconds[2] + max(seconds[2] - seconds[1], 0.0) / (some - few) * (everybody - some)


def most_held() -> int:
    """Bytes, the most that this process has held at a time, pages of mapped files that it read included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())
