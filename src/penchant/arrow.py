"""Tables in Arrow IPC files: one uncompressed record batch each, so that a column is a view of the mapped file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def write_texts(path: Path, texts: Mapping[str, Sequence[str] | pa.Array]) -> None:
    """Lists of text by name, a row each."""
    listed = [text.to_pylist() if isinstance(text, pa.Array) else list(text) for text in texts.values()]
    write_batch(path, {"name": pa.array(list(texts), pa.string()), "values": pa.array(listed, pa.list_(pa.string()))})


def read_texts(path: Path) -> dict[str, pa.StringArray]:
    """What `write_texts` wrote. Raises ArtefactError."""
    stored = map_batch(path)
    return {name: listed.values for name, listed in zip(stored.column("name").to_pylist(), stored.column("values"), strict=True)}
