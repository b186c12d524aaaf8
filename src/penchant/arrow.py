"""Tables in Arrow IPC files: one uncompressed record batch each, so that a column is a view of the mapped file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from penchant.errors import ArtefactError


def map_batch(path: Path) -> pa.RecordBatch:
    """The one record batch of an Arrow IPC file, memory-mapped. Raises ArtefactError."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1:
            raise ArtefactError(f"{path}: holds {reader.num_record_batches} record batches; one was wanted.")
        return reader.get_batch(0)
    except (pa.ArrowInvalid, OSError) as fault:
        raise ArtefactError(f"{path}: cannot be read as an Arrow file ({fault}).") from None


def write_batch(path: Path, columns: Mapping[str, Any]) -> None:
    """Columns as one uncompressed record batch in an Arrow IPC file. Buffers are written as they lie, with no copy in memory."""
    arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
