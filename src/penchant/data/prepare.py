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
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from penchant import files
from penchant.arrow import write_batch, write_texts
from penchant.config import dump
from penchant.data import read
from penchant.data.log import KIND, PARTS, VERSION, Log, open_log
from penchant.data.read import BadRows, Reading, Rows, Skipped, literal, quoted
from penchant.encoding import begun, words_of
from penchant.errors import ConfigError, DataError, DiskError
from penchant.schema import FALSE, TRUE, Field, Items, Join, Label, Schema, Sessions, Users, read_schema

Connection = duckdb.DuckDBPyConnection

OF_EVENTS = ("action", "context", "shown")  # groups of fields that stand in the events' rows
PART = 1 << 20  # events looked through at a time
SLICE = 1 << 24  # bytes written at a time


def prepare(
    source: Path | str,
    out: Path | str,
    schema: Schema | None = None,
    *,
    memory: str = "1GB",
    threads: int | None = None,
    bad_rows: BadRows = "refuse",
) -> Log:
    """The Log of the raw files in `source`, written to the new folder `out`.

    schema: what the columns mean; by default `source`/schema.toml.
    memory: what duckdb may use for sorting and joining, such as "500MB"; beyond it spills beside `out`.
    bad_rows: "skip" leaves out rows that cannot be used; `Log.manifest["skipped"]` counts them by reason and shows the first.
    Raises SchemaError, DataError, ConfigError (memory), ExistsError, DiskError; nothing half-written stays behind.
    """
    source, out = Path(source), Path(out)
    schema = schema or read_schema(source / "schema.toml")
    if not re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]i?B|B)", memory):
        raise ConfigError(f"memory is {memory!r}; a size such as '500MB' or '2GB' was wanted.")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; at least 1 was wanted.")
    with files.whole(out, what="Log") as draft, _spill(out, draft.parent) as spill:
        try:
            with duckdb.connect(str(spill / "work.duckdb")) as connection:
                _limit(connection, spill, memory, threads)
                reading = Reading(bad_rows=bad_rows, spill=spill)
                facts = _write(connection, schema, source, draft, spill, reading)
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
    connection.execute("SET enable_progress_bar = false")  # which duckdb writes to stdout
    connection.execute(f"SET memory_limit = {literal(memory)}")
    connection.execute(f"SET temp_directory = {literal(str(spill))}")
    if threads:
        connection.execute(f"SET threads = {threads}")


def _write(connection: Connection, schema: Schema, source: Path, draft: Path, spill: Path, reading: Reading) -> dict[str, Any]:
    """Writes every Arrow file of the Log; returns its counts."""
    events, unmatched = _read_events(connection, schema, source, reading)
    users = _read_side(connection, "users", schema.users, source, reading)
    items = _read_side(connection, "items", schema.items, source, reading)
    values = _number(connection, schema, items is not None)
    count, repeated = _write_events(connection, schema, draft, spill)
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
        "repeated_events": repeated,
        **unmatched,
        "users_without_profile": _absent(user_columns["id"], users) if users is not None else None,
        "profiles_without_events": _absent(users["id"], user_rows) if users is not None else None,
        "items_without_attributes": _absent(item_ids, items) if items is not None else None,
        "items_with_values_cut": _cut(items, schema.items.fields) if items is not None and schema.items else None,
        "rows_skipped": sum(one.rows for one in reading.skipped),
        "skipped": reading.as_dicts(),
    }


