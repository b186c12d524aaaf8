"""Catalogues that grow, and embeddings taken over: what was learned stays where it belongs, and what is new starts where it should."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from said import Said
from torch import Tensor

from penchant.bundle import Bundle, load_bundle, save_bundle
from penchant.config import read
from penchant.conformance.laws import enlarge
from penchant.conformance.world import raw_item, write_world
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.grow import GrowConfig, Grown, grow_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.split import Split, SplitConfig, leave_last_out, split_of
from penchant.encoding import Encoding, Ints, bucket_of
from penchant.errors import ConfigError, DataError
from penchant.evaluate.compare import evaluate
from penchant.evaluate.protocol import PROTOCOLS
from penchant.models import MODELS, build
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig
from penchant.request import Event, Request
from penchant.schema import Schema, Sessions
from penchant.scorer import Scorer
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import Run, fit
from penchant.train.grow import PRIOR, carry_over, rows_of, start_of_items

PLAIN = GrowConfig(bundle="")
LATER = 1_100_000_000  # seconds: after all that happens in the made world
FAST = TrainConfig(epochs=1, batch_size=128)
VARIANTS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    **{name: (name, {}, None) for name in MODELS},
    "dain-onehot": ("dain", {"context": "onehot", "profile": True}, None),
    "dain-number": ("dain", {"context": "number", "fusion": "late"}, None),
    "crosses": ("wide-deep", {"crosses": [["user.id", "item.id"], ["context.device", "item.maker"], ["past.maker", "item.id"]]}, None),
    "person-id": ("wide-deep", {"person_id": True, "crosses": []}, None),
    "din+iacn": ("din", {}, "iacn"),
    "deepfm+wider": ("deepfm", {}, "wider"),
}


def more_of(base: Path, folder: Path, *, items: int = 12, people: int = 6, events: int = 8) -> Path:
    """The raw files of a made world with more of all: items, people, events, and values of every field that nobody had."""
    random = np.random.default_rng(5)
    folder.mkdir(parents=True)
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with (folder / "items.csv").open("a", newline="") as file:
        for item in range(items):
            makers = ["", "maker1", "new maker"][item % 3]
            csv.writer(file).writerow([f"g{item}", f"New {item}", makers, "" if item % 3 == 0 else f"tag{item % 7}|new tag", ""])
    with (folder / "users.csv").open("a", newline="") as file:
        csv.writer(file).writerows([f"p{person}", "new town", 40] for person in range(people))
    with (folder / "events.csv").open("a", newline="") as file:
        for person in [*(f"p{at}" for at in range(people)), "u1", "u2"]:
            chosen = random.choice([*(f"g{at}" for at in range(1, items)), "i1", "i2", "i3"], size=events, replace=False)
            for at, item in enumerate(chosen):
                csv.writer(file).writerow([person, item, LATER + 100 * at, "gift", 0.5, "watch", 0.5])
    return folder


@pytest.fixture(scope="module")
def larger(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = more_of(raw, tmp_path_factory.mktemp("larger") / "raw")
    return prepare(folder, folder.parent / "log")


def bundle_of(encoding: Encoding, name: str, own: dict[str, Any], auxiliary: str | None = None) -> Bundle:
    """A bundle whose every weight is large, UNKNOWN's rows among them, so that nothing can be mistaken for nothing."""
    torch.manual_seed(7)
    around = {"name": auxiliary} if auxiliary else None
    item = MODELS[name].Item
    model = enlarge(build(encoding, name, own, item, around)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Bundle(name=name, model=model, encoding=encoding, config=own, item=item, auxiliary=around, past=10, tie="order")


def grown_from(bundle: Bundle, log: Log, config: GrowConfig = PLAIN, train: Ints | None = None) -> tuple[Bundle, Any, int]:
    """A bundle that has grown, before any step; what has grown; how many items started from attributes."""
    train = leave_last_out(log).train if train is None else train
    encoding, counts = grow_encoding(bundle.encoding, log, train, config, bundle.model.fixed)
    model = build(encoding, bundle.name, bundle.config, bundle.item, bundle.auxiliary)
    began = carry_over(model, encoding, bundle)
    return replace(bundle, model=model.eval(), encoding=encoding), counts, began


def logits(bundle: Bundle, log: Log, split: Split, positions: int = 64) -> Tensor:
    """What a bundle says at training moments of a Log, of items that train."""
    data = EncodedLog(log, bundle.encoding)
    position = split.train[:: max(len(split.train) // positions, 1)]
    loader = Loader(data=data, position=position, config=LoadConfig(past=10), seed=0)
    trained = np.unique(log.events["item"][split.train])
    item = data.item[np.random.default_rng(3).choice(trained, (len(position), 9))]
    with torch.inference_mode():
        return bundle.model(loader.assemble(position, item)).logit


# ------------------------------------------------------------------------------------------------------- every model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("config", [PLAIN, GrowConfig(bundle="", tail=5, admit=2)], ids=["plain", "tail"])
def test_old_items_are_scored_as_before(variant: str, config: GrowConfig, encoding: Encoding, log: Log, split: Split, larger: Log) -> None:
    """To the bit: ids keep their numbers, rows their vectors, numbers their scales."""
    name, own, auxiliary = VARIANTS[variant]
    old = bundle_of(encoding, name, own, auxiliary)
    new, counts, began = grown_from(old, larger, config)
    assert counts["items"].new == 11
    if name != "popularity":  # which is counted anew
        assert torch.equal(logits(new, log, split), logits(old, log, split))
        assert began == 8  # of eleven: two of three have attributes


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_table_says_what_its_rows_are_of(variant: str, encoding: Encoding, larger: Log) -> None:
    """A table that has other rows once everything has grown names a vocabulary, and its old rows are where that says."""
    name, own, auxiliary = VARIANTS[variant]
    old = bundle_of(encoding, name, own, auxiliary)
    new, counts, _ = grown_from(old, larger)
    assert all(one.new > 0 or kind in old.model.fixed for kind, one in counts.items())  # all that can grow has grown
    before = dict(old.model.named_modules())
    for path, table in new.model.named_modules():
        if isinstance(table, Table):
            there = before[path]
            assert isinstance(there, Table)
            size, was = table.num_embeddings, there.num_embeddings
            assert (size > was) == (table.of is not None and table.of not in ("context.hour", "context.weekday", *old.model.fixed)), path
            known = torch.from_numpy(np.flatnonzero(encoding.catalogue.known)) if table.of == "items" else torch.arange(was)
            assert torch.equal(table.weight[known], there.weight[known])
            if table.of not in (None, "items"):
                assert torch.equal(table.weight[was:], there.weight[:1].expand(size - was, -1))
    for path, value in old.model.state_dict().items():
        if not isinstance(new.model.get_submodule(path.rpartition(".")[0]), Table):
            assert torch.equal(new.model.state_dict()[path], value)


def test_fields_whose_values_are_counted_by_weights_get_no_new_ones(encoding: Encoding, larger: Log) -> None:
    old = bundle_of(encoding, "dain", {"context": "onehot"})
    new, counts, _ = grown_from(old, larger)
    assert counts["context.device"] == Grown(kept=2, new=0, without=1, expired=0)
    assert new.encoding.sizes("context") == encoding.sizes("context")
    assert counts["action.kind"].new == 1


def test_a_table_that_does_not_say_what_it_is_of_is_refused(encoding: Encoding, larger: Log) -> None:
    old = bundle_of(encoding, "mf", {})
    encoded, _ = grow_encoding(encoding, larger, leave_last_out(larger).train, PLAIN)
    model = build(encoded, "mf", {}, old.item)
    model.get_submodule("user").of = None
    with pytest.raises(TypeError) as fault:
        carry_over(model, encoded, old)
    assert str(fault.value) == "user of MF has other ids now, and does not say which: Table(..., of=...)"


# --------------------------------------------------------------------------------------------------------- what has grown


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(st.tuples(st.sampled_from(["", "maker1", "fresh"]), st.sampled_from(["", "tag1", "tag1|odd", "odd|even"])), max_size=5),
    events=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-50, 50)), min_size=1, max_size=25),
    admit=st.integers(1, 3),
    tail=st.sampled_from([0, 0, 1, 3]),
    days=st.sampled_from([None, None, 1.0, 30.0]),
)
def test_whatever_is_added(
    items: list[Any],
    events: list[Any],
    admit: int,
    tail: int,
    days: float | None,
    raw: Path,
    log: Log,
    encoding: Encoding,
    tmp_path_factory: Any,
) -> None:
    """Old ids keep their numbers, kept vectors their bits, counts add up; and what is kept is scored as before where nobody is let go."""
    folder = tmp_path_factory.mktemp("any") / "raw"
    more_of(raw, folder, items=1, people=0, events=1)
    with (folder / "items.csv").open("a", newline="") as file:
        csv.writer(file).writerows([f"x{at}", "", maker, words, ""] for at, (maker, words) in enumerate(items))
    with (folder / "events.csv").open("a", newline="") as file:
        ids = [*(f"x{at}" for at in range(len(items))), *(f"i{at}" for at in range(20))]
        csv.writer(file).writerows([f"u{58 + who}", ids[what], LATER + 1000 * when, "view", "", "", ""] for who, what, when in events)
    larger = prepare(folder, folder.parent / "log")
    old, config = bundle_of(encoding, "din", {}), GrowConfig(bundle="", admit=admit, tail=tail, expire_days=days)
    train = leave_last_out(larger).train
    new, counts, _ = grown_from(old, larger, config, train)
    ours, theirs = new.encoding, encoding
    assert ours.catalogue.items.values[: theirs.catalogue.size - 1].equals(theirs.catalogue.items.values)
    for name, vocabulary in theirs.vocabularies.items():
        assert ours.vocabularies[name].values[: vocabulary.size - 1].equals(vocabulary.values)
        assert ours.vocabularies[name].size - 1 == counts[name].kept + counts[name].new
        there = {value.as_py() for value in larger.values[name]} | set(vocabulary.values.to_pylist())
        assert counts[name].kept + counts[name].new + counts[name].without == len(there)
    assert ours.scales == theirs.scales
    one = counts["items"]
    assert one.kept + one.expired == theirs.catalogue.known.sum()
    assert one.kept + one.new == ours.catalogue.own.sum() == ours.catalogue.ids - 1 - tail if ours.catalogue.slot is not None else True
    assert one.kept + one.new + one.without + one.expired == ours.catalogue.size - 1
    people = counts["people"]
    assert people.kept + people.expired == theirs.users.size - 1
    assert people.kept + people.new == ours.users.size - 1
    everybody = set(larger.users.column("id").to_pylist()) | set(theirs.users.values.to_pylist())
    assert people.kept + people.new + people.without + people.expired == len(everybody)
    row, own = rows_of("items", ours, theirs)
    was, now = (bundle.model.get_submodule("item.id").get_parameter("weight") for bundle in (old, new))
    assert own.sum() == one.kept
    assert torch.equal(now[own], was[row[own]])
    if days is None:
        assert torch.equal(logits(new, log, leave_last_out(log)), logits(old, log, leave_last_out(log)))
    back = save_and_load(new, folder.parent / "bundle")
    assert torch.equal(logits(back, larger, split_of(larger)), logits(new, larger, split_of(larger)))


