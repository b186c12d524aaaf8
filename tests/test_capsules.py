"""Capsules: routing, what tells them apart, reading them out, what they learn by; and MIND, which is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Batch, History, Segments
from penchant.conformance.laws import Subject, items_of, no_past, read
from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig, Loader
from penchant.data.prepare import prepare
from penchant.errors import ConfigError, TrainingError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import paired
from penchant.models import build
from penchant.models.mind import MIND
from penchant.nn.capsule import CapsuleConfig, Capsules, likeness, merged, read_out, request_softmax, route, sampled_softmax, squash
from penchant.nn.item import ItemConfig
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

Vector = NDArray[np.float64]
PASTS = [4, 0, 7, 2, 1, 10, 3]
LONG = [5, 0, 17, 1, 40, 2, 0, 3]
FIRST = ["place", "content", "events"]


def of(length: Sequence[int]) -> Segments:
    return Segments.of(torch.tensor(length))


def numbers(x: Tensor) -> Vector:
    return x.detach().double().numpy()


def parts(events: Segments, *values: Tensor) -> list[tuple[Vector, ...]]:
    """What each owner has of each of these."""
    return [tuple(numbers(value[a:b]) for value in values) for a, b in pairwise(events.start.tolist())]


def made(loader: Loader, name: str = "mind", *, dim: int = 4, **config: Any) -> Any:
    """One whose parameters are all large."""
    torch.manual_seed(0)
    model = build(loader.data.encoding, name, config, ItemConfig(attributes=False, dim=dim), where="run")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.7)
    return model.eval()


def some(loader: Loader, *, candidates: int = 5) -> Batch:
    return Subject(build=lambda encoding: nn.Identity(), loader=loader).batch(PASTS, candidates=candidates)


# ----------------------------------------------------------------------------------------------------------------- routing


def squashed(z: Vector) -> Vector:
    square: float = z @ z
    return square / (1 + square) * z / math.sqrt(square + 1e-9)


def looped(
    low: Vector, logit: Vector, rounds: int, there: Sequence[bool] | None = None, last: Vector | None = None
) -> tuple[Vector, Vector]:
    """Algorithm 1 for one past; last: what the last round pools in place of what the earlier ones did."""
    (n, D), K = low.shape, logit.shape[1]
    have = [j for j in range(K) if there is None or there[j]]
    b, w, u = logit.copy(), np.zeros((n, K)), np.zeros((K, D))
    for turn in range(rounds):
        pooled = low if last is None or turn < rounds - 1 else last
        for i in range(n):
            total = sum(math.exp(b[i, j]) for j in have)
            for j in have:
                w[i, j] = math.exp(b[i, j]) / total
        for j in have:
            z = np.zeros(D)
            for i in range(n):
                z += w[i, j] * pooled[i]
            u[j] = squashed(z)
            for i in range(n):
                b[i, j] += u[j] @ low[i]
    return u, w


@pytest.mark.parametrize("through", ["all", "last"])
@pytest.mark.parametrize(
    ("rounds", "golden"),
    [(1, (0.575146, 0.359246)), (2, (0.591932, 0.339261)), (3, (0.608739, 0.318623))],
)
def test_routing(rounds: int, golden: tuple[float, float], through: Any) -> None:
    e, first = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([[0.5, -0.5], [-0.5, 0.5], [0, 0]])
    expected = torch.tensor([golden, golden[::-1]])
    alone, say = route(of([3]), e, first, rounds, through=through)
    assert_close(alone[0], expected, rtol=0, atol=1e-5)
    assert_close(say.sum(-1), torch.ones(3))
    together, _ = route(of([3, 0, 3]), e.repeat(2, 1), first.repeat(2, 1), rounds, through=through)
    assert_close(together, torch.stack([expected, torch.zeros(2, 2), expected]), rtol=0, atol=1e-5)


def test_routing_from_nothing_leaves_all_capsules_alike() -> None:
    e = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    alike, _ = route(of([3]), e, torch.zeros(3, 2), 3)
    assert_close(alike[0], torch.full((2, 2), 0.471405), rtol=0, atol=1e-5)
    assert (squash(torch.randn(50, 4) * 100).norm(dim=-1) < 1 + 1e-6).all()


@settings(max_examples=60)
@given(
    st.just(LONG) | st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 99),
)
def test_routing_by_hand(length: list[int], rounds: int, count: int, some_are_absent: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    events = of(length)
    low, logit = torch.randn(events.total, 3, generator=draw), torch.randn(events.total, count, generator=draw)
    there = torch.rand(len(length), count, generator=draw) < 0.6
    there[:, 0] = True
    capsule, share = route(events, low, logit, rounds, there if some_are_absent else None)
    for r, (own, begin, found) in enumerate(parts(events, low, logit, share)):
        expected, say = looped(own, begin, rounds, there[r].tolist() if some_are_absent else None)
        assert numbers(capsule[r]) == pytest.approx(expected, abs=1e-4)
        assert found == pytest.approx(say, abs=1e-4)
    assert (capsule.norm(dim=-1) < 1).all()
    assert_close(share.sum(-1), torch.ones(events.total))
    if some_are_absent:
        assert not capsule[~there].any()
        assert not share[~events.spread(there)].any()


def test_a_capsule_is_shorter_than_1_however_long_what_it_is_made_of() -> None:
    events = of([40, 3])
    capsule, _ = route(events, torch.randn(43, 8) * 10, torch.randn(43, 3), 3)
    length = capsule.norm(dim=-1)
    assert (length <= 1).all()
    assert length.max() > 0.99


def test_routing_shares_events_among_capsules() -> None:
    """And not capsules among events: a past twice as long makes its capsules longer."""
    low, logit = torch.randn(5, 3), torch.randn(5, 2)
    once, _ = route(of([5]), low, logit, 1)
    twice, share = route(of([10]), low.repeat(2, 1), logit.repeat(2, 1), 1)
    assert (twice.norm(dim=-1) > once.norm(dim=-1) * 1.05).all()
    assert_close(nn.functional.normalize(twice, dim=-1), nn.functional.normalize(once, dim=-1))
    assert_close(share[:5], logit.softmax(1))


def numeric(low: Vector, logit: Vector, push: Vector, rounds: int, *, last: bool) -> Vector:
    """The gradient of the sum of push times capsules in `low`, by differences; last: the shares are held."""
    found, step = np.zeros_like(low), 1e-5
    for place in np.ndindex(*low.shape):
        side = []
        for sign in (1, -1):
            moved = low.copy()
            moved[place] += sign * step
            capsule, _ = looped(low, logit, rounds, last=moved) if last else looped(moved, logit, rounds)
            side.append((push * capsule).sum())
        found[place] = (side[0] - side[1]) / (2 * step)
    return found


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("through", ["all", "last"])
def test_gradients_by_differences(rounds: int, through: Any) -> None:
    events = of([5, 0, 1, 2, 9])
    low, logit, push = torch.randn(events.total, 3, requires_grad=True), torch.randn(events.total, 2), torch.randn(5, 2, 3)
    capsule, _ = route(events, low, logit, rounds, through=through)
    (gradient,) = torch.autograd.grad((push * capsule).sum(), low)
    differs = 0.0
    for r, (own, begin, mine) in enumerate(parts(events, low, logit, gradient)):
        ways = {how: numeric(own, begin, numbers(push[r]), rounds, last=how == "last") for how in ("all", "last")}
        assert mine == pytest.approx(ways[through], abs=1e-4)
        differs += np.abs(ways["all"] - ways["last"]).sum()
    assert (differs > 0.1) == (rounds > 1)


def test_routing_of_nothing_has_a_gradient() -> None:
    low, logit = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 2)
    capsule, share = route(of([0, 0]), low, logit, 3)
    assert capsule.shape == (2, 2, 3)
    assert share.shape == (0, 2)
    capsule.sum().backward()
    assert not capsule.any()
    assert low.grad is not None


@pytest.mark.parametrize("through", ["all", "last"])
def test_neither_batch_mates_nor_filling_up_change_a_capsule(through: Any) -> None:
    events = of(LONG)
    low, logit = torch.randn(events.total, 3), torch.randn(events.total, 3)
    there = torch.arange(3) < torch.tensor([2, 1, 3, 1, 3, 1, 1, 1])[:, None]
    capsule, share = route(events, low, logit, 3, there, through=through)
    for r, (a, b) in enumerate(pairwise(events.start.tolist())):
        alone, say = route(of([b - a]), low[a:b], logit[a:b], 3, there[r : r + 1], through=through)
        assert_close(alone[0], capsule[r])
        assert_close(say, share[a:b])


def test_routing_is_float32_under_autocast() -> None:
    events = of([9, 2])
    low, logit = torch.randn(11, 4), torch.randn(11, 2)
    expected, _ = route(events, low, logit, 3)
    with torch.autocast("cpu", torch.bfloat16):
        capsule, share = route(events, low, logit, 3)
    assert capsule.dtype == share.dtype == torch.float32
    assert torch.equal(capsule, expected)


# -------------------------------------------------------------------------------------------------------- what tells apart


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_likeness_by_hand(length: list[int], count: int, ties: bool, seed: int) -> None:
    """Ties are of vectors along the axes, whose products are exact."""
    draw, events = torch.Generator().manual_seed(seed), of(length)
    unit = nn.functional.normalize(torch.randn(events.total, 4, generator=draw), dim=-1)
    if ties:
        unit = torch.eye(4)[torch.randint(4, (events.total,), generator=draw)]
    alike = likeness(unit, events, count)
    assert alike.shape == (events.total, count)
    for own, found in parts(events, unit, alike):
        n = len(own)
        if n:
            mean = own.astype(np.float32).mean(0)
            weight, nearest = [max(0.0, float(mean @ own[i].astype(np.float32))) for i in range(n)], [0.0] * n
            for j in range(count):
                score = [weight[i] * (1 - nearest[i]) for i in range(n)]
                s = score.index(max(score))  # the first
                cosine = [float(own[i] @ own[s]) for i in range(n)]
                if not ties and n > 1 and sorted(score)[-1] - sorted(score)[-2] < 1e-5:
                    break  # a tie but for rounding
                assert found[:, j] == pytest.approx(cosine, abs=1e-5)
                nearest = [max(nearest[i], cosine[i]) for i in range(n)]


def test_of_events_that_stand_out_alike_the_first_counts() -> None:
    unit = torch.eye(3)[[0, 1, 1, 0, 2]]
    assert likeness(unit, of([4, 1]), 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]]  # then all is spoken for


def of_person(model: Any, batch: Batch, **changed: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Interests, which are there, and the shares of events, with some of the history changed."""
    found: tuple[Tensor, Tensor, Tensor] = model.capsules(items_of(model, batch), batch.user, replace(batch.history, **changed))
    return found


