"""Embedding tables, and several categorical fields side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Table(nn.Embedding):
    """Vectors of ids. Row 0, UNKNOWN, starts at zero: it says nothing until it has learned something.

    Its gradient is sparse: the optimiser of tables touches only the rows of a batch.
    """

    def __init__(self, size: int, dim: int, *, std: float = 0.05, of: str | None = None) -> None:
        """of: what its rows are of, so that they are found again once the ids have grown: "items" (rows of `Catalogue.slot`), "users",
        or a field, "item.genre", "context.hour"; None: of nothing that grows, such as places of a past.
        """
        super().__init__(size, dim, sparse=True)
        self.of = of
        nn.init.normal_(self.weight, std=std)
        with torch.no_grad():
            self.weight[0] = 0


class Fields(nn.Module):
    """Categorical fields side by side: int64 [*, F] -> [*, F * dim]."""

    def __init__(self, sizes: tuple[int, ...], dim: int, *, std: float = 0.05, of: tuple[str, ...]) -> None:
        """of: the names of the fields."""
        super().__init__()
        self.tables = nn.ModuleList(Table(size, dim, std=std, of=name) for size, name in zip(sizes, of, strict=True))
        self.dim = dim * len(sizes)

    def forward(self, code: Tensor) -> Tensor:
        vectors = [table(code[..., place]) for place, table in enumerate(self.tables)]
        return torch.cat(vectors, -1) if vectors else code.new_zeros(*code.shape[:-1], 0, dtype=torch.float32)


class Crossed(nn.Module):
    """A weight for each combination of ids, found by a hash: several int64 [*] that broadcast -> float32 [*].

    h = 0; for each id in turn h = mix(h + id + 0x9E3779B97F4A7C15), where mix is SplitMix64's (Steele et al., OOPSLA 2014), in
    64 bits without a sign; the weight is number 1 + (h >> 1) mod (buckets - 1). With an UNKNOWN among the ids it is 0, and stays so.
    """

    def __init__(self, buckets: int, *, std: float = 1e-4, of: tuple[str, ...] = ()) -> None:
        """of: what the ids are of, as for a `Table`."""
        super().__init__()
        self.table, self.buckets, self.of = Table(buckets, 1, std=std), buckets, of

    def forward(self, *ids: Tensor) -> Tensor:
        bucket = self.bucket(*ids)
        weight: Tensor = self.table(bucket).squeeze(-1)
        return weight.masked_fill(bucket == 0, 0.0)

    def bucket(self, *ids: Tensor) -> Tensor:
        """int64 [*], which weight; 0 where one of the ids is UNKNOWN."""
        hash, known = torch.zeros_like(ids[0]), torch.ones_like(ids[0], dtype=torch.bool)
        for id in ids:
            hash, known = mix(hash + id + _signed(0x9E3779B97F4A7C15)), known & (id != 0)
        return torch.where(known, 1 + _right(hash, 1) % (self.buckets - 1), 0)


def mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser of each of 64 bits."""
    z = (z ^ _right(z, 30)) * _signed(0xBF58476D1CE4E5B9)  # products of int64 wrap, as those without a sign do
    z = (z ^ _right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _right(z, 31)


def _right(z: Tensor, by: int) -> Tensor:
    """z >> by of 64 bits without a sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    """The int64 of the same 64 bits."""
    return value - (1 << 64) if value >> 63 else value
