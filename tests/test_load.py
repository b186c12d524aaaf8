"""Batches out of a Log: no future in any past, and an example that looks the same whatever stands around it."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import PASTS, Pasts, small_log

from penchant.batch import Batch, History
from penchant.collate import Pasts as PastFacts
from penchant.collate import Requests, collate, distinct
from penchant.config import read
from penchant.data.encoded import EncodedLog, ranges
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.split import Split
from penchant.encoding import Encoding, Ints
from penchant.errors import ConfigError
from penchant.schema import Tie


def loader_of(log: Log, config: LoadConfig, seed: int = 0, **more: Any) -> Loader:
    train = np.arange(log.size)
    return Loader.for_training(EncodedLog(log, fit_encoding(log, train)), train, config, seed, **more)


def history_of(batch: Batch) -> list[dict[str, list[Any]]]:
    """Each request's past, in catalogue rows."""
    history, start = batch.history, batch.history.events.start.tolist()
    columns = {"item": batch.row[history.item], "time": history.time, "action": history.action, "number": history.number}
    if history.other is not None:
        columns["other"] = batch.row[history.other]
    return [{name: column[a:b].tolist() for name, column in columns.items()} for a, b in pairwise(start)]


def looks(batch: Batch) -> list[dict[str, Any]]:
    """All that a batch says of each request, with catalogue rows for places, and which of its ids are known."""
    pasts = history_of(batch)
    known = dict(zip(batch.row.tolist(), batch.known.tolist(), strict=True))
    out = []
    for row in range(batch.requests):
        request: dict[str, Any] = {"past": pasts[row], "item": batch.row[batch.item[row]].tolist()}
        request["user"] = batch.user.code[row].tolist(), batch.user.number[row].tolist()
        for name in ("context", "number", "time", "label", "weight", "log_q", "negative_log_q"):
            value = getattr(batch, name)
            request[name] = None if value is None else value[row].tolist()
        request["shown"] = batch.shown.code[row].tolist(), batch.shown.number[row].tolist()
        request["negative"] = None if batch.negative is None else batch.row[batch.negative[row]].tolist()
        speaks_of = {*request["past"]["item"], *request["past"].get("other", ()), *request["item"], *(request["negative"] or ())}
        request["known"] = {item: known[item] for item in sorted(speaks_of)}
        out.append(request)
    return out


# No future


@settings(max_examples=120, deadline=None)
@given(PASTS, st.sampled_from(["order", "strict"]), st.integers(0, 5), st.booleans())
def test_no_future(pasts: Pasts, tie: Tie, most: int, positives: bool) -> None:
    log = small_log(pasts, past="positive" if positives else "all")
    everything = np.arange(log.size)
    data = EncodedLog(log, fit_encoding(log, everything))
    loader = Loader(data=data, position=everything, config=LoadConfig(past=most, negatives=0, unknown=0), seed=0, tie=tie)
    time, owner = log.events["time"], log.user_of(np.arange(log.size))
    found, length = loader.data.past(np.arange(log.size), most, tie)
    assert length.max() <= most
    batch = loader.batch(np.arange(log.size), 0)
    shown = history_of(batch)
    begin = 0
    for here in range(log.size):
        mine = found[begin : begin + length[here]].tolist()
        begin += int(length[here])
        earlier = [
            at
            for at in range(log.size)
            if owner[at] == owner[here] and (at < here if tie == "order" else time[at] < time[here]) and (log.positive[at] or not positives)
        ]
        assert mine == earlier[max(0, len(earlier) - most) :]
        assert all(at < here and time[at] <= time[here] for at in mine)
        assert shown[here]["item"] == loader.data.rows(np.array(mine, dtype=np.int64)).tolist()
        assert shown[here]["time"] == time[mine].tolist()
        assert shown[here]["time"] == sorted(shown[here]["time"])
    assert begin == len(found)


