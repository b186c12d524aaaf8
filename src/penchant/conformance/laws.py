"""What every model must obey, a function a law: it returns, or says what is broken.

    Subject ── make, warm ──▶ model ─┐
            ── batch ──────▶ Batch  ─┴─ law ──▶ nothing, Broken or NotApplicable

All is asked in evaluation mode unless a law says otherwise, with tables of deviation 1: at initialisation a leak hides under any
tolerance. A law's sentence says what must hold and what it is to a user when it does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.conformance.spy import Spy
from penchant.conformance.world import raw_item
from penchant.data.encoded import EncodedLog
from penchant.data.load import Loader
from penchant.encoding import Encoding, Ints
from penchant.metrics import auc
from penchant.nn.attention import LocalActivation, Projected
from penchant.nn.dice import Dice
from penchant.nn.embedding import Table
from penchant.nn.model import Model, Retriever, score_in_chunks
from penchant.nn.recurrent import Cell
from penchant.train.loss import BCE, total
from penchant.train.optimiser import Optimiser

PATTERNS = ([0], [0, 0, 0], [0, 3], [3, 0])  # lengths of the pasts of a batch
RAGGED = [4, 0, 7, 2, 1, 0, 10]
NOISE = 1e-6  # of the greatest gradient: what is less is rounding
MATES = "a sum, a mean or another statistic over the batch, or a width that its longest past sets, sees batch mates"


class Broken(Exception):  # noqa: N818  # it is the model that errs
    """A law does not hold: what differs, by how much, and the usual cause."""


class NotApplicable(Exception):  # noqa: N818
    """A law that says nothing of this model, and why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is judged: how it is made, and the made world's batches that it is asked about."""

    build: Callable[[Encoding], nn.Module]
    loader: Loader
    without_gradient: Mapping[str, str] = field(default_factory=dict)  # parameters that may go without one, and why
    explains: bool = False  # whether it has to say what each event's say is

    def make(self, *, large: bool = True, seed: int = 1) -> Model:
        """A new one, in training mode; `large`: as `enlarge` has it."""
        torch.manual_seed(seed)
        model: Model = self.build(self.loader.data.encoding)  # type: ignore[assignment]  # any module of the contract
        return enlarge(model) if large else model

    def warm(self) -> Model:
        """In evaluation mode, after some steps that moved its moving averages."""
        model = self.make().train()
        with torch.no_grad():
            for batch in self.loader.epoch(0, 128):
                answer(model, batch)
        return model.eval()

    def position(self, length: Sequence[int], *, skip: int = 0) -> Ints:
        """Events whose pasts are of these lengths, each another person's where there are enough."""
        loader, taken = self.loader, Counter(dict.fromkeys(length, skip))
        have, found = loader.data.past(loader.position, loader.config.past, loader.tie)[1], []
        for n in length:
            there = loader.position[have == n]
            found.append(there[(taken[n] * 7) % len(there)])
            taken[n] += 1
        return np.array(found)

    def batch(self, length: Sequence[int] = RAGGED, *, candidates: int = 5) -> Batch:
        """A training batch whose pasts are of these lengths."""
        config = self.loader.config.model_copy(update={"negatives": candidates - 1})
        return replace(self.loader, config=config).batch(self.position(length), 0)

    def asked(self, position: Ints, item: Ints | int) -> Batch:
        """A batch of these moments about catalogue rows: [R, C], [C] for all of them, or one."""
        rows = np.atleast_1d(item)
        return self.loader.assemble(position, np.broadcast_to(rows, (len(position), rows.shape[-1])))


# ------------------------------------------------------------------------------------------------------------------- laws


