"""Several models over several seeds on one Log: what is missing is trained, and one table says what differs for sure.

out/
  runs/din-0/          a run a model and seed: config.toml, metrics.jsonl, checkpoints, bundle
  judged/din-0.npz     what it did, person by person
  compare.json         the table
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.bundle import load_bundle
from penchant.cold import ColdConfig
from penchant.config import dump, read
from penchant.data.log import Log, open_log
from penchant.errors import ArtefactError, ConfigError, ExistsError
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judge import Progress
from penchant.evaluate.judged import LOWER_IS_BETTER, Judged, parse_metric
from penchant.evaluate.protocol import Protocol, find_protocol
from penchant.files import disk_errors
from penchant.metrics import Difference, Interval, bootstrap, paired
from penchant.models import apart, checked_auxiliary, checked_long, find
from penchant.train.config import RunConfig
from penchant.train.fit import fit, resumable, resume
from penchant.train.loop import Report

LEVEL = 0.05  # of the family of all differences together


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of the comparison: its name in the table, and its run but for the seed."""

    label: str
    config: RunConfig


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model's line."""

    model: str
    value: float  # the mean over seeds and people
    interval: Interval  # over people, of the mean over seeds
    seeds: tuple[float, ...]  # the value of each seed
    spread: float  # their standard deviation; NaN of one
    unfinished: int  # seeds whose last validation was their best: they were still learning when the epochs ended


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model less another, over the same people."""

    models: tuple[str, str]
    difference: Difference  # of the means over seeds, person by person
    p: float  # Holm's, of all pairs of the table together
    agree: int  # seeds that have the sign of the difference
    significant: bool  # p below 0.05 and every seed of the same sign

    def says(self, metric: str, seeds: int) -> str:
        """The difference in words."""
        verdict = "a difference" if self.significant else "within noise" if self.p >= LEVEL else "not the same in every seed"
        of_seeds = f", {self.agree} of {seeds} seeds" if seeds > 1 else ""
        return f"{self.difference.says(*self.models, metric)}, p {self.p:.4f}{of_seeds}: {verdict}"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The table: models from best to worst, each one's difference from the best, and what the budgets were."""

    protocol: Protocol
    metric: str
    seeds: tuple[int, ...]
    people: int
    dropped: int
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    budget: str  # in words

    @property
    def warnings(self) -> list[str]:
        """What would make a reader doubt the table, in words."""
        learning = [row for row in self.rows if row.unfinished]
        if not learning:
            return []
        told = ", ".join(f"{row.model} ({row.unfinished} of {len(self.seeds)} seeds)" for row in learning)
        more = "more train.epochs, or a greater train.rate, may change the table"
        return [f"Still improving when the budget ended: {told}; {more}."]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        rows = [{**asdict(row), "interval": [row.interval.low, row.interval.high]} for row in self.rows]
        pairs = [
            {
                "models": list(pair.models),
                "difference": pair.difference.difference,
                "interval": [pair.difference.low, pair.difference.high],
                "p": pair.p,
                "agree": pair.agree,
                "significant": pair.significant,
                "says": pair.says(self.metric, len(self.seeds)),
            }
            for pair in self.pairs
        ]
        facts = {"protocol": self.protocol.name, "says": self.protocol.says, "metric": self.metric, "seeds": list(self.seeds)}
        return {
            **facts,
            "people": self.people,
            "dropped": self.dropped,
            "rows": rows,
            "differences": pairs,
            "budget": self.budget,
            "warnings": self.warnings,
        }


def entries(config: RunConfig, models: Sequence[str]) -> list[Entry]:
    """A run for each model: a name in MODELS under this configuration's budget, or a run's TOML file with its own.

    din+eta+iacn is the model din with a past shortened by eta and the auxiliary network iacn, din alone is without. The configuration's
    own keys of its model are for that model alone, and so are those of what stands around it. Raises ConfigError, UnknownNameError.
    """
    found = []
    for model in models:
        if model.endswith(".toml"):
            own = read(RunConfig, Path(model))
            found.append(Entry(label=Path(model).stem, config=own.model_copy(update={"log": config.log})))
        else:
            name, long, auxiliary = apart(model)
            around = {
                "long": _own(config.long or {}, long, "") if long else None,
                "auxiliary": _own(config.auxiliary or {}, auxiliary, "") if auxiliary else None,
            }
            cold = config.cold if find(name).reads_past else ColdConfig()  # who reads no past can be lent nothing
            own_keys = {"model": _own(config.model, name, "din"), "cold": cold, **around}
            found.append(Entry(label=model, config=config.model_copy(update=own_keys)))
    labels = [entry.label for entry in found]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"models: {', '.join(twice)} stands twice; a model has one line.")
    if len(found) < 2:
        raise ConfigError("models: two or more were wanted, to be compared.")
    return found


