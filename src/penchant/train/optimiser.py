"""What makes a step of a model's gradients: for dense parameters, for tables, and what is done to gradients before and weights after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from penchant.errors import ArtefactError
from penchant.nn.embedding import Table
from penchant.train.average import Average
from penchant.train.rows import TABLES, RowAdam, Rows, rows_of

AVERAGE, SCALER = "average", "scaler"


class Optimiser:
    """All that makes a step of a model's gradients: AdamW for dense parameters, one of TABLES for its tables.

    Gradients that no float16 holds are scaled, and a step whose gradients are not finite even so is left out. Nothing else waits for a
    device.
    """

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        table_rate: float,
        weight_decay: float = 0.0,
        table_l2: float = 0.0,
        row_l2: Mapping[Table, Tensor] | None = None,
        *,
        tables: str = "adam",
        clip: float | None = None,
        average: float | None = None,
        scaled: bool = False,
    ) -> None:
        """row_l2: for some tables float32 [V], what is added to table_l2 for each row. tables: a name in TABLES. clip: the most that
        the norm of all gradients together may be. average: see Average. scaled: gradients are of float16."""
        found = [module for module in model.modules() if isinstance(module, Table)]
        there = {id(table.weight) for table in found}
        dense = [parameter for parameter in model.parameters() if id(parameter) not in there]
        self.parts: list[torch.optim.Optimizer] = []
        if dense:
            self.parts.append(torch.optim.AdamW(dense, lr=rate, weight_decay=weight_decay, fused=True))
        if found:
            more = row_l2 or {}
            groups = [{"params": [table.weight], "l2": table_l2 + more[table] if table in more else table_l2} for table in found]
            self.parts.append(TABLES[tables](groups, table_rate))
        for group in (group for part in self.parts for group in part.param_groups):
            group["rate"] = group["lr"]
        self.dense, self.tables = dense, [table.weight for table in found]
        self.clip = clip
        self.average = None if average is None else Average(dense, self.tables, average)
        device = next(model.parameters()).device.type if self.parts else "cpu"
        self.scaler = torch.amp.GradScaler(device) if scaled else None

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss to those that are there."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def step(self, multiple: float = 1.0) -> None:
        """One step at `multiple` times all rates."""
        for group in (group for part in self.parts for group in part.param_groups):
            group["lr"] = group["rate"] * multiple
        if self.scaler is not None:
            for part in self.parts:
                self.scaler.unscale_(part)
        rows = {weight: rows_of(weight.grad) for weight in self.tables if weight.grad is not None}
        if self.clip is not None:
            clip([weight.grad for weight in self.dense if weight.grad is not None] + [value for _, value in rows.values()], self.clip)
        if self.average is not None:
            self.average.before(rows)
        for part in self.parts:
            step = part.step if self.scaler is None else partial(self.scaler.step, part)
            step(rows=rows) if isinstance(part, Rows) else step()  # type: ignore[call-overload]
        if self.scaler is not None:
            self.scaler.update()
        if self.average is not None:
            self.average.after(rows)

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model has the means of its weights, where they are kept."""
        return nullcontext() if self.average is None else self.average.inside()

    def tensors(self) -> dict[str, Tensor]:
        """All that is kept between steps, by name: "part.parameter.name"."""
        found: dict[str, Tensor] = {}
        for at, part in enumerate(self.parts):
            for place, parameter in enumerate(_parameters(part)):
                for name, value in part.state[parameter].items():
                    found[f"{at}.{place}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        if self.average is not None:
            found |= {f"{AVERAGE}.{name}": value for name, value in self.average.tensors().items()}
        if self.scaler is not None:
            found |= {f"{SCALER}.{name}": torch.tensor(value) for name, value in self.scaler.state_dict().items()}
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` gave. Raises ArtefactError for what is not of these parameters."""
        of = {f"{at}.{place}": (part, p) for at, part in enumerate(self.parts) for place, p in enumerate(_parameters(part))}
        kept: dict[str, dict[str, Tensor]] = {AVERAGE: {}, SCALER: {}}
        for key, value in tensors.items():
            where, _, name = key.rpartition(".")
            if (first := key.partition(".")[0]) in kept:
                kept[first][key.partition(".")[2]] = value
            elif where in of:
                part, parameter = of[where]
                part.state[parameter][name] = int(value) if isinstance(part, RowAdam) and name == "step" else value.to(parameter.device)
            else:
                raise ArtefactError(f"the optimiser of this checkpoint keeps {key}, which is of no parameter of this model.")
        if self.average is not None:
            self.average.take(kept[AVERAGE])
        if self.scaler is not None:
            self.scaler.load_state_dict({name: value.item() for name, value in kept[SCALER].items()})


def clip(gradients: Sequence[Tensor], most: float) -> None:
    """Makes the norm of all of them together `most` where it is greater (Pascanu et al., ICML 2013); of a table each row counts once."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients)))) if gradients else torch.zeros(())
    torch._foreach_mul_(list(gradients), (most / (norm + 1e-6)).clamp(max=1.0))


def _parameters(part: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in part.param_groups for parameter in group["params"]]
