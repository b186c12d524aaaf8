"""A Log seen through an Encoding."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from penchant.data.fit import attributes, refuse_other_kinds, remap
from penchant.data.log import Log
from penchant.data.negatives import Seen
from penchant.encoding import Bools, Encoding, Floats, Ints
from penchant.errors import DataError
from penchant.schema import Tie


class EncodedLog:
    """A Log seen through an Encoding: ids wherever the Log has places.

    hidden: bool [N], events that may stand in no past (`Split.hidden`).
    """

    def __init__(self, log: Log, encoding: Encoding, hidden: Bools | None = None) -> None:
        self.log, self.encoding, self.hidden, schema = log, encoding, hidden, encoding.schema
        refuse_other_kinds(log, schema)
        if (column := schema.events.session.column) is not None and "session" not in log.events:
            raise DataError(f"{log.folder}: sessions are by column {column!r} here, which this Log was prepared without; prepare it anew.")
        self.item: Ints = encoding.catalogue.items.encode(log.items.column("id"))  # [I] the catalogue row of each item of the Log
        codes, self.user_number = attributes(log, "user", schema, encoding.vocabularies, encoding.scales)
        self.user: Ints = np.concatenate([encoding.users.encode(log.users.column("id"))[:, None], codes], axis=1)  # [U, 1 + F]
        names = [f"{g}.{n}" for g in ("action", "context", "shown") for n in schema.named(g, "category")]
        self._ids = {name: remap(log, encoding.vocabularies, name) for name in names if name in log.values}

    def rows(self, position: Ints) -> Ints:
        """int64, the catalogue row of each event's item."""
        rows: Ints = self.item[self.log.events["item"][position]]
        return rows

    def codes(self, group: str, position: Ints) -> Ints:
        """int64 [*, F] of events [*]: action, shown, or context without the derived moments."""
        names = self.encoding.schema.named(group, "category")
        out = np.empty((*position.shape, len(names)), dtype=np.int64)
        for place, name in enumerate(names):
            known = self._ids.get(f"{group}.{name}")  # None: a field that this Log does not have is UNKNOWN
            out[..., place] = 0 if known is None else known[self.log.events[f"{group}.{name}"][position]]
        return out

    def numbers(self, group: str, position: Ints) -> Floats:
        """float32 [*, 2 B] of events [*]."""
        names = [f"{group}.{name}" for name in self.encoding.schema.named(group, "number")]
        missing = np.full(position.shape, np.nan)
        there = [self.log.events[name][position] if name in self.log.events else missing for name in names]
        parts = [self.encoding.scales[name].encode(column) for name, column in zip(names, there, strict=True)]
        return np.concatenate(parts, axis=-1) if parts else np.zeros((*position.shape, 0), np.float32)

    def session(self, position: Ints) -> Ints | None:
        """int64 [*] of events [*], where the schema has sessions by a column: numbers that differ where one begins."""
        return self.log.events["session"][position] if self.encoding.schema.events.session.column is not None else None

    def context(self, position: Ints, time: Ints) -> Ints:
        """int64 [n, X] the moments of requests."""
        begin = self.log.start[self.log.user_of(position)]
        first = np.asarray(self.log.events["time"])[begin]
        return np.concatenate([self.encoding.moment(time, first), self.codes("context", position)], axis=1)

    @cached_property
    def seen(self) -> Seen:
        """Which catalogue rows each person ever chose, in the whole Log."""
        chosen = np.flatnonzero(self.log.positive)
        return Seen(self.log.user_of(chosen), self.rows(chosen), users=len(self.log.users), rows=self.encoding.catalogue.size)

    @cached_property
    def _past(self) -> tuple[Ints, Ints] | None:
        """Where not every event may stand in a past: the positions of those that may, and how many are before each event."""
        log = self.log
        usable = np.ones(log.size, dtype=bool) if self.hidden is None else ~self.hidden
        if self.encoding.schema.events.past_is_positive:
            usable &= log.positive
        if usable.all():
            return None
        return np.flatnonzero(usable), np.concatenate([[0], np.cumsum(usable)])

    def past(self, position: Ints, most: int, tie: Tie) -> tuple[Ints, Ints]:
        """The pasts of events: positions int64 [E], oldest first, end to end, and lengths int64 [n].

        No event at or after its own, and none of its own request.
        """
        end, length = self._past_end(position, tie)
        length = np.minimum(length, most)
        index = ranges(end - length, length)
        return (index if self._past is None else self._past[0][index]), length

    def past_length(self, position: Ints, tie: Tie) -> Ints:
        """int64, how many events the pasts of these events have."""
        return self._past_end(position, tie)[1]

    def _past_end(self, position: Ints, tie: Tie) -> tuple[Ints, Ints]:
        """Where each past ends among the events that may stand in one, and how many it has."""
        log = self.log
        begin, end = log.start[log.user_of(position)], log.begin(position)
        if tie == "strict":
            end = log.tie[end]
        if self._past is not None:
            begin, end = self._past[1][begin], self._past[1][end]
        return end, end - begin


def ranges(start: Ints, length: Ints) -> Ints:
    """start[0], start[0] + 1, ... (length[0] of them), start[1], ...: int64 [sum of length]."""
    end = np.cumsum(length)
    index: Ints = np.arange(end[-1] if len(end) else 0, dtype=np.int64) + np.repeat(start - (end - length), length)
    return index
