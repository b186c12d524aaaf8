"""What a run says of itself when it is over: faults in words, and only those that are clearly there.

    of learning   overfitting, validation-too-small
    of the model  dead-table, saturated-outputs, attention-ignores-candidate, context-ignored
    of its worth  no-better-than-popularity, costs-more-than-it-gains

Each is measured on a bounded sample of the validation part, the same for the same seed; nothing of the model or of the run's random
numbers is changed. What is not clear is not said: every threshold is a constant with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.cold import Lender
from penchant.data.draw import below, bits
from penchant.data.encoded import EncodedLog
from penchant.data.load import LoadConfig, Loader
from penchant.data.split import Split
from penchant.encoding import Encoding
from penchant.evaluate.judge import asked, judge
from penchant.evaluate.judged import LOWER_IS_BETTER, Doubles, Judged
from penchant.metrics import Interval, bootstrap
from penchant.models.popularity import Popularity
from penchant.nn.item import CatalogueEncoder
from penchant.nn.model import Model
from penchant.train.config import Judging, RunConfig
from penchant.train.loss import Nothing, read_loss

REQUESTS, CANDIDATES = 256, 8  # whose logits are looked at: thousands of them, in well under a second
FEW = 20  # requests: of fewer, that nothing changes may be a coincidence
ATTENDED = 64  # requests whose attention is looked at: some ten thousand weights
PEOPLE = 300  # who are judged again in another context, once their logits hardly change
COMPARED = 2000  # people whom popularity is judged on: as many as are validated on by default
SURE = 0.99  # level of an interval about the best of several validations: being picked, it is above its mean by chance
FALL = 0.02  # of the best value: a smaller fall is not worth a word
LOSS_FALL = 0.01  # of the training loss: a smaller fall is that of its noise
VALIDATIONS = 4  # of fewer there is no choice among those after the first
HIDDEN = 0.05  # of what the best does above chance: the noise of choosing may hide as much; less is not missed
SILENT = 1e-4  # of the spread of logits: a hundred times the rounding of float32, a hundredth of what untrained tables do
QUIET = 0.01  # of the spread of logits: too little to change the order of any but near-ties
STILL = 0.02  # of a metric: its change, interval and all, is below this
SATURATED = 17.0  # |logit|: beyond, 1 - sigmoid is 0 in float32, and so is the gradient of what is right
OFTEN = 0.25  # share of the logits that lie beyond: a few may, of a model that is sure with reason
ALIKE = 1e-3  # the spread of a request's logits: a tenth of that of a model which has learned nothing yet
NEGLIGIBLE = 1e-4  # share of the square of attention: a deviation over candidates of a hundredth of the weights themselves
TINY = 0.02  # of what popularity does above chance


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault of a run, or of the model that it trained."""

    name: str  # in DIAGNOSES
    says: str  # how much, and what to do
    evidence: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """What a validation found, person by person."""

    step: int
    metric: str
    each: Doubles  # [U]
    weight: Doubles  # [U]

    @classmethod
    def of(cls, judged: Judged, monitor: str, step: int) -> Validation:
        """By the metric that the run goes by; pooled AUC, which nobody has of their own, is replaced by gauc."""
        metric = "gauc" if monitor == "auc" else monitor
        return cls(step=step, metric=metric, each=judged.each(metric), weight=judged.weight(metric))

    @property
    def people(self) -> int:
        return len(self.each)

    @property
    def value(self) -> float:
        return float(self.each @ self.weight / self.weight.sum())

    def interval(self, less: Validation | None = None, level: float = 0.95) -> Interval:
        """Of the value; or of its difference from another's, of the same people."""
        each = self.each if less is None else self.each - less.each
        return bootstrap(each, self.weight, level=level)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patient:
    """A run that is over, the best weights in its model."""

    model: Model
    data: EncodedLog
    split: Split
    judging: Judging
    config: RunConfig
    judged: Judged  # the best weights, by the validation part
    validations: Sequence[Validation]  # in their order
    lines: Sequence[Mapping[str, Any]]  # of metrics.jsonl
    best: Mapping[str, Any]  # {"step", "epoch", metric: value}
    seconds: float  # that the run took
    lender: Lender | None = None  # what people with little past were lent when it was validated

    @property
    def encoding(self) -> Encoding:
        return self.data.encoding

    @property
    def plain(self) -> bool:
        """Whether it is popularity itself, which is not to be measured by itself."""
        return bool(self.config.model.get("name") == "popularity")

    @cached_property
    def batch(self) -> Batch:
        """Requests of the validation part, about their own item and those of each other's."""
        log, protocol = self.data.log, self.judging.protocol
        everybody = asked(log, self.split, protocol, "valid")
        position = everybody[np.argsort(bits(self.config.seed, everybody), kind="stable")[:REQUESTS]]
        row = position
        if protocol.judged == "requests" and log.asked is not None:  # any of what each request showed, not its first alone
            row = position + below(np.bincount(log.asked)[position], bits(self.config.seed, position))
        shown = np.stack([np.roll(row, -place) for place in range(min(CANDIDATES, len(row)))], axis=1)
        loader = Loader(
            data=self.data, position=position, config=LoadConfig(past=self.config.data.past), seed=self.config.seed, tie=protocol.tie
        )
        logged = protocol.candidates in ("shown", "own")
        return loader.assemble(position, self.data.rows(shown), shown=shown if logged else None).to(self.model.device)

    def logit(self, batch: Batch) -> Doubles:
        """[R, C]."""
        logit: Doubles = self.model(batch).logit.double().cpu().numpy()
        return logit

    @cached_property
    def here(self) -> Doubles:
        """[R, C] the logits of the batch."""
        return self.logit(self.batch)

    def moved(self, logit: Doubles) -> float:
        """How far other logits are from those of the batch, as a share of their spread."""
        return float(np.sqrt(np.square(logit - self.here).mean()) / self.here.std())

    @property
    def tells(self) -> bool:
        """Whether there are logits enough that differ, so that a share of their spread means something."""
        return self.batch.requests >= FEW and self.spread >= ALIKE

    @property
    def spread(self) -> float:
        """Of the logits of one request, the root of the mean variance."""
        return float(np.sqrt(self.here.var(axis=1).mean()))

    @cached_property
    def context(self) -> float | None:
        """How far logits move in the context of other requests; None: the model is told none, or there is one only."""
        elsewhere = _elsewhere(self.batch)
        same = torch.equal(elsewhere.context, self.batch.context) and torch.equal(elsewhere.number, self.batch.number)
        if same or not self.tells:
            return None
        with _reading(self.model) as before:
            self.logit(self.batch)
        with _reading(self.model) as after:
            moved = self.moved(self.logit(elsewhere))
        return moved if moved > 0 or _changed(before, after) else None

    @cached_property
    def popularity(self) -> Judged | None:
        """Popularity on the people and candidates that the run was validated on; None where it is the run's own model."""
        if self.plain:
            return None
        plain = Popularity(self.encoding, self.model.item).to(self.model.device)
        return self.again(plain, min(COMPARED, self.config.train.valid_people))

    def again(self, model: Model, people: int) -> Judged:
        """Another model, judged as the run's was."""
        past, seed, protocol = self.config.data.past, self.config.seed, self.judging.protocol
        return judge(model, self.data, self.split, protocol, past=past, part="valid", seed=seed, people=people, lender=self.lender)

    @cached_property
    def gain(self) -> Gain | None:
        """Over popularity."""
        return None if self.popularity is None else Gain.of(self.judged, self.popularity)

    @property
    def cost(self) -> str:
        """In words."""
        return f"{self.parameters:,} parameters and {self.seconds:,.0f} seconds"

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A model's difference from another, over the same people and candidates; above 0 is better."""

    metric: str
    value: float
    other: float
    interval: Interval
    people: int

    @classmethod
    def of(cls, judged: Judged, other: Judged) -> Gain:
        """other: of the same people, or of some of them."""
        metric = judged.protocol.paired_by
        same = judged.only(np.isin(judged.position, other.position))
        same.refuse_other(other)
        return cls(
            metric=metric,
            value=same.value(metric),
            other=other.value(metric),
            interval=bootstrap(same.each(metric) - other.each(metric), same.weight(metric)),
            people=same.people,
        )

    @property
    def difference(self) -> float:
        return self.value - self.other

    @property
    def evidence(self) -> dict[str, float]:
        low, high = self.interval.low, self.interval.high
        return {"value": self.value, "popularity": self.other, "difference": self.difference, "low": low, "high": high}

    @property
    def says(self) -> str:
        return f"{self.difference:+.4f} [{self.interval.low:+.4f}, {self.interval.high:+.4f}]"


