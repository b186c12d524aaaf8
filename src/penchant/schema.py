"""What the columns of a log mean: who, what, when, and what else is known of each.

A schema is a TOML file beside the raw files (or a dict):

    name = "shop"

    [events]                                      # one row an event: somebody did something with an item
    file = "clicks/*.csv.gz"                      # a file, a folder or a pattern: CSV, TSV, JSON lines or Parquet
    user = "user_id"
    item = "item_id"
    time = { column = "at", unit = "ms" }         # s, ms, us, iso (text), or rows: the order of the rows is all that is known
    label = { column = "action", one_of = ["buy"] }   # or at_least = 4; left out: every row is a positive
    moment = ["hour", "weekday"]                  # derived from the time of a request, in events.zone
    action = { action = {} }                      # known once the event happened: seen in the past only
    context = { device = {}, place = { column = "session.place" } }     # known before: of the moment of a request

    [events.joins.session]                        # one row a session, looked up by a column of the events
    file = "sessions.parquet"
    on = "session_id"

    [events.session]                              # any of these begins a session; left out: a gap of more than 30 minutes
    minutes = 30                                  # a longer gap than this to the event before
    change = "genre"                              # another value of this item field than that of the event before
    id = "session_id"                             # another value of this column; or begins: a column that says true where one begins

    [events.impressions]                          # the rows are what requests showed, clicked or not
    request = "request_id"                        # left out: rows of one person and time are one request
    shown = { position = {}, price = { kind = "number" } }              # of showing this item then

    [items]                                       # one row an item
    file = "items.csv"
    key = "item_id"
    title = "title"
    fields = { genre = {}, tags = { kind = "categories" }, year = { kind = "number" }, text = { kind = "vector" } }

    [users]                                       # one row a person
    file = "users.csv"
    key = "user_id"
    fields = { gender = {}, age = { kind = "number" } }
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, model_validator
from pydantic import Field as Limits

from penchant.config import Config, read
from penchant.errors import ConfigError, SchemaError, nearest

# How many values each derived context has. Tenure: 0, 1, 2 to 3, 4 to 7, ... days since a person's first event.
MOMENTS = {"hour": 24, "weekday": 7, "month": 12, "tenure": 14}
Moment = Literal["hour", "weekday", "month", "tenure"]

GAP = 30.0  # minutes: what begins a session where nothing else is said to
TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no")  # what a column says that tells where sessions begin

Tie = Literal["order", "strict"]  # a past holds what came before in (time, source row), or only events of earlier times
Group = Literal["item", "user", "action", "context", "shown"]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("a time zone such as 'UTC' or 'Europe/Berlin' was wanted") from None
    except KeyError:
        raise ValueError("no such time zone is known here; one such as 'UTC' or 'Europe/Berlin' was wanted") from None
    return name


class Field(Config):
    """One fact: a category, several categories, a number, or a vector."""

    column: str | None = None  # None: the field's own name
    kind: Literal["category", "categories", "number", "vector"] = "category"
    separator: str = Limits("|", min_length=1)  # between the values of "categories", where they are no JSON list
    most: int = Limits(8, ge=1)  # values of "categories" that are kept, the first ones


class Table(Config):
    """Rows of one or several files of one form."""

    file: str  # a file, a folder (all files in it), or a pattern such as "clicks/*.csv.gz"; several are read in the order of their names
    format: Literal["csv", "jsonl", "parquet"] | None = None  # None: by the name's ending
    separator: str | None = Limits(None, min_length=1, max_length=4)  # of columns; None: a tab for .tsv, else a comma
    quote: str = Limits('"', max_length=1)  # around texts that hold separators; "" where quotes mean nothing
    columns: tuple[str, ...] | None = None  # the names, when the files have no header line
    encoding: str = "utf-8"  # any that Python knows


class Join(Table):
    """Rows that events point to; a field reads one of their columns as `column = "NAME.COLUMN"`."""

    on: str  # the column of the events
    key: str | None = None  # the column here; None: of the same name


class Time(Config):
    """When something happened."""

    column: str = "time"
    unit: Literal["s", "ms", "us", "iso", "rows"] = "s"  # since 1970-01-01 UTC; ISO 8601 text; or the order of the rows alone


class Label(Config):
    """Which events are positives: by a threshold, or by the values that say so."""

    column: str
    at_least: float | None = Limits(None, allow_inf_nan=False)
    one_of: tuple[str, ...] = ()
    range: tuple[float, float] | None = None  # least and most of the column, for models that predict its value, scaled to 0 .. 1

    @model_validator(mode="after")
    def _consistent(self) -> Label:
        if (self.at_least is None) == (not self.one_of):
            raise ValueError("a label needs either at_least (a number) or one_of (a list of values); exactly one of them was wanted")
        if self.range is not None and self.at_least is None:
            raise ValueError("label.range scales numbers; it goes with at_least")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"label.range is {list(self.range)}; [least, most] was wanted")
        return self


class Impressions(Config):
    """The rows are what requests showed: those of one request have one person, moment and past."""

    request: str | None = None  # the column that names a request; None: rows of one person and time are one
    shown: dict[str, Field] = {}  # facts of showing an item then: its position, its price


class Sessions(Config):
    """Where one sitting ends and the next begins: whatever is given here begins one. Nothing given: a gap of more than 30 minutes."""

    minutes: float | None = Limits(None, gt=0, allow_inf_nan=False)  # a longer gap to the event before; None: gaps begin none
    change: str | None = None  # an item field of one category: another value than that of the event before
    id: str | None = None  # a column that names the session: another value than in the event before
    begins: str | None = None  # a column that says true where a session begins

    @model_validator(mode="after")
    def _consistent(self) -> Sessions:
        if self.id is not None and self.begins is not None:
            raise ValueError("id and begins both name a column that says where sessions begin; one of them was wanted")
        return self

    @property
    def column(self) -> str | None:
        """The column of the events that says where sessions begin, if there is one."""
        return self.begins if self.id is None else self.id


class Events(Table):
    """One row an event, or one row an item shown."""

    user: str = "user"
    item: str = "item"
    time: Time = Time()
    zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"  # of times that name none, and of hours and weekdays
    label: Label | None = None  # None: every row is a positive
    past: Literal["all", "positive"] | None = None  # which events make up a past; None: all, or the positives among impressions
    moment: tuple[Moment, ...] = ()
    action: dict[str, Field] = {}
    context: dict[str, Field] = {}
    weight: str | None = None  # a column of sample weights
    split: str | None = None  # a column that says train, valid or test
    duplicates: Literal["keep", "drop"] = "keep"  # rows of the same person, item and time as an earlier one (and the same label)
    joins: dict[str, Join] = {}
    session: Sessions = Sessions()
    impressions: Impressions | None = None

    @property
    def session_minutes(self) -> float | None:
        """The longest gap within a session, the default being understood; None: gaps begin none."""
        unsaid = self.session == Sessions() and self.time.unit != "rows"
        return GAP if unsaid else self.session.minutes

    @property
    def past_is_positive(self) -> bool:
        """Whether a past holds positives only."""
        return (self.past or ("positive" if self.impressions else "all")) == "positive"


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
        events = self.events
        for group, name, field in self.fields():
            if field.kind in ("categories", "vector") and group != "item":
                raise ValueError(f"{group} field {name!r} has kind {field.kind!r}, which only items have; use 'category' or 'number'.")
        seen: dict[tuple[str, str], str] = {}
        for group, name, _ in self.fields():
            other = seen.setdefault((group, name.casefold()), name)
            if other != name:
                raise ValueError(f"{group} fields {other!r} and {name!r} differ in case only; name one of them otherwise.")
        for name in events.context:
            if name in MOMENTS:
                raise ValueError(f"context field {name!r} has the name of a derived moment; name it otherwise.")
        if events.past == "positive" and events.label is None:
            raise ValueError("events.past is 'positive', but without events.label every event is; leave it out.")
        if events.impressions and events.label is None:
            raise ValueError("events.impressions needs events.label: which of the items shown were chosen.")
        if events.impressions and events.past == "all":
            raise ValueError("events.past is 'all', but an item that was only shown is nothing that a person did; leave it out.")
        if events.time.unit == "rows" and events.moment:
            raise ValueError(f"events.moment asks for {events.moment[0]!r}, but with events.time.unit 'rows' no time is known.")
        if events.time.unit == "rows" and events.impressions and not events.impressions.request:
            raise ValueError("events.impressions needs a request column, because with events.time.unit 'rows' no time is known.")
        if fault := self._fault_of(events.session, "events.session"):
            raise ValueError(fault)
        return self

    def _fault_of(self, sessions: Sessions, said: str) -> str | None:
        """What sessions ask for that this schema does not have."""
        if sessions.minutes is not None and self.events.time.unit == "rows":
            return f"{said}.minutes is {sessions.minutes:g}, but with events.time.unit 'rows' no time is known."
        there = self.named("item", "category")
        if sessions.change is not None and sessions.change not in there:
            has = ", ".join(there) or "none"
            return (
                f"{said}.change is {sessions.change!r}, no item field of kind 'category'; there is {has}.{nearest(sessions.change, there)}"
            )
        return None

    def with_sessions(self, sessions: Sessions, *, where: str) -> Schema:
        """This schema with other sessions in place of its own, such as a Log that was prepared by this one can have.

        where: how messages name who asks. Raises ConfigError for a column that this schema does not have sessions by, which a Log
        would have to be prepared for, and for what contradicts its other keys.
        """
        own = self.events.session
        columns = {"id": (sessions.id, own.id), "begins": (sessions.begins, own.begins)}
        has = ", ".join(f"{key} = {there!r}" for key, (_, there) in columns.items() if there is not None) or "no such column"
        for key, (asked, there) in columns.items():
            if asked is not None and asked != there:
                raise ConfigError(
                    f"{where}: sessions.{key} is {asked!r}, but the Log was prepared with {has} in events.session: prepare it anew."
                )
        if fault := self._fault_of(sessions, "sessions"):
            raise ConfigError(f"{where}: {fault}")
        return self.model_copy(update={"events": self.events.model_copy(update={"session": sessions})})

    def fields(self) -> Iterator[tuple[Group, str, Field]]:
        """(group, name, field) of every declared field, groups being item, user, action, context and shown."""
        shown = self.events.impressions.shown if self.events.impressions else {}
        groups: dict[Group, dict[str, Field]] = {
            "item": self.items.fields if self.items else {},
            "user": self.users.fields if self.users else {},
            "action": self.events.action,
            "context": self.events.context,
            "shown": shown,
        }
        yield from ((group, name, field) for group, fields in groups.items() for name, field in fields.items())

    def named(self, group: str, *kinds: str) -> tuple[str, ...]:
        """The fields of a group that are of one of `kinds`, in their declared order."""
        return tuple(name for g, name, field in self.fields() if g == group and field.kind in kinds)


def read_schema(path: Path | str) -> Schema:
    """The schema in a TOML file. Raises SchemaError."""
    return read(Schema, path, where=f"schema {Path(path).name}", error=SchemaError)