def test_pasts_of_the_made_world(loader: Loader, log: Log, split: Split) -> None:
    for tie in ("order", "strict"):
        batch = replace(loader, config=LoadConfig(past=10), tie=tie).batch(split.test, 0)
        time = log.events["time"]
        for row, here in enumerate(split.test.tolist()):
            first = int(log.start[log.user_of(np.array([here]))[0]])
            earlier = [at for at in range(first, here) if tie == "order" or time[at] < time[here]][-10:]
            past = history_of(batch)[row]
            assert past["time"] == time[earlier].tolist()
            assert past["item"] == (log.events["item"][earlier] + 1).tolist()  # the catalogue's row 0 is UNKNOWN
            values = [log.values["action.kind"][int(at) - 1].as_py() for at in log.events["action.kind"][earlier]]
            assert [loader.data.encoding.vocabularies["action.kind"].decode(np.array(ids))[0] for ids in past["action"]] == values


# What an example looks like


def test_an_example_looks_the_same_in_any_batch(loader: Loader) -> None:
    position = loader.position
    whole = dict(zip(position.tolist(), looks(loader.batch(position, 3)), strict=True))
    random = np.random.default_rng(0)
    for size in (1, 2, 7, 100):
        some = random.choice(position, size=size, replace=False)
        assert looks(loader.batch(some, 3)) == [whole[at] for at in some.tolist()]
    assert looks(loader.batch(position, 4)) != list(whole.values())
    assert looks(loader.batch(position[:0], 3)) == []


def test_every_field_has_its_shape(loader: Loader, encoding: Encoding) -> None:
    batch = loader.batch(loader.position[:13], 0)
    events = int(batch.history.events.sizes.sum())
    shapes = {f.name: tuple(getattr(batch, f.name).shape) for f in fields(batch) if isinstance(getattr(batch, f.name), torch.Tensor)}
    distinct_rows = len(batch.row)
    assert shapes == {
        "row": (distinct_rows,),
        "known": (distinct_rows,),
        "context": (13, 3),
        "number": (13, 2),
        "time": (13,),
        "item": (13, 3),
        "negative": (13, 5),
        "negative_log_q": (13, 5),
        "label": (13, 3),
        "log_q": (13, 3),
    }
    assert (batch.shown.code.shape, batch.shown.number.shape) == ((13, 3, 0), (13, 3, 0))
    assert (batch.user.code.shape, batch.user.number.shape) == ((13, 2), (13, 2))
    assert (batch.user.code.shape, batch.user.number.shape) == ((13, 2), (13, 2))
    history = {name: tuple(getattr(batch.history, name).shape) for name in ("item", "time", "action", "number", "other")}
    assert history == {"item": (events,), "time": (events,), "action": (events, 1), "number": (events, 2), "other": (events,)}
    assert batch.label is not None
    assert batch.label.tolist() == [[1, 0, 0]] * 13
    assert batch.negative_log_q is not None
    assert torch.allclose(batch.negative_log_q, torch.tensor(-np.log(encoding.catalogue.known.sum()), dtype=torch.float32))
    first = batch.first_drawn
    assert first is not None
    assert 0 < first < distinct_rows
    assert (batch.row[:first].diff() > 0).all()
    assert (batch.row[first:].diff() > 0).all()
    assert len(batch.row.unique()) == distinct_rows


def test_people_and_moments(loader: Loader, log: Log, encoding: Encoding) -> None:
    position = loader.position[::7]
    batch = loader.batch(position, 0)
    owners = [log.users.column("id")[int(user)].as_py() for user in log.user_of(position)]
    assert encoding.users.decode(batch.user.code[:, 0].numpy()) == owners
    towns = [log.users.column("user.town")[int(user)].as_py() for user in log.user_of(position)]
    assert batch.user.code[:, 1].tolist() == towns  # every town is met in training
    assert batch.time.tolist() == log.events["time"][position].tolist()
    assert np.array_equal(batch.context[:, :2].numpy(), encoding.moment(batch.time.numpy()))
    assert batch.context[:, 2].tolist() == log.events["context.device"][position].tolist()
    age = [log.users.column("user.age")[int(user)].as_py() for user in log.user_of(position)]
    assert np.array_equal(batch.user.number.numpy(), encoding.scaled("user", {"age": age}, len(age)))
    battery = log.events["context.battery"][position]
    assert np.array_equal(batch.number.numpy(), encoding.scaled("context", {"battery": battery}, len(age)))


