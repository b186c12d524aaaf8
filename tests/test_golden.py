"""Golden numbers (SPEC, section k) and layers against their equations by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from trials import AUGRU, noise, route, scale_grad, squash

from penchant.batch import Batch, Segments
from penchant.data.load import Loader
from penchant.models import build
from penchant.models.din import DIN
from penchant.models.mf import MF
from penchant.nn.attention import LocalActivation
from penchant.nn.dice import Dice
from penchant.nn.item import ItemConfig
from penchant.nn.mlp import ACTIVATIONS, Activation, Head
from penchant.nn.model import Model

NORMALIZE = ["none", "softmax", "softmax_scaled"]


# ------------------------------------------------------------------------------------------------------------------- Dice


def dice(alpha: float = 0.25, dim: int = 2) -> Dice:
    layer = Dice(dim)
    layer.alpha.data.fill_(alpha)
    return layer


def by_hand(x: Tensor, mean: Tensor, variance: Tensor, alpha: float | Tensor) -> Tensor:
    p = torch.sigmoid((x - mean) / (variance + 1e-8).sqrt())
    return p * x + (1 - p) * alpha * x


def test_dice_in_training() -> None:
    golden = torch.tensor([[0.420327, -0.840654], [1.875, 0], [4.148365, 1.659346]])
    x = torch.tensor([[1.0, -2], [3, 0], [5, 2]])
    assert_close(dice()(x), golden, rtol=0, atol=1e-5)
    assert_close(dice()(x.view(3, 1, 2)), golden.view(3, 1, 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 2), (4, 5, 2)], ids=str)
def test_dice_in_training_has_the_gradient_of_its_equation(shape: tuple[int, ...]) -> None:
    layer, x, push = dice(), (torch.randn(shape) * 2 + 1).requires_grad_(), torch.randn(shape)
    flat, alpha = x.reshape(-1, 2), layer.alpha
    expected = by_hand(flat, flat.mean(0), flat.var(0, correction=0), alpha).view(shape)
    assert_close(layer(x), expected)
    assert_close(torch.autograd.grad(layer(x), (x, alpha), push), torch.autograd.grad(expected, (x, alpha), push), rtol=1e-4, atol=1e-5)


def test_dice_in_evaluation_uses_moving_averages() -> None:
    layer = dice().train()
    mean, variance = torch.zeros(2), torch.ones(2)
    for _ in range(3):
        x = torch.randn(10, 2) * 3 + 1
        layer(x)
        mean, variance = mean.lerp(x.mean(0), 0.1), variance.lerp(x.var(0), 0.1)
    x = torch.randn(4, 2)
    assert_close(layer.eval()(x), by_hand(x, mean, variance, 0.25))


@pytest.mark.parametrize("rows", [0, 1])
def test_dice_of_too_few_rows_for_moments_uses_moving_averages_and_keeps_them(rows: int) -> None:
    layer = dice()
    layer(torch.randn(10, 2) + 2)
    mean, variance, x = layer.mean.clone(), layer.variance.clone(), torch.randn(rows, 2)
    assert_close(layer.train()(x), by_hand(x, mean, variance, 0.25))
    assert torch.equal(layer.mean, mean)
    assert torch.equal(layer.variance, variance)


@pytest.mark.parametrize("name", [*ACTIVATIONS])
@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5), (2, 5, 5)], ids=str)
def test_activations_are_by_the_last_dimension(name: Activation, shape: tuple[int, ...]) -> None:
    layer = ACTIVATIONS[name](5).eval()
    for parameter in layer.parameters():
        parameter.data.normal_()
    x = torch.randn(shape)
    assert_close(layer(x), layer(x.reshape(-1, 5)).view(shape))


# -------------------------------------------------------------------------------------------------------- local activation


@pytest.mark.parametrize("activation", ["dice", "sigmoid"])
def test_local_activation_is_that_of_the_concatenation(activation: Activation) -> None:
    unit, first = LocalActivation(5, (4, 3), activation), nn.Linear(20, 4)
    unit.load_concatenated(first.weight.data, first.bias.data)
    events = Segments.of(torch.tensor([3, 0, 2]))
    item, past = torch.randn(3, 2, 5, requires_grad=True), torch.randn(5, 5, requires_grad=True)
    q, k = item[events.row], past[:, None].expand(-1, 2, -1)
    expected = unit.rest(unit.activation(first(torch.cat([q, k, q - k, q * k], -1)))).squeeze(-1)
    say = unit(item, past, unit.key(past), events)
    assert_close(say, expected)
    push = torch.randn_like(say)
    whole = torch.autograd.grad(expected, (item, past, first.weight, first.bias), push)
    split = torch.autograd.grad(say, (item, past, unit.query.weight, unit.key.weight, unit.product.weight, unit.query.bias), push)
    assert_close(split[:2], whole[:2])
    query, key, difference, product = whole[2].chunk(4, 1)
    assert_close(split[2:], (query, key, product, whole[3]))
    assert_close(query - key, difference)  # so that a step of the whole layer is a step of the split one


def test_head_is_one_linear_layer_and_the_rest() -> None:
    head = Head(3, 4, (6, 5), "sigmoid")
    assert head.request is not None
    request, candidate = torch.randn(2, 3), torch.randn(2, 7, 4)
    weight = torch.cat([head.request.weight, head.candidate.weight], 1)
    whole = torch.cat([request[:, None].expand(-1, 7, -1), candidate], -1) @ weight.t() + head.candidate.bias
    assert_close(head(request, candidate), head.rest(torch.sigmoid(whole)).squeeze(-1))


# -------------------------------------------------------------------------------------------------------------------- DIN


def model_of(loader: Loader, name: str, **config: object) -> Model:
    model = build(loader.data.encoding, name, config, ItemConfig(dim=4)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    return model


def interest_of(model: DIN, batch: Batch) -> Tensor:
    """[R, C, D] what DIN's head is told of the past."""
    told: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
    model(batch)
    hook.remove()
    return told[0][..., : model.item.dim]


