"""Bad rows and bad files: refused whole, in words, or skipped with every one of them counted; never a raw fault of a reader."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prepare import HEADER, NOW, made, refused, schema_of

from penchant.config import read
from penchant.data import read as readers
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sources import Source
from penchant.errors import ConfigError, DataError, PenchantError, SchemaError
from penchant.schema import Schema

GOOD = [f"a,x,{NOW}", f"b,y,{NOW + 1}", f"a,z,{NOW + 2}", f"c,x,{NOW + 3}"]


def kept(log: Log) -> list[str]:
    """The events as lines, in the order of their source rows."""
    users, items = log.users.column("id").to_pylist(), log.items.column("id").to_pylist()
    found = sorted(zip(log.events["source"], log.user_of(np.arange(log.size)), log.events["item"], log.events["time"], strict=True))
    return [f"{users[user]},{items[item]},{at // 1000}" for _, user, item, at in found]


def skipped(log: Log) -> list[tuple[str, int, str]]:
    return [(one["why"], one["rows"], one["examples"]) for one in log.manifest["skipped"]]


# Skipping

BAD: list[tuple[str, str, str]] = [  # a bad line, why, and how it is shown
    ("a,x", "cannot be read as 3 columns of utf-8 text separated by ','", "line 4: 'a,x' (missing columns)"),
    (f"a,x,{NOW},1", "cannot be read as 3 columns of utf-8 text separated by ','", f"line 4: 'a,x,{NOW},1' (too many columns)"),
    (f'a,"x"y,{NOW}', "cannot be read as 3 columns of utf-8 text separated by ','", f"line 4: 'a,\"x\"y,{NOW}' (unquoted value)"),
    (f",x,{NOW}", "column 'user' is empty", "line 4: None"),
    (f"a,  ,{NOW}", "column 'item' is empty", "line 4: '  '"),
    ("a,x,", "column 'time' is not a number", "line 4: None"),
    ("a,x,nan", "column 'time' is not a number", "line 4: 'nan'"),
    ("a,x,-5", "column 'time' lies outside 1971 to 2100 in unit 's'", "line 4: '-5'"),
    ("a,x,99999999999999999999", "column 'time' is not a number", "line 4: '99999999999999999999'"),
    (f"a,x,{NOW}000", "column 'time' lies outside 1971 to 2100 in unit 's'", f"line 4: '{NOW}000'"),
]


@pytest.mark.parametrize(("line", "why", "shown"), BAD, ids=[line for line, _, _ in BAD])
def test_a_bad_row_is_refused_or_skipped(tmp_path: Path, line: str, why: str, shown: str) -> None:
    text = HEADER + "\n".join([*GOOD[:2], line, *GOOD[2:]]) + "\n"
    said = refused(DataError, tmp_path, text)
    assert said.startswith(f"events.csv: {why} in 1 row: {shown}" if "column '" in why else f"events.csv: 1 row {why}: {shown}")
    log = made(tmp_path, text, bad_rows="skip")
    assert kept(log) == GOOD
    assert skipped(log) == [(why, 1, shown)]
    assert (log.manifest["rows"], log.manifest["events"], log.manifest["rows_skipped"]) == (5, 4, 1)


def test_bytes_of_another_encoding(tmp_path: Path) -> None:
    text = (HEADER + "\n".join(GOOD)).encode() + f"\ncafé,x,{NOW}\n".encode("latin-1") + f"café,x,{NOW}".encode()
    why, shown = "cannot be read as 3 columns of utf-8 text separated by ','", f"line 6: 'caf??x,{NOW}' (invalid encoding)"
    assert refused(DataError, tmp_path, text) == f"events.csv: 1 row {why}: {shown}."
    log = made(tmp_path, text, bad_rows="skip")
    assert kept(log) == [*GOOD, f"café,x,{NOW}"]
    assert skipped(log) == [(why, 1, shown)]


def test_many_reasons_are_counted_each(tmp_path: Path) -> None:
    bad = [f",x,{NOW}", "a,x", "a,x,soon", ",,", f",y,{NOW}"]
    lines = [line for pair in zip(GOOD + GOOD, [*bad, "", "", ""], strict=True) for line in pair]
    log = made(tmp_path, HEADER + "\n".join(lines) + "\n", bad_rows="skip")
    assert kept(log) == GOOD + GOOD
    assert skipped(log) == [
        ("cannot be read as 3 columns of utf-8 text separated by ','", 1, "line 5: 'a,x' (missing columns)"),
        ("column 'user' is empty", 3, "line 3: None, line 9: None, line 11: None"),
        ("column 'time' is not a number", 1, "line 7: 'soon'"),
    ]
    assert log.manifest["rows"] == 13


def test_more_than_half_is_too_many(tmp_path: Path) -> None:
    rows = [*GOOD[:2], "a,x,soon", "a,x,later"]
    assert kept(made(tmp_path, HEADER + "\n".join(rows), bad_rows="skip")) == GOOD[:2]
    (tmp_path / "more").mkdir()
    assert refused(DataError, tmp_path / "more", HEADER + "\n".join([*rows, "a,x,x"]), bad_rows="skip") == (
        "events.csv: column 'time' is not a number in 3 rows: line 4: 'soon', line 5: 'later', line 6: 'x'. "
        "That is more than half of 5, too many to skip."
    )
    assert refused(DataError, tmp_path / "more", HEADER + "\n".join([*rows, f",x,{NOW}"]), bad_rows="skip") == (
        "events.csv: column 'time' is not a number in 2 rows: line 4: 'soon', line 5: 'later'. "
        "That, with 1 left out before, is more than half of 5, too many to skip."
    )
    assert refused(DataError, tmp_path / "more", HEADER + "a\nb\n" + GOOD[0], bad_rows="skip") == (
        "events.csv: 2 rows cannot be read as 3 columns of utf-8 text separated by ',': line 2: 'a' (missing columns), "
        "line 3: 'b' (missing columns). That is more than half of 3, too many to skip."
    )


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    rows = [json.dumps({"user": user, "item": "x", "time": NOW}) for user in "abcde"]
    bad = ["{'user': 1}", '["a"]', '{"user": "a"', "null"]
    lines = [*rows[:2], bad[0], "", *bad[1:], *rows[2:]]
    schema = schema_of({"file": "e.jsonl"})
    assert refused(DataError, tmp_path, {"e.jsonl": "\n".join(lines)}, schema) == (
        "e.jsonl: 4 rows cannot be read as a JSON object of utf-8 text: line 3, line 5, line 6."
    )
    log = made(tmp_path, {"e.jsonl": "\n".join(lines)}, schema, bad_rows="skip")
    assert kept(log) == [f"{user},x,{NOW}" for user in "abcde"]
    assert skipped(log) == [("cannot be read as a JSON object of utf-8 text", 4, "line 3, line 5, line 6")]
    (tmp_path / "none").mkdir()
    assert refused(DataError, tmp_path / "none", {"e.jsonl": "[{}]\nx\n"}, schema) == (
        "e.jsonl: none of its first lines is a JSON object; one a line was wanted."
    )
    assert refused(DataError, tmp_path / "none", {"e.jsonl": ""}, schema) == "e.jsonl: there is no row in it."


def test_rows_of_parquet(tmp_path: Path) -> None:
    sink = BytesIO()
    times = [NOW, float("nan"), NOW + 2, -1.0, NOW + 4]
    pq.write_table(pa.table({"user": ["a", "b", "", "c", "d"], "item": list("xyzxy"), "time": pa.array(times, from_pandas=False)}), sink)
    assert refused(DataError, tmp_path, {"e.parquet": sink.getvalue()}, schema_of({"file": "e.parquet"}), bad_rows="skip") == (
        "e.parquet: column 'time' lies outside 1971 to 2100 in unit 's' in 1 row: row 4: '-1' (1969-12-31). "
        "That, with 2 left out before, is more than half of 5, too many to skip."
    )


def test_ids_that_stand_twice(tmp_path: Path) -> None:
    files = {"events.csv": HEADER + "\n".join(GOOD), "items.csv": "item,n\nx,1\ny,2\nx,3\nz,4\nx,5\n"}
    schema = schema_of(items={"file": "items.csv", "fields": {"n": {"kind": "number"}}})
    assert refused(DataError, tmp_path, files, schema) == "items.csv: 1 item id stands in it more than once: 'x' 3 times."
    log = made(tmp_path, files, schema, bad_rows="skip")
    assert log.items.column("item.n").to_pylist() == [1, 2, 4]
    assert skipped(log) == [("item id stands in it already", 2, "'x' 3 times")]
    files["items.csv"] = "item,n\nx,1\nx,2\nx,3\n"
    (tmp_path / "more").mkdir()
    assert refused(DataError, tmp_path / "more", files, schema, bad_rows="skip") == (
        "items.csv: 1 item id stands in it more than once: 'x' 3 times. That is more than half of 3, too many to skip."
    )


def test_vectors_of_another_width(tmp_path: Path) -> None:
    rows = ["x,1 2", "y,[3; 4]", "z,5", "w,6 nan", "v,", "u,7|8"]
    files = {"events.csv": HEADER + "\n".join(GOOD), "items.csv": "item,v\n" + "\n".join(rows)}
    schema = schema_of(items={"file": "items.csv", "fields": {"v": {"kind": "vector"}}})
    said = refused(DataError, tmp_path, files, schema)
    assert said == "items.csv: column 'v' is no vector of finite numbers in 1 row: line 5: '6 nan'."
    log = made(tmp_path, files, schema, bad_rows="skip")
    assert skipped(log) == [
        ("column 'v' is no vector of finite numbers", 1, "line 5: '6 nan'"),
        ("column 'v' is no vector of 2 numbers, as most are,", 1, "line 4: '5'"),
    ]
    assert log.items.column("id").to_pylist() == ["u", "v", "x", "y", "z"]  # z has events, though its row is left out
    assert [np.isnan(one).all() or one for one in log.items.column("item.v").to_pylist()] == [[7, 8], True, [1, 2], [3, 4], True]


# Quotes, lines and bytes


def test_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    """All that it swallows is counted: lines to its next quote, or to the end of the file."""
    many = GOOD * 3
    text = HEADER + "\n".join([*many, f'a,"x,{NOW}', *GOOD])
    assert refused(DataError, tmp_path, text).startswith(
        "events.csv: 5 rows cannot be read as 3 columns of utf-8 text separated by ',': line 14: 'a,\"x,1000000000\\na,x,"
    )
    log = made(tmp_path, text, bad_rows="skip")
    assert kept(log) == many
    assert (log.manifest["rows"], log.manifest["rows_skipped"]) == (17, 5)
    (tmp_path / "many").mkdir()
    said = refused(DataError, tmp_path / "many", HEADER + "\n".join([*GOOD * 2000, f'a,"x,{NOW}', *GOOD * 200]), bad_rows="skip")
    assert said.endswith("(unquoted value). Where a quote is not closed, all that follows it is lost.")
    assert len(said) < 400


def test_ends_of_lines_of_several_kinds(tmp_path: Path) -> None:
    for text in (f"user,item,time\r\na,x,{NOW}\nb,y,{NOW}\r\n", f"user,item,time\na,x,{NOW}\rb,y,{NOW}\n"):
        for mode in ("refuse", "skip"):
            assert refused(DataError, tmp_path, text, bad_rows=mode) == (
                "events.csv: cannot be read as CSV: its quotes or ends of lines are of several kinds. "
                'Write it again with one kind, or say quote = "" in the schema if quotes mean nothing in it.'
            )


def test_a_nul_byte_is_a_character(tmp_path: Path) -> None:
    assert kept(made(tmp_path, HEADER + f"a\0,x,{NOW}\n\0,y,{NOW}\n")) == [f"a\0,x,{NOW}", f"\0,y,{NOW}"]


def test_very_long_lines(tmp_path: Path) -> None:
    long = "y" * 3_000_000
    text = HEADER + "\n".join([*GOOD, f"a,{long},{NOW}", "a,x,soon", GOOD[0]])
    why = "cannot be read as 3 columns of utf-8 text separated by ','"
    shown = f"line 6: 'a,{'y' * 78}'... of 10,000 characters (line size over maximum)"
    assert refused(DataError, tmp_path, text) == f"events.csv: 1 row {why}: {shown}."
    log = made(tmp_path, text, bad_rows="skip")
    assert kept(log) == [*GOOD, GOOD[0]]
    assert skipped(log) == [(why, 1, shown), ("column 'time' is not a number", 1, "line 7: 'soon'")]


def test_long_cells_are_shown_in_part(tmp_path: Path) -> None:
    long = "y" * 500_000
    assert refused(DataError, tmp_path, HEADER + f"a,{long},{NOW}\na,x,{long}\n") == (
        f"events.csv: column 'time' is not a number in 1 row: line 3: '{'y' * 80}'... of 500,000 characters."
    )


def test_a_separator_at_the_end_of_a_line_is_nothing(tmp_path: Path) -> None:
    assert kept(made(tmp_path, HEADER + "\n".join([GOOD[0], GOOD[1] + ",", GOOD[2]]))) == GOOD[:3]


@pytest.mark.parametrize("text", ["", HEADER, "\ufeff" + HEADER, HEADER.strip(), HEADER + "\n\n"])
def test_no_rows(tmp_path: Path, text: str) -> None:
    wanted = "there is no row in it." if text else "there is no header line in it."
    for mode in ("refuse", "skip"):
        assert refused(DataError, tmp_path, text, bad_rows=mode) == f"events.csv: {wanted}"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_byte_order_mark(tmp_path: Path, form: str) -> None:
    line = json.dumps({"user": "a", "item": "x", "time": NOW})
    text = "\ufeff" + (HEADER + f"a,x,{NOW}\n" if form == "csv" else line)
    log = made(tmp_path, {f"e.{form}": text}, schema_of({"file": f"e.{form}"}))
    assert kept(log) == [f"a,x,{NOW}"]


# Files


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_packed_file_that_is_cut_off(tmp_path: Path, pack: Callable[[bytes], bytes], encoding: str) -> None:
    ending = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    text = HEADER + "".join(f"u{at * 7919 % 10_007},i{at},{NOW}\n" for at in range(30_000))
    whole = pack(text.encode())
    for size in (len(whole) // 2, len(whole) - 4):
        for mode in ("refuse", "skip"):
            name = f"e.csv.{ending}"
            said = refused(DataError, tmp_path, {name: whole[:size]}, schema_of({"file": name, "encoding": encoding}), bad_rows=mode)
            assert said.startswith(f"{name}: ")
            assert "cannot be" in said


def test_what_is_not_packed(tmp_path: Path) -> None:
    said = refused(DataError, tmp_path, {"e.csv.gz": HEADER}, schema_of({"file": "e.csv.gz"}))
    assert said == "e.csv.gz: its first line cannot be read (Not a gzipped file (b'us'))."


def test_what_is_no_parquet(tmp_path: Path) -> None:
    for content in (b"", b"PAR1", HEADER.encode() * 10):
        said = refused(DataError, tmp_path, {"e.parquet": content}, schema_of({"file": "e.parquet"}))
        assert said.startswith("e.parquet: this is no Parquet file (")


@pytest.mark.parametrize("mode", ["refuse", "skip"])
def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    create = readers._create

    def grow(connection: Any, name: str, source: Source, *rest: Any) -> Any:
        done = create(connection, name, source, *rest)
        with source.files[0].open("a") as file:
            file.write(f"z,z,{NOW}\n")
        return done

    monkeypatch.setattr(readers, "_create", grow)
    assert refused(DataError, tmp_path, HEADER + "\n".join(GOOD) + "\n", bad_rows=mode) == (
        "events.csv: this file changed while it was read; read a copy, or wait until it is complete."
    )


def test_a_file_that_vanishes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = readers.columns
    monkeypatch.setattr(readers, "columns", lambda source: (columns(source), source.files[0].unlink())[0])
    assert refused(DataError, tmp_path, HEADER + "\n".join(GOOD)) == (
        "raw/events.csv: cannot be read any more (No such file or directory)."
    )


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(tmp_path: Path, threads: int) -> None:
    assert refused(ConfigError, tmp_path, HEADER + GOOD[0], threads=threads) == f"threads is {threads}; at least 1 was wanted."


def test_one_person_with_a_million_events(tmp_path: Path) -> None:
    rows = 1_000_000
    sink = BytesIO()
    order = np.random.default_rng(0).permutation(rows)
    columns = {"user": pa.array(["one"]).take(pa.array(np.zeros(rows, dtype=np.int32))), "item": order % 1000, "time": NOW + order}
    pq.write_table(pa.table(columns), sink)
    log = made(tmp_path, {"e.parquet": sink.getvalue()}, schema_of({"file": "e.parquet"}))
    assert (log.size, log.users.num_rows, log.start.tolist()) == (rows, 1, [0, rows])
    assert (log.events["time"] == (NOW + np.arange(rows)) * 1000).all()
    ids = np.array(log.items.column("id").to_pylist()).astype(int)
    assert (ids[log.events["item"]] == np.arange(rows) % 1000).all()
    assert log.manifest["repeated_events"] == 0


# Any bytes

NAMES = ("user", "item", "time", "w", "k")
PIECES = [b'"', b",", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\t", b"::", b'""', b"{", b"}", b"[1]", b"\xef\xbb\xbf", b"\\", b"nan", b"-1"]
PIECES += [b"9" * 25, b"9" * 31, b'"\n', b"1e400", b"\\u0000", b"\\ud800", b"'", b" ", b"\xc2\xa0", b"infinity", b";", b""]
PACKS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
Row = tuple[str, str, str, str, str]
Change = tuple[int, float, int, bytes]  # what, where (a share of the bytes), how long, which bytes


def written(form: str, rows: Sequence[Row]) -> bytes:
    """A whole log of this form."""
    if form == "parquet":
        sink = BytesIO()
        pq.write_table(pa.table({name: [row[at] for row in rows] for at, name in enumerate(NAMES)}), sink)
        return sink.getvalue()
    if form == "jsonl":
        return "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows).encode()
    separator = {"csv": ",", "tsv": "\t", "dat": "::"}[form]
    head = [] if form == "dat" else [NAMES]
    return "".join(separator.join(row) + "\n" for row in [*head, *rows]).encode()


def spoilt(content: bytes, changes: Sequence[Change]) -> bytes:
    """The content with bytes deleted, doubled, put in, cut off, turned or replaced, and lines moved or doubled."""
    for what, where, width, piece in changes:
        at = int(where * len(content))
        end = at + width
        lines = content.split(b"\n")
        line = int(where * len(lines))
        content = [
            lambda: content[:at] + content[end:],  # noqa: B023 - called at once
            lambda: content[:end] + content[at:end] + content[end:],  # noqa: B023
            lambda: content[:at] + piece + content[at:],  # noqa: B023
            lambda: content[:at],  # noqa: B023
            lambda: content[:at] + piece + content[at + len(piece) :],  # noqa: B023
            lambda: content.replace(content[at : at + 1], piece, width) if content else piece,  # noqa: B023
            lambda: content[:at] + bytes(byte ^ (1 << width % 8) for byte in content[at : at + 1]) + content[at + 1 :],  # noqa: B023
            lambda: b"\n".join([*lines[line:], *lines[:line]]),  # noqa: B023
            lambda: b"\n".join([*lines[:line], *lines[line : line + 1], *lines[line:]]),  # noqa: B023
        ][what]()
    return content


def events_of(form: str, options: int) -> dict[str, Any]:
    """A schema's events: the bits of `options` say what else it has."""
    events: dict[str, Any] = {"context": {"k": {}}, "action": {"w": {"kind": "number"}}}
    events |= {"separator": "::", "columns": list(NAMES)} if form == "dat" else {}
    events |= {"encoding": ["latin-1", "utf-16", "cp1252", "utf-7"][options >> 8 & 3]} if options & 3 == 3 else {}
    events |= {"quote": ""} if options & 4 else {}
    events |= {"duplicates": "drop"} if options & 8 else {}
    events |= {"label": {"column": "w", "at_least": 1}} if options & 48 == 48 else {}
    events |= {"label": {"column": "w", "one_of": ["1"]}, "impressions": {}} if options & 48 == 16 else {}
    events |= {"time": {"unit": ["iso", "ms", "us", "s"][options >> 10 & 3]}} if options & 192 == 192 else {}
    return events


