"""What a run says of itself: each fault is put into a healthy run, and named; the healthy run is silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import FAST, Said

from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.sets.market import MarketConfig, make_market
from penchant.data.split import SplitConfig
from penchant.metrics import Interval
from penchant.models.popularity import Popularity
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model
from penchant.train import fit as training
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.diagnose import DIAGNOSES, Finding, Gain, Patient, Validation, diagnose

SMALL = {"attention": [16, 8], "head": [32, 16], "profile": 4}
Break = Callable[[Any], None]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def patient_of(config: RunConfig, out: Path, log: Log) -> tuple[Patient, training.Run]:
    """A run, and what its diagnosis looked at."""
    seen: list[Patient] = []

    def keep(patient: Patient) -> tuple[Finding, ...]:
        seen.append(patient)
        return diagnose(patient)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "diagnose", keep)
        done = training.fit(config, out, log=log)
    return seen[0], done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("diagnose")
    write_world(folder / "raw", people=200, items=90, events=30, seed=1)
    return prepare(folder / "raw", folder / "log")


def of_world(world: Log, name: str, train: Mapping[str, Any] = {}, **own: Any) -> RunConfig:
    return RunConfig(
        log=str(world.folder),
        model={"name": name, **own},
        item=ItemConfig(dim=8),
        protocol="loo-full",
        data=LoadConfig(past=15, negatives=4),
        train=TrainConfig(**{"epochs": 5, "batch_size": 64, "rate": 5e-3, "patience": 9, **train}),
    )


@pytest.fixture(scope="module")
def whole(world: Log, tmp_path_factory: pytest.TempPathFactory) -> tuple[Patient, training.Run]:
    return patient_of(of_world(world, "din", **SMALL), tmp_path_factory.mktemp("din") / "run", world)


@pytest.fixture(scope="module")
def healthy(whole: tuple[Patient, training.Run]) -> Patient:
    return whole[0]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder = tmp_path_factory.mktemp("market")
    make_market(folder / "raw", MarketConfig(people=500, items=200, requests=12.0))
    return prepare(folder / "raw", folder / "log")


@pytest.fixture(scope="module", params=["impressions", "logged"])
def shopper(market: Log, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """A model of a market's logged requests, in lists of each request and of each person."""
    config = RunConfig(
        log=str(market.folder),
        model={"name": "deepfm", "hidden": [32, 16]},
        protocol=request.param,
        split=SplitConfig(name="time", valid=0.2),
        data=LoadConfig(past=15, negatives=0),
        train=TrainConfig(epochs=4, batch_size=128, rate=3e-3, patience=9),
    )
    return patient_of(config, tmp_path_factory.mktemp("shopper") / "run", market)[0]


def broken(patient: Patient, fault: Break) -> Patient:
    """The same run, had it ended with other weights."""
    model = deepcopy(patient.model)
    with torch.no_grad():
        fault(model)
    return _judged_again(replace(patient, model=model))


def _judged_again(patient: Patient) -> Patient:
    judged = patient.again(patient.model, patient.config.train.valid_people)
    return replace(patient, judged=judged)


def names(patient: Patient) -> set[str]:
    return {finding.name for finding in diagnose(patient)}


def found(patient: Patient, name: str) -> Finding:
    return next(finding for finding in diagnose(patient) if finding.name == name)


# ------------------------------------------------------------------------------------------------------------- a healthy run


def test_a_healthy_run_says_nothing(whole: tuple[Patient, training.Run]) -> None:
    patient, done = whole
    assert done.diagnosis == ()
    assert json.loads((done.folder / "diagnosis.json").read_text()) == []
    assert patient.tells  # so that it was looked at
    assert patient.context is not None
    assert patient.gain is not None


def test_a_healthy_run_of_logged_requests_says_nothing(shopper: Patient) -> None:
    assert diagnose(shopper) == ()
    assert (shopper.batch.shown.code > 0).any()


