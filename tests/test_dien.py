"""DIEN against a loop of its equations, and where other implementations of it err."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_conformance import Greatest
from test_recurrent import bounds, by_hand, gradients
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from penchant.batch import Batch
from penchant.conformance.laws import Subject, enlarge, no_past
from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig, Loader
from penchant.data.prepare import prepare
from penchant.encoding import Encoding
from penchant.errors import ConfigError, TrainingError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import paired
from penchant.models import build
from penchant.models.dien import DIEN
from penchant.nn.attention import Bilinear, Projected
from penchant.nn.item import ItemConfig
from penchant.nn.model import Wants
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.loss import total
from penchant.train.optimiser import Optimiser

SMALL: Mapping[str, Any] = {"head": (16, 8), "profile": 4}
AUTHORS: Mapping[str, Any] = {
    "evolution": "augru_authors",
    "reset": "before",
    "attention_score": "mlp",
    "auxiliary_score": "mlp",
    "past_sum": True,
    "hidden": 6,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "authors": AUTHORS,
    "agru": {"evolution": "agru", "attention_score": "mlp"},
    "aigru": {"evolution": "aigru", "reset": "before"},
    "sums": {"past_sum": True, "evolution": "augru_authors"},
}
RAGGED = [4, 0, 7, 2, 1, 0, 10]

every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def made(encoding: Encoding, *, seed: int = 0, **config: Any) -> DIEN:
    torch.manual_seed(seed)
    model = build(encoding, "dien", {**SMALL, **config}, ItemConfig(dim=4), where="run")
    assert isinstance(model, DIEN)
    enlarge(model)
    return model


def of(loader: Loader, length: list[int]) -> Batch:
    return Subject(build=made, loader=loader).batch(length, candidates=3)


def next_loss(model: DIEN, batch: Batch) -> Tensor:
    return model.train()(batch).losses["next"]


# ------------------------------------------------------------------------------------------------------------- equations


def states(model: DIEN, past: Tensor) -> Tensor:
    """past [n, D] of one person -> [n, H]."""
    h, found = torch.zeros(model.hidden), []
    for x in past:
        h = by_hand(model.extractor, x, h, None, "gru")
        found.append(h)
    return torch.stack(found) if found else torch.zeros(0, model.hidden)


def compared(model: DIEN, item: Tensor, state: Tensor) -> Tensor:
    """What attention's softmax is of: item [D], state [H] -> a number."""
    if model.config.attention_score == "bilinear":
        weight = model.get_parameter("attention.weight.weight")
        return (state[:, None] * weight.t() * item).sum()
    unit = model.attention.get_submodule("activation")
    q = model.attention.get_submodule("project")(item)
    first = unit.get_submodule("query")(q) + unit.get_submodule("key_weight")(state) + unit.get_submodule("product")(q * state)
    said: Tensor = unit.get_submodule("rest")(torch.sigmoid(first))
    return said.squeeze()


@every_variant
def test_a_model_is_a_loop_of_its_equations(variant: Mapping[str, Any], loader: Loader) -> None:
    model, batch = made(loader.data.encoding, **variant).eval(), of(loader, RAGGED)
    items = model.item(batch.row, batch.known)
    past, person = model.past(items, batch.history), model.person(batch)
    output, expected = model(batch, explain=True), torch.zeros(batch.item.shape)
    assert output.attention is not None
    for r, (begin, end) in enumerate(bounds(batch.history.events)):
        state, mine = states(model, past[begin:end]), past[begin:end].sum(0)
        for c, place in enumerate(batch.item[r].tolist()):
            item, h = items[place], torch.zeros(model.hidden)
            say = torch.softmax(torch.stack([compared(model, item, s) for s in state]), 0) if end > begin else torch.zeros(0)
            assert_close(output.attention[begin:end, c], say)
            for s, a in zip(state, say, strict=True):
                h = by_hand(model.evolution.cell, s, h, a, model.config.evolution)
            request, candidate = [person[r]], [item, h]
            if model.config.past_sum:
                request.append(mine)
                candidate.append(item * mine)
            expected[r, c] = model.head(torch.cat(request)[None], torch.cat(candidate)[None, None]).squeeze()
    assert_close(output.logit, expected, rtol=1e-4, atol=1e-4)
    assert output.logit.std() > 0.01
    for part in (model.extractor, model.attention, model.evolution):
        for mine, loop in zip(gradients(output.logit, part), gradients(expected, part), strict=True):
            assert_close(mine, loop, rtol=1e-3, atol=1e-5)