def twice(batch: Batch) -> Batch:
    """The same pasts, with every event two times over."""
    place = torch.arange(batch.history.events.total).repeat_interleave(2)
    history = replace(
        batch.history,
        item=batch.history.item[place],
        time=batch.history.time[place],
        action=batch.history.action[place],
        number=batch.history.number[place],
        events=Segments.of(2 * batch.history.events.sizes),
        other=None,
    )
    return replace(batch, history=history)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_every_event_twice(normalize: str, loader: Loader) -> None:
    model, batch = model_of(loader, "din", attention=[8, 4], head=[8], normalize=normalize), loader.batch(loader.position[:12], 0)
    once, doubled = interest_of(model, batch), interest_of(model, twice(batch))
    assert once.abs().max() > 0.1
    assert_close(doubled, 2 * once if normalize == "none" else once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_an_empty_past_is_no_interest(normalize: str, loader: Loader) -> None:
    model, batch = model_of(loader, "din", attention=[8, 4], head=[8], normalize=normalize), loader.batch(loader.position[:12], 0)
    empty = batch.history.events.length == 0
    assert empty.any()
    assert not empty.all()
    interest = interest_of(model, batch)
    assert not interest[empty].any()
    assert interest[~empty].any()


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_the_weights_are_those_of_the_authors(normalize: str, loader: Loader) -> None:
    """softmax_scaled: softmax(s / sqrt(D)), D the width of an item's vector (din/model.py:222-225)."""
    model, batch = model_of(loader, "din", attention=[8, 4], head=[8], normalize=normalize), loader.batch(loader.position[:12], 0)
    items = model.item(batch.row, batch.known)
    past = model.past(items, batch.history)
    for r, (a, b) in enumerate(zip(batch.history.events.start[:-1].tolist(), batch.history.events.start[1:].tolist(), strict=True)):
        for c in range(batch.item.shape[1]):
            k = past[a:b]
            q = items[batch.item[r, c]].expand_as(k)
            unit = model.activation
            s = unit.rest(unit.activation(unit.query(q) + unit.key(k) + unit.product(q * k))).squeeze(-1)
            scale = model.item.dim**0.5 if normalize == "softmax_scaled" else 1
            w = s if normalize == "none" else torch.softmax(s / scale, 0)
            assert_close(model(batch, explain=True).attention[a:b, c], w, rtol=1e-4, atol=1e-5)
        if r == 4:
            break


# --------------------------------------------------------------------------------------------------------------------- MF


def test_mf_by_hand(loader: Loader) -> None:
    model, batch = model_of(loader, "mf"), loader.batch(loader.position[::40], 0)
    assert isinstance(model, MF)
    known = batch.known[batch.item]
    row = torch.where(known, batch.row[batch.item], 0)
    p, q = model.user.weight[batch.user.code[:, :1]], model.item.item(batch.row, batch.known)[batch.item]
    assert_close(model(batch).logit, (p * q).sum(-1) + model.item.extra.table.weight[row].squeeze(-1))


def test_mf_orders_items_by_their_bias_for_a_person_never_seen(loader: Loader) -> None:
    model, batch = build(loader.data.encoding, "mf", {}).eval(), loader.batch(loader.position[::40], 0)
    model.item.extra.table.weight.data.normal_()
    nobody = replace(batch, user=replace(batch.user, code=torch.zeros_like(batch.user.code)))
    row = torch.where(batch.known[batch.item], batch.row[batch.item], 0)
    assert_close(model(nobody).logit, model.item.extra.table.weight[row].squeeze(-1))
    assert not torch.equal(model(batch).logit, model(nobody).logit)


# ----------------------------------------------------------------------------------------------------------------- trials


@pytest.mark.parametrize(
    ("say", "golden"),
    [(0.0, (0.1, -0.2, 0.3)), (0.25, (0.090551, -0.167848, 0.277570)), (1.0, (0.062205, -0.071392, 0.210280))],
)
def test_augru_of_the_paper(say: float, golden: tuple[float, ...]) -> None:
    cell = AUGRU(3, 3)
    for layer, (first, last) in ((cell.input, (-0.5, 0.5)), (cell.state, (0.4, -0.4))):
        layer.weight.data = torch.linspace(first, last, 27).view(9, 3)
        layer.bias.data.zero_()
    h = cell.step(cell.input(torch.tensor([1, 0.5, -1])), torch.tensor([0.1, -0.2, 0.3]), torch.tensor([say]))
    assert_close(h, torch.tensor(golden), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [[4, 0, 7, 2, 0, 5], [0, 0], [3]], ids=str)
def test_augru_of_a_batch_is_a_loop(length: list[int]) -> None:
    events, cell = Segments.of(torch.tensor(length)), AUGRU(3, 4)
    gates, say = torch.randn(events.total, 12), torch.rand(events.total, 2)
    expected = torch.zeros(len(length), 2, 4)
    for r, (a, b) in enumerate(zip(events.start[:-1].tolist(), events.start[1:].tolist(), strict=True)):
        for c in range(2):
            for t in range(a, b):
                expected[r, c] = cell.step(gates[t], expected[r, c].clone(), say[t, c])
    assert_close(cell(events, gates, say), expected)


def test_augru_of_full_attention_is_a_gru() -> None:
    cell, gru = AUGRU(3, 4), nn.GRU(3, 4)
    reset, keep, new = (part for part in gru.weight_ih_l0.data.chunk(3))
    reset_h, keep_h, new_h = (part for part in gru.weight_hh_l0.data.chunk(3))
    cell.input.weight.data, cell.state.weight.data = torch.cat([reset, -keep, new]), torch.cat([reset_h, -keep_h, new_h])
    sign = torch.cat([torch.ones(4), -torch.ones(4), torch.ones(4)])  # torch's gate says how much to keep
    cell.input.bias.data, cell.state.bias.data = sign * gru.bias_ih_l0.data, sign * gru.bias_hh_l0.data
    x = torch.randn(6, 3)
    events = Segments.of(torch.tensor([6]))
    assert_close(cell(events, cell.input(x), torch.ones(6, 1))[0], gru(x)[1])


@pytest.mark.parametrize(
    ("rounds", "golden"),
    [(1, (0.575146, 0.359246)), (2, (0.591932, 0.339261)), (3, (0.608739, 0.318623))],
)
def test_routing(rounds: int, golden: tuple[float, float]) -> None:
    e, first = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([[0.5, -0.5], [-0.5, 0.5], [0, 0]])
    expected = torch.tensor([golden, golden[::-1]])
    alone, say = route(Segments.of(torch.tensor([3])), e, first, rounds)
    assert_close(alone[0], expected, rtol=0, atol=1e-5)
    assert_close(say.sum(-1), torch.ones(3))
    together, _ = route(Segments.of(torch.tensor([3, 0, 3])), e.repeat(2, 1), first.repeat(2, 1), rounds)
    assert_close(together, torch.stack([expected, torch.zeros(2, 2), expected]), rtol=0, atol=1e-5)


def test_routing_from_nothing_leaves_all_capsules_alike() -> None:
    e = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    alike, _ = route(Segments.of(torch.tensor([3])), e, torch.zeros(3, 2), 3)
    assert_close(alike[0], torch.full((2, 2), 0.471405), rtol=0, atol=1e-5)
    assert torch.equal(noise(8, 3), noise(8, 3))
    assert (squash(torch.randn(50, 4) * 100).norm(dim=-1) < 1 + 1e-6).all()


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_scale_grad(scale: float) -> None:
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(scale_grad(x, scale), x)
    assert_close(torch.autograd.grad(scale_grad(x, scale).square().sum(), x)[0], scale * 2 * x)


def test_gradient_mixing() -> None:
    table = torch.tensor([[1.0, 2], [3, 4]], requires_grad=True)
    loss = scale_grad(table, 0.3).square().sum() + 0.5 * 3 * scale_grad(table, 0.7).sum()
    loss.backward()
    assert float(loss.detach()) == 45
    assert_close(table.grad, torch.tensor([[1.65, 2.25], [2.85, 3.45]]))
