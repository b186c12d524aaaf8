"""Raw tables into duckdb, checked.

Everything is read as text, with the row it stands in, so that a value that cannot be used is named by file and line.
Nothing is guessed and nothing is dropped unasked: what cannot be read is an error that counts all such rows and shows
the first; where bad rows are to be skipped, the same counts and examples are kept, and more than half is an error still.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from penchant.data.sources import Source, columns, copied, find, lines
from penchant.errors import DataError, SchemaError, nearest
from penchant.files import NO_ROOM
from penchant.schema import Field, Table, Time

SHOWN = 3  # bad rows that an error shows
LONGEST = 80  # characters of a value that it shows
HELD = 10_000  # characters of a bad line that duckdb keeps
MOST_SKIPPED = 0.5  # share of a table's rows: beyond it the schema is wrong, not the rows
UNITS = {"s": "* 1000", "ms": "", "us": "/ 1000"}  # to milliseconds
WHOLE = {"s": "* 1000", "ms": "", "us": "// 1000"}
MOST_WHOLE = "8e15"  # whole numbers up to here are told from others as floats; the decimals that serve the rest are slow
ENDLESS = "1e18"  # from here on a number is no time in any unit
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)

_PACKING = re.compile("gzip|decompress", re.IGNORECASE)
_KIND = re.compile(r"^(\w+ )+Error: ")

BadRows = Literal["refuse", "skip"]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Bad rows that were left out, all for one reason."""

    file: str
    why: str  # "column 'time' is empty"
    rows: int
    examples: str  # "line 4: None, line 9: ''"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is done with bad rows, and what was left out so far."""

    bad_rows: BadRows
    spill: Path
    skipped: list[Skipped] = field(default_factory=list)

    def as_dicts(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in self.skipped]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a table as a duckdb table of text columns and `source`, the row (from 0) of each among all of its files."""

    connection: duckdb.DuckDBPyConnection
    name: str  # of the duckdb table
    source: Source
    columns: Mapping[str, str]  # {name here: column in the files}
    count: int  # rows in the files, those that were left out included
    first: tuple[int, ...]  # the `source` that each file begins at
    without: Sequence[frozenset[int]]  # the lines of each file that are in no row
    reading: Reading


def load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: Table,
    folder: Path,
    wanted: Mapping[str, str],
    reading: Reading,
    what: str,
    derived: Mapping[str, str] | None = None,
) -> Rows:
    """The rows of a table's files in `folder`, as a duckdb table `name` of the columns `wanted` {name here: column in the files}.

    what: how messages call it. derived: further columns, as SQL of those wanted and of `source`.
    Raises SchemaError for a missing file or column, DataError for rows that do not have the files' columns.
    """
    source = find(table, folder, what)
    there = columns(source)
    for column in wanted.values():
        if column not in there:
            raise SchemaError(f"{source.name}: there is no column {column!r}. It has {', '.join(there)}.{nearest(column, there)}")
        if there.count(column) > 1:
            raise SchemaError(f"{source.name}: there are {there.count(column)} columns {column!r}; one was wanted.")
    try:
        first, left_out, without = _create(connection, name, source, wanted, there, reading, derived or {})
    except duckdb.Error as fault:
        source.refuse_changes()
        raise _unreadable(fault, source) or fault from fault
    source.refuse_changes()
    ((count,),) = connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchall()
    if not count:
        raise DataError(f"{source.name}: there is no row in it.")
    return Rows(
        connection=connection,
        name=name,
        source=source,
        columns=wanted,
        count=int(count) + left_out,
        first=first,
        without=without,
        reading=reading,
    )


def need(rows: Rows, wanted: Iterable[str]) -> None:
    """No row may lack one of `wanted`."""
    for here in wanted:
        refuse(rows, here, f"{quoted(here)} IS NULL OR trim({quoted(here)}) = ''", "is empty")


def need_numbers(rows: Rows, wanted: Iterable[str]) -> None:
    """Where one of `wanted` is there it must be a finite number of 32 bits."""
    for here in wanted:
        cell = quoted(here)
        refuse(rows, here, f"{cell} IS NOT NULL AND NOT coalesce(isfinite(TRY_CAST({cell} AS FLOAT)), false)", "is not a number")


def need_one_of(rows: Rows, here: str, values: Iterable[str]) -> None:
    """A value must be one of these."""
    listed = ", ".join(literal(value) for value in values)
    refuse(rows, here, f"NOT coalesce(trim({quoted(here)}) IN ({listed}), false)", f"is none of {', '.join(values)}")


def instant(time: Time) -> str:
    """Unix milliseconds as SQL of the column `time`; NULL for what is no time."""
    if time.unit == "rows":
        return f"{int(EARLIEST.timestamp() * 1000)} + source"
    if time.unit == "iso":
        return "epoch_us(TRY_CAST(time AS TIMESTAMPTZ)) // 1000"
    number, whole, near = "TRY_CAST(time AS DECIMAL(38, 6))", "TRY_CAST(time AS BIGINT)", "TRY_CAST(time AS DOUBLE)"
    return f"""CASE WHEN {whole} = {near} AND {near} BETWEEN 0 AND {MOST_WHOLE} THEN {whole} {WHOLE[time.unit]}
                    WHEN abs({number}) < {ENDLESS} THEN TRY_CAST(floor({number} {UNITS[time.unit]}) AS BIGINT) END"""


def need_times(rows: Rows, time: Time) -> None:
    """What is no time, or puts an event out of this world, is bad."""
    if time.unit == "rows":
        return
    if time.unit == "iso":
        refuse(rows, "time", "instant IS NULL", "is no ISO 8601 time")
    else:
        refuse(
            rows, "time", "instant IS NULL", "is not a number", lambda value: ": set events.time.unit = 'iso'" if _is_date(value) else ""
        )
    first, last = (int(one.timestamp() * 1000) for one in (EARLIEST, LATEST))
    outside = f"lies outside {EARLIEST.year} to {LATEST.year}" + ("" if time.unit == "iso" else f" in unit {time.unit!r}")
    refuse(rows, "time", f"instant < {first} OR instant >= {last}", outside, lambda value: _hint(value, time))


def refuse(rows: Rows, here: str | None, bad: str, what: str, hint: Any = None) -> None:
    """Raises DataError when `bad` (SQL) holds of a row; or leaves such rows out and notes it, where bad rows are to be skipped.

    here: the column that is shown of each; None: no value is.
    hint: of the first bad value, a text that follows the message.
    """
    table = quoted(rows.name)
    ((count, total),) = rows.connection.execute(f"SELECT count(*) FILTER (WHERE {bad}), count(*) FROM {table}").fetchall()
    if not count:
        return
    value = quoted(here) if here else "NULL"
    shown = rows.connection.execute(f"SELECT source, {value} FROM {table} WHERE {bad} ORDER BY source LIMIT {SHOWN}").fetchall()
    places = _places(rows, [source for source, _ in shown])
    examples = ", ".join(f"{place}: {shortened(cell)}" if here else place for place, (_, cell) in zip(places, shown, strict=True))
    why = f"column {rows.columns[here]!r} {what}" if here else what
    message = f"{rows.source.name}: {why} in {counted(count, 'row')}: {examples}"
    more = hint(shown[0][1]) if hint else ""
    refuse_too_many(rows.reading, f"{message}{more}.", int(count), rows.count - total, rows.count)
    rows.connection.execute(f"DELETE FROM {table} WHERE {bad}")
    rows.reading.skipped.append(Skipped(file=rows.source.name, why=why, rows=int(count), examples=examples))


def refuse_too_many(reading: Reading, message: str, bad: int, before: int, total: int) -> None:
    """Raises DataError where bad rows are refused, or where these and the ones left out before are more than half of all."""
    if reading.bad_rows == "refuse":
        raise DataError(message)
    if bad + before > MOST_SKIPPED * total:
        others = f", with {before:,} left out before," if before else ""
        raise DataError(f"{message} That{others} is more than half of {total:,}, too many to skip.")


def text_of(declared: Field, name: str) -> str:
    """The column that a declared field is read from."""
    return declared.column or name


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def shortened(value: str | None) -> str:
    """A value as messages show it."""
    return repr(value) if value is None or len(value) <= LONGEST else f"{value[:LONGEST]!r}... of {len(value):,} characters"


def counted(rows: int, noun: str) -> str:
    return f"{rows:,} {noun}{'' if rows == 1 else 's'}"


def _create(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    wanted: Mapping[str, str],
    there: tuple[str, ...],
    reading: Reading,
    derived: Mapping[str, str],
) -> tuple[tuple[int, ...], int, Sequence[frozenset[int]]]:
    """The duckdb table; returns the `source` that each file begins at, how many rows were left out, and lines that are in no row."""
    paths = copied(source, reading.spill / "copies")
    make = {"csv": _from_csv, "jsonl": _from_json, "parquet": _from_parquet}[source.form]
    scan, left_out = make(source, paths, wanted, there, name), 0
    without: Sequence[frozenset[int]] = [frozenset()] * len(paths)
    more = "".join(f", {expression} AS {quoted(here)}" for here, expression in derived.items())
    connection.execute(f"CREATE TABLE {quoted(name)} AS SELECT *{more} FROM (SELECT row_number() OVER () - 1 AS source, * FROM {scan})")
    first = _first(connection, name, paths)
    if source.form == "csv":
        left_out, without = _refuse_rejects(connection, name, source, paths, len(there), reading)
    if source.form == "jsonl":
        left_out = _refuse_no_objects(connection, name, source, first, reading)
        connection.execute(f"ALTER TABLE {quoted(name)} DROP COLUMN object")
    connection.execute(f"ALTER TABLE {quoted(name)} DROP COLUMN file")
    return first, left_out, without


def _first(connection: duckdb.DuckDBPyConnection, name: str, paths: tuple[Path, ...]) -> tuple[int, ...]:
    if len(paths) == 1:
        return (0,)
    begin = dict(connection.execute(f"SELECT file, min(source) FROM {quoted(name)} GROUP BY file").fetchall())
    found, after = [], 0
    for path in reversed(paths):  # a file without rows begins where the next one does
        after = begin.get(str(path), after)
        found.append(after)
    return tuple(reversed(found))


def _list(paths: tuple[Path, ...]) -> str:
    escaped = (re.sub(r"([*?\[])", r"[\1]", str(path)) for path in paths)  # duckdb takes a path for a pattern
    return "[" + ", ".join(literal(path) for path in escaped) + "]"


def _from_csv(source: Source, paths: tuple[Path, ...], wanted: Mapping[str, str], there: tuple[str, ...], name: str) -> str:
    named = ", ".join(f"c{place}: 'VARCHAR'" for place in range(len(there)))  # by place: names may differ in case only
    quote = literal(source.table.quote)
    cells = _cells({here: f"c{there.index(column)}" for here, column in wanted.items()})
    return (
        f"(SELECT filename AS file{cells} FROM "
        f"read_csv({_list(paths)}, delim={literal(source.separator)}, header={'false' if source.table.columns else 'true'}, "
        f"columns={{{named}}}, auto_detect=false, quote={quote}, escape={quote}, filename=true, "
        f"store_rejects=true, rejects_limit=0, rejects_table='bad_lines', rejects_scan='bad_files'))"
    )


def _from_json(source: Source, paths: tuple[Path, ...], wanted: Mapping[str, str], there: tuple[str, ...], name: str) -> str:
    cells = _cells({here: _value(column) for here, column in wanted.items()})
    return (
        f"(SELECT filename AS file, coalesce(json_type(json) = 'OBJECT', false) AS object{cells} "
        f"FROM read_ndjson_objects({_list(paths)}, ignore_errors=true, filename=true))"
    )


def _value(column: str) -> str:
    """The text under a key, as SQL; under "a.b" that of the key b under a, or of a key of this very name."""
    parts = column.split(".")
    ways = [parts, [column]] if len(parts) > 1 else [parts]
    paths = ("$" + "".join('."' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in way) for way in ways)
    return f"coalesce({', '.join(f'json_extract_string(json, {literal(path)})' for path in paths)})"


def _from_parquet(source: Source, paths: tuple[Path, ...], wanted: Mapping[str, str], there: tuple[str, ...], name: str) -> str:
    for column in wanted.values():
        alike = [other for other in there if other.casefold() == column.casefold()]
        if len(alike) > 1:
            both = " and ".join(map(repr, alike))
            raise SchemaError(f"{source.name}: its columns {both} differ in case only; one of them was wanted.")
    scans = []
    for types, same in groupby(paths, lambda path: [pq.read_schema(path).field(column).type for column in wanted.values()]):
        cells = _cells({here: _as_text(quoted(column), kind) for (here, column), kind in zip(wanted.items(), types, strict=True)})
        scans.append(f"SELECT \" file\" AS file{cells} FROM read_parquet({_list(tuple(same))}, filename=' file')")
    return f"({' UNION ALL '.join(scans)})"  # each as its own types have it: none is cast to another's


def _cells(cells: Mapping[str, str]) -> str:
    return "".join(f", {cell} AS {quoted(here)}" for here, cell in cells.items())


def _as_text(cell: str, kind: pa.DataType) -> str:
    """A column of any type as text: whole floats as whole numbers, lists and structs as JSON, bytes as UTF-8."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_floating(kind):  # ids that were once missing somewhere become floats on their way
        whole = f"{cell} = trunc({cell}) AND abs({cell}) < 1e15"
        return f"CASE WHEN {whole} THEN TRY_CAST({cell} AS BIGINT)::VARCHAR WHEN NOT isnan({cell}) THEN {cell}::VARCHAR END"
    if pa.types.is_nested(kind):
        return f"to_json({cell})::VARCHAR"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return f"coalesce(TRY(decode({cell}::BLOB)), {cell}::VARCHAR)"
    return f"{cell}::VARCHAR"


