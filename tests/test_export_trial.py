"""DIN in ONNX, a graph for each of its three steps, says what it says in torch, for one person and any sizes, no past among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.testing import assert_close

from penchant.batch import Batch, History, Memory, Segments, Shown, User
from penchant.data.load import Loader
from penchant.models import build
from penchant.models.din import DIN
from penchant.nn.item import ItemConfig

pytestmark = pytest.mark.filterwarnings("ignore:# The axis name. .* will not be used:UserWarning")  # of a size that two inputs share

Run = Callable[..., list[Tensor]]


def one_person(events: int, device: torch.device) -> Segments:
    return Segments(start=torch.zeros(2, dtype=torch.int64, device=device), total=events)  # of one owner, start is not read


def request(item: Tensor, user: User, context: Tensor, number: Tensor, history: History) -> Batch:
    """One person's request about items int64 [1, C], all of them distinct rows."""
    return Batch(
        row=item[0],
        known=item[0] >= 0,
        user=user,
        context=context,
        number=number,
        time=user.code[:, 0],
        item=item,
        shown=Shown(code=item[..., None][..., :0], number=torch.zeros(*item.shape, 0)),
        history=history,
    )


class Item(nn.Module):
    def __init__(self, model: DIN) -> None:
        super().__init__()
        self.model = model

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        return self.model.item(row, known)


class Read(nn.Module):
    def __init__(self, model: DIN) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, user: Tensor, profile: Tensor, place: Tensor, action: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        events = one_person(place.shape[0], place.device)
        history = History(item=place, time=place, action=action, number=number, events=events)
        memory = self.model.read(items, User(code=user, number=profile), history)
        return memory.each["past"], memory.each["key"]


class Score(nn.Module):
    def __init__(self, model: DIN) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, items: Tensor, past: Tensor, key: Tensor, item: Tensor, user: Tensor, profile: Tensor, context: Tensor, number: Tensor
    ) -> Tensor:
        events = one_person(past.shape[0], past.device)
        nothing = torch.zeros(0, dtype=torch.int64)
        history = History(item=nothing, time=nothing, action=nothing[:, None], number=nothing[:, None].float(), events=events)
        memory = Memory(segments=events, each={"past": past, "key": key})
        return self.model.score(items, memory, request(item, User(code=user, number=profile), context, number, history)).logit


def export(step: nn.Module, example: Mapping[str, Tensor], dynamic: Mapping[str, Any], path: Path) -> Run:
    shapes = {n: dynamic.get(n) for n in example}
    torch.onnx.export(step.eval(), kwargs=dict(example), f=path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(path)
    given = {i.name for i in session.get_inputs()}  # an input that a model does not read is no part of its graph

    def run(**inputs: Tensor) -> list[Tensor]:
        return [torch.from_numpy(out) for out in session.run(None, {n: v.numpy() for n, v in inputs.items() if n in given})]

    return run


@pytest.fixture(scope="module", params=["none", "softmax_scaled"])
def din(request: pytest.FixtureRequest, loader: Loader) -> DIN:
    torch.manual_seed(0)
    config = {"attention": [16, 8], "head": [16, 8], "profile": 4, "normalize": request.param}
    model = build(loader.data.encoding, "din", config, ItemConfig(dim=8)).train()
    assert isinstance(model, DIN)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    with torch.no_grad():
        model(loader.batch(loader.position[:200], 0))  # moves the moving averages
    return model.eval()


@pytest.fixture(scope="module")
@torch.no_grad()
def graphs(din: DIN, loader: Loader, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder, ask = tmp_path_factory.mktemp("graphs"), inputs(loader, events=7, candidates=5)
    items = din.item(ask["row"], ask["known"])
    e, c, m = Dim("events"), Dim("candidates"), Dim("items")
    read = {"items": items, **{n: ask[n] for n in ("user", "profile", "place", "action")}, "number": ask["event_number"]}
    past, key = Read(din)(**read)
    score = {"items": items, "past": past, "key": key, **{n: ask[n] for n in ("item", "user", "profile", "context", "number")}}
    return {
        "item": export(Item(din), {"row": ask["row"], "known": ask["known"]}, {"row": {0: m}, "known": {0: m}}, folder / "item.onnx"),
        "read": export(Read(din), read, {"items": {0: m}, "place": {0: e}, "action": {0: e}, "number": {0: e}}, folder / "read.onnx"),
        "score": export(Score(din), score, {"items": {0: m}, "past": {0: e}, "key": {0: e}, "item": {1: c}}, folder / "score.onnx"),
    }


def inputs(loader: Loader, events: int, candidates: int) -> dict[str, Tensor]:
    """A request about `candidates` items after `events` events, made of a real one's fields."""
    like = loader.batch(loader.position[-20:], 0)
    random = np.random.default_rng(events * 1000 + candidates)
    size = loader.data.encoding.catalogue.size
    at = torch.from_numpy(random.integers(like.history.events.total, size=events))
    return {
        "row": torch.arange(size),
        "known": torch.from_numpy(random.random(size) < 0.9),
        "place": torch.from_numpy(random.integers(size, size=events)),
        "action": like.history.action[at],
        "event_number": like.history.number[at],
        "item": torch.from_numpy(random.integers(size, size=(1, candidates))),
        "user": like.user.code[:1],
        "profile": like.user.number[:1],
        "context": like.context[:1],
        "number": like.number[:1],
    }


@torch.no_grad()
def in_torch(din: DIN, ask: Mapping[str, Tensor]) -> Tensor:
    place = ask["place"]
    events = Segments.of(torch.tensor([len(place)]))
    history = History(item=place, time=place, action=ask["action"], number=ask["event_number"], events=events)
    items = din.item(ask["row"], ask["known"])
    user = User(code=ask["user"], number=ask["profile"])
    batch = request(ask["item"], user, ask["context"], ask["number"], history)
    return din.score(items, din.read(items, user, history), batch).logit


def in_onnx(graphs: Mapping[str, Run], ask: Mapping[str, Tensor]) -> Tensor:
    (items,) = graphs["item"](row=ask["row"], known=ask["known"])
    past, key = graphs["read"](items=items, number=ask["event_number"], **{n: ask[n] for n in ("user", "profile", "place", "action")})
    (logit,) = graphs["score"](items=items, past=past, key=key, **{n: ask[n] for n in ("item", "user", "profile", "context", "number")})
    return logit


@pytest.mark.parametrize("events", [0, 1, 5, 50, 300])
@pytest.mark.parametrize("candidates", [1, 20, 200])
def test_three_graphs_are_the_model(events: int, candidates: int, din: DIN, graphs: Mapping[str, Run], loader: Loader) -> None:
    ask = inputs(loader, events, candidates)
    expected = in_torch(din, ask)
    assert candidates == 1 or expected.std() > 0.01
    assert_close(in_onnx(graphs, ask), expected, rtol=1e-5, atol=1e-5)
