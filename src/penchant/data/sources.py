"""The files that a table of a schema stands in: which they are, how they are read, and where a row of them is.

    file = "events.csv"          one file
    file = "clicks"              a folder: every file in it
    file = "clicks/*.csv.gz"     a pattern

Several files are read one after another in the order of their names, as if they were one.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from penchant.errors import DataError, SchemaError
from penchant.schema import Table

Form = Literal["csv", "jsonl", "parquet"]

FORMS: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
PACKED: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": lambda path: cast(IO[bytes], gzip.GzipFile(path)),
    ".bz2": lambda path: cast(IO[bytes], bz2.BZ2File(path)),
    ".xz": lambda path: cast(IO[bytes], lzma.LZMAFile(path)),  # noqa: SIM115 - opened by whoever reads it
}
UNPACKED_BY_DUCKDB = (".gz",)
READ_BY_DUCKDB = ("utf-8", "iso8859-1")  # as codecs names them
SAMPLED = 1000  # lines of JSON whose keys say which columns there are
CHUNK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a table, all of one form."""

    table: Table
    what: str  # "events"
    folder: Path
    files: tuple[Path, ...]
    form: Form
    separator: str
    sizes: tuple[tuple[int, int], ...]  # size and time of change of each file when it was found

    @property
    def name(self) -> str:
        """How messages name it."""
        return self.files[0].name if len(self.files) == 1 else self.table.file

    def label(self, file: int) -> str:
        """How messages name one of several files; nothing where there is one."""
        return f"{self.files[file].relative_to(self.folder)} " if len(self.files) > 1 else ""

    @property
    def native(self) -> bool:
        """Whether duckdb reads the files as they are."""
        if self.form == "parquet":
            return True
        packed = any(path.suffix in PACKED and path.suffix not in UNPACKED_BY_DUCKDB for path in self.files)
        return not packed and codecs.lookup(self.table.encoding).name in READ_BY_DUCKDB

    def refuse_changes(self) -> None:
        """Raises DataError when a file is not as it was when it was found."""
        for path, before in zip(self.files, self.sizes, strict=True):
            if _size(path, self.what) != before:
                raise DataError(f"{path.name}: this file changed while it was read; read a copy, or wait until it is complete.")


def find(table: Table, folder: Path, what: str) -> Source:
    """The files of a table in `folder`. Raises SchemaError where there is none, or where they cannot be read."""
    files = _files(table, folder, what)
    for path in files:
        try:
            path.open("rb").close()
        except OSError as fault:
            raise SchemaError(f"{path}: cannot be read ({fault.strerror}).") from None
    forms = {table.format or _form(path) for path in files}
    if len(forms) > 1:
        raise SchemaError(f"{folder / table.file}: files of several forms ({', '.join(sorted(forms))}); one form a table was wanted.")
    try:
        codecs.lookup(table.encoding)
    except LookupError:
        raise SchemaError(f"{what}: encoding {table.encoding!r} is not known; one such as 'utf-8' or 'latin-1' was wanted.") from None
    (form,) = forms
    tabs = all(".tsv" in path.suffixes for path in files)
    return Source(
        table=table,
        what=what,
        folder=folder,
        files=files,
        form=form,
        separator=table.separator or ("\t" if tabs else ","),
        sizes=tuple(_size(path, what) for path in files),
    )


def columns(source: Source) -> tuple[str, ...]:
    """The names of the columns: declared, of the header line, of the first lines' keys, or of the Parquet file.

    Raises DataError when files of a table disagree, or cannot be read that far.
    """
    if source.form == "jsonl":
        return tuple(dict.fromkeys(key for path in range(len(source.files)) for key in _keys(source, path)))
    if source.form == "csv" and source.table.columns:
        return source.table.columns
    named = [_names(source, file) for file in range(len(source.files))]
    for file, names in enumerate(named):
        if names != named[0]:
            raise DataError(
                f"{source.files[file].name}: its columns are {', '.join(names)}; those of {source.files[0].name} are {', '.join(named[0])}."
            )
    return named[0]


def copied(source: Source, into: Path) -> tuple[Path, ...]:
    """The files as plain UTF-8 in the folder `into`, where duckdb cannot read them as they are. Raises DataError."""
    if source.native:
        return source.files
    into.mkdir(exist_ok=True)
    return tuple(_copy(source, file, into / f"{source.what}-{file}") for file in range(len(source.files)))


