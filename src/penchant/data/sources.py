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
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape, glob, has_magic
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

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
NOT_UNPACKED = (".zip", ".zst", ".7z", ".rar", ".lz4", ".lzma", ".lzo", ".br", ".tar", ".tgz", ".z")
SAMPLED = 1000  # lines of JSON whose keys say which columns there are
CHUNK = 1 << 22
MARK = "\ufeff"  # a byte order mark
UNPACKING = (EOFError, lzma.LZMAError, zlib.error, OSError)  # what reading a packed file raises
UNREADABLE = (*UNPACKING, UnicodeError, csv.Error)


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
        path = self.files[file]
        named = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path.name
        return f"{named} " if len(self.files) > 1 else ""

    @property
    def native(self) -> bool:
        """Whether duckdb reads the files as they are."""
        if self.form == "parquet":
            return True
        if codecs.lookup(self.table.encoding).name != "utf-8":  # duckdb's latin-1 lacks the bytes 80 to 9f
            return False
        if self.form == "jsonl" and any(_is_marked(self, file) for file in range(len(self.files))):
            return False
        return all(_packed(path) is None or path.suffix in UNPACKED_BY_DUCKDB for path in self.files)

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
        if path.suffix.lower() in NOT_UNPACKED:
            raise SchemaError(f"{path}: a {path.suffix} file is not unpacked here; unpack it, or pack it as .gz, .bz2 or .xz.")
    forms = {table.format or _form(path) for path in files}
    if len(forms) > 1:
        raise SchemaError(f"{folder / table.file}: files of several forms ({', '.join(sorted(forms))}); one form a table was wanted.")
    try:
        "a".encode(table.encoding)  # refuses also what is no encoding of text, such as hex
    except (LookupError, ValueError):
        raise SchemaError(f"{what}: encoding {table.encoding!r} is not known; one such as 'utf-8' or 'latin-1' was wanted.") from None
    (form,) = forms
    tabs = all(".tsv" in _suffixes(path) for path in files)
    separator = table.separator or ("\t" if tabs else ",")
    if form == "csv" and set(separator) & {"\n", "\r", table.quote}:
        raise SchemaError(f"{what}: separator {separator!r} holds the quote, or an end of line; another one was wanted.")
    return Source(
        table=table,
        what=what,
        folder=folder,
        files=files,
        form=form,
        separator=separator,
        sizes=tuple(_size(path, what) for path in files),
    )


def columns(source: Source) -> tuple[str, ...]:
    """The names of the columns: declared, of the header line, of the first lines' keys, or of the Parquet file.

    Raises DataError when files of a table disagree, or cannot be read that far.
    """
    if source.form == "jsonl":
        keys = tuple(dict.fromkeys(key for path in range(len(source.files)) for key in _keys(source, path)))
        if not keys and any(size for size, _ in source.sizes):
            raise DataError(f"{source.name}: none of its first lines is a JSON object; one a line was wanted.")
        if not keys:
            raise DataError(f"{source.name}: there is no row in it.")
        return keys
    if source.form == "csv" and source.table.columns:
        return source.table.columns
    held = [file for file, (size, _) in enumerate(source.sizes) if size or source.form == "parquet"]  # parts may be empty
    if not held:
        raise DataError(f"{source.name}: there is no header line in it.")
    named = [_names(source, file) for file in held]
    for file, names in zip(held, named, strict=True):
        if names != named[0]:
            first = source.files[held[0]].name
            raise DataError(f"{source.files[file].name}: its columns are {', '.join(names)}; those of {first} are {', '.join(named[0])}.")
    return named[0]


def copied(source: Source, into: Path) -> tuple[Path, ...]:
    """The files as plain UTF-8 in the folder `into`, where duckdb cannot read them as they are. Raises DataError."""
    if source.native:
        return source.files
    into.mkdir(exist_ok=True)
    return tuple(_copy(source, file, into / f"{source.what}-{file}") for file in range(len(source.files)))


def lines(source: Source, file: int, rows: Sequence[int], without: Collection[int] = ()) -> list[int]:
    """The line of file number `file` that each of its `rows` (from 0, ascending) begins at; in Parquet the row, from 1.

    without: lines that are in no row. Fewer than `rows` come back where the lines cannot be followed that far.
    """
    if source.form == "parquet":
        return [row + 1 for row in rows]
    wanted, found = set(rows), list[int]()
    begins = _filled(source, file) if source.form == "jsonl" else _begins(source, file)
    with suppress(*UNREADABLE), _cells_of_any_length():
        for row, line in enumerate(line for line in begins if line not in without):
            found += [line] * (row in wanted)
            if len(found) == len(rows):
                break
    return found