def save_and_load(bundle: Bundle, folder: Path) -> Bundle:
    save_bundle(bundle, folder)
    return load_bundle(folder)


# ------------------------------------------------------------------------------------------- admitted, expired, in the tail


def clicks(folder: Path, *rows: tuple[str, str, float], items: str = "", **schema: Any) -> Log:
    """A Log of clicks (person, item, day), of items with a colour where there is any."""
    folder.mkdir(parents=True)
    lines = [f"{user},{item},{1_000_000_000 + int(day * 86_400)}" for user, item, day in rows]
    (folder / "events.csv").write_text("\n".join(["user,item,time", *lines, ""]))
    declared: dict[str, Any] = {"name": "clicks", "events": {"file": "events.csv", **schema}}
    if items:
        (folder / "items.csv").write_text("item,colour\n" + items)
        declared["items"] = {"file": "items.csv", "fields": {"colour": {}}}
    return prepare(folder, folder / "log", read(Schema, declared))


def everything(log: Log) -> Ints:
    return np.arange(log.size)


DAYS = (("ann", "a", 0), ("ann", "b", 0), ("bob", "b", 1))


def fitted(folder: Path, items: str = "") -> Encoding:
    log = clicks(folder, *DAYS, items=items)
    return fit_encoding(log, everything(log))


def owners(encoding: Encoding) -> list[str | None]:
    """The items that have a row of their own, in the order of these rows."""
    catalogue = encoding.catalogue
    rows = np.flatnonzero(catalogue.own)
    order = rows if catalogue.slot is None else rows[np.argsort(catalogue.slot[rows, 1])]
    return catalogue.items.decode(order)


def test_a_new_id_needs_so_many_training_events(tmp_path: Path) -> None:
    log = clicks(tmp_path / "new", *DAYS, ("ann", "c", 2), ("cat", "d", 2), ("cat", "d", 3), ("dan", "b", 3), ("bob", "c", 9))
    encoding, counts = grow_encoding(
        fitted(tmp_path / "old"), log, np.flatnonzero(log.events["time"] < 1_000_700_000_000), GrowConfig(bundle="", admit=2)
    )
    assert owners(encoding) == ["a", "b", "d"]  # a and b had rows; c trains once
    assert encoding.users.values.to_pylist() == ["ann", "bob", "cat"]
    assert counts["items"] == Grown(kept=2, new=1, without=1, expired=0)
    assert counts["people"] == Grown(kept=2, new=1, without=1, expired=0)  # dan trains once
    catalogue = encoding.catalogue
    assert catalogue.known.tolist() == [False, True, True, True, True]  # c is drawn as a negative still
    assert catalogue.slot is not None
    assert catalogue.slot.tolist() == [[0, 0], [0, 1], [0, 2], [0, 0], [0, 3]]
    assert catalogue.count.tolist() == [0, 1, 3, 1, 2]


def test_what_has_no_row_of_its_own_is_in_no_cross(tmp_path: Path) -> None:
    log = clicks(tmp_path / "new", *DAYS, ("ann", "c", 2), ("cat", "d", 2), ("cat", "d", 3))
    old = bundle_of(fitted(tmp_path / "old"), "wide-deep", {})
    new, _, _ = grown_from(old, log, GrowConfig(bundle="", admit=2), everything(log))
    codes = new.model.item.codes(torch.arange(5), torch.tensor([False, True, True, True, True]))  # type: ignore[attr-defined]
    assert codes[:, 0].tolist() == [0, 1, 2, 0, 4]


