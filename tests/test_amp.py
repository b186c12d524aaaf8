"""AMP-CF against plain loops of its equations, beside mf, and on a made world whose people have two tastes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from penchant.batch import Batch
from penchant.conformance.laws import Subject, items_of, read
from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.errors import ConfigError
from penchant.models import build
from penchant.models.amp import AMP
from penchant.nn.item import ItemConfig
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.loss import read_loss

Vector = NDArray[np.float64]
PASTS = [4, 0, 7, 2, 1]
CONFIGS: list[dict[str, Any]] = [{}, {"personas": 2, "attention_dim": 3, "temperature": 6.0}, {"personas": 1}]


def made(loader: Loader, name: str = "amp", *, dim: int = 4, **config: Any) -> Any:
    """One whose parameters are all large, but that nobody is UNKNOWN."""
    torch.manual_seed(0)
    model = build(loader.data.encoding, name, config, ItemConfig(attributes=False, dim=dim), where="run")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.7)
    model.user.weight.data[0] = 0
    return model.eval()


def some(loader: Loader, *, candidates: int = 5) -> Batch:
    return Subject(build=lambda encoding: nn.Identity(), loader=loader).batch(PASTS, candidates=candidates)


def unseen(batch: Batch) -> Batch:
    """The same, asked by people who were never seen."""
    return replace(batch, user=replace(batch.user, code=torch.zeros_like(batch.user.code)))


def numbers(x: Tensor) -> Vector:
    return x.detach().double().numpy()


def affine(layer: nn.Linear, x: Vector) -> Vector:
    return numbers(layer.weight) @ x + numbers(layer.bias)


def say(model: AMP, personas: list[Vector], v: Vector) -> Vector:
    """a_k = softmax over k of temperature * cos(A_u u_k, A_v v)."""
    if model.attention is None:
        return np.ones(1)
    query, cosine = affine(model.attention.item, v), []
    for u in personas:
        key = affine(model.attention.persona, u)
        cosine.append(key @ query / math.sqrt((key @ key) * (query @ query)))
    exp = np.exp(model.config.temperature * np.array(cosine))
    return exp / exp.sum()


def personas_of(model: AMP, user: Tensor) -> list[Vector]:
    K, D = model.config.personas, model.item.dim - 1
    row = numbers(model.user.weight[user])
    return [row[k * D : (k + 1) * D] for k in range(K)]


# --------------------------------------------------------------------------------------------------------------- equations


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_amp_by_hand(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, **config), some(loader)
    items, out, events = numbers(items_of(model, batch)), model(batch, explain=True), batch.history.events
    for r, user in enumerate(batch.user.code[:, 0]):
        personas = personas_of(model, user)
        for c, place in enumerate(batch.item[r]):
            v, b = items[place, :-1], items[place, -1]
            a = say(model, personas, v)
            x = sum(a_k * u for a_k, u in zip(a, personas, strict=True))
            assert float(out.logit[r, c].detach()) == pytest.approx(x @ v + b, abs=1e-4)
            assert numbers(out.interest[r, c]) == pytest.approx(a, abs=1e-5)
        for e in range(int(events.start[r]), int(events.start[r + 1])):
            assert numbers(out.member[e]) == pytest.approx(say(model, personas, items[batch.history.item[e], :-1]), abs=1e-5)
    assert events.total == sum(PASTS)
    K = model.config.personas
    assert out.interest.shape == (*batch.item.shape, K)
    assert out.member.shape == (events.total, K)
    assert config.get("personas", 4) == K


def test_what_is_kept_of_a_person(loader: Loader) -> None:
    model, batch = made(loader, personas=3, attention_dim=2), some(loader)
    memory = read(model, batch)
    assert {name: tuple(value.shape) for name, value in memory.whole.items()} == {"persona": (5, 3, 4), "key": (5, 3, 2)}
    assert_close(memory.whole["key"].norm(dim=-1), torch.ones(5, 3))
    assert memory.each.keys() == {"member"}
    assert not read(model.train(), batch).each  # which persona an event belongs to is no part of training
    assert model(batch, explain=True).member is None


def test_explanations_stay_float32_under_autocast(loader: Loader) -> None:
    model, batch = made(loader), some(loader)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch, explain=True)
    assert out.interest.dtype == out.member.dtype == out.logit.dtype == torch.float32
    assert_close(out.member.sum(1), torch.ones(sum(PASTS)))


@pytest.mark.parametrize("temperature", [0.5, 3.0, 20.0])
def test_temperature_multiplies_what_personas_differ_by(temperature: float, loader: Loader) -> None:
    one, batch = made(loader), some(loader)
    other = made(loader, temperature=temperature)
    other.load_state_dict(one.state_dict())
    a, b = (model(batch, explain=True).interest.log() for model in (one, other))
    assert a.max() - a.min() > 0.5
    assert (a.amax(-1) - a.amin(-1)).max() <= 2 + 1e-5  # unscaled cosines: no persona has more than e^2 times the say of another
    assert_close(b - b[..., :1], temperature * (a - a[..., :1]), rtol=1e-3, atol=1e-3)


class Greatest(TorchDispatchMode):
    """How many numbers the largest tensor has that was made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, Tensor) and made.layout == torch.strided:
                self.numbers = max(self.numbers, made.untyped_storage().nbytes() // made.element_size())
        return out


def test_the_mixtures_of_a_request_are_never_laid_out(loader: Loader) -> None:
    model, batch = made(loader, personas=8, dim=16), some(loader, candidates=40)
    memory, items = read(model, batch), items_of(model, batch)
    with Greatest() as greatest:
        model.score(items, memory, batch).logit.sum().backward()
    R, C = batch.item.shape
    assert R * C * 16 <= greatest.numbers < R * C * 16 * 8 / 2


# ---------------------------------------------------------------------------------------------------------- one persona, mf


def test_one_persona_is_matrix_factorisation(loader: Loader) -> None:
    mf, amp, batch = made(loader, "mf"), made(loader, personas=1), some(loader)
    amp.load_state_dict(mf.state_dict())  # strictly: it has no other parameters
    expected = mf(batch).logit
    assert_close(amp(batch).logit, expected, rtol=0, atol=1e-6)
    assert_close(amp(unseen(batch)).logit, mf(unseen(batch)).logit, rtol=0, atol=1e-6)
    assert expected.std() > 0.1
    for model in (mf, amp):
        model.zero_grad()
        model.train()(batch).logit.square().mean().backward()
    for name, parameter in mf.named_parameters():
        assert_close(amp.get_parameter(name).grad.to_dense(), parameter.grad.to_dense(), rtol=1e-5, atol=1e-6)


def test_a_person_never_seen_goes_by_the_bias(loader: Loader) -> None:
    for config in CONFIGS:
        fresh = build(loader.data.encoding, "amp", config, where="run")
        assert not fresh.user.weight[0].any()
        assert fresh.user.weight[1:].abs().min(1).values.gt(0).any()
        model, batch = made(loader, **config), unseen(some(loader))
        out, bias = model(batch, explain=True), items_of(model, batch)[batch.item][..., -1]
        assert_close(out.logit, bias)
        assert_close(out.interest, torch.full_like(out.interest, 1 / model.config.personas))


def test_the_cosine_with_nothing_is_nothing(loader: Loader) -> None:
    """A_u of a persona that is 0 is 0 where A_u has learned no offset; answers and gradients stay finite."""
    model, batch = made(loader), unseen(some(loader))
    model.attention.persona.bias.data.zero_()
    out = model.train()(batch, explain=True)
    assert_close(out.interest, torch.full_like(out.interest, 1 / 4))
    out.logit.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.to_dense().isfinite().all(), name


# --------------------------------------------------------------------------------------------------------------- retrieval


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_no_logit_is_above_the_greatest_interest(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, **config), some(loader)
    greatest = greatest_interest(model, batch)
    over = greatest - model(batch).logit
    assert over.min() > -1e-5
    if model.config.personas == 1:
        assert_close(over, torch.zeros_like(over))
    else:
        assert over.max() > 0.1


def test_the_one_interest_of_mf_is_its_logit(loader: Loader) -> None:
    model, batch = made(loader, "mf"), some(loader)
    assert model.interests(read(model, batch)).shape == (len(PASTS), 1, model.item.dim)
    assert_close(greatest_interest(model, batch), model(batch).logit)


def greatest_interest(model: Any, batch: Batch) -> Tensor:
    """float32 [R, C], max over k of interest k . target."""
    target = model.targets(items_of(model, batch))[batch.item]  # [R, C, D]
    return (target @ model.interests(read(model, batch)).transpose(1, 2)).amax(-1)


# ------------------------------------------------------------------------------------------------------------------ losses


def weighted(batch: Batch) -> Batch:
    """Requests with two positives, one, none and nothing else; their slots weigh 0 to 3, a whole request nothing."""
    label = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]).float()
    weight = torch.tensor([[1, 2, 0.5, 0, 3], [1, 1, 1, 1, 1], [2, 0.5, 1, 1, 1], [1, 3, 1, 0, 1], [0, 0, 0, 0, 0]]).float()
    return replace(batch, label=label, weight=weight)


