"""The auxiliary network around any model: the mixture of gradients, its loss, and its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Batch, Output
from penchant.bundle import Bundle, load_bundle, save_bundle
from penchant.conformance.laws import Subject, enlarge, items_of, read
from penchant.data.load import Loader
from penchant.errors import ConfigError, TrainingError, UnknownNameError
from penchant.models import MODELS, build
from penchant.models.iacn import IaCN, Wider, mixed, scaled
from penchant.nn.capsule import read_out, request_softmax, sampled_softmax
from penchant.nn.item import ItemConfig, Widened, item_encoder
from penchant.train.loss import read_loss, total
from penchant.train.optimiser import Optimiser

PASTS = [4, 0, 7, 2, 1, 10, 3]
OWN: dict[str, dict[str, Any]] = {
    "din": {"head": (16, 8), "attention": (8,), "profile": 4},
    "dien": {"head": (16, 8), "profile": 4},
    "dsin": {"heads": 2, "head": (16, 8), "profile": 4},
    "sasrec": {"heads": 2, "longest": 6, "negatives": 5, "loss": "sampled", "blocks": 1, "dropout": 0.0},
    "wide-deep": {"hidden": (16, 8), "profile": 4, "buckets": 4096},
}
AROUND = ["din", "dien", "mf", "sasrec", "wide-deep"]


def made(loader: Loader, name: str = "din", auxiliary: str = "iacn", *, large: bool = True, **keys: Any) -> Any:
    """A model in training, wrapped; `large` as the laws have it, so that every gradient shows."""
    torch.manual_seed(3)
    item = MODELS[name].Item.model_copy(update={"dim": 4})
    model = build(loader.data.encoding, name, OWN.get(name, {}), item, {"name": auxiliary, **keys}, where="run")
    return (enlarge(model) if large else model).train()


def some(loader: Loader, *, candidates: int = 5, skip: int = 0) -> Batch:
    subject = Subject(build=lambda encoding: nn.Identity(), loader=loader)
    config = loader.config.model_copy(update={"negatives": candidates - 1})
    return replace(loader, config=config).batch(subject.position(PASTS, skip=skip), 0)


def main(model: Any, output: Output, batch: Batch) -> Tensor:
    """L_main: all but the loss of the capsules."""
    losses = {name: loss for name, loss in output.losses.items() if name != "auxiliary"}
    return total(replace(output, losses=losses), batch, read_loss(model.Loss))


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of each parameter, 0 where none comes."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for name, p in model.named_parameters()}


def tables(model: Any) -> set[str]:
    """The names of the auxiliary tables."""
    mine = {id(parameter) for parameter in model.extra.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in mine}


# ------------------------------------------------------------------------------------------------------------ the identity


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_scaled_gradients(scale: float) -> None:
    x = torch.randn(5, 3, requires_grad=True)
    assert torch.equal(scaled(x, scale), x)
    assert_close(torch.autograd.grad(scaled(x, scale).square().sum(), x)[0], scale * 2 * x)


def test_gradient_mixing() -> None:
    table = torch.tensor([[1.0, 2], [3, 4]], requires_grad=True)
    first, auxiliary = mixed(table, slice(0, 2), 0.3, 0.7)
    loss = first.square().sum() + 0.5 * 3 * auxiliary.sum()
    loss.backward()
    assert float(loss.detach()) == 45
    assert_close(table.grad, torch.tensor([[1.65, 2.25], [2.85, 3.45]]))


def test_columns_beside_the_tables_have_the_whole_gradient() -> None:
    items, push, more = torch.randn(3, 6, requires_grad=True), torch.randn(3, 6), torch.randn(3, 2)
    first, table = mixed(items, slice(2, 4), 0.3, 0.2)
    assert torch.equal(first, items)
    assert torch.equal(table, items[:, 2:4])
    (gradient,) = torch.autograd.grad((first * push).sum() + (table * more).sum(), items)
    assert_close(gradient[:, :2], push[:, :2])
    assert_close(gradient[:, 4:], push[:, 4:])
    assert_close(gradient[:, 2:4], 0.3 * push[:, 2:4] + 0.2 * more)


# ----------------------------------------------------------------------------------------------------------- its gradients


def parts(model: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradients of L_main alone and of L_aux alone, nothing being scaled on the way."""
    with monkeypatch.context() as plain:
        plain.setattr("penchant.models.iacn.mixed", lambda items, columns, delta, rest: (items, items[:, columns]))
        output = model(batch)
    return gradients(model, main(model, output, batch)), gradients(model, output.losses["auxiliary"] / model.config.weight)


