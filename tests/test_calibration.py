"""Whether probabilities come true, and what makes them: against scikit-learn, plain loops, and worlds whose rate is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from penchant.calibration import Calibration, Identity, Isotonic, Platt, Prior, calibration_from, fit_isotonic, fit_platt, prior_shift
from penchant.errors import ArtefactError, DataError, PenchantError, UnknownNameError
from penchant.metrics.calibration import calibration_error, predicted_over_observed
from penchant.metrics.labelled import log_loss
from penchant.metrics.resample import bootstrap

EXACT = 1e-12
NAN = float("nan")
Row = tuple[float, int, int]  # probability or logit, label, weight

CHANCES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0]), st.integers(0, 1), st.integers(1, 3)), min_size=1, max_size=30
)
LOGITS = st.lists(st.tuples(st.integers(-6, 6).map(lambda x: x / 2), st.integers(0, 1), st.integers(1, 4)), min_size=1, max_size=40)
KEEPERS = st.sampled_from(
    [
        Identity(),
        Prior(-3.25),
        Platt(0.3, 1.0),
        Platt(7.0, -2.0),
        Isotonic(np.array([-1.0, 0.0, 0.1, 4.0]), np.array([0.1, 0.1, 0.6, 0.61])),
        Isotonic(np.array([0.5]), np.array([0.2])),
    ]
)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def logit_of(p: NDArray[np.floating]) -> NDArray[np.float64]:
    p = p.astype(np.float64)
    return np.log(p) - np.log1p(-p)


# --- calibration_error


def table(rows: list[Row], bins: int, equal: str) -> list[tuple[float, float, float, float, float]]:
    """predicted, observed, size, low and high of each bin with rows, by a plain loop over the distinct probabilities."""
    total, before = sum(weight for _, _, weight in rows), 0.0
    found: dict[int, list[Row]] = {}
    for chance in sorted({row[0] for row in rows}):
        some = [row for row in rows if row[0] == chance]
        size = sum(row[2] for row in some)
        middle = (before + size / 2) / total if equal == "mass" else chance
        found.setdefault(min(int(middle * bins), bins - 1), []).extend(some)
        before += size
    return [
        (
            sum(p * w for p, _, w in some) / sum(w for *_, w in some),
            sum(y * w for _, y, w in some) / sum(w for *_, w in some),
            sum(w for *_, w in some),
            some[0][0],
            some[-1][0],
        )
        for some in found.values()
    ]


@given(CHANCES, st.integers(1, 8), st.sampled_from(["mass", "width"]))
def test_calibration_error_is_a_plain_loop(rows: list[Row], bins: int, equal: str) -> None:
    ours = calibration_error(*zip(*[row[:2] for row in rows], strict=True), bins, [row[2] for row in rows], equal=equal)
    wanted = table(rows, bins, equal)
    for name, column in zip(("predicted", "observed", "size", "low", "high"), zip(*wanted, strict=True), strict=True):
        assert getattr(ours, name) == pytest.approx(column, abs=EXACT), name
    total = sum(row[2] for row in rows)
    assert ours.value == pytest.approx(sum(size * abs(p - y) for p, y, size, *_ in wanted) / total, abs=EXACT)
    assert 0 <= ours.value <= 1


@given(CHANCES, st.integers(1, 8), st.sampled_from(["mass", "width"]), st.randoms(use_true_random=False))
def test_a_weight_of_n_is_the_row_given_n_times_in_any_order(rows: list[Row], bins: int, equal: str, chance) -> None:
    ours = calibration_error(*zip(*[row[:2] for row in rows], strict=True), bins, [row[2] for row in rows], equal=equal)
    many = [row[:2] for row in rows for _ in range(row[2])]
    chance.shuffle(many)
    other = calibration_error(*zip(*many, strict=True), bins, equal=equal)
    assert ours.value == pytest.approx(other.value, abs=EXACT)
    assert ours.size.tolist() == other.size.tolist()
    assert predicted_over_observed([1.0, *[row[0] for row in rows]], [1, *[row[1] for row in rows]], [1, *[row[2] for row in rows]]) == (
        pytest.approx(predicted_over_observed(*zip((1.0, 1), *many, strict=True)), abs=EXACT)
    )


def test_calibration_error_by_hand() -> None:
    chance, label = [0.1, 0.2, 0.6, 0.7, 0.7, 0.7], [0, 1, 0, 1, 1, 0]
    mass, width = calibration_error(chance, label, 2), calibration_error(chance, label, 2, equal="width")
    assert mass.size.tolist() == [3.0, 3.0]
    assert mass.predicted.tolist() == pytest.approx([0.3, 0.7])
    assert mass.observed.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert mass.value == pytest.approx(1 / 30)
    assert width.size.tolist() == [2.0, 4.0]
    assert width.value == pytest.approx((2 * abs(0.15 - 0.5) + 4 * abs(0.675 - 0.5)) / 6)
    assert (width.low.tolist(), width.high.tolist()) == ([0.1, 0.6], [0.2, 0.7])
    assert calibration_error([0.5, 1.0], [0, 1], 2, equal="width").size.tolist() == [2.0]  # the lower end is within, and 1 too
    assert calibration_error(np.arange(30) / 30, np.zeros(30)).size.tolist() == [2.0] * 15


def test_tied_probabilities_are_one_bin() -> None:
    ours = calibration_error([0.5] * 100 + [0.6], [1] * 30 + [0] * 70 + [1], 10)
    assert ours.size.tolist() == [100.0, 1.0]
    assert ours.value == pytest.approx((100 * 0.2 + 0.4) / 101)


def test_what_is_calibrated_has_a_small_error_and_what_is_not_has_its_own() -> None:
    draw = np.random.default_rng(0)
    chance = draw.random(200_000)
    label = draw.random(200_000) < chance
    assert calibration_error(chance, label).value < 0.005
    assert calibration_error(chance**2, label).value == pytest.approx(1 / 6, abs=0.005)  # the mean of p - p^2
    assert predicted_over_observed(chance, label) == pytest.approx(1.0, abs=0.01)
    assert predicted_over_observed(chance**2, label) == pytest.approx(2 / 3, abs=0.01)


def test_predicted_over_observed_by_hand() -> None:
    assert predicted_over_observed([0.5, 0.25], [1, 0]) == 0.75
    assert predicted_over_observed([0.5, 0.25], [1, 0], [1, 6]) == 2.0


# --- what every calibration keeps


@given(KEEPERS, st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=30))
def test_a_calibration_never_turns_two_logits_round(keeper: Calibration, logits: list[float]) -> None:
    for dtype in (np.float32, np.float64):
        x = np.sort(np.array(logits, dtype))
        p = keeper.probability(x)
        assert p.dtype == dtype
        assert np.all(np.diff(p) >= 0)
        assert np.all((p >= 0) & (p <= 1))


@given(KEEPERS, st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_a_calibration_comes_back_from_json_bit_for_bit(keeper: Calibration, logits: list[float]) -> None:
    other = calibration_from(json.loads(json.dumps(keeper.as_dict())))
    assert type(other) is type(keeper)
    assert other.as_dict() == keeper.as_dict()
    assert other.probability(logits).tolist() == keeper.probability(logits).tolist()


def test_probability_by_hand() -> None:
    assert Identity().probability([0.0, log(3)]).tolist() == pytest.approx([0.5, 0.75])
    assert Prior(log(3)).probability([0.0, log(3)]).tolist() == pytest.approx([0.75, 0.9])
    assert Platt(2.0, -1.0).probability([[0.5], [1.0]]).tolist() == [[0.5], [pytest.approx(1 / (1 + np.exp(-1)))]]
    steps = Isotonic(np.array([0.0, 2.0, 3.0]), np.array([0.2, 0.4, 0.4]))
    assert steps.probability([-9, 0, 0.5, 1, 2, 2.5, 3, 9]).tolist() == pytest.approx([0.2, 0.2, 0.25, 0.3, 0.4, 0.4, 0.4, 0.4])
    ends = np.array([-np.inf, -1000.0, 1000.0, np.inf])
    assert Identity().probability(ends).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert steps.probability(ends).tolist() == [0.2, 0.2, 0.4, 0.4]
    assert Identity().probability(3).shape == ()


def test_a_line_does_not_end_above_the_next_point_by_rounding() -> None:
    """0.158... + (0.687... - 0.158...) is more than 0.687..., and the way to the last logit but one is all of it."""
    ends = np.array([-132.10486329130188, 125.7302210933933])
    ours = Isotonic(ends, np.array([0.15847591438814906, 0.687914521389034]))
    last = ours.probability([np.nextafter(ends[1], 0), ends[1] + 1])
    assert np.all(np.diff(last) >= 0)
    assert last.max() == 0.687914521389034


# --- Prior


def test_prior_shift_is_the_published_formula() -> None:
    p = np.linspace(0.01, 0.99, 50)
    for w in (0.01, 0.5):
        assert prior_shift(1.0, w).probability(logit_of(p)) == pytest.approx(p / (p + (1 - p) / w), abs=EXACT)
    assert prior_shift(0.2, 0.2).shift == 0.0
    assert prior_shift(0.5, 1.0).shift == pytest.approx(log(2))
    assert prior_shift(2.0, 1.0).shift == pytest.approx(-log(2))  # every positive given twice


def test_prior_finds_the_rate_of_a_world_whose_negatives_were_sampled() -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=300_000)
    label = draw.random(len(x)) < sigmoid(1.2 * x - 4.0)
    rate = bootstrap(label.astype(float), resamples=400, level=0.99)
    kept = label | (draw.random(len(x)) < 0.05)
    model = LogisticRegression(C=np.inf).fit(x[kept, None], label[kept])
    said = model.decision_function(x[:, None])
    assert Identity().probability(said).mean() > 5 * rate.high
    right = prior_shift(1.0, 0.05).probability(said)
    assert rate.low < right.mean() < rate.high
    assert calibration_error(right, label).value < 0.002
    assert predicted_over_observed(right, label) == pytest.approx(1.0, abs=0.03)


# --- Platt


@pytest.mark.parametrize("seed", range(5))
def test_platt_without_smoothing_is_sklearns_logistic_regression(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.normal(3.0, 10.0 ** draw.uniform(-2, 2), 2000)
    label = (draw.random(2000) < sigmoid((x - x.mean()) / x.std() * draw.uniform(0.3, 3) + draw.uniform(-2, 2))).astype(int)
    weight = draw.integers(0, 4, 2000)
    for w in (None, weight):
        ours = fit_platt(x, label, w, smooth=False)
        z = (x - x.mean()) / x.std()
        theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[:, None], label, w)
        assert ours.probability(x) == pytest.approx(theirs.predict_proba(z[:, None])[:, 1], abs=1e-6)
        assert predicted_over_observed(ours.probability(x), label, w) == pytest.approx(1.0, abs=1e-9)  # as at any maximum
        assert log_loss(ours.a * x + ours.b, label, w) < log_loss(x, label, w)


@settings(deadline=None)
@given(LOGITS)
def test_platt_is_where_no_step_lowers_the_loss(rows: list[Row]) -> None:
    x, label, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    many, rest = weight @ label, weight @ (1 - label)
    target = np.where(label == 1, (many + 1) / (many + 2), 1 / (rest + 2))

    def slack(a: float, b: float) -> NDArray[np.float64]:
        off = weight * (sigmoid(a * x + b) - target)
        return np.array([off @ x, off.sum()])

    if not many or not rest or len(set(x)) == 1:
        return
    way = slack(0.0, log(weight @ target / (weight @ (1 - target))))[0]  # from the best flat line: the loss is convex
    if abs(way) < 1e-6:
        return
    if way > 0:
        with pytest.raises(DataError, match="the slope is -"):
            fit_platt(x, label, weight)
        return
    ours = fit_platt(x, label, weight)
    assert slack(ours.a, ours.b) == pytest.approx([0, 0], abs=1e-7 * len(x))
    again = fit_platt(np.repeat(x, weight.astype(int)), np.repeat(label, weight.astype(int)))
    assert (again.a, again.b) == pytest.approx((ours.a, ours.b), rel=1e-6, abs=1e-6)


def test_platt_has_a_line_where_the_logits_part_the_classes() -> None:
    ours = fit_platt([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    assert 0 < ours.a < 10
    assert ours.probability([-1.5, 1.5]) == pytest.approx([0.25, 0.75], abs=0.05)  # (P + 1) / (P + 2) of P = 2


def test_platt_mends_what_is_too_sure() -> None:
    draw = np.random.default_rng(2)
    truth = draw.normal(-1, 1.5, 50_000)
    label = draw.random(50_000) < sigmoid(truth)
    said = 2.5 * truth + 1.0
    ours = fit_platt(said, label)
    assert (ours.a, ours.b) == pytest.approx((0.4, -0.4), abs=0.02)
    assert calibration_error(ours.probability(said), label).value < 0.01 < 0.1 < calibration_error(sigmoid(said), label).value


# --- Isotonic


@pytest.mark.parametrize("seed", range(8))
def test_isotonic_is_sklearns(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 3000))
    x = draw.normal(size=n) if seed % 2 else draw.integers(-20, 20, n) / 4
    label, weight = (draw.random(n) < sigmoid(2 * x)).astype(int), draw.uniform(0.1, 3, n)
    for w in (None, weight):
        ours = fit_isotonic(x, label, w, least=0.0)
        theirs = IsotonicRegression(out_of_bounds="clip").fit(x, label, w)
        assert ours.probability(x) == pytest.approx(theirs.predict(x), abs=1e-9)
        grid = np.linspace(x.min() - 1, x.max() + 1, 501)
        assert ours.probability(grid) == pytest.approx(theirs.predict(grid), abs=1e-9)


@given(LOGITS)
def test_isotonic_is_the_greatest_of_least_means(rows: list[Row]) -> None:
    x, label, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    points = np.unique(x)
    size = np.array([weight[x == at].sum() for at in points])
    won = np.array([(weight * label)[x == at].sum() for at in points])
    k = len(points)
    wanted = [max(min(won[i : j + 1].sum() / size[i : j + 1].sum() for j in range(here, k)) for i in range(here + 1)) for here in range(k)]
    ours = fit_isotonic(x, label, weight, least=0.0)
    assert ours.probability(points) == pytest.approx(np.array(wanted), abs=1e-12)
    held = fit_isotonic(x, label, weight, least=0.05)
    assert held.probability(points) == pytest.approx(np.clip(wanted, 0.05, 0.95), abs=1e-12)
    assert fit_isotonic(x, label, weight).probability(points).min() >= 1e-6
    for least, error in ((0.0, EXACT), (1e-6, 2e-6)):  # blocks mean what came, whatever the bins, so nothing is left
        said = fit_isotonic(x, label, weight, least=least).probability(x)
        assert calibration_error(said, label, 5, weight).value <= error


def test_isotonic_of_points_that_pool_one_by_one_from_the_end() -> None:
    """Rising means, then one heavy zero that pulls down all of them: nothing falls but the last pair, again and again."""
    n = 50_000
    x = np.repeat(np.arange(n), 2)
    weight = np.ravel(np.column_stack([np.arange(1, n + 1), np.arange(n, 0, -1)])).astype(float)
    label = np.tile([1, 0], n)
    began = time.perf_counter()
    ours = fit_isotonic(np.append(x, n), np.append(label, 0), np.append(weight, 1e15), least=0.0)
    assert time.perf_counter() - began < 5
    assert ours.logit.tolist() == [0.0, float(n)]
    assert ours.probability_at == pytest.approx([weight[::2].sum() / (weight.sum() + 1e15)] * 2)


def test_isotonic_is_quick() -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=1_000_000)
    label = draw.random(len(x)) < sigmoid(x)
    began = time.perf_counter()
    ours = fit_isotonic(x, label)
    took = time.perf_counter() - began
    assert ours.probability([-1.0, 0.0, 1.0]) == pytest.approx(sigmoid(np.array([-1.0, 0.0, 1.0])), abs=0.02)
    began = time.perf_counter()
    np.argsort(x)
    assert took < 40 * (time.perf_counter() - began)


def test_rows_of_no_weight_say_nothing() -> None:
    x, label, weight = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0, 1, 0, 1]), np.array([1.0, 0.0, 1.0, 1.0])
    assert fit_isotonic(x, label, weight).as_dict() == fit_isotonic(x[weight > 0], label[weight > 0]).as_dict()
    some, same = fit_platt(x, label, weight), fit_platt(x[weight > 0], label[weight > 0])
    assert (some.a, some.b) == pytest.approx((same.a, same.b))
    for equal in ("mass", "width"):
        ours = calibration_error([0.1, 0.5, 0.9], [0, 1, 1], 2, [0, 1, 1], equal=equal)
        assert (ours.size.sum(), ours.low[0], ours.high[-1]) == (2.0, 0.5, 0.9)


def test_isotonic_never_falls_by_the_order_of_a_sum() -> None:
    """Blocks of all but equal means, whose sums round one way when they are pooled and another when they are added up."""
    for seed in range(20):
        draw = np.random.default_rng(seed)
        k = int(draw.integers(10, 400))
        share = np.sort(draw.integers(0, 12, k) / 12)
        share[draw.integers(0, k, max(1, k // 25))] = 0
        size = draw.choice([0.1, 0.2, 0.3, 0.7], k) * 10.0 ** draw.integers(0, 3, k)
        x, label, weight = np.repeat(np.arange(k), 2), np.tile([1, 0], k), np.ravel(np.column_stack([size * share, size * (1 - share)]))
        ours = fit_isotonic(x, label, weight, least=0.0)
        assert ours.probability(x) == pytest.approx(IsotonicRegression().fit(x, label, weight).predict(x), abs=1e-9)


# --- at the door


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: calibration_error([0.5, 1.5], [0, 1]),
            "probability holds 1.5 at row 1, the first of 1 such in 2: wanted a number from 0 to 1.",
        ),
        (lambda: calibration_error([NAN], [1]), "probability holds nan at row 0, the first of 1 such in 1: wanted a number from 0 to 1."),
        (lambda: calibration_error([0.5], [2]), "label holds 2.0 at row 0, the first of 1 such in 1: wanted 0 or 1."),
        (lambda: calibration_error([0.5], [1, 0]), "label has shape (2,): wanted (1,), that of probability."),
        (lambda: calibration_error([0.5], [1], 0), "bins is 0: wanted a whole number of at least 1."),
        (lambda: calibration_error([], []), "calibration_error has no row of any weight among 0: wanted at least one."),
        (
            lambda: predicted_over_observed([0.5], [0]),
            "predicted_over_observed has no positive row of any weight among 1: wanted at least one.",
        ),
        (lambda: Identity().probability([0.0, NAN]), "logit holds nan at row 1, the first of 1 such in 2: wanted a number."),
        (lambda: Identity().probability(["a"]), "logit has dtype <U1: wanted numbers."),
        (lambda: Prior(NAN), "shift is nan: wanted a finite number."),
        (lambda: Platt(0.0, 1.0), "a is 0.0: wanted a finite number above 0."),
        (lambda: Platt(1.0, float("inf")), "b is inf: wanted a finite number."),
        (lambda: Isotonic(np.array([]), np.array([])), "logit is empty: wanted a point at least."),
        (lambda: Isotonic(np.array([0.0]), np.array([0.1, 0.2])), "probability has shape (2,): wanted (1,), that of logit."),
        (
            lambda: Isotonic(np.array([1.0, 1.0]), np.array([0.1, 0.2])),
            "logit holds 1.0 at row 1, the first of 1 such in 2: wanted more than the one before.",
        ),
        (
            lambda: Isotonic(np.array([1.0, 2.0]), np.array([0.2, 0.1])),
            "probability holds 0.1 at row 1, the first of 1 such in 2: wanted no less than the one before.",
        ),
        (
            lambda: Isotonic(np.array([1.0, 2.0]), np.array([0.2, 1.1])),
            "probability holds 1.1 at row 1, the first of 1 such in 2: wanted a number from 0 to 1.",
        ),
        (lambda: prior_shift(1.0, 0.0), "negatives_kept is 0.0: wanted a finite number above 0."),
        (lambda: prior_shift(-1.0, 0.5), "positives_kept is -1.0: wanted a finite number above 0."),
        (lambda: fit_platt([1, 2], [1, 1]), "fit_platt has no negative row of any weight among 2: wanted both."),
        (lambda: fit_platt([1, 2], [1, 0], [0, 1]), "fit_platt has no positive row of any weight among 2: wanted both."),
        (lambda: fit_platt([3, 3], [1, 0]), "logit is 3.0 in every row of any weight: no line can be fitted to one value."),
        (
            lambda: fit_platt([1, 2, 3, 4], [0, 0, 1, 1], smooth=False),
            "logit parts the classes wholly, so that the likeliest line is upright: let the targets be smooth.",
        ),
        (
            lambda: fit_platt([1.0, 2.0, 3.0], [1, 1, 0]),
            "the slope is -0.944: a higher logit goes with fewer positives here, and a calibration keeps the order. "
            "Are these the logits of these labels?",
        ),
        (
            lambda: fit_isotonic([float("inf")], [1]),
            "logit holds inf at row 0, the first of 1 such in 1: wanted a finite number.",
        ),
        (lambda: fit_isotonic([1], [1], [0]), "fit_isotonic has no row of any weight among 1: wanted at least one."),
        (lambda: fit_isotonic([1], [1], least=0.5), "least is 0.5: wanted a number of at least 0 and below 0.5."),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert str(caught.value) == message
    assert isinstance(caught.value, PenchantError)


def test_an_unknown_way_to_cut_bins_is_named() -> None:
    with pytest.raises(UnknownNameError) as caught:
        calibration_error([0.5], [1], equal="mas")  # type: ignore[arg-type]
    assert str(caught.value) == "'mas' is not a way to cut bins: there are mass, width. Did you mean 'mass'?"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "calibration: kind is None: wanted one of identity, prior, platt, isotonic."),
        ({"kind": "plat"}, "calibration: kind is 'plat': wanted one of identity, prior, platt, isotonic. Did you mean 'platt'?"),
        ({"kind": ["prior"]}, "calibration: kind is ['prior']: wanted one of identity, prior, platt, isotonic. Did you mean 'prior'?"),
        ({"kind": "platt", "a": 1.0}, "calibration: platt has the keys a, kind: wanted a, b, kind."),
        ({"kind": "identity", "a": 1.0}, "calibration: identity has the keys a, kind: wanted kind."),
        ({"kind": "prior", "shift": "2"}, "calibration: shift is '2': wanted a number."),
        ({"kind": "platt", "a": -1.0, "b": 0.0}, "calibration: a is -1.0: wanted a finite number above 0."),
        (
            {"kind": "isotonic", "logit": [0.0, "x"], "probability": [0.0, 1.0]},
            "calibration: logit has shape (2,) and dtype <U32: wanted one number a row.",
        ),
        (
            {"kind": "isotonic", "logit": [0.0, 1.0], "probability": [0.9, 0.5]},
            "calibration: probability holds 0.5 at row 1, the first of 1 such in 2: wanted no less than the one before.",
        ),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(found: dict[str, object], message: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        calibration_from(found)
    assert str(caught.value) == message
