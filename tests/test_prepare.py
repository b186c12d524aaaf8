"""A raw log into a Log: nothing lost, nothing guessed, the same bytes each time, and whole or not at all."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.errors import ConfigError, DataError, ExistsError, PenchantError, SchemaError
from penchant.schema import Schema

HEADER = "user,item,time\n"
NOW = 1_000_000_000


def schema_of(events: Mapping[str, Any] | None = None, **more: Any) -> Schema:
    return read(Schema, {"name": "made", "events": {"file": "events.csv"} | dict(events or {})} | more)


def made(folder: Path, files: str | bytes | Mapping[str, str | bytes], schema: Schema | None = None, **options: Any) -> Log:
    """The Log of these raw files; one text alone is that of events.csv."""
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    for name, content in (files if isinstance(files, Mapping) else {"events.csv": files}).items():
        (raw / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return prepare(raw, folder / "log", schema or schema_of(), **options)


def refused(kind: type[PenchantError], folder: Path, files: Any, schema: Schema | None = None, **options: Any) -> str:
    """What is said; and that nothing is left beside the raw files."""
    with pytest.raises(kind) as caught:
        made(folder, files, schema, **options)
    assert type(caught.value) is kind
    assert [path.name for path in folder.iterdir()] == ["raw"]
    return str(caught.value).replace(f"{folder}/", "")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def decoded(log: Log, name: str) -> list[str]:
    """The text of each event's category, "" where it is absent."""
    return ["" if place == 0 else log.values[name][int(place) - 1].as_py() for place in log.events[name]]


def same_number(text: str, number: float) -> bool:
    return np.isnan(number) if text == "" else np.float32(text) == number


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_events_are_sorted_by_person_time_and_source_row(raw: Path, log: Log) -> None:
    rows = rows_of(raw / "events.csv")
    people = sorted({row["user_id"] for row in rows})
    order = sorted(range(len(rows)), key=lambda at: (rows[at]["user_id"], int(rows[at]["time"]), at))
    assert log.size == len(rows) == log.manifest["events"]
    assert log.users.column("id").to_pylist() == people
    assert log.events["source"].tolist() == order
    assert [people[user] for user in log.user_of(np.arange(log.size))] == [rows[at]["user_id"] for at in order]
    assert log.events["time"].tolist() == [int(rows[at]["time"]) * 1000 for at in order]


def test_every_value_decodes_to_the_raw_text(raw: Path, log: Log) -> None:
    rows = rows_of(raw / "events.csv")
    ordered = [rows[at] for at in log.events["source"]]
    items = log.items.column("id").to_pylist()
    assert [items[at] for at in log.events["item"]] == [row["item_id"] for row in ordered]
    assert decoded(log, "action.kind") == [row["kind"] for row in ordered]
    assert decoded(log, "context.device") == [row["device"] for row in ordered]
    assert "" in decoded(log, "context.device")
    for column, name in (("dwell", "action.dwell"), ("battery", "context.battery")):
        assert all(same_number(row[column], number) for row, number in zip(ordered, log.events[name], strict=True))
    assert np.isnan(log.events["action.dwell"]).any()
    assert [log.events[name].dtype.name for name in ("item", "time", "source", "action.kind", "action.dwell")] == [
        "int32",
        "int64",
        "int64",
        "int32",
        "float32",
    ]


def test_people_and_items_decode_to_the_raw_text(raw: Path, log: Log) -> None:
    items = {row["item_id"]: row for row in rows_of(raw / "items.csv")}
    assert log.items.column("id").to_pylist() == sorted(items)
    for item in log.items.to_pylist():
        row = items[item["id"]]
        assert item["title"] == row["title"]
        assert ("" if item["item.maker"] == 0 else log.values["item.maker"][item["item.maker"] - 1].as_py()) == row["maker"]
        assert "|".join(log.values["item.tags"][place - 1].as_py() for place in item["item.tags"]) == row["tags"]
        assert same_number(row["price"], item["item.price"])
    people = {row["user_id"]: row for row in rows_of(raw / "users.csv")}
    for person in log.users.to_pylist():
        row = people[person["id"]]
        assert ("" if person["user.town"] == 0 else log.values["user.town"][person["user.town"] - 1].as_py()) == row["town"]
        assert same_number(row["age"], person["user.age"])
    for values in log.values.values():
        assert values.to_pylist() == sorted(values.to_pylist())


