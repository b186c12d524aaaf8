"""Every form of file, and what a schema can say of its columns, against exact Logs."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prepare import HEADER, NOW, bytes_of, decoded, made, refused, schema_of

from penchant.data.log import Log
from penchant.errors import DataError, SchemaError

ROWS = [("b", "y", NOW + 2), ("a", "x", NOW + 1), ("b", "x", NOW), ("a", "é", NOW)]  # é: two bytes in UTF-8, one in latin-1
TEXTS: dict[str, str] = {
    "csv": HEADER + "".join(f"{user},{item},{time}\n" for user, item, time in ROWS),
    "tsv": "user\titem\ttime\n" + "".join(f"{user}\t{item}\t{time}\n" for user, item, time in ROWS),
    "jsonl": "".join(json.dumps({"user": user, "item": item, "time": time}) + "\n" for user, item, time in ROWS),
}
PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def triples(log: Log) -> list[tuple[str, str, int]]:
    """(user, item, time in ms) of the events, in the order of their source rows."""
    users, items = log.users.column("id").to_pylist(), log.items.column("id").to_pylist()
    found = zip(log.events["source"], log.user_of(np.arange(log.size)), log.events["item"], log.events["time"], strict=True)
    return [(users[user], items[item], int(time)) for _, user, item, time in sorted(found)]


def parquet(columns: Mapping[str, Any]) -> bytes:
    sink = BytesIO()
    pq.write_table(pa.table(dict(columns)), sink)
    return sink.getvalue()


def jsonl(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


# Forms


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "UTF16", "cp1252", "utf-8-sig"])
def test_every_text_form_packed_in_every_encoding(tmp_path: Path, form: str, pack: str, encoding: str) -> None:
    name = f"events.{form}{pack}"
    content = PACK[pack](TEXTS[form].encode(encoding))
    log = made(tmp_path, {name: content}, schema_of({"file": name, "encoding": encoding}))
    assert triples(log) == [(user, item, time * 1000) for user, item, time in ROWS]
    assert log.events["source"].tolist() == [3, 1, 2, 0]


def test_the_form_is_said_where_the_name_does_not(tmp_path: Path) -> None:
    log = made(tmp_path, {"LOG.TSV.GZ": gzip.compress(TEXTS["tsv"].encode())}, schema_of({"file": "LOG.TSV.GZ"}))
    (tmp_path / "other").mkdir()
    schema = schema_of({"file": "log.csv.txt", "format": "jsonl"})
    assert triples(made(tmp_path / "other", {"log.csv.txt": TEXTS["jsonl"]}, schema)) == triples(log)


def test_every_encoding_byte_of_latin_1(tmp_path: Path) -> None:
    letters = [chr(code) for code in range(0x80, 0x100)]
    text = HEADER + "".join(f"u{letter}u,b,{NOW}\n" for letter in letters)
    for alias in ("latin-1", "ISO-8859-1", "l1"):
        folder = tmp_path / alias
        folder.mkdir()
        log = made(folder, text.encode("latin-1"), schema_of({"encoding": alias}))
        assert log.users.column("id").to_pylist() == [f"u{letter}u" for letter in letters]


@pytest.mark.parametrize("encoding", ["hex", "nothing", "undefined"])
def test_encodings_that_are_none(tmp_path: Path, encoding: str) -> None:
    assert refused(SchemaError, tmp_path, TEXTS["csv"], schema_of({"encoding": encoding})) == (
        f"events: encoding {encoding!r} is not known; one such as 'utf-8' or 'latin-1' was wanted."
    )


def test_json_lines(tmp_path: Path) -> None:
    ids = [10**18 + 1, 10**24 + 1, 1, "1", "\u00e9\U0001f600", -7]
    rows: list[dict[str, Any]] = [
        {"who": {"id": one}, "item": at, "time": NOW + at, "x": {"k": None}, "a.b": "dot"} for at, one in enumerate(ids)
    ]
    rows[1] |= {"x": {"k": "deep"}, "w": 1.5}
    rows[2] |= {"x": "shallow", "w": None}
    rows[3].pop("x")
    rows[3]["w"] = "2.5"
    fields = {"context": {"k": {"column": "x.k"}, "dotted": {"column": "a.b"}}, "action": {"w": {"kind": "number"}}}
    schema = schema_of({"file": "e.jsonl", "user": "who.id", **fields})
    log = made(tmp_path, {"e.jsonl": "\n" + jsonl(*rows) + "  \n"}, schema)
    assert [user for user, _, _ in triples(log)] == [str(one) for one in ids]
    place = np.argsort(log.events["source"])
    assert [decoded(log, "context.k")[at] for at in place] == ["", "deep", "", "", "", ""]
    assert decoded(log, "context.dotted") == ["dot"] * 6
    assert log.events["action.w"][place][[1, 3]].tolist() == [1.5, 2.5]
    assert np.isnan(log.events["action.w"][place][[0, 2, 4, 5]]).all()


def test_lists_in_json_and_parquet(tmp_path: Path) -> None:
    tags, vectors = [["b", "a|c"], None, []], [[1.0, -0.5], [2.0, 0.25], None]
    fields = {"tags": {"kind": "categories"}, "v": {"kind": "vector"}}
    rows = [{"item": item, "tags": tag, "v": vector} for item, tag, vector in zip("xyz", tags, vectors, strict=True)]
    table = {"item": list("xyz"), "tags": tags, "v": pa.array(vectors, pa.list_(pa.float64(), 2))}
    events = HEADER + f"a,x,{NOW}\n"
    logs = []
    for name, content in (("items.jsonl", jsonl(*rows).encode()), ("items.parquet", parquet(table))):
        folder = tmp_path / name
        folder.mkdir()
        schema = schema_of(items={"file": name, "fields": fields})
        logs.append(made(folder, {"events.csv": events, name: content}, schema))
    for log in logs:
        assert log.values["item.tags"].to_pylist() == ["a|c", "b"]
        assert log.items.column("item.tags").to_pylist() == [[2, 1], [], []]
        found = log.items.column("item.v").to_pylist()
        assert found[:2] == vectors[:2]
        assert np.isnan(found[2]).all()


def test_parquet_types(tmp_path: Path) -> None:
    count = 3
    columns = {
        "user": pa.array([1234567890123456789, 2, 2]),
        "item": pa.array([1.0, None, 2.5]).fill_null(1e17),
        "time": pa.array([NOW * 10**6 + 1, NOW * 10**6, NOW * 10**6 + 999_999], pa.timestamp("us", "UTC")),
        "price": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(9, 2)),
        "bought": pa.array([True, False, True]),
        "kind": pa.array(["a", None, "b"]).dictionary_encode(),
        "raw": pa.array([b"\xc3\xa9", None, b"z"]),
        "day": pa.array([datetime(2020, 1, 2, tzinfo=UTC).date()] * count),
        "filename": pa.array(["x", "y", "z"]),
    }
    fields = {"kind": {}, "raw": {}, "day": {}, "filename": {}}
    schema = schema_of(
        {
            "file": "e.parquet",
            "time": {"unit": "iso"},
            "label": {"column": "bought", "one_of": ["true"]},
            "context": fields,
            "action": {"price": {"kind": "number"}},
        }
    )
    log = made(tmp_path, {"e.parquet": parquet(columns)}, schema)
    assert triples(log) == [
        ("1234567890123456789", "1", NOW * 1000),
        ("2", "1e+17", NOW * 1000),
        ("2", "2.5", NOW * 1000 + 999),
    ]
    assert log.events["source"].tolist() == [0, 1, 2]
    assert log.events["label"].tolist() == [1, 0, 1]
    assert [decoded(log, f"context.{name}") for name in fields] == [["a", "", "b"], ["é", "", "z"], ["2020-01-02"] * 3, list("xyz")]
    assert log.events["action.price"][[0, 2]].tolist() == [1.5, -2.25]


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("us", "America/New_York")])
def test_timestamps_of_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    times = pa.array([NOW, NOW + 3600], pa.timestamp("s")).cast(pa.timestamp(kind.unit))
    times = times.cast(pa.int64()).cast(kind)
    schema = schema_of({"file": "e.parquet", "time": {"unit": "iso"}})
    log = made(tmp_path, {"e.parquet": parquet({"user": ["a", "a"], "item": ["x", "y"], "time": times})}, schema)
    assert log.events["time"].tolist() == [NOW * 1000, (NOW + 3600) * 1000]


def test_parquet_files_whose_types_differ(tmp_path: Path) -> None:
    """Each file's values are what its own types say: nothing is cast to the type of the first."""
    parts = {
        "p/0.parquet": {"user": pa.array([None], pa.null()).cast(pa.int64()).fill_null(1), "item": [7], "time": [NOW]},
        "p/1.parquet": {"user": ["u"], "item": [7.5], "time": [float(NOW)]},
        "p/2.parquet": {"user": [1.0], "item": [7.0], "time": [str(NOW)]},
        "p/3.parquet": {"user": pa.array([2], pa.int8()), "item": ["7"], "time": [NOW]},
    }
    (tmp_path / "raw" / "p").mkdir(parents=True)
    log = made(tmp_path, {name: parquet(columns) for name, columns in parts.items()}, schema_of({"file": "p"}))
    assert triples(log) == [(user, item, NOW * 1000) for user, item in (("1", "7"), ("u", "7.5"), ("1", "7"), ("2", "7"))]