def contract(subject: Subject) -> None:
    """It is built as Class(encoding, item, config) and has `item`, `read` and `score`: all else that penchant does asks these three."""
    model = subject.make()
    name = type(model).__name__
    for part, call in {"item": "item(row, known)", "read": "read(items, user, history)", "score": "score(items, memory, batch)"}.items():
        if not callable(getattr(model, part, None)):
            raise Broken(f"{name} has no {call}")
    batch = subject.batch([4, 7, 2, 1])
    items = items_of(model, batch)
    if not isinstance(items, Tensor) or items.dim() != 2 or len(items) != len(batch.row):
        raise Broken(f"item(row, known) gives {_kind(items)}; [M, D] was wanted, a vector for each of {len(batch.row)} rows")
    memory = model.read(items, batch.user, batch.history)
    if not isinstance(memory, Memory):
        raise Broken(f"read(items, user, history) gives {_kind(memory)}; a Memory was wanted")
    for group, values, count in (("each", memory.each, memory.segments.total), ("whole", memory.whole, batch.requests)):
        for key, value in values.items():
            if len(value) != count:
                of = "things in its segments" if group == "each" else "requests"
                raise Broken(
                    f"memory.{group}[{key!r}] has {len(value)} rows for {count} {of}: memories of several people could not be joined"
                )
    output = model.score(items, memory, batch)
    if not isinstance(output, Output):
        raise Broken(f"score(items, memory, batch) gives {_kind(output)}; an Output was wanted")
    if output.logit.shape != batch.item.shape or output.logit.dtype != torch.float32:
        raise Broken(f"the logits are {_kind(output.logit)}; float32 {list(batch.item.shape)} was wanted, one a candidate")


def forward(subject: Subject) -> None:
    """`forward` is nothing but the three steps: training runs it, serving the steps, and what is served must be what was trained."""
    model = subject.make()
    if not _has_forward(model):
        raise Broken(
            f"{type(model).__name__} has no forward(batch, *, explain=False), which training calls: "
            "derive it from penchant.nn.model.Model, which has one, or write it as item, read, score"
        )
    model, batch = subject.warm(), subject.batch()
    steps = model.score(items_of(model, batch), read(model, batch), batch).logit
    near("the logits", answer(model, batch).logit, steps, "when forward is asked and not item, read and score: it does more than these")


def empty_pasts(
    subject: Subject,
    *,
    lengths: Sequence[list[int]] = PATTERNS,
    training: Sequence[bool] = (False, True),
    taken: Sequence[bool] = (False, True),
) -> None:
    """Without a past the answer, the losses and all gradients are finite: new people are scored, and one of them ends no training run."""
    for length in lengths:
        for learning in training:
            for cut in taken:
                _finite(subject, length, training=learning, taken=cut)


def reading(subject: Subject) -> None:
    """Answers change with the past where the model says that it reads one (`reads_past`), and do not where it says that it does not."""
    model, batch = subject.warm(), subject.batch()
    if not hasattr(model, "reads_past"):
        raise NotApplicable("it has no reads_past; penchant.nn.model.Model has it")
    without = replace(batch, history=no_past(batch.requests, batch.history))
    differ = not torch.equal(answer(model, batch).logit, answer(model, without).logit)
    if differ and not model.reads_past:
        raise Broken(
            "the logits change when pasts are taken away, but reads_past is False: it would be lent nothing, and never a long past"
        )
    if model.reads_past and not differ:
        raise Broken("the logits are the same without any past, but reads_past is True; set it to False where no past is read")


def _finite(subject: Subject, length: list[int], *, training: bool, taken: bool) -> None:
    batch = subject.batch([3, 0, 5]).take(torch.tensor([{0: 1, 3: 0}[n] for n in length])) if taken else subject.batch(length)
    model = subject.warm().train(training)
    when = f"{'in training' if training else 'in evaluation'} with pasts of {_listed(map(str, length))} events"
    cause = "a mean over nothing is 0 / 0; Segments.mean, softmax and pool give 0 there"
    output = answer(model, batch)
    if output.logit.shape != batch.item.shape or output.logit.dtype != torch.float32:
        raise Broken(f"{when} the logits are {_kind(output.logit)}; float32 {list(batch.item.shape)} was wanted")
    if not output.logit.isfinite().all():
        at = int((~output.logit.isfinite()).any(1).nonzero()[0])
        raise Broken(f"{when} the logits of request {at} are not finite: {cause}")
    for name, loss in output.losses.items():
        if loss.dim() or not loss.isfinite():
            raise Broken(
                f"{when} the loss {name!r} is {_kind(loss) if loss.dim() else float(loss.detach())}; a finite scalar was wanted: {cause}"
            )
    if learns(model):
        _back(total(output, batch))
        wrong = [n for n, g in gradients(model).items() if g is not None and not g.isfinite().all()]
        if wrong:
            raise Broken(f"{when} the gradients of {_listed(wrong)} are not finite: {cause}")


