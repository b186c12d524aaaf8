"""Means of weights over steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from penchant.train.rows import RowsOf


class Average:
    """Means over steps of weights, and of moments that layers keep of batches: Polyak's, forgetting.

    w' = (1 - d) sum of d^(t - s) w_s over steps s = 1 .. t, over 1 - d^t.

    Of a table only the rows of a batch are looked at: what a row's mean has become while the row stood still is made up for when it is
    next touched, d^n (w' - w) being left of the difference after n steps.
    """

    def __init__(self, dense: Sequence[Tensor], tables: Sequence[Tensor], decay: float) -> None:
        self.dense, self.tables, self.decay, self.steps = list(dense), list(tables), decay, 0
        self.of_dense = [torch.zeros_like(weight, requires_grad=False) for weight in self.dense]
        self.of_table = [torch.zeros_like(weight, requires_grad=False) for weight in self.tables]
        self.last = [torch.zeros(weight.shape[0], dtype=torch.int64, device=weight.device) for weight in self.tables]

    def before(self, rows: RowsOf) -> None:
        """What the rows that are about to change have missed."""
        for weight, mean, last in zip(self.tables, self.of_table, self.last, strict=True):
            if weight in rows:
                row, _ = rows[weight]
                caught_up = mean.index_select(0, row).lerp_(weight.index_select(0, row), self._gone(last.index_select(0, row)))
                mean.index_copy_(0, row, caught_up)

    def after(self, rows: RowsOf) -> None:
        """The step itself."""
        self.steps += 1
        if self.dense:
            torch._foreach_lerp_(self.of_dense, self.dense, 1 - self.decay)
        for weight, mean, last in zip(self.tables, self.of_table, self.last, strict=True):
            if weight in rows:
                row, _ = rows[weight]
                mean.index_copy_(0, row, mean.index_select(0, row).lerp_(weight.index_select(0, row), 1 - self.decay))
                last.index_fill_(0, row, self.steps)

    def _gone(self, last: Tensor) -> Tensor:
        """float32 [n, 1], 1 - d^k of rows that were last looked at k steps ago; in float64 until then, for d may be very near to 1."""
        return -torch.expm1((self.steps - last).double() * math.log(self.decay)).to(torch.float32)[:, None]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The means stand in the weights' place."""
        own = [weight.detach().clone() for weight in (*self.dense, *self.tables)]
        with torch.no_grad():
            for weight, mean in zip((*self.dense, *self.tables), self.means(), strict=True):
                weight.copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip((*self.dense, *self.tables), own, strict=True):
                    weight.copy_(value)

    @torch.no_grad()
    def means(self) -> Iterator[Tensor]:
        """Of each dense parameter, then of each table; before the first step what they are."""
        if not self.steps:
            yield from (*self.dense, *self.tables)
            return
        whole = -math.expm1(self.steps * math.log(self.decay))
        yield from (mean / whole for mean in self.of_dense)
        for weight, mean, last in zip(self.tables, self.of_table, self.last, strict=True):
            yield mean.lerp(weight, self._gone(last)) / whole

    def tensors(self) -> dict[str, Tensor]:
        """All that is kept between steps, by name."""
        named = {f"dense.{at}": mean for at, mean in enumerate(self.of_dense)}
        named |= {f"table.{at}": mean for at, mean in enumerate(self.of_table)} | {f"last.{at}": last for at, last in enumerate(self.last)}
        return {**named, "steps": torch.tensor(self.steps)}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` gave."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
        self.steps = int(tensors["steps"])