def test_parquet_columns_that_differ_in_case_only(tmp_path: Path) -> None:
    content = parquet({"user": ["a"], "User": ["b"], "item": ["x"], "time": [NOW]})
    assert refused(SchemaError, tmp_path, {"e.parquet": content}, schema_of({"file": "e.parquet"})) == (
        "e.parquet: its columns 'user' and 'User' differ in case only; one of them was wanted."
    )


# Several files


def spread(folder: Path, parts: Mapping[str, str | bytes]) -> Mapping[str, str | bytes]:
    for name in parts:
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
    return parts


@pytest.mark.parametrize("file", ["parts", "parts/*.csv", "parts/**/*.csv", "[p]arts/[0-9]*"])
def test_several_files_are_one_in_the_order_of_their_names(tmp_path: Path, file: str) -> None:
    lines = TEXTS["csv"].splitlines()[1:]
    parts = {f"parts/{name}.csv": HEADER + "\n".join(lines[at : at + 1]) for at, name in enumerate(["02", "10", "20", "9"])}
    log = made(
        tmp_path,
        spread(tmp_path, parts | {"parts/.hidden": "x", "parts/_SUCCESS": ""} if file == "parts" else parts),
        schema_of({"file": file}),
    )
    assert triples(log) == [(user, item, time * 1000) for user, item, time in ROWS]
    assert log.manifest["rows"] == 4