def _filled(source: Source, file: int) -> Iterator[int]:
    """The lines of a file that are not blank, from 1."""
    with _text(source, file, newline="\n") as text:
        yield from (number for number, line in enumerate(text, 1) if line.strip())


def _begins(source: Source, file: int) -> Iterator[int]:
    """The lines at which the rows of a CSV file begin, from 1."""
    header, begin = source.table.columns is None, 1
    blank_is_a_row = len(columns(source)) == 1  # an empty value of the one column
    with _text(source, file) as text:
        reader = csv.reader(text, delimiter=source.separator[0], **_quoting(source))
        for cells in reader:
            if not header and (cells or blank_is_a_row):
                yield begin
            header, begin = False, reader.line_num + 1


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _quoting(source: Source) -> dict[str, Any]:
    """Arguments of csv.reader."""
    return {"quotechar": source.table.quote} if source.table.quote else {"quoting": csv.QUOTE_NONE}


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
    found = sorted(one for one in map(Path, glob(str(Path(escape(str(folder))) / table.file), recursive=True)) if one.is_file())
    if not found:
        raise SchemaError(f"{path}: no file is of this pattern; the schema names it for the {what}.")
    return tuple(found)


def _form(path: Path) -> Form:
    """By the name's ending, without that of its packing."""
    return FORMS.get(next((suffix for suffix in reversed(_suffixes(path)) if suffix not in PACKED), ""), "csv")


def _suffixes(path: Path) -> list[str]:
    return [suffix.lower() for suffix in path.suffixes]


def _packed(path: Path) -> Callable[[Path], IO[bytes]] | None:
    return PACKED.get(path.suffix.lower())


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
        except (pa.ArrowException, OSError, ValueError) as fault:
            raise DataError(f"{path.name}: this is no Parquet file ({(str(fault).splitlines() or [''])[0].rstrip('.')}).") from None
    line = _first_line(source, file)
    if not line:
        raise DataError(f"{path.name}: there is no header line in it.")
    try:
        if len(source.separator) > 1:
            cells = line.split(source.separator)
        else:
            cells = next(csv.reader([line], delimiter=source.separator, **_quoting(source)))
    except csv.Error as fault:
        raise DataError(f"{path.name}: its header line cannot be read ({fault}).") from None
    return tuple(cell.strip().strip('"') for cell in cells)


def _first_line(source: Source, file: int) -> str:
    try:
        with _text(source, file) as text:
            return next(text, "").rstrip("\r\n").removeprefix(MARK)
    except UNREADABLE as fault:
        raise DataError(f"{source.files[file].name}: its first line cannot be read ({fault}).") from None


def _keys(source: Source, file: int) -> Iterator[str]:
    """The keys of the first lines, nested ones as "a.b"."""
    try:
        with _text(source, file, newline="\n") as text:
            for line in islice(text, SAMPLED):
                try:
                    value = json.loads(line.removeprefix(MARK))
                except (ValueError, RecursionError):  # named with all others when the rows are read
                    continue
                if isinstance(value, dict):
                    yield from _nested(value)
    except UNREADABLE as fault:
        raise DataError(f"{source.files[file].name}: cannot be read ({fault}).") from None


def _nested(value: dict[str, object], under: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield under + key
        if isinstance(inner, dict):
            yield from _nested(inner, f"{under}{key}.")


def _is_marked(source: Source, file: int) -> bool:
    """Whether a file begins with a byte order mark."""
    try:
        with _text(source, file) as text:
            return text.read(1) == MARK
    except UNREADABLE:  # said when its rows are read
        return False


def _text(source: Source, file: int, newline: str = "") -> IO[str]:
    """The file as text; what is not of its encoding reads as U+FFFD."""
    path = source.files[file]
    packed = _packed(path)
    raw = packed(path) if packed else path.open("rb")
    return TextIOWrapper(raw, encoding=source.table.encoding, errors="replace", newline=newline)


def _copy(source: Source, file: int, to: Path) -> Path:
    path = source.files[file]
    packed = _packed(path)
    decoder = codecs.getincrementaldecoder(source.table.encoding)()
    read = 0
    try:
        with packed(path) if packed else path.open("rb") as raw, to.open("w", encoding="utf-8", newline="") as out:
            while chunk := raw.read(CHUNK):
                text = decoder.decode(chunk)
                out.write(text if read else text.removeprefix(MARK))
                read += len(chunk)
            out.write(decoder.decode(b"", final=True))
    except UnicodeError as fault:
        at = read + getattr(fault, "start", 0)
        raise DataError(f"{path.name}: not {source.table.encoding} text ({getattr(fault, 'reason', fault)} near byte {at}).") from None
    except UNPACKING as fault:
        if isinstance(fault, OSError) and fault.errno is not None:
            raise
        raise DataError(f"{path.name}: cannot be unpacked ({fault}).") from None
    return to
