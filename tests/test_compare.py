"""Several models over several seeds: what is trained, what is kept, and what counts as a difference."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from said import Said

from penchant.bundle import load_bundle
from penchant.compare import Compared, compare_models, entries, holm
from penchant.config import dump
from penchant.conformance.world import write_world
from penchant.data.load import LoadConfig
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.errors import ArtefactError, ConfigError, ExistsError, UnknownNameError
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.figures import comparison
from penchant.metrics import paired
from penchant.train.config import RunConfig, TrainConfig


@pytest.fixture(scope="module")
def base(log: Log) -> RunConfig:
    train = TrainConfig(epochs=1, batch_size=64, valid_people=20)
    return RunConfig(log=str(log.folder), protocol="loo-full", data=LoadConfig(past=5, negatives=2), train=train)


@pytest.fixture(scope="module")
def compared(base: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Compared, Path]:
    out = tmp_path_factory.mktemp("compare") / "out"
    return compare_models(entries(base, ["popularity", "mf", "pooling"]), 2, out), out


def kept(out: Path, name: str) -> Judged:
    return Judged.load(out / "judged" / f"{name}-loo-full.npz", PROTOCOLS["loo-full"])


def test_the_table_against_what_was_judged(compared: tuple[Compared, Path]) -> None:
    found, out = compared
    assert (found.metric, found.seeds) == ("ndcg@10", (0, 1))
    each = {name: np.stack([kept(out, f"{name}-{seed}").each("ndcg@10") for seed in (0, 1)]) for name in ("popularity", "mf", "pooling")}
    assert found.people == each["mf"].shape[1]
    assert [row.model for row in found.rows] == sorted(each, key=lambda name: -each[name].mean())
    for row in found.rows:
        assert row.value == pytest.approx(each[row.model].mean())
        assert row.seeds == pytest.approx(each[row.model].mean(1))
        assert row.spread == pytest.approx(np.std(each[row.model].mean(1), ddof=1))
        assert row.interval.low <= row.value <= row.interval.high
    best = found.rows[0].model
    plain = []
    for pair, row in zip(found.pairs, found.rows[1:], strict=True):
        assert pair.models == (best, row.model)
        wanted = paired(each[best].mean(0), each[row.model].mean(0))
        assert (pair.difference.low, pair.difference.high) == (wanted.low, wanted.high)
        plain.append(wanted.p)
        by_seed = (each[best] - each[row.model]).mean(1)
        assert pair.agree == (np.sign(by_seed) == np.sign(wanted.difference)).sum()
        assert pair.significant == (pair.p < 0.05 and pair.agree == 2)
    assert [pair.p for pair in found.pairs] == holm(plain)
    assert json.loads((out / "compare.json").read_text()) == json.loads(json.dumps(found.as_dict()))


def test_what_is_there_is_kept_and_what_broke_is_trained_anew(compared: tuple[Compared, Path], base: RunConfig) -> None:
    found, out = compared
    weights = {name: (out / "runs" / name / "bundle" / "weights.safetensors") for name in ("mf-0", "pooling-1")}
    before = {name: file.stat().st_mtime_ns for name, file in weights.items()}
    (out / "runs" / "pooling-1" / "bundle" / "manifest.json").unlink()  # as if it had been killed
    judged = (out / "judged" / "mf-0-loo-full.npz").stat().st_mtime_ns
    again = compare_models(entries(base, ["popularity", "mf", "pooling"]), 2, out)
    assert again == found
    assert weights["mf-0"].stat().st_mtime_ns == before["mf-0"]
    assert weights["pooling-1"].stat().st_mtime_ns > before["pooling-1"]
    assert (out / "judged" / "mf-0-loo-full.npz").stat().st_mtime_ns == judged


def test_a_judgement_of_another_bundle_is_not_believed(compared: tuple[Compared, Path], base: RunConfig) -> None:
    found, out = compared
    mf, other = out / "judged" / "mf-0-loo-full.npz", out / "judged" / "mf-1-loo-full.npz"
    mf.write_bytes(other.read_bytes())
    assert compare_models(entries(base, ["popularity", "mf", "pooling"]), 2, out) == found
    mf.write_bytes(b"PK broken")
    assert compare_models(entries(base, ["popularity", "mf", "pooling"]), 2, out) == found


def test_another_configuration_in_the_same_folder_is_refused(compared: tuple[Compared, Path], base: RunConfig) -> None:
    _, out = compared
    other = base.model_copy(update={"train": base.train.model_copy(update={"rate": 1e-2})})
    with pytest.raises(ExistsError) as fault:
        compare_models(entries(other, ["popularity", "mf"]), 1, out)
    run = out / "runs" / "popularity-0"
    assert str(fault.value) == f"{run}: this is the run of another configuration; remove it, or compare in another folder."


def test_a_run_that_is_older_than_a_key_is_the_same_run(compared: tuple[Compared, Path], base: RunConfig) -> None:
    found, out = compared
    file = out / "runs" / "mf-0" / "config.toml"
    said = file.read_text(encoding="utf-8")
    older = [line for line in said.splitlines() if not line.startswith("table_l2")]
    assert len(older) < len(said.splitlines())
    try:
        file.write_text("\n".join(older), encoding="utf-8")
        weights = (out / "runs" / "mf-0" / "bundle" / "weights.safetensors").stat().st_mtime_ns
        assert compare_models(entries(base, ["popularity", "mf", "pooling"]), 2, out) == found
        assert (out / "runs" / "mf-0" / "bundle" / "weights.safetensors").stat().st_mtime_ns == weights
        file.write_text("what = 'else'", encoding="utf-8")
        with pytest.raises(ExistsError, match="this is the run of another configuration"):
            compare_models(entries(base, ["popularity", "mf", "pooling"]), 2, out)
    finally:
        file.write_text(said, encoding="utf-8")


def test_a_log_that_changed_is_refused_and_not_judged_by_what_was(base: RunConfig, tmp_path: Path) -> None:
    write_world(tmp_path / "raw", people=60, seed=8)
    first = prepare(tmp_path / "raw", tmp_path / "log")
    config = base.model_copy(update={"log": str(tmp_path / "log")})
    compare_models(entries(config, ["popularity", "mf"]), 1, tmp_path / "out")
    shutil.rmtree(tmp_path / "raw")
    shutil.rmtree(tmp_path / "log")
    write_world(tmp_path / "raw", people=60, seed=9)
    assert prepare(tmp_path / "raw", tmp_path / "log").version != first.version
    with pytest.raises(ExistsError) as fault:
        compare_models(entries(config, ["popularity", "mf"]), 1, tmp_path / "out")
    run = tmp_path / "out" / "runs" / "popularity-0"
    assert str(fault.value) == f"{run}: this is the run of what the Log held before; remove it, or compare in another folder."


def test_two_splits_are_refused_before_any_work(base: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(
        f'log = "{base.log}"\nprotocol = "last-full"\nsplit = {{ name = "ratio" }}\nmodel = {{ name = "mf" }}\n'
    )
    config = base.model_copy(update={"protocol": "last-full"})
    with pytest.raises(ConfigError) as fault:
        compare_models(entries(config, ["popularity", str(tmp_path / "other.toml")]), 1, tmp_path / "out")
    assert str(fault.value) == (
        "models: popularity splits the Log by 'leave-last-out' and other by 'ratio' or with other shares; "
        "give them one split, so that they are judged on the same events."
    )
    assert not (tmp_path / "out").exists()


def test_a_judgement_is_read_as_it_was_written(compared: tuple[Compared, Path], tmp_path: Path) -> None:
    one = kept(compared[1], "mf-0")
    one.save(tmp_path / "again.npz")
    again = Judged.load(tmp_path / "again.npz", PROTOCOLS["loo-full"])
    assert again.summary(resamples=20) == one.summary(resamples=20)
    assert again.model == one.model != ""
    with pytest.raises(ArtefactError) as protocol:
        Judged.load(tmp_path / "again.npz", PROTOCOLS["loo-99"])
    assert str(protocol.value) == f"{tmp_path / 'again.npz'}: this was judged by another protocol than loo-99."
    with pytest.raises(ArtefactError):
        Judged.load(tmp_path / "none.npz", PROTOCOLS["loo-99"])


def test_budgets_are_said(compared: tuple[Compared, Path], base: RunConfig, tmp_path: Path) -> None:
    found, _ = compared
    assert found.budget == (
        "All had the same budget: at most 1 epochs of 64 requests a step at rate 0.001, patience 2; none was tuned here."
    )
    (tmp_path / "tuned.toml").write_text(f'log = "{base.log}"\nmodel = {{ name = "mf" }}\n[train]\nepochs = 2\n')
    given = entries(base, ["popularity", str(tmp_path / "tuned.toml")])
    assert [entry.label for entry in given] == ["popularity", "tuned"]
    own = [replace(entry, config=entry.config.model_copy(update={"protocol": "loo-full"})) for entry in given]
    said = compare_models(own, 1, tmp_path / "out").budget
    assert said == (
        "Budgets differ (batch_size, data, epochs, valid_people), so a difference may be of the recipes as much as of the models."
    )


def test_who_was_still_learning_is_named(base: RunConfig, tmp_path: Path) -> None:
    longer = base.model_copy(update={"train": TrainConfig(epochs=30, batch_size=32, rate=1e-2, patience=3, valid_people=60)})
    enough = compare_models(entries(longer, ["popularity", "mf"]), 1, tmp_path / "long")
    assert enough.warnings == []
    short = compare_models(entries(base, ["popularity", "mf"]), 2, tmp_path / "short")
    assert {row.model: row.unfinished for row in short.rows} == {"popularity": 0, "mf": 2}
    assert short.warnings == [
        "Still improving when the budget ended: mf (2 of 2 seeds); more train.epochs, or a greater train.rate, may change the table."
    ]


def test_keys_of_a_model_are_its_own(base: RunConfig) -> None:
    config = base.model_copy(update={"model": {"name": "din", "head": (16,)}})
    assert [entry.config.model for entry in entries(config, ["din", "pooling"])] == [{"name": "din", "head": (16,)}, {"name": "pooling"}]


def test_a_model_and_what_it_is_wrapped_in(base: RunConfig) -> None:
    config = base.model_copy(update={"model": {"name": "din", "head": (16,)}, "auxiliary": {"name": "iacn", "delta": 0.7}})
    given = entries(config, ["din", "din+iacn", "din+wider", "mf+iacn"])
    assert [(entry.label, entry.config.model, entry.config.auxiliary) for entry in given] == [
        ("din", {"name": "din", "head": (16,)}, None),
        ("din+iacn", {"name": "din", "head": (16,)}, {"name": "iacn", "delta": 0.7}),
        ("din+wider", {"name": "din", "head": (16,)}, {"name": "wider"}),
        ("mf+iacn", {"name": "mf"}, {"name": "iacn", "delta": 0.7}),
    ]
    assert [entry.config.auxiliary for entry in entries(base, ["mf", "mf+iacn"])] == [None, {"name": "iacn"}]


def test_a_model_is_compared_with_itself_wrapped(base: RunConfig, tmp_path: Path) -> None:
    config = base.model_copy(update={"auxiliary": {"name": "iacn", "negatives": 2}})
    found = compare_models(entries(config, ["mf", "mf+iacn", "mf+wider"]), 1, tmp_path / "out")
    assert sorted(row.model for row in found.rows) == ["mf", "mf+iacn", "mf+wider"]
    label = load_bundle(tmp_path / "out" / "runs" / "mf+iacn-0" / "bundle").label
    assert label.startswith("mf+iacn@")
    assert kept(tmp_path / "out", "mf+iacn-0").each("ndcg@10").shape == (found.people,)


def test_what_is_refused(base: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as twice:
        entries(base, ["mf", "din", "mf"])
    assert str(twice.value) == "models: mf stands twice; a model has one line."
    with pytest.raises(ConfigError) as one:
        entries(base, ["mf"])
    assert str(one.value) == "models: two or more were wanted, to be compared."
    with pytest.raises(ConfigError) as seeds:
        compare_models(entries(base, ["mf", "din"]), 0, tmp_path / "out")
    assert str(seeds.value) == "seeds is 0; at least 1 was wanted."
    with pytest.raises(UnknownNameError, match="'ndgc@10' is not a metric here"):
        compare_models(entries(base, ["mf", "din"]), 1, tmp_path / "out", metric="ndgc@10")
    with pytest.raises(UnknownNameError, match="'din2' is not a model"):
        compare_models(entries(base, ["popularity", "din2"]), 1, tmp_path / "out")
    with pytest.raises(UnknownNameError, match="'iacm' is not a name of what stands around a model"):
        compare_models(entries(base, ["popularity", "din+iacm"]), 1, tmp_path / "out")
    bad = base.model_copy(update={"auxiliary": {"name": "iacn", "delta": 2.0}})
    with pytest.raises(ConfigError, match=r"auxiliary.delta is 2.0; input should be less than or equal to 1"):
        compare_models(entries(bad, ["mf", "din+iacn"]), 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_figure(compared: tuple[Compared, Path], tmp_path: Path, kind: str) -> None:
    comparison(compared[0], tmp_path / f"figure.{kind}")
    drawn = (tmp_path / f"figure.{kind}").read_bytes()
    assert drawn.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind])
    assert len(drawn) > 5000


def test_the_command(run: Said, base: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(dump(base))
    asked = ("compare", tmp_path / "base.toml", "--models", "popularity, mf", "--out")
    words = (*asked, tmp_path / "out")
    said = run(*words, "--figure", tmp_path / "one.svg")
    assert said.status == 0
    assert said.out.splitlines()[0].split() == ["model", "ndcg@10", "from", "the", "best", "p"]
    assert "All had the same budget: at most 1 epochs of 64 requests a step" in said.out
    assert (tmp_path / "one.svg").exists()
    wrong = run(*asked, tmp_path / "never", "--figure", tmp_path / "one.jpeg")
    assert wrong.err == f"penchant: {tmp_path / 'one.jpeg'}: a figure is .svg, .png or .pdf; give it one of these endings.\n"
    assert not (tmp_path / "never").exists()
    found = run(*words, "--seeds", 2, "--json").json
    assert [len(row["seeds"]) for row in found["rows"]] == [2, 2]
    assert found["differences"][0]["says"].startswith(f"{found['rows'][0]['model']} - {found['rows'][1]['model']}: +")
