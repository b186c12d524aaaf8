"""MovieLens-20M, Yelp, Taobao, Frappe, globo.com: what is written of made files of the same form, and what is said."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import urllib.request
from dataclasses import replace
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest
from test_sets import put, rows, zipped

from penchant.data.sets import SETS, Counts, get
from penchant.data.sets.public import Archive, RawFile
from penchant.errors import DataError, FetchError
from penchant.schema import Schema, read_schema


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that PENCHANT_DATA names."""
    monkeypatch.setenv("PENCHANT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def source(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "source.json").read_text(encoding="utf-8"))


def kinds(schema: Schema) -> dict[tuple[str, str], str]:
    return {(group, name): field.kind for group, name, field in schema.fields()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# MovieLens-20M

FILMS = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n2,1,3.5,1112486027\n1,2,4.0,1112484676\n1,1,0.5,1112484676\n",
    "movies.csv": 'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n2,Café 1984 ,(no genres listed)\n'.encode(),
}


def test_movielens_20m(data: Path, tmp_path: Path) -> None:
    put(data / "movielens-20m", FILMS)
    got = get("movielens-20m", tmp_path / "new")
    assert (got.place, got.events, got.items, got.users) == ("PENCHANT_DATA", 3, 2, 2)
    assert names(tmp_path / "new") == ["items.csv", "ratings.csv", "schema.toml", "source.json"]
    assert (tmp_path / "new" / "ratings.csv").read_bytes() == FILMS["ratings.csv"]
    assert rows(tmp_path / "new" / "items.csv") == [
        ["item_id", "title", "year", "genres"],
        ["1", "American President, The (1995)", "1995", "Comedy|Drama"],
        ["2", "Café 1984", "", ""],
    ]
    assert source(tmp_path / "new")["sha256"] == {"ratings.csv": "not known", "movies.csv": "not known"}
    schema = read_schema(tmp_path / "new" / "schema.toml")
    events = schema.events
    assert (events.file, events.user, events.item, events.time.column, events.time.unit) == (
        "ratings.csv",
        "userId",
        "movieId",
        "timestamp",
        "s",
    )
    assert kinds(schema) == {("item", "genres"): "categories", ("item", "year"): "number", ("action", "rating"): "category"}


@pytest.mark.parametrize("honest", [True, False], ids=["published", "altered"])
def test_the_archive_of_20m_is_verified_by_its_md5(honest: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    content = zipped({f"ml-20m/{name}": text for name, text in FILMS.items()})
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(content))
    films, wanted, came = SETS["movielens-20m"], "cd245b17a1ae2cc31bb14903e1204af3", md5(content).hexdigest()
    if honest:
        (form,) = films.forms
        assert isinstance(form.place, Archive)
        form = replace(form, place=replace(form.place, md5=came))
        monkeypatch.setitem(SETS, "movielens-20m", replace(films, counts=Counts(events=3), forms=(form,)))
        get("movielens-20m", tmp_path / "new")
        assert source(tmp_path / "new")["md5"] == {"ml-20m.zip": came}
        assert names(tmp_path / "new") == ["items.csv", "ratings.csv", "schema.toml", "source.json"]
    else:
        with pytest.raises(FetchError) as caught:
            get("movielens-20m", tmp_path / "new")
        assert str(caught.value).splitlines()[2] == (
            "  https://files.grouplens.org/datasets/movielens/ml-20m.zip: "
            f"ml-20m.zip: this is not the published file: md5 {wanted} was wanted, {came} came."
        )


# Yelp

YELP = {
    "yelp_academic_dataset_review.json": b'{"review_id":"r1","user_id":"u2","business_id":"b1","stars":3.0,"useful":0,'
    b'"text":"Fine,\\n\\"really\\"","date":"2016-03-09 20:56:38"}\n'
    b'{"review_id":"r2","user_id":"u1","business_id":"b1","stars":5.0,"text":"","date":"2014-10-11 03:34:02"}\n',
    "yelp_academic_dataset_business.json": b'{"business_id":"b1","name":"Tea, Inc","city":"Reno","state":"NV","stars":4.5,'
    b'"categories":"Food, Coffee & Tea","attributes":{"WiFi":"u\'free\'"},"hours":null}\n'
    b'{"business_id":"b2","name":"Nobody\'s","city":"Elko","state":"NV","categories":null}\n',
    "yelp_academic_dataset_user.json": b'{"user_id":"u2","name":"A","yelping_since":"2007-01-25 16:47:26","elite":"2007","friends":"u1"}\n'
    b'{"user_id":"u1","name":"B"}\n',
}


def test_yelp(data: Path, tmp_path: Path) -> None:
    put(data / "yelp", YELP)
    got = get("yelp", tmp_path / "new")
    assert (got.events, got.items, got.users) == (2, 2, 2)
    review, business, _ = YELP
    assert names(tmp_path / "new") == ["schema.toml", "source.json", "users.csv", business, review]
    for name in (review, business):
        assert (tmp_path / "new" / name).read_bytes() == YELP[name]
    assert rows(tmp_path / "new" / "users.csv") == [["user_id", "since"], ["u2", "2007"], ["u1", ""]]
    schema = read_schema(tmp_path / "new" / "schema.toml")
    assert schema.items
    assert (schema.events.file, schema.events.format, schema.items.file, schema.items.format) == (review, "jsonl", business, "jsonl")
    assert (schema.events.user, schema.events.item) == ("user_id", "business_id")
    assert (schema.events.time.column, schema.events.time.unit, schema.events.label) == ("date", "iso", None)
    assert schema.items.fields["categories"].separator == ","
    assert kinds(schema) == {
        ("item", "categories"): "categories",
        ("item", "city"): "category",
        ("item", "state"): "category",
        ("user", "since"): "number",
        ("action", "stars"): "category",
    }


# Taobao

BEHAVIOUR = (
    b"1,2268318,2520377,pv,1511544070\n"
    b"100,2268318,9,buy,1511544070\n"  # the item has another category
    b"1,2333346,2520771,fav,-2134949234\n"
    b"1,2576651,149192,cart,1512316799\n"  # the last second of the nine days
    b"1,3830808,4181361,pv,1512316800\n"
    b"1,4365585,2520377,pv,1511539199\n"
    b"1,1606018,2735466,pv,1511539200\n"  # the first
)


def test_taobao_userbehavior(data: Path, tmp_path: Path) -> None:
    put(data / "taobao-userbehavior", {"UserBehavior.csv": BEHAVIOUR})
    got = get("taobao-userbehavior", tmp_path / "new")
    assert (got.events, got.items, got.users) == (4, 3, 2)
    assert rows(tmp_path / "new" / "events.csv") == [
        ["user", "item", "behaviour", "time"],
        ["1", "2268318", "pv", "1511544070"],
        ["100", "2268318", "buy", "1511544070"],
        ["1", "2576651", "cart", "1512316799"],
        ["1", "1606018", "pv", "1511539200"],
    ]
    assert rows(tmp_path / "new" / "items.csv") == [
        ["item", "category"],
        ["2268318", "2520377"],
        ["2576651", "149192"],
        ["1606018", "2735466"],
    ]
    assert names(tmp_path / "new") == ["events.csv", "items.csv", "schema.toml", "source.json"]
    assert source(tmp_path / "new")["rows_of_other_days"] == 3
    schema = read_schema(tmp_path / "new" / "schema.toml")
    assert (schema.events.label, schema.events.zone, schema.events.moment) == (None, "Asia/Shanghai", ("hour", "weekday"))
    assert kinds(schema) == {("item", "category"): "category", ("action", "behaviour"): "category"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2,3,pv,7\n", "{file}: none of 1 rows is of the nine days from 2017-11-25 on."),
        (b"1,2,3,pv\n", "UserBehavior.csv: Invalid Input Error: CSV Error on Line: 1"),
        (b"1,2,3,pv,noon\n", "UserBehavior.csv: Conversion Error: Could not convert string 'noon' to INT64"),
    ],
    ids=["another year", "a column less", "no number"],
)
def test_a_log_of_taobao_that_cannot_be_used(content: bytes, message: str, data: Path, tmp_path: Path) -> None:
    folder = put(data / "taobao-userbehavior", {"UserBehavior.csv": content})
    with pytest.raises(DataError) as caught:
        get("taobao-userbehavior", tmp_path / "new")
    assert str(caught.value).startswith(message.format(file=folder / "UserBehavior.csv"))
    assert names(tmp_path) == ["data"]