def test_a_pattern_of_another_place(tmp_path: Path) -> None:
    (tmp_path / "far [away]").mkdir()
    (tmp_path / "far [away]" / "e1.csv").write_text(TEXTS["csv"])
    folder = tmp_path / "here"
    folder.mkdir()
    log = made(folder, {"unused": ""}, schema_of({"file": f"{tmp_path}/far [[]away]/e*.csv"}))
    assert log.size == 4


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_bad_rows_of_several_files_are_named(tmp_path: Path, form: str) -> None:
    def part(*times: Any) -> str | bytes:
        rows = [{"user": "u", "item": "i", "time": str(time)} for time in times]
        if form == "csv":
            return HEADER + "\n".join(f"u,i,{time}" for time in times)
        return jsonl(*rows) if form == "jsonl" else parquet({name: [row[name] for row in rows] for name in HEADER.strip().split(",")})

    parts = {f"p/{name}.{form}": part(*times) for name, times in {"a": [NOW, NOW], "b": [NOW, "x"], "c": ["y", NOW, "z"]}.items()}
    noun, more = ("row", 0) if form == "parquet" else ("line", 1 if form == "csv" else 0)
    assert refused(DataError, tmp_path, spread(tmp_path, parts), schema_of({"file": f"p/*.{form}"})) == (
        f"p/*.{form}: column 'time' is not a number in 3 rows: p/b.{form} {noun} {2 + more}: 'x', "
        f"p/c.{form} {noun} {1 + more}: 'y', p/c.{form} {noun} {3 + more}: 'z'."
    )


