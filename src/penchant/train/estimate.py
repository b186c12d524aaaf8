"""What a run will take, before it starts: a few of its steps and validations are done for real, and written nowhere."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from penchant.bundle import load_bundle
from penchant.data.log import Log, open_log
from penchant.evaluate.judge import judge
from penchant.train.config import RunConfig
from penchant.train.ground import prepared, settled
from penchant.train.grow import continued
from penchant.train.loop import Loop

WARM, STEPS = 3, 30  # steps before those that are timed, and those; fewer where an epoch has fewer
PEOPLE = 1000  # that a validation is timed on, beside one of a quarter as many


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run of all its epochs takes at most; one that runs out of patience takes less."""

    parameters: int
    memory: int  # bytes: the most that this process has held so far, and what the run adds to it
    disk: int  # bytes of the run folder, while a checkpoint is replaced
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
    origin = None if config.grow is None else load_bundle(config.grow.bundle)
    if config.grow is not None and origin is not None:
        config = continued(config, origin, config.grow.bundle)
    judging, loss = settled(config)
    config = judging.named(config)
    ground = prepared(config, judging, loss, log or open_log(config.log), origin)
    loop, wanted = Loop(ground, Path(), None), config.train
    begin = time.perf_counter() - begun
    took = _steps(loop) if loop.learns else [0.0]
    with loop.optimiser.averaged():
        validation = _validation(loop)
    every = wanted.valid_every or loop.steps
    steps = wanted.epochs * loop.steps if loop.learns else 0
    weights = _bytes(ground.model.state_dict())
    kept = _bytes(loop.optimiser.tensors())
    return Estimate(
        parameters=sum(parameter.numel() for parameter in ground.model.parameters()),
        memory=_most_held(),
        disk=2 * weights + 2 * (weights + kept),  # best and bundle, last; and of the greatest the one that it takes the place of
        begin_seconds=begin,
        step_seconds=sum(took) / len(took),
        steps=loop.steps if loop.learns else 0,
        epochs=wanted.epochs if loop.learns else 0,
        validation_seconds=validation,
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
    few, some = min(wanted, PEOPLE // 4), min(wanted, PEOPLE)
    seconds, people = [], []
    for most in (few, few, some):
        begun = time.perf_counter()
        judged = judge(
            loop.model,
            loop.data,
            loop.split,
            loop.judging.protocol,
            past=loop.config.data.past,
            part="valid",
            seed=loop.config.seed,
            people=most,
            lender=loop.lender,
        )
        seconds.append(time.perf_counter() - begun)
        people.append(judged.people)
    if people[2] == people[1]:
        return seconds[2]
    each = max(seconds[2] - seconds[1], 0.0) / (people[2] - people[1])
    there = len(loop.split.valid) if people[2] >= some else people[2]  # at most one judged event each
    return seconds[2] + each * max(min(wanted, there) - people[2], 0)


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _most_held() -> int:
    """Bytes, the most that this process has held at a time, pages of mapped files that it read included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
