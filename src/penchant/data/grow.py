"""An Encoding that has grown: what a trained one knows, and what a Log has further.

    old ids and values    stay where they stand, in their order, so that whatever is made of their numbers keeps its meaning
    new ones              follow them, where they have training rows
    numbers               are scaled as they were: another scale would change what weights mean
    attributes of items   are the Log's, where it knows any
    popularity counts     are the Log's

Which items have a row of their own in the tables of ids is then no longer the same as which are in the catalogue: `admit` keeps rare ones
out, `expire_days` lets go of those that are gone, and `tail` gives all of these a few shared rows in place of UNKNOWN's
(`Catalogue.slot`). People have no tail: without a row of their own they are UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field as Limits
from pydantic import field_validator

from penchant.config import Config
from penchant.data.fit import catalogue_of, fit_encoding
from penchant.data.log import Log
from penchant.data.split import moment
from penchant.encoding import NEVER, Bools, Catalogue, Encoding, Ints, Vocabulary, bucket_of
from penchant.errors import ConfigError
from penchant.schema import Schema

DAY = 86_400_000  # milliseconds


class GrowConfig(Config):
    """Which bundle a run continues, and what becomes of new ids and of those that are gone."""

    bundle: str  # folder of the bundle
    admit: int = Limits(1, ge=1)  # training events that a new person or item needs to get a row of its own
    expire_days: float | None = Limits(None, gt=0, allow_inf_nan=False)  # without a training event: the row goes; None: it never does
    tail: int = Limits(0, ge=0)  # rows that items without one of their own share, by a hash of their id; 0: they are UNKNOWN
    since: str | int | None = None  # examples are events from then on: ISO 8601, or unix milliseconds; None: after the bundle's latest

    @field_validator("since", mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """TOML and flags have dates and times of their own."""
        return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What became of the ids or values of one kind."""

    kept: int  # had a row of their own, and have it
    new: int  # got one
    without: int  # have none: of items all others of the catalogue, of people and values all others of the Log
    expired: int  # lost it


def grow_encoding(
    old: Encoding, log: Log, train: Ints, config: GrowConfig, fixed: Sequence[str] = ()
) -> tuple[Encoding, Mapping[str, Grown]]:
    """The encoding of a Log that continues an old one, and what became of "items", "people" and the values of each field.

    train: int64 positions in the Log. fixed: fields that get no new values. Seen means in a training event, for what stands in the past
    of one trains too; what the Log has no training event of was seen when it begins, at the latest.
    Raises ConfigError where the Log's fields are not those of the old encoding, and for times that it does not have.
    """
    refuse_other_fields(old, log.schema, log)
    if config.expire_days is not None and log.schema.events.time.unit == "rows":
        raise ConfigError(f"grow.expire_days is {config.expire_days:g}, but {log.folder} knows the order of its rows alone.")
    fitted = fit_encoding(log, train)
    vocabularies = {
        name: there if name in fixed else _appended(there, fitted.vocabularies[name].values) for name, there in old.vocabularies.items()
    }
    time = np.asarray(log.events["time"])[train]
    first, cut = int(time.min()), int(NEVER) if config.expire_days is None else int(time.max() - config.expire_days * DAY)
    seen = _Seen(time=time, first=first, cut=cut)
    users, people = _people(old.users, log, seen, train, config)
    catalogue, items = _items(old, log, vocabularies, seen, train, config)
    values = {
        name: Grown(
            kept=old.vocabularies[name].size - 1,
            new=there.size - old.vocabularies[name].size,
            without=int((there.encode(log.values[name]) == 0).sum()),
            expired=0,
        )
        for name, there in vocabularies.items()
    }
    grown = replace(old, schema=log.schema, users=users, catalogue=catalogue, vocabularies=vocabularies)
    return grown, {"items": items, "people": people, **values}


def first_example(log: Log, config: GrowConfig, latest: int | None) -> int:
    """Unix milliseconds, from when on events are examples. latest: of the bundle's training events; None: it does not say."""
    if config.since is None:
        if log.schema.events.time.unit == "rows":
            raise ConfigError(f"grow.since: {log.folder} knows the order of its rows alone, so nothing says which are new; 0 takes all.")
        if latest is None:
            raise ConfigError(
                f"grow.since: {config.bundle} does not say until when it was trained; give the moment that it is to go on from."
            )
        return latest + 1
    return config.since if isinstance(config.since, int) else moment(config.since, log.schema.events.zone, said="grow.since")


def refuse_other_fields(old: Encoding, schema: Schema, log: Log) -> None:
    """Raises ConfigError where a Log of this schema has other fields than an encoding, with their names."""
    mine, theirs = (_fields(one) for one in (old.schema, schema))
    told = [
        *(f"without {name}" for name in mine if name not in theirs),
        *(f"with {name}, which is new" for name in theirs if name not in mine),
        *(f"with {name} as {theirs[name]}, not {kind}" for name, kind in mine.items() if theirs.get(name, kind) != kind),
    ]
    if not told and list(mine) != list(theirs):
        told = [f"with its fields in another order: {', '.join(theirs)}, not {', '.join(mine)}"]
    width = dict(zip(old.schema.named("item", "vector"), (values.shape[1] for values in old.catalogue.vector), strict=True))
    for name, wanted in width.items() if not told else ():
        has = log.items.column(f"item.{name}").type.list_size
        told += [f"with item.{name} of {has} numbers, not {wanted}"] if has != wanted else []
    if told:
        raise ConfigError(f"grow: {log.folder} cannot continue the bundle, which it is {'; '.join(told)}.")


