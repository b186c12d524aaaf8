"""The simulated market: what its log says agrees with the truth that is written beside it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from penchant.config import read
from penchant.data.sets import market as made
from penchant.data.sets.market import DAY, FIRST, MarketConfig, Truth, make_market, read_truth
from penchant.errors import ArtefactError, ConfigError, ExistsError
from penchant.schema import read_schema

SMALL = partial(MarketConfig, people=60, items=80, requests=4.0, slots=5, seed=3)
TRUE = partial(MarketConfig, people=1500, items=600, requests=12.0, slots=6, bots=0.01, drift=0.3, most_tastes=5, format="parquet")


class Read:
    """A market read back: its events as arrays, and its truth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_truth(folder).config
        self.events = arrays(self.table("events"))
        self.items = arrays(self.table("items"))
        self.users = self.table("users")
        self.truth: Truth = read_truth(folder)
        order = np.argsort(self.truth.item)
        self.good = order[np.searchsorted(self.truth.item[order], self.events["item_id"])]  # of each event, in the truth of items
        self.device = np.array([made.DEVICES.index(device) for device in ("desk", "phone", "tv")])[
            np.unique(self.events["device"], return_inverse=True)[1]
        ]

    def table(self, name: str) -> pa.Table:
        path = self.folder / f"{name}.csv"
        return pv.read_csv(path) if path.exists() else pq.read_table(self.folder / (name if name == "events" else f"{name}.parquet"))

    def per_request(self, name: str) -> NDArray[Any]:
        """[Q, slots]"""
        return self.events[name].reshape(-1, self.config.slots)


def arrays(table: pa.Table) -> dict[str, NDArray[Any]]:
    return {name: table[name].to_numpy() for name in table.column_names}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def deviations(table: NDArray[Any]) -> float:
    """How far the statistic of independence of a table of counts lies from what chance would make it, in deviations."""
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    free = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((((table - expected) ** 2 / expected).sum() - free) / np.sqrt(2 * free))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Read:
    folder = tmp_path_factory.mktemp("market") / "raw"
    make_market(folder, TRUE())
    return Read(folder)


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """The same market, the context meaning nothing."""
    folder = tmp_path_factory.mktemp("careless") / "raw"
    make_market(folder, TRUE(context=0.0))
    return Read(folder)


# Files


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_same_config_gives_the_same_bytes_and_another_seed_gives_others(tmp_path: Path, form: str) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_market(tmp_path / name, SMALL(format=form, seed=seed))
    a, b, c = (files_of(tmp_path / name) for name in "abc")
    assert a == b
    same = {name for name in a if a[name] == c[name]}
    assert same == {"schema.toml"}
    one, other = read_truth(tmp_path / "a"), read_truth(tmp_path / "c")
    for name in ("quality", "popularity", "birth", "item_taste", "item", "lean"):
        assert not np.array_equal(getattr(one, name), getattr(other, name)), name


def test_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    found = []
    for form in ("csv", "parquet"):
        make_market(tmp_path / form, SMALL(format=form))
        found.append(Read(tmp_path / form))
    for name in ("events", "items", "users"):
        one, other = (read.table(name) for read in found)
        assert one.column_names == other.column_names
        assert one.to_pylist() == [
            {key: value or "" if key == "gender" else value for key, value in row.items()} for row in other.to_pylist()
        ]


@pytest.mark.parametrize("impressions", [True, False])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_schema_names_the_columns_that_are_there(tmp_path: Path, form: str, impressions: bool) -> None:
    make_market(tmp_path / "m", SMALL(format=form, impressions=impressions))
    schema = read_schema(tmp_path / "m" / "schema.toml")
    found = Read(tmp_path / "m")
    events = {schema.events.user, schema.events.item, schema.events.time.column, *schema.events.action, *schema.events.context}
    assert schema.events.label is not None or not impressions
    if schema.events.label is not None and schema.events.impressions is not None:
        assert schema.events.impressions.request is not None
        events |= {schema.events.label.column, schema.events.impressions.request, *schema.events.impressions.shown}
    assert schema.items is not None
    assert schema.users is not None
    assert schema.items.title is not None
    assert events == set(found.events)
    assert {schema.items.key, schema.items.title, *schema.items.fields} == set(found.items)
    assert {schema.users.key, *schema.users.fields} == set(found.users.column_names)
    assert list((tmp_path / "m").glob(schema.events.file))
    assert (tmp_path / "m" / schema.items.file).exists()
    assert (tmp_path / "m" / schema.users.file).exists()


