"""Pasts that are another one for each candidate: searches, and vectors that a candidate takes of a past.

    events ── vectors, keys ─▶ Memory ─┬─ Searched: the events that a candidate asks for ──┐
                                       └─ Pooled:   one vector of them all ────────────────┴─ read, score of the model within

`models/long.py` has the papers, and where they, their code and this library differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field as Limits
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, Segments, Shown, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.models.around import Make
from penchant.models.long import ONCE, Long, LongConfig, joined, parted
from penchant.nn.hashing import Buckets, Planes
from penchant.nn.item import ItemEncoder, Labelled
from penchant.nn.linear import recalled, remembered
from penchant.nn.loss import labels, mean
from penchant.nn.mlp import MLP

FACTS = ("time", "action", "number")  # of an event, beside its item


class Alone(Long):
    """A past that is another one for each candidate: the model within reads as many short pasts as there are candidates.

    What is kept of a past are the vectors of its events, and what else a candidate asks of them.
    """

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: LongConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        reasons = {
            "compares the candidates of a request, and here each has a past of its own": self.model.wants.candidates,
            "reads sessions, and all that a candidate finds is one": self.model.by_session,
        }
        if why := [reason for reason, holds in reasons.items() if holds]:
            raise ConfigError(f"long: {type(self.model).__name__} {why[0]}; one of {', '.join(ONCE)} can be put around it.")

    @property
    def most(self) -> int:
        """Events that a candidate sees."""
        raise TypeError(f"{type(self).__name__} has no most")

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        each = {"vector": items.index_select(0, history.item)} | {name: getattr(history, name) for name in FACTS}
        return Memory(segments=history.events, each=each, whole={"code": user.code, "profile": user.number})

    def past(self, items: Tensor, memory: Memory, index: Tensor, events: Segments, of: History | None) -> tuple[Tensor, History]:
        """Items with the events at these places of a memory after them, int64 [P] of R * C owners, and these events as pasts.

        of: the events of the memory, in training, for losses that ask what else is known of them.
        """
        vector = torch.cat([items, memory.each["vector"].index_select(0, index)])
        place = len(items) + torch.arange(len(index), device=items.device)
        short = History(item=place, events=events, **{name: memory.each[name].index_select(0, index) for name in FACTS})
        if of is None:
            return vector, short
        other, chosen = (None if one is None else one.index_select(0, index) for one in (of.other, of.chosen))
        return vector, replace(short, other=other, chosen=chosen)

    def each(self, items: Tensor, short: History, memory: Memory, batch: Batch, *, explain: bool) -> Output:
        """What the model within says of each candidate with a past of its own."""
        shape = batch.item.shape
        row = torch.arange(shape[0], device=items.device).repeat_interleave(shape[1])
        user = User(code=memory.whole["code"].index_select(0, row), number=memory.whole["profile"].index_select(0, row))
        output = self.model.score(items, self.model.read(items, user, short), one_by_one(batch, short, user, row), explain=explain)
        interest = None if output.interest is None else output.interest.view(*shape, -1)
        return replace(output, logit=output.logit.view(shape), interest=interest, member=None, session=None)

    @property
    def pair_bytes(self) -> int:
        return 32

    @property
    def candidate_bytes(self) -> int:
        return self.model.candidate_bytes + self.most * (self.model.pair_bytes + 12 * self.dim)


def one_by_one(batch: Batch, history: History, user: User, row: Tensor) -> Batch:
    """Each candidate of R requests as a request of its own; row: int64 [R * C], whose each is."""

    def single(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.reshape(-1, 1)

    def again(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.index_select(0, row)

    shown = batch.shown
    return replace(
        batch,
        user=user,
        context=batch.context.index_select(0, row),
        number=batch.number.index_select(0, row),
        time=batch.time.index_select(0, row),
        item=batch.item.reshape(-1, 1),
        shown=Shown(code=shown.code.flatten(0, 1)[:, None], number=shown.number.flatten(0, 1)[:, None]),
        history=history,
        negative=again(batch.negative),
        negative_log_q=again(batch.negative_log_q),
        label=single(batch.label),
        log_q=single(batch.log_q),
        weight=single(batch.weight),
    )


class SearchConfig(LongConfig):
    """How many events a candidate takes."""

    nearest: int = Limits(50, ge=1)  # of the older


class Searched(Alone):
    """A past of which each candidate takes the events that it asks for, and the latest."""

    Config: ClassVar[type[Config]] = SearchConfig

    def keys(self, past: Tensor) -> Mapping[str, Tensor]:
        """What the events [E, *], each as its item is encoded, are searched by."""
        raise TypeError(f"{type(self).__name__} has no keys(past)")

    def find(self, item: Tensor, memory: Memory) -> tuple[Tensor, Segments]:
        """Candidates [R, C, *], as they are encoded -> events int64 [P] of R * C owners, in their order."""
        raise TypeError(f"{type(self).__name__} has no find(item, memory)")

    def within(self, items: Tensor) -> Tensor:
        """Items [M, *] as the model within reads them."""
        return items

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        memory = super().read(self.within(items), user, history)
        return replace(memory, each={**memory.each, **self.keys(items.index_select(0, history.item))})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        index, pasts = self.find(items[batch.item], memory)
        whole, short = self.past(self.within(items), memory, index, pasts, batch.history if self.training else None)
        output = self.each(whole, short, memory, batch, explain=explain)
        if not explain:
            return output
        events, candidates = memory.segments.total, batch.item.shape[1]
        place = index * candidates + pasts.row % candidates

        def laid(said: Tensor | None) -> Tensor | None:
            if said is None:
                return None
            every = said.new_zeros(events * candidates, *said.shape[2:]).index_copy(0, place, said[:, 0])
            return every.view(events, candidates, *said.shape[2:])

        return replace(output, attention=laid(output.attention), head=laid(output.head))

    def always(self, events: Segments) -> Tensor:
        """bool [E, 1], which events every candidate sees."""
        seen: Tensor = events.spread(events.length) - events.position <= self.config.recent
        return seen[:, None]

    @property
    def most(self) -> int:
        return int(self.config.nearest) + int(self.config.recent)


class HardConfig(SearchConfig):
    """Which category is searched by."""

    category: str | None = None  # a single-valued attribute of items; None: the first of the schema


class SIMHard(Searched):
    """The latest events of the candidate's category, filled up with the latest of others. An unknown category is like no other."""

    Config = HardConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: HardConfig, make: Make) -> None:
        names = encoding.schema.named("item", "category")
        if not names or config.category not in (None, *names):
            wanted = f"one of {', '.join(names)} was wanted" if names else "the schema has no single-valued attribute of items"
            raise ConfigError(f"long.category is {config.category!r}; {wanted}.")
        super().__init__(encoding, item, config, make)
        column = names.index(config.category) if config.category else 0
        self.labelled = Labelled(self.model.item, encoding.catalogue, column)

    @property
    def item(self) -> ItemEncoder:  # type: ignore[override]
        return self.labelled

    def within(self, items: Tensor) -> Tensor:
        return items[:, :-1]

    def keys(self, past: Tensor) -> Mapping[str, Tensor]:
        return {"category": past[:, -1]}

    def find(self, item: Tensor, memory: Memory) -> tuple[Tensor, Segments]:
        events, mine = memory.segments, memory.each["category"][:, None]
        alike = ((events.spread(item[..., -1]) == mine) & (mine > 0)).float()  # [E, C]
        return events.top(alike.masked_fill(self.always(events), 2.0), self.most, within=2)