@pytest.mark.parametrize("weighs", [True, False])
def test_entropies_by_hand(weighs: bool, loader: Loader) -> None:
    model = made(loader, chosen_entropy=0.6, other_entropy=0.25, temperature=3.0).train()
    batch = weighted(some(loader))
    batch = batch if weighs else replace(batch, weight=None)
    out, (R, C) = model(batch, explain=True), batch.item.shape
    part: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for r in range(R):
        for c in range(C):
            entropy = -sum(a * math.log(a) for a in out.interest[r, c].tolist())
            part[bool(batch.label[r, c] == 1)].append((entropy, float(batch.weight[r, c]) if weighs else 1.0))
    mean = {chosen: sum(h * w for h, w in slots) / sum(w for _, w in slots) for chosen, slots in part.items()}
    assert out.losses.keys() == {"chosen_entropy", "other_entropy"}
    assert float(out.losses["chosen_entropy"].detach()) == pytest.approx(0.6 * mean[True], rel=1e-4)
    assert float(out.losses["other_entropy"].detach()) == pytest.approx(-0.25 * mean[False], rel=1e-4)
    assert abs(mean[True] - mean[False]) > 0.01
    assert not model.eval()(batch).losses


def test_entropies_are_there_only_when_asked_for(loader: Loader) -> None:
    batch = weighted(some(loader))
    asked: Mapping[tuple[float, float], set[str]] = {
        (0.0, 0.0): set(),
        (0.3, 0.0): {"chosen_entropy"},
        (0.0, 0.3): {"other_entropy"},
    }
    for (chosen, other), names in asked.items():
        model = made(loader, chosen_entropy=chosen, other_entropy=other).train()
        assert model(batch).losses.keys() == names
        assert not model(replace(batch, label=None)).losses
    both = made(loader, chosen_entropy=0.3, other_entropy=0.3).train()
    nothing = both(replace(batch, weight=torch.zeros_like(batch.label))).losses
    assert [float(loss.detach()) for loss in nothing.values()] == [0, 0]


