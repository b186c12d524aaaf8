"""BST and SASRec: against their equations by hand, what they keep of a past, and the losses of a next item."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.testing import assert_close

from penchant.batch import Batch, Output, Segments
from penchant.config import read
from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.split import Split
from penchant.encoding import Encoding
from penchant.errors import ConfigError, TrainingError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.models import build
from penchant.models.bst import BST
from penchant.models.sasrec import SASRec
from penchant.nn.item import ItemConfig
from penchant.nn.model import Wants
from penchant.schema import Time
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

Vector = NDArray[np.float64]
LOSSES = ["bce", "sampled", "cross_entropy"]


def made(encoding: Encoding, name: str, *, dim: int = 4, std: float = 0.5, **config: Any) -> Any:
    torch.manual_seed(3)
    model = build(encoding, name, config, ItemConfig(dim=dim, attributes=name == "bst"), where="run").eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=std)
    return model


def some(loader: Loader) -> Batch:
    """Requests with pasts of several lengths, none among them."""
    lengths = [3, 0, 7, 1, 10, 2, 0, 5, 3]
    have = loader.data.past(loader.position, loader.config.past, loader.tie)[1]
    return loader.batch(np.array([loader.position[have == n][3 + place] for place, n in enumerate(lengths)]), 0)


def owners(segments: Segments) -> Iterator[tuple[int, slice]]:
    for r, (a, b) in enumerate(pairwise(segments.start.tolist())):
        yield r, slice(a, b)


def numbers(x: Any) -> Vector:
    out: Vector = x.detach().double().numpy()
    return out


def linear(layer: Any, x: Vector) -> Vector:
    return x @ numbers(layer.weight).T + (0 if layer.bias is None else numbers(layer.bias))


def layer_norm(layer: Any, x: Vector) -> Vector:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    out: Vector = (x - mean) / np.sqrt(variance + 1e-5) * numbers(layer.weight) + numbers(layer.bias)
    return out


def leaky(x: Vector) -> Vector:
    return np.where(x > 0, x, 0.01 * x)


def softmax(x: Vector) -> Vector:
    exp = np.exp(x - x.max())
    out: Vector = exp / exp.sum()
    return out


# -------------------------------------------------------------------------------------------------------------------- BST


def bst_by_hand(model: BST, batch: Batch, r: int, c: int) -> tuple[float, Vector]:
    """The logit of one candidate, and its attention over past and itself, [n + 1, H], by the paper's block over the whole sequence."""
    config, (_, mine) = model.config, list(owners(batch.history.events))[r]
    items = model.item(batch.row, batch.known)
    things = np.concatenate([numbers(model.past(items, batch.history))[mine], numbers(items[batch.item[r, c]])[None]])
    n = len(things) - 1
    if config.position == "place":
        ago = [min(n - i, config.longest) for i in range(n)]
    else:
        passed = [(int(batch.time[r]) - int(t)) // 1000 for t in batch.history.time[mine]]
        ago = [1 + s.bit_length() for s in passed]
    x = np.concatenate([things, numbers(model.place.weight)[[*ago, 0]]], 1)  # [n + 1, D + P]
    look, made, say = model.attention, [], []
    dim, heads = look.query.out_features, config.heads
    for h in range(heads):
        part = slice(h * dim // heads, (h + 1) * dim // heads)
        query, key, value = (x @ numbers(layer.weight)[part].T for layer in (look.query, look.key, look.value))
        weight = np.stack([softmax(key @ q / np.sqrt(dim / heads)) for q in query])  # of all places
        made.append(weight @ value)
        say.append(weight[-1])
    x = layer_norm(model.first, x + linear(look.out, np.concatenate(made, 1)))
    x = layer_norm(model.second, x + linear(model.feed[-1], leaky(linear(model.feed[0], x))))
    head, person = model.head, numbers(model.person(batch))[r]
    hidden = leaky(linear(head.candidate, x[-1]) + linear(head.request, person))  # what goes on is the last place
    for layer in head.rest:
        hidden = linear(layer, hidden) if isinstance(layer, nn.Linear) else leaky(hidden) if isinstance(layer, nn.LeakyReLU) else hidden
    return float(hidden[0]), np.stack(say, 1)


@pytest.mark.parametrize(
    "config",
    [{"position": "time"}, {"position": "time", "heads": 3, "hidden": 7}, {"position": "place", "longest": 4, "place": 5}],
    ids=str,
)
def test_bst_by_hand(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "bst", head=(6, 5), **{"heads": 2, **config}), some(loader)
    assert isinstance(model, BST)
    output = model(batch, explain=True)
    assert output.attention is not None
    assert output.head is not None
    assert output.head.shape == (*output.attention.shape, model.config.heads)
    for r, mine in owners(batch.history.events):
        for c in range(batch.item.shape[1]):
            logit, say = bst_by_hand(model, batch, r, c)
            assert float(output.logit[r, c].detach()) == pytest.approx(logit, rel=1e-4, abs=1e-5)
            assert_close(output.head[mine, c].double(), torch.from_numpy(say[:-1]), rtol=1e-4, atol=1e-5)
            assert_close(output.attention[mine, c].double(), torch.from_numpy(say[:-1].mean(1)), rtol=1e-4, atol=1e-5)


def test_a_distance_is_by_powers_of_two_seconds(loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "bst", heads=2), some(loader).take(torch.tensor([0]))
    seconds = [-5, 0, 0.999, 1, 1.999, 2, 3.999, 4, 86_400, 2.0**30 - 1, 2.0**30, 1e12]
    time = int(batch.time[0]) - torch.tensor([round(1000 * s) for s in seconds])
    memory = replace(
        model.read(model.item(batch.row, batch.known), batch.user, batch.history), segments=Segments.of(torch.tensor([len(time)]))
    )
    ago = model.ago(replace(memory, each={"time": time}), batch)
    assert ago.tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 18, 31, 32, 32]
    assert model.place.num_embeddings == 33


@pytest.mark.parametrize("position", ["time", "place"])
def test_bst_asks_how_long_ago_when_the_moment_is_known(position: str, loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "bst", heads=2, position=position), some(loader)
    later = replace(batch, time=batch.time + 40 * 86_400_000)
    moved = ~torch.isclose(model(later).logit, model(batch).logit, rtol=1e-3).all(1)
    expected = (batch.history.events.length > 0) & (position == "time")
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("position", ["time", "place"])
def test_bst_sees_the_order_of_a_past(position: str, loader: Loader) -> None:
    """The same items at the same times, which are 1, 4, 16, ... seconds ago, the other way round."""
    model, batch = made(loader.data.encoding, "bst", heads=2, position=position), some(loader)
    events = batch.history.events
    ago = 4 ** (events.spread(events.length) - 1 - events.position)
    batch = replace(batch, history=replace(batch.history, time=events.spread(batch.time) - 1000 * ago))
    turned = events.start[1:].index_select(0, events.row) - 1 - events.position
    history = replace(
        batch.history, item=batch.history.item[turned], action=batch.history.action[turned], number=batch.history.number[turned]
    )
    changed = ~torch.isclose(model(replace(batch, history=history)).logit, model(batch).logit, rtol=1e-4).all(1)
    assert torch.equal(changed, events.length > 1)


def test_bst_has_a_width_that_its_heads_can_share(encoding: Encoding) -> None:
    width = 4 * 4 + 8
    assert made(encoding, "bst", heads=8).attention.query.out_features == width
    assert made(encoding, "bst", heads=5).attention.query.out_features == 25
    assert made(encoding, "bst", heads=5, place=9).attention.query.out_features == 25
    assert [made(encoding, "bst", hidden=hidden).feed[0].out_features for hidden in (None, 7)] == [width, 7]


def test_bst_needs_times_for_distances_in_time(encoding: Encoding) -> None:
    events = encoding.schema.events
    rows = replace(
        encoding, schema=encoding.schema.model_copy(update={"events": events.model_copy(update={"time": Time(column="time", unit="rows")})})
    )
    made(rows, "bst", position="place")
    with pytest.raises(ConfigError) as error:
        made(rows, "bst")
    assert str(error.value) == "bst: position is 'time', but with events.time.unit 'rows' no time is known. Set position to 'place'."


# ----------------------------------------------------------------------------------------------------------------- SASRec


def states_by_hand(model: SASRec, batch: Batch, mine: slice) -> tuple[Vector, Vector]:
    """The state after each event of one past [n, D]; the weights of the last in the last block [n, H]."""
    config, items = model.config, model.item(batch.row, batch.known)
    authors, n, dim = config.block == "authors", mine.stop - mine.start, items.shape[1]
    x = numbers(model.past(items, batch.history))[mine] * (math.sqrt(dim) if config.embedding == "authors" else 1)
    x = x + numbers(model.place.weight)[[min(n - 1 - i, config.longest - 1) for i in range(n)]]
    say = np.zeros((n, config.heads))
    for layer in model.layers:
        asks = layer_norm(layer.first, x)
        sees = x if authors else asks
        out = np.zeros((n, dim))
        for h in range(config.heads):
            part, look = slice(h * dim // config.heads, (h + 1) * dim // config.heads), layer.attention
            for i in range(n):
                key, value = (sees[: i + 1] @ numbers(w.weight)[part].T for w in (look.key, look.value))
                say[: i + 1, h] = softmax(key @ (numbers(look.query.weight)[part] @ asks[i]) / math.sqrt(dim / config.heads))
                out[i, part] = say[: i + 1, h] @ value
        x = (asks if authors else x) + out
        inner = layer_norm(layer.second, x)
        x = (inner if authors else x) + linear(layer.feed[-1], np.maximum(linear(layer.feed[0], inner), 0))
    return layer_norm(model.norm, x), say


@pytest.mark.parametrize("longest", [3, 200])
@pytest.mark.parametrize("embedding", ["paper", "authors"])
@pytest.mark.parametrize("block", ["paper", "authors"])
def test_sasrec_by_hand(block: str, embedding: str, longest: int, loader: Loader) -> None:
    model = made(loader.data.encoding, "sasrec", block=block, embedding=embedding, heads=2, longest=longest, dropout=0.0)
    batch = some(loader)
    assert isinstance(model, SASRec)
    output = model(batch, explain=True)
    assert output.attention is not None
    assert output.head is not None
    items = model.item(batch.row, batch.known)
    learning = model.train().read(items, batch.user, batch.history)
    for r, mine in owners(batch.history.events):
        states, say = states_by_hand(model, batch, mine)
        last = states[-1] if len(states) else numbers(model.norm.bias)
        assert_close(learning.each["state"][mine].double(), torch.from_numpy(states), rtol=1e-4, atol=1e-5)
        for c in range(batch.item.shape[1]):
            assert float(output.logit[r, c].detach()) == pytest.approx(float(numbers(items[batch.item[r, c]]) @ last), rel=1e-4, abs=1e-5)
            assert_close(output.head[mine, c].double(), torch.from_numpy(say), rtol=1e-4, atol=1e-5)
            assert_close(output.attention[mine, c].double(), torch.from_numpy(say.mean(1)), rtol=1e-4, atol=1e-5)


def test_a_score_is_the_product_of_an_interest_and_a_target(loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "sasrec"), some(loader)
    items = model.item(batch.row, batch.known)
    memory = model.read(items, batch.user, batch.history)
    assert ({*memory.whole}, {*memory.each}) == ({"state"}, {"say"})
    every = model.interests(memory) @ model.targets(items).t()  # [R, 1, M]
    assert every.shape == (batch.requests, 1, len(batch.row))
    assert_close(model(batch).logit, every[:, 0].gather(1, batch.item))


@pytest.mark.parametrize("block", ["paper", "authors", "hstu"])
def test_no_state_sees_its_future(block: str, loader: Loader) -> None:
    """Each event is of a row of its own, and what scores items is held apart: a loss pulls at no vector read after its state."""
    model, batch = made(loader.data.encoding, "sasrec", block=block, heads=2, dropout=0.0).train(), some(loader)
    events = batch.history.events
    row = torch.arange(events.total)
    read = torch.randn(events.total, 4, requires_grad=True)
    memory = model.read(read, batch.user, replace(batch.history, item=row))
    items = model.item(batch.row, batch.known).detach()
    for at in row.tolist():
        loss = -(memory.each["state"][at] @ items.t()).log_softmax(0)[0]
        (pull,) = torch.autograd.grad(loss, read, retain_graph=True)
        reached = pull.abs().sum(1) > 0
        expected = (events.row == events.row[at]) & (row <= at)
        assert torch.equal(reached, expected)


# ----------------------------------------------------------------------------------------------------------------- losses


def tiny(loader: Loader) -> Batch:
    """Requests of a handful, whose candidates weigh: one positive, two, none; an empty past with one; drawn items that are the next."""
    batch = some(loader)
    sizes = batch.history.events.sizes
    three, empty = (sizes >= 3).nonzero()[:3, 0], (sizes == 0).nonzero()[0, 0]
    batch = batch.take(torch.stack([three[0], empty, three[1], three[2]]))
    label = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]])
    weight = torch.tensor([[2.0, 1, 0.5], [1, 1, 1], [0.25, 3, 1], [1, 1, 1]])
    assert batch.negative is not None
    hits = batch.negative.clone()
    start = batch.history.events.start
    hits[0, 1], hits[0, 2] = batch.history.item[start[0] + 1], batch.item[0, 0]
    hits[2, 0], hits[2, 3] = batch.item[2, 2], batch.history.item[start[3] - 1]
    hits[1, 4] = batch.item[1, 1]
    return replace(batch, label=label, weight=weight, negative=hits)


