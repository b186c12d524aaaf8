"""A schema by example: what the columns of raw files look like, as a TOML text to look through and mend.

    files ─ sample ─ form, separator, encoding, header ─▶ columns ─ names and values ─▶ roles ─▶ TOML with reasons

Nothing here is certain: a guess stands with its reason beside it, and what was left out stands as a comment. Guesses
lean to the side that does no harm: what may be known only after an event is an action, which the past alone shows.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from penchant.data.sources import MARK, PACKED, UNPACKING, Form, Source, find
from penchant.errors import DataError, SchemaError
from penchant.schema import MOMENTS, Table

HEAD, TAIL = 20_000, 2_000  # rows of the sample, from the beginning and from the end
BYTES = 1 << 18  # from the end of a plain file
LOOKED_AT = 300  # lines by which separators are told
SEPARATORS = ("\t", "::", ",", ";", "|", "\x01", "^", " ")
FEW = 32  # values of a number that is read as a category
MANY = 0.5  # distinct values a row: beyond it, a category says nothing
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
PLAUSIBLE = (631_152_000.0, 2_051_222_400.0)  # 1990 to 2035: an id in this range is taken for a time less often

USER = "user usr uid reviewer customer member visitor person people client account viewer buyer player listener reader shopper cookie"
ITEM = (
    "item iid product article movie film song track video asin sku business book isbn ad news game app document doc content page pid "
    "place poi venue listing recipe course job artist show photo post offer hotel restaurant"
)
TIME = "time timestamp date datetime ts at created when day unix epoch"
EVENTS = "events event interactions interaction ratings rating clicks click log logs reviews review purchases transactions views data train"
CHOSEN = "label target y click clicked clicks buy bought purchase purchased like liked conversion converted chosen positive follow cart"
RATED = "rating ratings rate rated stars star score overall grade"
BEHAVIOUR = "action event behavior behaviour type kind verb activity"
REQUEST = "request impression query search slate pageview req"
BEFORE = (
    "device os platform country region city weather referrer referer environment daytime weekday weekend isweekend hour place channel "
    "source browser language locale page category query location homework cost context network app agent"
)
TITLE = "title name headline subject caption"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A schema that was guessed: TOML text, and the reason of every guess by the place in the schema that it concerns."""

    folder: Path  # that the files are named from
    text: str
    reasons: Mapping[str, str]

    def toml(self) -> str:
        """The schema, with what was guessed and left out in comments."""
        return self.text


@dataclass(frozen=True, eq=False)
class _Column:
    """A column's values in the sample: text, None where there is none; lists as JSON."""

    name: str
    values: Sequence[str | None]
    listed: bool = False

    @cached_property
    def filled(self) -> list[str]:
        return [value for value in self.values if value is not None and value.strip()]

    @cached_property
    def distinct(self) -> set[str]:
        return set(self.filled)

    @cached_property
    def words(self) -> set[str]:
        """The words of its name: "reviewerID" is reviewer and id."""
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", self.name)
        words = {part.lower() for part in parts} | {self.name.lower()}
        return words | {word.removesuffix("id") for word in words if len(word) > 3}

    @cached_property
    def numbers(self) -> list[float] | None:
        """The values as numbers, if all of them are."""
        try:
            found = [float(value) for value in self.filled]
        except ValueError:
            return None
        return found if found and all(abs(number) < 1e30 for number in found) and not self.listed else None

    @property
    def unique(self) -> bool:
        """Whether no value stands in it twice, and none is absent."""
        return len(self.distinct) == len(self.values) > 0

    @property
    def is_text(self) -> bool:
        """Whether it holds words to read rather than values."""
        return mean(map(len, self.filled)) > 60 or mean(value.count(" ") for value in self.filled) > 4

    def named(self, hints: str) -> bool:
        return bool(self.words & set(hints.split()))

    @cached_property
    def unit(self) -> str | None:
        """The unit in which it looks like a time."""
        if not self.filled or self.listed:
            return None
        if self.numbers is not None:
            least, most = PLAUSIBLE
            return next((unit for unit, size in SECONDS.items() if all(least <= n * size < most for n in self.numbers)), None)
        return "iso" if all(map(_is_iso, self.filled[:1000])) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class _Sample:
    """Rows of one of the given paths."""

    file: str  # as the schema names it
    form: Form
    columns: list[_Column]
    rows: int
    size: int  # bytes of all its files
    settings: dict[str, Any] = field(default_factory=dict)  # separator, encoding, columns
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> _Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def keys(self) -> list[_Column]:
        """Columns that could name a row each."""
        return [column for column in self.columns if column.unique and not column.is_text and not column.listed]

    @property
    def stem(self) -> set[str]:
        return set(re.findall(r"[a-z]+", self.file.lower()))


