"""What is lent to people with little past: events of others, in the place of what they have not done yet.

    own        enough events of their own: nothing is lent
    similar    what people did next who began with the items of these few events
    profile    what people of a like profile began with: of all fields alike, then of fewer
    category   what is popular in the categories of these few events' items
    popular    what was popular of late

The first that has something to lend lends. Lent events stand before a person's own, as if they had come earlier. They are not the
person's: a list may hold them still, and the answer says which they are.

A Lender is fitted on training events alone (penchant.data.lend), travels in the bundle, and is asked alike by the Scorer
and by evaluation, of encoded facts: what is served is what was judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field as Limits
from pydantic import field_validator

from penchant.collate import Pasts, Requests
from penchant.config import Config
from penchant.encoding import Bools, Encoding, Floats, Ints
from penchant.errors import ArtefactError, ConfigError, nearest

STEPS = ("own", "similar", "profile", "category", "popular")
LISTED = 30  # rows of a list at most
KEYS: Mapping[str, int] = {"similar": 10_000, "profile": 2_000, "category": 2_000, "popular": 1}  # lists of a step at most
PLACES = 1 << 48  # profiles that the fields of one level allow, at most

Step = Literal["similar", "profile", "category", "popular"]
Found = tuple[Ints, Ints, Floats]  # [n] who asked, [n, W] rows (0: none), [n, W] how telling each is


class ColdConfig(Config):
    """What people with little past are lent."""

    method: Literal["none", "lend"] = "none"
    enough: int = Limits(3, ge=1)  # events of one's own, from which on nothing is lent
    events: int = Limits(10, ge=1, le=LISTED)  # that are lent, at most; own and lent ones together are no more than the model keeps
    steps: tuple[Step, ...] = Limits(("similar", "profile", "category", "popular"), min_length=1)  # in this order
    category: str | None = None  # the item field of that step; None: the first of kind "category", or else of kind "categories"

    @field_validator("steps")
    @classmethod
    def _once(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if len(set(steps)) < len(steps):
            raise ValueError("each step is taken once")
        return steps


@dataclass(frozen=True, eq=False)
class Lists:
    """Of each of K keys up to W catalogue rows, the most telling first; 0 where there are fewer."""

    key: Ints  # [K] ascending, 0 or more
    row: Ints  # [K, W]
    weight: Floats  # [K, W]  above 0; 0 where there is no row

    def find(self, key: Ints) -> tuple[Bools, Ints]:
        """Which of these keys [n] have a list, and where the lists of those stand."""
        there = np.isin(key, self.key)
        return there, np.searchsorted(self.key, key[there]).astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Profiles:
    """Which people are of a like profile: all fields alike, then fewer of them, level by level."""

    levels: tuple[tuple[int, ...], ...]  # fields that are alike; a profile's categories come first, then its numbers
    edges: tuple[Floats, ...]  # of each number, where its bins end, standardised
    sizes: tuple[int, ...]  # values of each field, the unknown one included

    @staticmethod
    def of(sizes: tuple[int, ...], edges: tuple[Floats, ...]) -> Profiles:
        """All fields; then, one after another, without the one of the most values; then each alone, that of the most values first.

        sizes: of the categories. Fields that together allow more than PLACES profiles are no level.
        """
        sizes = (*sizes, *(len(edge) + 2 for edge in edges))
        finest = sorted(range(len(sizes)), key=lambda field: (-sizes[field], field))
        fewer = [tuple(sorted(finest[left:])) for left in range(len(finest) - 1)]
        levels = [level for level in fewer if prod(sizes[field] for field in level) <= PLACES] + [(field,) for field in finest]
        return Profiles(levels=tuple(levels), edges=edges, sizes=sizes)

    def read(self, user: Ints, number: Floats) -> Ints:
        """int64 [R, F] profiles of people: their categories, then the bin of each number; 0 where a field is not known.

        user [R, 1 + categories], the id first; number [R, 2 B], pairs of (value, missing).
        """
        pairs = [(number[:, 2 * place], number[:, 2 * place + 1] > 0) for place in range(len(self.edges))]
        bins = [np.where(missing, 0, 1 + np.searchsorted(edge, value)) for edge, (value, missing) in zip(self.edges, pairs, strict=True)]
        return np.column_stack([user[:, 1:], *bins]).astype(np.int64)

    def keys(self, level: int, profile: Ints) -> tuple[Bools, Ints]:
        """Of profiles [n, F], which know all the fields of a level, and a key that no other profile has, of any level."""
        part = profile[:, list(self.levels[level])]
        key = np.zeros(len(part), dtype=np.int64)
        for place, field in enumerate(self.levels[level]):
            key = key * self.sizes[field] + part[:, place]
        known: Bools = np.all(part > 0, axis=1)
        return known, level * PLACES + key


@dataclass(frozen=True, kw_only=True, eq=False)
class Lent:
    """What R people were lent: L events in all."""

    step: Ints  # [R] places in STEPS
    length: Ints  # [R] events lent
    row: Ints  # [L] catalogue rows, end to end; of each person the most telling last, next to their own events

    @property
    def names(self) -> tuple[str, ...]:
        """[R] the steps in words."""
        return tuple(STEPS[step] for step in self.step.tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class Lender:
    """Lists of what to lend, of a size that no log exceeds: see KEYS and LISTED."""

    config: ColdConfig
    lists: Mapping[str, Lists]  # by step; keys are catalogue rows, profiles, ids of the category field, and 0
    profiles: Profiles
    action: Ints  # [A] what else a lent event says of itself: what most events that train say
    number: Floats  # [B] their mean, or missing where most lack it
    gap: int  # milliseconds between a lent event and the next
    people: int  # who it was fitted on

    def ask(self, encoding: Encoding, user: Ints, number: Floats, item: Ints, length: Ints, most: int) -> Lent:
        """What is lent to R people. A function of each person's own facts: who else asks changes nothing.

        user [R, 1 + F] and number [R, N] as in Requests; item [E] the catalogue rows of their own events, end to end, of which each
        has `length` [R]; most: events, own and lent, that the model reads.
        """
        own = np.repeat(np.arange(len(length)), length)
        step = np.zeros(len(length), dtype=np.int64)
        waits = length < self.config.enough
        room = np.minimum(self.config.events, most - length)
        owners, rows = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for name in self.config.steps:
            if not waits.any():
                break
            mine = waits[own]
            match name:
                case "similar":
                    found = self._by_keys(name, own[mine], item[mine])
                case "profile":
                    found = self._by_profile(np.flatnonzero(waits), self.profiles.read(user, number))
                case "category":
                    found = self._by_keys(name, *self._categories(encoding, own[mine], item[mine]))
                case "popular":
                    asking = np.flatnonzero(waits)
                    found = self._by_keys(name, asking, np.zeros_like(asking))
            owner, row = _best(*found, own, item, room, encoding.catalogue.size)
            step[owner] = STEPS.index(name)
            waits = waits & (step == 0)
            owners.append(owner)
            rows.append(row)
        whose = np.concatenate(owners)
        order = np.argsort(whose, kind="stable")
        return Lent(step=step, length=np.bincount(whose, minlength=len(length)), row=np.concatenate(rows)[order])

    def lend(self, encoding: Encoding, requests: Requests, pasts: Pasts, most: int) -> tuple[Pasts, Lent]:
        """The pasts with what is lent before each one's own events; these pasts themselves where nothing is."""
        lent = self.ask(encoding, requests.user, requests.user_number, pasts.item, pasts.length, most)
        return (self._joined(pasts, lent, requests.time) if len(lent.row) else pasts), lent

    def _joined(self, pasts: Pasts, lent: Lent, now: Ints) -> Pasts:
        """Lent events are one gap apart, the last of them one before the person's first own event, or before the request."""
        people, size = np.arange(len(lent.length)), len(lent.row)
        owner = np.concatenate([np.repeat(people, lent.length), np.repeat(people, pasts.length)])
        order = np.argsort(owner, kind="stable")  # lent before own
        first = now.copy()
        some = pasts.length > 0
        first[some] = pasts.time[(np.cumsum(pasts.length) - pasts.length)[some]]
        back = np.repeat(np.cumsum(lent.length), lent.length) - np.arange(size)  # 1 is the last
        time = np.repeat(first, lent.length) - self.gap * back
        session = pasts.session
        if session is not None:  # no session of the person's own
            session = np.concatenate([np.full(size, session.min(initial=0) - 1), session])[order]
        return replace(
            pasts,
            item=np.concatenate([lent.row, pasts.item])[order],
            time=np.concatenate([time, pasts.time])[order],
            action=np.concatenate([np.tile(self.action, (size, 1)), pasts.action])[order],
            number=np.concatenate([np.tile(self.number, (size, 1)), pasts.number])[order],
            length=pasts.length + lent.length,
            chosen=None if pasts.chosen is None else np.concatenate([np.ones(size, dtype=bool), pasts.chosen])[order],
            session=session,
            lent=lent.length,
        )

    def _by_keys(self, name: str, owner: Ints, key: Ints) -> Found:
        lists = self.lists[name]
        there, place = lists.find(key)
        return owner[there], lists.row[place], lists.weight[place]

    def _by_profile(self, asking: Ints, profile: Ints) -> Found:
        """Of each the list of the first level that has one."""
        lists, owners, places = self.lists["profile"], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for level in range(len(self.profiles.levels)):
            known, key = self.profiles.keys(level, profile[asking])
            there, place = lists.find(key[known])
            owners.append(asking[known][there])
            places.append(place)
            asking = np.setdiff1d(asking, owners[-1], assume_unique=True)
        where = np.concatenate(places)
        return np.concatenate(owners), lists.row[where], lists.weight[where]

    def _categories(self, encoding: Encoding, owner: Ints, item: Ints) -> tuple[Ints, Ints]:
        """Whose and which categories, of several-valued fields all of an item's."""
        code = categories(encoding, self.config.category)
        if code is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        mine = code[item]
        there = mine > 0
        return np.broadcast_to(owner[:, None], mine.shape)[there], mine[there]

    def columns(self) -> dict[str, pa.Array]:
        """The lists as columns of one table, which `lender_from` reads."""
        some = {name: lists for name, lists in self.lists.items() if len(lists.key)}
        step = [np.full(len(lists.key), STEPS.index(name), dtype=np.int8) for name, lists in some.items()]
        row = [lists.row.astype(np.int32).reshape(-1) for lists in some.values()]
        weight = [lists.weight.reshape(-1) for lists in some.values()]
        return {
            "step": pa.array(np.concatenate([np.zeros(0, np.int8), *step])),
            "key": pa.array(np.concatenate([np.zeros(0, np.int64), *(lists.key for lists in some.values())])),
            "row": pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate([np.zeros(0, np.int32), *row])), LISTED),
            "weight": pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate([np.zeros(0, np.float32), *weight])), LISTED),
        }

    def facts(self) -> dict[str, Any]:
        """All beside the lists and the configuration, as plain values."""
        return {
            "people": self.people,
            "gap": self.gap,
            "action": self.action.tolist(),
            "number": self.number.tolist(),
            "edges": [edge.tolist() for edge in self.profiles.edges],
        }