def test_the_counts_are_those_of_the_files(tmp_path: Path) -> None:
    said = make_market(tmp_path / "m", SMALL())
    found = Read(tmp_path / "m")
    assert (said.folder, said.people, said.items, said.parts) == (tmp_path / "m", 60, 80, 1)
    assert said.events == len(found.events["click"]) == said.requests * 5
    assert said.requests == len(found.truth.request)
    assert (said.clicks, said.buys) == (found.events["click"].sum(), found.events["buy"].sum())
    assert len(found.users) == len(found.truth.user) == 60
    assert sorted(found.items["item_id"]) == sorted(found.truth.item) == list(range(1, 81))


def test_only_the_clicks(tmp_path: Path) -> None:
    make_market(tmp_path / "all", SMALL())
    said = make_market(tmp_path / "clicks", SMALL(impressions=False))
    everything, clicks = Read(tmp_path / "all"), Read(tmp_path / "clicks")
    kept = everything.events["click"] == 1
    assert said.events == said.clicks == kept.sum() > 0
    for name, column in clicks.events.items():
        np.testing.assert_array_equal(column, everything.events[name][kept])
    np.testing.assert_array_equal(clicks.truth.probability, everything.truth.probability[kept])
    np.testing.assert_array_equal(clicks.truth.row_request, everything.truth.row_request[kept])


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(ExistsError, match="exists already"):
        make_market(tmp_path / "m", SMALL())
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]
    with pytest.raises(ArtefactError, match="this is not a market"):
        read_truth(tmp_path / "m")


def test_a_market_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: MarketConfig) -> str:
        raise RuntimeError("the end")

    monkeypatch.setattr(made, "_schema", fail)
    with pytest.raises(RuntimeError, match="the end"):
        make_market(tmp_path / "m", SMALL())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"slots": 60, "items": 50}, "slots is 60, but 45 of the 50 items are not cold; at least as many were wanted"),
        ({"most_tastes": 9, "tastes": 8}, "most_tastes is 9, but there are 8 tastes in all; at most that many were wanted."),
        ({"own": 0.6, "popular": 0.5}, "popular 0.5 and own 0.6 are shares of the same slots; a sum of at most 1 was wanted."),
        ({"days": 3650, "stage": 0.1}, "stage 0.1 makes 36502 stages of 3650 days; a longer stage was wanted."),
        ({"context": 1.5}, r"context is 1\.5; input should be less than or equal to 1"),
        ({"flip": 0.6}, r"flip is 0\.6; input should be less than or equal to 0\.5"),
        ({"poeple": 5}, "poeple is not a key of MarketConfig. Did you mean 'people'"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(MarketConfig, wrong)


def test_a_new_draw_leaves_the_others_as_they_were() -> None:
    assert [made._Draw[name] for name in ("ITEM", "CLICK", "DWELL", "FLIP")] == [1, 49, 51, 52]  # else a seed makes another market


def test_the_config_is_read_back(market: Read) -> None:
    assert market.truth.config == TRUE()


# Parts


def test_more_people_change_nothing_of_those_who_were_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "PART", 1000)
    few = make_market(tmp_path / "few", SMALL(format="parquet"))
    many = make_market(tmp_path / "many", SMALL(format="parquet", people=170))
    assert 1 < few.parts < many.parts
    a, b = files_of(tmp_path / "few"), files_of(tmp_path / "many")
    whole = [name for name in a if "part-" in name and f"part-{few.parts - 1:05}" not in name]  # the last part was cut off
    assert len(whole) == 3 * (few.parts - 1)
    assert [name for name in whole if a[name] != b[name]] == []
    one, other = Read(tmp_path / "few"), Read(tmp_path / "many")
    for name, column in one.events.items():
        np.testing.assert_array_equal(column, other.events[name][: len(column)])
    np.testing.assert_array_equal(one.truth.probability, other.truth.probability[: len(one.truth.probability)])
    np.testing.assert_array_equal(one.truth.taste, other.truth.taste[: len(one.truth.taste)])


