"""The item encoder: all that is known of an item, as one vector.

    id ──────────── table ─────────────┐
    category ────── table ─────────────┤
    genres ──────── table ── mean ─────┼─ concat ─ [M, D]
    price ───────── standardised ──────┘

One encoder reads the candidate and the past. Models are given it, so that a wrapper can give them a wider one.
"""

from __future__ import annotations

from typing import Protocol

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.config import Config
from penchant.encoding import Catalogue
from penchant.nn.embedding import Fields, Table


class ItemConfig(Config):
    """Widths of an item's vector."""

    dim: int = Limits(32, ge=1)  # of the id, and of each categorical attribute
    attributes: bool = True  # False: the id alone
    std: float = Limits(0.05, gt=0)  # of the normal distribution that tables start from


class ItemEncoder(Protocol):
    """What models are given: catalogue rows int64 [M], whether their ids are known bool [M] -> [M, dim]."""

    dim: int

    def __call__(self, row: Tensor, known: Tensor) -> Tensor: ...

    def extend(self, catalogue: Catalogue) -> None:
        """From now on speak of this catalogue, which has the old one's rows and further ones after them."""


class CatalogueEncoder(nn.Module):
    """An item encoder over a catalogue's ids and attributes."""

    category: Tensor
    length: Tensor
    number: Tensor

    def __init__(
        self, catalogue: Catalogue, sizes: tuple[int, ...], many_sizes: tuple[int, ...], config: ItemConfig = ItemConfig()
    ) -> None:
        super().__init__()
        self.attributes = config.attributes
        self.id = Table(catalogue.size, config.dim, std=config.std)
        self.fields = Fields(sizes if config.attributes else (), config.dim, std=config.std)
        self.many = nn.ModuleList(Table(size, config.dim, std=config.std) for size in many_sizes if config.attributes)
        numbers = catalogue.number.shape[1] if config.attributes else 0
        self.dim = config.dim * (1 + len(self.fields.tables) + len(self.many)) + numbers
        self.extend(catalogue)

    def extend(self, catalogue: Catalogue) -> None:
        device = self.id.weight.device
        for name, value in {"category": catalogue.code, "length": catalogue.length, "number": catalogue.number}.items():
            self.register_buffer(name, torch.from_numpy(value).to(device), persistent=False)
        for place, values in enumerate(catalogue.many):
            self.register_buffer(f"many_{place}", torch.from_numpy(values).to(device), persistent=False)

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        parts = [self.id(torch.where(known, row, 0))]
        if self.attributes:
            parts.append(self.fields(self.category.index_select(0, row)))
            parts += [self._mean(place, table, row) for place, table in enumerate(self.many)]
            parts.append(self.number.index_select(0, row))
        return torch.cat(parts, -1)

    def _mean(self, place: int, table: nn.Module, row: Tensor) -> Tensor:
        """The mean over an item's values of one several-valued attribute: [M, dim]."""
        values = self.get_buffer(f"many_{place}").index_select(0, row)  # [M, W]
        length = self.length.index_select(0, row)[:, place, None]
        there = torch.arange(values.shape[1], device=row.device) < length
        vectors: Tensor = table(values)  # [M, W, dim]
        return (vectors * there[..., None]).sum(1) / length


class Widened(nn.Module):
    """An item encoder with a further id table beside it: [M, item.dim + extra], the table's columns last."""

    def __init__(self, item: ItemEncoder, size: int, extra: int, *, std: float = 0.05) -> None:
        super().__init__()
        self.item, self.extra = item, Table(size, extra, std=std)
        self.dim = item.dim + extra

    def extend(self, catalogue: Catalogue) -> None:
        self.item.extend(catalogue)

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        return torch.cat([self.item(row, known), self.extra(torch.where(known, row, 0))], -1)
