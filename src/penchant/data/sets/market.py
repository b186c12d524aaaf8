"""A simulated market whose truth is known: as a log to learn from, and as the answer to judge by.

    person ── tastes, which drift ──┐
    context (device, hour) ─────────┴─ active taste of a session ─┐
    person, what is alive ── recommender ── candidate, price then ┴─ relevance ── position ── click ── buy, dwell

make_market("shop") writes a new folder of plain files, the same that anybody's log would be, and the truth beside them:

    events.csv or events/part-00000.parquet ...   one row a candidate shown, by person, time and position; or only the clicks
    items.csv, users.csv (or .parquet), schema.toml
    truth/rows/part-00000.parquet ...             request, probability, relevance of each event, in the order of the events;
                                                  with `flip` also flipped: whether its click is turned over
    truth/requests/part-00000.parquet ...         request, session, active (taste)
    truth/tastes.parquet                          user, taste, weight, from, to (unix ms, `to` not included)
    truth/people.parquet, truth/items.parquet     what each is really like
    truth/config.toml, truth/contexts.json        how it was made; which group of tastes each context prefers

Tastes. A person has 1 to `most_tastes` tastes at a time, with weights w that sum to 1. Every `stage` days, counted from a
day of the person's own, each taste is replaced with probability `drift`, and the weights with it.

Context. A session has one device, by the part of the day (six hours, UTC) in which it begins. Each (device, part of day)
prefers one of three groups of tastes, the same one for everybody. The active taste of a session is drawn by w; with
probability `context`, only among the person's tastes of the preferred group, where there is one. So `context` 1 makes the
context worth knowing, and `context` 0 leaves the same contexts without any meaning.

Candidates. Each of the `slots` is a popular item, one of the person's tastes or any item, always one that is born,
no item twice in a request. Where a candidate stands says nothing of how good it is.

Clicks. Of item i of taste g, shown to person u at position k for price p, the list price being P:

    relevance   = sigmoid(BASE + lean[u] + WEIGHT w[u, g] + ACTIVE [g is active] + QUALITY quality[i] - PRICE log(p / P))
    seen        = relevance / (1 + k) ** position
    probability = seen (1 - lost) + (1 - seen) random

Bots ask BOT_TIMES as often, look at every position alike, and click whatever it is: their relevance is BLIND.

What is recorded is turned over for a share `flip` of the rows, whoever asked and whatever was shown: clicks become none, and
others become clicks, with the purchases and dwell times that so relevant an item would have had. Nothing else changes.

Every draw is a hash of what it is for (penchant.data.draw), so what a person does depends on the seed, the person and
the items only, not on how many people there are; and part after part is written in memory that does not grow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field as Limits
from pydantic import model_validator

from penchant import files
from penchant.config import Config, dump, read
from penchant.data.draw import Bits, Permutation, below, bits, share
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import ArtefactError

Reals = NDArray[np.float64]
Columns = Mapping[str, Any]  # equally long numpy or Arrow arrays by name

FIRST = 1_704_067_200_000  # the first moment, unix ms: Monday, 2024-01-01
DAY, HOUR = 86_400_000, 3_600_000  # ms
PART = 1 << 20  # rows of a part file, about
BLOCK = 1 << 16  # rows that are made at once: few enough to stay in a processor's cache
MOST_REQUESTS = 10_000_000  # of a person

BASE, WEIGHT, ACTIVE, QUALITY, PRICE = -3.5, 1.5, 4.0, 0.6, 3.0  # of the logit of relevance
LEAN = 0.4  # the spread of people's readiness to click
BLIND = 0.2  # the relevance of anything to a bot
BOT_TIMES = 20  # a bot's requests, as a multiple of a person's
ABSURD = 10_000.0  # an absurd price, as a multiple of a sane one

GAP, LEAST_GAP = 90_000, 5_000  # mean and least ms between the requests of a session, before the day's curve
REST = HOUR  # least ms between sessions, before the day's curve
CURVE = 0.6  # how much livelier the evening is than the mean of the day

DEVICES = ("phone", "desk", "tv")
PARTS = 4  # of a day: night, morning, afternoon, evening
DEVICE_BY_PART = np.array([[0.5, 0.1, 0.4], [0.6, 0.3, 0.1], [0.35, 0.5, 0.15], [0.35, 0.15, 0.5]])
GROUPS = 3  # of tastes
PREFERRED = (np.arange(len(DEVICES))[:, None] + np.arange(PARTS)) % GROUPS  # [device, part] the group that a context prefers

OLD = 0.6  # the share of the items that are not cold which are older than the log
LATE = 0.85  # cold items are born after this share of the log, all others before
YEAR = 365 * DAY
SALE, OFF = 0.15, 0.25  # the share of items on sale in a week, and by how much
PROFILE = 0.3  # the share of tastes that go with gender and age
BLANK = 0.05  # the share of people whose gender or age nobody knows
TOWNS, BRANDS = 20, 100


class MarketConfig(Config):
    """How large a market is and how hard it is to read."""

    people: int = Limits(200, ge=1, le=10**9)
    items: int = Limits(500, ge=2, le=10**8)
    requests: float = Limits(10.0, ge=1, le=10_000)  # of a person, the mean; bots aside
    slots: int = Limits(8, ge=1, le=1000)  # items that a request shows
    days: int = Limits(60, ge=1, le=3650)  # from the first to the last moment
    tastes: int = Limits(12, ge=2, le=10_000)  # in all
    most_tastes: int = Limits(4, ge=1, le=16)  # of a person at a time
    stage: float = Limits(10.0, ge=0.1, le=3650)  # days between the moments at which a person's tastes may change
    drift: float = Limits(0.1, ge=0, le=1)  # the probability that a taste is replaced at such a moment
    session: float = Limits(3.0, ge=1)  # requests of a session, the mean
    context: float = Limits(1.0, ge=0, le=1)  # how strongly device and part of day choose the active taste
    position: float = Limits(0.7, ge=0, le=10)  # the exponent of the position bias; 0: every position is seen alike
    popular: float = Limits(0.3, ge=0, le=1)  # the share of the slots that show popular items
    own: float = Limits(0.4, ge=0, le=1)  # the share of the slots that show items of the person's tastes; the rest show any
    tail: float = Limits(0.8, ge=0, le=5)  # the item of popularity rank r is shown like 1 / (r + 10) ** tail
    cold: float = Limits(0.1, ge=0, lt=1)  # the share of the items that are born late and hardly shown
    blur: float = Limits(0.15, ge=0, le=1)  # the share of the items whose category says nothing of their taste
    random: float = Limits(0.01, ge=0, le=1)  # the probability of a click on what would not have been clicked
    lost: float = Limits(0.05, ge=0, le=1)  # the probability that a click is not recorded
    flip: float = Limits(0.0, ge=0, le=0.5)  # the share of the rows whose click is turned over
    bots: float = Limits(0.005, ge=0, le=1)  # the share of the people who are bots
    absurd: float = Limits(0.01, ge=0, le=1)  # the share of the items whose price is absurd
    impressions: bool = True  # False: only the clicks are written
    format: Literal["csv", "parquet"] = "csv"  # parquet: quicker and smaller, in parts of about a million events
    seed: int = Limits(0, ge=0, lt=2**63)  # the same seed and sizes, the same bytes

    @model_validator(mode="after")
    def _consistent(self) -> MarketConfig:
        if self.most_tastes > self.tastes:
            raise ValueError(
                f"most_tastes is {self.most_tastes}, but there are {self.tastes} tastes in all; at most that many were wanted."
            )
        if self.popular + self.own > 1 + 1e-9:
            raise ValueError(f"popular {self.popular:g} and own {self.own:g} are shares of the same slots; a sum of at most 1 was wanted.")
        if self.slots > self.warm:
            raise ValueError(
                f"slots is {self.slots}, but {self.warm} of the {self.items} items are not cold; at least as many were wanted, "
                "because a request shows no item twice."
            )
        if self.stages * self.most_tastes > 10_000:
            raise ValueError(f"stage {self.stage:g} makes {self.stages} stages of {self.days} days; a longer stage was wanted.")
        return self

    @property
    def warm(self) -> int:
        """How many items are not cold."""
        return self.items - round(self.cold * self.items)

    @property
    def stages(self) -> int:
        """How many stages a person goes through, the first and the last being cut off by the ends of the log."""
        return self.days * DAY // self.stage_ms + 2

    @property
    def stage_ms(self) -> int:
        """The length of a stage, in ms."""
        return round(self.stage * DAY)

    @property
    def part(self) -> int:
        """How many people a part holds, however many there are in all."""
        rows = self.requests * self.slots * (1 + self.bots * (BOT_TIMES - 1))
        return max(1, int(PART / max(rows, self.stages * self.most_tastes)))


@dataclass(frozen=True, kw_only=True)
class Market:
    """A market that now lies in a folder."""

    folder: Path
    people: int
    items: int
    requests: int
    events: int  # rows written: candidates shown, or clicks where config.impressions is False
    clicks: int
    buys: int
    parts: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What is so in a market of N events, Q requests, U people, I items, T tastes and M intervals of tastes."""

    config: MarketConfig
    row_request: Ints  # [N]  of each event, in the order of the events
    probability: Floats  # [N]  of a click, as it was drawn, before any was turned over
    relevance: Floats  # [N]  the same without position and noise
    flipped: Bools  # [N]  whether the click of the log is the other one than was drawn
    request: Ints  # [Q]
    session: Ints  # [Q]  numbered from 0 for each person
    active: Ints  # [Q]  the taste that the session was about
    taste_user: Ints  # [M]  by person, then by begin
    taste: Ints  # [M]
    weight: Reals  # [M]  those of one person and moment sum to 1
    begin: Ints  # [M]  unix ms
    end: Ints  # [M]  unix ms, not included
    user: Ints  # [U]
    bot: Bools  # [U]
    lean: Reals  # [U]
    item: Ints  # [I]  by birth
    item_taste: Ints  # [I]
    quality: Reals  # [I]
    popularity: Reals  # [I]  shares that sum to 1
    birth: Ints  # [I]  unix ms
    cold: Bools  # [I]
    group: Ints  # [T]  of each taste
    preferred: Ints  # [device, part of day]  the group of tastes that a context prefers


