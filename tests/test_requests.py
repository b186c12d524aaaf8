"""Logged requests: what they showed trains together, past one past that ends before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.replay import request_at
from penchant.data.split import SplitConfig, split_of
from penchant.errors import ConfigError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import auc
from penchant.models import build
from penchant.schema import Schema

SCHEMA: dict[str, Any] = {
    "name": "feed",
    "events": {
        "file": "events.csv",
        "label": {"column": "stars", "at_least": 4, "range": [1, 5]},
        "weight": "weight",
        "context": {"device": {}},
        "action": {"stars": {}},
        "moment": ["tenure"],
        "impressions": {"request": "request", "shown": {"position": {}, "price": {"kind": "number"}}},
    },
}
PEOPLE, REQUESTS, ITEMS = 20, 12, 30


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Requests of two to four items; a few have no click, some have two."""
    random, out = np.random.default_rng(3), []
    for person in range(PEOPLE):
        for request in range(REQUESTS):
            time = 10**9 + 90_000 * request + person
            shown = random.choice(ITEMS, size=2 + request % 3, replace=False)
            stars = random.integers(1, 6, size=len(shown))
            if request in (0, 5, 11):
                stars[0] = 5
            for position, (item, given) in enumerate(zip(shown, stars, strict=True)):
                price = "" if item % 7 == 0 else f"{item + request / 8}"
                out.append(
                    {
                        "user": f"u{person}",
                        "item": f"i{item}",
                        "time": time + position,  # the request's moment is the earliest
                        "stars": int(given),
                        "weight": 1 + int(item) % 3,
                        "device": ["phone", "desk"][request % 2],
                        "request": f"r{person}-{request}",
                        "position": position,
                        "price": price,
                    }
                )
    random.shuffle(out)
    return out