def twice(subject: Subject) -> None:
    """In evaluation the same batch gives the same bits twice: every random choice is the loader's, so that an answer can be repeated."""
    model, batch = subject.warm(), subject.batch()
    cause = "when it is asked again: something is drawn at random, or changes, outside of training"
    same("the logits", answer(model, batch).logit, answer(model, batch).logit, cause)


def alone(subject: Subject) -> None:
    """A request gets the same answer alone as beside others: otherwise a person's list depends on who else is asking."""
    model, batch = subject.warm(), subject.batch()
    whole = answer(model, batch, explain=True)
    for r in range(batch.requests):
        one = answer(model, batch.take(torch.tensor([r])), explain=True)
        mine, when = batch.history.events.row == r, f"when other requests share its batch: {MATES}"
        near(f"the logits of request {r}", whole.logit[r : r + 1], one.logit, when)
        session = batch.history.sessions.requests.row == r
        for name, kept in (("attention", mine), ("head", mine), ("session", session), ("member", mine), ("interest", slice(r, r + 1))):
            there = getattr(whole, name)
            if there is not None:
                near(f"the values of {name!r} of request {r}", there[kept], getattr(one, name), when)


def order(subject: Subject) -> None:
    """The order of a batch's requests changes nothing: otherwise answers depend on who asked first."""
    model, batch, turned = subject.warm(), subject.batch(), torch.tensor([6, 5, 3, 0, 1, 4, 2])
    cause = "when a batch's requests stand in another order: something goes by a request's place in the batch"
    near("the logits", answer(model, batch.take(turned)).logit, answer(model, batch).logit[turned], cause)


def candidates(subject: Subject) -> None:
    """Many candidates at once are scored as one at a time: an item's score must not depend on what else might be recommended."""
    model, batch = subject.warm(), subject.batch()
    whole, items, memory = answer(model, batch, explain=True), items_of(model, batch), read(model, batch)
    cause = "a softmax, a mean or a rank over the candidates of a request"
    for c in range(batch.item.shape[1]):
        one, when = model.score(items, memory, batch.candidates(slice(c, c + 1)), explain=True), f"when it is asked about alone: {cause}"
        near(f"the logits of candidate {c}", one.logit, whole.logit[:, c : c + 1], when)
        for name in ("attention", "head", "session"):
            say = getattr(whole, name)
            if say is not None:
                near(f"the values of {name!r} on candidate {c}", getattr(one, name), say[:, c : c + 1], when)
    index = torch.randint(batch.item.shape[1], (batch.requests, 9))
    again = model.score(items, memory, batch.candidates(index)).logit
    near("the logits", again, whole.logit.gather(1, index), f"when candidates are repeated and in another order: {cause}")


def chunks(subject: Subject, *, budgets: Sequence[int] = (1, 100_000, 64 << 20)) -> None:
    """Candidates cut into chunks under a budget of bytes are scored as in one go: evaluation and serving cut them, training does not."""
    model, batch = subject.warm(), subject.batch()
    if not hasattr(model, "pair_bytes") or not hasattr(model, "candidate_bytes"):
        raise NotApplicable("it has no pair_bytes and candidate_bytes, by which chunks are cut; penchant.nn.model.Model has them")
    expected = answer(model, batch).logit
    for budget in budgets:
        cut = score_in_chunks(model, items_of(model, batch), read(model, batch), batch, budget=budget)
        near("the logits", cut, expected, f"when candidates are cut into chunks of {budget:,} bytes: one chunk sees another's candidates")


