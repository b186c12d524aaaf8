"""Each loss against a plain loop of its equation, what all of them obey, and what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from penchant.batch import Batch, History, Output, Segments, Shown, User
from penchant.bundle import load_bundle
from penchant.config import read
from penchant.data.load import LoadConfig
from penchant.data.log import Log
from penchant.encoding import Encoding
from penchant.errors import ConfigError, PenchantError, TrainingError, UnknownNameError
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.loss import BCE, GBCE, LOSSES, Focal, Loss, Softmax, read_loss, refuse, total

Array = NDArray[np.float64]

STEP = 3
OWN: dict[str, dict[str, Any]] = {  # keys that make each loss differ from its neighbours
    "bce": {"smoothing": 0.2, "positive_weight": 3.0},
    "mse": {},
    "focal": {"gamma": 1.5, "alpha": 0.3},
    "bpr": {},
    "softmax": {},
    "gbce": {"t": 0.75, "sampling_rate": 0.2},
    "truncated": {"most": 0.5, "over": 4},
    "reweighted": {"beta": 0.7},
    "gce": {"q": 0.4},
}
EACH = [name for name in LOSSES if name != "none"]
POINTWISE = [name for name in EACH if not LOSSES[name].compares]

every_loss = pytest.mark.parametrize("name", EACH)
seeds = st.integers(0, 2**32 - 1)


def made(name: str) -> Loss:
    return read_loss({"name": name, **OWN[name]})


def batch_of(label: Tensor | None, weight: Tensor | None = None, log_q: Tensor | None = None, *, shape: tuple[int, int] = (1, 1)) -> Batch:
    """A Batch of which a loss reads something; the rest is empty."""
    r, c = shape if label is None else label.shape
    none, nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(r, 0)
    history = History(
        item=none, time=none, action=none[:, None], number=torch.zeros(0, 0), events=Segments.of(torch.zeros(r, dtype=torch.int64))
    )
    return Batch(
        row=torch.zeros(1, dtype=torch.int64),
        known=torch.ones(1, dtype=torch.bool),
        user=User(code=nothing.long(), number=nothing),
        context=nothing.long(),
        number=nothing,
        time=torch.zeros(r, dtype=torch.int64),
        item=torch.zeros(r, c, dtype=torch.int64),
        shown=Shown(code=torch.zeros(r, c, 0, dtype=torch.int64), number=torch.zeros(r, c, 0)),
        history=history,
        label=label,
        weight=weight,
        log_q=log_q,
    )


def drawn(seed: int, requests: int = 5, candidates: int = 4, *, soft: bool = False, weighted: bool = False) -> tuple[Tensor, Batch]:
    """Logits, and a batch that has positives and others in its first request."""
    random = torch.Generator().manual_seed(seed)
    shape = (requests, candidates)
    logit, label = 3 * torch.randn(shape, generator=random), torch.rand(shape, generator=random)
    label = label if soft else label.round()
    label[0, 0], label[0, 1] = 1, 0
    weight = 0.1 + torch.rand(shape, generator=random) if weighted else None
    return logit, batch_of(label, weight, -3 * torch.rand(shape, generator=random))


def said(loss: Loss, logit: Tensor, batch: Batch, step: int = STEP) -> float:
    return float(loss(Output(logit=logit), batch, step))


def gradient(loss: Loss, logit: Tensor, batch: Batch, step: int = STEP) -> Tensor:
    logit = logit.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(Output(logit=logit), batch, step), logit)
    return found


# ------------------------------------------------------------------------------------------------------------ plain loops


def p(s: float) -> float:
    return 1 / (1 + exp(-s)) if s > 0 else exp(s) / (1 + exp(s))


def slots(each: Callable[[float, float], float]) -> Callable[..., float]:
    """The weighted mean of a function of (logit, label)."""

    def mean(logit: Array, label: Array, weight: Array, log_q: Array) -> float:
        top = bottom = 0.0
        for s, y, w in zip(logit.flat, label.flat, weight.flat, strict=True):
            top, bottom = top + w * each(s, y), bottom + w
        return top / bottom

    return mean


def plain_bce(s: float, y: float) -> float:
    smooth = y * 0.8 + 0.1
    return -3 * smooth * log(p(s)) - (1 - smooth) * log(p(-s))


def plain_focal(s: float, y: float) -> float:
    return -0.3 * y * (1 - p(s)) ** 1.5 * log(p(s)) - 0.7 * (1 - y) * p(s) ** 1.5 * log(p(-s))


def plain_gbce(s: float, y: float) -> float:
    alpha, t = 0.2, 0.75
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    return -y * log(p(s) ** beta) - (1 - y) * log(p(-s))


def plain_reweighted(s: float, y: float) -> float:
    return -y * p(s) ** 0.7 * log(p(s)) - (1 - y) * p(-s) ** 0.7 * log(p(-s))


def plain_gce(s: float, y: float) -> float:
    return y * (1 - p(s) ** 0.4) / 0.4 + (1 - y) * (1 - p(-s) ** 0.4) / 0.4


def against(y: Array, w: Array) -> Array:
    """What the slots that are no positives weigh, as multiples of their mean."""
    there = [w[j] for j in range(len(w)) if y[j] <= 0.5 and w[j] > 0]
    return w / np.mean(there) if there else w


def plain_bpr(logit: Array, label: Array, weight: Array, log_q: Array) -> float:
    top = bottom = 0.0
    for s, y, w in zip(logit, label, weight, strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                if y[i] > 0.5 and y[j] <= 0.5:
                    pair = w[i] * against(y, w)[j]
                    top, bottom = top - pair * log(p(s[i] - s[j])), bottom + pair
    return top / bottom


def plain_softmax(logit: Array, label: Array, weight: Array, log_q: Array) -> float:
    top = bottom = 0.0
    for a, y, w in zip(logit - log_q, label, weight, strict=True):
        rest = sum(against(y, w)[j] * exp(a[j]) for j in range(len(a)) if y[j] <= 0.5)
        for i in range(len(a)):
            if y[i] > 0.5 and rest:
                top, bottom = top - w[i] * log(exp(a[i]) / (exp(a[i]) + rest)), bottom + w[i]
    return top / bottom


def plain_truncated(logit: Array, label: Array, weight: Array, log_q: Array) -> float:
    share = 0.5 * min(STEP / 4, 1)
    each = [(-y * log(p(s)) - (1 - y) * log(p(-s)), y, w) for s, y, w in zip(logit.flat, label.flat, weight.flat, strict=True)]
    out = share * sum(w for _, y, w in each if y > 0.5)
    top = bottom = 0.0
    for loss, y, w in sorted(each, reverse=True):
        if y > 0.5:
            left = max(w - out, 0)
            out -= w - left
            w = left
        top, bottom = top + w * loss, bottom + w
    return top / bottom


PLAIN: dict[str, Callable[..., float]] = {
    "bce": slots(plain_bce),
    "mse": slots(lambda s, y: (p(s) - y) ** 2),
    "focal": slots(plain_focal),
    "bpr": plain_bpr,
    "softmax": plain_softmax,
    "gbce": slots(plain_gbce),
    "truncated": plain_truncated,
    "reweighted": slots(plain_reweighted),
    "gce": slots(plain_gce),
}


def arrays(logit: Tensor, batch: Batch) -> tuple[Array, Array, Array, Array]:
    weight = torch.ones_like(logit) if batch.weight is None else batch.weight
    assert batch.label is not None
    assert batch.log_q is not None
    one, two, three, four = (value.double().numpy() for value in (logit, batch.label, weight, batch.log_q))
    return one, two, three, four


@every_loss
@pytest.mark.parametrize("soft", [False, True], ids=["0 and 1", "shares"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_loss_is_its_equation(name: str, soft: bool, weighted: bool) -> None:
    for seed in range(5):
        logit, batch = drawn(seed, soft=soft, weighted=weighted)
        assert said(made(name), logit, batch) == pytest.approx(PLAIN[name](*arrays(logit, batch)), rel=1e-4)


@pytest.mark.parametrize("name", [name for name in EACH if name != "reweighted"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_gradient_is_its_equation_s(name: str, weighted: bool) -> None:
    logit, batch = drawn(1, weighted=weighted)
    found, (s, *rest) = gradient(made(name), logit, batch), arrays(logit, batch)
    for place in np.ndindex(s.shape):
        more, less = s.copy(), s.copy()
        more[place] += 1e-5
        less[place] -= 1e-5
        slope = (PLAIN[name](more, *rest) - PLAIN[name](less, *rest)) / 2e-5
        assert float(found[place]) == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_without_a_loss_of_candidates_the_model_s_own_are_all_there_is() -> None:
    logit, batch = drawn(1)
    logit.requires_grad_()
    own = torch.tensor(2.5, requires_grad=True)
    found = total(Output(logit=logit, losses={"next": own}), batch, read_loss({"name": "none"}))
    to_logit, to_own = torch.autograd.grad(found, (logit, own))
    assert float(found.detach()) == 2.5
    assert not to_logit.any()
    assert float(to_own) == 1


def test_the_weights_of_a_reweighted_loss_take_no_gradient() -> None:
    logit, batch = drawn(1)
    s, y, _, _ = arrays(logit, batch)
    for place in np.ndindex(s.shape):
        weight = p(s[place]) ** 0.7 if y[place] else p(-s[place]) ** 0.7
        slope = weight * (p(s[place]) - y[place]) / s.size
        assert float(gradient(made("reweighted"), logit, batch)[place]) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"name": "bce"}, (log(2) + log(4)) / 2),
        ({"name": "bce", "positive_weight": 5.0}, (5 * log(2) + log(4)) / 2),
        ({"name": "bce", "smoothing": 0.5}, (log(2) + 0.25 * log(4 / 3) + 0.75 * log(4)) / 2),
        ({"name": "mse"}, (1 / 4 + 9 / 16) / 2),
        ({"name": "focal"}, (log(2) / 4 + 9 / 16 * log(4)) / 2),
        ({"name": "focal", "alpha": 0.25}, (log(2) / 16 + 27 / 64 * log(4)) / 2),
        ({"name": "bpr"}, log(4)),
        ({"name": "softmax", "correct": False}, log(4)),
        ({"name": "softmax"}, log(7)),  # exp(a) is 1 / (1/2) and 3 / (1/4)
        ({"name": "gbce", "sampling_rate": 0.2}, (0.4 * log(2) + log(4)) / 2),
        ({"name": "truncated"}, (log(2) + log(4)) / 2),  # at the first step nothing is left out
        ({"name": "reweighted", "beta": 1.0}, (log(2) / 2 + log(4) / 4) / 2),
        ({"name": "gce", "q": 0.5}, (2 - 2**0.5 + 1) / 2),
        ({"name": "gce", "q": 1.0}, (1 / 2 + 3 / 4) / 2),
    ],
    ids=str,
)
def test_by_hand(config: dict[str, Any], value: float) -> None:
    """p is 1/2 and 3/4; the first is the positive."""
    batch = batch_of(torch.tensor([[1.0, 0.0]]), log_q=torch.tensor([[0.5, 0.25]]).log())
    assert said(read_loss(config), torch.tensor([[0.0, log(3)]]), batch, 0) == pytest.approx(value, rel=1e-6)


def test_gbce_has_the_beta_of_the_paper_s_numbers() -> None:
    """256 negatives of MovieLens-1M's 3,416 items, t = 0.75."""
    loss = GBCE().sized(items=3416, negatives=256)
    positive = batch_of(torch.ones(1, 1))
    assert said(loss, torch.zeros(1, 1), positive) / log(2) == pytest.approx(0.3062, abs=5e-5)
    assert GBCE(sampling_rate=0.5).sized(items=3416, negatives=256) == GBCE(sampling_rate=0.5)  # what is set is kept
    assert GBCE().sized(items=11, negatives=2) == GBCE(sampling_rate=0.2)  # of the ten that are not the positive
    assert GBCE().sized(items=3, negatives=9) == GBCE(sampling_rate=1.0)


