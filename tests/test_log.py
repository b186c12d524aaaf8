"""The Log: opened only when it is whole, and its derived columns against plain loops."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.config import read
from penchant.data.log import Log, open_log
from penchant.errors import ArtefactError
from penchant.files import write_manifest
from penchant.schema import Schema

Pasts = list[list[tuple[int, bool]]]  # (seconds, positive) of each person's events
PASTS = st.lists(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=9), min_size=1, max_size=6)


def small_log(pasts: Sequence[Sequence[tuple[int, bool]]], *, past: str = "all", items: int = 7) -> Log:
    """A Log in memory of these events, each person's sorted by time."""
    events = [(time, positive) for person in pasts for time, positive in sorted(person, key=lambda event: event[0])]
    more = {"past": past} if past == "positive" else {}
    schema = {"name": "small", "events": {"file": "e.csv", "label": {"column": "label", "at_least": 1}} | more}
    return Log(
        folder=Path("small"),
        schema=read(Schema, schema),
        manifest={},
        events={
            "item": np.array([(3 * at) % items for at in range(len(events))], dtype=np.int32),
            "time": np.array([time * 1000 for time, _ in events], dtype=np.int64),
            "source": np.arange(len(events)),
            "label": np.array([positive for _, positive in events], dtype=np.float32),
        },
        users=pa.RecordBatch.from_pydict(
            {"id": [f"u{at}" for at in range(len(pasts))], "end": np.cumsum([len(person) for person in pasts]).astype(np.int64)}
        ),
        items=pa.RecordBatch.from_pydict({"id": [f"i{at}" for at in range(items)]}),
        values={},
    )


@settings(max_examples=60, deadline=None)
@given(PASTS)
def test_derived_columns_equal_loops(pasts: Pasts) -> None:
    log = small_log(pasts)
    owners = [user for user, person in enumerate(pasts) for _ in person]
    assert log.size == len(owners)
    assert log.start.tolist() == [sum(len(person) for person in pasts[:user]) for user in range(len(pasts) + 1)]
    assert log.user_of(np.arange(log.size)).tolist() == owners
    assert log.user_of(np.arange(log.size)[::-1]).dtype == np.int64
    time = log.events["time"]
    first = [next(at for at in range(log.size) if owners[at] == owners[here] and time[at] == time[here]) for here in range(log.size)]
    assert log.tie.tolist() == first
    assert log.positive.tolist() == [bool(label > 0) for label in log.events["label"]]


def test_without_a_label_every_event_is_a_positive(log: Log) -> None:
    assert "label" not in log.events
    assert log.positive.all()
    assert len(log.positive) == log.size


def test_an_opened_log_is_what_was_prepared(log: Log) -> None:
    again = open_log(str(log.folder))
    assert again.schema == log.schema
    assert again.manifest == log.manifest
    assert (len(again.users), len(again.items)) == (60, 80)
    assert repr(again.users.to_pylist()) == repr(log.users.to_pylist())
    assert repr(again.items.to_pylist()) == repr(log.items.to_pylist())
    assert all(np.array_equal(again.events[name], column, equal_nan=True) for name, column in log.events.items())
    assert {name: values.to_pylist() for name, values in again.values.items()}["action.kind"] == ["buy", "view"]


@pytest.fixture
def copy(log: Log, tmp_path: Path) -> Path:
    return Path(shutil.copytree(log.folder, tmp_path / "log"))


def refused(folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        open_log(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", ["events.arrow", "users.arrow", "items.arrow", "values.arrow", "schema.toml"])
def test_truncated_altered_and_missing_files(copy: Path, name: str) -> None:
    path = copy / name
    size, content = path.stat().st_size, path.read_bytes()
    os.truncate(path, size - 1)
    assert refused(copy) == f"{path}: this file of the penchant log has {size - 1} bytes; {size} were written. It was truncated or altered."
    path.write_bytes(content[: size // 2] + bytes([content[size // 2] ^ 1]) + content[size // 2 + 1 :])
    assert refused(copy) == f"{path}: this file of the penchant log is not what was written: its checksum differs."
    path.unlink()
    assert refused(copy) == f"{path}: this file of the penchant log is missing."


def test_foreign_folders(copy: Path, tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path}: this is not a penchant log: it has no manifest.json."
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"kind": "penchant bundle"}))
    assert refused(copy) == f"{copy}: this is a penchant bundle; a penchant log was wanted."
    (copy / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    assert refused(copy) == f"{copy}: this penchant log has version 99; this penchant reads version 2."


def test_tables_that_are_not_one_batch(copy: Path) -> None:
    def signed(content: bytes) -> str:
        (copy / "manifest.json").unlink()
        (copy / "events.arrow").write_bytes(content)
        write_manifest(copy, {"kind": "penchant log", "version": 2})
        return refused(copy)

    said = signed(b"not an Arrow file, but long enough to look for one")
    assert said.startswith(f"{copy / 'events.arrow'}: cannot be read as an Arrow file (")
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_pydict({"item": [1]})
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    assert signed(sink.getvalue().to_pybytes()) == f"{copy / 'events.arrow'}: holds 2 record batches; one was wanted."