def test_candidates_were_not_chosen_in_training(loader: Loader, log: Log, split: Split, encoding: Encoding) -> None:
    chosen = {(int(user), int(row)) for user, row in zip(log.user_of(split.train), loader.data.rows(split.train), strict=True)}
    position = loader.position
    batch, user = loader.batch(position, 0), log.user_of(position).tolist()
    assert batch.row[batch.item[:, 0]].tolist() == loader.data.rows(position).tolist()
    for row, request in enumerate(looks(batch)):
        for drawn in (*request["item"][1:], *request["negative"], *request["past"]["other"]):
            assert (user[row], drawn) not in chosen
            assert encoding.catalogue.known[drawn]


def test_labels_of_events_that_are_not_positive() -> None:
    log = small_log([[(0, True), (1, False), (2, True)]])
    batch = loader_of(log, LoadConfig(negatives=1, unknown=0)).batch(np.arange(3), 0)
    assert batch.label is not None
    assert batch.label.tolist() == [[1, 0], [0, 0], [1, 0]]


# Epochs


def examples(loader: Loader, batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.user.code[:, 0].tolist(), batch.row[batch.item[:, 0]].tolist(), strict=True))  # nobody has an item twice here


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_an_epoch_has_each_example_once(loader: Loader, size: int) -> None:
    batches = list(loader.epoch(0, size))
    assert len(batches) == loader.steps(size) == -(-len(loader.position) // size)
    assert [batch.requests for batch in batches[:-1]] == [size] * (len(batches) - 1)
    met = [example for batch in batches for example in examples(loader, batch)]
    assert sorted(met) == sorted(examples(loader, loader.batch(loader.position, 0)))
    assert len(set(met)) == len(met) == len(loader.position)


def test_epochs_differ_and_repeat(loader: Loader) -> None:
    def order(epoch: int, seed: int) -> list[tuple[int, int]]:
        return [example for batch in replace(loader, seed=seed).epoch(epoch, 50) for example in examples(loader, batch)]

    first = order(0, 0)
    assert first == order(0, 0)
    for other in (order(1, 0), order(0, 1), sorted(first)):
        assert sum(a == b for a, b in zip(first, other, strict=True)) < 12


@pytest.mark.parametrize("parts", [1, 3, 20])
def test_parts_and_later_starts_have_the_same_examples(loader: Loader, parts: int) -> None:
    whole = [looks(batch) for batch in loader.epoch(2, 64)]
    shared = zip(*(loader.epoch(2, 64, part=(part, parts)) for part in range(parts)), strict=True)
    assert [[request for batch in batches for request in looks(batch)] for batches in shared] == whole
    for start in (0, 3, len(whole) - 1, len(whole)):
        assert [looks(batch) for batch in loader.epoch(2, 64, start=start)] == whole[start:]


# Ids that an epoch treats as not known


def test_marks_are_a_function_of_seed_epoch_and_item(loader: Loader, encoding: Encoding) -> None:
    rows = np.arange(encoding.catalogue.size)

    def marked(loader: Loader, epoch: int) -> Ints:
        known: dict[int, bool] = {}
        for batch in loader.epoch(epoch, 32):
            for row, is_known in zip(batch.row.tolist(), batch.known.tolist(), strict=True):
                assert known.setdefault(row, is_known) == is_known
        return np.array([encoding.catalogue.known[row] and not known.get(row, True) for row in rows])

    first = marked(loader, 0)
    assert 0 < first.sum() < 25
    assert np.array_equal(first, marked(loader, 0))
    assert not np.array_equal(first, marked(loader, 1))
    assert not np.array_equal(first, marked(replace(loader, seed=9), 0))
    assert not marked(replace(loader, config=LoadConfig(past=10, unknown=0)), 0).any()


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_marks_are_about_as_many_as_asked(loader: Loader, share: float) -> None:
    counting = replace(loader, config=LoadConfig(unknown=share))
    marks = np.concatenate([counting._marked(epoch, np.arange(1000)) for epoch in range(20)])
    assert abs(marks.mean() - share) < 5 * np.sqrt(share * (1 - share) / len(marks))


def test_only_training_batches_mark(loader: Loader, encoding: Encoding) -> None:
    item = loader.data.rows(loader.position)[:, None]
    batch = loader.assemble(loader.position, item)
    assert np.array_equal(batch.known.numpy(), encoding.catalogue.known[batch.row.numpy()])
    assert batch.label is None
    assert batch.negative is None
    training = loader.batch(loader.position, 0)
    never = ~encoding.catalogue.known[training.row.numpy()]
    assert not training.known.numpy()[never].any()


def test_an_item_without_training_rows_is_not_known(loader: Loader, encoding: Encoding) -> None:
    cold = encoding.catalogue.items.encode(["i0"])
    batch = loader.assemble(loader.position[:1], np.array([[int(cold[0]), 0]]))
    assert batch.known[batch.item[0]].tolist() == [False, False]


# What a batch takes


def sizes_of(value: Batch | History) -> list[int]:
    """How many numbers each tensor holds."""
    return [tensor.numel() for f in fields(value) if isinstance(tensor := getattr(value, f.name), torch.Tensor)]


def test_a_batch_takes_what_its_events_take() -> None:
    crowd = [[(0, True)]] * 300 + [[(at, True) for at in range(5)] * 40]
    loader = loader_of(small_log(crowd), LoadConfig(past=50, negatives=1, unknown=0), others=True)
    position = np.append(np.arange(300), loader.data.log.size - 1)
    batch = loader.batch(position, 0)
    assert batch.history.events.total == 50
    assert max(sizes_of(batch.history)) == 50
    assert max(sizes_of(batch)) <= 2 * len(position)
    assert len(batch.history.item) == len(batch.history.time) == 50


@settings(max_examples=60, deadline=None)
@given(PASTS, st.integers(1, 4))
def test_latest_keeps_the_last_of_each_person(pasts: Pasts, most: int) -> None:
    log = small_log(pasts)
    if not log.positive.any():
        return
    kept = loader_of(log, LoadConfig(latest=most, negatives=1)).position.tolist()
    mine = [[at for at in range(log.start[user], log.start[user + 1]) if log.positive[at]] for user in range(len(pasts))]
    assert kept == [at for positives in mine for at in positives[-most:]]


def test_without_negatives_the_log_s_own_labels_are_learned_from(log: Log, split: Split, data: EncodedLog) -> None:
    with pytest.raises(ConfigError) as caught:
        Loader.for_training(data, split.train, LoadConfig(negatives=0), 0)
    assert str(caught.value) == "data.negatives is 0, but every training event is a positive: there is nothing to tell them from."


def test_load_config_out_of_range() -> None:
    with pytest.raises(ConfigError) as caught:
        read(LoadConfig, {"past": -1, "negatives": -1, "latest": 0, "unknown": 1.0})
    assert str(caught.value).splitlines() == [
        "LoadConfig: past is -1; input should be greater than or equal to 0.",
        "LoadConfig: negatives is -1; input should be greater than or equal to 0.",
        "LoadConfig: latest is 0; input should be greater than or equal to 1.",
        "LoadConfig: unknown is 1.0; input should be less than 1.",
    ]


# Parts


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_ranges(parts: list[tuple[int, int]]) -> None:
    start, length = (np.array([part[side] for part in parts], dtype=np.int64) for side in (0, 1))
    assert ranges(start, length).tolist() == [at for begin, size in parts for at in range(begin, begin + size)]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=10), min_size=1, max_size=4))
