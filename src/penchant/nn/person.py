"""What is known of a person, of a moment, and of an event beside its item."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from penchant.batch import Batch, History
from penchant.encoding import Encoding
from penchant.nn.embedding import Fields, Table


class Person(nn.Module):
    """Profile and moment of each request: [R, dim].

    The id itself is left out unless asked for: most models know a person by their past, and so serve people never seen.
    """

    def __init__(self, encoding: Encoding, width: int, *, with_id: bool = False) -> None:
        super().__init__()
        self.id = Table(encoding.users.size, width) if with_id else None
        self.profile, self.moment = Fields(encoding.sizes("user"), width), Fields(encoding.sizes("context"), width)
        self.dim = width * with_id + self.profile.dim + self.moment.dim + encoding.numbers("user", "context")

    def forward(self, batch: Batch) -> Tensor:
        user = batch.user
        id = [] if self.id is None else [self.id(user.code[:, 0])]
        return torch.cat([*id, self.profile(user.code[:, 1:]), user.number, self.moment(batch.context), batch.number], -1)


class Past(nn.Module):
    """The events of a past: their items' vectors, plus what else is known of each event (its kind, rating, dwell time).

    What else is known is added, not concatenated, so that candidate and past keep one width; it starts at nothing.
    """

    def __init__(self, encoding: Encoding, dim: int) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(Table(size, dim, std=0.01) for size in encoding.sizes("action"))
        numbers = encoding.numbers("action")
        self.numbers = nn.Linear(numbers, dim, bias=False) if numbers else None

    def forward(self, items: Tensor, history: History) -> Tensor:
        """items [M, dim] -> [E, dim]."""
        past = items.index_select(0, history.item)
        for place, table in enumerate(self.kinds):
            past = past + table(history.action[:, place])
        return past if self.numbers is None else past + self.numbers(history.number)