def make_market(folder: Path | str, config: MarketConfig = MarketConfig()) -> Market:
    """Writes a market and its truth into a new `folder`, whole or not at all; the same config gives the same bytes.

    Raises ExistsError where `folder` is there already, DiskError where it cannot be written.
    """
    folder = Path(folder)
    with files.whole(folder, what="market") as draft:
        (draft / "truth").mkdir()
        goods = _goods(config)
        group = Permutation(config.tastes, config.seed, _Draw.GROUP)[:] % GROUPS
        _write_goods(draft, config, goods)
        counts = _write_people(draft, config, goods, group)
        (draft / "schema.toml").write_text(_schema(config), encoding="utf-8")
        (draft / "truth" / "config.toml").write_text(dump(config), encoding="utf-8")
        contexts = {"devices": list(DEVICES), "parts": PARTS, "preferred": PREFERRED.tolist(), "group": group.tolist()}
        (draft / "truth" / "contexts.json").write_text(json.dumps(contexts) + "\n", encoding="utf-8")
    return Market(folder=folder, people=config.people, items=config.items, parts=-(-config.people // config.part), **counts)


def read_truth(folder: Path | str) -> Truth:
    """The truth of a market that make_market wrote. Raises ArtefactError where there is none."""
    truth = Path(folder) / "truth"
    if not (truth / "config.toml").is_file():
        raise ArtefactError(f"{folder}: this is not a market: it has no truth/config.toml.")
    contexts = json.loads((truth / "contexts.json").read_text(encoding="utf-8"))
    rows, requests = _arrays(truth / "rows"), _arrays(truth / "requests")
    tastes, people, items = (_arrays(truth / f"{name}.parquet") for name in ("tastes", "people", "items"))
    return Truth(
        config=read(MarketConfig, truth / "config.toml"),
        row_request=rows["request"],
        probability=rows["probability"],
        relevance=rows["relevance"],
        flipped=rows.get("flipped", np.zeros(len(rows["request"]), bool)),
        request=requests["request"],
        session=requests["session"],
        active=requests["active"],
        taste_user=tastes["user"],
        taste=tastes["taste"],
        weight=tastes["weight"],
        begin=tastes["from"],
        end=tastes["to"],
        user=people["user"],
        bot=people["bot"],
        lean=people["lean"],
        item=items["item"],
        item_taste=items["taste"],
        quality=items["quality"],
        popularity=items["popularity"],
        birth=items["birth"],
        cold=items["cold"],
        group=np.array(contexts["group"], np.int64),
        preferred=np.array(contexts["preferred"], np.int64),
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


# Draws

# What a random number is for: no two uses share one.
_Draw = IntEnum(
    "_Draw",
    "ITEM PERSON REQUEST GROUP ID WARM_RANK COLD_RANK BRAND_LEVEL BRAND_QUALITY BIRTH TASTE CATEGORY BLUR BRAND ITEM_PRICE "
    "ITEM_QUALITY ABSURD SWING PHASE SALE GENDER AGE TOWN BLANK BOT LEAN HOW_MANY OFFSET REPLACED PROFILE FAVOURITE "
    "PERSON_TASTE PERSON_WEIGHT REQUESTS JOIN NEW GAP PAUSE LAST_PAUSE DEVICE GATE ACTIVE SOURCE PICK THREAD AGAIN FIRST_KEPT NEIGHBOURS "
    "CLICK BUY DWELL FLIP",
)
USES = 64  # more than there are


def _bits(key: Bits, what: _Draw, place: int | Ints = 0) -> Bits:
    """Random bits for a use and a place of what the key stands for; key and place broadcast."""
    return bits(key.view(np.int64), what + USES * np.asarray(place, np.int64))


def _share(key: Bits, what: _Draw, place: int | Ints = 0) -> Reals:
    """Uniform in [0, 1)."""
    return share(_bits(key, what, place))


def _exponential(key: Bits, what: _Draw, place: int | Ints = 0) -> Reals:
    """Of mean 1."""
    return -np.log1p(-_share(key, what, place))


def _normal(key: Bits, what: _Draw, place: int | Ints = 0) -> Reals:
    """Of mean 0 and deviation 1 (Box and Muller)."""
    random = _bits(key, what, place)
    angle = share(bits(random.view(np.int64)))
    found: Reals = np.sqrt(-2 * np.log1p(-share(random))) * np.cos(2 * np.pi * angle)
    return found


def _long_tailed(random: Reals, size: int) -> Ints:
    """int64 in [0, size), the first ones most often."""
    return (size * random**2).astype(np.int64)


# Items


@dataclass(frozen=True, kw_only=True, eq=False)
class _Goods:
    """I items by birth, and what it takes to draw one that is born by a moment: O(I) memory, whatever the tastes."""

    id: Ints  # [I]
    key: Bits  # [I]
    taste: Ints  # [I]
    category: Ints  # [I]
    brand: Ints  # [I]
    quality: Reals  # [I]
    price: Reals  # [I]  the list price
    swing: Reals  # [I]  how far the logarithm of the price moves up and down
    phase: Reals  # [I]
    birth: Ints  # [I]  ascending
    cold: Bools  # [I]
    popularity: Reals  # [I]
    mass: Reals  # [I + 1]  popularity summed up
    by_taste: Ints  # [I]  items by taste, then by birth
    taste_birth: Ints  # [I]  ascending: span times the taste, and the birth in the order of by_taste
    taste_mass: Reals  # [I + 1]  popularity summed up in the order of by_taste
    taste_start: Ints  # [T + 1]  where each taste begins in by_taste
    span: int  # more than the ms from the first birth to the last moment

    def alive(self, time: Ints) -> Ints:
        """How many items are born by then; these are the first ones."""
        return np.searchsorted(self.birth, time, side="right").astype(np.int64)

    def alive_of(self, taste: Ints, time: Ints) -> Ints:
        """Where in by_taste the items of a taste end that are born by then."""
        found: Ints = np.searchsorted(self.taste_birth, taste * self.span + (time - self.birth[0]), side="right").astype(np.int64)
        return found

    def change(self, item: Ints, time: Ints) -> Reals:
        """The logarithm of the price then over the list price: it swings over some weeks, and is off in weeks of sale."""
        week = (time - FIRST) / (7 * DAY)
        swing = self.swing[item] * np.sin(2 * np.pi * (week / 8 + self.phase[item]))
        sale = _share(self.key[item], _Draw.SALE, week.astype(np.int64)) < SALE
        return swing + sale * math.log1p(-OFF)


def _goods(config: MarketConfig) -> _Goods:
    size, warm, last = config.items, config.warm, config.days * DAY
    key = bits(config.seed, _Draw.ITEM, np.arange(size))
    old = max(config.slots, round(OLD * warm))
    when = _share(key, _Draw.BIRTH)
    age = np.concatenate(
        [np.sort(-YEAR * when[:old]), np.sort(LATE * last * when[old:warm]), np.sort(last * (LATE + (1 - LATE) * when[warm:]))]
    )
    birth = FIRST + np.floor(age).astype(np.int64)
    rank = np.concatenate(
        [Permutation(warm, config.seed, _Draw.WARM_RANK)[:], warm + Permutation(size - warm, config.seed, _Draw.COLD_RANK)[:]]
    )
    taste = below(config.tastes, _bits(key, _Draw.TASTE))
    category = 2 * taste + below(2, _bits(key, _Draw.CATEGORY))
    category = np.where(_share(key, _Draw.BLUR) < config.blur, below(2 * config.tastes, _bits(key, _Draw.CATEGORY, 1)), category)
    brand = _long_tailed(_share(key, _Draw.BRAND), BRANDS)
    maker = bits(config.seed, _Draw.BRAND, np.arange(BRANDS))
    price: Reals = np.exp(3 + 0.6 * _normal(maker, _Draw.BRAND_LEVEL)[brand] + 0.5 * _normal(key, _Draw.ITEM_PRICE))
    price = np.where(_share(key, _Draw.ABSURD) < config.absurd, ABSURD * price, price)
    popularity = (rank + 10.0) ** -config.tail
    popularity /= popularity.sum()
    by_taste = np.argsort(taste, kind="stable")
    span = int(FIRST + last - birth[0]) + 1
    return _Goods(
        id=1 + Permutation(size, config.seed, _Draw.ID)[:],
        key=key,
        taste=taste,
        category=category,
        brand=brand,
        quality=0.6 * _normal(maker, _Draw.BRAND_QUALITY)[brand] + 0.8 * _normal(key, _Draw.ITEM_QUALITY),
        price=np.round(price, 2),
        swing=0.2 * _share(key, _Draw.SWING),
        phase=_share(key, _Draw.PHASE),
        birth=birth,
        cold=np.arange(size) >= warm,
        popularity=popularity,
        mass=np.concatenate([[0.0], np.cumsum(popularity)]),
        by_taste=by_taste,
        taste_birth=taste[by_taste] * span + (birth[by_taste] - birth[0]),
        taste_mass=np.concatenate([[0.0], np.cumsum(popularity[by_taste])]),
        taste_start=np.searchsorted(taste[by_taste], np.arange(config.tastes + 1)).astype(np.int64),
        span=span,
    )


# People


@dataclass(frozen=True, kw_only=True, eq=False)
class _People:
    """P people, S stages of each, K = most_tastes places for tastes."""

    user: Ints  # [P]
    key: Bits  # [P]
    bot: Bools  # [P]
    lean: Reals  # [P]  their readiness to click
    gender: Ints  # [P]  0 or 1
    age: Ints  # [P]
    offset: Ints  # [P]  ms from the first moment to the beginning of stage 1
    taste: Ints  # [P, S, K]
    weight: Reals  # [P, S, K]  0 where there is no taste
    changed: Bools  # [P, S]  whether a taste was replaced when the stage began


def _people(config: MarketConfig, user: Ints) -> _People:
    key = bits(config.seed, _Draw.PERSON, user)
    gender = below(2, _bits(key, _Draw.GENDER))
    age = 16 + (65 * (_share(key, _Draw.AGE) + _share(key, _Draw.AGE, 1)) / 2).astype(np.int64)
    count = 1 + below(config.most_tastes, _bits(key, _Draw.HOW_MANY))
    kind = 3 * gender + np.digitize(age, [35, 55])  # those of one kind have some favourite tastes in common
    taste = np.full((len(user), config.stages, config.most_tastes), -1)
    raw = np.zeros(taste.shape)
    changed = np.zeros(taste.shape[:2], bool)
    for stage in range(config.stages):
        now, heavy = taste[:, stage], raw[:, stage]
        if stage:
            now[:], heavy[:] = taste[:, stage - 1], raw[:, stage - 1]
        for place in range(config.most_tastes):
            at = stage * config.most_tastes + place
            new = (place < count) & ((stage == 0) | (_share(key, _Draw.REPLACED, at) < config.drift))
            others = np.delete(now, place, axis=1)
            now[new, place] = _new_taste(config, key[new], kind[new], others[new], at)
            heavy[new, place] = 0.1 + _exponential(key[new], _Draw.PERSON_WEIGHT, at)
            changed[:, stage] |= new
    return _People(
        user=user,
        key=key,
        bot=_share(key, _Draw.BOT) < config.bots,
        lean=LEAN * _normal(key, _Draw.LEAN),
        gender=gender,
        age=age,
        offset=(_share(key, _Draw.OFFSET) * config.stage_ms).astype(np.int64),
        taste=taste,
        weight=raw / raw.sum(-1, keepdims=True),
        changed=changed,
    )


def _new_taste(config: MarketConfig, key: Bits, kind: Ints, others: Ints, at: int) -> Ints:
    """A taste that is none of `others` [P, K - 1] (-1: no taste): a favourite of people of the kind, or any."""
    variant = below(3, _bits(key, _Draw.FAVOURITE, at))
    favourite = below(config.tastes, bits(config.seed, _Draw.FAVOURITE, kind, variant))
    wanted = (_share(key, _Draw.PROFILE, at) < PROFILE) & (others != favourite[:, None]).all(-1)
    taste = (_share(key, _Draw.PERSON_TASTE, at) * (config.tastes - (others >= 0).sum(-1))).astype(np.int64)
    for other in np.sort(others, axis=-1).T:  # any of those left: step over the others
        taste += (other >= 0) & (taste >= other)
    return np.where(wanted, favourite, taste)


def _intervals(config: MarketConfig, people: _People) -> Columns:
    """From when to when each taste had which weight: new rows whenever one of a person's tastes is replaced."""
    begin = people.offset[:, None] + np.arange(-1, config.stages - 1) * config.stage_ms  # [P, S]
    begin = np.clip(begin, 0, config.days * DAY)
    person, stage = np.nonzero(people.changed & (begin < config.days * DAY))
    last = np.append(person[1:] != person[:-1], True)
    end = np.where(last, config.days * DAY, np.roll(begin[person, stage], -1))
    row, place = np.nonzero((people.weight[person, stage] > 0) & (end > begin[person, stage])[:, None])
    return {
        "user": people.user[person[row]],
        "taste": people.taste[person[row], stage[row], place],
        "weight": people.weight[person[row], stage[row], place],
        "from": FIRST + begin[person[row], stage[row]],
        "to": FIRST + end[row],
    }


def _profiles(people: _People) -> Columns:
    blank = _share(people.key[:, None], _Draw.BLANK, np.arange(2)) < BLANK
    town = _long_tailed(_share(people.key, _Draw.TOWN), TOWNS)
    return {
        "user_id": people.user,
        "gender": pa.array(np.array(["f", "m"])[people.gender], mask=blank[:, 0]),
        "town": _named("town-", town),
        "age": pa.array(people.age, mask=blank[:, 1]),
    }


# Requests


@dataclass(frozen=True, kw_only=True, eq=False)
class _Requests:
    """Q requests, by person and time."""

    id: Ints  # [Q]
    user: Ints  # [Q]
    key: Bits  # [Q]
    time: Ints  # [Q]  unix ms
    session: Ints  # [Q]  from 0 for each person
    device: Ints  # [Q]
    active: Ints  # [Q]  taste
    taste: Ints  # [Q, K]  of the person then
    weight: Reals  # [Q, K]
    bot: Bools  # [Q]
    lean: Reals  # [Q]

    def blocks(self, size: int) -> Iterator[_Requests]:
        for begin in range(0, len(self.id), size):
            yield _Requests(**{field.name: getattr(self, field.name)[begin : begin + size] for field in fields(self)})


def _requests(config: MarketConfig, people: _People, group: Ints) -> _Requests:
    count = _how_many(config, people)
    person = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    place = np.arange(len(person)) - start[person]
    key = _bits(people.key[person], _Draw.REQUEST, place)
    new = (place == 0) | (_share(key, _Draw.NEW) < 1 / config.session)
    time = _times(config, people, key, person, start, new)
    stage = (time - FIRST - people.offset[person]) // config.stage_ms + 1
    taste, weight = people.taste[person, stage], people.weight[person, stage]
    of = np.cumsum(new) - 1  # the session of each request, among all
    device, active = _sessions(config, key[new], time[new], taste[new], weight[new], group)
    return _Requests(
        id=people.user[person] * MOST_REQUESTS + place,
        user=people.user[person],
        key=key,
        time=time,
        session=of - of[start][person],
        device=device[of],
        active=active[of],
        taste=taste,
        weight=weight,
        bot=people.bot[person],
        lean=people.lean[person],
    )


def _how_many(config: MarketConfig, people: _People) -> Ints:
    """Requests of each person: geometric, so that many people have few."""
    count = np.ones(len(people.key), np.int64)
    if config.requests > 1:
        count += (_exponential(people.key, _Draw.REQUESTS) / -math.log1p(-1 / config.requests)).astype(np.int64)
    return np.where(people.bot, BOT_TIMES * count, count)


def _times(config: MarketConfig, people: _People, key: Bits, person: Ints, start: Ints, new: Bools) -> Ints:
    """unix ms [Q]: a person's sessions fall anywhere between joining and the end of the log, and do not overlap.

    The sums are of whole numbers, so that they are exact and say the same whoever else is in the part.
    """
    join = (_share(people.key, _Draw.JOIN) * config.days * DAY / 2).astype(np.int64)
    window = config.days * DAY - join
    gap = np.where(new, REST, LEAST_GAP + (GAP - LEAST_GAP) * _exponential(key, _Draw.GAP)).astype(np.int64)
    pause = np.where(new, 1e6 * _exponential(key, _Draw.PAUSE), 0).astype(np.int64)
    busy = np.add.reduceat(gap, start)
    paused = np.add.reduceat(pause, start) + 1 + (1e6 * _exponential(people.key, _Draw.LAST_PAUSE)).astype(np.int64)
    hurry = np.minimum(1.0, 0.5 * window / busy)  # of those who have more to do than time
    done, waited = np.cumsum(gap), np.cumsum(pause)
    done, waited = done - (done - gap)[start][person], waited - (waited - pause)[start][person]
    free = (window - hurry * busy) / paused
    time = join[person] + np.floor(hurry[person] * done + free[person] * waited).astype(np.int64)
    share_of_day: Reals = (time % DAY) / DAY
    share_of_day += CURVE / (2 * np.pi) * (1 - np.cos(2 * np.pi * share_of_day))  # slow, and so lively, in the evening
    at: Ints = FIRST + time // DAY * DAY + np.minimum(np.floor(share_of_day * DAY), DAY - 1).astype(np.int64)
    return at


def _sessions(config: MarketConfig, key: Bits, time: Ints, taste: Ints, weight: Reals, group: Ints) -> tuple[Ints, Ints]:
    """The device and the active taste of sessions that begin so."""
    part = (time - FIRST) % DAY // (DAY // PARTS)
    device = _pick(DEVICE_BY_PART[part], _share(key, _Draw.DEVICE))
    fits = (weight > 0) & (group[taste] == PREFERRED[device, part][:, None])
    chosen = (_share(key, _Draw.GATE) < config.context) & fits.any(-1)
    weight = np.where(chosen[:, None] & ~fits, 0.0, weight)
    place = _pick(weight, _share(key, _Draw.ACTIVE))
    return device, np.take_along_axis(taste, place[:, None], -1)[:, 0]


def _pick(weight: Reals, random: Reals) -> Ints:
    """int64 [Q] a place of each row of weights [Q, K], as likely as the weight says."""
    total = np.cumsum(weight, -1)
    random = random * total[:, -1]
    place = np.zeros(random.shape, np.int64)
    for at in range(total.shape[-1] - 1):
        place += random >= total[:, at]
    return place


# Rows


def _shown(config: MarketConfig, goods: _Goods, requests: _Requests) -> Ints:
    """int64 [Q, slots] the items that each request shows, none twice."""
    key, slot = requests.key[:, None], np.arange(config.slots)
    alive = goods.alive(requests.time)
    random = _share(key, _Draw.PICK, slot)
    item = (random * alive[:, None]).astype(np.int64)
    source = _share(key, _Draw.SOURCE, slot)

    row, at = np.nonzero(source < config.own)
    place = _pick(requests.weight[row], _share(requests.key[row], _Draw.THREAD, at))
    taste = requests.taste[row, place]
    begin, end = goods.taste_start[taste], goods.alive_of(taste, requests.time[row])
    low, high = goods.taste_mass[begin], goods.taste_mass[end]
    found = np.searchsorted(goods.taste_mass, low + random[row, at] * (high - low), side="right") - 1
    some = begin < end  # there may be no item of a taste yet
    item[row[some], at[some]] = goods.by_taste[np.clip(found, begin, np.maximum(end, 1) - 1)[some]]

    row, at = np.nonzero((source >= config.own) & (source < config.own + config.popular))
    found = np.searchsorted(goods.mass, random[row, at] * goods.mass[alive[row]], side="right") - 1
    item[row, at] = np.minimum(found, alive[row] - 1)
    return _distinct(item, alive, requests.key)


def _distinct(item: Ints, alive: Ints, key: Bits) -> Ints:
    """`item` [Q, C], those that stand twice in a row replaced by any that are alive; no position more often than another."""
    slots = item.shape[1]
    first = below(slots, _bits(key, _Draw.FIRST_KEPT))  # of two that are the same, the next one from here on is kept
    rows = np.arange(len(item))
    for turn in range(4):
        place = np.sort(item[rows] * slots + (np.arange(slots) - first[rows, None]) % slots, axis=1)
        where, at = np.nonzero(place[:, 1:] // slots == place[:, :-1] // slots)
        if not len(where):
            return item
        row = rows[where]
        slot = (place[where, at + 1] + first[row]) % slots
        item[row, slot] = (_share(key[row], _Draw.AGAIN, turn * slots + slot) * alive[row]).astype(np.int64)
        rows = np.unique(row)
    # Few items, many slots: a run of neighbours in the order of birth.
    begin = (_share(key[rows], _Draw.NEIGHBOURS) * alive[rows]).astype(np.int64)
    item[rows] = (begin[:, None] + np.arange(slots)) % alive[rows, None]
    return item


def _rows(config: MarketConfig, goods: _Goods, requests: _Requests) -> tuple[dict[str, Any], dict[str, Any]]:
    """The events of these requests, and the truth of each, column by column."""
    key, slot = requests.key[:, None], np.arange(config.slots)
    item = _shown(config, goods, requests)
    change = goods.change(item, requests.time[:, None])
    taste, quality = goods.taste[item], goods.quality[item]
    logit = BASE + requests.lean[:, None] + QUALITY * quality - PRICE * change + ACTIVE * (taste == requests.active[:, None])
    for place in range(config.most_tastes):
        logit += WEIGHT * requests.weight[:, place, None] * (taste == requests.taste[:, place, None])
    bot = requests.bot[:, None]
    relevance = np.where(bot, BLIND, 1 / (1 + np.exp(-logit)))
    seen = relevance * np.where(bot, 1.0, (1.0 + slot) ** -config.position)
    probability = seen * (1 - config.lost) + (1 - seen) * config.random
    click = _share(key, _Draw.CLICK, slot) < probability
    flipped = _share(key, _Draw.FLIP, slot) < config.flip
    click ^= flipped

    row, at = np.nonzero(click)
    buy = np.zeros(item.shape, np.int8)
    wish = 1 / (1 + np.exp(2 - 2 * relevance[click] - 0.5 * quality[click] + PRICE * change[click]))
    buy[click] = _share(requests.key[row], _Draw.BUY, at) < wish
    dwell = np.zeros(item.shape)
    dwell[click] = np.round(np.exp(1.5 + 2.5 * relevance[click] + 0.6 * _normal(requests.key[row], _Draw.DWELL, at)), 1)

    events = {
        "request_id": np.repeat(requests.id, config.slots),
        "user_id": np.repeat(requests.user, config.slots),
        "item_id": goods.id[item].ravel(),
        "time": np.repeat(requests.time, config.slots),
        "device": pa.DictionaryArray.from_arrays(np.repeat(requests.device.astype(np.int8), config.slots), list(DEVICES)),
        "position": np.tile(slot.astype(np.int16), len(item)),
        "price": np.round(goods.price[item] * np.exp(change), 2).ravel(),
        "click": click.ravel().astype(np.int8),
        "buy": buy.ravel(),
        "dwell": pa.array(dwell.ravel(), mask=~click.ravel()),
    }
    chances = {"probability": probability.ravel().astype(np.float32), "relevance": relevance.ravel().astype(np.float32)}
    told = {"flipped": flipped.ravel()} if config.flip else {}
    return events, {"request": events["request_id"], **chances, **told}


# Files


@dataclass
class _Counts:
    requests: int = 0
    events: int = 0
    clicks: int = 0
    buys: int = 0


def _write_people(draft: Path, config: MarketConfig, goods: _Goods, group: Ints) -> dict[str, int]:
    """All that grows with the people, part by part."""
    counts = _Counts()
    truth = draft / "truth"
    csv_wanted = config.format == "csv"
    for folder in (truth / "rows", truth / "requests", *([] if csv_wanted else [draft / "events"])):
        folder.mkdir()
    with ExitStack() as stack:
        users = stack.enter_context(_writer(draft / f"users.{config.format}"))
        people_truth, tastes_truth = (stack.enter_context(_writer(truth / f"{name}.parquet")) for name in ("people", "tastes"))
        csv = stack.enter_context(_writer(draft / "events.csv")) if csv_wanted else None
        for part, begin in enumerate(range(0, config.people, config.part)):
            people = _people(config, np.arange(begin, min(begin + config.part, config.people)))
            users.write(_profiles(people))
            people_truth.write({"user": people.user, "bot": people.bot, "lean": people.lean})
            tastes_truth.write(_intervals(config, people))
            name = f"part-{part:05}.parquet"
            with ExitStack() as parts:
                events = csv or parts.enter_context(_writer(draft / "events" / name))
                rows_truth = parts.enter_context(_writer(truth / "rows" / name))
                requests_truth = parts.enter_context(_writer(truth / "requests" / name))
                requests = _requests(config, people, group)
                counts.requests += len(requests.id)
                requests_truth.write({"request": requests.id, "session": requests.session, "active": requests.active})
                for block in requests.blocks(max(1, BLOCK // config.slots)):
                    _write_rows(config, *_rows(config, goods, block), events, rows_truth, counts)
    return vars(counts)


def _write_rows(config: MarketConfig, events: Columns, truth: Columns, to: _Writer, truth_to: _Writer, counts: _Counts) -> None:
    counts.clicks += int(events["click"].sum())
    counts.buys += int(events["buy"].sum())
    table, beside = pa.table(events), pa.table(truth)
    if not config.impressions:
        clicked = pa.array(events["click"] == 1)
        table, beside = table.drop_columns(["request_id", "position", "click"]).filter(clicked), beside.filter(clicked)
    counts.events += len(table)
    to.write(table)
    truth_to.write(beside)


def _write_goods(draft: Path, config: MarketConfig, goods: _Goods) -> None:
    truth: dict[str, Any] = {"item": goods.id, "taste": goods.taste, "quality": goods.quality}
    truth |= {"popularity": goods.popularity, "birth": goods.birth, "cold": goods.cold}
    with _writer(draft / "truth" / "items.parquet") as to:
        to.write(truth)
    order = np.argsort(goods.id)  # the order of a list of items says nothing of them
    number = pa.array(goods.id[order])
    category, brand = _named("category-", goods.category[order]), _named("brand-", goods.brand[order])
    words = (brand.dictionary_decode(), category.dictionary_decode(), number.cast(pa.string()))
    listed = {"item_id": number, "title": pc.binary_join_element_wise(*words, " "), "category": category, "brand": brand}
    with _writer(draft / f"items.{config.format}") as to:
        to.write({**listed, "price": goods.price[order], "born": goods.birth[order] // DAY})


def _named(prefix: str, code: Ints) -> pa.DictionaryArray:
    names = [f"{prefix}{place}" for place in range(int(code.max()) + 1)]
    return pa.DictionaryArray.from_arrays(code.astype(np.int32), names)


class _Writer:
    """Appends equally long columns to one file, of the form that its name ends with; texts may be dictionary arrays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: BinaryIO | None = None
        self._parquet: pq.ParquetWriter | None = None

    def write(self, columns: Columns | pa.Table) -> None:
        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        if self._path.suffix == ".csv":
            self._write_csv(table)
            return
        if self._parquet is None:
            texts = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
            same = [name for name in ("request_id", "user_id", "time", "request", "user") if name in table.column_names]
            self._parquet = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", compression_level=1, use_dictionary=texts + same, store_schema=False
            )
        self._parquet.write_table(table)

    def _write_csv(self, table: pa.Table) -> None:
        if self._text is None:
            self._text = self._path.open("wb")
            self._text.write((",".join(table.column_names) + "\n").encode())
        plain = pa.table(
            {
                name: pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        )
        pv.write_csv(plain, self._text, pv.WriteOptions(include_header=False, quoting_style="none"))

    def close(self) -> None:
        for file in (self._text, self._parquet):
            if file is not None:
                file.close()


def _writer(path: Path) -> AbstractContextManager[_Writer]:
    return closing(_Writer(path))


def _schema(config: MarketConfig) -> str:
    """schema.toml, as somebody would write it by hand."""
    form = config.format
    file = "events.csv" if form == "csv" else "events/*.parquet"
    seen, action = ['label = { column = "click", at_least = 1 }'], 'buy = {}, dwell = { kind = "number" }'
    shown = ["", "[events.impressions]", 'request = "request_id"', 'shown = { position = {}, price = { kind = "number" } }']
    if not config.impressions:
        seen, shown, action = [], [], f'{action}, price = {{ kind = "number" }}'
    lines = [
        'name = "market"',
        "",
        "[events]",
        f'file = "{file}"',
        'user = "user_id"',
        'item = "item_id"',
        'time = { column = "time", unit = "ms" }',
        *seen,
        'moment = ["hour", "weekday"]',
        f"action = {{ {action} }}",
        "context = { device = {} }",
        *shown,
        "",
        "[items]",
        f'file = "items.{form}"',
        'key = "item_id"',
        'title = "title"',
        'fields = { category = {}, brand = {}, price = { kind = "number" }, born = { kind = "number" } }',
        "",
        "[users]",
        f'file = "users.{form}"',
        'key = "user_id"',
        'fields = { gender = {}, town = {}, age = { kind = "number" } }',
    ]
    return "\n".join(lines) + "\n"
