"""The command line as tests call it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penchant import cli


class Said:
    """What a command printed, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Said:
        self.status = 0
        try:
            cli.main([str(word) for word in words])
        except SystemExit as end:
            self.status = int(end.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return self

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)