def _read_events(connection: Connection, schema: Schema, source: Path, reading: Reading) -> tuple[int, dict[str, int]]:
    """The duckdb table `events` of checked rows; how many rows the files have, and how many found nothing to join."""
    events = schema.events
    fields = {f"{group}.{name}": field for group, name, field in schema.fields() if group in OF_EVENTS}
    wanted = {"user": events.user, "item": events.item}
    wanted |= {} if events.time.unit == "rows" else {"time": events.time.column}
    wanted |= {"label": events.label.column} if events.label else {}
    wanted |= {"weight": events.weight} if events.weight else {}
    wanted |= {"split": events.split} if events.split else {}
    wanted |= {} if events.session.column is None else {"session": events.session.column}
    wanted |= {"request": events.impressions.request} if events.impressions and events.impressions.request else {}
    wanted |= {name: read.text_of(field, name.split(".", 1)[1]) for name, field in fields.items()}
    joined = {here: (join, column) for here, join, column in read.names_of_joins(wanted, events.joins)}
    own = {here: column for here, column in wanted.items() if here not in joined}
    own |= {f"join.{name}": join.on for name, join in events.joins.items()}
    connection.execute(f"SET TimeZone = {literal(events.zone)}")  # of times that name none
    derived = {} if "time" in joined else {"instant": read.instant(events.time)}
    rows = read.load(connection, "events", events, source, own, reading, "events", derived)
    unmatched = {}
    for name, join in events.joins.items():
        mine = {here: column for here, (of, column) in joined.items() if of == name}
        unmatched[f"events_without_{name}"] = _join(connection, name, join, source, mine, reading)
    if "time" in joined:
        _remake(connection, f"SELECT *, {read.instant(events.time)} AS instant FROM events")
    rows = replace(rows, columns=own | wanted)
    numbers = [name for name, field in fields.items() if field.kind == "number"]
    label = events.label
    read.need(rows, ["user", "item", *(["label"] if label else []), *(["request"] if "request" in wanted else [])])
    read.need_times(rows, events.time)
    read.need_numbers(rows, [*numbers, *(["label"] if label and not label.one_of else [])])
    if label and label.range:
        least, most = label.range
        read.refuse(rows, "label", f"label::DOUBLE NOT BETWEEN {least!r} AND {most!r}", f"lies outside label.range {[least, most]}")
    if events.weight:
        read.need(rows, ["weight"])
        read.need_numbers(rows, ["weight"])
        read.refuse(rows, "weight", "weight::FLOAT < 0", "is negative")
    if events.split:
        read.need_one_of(rows, "split", PARTS)
    if events.session.begins is not None:
        known = ", ".join(map(literal, ("", *TRUE, *FALSE)))
        read.refuse(rows, "session", f"lower(trim(session)) NOT IN ({known})", f"is none of {', '.join(TRUE + FALSE)}, and not empty,")
    if label:
        _refuse_no_positives(rows, label)
    if events.impressions:
        unmatched["events_later_than_their_request"] = _gather_requests(rows, schema)
    if events.duplicates == "drop":
        _drop_duplicates(rows, schema)
    return rows.count, unmatched


def _join(connection: Connection, name: str, join: Join, source: Path, columns: Mapping[str, str], reading: Reading) -> int:
    """Puts `columns` of a joined table beside the events; returns how many events have no row in it."""
    key = join.key or join.on
    rows = read.load(connection, f"join.{name}", join, source, {"id": key, **columns}, reading, f"join {name!r}")
    read.need(rows, ["id"])
    _refuse_duplicates(rows, name)
    table, on = quoted(f"join.{name}"), quoted(f"join.{name}")
    chosen = "".join(f", j.{quoted(here)}" for here in columns)
    ((unmatched,),) = connection.execute(f"SELECT count(*) FROM events e ANTI JOIN {table} j ON j.id = e.{on}").fetchall()
    _remake(connection, f"SELECT e.* EXCLUDE ({on}){chosen} FROM events e LEFT JOIN {table} j ON j.id = e.{on}")
    connection.execute(f"DROP TABLE {table}")
    return int(unmatched)


def _remake(connection: Connection, select: str) -> None:
    """The table `events` anew, as `select` has it. Quicker than to alter it, and than to update it row by row."""
    connection.execute(f"CREATE TABLE fresh AS {select}")
    connection.execute("DROP TABLE events")
    connection.execute("ALTER TABLE fresh RENAME TO events")