def test_truncation_grows_with_the_steps() -> None:
    """Four positives and two others; the losses of positives fall from left to right."""
    logit = torch.tensor([[-2.0, 0.5, -1.0], [1.0, 2.0, 0.3]])
    batch = batch_of(torch.tensor([[1.0, 0, 1], [1, 1, 0]]))
    each = F.binary_cross_entropy_with_logits(logit, batch.label, reduction="none")
    loss = read_loss({"name": "truncated", "most": 0.5, "over": 10})
    assert said(loss, logit, batch, 0) == pytest.approx(float(each.mean()))
    without = each.sum() - each[0, 0]
    assert said(loss, logit, batch, 5) == pytest.approx(float(without / 5), rel=1e-6)  # a quarter of four
    assert gradient(loss, logit, batch, 5)[0, 0] == 0
    assert said(loss, logit, batch, 10) == said(loss, logit, batch, 999) == pytest.approx(float((without - each[0, 2]) / 4), rel=1e-6)
    half = without - each[0, 2] / 2  # 3/8 of four: the second one keeps half of its weight
    assert said(read_loss({"name": "truncated", "most": 0.375, "over": 1}), logit, batch, 1) == pytest.approx(float(half / 4.5), rel=1e-6)


# -------------------------------------------------------------------------------------------------------- what all obey


