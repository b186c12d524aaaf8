"""Each protocol against a plain loop of what it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from penchant.bundle import Bundle
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.split import Split, SplitConfig, split_of
from penchant.errors import ConfigError, UnknownNameError
from penchant.evaluate.compare import compare, evaluate
from penchant.evaluate.dialect import in_dialect
from penchant.evaluate.judge import asked, judge, pool
from penchant.evaluate.judged import better
from penchant.evaluate.protocol import PROTOCOLS, Protocol, find_protocol
from penchant.metrics import log_loss
from penchant.metrics.dialects import DIALECTS
from penchant.models import build
from penchant.nn.model import Model
from penchant.train.config import RunConfig

PAST = 10


def model_of(data: EncodedLog, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    model = build(data.encoding, "din", {"attention": [8], "head": [16], "profile": 4})
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    return model.eval()


def seen_by(log: Log, protocol: Protocol) -> tuple[EncodedLog, Split]:
    split = split_of(log, protocol.default_split())
    encoding = fit_encoding(log, split.train)
    encoding.catalogue.known[1:] = True  # two unknown items of no attributes would tie but for rounding
    return EncodedLog(log, encoding, split.hidden), split


def logits(model: Model, data: EncodedLog, position: int, rows: list[int]) -> np.ndarray:
    """What the model says of these catalogue rows at the moment of an event, each asked about alone."""
    loader = Loader(data=data, position=np.array([position]), config=LoadConfig(past=PAST), seed=0)
    with torch.inference_mode():
        return np.array([float(model(loader.assemble(np.array([position]), np.array([[row]]))).logit) for row in rows])


SCHEMA = """
name = "clicks"
[events]
file = "events.csv"
user = "user"
item = "item"
label = { column = "click", at_least = 1 }
past = "positive"
"""


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Forty people, thirty items some of which are far more popular, rows with clicks and without."""
    folder, draw = tmp_path_factory.mktemp("clicks"), np.random.default_rng(3)
    (folder / "raw").mkdir()
    (folder / "raw" / "schema.toml").write_text(SCHEMA)
    rows = ["user,item,time,click"]
    for user in range(40):
        for at in range(int(draw.integers(4, 30))):
            item = min(int(draw.exponential(6)), 29)
            rows.append(f"u{user:02},i{item},{1_600_000_000 + 1000 * at + int(draw.integers(0, 900))},{int(draw.random() < 0.6)}")
    (folder / "raw" / "events.csv").write_text("\n".join(rows) + "\n")
    return prepare(folder / "raw", folder / "log")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_says_all_of_itself(name: str) -> None:
    protocol = PROTOCOLS[name]
    says = protocol.says
    assert says.startswith(f"{name}: ")
    assert "tied scores share their ranks" in says
    assert str(protocol.count or "") in says
    assert (protocol.split or "") in says
    assert protocol.default_split().name == (protocol.split or "leave-last-out")


def test_any_protocol_may_be_strict(clicks: Log) -> None:
    strict = find_protocol("loo-full-strict")
    assert strict == replace(PROTOCOLS["loo-full"], name="loo-full-strict", tie="strict")
    assert "given events of earlier times only" in strict.says
    assert PROTOCOLS["loo-full"].differs(strict) == ["tie order, not strict"]
    with pytest.raises(UnknownNameError, match="'loo-98-strict' is not a protocol"):
        find_protocol("loo-98-strict")


