"""What is known of a person, of a moment, and of an event beside its item."""

from __future__ import annotations

from typing import Literal

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
        self.id = Table(encoding.users.size, width, of="users") if with_id else None
        self.profile, self.moment = (Fields(encoding.sizes(g), width, of=encoding.named(g)) for g in ("user", "context"))
        self.dim = width * with_id + self.profile.dim + self.moment.dim + encoding.numbers("user", "context")

    def forward(self, batch: Batch) -> Tensor:
        user = batch.user
        id = [] if self.id is None else [self.id(user.code[:, 0])]
        return torch.cat([*id, self.profile(user.code[:, 1:]), user.number, self.moment(batch.context), batch.number], -1)


class Facts(nn.Module):
    """The fields of people, moments or showings, each as one vector: ids int64 [*, F], numbers float32 [*, 2 B] -> [*, fields, dim].

    Of people the id is the first. A number's vector is linear in (value, missing).
    """

    def __init__(self, encoding: Encoding, group: Literal["user", "context", "shown"], dim: int, *, std: float = 0.05) -> None:
        super().__init__()
        sizes = ((encoding.users.size,) if group == "user" else ()) + encoding.sizes(group)
        of = (("users",) if group == "user" else ()) + encoding.named(group)
        self.tables = nn.ModuleList(Table(size, dim, std=std, of=name) for size, name in zip(sizes, of, strict=True))
        numbers = encoding.numbers(group) // 2
        self.numbers = nn.Parameter(torch.empty(numbers, 2, dim).normal_(std=std)) if numbers else None
        self.fields, self.dim = len(sizes) + numbers, dim

    def forward(self, code: Tensor, number: Tensor) -> Tensor:
        parts = [table(code[..., place])[..., None, :] for place, table in enumerate(self.tables)]
        if self.numbers is not None:
            pair = number.view(*number.shape[:-1], self.numbers.shape[0], 2)  # [*, B, 2]
            parts.append((pair[..., None] * self.numbers).sum(-2))
        return torch.cat(parts, -2) if parts else number.new_zeros(*number.shape[:-1], 0, self.dim)


class Past(nn.Module):
    """The events of a past: their items' vectors, plus what else is known of each event (its kind, rating, dwell time).

    What else is known is added, not concatenated, so that candidate and past keep one width; it starts at nothing.
    """

    def __init__(self, encoding: Encoding, dim: int) -> None:
        super().__init__()
        kinds = zip(encoding.sizes("action"), encoding.named("action"), strict=True)
        self.kinds = nn.ModuleList(Table(size, dim, std=0.01, of=name) for size, name in kinds)
        numbers = encoding.numbers("action")
        self.numbers = nn.Linear(numbers, dim, bias=False) if numbers else None

    def forward(self, items: Tensor, history: History) -> Tensor:
        """items [M, dim] -> [E, dim]."""
        past = items.index_select(0, history.item)
        for place, table in enumerate(self.kinds):
            past = past + table(history.action[:, place])
        return past if self.numbers is None else past + self.numbers(history.number)
