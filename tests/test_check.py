"""Leaks and traps: each is put into a clean made log, and named; the clean log is free of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from said import Said
from test_log import PASTS, Pasts, small_log

from penchant.config import read
from penchant.data.check import CHECKS, Checked, check
from penchant.data.checks.past import _previous, parts_overlap_in_time
from penchant.data.checks.subject import Finding, Subject, percent
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets import get
from penchant.data.split import SplitConfig, split_of
from penchant.encoding import Vocabulary
from penchant.errors import DataError
from penchant.schema import Schema, Tie

PEOPLE, EACH, ITEMS = 400, 20, 400
SECOND, DAY = 1000, 86_400_000
BEGIN = 1_600_000_000_123  # 2020-09-13, in milliseconds
BY_TIME = SplitConfig(name="time", valid_from="2020-12-02T12:26:40.123", test_from="2020-12-12T12:26:40.123")  # after 80 and 90 days
BY_SHARES = SplitConfig(name="time")  # where times are not what they were
Columns = dict[str, NDArray[Any]]

FEW = {"bot-like-people": "fewer than 20 people have 20 requests that train"}

EVENTS = {
    "file": "e.csv",
    "time": {"unit": "ms"},
    "label": {"column": "label", "at_least": 1},
    "moment": ["hour"],
    "context": {"device": {}, "battery": {"kind": "number"}},
}


def clean() -> Columns:
    """Events of people who come all the time, choose no item twice, and like three of ten; nothing says which."""
    random = np.random.default_rng(5)
    size = PEOPLE * EACH
    time = BEGIN + random.permutation(size) * (100 * DAY // size) + random.integers(0, 1000, size)
    return {
        "user": np.repeat(np.arange(PEOPLE), EACH),
        "item": np.concatenate([random.choice(ITEMS, EACH, replace=False) for _ in range(PEOPLE)]),
        "time": time,
        "label": (random.random(size) < 0.3).astype(np.float32),
        "context.device": random.integers(0, 4, size).astype(np.int32),
        "context.battery": np.where(random.random(size) < 0.1, np.nan, random.random(size)).astype(np.float32),
    }


def made(columns: Columns, *, items: Mapping[str, ArrayLike] = {}, **events: Any) -> Log:
    """A Log in memory of these columns, sorted as `prepare` sorts; with attributes of items, and further keys of the schema's events."""
    order = np.lexsort((columns["time"], columns["user"]))
    count = np.bincount(columns["user"])
    values, attributes, fields = {"context.device": pa.array(["car", "desk", "phone"])}, {}, {}
    for name, attribute in items.items():
        column = np.asarray(attribute)
        fields[name] = {"kind": "category" if column.dtype.kind == "U" else "number"}
        if column.dtype.kind == "U":
            texts, place = np.unique(column, return_inverse=True)
            values[f"item.{name}"], attributes[f"item.{name}"] = pa.array(texts.tolist()), (place + 1).astype(np.int32)
        else:
            attributes[f"item.{name}"] = column.astype(np.float32)
    there = {name: column[order] for name, column in columns.items() if name != "user"}
    return Log(
        folder=Path("made"),
        schema=read(
            Schema, {"name": "made", "events": EVENTS | events} | ({"items": {"file": "i.csv", "fields": fields}} if items else {})
        ),
        manifest={},
        events=there | {"item": there["item"].astype(np.int32), "source": order},
        users=pa.RecordBatch.from_pydict({"id": [f"u{at}" for at in range(len(count))], "end": np.cumsum(count).astype(np.int64)}),
        items=pa.RecordBatch.from_pydict({"id": [f"i{at}" for at in range(ITEMS)], **attributes}),
        values=values,
    )


def also(columns: Columns, rows: NDArray[Any], **changed: Any) -> Columns:
    """With these rows once more, changed."""
    more = {name: column[rows] for name, column in columns.items()} | {name: np.asarray(column) for name, column in changed.items()}
    return {name: np.concatenate([column, more[name].astype(column.dtype)]) for name, column in columns.items()}