def assert_read_or_refused_in_words(
    form: str, pack: str, rows: Sequence[Row], inner: Sequence[Change], outer: Sequence[Change], options: int, mode: Any
) -> bool:
    """Whether a spoilt log is read; whatever becomes of it, it is what this library promises."""
    name = f"log.{form}{pack}"
    plain = spoilt(written(form, rows), inner)
    content = spoilt(PACKS[pack](plain), outer if pack else ())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "raw").mkdir()
        (folder / "raw" / name).write_bytes(content)
        schema = read(Schema, {"name": "spoilt", "events": {"file": name, **events_of(form, options)}})
        try:
            log = prepare(folder / "raw", folder / "log", schema, bad_rows=mode, threads=1)
        except PenchantError as fault:
            said = (type(fault), str(fault))
        else:
            said = None
        if said:
            assert said[0] in (DataError, SchemaError)
            assert name in said[1]
            assert len(said[1]) < 1500
            assert os.listdir(folder) == ["raw"]
            return False
        assert sorted(os.listdir(folder)) == ["log", "raw"]
        assert log.manifest["rows"] == log.manifest["events"] + log.manifest["rows_skipped"]
        assert log.size > 0
        if mode == "refuse" and "duplicates" not in schema.events.model_fields_set:
            assert log.manifest["rows_skipped"] == 0
        if form in ("csv", "tsv", "dat") and schema.events.encoding == "utf-8" and not outer and b'"' not in plain:
            assert_rows_are_of(plain, {"csv": ",", "tsv": "\t", "dat": "::"}[form], log)
        return True


