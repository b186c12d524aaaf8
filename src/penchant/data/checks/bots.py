"""People who do not behave like people."""

from __future__ import annotations

import numpy as np

from penchant.data.bots import ENOUGH, PEOPLE, SCORE, find_bots
from penchant.data.checks.subject import SHOWN, Finding, Found, Subject, part


def bot_like_people(subject: Subject) -> Found:
    """Who does more than others, at all hours or of everything, by the events that train."""
    log, train = subject.log, subject.split.train
    found = find_bots(log, train)
    if not found.looked_at.any():
        return f"fewer than {PEOPLE} people have {ENOUGH} requests that train"
    count, of = int(found.bot.sum()), int(found.looked_at.sum())
    if not count:
        return []
    rows = part(int(found.bot[subject.user[train]].sum()), len(train))
    signs = ", ".join(f"{name} {many:,}" for name, many in found.counts().items() if many)
    says = (
        f"{part(count, of)} people with {ENOUGH} training requests or more look like bots, by a score of {SCORE:g} or more "
        f"(signs: {signs}). Theirs are {rows} training rows. If they are none of those you serve, leave them out of training "
        "(data.noise.bots = 'drop'), or out of the log."
    )
    worst = np.argsort(-found.score, kind="stable")[: min(SHOWN, count)]
    few = tuple(
        f"{subject.person(int(user))}, {found.score[user]:.1f}: {'; '.join(sign.says(int(user)) for sign in found.reasons(int(user)))}"
        for user in worst
    )
    return [Finding(name="bot-like-people", grave=False, says=says, count=count, of=of, examples=few)]
