"""Deep Interest Network (Zhou et al., KDD 2018, arXiv 1706.06978).

    profile, moment ─────────────────────┐
    past ───┐                            ├─ concat ─ head ─ logit
            ├─ local activation ─ sum ───┤
    item ───┴────────────────────────────┘

What of a past matters depends on the item in question, so the past is summed with weights computed against that item.
The weights are not normalised (section 4.3): their total keeps the strength of the interest.

                    paper                  authors' code (2020)           here
    unit's input    q, k, "out product"    q, k, q - k, q * k             `interaction`: product, as the code has it, or outer
    weights         not normalised         softmax of s / sqrt(D)         `normalize`: none, softmax (DIEN's authors), softmax_scaled
    activation      PReLU or Dice          sigmoid or Dice                `activation`, `attention_activation`: Dice by default
    Dice            moving averages        moments 0 and 1, never         as the paper
                    at test                trained; an extra gate slope
    batch norm      -                      an affine map: never trained   none
    head's input    profile, q, v, moment  BN(v) W, q, their product      as the paper
    item bias       -                      one a item                     none: the head reads the item's vector
    regulariser     mini-batch aware       none on public data            train.mini_batch_aware of the run (section 5.1)
    ids             user's among them      a table that nothing reads     none: people are known by profile and past

The authors' published numbers (.8818, .8871 on Amazon Electronics) come from before they mended a leak of the label; the corrected
code's are .8698 and .8711 (their README, 2020-06-12).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field as Limits
from torch import Tensor

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.attention import Interaction, LocalActivation, Normalize, TargetAttention
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
    interaction: Interaction = "product"  # q * k, or all products q_i k_j
    normalize: Normalize = "none"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class DIN(Model):
    """Deep Interest Network; `explain` gives each event's weight, which is not normalised unless `normalize` says so."""

    Config = DINConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: DINConfig = DINConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item = item  # one encoder for candidate and past
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        score = LocalActivation(item.dim, config.attention, config.attention_activation, config.interaction)
        self.attention = TargetAttention(score, dim=item.dim, normalize=config.normalize)
        self.head = Head(self.person.dim, 2 * item.dim, config.head, config.activation, config.dropout)
        self.config = config

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        past = self.past(items, history)  # [E, D]
        return Memory(segments=history.events, each={"past": past, "key": self.attention.key(past)})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        item = items[batch.item]  # [R, C, D]
        interest, say = self.attention(item, memory.each["past"], memory.each["key"], memory.segments)  # [R, C, D], [E, C]
        logit = self.head(self.person(batch), torch.cat([interest, item], -1))
        return Output(logit=logit, attention=say.float() if explain else None)

    @property
    def without_gradient(self) -> Mapping[str, str]:
        if self.config.normalize == "none":
            return {}
        last = len(self.config.attention) * 2 - 2
        return {f"attention.score.rest.{last}.bias": "a constant added to all logits leaves a softmax as it is"}

    @property
    def pair_bytes(self) -> int:
        return 4 * (2 * self.item.dim + 4 * sum(self.config.attention))
