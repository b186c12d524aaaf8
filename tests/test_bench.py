"""The benchmark of training: its yardstick is a model that learns, its counts are right, and both loops see the same data."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from said import Said
from torch import nn

from penchant.bench.baseline import measure, read_baseline
from penchant.bench.prepare import SCHEMA, bench_prepare, looked_at, write
from penchant.bench.reference import REFERENCE, ReferenceLoop
from penchant.bench.simulate import Made, simulate
from penchant.bench.train import OurLoop, Round, bench_train, count_flops, measure_rate
from penchant.config import read
from penchant.data.prepare import prepare
from penchant.errors import ConfigError, UnknownNameError
from penchant.models import DIN
from penchant.models.iacn import IaCN
from penchant.schema import Schema

SMALL: dict[str, Any] = {"users": 300, "items": 120, "categories": 6, "longest": 12, "mean_past": 4}


def made(**other: Any) -> Made:
    return simulate(**{**SMALL, "full": False, "seed": 0, **other})


def test_what_is_measured_holds_together() -> None:
    seen: list[Round] = []
    result = bench_train(**SMALL, dim=4, batch_size=32, rounds=3, steps=2, threads=1, report=seen.append)
    ours, reference = result.ours, result.reference
    assert [(one.number, one.rounds, one.ours, one.reference) for one in seen] == [
        (place + 1, 3, ours.each[place], reference.each[place]) for place in range(3)
    ]
    assert result.ratio.each == tuple(one / other for one, other in zip(ours.each, reference.each, strict=True))
    for speed in (ours, reference, result.ratio):
        assert 0 < speed.least <= speed.median <= speed.most
        assert speed.median == sorted(speed.each)[1]
    assert result.step_seconds == 32 / ours.median
    assert result.floor_seconds == result.flops / result.flops_a_second > 0
    assert result.step_over_floor == result.step_seconds / result.floor_seconds


def test_the_result_can_be_written_down() -> None:
    found = bench_train(**SMALL, dim=4, batch_size=32, rounds=1, steps=1, threads=1, seed=3).as_dict()
    assert json.loads(json.dumps(found))["facts"]["reference"] == REFERENCE == 1
    assert set(found) == {
        "ours",
        "reference",
        "ratio",
        "flops",
        "flops_a_second",
        "floor_seconds",
        "step_seconds",
        "step_over_floor",
        "against",
        "facts",
    }
    facts = found["facts"]
    assert facts["threads"] == 1
    assert all(facts[name] for name in ("python", "torch", "cpu", "cores"))
    assert {key: facts[key] for key in SMALL} == SMALL
    assert (facts["model"], facts["seed"], facts["dim"], facts["batch_size"]) == ("din", 3, 4, 32)


def test_the_caller_s_threads_and_random_state_stay() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    bench_train(**SMALL, dim=4, batch_size=16, rounds=1, steps=1, threads=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_both_loops_see_the_same_requests() -> None:
    data = made()
    ours, reference = OurLoop(data, "din", dim=4), ReferenceLoop(data, dim=4, longest=12, rate=1e-3)
    request = data.requests(2, 50)
    batch, padded = ours.batch(request), reference.batch(request)
    past = batch.row[batch.history.item]
    there = padded.past_item != 0
    assert torch.equal(past, padded.past_item[there])  # the same events, in the same order
    assert torch.equal(batch.history.events.length, there.sum(1))
    assert torch.equal(there, torch.arange(12) < there.sum(1, keepdim=True))
    assert torch.equal(ours.model.get_submodule("item").get_buffer("category")[past, 0], padded.past_category[there])
    assert torch.equal(batch.row[batch.item[:, 0]], padded.item)
    assert batch.label is not None
    assert torch.equal(batch.label[:, 0], padded.label)


def test_both_loops_learn() -> None:
    data = made(items=60, categories=3)
    for loop in (OurLoop(data, "din", dim=8), ReferenceLoop(data, dim=8, longest=12, rate=1e-2)):
        if isinstance(loop, OurLoop):
            for group in (group for part in loop.learning.optimiser.parts for group in part.param_groups):
                group["rate"] = 1e-2
        losses = [float(loop.step(data.requests(step, 200))) for step in range(60)]
        assert 0.6 < np.mean(losses[:3]) < 0.8
        assert np.mean(losses[-3:]) < 0.45  # a candidate's own popularity explains less than this


def test_what_pads_a_past_says_nothing_in_the_reference() -> None:
    data = made()
    short, long = (ReferenceLoop(data, dim=4, longest=longest, rate=1e-3) for longest in (12, 20))
    long.model.load_state_dict(short.model.state_dict())
    request = data.requests(0, 40)
    one, other = short.model.eval()(short.batch(request)), long.model.eval()(long.batch(request))
    torch.testing.assert_close(one, other)


def test_requests_are_pairs_of_long_tailed_and_uniform_items() -> None:
    data = made(users=20_000, items=1_000, categories=10, longest=50, mean_past=9)
    length = np.diff(data.start)
    assert 1 <= length.min() <= length.max() == 50
    assert 8.5 < length.mean() < 9.5
    assert data.label.mean() == 0.5
    assert (np.bincount(data.person) == 2).all()
    assert set(np.unique(data.event)) <= set(range(1, 1_001))
    share = np.sort(np.bincount(data.event))[::-1] / len(data.event)
    assert share[:10].sum() > 10 * share[500:510].sum() > 0
    code = data.encoding.catalogue.code[:, 0]
    latest = data.event[data.start[data.person + 1] - 1]
    same = code[latest] == code[data.item]
    assert same[data.label == 1].all()
    assert 0.08 < same[data.label == 0].mean() < 0.12


def test_full_pasts_are_all_of_the_longest() -> None:
    data = made(longest=50, full=True)
    assert (np.diff(data.start) == 50).all()
    assert bench_train(**SMALL | {"longest": 50}, dim=4, batch_size=8, rounds=1, steps=1, threads=1, full=True).facts["events"] == 8 * 50


def test_the_same_seed_makes_the_same_data() -> None:
    one, same, other = made(), made(), made(seed=1)
    assert (one.event == same.event).all()
    assert (one.item == same.item).all()
    assert len(one.event) != len(other.event) or (one.event != other.event).any()


def test_products_are_counted_forward_and_backward() -> None:
    layer, x = nn.Linear(7, 5), torch.rand(3, 7, requires_grad=True)
    assert count_flops(lambda: layer(x)) == 2 * 3 * 7 * 5
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * 2 * 3 * 7 * 5


def test_the_reference_makes_the_products_that_it_always_made() -> None:
    B, T, D = 10, 12, 2 * 4
    loop = ReferenceLoop(made(), dim=4, longest=T, rate=1e-3)
    attention = 4 * D * 80 + 80 * 40 + 40
    head = 2 * D * 200 + 200 * 80 + 80
    assert count_flops(lambda: loop.step(loop.made.requests(0, B))) == 3 * 2 * B * (T * attention + head)


def test_ours_makes_fewer() -> None:
    data = made(full=True)
    ours, reference = OurLoop(data, "din", dim=4), ReferenceLoop(data, dim=4, longest=12, rate=1e-3)
    request = data.requests(0, 20)
    one, other = count_flops(lambda: ours.step(request)), count_flops(lambda: reference.step(request))
    assert 0.3 * other < one < other


def test_the_rate_of_products() -> None:
    assert measure_rate(64, 2) > 1e6


def test_a_model_that_wants_items_not_chosen_gets_them() -> None:
    data = made(items=7)
    batch = OurLoop(data, "dien", dim=4).batch(data.requests(0, 200))
    other = batch.history.other
    assert other is not None
    past, drawn = batch.row[batch.history.item], batch.row[other]
    assert (past != drawn).all()
    away = torch.bincount((drawn - past) % 7, minlength=7)
    assert away[0] == 0
    assert (away[1:] > 0.8 * len(past) / 6).all()
    assert OurLoop(data, "din", dim=4).batch(data.requests(0, 200)).history.other is None


def test_a_model_that_wants_drawn_items_gets_them() -> None:
    data = made()
    loop = OurLoop(data, "din+iacn", dim=4, auxiliary={"negatives": 3, "delta": 0.5})
    assert isinstance(loop.model, IaCN)
    assert (loop.model.config.delta, type(loop.model.model)) == (0.5, DIN)
    request = data.requests(0, 200)
    batch = loop.batch(request)
    assert batch.negative is not None
    assert batch.negative_log_q is not None
    assert batch.negative.shape == batch.negative_log_q.shape == (200, 3)
    assert torch.allclose(batch.negative_log_q, torch.tensor(-np.log(120), dtype=torch.float32))
    drawn = batch.row[batch.negative]
    assert torch.equal(drawn, loop.batch(request).row[loop.batch(request).negative])
    assert set(drawn.unique().tolist()) <= set(range(1, 121))
    assert len(drawn.unique()) > 100  # of 120
    assert batch.first_drawn is not None
    assert OurLoop(data, "din", dim=4).batch(request).negative is None
    before = loop.model.state_dict()["capsules.transform.weight"].clone()
    assert loop.step(request).isfinite()
    assert not torch.equal(loop.model.state_dict()["capsules.transform.weight"], before)


@pytest.mark.parametrize("name", ["mf", "pooling", "dien", "mind", "din+iacn", "din+wider"])
def test_other_models(name: str) -> None:
    result = bench_train(**SMALL, model=name, dim=4, batch_size=16, rounds=1, steps=1, threads=1)
    assert result.ours.median > 0


def test_wrong_sizes_and_names() -> None:
    with pytest.raises(ConfigError, match="steps is 0; at least 1 was wanted"):
        bench_train(steps=0)
    with pytest.raises(ConfigError, match="threads is 0"):
        bench_train(threads=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'din'"):
        bench_train(**SMALL, model="dinn")
    with pytest.raises(UnknownNameError, match="'iacm' is not a name of what stands around a model"):
        bench_train(**SMALL, model="din+iacm")
    with pytest.raises(ConfigError, match="'popularity' learns nothing"):
        bench_train(**SMALL, model="popularity")


# ------------------------------------------------------------------------------------------------- prepare, baseline


def test_preparing_is_measured(tmp_path: Path) -> None:
    found = bench_prepare(events=30_001, people=500, items=90, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert found.events_a_second == 30_001 / found.seconds > 0
    assert 10**6 < found.before_bytes < found.peak_bytes < 10**10
    assert found.raw_bytes > 30_001 * 30
    assert json.loads(json.dumps(found.as_dict()))["facts"]["events"] == 30_001


def test_what_is_prepared_are_all_events_of_string_ids(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw", 20_001, 500, 90)
    log = prepare(tmp_path, tmp_path / "log", read(Schema, SCHEMA))
    assert log.size == 20_001
    ids = log.users.column("id").to_pylist()
    assert 450 < len(ids) <= 500
    assert all(re.fullmatch(r"u1\d{9}", id) for id in ids)
    shown = (tmp_path / "raw" / "part0.csv").read_text().splitlines()
    assert shown[0] == "user,item,time,kind,device"
    assert re.fullmatch(r"u\d{10},item-\d{10},1[56]\d{8},(view|cart|buy),(phone|desk|tablet|tv)", shown[1])


def test_the_most_that_is_held_is_seen() -> None:
    with looked_at() as held:
        much = np.ones(40_000_000)
        time.sleep(0.2)
    assert max(held) - held[0] > 0.9 * much.nbytes


def test_a_ratio_that_fell_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = Said(capsys), tmp_path / "bench" / "baseline.json"
    now = {"one": 10.0, "other": 4.0}
    monkeypatch.setattr("penchant.bench.baseline.measure", lambda say: dict(now))
    assert run("bench", "check", "--baseline", str(file)).status == 2
    said = run("bench", "check", "--baseline", str(file), "--write", "--json")
    assert json.loads(said.out) == {"baseline": str(file), **now}
    assert read_baseline(file) == now
    now["one"] = 8.6
    assert run("bench", "check", "--baseline", str(file)).status == 0
    now["one"] = 8.4
    said = run("bench", "check", "--baseline", str(file))
    assert said.status == 2
    assert said.out == "one        8.40  baseline 10.00, -16%, FELL\nother      4.00  baseline 4.00, +0%\n"
    file.write_text(json.dumps({"reference": 0, "ratios": now}))
    assert "its ratios are to reference 0" in run("bench", "check", "--baseline", str(file)).err
    file.write_text(json.dumps({"reference": REFERENCE, "ratios": {"one": 1.0}}))
    assert "the baseline has no ratio of other" in run("bench", "check", "--baseline", str(file)).err
    file.write_text("{}")
    assert run("bench", "check", "--baseline", str(file)).err == f"penchant: {file}: cannot be read as a baseline ('ratios').\n"


def test_cases_are_measured_one_by_one() -> None:
    seen: list[str] = []
    assert measure({"a": lambda: 1.0, "b": lambda: 2.0}, seen.append) == {"a": 1.0, "b": 2.0}
    assert seen == ["measuring: a", "measuring: b"]
