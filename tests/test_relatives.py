"""The recurrent relatives of DIEN and DSIN, gru and hrnn, against plain loops; and whether order and sessions matter to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from penchant.batch import Batch
from penchant.conformance.laws import Subject, read
from penchant.data.load import Loader
from penchant.errors import ConfigError
from penchant.models import build
from penchant.nn.item import ItemConfig
from penchant.nn.recurrent import Cell

Vector = NDArray[np.float64]
CUT = [[3, 1, 2], [], [1], [2, 2], [1, 1, 1, 1], [9], [1, 4]]  # the lengths of each request's sessions, the oldest first
PERSON = [{}, {"output": "both", "reset": "after", "hidden": 3}]
NONE = [{"start": "none", "output": "both"}, {"start": "none", "output": "both", "reset": "after"}]


def made(loader: Loader, name: str, **config: Any) -> Any:
    model = build(loader.data.encoding, name, {"head": [8, 5], **config}, ItemConfig(dim=2), where="run")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    return model.eval()


def cut(loader: Loader, sessions: Sequence[Sequence[int]] = CUT) -> Batch:
    """A batch whose pasts are of sessions of these lengths."""
    batch = Subject(build=lambda encoding: nn.Identity(), loader=loader).batch([sum(mine) for mine in sessions])
    fresh = torch.tensor([place == 0 for mine in sessions for length in mine for place in range(length)])
    return replace(batch, history=replace(batch.history, fresh=fresh))


def numbers(x: Tensor) -> Vector:
    return x.detach().double().numpy()


def sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


def step(cell: Cell, x: Vector, h: Vector) -> Vector:
    """h' = (1 - u) h + u c, one event at a time."""
    r, u, c = np.split(numbers(cell.input.weight) @ x + numbers(cell.input.bias), 3)
    of_r, of_u, of_c = np.split(numbers(cell.state.weight), 3)
    r, u = sigmoid(r + of_r @ h), sigmoid(u + of_u @ h)
    c = c + (of_c @ (r * h) if cell.offset is None else r * (of_c @ h + numbers(cell.offset)))
    return (1 - u) * h + u * np.tanh(c)


def pasts(model: Any, batch: Batch) -> list[list[list[Vector]]]:
    """The vectors of each event of each session of each request."""
    each = iter(numbers(model.past(model.item(batch.row, batch.known), batch.history)))
    return [[[next(each) for _ in range(length)] for length in mine] for mine in CUT]


@pytest.mark.parametrize("config", [{}, {"reset": "after", "hidden": 3}], ids=["before", "after"])
def test_gru_by_hand(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, "gru", **config), cut(loader)
    state = numbers(read(model, batch).whole["state"])
    for r, sessions in enumerate(pasts(model, batch)):
        h = np.zeros(model.unit.hidden)
        for x in (event for session in sessions for event in session):
            h = step(model.unit, x, h)
        assert state[r] == pytest.approx(h, abs=1e-5)
    assert model.unit.hidden == config.get("hidden", model.item.dim)
    assert (model.unit.offset is None) == (config.get("reset", "before") == "before")


@pytest.mark.parametrize("config", [*PERSON, *NONE], ids=str)
def test_hrnn_by_hand(config: dict[str, Any], loader: Loader) -> None:
    model, batch = made(loader, "hrnn", **config), cut(loader)
    state = numbers(read(model, batch).whole["state"])
    for r, sessions in enumerate(pasts(model, batch)):
        first = s = c = np.zeros(model.hidden)
        for session in sessions:
            s = first
            for x in session:
                s = step(model.session, x, s)
            c = step(model.sessions, s, c)
            if config.get("start") != "none":
                first = np.tanh(numbers(model.start.weight) @ c + numbers(model.start.bias))
        both = config.get("output") == "both"
        assert state[r] == pytest.approx(np.concatenate([s, c]) if both else s, abs=1e-5)


@pytest.mark.parametrize("name", ["gru", "hrnn"])
def test_a_candidate_is_read_beside_the_state(name: str, loader: Loader) -> None:
    model, batch = made(loader, name), cut(loader)
    request = torch.cat([model.person(batch), read(model, batch).whole["state"]], -1)
    expected = model.head(request, model.item(batch.row, batch.known)[batch.item])
    assert torch.equal(model(batch).logit, expected)
    assert not torch.isclose(expected[0, :1], expected[0, 1:]).all()


def moved(loader: Loader, name: str, batch: Batch, other: Batch, **config: Any) -> list[bool]:
    """Of each request, whether its logits change."""
    model = made(loader, name, **config)
    return [not torch.allclose(one, two, atol=1e-5) for one, two in zip(model(batch).logit, model(other).logit, strict=True)]


@pytest.mark.parametrize(("name", "matters"), [("gru", True), ("hrnn", True), ("pooling", False)])
def test_whether_the_order_of_events_matters(name: str, matters: bool, loader: Loader) -> None:
    batch = cut(loader)
    history, events = batch.history, batch.history.events
    mirror = events.spread(events.start[:-1] + events.start[1:] - 1) - torch.arange(events.total)
    turned = replace(history, item=history.item[mirror], action=history.action[mirror], number=history.number[mirror])
    assert moved(loader, name, batch, replace(batch, history=turned)) == [matters and sum(mine) > 1 for mine in CUT]


@pytest.mark.parametrize(
    ("name", "config", "matters"), [("gru", {}, False), ("pooling", {}, False), *(("hrnn", config, True) for config in (*PERSON, *NONE))]
)
def test_whether_sessions_matter(name: str, config: dict[str, Any], matters: bool, loader: Loader) -> None:
    batch = cut(loader)
    whole = replace(batch, history=replace(batch.history, fresh=None))
    assert moved(loader, name, batch, whole, **config) == [matters and len(mine) > 1 for mine in CUT]


def test_the_first_session_of_a_person_begins_from_nothing(loader: Loader) -> None:
    """With one session hrnn is a gru; with more, what was before the last session is in its state only with `start` person."""
    hrnn, gru, batch = made(loader, "hrnn"), made(loader, "gru"), cut(loader)
    for part, other in ((gru.unit, hrnn.session), (gru.past, hrnn.past), (gru.item, hrnn.item)):
        part.load_state_dict(other.state_dict())
    whole = replace(batch, history=replace(batch.history, fresh=None))
    assert torch.allclose(read(hrnn, whole).whole["state"], read(gru, whole).whole["state"], atol=1e-5)
    older = replace(batch.history, item=torch.cat([batch.history.item[[1]], batch.history.item[1:]]))  # the first event of three sessions
    for config, reaches in (({"output": "both"}, True), ({"start": "none", "output": "both"}, False)):
        model = made(loader, "hrnn", **config)
        before, after = (read(model, replace(batch, history=history)).whole["state"][0] for history in (batch.history, older))
        assert torch.equal(before[: model.hidden], after[: model.hidden]) == (not reaches)
        assert not torch.equal(before[model.hidden :], after[model.hidden :])


def test_a_person_s_state_is_read_somewhere(loader: Loader) -> None:
    with pytest.raises(ConfigError) as error:
        made(loader, "hrnn", start="none")
    assert str(error.value) == "hrnn: with start 'none' and output 'session' nothing reads a person's state. Set output to 'both'."