@pytest.mark.parametrize("first", FIRST)
def test_capsules_of_a_person_differ(first: str, loader: Loader) -> None:
    model, batch = made(loader, first=first, rectify=False), some(loader)
    interest, there, _ = of_person(model, batch)
    for r, n in enumerate(PASTS):
        mine = interest[r][there[r]]
        assert len(mine) == max(1, min(4, n.bit_length() - 1))
        assert len(mine) == 1 or nn.functional.pdist(mine).min() > 0.01
    model.capsules.start.zero_()
    if first == "place":  # as the numbers that tell them apart go
        interest, there, _ = of_person(model, batch)
        for r in (0, 2, 5):
            assert nn.functional.pdist(interest[r][there[r]]).max() < 1e-6


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("training", [False, True])
def test_the_same_person_has_the_same_interests_whenever_asked(first: str, training: bool, loader: Loader) -> None:
    model, batch = made(loader, first=first).train(training), some(loader)
    before, _, _ = of_person(model, batch)
    torch.manual_seed(77)
    assert torch.equal(of_person(model, batch)[0], before)
    other = made(loader, first=first)
    assert torch.equal(other.capsules.start, model.capsules.start)
    assert torch.equal(of_person(other, batch)[0], before)
    twice = batch.take(torch.tensor([3, 2, 4, 2, 1]))
    again, _, _ = of_person(model, twice)
    assert_close(again[1], before[2])
    assert_close(again[3], before[2])


