"""The metrics against other libraries, against plain loops over all orders, and against answers known by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise, permutations, product
from math import log2

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from penchant.errors import DataError, PenchantError, UnknownNameError
from penchant.metrics import (
    Difference,
    Interval,
    Lists,
    auc,
    bootstrap,
    bootstrap_auc,
    grouped_auc,
    log_loss,
    paired,
    ranking,
    rel_improvement,
)

EXACT = 1e-12
NAMES = ("hr", "ndcg", "map", "map_r", "mrr", "recall")
Row = tuple[float, int, float, int]  # score, label, weight, group

tied = st.integers(-2, 2).map(float) | st.sampled_from([float("inf"), float("-inf")])
rows = st.lists(st.tuples(tied, st.integers(0, 1), st.floats(0.1, 10), st.integers(-2, 2)), min_size=1, max_size=40)
short = st.lists(st.tuples(st.integers(0, 2).map(float), st.integers(0, 1)), min_size=1, max_size=6)


def ranks(score: Sequence[float]) -> np.ndarray:
    """Finite scores of the same order, for the libraries that refuse infinity."""
    return np.unique(score, return_inverse=True)[1].astype(float)


# --- AUC


@given(rows)
def test_auc_is_sklearns(data: list[Row]) -> None:
    score, label, weight, _ = zip(*data, strict=True)
    if len(set(label)) == 1:
        assert np.isnan(auc(score, label))
        assert np.isnan(auc(score, label, weight))
        return
    assert auc(score, label) == pytest.approx(sk.roc_auc_score(label, ranks(score)), abs=EXACT)
    assert auc(score, label, weight) == pytest.approx(sk.roc_auc_score(label, ranks(score), sample_weight=weight), abs=EXACT)


def test_auc_by_hand() -> None:
    assert auc([1, 2, 2, 3], [0, 0, 1, 1]) == 0.875  # pairs: 1, .5, 1, 1
    assert auc([0, 0, 0], [1, 0, 1]) == 0.5
    assert auc(np.array([2, 1], np.float32), np.array([True, False])) == 1.0
    assert np.isnan(auc([], []))
    assert np.isnan(auc([1, 2], [0, 1], [1, 0]))  # the only positive weighs nothing


@given(rows, st.data())
def test_a_weight_of_n_is_the_row_given_n_times(data: list[Row], more: st.DataObject) -> None:
    score, label, _, group = (np.array(column) for column in zip(*data, strict=True))
    times = np.array(more.draw(st.lists(st.integers(0, 3), min_size=len(data), max_size=len(data))))
    repeated = [np.repeat(column, times) for column in (score, label, group)]
    assert auc(score, label, times) == pytest.approx(auc(*repeated[:2]), abs=EXACT, nan_ok=True)
    ours, wanted = grouped_auc(score, label, group, times), grouped_auc(*repeated)
    assert ours.value == pytest.approx(wanted.value, abs=EXACT, nan_ok=True)
    assert ours.auc == pytest.approx(wanted.auc, abs=EXACT)
    assert ours.size.tolist() == wanted.size.tolist()
    assert ours.group.tolist() == wanted.group.tolist()


@given(rows)
def test_grouped_auc_is_a_loop_over_sklearn(data: list[Row]) -> None:
    for weighted in (False, True):
        each, size, kept = [], [], []
        for one in sorted({row[3] for row in data}):
            score, label, weight, _ = zip(*(row for row in data if row[3] == one), strict=True)
            weight = weight if weighted else (1.0,) * len(score)
            if len(set(label)) == 2:
                all_ranks = dict(zip(score, ranks(score), strict=True))
                each.append(sk.roc_auc_score(label, [all_ranks[s] for s in score], sample_weight=weight))
                size.append(sum(weight))
                kept.append(one)
        score, label, weight, group = zip(*data, strict=True)
        ours = grouped_auc(score, label, group, weight if weighted else None)
        assert ours.auc == pytest.approx(np.array(each), abs=EXACT)
        assert ours.size == pytest.approx(np.array(size), abs=EXACT)
        assert ours.group.tolist() == kept
        assert ours.dropped == len(set(group)) - len(kept)
        assert ours.value == pytest.approx(np.average(each, weights=size) if kept else np.nan, abs=EXACT, nan_ok=True)


def test_grouped_auc_of_a_pair_each_is_pairwise_accuracy() -> None:
    positive, negative = np.random.default_rng(0).integers(0, 4, (2, 500))
    user = np.arange(500)
    ours = grouped_auc(np.append(positive, negative), [1] * 500 + [0] * 500, np.append(user, user))
    wanted = (positive > negative) + 0.5 * (positive == negative)
    assert ours.auc.tolist() == wanted.tolist()
    assert ours.value == wanted.mean()
    assert ours.dropped == 0


def test_grouped_auc_takes_names_and_many_groups_in_any_order() -> None:
    ours = grouped_auc([1, 2, 3, 1, 9], [0, 1, 0, 1, 1], ["b", "a", "a", "b", "c"])
    assert (ours.group.tolist(), ours.auc.tolist(), ours.size.tolist(), ours.dropped) == (["a", "b"], [0.0, 0.5], [2.0, 2.0], 1)
    draw = np.random.default_rng(1)
    group = draw.permutation(np.repeat(np.arange(70_000), 2))  # more groups than 16 bits can count
    score, label = draw.integers(0, 3, len(group)), draw.integers(0, 2, len(group))
    order = np.argsort(group, kind="stable")
    a, b = score[order].reshape(-1, 2).T
    up = label[order].reshape(-1, 2).T
    mixed = up[0] != up[1]
    wanted = np.where(up[0] == 1, np.sign(a - b), np.sign(b - a))[mixed] / 2 + 0.5
    ours = grouped_auc(score, label, group)
    assert ours.auc.tolist() == wanted.tolist()
    assert ours.group.tolist() == np.flatnonzero(mixed).tolist()


def test_grouped_auc_is_quick() -> None:
    draw = np.random.default_rng(2)
    score, label, group = draw.normal(size=2_000_000), draw.integers(0, 2, 2_000_000), draw.integers(0, 20_000, 2_000_000)
    began = time.perf_counter()
    ours = grouped_auc(score, label, group)
    assert time.perf_counter() - began < 3
    assert ours.size.sum() == 2_000_000
    assert ours.value == pytest.approx(0.5, abs=0.002)


@given(rows)
def test_a_group_counts_for_what_it_is_asked_to(data: list[Row]) -> None:
    score, label, weight, group = zip(*data, strict=True)
    plain, weighted = grouped_auc(score, label, group), grouped_auc(score, label, group, weight)
    for ours, weigh in ((plain, [1.0] * len(data)), (weighted, weight)):
        counts = {
            "impressions": [sum(w for w, g in zip(weigh, group, strict=True) if g == one) for one in ours.group],
            "positives": [sum(w * y for w, y, g in zip(weigh, label, group, strict=True) if g == one) for one in ours.group],
            "users": [1.0] * len(ours.group),
        }
        for by, size in counts.items():
            other = grouped_auc(score, label, group, None if ours is plain else weight, by=by)
            assert other.size == pytest.approx(np.array(size), abs=EXACT), by
            assert other.auc.tolist() == ours.auc.tolist()
            assert (other.group.tolist(), other.dropped) == (ours.group.tolist(), ours.dropped)
            assert other.value == pytest.approx(np.average(ours.auc, weights=size) if size else np.nan, abs=EXACT, nan_ok=True), by
        assert ours.value == pytest.approx(
            grouped_auc(score, label, group, None if ours is plain else weight, by="impressions").value, nan_ok=True
        )


def test_a_group_counts_by_hand() -> None:
    score, label, group = [3, 2, 1, 0, 1, 2], [1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1]  # AUC 1 of three and one, 0 of one and one
    for by, value in (("impressions", 4 / 6), ("positives", 3 / 4), ("users", 1 / 2)):
        assert grouped_auc(score, label, group, by=by).value == pytest.approx(value, abs=EXACT), by
    with pytest.raises(UnknownNameError) as caught:
        grouped_auc(score, label, group, by="user")  # type: ignore[arg-type]
    assert str(caught.value) == "'user' is not a weight of a group: there are impressions, positives, users. Did you mean 'users'?"


@pytest.mark.slow
@pytest.mark.parametrize("lie_together", [False, True])
def test_ten_million_rows_in_a_hundred_thousand_groups_cost_a_few_sorts(lie_together: bool) -> None:
    draw = np.random.default_rng(3)
    score, label = draw.normal(size=10_000_000), draw.integers(0, 2, 10_000_000)
    group = draw.integers(0, 100_000, 10_000_000)
    group = np.sort(group) if lie_together else group
    began = time.perf_counter()
    np.argsort(score)
    sort = time.perf_counter() - began
    began = time.perf_counter()
    ours = grouped_auc(score, label, group)
    assert time.perf_counter() - began < 16 * sort  # about 6 and 4 where it was measured
    assert ours.size.sum() == 10_000_000
    assert ours.value == pytest.approx(0.5, abs=0.001)


# --- log loss and RelaImpr


@given(st.lists(st.tuples(st.floats(-15, 15), st.integers(0, 1), st.floats(0.1, 10)), min_size=1, max_size=30))
def test_log_loss_is_sklearns(data: list[tuple[float, int, float]]) -> None:
    logit, label, weight = (np.array(column) for column in zip(*data, strict=True))
    chance = 1 / (1 + np.exp(-logit))
    assert log_loss(logit, label) == pytest.approx(sk.log_loss(label, chance, labels=[0, 1]), rel=1e-9)
    wanted = sk.log_loss(label, chance, labels=[0, 1], sample_weight=weight)
    assert log_loss(logit, label, weight) == pytest.approx(wanted, rel=1e-9)


def test_log_loss_does_not_overflow() -> None:
    assert log_loss([1000.0, -1000.0], [0, 1]) == 1000.0
    assert log_loss([1000.0, -1000.0, float("inf")], [1, 0, 1]) == 0.0
    assert log_loss([-50.0], [0]) == pytest.approx(np.exp(-50.0), rel=1e-12)  # 1 - sigmoid(50) is 0 in float64


@pytest.mark.parametrize(
    ("model", "base", "percent"),
    [(0.8818, 0.8624, 5.3532), (0.8871, 0.8624, 6.8157), (0.6083, 0.5970, 11.6495), (0.8698, 0.8624, 2.0419), (0.8711, 0.8624, 2.4007)],
)
def test_rel_improvement_is_the_published_one(model: float, base: float, percent: float) -> None:
    assert rel_improvement(model, base) == pytest.approx(percent, abs=5e-5)


# --- ranking


def of_one_order(label: Sequence[int], k: int) -> list[float]:
    """hr, ndcg, map, mrr and recall of labels in rank order, by the book."""
    total, hits, dcg, precision, reciprocal = sum(label), 0, 0.0, 0.0, 0.0
    for i, positive in enumerate(label[:k], 1):
        if positive:
            hits += 1
            dcg += 1 / log2(i + 1)
            precision += hits / i
            reciprocal = reciprocal or 1 / i
    ideal = sum(1 / log2(i + 1) for i in range(1, min(total, k) + 1))
    return [float(hits > 0), dcg / ideal, precision / min(total, k), precision / total, reciprocal, hits / total]


def of_all_orders(rows: Sequence[tuple[float, int]], k: int) -> np.ndarray:
    """The mean over every order of the rows in which no score rises."""
    falling = [order for order in permutations(rows) if all(a[0] >= b[0] for a, b in pairwise(order))]
    return np.mean([of_one_order([label for _, label in order], k) for order in falling], axis=0)


@settings(max_examples=150, deadline=None)
@given(st.lists(short, min_size=1, max_size=4), st.integers(1, 8), st.booleans(), st.randoms())
def test_ranking_is_the_mean_over_all_orders_of_the_ties(lists: list[list[tuple[float, int]]], k: int, mixed: bool, chance) -> None:
    flat = [(score, label, user) for user, one in enumerate(lists) for score, label in one]
    if mixed:
        chance.shuffle(flat)
    score, label, group = zip(*flat, strict=True)
    lists_of = Lists.of(score, label, group)
    ours = ranking(score, label, group, k)
    kept = [user for user, one in enumerate(lists) if any(label for _, label in one)]
    assert ours.group.tolist() == kept
    assert ours.dropped == len(lists) - len(kept)
    wanted = np.array([of_all_orders(lists[user], k) for user in kept]).reshape(-1, len(NAMES))
    for name, column in zip(NAMES, wanted.T, strict=True):
        assert getattr(ours, name) == pytest.approx(column, abs=EXACT), name
        assert getattr(lists_of.at(k), name) == pytest.approx(column, abs=EXACT), name
    for user, value in zip(lists_of.group, lists_of.auc, strict=True):
        scores, labels = zip(*lists[user], strict=True)
        assert np.isnan(value) if all(labels) else value == pytest.approx(sk.roc_auc_score(labels, scores), abs=EXACT)


def test_lists_joined_and_taken() -> None:
    draw = np.random.default_rng(7)
    score, label, group = draw.integers(0, 9, 300), draw.integers(0, 2, 300), draw.integers(0, 12, 300)
    whole = Lists.of(score, label, group)
    parts = Lists.join([Lists.of(score[mine], label[mine], group[mine]) for mine in (group < 5, group >= 5)])
    kept = draw.random(12) < 0.5
    for name in NAMES:
        assert getattr(parts.at(4), name).tolist() == getattr(whole.at(4), name).tolist()
        assert getattr(whole.take(kept).at(4), name).tolist() == getattr(whole.at(4), name)[kept].tolist()
    assert whole.take(kept).auc.tolist() == whole.auc[kept].tolist()
    assert whole.take(kept).group.tolist() == np.flatnonzero(kept).tolist()


@pytest.mark.parametrize("k", [1, 3, 10, 60])
def test_ranking_is_ir_measures_where_nothing_ties(k: int) -> None:
    draw = np.random.default_rng(k)
    group = np.repeat(np.arange(40), draw.integers(1, 50, 40))
    score = draw.permutation(len(group)).astype(float)
    label = (draw.random(len(group)) < 0.2).astype(int)
    ours = ranking(score, label, group, k)
    have = ours.group.tolist()
    named = list(zip(group, score, label, strict=True))
    qrels = [ir_measures.Qrel(str(g), str(s), int(y)) for g, s, y in named if g in have]
    run = [ir_measures.ScoredDoc(str(g), str(s), s) for g, s, _ in named if g in have]
    total = np.bincount(group, label)[have]
    theirs = {"hr": "Success", "ndcg": "nDCG", "map": "AP", "map_r": "AP", "mrr": "RR", "recall": "R"}
    for name, other in theirs.items():
        found = ir_measures.iter_calc([ir_measures.parse_measure(f"{other}@{k}")], qrels, run)
        wanted = {int(one.query_id): one.value for one in found}
        factor = total / np.minimum(total, k) if name == "map" else 1.0  # theirs divides by R alone
        assert getattr(ours, name) == pytest.approx(factor * np.array([wanted[g] for g in have]), abs=EXACT), name
    assert 0 < ours.dropped == 40 - len(have)


def test_ndcg_is_sklearns_with_ties() -> None:
    draw = np.random.default_rng(5)
    score, label = draw.integers(0, 4, (30, 25)).astype(float), draw.integers(0, 2, (30, 25))
    ours = ranking(score.ravel(), label.ravel(), np.repeat(np.arange(30), 25), 25)  # sklearn averages ties where k is whole
    assert ours.ndcg == pytest.approx([sk.ndcg_score(y[None], s[None], k=25) for s, y in zip(score, label, strict=True)], abs=EXACT)


def test_ranking_of_a_whole_catalogue_is_that_of_ragged_or_mingled_lists() -> None:
    draw = np.random.default_rng(6)
    user = np.repeat(np.arange(50), 400)
    score, label = draw.integers(0, 300, 50 * 400) + 9 * user, (draw.random(50 * 400) < 0.1).astype(int)
    label[:400] = 0
    table, ragged = ranking(score, label, user, 10), ranking(np.append(score, 0), np.append(label, 1), np.append(user, 50), 10)
    assert table.dropped == ragged.dropped >= 1
    assert table.group.tolist() == ragged.group[:-1].tolist()
    for name in NAMES:
        assert getattr(table, name).tolist() == getattr(ragged, name)[:-1].tolist()
        assert 0 < getattr(table, name).mean() < 1
    ends = np.arange(len(user)) % 400 % 399 == 0
    inner = np.flatnonzero(~ends)
    order = np.arange(len(user))
    order[inner] = draw.permutation(inner)  # each list's ends stay, so that the rows look like a table from there
    mingled = ranking(score[order], label[order], user[order], 10)
    for name in (*NAMES, "group"):
        assert getattr(mingled, name).tolist() == getattr(table, name).tolist()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=10), st.integers(1, 12))
def test_lists_of_one_are_lists(counts: list[tuple[int, int, int]], k: int) -> None:
    score, label, group = [], [], []
    for user, (above, same, below) in enumerate(counts):
        score += [2] * above + [1] * (same + 1) + [0] * below
        label += [0] * (above + same) + [1] + [0] * below
        group += [user] * (above + same + 1 + below)
    above, same, below = (np.array(column) for column in zip(*counts, strict=True))
    lists, wanted = Lists.of_one(above, same, above + same + below), ranking(score, label, group, k)
    ours = lists.at(k)
    assert lists.auc == pytest.approx(Lists.of(score, label, group).auc, abs=EXACT, nan_ok=True)
    for name in (*NAMES, "group"):
        assert getattr(ours, name) == pytest.approx(getattr(wanted, name), abs=EXACT), name
    assert ours.dropped == wanted.dropped == 0


def test_lists_of_one_by_hand() -> None:
    ours = Lists.of_one([0, 1, 9, 10, 1, 0], [0, 0, 0, 0, 1, 19], [19] * 6).at(10)  # ranks 1, 2, 10, 11, 2 or 3, and any of 1..20
    some = [sum(f(i) for i in range(1, 11)) / 20 for f in (lambda i: 1 / log2(i + 1), lambda i: 1 / i)]
    half = (1 / log2(3) + 1 / log2(4)) / 2
    assert ours.hr == pytest.approx([1, 1, 1, 0, 1, 0.5], abs=EXACT)
    assert ours.recall == pytest.approx([1, 1, 1, 0, 1, 0.5], abs=EXACT)
    assert ours.ndcg == pytest.approx([1, 1 / log2(3), 1 / log2(11), 0, half, some[0]], abs=EXACT)
    assert ours.mrr == pytest.approx([1, 1 / 2, 1 / 10, 0, 5 / 12, some[1]], abs=EXACT)
    assert ours.map == pytest.approx(ours.mrr, abs=EXACT)  # of one positive


def test_a_model_that_says_the_same_of_everything_ranks_as_chance() -> None:
    ours = ranking(np.zeros(1000), [1] + [0] * 999, np.zeros(1000), 10)
    assert ours.hr[0] == pytest.approx(0.01, abs=EXACT)
    assert Lists.of_one([0], [999], [999]).at(10).hr[0] == pytest.approx(0.01, abs=EXACT)


# --- how sure


def test_bootstrap_is_the_normal_interval_of_a_mean() -> None:
    value = np.random.default_rng(7).normal(3.0, 2.0, 2000)
    for level, z in ((0.95, 1.959964), (0.8, 1.281552)):
        ours, error = bootstrap(value, resamples=4000, level=level), value.std() / 2000**0.5
        assert ours.low == pytest.approx(value.mean() - z * error, abs=0.15 * error)
        assert ours.high == pytest.approx(value.mean() + z * error, abs=0.15 * error)


def test_bootstrap_of_a_weighted_mean_is_that_of_a_ratio_of_sums() -> None:
    draw = np.random.default_rng(8)
    weight = draw.integers(1, 50, 2000).astype(float)
    value = draw.normal(size=2000) + weight / 10
    mean = np.average(value, weights=weight)
    error = (weight * (value - mean) / weight.mean()).std() / 2000**0.5  # by the delta method
    ours = bootstrap(value, weight, resamples=4000)
    assert ours.low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert ours.high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_bootstrap_is_the_same_for_a_seed_and_no_other() -> None:
    value = np.random.default_rng(9).random(500)
    assert bootstrap(value) == bootstrap(value) != bootstrap(value, seed=1)
    assert bootstrap([2.0, 2.0, 2.0]) == Interval(2.0, 2.0)


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(10)
    inside = [one.low <= 1.0 <= one.high for one in (bootstrap(draw.exponential(size=200), resamples=300, seed=i) for i in range(400))]
    assert 0.90 < np.mean(inside) < 0.97


def test_bootstrap_auc_is_a_loop_over_sklearn() -> None:
    draw = np.random.default_rng(11)
    group = draw.integers(0, 30, 400)
    score, label = draw.integers(0, 8, 400) + group / 30, (draw.random(400) < 0.3 + group / 60).astype(int)
    chosen, values = np.random.Generator(np.random.PCG64(4)), []
    for _ in range(50):
        row = np.concatenate([np.flatnonzero(group == user) for user in chosen.integers(30, size=30)])
        values.append(sk.roc_auc_score(label[row], score[row]))
    ours = bootstrap_auc(score, label, group, resamples=50, seed=4, level=0.9)
    assert [ours.low, ours.high] == pytest.approx(np.quantile(values, [0.05, 0.95]).tolist(), abs=EXACT)
    assert ours.low < auc(score, label) < ours.high


def test_bootstrap_auc_leaves_out_resamples_of_one_class() -> None:
    assert bootstrap_auc([1, 2], [0, 1], [0, 1]) == Interval(1.0, 1.0)  # half of the resamples hold one user twice
    ends = bootstrap_auc([1, 2], [1, 1], [0, 1])
    assert np.isnan([ends.low, ends.high]).all()


def test_paired_sees_no_difference_where_there_is_none() -> None:
    a = np.random.default_rng(12).random(300)
    assert paired(a, a) == Difference(0.0, 0.0, 0.0, 1.0, 300)
    assert not paired(a, a).significant
    assert paired(a, np.roll(a, 1)).p > 0.5  # the same mean
    assert not paired(a, np.roll(a, 1)).significant


def test_paired_sees_a_clear_difference_in_either_direction() -> None:
    draw = np.random.default_rng(13)
    b = draw.random(300)
    a = b + draw.normal(0.05, 0.1, 300)
    ours, other = paired(a, b), paired(b, a)
    assert ours.significant
    assert other.significant
    assert 0 < ours.low < ours.difference < ours.high
    assert other.low < other.difference < other.high < 0
    assert ours.difference == pytest.approx(a.mean() - b.mean(), abs=EXACT)
    assert ours.p == other.p == 1 / 10_001  # none of ten thousand swaps came as far
    assert ours == paired(a, b) != paired(a, b, seed=5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=10))
def test_p_is_the_share_of_all_swaps_that_come_as_far(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column) / 10 for column in zip(*pairs, strict=True))
    each = np.array([x - y for x, y in pairs])  # in tenths, so that a tie of sums is exact
    share = np.mean([abs(np.dot(sign, each)) >= abs(each.sum()) for sign in product((-1, 1), repeat=len(each))])
    assert paired(a, b).p == pytest.approx(share, abs=0.025)


def test_p_is_even_where_nothing_differs() -> None:
    draw = np.random.default_rng(14)
    p = np.array([paired(*draw.normal(size=(2, 60)), resamples=400).p for _ in range(400)])
    assert p.min() > 0
    assert p.max() <= 1
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.08)


def test_a_weight_of_a_pair_is_its_share_of_both_means() -> None:
    draw = np.random.default_rng(8)
    a, b, weight = draw.normal(size=200), draw.normal(size=200), draw.integers(0, 4, 200)
    found = paired(a, b, weight, resamples=500)
    assert found.difference == pytest.approx((a - b) @ weight / weight.sum(), abs=EXACT)
    wanted = bootstrap(a - b, weight, resamples=500)
    assert (found.low, found.high) == (wanted.low, wanted.high)
    alike = paired(a, b, np.full(200, 3.0), resamples=500)
    assert alike.p == paired(a, b, resamples=500).p
    assert alike.difference == pytest.approx((a - b).mean(), abs=EXACT)


def test_paired_is_quick() -> None:
    a, b = np.random.default_rng(15).random((2, 6000))
    began = time.process_time()  # of this process alone: machines are shared
    assert paired(a, b).users == 6000
    assert time.process_time() - began < 4


# --- at the door

NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc([1, 2], [0, 1, 1]), "label has shape (3,): wanted (2,), that of score."),
        (lambda: auc([[1, 2]], [0, 1]), "score has shape (1, 2) and dtype int64: wanted one number a row."),
        (lambda: auc(["x"], [0]), "score has shape (1,) and dtype <U1: wanted one number a row."),
        (lambda: auc([1, NAN, NAN], [0, 1, 1]), "score holds nan at row 1, the first of 2 such in 3: wanted a number."),
        (lambda: auc([1, 2, 3], [0, 1, 2]), "label holds 2.0 at row 2, the first of 1 such in 3: wanted 0 or 1."),
        (lambda: auc([1], [NAN]), "label holds nan at row 0, the first of 1 such in 1: wanted 0 or 1."),
        (lambda: auc([1, 2], [0, 1], [1]), "weight has shape (1,): wanted (2,)."),
        (
            lambda: auc([1, 2], [0, 1], [1, -1]),
            "weight holds -1.0 at row 1, the first of 1 such in 2: wanted a finite number of at least 0.",
        ),
        (lambda: grouped_auc([1, 2], [0, 1], [0]), "group has shape (1,): wanted (2,), one for each score."),
        (lambda: log_loss([NAN], [0]), "logit holds nan at row 0, the first of 1 such in 1: wanted a number."),
        (lambda: log_loss([], []), "log_loss has no row of any weight among 0: wanted at least one."),
        (lambda: rel_improvement(0.8, 0.5), "auc_base is 0.5, which is a coin's: wanted a base that knows something."),
        (lambda: ranking([1], [1], [0], 0), "k is 0: wanted a whole number of at least 1."),
        (lambda: ranking([1], [1], [0], 2.5), "k is 2.5: wanted a whole number of at least 1."),
        (lambda: ranking([NAN], [1], [0], 1), "score holds nan at row 0, the first of 1 such in 1: wanted a number."),
        (lambda: Lists.of_one([0, 1], [0], [1, 1]), "tied has shape (1,): wanted (2,), that of above."),
        (
            lambda: Lists.of_one([0, -1], [0, 0], [1, 1]),
            "above holds -1.0 at row 1, the first of 1 such in 2: wanted a count of at least 0.",
        ),
        (lambda: Lists.of_one([0], [0.5], [1]), "tied holds 0.5 at row 0, the first of 1 such in 1: wanted a count of at least 0."),
        (lambda: Lists.of_one([0], [0], [1, 2]), "others has shape (2,): wanted (1,), that of above."),
        (lambda: bootstrap([]), "value is empty: wanted a number for each user."),
        (lambda: bootstrap([1, 2], [0, 0]), "bootstrap has no user of any weight among 2: wanted at least one."),
        (lambda: bootstrap([1], resamples=0), "resamples is 0: wanted a whole number of at least 1."),
        (lambda: bootstrap([1], level=95), "level is 95: wanted a share between 0 and 1."),
        (lambda: bootstrap_auc([], [], []), "bootstrap_auc has no rows: wanted at least one."),
        (lambda: bootstrap_auc([1], [1], [1], level=0.0), "level is 0.0: wanted a share between 0 and 1."),
        (lambda: bootstrap_auc([1], [1], [1], resamples=-1), "resamples is -1: wanted a whole number of at least 1."),
        (lambda: paired([1, 2], [1]), "b has shape (1,): wanted (2,), that of a."),
        (lambda: paired([1], [float("inf")]), "b holds inf at row 0, the first of 1 such in 1: wanted a finite number."),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value) == message
    assert isinstance(caught.value, PenchantError)
    assert isinstance(caught.value, ValueError)
