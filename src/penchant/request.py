"""A request in raw values: what a shop knows of a person and a moment, before anything is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that somebody did."""

    item: str | int
    time: int | datetime  # unix milliseconds, or a moment (UTC where it names no zone)
    action: Mapping[str, Any] = field(default_factory=dict)  # what else is known of it, by the schema's names: {"rating": 5}
    session: str | int | bool | None = (
        None  # its session's name, or whether one began with it or since the event before it, as the schema asks
    )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One person, one moment, one past. Whatever is left out is unknown, and scored as such."""

    time: int | datetime  # the moment: hour and weekday are read off it
    user: str | int | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)  # by the schema's names: {"gender": "F", "age": 31}
    past: Sequence[Event] = ()  # in any order; events after `time` are refused
    context: Mapping[str, Any] = field(default_factory=dict)  # {"device": "phone"}
    first_seen: int | datetime | None = None  # when the person was first seen; None: with the first event of `past`
    lend: bool = True  # whether a bundle that lends may lend events where `past` is short; False: `past` is all that is looked at