def catalogue(subject: Subject) -> None:
    """The whole catalogue may be asked about, and each item's score is what it is among few: a full ranking is no other model."""
    model, position = subject.warm(), subject.position(RAGGED)
    everything = np.arange(subject.loader.data.encoding.catalogue.size)
    batch = subject.asked(position, everything)
    logit = answer(model, batch).logit
    if not logit.isfinite().all():
        raise Broken(f"the logits of {int((~logit.isfinite()).any(0).sum())} of {len(everything)} items of the catalogue are not finite")
    cause = "when only three items are asked about and not the whole catalogue: something sees the other candidates"
    near("the logits", answer(model, subject.asked(position, everything[[0, 5, 40]])).logit, logit[:, [0, 5, 40]], cause)
    if hasattr(model, "pair_bytes") and hasattr(model, "candidate_bytes"):
        cut = score_in_chunks(model, items_of(model, batch), read(model, batch), batch, budget=1_000_000)
        near("the logits", cut, logit, "when the catalogue is cut into chunks: one chunk sees another's candidates")


def memory(subject: Subject) -> None:
    """A Memory knows no candidate, moment or batch mate: a server keeps it, and asks it about other items at other times."""
    model, position = subject.warm(), subject.position(RAGGED)
    each = [read(model, subject.asked(position[[r]], np.array([3, 3]))) for r in range(len(position))]
    other = read(model, subject.asked(position[[2]], np.arange(1, 60)))
    _same_memory(other, each[2], "when other candidates are asked about: read may use history's items and the user, not all items")
    together = read(model, subject.asked(position, 1))
    _same_memory(together, Memory.join(each), f"when other requests share its batch: {MATES}")
    later = subject.asked(position[[2, 0]], np.arange(1, 60))
    later = replace(later, context=later.context * 0, number=later.number + 1, time=later.time * 2)
    _same_memory(read(model, later), Memory.join([each[2], each[0]]), "when candidates, moment and batch mates are others")


def kept_memories(subject: Subject) -> None:
    """Memories that were kept join and answer new questions as a past read now does: this is how one is served without its history."""
    model, position = subject.warm(), subject.position(RAGGED)
    joined = Memory.join([read(model, subject.asked(position[[r]], np.array([3, 3]))) for r in range(len(position))])
    drawn = np.random.default_rng(0).integers(0, subject.loader.data.encoding.catalogue.size, (len(position), 12))
    batch = subject.asked(position, drawn)
    asked = replace(batch, history=no_past(batch.requests, batch.history))
    cause = "when the pasts were read earlier, one by one: score needs something that is not in Memory"
    near("the logits", model.score(items_of(model, batch), joined, asked).logit, answer(model, batch).logit, cause)
    if joined.bytes <= 0:
        raise Broken("a memory says that it takes no bytes")


def history(subject: Subject) -> None:
    """`score` reads no history, and has no further losses in evaluation: a server that kept the Memory does not have the history."""
    model, batch = subject.warm(), subject.batch()
    kept, items = read(model, batch), items_of(model, batch)
    expected = model.score(items, kept, batch).logit
    others = batch.history.take(torch.tensor([2] * batch.requests))
    for given, which in ((no_past(batch.requests, batch.history), "is empty"), (others, "is another's")):
        output = model.score(items, kept, replace(batch, history=given))
        same("the logits", output.logit, expected, f"when batch.history {which}: what score needs of a past is for read to keep in Memory")
        if output.losses:
            raise Broken(f"in evaluation score has the losses {_listed(output.losses)}: make them where self.training")


def own(subject: Subject) -> None:
    """Nothing but a request's own is read: with everything of the others made NaN, or another id, its answer stays."""
    model, batch = subject.warm(), subject.batch()
    whole = answer(model, batch).logit
    for r in range(batch.requests):
        mine, events = torch.arange(batch.requests) == r, batch.history.events
        of_mine = events.row == r
        items = items_of(model, batch).detach()
        used = torch.zeros(len(items), dtype=torch.bool)
        used[batch.history.item[of_mine]] = used[batch.item[r]] = True
        items = torch.where(used[:, None], items, torch.nan)
        past = replace(
            batch.history,
            time=torch.where(of_mine, batch.history.time, 0),
            action=torch.where(of_mine[:, None], batch.history.action, 0),
            number=torch.where(of_mine[:, None], batch.history.number, torch.nan),
            other=None,
        )
        left = replace(
            batch,
            user=User(code=torch.where(mine[:, None], batch.user.code, 0), number=torch.where(mine[:, None], batch.user.number, torch.nan)),
            context=torch.where(mine[:, None], batch.context, 0),
            number=torch.where(mine[:, None], batch.number, torch.nan),
            time=torch.where(mine, batch.time, 0),
            history=past,
            negative=None,
            label=None,
        )
        found = model.score(items, model.read(items, left.user, past), left).logit[r]
        near(f"the logits of request {r}", found, whole[r], f"when all that is not its own is NaN or another id: {MATES}")


