"""People who do not behave like people: more of it, at all hours, of everything.

Signs, of the events that train alone, and how far a person is above (or below) the median of all, in deviations: 1.4826 times the
median absolute one, which a few bots cannot move, and at least what stands in brackets.

    how much   requests (0.5 doublings); requests a day, of days with any (0.5 doublings)
    when       hours with requests, of a day with any (0.25 doublings); steady gaps: how little the logarithm of the time between
               requests varies (0.25)
    what       no taste: how often the person's choices stand side by side with others too, as a multiple of what chance makes of it
               (0.25 halvings; penchant.data.together); the share of what was shown that was chosen (0.05)

Each kind counts by its strongest sign, 0 to MOST deviations, and the score is their sum; who has SCORE looks like a bot. So no kind
alone makes one: who is merely busy is none. What a log does not know (hours, where its clock shows days) counts for nobody. Who has
fewer than ENOUGH requests is not looked at: there is too little to see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from penchant.data.log import Log
from penchant.data.together import Once, Reals, together
from penchant.encoding import Bools, Ints

HOUR, DAY = 3_600_000, 86_400_000  # milliseconds
ENOUGH = 20  # requests: of fewer, hours and gaps are chance
CHOICES = 10  # different items: of fewer, taste is
PEOPLE = 20  # with enough requests: among fewer, nobody knows what is usual
MOST = 5.0  # deviations that a kind of signs counts: with more, one kind alone would do
SCORE = 9.0  # from where on somebody looks like a bot: two kinds of signs clearly, or all three
TELLING = 2.0  # deviations, from where on a sign is named as a reason
FEW = 5.0  # neighbours of the usual kind that are added to everybody's: a taste of few choices says little
KINDS = ("how much", "when", "what")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sign:
    """One thing by which U people differ."""

    name: str
    kind: str
    form: str  # "{:,.0f} requests"
    value: Reals  # [U] as it is said
    usual: float  # of half of the people at most
    deviations: Reals  # [U] towards the odd side; 0 for who is not looked at

    def says(self, user: int) -> str:
        """ "1,128 requests, not 35"."""
        number = self.form[self.form.index("{") : self.form.index("}") + 1]
        return f"{self.form.format(self.value[user])}, not {number.format(self.usual)}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bots:
    """Who of U people looks like a bot, and why."""

    bot: Bools  # [U]
    score: Reals  # [U] 0 to MOST times the kinds
    looked_at: Bools  # [U] who has enough requests, among enough people
    signs: tuple[Sign, ...]

    def reasons(self, user: int) -> tuple[Sign, ...]:
        """The signs that tell, the strongest first."""
        telling = [sign for sign in self.signs if sign.deviations[user] >= TELLING]
        return tuple(sorted(telling, key=lambda sign: -sign.deviations[user]))

    def counts(self) -> Mapping[str, int]:
        """How many of those who look like bots have each sign; one person has several."""
        return {sign.name: int((sign.deviations[self.bot] >= TELLING).sum()) for sign in self.signs}


def find_bots(log: Log, train: Ints) -> Bots:
    """Who looks like a bot, by the events at `train` (positions, ascending) and no others."""
    people = len(log.users)
    begin = log.begin(train)
    request = train[np.append(True, begin[1:] != begin[:-1])] if len(train) else train
    user = log.user_of(request)
    requests = np.bincount(user, minlength=people)
    looked_at = requests >= ENOUGH
    if looked_at.sum() < PEOPLE:
        nobody = np.zeros(people, dtype=bool)
        return Bots(bot=nobody, score=np.zeros(people), looked_at=nobody, signs=())
    signs = (
        *_how_much(requests, looked_at),
        *_when(user, np.asarray(log.events["time"])[request], requests, looked_at, timeless=log.schema.events.time.unit == "rows"),
        *_what(log, train, looked_at),
    )
    score = np.zeros(people)
    for kind in KINDS:
        of_kind = [sign.deviations for sign in signs if sign.kind == kind]
        score += np.clip(np.max(of_kind, axis=0), 0, MOST) if of_kind else 0.0
    return Bots(bot=score >= SCORE, score=score, looked_at=looked_at, signs=signs)


def _sign(name: str, kind: str, form: str, value: Reals, odd: Reals, least: float, looked_at: Bools) -> Sign:
    """odd: [U], the more the odder; deviations are of it, `value` is what is said."""
    middle = float(np.median(odd[looked_at]))
    spread = max(1.4826 * float(np.median(np.abs(odd[looked_at] - middle))), least)
    return Sign(
        name=name,
        kind=kind,
        form=form,
        value=value,
        usual=float(np.median(value[looked_at])),
        deviations=np.where(looked_at, (odd - middle) / spread, 0.0),
    )


def _how_much(requests: Ints, looked_at: Bools) -> Iterator[Sign]:
    value = requests.astype(np.float64)
    yield _sign("requests", KINDS[0], "{:,.0f} requests", value, np.log2(np.maximum(value, 1)), 0.5, looked_at)


def _when(user: Ints, time: Ints, requests: Ints, looked_at: Bools, *, timeless: bool) -> Iterator[Sign]:
    """What the clock tells: nothing in a log without times, and of days alone where it shows full hours."""
    if timeless:
        return
    people, same = len(requests), user[1:] == user[:-1]
    days, hours = (
        np.maximum(np.bincount(user[np.append(True, ~same | (np.diff(time // unit) != 0))], minlength=people), 1) for unit in (DAY, HOUR)
    )
    daily = np.maximum(requests, 1) / days
    yield _sign("requests a day", KINDS[0], "{:,.1f} requests a day", daily, np.log2(daily), 0.5, looked_at)
    if (time % HOUR == time[0] % HOUR).all():
        return
    awake = hours / days
    yield _sign("hours a day", KINDS[1], "{:.1f} hours of a day", awake, np.log2(awake), 0.25, looked_at)
    gap, whose = np.log1p(np.diff(time)[same] / 1000), user[1:][same]
    count = np.maximum(np.bincount(whose, minlength=people), 1)
    mean = np.bincount(whose, gap, people) / count
    spread = np.sqrt(np.bincount(whose, (gap - mean[whose]) ** 2, people) / count)
    yield _sign("steady gaps", KINDS[1], "gaps within a factor of {:,.0f}", np.exp(spread), -spread, 0.25, looked_at)


def _what(log: Log, train: Ints, looked_at: Bools) -> Iterator[Sign]:
    people, positive = len(log.users), log.positive[train]
    choices = Once.of(log, train[positive])
    observed, expected = (np.bincount(choices.user, counted, people) for counted in together(choices))
    chose = looked_at & (np.bincount(choices.user, minlength=people) >= CHOICES)
    usual = observed.sum() / max(expected.sum(), 1e-9)
    if chose.sum() >= PEOPLE and usual > 0:
        times = (observed + FEW * usual) / (expected + FEW)
        form = "choices side by side {:.1f} times as often as by chance"
        yield _sign("no taste", KINDS[2], form, times, -np.log2(times), 0.25, chose)
    if not positive.all():
        user = log.user_of(train)
        share = np.bincount(user, positive, people) / np.maximum(np.bincount(user, minlength=people), 1)
        yield _sign("share chosen", KINDS[2], "{:.0%} chosen of what was shown", share, share, 0.05, looked_at)