def of(found: Checked, name: str) -> list[Finding]:
    """What a check found."""
    assert (name in found.clean) + (name in found.left_out) + any(one.name == name for one in found.findings) == 1
    return [one for one in found.findings if one.name == name]


def positives(columns: Columns, since: float) -> NDArray[Any]:
    """Rows of positives in the later part of the time."""
    return np.flatnonzero((columns["label"] > 0) & (columns["time"] > BEGIN + since * 100 * DAY))


def test_a_clean_log_is_clean() -> None:
    log = made(clean(), items={"year": np.full(ITEMS, 2019.0), "published": np.full(ITEMS, "2020-01-31")})
    found = check(log, BY_TIME, encoding=fit_encoding(log, split_of(log, BY_TIME).train))
    assert found.findings == ()
    assert found.clean == tuple(name for name in CHECKS if name != "bot-like-people")
    assert (found.left_out, found.grave, found.split, found.tie) == (FEW, False, "time", "order")


def test_what_does_not_apply_is_said() -> None:
    columns = clean()
    columns["label"][:] = 1
    columns["time"] = np.arange(len(columns["time"]))
    found = check(made(columns, time={"unit": "rows"}, moment=[]))
    order = "the log knows the order of its rows alone"
    assert found.left_out == {
        "same-moment": order,
        "unseen-in-vocabulary": "no bundle was given",
        "parts-overlap-in-time": order,
        "one-timestamp": order,
        "wrong-units": order,
        "duplicates": order,
        "tells-the-label": "every event is a positive",
        "before-it-existed": order,
        **FEW,
    }
    assert not found.grave


def test_nobody_to_judge() -> None:
    with pytest.raises(DataError) as caught:
        check(small_log([[(0, True)]]))
    assert str(caught.value) == "small: nobody of 1 people has 3 positive events, so there is nothing to judge by."


# Pasts


def shown_before(columns: Columns, gap: int) -> Columns:
    rows = positives(columns, 0.8)
    return also(columns, rows, label=np.zeros(len(rows)), time=columns["time"][rows] - gap)


def test_the_answer_a_moment_before() -> None:
    columns = clean()
    found = check(made(shown_before(columns, 5 * SECOND)), BY_TIME)
    (one,) = of(found, "target-in-past")
    assert one.grave
    assert found.grave
    assert found.findings[0].grave
    assert (one.count, one.of) == (len(positives(columns, 0.8)), len(positives(columns, 0.8)))
    assert one.says.startswith(f"{one.count:,} of {one.of:,} ({one.count / one.of:.1%}) judged events have their own person and item in ")
    assert len(one.examples) == 3
    assert "; before: 2020-1" in one.examples[0]


def test_coming_back_days_later_is_honest() -> None:
    (one,) = of(check(made(shown_before(clean(), 3 * DAY)), BY_TIME), "target-in-past")
    assert not one.grave
    assert one.says.startswith(f"{one.count:,} of {one.of:,} ({one.count / one.of:.1%}) judged events are of an item that stands in their ")


def test_what_was_only_shown_stands_in_no_past_of_positives() -> None:
    assert of(check(made(shown_before(clean(), 5 * SECOND), past="positive"), BY_TIME), "target-in-past") == []


def test_on_a_clock_of_days_nobody_knows_how_long_ago() -> None:
    columns = {name: column[::-1].copy() for name, column in shown_before(clean(), 0).items()}  # what was shown comes first
    columns["time"] = columns["time"] // DAY * DAY
    assert [one.grave for one in of(check(made(columns), BY_SHARES), "target-in-past")] == [False]


def subject_of(log: Log, tie: Tie = "order") -> Subject:
    return Subject(log=log, split=split_of(log), encoding=None, tie=tie, seed=0, now=0)


