"""What people with little past are lent: each step on a market where the answer is known, and the same wherever it is asked.

Of 120 people of the market the first half live in the north and begin with "s", the others in the south and begin with "t"; what
follows is theirs alone, but for "p", which everybody does. Last of all everybody does "late". Nobody has done "new", of kind A.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from said import Said
from test_log import PASTS, Pasts, small_log

from penchant import cli, cold
from penchant.bundle import Bundle, load_bundle, save_bundle
from penchant.cold import LISTED, STEPS, ColdConfig, Lender, Profiles
from penchant.config import read
from penchant.data import lend
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.lend import AHEAD, EVIDENCE, FIRST, SHRINK, fit_lender
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.replay import request_at
from penchant.data.split import Split, SplitConfig, split_of
from penchant.errors import ArtefactError, ConfigError
from penchant.evaluate.compare import compare, evaluate
from penchant.evaluate.judge import judge
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.evaluate.slices import by_slice
from penchant.files import write_manifest
from penchant.models import MODELS, build
from penchant.request import Event, Request
from penchant.scorer import Scored, Scorer
from penchant.show import notes
from penchant.train.config import RunConfig
from penchant.train.fit import fit

LEND = ColdConfig(method="lend")
NORTH, SOUTH = ("s", "p", "n1", "n2", "n3"), ("t", "p", "m1", "m2", "m3")
KINDS = {**dict.fromkeys(("s", "n1", "n2", "n3", "new"), "A"), **dict.fromkeys(("t", "m1", "m2", "m3"), "B"), "p": "C", "late": "C"}
START, HOUR = 1_600_000_000, 3600  # seconds
NOW = (START + 1_000_000) * 1000
PAST = 8
SCHEMA = """
name = "market"

[events]
file = "events.csv"
user = "user"
item = "item"
action = { how = {}, dwell = { kind = "number" } }

[items]
file = "items.csv"
key = "item"
fields = { kind = {} }

