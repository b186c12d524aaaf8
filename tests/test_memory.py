"""A step's memory is proportional to its batch's real events, however uneven they are; that of `prepare` is what it is given."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


PREPARE = """
import json, resource, sys
from pathlib import Path
from penchant.config import read
from penchant.data.prepare import prepare
from penchant.schema import Schema

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

folder, before = Path(sys.argv[1]), peak()
schema = read(Schema, {"name": "many", "events": {"file": "raw", "action": {"kind": {}}, "context": {"device": {}}}})
log = prepare(folder, folder / "log", schema, memory=sys.argv[2])
print(json.dumps([log.size, before, peak()]))
"""


@pytest.mark.slow
def test_preparing_takes_the_memory_that_it_is_given(tmp_path: Path) -> None:
    """Five million events, whose rows as text are some 250 MB and whose columns are 140 MB, in 250 MB."""
    rows, given = 5_000_000, 100
    random = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for half in range(2):
        columns = {
            "user": random.integers(30_000, size=rows // 2) + 10**12,
            "item": random.integers(20_000, size=rows // 2),
            "time": 1_500_000_000 + random.integers(10**8, size=rows // 2),
            "kind": pa.array(["view", "cart", "buy"]).take(pa.array(random.integers(3, size=rows // 2))),
            "device": pa.array(["phone", "desk"]).take(pa.array(random.integers(2, size=rows // 2))),
        }
        pq.write_table(pa.table(columns), tmp_path / "raw" / f"{half}.parquet")
    command = [sys.executable, "-c", PREPARE, str(tmp_path), f"{given}MB"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, before, peak = json.loads(done.stdout)  # nothing else may stand there
    assert size == rows
    assert peak - before < given + 150, (before, peak)
