"""A past as the last state of a recurrent net: the fixed-vector relative of DIEN, and what GRU4Rec does with a session.

    profile, moment ──────────┐
    past ─── GRU ─ last ──────┼─ concat ─ head ─ logit
    item ─────────────────────┘

The unit is that of "Session-based recommendations with recurrent neural networks" (Hidasi et al., ICLR 2016, section 3.1), the place
in the model that of the "DIN-RNN" of DSIN's tables (Feng et al., IJCAI 2019): whatever the candidate, the past is one vector.

                    Hidasi et al.                          here
    what is read    one session, items one-hot             a whole past, items by their vectors and what else is known
    an item's score a product with the last state          the head's, which reads profile and moment too
    learned from    each event of a session, sessions      requests with their candidates, as all models here
                    side by side in a batch ("parallel")
    loss            TOP1 or BPR against the batch's        the run's
    reset gate      before the product                     `reset`: before; after, as torch and DIEN have it
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
from penchant.nn.recurrent import Cell, Reset


class RecurrentConfig(Config):
    """Widths and variants."""

    hidden: int | None = Limits(None, ge=1)  # of the state; None: the width of an item's vector
    reset: Reset = "before"
    head: tuple[int, ...] = Limits((200, 80), min_length=1)
    activation: Activation = "dice"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class Recurrent(Model):
    """The last state of a GRU over a past, 0 of an empty one. A state does not say which events made it, so it explains nothing."""

    Config = RecurrentConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: RecurrentConfig = RecurrentConfig()) -> None:
        super().__init__(encoding, item, config)
        self.config = config
        self.item, hidden = item, config.hidden or item.dim
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        self.unit = Cell(item.dim, hidden, reset=config.reset)
        self.head = Head(self.person.dim + hidden, item.dim, config.head, config.activation, config.dropout)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        gates = self.unit.input(self.past(items, history))  # [E, 3 H]
        return Memory(segments=history.events, whole={"state": self.unit.last(history.events, gates, None, None).squeeze(1)})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        request = torch.cat([self.person(batch), memory.whole["state"]], -1)
        return Output(logit=self.head(request, items[batch.item]))

    @property
    def candidate_bytes(self) -> int:
        return 4 * (2 * self.item.dim + 4 * sum(self.config.head))