Found = Finding | None


# ------------------------------------------------------------------------------------------------------------ of learning


def overfitting(patient: Patient) -> Found:
    """The training loss kept falling while validations fell from their best by more than their noise."""
    best, last = _best(patient), patient.validations[-1]
    worse = (1 if last.metric in LOWER_IS_BETTER else -1) * (last.value - best.value)
    interval = last.interval(best, SURE)
    sure = interval.low > 0 if last.metric in LOWER_IS_BETTER else interval.high < 0
    if not sure or worse <= FALL * abs(best.value):
        return None
    before, after = (_loss(patient, one) for one in (best, last))
    if before is None or after is None or after > (1 - LOSS_FALL) * before:
        return None
    says = (
        f"From step {best.step:,} on, whose weights are kept, the training loss fell from {before:.4f} to {after:.4f} while {last.metric} "
        f"went from {best.value:.4f} to {last.value:.4f} ({last.value - best.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] on "
        f"{last.people:,} people): what it learns by then holds for the training events alone. Let it learn less by heart, by a dropout of "
        "the model's, train.table_l2, data.unknown or a smaller item.dim; more epochs of this will not help."
    )
    evidence = {"loss at best": before, "loss at last": after, "best": best.value, "last": last.value}
    return _finding("overfitting", says, **evidence, low=interval.low, high=interval.high)