def told(model: DIEN, state: Tensor, item: Tensor) -> Tensor:
    """What a state says of an item as the next: [H], [D] -> a number."""
    if model.next is None:
        return (state * item).sum()
    assert model.next.request is not None
    weight = torch.cat([model.next.request.weight, model.next.candidate.weight], 1)
    first = torch.sigmoid(weight @ torch.cat([state, item]) + model.next.candidate.bias)
    assert [weight.shape[0], *(layer.out_features for layer in model.next.rest if isinstance(layer, nn.Linear))] == [100, 50, 1]
    said: Tensor = model.next.rest(first)
    return said.squeeze()


@every_variant
def test_the_next_item_s_loss_is_a_loop_over_real_steps(variant: Mapping[str, Any], loader: Loader) -> None:
    model, batch = made(loader.data.encoding, **variant).train(), of(loader, RAGGED)
    history, items = batch.history, model.item(batch.row, batch.known)
    assert history.other is not None
    past, terms = model.past(items, history), []
    for begin, end in bounds(history.events):
        state = states(model, past[begin:end])
        for t in range(begin + 1, end):
            for place, right in ((history.item[t], True), (history.other[t], False)):
                p = torch.sigmoid(told(model, state[t - 1 - begin], items[place]))
                terms.append(-torch.log(p if right else 1 - p))
    assert len(terms) == 2 * (3 + 6 + 1 + 9)
    assert_close(next_loss(model, batch), torch.stack(terms).sum() / (len(terms) / 2), rtol=1e-4, atol=1e-5)


def test_the_order_of_a_past_matters(loader: Loader) -> None:
    model, batch = made(loader.data.encoding).eval(), of(loader, [5])
    turned = batch.history.item[torch.tensor([1, 0, 2, 3, 4])]
    assert (model(replace(batch, history=replace(batch.history, item=turned))).logit - model(batch).logit).abs().max() > 1e-5


# ------------------------------------------------------------------------------------------------------------ the gate