@pytest.fixture(scope="module")
def feed(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("feed")
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    return prepare(folder, folder / "log", read(Schema, SCHEMA))


@pytest.fixture(scope="module")
def seen(feed: Log) -> EncodedLog:
    return EncodedLog(feed, fit_encoding(feed, split_of(feed).train))


def loader(seen: EncodedLog, **config: Any) -> Loader:
    train = split_of(seen.log).train
    return Loader.for_training(seen, train, read(LoadConfig, {"past": 100, "negatives": 0, "unknown": 0.0, **config}), 0)


def raw_of(feed: Log, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rows[at] for at in feed.events["source"]]


def test_the_rows_of_a_request_stand_together_at_one_time(feed: Log, rows: list[dict[str, Any]]) -> None:
    ordered = raw_of(feed, rows)
    names = [row["request"] for row in ordered]
    begins = [at for at in range(feed.size) if at == 0 or names[at] != names[at - 1]]
    assert len(begins) == len(set(names)) == PEOPLE * REQUESTS
    assert feed.begin(np.arange(feed.size)).tolist() == [max(b for b in begins if b <= at) for at in range(feed.size)]
    first = {name: min(row["time"] for row in rows if row["request"] == name) for name in set(names)}
    assert feed.events["time"].tolist() == [first[name] * 1000 for name in names]


def test_a_past_ends_before_its_request_and_holds_what_was_chosen(feed: Log, seen: EncodedLog) -> None:
    positive, begin = feed.positive, feed.begin(np.arange(feed.size))
    for tie in ("order", "strict"):
        past, length = seen.past(np.arange(feed.size), 1000, tie)
        ends = np.cumsum(length)
        for at in range(feed.size):
            user = feed.user_of(np.array([at]))[0]
            wanted = [one for one in range(feed.start[user], begin[at]) if positive[one]]
            assert past[ends[at] - length[at] : ends[at]].tolist() == wanted


def test_an_epoch_has_every_row_once_as_it_was_shown(feed: Log, seen: EncodedLog, rows: list[dict[str, Any]]) -> None:
    ordered, train = raw_of(feed, rows), split_of(feed).train
    mine = loader(seen)
    values = seen.encoding.vocabularies["shown.position"].values.to_pylist()
    got, sizes = [], []
    for batch in mine.epoch(3, 7):
        sizes.append(batch.item.shape)
        assert batch.label is not None
        assert batch.weight is not None
        items = seen.encoding.catalogue.items.decode(batch.row[batch.item].reshape(-1).numpy())
        position = [values[code - 1] for code in batch.shown.code[..., 0].reshape(-1).tolist()]
        price = batch.shown.number.reshape(-1, 2).tolist()
        label, weight = batch.label.reshape(-1).tolist(), batch.weight.reshape(-1).tolist()
        time = batch.time.repeat_interleave(batch.item.shape[1]).tolist()
        got += list(zip(items, position, label, weight, time, [p[1] for p in price], strict=True))
    assert len(sizes) == mine.steps(7)
    assert {candidates for _, candidates in sizes} == {2, 3, 4}
    assert max(requests for requests, _ in sizes) == 7
    times = feed.events["time"]
    wanted = [
        (
            ordered[at]["item"],
            str(ordered[at]["position"]),
            float(ordered[at]["stars"] >= 4),
            float(ordered[at]["weight"]),
            int(times[at]),
            float(ordered[at]["price"] == ""),
        )
        for at in train
    ]
    assert sorted(got) == sorted(wanted)
    again = [batch.item.shape for batch in mine.epoch(3, 7)]
    other = [batch.item.shape for batch in mine.epoch(4, 7)]
    assert again == sizes
    assert other != sizes


def test_an_epoch_from_its_middle_and_in_halves_is_the_same(seen: EncodedLog) -> None:
    mine = loader(seen)
    whole = list(mine.epoch(0, 8))
    rest = list(mine.epoch(0, 8, start=5))
    assert [torch.equal(a.time, b.time) for a, b in zip(whole[5:], rest, strict=True)] == [True] * len(rest)
    halves = [list(mine.epoch(0, 8, part=(k, 2))) for k in range(2)]
    for one, left, right in zip(whole, *halves, strict=True):
        assert torch.equal(one.time, torch.cat([left.time, right.time]))


def test_explicit_targets_are_scaled_values(feed: Log, seen: EncodedLog, rows: list[dict[str, Any]]) -> None:
    stars = {(row["request"], row["item"]): row["stars"] for row in rows}
    ordered = raw_of(feed, rows)
    assert np.allclose(feed.events["value"], [(row["stars"] - 1) / 4 for row in ordered])
    found = sorted(round(value, 6) for batch in loader(seen, target="explicit").epoch(0, 16) for value in batch.label.reshape(-1).tolist())
    train = split_of(feed).train
    assert found == sorted((stars[ordered[at]["request"], ordered[at]["item"]] - 1) / 4 for at in train)


def test_with_negatives_the_examples_are_what_was_chosen(feed: Log, seen: EncodedLog) -> None:
    mine = loader(seen, negatives=2)
    train = split_of(feed).train
    assert mine.position.tolist() == train[feed.positive[train]].tolist()
    batch = mine.batch(mine.position[:9], 0)
    assert batch.shown.code.eq(0).all()  # how a drawn item would have been shown is not known
    assert batch.shown.number[..., 1].eq(1).all()
    assert batch.weight is not None
    assert torch.equal(batch.weight[:, 1], batch.weight[:, 0])  # a weight is of an example


def test_what_is_served_is_what_was_trained(feed: Log, seen: EncodedLog) -> None:
    """The past of a request, and the time since its person was first seen, by the raw request as by the Log."""
    model = build(seen.encoding, "din", {"attention": (8,), "head": (8,), "profile": 4}).eval()
    from penchant.bundle import Bundle
    from penchant.nn.item import ItemConfig
    from penchant.scorer import Scorer

    bundle = Bundle(name="din", model=model, encoding=seen.encoding, config={}, item=ItemConfig(), past=50, tie="order")
    position = split_of(feed).test[:10]
    batch = Loader(data=seen, position=position, config=LoadConfig(past=50), seed=0).assemble(position, seen.rows(position)[:, None])
    logit = model(batch).logit[:, 0].tolist()
    assert batch.context[:, 0].min() > 1  # days since first seen
    for at, wanted in zip(position.tolist(), logit, strict=True):
        item = feed.items.column("id")[int(feed.events["item"][at])].as_py()
        assert Scorer(bundle).score(request_at(feed, at), [item]).logit[0] == pytest.approx(wanted, abs=1e-5)


def test_splits_do_not_cut_a_request(feed: Log) -> None:
    for name in ("leave-last-out", "time", "ratio", "random"):
        split = split_of(feed, SplitConfig(name=name))
        part = np.full(feed.size, -1)
        for number, mine in enumerate((split.train, split.valid, split.test)):
            part[mine] = number
        begin = feed.begin(np.arange(feed.size))
        trained = part == 0
        assert (trained == trained[begin]).all(), name
        if name == "ratio":  # of 12 requests one tests and one validates
            assert [len(np.unique(begin[part == number])) for number in range(3)] == [10 * PEOPLE, PEOPLE, PEOPLE]


def test_a_model_is_judged_on_them(seen: EncodedLog) -> None:
    model = build(seen.encoding, "pooling", {"head": (8,), "profile": 4})
    judged = judge(model, seen, split_of(seen.log), PROTOCOLS["loo-full"], past=10)
    assert judged.people == PEOPLE


def test_explicit_needs_a_range_and_no_negatives(seen: EncodedLog) -> None:
    with pytest.raises(ConfigError) as caught:
        loader(seen, target="explicit", negatives=1)
    assert str(caught.value) == "LoadConfig: data.target 'explicit' learns from the log's own values; set data.negatives = 0"


def test_feed_is_whole(tmp_path: Path, feed: Log) -> None:
    assert {name for name in feed.events if "." in name} == {"action.stars", "context.device", "shown.position", "shown.price"}
    assert {"request", "label", "value", "weight"} <= set(feed.events)


def test_impressions_are_judged_among_what_was_shown(feed: Log, seen: EncodedLog) -> None:
    torch.manual_seed(1)
    model = build(seen.encoding, "deepfm", {}).eval()
    split = split_of(feed)
    judged = judge(model, seen, split, PROTOCOLS["impressions"], past=10)
    begin, positive, of_part = feed.begin(np.arange(feed.size)), feed.positive, set(feed.begin(split.test).tolist())
    shown = {at: [one for one in range(feed.size) if begin[one] == at] for at in sorted(of_part)}
    mixed = [at for at, rows in shown.items() if len({bool(positive[row]) for row in rows}) == 2]
    assert 0 < len(mixed) < len(of_part)
    assert judged.position.tolist() == mixed
    assert judged.user.tolist() == feed.user_of(np.array(mixed)).tolist()
    assert judged.dropped == PEOPLE - judged.people
    alone = Loader(data=seen, position=np.array(mixed), config=LoadConfig(past=10), seed=0)
    values = []
    for place, at in enumerate(mixed):
        rows = np.array([shown[at]])
        logit = model(alone.assemble(np.array([at]), seen.rows(rows), shown=rows)).logit[0].detach().numpy()
        values.append(auc(logit, positive[rows[0]]))
        assert judged.lists.rows[place] == rows.size
    assert judged.value("gauc") == pytest.approx(np.mean(values))


def test_a_log_without_impressions_is_not_judged_by_them(log: Log, data: EncodedLog, split: Any) -> None:
    model = build(data.encoding, "popularity", {})
    with pytest.raises(ConfigError) as caught:
        judge(model, data, split, PROTOCOLS["impressions"], past=10)
    assert str(caught.value) == (
        f"{log.folder}: this log does not say what requests showed (schema: events.impressions); judge by another protocol."
    )


def test_rows_of_their_own_labels_have_further_draws_too(seen: EncodedLog) -> None:
    train = split_of(seen.log).train
    config = read(LoadConfig, {"past": 100, "negatives": 0, "unknown": 0.0})
    drawn = Loader.for_training(seen, train, config, 0, further=6)
    batch = drawn.batch(drawn.position[drawn.rows == 3][:4], 0)
    assert batch.negative is not None
    assert batch.negative_log_q is not None
    assert batch.negative.shape == batch.negative_log_q.shape == (4, 6)
    chosen = train[seen.log.positive[train]]
    for r in range(4):
        user = int(batch.user.code[r, 0])
        own = set(seen.rows(chosen[seen.user[seen.log.user_of(chosen), 0] == user]).tolist())
        assert not own & set(batch.row[batch.negative[r]].tolist())


def test_a_past_says_what_was_chosen_where_losses_ask(feed: Log) -> None:
    """A log that keeps what people disliked in their pasts."""
    schema = read(Schema, {**SCHEMA, "events": {key: value for key, value in SCHEMA["events"].items() if key != "impressions"}})
    kept = prepare(feed.folder.parent, feed.folder.parent / "kept", schema)
    data = EncodedLog(kept, fit_encoding(kept, split_of(kept).train))
    made = Loader.for_training(data, split_of(kept).train, read(LoadConfig, {"past": 30, "negatives": 1}), 0, others=True)
    batch = made.batch(made.position[:50], 0)
    past, _ = data.past(made.position[:50], 30, "order")
    assert batch.history.chosen is not None
    assert batch.history.chosen.tolist() == kept.positive[past].astype(float).tolist()
    assert 0 < batch.history.chosen.mean() < 1
    plain = Loader.for_training(data, split_of(kept).train, read(LoadConfig, {"past": 30, "negatives": 1}), 0)
    assert plain.batch(plain.position[:5], 0).history.chosen is None
