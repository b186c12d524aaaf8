"""The Encoding of a Log, fitted on the rows that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from penchant.data.log import Log
from penchant.encoding import Bools, Catalogue, Encoding, Floats, Ints, Scale, Vocabulary
from penchant.errors import DataError
from penchant.schema import Schema


def fit_encoding(log: Log, train: Ints) -> Encoding:
    """Vocabularies and scales of what stands in the training rows; the catalogue holds every item of the Log.

    train: int64 positions in the Log. A value that only other rows have is UNKNOWN: no test id is in a vocabulary.
    """
    item = np.asarray(log.events["item"])[train]
    rows_of = np.bincount(item, minlength=len(log.items))
    count = np.bincount(item[log.positive[train]], minlength=len(log.items)).astype(np.int64)
    users = np.unique(log.user_of(train))
    rows: dict[str, Ints] = {"item": np.flatnonzero(rows_of), "user": users, "action": train, "context": train, "shown": train}
    vocabularies, scales = {}, {}
    for group, name, field in log.schema.fields():
        column = _column(log, group, name)
        if column is None:
            continue
        if field.kind == "number":
            scales[f"{group}.{name}"] = _scale(np.asarray(column)[rows[group]])
        elif field.kind == "vector":
            scales[f"{group}.{name}"] = _scale(_vectors(column)[rows[group]].reshape(-1))
        else:
            taken = column.take(pa.array(rows[group])) if field.kind == "categories" else None
            places = np.unique(np.asarray(column)[rows[group]] if taken is None else taken.flatten().to_numpy())
            vocabularies[f"{group}.{name}"] = Vocabulary(log.values[f"{group}.{name}"].take(pa.array(places[places > 0] - 1)))
    return Encoding(
        schema=log.schema,
        users=Vocabulary(log.users.column("id").take(pa.array(users))),
        catalogue=catalogue_of(log, vocabularies, scales, rows_of > 0, count),
        vocabularies=vocabularies,
        scales=scales,
    )


def remap(log: Log, vocabularies: Mapping[str, Vocabulary], name: str) -> Ints:
    """int64, the id of each place in the Log's values of a field; place 0 is absent, so UNKNOWN."""
    return np.concatenate([[0], vocabularies[name].encode(log.values[name])]).astype(np.int64)


def refuse_other_kinds(log: Log, schema: Schema) -> None:
    """Raises DataError for a field that the Log has as another kind than `schema`, the encoding's."""
    there = {(group, name): field.kind for group, name, field in log.schema.fields()}
    for group, name, field in schema.fields():
        if there.get((group, name), field.kind) != field.kind:
            raise DataError(f"{log.folder}: {group} field {name!r} is of kind {there[group, name]!r} here; {field.kind!r} was wanted.")


def attributes(
    log: Log, group: str, schema: Schema, vocabularies: Mapping[str, Vocabulary], scales: Mapping[str, Scale]
) -> tuple[Ints, Floats]:
    """The categorical ids [n, F] and numbers [n, 2 B] of all people ("user") or all items ("item") of a Log.

    schema: the encoding's, which need not be the Log's; a field that the Log does not have is UNKNOWN, or missing.
    """
    table = log.users if group == "user" else log.items
    rows, there = len(table), {name for g, name, _ in log.schema.fields() if g == group}
    codes = [
        remap(log, vocabularies, f"{group}.{n}")[table.column(f"{group}.{n}").to_numpy()] if n in there else np.zeros(rows, np.int64)
        for n in schema.named(group, "category")
    ]
    numbers = [
        scales[f"{group}.{n}"].encode(table.column(f"{group}.{n}").to_numpy() if n in there else np.full(rows, np.nan))
        for n in schema.named(group, "number")
    ]
    return (
        np.stack(codes, axis=1) if codes else np.zeros((rows, 0), np.int64),
        np.concatenate(numbers, axis=1) if numbers else np.zeros((rows, 0), np.float32),
    )


