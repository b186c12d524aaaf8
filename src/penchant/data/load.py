"""Batches out of a Log, by vectorised gathers.

    positions ─▶ pasts (ranges of the Log) ─┐
              ─▶ candidates (own, negatives) ├─▶ distinct catalogue rows ─▶ Batch
              ─▶ people and moments ─────────┘

An example is a position in the Log. What it looks like is a function of (seed, epoch, position) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from pydantic import Field as Limits

from penchant.batch import Batch
from penchant.collate import Pasts, Requests, collate
from penchant.config import Config
from penchant.data.draw import Permutation, bits, share
from penchant.data.fit import attributes, remap
from penchant.data.log import Log
from penchant.data.negatives import Seen, Uniform
from penchant.encoding import Bools, Encoding, Floats, Ints
from penchant.errors import ConfigError
from penchant.schema import Tie

UNKNOWN_IDS = 1 << 40  # a key of its own, so that ids are not marked by the bits that draw negatives


class LoadConfig(Config):
    """How training examples are made of a Log."""

    past: int = Limits(50, ge=0)  # events of a past that are kept, the latest
    negatives: int = Limits(4, ge=0)  # sampled candidates beside each positive; 0: learn from the log's own labels
    latest: int | None = Limits(None, ge=1)  # examples a person, the latest; None: all
    unknown: float = Limits(0.05, ge=0, lt=1)  # share of the catalogue's ids that an epoch treats as UNKNOWN


class EncodedLog:
    """A Log seen through an Encoding: ids wherever the Log has places."""

    def __init__(self, log: Log, encoding: Encoding) -> None:
        self.log, self.encoding, schema = log, encoding, encoding.schema
        self.item: Ints = encoding.catalogue.items.encode(log.items.column("id"))  # [I] the catalogue row of each item of the Log
        codes, self.user_number = attributes(log, "user", schema, encoding.vocabularies, encoding.scales)
        self.user: Ints = np.concatenate([encoding.users.encode(log.users.column("id"))[:, None], codes], axis=1)  # [U, 1 + F]
        names = [f"{g}.{n}" for g in ("action", "context") for n in schema.named(g, "category")]
        self._ids = {name: remap(log, encoding.vocabularies, name) for name in names if name in log.values}

    def rows(self, position: Ints) -> Ints:
        """int64, the catalogue row of each event's item."""
        rows: Ints = self.item[self.log.events["item"][position]]
        return rows

    def codes(self, group: str, position: Ints) -> Ints:
        """int64 [n, F] of events: action, or context without the derived moments."""
        names = self.encoding.schema.named(group, "category")
        out = np.empty((len(position), len(names)), dtype=np.int64)
        for place, name in enumerate(names):
            known = self._ids.get(f"{group}.{name}")  # None: a field that this Log does not have is UNKNOWN
            out[:, place] = 0 if known is None else known[self.log.events[f"{group}.{name}"][position]]
        return out

    def numbers(self, group: str, position: Ints) -> Floats:
        """float32 [n, 2 B] of events."""
        names = [f"{group}.{name}" for name in self.encoding.schema.named(group, "number")]
        missing = np.full(len(position), np.nan)
        there = [self.log.events[name][position] if name in self.log.events else missing for name in names]
        parts = [self.encoding.scales[name].encode(column) for name, column in zip(names, there, strict=True)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(position), 0), np.float32)

    def context(self, position: Ints, time: Ints) -> Ints:
        """int64 [n, X] the moments of requests."""
        begin = self.log.start[self.log.user_of(position)]
        first = np.asarray(self.log.events["time"])[begin]
        return np.concatenate([self.encoding.moment(time, first), self.codes("context", position)], axis=1)

    @cached_property
    def seen(self) -> Seen:
        """Which catalogue rows each person ever chose, in the whole Log."""
        chosen = np.flatnonzero(self.log.positive)
        return Seen(self.log.user_of(chosen), self.rows(chosen), users=len(self.log.users), rows=self.encoding.catalogue.size)

    @cached_property
    def _past(self) -> tuple[Ints, Ints] | None:
        """Where only positives make up a past: their positions, and how many stand before each event."""
        if not self.encoding.schema.events.past_is_positive or self.log.positive.all():
            return None
        before = np.concatenate([[0], np.cumsum(self.log.positive)])
        return np.flatnonzero(self.log.positive), before

    def past(self, position: Ints, most: int, tie: Tie) -> tuple[Ints, Ints]:
        """The pasts of events: positions int64 [E], oldest first, end to end, and lengths int64 [n]. No event at or after its own."""
        begin = self.log.start[self.log.user_of(position)]
        end = position if tie == "order" else self.log.tie[position]
        if self._past is not None:
            begin, end = self._past[1][begin], self._past[1][end]
        length = np.minimum(end - begin, most)
        index = ranges(end - length, length)
        return (index if self._past is None else self._past[0][index]), length