def _own(keys: Mapping[str, Any], name: str, default: str) -> dict[str, Any]:
    """The keys of a model, or of what stands around it, of this name, where these are of it."""
    return dict(keys) if keys.get("name", default) == name else {"name": name}


def compare_models(
    given: Sequence[Entry],
    seeds: int,
    out: Path | str,
    *,
    protocol: str | None = None,
    metric: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Trains and judges what `out` does not have yet, and compares all of it.

    protocol: what all are judged by; None: what the first is validated by. metric: what they are compared by; None: what the
    protocol is read by. A run that broke goes on where its last checkpoint
    stands, or begins again where that is of an older penchant or of another Log.
    Raises ExistsError where `out` holds a run of another configuration.
    """
    out, asked = Path(out), find_protocol(protocol) if protocol else given[0].config.judging().protocol
    metric = metric or asked.paired_by
    parse_metric(metric)
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; at least 1 was wanted.")
    numbers = tuple(range(given[0].config.seed, given[0].config.seed + seeds))
    plans = [(entry, seed, _plan(entry, seed)) for entry in given for seed in numbers]
    _refuse_unlike(given, [plan for _, seed, plan in plans if seed == numbers[0]], asked)
    log = open_log(given[0].config.log)
    judged: dict[str, list[Judged]] = {entry.label: [] for entry in given}
    unfinished = dict.fromkeys(judged, 0)
    for done, (entry, seed, config) in enumerate(plans):
        name = f"{entry.label}-{seed}"
        say(f"{name}, {done + 1} of {len(plans)}")
        bundle = _trained(config, out / "runs" / name, log, report)
        unfinished[entry.label] += _unfinished(out / "runs" / name)
        judged[entry.label].append(_judged(bundle, out / "judged" / f"{name}-{asked.name}.npz", log, asked, progress))
    first = judged[given[0].label][0]
    for one in (one for of_model in judged.values() for one in of_model):
        first.refuse_other(one)
    compared = _table(judged, unfinished, asked, metric, numbers, _budget(given))
    with disk_errors(out, what="comparison"):
        (out / "compare.json").write_text(json.dumps(compared.as_dict(), indent=1) + "\n", encoding="utf-8")
    return compared


def _refuse_unlike(given: Sequence[Entry], plans: Sequence[RunConfig], asked: Protocol) -> None:
    """Raises ConfigError, before any work, where the models could not be judged on the same events; UnknownNameError for no model."""
    for entry, plan in zip(given, plans, strict=True):
        find(str(plan.model.get("name", "din")))
        if plan.auxiliary is not None:
            checked_auxiliary(plan.auxiliary, where="models")
        if plan.long is not None:
            checked_long(plan.long, where="models")
        split, first = plan.judging().split, plans[0].judging().split
        asked.refuse_split(split)
        if split != first:
            raise ConfigError(
                f"models: {given[0].label} splits the Log by {first.name!r} and {entry.label} by {split.name!r} or with other shares; "
                "give them one split, so that they are judged on the same events."
            )


def _plan(entry: Entry, seed: int) -> RunConfig:
    config = entry.config.model_copy(update={"seed": seed})
    return config.judging().named(config)


def _trained(config: RunConfig, run: Path, log: Log, report: Report | None) -> Path:
    """The bundle of this run, trained unless it is there. Raises ExistsError where another configuration's run is, or another Log's."""
    if (run / "bundle" / "manifest.json").exists():
        same = _same(run / "config.toml", config)
        if not same or _facts(run).get("log_version") != log.version:
            what = "of what the Log held before" if same else "of another configuration"
            raise ExistsError(f"{run}: this is the run {what}; remove it, or compare in another folder.")
        return run / "bundle"
    if (run / "config.toml").exists():  # it broke before its end
        if not _same(run / "config.toml", config):
            raise ExistsError(f"{run}: this is the run of another configuration; remove it, or compare in another folder.")
        if resumable(run, log):
            resume(run, log=log, report=report)
            return run / "bundle"
    if run.exists():
        shutil.rmtree(run)
    fit(config, run, log=log, report=report)
    return run / "bundle"


def _same(file: Path, config: RunConfig) -> bool:
    """Whether a run's configuration is this one; what it does not say, because it is older than a key, is the key's default."""
    try:
        found = read(RunConfig, file)
        return dump(found.judging().named(found)) == dump(config)
    except ConfigError:
        return False


def _unfinished(run: Path) -> bool:
    """Whether the last validation of a run that learns was its best."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [line["valid"]["step"] for line in lines if "valid" in line][-1]
    return bool(last > 0 and last == _facts(run)["valid"]["step"])


def _facts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "bundle" / "facts.json").read_text(encoding="utf-8"))
    return found


