"""A step's memory is proportional to its batch's real events, however unevenly they are spread over people."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from penchant.batch import Batch, Segments
from penchant.data.load import Loader
from penchant.models import build
from penchant.train.loss import total


def spread_over(batch: Batch, lengths: list[int]) -> Batch:
    """The same requests and candidates, with pasts of these lengths, made of the batch's own events."""
    index = torch.arange(sum(lengths)) % batch.history.events.total
    history = batch.history
    made = replace(
        history,
        item=history.item[index],
        time=history.time[index],
        action=history.action[index],
        number=history.number[index],
        other=None,
        events=Segments.of(torch.tensor(lengths)),
    )
    return replace(batch, history=made)


def kept_bytes(model: torch.nn.Module, batch: Batch) -> int:
    """What a forward pass keeps for its backward pass, each storage counted once."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = total(model(batch), batch)
    assert loss.isfinite()
    return sum(kept.values())


@pytest.mark.parametrize("name", ["pooling", "din"])
def test_a_step_keeps_what_its_events_need(loader: Loader, name: str) -> None:
    model = build(loader.data.encoding, name, {}).train()
    batch = loader.batch(loader.position[:64], 0)
    even, uneven = [20] * 64, [0] * 63 + [1280]
    flat = kept_bytes(model, spread_over(batch, even))
    assert kept_bytes(model, spread_over(batch, uneven)) == pytest.approx(flat, rel=0.02)
    none = kept_bytes(model, spread_over(batch, [0] * 64))
    twice = kept_bytes(model, spread_over(batch, [40] * 64))
    assert twice - none == pytest.approx(2 * (flat - none), rel=0.02)
