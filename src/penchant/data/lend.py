"""A Lender, fitted on the events that train and on nothing else.

Of the people of a key (who began with an item, or who share a profile) n did an item. Were they like everybody, e of them would have:
the people of the key, times the share of all people who did it. How telling the item is of the key is the excess in deviations,

    (n - e) / sqrt(e + SHRINK)

so that what everybody does tells nothing, and a handful of people tells less than many. Lists hold what is above 0 and of EVIDENCE
people or more.
"""

from __future__ import annotations

import numpy as np

from penchant.cold import KEYS, LISTED, ColdConfig, Lender, Lists, Profiles, categories
from penchant.data.draw import bits
from penchant.data.encoded import EncodedLog
from penchant.encoding import Floats, Ints

FIRST, AHEAD = 5, 10  # people are alike who share an item of their first 5 events; of each what they did in the 10 after it counts
BEGINNING = FIRST + AHEAD  # events that somebody of a profile began with
SHRINK = 5.0  # people, added to what is expected
EVIDENCE = 2  # people who did both: of one alone nothing is said
LIKE = 50  # people of a profile, below which fewer fields are to be alike
BINS = 5  # of a number of profiles, of about as many people each
RECENT = 0.1  # share of the events that train, the latest, by which "popular of late" counts
PEOPLE = 200_000  # who are looked at: beyond, as many drawn by seed

Triples = tuple[Ints, Ints, Ints]  # [n] people, keys and catalogue rows


def fit_lender(data: EncodedLog, train: Ints, config: ColdConfig, seed: int = 0) -> Lender | None:
    """What the events at `train` (positions, ascending) give to lend; None where the method is "none".

    Keys are of all events that may stand in a past; what is lent was a positive. Raises ConfigError for a category that items lack.
    """
    if config.method == "none":
        return None
    categories(data.encoding, config.category)
    log, events = data.log, _of_some(data, train, seed)
    chosen = events[log.positive[events]]
    keys = chosen if data.encoding.schema.events.past_is_positive else events
    profiles = _profiles(data, np.unique(log.user_of(events)))
    found = {
        "similar": lambda: _telling(_followed(data, keys), "similar"),
        "profile": lambda: _telling(_began(data, chosen, profiles), "profile", least=LIKE),
        "category": lambda: _popular_by_category(data, chosen, config),
        "popular": lambda: _popular(data, chosen),
    }
    action, number = data.codes("action", chosen), data.numbers("action", chosen)
    return Lender(
        config=config,
        lists={step: found[step]() for step in config.steps},
        profiles=profiles,
        action=np.array([np.bincount(column).argmax() for column in action.T], dtype=np.int64),
        number=_usual(number),
        gap=_gap(data, keys),
        people=len(np.unique(log.user_of(events))),
    )


def _of_some(data: EncodedLog, train: Ints, seed: int) -> Ints:
    """The events of PEOPLE people at most, drawn by their place among those who train."""
    people, place = np.unique(data.log.user_of(train), return_inverse=True)
    if len(people) <= PEOPLE:
        return train
    drawn = np.zeros(len(people), dtype=bool)
    drawn[np.argsort(bits(seed, np.arange(len(people))), kind="stable")[:PEOPLE]] = True
    return train[drawn[place]]


def _followed(data: EncodedLog, events: Ints) -> Triples:
    """Of each item among somebody's first events, the positives among those that followed it."""
    user, place = _places(data, events)
    row, positive = data.rows(events), data.log.positive[events]
    parts = []
    for ahead in range(1, AHEAD + 1):
        first, then = np.arange(len(events) - ahead), np.arange(ahead, len(events))
        pair = (user[first] == user[then]) & (place[first] < FIRST) & positive[then] & (row[first] != row[then])
        parts.append(np.stack([user[first][pair], row[first][pair], row[then][pair]]))
    whose, key, what = np.concatenate([np.zeros((3, 0), dtype=np.int64), *parts], axis=1)
    return whose, key, what


def _began(data: EncodedLog, chosen: Ints, profiles: Profiles) -> Triples:
    """Of each profile, at every level, what its people began with."""
    user, place = _places(data, chosen)
    early = place < BEGINNING
    whose, what = user[early], data.rows(chosen[early])
    profile = profiles.read(data.user[whose], data.user_number[whose])
    parts = []
    for level in range(len(profiles.levels)):
        known, key = profiles.keys(level, profile)
        parts.append(np.stack([whose[known], key[known], what[known]]))
    person, key, row = np.concatenate([np.zeros((3, 0), dtype=np.int64), *parts], axis=1)
    return person, key, row


