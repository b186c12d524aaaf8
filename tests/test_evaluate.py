"""Judging against plain loops, and comparing only what can be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from penchant.bundle import Bundle
from penchant.conformance.world import write_world
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.split import Split, leave_last_out
from penchant.encoding import Encoding
from penchant.errors import ConfigError, DataError, TrainingError, UnknownNameError
from penchant.evaluate.compare import compare, described, evaluate
from penchant.evaluate.judge import judge, pool
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import auc
from penchant.models import build
from penchant.nn.model import Model

FULL, NINE = PROTOCOLS["loo-full"], replace(PROTOCOLS["loo-99"], name="loo-9", count=9)


@pytest.fixture(scope="module")
def model(encoding: Encoding) -> Model:
    torch.manual_seed(1)
    model = build(encoding, "din", {"attention": [8], "head": [16]})
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    return model.eval()


def one_by_one(model: Model, data: EncodedLog, position: int, rows: np.ndarray) -> np.ndarray:
    loader = Loader(data=data, position=np.array([position]), config=LoadConfig(past=10), seed=0)
    with torch.inference_mode():
        return np.array([float(model(loader.assemble(np.array([position]), np.array([[row]]))).logit) for row in rows])


def scores(judged: Judged) -> np.ndarray:
    assert judged.rows is not None
    return judged.rows.score.reshape(judged.people, -1)


def test_whole_catalogue_against_a_loop(model: Model, data: EncodedLog, split: Split, log: Log) -> None:
    judged = judge(model, data, split, FULL, past=10)
    happened = {int(row) for row in data.rows(np.arange(log.size))}
    assert set(pool(data).tolist()) == happened
    for at in range(0, len(split.test), 9):
        position = int(split.test[at])
        user = int(log.user_of(np.array([position]))[0])
        past = set(data.rows(np.arange(log.start[user], position)).tolist())
        own = int(data.rows(np.array([position]))[0])
        rivals = np.array(sorted(happened - past - {own}))
        target, score = one_by_one(model, data, position, np.array([own]))[0], one_by_one(model, data, position, rivals)
        assert judged.lists.rows[at] == 1 + len(rivals)
        assert abs(int(judged.lists.begin[at]) - int((score > target).sum())) <= int((np.abs(score - target) < 1e-5).sum())


def test_sampled_against_a_loop(model: Model, data: EncodedLog, split: Split, log: Log) -> None:
    judged = judge(model, data, split, NINE, past=10)
    assert judged.rows is not None
    score, above = judged.rows.score.reshape(-1, 10), judged.lists.begin
    assert len(score) == len(split.test)
    np.testing.assert_array_equal(above, (score[:, 1:] > score[:, :1]).sum(1))
    hit = [1.0 if one < 3 else 0.0 for one in above]
    assert judged.value("hr@3") == pytest.approx(np.mean(hit))
    gain = [1 / np.log2(one + 2) if one < 3 else 0.0 for one in above]
    assert judged.value("ndcg@3") == pytest.approx(np.mean(gain))
    label = np.zeros((len(split.test), 10))
    label[:, 0] = 1
    assert judged.summary()["auc"] == auc(score.reshape(-1), label.reshape(-1))
    assert judged.value("gauc") == pytest.approx(np.mean([auc(row, np.eye(10)[0]) for row in score]))


def test_candidates_do_not_depend_on_the_model_or_on_who_else_is_judged(model: Model, data: EncodedLog, split: Split) -> None:
    whole, some = judge(model, data, split, NINE, past=10), judge(model, data, split, NINE, past=10, people=13)
    at = np.searchsorted(whole.position, some.position)
    assert len(some.position) == 13
    np.testing.assert_allclose(scores(whole)[at], scores(some), rtol=1e-5, atol=1e-6)
    other = judge(model, data, split, NINE, past=10, seed=1)
    assert not np.allclose(scores(other), scores(whole))


def test_a_model_that_says_the_same_of_all_is_judged_as_chance(data: EncodedLog, split: Split, encoding: Encoding) -> None:
    flat = build(encoding, "popularity", {})
    flat.item.count.zero_()  # type: ignore[attr-defined]
    judged = judge(flat, data, split, NINE, past=10)
    assert (judged.lists.size == 10).all()
    assert judged.value("hr@3") == pytest.approx(0.3)
    assert judged.value("gauc") == pytest.approx(0.5)


def test_summary_says_how(model: Model, data: EncodedLog, split: Split) -> None:
    summary = judge(model, data, split, FULL, past=10).summary()
    assert {key: summary[key] for key in ("protocol", "part", "order", "ties", "people", "dropped", "seed")} == {
        "protocol": "loo-full",
        "part": "test",
        "order": "order",
        "ties": "shared ranks",
        "people": len(split.test),
        "dropped": split.dropped,
        "seed": 0,
    }
    assert "auc" not in summary  # pooled over whole catalogues it would be another number
    for metric, (low, high) in summary["intervals"].items():
        assert low <= summary[metric] <= high
    assert summary["map@10"] == pytest.approx(summary["mrr@10"])  # one positive a person


def test_unknown_metrics(model: Model, data: EncodedLog, split: Split) -> None:
    judged = judge(model, data, split, NINE, past=10)
    for name in ("ndgc@10", "hr@0", "hr", "gauc@3", "group@2"):
        with pytest.raises(UnknownNameError) as fault:
            judged.each(name)
        assert str(fault.value).startswith(
            f"{name!r} is not a metric here: there are hr@10, ndcg@10, map@10, map-r@10, mrr@10, recall@10, gauc, gauc:positives, "
            "gauc:users, log-loss, auc."
        )


def test_scores_that_are_no_numbers(data: EncodedLog, split: Split, encoding: Encoding) -> None:
    broken = build(encoding, "mf", {})
    broken.user.weight.data.fill_(float("nan"))  # type: ignore[union-attr,operator]
    with pytest.raises(TrainingError, match=r"^the model scores [\d,]+ of [\d,]+ candidates with no finite number\.$"):
        judge(broken, data, split, NINE, past=10)


def test_comparing(model: Model, data: EncodedLog, split: Split, encoding: Encoding) -> None:
    ours, other = judge(model, data, split, NINE, past=10), judge(build(encoding, "popularity", {}), data, split, NINE, past=10)
    same = compare(ours, ours)
    assert (same.difference, same.low, same.high, same.significant) == (0, 0, 0, False)
    found = described(compare(other, ours, "hr@3"), "popularity", "din", "hr@3")
    assert found["difference"] == pytest.approx(other.value("hr@3") - ours.value("hr@3"))
    assert found["says"].startswith("popularity - din: ")
    base = ours.value("gauc")
    relative = described(compare(other, ours, "gauc"), "popularity", "din", "gauc", base)
    assert relative["rel-improvement"] == pytest.approx(((other.value("gauc") - 0.5) / (base - 0.5) - 1) * 100)
    assert f"], RelaImpr {relative['rel-improvement']:+.2f}%, " in relative["says"]
    assert "rel-improvement" not in found
    with pytest.raises(ConfigError) as protocol:
        compare(ours, judge(model, data, split, FULL, past=10))
    assert str(protocol.value) == (
        "results of loo-9 and loo-full cannot be compared: candidates uniform, not catalogue; count 9, not 0; excluded chosen, not past."
    )
    with pytest.raises(ConfigError) as people:
        compare(ours, judge(model, data, split, NINE, past=10, seed=1))
    assert str(people.value) == "these results are of different people or candidates; judge both on one Log with one seed."


CLICKS = """
name = "clicks"
[events]
file = "events.csv"
user = "user_id"
item = "item_id"
label = { column = "click", at_least = 1 }
past = "positive"
"""


@pytest.fixture
def clicks(tmp_path: Path) -> Log:
    """Twenty people who are shown three items a time and click the first; item "hot" is shown to all, and clicked by nobody."""
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "schema.toml").write_text(CLICKS)
    rows = ["user_id,item_id,time,click"]
    for user in range(20):
        for at in range(5):
            time = 1_600_000_000 + 60 * at
            rows += [f"u{user},i{(user + at) % 9},{time},1", f"u{user},hot,{time},0", f"u{user},j{at},{time},0"]
    (tmp_path / "clicks" / "events.csv").write_text("\n".join(rows) + "\n")
    return prepare(tmp_path / "clicks", tmp_path / "clicks-log")


def test_popularity_counts_what_was_chosen_not_what_was_shown(clicks: Log) -> None:
    encoding = fit_encoding(clicks, leave_last_out(clicks).train)
    hot = int(encoding.catalogue.items.encode(["hot"])[0])
    assert (encoding.catalogue.count[hot], bool(encoding.catalogue.known[hot])) == (0, True)
    assert encoding.catalogue.count.sum() == 20 * 3


def test_labels_are_learned_from_as_they_are_or_against_draws(clicks: Log) -> None:
    split = leave_last_out(clicks)
    data = EncodedLog(clicks, fit_encoding(clicks, split.train))
    own = Loader.for_training(data, split.train, LoadConfig(negatives=0), 0)
    assert len(own.position) == len(split.train)
    assert own.batch(own.position, 0).label.tolist() == [[float(label)] for label in clicks.events["label"][split.train]]  # type: ignore[union-attr]
    drawn = Loader.for_training(data, split.train, LoadConfig(negatives=2), 0)
    assert clicks.positive[drawn.position].all()
    assert drawn.batch(drawn.position, 0).label.tolist() == [[1.0, 0.0, 0.0]] * 60  # type: ignore[union-attr]


def test_people_without_another_candidate_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "schema.toml").write_text('name = "few"\n[events]\nfile = "events.csv"\n')
    rows = [f"{user},{item},{1_600_000_000 + at}" for user, items in (("a", "xyzw"), ("b", "xyz")) for at, item in enumerate(items)]
    (tmp_path / "raw" / "events.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    log = prepare(tmp_path / "raw", tmp_path / "log")
    split = leave_last_out(log)
    encoding = fit_encoding(log, split.train)
    judged = judge(build(encoding, "popularity", {}), EncodedLog(log, encoding), split, FULL, past=5)
    assert (judged.people, judged.dropped, judged.lists.rows.tolist()) == (1, 1, [2])  # for a, all but the judged item is past


def test_a_log_of_other_columns_is_read_by_the_bundle_s_schema(model: Model, encoding: Encoding, tmp_path: Path) -> None:
    """Fields that a Log does not have are unknown; one of another kind is refused."""
    write_world(tmp_path / "raw", people=30, seed=2)
    text = (tmp_path / "raw" / "schema.toml").read_text()
    bare = text.replace('action = { kind = {}, dwell = { kind = "number" } }\n', "").replace("fields = { town = {}, age", "fields = { age")
    (tmp_path / "raw" / "schema.toml").write_text(bare)
    data = EncodedLog(prepare(tmp_path / "raw", tmp_path / "bare"), encoding)
    assert (data.user[:, 1] == 0).all()
    assert not data.codes("action", np.arange(5)).any()
    assert data.numbers("action", np.arange(2)).tolist() == [[0, 1], [0, 1]]
    bundle = Bundle(name="din", model=model, encoding=encoding, config={}, item=type(model).Item, past=10, tie="order")
    assert evaluate(bundle, data.log, FULL).people > 20
    (tmp_path / "raw" / "schema.toml").write_text(text.replace("town = {}", 'town = { column = "age", kind = "number" }'))
    other = prepare(tmp_path / "raw", tmp_path / "other")
    with pytest.raises(DataError) as fault:
        EncodedLog(other, encoding)
    assert str(fault.value) == f"{other.folder}: user field 'town' is of kind 'number' here; 'category' was wanted."


def test_a_bundle_of_another_tie_rule(model: Model, encoding: Encoding, log: Log) -> None:
    bundle = Bundle(name="din", model=model, encoding=encoding, config={}, item=type(model).Item, past=10, tie="strict")
    with pytest.raises(ConfigError) as fault:
        evaluate(bundle, log, FULL)
    assert str(fault.value) == "this bundle reads pasts by the rule 'strict'; loo-full judges by 'order'."


def test_a_bundle_is_judged_on_another_log(model: Model, encoding: Encoding, log: Log, tmp_path: Path) -> None:
    """New people and new items: they live on their pasts and attributes."""
    write_world(tmp_path / "raw", people=40, items=120, seed=5)
    other = prepare(tmp_path / "raw", tmp_path / "log")
    bundle = Bundle(name="din", model=model, encoding=encoding, config={}, item=type(model).Item, past=10, tie="order")
    judged = evaluate(bundle, other, FULL)
    assert judged.people == len(leave_last_out(other).test)
    assert judged.lists.rows.max() > encoding.catalogue.size  # items that the bundle did not know are among the candidates
    model.item.extend(encoding.catalogue)
    assert len(fit_encoding(other, leave_last_out(other).train).catalogue.title) == 121
    again = evaluate(bundle, log, FULL)
    assert again.people == len(leave_last_out(log).test)