def every_gradient(subject: Subject) -> None:
    """Every parameter gets a gradient above rounding noise: one that does not is never learned, and says nothing that was meant."""
    model = _learner(subject.make()).train()
    for batch in subject.loader.epoch(0, 256):
        _back(total(answer(model, batch), batch))
    found = {name: 0.0 if g is None else float(g.abs().max()) for name, g in gradients(model).items()}
    greatest = max(found.values())
    dead = {name for name, most in found.items() if most < NOISE * greatest or not most}
    may = {**getattr(model, "without_gradient", {}), **subject.without_gradient}
    if wrong := sorted(dead - may.keys()):
        raise Broken(
            f"no gradient above rounding noise reaches {_listed(wrong)}: it is not used, is detached, or changes nothing; where that is "
            "meant, name it in the model's `without_gradient`, a mapping of names to the reason"
        )
    if stale := sorted(may.keys() - dead):
        raise Broken(f"{_listed(stale)} may go without a gradient, it was said, but there is no such parameter or it has one")


def sparse_tables(subject: Subject) -> None:
    """Tables have sparse gradients, so that a step costs what its batch has and not the size of the vocabulary."""
    model, batch = _learner(subject.make()).train(), subject.batch()
    tables = {name: part for name, part in model.named_modules() if isinstance(part, Table)}
    _back(total(answer(model, batch), batch))
    met = {name: part.weight.grad for name, part in tables.items() if part.weight.grad is not None}
    if not met:
        raise NotApplicable("it has no penchant.nn.embedding.Table")
    if dense := [name for name, gradient in met.items() if not gradient.is_sparse]:
        raise Broken(f"the gradients of {_listed(dense)} are dense: its weight is used otherwise than by looking ids up")


def by_heart(subject: Subject) -> None:
    """A handful of requests can be learned by heart: what cannot even do that learns nothing else. Dropout is off."""
    model, batch = _without_dropout(_learner(subject.make(large=False)).train()), subject.batch([3, 0, 5, 1, 8, 2], candidates=3)
    batch = replace(batch, known=torch.ones_like(batch.known))  # two items with UNKNOWN's id cannot be told apart by a model of ids
    optimiser = Optimiser(model, rate=0.01, table_rate=0.05)
    loss, output = math.inf, None
    for _ in range(400):
        optimiser.zero_grad()
        output = answer(model, batch)
        _back(total(output, batch))
        optimiser.step()
        loss = float(BCE()(output, batch).detach())
        if loss < 0.02:
            break
    if output is None or batch.label is None or not loss < 0.05:
        raise Broken(
            f"after 400 steps the loss of 6 requests with 3 candidates each is {loss:.2g}; less than 0.05 was wanted: "
            "the logits are bounded, the candidates look alike, or gradients do not reach what could tell them apart"
        )
    right = auc(output.logit.detach().reshape(-1).numpy(), batch.label.reshape(-1).numpy())
    if right != 1:
        raise Broken(f"after training on 6 requests alone, the chosen item is above the others in {right:.0%} of pairs; all were wanted")


def further_losses(subject: Subject) -> None:
    """Further losses are means over a batch, not sums: twice the same requests weigh no more, so that a batch's size changes no balance."""
    model, batch = _without_dropout(_learner(subject.make()).train()), subject.batch([4, 0, 7, 2, 1, 9])
    once = answer(model, batch).losses
    if not once:
        raise NotApplicable("it has no further losses")
    doubled = answer(model, batch.take(torch.arange(batch.requests).repeat(2))).losses
    for name, loss in once.items():
        near(f"the values of the loss {name!r}", doubled[name], loss, "when a batch holds each request twice: take a mean", rtol=0.01)