def propose(paths: Sequence[Path | str]) -> Proposal:
    """A schema for these files (or folders, or patterns): events, and items and people if they are among them.

    Raises SchemaError for a file that is not there, DataError where no columns look like a person and an item.
    """
    if not paths:
        raise SchemaError("no file was given; at least the one of the events was wanted.")
    folder = _common([Path(path).absolute() for path in paths])
    samples = [_sample(Path(path).absolute(), folder) for path in dict.fromkeys(map(Path, paths))]
    events, user, item, clashes = _events(samples)
    others = [sample for sample in samples if sample is not events]
    users = _side(others, user, item, USER)
    items = _side([one for one in others if users is None or one is not users[0]], item, user, ITEM)
    draft = _Draft(folder=folder)
    draft.comment(f"Proposed from {_counted(sum(sample.rows for sample in samples), 'row')} of {', '.join(s.file for s in samples)}.")
    draft.comment("Every line is a guess with its reason: look through them, and mend what is wrong.")
    draft.line(f"name = {_text(folder.name or 'log')}")
    rest = [one for one in others if (users is None or one is not users[0]) and (items is None or one is not items[0])]
    joins = [(sample, found) for sample in rest if (found := _join(sample, events, {user.name, item.name}))]
    _write_events(draft, events, user, item, clashes, joins)
    if items:
        _write_side(draft, "items", *items, item)
    if users:
        _write_side(draft, "users", *users, user)
    for sample in rest:
        if sample not in [joined for joined, _ in joins]:
            why = f"no column of it names what a column of {events.file} points to"
            draft.leave_out(sample.file, why)
    return Proposal(folder=folder, text="\n".join(draft.lines) + "\n", reasons=draft.reasons)


# What stands in the files


def _common(paths: Sequence[Path]) -> Path:
    """The folder that all the files are in."""
    fixed = [Path(*islice((part for part in _fixed(path).parts), len(path.parts) - 1)) if path.parts else path for path in paths]
    return Path(os.path.commonpath(fixed))


def _fixed(path: Path) -> Path:
    """The part of a pattern before its first wild card."""
    if path.exists():
        return path
    parts = []
    for part in path.parts:
        if any(letter in part for letter in "*?["):
            break
        parts.append(part)
    return Path(*parts)


def _sample(path: Path, folder: Path) -> _Sample:
    name = path.relative_to(folder).as_posix()
    source = find(Table(file=name), folder, "sample")
    files = [file for file, (size, _) in enumerate(source.sizes) if size] or [0]
    size = sum(size for size, _ in source.sizes)
    read = {"csv": _csv, "jsonl": _json, "parquet": _parquet}[source.form]
    try:
        columns, settings, notes = read(source, files)
    except (pa.ArrowException, *UNPACKING, UnicodeError) as fault:
        raise DataError(f"{name}: cannot be read ({(str(fault).splitlines() or [''])[0].rstrip('.')}).") from None
    rows = max((len(column.values) for column in columns), default=0)
    if not rows:
        raise DataError(f"{name}: there is no row in it.")
    return _Sample(file=name, form=source.form, columns=columns, rows=rows, size=size, settings=settings, notes=notes)


def _raw(source: Source, files: Sequence[int]) -> list[bytes]:
    """Lines from the beginning of the first file and from the end of the last one, without their ends."""
    first, last = source.files[files[0]], source.files[files[-1]]
    packed = PACKED.get(first.suffix.lower())
    with packed(first) if packed else first.open("rb") as file:
        head = list(islice(file, HEAD))
        whole = not file.read(1)
    if last != first:
        packed = PACKED.get(last.suffix.lower())
        with packed(last) if packed else last.open("rb") as file:
            more = list(islice(file, TAIL + 1))
        return _without_ends(head + (more[1:] if more[:1] == head[:1] else more))  # its header is no row
    if whole or packed:
        return _without_ends(head)
    with last.open("rb") as file:
        at = max(file.tell(), last.stat().st_size - BYTES, sum(map(len, head)))
        file.seek(at)
        tail = file.read().split(b"\n")[1:]  # its first line is cut
    return _without_ends([*head, *tail[-TAIL:]])


def _without_ends(lines: Sequence[bytes]) -> list[bytes]:
    return [line.rstrip(b"\r\n") for line in lines]


def _encoding(source: Source, lines: Sequence[bytes]) -> str:
    start = source.files[0]
    packed = PACKED.get(start.suffix.lower())
    with packed(start) if packed else start.open("rb") as file:
        mark = file.read(4)
    if mark[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    text = b"\n".join(lines)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte < 0xA0 for byte in text) and _decodes(text, "cp1252") else "latin-1"
    return "utf-8"