def validation_too_small(patient: Patient) -> Found:
    """The best of the validations cannot be told from the worst after the first: which weights are best was a matter of chance."""
    if len(patient.validations) < VALIDATIONS:
        return None
    best, later = _best(patient), patient.validations[1:]
    worst = max(later, key=lambda one: abs(one.value - best.value))
    spread, interval, apart = abs(worst.value - best.value), best.interval(), worst.interval(best)
    half, noise = (interval.high - interval.low) / 2, (apart.high - apart.low) / 2
    if half <= spread or apart.low > 0 or apart.high < 0 or noise <= HIDDEN * _above_chance(best.metric, best.value):
        return None
    everybody = len(np.unique(patient.data.log.user_of(asked(patient.data.log, patient.split, patient.judging.protocol, "valid"))))
    people = patient.config.train.valid_people
    if people < everybody:
        wanted = everybody if spread == 0 else min(everybody, ceil(best.people * (half / spread) ** 2))
        mend = f"Set train.valid_people to {max(wanted, people + 1):,} (there are {everybody:,})"
    else:
        mend = "Everybody is asked already: believe a mean over seeds (penchant compare --seeds 3) rather than this choice"
    says = (
        f"The validations after the first lie within {spread:.4f} of the best, {best.metric} {best.value:.4f}, which {best.people:,} "
        f"people tell to ±{half:.4f} only, and two validations apart to ±{noise:.4f}: which weights are kept, and when the run stopped, "
        f"was decided by chance. {mend}."
    )
    evidence = {"best": best.value, "half": half, "noise": noise, "spread": spread}
    return _finding("validation-too-small", says, **evidence, people=best.people, everybody=everybody)


def _best(patient: Patient) -> Validation:
    return next(one for one in patient.validations if one.step == patient.best["step"])


def _loss(patient: Patient, of: Validation) -> float | None:
    """The mean training loss between the validation before and this one."""
    before = max((one.step for one in patient.validations if one.step < of.step), default=0)
    found = [line["loss"] for line in patient.lines if "loss" in line and before < line["step"] <= of.step]
    return float(np.mean(found)) if found else None


# ----------------------------------------------------------------------------------------------------------- of the model


