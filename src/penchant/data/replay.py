"""A Log read back as the raw requests that it was made of: what a server would have been asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from penchant.data.log import Log
from penchant.encoding import Ints, text
from penchant.errors import DataError, nearest
from penchant.request import Event, Request
from penchant.schema import Tie


def user_number(log: Log, user: str | int) -> int:
    """The place of a person in the Log. Raises DataError with the nearest id."""
    ids = log.users.column("id")
    place = ids.index(text(user)).as_py()
    if place < 0:
        few = ids[: min(len(ids), 10_000)].to_pylist()
        raise DataError(f"user {text(user)!r} is not in {log.folder}, which has {len(ids):,} people.{nearest(text(user), few)}")
    return int(place)


def request_at(log: Log, position: int, tie: Tie = "order") -> Request:
    """The request that one event answered: its person and moment, and their past before it."""
    user = int(log.user_of(np.array([position]))[0])
    end = int(log.begin(np.array([position]))[0])
    end = end if tie == "order" else int(log.tie[end])
    return _request(
        log, user, np.arange(log.start[user], end), time=int(log.events["time"][position]), context=_event(log, "context", position)
    )


def request_now(log: Log, user: int) -> Request:
    """A request a millisecond after all that a person did, with nothing else known of its moment."""
    begin, end = int(log.start[user]), int(log.start[user + 1])
    return _request(log, user, np.arange(begin, end), time=int(log.events["time"][end - 1]) + 1, context={})


def _request(log: Log, user: int, past: Ints, *, time: int, context: dict[str, Any]) -> Request:
    first = int(log.events["time"][log.start[user]])
    if log.schema.events.past_is_positive:
        past = past[log.positive[past]]
    ids = log.items.column("id")
    events = [
        Event(
            item=ids[int(log.events["item"][at])].as_py(),
            time=int(log.events["time"][at]),
            action=_event(log, "action", at),
            session=session,
        )
        for at, session in zip(past, _sessions(log, past), strict=True)
    ]
    profile = {name: _value(log, f"user.{name}", log.users.column(f"user.{name}")[user].as_py()) for name in _names(log, "user")}
    return Request(time=time, user=log.users.column("id")[user].as_py(), profile=profile, past=events, context=context, first_seen=first)


def _sessions(log: Log, past: Ints) -> list[int] | list[bool] | list[None]:
    """What a shop would say of the session of each event; the numbers of a Log are as good as names."""
    if "session" not in log.events:
        return [None] * len(past)
    numbers: list[int] = log.events["session"][past].tolist()
    if log.schema.events.session.id is not None:
        return numbers
    return [at == 0 or numbers[at - 1] != number for at, number in enumerate(numbers)]


def _event(log: Log, group: str, position: int) -> dict[str, Any]:
    return {name: _value(log, f"{group}.{name}", log.events[f"{group}.{name}"][position].item()) for name in _names(log, group)}


def _names(log: Log, group: str) -> tuple[str, ...]:
    return log.schema.named(group, "category", "number")


def _value(log: Log, name: str, stored: Any) -> Any:
    """The raw value of what a Log stores: a place among the field's values, or a number."""
    if name in log.values:
        return log.values[name][stored - 1].as_py() if stored else None
    return None if stored != stored else stored