def test_what_is_not_seen_for_so_long_loses_its_row(tmp_path: Path) -> None:
    old = fitted(tmp_path / "old")
    log = clicks(tmp_path / "new", *DAYS, ("ann", "c", 2), ("bob", "b", 10), ("ann", "c", 10.5), ("eve", "d", 1), ("eve", "b", 30))
    train = np.flatnonzero(log.events["time"] < 1_000_000_000_000 + 86_400_000 * 20)
    encoding, counts = grow_encoding(old, log, train, GrowConfig(bundle="", expire_days=9.0))
    assert owners(encoding) == ["b", "c"]  # a was seen on day 0, d on day 1; what tests on day 30 keeps nobody
    assert encoding.users.values.to_pylist() == ["ann", "bob"]
    assert counts["items"] == Grown(kept=1, new=1, without=1, expired=1)
    assert counts["people"] == Grown(kept=2, new=0, without=1, expired=0)
    exact, _ = grow_encoding(old, log, train, GrowConfig(bundle="", expire_days=10.5))
    assert owners(exact) == ["a", "b", "c", "d"]  # as long ago as that is not longer


def test_a_log_of_new_days_alone_lets_nothing_go_before_it_is_as_long(tmp_path: Path) -> None:
    old = fitted(tmp_path / "old")
    log = clicks(tmp_path / "new", ("bob", "b", 10), ("bob", "c", 12))
    kept, counts = grow_encoding(old, log, everything(log), GrowConfig(bundle="", expire_days=2.0))
    assert owners(kept) == ["a", "b", "c"]
    assert counts["people"] == Grown(kept=2, new=0, without=0, expired=0)
    assert kept.catalogue.count.tolist() == [0, 0, 1, 1]  # popularity is counted anew
    gone, counts = grow_encoding(old, log, everything(log), GrowConfig(bundle="", expire_days=1.9))
    assert owners(gone) == ["c"]  # b was seen on day 10
    assert counts["people"] == Grown(kept=1, new=0, without=0, expired=1)


def test_people_who_go_make_room_and_vectors_follow_their_owners(tmp_path: Path) -> None:
    old = bundle_of(fitted(tmp_path / "old"), "mf", {})
    log = clicks(tmp_path / "new", *DAYS, ("bob", "b", 10), ("cat", "c", 12))
    new, counts, _ = grown_from(old, log, GrowConfig(bundle="", expire_days=5.0), everything(log))
    assert new.encoding.users.values.to_pylist() == ["bob", "cat"]
    assert counts["people"] == Grown(kept=1, new=1, without=0, expired=1)
    was, now = (bundle.model.get_submodule("user").get_parameter("weight") for bundle in (old, new))
    assert torch.equal(now, was[[0, 2, 0]])  # UNKNOWN, bob, and cat from UNKNOWN
    was, now = (bundle.model.get_submodule("item.extra.table").get_parameter("weight") for bundle in (old, new))
    assert torch.equal(now, was[[0, 2, 0]])  # of b and c: a is gone


def test_a_cross_of_people_cannot_be_renumbered(tmp_path: Path) -> None:
    old = bundle_of(fitted(tmp_path / "old"), "wide-deep", {"crosses": [["user.id", "item.id"]]})
    log = clicks(tmp_path / "new", *DAYS, ("bob", "b", 10))
    with pytest.raises(ConfigError) as fault:
        grown_from(old, log, GrowConfig(bundle="", expire_days=5.0), everything(log))
    assert str(fault.value) == (
        "grow.expire_days lets people go, which numbers the others anew, but crosses.0 hashes these numbers (a cross of users, items). "
        "Leave expire_days out, or cross other fields."
    )
    new, counts, _ = grown_from(old, log, GrowConfig(bundle="", expire_days=20.0), everything(log))
    assert counts["people"].expired == 0
    assert new.encoding.users.size == 3


def test_ids_of_one_bucket_share_a_row(tmp_path: Path) -> None:
    rows = [("ann", f"c{at}", 2 + at / 100) for at in range(20)]
    log = clicks(tmp_path / "new", *DAYS, *rows)
    old = bundle_of(fitted(tmp_path / "old"), "mf", {})
    new, counts, _ = grown_from(old, log, GrowConfig(bundle="", tail=4, admit=2), everything(log))
    catalogue = new.encoding.catalogue
    assert counts["items"] == Grown(kept=2, new=0, without=20, expired=0)
    assert catalogue.ids == 1 + 4 + 2
    bucket = bucket_of(catalogue.items.values, 4)
    assert catalogue.slot is not None
    assert catalogue.slot[1:, 0].tolist() == (1 + bucket).tolist()
    assert catalogue.slot[3:, 1].tolist() == (1 + bucket[2:]).tolist()
    table = new.model.get_submodule("item.item.id")
    with torch.no_grad():
        table.get_parameter("weight")[1:5] = torch.randn(4, old.item.dim)
        vectors = new.model.item(torch.arange(23), torch.from_numpy(catalogue.known))
        unknown = new.model.item(torch.arange(23), torch.zeros(23, dtype=torch.bool))
    for one in range(3, 23):
        for other in range(3, 23):
            assert torch.equal(vectors[one], vectors[other]) == (bucket[one - 1] == bucket[other - 1])
    assert torch.equal(unknown[3:], vectors[3:])
    assert not torch.equal(unknown[1], vectors[1])
    assert torch.equal(unknown[1, :-1], table.get_parameter("weight")[1 + bucket[0]])  # an id that is marked unknown is of the tail
    again, _, _ = grown_from(new, log, GrowConfig(bundle="", tail=4, admit=2), everything(log))
    assert torch.equal(again.model.get_submodule("item.item.id").get_parameter("weight"), table.get_parameter("weight"))
    other, _, _ = grown_from(new, log, GrowConfig(bundle="", tail=3, admit=2), everything(log))
    weight = other.model.get_submodule("item.item.id").get_parameter("weight")
    assert torch.equal(weight[1:4], weight[:1].expand(3, -1))  # other buckets begin anew
    assert torch.equal(weight[4:], table.get_parameter("weight")[5:])


def test_an_item_that_leaves_the_tail_goes_on_from_it(tmp_path: Path) -> None:
    rows = [("ann", "c", 2), ("ann", "d", 2.1), ("ann", "d", 2.2)]
    log = clicks(tmp_path / "new", *DAYS, *rows[:2])
    old, _, _ = grown_from(bundle_of(fitted(tmp_path / "old"), "mf", {}), log, GrowConfig(bundle="", tail=3, admit=2), everything(log))
    with torch.no_grad():
        old.model.get_submodule("item.item.id").get_parameter("weight")[:4] = torch.randn(4, old.item.dim)
    more = clicks(tmp_path / "more", *DAYS, *rows, ("bob", "z", 3), ("ann", "z", 3))
    new, counts, began = grown_from(old, more, GrowConfig(bundle="", tail=3, admit=2), everything(more))
    assert owners(new.encoding) == ["a", "b", "d", "z"]
    assert (counts["items"].new, began) == (2, 0)
    was, now = (bundle.model.get_submodule("item.item.id").get_parameter("weight") for bundle in (old, new))
    place = 1 + torch.from_numpy(bucket_of(pa.array(["d", "z"]), 3))  # z was not even in the catalogue
    assert torch.equal(now[6:], was[place])


