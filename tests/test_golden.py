"""Golden numbers (SPEC, section k) and layers against their equations by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Batch, Segments, Shown
from penchant.config import Config
from penchant.data.load import Loader
from penchant.encoding import Encoding, Vocabulary
from penchant.models import build
from penchant.models.dain import DAIN, Context
from penchant.models.deepfm import DeepFM, DeepFMConfig, pairs
from penchant.models.din import DIN
from penchant.models.mf import MF
from penchant.models.ncf import NCF
from penchant.models.wide_deep import WideDeep, WideDeepConfig
from penchant.nn.dice import Dice
from penchant.nn.embedding import Crossed, mix
from penchant.nn.item import Ids, ItemConfig, ItemEncoder, Widened, item_encoder
from penchant.nn.mlp import ACTIVATIONS, Activation, Head, Split, Tower
from penchant.nn.model import Model
from penchant.nn.person import Facts
from penchant.schema import Field, Impressions

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


# -------------------------------------------------------------------------------------------------------------------- head


def test_head_is_one_linear_layer_and_the_rest() -> None:
    head = Head(3, 4, (6, 5), "sigmoid")
    assert head.request is not None
    request, candidate = torch.randn(2, 3), torch.randn(2, 7, 4)
    weight = torch.cat([head.request.weight, head.candidate.weight], 1)
    whole = torch.cat([request[:, None].expand(-1, 7, -1), candidate], -1) @ weight.t() + head.candidate.bias
    assert_close(head(request, candidate), head.rest(torch.sigmoid(whole)).squeeze(-1))


# -------------------------------------------------------------------------------------------------------------------- DIN


def model_of(loader: Loader, name: str, *, attributes: bool = True, **config: object) -> Model:
    model = build(loader.data.encoding, name, config, ItemConfig(dim=4, attributes=attributes)).eval()
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
            unit = model.attention.score
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


# -------------------------------------------------------------------------------------------------------------------- NCF

Vector = NDArray[np.float64]


def numbers(x: Tensor) -> Vector:
    return x.detach().double().numpy()


def linear(layer: nn.Linear, x: Vector) -> Vector:
    return numbers(layer.weight) @ x + (0 if layer.bias is None else numbers(layer.bias))


def layers_of(layers: nn.Module, x: Vector) -> Vector:
    """Linear layers with a ReLU after each that is followed by one, by hand."""
    for layer in layers:
        x = linear(layer, x) if isinstance(layer, nn.Linear) else np.maximum(x, 0) if isinstance(layer, nn.ReLU) else x
    return x


def first_of(layer: Split | Head, request: Vector, candidate: Vector) -> Vector:
    """The first layer in one piece, over request and candidate side by side."""
    weight = layer.candidate.weight if layer.request is None else torch.cat([layer.request.weight, layer.candidate.weight], 1)
    x = candidate if layer.request is None else np.concatenate([request, candidate])
    return numbers(weight) @ x + numbers(layer.candidate.bias)


def tower_of(tower: Tower, request: Vector, candidate: Vector) -> Vector:
    return layers_of(tower.rest, first_of(tower.first, request, candidate))


def head_of(head: Head, request: Vector, candidate: Vector) -> float:
    hidden = np.maximum(first_of(head, request, candidate), 0)
    return float(layers_of(head.rest, hidden)[0])


def each_pair(batch: Batch) -> Iterator[tuple[int, int, int, int]]:
    """(request, candidate, the candidate's catalogue row, its id or 0)."""
    for r in range(batch.requests):
        for c in range(batch.item.shape[1]):
            place = int(batch.item[r, c])
            row = int(batch.row[place])
            yield r, c, row, row if batch.known[place] else 0


@pytest.mark.parametrize("parts", [("gmf", "mlp"), ("gmf",), ("mlp",)], ids=str)
def test_ncf_by_hand(parts: tuple[str, ...], loader: Loader) -> None:
    model, batch = model_of(loader, "ncf", attributes=False, layers=(8, 6, 4), parts=parts), loader.batch(loader.position[::40], 0)
    assert isinstance(model, NCF)
    assert not batch.known[batch.item].all()
    logit = numbers(model(batch).logit)
    for r, c, _, id in each_pair(batch):
        person, vector = int(batch.user.code[r, 0]), []
        if "gmf" in parts:
            table = model.item.item.id if "mlp" in parts else model.item.id
            vector.append(numbers(model.people["gmf"].weight[person]) * numbers(table.weight[id]))
        if "mlp" in parts:
            table = model.item.extra.table if "gmf" in parts else model.item.table
            vector.append(tower_of(model.tower, numbers(model.people["mlp"].weight[person]), numbers(table.weight[id])))
        assert logit[r, c] == pytest.approx(linear(model.out, np.concatenate(vector))[0], rel=1e-4, abs=1e-5)


# ------------------------------------------------------------------------------------------------------------------- DAIN


@pytest.mark.parametrize("profile", [False, True], ids=["id", "profile"])
@pytest.mark.parametrize("context", ["embedding", "onehot", "number", "none"])
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_dain_by_hand(fusion: str, context: str, profile: bool, loader: Loader) -> None:
    model = model_of(loader, "dain", attributes=False, fusion=fusion, context=context, profile=profile, tower=(8, 6, 4), field=3)
    batch, sizes = loader.batch(loader.position[::40], 0), loader.data.encoding.sizes("context")
    assert isinstance(model, DAIN)
    assert (batch.context == 0).any()
    logit = numbers(model(batch).logit)
    for r, c, _, id in each_pair(batch):
        user = batch.user.code[r].tolist()
        p = [numbers(model.user.weight[user[0]])]
        if profile:
            p += [numbers(model.profile.tables[0].weight[user[1]]), numbers(batch.user.number[r])]
        moment: list[Vector] = []
        for place, (code, size) in enumerate(zip(batch.context[r].tolist(), sizes, strict=True)):
            if context == "embedding":
                moment.append(numbers(model.context.fields.tables[place].weight[code]))
            elif context == "onehot":
                moment.append(np.eye(size)[code])
            elif context == "number":
                moment.append(np.array([(code - 1) / (size - 2), 0.0] if code else [0.0, 1.0]))
        if context != "none":
            moment.append(numbers(batch.number[r]))
        q, z, m = numbers(model.item.id.weight[id]), np.concatenate(p), np.concatenate([np.zeros(0), *moment])
        if fusion == "early":
            expected = first_of(model.out, np.zeros(0), tower_of(model.tower, np.concatenate([z, m]), q))
        else:
            expected = first_of(model.out, m, tower_of(model.tower, z, q))
        assert logit[r, c] == pytest.approx(expected[0], rel=1e-4, abs=1e-5)


def test_an_hour_as_a_number_is_over_23(loader: Loader) -> None:
    context = Context(loader.data.encoding, "number", 1)
    batch = loader.batch(loader.position[:4], 0)
    hour = replace(batch, context=torch.tensor([[1, 0, 0], [24, 0, 0], [13, 0, 0], [0, 0, 0]]))
    assert_close(context(hour)[:, :2], torch.tensor([[0, 0], [1, 0], [12 / 23, 0], [0, 1]]))


# --------------------------------------------------------------------------------------------------- what is shown, made


def showing(loader: Loader) -> tuple[Encoding, Batch]:
    """The loader's encoding and a batch of it, with a category and a number known of each showing."""
    encoding, batch = loader.data.encoding, loader.batch(loader.position[::40], 0)
    shown = Impressions(shown={"place": Field(), "price": Field(kind="number")})
    schema = encoding.schema.model_copy(update={"events": encoding.schema.events.model_copy(update={"impressions": shown})})
    places = Vocabulary(pa.array([str(n) for n in range(5)], pa.string()))
    encoding = replace(encoding, schema=schema, vocabularies={**encoding.vocabularies, "shown.place": places})
    shape = batch.item.shape
    missing = (torch.rand(*shape, 1) < 0.3).float()
    number = torch.cat([torch.randn(*shape, 1) * (1 - missing), missing], -1)
    return encoding, replace(batch, shown=Shown(code=torch.randint(6, (*shape, 1)), number=number))


def random_model(kind: type[Model], encoding: Encoding, item: ItemEncoder, config: Config) -> Any:
    model = kind(encoding, item, config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.4)
    return model


def facts_of(facts: Facts, code: Tensor, number: Tensor) -> list[Vector]:
    """A vector a field, by hand."""
    out = [numbers(table.weight[int(id)]) for table, id in zip(facts.tables, code, strict=True)]
    pairs = number.reshape(-1, 2).tolist()
    return out + [value * numbers(facts.numbers[n, 0]) + missing * numbers(facts.numbers[n, 1]) for n, (value, missing) in enumerate(pairs)]


def events_of(batch: Batch, r: int) -> list[int]:
    """The places in `row` of a request's past."""
    start = batch.history.events.start.tolist()
    return batch.history.item[start[r] : start[r + 1]].tolist()


# ----------------------------------------------------------------------------------------------------------------- DeepFM


@pytest.mark.parametrize("past", [True, False], ids=["past", "no past"])
@pytest.mark.parametrize("odd", [False, True], ids=["even", "odd part"])
def test_deepfm_is_the_sum_over_all_pairs_of_fields(past: bool, odd: bool, loader: Loader) -> None:
    encoding, batch = showing(loader)
    item: ItemEncoder = item_encoder(encoding, ItemConfig(dim=4))
    item = Widened(item, Ids(encoding.catalogue, 3)) if odd else item  # a part of another width is projected
    model = random_model(DeepFM, encoding, item, DeepFMConfig(hidden=(8, 6), past=past))
    vectors, known = item(batch.row, batch.known), batch.known
    first = model.item.item.extra if past else model.item.extra
    weights = numbers(first(batch.row, known).sum(-1))
    logit = numbers(model(batch).logit)
    for r, c, _, _ in each_pair(batch):
        user, moment = (batch.user.code[r], batch.user.number[r]), (batch.context[r], batch.number[r])
        shown, place = (batch.shown.code[r, c], batch.shown.number[r, c]), int(batch.item[r, c])
        request = facts_of(model.user, *user)
        facts = zip((model.user_weight, model.context_weight, model.shown_weight), (user, moment, shown), strict=True)
        total = weights[place] + sum(w[0] for weight, of in facts for w in facts_of(weight, *of))
        if past:
            mine = events_of(batch, r)
            ids = [int(batch.row[e]) if known[e] else 0 for e in mine]
            request.append(np.mean([numbers(vectors[e, :4]) for e in mine], 0) if mine else np.zeros(4))
            total += np.mean([model.item.extra.table.weight[id, 0].item() for id in ids]) if mine else 0.0
        request += facts_of(model.context, *moment)
        candidate = [numbers(part) for part in vectors[place].split(list(item.parts))]
        if odd:
            candidate[-1] = linear(model.projections[-1], candidate[-1])
        candidate += facts_of(model.shown, *shown)
        field = [*request, *candidate]
        products = sum(field[i] @ field[j] for i in range(len(field)) for j in range(i))
        deep = head_of(model.network, np.concatenate(request), np.concatenate(candidate))
        assert logit[r, c] == pytest.approx(total + products + deep, rel=1e-4, abs=1e-4)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**31))