def test_what_a_person_does_does_not_depend_on_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_market(tmp_path / "one", SMALL(format="parquet"))
    monkeypatch.setattr(made, "PART", 700)
    monkeypatch.setattr(made, "BLOCK", 64)
    assert make_market(tmp_path / "several", SMALL(format="parquet")).parts > 2
    one, several = Read(tmp_path / "one"), Read(tmp_path / "several")
    for name in one.events:
        np.testing.assert_array_equal(one.events[name], several.events[name])
    for field in fields(Truth):
        if field.name != "config":
            np.testing.assert_array_equal(getattr(one.truth, field.name), getattr(several.truth, field.name))


def test_memory_does_not_grow_with_the_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "PART", 1 << 14)
    monkeypatch.setattr(made, "BLOCK", 1 << 12)
    before = pa.total_allocated_bytes()

    def peak(people: int) -> int:
        tracemalloc.start()
        said = make_market(tmp_path / str(people), SMALL(format="parquet", people=people, bots=0.0))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert said.parts > 1
        return found

    peak(1600)  # what is loaded once
    small, large = peak(1800), peak(9000)
    assert large < 1.2 * small, (small, large)
    assert pa.total_allocated_bytes() - before < 1 << 20


# Requests


def test_a_request_shows_so_many_items_to_one_person_at_one_moment(market: Read) -> None:
    slots = market.config.slots
    for name in ("request_id", "user_id", "time", "device"):
        column = market.per_request(name)
        assert (column == column[:, :1]).all(), name
    assert (market.per_request("position") == np.arange(slots)).all()
    shown = np.sort(market.per_request("item_id"), axis=1)
    assert (shown[:, 1:] > shown[:, :-1]).all()
    request = market.per_request("request_id")[:, 0]
    assert len(np.unique(request)) == len(request)
    np.testing.assert_array_equal(request, market.truth.request)
    user, time = market.per_request("user_id")[:, 0], market.per_request("time")[:, 0]
    assert (np.diff(user) >= 0).all()
    assert (np.diff(time)[np.diff(user) == 0] >= 0).all()
    assert time.min() >= FIRST
    assert time.max() < FIRST + market.config.days * DAY
    people = np.bincount(user, minlength=market.config.people)
    assert people.min() >= 1
    mean, error = people[~market.truth.bot].mean(), people[~market.truth.bot].std() / np.sqrt((~market.truth.bot).sum())
    assert abs(mean - market.config.requests) < 5 * error


def test_no_item_twice_even_where_there_are_hardly_more_items_than_slots(tmp_path: Path) -> None:
    make_market(tmp_path / "m", SMALL(items=10, slots=9, cold=0.0, tastes=4))
    shown = np.sort(Read(tmp_path / "m").per_request("item_id"), axis=1)
    assert (shown[:, 1:] > shown[:, :-1]).all()
    assert len(np.unique(shown)) == 10


@pytest.mark.parametrize(
    "config",
    [
        MarketConfig(people=1, items=2, requests=1.0, slots=1, tastes=2, most_tastes=1, cold=0.0),
        MarketConfig(people=5, items=30, requests=400.0, slots=20, days=1, bots=0.5),  # more to do than a day has time for
        MarketConfig(people=30, tastes=12, most_tastes=12, drift=1.0, stage=1.0, session=1.0),
        MarketConfig(people=30, items=20, tastes=200, most_tastes=16, own=1.0, popular=0.0, stage=3650.0),  # hardly an item of a taste
        MarketConfig(people=30, random=1.0, lost=1.0, absurd=1.0, blur=1.0, tail=0.0, bots=1.0),
    ],
    ids=["least", "busy", "fickle", "bare", "noise"],
)
def test_the_ends_of_what_a_config_may_say(tmp_path: Path, config: MarketConfig) -> None:
    said = make_market(tmp_path / "m", config)
    found = Read(tmp_path / "m")
    assert said.events == said.requests * config.slots == len(found.events["time"])
    assert (found.events["time"] >= FIRST).all()
    assert (found.events["time"] < FIRST + config.days * DAY).all()
    assert (found.truth.birth[found.good] <= found.events["time"]).all()
    shown = np.sort(found.per_request("item_id"), axis=1)
    assert (shown[:, 1:] > shown[:, :-1]).all()
    assert (found.truth.probability >= 0).all()
    assert (found.truth.probability <= 1).all()
    user, time = found.per_request("user_id")[:, 0], found.per_request("time")[:, 0]
    assert (np.diff(time)[np.diff(user) == 0] >= 0).all()
    assert (found.truth.active >= 0).all()
    at = np.stack([found.truth.taste_user, found.truth.begin])
    assert np.bincount(np.unique(at, axis=1, return_inverse=True)[1], found.truth.weight) == pytest.approx(1)