def reference_bucket(word: str, buckets: int) -> int:
    """As the docstring of `bucket_of` says, in Python's own integers."""
    whole = (1 << 64) - 1

    def mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & whole
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & whole
        return z ^ (z >> 31)

    stored = word.encode()
    total = sum(mixed((256 * place + byte + 0x9E3779B97F4A7C15) & whole) for place, byte in enumerate(stored))
    return mixed((total + len(stored)) & whole) % buckets


@given(st.lists(st.text(max_size=12), max_size=20), st.integers(1, 1000))
def test_buckets_are_of_the_text_alone(words: list[str], buckets: int) -> None:
    words = [word for word in words if word.encode(errors="replace").decode() == word]
    assert bucket_of(pa.array(words, pa.string()), buckets).tolist() == [reference_bucket(word, buckets) for word in words]
    assert bucket_of(pa.array(["other", *words], pa.string())[1:], buckets).tolist() == [reference_bucket(word, buckets) for word in words]


def test_buckets_are_the_same_in_every_process() -> None:
    code = "import pyarrow as pa, penchant.encoding as e; print(e.bucket_of(pa.array(['a', 'b', '', 'abc', 'ä']), 1000).tolist())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}).stdout
    assert said == "[742, 622, 0, 500, 402]\n"  # bundles hold rows that were found so: this must never change


# ------------------------------------------------------------------------------------------------------- where new items start


