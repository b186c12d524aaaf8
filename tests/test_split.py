"""Which events are learned from and which are judged by, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from test_log import PASTS, Pasts, small_log

from penchant.data.log import Log
from penchant.data.split import leave_last_out, split_of
from penchant.errors import DataError


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
