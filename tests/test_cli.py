"""The command line: one JSON object, exit statuses, messages whole, nothing else on stdout."""

from __future__ import annotations

from pathlib import Path

import pytest
from said import Said

from penchant import cli
from penchant.data.log import Log
from penchant.data.sets import SETS
from penchant.models import MODELS

FAST = ["--protocol", "loo-full", "--data.past", "5", "--data.negatives", "1", "--train.epochs", "1", "--train.batch_size", "128"]


@pytest.fixture(scope="module")
def trained(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "din"
    cli.main(["train", "--log", str(log.folder), "--model.name", "din", *FAST, "--out", str(out)])
    return out / "bundle"


def test_prepare(run: Said, raw: Path, tmp_path: Path, log: Log) -> None:
    said = run("data", "prepare", raw, tmp_path / "log", "--json")
    assert said.status == 0
    assert said.json["events"] == log.size
    assert said.json["log"] == str(tmp_path / "log")
    assert said.err == ""
    again = run("data", "prepare", raw, tmp_path / "log")
    assert (again.status, again.out) == (2, "")
    assert again.err == f"penchant: {tmp_path / 'log'}: this exists already; remove it, or write the Log to another folder.\n"


def test_train_by_file_and_flags(run: Said, log: Log, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'log = "{log.folder}"\nprotocol = "loo-full"\n[model]\nname = "din"\nhead = [9]\n')
    said = run("train", config, *FAST, "--model.attention=[7]", "--out", tmp_path / "out", "--json")
    assert said.status == 0, said.err
    assert said.json["bundle"] == str(tmp_path / "out" / "bundle")
    assert "ndcg@10" in said.json["best"]
    assert "head = [\n    9,\n]\nattention = [\n    7,\n]" in (tmp_path / "out" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (["--auxiliary", "iacn"], '[auxiliary]\nname = "iacn"\n'),
        (["--auxiliary", "iacn", "--auxiliary.delta", "0.5"], '[auxiliary]\nname = "iacn"\ndelta = 0.5\n'),
        (["--model", "din", "--model.normalize", "softmax", "--auxiliary", "wider"], '[model]\nname = "din"\nnormalize = "softmax"\n'),
    ],
)
def test_train_of_a_wrapped_model(run: Said, log: Log, tmp_path: Path, words: list[str], table: str) -> None:
    said = run("train", "--log", log.folder, *FAST, *words, "--out", tmp_path / "out", "--json")
    assert said.status == 0, said.err
    assert table in (tmp_path / "out" / "config.toml").read_text()
    found = run("evaluate", tmp_path / "out" / "bundle", "--protocol", "loo-full", "--json").json
    assert found["results"][0]["model"].startswith(f"din+{words[words.index('--auxiliary') + 1]}@")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.name", "dim"], f"'dim' is not a model: there are {', '.join(MODELS)}. Did you mean 'din'?"),
        (["--model.hed", "3"], "run: model.hed is not a key of DINConfig. Did you mean 'head'?"),
        (["--auxiliary", "iacm"], "'iacm' is not an auxiliary network: there are iacn, wider. Did you mean 'iacn'?"),
        (["--auxiliary", "iacn", "--auxiliary.detla", "0.5"], "run: auxiliary.detla is not a key of IaCNConfig. Did you mean 'delta'?"),
        (["--auxiliary.delta", "0.5"], "run: auxiliary.name is None; one of iacn, wider was wanted."),
        (["--train.epoch", "3"], "flags: train.epoch is not a key of TrainConfig. Did you mean 'epochs'?"),
        (["--train.epochs", "0"], "flags: train.epochs is 0; input should be greater than or equal to 1."),
        (["--train.epochs"], "--train.epochs has no value: write --train.epochs VALUE."),
        (
            ["--train.monitor", "aucc"],
            "'aucc' is not a metric here: there are hr@10, ndcg@10, map@10, map-r@10, mrr@10, recall@10, gauc, gauc:positives, gauc:users, "
            "log-loss, auc. Did you mean 'auc'?",
        ),
        (["--log", "nowhere"], "nowhere: this is not a penchant log: it has no manifest.json."),
    ],
)
def test_train_refuses(run: Said, log: Log, tmp_path: Path, words: list[str], message: str) -> None:
    given = [] if words[0] == "--log" else ["--log", log.folder]
    said = run("train", *given, "--out", tmp_path / "out", *words)
    assert (said.status, said.out) == (2, "")
    assert said.err == f"penchant: {message}\n"
    assert not (tmp_path / "out").exists()


def test_evaluate(run: Said, trained: Path) -> None:
    said = run("evaluate", trained, "--protocol", "loo-full", "--json").json
    (result,) = said["results"]
    assert {"model", "protocol", "hr@10", "ndcg@10", "mrr@10", "gauc", "intervals", "people", "dropped", "order"} <= set(result)
    assert result["model"].startswith("din@")
    table = run("evaluate", trained, "--protocol", "loo-full").out
    assert f"{result['ndcg@10']:.3f} [".removeprefix("0") in table
    assert (
        "loo-full: split leave-last-out: the last positive event of each person, given all events before it by (time, source row)" in table
    )
    assert f"{result['people']:,} people judged, 0 dropped" in table