@every_loss
@given(seed=seeds, column=st.integers(2, 3))
def test_a_weight_of_0_leaves_the_slot_out(name: str, seed: int, column: int) -> None:
    logit, batch = drawn(seed, weighted=True)
    kept = torch.tensor([place for place in range(4) if place != column])
    assert batch.weight is not None
    batch.weight[:, column] = 0
    without = batch.candidates(kept[None].expand(5, -1))
    assert said(made(name), logit, batch) == pytest.approx(said(made(name), logit[:, kept], without), rel=1e-4, abs=1e-6)
    logit[:, column] = 300.0  # further off than the logarithm of any float32
    assert said(made(name), logit, batch) == pytest.approx(said(made(name), logit[:, kept], without), rel=1e-4, abs=1e-6)


@every_loss
@given(seed=seeds, request=st.integers(0, 4))
def test_a_request_of_weight_2_is_there_twice(name: str, seed: int, request: int) -> None:
    logit, batch = drawn(seed, weighted=True)
    rows = torch.tensor([0, 1, 2, 3, 4, request])
    doubled = said(made(name), logit[rows], batch.take(rows))
    assert batch.weight is not None
    batch.weight[request] *= 2
    assert said(made(name), logit, batch) == pytest.approx(doubled, rel=1e-4, abs=1e-6)


