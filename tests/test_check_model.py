"""`penchant check`: each law is broken by a model made wrong in that one way, and says so; somebody else's model passes."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from said import Said
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.conformance.check import Checked, ask, check_model
from penchant.conformance.laws import LAWS, Subject
from penchant.data.load import Loader
from penchant.encoding import Encoding
from penchant.errors import ConfigError, UnknownNameError
from penchant.models import LONG, MODELS
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig, ItemEncoder, item_encoder
from penchant.nn.mlp import Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text()


# ------------------------------------------------------------------------------------------------- a sound one, made wrong


class SoundConfig(Config):
    hidden: int = 8


class Sound(Model):
    """The mean of a past: it keeps every law."""

    Config = SoundConfig
    Item = ItemConfig(dim=4)

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: SoundConfig = SoundConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item, self.past, self.person = item, Past(encoding, item.dim), Person(encoding, 2)
        self.head = Head(self.person.dim, 2 * item.dim, (config.hidden,), "prelu")

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return Memory(segments=history.events, whole={"interest": self.interest(self.past(items, history), history, items)})

    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        return history.events.mean(past)

    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        item = items[batch.item]
        interest = memory.whole["interest"][:, None].expand(-1, item.shape[1], -1)
        return self.head(self.person(batch), torch.cat([interest, item], -1))

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return Output(logit=self.logit(items, memory, batch))


class WithoutRead(nn.Module):
    def __init__(self, encoding: Encoding, item: ItemEncoder) -> None:
        super().__init__()
        self.item, self.score = item, nn.Identity()


class ItemsOfThree(Sound):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.item = type("Item", (nn.Module,), {"forward": lambda self, row, known: torch.zeros(len(row), 1, 4)})()


class ReadsATensor(Sound):
    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return super().read(items, user, history).whole["interest"]


class ShortMemory(Sound):
    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return Memory(segments=history.events, whole={"interest": super().read(items, user, history).whole["interest"][:1]})


class SaysATensor(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return self.logit(items, memory, batch)


class LogitsOfThree(Sound):
    def logit(self, *given: Any) -> Tensor:
        return super().logit(*given)[..., None]


class HalfAsWide(Sound):
    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        return self.head(self.person(batch), items[batch.item])


class OtherForward(Sound):
    def forward(self, batch: Batch, *, explain: bool = False) -> Output:
        output = super().forward(batch, explain=explain)
        return replace(output, logit=2 * output.logit)


class NoForward(nn.Module):
    def __init__(self, encoding: Encoding, item: ItemEncoder) -> None:
        super().__init__()
        self.inner = Sound(encoding, item)

    @property
    def item(self) -> ItemEncoder:
        return self.inner.item

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return self.inner.read(items, user, history)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return self.inner.score(items, memory, batch, explain=explain)


class OverNothing(Sound):
    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        return history.events.sum(past) / history.events.length[:, None]


class OverNothingHidden(Sound):
    """Finite, but 0 times infinity goes back."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.scale = nn.Parameter(torch.ones(1))

    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        length = history.events.length[:, None]
        return torch.where(length > 0, self.scale * history.events.sum(past) / length, 0.0)


