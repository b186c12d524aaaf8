"""Segments, and what is made of them, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from penchant.batch import Batch, History, Memory, Segments, Shown, User

LENGTHS = [[4, 0, 7, 2, 0, 5], [0, 3], [3, 0], [0, 0, 6, 0], [5], [1], [0], [0, 0, 0], [1, 1, 1], [50, 1, 0, 1]]
lengths = st.lists(st.integers(0, 7), min_size=1, max_size=8)
every_length = pytest.mark.parametrize("length", LENGTHS, ids=str)


def of(length: list[int]) -> Segments:
    return Segments.of(torch.tensor(length))


def parts(segments: Segments, value: Tensor) -> list[Tensor]:
    return [value[a:b] for a, b in pairwise(segments.start.tolist())]


def looped(segments: Segments, value: Tensor, one: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([one(part) for part in parts(segments, value)])


@given(lengths)
def test_sizes(length: list[int]) -> None:
    s = of(length)
    assert (s.owners, s.total, s.longest) == (len(length), sum(length), max(length))
    assert s.sizes.tolist() == s.length.tolist() == length
    assert s.row.tolist() == [owner for owner, n in enumerate(length) for _ in range(n)]
    assert s.position.tolist() == [place for n in length for place in range(n)]


@given(lengths)
def test_sizes_without_host_memory_are_the_same(length: list[int]) -> None:
    s = Segments(start=of(length).start, total=sum(length))
    assert (s.sizes.tolist(), s.longest) == (length, max(length))
    assert of(length).to("cpu").sizes.tolist() == s.to("cpu").sizes.tolist() == length


@given(lengths, st.sampled_from([(), (3,), (2, 3)]))
def test_sum_mean_spread(length: list[int], shape: tuple[int, ...]) -> None:
    s = of(length)
    value = torch.randn(s.total, *shape)
    assert_close(s.sum(value), looped(s, value, lambda part: part.sum(0)))
    assert_close(s.mean(value), looped(s, value, lambda part: part.mean(0) if len(part) else torch.zeros(shape)))
    mine = torch.randn(s.owners, *shape)
    assert_close(s.spread(mine), torch.cat([mine[r : r + 1].expand(n, *shape) for r, n in enumerate(length)]))


@given(lengths, st.sampled_from([(), (1,), (3,), (2, 3)]), st.sampled_from([1.0, 1000.0]))
def test_softmax(length: list[int], shape: tuple[int, ...], scale: float) -> None:
    s = of(length)
    logit = torch.randn(s.total, *shape) * scale - scale
    assert_close(s.softmax(logit), torch.cat([part.softmax(0) for part in parts(s, logit)]))


@every_length
def test_softmax_has_the_gradient_of_softmax(length: list[int]) -> None:
    s = of(length)
    logit, push = torch.randn(s.total, 2, requires_grad=True), torch.randn(s.total, 2)
    expected = torch.autograd.grad(torch.cat([part.softmax(0) for part in parts(s, logit)]), logit, push)
    assert_close(torch.autograd.grad(s.softmax(logit), logit, push), expected)


def test_softmax_is_float32_whatever_came() -> None:
    assert of([3, 0]).softmax(torch.randn(3, 2, dtype=torch.bfloat16)).dtype == torch.float32


@given(lengths, st.sampled_from([1, 2, 5]))
def test_pool(length: list[int], columns: int) -> None:
    s = of(length)
    value, weight = torch.randn(s.total, 3), torch.randn(s.total, columns)
    loop = torch.stack([w.t() @ v for v, w in zip(parts(s, value), parts(s, weight), strict=True)])
    assert_close(s.pool(value, weight), loop)


def test_the_host_s_copy_is_taken_without_asking_the_device() -> None:
    """A tensor on the meta device has no values that could be copied back."""
    away = of([2, 0, 3]).to("meta")
    assert away.start.is_meta
    assert away.to("cpu").start.tolist() == [0, 2, 2, 5]
    assert away.to("cpu").row.tolist() == [0, 0, 2, 2, 2]


@given(lengths, st.sampled_from([1, 4]))
def test_unpool(length: list[int], columns: int) -> None:
    s = of(length)
    value, weight = torch.randn(s.owners, columns, 3), torch.randn(s.total, columns)
    loop = [w @ v for v, w in zip(value, parts(s, weight), strict=True)]
    assert_close(s.unpool(value, weight), torch.cat(loop))


@every_length
@pytest.mark.parametrize("columns", [1, 3])
def test_pool_and_dot_have_their_gradients(length: list[int], columns: int) -> None:
    s = of(length)
    value = torch.randn(s.total, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(s.total, columns, dtype=torch.float64, requires_grad=True)
    query = torch.randn(s.owners, columns, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(s.pool, (value, weight))
    assert gradcheck(s.dot, (value, query))
    pooled, weighed = torch.autograd.grad(s.pool(value, weight).sum() + s.dot(value, query).sum(), (value, weight))
    assert pooled.shape == value.shape
    assert weighed.shape == weight.shape


def test_pool_takes_weights_of_another_type() -> None:
    s, value, weight = of([2, 3]), torch.randn(5, 4, dtype=torch.bfloat16), torch.rand(5, 3)
    assert s.pool(value, weight).dtype == torch.bfloat16


@given(lengths, st.sampled_from([1, 4]))
def test_dot(length: list[int], columns: int) -> None:
    s = of(length)
    value, query = torch.randn(s.total, 3), torch.randn(s.owners, columns, 3)
    assert_close(s.dot(value, query), torch.cat([v @ query[r].t() for r, v in enumerate(parts(s, value))]))


def test_dot_of_very_unlike_lengths_is_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    s = of([50, 1, 0, 1, 1, 1])
    value, query = torch.randn(s.total, 3), torch.randn(s.owners, 2, 3)
    loop = torch.cat([v @ query[r].t() for r, v in enumerate(parts(s, value))])
    monkeypatch.setattr(Segments, "pad", None)
    assert_close(s.dot(value, query), loop)


@given(lengths, st.integers(1, 4), st.integers(1, 9), st.booleans())
def test_top(length: list[int], columns: int, most: int, ties: bool) -> None:
    s = of(length)
    score = torch.randint(3, (s.total, columns)).float() if ties else torch.randn(s.total, columns)
    best, kept = s.top(score, most)
    expected = []
    for first, part in zip(s.start.tolist(), parts(s, score), strict=False):
        for column in range(columns):
            ranked = sorted(range(len(part)), key=lambda place: (-float(part[place, column]), -place))
            expected.append([first + place for place in sorted(ranked[:most])])
    assert [part.tolist() for part in parts(kept, best)] == expected


def test_top_breaks_ties_by_the_later() -> None:
    best, kept = of([4, 2]).top(torch.tensor([[1.0], [2], [2], [2], [0.0], [-0.0]]), 2)
    assert best.tolist() == [2, 3, 4, 5]
    assert kept.sizes.tolist() == [2, 2]


def test_top_orders_all_floats() -> None:
    score = torch.tensor([3e38, -3e38, 1e-45, -1e-45, 0.0, -0.0, torch.inf, -torch.inf, 1.5, -1.5])
    for most in range(1, len(score) + 1):
        best, _ = of([len(score)]).top(score[:, None], most)
        wanted = sorted(sorted(range(len(score)), key=lambda place: (-float(score[place]), -place))[:most])
        assert best.tolist() == wanted


@given(lengths)
def test_pad_and_unpad(length: list[int]) -> None:
    s = of(length)
    value = torch.randn(s.total, 2)
    padded = s.pad(value)
    assert padded.shape == (s.owners, s.longest, 2)
    for row, part in zip(padded, parts(s, value), strict=True):
        assert_close(row[: len(part)], part)
        assert not row[len(part) :].any()
    assert_close(s.unpad(padded), value)


@given(lengths.filter(any))
def test_pack_is_torch_s_own(length: list[int]) -> None:
    s = of(length)
    value = torch.randn(s.total, 2)
    expected = torch.nn.utils.rnn.pack_sequence([part for part in parts(s, value) if len(part)], enforce_sorted=False)
    packed = s.pack(value)
    assert torch.equal(packed.data, expected.data)
    assert torch.equal(packed.batch_sizes, expected.batch_sizes)
    assert_close(s.unpack(packed), value)


@given(lengths.filter(any))
@settings(max_examples=30)
def test_recurrent_net_on_a_pack(length: list[int]) -> None:
    s, net = of(length), torch.nn.GRU(2, 3)
    value = torch.randn(s.total, 2)
    state, last = net(s.pack(value))
    alone = [net(part)[0] for part in parts(s, value) if len(part)]
    assert_close(s.unpack(state), torch.cat(alone))
    ends = iter(part[-1] for part in alone)
    assert_close(s.last(last[0]), torch.stack([next(ends) if n else torch.zeros(3) for n in length]))


@given(lengths, st.integers(1, 4), st.integers(0, 2))
def test_each(length: list[int], copies: int, extra: int) -> None:
    assert of(length).each(copies, extra).sizes.tolist() == [n + extra for n in length for _ in range(copies)]


@given(st.lists(lengths, min_size=1, max_size=3))
def test_join(some: list[list[int]]) -> None:
    joined = Segments.join([of(length) for length in some])
    assert joined.sizes.tolist() == [n for length in some for n in length]
    assert joined.total == sum(map(sum, some))


def history(length: list[int], *, other: bool = True) -> History:
    s = of(length)
    item = torch.arange(s.total)
    action, number = item[:, None] + torch.tensor([100, 200]), item[:, None] / 2
    return History(item=item, time=item * 1000, action=action, number=number, events=s, other=item + 7 if other else None)


def batch(length: list[int], candidates: int) -> Batch:
    requests = torch.arange(len(length))
    item = torch.arange(len(length) * candidates).view(-1, candidates)
    return Batch(
        row=torch.arange(100),
        known=torch.ones(100, dtype=torch.bool),
        user=User(code=requests[:, None], number=requests[:, None] / 8),
        context=requests[:, None] + 10,
        number=requests[:, None] / 4,
        time=requests * 1000,
        item=item,
        shown=Shown(code=item[..., None] + torch.tensor([0, 50]), number=item[..., None] / 2),
        history=history(length),
        negative=requests[:, None] + torch.arange(3),
        negative_log_q=torch.randn(len(length), 3),
        label=item.float(),
        weight=item / 8,
        log_q=-item.float(),
    )


PER_EVENT = ("item", "time", "action", "number", "other")


@given(lengths, st.data())
def test_history_take(length: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(length) - 1), max_size=6))
    whole = history(length)
    kept = whole.take(torch.tensor(rows, dtype=torch.int64))
    assert kept.events.sizes.tolist() == [length[r] for r in rows]
    for name in PER_EVENT:
        split = parts(whole.events, getattr(whole, name))
        assert torch.equal(getattr(kept, name), torch.cat([split[r] for r in rows] or [getattr(whole, name)[:0]]))


def test_history_take_where_there_are_no_others() -> None:
    assert history([2, 1], other=False).take(torch.tensor([1])).other is None


def test_batch_take() -> None:
    whole = batch([3, 0, 2], 4)
    kept = whole.take(torch.tensor([2, 0]))
    assert kept.requests == 2
    for name in ("context", "number", "time", "item", "negative", "negative_log_q", "label", "weight", "log_q"):
        assert torch.equal(getattr(kept, name), getattr(whole, name)[[2, 0]]), name
    for name in ("code", "number"):
        assert torch.equal(getattr(kept.user, name), getattr(whole.user, name)[[2, 0]]), name
        assert torch.equal(getattr(kept.shown, name), getattr(whole.shown, name)[[2, 0]]), name
    assert kept.row is whole.row
    assert kept.known is whole.known
    assert kept.history.item.tolist() == [3, 4, 0, 1, 2]
    assert replace(whole, label=None).take(torch.tensor([1])).label is None


@pytest.mark.parametrize("index", [slice(1, 3), torch.tensor([[2, 0], [1, 1], [3, 2]])], ids=["slice", "gather"])
def test_batch_candidates(index: slice | Tensor) -> None:
    whole = batch([3, 0, 2], 4)
    kept = whole.candidates(index)
    pairs = {name: (getattr(kept, name), getattr(whole, name)) for name in ("item", "label", "weight", "log_q")}
    pairs |= {f"shown.{name}": (getattr(kept.shown, name), getattr(whole.shown, name)) for name in ("code", "number")}
    for name, (got, value) in pairs.items():
        expected = value[:, index] if isinstance(index, slice) else torch.stack([row[i] for row, i in zip(value, index, strict=True)])
        assert torch.equal(got, expected), name
    assert kept.negative is whole.negative
    assert kept.history is whole.history


def memory(length: list[int], *, events: list[int] | None = None) -> Memory:
    s = of(length)
    each, whole = {"a": torch.randn(s.total, 2)}, {"b": torch.randn(s.owners, 3)}
    return Memory(segments=s, each=each, whole=whole, events=of(events) if events else None)


def test_memory_join() -> None:
    some = [memory([2, 0]), memory([0]), memory([3])]
    joined = Memory.join(some)
    assert joined.segments.sizes.tolist() == [2, 0, 0, 3]
    assert torch.equal(joined.each["a"], torch.cat([part.each["a"] for part in some]))
    assert torch.equal(joined.whole["b"], torch.cat([part.whole["b"] for part in some]))
    assert joined.events is None


def test_memory_join_of_sessions() -> None:
    joined = Memory.join([memory([2], events=[3, 1]), memory([1], events=[4])])
    assert joined.events is not None
    assert joined.events.sizes.tolist() == [3, 1, 4]


def test_memory_bytes() -> None:
    assert memory([2, 0]).bytes == 4 * (2 * 2 + 2 * 3) + 8 * 3
    assert memory([2], events=[3, 1]).bytes == 4 * (2 * 2 + 3) + 8 * 2 + 8 * 3


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.sampled_from([2, 4]))
def test_owners_of_like_lengths(length: list[int], within: int) -> None:
    s = of(length)
    whose = s.row.tolist()
    met: list[int] = []
    groups = s.alike(within)
    for place, group in groups:
        sizes = group.sizes.tolist()
        assert max(sizes) < within * min(sizes)
        owners = list(dict.fromkeys(whose[at] for at in place.tolist()))
        assert [length[owner] for owner in owners] == sizes
        assert [whose[at] for at in place.tolist()] == [owner for owner, n in zip(owners, sizes, strict=True) for _ in range(n)]
        met += place.tolist()
    assert sorted(met) == list(range(s.total))
    assert len(groups) <= math.ceil(math.log(max(*length, 1), within)) + 1
    assert s.alike(within) is groups  # made once
    assert len(s.alike(4)) <= len(s.alike(2)) == len(s.alike())


def test_owners_of_like_lengths_are_fewer_groups_the_wider_they_are() -> None:
    s = of([1, 2, 3, 4, 5, 16, 17, 64])
    assert [group.sizes.tolist() for _, group in s.alike(2)] == [[1], [2], [3, 4], [5], [16], [17], [64]]
    assert [group.sizes.tolist() for _, group in s.alike(4)] == [[1], [2, 3, 4], [5, 16], [17, 64]]