@settings(max_examples=100, deadline=None)
@given(PASTS, st.sampled_from(["order", "strict"]), st.sampled_from(["all", "positive"]), st.integers(1, 4))
def test_where_the_answer_stands_equals_the_past_that_models_get(pasts: Pasts, tie: Tie, past: str, items: int) -> None:
    log = small_log(pasts, past=past, items=items)
    if all(sum(positive for _, positive in person) < 3 for person in pasts):
        return
    subject = subject_of(log, tie)
    data = EncodedLog(log, fit_encoding(log, subject.split.train))
    index, length = data.past(subject.judged, log.size, tie)
    item = log.events["item"]
    wanted = []
    for at, mine in zip(subject.judged, np.split(index, np.cumsum(length)[:-1]), strict=True):
        wanted.append(max((int(one) for one in mine if item[one] == item[at]), default=-1))
    assert _previous(subject, subject.judged).tolist() == wanted


def test_events_of_the_same_moment() -> None:
    columns = clean()
    order = np.lexsort((columns["time"], columns["user"]))
    columns = {name: column[order] for name, column in columns.items()}
    columns["time"][1::2] = columns["time"][::2]
    log = made(columns)
    (one,) = of(check(log, BY_TIME), "same-moment")
    assert not one.grave
    assert one.count / one.of == pytest.approx(0.5, abs=0.05)
    assert "Under tie 'strict' (--tie strict; protocols such as loo-99-strict) a past holds earlier times only" in one.says
    assert of(check(log, BY_TIME, tie="strict"), "same-moment") == []


# What training knew


@pytest.mark.parametrize("name", ["leave-last-out", "ratio"])
def test_parts_that_overlap_by_nature_are_explained(name: str) -> None:
    (one,) = of(check(made(clean()), read(SplitConfig, {"name": name})), "parts-overlap-in-time")
    assert not one.grave
    assert "of the training events, of other people, are later than a judged event" in one.says
    assert 0.01 < one.count / one.of < 0.5


@settings(max_examples=60, deadline=None)
@given(PASTS)
def test_how_much_is_later_equals_a_loop(pasts: Pasts) -> None:
    log = small_log(pasts)
    if all(sum(positive for _, positive in person) < 3 for person in pasts):
        return
    subject, time = subject_of(log), log.events["time"]
    later = [sum(time[one] > time[at] for one in subject.split.train) for at in subject.judged]
    share = sum(later) / len(later) / len(subject.split.train)
    found = parts_overlap_in_time(subject)
    assert [(one.grave, one.count) for one in found] == ([(False, round(share * len(subject.split.train)))] if share > 0.01 else [])


def test_a_random_split_learns_from_the_future() -> None:
    (one,) = of(check(made(clean()), SplitConfig(name="random")), "parts-overlap-in-time")
    assert one.grave
    assert one.count / one.of > 0.8
    assert "; trains until 2020-1" in one.examples[0]


@pytest.mark.parametrize(("last", "grave"), [(2, False), (0, True)])
def test_a_column_out_of_order_learns_from_the_future(last: int, grave: bool) -> None:
    columns = clean()
    order = np.lexsort((columns["time"], columns["user"]))
    columns = {name: column[order] for name, column in columns.items()} | {"split": np.zeros(len(order), np.int32)}
    columns["label"][:] = 1
    columns["split"][EACH - 2 :: EACH] = 1
    columns["split"][EACH - 1 :: EACH] = last
    columns["split"][EACH - 3 :: EACH] = 2 - last
    if not grave:
        columns["split"][EACH - 3 :: EACH] = 0
    (one,) = of(check(made(columns, split="split"), SplitConfig(name="column")), "parts-overlap-in-time")
    assert one.grave == grave


def test_a_bundle_that_knows_more_than_trains() -> None:
    columns = clean()
    split = SplitConfig(name="time", valid=0.0)
    late = np.flatnonzero(columns["time"] > np.quantile(columns["time"], 0.95))[:9]
    columns["item"][np.isin(columns["item"], [7, 8])] = 9
    columns["item"][late] = 7
    columns["context.device"][columns["context.device"] == 3] = 0
    columns["context.device"][late] = 3
    log = made(columns)
    everything = fit_encoding(log, np.arange(log.size))
    found = of(check(log, split, encoding=everything), "unseen-in-vocabulary")
    assert [(one.grave, one.count, one.examples) for one in found] == [
        (True, 1, ("items: i7",)),
        (True, 1, ("values of context.device: phone",)),
    ]
    assert found[0].says == (
        "1 of 399 (0.3%) items that the bundle knows stand in this log, but in no training row of split 'time': "
        "it was fitted on more than the training part. Train it on this split, or judge it by its own."
    )
    assert of(check(log, split, encoding=fit_encoding(log, split_of(log, split).train)), "unseen-in-vocabulary") == []


