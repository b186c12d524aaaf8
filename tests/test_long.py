"""Long pasts made short: what is kept, what is found, and that nothing changes where nothing is left out."""

from __future__ import annotations

from dataclasses import replace
from math import acos, pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from penchant.batch import Batch, Segments
from penchant.conformance.laws import Subject, enlarge
from penchant.data.load import Loader
from penchant.errors import ConfigError, UnknownNameError
from penchant.models import LONG, MODELS, apart, build, label
from penchant.models.din import DIN
from penchant.models.long import _lot
from penchant.models.search import ETA
from penchant.nn.hashing import Buckets, Planes
from penchant.nn.item import ItemConfig, item_encoder
from penchant.nn.linear import recalled, remembered
from penchant.nn.model import Wants

PASTS = [4, 0, 7, 2, 1, 10, 3]
OWN: dict[str, dict[str, Any]] = {
    "din": {"head": (16, 8), "attention": (8,), "profile": 4},
    "dien": {"head": (16, 8), "profile": 4},
    "bst": {"heads": 2, "head": (16, 8), "profile": 4},
    "dsin": {"heads": 2, "head": (16, 8), "profile": 4},
    "sasrec": {"heads": 2, "longest": 6, "negatives": 5},
    "mind": {},
}
SEARCHES = ("sim-hard", "sim-soft", "eta")
lengths = st.lists(st.integers(0, 30), min_size=1, max_size=6)


def made(loader: Loader, name: str = "din", how: str | None = None, **keys: Any) -> Any:
    """A model with large weights, the same inside whatever stands around it."""
    item, long = MODELS[name].Item.model_copy(update={"dim": 4}), None if how is None else {"name": how, **keys}
    torch.manual_seed(3)
    return enlarge(build(loader.data.encoding, name, OWN[name], item, None, long)).eval()


def alike(loader: Loader, name: str, how: str, **keys: Any) -> tuple[Any, Any]:
    """A model, and the same model within `how`."""
    plain, long = made(loader, name), made(loader, name, how, **keys)
    plain.load_state_dict(long.model.state_dict())
    return plain, long


def some(loader: Loader, *, candidates: int = 5) -> Batch:
    subject = Subject(build=lambda encoding: torch.nn.Identity(), loader=loader)
    config = loader.config.model_copy(update={"negatives": candidates - 1})
    return replace(loader, config=config).batch(subject.position(PASTS), 0)


def of(length: list[int]) -> Segments:
    return Segments.of(torch.tensor(length))


def parts(events: Segments, value: Tensor) -> list[Tensor]:
    return list(torch.split(value, events.sizes.tolist()))


# --------------------------------------------------------------------------------------------------------- nothing left out


@pytest.mark.parametrize("name", ["din", "dien", "bst"])
@pytest.mark.parametrize(
    ("how", "keys"),
    [
        ("recent", {"most": 10}),
        ("sample", {"most": 9, "recent": 1}),
        ("sparse", {"stride": 1, "most": 8, "recent": 2}),
        ("chunks", {"size": 1, "recent": 2}),
        ("sim-hard", {"nearest": 9, "recent": 1}),
        ("sim-soft", {"nearest": 10, "recent": 0}),
        ("eta", {"nearest": 7, "recent": 3}),
        ("sdim", {"recent": 10}),
        ("linear", {"recent": 10}),
        ("low-rank", {"recent": 10}),
    ],
)
def test_a_past_that_loses_nothing_is_the_past(loader: Loader, name: str, how: str, keys: dict[str, Any]) -> None:
    plain, long = alike(loader, name, how, **keys)
    batch = some(loader)
    assert_close(long(batch).logit, plain(batch).logit, rtol=1e-5, atol=1e-5)
    left = {"most": 2} if "most" in keys else {"nearest": 2} if "nearest" in keys else {}
    less = made(loader, name, how, **{**keys, "recent": 1, **left} if how != "recent" else left)
    if how != "chunks":
        assert not torch.allclose(less(batch).logit, plain(batch).logit, atol=1e-3)