def _telling(triples: Triples, step: str, least: int = EVIDENCE) -> Lists:
    """Of each key with `least` people or more, the rows that are over-represented; of too many keys those of the most people."""
    person, key, row = triples
    keys, at = np.unique(key, return_inverse=True)
    rows, what = np.unique(row, return_inverse=True)
    pair, of_pair = np.unique(at * len(rows) + what, return_inverse=True)
    count, people = _people_of(person, of_pair, len(pair)), _people_of(person, at, len(keys))
    usable, everybody = (people >= least) & _most(people, KEYS[step]), _people_of(person, what, len(rows))
    at, what = np.divmod(pair, max(len(rows), 1))
    expected = people[at] * (everybody / max(len(np.unique(person)), 1))[what]
    excess = (count - expected) / np.sqrt(expected + SHRINK)
    kept = (count >= EVIDENCE) & (excess > 0) & usable[at]
    return _lists(keys[at[kept]], rows[what[kept]], excess[kept])


def _people_of(person: Ints, thing: Ints, things: int) -> Ints:
    """[things] how many people each thing is of: they count once, however often they did it."""
    width = int(person.max(initial=0)) + 1
    return np.bincount(np.unique(thing * width + person) // width, minlength=things).astype(np.int64)


def _popular_by_category(data: EncodedLog, chosen: Ints, config: ColdConfig) -> Lists:
    """Of each category its items, by their share of its positives."""
    code = categories(data.encoding, config.category)
    if code is None:
        none = np.zeros(0, dtype=np.int64)
        return _lists(none, none, np.zeros(0))
    count = np.bincount(data.rows(chosen), minlength=data.encoding.catalogue.size)
    row = np.flatnonzero(count)
    owner = np.broadcast_to(row[:, None], code[row].shape)
    there = code[row] > 0
    row, key = owner[there], code[row][there]
    of_key = np.bincount(key, count[row])
    usable = _most(of_key, KEYS["category"])[key]
    return _lists(key[usable], row[usable], count[row[usable]] / of_key[key[usable]])


def _popular(data: EncodedLog, chosen: Ints) -> Lists:
    """What has the most positives among the latest ones."""
    time = np.asarray(data.log.events["time"])[chosen]
    latest = chosen[time >= np.sort(time)[min(int(len(time) * (1 - RECENT)), len(time) - 1)]] if len(time) else chosen
    row, count = np.unique(data.rows(latest), return_counts=True)
    return _lists(np.zeros_like(row), row, count / max(count.sum(), 1))


def _lists(key: Ints, row: Ints, weight: Floats | np.ndarray) -> Lists:
    """The LISTED rows of each key that weigh most; of equals the lower row."""
    weight = weight.astype(np.float32)
    order = np.lexsort((row, -weight, key))
    key, row, weight = key[order], row[order], weight[order]
    rank = np.arange(len(key)) - np.searchsorted(key, key)
    kept = rank < LISTED
    keys, at = np.unique(key[kept], return_inverse=True)
    rows, weights = np.zeros((len(keys), LISTED), dtype=np.int64), np.zeros((len(keys), LISTED), dtype=np.float32)
    rows[at, rank[kept]], weights[at, rank[kept]] = row[kept], weight[kept]
    return Lists(keys, rows, weights)


def _most(count: Ints | Floats | np.ndarray, most: int) -> np.ndarray:
    """bool [K], which keys are among the `most` of the greatest counts; of equals the lower key."""
    kept = np.zeros(len(count), dtype=bool)
    kept[np.argsort(-count, kind="stable")[:most]] = True
    return kept


def _profiles(data: EncodedLog, people: Ints) -> Profiles:
    """Bins of numbers end at the quantiles of those who train."""
    number, edges = data.user_number[people], []
    for place in range(number.shape[1] // 2):
        there = number[number[:, 2 * place + 1] == 0, 2 * place]
        edges.append(np.unique(np.quantile(there, np.arange(1, BINS) / BINS)).astype(np.float32) if len(there) else np.zeros(0, np.float32))
    return Profiles.of(data.encoding.sizes("user"), tuple(edges))


def _places(data: EncodedLog, events: Ints) -> tuple[Ints, Ints]:
    """Whose each of these events is, and its place among that person's."""
    user = data.log.user_of(events)
    return user, np.arange(len(events)) - np.searchsorted(user, user)


def _usual(number: Floats) -> Floats:
    """Of pairs of columns (value, missing) the mean, which standardised is 0, or missing where most events lack it."""
    usual = np.zeros(number.shape[1], dtype=np.float32)
    usual[1::2] = number[:, 1::2].mean(0) > 0.5
    return usual


def _gap(data: EncodedLog, events: Ints) -> int:
    """The median time between an event and the next of the same person, in milliseconds; at least one."""
    user, time = data.log.user_of(events), np.asarray(data.log.events["time"])[events]
    gaps = np.diff(time)[user[1:] == user[:-1]]
    return max(int(np.median(gaps)), 1) if len(gaps) else 1
