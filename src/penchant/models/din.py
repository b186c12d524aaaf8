"""Deep Interest Network (Zhou et al., KDD 2018, arXiv 1706.06978).

    profile, moment ─────────────────────┐
    past ───┐                            ├─ concat ─ head ─ logit
            ├─ local activation ─ sum ───┤
    item ───┴────────────────────────────┘

What of a past matters depends on the item in question, so the past is summed with weights computed against that item.
The weights are not normalised (section 4.3): their total keeps the strength of the interest.

                  paper                authors' code (2020)             here
    interaction   "out product"        q, k, q - k, q * k               as the authors' code
    weights       not normalised       softmax of s / sqrt(D)           `normalize`: none, softmax, softmax_scaled
    activation    PReLU or Dice        sigmoid or Dice                  `activation`, Dice by default (moments as in the paper)
    batch norm    -                    an affine map: never trained     none
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field as Limits
from torch import Tensor

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.attention import LocalActivation
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import Activation, Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person


class DINConfig(Config):
    """Widths and variants."""

    attention: tuple[int, ...] = Limits((80, 40), min_length=1)
    attention_activation: Activation = "dice"
    head: tuple[int, ...] = Limits((200, 80), min_length=1)
    activation: Activation = "dice"
    normalize: Literal["none", "softmax", "softmax_scaled"] = "none"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class DIN(Model):
    """Deep Interest Network; `explain` gives each event's weight, which is not normalised unless `normalize` says so."""

    Config = DINConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: DINConfig = DINConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item = item  # one encoder for candidate and past
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        self.activation = LocalActivation(item.dim, config.attention, config.attention_activation)
        self.head = Head(self.person.dim, 2 * item.dim, config.head, config.activation, config.dropout)
        self.config = config

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        past = self.past(items, history)  # [E, D]
        return Memory(segments=history.events, each={"past": past, "key": self.activation.key(past)})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        events, past = memory.segments, memory.each["past"]
        item = items[batch.item]  # [R, C, D]
        say = self.normalized(self.activation(item, past, memory.each["key"], events), memory)  # [E, C]
        interest = events.pool(past, say)  # [R, C, D]
        logit = self.head(self.person(batch), torch.cat([interest, item], -1))
        return Output(logit=logit, attention=say.float() if explain else None)

    def normalized(self, say: Tensor, memory: Memory) -> Tensor:
        if self.config.normalize == "none":
            return say
        scale = self.item.dim**-0.5 if self.config.normalize == "softmax_scaled" else 1.0
        return memory.segments.softmax(say * scale)

    @property
    def without_gradient(self) -> Mapping[str, str]:
        if self.config.normalize == "none":
            return {}
        last = len(self.activation.rest) - 1
        return {f"activation.rest.{last}.bias": "a constant added to all logits leaves a softmax as it is"}

    @property
    def pair_bytes(self) -> int:
        return 4 * (2 * self.item.dim + 4 * sum(self.config.attention))
