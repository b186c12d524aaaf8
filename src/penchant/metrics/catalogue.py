"""What lists are like beside being right: how much of the catalogue they show, how popular, how varied, how like a person's taste.

Lists of U people lie end to end: those of person u are item[start[u] : start[u + 1]], start [U + 1] from 0 to N, each
item a place in the catalogue 0..V-1. A list may be shorter than k, or empty; pasts are given in the same way. What is
known of the catalogue is an array over its V items. `first` cuts lists to k.

    coverage, gini                       one number for all lists
    novelty, diversity, divergence       one number a person, and their mean
    popularity_lift                      two a person, and the ratio of their means
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penchant.errors import DataError, unknown_name
from penchant.metrics.rows import Floats, Whole, as_counts, at_least_one, refuse, starts

Distance = Literal["kl", "hellinger"]

BLOCK = 1 << 22  # numbers gathered at a time: 32 MiB


@dataclass(frozen=True, eq=False)
class PerPerson:
    """A value for each of the P people that have one, and their mean: `bootstrap(it.value)` is the mean's interval."""

    mean: float  # NaN where nobody has one
    value: Floats  # [P]
    person: Whole  # [P]  their places among the lists, ascending
    dropped: int  # people without a value


@dataclass(frozen=True, eq=False)
class PopularityLift:
    """How popular the lists of P people are beside their pasts; `bootstrap(it.shown / it.past, it.past)` is ratio's interval."""

    ratio: float  # mean(shown) / mean(past): 1 is as popular as what people chose; NaN where the pasts' is 0
    log: float  # mean(log_shown - log_past): 0 is, and one very popular item moves it little
    shown: Floats  # [P]  the mean popularity of a person's list
    past: Floats  # [P]  that of the past
    log_shown: Floats  # [P]  the mean of log(1 + popularity)
    log_past: Floats  # [P]
    person: Whole  # [P]  their places among the lists, ascending
    dropped: int  # people with an empty list or past


def first(item: ArrayLike, start: ArrayLike, k: int) -> tuple[Whole, Whole]:
    """The first k of each list, as (item, start)."""
    rows, begin = _lists("item", item, start)
    size = np.diff(begin)
    place = np.arange(len(rows)) - np.repeat(begin[:-1], size)
    return rows[place < at_least_one("k", k)], np.append(0, np.cumsum(np.minimum(size, k)))


def coverage(item: ArrayLike, recommendable: ArrayLike) -> float:
    """The share of the recommendable items that appear in any list (Ge et al. 2010, catalogue coverage).

    item int [N] of all lists; recommendable bool [V], which no listed item may fail.
    """
    return float(np.mean(_exposure(item, recommendable) > 0))


def gini(item: ArrayLike, recommendable: ArrayLike) -> float:
    """How unevenly the lists show the recommendable items (Shani and Gunawardana 2011).

    sum((2 j - n - 1) p_j) / (n - 1) over the n items by rising share p_j of all places: 0 where each is shown as often,
    1 where one alone is shown. NaN where nothing is shown, or n is 1. item int [N], recommendable bool [V].
    """
    shown = np.sort(_exposure(item, recommendable))
    n = len(shown)
    if n == 1 or not shown.any():
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ (shown / shown.sum()) / (n - 1))


def popularity_lift(item: ArrayLike, start: ArrayLike, past: ArrayLike, past_start: ArrayLike, count: ArrayLike) -> PopularityLift:
    """The mean popularity of lists over that of pasts (Abdollahpouri et al. 2020: theirs is this ratio less 1).

    item int [N], start int [U + 1], past int [M], past_start int [U + 1] of the same people; count [V] how often each
    item was chosen. A mean is of a person's items first, then of people. The log version takes log(1 + count).
    """
    count = as_counts("count", count).astype(np.float64)
    rows, begin = _lists("item", item, start, len(count))
    before, since = _lists("past", past, past_start, len(count))
    _same_people(begin, since)
    person = np.flatnonzero((np.diff(begin) > 0) & (np.diff(since) > 0))
    log = np.log1p(count)
    shown, chosen = _means(count[rows], begin)[person], _means(count[before], since)[person]
    log_shown, log_past = _means(log[rows], begin)[person], _means(log[before], since)[person]
    ratio = float(shown.mean() / chosen.mean()) if chosen.any() else float("nan")
    change = float((log_shown - log_past).mean()) if len(person) else float("nan")
    return PopularityLift(ratio, change, shown, chosen, log_shown, log_past, person, len(begin) - 1 - len(person))