def test_counts(tmp_path: Path, log: Log) -> None:
    assert {name: log.manifest[name] for name in ("kind", "version", "name", "users", "items")} == {
        "kind": "penchant log",
        "version": 2,
        "name": "world",
        "users": 60,
        "items": 80,
    }
    files = {
        "events.csv": HEADER + f"b,y,{NOW}\na,x,{NOW}\nb,z,{NOW}\n",
        "items.csv": "item,price\nx,1\nw,\n",
        "users.csv": "user,age\nc,1\nd,2\nb,3\n",
    }
    more = {"items": {"file": "items.csv", "fields": {"price": {"kind": "number"}}}}
    more["users"] = {"file": "users.csv", "fields": {"age": {"kind": "number"}}}
    log = made(tmp_path, files, schema_of(**more))
    names = ("rows", "events", "users", "items", "users_without_profile", "profiles_without_events", "items_without_attributes")
    assert [log.manifest[name] for name in names] == [3, 3, 2, 4, 1, 2, 2]
    assert log.items.column("id").to_pylist() == ["w", "x", "y", "z"]
    assert log.items.column("item.price").to_numpy().tolist()[1] == 1.0
    assert np.isnan(log.items.column("item.price").to_numpy()[[0, 2, 3]]).all()
    assert np.isnan(log.users.column("user.age").to_numpy()).tolist() == [True, False]


def test_ties_keep_the_source_order(tmp_path: Path) -> None:
    log = made(tmp_path, HEADER + "".join(f"u,i{i},{NOW}\n" for i in (3, 1, 2, 0, 4)))
    assert log.events["source"].tolist() == [0, 1, 2, 3, 4]
    assert [log.items.column("id")[int(i)].as_py() for i in log.events["item"]] == ["i3", "i1", "i2", "i0", "i4"]


EVENT = st.tuples(st.sampled_from(["b", "a", "ä", "B", "10", "9"]), st.sampled_from("xyz"), st.integers(0, 3))


@settings(max_examples=15, deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=30))
def test_order_of_any_log(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]) -> None:
    text = HEADER + "".join(f"{user},{item},{NOW + time}\n" for user, item, time in rows)
    log = made(tmp_path_factory.mktemp("any"), text)
    assert log.users.column("id").to_pylist() == sorted({user for user, _, _ in rows})
    assert log.events["source"].tolist() == sorted(range(len(rows)), key=lambda at: (rows[at][0], rows[at][2], at))


def test_each_table_is_one_uncompressed_batch_in_mapped_memory(log: Log) -> None:
    for name in ("events", "users", "items", "values"):
        before = pa.total_allocated_bytes()
        reader = pa.ipc.open_file(pa.memory_map(str(log.folder / f"{name}.arrow")))
        assert reader.num_record_batches == 1
        batch = reader.get_batch(0)
        assert pa.total_allocated_bytes() == before  # a compressed column would be unpacked into memory
        assert batch.num_rows == {"events": log.size, "users": 60, "items": 80, "values": 5}[name]
    assert not log.events["item"].flags.writeable
    assert not log.events["item"].flags.owndata


def test_same_input_same_bytes(tmp_path: Path, raw: Path, log: Log) -> None:
    for threads in (1, 2):
        assert bytes_of(prepare(raw, tmp_path / f"log{threads}", threads=threads).folder) == bytes_of(log.folder)


