"""Writing a set as a folder of plain files, the same that anybody's own log would have, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import tomli_w

from penchant.errors import DataError, DiskError, ExistsError
from penchant.schema import Schema

EVENTS = ("user_id", "item_id", "rating", "timestamp")
ITEMS = ("item_id", "title", "year", "genres")
USERS = ("user_id", "age", "gender", "occupation")

Row = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The rows of a set, each iterable read once, each row with a value for every column of its table."""

    events: Iterable[Row]  # EVENTS, in the order of the original: it breaks the ties of equal times
    items: Iterable[Row]  # ITEMS
    users: Iterable[Row]  # USERS


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much a set holds."""

    events: int
    items: int  # rows of the table of items
    users: int  # rows of the table of users
    seen_items: int  # distinct items of the events
    active_users: int  # distinct users of the events


def refuse_existing(folder: Path) -> None:
    """Raises ExistsError when anything lies at `folder`."""
    if os.path.lexists(folder):
        raise ExistsError(f"{folder}: there is something here already. Remove it, or name a folder that does not exist.")


def write(folder: Path, tables: Tables, schema: Schema, source: Mapping[str, Any], wanted: Counts) -> None:
    """The tables, schema.toml and source.json in a new `folder`.

    Raises DataError when the counts are not those wanted, ExistsError when the folder exists, DiskError when it cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        draft.mkdir(parents=True)
        counts = _write_tables(draft, tables)
        _check(schema.name, counts, wanted)
        (draft / "schema.toml").write_text(_toml(schema), encoding="utf-8")
        (draft / "source.json").write_text(json.dumps({**source, "counts": asdict(counts)}, indent=2) + "\n", encoding="utf-8")
        refuse_existing(folder)
        draft.rename(folder)
    except OSError as fault:
        raise DiskError(f"{folder}: this folder cannot be written: {fault.strerror or fault}.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_tables(folder: Path, tables: Tables) -> Counts:
    users: set[str] = set()
    items: set[str] = set()
    return Counts(
        events=_write_csv(folder / "events.csv", EVENTS, _noting(tables.events, users, items)),
        items=_write_csv(folder / "items.csv", ITEMS, tables.items),
        users=_write_csv(folder / "users.csv", USERS, tables.users),
        seen_items=len(items),
        active_users=len(users),
    )


def _noting(events: Iterable[Row], users: set[str], items: set[str]) -> Iterator[Row]:
    for row in events:
        users.add(row[0])
        items.add(row[1])
        yield row


def _write_csv(path: Path, columns: Row, rows: Iterable[Row]) -> int:
    """How many rows were written, the header aside."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row)
            written += 1
    return written


def _check(name: str, counts: Counts, wanted: Counts) -> None:
    pairs = [(fact.replace("_", " "), wish, getattr(counts, fact)) for fact, wish in asdict(wanted).items()]
    wrong = [f"{got:,} {fact} came, {wish:,} were wanted" for fact, wish, got in pairs if got != wish]
    if wrong:
        raise DataError(f"{name}: {'; '.join(wrong)}.")


def _toml(schema: Schema) -> str:
    """Only what the schema says itself, so that it reads as one written by hand."""
    return tomli_w.dumps(schema.model_dump(mode="json", exclude_unset=True))
