"""Attention as parts, each against its equation for one owner at a time, by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Segments
from penchant.nn.attention import (
    SCORES,
    Additive,
    Bilinear,
    CoAttention,
    Dot,
    HSTULayer,
    Interaction,
    LocalActivation,
    MultiHead,
    Normalize,
    Projected,
    Score,
    SelfAttention,
    TargetAttention,
    TransformerLayer,
    normalized,
    pointwise,
    softmax_with_own,
)
from penchant.nn.mlp import PReLU

Vector = NDArray[np.float64]
LENGTHS = [[3, 0, 2], [0, 1], [1, 0, 0, 5], [4], [0], [0, 0], [1, 1], [9, 1, 1, 1, 1]]
every_length = pytest.mark.parametrize("length", LENGTHS, ids=str)
lengths = st.lists(st.integers(0, 5), min_size=1, max_size=4)
NORMALIZE: list[Normalize] = ["none", "softmax", "softmax_scaled"]


def of(length: list[int]) -> Segments:
    return Segments.of(torch.tensor(length))


def owners(segments: Segments) -> Iterator[tuple[int, slice]]:
    """Each owner, and where its things are."""
    for r, (a, b) in enumerate(pairwise(segments.start.tolist())):
        yield r, slice(a, b)


def numbers(x: Tensor | nn.Module) -> Vector:
    return (x.weight if isinstance(x, nn.Linear) else x).detach().double().numpy()  # type: ignore[union-attr]


def large(part: Any) -> Any:
    """With weights of deviation 1: as they start, most things look alike."""
    for parameter in part.parameters():
        parameter.data.normal_()
    return part.eval()


def linear(layer: nn.Linear, x: Vector) -> Vector:
    return x @ numbers(layer).T + (0 if layer.bias is None else numbers(layer.bias))


def sigmoid(x: Vector) -> Vector:
    out: Vector = 1 / (1 + np.exp(-x))
    return out


def softmax(x: Vector, axis: int = 0) -> Vector:
    exp = np.exp(x - x.max(axis, keepdims=True))
    out: Vector = exp / exp.sum(axis, keepdims=True)
    return out


def layer_norm(layer: nn.Module, x: Vector) -> Vector:
    if isinstance(layer, nn.Identity):
        return x
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    out: Vector = (x - mean) / np.sqrt(variance + 1e-5) * numbers(layer.weight) + numbers(layer.bias)  # type: ignore[arg-type]
    return out


def near(actual: Tensor, expected: Vector) -> None:
    assert_close(actual.detach().double(), torch.from_numpy(np.asarray(expected, np.float64)), rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------------------------------- scores


def of_a_pair(score: Score, q: Vector, k: Vector) -> float:
    """s(q, k) by its equation."""
    if isinstance(score, Dot):
        return float(q @ k * score.scale)
    if isinstance(score, Bilinear):
        return float(k @ numbers(score.weight).T @ q)
    if isinstance(score, Additive):
        return float(linear(score.out, np.tanh(linear(score.query, q) + linear(score.key_weight, k)))[0])
    assert isinstance(score, Projected)
    x, slope = linear(score.project[0], q), score.project[1]  # type: ignore[arg-type]
    assert isinstance(slope, PReLU)
    q, unit = np.where(x >= 0, x, x * numbers(slope.slope)), score.activation
    hidden = linear(unit.query, q) + linear(unit.key_weight, k) + numbers(unit.product) @ (q * k)
    for layer in unit.rest:
        hidden = linear(layer, sigmoid(hidden)) if isinstance(layer, nn.Linear) else hidden  # one activation before each
    return float(hidden[0])


@every_length
@pytest.mark.parametrize("name", [*SCORES])
def test_a_score_is_that_of_each_pair(name: str, length: list[int]) -> None:
    wide = 4 if "dot" in name else 3
    score, events = large(SCORES[name](wide, 4)), of(length)
    item, past = torch.randn(events.owners, 2, wide), torch.randn(events.total, 4)
    say = score(item, past, score.key(past), events)
    assert say.shape == (events.total, 2)
    for r, mine in owners(events):
        near(say[mine], np.array([[of_a_pair(score, numbers(q), numbers(k)) for q in item[r]] for k in past[mine]]).reshape(-1, 2))


def test_a_scaled_dot_is_divided_by_the_root_of_the_width() -> None:
    scaled, plain = SCORES["scaled_dot"](9, 9), SCORES["dot"](9, 9)
    assert isinstance(scaled, Dot)
    assert isinstance(plain, Dot)
    assert (scaled.scale, plain.scale) == (pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize("name", ["dot", "scaled_dot"])
def test_a_dot_is_of_one_width(name: str) -> None:
    with pytest.raises(ValueError, match=r"^a dot product is of two vectors of one width; these have 3 and 4\.$"):
        SCORES[name](3, 4)


@every_length
@pytest.mark.parametrize("interaction", ["product", "outer"])
def test_local_activation_is_that_of_the_concatenation(interaction: Interaction, length: list[int]) -> None:
    """A plain first layer over [q, k, q - k, q * k], or with all k_i q_j, i first, in place of the last."""
    dim, hidden = 3, 5
    unit, first = (
        LocalActivation(dim, (hidden, 4), "sigmoid", interaction),
        nn.Linear(3 * dim + dim ** (1 + (interaction == "outer")), hidden),
    )
    unit.load_concatenated(first.weight.data, first.bias.data)
    events = of(length)
    item, past = torch.randn(events.owners, 2, dim, requires_grad=True), torch.randn(events.total, dim, requires_grad=True)

    rows = []
    for r, mine in owners(events):
        for k in past[mine]:
            for q in item[r]:
                both = q * k if interaction == "product" else torch.stack([k[i] * q[j] for i in range(dim) for j in range(dim)])
                rows.append(torch.cat([q, k, q - k, both]))
    x = torch.stack(rows) if rows else torch.zeros(0, first.in_features)
    expected = unit.rest(torch.sigmoid(first(x))).view(-1, 2)
    say = unit(item, past, unit.key(past), events)
    assert_close(say, expected)
    if not rows:
        return

    push = torch.randn_like(say)
    whole = torch.autograd.grad(expected, (item, past, first.weight, first.bias), push)
    split = torch.autograd.grad(say, (item, past, unit.query.weight, unit.key_weight.weight, unit.product.weight, unit.query.bias), push)
    query, key, _, both = whole[2].split([dim, dim, dim, first.in_features - 3 * dim], 1)  # type: ignore[no-untyped-call]
    if interaction == "outer":
        both = torch.stack([both[h].view(dim, dim).t() for h in range(hidden)]).reshape(hidden * dim, dim)  # q_j's weight for k_i
    assert_close(split, (whole[0], whole[1], query, key, both, whole[3]), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- target attention


@every_length
@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("name", ["dot", "additive"])
def test_target_attention_is_a_sum_by_each_say(name: str, normalize: Normalize, length: list[int]) -> None:
    look, events = TargetAttention(large(SCORES[name](4, 4)), dim=4, normalize=normalize), of(length)
    item, past = torch.randn(events.owners, 3, 4), torch.randn(events.total, 4)
    interest, say = look(item, past, look.key(past), events)
    assert interest.shape == (events.owners, 3, 4)
    for r, mine in owners(events):
        k = numbers(past[mine])
        for c in range(3):
            s = np.array([of_a_pair(look.score, numbers(item[r, c]), key) for key in k])
            w = s if normalize == "none" or not len(s) else softmax(s / (2 if normalize == "softmax_scaled" else 1))
            near(say[mine, c], w)
            near(interest[r, c], w @ k if len(k) else np.zeros(4))


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_every_event_twice(normalize: Normalize) -> None:
    """Without a softmax the interest is twice as strong; with one it stays."""
    look, events = TargetAttention(large(SCORES["additive"](3, 3)), dim=3, normalize=normalize), of([2, 0, 3])
    item, past = torch.randn(3, 2, 3), torch.randn(5, 3)
    once, _ = look(item, past, look.key(past), events)
    again = past.repeat_interleave(2, 0)
    doubled, _ = look(item, again, look.key(again), of([4, 0, 6]))
    assert once[[0, 2]].abs().min() > 0.001
    assert_close(doubled, 2 * once if normalize == "none" else once)
    assert not once[1].any()


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_a_say_is_a_share_unless_it_is_not_normalised(normalize: Normalize) -> None:
    events, say = of([3, 0, 2]), torch.randn(5, 4) * 3
    found = normalized(say, events, normalize, 9)
    if normalize == "none":
        assert torch.equal(found, say)
    else:
        assert_close(events.sum(found)[[0, 2]], torch.ones(2, 4))
        near(found[3:], softmax(numbers(say[3:]) / (3 if normalize == "softmax_scaled" else 1)))


# ------------------------------------------------------------------------------------------------------------------ heads


@every_length
@pytest.mark.parametrize("own", [False, True], ids=["", "own"])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_multi_head_is_each_head_beside_the_others(heads: int, own: bool, length: list[int]) -> None:
    dim, events = 6, of(length)
    look = large(MultiHead(5, 5 if own else 4, dim, heads=heads, own=own))
    item, past = torch.randn(events.owners, 3, 5), torch.randn(events.total, 5 if own else 4)
    out, say = look(item, *look.read(past), events)
    assert out.shape == (events.owners, 3, 5)
    assert (say.shape, say.dtype) == ((events.total, 3, heads), torch.float32)
    for r, mine in owners(events):
        for c in range(3):
            q = numbers(item[r, c])
            things = np.concatenate([numbers(past[mine]), q[None]]) if own else numbers(past[mine])
            made = []
            for h in range(heads):
                part = slice(h * dim // heads, (h + 1) * dim // heads)
                query, key, value = (
                    q @ numbers(look.query)[part].T,
                    things @ numbers(look.key)[part].T,
                    things @ numbers(look.value)[part].T,
                )
                w = softmax(key @ query / np.sqrt(dim / heads)) if len(things) else np.zeros(0)
                near(say[mine, c, h], w[: mine.stop - mine.start])
                made.append(w @ value)
            near(out[r, c], linear(look.out, np.concatenate(made)))


def test_heads_share_a_width() -> None:
    with pytest.raises(ValueError, match=r"^3 heads share a width of 4, which is no multiple of it\.$"):
        MultiHead(4, 4, 4, heads=3)
    with pytest.raises(ValueError, match=r"^3 heads share a width of 4, which is no multiple of it\.$"):
        SelfAttention(4, heads=3)
    with pytest.raises(ValueError, match=r"^a candidate that looks at itself has the width of an event; these are 5 and 4\.$"):
        MultiHead(5, 4, 4, heads=2, own=True)


@given(lengths, st.sampled_from([(), (2,), (2, 3)]), st.sampled_from([1.0, 1000.0]))
def test_softmax_with_own(length: list[int], shape: tuple[int, ...], scale: float) -> None:
    events = of(length)
    logit, own = torch.randn(events.total, *shape) * scale, torch.randn(events.owners, *shape) * scale
    each, mine = softmax_with_own(logit, own, events)
    assert_close(events.sum(each) + mine, torch.ones_like(mine))
    for r, at in owners(events):
        together = softmax(np.concatenate([numbers(logit[at]), numbers(own[r])[None]]))
        near(each[at], together[:-1])
        near(mine[r], together[-1])


# --------------------------------------------------------------------------------------------------------- self-attention


def sees(i: int, n: int, causal: bool, blind: bool) -> list[int]:
    """Which of n things the i-th looks at."""
    there = [j for j in range(i + 1 if causal else n) if not (blind and j == i)]
    return there or [i]


def attended(part: SelfAttention, x: Vector, seen: Vector) -> tuple[Vector, Vector]:
    """What the things of one owner make of each other [n, dim], and the weights [n, n, H]."""
    dim, heads = part.query.in_features, part.heads
    out, say = np.zeros((len(x), dim)), np.zeros((len(x), len(x), heads))
    for i, h in product(range(len(x)), range(heads)):
        at, there = slice(h * dim // heads, (h + 1) * dim // heads), sees(i, len(x), part.causal, part.blind)
        query = numbers(part.query)[at] @ x[i]
        say[i, there, h] = softmax(np.array([query @ numbers(part.key)[at] @ seen[j] / part.scale for j in there]))
        out[i, at] = sum(say[i, j, h] * numbers(part.value)[at] @ seen[j] for j in there)
    return out if part.out is None else linear(part.out, out), say


KINDS: list[dict[str, Any]] = [
    {"heads": heads, "causal": causal, "blind": blind, "scale": scale, "out": out}
    for heads, causal, blind, scale, out in product((1, 2), (False, True), (False, True), (None, 3.0), (True, False))
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(f"{k}={v}" for k, v in kind.items()))


@every_length
@every_kind
def test_self_attention_is_each_thing_s_look_at_its_owner_s(kind: dict[str, Any], length: list[int]) -> None:
    part, things = large(SelfAttention(4, **kind)), of(length)
    assert part.scale == (kind["scale"] or (4 / kind["heads"]) ** 0.5)
    x = torch.randn(things.total, 4)
    made, say = part(x, things), part.say(x, things)
    assert made.shape == x.shape
    assert (say.shape, say.dtype) == ((things.total, things.longest, kind["heads"]), torch.float32)
    for _, mine in owners(things):
        n, (out, weight) = mine.stop - mine.start, attended(part, numbers(x[mine]), numbers(x[mine]))
        near(made[mine], out)
        near(say[mine, :n], weight)
        assert not say[mine, n:].any()
    assert part.allowed(things).any(-1).all()  # what fills a row up too: not every device knows a softmax over nothing


@every_length
@pytest.mark.parametrize("causal", [False, True])
def test_keys_and_values_may_be_of_something_else(causal: bool, length: list[int]) -> None:
    part, things = large(SelfAttention(4, heads=2, causal=causal)), of(length)
    x, seen = torch.randn(things.total, 4), torch.randn(things.total, 4)
    made, last = part(x, things, seen), part.say_on_last(x, things, seen)
    assert last.shape == (things.total, 2)
    for _, mine in owners(things):
        if mine.stop > mine.start:
            out, weight = attended(part, numbers(x[mine]), numbers(seen[mine]))
            near(made[mine], out)
            near(last[mine], weight[-1])


@every_length
@pytest.mark.parametrize(("causal", "scale"), [(True, None), (False, 3.0)])
def test_the_say_on_the_last_is_of_the_same_weights(causal: bool, scale: float | None, length: list[int]) -> None:
    part, things = large(SelfAttention(6, heads=3, causal=causal, scale=scale)), of(length)
    x = torch.randn(things.total, 6)
    say, last = part.say(x, things), part.say_on_last(x, things)
    for _, mine in owners(things):
        if mine.stop > mine.start:
            assert_close(last[mine], say[mine.stop - 1, : mine.stop - mine.start])


def test_dropout_is_of_the_weights_and_of_training_alone() -> None:
    part, things = SelfAttention(4, heads=2, dropout=0.5), of([6, 3])
    x = torch.randn(9, 4)
    assert not torch.equal(part.train()(x, things), part(x, things))
    assert torch.equal(part.eval()(x, things), part(x, things))
    part.train().dropout.eval()
    assert torch.equal(part(x, things), part(x, things))


# ----------------------------------------------------------------------------------------------------------- co-attention


@pytest.mark.parametrize(
    ("one", "other"), [([3, 0, 2, 1], [2, 4, 0, 1]), ([2], [3]), ([0], [2]), ([2, 1], [0, 0]), ([0], [0]), ([1, 5], [4, 1])]
)
def test_co_attention_is_each_side_s_look_at_the_other(one: list[int], other: list[int]) -> None:
    part, xs, ys = large(CoAttention(3, 4)), of(one), of(other)
    x, y = torch.randn(xs.total, 3), torch.randn(ys.total, 4)
    to_y, to_x = part(x, xs, y, ys)
    assert (to_y.shape, to_x.shape) == ((xs.total, 4), (ys.total, 3))
    for (_, mine), (_, theirs) in zip(owners(xs), owners(ys), strict=True):
        a, b = numbers(x[mine]), numbers(y[theirs])
        affinity = a @ numbers(part.affinity).T @ b.T  # [n, m]
        for i in range(len(a)):
            near(to_y[mine.start + i], softmax(affinity[i]) @ b if len(b) else np.zeros(4))
        for j in range(len(b)):
            near(to_x[theirs.start + j], softmax(affinity[:, j]) @ a if len(a) else np.zeros(3))


# ------------------------------------------------------------------------------------------------------------ transformer


def by_hand(layer: TransformerLayer, norm: str, x: Vector) -> Vector:
    """The layer over the things of one owner."""
    if not len(x):
        return x
    wide, narrow = layer.feed[0], layer.feed[-1]

    def feed(x: Vector) -> Vector:
        return linear(narrow, np.maximum(linear(wide, x), 0))  # type: ignore[arg-type]

    if norm == "before":
        y = layer_norm(layer.first, x)
        x = x + attended(layer.attention, y, y)[0]
        return x + feed(layer_norm(layer.second, x))
    x = layer_norm(layer.first, x + attended(layer.attention, x, x)[0])
    return layer_norm(layer.second, x + feed(x))


@every_length
@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize("norm", ["after", "before", "none"])
def test_a_transformer_layer_by_hand(norm: Any, causal: bool, length: list[int]) -> None:
    layer, things = large(TransformerLayer(SelfAttention(4, heads=2, causal=causal), 4, hidden=7, norm=norm, dropout=0.3)), of(length)
    x = torch.randn(things.total, 4)
    made = layer(x, things)
    assert made.shape == x.shape
    for _, mine in owners(things):
        near(made[mine], by_hand(layer, norm, numbers(x[mine])))


# --------------------------------------------------------------------------------------------- what all of them must obey

Part = Callable[[Segments, Tensor, Tensor], Tensor]  # things, [N, 4] and [R, 2, 4] -> [N, *], or [R, *] made of an owner's things


def parts() -> dict[str, tuple[nn.Module, Part, bool]]:
    """Each part's weights, how it is called, and whether what it gives is of owners."""
    named: dict[str, tuple[nn.Module, Part, bool]] = {}
    for name, make in SCORES.items():
        look = TargetAttention(make(4, 4), dim=4)
        named[name] = (look, lambda things, x, q, look=look: look(q, x, look.key(x), things)[0], True)  # type: ignore[misc]
    outer = LocalActivation(4, (5, 3), "sigmoid", "outer")
    named["outer"] = (outer, lambda things, x, q: outer(q, x, outer.key(x), things), False)
    for own in (False, True):
        heads = MultiHead(4, 4, 4, heads=2, own=own)
        named[f"heads {own}"] = (heads, lambda things, x, q, heads=heads: heads(q, *heads.read(x), things)[0], True)  # type: ignore[misc]
    for kind in ({}, {"causal": True}, {"blind": True}, {"causal": True, "blind": True}):
        part = SelfAttention(4, heads=2, **kind)
        named[f"self {[*kind]}"] = (part, lambda things, x, q, part=part: part(x, things), False)  # type: ignore[misc]
    layer = TransformerLayer(SelfAttention(4, heads=1, causal=True), 4, hidden=5)
    named["layer"] = (layer, lambda things, x, q: layer(x, things), False)
    both = CoAttention(4, 4)

    named["co"] = (both, lambda things, x, q: both(x, things, q.flatten(0, 1), of([2] * things.owners))[0], False)
    return named