def test_sessions_are_of_minutes_and_lie_hours_apart(market: Read) -> None:
    user, time = market.per_request("user_id")[:, 0], market.per_request("time")[:, 0]
    person = ~market.truth.bot[user[1:]] & (user[1:] == user[:-1])
    same = person & (market.truth.session[1:] == market.truth.session[:-1])
    next_one = person & (market.truth.session[1:] == market.truth.session[:-1] + 1)
    assert (same | next_one)[person].all()
    gap = np.diff(time)
    assert 30_000 < np.median(gap[same]) < 180_000
    assert gap[next_one].min() > 20 * 60_000
    assert np.median(gap[next_one]) > 12 * 3_600_000
    length = np.bincount(np.unique(np.stack([user, market.truth.session]), axis=1, return_inverse=True)[1])
    assert 2 < length.mean() < market.config.session + 0.5
    device = market.per_request("device")[:, 0]
    assert (device[1:] == device[:-1])[same].all()


def test_what_is_shown_is_born_and_some_items_are_cold(market: Read) -> None:
    truth = market.truth
    assert (truth.birth[market.good] <= market.events["time"]).all()
    assert truth.cold.sum() == round(market.config.cold * market.config.items)
    assert truth.birth[truth.cold].min() > FIRST + 0.8 * market.config.days * DAY
    late = (truth.birth > FIRST) & ~truth.cold
    assert 0.2 < late.mean() < 0.5
    shown = np.bincount(market.good, minlength=len(truth.item))
    assert 0 < shown[truth.cold].mean() < 0.1 * shown[~truth.cold].mean()
    born = dict(zip(market.items["item_id"], market.items["born"], strict=True))
    assert all(born[item] == birth // DAY for item, birth in zip(truth.item, truth.birth, strict=True))


def test_popular_items_are_shown_more(market: Read) -> None:
    truth = market.truth
    old = truth.birth <= FIRST
    shown = np.bincount(market.good, minlength=len(truth.item))[old]
    by_popularity = shown[np.argsort(-truth.popularity[old])]
    tenth = len(by_popularity) // 10
    assert by_popularity[:tenth].sum() > 3 * by_popularity[-tenth:].sum()
    assert truth.popularity.sum() == pytest.approx(1)


# Clicks


def test_clicks_come_with_the_known_probability(market: Read) -> None:
    click, probability = market.events["click"], market.truth.probability.astype(np.float64)
    order = np.argsort(probability, kind="stable")
    for part in np.array_split(order, 20):
        error = np.sqrt((probability[part] * (1 - probability[part])).sum())
        assert abs(click[part].sum() - probability[part].sum()) < 4.5 * error
    for column in (market.events["position"], market.truth.item_taste[market.good], market.device):
        for value in np.unique(column):
            part = column == value
            error = np.sqrt((probability[part] * (1 - probability[part])).sum())
            assert abs(click[part].sum() - probability[part].sum()) < 4.5 * error


def test_the_probability_stands_beside_its_event(market: Read) -> None:
    """By the equations in the docstring, from what is known of people, items and sessions: row by row."""
    truth, config, events = market.truth, market.config, market.events
    np.testing.assert_array_equal(truth.row_request, events["request_id"])
    active = np.repeat(truth.active, config.slots)
    taste = truth.item_taste[market.good]
    weight = weight_of(truth, events["user_id"], taste, events["time"])
    price = dict(zip(market.items["item_id"], market.items["price"], strict=True))
    change = np.log(events["price"] / np.array([price[item] for item in events["item_id"]]))
    logit = made.BASE + truth.lean[events["user_id"]] + made.WEIGHT * weight + made.ACTIVE * (taste == active)
    logit += made.QUALITY * truth.quality[market.good] - made.PRICE * change
    bot = truth.bot[events["user_id"]]
    relevance = np.where(bot, made.BLIND, 1 / (1 + np.exp(-logit)))
    rounding = 0.25 * made.PRICE * 0.0051 / events["price"] + 1e-6  # a price has two digits after the point
    assert (np.abs(truth.relevance - relevance) < rounding).all()
    seen = truth.relevance * np.where(bot, 1.0, (1.0 + events["position"]) ** -config.position)
    np.testing.assert_allclose(truth.probability, seen * (1 - config.lost) + (1 - seen) * config.random, rtol=1e-5)


def weight_of(truth: Truth, user: NDArray[Any], taste: NDArray[Any], time: NDArray[Any]) -> NDArray[Any]:
    """The person's weight of the taste then, 0 where it is none of theirs."""
    key = truth.taste_user * 1000 + truth.taste
    order = np.lexsort((truth.begin, key))
    span = 10**12
    begin = key[order] * span + truth.begin[order] - FIRST
    at = np.searchsorted(begin, (user * 1000 + taste) * span + time - FIRST, side="right") - 1
    found = order[np.maximum(at, 0)]
    there = (at >= 0) & (key[found] == user * 1000 + taste) & (time < truth.end[found])
    return np.where(there, truth.weight[found], 0.0)


def test_later_positions_are_clicked_less(market: Read) -> None:
    person = ~market.truth.bot[market.events["user_id"]]
    position, click = market.events["position"][person], market.events["click"][person]
    rate = np.bincount(position, click) / np.bincount(position)
    assert (np.diff(rate) < 0).all()
    relevance = np.bincount(position, market.truth.relevance[person]) / np.bincount(position)
    assert relevance.max() < 1.05 * relevance.min()  # where a candidate stands says nothing of how good it is


def test_without_position_bias_every_position_is_alike(tmp_path: Path) -> None:
    make_market(tmp_path / "m", SMALL(position=0.0, random=0.0, lost=0.0))
    truth = read_truth(tmp_path / "m")
    np.testing.assert_array_equal(truth.probability, truth.relevance)


def test_flipped_clicks_are_the_only_ones_that_change(tmp_path: Path) -> None:
    made_of = {}
    for flip in (0.0, 0.1, 0.3):
        make_market(tmp_path / str(flip), SMALL(flip=flip, people=300))
        made_of[flip] = Read(tmp_path / str(flip))
    honest, some, many = made_of.values()
    assert not honest.truth.flipped.any()
    assert "flipped" not in pq.read_table(honest.folder / "truth" / "rows").column_names
    for flip, found in ((0.1, some), (0.3, many)):
        size = len(found.truth.flipped)
        assert abs(found.truth.flipped.mean() - flip) < 4 * np.sqrt(flip * (1 - flip) / size)
        np.testing.assert_array_equal(found.events["click"] == 1, (honest.events["click"] == 1) ^ found.truth.flipped)
        np.testing.assert_array_equal(found.truth.probability, honest.truth.probability)
        clicked = honest.events["click"] == 1
        assert abs(found.truth.flipped[clicked].mean() - flip) < 4 * np.sqrt(flip * (1 - flip) / clicked.sum())
        np.testing.assert_array_equal(np.isnan(found.events["dwell"]), found.events["click"] == 0)
        for name, column in found.events.items():
            same = ~found.truth.flipped if name in ("click", "buy", "dwell") else slice(None)
            np.testing.assert_array_equal(column[same], honest.events[name][same])
        for name in ("items.csv", "users.csv", "schema.toml", "truth/people.parquet", "truth/items.parquet", "truth/tastes.parquet"):
            assert (found.folder / name).read_bytes() == (honest.folder / name).read_bytes()
    assert not (some.truth.flipped & ~many.truth.flipped).any()  # one draw a row: who is flipped at a tenth is at three
    make_market(tmp_path / "clicks", SMALL(flip=0.3, people=300, impressions=False))
    np.testing.assert_array_equal(read_truth(tmp_path / "clicks").flipped, many.truth.flipped[many.events["click"] == 1])


def test_a_buy_and_a_dwell_follow_a_click(market: Read) -> None:
    click, buy, dwell = market.events["click"], market.events["buy"], market.events["dwell"]
    assert set(np.unique(click)) == set(np.unique(buy)) == {0, 1}
    assert (click[buy == 1] == 1).all()
    assert 0.1 < buy[click == 1].mean() < 0.6
    assert (np.isnan(dwell) == (click == 0)).all()
    assert (dwell[click == 1] > 0).all()
    relevance = market.truth.relevance[click == 1]
    assert np.corrcoef(relevance, np.log(dwell[click == 1]))[0, 1] > 0.5
    assert np.corrcoef(relevance, buy[click == 1])[0, 1] > 0.1


def test_some_people_and_some_prices_are_out_of_all_proportion(market: Read) -> None:
    truth = market.truth
    requests = np.bincount(market.per_request("user_id")[:, 0])
    assert 5 <= truth.bot.sum() <= 30
    assert requests[truth.bot].mean() > 10 * requests[~truth.bot].mean()
    by_bots = truth.bot[market.events["user_id"]]
    assert (truth.relevance[by_bots] == np.float32(made.BLIND)).all()
    price = market.items["price"]
    assert 1 <= (price > 1000 * np.median(price)).sum() <= 20


def test_prices_move(market: Read) -> None:
    truth, events = market.truth, market.events
    price = dict(zip(market.items["item_id"], market.items["price"], strict=True))
    ratio = events["price"] / np.array([price[item] for item in events["item_id"]])
    assert 0.55 < ratio.min() < 0.75
    assert 1.1 < ratio.max() < 1.25
    again = np.lexsort((events["time"], events["item_id"]))
    near = (np.diff(events["item_id"][again]) == 0) & (np.diff(events["time"][again]) < 60_000)
    assert near.sum() > 50
    assert (np.abs(np.diff(np.log(ratio[again]))[near]) < 0.02).mean() > 0.99  # one price for everybody
    assert truth.quality.std() == pytest.approx(1, abs=0.2)


# Tastes


def test_categories_tell_tastes_but_not_always(market: Read) -> None:
    category = dict(zip(market.items["item_id"], market.items["category"], strict=True))
    said = np.array([int(category[item].removeprefix("category-")) // 2 for item in market.truth.item])
    assert 0.75 < (said == market.truth.item_taste).mean() < 0.95  # blur is 0.15, and one in twelve of those is right


def test_tastes_are_intervals_without_gaps_whose_weights_sum_to_one(market: Read) -> None:
    truth, config = market.truth, market.config
    assert (truth.begin < truth.end).all()
    moments = np.unique(np.stack([truth.taste_user, truth.begin, truth.end]), axis=1, return_inverse=True)
    (user, begin, end), of = moments
    assert np.bincount(of, truth.weight) == pytest.approx(1)
    assert np.bincount(of).max() == config.most_tastes
    first = np.append(True, user[1:] != user[:-1])
    assert (begin[first] == FIRST).all()
    assert (begin[~first] == end[:-1][~first[1:]]).all()
    assert (end[np.append(first[1:], True)] == FIRST + config.days * DAY).all()
    assert first.sum() == config.people
    pairs = np.stack([of, truth.taste])
    assert np.unique(pairs, axis=1).shape == pairs.shape  # nobody has a taste twice
    assert set(np.unique(truth.taste)) == set(range(config.tastes))


def test_tastes_change_at_the_stated_times_only(market: Read) -> None:
    """What a session is about is a taste that its person has when it begins, and until a stated time only."""
    truth, config = market.truth, market.config
    user, time = market.per_request("user_id")[:, 0], market.per_request("time")[:, 0]
    first = np.append(True, (user[1:] != user[:-1]) | (truth.session[1:] != truth.session[:-1]))
    assert (weight_of(truth, user[first], truth.active[first], time[first]) > 0).all()
    elsewhen = FIRST + (time[first] - FIRST + config.days * DAY // 2) % (config.days * DAY)
    assert (weight_of(truth, user[first], truth.active[first], elsewhen) == 0).mean() > 0.2
    moved = truth.begin[truth.begin > FIRST]
    stage = config.stage_ms
    offset = (truth.begin - FIRST) % stage
    for person in np.unique(truth.taste_user[truth.begin > FIRST])[:50]:
        mine = (truth.taste_user == person) & (truth.begin > FIRST)
        assert len(np.unique(offset[mine])) == 1
    assert len(np.unique(moved)) > config.people


def test_without_drift_nothing_changes(tmp_path: Path) -> None:
    make_market(tmp_path / "m", SMALL(drift=0.0))
    truth = read_truth(tmp_path / "m")
    assert (truth.begin == FIRST).all()
    assert (truth.end == FIRST + 60 * DAY).all()


def test_profiles_tell_something_of_tastes(market: Read) -> None:
    profile = arrays(market.users)
    known = np.array([gender in ("f", "m") for gender in profile["gender"]]) & ~np.isnan(profile["age"])
    assert 0.85 < known.mean() < 0.95
    table = np.zeros((2, market.config.tastes))
    first = known[market.truth.taste_user] & (market.truth.begin == FIRST)
    np.add.at(table, ((profile["gender"][market.truth.taste_user[first]] == "m").astype(int), market.truth.taste[first]), 1)
    assert deviations(table) > 5


# Context


def cells(read: Read, of: Callable[[Read], NDArray[Any]]) -> NDArray[Any]:
    """Sessions by context (device, part of day) and by the group or taste that they are about; people only, each session once."""
    truth = read.truth
    user = read.per_request("user_id")[:, 0]
    first = np.append(True, (user[1:] != user[:-1]) | (truth.session[1:] != truth.session[:-1])) & ~truth.bot[user]
    context = of(read)[first]
    about = truth.group[truth.active][first]
    table = np.zeros((int(context.max()) + 1, made.GROUPS))
    np.add.at(table, (context, about), 1)
    return table


def device_of(read: Read) -> NDArray[Any]:
    return read.device[:: read.config.slots]


def part_of(read: Read) -> NDArray[Any]:
    return (read.per_request("time")[:, 0] - FIRST) % DAY // (DAY // made.PARTS)


def context_of(read: Read) -> NDArray[Any]:
    return device_of(read) * made.PARTS + part_of(read)


@pytest.mark.parametrize("of", [device_of, part_of, context_of])
def test_the_context_chooses_the_active_taste_where_it_should_and_only_there(
    market: Read, careless: Read, of: Callable[[Read], NDArray[Any]]
) -> None:
    assert deviations(cells(market, of)) > 20
    assert abs(deviations(cells(careless, of))) < 4.5


def test_the_preferred_group_is_the_one_that_sessions_are_about(market: Read) -> None:
    table = cells(market, context_of)
    np.testing.assert_array_equal(table.argmax(1), market.truth.preferred.ravel())
    assert (table.max(1) > 0.6 * table.sum(1)).all()


def test_half_the_strength_lies_between(tmp_path: Path, market: Read, careless: Read) -> None:
    make_market(tmp_path / "m", TRUE(context=0.5))
    hit = []
    for one in (careless, Read(tmp_path / "m"), market):
        table = cells(one, context_of)
        hit.append(table[np.arange(len(table)), one.truth.preferred.ravel()].sum() / table.sum())
    assert hit[1] - hit[0] == pytest.approx(hit[2] - hit[1], abs=0.05)
    assert hit[2] - hit[0] > 0.3


def test_the_contexts_themselves_do_not_depend_on_the_strength(market: Read, careless: Read) -> None:
    for name in ("device", "time", "item_id", "price"):
        np.testing.assert_array_equal(market.events[name], careless.events[name])
    table = np.zeros((made.PARTS, len(made.DEVICES)))
    np.add.at(table, (part_of(market), device_of(market)), 1)
    np.testing.assert_allclose(table / table.sum(1, keepdims=True), made.DEVICE_BY_PART, atol=0.05)


def test_the_context_shows_in_the_clicks_of_items(market: Read, careless: Read) -> None:
    """What a model can learn without knowing the person: items of the preferred group are clicked more."""
    lift = []
    for one in (market, careless):
        person = ~one.truth.bot[one.events["user_id"]]
        part = (one.events["time"] - FIRST) % DAY // (DAY // made.PARTS)
        fits = one.truth.group[one.truth.item_taste[one.good]] == one.truth.preferred[one.device, part]
        click = one.events["click"]
        lift.append(click[person & fits].mean() / click[person & ~fits].mean())
    assert lift[0] > 1.5
    assert abs(lift[1] - 1) < 0.1