@dataclass(frozen=True, kw_only=True, eq=False)
class Loader:
    """Makes Batches of positions in an encoded Log."""

    data: EncodedLog
    position: Ints  # examples, ascending
    config: LoadConfig
    seed: int
    tie: Tie = "order"
    negatives: Uniform | None = None  # needed where config.negatives, `others` or `further` ask for draws
    others: bool = False  # draw an item not chosen for each event of the past
    further: int = 0  # further items a request, for sampled losses

    def __post_init__(self) -> None:
        if self.negatives is None and (self.others or self.further):
            raise ConfigError("this loader is to draw items (others, further), but has no `negatives` to draw them with.")

    @classmethod
    def for_training(
        cls,
        data: EncodedLog,
        train: Ints,
        config: LoadConfig,
        seed: int,
        *,
        tie: Tie = "order",
        others: bool = False,
        further: int = 0,
    ) -> Loader:
        """Over training positions; negatives are items with training rows that a person did not choose in theirs.

        With negatives, the examples are the positives, each against items drawn for it; without, all rows with their own labels.
        """
        log = data.log
        chosen = train[log.positive[train]]
        if not config.negatives and len(chosen) == len(train):
            raise ConfigError("data.negatives is 0, but every training event is a positive: there is nothing to tell them from.")
        examples = chosen if config.negatives else train
        kept = examples if config.latest is None else _latest(log, examples, config.latest)
        seen = Seen(log.user_of(chosen), data.rows(chosen), users=len(log.users), rows=data.encoding.catalogue.size)
        pool = np.flatnonzero(data.encoding.catalogue.known)
        negatives = Uniform(pool=pool, seen=seen, seed=seed)
        return cls(data=data, position=kept, config=config, seed=seed, tie=tie, negatives=negatives, others=others, further=further)

    def steps(self, batch_size: int) -> int:
        """How many batches an epoch has."""
        return -(-len(self.position) // batch_size)

    def epoch(self, epoch: int, batch_size: int, *, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of one epoch from step `start`, shuffled; `part` (k, n) takes every batch's k-th of n slices."""
        order = Permutation(len(self.position), self.seed, epoch)
        mine, parts = part
        for step in range(start, self.steps(batch_size)):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            share_of = np.array_split(chosen, parts)[mine]
            yield self.batch(self.position[share_of], epoch)

    def batch(self, position: Ints, epoch: int) -> Batch:
        """The training requests of these events: each one's own item, then its negatives."""
        log, count = self.data.log, self.config.negatives
        user = log.user_of(position)
        item = self.data.rows(position)[:, None]
        label = np.zeros((len(position), 1 + count), dtype=np.float32)
        label[:, 0] = log.positive[position]
        drawn = self._draw(user, position, epoch, count + self.further)
        item = np.concatenate([item, drawn[:, :count]], axis=1)
        return self.assemble(position, item, label=label, epoch=epoch, further=drawn[:, count:] if self.further else None)

    def assemble(
        self,
        position: Ints,
        item: Ints,
        *,
        label: Floats | None = None,
        weight: Floats | None = None,
        epoch: int | None = None,
        further: Ints | None = None,
    ) -> Batch:
        """Requests at the moments of these events, about catalogue rows `item` [R, C]; with an epoch, some ids are marked unknown."""
        data, log = self.data, self.data.log
        user, time = log.user_of(position), np.asarray(log.events["time"])[position]
        past, length = data.past(position, self.config.past, self.tie)
        other = self._others(position, user, past, length, epoch or 0) if self.others else None
        requests = Requests(
            user=data.user[user],
            user_number=data.user_number[user],
            number=data.numbers("context", position),
            context=data.context(position, time),
            time=time,
            item=item,
            further=further,
            further_log_q=None if further is None or self.negatives is None else self.negatives.log_q(further),
            log_q=None if label is None or self.negatives is None else self.negatives.log_q(item),
            label=label,
            weight=weight,
        )
        pasts = Pasts(
            item=data.rows(past),
            time=np.asarray(log.events["time"])[past],
            action=data.codes("action", past),
            number=data.numbers("action", past),
            length=length,
            other=other,
        )
        return collate(data.encoding, requests, pasts, marked=None if epoch is None else partial(self._marked, epoch))

    def _marked(self, epoch: int, row: Ints) -> Bools:
        """bool, the rows whose ids this epoch treats as UNKNOWN."""
        return share(bits(self.seed, epoch, UNKNOWN_IDS, row)) < self.config.unknown

    def _others(self, position: Ints, user: Ints, past: Ints, length: Ints, epoch: int) -> Ints:
        """int64 [E], an item not chosen for each event of each past, a function of (seed, epoch, example, event)."""
        event = bits(np.repeat(position, length), past).view(np.int64)
        return self._draw(np.repeat(user, length), event, epoch, 1)[:, 0]

    def _draw(self, user: Ints, example: Ints, epoch: int, count: int) -> Ints:
        if not count or self.negatives is None:
            return np.zeros((len(user), 0), dtype=np.int64)
        return self.negatives.draw(user, example, epoch, count)


def ranges(start: Ints, length: Ints) -> Ints:
    """start[0], start[0] + 1, ... (length[0] of them), start[1], ...: int64 [sum of length]."""
    end = np.cumsum(length)
    index: Ints = np.arange(end[-1] if len(end) else 0, dtype=np.int64) + np.repeat(start - (end - length), length)
    return index


def _latest(log: Log, position: Ints, most: int) -> Ints:
    """Of each person's positions the `most` latest."""
    user = log.user_of(position)
    end = np.searchsorted(user, np.arange(len(log.users)), side="right")
    return position[np.arange(len(position)) >= (end - most)[user]]
