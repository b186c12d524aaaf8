"""The values that cross every boundary: Segments, History, Sessions, User, Shown, Batch, Memory, Output.

    Batch ─┬─ row, known ───────── item encoder ──▶ items [M, D] ─┐
           ├─ user, History ────── model.read ────▶ Memory ───────┼─ model.score ──▶ Output
           └─ candidates, moment ─────────────────────────────────┘

Nothing here is padded: what belongs together lies end to end, and `start` says where each owner's part begins.

R requests, C candidates, E events, M distinct items, D width; U X N A B P Q fields of user, context, number, action,
event number, shown and shown number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

Device = torch.device | str

CELLS = 1 << 22  # pairs of things that are laid out at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """N things of R owners, laid end to end: those of owner r are start[r] : start[r + 1]."""

    start: Tensor  # int64 [R + 1]
    total: int  # N
    host: Tensor | None = None  # start, kept in host memory, so that sizes are known without waiting for a device

    @classmethod
    def of(cls, length: Tensor, device: Device = "cpu") -> Segments:
        """Segments of these lengths (int64 [R], in host memory)."""
        host = F.pad(length.cumsum(0), (1, 0))
        return cls(start=host.to(device, non_blocking=True), total=int(host[-1]), host=host)

    @staticmethod
    def join(parts: Sequence[Segments]) -> Segments:
        """The owners of all parts, one after another."""
        return Segments.of(torch.cat([part.sizes for part in parts]), parts[0].start.device)

    def each(self, copies: int, extra: int = 0) -> Segments:
        """Every owner `copies` times over, with room for `extra` things at the end of each."""
        return Segments.of((self.sizes + extra).repeat_interleave(copies), self.start.device)

    def to(self, device: Device) -> Segments:
        """On another device; in host memory there is a copy already, which nothing waits for."""
        host = self._host
        return replace(self, start=host if torch.device(device).type == "cpu" else self.start.to(device, non_blocking=True), host=host)

    @property
    def owners(self) -> int:
        return self.start.shape[0] - 1

    @property
    def _host(self) -> Tensor:
        return self.start.cpu() if self.host is None else self.host

    @cached_property
    def sizes(self) -> Tensor:
        """int64 [R] the lengths, in host memory."""
        return self._host.diff()

    @cached_property
    def longest(self) -> int:
        return int(self.sizes.max()) if self.owners else 0

    @cached_property
    def length(self) -> Tensor:
        """int64 [R] how many things each owner has."""
        return self.start[1:] - self.start[:-1]

    @cached_property
    def row(self) -> Tensor:
        """int64 [N] whose each thing is. A one where an owner begins, then a running sum: nothing to wait for."""
        inner = self.start[1:-1]
        return self.start.new_zeros(self.total + 1).index_add(0, inner, torch.ones_like(inner)).cumsum(0)[:-1]

    @cached_property
    def position(self) -> Tensor:
        """int64 [N] the place of each thing among its owner's."""
        return torch.arange(self.total, device=self.start.device) - self.start.index_select(0, self.row)

    def spread(self, value: Tensor) -> Tensor:
        """[R, *] -> [N, *] to each thing its owner's value."""
        return value.expand(self.total, *value.shape[1:]) if self.owners == 1 else value.index_select(0, self.row)

    def sum(self, value: Tensor) -> Tensor:
        """[N, *] -> [R, *]."""
        return value.new_zeros(self.owners, *value.shape[1:]).index_add(0, self.row, value)

    def mean(self, value: Tensor) -> Tensor:
        """[N, *] -> [R, *]; 0 where an owner has nothing."""
        length = self.length.clamp(min=1).to(value.dtype)
        return self.sum(value) / length.view(-1, *[1] * (value.dim() - 1))

    def softmax(self, logit: Tensor) -> Tensor:
        """[N, *] -> float32 [N, *] that sums to 1 over the things of each owner."""
        logit = logit.float()
        row = self.row.view(-1, *[1] * (logit.dim() - 1)).expand_as(logit)
        floor = logit.new_full((self.owners, *logit.shape[1:]), -torch.inf)
        greatest = floor.scatter_reduce(0, row, logit.detach(), "amax")
        exp = (logit - self.spread(greatest)).exp()
        return exp / self.spread(self.sum(exp))

    def pool(self, value: Tensor, weight: Tensor) -> Tensor:
        """value [N, D], weight [N, C] -> [R, C, D], the sum of each owner's values by each weight; [N, C, D] is never made."""
        (things, columns), owners = weight.shape, self.owners
        weight = weight.to(value.dtype)
        if owners == 1:
            return (weight.t() @ value)[None]
        if columns == 1:
            return self.sum(value * weight)[:, None]
        if things == 0:
            return value.new_zeros(owners, columns, value.shape[-1]) + value.sum() + weight.sum()
        index = torch.arange(things, device=value.device).repeat(columns)
        offset = torch.arange(columns, device=value.device)[:, None] * things + self.start[:-1]
        flat = F.embedding_bag(index, value, offset.reshape(-1), mode="sum", per_sample_weights=weight.t().reshape(-1))
        return flat.view(columns, owners, -1).transpose(0, 1)

    def unpool(self, value: Tensor, weight: Tensor) -> Tensor:
        """value [R, C, D], weight [N, C] -> [N, D], to each thing the sum of its owner's values by its weights; [N, C, D] is never made."""
        columns = weight.shape[1]
        index = self.row[:, None] * columns + torch.arange(columns, device=value.device)
        return F.embedding_bag(index, value.flatten(0, 1), mode="sum", per_sample_weights=weight.to(value.dtype))

    def dot(self, value: Tensor, query: Tensor) -> Tensor:
        """value [N, D], query [R, C, D] -> [N, C], each thing's product with each of its owner's queries: `pool` the other way."""
        if self.owners == 1:
            return value @ query[0].t()
        columns, width = query.shape[1:]
        if self.owners * self.longest * (columns + width) <= self.total * columns * width:  # filling up is cheaper than [N, C, D]
            return self.unpad(self.pad(value) @ query.transpose(1, 2))
        return (self.spread(query) * value[:, None]).sum(-1)

    def newest(self, most: int) -> tuple[Tensor, Segments]:
        """The last `most` things of each owner: int64 [n] in host memory, and their segments."""
        size = self.sizes.clamp(max=most)
        kept = Segments.of(size)
        return (self._host[1:] - size)[kept.row] + kept.position, kept.to(self.start.device)

    def older(self, most: int) -> tuple[Tensor, Segments]:
        """The things of each owner but its last `most`, in the same way."""
        kept = Segments.of((self.sizes - most).clamp(min=0))
        return self._host[:-1][kept.row] + kept.position, kept.to(self.start.device)

    def top(self, score: Tensor, most: int, *, within: int | None = None) -> tuple[Tensor, Segments]:
        """score [N, C] -> things int64 [P] of R * C owners: the `most` best of each owner by each column, in their order.

        Of equals the later. within: scores are whole numbers from -within to within, which is quicker. Nothing waits for a device: how
        many there are of each is known beforehand.
        """
        kept = Segments.of(self.sizes.clamp(max=most).repeat_interleave(score.shape[1]), self.start.device)
        if not kept.total:
            return self.start.new_zeros(0), kept
        later = torch.arange(1, self.total + 1, device=score.device)[:, None]
        if within is not None and (2 * within + 1) * self.total < 1 << 31:
            return self._greatest((score.int() + within) * self.total + later.int(), most, kept), kept
        rank = (score.float() + 0.0).view(torch.int32).long()  # a float's bits are in its order, but that those below 0 count downwards
        rank = torch.where(rank < 0, rank ^ 0x7FFFFFFF, rank) + (1 << 31)
        return self._greatest((rank << 31) + later, most, kept), kept  # no two are equal, and none is 0

    def _greatest(self, key: Tensor, most: int, kept: Segments) -> Tensor:
        """Keys [N, C] above 0, all different -> int64 [P] the things of the `most` greatest of each owner and column, in their order."""
        columns = key.shape[1]
        if self.owners == 1:
            return key.t().topk(min(most, self.total), 1, sorted=False).indices.sort(1).values.flatten()
        things, places = [], []
        for place, some in self.alike(4):
            filled = some.pad(key.index_select(0, place)).transpose(1, 2)  # [r, C, longest], 0 where it is filled up
            best = filled.topk(min(most, some.longest), 2, sorted=False)
            at = best.indices.masked_fill(best.values == 0, some.longest).sort(2).values  # what fills up stands last
            here = Segments.of(some.sizes.clamp(max=most).repeat_interleave(columns), key.device)
            first = place.index_select(0, some.start[:-1])  # of each owner
            cell = here.row * at.shape[2] + here.position
            things.append((first.repeat_interleave(columns))[here.row] + at.flatten().index_select(0, cell))
            owner = self.row.index_select(0, first).repeat_interleave(columns) * columns + torch.arange(columns, device=key.device).repeat(
                some.owners
            )
            places.append(kept.start.index_select(0, owner).index_select(0, here.row) + here.position)
        found = torch.cat(things)
        return torch.empty_like(found).index_copy(0, torch.cat(places), found)

    def alike(self, within: int = 2) -> list[tuple[Tensor, Segments]]:
        """Owners by length, none in a group `within` times as long as another: places of their things int64 [n], and their segments.

        A group is of no more owners than have CELLS pairs of things. Made on the host, once; an owner with nothing is in no group.
        """
        if within not in self._groups:
            self._groups[within] = self._grouped(within)
        return self._groups[within]

    @cached_property
    def _groups(self) -> dict[int, list[tuple[Tensor, Segments]]]:
        return {}

    def _grouped(self, within: int) -> list[tuple[Tensor, Segments]]:
        host = self.to("cpu")
        size, device, found, most = self.sizes, self.start.device, [], 1
        while most < within * self.longest:
            owner = ((size > most // within) & (size <= most)).nonzero().squeeze(-1)
            for some in torch.split(owner, max(CELLS // most**2, 1)):
                kept = Segments.of(size[some])
                place = host.start[some][kept.row] + kept.position
                found.append((place.to(device, non_blocking=True), kept.to(device)))
            most *= within
        return [group for group in found if group[1].owners]

    def pad(self, value: Tensor) -> Tensor:
        """[N, *] -> [R, longest, *], zeros where there is nothing. For self-attention inside nn/ only."""
        out = value.new_zeros(self.owners * self.longest, *value.shape[1:])
        return out.index_copy_(0, self._cell, value).view(self.owners, self.longest, *value.shape[1:])

    def unpad(self, value: Tensor) -> Tensor:
        """[R, longest, *] -> [N, *]."""
        return value.flatten(0, 1).index_select(0, self._cell)

    @cached_property
    def _cell(self) -> Tensor:
        """int64 [N] the place of each thing where all owners are filled up to the longest."""
        return self.row * self.longest + self.position

    @cached_property
    def _steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Step-major order [N], owners still going at each step [longest], each owner's rank by length [R]. Made on the host."""
        host = self.to("cpu")
        rank = torch.argsort(torch.argsort(self.sizes, descending=True, stable=True))
        order = torch.argsort(host.position * max(self.owners, 1) + rank[host.row])
        device = self.start.device
        return order.to(device, non_blocking=True), torch.bincount(host.position), rank.to(device, non_blocking=True)

    @property
    def steps(self) -> tuple[Tensor, tuple[int, ...]]:
        """The things' places in the order of steps, owners with the most things first, int64 [N]; how many owners take each step."""
        order, going, _ = self._steps
        return order, tuple(going.tolist())

    @cached_property
    def ends(self) -> Tensor:
        """int64 [owners with something], where in that order each one's last thing stands, longest first."""
        sizes = self.sizes.sort(descending=True).values
        sizes = sizes[sizes > 0]
        begin = F.pad(self._steps[1].cumsum(0), (1, 0))
        place = begin[sizes - 1] + torch.arange(len(sizes))
        return place.to(self.start.device, non_blocking=True)

    def pack(self, value: Tensor) -> PackedSequence:
        """[N, *] for a recurrent net. Owners with nothing are left out; `last` puts their zeros back. Needs total > 0."""
        order, going, _ = self._steps
        return PackedSequence(value.index_select(0, order), going)

    def unpack(self, packed: PackedSequence) -> Tensor:
        """What a recurrent net made of `pack` -> [N, *]."""
        return torch.empty_like(packed.data).index_copy(0, self._steps[0], packed.data)

    def last(self, hidden: Tensor) -> Tensor:
        """[owners with something, *], longest first -> [R, *]; 0 where an owner has nothing."""
        missing = self.owners - hidden.shape[0]
        return F.pad(hidden, (0, 0) * (hidden.dim() - 1) + (0, missing)).index_select(0, self._steps[2])


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """What R people did, oldest first: E events in all."""

    item: Tensor  # int64 [E]      places in Batch.row
    time: Tensor  # int64 [E]      unix milliseconds
    action: Tensor  # int64 [E, A]   what else is known of an event (kind, rating, ...), encoded
    number: Tensor  # float32 [E, B] numeric facts of an event, 0 and an indicator when missing
    events: Segments  # E events of R requests
    other: Tensor | None = None  # int64 [E]      places of items not chosen then (negatives for next-item losses), drawn by the loader
    chosen: Tensor | None = None  # float32 [E]    1 where an event was a positive, for next-item losses; 0 where it was not
    fresh: Tensor | None = None  # bool [E]       where a session begins, kept in host memory; None: each past is one session

    def take(self, rows: Tensor) -> History:
        """These requests only (int64, in host memory), in this order, with repeats if wanted."""
        kept = Segments.of(self.events.sizes[rows], self.item.device)
        index = self.events.start[rows][kept.row] + kept.position
        return replace(self, events=kept, **{name: value[index.to(value.device)] for name, value in _tensors(self).items()})

    def keep(self, index: Tensor, events: Segments) -> History:
        """The events at these places (int64, in host memory), those of an owner in their order; a session goes on where one is left out."""
        there = index.to(self.item.device, non_blocking=True)
        kept = {name: value.index_select(0, there) for name, value in _tensors(replace(self, fresh=None)).items()}
        if self.fresh is None:
            return replace(self, events=events, **kept)
        session = self.fresh.long().cumsum(0)[index]
        fresh = F.pad(session.diff(), (1, 0), value=1)[: len(index)] != 0
        return replace(self, events=events, fresh=fresh, **kept)

    def to(self, device: Device) -> History:
        moved = _moved(replace(self, fresh=None), device)
        return replace(self, events=self.events.to(device), **moved)

    @cached_property
    def sessions(self) -> Sessions:
        """What of a past was done in one go; how many there are is known on the host, so that nothing waits for a device."""
        sizes, device = self.events.sizes, self.item.device
        begins = torch.zeros(self.events.total, dtype=torch.bool) if self.fresh is None else self.fresh.clone()
        there = F.pad(sizes.cumsum(0), (1, 0))
        begins[there[:-1][sizes > 0]] = True
        first = begins.nonzero().squeeze(-1)
        length = F.pad(first, (0, 1), value=self.events.total).diff()
        passed = F.pad(begins.long().cumsum(0), (1, 0))
        return Sessions(events=Segments.of(length, device), requests=Segments.of(passed[there].diff(), device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sessions:
    """Pasts cut where something new begins: E events of S sessions, S sessions of R requests; none is empty."""

    events: Segments  # E events of S sessions
    requests: Segments  # S sessions of R requests


@dataclass(frozen=True, kw_only=True, eq=False)
class User:
    """Who R requests come from: what of a person no moment changes."""

    code: Tensor  # int64 [R, U]    id and categorical profile
    number: Tensor  # float32 [R, N]  numeric profile

    def take(self, rows: Tensor) -> User:
        return User(code=self.code[rows], number=self.number[rows])

    def to(self, device: Device) -> User:
        return User(code=self.code.to(device, non_blocking=True), number=self.number.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Facts of showing each candidate now: its position, its price as it is today."""

    code: Tensor  # int64 [R, C, P]
    number: Tensor  # float32 [R, C, Q]

    def take(self, rows: Tensor) -> Shown:
        return Shown(code=self.code[rows], number=self.number[rows])

    def candidates(self, index: slice | Tensor) -> Shown:
        return Shown(code=_pick(self.code, index), number=_pick(self.number, index))

    def to(self, device: Device) -> Shown:
        return Shown(code=self.code.to(device, non_blocking=True), number=self.number.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """R requests: one person, one moment, one past, C candidates each. Ids only, already encoded."""

    row: Tensor  # int64 [M]       the distinct catalogue rows that this batch speaks of, found by the loader
    known: Tensor  # bool [M]        False: treat the id as UNKNOWN (its attributes stay)
    user: User
    context: Tensor  # int64 [R, X]    the moment: hour, weekday, device, place, ...
    number: Tensor  # float32 [R, N]  numeric context
    time: Tensor  # int64 [R]       the moment, unix milliseconds
    item: Tensor  # int64 [R, C]    candidates: places in `row`
    shown: Shown
    history: History
    negative: Tensor | None = None  # int64 [R, n]    further items for sampled losses: places in `row`
    negative_log_q: Tensor | None = None  # float32 [R, n]  log-probability with which each was drawn
    first_drawn: int | None = None  # from this place on `row` is of `negative` alone; None: it never is
    label: Tensor | None = None  # float32 [R, C]  None when serving
    log_q: Tensor | None = None  # float32 [R, C]  log-probability with which the sampler of negatives draws each candidate
    weight: Tensor | None = None  # float32 [R, C]  sample weight; in training every slot is real

    @property
    def requests(self) -> int:
        return self.item.shape[0]

    def take(self, rows: Tensor) -> Batch:
        """These requests only (int64, in host memory), in this order."""
        kept: dict[str, Any] = {name: value[rows] for name, value in _tensors(self).items() if name not in ("row", "known")}
        return replace(self, user=self.user.take(rows), shown=self.shown.take(rows), history=self.history.take(rows), **kept)

    def candidates(self, index: slice | Tensor) -> Batch:
        """The same requests with some of their candidates: a slice of places, or int64 [R, c] to gather."""
        kept: dict[str, Any] = {n: _pick(v, index) for n, v in _tensors(self).items() if n in ("item", "label", "weight", "log_q")}
        return replace(self, shown=self.shown.candidates(index), **kept)

    def to(self, device: Device) -> Batch:
        parts: dict[str, Any] = {"user": self.user.to(device), "shown": self.shown.to(device), "history": self.history.to(device)}
        return replace(self, **parts, **_moved(self, device))


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """All that a model keeps of R pasts. It knows no candidate, moment or batch mate; memories of several people join."""

    segments: Segments  # of its N things: events or sessions
    each: Mapping[str, Tensor] = field(default_factory=dict)  # [N, *]
    whole: Mapping[str, Tensor] = field(default_factory=dict)  # [R, *]
    events: Segments | None = None  # where a thing is several events: E events of N things
    event: Mapping[str, Tensor] = field(default_factory=dict)  # [E, *] of these events

    @staticmethod
    def join(parts: Sequence[Memory]) -> Memory:
        """The pasts of all parts, one after another."""
        return Memory(
            segments=Segments.join([part.segments for part in parts]),
            each={name: torch.cat([part.each[name] for part in parts]) for name in parts[0].each},
            whole={name: torch.cat([part.whole[name] for part in parts]) for name in parts[0].whole},
            events=None if parts[0].events is None else Segments.join([p.events for p in parts if p.events is not None]),
            event={name: torch.cat([part.event[name] for part in parts]) for name in parts[0].event},
        )

    @property
    def bytes(self) -> int:
        """What this memory takes, its segments included."""
        held = [*self.each.values(), *self.whole.values(), *self.event.values(), self.segments.start]
        return sum(value.numel() * value.element_size() for value in held + ([self.events.start] if self.events else []))


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """What a model says of a batch."""

    logit: Tensor  # float32 [R, C]
    attention: Tensor | None = None  # float32 [E, C]  say of each event on each candidate; made only when asked for
    head: Tensor | None = None  # float32 [E, C, H]  the same by each head
    session: Tensor | None = None  # float32 [S, C]  say of each session
    interest: Tensor | None = None  # float32 [R, C, K]  say of each interest or persona
    member: Tensor | None = None  # float32 [E, K]  which interest an event belongs to
    losses: Mapping[str, Tensor] = field(default_factory=dict)  # further scalars to minimise, by name


def _tensors(value: History | Batch) -> dict[str, Tensor]:
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _moved(value: History | Batch, device: Device) -> dict[str, Any]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in _tensors(value).items()}


def _pick(value: Tensor, index: slice | Tensor) -> Tensor:
    if isinstance(index, slice):
        return value[:, index]
    return value.gather(1, index.view(*index.shape, *[1] * (value.dim() - 2)).expand(*index.shape, *value.shape[2:]))
