"""Each real set, from raw files to a trained din: one get, one prepare, one train, as a user would type them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.data]

# Events, the budget (latest examples a person, requests a step), and an NDCG@10 that chance, .045 of 100 candidates, does not reach.
SETS: dict[str, tuple[int, int, int, float]] = {
    "movielens-100k": (100_000, 30, 128, 0.1),
    "movielens-1m": (1_000_209, 5, 128, 0.1),
    "globo": (2_073_175, 1, 512, 0.3),
    "frappe": (96_203, 30, 64, 0.3),
    "amazon-beauty": (198_502, 3, 128, 0.06),
    "yelp-2019": (316_354, 3, 128, 0.06),
    "amazon-musical-instruments": (10_261, 5, 16, 0.06),
}


def said(folder: Path, real_data: Path, *words: str) -> Any:
    """The one JSON object that a command writes to stdout, and nothing beside it on stderr."""
    command = [sys.executable, "-c", "from penchant.cli import main; main()", *words, "--json"]
    environment = {**os.environ, "PENCHANT_DATA": str(real_data), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SETS)
def test_from_raw_files_to_a_trained_din(name: str, tmp_path: Path, real_data: Path) -> None:
    events, latest, batch_size, better = SETS[name]
    got = said(tmp_path, real_data, "data", "get", name, "raw")
    assert got["events"] == events
    prepared = said(tmp_path, real_data, "data", "prepare", "raw", "log", "--memory", "500MB")
    assert (prepared["events"], prepared["skipped"]) == (events, [])
    budget = {"data.latest": latest, "data.past": 20, "train.epochs": 1, "train.batch_size": batch_size, "train.valid_people": 500}
    flags = [word for key, value in budget.items() for word in (f"--{key}", str(value))]
    run = said(tmp_path, real_data, "train", "--log", "log", "--model.name", "din", "--item.dim", "8", *flags, "--out", "run")
    assert better < run["best"]["ndcg@10"] <= 1
    context = {"globo": ["environment", "device", "os", "country", "region", "referrer"], "frappe": ["weather", "country"]}
    schema = (tmp_path / "run" / "bundle" / "schema.toml").read_text()
    assert all(f"[events.context.{field}]" in schema for field in context.get(name, []))
