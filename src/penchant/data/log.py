"""The Log: what people did, sorted by person and time, in memory-mapped columns.

    events.arrow   one row an event: item, time, source row, fields, and where  sorted by (user, time, source row)
                   the schema has them label, value (of the label's column, 0
                   to 1), weight, split (place in PARTS), request (source row
                   of its first event: those of one request stand together),
                   session (a count that grows where one begins, by a column:
                   what is left out of a past hides no beginning)
    users.arrow    one row a person: id, where their events end, profile       sorted by id
    items.arrow    one row an item: id, title, attributes                      sorted by id
    values.arrow   one row a categorical field: the text of its values, sorted
    schema.toml    manifest.json

A Log holds facts, not ids of a model: it knows no split and no vocabulary. Categories are stored as places in
`values`, 0 being absent; numbers as float32, NaN being absent. A past is a range of positions; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.arrow import map_batch, read_texts
from penchant.encoding import Ints
from penchant.files import read_manifest
from penchant.schema import Schema, read_schema

KIND, VERSION = "penchant log", 2
PARTS = ("train", "valid", "test")  # values of a split column, in the Log as 0, 1, 2
FILES = ("events.arrow", "users.arrow", "items.arrow", "values.arrow", "schema.toml")


@dataclass(frozen=True, eq=False)
class Log:
    """N events of U people and I items; columns are views of memory-mapped files."""

    folder: Path
    schema: Schema
    manifest: Mapping[str, Any]
    events: Mapping[str, NDArray[Any]]  # item int32, time int64 (ms), source int64, ..., action.*
    users: pa.RecordBatch
    items: pa.RecordBatch
    values: Mapping[str, pa.StringArray]  # the text of categories 1, 2, ... by field: "action.rating"

    @property
    def size(self) -> int:
        """N, how many events."""
        return len(self.events["item"])

    @cached_property
    def version(self) -> str:
        """The first digits of a checksum of all its files: two Logs of one version hold the same."""
        digests = sorted((name, facts["sha256"]) for name, facts in self.manifest["files"].items())
        return sha256(repr(digests).encode()).hexdigest()[:8]

    @cached_property
    def start(self) -> Ints:
        """int64 [U + 1] where each person's events begin."""
        return np.concatenate([[0], self.users.column("end").to_numpy()]).astype(np.int64)

    @cached_property
    def tie(self) -> Ints:
        """int64 [N] the first position of the same person and time as each event: where the strict past ends."""
        time = self.events["time"]
        new = np.ones(self.size, dtype=bool)
        new[1:] = time[1:] != time[:-1]
        new[self.start[:-1][self.start[:-1] < self.size]] = True
        return np.maximum.accumulate(np.where(new, np.arange(self.size), 0))

    @cached_property
    def asked(self) -> Ints | None:
        """int64 [N] the first position of each event's request; None where every event is a request of its own."""
        request = self.events.get("request")
        if request is None:
            return None
        new = np.ones(self.size, dtype=bool)
        new[1:] = request[1:] != request[:-1]
        return np.maximum.accumulate(np.where(new, np.arange(self.size), 0))

    def begin(self, position: Ints) -> Ints:
        """int64, the first position of the requests of these events: their past ends before it."""
        return position if self.asked is None else self.asked[position]

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """bool [N] which events are positives."""
        label = self.events.get("label")
        return np.ones(self.size, dtype=bool) if label is None else label > 0

    def user_of(self, position: Ints) -> Ints:
        """int64, whose each event is."""
        return np.searchsorted(self.start, position, side="right").astype(np.int64) - 1


def open_log(folder: Path | str) -> Log:
    """The Log in a folder, every file of it checked. Raises ArtefactError."""
    folder = Path(folder)
    manifest = read_manifest(folder, kind=KIND, version=VERSION, files=FILES)
    schema = read_schema(folder / "schema.toml")
    events = map_batch(folder / "events.arrow")
    return Log(
        folder=folder,
        schema=schema,
        manifest=manifest,
        events={name: events.column(name).to_numpy(zero_copy_only=True) for name in events.schema.names},
        users=map_batch(folder / "users.arrow"),
        items=map_batch(folder / "items.arrow"),
        values=read_texts(folder / "values.arrow"),
    )
