"""A proposed schema says what it guessed and why, is a schema, and the files it was made of make a Log by it."""

from __future__ import annotations

import csv
import gzip
import json
import tomllib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penchant.config import validate
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.propose import Proposal, propose
from penchant.errors import DataError, SchemaError
from penchant.schema import Schema

NOW = 1_000_000_000


def accepted(tmp_path: Path, proposal: Proposal, **options: Any) -> tuple[Schema, Log]:
    """The schema that was proposed, and the Log that `prepare` makes by it."""
    schema = validate(Schema, tomllib.loads(proposal.toml()), where="proposal")
    return schema, prepare(proposal.folder, tmp_path / "log", schema, **options)


def texts(rows: Sequence[Sequence[Any]], separator: str = ",") -> str:
    out = StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
    return out.getvalue()


def put(folder: Path, files: dict[str, str | bytes]) -> list[Path]:
    paths = []
    for name, content in files.items():
        path = folder / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        paths.append(path)
    return paths


def clicks(rows: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a shop: people, products, times, clicks of requests of four, prices, devices, tags of nothing."""
    random = np.random.default_rng(seed)
    out = []
    for at in range(rows):
        request = at // 4
        user = request * 7919 % 23
        out.append(
            {
                "customer_id": f"c{user}",
                "product": f"p{random.integers(60)}",
                "ts": NOW + 100 * request,
                "request_id": f"r{request}",
                "clicked": int(at % 4 == request % 4),
                "position": at % 4,
                "price": round(float(random.random() * 90), 2),
                "device": ["phone", "desk"][request % 2],
                "note": f"A long note number {at} that somebody wrote for others to read one day",
                "source": "shop",
            }
        )
    return out


# Real logs


@pytest.mark.data
@pytest.mark.parametrize(
    ("files", "events", "side", "values"),
    [
        (
            ["movielens-100k/u.data", "movielens-100k/u.user", "movielens-100k/u.item"],
            ("u.data", "c0", "c1", "c3", "s", "\t"),
            ("u.user", "u.item"),
            {"events.label.column": "c2", "items.encoding": "latin-1", "items.separator": "|", "items.title": "c1"},
        ),
        (
            ["movielens-1m/movies.dat", "movielens-1m/ratings.dat", "movielens-1m/users.dat"],
            ("ratings.dat", "c0", "c1", "c3", "s", "::"),
            ("users.dat", "movies.dat"),
            {"events.label.at_least": 4.0, "items.encoding": "latin-1", "items.title": "c1", "items.fields.c2.kind": "categories"},
        ),
        (["globo/clicks/*.csv.gz"], ("*.csv.gz", "user_id", "click_article_id", "click_timestamp", "ms", None), (None, None), {}),
        (
            ["yelp-2019/interactions.csv", "yelp-2019/items.csv"],
            ("interactions.csv", "user_id", "item_id", "timestamp", "s", None),
            (None, "items.csv"),
            {"items.fields.attribute_ids.kind": "categories", "items.fields.attribute_ids.separator": " "},
        ),
        (
            ["amazon-beauty/items.csv", "amazon-beauty/interactions.csv"],
            ("interactions.csv", "user_id", "item_id", "timestamp", "s", None),
            (None, "items.csv"),
            {"events.moment": ["weekday"]},
        ),
        (
            ["frappe/meta.csv", "frappe/frappe.csv"],
            ("frappe.csv", "user", "item", "time", "rows", "\t"),
            (None, "meta.csv"),
            {"items.title": "name", "events.context.weekday_.column": "weekday", "events.action.cnt.kind": "number"},
        ),
        (
            ["amazon-musical-instruments/Musical_Instruments.json"],
            ("Musical_Instruments.json", "reviewerID", "asin", "unixReviewTime", "s", None),
            (None, None),
            {"events.label.column": "overall"},
        ),
    ],
    ids=["movielens-100k", "movielens-1m", "globo", "yelp", "beauty", "frappe", "instruments"],
)
def test_real_logs(tmp_path: Path, real_data: Path, files: list[str], events: Any, side: Any, values: dict[str, Any]) -> None:
    schema, log = accepted(tmp_path, propose([real_data / file for file in files]))
    found = schema.events
    assert (found.file, found.user, found.item, found.time.column, found.time.unit, found.separator) == events
    assert tuple(table.file if table else None for table in (schema.users, schema.items)) == side
    assert log.size == log.manifest["rows"] > 10_000
    dumped = schema.model_dump(mode="json")
    for place, value in values.items():
        here: Any = dumped
        for key in place.split("."):
            here = here[key]
        assert here == value, place


# Made ones


def test_a_shop(tmp_path: Path) -> None:
    rows = clicks()
    random = np.random.default_rng(1)
    colours = ["red|blue", "blue", "green|red"]
    products = [[f"p{at}", f"Thing {at} of Eden", colours[at % 3], 1900 + at, " ".join(map(str, random.random(5)))] for at in range(60)]
    people = [[f"c{at}", ["f", "m"][at % 2], 20 + at] for at in range(23)]
    files: dict[str, str | bytes] = {
        "log/clicks.jsonl.gz": gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()),
        "products.tsv": texts([["sku", "product_name", "colours", "year", "embedding"], *products], "\t"),
        "customers.csv": texts([["customer_id", "sex", "age"], *people], ";"),
    }
    proposal = propose(put(tmp_path, files))
    schema, log = accepted(tmp_path, proposal)
    assert schema.model_dump(mode="json", exclude_defaults=True) == {
        "name": "shop",
        "events": {
            "file": "log/clicks.jsonl.gz",
            "user": "customer_id",
            "item": "product",
            "time": {"column": "ts"},
            "label": {"column": "clicked", "at_least": 1.0},
            "moment": ["hour", "weekday"],
            "context": {"device": {}},
            "impressions": {"request": "request_id", "shown": {"position": {}, "price": {"kind": "number"}}},
        },
        "items": {
            "file": "products.tsv",
            "key": "sku",
            "title": "product_name",
            "fields": {"colours": {"kind": "categories"}, "year": {"kind": "number"}, "embedding": {"kind": "vector"}},
        },
        "users": {"file": "customers.csv", "separator": ";", "key": "customer_id", "fields": {"sex": {}, "age": {}}},
    }
    assert log.size == 400
    assert proposal.reasons["note"] == "left out: it is text to read"
    assert proposal.reasons["source"] == "left out: it is 'shop' in every row"
    assert proposal.reasons["events.user"] == "by its name, 23 values in 400 rows of the sample"
    assert "# left out: note: it is text to read" in proposal.toml().splitlines()
    assert proposal.folder == tmp_path / "shop"


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("s", [NOW + at for at in range(50)]),
        ("ms", [1000 * NOW + at for at in range(50)]),
        ("us", [10**6 * NOW + at for at in range(50)]),
        ("iso", [f"2020-02-{1 + at % 28:02} 10:00:{at:02}+02:00" for at in range(50)]),
        ("rows", [f"{at} o'clock" for at in range(50)]),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_units(tmp_path: Path, unit: str, times: list[Any], header: bool) -> None:
    rows = [[f"u{at % 7}", f"i{at % 9}", time] for at, time in enumerate(times)]
    paths = put(tmp_path, {"events.csv": texts([["user", "item", "at"], *rows] if header else rows)})
    schema, log = accepted(tmp_path, propose(paths))
    assert schema.events.time.unit == unit
    assert schema.events.columns == (None if header else ("c0", "c1", "c2"))
    assert (schema.events.user, schema.events.item) == (("user", "item") if header else ("c0", "c1"))
    assert log.size == 50


@pytest.mark.parametrize("separator", ["\t", "::", ";", "|", ",", "^"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16", "utf-8-sig"])
def test_separators_and_encodings(tmp_path: Path, separator: str, encoding: str) -> None:
    names = ["zoë", "bob", "chloé"] + (["œuvre"] if encoding == "cp1252" else [])
    lines = [separator.join(["user_id", "item_id", "rating", "time"])]
    lines += [separator.join([names[at % len(names)], f"i{at % 11}", str(1 + at % 5), str(NOW + at)]) for at in range(60)]
    schema, log = accepted(tmp_path, propose(put(tmp_path, {"ratings.csv": "\n".join(lines).encode(encoding)})))
    assert schema.events.separator == (None if separator == "," else separator)
    assert schema.events.encoding == ("utf-8" if encoding == "utf-8-sig" else encoding)
    assert schema.events.label is not None
    assert (schema.events.label.column, schema.events.label.at_least) == ("rating", 4)
    assert log.users.column("id").to_pylist() == sorted(names)


def test_quotes_that_mean_nothing(tmp_path: Path) -> None:
    rows = [f'u{at % 5}\t"i{at % 7}\t{NOW + at}' for at in range(40)]
    schema, log = accepted(tmp_path, propose(put(tmp_path, {"log.tsv": "user\titem\ttime\n" + "\n".join(rows)})))
    assert schema.events.quote == ""
    assert log.items.column("id").to_pylist() == [f'"i{at}' for at in range(7)]


def test_behaviours_are_offered_as_labels(tmp_path: Path) -> None:
    rows = [[f"u{at % 7}", f"i{at % 9}", NOW + at, ["view", "view", "cart", "buy"][at % 4]] for at in range(80)]
    proposal = propose(put(tmp_path, {"events.csv": texts([["visitorid", "itemid", "timestamp", "event"], *rows])}))
    schema, log = accepted(tmp_path, proposal)
    assert (schema.events.user, schema.events.item, schema.events.label) == ("visitorid", "itemid", None)
    assert '# if only some of these are positives: label = { column = "event", one_of = ["view", "cart", "buy"] }' in proposal.toml()
    assert log.values["action.event"].to_pylist() == ["buy", "cart", "view"]


def test_joined_tables(tmp_path: Path) -> None:
    rows = [[f"u{at % 7}", f"i{at % 9}", NOW + at, f"s{at % 40}"] for at in range(200)]
    sessions = pa.table({"session_id": [f"s{at}" for at in range(40)], "place": [["home", "work"][at % 2] for at in range(40)]})
    paths = put(tmp_path, {"events.csv": texts([["user", "item", "time", "session_id"], *rows])})
    pq.write_table(sessions, tmp_path / "shop" / "sessions.parquet")
    schema, log = accepted(tmp_path, propose([*paths, tmp_path / "shop" / "sessions.parquet"]))
    assert schema.events.joins["sessions"].on == "session_id"
    assert schema.events.context["place"].column == "sessions.place"
    assert log.manifest["events_without_sessions"] == 0


def test_what_belongs_to_nothing_is_left_out(tmp_path: Path) -> None:
    rows = [[f"u{at % 7}", f"i{at % 9}", NOW + at] for at in range(50)]
    files: dict[str, str | bytes] = {
        "events.csv": texts([["user", "item", "time"], *rows]),
        "towns.csv": texts([["town", "size"], *([f"t{at}", at * 10] for at in range(30))]),
    }
    proposal = propose(put(tmp_path, files))
    accepted(tmp_path, proposal)
    assert proposal.reasons["towns.csv"] == "left out: no column of it names what a column of events.csv points to"


def test_a_choice_that_is_not_clear_is_said(tmp_path: Path) -> None:
    rows = [[f"k{at % 7}", f"w{at % 9}", f"z{at % 13}", NOW + at] for at in range(90)]
    proposal = propose(put(tmp_path, {"dane.csv": texts([["kto", "co", "gdzie", "kiedy"], *rows])}))
    schema, _ = accepted(tmp_path, proposal)
    guessed = {schema.events.user, schema.events.item}
    assert guessed < {"kto", "co", "gdzie"}
    (other,) = {"kto", "co", "gdzie"} - guessed
    assert f"it might be {other!r}" in proposal.reasons["events.user"]


def test_the_sample_reaches_the_end_of_a_file(tmp_path: Path) -> None:
    """Numbers for 30 000 rows, and a word in the last one: a category."""
    rows = [[f"u{at % 70}", f"i{at % 90}", NOW + at, at % 50] for at in range(30_000)]
    rows[-1][-1] = "many"
    schema, log = accepted(tmp_path, propose(put(tmp_path, {"events.csv": texts([["user", "item", "time", "weight"], *rows])})))
    assert schema.events.action["weight"].kind == "category"
    assert log.size == 30_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "temperature,humidity\n" + "".join(f"{at / 7},{at / 3}\n" for at in range(1, 60)),
            "no two columns look like a person and an item",
        ),
        ("", "x.csv: there is no row in it."),
        ("user,item,time\n", "x.csv: there is no row in it."),
    ],
)
def test_nothing_plausible(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        propose(put(tmp_path, {"x.csv": content}))
    assert str(caught.value).startswith(said)
    if "columns" in said:
        assert str(caught.value).endswith("x.csv has temperature (59 values), humidity (59 values).")


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"^no file was given; at least the one of the events was wanted\.$"):
        propose([])
    with pytest.raises(SchemaError, match=r"there is no such file"):
        propose([tmp_path / "none.csv"])
