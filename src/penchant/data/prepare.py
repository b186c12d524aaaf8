"""A raw log and its schema into a Log: read, check, sort under a memory limit, write whole or not at all.

    events.csv ─ read, check ─ code by text order ─ sort by (user, time, row) ─ parquet ─ stream ─▶ events.arrow
    users.csv  ─ read, check ─────────────────────────────────────────────────────────────────────▶ users.arrow
    items.csv  ─ read, check ─────────────────────────────────────────────────────────────────────▶ items.arrow

People, items and category values are numbered by the order of their text, so that the same input gives the same bytes.
duckdb sorts and joins, and spills to disk beyond its limit; columns go through memory-mapped files, so that what is
kept in memory does not grow with the log.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penchant import files
from penchant.arrow import write_batch, write_texts
from penchant.config import dump
from penchant.data import read
from penchant.data.log import KIND, VERSION, Log, open_log
from penchant.data.read import literal, quoted
from penchant.encoding import words_of
from penchant.errors import ConfigError, DataError, DiskError
from penchant.schema import Field, Schema, Table, read_schema

Connection = duckdb.DuckDBPyConnection


def prepare(source: Path | str, out: Path | str, schema: Schema | None = None, *, memory: str = "1GB", threads: int | None = None) -> Log:
    """The Log of the raw files in `source`, written to the new folder `out`.

    schema: what the columns mean; by default `source`/schema.toml.
    memory: what duckdb may use for sorting and joining, such as "500MB"; beyond it spills beside `out`.
    Raises SchemaError, DataError, ConfigError (memory), ExistsError, DiskError; nothing half-written stays behind.
    """
    source, out = Path(source), Path(out)
    schema = schema or read_schema(source / "schema.toml")
    if not re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]i?B|B)", memory):
        raise ConfigError(f"memory is {memory!r}; a size such as '500MB' or '2GB' was wanted.")
    with files.whole(out, what="Log") as draft, _spill(out, draft.parent) as spill:
        try:
            with duckdb.connect(str(spill / "work.duckdb")) as connection:
                _limit(connection, spill, memory, threads)
                facts = _write(connection, schema, source, draft, spill)
        except duckdb.Error as fault:
            raise _refusal(fault, out, memory) from fault
        (draft / "schema.toml").write_text(dump(schema), encoding="utf-8")
        files.write_manifest(draft, {"kind": KIND, "version": VERSION, "name": schema.name, **facts})
    return open_log(out)


@contextmanager
def _spill(out: Path, parent: Path) -> Iterator[Path]:
    """A folder for what does not fit into memory; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".spill", dir=parent) as spill:
        yield Path(spill)


def _refusal(fault: duckdb.Error, out: Path, memory: str) -> Exception:
    """What a fault of duckdb's means to a user; itself where it is no fault of theirs."""
    text = str(fault)
    for number in files.NO_ROOM:
        if os.strerror(number) in text:  # in exceptions of several classes
            return OSError(number, text)
    if isinstance(fault, duckdb.OutOfMemoryException) and "max_temp_directory_size" in text:
        return OSError(errno.ENOSPC, text)
    if isinstance(fault, duckdb.OutOfMemoryException):
        return ConfigError(f"memory {memory!r} is too little to sort this log; allow more, about 1GB for 100 million events.")
    if isinstance(fault, duckdb.IOException):
        return DiskError(f"{out}: the Log could not be written ({text.splitlines()[0]}); nothing half-written was kept.")
    return fault


def _limit(connection: Connection, spill: Path, memory: str, threads: int | None) -> None:
    connection.execute(f"SET memory_limit = {literal(memory)}")
    connection.execute(f"SET temp_directory = {literal(str(spill))}")
    if threads:
        connection.execute(f"SET threads = {threads}")


def _write(connection: Connection, schema: Schema, source: Path, draft: Path, spill: Path) -> dict[str, Any]:
    """Writes every Arrow file of the Log; returns its counts."""
    events = _read_events(connection, schema, source)
    users = _read_side(connection, "users", schema.users, source)
    items = _read_side(connection, "items", schema.items, source)
    values = _number(connection, schema, items is not None)
    count = _write_events(connection, schema, draft, spill)
    user_rows = connection.sql('SELECT id, sum(events) OVER (ORDER BY code)::BIGINT AS "end" FROM user_code ORDER BY code').to_arrow_table()
    item_rows = connection.sql("SELECT id FROM item_code ORDER BY code").to_arrow_table()
    user_columns = {"id": user_rows["id"].combine_chunks(), "end": user_rows["end"].combine_chunks()}
    user_columns |= _side_columns("user", schema, schema.users, users, user_rows["id"].combine_chunks(), values)
    item_ids = item_rows["id"].combine_chunks()
    item_columns = {"id": item_ids} | _side_columns("item", schema, schema.items, items, item_ids, values)
    write_batch(draft / "users.arrow", user_columns)
    write_batch(draft / "items.arrow", item_columns)
    write_texts(draft / "values.arrow", values)
    return {
        "rows": events,
        "events": count,
        "users": len(user_rows),
        "items": len(item_ids),
        "users_without_profile": _absent(user_columns["id"], users) if users is not None else None,
        "profiles_without_events": _absent(users["id"], user_rows) if users is not None else None,
        "items_without_attributes": _absent(item_ids, items) if items is not None else None,
        "items_with_values_cut": _cut(items, schema.items.fields) if items is not None and schema.items else None,
    }