def dead_table(patient: Patient) -> Found:
    """Tables whose ids, permuted among requests, events or items, change no logit."""
    if not patient.tells:
        return None
    with _reading(patient.model) as before:
        patient.logit(patient.batch)
    dead: dict[str, tuple[str, ...]] = {}
    told: set[str] = set()
    looked = 0
    quiet = patient.context is not None and patient.context < QUIET  # then `context-ignored` says it of all of them
    for field, permuted in _permuted_fields(patient.batch, patient.encoding):
        with _reading(patient.model) as after:
            moved = patient.moved(patient.logit(permuted))
        tables = _changed(before, after)
        told.update(tables)
        looked += bool(tables)
        if tables and moved < SILENT and not (quiet and field.startswith("context.")):
            dead[field] = tables
    names = _of_items(patient.model, patient.encoding)
    for table, ids in before.items():
        if table not in told and any(len(one) > 1 and not (one == one[:1]).all() for one in ids):
            looked += 1
            with _permuting(patient.model, table):
                if patient.moved(patient.logit(patient.batch)) < SILENT:
                    dead[names.get(table, table)] = (*dead.get(names.get(table, table), ()), table)
    if not dead:
        return None
    sizes = {field: max(_size(patient.model, table, before[table]) for table in tables) for field, tables in dead.items()}
    listed = ", ".join(field if tables == (field,) else f"{field} ({', '.join(tables)})" for field, tables in dead.items())
    empty = [field for field, size in sizes.items() if size == 0 or size < SILENT * _typical(patient.model, before)]
    why = (
        f"The vectors of {', '.join(empty)} are all but zero: a smaller train.table_l2 or a greater train.table_rate lets them live"
        if empty
        else "Their vectors are there, but no layer makes anything of them"
    )
    says = (
        f"{len(dead)} of {looked} fields that the model reads say nothing: permuted among the {patient.batch.requests} requests that were "
        f"looked at, they move logits by less than {SILENT:.2%} of their spread: {listed}. {why}; or leave them out of the schema."
    )
    return Finding(name="dead-table", says=says, evidence=sizes)


def saturated_outputs(patient: Patient) -> Found:
    """Logits so large that probabilities are 0 or 1, or all alike."""
    share, spread = float((np.abs(patient.here) > SATURATED).mean()), patient.spread
    loss = read_loss(patient.config.loss, where="run")
    if share > OFTEN and not loss.compares and not isinstance(loss, Nothing):
        says = (
            f"{share:.0%} of the logits that were looked at lie beyond ±{SATURATED:.0f}, where a probability is 0 or 1 to the last digit: "
            "right answers teach nothing more, and one that is wrong costs without bound. A smaller train.rate or more "
            "train.weight_decay keeps them smaller."
        )
        return _finding("saturated-outputs", says, share=share, greatest=float(np.abs(patient.here).max()))
    if patient.batch.requests >= FEW and patient.here.shape[1] > 1 and spread < ALIKE:
        says = (
            f"The logits of a request's candidates differ by {spread:.1e} on average: everything is told the same, and a ranking by it is "
            "that of ties. Nothing was learned, or an activation has died: try another train.rate, or fewer layers."
        )
        return _finding("saturated-outputs", says, spread=spread)
    return None


def attention_ignores_candidate(patient: Patient) -> Found:
    """Attention that could look at the candidate, and is the same for all of them."""
    model, events = patient.model, patient.batch.history.events
    several = torch.nonzero(events.sizes > 1)[:ATTENDED, 0]
    if len(several) < FEW or patient.batch.item.shape[1] < 2:
        return None
    batch = patient.batch.take(several)
    items = model.item(batch.row, batch.known)
    memory = model.read(items, batch.user, batch.history)
    with torch.enable_grad():
        seen = items.detach().requires_grad_()
        attention = model.score(seen, memory, batch, explain=True).attention
        if attention is None or not attention.requires_grad:
            return None
        paths: tuple[Tensor | None, ...] = torch.autograd.grad(attention.sum(), seen, allow_unused=True)
    if paths[0] is None:  # by design it does not look there
        return None
    weight = attention.detach().double()
    over, square = float(weight.var(1, unbiased=False).mean()), float(weight.square().mean())
    share = over / square if square else 0.0
    if share >= NEGLIGIBLE:
        return None
    says = (
        f"An event has the same say whatever the candidate: its weights deviate over {weight.shape[1]} candidates by "
        f"{share**0.5:.2%} of their size ({weight.shape[0]:,} events of {len(several)} requests). So the past is a fixed vector, as in "
        "pooling, which costs far less: train longer or at a greater train.rate, or take pooling."
    )
    return _finding("attention-ignores-candidate", says, share=share, events=weight.shape[0])


