"""Raw delimited text into duckdb tables, checked.

Everything is read as text, with the row it stands in, so that a value that cannot be used is named by file and line.
Nothing is guessed and nothing is dropped: what cannot be read is an error that counts all such rows and shows the first.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from penchant.errors import DataError, SchemaError, nearest
from penchant.schema import Field, Table, Time

SHOWN = 3  # bad rows that an error shows
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rows:
    """The rows of a file as a duckdb table of text columns and `source`, the row (from 0) of each in its file."""

    connection: duckdb.DuckDBPyConnection
    name: str  # of the duckdb table
    table: Table
    path: Path
    columns: Mapping[str, str]  # {name here: column in the file}
    count: int


def load(connection: duckdb.DuckDBPyConnection, name: str, table: Table, folder: Path, columns: Mapping[str, str]) -> Rows:
    """The rows of a table's file in `folder`, as a duckdb table `name` of `columns` {name here: column in the file}.

    Raises SchemaError for a missing file or column, DataError for rows that do not have the file's columns.
    """
    path = folder / table.file
    if not path.is_file():
        raise SchemaError(f"{path}: there is no such file; the schema names it for the {name}.")
    try:
        path.open("rb").close()
    except OSError as fault:
        raise SchemaError(f"{path}: cannot be read ({fault.strerror}).") from None
    there = table.columns or _header(path, table)
    for wanted in columns.values():
        if wanted not in there:
            raise SchemaError(f"{path.name}: there is no column {wanted!r}. It has {', '.join(there)}.{nearest(wanted, there)}")
        if there.count(wanted) > 1:
            raise SchemaError(f"{path.name}: there are {there.count(wanted)} columns {wanted!r}; one was wanted.")
    chosen = ", ".join(f"c{there.index(column)} AS {quoted(here)}" for here, column in columns.items())
    bad = f"bad_{name}"
    connection.execute(
        f"CREATE TABLE {quoted(name)} AS SELECT row_number() OVER () - 1 AS source, {chosen} FROM {_scan(path, table, len(there), bad)}"
    )
    ((rows,),) = connection.execute(f"SELECT count(DISTINCT line) FROM {bad}").fetchall()
    if rows:
        shown = connection.execute(
            f"""SELECT line, trim(any_value(csv_line), chr(10)), string_agg(DISTINCT why, ', ' ORDER BY why)
                FROM (SELECT *, lower(error_type::VARCHAR) AS why FROM {bad}) GROUP BY line ORDER BY line LIMIT {SHOWN}"""
        ).fetchall()
        examples = ", ".join(f"line {line}: {text!r} ({why})" for line, text, why in shown)
        wish = f"{len(there)} columns of {table.encoding} text separated by {table.separator or chr(44)!r}"
        raise DataError(f"{path.name}: {_count(rows, 'row')} cannot be read as {wish}: {examples}.")
    ((count,),) = connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchall()
    if not count:
        raise DataError(f"{path.name}: there is no row in it.")
    return Rows(connection, name, table, path, columns, int(count))


def need(rows: Rows, wanted: Iterable[str]) -> None:
    """Raises DataError when a row lacks one of `wanted`."""
    for here in wanted:
        _refuse(rows, here, f"{quoted(here)} IS NULL OR trim({quoted(here)}) = ''", "is empty")


def need_numbers(rows: Rows, wanted: Iterable[str]) -> None:
    """Raises DataError when one of `wanted` is there and no finite number of 32 bits."""
    for here in wanted:
        cell = quoted(here)
        _refuse(rows, here, f"{cell} IS NOT NULL AND NOT coalesce(isfinite(TRY_CAST({cell} AS FLOAT)), false)", "is not a number")


def need_times(rows: Rows, time: Time) -> None:
    """Raises DataError when a time is no whole number, or when its unit puts it out of this world."""
    whole = "TRY_CAST(time AS BIGINT)"  # rounds 1.5
    _refuse(rows, "time", f"{whole} IS NULL OR {whole}::DOUBLE != TRY_CAST(time AS DOUBLE)", "is not a whole number")
    ((least, most),) = rows.connection.execute(f"SELECT min(time::BIGINT), max(time::BIGINT) FROM {quoted(rows.name)}").fetchall()
    for value in (least, most):
        if not _plausible(value, time.unit):
            fits = [unit for unit in MICROSECONDS if _plausible(value, unit)]
            hint = f"; in {fits[0]!r} it is {_date(value, fits[0])}: set events.time.unit = {fits[0]!r}" if fits else ""
            raise DataError(
                f"{rows.table.file}: {time.column} {value} in unit {time.unit!r} is {_date(value, time.unit)}, "
                f"outside {EARLIEST.year} to {LATEST.year}{hint}."
            )


def text_of(field: Field, name: str) -> str:
    """The column that a declared field is read from."""
    return field.column or name


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def _refuse(rows: Rows, here: str, bad: str, what: str) -> None:
    ((count,),) = rows.connection.execute(f"SELECT count(*) FROM {quoted(rows.name)} WHERE {bad}").fetchall()
    if count:
        shown = rows.connection.execute(
            f"SELECT source, {quoted(here)} FROM {quoted(rows.name)} WHERE {bad} ORDER BY source LIMIT {SHOWN}"
        ).fetchall()
        lines = _lines(rows.path, rows.table, [source for source, _ in shown])
        examples = ", ".join(f"line {line}: {value!r}" for line, (_, value) in zip(lines, shown, strict=True))
        raise DataError(f"{rows.table.file}: column {rows.columns[here]!r} {what} in {_count(count, 'row')}: {examples}.")


def _lines(path: Path, table: Table, rows: Sequence[int]) -> list[int]:
    """The line that each of `rows` (from 0, ascending) begins at: lines may be blank, and a text in quotes may have several."""
    found, row, begin = [], 0 if table.columns else -1, 1
    blank_is_a_row = len(table.columns or _header(path, table)) == 1  # an empty value of the one column
    with path.open(encoding=table.encoding, newline="") as file:
        reader = csv.reader(file, delimiter=(table.separator or ",")[0])
        for cells in reader:
            if cells or blank_is_a_row:
                found += [begin] * (row in rows)
                row += 1
            begin = reader.line_num + 1
            if len(found) == len(rows):
                break
    return found


def _header(path: Path, table: Table) -> tuple[str, ...]:
    with path.open(encoding=table.encoding, errors="replace") as file:
        line = file.readline().rstrip("\r\n").removeprefix("\ufeff")
    if not line:
        raise DataError(f"{path.name}: there is no header line in it.")
    cells = (
        next(csv.reader([line], delimiter=(table.separator or ",")))
        if len(table.separator or ",") == 1
        else line.split(table.separator or ",")
    )
    return tuple(cell.strip().strip('"') for cell in cells)


def _scan(path: Path, table: Table, columns: int, bad: str) -> str:
    named = ", ".join(f"c{place}: 'VARCHAR'" for place in range(columns))  # by place: names may differ in case only
    return (
        f"read_csv({literal(str(path))}, delim={literal(table.separator or ',')}, header={'false' if table.columns else 'true'}, "
        f"columns={{{named}}}, auto_detect=false, quote='\"', escape='\"', encoding={literal(table.encoding)}, "
        f"store_rejects=true, rejects_limit=1000000, rejects_table='{bad}', rejects_scan='scan_{bad}')"
    )


def _plausible(value: int, unit: str) -> bool:
    microseconds = value * MICROSECONDS[unit]
    return EARLIEST.timestamp() * 1e6 <= microseconds < LATEST.timestamp() * 1e6


def _date(value: int, unit: str) -> str:
    seconds = value * MICROSECONDS[unit] // 1_000_000
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"about the year {1970 + seconds // 31_556_952}"


def _count(rows: int, noun: str) -> str:
    return f"{rows:,} {noun}{'' if rows == 1 else 's'}"