@pytest.mark.slow
def test_same_bytes_of_a_log_that_is_read_in_parallel(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = 400_000
    columns = (random.integers(2000, size=rows), random.integers(500, size=rows), NOW + random.integers(50, size=rows))
    padding = "p" * 100  # 48 MB: more than the 32 MB that one thread reads at a time
    lines = [f"u{user},i{item},{time},{padding}{at}\n" for at, (user, item, time) in enumerate(zip(*columns, strict=True))]
    text = "user,item,time,text\n" + "".join(lines)
    folders = []
    for threads in (1, 2, 2):
        folders.append(tmp_path / str(len(folders)))
        folders[-1].mkdir()
        log = made(folders[-1], text, threads=threads)
        order = np.lexsort((np.arange(rows), columns[2], np.array([f"u{user}" for user in columns[0]])))
        assert np.array_equal(log.events["source"], order)
    first, *others = [bytes_of(folder / "log") for folder in folders]
    assert all(other == first for other in others)
    lines[399_000] = "u1,i1,soon,x\n"
    lines[399_990] = "u1,i1\n"
    (tmp_path / "bad").mkdir()
    assert refused(DataError, tmp_path / "bad", "user,item,time,text\n" + "".join(lines)) == (
        "events.csv: 1 row cannot be read as 4 columns of utf-8 text separated by ',': line 399992: 'u1,i1' (missing columns)."
    )
    lines[399_990] = lines[0]
    assert refused(DataError, tmp_path / "bad", "user,item,time,text\n" + "".join(lines)) == (
        "events.csv: column 'time' is not a number in 1 row: line 399002: 'soon'."
    )


def test_a_log_knows_no_length_of_a_past(data: EncodedLog, log: Log) -> None:
    train, before = np.arange(log.size), bytes_of(log.folder)
    short, long = (Loader.for_training(data, train, LoadConfig(past=past, unknown=0), 0).batch(train, 0) for past in (5, 50))
    assert short.history.events.longest == 5
    assert long.history.events.longest > 5
    for row in range(0, log.size, 37):
        few, many = (batch.history.item[batch.history.events.start[row] : batch.history.events.start[row + 1]] for batch in (short, long))
        assert (short.row[few] == long.row[many][-5:]).all()
    assert bytes_of(log.folder) == before


def test_out_folder_is_there(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(ExistsError) as caught:
        made(tmp_path, HEADER + f"a,b,{NOW}\n")
    assert str(caught.value) == f"{tmp_path / 'log'}: this exists already; remove it, or write the Log to another folder."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "raw"]


def test_schema_stands_beside_the_raw_files(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "schema.toml").write_text('name = "mine"\n[events]\nfile = "events.csv"\n')
    (tmp_path / "raw" / "events.csv").write_text(HEADER + f"a,b,{NOW}\n")
    log = prepare(str(tmp_path / "raw"), str(tmp_path / "log"))
    assert (log.schema.name, log.manifest["name"]) == ("mine", "mine")
    assert log.schema == open_log(tmp_path / "log").schema


# What cannot be read


def test_missing_column_names_those_there_and_the_nearest(tmp_path: Path) -> None:
    assert refused(SchemaError, tmp_path, "user,itm,time\na,b,1\n") == (
        "events.csv: there is no column 'item'. It has user, itm, time. Did you mean 'itm'?"
    )
    schema = schema_of(items={"file": "items.csv", "fields": {"genre": {"column": "class"}}})
    assert refused(SchemaError, tmp_path, {"events.csv": HEADER + f"a,b,{NOW}\n", "items.csv": "item,kind\n"}, schema) == (
        "items.csv: there is no column 'class'. It has item, kind."
    )


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    assert refused(SchemaError, tmp_path, "user,item,time,time\na,b,1,2\n") == "events.csv: there are 2 columns 'time'; one was wanted."


def test_wrong_separator(tmp_path: Path) -> None:
    assert refused(SchemaError, tmp_path, f"user;item;time\na;b;{NOW}\n") == "events.csv: there is no column 'user'. It has user;item;time."


def test_too_few_and_too_many_columns(tmp_path: Path) -> None:
    text = HEADER + f"a,b,{NOW}\na,b\na,b,{NOW},4,5\n\na\na,b,{NOW}\n,,,5\n"
    assert refused(DataError, tmp_path, text) == (
        "events.csv: 4 rows cannot be read as 3 columns of utf-8 text separated by ',': "
        f"line 3: 'a,b' (missing columns), line 4: 'a,b,{NOW},4,5' (too many columns), line 6: 'a' (missing columns)."
    )


def test_text_that_is_not_of_its_encoding(tmp_path: Path) -> None:
    text = (HEADER + f"café,b,{NOW}\nx,y,{NOW}\nü,b\n").encode("latin-1")
    assert refused(DataError, tmp_path, text) == (
        "events.csv: 2 rows cannot be read as 3 columns of utf-8 text separated by ',': "
        f"line 2: 'caf??b,{NOW}' (invalid encoding), line 4: '?,b' (invalid encoding, missing columns)."
    )
    log = made(tmp_path, (HEADER + f"café,ÿ,{NOW}\n").encode("latin-1"), schema_of({"encoding": "latin-1"}))
    assert (log.users.column("id").to_pylist(), log.items.column("id").to_pylist()) == (["café"], ["ÿ"])


@pytest.mark.parametrize(("column", "value"), [("user", ""), ("item", " "), ("user", '""')])
def test_empty_ids(tmp_path: Path, column: str, value: str) -> None:
    rows = [f"a,b,{NOW}"] * 3 + [f"{value},b,{NOW}" if column == "user" else f"a,{value},{NOW}"] * 5
    held = None if value.strip(' "') == value else value.strip('"') or None
    assert refused(DataError, tmp_path, HEADER + "\n".join(rows)) == (
        f"events.csv: column '{column}' is empty in 5 rows: line 5: {held!r}, line 6: {held!r}, line 7: {held!r}."
    )


def test_numbers_that_are_none(tmp_path: Path) -> None:
    schema = schema_of({"action": {"w": {"kind": "number", "column": "Width"}}})
    bad = ["1,5", "x", "nan", "inf", "1e300", " "]
    text = "user,item,time,Width\n" + "".join(f'a,b,{NOW},"{cell}"\n' for cell in ["", "1", "-2.5e-3", *bad])
    assert refused(DataError, tmp_path, text, schema) == (
        "events.csv: column 'Width' is not a number in 6 rows: line 5: '1,5', line 6: 'x', line 7: 'nan'."
    )
    log = made(tmp_path, "user,item,time,Width\n" + f"a,b,{NOW},\na,b,{NOW}, 5 \na,b,{NOW},-2.5e-3\n", schema)
    assert log.events["action.w"][1:].tolist() == [5.0, np.float32(-0.0025)]
    assert np.isnan(log.events["action.w"][0])


def test_numbers_of_side_tables(tmp_path: Path) -> None:
    schema = schema_of(items={"file": "items.csv", "fields": {"year": {"kind": "number"}}})
    events = HEADER + f"a,b,{NOW}\n"
    assert refused(DataError, tmp_path, {"events.csv": events, "items.csv": "item,year\nb,1999\nc,soon\n"}, schema) == (
        "items.csv: column 'year' is not a number in 1 row: line 3: 'soon'."
    )
    log = made(tmp_path, {"events.csv": events, "items.csv": "item,year\nb, 1_999 \nc,+5\n"}, schema)
    assert log.items.column("item.year").to_pylist() == [1999.0, 5.0]


def test_bad_lines_are_named_where_rows_are_not_lines(tmp_path: Path) -> None:
    text = HEADER + f'"a\nsecond line, of a name",b,{NOW}\n\n\nc,d,{NOW}\n\nc,"d\n",x\nc,d,y\n'
    assert refused(DataError, tmp_path, text) == "events.csv: column 'time' is not a number in 2 rows: line 8: 'x', line 10: 'y'."
    text = f"a::b::{NOW}\n\na::b::x\n"
    schema = schema_of({"columns": ["user", "item", "time"], "separator": "::"})
    assert refused(DataError, tmp_path, text, schema) == "events.csv: column 'time' is not a number in 1 row: line 3: 'x'."


@pytest.mark.parametrize(("bad", "hint"), [("2001-09-09", ": set events.time.unit = 'iso'"), ("x", ""), ("nan", ""), ("9" * 40, "")])
def test_times_that_are_none(tmp_path: Path, bad: str, hint: str) -> None:
    assert refused(DataError, tmp_path, HEADER + f"a,b,{NOW}\na,b,{bad}\n") == (
        f"events.csv: column 'time' is not a number in 1 row: line 3: '{bad}'{hint}."
    )
    log = made(tmp_path, HEADER + "a,b,1000000000.0\na,c,1000000000.0019\na,d,1.0000000000019e9\n")
    assert log.events["time"].tolist() == [NOW * 1000, NOW * 1000 + 1, NOW * 1000 + 1]


@pytest.mark.parametrize(
    ("unit", "value", "date", "right"),
    [
        ("s", NOW * 1000, "about the year 33658", "ms"),
        ("s", NOW * 1_000_000, "about the year 31690708", "us"),
        ("ms", NOW, "1970-01-12", "s"),
        ("ms", NOW * 1_000_000, "about the year 33658", "us"),
        ("us", NOW, "1970-01-01", "s"),
        ("us", NOW * 1000, "1970-01-12", "ms"),
    ],
)
def test_times_in_another_unit(tmp_path: Path, unit: str, value: int, date: str, right: str) -> None:
    assert refused(DataError, tmp_path, HEADER + f"a,b,{value}\n", schema_of({"time": {"unit": unit}})) == (
        f"events.csv: column 'time' lies outside 1971 to 2100 in unit '{unit}' in 1 row: line 2: '{value}' ({date}); "
        f"in '{right}' it is 2001-09-09: set events.time.unit = '{right}'."
    )
    log = made(tmp_path, HEADER + f"a,b,{value}\n", schema_of({"time": {"unit": right}}))
    assert log.events["time"].tolist() == [NOW * 1000]


def test_times_that_fit_no_unit(tmp_path: Path) -> None:
    assert refused(DataError, tmp_path, HEADER + f"a,b,{NOW}\na,b,0\n") == (
        "events.csv: column 'time' lies outside 1971 to 2100 in unit 's' in 1 row: line 3: '0' (1970-01-01)."
    )
    assert refused(DataError, tmp_path, HEADER + f"a,b,{NOW}\na,b,5000000000\n") == (
        "events.csv: column 'time' lies outside 1971 to 2100 in unit 's' in 1 row: line 3: '5000000000' (2128-06-11)."
    )


def test_no_rows(tmp_path: Path) -> None:
    assert refused(DataError, tmp_path, "") == "events.csv: there is no header line in it."
    assert refused(DataError, tmp_path, HEADER) == "events.csv: there is no row in it."
    assert refused(DataError, tmp_path, "", schema_of({"columns": ["user", "item", "time"]})) == "events.csv: there is no row in it."


def test_missing_files(tmp_path: Path) -> None:
    assert refused(SchemaError, tmp_path, {}) == "raw/events.csv: there is no such file; the schema names it for the events."
    with pytest.raises(SchemaError) as caught:
        prepare(tmp_path / "raw", tmp_path / "log")
    assert str(caught.value) == f"{tmp_path}/raw/schema.toml: there is no such file."
    schema = schema_of(users={"file": "people.csv"})
    assert refused(SchemaError, tmp_path, HEADER + f"a,b,{NOW}\n", schema) == (
        "raw/people.csv: there is no such file; the schema names it for the users."
    )


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o777)
        (place / "events.csv").write_text(HEADER)
        (place / "events.csv").chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(SchemaError) as caught:
                prepare(place, place / "log", schema_of())
        finally:
            os.seteuid(0)
        assert str(caught.value) == f"{place / 'events.csv'}: cannot be read (Permission denied)."
        assert [path.name for path in place.iterdir()] == ["events.csv"]