def context_ignored(patient: Patient) -> Found:
    """Contexts that may as well be those of other requests: neither logits nor the metric notice."""
    if patient.context is None or patient.context >= QUIET:
        return None
    elsewhere = patient.again(_Elsewhere(patient.model), min(PEOPLE, patient.config.train.valid_people))
    gain = Gain.of(patient.judged, elsewhere)
    low, high = gain.interval.low, gain.interval.high
    if low > 0 or high < 0 or max(-low, high) > STILL * abs(gain.value):
        return None
    schema = patient.encoding.schema
    fields = (*schema.events.moment, *schema.named("context", "category"), *schema.named("context", "number"))
    says = (
        f"The context ({', '.join(fields)}) says nothing to it: told that of another request, it moves logits by {patient.context:.2%} of "
        f"their spread and {gain.metric} by {-gain.difference:+.4f} [{-high:+.4f}, {-low:+.4f}] on {gain.people:,} people. Leave it out of "
        "the schema, or cross it with what it should change."
    )
    return _finding("context-ignored", says, logits=patient.context, difference=-gain.difference, low=-high, high=-low)


# ----------------------------------------------------------------------------------------------------------- of its worth


def no_better_than_popularity(patient: Patient) -> Found:
    """The interval of its difference from popularity is not above zero."""
    gain = patient.gain
    if gain is None or gain.interval.low > 0:
        return None
    verdict = "It is worse than popularity" if gain.interval.high < 0 else "It is not told apart from popularity"
    says = (
        f"{verdict}: {gain.metric} {gain.value:.4f} against {gain.other:.4f}, {gain.says} on the same {gain.people:,} people and "
        f"candidates, by {patient.judging.protocol.name}; and it cost {patient.cost}. Train longer or at another train.rate, or serve "
        "popularity, which costs nothing."
    )
    return _finding("no-better-than-popularity", says, **gain.evidence, parameters=patient.parameters, seconds=patient.seconds)


def costs_more_than_it_gains(patient: Patient) -> Found:
    """Better than popularity for sure, but by next to nothing even at the upper end."""
    gain = patient.gain
    if gain is None or gain.interval.low <= 0:
        return None
    above = _above_chance(gain.metric, gain.other)
    if gain.interval.high >= TINY * above:
        return None
    says = (
        f"All that {patient.cost} bring is {gain.says} {gain.metric} over popularity's {gain.other:.4f}, on {gain.people:,} people: at "
        f"most {gain.interval.high / above:.1%} of what popularity does above chance. A smaller model (item.dim, fewer layers) or a "
        "simpler one is likely to do as well."
    )
    return _finding("costs-more-than-it-gains", says, **gain.evidence, parameters=patient.parameters, seconds=patient.seconds)


DIAGNOSES: Mapping[str, Callable[[Patient], Found]] = {
    "overfitting": overfitting,
    "validation-too-small": validation_too_small,
    "dead-table": dead_table,
    "saturated-outputs": saturated_outputs,
    "attention-ignores-candidate": attention_ignores_candidate,
    "context-ignored": context_ignored,
    "no-better-than-popularity": no_better_than_popularity,
    "costs-more-than-it-gains": costs_more_than_it_gains,
}


@torch.no_grad()
def diagnose(patient: Patient) -> tuple[Finding, ...]:
    """What is clearly wrong with a run, in the order of DIAGNOSES. The model is left as it was."""
    modes = {module: module.training for module in patient.model.modules()}
    patient.model.eval()
    try:
        found = [look(patient) for look in DIAGNOSES.values()]
    finally:
        for module, mode in modes.items():
            module.training = mode
    return tuple(finding for finding in found if finding is not None)


# ----------------------------------------------------------------------------------------------------------------- shared


def _finding(name: str, says: str, **evidence: float) -> Finding:
    return Finding(name=name, says=says, evidence=evidence)


def _above_chance(metric: str, value: float) -> float:
    return value - 0.5 if metric.startswith("gauc") else abs(value)


class _Elsewhere(Model):
    """A model that is told the contexts of other requests."""

    def __init__(self, model: Model) -> None:
        nn.Module.__init__(self)
        self.model, self.item = model, model.item

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return self.model.read(items, user, history)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return self.model.score(items, memory, _elsewhere(batch), explain=explain)

    @property
    def pair_bytes(self) -> int:
        return self.model.pair_bytes

    @property
    def candidate_bytes(self) -> int:
        return self.model.candidate_bytes