def test_marking_and_sorting_find_the_same_rows(parts: list[list[int]]) -> None:
    columns = [np.array(part, dtype=np.int64) for part in parts]
    ways = [distinct(size, *columns) for size in (31, 10_000)]  # few enough to mark, and too many
    for row, places in ways:
        assert row.tolist() == sorted({value for part in parts for value in part})
        assert [row[place].tolist() for place in places] == parts
        assert row.dtype == np.int64


def test_distinct_keeps_the_shape_of_each_part() -> None:
    row, (one, two) = distinct(9, np.array([[5, 2], [2, 8]]), np.zeros((0, 3), np.int64))
    assert row.tolist() == [2, 5, 8]
    assert one.tolist() == [[1, 0], [0, 2]]
    assert two.shape == (0, 3)


def test_collate(encoding: Encoding) -> None:
    ints, floats = (lambda *shape: np.zeros(shape, np.int64)), (lambda *shape: np.zeros(shape, np.float32))
    requests = Requests(
        user=ints(2, 2),
        user_number=floats(2, 2),
        context=ints(2, 3),
        number=floats(2, 2),
        time=np.array([5, 6]),
        item=np.array([[7, 3], [3, 0]]),
        further=np.array([[2], [9]]),
        further_log_q=np.array([[-1.5], [-2]], np.float32),
        label=np.array([[1, 0], [0, 1]], np.float32),
        weight=np.array([[1, 1], [1, 0]], np.float32),
    )
    pasts = PastFacts(
        item=np.array([9, 7, 9]),
        time=np.array([1, 2, 3]),
        action=ints(3, 1),
        number=floats(3, 2),
        length=np.array([0, 3]),
        other=np.array([4, 5, 4]),
    )
    batch = collate(encoding, requests, pasts, marked=lambda row: row == 9)
    assert batch.row.tolist() == [0, 3, 4, 5, 7, 9, 2]  # 2 was drawn, and is nothing else; 9 is in a past too
    assert batch.first_drawn == 6
    assert batch.known.tolist() == [row != 9 and bool(encoding.catalogue.known[row]) for row in batch.row.tolist()]
    assert batch.known.tolist().count(False) == 2
    assert batch.row[batch.item].tolist() == [[7, 3], [3, 0]]
    assert batch.row[batch.history.item].tolist() == [9, 7, 9]
    assert batch.history.other is not None
    assert batch.row[batch.history.other].tolist() == [4, 5, 4]
    assert batch.negative is not None
    assert batch.row[batch.negative].tolist() == [[2], [9]]
    assert batch.negative_log_q is not None
    assert batch.negative_log_q.tolist() == [[-1.5], [-2]]
    assert batch.history.events.start.tolist() == [0, 0, 3]
    assert batch.weight is not None
    assert batch.weight.tolist() == [[1, 1], [1, 0]]
    alone = collate(encoding, replace(requests, further=None, further_log_q=None), pasts)
    assert (alone.row.tolist(), alone.first_drawn, alone.negative) == ([0, 3, 4, 5, 7, 9], None, None)
    assert (batch.take(torch.tensor([1])).first_drawn, batch.candidates(slice(1)).first_drawn) == (6, 6)
    every = collate(encoding, requests, pasts, catalogue=True)
    assert every.first_drawn == len(every.row)  # nothing is drawn that is not there anyway
    assert every.row[every.negative].tolist() == [[2], [9]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=8), st.lists(st.integers(0, 12), min_size=2, max_size=8), st.booleans())