def saving(subject: Subject) -> None:
    """Saved and loaded, it says the same bits: what is not in its state is not in a bundle, and is lost."""
    model, batch = subject.warm(), subject.batch()
    kept, expected = save({name: value.contiguous() for name, value in model.state_dict().items()}), answer(model, batch).logit
    other = subject.make(seed=99).eval()
    if learns(model) and torch.equal(answer(other, batch).logit, expected):
        raise Broken("another seed gives the same logits: what it learns has no say in its answers")
    other.load_state_dict(load(kept))
    cause = "when its state_dict is loaded into a new one: something that it learned is neither a parameter nor a persistent buffer"
    same("the logits", answer(other, batch).logit, expected, cause)


def same_seed(subject: Subject) -> None:
    """The same seed gives the same run, bit for bit: a result that cannot be had again cannot be compared."""
    ends = [_run(subject) for _ in range(2)]
    same("the logits", ends[0], ends[1], "between two runs of the same seed: something is drawn by another generator than torch's own")


def _run(subject: Subject) -> Tensor:
    model = _learner(subject.make(large=False, seed=3)).train()
    optimiser = Optimiser(model, rate=0.01, table_rate=0.01)
    for batch in subject.loader.epoch(1, 256):
        optimiser.zero_grad()
        _back(total(answer(model, batch), batch))
        optimiser.step()
    return answer(model.eval(), subject.batch()).logit


def bfloat16(subject: Subject) -> None:
    """Under autocast to bfloat16 answers stay close, float32, and finite in training: this is how it is trained fast on a GPU."""
    model, batch = _learner(subject.warm()), subject.batch()
    with torch.autocast("cpu", torch.bfloat16):
        half = answer(model, batch).logit
    exact = answer(model, batch).logit
    if half.dtype != torch.float32:
        raise Broken(f"under autocast the logits are {_kind(half)}; float32 was wanted: end with .float(), as losses need it")
    cause = "under autocast to bfloat16: a sum of many terms, an exponential or a small difference should stay float32"
    near("the logits", half, exact, cause, rtol=0.1, atol=0.1 * float(exact.detach().std()))
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(answer(model, batch), batch)
    _back(loss)
    wrong = [n for n, g in gradients(model).items() if g is not None and not g.isfinite().all()]
    if wrong or not loss.isfinite():
        raise Broken(f"under autocast {_listed(['the loss'] * (not loss.isfinite()) + wrong)} in training is not finite")


def waiting(subject: Subject) -> None:
    """No training step waits for the device: each wait empties a GPU's queue, and costs more than most layers."""
    model, batch = _learner(subject.make()).train(), subject.batch()
    with Spy() as spy:
        _back(total(answer(model, batch), batch))
    if spy.seen:
        where = _listed(f"{place} ({operation})" for operation, place in spy.seen)
        raise Broken(
            f"the host waits for the device in {where}: .item(), int() or if of a tensor, nonzero, unique, or a boolean mask as index"
        )


def new_items(subject: Subject) -> None:
    """An item added after training is scored by its attributes, as an old one whose id is not known; old scores stay as they are."""
    model, position = subject.warm(), subject.position(RAGGED)
    data = subject.loader.data
    encoding, size = data.encoding, data.encoding.catalogue.size
    (twin,) = encoding.catalogue.items.encode(["i10"])
    kept = subject.asked(position, twin)
    before = answer(model, kept).logit
    if not hasattr(model.item, "extend"):
        raise Broken("its item encoder has no extend(catalogue), by which it is told of items that arrive")
    with_new = encoding.with_items([raw_item("i10", "new", vectors=bool(encoding.schema.named("item", "vector"))), {"id": "bare"}])
    model.item.extend(with_new.catalogue)
    same("the logits of old items", answer(model, kept).logit, before, "when the catalogue is extended")
    grown = replace(subject, loader=replace(subject.loader, data=EncodedLog(data.log, with_new)))
    logit = answer(model, grown.asked(position, np.array([size, size + 1, twin]))).logit
    if not logit.isfinite().all():
        raise Broken("the logits of new items are not finite: an id, or an attribute, that was not there in training has no value")
    near("the logits of old items", logit[:, 2:], before, "when new items are asked about beside them")
    if learns(model):  # one that learns nothing may go by counts, which tell the twins apart
        met = kept.history.events.sum((kept.row[kept.history.item] == twin).float()) > 0  # a past that holds the twin would change too
        unknown = answer(model, replace(kept, known=kept.known & (kept.row != twin))).logit
        cause = "when it is a new item and not an old one of the same attributes whose id is not known: `known` is to be heeded"
        near("the logits", logit[~met, :1], unknown[~met], cause)


