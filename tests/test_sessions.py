"""Sessions: where they begin is what a plain loop says, in a Log, in training batches and for raw requests alike."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pv
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penchant import scorer as scoring
from penchant.batch import Batch, History, Segments
from penchant.bundle import Bundle, load_bundle
from penchant.collate import Pasts, Requests, collate
from penchant.config import dump, read
from penchant.data import prepare as preparing
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.replay import request_at
from penchant.data.sets.market import MarketConfig, make_market, read_truth
from penchant.encoding import Encoding
from penchant.errors import ConfigError, DataError, PenchantError, SchemaError
from penchant.models import build
from penchant.nn.item import ItemConfig
from penchant.request import Event, Request
from penchant.schema import Schema, Sessions
from penchant.scorer import Scorer
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

MINUTE = 60_000
MAKERS = ("a", "b", "c")
NAMES = ("", " ", "x", "y", "10")  # of sessions
TRUTHS = {"": False, " ": False, "0": False, "No": False, "false": False, "1": True, "YES": True, "true ": True}

RULES = {
    "nothing": Sessions(),
    "minutes": Sessions(minutes=2),
    "change": Sessions(change="maker"),
    "id": Sessions(id="session"),
    "begins": Sessions(begins="first"),
    "minutes and change": Sessions(minutes=2, change="maker"),
    "id and minutes": Sessions(id="session", minutes=2),
    "begins and change": Sessions(begins="first", change="maker"),
    "all": Sessions(id="session", minutes=2, change="maker"),
}


def schema_of(sessions: Sessions = Sessions(), **more: Any) -> Schema:
    events = {"file": "events.csv", "session": sessions.model_dump(exclude_none=True)} | more
    items = {"file": "items.csv", "fields": {"size": {}, "maker": {}, "tags": {"kind": "categories"}}}
    return read(Schema, {"name": "made", "events": events, "items": items}, error=SchemaError)


def write(folder: Path, rows: Sequence[dict[str, Any]], items: int = 6) -> Path:
    """events.csv of these rows, and items.csv: item i<n> has maker n % 4, of which the last is not known."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    makers = [*MAKERS, ""]
    (folder / "items.csv").write_text("item,size,maker,tags\n" + "".join(f"i{n},s{n},{makers[n % 4]},t\n" for n in range(items)))
    return folder


def prepared(folder: Path, rows: Sequence[dict[str, Any]], schema: Schema) -> Log:
    return prepare(write(folder / "raw", rows), folder / "log", schema)


def lengths(history: History) -> list[list[int]]:
    """How many events each session of each past has."""
    of = history.sessions.events.sizes.tolist()
    begin = np.cumsum([0, *history.sessions.requests.sizes.tolist()])
    return [of[first:last] for first, last in pairwise(begin)]


def cut(events: Sequence[dict[str, Any]], rule: Sessions) -> list[int]:
    """How many events each session of one past has, told one after the other. minutes 30 where nothing is asked for."""
    out: list[int] = []
    for at, event in enumerate(events):
        before = events[at - 1]
        new = at == 0
        if rule.minutes is not None or rule == Sessions():
            new |= event["time"] - before["time"] > (rule.minutes or 30) * MINUTE
        if rule.change is not None:
            new |= event["maker"] != before["maker"]
        if rule.id is not None or rule.begins is not None:
            new |= event["number"] != before["number"]
        if new:
            out.append(0)
        out[-1] += 1
    return out


# ------------------------------------------------------------------------------------------------ what begins one, in a batch


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Encoding:
    """Six items, of four makers."""
    rows = [{"user": "u", "item": f"i{n}", "time": 10**9 + n} for n in range(6)]
    log = prepared(tmp_path_factory.mktemp("small"), rows, schema_of())
    return fit_encoding(log, np.arange(log.size))


def with_rule(encoding: Encoding, rule: Sessions) -> Encoding:
    return replace(encoding, schema=schema_of(rule))


def batch_of(encoding: Encoding, pasts: Sequence[Sequence[dict[str, Any]]]) -> Batch:
    events = [event for past in pasts for event in past]
    count = len(pasts)
    requests = Requests(
        user=np.zeros((count, 1), np.int64),
        user_number=np.zeros((count, 0), np.float32),
        context=np.zeros((count, 0), np.int64),
        number=np.zeros((count, 0), np.float32),
        time=np.zeros(count, np.int64),
        item=np.ones((count, 1), np.int64),
    )
    facts = Pasts(
        item=np.array([event["item"] for event in events], np.int64),
        time=np.array([event["time"] for event in events], np.int64),
        action=np.zeros((len(events), 0), np.int64),
        number=np.zeros((len(events), 0), np.float32),
        length=np.array([len(past) for past in pasts], np.int64),
        session=np.array([event["number"] for event in events], np.int64),
    )
    return collate(encoding, requests, facts)