def test_another_seed_of_the_model_draws_the_same_first_logits(loader: Loader) -> None:
    one = made(loader, spread=2.5)
    torch.manual_seed(9)
    other = build(loader.data.encoding, "mind", {}, where="run")
    assert torch.equal(one.capsules.start, 2.5 * other.capsules.start)
    assert one.capsules.start.std() == pytest.approx(2.5, rel=0.1)
    assert "capsules.start" in one.state_dict()  # and so in a bundle


@pytest.mark.parametrize("first", FIRST)
def test_the_order_of_a_past(first: str, loader: Loader) -> None:
    model, batch = made(loader, first=first, rectify=False), some(loader)
    before, there, member = of_person(model, batch)
    events, history = batch.history.events, batch.history
    order = torch.cat([a + torch.randperm(b - a) for a, b in pairwise(events.start.tolist())])
    shuffled = {name: getattr(history, name)[order] for name in ("item", "time", "action", "number")}
    after, _, moved = of_person(model, batch, **shuffled)
    if first == "place":
        assert (after - before)[there].abs().max() > 0.01
    else:
        assert_close(after, before, rtol=1e-4, atol=1e-5)
        assert_close(moved, member[order], rtol=1e-4, atol=1e-5)
        assert (member - member[order]).abs().max() > 0.1


def test_places_beyond_those_drawn_take_them_in_turn(loader: Loader) -> None:
    model = made(loader)
    events = of([600, 2])
    logit = model.capsules.logit(torch.randn(602, 4), events)
    assert torch.equal(logit[512:600], logit[:88])
    assert torch.equal(logit[600:], logit[:2])
    assert len(logit[:512].unique(dim=0)) == 512


def test_spread_multiplies_the_first_logits(loader: Loader) -> None:
    events, low = of([7, 3]), torch.randn(10, 4)
    for first in FIRST:
        one, three = (made(loader, first=first, spread=spread).capsules.logit(low, events) for spread in (1.0, 3.0))
        assert one.abs().max() > 0.1
        assert_close(three, 3 * one)