every_part = pytest.mark.parametrize("name", [*parts()])


@every_part
@given(length=lengths, before=lengths, after=lengths, seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_other_owners_change_nothing(name: str, length: list[int], before: list[int], after: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    module, call, of_owners = parts()[name]
    large(module)
    things, together = of(length), of(before + length + after)
    x, query = torch.randn(together.total, 4), torch.randn(together.owners, 2, 4)
    a, r = sum(before), len(before)
    mine = call(things, x[a : a + things.total], query[r : r + things.owners])
    whole = call(together, x, query)
    assert_close(whole[r : r + things.owners] if of_owners else whole[a : a + things.total], mine, rtol=1e-4, atol=1e-5)


@every_part
@every_length
def test_gradients_are_finite_where_owners_have_nothing(name: str, length: list[int]) -> None:
    module, call, _ = parts()[name]
    large(module).train()
    things = of(length)
    x, query = (torch.randn(things.total, 4) * 30).requires_grad_(), (torch.randn(things.owners, 2, 4) * 30).requires_grad_()
    made = call(things, x, query)
    assert made.isfinite().all()
    (made.square().sum() + 0 * x.sum() + 0 * query.sum()).backward()  # where nothing is there, nothing depends on either
    for value in (x, query, *module.parameters()):
        assert value.grad is None or value.grad.isfinite().all()


@pytest.mark.parametrize("kind", [{}, {"blind": True}, {"heads": 2, "out": False}], ids=str)
@pytest.mark.parametrize("norm", [None, "after", "before", "none"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
def test_a_causal_one_sees_no_future(norm: Any, kind: dict[str, Any], causal: bool) -> None:
    """Other things later, or none, change nothing of what is earlier; where it is not causal they do."""
    attention = SelfAttention(4, **{"heads": 1, **kind}, causal=causal)
    part = large(attention if norm is None else TransformerLayer(attention, 4, hidden=6, norm=norm))
    things, x = of([6, 0, 4]), torch.randn(10, 4)
    before, first, changed = part(x, things), torch.arange(10) % 6 < 2, False
    for other in (torch.randn(10, 4), torch.full((10, 4), 1e4)):
        after = part(torch.where(first[:, None], x, other), things)
        assert not torch.allclose(after[~first], before[~first])
        changed |= not torch.allclose(after[first], before[first], rtol=1e-4, atol=1e-5)
    short = part(x[first], of([2, 0, 2]))
    changed |= not torch.allclose(short, before[first], rtol=1e-4, atol=1e-5)
    assert changed == (not causal)


# ------------------------------------------------------------------------------------------------------------------- HSTU


def test_hstu_core_of_spec_k11() -> None:
    query, key, value = torch.eye(2), torch.tensor([[1, 1], [0.5, -1]]), torch.tensor([[1.0, 2], [3, 4]])
    assert_close(pointwise(query, key, value, 2), torch.tensor([[0.365529, 0.731059], [-0.037883, 0.193176]]), atol=1e-5, rtol=0)


@every_length
@pytest.mark.parametrize(("heads", "most"), [(1, 5), (2, 50)])
def test_hstu_s_layer_is_its_equation(heads: int, most: int, length: list[int]) -> None:
    part, things = large(HSTULayer(4, heads=heads, most=most)), of(length)
    x = torch.randn(things.total, 4)
    made, last = part(x, things), part.say_on_last(x, things)
    assert made.shape == x.shape
    assert last.shape == (things.total, heads)

    def silu(x: Vector) -> Vector:
        return x / (1 + np.exp(-x))

    def norm(layer: nn.LayerNorm, x: Vector) -> Vector:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + layer.eps) * numbers(layer.weight) + numbers(layer.bias)

    for _, mine in owners(things):
        n = mine.stop - mine.start
        u, v, q, k = np.split(silu(norm(part.before, numbers(x[mine])) @ numbers(part.made).T + numbers(part.made.bias)), 4, axis=1)
        seen, width = np.zeros((n, 4)), 4 // heads
        for i, h in product(range(n), range(heads)):
            mine_only = slice(h * width, (h + 1) * width)
            for j in range(i + 1):
                weight = silu(np.array(q[i, mine_only] @ k[j, mine_only])) / most
                seen[i, mine_only] += weight * v[j, mine_only]
                if i == n - 1:
                    assert float(last[mine][j, h].detach()) == pytest.approx(float(weight), abs=1e-5)
        near(made[mine], numbers(x[mine]) + (u * norm(part.after, seen)) @ numbers(part.out).T + numbers(part.out.bias))