def by_loop(kind: str, model: SASRec, batch: Batch, weighed: bool) -> float:
    """A state after another: what it is asked, and what that costs."""
    history, vector = batch.history, numbers(model.item(batch.row, batch.known))
    assert history.other is not None
    assert batch.negative is not None
    assert batch.negative_log_q is not None
    assert batch.label is not None
    assert batch.weight is not None

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    def cost(r: int, state: Vector, right: int, wrong: list[tuple[float, int]]) -> float:
        s = vector @ state
        if kind == "cross_entropy":
            return -float(np.log(softmax(s)[right]))
        if kind == "bce":
            against = sum(w * -math.log(1 - sigmoid(s[i])) for w, i in wrong) / max(sum(w for w, _ in wrong), 1e-9)
            return -math.log(sigmoid(s[right])) + against
        drawn = [(int(i), math.exp(q)) for i, q in zip(batch.negative[r], batch.negative_log_q[r], strict=True)]  # type: ignore[index]
        rest = sum(math.exp(s[i]) / (len(drawn) * q) for i, q in drawn if i != right)
        return -math.log(math.exp(s[right]) / (math.exp(s[right]) + rest))

    total, count = 0.0, 0.0
    for r, mine in owners(history.events):
        states, _ = states_by_hand(model, batch, mine)
        for place, state in enumerate(states[:-1]):
            at = mine.start + place + 1
            total += cost(r, state, int(history.item[at]), [(1.0, int(history.other[at]))])
            count += 1
        last = states[-1] if len(states) else numbers(model.norm.bias)
        weight = batch.weight[r].tolist() if weighed else [1.0] * batch.item.shape[1]
        wrong = [(w, int(i)) for w, i, y in zip(weight, batch.item[r], batch.label[r], strict=True) if y < 0.5]
        for w, i, y in zip(weight, batch.item[r], batch.label[r], strict=True):
            if y > 0.5:
                total += w * cost(r, last, int(i), wrong)
                count += w
    return total / count


