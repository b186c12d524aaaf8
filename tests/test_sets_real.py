"""The real sets against what is known of them, and all the way into a Log."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from test_sets import rows

from penchant.data.prepare import prepare
from penchant.data.sets import SETS, Got, get
from penchant.schema import read_schema

pytestmark = pytest.mark.data

# events, rows of the items (or distinct items), distinct users
FACTS = {
    "amazon-beauty": (198_502, 12_101, 22_363),
    "amazon-musical-instruments": (10_261, 900, 1_429),
    "yelp-2019": (316_354, 20_033, 30_431),
    "frappe": (96_203, 4_082, 957),
    "globo": (2_073_175, 32_681, 272_733),
}
# what is put into the folder beside schema.toml and source.json, and whether it is the original itself
FILES = {
    "amazon-beauty": {"interactions.csv": True, "items.csv": True},
    "amazon-musical-instruments": {"Musical_Instruments.json": True},
    "yelp-2019": {"interactions.csv": True, "items.csv": True},
    "frappe": {"frappe.csv": True, "items.csv": False},
    "globo": {f"clicks/clicks_hour_{hour:03}.csv.gz": True for hour in range(240)},
}


@pytest.fixture(scope="module", params=FACTS)
def fetched(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Got]:
    name = request.param
    if not (real_data / name).is_dir():
        pytest.skip(f"{name} is not among the real data sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENCHANT_DATA", str(real_data))
        return name, get(name, tmp_path_factory.mktemp("real") / "raw")


def test_counts(fetched: tuple[str, Got]) -> None:
    name, got = fetched
    assert (got.place, got.events, got.items, got.users) == ("PENCHANT_DATA", *FACTS[name])
    source = json.loads((got.folder / "source.json").read_text(encoding="utf-8"))
    assert "not known" not in source["sha256"].values()
    assert "counts_published" not in source
    assert source["counts"]["events"] == SETS[name].counts.events


def test_files(fetched: tuple[str, Got], real_data: Path) -> None:
    name, got = fetched
    files = {str(path.relative_to(got.folder)) for path in got.folder.rglob("*") if path.is_file()}
    assert files == {"schema.toml", "source.json", *FILES[name]}
    for file, original in FILES[name].items():
        if original:
            assert (got.folder / file).read_bytes() == (real_data / name / file).read_bytes(), file


def test_prepared(fetched: tuple[str, Got], tmp_path: Path) -> None:
    """The schema is one that the files can be read by, and the Log has every event."""
    name, got = fetched
    log = prepare(got.folder, tmp_path / "log")
    events, items, users = FACTS[name]
    assert (log.size, len(log.items), len(log.users)) == (events, items, users)
    item = {f"item.{field}" for group, field, _ in read_schema(got.folder / "schema.toml").fields() if group == "item"}
    assert item <= set(log.items.column_names)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, real_data: Path) -> Path:
    monkeypatch.setenv("PENCHANT_DATA", str(real_data))
    return real_data


def test_beauty_has_many_events_of_one_day(chosen: Path, tmp_path: Path) -> None:
    folder = get("amazon-beauty", tmp_path / "raw").folder
    events = rows(folder / "interactions.csv")[1:]
    times = np.array([int(time) for _, _, time in events])
    assert (times % 86_400 == 0).all()
    assert len({(user, time) for user, _, time in events}) < 0.75 * len(events)


def test_somebody_went_to_a_place_of_yelp_again(chosen: Path, tmp_path: Path) -> None:
    events = rows(get("yelp-2019", tmp_path / "raw").folder / "interactions.csv")[1:]
    assert len({(user, item) for user, item, _ in events}) < len(events)
    assert min(int(time) for _, _, time in events) >= 1_546_300_800  # 2019-01-01


def test_prices_and_ratings_of_frappe_are_numbers(chosen: Path, tmp_path: Path) -> None:
    header, *apps = rows(get("frappe", tmp_path / "raw").folder / "items.csv")
    for name, known, most in (("price", 4_082 - 550 - 6, 250.0), ("rating", 4_082 - 550, 5.0)):
        values = [float(app[header.index(name)]) for app in apps if app[header.index(name)]]
        assert len(values) == known
        assert 0 <= min(values) < max(values) <= most
    assert len({app[header.index("category")] for app in apps}) == 32


def test_clicks_of_globo_begin_in_sessions_of_ten_days(chosen: Path, tmp_path: Path) -> None:
    """An hour's file holds the sessions that began in it, so that a few clicks are later."""
    folder = get("globo", tmp_path / "raw").folder
    query = """SELECT epoch_ms(min(click_timestamp))::DATE::TEXT, epoch_ms(max(session_start))::DATE::TEXT, count(DISTINCT session_id)
               FROM read_csv(?)"""
    assert duckdb.execute(query, [str(folder / "clicks" / "*")]).fetchall() == [("2017-10-01", "2017-10-11", 725_540)]