def test_empty_parts_among_several(tmp_path: Path) -> None:
    parts = {"p/0.csv": "", "p/1.csv": TEXTS["csv"], "p/2.csv": "", "p/3.csv": HEADER, "p/4.csv": HEADER + f"z,z,{NOW}\n"}
    log = made(tmp_path, spread(tmp_path, parts), schema_of({"file": "p"}))
    assert triples(log) == [(user, item, time * 1000) for user, item, time in [*ROWS, ("z", "z", NOW)]]
    parts["p/4.csv"] = HEADER + "z,z,x\n"
    (tmp_path / "bad").mkdir()
    assert refused(DataError, tmp_path / "bad", spread(tmp_path / "bad", parts), schema_of({"file": "p"})) == (
        "p: column 'time' is not a number in 1 row: p/4.csv line 2: 'x'."
    )


def test_files_that_disagree(tmp_path: Path) -> None:
    parts = {"p/1.csv": HEADER + f"a,b,{NOW}\n", "p/2.csv": f"item,user,time\na,b,{NOW}\n"}
    said = "2.{0}: its columns are item, user, time; those of 1.{0} are user, item, time."
    assert refused(DataError, tmp_path, spread(tmp_path, parts), schema_of({"file": "p"})) == said.format("csv")
    columns = {"user": ["a"], "item": ["b"], "time": [NOW]}
    both = {"q/1.parquet": parquet(columns), "q/2.parquet": parquet({name: columns[name] for name in ("item", "user", "time")})}
    assert refused(DataError, tmp_path, spread(tmp_path, both), schema_of({"file": "q"})) == said.format("parquet")


def test_keys_of_any_file_count(tmp_path: Path) -> None:
    parts = {"p/1.jsonl": jsonl({"user": "a", "item": "x"}), "p/2.jsonl": jsonl({"user": "b", "item": "x", "k": "v"})}
    log = made(tmp_path, spread(tmp_path, parts), schema_of({"file": "p", "time": {"unit": "rows"}, "context": {"k": {}}}))
    assert decoded(log, "context.k") == ["", "v"]


def test_mixed_forms(tmp_path: Path) -> None:
    parts = {"p/1.csv": TEXTS["csv"], "p/2.jsonl": TEXTS["jsonl"]}
    assert refused(SchemaError, tmp_path, spread(tmp_path, parts), schema_of({"file": "p"})) == (
        "raw/p: files of several forms (csv, jsonl); one form a table was wanted."
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("none.csv", "raw/none.csv: there is no such file; the schema names it for the events."),
        ("none/*.csv", "raw/none/*.csv: no file is of this pattern; the schema names it for the events."),
        ("empty", "raw/empty: there is no file in this folder; the schema names it for the events."),
        ("a.zip", "raw/a.zip: a .zip file is not unpacked here; unpack it, or pack it as .gz, .bz2 or .xz."),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / "raw" / "empty").mkdir(parents=True)
    assert refused(SchemaError, tmp_path, {"a.zip": b"PK"}, schema_of({"file": file})) == said


# Separators and quotes


def test_quotes_that_mean_nothing(tmp_path: Path) -> None:
    text = f'user|item|time\n"a|5" disk|{NOW}\nb"|"|{NOW}\n'
    log = made(tmp_path, text, schema_of({"separator": "|", "quote": ""}))
    assert triples(log) == [('"a', '5" disk', NOW * 1000), ('b"', '"', NOW * 1000)]
    (tmp_path / "bad").mkdir()
    assert refused(DataError, tmp_path / "bad", text + '"|"|x\n', schema_of({"separator": "|", "quote": ""})) == (
        "events.csv: column 'time' is not a number in 1 row: line 4: 'x'."
    )


def test_another_quote(tmp_path: Path) -> None:
    log = made(tmp_path, f"user,item,time\n'a,b','it''s',{NOW}\n", schema_of({"quote": "'"}))
    assert triples(log) == [("a,b", "it's", NOW * 1000)]


@pytest.mark.parametrize("separator", ["::", "|", ";", "\t", " ", "^", ".", "||", "\x01"])
def test_separators(tmp_path: Path, separator: str) -> None:
    columns = ["user", "item", "time"]
    head = separator.join(columns)
    rows = [separator.join((user, item, str(time))) for user, item, time in ROWS]
    log = made(tmp_path, "\n".join([head, *rows]), schema_of({"separator": separator}))
    (tmp_path / "bare").mkdir()
    bare = made(tmp_path / "bare", "\n".join(rows), schema_of({"separator": separator, "columns": columns}))
    assert triples(log) == triples(bare) == [(user, item, time * 1000) for user, item, time in ROWS]


