"""Raw requests answered by a bundle: no skew, nothing refused for being unknown, items that arrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from penchant.batch import Memory
from penchant.bundle import Bundle, load_bundle
from penchant.calibration import Identity, Platt
from penchant.data.encoded import EncodedLog
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.replay import request_at, request_now, user_number
from penchant.data.split import Split
from penchant.errors import DataError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.models import MODELS
from penchant.request import Event, Request
from penchant.scorer import Scorer
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

PAST = 7
NOW = 1_600_000_000_000  # unix milliseconds


@pytest.fixture(scope="module", params=MODELS)
def bundle(request: pytest.FixtureRequest, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    fast = TrainConfig(epochs=1, batch_size=64, rate=1e-2)
    config = RunConfig(
        log=str(log.folder), model={"name": request.param}, data=LoadConfig(past=PAST, negatives=1), train=fast, protocol="loo-full"
    )
    return load_bundle(fit(config, tmp_path_factory.mktemp("run") / "run", log=log).folder / "bundle")


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle)


def test_no_skew(bundle: Bundle, scorer: Scorer, log: Log, split: Split) -> None:
    """A raw request is scored as evaluation scores its row: every person's test event, against the whole catalogue."""
    loader = Loader(data=EncodedLog(log, bundle.encoding), position=split.test, config=LoadConfig(past=PAST), seed=0)
    ids = log.items.column("id").to_pylist()
    rows = bundle.encoding.catalogue.items.encode(ids)
    batch = loader.assemble(split.test, np.broadcast_to(rows, (len(split.test), len(rows))))
    with torch.inference_mode():
        wanted = bundle.model(batch).logit.numpy()
    for at, position in enumerate(split.test):
        scored = scorer.score(request_at(log, int(position)), ids)
        np.testing.assert_allclose(scored.logit, wanted[at], rtol=1e-5, atol=1e-5)


def test_the_order_of_past_and_types_of_ids_and_times_do_not_matter(scorer: Scorer) -> None:
    events = [Event(item=f"i{i}", time=1_000_000_000_000 + i * 1000, action={"kind": "buy"}) for i in range(5)]
    then = datetime(2001, 9, 10, tzinfo=UTC)
    request = Request(user="u1", time=then, past=events, context={"device": "phone", "battery": 0.5}, profile={"town": "town1", "age": 30})
    turned = Request(
        user="u1",
        time=int(then.timestamp() * 1000),
        past=events[::-1],
        context={"device": "phone", "battery": "0.5"},
        profile={"town": "town1", "age": "30"},
    )
    assert np.array_equal(scorer.score(request, ["i7", "i8"]).logit, scorer.score(turned, ["i7", "i8"]).logit)


def test_everything_unknown_is_scored_and_said(scorer: Scorer) -> None:
    past = [Event(item="never", time=NOW - 5, action={"kind": "gift"})]
    scored = scorer.score(Request(user="nobody", time=NOW, past=past, context={"device": "watch"}, profile={}), ["i5", "gone", "i0"])
    assert np.isfinite(scored.logit).all()
    assert scored.unknown_user
    assert scored.unknown_items == ("gone", "i0", "never")  # i0 has no events at all
    assert scored.unknown_values == ("user.town", "user.age", "context.device", "context.battery", "action.kind", "action.dwell")
    assert scored.past == 1


def test_an_empty_past_and_nobody(scorer: Scorer) -> None:
    scored = scorer.recommend(Request(time=NOW), 5, reasons=2)
    assert len(scored.item) == 5
    assert np.isfinite(scored.logit).all()
    assert scored.unknown_user
    assert scored.past == 0
    assert all(reasons == () for reasons in scored.reasons)


def test_recommend_is_the_best_of_score(scorer: Scorer, log: Log) -> None:
    request = request_now(log, user_number(log, "u7"))
    top = scorer.recommend(request, 6)
    done = {str(event.item) for event in request.past}
    others = [raw for raw in log.items.column("id").to_pylist() if raw not in done]
    every = scorer.score(request, others)
    best = sorted(every.logit.tolist(), reverse=True)[:6]
    np.testing.assert_allclose(top.logit, best, rtol=1e-5, atol=1e-6)
    assert not done & set(top.item)
    again = scorer.recommend(request, len(others) + len(done), repeat=True)
    assert done < set(again.item)
    assert top.title[0] == f"Item {top.item[0][1:]}"


def test_reasons_are_the_events_that_spoke_most_for_an_item(bundle: Bundle, scorer: Scorer, log: Log) -> None:
    request = request_now(log, user_number(log, "u7"))
    scored = scorer.score(request, ["i5", "i6"], reasons=3)
    if bundle.name in ("popularity", "mf"):
        assert scored.reasons == ()
        return
    last = [str(event.item) for event in request.past[-PAST:]]
    for reasons in scored.reasons:
        assert len(reasons) <= 3
        assert all(reason.item in last and reason.title == f"Item {reason.item[1:]}" for reason in reasons)
        assert [r.say for r in reasons] == sorted((r.say for r in reasons), reverse=True)
        assert all(r.say > 0 for r in reasons)