ADS = {
    "raw_sample.csv": b"user,time_stamp,adgroup_id,pid,nonclk,clk\n581738,1494137644,1,430548_1007,1,0\n"
    b"449818,1494638778,3,430548_1007,0,1\n581738,1494137644,3,430548_1007,1,0\n",
    "ad_feature.csv": b"adgroup_id,cate_id,campaign_id,customer,brand,price\n1,6406,83237,1,95471,170.0\n3,9025,54,33,NULL,199.0\n",
    "user_profile.csv": b"userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
    b"new_user_class_level \n449818,0,5,2,5,,3,0,3\n",
}


def test_taobao_ad(data: Path, tmp_path: Path) -> None:
    put(data / "taobao-ad", ADS)
    got = get("taobao-ad", tmp_path / "new")
    assert (got.events, got.items, got.users) == (3, 2, 1)
    assert source(tmp_path / "new")["counts"] == {"events": 3, "items": 2, "users": 1, "seen_items": 2, "active_users": 2}
    assert names(tmp_path / "new") == ["items.csv", "raw_sample.csv", "schema.toml", "source.json", "users.csv"]
    assert (tmp_path / "new" / "raw_sample.csv").read_bytes() == ADS["raw_sample.csv"]
    assert rows(tmp_path / "new" / "items.csv") == [
        ["adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price"],
        ["1", "6406", "83237", "1", "95471", "170.0"],
        ["3", "9025", "54", "33", "", "199.0"],
    ]
    people = rows(tmp_path / "new" / "users.csv")
    assert people[0] == ADS["user_profile.csv"].decode().splitlines()[0].strip().split(",")
    assert people[1:] == [["449818", "0", "5", "2", "5", "", "3", "0", "3"]]
    schema = read_schema(tmp_path / "new" / "schema.toml")
    events = schema.events
    assert events.label
    assert events.impressions
    assert (events.label.column, events.label.at_least, events.impressions.request) == ("clk", 1, None)
    assert (events.user, events.item, events.time.column, events.zone) == ("user", "adgroup_id", "time_stamp", "Asia/Shanghai")
    assert kinds(schema) == {
        **{("item", name): "category" for name in ("cate_id", "campaign_id", "customer", "brand")},
        ("item", "price"): "number",
        **{("user", name): "category" for name in people[0][1:]},
        ("shown", "pid"): "category",
    }


