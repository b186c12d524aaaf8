"""Rows that repeat others, and people who are none."""

from __future__ import annotations

import numpy as np

from penchant.data.checks.subject import NO_TIMES, SHOWN, Finding, Found, Subject, part

OF_ALL = 0.01  # share of all events that one person has
TIMES_USUAL = 20  # and as a multiple of what half of the people have: in a log of few people everybody has a large share
OF_ITEMS = 0.8  # share of the items that one person chose: what is left of the catalogue to tell them from says little
ENOUGH_ITEMS = 50  # in fewer, choosing nearly all is no wonder


def duplicates(subject: Subject) -> Found:
    """Rows that events.duplicates = 'drop' would leave out."""
    if subject.timeless:
        return NO_TIMES
    log = subject.log
    group = log.tie if log.asked is None else log.asked
    several = np.flatnonzero(np.bincount(group, minlength=log.size)[group] > 1)
    key = (group[several] * len(log.items) + subject.item[several]) * 2 + log.positive[several]
    order = np.argsort(key, kind="stable")
    repeated = np.sort(several[order[1:]][key[order[1:]] == key[order[:-1]]])
    count, of = len(repeated), log.size
    if not count:
        return []
    says = (
        f"{part(count, of)} events repeat the person, item and time of an earlier row. If they are one act each, "
        "events.duplicates = 'drop' in the schema leaves them out."
    )
    return [Finding(name="duplicates", grave=False, says=says, count=count, of=of, examples=subject.events(repeated))]


def people_with_almost_everything(subject: Subject) -> Found:
    """People with a large share of all events, or who chose nearly every item."""
    log, name = subject.log, "people-with-almost-everything"
    events = np.diff(log.start)
    busy = np.flatnonzero((events > OF_ALL * log.size) & (events > TIMES_USUAL * np.median(events)))
    busy = busy[np.argsort(-events[busy], kind="stable")]
    found = []
    if len(busy):
        share = part(int(events[busy].sum()), log.size)
        says = (
            f"{part(len(busy), len(events))} people have more than {OF_ALL:.0%} of all events each, {share} together; half of the people "
            f"have at most {np.median(events):g}. They may be robots or shared accounts: leave them out, or cap them with data.latest."
        )
        few = tuple(f"{subject.person(int(user))}, {events[user]:,} events" for user in busy[:SHOWN])
        found.append(Finding(name=name, grave=False, says=says, count=len(busy), of=len(events), examples=few))
    items = int(np.count_nonzero(np.bincount(subject.item, minlength=len(log.items))))
    pairs = np.unique((subject.user * len(log.items) + subject.item)[log.positive])
    different = np.bincount(pairs // len(log.items), minlength=len(events))
    sated = np.flatnonzero(different > OF_ITEMS * items)
    if len(sated) and items >= ENOUGH_ITEMS:
        says = (
            f"{part(len(sated), len(events))} people chose more than {OF_ITEMS:.0%} of all {items:,} items: hardly anything is left that "
            "their choices could be told from, and what is drawn as a negative is what they have yet to reach."
        )
        few = tuple(f"{subject.person(int(user))}, {different[user]:,} items" for user in sated[:SHOWN])
        found.append(Finding(name=name, grave=False, says=says, count=len(sated), of=len(events), examples=few))
    return found