def _refuse_no_positives(rows: Rows, label: Label) -> None:
    ((found,),) = rows.connection.execute(f"SELECT count(*) FROM events e WHERE {_is_positive(label)}").fetchall()
    if found:
        return
    top = rows.connection.execute("SELECT label, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5").fetchall()
    has = ", ".join(f"{read.shortened(value)} {times:,} times" for value, times in top)
    wish = f"at least {label.at_least:g}" if label.at_least is not None else f"one of {', '.join(map(repr, label.one_of))}"
    raise DataError(f"{rows.source.name}: no event is a positive: column {label.column!r} is nowhere {wish}. It has {has}.")


def _is_positive(label: Label) -> str:
    """As SQL, of the table `e`."""
    if label.one_of:
        return f"trim(e.label) IN ({', '.join(literal(value) for value in label.one_of)})"
    return f"e.label::DOUBLE >= {label.at_least!r}"


def _gather_requests(rows: Rows, schema: Schema) -> int:
    """The columns `first`, the earliest row of a request, and `instant`, its moment: the earliest time of its rows.

    Returns how many rows had a later time than that: a past that they stand in knows them too early by as much.
    """
    connection = rows.connection
    key = "request" if schema.events.impressions and schema.events.impressions.request else '"user", instant'
    if key == "request":
        several = 'request IN (SELECT request FROM events GROUP BY request HAVING count(DISTINCT "user") > 1)'
        read.refuse(rows, "request", several, "names a request of several people")
    for name in (f"context.{name}" for name in schema.events.context):
        cell = quoted(name)
        differs = f"min({cell}) IS DISTINCT FROM max({cell}) OR count({cell}) NOT IN (0, count(*))"
        several = f"({key}) IN (SELECT ({key}) FROM events GROUP BY {key} HAVING {differs})"
        read.refuse(
            rows, name, several, "has several values in one request, though context is of its moment (facts of an item go to `shown`)"
        )
    _remake(
        connection,
        f"""SELECT e.* EXCLUDE (instant), min(instant) OVER same AS instant, min(source) OVER same AS first,
                   instant > min(instant) OVER same AS later
            FROM events e WINDOW same AS (PARTITION BY {key})""",
    )
    ((later,),) = connection.execute("SELECT count(*) FILTER (WHERE later) FROM events").fetchall()
    return int(later)


def _drop_duplicates(rows: Rows, schema: Schema) -> None:
    same = '"user", item, ' + ("first" if schema.events.impressions else "instant") + (", label" if schema.events.label else "")
    ((before,),) = rows.connection.execute("SELECT count(*) FROM events").fetchall()
    _remake(rows.connection, f"SELECT * FROM events QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY source) = 1")
    ((after,),) = rows.connection.execute("SELECT count(*) FROM events").fetchall()
    if before > after:
        why = "repeats an earlier row (events.duplicates = 'drop')"
        rows.reading.skipped.append(Skipped(file=rows.source.name, why=why, rows=before - after, examples=""))


def _read_side(connection: Connection, name: str, table: Users | Items | None, source: Path, reading: Reading) -> pa.Table | None:
    """The rows of a users' or items' table, `id` first, numbers as such; None where the schema has no such table."""
    if table is None:
        return None
    columns = {"id": table.key} | ({"title": table.title} if isinstance(table, Items) and table.title else {})
    columns |= {f".{field}": read.text_of(declared, field) for field, declared in table.fields.items()}
    rows = read.load(connection, name, table, source, columns, reading, name)
    kinds = {f".{field}": declared.kind for field, declared in table.fields.items()}
    read.need(rows, ["id"])
    read.need_numbers(rows, [here for here, kind in kinds.items() if kind == "number"])
    _refuse_duplicates(rows, name[:-1])
    for here in (here for here, kind in kinds.items() if kind == "vector"):
        _to_vectors(rows, here)
    cast = {"number": "::FLOAT"}
    chosen = ", ".join(f"{quoted(here)}{cast.get(kinds.get(here, ''), '')} AS {quoted(here)}" for here in columns)
    return connection.sql(f"SELECT {chosen} FROM {quoted(name)}").to_arrow_table()


