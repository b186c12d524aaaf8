"""Long pasts, of thousands of events, made short for any model: once for all candidates, or for each candidate on its own.

    past ─┬─ Once ────── the events that are kept, or vectors that stand for several ─────────── read ─▶ Memory ── score
          │                                                                                       of the model within
          └─ Searched ── vectors, hashes ─▶ Memory ─┬─ those that the candidate asks for ─── read ── score
                                          candidate ┘                                         of the model within

A vector that stands for several events is a further item, and its event one of a past like any other, so that the model within reads it
as it reads all events, and nothing in it knows that its past was long. The latest events (`recent`) always stay as they are.

    once       recent      the latest
               sample      some of the older, drawn by their place: a further event changes one of them at most
               sparse      each `stride`-th of the older (Child et al., 2019, the strided pattern)
               chunks      the mean of each chunk of the older, or of each session
               low-rank    `rank` mixtures of the older, by attention of learned queries (Lee et al., ICML 2019, eq. 11, one head)
    searched   (models/search.py)
               sim-hard    the latest of the candidate's category   (SIM: Qi et al., CIKM 2020)
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

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.config import Config
from penchant.encoding import GOLDEN, Encoding, mix
from penchant.errors import ConfigError
from penchant.models.around import Around, Make, called
from penchant.nn.item import ItemEncoder


class LongConfig(Config):
    """What of a long past stays as it is."""

    recent: int = Limits(10, ge=0)  # the latest events, whatever is done with the older


class Long(Around):
    """A model whose past is made short."""

    Config: ClassVar[type[Config]] = LongConfig
    table = "long"

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: LongConfig, make: Make) -> None:
        super().__init__(encoding, item, make)
        if not self.reads_past:
            raise ConfigError(f"long: {called(self.model)} reads no past, so there is none to make short; leave long out.")
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
        old, young = parted(history, self.config.recent)
        of, owned = self.chunks(old)
        begin = of.to("cpu").start
        summary = replace(
            old.keep(begin[1:] - 1, owned),
            item=len(items) + torch.arange(of.owners, device=items.device),
            number=of.mean(old.number),
            fresh=torch.ones(of.owners, dtype=torch.bool),
        )
        short, order = joined(summary, young)
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
        rank, (old, young) = len(self.query), parted(history, self.config.recent)
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
        return self.further(items, mixed.flatten(0, 1).index_select(0, mine)), joined(summary, young)[0], None


# ------------------------------------------------------------------------------------------------------------------ parts


def parted(history: History, recent: int) -> tuple[History, History]:
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


def joined(first: History, second: History) -> tuple[History, Tensor]:
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