def novelty(item: ArrayLike, start: ArrayLike, count: ArrayLike, total: int) -> PerPerson:
    """The mean self-information of a list's items in bits, -log2(count / total) (Zhou et al. 2010).

    item int [N], start int [U + 1], count [V] of `total`: how many people have an item, of all people, or how many
    events are of it, of all events. An item of count 0 is taken as of count 1, for nothing finite can be said of it.
    An empty list is dropped.
    """
    total = at_least_one("total", total)
    counts = as_counts("count", count)
    refuse("count", counts.astype(np.float64), counts > total, f"at most the total, {total}")
    rows, begin = _lists("item", item, start, len(counts))
    surprise = -np.log2(np.maximum(counts, 1) / total)
    return _each(_means(surprise[rows], begin), np.diff(begin) > 0)


def diversity(
    item: ArrayLike, start: ArrayLike, *, category: ArrayLike | None = None, vector: NDArray[np.floating[Any]] | None = None
) -> PerPerson:
    """The mean distance of the pairs of a list's items, each pair counted once (Smyth and McClave 2001; Ziegler et al. 2005).

    item int [N], start int [U + 1]; either category int [V], where a distance is 1 between categories and 0 within, or
    vector float [V, D], where it is 1 - cosine, in 0..2, a vector of zeros being at distance 1 from all. Lists of fewer
    than two items are dropped.
    """
    if (category is None) == (vector is None):
        raise DataError("diversity wants either category or vector, one of the two.")
    if category is not None:
        kind = _categories(category)
        rows, begin = _lists("item", item, start, len(kind))
        size = np.diff(begin)
        same, person = _pairs_counted(kind[rows], begin)
        alike = np.bincount(person, same * (same - 1), len(size)).astype(np.float64)
    else:
        table = np.asarray(vector)
        if table.ndim != 2 or table.dtype.kind != "f":
            raise DataError(f"vector has shape {table.shape} and dtype {table.dtype}: wanted floats [V, D].")
        rows, begin = _lists("item", item, start, len(table))
        size = np.diff(begin)
        alike = _cosines(table, rows, begin)
    pairs = size * (size - 1.0)
    value = 1.0 - np.divide(alike, pairs, out=np.zeros(len(size)), where=pairs > 0)
    return _each(np.clip(value, 0.0, 2.0), size > 1)


def divergence(
    item: ArrayLike,
    start: ArrayLike,
    past: ArrayLike,
    past_start: ArrayLike,
    category: ArrayLike,
    *,
    distance: Distance = "kl",
    alpha: float = 0.01,
) -> PerPerson:
    """How far a list's shares of categories are from the past's: 0 is a list in proportion to taste (Steck 2018).

    With p the shares of the past and q those of the list: "kl" is sum(p log(p / q')) in nats, q' = (1 - alpha) q +
    alpha p, in 0..-log(alpha); "hellinger" is |sqrt(p) - sqrt(q)| / sqrt(2), in 0..1, which needs no
    alpha and reads none. item int [N], start int [U + 1], past int [M], past_start int [U + 1] of the same people,
    category int [V]. People with an empty list or past are dropped.
    """
    if distance not in get_args(Distance):
        raise unknown_name("distance of shares", distance, get_args(Distance))
    if not 0 < alpha < 1:
        raise DataError(f"alpha is {alpha!r}: wanted a share between 0 and 1.")
    kind = _categories(category)
    rows, begin = _lists("item", item, start, len(kind))
    before, since = _lists("past", past, past_start, len(kind))
    _same_people(begin, since)
    size, length = np.diff(begin), np.diff(since)
    people, kinds = len(size), int(kind.max(initial=0)) + 1
    owner = np.append(np.repeat(np.arange(people), length), np.repeat(np.arange(people), size))
    key = owner * kinds + kind[np.append(before, rows)]
    order = np.argsort(key)
    start = starts(key[order]) if len(key) else order  # one run for each category of a person
    much = np.add.reduceat((order < len(before)).astype(np.float64), start) if len(key) else np.zeros(0)
    many = np.diff(start, append=len(key)) - much
    whose = key[order[start]] // kinds
    p, q = much / np.maximum(length[whose], 1), many / np.maximum(size[whose], 1)
    if distance == "kl":
        smooth = (1 - alpha) * q + alpha * p
        term = p * np.log(np.divide(p, smooth, out=np.ones(len(p)), where=p > 0))
        value = np.maximum(np.bincount(whose, term, people), 0.0)
    else:
        value = np.sqrt(np.minimum(np.bincount(whose, (np.sqrt(p) - np.sqrt(q)) ** 2, people) / 2, 1.0))
    return _each(value, (size > 0) & (length > 0))