class SoftConfig(SearchConfig):
    """What the search learns."""

    width: int = Limits(16, ge=1)  # of the vectors that are compared
    weight: float = Limits(1.0, gt=0)  # of its own loss: alpha, beside 1 of the model's
    head: tuple[int, ...] = Limits((200, 80), min_length=1)


class SIMSoft(Searched):
    """The events of the greatest product with the candidate; the products learn by a loss of their own, over the whole past.

    logit of the search = MLP(sum over events of r_i e_i, e_a), r_i = (W_b e_i) (W_a e_a), not normalised (section 3.2.1, eq. 2-3)
    """

    Config = SoftConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: SoftConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        self.of_item, self.of_event = (nn.Linear(self.dim, config.width, bias=False) for _ in range(2))
        self.head = MLP(2 * self.dim, config.head, 1, "prelu")

    def keys(self, past: Tensor) -> Mapping[str, Tensor]:
        return {"key": self.of_event(past[:, : self.dim])}

    def find(self, item: Tensor, memory: Memory) -> tuple[Tensor, Segments]:
        with torch.no_grad():
            events = memory.segments
            score = self.relevance(item, memory).float()
            return events.top(score.masked_fill(self.always(events), torch.inf), self.most)

    def relevance(self, item: Tensor, memory: Memory) -> Tensor:
        """r [E, C]."""
        key = memory.each["key"]
        return memory.segments.dot(key, self.of_item(item[..., : self.dim]).to(key.dtype))

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        output = super().score(items, memory, batch, explain=explain)
        if not self.training:
            return output
        item = items[batch.item]
        vector = memory.each["vector"][:, : self.dim]
        pooled = memory.segments.pool(vector, self.relevance(item, memory))
        logit = self.head(torch.cat([pooled, item[..., : self.dim].to(pooled.dtype)], -1)).squeeze(-1).float()
        each = F.binary_cross_entropy_with_logits(logit, labels(batch), reduction="none")
        return replace(output, losses={**output.losses, "search": self.config.weight * mean(each, batch.weight)})

    @property
    def aside(self) -> tuple[str, ...]:
        return ("head.", *super().aside)


class ETAConfig(SearchConfig):
    """How long a hash is."""

    bits: int | None = Limits(None, ge=1)  # m; None: twice the width of an item