def test_a_table_of_taobao_without_a_column(data: Path, tmp_path: Path) -> None:
    put(data / "taobao-ad", {**ADS, "ad_feature.csv": b"adgroup_id,cate,campaign_id,customer,brand,price\n"})
    with pytest.raises(DataError) as caught:
        get("taobao-ad", tmp_path / "new")
    assert str(caught.value) == (
        "ad_feature.csv: there is no column 'cate_id'. It has adgroup_id, cate, campaign_id, customer, brand, price. Did you mean 'cate'?"
    )


def test_a_row_of_taobao_with_too_few_columns(data: Path, tmp_path: Path) -> None:
    put(data / "taobao-ad", {**ADS, "ad_feature.csv": ADS["ad_feature.csv"] + b"4,9025\n"})
    with pytest.raises(DataError) as caught:
        get("taobao-ad", tmp_path / "new")
    assert str(caught.value) == "ad_feature.csv: line 4 has 2 columns, 6 were wanted."


def test_clicks_without_the_column_of_items(data: Path, tmp_path: Path) -> None:
    put(data / "taobao-ad", {**ADS, "raw_sample.csv": b"user,time_stamp,adgroup,pid,nonclk,clk\n"})
    with pytest.raises(DataError) as caught:
        get("taobao-ad", tmp_path / "new")
    assert str(caught.value) == (
        "raw_sample.csv: there is no column 'adgroup_id'. It has user, time_stamp, adgroup, pid, nonclk, clk. Did you mean 'adgroup'?"
    )


# Frappe

FRAPPE = {
    "frappe.csv": b"user\titem\tcnt\tdaytime\tweekday\tisweekend\thomework\tcost\tweather\tcountry\tcity\n"
    b"1\t7\t3\tmorning\tsunday\tweekend\tunknown\tfree\tsunny\tUnited States\t0\n"
    b"0\t8\t1\tnight\tmonday\tworkday\thome\tpaid\tunknown\tSpain\t369\n",
    "meta.csv": "item\tpackage\tcategory\tdownloads\tdeveloper\ticon\tlanguage\tdescription\tname\tprice\trating\tshort desc\n"
    '7\tcom.x\tTools\t1,000 - 5,000\tX, Inc.\thttp\ten\t"Say ""hi""\tthere"\tCafé\tFree\t4.5\tshort\n'
    "8\tcom.y\tunknown\tunknown\tY\thttp\tunknown\tunknown\tTwo\t$1.99\tunknown\tshort\n"
    "9\tcom.z\tTools\t10,000+\tZ\thttp\tes\tlong\tThree\tunknown\t4.0350876\tshort\n"
    "10\tcom.z\tTools\t10,000+\tZ\thttp\tes\tlong\tFour\t€\xa00,99\t3\tshort\n".encode(),
}