def test_a_separator_that_holds_the_quote(tmp_path: Path) -> None:
    assert refused(SchemaError, tmp_path, TEXTS["csv"], schema_of({"separator": '"'})) == (
        "events: separator '\"' holds the quote, or an end of line; another one was wanted."
    )


# Times


@pytest.mark.parametrize(
    ("zone", "text", "instant"),
    [
        ("UTC", "2020-06-01 12:00:00", "2020-06-01T12:00:00+00:00"),
        ("UTC", "2020-06-01T12:00:00.25Z", "2020-06-01T12:00:00.250+00:00"),
        ("UTC", "2020-06-01", "2020-06-01T00:00:00+00:00"),
        ("Europe/Berlin", "2020-06-01", "2020-06-01T00:00:00+02:00"),
        ("Europe/Berlin", "2020-06-01 12:00", "2020-06-01T12:00:00+02:00"),
        ("Europe/Berlin", "2020-12-01T12:00:00", "2020-12-01T12:00:00+01:00"),
        ("Europe/Berlin", "2020-12-01T12:00:00Z", "2020-12-01T12:00:00+00:00"),
        ("Europe/Berlin", "2020-12-01T12:00:00-05:30", "2020-12-01T12:00:00-05:30"),
        ("Asia/Kathmandu", " 2020-12-01 12:00:00.123456 ", "2020-12-01T12:00:00.123+05:45"),
        ("America/New_York", "2020-03-08 03:30:00", "2020-03-08T03:30:00-04:00"),  # just after the clocks went forward
    ],
)
def test_iso_times(tmp_path: Path, zone: str, text: str, instant: str) -> None:
    log = made(tmp_path, HEADER + f"a,b,{text}\n", schema_of({"time": {"unit": "iso"}, "zone": zone}))
    assert log.events["time"].tolist() == [milliseconds(instant)]


@pytest.mark.parametrize("bad", ["soon", "12:00", "infinity", "2020-13-01", str(NOW)])
def test_texts_that_are_no_iso_time(tmp_path: Path, bad: str) -> None:
    text = HEADER + f"a,b,2020-01-01\na,b,{bad}\n"
    assert refused(DataError, tmp_path, text, schema_of({"time": {"unit": "iso"}})) == (
        f"events.csv: column 'time' is no ISO 8601 time in 1 row: line 3: '{bad}'."
    )


@pytest.mark.parametrize(
    ("unit", "text", "ms"),
    [
        ("s", "1e9", NOW * 1000),
        ("s", f"{NOW}.0019", NOW * 1000 + 1),
        ("ms", f"{NOW}001.9", NOW * 1000 + 1),
        ("us", f"{NOW}001999", NOW * 1000 + 1),
        ("us", f"{NOW}000000.5", NOW * 1000),
        ("s", " +1000000000 ", NOW * 1000),
    ],
)
def test_numbers_as_times(tmp_path: Path, unit: str, text: str, ms: int) -> None:
    log = made(tmp_path, HEADER + f"a,b,{text}\n", schema_of({"time": {"unit": unit}}))
    assert log.events["time"].tolist() == [ms]


@pytest.mark.parametrize("digits", range(17, 42, 3))
def test_endless_times_are_no_times(tmp_path: Path, digits: int) -> None:
    said = refused(DataError, tmp_path, HEADER + f"a,b,{NOW}\na,b,{'9' * digits}\n")
    assert said.startswith("events.csv: column 'time' ")
    assert f"in 1 row: line 3: '{'9' * digits}'" in said


def test_the_order_of_rows_as_time(tmp_path: Path) -> None:
    log = made(tmp_path, "user,item\nb,x\na,y\nb,y\na,x\nb,z\n", schema_of({"time": {"unit": "rows"}}))
    assert log.events["source"].tolist() == [1, 3, 0, 2, 4]
    assert (np.diff(log.events["time"]) == [2, -3, 2, 2]).all()


# Joins

SESSIONS = [{"sid": "s1", "place": "home", "n": 1}, {"sid": "s2", "place": None, "n": 2}, {"sid": "s9", "place": "x", "n": 9}]
JOINED = {
    "joins": {"session": {"file": "s", "on": "session", "key": "sid"}},
    "context": {"place": {"column": "session.place"}},
    "action": {"n": {"kind": "number", "column": "session.n"}},
}
CLICKS = "user,item,time,session\n" + f"a,x,{NOW},s1\na,y,{NOW + 1},s2\na,x,{NOW + 2},s3\nb,x,{NOW},\nb,z,{NOW + 1},s1\n"