@every_loss
@given(seed=seeds, column=st.integers(0, 3))
def test_a_slot_of_weight_2_is_there_twice(name: str, seed: int, column: int) -> None:
    logit, batch = drawn(seed, weighted=True)
    if LOSSES[name].compares:  # a positive; the weights of the others are relative
        assert batch.label is not None
        batch.label[:, column] = 1
    places = torch.tensor([0, 1, 2, 3, column])
    twice = batch.candidates(places[None].expand(5, -1))
    doubled = said(made(name), logit[:, places], twice)
    assert batch.weight is not None
    batch.weight[:, column] *= 2
    assert said(made(name), logit, batch) == pytest.approx(doubled, rel=1e-4, abs=1e-6)


@every_loss
@given(seed=seeds, factor=st.floats(0.01, 100))
def test_weights_are_relative(name: str, seed: int, factor: float) -> None:
    logit, batch = drawn(seed, weighted=True)
    assert batch.weight is not None
    scaled = replace(batch, weight=factor * batch.weight)
    assert said(made(name), logit, scaled) == pytest.approx(said(made(name), logit, batch), rel=1e-4, abs=1e-6)
    even = said(made(name), logit, replace(batch, weight=torch.full_like(logit, factor)))
    assert even == pytest.approx(said(made(name), logit, replace(batch, weight=None)), rel=1e-4, abs=1e-6)


@every_loss
@given(seed=seeds, weighted=st.booleans())
def test_neither_the_order_of_candidates_nor_of_requests_matters(name: str, seed: int, weighted: bool) -> None:
    logit, batch = drawn(seed, weighted=weighted)
    random = torch.Generator().manual_seed(seed)
    index, rows = torch.rand(5, 4, generator=random).argsort(1), torch.randperm(5, generator=random)
    other = batch.candidates(index).take(rows)
    assert said(made(name), logit.gather(1, index)[rows], other) == pytest.approx(said(made(name), logit, batch), rel=1e-4, abs=1e-6)


@every_loss
@given(seed=seeds, more=st.integers(2, 4))
def test_a_loss_is_a_mean(name: str, seed: int, more: int) -> None:
    logit, batch = drawn(seed)
    repeated = batch.take(torch.arange(5).repeat(more))
    assert said(made(name), logit.repeat(more, 1), repeated) == pytest.approx(said(made(name), logit, batch), rel=1e-4, abs=1e-6)


@every_loss
@pytest.mark.parametrize("size", [60.0, 1e4])
def test_large_logits_have_finite_gradients(name: str, size: float) -> None:
    sign = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    _, batch = drawn(0, 4, weighted=True)
    batch = replace(batch, label=torch.tensor([1.0, 0, 1, 0]).expand(4, 4))
    loss = made(name)(Output(logit=size * sign), batch, STEP)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert gradient(made(name), size * sign, batch).isfinite().all()


