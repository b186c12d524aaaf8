"""The training loop: batches, steps, validations, and when to stop.

run/
  config.toml       what was run
  metrics.jsonl     one JSON object a line: {"step", "epoch", "loss", ...}, {"valid": {...}}
  checkpoints/      last, best
  bundle/           the best weights with all that serving needs
  diagnosis.json    what is clearly wrong with it, in words: a list of findings
  growth.json       of a run that continues a bundle, what has grown; embeddings.json of one that takes vectors over, which were found
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penchant.bundle import Bundle, load_bundle, save_bundle
from penchant.cold import Lender
from penchant.config import dump
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.grow import Grown, first_example, grow_encoding
from penchant.data.lend import fit_lender
from penchant.data.load import Loader
from penchant.data.log import Log, open_log
from penchant.data.noise import Denoised, denoise
from penchant.data.split import Split, split_of
from penchant.encoding import Encoding
from penchant.errors import ConfigError, DataError, ExistsError, TrainingError
from penchant.evaluate.judge import judge, refuse_unjudgeable
from penchant.evaluate.judged import Judged, better
from penchant.files import disk_errors
from penchant.models import MODELS, build, checked, checked_auxiliary, checked_long, find, label
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model
from penchant.train import checkpoint
from penchant.train.aware import mini_batch_aware
from penchant.train.calibrate import calibrate, refuse_uncalibratable
from penchant.train.config import Judging, RunConfig
from penchant.train.diagnose import Finding, Patient, Validation, diagnose
from penchant.train.grow import carry_over, continued, take_embeddings
from penchant.train.loss import Loss, read_loss, refuse, refuse_for, total
from penchant.train.optimiser import Optimiser

CHECKED_EVERY = 20  # steps between looks at the loss: each look waits for a device


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, for whoever shows it."""

    epoch: int
    step: int
    steps: int  # of an epoch
    batch_size: int
    best: float | None  # validation metric
    loss: float | None = None  # mean since the last report
    rate: float | None = None  # examples a second
    valid: float | None = None  # in place of the two, when the report is of a validation


Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a run came to."""

    folder: Path
    bundle: Bundle
    model: Model
    data: EncodedLog
    split: Split
    best: dict[str, Any]  # {"step", "epoch", metric: value}
    diagnosis: tuple[Finding, ...]
    noise: Mapping[str, Any]  # what was done about it, as `denoise` says it; empty: nothing
    seconds: float
    growth: Mapping[str, Any] | None = None  # of a run that continues a bundle, what growth.json says
    embeddings: Mapping[str, Any] | None = None  # of one that takes vectors over, what embeddings.json says


def fit(config: RunConfig, out: Path | str, *, log: Log | None = None, report: Report | None = None) -> Run:
    """Runs `config` into the new folder `out`; the same config and Log give the same bits.

    Raises ConfigError, UnknownNameError (model, metric, loss), ArtefactError, DataError (nobody to judge by), ExistsError, DiskError,
    and TrainingError when the loss stops being a number.
    """
    out, begun = Path(out), time.perf_counter()
    origin = None if config.grow is None else load_bundle(config.grow.bundle)
    if config.grow is not None and origin is not None:
        config = continued(config, origin, config.grow.bundle)
    judging, loss = _settled(config)
    config = judging.named(config)
    if out.exists():
        raise ExistsError(f"{out}: this exists already; remove it, or train into another folder.")
    ground = _prepared(config, judging, loss, log or open_log(config.log), origin)
    loop = _Loop(ground, out, report)
    refuse_uncalibratable(config, ground.model, loop.loss, loop.loader, ground.learned)
    growth = None if origin is None else _growth(origin, loop.loader, ground)
    taken = {name: said for name, said in (("growth", growth), ("embeddings", ground.embeddings)) if said is not None}
    try:
        with disk_errors(out, what="run"):
            (out / "checkpoints").mkdir(parents=True)
            (out / "config.toml").write_text(dump(config), encoding="utf-8")
            for what, said in taken.items():
                (out / f"{what}.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        best, judged = loop.run()
    except BaseException:
        if loop.best is None:  # nothing to keep, and the next try needs the place
            shutil.rmtree(out, ignore_errors=True)
        raise
    bundle = _saved(ground, loop, out / "bundle", {**_facts(ground, best), **taken})
    diagnosis = diagnose(loop.patient(best, judged, time.perf_counter() - begun))
    with disk_errors(out, what="run"):
        (out / "diagnosis.json").write_text(json.dumps([asdict(finding) for finding in diagnosis], indent=1) + "\n", encoding="utf-8")
    return Run(
        folder=out,
        bundle=bundle,
        model=ground.model,
        data=ground.data,
        split=ground.split,
        best=best,
        diagnosis=diagnosis,
        noise=ground.denoised.facts,
        seconds=time.perf_counter() - begun,
        growth=growth,
        embeddings=ground.embeddings,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ground:
    """All that a run stands on before its first step."""

    config: RunConfig
    judging: Judging
    loss: Loss
    name: str  # of the model
    own: dict[str, Any]  # its keys
    item: ItemConfig
    model: Model
    data: EncodedLog
    split: Split
    learned: Split  # with the training events that are learned from: what judges is the split's own
    denoised: Denoised
    lender: Lender | None
    since: int | None  # unix milliseconds from which on events are examples; None: all
    grown: Mapping[str, Grown]
    started: int  # new items that start from their attributes
    embeddings: Mapping[str, Any] | None


def _settled(config: RunConfig) -> tuple[Judging, Loss]:
    """How the run is judged, and its loss; all that can be refused before the Log is read is refused here."""
    checked(*_name_and_keys(config), where="run")
    if config.auxiliary is not None:
        checked_auxiliary(config.auxiliary, where="run")
    if config.long is not None:
        checked_long(config.long, where="run")
    judging = config.judging()
    return judging, read_loss(judging.named(config).loss, where="run")


def _prepared(config: RunConfig, judging: Judging, loss: Loss, log: Log, origin: Bundle | None) -> _Ground:
    """The Log split, cleaned and encoded, and the model that begins on it."""
    name, own = _name_and_keys(config)
    impressions = log.schema.events.impressions is not None
    refuse(loss, negatives=config.data.negatives, impressions=impressions)
    schema = log.schema if config.sessions is None else log.schema.with_sessions(config.sessions, where="run")
    split = split_of(log, judging.split)
    denoised = denoise(log, split.train, config.data.noise)
    learned = replace(split, train=denoised.train)
    encoding, since, grown = _encoding(config, log, learned, origin)
    encoding = replace(encoding, schema=schema)
    torch.manual_seed(config.seed)
    item = item_config(config, find(name))
    model = build(encoding, name, own, item, config.auxiliary, config.long, where="run")
    said = label(name, config.auxiliary, config.long)
    refuse_for(model, said, loss, config.data, impressions=impressions)
    if config.cold.method == "lend" and not model.reads_past:
        raise ConfigError(f"cold.method is 'lend', but {said} reads no past: events that are lent change nothing. Take cold.method 'none'.")
    _start(model, encoding, config.start)
    started = 0 if origin is None else carry_over(model, encoding, origin)
    embeddings = None if config.embeddings is None else take_embeddings(model, encoding, config.embeddings)
    data = EncodedLog(log, encoding, split.hidden)
    refuse_unjudgeable(data, split, judging.protocol)
    return _Ground(
        config=config,
        judging=judging,
        loss=loss,
        name=name,
        own=own,
        item=item,
        model=model,
        data=data,
        split=split,
        learned=learned,
        denoised=denoised,
        lender=fit_lender(data, learned.train, config.cold, config.seed),
        since=since,
        grown=grown,
        started=started,
        embeddings=embeddings,
    )


def _saved(ground: _Ground, loop: _Loop, folder: Path, facts: Mapping[str, Any]) -> Bundle:
    """The bundle of the weights that the loop has left in the model, calibrated where that is asked for, and written down."""
    config = ground.config
    bundle = Bundle(
        name=ground.name,
        model=ground.model.eval(),
        encoding=ground.data.encoding,
        config=ground.own,
        item=ground.item,
        auxiliary=config.auxiliary,
        long=config.long,
        past=config.data.past,
        tie=ground.judging.protocol.tie,
        lender=ground.lender,
        facts=facts,
    )
    try:
        calibration = calibrate(config, ground.model, loop.loss, loop.loader, ground.learned, ground.lender)
    except DataError as fault:
        save_bundle(bundle, folder)  # what was learned is not lost with it
        raise DataError(f"{fault} The bundle is saved, and not calibrated.") from fault
    bundle = replace(bundle, calibration=calibration)
    save_bundle(bundle, folder)
    return bundle


def _encoding(config: RunConfig, log: Log, split: Split, origin: Bundle | None) -> tuple[Encoding, int | None, Mapping[str, Grown]]:
    """The Log's encoding; of a run that continues a bundle that one's, grown, with when its examples begin and what has grown."""
    if config.grow is None or origin is None:
        return fit_encoding(log, split.train), None, {}
    since = first_example(log, config.grow, origin.facts.get("trained_until"))
    encoding, grown = grow_encoding(origin.encoding, log, split.train, config.grow, origin.model.fixed)
    return encoding, since, grown


def _growth(origin: Bundle, loader: Loader, ground: _Ground) -> dict[str, Any]:
    """What growth.json says."""
    log, since = loader.data.log, ground.since
    return {
        "from": origin.label,
        "since": since,  # unix milliseconds
        "examples": len(loader.position),
        "earlier": int((np.asarray(log.events["time"])[ground.learned.train] < (since or 0)).sum()),  # that stand in pasts alone
        "ids": {name: asdict(one) for name, one in ground.grown.items()},
        "from_attributes": ground.started,
        "tail": loader.data.encoding.catalogue.tail,
    }


def _start(model: Model, encoding: Encoding, folders: Sequence[str]) -> None:
    """The model takes over what the bundles in these folders learned. Raises ArtefactError, ConfigError."""
    if not folders:
        return
    bundles = [load_bundle(folder) for folder in folders]
    for folder, bundle in zip(folders, bundles, strict=True):
        if not encoding.same_ids(bundle.encoding):
            raise ConfigError(f"start: {folder} knows other people, items or values than this run; train it on the same Log and split.")
    model.start_from([bundle.model for bundle in bundles])


class _Loop:
    """One run's moving parts."""

    def __init__(self, ground: _Ground, out: Path, report: Report | None) -> None:
        config, model, data = ground.config, ground.model, ground.data
        self.config, self.judging, self.out, self.report = config, ground.judging, out, report
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
        self.steps = self.loader.steps(config.train.batch_size)
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
        )
        self.step, self.judged, self.worse = 0, 0, 0
        self.best: dict[str, Any] | None = None
        self.losses: list[torch.Tensor] = []
        self.best_judged: Judged | None = None
        self.validations: list[Validation] = []
        self.lines: list[dict[str, Any]] = []
        self.clock = time.perf_counter()

    def run(self) -> tuple[dict[str, Any], Judged]:
        """Until the epochs or the patience end: which weights are best, and how they were judged. Leaves them in the model."""
        if not self.learns:
            self._validate(0)
        stopped, last = False, self.config.train.epochs - 1
        for epoch in range(last + 1 if self.learns else 0):
            if stopped := self._epoch(epoch):
                break
        if self.learns and not stopped and self.step != self.judged:  # steps that no validation has seen
            self._look(last)
            self._validate(last)
        if self.best is None or self.best_judged is None:
            raise TrainingError(f"{self.out}: the run ended before its first validation.")
        checkpoint.load(self.out / "checkpoints" / "best", self.model)
        return self.best, self.best_judged

    def patient(self, best: dict[str, Any], judged: Judged, seconds: float) -> Patient:
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
            seconds=seconds,
            lender=self.lender,
        )

    def _epoch(self, epoch: int) -> bool:
        """One epoch; whether to stop after it."""
        every = self.config.train.valid_every or self.steps
        self.model.train()
        for batch in self.loader.epoch(epoch, self.config.train.batch_size):
            self.optimiser.zero_grad()
            batch = batch.to(self.model.device)
            loss = total(self.model(batch), batch, self.loss, self.step)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.losses.append(loss.detach())
            self.step += 1
            if self.step % CHECKED_EVERY == 0:
                self._look(epoch)
            if self.step % every == 0:
                self._look(epoch)
                if self._validate(epoch):
                    return True
                self.model.train()
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
        rate = taken * self.config.train.batch_size / seconds
        self._write({"step": self.step, "epoch": epoch, "loss": loss})
        if self.report:
            best = None if self.best is None else self.best[self.judging.monitor]
            self.report(
                Progress(
                    epoch=epoch,
                    step=(self.step - 1) % self.steps + 1,
                    steps=self.steps,
                    batch_size=self.config.train.batch_size,
                    loss=loss,
                    rate=rate,
                    best=best,
                )
            )

    def _validate(self, epoch: int) -> bool:
        """Judges the weights on validation events; whether patience has ended."""
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
            checkpoint.save(self.out / "checkpoints" / "best", self.model, None, found)
        else:
            self.worse += 1
        checkpoint.save(self.out / "checkpoints" / "last", self.model, self.optimiser, {**found, "best": self.best, "worse": self.worse})
        if self.report:
            at = (self.step - 1) % self.steps + 1 if self.step else 0
            self.report(
                Progress(
                    epoch=epoch,
                    step=at,
                    steps=self.steps,
                    batch_size=wanted.batch_size,
                    best=self.best[monitor],
                    valid=value,
                )
            )
        self.clock = time.perf_counter()
        return self.worse >= wanted.patience

    def _write(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        with disk_errors(self.out, what="run"), (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def item_config(config: RunConfig, kind: type[Model]) -> ItemConfig:
    """What the model asks for, under the keys that the run sets."""
    given = config.item.model_dump(include=config.item.model_fields_set) if config.item else {}
    return kind.Item.model_copy(update=given)


def _name_and_keys(config: RunConfig) -> tuple[str, dict[str, Any]]:
    own = dict(config.model)
    name = own.pop("name", "din")
    if not isinstance(name, str):
        raise ConfigError(f"run: model.name is {name!r}; one of {', '.join(MODELS)} was wanted.")
    return name, own


def _facts(ground: _Ground, best: dict[str, Any]) -> dict[str, Any]:
    config, log, denoised = ground.config, ground.data.log, ground.denoised
    return {
        "log": str(Path(config.log).resolve()),
        "log_version": log.version,
        "data": log.manifest["name"],
        "events": log.size,
        "train_events": len(denoised.train),
        "trained_until": int(np.asarray(log.events["time"])[denoised.train].max()),  # unix milliseconds
        **({"noise": dict(denoised.facts)} if denoised.facts else {}),
        "split": ground.split.name,
        "seed": config.seed,
        "valid": {"protocol": config.protocol, **best},
        "run": config.model_dump(mode="json", exclude_none=True),
    }
