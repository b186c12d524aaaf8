"""Random choices as pure functions of what they are for: no state, no order, no dependence on who asks.

`bits(seed, epoch, example, ...)` hashes its keys with the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014),
so that what an example looks like depends neither on its batch, nor on where a run was interrupted, nor on how many
processes share the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.encoding import GOLDEN, Ints, mix

Bits = NDArray[np.uint64]

ROUNDS = 6  # of the Feistel network; four are known to suffice for a random-looking permutation


def bits(*keys: int | Ints) -> Bits:
    """uint64 random bits for every combination of the keys, which broadcast together."""
    state: Any = np.uint64(0)
    with np.errstate(over="ignore"):
        for key in keys:
            state = mix((state ^ np.asarray(key, dtype=np.int64).astype(np.uint64)) + GOLDEN)
    return np.asarray(state)


def below(size: int | Ints, random: Bits) -> Ints:
    """int64 uniform in [0, size), size < 2^32, from random bits; the two broadcast together."""
    bound = np.asarray(size).astype(np.uint64)
    return np.asarray((random >> np.uint64(32)) * bound >> np.uint64(32)).astype(np.int64)


def share(random: Bits) -> NDArray[np.float64]:
    """float64 uniform in [0, 1) from random bits."""
    return (random >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Permutation:
    """A shuffle of 0 ... size - 1 of which any part can be had without the rest: a Feistel network that walks its cycles."""

    size: int
    seed: int
    epoch: int

    @cached_property
    def _half(self) -> int:
        return max(1, (max(self.size - 1, 1).bit_length() + 1) // 2)

    def __getitem__(self, part: slice) -> Ints:
        value = np.arange(*part.indices(self.size), dtype=np.int64)
        outside = np.ones(len(value), dtype=bool)
        while outside.any():
            value[outside] = self._step(value[outside])
            outside[outside] = value[outside] >= self.size
        return value

    def _step(self, value: Ints) -> Ints:
        mask = (1 << self._half) - 1
        left, right = value >> self._half, value & mask
        for turn in range(ROUNDS):
            left, right = right, left ^ (bits(self.seed, self.epoch, turn, right).astype(np.int64) & mask)
        return left << self._half | right
