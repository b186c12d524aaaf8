"""Encoded facts into a Batch: the same for a row of a Log and for a request that a server got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.batch import Batch, History, Segments, User
from penchant.encoding import Bools, Encoding, Floats, Ints


def collate(
    encoding: Encoding,
    *,
    user: Ints,
    user_number: Floats,
    context: Ints,
    number: Floats,
    time: Ints,
    item: Ints,
    past: Ints,
    past_time: Ints,
    action: Ints,
    action_number: Floats,
    length: Ints,
    other: Ints | None = None,
    further: Ints | None = None,
    further_log_q: float | None = None,
    marked: Callable[[Ints], Bools] | None = None,
    label: Floats | None = None,
    weight: Floats | None = None,
) -> Batch:
    """A Batch of encoded facts, its catalogue rows made distinct.

    user [R, U], user_number [R, N'], context [R, X], number [R, N], time [R] (ms), item [R, C] (catalogue rows).
    The pasts lie end to end: past [E] (catalogue rows), past_time [E], action [E, A], action_number [E, B], length [R].
    other [E] and further [R, n] are catalogue rows too.
    marked: which catalogue rows to treat as ids that are not known, beside those that are not.
    """
    row, places = distinct(encoding.catalogue.size, past, item, *(part for part in (other, further) if part is not None))
    known = encoding.catalogue.known[row]
    if marked is not None:
        known = known & ~marked(row)
    rest = iter(places[2:])
    return Batch(
        row=_tensor(row),
        known=_tensor(known),
        user=User(code=_tensor(user), number=_tensor(user_number)),
        context=_tensor(context),
        number=_tensor(number),
        time=_tensor(time),
        item=_tensor(places[1]),
        shown=torch.zeros(*item.shape, 0, dtype=torch.int64),
        history=History(
            item=_tensor(places[0]),
            time=_tensor(past_time),
            action=_tensor(action),
            number=_tensor(action_number),
            events=Segments.of(_tensor(length)),
            other=None if other is None else _tensor(next(rest)),
        ),
        negative=None if further is None else _tensor(next(rest)),
        negative_log_q=None if further is None else torch.full(further.shape, further_log_q or 0.0),
        label=None if label is None else _tensor(label),
        weight=None if weight is None else _tensor(weight),
    )


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


def _tensor(value: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))