def test_what_was_only_drawn_stands_last(encoding: Encoding, met: list[int], drawn: list[int], others: bool) -> None:
    ints, floats = (lambda *shape: np.zeros(shape, np.int64)), (lambda *shape: np.zeros(shape, np.float32))
    facts: dict[str, Any] = {
        "user": ints(1, 2),
        "user_number": floats(1, 2),
        "context": ints(1, 3),
        "number": floats(1, 2),
        "time": ints(1),
    }
    requests = Requests(**facts, item=np.array([met[:1]]), further=np.array([drawn]))
    past, other = np.array(met[1:-1], np.int64), np.array(met[2:], np.int64)
    pasts = PastFacts(
        item=past,
        time=ints(len(past)),
        action=ints(len(past), 1),
        number=floats(len(past), 2),
        length=np.array([len(past)]),
        other=other if others else None,
    )
    batch = collate(encoding, requests, pasts)
    first, spoken = batch.first_drawn, {met[0], *met[1:-1], *(met[2:] if others else [])}
    assert batch.row[:first].tolist() == sorted(spoken)
    assert batch.row[first:].tolist() == sorted(set(drawn) - spoken)
    assert batch.negative is not None
    assert batch.row[batch.negative].tolist() == [drawn]
    assert batch.row[batch.item].tolist() == [met[:1]]
    assert batch.row[batch.history.item].tolist() == met[1:-1]
    assert batch.known.tolist() == encoding.catalogue.known[batch.row.numpy()].tolist()
    if others:
        assert batch.history.other is not None
        assert batch.row[batch.history.other].tolist() == met[2:]