def test_new_items_start_among_those_that_share_their_attributes(encoding: Encoding, larger: Log) -> None:
    old = bundle_of(encoding, "din", {})
    new, _, began = grown_from(old, larger)
    catalogue, theirs = new.encoding.catalogue, encoding.catalogue
    was, now = (bundle.model.get_submodule("item.id").get_parameter("weight").detach().double().numpy() for bundle in (old, new))
    learned = np.flatnonzero(theirs.known)
    events = theirs.count.astype(np.float64)
    mean = sum(events[row] * was[row] for row in learned) / events[learned].sum()
    held = [{("maker", int(code)) for code in catalogue.code[row] if code} for row in range(catalogue.size)]
    for row in range(catalogue.size):
        held[row] |= {("tag", int(code)) for code in catalogue.many[0][row] if code}
    started = 0
    for row in range(theirs.size, catalogue.size):
        effects = []
        for value in held[row]:
            sharing = [other for other in learned if value in held[other]]
            if sharing:
                total = sum(events[other] * (was[other] - mean) for other in sharing)
                effects.append(total / (events[sharing].sum() + PRIOR))
        if effects and catalogue.known[row]:
            started += 1
            np.testing.assert_allclose(now[row], mean + np.mean(effects, axis=0), rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(now[row], was[0])
    assert started == began == 8


def test_values_that_no_old_item_has_say_nothing(tmp_path: Path) -> None:
    old = bundle_of(fitted(tmp_path / "old", items="a,red\nb,\n"), "din", {})
    log = clicks(tmp_path / "new", *DAYS, ("ann", "c", 2), ("ann", "d", 2), ("ann", "e", 2), items="a,red\nb,\nc,red\nd,green\ne,\n")
    new, counts, began = grown_from(old, log, PLAIN, everything(log))
    assert counts["item.colour"] == Grown(kept=1, new=1, without=0, expired=0)
    assert began == 1
    was, now = (bundle.model.get_submodule("item.id").get_parameter("weight") for bundle in (old, new))
    assert torch.equal(now[4:], was[[0, 0]])
    mean = (was[1] + 2 * was[2]) / 3  # a trained once, b twice
    torch.testing.assert_close(now[3], mean + (was[1] - mean) / (1 + PRIOR))


def test_a_model_of_nothing_learned_starts_nobody(encoding: Encoding) -> None:
    catalogue = encoding.catalogue
    place, vectors = start_of_items(catalogue, torch.randn(catalogue.ids, 4), np.zeros(catalogue.ids, dtype=bool), np.zeros(catalogue.size))
    assert (len(place), len(vectors)) == (0, 0)


# ----------------------------------------------------------------------------------------------------------------- items


def test_attributes_are_those_of_the_log_where_it_knows_any(tmp_path: Path) -> None:
    old = fitted(tmp_path / "old", items="a,red\nb,blue\ngone,blue\n")
    log = clicks(tmp_path / "new", *DAYS, ("ann", "c", 2), items="a,blue\nb,\nc,red\n")
    encoding, _ = grow_encoding(old, log, everything(log), PLAIN)
    catalogue = encoding.catalogue
    assert catalogue.items.values.to_pylist() == ["a", "b", "gone", "c"]
    colour = encoding.vocabularies["item.colour"].decode(catalogue.code[:, 0])
    assert colour == [None, "blue", "blue", "blue", "red"]  # a's has changed; of b the Log knows nothing; "gone" it does not have
    assert catalogue.known.tolist() == [False, True, True, False, True]


def test_titles_vectors_and_numbers_stay_beside_their_items(tmp_path: Path) -> None:
    write_world(tmp_path / "one", vectors=True)
    log = prepare(tmp_path / "one", tmp_path / "one-log")
    old = fit_encoding(log, leave_last_out(log).train)
    (tmp_path / "two").mkdir()
    for file in (tmp_path / "one").iterdir():
        (tmp_path / "two" / file.name).write_bytes(file.read_bytes())
    rows = (tmp_path / "two" / "items.csv").read_text().splitlines()
    kept = [rows[0], *(row for row in rows[1:] if row.split(",")[0] in ("i1", "i2", "i5")), "x1,Title of x1,maker1,tag1,7,1 2 3"]
    (tmp_path / "two" / "items.csv").write_text("\n".join(kept) + "\n")
    (tmp_path / "two" / "events.csv").write_text(
        "".join(f"{line}\n" for line in (tmp_path / "two" / "events.csv").read_text().splitlines())
    )
    with (tmp_path / "two" / "events.csv").open("a", newline="") as file:
        csv.writer(file).writerows(["u1", "x1", LATER + at, "view", "", "", ""] for at in range(4))
    log = prepare(tmp_path / "two", tmp_path / "two-log")
    new, _ = grow_encoding(old, log, leave_last_out(log).train, PLAIN)
    one, other = old.catalogue, new.catalogue
    assert other.size == one.size + 1
    assert other.title == (*one.title, "Title of x1")
    for name in ("code", "length", "number"):
        assert np.array_equal(getattr(one, name), getattr(other, name)[: one.size])
    assert all(
        np.array_equal(a, b[: one.size], equal_nan=True)
        for a, b in zip((*one.many, *one.vector), (*other.many, *other.vector), strict=True)
    )
    alike = old.items({"maker": ["maker1"], "tags": ["tag1"], "price": [7], "look": ["1 2 3"]}, 1)
    assert np.array_equal(other.number[-1:], alike[3])
    assert np.array_equal(other.vector[0][-1:], alike[4][0])


# ------------------------------------------------------------------------------------------------------------------ runs


def run_config(log: Log, name: str = "din", **more: Any) -> RunConfig:
    table = {"name": name, **more.pop("model", {})}
    return RunConfig(log=str(log.folder), protocol="loo-full", model=table, data=LoadConfig(past=10, negatives=1), train=FAST, **more)


@pytest.fixture(scope="module")
def first(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(run_config(log, model={"head": (16, 8), "attention": (8,)}), tmp_path_factory.mktemp("first") / "run", log=log)


def continues(run: Run, log: Log, **more: Any) -> RunConfig:
    return RunConfig(log=str(log.folder), grow=GrowConfig(bundle=str(run.folder / "bundle"), **more))


def test_a_run_goes_on_from_a_bundle(first: Run, log: Log, larger: Log, tmp_path: Path) -> None:
    assert first.growth is None
    until = first.bundle.facts["trained_until"]
    assert until == log.events["time"][leave_last_out(log).train].max()
    run = fit(continues(first, larger), tmp_path / "run", log=larger)
    assert run.growth is not None
    assert json.loads((run.folder / "growth.json").read_text()) == run.growth == load_bundle(run.folder / "bundle").facts["growth"]
    train = leave_last_out(larger).train
    late = larger.events["time"][train] > until
    assert run.growth["from"] == load_bundle(first.folder / "bundle").label
    assert run.growth["since"] == until + 1
    assert (run.growth["examples"], run.growth["earlier"]) == (late.sum(), (~late).sum())
    assert run.growth["ids"]["items"] == {"kept": 79, "new": 11, "without": 2, "expired": 0}
    assert run.growth["ids"]["people"] == {"kept": 60, "new": 6, "without": 0, "expired": 0}
    assert run.growth["ids"]["item.tags"] == {"kept": 7, "new": 1, "without": 0, "expired": 0}
    assert (run.growth["from_attributes"], run.growth["tail"]) == (8, 0)
    assert run.bundle.config == {"head": (16, 8), "attention": (8,)}  # as the bundle's, which the run did not say
    assert run.bundle.past == 10
    written = (run.folder / "config.toml").read_text()
    assert "epochs = 1\n" in written
    assert "negatives = 1\n" in written
    data = run.data
    with torch.inference_mode():
        scored = Scorer(load_bundle(run.folder / "bundle")).score(Request(user="p1", time=LATER * 1000), ["g1", "i5", "g0"])
    assert scored.unknown_items == ("g0",)
    assert not scored.unknown_user
    assert data.encoding.catalogue.known[data.encoding.catalogue.items.encode(["g1"])[0]]


def test_the_same_continuation_gives_the_same_bits(first: Run, larger: Log, tmp_path: Path) -> None:
    runs = [fit(continues(first, larger, tail=3), tmp_path / name, log=larger) for name in ("a", "b")]
    assert len({(run.folder / "bundle" / "weights.safetensors").read_bytes() for run in runs}) == 1


def test_people_without_examples_keep_their_vectors(log: Log, larger: Log, tmp_path: Path) -> None:
    old = fit(run_config(log, "mf"), tmp_path / "old", log=log)
    new = fit(continues(old, larger), tmp_path / "new", log=larger)
    was, now = (load_bundle(run.folder / "bundle").model.get_submodule("user").get_parameter("weight") for run in (old, new))
    taught = new.bundle.encoding.users.encode(["u1", "u2", *(f"p{at}" for at in range(6))])
    untaught = np.setdiff1d(np.arange(len(was)), taught)
    assert torch.equal(now[untaught], was[untaught])
    moved = (now[taught] != torch.cat([was, was[:1].expand(6, -1)])[taught]).any(1)
    assert moved.all()


def test_examples_are_later_than_asked(first: Run, larger: Log, tmp_path: Path) -> None:
    train = leave_last_out(larger).train
    time = larger.events["time"][train]
    moments = {
        0: time.min(),
        1_000_050_000_000: 1_000_050_000_000,
        "2004-11-09T14:15+01:00": 1_100_006_100_000,
        "2004-11-09": 1_099_958_400_000,
    }
    for since, wanted in moments.items():
        if (time >= wanted).any():
            run = fit(continues(first, larger, since=since), tmp_path / f"run-{wanted}", log=larger)
            assert run.growth is not None
            assert run.growth["examples"] == (time >= wanted).sum()
        else:
            with pytest.raises(ConfigError) as fault:
                fit(continues(first, larger, since=since), tmp_path / "none", log=larger)
            assert str(fault.value) == f"{larger.folder}: no example that trains is of {wanted} (unix milliseconds) or later."
    assert not (tmp_path / "none").exists()


def test_pasts_hold_what_is_earlier(data: EncodedLog, split: Split) -> None:
    late = int(np.sort(data.log.events["time"][split.train])[-100])  # the moment of an event
    config = LoadConfig(past=10, negatives=2, unknown=0)
    whole, later = (Loader.for_training(data, split.train, config, 0, since=since) for since in (None, late))
    kept = whole.position[data.log.events["time"][whole.position] >= late]
    assert np.array_equal(later.position, kept)
    assert 0 < len(kept) < len(whole.position)
    one, other = (loader.batch(kept, 0) for loader in (whole, later))
    assert torch.equal(one.history.time, other.history.time)
    assert (one.history.time < late).any()
    assert torch.equal(one.item, other.item)  # negatives too: what was chosen earlier is not drawn
    with_latest = Loader.for_training(data, split.train, config.model_copy(update={"latest": 1}), 0, since=late)
    assert len(np.unique(data.log.user_of(with_latest.position))) == len(with_latest.position)


def test_logged_requests_are_examples_as_wholes(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "user,item,time,click\n"
        + "".join(
            f"u{user},i{item},{1_000_000_000 + at * 100},{int(item == at)}\n" for user in range(4) for at in range(5) for item in range(5)
        )
    )
    declared = {"file": "events.csv", "label": {"column": "click", "at_least": 1}, "impressions": {}}
    log = prepare(tmp_path, tmp_path / "log", read(Schema, {"name": "shown", "events": declared}))
    data = EncodedLog(log, fit_encoding(log, np.arange(log.size)))
    loader = Loader.for_training(data, np.arange(log.size), LoadConfig(negatives=0), 0, since=1_000_000_300_000)
    assert loader.rows is not None
    assert loader.rows.tolist() == [5] * 8
    assert (log.events["time"][loader.position] >= 1_000_000_300_000).all()


def test_what_a_configuration_says_counts_before_what_the_bundle_s_said(first: Run, larger: Log, tmp_path: Path) -> None:
    config = continues(first, larger, since=0, tail=2, admit=2)
    said = {"train": TrainConfig(epochs=2, rate=0.01), "data": LoadConfig(negatives=3), "loss": {"name": "softmax"}, "seed": 4}
    run = fit(config.model_copy(update={**said, "model": {"head": (16, 8)}}), tmp_path / "run", log=larger)
    own = run.bundle.facts["run"]
    assert (own["train"]["epochs"], own["train"]["rate"], own["train"]["batch_size"]) == (2, 0.01, 128)
    assert (own["data"]["negatives"], own["data"]["past"]) == (3, 10)
    assert (own["loss"]["name"], own["seed"], own["protocol"]) == ("softmax", 4, "loo-full")
    again = fit(continues(run, larger, since=0), tmp_path / "again", log=larger)
    assert again.growth is not None
    assert again.growth["tail"] == 2  # as the run before was grown, but for the moment
    assert again.bundle.facts["run"]["grow"] == {"bundle": str(run.folder / "bundle"), "admit": 2, "tail": 2, "since": 0}


def refusal(config: RunConfig, out: Path) -> str:
    with pytest.raises(ConfigError) as fault:
        fit(config, out)
    assert not out.exists()
    return str(fault.value)


def test_what_cannot_be_continued(first: Run, log: Log, larger: Log, tmp_path: Path) -> None:
    bundle, plain, out = str(first.folder / "bundle"), continues(first, larger), tmp_path / "out"

    def asked(**more: Any) -> str:
        return refusal(plain.model_copy(update=more), out)

    same = "Only the same can be continued."
    assert asked(model={"name": "mf"}) == f"grow: {bundle} has model 'din'; this run asks for 'mf'. {same}"
    assert asked(model={"name": "din", "head": (9,)}) == (
        f"grow: {bundle} has model.head = (16, 8); this run asks for model.head = (9,). {same}"
    )
    assert asked(auxiliary={"name": "iacn"}) == f"grow: {bundle} has auxiliary none; this run asks for 'iacn'. {same}"
    assert asked(long={"name": "eta"}) == f"grow: {bundle} has long none; this run asks for 'eta'. {same}"
    assert asked(item=ItemConfig(dim=64)) == (f"grow: {bundle} has item.dim = 32; this run asks for 64. What it learned is of its own.")
    old = clicks(tmp_path / "old", *DAYS, ("ann", "c", 2))
    refused = refusal(plain.model_copy(update={"log": str(old.folder)}), out)
    assert refused == (
        f"grow: {old.folder} cannot continue the bundle, which it is without context.hour; without context.weekday; without item.maker; "
        "without item.tags; without item.price; without user.town; without user.age; without action.kind; without action.dwell; "
        "without context.device; without context.battery."
    )
    nothing = refusal(continues(first, log), out)
    until = first.bundle.facts["trained_until"]
    assert nothing == f"{log.folder}: no example that trains is of {until + 1} (unix milliseconds) or later."
    assert refusal(continues(first, larger, since="lately"), out) == (
        "grow.since: 'lately' is no ISO 8601 moment such as '2024-03-01' or '2024-03-01T12:00+01:00'."
    )
    with pytest.raises(ConfigError) as both:
        read(RunConfig, {"log": "x", "grow": {"bundle": "b"}, "embeddings": "c", "start": ["d"]})
    assert str(both.value) == "RunConfig: start and grow and embeddings each say what the run starts from; one of them was wanted"


def test_other_kinds_and_orders_of_fields(tmp_path: Path) -> None:
    old = fitted(tmp_path / "old")
    said = f"grow: {tmp_path / 'new' / 'log'} cannot continue the bundle, which it is"
    kinds = {"context": {"a": {}, "b": {"kind": "number"}}}
    rows = "user,item,time,a,b\nann,a,1000000000,1,2\n"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "events.csv").write_text(rows)
    log = prepare(tmp_path / "new", tmp_path / "new" / "log", read(Schema, {"name": "n", "events": {"file": "events.csv", **kinds}}))
    mine = fit_encoding(log, np.arange(1))
    for schema, told in (
        (
            {"context": {"b": {"kind": "number"}, "a": {}}},
            "with its fields in another order: context.a, context.b, not context.b, context.a",
        ),
        ({"context": {"a": {}, "b": {}}}, "with context.b as number, not category"),
        ({"context": {"a": {}}}, "with context.b, which is new"),
        ({"context": {"a": {}, "b": {"kind": "number"}, "c": {}}}, "without context.c"),
    ):
        other = replace(mine, schema=read(Schema, {"name": "n", "events": {"file": "events.csv", **schema}}))
        with pytest.raises(ConfigError) as fault:
            grow_encoding(other, log, np.arange(1), PLAIN)
        assert str(fault.value) == f"{said} {told}."
    assert old.schema.events.context == {}


def test_vectors_of_another_width(tmp_path: Path) -> None:
    logs = []
    for width in (2, 3):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "events.csv").write_text("user,item,time\nann,a,1000000000\n")
        (folder / "items.csv").write_text(f"item,look\na,{' '.join(['1'] * width)}\n")
        items = {"file": "items.csv", "fields": {"look": {"kind": "vector"}}}
        logs.append(prepare(folder, folder / "log", read(Schema, {"name": "n", "events": {"file": "events.csv"}, "items": items})))
    with pytest.raises(ConfigError) as fault:
        grow_encoding(fit_encoding(logs[0], np.arange(1)), logs[1], np.arange(1), PLAIN)
    assert str(fault.value) == f"grow: {logs[1].folder} cannot continue the bundle, which it is with item.look of 3 numbers, not 2."


