"""Probabilities of whole runs, on a log whose probabilities are known: how far off they were, and what each method makes of them.

Everybody is shown every item once, in an order of their own; whether they choose it is drawn by a probability that the kind of
the item and the group of the person decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from penchant import cli
from penchant.bundle import load_bundle
from penchant.calibration import Calibration, Identity, Isotonic, Platt, Prior
from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.replay import request_at, request_now
from penchant.data.split import SplitConfig, split_of
from penchant.errors import ConfigError, DataError
from penchant.evaluate.compare import evaluate
from penchant.evaluate.judge import judge
from penchant.evaluate.judged import Judged, Rows
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import Lists, log_loss
from penchant.models import build
from penchant.scorer import Scorer
from penchant.train.calibrate import calibrate, refuse_uncalibratable
from penchant.train.config import CalibrateConfig, RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.loss import LOSSES, read_loss

PEOPLE, ITEMS, KINDS = 250, 160, 4
LIKED, OTHER = 0.15, 0.02  # the probability of a choice, of what one's group likes and of all else
RATE = (LIKED + (KINDS - 1) * OTHER) / KINDS
SCHEMA = """
name = "shown"

[events]
file = "events.csv"
user = "user"
item = "item"
label = { column = "chosen", at_least = 1 }
past = "positive"

[items]
file = "items.csv"
key = "item"
fields = { kind = {} }

[users]
file = "users.csv"
key = "user"
fields = { group = {} }
"""


def write_shown(folder: Path, *, negatives: bool = True) -> None:
    """The raw log; without its negatives what is left is what was chosen. Each choice weighs 3, where a schema says that rows weigh."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(5)
    user, item = np.repeat(np.arange(PEOPLE), ITEMS), np.concatenate([draw.permutation(ITEMS) for _ in range(PEOPLE)])
    time = 1_600_000_000 + 60 * np.tile(np.arange(ITEMS), PEOPLE) + draw.integers(0, 50, len(user))
    chosen = draw.random(len(user)) < np.where(item % KINDS == user % KINDS, LIKED, OTHER)
    rows = [f"u{u},i{i},{t},{int(c)},{1 + 2 * c}" for u, i, t, c in zip(user, item, time, chosen, strict=True) if c or negatives]
    (folder / "events.csv").write_text("\n".join(["user,item,time,chosen,worth", *rows]) + "\n")
    (folder / "items.csv").write_text("\n".join(["item,kind", *(f"i{i},k{i % KINDS}" for i in range(ITEMS))]) + "\n")
    (folder / "users.csv").write_text("\n".join(["user,group", *(f"u{u},g{u % KINDS}" for u in range(PEOPLE))]) + "\n")
    (folder / "schema.toml").write_text(SCHEMA)


def config_of(log: Log, **keys: Any) -> RunConfig:
    """A run that learns quickly what there is to learn, with these keys: {"calibrate.method": "prior"}."""
    config = {
        "protocol": "logged",
        "split": {"name": "time", "valid": 0.2, "test": 0.2},
        "model": {"name": "din", "attention": [8], "head": [16]},
        "data": {"past": 5, "negatives": 4},
        "train": {"epochs": 8, "batch_size": 64, "rate": 1e-2, "patience": 99},
    }
    return read(RunConfig, {"log": str(log.folder), **config}, keys)


def odds(p: float) -> float:
    return p / (1 - p)


def events_that_test(log: Log) -> NDArray[np.int64]:
    return split_of(log, config_of(log).judging().split).test