def lender_from(config: ColdConfig, columns: pa.RecordBatch, facts: Mapping[str, Any], encoding: Encoding) -> Lender:
    """What `columns` and `facts` described. Raises ArtefactError for what does not fit the encoding."""
    step, key = columns.column("step").to_numpy(), columns.column("key").to_numpy()
    row = columns.column("row").flatten().to_numpy().reshape(-1, LISTED).astype(np.int64)
    weight = columns.column("weight").flatten().to_numpy().reshape(-1, LISTED).copy()
    lists = {}
    for name in config.steps:
        mine = step == STEPS.index(name)
        lists[str(name)] = Lists(key[mine], row[mine], weight[mine])
    lender = Lender(
        config=config,
        lists=lists,
        profiles=Profiles.of(encoding.sizes("user"), tuple(np.array(edge, dtype=np.float32) for edge in facts["edges"])),
        action=np.array(facts["action"], dtype=np.int64),
        number=np.array(facts["number"], dtype=np.float32),
        gap=int(facts["gap"]),
        people=int(facts["people"]),
    )
    sizes, numbers = np.array(encoding.sizes("action"), dtype=np.int64), encoding.numbers("action")
    right = {
        "its rows are not of this catalogue": ((row >= 0) & (row < encoding.catalogue.size)).all(),
        "its keys do not ascend": all((np.diff(one.key) > 0).all() for one in lists.values()),
        "it has lists of other steps than it takes": sum(len(one.key) for one in lists.values()) == len(step),
        "its action is not of this schema": lender.action.shape == sizes.shape and ((lender.action >= 0) & (lender.action < sizes)).all(),
        "its numbers are not of this schema": lender.number.shape == (numbers,) and 2 * len(facts["edges"]) == encoding.numbers("user"),
        "its gap is no time": lender.gap > 0,
    }
    if wrong := [says for says, holds in right.items() if not holds]:
        raise ArtefactError(f"cold: what is lent does not fit this bundle: {'; '.join(wrong)}.")
    return lender