def test_pairs_of_any_fields(requests: int, candidates: int, of_request: int, of_candidate: int, dim: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    request = torch.randn(requests, of_request, dim, generator=random, dtype=torch.float64)
    candidate = torch.randn(requests, candidates, of_candidate, dim, generator=random, dtype=torch.float64)
    found = pairs(request, candidate)
    for r in range(requests):
        for c in range(candidates):
            field = torch.cat([request[r], candidate[r, c]])
            assert_close(
                found[r, c], sum((field[i] @ field[j] for i in range(len(field)) for j in range(i)), torch.zeros((), dtype=field.dtype))
            )


# ------------------------------------------------------------------------------------------------------------ Wide & Deep

WRAP = (1 << 64) - 1


def bucket_of(ids: Sequence[int], buckets: int) -> int:
    """The documented hash, in Python's integers."""
    if 0 in ids:
        return 0
    h = 0
    for id in ids:
        z = (h + id + 0x9E3779B97F4A7C15) & WRAP
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WRAP
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WRAP
        h = z ^ (z >> 31)
    return 1 + (h >> 1) % (buckets - 1)


def test_the_mix_is_splitmix64() -> None:
    """The first numbers that the published generator makes of seed 1234567."""
    state, found = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & WRAP
        found.append(int(mix(torch.tensor(state - (1 << 64 if state >> 63 else 0)))) & WRAP)
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=2, max_size=3), min_size=1, max_size=5), st.integers(2, 2**20))
def test_the_bucket_of_any_ids(rows: list[list[int]], buckets: int) -> None:
    rows = [(row * 2)[:3] for row in rows]
    crossed = Crossed.__new__(Crossed)
    nn.Module.__init__(crossed)
    crossed.buckets = buckets
    found = crossed.bucket(*torch.tensor(rows).T).tolist()
    assert found == [bucket_of(row, buckets) for row in rows]


