"""What a model did, list by list and person by person, so that intervals, slices and paired tests can follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from penchant.calibration import Calibration, Identity, Isotonic, Platt, Prior, calibration_from
from penchant.cold import STEPS
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import ArtefactError, ConfigError, unknown_name
from penchant.evaluate.protocol import Protocol
from penchant.metrics import Interval, Lists, auc, bootstrap, bootstrap_auc, calibration_error, predicted_over_observed

Doubles = NDArray[np.float64]

CUT = {"hr": "hr", "ndcg": "ndcg", "map": "map", "map-r": "map_r", "mrr": "mrr", "recall": "recall"}  # metrics with a cut: "ndcg@10"
WHOLE = ("gauc", "gauc:positives", "gauc:users", "log-loss", "auc")  # of whole lists, or of rows; the last of all rows together
LOWER_IS_BETTER = frozenset({"log-loss"})
FACTS = ("part", "seed", "log", "dropped", "model", "keep")  # of Judged, as they stand in a file
OF_LISTS = ("owner", "begin", "size", "relevant", "before", "rows", "positives", "group")
OF_ROWS = ("score", "label", "user", "list")
TINY = float(np.finfo(np.float64).tiny)  # the least probability whose logarithm is looked up
POOLED_RESAMPLES = 100  # of pooled AUC, each of which looks at all rows


@dataclass(frozen=True, eq=False)
class Rows:
    """The N scored candidates of protocols that have few, each with its label."""

    score: Floats  # [N] logits
    label: Floats  # [N] 0 or 1
    user: Ints  # [N] whose request it was of
    list: Ints  # [N] the list that it is ranked in, by any number of its own
    calibration: Calibration | None = None  # what makes probabilities of logits; None: their sigmoid, which nobody vouches for

    @cached_property
    def place(self) -> Ints:
        """[N] the place of each row's person among those who have rows."""
        return np.unique(self.user, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def loss(self) -> Doubles:
        """[N] the cross-entropy of each row, in nats: from logits where that can be, so that no probability is rounded to 0 or 1."""
        score = self.score.astype(np.float64)
        match self.calibration:
            case Isotonic():
                foretold: Doubles = np.where(self.label == 1, self.probability, 1 - self.probability)
                return -np.log(np.maximum(foretold, TINY))
            case Prior(shift):
                score = score + shift
            case Platt(a, b):
                score = a * score + b
        loss: Doubles = np.logaddexp(0.0, np.where(self.label == 1, -1.0, 1.0) * score)
        return loss

    @cached_property
    def probability(self) -> Doubles:
        """[N] of a label of 1, through the calibration."""
        return (self.calibration or Identity()).probability(self.score.astype(np.float64)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Slicing:
    """One way to part G lists."""

    by: str
    names: tuple[str, ...]
    code: Ints  # [G] a place in `names`; -1: in none of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a model did for U people: one list each, unless a protocol judges every request."""

    protocol: Protocol
    part: Literal["valid", "test"]
    seed: int
    log: str  # the version of the Log
    dropped: int  # people whom the split leaves out, or who have no list with both a positive and something else
    position: Ints  # [G] the event at whose moment each list was asked for, a position in the Log
    user: Ints  # [G] whose each list is, ascending
    lists: Lists  # G lists
    rows: Rows | None = None  # None: over the whole catalogue
    top: Ints | None = None  # [G, 10] the catalogue rows of the first ten, -1 where there are fewer; None: not the whole catalogue
    model: str = ""  # the version of the bundle, where it was one
    step: Ints | None = None  # [G] places in penchant.cold.STEPS: what each request was lent by; None: nobody was lent anything
    keep: int | None = None  # events of each past that were looked at, the latest; None: all
    slices: tuple[Slicing, ...] = ()
    of_lists: Mapping[str, Any] = field(default_factory=dict)  # what the first ten of each list are like, beside being right

    @cached_property
    def person(self) -> Ints:
        """[U] who has a list, ascending."""
        return np.unique(self.user)

    @property
    def people(self) -> int:
        return len(self.person)

    def save(self, file: Path) -> None:
        """A file of all but the slices, which `load` reads; one that stands there already is replaced. Raises OSError."""
        facts = {name: getattr(self, name) for name in FACTS} | {"protocol": asdict(self.protocol), "of_lists": dict(self.of_lists)}
        facts["calibration"] = self.calibration.as_dict() if self.calibration else None
        arrays = {"position": self.position, "user": self.user} | {f"lists.{name}": getattr(self.lists, name) for name in OF_LISTS}
        arrays |= {f"rows.{name}": getattr(self.rows, name) for name in OF_ROWS if self.rows is not None}
        arrays |= {name: value for name, value in (("top", self.top), ("step", self.step)) if value is not None}
        with file.open("wb") as open_file:
            np.savez_compressed(open_file, facts=np.array(json.dumps(facts)), **arrays)

    @staticmethod
    def load(file: Path, protocol: Protocol) -> Judged:
        """What `save` wrote of a judgement by this protocol. Raises ArtefactError for anything else."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                if facts.pop("protocol") != asdict(protocol):
                    raise ArtefactError(f"{file}: this was judged by another protocol than {protocol.name}.")
                lists = Lists(*(stored[f"lists.{name}"] for name in OF_LISTS))
                found = facts.pop("calibration")
                calibration = None if found is None else calibration_from(found)
                rows = (
                    Rows(**{name: stored[f"rows.{name}"] for name in OF_ROWS}, calibration=calibration) if "rows.score" in stored else None
                )
                of = {name: stored[name] for name in ("position", "user")} | {name: stored.get(name) for name in ("top", "step")}
                return Judged(protocol=protocol, lists=lists, rows=rows, **of, **facts)
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError) as fault:
            raise ArtefactError(f"{file}: cannot be read as a judgement: {fault}") from fault

    @property
    def calibration(self) -> Calibration | None:
        """What makes probabilities of the rows' logits; None: nothing, or there are no rows."""
        return None if self.rows is None else self.rows.calibration

    def calibrated(self, calibration: Calibration | None) -> Judged:
        """The same with other probabilities: log loss, calibration error, and how many were foretold; rankings stay those of the logits."""
        return self if self.rows is None else replace(self, rows=replace(self.rows, calibration=calibration))

    @cached_property
    def _of(self) -> Ints:
        """[G] the place in `person` of each list."""
        return np.searchsorted(self.person, self.user)

    def each(self, metric: str) -> Doubles:
        """[U] one metric, person by person: "hr@10", "ndcg@5", "gauc"; of several lists their mean. "log-loss" is of all who have rows.

        Raises UnknownNameError, and ConfigError for a metric of rows where there are none.
        """
        name, cut = parse_metric(metric)
        if name == "auc":
            raise ConfigError("auc is of all rows together, so nobody has one of their own; compare by gauc.")
        if name == "log-loss":
            rows = self._rows(metric)
            return np.bincount(rows.place, rows.loss) / np.bincount(rows.place)
        values = self.lists.auc if cut is None else getattr(self.lists.at(cut), CUT[name])
        return np.bincount(self._of, values, self.people) / np.bincount(self._of, minlength=self.people)

    def weight(self, metric: str) -> Doubles:
        """[U] what each person counts for in the mean of a metric."""
        name, _ = parse_metric(metric)
        if name == "log-loss":
            return np.bincount(self._rows(metric).place).astype(np.float64)
        if name == "gauc:users":
            return np.ones(self.people)
        if name == "gauc:positives":
            return np.bincount(self._of, self.lists.positives, self.people).astype(np.float64)
        if name == "gauc" and self.protocol.judged == "rows":
            return np.bincount(self._of, self.lists.rows, self.people).astype(np.float64)
        return np.bincount(self._of, minlength=self.people).astype(np.float64)

    def value(self, metric: str) -> float:
        """The mean over people of one metric, by their weights; "auc" is of all rows together."""
        if metric == "auc":
            rows = self._rows(metric)
            return auc(rows.score, rows.label)
        weight = self.weight(metric)
        return float(self.each(metric) @ weight / weight.sum())

    def only(self, kept: Bools) -> Judged:
        """Some of the lists, bool [G], and the rows of those people."""
        rows, user = self.rows, self.user[kept]
        if rows is not None:
            mine = np.isin(rows.user, user)
            rows = Rows(rows.score[mine], rows.label[mine], rows.user[mine], rows.list[mine], rows.calibration)
        top, step = (None if of is None else of[kept] for of in (self.top, self.step))
        slices = tuple(Slicing(one.by, one.names, one.code[kept]) for one in self.slices)
        lists, position = self.lists.take(kept), self.position[kept]
        return replace(self, position=position, user=user, lists=lists, rows=rows, top=top, step=step, slices=slices, of_lists={})

    def metrics(self, k: int = 10) -> tuple[str, ...]:
        """The metrics that this protocol is read by."""
        if self.protocol.candidates == "own":
            return "gauc", "log-loss"
        ranked = ("hr", "ndcg", "map", "mrr") + (("recall",) if self.protocol.judged != "last" else ())
        cuts = () if self.protocol.count == 1 else tuple(f"{name}@{k}" for name in ranked)
        return (*cuts, "gauc", *(("log-loss",) if self.protocol.labelled else ()))

    def summary(self, k: int = 10, *, resamples: int = 1000) -> dict[str, Any]:
        """Every metric with its 95% interval (bootstrap over people), and what was judged how.

        "calibration" is what log loss, calibration error and predicted/observed are through: none, prior, platt or isotonic; or
        identity, where logits are log-odds already.
        Where a list has one positive, map@k equals mrr@k; where every list is as long, GAUC is the mean of their AUCs.
        """
        found: dict[str, Any] = {"protocol": self.protocol.name, "part": self.part, "order": self.protocol.tie, "ties": "shared ranks"}
        found |= {"people": self.people, "lists": len(self.user), "dropped": self.dropped, "seed": self.seed}
        found |= {} if self.keep is None else {"keep": self.keep}
        found |= {} if self.step is None else {"lent": self.lent}
        intervals: dict[str, Interval] = {}
        for metric in self.metrics(k):
            found[metric] = self.value(metric)
            intervals[metric] = bootstrap(self.each(metric), self.weight(metric), resamples=resamples, seed=self.seed)
        if self.rows is not None:
            found["auc"] = self.value("auc")
            intervals["auc"] = bootstrap_auc(
                self.rows.score, self.rows.label, self.rows.user, resamples=min(resamples, POOLED_RESAMPLES), seed=self.seed
            )
        if self.rows is not None and self.protocol.labelled:
            found["calibration"] = self.calibration.as_dict()["kind"] if self.calibration else "none"
            found["calibration-error"] = calibration_error(self.rows.probability, self.rows.label).value
            found["predicted/observed"] = predicted_over_observed(self.rows.probability, self.rows.label)
        more = dict(self.of_lists)
        both = {name: [interval.low, interval.high] for name, interval in intervals.items()} | more.pop("intervals", {})
        return {**found, **more, "intervals": both}

    @property
    def lent(self) -> dict[str, int]:
        """How many lists each step of lending made, "own" being those that were lent nothing."""
        count = np.bincount(np.zeros(len(self.user), dtype=np.int64) if self.step is None else self.step, minlength=len(STEPS))
        return {name: many for name, many in zip(STEPS, count.tolist(), strict=True) if many}

    def refuse_other(self, other: Judged) -> None:
        """Raises ConfigError, with the reason, where two results are not of the same question."""
        mine, theirs = self.protocol, other.protocol
        if mine != theirs:
            why = "; ".join(mine.differs(theirs)) or "their names differ"
            raise ConfigError(f"results of {mine.name} and {theirs.name} cannot be compared: {why}.")
        if self.part != other.part:
            raise ConfigError(f"results of the {self.part} part and of the {other.part} part cannot be compared.")
        if self.log != other.log:
            raise ConfigError(f"results on two Logs ({self.log} and {other.log}) cannot be compared; judge both on one.")
        if self.keep != other.keep:
            kept = ["all" if one.keep is None else f"{one.keep}" for one in (self, other)]
            raise ConfigError(f"results with {kept[0]} and with {kept[1]} events of each past cannot be compared.")
        alike = self.seed == other.seed and np.array_equal(self.position, other.position)
        if not alike or not np.array_equal(self.lists.rows, other.lists.rows):
            raise ConfigError("these results are of different people or candidates; judge both on one Log with one seed.")

    def _rows(self, metric: str) -> Rows:
        if self.rows is None:
            raise ConfigError(f"{metric} is a metric of labelled rows; {self.protocol.name} ranks the whole catalogue.")
        return self.rows


def parse_metric(metric: str) -> tuple[str, int | None]:
    """ "ndcg@10" -> ("ndcg", 10), "gauc" -> ("gauc", None). Raises UnknownNameError for what is no metric of a judged event."""
    name, _, cut = metric.partition("@")
    if metric in WHOLE:
        return name, None
    if name in CUT and cut.isdigit() and int(cut) > 0:
        return name, int(cut)
    raise unknown_name("metric here", metric, [*(f"{one}@10" for one in CUT), *WHOLE])


def better(metric: str) -> Callable[[float, float], bool]:
    """Whether a first value of a metric is better than a second."""
    return (lambda a, b: a < b) if metric in LOWER_IS_BETTER else (lambda a, b: a > b)
