"""Raw delimited text into duckdb tables, checked.

Everything is read as text, with the row it stands in, so that a value that cannot be used is named by file and line.
Nothing is guessed and nothing is dropped: what cannot be read is an error that counts all such rows and shows the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from penchant.errors import DataError, SchemaError, nearest
from penchant.schema import Field, Table, Time

SHOWN = 3  # bad rows that an error shows
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def load(connection: duckdb.DuckDBPyConnection, name: str, table: Table, folder: Path, columns: Mapping[str, str]) -> int:
    """A duckdb table `name` of text columns and `source`, the row (from 0) of each in its file; returns how many rows.

    columns: {name here: column in the file}.
    Raises SchemaError for a missing file or column, DataError for rows that do not have the file's columns.
    """
    path = folder / table.file
    if not path.is_file():
        raise SchemaError(f"{path}: there is no such file; the schema names it for the {name}.")
    there = table.columns or _header(path, table)
    for wanted in columns.values():
        if wanted not in there:
            raise SchemaError(f"{path.name}: there is no column {wanted!r}. It has {', '.join(there)}.{nearest(wanted, there)}")
    chosen = ", ".join(f"{_quote(column)} AS {_quote(here)}" for here, column in columns.items())
    bad = f"bad_{name}"
    connection.execute(
        f"CREATE TABLE {_quote(name)} AS SELECT row_number() OVER () - 1 AS source, {chosen} FROM {_scan(path, table, there, bad)}"
    )
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {bad}").fetchall()
    if rows:
        shown = connection.execute(f"SELECT line, csv_line, lower(error_type::VARCHAR) FROM {bad} ORDER BY line LIMIT {SHOWN}").fetchall()
        examples = ", ".join(f"line {line}: {text!r} ({why})" for line, text, why in shown)
        wish = f"{len(there)} columns of {table.encoding} text separated by {table.separator!r}"
        raise DataError(f"{path.name}: {_count(rows, 'row')} cannot be read as {wish}: {examples}.")
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {_quote(name)}").fetchall()
    if not rows:
        raise DataError(f"{path.name}: there is no row in it.")
    return int(rows)


def need(connection: duckdb.DuckDBPyConnection, name: str, table: Table, columns: Mapping[str, str], wanted: Iterable[str]) -> None:
    """Raises DataError when a row lacks one of `wanted`."""
    for here in wanted:
        _refuse(connection, name, table, columns[here], here, f"{_quote(here)} IS NULL OR trim({_quote(here)}) = ''", "is empty")


def need_numbers(connection: duckdb.DuckDBPyConnection, name: str, table: Table, columns: Mapping[str, str], wanted: Iterable[str]) -> None:
    """Raises DataError when one of `wanted` is there and no finite number."""
    for here in wanted:
        cell = _quote(here)
        bad = f"{cell} IS NOT NULL AND NOT coalesce(isfinite(TRY_CAST({cell} AS DOUBLE)), false)"
        _refuse(connection, name, table, columns[here], here, bad, "is not a number")


def need_times(connection: duckdb.DuckDBPyConnection, name: str, table: Table, time: Time) -> None:
    """Raises DataError when a time is no whole number, or when its unit puts it out of this world."""
    _refuse(connection, name, table, time.column, "time", "TRY_CAST(time AS BIGINT) IS NULL", "is not a whole number")
    ((least, most),) = connection.execute(f"SELECT min(time::BIGINT), max(time::BIGINT) FROM {_quote(name)}").fetchall()
    for value in (least, most):
        if not _plausible(value, time.unit):
            fits = [unit for unit in MICROSECONDS if _plausible(value, unit)]
            hint = f"; in {fits[0]!r} it is {_date(value, fits[0])}: set events.time.unit = {fits[0]!r}" if fits else ""
            raise DataError(
                f"{table.file}: {time.column} {value} in unit {time.unit!r} is {_date(value, time.unit)}, "
                f"outside {EARLIEST.year} to {LATEST.year}{hint}."
            )


def text_of(field: Field, name: str) -> str:
    """The column that a declared field is read from."""
    return field.column or name


def _refuse(connection: duckdb.DuckDBPyConnection, name: str, table: Table, column: str, here: str, bad: str, what: str) -> None:
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {_quote(name)} WHERE {bad}").fetchall()
    if rows:
        first = 1 if table.columns else 2  # files count lines from 1, and the header is one
        shown = connection.execute(
            f"SELECT source + {first}, {_quote(here)} FROM {_quote(name)} WHERE {bad} ORDER BY source LIMIT {SHOWN}"
        ).fetchall()
        examples = ", ".join(f"line {line}: {value!r}" for line, value in shown)
        raise DataError(f"{table.file}: column {column!r} {what} in {_count(rows, 'row')}: {examples}.")


def _header(path: Path, table: Table) -> tuple[str, ...]:
    with path.open(encoding=table.encoding, errors="replace") as file:
        line = file.readline().rstrip("\r\n")
    if not line:
        raise DataError(f"{path.name}: there is no header line in it.")
    return tuple(cell.strip().strip('"').removeprefix("\ufeff") for cell in line.split(table.separator))


def _scan(path: Path, table: Table, columns: Iterable[str], bad: str) -> str:
    named = ", ".join(f"{_text(column)}: 'VARCHAR'" for column in columns)
    return (
        f"read_csv({_text(str(path))}, delim={_text(table.separator)}, header={'false' if table.columns else 'true'}, "
        f"columns={{{named}}}, auto_detect=false, quote='\"', escape='\"', encoding={_text(table.encoding)}, "
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


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
