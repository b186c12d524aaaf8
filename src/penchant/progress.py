"""What a command is doing, on stderr where that is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

if TYPE_CHECKING:
    from penchant.bench.train import Round
    from penchant.train.loop import Progress


class Shown:
    """What is being done, on stderr where that is a terminal; silent elsewhere."""

    def __init__(self, status: Status | None) -> None:
        self._status, self._stage = status, ""

    def stage(self, line: str) -> None:
        self._stage = line
        if self._status:
            self._status.update(line)

    def run(self, at: Progress) -> None:
        """Where a training run stands."""
        if at.valid is not None and self._status:
            self._status.console.print(
                f"{self._stage}: epoch {at.epoch + 1}, validation {at.valid:.4f}, best {at.best:.4f}", highlight=False
            )
        elif self._status and at.loss is not None and at.rate is not None:
            left = (at.steps - at.step) * at.batch_size / max(at.rate, 1e-9)
            where = f"epoch {at.epoch + 1}, step {at.step}/{at.steps}, loss {at.loss:.4f}"
            self._status.update(f"{self._stage}: {where}, {at.rate:,.0f} examples/s, {left:.0f} s left of the epoch")

    def measured(self, at: Round) -> None:
        """How far a benchmark is."""
        if self._status:
            self._status.update(f"{self._stage}: round {at.number} of {at.rounds}, {at.ours:,.0f} against {at.reference:,.0f} samples/s")

    def judged(self, done: int, people: int) -> None:
        if self._status:
            self._status.update(f"{self._stage}: {done:,} of {people:,} people")


@contextmanager
def progress() -> Iterator[Shown]:
    """What a command shows while it works; it ends with the block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Shown(None)
        return
    with console.status("starting") as status:
        yield Shown(status)