def test_a_log_without_times(tmp_path: Path) -> None:
    rows = "user,item\n" + "".join(f"u{user},i{(user + at) % 9}\n" for user in range(12) for at in range(5))
    (tmp_path / "events.csv").write_text(rows)
    log = prepare(tmp_path, tmp_path / "log", read(Schema, {"name": "n", "events": {"file": "events.csv", "time": {"unit": "rows"}}}))
    run = fit(run_config(log, "mf"), tmp_path / "run", log=log)
    assert refusal(continues(run, log), tmp_path / "none") == (
        f"grow.since: {log.folder} knows the order of its rows alone, so nothing says which are new; 0 takes all."
    )
    assert refusal(continues(run, log, since=0, expire_days=3.0), tmp_path / "none") == (
        f"grow.expire_days is 3, but {log.folder} knows the order of its rows alone."
    )
    again = fit(continues(run, log, since=0), tmp_path / "again", log=log)
    assert again.growth is not None
    assert again.growth["earlier"] == 0


def test_a_bundle_that_does_not_say_until_when(first: Run, larger: Log, tmp_path: Path) -> None:
    facts = {key: value for key, value in first.bundle.facts.items() if key != "trained_until"}
    save_bundle(replace(first.bundle, facts=facts), tmp_path / "bundle")
    config = RunConfig(log=str(larger.folder), grow=GrowConfig(bundle=str(tmp_path / "bundle")))
    assert refusal(config, tmp_path / "none") == (
        f"grow.since: {tmp_path / 'bundle'} does not say until when it was trained; give the moment that it is to go on from."
    )
    save_bundle(replace(first.bundle, facts={}, past=7), tmp_path / "made")
    told = {"protocol": "loo-full", "train": FAST, "grow": GrowConfig(bundle=str(tmp_path / "made"), since=0)}
    run = fit(config.model_copy(update=told), tmp_path / "run", log=larger)  # a bundle that was made by hand says what it is
    assert (run.bundle.name, run.bundle.past, run.bundle.config) == ("din", 7, first.bundle.config)


def test_sessions_are_those_of_the_bundle_s_run(log: Log, larger: Log, tmp_path: Path) -> None:
    asked = {"model": {"name": "dsin"}, "sessions": Sessions(minutes=5.0)}
    old = fit(run_config(log).model_copy(update=asked), tmp_path / "old", log=log)
    new = fit(continues(old, larger), tmp_path / "new", log=larger)
    assert new.bundle.encoding.schema.events.session == Sessions(minutes=5.0)


