"""Recurrent units against plain loops of their equations, torch's own GRU, golden numbers, and derivatives by differences."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any, Literal, get_args

import pytest
import torch
from test_conformance import Greatest
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Segments
from penchant.nn.recurrent import GRU, Cell, Evolution, Evolving, Reset, _Recurrence

KINDS: tuple[Evolution, ...] = get_args(Evolution)
RESETS: tuple[Reset, ...] = get_args(Reset)
LENGTHS = [[4, 0, 7, 2, 0, 5, 1], [3], [0, 1], [2, 2], [0, 0]]
DIM, HIDDEN, CANDIDATES = 3, 4, 3

every_kind = pytest.mark.parametrize("kind", KINDS)
every_reset = pytest.mark.parametrize("reset", RESETS)
every_length = pytest.mark.parametrize("length", LENGTHS, ids=str)


def by_hand(cell: Cell, x: Tensor, h: Tensor, say: Tensor | None, kind: Evolution | Literal["gru"]) -> Tensor:
    """One step of one sequence: x [D], h [H], say a number -> h' [H]."""
    weighed = x * say if kind == "aigru" and say is not None else x
    (input_r, input_u, input_c), (state_r, state_u, state_c) = cell.input.weight.chunk(3), cell.state.weight.chunk(3)
    bias_r, bias_u, bias_c = cell.input.bias.chunk(3)
    reset = torch.sigmoid(input_r @ weighed + state_r @ h + bias_r)
    update = torch.sigmoid(input_u @ weighed + state_u @ h + bias_u)
    if cell.reset == "after":
        assert cell.offset is not None
        new = torch.tanh(input_c @ weighed + reset * (state_c @ h + cell.offset) + bias_c)
    else:
        new = torch.tanh(input_c @ weighed + state_c @ (reset * h) + bias_c)
    if kind == "augru":
        update = say * update
    if kind == "agru":
        update = say * torch.ones_like(update)
    if kind == "augru_authors":  # what is scaled is the share that stays
        update = 1 - (1 - say) * (1 - update)
    return (1 - update) * h + update * new


def given(length: list[int], *, candidates: int = CANDIDATES) -> tuple[Segments, Tensor, Tensor]:
    """Things of owners of these lengths, x [N, D], say [N, C]."""
    things = Segments.of(torch.tensor(length))
    return things, torch.randn(things.total, DIM).requires_grad_(), torch.rand(things.total, candidates).requires_grad_()


def bounds(things: Segments) -> list[tuple[int, int]]:
    return list(pairwise(things.start.tolist()))


def large(cell: nn.Module) -> None:
    """So that gates are far from 1/2."""
    for parameter in cell.parameters():
        parameter.data.normal_(std=1.5)


