"""DSIN against its equations by hand, and the traps that its implementations fall into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Batch, Memory, Segments, Sessions
from penchant.conformance.laws import Subject, read
from penchant.conformance.world import write_world
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.prepare import prepare
from penchant.data.split import leave_last_out
from penchant.errors import ConfigError
from penchant.models import build
from penchant.models.dsin import DSIN, BiasEncoding, BiLSTM, Sinusoid
from penchant.nn.item import ItemConfig
from penchant.train.loss import total
from penchant.train.optimiser import Optimiser

Vector = NDArray[np.float64]
CUT = [[3, 1, 2], [], [1], [2, 2], [1, 1, 1, 1], [12], [1, 4]]  # the lengths of each request's sessions, the oldest first


def made(loader: Loader, **config: Any) -> DSIN:
    """With weights so large that a leak cannot hide."""
    model = build(loader.data.encoding, "dsin", {"heads": 2, "head": [8, 5], **config}, ItemConfig(dim=4), where="run")
    assert isinstance(model, DSIN)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    return model.eval()


def cut(loader: Loader, sessions: Sequence[Sequence[int]] = CUT, *, candidates: int = 3) -> Batch:
    """A batch whose pasts are of sessions of these lengths."""
    lengths = [sum(mine) for mine in sessions]
    batch = Subject(build=lambda encoding: nn.Identity(), loader=loader).batch([min(n, 10) for n in lengths], candidates=candidates)
    events = Segments.of(torch.tensor(lengths))  # past the longest past of the loader, events come again
    again = batch.history.events.start[events.row] + events.position % batch.history.events.length[events.row]
    history = replace(
        batch.history,
        events=events,
        fresh=torch.tensor([place == 0 for mine in sessions for length in mine for place in range(length)], dtype=torch.bool),
        other=None,
        **{name: getattr(batch.history, name)[again] for name in ("item", "time", "action", "number")},
    )
    return replace(batch, history=history)


def one(loader: Loader, batch: Batch, model: DSIN, *rows: int) -> Memory:
    return read(model, batch.take(torch.tensor(rows)))


# ----------------------------------------------------------------------------------------------------------------- by hand


def numbers(x: Tensor) -> Vector:
    return x.detach().double().numpy()


def sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


def softmax(x: Sequence[float]) -> Vector:
    exp = np.exp(np.array(x) - max(x))
    return exp / exp.sum()


def linear(layer: nn.Linear, x: Vector) -> Vector:
    y = numbers(layer.weight) @ x
    return y if layer.bias is None else y + numbers(layer.bias)


def normed(layer: nn.Module, x: Vector) -> Vector:
    if isinstance(layer, nn.Identity):
        return x
    assert isinstance(layer, nn.LayerNorm)
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * numbers(layer.weight) + numbers(layer.bias)


def encoded(model: DSIN, x: Vector, ago: int, place: int) -> Vector:
    """An event's vector and what tells where it stands; `ago` counts sessions from the latest on."""
    config, dim = model.config, len(x)
    place = min(place, config.places - 1)
    if isinstance(model.encoding, BiasEncoding):
        of_session, of_place = numbers(model.encoding.session), numbers(model.encoding.place)
        return x + of_session[min(ago, config.sessions - 1)] + of_place[place] + numbers(model.encoding.unit)
    return x + numbers(model.encoding.place[place]) * math.sqrt(dim)