def _fields(schema: Schema) -> dict[str, str]:
    """The fields of a schema, derived moments among them, in the order that tables have, with their kinds."""
    found = {f"context.{name}": "a derived moment" for name in schema.events.moment}
    for group, name, field in schema.fields():
        found[f"{group}.{name}"] = f"{field.kind}{f' of at most {field.most}' if field.kind == 'categories' else ''}"
    return found


@dataclass(frozen=True, eq=False)
class _Seen:
    """When what was last seen."""

    time: Ints  # of the training events
    first: int  # of all of them
    cut: int  # who was seen before this only is gone

    def last(self, index: Ints, size: int) -> Ints:
        """int64 [size], the latest of the training events that are of each; `first` where none is."""
        found = np.full(size, self.first)
        np.maximum.at(found, index, self.time)
        return found


def _appended(old: Vocabulary, values: pa.StringArray) -> Vocabulary:
    fresh = values.filter(pa.array(old.encode(values) == 0))
    return Vocabulary(pa.concat_arrays([old.values, fresh])) if len(fresh) else old


def _people(old: Vocabulary, log: Log, seen: _Seen, train: Ints, config: GrowConfig) -> tuple[Vocabulary, Grown]:
    ids, user = log.users.column("id"), log.user_of(train)
    count, last = np.bincount(user, minlength=len(ids)), seen.last(user, len(ids))
    place = old.encode(ids)
    there = np.full(old.size, seen.first)
    there[place] = last  # what place 0 gets is of nobody
    kept = there[1:] >= seen.cut
    fresh = (place == 0) & (count >= config.admit) & (last >= seen.cut)
    users = Vocabulary(pa.concat_arrays([old.values.filter(pa.array(kept)), ids.filter(pa.array(fresh))]))
    without = int(((place == 0) & ~fresh).sum())
    return users, Grown(kept=int(kept.sum()), new=int(fresh.sum()), without=without, expired=int((~kept).sum()))


def _items(
    old: Encoding, log: Log, vocabularies: Mapping[str, Vocabulary], seen: _Seen, train: Ints, config: GrowConfig
) -> tuple[Catalogue, Grown]:
    item = np.asarray(log.events["item"])[train]
    size = len(log.items)
    rows, count = np.bincount(item, minlength=size), np.bincount(item[log.positive[train]], minlength=size).astype(np.int64)
    mine = catalogue_of(log, vocabularies, old.scales, rows > 0, count)
    catalogue, row = _merged(old.catalogue, mine)
    had = np.zeros(catalogue.size, dtype=bool)
    had[: old.catalogue.size] = old.catalogue.own
    last = np.full(catalogue.size, seen.first)
    last[row] = seen.last(item, size)
    trained = np.zeros(catalogue.size, dtype=np.int64)
    trained[row] = rows
    own = (had | (trained >= config.admit)) & (last >= seen.cut)
    own[0] = False
    if config.tail or config.admit > 1 or config.expire_days is not None or old.catalogue.slot is not None:
        catalogue = replace(catalogue, slot=_slots(catalogue.items, own, config.tail), tail=config.tail)
    grown = Grown(
        kept=int((had & own).sum()),
        new=int((~had & own).sum()),
        without=int((~had & ~own)[1:].sum()),
        expired=int((had & ~own).sum()),
    )
    return replace(catalogue, known=own | (trained > 0)), grown


def _slots(items: Vocabulary, own: Bools, tail: int) -> Ints:
    """Catalogue.slot: what is shared comes first, so that more rows move none of it."""
    shared = np.zeros(len(own), dtype=np.int64)
    if tail:
        shared[1:] = 1 + bucket_of(items.values, tail)
    mine = shared.copy()
    mine[own] = 1 + tail + np.arange(int(own.sum()))
    return np.stack([shared, mine], axis=1)


def _merged(old: Catalogue, mine: Catalogue) -> tuple[Catalogue, Ints]:
    """The old catalogue, then what only the Log has; and int64 [I], the row of each item of the Log.

    Of an item in both the Log's attributes count, unless it knows none.
    """
    place = old.items.encode(mine.items.values)
    fresh = np.flatnonzero(place == 0)
    row = place.copy()
    row[fresh] = old.size + np.arange(len(fresh))
    told = np.flatnonzero((place > 0) & said(mine)[1:])

    def both(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        merged = np.concatenate([one, other[1 + fresh]])
        merged[place[told]] = other[1 + told]
        return merged

    before, now = np.array(old.title, dtype=object), np.array(mine.title, dtype=object)
    title = np.concatenate([before, now[1 + fresh]])
    named = np.flatnonzero((place > 0) & (now[1:] != None))  # noqa: E711
    title[place[named]] = now[1 + named]
    count = np.zeros(old.size + len(fresh), dtype=np.int64)
    count[row] = mine.count[1:]
    catalogue = Catalogue(
        items=Vocabulary(pa.concat_arrays([old.items.values, mine.items.values.take(pa.array(fresh))])),
        title=tuple(title.tolist()),
        known=np.zeros(len(count), dtype=bool),
        count=count,
        code=both(old.code, mine.code),
        many=tuple(both(one, other) for one, other in zip(old.many, mine.many, strict=True)),
        length=both(old.length, mine.length),
        number=both(old.number, mine.number),
        vector=tuple(both(one, other) for one, other in zip(old.vector, mine.vector, strict=True)),
    )
    return catalogue, row


def said(catalogue: Catalogue) -> Bools:
    """bool [V], of which items any attribute is known."""
    found = (catalogue.code > 0).any(1) | (catalogue.number[:, 1::2] == 0).any(1)
    for values in catalogue.many:
        found |= (values > 0).any(1)
    for vectors in catalogue.vector:
        found |= ~np.isnan(vectors[:, 0])
    return np.asarray(found)
