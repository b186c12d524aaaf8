"""Long pasts, of thousands of events, made short for any model: once for all candidates, or for each candidate on its own.

    past ─┬─ Once ────── the events that are kept, or vectors that stand for several ─────────── read ─▶ Memory ── score
          │                                                                                       of the model within
          └─ Searched ── vectors, hashes ─▶ Memory ─┬─ those that the candidate asks for ─── read ── score
                                          candidate ┘                                         of the model within

A vector that stands for several events is a further item, and its event one of a past like any other, so that the model within reads it
as it reads all events, and nothing in it knows that its past was long. The latest events (`recent`) always stay as they are.

    once       recent      the latest
               sample      some of the older, drawn by their place: what was drawn stays while the past grows
               sparse      each `stride`-th of the older (Child et al., 2019, the strided pattern)
               chunks      the mean of each chunk of the older, or of each session
               low-rank    `rank` mixtures of the older, by attention of learned queries (Lee et al., ICML 2019, eq. 11, one head)
    searched   sim-hard    the latest of the candidate's category   (SIM: Qi et al., CIKM 2020)
               sim-soft    the greatest (W_b e) (W_a a)             (the same, section 3.2.1, with its loss)
               eta         the nearest sign hashes                  (ETA: Chen et al., arXiv 2108.04468)
               sdim        what falls into the candidate's buckets  (SDIM: Cao et al., CIKM 2022; nn/hashing.py)
               linear      linear attention of the candidate        (LinRec: Liu et al., SIGIR 2023; nn/linear.py)

                    papers, their code                  here
    short past      a model of its own beside (SIM,     `recent` events are among those that the one model reads
                    ETA, SDIM)
    what is found   read by multi-head attention        read by the model within
    time            gaps as embeddings (SIM, ETA)       no more than the model within knows of an event
    sim-hard        the category's events alone         filled up with the latest of other categories, so that how many there are is
                                                        known without waiting for a device
    sim-soft        masked places have a score of 0,    no place is masked
                    above what is negative (code)
    eta             "largest distance" (a source); the  the least distance; of equals the later event
                    code's smallest
    sdim            1 hash of 4 bits, no norm (code)    48 bits in signatures of 3, each bucket of length 1, as the paper
                    its vector enters the head          it is an event of the model within: the softmax of one event is 1, so that of
                                                        `din` with `normalize = "softmax"` and `recent = 0` it enters the head as well
    linear          of a sequence with itself           of the candidate with its past; K'^T V is kept once a past

Searching costs a look at every event, or none (sdim, linear); reading, `recent` and what was found, once a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Limits
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, Segments, Shown, User
from penchant.config import Config
from penchant.encoding import GOLDEN, Encoding, mix
from penchant.errors import ConfigError
from penchant.models.around import Around, Make
from penchant.nn.hashing import Buckets, Planes
from penchant.nn.item import ItemEncoder, Labelled
from penchant.nn.linear import recalled, remembered
from penchant.nn.loss import labels, mean
from penchant.nn.mlp import MLP

FACTS = ("time", "action", "number")  # of an event, beside its item


class LongConfig(Config):
    """What of a long past stays as it is."""

    recent: int = Limits(10, ge=0)  # the latest events, whatever is done with the older


class Long(Around):
    """A model whose past is made short."""

    Config: ClassVar[type[Config]] = LongConfig
    table = "long"

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: LongConfig, make: Make) -> None:
        super().__init__(encoding, item, make)
        self.config: Any = config
        self.dim = item.dim  # the first columns of `items` are of the encoder that the model was given

    @staticmethod
    def further(items: Tensor, vector: Tensor) -> Tensor:
        """Items [M, D] with further ones after them [n, dim], 0 in the columns that the model put there itself."""
        return torch.cat([items, F.pad(vector.to(items.dtype), (0, items.shape[1] - vector.shape[1]))])


# ------------------------------------------------------------------------------------------------------------------- once


class Once(Long):
    """A past that is shortened whatever the candidates: what is kept of it is what the model within keeps of the short one."""

    def shorten(self, items: Tensor, history: History) -> tuple[Tensor, History, Tensor | None]:
        """Items with those that stand for several events; the short past; and of each of its events where in the long one the events
        begin that it is of, and how many: int64 [n, 2], None where that cannot be said."""
        raise TypeError(f"{type(self).__name__} has no shorten(items, history)")

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        items, short, of = self.shorten(items, history)
        memory = self.model.read(items, user, short)
        if of is None:
            return memory
        each, event = dict(memory.each), dict(memory.event)
        (each if memory.events is None else event)["long.of"] = of.to(items.device, non_blocking=True)
        return replace(memory, each=each, event=event, whole={**memory.whole, "long.length": history.events.length})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        if self.training:  # losses of the model within are about the past that it reads
            items, short, _ = self.shorten(items, batch.history)
            batch = replace(batch, history=short)
        output = self.model.score(items, memory, batch, explain=explain)
        return _of_long(output, memory) if explain else output


def _of_long(output: Output, memory: Memory) -> Output:
    """What is said of the events of a short past, of those of the long one: shared by those that one event stands for."""
    each = memory.each if memory.events is None else memory.event
    if "long.of" not in each:
        return replace(output, attention=None, head=None, member=None, session=None)
    row = memory.segments.row if memory.events is None else memory.segments.row.index_select(0, memory.events.row)
    begin, count = each["long.of"].unbind(1)
    past, of = (Segments.of(size.cpu(), size.device) for size in (memory.whole["long.length"], count))
    place = of.spread(past.start.index_select(0, row) + begin) + of.position
    shared = 1.0 / of.spread(count)

    def laid(said: Tensor | None, share: Tensor | None = None) -> Tensor | None:
        if said is None:
            return None
        said = of.spread(said)
        said = said if share is None else said * share.view(-1, *[1] * (said.dim() - 1))
        return said.new_zeros(past.total, *said.shape[1:]).index_copy(0, place, said)

    say, head, member = laid(output.attention, shared), laid(output.head, shared), laid(output.member)
    return replace(output, attention=say, head=head, member=member, session=None)


class RecentConfig(Config):
    """The latest events alone."""

    most: int = Limits(100, ge=1)


class Recent(Once):
    """The latest events."""

    Config: ClassVar[type[Config]] = RecentConfig

    def shorten(self, items: Tensor, history: History) -> tuple[Tensor, History, Tensor | None]:
        index, kept = self.places(history.events)
        return items, history.keep(index, kept), _within(history.events, index, kept)

    def places(self, events: Segments) -> tuple[Tensor, Segments]:
        """Which events are kept: int64 [n] in host memory, and their segments."""
        return events.newest(self.config.most)


class SampleConfig(LongConfig):
    """How many events stay."""

    most: int = Limits(100, ge=1)  # of the older


class Sample(Recent):
    """Some of the older events, those whose places drew the greatest numbers: a further event changes one of them at most."""

    Config = SampleConfig

    def places(self, events: Segments) -> tuple[Tensor, Segments]:
        index, older = events.to("cpu").older(self.config.recent)
        best, kept = older.top(_lot(older.position)[:, None], self.config.most)
        return _with_newest(events, index[best], kept, self.config.recent)


class SparseConfig(LongConfig):
    """Which events stay."""

    stride: int = Limits(10, ge=1)
    most: int = Limits(100, ge=1)  # of the older


class Sparse(Recent):
    """Of the older events each `stride`-th, by its place from the first on, so that what was kept stays; the latest of these."""

    Config = SparseConfig

    def places(self, events: Segments) -> tuple[Tensor, Segments]:
        stride, host = self.config.stride, events.to("cpu")
        size = ((host.sizes - self.config.recent).clamp(min=0) + stride - 1) // stride
        kept = Segments.of(size.clamp(max=self.config.most))
        index = host.start[:-1][kept.row] + ((size - kept.sizes)[kept.row] + kept.position) * stride
        return _with_newest(events, index, kept, self.config.recent)


class ChunksConfig(LongConfig):
    """What a chunk is."""

    by: Literal["count", "session"] = "count"
    size: int = Limits(20, ge=1)  # events of a chunk, where it is by count


class Chunks(Once):
    """The older events chunk by chunk, each the mean of its items at the time of its last event, and of its action."""

    Config = ChunksConfig

    def shorten(self, items: Tensor, history: History) -> tuple[Tensor, History, Tensor | None]:
        old, young = _parted(history, self.config.recent)
        of, owned = self.chunks(old)
        begin = of.to("cpu").start
        summary = replace(
            old.keep(begin[1:] - 1, owned),
            item=len(items) + torch.arange(of.owners, device=items.device),
            number=of.mean(old.number),
            fresh=torch.ones(of.owners, dtype=torch.bool),
        )
        short, order = _joined(summary, young)
        newest, late = history.events.newest(self.config.recent)
        place = begin[:-1] - old.events.to("cpu").start[:-1][owned.to("cpu").row]
        spans = torch.cat([torch.stack([place, of.sizes], 1), _within(history.events, newest, late)])
        return self.further(items, of.mean(items.index_select(0, old.item).float())), short, spans[order]

    def chunks(self, old: History) -> tuple[Segments, Segments]:
        """The events of chunks, and the chunks of people."""
        if self.config.by == "session":
            return old.sessions.events, old.sessions.requests
        size, length, device = self.config.size, old.events.sizes, old.item.device
        owned = Segments.of((length + size - 1) // size)
        return Segments.of((length[owned.row] - owned.position * size).clamp(max=size), device), owned.to(device)


class LowRankConfig(LongConfig):
    """How many vectors stand for the older events."""

    rank: int = Limits(16, ge=1)


class LowRank(Once):
    """The older events as `rank` mixtures of them: softmax over the events of their products with learned queries.

    Each stands at the time of the last of them. What is said of a mixture is not said of events, so that there is no `attention`.
    """

    Config = LowRankConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: LowRankConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        self.query = nn.Parameter(torch.randn(config.rank, self.dim) / self.dim**0.5)

    def shorten(self, items: Tensor, history: History) -> tuple[Tensor, History, Tensor | None]:
        rank, (old, young) = len(self.query), _parted(history, self.config.recent)
        early = old.events
        vector = items.index_select(0, old.item).float()
        mixed = early.pool(vector, early.softmax(vector[:, : self.dim] @ self.query.t()))  # [R, rank, *]
        owned = Segments.of((early.sizes > 0) * rank)
        mine = (owned.row * rank + owned.position).to(items.device, non_blocking=True)
        summary = replace(
            old.keep((early.to("cpu").start[1:] - 1)[owned.row], owned.to(items.device)),
            item=len(items) + torch.arange(owned.total, device=items.device),
            fresh=owned.position == 0,
        )
        return self.further(items, mixed.flatten(0, 1).index_select(0, mine)), _joined(summary, young)[0], None


# --------------------------------------------------------------------------------------------------------------- searched


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
        old, young = _parted(history, self.config.recent)
        owned = Segments.of((old.events.sizes > 0).long())
        place = old.keep((old.events.to("cpu").start[1:] - 1)[owned.row], owned.to(old.item.device))
        missing = torch.zeros_like(place.number)
        missing[:, 1::2] = 1
        place = replace(place, item=torch.full_like(place.item, item), action=torch.zeros_like(place.action), number=missing)
        return old, _joined(place, young)[0]

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


# ------------------------------------------------------------------------------------------------------------------ parts


def _parted(history: History, recent: int) -> tuple[History, History]:
    """The older events and the latest; where a session is cut in two, the second part is a session of its own."""
    (index, early), (newest, late) = history.events.older(recent), history.events.newest(recent)
    old, young = history.keep(index, early), history.keep(newest, late)
    return old, replace(young, fresh=_firsts(late) if young.fresh is None else young.fresh | _firsts(late))


def _firsts(events: Segments) -> Tensor:
    """bool [N] in host memory: an owner's first."""
    return events.to("cpu").position == 0