def test_no_gradient_goes_through_the_first_logits(loader: Loader) -> None:
    low = torch.randn(6, 4, requires_grad=True)
    assert not any(made(loader, first=first).capsules.logit(low, of([6])).requires_grad for first in FIRST)


# ------------------------------------------------------------------------------------------------------ how many there are


@pytest.mark.parametrize("most", [1, 3, 4, 20])
def test_how_many_interests(most: int, loader: Loader) -> None:
    around = [2**power + more for power in range(1, 12) for more in (-1, 0, 1)]
    length = [0, 1, 2, *around, 1_000_000]
    adaptive, all = (Capsules(loader.data.encoding, 4, CapsuleConfig(interests=most, adaptive=adaptive)) for adaptive in (True, False))
    events = of(length)
    assert adaptive.count(events).tolist() == [max(1, min(most, max(n, 1).bit_length() - 1)) for n in length]
    assert all.count(events).tolist() == [most] * len(length)


@pytest.mark.parametrize("how", ["max", "softmax", "pow"])
def test_what_is_absent_weighs_nothing_and_hides_behind_the_first(how: str, loader: Loader) -> None:
    model, batch = made(loader, read_out=how, power=2.0, rectify=False), some(loader)
    interest, there, member = of_person(model, batch)
    assert there.sum(1).tolist() == [2, 1, 2, 1, 1, 3, 1]
    for r in range(len(PASTS)):
        for k in range(4):
            assert torch.equal(interest[r, k], interest[r, 0]) != bool(there[r, k] and k)
    assert not member[~batch.history.events.spread(there)].any()
    assert_close(member.sum(1), torch.ones(sum(PASTS)))
    out = model.train()(batch, explain=True)
    assert not out.interest.masked_select(~there[:, None]).any()
    assert_close(out.interest.sum(-1), torch.ones(batch.item.shape))
    score = items_of(model, batch)[batch.item] @ interest.transpose(1, 2)
    assert torch.equal(out.logit, score.amax(-1))
    assert torch.equal(out.logit, score.masked_fill(~there[:, None], -torch.inf).amax(-1))


# ----------------------------------------------------------------------------------------------------------------- merging


def alike(capsule: Vector, there: list[bool], above: float) -> list[int]:
    """Where each capsule goes."""
    unit = [z / max(float(np.linalg.norm(z)), 1e-12) for z in capsule]
    goes = list(range(len(capsule)))
    for later in range(len(capsule)):
        for earlier in range(later):
            if there[later] and there[earlier] and unit[later] @ unit[earlier] > above:
                goes[later] = goes[earlier]
                break
    return goes


@settings(max_examples=60)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=5), st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0]), st.integers(0, 999))
def test_merged_by_hand(length: list[int], above: float, seed: int) -> None:
    draw, events = torch.Generator().manual_seed(seed), of(length)
    low, logit = torch.randn(events.total, 2, generator=draw), torch.randn(events.total, 4, generator=draw)
    there = torch.rand(len(length), 4, generator=draw) < 0.7
    there[:, 0] = True
    capsule, share = route(events, low, logit, 2, there)
    after, say, left = merged(events, low, capsule, share, there, above)
    for r, (own, before, found) in enumerate(parts(events, low, share, say)):
        have, unit = there[r].tolist(), nn.functional.normalize(capsule[r].double(), dim=-1)
        if ((unit @ unit.t() - above).abs() < 1e-5).masked_select(torch.ones(4, 4).tril(-1) > 0).any():
            continue  # no more alike than that but for rounding
        goes = alike(numbers(capsule[r]), have, above)
        assert left[r].tolist() == [have[k] and goes[k] == k for k in range(4)]
        for k in range(4):
            expected = sum((before[:, j] for j in range(4) if goes[j] == k), np.zeros(len(own)))
            assert found[:, k] == pytest.approx(expected, abs=1e-5)
            assert numbers(after[r, k]) == pytest.approx(squashed(expected @ own), abs=1e-4)
    assert_close(say.sum(1), torch.ones(events.total))
    assert not say[~events.spread(left)].any()


def test_a_chain_is_merged_into_its_first() -> None:
    """Each is alike to its neighbours alone: 0.8 apart by 40 degrees; the last has no neighbour."""
    angle = torch.deg2rad(torch.tensor([0.0, 40, 80, 200]))
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    share = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    low, events, there = torch.randn(2, 2), of([2]), torch.ones(1, 4, dtype=torch.bool)
    _, say, left = merged(events, low, 0.5 * direction[None], share, there, 0.7)
    assert left.tolist() == [[True, False, False, True]]
    assert_close(say, torch.tensor([[0.6, 0, 0, 0.4], [0.9, 0, 0, 0.1]]))
    _, say, left = merged(events, low, 0.5 * direction[None], share, torch.tensor([[True, False, True, True]]), 0.7)
    assert left.tolist() == [[True, False, True, True]]  # what is absent links nothing
    assert_close(say, share)