def _to_vectors(rows: Rows, here: str) -> None:
    """A column of texts such as "0.5 1 -2" or "[0.5, 1, -2]" as lists of floats; an empty one is absent."""
    cell, table = quoted(here), quoted(rows.name)
    words = f"string_split(trim(regexp_replace({cell}, '[\\[\\](){{}},;|\\s]+', ' ', 'g')), ' ')"
    rows.connection.execute(f"ALTER TABLE {table} ADD COLUMN vector FLOAT[]")
    rows.connection.execute(f"UPDATE {table} SET vector = TRY_CAST({words} AS FLOAT[]) WHERE trim({cell}, ' []') != ''")
    finite = "list_bool_and(list_transform(vector, lambda x: coalesce(isfinite(x), false)))"
    read.refuse(rows, here, f"trim({cell}, ' []') != '' AND NOT coalesce({finite}, false)", "is no vector of finite numbers")
    widths = rows.connection.execute(
        f"SELECT len(vector), count(*) FROM {table} WHERE vector IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    if not widths:
        raise DataError(f"{rows.source.name}: column {rows.columns[here]!r} has no vector in any row.")
    width = widths[0][0]
    read.refuse(rows, here, f"len(vector) != {width}", f"is no vector of {width} numbers, as most are,")
    rows.connection.execute(f"ALTER TABLE {table} DROP COLUMN {cell}")
    rows.connection.execute(f"ALTER TABLE {table} RENAME COLUMN vector TO {cell}")


def _refuse_duplicates(rows: Rows, noun: str) -> None:
    """No id may stand in a table more than once; where bad rows are skipped, the first of each stays."""
    table, execute = quoted(rows.name), rows.connection.execute
    twice = execute(f"SELECT id, count(*) FROM {table} GROUP BY id HAVING count(*) > 1 ORDER BY id").fetchall()
    if not twice:
        return
    shown = ", ".join(f"{read.shortened(raw)} {times} times" for raw, times in twice[: read.SHOWN])
    stand = "ids stand" if len(twice) > 1 else "id stands"
    gone = sum(times - 1 for _, times in twice)
    message = f"{rows.source.name}: {len(twice):,} {noun} {stand} in it more than once: {shown}."
    ((there,),) = execute(f"SELECT count(*) FROM {table}").fetchall()
    read.refuse_too_many(rows.reading, message, gone, rows.count - there, rows.count)
    execute(f"DELETE FROM {table} WHERE source NOT IN (SELECT min(source) FROM {table} GROUP BY id)")
    rows.reading.skipped.append(Skipped(file=rows.source.name, why=f"{noun} id stands in it already", rows=gone, examples=shown))


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
        if field.kind == "category" and group in OF_EVENTS:
            column = quoted(f"{group}.{name}")
            connection.execute(
                f"""INSERT INTO value_code SELECT {literal(f"{group}.{name}")}, value, row_number() OVER (ORDER BY value)
                    FROM (SELECT DISTINCT {column} AS value FROM events WHERE {column} IS NOT NULL)"""
            )
            rows = connection.execute("SELECT value FROM value_code WHERE field = ? ORDER BY code", [f"{group}.{name}"]).fetchall()
            values[f"{group}.{name}"] = [value for (value,) in rows]
    return values


def _write_events(connection: Connection, schema: Schema, draft: Path, spill: Path) -> tuple[int, int]:
    """events.arrow, sorted by (user, time, source row); returns how many events, and how many of them repeat another.

    Rows of one request stand together, under the time and the first row of the request.
    """
    events = schema.events
    chosen = {"item": "i.code::INTEGER", "time": "e.instant", "source": "e.source::BIGINT"}
    joins, order = "", "u.code, e.instant, e.source"
    if events.impressions:
        chosen["request"], order = "e.first::BIGINT", "u.code, e.instant, e.first, e.source"
    if events.label:
        chosen["label"] = f"({_is_positive(events.label)})::INTEGER::FLOAT"
        if events.label.range:
            least, most = events.label.range
            chosen["value"] = f"((e.label::DOUBLE - {least!r}) / {most - least!r})::FLOAT"
    if events.weight:
        chosen["weight"] = "e.weight::FLOAT"
    if events.split:
        chosen["split"] = f"list_position({[*PARTS]!r}, trim(e.split))::INTEGER - 1"
    if events.session.begins is not None:
        chosen["session"] = f"coalesce(lower(trim(e.session)) IN ({', '.join(map(literal, TRUE))}), false)::BIGINT"
    elif events.session.id is not None:
        connection.execute(
            """CREATE TABLE session_code AS SELECT session, row_number() OVER () AS code
               FROM (SELECT DISTINCT session FROM events WHERE trim(session) != '')"""
        )
        chosen["session"], joins = "coalesce(s.code, 0)::BIGINT", " LEFT JOIN session_code s ON s.session = e.session"
    for place, (group, name, field) in enumerate((g, n, f) for g, n, f in schema.fields() if g in OF_EVENTS):
        whole = f"{group}.{name}"
        if field.kind == "number":
            chosen[whole] = f"coalesce(e.{quoted(whole)}::FLOAT, 'nan'::FLOAT)"
        else:
            chosen[whole] = f"coalesce(v{place}.code, 0)::INTEGER"
            joins += f" LEFT JOIN value_code v{place} ON v{place}.field = {literal(whole)} AND v{place}.value = e.{quoted(whole)}"
    select = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in chosen.items())
    sorted_rows = spill / "sorted.parquet"
    connection.execute(
        f"""COPY (SELECT {select} FROM events e JOIN user_code u ON u.id = e."user" JOIN item_code i ON i.id = e.item {joins}
            ORDER BY {order}) TO {literal(str(sorted_rows))} (FORMAT parquet)"""
    )
    columns = _stream(sorted_rows, spill)
    found = connection.execute("SELECT sum(events) OVER (ORDER BY code) AS e FROM user_code ORDER BY code").fetchnumpy()["e"]
    end = found.astype(np.int64)
    if events.session.column is not None:
        _count_sessions(columns, events.session, end)
    columns.write(draft / "events.arrow")
    return columns.rows, _repeated(columns, end)


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Columns in memory-mapped files. Their pages count as this process's memory until they are released."""

    rows: int
    types: Mapping[str, pa.DataType]
    maps: Mapping[str, mmap.mmap]
    values: Mapping[str, NDArray[Any]]

    def release(self) -> None:
        """Lets go of the pages that were touched; what they hold is in the files."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for one in self.maps.values():
                one.madvise(mmap.MADV_DONTNEED)

    def write(self, path: Path) -> None:
        """One uncompressed record batch in an Arrow IPC file, as `write_batch` writes it."""
        arrays = [pa.Array.from_buffers(kind, self.rows, [None, pa.py_buffer(self.values[name])]) for name, kind in self.types.items()]
        batch = pa.RecordBatch.from_arrays(arrays, names=list(self.types))
        with path.open("wb") as file:
            sink = pa.PythonFile(_Slices(file, self.release), "w")
            with pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)


@dataclass(frozen=True)
class _Slices:
    """A file that is written in slices, something being done after each."""

    file: BinaryIO
    after: Callable[[], None]

    @property
    def closed(self) -> bool:
        return self.file.closed

    def write(self, content: Any) -> int:
        whole = memoryview(content).cast("B")
        for begin in range(0, len(whole), SLICE):
            self.file.write(whole[begin : begin + SLICE])
            if len(whole) > SLICE:
                self.after()
        return len(whole)

    def flush(self) -> None:
        self.file.flush()


def _count_sessions(columns: _Columns, sessions: Sessions, end: NDArray[np.int64]) -> None:
    """What the column `session` says of each event, made the number of sessions that began before or with it, in the whole Log."""
    said, before, count = columns.values["session"], None, 0
    for begin in range(0, columns.rows, PART):  # a part at a time
        part = said[begin : begin + PART]
        new = begun(part, sessions, before)
        first, last = np.searchsorted(end, [begin, begin + len(part)])
        new[end[first:last] - begin] = True  # where the next person's events begin
        before = int(part[-1])
        part[:] = count + np.cumsum(new)
        count = int(part[-1])
        columns.release()


def _repeated(columns: _Columns, end: NDArray[np.int64]) -> int:
    """How many events have the person, item and time of an earlier one. end: where each person's events do."""
    item, time, rows = columns.values["item"], columns.values["time"], columns.rows
    new = np.zeros(rows + 1, dtype=bool)  # whether a moment of a person begins
    for begin in range(1, rows, PART):
        stop = min(begin + PART, rows)
        new[begin:stop] = time[begin:stop] != time[begin - 1 : stop - 1]
        columns.release()
    new[end] = new[0] = new[rows] = True
    found, begin = 0, 0
    while begin < rows:  # a part at a time, cut where a moment begins
        stop = min(begin + PART, rows)
        while not new[stop]:
            ahead = new[stop : stop + PART]
            stop += int(ahead.argmax()) if ahead.any() else len(ahead)
        several = ~(new[begin:stop] & new[begin + 1 : stop + 1])  # of moments with more than one event
        moment, items = np.cumsum(new[begin:stop])[several], item[begin:stop][several].astype(np.int64)
        found += len(items) - (len(np.unique(moment * (int(items.max()) + 1) + items)) if len(items) else 0)
        columns.release()
        begin = stop
    return found


