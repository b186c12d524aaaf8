"""What other libraries would say of the same arrays, against plain loops of what their sources do, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan, log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import DataError
from penchant.metrics.dialects import DIALECTS
from penchant.metrics.labelled import auc, grouped_auc

EXACT = 1e-12
NAN = float("nan")
Pair = tuple[float, int]  # score, label
Row = tuple[float, int, int]  # score, label, group

SCORES = st.sampled_from([-1.0, 0.0, 0.25, 0.5])
ROWS = st.lists(st.tuples(SCORES, st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40)
K = st.integers(1, 6)
CHANCES = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.7, 1.0]), st.integers(0, 1)), min_size=1, max_size=20)


def lists(rows: list[Row]) -> list[list[Pair]]:
    """The rows of each group, in the order in which they came."""
    return [[(score, label) for score, label, one in rows if one == group] for group in sorted({row[2] for row in rows})]


def earlier_first(rows: list[Pair]) -> list[int]:
    return [label for _, label in sorted(rows, key=lambda row: -row[0])]


def later_first(rows: list[Pair]) -> list[int]:
    upturned = rows[::-1]
    return earlier_first(upturned)


def both(rows: list[Pair]) -> bool:
    return len({label for _, label in rows}) == 2


def share_won(rows: list[Pair], tie: float) -> float:
    """The share of pairs of a positive and a negative that the positive wins; what a tie counts is given."""
    pairs = [(a, b) for a, up in rows for b, down in rows if up and not down]
    return sum(1.0 if a > b else tie if a == b else 0.0 for a, b in pairs) / len(pairs)


def share_before(labels: list[int]) -> float:
    """The same of labels in the order of a list, where nothing ties."""
    pairs = [i < j for i, up in enumerate(labels) for j, down in enumerate(labels) if up and not down]
    return sum(pairs) / len(pairs)


def of_list(labels: list[int], k: int) -> dict[str, float]:
    """The five metrics of labels in list order; recall is nan and all else 0 without a positive."""
    found = [i for i, label in enumerate(labels[:k], 1) if label]
    most = min(sum(labels), k)
    ideal = sum(1 / log2(i + 1) for i in range(1, most + 1))
    return {
        "hr": float(bool(found)),
        "ndcg": sum(1 / log2(i + 1) for i in found) / ideal if most else 0.0,
        "map": sum((n + 1) / i for n, i in enumerate(found)) / most if most else 0.0,
        "mrr": 1 / found[0] if found else 0.0,
        "recall": len(found) / sum(labels) if most else NAN,
    }


# --- each against a plain loop of its source


@given(ROWS, K)
def test_recbole(rows: list[Row], k: int) -> None:
    ours = DIALECTS["recbole"]
    users = [user for user in lists(rows) if both(user)]
    positives = [sum(label for _, label in user) for user in users]
    won = sum(n * share_won(user, 0.5) for n, user in zip(positives, users, strict=True))
    assert ours.gauc(*zip(*rows, strict=True)) == pytest.approx(won / sum(positives) if users else NAN, abs=EXACT, nan_ok=True)
    for name, at_k in ours.at_k.items():
        wanted = np.mean([of_list(earlier_first(user), k)[name] for user in lists(rows)])
        assert at_k(*zip(*rows, strict=True), k) == pytest.approx(wanted, abs=EXACT, nan_ok=True), name
    assert sorted(ours.at_k) == ["hr", "map", "mrr", "ndcg", "recall"]


@given(ROWS, K)
def test_fuxictr(rows: list[Row], k: int) -> None:
    ours = DIALECTS["fuxictr"]
    columns = list(zip(*rows, strict=True))
    users = [user for user in lists(rows) if both(user)]
    each, size = [share_won(user, 0.5) for user in users], [len(user) for user in users]
    assert ours.gauc(*columns) == pytest.approx(np.average(each, weights=size) if users else NAN, abs=EXACT, nan_ok=True)
    assert ours.also["avgAUC"](*columns) == pytest.approx(np.mean(each) if users else NAN, abs=EXACT, nan_ok=True)
    reciprocal, gain = [], []
    for user in lists(rows):
        labels = later_first(user)
        reciprocal.append(sum(label / i for i, label in enumerate(labels, 1)) / (sum(labels) + 1e-12))
        ideal = sum(label / log2(i + 1) for i, label in enumerate(sorted(labels, reverse=True)[:k], 1))
        gain.append(sum(label / log2(i + 1) for i, label in enumerate(labels[:k], 1)) / (ideal + 1e-12))
    assert ours.also["MRR"](*columns) == pytest.approx(np.mean(reciprocal), abs=1e-14)
    assert ours.at_k["ndcg"](*columns, k) == pytest.approx(np.mean(gain), abs=1e-14)
    assert sorted(ours.at_k) == ["ndcg"]


@given(ROWS, K)
def test_torchrec(rows: list[Row], k: int) -> None:
    ours = DIALECTS["torchrec"]
    columns = list(zip(*rows, strict=True))
    told = [user for user in lists(rows) if both(user) and any(score not in (0.0, user[0][0]) for score, _ in user)]
    total = sum(share_before(later_first(user)) for user in told)
    assert ours.gauc(*columns) == pytest.approx((total + 1e-9) / (len(told) + 2e-9), abs=1e-9)
    each = [share_before(earlier_first(user)) if both(user) else 0.5 for user in lists(rows)]
    assert ours.also["grouped_auc"](*columns) == pytest.approx(np.mean(each), abs=EXACT)
    pooled = [(score, label) for score, label, _ in rows]
    assert ours.auc(*columns[:2]) == pytest.approx(share_before(earlier_first(pooled)) if both(pooled) else 0.5, abs=EXACT)
    wanted = np.mean([of_list(earlier_first(user), k)["ndcg"] for user in lists(rows)])
    assert ours.at_k["ndcg"](*columns, k) == pytest.approx(wanted, abs=EXACT)
    assert sorted(ours.at_k) == ["ndcg"]


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_din(pairs: list[tuple[float, float]], chance) -> None:
    rows = [(score, label, user) for user, pair in enumerate(pairs) for score, label in zip(pair, (1, 0), strict=True)]
    chance.shuffle(rows)
    ours, columns = DIALECTS["din"], list(zip(*rows, strict=True))
    assert ours.gauc(*columns) == pytest.approx(np.mean([a > b for a, b in pairs]), abs=EXACT)
    lost = above = 0  # the authors' curve: rising scores, and at each negative the positives that lie below it
    for _, label, _ in sorted(rows, key=lambda row: row[0]):
        above += label
        lost += 0 if label else above
    assert ours.auc(*columns[:2]) == pytest.approx(1 - lost / len(pairs) ** 2, abs=EXACT)
    assert ours.auc([1, 2], [1, 1]) == ours.auc([1, 2], [0, 0]) == -0.5
    assert (ours.log_loss, dict(ours.at_k), dict(ours.also)) == (None, {}, {})


@given(ROWS, K)
def test_torch_rechub(rows: list[Row], k: int) -> None:
    ours = DIALECTS["torch-rechub"]
    columns = list(zip(*rows, strict=True))
    users = lists(rows)
    whole = all(both(user) for user in users)
    wanted = np.average([share_won(user, 0.5) for user in users], weights=[len(user) for user in users]) if whole else NAN
    assert ours.gauc(*columns) == pytest.approx(wanted, abs=EXACT, nan_ok=True)
    found, positives = sum(sum(earlier_first(user)[:k]) for user in users), sum(columns[1])
    assert ours.at_k["hr"](*columns, k) == pytest.approx(found / positives if positives else NAN, abs=EXACT, nan_ok=True)
    for name in ("ndcg", "mrr", "recall"):
        wanted = np.mean(np.nan_to_num([of_list(earlier_first(user), k)[name] for user in users]))
        assert ours.at_k[name](*columns, k) == pytest.approx(wanted, abs=EXACT), name
    assert sorted(ours.at_k) == ["hr", "mrr", "ndcg", "recall"]


@given(ROWS)
def test_where_auc_is_ours(rows: list[Row]) -> None:
    score, label, group = zip(*rows, strict=True)
    for name in ("recbole", "fuxictr", "torch-rechub"):
        assert DIALECTS[name].auc(score, label) == pytest.approx(auc(score, label), abs=EXACT, nan_ok=True), name
    assert DIALECTS["fuxictr"].gauc(score, label, group) == pytest.approx(grouped_auc(score, label, group).value, abs=EXACT, nan_ok=True)


@settings(deadline=None)
@given(CHANCES)
def test_log_loss_is_held_away_from_0_and_1_by_each_in_its_way(rows: list[Pair]) -> None:
    chance, label = zip(*rows, strict=True)
    for name, least, unit in (("recbole", 1e-15, 1.0), ("torchrec", 1e-12, log(2)), ("fuxictr", 2.0**-52, 1.0)):
        ours = DIALECTS[name].log_loss
        assert ours is not None
        if name == "fuxictr" and not both(rows):
            continue
        held = [min(max(p, least), 1 - least) for p in chance]
        wanted = -np.mean([log(p) if y else log(1 - p) for p, y in zip(held, label, strict=True)]) / unit
        assert ours(chance, label) == pytest.approx(wanted, rel=1e-12), name
    ours = DIALECTS["torch-rechub"].log_loss
    assert ours is not None
    if set(chance) & {0.0, 1.0}:
        assert not np.isfinite(ours(chance, label))
    else:
        assert ours(chance, label) == pytest.approx(DIALECTS["recbole"].log_loss(chance, label), rel=1e-12)  # type: ignore[misc]


# --- one small world, and what each says of it

#        ann: 3 of 4 pairs won     bob: 1 tied pair    cid: 1 of 2, one tied   dot: one class
SCORE = [0.9, 0.4, 0.5, 0.1, 0.3, 0.3, 0.2, 0.6, 0.6, 0.7]
LABEL = [1, 1, 0, 0, 1, 0, 0, 1, 0, 1]
USER = ["ann"] * 4 + ["bob"] * 2 + ["cid"] * 3 + ["dot"]


def test_one_world_has_a_gauc_in_every_dialect() -> None:
    def said(name: str, also: str | None = None) -> float:
        dialect = DIALECTS[name]
        return (dialect.also[also] if also else dialect.gauc)(SCORE, LABEL, USER)

    ann, bob, cid = 3 / 4, 1 / 2, 3 / 4
    assert said("fuxictr") == pytest.approx((4 * ann + 2 * bob + 3 * cid) / 9, abs=EXACT)  # by rows, as in the paper
    assert said("recbole") == pytest.approx((2 * ann + bob + cid) / 4, abs=EXACT)  # by positives
    assert said("fuxictr", "avgAUC") == pytest.approx((ann + bob + cid) / 3, abs=EXACT)  # once each
    assert said("torchrec") == pytest.approx((3 / 4 + 1 / 2) / 2, abs=1e-9)  # bob told nothing; cid's later negative wins
    assert said("torchrec", "grouped_auc") == pytest.approx((3 / 4 + 1 + 1 + 1 / 2) / 4, abs=EXACT)  # earlier wins; dot 0.5
    assert isnan(said("torch-rechub"))  # for dot has one class
    values = [said("fuxictr"), said("recbole"), said("fuxictr", "avgAUC"), said("torchrec"), said("torchrec", "grouped_auc")]
    assert len({round(value, 6) for value in values}) == 5
    for by, value in (("impressions", values[0]), ("positives", values[1]), ("users", values[2])):
        assert grouped_auc(SCORE, LABEL, USER, by=by).value == pytest.approx(value, abs=EXACT)


def test_the_order_of_rows_decides_what_torchrec_and_din_say_of_ties() -> None:
    score, user = [1.0, 1.0, 2.0, 1.0], [0, 0, 1, 1]
    first, last = [1, 0, 1, 0], [0, 1, 1, 0]  # the tied positive before its negative, and after
    assert DIALECTS["torchrec"].gauc([0.5, *score], [0, *first], [0, *user]) == pytest.approx((1 / 2 + 1) / 2, abs=1e-9)
    assert DIALECTS["torchrec"].gauc([0.5, *score], [0, *last], [0, *user]) == pytest.approx((1 + 1) / 2, abs=1e-9)
    assert DIALECTS["torchrec"].auc([1, 1], [1, 0]) == 1.0  # its AUC the other way round
    assert DIALECTS["torchrec"].auc([1, 1], [0, 1]) == 0.0
    assert DIALECTS["torchrec"].auc([1, 1 + 1e-9], [1, 0]) == 1.0  # which float32 ties
    assert DIALECTS["din"].auc([1, 1], [1, 0]) == 0.0
    assert DIALECTS["din"].auc([1, 1], [0, 1]) == 1.0
    for labels in (first, last):
        assert DIALECTS["din"].gauc(score, labels, user) == 0.5
        assert grouped_auc(score, labels, user).value == 0.75


def test_torchrec_passes_over_users_of_whom_all_that_is_said_is_0_or_what_is_said_first() -> None:
    said, other = [0.3, 0.0, 0.3], [0.0, 0.3, 0.3]  # the same scores: only where 0 comes first do they count
    label, user = [1, 0, 0], [0, 0, 0]
    assert DIALECTS["torchrec"].gauc(said, label, user) == 0.5
    assert DIALECTS["torchrec"].gauc(other, label, user) == pytest.approx(0.0, abs=1e-8)


def test_fuxictrs_lists_by_hand() -> None:
    assert DIALECTS["fuxictr"].at_k["ndcg"]([1, 1, 1], [0, 0, 1], [7, 7, 7], 1) == pytest.approx(1.0, abs=1e-11)
    assert DIALECTS["fuxictr"].at_k["ndcg"]([1, 1, 1], [1, 0, 0], [7, 7, 7], 1) == 0.0
    assert DIALECTS["fuxictr"].also["MRR"]([3, 2, 1], [1, 0, 1], [7, 7, 7]) == pytest.approx((1 + 1 / 3) / 2, abs=1e-11)


def test_every_dialect_says_where_it_was_read_and_what_it_does_otherwise() -> None:
    assert list(DIALECTS) == ["recbole", "fuxictr", "torchrec", "din", "torch-rechub"]
    for name, dialect in DIALECTS.items():
        assert ".py" in dialect.source, name
        assert len(dialect.says) >= 3, name
        assert all(line.endswith(".") for line in dialect.says), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DIALECTS["recbole"].at_k["hr"]([], [], [], 1), "score has no rows: wanted at least one."),
        (lambda: DIALECTS["recbole"].at_k["hr"]([1], [1], [1], 0), "k is 0: wanted a whole number of at least 1."),
        (
            lambda: DIALECTS["recbole"].log_loss([1.5], [1]),
            "probability holds 1.5 at row 0, the first of 1 such in 1: wanted a number from 0 to 1.",
        ),
        (lambda: DIALECTS["torchrec"].log_loss([], []), "probability has no rows: wanted at least one."),
        (
            lambda: DIALECTS["fuxictr"].log_loss([0.5, 0.5], [1, 1]),
            "label is 1 in all 2 rows: FuxiCTR's log loss (scikit-learn's) wants both classes.",
        ),
        (
            lambda: DIALECTS["din"].gauc(SCORE, LABEL, USER),
            "group ann has 2 positives and 2 negatives, the first of 3 such in 4: DIN's official GAUC wants one of each.",
        ),
        (lambda: DIALECTS["din"].gauc([], [], []), "score has no rows: wanted at least one."),
        (lambda: DIALECTS["din"].auc([NAN], [1]), "score holds nan at row 0, the first of 1 such in 1: wanted a number."),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value) == message