@pytest.mark.parametrize(
    ("name", "own"),
    [("pooling", {"head": [16]}), ("mf", {}), ("wide-deep", {"hidden": [16], "crosses": [["past.id", "user.town"]], "buckets": 2**10})],
    ids=lambda own: str(own),
)
def test_what_a_model_does_by_design_is_no_fault(world: Log, tmp_path: Path, name: str, own: dict[str, Any]) -> None:
    """Pooling weighs every event alike; mf reads no context; this cross of wide-deep's is not of the candidate."""
    patient, _ = patient_of(of_world(world, name, {"epochs": 5}, **own), tmp_path / "run", world)
    assert names(patient) <= {"overfitting", "validation-too-small"}


def test_nothing_is_changed(healthy: Patient) -> None:
    model = healthy.model.train()
    before = deepcopy(model.state_dict())
    random, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = diagnose(broken(healthy, silence("user.town")))
    again = diagnose(broken(healthy, silence("user.town")))
    diagnose(replace(healthy))
    assert first == again
    assert first
    assert torch.equal(torch.get_rng_state(), random)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None or not parameter.grad.is_sparse for parameter in healthy.model.head.parameters())
    model.eval()


# ------------------------------------------------------------------------------------------------------------ of the model


def silence(field: str) -> Break:
    """No layer of a DIN reads this field of person or moment."""

    def fault(model: Any) -> None:
        person = model.person
        at = 0
        for group, fields in (("user", ["town"]), ("user number", ["age"]), ("context", ["hour", "weekday", "device"])):
            for name in fields:
                width = 2 if group == "user number" else person.profile.tables[0].embedding_dim
                if field in (f"{group}.{name}", group):
                    model.head.request.weight[:, at : at + width] = 0
                at += width
        if field == "context":
            model.head.request.weight[:, at:] = 0  # the battery

    return fault


def zero(*tables: str) -> Break:
    def fault(model: Model) -> None:
        for table in tables:
            model.get_submodule(table).get_parameter("weight").zero_()

    return fault


@pytest.mark.parametrize(
    ("field", "table", "fault", "why"),
    [
        ("user.town", "person.profile.tables.0", silence("user.town"), "no layer makes anything of them"),
        ("context.weekday", "person.moment.tables.1", silence("context.weekday"), "no layer makes anything of them"),
        ("action.kind", "past.kinds.0", zero("past.kinds.0"), "The vectors of action.kind are all but zero"),
        ("item.tags", "item.many.0", zero("item.many.0"), "The vectors of item.tags are all but zero"),
        ("item.id", "item.id", zero("item.id"), "The vectors of item.id are all but zero"),
    ],
)
def test_a_dead_table_is_named(healthy: Patient, field: str, table: str, fault: Break, why: str) -> None:
    finding = found(broken(healthy, fault), "dead-table")
    listed = field if field == table else f"{field} ({table})"
    assert finding.says.startswith("1 of 8 fields that the model reads say nothing: permuted among the ")
    assert f"of their spread: {listed}. " in finding.says
    assert why in finding.says
    assert set(finding.evidence) == {field}


def test_a_dead_table_of_what_was_shown_is_named(shopper: Patient) -> None:
    finding = found(broken(shopper, zero("shown.tables.0", "shown_weight.tables.0")), "dead-table")
    assert set(finding.evidence) == {"shown.position"}
    assert names(broken(shopper, zero("shown.tables.0"))) == set()  # its weight says something still


def test_context_that_says_nothing(healthy: Patient) -> None:
    deaf = broken(healthy, silence("context"))
    finding = found(deaf, "context-ignored")
    assert finding.says.startswith("The context (hour, weekday, device, battery) says nothing to it: told that of another request, ")
    assert finding.evidence["logits"] == 0
    assert finding.evidence["difference"] == 0
    assert "dead-table" not in names(deaf)  # of the same tables, which would be said twice
    assert "context-ignored" not in names(broken(healthy, silence("context.weekday")))


