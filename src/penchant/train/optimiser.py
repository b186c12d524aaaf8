"""Adam for dense parameters, and for tables an Adam that touches only the rows of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from penchant.errors import ArtefactError
from penchant.nn.embedding import Table

DENSE = 0.5  # gradients a row of a table, from where on the table counts as small


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, ICLR 2015) on the rows of a sparse gradient; the other rows and their moments stay as they are.

    The correction of the moments' bias counts steps, not visits of a row, as the lazy Adam of other libraries does.

    A group's l2: to the gradient of each row w that occurs in a batch, l2 * w is added, once a step however often the row occurs: the
    gradient of l2 / 2 times the sum of their squares, UNKNOWN's row included. It goes through Adam's moments; the other rows do not
    shrink. It is a number, or one for each row of the table.
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
        super().__init__(parameters, {"lr": rate, "betas": betas, "eps": eps, "l2": l2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    row, gradient = rows_of(parameter.grad)
                    self._update(parameter, row, gradient, group)

    def _update(self, parameter: Tensor, row: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        gradient = with_l2(gradient, parameter, row, group["l2"])
        first, second = group["betas"]
        mean = state["mean"].index_select(0, row).lerp_(gradient, 1 - first)
        square = state["square"].index_select(0, row).mul_(second).addcmul_(gradient, gradient, value=1 - second)
        state["mean"].index_copy_(0, row, mean)
        state["square"].index_copy_(0, row, square)
        scale = (1 - second ** state["step"]) ** 0.5
        denominator = square.sqrt_().div_(scale).add_(group["eps"])
        rate = group["lr"] / (1 - first ** state["step"])
        parameter.index_add_(0, row, mean.div_(denominator), alpha=-rate)


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


class Optimiser:
    """Both optimisers of a model as one."""

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        table_rate: float,
        weight_decay: float = 0.0,
        table_l2: float = 0.0,
        row_l2: Mapping[Table, Tensor] | None = None,
    ) -> None:
        """row_l2: for some tables float32 [V], what is added to table_l2 for each row."""
        tables = [module for module in model.modules() if isinstance(module, Table)]
        there = {id(table.weight) for table in tables}
        dense = [parameter for parameter in model.parameters() if id(parameter) not in there]
        self.parts: list[torch.optim.Optimizer] = []
        if dense:
            self.parts.append(torch.optim.AdamW(dense, lr=rate, weight_decay=weight_decay, fused=True))
        if tables:
            more = row_l2 or {}
            groups = [{"params": [table.weight], "l2": table_l2 + more[table] if table in more else table_l2} for table in tables]
            self.parts.append(RowAdam(groups, table_rate))

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """All that is kept between steps, by name: "part.parameter.name"."""
        found: dict[str, Tensor] = {}
        for at, part in enumerate(self.parts):
            for place, parameter in enumerate(_parameters(part)):
                for name, value in part.state[parameter].items():
                    found[f"{at}.{place}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` gave. Raises ArtefactError for what is not of these parameters."""
        of = {f"{at}.{place}": (part, p) for at, part in enumerate(self.parts) for place, p in enumerate(_parameters(part))}
        for key, value in tensors.items():
            where, _, name = key.rpartition(".")
            if where not in of:
                raise ArtefactError(f"the optimiser of this checkpoint keeps {key}, which is of no parameter of this model.")
            part, parameter = of[where]
            part.state[parameter][name] = int(value) if isinstance(part, RowAdam) and name == "step" else value.to(parameter.device)


def _parameters(part: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in part.param_groups for parameter in group["params"]]