def catalogue_of(log: Log, vocabularies: Mapping[str, Vocabulary], scales: Mapping[str, Scale], known: Bools, count: Ints) -> Catalogue:
    """Every item of the Log, as these vocabularies and scales encode it; known and count are [I], of its items."""
    code, number = attributes(log, "item", log.schema, vocabularies, scales)
    many, length = [], []
    for group, name, field in log.schema.fields():
        if group == "item" and field.kind == "categories":
            values, lengths = _many(log, remap(log, vocabularies, f"item.{name}"), f"item.{name}", field.most)
            many.append(_with_unknown(values))
            length.append(_with_unknown(lengths, fill=1))
    missing = np.tile(np.array([0, 1], np.float32), number.shape[1] // 2)[None]
    titles = log.items.column("title").to_pylist() if "title" in log.items.schema.names else [None] * len(log.items)
    return Catalogue(
        items=Vocabulary(log.items.column("id")),
        title=(None, *titles),
        known=_with_unknown(known),
        count=_with_unknown(count),
        code=_with_unknown(code),
        many=tuple(many),
        length=np.stack(length, axis=1) if length else np.zeros((len(count) + 1, 0), np.int64),
        number=np.concatenate([missing, number]),
        vector=tuple(_all_vectors(log, scales)),
    )


def _all_vectors(log: Log, scales: Mapping[str, Scale]) -> Iterator[Floats]:
    """Each vector attribute [V, W] of all items, standardised, UNKNOWN's first."""
    for name in log.schema.named("item", "vector"):
        values = scales[f"item.{name}"].centred(_vectors(log.items.column(f"item.{name}")))
        yield np.concatenate([np.full((1, values.shape[1]), np.nan, np.float32), values])


def _vectors(column: pa.FixedSizeListArray) -> Floats:
    """float32 [n, W], NaN throughout where there is none."""
    values: Floats = column.values.to_numpy().reshape(-1, column.type.list_size)[column.offset : column.offset + len(column)]
    return values


def _many(log: Log, ids: Ints, name: str, most: int) -> tuple[Ints, Ints]:
    """The ids [n, most] of a several-valued attribute, filled up with 0, and how many there are, at least one."""
    column = log.items.column(name)
    offset = column.offsets.to_numpy().astype(np.int64)
    length = np.diff(offset)
    row = np.repeat(np.arange(len(length)), length)
    values = np.zeros((len(length), most), dtype=np.int64)
    values[row, np.arange(len(row)) - (offset[:-1] - offset[0])[row]] = ids[column.flatten().to_numpy()]
    return values, np.maximum(length, 1)


def _with_unknown(column: NDArray[Any], fill: int = 0) -> NDArray[Any]:
    return np.concatenate([np.full((1, *column.shape[1:]), fill, column.dtype), column])


def _scale(values: NDArray[Any]) -> Scale:
    there = values[~np.isnan(values)].astype(np.float64)
    deviation = float(there.std()) if len(there) else 0.0
    return Scale(mean=float(there.mean()) if len(there) else 0.0, deviation=deviation if deviation > 0 else 1.0)


def _column(log: Log, group: str, name: str) -> Any:
    if group in ("action", "context", "shown"):
        return log.events[f"{group}.{name}"]
    return (log.users if group == "user" else log.items).column(f"{group}.{name}")


def with_items_of(encoding: Encoding, log: Log) -> Encoding:
    """The encoding with the Log's items that it does not know appended to its catalogue; itself when there are none."""
    refuse_other_kinds(log, encoding.schema)
    ids = log.items.column("id")
    new = np.flatnonzero(encoding.catalogue.items.encode(ids) == 0)
    if not len(new):
        return encoding
    fields = [(name, field) for group, name, field in encoding.schema.fields() if group == "item"]
    there = set(log.items.schema.names)
    rows: list[dict[str, Any]] = []
    for place in new:
        row = {"id": ids[place].as_py(), "title": log.items.column("title")[place].as_py() if "title" in there else None}
        rows.append(row | {n: _raw(log, f"item.{n}", int(place), f.kind) for n, f in fields if f"item.{n}" in there})
    return encoding.with_items(rows)


def _raw(log: Log, name: str, place: int, kind: str) -> Any:
    stored = log.items.column(name)[place].as_py()
    if kind == "number":
        return None if stored != stored else stored
    if kind == "vector":
        return None if stored[0] != stored[0] else stored
    if kind == "category":
        return log.values[name][stored - 1].as_py() if stored else None
    return [log.values[name][one - 1].as_py() for one in stored]