def test_ids_that_stand_more_than_once(tmp_path: Path) -> None:
    files = {"events.csv": HEADER + f"a,b,{NOW}\n", "items.csv": "item\nb\nc\nb\nb\n", "users.csv": "user\na\na\nb\nb\nc\nc\nd\nd\n"}
    assert refused(DataError, tmp_path, files, schema_of(items={"file": "items.csv"})) == (
        "items.csv: 1 item id stands in it more than once: 'b' 3 times."
    )
    assert refused(DataError, tmp_path, files, schema_of(users={"file": "users.csv"})) == (
        "users.csv: 4 user ids stand in it more than once: 'a' 2 times, 'b' 2 times, 'c' 2 times."
    )


@pytest.mark.parametrize("memory", ["", "lots", "1", "500mb", "-1GB", "1GB; DROP"])
def test_ill_formed_memory(tmp_path: Path, memory: str) -> None:
    assert refused(ConfigError, tmp_path, HEADER + f"a,b,{NOW}\n", memory=memory) == (
        f"memory is {memory!r}; a size such as '500MB' or '2GB' was wanted."
    )


@pytest.mark.parametrize("memory", ["1B", "100KB", "1 MiB"])
def test_too_little_memory(tmp_path: Path, memory: str) -> None:
    text = HEADER + "".join(f"u{at % 97},i{at % 89},{NOW + at}\n" for at in range(5000))
    assert refused(ConfigError, tmp_path, text, memory=memory) == (
        f"memory {memory!r} is too little to sort this log; allow more, about 1GB for 100 million events."
    )