@pytest.mark.parametrize("weighed", [True, False], ids=["weighed", ""])
@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_that_of_each_state(kind: str, weighed: bool, loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "sasrec", loss=kind, dropout=0.0, heads=2), tiny(loader)
    expected = by_loop(kind, model, batch, weighed)
    output: Output = model.train()(batch if weighed else replace(batch, weight=None))
    assert float(output.losses["next"].detach()) == pytest.approx(expected, rel=1e-5)
    assert not model.eval()(batch).losses


@pytest.mark.parametrize("kind", LOSSES)
def test_with_nothing_to_tell_the_loss_is_nothing(kind: str, loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "sasrec", loss=kind).train(), tiny(loader).take(torch.tensor([1, 1]))
    loss = model(replace(batch, label=torch.zeros(2, 3))).losses["next"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is None or not p.grad.to_dense().any() for p in model.parameters())


def test_what_each_loss_wants(loader: Loader) -> None:
    wants = [made(loader.data.encoding, "sasrec", loss=loss, negatives=7).wants for loss in LOSSES]
    assert wants == [Wants(others=True), Wants(further=7, against_past=True), Wants(catalogue=True)]


def test_cross_entropy_is_over_the_catalogue(loader: Loader, split: Split) -> None:
    """Where a loader follows what is wanted: all items with training rows, whatever a batch speaks of."""
    model, data = made(loader.data.encoding, "sasrec", loss="cross_entropy", dropout=0.0), loader.data
    config = LoadConfig(past=10, negatives=1, unknown=0, latest=1)
    mine = Loader.for_training(data, split.train, config, 0, catalogue=model.wants.catalogue)
    batch = mine.batch(mine.position[:3], 0)
    there = data.encoding.catalogue.known
    assert {*np.flatnonzero(there).tolist()} <= {*batch.row.tolist()}
    table, total, count = numbers(model.item.id.weight), 0.0, 0
    rows = batch.row.numpy()
    assert there[rows].sum() > 4 * len(batch.history.item.unique()) / 2
    for r, mine_ in owners(batch.history.events):
        states, _ = states_by_hand(model, batch, mine_)
        following = [*batch.history.item[mine_][1:].tolist(), int(batch.item[r, 0])]
        for state, next in zip(states, following, strict=True):
            total -= float(np.log(softmax(table[np.where(batch.known, rows, 0)] @ state)[next]))
            count += 1
    assert count > 6
    assert float(model.train()(batch).losses["next"].detach()) == pytest.approx(total / count, rel=1e-5)


