"""A small model that tries the contract where it is hardest: hashes of a past, of which each candidate takes some.

It is of its paper's shape, no more: what a real one also needs (variants, published settings) is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.attention import LocalActivation
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person


class ETAConfig(Config):
    nearest: int = 3
    bits: int = 16
    attention: tuple[int, ...] = (16, 8)
    head: tuple[int, ...] = (16, 8)


class ETA(Model):
    """Local activation over the events whose sign hashes are nearest to the candidate's (Chen et al., 2021)."""

    Config = ETAConfig
    plane: Tensor

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: ETAConfig = ETAConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item, self.nearest = item, config.nearest
        self.past, self.person = Past(encoding, item.dim), Person(encoding, 4)
        self.activation = LocalActivation(item.dim, config.attention)
        self.head = Head(self.person.dim, 2 * item.dim, config.head)
        self.register_buffer("plane", torch.randn(item.dim, config.bits, generator=torch.Generator().manual_seed(0)))

    def hash(self, x: Tensor) -> Tensor:
        """int8 [*, bits], 1 or -1: on which side of each plane. No gradient goes through."""
        with torch.autocast(x.device.type, enabled=False):
            return ((x.detach().float() @ self.plane) > 0).to(torch.int8) * 2 - 1

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        past = self.past(items, history)
        return Memory(segments=history.events, each={"past": past, "key": self.activation.key(past), "hash": self.hash(past)})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        events, past, key = memory.segments, memory.each["past"], memory.each["key"]
        item = items[batch.item]
        (r, c), flat = batch.item.shape, item.flatten(0, 1)[:, None]  # [R * C, 1, D]
        alike = events.dot(memory.each["hash"].float(), self.hash(item).float())  # [E, C]
        event, pairs = events.top(alike, self.nearest)  # [P] of R * C owners
        say = self.activation(flat, past[event], key[event], pairs)  # [P, 1]
        interest = pairs.pool(past[event], say).view(r, c, -1)
        logit = self.head(self.person(batch), torch.cat([interest, item], -1))
        return Output(logit=logit, attention=self.laid_out(say, event, pairs, c, events.total) if explain else None)

    @staticmethod
    def laid_out(say: Tensor, event: Tensor, pairs: Segments, candidates: int, events: int) -> Tensor:
        """say [P, 1] of pairs -> [E, C], nothing for the events that were left out."""
        place = event * candidates + pairs.row % candidates
        return say.new_zeros(events * candidates).index_copy(0, place, say.squeeze(-1)).view(events, candidates).float()