def sessions(form: str, rows: Sequence[Mapping[str, Any]]) -> str | bytes:
    if form == "jsonl":
        return jsonl(*rows)
    if form == "parquet":
        return parquet({name: [row[name] for row in rows] for name in rows[0]})
    return "sid,place,n\n" + "".join(f"{row['sid']},{row['place'] or ''},{row['n']}\n" for row in rows)


def joined_schema(form: str, **more: Any) -> Any:
    joins = {"session": JOINED["joins"]["session"] | {"file": f"s.{form}"}}
    return schema_of(JOINED | {"joins": joins} | more)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_joins(tmp_path: Path, form: str) -> None:
    log = made(tmp_path, {"events.csv": CLICKS, f"s.{form}": sessions(form, SESSIONS)}, joined_schema(form))
    assert log.events["source"].tolist() == [0, 1, 2, 3, 4]
    assert decoded(log, "context.place") == ["home", "", "", "", "home"]
    assert log.events["action.n"][[0, 1, 4]].tolist() == [1, 2, 1]
    assert np.isnan(log.events["action.n"][[2, 3]]).all()
    assert log.manifest["events_without_session"] == 2


@pytest.mark.parametrize(
    ("rows", "more", "kind", "said"),
    [
        ([*SESSIONS, SESSIONS[0]], {}, DataError, "s.csv: 1 session id stands in it more than once: 's1' 2 times."),
        (
            SESSIONS,
            {"context": {"place": {"column": "session.plce"}}},
            SchemaError,
            "s.csv: there is no column 'plce'. It has sid, place, n. Did you mean 'place'?",
        ),
        (
            SESSIONS,
            {"context": {"place": {"column": "sesion.place"}}},
            SchemaError,
            "events.csv: there is no column 'sesion.place'. It has user, item, time, session. Did you mean 'session'?",
        ),
        ([{"sid": "", "place": "x", "n": 1}, *SESSIONS], {}, DataError, "s.csv: column 'sid' is empty in 1 row: line 2: None."),
        (
            [{"sid": "s1", "place": "x", "n": "many"}],
            {},
            DataError,
            "events.csv: column 'session.n' is not a number in 2 rows: line 2: 'many', line 6: 'many'.",
        ),
        (
            [{"sid": "s1", "place": "x,y", "n": 1}],
            {},
            DataError,
            "s.csv: 1 row cannot be read as 3 columns of utf-8 text separated by ',': line 2: 's1,x,y,1' (too many columns).",
        ),
    ],
    ids=["twice", "unknown column", "unknown join", "no id", "no number", "too wide"],
)
def test_joins_that_cannot_be(tmp_path: Path, rows: Any, more: Any, kind: Any, said: str) -> None:
    files = {"events.csv": CLICKS, "s.csv": sessions("csv", rows)}
    assert refused(kind, tmp_path, files, joined_schema("csv", **more)) == said


# Labels


def test_labels_by_values(tmp_path: Path) -> None:
    kinds = ["buy", "view", " cart ", "Buy", "it's"]
    text = "user,item,time,action\n" + "".join(f"a,i{at},{NOW + at},{kind}\n" for at, kind in enumerate(kinds))
    schema = schema_of({"label": {"column": "action", "one_of": ["buy", "cart", "it's"]}, "action": {"did": {"column": "action"}}})
    log = made(tmp_path, text, schema)
    assert log.events["label"].tolist() == [1, 0, 1, 0, 1]
    assert decoded(log, "action.did") == kinds
    (tmp_path / "none").mkdir()
    schema = schema_of({"label": {"column": "action", "one_of": ["purchase"]}})
    assert refused(DataError, tmp_path / "none", text, schema) == (
        "events.csv: no event is a positive: column 'action' is nowhere one of 'purchase'. "
        "It has ' cart ' 1 times, 'Buy' 1 times, 'buy' 1 times, 'it''s' 1 times, 'view' 1 times.".replace("'it''s'", '"it\'s"')
    )


