"""Embedding tables, and several categorical fields side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Table(nn.Embedding):
    """Vectors of ids. Row 0, UNKNOWN, starts at zero: it says nothing until it has learned something.

    Its gradient is sparse: the optimiser of tables touches only the rows of a batch.
    """

    def __init__(self, size: int, dim: int, *, std: float = 0.05) -> None:
        super().__init__(size, dim, sparse=True)
        nn.init.normal_(self.weight, std=std)
        with torch.no_grad():
            self.weight[0] = 0


class Fields(nn.Module):
    """Categorical fields side by side: int64 [*, F] -> [*, F * dim]."""

    def __init__(self, sizes: tuple[int, ...], dim: int, *, std: float = 0.05) -> None:
        super().__init__()
        self.tables = nn.ModuleList(Table(size, dim, std=std) for size in sizes)
        self.dim = dim * len(sizes)

    def forward(self, code: Tensor) -> Tensor:
        vectors = [table(code[..., place]) for place, table in enumerate(self.tables)]
        return torch.cat(vectors, -1) if vectors else code.new_zeros(*code.shape[:-1], 0, dtype=torch.float32)