def test_a_bundle_that_counted_more_than_trains() -> None:
    log = made(clean())
    (one,) = of(check(log, BY_TIME, encoding=fit_encoding(log, np.arange(log.size))), "unseen-in-vocabulary")
    assert one.grave
    assert one.says.startswith(
        f"The bundle counted {log.positive.sum():,} positives of these items, but the training part of split 'time' "
    )


def test_people_of_another_log_are_no_leak() -> None:
    log = made(clean())
    encoding = fit_encoding(log, split_of(log, BY_TIME).train)
    grown = replace(encoding, users=Vocabulary(pa.concat_arrays([encoding.users.values, pa.array(["somebody else"])])))
    assert of(check(log, BY_TIME, encoding=grown), "unseen-in-vocabulary") == []


# Labels


def test_negatives_that_are_positives_at_the_same_moment() -> None:
    columns = clean()
    rows = positives(columns, 0)[:300]
    (one,) = of(check(made(also(columns, rows, label=np.zeros(300))), BY_TIME), "negatives-that-are-positives")
    assert (one.grave, one.count, one.of) == (True, 300, int(columns["label"].sum()))
    few = of(check(made(also(columns, rows[:9], label=np.zeros(9))), BY_TIME), "negatives-that-are-positives")
    assert [(one.grave, one.count) for one in few] == [(False, 9)]


def test_negatives_that_are_positives_in_the_same_request() -> None:
    columns = clean()
    columns["request"] = np.arange(len(columns["time"]))
    rows = positives(columns, 0)[:300]
    log = made(also(columns, rows, label=np.zeros(300)), impressions={"request": "request"})
    (one,) = of(check(log, BY_TIME), "negatives-that-are-positives")
    assert (one.grave, one.count) == (True, 300)
    assert "in the same request" in one.says
    apart = made(
        also(columns, rows, label=np.zeros(300), request=len(columns["time"]) + np.arange(300)), impressions={"request": "request"}
    )
    assert of(check(apart, BY_TIME), "negatives-that-are-positives") == []


def test_drawn_negatives_that_are_chosen_later() -> None:
    columns = clean()
    columns["label"][:] = 1
    columns["item"] = columns["item"] % 40
    log = made(columns)
    (one,) = of(check(log, SplitConfig(name="ratio", valid=0.0, test=0.25)), "negatives-that-are-positives")
    split = split_of(log, SplitConfig(name="ratio", valid=0.0, test=0.25))
    item, user, wanted = log.events["item"], log.user_of(np.arange(log.size)), []
    for at in split.train:
        mine = set(item[split.train[user[split.train] == user[at]]].tolist())
        later = set(item[split.test[user[split.test] == user[at]]].tolist()) - mine
        wanted.append(len(later) / (40 - len(mine)))
    assert not one.grave
    assert one.count == round(sum(wanted))
    assert one.of == len(split.train)


@pytest.mark.parametrize(("right", "grave"), [(1.0, True), (0.9, False)])
def test_a_category_that_tells_the_label(right: float, grave: bool) -> None:
    columns = clean()
    honest = np.random.default_rng(1).random(len(columns["label"])) < right
    columns["context.device"] = np.where(honest, columns["label"] + 1, 2 - columns["label"]).astype(np.int32)
    (one,) = of(check(made(columns), BY_TIME), "tells-the-label")
    assert one.grave == grave
    assert one.says.startswith(f"context.device alone tells positives from negatives with an AUC of {'1.000' if grave else '0.895'}")
    assert one.examples[0].startswith("positives: context.device is most often 'desk', ")