def test_evaluate_says_what_probabilities_are(run: Said, trained: Path) -> None:
    said = run("evaluate", trained, "--protocol", "ctr")
    assert "Probabilities: the sigmoid of logits, for which nobody vouches.\n" in said.out
    assert said.out.splitlines()[0].split() == ["model", "gauc", "auc", "log-loss", "calibration-error", "predicted/observed"]
    assert "Probabilities" not in run("evaluate", trained, "--protocol", "loo-full").out


def test_evaluate_against(run: Said, trained: Path) -> None:
    said = run("evaluate", trained, "--protocol", "loo-full", "--against", trained, "--metric", "hr@5", "--json").json
    assert said["difference"]["difference"] == 0
    assert not said["difference"]["significant"]
    assert "not significant: the interval holds zero" in run("evaluate", trained, "--protocol", "loo-full", "--against", trained).out


def test_evaluate_refuses(run: Said, trained: Path) -> None:
    said = run("evaluate", trained, "--protocol", "loo-98")
    assert (said.status, said.out) == (2, "")
    assert (
        said.err == "penchant: 'loo-98' is not a protocol: there are loo-99, loo-99-popular, loo-full, last-99, last-full, temporal-80-20, "
        "temporal-80-20-user, ctr, dien, cold-99, impressions, logged. Did you mean 'loo-99'?\n"
    )
    small = run("evaluate", trained)
    assert small.status == 2
    assert small.err.startswith("penchant: 99 items that a person never chose were wanted as candidates; person 'u")
    assert small.err.endswith(" left of 79. Judge by loo-full.\n")


def test_recommend(run: Said, trained: Path) -> None:
    said = run("recommend", trained, "--user", "u7", "-k", 4, "--json").json
    assert len(said["items"]) == 4
    assert {"item", "title", "logit", "because"} == set(said["items"][0])
    assert all(len(item["because"]) <= 3 for item in said["items"])
    shown = run("recommend", trained, "--user", "u7", "-k", 4).out
    for place, item in enumerate(said["items"], start=1):
        assert f"{place:3}. {item['title']}  ({item['logit']:+.2f})\n" in shown
    assert ("because of Item " in shown) == any(item["because"] for item in said["items"])
    nobody = run("recommend", trained, "--user", "U7")
    assert (nobody.status, nobody.out) == (2, "")
    assert nobody.err.startswith("penchant: user 'U7' is not in ")
    none = run("recommend", trained, "--user", "u7", "-k", 0)
    assert (none.status, none.err) == (2, "penchant: -k is 0; at least 1 was wanted.\n")


def test_data_list(run: Said) -> None:
    names = [one["name"] for one in run("data", "list", "--json").json["sets"]]
    assert names == list(SETS)
    assert all(name in run("data", "list").out for name in names)


def test_get_refuses(run: Said, tmp_path: Path) -> None:
    said = run("data", "get", "movielens-1k", tmp_path / "x")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("penchant: 'movielens-1k' is not a ")


def test_a_wrong_flag_is_the_users(run: Said) -> None:
    said = run("data", "list", "--jsn")
    assert said.status == 2
    assert "--jsn" in said.err
    assert "Traceback" not in said.err


def test_what_should_not_happen_is_ours(run: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "app", lambda *_, **__: broken())
    said = run("demo")
    assert said.status == 1
    assert said.err == "penchant: this should not happen: ZeroDivisionError: by zero. Run again with --debug for the traceback.\n"
    assert "Traceback" in run("demo", "--debug").err


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["data"], ["data", "get"], ["data", "prepare"], ["train"], ["evaluate"], ["recommend"], ["bench", "train"]]
)
def test_help(run: Said, command: list[str]) -> None:
    said = run(*command, "--help")
    assert said.status == 0
    assert said.out.startswith("Usage: penchant")


def test_bench_shows_what_it_measured(run: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    from penchant.bench import train

    measured = train.bench_train
    small = {"users": 50, "items": 40, "categories": 5, "dim": 4, "batch_size": 16}
    monkeypatch.setattr(train, "bench_train", lambda **given: measured(**given, **small))
    shown = run("bench", "train", "--rounds", 2, "--steps", 2)
    assert shown.status == 0, shown.err
    names = ["din, samples/s", "reference loop, samples/s", "ratio", "step, ms", "its floor, ms", "step over floor"]
    assert [line[:26].strip() for line in shown.out.splitlines()[:6]] == names
    assert "batch_size 16" in shown.out.splitlines()[6]
    said = run("bench", "train", "--rounds", 2, "--steps", 2, "--json").json
    assert said["ours"]["median"] / said["reference"]["median"] > 0
    assert said["facts"]["users"] == 50
