"""What the README says works: its schema, its commands and its Python, run as they stand on a made shop."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from penchant import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [body for named, body in found if named == language]


def write_shop(folder: Path) -> None:
    random = np.random.default_rng(0)
    with (folder / "clicks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer", "product", "ts"])
        for customer in range(40):
            for at in range(random.integers(4, 20)):
                rows.writerow([f"C{customer}", f"P{random.integers(150)}", 1_600_000_000 + at * 3600])
    with (folder / "products.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["product", "name", "brand", "category", "price"])
        for product in range(150):
            rows.writerow([f"P{product}", f"Product {product}", f"B{product % 9}", f"home|room{product % 4}", product / 10])


def test_your_own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (schema,) = blocks("toml")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "schema.toml").write_text(schema)
    write_shop(tmp_path / "shop")
    (commands,) = [block for block in blocks("") if block.startswith("penchant data prepare")]
    for line in commands.splitlines():
        quick = ["--train.epochs", "1"] if " train " in line else []
        cli.main([*shlex.split(line)[1:], *quick])
    said = capsys.readouterr().out
    assert "ndcg@10" in said
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(re.fullmatch(r"P\d+ -?\d+\.\d+ \[('P\d'(, 'P\d')?)?\]", line) for line in lines[:5])
    assert re.fullmatch(r"False \((?:'P\d+',? ?)*\) \(\)", lines[5])


def test_every_command_of_the_table_is_there() -> None:
    listed = re.findall(r"^\| `penchant ([a-z]+(?: train)?)", README, re.MULTILINE)
    assert listed == ["demo", "data", "data", "data", "train", "evaluate", "compare", "check", "recommend", "bench train"]
    for words in listed:
        app = cli.app
        for word in words.split():
            app = app[word]


def test_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) == {"demo", "test"} <= targets


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "recipe", sorted(path for path in (ROOT / "recipes").rglob("*.toml") if path.parent.name != "schemas"), ids=lambda path: path.stem
)
def test_recipes_are_read(recipe: Path) -> None:
    from penchant.config import read, validate
    from penchant.models import find
    from penchant.train.config import RunConfig

    config = read(RunConfig, recipe)
    own = dict(config.model)
    kind = find(own.pop("name"))
    assert isinstance(validate(kind.Config, own, where=recipe.name), kind.Config)