FULL = """
import resource, sys
from pathlib import Path
from penchant.data.prepare import prepare
from penchant.errors import DiskError
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
folder = Path(sys.argv[1])
try:
    prepare(folder / "raw", folder / "place" / "log", threads=1)
except DiskError as fault:
    print(fault, end="")
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files whose events take 2.4 MB as columns, and far less when compressed."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "raw").mkdir()
    (folder / "raw" / "schema.toml").write_text('name = "wide"\n[events]\nfile = "events.csv"\n')
    (folder / "raw" / "events.csv").write_text(HEADER + "".join(f"u{at % 7},i{at % 5},{NOW}\n" for at in range(120_000)))
    (folder / "place").mkdir()
    return folder


@pytest.mark.parametrize("limit", [10_000, 2_000_000])
def test_files_that_cannot_grow(wide: Path, limit: int) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(wide), str(limit)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{wide / 'place' / 'log'}: no room to write the Log (File too large); nothing half-written was kept."
    assert list((wide / "place").iterdir()) == []


@pytest.mark.parametrize("kilobytes", [100, 5000, 8000, 9000, 10000])
def test_a_disk_that_fills_up(wide: Path, kilobytes: int) -> None:
    place = wide / "place"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        done = subprocess.run([sys.executable, "-c", FULL, str(wide), "0"], capture_output=True, text=True, check=False)
        left = [path.name for path in place.iterdir()]
    finally:
        subprocess.run(["umount", place], check=True)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == f"{place / 'log'}: no room to write the Log (No space left on device); nothing half-written was kept."
    assert left == []


# What can


def test_ids_are_text(tmp_path: Path) -> None:
    ids = ["007", "7", "7.0", "1234567890123456789", "1234567890123456788", "NULL", "nan", "ключ", "用户", "😀", "a b", "O'Neil"]
    log = made(tmp_path, HEADER + "".join(f"{one},{one},{NOW}\n" for one in ids))
    assert log.users.column("id").to_pylist() == sorted(ids)
    assert log.items.column("id").to_pylist() == sorted(ids)


def test_quotes_commas_and_ends_of_lines_in_titles(tmp_path: Path) -> None:
    titles = ['A "quoted", word', "two\nlines", "plain", ""]
    rows = "".join('b{},"{}"\n'.format(at, title.replace('"', '""')) for at, title in enumerate(titles))
    schema = schema_of(items={"file": "items.csv", "title": "title"})
    log = made(tmp_path, {"events.csv": HEADER + f"a,b9,{NOW}\n", "items.csv": "item,title\n" + rows}, schema)
    assert log.items.column("title").to_pylist() == [*titles[:3], None, None]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (f"user,item,time\r\na,b,{NOW}\r\nc,d,{NOW}\r\n", {}),
        (f"user,item,time\na,b,{NOW}\nc,d,{NOW}", {}),
        (f'\ufeff"user","item","time"\na,b,{NOW}\nc,d,{NOW}\n', {}),
        (f'"x,y",user,item,time\n0,a,b,{NOW}\n0,c,d,{NOW}\n', {}),
        (f"User,user,item,time\nx,a,b,{NOW}\nx,c,d,{NOW}\n", {}),
        (f"a::b::{NOW}\nc::d::{NOW}\n", {"columns": ["user", "item", "time"], "separator": "::"}),
        (f"user\titem\ttime\na\tb\t{NOW}\nc\td\t{NOW}\n", {"separator": "\t"}),
        (f"\ufeffa,b,{NOW}\nc,d,{NOW}\n", {"columns": ["user", "item", "time"]}),
    ],
    ids=["crlf", "no last end of line", "byte order mark", "separator in a name", "names by case", "no header", "tabs", "mark, no header"],
)
def test_ways_to_write_a_table(tmp_path: Path, text: str, events: Mapping[str, Any]) -> None:
    log = made(tmp_path, text, schema_of(events))
    assert log.users.column("id").to_pylist() == ["a", "c"]
    assert log.items.column("id").to_pylist() == ["b", "d"]
    assert log.events["time"].tolist() == [NOW * 1000] * 2


def test_names_with_quotes(tmp_path: Path) -> None:
    (tmp_path / "it's [1]").mkdir()
    names = {"it's": {}, 'a"b': {"column": "w"}}
    schema = schema_of({"context": names, "action": {"o'": {"kind": "number", "column": "it's"}}})
    log = made(tmp_path / "it's [1]", f"user,item,time,it's,w\na,b,{NOW},5,x\n", schema)
    assert decoded(log, "context.it's") == ["5"]
    assert decoded(log, 'context.a"b') == ["x"]
    assert log.events["action.o'"].tolist() == [5.0]


def test_labels(tmp_path: Path) -> None:
    stars = ["5", "3.9", "4", "0", "4.0", "-1"]
    text = "user,item,time,stars\n" + "".join(f"a,b{at},{NOW + at},{given}\n" for at, given in enumerate(stars))
    schema = schema_of({"label": {"column": "stars", "at_least": 4}, "action": {"stars": {}}})
    log = made(tmp_path, text, schema)
    assert log.events["label"].tolist() == [1, 0, 1, 0, 1, 0]
    assert log.positive.tolist() == [True, False, True, False, True, False]
    assert decoded(log, "action.stars") == stars
    assert log.values["action.stars"].to_pylist() == sorted(stars)
    (tmp_path / "bad").mkdir()
    assert refused(DataError, tmp_path / "bad", f"user,item,time,stars\na,b,{NOW},\n", schema) == (
        "events.csv: column 'stars' is empty in 1 row: line 2: None."
    )
    assert refused(DataError, tmp_path / "bad", f"user,item,time,stars\na,b,{NOW},many\n", schema) == (
        "events.csv: column 'stars' is not a number in 1 row: line 2: 'many'."
    )


def test_pasts_of_positives(tmp_path: Path) -> None:
    text = "user,item,time,stars\n" + "".join(f"a,b{at},{NOW + at},{at % 2}\n" for at in range(6))
    log = made(tmp_path, text, schema_of({"label": {"column": "stars", "at_least": 1}, "past": "positive"}))
    data = EncodedLog(log, fit_encoding(log, np.arange(6)))
    past, length = data.past(np.array([0, 1, 2, 5]), 10, "order")
    assert past.tolist() == [1, 1, 3]
    assert length.tolist() == [0, 0, 1, 2]


def test_several_values_keep_the_first(tmp_path: Path) -> None:
    schema = schema_of(items={"file": "items.csv", "fields": {"tags": {"kind": "categories", "separator": ";", "most": 2}}})
    files = {"events.csv": HEADER + f"a,b,{NOW}\n", "items.csv": "item,tags\nb, x ;; y;z\nc,\nd,y\n"}
    log = made(tmp_path, files, schema)
    assert log.values["item.tags"].to_pylist() == ["x", "y"]
    assert log.items.column("item.tags").to_pylist() == [[1, 2], [], [2]]
    assert log.manifest["items_with_values_cut"] == 1


@pytest.mark.parametrize(("text", "line"), [("user\nu0\n\nu1\n", 3), ("user\nu0\nu1\n\n", 4)])
def test_a_blank_line_of_a_file_of_one_column_is_an_empty_value(tmp_path: Path, text: str, line: int) -> None:
    files = {"events.csv": HEADER + f"u0,b,{NOW}\n", "users.csv": text}
    with pytest.raises(DataError) as caught:
        made(tmp_path, files, schema_of(users={"file": "users.csv"}))
    assert str(caught.value) == f"users.csv: column 'user' is empty in 1 row: line {line}: None."