@pytest.mark.parametrize("name", ["bce", "bpr", "softmax", "gbce", "truncated"])
def test_a_positive_that_is_far_off_is_still_pulled(name: str) -> None:
    batch = batch_of(torch.tensor([[1.0, 0, 1]]), log_q=torch.zeros(1, 3))
    pull = gradient(made(name), torch.tensor([[-60.0, 60, 0]]), batch, 0)
    assert pull[0, 0] < -0.02
    assert pull[0, 1] > 0.02


@every_loss
def test_half_precision_logits_are_worked_out_in_float32(name: str) -> None:
    logit, batch = drawn(2, weighted=True)
    half = logit.bfloat16()
    assert said(made(name), half, batch) == said(made(name), half.float(), batch)


@every_loss
def test_a_batch_with_nothing_to_learn_from_is_0_and_no_nan(name: str) -> None:
    logit, batch = drawn(3)
    nothing = replace(batch, weight=torch.zeros_like(logit))
    assert said(made(name), logit, nothing) == 0
    assert torch.equal(gradient(made(name), logit, nothing), torch.zeros_like(logit))


@every_loss
def test_no_loss_waits_for_the_device(name: str) -> None:
    """A tensor on "meta" has a shape and no values: reading one, or making a shape of them, is an error."""
    logit, batch = drawn(0, weighted=True)
    there = replace(batch, **{key: getattr(batch, key).to("meta") for key in ("label", "weight", "log_q")})
    loss = made(name)(Output(logit=logit.to("meta").requires_grad_()), there, STEP)
    assert loss.shape == ()
    loss.backward()  # type: ignore[no-untyped-call]


@every_loss
def test_a_batch_without_labels_is_an_error(name: str) -> None:
    with pytest.raises(TrainingError) as fault:
        read_loss({"name": name})(Output(logit=torch.zeros(1, 1)), batch_of(None))
    assert str(fault.value) == "this batch has no labels; a loss was asked for."


# ------------------------------------------------------------------------------------------------------- one is another


@given(seed=seeds, weighted=st.booleans(), soft=st.booleans())
@pytest.mark.parametrize(
    ("config", "close"),
    [
        ({"name": "bce", "smoothing": 0.0, "positive_weight": 1.0}, 1e-6),
        ({"name": "focal", "gamma": 0.0}, 1e-5),
        ({"name": "gbce", "t": 0.0, "sampling_rate": 0.1}, 1e-5),
        ({"name": "gbce", "t": 0.9, "sampling_rate": 1.0}, 1e-5),
        ({"name": "truncated", "most": 0.0}, 1e-5),
        ({"name": "reweighted", "beta": 0.0}, 1e-5),
        ({"name": "gce", "q": 1e-6}, 1e-4),
    ],
    ids=str,
)
def test_each_is_bce_where_its_option_says_so(config: dict[str, Any], close: float, seed: int, weighted: bool, soft: bool) -> None:
    logit, batch = drawn(seed, soft=soft, weighted=weighted)
    assert_close(gradient(read_loss(config), logit, batch), gradient(BCE(), logit, batch), rtol=close, atol=1e-6)
    assert said(read_loss(config), logit, batch) == pytest.approx(said(BCE(), logit, batch), rel=close)


def test_one_positive_against_one_other_is_the_same_pair_or_softmax() -> None:
    logit, batch = torch.randn(6, 2), batch_of(torch.tensor([[1.0, 0.0]] * 6))
    assert said(made("bpr"), logit, batch) == pytest.approx(said(Softmax(correct=False), logit, batch), rel=1e-6)


def test_requests_without_a_pair_are_left_out() -> None:
    label = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0]])
    logit, log_q = torch.randn(3, 3), torch.zeros(3, 3)
    for name in ("bpr", "softmax"):
        loss = made(name)
        assert said(loss, logit, batch_of(label, None, log_q)) == pytest.approx(
            said(loss, logit[:1], batch_of(label[:1], None, log_q[:1])), rel=1e-6
        )
        assert gradient(loss, logit, batch_of(label, None, log_q))[1:].eq(0).all()