def test_what_a_loss_wants_and_does_not_get(loader: Loader) -> None:
    batch = some(loader)
    for loss, without, words in (
        ("bce", replace(batch, history=replace(batch.history, other=None)), "History.other, which the loss 'bce' of sasrec needs."),
        ("sampled", replace(batch, negative=None), "Batch.negative with its log-probabilities, which the loss 'sampled' of sasrec needs."),
    ):
        with pytest.raises(TrainingError) as error:
            made(loader.data.encoding, "sasrec", loss=loss).train()(without)
        assert str(error.value) == f"this batch has no {words}"


def test_heads_must_share_a_width(encoding: Encoding) -> None:
    with pytest.raises(ConfigError) as error:
        made(encoding, "sasrec", heads=3)
    assert str(error.value) == "sasrec: heads is 3, but an item's vector is 4 wide, which is no multiple of it."


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tastes")
    write_world(folder / "raw", people=300, items=100, tastes=5, events=30, seed=1)
    return prepare(folder / "raw", folder / "log")


@pytest.mark.parametrize("kind", LOSSES)
def test_sasrec_learns_tastes_from_one_example_a_person(kind: str, world: Any, tmp_path: Path) -> None:
    """With its own loss alone, as it asks for. A random order has a GAUC of .5; popularity has .49."""
    config = RunConfig(
        log=str(world.folder),
        model={"name": "sasrec", "loss": kind, "negatives": 32},
        item=ItemConfig(dim=16, attributes=False),
        protocol="loo-full",
        data=LoadConfig(past=30, negatives=1, unknown=0),
        train=TrainConfig(epochs=8, batch_size=32, rate=5e-3, table_rate=2e-2, valid_every=1000),
    )
    told = config.judging().named(config)
    assert (told.loss, told.data.latest) == ({"name": "none"}, 1)
    run = fit(config, tmp_path / "run", log=world)
    judged = judge(run.model, run.data, run.split, replace(PROTOCOLS["loo-99"], name="loo-30", count=30), past=30)
    assert judged.value("gauc") > 0.75