def test_one_label_of_several_feedbacks(tmp_path: Path) -> None:
    text = "user,item,time,click,like,dwell\n" + f"a,x,{NOW},1,0,3.5\na,y,{NOW + 1},0,,\na,z,{NOW + 2},1,1,9\n"
    schema = schema_of({"label": {"column": "click", "at_least": 1}, "action": {"like": {}, "dwell": {"kind": "number"}}})
    log = made(tmp_path, text, schema)
    assert log.events["label"].tolist() == [1, 0, 1]
    assert decoded(log, "action.like") == ["0", "", "1"]
    assert log.events["action.dwell"][[0, 2]].tolist() == [3.5, 9]
    assert "value" not in log.events


def test_values_are_scaled_to_their_range(tmp_path: Path) -> None:
    text = "user,item,time,stars\n" + "".join(f"a,i{at},{NOW + at},{stars}\n" for at, stars in enumerate([1, 2, 3.5, 5]))
    log = made(tmp_path, text, schema_of({"label": {"column": "stars", "at_least": 4, "range": [1, 5]}}))
    assert log.events["value"].tolist() == [0, 0.25, 0.625, 1]
    assert log.events["label"].tolist() == [0, 0, 0, 1]
    (tmp_path / "bad").mkdir()
    schema = schema_of({"label": {"column": "stars", "at_least": 4, "range": [1, 5]}})
    assert refused(DataError, tmp_path / "bad", text + f"a,x,{NOW},0\n", schema) == (
        "events.csv: column 'stars' lies outside label.range [1.0, 5.0] in 1 row: line 6: '0'."
    )


# Weights and splits


def test_weights_and_splits(tmp_path: Path) -> None:
    text = "user,item,time,w,part\n" + f"a,x,{NOW},0,train\na,y,{NOW + 1},2.5, valid \na,z,{NOW + 2},1e-3,test\n"
    schema = schema_of({"weight": "w", "split": "part"})
    log = made(tmp_path, text, schema)
    assert log.events["weight"].tolist() == [0, 2.5, np.float32(1e-3)]
    assert log.events["split"].tolist() == [0, 1, 2]
    (tmp_path / "bad").mkdir()
    assert refused(DataError, tmp_path / "bad", text.replace("2.5", "-2.5"), schema) == (
        "events.csv: column 'w' is negative in 1 row: line 3: '-2.5'."
    )
    assert (
        refused(DataError, tmp_path / "bad", text.replace("2.5", ""), schema) == "events.csv: column 'w' is empty in 1 row: line 3: None."
    )
    assert refused(DataError, tmp_path / "bad", text.replace("test", "Test").replace("train", ""), schema) == (
        "events.csv: column 'part' is none of train, valid, test in 2 rows: line 2: None, line 4: 'Test'."
    )


# Impressions


def shown(rows: Sequence[tuple[str, str, int, str, int, str]]) -> str:
    return "user,item,time,request,click,place\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


SHOWN = {"label": {"column": "click", "at_least": 1}, "context": {"place": {}}, "impressions": {"request": "request"}}


def test_impressions_of_a_request(tmp_path: Path) -> None:
    rows = [
        ("a", "x", NOW + 5, "r2", 0, "top"),
        ("a", "x", NOW, "r1", 0, "end"),
        ("a", "y", NOW + 3, "r2", 1, "top"),  # the earliest of r2
        ("b", "x", NOW, "r3", 1, ""),
        ("a", "z", NOW + 4, "r1", 1, "end"),
        ("a", "w", NOW + 9, "r2", 0, "top"),
    ]
    log = made(tmp_path, shown(rows), schema_of(SHOWN))
    assert log.events["source"].tolist() == [1, 4, 0, 2, 5, 3]
    assert log.events["request"].tolist() == [1, 1, 0, 0, 0, 3]
    assert log.events["time"].tolist() == [1000 * time for time in (NOW, NOW, NOW + 3, NOW + 3, NOW + 3, NOW)]
    assert log.events["label"].tolist() == [0, 1, 0, 1, 0, 1]
    assert decoded(log, "context.place") == ["end", "end", "top", "top", "top", ""]


