"""An Encoding holds what stands in training rows and nothing else, and the whole catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penchant.config import read
from penchant.data.fit import attributes, fit_encoding, remap
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.split import Split
from penchant.encoding import Encoding, Scale
from penchant.schema import Schema

SCHEMA = {
    "name": "small",
    "events": {
        "file": "events.csv",
        "action": {"kind": {}, "dwell": {"kind": "number"}},
        "context": {"device": {}, "noise": {"kind": "number"}},
    },
    "items": {"file": "items.csv", "fields": {"maker": {}, "tags": {"kind": "categories", "most": 3}, "price": {"kind": "number"}}},
    "users": {"file": "users.csv", "fields": {"town": {}, "age": {"kind": "number"}}},
}
EVENTS = """user,item,time,kind,dwell,device,noise
ann,a,1000000001,view,1,phone,
ann,b,1000000002,buy,,desk,
ann,only-test,1000000003,return,9,tablet,5
bob,b,1000000001,view,3,,
new,a,1000000001,gift,7,watch,6
"""
ITEMS = "item,maker,tags,price\na,acme,x|y,10\nb,,y,30\nonly-test,secret,x|z,1000\nnever,acme,y|hidden,\nbare,,,\n"
USERS = "user,town,age\nann,rome,20\nbob,,\nnew,oslo,99\nidle,kiev,50\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("small")
    for name, text in (("events", EVENTS), ("items", ITEMS), ("users", USERS)):
        (folder / f"{name}.csv").write_text(text)
    return prepare(folder, folder / "log", read(Schema, SCHEMA))


TRAIN = np.array([0, 1, 3])  # ann's first two and bob's; "new" and "only-test" are met in testing only


@pytest.fixture(scope="module")
def fitted(small: Log) -> Encoding:
    return fit_encoding(small, TRAIN)


def test_vocabularies_hold_training_values_only(fitted: Encoding) -> None:
    assert fitted.users.values.to_pylist() == ["ann", "bob"]
    assert {name: words.values.to_pylist() for name, words in fitted.vocabularies.items()} == {
        "item.maker": ["acme"],
        "item.tags": ["x", "y"],
        "user.town": ["rome"],
        "action.kind": ["buy", "view"],
        "context.device": ["desk", "phone"],
    }
    assert fitted.sizes("item") == (2,)
    assert fitted.sizes("user") == (2,)
    assert fitted.sizes("context") == (3,)
    assert (fitted.numbers("item"), fitted.numbers("user", "context"), fitted.numbers()) == (2, 4, 0)


def test_no_test_value_is_anywhere(log: Log, split: Split) -> None:
    encoding = fit_encoding(log, split.train)
    items, users = log.items.column("id").to_pylist(), log.users.column("id").to_pylist()
    trained = {items[at] for at in log.events["item"][split.train]}
    unseen = set(items) - trained
    assert "i0" in unseen
    catalogue = encoding.catalogue
    assert {items[row - 1] for row in np.flatnonzero(catalogue.known)} == trained
    assert set(encoding.users.values.to_pylist()) == {users[at] for at in log.user_of(split.train)}
    for group, name in (("action", "kind"), ("context", "device")):
        column = log.events[f"{group}.{name}"][split.train]
        held = {log.values[f"{group}.{name}"][int(at) - 1].as_py() for at in column if at}
        assert set(encoding.vocabularies[f"{group}.{name}"].values.to_pylist()) == held


def test_the_catalogue_holds_every_item(fitted: Encoding) -> None:
    catalogue = fitted.catalogue
    assert catalogue.items.values.to_pylist() == ["a", "b", "bare", "never", "only-test"]
    assert catalogue.size == 6
    assert catalogue.known.tolist() == [False, True, True, False, False, False]
    assert catalogue.count.tolist() == [0, 1, 2, 0, 0, 0]
    assert catalogue.code.tolist() == [[0], [1], [0], [0], [1], [0]]
    assert [values.tolist() for values in catalogue.many] == [[[0, 0, 0], [1, 2, 0], [2, 0, 0], [0, 0, 0], [2, 0, 0], [1, 0, 0]]]
    assert catalogue.length.tolist() == [[1], [2], [1], [1], [2], [2]]  # UNKNOWN among the values is one of them
    assert np.allclose(catalogue.number, [[0, 1], [-1, 0], [1, 0], [0, 1], [0, 1], [(1000 - 20) / 10, 0]])
    assert catalogue.title == (None,) * 6


def test_scales_by_training_rows_only(fitted: Encoding) -> None:
    assert dict(fitted.scales) == {
        "item.price": Scale(20, 10),
        "user.age": Scale(20, 1),
        "action.dwell": Scale(2, 1),
        "context.noise": Scale(0, 1),
    }


def test_scales_do_not_overflow(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item,time,w\n" + "".join(f"u,i,1000000000,{3e38 - 1e38 * at}\n" for at in range(5)))
    schema = read(Schema, {"name": "n", "events": {"file": "events.csv", "action": {"w": {"kind": "number"}}}})
    scale = fit_encoding(prepare(tmp_path, tmp_path / "log", schema), np.arange(5)).scales["action.w"]
    assert scale.mean == pytest.approx(1e38)
    assert scale.deviation == pytest.approx(2**0.5 * 1e38)


def test_people_and_places(small: Log, fitted: Encoding) -> None:
    codes, numbers = attributes(small, "user", small.schema, fitted.vocabularies, fitted.scales)
    assert codes.tolist() == [[1], [0], [0]]
    assert numbers.tolist() == [[0, 0], [0, 1], [79, 0]]
    assert remap(small, fitted.vocabularies, "action.kind").tolist() == [0, 1, 0, 0, 2]  # absent, buy, gift, return, view
    codes, numbers = attributes(small, "item", small.schema, fitted.vocabularies, fitted.scales)
    assert codes.shape == (5, 1)
    assert numbers.shape == (5, 2)


def test_a_schema_of_nothing_but_events(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item,time\nu,i,1000000000\n")
    log = prepare(tmp_path, tmp_path / "log", read(Schema, {"name": "n", "events": {"file": "events.csv"}}))
    encoding = fit_encoding(log, np.arange(1))
    shapes = [part.shape for part in (encoding.catalogue.code, encoding.catalogue.length, encoding.catalogue.number)]
    assert shapes == [(2, 0), (2, 0), (2, 0)]
    assert (encoding.catalogue.many, encoding.vocabularies, encoding.scales) == ((), {}, {})


def test_what_the_log_encodes_to_is_what_raw_values_encode_to(small: Log, fitted: Encoding, log: Log, encoding: Encoding) -> None:
    for source, held in ((small, fitted), (log, encoding)):
        raw = {}
        for name in ("maker", "tags", "price"):
            column = source.items.column(f"item.{name}").to_pylist()
            words = [None, *source.values.get(f"item.{name}", [])]
            text = [None if word is None else word.as_py() for word in words]
            if name == "price":
                raw[name] = [None if np.isnan(value) else float(str(np.float32(value))) for value in column]
            else:
                raw[name] = [[text[at] for at in row] if isinstance(row, list) else text[row] for row in column]
        code, many, length, number, _ = held.items(raw, len(source.items))
        catalogue = held.catalogue
        assert np.array_equal(code, catalogue.code[1:])
        assert np.array_equal(many[0], catalogue.many[0][1:])
        assert np.array_equal(length, catalogue.length[1:])
        assert np.array_equal(number, catalogue.number[1:])  # to the bit