def test_slots_that_are_not_of_the_tables_are_refused(first: Run, larger: Log, tmp_path: Path) -> None:
    run = fit(continues(first, larger, tail=2), tmp_path / "run", log=larger)
    catalogue = run.bundle.encoding.catalogue
    assert catalogue.slot is not None
    for broken in (catalogue.slot + 1, catalogue.slot[:, :1]):
        encoding = replace(run.bundle.encoding, catalogue=replace(catalogue, slot=broken))
        save_bundle(replace(run.bundle, encoding=encoding), tmp_path / f"broken{broken.shape[1]}")
        with pytest.raises(Exception, match="this bundle cannot be loaded: its slots are not of its tables") as fault:
            load_bundle(tmp_path / f"broken{broken.shape[1]}")
        assert type(fault.value).__name__ == "ArtefactError"


# ------------------------------------------------------------------------------------------------------------ embeddings


@pytest.mark.parametrize("name", ["din", "wide-deep", "sasrec"])
def test_vectors_are_taken_over_by_text(first: Run, larger: Log, tmp_path: Path, name: str) -> None:
    """Of a model of another kind too, whose other weights stay its own."""
    still = {"train": TrainConfig(epochs=1, batch_size=128, rate=1e-30), "item": ItemConfig(dim=32)}
    config = run_config(larger, name).model_copy(update=still)
    run = fit(config.model_copy(update={"embeddings": str(first.folder / "bundle")}), tmp_path / "run", log=larger)
    plain = fit(config, tmp_path / "plain", log=larger)
    assert run.embeddings is not None
    assert (
        json.loads((run.folder / "embeddings.json").read_text()) == run.embeddings == load_bundle(run.folder / "bundle").facts["embeddings"]
    )
    ids = {"items": {"found": 79, "not_found": 11}}
    if name != "sasrec":
        ids |= {"item.maker": {"found": 6, "not_found": 1}, "item.tags": {"found": 7, "not_found": 1}}
    assert run.embeddings == {"from": load_bundle(first.folder / "bundle").label, "ids": ids}
    mine, theirs, alone = (load_bundle(one.folder / "bundle") for one in (run, first, plain))
    path = next(path for path, part in mine.model.named_modules() if path.endswith(".id") and isinstance(part, Table))
    mine_at, theirs_at = (one.encoding.catalogue.items.encode([*(f"i{at}" for at in range(1, 80))]) for one in (mine, theirs))
    assert not np.array_equal(mine_at, theirs_at)  # other rows
    took, gave, drawn = (
        one.model.get_submodule(at).get_parameter("weight") for one, at in ((mine, path), (theirs, "item.id"), (alone, path))
    )
    torch.testing.assert_close(took[mine_at], gave[theirs_at])
    new = mine.encoding.catalogue.items.encode([f"g{at}" for at in range(1, 12)])
    torch.testing.assert_close(took[new], drawn[new])


def test_embeddings_that_cannot_be_taken_over(first: Run, log: Log, tmp_path: Path) -> None:
    bundle, out = str(first.folder / "bundle"), tmp_path / "out"
    narrow = run_config(log).model_copy(update={"embeddings": bundle, "item": ItemConfig(dim=8)})
    assert refusal(narrow, out) == (f"embeddings: items of {bundle} have vectors of 32 numbers, this run's have 8; set item.dim to 32.")
    none = run_config(log, "popularity").model_copy(update={"embeddings": bundle})
    assert refusal(none, out) == "embeddings: this run's Popularity has no item encoder, so there are no vectors of items."
    popular = fit(run_config(log, "popularity"), tmp_path / "popular", log=log)
    config = run_config(log).model_copy(update={"embeddings": str(popular.folder / "bundle")})
    assert refusal(config, out) == (
        f"embeddings: {popular.folder / 'bundle'}, a Popularity, has no item encoder, so there are no vectors of items."
    )


def test_vectors_of_a_grown_bundle(first: Run, log: Log, larger: Log, tmp_path: Path) -> None:
    grown = fit(continues(first, larger, tail=3, admit=2), tmp_path / "grown", log=larger)
    config = run_config(larger).model_copy(update={"embeddings": str(grown.folder / "bundle")})
    run = fit(config, tmp_path / "run", log=larger)
    assert run.embeddings is not None
    assert run.embeddings["ids"]["items"]["found"] == grown.bundle.encoding.catalogue.own.sum()


# ---------------------------------------------------------------------------------------------------------------- scorer