CROSSES = (
    ("user.id", "item.id"),
    ("context.device", "user.town"),
    ("item.maker", "shown.place"),
    ("past.id", "item.id"),
    ("context.weekday", "past.maker", "item.maker"),
)


def test_wide_and_deep_by_hand(loader: Loader) -> None:
    encoding, batch = showing(loader)
    item = item_encoder(encoding, ItemConfig(dim=4))
    model = random_model(WideDeep, encoding, item, WideDeepConfig(crosses=CROSSES, buckets=500, hidden=(8, 6), profile=3))
    tables = [
        {ids: cross.table.weight[bucket_of(ids, 500), 0].item() for ids in all_pairs(encoding, names) if 0 not in ids}
        for cross, names in zip(model.crosses, CROSSES, strict=True)
    ]
    vectors, maker = item(batch.row, batch.known), encoding.catalogue.code[:, 0]
    _, weights, singles, _ = (numbers(part) for part in torch.split(model.item(batch.row, batch.known), model.width, -1))
    past, person, logit = model.past(vectors, batch.history), model.person(batch), numbers(model(batch).logit)
    for r, c, row, id in each_pair(batch):
        user, context, place = batch.user.code[r].tolist(), batch.context[r].tolist(), int(batch.item[r, c])
        mine, owner = events_of(batch, r), batch.history.events.row == r
        events = [((int(batch.row[e]) if batch.known[e] else 0), int(maker[int(batch.row[e])])) for e in mine]
        facts = (
            facts_of(model.user, batch.user.code[r], batch.user.number[r])
            + facts_of(model.context, batch.context[r], batch.number[r])
            + facts_of(model.shown, batch.shown.code[r, c], batch.shown.number[r, c])
        )
        wide = sum(w[0] for w in facts) + weights[place].sum() + sum(singles[e, 0] for e in mine)
        shown = int(batch.shown.code[r, c, 0])
        wide += tables[0].get((user[0], id), 0) + tables[1].get((context[2], user[1]), 0) + tables[2].get((int(maker[row]), shown), 0)
        wide += sum(tables[3].get((e, id), 0) + tables[4].get((context[1], m, int(maker[row])), 0) for e, m in events)
        mean = numbers(past[owner]).mean(0) if mine else np.zeros(item.dim)
        deep = head_of(model.deep, np.concatenate([numbers(person[r]), mean]), numbers(vectors[place]))
        assert logit[r, c] == pytest.approx(wide + deep, rel=1e-4, abs=1e-4)


def all_pairs(encoding: Encoding, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Every combination of ids of some fields."""
    sizes = {
        "user.id": encoding.users.size,
        "user.town": encoding.vocabularies["user.town"].size,
        "item.id": encoding.catalogue.size,
        "past.id": encoding.catalogue.size,
        "item.maker": encoding.vocabularies["item.maker"].size,
        "past.maker": encoding.vocabularies["item.maker"].size,
        "context.device": encoding.vocabularies["context.device"].size,
        "context.weekday": 8,
        "shown.place": 6,
    }
    return product(*(range(sizes[name]) for name in names))