def planted(log: Log, position: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability by which each event was drawn."""
    item = np.array([int(name[1:]) for name in log.items.column("id").to_pylist()])[log.events["item"][position]]
    user = np.array([int(name[1:]) for name in log.users.column("id").to_pylist()])[log.user_of(position)]
    return np.where(item % KINDS == user % KINDS, LIKED, OTHER)


def rows_of(judged: Judged) -> Rows:
    assert judged.rows is not None
    return judged.rows


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("shown")
    write_shown(folder / "raw")
    return prepare(folder / "raw", folder / "log")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """The same log, and nobody knows any more what was shown and not chosen."""
    folder = tmp_path_factory.mktemp("chosen")
    write_shown(folder / "raw", negatives=False)
    return prepare(folder / "raw", folder / "log")


@pytest.fixture(scope="module")
def bundles(shown: Log, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A bundle of each method, of one run otherwise."""
    folder = tmp_path_factory.mktemp("bundles")
    methods = ("none", "prior", "platt", "isotonic")
    return {m: fit(config_of(shown, **{"calibrate.method": m}), folder / m, log=shown).folder / "bundle" for m in methods}


@pytest.fixture(scope="module")
def judged(bundles: Mapping[str, Path], shown: Log) -> Mapping[str, Judged]:
    return {method: evaluate(load_bundle(path), shown, PROTOCOLS["logged"]) for method, path in bundles.items()}


# Whole runs


@pytest.mark.parametrize(("method", "kind"), [("prior", Prior), ("platt", Platt), ("isotonic", Isotonic)])
def test_what_was_far_off_comes_true(judged: Mapping[str, Judged], method: str, kind: type[Any]) -> None:
    """Four negatives a positive make it promise about three times what comes; each method ends within a fifth of it."""
    before, after = (judged[name].summary(resamples=20) for name in ("none", method))
    assert isinstance(judged[method].calibration, kind)
    assert (before["calibration"], after["calibration"]) == ("none", method)
    assert before["predicted/observed"] > 2.2
    assert before["calibration-error"] > 0.07
    assert 0.8 < after["predicted/observed"] < 1.2
    assert after["calibration-error"] < 0.03
    assert after["log-loss"] < before["log-loss"] - 0.03


@pytest.mark.parametrize("method", ["prior", "platt", "isotonic"])
def test_probabilities_are_near_the_planted_ones(judged: Mapping[str, Judged], shown: Log, method: str) -> None:
    """On the whole, and apart by what is liked and what is not: no drawn label is between."""
    true, rows = planted(shown, events_that_test(shown)), rows_of(judged[method])
    assert rows.probability.mean() == pytest.approx(true.mean(), rel=0.15)
    for rate in (LIKED, OTHER):
        far = abs(rows_of(judged["none"]).probability[true == rate].mean() - rate)
        assert abs(rows.probability[true == rate].mean() - rate) < far / 2


@pytest.mark.parametrize("method", ["prior", "platt", "isotonic"])
def test_rankings_are_those_of_the_logits(judged: Mapping[str, Judged], bundles: Mapping[str, Path], shown: Log, method: str) -> None:
    plain, mine = judged["none"], judged[method]
    assert mine.model == plain.model  # the same weights: a calibration is made after all is learned
    assert np.array_equal(rows_of(mine).score, rows_of(plain).score)
    for metric in ("gauc", "auc"):
        assert mine.value(metric) == plain.value(metric)
    request = request_now(shown, 3)
    lists = [Scorer(load_bundle(bundles[name])).recommend(request, 30) for name in ("none", method)]
    assert lists[0].item == lists[1].item
    assert lists[1].probability is not None
    assert (np.diff(lists[1].probability) <= 0).all()


def test_a_rate_known_from_elsewhere_is_recovered(chosen: Log, shown: Log, tmp_path: Path) -> None:
    """Trained on what was chosen alone, judged by what was shown as well."""
    keys: dict[str, Any] = {"protocol": "last-full", "calibrate.method": "prior", "calibrate.rate": RATE}
    bundle = fit(config_of(chosen, **keys), tmp_path / "run", log=chosen).bundle
    assert isinstance(bundle.calibration, Prior)
    assert bundle.calibration.shift == pytest.approx(np.log(odds(RATE) * 4))
    found, true = evaluate(bundle, shown, PROTOCOLS["logged"]), planted(shown, events_that_test(shown))
    assert rows_of(found).probability.mean() == pytest.approx(true.mean(), rel=0.15)
    assert rows_of(found.calibrated(None)).probability.mean() > 2.2 * true.mean()


def test_who_learns_from_a_logs_own_labels_needs_no_shift(shown: Log, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"data.negatives": 0, "calibrate.method": "prior", "train.epochs": 2, "train.batch_size": 256}
    bundle = fit(config_of(shown, **keys), tmp_path / "run", log=shown).bundle
    assert load_bundle(tmp_path / "run" / "bundle").calibration == bundle.calibration == Identity()
    found = evaluate(bundle, shown, PROTOCOLS["logged"]).summary(resamples=20)
    assert found["calibration"] == "identity"
    assert 0.8 < found["predicted/observed"] < 1.2


@pytest.mark.parametrize("method", ["none", "prior", "platt", "isotonic"])
def test_no_skew(judged: Mapping[str, Judged], bundles: Mapping[str, Path], shown: Log, method: str) -> None:
    """The probability of an answer is that of the evaluator's row, for the same request."""
    scorer, ids, test = Scorer(load_bundle(bundles[method])), shown.items.column("id").to_pylist(), events_that_test(shown)
    for at in range(0, len(test), 400):
        scored = scorer.score(request_at(shown, int(test[at])), [ids[int(shown.events["item"][test[at]])]])
        np.testing.assert_allclose(scored.logit[0], rows_of(judged[method]).score[at], rtol=1e-5, atol=1e-5)
        if method == "none":
            assert scored.probability is None
        else:
            assert scored.probability is not None
            np.testing.assert_allclose(scored.probability[0], rows_of(judged[method]).probability[at], rtol=1e-4, atol=1e-7)


def test_drawn_candidates_have_no_calibrated_probability(bundles: Mapping[str, Path], shown: Log) -> None:
    found = evaluate(load_bundle(bundles["platt"]), shown, PROTOCOLS["last-99"])
    assert found.rows is not None
    assert found.calibration is None


def test_the_command_line_says_probabilities_where_there_are_any(bundles: Mapping[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("none", "platt"):
        cli.main(["recommend", str(bundles[method]), "--user", "u7", "-k", "3", "--json"])
        items = json.loads(capsys.readouterr().out)["items"]
        cli.main(["recommend", str(bundles[method]), "--user", "u7", "-k", "3"])
        text = capsys.readouterr().out
        assert len(items) == 3
        for item in items:
            if method == "none":
                assert "probability" not in item
                assert f"({item['logit']:+.2f})" in text
            else:
                calibration = load_bundle(bundles[method]).calibration
                assert calibration is not None
                assert item["probability"] == calibration.probability(item["logit"])
                assert f"({item['logit']:+.2f}, {item['probability']:.2%})" in text


# What a run is asked


def asked(log: Log, **keys: Any) -> tuple[Any, ...]:
    """What `calibrate` is given by a run of this configuration."""
    config = config_of(log, **keys)
    split = split_of(log, config.judging().split)
    encoding = fit_encoding(log, split.train)
    model = build(encoding, str(config.model["name"]), {key: value for key, value in config.model.items() if key != "name"})
    loader = Loader.for_training(EncodedLog(log, encoding, split.hidden), split.train, config.data, 0)
    loss = read_loss(config.loss).sized(items=ITEMS, negatives=config.data.negatives)
    return config, model, loss, loader, split


@pytest.mark.parametrize(
    ("keys", "shift"),
    [
        ({}, np.log(4 * odds(0.02))),
        ({"data.negatives": 1}, np.log(odds(0.02))),
        ({"loss.name": "mse"}, np.log(4 * odds(0.02))),
        ({"loss.positive_weight": 3.0}, np.log(4 * odds(0.02) / 3)),
        ({"loss.name": "focal", "loss.gamma": 0.0, "loss.alpha": 0.75}, np.log(4 * odds(0.02) / 3)),
        ({"loss.name": "gbce", "loss.t": 0.5}, np.log(4 * odds(0.02) / (1 - 0.5 * (1 - 4 / (ITEMS - 1))))),
    ],
)
def test_the_shift_is_of_the_draws_the_rate_and_the_loss(shown: Log, keys: dict[str, Any], shift: float) -> None:
    found = calibrate(*asked(shown, **keys, **{"calibrate.method": "prior", "calibrate.rate": 0.02}))
    assert isinstance(found, Prior)
    assert found.shift == pytest.approx(shift, abs=1e-12)


def test_the_rate_is_measured_in_what_trains(shown: Log) -> None:
    given = asked(shown, **{"calibrate.method": "prior"})
    found, rate = calibrate(*given), float(shown.positive[given[-1].train].mean())
    assert isinstance(found, Prior)
    assert found.shift == pytest.approx(np.log(4 * odds(rate)), abs=1e-12)


def test_rows_count_by_their_weight_where_the_loss_does_so(tmp_path: Path) -> None:
    write_shown(tmp_path / "raw")
    (tmp_path / "raw" / "schema.toml").write_text(SCHEMA.replace("label =", 'weight = "worth"\nlabel ='))
    given = asked(prepare(tmp_path / "raw", tmp_path / "log"), **{"calibrate.method": "prior"})
    found, positive = calibrate(*given), given[3].data.log.positive[given[-1].train]
    assert isinstance(found, Prior)
    assert found.shift == pytest.approx(np.log(4 * 3 * odds(float(positive.mean()))), abs=1e-12)


def test_the_loss_is_that_of_the_run(shown: Log, tmp_path: Path) -> None:
    """gbce weighs positives by the share of items that a run draws, which only the run knows."""
    keys: dict[str, Any] = {"loss.name": "gbce", "train.epochs": 1, "calibrate.method": "prior", "calibrate.rate": 0.02}
    found = fit(config_of(shown, **keys), tmp_path / "run", log=shown).bundle.calibration
    assert isinstance(found, Prior)
    assert found.shift == pytest.approx(np.log(4 * odds(0.02) / (1 - 0.75 * (1 - 4 / (ITEMS - 1)))), abs=1e-12)


@pytest.mark.parametrize("tie", ["order", "strict"])
def test_what_is_fitted_is_the_validation_part_as_the_run_reads_it(shown: Log, tie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, model, loss, loader, split = asked(shown, **{"calibrate.method": "platt"})
    rows: list[Judged] = []

    def seen(*given: Any, **more: Any) -> Judged:
        rows.append(judge(*given, **more))
        return rows[-1]

    monkeypatch.setattr("penchant.train.calibrate.judge", seen)
    monkeypatch.setattr("penchant.train.calibrate.fit_platt", lambda logit, label: Platt(float(len(label)), float(label.sum())))
    found = calibrate(config, model, loss, replace(loader, tie=tie), split)
    assert rows[0].protocol.tie == tie
    assert found == Platt(float(len(split.valid)), float(shown.positive[split.valid].sum()))


def test_what_was_learned_is_kept_where_the_fit_fails(shown: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(logit: object, label: object) -> Platt:
        raise DataError("no line can be fitted.")

    monkeypatch.setattr("penchant.train.calibrate.fit_platt", fails)
    config = RunConfig(
        log=str(shown.folder),
        protocol="logged",
        split=SplitConfig(name="time"),
        data=LoadConfig(negatives=0, past=5),
        model={"name": "mf"},
        train=TrainConfig(epochs=1, batch_size=256),
        calibrate=CalibrateConfig(method="platt"),
    )
    with pytest.raises(DataError) as fault:
        fit(config, tmp_path / "run", log=shown)
    assert str(fault.value) == (
        "calibrate.method is 'platt', which the rows that validate do not allow: no line can be fitted. "
        "The bundle is saved, and not calibrated."
    )
    assert load_bundle(tmp_path / "run" / "bundle").calibration is None


def test_what_cannot_be_fitted_is_said(shown: Log) -> None:
    given = asked(shown, **{"calibrate.method": "platt", "model": {"name": "popularity"}})
    given[1].item.count.zero_()
    with pytest.raises(DataError) as fault:
        calibrate(*given)
    assert str(fault.value) == (
        "calibrate.method is 'platt', which the rows that validate do not allow: logit is 0.0 in every row of any weight: no line can be "
        "fitted to one value."
    )


def test_a_log_that_kept_few_of_its_negatives_is_told_the_true_rate(shown: Log) -> None:
    given = asked(shown, **{"data.negatives": 0, "calibrate.method": "prior", "calibrate.rate": 0.001})
    found, rate = calibrate(*given), float(shown.positive[given[-1].train].mean())
    assert isinstance(found, Prior)
    assert found.shift == pytest.approx(np.log(odds(0.001) / odds(rate)), abs=1e-12)


NO_ODDS = (
    "calibrate.method is 'prior', but {}, so that its logits are no log-odds. "
    "Choose the loss bce, mse or gbce, or the method platt or isotonic."
)
COMPARES = "loss.name is {!r}: it compares the candidates of a request, and says nothing of how often any is chosen"
SQUARED = "torch.nn.functional:mse_loss"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss.name": "bpr"}, NO_ODDS.format(COMPARES.format("bpr"))),
        ({"loss.name": "softmax"}, NO_ODDS.format(COMPARES.format("softmax"))),
        ({"loss.smoothing": 0.1}, NO_ODDS.format("loss.name is 'bce': loss.smoothing draws its probabilities towards 1/2")),
        ({"loss.name": "focal"}, NO_ODDS.format("loss.name is 'focal': a loss.gamma above 0 draws its probabilities towards 1/2")),
        ({"loss.name": "truncated"}, NO_ODDS.format("loss.name is 'truncated': it leaves out positives by their loss, nobody knows which")),
        ({"loss.name": "reweighted"}, NO_ODDS.format("loss.name is 'reweighted': it weighs rows by its own probabilities")),
        ({"loss.name": "gce"}, NO_ODDS.format("loss.name is 'gce': its best probabilities are not those of the labels")),
        ({"loss.name": SQUARED}, NO_ODDS.format(f"loss.name is {SQUARED!r}: what its logits mean is not known here")),
        ({"model": {"name": "popularity"}}, NO_ODDS.format("model.name is 'popularity': it learns nothing, by no loss")),
        (
            {"data.sampler.name": "popularity"},
            "calibrate.method is 'prior', but data.sampler.name is 'popularity': each item has a rate of its own there, which no one "
            "number can put right; draw uniformly, or learn from the log's own labels.",
        ),
    ],
)
def test_logits_that_no_shift_puts_right(shown: Log, keys: dict[str, Any], message: str) -> None:
    given = asked(shown, **{"calibrate.method": "prior", "calibrate.rate": 0.02}, **keys)
    for refused in (refuse_uncalibratable, calibrate):
        with pytest.raises(ConfigError) as fault:
            refused(*given)
        assert str(fault.value) == message


def test_every_loss_is_of_log_odds_or_refused(shown: Log) -> None:
    """A loss that is added is refused until somebody says what its logits mean."""
    of_odds = set()
    for name in LOSSES:
        given = asked(shown, **{"loss.name": name, "calibrate.method": "prior", "calibrate.rate": 0.02})
        try:
            refuse_uncalibratable(*given)
        except ConfigError:
            continue
        of_odds.add(name)
    assert of_odds == {"bce", "mse", "gbce"}


def test_a_log_without_negatives_of_its_own(chosen: Log, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as fault:
        fit(config_of(chosen, **{"protocol": "last-full", "calibrate.method": "prior"}), tmp_path / "run", log=chosen)
    assert str(fault.value) == (
        f"calibrate.method is 'prior', but {chosen.folder} has no negative of its own that trains: how often what is shown is chosen "
        "cannot be measured. Set calibrate.rate to the share of positives among what is really shown."
    )
    for method in ("platt", "isotonic"):
        with pytest.raises(ConfigError) as unlabelled:
            fit(config_of(chosen, **{"protocol": "last-full", "calibrate.method": method}), tmp_path / "run", log=chosen)
        assert str(unlabelled.value) == (
            f"calibrate.method is '{method}', but {chosen.folder} has no negative of its own in the part that validates, and drawn "
            "candidates would only tell how often drawn candidates are chosen. Take the method prior, with the share of positives among "
            "what is really shown as calibrate.rate."
        )
    assert not (tmp_path / "run").exists()  # before any work


def test_a_validation_part_that_was_picked_by_its_labels(shown: Log, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"protocol": "loo-full", "split": {"name": "leave-last-out"}, "calibrate.method": "platt"}
    with pytest.raises(ConfigError) as fault:
        fit(config_of(shown, **keys), tmp_path / "run", log=shown)
    assert str(fault.value) == (
        "calibrate.method is 'platt', but split 'leave-last-out' validates by what was chosen, so that its rows say nothing of how often "
        "that is. Split by time, ratio, random, people or column; or take the method prior with calibrate.rate."
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"calibrate.rate": 0.1}, "RunConfig: calibrate is {'rate': 0.1}; calibrate.rate is of the method 'prior'; the method is 'none'."),
        ({"calibrate.method": "prior", "calibrate.rate": 1.0}, "RunConfig: calibrate.rate is 1.0; input should be less than 1."),
        ({"calibrate.method": "plat"}, "RunConfig: calibrate.method is 'plat'; input should be 'none', 'prior', 'platt' or 'isotonic'."),
    ],
)
def test_configurations_that_are_none(shown: Log, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        config_of(shown, **keys)
    assert str(fault.value) == message


# Judgements


STEPS = Isotonic(np.array([-1.0, 1.0]), np.array([0.1, 0.4]))
KINDS_OF = [None, Identity(), Prior(-1.5), Platt(0.5, 1.0), STEPS]


def judgement(score: list[float], calibration: Calibration | None) -> Judged:
    label, user = np.array([1, 0, 1, 0], np.float32), np.array([0, 0, 1, 1])
    values = np.array(score, np.float32)
    return Judged(
        protocol=PROTOCOLS["logged"],
        part="test",
        seed=0,
        log="",
        dropped=0,
        position=np.array([0, 2]),
        user=np.array([0, 1]),
        lists=Lists.of(values, label, user),
        rows=Rows(values, label, user, user, calibration),
    )


@pytest.mark.parametrize("calibration", KINDS_OF, ids=lambda c: type(c).__name__)
def test_log_loss_is_of_the_calibrated_probability(calibration: Calibration | None) -> None:
    found = judgement([0.3, -0.2, 2.0, 0.5], calibration)
    rows = rows_of(found)
    p = (calibration or Identity()).probability(rows.score.astype(np.float64))
    np.testing.assert_array_equal(rows.probability, p)
    np.testing.assert_allclose(rows.loss, -np.log(np.where(rows.label == 1, p, 1 - p)), rtol=1e-12)
    assert found.value("log-loss") == pytest.approx(rows.loss.mean())
    assert found.only(np.array([False, True])).calibration is calibration


def test_no_probability_is_rounded_to_an_endless_loss() -> None:
    far = [-800.0, 800.0, -800.0, 800.0]
    assert judgement(far, None).value("log-loss") == log_loss(far, [1, 0, 1, 0]) == 800
    assert judgement(far, Prior(-1.5)).value("log-loss") == pytest.approx(800)
    assert judgement(far, Platt(0.5, 0.0)).value("log-loss") == pytest.approx(400)
    sure = Isotonic(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert 700 < judgement(far, sure).value("log-loss") < 800


@pytest.mark.parametrize("calibration", KINDS_OF, ids=lambda c: type(c).__name__)
def test_a_judgement_is_kept_with_its_calibration(calibration: Calibration | None, tmp_path: Path) -> None:
    found = judgement([0.3, -0.2, 2.0, 0.5], calibration)
    found.save(tmp_path / "a.npz")
    again = Judged.load(tmp_path / "a.npz", found.protocol)
    assert type(again.calibration) is type(calibration)
    assert np.array_equal(rows_of(again).probability, rows_of(found).probability)
    assert again.summary(resamples=5) == found.summary(resamples=5)
