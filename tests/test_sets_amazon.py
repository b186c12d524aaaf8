"""Amazon's reviews: two category rules, metadata that are Python literals, two forms of Beauty, downloads."""

from __future__ import annotations

import gzip
import io
import json
import urllib.error
import urllib.request
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from test_sets import put, rows

from penchant.data.sets import SETS, Counts, amazon, get, named
from penchant.data.sets.public import RawFile
from penchant.errors import ConfigError, DataError, FetchError, UnknownNameError
from penchant.schema import read_schema

BASE = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"


def review(person: str, asin: str, stars: float, time: int, text: str = "Fine.") -> str:
    return json.dumps({"reviewerID": person, "asin": asin, "reviewText": text, "overall": stars, "unixReviewTime": time}) + "\n"


# Two reviews of one day, the person's later one first; 5 and 3 reviewed; the last is not in the metadata.
REVIEWS = "".join(
    [
        review("P2", "B5", 4.0, 1393545600, 'He said "ok",\nand\u2028left'),
        review("P1", "B3", 5.0, 1393545600),
        review("P1", "B5", 1.0, 1393545600),
        review("P2", "B9", 3.0, 1393459200),
    ]
).encode()
META = (
    b"{'asin': 'B1', 'title': 'Nobody wrote of this', 'categories': [['Electronics']]}\n"
    b"{'categories': [['Electronics', 'GPS'], ['Electronics', 'Car', 'Mounts']], 'asin': 'B3', 'price': 49.95, "
    b"'title': 'A \"mount\", it\\'s  \\nlong', 'brand': \"O'Neill\", 'related': {'also_bought': ['B5', 'B1']}}\n"
    b"\n"
    b"{'description': \"mind 'asin': 'B1' here\", 'asin': 'B5', 'categories': [['Caf\\xe9']]}\n"
    b"{'asin': 'B5', 'title': 'the same again', 'categories': [['Twice']]}\n"
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that PENCHANT_DATA names."""
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def serve(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> list[str]:
    """Addresses answer `files`; what was asked for is noted."""
    asked = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(files[url.removeprefix(BASE)])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


# What is written


@pytest.mark.parametrize(("rule", "category"), [(None, "Mounts"), ("din", "Mounts"), ("dien", "GPS")], ids=["by default", "din", "dien"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_the_two_category_rules(rule: str | None, category: str, zipped: bool, data: Path, tmp_path: Path) -> None:
    files = {"reviews_Electronics_5.json": REVIEWS, "meta_Electronics.json": META}
    if zipped:
        files = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    put(data / "amazon-electronics", files)
    got = get("amazon-electronics", tmp_path / "new", rule=rule)
    assert (got.place, got.events, got.items, got.users) == ("PENCHANT_DATA", 4, 2, 2)
    assert rows(tmp_path / "new" / "items.csv") == [
        ["item_id", "title", "brand", "price", "category"],
        ["B3", 'A "mount", it\'s long', "O'Neill", "49.95", category],
        ["B5", "", "", "", "Café"],
    ]
    reviews, _ = files
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(["items.csv", reviews, "schema.toml", "source.json"])
    assert (tmp_path / "new" / reviews).read_bytes() == files[reviews]
    assert json.loads((tmp_path / "new" / "source.json").read_text(encoding="utf-8")) == {
        "name": "amazon-electronics",
        "place": "PENCHANT_DATA",
        "licence": SETS["amazon-<category>"].licence,
        "sha256": dict.fromkeys(files, "not known"),
        "rule": rule or "din",
        "counts": {"events": 4, "items": 2, "seen_items": 3, "active_users": 2, "categories": 2},
        "counts_published": {
            "events": 1_689_188,
            "seen_items": 63_001,
            "active_users": 192_403,
            **({} if rule == "dien" else {"categories": 801}),
        },
    }


def test_the_schema(data: Path, tmp_path: Path) -> None:
    put(data / "amazon-books", {"reviews_Books_5.json": REVIEWS, "meta_Books.json": META})
    get("amazon-books", tmp_path / "new")
    schema = read_schema(tmp_path / "new" / "schema.toml")
    assert schema.name == "amazon-books"
    assert (schema.events.file, schema.events.format) == ("reviews_Books_5.json", "jsonl")
    assert (schema.events.user, schema.events.item) == ("reviewerID", "asin")
    assert (schema.events.time.column, schema.events.time.unit) == ("unixReviewTime", "s")
    assert schema.events.label is None
    assert schema.events.action["rating"].column == "overall"
    assert schema.items
    assert (schema.items.key, schema.items.title) == ("item_id", "title")
    assert {(group, name): field.kind for group, name, field in schema.fields()} == {
        ("item", "category"): "category",
        ("item", "brand"): "category",
        ("item", "price"): "number",
        ("action", "rating"): "category",
    }


def test_without_metadata_items_have_no_category(data: Path, tmp_path: Path) -> None:
    put(data / "amazon-musical-instruments", {"reviews_Musical_Instruments_5.json": REVIEWS})
    got = get("amazon-musical-instruments", tmp_path / "new")
    assert (got.events, got.items, got.users) == (4, 3, 2)
    assert read_schema(tmp_path / "new" / "schema.toml").items is None
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "reviews_Musical_Instruments_5.json",
        "schema.toml",
        "source.json",
    ]


@pytest.mark.parametrize("paths", ["[]", "[[]]", "None"])
def test_goods_under_no_category(paths: str, data: Path, tmp_path: Path) -> None:
    meta = f"{{'asin': 'B3', 'categories': {paths}}}\n{{'asin': 'B9', 'price': 3}}\n".encode()
    put(data / "amazon-baby", {"reviews_Baby_5.json": REVIEWS, "meta_Baby.json": meta})
    get("amazon-baby", tmp_path / "new")
    assert rows(tmp_path / "new" / "items.csv")[1:] == [["B3", "", "", "", ""], ["B9", "", "", "3", ""]]


def test_the_originals_are_not_copied(data: Path, tmp_path: Path) -> None:
    folder = put(data / "amazon-baby", {"there.json": REVIEWS})
    (folder / "reviews_Baby_5.json").symlink_to("there.json")
    get("amazon-baby", tmp_path / "new")
    written = tmp_path / "new" / "reviews_Baby_5.json"
    assert not written.is_symlink()
    assert written.samefile(folder / "there.json")


def test_beauty_in_the_form_of_two_tables(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "interactions.csv": b"user_id,item_id,timestamp\n2,1,1318896000\n1,2,1318896000\n1,1,1318896000\n",
        "items.csv": b"item_id,attribute_ids\n1,173 1 162\n2,\n",
    }
    beauty = SETS["amazon-beauty"]
    raw = tuple(RawFile(name=name, sha256=sha256(content).hexdigest()) for name, content in files.items())
    forms = (beauty.forms[0], replace(beauty.forms[1], files=raw))
    monkeypatch.setitem(SETS, "amazon-beauty", replace(beauty, counts=Counts(events=3), forms=forms))
    folder = put(data / "amazon-beauty", files)
    got = get("amazon-beauty", tmp_path / "new")
    assert (got.events, got.items, got.users) == (3, 2, 2)
    for name, content in files.items():
        assert (tmp_path / "new" / name).read_bytes() == content
    schema = read_schema(tmp_path / "new" / "schema.toml")
    ((_, _, attributes),) = schema.fields()
    assert (attributes.column, attributes.kind, attributes.separator) == ("attribute_ids", "categories", " ")
    with pytest.raises(ConfigError) as caught:
        get("amazon-beauty", tmp_path / "other", rule="din")
    assert str(caught.value) == (
        "rule is 'din', but amazon-beauty in the form of interactions.csv, items.csv has no category rules; leave it out."
    )
    put(folder / "more", {})
    (folder / "reviews_Beauty_5.json").write_bytes(REVIEWS)
    get("amazon-beauty", tmp_path / "original")
    assert read_schema(tmp_path / "original" / "schema.toml").events.file == "reviews_Beauty_5.json"


# From which place


def test_both_files_are_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    files = {"reviews_Baby_5.json.gz": gzip.compress(REVIEWS), "meta_Baby.json.gz": gzip.compress(META)}
    asked = serve(monkeypatch, files)
    assert get("amazon-baby", tmp_path / "new").place == BASE
    assert asked == [f"{BASE}{name}" for name in files]
    assert len(rows(tmp_path / "new" / "items.csv")) == 3
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "items.csv",
        "reviews_Baby_5.json.gz",
        "schema.toml",
        "source.json",
    ]


def test_what_is_downloaded_must_have_the_published_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    files = {"reviews_Electronics_5.json.gz": gzip.compress(REVIEWS), "meta_Electronics.json.gz": gzip.compress(META)}
    serve(monkeypatch, files)
    with pytest.raises(DataError) as caught:
        get("amazon-electronics", tmp_path / "new")
    assert str(caught.value) == (
        "amazon-electronics: 4 events came, 1,689,188 were wanted; 3 seen items came, 63,001 were wanted; "
        "2 active users came, 192,403 were wanted; 2 categories came, 801 were wanted."
    )
    assert list(tmp_path.iterdir()) == []


def test_no_place_has_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        get("amazon-Movies_and_TV", tmp_path / "new")
    assert str(caught.value) == (
        "amazon-movies-and-tv could not be had from any of its places:\n"
        f"  PENCHANT_DATA: there is no folder {data / 'amazon-movies-and-tv'}.\n"
        f"  {BASE}: reviews_Movies_and_TV_5.json.gz: Name or service not known.\n"
        "Set PENCHANT_DATA to a folder that holds amazon-movies-and-tv/ with the original "
        "reviews_Movies_and_TV_5.json.gz or reviews_Movies_and_TV_5.json, meta_Movies_and_TV.json.gz or meta_Movies_and_TV.json."
    )


# Names


@pytest.mark.parametrize("name", ["amazon-cds-and-vinyl", "amazon-CDs_and_Vinyl", "AMAZON_CDS_AND_VINYL", "amazon-cds_and-vinyl"])
def test_names_in_any_case(name: str) -> None:
    assert named(name).name == "amazon-cds-and-vinyl"
    assert named(name).forms[0].files[0].name == "reviews_CDs_and_Vinyl_5.json.gz"


def test_every_category_has_a_set_of_its_own() -> None:
    assert len(amazon.SETS) == len(amazon.CATEGORIES) == 24
    for name, public in amazon.SETS.items():
        assert public.name == name
        assert named(name).forms == public.forms
        assert name.removeprefix("amazon-") in SETS["amazon-<category>"].about


def test_an_unknown_category(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get("amazon-electronic", tmp_path / "new")
    assert str(caught.value) == (
        f"'amazon-electronic' is not a public set of Amazon reviews: there are {', '.join(amazon.SETS)}. Did you mean 'amazon-electronics'?"
    )


def test_the_family_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get("amazon-<category>", tmp_path / "new")
    assert str(caught.value).startswith(
        "'amazon-<category>' is not a public set of Amazon reviews: there are amazon-amazon-instant-video, "
    )


# What is said


def test_an_unknown_rule(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get("amazon-books", tmp_path / "new", rule="dein")
    assert str(caught.value) == "'dein' is not a category rule of amazon-books: there are din, dien. Did you mean 'din'?"


@pytest.mark.parametrize("name", [name for name in SETS if not name.startswith("amazon-")])
def test_a_rule_for_a_set_without_any(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        get(name, tmp_path / "new", rule="din")
    assert str(caught.value) == f"rule is 'din', but {name} has no category rules, as Amazon's sets do; leave it out."
    assert list(tmp_path.iterdir()) == []


def test_a_rule_without_metadata(data: Path, tmp_path: Path) -> None:
    folder = put(data / "amazon-baby", {"reviews_Baby_5.json": REVIEWS})
    with pytest.raises(ConfigError) as caught:
        get("amazon-baby", tmp_path / "new", rule="din")
    assert str(caught.value) == (
        f"rule is 'din', but there is no meta_Baby.json.gz beside {folder / 'reviews_Baby_5.json'}, "
        "so that amazon-baby has no categories; leave it out."
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            b'{"asin": "B3", "price": null}',
            'meta_Baby.json: line 2 is \'{"asin": "B3", "price": null}\\n\'; '
            "a Python literal such as \"{'asin': '0528881469', 'categories': [['GPS']]}\" was wanted.",
        ),
        (b"{'title': 'x'}", "meta_Baby.json: line 2 is \"{'title': 'x'}\\n\"; it names no 'asin'."),
    ],
    ids=["JSON", "nameless"],
)
def test_metadata_of_another_kind(line: bytes, message: str, data: Path, tmp_path: Path) -> None:
    meta = b"{'asin': 'B5'}\n" + line + b"\n"
    put(data / "amazon-baby", {"reviews_Baby_5.json": REVIEWS, "meta_Baby.json": meta})
    with pytest.raises(DataError) as caught:
        get("amazon-baby", tmp_path / "new")
    assert str(caught.value) == message


def test_metadata_cut_short(data: Path, tmp_path: Path) -> None:
    put(data / "amazon-baby", {"reviews_Baby_5.json": REVIEWS, "meta_Baby.json.gz": gzip.compress(META)[:-20]})
    with pytest.raises(DataError) as caught:
        get("amazon-baby", tmp_path / "new")
    assert str(caught.value) == (
        "meta_Baby.json.gz: not a readable gzip file: Compressed file ended before the end-of-stream marker was reached."
    )
    assert not (tmp_path / "new").exists()


def test_reviews_that_are_no_json(data: Path, tmp_path: Path) -> None:
    put(data / "amazon-baby", {"reviews_Baby_5.json": REVIEWS + b"<html>\n"})
    with pytest.raises(DataError) as caught:
        get("amazon-baby", tmp_path / "new")
    assert str(caught.value).startswith("reviews_Baby_5.json: Invalid Input Error: Malformed JSON in file ")


def test_a_folder_without_reviews(data: Path, tmp_path: Path) -> None:
    folder = put(data / "amazon-baby", {"meta_Baby.json": META})
    with pytest.raises(DataError) as caught:
        get("amazon-baby", tmp_path / "new")
    assert str(caught.value) == (
        f"{folder / 'reviews_Baby_5.json.gz'}: No such file or directory. "
        "Put the original file there, or unset PENCHANT_DATA to fetch the set."
    )


@pytest.mark.parametrize(
    ("there", "lacking"), [("meta_Beauty.json", "reviews_Beauty_5.json.gz"), ("interactions.csv", "items.csv")], ids=["original", "tables"]
)
def test_the_form_that_most_is_there_of_lacks_a_file(there: str, lacking: str, data: Path, tmp_path: Path) -> None:
    folder = put(data / "amazon-beauty", {there: b""})
    with pytest.raises(DataError) as caught:
        get("amazon-beauty", tmp_path / "new")
    assert str(caught.value).startswith(f"{folder / lacking}: No such file or directory. Put the original file there")