def test_merging_makes_as_many_interests_as_a_past_has_tastes(loader: Loader) -> None:
    """Of 8 events of one item, and 8 of two that are nothing alike."""
    model, batch = made(loader, first="events", merge=0.9, adaptive=False, rectify=False), some(loader)
    one, two = batch.row.new_tensor([5] * 8), batch.row.new_tensor([5, 6] * 4)
    items = items_of(model, batch)
    model.capsules.transform.weight.data.copy_(torch.eye(4))
    items[5], items[6] = torch.tensor([4.0, 0, 0, 0]), torch.tensor([0, 4.0, 0, 0])
    nothing = torch.zeros(16, 1, dtype=torch.int64)
    for part in (model.capsules.past.kinds, model.capsules.past.numbers):
        for parameter in part.parameters():
            parameter.data.zero_()
    history = History(
        item=torch.cat([one, two]), time=nothing[:, 0], action=nothing, number=nothing.float().expand(-1, 2), events=of([8, 8])
    )
    user = batch.user.take(torch.tensor([0, 1]))
    interest, there, member = model.capsules(items, user, history)
    assert there.sum(1).tolist() == [1, 2]
    assert_close(member[:8], torch.tensor([1.0, 0, 0, 0]).expand(8, 4))
    assert (member[8:].amax(1) > 0.9).all()
    assert member[8:].argmax(1).tolist()[0] != member[8:].argmax(1).tolist()[1]
    assert torch.equal(interest[~there], interest[:, :1].expand_as(interest)[~there])
    assert made(loader, merge=None).capsules.config.merge is None


@pytest.mark.parametrize(("keys", "learning", "asked"), [({"merge": 0.99, "merge_learning": 0.01}, 1, 2), ({"merge_learning": 0.01}, 1, 4)])
def test_another_cosine_while_learning(loader: Loader, keys: dict[str, Any], learning: int, asked: int) -> None:
    """Of events of two items whose cosine is 0.6."""
    model, batch = made(loader, first="events", adaptive=False, rectify=False, **keys), some(loader)
    items = items_of(model, batch)
    model.capsules.transform.weight.data.copy_(torch.eye(4))
    items[5], items[6] = torch.tensor([4.0, 0, 0, 0]), torch.tensor([2.4, 3.2, 0, 0])
    for part in (model.capsules.past.kinds, model.capsules.past.numbers):
        for parameter in part.parameters():
            parameter.data.zero_()
    nothing = torch.zeros(8, 1, dtype=torch.int64)
    item = batch.row.new_tensor([5, 6] * 4)
    history = History(item=item, time=nothing[:, 0], action=nothing, number=nothing.float().expand(-1, 2), events=of([8]))
    user = batch.user.take(torch.tensor([0]))
    assert int(model.train().capsules(items, user, history)[1].sum()) == learning
    assert int(model.eval().capsules(items, user, history)[1].sum()) == asked


# ------------------------------------------------------------------------------------------------------------- reading out


@pytest.mark.parametrize(("power", "golden"), [(0.0, 0.5), (1.0, 0.598688), (2.0, 0.587102), (10.0, 0.502882)])
def test_label_aware_attention_as_printed(power: float, golden: float) -> None:
    interest, item = torch.tensor([[0.6, 0.2], [0.1, 0.7]]), torch.tensor([1.0, 0.2])
    weight = read_out((interest @ item).view(1, 1, 2), torch.ones(1, 2, dtype=torch.bool), "pow", power)
    assert_close(weight[0, 0], torch.tensor([golden, 1 - golden]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7, 2.0, 3.0])
@pytest.mark.parametrize("how", ["max", "softmax", "pow"])
def test_read_out_by_hand(how: Any, power: float) -> None:
    score, there = torch.randn(3, 4, 3), torch.tensor([[True, True, True], [True, False, True], [True, False, False]])
    score.requires_grad_()
    weight = read_out(score, there, how, power)
    whole = power == int(power)
    for r in range(3):
        have = [k for k in range(3) if there[r, k]]
        for c in range(4):
            s = [float(x) for x in score[r, c].detach()]
            if how == "max":
                expected = [float(k == max(have, key=lambda k: s[k])) for k in range(3)]
            else:
                say = {k: math.exp(power * s[k] if how == "softmax" else s[k] ** power if whole or s[k] > 0 else 0.0) for k in have}
                expected = [say.get(k, 0.0) / sum(say.values()) for k in range(3)]
            assert numbers(weight[r, c]) == pytest.approx(expected, abs=1e-5)
    if how != "max":
        weight.square().sum().backward()
        assert score.grad is not None
        assert score.grad.isfinite().all()
        assert not score.grad.masked_select(~there[:, None]).any()