@st.composite
def made_pasts(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    gaps = st.sampled_from([0, 1, MINUTE, 2 * MINUTE - 1, 2 * MINUTE, 2 * MINUTE + 1, 30 * MINUTE, 30 * MINUTE + 1])
    pasts = []
    for _ in range(draw(st.integers(1, 4))):
        time, number, past = draw(st.integers(10**12, 10**12 + 10**6)), draw(st.integers(0, 5)), []
        for _ in range(draw(st.integers(0, 6))):
            time, number, item = time + draw(gaps), number + draw(st.sampled_from([0, 0, 1, 2])), draw(st.integers(0, 6))
            maker = 0 if item == 0 else (item - 1) % 4  # row 0 is UNKNOWN, and so is the fourth maker
            past.append({"time": time, "number": number, "item": item, "maker": -1 if item == 0 or maker == 3 else maker})
        pasts.append(past)
    return pasts


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(pasts=made_pasts(), data=st.data())
def test_sessions_begin_where_a_loop_says(small: Encoding, rule: Sessions, pasts: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    history = batch_of(with_rule(small, rule), pasts).history
    wanted = [cut(past, rule) for past in pasts]
    assert lengths(history) == wanted
    assert history.fresh is not None
    assert (history.fresh.dtype, history.fresh.device.type) == (torch.bool, "cpu")
    begins = np.cumsum([0, *(size for past in wanted for size in past)])[:-1]
    assert np.flatnonzero(history.fresh.numpy()).tolist() == begins.tolist()
    rows = data.draw(st.lists(st.integers(0, len(pasts) - 1), max_size=5))
    assert lengths(history.take(torch.tensor(rows, dtype=torch.int64))) == [wanted[row] for row in rows]


def test_no_past_at_all(small: Encoding) -> None:
    history = batch_of(with_rule(small, RULES["all"]), [[], []]).history
    assert lengths(history) == [[], []]
    assert history.fresh is not None
    assert history.fresh.tolist() == []


def test_where_only_the_order_is_known_a_past_is_one_session(small: Encoding) -> None:
    rows = replace(small, schema=schema_of(time={"unit": "rows"}))
    past = [{"time": 10**12 * at, "number": at, "item": at, "maker": at} for at in range(4)]
    assert lengths(batch_of(rows, [past]).history) == [[4]]


@pytest.mark.parametrize(
    ("sessions", "unit", "minutes"),
    [
        ({}, "s", 30),
        ({"minutes": 5}, "iso", 5),
        ({"change": "maker"}, "s", None),
        ({"id": "visit"}, "s", None),
        ({"begins": "first"}, "s", None),
        ({"begins": "first", "minutes": 0.5}, "s", 0.5),
        ({}, "rows", None),
        ({"change": "maker"}, "rows", None),
    ],
)
def test_which_gap_counts(sessions: dict[str, Any], unit: str, minutes: float | None) -> None:
    schema = schema_of(Sessions(**sessions), time={"unit": unit})
    assert schema.events.session_minutes == minutes
    again = read(Schema, tomllib.loads(dump(schema)))  # what is left out stays out
    assert again == schema
    assert again.events.session_minutes == minutes


# ---------------------------------------------------------------------------------------------------- what a column says, in a Log


def numbers(said: Sequence[Any], rule: Sessions) -> list[int]:
    """A session's number for each event of one person, told one after the other."""
    out, count = [], -1
    for at, value in enumerate(said):
        if rule.begins is not None:
            new = TRUTHS[value]
        else:
            new = at > 0 and value.strip() != said[at - 1].strip()
        count += new or at == 0
        out.append(count)
    return out


@given(st.lists(st.sampled_from(NAMES), max_size=12))
def test_names_of_sessions_as_numbers(small: Encoding, said: list[str]) -> None:
    rule = RULES["id"]
    raw = [None if name == "" else 10 if name == "10" else name for name in said]  # a number is as good as its text
    found = with_rule(small, rule).sessions(raw)
    assert found is not None
    assert found.dtype == np.int64
    assert (found - 1).tolist() == numbers(said, rule)


@given(st.lists(st.sampled_from([*TRUTHS, True, False, 1, 0, 1.0, None]), max_size=12))
def test_beginnings_of_sessions_as_numbers(small: Encoding, raw: list[Any]) -> None:
    rule = RULES["begins"]
    said = [value if isinstance(value, str) else "1" if value else "" for value in raw]
    found = with_rule(small, rule).sessions(raw)
    assert found is not None
    assert (found - 1).tolist() == numbers(said, rule)


def test_no_column_no_numbers(small: Encoding) -> None:
    assert with_rule(small, RULES["minutes and change"]).sessions(["x", None]) is None


@pytest.mark.parametrize("part", [1, 7, 1 << 20])
@pytest.mark.parametrize("key", ["id", "begins"])
def test_a_log_counts_sessions(key: str, part: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In its own order, whatever that of the rows is; and as the encoding counts raw values."""
    monkeypatch.setattr(preparing, "PART", part)
    random, column = np.random.default_rng(part), {"id": "visit", "begins": "first"}[key]
    rows = [
        {
            "user": f"u{random.integers(8)}",
            "item": f"i{random.integers(6)}",
            "time": 10**9 + int(random.integers(20)),  # many at the same time: then the rows' order counts
            "visit": random.choice(NAMES, p=[0.2, 0.1, 0.3, 0.3, 0.1]),
            "first": random.choice(list(TRUTHS), p=[0.2, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]),
        }
        for _ in range(150)
    ]
    rule = Sessions(**{key: column})
    log = prepared(tmp_path, rows, schema_of(rule))
    found = log.events["session"]
    assert found.dtype == np.int64
    encoding, last = fit_encoding(log, np.arange(log.size)), 0
    for user, (begin, end) in enumerate(pairwise(log.start.tolist())):
        raw = [rows[source][column] for source in log.events["source"][begin:end]]
        assert {rows[source]["user"] for source in log.events["source"][begin:end]} == {log.users.column("id")[user].as_py()}
        wanted = [last + 1 + number for number in numbers(raw, rule)]  # no two people share a number
        assert found[begin:end].tolist() == wanted
        again = encoding.sessions(raw)
        assert again is not None
        assert (again + last).tolist() == wanted
        last = wanted[-1]


def test_a_log_without_such_a_column_has_no_numbers(log: Log, encoding: Encoding) -> None:
    assert "session" not in log.events
    assert EncodedLog(log, encoding).session(np.array([0])) is None


def test_the_column_may_be_of_a_join(tmp_path: Path) -> None:
    rows = [{"user": "u", "item": "i1", "time": 10**9 + at, "device": device} for at, device in enumerate("ppdqd")]
    write(tmp_path / "raw", rows)
    (tmp_path / "raw" / "devices.csv").write_text("device,kind\np,phone\nq,phone\n")  # d has none
    joins = {"devices": {"file": "devices.csv", "on": "device"}}
    log = prepare(tmp_path / "raw", tmp_path / "log", schema_of(Sessions(id="devices.kind"), joins=joins))
    assert log.events["session"].tolist() == [1, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------ what is left out of a past hides nothing


@pytest.mark.parametrize(
    ("key", "said", "wanted"),
    [
        ("id", ["x", "x", "y", "x", "x"], [1, 2]),  # the third was only shown
        ("id", ["x", "x", "x", "x", "x"], [3]),
        ("begins", ["0", "0", "1", "0", "0"], [1, 2]),
        ("begins", ["0", "0", "0", "0", "0"], [3]),
    ],
)
def test_what_was_only_shown_hides_no_beginning(key: str, said: list[str], wanted: list[int], tmp_path: Path) -> None:
    rows = [
        {"user": "u", "item": f"i{at}", "time": 10**9 + at, "request": f"r{at}", "click": int(at not in (1, 2)), "told": told}
        for at, told in enumerate([*said, said[-1]])
    ]
    more = {"label": {"column": "click", "at_least": 1}, "impressions": {"request": "request"}}
    log = prepared(tmp_path, rows, schema_of(Sessions(**{key: "told"}), **more))
    data = EncodedLog(log, fit_encoding(log, np.arange(log.size)))
    loader = Loader(data=data, position=np.array([5]), config=LoadConfig(), seed=0)
    assert lengths(loader.assemble(np.array([5]), np.array([[1]])).history) == [wanted]


def feed(seed: int = 0) -> list[dict[str, Any]]:
    """Requests of one or two items, few of them chosen; a session's name is not used again."""
    random, rows = np.random.default_rng(seed), []
    for person in range(12):
        time, visit = 10**9 + int(random.integers(10**5)), 0
        for request in range(int(random.integers(3, 15))):
            time += int(random.choice([20, 100, 120, 121, 4000]))
            first = bool(random.random() < 0.3)
            visit += first
            for place in range(1 + request % 2):
                rows.append(
                    {
                        "user": f"u{person}",
                        "item": f"i{random.integers(6)}",
                        "time": time,
                        "request": f"r{person}-{request}",
                        "click": int(random.random() < 0.5),
                        "session": f"v{person}-{visit}",
                        "first": str(first and not place).lower(),
                    }
                )
    random.shuffle(rows)
    return rows


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_skew(rule: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader's batch, a plain loop, a raw request in a shop's own words and one that was read back have the same sessions."""
    rows = feed()
    more = {"label": {"column": "click", "at_least": 1}, "impressions": {"request": "request"}}
    log = prepared(tmp_path, rows, schema_of(rule, **more))
    encoding = fit_encoding(log, np.arange(log.size))
    kept = 4
    loader = Loader(data=EncodedLog(log, encoding), position=np.arange(log.size), config=LoadConfig(past=kept), seed=0)
    loaded = lengths(loader.assemble(np.arange(log.size), np.ones((log.size, 1), np.int64)).history)

    model = build(encoding, "pooling", {}, ItemConfig(), where="test")
    scorer = Scorer(Bundle(name="pooling", model=model, encoding=encoding, config={}, item=ItemConfig(), past=kept, tie="order"))
    heard: list[Batch] = []

    def listen(*given: Any, **named: Any) -> Batch:
        heard.append(collate(*given, **named))
        return heard[-1]

    monkeypatch.setattr(scoring, "collate", listen)
    several = 0
    for position in range(log.size):
        mine = log.events["source"][log.start[log.user_of(np.array([position]))[0]] : log.begin(np.array([position]))[0]]
        begun, since, past = 0, False, []
        for row in (rows[source] for source in mine):
            begun, since = begun + (row["first"] == "true"), since or row["first"] == "true"
            if row["click"]:
                maker = {"i3": -1}.get(row["item"], int(row["item"][1:]) % 4)
                number = row["session"] if rule.id else begun
                said = row["session"] if rule.id else since
                past.append({"time": 1000 * row["time"], "maker": maker, "number": number, "said": said, "item": row["item"]})
                since = False
        wanted = cut(past[-kept:], rule)
        several += len(wanted) > 1
        assert loaded[position] == wanted
        now = int(log.events["time"][position])
        events = [Event(item=event["item"], time=event["time"], session=event["said"]) for event in past]
        assert "session" not in scorer.score(Request(time=now, user="u0", past=events), ["i1"]).unknown_values
        assert lengths(heard[-1].history) == [wanted]
        scorer.score(request_at(log, position), ["i1"])
        assert lengths(heard[-1].history) == [wanted]
    assert several > 20


@pytest.mark.parametrize(("rule", "wanted"), [("id", ("session",)), ("begins", ("session",)), ("minutes and change", ())])
def test_what_nobody_says_of_a_session_is_said(small: Encoding, rule: str, wanted: tuple[str, ...]) -> None:
    encoding = with_rule(small, RULES[rule])
    model = build(encoding, "pooling", {}, ItemConfig(), where="test")
    scorer = Scorer(Bundle(name="pooling", model=model, encoding=encoding, config={}, item=ItemConfig(), past=9, tie="order"))
    past = [Event(item="i1", time=10**12), Event(item="i2", time=10**12 + 1)]
    assert scorer.score(Request(time=10**12 + 2, past=past), ["i1"]).unknown_values == wanted
    assert scorer.score(Request(time=10**12 + 2), ["i1"]).unknown_values == ()


# -------------------------------------------------------------------------------------------------------- a run's own sessions

FAST = TrainConfig(epochs=1, batch_size=64)


def test_a_run_has_its_own_sessions(log: Log, tmp_path: Path) -> None:
    """They go into its bundle, and into every batch that is made by it."""
    asked = Sessions(minutes=2000, change="maker")
    config = RunConfig(log=str(log.folder), model={"name": "popularity"}, train=FAST, protocol="loo-full", sessions=asked)
    assert read(RunConfig, tomllib.loads(dump(config))) == config
    run = fit(config, tmp_path / "run", log=log)
    bundle = load_bundle(run.folder / "bundle")
    assert bundle.encoding.schema.events.session == asked
    assert bundle.encoding.schema == log.schema.model_copy(update={"events": log.schema.events.model_copy(update={"session": asked})})
    position = run.split.test
    loaded = lengths(
        Loader(data=run.data, position=position, config=LoadConfig(), seed=0).assemble(position, position[:, None] * 0).history
    )
    makers, maker = log.items.column("item.maker").to_pylist(), []
    assert any(len(past) > 1 for past in loaded)
    for past, at in zip(loaded, position.tolist(), strict=True):
        mine = np.arange(max(log.start[log.user_of(np.array([at]))[0]], at - 50), at)
        maker = [makers[item] for item in log.events["item"][mine]]
        assert past == cut([{"time": int(log.events["time"][i]), "maker": m} for i, m in zip(mine, maker, strict=True)], asked)
    own = fit(config.model_copy(update={"sessions": None}), tmp_path / "own", log=log)
    assert own.bundle.encoding.schema == log.schema


@pytest.mark.parametrize("asked", [Sessions(), Sessions(change="maker"), Sessions(id="visit", minutes=5)])
def test_a_run_may_leave_out_a_column_or_keep_it(asked: Sessions) -> None:
    schema = schema_of(Sessions(id="visit", change="size"))
    assert schema.with_sessions(asked, where="run") == schema_of(asked)


# --------------------------------------------------------------------------------------------------------------- what is refused


def said_of(session: dict[str, Any], **more: Any) -> str:
    events = {"file": "events.csv", "session": session} | more
    items = {"file": "items.csv", "fields": {"maker": {}, "tags": {"kind": "categories"}}}
    with pytest.raises(SchemaError) as caught:
        read(Schema, {"name": "made", "events": events, "items": items}, where="schema made", error=SchemaError)
    return str(caught.value)


def test_what_a_schema_cannot_say() -> None:
    assert said_of({"id": "a", "begins": "b"}) == (
        "schema made: events.session is {'id': 'a', 'begins': 'b'}; "
        "id and begins both name a column that says where sessions begin; one of them was wanted."
    )
    assert said_of({"minutes": 0}) == "schema made: events.session.minutes is 0; input should be greater than 0."
    assert said_of({"minutes": float("inf")}) == "schema made: events.session.minutes is inf; input should be a finite number."
    assert said_of({"minute": 5}) == "schema made: events.session.minute is not a key of Sessions. Did you mean 'minutes'?"
    assert said_of({"minutes": 30}, time={"unit": "rows"}) == (
        "schema made: events.session.minutes is 30, but with events.time.unit 'rows' no time is known."
    )
    assert said_of({"change": "makr"}) == (
        "schema made: events.session.change is 'makr', no item field of kind 'category'; there is maker. Did you mean 'maker'?"
    )
    assert said_of({"change": "tags"}) == "schema made: events.session.change is 'tags', no item field of kind 'category'; there is maker."
    with pytest.raises(SchemaError) as caught:
        read(Schema, {"name": "made", "events": {"file": "e.csv", "session": {"change": "maker"}}}, error=SchemaError)
    assert str(caught.value) == "Schema: events.session.change is 'maker', no item field of kind 'category'; there is none."


def refused(kind: type[PenchantError], folder: Path, rows: Sequence[dict[str, Any]], sessions: Sessions) -> str:
    with pytest.raises(kind) as caught:
        prepared(folder, rows, schema_of(sessions))
    assert type(caught.value) is kind
    assert [path.name for path in folder.iterdir()] == ["raw"]
    return str(caught.value)


def test_what_a_log_cannot_be_prepared_with(tmp_path: Path) -> None:
    rows = [{"user": "u", "item": "i1", "time": 10**9 + at, "visit": name} for at, name in enumerate(["1", "s1", "", "s2", "no"])]
    assert refused(SchemaError, tmp_path, rows, Sessions(id="visits")) == (
        "events.csv: there is no column 'visits'. It has user, item, time, visit. Did you mean 'visit'?"
    )
    assert refused(DataError, tmp_path, rows, Sessions(begins="visit")) == (
        "events.csv: column 'visit' is none of 1, true, yes, 0, false, no, and not empty, in 2 rows: line 3: 's1', line 5: 's2'."
    )


def test_what_a_run_cannot_ask_for(log: Log, tmp_path: Path) -> None:
    config = RunConfig(log=str(log.folder), model={"name": "popularity"}, train=FAST, protocol="loo-full")
    for asked, wanted in (
        (
            Sessions(id="visit"),
            "run: sessions.id is 'visit', but the Log was prepared with no such column in events.session: prepare it anew.",
        ),
        (
            Sessions(change="makers"),
            "run: sessions.change is 'makers', no item field of kind 'category'; there is maker. Did you mean 'maker'?",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            fit(config.model_copy(update={"sessions": asked}), tmp_path / "run", log=log)
        assert str(caught.value) == wanted
        assert not (tmp_path / "run").exists()
    schema = schema_of(Sessions(id="visit"))
    for asked, wanted in (
        (
            Sessions(id="visits"),
            "run: sessions.id is 'visits', but the Log was prepared with id = 'visit' in events.session: prepare it anew.",
        ),
        (
            Sessions(begins="visit"),
            "run: sessions.begins is 'visit', but the Log was prepared with id = 'visit' in events.session: prepare it anew.",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            schema.with_sessions(asked, where="run")
        assert str(caught.value) == wanted
    with pytest.raises(ConfigError) as caught:
        schema_of(time={"unit": "rows"}).with_sessions(Sessions(minutes=2.5), where="run")
    assert str(caught.value) == "run: sessions.minutes is 2.5, but with events.time.unit 'rows' no time is known."


def test_a_log_that_was_prepared_without_the_column_is_refused(tmp_path: Path) -> None:
    rows = [{"user": "u", "item": "i1", "time": 10**9, "visit": "x"}]
    log = prepared(tmp_path, rows, schema_of())
    encoding = with_rule(fit_encoding(log, np.arange(1)), Sessions(id="visit"))
    with pytest.raises(DataError) as caught:
        EncodedLog(log, encoding)
    assert str(caught.value) == (
        f"{tmp_path / 'log'}: sessions are by column 'visit' here, which this Log was prepared without; prepare it anew."
    )


def test_an_event_cannot_say_what_is_neither_true_nor_false(small: Encoding) -> None:
    with pytest.raises(DataError) as caught:
        with_rule(small, RULES["begins"]).sessions([True, "s17"])
    assert str(caught.value) == "an event's session is 's17'; whether one begins there was wanted: 1, true, yes, 0, false, no, or nothing."


# ---------------------------------------------------------------------------------------------------------------- a market's truth


def test_a_gap_of_half_an_hour_finds_the_sessions_of_a_market(tmp_path: Path) -> None:
    """Of those that it really has, only such as follow each other within half an hour (an hour, in its liveliest part) are missed."""
    make_market(tmp_path / "market", MarketConfig(people=300, items=200, slots=4, bots=0.0, seed=1))
    truth, log = read_truth(tmp_path / "market"), prepare(tmp_path / "market", tmp_path / "log")
    assert log.schema.events.session_minutes == 30
    request = np.argsort(truth.request)
    ids = pv.read_csv(tmp_path / "market" / "events.csv")["request_id"].to_numpy()[log.events["source"]]
    session = truth.session[request][np.searchsorted(truth.request, ids, sorter=request)]
    data = EncodedLog(log, fit_encoding(log, np.arange(log.size)))
    last = log.start[1:] - 1  # of each person: their last request knows all that they chose before
    history = (
        Loader(data=data, position=last, config=LoadConfig(past=1000), seed=0).assemble(last, np.ones((len(last), 1), np.int64)).history
    )
    assert history.fresh is not None
    past, length = data.past(last, 1000, "order")
    begins = Segments.of(torch.from_numpy(length)).start[:-1][length > 0].numpy()
    really = np.diff(session[past], prepend=-1) != 0
    really[begins] = True
    found = history.fresh.numpy()
    assert really.sum() > 500
    assert not (found & ~really).any()
    missed = np.flatnonzero(really & ~found)
    assert len(missed) <= 0.005 * really.sum()
    gap = np.diff(log.events["time"][past])[missed - 1] / MINUTE
    assert ((gap > 20) & (gap <= 30)).all()