def _elsewhere(batch: Batch) -> Batch:
    """The same requests, each in the context of another."""
    order = _order(batch.requests, batch.context.device)
    return replace(batch, context=batch.context[order], number=batch.number[order])


def _order(size: int, device: torch.device) -> Tensor:
    """int64 [size], a permutation: the same for the same size."""
    return torch.from_numpy(np.argsort(bits(size, np.arange(size)), kind="stable")).to(device)


def _permuted_fields(batch: Batch, encoding: Encoding) -> Iterator[tuple[str, Batch]]:
    """Of each categorical field of people, moments, showings and events: the batch with its ids permuted, where that changes any."""
    schema = encoding.schema
    user, shown, history = batch.user, batch.shown, batch.history
    groups: Mapping[str, tuple[Sequence[str], Tensor, Callable[[Tensor], Batch]]] = {
        "user": (
            ("id", *schema.named("user", "category")),
            user.code,
            lambda code: replace(batch, user=replace(user, code=code)),
        ),
        "context": (
            (*schema.events.moment, *schema.named("context", "category")),
            batch.context,
            lambda code: replace(batch, context=code),
        ),
        "shown": (
            schema.named("shown", "category"),
            shown.code,
            lambda code: replace(batch, shown=replace(shown, code=code)),
        ),
        "action": (
            schema.named("action", "category"),
            history.action,
            lambda code: replace(batch, history=replace(history, action=code)),
        ),
    }
    for group, (names, code, changed) in groups.items():
        for column, name in enumerate(names):
            permuted = code.clone().flatten(0, -2)
            permuted[:, column] = permuted[_order(len(permuted), code.device), column]
            permuted = permuted.view(code.shape)
            if not torch.equal(permuted, code):
                yield f"{group}.{name}", changed(permuted)


@contextmanager
def _reading(model: Model) -> Iterator[dict[str, list[Tensor]]]:
    """The ids that each embedding table is asked for, by the table's name, while this is open; of what logits are made of."""
    found: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, given: found.setdefault(name, []).append(given[0])

    tables = [(n, part) for n, part in model.named_modules() if isinstance(part, nn.Embedding) and not n.startswith(model.aside)]
    handles = [module.register_forward_pre_hook(keep(name)) for name, module in tables]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _permuting(model: nn.Module, table: str) -> Iterator[None]:
    """This table is asked for ids that are permuted, while this is open."""

    def permute(module: nn.Module, given: Any) -> tuple[Tensor]:
        return (given[0][_order(len(given[0]), given[0].device)],)

    handle = model.get_submodule(table).register_forward_pre_hook(permute)
    try:
        yield
    finally:
        handle.remove()


def _changed(before: Mapping[str, list[Tensor]], after: Mapping[str, list[Tensor]]) -> tuple[str, ...]:
    """The tables that were asked for other ids."""
    return tuple(name for name, ids in before.items() if not all(map(torch.equal, ids, after[name])))


def _of_items(model: nn.Module, encoding: Encoding) -> dict[str, str]:
    """The fields that the tables of item encoders are of."""
    names, schema = {}, encoding.schema
    for prefix, module in model.named_modules():
        if isinstance(module, CatalogueEncoder):
            names[f"{prefix}.id"] = "item.id"
            names |= {f"{prefix}.fields.tables.{at}": f"item.{field}" for at, field in enumerate(schema.named("item", "category"))}
            names |= {f"{prefix}.many.{at}": f"item.{field}" for at, field in enumerate(schema.named("item", "categories"))}
    return names


def _size(model: nn.Module, table: str, ids: Sequence[Tensor]) -> float:
    """The root of the mean square of the weights that were asked for."""
    weight = model.get_submodule(table).get_parameter("weight")
    return float(weight[torch.unique(torch.cat([one.flatten() for one in ids]))].square().mean().sqrt())


def _typical(model: nn.Module, asked_for: Mapping[str, list[Tensor]]) -> float:
    """The median size of the tables that were asked."""
    return float(np.median([_size(model, table, ids) for table, ids in asked_for.items()]))