def _decodes(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _csv(source: Source, files: Sequence[int]) -> tuple[list[_Column], dict[str, Any], list[str]]:
    raw = _raw(source, files)
    encoding = _encoding(source, raw)
    if encoding == "utf-16":
        lines = b"\n".join(raw).decode("utf-16", errors="ignore").splitlines()
    else:
        lines = [line.decode(encoding) for line in raw]
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise DataError(f"{source.name}: there is no row in it.")
    lines[0] = lines[0].removeprefix(MARK)
    separator, quote, why = _separator(lines[:LOOKED_AT])
    quote = quote and _quote(lines, separator)
    cells = [_split(line, separator, quote) for line in lines]
    width = Counter(map(len, cells)).most_common(1)[0][0]
    cells = [row for row in cells if len(row) == width]
    header = _has_header(cells)
    names = [cell.strip() for cell in cells[0]] if header else [f"c{place}" for place in range(width)]
    rows = cells[1:] if header else cells
    tabs = all(".tsv" in path.name.lower() for path in source.files)
    settings: dict[str, Any] = {}
    notes = []
    if separator != ("\t" if tabs else ","):
        settings["separator"] = separator
        notes.append(f"separator: {why}")
    if not quote:
        settings["quote"] = ""
        notes.append("quote: quotation marks stand in the middle of values, so they mean nothing")
    if encoding != "utf-8":
        settings["encoding"] = encoding
        notes.append(f"encoding: it is no UTF-8 text, but {encoding} can read it; other encodings can too")
    if not header:
        settings["columns"] = names
        notes.append("columns: the first line looks like the others, so the columns have no names; give them better ones")
    once = Counter(names)
    columns = [
        _Column(name, [row[place] or None for row in rows]) for place, name in enumerate(names) if name and once[name] == 1
    ]  # others cannot be told apart
    return columns, settings, notes


def _split(line: str, separator: str, quote: str) -> list[str]:
    """The cells of a line; none where a quote is not closed in it."""
    if not quote or quote not in line or len(separator) > 1:
        return line.split(separator)
    cells, cell, inside = [], "", False
    for part in line.split(separator):
        cell = f"{cell}{separator}{part}" if inside else part
        inside = cell.startswith(quote) and cell.count(quote) % 2 == 1
        if not inside:
            cells.append(cell[1:-1].replace(quote * 2, quote) if cell[:1] == cell[-1:] == quote else cell)
    return [] if inside else cells


def _separator(lines: Sequence[str]) -> tuple[str, str, str]:
    """The separator, and the quote, that give most lines the same number of columns; and why."""
    best = (0.0, 0, ",", '"')
    for quote in ('"', ""):
        for separator in SEPARATORS:
            widths = Counter(len(_split(line, separator, quote)) for line in lines)
            width, times = widths.most_common(1)[0]
            share = times / len(lines)
            if width > 1 and share >= 0.8 and share > best[0] + (0.02 if best[1] else 0):
                best = (share, width, separator, quote)
    share, width, separator, quote = best
    return separator, quote, f"{_text(separator)} gives {width} columns in {share:.0%} of the lines"


def _quote(lines: Sequence[str], separator: str) -> str:
    """A quotation mark, or nothing where some begin a value and never end it."""
    width = Counter(len(_split(line, separator, '"')) for line in lines).most_common(1)[0][0]
    for line in lines:
        cells = line.split(separator)
        odd = any(cell.startswith('"') and (len(cell) < 2 or not cell.endswith('"')) for cell in cells)
        if odd and len(cells) == width:
            return ""
    return '"'


def _has_header(cells: Sequence[Sequence[str]]) -> bool:
    first, rest = cells[0], cells[1:]
    if any(not cell.strip() or _is_number(cell) or _is_iso(cell) for cell in first[: 1 + len(first) // 2]):
        return False
    if any(_is_number(cell) or len(cell) > 60 for cell in first) or len(set(first)) < len(first):
        return False
    if not rest:
        return True
    if any(all(_is_number(row[place]) for row in rest[:LOOKED_AT] if row[place]) for place in range(len(first))):
        return True  # over a column of numbers stands a word
    return not any(first[place] in {row[place] for row in rest} for place in range(len(first)))


def _json(source: Source, files: Sequence[int]) -> tuple[list[_Column], dict[str, Any], list[str]]:
    raw = _raw(source, files)
    encoding = _encoding(source, raw)
    text = b"\n".join(raw).decode(encoding, errors="replace").removeprefix(MARK)
    rows = []
    for line in text.split("\n"):
        try:
            value = json.loads(line, parse_float=str, parse_int=str)
        except ValueError:
            continue
        if isinstance(value, dict):
            rows.append(dict(_leaves(value)))
    if not rows:
        raise DataError(f"{source.name}: none of its first lines is a JSON object; one a line was wanted.")
    settings = {} if encoding == "utf-8" else {"encoding": encoding}
    return _columns(rows), settings, [f"encoding: it is no UTF-8 text, but {encoding} can read it"] if settings else []


def _leaves(value: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{under}{key}.")
        else:
            yield under + key, inner


def _parquet(source: Source, files: Sequence[int]) -> tuple[list[_Column], dict[str, Any], list[str]]:
    rows: list[dict[str, Any]] = []
    for file, most in {files[0]: HEAD, files[-1]: TAIL}.items() if len(files) > 1 else [(files[0], HEAD + TAIL)]:
        batches = pq.ParquetFile(source.files[file]).iter_batches(batch_size=most)
        rows += [dict(_leaves(row)) for batch in islice(batches, 1) for row in batch.to_pylist()]
    return _columns(rows), {}, []


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[_Column]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [_Column(name, [_cell(row.get(name)) for row in rows], any(isinstance(row.get(name), list) for row in rows)) for name in names]


def _cell(value: Any) -> str | None:
    """A value as the readers show it."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return json.dumps(value, default=str, ensure_ascii=False) if value else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value) or None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_iso(text: str) -> bool:
    text = text.strip()
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):  # the readers take no other form
        return False
    try:
        datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return False
    return True


# Which column is what


def _events(samples: Sequence[_Sample]) -> tuple[_Sample, _Column, _Column, list[str]]:
    """The sample that is of events, its columns of people and of items, and what else they might have been."""
    best: tuple[float, _Sample, _Column, _Column] | None = None
    for sample in samples:
        others = [other for other in samples if other is not sample]
        time = _time(sample)
        could = [column for column in sample.columns if _names_something(column) and column is not time]
        pairs = [
            (_fit(one, USER, ITEM, others) + _fit(two, ITEM, USER, others) - 0.01 * (at > to), one, two)
            for at, one in enumerate(could)
            for to, two in enumerate(could)
            if one is not two
        ]
        if not pairs:
            continue
        score, user, item = max(pairs, key=lambda pair: pair[0])
        score += (
            1.5 * (time is not None) + 0.5 * bool(sample.stem & set(EVENTS.split())) + 0.1 * (sample.size == max(s.size for s in samples))
        )
        if best is None or score > best[0]:
            best = (score, sample, user, item)
    if best is None:
        saw = "; ".join(f"{s.file} has {', '.join(f'{c.name} ({len(c.distinct):,} values)' for c in s.columns[:12])}" for s in samples)
        raise DataError(f"no two columns look like a person and an item, whose values stand in several rows. {saw}.")
    _, sample, user, item = best
    sure = user.named(USER) and item.named(ITEM)
    rest = [column for column in sample.columns if column not in (user, item, _time(sample)) and _names_something(column)]
    alike = [column.name for column in rest if not sure or column.named(USER) or column.named(ITEM)]
    return sample, user, item, alike


def _names_something(column: _Column) -> bool:
    """Whether its values could be ids that come again."""
    if len(column.distinct) < 2 or column.listed or column.is_text or len(column.filled) < len(column.values):
        return False
    if column.unique and len(column.values) > 50:
        return False
    numbers = column.numbers
    if numbers is None:
        return len(column.distinct) > 5 or column.named(USER) or column.named(ITEM)
    few = len(column.distinct) <= 11 and not (column.named(USER) or column.named(ITEM)) and len(column.values) > 50
    return all(number.is_integer() for number in numbers) and not few


def _fit(column: _Column, hints: str, against: str, others: Sequence[_Sample]) -> float:
    """How much a column looks like the one that `hints` are of."""
    named = 3.0 * column.named(hints) - 1.5 * (column.named(against) and not column.named(hints))
    named += 0.5 * (bool(column.words & {"id", "uid", "asin", "sku"})) - 1.0 * column.named("name session category type")
    found = [(len(column.distinct & key.distinct) / len(column.distinct), sample, key) for sample in others for key in sample.keys]
    share = max((share + 0.5 * (key.named(hints) or _is_of(sample, hints)) for share, sample, key in found), default=0.0)
    tight = max((share * len(column.distinct) / len(key.distinct) for share, _, key in found), default=0.0)
    again = 1 - len(column.distinct) / len(column.values)
    return named + share + 0.5 * tight + 0.5 * again


def _is_of(sample: _Sample, hints: str) -> bool:
    """Whether the name of a file says what it holds: "movies.dat"."""
    return bool({word for stem in sample.stem for word in (stem, stem.removesuffix("s"))} & set(hints.split()))


def _time(sample: _Sample) -> _Column | None:
    """The column that looks most like the time of a row."""

    def score(column: _Column) -> float:
        named = (
            2.0 * column.named(TIME) - 3.0 * bool(column.words & {"id"}) - 1.0 * bool(column.words & {"start", "birth", "release", "end"})
        )
        return named + len(column.distinct) / len(column.values) + (0.2 if column.unit != "iso" else 0)

    could = [column for column in sample.columns if column.unit and len(column.filled) == len(column.values) and score(column) > -1]
    return max(could, key=score, default=None)


def _side(others: Sequence[_Sample], column: _Column, other: _Column, hints: str) -> tuple[_Sample, _Column] | None:
    """The sample whose rows are what `column` points to, and its key."""
    best: tuple[float, _Sample, _Column] | None = None
    for sample in others:
        for place, key in enumerate(sample.keys):
            share = len(column.distinct & key.distinct) / len(column.distinct)
            rival = len(other.distinct & key.distinct) / len(other.distinct)
            known = "columns" not in sample.settings  # otherwise its columns have no names of their own
            named = (known and key.name.casefold() == column.name.casefold()) or key.named(hints) or _is_of(sample, hints)
            against = known and key.name.casefold() == other.name.casefold()
            score = share + named - 2 * against - 0.1 * place - (rival > share)
            if share >= 0.2 and score >= 0.5 and (best is None or score > best[0]):
                best = (score, sample, key)
    return None if best is None else best[1:]


def _join(sample: _Sample, events: _Sample, taken: set[str]) -> tuple[_Column, _Column] | None:
    """(column of the events, key) of a table that another column of the events points to."""
    found = [
        (len(column.distinct & key.distinct) / len(column.distinct), column, key)
        for column in events.columns
        for key in sample.keys
        if column.name not in taken and len(column.distinct) > 1 and (len(column.distinct) > FEW or column.name == key.name)
    ]
    share, column, key = max(found, key=lambda one: one[0], default=(0.0, None, None))
    return (column, key) if share >= 0.5 and column and key else None


# What is written


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """Lines of TOML, and the reasons beside them."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def line(self, text: str = "", place: str = "", why: str = "") -> None:
        """A line, with its reason as a comment."""
        self.lines.append(f"{text}  # {_flat(why)}" if why else text)
        if place and why:
            self.reasons[place] = why

    def comment(self, text: str) -> None:
        self.lines.append(f"# {_flat(text)}")

    def leave_out(self, name: str, why: str) -> None:
        self.comment(f"left out: {name}: {why}")
        self.reasons[name] = f"left out: {why}"


@dataclass(frozen=True, kw_only=True)
class _Fact:
    """How a column would be read."""

    kind: str | None  # None: it is left out
    why: str
    separator: str | None = None


def _flat(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _write_table(draft: _Draft, what: str, sample: _Sample) -> None:
    draft.line()
    draft.line(f"[{what}]")
    draft.line(f"file = {_text(sample.file)}")
    notes = {note.split(":", 1)[0]: note.split(": ", 1)[1] for note in sample.notes}
    for name, value in sample.settings.items():
        shown = f"[{', '.join(map(_text, value))}]" if isinstance(value, list) else _text(value)
        draft.line(f"{name} = {shown}", f"{what}.{name}", notes[name])


def _write_events(
    draft: _Draft,
    sample: _Sample,
    user: _Column,
    item: _Column,
    clashes: Sequence[str],
    joins: Sequence[tuple[_Sample, tuple[_Column, _Column]]],
) -> None:
    _write_table(draft, "events", sample)
    others = f"; it might be {' or '.join(map(repr, clashes))}" if clashes else ""
    for what, column, hints in (("user", user, USER), ("item", item, ITEM)):
        why = "by its name" if column.named(hints) else "by its place and how often values come again"
        counts = f"{len(column.distinct):,} values in {_counted(len(column.values), 'row')} of the sample"
        draft.line(f"{what} = {_text(column.name)}", f"events.{what}", f"{why}, {counts}{others}")
    time = _time(sample)
    _write_time(draft, sample, time)
    done = {user.name, item.name} | ({time.name} if time else set())
    label, chosen = _label(draft, sample, done)
    request = _request(sample, user, label, done) if label and chosen else None
    groups: dict[str, list[str]] = {"action": [], "context": [], "shown": []}
    left: list[tuple[str, str]] = []
    names: dict[str, set[str]] = {group: set() for group in groups}
    tables = [("", sample)] + [(_joined_name(joined), joined) for joined, _ in joins]
    keys = {(_joined_name(joined), key.name) for joined, (_, key) in joins}
    for prefix, table in tables:
        for column in table.columns:
            if not prefix and column.name in done | ({label} if chosen else set()) | ({request.name} if request else set()):
                continue
            if (prefix, column.name) in keys:
                continue
            whole = f"{prefix}.{column.name}" if prefix else column.name
            fact = _fact(column, of_events=True)
            if fact.kind is None:
                left.append((whole, fact.why))
                continue
            group, why = _group(column, request, prefix)
            if request and group == "action" and label:
                group, why = "shown", "of the item shown, as far as it can be told; what is known only afterwards is to be left out"
            name = _free(column.name, names[group], group)
            settings = [f"column = {_text(whole)}"] * (name != whole) + [f"kind = {_text(fact.kind)}"] * (fact.kind != "category")
            groups[group].append(f"{_key(name)} = {{ {', '.join(settings)} }}".replace("{  }", "{}"))
            draft.reasons[f"events.{group}.{name}"] = f"{fact.why}; {why}"
    for name, why in left:
        draft.leave_out(name, why)
    for joined, (column, key) in joins:
        _write_table(draft, f"events.joins.{_key(_joined_name(joined))}", joined)
        draft.line(f"on = {_text(column.name)}", f"events.joins.{_joined_name(joined)}.on", "its values are those of the key below")
        if key.name != column.name:
            draft.line(f"key = {_text(key.name)}")
    for group in ("action", "context"):
        _write_fields(draft, "events", group, groups[group])
    if request:
        draft.line()
        draft.line("[events.impressions]")
        why = f"rows of one value are of one person, {len(request.distinct):,} requests in the sample; the label says what was chosen"
        draft.line(f"request = {_text(request.name)}", "events.impressions.request", why)
        _write_fields(draft, "events.impressions", "shown", groups["shown"])


def _write_time(draft: _Draft, sample: _Sample, time: _Column | None) -> None:
    if time is None:
        why = "no column looks like a time, so the order of the rows is taken for one"
        draft.line('time = { unit = "rows" }', "events.time", why)
        return
    values = sorted(time.filled)
    span = f"{values[0]} to {values[-1]}"
    if time.numbers is not None:
        dates = (datetime.fromtimestamp(n * SECONDS[time.unit or "s"], tz=UTC).date() for n in (min(time.numbers), max(time.numbers)))
        span = " to ".join(map(str, dates))
    rivals = [column.name for column in sample.columns if column.unit and column is not time]
    more = f"; {' and '.join(map(repr, rivals))} look like times too" if rivals else ""
    draft.line(f"time = {{ column = {_text(time.name)}, unit = {_text(time.unit or 's')} }}", "events.time", f"{span} in this unit{more}")
    days = time.unit == "s" and time.numbers is not None and all(number % 86_400 == 0 for number in time.numbers)
    days = days or (time.unit == "iso" and all(len(value.strip()) == 10 for value in time.filled))
    moments = '["weekday"]' if days else '["hour", "weekday"]'
    draft.line(f"moment = {moments}", "events.moment", "times are whole days" if days else "derived from the time, in UTC; set events.zone")


def _label(draft: _Draft, sample: _Sample, done: set[str]) -> tuple[str | None, bool]:
    """Writes the label; returns its column, and whether it says which items were chosen and nothing more."""
    rest = [column for column in sample.columns if column.name not in done and column.filled and not column.listed]
    full = [column for column in rest if len(column.filled) == len(column.values)]
    for column in sorted(
        (c for c in full if c.named(CHOSEN)), key=lambda c: min(CHOSEN.split().index(w) for w in c.words & set(CHOSEN.split()))
    ):
        lower = {value.lower() for value in column.distinct}
        if column.numbers is not None and set(column.numbers) == {0.0, 1.0}:
            draft.line(f"label = {{ column = {_text(column.name)}, at_least = 1 }}", "events.label", "0 or 1 throughout, and by its name")
            return column.name, True
        if lower == {"true", "false"}:
            (yes,) = (value for value in column.distinct if value.lower() == "true")
            draft.line(
                f"label = {{ column = {_text(column.name)}, one_of = [{_text(yes)}] }}", "events.label", "true or false, and by its name"
            )
            return column.name, True
    rated = [column for column in full if _is_rating(column)]
    rated.sort(key=lambda column: not column.named(RATED))
    for column in rated:
        if column.numbers is None or not (column.named(RATED) or re.fullmatch(r"c\d+", column.name)):
            continue
        least, most = min(column.numbers), max(column.numbers)
        bound = 4.0 if most == 5 else 0.8 * most
        why = f"looks like ratings of {least:g} to {most:g}; choose which are good, or leave the line out: every row is then a positive"
        draft.line(f"label = {{ column = {_text(column.name)}, at_least = {bound:g} }}", "events.label", why)
        draft.comment(
            f"to predict its value: label = {{ column = {_text(column.name)}, at_least = {bound:g}, range = [{least:g}, {most:g}] }}"
        )
        return column.name, False
    for column in full:
        if column.numbers is None and column.named(BEHAVIOUR) and 1 < len(column.distinct) <= FEW:
            values = ", ".join(_text(value) for value, _ in Counter(column.filled).most_common())
            draft.comment(f"if only some of these are positives: label = {{ column = {_text(column.name)}, one_of = [{values}] }}")
            draft.reasons["events.label"] = f"none; column {column.name!r} looks like what people did, and may say which rows are positives"
            return None, False
    draft.comment("no label: every row is a positive")
    draft.reasons["events.label"] = "none: no column looks like one"
    return None, False


def _is_rating(column: _Column) -> bool:
    numbers = column.numbers
    if numbers is None or not 3 <= len(column.distinct) <= 21:
        return False
    return all((2 * number).is_integer() and 0 <= number <= 10 for number in numbers) and max(numbers) >= 3


def _request(sample: _Sample, user: _Column, label: str | None, done: set[str]) -> _Column | None:
    """The column that gathers the rows of what was shown at once."""
    for column in sample.columns:
        if column.name in done or column.name == label or not column.named(REQUEST) or len(column.filled) < len(column.values):
            continue
        people: dict[str, str | None] = {}
        one = all(people.setdefault(request, who) == who for request, who in zip(column.filled, user.values, strict=True))
        if one and 1 < len(column.distinct) < len(column.values):
            return column
    return None


def _group(column: _Column, request: _Column | None, prefix: str) -> tuple[str, str]:
    if request is not None:
        if prefix or _constant_within(column, request):
            return "context", "the same in all rows of a request"
        return "shown", "it differs within a request"
    if prefix or column.named(BEFORE):
        return "context", "known before the event" + ("" if prefix else ", by its name")
    return "action", "perhaps known only once the event happens; move it to context if it is known before"


def _constant_within(column: _Column, request: _Column) -> bool:
    first: dict[str | None, str | None] = {}
    return all(first.setdefault(at, value) == value for at, value in zip(request.values, column.values, strict=True))


def _fact(column: _Column, of_events: bool) -> _Fact:
    """The kind of a column of facts, or why it is none."""
    filled, distinct = column.filled, column.distinct
    if len(distinct) < 2:
        return _Fact(kind=None, why="it is empty" if not distinct else f"it is {min(distinct)[:40]!r} in every row")
    if column.listed or not column.numbers:
        several = _several(column)
        if several:
            return replace(several, kind=None, why=f"{several.why}, which only items have") if of_events else several
    if column.unit and not column.named("year"):
        return _Fact(kind=None, why=f"it looks like a time, in unit {column.unit!r}")
    if column.listed:
        return _Fact(kind=None, why="lists of no one kind")
    if of_events and column.named(USER):
        return _Fact(kind=None, why="it seems to name the person again")
    if of_events and column.named(TIME) and len(distinct) > FEW and column.numbers is None:
        return _Fact(kind=None, why="it is named like a time, but is neither a number nor ISO 8601 text")
    share = len(distinct) / len(filled)
    if column.numbers is not None:
        whole = all(number.is_integer() for number in column.numbers)
        is_id = bool(column.words & {"id", "uid"}) and len(distinct) > FEW
        if is_id and of_events:
            return _Fact(kind=None, why=f"it names something else, in {len(distinct):,} values")
        if is_id or (whole and (len(distinct) <= FEW or (column.named(BEFORE) and share < MANY))):
            return _Fact(kind="category", why=f"{len(distinct):,} whole numbers: kinds rather than amounts")
        return (
            _Fact(kind="number", why="every value is a number") if _fits(column.numbers) else _Fact(kind=None, why="numbers beyond 32 bits")
        )
    if column.is_text:
        return _Fact(kind=None, why="it is text to read")
    if share > MANY and len(filled) > 20:
        return _Fact(kind=None, why=f"{len(distinct):,} values in {_counted(len(filled), 'row')}: nearly one each")
    return _Fact(kind="category", why=f"{len(distinct):,} values")


def _fits(numbers: Sequence[float]) -> bool:
    return all(abs(number) < 3e38 for number in numbers)


def _several(column: _Column) -> _Fact | None:
    """Several values in a cell: lists, or texts with separators in them."""
    if column.listed:
        try:
            lists = [json.loads(value) for value in column.filled]
        except ValueError:
            return None
        flat = [one for values in lists if isinstance(values, list) for one in values]
        if any(isinstance(one, dict | list) for one in flat):
            return None
        if all(_is_number(str(one)) for one in flat) and len({len(values) for values in lists}) == 1 and len(lists[0]) > 3:
            return _Fact(kind="vector", why=f"lists of {len(lists[0])} numbers")
        return _Fact(kind="categories", why="lists of values")
    for separator in ("|", ";", ",", " "):
        if separator == "," and any(re.search(r"\d,\d{3}\b", value) for value in column.filled[:1000]):
            continue  # thousands
        cells = [value.split(separator) for value in column.filled]
        with_it = sum(len(cell) > 1 for cell in cells) / len(cells)
        if with_it < 0.2:
            continue
        numeric = all(_is_number(part) for cell in cells[:1000] for part in cell if part.strip(" []"))
        if numeric and len({len(cell) for cell in cells}) == 1 and len(cells[0]) > 3 and any("." in value for value in column.filled):
            return _Fact(kind="vector", why=f"{len(cells[0])} numbers a cell")
        if separator in ", " and not numeric and (separator == " " or any(part.startswith(" ") for cell in cells for part in cell[1:])):
            continue  # words of a sentence
        kinds = {part.strip() for cell in cells for part in cell}
        total = sum(map(len, cells))
        if len(kinds) <= MANY * total:
            return _Fact(kind="categories", why=f"{len(kinds):,} values, several a cell", separator=separator)
    return None


def _write_side(draft: _Draft, what: str, sample: _Sample, key: _Column, of: _Column) -> None:
    _write_table(draft, what, sample)
    share = len(of.distinct & key.distinct) / len(of.distinct)
    draft.line(f"key = {_text(key.name)}", f"{what}.key", f"a value a row, and {share:.0%} of the events' {of.name!r} are among them")
    title = _title(sample, key) if what == "items" else None
    if title:
        draft.line(f"title = {_text(title.name)}", "items.title", "by its name" if title.named(TITLE) else "short texts, nearly one a row")
    fields, names = [], set[str]()
    for column in sample.columns:
        if column is key or column is title:
            continue
        fact = _fact(column, of_events=False)
        if fact.kind is None or (fact.kind in ("categories", "vector") and what == "users"):
            draft.leave_out(f"{sample.file} {column.name}", fact.why)
            continue
        name = _free(column.name, names, what)
        settings = [f"column = {_text(column.name)}"] * (name != column.name)
        settings += [f"kind = {_text(fact.kind)}"] * (fact.kind != "category")
        settings += [f"separator = {_text(fact.separator)}"] if fact.separator not in (None, "|") else []
        fields.append(f"{_key(name)} = {{ {', '.join(settings)} }}".replace("{  }", "{}"))
        draft.reasons[f"{what}.fields.{name}"] = fact.why
    _write_fields(draft, what, "fields", fields)


def _title(sample: _Sample, key: _Column) -> _Column | None:
    def is_title(column: _Column) -> bool:
        text = column is not key and column.filled and column.numbers is None and not column.listed
        return bool(text) and not any("://" in value for value in column.filled[:50]) and len(column.distinct) > MANY * len(column.filled)

    could = [column for column in sample.columns if is_title(column)]
    named = [column for column in could if column.named(TITLE)]
    bare = [column for column in could if re.fullmatch(r"c\d+", column.name) and not _several(column)]
    return next(iter(named + bare), None)


def _write_fields(draft: _Draft, what: str, group: str, fields: Sequence[str]) -> None:
    if not fields:
        return
    draft.line()
    draft.line(f"[{what}.{group}]")
    for text in fields:
        name = text.split(" = ", 1)[0].strip('"')
        draft.line(
            text, f"{what}.{group}.{name}", draft.reasons.get(f"{what}.{group}.{name}") or draft.reasons.get(f"events.{group}.{name}", "")
        )


def _free(column: str, taken: set[str], group: str) -> str:
    """A field's name for a column: no dot, no name of a moment, none that is taken."""
    name = column.replace(".", "_")
    while name.casefold() in taken or (group == "context" and name in MOMENTS):
        name += "_"
    taken.add(name.casefold())
    return name


def _joined_name(sample: _Sample) -> str:
    """What a joined table is called: the first word of its file's name."""
    found: Callable[[str], re.Match[str] | None] = re.compile(r"[A-Za-z_]+").search
    match = found(Path(sample.file).name)
    return match.group() if match else "other"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    """A text as TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _counted(rows: int, noun: str) -> str:
    return f"{rows:,} {noun}{'' if rows == 1 else 's'}"