def explanation(subject: Subject) -> None:
    """Attention is made only when asked for, changes no answer, and has the shape that reports read: an event's say on each candidate."""
    model, batch = subject.warm(), subject.batch()
    plain, explained = answer(model, batch), answer(model, batch, explain=True)
    made = sorted(f.name for f in fields(plain) if f.name != "logit" and isinstance(getattr(plain, f.name), Tensor))
    if made:
        raise Broken(f"Output has {_listed(made)} though nobody asked: make it where `explain`, for it costs memory in training")
    same("the logits", explained.logit, plain.logit, "when an explanation is asked for")
    events, (requests, count) = batch.history.events.total, batch.item.shape
    if subject.explains and explained.attention is None:
        raise Broken("Output has no attention when an explanation is asked for")
    if explained.attention is not None and (explained.attention.shape != (events, count) or explained.attention.dtype != torch.float32):
        raise Broken(
            f"attention is {_kind(explained.attention)}; float32 [{events}, {count}] was wanted, a say for each event and candidate"
        )
    sessions = batch.history.sessions.events.owners
    if explained.session is not None and explained.session.shape != (sessions, count):
        raise Broken(f"session is {_kind(explained.session)}; [{sessions}, {count}] was wanted, a say for each session and candidate")
    wanted = (("head", (events, count), "H"), ("interest", (requests, count), "K"), ("member", (events,), "K"))
    for name, first, letter in wanted:
        value = getattr(explained, name)
        if value is not None and value.shape[: len(first)] != first:
            raise Broken(f"{name} is {_kind(value)}; [{', '.join(map(str, first))}, {letter}] was wanted")


def retrieval(subject: Subject) -> None:
    """What a model offers to find items by, interests(memory) [R, K, D] and targets(items) [M, D], is finite and each one's own."""
    model = subject.warm()
    if not isinstance(model, Retriever):
        raise NotApplicable("it offers no interests")
    batch = subject.batch(RAGGED)
    with torch.no_grad():
        items = model.item(batch.row, batch.known)
        found, wanted = model.interests(model.read(items, batch.user, batch.history)), model.targets(items)
        if found.dim() != 3 or found.shape[0] != batch.requests or wanted.shape != (len(items), found.shape[-1]):
            raise Broken(
                f"interests are {_kind(found)} and targets {_kind(wanted)}; [{batch.requests}, K, D] and [{len(items)}, D] were wanted"
            )
        if not (found.isfinite().all() and wanted.isfinite().all()):
            raise Broken("interests or targets are not finite, as empty pasts and unknown ids make them")
        for place in range(batch.requests):
            one = batch.take(torch.tensor([place]))
            alone = model.interests(model.read(items, one.user, one.history))
            near("the interests", alone[0], found[place], "when a person is asked about alone")
        near("the targets", model.targets(items[:3]), wanted[:3], "when fewer items are asked about")


LAWS: Mapping[str, Callable[[Subject], None]] = {
    "contract": contract,
    "forward": forward,
    "empty pasts": empty_pasts,
    "reading the past": reading,
    "same answer twice": twice,
    "alone as together": alone,
    "order of a batch": order,
    "many candidates": candidates,
    "chunks": chunks,
    "whole catalogue": catalogue,
    "memory": memory,
    "kept memories": kept_memories,
    "no history in score": history,
    "a request's own": own,
    "gradients": every_gradient,
    "sparse tables": sparse_tables,
    "by heart": by_heart,
    "further losses": further_losses,
    "saving": saving,
    "same seed": same_seed,
    "bfloat16": bfloat16,
    "no waiting": waiting,
    "new items": new_items,
    "explanation": explanation,
    "retrieval": retrieval,
}


