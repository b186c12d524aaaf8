"""Popularity: every person is told the same, by how many training events each item has. The least that a model must beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from penchant.batch import Batch, Memory, Output
from penchant.config import Config
from penchant.encoding import Catalogue, Encoding
from penchant.nn.item import ItemEncoder
from penchant.nn.model import Model


class PopularityConfig(Config):
    """There is nothing to choose."""


class Popularity(Model):
    """The logarithm of one more than an item's positive training events. It learns nothing, and ignores the item encoder."""

    Config = PopularityConfig
    reads_past = False

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: PopularityConfig = PopularityConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item = _LogCount(encoding.catalogue)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return Output(logit=items[batch.item].squeeze(-1))


class _LogCount(nn.Module):
    """log(1 + positive training events) of catalogue rows: [M, 1]."""

    count: Tensor
    dim: int = 1
    parts: tuple[int, ...] = (1,)
    attributes: bool = False

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.extend(catalogue)

    def extend(self, catalogue: Catalogue) -> None:
        device = self.count.device if hasattr(self, "count") else None
        self.register_buffer("count", torch.tensor(catalogue.count, device=device), persistent=False)  # a copy of its own

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        return self.count.index_select(0, row).float().log1p()[:, None]