def _judged(bundle: Path, file: Path, log: Log, protocol: Protocol, progress: Progress | None) -> Judged:
    """What the bundle does on the test part, judged unless it was."""
    loaded = load_bundle(bundle)
    if file.exists():
        try:
            kept = Judged.load(file, protocol)
        except ArtefactError:
            file.unlink()
        else:
            if (kept.model, kept.log) == (loaded.version, log.version):
                return kept
    judged = evaluate(loaded, log, protocol, progress=progress)
    with disk_errors(file, what="judgement"):
        file.parent.mkdir(parents=True, exist_ok=True)
        judged.save(file)
    return judged


def _table(
    judged: Mapping[str, Sequence[Judged]],
    unfinished: Mapping[str, int],
    protocol: Protocol,
    metric: str,
    seeds: tuple[int, ...],
    budget: str,
) -> Compared:
    first = next(iter(judged.values()))[0]
    weight = first.weight(metric)
    each = {label: np.stack([one.each(metric) for one in of_model]) for label, of_model in judged.items()}  # [seeds, people]
    rows = []
    for label, values in each.items():
        by_seed = tuple(float(value @ weight / weight.sum()) for value in values)
        spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else float("nan")
        mean, interval = values.mean(0), bootstrap(values.mean(0), weight)
        value = float(mean @ weight / weight.sum())
        rows.append(Row(model=label, value=value, interval=interval, seeds=by_seed, spread=spread, unfinished=unfinished[label]))
    rows.sort(key=lambda row: row.value, reverse=metric not in LOWER_IS_BETTER)
    pairs = [_pair(rows[0].model, row.model, each, weight) for row in rows[1:]]
    adjusted = holm([difference.p for _, difference, _ in pairs])
    return Compared(
        protocol=protocol,
        metric=metric,
        seeds=seeds,
        people=first.people,
        dropped=first.dropped,
        rows=tuple(rows),
        pairs=tuple(
            Pair(models=models, difference=difference, p=p, agree=agree, significant=p < LEVEL and agree == len(seeds))
            for (models, difference, agree), p in zip(pairs, adjusted, strict=True)
        ),
        budget=budget,
    )


def _pair(a: str, b: str, each: Mapping[str, NDArray[np.float64]], weight: NDArray[np.float64]) -> tuple[tuple[str, str], Difference, int]:
    difference = paired(each[a].mean(0), each[b].mean(0), weight)
    by_seed = (each[a] - each[b]) @ weight
    return (a, b), difference, int((np.sign(by_seed) == np.sign(difference.difference)).sum())


def holm(p: Sequence[float]) -> list[float]:
    """p-values such that a family of them holds its level together (Holm 1979): the i-th smallest of n times n - i + 1, never falling."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = least
    return adjusted


def _budget(given: Sequence[Entry]) -> str:
    """What each model was given to learn with: a fair table gives all the same."""
    configs = [entry.config.judging().named(entry.config) for entry in given]
    told = [config.train.model_dump() | {"data": config.data.model_dump(), "loss": config.loss} for config in configs]
    first, train = told[0], given[0].config.train
    if all(one == first for one in told):
        return (
            f"All had the same budget: at most {train.epochs} epochs of {train.batch_size} requests a step at rate {train.rate:g}, "
            f"patience {train.patience}; none was tuned here."
        )
    keys = sorted({key for one in told for key in one if one[key] != first[key]})
    return f"Budgets differ ({', '.join(keys)}), so a difference may be of the recipes as much as of the models."
