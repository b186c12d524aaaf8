"""Made files of every set that needs a feature of the readers, from `get` to the Log: what the schemas mean is what is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from test_sets import put
from test_sets_amazon import META, REVIEWS
from test_sets_others import ADS, BEHAVIOUR, CLICKS, FILMS, YELP

from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets import get


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for Logs, beside the one that PENCHANT_DATA names."""
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    return tmp_path


def prepared(folder: Path, name: str, files: dict[str, bytes], *, under: str = "") -> Log:
    put(folder / "data" / name / under, files)
    return prepare(get(name, folder / "raw").folder, folder / "log")


def events(log: Log) -> list[tuple[str, str, int]]:
    """(user, item, ms) of each event, in the order of the Log."""
    users, items = log.users.column("id").to_pylist(), log.items.column("id").to_pylist()
    whose = log.user_of(range(log.size))
    return [(users[user], items[item], int(time)) for user, item, time in zip(whose, log.events["item"], log.events["time"], strict=True)]


def words(log: Log, field: str) -> list[str | None]:
    """The values of a category of each event."""
    values = log.values[field].to_pylist()
    return [values[place - 1] if place else None for place in log.events[field]]


def by_item(log: Log, field: str) -> dict[str, str | list[str] | None]:
    """The values of a category, or of several, of each item."""
    values = log.values[f"item.{field}"].to_pylist()
    said = {}
    for key, places in zip(log.items.column("id").to_pylist(), log.items.column(f"item.{field}").to_pylist(), strict=True):
        several = [values[place - 1] for place in places] if isinstance(places, list) else None
        said[key] = several if several is not None else values[places - 1] if places else None
    return said


def test_movielens_20m(logs: Path) -> None:
    log = prepared(logs, "movielens-20m", FILMS)
    assert events(log) == [("1", "2", 1112484676000), ("1", "1", 1112484676000), ("2", "1", 1112486027000)]
    assert words(log, "action.rating") == ["4.0", "0.5", "3.5"]
    assert by_item(log, "genres") == {"1": ["Comedy", "Drama"], "2": []}


@pytest.mark.parametrize("zipped", [True, False], ids=["gz", "plain"])
def test_amazon(zipped: bool, logs: Path) -> None:
    """Events of one day stay in the order of their rows."""
    files = {"reviews_Electronics_5.json": REVIEWS, "meta_Electronics.json": META}
    if zipped:
        files = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    log = prepared(logs, "amazon-electronics", files)
    assert events(log) == [
        ("P1", "B3", 1393545600000),
        ("P1", "B5", 1393545600000),
        ("P2", "B9", 1393459200000),
        ("P2", "B5", 1393545600000),
    ]
    assert words(log, "action.rating") == ["5.0", "1.0", "3.0", "4.0"]
    assert by_item(log, "category") == {"B3": "Mounts", "B5": "Café", "B9": None}


def test_yelp(logs: Path) -> None:
    log = prepared(logs, "yelp", YELP)
    assert events(log) == [("u1", "b1", 1412998442000), ("u2", "b1", 1457556998000)]
    assert by_item(log, "categories") == {"b1": ["Food", "Coffee & Tea"], "b2": []}
    assert by_item(log, "city") == {"b1": "Reno", "b2": "Elko"}
    assert log.users.column("user.since").to_pylist()[1] == 2007


def test_taobao_userbehavior(logs: Path) -> None:
    log = prepared(logs, "taobao-userbehavior", {"UserBehavior.csv": BEHAVIOUR})
    assert events(log) == [
        ("1", "1606018", 1511539200000),
        ("1", "2268318", 1511544070000),
        ("1", "2576651", 1512316799000),
        ("100", "2268318", 1511544070000),
    ]
    assert words(log, "action.behaviour") == ["pv", "pv", "cart", "buy"]
    assert by_item(log, "category") == {"2268318": "2520377", "2576651": "149192", "1606018": "2735466"}


def test_taobao_ad(logs: Path) -> None:
    log = prepared(logs, "taobao-ad", ADS)
    assert events(log) == [("449818", "3", 1494638778000), ("581738", "1", 1494137644000), ("581738", "3", 1494137644000)]
    assert log.positive.tolist() == [True, False, False]
    assert words(log, "shown.pid") == ["430548_1007"] * 3
    assert by_item(log, "brand") == {"1": "95471", "3": None}


@pytest.mark.parametrize("zipped", [True, False], ids=["gz", "plain"])
def test_globo(zipped: bool, logs: Path) -> None:
    files = {name: text.encode() for name, text in CLICKS.items()}
    if zipped:
        files = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    log = prepared(logs, "globo", files, under="clicks")
    assert events(log) == [("0", "157541", 1506826828020), ("0", "68866", 1506826858020), ("1", "157541", 1506827017951)]
    assert words(log, "context.device") == ["3", "3", "1"]
    assert words(log, "context.referrer") == ["2", "2", "2"]