def test_the_greater_p_the_nearer_softmax_is_to_the_nearest() -> None:
    score, there = torch.randn(5, 6, 4), torch.ones(5, 4, dtype=torch.bool)
    nearest = read_out(score, there, "max", 1.0)
    assert_close(read_out(score, there, "softmax", 1e4), nearest)
    assert (read_out(score, there, "softmax", 2.0) * nearest).sum(-1).min() > (read_out(score, there, "softmax", 1.0) * nearest).sum(
        -1
    ).min()


# ------------------------------------------------------------------------------------------------------------------ losses


def weighted(batch: Batch) -> Batch:
    """Requests with two positives, one, none and nothing else; their slots weigh 0 to 3, a whole request nothing."""
    label = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]).float()
    weight = torch.tensor([[1, 2, 0.5, 0, 3], [1, 1, 1, 1, 1], [2, 0.5, 1, 1, 1], [1, 3, 1, 0, 1], [0, 0, 0, 0, 0]]).float()
    return replace(batch.take(torch.arange(5)), label=label, weight=weight)


def mean_of(each: list[tuple[float, float]]) -> float:
    return sum(loss * weight for loss, weight in each) / sum(weight for _, weight in each)


@pytest.mark.parametrize("weighs", [True, False])
def test_sampled_softmax_by_hand(weighs: bool, loader: Loader) -> None:
    batch, n = weighted(some(loader)), 6
    item = torch.arange(25).view(5, 5)
    negative = torch.randint(25, (5, n))
    negative[0, :2] = item[0, 0]  # by accident, twice
    negative[1] = item[1, 1]  # nothing is left
    log_q = -torch.rand(5, n) * 3
    batch = replace(batch, item=item, negative=negative, negative_log_q=log_q, weight=batch.weight if weighs else None)
    vector, target, drawn = torch.randn(5, 5, 3), torch.randn(5, 5, 3), torch.randn(5, n, 3)
    each = []
    for r in range(5):
        for c in range(5):
            if batch.label[r, c] == 1:
                against = [k for k in range(n) if negative[r, k] != item[r, c]]
                right = math.exp(float(vector[r, c] @ target[r, c]))
                wrong = sum(math.exp(float(vector[r, c] @ drawn[r, k])) / (n * math.exp(float(log_q[r, k]))) for k in against)
                if against:
                    each.append((-math.log(right / (right + wrong)), float(batch.weight[r, c]) if weighs else 1.0))
    assert len(each) == 8  # of nine
    assert float(sampled_softmax(vector, target, drawn, batch)) == pytest.approx(mean_of(each), rel=1e-5)
    nothing = replace(batch, weight=torch.zeros(5, 5))
    assert float(sampled_softmax(vector, target, drawn, nothing)) == 0
    for missing in ({"negative": None}, {"negative_log_q": None}):
        with pytest.raises(TrainingError, match="negative with its log-probabilities, which sampled softmax needs"):
            sampled_softmax(vector, target, drawn, replace(batch, **missing))
    with pytest.raises(TrainingError, match="no labels"):
        sampled_softmax(vector, target, drawn, replace(batch, label=None))


def test_sampled_softmax_with_every_item_is_the_softmax(loader: Loader) -> None:
    N, every = 30, torch.randn(30, 4)
    batch = some(loader, candidates=2).take(torch.arange(6))
    item = torch.randint(N, (6, 2))
    batch = replace(batch, item=item, weight=None, negative=torch.arange(N).repeat(6, 1), negative_log_q=torch.full((6, N), -math.log(N)))
    vector = torch.randn(6, 2, 4)
    found = sampled_softmax(vector, every[item], every.expand(6, N, 4), batch)
    assert batch.label is not None
    assert_close(found, nn.functional.cross_entropy(vector[:, 0] @ every.t(), item[:, 0]))


def test_what_sampled_softmax_divides_by_is_right_on_average(loader: Loader) -> None:
    """exp(loss) - 1 is what the other items weigh beside the candidate; its mean over all pairs of draws, each with its chance."""
    N, every = 7, torch.randn(7, 4)
    q = torch.randn(N).softmax(0)
    request = some(loader, candidates=1).take(torch.tensor([0]))
    vector, own, total = torch.randn(1, 1, 4), 2, 0.0
    for a in range(N):
        for b in range(N):
            drawn = torch.tensor([[a, b]])
            batch = replace(request, item=torch.tensor([[own]]), weight=None, negative=drawn, negative_log_q=q[drawn].log())
            loss = sampled_softmax(vector, every[batch.item], every[drawn], batch)
            total += float(q[a] * q[b] * torch.expm1(loss))
    score = vector[0, 0] @ every.t()
    others = [place for place in range(N) if place != own]
    assert total == pytest.approx(float((score[others] - score[own]).exp().sum()), rel=1e-4)


