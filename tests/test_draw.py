"""Random choices as pure functions: the same each time, as good as random, and different wherever a key differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.data.draw import Permutation, below, bits, share
from penchant.encoding import Ints

KEY = st.integers(-(2**62), 2**62)


def chi_square(count: Ints) -> float:
    """How many standard deviations the statistic of a uniform draw lies from what is expected."""
    expected = count.sum() / len(count)
    free = len(count) - 1
    return float((((count - expected) ** 2 / expected).sum() - free) / np.sqrt(2 * free))


@settings(max_examples=100, deadline=None)
@given(st.lists(KEY, min_size=1, max_size=4), st.data())
def test_bits_are_pure_and_differ_by_every_key(keys: list[int], data: st.DataObject) -> None:
    drawn = bits(*keys)
    assert drawn.dtype == np.uint64
    assert drawn == bits(*keys)
    place = data.draw(st.integers(0, len(keys) - 1))
    other = data.draw(KEY.filter(lambda key: key != keys[place]))
    assert drawn != bits(*keys[:place], other, *keys[place + 1 :])
    assert drawn != bits(*keys, 0)


def test_bits_of_keys_that_broadcast_equal_one_at_a_time() -> None:
    example, place = np.array([5, 7, 1 << 40]), np.arange(4)
    together = bits(3, example[:, None], place)
    assert together.shape == (3, 4)
    assert all(together[row, column] == bits(3, int(example[row]), int(column)) for row in range(3) for column in range(4))
    assert bits(1, 2) != bits(2, 1)


def test_bits_do_not_change_from_one_release_to_the_next() -> None:
    assert [int(one) for one in bits(0, np.arange(3))] == [int(bits(0, at)) for at in range(3)]
    assert int(bits(0)) == 16294208416658607535  # SplitMix64's own first number of seed 0
    assert int(bits(0, 1, 2)) == 6768782832058643234


def test_every_bit_is_even() -> None:
    drawn = bits(1, np.arange(20_000))
    for bit in range(64):
        ones = int((drawn >> np.uint64(bit) & np.uint64(1)).sum())
        assert abs(ones - 10_000) < 5 * np.sqrt(5000)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_below_is_uniform(size: int, seed: int) -> None:
    drawn = below(size, bits(seed, np.arange(50_000)))
    assert drawn.dtype == np.int64
    assert drawn.min() == 0
    assert drawn.max() == size - 1
    if size > 1:
        assert abs(chi_square(np.bincount(drawn, minlength=size))) < 5


def test_below_and_share_at_their_ends() -> None:
    ends = np.array([0, 2**64 - 1], dtype=np.uint64)
    assert below(2**32 - 1, ends).tolist() == [0, 2**32 - 2]
    assert share(ends).tolist() == [0.0, 1 - 2.0**-53]


def test_share_is_uniform() -> None:
    drawn = share(bits(7, np.arange(50_000)))
    assert abs(chi_square(np.histogram(drawn, bins=50, range=(0, 1))[0])) < 5
    assert abs(drawn.mean() - 0.5) < 5 / np.sqrt(12 * 50_000)


@pytest.mark.parametrize("seed", [0, 5])
def test_permutations_of_every_small_size(seed: int) -> None:
    for size in range(301):
        assert sorted(Permutation(size, seed, 2)[:].tolist()) == list(range(size))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50_000), st.integers(0, 2**62), st.integers(0, 1000), st.data())
def test_permutations_of_larger_sizes(size: int, seed: int, epoch: int, data: st.DataObject) -> None:
    permutation = Permutation(size, seed, epoch)
    whole = permutation[:]
    assert np.array_equal(np.sort(whole), np.arange(size))
    begin, end = data.draw(st.integers(0, size)), data.draw(st.integers(0, 2 * size))
    assert np.array_equal(permutation[begin:end], whole[begin:end])


def test_permutations_differ_by_epoch_and_seed_and_look_shuffled() -> None:
    size = 5000
    plain = np.arange(size)
    orders = [Permutation(size, seed, epoch)[:] for seed in (0, 1) for epoch in (0, 1)]
    for at, order in enumerate(orders):
        assert np.array_equal(order, Permutation(size, at // 2, at % 2)[:])
        for other in [plain, *orders[:at]]:
            assert abs(np.corrcoef(order, other)[0, 1]) < 5 / np.sqrt(size)
            assert (order == other).sum() < 12
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 5 / np.sqrt(size)


def test_every_order_of_three_is_as_likely() -> None:
    orders = np.stack([Permutation(3, seed, 0)[:] for seed in range(3000)])
    count = np.unique(orders @ np.array([9, 3, 1]), return_counts=True)[1]
    assert len(count) == 6
    assert abs(chi_square(count)) < 5