def test_entropies_draw_what_was_chosen_to_one_persona_and_spread_the_rest(loader: Loader) -> None:
    def moved(**config: float) -> tuple[float, float]:
        """By how much a step on the entropies alone changes those of positives and of others."""
        model, batch = made(loader, temperature=3.0, **config).train(), weighted(some(loader))
        batch = replace(batch, weight=None)
        before = entropies(model, batch)
        sum(model(batch).losses.values()).backward()
        with torch.no_grad():
            for parameter in model.attention.parameters():
                parameter -= 0.05 * parameter.grad
        after = entropies(model, batch)
        return after[0] - before[0], after[1] - before[1]

    assert moved(chosen_entropy=1.0)[0] < -1e-3
    assert moved(other_entropy=1.0)[1] > 1e-3


def entropies(model: AMP, batch: Batch) -> tuple[float, float]:
    a = model(batch, explain=True).interest.detach()
    entropy = -(a * a.log()).sum(-1)
    return float(entropy[batch.label == 1].mean()), float(entropy[batch.label == 0].mean())


def test_its_loss_is_the_papers(loader: Loader) -> None:
    """-log(exp(s+) / (exp(s+) + sum of exp(s-))), a mean over positives, without log q."""
    model, batch = made(loader).train(), some(loader)
    batch = replace(batch, log_q=torch.randn(batch.item.shape))
    out, each = model(batch), []
    for r in range(len(PASTS)):
        (c,) = batch.label[r].nonzero().flatten().tolist()
        each.append(-float(out.logit[r, c].detach()) + math.log(sum(math.exp(s) for s in out.logit[r].tolist())))
    assert float(read_loss(AMP.Loss)(out, batch).detach()) == pytest.approx(np.mean(each), rel=1e-5)