@pytest.mark.parametrize("name", ["dsin", "sasrec", "mind"])
def test_the_same_of_models_that_read_whole_pasts(loader: Loader, name: str) -> None:
    plain, long = alike(loader, name, "sparse", stride=1, most=10, recent=0)
    batch = some(loader)
    assert_close(long(batch).logit, plain(batch).logit, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("how", "keys"), [("recent", {"most": 10}), ("eta", {"nearest": 8, "recent": 2})])
def test_the_say_of_events(loader: Loader, how: str, keys: dict[str, Any]) -> None:
    plain, long = alike(loader, "din", how, **keys)
    batch = some(loader)
    assert_close(long(batch, explain=True).attention, plain(batch, explain=True).attention, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------------------------------------- once


@pytest.mark.parametrize("how", ["recent", "sample", "sparse"])
def test_what_is_left_out_says_nothing_and_changes_nothing(loader: Loader, how: str) -> None:
    keys = {"recent": {"most": 3}, "sample": {"most": 2, "recent": 2}, "sparse": {"stride": 3, "most": 2, "recent": 2}}[how]
    model, batch = made(loader, "din", how, **keys), some(loader)
    say = model(batch, explain=True).attention
    index, kept = model.places(batch.history.events)
    silent = torch.ones(batch.history.events.total, dtype=torch.bool)
    silent[index] = False
    assert silent.any()
    assert torch.equal((say == 0).all(1), silent)
    assert kept.sizes.tolist() == [min(n, 3 if how == "recent" else 4) if how != "sparse" else sparse(n) for n in PASTS]
    other = torch.where(silent, batch.history.item.flip(0), batch.history.item)
    assert torch.equal(model(replace(batch, history=replace(batch.history, item=other))).logit, model(batch).logit)


def sparse(n: int) -> int:
    """How many of n events stay with a stride of 3, two of the older at most, and two of the latest."""
    return min(len(range(0, max(n - 2, 0), 3)), 2) + min(n, 2)


@given(lengths, st.integers(0, 5), st.integers(1, 6))
def test_a_sample_changes_by_one_event_at_most(length: list[int], recent: int, most: int) -> None:
    model = SAMPLE(recent=recent, most=most)
    before, after = (kept_places(model, [n + more for n in length]) for more in (0, 1))
    for n, one, other in zip(length, before, after, strict=True):
        old, new = {p for p in one if p < n - recent}, {p for p in other if p < n + 1 - recent}
        assert len(old) == min(most, max(n - recent, 0))
        assert len(old - new) <= 1
        assert {p for p in one if p >= n - recent} == set(range(max(n - recent, 0), n))
        assert one == sorted(one)


def SAMPLE(**keys: Any) -> Any:  # noqa: N802
    from penchant.models.long import Sample, SampleConfig

    model = Sample.__new__(Sample)
    torch.nn.Module.__init__(model)
    model.config = SampleConfig(**keys)
    return model


def kept_places(model: Any, length: list[int]) -> list[list[int]]:
    events = of(length)
    index, kept = model.places(events)
    return [(part - first).tolist() for part, first in zip(parts(kept, index), events.start.tolist(), strict=False)]


def test_lots_are_as_if_at_random() -> None:
    lot = _lot(torch.arange(100_000))
    assert lot.min() >= 0
    assert lot.max() < 1
    assert abs(float(lot.mean()) - 0.5) < 0.005
    assert np.histogram(lot.numpy(), 10, (0, 1))[0].min() > 9_500
    assert abs(float(np.corrcoef(lot[1:], lot[:-1])[0, 1])) < 0.02


@pytest.mark.parametrize("by", ["count", "session"])
def test_chunks_are_means(loader: Loader, by: str) -> None:
    model, batch = made(loader, "din", "chunks", by=by, size=3, recent=2), some(loader)
    history = batch.history
    if by == "session":
        fresh = torch.arange(history.events.total) % 2 == 0
        history = replace(history, fresh=fresh)
        batch = replace(batch, history=history)
    items = model.item(batch.row, batch.known)
    longer, short, spans = model.shorten(items, history)
    assert spans is not None
    for r, n in enumerate(PASTS):
        first, old = int(history.events.start[r]), max(n - 2, 0)
        if by == "count":
            groups = [range(at, min(at + 3, old)) for at in range(0, old, 3)]
        else:
            begins = [0, *(p for p in range(1, old) if (first + p) % 2 == 0)] if old else []
            groups = [range(a, b) for a, b in zip(begins, [*begins[1:], old][: len(begins)], strict=True)]
        groups += [range(p, p + 1) for p in range(old, n)]
        mine = slice(int(short.events.start[r]), int(short.events.start[r + 1]))
        assert spans[mine].tolist() == [[g.start, len(g)] for g in groups]
        expected = [items[history.item[[first + p for p in g]]].mean(0) for g in groups]
        if groups:
            assert_close(longer[short.item[mine]], torch.stack(expected))
            assert short.time[mine].tolist() == [int(history.time[first + g[-1]]) for g in groups]
    say = model(batch, explain=True).attention
    inner = model.model.score(longer, model.model.read(longer, batch.user, short), batch, explain=True).attention
    for r, n in enumerate(PASTS):
        first = int(history.events.start[r])
        mine = slice(int(short.events.start[r]), int(short.events.start[r + 1]))
        for (start, count), said in zip(spans[mine].tolist(), inner[mine], strict=True):
            assert_close(say[first + start : first + start + count], (said / count).expand(count, -1))
        assert n == 0 or spans[mine][:, 1].sum() == n


def test_mixtures_of_low_rank(loader: Loader) -> None:
    model, batch = made(loader, "din", "low-rank", rank=3, recent=2), some(loader)
    items, history = model.item(batch.row, batch.known), batch.history
    longer, short, spans = model.shorten(items, history)
    assert spans is None
    assert short.events.sizes.tolist() == [min(n, 2) + (3 if n > 2 else 0) for n in PASTS]
    r = PASTS.index(7)
    old = items[history.item[history.events.start[r] : history.events.start[r] + 5]]
    expected = torch.stack([((old @ query).softmax(0)[:, None] * old).sum(0) for query in model.query])
    assert_close(longer[short.item[short.events.start[r] : short.events.start[r] + 3]], expected)


# ----------------------------------------------------------------------------------------------------------- searched


def found(model: Any, batch: Batch) -> list[list[int]]:
    """The places that each candidate of each request found in its past."""
    items = model.item(batch.row, batch.known)
    memory = model.read(items, batch.user, batch.history)
    index, kept = model.find(items[batch.item], memory)
    start = batch.history.events.start.repeat_interleave(batch.item.shape[1])
    return [(part - first).tolist() for part, first in zip(parts(kept, index), start, strict=False)]


def asked(batch: Batch) -> list[tuple[int, int, int]]:
    """Request, candidate, and how many events the past has."""
    return [(r, c, n) for r, n in enumerate(PASTS) for c in range(batch.item.shape[1])]


def expected_of(score: list[float], n: int, nearest: int, recent: int) -> list[int]:
    """The latest events, and of the older the best; of equals the later."""
    old = range(max(n - recent, 0))
    return sorted([*sorted(old, key=lambda p: (-score[p], -p))[:nearest], *range(max(n - recent, 0), n)])


def test_eta_takes_the_least_distances(loader: Loader) -> None:
    model, batch = made(loader, "din", "eta", nearest=3, recent=1, bits=5), some(loader)
    items = model.item(batch.row, batch.known)[:, : model.dim]
    bits = items @ model.planes.plane > 0
    for (r, c, n), places in zip(asked(batch), found(model, batch), strict=True):
        past = batch.history.item[batch.history.events.start[r] : batch.history.events.start[r + 1]]
        distance = (bits[past] != bits[batch.item[r, c]]).sum(1)
        assert places == expected_of((-distance.float()).tolist(), n, 3, 1)


def test_sim_hard_takes_the_latest_of_the_category(loader: Loader) -> None:
    model, batch = made(loader, "din", "sim-hard", nearest=3, recent=1), some(loader)
    model.labelled.label.copy_(torch.arange(len(model.labelled.label)) % 3)  # 0 is UNKNOWN
    category = (batch.row % 3).float()
    met = 0
    for (r, c, n), places in zip(asked(batch), found(model, batch), strict=True):
        past = category[batch.history.item[batch.history.events.start[r] : batch.history.events.start[r + 1]]]
        mine = category[batch.item[r, c]]
        same = ((past == mine) & (mine > 0)).float().tolist()
        assert places == expected_of(same, n, 3, 1)
        met += places != expected_of([0.0] * n, n, 3, 1)
    assert met > 3  # the category decides somewhere


def test_sim_hard_holds_no_unknown_category_for_one(loader: Loader) -> None:
    model, batch = made(loader, "din", "sim-hard", nearest=2, recent=0), some(loader)
    model.labelled.label.copy_(torch.arange(len(model.labelled.label)) % 2)
    candidates = 0
    for (r, c, n), places in zip(asked(batch), found(model, batch), strict=True):
        if batch.row[batch.item[r, c]] % 2 == 0:
            assert places == expected_of([0.0] * n, n, 2, 0)
            candidates += n > 2
    assert candidates > 3


def test_sim_soft_takes_the_greatest_even_where_all_are_negative(loader: Loader) -> None:
    """A masked place whose score is 0 would be above all of a past of negative ones; no place is masked."""
    model, batch = made(loader, "din", "sim-soft", nearest=2, recent=0), some(loader)
    with torch.no_grad():
        model.of_event.weight.copy_(-model.of_item.weight)
    items = model.item(batch.row, batch.known)[:, : model.dim]
    negative = 0
    for (r, c, n), places in zip(asked(batch), found(model, batch), strict=True):
        past = items[batch.history.item[batch.history.events.start[r] : batch.history.events.start[r + 1]]]
        score = (model.of_event(past) @ model.of_item(items[batch.item[r, c]])).tolist()
        assert places == expected_of(score, n, 2, 0)
        negative += n > 2 and max(score) < 0
    assert negative


def test_the_loss_of_the_search(loader: Loader) -> None:
    model, batch = made(loader, "din", "sim-soft", nearest=2, recent=1, weight=0.7), some(loader)
    assert not model(batch).losses
    model.train()
    items = model.item(batch.row, batch.known)[:, : model.dim]
    each = []
    for r, c, _ in asked(batch):
        past = items[batch.history.item[batch.history.events.start[r] : batch.history.events.start[r + 1]]]
        item = items[batch.item[r, c]]
        say = model.of_event(past) @ model.of_item(item)
        logit = model.head(torch.cat([(say[:, None] * past).sum(0), item])[None]).squeeze()
        assert batch.label is not None
        each.append(F.binary_cross_entropy_with_logits(logit, batch.label[r, c]))
    assert_close(model(batch).losses["search"], 0.7 * torch.stack(each).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", SEARCHES)
def test_what_is_not_found_changes_nothing(loader: Loader, how: str) -> None:
    model, batch = made(loader, "dien", how, nearest=2, recent=1), some(loader, candidates=1)
    if how == "sim-hard":  # the candidate's category is that of its past's first two events
        r = PASTS.index(10)
        first = int(batch.history.events.start[r])
        model.labelled.label.zero_()
        model.labelled.label[batch.row[[int(batch.item[r, 0]), *batch.history.item[first : first + 2].tolist()]]] = 1
    places = found(model, batch)
    r = PASTS.index(10)
    assert places[r][:-1] != [7, 8]  # something but the latest
    kept = torch.zeros(batch.history.events.total, dtype=torch.bool)
    kept[[int(batch.history.events.start[r]) + place for place in places[r]]] = True
    action = torch.where(kept[:, None], batch.history.action, 0)  # nothing is searched by it, and the model reads it
    number = torch.where(kept[:, None], batch.history.number, 0.0)
    changed = replace(batch, history=replace(batch.history, action=action, number=number))
    assert torch.equal(model(changed).logit[r], model(batch).logit[r])
    assert not torch.equal(made(loader, "dien")(changed).logit[r], made(loader, "dien")(batch).logit[r])


# ------------------------------------------------------------------------------------------------------------- hashing


def pair(cosine: float) -> Tensor:
    """Two vectors of length 1."""
    return torch.tensor([[1.0, 0.0, 0.0], [cosine, sqrt(1 - cosine**2), 0.0]])


def test_how_often_signs_agree() -> None:
    """Golden number k.8."""
    cosine = 0.785
    code = Planes(3, 300_000)(pair(cosine))
    expected = 1 - acos(cosine) / pi
    assert expected == pytest.approx(0.78739, abs=2e-4)
    agree = (code[0] == code[1]).float()
    assert float(agree.mean()) == pytest.approx(expected, abs=0.003)
    three = Buckets(3, 900_000, 3).bucket(pair(cosine))
    assert float((three[0] == three[1]).float().mean()) == pytest.approx(expected**3, abs=0.003)
    assert expected**3 == pytest.approx(0.48816, abs=4e-4)


def test_buckets_as_a_loop() -> None:
    buckets, events = Buckets(4, 6, 3), of([5, 0, 2])
    past, item = torch.randn(7, 4), torch.randn(3, 2, 4)
    kept = buckets.read(past, events)
    assert kept.shape == (3, 2 * 8, 4)
    bit = lambda x: (x @ buckets.planes.plane > 0).view(-1, 2, 3)  # noqa: E731  # vectors, signatures, bits
    for r, mine in enumerate(parts(events, past)):
        for c in range(2):
            total = torch.zeros(4)
            for g in range(2):
                agree = (bit(mine)[:, g] == bit(item[r, c][None])[:, g]).all(1) if len(mine) else torch.zeros(0, dtype=torch.bool)
                total += F.normalize(mine[agree].sum(0), dim=0)
            assert_close(buckets(item, kept)[r, c], total / 2)


def test_what_buckets_expect() -> None:
    """Of one event, the share of signatures that take it is (1 - arccos(cos) / pi) ** tau."""
    for cosine in (-0.3, 0.4, 0.9):
        query, event = pair(cosine)
        buckets = Buckets(3, 18_000, 3)
        taken = buckets(query[None, None], buckets.read(event[None], of([1])))[0, 0]
        assert_close(taken, (1 - acos(cosine) / pi) ** 3 * event, rtol=0, atol=0.02)


def test_sdim_gives_the_model_the_paper_s_vector(loader: Loader) -> None:
    """A softmax over one event is 1: with nothing recent the interest of din is the pooled vector."""
    item = ItemConfig(dim=4)
    model = build(loader.data.encoding, "din", {**OWN["din"], "normalize": "softmax"}, item, None, {"name": "sdim", "recent": 0})
    batch = some(loader)
    items = model.item(batch.row, batch.known)
    inner, heard = model.model, []
    for parameter in inner.past.parameters():  # what else is known of an event is added to it; of this one nothing is
        torch.nn.init.zeros_(parameter)
    memory = model.read(items, batch.user, batch.history)
    inner.head.register_forward_pre_hook(lambda _, given: heard.append(given[1]))
    model.eval().score(items, memory, batch)
    kept = model.buckets.read(items[batch.history.item], batch.history.events)
    expected = model.buckets(items[batch.item], kept).flatten(0, 1)
    expected[[r * 5 + c for r, n in enumerate(PASTS) if n == 0 for c in range(5)]] = 0
    assert_close(heard[0][:, 0, : model.dim], expected)


# -------------------------------------------------------------------------------------------------------------- linear


def test_linear_attention() -> None:
    """Golden number k.12."""
    query, key = torch.tensor([[1.0, -1.0], [0.5, 2.0]]), torch.tensor([[0.2, 1.0], [-1.0, 0.5]])
    out = recalled(query[None], remembered(key, torch.eye(2), of([2])))
    assert_close(out[0], torch.tensor([[-0.157632, -0.738829], [0.665306, 0.143276]]), rtol=0, atol=1e-6)


def test_linear_attention_is_of_each_owner_alone() -> None:
    events, key, value, query = of([3, 0, 2]), torch.randn(5, 4), torch.randn(5, 3), torch.randn(3, 2, 4)
    both = recalled(query, remembered(key, value, events))
    for r, (k, v) in enumerate(zip(parts(events, key), parts(events, value), strict=True)):
        assert_close(both[r], recalled(query[r][None], remembered(k, v, of([len(k)])))[0])
    assert not both[1].any()


# --------------------------------------------------------------------------------------------------------------- names


def test_names_of_what_stands_around() -> None:
    assert apart("din") == ("din", "", "")
    assert apart("din+eta") == ("din", "eta", "")
    assert apart("din+iacn+eta") == ("din", "eta", "iacn")
    assert label("din", {"name": "iacn"}, {"name": "eta"}) == "din+eta+iacn"
    with pytest.raises(ConfigError) as caught:
        apart("din+eta+sdim")
    assert str(caught.value) == "'din+eta+sdim': eta and sdim are two of a kind; one was wanted."
    with pytest.raises(UnknownNameError, match="Did you mean 'eta'"):
        apart("din+etta")


class Comparing(DIN):
    """A model whose own loss compares candidates."""

    @property
    def wants(self) -> Wants:
        return Wants(candidates=True)


def test_what_is_refused(loader: Loader) -> None:
    encoding = loader.data.encoding

    def said(name: str, long: dict[str, Any], own: dict[str, Any] | None = None) -> str:
        with pytest.raises(ConfigError) as caught:
            build(encoding, name, own or {}, None, None, long, where="run")
        return str(caught.value)

    assert said("popularity", {"name": "eta"}) == (
        "long: Popularity does not use the item encoder that it is given, so nothing can be put around it."
    )
    for name, kind in {"mf": "MF", "ncf": "NCF", "amp": "AMP", "dain": "DAIN"}.items():
        assert said(name, {"name": "eta"}) == f"long: {kind} reads no past, so there is none to make short; leave long out."
    assert said("din", {"name": "sim-hard", "category": "makr"}) == "long.category is 'makr'; one of maker was wanted."
    assert "long.bits is 10; a multiple of long.width, 3, was wanted" in said("din", {"name": "sdim", "bits": 10})
    one = "one of recent, sample, sparse, chunks, low-rank can be put around it."
    assert said("dsin", {"name": "sdim"}) == f"long: DSIN reads sessions, and all that a candidate finds is one; {one}"
    with pytest.raises(ConfigError) as caught:
        ETA(encoding, item_encoder(encoding, ItemConfig(dim=4)), ETA.Config(), Comparing)
    assert str(caught.value) == f"long: Comparing compares the candidates of a request, and here each has a past of its own; {one}"
    assert said("din", {}) == f"run: long.name is None; one of {', '.join(LONG)} was wanted."
    with pytest.raises(UnknownNameError, match=r"'etta' is not a way with long pasts: there are recent, .*Did you mean 'eta'"):
        build(encoding, "din", {}, None, None, {"name": "etta"})
    with pytest.raises(ConfigError, match=r"long\.nearst is not a key"):
        build(encoding, "din", {}, None, None, {"name": "eta", "nearst": 3})


def test_a_chunk_says_the_mean_of_its_numbers_and_its_last_event_s_action(loader: Loader) -> None:
    model, batch = made(loader, "din", "chunks", size=3, recent=2), some(loader)
    history, r = batch.history, PASTS.index(10)
    _, short, _ = model.shorten(model.item(batch.row, batch.known), history)
    begin, first = int(history.events.start[r]), int(short.events.start[r])
    assert history.number[begin : begin + 8].unique(dim=0).shape[0] > 1
    for chunk, (a, b) in enumerate([(0, 3), (3, 6), (6, 8)]):
        assert_close(short.number[first + chunk], history.number[begin + a : begin + b].mean(0))
        assert torch.equal(short.action[first + chunk], history.action[begin + b - 1])
    assert torch.equal(short.number[first + 3 : first + 5], history.number[begin + 8 : begin + 10])
    assert short.fresh is not None
    assert short.fresh[first : first + 4].tolist() == [True] * 4  # each chunk, and the latest events, begin anew


def test_the_place_of_a_pooled_vector_says_nothing_but_its_time(loader: Loader) -> None:
    model, batch = made(loader, "din", "sdim", recent=2), some(loader)
    history = replace(batch.history, fresh=torch.zeros(batch.history.events.total, dtype=torch.bool))
    old, short = model.short(history, 77)
    assert old.events.sizes.tolist() == [max(n - 2, 0) for n in PASTS]
    assert short.events.sizes.tolist() == [min(n, 2) + (n > 2) for n in PASTS]
    for r, n in enumerate(PASTS):
        if n <= 2:
            continue
        first, last = int(short.events.start[r]), int(history.events.start[r]) + n - 3
        assert int(short.item[first]) == 77
        assert not short.action[first].any()
        assert short.number[first].tolist() == [0.0, 1.0] * (history.number.shape[1] // 2)
        assert int(short.time[first]) == int(history.time[last])
        assert short.fresh is not None
        assert short.fresh[first + 1 : first + 3].tolist() == [True, False]
