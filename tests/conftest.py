"""Shared fixtures: a made world as raw files, as a Log, and loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from said import Said

from penchant.conformance.world import training, write_world
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import Loader
from penchant.data.log import Log
from penchant.data.prepare import prepare
from penchant.data.split import Split, leave_last_out
from penchant.encoding import Encoding

settings.register_profile("penchant", deadline=None)  # machines are shared: how long a test took says nothing of it
settings.load_profile("penchant")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Said:
    """A command of penchant, run in this process."""
    return Said(capsys)


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "raw"
    write_world(folder)
    return folder


@pytest.fixture(scope="session")
def log(raw: Path) -> Log:
    return prepare(raw, raw.parent / "log")


@pytest.fixture(scope="session")
def split(log: Log) -> Split:
    return leave_last_out(log)


@pytest.fixture(scope="session")
def encoding(log: Log, split: Split) -> Encoding:
    return fit_encoding(log, split.train)


@pytest.fixture(scope="session")
def data(log: Log, encoding: Encoding) -> EncodedLog:
    return EncodedLog(log, encoding)


@pytest.fixture(scope="session")
def loader(data: EncodedLog, split: Split) -> Loader:
    return training(data, split)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; without it these tests skip, but in CI its absence is a failure."""
    folder = Path(os.environ.get("PENCHANT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        message = f"{folder} is not there: set PENCHANT_DATA to the folder of the real data sets"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return folder