def categories(encoding: Encoding, name: str | None) -> Ints | None:
    """int64 [V, W] the categories of each item that the step `category` speaks of, 0 where there are fewer; None: items have none.

    name: the field; None: the first of kind "category", or else of kind "categories". Raises ConfigError for no such field.
    """
    single, several = (encoding.schema.named("item", kind) for kind in ("category", "categories"))
    named = name or next(iter(single + several), None)
    if named is None:
        return None
    if named in single:
        return encoding.catalogue.code[:, single.index(named), None]
    if named in several:
        return encoding.catalogue.many[several.index(named)]
    has = ", ".join(single + several) or "none"
    raise ConfigError(f"cold.category is {named!r}, no category of items; there is {has}.{nearest(named, single + several)}")


def _best(owner: Ints, row: Ints, weight: Floats, own: Ints, item: Ints, room: Ints, size: int) -> tuple[Ints, Ints]:
    """Of each owner the rows that are most telling in all their lists together, the most telling last: owners and rows [L].

    Nothing of their own (own [E], item [E]) is among them, and no more than `room` [R]. Of equals the lower row is more telling.
    """
    there = row > 0
    pair, inverse = np.unique(np.broadcast_to(owner[:, None], row.shape)[there] * size + row[there], return_inverse=True)
    total = np.bincount(inverse, weight[there], minlength=len(pair))
    kept = ~np.isin(pair, own * size + item)
    whose, what, total = pair[kept] // size, pair[kept] % size, total[kept]
    order = np.lexsort((what, -total, whose))
    whose, what = whose[order], what[order]
    rank = np.arange(len(whose)) - np.searchsorted(whose, whose)
    near = rank < room[whose]
    whose, what, rank = whose[near], what[near], rank[near]
    turned = np.lexsort((-rank, whose))
    return whose[turned], what[turned]