class ETA(Searched):
    """The events whose sign hashes are nearest to the candidate's."""

    Config = ETAConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: ETAConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        self.planes = Planes(self.dim, config.bits or 2 * self.dim)

    def keys(self, past: Tensor) -> Mapping[str, Tensor]:
        return {"hash": self.planes(past[:, : self.dim])}

    def find(self, item: Tensor, memory: Memory) -> tuple[Tensor, Segments]:
        events, bits = memory.segments, self.planes.plane.shape[1]
        alike = events.dot(memory.each["hash"].float(), self.planes(item[..., : self.dim]).float())  # bits less twice the distance
        return events.top(alike.masked_fill_(self.always(events), bits + 1.0), self.most, within=bits + 1)


# ----------------------------------------------------------------------------------------------------------------- pooled


class Pooled(Alone):
    """A past of which each candidate takes one vector in the place of the older events: what is kept does not grow with the past.

    A place for that vector stands before the latest events, of whoever has older ones. What is said of it is not said of events.
    """

    def pooled(self, vector: Tensor, events: Segments) -> Tensor:
        """The older events [N, D] of R people -> what is kept of them [R, *]."""
        raise TypeError(f"{type(self).__name__} has no pooled(vector, events)")

    def taken(self, item: Tensor, kept: Tensor) -> Tensor:
        """Candidates [R, C, D] -> what they take of it [R, C, D]."""
        raise TypeError(f"{type(self).__name__} has no taken(item, kept)")

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        old, short = self.short(history, len(items))
        vector = items.index_select(0, old.item)
        nothing = items.new_zeros(1, items.shape[1])
        memory = super().read(torch.cat([items, nothing]), user, short)
        return replace(memory, whole={**memory.whole, "pooled": self.pooled(vector[:, : self.dim], old.events)})

    def short(self, history: History, item: int) -> tuple[History, History]:
        """The older events; and the latest with a place before them, of this item, where there are older ones."""
        old, young = parted(history, self.config.recent)
        owned = Segments.of((old.events.sizes > 0).long())
        place = old.keep((old.events.to("cpu").start[1:] - 1)[owned.row], owned.to(old.item.device))
        missing = torch.zeros_like(place.number)
        missing[:, 1::2] = 1
        place = replace(place, item=torch.full_like(place.item, item), action=torch.zeros_like(place.action), number=missing)
        return old, joined(place, young)[0]

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        item, candidates, host = items[batch.item], batch.item.shape[1], memory.segments.to("cpu")
        vector = self.taken(item[..., : self.dim], memory.whole["pooled"]).flatten(0, 1)  # [R * C, D]
        pasts = host.each(candidates)
        index = host.start[:-1].repeat_interleave(candidates)[pasts.row] + pasts.position
        has = Segments.of((host.sizes > self.config.recent).long().repeat_interleave(candidates)).row  # whose first is of the older
        index, mine, first = (place.to(items.device, non_blocking=True) for place in (index, has, pasts.start[:-1][has]))
        of = self.short(batch.history, 0)[1] if self.training else None
        whole, short = self.past(items, memory, index, pasts.to(items.device), of)
        filled = F.pad(vector.index_select(0, mine), (0, items.shape[1] - self.dim)).to(whole.dtype)
        output = self.each(whole.index_copy(0, len(items) + first, filled), short, memory, batch, explain=explain)
        return replace(output, attention=None, head=None)

    @property
    def most(self) -> int:
        return 1 + int(self.config.recent)


class BucketsConfig(LongConfig):
    """How vectors are hashed."""

    bits: int = Limits(48, ge=1)  # m
    width: int = Limits(3, ge=1)  # tau, bits of a signature

    @model_validator(mode="after")
    def _consistent(self) -> BucketsConfig:
        if self.bits % self.width:
            raise ValueError(f"long.bits is {self.bits}; a multiple of long.width, {self.width}, was wanted")
        return self


class SDIM(Pooled):
    """What of the past falls into the candidate's buckets (nn/hashing.py)."""

    Config = BucketsConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: BucketsConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        self.buckets = Buckets(self.dim, config.bits, config.width)

    def pooled(self, vector: Tensor, events: Segments) -> Tensor:
        return self.buckets.read(vector, events)

    def taken(self, item: Tensor, kept: Tensor) -> Tensor:
        taken: Tensor = self.buckets(item, kept)
        return taken


class LinearConfig(LongConfig):
    """How wide queries and keys are."""

    width: int = Limits(32, ge=1)


class Linear(Pooled):
    """Linear attention of the candidate with the past (nn/linear.py)."""

    Config = LinearConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: LinearConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        self.query, self.key = (nn.Linear(self.dim, config.width, bias=False) for _ in range(2))

    def pooled(self, vector: Tensor, events: Segments) -> Tensor:
        return remembered(self.key(vector).float(), vector.float(), events)

    def taken(self, item: Tensor, kept: Tensor) -> Tensor:
        return recalled(self.query(item).float(), kept)


SEARCHES: dict[str, type[Long]] = {"sim-hard": SIMHard, "sim-soft": SIMSoft, "eta": ETA, "sdim": SDIM, "linear": Linear}