@pytest.fixture
def small_frappe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frappe by the checksums of made files."""
    frappe = SETS["frappe"]
    raw = tuple(RawFile(name=name, sha256=sha256(content).hexdigest()) for name, content in FRAPPE.items())
    form = replace(frappe.forms[0], files=raw)
    monkeypatch.setitem(SETS, "frappe", replace(frappe, counts=Counts(events=2, items=4, categories=2), forms=(form,)))


def test_frappe(small_frappe: None, data: Path, tmp_path: Path) -> None:
    put(data / "frappe", FRAPPE)
    got = get("frappe", tmp_path / "new")
    assert (got.events, got.items, got.users) == (2, 4, 2)
    assert names(tmp_path / "new") == ["frappe.csv", "items.csv", "schema.toml", "source.json"]
    assert (tmp_path / "new" / "frappe.csv").read_bytes() == FRAPPE["frappe.csv"]
    assert rows(tmp_path / "new" / "items.csv") == [
        ["item", "name", "category", "price", "rating", "downloads", "language", "developer"],
        ["7", "Café", "Tools", "0", "4.5", "1,000 - 5,000", "en", "X, Inc."],
        ["8", "Two", "unknown", "1.99", "", "unknown", "unknown", "Y"],
        ["9", "Three", "Tools", "", "4.0350876", "10,000+", "es", "Z"],
        ["10", "Four", "Tools", "", "3", "10,000+", "es", "Z"],
    ]
    schema = read_schema(tmp_path / "new" / "schema.toml")
    assert (schema.events.separator, schema.events.time.unit, schema.events.label) == ("\t", "rows", None)
    assert schema.events.context["day"].column == "weekday"
    context = ("daytime", "day", "isweekend", "homework", "cost", "weather", "country", "city")
    assert kinds(schema) == {
        ("item", "category"): "category",
        ("item", "price"): "number",
        ("item", "rating"): "number",
        ("item", "downloads"): "category",
        ("item", "language"): "category",
        ("item", "developer"): "category",
        ("action", "cnt"): "number",
        **{("context", name): "category" for name in context},
    }


def test_frappe_altered(data: Path, tmp_path: Path) -> None:
    folder = put(data / "frappe", FRAPPE)
    with pytest.raises(DataError) as caught:
        get("frappe", tmp_path / "new")
    assert str(caught.value) == (
        f"{folder / 'frappe.csv'}: this is not the published file: "
        "sha256 409edc12f4e2153c5dd58ae171938735911d9b0f70961d5f1086b241656b2cb5 was wanted, "
        f"{sha256(FRAPPE['frappe.csv']).hexdigest()} came."
    )


# globo.com

HEADER = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,"
    "click_environment,click_deviceGroup,click_os,click_country,click_region,click_referrer_type\n"
)
CLICKS = {
    "clicks_hour_000.csv": f"{HEADER}0,1506825423271737,1506825423000,2,157541,1506826828020,4,3,20,1,20,2\n"
    "0,1506825423271737,1506825423000,2,68866,1506826858020,4,3,20,1,20,2\n",
    "clicks_hour_001.csv": HEADER,  # an hour without clicks
    "clicks_hour_002.csv": f"{HEADER}1,1506825426267738,1506825426000,2,157541,1506827017951,4,1,17,1,16,2\n",
}


@pytest.mark.parametrize("compressed", [True, False], ids=["gz", "plain"])
def test_globo(compressed: bool, data: Path, tmp_path: Path) -> None:
    ending = ".gz" if compressed else ""
    files = {f"{name}{ending}": gzip.compress(text.encode()) if compressed else text.encode() for name, text in CLICKS.items()}
    put(data / "globo" / "clicks", files)
    got = get("globo", tmp_path / "new")
    assert (got.events, got.items, got.users) == (3, 2, 2)
    assert names(tmp_path / "new") == ["clicks", "schema.toml", "source.json"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "new" / "clicks").iterdir()} == files
    said = source(tmp_path / "new")
    assert list(said["sha256"].values()) == ["not known"]
    assert said["counts_published"] == {"events": 2_073_175}
    schema = read_schema(tmp_path / "new" / "schema.toml")
    events = schema.events
    assert (events.file, events.user, events.item) == (f"clicks/*.csv{ending}", "user_id", "click_article_id")
    assert (events.time.column, events.time.unit, events.zone) == ("click_timestamp", "ms", "America/Sao_Paulo")
    assert (events.label, events.moment) == (None, ("hour", "weekday"))
    assert {name: field.column for name, field in events.context.items()} == {
        "environment": "click_environment",
        "device": "click_deviceGroup",
        "os": "click_os",
        "country": "click_country",
        "region": "click_region",
        "referrer": "click_referrer_type",
    }
    assert events.action == {}  # session_size tells how long the session will go on


@pytest.fixture
def three_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """globo with the checksum of three files, as `sha256sum *` says it."""
    lines = "".join(f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in CLICKS.items())
    plain = RawFile(name="clicks/*.csv", sha256=sha256(lines.encode()).hexdigest(), among=3)
    raw = RawFile(name="clicks/clicks_hour_*.csv.gz", instead=(plain,))
    globo = SETS["globo"]
    monkeypatch.setitem(SETS, "globo", replace(globo, counts=Counts(events=3), forms=(replace(globo.forms[0], files=(raw,)),)))


def test_the_checksum_of_several_files(three_hours: None, data: Path, tmp_path: Path) -> None:
    folder = put(data / "globo" / "clicks", {name: text.encode() for name, text in CLICKS.items()})
    get("globo", tmp_path / "new")
    assert len(source(tmp_path / "new")["sha256"]["clicks/*.csv"]) == 64
    (folder / "clicks_hour_001.csv").unlink()
    (folder / "clicks_hour_001.csv").write_text(CLICKS["clicks_hour_002.csv"])
    with pytest.raises(DataError) as caught:
        get("globo", tmp_path / "other")
    assert str(caught.value).startswith(f"{data / 'globo' / 'clicks' / '*.csv'}: this is not the published file: sha256 ")
    (folder / "clicks_hour_001.csv").unlink()
    get("globo", tmp_path / "fewer")  # of two files, no checksum is known
    assert source(tmp_path / "fewer")["sha256"] == {"clicks/*.csv": "not known"}


# What is said


@pytest.mark.parametrize(
    ("name", "place", "asks", "files"),
    [
        (
            "yelp",
            "https://www.yelp.com/dataset",
            "your name and consent to its terms",
            "yelp_academic_dataset_review.json, yelp_academic_dataset_business.json, yelp_academic_dataset_user.json",
        ),
        ("taobao-userbehavior", "https://tianchi.aliyun.com/dataset/649", "an account", "UserBehavior.csv"),
        ("taobao-ad", "https://tianchi.aliyun.com/dataset/56", "an account", "raw_sample.csv, ad_feature.csv, user_profile.csv"),
        ("frappe", "https://www.baltrunas.info/context-aware/frappe", "consent to its terms", "frappe.csv, meta.csv"),
        (
            "globo",
            "https://www.kaggle.com/datasets/gspmoreira/news-portal-user-interactions-by-globocom",
            "an account",
            "clicks/clicks_hour_*.csv.gz or clicks/clicks_hour_*.csv",
        ),
    ],
)
def test_a_set_that_no_program_may_fetch(
    name: str, place: str, asks: str, files: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PENCHANT_DATA", raising=False)
    with pytest.raises(FetchError) as caught:
        get(name, tmp_path / "new")
    assert str(caught.value) == (
        f"{name} could not be had from any of its places:\n"
        "  PENCHANT_DATA: this variable is not set.\n"
        f"  {place}: it asks for {asks}, so it cannot be fetched from here.\n"
        f"Set PENCHANT_DATA to a folder that holds {name}/ with the original {files}."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_an_official_place(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        get("yelp-2019", tmp_path / "new")
    assert str(caught.value) == (
        "yelp-2019 could not be had from any of its places:\n"
        f"  PENCHANT_DATA: there is no folder {data / 'yelp-2019'}.\n"
        "Set PENCHANT_DATA to a folder that holds yelp-2019/ with the original interactions.csv, items.csv."
    )


def test_a_missing_file_that_no_program_may_fetch(data: Path, tmp_path: Path) -> None:
    folder = put(data / "taobao-ad", {name: ADS[name] for name in ("raw_sample.csv", "user_profile.csv")})
    with pytest.raises(DataError) as caught:
        get("taobao-ad", tmp_path / "new")
    assert str(caught.value) == (
        f"{folder / 'ad_feature.csv'}: No such file or directory. "
        "Put the original file there; https://tianchi.aliyun.com/dataset/56 has it."
    )


def test_a_missing_file_of_a_set_without_an_official_place(data: Path, tmp_path: Path) -> None:
    folder = put(data / "yelp-2019", {})
    with pytest.raises(DataError) as caught:
        get("yelp-2019", tmp_path / "new")
    assert str(caught.value) == f"{folder / 'interactions.csv'}: No such file or directory. Put the original file there."


def test_a_disk_that_cannot_link_gets_a_copy(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = put(data / "movielens-20m", FILMS)
    get("movielens-20m", tmp_path / "new")
    written = tmp_path / "new" / "ratings.csv"
    assert not written.samefile(folder / "ratings.csv")
    assert written.read_bytes() == FILMS["ratings.csv"]