def test_no_two_protocols_say_the_same() -> None:
    said = [protocol.says.partition(": ")[2] for protocol in PROTOCOLS.values()]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("name", ["temporal-80-20", "temporal-80-20-user"])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_all_that_a_person_chose_later_against_a_loop(clicks: Log, name: str, part: str) -> None:
    data, split = seen_by(clicks, PROTOCOLS[name])
    model = model_of(data)
    judged = judge(model, data, split, PROTOCOLS[name], past=PAST, part=part)  # type: ignore[arg-type]
    mine = {"valid": split.valid, "test": split.test}[part]
    happened = sorted(pool(data).tolist())
    wanted: dict[int, tuple[float, float, float]] = {}
    for user in range(len(clicks.users)):
        chosen = [int(p) for p in mine if clicks.user_of(np.array([p]))[0] == user and clicks.positive[p]]
        if not chosen:
            continue
        before = np.arange(clicks.start[user], chosen[0])
        past = set(data.rows(before[clicks.positive[before]]).tolist())
        relevant = set(data.rows(np.array(chosen)).tolist()) - past
        candidates = [row for row in happened if row not in past]
        if not relevant or len(candidates) == len(relevant):
            continue
        score = logits(model, data, chosen[0], candidates)
        order = np.argsort(-score, kind="stable")
        hits = [candidates[at] in relevant for at in order]
        gain = sum(hit / np.log2(at + 2) for at, hit in enumerate(hits[:10]))
        ideal = sum(1 / np.log2(at + 2) for at in range(min(len(relevant), 10)))
        precision = sum(hit * (1 + sum(hits[:at])) / (at + 1) for at, hit in enumerate(hits[:10]))
        wanted[user] = gain / ideal, precision / min(len(relevant), 10), sum(hits[:10]) / len(relevant)
        first = [candidates[at] for at in order[:10]]
        assert judged.top is not None
        assert judged.top[np.searchsorted(judged.user, user)].tolist() == first + [-1] * (10 - len(first))
    assert judged.person.tolist() == list(wanted)
    for place, metric in enumerate(("ndcg@10", "map@10", "recall@10")):
        np.testing.assert_allclose(judged.each(metric), [value[place] for value in wanted.values()], rtol=1e-9)
    assert (judged.lists.positives > 1).any()
    if part == "test":
        assert judged.dropped == len(clicks.users) - len(wanted)


def test_rows_are_judged_by_their_own_labels(clicks: Log) -> None:
    split = split_of(clicks, SplitConfig(name="time", test=0.3))
    data = EncodedLog(clicks, fit_encoding(clicks, split.train))
    model = model_of(data)
    judged = judge(model, data, split, PROTOCOLS["logged"], past=PAST)
    score = np.array([logits(model, data, int(p), data.rows(np.array([p])).tolist())[0] for p in split.test])
    label, user = clicks.positive[split.test].astype(float), clicks.user_of(split.test)
    assert judged.rows is not None
    np.testing.assert_allclose(judged.rows.score, score, rtol=1e-4, atol=1e-5)
    score = judged.rows.score.astype(np.float64)
    assert judged.value("auc") == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    both = [one for one in np.unique(user) if len(set(label[user == one])) == 2]
    aucs, size = [roc_auc_score(label[user == one], score[user == one]) for one in both], [(user == one).sum() for one in both]
    assert judged.person.tolist() == both
    assert judged.dropped == len(clicks.users) - len(both)
    assert judged.value("gauc") == pytest.approx(np.average(aucs, weights=size), abs=1e-9)
    assert judged.value("gauc:users") == pytest.approx(np.mean(aucs), abs=1e-9)
    positives = [label[user == one].sum() for one in both]
    assert judged.value("gauc:positives") == pytest.approx(np.average(aucs, weights=positives), abs=1e-9)
    assert judged.value("log-loss") == pytest.approx(log_loss(score, label), abs=1e-12)
    assert len(judged.each("log-loss")) == len(np.unique(user)) > len(both)
    summary = judged.summary()
    assert not {"hr@10", "ndcg@10"} & set(summary)
    for metric, (low, high) in summary["intervals"].items():
        assert low <= summary[metric] <= high
    assert summary["people"] == summary["lists"] == len(both)


