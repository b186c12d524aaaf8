"""Items not chosen: never one that was, every other alike, and a function of what they are for alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_draw import chi_square

from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.load import LoadConfig, Loader
from penchant.data.negatives import PARTS_OF_WINDOW, Negatives, Pool, Seen, by_category, by_life, by_popularity
from penchant.data.split import Split
from penchant.errors import ConfigError, DataError

USERS = 4
ROWS = 12
CHOSEN = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(1, ROWS - 1)), max_size=40)
POOL = st.lists(st.integers(1, ROWS - 1), min_size=1, max_size=ROWS - 1, unique=True).map(sorted)


def uniform(chosen: list[tuple[int, int]], pool: list[int], seed: int = 3, *, rows: int = ROWS, users: int = USERS) -> Negatives:
    pairs = np.array(chosen, dtype=np.int64).reshape(-1, 2)
    return Negatives(pool=Pool.of(np.array(pool)), seen=Seen(pairs[:, 0], pairs[:, 1], users=users, rows=rows), seed=seed)


@settings(max_examples=80, deadline=None)
@given(CHOSEN)
def test_seen_equals_a_set(chosen: list[tuple[int, int]]) -> None:
    seen = uniform(chosen, [1]).seen
    there = [[(user, row) in chosen for row in range(ROWS)] for user in range(USERS)]
    assert seen.has(np.arange(USERS)[:, None], np.arange(ROWS)).tolist() == there
    for user in range(USERS):
        assert seen.rows(user).tolist() == sorted({row for owner, row in chosen if owner == user})


@settings(max_examples=80, deadline=None)
@given(CHOSEN, POOL, st.integers(0, 2**40), st.integers(0, 5))
def test_never_what_was_chosen(chosen: list[tuple[int, int]], pool: list[int], example: int, epoch: int) -> None:
    negatives = uniform(chosen, pool)
    user = np.arange(USERS).repeat(3)
    drawn = negatives.draw(user, example + np.arange(len(user)), epoch, 20)
    assert drawn.shape == (len(user), 20)
    for person, row in zip(user, drawn.tolist(), strict=True):
        left = set(pool) - {item for owner, item in chosen if owner == person}
        assert set(row) <= (left or set(pool))


def test_uniform_over_what_is_left() -> None:
    negatives = uniform([(0, row) for row in range(1, 9)], list(range(1, 20)), rows=30)
    for user, left in ((0, np.arange(9, 20)), (1, np.arange(1, 20))):
        drawn = negatives.draw(np.full(4000, user), np.arange(4000), 0, 5)
        for column in (drawn[:, 0], drawn[:, 4], drawn.reshape(-1)):
            count = np.bincount(column, minlength=20)
            assert set(np.flatnonzero(count)) == set(left)
            assert abs(chi_square(count[left])) < 5


def test_uniform_for_somebody_who_has_seen_almost_all() -> None:
    left = [100, 777, 1999]
    negatives = uniform([(0, row) for row in range(1, 2000) if row not in left], list(range(1, 2000)), rows=2000)
    drawn = negatives.draw(np.zeros(3000, np.int64), np.arange(3000), 0, 2)
    assert set(np.unique(drawn)) == set(left)
    assert abs(chi_square(np.bincount(drawn.reshape(-1))[left])) < 5
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 1 / 3) < 0.05  # the two of an example are drawn apart
    whole = negatives.draw(np.zeros(6, np.int64), np.arange(6), 0, 3)
    assert np.array_equal(negatives.draw(np.zeros(2, np.int64), np.array([4, 1]), 0, 2), whole[[4, 1], :2])


def test_somebody_who_has_seen_all_gets_any() -> None:
    negatives = uniform([(0, 1), (0, 2)], [1, 2])
    drawn = negatives.draw(np.zeros(50, np.int64), np.arange(50), 0, 1)
    assert set(drawn.reshape(-1).tolist()) == {1, 2}


@settings(max_examples=40, deadline=None)
@given(CHOSEN, POOL, st.lists(st.integers(0, 19), min_size=1, max_size=12), st.integers(1, 4))
def test_a_function_of_seed_epoch_and_example_alone(chosen: list[tuple[int, int]], pool: list[int], mates: list[int], count: int) -> None:
    negatives = uniform(chosen, pool)
    user = np.arange(20) % USERS
    whole = negatives.draw(user, np.arange(20), 5, 4)
    some = np.array(mates)
    assert np.array_equal(negatives.draw(user[some], some, 5, count), whole[some, :count])


def test_differs_by_seed_epoch_example_and_place() -> None:
    user, example, pool = np.zeros(50, np.int64), np.arange(50), list(range(1, 1000))
    first = uniform([], pool, 0, rows=1000).draw(user, example, 0, 2)
    others = [
        uniform([], pool, 1, rows=1000).draw(user, example, 0, 2),
        uniform([], pool, 0, rows=1000).draw(user, example, 1, 2),
        uniform([], pool, 0, rows=1000).draw(user, example + 50, 0, 2),
        first[:, ::-1],
    ]
    assert all((first == other).sum() <= 2 for other in others)


@settings(max_examples=80, deadline=None)
@given(CHOSEN, POOL, st.integers(1, 6), st.lists(st.integers(0, 19), min_size=1, max_size=6))
def test_distinct_are_all_different_and_pure(chosen: list[tuple[int, int]], pool: list[int], count: int, mates: list[int]) -> None:
    negatives = uniform(chosen, pool)
    some = np.array(mates)
    left = [set(pool) - {item for owner, item in chosen if owner == example % USERS} for example in mates]
    short = [len(rows) for rows in left if len(rows) < count]
    if short:
        with pytest.raises(DataError) as caught:
            negatives.distinct(some % USERS, some, count)
        assert str(caught.value) == (
            f"{count} different items that a person has not chosen were wanted; one has only {short[0]} of {len(pool)} left."
        )
        return
    drawn = negatives.distinct(some % USERS, some, count)
    for row, rows in zip(drawn.tolist(), left, strict=True):
        assert len(set(row)) == count
        assert set(row) <= rows
    alone = [negatives.distinct(some[at : at + 1] % USERS, some[at : at + 1], count) for at in range(len(some))]
    assert np.array_equal(np.concatenate(alone), drawn)


def test_distinct_are_uniform_both_ways() -> None:
    for seen in (1, 15):  # with many seen, most examples are drawn from what is left, counted out
        negatives = uniform([(0, row) for row in range(1, seen)], list(range(1, 20)), rows=30)
        drawn = negatives.distinct(np.zeros(6000, np.int64), np.arange(6000), 4)
        count = np.bincount(drawn[:, 0], minlength=20)[seen:]
        assert abs(chi_square(count)) < 5
        assert abs(chi_square(np.bincount(drawn[:, 3], minlength=20)[seen:])) < 5


def test_too_few_left_for_distinct() -> None:
    negatives = uniform([(0, row) for row in range(1, 1150)], list(range(1, 1200)), rows=1200)
    with pytest.raises(DataError) as caught:
        negatives.distinct(np.array([1, 0]), np.array([0, 1]), 100)
    assert str(caught.value) == "100 different items that a person has not chosen were wanted; one has only 50 of 1,199 left."
    assert negatives.distinct(np.array([0]), np.array([0]), 50).shape == (1, 50)


def test_popularity_draws_by_power() -> None:
    row, count = np.array([1, 2, 4, 7]), np.array([0, 16, 1, 0, 81, 0, 0, 0])
    pool = by_popularity(row, count, 0.5)
    assert pool.row.tolist() == [1, 2, 4]  # row 7 was never chosen
    negatives = Negatives(pool=pool, seen=Seen(np.zeros(0, int), np.zeros(0, int), users=1, rows=8), seed=0)
    drawn = negatives.draw(np.zeros(7000, np.int64), np.arange(7000), 0, 2).reshape(-1)
    share = np.bincount(drawn, minlength=8)[[1, 2, 4]] / len(drawn)
    assert np.abs(share - np.array([4, 1, 9]) / 14).max() < 0.015
    log_q = pool.log_q(np.zeros((1, 1), np.int64), np.array([[1, 2, 4, 7]]))
    assert np.allclose(log_q, np.log([[4 / 14, 1 / 14, 9 / 14, 1 / 3]]))  # what is never drawn counts as one of three
    assert by_popularity(row, count, 0).row.tolist() == row.tolist()


def test_categories_draw_their_own() -> None:
    code = np.array([0, 1, 1, 2, 1, 0, 2, 3])  # rows 5 and 0 are of no category, 7 is alone in its own
    row = np.array([1, 2, 3, 4, 5, 7])
    pool = by_category(row, code)
    groups = [sorted(pool.of_group(group).tolist()) for group in range(pool.groups)]
    everything = row.tolist()
    assert groups == [everything, [1, 2, 4], everything, everything, everything]
    negatives = Negatives(pool=pool, seen=Seen(np.array([0, 0]), np.array([1, 2]), users=2, rows=8), seed=0)
    drawn = negatives.draw(np.array([0, 1, 1]), np.arange(3), 0, 50, np.array([1, 1, 2]))
    assert set(drawn[0].tolist()) == {4}
    assert set(drawn[1].tolist()) == {1, 2, 4}
    assert set(drawn[2].tolist()) == set(everything)
    assert np.allclose(pool.log_q(np.array([[1], [2]]), np.array([[1, 3], [1, 3]])), -np.log([[3, 3], [6, 6]]))


def test_who_has_seen_a_whole_group_gets_of_all() -> None:
    pool = by_category(np.array([1, 2, 3, 4]), np.array([0, 1, 1, 2, 2]))
    negatives = Negatives(pool=pool, seen=Seen(np.array([0, 0]), np.array([1, 2]), users=1, rows=5), seed=0)
    assert set(negatives.draw(np.array([0]), np.array([3]), 0, 60, np.array([1]))[0].tolist()) == {3, 4}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 60)), min_size=1, max_size=30))
def test_alive_is_who_had_events_in_the_window_before(events: list[tuple[int, int]]) -> None:
    item, bucket = (np.array(column) for column in zip(*events, strict=True))
    row = np.unique(item)
    pool = by_life(row, item, bucket, int(bucket.max()) + 1)
    for at in range(int(bucket.max()) + 1):
        alive = {one for one, when in events if at - PARTS_OF_WINDOW <= when < at}
        assert sorted(pool.of_group(at).tolist()) == sorted(alive or set(row.tolist())), at
    assert pool.of_group(pool.groups - 1).tolist() == row.tolist()


def test_each_sampler_in_a_loader(data: EncodedLog, split: Split) -> None:
    log, catalogue = data.log, data.encoding.catalogue
    maker = catalogue.code[:, data.encoding.schema.named("item", "category").index("maker")]
    user, row, time = log.user_of(split.train), data.rows(split.train), np.asarray(log.events["time"])
    checked, day = {"category": 0, "alive": 0}, 86_400_000
    for name in ("uniform", "popularity", "category", "alive"):
        config = read(LoadConfig, {"negatives": 6, "sampler": {"name": name, "hours": 24}})
        loader = Loader.for_training(data, split.train, config, 0)
        batch = loader.batch(loader.position, 0)
        candidates = batch.row[batch.item].numpy()
        assert batch.log_q is not None
        assert batch.log_q.shape == candidates.shape
        assert catalogue.known[candidates].all()
        for at, (own, *drawn) in zip(loader.position.tolist(), candidates.tolist(), strict=True):
            mine = set(row[user == log.user_of(np.array([at]))[0]].tolist())
            assert not mine & set(drawn)
            same = set(np.flatnonzero((maker == maker[own]) & catalogue.known).tolist()) - mine
            if name == "category" and maker[own] and same:
                assert set(drawn) <= same
                checked[name] += 1
            parts, part = ((one - time[split.train].min()) // (day // PARTS_OF_WINDOW) for one in (time[split.train], time[at]))
            alive = set(row[(parts < part) & (parts >= part - PARTS_OF_WINDOW)].tolist())
            if name == "alive" and alive - mine:
                assert set(drawn) <= alive
                checked[name] += 1
    assert min(checked.values()) > 50


def test_a_category_that_items_do_not_have(data: EncodedLog, split: Split) -> None:
    config = read(LoadConfig, {"sampler": {"name": "category", "field": "makr"}})
    with pytest.raises(ConfigError) as caught:
        Loader.for_training(data, split.train, config, 0)
    assert str(caught.value) == (
        "data.sampler 'category' needs an item field of one category; there is no 'makr', only maker. Did you mean 'maker'?"
    )