def gradients(out: Tensor, module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """Of a sum of `out`, each part by another weight."""
    weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    found = torch.autograd.grad(
        (out * weight).sum(), [*module.parameters(), *inputs], allow_unused=True, materialize_grads=True, retain_graph=True
    )
    return [gradient.float() for gradient in found]


# ------------------------------------------------------------------------------------------------------------- equations


@every_kind
@every_reset
@every_length
def test_evolution_is_a_loop_over_owners_candidates_and_things(kind: Evolution, reset: Reset, length: list[int]) -> None:
    (things, x, say), unit = given(length), Evolving(DIM, HIDDEN, kind=kind, reset=reset)
    large(unit)
    rows = []
    for begin, end in bounds(things):
        for c in range(CANDIDATES):
            h = torch.zeros(HIDDEN)
            for t in range(begin, end):
                h = by_hand(unit.cell, x[t], h, say[t, c], kind)
            rows.append(h)
    expected = torch.stack(rows).view(len(length), CANDIDATES, HIDDEN)
    found = unit(things, unit.gates(x), say)
    assert_close(found, expected)
    with torch.no_grad():  # another way, which keeps nothing for gradients
        assert_close(unit(things, unit.gates(x), say), expected)
    if things.total:
        for mine, loop in zip(gradients(found, unit, x, say), gradients(expected, unit, x, say), strict=True):
            assert_close(mine, loop, rtol=1e-4, atol=1e-5)


@every_reset
@every_length
def test_the_extractor_is_a_loop_and_tells_each_state(reset: Reset, length: list[int]) -> None:
    (things, x, _), unit = given(length), GRU(DIM, HIDDEN, reset=reset)
    large(unit)
    rows = []
    for begin, end in bounds(things):
        h = torch.zeros(HIDDEN)
        for t in range(begin, end):
            h = by_hand(unit, x[t], h, None, "gru")
            rows.append(h)
    expected = torch.stack(rows) if rows else torch.zeros(0, HIDDEN)
    found = unit(things, x)
    assert_close(found, expected)
    with torch.no_grad():
        assert_close(unit(things, x), expected)
    if things.total:
        for mine, loop in zip(gradients(found, unit, x), gradients(expected, unit, x), strict=True):
            assert_close(mine, loop, rtol=1e-4, atol=1e-5)


def carried_over(theirs: nn.GRU) -> GRU:
    """Ours of torch's weights. Its update gate says how much to keep, so it is turned round; of its second bias the last part stays."""
    ours = GRU(DIM, HIDDEN)
    sign = torch.cat([torch.ones(HIDDEN), -torch.ones(HIDDEN), torch.ones(HIDDEN)])
    ours.input.weight.data, ours.state.weight.data = theirs.weight_ih_l0.data * sign[:, None], theirs.weight_hh_l0.data * sign[:, None]
    second = theirs.bias_hh_l0.data
    ours.input.bias.data = sign * (theirs.bias_ih_l0.data + torch.cat([second[: 2 * HIDDEN], torch.zeros(HIDDEN)]))
    assert ours.offset is not None
    ours.offset.data = second[2 * HIDDEN :].clone()
    return ours


def test_the_extractor_is_torch_s_own() -> None:
    theirs = nn.GRU(DIM, HIDDEN)
    large(theirs)
    ours, (things, x, _) = carried_over(theirs), given(LENGTHS[0])
    expected = torch.cat([theirs(x[begin:end])[0] for begin, end in bounds(things) if end > begin])
    assert_close(ours(things, x), expected)
    (mine,), (their,) = (torch.autograd.grad(out.square().sum(), x, retain_graph=True) for out in (ours(things, x), expected))
    assert_close(mine, their, rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------------------------- what a says


GOLDEN = {
    ("augru", "after"): [(0.1, -0.2, 0.3), (0.090551, -0.167848, 0.277570), (0.062205, -0.071392, 0.210280)],
    ("augru", "before"): [(0.1, -0.2, 0.3), (0.090446, -0.167927, 0.277563), (0.061784, -0.071707, 0.210250)],
    ("augru_authors", "after"): [
        (0.057288, -0.060252, 0.206258),
        (0.047839, -0.028100, 0.183828),
        (0.019493, 0.068356, 0.116538),
    ],
    ("augru_authors", "before"): [
        (0.056812, -0.060593, 0.206227),
        (0.047258, -0.028520, 0.183790),
        (0.018596, 0.067700, 0.116478),
    ],
}


@pytest.mark.parametrize(
    ("kind", "reset", "say", "golden"),
    [(*key, say, golden) for key, column in GOLDEN.items() for say, golden in zip((0.0, 0.25, 1.0), column, strict=True)],
)
def test_golden_steps(kind: Evolution, reset: Reset, say: float, golden: tuple[float, ...]) -> None:
    cell = Cell(3, 3, reset=reset)
    for layer, (first, last) in ((cell.input, (-0.5, 0.5)), (cell.state, (0.4, -0.4))):
        layer.weight.data = torch.linspace(first, last, 27).view(9, 3)
        if kind == "augru_authors":  # the numbers are of a gate that keeps
            layer.weight.data[3:6] *= -1
    cell.input.bias.data.zero_()
    if cell.offset is not None:
        cell.offset.data.zero_()
    a = torch.tensor([[say]])
    some, all_of = (torch.zeros(1, 1), a) if kind == "augru" else (a, 1 - a)
    found = cell.run(cell.input(torch.tensor([[[1, 0.5, -1]]])), some, all_of, (1,), torch.tensor([[[0.1, -0.2, 0.3]]]))
    assert_close(found, torch.tensor([[golden]]), rtol=0, atol=1e-5)


@every_reset
def test_what_attention_of_nothing_and_of_all_does(reset: Reset) -> None:
    things, x, _ = given([4, 0, 6])
    one = Evolving(DIM, HIDDEN, reset=reset)
    large(one)
    plain = GRU(DIM, HIDDEN, reset=reset)
    plain.load_state_dict(one.cell.state_dict())
    last = things.last(plain(things, x).index_select(0, torch.tensor([9, 3])))[:, None]  # of the longest, then of the other

    def end(kind: Evolution, say: float) -> Tensor:
        unit = Evolving(DIM, HIDDEN, kind=kind, reset=reset)
        unit.load_state_dict(one.state_dict())
        found: Tensor = unit(things, unit.gates(x), torch.full((things.total, 1), say))
        return found

    assert not end("augru", 0).any()  # the state is as it was
    assert not end("agru", 0).any()
    assert_close(end("augru_authors", 0), last)  # a plain step
    assert_close(end("augru", 1), last)
    assert_close(end("aigru", 1), last)
    assert_close(end("augru_authors", 1), end("agru", 1))  # the candidate state alone, nothing kept
    assert (end("agru", 1) - last)[[0, 2]].abs().max() > 0.1


# ---------------------------------------------------------------------------------------------------------- derivatives


CASES = [
    {"shared": shared, "weighed": weighed, "begun": begun, "candidates": candidates}
    for shared, weighed, begun, candidates in product((True, False), (True, False), (True, False), (1, 2))
    if not (shared and candidates > 1 and not weighed)  # without a say, how many candidates there are is known by the gates alone
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{name}:{value}" for name, value in case.items()))
@pytest.mark.parametrize("reset", [*RESETS, "after without offset"])
def test_derivatives_are_those_of_differences(reset: str, case: dict[str, Any]) -> None:
    going, hidden, candidates = (3, 2, 2, 1), 2, case["candidates"]
    things = sum(going)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    gates = drawn(things, 1 if case["shared"] else candidates, 3 * hidden)
    some, all_of = (drawn(things, candidates), drawn(things, candidates)) if case["weighed"] else (None, None)
    first = drawn(going[0], candidates, hidden) if case["begun"] else None
    weight, offset = drawn(3 * hidden, hidden), drawn(hidden) if reset == "after" else None

    def run(*inputs: Tensor | None) -> Tensor:
        found: Tensor = _Recurrence.apply(*inputs, going, reset.split()[0], True)  # type: ignore[no-untyped-call]
        return found

    assert torch.autograd.gradcheck(run, (gates, some, all_of, first, weight, offset))


# ------------------------------------------------------------------------------------------------------------ what it is


def test_its_two_biases_are_two() -> None:
    """One is within the reset gate, one without: learned as one tensor, or one given the other's gradient, they could not differ."""
    (things, x, say), unit = given([5, 2]), Evolving(DIM, HIDDEN)
    names = [name for name, _ in unit.named_parameters()]
    assert sorted(names) == ["cell.input.bias", "cell.input.weight", "cell.offset", "cell.state.weight"]
    assert len({parameter.data_ptr() for parameter in unit.parameters()}) == 4
    unit(things, unit.gates(x), say).sum().backward()
    assert unit.cell.offset is not None
    assert unit.cell.offset.grad is not None
    assert unit.cell.input.bias.grad is not None
    assert not torch.isclose(unit.cell.offset.grad, unit.cell.input.bias.grad[2 * HIDDEN :]).any()
    assert Evolving(DIM, HIDDEN, reset="before").cell.offset is None


@every_kind
def test_nothing_of_other_owners_or_candidates_is_read(kind: Evolution) -> None:
    (things, x, say), unit = given(LENGTHS[0]), Evolving(DIM, HIDDEN, kind=kind)
    whole = unit(things, unit.gates(x), say)
    for r, (begin, end) in enumerate(bounds(things)):
        mine = (torch.arange(things.total) >= begin) & (torch.arange(things.total) < end)
        left = torch.where(mine[:, None], x, torch.nan)
        assert_close(unit(things, unit.gates(left), say)[r], whole[r])
    for c in range(CANDIDATES):
        assert_close(unit(things, unit.gates(x), say[:, [c]]), whole[:, [c]])
        left = torch.where(torch.arange(CANDIDATES) == c, say, torch.nan)
        assert_close(unit(things, unit.gates(x), left)[:, c], whole[:, c])


@every_kind
@pytest.mark.parametrize("candidates", [1, 4])
def test_without_things_there_is_a_nothing_for_each_candidate(kind: Evolution, candidates: int) -> None:
    (things, x, say), unit = given([0, 0], candidates=candidates), Evolving(DIM, HIDDEN, kind=kind)
    found = unit(things, unit.gates(x), say)
    assert found.shape == (2, candidates, HIDDEN)
    assert not found.any()


@every_reset
def test_without_gradients_only_states_are_kept(reset: Reset) -> None:
    (things, x, say), unit = given([200], candidates=20), Evolving(DIM, 8, reset=reset)
    gates, pairs = unit.gates(x), things.total * 20
    with Greatest() as learning:
        unit(things, gates, say)
    with Greatest() as asking, torch.no_grad():
        unit(things, gates, say)
    assert learning.bytes == 4 * pairs * 4 * 8
    assert asking.bytes == 4 * pairs * 8


@every_kind
def test_states_stay_float32_under_autocast(kind: Evolution) -> None:
    (things, x, say), unit = given(LENGTHS[0]), Evolving(DIM, HIDDEN, kind=kind)
    exact = unit(things, unit.gates(x), say)
    with torch.autocast("cpu", torch.bfloat16):
        half = unit(things, unit.gates(x), say)
    assert half.dtype == torch.float32
    assert_close(half, exact, rtol=0.05, atol=0.01)