def _refuse_rejects(
    connection: duckdb.DuckDBPyConnection, name: str, source: Source, paths: tuple[Path, ...], columns: int, reading: Reading
) -> tuple[int, Sequence[frozenset[int]]]:
    """Lines that the CSV reader could not take apart; they are in no row. Returns how many they are, and those of each file."""
    unclosed = "count(*) FILTER (WHERE error_type = 'UNQUOTED VALUE') > 0"
    bad = f"""(SELECT file_path, line, trim(any_value(csv_line), chr(13) || chr(10)) AS text, {unclosed} AS unclosed,
                      string_agg(DISTINCT lower(error_type::VARCHAR), ', ' ORDER BY lower(error_type::VARCHAR)) AS why
               FROM bad_lines JOIN bad_files USING (scan_id, file_id) GROUP BY file_path, line)"""
    spanned = "CASE WHEN unclosed THEN len(regexp_extract_all(text, '\\r\\n|\\r|\\n')) ELSE 0 END"  # further lines, all lost
    ((rows, longest),) = connection.execute(
        f"SELECT coalesce(sum(1 + {spanned}), 0), max(len(text)) FILTER (WHERE {spanned} > 0) FROM {bad}"
    ).fetchall()
    if not rows:
        return 0, [frozenset()] * len(paths)
    shown = connection.execute(f"SELECT file_path, line, text, why FROM {bad} ORDER BY file_path, line LIMIT {SHOWN}").fetchall()
    number = {str(path): file for file, path in enumerate(paths)}
    shown.sort(key=lambda row: (number.get(row[0], 0), row[1]))
    examples = ", ".join(f"{source.label(number.get(path, 0))}line {line}: {shortened(text)} ({why})" for path, line, text, why in shown)
    why = f"cannot be read as {counted(columns, 'column')} of {source.table.encoding} text separated by {source.separator!r}"
    if (longest or 0) >= HELD - 10:  # all up to the next quote, or to the end, is lost: it cannot be said how many rows
        raise DataError(f"{source.name}: {why}: {examples}. Where a quote is not closed, all that follows it is lost.")
    _leave_out(connection, name, source, int(rows), why, examples, reading)
    without = dict(connection.execute(f"SELECT file_path, list(line) FROM {bad} GROUP BY file_path").fetchall())
    connection.execute("DELETE FROM bad_lines")  # the next table begins anew
    connection.execute("DELETE FROM bad_files")
    return int(rows), [frozenset(without.get(str(path), ())) for path in paths]


