"""Behaviour Sequence Transformer (Chen et al., DLP-KDD 2019, arXiv 1905.06874).

    profile, moment ──────────────────────────────────────────────────────┐
    past, how long ago ──┬─ attention ─ norm ─ feed forward ─ norm ───────┴─ concat ─ head ─ logit
    item, now ───────────┘  (of the item, over the past and itself)

A past and the candidate at its end are one sequence, each thing of it with its distance from now, [e_i; p_i], and a transformer's
block lets them look at each other. What goes on is the candidate's own place (section 2.3), and of one block that place looks at
the other things' inputs alone: what they make of the candidate and of each other reaches nothing. So their queries, their rows of
the attention and their feed forward are not worked out; their keys and values are made once a past, and a further candidate costs
one query. With a second block this would not hold, but the paper found one block best.

                    paper                          FuxiCTR (2024)               here
    distance        embedding of the time to       embedding of the place       `position`: time, by powers of two seconds, or place,
                    it, t(now) - t(event)          in rows filled up to 100     of which the latest event has 1 whatever the length
    its vector      beside the item's              beside the item's            beside the item's; `place` wide
    what goes on    text: the candidate's place;   `seq_pooling_type`: mean,    the candidate's place: to lay all places side by side,
                    figure: all 20, side by side   sum, target or concat        rows have to be filled up to one length
    blocks          1 (2 and 3 were worse)         1                            1
    norm            after each sum                 after each sum               after each sum
    activation      leaky ReLU, slope not said     leaky ReLU .01; ReLU         `activation`: leaky ReLU .01
    in the head
    feed forward    width not said                 as wide as the sequence      `hidden`: as wide as the sequence
    heads           8                              2                            8; a width that is no multiple is rounded up to one
    head            1024-512-256                   256-128-64                   1024-512-256
    dropout         .2                             0                            .2
    longest past    20                             100                          the run's: data.past

The keys' part of a distance is of few values: W [e; p] = W_e e + W_p p, so a Memory holds W_e e, which no moment changes, and the
rest is added when a moment is known.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.nn.attention import MultiHead
from penchant.nn.embedding import Table
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import MLP, Activation, Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person

DOUBLINGS = 31  # of a second: 34 years


class BSTConfig(Config):
    """Widths and variants."""

    position: Literal["time", "place"] = "time"  # how long ago an event was, or how many events ago
    place: int = Limits(8, ge=1)  # width of its vector
    longest: int = Limits(200, ge=1)  # places that are told apart; what is further back shares the last one's vector
    heads: int = Limits(8, ge=1)
    hidden: int | None = Limits(None, ge=1)  # of the feed forward part; None: the width of the sequence
    head: tuple[int, ...] = Limits((1024, 512, 256), min_length=1)
    activation: Activation = "leaky_relu"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.2, ge=0, lt=1)


class BST(Model):
    """Behaviour Sequence Transformer; `explain` gives each event's attention, by head and their mean.

    It sums to less than 1 over a past: the rest is the candidate's say on itself. Raises ConfigError where `position` asks for times
    and a Log has none.
    """

    Config = BSTConfig
    edge: Tensor

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: BSTConfig = BSTConfig()) -> None:
        super().__init__(encoding, item, config)
        self.timed = config.position == "time"
        if self.timed and encoding.schema.events.time.unit == "rows":
            raise ConfigError("bst: position is 'time', but with events.time.unit 'rows' no time is known. Set position to 'place'.")
        self.config, self.item, self.width = config, item, item.dim + config.place
        self.register_buffer("edge", 1000 << torch.arange(DOUBLINGS), persistent=False)  # milliseconds
        self.places = 2 + (DOUBLINGS if self.timed else config.longest - 1)  # the candidate's is 0
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        self.place = Table(self.places, config.place)
        dim = -(-self.width // config.heads) * config.heads
        self.attention = MultiHead(self.width, self.width, dim, heads=config.heads, own=True)
        self.feed = MLP(self.width, (config.hidden or self.width,), self.width, config.activation)
        self.first, self.second, self.drop = nn.LayerNorm(self.width), nn.LayerNorm(self.width), nn.Dropout(config.dropout)
        self.head = Head(self.person.dim, self.width, config.head, config.activation, config.dropout)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        past = self.past(items, history)  # [E, D]
        key, value = self.attention.read(F.pad(past, (0, self.config.place)))  # W_e e, [E, H d] each
        time = {"time": history.time} if self.timed else {}
        return Memory(segments=history.events, each={"key": key, "value": value, **time})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        item, place = items[batch.item], self.place(torch.arange(self.places, device=items.device))  # [R, C, D], [places, P]
        ago = self.ago(memory, batch)
        further = self.attention.read(F.pad(place, (self.item.dim, 0)))  # W_p p
        key, value = (memory.each[name] + part.index_select(0, ago) for name, part in zip(("key", "value"), further, strict=True))
        x = torch.cat([item, place[0].expand(*item.shape[:2], -1)], -1)  # [R, C, D + P]
        seen, say = self.attention(x, key, value, memory.segments)  # [R, C, D + P], [E, C, H]
        x = self.first(x + self.drop(seen))
        x = self.second(x + self.drop(self.feed(x)))
        logit = self.head(self.person(batch), x)
        return Output(logit=logit, attention=say.mean(-1), head=say) if explain else Output(logit=logit)

    def ago(self, memory: Memory, batch: Batch) -> Tensor:
        """int64 [E], which place: 1 for less than a second ago, 2 for less than two, 3 for less than four, ...; or 1 for the latest."""
        events = memory.segments
        if self.timed:
            return 1 + torch.bucketize(events.spread(batch.time) - memory.each["time"], self.edge, right=True)
        return (events.spread(events.length) - events.position).clamp(max=self.config.longest)

    @property
    def pair_bytes(self) -> int:
        return 4 * (8 * self.config.heads + 2 * self.width // self.config.heads)

    @property
    def candidate_bytes(self) -> int:
        return 4 * (10 * self.width + 2 * sum(self.config.head))