@given(seed=seeds, shift=st.floats(-9, 9))
def test_equal_probabilities_correct_nothing(seed: int, shift: float) -> None:
    logit, batch = drawn(seed, weighted=True)
    even = replace(batch, log_q=torch.full_like(logit, shift))
    assert said(Softmax(), logit, even) == pytest.approx(said(Softmax(correct=False), logit, batch), rel=1e-4, abs=1e-5)


def test_with_all_items_as_candidates_it_is_the_full_softmax() -> None:
    logit, right = torch.randn(4, 9), torch.tensor([0, 3, 8, 3])
    batch = batch_of(F.one_hot(right, 9).float(), log_q=torch.full((4, 9), -log(9)))
    assert said(Softmax(), logit, batch) == pytest.approx(float(F.cross_entropy(logit, right)), rel=1e-6)


def test_sampled_in_proportion_its_gradient_becomes_the_full_softmax_s() -> None:
    """Of 12 items some are drawn 50 times as often as others; without the correction the gradient is another."""
    random = torch.Generator().manual_seed(0)
    score, q = torch.randn(12, generator=random), torch.logspace(0, 1.7, 12)
    q, right = q / q.sum(), 4
    full = torch.softmax(score, 0) - F.one_hot(torch.tensor(right), 12)
    item = torch.cat([torch.tensor([right]), torch.multinomial(q, 200_000, replacement=True, generator=random)])
    label = torch.zeros(1, len(item))
    label[0, 0] = 1
    batch = batch_of(label, log_q=q.log()[item][None])
    by_item = {c: torch.zeros(12).index_add(0, item, gradient(Softmax(correct=c), score[item][None], batch)[0]) for c in (True, False)}
    assert_close(by_item[True], full, rtol=0, atol=0.01)
    assert (by_item[False] - full).abs().max() > 0.1


def test_other_positives_of_a_request_are_no_negatives() -> None:
    logit = torch.tensor([[1.0, 30.0, 0.0]])
    batch = batch_of(torch.tensor([[1.0, 1.0, 0.0]]))
    assert said(Softmax(correct=False), logit, batch) == pytest.approx(log(1 + exp(-1)) / 2, rel=1e-5)


