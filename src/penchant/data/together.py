"""How often items are chosen side by side, and how often chance would have it.

Of everybody's choices, each item of a person once and in the person's order, two are neighbours that are at most WINDOW apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.data.log import Log
from penchant.encoding import Bools, Ints

Reals = NDArray[np.float64]

WINDOW = 10  # choices before and after: of a longer past those around say more than those of long ago, and cost no more
PAIRS = 1 << 23  # neighbours that are counted at once; about half a gigabyte


@dataclass(frozen=True, eq=False)
class Once:
    """Some events of a Log, each item of a person once, where it comes first: M of them, by person and time."""

    user: Ints  # [M]
    item: Ints  # [M]
    place: Ints  # [n] of each of the events, that of its person and item among these

    @staticmethod
    def of(log: Log, position: Ints) -> Once:
        """position: int64 [n], ascending."""
        user, item = log.user_of(position), np.asarray(log.events["item"])[position].astype(np.int64)
        _, first, pair = np.unique(user * max(len(log.items), 1) + item, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        kept = first[order]
        return Once(user[kept], item[kept], place[pair])


def together(choices: Once) -> tuple[Reals, Reals]:
    """[M] and [M]: how often others have a choice's item beside the items that are its neighbours here, and what of it chance makes.

    The choice itself is left out of all counts. Both are 0 where a choice has no neighbours, the first also where nobody else chose the
    item, or its neighbours.
    """
    user, item, size = choices.user, choices.item, len(choices.user)
    items = int(item.max(initial=0)) + 1
    count = np.bincount(user)
    end = np.cumsum(count)[user]
    begin, here = end - count[user], np.arange(size)
    low, high = np.maximum(begin, here - WINDOW), np.minimum(end, here + WINDOW + 1)
    neighbours = (high - low - 1).astype(np.float64)  # [M]
    met = np.bincount(item, neighbours, items)  # [I] neighbours of an item, in all
    own = met[item]
    running = np.concatenate([[0.0], np.cumsum(own)])
    beside = running[high] - running[low] - own  # [M] the same, summed over a choice's neighbours
    expected = (own - neighbours) * (beside - neighbours) / np.maximum(neighbours.sum() - 2 * neighbours, 1)
    observed = np.zeros(size)
    for left, right, others in _pairs(user, item, items):
        observed += np.bincount(left, others, size) + np.bincount(right, others, size)
    return observed, np.maximum(expected, 0.0)


def _pairs(user: Ints, item: Ints, items: int) -> Iterator[tuple[Ints, Ints, Reals]]:
    """Neighbours by their places, and in how many other pasts their items are neighbours; those of the same two items at once."""
    passes = 1 << max(len(user) * WINDOW // PAIRS, 0).bit_length()  # a power of two, so that a turn's pairs are known by their bits
    for turn in range(passes):
        found = [_apart(user, item, items, gap, turn, passes) for gap in range(1, WINDOW + 1)]
        left, right, key = (np.concatenate(parts) for parts in zip(*found, strict=True))
        del found
        order = np.argsort(key)
        key = key[order]
        start = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.zeros(0, np.int64)
        several = np.diff(np.append(start, len(key)))
        yield left[order], right[order], np.repeat(several - 1.0, several)


def _apart(user: Ints, item: Ints, items: int, gap: int, turn: int, passes: int) -> tuple[Ints, Ints, Ints]:
    """The neighbours that are `gap` apart and this turn's, and a number for the two items of each."""
    left = np.flatnonzero(user[gap:] == user[:-gap])
    one, other = item[left], item[left + gap]
    key = np.minimum(one, other) * items + np.maximum(one, other)
    if passes > 1:
        mine: Bools = key & (passes - 1) == turn
        left, key = left[mine], key[mine]
    return left, left + gap, key
