"""Optimisers of embedding tables, which touch only the rows of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

RowsOf = Mapping[Tensor, tuple[Tensor, Tensor]]  # of tables: the rows of a gradient int64 [n], each once, and what stands in them [n, D]

DENSE = 0.5  # gradients a row of a table, from where on the table counts as small


class Rows(torch.optim.Optimizer):
    """An optimiser of the rows of sparse gradients; the other rows, and what is kept of them, stay as they are.

    A group's l2: to the gradient of each row w that occurs in a batch, l2 * w is added, once a step however often the row occurs: the
    gradient of l2 / 2 times the sum of their squares, UNKNOWN's row included. The other rows do not shrink. It is a number, or one for
    each row of the table.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], rate: float, *, l2: float | Tensor = 0.0, **own: Any
    ) -> None:
        super().__init__(parameters, {"lr": rate, "l2": l2, **own})

    @torch.no_grad()
    def step(self, closure: Any = None, *, rows: RowsOf | None = None) -> None:  # type: ignore[override]
        """rows: the rows of gradients, where they are known already."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    row, gradient = rows_of(parameter.grad) if rows is None else rows[parameter]
                    self.update(parameter, row, with_l2(gradient, parameter, row, group["l2"]), group)

    def update(self, parameter: Tensor, row: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """The step of rows int64 [n], each once, by their gradient [n, D]."""
        raise TypeError(f"{type(self).__name__} has no update(parameter, row, gradient, group)")


class RowAdam(Rows):
    """Adam (Kingma and Ba, ICLR 2015). L2 goes through the moments.

    The correction of the moments' bias counts steps, not visits of a row, as the lazy Adam of other libraries does.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        l2: float | Tensor = 0.0,
    ) -> None:
        super().__init__(parameters, rate, l2=l2, betas=betas, eps=eps)

    def update(self, parameter: Tensor, row: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean = state["mean"].index_select(0, row).lerp_(gradient, 1 - first)
        square = state["square"].index_select(0, row).mul_(second).addcmul_(gradient, gradient, value=1 - second)
        state["mean"].index_copy_(0, row, mean)
        state["square"].index_copy_(0, row, square)
        scale = (1 - second ** state["step"]) ** 0.5
        denominator = square.sqrt_().div_(scale).add_(group["eps"])
        rate = group["lr"] / (1 - first ** state["step"])
        parameter.index_add_(0, row, mean.div_(denominator), alpha=-rate)


class RowAdagrad(Rows):
    """Adagrad (Duchi et al., JMLR 2011) with one sum a row, of the means of its gradients' squares: a number a row in place of a vector.

    Of a row that never occurred the first step is `rate` long on average, whatever its gradient: it wants a greater rate than Adam.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], rate: float, eps: float = 1e-8, *, l2: float | Tensor = 0.0
    ) -> None:
        super().__init__(parameters, rate, l2=l2, eps=eps)

    def update(self, parameter: Tensor, row: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["sum"] = parameter.new_zeros(parameter.shape[0])
        total = state["sum"].index_add_(0, row, gradient.square().mean(1)).index_select(0, row)
        parameter.index_add_(0, row, gradient / (total.sqrt_().add_(group["eps"]))[:, None], alpha=-group["lr"])


class RowSGD(Rows):
    """Gradient descent, which keeps nothing."""

    def update(self, parameter: Tensor, row: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        parameter.index_add_(0, row, gradient, alpha=-group["lr"])


TABLES: Mapping[str, type[Rows]] = {"adam": RowAdam, "adagrad": RowAdagrad, "sgd": RowSGD}


def with_l2(gradient: Tensor, weight: Tensor, row: Tensor, l2: float | Tensor) -> Tensor:
    """The gradient [n, D] of these rows of a table [V, D] and of l2 / 2 times their squares; l2 is one number or float32 [V]."""
    if isinstance(l2, Tensor):
        return gradient + weight.index_select(0, row) * l2.index_select(0, row)[:, None]
    return gradient.add(weight.index_select(0, row), alpha=l2) if l2 else gradient


def rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The rows int64 [n] of a sparse gradient, each once, and what stands in them [n, D]; all rows of a dense one."""
    if not gradient.is_sparse:
        return torch.arange(gradient.shape[0], device=gradient.device), gradient
    row, value = gradient._indices()[0], gradient._values()
    if len(row) >= gradient.shape[0] * DENSE:  # a small table: summing into all of it is quicker than finding its rows
        there = row.new_zeros(gradient.shape[0]).index_fill_(0, row, 1)
        once = there.nonzero()[:, 0]
        return once, value.new_zeros(gradient.shape).index_add_(0, row, value).index_select(0, once)
    once, place = torch.unique(row, return_inverse=True)
    if len(once) == len(row):  # the loader made them distinct; only their order is to be kept
        return row, value
    return once, value.new_zeros(len(once), value.shape[1]).index_add_(0, place, value)
