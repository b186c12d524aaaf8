"""Putting files into the folder of a set, and counting what they hold, without holding them in memory."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO

import duckdb
import tomli_w

from penchant.data.read import literal, quoted
from penchant.errors import DataError, nearest
from penchant.schema import Schema, Table

Row = Sequence[str]
Connection = duckdb.DuckDBPyConnection
MEMORY = "1GB"  # of duckdb, beyond which it spills to disk


def link(path: Path, folder: Path) -> None:
    """The original file at `path`, in `folder` too: the same bytes on disk where it can be, else a copy."""
    folder.mkdir(exist_ok=True)
    try:
        os.link(path.resolve(), folder / path.name)  # of what a symbolic link leads to
    except OSError:  # another disk, or a system without the right or the means
        shutil.copyfile(path, folder / path.name)


def write_csv(path: Path, columns: Row, rows: Iterable[Row]) -> None:
    """A CSV file with a header line; rows are written as they come."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def lines(path: Path, encoding: str = "utf-8") -> Generator[str, None, None]:
    """The lines of a text, compressed or not. A line ends at a line feed only: texts hold other signs that Python takes for ends."""
    try:
        with _opened(path, encoding) as file:
            yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as fault:
        raise DataError(f"{path.name}: not a readable gzip file: {fault}.") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"{path.name}: not {encoding} text ({fault.reason} at byte {fault.start}).") from None


def columns_of(path: Path, wanted: Sequence[str], separator: str = ",") -> Iterator[tuple[str, ...]]:
    """The values of these columns in each row of a CSV file with a header line. Blanks around a column's name mean nothing."""
    reader = csv.reader(lines(path), delimiter=separator)
    names = [name.strip() for name in next(reader, [])]
    _need(path.name, wanted, names)
    places = [names.index(name) for name in wanted]
    for row in reader:
        if len(row) != len(names):
            raise DataError(f"{path.name}: line {reader.line_num} has {len(row)} columns, {len(names)} were wanted.")
        yield tuple(row[place] for place in places)


def toml(schema: Schema) -> str:
    """Only what the schema says itself, so that it reads as one written by hand."""
    return tomli_w.dumps(schema.model_dump(mode="json", exclude_unset=True))


@contextmanager
def scanning(folder: Path, what: str) -> Iterator[Connection]:
    """A duckdb that may spill into `folder`. What it cannot read there is a DataError that names `what`."""
    with tempfile.TemporaryDirectory(prefix=".", suffix=".spill", dir=folder) as spill, duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")  # which duckdb writes to stdout
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {literal(spill)}")
        try:
            yield connection
        except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.IOException) as fault:
            raise DataError(f"{what}: {str(fault).splitlines()[0].strip()}") from None


def scan(table: Table, folder: Path, columns: Sequence[str]) -> str:
    """What duckdb reads `columns` from, as texts of these names, in the order of the rows."""
    paths = sorted(folder.glob(table.file))
    files = f"[{', '.join(literal(str(path)) for path in paths)}]"
    if table.format == "jsonl":
        return f"read_json({files}, format='newline_delimited', columns={{{_texts(columns)}}})"
    names = table.columns or _header(paths[0], table)
    _need(paths[0].name, columns, names)
    given = {name: f"c{place}" for place, name in enumerate(names)}
    chosen = ", ".join(f"{given[name]} AS {quoted(name)}" for name in dict.fromkeys(columns))
    return (
        f"(SELECT {chosen} FROM read_csv({files}, delim={literal(table.separator or ',')}, header={table.columns is None}, "
        f"columns={{{_texts(given.values())}}}, auto_detect=false, quote={literal(table.quote)}, escape={literal(table.quote)}))"
    )


def copy(connection: Connection, query: str, path: Path) -> int:
    """The rows of a query as a CSV file, in their order; returns how many there are."""
    (rows,) = _one(connection, f"COPY ({query}) TO {literal(str(path))} (FORMAT csv, HEADER)")
    return rows


def values(table: Table, folder: Path, column: str) -> set[str]:
    """The different values of a column."""
    with scanning(folder, table.file) as connection:
        rows = connection.execute(f"SELECT DISTINCT {quoted(column)} FROM {scan(table, folder, [column])}").fetchall()
    return {value for (value,) in rows if value is not None}


def count(schema: Schema, folder: Path) -> dict[str, int]:
    """Those of Counts that the files have."""
    events, items, users = schema.events, schema.items, schema.users
    counts: dict[str, int] = {}
    with scanning(folder, events.file) as connection:
        rows = scan(events, folder, [events.user, events.item])
        distinct = f"count(DISTINCT {quoted(events.item)}), count(DISTINCT {quoted(events.user)})"
        counts["events"], seen, active = _one(connection, f"SELECT count(*), {distinct} FROM {rows}")
    for name, table in (("items", items), ("users", users)):
        if table:
            with scanning(folder, table.file) as connection:
                (counts[name],) = _one(connection, f"SELECT count(*) FROM {scan(table, folder, [table.key])}")
    counts |= {"seen_items": seen, "active_users": active}
    if items and "category" in items.fields:
        counts["categories"] = len(values(items, folder, "category") - {""})
    return counts


def refuse_wrong(name: str, counts: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raises DataError when a count is not the one that is wanted."""
    wrong = [
        f"{counts[fact]:,} {fact.replace('_', ' ')} came, {wish:,} were wanted" for fact, wish in wanted.items() if counts[fact] != wish
    ]
    if wrong:
        raise DataError(f"{name}: {'; '.join(wrong)}.")


def _opened(path: Path, encoding: str) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="\n")
    return path.open(encoding=encoding, newline="\n")


def _header(path: Path, table: Table) -> list[str]:
    with closing(lines(path, table.encoding)) as text:
        return next(csv.reader(text, delimiter=table.separator or ","), [])


def _need(file: str, wanted: Iterable[str], there: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise DataError(f"{file}: there is no column {name!r}. It has {', '.join(there) or 'none'}.{nearest(name, there)}")


def _one(connection: Connection, query: str) -> tuple[int, ...]:
    ((*counts,),) = connection.execute(query).fetchall()
    return tuple(counts)


def _texts(names: Iterable[str]) -> str:
    return ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
