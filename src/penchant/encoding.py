"""How raw values become ids: the schema, the vocabularies and the catalogue.

The same Encoding works in training, evaluation and serving, and travels with the weights; nothing else encodes.

* Raw ids and category values are text. In every vocabulary id 0 is UNKNOWN: what was absent, or never seen in training.
* A number is standardised by its training rows and has an indicator beside it: (value, 0.0), or (0.0, 1.0) when missing.
* The catalogue holds every known item, row 0 being an item of which nothing is known. An item without training rows
  keeps its row and its attributes; `known` is False, which means that its id embedding is UNKNOWN's.
* Once a catalogue has grown, not every row of it need have a row in the tables of ids: `slot` then says which one it looks up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from penchant.errors import DataError, nearest
from penchant.schema import FALSE, MOMENTS, TRUE, Field, Schema, Sessions

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

FARTHEST = 1e6  # deviations from the mean
EARLIEST, LATEST = 31_536_000_000, 4_102_444_800_000  # unix milliseconds: the years 1971 to 2100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GREATEST = float(np.finfo(np.float32).max)
NEVER = np.iinfo(np.int64).min  # when somebody was first seen, if that is not known
QUARTER = 900_000  # milliseconds
BRACKETS = str.maketrans("[](){},;|", " " * 9)
MANY = 4096  # from here on a columnar look-up is quicker than a dict
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Text values and their ids. Id 0 is UNKNOWN; `values` are those of ids 1, 2, ..."""

    values: pa.StringArray

    @property
    def size(self) -> int:
        """How many ids, UNKNOWN included."""
        return len(self.values) + 1

    @cached_property
    def _id(self) -> dict[str, int]:
        return {value: place + 1 for place, value in enumerate(self.values.to_pylist())}

    def encode(self, raw: Sequence[Any] | pa.Array) -> Ints:
        """int64 ids of raw values; 0 for what is None or unknown."""
        if len(raw) < MANY:
            values = raw.to_pylist() if isinstance(raw, pa.Array) else raw
            return np.array([0 if v is None else self._known(v) for v in values], dtype=np.int64)
        if isinstance(raw, pa.Array):
            column = raw.cast(pa.string())
        else:
            column = pa.array([None if value is None else text(value) for value in raw], pa.string())
        found = pc.index_in(column, value_set=self.values, skip_nulls=True)
        ids: Ints = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        if not isinstance(raw, pa.Array):
            for place in map(int, np.flatnonzero(ids == 0)):
                ids[place] = 0 if raw[place] is None else self._known(raw[place])
        return ids

    def _known(self, value: Any) -> int:
        """The id of a value; a number or truth that a file wrote in another way ("5.0", "true") is found too."""
        found = self._id.get(text(value), 0)
        if found or isinstance(value, str):
            return found
        if isinstance(value, bool | np.bool_):
            return self._id.get(str(bool(value)).lower(), 0) or self._id.get(str(int(value)), 0)
        if isinstance(value, int | float | np.integer | np.floating):
            return self._id.get(str(float(value)), 0)
        return 0

    def decode(self, ids: Ints) -> list[str | None]:
        """The raw value of each id; None for UNKNOWN."""
        return [None if i == 0 else self.values[int(i) - 1].as_py() for i in ids]