@pytest.fixture(scope="module")
def tailed(first: Run, larger: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(continues(first, larger, tail=5, admit=3), tmp_path_factory.mktemp("tailed") / "run", log=larger).folder / "bundle"


REQUEST = Request(user="u1", time=LATER * 1000, past=[Event(item="i5", time=LATER * 1000 - 5), Event(item="g2", time=LATER * 1000 - 4)])


def test_new_items_are_scored_at_once(tailed: Path) -> None:
    bundle = load_bundle(tailed)
    enlarge(bundle.model)
    scorer = Scorer(bundle)
    before = scorer.score(REQUEST, ["i5", "g1", "g0"])
    assert "g0" in before.unknown_items
    ids = [f"brand new {at}" for at in range(40)]
    scorer.add_items([raw_item("i10", id) for id in ids])
    scored = scorer.score(REQUEST, ids)
    assert scored.unknown_items[: len(ids)] == tuple(ids)
    bucket = bucket_of(pa.array(ids), 5)
    assert len(np.unique(np.round(scored.logit, 5))) == len(np.unique(bucket)) == 5
    for one in range(5):
        np.testing.assert_allclose(scored.logit[bucket == one], scored.logit[bucket == one][0], rtol=1e-5, atol=1e-5)
    assert np.array_equal(scorer.score(REQUEST, ["i5", "g1", "g0"]).logit, before.logit)
    assert set(ids) < set(scorer.recommend(REQUEST, 200).item)


def test_attributes_of_a_known_item_can_change(first: Run, tailed: Path) -> None:
    for folder in (first.folder / "bundle", tailed):
        scorer, plain = Scorer(load_bundle(folder)), Scorer(load_bundle(folder))
        encoding = scorer.encoding
        held = encoding.catalogue
        kept = [part.copy() for part in (held.code, held.length, held.number, *held.many)]
        before = plain.score(REQUEST, ["i10", "i21", "i30"])
        scorer.update_items(
            [{"id": "i10", "price": 500, "tags": ["tag1", "tag3"]}, {"id": "i21", "maker": "maker5", "title": "Twenty-one"}]
        )
        scored = scorer.score(REQUEST, ["i10", "i21", "i30"])
        assert (scored.logit[:2] != before.logit[:2]).all()
        assert scored.logit[2] == before.logit[2]
        assert scored.title == ("Item 10", "Twenty-one", "Item 30")
        assert all(map(np.array_equal, (held.code, held.length, held.number, *held.many), kept))  # of others, who have it too
        raw = {"maker": f"maker{10 % 6}", "tags": ["tag1", "tag3"], "price": 500}  # what was not given stays
        row = encoding.catalogue.items.encode(["i10"])[0]
        code, many, length, number, _ = encoding.items({name: [value] for name, value in raw.items()}, 1)
        changed = scorer.encoding.catalogue
        assert np.array_equal(changed.code[row], code[0])
        assert np.array_equal(changed.many[0][row], many[0][0])
        assert np.array_equal(changed.length[row], length[0])
        assert np.array_equal(changed.number[row], number[0])
        assert np.array_equal(plain.score(REQUEST, ["i10", "i21", "i30"]).logit, before.logit)
        scorer.update_items([raw_item("i10", "i10") | {"title": "Item 10"}, {"id": "i21", "maker": f"maker{21 % 6}", "title": "Item 21"}])
        np.testing.assert_allclose(scorer.score(REQUEST, ["i10", "i21", "i30"]).logit, before.logit, rtol=1e-6)
        scorer.update_items([{"id": "i10", "price": None, "tags": [], "maker": ""}])
        gone = scorer.encoding.catalogue
        assert (gone.code[row].tolist(), gone.length[row].tolist(), gone.number[row].tolist()) == ([0], [1], [0, 1])
        done = replace(REQUEST, past=[Event(item="i10", time=LATER * 1000 - 5)])
        assert scorer.score(done, ["i30"]).logit != plain.score(done, ["i30"]).logit  # in a past as well


def test_changes_that_are_refused(first: Run) -> None:
    scorer = Scorer(load_bundle(first.folder / "bundle"))
    for items, message in (
        ([{"price": 3}], "a changed item has no id: {'price': 3}."),
        (
            [{"id": "i1", "prize": 3}],
            "changed item 'i1': 'prize' is no field of items; they have id, title, maker, tags, price. Did you mean 'price'?",
        ),
        ([{"id": "i1"}, {"id": "x"}, {"id": "y"}], "item 'x' is not in the catalogue (2 of 3 are not); only its items can be changed."),
        ([{"id": "i1"}, {"id": "i1"}], "item 'i1' stands more than once among the changed items; each is changed once."),
        ([{"id": "i1", "price": "dear"}], "item.price is 'dear'; a number, or nothing, was wanted."),
    ):
        with pytest.raises(DataError) as fault:
            scorer.update_items(items)
        assert str(fault.value) == message


def test_vectors_of_a_known_item_can_change(tmp_path: Path) -> None:
    write_world(tmp_path / "raw", vectors=True)
    log = prepare(tmp_path / "raw", tmp_path / "log")
    scorer = Scorer(bundle_of(fit_encoding(log, leave_last_out(log).train), "din", {}))
    before = scorer.score(REQUEST, ["i10", "i11"]).logit
    scorer.update_items([{"id": "i10", "look": [1.0, 2.0, 3.0]}])
    after = scorer.score(REQUEST, ["i10", "i11"]).logit
    assert after[0] != before[0]
    assert after[1] == before[1]


# ---------------------------------------------------------------------------------------------------------- command line


def test_the_command_says_what_has_grown(run: Said, first: Run, larger: Log, tmp_path: Path) -> None:
    bundle = first.folder / "bundle"
    said = run(
        "train",
        "--log",
        larger.folder,
        "--from",
        bundle,
        "--grow.tail",
        "2",
        "--grow.since",
        "2001-09-09",
        "--out",
        tmp_path / "a",
        "--json",
    )
    assert said.status == 0, said.err
    growth = said.json["growth"]
    assert growth["ids"]["items"]["new"] == 11
    assert said.json["embeddings"] is None
    assert json.loads((tmp_path / "a" / "growth.json").read_text()) == growth
    config = tmp_path / "run.toml"
    config.write_text(f'log = "{larger.folder}"\n[grow]\nbundle = "{bundle}"\ntail = 2\nsince = 2001-09-09\n')
    shown = run("train", config, "--out", tmp_path / "b")
    assert shown.status == 0, shown.err
    assert [line.split() for line in shown.out.splitlines() if line.startswith(("items", "people", "item.maker"))] == [
        ["items", "79", "11", "2", "0"],
        ["people", "60", "6", "0", "0"],
        ["item.maker", "6", "1", "0", "0"],
    ]
    line = (
        f"Continues {growth['from']}: {growth['examples']:,} examples; {growth['earlier']} earlier events stand in pasts alone. "
        "8 new items started from their attributes. Ids without a row share 2."
    )
    assert line in shown.out.splitlines()
    assert (tmp_path / "a" / "bundle" / "weights.safetensors").read_bytes() == (
        tmp_path / "b" / "bundle" / "weights.safetensors"
    ).read_bytes()


def test_the_command_says_what_was_taken_over(run: Said, first: Run, larger: Log, tmp_path: Path) -> None:
    fast = ["--protocol", "loo-full", "--train.epochs", "1", "--train.batch_size", "256", "--data.past", "5"]
    flags = ["--log", larger.folder, "--from-embeddings", first.folder / "bundle", *fast]
    said = run("train", *flags, "--out", tmp_path / "a", "--json")
    assert said.status == 0, said.err
    taken = said.json["embeddings"]
    assert taken["ids"]["items"] == {"found": 79, "not_found": 11}
    shown = run("train", *flags, "--out", tmp_path / "b")
    assert ["items", "79", "11"] in [line.split() for line in shown.out.splitlines()]
    assert f"Vectors are from {taken['from']}." in shown.out.splitlines()
    for flag, key in (("--from", "--grow.bundle"), ("--from-embeddings", "--embeddings")):
        both = run("train", "--log", larger.folder, flag, "x", key, "y", "--out", tmp_path / "c")
        assert (both.status, both.err) == (2, f"penchant: {flag} and {key} say the same; give one of them.\n")


# -------------------------------------------------------------------------------------------------------------- real data


@pytest.mark.slow
@pytest.mark.data
def test_a_grown_model_knows_people_that_a_frozen_one_does_not(real_data: Path, tmp_path: Path) -> None:
    """MovieLens-100K by time: mf that has grown on the second half of what trains, judged with the same model left as it was."""
    from penchant.data.sets import get

    get("movielens-100k", tmp_path / "raw")
    log = prepare(tmp_path / "raw", tmp_path / "log")
    time = np.sort(log.events["time"])
    moments = [int(time[int(share * len(time))]) for share in (0.45, 0.5, 0.75, 0.8)]
    iso = [np.datetime64(moment, "ms").item().isoformat() + "+00:00" for moment in moments]
    halves = [SplitConfig(name="time", valid_from=iso[at], test_from=iso[at + 1]) for at in (0, 2)]
    base = RunConfig(log=str(log.folder), protocol="last-99", model={"name": "mf"}, train=TrainConfig(epochs=3, batch_size=1024, rate=5e-3))
    old = fit(base.model_copy(update={"split": halves[0]}), tmp_path / "old", log=log)
    config = RunConfig(log=str(log.folder), split=halves[1], grow=GrowConfig(bundle=str(old.folder / "bundle")))
    new = fit(config, tmp_path / "new", log=log)
    assert new.growth is not None
    assert new.growth["ids"]["people"]["kept"] == old.bundle.encoding.users.size - 1
    assert new.growth["ids"]["people"]["new"] > 100
    frozen = replace(old.bundle, facts={**old.bundle.facts, "run": {**old.bundle.facts["run"], "split": new.bundle.facts["run"]["split"]}})
    values = [evaluate(bundle, log, PROTOCOLS["last-99"]).value("ndcg@10") for bundle in (frozen, new.bundle)]
    assert values[1] > values[0] + 0.02