def lines(source: Source, file: int, rows: Sequence[int]) -> list[int]:
    """The line of file number `file` that each of its `rows` (from 0, ascending) begins at; in Parquet the row, from 1."""
    if source.form == "parquet":
        return [row + 1 for row in rows]
    if source.form == "jsonl":
        with _text(source, file) as text:
            numbers = (number for number, line in enumerate(text, 1) if line.strip())
            return [number for row, number in enumerate(islice(numbers, rows[-1] + 1)) if row in rows]
    found, row, begin = [], 0 if source.table.columns else -1, 1
    blank_is_a_row = len(columns(source)) == 1  # an empty value of the one column
    with _text(source, file) as text:
        reader = csv.reader(text, delimiter=source.separator[0], quotechar=source.table.quote or "\0")
        for cells in reader:
            if cells or blank_is_a_row:
                found += [begin] * (row in rows)
                row += 1
            begin = reader.line_num + 1
            if len(found) == len(rows):
                break
    return found


def _files(table: Table, folder: Path, what: str) -> tuple[Path, ...]:
    path = folder / table.file
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith((".", "_")))
        if not found:
            raise SchemaError(f"{path}: there is no file in this folder; the schema names it for the {what}.")
        return tuple(found)
    if not has_magic(table.file):
        raise SchemaError(f"{path}: there is no such file; the schema names it for the {what}.")
    found = sorted(one for one in folder.glob(table.file) if one.is_file())
    if not found:
        raise SchemaError(f"{path}: no file is of this pattern; the schema names it for the {what}.")
    return tuple(found)


def _form(path: Path) -> Form:
    return next((FORMS[suffix] for suffix in path.suffixes if suffix in FORMS), "csv")


def _size(path: Path, what: str) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as fault:
        raise DataError(f"{path}: cannot be read any more ({fault.strerror}).") from None
    return stat.st_size, stat.st_mtime_ns


def _names(source: Source, file: int) -> tuple[str, ...]:
    path = source.files[file]
    if source.form == "parquet":
        try:
            return tuple(pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as fault:
            raise DataError(f"{path.name}: this is no Parquet file ({str(fault).splitlines()[0]}).") from None
    with _text(source, file) as text:
        line = _first_line(path, text)
    if not line:
        raise DataError(f"{path.name}: there is no header line in it.")
    if len(source.separator) > 1:
        cells = line.split(source.separator)
    elif source.table.quote:
        cells = next(csv.reader([line], delimiter=source.separator, quotechar=source.table.quote))
    else:
        cells = line.split(source.separator)
    return tuple(cell.strip().strip('"') for cell in cells)


def _first_line(path: Path, text: Iterator[str]) -> str:
    try:
        return next(text, "").rstrip("\r\n").removeprefix("\ufeff")
    except (OSError, EOFError, lzma.LZMAError, UnicodeError) as fault:
        raise DataError(f"{path.name}: its first line cannot be read ({fault}).") from None


def _keys(source: Source, file: int) -> Iterator[str]:
    """The keys of the first lines, nested ones as "a.b"."""
    with _text(source, file) as text:
        try:
            for line in islice(text, SAMPLED):
                try:
                    value = json.loads(line)
                except ValueError:  # named with all others when the rows are read
                    continue
                if isinstance(value, dict):
                    yield from _nested(value)
        except (OSError, EOFError, lzma.LZMAError) as fault:
            raise DataError(f"{source.files[file].name}: cannot be read ({fault}).") from None


def _nested(value: dict[str, object], under: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield under + key
        if isinstance(inner, dict):
            yield from _nested(inner, f"{under}{key}.")


def _text(source: Source, file: int) -> IO[str]:
    """The file as text; what is not of its encoding reads as U+FFFD."""
    path = source.files[file]
    packed = PACKED.get(path.suffix)
    raw = packed(path) if packed else path.open("rb")
    return TextIOWrapper(raw, encoding=source.table.encoding, errors="replace", newline="")


def _copy(source: Source, file: int, to: Path) -> Path:
    path = source.files[file]
    packed = PACKED.get(path.suffix)
    decoder = codecs.getincrementaldecoder(source.table.encoding)()
    read = 0
    try:
        with packed(path) if packed else path.open("rb") as raw, to.open("w", encoding="utf-8", newline="") as out:
            while chunk := raw.read(CHUNK):
                out.write(decoder.decode(chunk))
                read += len(chunk)
            out.write(decoder.decode(b"", final=True))
    except UnicodeError as fault:
        at = read + getattr(fault, "start", 0)
        raise DataError(f"{path.name}: not {source.table.encoding} text ({getattr(fault, 'reason', fault)} near byte {at}).") from None
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, OSError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:
            raise
        raise DataError(f"{path.name}: cannot be unpacked ({fault}).") from None
    return to