[users]
file = "users.csv"
key = "user"
fields = { side = {}, age = { kind = "number" } }
"""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("market")
    (folder / "schema.toml").write_text(SCHEMA)
    (folder / "items.csv").write_text("item,kind\n" + "".join(f"{item},{kind}\n" for item, kind in KINDS.items()))
    events, users = ["user,item,time,how,dwell"], ["user,side,age"]
    for person in range(120):
        north = person < 60
        users.append(f"u{person:03},{'north' if north else 'south'},{20 + person % 40}")
        for at, item in enumerate((*(NORTH if north else SOUTH), "late", "late")):
            time = START + (HOUR * at if item != "late" else 900_000) + person
            events.append(f"u{person:03},{item},{time},{'view' if at % 3 else 'buy'},{at}")
    (folder / "events.csv").write_text("\n".join(events) + "\n")
    (folder / "users.csv").write_text("\n".join(users) + "\n")
    return prepare(folder, folder / "log")


@pytest.fixture(scope="module")
def everything(market: Log) -> EncodedLog:
    return EncodedLog(market, fit_encoding(market, np.arange(market.size)))


@pytest.fixture(scope="module")
def lender(everything: EncodedLog) -> Lender:
    return fitted(everything)


def fitted(data: EncodedLog, config: ColdConfig = LEND) -> Lender:
    """On all events."""
    found = fit_lender(data, np.arange(data.log.size), config)
    assert found is not None
    return found


def bundle_of(data: EncodedLog, lender: Lender | None, name: str = "din", past: int = PAST) -> Bundle:
    """A model of random weights, large enough that a past tells."""
    torch.manual_seed(3)
    model = build(data.encoding, name, {})
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    model.eval()
    return Bundle(name=name, model=model, encoding=data.encoding, config={}, item=MODELS[name].Item, past=past, tie="order", lender=lender)


def did(*items: str) -> list[Event]:
    return [Event(item=item, time=NOW - 10_000 + at, action={"how": "view", "dwell": 1}) for at, item in enumerate(items)]


def answered(data: EncodedLog, lender: Lender | None, request: Request) -> tuple[Scored, list[str]]:
    """The answer, and what was lent, the most telling first: by the reasons of a model to which all events matter alike."""
    scored = Scorer(bundle_of(data, lender, "pooling")).score(request, ["s", "t"], reasons=99)
    return scored, [reason.item for reason in scored.reasons[0] if reason.lent][::-1]


# Each step


def test_those_who_began_alike_lend_what_they_did_next(everything: EncodedLog, lender: Lender) -> None:
    scored, found = answered(everything, lender, Request(time=NOW, past=did("s"), profile={"side": "south", "age": 30}))
    assert (scored.lent, scored.lent_events, scored.past) == ("similar", len(found), 1)
    assert found == ["n1", "n2", "n3"]  # not p and late, which everybody does next, and not by profile
    assert answered(everything, lender, Request(time=NOW, past=did("t", "new")))[1] == ["m1", "m2", "m3"]


def test_what_two_events_say_counts_together(everything: EncodedLog, lender: Lender) -> None:
    lists = lender.lists["similar"]
    rows = everything.encoding.catalogue.items.encode(["s", "n1"])
    weight: dict[int, float] = defaultdict(float)
    for row in rows:
        place = lists.find(np.array([row]))[1]
        for other, telling in zip(lists.row[place][0], lists.weight[place][0], strict=True):
            weight[int(other)] += float(telling)
    wanted = sorted((row for row in weight if row and row not in rows), key=lambda row: (-weight[row], row))
    _, found = answered(everything, lender, Request(time=NOW, past=did("s", "n1")))
    assert everything.encoding.catalogue.items.encode(found).tolist() == wanted
    assert "n1" not in found


def test_those_of_a_like_profile_lend_what_they_began_with(everything: EncodedLog, lender: Lender) -> None:
    for side, wanted in (("north", NORTH), ("south", SOUTH)):
        scored, found = answered(everything, lender, Request(time=NOW, profile={"side": side}))
        assert scored.lent == "profile"
        assert set(found) == set(wanted) - {"p"}
    scored, _ = answered(everything, lender, Request(time=NOW, past=did("never heard of"), profile={"side": "north", "age": 30}))
    assert (scored.lent, scored.past) == ("profile", 1)  # nobody of the training began with that


def test_of_profiles_all_fields_are_alike_and_then_fewer(everything: EncodedLog, lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lender.profiles.levels == ((0, 1), (1,), (0,))  # side and age, of 3 and 6 values; age; side
    assert Profiles.of((1 << 30, 1 << 30, 4), ()).levels == ((1, 2), (0,), (1,), (2,))
    lists = lender.lists["profile"]
    assert set(lists.key // cold.PLACES) == {2}  # no 50 people are of one side and age
    monkeypatch.setattr(lend, "LIKE", 10)
    finer = fitted(everything).lists["profile"]
    assert {0, 2} <= set(finer.key // cold.PLACES)
    code = everything.encoding.vocabularies["user.side"].encode(["north"])[0]
    known, key = lender.profiles.keys(2, np.array([[code, 0], [0, 3]]))
    assert known.tolist() == [True, False]
    assert key[0] == 2 * cold.PLACES + code


def test_a_category_lends_what_is_popular_in_it(everything: EncodedLog, lender: Lender) -> None:
    scored, found = answered(everything, lender, Request(time=NOW, past=did("new")))
    assert (scored.lent, scored.unknown_items) == ("category", ("new",))
    assert set(found) == {"s", "n1", "n2", "n3"}
    scored, found = answered(everything, lender, Request(time=NOW, past=did("late")))
    assert (scored.lent, found) == ("category", ["p"])  # late itself is theirs already; those who began with it there are none


def test_who_is_wholly_unknown_is_lent_what_was_popular_of_late(everything: EncodedLog, lender: Lender) -> None:
    scored, found = answered(everything, lender, Request(time=NOW))
    assert (scored.lent, scored.past, found) == ("popular", 0, ["late"])
    assert notes(scored)[:2] == [
        "The past is empty: this is what anybody of this profile is told.",
        "1 events were lent: what was popular of late.",
    ]


def test_the_order_of_the_steps_is_the_configuration_s(everything: EncodedLog) -> None:
    request = Request(time=NOW, past=did("s"), profile={"side": "south"})
    for first, *others in (("similar", "profile"), ("profile", "similar"), ("category",), ("popular", "similar")):
        mine = fitted(everything, ColdConfig(method="lend", steps=(first, *others)))  # type: ignore[arg-type]
        assert answered(everything, mine, request)[0].lent == first
    alone = fitted(everything, ColdConfig(method="lend", steps=("profile",)))
    scored, found = answered(everything, alone, Request(time=NOW, past=did("s")))
    assert (scored.lent, scored.lent_events, found) == ("own", 0, [])  # no step that there is has anything to lend


# What lending leaves as it is


@pytest.mark.parametrize("name", ["din", "dien", "dsin", "bst", "sasrec"])
def test_who_has_enough_is_answered_as_before(everything: EncodedLog, lender: Lender, name: str) -> None:
    plain, lends = (Scorer(bundle_of(everything, one, name)) for one in (None, lender))
    enough, few = (Request(time=NOW, past=did(*items), profile={"side": "north"}) for items in (("s", "t", "p"), ("s", "t")))
    for before, after in zip(
        plain.recommend(enough, 5, reasons=9).as_dict().items(), lends.recommend(enough, 5, reasons=9).as_dict().items(), strict=True
    ):
        assert before == after
    assert not np.array_equal(plain.score(few, ["n1", "m1"]).logit, lends.score(few, ["n1", "m1"]).logit)
    refused = replace(few, lend=False)
    assert plain.recommend(few, 5, reasons=9).as_dict() == lends.recommend(refused, 5, reasons=9).as_dict()


def test_what_was_lent_may_be_recommended(everything: EncodedLog, lender: Lender) -> None:
    scored = Scorer(bundle_of(everything, lender)).recommend(Request(time=NOW, past=did("s")), 99, reasons=99)
    assert set(scored.item) == set(KINDS) - {"s"}
    assert {reason.item for reasons in scored.reasons for reason in reasons if reason.lent} <= {"n1", "n2", "n3"}
    said = scored.as_dict()
    assert (said["lent"], said["lent_events"], said["past"]) == ("similar", 3, 1)
    assert {reason["lent"] for item in said["items"] for reason in item["because"]} <= {True, False}


def test_no_more_than_the_model_keeps(everything: EncodedLog, lender: Lender) -> None:
    request = Request(time=NOW, past=did("s", "n1"))
    for past, lent in ((1, 0), (2, 0), (3, 1), (4, 2), (50, 2)):
        scored = Scorer(bundle_of(everything, lender, past=past)).score(request, ["t"])
        assert (scored.past, scored.lent_events, scored.lent) == (min(past, 2), lent, "similar" if lent else "own")
    few = fitted(everything, ColdConfig(method="lend", events=2, enough=2))
    assert answered(everything, few, Request(time=NOW, past=did("s")))[1] == ["n1", "n2"]
    assert answered(everything, few, request)[0].lent == "own"


def test_lent_events_come_before_all_else(everything: EncodedLog, lender: Lender) -> None:
    """In order, none after the request or an event of the person's own, as usual as can be, in a sitting of their own."""
    log, encoding = everything.log, everything.encoding
    position = log.start[:-1] + np.arange(len(log.users)) % 4  # 0 to 3 events of their own
    loader = Loader(data=everything, position=position, config=LoadConfig(past=PAST), seed=0, lender=lender)
    plain = Loader(data=everything, position=position, config=LoadConfig(past=PAST), seed=0)
    given, lent = plain.assemble(position, everything.rows(position)[:, None]).history, loader.lent(position)
    history = loader.assemble(position, everything.rows(position)[:, None]).history
    assert lent is not None
    assert history.fresh is not None
    assert lender.gap == HOUR * 1000
    for at in range(len(position)):
        mine = slice(int(history.events.start[at]), int(history.events.start[at + 1]))
        own, extra = int(given.events.sizes[at]), int(lent.length[at])
        assert mine.stop - mine.start == own + extra
        assert own == at % 4
        assert (extra > 0) == (own < 3) == (lent.names[at] != "own")
        times = history.time[mine]
        before = int(log.events["time"][position[at] - own])  # of the first own event, or of the request
        assert times[:extra].tolist() == [before - lender.gap * back for back in range(extra, 0, -1)]
        assert torch.equal(times[extra:], given.time[int(given.events.start[at]) : int(given.events.start[at + 1])])
        wanted = [place in (0, extra) for place in range(own + extra)]
        gaps = [place > 0 and int(times[place] - times[place - 1]) > 30 * 60_000 for place in range(own + extra)]
        assert history.fresh[mine].tolist() == [a or b for a, b in zip(wanted, gaps, strict=True)]
        usual = encoding.vocabularies["action.how"].encode(["view"])[0]
        assert (history.action[mine][:extra] == usual).all()
        assert (history.number[mine][:extra] == 0).all()  # the mean, and not missing