@dataclass(frozen=True)
class Scale:
    """How a numeric field is standardised."""

    mean: float
    deviation: float  # > 0

    def encode(self, raw: NDArray[Any]) -> Floats:
        """float32 [n, 2]: the standardised number, at most FARTHEST deviations off, and whether it is missing (NaN)."""
        missing, raw = np.isnan(raw), raw.astype(np.float64)
        with np.errstate(over="ignore"):
            value = np.where(missing, 0.0, np.clip((raw - self.mean) / self.deviation, -FARTHEST, FARTHEST))
        return np.stack([value, missing], axis=-1).astype(np.float32)

    def centred(self, raw: NDArray[Any]) -> Floats:
        """float32 of the same shape: standardised, NaN staying NaN."""
        with np.errstate(over="ignore"):
            return np.clip((raw.astype(np.float64) - self.mean) / self.deviation, -FARTHEST, FARTHEST).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What is known of V items; row 0 is UNKNOWN."""

    items: Vocabulary  # raw ids of rows 1, 2, ...
    title: tuple[str | None, ...]  # [V]
    known: Bools  # [V]          has training rows, so that its id embedding means something
    count: Ints  # [V]          positive training rows of each item
    code: Ints  # [V, F]       single-valued categories
    many: tuple[Ints, ...]  # each [V, W]  several-valued categories, filled up with 0 beyond `length`
    length: Ints  # [V, G]       values of each several-valued category, at least one (UNKNOWN)
    number: Floats  # [V, 2 B]
    vector: tuple[Floats, ...] = ()  # each [V, W]  standardised; NaN throughout where an item has none
    slot: Ints | None = (
        None  # [V, 2]  the row of tables of ids that each looks up: treated as not known, and as known; None: 0, and its own
    )
    tail: int = 0  # rows 1 .. tail of tables of ids are shared, by a hash of the id, by those that have none of their own

    @property
    def size(self) -> int:
        return self.items.size

    @property
    def ids(self) -> int:
        """How many rows a table of ids has."""
        return self.size if self.slot is None else 1 + self.tail + int(self.own.sum())

    @property
    def own(self) -> Bools:
        """bool [V], which have a row of tables of ids that nobody shares."""
        return self.known if self.slot is None else self.slot[:, 1] > self.tail


@dataclass(frozen=True, eq=False)
class Encoding:
    """A schema with its vocabularies and its catalogue."""

    schema: Schema
    users: Vocabulary
    catalogue: Catalogue
    vocabularies: Mapping[str, Vocabulary]  # "item.genre", "user.gender", "action.rating", "context.device"
    scales: Mapping[str, Scale]  # "item.year", ...

    def same_ids(self, other: Encoding) -> bool:
        """Whether every id means the same in both."""
        mine, theirs = self._texts, other._texts
        one, two = (held.catalogue.slot for held in (self, other))
        same_slots = one is two if one is None or two is None else np.array_equal(one, two)
        return same_slots and mine.keys() == theirs.keys() and all(mine[name].equals(theirs[name]) for name in mine)

    @property
    def _texts(self) -> dict[str, pa.StringArray]:
        found = {"users": self.users, "items": self.catalogue.items, **self.vocabularies}
        return {name: vocabulary.values for name, vocabulary in found.items()}

    def sizes(self, group: str) -> tuple[int, ...]:
        """How many ids each categorical field of a group has, in the order of its columns; for "user" without the user's own id."""
        derived = tuple(1 + MOMENTS[name] for name in self.schema.events.moment) if group == "context" else ()
        return derived + tuple(self.vocabularies[f"{group}.{name}"].size for name in self.schema.named(group, "category"))

    def named(self, group: str) -> tuple[str, ...]:
        """The names of these fields: "context.hour", "context.device"."""
        derived = self.schema.events.moment if group == "context" else ()
        return tuple(f"{group}.{name}" for name in (*derived, *self.schema.named(group, "category")))

    def numbers(self, *groups: str) -> int:
        """How many numeric columns these groups have: two a field."""
        return 2 * sum(len(self.schema.named(group, "number")) for group in groups)

    def codes(self, group: str, raw: Mapping[str, Sequence[Any]], rows: int) -> Ints:
        """int64 [rows, F] of the categorical fields declared for a group; a field not given is UNKNOWN."""
        names = self.schema.named(group, "category")
        out = np.zeros((rows, len(names)), dtype=np.int64)
        for place, name in enumerate(names):
            if name in raw:
                out[:, place] = self.vocabularies[f"{group}.{name}"].encode(raw[name])
        return out

    def scaled(self, group: str, raw: Mapping[str, Sequence[Any]], rows: int) -> Floats:
        """float32 [rows, 2 B] of the numeric fields declared for a group; a field not given is missing."""
        columns = [self._scaled(f"{group}.{name}", raw.get(name, [None] * rows)) for name in self.schema.named(group, "number")]
        return np.concatenate(columns, axis=1) if columns else np.zeros((rows, 0), dtype=np.float32)

    def _scaled(self, name: str, raw: Sequence[Any]) -> Floats:
        try:
            values = np.array([np.nan if value is None else float(value) for value in raw], dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise _no_number(name, raw) from None
        if (np.abs(values) > GREATEST).any():
            raise _no_number(name, raw)
        return self.scales[name].encode(values.astype(np.float32))  # what a Log holds, so that the two encode to the same bits

    def moment(self, time: Ints, first: Ints | None = None) -> Ints:
        """int64 [n, moments] of times in unix milliseconds, as the schema asks; 0 is UNKNOWN, as in every field.

        first: when each person was first seen, NEVER where that is not known.
        """
        first = np.full(len(time), NEVER) if first is None else first
        out = np.empty((len(time), len(self.schema.events.moment)), dtype=np.int64)
        local = local_milliseconds(time, self.schema.events.zone) if len(out.T) else time
        for place, name in enumerate(self.schema.events.moment):
            out[:, place] = DERIVED[name](local, time, first)
        return out

    def sessions(self, raw: Sequence[Any]) -> Ints | None:
        """int64 [n], as a Log has it: of one person's events, what each says of its session as numbers that grow where one begins.

        raw: the name of each event's session, or whether it begins one, as the schema asks; None where the schema has neither.
        """
        rule = self.schema.events.session
        if rule.column is None:
            return None
        names: dict[str, int] = {"": 0}  # of no session that is named
        said = [_truth(value) if rule.begins is not None else names.setdefault(_name(value), len(names)) for value in raw]
        return np.cumsum(begun(np.array(said, dtype=np.int64), rule))

    def items(self, raw: Mapping[str, Sequence[Any]], rows: int) -> tuple[Ints, tuple[Ints, ...], Ints, Floats, tuple[Floats, ...]]:
        """The attributes of items as the catalogue's `code`, `many`, `length`, `number`, `vector`."""
        return (self.codes("item", raw, rows), *self._many(raw, rows), self.scaled("item", raw, rows), self._vectors(raw, rows))

    def _vectors(self, raw: Mapping[str, Sequence[Any]], rows: int) -> tuple[Floats, ...]:
        found = []
        for name, there in zip(self.schema.named("item", "vector"), self.catalogue.vector, strict=True):
            values = np.full((rows, there.shape[1]), np.nan, dtype=np.float32)
            for row, given in enumerate(raw.get(name, ())):
                if not _is_nothing(given):
                    values[row] = self.scales[f"item.{name}"].centred(vector_of(given, there.shape[1], f"item.{name}"))
            found.append(values)
        return tuple(found)

    def _many(self, raw: Mapping[str, Sequence[Any]], rows: int) -> tuple[tuple[Ints, ...], Ints]:
        fields = {name: f for group, name, f in self.schema.fields() if group == "item" and f.kind == "categories"}
        many, length = [], np.ones((rows, len(fields)), dtype=np.int64)
        for place, (name, declared) in enumerate(fields.items()):
            values = np.zeros((rows, declared.most), dtype=np.int64)
            for row, listed in enumerate(raw.get(name, ())):
                words = words_of(listed, declared) if isinstance(listed, str) else _listed(listed)
                ids = self.vocabularies[f"item.{name}"].encode(words[: declared.most])
                values[row, : len(ids)], length[row, place] = ids, max(len(ids), 1)
            many.append(values)
        return tuple(many), length

    def with_items(self, items: Sequence[Mapping[str, Any]]) -> Encoding:
        """The same encoding with new items appended to the catalogue: {"id": ..., "title": ..., "genre": [...], ...} each.

        They have no training rows: they live on their attributes. Several values are a list, or a text with the field's separator.
        Raises DataError for an item that is already there or has no id, and for a field that the schema does not have.
        """
        ids, old = self._ids_of(items, "new"), self.catalogue
        there = [raw for raw in ids if old.items.encode([raw])[0]]
        if there:
            raise DataError(f"item {there[0]!r} is already in the catalogue ({len(there)} of {len(ids)} are); only new items can be added.")
        _refuse_twice(ids, "new items; each is added once")
        code, many, length, number, vector = self.items(self._raw(items), len(items))
        added, texts = len(items), pa.array(ids, pa.string())
        shared = np.zeros((added, 2), np.int64) if not old.tail else np.tile(1 + bucket_of(texts, old.tail)[:, None], 2)
        catalogue = Catalogue(
            items=Vocabulary(pa.concat_arrays([old.items.values, texts])),
            title=old.title + tuple(item.get("title") for item in items),
            known=np.concatenate([old.known, np.zeros(added, bool)]),
            count=np.concatenate([old.count, np.zeros(added, np.int64)]),
            code=np.concatenate([old.code, code]),
            many=tuple(np.concatenate(pair) for pair in zip(old.many, many, strict=True)),
            length=np.concatenate([old.length, length]),
            number=np.concatenate([old.number, number]),
            vector=tuple(np.concatenate(pair) for pair in zip(old.vector, vector, strict=True)),
            slot=None if old.slot is None else np.concatenate([old.slot, shared]),
            tail=old.tail,
        )
        return replace(self, catalogue=catalogue)

    def with_changes(self, items: Sequence[Mapping[str, Any]]) -> Encoding:
        """The same encoding with other attributes of items of the catalogue: {"id": ..., "price": 5} each; what is not given stays.

        None, an empty list or an empty text means that nothing is known of it any more. Raises DataError for an item that is not there or
        has no id, and for a field that the schema does not have.
        """
        ids, old = self._ids_of(items, "changed"), self.catalogue
        row = old.items.encode(ids)
        if (row == 0).any():
            missing = [raw for raw, at in zip(ids, row, strict=True) if not at]
            raise DataError(
                f"item {missing[0]!r} is not in the catalogue ({len(missing)} of {len(ids)} are not); only its items can be changed."
            )
        _refuse_twice(ids, "changed items; each is changed once")
        code, many, length, number, vector = self.items(self._raw(items), len(items))
        title = np.array(old.title, dtype=object)
        title[row] = [item.get("title", was) for item, was in zip(items, title[row], strict=True)]
        made = replace(
            old,
            title=tuple(title.tolist()),
            code=old.code.copy(),
            many=tuple(values.copy() for values in old.many),
            length=old.length.copy(),
            number=old.number.copy(),
            vector=tuple(vectors.copy() for vectors in old.vector),
        )
        for kind in ("category", "categories", "number", "vector"):
            for place, name in enumerate(self.schema.named("item", kind)):
                given = np.array([name in item for item in items], dtype=bool)
                mine = row[given]
                if kind == "category":
                    made.code[mine, place] = code[given, place]
                elif kind == "categories":
                    made.many[place][mine], made.length[mine, place] = many[place][given], length[given, place]
                elif kind == "number":
                    made.number[mine, 2 * place : 2 * place + 2] = number[given, 2 * place : 2 * place + 2]
                else:
                    made.vector[place][mine] = vector[place][given]
        return replace(self, catalogue=made)

    def _ids_of(self, items: Sequence[Mapping[str, Any]], what: str) -> list[str]:
        """The ids of raw items that name nothing but fields of the schema. Raises DataError."""
        fields = ["id", "title", *(name for group, name, _ in self.schema.fields() if group == "item")]
        for item in items:
            if item.get("id") in (None, ""):
                raise DataError(f"a {what} item has no id: {dict(item)!r}.")
            for name in item:
                if name not in fields:
                    has = f"they have {', '.join(fields)}.{nearest(name, fields)}"
                    raise DataError(f"{what} item {text(item['id'])!r}: {name!r} is no field of items; {has}")
        return [text(item["id"]) for item in items]

    def _raw(self, items: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Raw items as columns."""
        return {name: [item.get(name) for item in items] for group, name, _ in self.schema.fields() if group == "item"}


def _refuse_twice(ids: Sequence[str], among: str) -> None:
    twice = [raw for raw, times in Counter(ids).items() if times > 1]
    if twice:
        raise DataError(f"item {twice[0]!r} stands more than once among the {among}.")


def bucket_of(ids: pa.StringArray, buckets: int) -> Ints:
    """int64 [n] in [0, buckets), by a hash of each text alone: the same in every process and for ever.

    The sum over its bytes of mix(256 * place + byte), mixed again with their number, in 64 bits without a sign; then the remainder.
    """
    length = np.asarray(pc.binary_length(ids).fill_null(0)).astype(np.int64)
    stored = b"".join(pc.cast(ids, pa.binary()).fill_null(b"").to_pylist())
    end = np.cumsum(length)
    place = np.arange(len(stored)) - np.repeat(end - length, length)
    with np.errstate(over="ignore"):
        each = mix((256 * place + np.frombuffer(stored, np.uint8)).astype(np.uint64) + GOLDEN)
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(each, dtype=np.uint64)])
        found = mix(running[end] - running[end - length] + length.astype(np.uint64))
    return np.asarray(found % np.uint64(buckets)).astype(np.int64)


def mix(state: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), of uint64; products wrap."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def begun(said: Ints, sessions: Sessions, before: int | None = None) -> Bools:
    """bool [n], where sessions begin by what a column says of events that follow each other: a session's code, or whether one begins.

    before: what it says of the event before these; None: there is none.
    """
    new: Bools
    if sessions.begins is not None:
        new = said != 0
    else:
        new = np.ones(len(said), dtype=bool)
        new[1:] = said[1:] != said[:-1]
        new[:1] = said[:1] != before
    if before is None:
        new[:1] = True
    return new


def _name(raw: Any) -> str:
    """The name of a session; "" where none is named."""
    name = "" if raw is None else text(raw)
    return name if name.strip(" ") else ""


def _truth(raw: Any) -> bool:
    """Whether a value says true. Raises DataError for what says neither true nor false."""
    word = _name(raw).strip(" ").lower()
    if word and word not in TRUE + FALSE:
        raise DataError(f"an event's session is {raw!r}; whether one begins there was wanted: {', '.join(TRUE + FALSE)}, or nothing.")
    return word in TRUE


def text(value: Any) -> str:
    """A raw id or category value as the text that vocabularies hold: 5, 5.0 and "5" are the same."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value)


def _listed(value: Any) -> list[Any]:
    """Several values, one, or none, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, Iterable) else [value]


def words_of(cell: str, field: Field) -> list[str]:
    """The values of a several-valued category that stand in one cell: a JSON list, or texts between separators."""
    if cell.startswith("["):
        try:
            return [one for value in json.loads(cell) if value is not None and (one := text(value).strip())]
        except (ValueError, TypeError):
            pass  # a text that begins with a bracket
    return [word for part in cell.split(field.separator) if (word := part.strip())]


def milliseconds(time: int | datetime) -> int:
    """Unix milliseconds of a datetime (UTC where it names no zone), or of what is that already.

    Raises DataError for what is neither, or outside the years that a log may have.
    """
    if isinstance(time, datetime):
        value = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
    elif isinstance(time, int | np.integer):
        value = int(time)
    else:
        raise DataError(f"a time is {time!r}; unix milliseconds or a datetime was wanted.")
    if not EARLIEST <= value < LATEST:
        hint = " It looks like seconds: multiply by 1000." if EARLIEST <= value * 1000 < LATEST else ""
        raise DataError(f"a time is {time!r}, outside the years 1971 to 2100 in unix milliseconds.{hint}")
    return value


def _is_nothing(raw: Any) -> bool:
    """Whether a vector is not given: None, an empty text, an empty list."""
    return raw is None or (not raw.strip(" []") if isinstance(raw, str) else isinstance(raw, list | tuple) and not raw)


def vector_of(raw: Any, width: int, name: str) -> Floats:
    """float32 [width] of a sequence of numbers, or of a text such as "0.5 1 -2" or "[0.5, 1, -2]". Raises DataError."""
    values = raw.translate(BRACKETS).split() if isinstance(raw, str) else raw
    try:
        with np.errstate(over="ignore"):
            vector = np.array([float(value) for value in values], dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{name} is {shorten(repr(raw))}; a vector of {width} numbers, or nothing, was wanted.") from None
    if vector.shape != (width,):
        raise DataError(f"{name} is a vector of {len(vector)} numbers; {width} were wanted.")
    if not np.isfinite(vector).all():
        raise DataError(f"{name} holds {vector[~np.isfinite(vector)][0]} among its {width} numbers; finite ones of 32 bits were wanted.")
    return vector


def shorten(text: str) -> str:
    """At most 80 characters, for messages."""
    return text if len(text) <= 80 else f"{text[:76]} ..."


def local_milliseconds(time: Ints, zone: str) -> Ints:
    """int64 [n], what a clock on the wall of `zone` shows at these unix milliseconds, written as if it were UTC."""
    if zone == "UTC":
        return time
    quarter, place = np.unique(time // QUARTER, return_inverse=True)  # no zone changes its clocks but at a quarter of an hour
    there = ZoneInfo(zone)
    offset = [datetime.fromtimestamp(int(q) * QUARTER // 1000, tz=there).utcoffset() for q in quarter]
    shift = np.array([0 if one is None else one // timedelta(milliseconds=1) for one in offset], dtype=np.int64)
    return time + shift[place]


def _month(local: Ints) -> Ints:
    return local.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64) % 12


def _tenure(time: Ints, first: Ints) -> Ints:
    days = np.maximum(time - first, 0) // 86_400_000
    bucket = np.minimum(np.log2(days + 1).astype(np.int64), MOMENTS["tenure"] - 1)
    return np.where(first == NEVER, 0, 1 + bucket)


# The ids of derived contexts: local time, unix time and first seen, all int64 [n] in milliseconds -> int64 [n]. Monday is 1.
DERIVED: Mapping[str, Callable[[Ints, Ints, Ints], Ints]] = {
    "hour": lambda local, time, first: 1 + local // 3_600_000 % 24,
    "weekday": lambda local, time, first: 1 + (local // 86_400_000 + 3) % 7,
    "month": lambda local, time, first: 1 + _month(local),
    "tenure": lambda local, time, first: _tenure(time, first),
}


def _no_number(name: str, raw: Sequence[Any]) -> DataError:
    bad = next(value for value in raw if not _is_number(value))
    return DataError(f"{name} is {bad!r}; a number, or nothing, was wanted.")


def _is_number(value: Any) -> bool:
    try:
        return not abs(float(0.0 if value is None else value)) > GREATEST
    except (TypeError, ValueError, OverflowError):
        return False