def session_by_hand(model: DSIN, x: list[Vector]) -> tuple[Vector, Vector]:
    """The encoded events of a session -> its interest [D], and each event's share by each head [T, H]."""
    layer, heads = model.extractor, model.config.heads
    attention, authors = layer.attention, model.config.attention == "authors"
    dim, n = len(x[0]), len(x)
    q, k, v = ([linear(of, e).reshape(heads, -1) for e in x] for of in (attention.query, attention.key, attention.value))
    scale = math.sqrt(dim // heads if authors else dim)
    share, out = np.zeros((n, heads)), []
    for t in range(n):
        seen = [s for s in range(n) if s != t or not authors or n == 1]
        head = np.zeros((heads, dim // heads))
        for h in range(heads):
            say = softmax([q[t][h] @ k[s][h] / scale for s in seen])
            for a, s in zip(say, seen, strict=True):
                head[h] += a * v[s][h]
                share[s, h] += a / n
        y = head.reshape(-1)
        y = normed(layer.first, x[t] + (y if attention.out is None else linear(attention.out, y)))
        inner, outer = layer.feed[0], layer.feed[2]
        out.append(normed(layer.second, y + linear(outer, np.maximum(linear(inner, y), 0))))
    return np.mean(out, 0), share


def lstm_by_hand(net: nn.LSTM, x: list[Vector]) -> list[Vector]:
    for layer in range(net.num_layers):
        w, u, b, d = (numbers(getattr(net, f"{name}_l{layer}")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h = c = np.zeros(len(x[0]))
        out = []
        for e in x:
            i, f, g, o = np.split(w @ e + b + u @ h + d, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            out.append(h)
        x = out
    return x


def mixed_by_hand(net: BiLSTM, x: list[Vector]) -> list[Vector]:
    onward, back = lstm_by_hand(net.onward, x), lstm_by_hand(net.back, x[::-1])[::-1]
    return [(a + b) / 2 if net.authors else np.concatenate([a, b]) for a, b in zip(onward, back, strict=True)]


def looked_at(score: Any, q: Vector, things: list[Vector]) -> tuple[Vector, Vector]:
    """The sum of sessions by a candidate's say, and the say."""
    if hasattr(score, "weight"):
        say = softmax([linear(score.weight, k) @ q for k in things])
    else:
        unit = score
        if hasattr(score, "project"):
            y = linear(score.project[0], q)
            q, unit = np.where(y > 0, y, numbers(score.project[1].slope) * y), score.activation
        logits = []
        for k in things:
            hidden = linear(unit.query, q) + linear(unit.key_weight, k) + linear(unit.product, q * k)
            for part in (part for part in unit.rest if isinstance(part, nn.Linear)):
                hidden = linear(part, sigmoid(hidden))
            logits.append(float(hidden[0]))
        say = softmax(logits)
    return np.sum([a * k for a, k in zip(say, things, strict=True)], 0), say


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "few": {"sessions": 2, "places": 2},
    "without interaction": {"interaction": "none"},
    "mlp": {"activating": "mlp"},
    "authors": {"encoding": "sinusoid", "attention": "authors", "interaction": "authors", "activating": "mlp"},
    "sinusoid": {"encoding": "sinusoid", "heads": 4, "places": 3},
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_dsin_by_hand(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, **config), cut(loader)
    out = model(batch, explain=True)
    logit, items = numbers(out.logit), model.item(batch.row, batch.known)
    past, item, person = numbers(model.past(items, batch.history)), numbers(items), numbers(model.person(batch))
    heads, e, s = model.config.heads, 0, 0
    for r, sessions in enumerate(CUT):
        interests, share, begin = [], [], e
        for place, length in enumerate(sessions):
            x = [encoded(model, past[e + t], len(sessions) - 1 - place, t) for t in range(length)]
            interest, mine = session_by_hand(model, x)
            interests.append(interest)
            share.append(mine)
            e += length
        mixed = mixed_by_hand(model.interaction, interests) if model.interaction is not None and sessions else []
        for c in range(batch.item.shape[1]):
            q = item[batch.item[r, c]]
            dim = len(q)
            own, say = looked_at(model.own.score, q, interests) if sessions else (np.zeros(dim), np.zeros(0))
            known = [q, own]
            if model.interaction is not None:
                known.append(looked_at(model.mixed.score, q, mixed)[0] if sessions else np.zeros(model.interaction.dim))
            first = linear(model.head.candidate, np.concatenate(known))
            assert model.head.request is not None
            hidden = np.maximum(first + linear(model.head.request, person[r]), 0)
            hidden = np.maximum(linear(model.head.rest[0], hidden), 0)
            assert logit[r, c] == pytest.approx(linear(model.head.rest[2], hidden)[0], rel=1e-3, abs=1e-4)
            assert numbers(out.session[s : s + len(sessions), c]) == pytest.approx(say, abs=1e-5)
            each = [a * of for a, mine in zip(say, share, strict=True) for of in mine]
            assert numbers(out.head[begin:e, c]) == pytest.approx(np.array(each).reshape(-1, heads), abs=1e-5)
            assert numbers(out.attention[begin:e, c]) == pytest.approx(np.array(each).reshape(-1, heads).mean(1), abs=1e-5)
        s += len(sessions)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_what_is_explained_sums_to_one(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, **config), cut(loader)
    out = model(batch, explain=True)
    sessions, there = batch.history.sessions, torch.tensor([float(bool(mine)) for mine in CUT])[:, None].expand(-1, 3)
    assert_close(sessions.requests.sum(out.session), there)
    assert_close(batch.history.events.sum(out.attention), there)
    assert_close(batch.history.events.sum(out.head), there[..., None].expand(-1, -1, model.config.heads))
    assert_close(sessions.events.sum(out.attention), out.session)
    learning = model.train()(batch, explain=True)  # which makes no shares
    assert learning.attention is None
    assert learning.session is not None


# --------------------------------------------------------------------------------------------------------- (a) the encoding


def of(sessions: Sequence[Sequence[int]]) -> Sessions:
    return Sessions(
        events=Segments.of(torch.tensor([n for mine in sessions for n in mine])),
        requests=Segments.of(torch.tensor([len(mine) for mine in sessions])),
    )


def test_bias_encoding() -> None:
    encoding = BiasEncoding(2, 2, 3)
    for parameter, value in zip((encoding.session, encoding.place, encoding.unit), ((0.1, 0.2), (0.01, 0.02), (1, 2, 3)), strict=True):
        parameter.data = torch.tensor(value, dtype=torch.float32)
    bias = encoding(of([[2, 2]]))  # k = 1, the older session, stands first
    assert float(bias[0, 2].detach()) == pytest.approx(3.21)
    assert_close(bias, torch.tensor([[1.21, 2.21, 3.21], [1.22, 2.22, 3.22], [1.11, 2.11, 3.11], [1.12, 2.12, 3.12]]))


def test_bias_encoding_is_the_default_and_small_at_first(loader: Loader) -> None:
    model = build(loader.data.encoding, "dsin", {}, ItemConfig(dim=4))
    assert isinstance(model, DSIN)
    assert isinstance(model.encoding, BiasEncoding)
    assert [tuple(p.shape) for p in model.encoding.parameters()] == [(5,), (10,), (model.item.dim,)]  # K + T + D numbers
    assert 0 < max(float(p.detach().abs().max()) for p in model.encoding.parameters()) < 1e-3


def test_numbers_of_sessions_and_places() -> None:
    encoding, sessions = BiasEncoding(3, 2, 1), [[1, 3, 1, 2], [], [2]]
    for parameter in encoding.parameters():
        parameter.data.normal_()
    expected = [
        encoding.session[min(len(mine) - 1 - place, 2)] + encoding.place[min(t, 1)] + encoding.unit
        for mine in sessions
        for place, length in enumerate(mine)
        for t in range(length)
    ]
    assert_close(encoding(of(sessions)), torch.stack(expected))


def test_a_session_that_arrives_renumbers_the_others(loader: Loader) -> None:
    """The latest session is number 0 whatever came before it: what is older than it changes its numbers of nothing."""
    model = made(loader, interaction="none")
    batch = cut(loader, [[2, 3]])
    latest = batch.history.take(torch.tensor([0]))
    alone = replace(
        latest,
        events=Segments.of(torch.tensor([3])),
        fresh=torch.tensor([True, False, False]),
        **{name: getattr(latest, name)[2:] for name in ("item", "time", "action", "number")},
    )
    assert_close(read(model, replace(batch, history=alone)).each["interest"], read(model, batch).each["interest"][1:])


def test_the_sinusoid_is_that_of_vaswani() -> None:
    place, dim = Sinusoid(4, 6)(of([[1, 3]])), 6
    for t, row in zip((0, 0, 1, 2), place.detach(), strict=True):
        for c in range(dim):
            angle = t / 10000 ** ((c - c % 2) / dim)
            assert float(row[c]) == pytest.approx((math.cos if c % 2 else math.sin)(angle) * math.sqrt(dim), abs=1e-5)


# --------------------------------------------------------------------------------------- (b), (c), (f) what sessions are of


@pytest.mark.parametrize("attention", ["paper", "authors"])
def test_who_looks_at_whom(attention: str, loader: Loader) -> None:
    model = made(loader, attention=attention)
    x, events = torch.randn(4, model.item.dim), Segments.of(torch.tensor([1, 3]))
    say = model.extractor.attention.say(x, events)
    assert_close(say[0, 0], torch.ones(2))  # alone, it looks at itself
    own = say[1:].diagonal(dim1=0, dim2=1)
    assert bool((own > 0).all()) == (attention == "paper")
    assert bool((own == 0).all()) == (attention == "authors")


def test_a_longer_session_elsewhere_changes_nothing(loader: Loader) -> None:
    batch = cut(loader)
    for config in VARIANTS.values():
        model = made(loader, **config)
        with_long, short, other = (one(loader, batch, model, *rows) for rows in ((3, 5), (3,), (3, 4)))
        for name, value in short.each.items():
            assert_close(with_long.each[name][:2], value, rtol=1e-4, atol=1e-5)
            assert_close(other.each[name][:2], value, rtol=1e-4, atol=1e-5)
        assert_close(with_long.event["share"][:4], short.event["share"])


def test_sessions_of_one_event_are_kept(loader: Loader) -> None:
    model, batch = made(loader), cut(loader)
    memory = one(loader, batch, model, 4)
    assert memory.segments.sizes.tolist() == [4]
    assert bool((memory.each["interest"].norm(dim=-1) > 0.1).all())
    out = model(batch.take(torch.tensor([4])), explain=True)
    assert bool((out.session > 0).all())
    assert_close(out.session, out.attention)


# ------------------------------------------------------------------------------------------------ (d), (e) between sessions


@pytest.mark.parametrize("authors", [False, True])
def test_the_recurrent_net_sees_no_empty_session(authors: bool) -> None:
    net, sizes = BiLSTM(3, authors=authors).eval(), [2, 0, 5, 1, 0]
    x, things = torch.randn(8, 3), Segments.of(torch.tensor(sizes))
    together = net(x, things)
    assert together.shape == (8, 3 if authors else 6)
    for mine, expected in zip(x.split(sizes), together.split(sizes), strict=True):
        assert_close(net(mine, Segments.of(torch.tensor([len(mine)]))), expected)
    if not authors:  # one layer is torch's own
        both = nn.LSTM(3, 3, bidirectional=True)
        for name, parameter in net.onward.named_parameters():
            getattr(both, name).data = parameter.data
            getattr(both, f"{name}_reverse").data = getattr(net.back, name).data
        assert_close(things.unpack(both(things.pack(x))[0]), together)


def test_time_runs_from_the_oldest_session_on() -> None:
    net, things = BiLSTM(3).eval(), Segments.of(torch.tensor([2]))
    x = torch.randn(2, 3)
    before, newer, older = net(x, things), net(x + torch.tensor([[0], [1.0]]), things), net(x + torch.tensor([[1.0], [0]]), things)
    assert torch.equal(newer[0, :3], before[0, :3])  # what came later says nothing of what the first was, onward
    assert not torch.equal(newer[0, 3:], before[0, 3:])
    assert torch.equal(older[1, 3:], before[1, 3:])
    assert not torch.equal(older[1, :3], before[1, :3])


def test_the_sessions_of_a_memory_stand_in_time_order(loader: Loader) -> None:
    model, batch = made(loader), cut(loader, [[2, 2]])
    swapped = replace(
        batch.history, item=batch.history.item.roll(2), action=batch.history.action.roll(2, 0), number=batch.history.number.roll(2, 0)
    )
    for parameter in model.encoding.parameters():
        parameter.data.zero_()
    memory, other = read(model, batch), read(model, replace(batch, history=swapped))
    assert_close(other.each["interest"], memory.each["interest"].flip(0))
    dim = model.item.dim
    first, turned = memory.each["mixed"], other.each["mixed"]
    assert model.interaction is not None
    alone = model.interaction(memory.each["interest"][:1], Segments.of(torch.tensor([1])))
    assert_close(first[0, :dim], alone[0, :dim])  # the oldest, onward, has seen nothing else
    assert_close(turned[1, dim:], alone[0, dim:])  # the latest, backward, neither
    assert not torch.isclose(turned[1, :dim], alone[0, :dim]).all()


def test_the_authors_biases_and_dropout() -> None:
    net = BiLSTM(4, authors=True)
    for part in (net.onward, net.back):
        assert part.num_layers == 2
        assert part.dropout == net.dropout.p == 0.2
        for layer in range(2):
            assert bool((getattr(part, f"bias_ih_l{layer}") + getattr(part, f"bias_hh_l{layer}") == 1).all())
    assert BiLSTM(4).dropout.p == 0


# --------------------------------------------------------------------------------------------------------------- (g) heads


def test_heads_share_an_items_width(loader: Loader) -> None:
    batch = cut(loader)
    dim = made(loader).item.dim
    for heads in (1, 2, 4, dim):
        assert made(loader, heads=heads)(batch).logit.isfinite().all()
    with pytest.raises(ConfigError) as error:
        made(loader, heads=3)
    assert str(error.value) == "dsin: 3 heads share an item's width of 16, which is no multiple of it; heads can be 1, 2, 4, 8, 16."


# --------------------------------------------------------------------------------------------------------------- it learns


@pytest.mark.slow
def test_attention_finds_the_candidate_s_own_taste(tmp_path: Path) -> None:
    """For people of several tastes: the share of attention on events of the candidate's taste, beside their share of the past."""
    tastes = 6
    write_world(tmp_path / "raw", people=200, items=240, tastes=tastes, events=20, seed=1)
    log = prepare(tmp_path / "raw", tmp_path / "log")
    split = leave_last_out(log)
    data = EncodedLog(log, fit_encoding(log, split.train))
    model = build(data.encoding, "dsin", {"heads": 2, "head": [32, 16]}, ItemConfig(dim=4, std=0.5))
    optimiser, loader = Optimiser(model, rate=0.03, table_rate=0.03), Loader.for_training(data, split.train, LoadConfig(past=20), 0)
    for epoch in range(6):
        for batch in loader.epoch(epoch, 128):
            optimiser.zero_grad()
            total(model(batch), batch).backward()
            optimiser.step()
    rows = data.rows(split.test)
    batch = replace(loader, position=split.test).assemble(split.test, rows[:, None])
    with torch.inference_mode():
        attention = model.eval()(batch, explain=True).attention
    assert attention is not None
    ids = [int(raw[1:]) for raw in log.items.column("id").to_pylist()]
    taste, events = torch.tensor([-1, *(id % tastes for id in ids)]), batch.history.events
    own = (taste[batch.row[batch.history.item]] == events.spread(taste[torch.from_numpy(rows)])).float()
    base, found = events.mean(own), events.sum(attention[:, 0] * own)
    several = (base > 0) & (base < 1)
    assert int(several.sum()) > 100
    assert float(found[several].mean()) > float(base[several].mean()) + 0.07