def _read_events(connection: Connection, schema: Schema, source: Path) -> int:
    """The duckdb table `events` of checked rows; returns how many there are."""
    declared = schema.events
    fields = {f"{group}.{name}": field for group, name, field in schema.fields() if group in ("action", "context")}
    columns = {"user": declared.user, "item": declared.item, "time": declared.time.column}
    columns |= {"label": declared.label.column} if declared.label else {}
    columns |= {name: read.text_of(field, name.split(".", 1)[1]) for name, field in fields.items()}
    rows = read.load(connection, "events", declared, source, columns)
    numbers = [name for name, field in fields.items() if field.kind == "number"]
    read.need(rows, ["user", "item", *(["label"] if declared.label else [])])
    read.need_times(rows, declared.time)
    read.need_numbers(rows, [*numbers, *(["label"] if declared.label else [])])
    return rows.count


def _read_side(connection: Connection, name: str, table: Any, source: Path) -> pa.Table | None:
    """The rows of a users' or items' table, `id` first, numbers as such; None where the schema has no such table."""
    if table is None:
        return None
    columns = {"id": table.key} | ({"title": table.title} if getattr(table, "title", None) else {})
    columns |= {f".{field}": read.text_of(declared, field) for field, declared in table.fields.items()}
    rows = read.load(connection, name, table, source, columns)
    numbers = [f".{field}" for field, declared in table.fields.items() if declared.kind == "number"]
    read.need(rows, ["id"])
    read.need_numbers(rows, numbers)
    _refuse_duplicates(connection, name, table)
    chosen = ", ".join(quoted(here) + ("::FLOAT AS " + quoted(here) if here in numbers else "") for here in columns)
    return connection.sql(f"SELECT {chosen} FROM {name}").to_arrow_table()


def _refuse_duplicates(connection: Connection, name: str, table: Table) -> None:
    twice = connection.execute(f"SELECT id, count(*) FROM {name} GROUP BY id HAVING count(*) > 1 ORDER BY id").fetchall()
    if twice:
        shown = ", ".join(f"{raw!r} {times} times" for raw, times in twice[: read.SHOWN])
        stand = "ids stand" if len(twice) > 1 else "id stands"
        raise DataError(f"{table.file}: {len(twice):,} {name[:-1]} {stand} in it more than once: {shown}.")


def _number(connection: Connection, schema: Schema, with_items: bool) -> dict[str, list[str]]:
    """The tables `user_code`, `item_code` and `value_code`: places by the order of the text; returns the values of event fields."""
    everything = "SELECT item AS id FROM events" + (" UNION SELECT id FROM items" if with_items else "")
    connection.execute("""CREATE TABLE user_code AS SELECT id, events, row_number() OVER (ORDER BY id) - 1 AS code
                          FROM (SELECT "user" AS id, count(*) AS events FROM events GROUP BY 1)""")
    connection.execute(
        f"CREATE TABLE item_code AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS code FROM (SELECT DISTINCT id FROM ({everything}))"
    )
    connection.execute("CREATE TABLE value_code (field VARCHAR, value VARCHAR, code INTEGER)")
    values: dict[str, list[str]] = {}
    for group, name, field in schema.fields():
        if field.kind == "category" and group in ("action", "context"):
            column = quoted(f"{group}.{name}")
            connection.execute(
                f"""INSERT INTO value_code SELECT {literal(f"{group}.{name}")}, value, row_number() OVER (ORDER BY value)
                    FROM (SELECT DISTINCT {column} AS value FROM events WHERE {column} IS NOT NULL)"""
            )
            rows = connection.execute("SELECT value FROM value_code WHERE field = ? ORDER BY code", [f"{group}.{name}"]).fetchall()
            values[f"{group}.{name}"] = [value for (value,) in rows]
    return values