def _each(value: Floats, kept: NDArray[np.bool_]) -> PerPerson:
    value = value[kept]
    mean = float(value.mean()) if len(value) else float("nan")
    return PerPerson(mean, value, np.flatnonzero(kept), len(kept) - len(value))


def _means(value: Floats, begin: Whole) -> Floats:
    """The mean [U] of each list's values [N]; NaN where it is empty."""
    size = np.diff(begin)
    total = np.bincount(np.repeat(np.arange(len(size)), size), value, len(size))
    mean = np.full(len(size), np.nan)
    np.divide(total, size, out=mean, where=size > 0)
    return mean


def _pairs_counted(kind: Whole, begin: Whole) -> tuple[Whole, Whole]:
    """How many items of a list are of one category, and whose list: for each list and each category in it."""
    person = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    order = np.lexsort((kind, person))
    run = starts(person[order], kind[order]) if len(order) else order
    return np.diff(run, append=len(order)), person[order][run]


def _cosines(table: NDArray[Any], rows: Whole, begin: Whole) -> Floats:
    """The sum [U] of the cosines of each list's ordered pairs: |sum of unit vectors|^2 less one for each vector that has a direction."""
    length = np.linalg.norm(table.astype(np.float64), axis=1)
    refuse("vector", length, ~np.isfinite(length), "a vector of finite length")
    sums = np.zeros(len(begin) - 1)
    some = np.flatnonzero(np.diff(begin))
    most = max(1, BLOCK // max(table.shape[1], 1))
    for part in np.split(some, np.flatnonzero(np.diff(begin[some] // most)) + 1):
        if not len(part):
            continue
        low, high = begin[part[0]], begin[part[-1] + 1]
        here = rows[low:high]
        unit = np.divide(table[here], length[here, None], out=np.zeros((high - low, table.shape[1])), where=length[here, None] > 0)
        total = np.add.reduceat(unit, begin[part] - low, axis=0)
        sums[part] = np.einsum("ud,ud->u", total, total) - np.add.reduceat((length[here] > 0).astype(np.float64), begin[part] - low)
    return sums


def _exposure(item: ArrayLike, recommendable: ArrayLike) -> Whole:
    """How often each recommendable item is listed."""
    allowed = np.asarray(recommendable)
    if allowed.ndim != 1 or allowed.dtype != np.bool_:
        raise DataError(f"recommendable has shape {allowed.shape} and dtype {allowed.dtype}: wanted bool [V].")
    if not allowed.any():
        raise DataError(f"recommendable is False for all of {len(allowed)} items: wanted at least one.")
    rows = _items("item", item, len(allowed))
    refuse("item", rows.astype(np.float64), ~allowed[rows], "a recommendable item")
    often: Whole = np.bincount(rows, minlength=len(allowed))[allowed]
    return often


def _lists(name: str, item: ArrayLike, start: ArrayLike, size: int | None = None) -> tuple[Whole, Whole]:
    rows, begin = _items(name, item, size), np.asarray(start)
    if begin.ndim != 1 or begin.dtype.kind not in "iu" or not len(begin):
        raise DataError(f"the start of {name} has shape {begin.shape} and dtype {begin.dtype}: wanted whole numbers [U + 1].")
    begin = begin.astype(np.int64)
    if begin[0] != 0 or begin[-1] != len(rows) or np.any(np.diff(begin) < 0):
        raise DataError(f"the start of {name} goes from {begin[0]} to {begin[-1]}: wanted 0 to {len(rows)}, never falling.")
    return rows, begin


def _items(name: str, item: ArrayLike, size: int | None) -> Whole:
    rows = np.asarray(item)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
        raise DataError(f"{name} has shape {rows.shape} and dtype {rows.dtype}: wanted a whole number a row.")
    rows = rows.astype(np.int64)
    if size is None:
        refuse(name, rows.astype(np.float64), rows < 0, "a place in the catalogue")
    else:
        refuse(name, rows.astype(np.float64), (rows < 0) | (rows >= size), f"a place in the catalogue of {size}")
    return rows


def _categories(category: ArrayLike) -> Whole:
    kind = np.asarray(category)
    if kind.ndim != 1 or kind.dtype.kind not in "iu":
        raise DataError(f"category has shape {kind.shape} and dtype {kind.dtype}: wanted a whole number for each item.")
    return np.unique(kind, return_inverse=True)[1].astype(np.int64)


def _same_people(begin: Whole, since: Whole) -> None:
    if len(begin) != len(since):
        raise DataError(f"past_start is of {len(since) - 1} people and start of {len(begin) - 1}: wanted the same people.")