def _stream(path: Path, spill: Path) -> _Columns:
    """The columns of a parquet file, through memory-mapped files: what is in memory does not grow with the rows."""
    file = pq.ParquetFile(path)
    rows = file.metadata.num_rows
    types = {field.name: field.type for field in file.schema_arrow}
    maps = {name: _mapped(spill / f"{place}.column", rows * kind.bit_width // 8) for place, (name, kind) in enumerate(types.items())}
    values = {name: np.frombuffer(maps[name], kind.to_pandas_dtype(), rows) for name, kind in types.items()}
    columns = _Columns(rows=rows, types=types, maps=maps, values=values)
    at = 0
    for batch in file.iter_batches(batch_size=1 << 18):
        for name, column in values.items():
            column[at : at + batch.num_rows] = batch.column(name).to_numpy(zero_copy_only=False)
        at += batch.num_rows
        columns.release()
    return columns


def _mapped(path: Path, size: int) -> mmap.mmap:
    """A new memory-mapped file. Its room is taken first: a disk that fills up under a mapping kills the process."""
    with path.open("w+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return mmap.mmap(file.fileno(), size)


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
    if field.kind == "vector":
        return _fixed(column), None
    if field.kind == "category":
        values = pc.sort_indices(found := pc.unique(column.drop_null()))
        ordered = found.take(values)
        places = pc.fill_null(pc.add(pc.index_in(column, value_set=ordered, skip_nulls=True), 1), 0)
        return places.cast(pa.int32()), ordered.to_pylist()
    listed = [words_of(cell, field)[: field.most] for cell in pc.fill_null(column, "").to_pylist()]
    ordered_values = sorted({word for words in listed for word in words})
    place = {word: at + 1 for at, word in enumerate(ordered_values)}
    return pa.array([[place[word] for word in words] for words in listed], pa.list_(pa.int32())), ordered_values


def _fixed(column: pa.ListArray) -> pa.FixedSizeListArray:
    """Lists of one length, as such; NaN throughout where there is none."""
    width = int(pc.max(pc.list_value_length(column)).as_py())
    values = np.full((len(column), width), np.nan, dtype=np.float32)
    values[column.is_valid().to_numpy(zero_copy_only=False)] = column.drop_null().flatten().to_numpy().reshape(-1, width)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)


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