def test_an_item_that_arrives_is_scored_by_its_attributes(bundle: Bundle) -> None:
    mine = Scorer(bundle)
    request = Request(time=NOW, past=[Event(item="i5", time=NOW - 5)])
    before = mine.score(request, ["i5", "i6", "i7", "i8"]).logit
    mine.add_items([{"id": "new1", "title": "New", "maker": "maker1", "tags": ["tag0"], "price": 7}, {"id": "new2"}])
    scored = mine.score(request, ["i5", "i6", "new1", "new2"])
    assert np.array_equal(mine.score(request, ["i5", "i6", "i7", "i8"]).logit, before)
    assert scored.unknown_items == ("new1", "new2")
    assert scored.title[2] == "New"
    if bundle.name in ("pooling", "din"):
        assert scored.logit[2] != scored.logit[3]
    for item, message in (
        ({"title": "x"}, "a new item has no id: {'title': 'x'}."),
        ({"id": 5, "tagz": []}, "new item '5': 'tagz' is no field of items; they have id, title, maker, tags, price. Did you mean 'tags'?"),
    ):
        with pytest.raises(DataError) as refused:
            mine.add_items([item])
        assert str(refused.value) == message
    with pytest.raises(DataError) as fault:
        mine.add_items([{"id": "new1"}])
    assert str(fault.value) == "item 'new1' is already in the catalogue (1 of 1 are); only new items can be added."


def test_refusals(scorer: Scorer, log: Log) -> None:
    with pytest.raises(DataError) as late:
        scorer.score(Request(time=NOW, past=[Event(item="i1", time=NOW + 1)]), ["i1"])
    assert str(late.value) == f"an event at {NOW + 1} lies after the request's own time {NOW}; a past holds what came before."
    with pytest.raises(DataError) as field:
        scorer.score(Request(time=NOW, context={"devise": "phone"}), ["i1"])
    assert str(field.value) == "context field 'devise' is not in the schema; it has device, battery. Did you mean 'device'?"
    with pytest.raises(DataError) as number:
        scorer.score(Request(time=NOW, profile={"age": "old"}), ["i1"])
    assert str(number.value) == "user.age is 'old'; a number, or nothing, was wanted."
    with pytest.raises(DataError) as seconds:
        scorer.score(Request(time=NOW // 1000), ["i1"])
    hint = "It looks like seconds: multiply by 1000."
    assert str(seconds.value) == f"a time is {NOW // 1000}, outside the years 1971 to 2100 in unix milliseconds. {hint}"
    with pytest.raises(DataError) as moment:
        scorer.score(Request(time="today"), ["i1"])  # type: ignore[arg-type]
    assert str(moment.value) == "a time is 'today'; unix milliseconds or a datetime was wanted."
    with pytest.raises(DataError) as none:
        scorer.recommend(Request(time=NOW), 0)
    assert str(none.value) == "k is 0; at least 1 was wanted."
    with pytest.raises(DataError) as user:
        user_number(log, "u999")
    assert str(user.value) == f"user 'u999' is not in {log.folder}, which has 60 people. Did you mean 'u9'?"


def test_probabilities_are_said_where_the_bundle_is_calibrated(bundle: Bundle, scorer: Scorer, log: Log) -> None:
    request, calibration = request_now(log, user_number(log, "u7")), Platt(0.5, -2.0)
    plain = scorer.recommend(request, 5)
    assert plain.probability is None
    assert all("probability" not in item for item in plain.as_dict()["items"])
    scored = Scorer(replace(bundle, calibration=calibration)).recommend(request, 5)
    assert scored.item == plain.item
    assert scored.probability is not None
    np.testing.assert_allclose(scored.probability, 1 / (1 + np.exp(2 - 0.5 * scored.logit.astype(np.float64))), rtol=1e-12)
    assert [item["probability"] for item in scored.as_dict()["items"]] == scored.probability.tolist()
    sure = Scorer(replace(bundle, calibration=Identity())).score(request, ["i5"])  # logits that are log-odds already
    assert sure.probability is not None
    np.testing.assert_allclose(sure.probability, 1 / (1 + np.exp(-sure.logit.astype(np.float64))), rtol=1e-12)


def test_a_memory_kept_is_scored_again(bundle: Bundle, log: Log, split: Split) -> None:
    """What a server does: read each past once, keep it, join those that ask now, score other candidates."""
    loader = Loader(data=EncodedLog(log, bundle.encoding), position=split.test, config=LoadConfig(past=PAST), seed=0)
    some, model = split.test[:4], bundle.model
    rows = np.arange(1, 1 + 4 * 9).reshape(4, 9)
    with torch.inference_mode():
        wanted = model(loader.assemble(some, rows)).logit
        catalogue = model.item(torch.arange(bundle.encoding.catalogue.size), torch.from_numpy(bundle.encoding.catalogue.known))
        memories = []
        for at in range(4):
            one = loader.assemble(some[at : at + 1], rows[at : at + 1, :1])
            memories.append(model.read(catalogue[one.row], one.user, one.history))
        batch = loader.assemble(some, rows)
        kept = model.score(catalogue[batch.row], Memory.join(memories), batch).logit
    torch.testing.assert_close(kept, wanted, rtol=1e-5, atol=1e-5)


def test_judging_the_bundle_equals_judging_the_run(bundle: Bundle, log: Log, split: Split, tmp_path: Path) -> None:
    data = EncodedLog(log, bundle.encoding)
    judged = judge(bundle.model, data, split, PROTOCOLS["loo-full"], past=PAST, part="valid")
    assert judged.value("ndcg@10") == bundle.facts["valid"]["ndcg@10"]