def test_popular_candidates_are_drawn_by_training_positives(clicks: Log) -> None:
    protocol = replace(PROTOCOLS["loo-99-popular"], name="loo-3-popular", count=3)
    data, split = seen_by(clicks, protocol)
    train = split.train[clicks.positive[split.train]]
    count = np.bincount(data.rows(train), minlength=data.encoding.catalogue.size)
    telling = build(data.encoding, "popularity", {})  # its logits tell the catalogue's rows
    telling.item.count.copy_(torch.arange(len(count)))  # type: ignore[union-attr,operator]
    found: Counter[int] = Counter()
    for seed in range(60):
        rows = judge(telling, data, split, protocol, past=PAST, seed=seed).rows
        assert rows is not None
        for person, line in zip(rows.user[::4], np.rint(np.expm1(rows.score.reshape(-1, 4))).astype(int).tolist(), strict=True):
            mine = np.arange(clicks.start[person], clicks.start[person + 1])
            assert len(set(line[1:])) == 3
            assert not set(data.rows(mine[clicks.positive[mine]]).tolist()) & set(line[1:])
            found.update(line[1:])
    assert all(count[row] > 0 for row in found)
    often = sorted(found, key=found.__getitem__)
    assert np.corrcoef([found[row] for row in often], [count[row] for row in often])[0, 1] > 0.5


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_cold_item_stands_among_its_like(clicks: Log, part: str) -> None:
    protocol = replace(PROTOCOLS["cold-99"], name="cold-1", count=1)
    split = split_of(clicks, SplitConfig(name="items", valid=0.3, test=0.3, seed=1))
    data = EncodedLog(clicks, fit_encoding(clicks, split.train), split.hidden)
    telling = build(data.encoding, "popularity", {})
    popular = judge(telling, data, split, protocol, past=PAST, part=part)  # type: ignore[arg-type]
    assert popular.value("gauc") == 0.5  # it knows nothing of any of them
    telling.item.count.copy_(torch.arange(data.encoding.catalogue.size))  # type: ignore[union-attr,operator]
    judged = judge(telling, data, split, protocol, past=PAST, part=part)  # type: ignore[arg-type]
    assert judged.position.tolist() == split.judged(clicks, part).tolist()  # type: ignore[arg-type]
    held = set(data.rows({"valid": split.valid, "test": split.test}[part]).tolist())
    assert judged.rows is not None
    row = np.rint(np.expm1(judged.rows.score.reshape(-1, 2))).astype(int)
    assert row[:, 0].tolist() == data.rows(judged.position).tolist()
    for person, rival in zip(judged.user.tolist(), row[:, 1].tolist(), strict=True):
        mine = np.arange(clicks.start[person], clicks.start[person + 1])
        assert rival in held
        assert rival not in data.rows(mine[clicks.positive[mine]])
    assert len(set(row[:, 1].tolist())) > len(held) / 2
    past, _ = data.past(judged.position, PAST, "order")
    assert set(past.tolist()) <= set(split.train.tolist())
    with pytest.raises(ConfigError) as other:
        judge(telling, data, split_of(clicks), protocol, past=PAST)
    assert str(other.value) == "protocol cold-1 needs split items; this log was split by leave-last-out."


def test_a_pair_each(clicks: Log) -> None:
    data, split = seen_by(clicks, PROTOCOLS["ctr"])
    judged = judge(model_of(data), data, split, PROTOCOLS["ctr"], past=PAST)
    assert judged.rows is not None
    score = judged.rows.score.reshape(-1, 2)
    assert judged.value("gauc") == pytest.approx(np.mean((score[:, 0] > score[:, 1]) + 0.5 * (score[:, 0] == score[:, 1])))
    assert judged.value("auc") == pytest.approx(roc_auc_score([1, 0] * len(score), score.reshape(-1)), abs=1e-12)
    assert judged.metrics() == ("gauc", "log-loss")
    assert judged.people == len(split.test)