def test_the_total_has_what_a_model_adds() -> None:
    logit, batch = drawn(0)
    output = Output(logit=logit, losses={"next": torch.tensor(2.0), "interest": torch.tensor(0.5)})
    assert float(total(output, batch)) == pytest.approx(said(BCE(), logit, batch) + 2.5)
    loss = read_loss({"name": "truncated", "over": 10})
    assert float(total(output, batch, loss, 10)) == pytest.approx(said(loss, logit, batch, 10) + 2.5)
    assert said(loss, logit, batch, 10) != said(loss, logit, batch, 0)


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (
            {"name": "foccal"},
            UnknownNameError,
            "'foccal' is not a loss: there are bce, mse, focal, bpr, softmax, gbce, truncated, reweighted, gce, none. "
            "Did you mean 'focal'?",
        ),
        (
            {"name": 3},
            ConfigError,
            "run: loss.name is 3; one of bce, mse, focal, bpr, softmax, gbce, truncated, reweighted, gce, none was wanted, "
            "or 'module:function'.",
        ),
        ({"name": "focal", "gama": 1}, ConfigError, "run: loss.gama is not a key of Focal. Did you mean 'gamma'?"),
        ({"smoothing": 1}, ConfigError, "run: loss.smoothing is 1; input should be less than 1."),
        ({"name": "gce", "q": 0.0}, ConfigError, "run: loss.q is 0.0; input should be greater than 0."),
        ({"name": "truncated", "most": 1.0}, ConfigError, "run: loss.most is 1.0; input should be less than 1."),
        ({"name": "gbce", "sampling_rate": 1.5}, ConfigError, "run: loss.sampling_rate is 1.5; input should be less than or equal to 1."),
        ({"name": "softmax", "correct": 1}, ConfigError, "run: loss.correct is 1; input should be a valid boolean."),
        (
            {"name": "no.such:thing"},
            ConfigError,
            "run: loss.name is 'no.such:thing', but there is no module 'no' on Python's path; PYTHONPATH can name its folder.",
        ),
        (
            {"name": "penchant.train.loss:meann"},
            ConfigError,
            "run: loss.name is 'penchant.train.loss:meann', but 'penchant.train.loss' has no function 'meann'. Did you mean 'mean'?",
        ),
        (
            {"name": "penchant.train.loss:TINY"},
            ConfigError,
            "run: loss.name is 'penchant.train.loss:TINY', but 'penchant.train.loss' has no function 'TINY'.",
        ),
        (
            {"name": ":thing"},
            ConfigError,
            "run: loss.name is ':thing'; 'module:function' was wanted, such as 'my_losses:tilted'.",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_read(config: dict[str, Any], kind: type[PenchantError], message: str) -> None:
    with pytest.raises(kind) as fault:
        read_loss(config, where="run")
    assert str(fault.value) == message


ALONE = (
    "which compares the candidates of a request, but data.negatives is 0 and the Log has no impressions: "
    "each request has one candidate. Set data.negatives to 1 or more."
)
UNDRAWN = "loss.correct is true, but data.negatives is 0: nothing is drawn that could be corrected for. Set it to false."


@pytest.mark.parametrize(
    ("config", "impressions", "message"),
    [
        ({"name": "bpr"}, False, f"loss.name is 'bpr', {ALONE}"),
        ({"name": "softmax", "correct": False}, False, f"loss.name is 'softmax', {ALONE}"),
        ({"name": "softmax"}, True, UNDRAWN),
        ({"name": "gbce"}, True, "loss.name is 'gbce', but data.negatives is 0: set that to 1 or more, or loss.sampling_rate."),
    ],
    ids=str,
)
def test_what_a_run_without_draws_cannot_have(config: dict[str, Any], impressions: bool, message: str) -> None:
    loss = read_loss(config)
    with pytest.raises(ConfigError) as fault:
        refuse(loss, negatives=0, impressions=impressions)
    assert str(fault.value) == message
    refuse(loss, negatives=1, impressions=False)


@pytest.mark.parametrize(
    "config", [{"name": "bpr"}, {"name": "softmax", "correct": False}, {"name": "gbce", "sampling_rate": 0.1}, {"name": "bce"}], ids=str
)
def test_what_impressions_allow(config: dict[str, Any]) -> None:
    loss = read_loss(config)
    refuse(loss, negatives=0, impressions=True)
    chosen = loss.sized(items=9, negatives=0)(Output(logit=torch.tensor([[1.0, 0.0]])), batch_of(torch.tensor([[1.0, 0.0]])))
    other = loss.sized(items=9, negatives=0)(Output(logit=torch.tensor([[0.0, 1.0]])), batch_of(torch.tensor([[1.0, 0.0]])))
    assert chosen < other


def test_softmax_says_what_it_lacks() -> None:
    with pytest.raises(TrainingError) as fault:
        Softmax()(Output(logit=torch.zeros(1, 2)), batch_of(torch.tensor([[1.0, 0.0]])))
    assert str(fault.value) == "this batch has no log_q, which loss.correct needs; set loss.correct to false."


def test_gbce_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError) as fault:
        GBCE()(Output(logit=torch.zeros(1, 2)), batch_of(torch.tensor([[1.0, 0.0]])))
    assert str(fault.value) == "loss.sampling_rate is not known outside of a run: set it to negatives / (items - 1)."


# ------------------------------------------------------------------------------------------------------------ one's own