def test_context_that_a_metric_notices_is_not_ignored(healthy: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.train.diagnose.QUIET", 10.0)  # whatever the logits do
    assert "context-ignored" in names(replace(healthy))  # the contexts of this world mean nothing
    plain = healthy.popularity
    monkeypatch.setattr(Patient, "again", lambda patient, model, people: plain)  # what is judged elsewhere does worse
    assert "context-ignored" not in names(replace(healthy))


def test_context_is_judged_in_lists_of_requests_and_of_people(shopper: Patient) -> None:
    def fault(model: Any) -> None:
        for facts in (model.context, model.context_weight):
            for table in facts.tables:
                table.weight.zero_()

    assert found(broken(shopper, fault), "context-ignored").evidence["logits"] == 0


def test_attention_that_ignores_the_candidate(healthy: Patient) -> None:
    def fault(model: Any) -> None:
        model.attention.score.query.weight.zero_()
        model.attention.score.product.weight.zero_()

    finding = found(broken(healthy, fault), "attention-ignores-candidate")
    assert finding.evidence["share"] < 1e-12
    assert "its weights deviate over 8 candidates by 0.00% of their size" in finding.says

    def half(model: Any) -> None:
        model.attention.score.query.weight.zero_()

    assert "attention-ignores-candidate" not in names(broken(healthy, half))


def test_saturated_outputs(healthy: Patient) -> None:
    def times(factor: float) -> Break:
        def fault(model: Any) -> None:
            model.head.rest[-1].weight.mul_(factor)
            model.head.rest[-1].bias.mul_(factor)

        return fault

    large = broken(healthy, times(100.0))
    finding = found(large, "saturated-outputs")
    assert finding.evidence["share"] > 0.5
    assert finding.says.startswith(f"{finding.evidence['share']:.0%} of the logits that were looked at lie beyond ±17, ")
    pairs = large.config.model_copy(update={"loss": {"name": "softmax"}})
    assert "saturated-outputs" not in names(replace(large, config=pairs))  # of which differences alone matter
    alike = broken(healthy, times(0.0))
    assert names(alike) == {"saturated-outputs", "no-better-than-popularity"}
    assert found(alike, "saturated-outputs").evidence["spread"] == 0


# ------------------------------------------------------------------------------------------------------------ of its worth


@pytest.mark.parametrize("protocol", ["loo-full", "impressions", "logged"])
def test_a_model_that_is_popularity(request: pytest.FixtureRequest, world: Log, market: Log, tmp_path: Path, protocol: str) -> None:
    config = of_world(world, "popularity")
    if protocol != "loo-full":
        config = config.model_copy(update={"log": str(market.folder), "protocol": protocol, "split": SplitConfig(name="time")})
    patient, done = patient_of(config, tmp_path / "run", world if protocol == "loo-full" else market)
    assert isinstance(patient.model, Popularity)
    assert done.diagnosis == ()  # of itself it says nothing
    named = replace(patient, config=patient.config.model_copy(update={"model": {"name": "mf"}}))
    finding = found(named, "no-better-than-popularity")
    assert finding.says.startswith("It is not told apart from popularity: ")
    assert finding.evidence["difference"] == finding.evidence["low"] == finding.evidence["high"] == 0


def test_a_model_that_is_worse_than_popularity(healthy: Patient) -> None:
    def fault(model: Any) -> None:
        model.head.rest[-1].weight.neg_()

    finding = found(broken(healthy, fault), "no-better-than-popularity")
    assert finding.says.startswith("It is worse than popularity: ndcg@10 ")
    assert finding.evidence["high"] < 0
    assert finding.evidence["parameters"] == sum(parameter.numel() for parameter in healthy.model.parameters())


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.004, {"costs-more-than-it-gains"}),
        (0.001, 0.02, set()),  # it may gain a tenth
        (-0.001, 0.004, {"no-better-than-popularity"}),  # which says the cost itself
    ],
)
def test_a_gain_that_is_not_worth_its_cost(healthy: Patient, low: float, high: float, said: set[str]) -> None:
    patient = replace(healthy)
    gain = Gain(metric="ndcg@10", value=0.252, other=0.25, interval=Interval(low, high), people=900)
    patient.__dict__["gain"] = gain
    assert names(patient) == said
    patient.__dict__["gain"] = replace(gain, metric="gauc", value=0.752, other=0.75)  # 0.25 above chance
    assert names(patient) == said


# ------------------------------------------------------------------------------------------------------------- of learning


