"""Raw values into ids: one way for a Log and for a request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.encoding import MANY, Encoding, Scale, Vocabulary, milliseconds, text
from penchant.errors import DataError

WORDS = Vocabulary(pa.array(["10", "5", "a", "é"]))
RAW = st.lists(st.sampled_from(["a", "é", "5", 5, 10, "10", None, "", "A", "b", 5.0, np.int64(5)]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(RAW)
def test_the_dict_and_the_column_agree(raw: list[Any]) -> None:
    few = WORDS.encode(raw)
    wanted = {"10": 1, "5": 2, "a": 3, "é": 4}
    assert few.tolist() == [0 if value is None else wanted.get(text(value), 0) for value in raw]
    assert few.dtype == np.int64
    column = pa.array([None if value is None else text(value) for value in raw], pa.string())
    copies = MANY // (len(raw) + 1) + 1
    if raw:
        copies = MANY // len(raw) + 1
        assert WORDS.encode(raw * copies).tolist() == few.tolist() * copies
        assert WORDS.encode(pa.concat_arrays([column] * copies)).tolist() == few.tolist() * copies
    assert WORDS.encode(column).tolist() == few.tolist()


@pytest.mark.parametrize("length", [3, MANY])
def test_numbers_in_a_column_are_text(length: int) -> None:
    assert WORDS.encode(pa.array([5, None, 7] + [10] * (length - 3), pa.int64())).tolist() == [2, 0, 0] + [1] * (length - 3)


def test_decode() -> None:
    assert WORDS.size == 5
    assert WORDS.decode(np.array([0, 4, 1])) == [None, "é", "10"]
    assert WORDS.decode(WORDS.encode(["a", 5, "?", None])) == ["a", "5", None, None]
    empty = Vocabulary(pa.array([], pa.string()))
    assert empty.encode(["a", None]).tolist() == empty.encode(["a", None] * MANY)[:2].tolist() == [0, 0]
    assert (text(5), text("5"), text(np.int64(5)), text(1234567890123456789)) == ("5", "5", "5", "1234567890123456789")


def test_scale() -> None:
    encoded = Scale(2, 4).encode(np.array([2.0, 10.0, np.nan, -2.0]))
    assert encoded.tolist() == [[0, 0], [2, 0], [0, 1], [-1, 0]]
    assert encoded.dtype == np.float32


def test_a_field_not_given_is_unknown_or_missing(encoding: Encoding) -> None:
    assert encoding.codes("item", {}, 3).tolist() == [[0]] * 3
    assert encoding.scaled("item", {}, 2).tolist() == [[0, 1]] * 2
    assert encoding.codes("context", {"device": ["phone", None, "fridge", ""]}, 4).tolist() == [[2], [0], [0], [0]]
    assert encoding.scaled("context", {"battery": [None, float("nan")]}, 2).tolist() == [[0, 1]] * 2
    code, many, length, number, _ = encoding.items({}, 2)
    assert (code.tolist(), [part.tolist() for part in many], length.tolist(), number.tolist()) == (
        [[0]] * 2,
        [[[0] * 3] * 2],
        [[1]] * 2,
        [[0, 1]] * 2,
    )
    nothing = replace(encoding, schema=encoding.schema.model_copy(update={"items": None}))
    assert nothing.codes("item", {}, 3).shape == nothing.scaled("item", {}, 3).shape == (3, 0)


def test_numbers_may_be_text(encoding: Encoding) -> None:
    assert np.array_equal(encoding.scaled("user", {"age": ["30", 30.0, np.int64(30)]}, 3), encoding.scaled("user", {"age": [30] * 3}, 3))
    scale = encoding.scales["user.age"]
    assert encoding.scaled("user", {"age": [30]}, 1)[0, 0] == pytest.approx((30 - scale.mean) / scale.deviation)


@pytest.mark.parametrize("bad", ["old", [3], float("inf"), -1e300, "1e39", {}, 10**400])
def test_no_number(encoding: Encoding, bad: Any) -> None:
    with pytest.raises(DataError) as caught:
        encoding.scaled("user", {"age": [3, None, bad, "worse"]}, 4)
    assert str(caught.value) == f"user.age is {bad!r}; a number, or nothing, was wanted."
    with pytest.raises(DataError) as caught:
        encoding.scaled("user", {"age": [bad]}, 1)
    assert str(caught.value) == f"user.age is {bad!r}; a number, or nothing, was wanted."


DAYS = st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31))


@settings(max_examples=100, deadline=None)
@given(DAYS, st.integers(-720, 720))
def test_moments_are_those_of_utc(encoding: Encoding, when: datetime, minutes: int) -> None:
    time = milliseconds(when)
    assert milliseconds(time) == time
    assert encoding.moment(np.array([time])).tolist() == [[1 + when.hour, 1 + when.weekday()]]
    zone = timezone(timedelta(minutes=minutes))
    assert milliseconds(when.replace(tzinfo=UTC).astimezone(zone)) == time
    assert datetime(1970, 1, 1) + timedelta(milliseconds=time) == when.replace(microsecond=when.microsecond // 1000 * 1000)


def test_milliseconds_are_exact() -> None:
    assert milliseconds(datetime(2001, 9, 9, 1, 46, 40, 1000)) == 1_000_000_000_001  # 1.001 * 1000 is a little less in floating point


def test_moments_in_the_order_that_the_schema_asks_for(encoding: Encoding) -> None:
    events = encoding.schema.events
    times = np.array([milliseconds(datetime(2024, 2, 29, 23, 59)), 0])  # a Thursday, and another
    for asked, wanted in ((("weekday",), [[4], [4]]), (("weekday", "hour"), [[4, 24], [4, 1]]), ((), [[], []])):
        schema = encoding.schema.model_copy(update={"events": events.model_copy(update={"moment": asked})})
        assert replace(encoding, schema=schema).moment(times).tolist() == wanted
    assert encoding.sizes("context") == (25, 8, 3)  # with UNKNOWN


def test_new_items_are_appended(encoding: Encoding) -> None:
    old = encoding.catalogue
    new = [
        {"id": "new", "title": "New", "maker": "maker1", "tags": ["tag1", "never seen", "tag2", "tag3"], "price": 40},
        {"id": 77777, "tags": "tag1| tag2 |"},
        {"id": "bare", "maker": "nobody", "tags": [], "price": None},
    ]
    more = encoding.with_items(new).catalogue
    assert more.size == old.size + 3
    assert more.items.encode(["new", 77777, "bare", "i1"]).tolist() == [old.size, old.size + 1, old.size + 2, old.items.encode(["i1"])[0]]
    assert more.title[-3:] == ("New", None, None)
    assert not more.known[-3:].any()
    assert more.count[-3:].tolist() == [0, 0, 0]
    tag1, tag2 = encoding.vocabularies["item.tags"].encode(["tag1", "tag2"])
    assert more.many[0][-3:].tolist() == [[tag1, 0, tag2], [tag1, tag2, 0], [0, 0, 0]]
    assert more.length[-3:, 0].tolist() == [3, 2, 1]
    assert more.code[-3:, 0].tolist() == [encoding.vocabularies["item.maker"].encode(["maker1"])[0], 0, 0]
    assert more.number[-3:, 1].tolist() == [0, 1, 1]
    for name in ("known", "count", "code", "length", "number"):
        assert np.array_equal(getattr(more, name)[: old.size], getattr(old, name))
    assert np.array_equal(more.many[0][: old.size], old.many[0])
    assert encoding.catalogue is old
    assert encoding.with_items([]).catalogue.size == old.size


def test_items_that_are_there_already(encoding: Encoding) -> None:
    with pytest.raises(DataError) as caught:
        encoding.with_items([{"id": "new"}, {"id": "i3"}, {"id": "i4"}])
    assert str(caught.value) == "item 'i3' is already in the catalogue (2 of 3 are); only new items can be added."
    with pytest.raises(DataError) as caught:
        encoding.with_items([{"id": "5"}, {"id": "new"}, {"id": 5}])
    assert str(caught.value) == "item '5' stands more than once among the new items; each is added once."
