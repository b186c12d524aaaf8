"""Batches out of a Log, by vectorised gathers.

    positions ─▶ pasts (ranges of the Log) ─┐
              ─▶ candidates (own, negatives) ├─▶ distinct catalogue rows ─▶ Batch
              ─▶ people and moments ─────────┘

An example is a position in the Log: a positive that negatives are drawn for, or the first row of a logged request, whose
candidates are all of its rows. What it looks like is a function of (seed, epoch, position) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field as Limits
from pydantic import model_validator

from penchant.batch import Batch
from penchant.cold import Lender, Lent
from penchant.collate import Pasts, Requests, collate
from penchant.config import Config
from penchant.data.draw import Permutation, bits, share
from penchant.data.draws import Draws
from penchant.data.encoded import EncodedLog
from penchant.data.log import Log
from penchant.data.negatives import SamplerConfig
from penchant.data.noise import Denoised, NoiseConfig, denoise
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import ConfigError
from penchant.schema import Tie

UNKNOWN_IDS = 1 << 40  # a key of its own, so that ids are not marked by the bits that draw negatives


class LoadConfig(Config):
    """How training examples are made of a Log."""

    past: int = Limits(50, ge=0)  # events of a past that are kept, the latest
    negatives: int = Limits(4, ge=0)  # sampled candidates beside each positive; 0: learn from the log's own labels
    latest: int | None = Limits(None, ge=1)  # examples a person, the latest; None: all, or what the model asks for
    sampler: SamplerConfig = SamplerConfig()  # where negatives come from
    target: Literal["implicit", "explicit"] = "implicit"  # chosen or not; or the label's value, scaled to 0 .. 1 by label.range
    unknown: float = Limits(0.05, ge=0, lt=1)  # share of the catalogue's ids that an epoch treats as UNKNOWN
    noise: NoiseConfig = NoiseConfig()  # events that do not fit, and people who are none

    @model_validator(mode="after")
    def _consistent(self) -> LoadConfig:
        if self.target == "explicit" and self.negatives:
            raise ValueError("data.target 'explicit' learns from the log's own values; set data.negatives = 0")
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Loader:
    """Makes Batches of positions in an encoded Log."""

    data: EncodedLog
    position: Ints  # examples, ascending
    config: LoadConfig
    seed: int
    tie: Tie = "order"
    rows: Ints | None = None  # of each example, the rows of its request; None: its own row, and drawn ones
    draws: Draws | None = None  # needed where batches are to be trained on, and where `others` or `further` ask for draws
    others: bool = False  # whether each event of a past gets an item not chosen then, for next-item losses
    further: int = 0  # further items a request, for sampled losses
    catalogue: bool = False  # whether a batch speaks of every item with training rows, for losses over all of them
    weight: Floats | None = None  # [N] what each event's example counts for, beside the Log's own weights; None: all the same
    lender: Lender | None = None  # what people with little past are lent, where batches are to be judged; None: nothing
    keep: int | None = None  # events of a past that are looked at, the latest, as if the person had no others; None: all

    def __post_init__(self) -> None:
        if self.lender is not None and (self.draws is not None or self.others):
            raise ConfigError("this loader has a `lender`, but its batches are to be trained on: what is lent stands in no training past.")
        if self.draws is None and (self.others or self.further):
            raise ConfigError("this loader is to draw items (others, further), but has no `draws` to draw them with.")

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
        catalogue: bool = False,
        since: int | None = None,
        denoised: Denoised | None = None,
    ) -> Loader:
        """Over training positions; negatives are items with training rows that a person did not choose in theirs.

        With negatives, the examples are the positives, each against items drawn for it. Without, they are all rows with their own
        labels: the rows of a logged request together, or each on its own.

        since: unix milliseconds; only events from then on are examples, while what is before stands in pasts and is not drawn. None: all.
        denoised: what config.noise makes of `train`, where that is known already.
        """
        log = data.log
        denoised = denoised or denoise(log, train, config.noise)
        train = denoised.train
        chosen = train[log.positive[train]]
        if config.target == "explicit" and "value" not in log.events:
            raise ConfigError("data.target is 'explicit', but the schema has no events.label.range to scale the label's values by.")
        if not config.negatives and config.target == "implicit" and len(chosen) == len(train):
            raise ConfigError("data.negatives is 0, but every training event is a positive: there is nothing to tell them from.")
        examples, rows = (chosen, None) if config.negatives else _requests(log, train)
        if since is not None:
            kept = np.asarray(log.events["time"])[examples] >= since
            if not kept.any():
                raise ConfigError(f"{log.folder}: no example that trains is of {since} (unix milliseconds) or later.")
            examples, rows = examples[kept], None if rows is None else rows[kept]
        if config.latest is not None:
            kept = _latest(log, examples, config.latest)
            examples, rows = examples[kept], None if rows is None else rows[kept]
        draws = Draws.of(data, train, config.sampler, seed)
        return cls(
            data=data,
            position=examples,
            rows=rows,
            config=config,
            seed=seed,
            tie=tie,
            draws=draws,
            others=others,
            further=further,
            catalogue=catalogue,
            weight=denoised.weight,
        )

    def steps(self, batch_size: int) -> int:
        """How many batches an epoch has."""
        if self.rows is None:
            return -(-len(self.position) // batch_size)
        return int((-(-np.bincount(self.rows) // batch_size)).sum())

    def epoch(self, epoch: int, batch_size: int, *, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of one epoch from step `start`, shuffled; `part` (k, n) takes every batch's k-th of n slices.

        Logged requests of a batch show as many items each.
        """
        order = Permutation(len(self.position), self.seed, epoch)
        steps = self._plan(order, epoch, batch_size)
        mine, parts = part
        for step in range(start, self.steps(batch_size)):
            chosen = order[step * batch_size : (step + 1) * batch_size] if steps is None else steps[step]
            share_of = np.array_split(chosen, parts)[mine]
            yield self.batch(self.position[share_of], epoch)

    def _plan(self, order: Permutation, epoch: int, batch_size: int) -> list[Ints] | None:
        """Which examples each step takes, where that is more than a slice of the order."""
        if self.rows is None:
            return None
        shuffled = order[:]
        grouped = shuffled[np.argsort(self.rows[shuffled], kind="stable")]
        steps: list[Ints] = []
        for of_one_size in np.split(grouped, np.flatnonzero(np.diff(self.rows[grouped])) + 1):
            steps += np.split(of_one_size, np.arange(batch_size, len(of_one_size), batch_size))
        return [steps[at] for at in np.argsort(bits(self.seed, epoch, len(steps), np.arange(len(steps))), kind="stable")]

    def batch(self, position: Ints, epoch: int) -> Batch:
        """The training requests of these events: each one's own item, then its negatives; or all items of each logged request."""
        data, log = self.data, self.data.log
        if self.rows is not None:
            shown = self.rows[np.searchsorted(self.position, position)]  # as many for each of them
            row = position[:, None] + np.arange(shown.max(initial=0))
            label = np.asarray(log.events["value"])[row] if self.config.target == "explicit" else log.positive[row].astype(np.float32)
            time = np.asarray(log.events["time"])[position]
            drawn = self._draw(position, data.rows(position), time, position, epoch, self.further) if self.further else None
            return self.assemble(position, data.rows(row), label=label, weight=self._weight(row), shown=row, epoch=epoch, further=drawn)
        count = self.config.negatives
        item = data.rows(position)[:, None]
        label = np.zeros((len(position), 1 + count), dtype=np.float32)
        label[:, 0] = log.positive[position]
        drawn = self._draw(position, item[:, 0], np.asarray(log.events["time"])[position], position, epoch, count + self.further)
        item = np.concatenate([item, drawn[:, :count]], axis=1)
        weight = self._weight(np.repeat(position[:, None], 1 + count, axis=1))
        return self.assemble(position, item, label=label, weight=weight, epoch=epoch, further=drawn[:, count:] if self.further else None)

    def assemble(
        self,
        position: Ints,
        item: Ints,
        *,
        label: Floats | None = None,
        weight: Floats | None = None,
        shown: Ints | None = None,
        epoch: int | None = None,
        further: Ints | None = None,
    ) -> Batch:
        """Requests at the moments of these events, about catalogue rows `item` [R, C]; with an epoch, some ids are marked unknown.

        shown: int64 [R, C], the Log's rows that say how each candidate was shown; None: not known.
        """
        data, log = self.data, self.data.log
        user, time = log.user_of(position), np.asarray(log.events["time"])[position]
        past, length = self._past(position)
        other = self._others(position, user, past, length, epoch or 0) if self.others else None
        requests = Requests(
            user=data.user[user],
            user_number=data.user_number[user],
            number=data.numbers("context", position),
            context=data.context(position, time),
            time=time,
            item=item,
            further=further,
            shown=None if shown is None else data.codes("shown", shown),
            shown_number=None if shown is None else data.numbers("shown", shown),
            further_log_q=self._log_q(further, position),
            log_q=None if label is None or self.rows is not None else self._log_q(item, position),  # what was shown was not drawn
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
            chosen=log.positive[past] if self.others or self.further or self.catalogue else None,
            session=data.session(past),
        )
        if self.lender is not None:
            pasts, _ = self.lender.lend(data.encoding, requests, pasts, self.config.past)
        marked = None if epoch is None else partial(self._marked, epoch)
        return collate(data.encoding, requests, pasts, marked=marked, catalogue=self.catalogue)

    def lent(self, position: Ints) -> Lent | None:
        """What the requests at these moments are lent; None: there is no lender."""
        if self.lender is None:
            return None
        data, user, (past, length) = self.data, self.data.log.user_of(position), self._past(position)
        return self.lender.ask(data.encoding, data.user[user], data.user_number[user], data.rows(past), length, self.config.past)

    def _past(self, position: Ints) -> tuple[Ints, Ints]:
        """The events of their own that the requests at these moments come after: positions and lengths."""
        most = self.config.past if self.keep is None else min(self.config.past, self.keep)
        return self.data.past(position, most, self.tie)

    def _weight(self, row: Ints) -> Floats | None:
        """float32 of the shape of `row`, what these events' examples count for; None: all the same."""
        events = self.data.log.events
        given = np.asarray(events["weight"])[row] if "weight" in events else None
        if self.weight is None or given is None:
            return given if self.weight is None else self.weight[row]
        return given * self.weight[row]

    def _marked(self, epoch: int, row: Ints) -> Bools:
        """bool, the rows whose ids this epoch treats as UNKNOWN."""
        return share(bits(self.seed, epoch, UNKNOWN_IDS, row)) < self.config.unknown

    def _others(self, position: Ints, user: Ints, past: Ints, length: Ints, epoch: int) -> Ints:
        """int64 [E], an item not chosen for each event of each past, a function of (seed, epoch, example, event)."""
        event = bits(np.repeat(position, length), past).view(np.int64)
        return self._draw(past, self.data.rows(past), np.asarray(self.data.log.events["time"])[past], event, epoch, 1)[:, 0]

    def _draw(self, position: Ints, row: Ints, time: Ints, example: Ints, epoch: int, count: int) -> Ints:
        """int64 [n, count] items in place of `row` at `time`, that the people of these events did not choose."""
        if not count or self.draws is None:
            return np.zeros((len(position), 0), dtype=np.int64)
        group = self.draws.group(row, time)
        return self.draws.negatives.draw(self.data.log.user_of(position), example, epoch, count, group)

    def _log_q(self, row: Ints | None, position: Ints) -> Floats | None:
        """float32 of the shape of `row` [R, *], the log-probability of drawing each in place of its request's own item."""
        if row is None or self.draws is None:
            return None
        group = self.draws.group(self.data.rows(position), np.asarray(self.data.log.events["time"])[position])
        return self.draws.negatives.pool.log_q(group[:, None], row)


def _requests(log: Log, train: Ints) -> tuple[Ints, Ints]:
    """The first row of each request that trains, and how many rows it has."""
    begin, rows = np.unique(log.begin(train), return_counts=True)
    return begin, rows.astype(np.int64)


def _latest(log: Log, position: Ints, most: int) -> Bools:
    """Which of each person's positions are the `most` latest."""
    user = log.user_of(position)
    end = np.searchsorted(user, np.arange(len(log.users)), side="right")
    kept: Bools = np.arange(len(position)) >= (end - most)[user]
    return kept