def test_a_run_that_learns_by_heart(world: Log, tmp_path: Path) -> None:
    config = of_world(world, "mf", {"epochs": 40, "rate": 0.05, "patience": 40, "batch_size": 128})
    patient, done = patient_of(config, tmp_path / "run", world)
    finding = next(one for one in done.diagnosis if one.name == "overfitting")
    assert finding.evidence["loss at last"] < finding.evidence["loss at best"]
    assert finding.evidence["last"] < finding.evidence["best"] == done.best["ndcg@10"]
    assert finding.evidence["high"] < 0
    assert json.loads((done.folder / "diagnosis.json").read_text()) == [asdict(one) for one in done.diagnosis]
    rising = [{**line, "loss": float(line["step"])} for line in patient.lines if "loss" in line]
    assert "overfitting" not in names(replace(patient, lines=rising))  # it lost its way, which is something else
    still = [patient.validations[0], *(replace(one, each=patient.validations[0].each) for one in patient.validations[1:])]
    assert "overfitting" not in names(replace(patient, validations=still))


def validations(levels: list[float], people: int, noise: float = 0.25) -> list[Validation]:
    """Of weights of these true values, each person's own deviation from them drawn anew every time."""
    random = np.random.default_rng(0)
    person = random.normal(0, 0.2, people)
    return [
        Validation(step=step, metric="ndcg@10", each=level + person + noise * random.normal(size=people), weight=np.ones(people))
        for step, level in enumerate(levels, start=1)
    ]


@pytest.mark.parametrize(
    ("levels", "people", "noise", "said"),
    [
        ([0.2, 0.30, 0.31, 0.30, 0.31], 40, 0.25, True),
        ([0.2, 0.30, 0.31, 0.30, 0.31], 40_000, 0.25, False),  # people enough
        ([0.2, 0.30, 0.50, 0.55, 0.60], 40, 0.25, False),  # the differences are plain
        ([0.2, 0.30, 0.31, 0.30, 0.31], 40, 0.01, False),  # they are not told to the last digit, but nothing is missed
        ([0.30, 0.31, 0.30], 40, 0.25, False),  # too few to choose among
    ],
)
def test_a_validation_that_is_too_small(healthy: Patient, levels: list[float], people: int, noise: float, said: bool) -> None:
    made = validations(levels, people, noise)
    best = max(made, key=lambda one: one.value)
    patient = replace(healthy, validations=made, best={"step": best.step, "ndcg@10": best.value}, lines=())
    assert ("validation-too-small" in names(patient)) == said
    if said:
        assert found(patient, "validation-too-small").says.endswith(
            "Everybody is asked already: believe a mean over seeds (penchant compare --seeds 3) rather than this choice."
        )
        few = patient.config.model_copy(update={"train": patient.config.train.model_copy(update={"valid_people": people})})
        more = found(replace(patient, config=few), "validation-too-small").evidence
        wanted = min(200, int(np.ceil(people * (more["half"] / more["spread"]) ** 2)))
        says = found(replace(patient, config=few), "validation-too-small").says
        assert people < wanted
        assert says.endswith(f"Set train.valid_people to {wanted:,} (there are 200).")


# --------------------------------------------------------------------------------------------------------- the command line


def test_train_prints_what_it_found(run: Said, log: Log, tmp_path: Path) -> None:
    words = ["train", "--log", log.folder, "--model.name", "mf", *FAST, "--train.rate", "1e-9"]
    said = run(*words, "--out", tmp_path / "a", "--json").json
    assert said["diagnosis"] == json.loads((tmp_path / "a" / "diagnosis.json").read_text())
    assert [one["name"] for one in said["diagnosis"]] == [name for name in DIAGNOSES if name in {f["name"] for f in said["diagnosis"]}]
    (finding,) = [one for one in said["diagnosis"] if one["name"] == "no-better-than-popularity"]
    shown = run(*words, "--out", tmp_path / "b").out
    facts, _, below = shown.partition("\n\n")
    assert facts.startswith("run ")
    assert "no-better-than-popularity\nIt is " in below
    assert finding["says"].split("; and it cost")[0] in below
