"""Which events are learned from and which are judged by, against a plain loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_log import PASTS, Pasts, small_log

from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets import get
from penchant.data.split import SplitConfig, leave_last_out, split_of
from penchant.errors import ConfigError, DataError, PenchantError
from penchant.schema import Schema


@settings(max_examples=80, deadline=None)
@given(PASTS)
def test_leave_last_out_equals_a_loop(pasts: Pasts) -> None:
    log = small_log(pasts)
    train: list[int] = []
    valid, test, dropped = [], [], 0
    for user in range(len(pasts)):
        mine = range(log.start[user], log.start[user + 1])
        positives = [at for at in mine if log.events["label"][at] > 0]
        if len(positives) < 3:
            dropped += 1
            train += mine
            continue
        test.append(positives[-1])
        valid.append(positives[-2])
        train += [at for at in mine if at < positives[-2]]
    if not test:
        with pytest.raises(DataError) as caught:
            leave_last_out(log)
        assert str(caught.value) == f"small: nobody of {len(pasts)} people has 3 positive events, so there is nothing to judge by."
        return
    split = leave_last_out(log)
    assert split.name == "leave-last-out"
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist(), split.dropped) == (train, valid, test, dropped)
    assert len({*train, *valid, *test}) == len(train) + len(valid) + len(test)
    assert {split.train.dtype, split.valid.dtype, split.test.dtype} == {np.dtype(np.int64)}


def test_of_tied_events_the_last_in_source_order_tests() -> None:
    split = leave_last_out(small_log([[(0, True)] * 4]))
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0, 1], [2], [3])


def test_negatives_after_the_validation_event_are_not_learned_from() -> None:
    events = [(0, True), (1, False), (2, True), (3, False), (4, True), (5, False)]
    split = leave_last_out(small_log([events, [(0, True), (1, False)]]))
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist(), split.dropped) == ([0, 1, 6, 7], [2], [4], 1)


def test_nobody_can_be_judged() -> None:
    with pytest.raises(DataError) as caught:
        leave_last_out(small_log([[(0, True), (1, True), (2, False)]] * 1200))
    assert str(caught.value) == "small: nobody of 1,200 people has 3 positive events, so there is nothing to judge by."


def test_of_a_prepared_log(log: Log) -> None:
    split = split_of(log)
    assert split.test.tolist() == (log.start[1:] - 1).tolist()
    assert split.valid.tolist() == (log.start[1:] - 2).tolist()
    assert len(split.train) == log.size - 2 * len(log.users)
    assert split.dropped == 0


def parts(log: Log, config: SplitConfig) -> list[int]:
    """Which part each event is in: 0, 1, 2 by what the split's text says, or an error's text."""
    n, time = log.size, log.events["time"].tolist()
    if config.name == "time":
        ordered = sorted(time)
        first, second = ordered[int(n * round(1 - config.valid - config.test, 9))], ordered[int(n * round(1 - config.test, 9))]
        return [(at >= first) + (at >= second) for at in time]
    found = []
    for user in range(len(log.users)):
        mine = int(log.start[user + 1] - log.start[user])
        test, valid = int(mine * config.test + 1e-9), int(mine * config.valid + 1e-9)
        found += [0] * (mine - valid - test) + [1] * valid + [2] * test
    return found


@settings(max_examples=80, deadline=None)
@given(PASTS, st.sampled_from(["time", "ratio"]), st.sampled_from([(0.1, 0.1), (0.25, 0.5), (0.0, 0.3)]))
def test_time_and_ratio_equal_a_loop(pasts: Pasts, name: str, shares: tuple[float, float]) -> None:
    log = small_log(pasts)
    config = read(SplitConfig, {"name": name, "valid": shares[0], "test": shares[1]})
    wanted = parts(log, config)
    positive = log.positive.tolist()
    for part, what in ((0, "train"), (2, "test")):
        if not any(positive[at] for at in range(log.size) if wanted[at] == part):
            with pytest.raises(DataError) as caught:
                split_of(log, config)
            assert str(caught.value) == f"small: split '{name}' leaves no positive event in the part '{what}'."
            return
    split = split_of(log, config)
    assert [split.train.tolist(), split.valid.tolist(), split.test.tolist()] == [
        [at for at in range(log.size) if wanted[at] == part] for part in range(3)
    ]
    assert split.hidden is None
    user = log.user_of(np.arange(log.size)).tolist()
    for part in ("valid", "test"):
        mine = {user[at]: at for at in getattr(split, part).tolist() if positive[at]}  # the last of each person
        assert split.judged(log, part).tolist() == sorted(mine.values())
    assert split.dropped == len(pasts) - len({user[at] for at in split.test.tolist() if positive[at]})
    if name == "time":
        assert max(log.events["time"][split.train]) < min(log.events["time"][split.test])


def test_moments_cut_by_time() -> None:
    log = small_log([[(86_400, True), (2 * 86_400, True), (3 * 86_400, True), (4 * 86_400, True)]])
    config = read(SplitConfig, {"name": "time", "valid_from": "1970-01-03", "test_from": "1970-01-04T01:00+01:00"})
    split = split_of(log, config)
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0], [1], [2, 3])


def test_chance_is_fair_and_hides_what_it_judges_by(log: Log) -> None:
    config = read(SplitConfig, {"name": "random", "valid": 0.2, "test": 0.3})
    split = split_of(log, config)
    share = np.array([len(split.train), len(split.valid), len(split.test)]) / log.size
    assert np.abs(share - [0.5, 0.2, 0.3]).max() < 4 * 0.5 / log.size**0.5
    again = split_of(log, config.model_copy(update={"seed": 1}))
    assert not np.array_equal(again.test, split.test)
    data = EncodedLog(log, fit_encoding(log, split.train), split.hidden)
    everything = np.arange(log.size)
    past, length = data.past(everything, log.size, "order")
    assert set(past.tolist()) <= set(split.train.tolist())
    before = [
        sum(log.start[user] <= at < here for at in split.train) for here, user in zip(everything, log.user_of(everything), strict=True)
    ]
    assert length.tolist() == before


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_an_item_is_wholly_in_one_part(log: Log, seed: int) -> None:
    config = read(SplitConfig, {"name": "items", "valid": 0.2, "test": 0.3, "seed": seed})
    split, item = split_of(log, config), log.events["item"]
    parts = [set(item[part].tolist()) for part in (split.train, split.valid, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(np.unique(item))
    assert sorted([*split.train, *split.valid, *split.test]) == list(range(log.size))
    assert split.hidden is not None
    assert np.flatnonzero(~split.hidden).tolist() == split.train.tolist()
    assert not fit_encoding(log, split.train).catalogue.known[1:][sorted(parts[1] | parts[2])].any()
    turned = replace(log, events={**log.events, "item": item[::-1]})
    assert set(turned.events["item"][split_of(turned, config).test].tolist()) == parts[2]  # by the item alone, whatever happens to it


def test_items_fall_into_parts_in_the_shares_that_were_asked_for(log: Log) -> None:
    happened = len(np.unique(log.events["item"]))
    config = [read(SplitConfig, {"name": "items", "valid": 0.0, "test": 0.4, "seed": seed}) for seed in range(30)]
    held = [tuple(np.unique(log.events["item"][split_of(log, one).test]).tolist()) for one in config]
    assert np.mean([len(one) for one in held]) / happened == pytest.approx(0.4, abs=4 * (0.24 / happened / 30) ** 0.5)
    assert len(set(held)) == 30


def test_requests_have_items_of_several_parts(tmp_path: Path) -> None:
    rows = "".join(f"a,i{at},{10**9 + at // 3},{int(at % 3 == 0)}\n" for at in range(9))
    (tmp_path / "events.csv").write_text("user,item,time,click\n" + rows)
    label = {"column": "click", "at_least": 1}
    schema = read(Schema, {"name": "feed", "events": {"file": "events.csv", "label": label, "impressions": {}}})
    log = prepare(tmp_path, tmp_path / "log", schema)
    with pytest.raises(ConfigError) as caught:
        split_of(log, SplitConfig(name="items"))
    assert str(caught.value) == (
        "split 'items' takes single events apart; the rows of this log's requests (events.impressions) belong together."
    )


def columned(text: str, tmp_path: Path) -> Log:
    (tmp_path / "events.csv").write_text("user,item,time,part\n" + text)
    schema = read(Schema, {"name": "parts", "events": {"file": "events.csv", "split": "part"}})
    return prepare(tmp_path, tmp_path / "log", schema)


def test_a_column_says_it(tmp_path: Path) -> None:
    rows = [("a", 1, "train"), ("a", 2, "valid"), ("a", 3, "test"), ("b", 1, "train"), ("b", 2, "train"), ("b", 9, "test")]
    log = columned("".join(f"{user},i{at},{10**9 + time},{part}\n" for at, (user, time, part) in enumerate(rows)), tmp_path)
    split = split_of(log, SplitConfig(name="column"))
    assert (split.train.tolist(), split.valid.tolist(), split.test.tolist()) == ([0, 3, 4], [1], [2, 5])
    assert (split.hidden, split.dropped) == (None, 0)


def test_a_column_out_of_order_hides_what_it_judges_by(tmp_path: Path) -> None:
    log = columned("".join(f"a,i{at},{10**9 + at},{part}\n" for at, part in enumerate(["test", "train", "valid", "train"])), tmp_path)
    split = split_of(log, SplitConfig(name="column"))
    assert split.hidden is not None
    assert split.hidden.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"valid": 0.5, "test": 0.5}, "split.valid and split.test are 0.5 and 0.5: nothing would be left to train by"),
        ({"name": "time", "test_from": "2024-01-01"}, "split.valid_from and split.test_from go together"),
        ({"valid_from": "2024-01-01", "test_from": "2024-01-02"}, "split.valid_from cuts by time; the split is 'leave-last-out'"),
    ],
)
def test_ill_formed(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(SplitConfig, config)
    assert str(caught.value) == f"SplitConfig: {message}"


def test_what_a_log_does_not_have() -> None:
    log = small_log([[(0, True), (1, True), (2, True)]])
    found = []
    for config in ({"name": "column"}, {"name": "time", "valid_from": "soon", "test_from": "later"}):
        with pytest.raises(PenchantError) as caught:
            split_of(log, read(SplitConfig, config))
        found.append(str(caught.value))
    assert found == [
        "split 'column' needs a column that says train, valid, test: name it as events.split in the schema.",
        "split: 'soon' is no ISO 8601 moment such as '2024-03-01' or '2024-03-01T12:00+01:00'.",
    ]


# Counted by a plain loop over the raw files, apart from "random", which is ours alone: train, valid, test, people not tested.
GOLDEN = {
    ("movielens-1m", "leave-last-out"): (988_129, 6_040, 6_040, 0),
    ("movielens-1m", "time"): (800_164, 100_024, 100_021, 4_831),
    ("movielens-1m", "ratio"): (805_443, 97_383, 97_383, 0),
    ("movielens-1m", "random"): (799_880, 100_231, 100_098, 70),
    ("amazon-beauty", "leave-last-out"): (153_776, 22_363, 22_363, 0),
    ("amazon-beauty", "time"): (158_689, 19_666, 20_147, 16_175),
    ("amazon-beauty", "ratio"): (183_246, 7_628, 7_628, 17_240),
    ("amazon-beauty", "random"): (158_626, 20_007, 19_869, 10_198),
}


@pytest.mark.data
@pytest.mark.parametrize("name", ["movielens-1m", "amazon-beauty"])
def test_golden_counts(name: str, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_DATA", str(real_data))
    get(name, tmp_path / "raw")
    log = prepare(tmp_path / "raw", tmp_path / "log")
    for (of, kind), wanted in GOLDEN.items():
        if of == name:
            split = split_of(log, read(SplitConfig, {"name": kind}))
            assert (len(split.train), len(split.valid), len(split.test), split.dropped) == wanted, kind


def test_moments_in_the_wrong_order() -> None:
    log = small_log([[(0, True), (1, True), (2, True)]])
    with pytest.raises(ConfigError) as caught:
        split_of(log, read(SplitConfig, {"name": "time", "valid_from": "2024-02-01", "test_from": "2024-01-01"}))
    assert str(caught.value) == "split: valid_from 2024-02-01 is not before test_from 2024-01-01."