class LossOverNothing(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        output = super().score(items, memory, batch)
        return replace(output, losses={"last": items[batch.history.item].square().mean()}) if self.training else output


class ReadsUnsaid(Sound):
    reads_past = False


class ReadsNothing(Sound):
    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        return past.new_zeros(history.events.owners, past.shape[1])


class Draws(Sound):
    def logit(self, *given: Any) -> Tensor:
        logit = super().logit(*given)
        return logit + torch.rand_like(logit)


class Centred(Sound):
    def logit(self, *given: Any) -> Tensor:
        logit = super().logit(*given)
        return logit - logit.mean()


class AttentionOfAll(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        say = torch.full((memory.segments.total, batch.item.shape[1]), 1 / max(memory.segments.total, 1))
        return Output(logit=self.logit(items, memory, batch), attention=say if explain else None)


class ByPlace(Sound):
    def logit(self, *given: Any) -> Tensor:
        logit = super().logit(*given)
        return logit + torch.arange(len(logit))[:, None]


class Shares(Sound):
    def logit(self, *given: Any) -> Tensor:
        return super().logit(*given).log_softmax(1)


class NotOfRowNothing(Sound):
    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        return super().logit(items, memory, batch).masked_fill(batch.row[batch.item] == 0, -torch.inf)


class KnowsCandidates(Sound):
    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        return super().interest(past, history, items) + items.mean(0)


class KnowsMates(Sound):
    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        return super().interest(past, history, items) + past.sum(0)


class KeepsForItself(Sound):
    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        self.kept = super().interest(past, history, items)
        return self.kept

    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        return super().logit(items, memory, batch) + self.kept.sum(1, keepdim=True)


class ReadsHistory(Sound):
    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        return super().logit(items, memory, batch) + batch.history.events.length[:, None]


class LossesAlways(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return Output(logit=self.logit(items, memory, batch), losses={"small": items.square().mean()})


class MasksByNought(Sound):
    def interest(self, past: Tensor, history: History, items: Tensor) -> Tensor:
        events = history.events
        mine = (events.row == torch.arange(events.owners)[:, None]).float()
        return (mine @ past) / events.length.clamp(min=1)[:, None]


class Unused(Sound):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.idle = nn.Linear(3, 3, bias=False)


class UnusedOnPurpose(Unused):
    without_gradient = {"idle.weight": "it is kept for old weights"}


class StaleNote(Sound):
    without_gradient = {"head.rest.0.bias": "nobody remembers"}


class WholeTable(Sound):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.level = Table(2, 1)

    def logit(self, *given: Any) -> Tensor:
        return super().logit(*given) + self.level.weight.sum()


class Bounded(Sound):
    def logit(self, *given: Any) -> Tensor:
        return super().logit(*given).tanh()


class SumsLosses(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        losses = {"size": memory.whole["interest"].square().sum()} if self.training else {}
        return Output(logit=self.logit(items, memory, batch), losses=losses)


class Forgets(Sound):
    level: Tensor

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.register_buffer("level", torch.zeros(1), persistent=False)

    def logit(self, *given: Any) -> Tensor:
        if self.training:
            self.level += 1
        return super().logit(*given) + self.level.clamp(max=3)


class SaysNothing(Sound):
    def logit(self, *given: Any) -> Tensor:
        return super().logit(*given) * 0


class OwnDice(Sound):
    def logit(self, *given: Any) -> Tensor:
        logit = super().logit(*given)
        return logit * random.random() if self.training else logit


class Halves(Sound):
    def logit(self, *given: Any) -> Tensor:
        logit = super().logit(*given)
        return logit.bfloat16() if torch.is_autocast_enabled("cpu") else logit


class LosesDigits(Sound):
    def logit(self, *given: Any) -> Tensor:
        logit = super().logit(*given)
        return (logit.bfloat16() + 1000 - 1000).float() if torch.is_autocast_enabled("cpu") else logit


class Waits(Sound):
    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        return super().logit(items, memory, batch) * (1 if items.sum().item() else 2)


class OwnRows(Sound):
    def __init__(self, encoding: Encoding, item: ItemEncoder, *more: Any) -> None:
        super().__init__(encoding, item, *more)
        self.bias = Table(encoding.catalogue.size, 1)

    def logit(self, items: Tensor, memory: Memory, batch: Batch) -> Tensor:
        return super().logit(items, memory, batch) + self.bias(batch.row)[batch.item].squeeze(-1)


class _AllKnown(nn.Module):
    def __init__(self, item: Any) -> None:
        super().__init__()
        self.inner, self.extend, self.last = item, item.extend, item.id.num_embeddings - 1

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        vector = self.inner(row, known)
        return torch.cat([self.inner.id(row.clamp(max=self.last)), vector[:, self.inner.parts[0] :]], 1)


class HeedsNoKnown(Sound):
    def __init__(self, encoding: Encoding, item: ItemEncoder, *more: Any) -> None:
        super().__init__(encoding, item, *more)
        self.item = _AllKnown(item)


class ExplainsAlways(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        say = torch.zeros(memory.segments.total, batch.item.shape[1])
        return Output(logit=self.logit(items, memory, batch), attention=say)


class ExplainsByRequest(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return Output(logit=self.logit(items, memory, batch), attention=torch.zeros(batch.item.shape) if explain else None)


class MembersOfRequests(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return Output(logit=self.logit(items, memory, batch), member=torch.zeros(batch.requests, 3) if explain else None)


class ExplainsOtherwise(Sound):
    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return Output(logit=self.logit(items, memory, batch) + explain)


class Retrieves(Sound):
    """One vector a person and one an item: it keeps the law of what offers them."""

    def interests(self, memory: Memory) -> Tensor:
        return memory.whole["interest"][:, None]

    def targets(self, items: Tensor) -> Tensor:
        return items


class RetrievesFlat(Retrieves):
    def interests(self, memory: Memory) -> Tensor:
        return memory.whole["interest"]


class RetrievesNothing(Retrieves):
    def interests(self, memory: Memory) -> Tensor:
        return super().interests(memory) / memory.segments.length[:, None, None]


class RetrievesMates(Retrieves):
    def interests(self, memory: Memory) -> Tensor:
        return super().interests(memory) - memory.whole["interest"].mean(0)


class RanksTargets(Retrieves):
    def targets(self, items: Tensor) -> Tensor:
        return items - items.mean(0)


class Plain(Sound):
    """It has no options of its own, so it takes none."""

    Config = Config

    def __init__(self, encoding: Encoding, item: ItemEncoder) -> None:
        super().__init__(encoding, item)


class Raises(Sound):
    def logit(self, *given: Any) -> Tensor:
        raise LookupError("there is\n  nothing")


MEAN = "a mean over nothing is 0 / 0; Segments.mean, softmax and pool give 0 there."
MATES = "a sum, a mean or another statistic over the batch, or a width that its longest past sets, sees batch mates."
AMONG = "a softmax, a mean or a rank over the candidates of a request."
HERE = str(Path(__file__))

# (law, model, what is said); # stands for a number.
WRONG: list[tuple[str, type[nn.Module], str]] = [
    ("contract", WithoutRead, "WithoutRead has no read(items, user, history)."),
    ("contract", ItemsOfThree, "item(row, known) gives float32 [#, 1, 4]; [M, D] was wanted, a vector for each of # rows."),
    ("contract", ReadsATensor, "read(items, user, history) gives float32 [4, 16]; a Memory was wanted."),
    (
        "contract",
        ShortMemory,
        "memory.whole['interest'] has 1 rows for 4 requests: memories of several people could not be joined.",
    ),
    ("contract", SaysATensor, "score(items, memory, batch) gives float32 [4, 5]; an Output was wanted."),
    ("contract", LogitsOfThree, "the logits are float32 [4, 5, 1]; float32 [4, 5] was wanted, one a candidate."),
    ("contract", Raises, f"LookupError: there is nothing ({HERE}, line #, in logit)."),
    ("contract", HalfAsWide, f"RuntimeError: mat1 and mat2 shapes cannot be multiplied (20x16 and 32x8) ({HERE}, line #, in logit)."),
    (
        "forward",
        OtherForward,
        "the logits change by # when forward is asked and not item, read and score: it does more than these.",
    ),
    (
        "forward",
        NoForward,
        "NoForward has no forward(batch, *, explain=False), which training calls: "
        "derive it from penchant.nn.model.Model, which has one, or write it as item, read, score.",
    ),
    ("empty pasts", OverNothing, f"in evaluation with pasts of 0 events the logits of request 0 are not finite: {MEAN}"),
    ("empty pasts", OverNothingHidden, f"in evaluation with pasts of 0 events the gradients of scale are not finite: {MEAN}"),
    (
        "empty pasts",
        LossOverNothing,
        f"in training with pasts of 0 events the loss 'last' is nan; a finite scalar was wanted: {MEAN}",
    ),
    (
        "reading the past",
        ReadsUnsaid,
        "the logits change when pasts are taken away, but reads_past is False: it would be lent nothing, and never a long past.",
    ),
    (
        "reading the past",
        ReadsNothing,
        "the logits are the same without any past, but reads_past is True; set it to False where no past is read.",
    ),
    (
        "same answer twice",
        Draws,
        "the logits change by # when it is asked again: something is drawn at random, or changes, outside of training.",
    ),
    ("alone as together", Centred, f"the logits of request 0 change by # when other requests share its batch: {MATES}"),
    (
        "alone as together",
        AttentionOfAll,
        f"the values of 'attention' of request 0 change by # when other requests share its batch: {MATES}",
    ),
    (
        "order of a batch",
        ByPlace,
        "the logits change by # when a batch's requests stand in another order: something goes by a request's place in the batch.",
    ),
    ("many candidates", Shares, f"the logits of candidate 0 change by # when it is asked about alone: {AMONG}"),
    (
        "chunks",
        Shares,
        "the logits change by # when candidates are cut into chunks of 1 bytes: one chunk sees another's candidates.",
    ),
    ("whole catalogue", NotOfRowNothing, "the logits of 1 of # items of the catalogue are not finite."),
    (
        "whole catalogue",
        Shares,
        "the logits change by # when only three items are asked about and not the whole catalogue: something sees the other candidates.",
    ),
    (
        "memory",
        KnowsCandidates,
        "the values of memory.whole['interest'] change by # when other candidates are asked about: "
        "read may use history's items and the user, not all items.",
    ),
    ("memory", KnowsMates, f"the values of memory.whole['interest'] change by # when other requests share its batch: {MATES}"),
    (
        "kept memories",
        KeepsForItself,
        "the logits change by # when the pasts were read earlier, one by one: score needs something that is not in Memory.",
    ),
    (
        "no history in score",
        ReadsHistory,
        "the logits change by # when batch.history is empty: what score needs of a past is for read to keep in Memory.",
    ),
    ("no history in score", LossesAlways, "in evaluation score has the losses small: make them where self.training."),
    (
        "a request's own",
        MasksByNought,
        f"the logits of request 0 are not finite when all that is not its own is NaN or another id: {MATES}",
    ),
    (
        "gradients",
        Unused,
        "no gradient above rounding noise reaches idle.weight: it is not used, is detached, or changes nothing; where that is meant, "
        "name it in the model's `without_gradient`, a mapping of names to the reason.",
    ),
    (
        "gradients",
        StaleNote,
        "head.rest.0.bias may go without a gradient, it was said, but there is no such parameter or it has one.",
    ),
    ("sparse tables", WholeTable, "the gradients of level are dense: its weight is used otherwise than by looking ids up."),
    (
        "by heart",
        Bounded,
        "after 400 steps the loss of 6 requests with 3 candidates each is #; less than 0.05 was wanted: "
        "the logits are bounded, the candidates look alike, or gradients do not reach what could tell them apart.",
    ),
    (
        "further losses",
        SumsLosses,
        "the values of the loss 'size' change by # when a batch holds each request twice: take a mean.",
    ),
    (
        "saving",
        Forgets,
        "the logits change by # when its state_dict is loaded into a new one: "
        "something that it learned is neither a parameter nor a persistent buffer.",
    ),
    ("saving", SaysNothing, "another seed gives the same logits: what it learns has no say in its answers."),
    (
        "same seed",
        OwnDice,
        "the logits change by # between two runs of the same seed: something is drawn by another generator than torch's own.",
    ),
    (
        "bfloat16",
        Halves,
        "under autocast the logits are bfloat16 [7, 5]; float32 was wanted: end with .float(), as losses need it.",
    ),
    (
        "bfloat16",
        LosesDigits,
        "the logits change by # under autocast to bfloat16: a sum of many terms, an exponential or a small difference should stay float32.",
    ),
    (
        "no waiting",
        Waits,
        "the host waits for the device in test_check_model.py:# logit (_local_scalar_dense): "
        ".item(), int() or if of a tensor, nonzero, unique, or a boolean mask as index.",
    ),
    ("new items", OwnRows, f"IndexError: index out of range in self ({HERE}, line #, in logit)."),
    (
        "new items",
        HeedsNoKnown,
        "the logits change by # when it is a new item and not an old one of the same attributes whose id is not known: "
        "`known` is to be heeded.",
    ),
    (
        "explanation",
        ExplainsAlways,
        "Output has attention though nobody asked: make it where `explain`, for it costs memory in training.",
    ),
    (
        "explanation",
        ExplainsByRequest,
        "attention is float32 [7, 5]; float32 [24, 5] was wanted, a say for each event and candidate.",
    ),
    ("explanation", MembersOfRequests, "member is float32 [7, 3]; [24, K] was wanted."),
    ("explanation", ExplainsOtherwise, "the logits change by 1 when an explanation is asked for."),
    (
        "retrieval",
        RetrievesFlat,
        "interests are float32 [7, 16] and targets float32 [#, 16]; [7, K, D] and [#, D] were wanted.",
    ),
    ("retrieval", RetrievesNothing, "interests or targets are not finite, as empty pasts and unknown ids make them."),
    ("retrieval", RetrievesMates, "the interests change by # when a person is asked about alone."),
    ("retrieval", RanksTargets, "the targets change by # when fewer items are asked about."),
]


def built(kind: type[nn.Module]) -> Callable[[Encoding], nn.Module]:
    return lambda encoding: kind(encoding, item_encoder(encoding, ItemConfig(dim=4)))


@pytest.mark.parametrize(("law", "kind", "message"), WRONG, ids=[f"{law}-{kind.__name__}" for law, kind, _ in WRONG])
def test_a_wrong_model_breaks_its_law(law: str, kind: type[nn.Module], message: str, loader: Loader) -> None:
    result = ask(law, Subject(build=built(kind), loader=loader))
    assert (result.outcome, result.law) == ("failed", law), result.words
    assert re.fullmatch(re.escape(message).replace(r"\#", r"[\d.e+-]+"), result.words), result.words


def test_every_law_has_a_model_that_breaks_it() -> None:
    assert {law for law, _, _ in WRONG} == LAWS.keys()


QUICK = [law for law in LAWS if law not in ("empty pasts", "by heart")]


def failed(checked: Checked) -> list[str]:
    return [result.law for result in checked.results if result.outcome == "failed"]


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (Sound, []),
        (NoForward, ["forward"]),
        (MasksByNought, ["a request's own"]),
        (Waits, ["no waiting"]),
        (ByPlace, ["alone as together", "order of a batch"]),
    ],
)
def test_only_what_is_wrong_is_said_to_be(kind: type[nn.Module], broken: list[str]) -> None:
    checked = check_model(kind, laws=QUICK)
    assert (failed(checked), checked.holds) == (broken, not broken), checked


# ------------------------------------------------------------------------------------------------------------ what is asked


def test_after_a_broken_contract_nothing_else_is_asked() -> None:
    checked = check_model(WithoutRead)
    assert failed(checked) == ["contract"]
    assert [result.law for result in checked.results] == list(LAWS)
    assert {result.words for result in checked.results[1:]} == {"'contract' is broken, and must hold first."}
    assert {result.outcome for result in checked.results[1:]} == {"not applicable"}


def test_a_fault_in_one_step_leaves_the_other_laws() -> None:
    class NoNewItems(Sound):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.item.extend = None

    checked = check_model(NoNewItems, laws=["same answer twice", "new items", "explanation"])
    assert [result.outcome for result in checked.results] == ["ok", "failed", "ok"]
    assert checked.results[1].words == "TypeError: 'NoneType' object is not callable."


def test_what_says_nothing_of_a_model(loader: Loader) -> None:
    words = {
        law: ask(law, Subject(build=built(MODELS["popularity"]), loader=loader))
        for law in ("gradients", "further losses", "alone as together")
    }
    assert [(one.outcome, one.words) for one in words.values()] == [
        ("not applicable", "it has no parameters."),
        ("not applicable", "it has no parameters."),
        ("ok", ""),
    ]
    sound = Subject(build=built(NoForward), loader=loader)
    chunks, further = ask("chunks", sound), ask("further losses", sound)
    assert chunks.words == "it has no pair_bytes and candidate_bytes, by which chunks are cut; penchant.nn.model.Model has them."
    assert (chunks.outcome, further.outcome, further.words) == ("not applicable", "not applicable", "it has no further losses.")


def test_a_model_names_what_goes_without_a_gradient(loader: Loader) -> None:
    assert ask("gradients", Subject(build=built(UnusedOnPurpose), loader=loader)).words == ""


def test_attention_may_be_demanded(loader: Loader) -> None:
    subject = Subject(build=built(Sound), loader=loader)
    assert ask("explanation", subject).outcome == "ok"
    assert ask("explanation", replace(subject, explains=True)).words == "Output has no attention when an explanation is asked for."


def test_a_function_is_checked_and_the_random_state_left_alone() -> None:
    before, asked = torch.get_rng_state(), []
    checked = check_model(built(Unused), laws=["gradients"], without_gradient={"idle.weight": "a test"}, report=asked.append)
    assert checked.holds
    assert asked == ["gradients"]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_configuration_reaches_the_model() -> None:
    class Told(Sound):
        def __init__(self, encoding: Encoding, item: ItemEncoder, config: SoundConfig) -> None:
            super().__init__(encoding, item, config)
            assert (config.hidden, item.parts[0]) == (3, 6)

    assert check_model(Told, {"hidden": 3}, item=ItemConfig(dim=6), laws=["contract"]).holds
    assert check_model(Plain, laws=["contract"]).holds
    assert check_model(Told, {"hidden": 3}, laws=["contract"]).results[0].words.startswith("AssertionError: ")


@pytest.mark.parametrize("law", LAWS)
def test_a_law_says_what_it_is_for(law: str) -> None:
    said = LAWS[law].__doc__ or ""
    assert said.endswith(".")
    assert f"| `{law}` |" in PAGE


# ------------------------------------------------------------------------------------------------------- the command line


BROKEN = """
from my_models import Mine, MineConfig

class Loud(Mine):
    def score(self, items, memory, batch, *, explain=False):
        print("scoring")
        return super().score(items, memory, batch, explain=explain)

class Raises(Mine):
    def score(self, items, memory, batch, *, explain=False):
        if explain:
            raise NotImplementedError("no reasons yet")
        return super().score(items, memory, batch)

class Unbuilt(Mine):
    def __init__(self, encoding, item, config):
        super().__init__(encoding, item, colour="red")

class Bare(Mine):
    Config = None

class Odd(Mine):
    Config = dict

def function():
    pass

class Nothing:
    pass
"""


@pytest.fixture
def asked(run: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`penchant check`, in a folder with somebody's modules, the page's own among them."""
    (page,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "my_models.py").write_text(page)
    (tmp_path / "my_broken.py").write_text(BROKEN)
    (tmp_path / "my_typo.py").write_text("x = undefined\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my_models", "my_broken", "my_typo"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return partial(run, "check")


def test_the_model_of_the_page_passes(asked: Callable[..., Said]) -> None:
    said = asked("my_models:Mine", "--model.hidden", "8", "--item.dim", "4")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[:2] == ["ok              contract", "ok              forward"]
    assert lines[-12:-9] == ["not applicable  further losses", "                  it has no further losses.", "ok              saving"]
    assert re.fullmatch(r"my_models:Mine: 23 laws hold, 0 broken, 2 not applicable; \d+\.\d s\.", lines[-1])


def test_broken_laws_are_said_and_the_status_is_2(asked: Callable[..., Said], tmp_path: Path) -> None:
    said = asked("my_broken:Raises", "--item.dim", "4")
    assert (said.status, said.err) == (2, "")
    lines = said.out.splitlines()
    at = lines.index("FAILED          explanation")
    assert lines[at + 1 : at + 3] == [
        f"                  NotImplementedError: no reasons yet ({tmp_path / 'my_broken.py'}, line 12, in score).",
        "                  The law: Attention is made only when asked for, changes no answer, and has the shape that reports read: "
        "an event's say on each candidate.",
    ]
    assert [line for line in lines if line.startswith("FAILED")] == [
        "FAILED          alone as together",
        "FAILED          many candidates",
        "FAILED          explanation",
    ]
    assert re.fullmatch(r"my_broken:Raises: 20 laws hold, 3 broken, 2 not applicable; \d+\.\d s\.", lines[-1])


def test_json_is_one_object_whatever_a_model_prints(asked: Callable[..., Said]) -> None:
    said = asked("my_broken:Loud", "--item.dim", "4", "--json")
    assert said.status == 0
    assert said.out.count("\n") == 1
    assert set(said.err.splitlines()) == {"scoring"}
    found = json.loads(said.out)
    assert (found["model"], found["holds"]) == ("my_broken:Loud", True)
    assert [result["law"] for result in found["results"]] == list(LAWS)
    assert found["results"][0].keys() == {"law", "says", "outcome", "words", "seconds"}


def test_what_cannot_be_built_is_one_broken_law(asked: Callable[..., Said], tmp_path: Path) -> None:
    said = asked("my_broken:Unbuilt", "--json")
    assert said.status == 2
    first, *rest = json.loads(said.out)["results"]
    where = f"({tmp_path / 'my_broken.py'}, line 17, in __init__)"
    assert first["words"] == f"TypeError: Mine.__init__() got an unexpected keyword argument 'colour' {where}."
    assert {result["outcome"] for result in rest} == {"not applicable"}


def test_a_file_and_flags_over_it(asked: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "check.toml").write_text("[model]\nhidden = 'many'\n[item]\ndim = 4\n")
    assert asked("my_models:Mine", "check.toml", "--model.hidden", "8").status == 0
    said = asked("my_models:Mine", "check.toml")
    assert said.err == "penchant: my_models:Mine: model.hidden is 'many'; input should be a valid integer.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dim"], f"'dim' is not a model: there are {', '.join(MODELS)}. Did you mean 'din'?"),
        (["din", "--model.hed", "3"], "din: model.hed is not a key of DINConfig. Did you mean 'head'?"),
        (["din", "--train.epochs", "3"], "flags: train is not a key of CheckConfig. It has model, item, auxiliary, long."),
        (["din", "--auxiliary.delta", "0.5"], "din is wrapped in nothing, so auxiliary.delta cannot be set."),
        (
            ["din+icn"],
            f"'icn' is not a name of what stands around a model: there are iacn, wider, {', '.join(LONG)}. Did you mean 'iacn'?",
        ),
        (["mine:Dim"], "the model is 'mine:Dim', but there is no module 'mine' on Python's path; PYTHONPATH can name its folder."),
        (["my_models:Mein"], "the model is 'my_models:Mein', but 'my_models' has no class 'Mein'. Did you mean 'Mine'?"),
        (["my_models:"], "the model is 'my_models:'; 'module:class' was wanted, such as 'my_models:Mine'."),
        (["my_models.py:Mine"], "the model is 'my_models.py:Mine'; 'module:class' was wanted, such as 'my_models:Mine'."),
        (["my_typo:Mine"], "the model is 'my_typo:Mine', but 'my_typo' cannot be imported: NameError: name 'undefined' is not defined."),
        (
            ["my_broken:function"],
            "the model is 'my_broken:function', which is a function; a class derived from torch.nn.Module was wanted.",
        ),
        (
            ["my_broken:Nothing"],
            "the model is 'my_broken:Nothing', which is the class Nothing; a class derived from torch.nn.Module was wanted.",
        ),
        (["my_broken:Bare", "--model.x", "1", "--model.y", "2"], "my_broken:Bare has no Config, so model.x, model.y cannot be set."),
        (["my_broken:Odd"], "my_broken:Odd.Config is <class 'dict'>; a class of penchant.config.Config was wanted."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_asked(asked: Callable[..., Said], words: list[str], message: str) -> None:
    said = asked(*words)
    assert (said.status, said.out, said.err) == (2, "", f"penchant: {message}\n")


def test_what_python_cannot_ask() -> None:
    with pytest.raises(UnknownNameError) as fault:
        check_model("din", laws=["alone"])
    assert str(fault.value) == f"'alone' is not a law: there are {', '.join(LAWS)}."
    with pytest.raises(ConfigError) as refused:
        check_model(built(Sound), {"hidden": 3})
    assert str(refused.value) == "a function that builds a model was given, so there is nothing that a configuration could be given to."
