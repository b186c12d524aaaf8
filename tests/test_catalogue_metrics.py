"""What lists are like beside being right: against plain loops, by hand, and what must hold of any lists."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from math import isnan, log, log2, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import DataError, PenchantError, UnknownNameError
from penchant.metrics import catalogue
from penchant.metrics.catalogue import coverage, divergence, diversity, first, gini, novelty, popularity_lift
from penchant.metrics.resample import bootstrap

EXACT = 1e-12
V = 7
CATEGORY = [4, 4, 9, 9, 9, 0, -3]
COUNT = [10, 5, 1, 0, 3, 0, 10]
VECTOR = np.array([[1.0, 0], [2, 0], [0, 1], [0, -3], [1, 1], [0, 0], [-1, 0]])

LISTS = st.lists(st.lists(st.integers(0, V - 1), max_size=6), min_size=1, max_size=6)
PEOPLE = st.lists(
    st.tuples(st.lists(st.integers(0, V - 1), max_size=6), st.lists(st.integers(0, V - 1), max_size=9)), min_size=1, max_size=6
)
Lists = Sequence[Sequence[int]]


def flat(lists: Lists) -> tuple[np.ndarray, np.ndarray]:
    """(item, start) of lists laid end to end."""
    return np.array([item for one in lists for item in one], int), np.append(0, np.cumsum([len(one) for one in lists]))


def check(ours: catalogue.PerPerson, wanted: Sequence[float | None]) -> None:
    """Whether it holds what is wanted of each person, None being nothing."""
    kept = [u for u, value in enumerate(wanted) if value is not None]
    assert ours.person.tolist() == kept
    assert ours.dropped == len(wanted) - len(kept)
    assert ours.value == pytest.approx(np.array([wanted[u] for u in kept], float), abs=1e-7)
    assert ours.mean == pytest.approx(np.mean(ours.value) if kept else np.nan, nan_ok=True)


# --- coverage and gini


@given(LISTS, st.lists(st.booleans(), min_size=V, max_size=V).filter(any))
def test_coverage_and_gini_are_plain_loops(lists: Lists, allowed: list[bool]) -> None:
    lists = [[item for item in one if allowed[item]] for one in lists]
    item, _ = flat(lists)
    often = Counter(item.tolist())
    shown = sorted(often[i] for i in range(V) if allowed[i])
    n, total = len(shown), sum(shown)
    assert coverage(item, allowed) == sum(count > 0 for count in shown) / n
    ours = gini(item, allowed)
    if n == 1 or not total:
        assert isnan(ours)
        return
    apart = sum(abs(a - b) for a in shown for b in shown) / 2  # as a mean difference
    assert ours == pytest.approx(apart / (total * (n - 1)), abs=EXACT)
    assert -EXACT <= ours <= 1 + EXACT


def test_coverage_and_gini_by_hand() -> None:
    every = np.ones(4, bool)
    assert coverage([0, 1, 1, 0], every) == 0.5
    assert gini([0, 1, 2, 3, 3, 2, 1, 0], every) == pytest.approx(0.0, abs=EXACT)
    assert gini([2, 2, 2], every) == pytest.approx(1.0, abs=EXACT)
    assert gini([0, 0, 0, 1], [True, True, False, False]) == pytest.approx(0.5)  # (-1 * 1/4 + 1 * 3/4) / 1
    assert coverage(np.array([], int), every) == 0.0


def test_first_cuts_each_list() -> None:
    lists = [[5, 1, 2], [], [3], [6, 6, 0, 1]]
    item, start = first(*flat(lists), 2)
    assert (item.tolist(), start.tolist()) == ([5, 1, 3, 6, 6], [0, 2, 2, 3, 5])
    whole = first(*flat(lists), 9)
    assert [part.tolist() for part in whole] == [part.tolist() for part in flat(lists)]


# --- popularity


@given(PEOPLE)
def test_popularity_lift_is_a_plain_loop(people: list[tuple[list[int], list[int]]]) -> None:
    lists, pasts = zip(*people, strict=True)
    ours = popularity_lift(*flat(lists), *flat(pasts), COUNT)
    kept = [u for u, (one, past) in enumerate(people) if one and past]
    shown = [np.mean([COUNT[i] for i in lists[u]]) for u in kept]
    chosen = [np.mean([COUNT[i] for i in pasts[u]]) for u in kept]
    change = [np.mean([log(1 + COUNT[i]) for i in lists[u]]) - np.mean([log(1 + COUNT[i]) for i in pasts[u]]) for u in kept]
    assert ours.person.tolist() == kept
    assert ours.dropped == len(people) - len(kept)
    assert ours.shown == pytest.approx(shown, abs=EXACT)
    assert ours.past == pytest.approx(chosen, abs=EXACT)
    assert ours.log_shown - ours.log_past == pytest.approx(change, abs=EXACT)
    assert ours.ratio == pytest.approx(np.mean(shown) / np.mean(chosen) if any(chosen) else np.nan, nan_ok=True)
    assert ours.log == pytest.approx(np.mean(change) if kept else np.nan, abs=EXACT, nan_ok=True)


def test_lists_that_are_the_pasts_lift_nothing() -> None:
    pasts = flat([[0, 1, 1], [4, 2], [6]])
    ours = popularity_lift(*pasts, *pasts, COUNT)
    assert (ours.ratio, ours.log) == (1.0, 0.0)
    more = popularity_lift(*flat([[0, 0], [6], [0]]), *pasts, COUNT)
    assert more.ratio == pytest.approx(10 / ((20 / 3 + 2 + 10) / 3))
    inside = bootstrap(more.shown / more.past, more.past, resamples=500)
    assert inside.low <= more.ratio <= inside.high


@given(LISTS)
def test_novelty_is_a_plain_loop(lists: Lists) -> None:
    ours = novelty(*flat(lists), COUNT, 20)
    check(ours, [np.mean([-log2(max(COUNT[i], 1) / 20) for i in one]) if one else None for one in lists])
    assert np.all(ours.value >= 0)
    assert np.all(ours.value <= log2(20) + EXACT)


def test_novelty_by_hand() -> None:
    check(novelty([0, 1, 2], [0, 2, 3], [8, 4, 1], 8), [0.5, 3.0])
    check(novelty([0], [0, 1], [8], 8), [0.0])  # what everybody has says nothing


# --- diversity


@given(LISTS)
def test_diversity_is_a_mean_over_pairs(lists: Lists) -> None:
    def cosine(a: int, b: int) -> float:
        length = np.linalg.norm(VECTOR[a]) * np.linalg.norm(VECTOR[b])
        return float(VECTOR[a] @ VECTOR[b] / length) if length else 0.0

    kinds = [np.mean([CATEGORY[a] != CATEGORY[b] for a, b in combinations(one, 2)]) if len(one) > 1 else None for one in lists]
    check(diversity(*flat(lists), category=CATEGORY), kinds)
    angles = [np.mean([1 - cosine(a, b) for a, b in combinations(one, 2)]) if len(one) > 1 else None for one in lists]
    for dtype in (np.float64, np.float32):
        ours = diversity(*flat(lists), vector=VECTOR.astype(dtype))
        check(ours, angles)
        assert np.all((ours.value >= 0) & (ours.value <= 2))


@given(LISTS, st.floats(0.1, 100), st.integers(1, 12))
def test_diversity_knows_neither_order_nor_length_nor_block(lists: Lists, scale: float, block: int) -> None:
    turned = [one[::-1] for one in lists]
    wanted = diversity(*flat(lists), vector=VECTOR).value
    assert diversity(*flat(turned), vector=VECTOR * scale).value == pytest.approx(wanted, abs=1e-9)
    assert diversity(*flat(turned), category=CATEGORY).value == pytest.approx(diversity(*flat(lists), category=CATEGORY).value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "BLOCK", block)
        assert diversity(*flat(lists), vector=VECTOR).value == pytest.approx(wanted, abs=1e-9)


def test_diversity_by_hand() -> None:
    check(diversity([0, 1, 2, 0, 6, 5], [0, 3, 5, 6], category=CATEGORY), [2 / 3, 1.0, None])
    check(diversity([0, 1, 0, 6, 0, 2, 0, 5], [0, 2, 4, 6, 8], vector=VECTOR), [0.0, 2.0, 1.0, 1.0])


# --- divergence


@settings(deadline=None)
@given(PEOPLE, st.sampled_from([0.01, 0.3]))
def test_divergence_is_a_plain_loop(people: list[tuple[list[int], list[int]]], alpha: float) -> None:
    lists, pasts = zip(*people, strict=True)
    kl: list[float | None] = []
    hellinger: list[float | None] = []
    for one, past in people:
        if not one or not past:
            kl.append(None)
            hellinger.append(None)
            continue
        shares = [([CATEGORY[i] for i in past].count(c) / len(past), [CATEGORY[i] for i in one].count(c) / len(one)) for c in set(CATEGORY)]
        kl.append(sum(p * log(p / ((1 - alpha) * q + alpha * p)) for p, q in shares if p))
        hellinger.append(sqrt(sum((sqrt(p) - sqrt(q)) ** 2 for p, q in shares)) / sqrt(2))
    ours = divergence(*flat(lists), *flat(pasts), CATEGORY, alpha=alpha)
    check(ours, kl)
    assert np.all((ours.value >= 0) & (ours.value <= -log(alpha) + EXACT))
    ours = divergence(*flat(lists), *flat(pasts), CATEGORY, distance="hellinger", alpha=alpha)
    check(ours, hellinger)
    assert np.all((ours.value >= 0) & (ours.value <= 1))


def test_divergence_by_hand() -> None:
    lists, pasts = flat([[0, 2], [0, 0], [6]]), flat([[2, 1, 0, 3], [2, 3], [6, 6, 6]])
    check(divergence(*lists, *pasts, CATEGORY), [0.0, -log(0.01), 0.0])
    check(divergence(*lists, *pasts, CATEGORY, distance="hellinger"), [0.0, 1.0, 0.0])
    steck = divergence([0, 1, 1, 1], [0, 4], [0] * 7 + [1] * 3, [0, 10], [0, 1])  # 70 to 30 in the past, 25 to 75 shown
    q = [0.99 * 0.25 + 0.01 * 0.7, 0.99 * 0.75 + 0.01 * 0.3]
    check(steck, [0.7 * log(0.7 / q[0]) + 0.3 * log(0.3 / q[1])])


@given(PEOPLE, st.permutations(range(4)))
def test_divergence_knows_categories_by_what_they_share_alone(people: list[tuple[list[int], list[int]]], order: list[int]) -> None:
    lists, pasts = zip(*people, strict=True)
    renamed = [order[sorted(set(CATEGORY)).index(c)] * 1000 for c in CATEGORY]
    for distance in ("kl", "hellinger"):
        ours = divergence(*flat(lists), *flat(pasts), renamed, distance=distance)
        wanted = divergence(*flat(lists), *flat(pasts), CATEGORY, distance=distance)
        assert ours.value == pytest.approx(wanted.value, abs=1e-7)
    twice = divergence(*flat([one * 2 for one in lists]), *flat([past * 3 for past in pasts]), CATEGORY)
    assert twice.value == pytest.approx(divergence(*flat(lists), *flat(pasts), CATEGORY).value, abs=EXACT)


# --- of all


def test_thirty_thousand_lists_are_quick() -> None:
    draw = np.random.default_rng(0)
    people, size = 30_000, 20_000
    item, start = draw.integers(0, size, people * 10), np.arange(people + 1) * 10
    past, since = draw.integers(0, size, people * 30), np.arange(people + 1) * 30
    count, category, vector = draw.integers(1, 500, size), draw.integers(0, 300, size), draw.normal(size=(size, 32)).astype(np.float32)
    began = time.perf_counter()
    np.sort(past)
    np.argsort(past, kind="stable")
    unit = time.perf_counter() - began
    began = time.perf_counter()
    coverage(item, np.ones(size, bool)), gini(item, np.ones(size, bool)), novelty(item, start, count, 500)
    popularity_lift(item, start, past, since, count), diversity(item, start, category=category)
    apart = diversity(item, start, vector=vector)
    far = divergence(item, start, past, since, category)
    assert time.perf_counter() - began < 20 * unit
    assert apart.mean == pytest.approx(1.0, abs=0.01)
    assert 0 < far.mean < -log(0.01)


def test_nobody_has_no_mean() -> None:
    none = np.array([], int), np.array([0])
    for ours in (novelty(*none, COUNT, 20), diversity(*none, category=CATEGORY), divergence(*none, *none, CATEGORY)):
        assert isnan(ours.mean)
        assert (len(ours.value), ours.dropped) == (0, 0)
    assert isnan(popularity_lift(*none, *none, COUNT).ratio)
    assert isnan(diversity([0], [0, 1, 1], vector=VECTOR).mean)


# --- at the door


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: coverage([0, 9], np.ones(3, bool)),
            "item holds 9.0 at row 1, the first of 1 such in 2: wanted a place in the catalogue of 3.",
        ),
        (
            lambda: coverage([0, -1], np.ones(3, bool)),
            "item holds -1.0 at row 1, the first of 1 such in 2: wanted a place in the catalogue of 3.",
        ),
        (lambda: coverage([0.5], np.ones(3, bool)), "item has shape (1,) and dtype float64: wanted a whole number a row."),
        (lambda: coverage([[1, 0]], np.ones(3, bool)), "item has shape (1, 2) and dtype int64: wanted a whole number a row."),
        (lambda: gini([0, 1], [True, False]), "item holds 1.0 at row 1, the first of 1 such in 2: wanted a recommendable item."),
        (lambda: gini([0], [1, 0]), "recommendable has shape (2,) and dtype int64: wanted bool [V]."),
        (lambda: gini([0], [False, False]), "recommendable is False for all of 2 items: wanted at least one."),
        (lambda: first([0, -1], [0, 2], 1), "item holds -1.0 at row 1, the first of 1 such in 2: wanted a place in the catalogue."),
        (lambda: first([0], [0, 1], 0), "k is 0: wanted a whole number of at least 1."),
        (lambda: first([0, 1], [0, 1], 1), "the start of item goes from 0 to 1: wanted 0 to 2, never falling."),
        (lambda: first([0, 1], [0, 2, 1, 2], 1), "the start of item goes from 0 to 2: wanted 0 to 2, never falling."),
        (lambda: first([0, 1], [], 1), "the start of item has shape (0,) and dtype float64: wanted whole numbers [U + 1]."),
        (lambda: popularity_lift([0], [0, 1], [0], [0, 1, 1], COUNT), "past_start is of 2 people and start of 1: wanted the same people."),
        (
            lambda: popularity_lift([0], [0, 1], [7], [0, 1], COUNT),
            "past holds 7.0 at row 0, the first of 1 such in 1: wanted a place in the catalogue of 7.",
        ),
        (
            lambda: popularity_lift([0], [0, 1], [0], [0, 1], [-1]),
            "count holds -1.0 at row 0, the first of 1 such in 1: wanted a count of at least 0.",
        ),
        (lambda: novelty([0], [0, 1], COUNT, 9), "count holds 10.0 at row 0, the first of 2 such in 7: wanted at most the total, 9."),
        (lambda: novelty([0], [0, 1], COUNT, 0), "total is 0: wanted a whole number of at least 1."),
        (lambda: diversity([0], [0, 1]), "diversity wants either category or vector, one of the two."),
        (lambda: diversity([0], [0, 1], category=CATEGORY, vector=VECTOR), "diversity wants either category or vector, one of the two."),
        (lambda: diversity([0], [0, 1], category=[0.5]), "category has shape (1,) and dtype float64: wanted a whole number for each item."),
        (lambda: diversity([0], [0, 1], vector=np.ones(3)), "vector has shape (3,) and dtype float64: wanted floats [V, D]."),
        (
            lambda: diversity([0], [0, 1], vector=np.array([[1.0], [np.nan]])),
            "vector holds nan at row 1, the first of 1 such in 2: wanted a vector of finite length.",
        ),
        (lambda: divergence([0], [0, 1], [0], [0, 1], CATEGORY, alpha=1.0), "alpha is 1.0: wanted a share between 0 and 1."),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value) == message
    assert isinstance(caught.value, PenchantError)


def test_an_unknown_distance_is_named() -> None:
    with pytest.raises(UnknownNameError) as caught:
        divergence([0], [0, 1], [0], [0, 1], CATEGORY, distance="k")  # type: ignore[arg-type]
    assert str(caught.value) == "'k' is not a distance of shares: there are kl, hellinger. Did you mean 'kl'?"