def test_what_amp_refuses(loader: Loader) -> None:
    for config, message in (
        ({"personas": 0}, "model.personas is 0; input should be greater than or equal to 1."),
        ({"temperature": 0.0}, "model.temperature is 0.0; input should be greater than 0."),
        ({"other_entropy": -1.0}, "model.other_entropy is -1.0; input should be greater than or equal to 0."),
    ):
        with pytest.raises(ConfigError) as error:
            made(loader, **config)
        assert str(error.value) == f"run: {message}"


# ---------------------------------------------------------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def two_tastes(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A world in which a third of the people have two tastes."""
    folder = tmp_path_factory.mktemp("tastes")
    write_world(folder / "raw", people=300, items=96, tastes=6, events=40, seed=1)
    return prepare(folder / "raw", folder / "log")


def together(log: Log, folder: Path, **config: float) -> tuple[float, float]:
    """Of two events of a person with two tastes: how often they share a persona when they are of one taste, and when of both."""
    keys = RunConfig(
        log=str(log.folder),
        model={"name": "amp", "personas": 2, **config},
        item=ItemConfig(dim=16),
        protocol="loo-full",
        data=LoadConfig(past=30, negatives=8, unknown=0),
        train=TrainConfig(epochs=10, batch_size=128, rate=3e-3, patience=10),
    )
    run = fit(keys, folder, log=log)
    position = run.split.test
    batch = Loader(data=run.data, position=position, config=LoadConfig(past=30), seed=0).assemble(
        position, run.data.rows(position)[:, None]
    )
    with torch.inference_mode():
        member = run.model.eval()(batch, explain=True).member
    assert member is not None
    tastes = np.concatenate([[-1], [int(raw[1:]) % 6 for raw in log.items.column("id").to_pylist()]])
    taste, persona = tastes[batch.row[batch.history.item].numpy()], member.argmax(1).numpy()
    one, both = [], []
    for begin, end in pairwise(batch.history.events.start.tolist()):
        if len(set(taste[begin:end])) == 2 and end - begin > 2:
            alike, shared = (x[begin:end, None] == x[begin:end] for x in (taste, persona))
            one.append(shared[alike & ~np.eye(end - begin, dtype=bool)].mean())
            both.append(shared[~alike].mean())
    assert len(one) > 60
    return float(np.mean(one)), float(np.mean(both))


def test_personas_tell_two_tastes_apart(two_tastes: Log, tmp_path: Path) -> None:
    """By chance both shares would be alike. What spreads the other items keeps one persona from taking all that is chosen."""
    one, both = together(two_tastes, tmp_path / "spread", other_entropy=0.2)
    assert one > 0.8
    assert both < one - 0.3
    _, without = together(two_tastes, tmp_path / "plain")
    assert both < without - 0.2
