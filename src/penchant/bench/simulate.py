"""Made data of Amazon-Electronics' shape: who asks about what, and what each did before.

    item     long-tailed: the share of the item of rank r is like 1 / (r + 10) ** 0.8, ids in no order of popularity
    past     one a person, of geometric length with a cut-off, or of exactly the longest
    request  a person's past and one candidate: two a person, shuffled
             label 1: long-tailed too, of the category of the latest event; label 0: any item

So there is something to learn, from the candidate alone and from what of the past it resembles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from penchant.data.encoded import ranges
from penchant.encoding import Catalogue, Encoding, Floats, Ints, Vocabulary
from penchant.schema import Schema

SCHEMA = {
    "name": "made",
    "events": {"file": "events.csv"},
    "items": {"file": "items.csv", "fields": {"category": {}}},
}
FIRST = 1_356_998_400_000  # the first moment, unix milliseconds
DAY = 86_400_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """P people with one past each, laid end to end, and Q = 2 P requests about them."""

    encoding: Encoding
    start: Ints  # [P + 1]  the events of person p are start[p] : start[p + 1]
    event: Ints  # [E]      catalogue rows
    time: Ints  # [E]      unix milliseconds
    person: Ints  # [Q]
    item: Ints  # [Q]      the candidate, a catalogue row
    label: Floats  # [Q]

    @property
    def items(self) -> int:
        """How many there are."""
        return self.encoding.catalogue.size - 1

    def requests(self, step: int, size: int) -> Ints:
        """int64 [size] the requests of a step, over and over."""
        found: Ints = np.arange(step * size, (step + 1) * size) % len(self.item)
        return found

    def past(self, request: Ints) -> tuple[Ints, Ints]:
        """Where the events of these requests stand, end to end, and how many each has."""
        begin, end = self.start[self.person[request]], self.start[self.person[request] + 1]
        return ranges(begin, end - begin), end - begin


def simulate(*, users: int, items: int, categories: int, mean_past: float, longest: int, full: bool, seed: int) -> Made:
    """The same data for the same arguments."""
    random = np.random.default_rng(seed)
    row = 1 + random.permutation(items)  # of each rank
    length = np.full(users, longest) if full else np.minimum(random.geometric(1 / mean_past, users), longest)
    start = np.concatenate([[0], np.cumsum(length)])
    rank = _ranks(random, items, int(start[-1]))
    wanted = _of_category(_ranks(random, items, users), rank[start[1:] - 1] % categories, items, categories)
    order = random.permutation(2 * users)
    return Made(
        encoding=_encoding(users, items, categories, row),
        start=start,
        event=row[rank],
        time=FIRST + DAY * (np.arange(start[-1]) - np.repeat(start[:-1], length)),
        person=np.tile(np.arange(users), 2)[order],
        item=row[np.concatenate([wanted, random.integers(0, items, users)])][order],
        label=np.repeat(np.array([1, 0], np.float32), users)[order],
    )


def _ranks(random: np.random.Generator, items: int, count: int) -> Ints:
    """int64 [count] ranks, 0 the most popular."""
    share = np.cumsum((np.arange(items) + 10.0) ** -0.8)
    rank: Ints = np.searchsorted(share, random.random(count) * share[-1]).clip(max=items - 1).astype(np.int64)
    return rank


def _of_category(rank: Ints, category: Ints, items: int, categories: int) -> Ints:
    """The rank of that category next to each rank; the item of rank r is of category r % categories."""
    found = rank - rank % categories + category
    return np.where(found < items, found, category)


def _encoding(users: int, items: int, categories: int, row: Ints) -> Encoding:
    code = np.zeros((items + 1, 1), np.int64)
    code[row, 0] = 1 + np.arange(items) % categories
    catalogue = Catalogue(
        items=_numbered(items),
        title=(None,) * (items + 1),
        known=np.arange(items + 1) > 0,
        count=np.ones(items + 1, np.int64),
        code=code,
        many=(),
        length=np.zeros((items + 1, 0), np.int64),
        number=np.zeros((items + 1, 0), np.float32),
    )
    known = {"item.category": _numbered(categories)}
    return Encoding(schema=Schema.model_validate(SCHEMA), users=_numbered(users), catalogue=catalogue, vocabularies=known, scales={})


def _numbered(count: int) -> Vocabulary:
    return Vocabulary(pa.array([str(place) for place in range(1, count + 1)], pa.string()))