@pytest.mark.parametrize("what", ["up", "down", "missing"])
def test_a_number_that_tells_the_label(what: str) -> None:
    columns = clean()
    label, battery = columns["label"], np.nan_to_num(columns["context.battery"], nan=0.5)
    value = {"up": label + 0.5 * battery, "down": -label, "missing": np.where(label > 0, battery - 0.5, np.nan)}[what]
    columns["context.battery"] = value.astype(np.float32)
    found = check(made(columns), BY_TIME)
    assert [(one.name, one.grave) for one in found.findings if one.grave] == [("tells-the-label", True)]
    assert found.findings[0].says.startswith("context.battery alone tells")


def test_an_item_that_tells_the_label() -> None:
    columns = clean()
    columns["label"] = (columns["item"] % 3 == 0).astype(np.float32)
    (one,) = of(check(made(columns), BY_TIME), "tells-the-label")
    assert one.grave
    assert one.says.startswith("item id alone tells")


def test_too_few_to_tell() -> None:
    columns = clean()
    columns["label"][positives(columns, 0.79)[10:]] = 0
    assert check(made(columns), BY_TIME).left_out["tells-the-label"] == "fewer than 50 rows of a class lie outside the training part"


# Times


def test_many_events_at_one_moment() -> None:
    columns = clean()
    columns["time"][np.arange(200) * EACH] = BEGIN + DAY
    (one,) = of(check(made(columns), BY_TIME), "one-timestamp")
    assert (one.grave, one.count, one.of) == (False, 200, PEOPLE * EACH)
    assert one.examples == ("2020-09-14T12:26:40.123Z, 200 events",)