def _refuse_no_objects(connection: duckdb.DuckDBPyConnection, name: str, source: Source, first: tuple[int, ...], reading: Reading) -> int:
    """Lines that are no JSON objects. Returns how many they are."""
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {quoted(name)} WHERE NOT object").fetchall()
    if not rows:
        return 0
    shown = connection.execute(f"SELECT source FROM {quoted(name)} WHERE NOT object ORDER BY source LIMIT {SHOWN}").fetchall()
    connection.execute(f"DELETE FROM {quoted(name)} WHERE NOT object")
    examples = ", ".join(_found(source, first, (), [row for (row,) in shown]))
    _leave_out(connection, name, source, rows, f"cannot be read as a JSON object of {source.table.encoding} text", examples, reading)
    return int(rows)


def _leave_out(
    connection: duckdb.DuckDBPyConnection, name: str, source: Source, rows: int, why: str, examples: str, reading: Reading
) -> None:
    ((left,),) = connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchall()
    refuse_too_many(reading, f"{source.name}: {counted(rows, 'row')} {why}: {examples}.", rows, 0, left + rows)
    reading.skipped.append(Skipped(file=source.name, why=why, rows=rows, examples=examples))


def _places(rows: Rows, sources: list[int]) -> list[str]:
    return _found(rows.source, rows.first, rows.without, sources)