MODULE = """
import torch

def tilted(output, batch, tilt=0.0, *, power=2):
    return ((output.logit - batch.label - tilt).abs() ** power).mean()

def needy(output, batch, tilt):
    return tilt

def each(output, batch):
    return output.logit

def number(output, batch, **anything):
    return 3.0

def lonely(output):
    return output.logit.mean()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path with somebody's modules."""
    (tmp_path / "my_losses.py").write_text(MODULE)
    (tmp_path / "my_broken.py").write_text("import my_missing\n")
    (tmp_path / "my_older.py").write_text("from my_losses import newer\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_losses", "my_broken", "my_older"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_one_s_own_loss(own: Path) -> None:
    logit, batch = drawn(0)
    assert batch.label is not None
    loss = read_loss({"name": "my_losses:tilted", "tilt": 0.5, "power": 1})
    assert said(loss, logit, batch) == pytest.approx(float((logit - batch.label - 0.5).abs().mean()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "my_losses:tilted", "tlt": 1}, "run: loss.tlt is not a key of my_losses:tilted. Did you mean 'tilt'?"),
        ({"name": "my_losses:tilted", "x": 1}, "run: loss.x is not a key of my_losses:tilted. It has tilt, power."),
        ({"name": "my_losses:each", "x": 1}, "run: loss.x is not a key of my_losses:each. It has none."),
        (
            {"name": "my_losses:needy"},
            "run: loss.name is 'my_losses:needy', which cannot be called with (output, batch) and its keys: "
            "missing a required argument: 'tilt'.",
        ),
        (
            {"name": "my_losses:lonely"},
            "run: loss.name is 'my_losses:lonely', which cannot be called with (output, batch) and its keys: "
            "too many positional arguments.",
        ),
        (
            {"name": "my_broken:any"},
            "run: loss.name is 'my_broken:any', but 'my_broken' cannot be imported: No module named 'my_missing'.",
        ),
    ],
    ids=str,
)
def test_what_one_s_own_cannot_be(own: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        read_loss(config, where="run")
    assert str(fault.value) == message


def test_an_own_module_that_cannot_be_imported(own: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^run: loss.name is 'my_older:any', but 'my_older' cannot be imported: cannot import name 'newer'"
    ):
        read_loss({"name": "my_older:any"}, where="run")


@pytest.mark.parametrize(("function", "came"), [("each", "a tensor of shape [5, 4]"), ("number", "a float")])
def test_what_one_s_own_must_give(own: Path, function: str, came: str) -> None:
    logit, batch = drawn(0)
    with pytest.raises(ConfigError) as fault:
        read_loss({"name": f"my_losses:{function}"})(Output(logit=logit), batch)
    assert str(fault.value) == f"loss.name is 'my_losses:{function}', which gave {came}; a tensor of no dimension was wanted."


def test_a_bundle_never_imports_one_s_own_loss(own: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fit(settings(log, {"name": "my_losses:tilted", "tilt": 0.1}, epochs=1), own / "run")
    (own / "my_losses.py").unlink()
    monkeypatch.delitem(sys.modules, "my_losses")
    bundle = load_bundle(run.folder / "bundle")
    assert "my_losses" not in sys.modules
    assert bundle.facts["run"]["loss"] == {"name": "my_losses:tilted", "tilt": 0.1}


# ------------------------------------------------------------------------------------------------------------------ runs


def settings(log: Log, loss: Mapping[str, Any], *, epochs: int = 4, negatives: int = 3) -> RunConfig:
    return RunConfig(
        log=str(log.folder),
        protocol="loo-full",
        model={"name": "mf"},
        loss=dict(loss),
        data=LoadConfig(past=5, negatives=negatives),
        train=TrainConfig(epochs=epochs, batch_size=64, rate=0.02, patience=9),
    )


@every_loss
def test_a_run_makes_it_smaller(name: str, log: Log, tmp_path: Path) -> None:
    own = {"over": 1} if name == "truncated" else {}  # the same share is left out all the time
    run = fit(settings(log, {"name": name, **own}), tmp_path / "run")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert read(RunConfig, run.folder / "config.toml").loss == {"name": name, **own}


def test_a_run_refuses_early(log: Log, tmp_path: Path) -> None:
    nowhere = RunConfig(log=str(tmp_path / "none"), loss={"name": "focal", "gama": 2})
    with pytest.raises(ConfigError) as key:  # before the Log, which is not there
        fit(nowhere, tmp_path / "run")
    assert str(key.value) == "run: loss.gama is not a key of Focal. Did you mean 'gamma'?"
    with pytest.raises(ConfigError) as alone:
        fit(settings(log, {"name": "bpr"}, negatives=0), tmp_path / "run")
    assert str(alone.value) == f"loss.name is 'bpr', {ALONE}"
    assert list(tmp_path.iterdir()) == []


class Recorded(Focal):
    """A loss that writes down what it is told."""

    told: ClassVar[list[Any]] = []

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        self.told.append(step)
        return super().__call__(output, batch, step)

    def sized(self, *, items: int, negatives: int) -> Loss:
        self.told.append((items, negatives))
        return self


def test_a_loss_is_told_its_step_and_sizes(log: Log, encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "recorded", Recorded)
    monkeypatch.setattr(Recorded, "told", [])
    fit(settings(log, {"name": "recorded", "gamma": 1.0}, epochs=2), tmp_path / "run")
    sizes, *steps = Recorded.told
    assert sizes == (int(encoding.catalogue.known.sum()), 3)
    assert steps == list(range(len(steps)))
    assert len(steps) > 10