@pytest.mark.parametrize("weighs", [True, False])
@pytest.mark.parametrize("corrected", [True, False])
def test_request_softmax_by_hand(weighs: bool, corrected: bool, loader: Loader) -> None:
    batch = weighted(some(loader))
    log_q = -torch.rand(5, 5) * 3
    batch = replace(batch, log_q=log_q if corrected else None, weight=batch.weight if weighs else None)
    vector, target, each = torch.randn(5, 5, 3), torch.randn(5, 5, 3), []
    for r in range(5):
        for c in range(5):
            weight = batch.weight[r] if weighs else torch.ones(5)
            others = [k for k in range(5) if batch.label[r, k] == 0 and weight[k] > 0]  # other positives do not stand against it
            if batch.label[r, c] == 1 and others:
                raised = {k: math.exp(float(vector[r, c] @ target[r, k]) - (float(log_q[r, k]) if corrected else 0)) for k in [c, *others]}
                each.append((-math.log(raised[c] / sum(raised.values())), float(batch.weight[r, c]) if weighs else 1.0))
    assert len(each) == (3 if weighs else 4)
    assert float(request_softmax(vector, target, batch)) == pytest.approx(mean_of(each), rel=1e-5)
    alone = replace(batch.candidates(slice(1)), label=torch.ones(5, 1), weight=None)
    assert float(request_softmax(vector[:, :1], target[:, :1], alone)) == 0