def assert_rows_are_of(plain: bytes, separator: str, log: Log) -> None:
    """Every event is a line of five cells, none stands in the Log more often than in the file."""
    cells = [line.split(separator) for line in plain.decode(errors="replace").replace("\r", "\n").removeprefix("\ufeff").split("\n")]
    there = [tuple(row[:2]) for row in cells if len(row) == 5]
    users, items = log.users.column("id").to_pylist(), log.items.column("id").to_pylist()
    found = [(users[user], items[item]) for user, item in zip(log.user_of(np.arange(log.size)), log.events["item"], strict=True)]
    for pair in set(found):
        assert found.count(pair) <= there.count(pair), pair


TIMES = st.one_of(st.integers(NOW, NOW + 5).map(str), st.sampled_from(["2001-09-09", "", "x", f"{NOW}000"]))
IDS = (st.sampled_from(["u1", "u2", "ü"]), st.sampled_from(["x", "y", "10"]))
ONE = st.tuples(*IDS, TIMES, st.sampled_from(["1", "0", "4.5", ""]), st.sampled_from(["a b", "é", ""]))
CHANGE = st.tuples(
    st.integers(0, 8), st.floats(0, 1, exclude_max=True), st.integers(1, 12), st.one_of(st.sampled_from(PIECES), st.binary(max_size=8))
)
FORMS = st.sampled_from(["csv", "tsv", "dat", "jsonl", "parquet"])