@pytest.mark.parametrize(("unit", "milliseconds"), [("day", DAY), ("hour", DAY // 24)])
def test_a_clock_that_shows_full_units_only(unit: str, milliseconds: int) -> None:
    columns = clean()
    columns["time"] = columns["time"] // milliseconds * milliseconds
    (one,) = of(check(made(columns), BY_TIME), "one-timestamp")
    assert not one.grave
    assert one.says.startswith(f"All times are full {unit}s: ")


def test_days_of_another_zone_are_days() -> None:
    columns = clean()
    columns["time"] = columns["time"] // DAY * DAY + 3 * DAY // 24  # midnight in Sao Paulo
    (one,) = of(check(made(columns, zone="America/Sao_Paulo"), BY_TIME), "one-timestamp")
    assert one.says.startswith("All times are full days: ")


def test_seconds_read_as_milliseconds() -> None:
    columns = clean()
    columns["time"] = columns["time"] // SECOND
    (one,) = of(check(made(columns), BY_SHARES), "wrong-units")
    assert (one.grave, one.count) == (True, PEOPLE * EACH)
    assert one.says.startswith(
        "8,000 of 8,000 (100.0%) events lie before 1980 or in the future. events.time.unit is 'ms'; 's' would put them "
    )
    assert "around 2020-1" in one.says


def test_milliseconds_read_as_seconds() -> None:
    columns = clean()
    columns["time"] = columns["time"] * SECOND
    (one,) = of(check(made(columns, time={"unit": "s"}, moment=[]), BY_SHARES), "wrong-units")
    assert one.grave
    assert "events.time.unit is 's'; 'ms' would put them around 2020-1" in one.says


def test_a_few_broken_clocks_are_not_grave() -> None:
    columns = clean()
    columns["time"][5:9] = 10**9
    (one,) = of(check(made(columns), BY_TIME), "wrong-units")
    assert (one.grave, one.count) == (False, 4)


def test_a_whole_log_within_a_blink() -> None:
    columns = clean()
    columns["time"] = BEGIN + (columns["time"] - BEGIN) // 10_000
    (one,) = of(check(made(columns), BY_SHARES), "wrong-units")
    assert not one.grave
    assert one.says.startswith("All 8,000 events lie within 864 seconds. ")


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("year", 2019.0, 2021.0),
        ("released", 1.5e9, 1.7e9),
        ("created_at", 1.5e12, 1.7e12),
        ("published", "2019-05-01", "2021-05-01"),
        ("release_year", "2019", "2021"),
    ],
)
@pytest.mark.parametrize("grave", [True, False])
def test_events_before_their_item(name: str, early: Any, late: Any, grave: bool) -> None:
    dates = np.full(ITEMS, early)
    dates[: 40 if grave else 1] = late
    columns = clean()
    (one,) = of(check(made(columns, items={name: dates}), BY_TIME), "before-it-existed")
    assert (one.grave, one.count, one.of) == (grave, int((columns["item"] < (40 if grave else 1)).sum()), PEOPLE * EACH)
    assert f"; {name} is 202" in one.examples[0]


def test_names_that_only_look_like_dates() -> None:
    log = made(clean(), items={"year": np.arange(ITEMS, dtype=float), "published": np.full(ITEMS, "by somebody")})
    assert of(check(log, BY_TIME), "before-it-existed") == []


def test_candidates_that_nobody_had_met() -> None:
    columns = clean()
    columns["item"] = ((columns["time"] - BEGIN) // DAY * 4 + columns["item"] % 4).clip(0, ITEMS - 1)  # four new items a day
    (one,) = of(check(made(columns), SplitConfig(name="ratio")), "before-it-existed")
    assert not one.grave
    assert one.says.startswith(f"About {one.count / one.of:.1%} of the candidates")
    assert 0.05 < one.count / one.of < 0.5


# Rows


def test_rows_that_repeat_others() -> None:
    columns = clean()
    rows = np.arange(0, 100, 5)
    (one,) = of(check(made(also(columns, rows)), BY_TIME), "duplicates")
    assert (one.grave, one.count, one.of) == (False, 20, PEOPLE * EACH + 20)
    assert of(check(made(also(columns, rows, label=1 - columns["label"][rows])), BY_TIME), "duplicates") == []


def test_a_robot() -> None:
    columns = clean()
    rows = np.arange(2000) * 4
    busy = also(columns, rows, user=np.full(2000, 3), item=rows % 40, time=columns["time"][rows] + 1)
    (one,) = of(check(made(busy), BY_TIME), "people-with-almost-everything")
    assert (one.grave, one.count, one.of) == (False, 1, PEOPLE)
    assert one.examples == ("person u3, 2,020 events",)


def test_somebody_who_chose_nearly_everything() -> None:
    columns = clean()
    rows = np.arange(350)
    sated = also(columns, rows, user=np.full(350, 3), item=rows, label=np.ones(350), time=columns["time"][rows] + 1)
    (one,) = of(check(made(sated), BY_TIME), "people-with-almost-everything")
    assert one.says.startswith("1 of 400 (0.2%) people chose more than 80% of all 400 items")
    assert one.examples[0].startswith("person u3, 35")


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0%"), (1e-6, "less than 0.1%"), (0.312, "31.2%"), (0.99999, "more than 99.9%"), (1.0, "100.0%")]
)
def test_shares_are_not_rounded_to_nothing_or_all(share: float, text: str) -> None:
    assert percent(share) == text


# Drift


def test_items_and_people_that_training_does_not_know() -> None:
    columns = clean()
    late = columns["time"] > BEGIN + 90 * DAY
    columns["item"] = np.where(late, columns["item"] % 200 + 200, columns["item"] % 200)
    late_people = columns["user"] >= 350
    columns["time"][late_people] = BEGIN + 92 * DAY + np.arange(late_people.sum()) * SECOND * 60
    found = of(check(made(columns), BY_TIME), "drift")
    assert [one.grave for one in found] == [False, False]
    assert [one.says.split("judged events are of ")[1][:25] for one in found] == ["an item without training ", "a person without training"]


def test_fields_that_change() -> None:
    columns = clean()
    late = columns["time"] > BEGIN + 85 * DAY
    columns["context.device"][late] = 3
    columns["context.battery"][late] += 0.5
    (one,) = of(check(made(columns), BY_TIME), "drift")
    assert (one.grave, one.count, one.of) == (False, 2, 3)
    assert one.says.startswith(
        "2 of 3 fields, with other values in the test part than in training (population stability index above 0.25): "
    )
    assert "context.device (" in one.says
    assert "context.battery (" in one.says
    assert any(few.startswith("context.device, 'phone': 2") for few in one.examples)


def test_positives_that_become_rare() -> None:
    columns = clean()
    columns["label"][positives(columns, 0.9)[::2]] = 0
    (one,) = of(check(made(columns), BY_TIME), "drift")
    assert not one.grave
    assert "of the training rows are positives, but 1" in one.says


# The command


def test_the_command_says_what_was_looked_at(run: Said, log: Log) -> None:
    said = run("data", "check", log.folder)
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[0] == "known  same-moment"
    assert "Checked under split leave-last-out, tie order. Clean: target-in-past, " in said.out
    assert said.out.splitlines()[-2:] == [
        "Not checked, because every event is a positive: tells-the-label.",
        "Not checked, because fewer than 20 people have 20 requests that train: bot-like-people.",
    ]
    found = run("data", "check", log.folder, "--tie", "strict", "--json").json
    assert found["tie"] == "strict"
    assert "same-moment" in found["clean"]


def test_the_command_exits_2_when_it_is_grave(run: Said, log: Log) -> None:
    said = run("data", "check", log.folder, "--split", "random")
    assert (said.status, said.err) == (2, "")
    assert said.out.splitlines()[0] == "grave  parts-overlap-in-time"
    again = run("data", "check", log.folder, "--split", "random", "--json")
    assert again.status == 2
    assert again.json["grave"]
    assert [one["grave"] for one in again.json["findings"]][:2] == [True, False]


def test_the_command_refuses(run: Said, log: Log) -> None:
    said = run("data", "check", log.folder, "--split", "rondom")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("penchant: --split: name is 'rondom'; input should be 'leave-last-out', 'time', ")


def test_the_command_looks_into_a_bundle(run: Said, log: Log, tmp_path: Path) -> None:
    fast = ["--data.past", "5", "--data.negatives", "1", "--train.epochs", "1", "--train.batch_size", "128"]
    words = ["--split.name", "time", "--split.test", "0.3", "--protocol", "last-full"]
    assert run("train", "--log", log.folder, "--model.name", "mf", *fast, *words, "--out", tmp_path / "run").status == 0
    own = run("data", "check", log.folder, "--bundle", tmp_path / "run" / "bundle", "--json").json
    assert own["split"] == "time"
    assert "unseen-in-vocabulary" in own["clean"]
    earlier = run("data", "check", log.folder, "--bundle", tmp_path / "run" / "bundle", "--split", "random")
    assert earlier.status == 2
    assert "unseen-in-vocabulary" in json.dumps(earlier.out)


# What the real sets have, counted by a plain loop over the raw files: judged events with others of their moment in their past.
TIED = {"movielens-100k": (837, 1_886), "amazon-beauty": (20_381, 44_726)}


@pytest.mark.data
@pytest.mark.parametrize("name", TIED)
def test_real_sets_have_nothing_grave(name: str, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_DATA", str(real_data))
    get(name, tmp_path / "raw")
    found = check(prepare(tmp_path / "raw", tmp_path / "log"))
    assert not found.grave
    (tied,) = of(found, "same-moment")
    assert TIED[name] == (tied.count, tied.of)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "explained"),
    [
        ("movielens-1m", {"same-moment", "parts-overlap-in-time", "before-it-existed"}),
        ("globo", {"parts-overlap-in-time", "before-it-existed", "drift", "bot-like-people"}),
    ],
)
def test_clean_logs_are_explained(name: str, explained: set[str], tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_DATA", str(real_data))
    get(name, tmp_path / "raw")
    log = prepare(tmp_path / "raw", tmp_path / "log")
    found = check(log)
    assert not found.grave
    assert {finding.name for finding in found.findings} == explained
    assert not check(log, SplitConfig(name="time")).grave
    assert check(log, SplitConfig(name="random")).grave