# -------------------------------------------------------------------------------------------------------------------- MIND


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hidden": (6, 5), "interests": 3, "rounds": 2, "spread": 0.5},
        {"adaptive": False, "rectify": False, "first": "content"},
    ],
    ids=str,
)
def test_mind_by_hand(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, **config), some(loader)
    items, capsules, history = numbers(items_of(model, batch)), model.capsules, batch.history
    past = numbers(capsules.past(items_of(model, batch), history))
    profile = np.concatenate([numbers(capsules.profile(batch.user.code[:, 1:])), numbers(batch.user.number)], 1)
    layers = [layer for layer in capsules.out if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [*config.get("hidden", ()), 4]
    K = config.get("interests", 4)
    with torch.inference_mode():
        out = model(batch, explain=True)
    for r, (a, b) in enumerate(pairwise(history.events.start.tolist())):
        low = past[a:b] @ numbers(capsules.transform.weight).T
        begin = numbers(capsules.start)[: b - a]
        if "first" in config:
            begin = np.array([e / np.linalg.norm(e) for e in low]).reshape(b - a, 4) @ numbers(capsules.start)
        count = K if "adaptive" in config else max(1, min(K, max(b - a, 1).bit_length() - 1))
        capsule, share = looped(low, begin, config.get("rounds", 3), [k < count for k in range(K)])
        interest = []
        for k in range(count):
            x = np.concatenate([capsule[k], profile[r]])
            for at, layer in enumerate(layers):
                x = numbers(layer.weight) @ x + numbers(layer.bias)
                x = np.maximum(x, 0) if at < len(layers) - 1 or config.get("rectify", True) else x
            interest.append(x)
        for c, place in enumerate(batch.item[r]):
            score = [v @ items[place] for v in interest]
            assert float(out.logit[r, c]) == pytest.approx(max(score), abs=1e-4)
            nearest = int(np.argmax(score))
            assert out.interest[r, c, nearest] == 1
            assert numbers(out.attention[a:b, c]) == pytest.approx(share[:, nearest], abs=1e-4)
        assert numbers(out.member[a:b]) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("how", ["max", "softmax", "pow"])
def test_what_mind_learns_by(how: str, loader: Loader) -> None:
    """Sampled softmax of the label-aware vector; scores themselves are the greatest products."""
    model, batch = made(loader, read_out=how, power=2.0, negatives=5).train(), some(loader)
    out = model(batch)
    assert out.losses.keys() == {"interest"}
    assert out.attention is out.interest is out.member is None
    items, (interest, there, _) = items_of(model, batch), of_person(model, batch)
    item = items[batch.item]
    weight = read_out(item @ interest.transpose(1, 2), there, how, 2.0)  # type: ignore[arg-type]
    assert batch.negative is not None
    expected = sampled_softmax(weight @ interest, item, items[batch.negative], batch)
    assert_close(out.losses["interest"], expected)
    assert not model.eval()(batch).losses
    assert model.wants.further == 5
    assert MIND.Loss == {"name": "none"}
    with pytest.raises(TrainingError, match="sampled softmax needs"):
        model.train()(replace(batch, negative=None))


@pytest.mark.parametrize("how", ["max", "softmax"])
def test_what_mind_explains(how: str, loader: Loader) -> None:
    model, batch = made(loader, read_out=how), some(loader)
    out, events = model(batch, explain=True), batch.history.events
    interest, there, member = of_person(model, batch)
    score = items_of(model, batch)[batch.item] @ interest.transpose(1, 2)
    assert torch.equal(out.member, member)
    assert_close(out.interest, read_out(score, there, how, 1.0))  # type: ignore[arg-type]
    for e, r in enumerate(events.row.tolist()):
        for c in range(batch.item.shape[1]):
            expected = (numbers(member[e]) * numbers(out.interest[r, c])).sum()
            assert numbers(out.attention[e, c]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("config", [{}, {"first": "events", "merge": 0.5}, {"rectify": False, "adaptive": False}], ids=str)
def test_the_greatest_product_of_interests_and_targets_is_the_logit(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, **config), some(loader)
    target, interest = model.targets(items_of(model, batch))[batch.item], model.interests(read(model, batch))
    assert interest.shape == (len(PASTS), 4, 4)
    assert torch.equal((target @ interest.transpose(1, 2)).amax(-1), model(batch).logit)


def test_newcomers_differ_by_their_profile(loader: Loader) -> None:
    model, batch = made(loader, rectify=False), some(loader)
    user = replace(batch.user, code=batch.user.code.clone())
    user.code[:, 1] = torch.arange(len(PASTS)) % 2
    batch = replace(batch, history=no_past(len(PASTS), batch.history), item=batch.item[:1].expand(len(PASTS), -1))
    batch = replace(batch, user=replace(user, number=user.number[:1].expand(len(PASTS), -1)))
    out = model(batch, explain=True)
    assert out.logit.isfinite().all()
    assert_close(out.logit[0], out.logit[2])
    assert (out.logit[0] - out.logit[1]).abs().max() > 0.01
    assert out.member.shape == (0, 4)
    loss = model.train()(batch).losses["interest"]
    loss.backward()
    assert loss.isfinite()


def test_what_mind_refuses(loader: Loader) -> None:
    for config, message in (
        ({"interests": 0}, "model.interests is 0; input should be greater than or equal to 1."),
        ({"rounds": 0}, "model.rounds is 0; input should be greater than or equal to 1."),
        ({"spread": 0.0}, "model.spread is 0.0; input should be greater than 0."),
        ({"merge": 1.5}, "model.merge is 1.5; input should be less than or equal to 1."),
        ({"power": 0.0}, "model.power is 0.0; input should be greater than 0."),
        ({"negatives": 0}, "model.negatives is 0; input should be greater than or equal to 1."),
        ({"read_out": "hard"}, "model.read_out is 'hard'; input should be 'max', 'softmax' or 'pow'."),
    ):
        with pytest.raises(ConfigError) as error:
            made(loader, **config)
        assert str(error.value) == f"run: {message}"


# ---------------------------------------------------------------------------------------------------------------- learning


def test_mind_learns_what_goes_together(tmp_path: Path) -> None:
    """In a made world two thirds of whose people have two or three tastes: beside popularity, and events of one taste by themselves."""
    write_world(tmp_path / "raw", people=300, items=96, tastes=6, events=40, seed=1)
    log, runs = prepare(tmp_path / "raw", tmp_path / "log"), {}
    for name, own in (("popularity", {}), ("mind", {"first": "events", "spread": 4.0, "negatives": 16})):
        config = RunConfig(
            log=str(log.folder),
            model={"name": name, **own},
            item=ItemConfig(dim=16, attributes=False),
            protocol="loo-full",
            data=LoadConfig(past=30, negatives=1, unknown=0),
            train=TrainConfig(epochs=6, batch_size=128, rate=1e-2, patience=6),
        )
        runs[name] = fit(config, tmp_path / name, log=log)
    run = runs["mind"]
    judged = [judge(one.model, one.data, one.split, PROTOCOLS["loo-full"], past=30).each("ndcg@10") for one in (run, runs["popularity"])]
    assert paired(*judged).low > 0.15
    position = run.split.test
    loading = Loader(data=run.data, position=position, config=LoadConfig(past=30), seed=0)
    batch = loading.assemble(position, run.data.rows(position)[:, None])
    with torch.inference_mode():
        member = run.model.eval()(batch, explain=True).member
    assert member is not None
    tastes = np.concatenate([[-1], [int(raw[1:]) % 6 for raw in log.items.column("id").to_pylist()]])
    taste, interest = tastes[batch.row[batch.history.item].numpy()], member.argmax(1).numpy()
    one, both = [], []
    for a, b in pairwise(batch.history.events.start.tolist()):
        if len(set(taste[a:b])) == 2 and b - a > 2:
            alike, shared = (x[a:b, None] == x[a:b] for x in (taste, interest))
            one.append(shared[alike & ~np.eye(b - a, dtype=bool)].mean())
            both.append(shared[~alike].mean())
    assert len(one) > 60
    assert np.mean(one) > np.mean(both) + 0.3  # by chance they would be alike