@settings(max_examples=60, deadline=None)
@given(
    FORMS,
    st.sampled_from([*PACKS]),
    st.lists(ONE, min_size=1, max_size=8),
    st.lists(CHANGE, max_size=3),
    st.lists(CHANGE, max_size=1),
    st.integers(0, 4095),
    st.sampled_from(["refuse", "skip"]),
)
def test_any_bytes_are_read_or_refused_in_words(
    form: str, pack: str, rows: list[Row], inner: list[Change], outer: list[Change], options: int, mode: str
) -> None:
    assert_read_or_refused_in_words(form, pack if form != "parquet" else "", rows, inner, outer, options, mode)


def drawn(form: str, draw: random.Random) -> tuple[str, str, list[Row], list[Change], list[Change], int, str]:
    """Arguments of `assert_read_or_refused_in_words`."""

    def changes(most: int) -> list[Change]:
        def one() -> Change:
            piece = draw.choice(PIECES) if draw.random() < 0.7 else draw.randbytes(draw.randint(1, 8))
            return draw.randint(0, 8), draw.random(), draw.randint(1, 12), piece

        return [one() for _ in range(draw.randint(0, most))]

    form = draw.choice(["csv", "csv", "tsv", "dat"]) if form == "csv" else form
    rows: list[Row] = [
        (f"u{draw.randint(0, 2)}", draw.choice("xyz"), str(NOW + draw.randint(0, 9)), draw.choice(["1", "0.5", ""]), draw.choice("ab"))
        for _ in range(draw.randint(1, 12))
    ]
    pack = draw.choice([*PACKS]) if form != "parquet" else ""
    options = draw.randint(0, 4095) if draw.random() < 0.7 else 0
    return form, pack, rows, changes(3), changes(1), options, draw.choice(["refuse", "skip"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_any_bytes_for_a_while(form: str) -> None:
    end, seed, done = time.monotonic() + 20, 0, 0
    while time.monotonic() < end:
        seed += 1
        try:
            done += assert_read_or_refused_in_words(*drawn(form, random.Random(f"{form} {seed}")))
        except BaseException as fault:
            fault.add_note(f"form {form}, seed {seed}")
            raise
    assert done > 10  # some of them are whole still


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: 2 * sum(bad for _, _, bad in rows) <= len(rows)
    ),
    st.integers(0, 2),
)
def test_the_good_rows_stay(form: str, rows: list[tuple[str, str, bool]], which: int) -> None:
    """Cells are spoilt one a row; exactly the other rows are kept, and all bad ones are counted."""
    spoil = ["", "", "soon"][which]
    written_rows: list[Row] = []
    for user, item, bad in rows:
        cells = [user, item, str(NOW), "1", "k"]
        if bad:
            cells[which] = spoil
        written_rows.append((cells[0], cells[1], cells[2], cells[3], cells[4]))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "raw").mkdir()
        (Path(folder) / "raw" / f"e.{form}").write_bytes(written(form, written_rows))
        log = prepare(Path(folder) / "raw", Path(folder) / "log", schema_of({"file": f"e.{form}"}), bad_rows="skip", threads=1)
        assert kept(log) == [f"{user},{item},{NOW}" for user, item, bad in rows if not bad]
        assert log.manifest["rows_skipped"] == sum(bad for _, _, bad in rows)
