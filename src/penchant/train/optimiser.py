"""What makes a step of a model's gradients: for dense parameters, for tables, and what is done to gradients before and weights after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from penchant.errors import ArtefactError
from penchant.nn.embedding import Table
from penchant.train.average import Average
from penchant.train.rows import TABLES, RowAdam, Rows, rows_of

AVERAGE, SCALE = "average", "scale"
GOOD = 2000  # steps after which a scale is doubled


class Optimiser:
    """All that makes a step of a model's gradients: AdamW for dense parameters, one of TABLES for its tables.

    Where gradients are of float16 the loss is scaled, and a step of which any gradient is not finite is left out as a whole; to know that
    it waits for the device. Nothing else does.
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
        the norm of all gradients of losses together may be. average: see Average. scaled: gradients are of float16."""
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
        self.clip, self.scale = clip, Scale() if scaled else None
        self.average = None if average is None else Average([*dense, *moments(model)], self.tables, average)

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss to those that are there."""
        (loss if self.scale is None else loss * self.scale.value).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def step(self, multiple: float = 1.0) -> None:
        """One step at `multiple` times all rates."""
        for group in (group for part in self.parts for group in part.param_groups):
            group["lr"] = group["rate"] * multiple
        rows = {weight: rows_of(weight.grad) for weight in self.tables if weight.grad is not None}
        if self.clip is not None or self.scale is not None:
            dense = [weight.grad for weight in self.dense if weight.grad is not None]
            scale = 1.0 if self.scale is None else self.scale.value
            norm = norm_of([*dense, *(value for _, value in rows.values())]) / scale
            if self.scale is not None and not self.scale.held(norm):
                return
            factor = torch.ones_like(norm) if self.clip is None else (self.clip / (norm + 1e-6)).clamp(max=1.0)
            if dense:
                torch._foreach_mul_(dense, factor / scale)
            rows = {weight: (row, value * (factor / scale)) for weight, (row, value) in rows.items()}  # which tables may share
        if self.average is not None:
            self.average.before(rows)
        for part in self.parts:
            part.step(rows=rows) if isinstance(part, Rows) else part.step()
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
        if self.scale is not None:
            found |= {f"{SCALE}.{name}": torch.tensor(value) for name, value in asdict(self.scale).items()}
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what `tensors` gave. Raises ArtefactError for what is not of these parameters."""
        of = {f"{at}.{place}": (part, p) for at, part in enumerate(self.parts) for place, p in enumerate(_parameters(part))}
        kept: dict[str, dict[str, Tensor]] = {AVERAGE: {}, SCALE: {}}
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
        if self.scale is not None:
            scale = kept[SCALE]
            self.scale = Scale(value=float(scale["value"]), good=int(scale["good"]), skipped=int(scale["skipped"]))


@dataclass
class Scale:
    """What a loss is multiplied with so that its gradients are numbers of float16 (Micikevicius et al., ICLR 2018)."""

    value: float = 2.0**16
    good: int = 0  # steps since it last changed
    skipped: int = 0  # steps that were left out

    def held(self, norm: Tensor) -> bool:
        """Whether a step's gradients are finite; half as much the next time where they are not, twice as much after GOOD steps."""
        if not bool(norm.isfinite()):
            self.value, self.good, self.skipped = self.value / 2, 0, self.skipped + 1
            return False
        self.good += 1
        if self.good == GOOD:
            self.value, self.good = self.value * 2, 0
        return True


def norm_of(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all of them together; of a table each row counts once, as clipping by norm has it (Pascanu et al., ICML 2013)."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients)))) if gradients else torch.zeros(())


def moments(model: nn.Module) -> list[Tensor]:
    """What a model keeps of batches beside its weights: the floating-point buffers that are saved with it."""
    kept, weights = model.state_dict(keep_vars=True), {id(parameter) for parameter in model.parameters()}
    return [value for value in kept.values() if id(value) not in weights and value.is_floating_point()]


def _parameters(part: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in part.param_groups for parameter in group["params"]]