def test_requests_of_one_time_stay_apart(tmp_path: Path) -> None:
    rows = [("a", item, NOW, request, 1, "") for item, request in (("x", "r2"), ("y", "r1"), ("z", "r2"), ("w", "r1"))]
    log = made(tmp_path, shown(rows), schema_of(SHOWN))
    assert log.events["source"].tolist() == [0, 2, 1, 3]
    assert log.events["request"].tolist() == [0, 0, 1, 1]


def test_impressions_of_a_person_and_time(tmp_path: Path) -> None:
    rows = [("a", "x", NOW + 1, "", 0, "p"), ("b", "x", NOW, "", 1, "q"), ("a", "y", NOW, "", 1, "r"), ("a", "z", NOW + 1, "", 1, "p")]
    log = made(tmp_path, shown(rows), schema_of(SHOWN | {"impressions": {"shown": {"seat": {"column": "request"}}}}))
    assert log.events["source"].tolist() == [2, 0, 3, 1]
    assert log.events["request"].tolist() == [2, 0, 0, 1]
    assert decoded(log, "context.place") == ["r", "p", "p", "q"]
    assert decoded(log, "shown.seat") == [""] * 4


def test_requests_that_contradict_themselves(tmp_path: Path) -> None:
    rows = [("a", "x", NOW, "r1", 1, "p"), ("b", "y", NOW, "r1", 0, "p"), ("b", "y", NOW, "r2", 0, "p")]
    assert refused(DataError, tmp_path, shown(rows), schema_of(SHOWN)) == (
        "events.csv: column 'request' names a request of several people in 2 rows: line 2: 'r1', line 3: 'r1'."
    )
    for other in ("q", ""):
        rows = [("a", "x", NOW, "r1", 1, "p"), ("a", "y", NOW, "r1", 0, other), ("b", "y", NOW, "r2", 0, "p")]
        assert refused(DataError, tmp_path, shown(rows), schema_of(SHOWN)) == (
            "events.csv: column 'place' has several values in one request, though context is of its moment "
            f"(facts of an item go to `shown`) in 2 rows: line 2: 'p', line 3: {other or None!r}."
        )
    rows = [("a", "x", NOW, "", 1, "p")]
    assert refused(DataError, tmp_path, shown(rows), schema_of(SHOWN)) == "events.csv: column 'request' is empty in 1 row: line 2: None."


# Repeated events

SOME = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 2), st.sampled_from("01")), min_size=1, max_size=25
).filter(lambda rows: any(label == "1" for *_, label in rows))


@settings(max_examples=12, deadline=None)
@given(SOME, st.booleans())
def test_repeated_events(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, str]], labelled: bool) -> None:
    text = "user,item,time,label\n" + "".join(f"{user},{item},{NOW + time},{label}\n" for user, item, time, label in rows)
    label = {"label": {"column": "label", "at_least": 1}} if labelled else {}
    folder = tmp_path_factory.mktemp("kept")
    kept = made(folder, text, schema_of(label))
    assert kept.size == len(rows)
    assert kept.manifest["repeated_events"] == len(rows) - len({row[:3] for row in rows})
    assert kept.manifest["skipped"] == []
    dropped = made(tmp_path_factory.mktemp("dropped"), text, schema_of(label | {"duplicates": "drop"}))
    same = [row if labelled else row[:3] for row in rows]
    firsts = [at for at, row in enumerate(same) if row not in same[:at]]
    assert sorted(dropped.events["source"].tolist()) == firsts
    gone = len(rows) - len(firsts)
    why = {"file": "events.csv", "why": "repeats an earlier row (events.duplicates = 'drop')", "rows": gone, "examples": ""}
    assert dropped.manifest["skipped"] == ([why] if gone else [])
    assert dropped.manifest["rows_skipped"] == gone


def test_forms_give_the_same_bytes(tmp_path: Path) -> None:
    """The same rows in another form are the same Log, up to its schema."""
    contents: dict[str, str | bytes] = {f"e.{form}": text for form, text in TEXTS.items()}
    names = HEADER.strip().split(",")
    contents["e.parquet"] = parquet({name: [row[at] for row in ROWS] for at, name in enumerate(names)})
    found = []
    for name, content in contents.items():
        folder = tmp_path / name
        folder.mkdir()
        found.append(bytes_of(made(folder, {name: content}, schema_of({"file": name})).folder))
    for other in found[1:]:
        assert all(other[file] == found[0][file] for file in found[0] if file.endswith(".arrow"))