# What it is fitted on


Table = Mapping[str, Any]


def written(lender: Lender) -> tuple[Table, Table]:
    return {name: column.to_pylist() for name, column in lender.columns().items()}, lender.facts()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["leave-last-out", "time", "ratio", "random", "people", "items"]))
def test_nothing_that_does_not_train_is_in_it(log: Log, seed: int, name: str) -> None:
    """Items, times, facts and people of all other events drawn anew: the lender is the same, bit for bit."""
    split, draw = split_of(log, read(SplitConfig, {"name": name})), np.random.default_rng(seed)
    other = np.ones(log.size, dtype=bool)
    other[split.train] = False
    assert other.any()
    events = {field: np.array(column) for field, column in log.events.items()}
    for field in ("item", "action.kind", "action.dwell", "context.device"):
        events[field][other] = draw.permutation(events[field][other])
    events["time"][other] += draw.integers(0, 10**9, int(other.sum()))
    changed = replace(log, events=events)
    mine, theirs = (fit_lender(EncodedLog(one, fit_encoding(one, split.train)), split.train, LEND) for one in (log, changed))
    assert mine is not None
    assert theirs is not None
    assert mine.lists["popular"].row.any()
    assert written(mine) == written(theirs)


def nexts(log: Log, row: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Person, an item among their first events, and a positive among those that follow it."""
    for user in range(len(log.users)):
        mine = range(log.start[user], log.start[user + 1])
        for at in mine[:FIRST]:
            yield from (
                (user, int(row[at]), int(row[to])) for to in mine if at < to <= at + AHEAD and log.positive[to] and row[to] != row[at]
            )


@settings(max_examples=60)
@given(PASTS)
def test_what_follows_is_counted_as_a_loop_does(pasts: Pasts) -> None:
    log = small_log(pasts, items=4)
    if not log.positive.any():
        return
    data = EncodedLog(log, fit_encoding(log, np.arange(log.size)))
    people = defaultdict(set)
    for user, key, row in nexts(log, data.rows(np.arange(log.size))):
        people[key, row].add(user)
    of_key, of_row = defaultdict(set), defaultdict(set)
    for (key, row), who in people.items():
        of_key[key] |= who
        of_row[row] |= who
    total = len(set().union(*of_row.values()))
    wanted: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for (key, row), who in people.items():
        expected = len(of_key[key]) * len(of_row[row]) / total
        if len(who) >= EVIDENCE and len(who) > expected:
            wanted[key].append((-(len(who) - expected) / (expected + SHRINK) ** 0.5, row))
    lists = fitted(data).lists["similar"]
    assert lists.key.tolist() == sorted(wanted)
    for key, row, weight in zip(lists.key.tolist(), lists.row, lists.weight, strict=True):
        there = row > 0
        assert dict(zip(row[there].tolist(), weight[there].tolist(), strict=True)) == pytest.approx(
            {r: -w for w, r in wanted[key]}, rel=1e-6
        )
        assert (np.diff(weight) <= 0).all()


def test_of_a_log_with_a_label_only_positives_are_lent() -> None:
    """Who does item 0 does 1 next, and does not like it, and then 2; so it is with 3, 4 and 5."""
    log = small_log([[(0, True), (1, False), (2, True)]] * 40, items=6)
    log = replace(log, events={**log.events, "item": np.tile(np.arange(6, dtype=np.int32), 20)})
    data = EncodedLog(log, fit_encoding(log, np.arange(log.size)))
    lists = fitted(data).lists["similar"]
    found = {int(key): row[row > 0].tolist() for key, row in zip(lists.key, lists.row, strict=True)}
    row = data.item.tolist()
    assert found == {row[0]: [row[2]], row[1]: [row[2]], row[3]: [row[5]], row[4]: [row[5]]}
    lent = {int(row) for lists in fitted(data).lists.values() for row in lists.row.ravel()}
    assert not {row[1], row[4]} & lent


def test_its_size_is_bounded(everything: EncodedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = sum(cold.KEYS.values()) * (9 + 8 * LISTED)
    assert bound < 4 << 20
    assert all(lists.row.shape[1] == lists.weight.shape[1] == LISTED for lists in fitted(everything).lists.values())
    monkeypatch.setattr(lend, "KEYS", {"similar": 2, "profile": 1, "category": 1, "popular": 1})
    small = fitted(everything)
    assert {name: len(lists.key) for name, lists in small.lists.items()} == {"similar": 1, "profile": 1, "category": 1, "popular": 1}
    names = everything.encoding.catalogue.items.decode(small.lists["similar"].key)
    assert names == ["m1"]  # most people began with p, which tells nothing of them; with m1 as many as with others, which stand later
    assert everything.encoding.vocabularies["item.kind"].decode(small.lists["category"].key) == ["C"]


def test_of_very_many_people_some_are_looked_at(everything: EncodedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lend, "PEOPLE", 30)
    one, again, other = (fit_lender(everything, np.arange(everything.log.size), LEND, seed) for seed in (0, 0, 1))
    assert one is not None
    assert again is not None
    assert other is not None
    assert one.people == other.people == 30
    assert written(one) == written(again)
    assert written(one) != written(other)


# In the bundle


def test_a_lender_is_saved_bit_for_bit(everything: EncodedLog, lender: Lender, tmp_path: Path) -> None:
    save_bundle(bundle_of(everything, lender), tmp_path / "bundle")
    back = load_bundle(tmp_path / "bundle")
    assert back.lender is not None
    assert back.lender.config == LEND
    assert written(back.lender) == written(lender)
    assert back.lender.profiles.levels == lender.profiles.levels
    for request in (Request(time=NOW), Request(time=NOW, past=did("s")), Request(time=NOW, profile={"side": "north", "age": 31})):
        mine, theirs = (Scorer(bundle).recommend(request, 9, reasons=9) for bundle in (bundle_of(everything, lender), back))
        assert {**mine.as_dict(), "model": ""} == {**theirs.as_dict(), "model": ""}
    save_bundle(bundle_of(everything, None), tmp_path / "plain")
    assert {path.name for path in (tmp_path / "bundle").iterdir()} - {path.name for path in (tmp_path / "plain").iterdir()} == {
        "cold.arrow",
        "cold.json",
    }
    assert load_bundle(tmp_path / "plain").lender is None
    save_bundle(back, tmp_path / "again")
    assert {p.name: p.read_bytes() for p in (tmp_path / "bundle").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()
    }


@pytest.mark.parametrize("name", cold_files := ["cold.arrow", "cold.json"])
def test_a_manifest_that_leaves_it_out(everything: EncodedLog, lender: Lender, tmp_path: Path, name: str) -> None:
    save_bundle(bundle_of(everything, lender), tmp_path / "bundle")
    file = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["files"][name]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError) as fault:
        load_bundle(tmp_path / "bundle")
    assert str(fault.value) == f"{file}: does not list {name}, which every penchant bundle that lends has."


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"gap": 0}, "its gap is no time"),
        ({"action": [99]}, "its action is not of this schema"),
        ({"edges": []}, "its numbers are not of this schema"),
        ({"gap": 0, "number": [0.0]}, "its numbers are not of this schema; its gap is no time"),
    ],
)
def test_nonsense_under_checksums_that_fit(
    everything: EncodedLog, lender: Lender, tmp_path: Path, changed: Mapping[str, Any], why: str
) -> None:
    folder = tmp_path / "bundle"
    save_bundle(bundle_of(everything, lender), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "cold.json").write_text(json.dumps({**lender.facts(), **changed}))
    (folder / "manifest.json").unlink()
    write_manifest(folder, {key: value for key, value in manifest.items() if key != "files"})
    with pytest.raises(ArtefactError) as fault:
        load_bundle(folder)
    assert str(fault.value) == f"{folder / 'cold.arrow'}: cold: what is lent does not fit this bundle: {why}."


def test_lists_of_another_catalogue(everything: EncodedLog, lender: Lender, tmp_path: Path) -> None:
    popular = lender.lists["popular"]
    far = replace(lender, lists={**lender.lists, "popular": replace(popular, row=popular.row + 1000)})
    save_bundle(bundle_of(everything, far), tmp_path / "bundle")
    with pytest.raises(ArtefactError, match=r"does not fit this bundle: its rows are not of this catalogue\.$"):
        load_bundle(tmp_path / "bundle")


# Judged as it is served


@pytest.fixture(scope="module")
def young(log: Log) -> tuple[Split, EncodedLog, Lender]:
    """People held out, each judged by one of their first five events."""
    split = split_of(log, SplitConfig(name="people", valid=0.1, test=0.5))
    who = np.unique(log.user_of(split.test))
    test = np.minimum(log.start[who] + np.arange(len(who)) % 5, log.start[who + 1] - 1)
    data = EncodedLog(log, fit_encoding(log, split.train), split.hidden)
    lender = fit_lender(data, split.train, LEND)
    assert lender is not None
    return replace(split, test=test), data, lender


@pytest.mark.parametrize("name", ["din", "dsin", "bst"])
def test_no_skew(young: tuple[Split, EncodedLog, Lender], log: Log, name: str) -> None:
    split, data, lender = young
    bundle = bundle_of(data, lender, name)
    scorer, ids = Scorer(bundle), log.items.column("id").to_pylist()
    position, rows = split.test, bundle.encoding.catalogue.items.encode(ids)
    loader = Loader(data=data, position=position, config=LoadConfig(past=PAST), seed=0, lender=lender)
    with torch.inference_mode():
        wanted = bundle.model(loader.assemble(position, np.broadcast_to(rows, (len(position), len(rows))))).logit.numpy()
    lent = loader.lent(position)
    assert lent is not None
    for at, place in enumerate(position.tolist()):
        scored = scorer.score(request_at(log, place), ids)
        np.testing.assert_allclose(scored.logit, wanted[at], rtol=1e-3, atol=1e-3)  # logits are of about 30
        assert (scored.lent, scored.lent_events) == (lent.names[at], lent.length[at])
    judged = judge(bundle.model, data, split, PROTOCOLS["last-full"], past=PAST, lender=lender)
    assert judged.step is not None
    assert judged.step.tolist() == lent.step.tolist()
    assert len(set(lent.names)) >= 3
    assert judged.top is not None
    happened = set(ids) & {str(ids[item]) for item in np.unique(log.events["item"])}
    for at, place in enumerate(position.tolist()):
        best = [item for item in scorer.recommend(request_at(log, place), 40).item if item in happened]
        assert data.encoding.catalogue.items.decode(judged.top[at]) == best[:10]


def test_who_asks_beside_changes_nothing(young: tuple[Split, EncodedLog, Lender]) -> None:
    split, data, lender = young
    loader = Loader(data=data, position=split.test, config=LoadConfig(past=PAST), seed=0, lender=lender)
    whole, parts = loader.lent(split.test), [loader.lent(split.test[at : at + 1]) for at in range(len(split.test))]
    assert whole is not None
    assert whole.row.tolist() == [int(row) for part in parts if part for row in part.row]
    assert whole.length.tolist() == [int(part.length[0]) for part in parts if part]


@pytest.fixture(scope="module")
def judged(young: tuple[Split, EncodedLog, Lender], log: Log) -> Mapping[str, Judged]:
    """By the split's own people; with what they are lent, without, and with no event of their own."""
    split, data, lender = young
    facts = {"run": {"split": split.config.model_dump()}}
    lends = replace(bundle_of(data, lender), facts=facts)
    protocol = PROTOCOLS["last-full"]
    return {
        "lent": evaluate(lends, log, protocol),
        "said": evaluate(lends, log, protocol, lend=True),
        "refused": evaluate(lends, log, protocol, lend=False),
        "plain": evaluate(replace(lends, lender=None), log, protocol),
        "none": evaluate(lends, log, protocol, keep=0),
        "two": evaluate(lends, log, protocol, keep=2, lend=False),
    }


def test_a_bundle_is_judged_as_it_serves(judged: Mapping[str, Judged]) -> None:
    assert np.array_equal(judged["lent"].lists.begin, judged["said"].lists.begin)
    assert np.array_equal(judged["refused"].lists.begin, judged["plain"].lists.begin)
    assert judged["lent"].summary(resamples=20)["lent"]["own"] > 0
    assert "lent" not in judged["refused"].summary(resamples=20)
    assert (judged["none"].summary(resamples=20)["keep"], judged["none"].lent.get("own")) == (0, None)
    assert sum(judged["none"].lent.values()) == judged["none"].people
    assert judged["lent"].only(judged["lent"].user % 2 == 0).lent != judged["lent"].lent
    enough = judged["lent"].step == 0
    assert np.array_equal(judged["lent"].lists.begin[enough], judged["plain"].lists.begin[enough])
    assert not np.array_equal(judged["lent"].top, judged["none"].top)


def test_keeping_few_events_is_having_few(young: tuple[Split, EncodedLog, Lender]) -> None:
    split, data, _ = young
    last = replace(split, test=data.log.start[np.unique(data.log.user_of(split.test)) + 1] - 1)
    model = bundle_of(data, None).model
    for keep in (0, 1, 3):
        kept = judge(model, data, last, PROTOCOLS["last-full"], past=PAST, keep=keep)
        short = judge(model, data, last, PROTOCOLS["last-full"], past=keep)
        assert np.array_equal(kept.lists.begin, short.lists.begin)
        assert np.array_equal(kept.lists.rows, judge(model, data, last, PROTOCOLS["last-full"], past=PAST).lists.rows)


def test_slices_of_few_events_and_of_steps(judged: Mapping[str, Judged]) -> None:
    slices = {one.by: one for one in judged["lent"].slices}
    assert slices["past"].names == ("none", "1 to 2", "3 to 4", "5 to 20", "21 to 50", "51 or more")
    assert slices["lent by"].names == STEPS
    rows = [row for row in by_slice(judged["lent"], "ndcg@10", resamples=20) if row["by"] == "lent by"]
    assert {row["slice"]: row["lists"] for row in rows} == judged["lent"].lent
    assert "past" not in {one.by for one in judged["two"].slices}  # all have two events then


def test_a_judgement_is_kept_whole(judged: Mapping[str, Judged], tmp_path: Path) -> None:
    judged["none"].save(tmp_path / "judged.npz")
    back = Judged.load(tmp_path / "judged.npz", PROTOCOLS["last-full"])
    assert (back.keep, back.lent) == (0, judged["none"].lent)
    judged["plain"].save(tmp_path / "plain.npz")
    assert Judged.load(tmp_path / "plain.npz", PROTOCOLS["last-full"]).step is None


def test_only_what_is_alike_is_compared(judged: Mapping[str, Judged]) -> None:
    assert compare(judged["lent"], judged["refused"]).users == judged["lent"].people
    with pytest.raises(ConfigError) as fault:
        compare(judged["lent"], judged["two"])
    assert str(fault.value) == "results with all and with 2 events of each past cannot be compared."


# Refusals


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"steps": ["popular", "popular"]}, "x: steps is ('popular', 'popular'); each step is taken once."),
        ({"steps": []}, "x: steps is (); tuple should have at least 1 item after validation, not 0."),
        ({"step": ["popular"]}, "x: step is not a key of ColdConfig. Did you mean 'steps'?"),
        ({"events": 31}, "x: events is 31; input should be less than or equal to 30."),
    ],
)
def test_ill_formed(keys: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        read(ColdConfig, keys, where="x")
    assert str(fault.value) == message


def test_what_cannot_be_lent(everything: EncodedLog, market: Log, lender: Lender) -> None:
    with pytest.raises(ConfigError) as field:
        fitted(everything, ColdConfig(method="lend", category="kinds"))
    assert str(field.value) == "cold.category is 'kinds', no category of items; there is kind. Did you mean 'kind'?"
    assert fit_lender(everything, np.arange(market.size), ColdConfig()) is None
    bundle = bundle_of(everything, None)
    with pytest.raises(ConfigError) as nothing:
        evaluate(bundle, market, PROTOCOLS["loo-full"], lend=True)
    assert str(nothing.value) == "this bundle has nothing to lend: train it with cold.method 'lend'."
    with pytest.raises(ConfigError) as keep:
        evaluate(bundle, market, PROTOCOLS["loo-full"], keep=-1)
    assert str(keep.value) == "keep is -1; 0 or more events of each past were wanted."
    drawn = Loader.for_training(everything, np.arange(market.size), LoadConfig(past=PAST), 0)
    with pytest.raises(ConfigError) as training:
        replace(drawn, lender=lender)
    assert str(training.value) == (
        "this loader has a `lender`, but its batches are to be trained on: what is lent stands in no training past."
    )


def test_the_page_says_what_is_lent() -> None:
    page = (Path(__file__).parents[1] / "docs" / "cold.md").read_text()
    table = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["cold"]
    assert read(ColdConfig, table) == ColdConfig(method="lend", category="genres")
    for says in (
        f"among their first {FIRST} events",
        f"in the {AHEAD} events after it",
        f"in their first {lend.BEGINNING} events",
        f"{lend.LIKE} of them or more",
        f"one of {lend.BINS} bins",
        f"sqrt(e + {SHRINK:g})",
        f"at most {lend.PEOPLE:,} people",
        f"at most {sum(cold.KEYS.values()):,} lists\nof {LISTED} items",
    ):
        assert says in page


# The command line


@pytest.mark.parametrize(("keys", "said"), [({"model": "mf"}, "mf"), ({"model": "mf", "auxiliary": "iacn"}, "mf+iacn")], ids=["mf", "iacn"])
def test_what_reads_no_past_is_lent_nothing(keys: dict[str, Any], said: str, log: Log, tmp_path: Path) -> None:
    config = read(RunConfig, {"log": str(log.folder), "cold": {"method": "lend"}, **keys})
    with pytest.raises(ConfigError) as fault:
        fit(config, tmp_path / "run", log=log)
    assert str(fault.value) == (
        f"cold.method is 'lend', but {said} reads no past: events that are lent change none of its scores. Take 'none'."
    )
    assert not (tmp_path / "run").exists()


FAST = ["--protocol", "loo-full", "--data.past", "5", "--data.negatives", "1", "--train.epochs", "1", "--train.batch_size", "128"]


@pytest.fixture(scope="module")
def trained(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cold") / "din"
    cli.main(["train", "--log", str(log.folder), "--cold.method", "lend", "--cold.enough", "9", *FAST, "--out", str(out)])
    return out / "bundle"


def test_the_commands(run: Said, trained: Path, log: Log) -> None:
    lent, refused = (run("evaluate", trained, "--protocol", "loo-full", *word, "--json").json["results"][0] for word in ([], ["--no-lend"]))
    assert set(lent["lent"]) >= {"own"}
    assert sum(lent["lent"].values()) == lent["lists"]
    assert "lent" not in refused
    said = run("evaluate", trained, "--protocol", "loo-full", "--lend", "--keep", "0").out
    assert "by what was lent: " in said
    assert "Of each past the 0 latest events were looked at.\n" in said
    user = next(name for at, name in enumerate(log.users.column("id").to_pylist()) if log.start[at + 1] - log.start[at] < 5)
    found, plain = (run("recommend", trained, "--user", user, *word, "--json").json for word in ([], ["--no-lend"]))
    assert (found["lent"] != "own", found["lent_events"] > 0, plain["lent"], plain["lent_events"]) == (True, True, "own", 0)
    assert found["past"] == plain["past"]
    assert " events were lent: " in run("recommend", trained, "--user", user).out


def test_a_run_validates_as_it_serves(trained: Path, log: Log) -> None:
    bundle = load_bundle(trained)
    assert bundle.facts["run"]["cold"] == {"method": "lend", "enough": 9, "events": 10, "steps": list(STEPS[1:])}
    split = split_of(log)
    data = EncodedLog(log, bundle.encoding)
    valid = judge(bundle.model, data, split, PROTOCOLS["loo-full"], past=5, part="valid", lender=bundle.lender)
    assert valid.value("ndcg@10") == bundle.facts["valid"]["ndcg@10"]
