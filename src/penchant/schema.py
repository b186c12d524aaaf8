"""What the columns of a log mean: who, what, when, and what else is known of each.

A schema is a TOML file beside the raw files (or a dict):

    name = "films"

    [events]                                      # one row an event: somebody did something with an item
    file = "events.csv"
    user = "user_id"
    item = "item_id"
    time = { column = "timestamp", unit = "s" }
    label = { column = "rating", at_least = 4 }   # left out: every row is a positive
    moment = ["hour", "weekday"]                  # derived from the time of a request, in UTC
    action = { rating = {} }                      # known once the event happened: seen in the past only
    context = { device = {} }                     # known before: of the moment of a request

    [items]                                       # one row an item
    file = "items.csv"
    key = "item_id"
    title = "title"
    fields = { genre = { kind = "categories" }, year = { kind = "number" } }

    [users]                                       # one row a person
    file = "users.csv"
    key = "user_id"
    fields = { gender = {}, age = { kind = "number" } }
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field as Limits
from pydantic import model_validator

from penchant.config import Config, read
from penchant.errors import SchemaError

MOMENTS = {"hour": 24, "weekday": 7}  # how many values each derived context has

Tie = Literal["order", "strict"]  # a past holds what came before in (time, source row), or only events of earlier times


class Field(Config):
    """One fact: a category, several categories, or a number."""

    column: str | None = None  # None: the field's own name
    kind: Literal["category", "categories", "number"] = "category"
    separator: str = Limits("|", min_length=1)  # between the values of "categories"
    most: int = Limits(8, ge=1)  # values of "categories" that are kept, the first ones


class Table(Config):
    """Rows of a delimited text file."""

    file: str
    separator: str = Limits(",", min_length=1, max_length=4)
    columns: tuple[str, ...] | None = None  # the names, when the file has no header line
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


class Time(Config):
    """When: a column of whole numbers since 1970-01-01 UTC."""

    column: str = "time"
    unit: Literal["s", "ms", "us"] = "s"


class Label(Config):
    """An event is a positive when its column is at least this."""

    column: str
    at_least: float = Limits(allow_inf_nan=False)


class Events(Table):
    """One row an event."""

    user: str = "user"
    item: str = "item"
    time: Time = Time()
    label: Label | None = None  # None: every row is a positive
    past: Literal["all", "positive"] = "all"  # which events make up a past
    moment: tuple[Literal["hour", "weekday"], ...] = ()
    action: dict[str, Field] = {}
    context: dict[str, Field] = {}


class Items(Table):
    """One row an item."""

    key: str = "item"
    title: str | None = None
    fields: dict[str, Field] = {}


class Users(Table):
    """One row a person."""

    key: str = "user"
    fields: dict[str, Field] = {}


class Schema(Config):
    """All that is known of a log's columns."""

    name: str
    events: Events
    items: Items | None = None
    users: Users | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        for group, name, field in self.fields():
            if field.kind == "categories" and group != "item":
                raise ValueError(f"{group} field {name!r} has kind 'categories', which only items have; use 'category' or 'number'.")
        seen: dict[tuple[str, str], str] = {}
        for group, name, _ in self.fields():
            other = seen.setdefault((group, name.casefold()), name)
            if other != name:
                raise ValueError(f"{group} fields {other!r} and {name!r} differ in case only; name one of them otherwise.")
        for name in self.events.context:
            if name in MOMENTS:
                raise ValueError(f"context field {name!r} has the name of a derived moment; name it otherwise.")
        if self.events.past == "positive" and self.events.label is None:
            raise ValueError("events.past is 'positive', but without events.label every event is; leave it out.")
        return self

    def fields(self) -> Iterator[tuple[str, str, Field]]:
        """(group, name, field) of every declared field, groups being item, user, action and context."""
        yield from (("item", n, f) for n, f in (self.items.fields if self.items else {}).items())
        yield from (("user", n, f) for n, f in (self.users.fields if self.users else {}).items())
        yield from (("action", n, f) for n, f in self.events.action.items())
        yield from (("context", n, f) for n, f in self.events.context.items())

    def named(self, group: str, *kinds: str) -> tuple[str, ...]:
        """The fields of a group that are of one of `kinds`, in their declared order."""
        return tuple(name for g, name, field in self.fields() if g == group and field.kind in kinds)


def read_schema(path: Path | str) -> Schema:
    """The schema in a TOML file. Raises SchemaError."""
    return read(Schema, path, where=f"schema {Path(path).name}", error=SchemaError)
