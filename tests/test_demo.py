"""The demo, as its user runs it, on the real films."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penchant.bundle import load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(1500)]


def test_demo(real_data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", "from penchant.cli import main; main()", "demo", "--json"]
    environment = {**os.environ, "PENCHANT_DATA": str(real_data)}
    said = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    found = json.loads(said.stdout)
    assert said.stdout.count("\n") == 1
    results = {result["model"]: result for result in found["results"]}
    assert list(results) == ["popularity", "mf", "pooling", "din"]
    for result in results.values():
        assert result["protocol"] == "loo-99"
        assert (result["people"], result["dropped"]) == (943, 0)
        for metric, (low, high) in result["intervals"].items():
            assert low <= result[metric] <= high
    for name in ("mf", "pooling", "din"):
        assert results[name]["intervals"]["ndcg@10"][0] > results["popularity"]["intervals"]["ndcg@10"][1]
    assert found["difference"]["models"] == ["din", "pooling"]
    assert found["difference"]["significant"] == (found["difference"]["interval"][0] > 0 or found["difference"]["interval"][1] < 0)
    items = found["recommended"]["items"]
    assert len(items) == 10
    assert all(item["title"] and item["because"] for item in items)
    assert json.loads((tmp_path / found["report"]).read_text()) == found
    assert load_bundle(tmp_path / found["bundle"]).name == "din"
    again = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "penchant: demo: this exists already; remove it, or run the demo in another folder.\n"
