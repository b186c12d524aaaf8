"""A run, from its configuration to its bundle.

run/
  config.toml       what was run
  metrics.jsonl     one JSON object a line: {"step", "epoch", "loss", ...}, {"valid": {...}}
  checkpoints/      last, to resume from; best
  bundle/           the best weights with all that serving needs
  diagnosis.json    what is clearly wrong with it, in words: a list of findings
  growth.json       of a run that continues a bundle, what has grown; embeddings.json of one that takes vectors over, which were found
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penchant.bundle import Bundle, load_bundle, save_bundle
from penchant.config import dump, read
from penchant.data.encoded import EncodedLog
from penchant.data.load import Loader
from penchant.data.log import Log, open_log
from penchant.data.split import Split
from penchant.errors import ArtefactError, DataError, ExistsError
from penchant.files import disk_errors, sweep, write_text
from penchant.nn.model import Model
from penchant.train import checkpoint
from penchant.train.calibrate import calibrate, refuse_uncalibratable
from penchant.train.config import Judging, RunConfig
from penchant.train.diagnose import Finding, diagnose
from penchant.train.ground import Ground, prepared, settled
from penchant.train.grow import continued
from penchant.train.loop import Loop, Report
from penchant.train.loss import Loss

CONFIG, DIAGNOSIS = "config.toml", "diagnosis.json"  # the first that a run writes, and the last


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
    return _run(config, Path(out), log, report)


def resume(folder: Path | str, *, log: Log | None = None, report: Report | None = None) -> Run:
    """Goes on with a run that broke off, wherever it was killed: it ends with the bits of a run that never broke.

    Raises ArtefactError for what is no run, ExistsError for one that has ended, and all that `fit` raises.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise ArtefactError(f"{folder}: there is no run here to resume: {CONFIG} is missing.")
    if _ended(folder):
        raise ExistsError(f"{folder}: this run has ended; its bundle is {folder / 'bundle'}.")
    return _run(read(RunConfig, folder / CONFIG), folder, log, report, resumed=True)


def _ended(folder: Path) -> bool:
    return (folder / DIAGNOSIS).exists() and (folder / "bundle" / "manifest.json").exists()


def resumable(folder: Path, log: Log) -> bool:
    """Whether the last checkpoint of a run that broke off, if it has one, is of this version and of this Log."""
    last = folder / "checkpoints" / "last"
    if not checkpoint.put_right(last):
        return True
    try:
        return bool(checkpoint.state_of(last)["log_version"] == log.version)
    except (ArtefactError, KeyError):
        return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a run will do, with nothing left to be understood."""

    config: RunConfig
    judging: Judging
    loss: Loss
    origin: Bundle | None  # that it continues

    @classmethod
    def of(cls, config: RunConfig) -> Plan:
        """All that can be refused before the Log is read is refused here."""
        origin = None if config.grow is None else load_bundle(config.grow.bundle)
        if config.grow is not None and origin is not None:
            config = continued(config, origin, config.grow.bundle)
        judging, loss = settled(config)
        return cls(config=judging.named(config), judging=judging, loss=loss, origin=origin)


def begin(plan: Plan, log: Log | None, out: Path, report: Report | None = None) -> tuple[Ground, Loop]:
    """What a run stands on, and its moving parts; nothing is written. Raises what `fit` raises."""
    ground = prepared(plan.config, plan.judging, plan.loss, log or open_log(plan.config.log), plan.origin)
    loop = Loop(ground, out, report)
    refuse_uncalibratable(ground.config, ground.model, loop.loss, loop.loader, ground.learned)
    return ground, loop


def _run(config: RunConfig, out: Path, log: Log | None, report: Report | None, *, resumed: bool = False) -> Run:
    begun, plan = time.perf_counter(), Plan.of(config)
    if out.exists() and not resumed:
        more = ", go on with it by --resume" if (out / CONFIG).exists() and not _ended(out) else ""
        raise ExistsError(f"{out}: this exists already; remove it{more}, or train into another folder.")
    (ground, loop), origin = begin(plan, log, out, report), plan.origin
    loop.begun = begun
    growth = None if origin is None else _growth(origin, loop.loader, ground)
    taken = {name: said for name, said in (("growth", growth), ("embeddings", ground.embeddings)) if said is not None}
    try:
        if resumed:
            loop.resume()
        else:
            with disk_errors(out, what="run"):
                loop.last_folder.parent.mkdir(parents=True)
            for what, said in taken.items():
                write_text(out / f"{what}.json", json.dumps(said, indent=1) + "\n", what="run")
            write_text(out / CONFIG, dump(ground.config), what="run")  # last: from here on there is something to resume
        best, judged = loop.run()
    except BaseException:
        if not resumed and loop.best is None and not checkpoint.put_right(loop.last_folder):  # nothing to keep
            shutil.rmtree(out, ignore_errors=True)
        raise
    folder = out / "bundle"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed between this and its diagnosis
    sweep(folder)
    bundle = _saved(ground, loop, folder, {**_facts(ground, best), **taken})
    diagnosis = diagnose(loop.patient(best, judged))
    write_text(out / DIAGNOSIS, json.dumps([asdict(finding) for finding in diagnosis], indent=1) + "\n", what="run")
    return Run(
        folder=out,
        bundle=bundle,
        model=ground.model,
        data=ground.data,
        split=ground.split,
        best=best,
        diagnosis=diagnosis,
        noise=ground.denoised.facts,
        seconds=loop.seconds,
        growth=growth,
        embeddings=ground.embeddings,
    )


def bundle_of(ground: Ground, facts: Mapping[str, Any]) -> Bundle:
    """The model as it is, with all that serving needs, not calibrated."""
    config = ground.config
    return Bundle(
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


def _saved(ground: Ground, loop: Loop, folder: Path, facts: Mapping[str, Any]) -> Bundle:
    """The bundle of the weights that the loop has left in the model, calibrated where that is asked for, and written down."""
    config, bundle = ground.config, bundle_of(ground, facts)
    try:
        calibration = calibrate(config, ground.model, loop.loss, loop.loader, ground.learned, ground.lender)
    except DataError as fault:
        save_bundle(bundle, folder)  # what was learned is not lost with it
        raise DataError(f"{fault} The bundle is saved, and not calibrated.") from fault
    bundle = replace(bundle, calibration=calibration)
    save_bundle(bundle, folder)
    return bundle


def _growth(origin: Bundle, loader: Loader, ground: Ground) -> dict[str, Any]:
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


def _facts(ground: Ground, best: dict[str, Any]) -> dict[str, Any]:
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