def _in_turn(first: Segments, second: Segments) -> tuple[Tensor, Segments]:
    """The things of the same owners, first's before second's: of both end to end, the place of each (int64, in host memory)."""
    order = torch.argsort(torch.cat([first.to("cpu").row, second.to("cpu").row]), stable=True)
    return order, Segments.of(first.sizes + second.sizes, first.start.device)


def _joined(first: History, second: History) -> tuple[History, Tensor]:
    """Two pasts of the same people as one, first's events before second's; and where each event came from, of both end to end."""
    order, events = _in_turn(first.events, second.events)
    there = order.to(first.item.device, non_blocking=True)
    parts: dict[str, Any] = {}
    for name in ("item", "time", "action", "number", "other", "chosen"):
        one, other = getattr(first, name), getattr(second, name)
        parts[name] = None if one is None or other is None else torch.cat([one, other]).index_select(0, there)
    fresh = torch.cat([_firsts(one.events) if one.fresh is None else one.fresh for one in (first, second)])[order]
    return History(events=events, fresh=fresh, **parts), order


def _with_newest(events: Segments, index: Tensor, kept: Segments, recent: int) -> tuple[Tensor, Segments]:
    """Some of the older events, at these places, and the latest: int64 [n] in host memory, in their order, and their segments."""
    newest, late = events.newest(recent)
    order, whole = _in_turn(kept, late)
    return torch.cat([index, newest])[order], whole.to(events.start.device)


def _within(events: Segments, index: Tensor, kept: Segments) -> Tensor:
    """int64 [n, 2] in host memory: of events at these places, where in the past each is, and 1, for it is of itself alone."""
    place = index - events.to("cpu").start[:-1][kept.to("cpu").row]
    return torch.stack([place, torch.ones_like(place)], 1)


def _lot(place: Tensor) -> Tensor:
    """float32 [n] in 0 .. 1 of each place (in host memory), as if at random, and the same for ever: 24 bits of a mixed number."""
    with np.errstate(over="ignore"):
        bits = mix(place.numpy().astype(np.uint64) + GOLDEN)
    return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32)) / (1 << 24)


ONCE: dict[str, type[Long]] = {"recent": Recent, "sample": Sample, "sparse": Sparse, "chunks": Chunks, "low-rank": LowRank}
LONG: dict[str, type[Long]] = {**ONCE, "sim-hard": SIMHard, "sim-soft": SIMSoft, "eta": ETA, "sdim": SDIM, "linear": Linear}