def test_what_was_no_positive_is_no_next_item(loader: Loader) -> None:
    """A step counts as much as its next item was chosen; of what was not, whatever it says costs nothing."""
    model, batch = made(loader.data.encoding, "sasrec", dropout=0.0).train(), some(loader)
    events = batch.history.events
    random = torch.rand(events.total, generator=torch.Generator().manual_seed(0)).round()
    none = replace(batch, label=torch.zeros_like(batch.label), history=replace(batch.history, chosen=random))
    found = model(none).losses["next"]
    items = model.item(batch.row, batch.known)
    state = model.read(items, batch.user, batch.history).each["state"]
    each = []
    for _, mine in owners(events):
        for at in range(mine.start + 1, mine.stop):
            right, wrong = ((state[at - 1] * items[place[at]]).sum() for place in (batch.history.item, batch.history.other))
            each += [torch.nn.functional.softplus(-right) + torch.nn.functional.softplus(wrong)] if random[at] else []
    torch.testing.assert_close(found, torch.stack(each).mean())
    nothing = replace(none, history=replace(batch.history, chosen=torch.zeros(events.total)))
    assert float(model(nothing).losses["next"].detach()) == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"model": {"name": "din"}, "loss": {"name": "none"}},
            "loss.name is 'none', but din has no loss of its own that could take its place: it would learn nothing.",
        ),
        (
            {"model": {"name": "sasrec", "loss": "sampled"}, "data": {"sampler": {"name": "category"}}},
            "data.sampler.name is 'category', but sasrec asks for draws that every event of a past stands against: 'category' draws for "
            "one moment. Take uniform or popularity, or another loss of the model.",
        ),
        (
            {"model": {"name": "sasrec"}, "data": {"target": "explicit", "negatives": 0}},
            "data.target is 'explicit', but the loss of sasrec is of what was chosen next; it predicts no values. "
            "Take another model, or data.target 'implicit'.",
        ),
    ],
    ids=["nothing to learn by", "draws of one moment", "values"],
)
def test_runs_that_would_learn_something_else_are_refused(asked: dict[str, Any], message: str, log: Log, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        fit(read(RunConfig, {"log": str(log.folder), "protocol": "loo-full", **asked}), tmp_path / "run", log=log)
    assert str(caught.value) == message