def _write_events(connection: Connection, schema: Schema, draft: Path, spill: Path) -> int:
    """events.arrow, sorted by (user, time, source row); returns how many events."""
    scale = {"s": "* 1000", "ms": "", "us": "// 1000"}[schema.events.time.unit]
    chosen = {"item": "i.code::INTEGER", "time": f"e.time::BIGINT {scale}", "source": "e.source::BIGINT"}
    joins = ""
    if schema.events.label:
        chosen["label"] = f"(e.label::DOUBLE >= {schema.events.label.at_least or 0})::INTEGER::FLOAT"
    for place, (group, name, field) in enumerate((g, n, f) for g, n, f in schema.fields() if g in ("action", "context")):
        whole = f"{group}.{name}"
        if field.kind == "number":
            chosen[whole] = f"coalesce(e.{quoted(whole)}::FLOAT, 'nan'::FLOAT)"
        else:
            chosen[whole] = f"coalesce(v{place}.code, 0)::INTEGER"
            joins += f" LEFT JOIN value_code v{place} ON v{place}.field = {literal(whole)} AND v{place}.value = e.{quoted(whole)}"
    select = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in chosen.items())
    order = spill / "sorted.parquet"
    connection.execute(
        f"""COPY (SELECT {select} FROM events e JOIN user_code u ON u.id = e."user" JOIN item_code i ON i.id = e.item {joins}
            ORDER BY u.code, e.time::BIGINT, 3) TO {literal(str(order))} (FORMAT parquet)"""
    )
    columns = _stream(order, spill)
    write_batch(draft / "events.arrow", columns)
    return len(columns["item"])


def _stream(path: Path, spill: Path) -> dict[str, pa.Array]:
    """The columns of a parquet file, through memory-mapped files: what is in memory does not grow with the rows."""
    file = pq.ParquetFile(path)
    rows = file.metadata.num_rows
    schema = file.schema_arrow
    maps = {f.name: _mapped(spill / f"{place}.column", f.type.to_pandas_dtype(), rows) for place, f in enumerate(schema)}
    at = 0
    for batch in file.iter_batches(batch_size=1 << 18):
        for name, column in maps.items():
            column[at : at + batch.num_rows] = batch.column(name).to_numpy(zero_copy_only=False)
        at += batch.num_rows
    return {f.name: pa.Array.from_buffers(f.type, rows, [None, pa.py_buffer(maps[f.name])]) for f in schema}


def _mapped(path: Path, kind: Any, rows: int) -> Any:
    """A new memory-mapped column. Its room is taken first: a disk that fills up under a mapping kills the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, rows * np.dtype(kind).itemsize)
        else:
            file.truncate(rows * np.dtype(kind).itemsize)
    return np.memmap(path, kind, "r+", shape=(rows,))


def _side_columns(
    group: str, schema: Schema, table: Any, rows: pa.Table | None, ids: pa.Array, values: dict[str, list[str]]
) -> dict[str, pa.Array]:
    """The columns of people or items `ids`, in their order; adds what it finds to `values`."""
    if table is None or rows is None:
        return {}
    place = pc.index_in(ids, value_set=rows["id"].combine_chunks())
    aligned = rows.take(place)
    columns: dict[str, pa.Array] = {"title": aligned["title"].combine_chunks()} if "title" in rows.column_names else {}
    for name, field in table.fields.items():
        column = aligned[f".{name}"].combine_chunks()
        columns[f"{group}.{name}"], found = _encode(column, field)
        if found is not None:
            values[f"{group}.{name}"] = found
    return columns


def _encode(column: pa.Array, field: Field) -> tuple[pa.Array, list[str] | None]:
    """A column of an items' or users' table as float32 (NaN absent), as places in its sorted values (0 absent), or as lists of places."""
    if field.kind == "number":
        return pc.fill_null(column, pa.scalar(float("nan"), pa.float32())), None
    if field.kind == "category":
        values = pc.sort_indices(found := pc.unique(column.drop_null()))
        ordered = found.take(values)
        places = pc.fill_null(pc.add(pc.index_in(column, value_set=ordered, skip_nulls=True), 1), 0)
        return places.cast(pa.int32()), ordered.to_pylist()
    listed = [words_of(cell, field)[: field.most] for cell in pc.fill_null(column, "").to_pylist()]
    ordered_values = sorted({word for words in listed for word in words})
    place = {word: at + 1 for at, word in enumerate(ordered_values)}
    return pa.array([[place[word] for word in words] for words in listed], pa.list_(pa.int32())), ordered_values


def _cut(rows: pa.Table, fields: Mapping[str, Field]) -> int:
    """How many items have more values of an attribute than its field keeps."""
    cut = np.zeros(len(rows), dtype=bool)
    for name, field in fields.items():
        if field.kind == "categories":
            cut |= np.array([len(words_of(cell or "", field)) > field.most for cell in rows[f".{name}"].to_pylist()])
    return int(cut.sum())


def _absent(ids: pa.Array | pa.ChunkedArray, rows: pa.Table) -> int:
    """How many of `ids` have no row."""
    return int(pc.sum(pc.is_null(pc.index_in(ids, value_set=rows["id"].combine_chunks()))).as_py() or 0)
