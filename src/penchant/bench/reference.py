"""The yardstick: DIN and its training step, written the usual way. It must never change.

What is measured beside it is reported as a ratio to it, so that numbers of different days and machines can be compared.
Whoever must change what it computes, or how, raises REFERENCE, and starts a new series of numbers.

The usual way, as in the common libraries: pasts are filled up to one fixed length, whatever they hold; every cell of
item and category is looked up; the candidate is tiled along the past; [q, k, q - k, q * k] is made for every cell and read
by one MLP; moments are those of all cells; a mask comes last; Adam walks over all rows of all tables in every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.bench.simulate import Made
from penchant.encoding import Ints

REFERENCE = 1  # the version of what stands in this file


@dataclass(frozen=True, kw_only=True, eq=False)
class Padded:
    """B requests of one candidate each, their pasts filled up with 0 to T events."""

    item: Tensor  # int64 [B]
    category: Tensor  # int64 [B]
    past_item: Tensor  # int64 [B, T]
    past_category: Tensor  # int64 [B, T]
    label: Tensor  # float32 [B]


class ReferenceDice(nn.Module):
    """Dice over all cells: [*, dim] -> [*, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.norm(x.reshape(-1, x.shape[-1]))).view_as(x)
        return gate * x + (1 - gate) * self.alpha * x


class ReferenceDIN(nn.Module):
    """DIN over padded pasts."""

    def __init__(self, items: int, categories: int, dim: int) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, dim, padding_idx=0)
        self.category = nn.Embedding(categories + 1, dim, padding_idx=0)
        nn.init.normal_(self.item.weight, std=0.05)
        nn.init.normal_(self.category.weight, std=0.05)
        self.attention = nn.Sequential(
            nn.Linear(4 * 2 * dim, 80),
            ReferenceDice(80),
            nn.Linear(80, 40),
            ReferenceDice(40),
            nn.Linear(40, 1),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * 2 * dim, 200),
            ReferenceDice(200),
            nn.Linear(200, 80),
            ReferenceDice(80),
            nn.Linear(80, 1),
        )

    def forward(self, batch: Padded) -> Tensor:
        query = torch.cat([self.item(batch.item), self.category(batch.category)], -1)  # [B, D]
        past = torch.cat([self.item(batch.past_item), self.category(batch.past_category)], -1)  # [B, T, D]
        tiled = query[:, None].expand_as(past)
        weight = self.attention(torch.cat([tiled, past, tiled - past, tiled * past], -1))  # [B, T, 1]
        mask = (batch.past_item != 0)[..., None]
        interest = (weight * mask * past).sum(1)  # [B, D]
        logit: Tensor = self.head(torch.cat([interest, query], -1)).squeeze(-1)
        return logit


class ReferenceLoop:
    """Batches and steps."""

    def __init__(self, made: Made, *, dim: int, longest: int, rate: float) -> None:
        catalogue = made.encoding.catalogue
        self.made, self.longest, self.category = made, longest, catalogue.code[:, 0]
        self.model = ReferenceDIN(catalogue.size - 1, made.encoding.vocabularies["item.category"].size - 1, dim)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=rate)

    def batch(self, request: Ints) -> Padded:
        made = self.made
        begin, end = made.start[made.person[request], None], made.start[made.person[request] + 1, None]
        place = begin + np.arange(self.longest)  # [B, T]
        past = np.where(place < end, made.event[np.minimum(place, end - 1)], 0)
        return Padded(
            item=torch.from_numpy(made.item[request]),
            category=torch.from_numpy(self.category[made.item[request]]),
            past_item=torch.from_numpy(past),
            past_category=torch.from_numpy(self.category[past]),
            label=torch.from_numpy(made.label[request]),
        )

    def step(self, request: Ints) -> Tensor:
        """One training step; the loss before it."""
        batch = self.batch(request)
        self.optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(self.model(batch), batch.label)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()