def _found(source: Source, first: tuple[int, ...], without: Sequence[frozenset[int]], rows: list[int]) -> list[str]:
    """Where each of these rows (ascending) stands, in words."""
    noun = "row" if source.form == "parquet" else "line"
    out: list[str] = []
    by_file: dict[int, list[int]] = {}
    for row in rows:
        by_file.setdefault(_file_of(first, row), []).append(row)
    for file, mine in by_file.items():
        within = [row - first[file] for row in mine]
        found = lines(source, file, within, without[file] if without else frozenset())
        out += [f"{source.label(file)}{noun} {line}" for line in found]
        out += [f"{source.label(file)}row {row + 1}" for row in within[len(found) :]]
    return out


def _file_of(first: tuple[int, ...], row: int) -> int:
    return bisect_right(first, row) - 1


def _unreadable(fault: duckdb.Error, source: Source) -> Exception | None:
    """What a fault of duckdb's says of the files that it reads; None where it is of something else."""
    text = str(fault)
    if isinstance(fault, duckdb.OutOfMemoryException) or any(os.strerror(number) in text for number in NO_ROOM):
        return None
    names = [path.name for path in source.files]
    if isinstance(fault, duckdb.IOException) and not any(name in text for name in names) and not _PACKING.search(text):
        return None  # it may as well be of what was written
    if "new_line" in text or "state machine" in text:
        return DataError(
            f"{source.name}: cannot be read as CSV: its quotes or ends of lines are of several kinds. "
            'Write it again with one kind, or say quote = "" in the schema if quotes mean nothing in it.'
        )
    reason = next((line for line in text.splitlines() if line.strip()), text)
    reason = _KIND.sub("", reason).replace(f"{source.folder}{os.sep}", "").rstrip(".")
    return DataError(f"{source.name}: cannot be read: {reason}.")


def _hint(value: str, time: Time) -> str:
    """The date that a time out of this world stands for, and the unit in which it is of this world."""
    if time.unit not in SECONDS:
        return ""
    number = float(value)
    fits = [unit for unit in SECONDS if _plausible(number * SECONDS[unit])]
    says = f" ({_date(number * SECONDS[time.unit])})"
    return says + (f"; in {fits[0]!r} it is {_date(number * SECONDS[fits[0]])}: set events.time.unit = {fits[0]!r}" if fits else "")


def _is_date(value: str | None) -> bool:
    try:
        datetime.fromisoformat((value or "").strip())
    except ValueError:
        return False
    return True


def _plausible(seconds: float) -> bool:
    return EARLIEST.timestamp() <= seconds < LATEST.timestamp()


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"about the year {1970 + int(seconds // 31_556_952)}"


def names_of_joins(columns: Mapping[str, str], joins: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name here, join, column) of those columns that are read from a joined table: "session.place"."""
    known = set(joins)
    for here, column in columns.items():
        join, dot, rest = column.partition(".")
        if dot and join in known:
            yield here, join, rest
