"""The training loop: batches, steps, validations, and when to stop."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from penchant.data.load import Loader
from penchant.errors import ArtefactError, ConfigError, TrainingError
from penchant.evaluate.judge import judge
from penchant.evaluate.judged import Judged, better
from penchant.files import disk_errors
from penchant.train import checkpoint
from penchant.train.aware import mini_batch_aware
from penchant.train.diagnose import Patient, Validation
from penchant.train.ground import Ground
from penchant.train.optimiser import Optimiser
from penchant.train.step import Step

CHECKED_EVERY = 20  # steps between looks at the loss: each look waits for a device


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, for whoever shows it."""

    epoch: int
    step: int
    steps: int  # of an epoch
    batch_size: int  # requests a step
    best: float | None  # validation metric
    loss: float | None = None  # mean since the last report
    rate: float | None = None  # examples a second
    valid: float | None = None  # in place of the two, when the report is of a validation


Report = Callable[[Progress], None]


class Loop:
    """One run's moving parts."""

    def __init__(self, ground: Ground, out: Path, report: Report | None) -> None:
        config, model, data = ground.config, ground.model, ground.data
        self.config, self.judging, self.out, self.report = config, ground.judging, out, report
        self.last_folder, self.metrics = out / "checkpoints" / "last", out / "metrics.jsonl"
        self.best_folder, self.next_folder = out / "checkpoints" / "best", out / "checkpoints" / "best.next"
        self.model, self.data, self.split, self.lender = model, data, ground.split, ground.lender
        wants = model.wants
        self.loader = Loader.for_training(
            data,
            ground.split.train,
            config.data,
            config.seed,
            tie=ground.judging.protocol.tie,
            others=wants.others,
            further=wants.further,
            catalogue=wants.catalogue,
            since=ground.since,
            denoised=ground.denoised,
        )
        self.steps = -(-self.loader.steps(config.train.batch_size) // config.train.accumulate)
        self.loss = ground.loss.sized(items=int(data.encoding.catalogue.known.sum()), negatives=config.data.negatives)
        rate = config.train.rate
        self.learns = any(parameter.requires_grad for parameter in model.parameters())
        aware = config.train.mini_batch_aware
        self.optimiser = Optimiser(
            model,
            rate,
            config.train.table_rate or rate,
            config.train.weight_decay,
            config.train.table_l2,
            mini_batch_aware(model, self.loader, aware) if aware else None,
            tables=config.train.tables,
            clip=config.train.clip,
            average=config.train.average,
            scaled=config.train.precision == "float16",
        )
        self.learning = Step(model, self.optimiser, self.loss, config.train.precision)
        self.step, self.judged, self.worse, self.drops = 0, 0, 0, 0
        self.best: dict[str, Any] | None = None
        self.losses: list[torch.Tensor] = []
        self.best_judged: Judged | None = None
        self.validations: list[Validation] = []
        self.lines: list[dict[str, Any]] = []
        self.spent = 0.0  # seconds, before it was resumed
        self.begun = self.clock = self.kept = time.perf_counter()

    @property
    def seconds(self) -> float:
        """That the run has taken, without what a kill has undone."""
        return self.spent + time.perf_counter() - self.begun

    def resume(self) -> None:
        """Goes on where the last checkpoint stands, so that all bits are those of a run that never broke; from the beginning without one.

        Raises ArtefactError, ConfigError where the Log is another.
        """
        if not checkpoint.put_right(self.last_folder):
            shutil.rmtree(self.next_folder, ignore_errors=True)
            return self._cut(0)
        state = checkpoint.state_of(self.last_folder)
        if state["log_version"] != self.data.log.version:
            raise ConfigError(f"{self.out}: the Log {self.data.log.folder} is not what it was when this run began; train anew.")
        arrays = checkpoint.restore(self.last_folder, self.model, self.optimiser)
        self.step, self.judged, self.best = state["step"], state["judged"], state["best"]
        self.worse, self.drops = state["worse"], state["drops"]
        self.spent = state["seconds"]
        if self.best is None:
            shutil.rmtree(self.next_folder, ignore_errors=True)
        else:
            checkpoint.choose(self.best_folder, self.next_folder, self.best["step"])
            self.best_judged = Judged.load(self.best_folder / checkpoint.JUDGED, self.judging.protocol)
        self.validations = [
            Validation(step=step, metric=metric, each=arrays[f"{at}.each"].numpy(), weight=arrays[f"{at}.weight"].numpy())
            for at, (step, metric) in enumerate(state["validations"])
        ]
        self._cut(state["written"])
        torch.set_rng_state(arrays["random"])

    def _cut(self, written: int) -> None:
        """metrics.jsonl as it was when so many bytes were written. Raises ArtefactError where it has fewer."""
        there = self.metrics.stat().st_size if self.metrics.exists() else 0
        if there < written:
            raise ArtefactError(f"{self.metrics}: this file has {there} bytes; {written} were written before the last checkpoint.")
        with disk_errors(self.out, what="run"), self.metrics.open("a+b") as file:
            file.truncate(written)
            file.seek(0)
            self.lines = [json.loads(line) for line in file]

    def _save(self) -> None:
        """A checkpoint to resume from; no loss may be waiting for a look."""
        with disk_errors(self.out, what="run"), self.metrics.open("ab") as file:
            os.fsync(file.fileno())
        arrays = {"random": torch.get_rng_state()}
        for at, one in enumerate(self.validations):
            arrays |= {f"{at}.each": torch.from_numpy(one.each), f"{at}.weight": torch.from_numpy(one.weight)}
        state = {
            "step": self.step,
            "judged": self.judged,
            "worse": self.worse,
            "drops": self.drops,
            "best": self.best,
            "validations": [(one.step, one.metric) for one in self.validations],
            "written": self.metrics.stat().st_size,
            "seconds": self.seconds,
            "log_version": self.data.log.version,
        }
        checkpoint.save(self.last_folder, self.model, state, optimiser=self.optimiser, arrays=arrays)
        self.kept = time.perf_counter()

    def run(self) -> tuple[dict[str, Any], Judged]:
        """Until the epochs or the patience end: which weights are best, and how they were judged. Leaves them in the model."""
        epochs = self.config.train.epochs if self.learns else 0
        if not self.learns and self.best is None:
            self._validate(0)
        stopped = self.worse >= self.config.train.patience
        while not stopped and self.step < epochs * self.steps:
            stopped = self._epoch(*divmod(self.step, self.steps))
        if self.learns and not stopped and self.step != self.judged:  # steps that no validation has seen
            self._look(epochs - 1)
            self._validate(epochs - 1)
        if self.best is None or self.best_judged is None:
            raise TrainingError(f"{self.out}: the run ended before its first validation.")
        checkpoint.load(self.best_folder, self.model)
        return self.best, self.best_judged

    def patient(self, best: dict[str, Any], judged: Judged) -> Patient:
        """The run as it is diagnosed, after `run` has ended."""
        return Patient(
            model=self.model,
            data=self.data,
            split=self.split,
            judging=self.judging,
            config=self.config,
            judged=judged,
            validations=self.validations,
            lines=self.lines,
            best=best,
            seconds=self.seconds,
            lender=self.lender,
        )

    def _epoch(self, epoch: int, start: int) -> bool:
        """One epoch from its step `start`; whether to stop after it."""
        wanted = self.config.train
        every, size = wanted.valid_every or self.steps, wanted.accumulate
        self.model.train()
        batches = self.loader.epoch(epoch, wanted.batch_size, start=start * size)
        while together := list(islice(batches, size)):
            multiple = wanted.schedule.multiple(self.step, self.steps, wanted.epochs, self.drops)
            self.losses.append(self.learning(together, self.step, multiple))
            self.step += 1
            if self.step % every == 0:
                self._look(epoch)
                if self._validate(epoch):
                    return True
                self.model.train()
            elif self.step % CHECKED_EVERY == 0:
                self._look(epoch)
                if time.perf_counter() - self.kept >= wanted.save_every:  # never before a validation that is due
                    self._save()
        return False

    def _look(self, epoch: int) -> None:
        """The mean loss since the last look, written down and shown."""
        if not self.losses:
            return
        loss, taken = float(torch.stack(self.losses).mean()), len(self.losses)
        self.losses.clear()
        if not math.isfinite(loss):
            raise TrainingError(f"{self.out}: the loss is {loss} at step {self.step}; a smaller train.rate or train.table_rate may help.")
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        rate = taken * self.config.train.batch_size * self.config.train.accumulate / seconds
        skipped = 0 if self.optimiser.scale is None else self.optimiser.scale.skipped
        self._write({"step": self.step, "epoch": epoch, "loss": loss, **({"skipped": skipped} if skipped else {})})
        if self.report:
            best = None if self.best is None else self.best[self.judging.monitor]
            self.report(
                Progress(
                    epoch=epoch,
                    step=(self.step - 1) % self.steps + 1,
                    steps=self.steps,
                    batch_size=self.config.train.batch_size * self.config.train.accumulate,
                    loss=loss,
                    rate=rate,
                    best=best,
                )
            )

    def _validate(self, epoch: int) -> bool:
        """Judges the weights on validation events; whether patience has ended."""
        with self.optimiser.averaged():
            stopped = self._judge(epoch)
        self._save()
        if self.next_folder.exists():
            checkpoint.take_place(self.next_folder, self.best_folder)
        self.clock = time.perf_counter()
        return stopped

    def _judge(self, epoch: int) -> bool:
        wanted = self.config.train
        judged = judge(
            self.model,
            self.data,
            self.split,
            self.judging.protocol,
            past=self.config.data.past,
            part="valid",
            seed=self.config.seed,
            people=wanted.valid_people,
            lender=self.lender,
        )
        monitor = self.judging.monitor
        value, self.judged = judged.value(monitor), self.step
        found = {"step": self.step, "epoch": epoch, monitor: value}
        self.validations.append(Validation.of(judged, monitor, self.step))
        self._write({"valid": {**found, "protocol": judged.protocol.name, "people": judged.people}})
        if self.best is None or better(monitor)(value, self.best[monitor]):
            self.best, self.best_judged, self.worse = found, judged, 0
            checkpoint.save(self.next_folder, self.model, found, judged=judged)
        else:
            self.worse, self.drops = self.worse + 1, self.drops + 1
        if self.report:
            at = (self.step - 1) % self.steps + 1 if self.step else 0
            self.report(
                Progress(
                    epoch=epoch,
                    step=at,
                    steps=self.steps,
                    batch_size=wanted.batch_size * wanted.accumulate,
                    best=self.best[monitor],
                    valid=value,
                )
            )
        return self.worse >= wanted.patience

    def _write(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        with disk_errors(self.out, what="run"), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
