"""The fixed-vector relative of DIN: a past is the mean of its events, whatever the candidate.

    profile, moment ──────────┐
    past ─── mean ────────────┼─ concat ─ head ─ logit
    item ─────────────────────┘

The "BaseModel" of Zhou et al. (KDD 2018, section 4.2) with mean pooling, and what YouTubeDNN (Covington et al.,
RecSys 2016) does with a past, here with the candidate in the head.
"""

from __future__ import annotations

import torch
from pydantic import Field as Limits
from torch import Tensor

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import Activation, Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person


class PoolingConfig(Config):
    """Widths."""

    head: tuple[int, ...] = Limits((200, 80), min_length=1)
    activation: Activation = "dice"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class Pooling(Model):
    """Mean of the past; `explain` gives each of n events the say 1 / n."""

    Config = PoolingConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: PoolingConfig = PoolingConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item = item
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        self.head = Head(self.person.dim + item.dim, item.dim, config.head, config.activation, config.dropout)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return Memory(segments=history.events, whole={"interest": history.events.mean(self.past(items, history))})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        request = torch.cat([self.person(batch), memory.whole["interest"]], -1)
        attention = None
        if explain:  # every event has the same say on every candidate
            share = 1 / memory.segments.length.clamp(min=1).float()
            attention = memory.segments.spread(share)[:, None].expand(-1, batch.item.shape[1])
        return Output(logit=self.head(request, items[batch.item]), attention=attention)