# ------------------------------------------------------------------------------------------------------------------- help


def answer(model: Model, batch: Batch, *, explain: bool = False) -> Output:
    """What a model says of a batch: by its own forward, or by the three steps where it has none."""
    ask = model if _has_forward(model) else lambda batch, **more: Model.forward(model, batch, **more)
    output: Output = ask(batch, explain=True) if explain else ask(batch)
    return output


def enlarge(model: Model) -> Model:
    """Tables of deviation 1, Dice with a leak, and steep units where sigmoids on sigmoids would let hardly a gradient through."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.Embedding):
                part.weight.normal_()
                if part.padding_idx is not None:
                    part.weight[part.padding_idx] = 0
            if isinstance(part, Dice):
                part.alpha.fill_(0.2)
        steep = [part for part in model.modules() if isinstance(part, Cell | Projected | nn.LSTM) or _of_sigmoids(part)]
        for parameter in dict.fromkeys(parameter for part in steep for parameter in part.parameters()):  # once, where one is in another
            parameter.mul_(4)
    return model


def _of_sigmoids(part: nn.Module) -> bool:
    return isinstance(part, LocalActivation) and isinstance(part.activation, nn.Sigmoid)


def items_of(model: Model, batch: Batch) -> Tensor:
    return model.item(batch.row, batch.known)


def read(model: Model, batch: Batch) -> Memory:
    return model.read(items_of(model, batch), batch.user, batch.history)


def no_past(requests: int, like: History) -> History:
    """So many empty pasts."""
    nothing = Segments.of(torch.zeros(requests, dtype=torch.int64))
    return History(item=like.item[:0], time=like.time[:0], action=like.action[:0], number=like.number[:0], events=nothing)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.to_dense() for name, p in model.named_parameters()}


def _back(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def learns(model: nn.Module) -> bool:
    """Whether it has parameters."""
    return next(model.parameters(), None) is not None


def near(what: str, actual: Tensor | None, expected: Tensor, when: str, *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Raises Broken where the two differ by more than rounding: "`what` change by 0.8 `when`"."""
    if actual is None:
        raise Broken(f"{what} are missing {when}")
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise Broken(f"{what} change from {_kind(expected)} to {_kind(actual)} {when}")
    if not torch.isclose(actual, expected, rtol=rtol, atol=atol).all():
        by = float((actual - expected).detach().abs().max())
        raise Broken(f"{what} {f'change by {by:.2g}' if math.isfinite(by) else 'are not finite'} {when}")


def same(what: str, actual: Tensor, expected: Tensor, when: str) -> None:
    """Raises Broken where a bit differs."""
    near(what, actual, expected, when, rtol=0, atol=0)


def _same_memory(actual: Memory, expected: Memory, when: str) -> None:
    if not torch.equal(actual.segments.sizes, expected.segments.sizes):
        raise Broken(
            f"the sizes of memory.segments change from {expected.segments.sizes.tolist()} to {actual.segments.sizes.tolist()} {when}"
        )
    for group in ("each", "whole", "event"):
        one, other = getattr(actual, group), getattr(expected, group)
        if one.keys() != other.keys():
            raise Broken(f"the names in memory.{group} change from {_listed(other)} to {_listed(one)} {when}")
        for name in one:
            near(f"the values of memory.{group}[{name!r}]", one[name].float(), other[name].float(), when)


def _learner(model: Model) -> Model:
    if not learns(model):
        raise NotApplicable("it has no parameters")
    return model


def _without_dropout(model: Model) -> Model:
    for part in model.modules():
        if isinstance(part, _DropoutNd):
            part.eval()
    return model


def _has_forward(model: nn.Module) -> bool:
    return type(model).forward is not nn.Module.forward


def _kind(value: object) -> str:
    """A value in words: "float32 [7, 5]"."""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _listed(words: Iterable[object]) -> str:
    """Up to five words with commas between; of more, how many."""
    all_of = [str(word) for word in words]
    return ", ".join(all_of[:5]) + (f" and {len(all_of) - 5} more" if len(all_of) > 5 else "") if all_of else "nothing"