def test_what_has_no_attention_leaves_the_paper_s_interest_as_it_is(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a past whose latest event is to be ignored: the paper's interest is that of the past without it, the authors' has moved."""
    batch = of(loader, [5])
    for evolution, stays in (("augru", True), ("agru", True), ("augru_authors", False)):
        model = made(loader.data.encoding, evolution=evolution).eval()
        items = model.item(batch.row, batch.known)
        memory = model.read(items, batch.user, batch.history)
        say = torch.tensor([0.3, 0.2, 0.4, 0.1, 0.0])[:, None].expand(-1, 3)
        whole = model.evolution(memory.segments, memory.each["gates"], say)
        cut = replace(memory.segments, start=torch.tensor([0, 4]), total=4, host=None)
        before = model.evolution(cut, memory.each["gates"][:4], say[:4])
        assert bool(torch.isclose(whole, before, rtol=1e-4, atol=1e-6).all()) == stays


def test_all_its_parameters_are_tensors_of_their_own(encoding: Encoding) -> None:
    for variant in VARIANTS.values():
        model = made(encoding, **variant)
        assert len({parameter.data_ptr() for parameter in model.parameters()}) == len(list(model.named_parameters(remove_duplicate=False)))
    biases = [name for name, _ in made(encoding).named_parameters() if name.startswith(("extractor", "evolution"))]
    assert biases == [
        "extractor.offset",
        "extractor.input.weight",
        "extractor.input.bias",
        "extractor.state.weight",
        "evolution.cell.offset",
        "evolution.cell.input.weight",
        "evolution.cell.input.bias",
        "evolution.cell.state.weight",
    ]


# ---------------------------------------------------------------------------------------------------- the next item's loss


def test_each_alone_adds_up_by_its_steps(loader: Loader) -> None:
    model, batch = made(loader.data.encoding), of(loader, [4, 0, 7, 2, 1, 9])
    steps = (batch.history.events.sizes - 1).clamp(min=0).float()
    each = torch.stack([next_loss(model, batch.take(torch.tensor([r]))) for r in range(batch.requests)])
    assert_close((each * steps).sum() / steps.sum(), next_loss(model, batch))
    assert not each[steps == 0].any()


def test_a_mate_without_steps_changes_nothing_whatever_is_longest(loader: Loader) -> None:
    model, batch = made(loader.data.encoding), of(loader, [4, 0, 1, 10])
    alone = next_loss(model, batch.take(torch.tensor([0])))
    for mates in ([0, 1], [0, 2, 1, 2], [0, 0]):
        assert_close(next_loss(model, batch.take(torch.tensor(mates))), alone)
    long, both = (next_loss(model, batch.take(torch.tensor(rows))) for rows in ([3], [0, 3]))
    assert_close(both, (3 * alone + 9 * long) / 12)


def test_what_was_no_positive_is_no_next_item(loader: Loader) -> None:
    """An event that was seen and disliked is no answer to what comes next: its step weighs nothing."""
    model, batch = made(loader.data.encoding), of(loader, [4, 3])
    history = batch.history
    first, second = (next_loss(model, batch.take(torch.tensor([r]))) for r in (0, 1))
    for chosen, expected in (
        ([1, 1, 1, 1, 1, 1, 1], (3 * first + 2 * second) / 5),
        ([0, 1, 1, 1, 1, 0, 0], first),
        ([1, 0, 0, 0, 0, 1, 1], second),
    ):
        weighed = replace(batch, history=replace(history, chosen=torch.tensor(chosen).float()))
        assert_close(next_loss(model, weighed), expected)
    nothing = replace(batch, history=replace(history, chosen=torch.zeros(7)))
    assert float(next_loss(model, nothing).detach()) == 0


def test_what_was_not_chosen_is_the_batch_s(loader: Loader) -> None:
    model, batch = made(loader.data.encoding), of(loader, RAGGED)
    history = batch.history
    assert history.other is not None
    turned = replace(batch, history=replace(history, other=history.other.roll(3, 0)))
    assert not torch.isclose(next_loss(model, turned), next_loss(model, batch))
    assert torch.equal(model.eval()(turned).logit, model(batch).logit)
    first = history.other.index_fill(0, history.events.start[torch.tensor([0, 2, 3, 4, 6])], 0)  # of nothing before, so of no step
    assert_close(next_loss(model, replace(batch, history=replace(history, other=first))), next_loss(model, batch))


def test_both_terms_pull_the_right_way(loader: Loader) -> None:
    """A state is drawn to the item that came and away from the other one: (p - 1) e + p' e' of each."""
    model, batch = made(loader.data.encoding).train(), of(loader, [2])
    items = model.item(batch.row, batch.known)
    state = torch.randn(2, model.hidden, requires_grad=True)
    (found,) = torch.autograd.grad(model.next_loss(items, state, batch.history), state)
    assert batch.history.other is not None
    right, wrong = items[batch.history.item[1]], items[batch.history.other[1]]
    expected = (torch.sigmoid(state[0] @ right) - 1) * right + torch.sigmoid(state[0] @ wrong) * wrong
    assert_close(found, torch.stack([expected, torch.zeros_like(expected)]))


def test_the_parts_are_those_asked_for(encoding: Encoding) -> None:
    for reset in ("after", "before"):
        model = made(encoding, reset=reset)
        assert model.extractor.reset == model.evolution.cell.reset == reset
    assert isinstance(made(encoding).attention, Bilinear)
    authors = made(encoding, **AUTHORS).attention
    assert isinstance(authors, Projected)
    assert [tuple(layer.weight.shape) for layer in authors.modules() if isinstance(layer, nn.Linear)] == [
        (6, 16),
        *[(80, 6)] * 3,
        (40, 80),
        (1, 40),
    ]
    assert isinstance(authors.activation.activation, nn.Sigmoid)


def test_its_weight_and_who_asks_for_it(loader: Loader) -> None:
    batch, encoding = of(loader, RAGGED), loader.data.encoding
    assert_close(next_loss(made(encoding, auxiliary=0.3), batch), 0.3 * next_loss(made(encoding), batch))
    none = made(encoding, auxiliary=0.0, auxiliary_score="mlp")
    assert made(encoding).wants == Wants(others=True)
    assert none.wants == Wants()
    assert none.train()(batch).losses == made(encoding).eval()(batch).losses == {}
    assert none.next is None


def test_a_batch_without_items_not_chosen_is_refused(loader: Loader) -> None:
    batch = of(loader, RAGGED)
    bare = replace(batch, history=replace(batch.history, other=None))
    with pytest.raises(TrainingError) as error:
        made(loader.data.encoding).train()(bare)
    assert str(error.value) == "this batch has no History.other, which model.auxiliary needs; set model.auxiliary to 0."
    assert made(loader.data.encoding, auxiliary=0.0).train()(bare).logit.isfinite().all()


def test_the_authors_total_is_half_of_ours_with_an_auxiliary_of_twice_the_real_cells(loader: Loader) -> None:
    """Their cross-entropy is a mean over two columns, their loss of next items one over all cells: golden numbers, then a batch."""
    label, told = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    assert -(label * told.log()).mean().item() == pytest.approx(0.183492, abs=1e-6)
    assert F.binary_cross_entropy(told[:, 0], label[:, 0]).item() == pytest.approx(0.366985, abs=1e-6)

    batch = of(loader, RAGGED)
    real, cells = 3 + 6 + 1 + 9, len(RAGGED) * (max(RAGGED) - 1)
    ours = made(loader.data.encoding, auxiliary=2 * real / cells).train()
    output = ours(batch)
    assert batch.label is not None
    p = torch.sigmoid(output.logit)
    columns = torch.stack([batch.label * p.log(), (1 - batch.label) * (1 - p).log()])
    plain = made(loader.data.encoding)
    each = [plain.train()(batch.take(torch.tensor([r]))).losses["next"] * (n - 1) for r, n in enumerate(RAGGED) if n > 1]
    assert_close(total(output, batch), 2 * (-columns.mean() + torch.stack(each).sum() / cells), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ sums, and nothing


def test_sums_see_nothing_of_a_batch(loader: Loader) -> None:
    """What would fill a short past up is no part of its sum, whatever UNKNOWN's vector is."""
    model, batch = made(loader.data.encoding, **AUTHORS).eval(), of(loader, [2, 10])
    batch = replace(batch, known=torch.ones_like(batch.known))
    items = model.item(batch.row, batch.known)
    past = model.past(items, batch.history)
    found = model.read(items, batch.user, batch.history).whole["sum"]
    assert_close(found, torch.stack([past[:2].sum(0), past[2:].sum(0)]))
    alone = batch.take(torch.tensor([0]))
    before = model(alone).logit
    assert_close(model(batch).logit[:1], before, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        model.get_parameter("item.id.weight")[0] = 100.0
    assert_close(model(batch).logit[:1], before, rtol=1e-4, atol=1e-5)


@every_variant
def test_a_batch_of_people_and_items_never_seen_trains(variant: Mapping[str, Any], loader: Loader) -> None:
    model, batch = made(loader.data.encoding, **variant).train(), of(loader, RAGGED)
    cold = replace(batch, known=torch.zeros_like(batch.known), history=no_past(batch.requests, batch.history))
    cold = replace(cold, history=replace(cold.history, other=batch.item.new_zeros(0)))
    optimiser, losses = Optimiser(model, rate=0.01, table_rate=0.01), []
    for given in [cold] * 40 + [batch]:
        optimiser.zero_grad()
        output = model(given)
        loss = total(output, given)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
        assert (output.losses["next"] == 0) == (given is cold)
    assert losses[39] < losses[0] - 0.1
    assert all(map(math.isfinite, losses))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------------------- the rest


def test_what_dien_refuses(encoding: Encoding) -> None:
    def said(**config: Any) -> str:
        with pytest.raises(ConfigError) as error:
            made(encoding, **config)
        return str(error.value)

    assert said(hidden=36) == (
        "dien: hidden is 36, but auxiliary_score 'dot' multiplies a state with an item's vector, of width 16. "
        "Leave hidden out, or set auxiliary_score to 'mlp'."
    )
    assert said(auxiliary=-1.0) == "run: model.auxiliary is -1.0; input should be greater than or equal to 0."
    assert said(auxilary=1.0) == "run: model.auxilary is not a key of DIENConfig. Did you mean 'auxiliary'?"
    assert made(encoding).hidden == 16
    assert made(encoding, hidden=36, auxiliary=0.0).hidden == made(encoding, hidden=36, auxiliary_score="mlp").hidden == 36


@every_variant
def test_chunks_are_cut_by_about_what_scoring_takes(variant: Mapping[str, Any], loader: Loader) -> None:
    model, batch = made(loader.data.encoding, **variant).eval(), of(loader, [10, 8, 9])
    batch = batch.candidates(torch.zeros(3, 300, dtype=torch.int64))
    with torch.no_grad():
        items = model.item(batch.row, batch.known)
        memory = model.read(items, batch.user, batch.history)
        with Greatest() as greatest:
            model.score(items, memory, batch)
    said = 300 * (model.pair_bytes * memory.segments.total + model.candidate_bytes * batch.requests)
    assert greatest.bytes < said < 10 * greatest.bytes


def test_it_learns(tmp_path: Path) -> None:
    """On a made world of tastes it ranks what people chose next above what is popular."""
    write_world(tmp_path / "raw", people=150, items=80, tastes=4, events=25, seed=1)
    log = prepare(tmp_path / "raw", tmp_path / "log")
    found = {}
    for name in ("popularity", "dien"):
        config = RunConfig(
            log=str(log.folder),
            model={"name": name},
            item=ItemConfig(dim=16, attributes=False),
            protocol="loo-full",
            data=LoadConfig(past=20, negatives=4, unknown=0),
            train=TrainConfig(epochs=6, batch_size=128, rate=1e-2, patience=6),
        )
        run = fit(config, tmp_path / name, log=log)
        found[name] = judge(run.model, run.data, run.split, replace(PROTOCOLS["loo-99"], name="loo-30", count=30), past=20)
    difference = paired(found["dien"].each("ndcg@10"), found["popularity"].each("ndcg@10"))
    assert difference.low > 0.05, difference