@pytest.mark.parametrize("mix", ["weighted", "plain"])
@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", AROUND)
def test_the_mixture_of_gradients(name: str, delta: float, mix: str, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, weight = made(loader, name, delta=delta, weight=0.6, mix=mix), some(loader), 0.6
    of_main, of_auxiliary = parts(model, batch, monkeypatch)
    output = model(batch)
    found = gradients(model, total(output, batch, read_loss(model.Loss)))
    mine, seen = tables(model), 0
    assert mine
    for key, gradient in found.items():
        if key in mine:
            seen += int(of_main[key].any() and of_auxiliary[key].any())
            expected = delta * of_main[key] + (1 - delta) * (weight if mix == "weighted" else 1.0) * of_auxiliary[key]
        elif key.startswith("capsules."):
            assert not of_main[key].any()
            expected = weight * of_auxiliary[key]  # as it is, whatever delta is
        else:
            assert not of_auxiliary[key].any()
            expected = of_main[key]
        assert_close(gradient, expected, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    assert seen >= min(len(mine), 2)  # where both have something to say
    if delta == 1:
        assert found["capsules.transform.weight"].any()  # it learns all the same


def test_the_model_alone_teaches_where_delta_is_1_and_the_capsules_alone_where_it_is_0(loader: Loader) -> None:
    batch = some(loader)
    for delta, silent in ((1.0, "auxiliary"), (0.0, "main")):
        model = made(loader, delta=delta)
        output = model(batch)
        loss = output.losses["auxiliary"] if silent == "auxiliary" else main(model, output, batch)
        found = gradients(model, loss)
        assert not any(found[key].any() for key in tables(model))
        assert any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("name", AROUND)
def test_losses_know_nothing_of_delta_nor_of_the_mix(name: str, loader: Loader) -> None:
    batch, said = some(loader), []
    for keys in ({"delta": 0.0}, {"delta": 0.3}, {"delta": 1.0}, {"mix": "plain", "weight": 1.0}):
        model = made(loader, name, **keys)
        output = model(batch)
        said.append((main(model, output, batch), output.losses["auxiliary"], output.logit))
    for other in said[1:]:
        for one, same in zip(said[0], other, strict=True):
            assert torch.equal(one, same)
    assert said[0][1] > 0


def test_weight_multiplies_the_loss_of_the_capsules(loader: Loader) -> None:
    batch = some(loader)
    one, three = (made(loader, weight=weight)(batch) for weight in (1.0, 3.0))
    assert_close(three.losses["auxiliary"], 3 * one.losses["auxiliary"])
    assert torch.equal(one.logit, three.logit)


class Told(nn.Module):
    """Facts of showing, which the made world has none of: two fields of each candidate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(100, 2, dim))

    def forward(self, code: Tensor, number: Tensor) -> Tensor:
        return self.table[: code.shape[0] * code.shape[1]].view(*code.shape[:2], 2, -1)


@pytest.mark.parametrize("negatives", [4, 0])
@pytest.mark.parametrize("how", ["max", "softmax"])
def test_what_the_capsules_learn_by(how: Any, negatives: int, loader: Loader) -> None:
    """Scaled products; the drawn items, or the request's own, stand against what was chosen."""
    model, batch = made(loader, negatives=negatives, read_out=how, power=2.0, rectify=False), some(loader)
    assert (model.shown is None) == bool(negatives)
    if not negatives:
        model.shown = Told(model.extra.dim)
    output, items = model(batch), items_of(model, batch)
    table = items[:, -model.extra.dim :]
    interest, there, _ = model.capsules(table, batch.user, batch.history)
    target, scale = table[batch.item], model.extra.dim**-0.5
    if not negatives:
        target = target + model.shown(batch.shown.code, batch.shown.number).sum(-2)
    weight = read_out((target @ interest.transpose(1, 2)) * scale, there, how, 2.0)
    vector = scale * weight @ interest
    assert batch.negative is not None
    own = replace(batch, negative=batch.negative[:, :4], negative_log_q=batch.negative_log_q[:, :4])  # of more it takes the first
    expected = sampled_softmax(vector, target, table[own.negative], own) if negatives else request_softmax(vector, target, batch)
    assert_close(output.losses["auxiliary"], expected)
    assert output.interest is output.member is None
    assert not model.eval()(batch).losses
    if negatives:
        with pytest.raises(TrainingError, match="sampled softmax needs"):
            model.train()(replace(batch, negative=None, first_drawn=None))


# ------------------------------------------------------------------------------------------------------ what is looked up


@pytest.mark.parametrize("name", AROUND)
def test_drawn_items_looked_up_in_the_auxiliary_tables_alone_are_the_same(name: str, loader: Loader) -> None:
    """The three steps on all rows, and forward, which knows better: one loss and one gradient."""
    model, batch = made(loader, name), some(loader)
    assert batch.first_drawn is not None
    assert batch.first_drawn < len(batch.row)
    seen = []
    for way in (batch, replace(batch, first_drawn=None)):
        output = model(way)
        loss = total(output, way, read_loss(model.Loss))
        seen.append((output.logit, loss, gradients(model, loss)))
    items = items_of(model, batch)
    steps = model.score(items, read(model, batch), batch)
    (one, loss, by_one), (other, same, by_other) = seen
    assert_close(one, other)
    assert_close(steps.logit, other)
    assert_close(loss, same)
    assert_close(total(steps, batch, read_loss(model.Loss)), same)
    for key, gradient in by_one.items():
        assert_close(gradient, by_other[key], rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


def rows(parameter: nn.Parameter) -> set[int]:
    assert parameter.grad is not None
    return set(parameter.grad._indices()[0].tolist())


def test_the_model_s_own_tables_have_no_row_of_what_was_only_drawn(loader: Loader) -> None:
    model, batch = made(loader), some(loader)
    total(model(batch), batch).backward()
    met, drawn = (set(torch.where(batch.known, batch.row, 0)[part].tolist()) for part in _halves(batch))
    assert drawn - met - {0}
    assert rows(model.item.item.id.weight) == met
    assert rows(model.extra.id.weight) == met | drawn
    model.zero_grad()
    total(model(replace(batch, first_drawn=None)), batch).backward()
    assert rows(model.item.item.id.weight) == met | drawn  # as it would be without


def _halves(batch: Batch) -> tuple[slice, slice]:
    assert batch.first_drawn is not None
    return slice(None, batch.first_drawn), slice(batch.first_drawn, None)


def test_what_a_model_asks_for_itself_is_looked_up_whole(loader: Loader) -> None:
    model, batch = made(loader, "sasrec"), some(loader)
    total(model(batch), batch, read_loss(model.Loss)).backward()
    assert rows(model.item.item.id.weight) == rows(model.extra.id.weight) == set(torch.where(batch.known, batch.row, 0).tolist())


# ------------------------------------------------------------------------------------------------------------ what matters


def steps(loader: Loader, count: int = 4, **keys: Any) -> tuple[Any, dict[str, Tensor]]:
    """A model after some steps of Adam."""
    model = made(loader, **keys)
    optimiser = Optimiser(model, 0.01, 0.01)
    for turn in range(count):
        batch = some(loader, skip=turn)
        optimiser.zero_grad()
        total(model(batch), batch).backward()
        optimiser.step()
    return model, {name: value.detach() for name, value in model.named_parameters()}


def test_under_adam_only_the_ratio_of_the_gradients_matters_to_a_table(loader: Loader) -> None:
    """lambda (1 - delta) / delta: 1 and 1, then 1 / 9."""
    model, one = steps(loader, delta=0.5, weight=1.0)
    _, same = steps(loader, delta=0.75, weight=3.0)
    _, other = steps(loader, delta=0.9, weight=1.0)
    before = dict(made(loader, delta=0.5).named_parameters())
    for name in sorted(tables(model)):
        far = float((one[name] - before[name].detach()).abs().max())
        assert far > 0.02, name
        assert (one[name] - same[name]).abs().max() < 0.02 * far, name
        assert (one[name] - other[name]).abs().max() > 0.2 * far, name


# ----------------------------------------------------------------------------------------------------------------- control


@pytest.mark.parametrize("name", AROUND)
def test_a_model_and_its_control_start_alike(name: str, loader: Loader) -> None:
    iacn, wider = (made(loader, name, around, large=False).state_dict() for around in ("iacn", "wider"))
    assert {key for key in iacn if key not in wider} == {key for key in iacn if key.startswith("capsules.")} != set()
    assert wider.keys() <= iacn.keys()
    for key, value in wider.items():
        assert torch.equal(iacn[key], value), key


@pytest.mark.parametrize("name", AROUND)
def test_wider_is_the_model_with_a_wider_encoder(name: str, loader: Loader) -> None:
    wider, batch, encoding = made(loader, name, "wider", large=False), some(loader), loader.data.encoding
    torch.manual_seed(3)
    kind = MODELS[name]
    item = item_encoder(encoding, kind.Item.model_copy(update={"dim": 4}))
    wide = Widened(item, item_encoder(encoding, ItemConfig(dim=4, attributes=len(item.parts) > 1)))
    plain = kind(encoding, wide, kind.Config(**OWN.get(name, {}))).train()
    assert {f"model.{key}" for key in plain.state_dict()} == set(wider.state_dict())
    one, other = wider(batch), plain(batch)
    assert torch.equal(one.logit, other.logit)
    assert one.losses.keys() == other.losses.keys()
    assert total(one, batch, read_loss(wider.Loss)) == total(other, batch, read_loss(kind.Loss))
    assert wider.wants == plain.wants
    assert wider.latest == plain.latest
    assert wider.pair_bytes == plain.pair_bytes


@pytest.mark.parametrize(("extra", "attributes", "width"), [(None, True, None), (2, True, None), (3, False, 3)])
def test_how_wide_the_tables_are(extra: int | None, attributes: bool, width: int | None, loader: Loader) -> None:
    model = made(loader, extra=extra, attributes=attributes)
    parts = len(item_encoder(loader.data.encoding, ItemConfig(dim=4)).parts)
    assert model.extra.dim == (width or (extra or 4) * parts)
    assert model.extra.parts[0] == (extra or 4)
    assert (model.columns.start, model.columns.stop) == (4 * parts, 4 * parts + model.extra.dim)
    assert made(loader, "mf", extra=extra, attributes=attributes).extra.dim == (extra or made(loader, "mf").extra.dim)  # ids alone


# ---------------------------------------------------------------------------------------------------------------- explains


@pytest.mark.parametrize("name", ["din", "dien", "dsin", "mf"])
def test_what_it_adds_to_an_explanation(name: str, loader: Loader) -> None:
    model, batch = made(loader, name, rectify=False).eval(), some(loader)
    output, own = model(batch, explain=True), model.model(batch, explain=True)
    plain = model(batch)
    assert plain.interest is plain.member is plain.attention is None
    assert torch.equal(output.logit, own.logit)
    assert torch.equal(plain.logit, own.logit)
    assert (own.attention is None) == (name == "mf")
    for field in ("attention", "head", "session"):
        mine, his = getattr(output, field), getattr(own, field)
        assert (mine is None and his is None) or torch.equal(mine, his)
    table = items_of(model, batch)[:, model.columns]
    interest, there, member = model.capsules(table, batch.user, batch.history)
    assert member.shape == (sum(PASTS), 4)  # an event each, where a model keeps sessions too
    assert_close(output.member, member)
    score = table[batch.item] @ interest.transpose(1, 2) * model.extra.dim**-0.5
    assert_close(output.interest, read_out(score, there, "max", 1.0))
    memory = read(model, batch)
    kept = memory.each if memory.events is None else memory.event
    assert kept["auxiliary.member"].shape == member.shape
    assert (memory.events is None) == (name != "dsin")
    if name == "mf":  # whose own retrieve
        assert torch.equal(model.interests(memory), model.model.interests(memory))
        assert torch.equal(model.targets(items_of(model, batch)), items_of(model, batch))
    else:
        assert_close(model.interests(memory), interest)
        assert torch.equal(model.targets(items_of(model, batch)), table)


# ----------------------------------------------------------------------------------------------------------------- bundles


@pytest.mark.parametrize(("name", "auxiliary"), [("din", "iacn"), ("dien", "iacn"), ("din", "wider"), ("mf", "iacn")])
def test_through_a_bundle(name: str, auxiliary: str, loader: Loader, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"extra": 3, **({"delta": 0.7, "first": "content"} if auxiliary == "iacn" else {})}
    model, item = made(loader, name, auxiliary, **keys).eval(), MODELS[name].Item.model_copy(update={"dim": 4})
    bundle = Bundle(
        name=name,
        model=model,
        encoding=loader.data.encoding,
        config=OWN.get(name, {}),
        item=item,
        auxiliary={"name": auxiliary, **keys},
        past=10,
        tie="order",
    )
    assert bundle.label == f"{name}+{auxiliary}"
    save_bundle(bundle, tmp_path / "bundle")
    loaded, batch = load_bundle(tmp_path / "bundle"), some(loader)
    assert type(loaded.model) is {"iacn": IaCN, "wider": Wider}[auxiliary]
    assert loaded.auxiliary == bundle.auxiliary
    assert loaded.label == f"{name}+{auxiliary}@{loaded.version}"
    assert len(loaded.version) == 8
    one, other = model(batch, explain=True), loaded.model(batch, explain=True)
    assert torch.equal(one.logit, other.logit)
    if auxiliary == "iacn":
        assert torch.equal(one.interest, other.interest)
        assert loaded.model.config == model.config
    assert model.state_dict().keys() == loaded.model.state_dict().keys()


# ------------------------------------------------------------------------------------------------------ wants, and refuses


def test_it_wants_what_both_want(loader: Loader) -> None:
    wants: Callable[..., Any] = lambda *given, **keys: made(loader, *given, **keys).wants  # noqa: E731
    assert (wants("dien").others, wants("dien").further) == (True, 4)
    assert (wants("din").others, wants("din", negatives=9).further) == (False, 9)
    assert wants("din", negatives=0).further == 0
    assert (wants("sasrec").further, wants("sasrec", negatives=9).further) == (5, 9)
    assert (wants("sasrec", "wider").further, wants("din", "wider").further) == (5, 0)
    assert made(loader, "sasrec").latest == MODELS["sasrec"].latest


def test_what_is_refused(loader: Loader) -> None:
    def said(model: str, **auxiliary: Any) -> str:
        with pytest.raises(ConfigError) as error:
            build(loader.data.encoding, model, {}, auxiliary=auxiliary, where="run")
        return str(error.value)

    for around in ("iacn", "wider"):
        assert said("popularity", name=around) == (
            "auxiliary: Popularity does not use the item encoder that it is given, so nothing can be put around it."
        )
    assert said("din", name="iacn", dleta=0.3) == "run: auxiliary.dleta is not a key of IaCNConfig. Did you mean 'delta'?"
    assert said("din", name="wider", delta=0.3).startswith("run: auxiliary.delta is not a key of WiderConfig.")
    assert said("din", delta=0.3) == "run: auxiliary.name is None; one of iacn, wider was wanted."
    assert said("din", name="iacn", delta=1.2) == "run: auxiliary.delta is 1.2; input should be less than or equal to 1."
    assert said("din", name="iacn", weight=0.0) == "run: auxiliary.weight is 0.0; input should be greater than 0."
    with pytest.raises(UnknownNameError) as unknown:
        build(loader.data.encoding, "din", {}, auxiliary={"name": "iacm"})
    assert str(unknown.value).endswith("there are iacn, wider. Did you mean 'iacn'?")
    assert "'iacm' is not an auxiliary network" in str(unknown.value)


# ------------------------------------------------------------------------------------------------------ beside the model


@pytest.mark.parametrize("name", ["wide-deep", "deepfm"])
def test_a_model_of_ids_stays_one(name: str, loader: Loader) -> None:
    encoding, item = loader.data.encoding, ItemConfig(dim=4, attributes=False)
    plain, wider = build(encoding, name, {}, item), build(encoding, name, {}, item, {"name": "wider"})
    told = {key.removeprefix("model.") for key in wider.state_dict()}
    assert {key for key in told if "fields" in key or "many" in key} <= set(plain.state_dict())


def test_each_of_two_networks_stands_against_as_many_as_it_asked_for(loader: Loader) -> None:
    few, batch = made(loader, "sasrec", negatives=2, rectify=False), some(loader)
    alone = few.model(replace(batch, negative=batch.negative[:, :5], negative_log_q=batch.negative_log_q[:, :5]))
    assert few.model.config.negatives == 5
    longer = [torch.cat([drawn, drawn.roll(1, 0)], 1) for drawn in (batch.negative, batch.negative_log_q)]  # further ones, of others
    more = few(replace(batch, negative=longer[0], negative_log_q=longer[1]))
    assert_close(more.losses["next"], alone.losses["next"])
    assert_close(more.losses["auxiliary"], few(batch).losses["auxiliary"])


def test_with_delta_1_drawn_items_are_not_even_stepped(loader: Loader) -> None:
    batch = some(loader)
    for delta, drawn in ((1.0, False), (0.5, True)):
        model = made(loader, "din", delta=delta, rectify=False)
        total(model(batch), batch).backward()
        met = set(model.extra.id.weight.grad.coalesce().indices()[0].tolist())
        assert bool(set(batch.row[batch.first_drawn :].tolist()) & met) == drawn


def test_what_no_logit_is_made_of_stands_aside(loader: Loader) -> None:
    model, batch = made(loader, "mf").eval(), some(loader)
    before = model(batch).logit
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(model.aside):
                parameter.normal_()
    assert torch.equal(model(batch).logit, before)
    assert not any(name.startswith(model.aside) for name, _ in made(loader, "mf", "wider").named_parameters())


def test_a_wrapped_model_starts_from_one_that_is_wrapped_alike(loader: Loader) -> None:
    model, other = made(loader, "din"), made(loader, "din")
    with torch.no_grad():
        other.capsules.transform.weight.fill_(3)
    model.start_from([other])
    assert bool((model.capsules.transform.weight == 3).all())
    with pytest.raises(ConfigError) as caught:
        model.start_from([made(loader, "mf")])
    assert str(caught.value) == "IaCN of DIN starts from one trained IaCN of DIN; what was given is IaCN of MF."
