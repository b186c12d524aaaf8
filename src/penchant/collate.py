"""Encoded facts into a Batch: the same for a row of a Log and for a request that a server got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.batch import Batch, History, Segments, Shown, User
from penchant.encoding import Bools, Encoding, Floats, Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """Encoded facts of R requests, in catalogue rows."""

    user: Ints  # [R, U]
    user_number: Floats  # [R, N']
    context: Ints  # [R, X]
    number: Floats  # [R, N]
    time: Ints  # [R] unix milliseconds
    item: Ints  # [R, C] catalogue rows
    shown: Ints | None = None  # [R, C, P]; None: not known
    shown_number: Floats | None = None  # [R, C, Q]; None: missing
    log_q: Floats | None = None  # [R, C]
    further: Ints | None = None  # [R, n] catalogue rows
    further_log_q: Floats | None = None  # [R, n]
    label: Floats | None = None  # [R, C]
    weight: Floats | None = None  # [R, C]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pasts:
    """Encoded facts of E events that R requests come after, end to end."""

    item: Ints  # [E] catalogue rows
    time: Ints  # [E] unix milliseconds
    action: Ints  # [E, A]
    number: Floats  # [E, B]
    length: Ints  # [R]
    other: Ints | None = None  # [E] catalogue rows
    chosen: Bools | None = None  # [E] which were positives; None: not asked for
    session: Ints | None = None  # [E] numbers that differ where a column of the log says that a session begins
    lent: Ints | None = None  # [R] how many of each one's events, the first ones, are somebody else's; None: none


def collate(
    encoding: Encoding, requests: Requests, pasts: Pasts, *, marked: Callable[[Ints], Bools] | None = None, catalogue: bool = False
) -> Batch:
    """A Batch of encoded facts, its catalogue rows made distinct.

    marked: which catalogue rows to treat as ids that are not known, beside those that are not. catalogue: whether `row` holds all
    items with training rows, whatever the facts speak of.
    """
    everything = np.flatnonzero(encoding.catalogue.known) if catalogue else None
    row, places = distinct(encoding.catalogue.size, pasts.item, requests.item, *_given(pasts.other, everything, requests.further))
    row, places, first_drawn = (row, places, None) if requests.further is None else _drawn_last(row, places)
    known = encoding.catalogue.known[row]
    if marked is not None:
        known = known & ~marked(row)
    history = History(
        item=_tensor(places[0]),
        time=_tensor(pasts.time),
        action=_tensor(pasts.action),
        number=_tensor(pasts.number),
        events=Segments.of(_tensor(pasts.length)),
        other=None if pasts.other is None else _tensor(places[2]),
        chosen=None if pasts.chosen is None else _tensor(pasts.chosen.astype(np.float32)),
        fresh=_tensor(_fresh(encoding, pasts)),
    )
    return Batch(
        row=_tensor(row),
        known=_tensor(known),
        user=User(code=_tensor(requests.user), number=_tensor(requests.user_number)),
        context=_tensor(requests.context),
        number=_tensor(requests.number),
        time=_tensor(requests.time),
        item=_tensor(places[1]),
        shown=_shown(encoding, requests),
        history=history,
        negative=None if requests.further is None else _tensor(places[-1]),
        negative_log_q=None if requests.further_log_q is None else _tensor(requests.further_log_q),
        first_drawn=first_drawn,
        log_q=None if requests.log_q is None else _tensor(requests.log_q),
        label=None if requests.label is None else _tensor(requests.label),
        weight=None if requests.weight is None else _tensor(requests.weight),
    )


def _fresh(encoding: Encoding, pasts: Pasts) -> Bools:
    """bool [E], where sessions begin by the schema's rule; what a past begins with begins one, and so does the first own event."""
    events = encoding.schema.events
    new, begin = np.zeros(len(pasts.item), dtype=bool), np.cumsum(pasts.length) - pasts.length
    new[begin[pasts.length > 0]] = True
    if pasts.lent is not None:
        new[(begin + pasts.lent)[pasts.length > pasts.lent]] = True
    if events.session_minutes is not None:
        new[1:] |= np.diff(pasts.time) > events.session_minutes * 60_000
    if events.session.change is not None:
        place = encoding.schema.named("item", "category").index(events.session.change)
        new[1:] |= np.diff(encoding.catalogue.code[pasts.item, place]) != 0
    if events.session.column is not None and pasts.session is not None:
        new[1:] |= np.diff(pasts.session) != 0
    return new


def _shown(encoding: Encoding, requests: Requests) -> Shown:
    """What is not known of showing a candidate is UNKNOWN, or missing."""
    code, number, shape = requests.shown, requests.shown_number, requests.item.shape
    if code is None:
        code = np.zeros((*shape, len(encoding.sizes("shown"))), dtype=np.int64)
    if number is None:
        number = np.tile(np.array([0, 1], np.float32), (*shape, encoding.numbers("shown") // 2))
    return Shown(code=_tensor(code), number=_tensor(number))


def distinct(size: int, *parts: Ints) -> tuple[Ints, list[Ints]]:
    """The distinct catalogue rows of all parts, ascending, and each part as places among them."""
    flat = np.concatenate([part.reshape(-1) for part in parts])
    if size <= 32 * len(flat):  # marking is quicker than sorting
        there = np.zeros(size, dtype=bool)
        there[flat] = True
        row = np.flatnonzero(there)
        place = np.empty(size, dtype=np.int64)
        place[row] = np.arange(len(row))
        inverse = place[flat]
    else:
        row, inverse = np.unique(flat, return_inverse=True)
    ends = np.cumsum([part.size for part in parts])[:-1]
    return row, [found.reshape(part.shape) for found, part in zip(np.split(inverse, ends), parts, strict=True)]


def _drawn_last(row: Ints, places: list[Ints]) -> tuple[Ints, list[Ints], int]:
    """Rows and places with the rows of the last part alone at the end, and where these begin."""
    met = np.zeros(len(row), dtype=bool)
    for part in places[:-1]:
        met[part] = True
    order = np.argsort(~met, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return row[order], [place[part] for part in places], int(met.sum())


def _tensor(value: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))


def _given(*parts: Ints | None) -> list[Ints]:
    return [part for part in parts if part is not None]