def test_people_who_test_are_unknown_and_keep_their_pasts(clicks: Log) -> None:
    protocol = PROTOCOLS["dien"]
    data, split = seen_by(clicks, protocol)
    parts = [set(clicks.user_of(part).tolist()) for part in (split.train, split.valid, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(clicks.users)
    assert len(split.train) + len(split.valid) + len(split.test) == clicks.size
    judged = judge(model_of(data), data, split, protocol, past=PAST)
    assert (data.user[judged.user, 0] == 0).all()
    assert (data.past(judged.position, PAST, "order")[1] > 0).any()
    assert judged.position.tolist() == split.judged(clicks, "test").tolist()
    assert judged.dropped == len(parts[2]) - judged.people
    again = split_of(clicks, SplitConfig(name="people", test=0.1, seed=1))
    assert set(clicks.user_of(again.test).tolist()) != parts[2]


def test_some_people_are_judged_with_all_their_requests(clicks: Log) -> None:
    split = split_of(clicks, SplitConfig(name="time", test=0.3))
    data = EncodedLog(clicks, fit_encoding(clicks, split.train))
    model = model_of(data)
    whole, some = (judge(model, data, split, PROTOCOLS["logged"], past=PAST, people=n) for n in (None, 12))
    assert whole.rows is not None
    assert some.rows is not None
    people = np.unique(some.rows.user)
    assert len(people) == 12
    mine = np.isin(whole.rows.user, people)
    np.testing.assert_allclose(some.rows.score, whole.rows.score[mine], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_result_in_another_library_s_arithmetic(clicks: Log, name: str) -> None:
    data, split = seen_by(clicks, PROTOCOLS["temporal-80-20"])
    judged = judge(model_of(data), data, split, PROTOCOLS["logged"], past=PAST)
    assert judged.rows is not None
    rows, dialect = judged.rows, DIALECTS[name]
    found = in_dialect(judged, name, 3)
    assert found["auc"] == dialect.auc(rows.score, rows.label)
    assert found["source"] == dialect.source
    if name == "din":  # which is of one pair a person
        assert (found["gauc"], list(found["refused"])) == (None, ["gauc"])
    else:
        assert found["gauc"] == pytest.approx(dialect.gauc(rows.score, rows.label, rows.user), nan_ok=True)
        assert found["ndcg@3"] == dialect.at_k["ndcg"](rows.score, rows.label, rows.user, 3)
        assert found["refused"] == {}
    if dialect.log_loss:
        assert found["log-loss"] == pytest.approx(dialect.log_loss(rows.probability, rows.label))
    if name == "fuxictr":
        assert found["gauc"] == pytest.approx(judged.value("gauc"), abs=1e-12)
        assert found["avgAUC"] == pytest.approx(judged.value("gauc:users"), abs=1e-12)
    if name == "recbole":
        assert found["gauc"] == pytest.approx(judged.value("gauc:positives"), abs=1e-12)


def test_no_dialect_of_whole_catalogues(clicks: Log) -> None:
    data, split = seen_by(clicks, PROTOCOLS["loo-full"])
    judged = judge(model_of(data), data, split, PROTOCOLS["loo-full"], past=PAST)
    with pytest.raises(ConfigError) as fault:
        in_dialect(judged, "recbole")
    assert str(fault.value) == "dialect recbole needs the rows of a result; loo-full ranks the whole catalogue and keeps none."
    with pytest.raises(UnknownNameError, match="'recbol' is not a dialect"):
        in_dialect(judged, "recbol")


def test_only_some_lists(clicks: Log) -> None:
    data, split = seen_by(clicks, PROTOCOLS["ctr"])
    judged = judge(model_of(data), data, split, PROTOCOLS["ctr"], past=PAST)
    kept = np.arange(judged.people) % 3 == 0
    some = judged.only(kept)
    assert some.each("gauc").tolist() == judged.each("gauc")[kept].tolist()
    assert some.each("log-loss").tolist() == judged.each("log-loss")[kept].tolist()
    assert some.people == kept.sum()


def test_what_cannot_be_compared_is_refused_with_the_reason(clicks: Log) -> None:
    data, split = seen_by(clicks, PROTOCOLS["ctr"])
    model = model_of(data)
    pairs, full = (judge(model, data, split, PROTOCOLS[name], past=PAST) for name in ("ctr", "loo-full"))
    nine = judge(model, data, split, replace(PROTOCOLS["ctr"], name="ctr-9", count=9, headline="gauc"), past=PAST)
    for other, message in (
        (nine, "results of ctr and ctr-9 cannot be compared: count 1, not 9."),
        (
            full,
            "results of ctr and loo-full cannot be compared: candidates uniform, not catalogue; count 1, not 0; excluded chosen, not past.",
        ),
        (replace(pairs, part="valid"), "results of the test part and of the valid part cannot be compared."),
        (replace(pairs, log="abc"), f"results on two Logs ({pairs.log} and abc) cannot be compared; judge both on one."),
        (replace(pairs, seed=1), "these results are of different people or candidates; judge both on one Log with one seed."),
    ):
        with pytest.raises(ConfigError) as fault:
            compare(pairs, other, "gauc")
        assert str(fault.value) == message
    with pytest.raises(ConfigError) as pooled:
        compare(pairs, pairs, "auc")
    assert str(pooled.value) == "auc is of all rows together, so nobody has one of their own; compare by gauc."
    with pytest.raises(ConfigError) as rows:
        full.each("log-loss")
    assert str(rows.value) == "log-loss is a metric of labelled rows; loo-full ranks the whole catalogue."


def test_a_protocol_brings_its_split_and_its_monitor() -> None:
    judging = RunConfig(log="x", protocol="temporal-80-20").judging()
    assert (judging.split, judging.monitor) == (SplitConfig(name="time", test=0.2), "ndcg@10")
    assert RunConfig(log="x", protocol="dien").judging().monitor == "auc"
    assert RunConfig(log="x").judging().protocol.name == "loo-99"
    assert RunConfig(log="x", split=SplitConfig(name="ratio")).judging().protocol.name == "last-99"
    named = judging.named(RunConfig(log="x", protocol="temporal-80-20"))
    assert named.judging() == judging
    assert (named.split, named.train.monitor) == (judging.split, "ndcg@10")
    with pytest.raises(ConfigError) as other:
        RunConfig(log="x", protocol="temporal-80-20", split=SplitConfig(name="ratio", test=0.2)).judging()
    assert str(other.value) == "protocol temporal-80-20 needs split time; this log was split by ratio."
    with pytest.raises(ConfigError) as share:
        RunConfig(log="x", protocol="temporal-80-20", split=SplitConfig(name="time", test=0.1)).judging()
    assert str(share.value) == "protocol temporal-80-20 needs split.test 0.2; this log was split with 0.1."


def test_a_bundle_is_not_judged_by_what_it_learned_from(clicks: Log) -> None:
    data, _ = seen_by(clicks, PROTOCOLS["temporal-80-20"])
    facts = {"run": {"split": {"name": "time", "test": 0.2}}, "data": "clicks"}
    bundle = Bundle(
        name="din", model=model_of(data), encoding=data.encoding, config={}, item=Model.Item, past=PAST, tie="order", facts=facts
    )
    assert evaluate(bundle, clicks, PROTOCOLS["temporal-80-20"]).people > 5
    for name in ("loo-99", "temporal-80-20-user"):
        with pytest.raises(ConfigError) as fault:
            evaluate(bundle, clicks, PROTOCOLS[name])
        assert str(fault.value) == (
            f"this bundle was trained by split 'time' (20% testing); {name} would judge it by events that it may have learned from. "
            "Judge it by last-99 or last-full."
        )


def test_what_the_log_does_not_have(clicks: Log, log: Log, tmp_path: Path) -> None:
    split = split_of(log, SplitConfig(name="time"))
    assert asked(log, split, PROTOCOLS["logged"], "test").tolist() == split.test.tolist()
    data = EncodedLog(log, fit_encoding(log, split.train))
    with pytest.raises(ConfigError) as positives:
        judge(build(data.encoding, "popularity", {}), data, split, PROTOCOLS["logged"], past=PAST)
    assert str(positives.value) == f"{log.folder}: protocol logged needs events that are no positives; all of this part's are."
    with pytest.raises(ConfigError) as fault:
        asked(clicks, split_of(clicks), PROTOCOLS["impressions"], "test")
    assert str(fault.value).endswith("this log does not say what requests showed (schema: events.impressions); judge by another protocol.")


def test_lower_is_better_for_losses_alone() -> None:
    assert better("log-loss")(0.1, 0.2)
    assert better("ndcg@10")(0.2, 0.1)
    assert not better("gauc")(0.1, 0.2)


def test_the_page_says_what_the_protocols_say() -> None:
    page = (Path(__file__).parents[1] / "docs" / "protocols.md").read_text()
    for name, protocol in PROTOCOLS.items():
        assert f"* **`{name}`** (read by `{protocol.headline}`). {protocol.says.partition(': ')[2]}.\n" in page
