"""Deep Session Interest Network (Feng et al., IJCAI 2019, arXiv 1905.06482).

    profile, moment ─────────────────────────────────────────────────────────────────────┐
    a session ─ + bias ─ self-attention ─ mean ─▶ I_k ─┬───────────── activation ─ sum ──┤
    a session ─ + bias ─ self-attention ─ mean ─▶ I_k ─┤                   │             ├─ concat ─ head ─ logit
                                                       └─ Bi-LSTM ─▶ H_k ─ activation ─ sum
    item ──────────────────────────────────────────────────────────────────┴─────────────┘

Within a session people are after one thing, between sessions after different ones. So a past is cut into sessions (the schema says
where one begins; a gap of more than 30 minutes, where it says nothing), each becomes one vector, its interest I_k, a recurrent net
over them in the order of time makes what each is in its context, H_k, and the candidate looks at both.

                    paper                        authors' code (2019)            here
    encoding        wK_k + wT_t + wC_c, added    a sinusoid of t, trained,       `encoding`: bias, sinusoid
                    before self-attention        times sqrt(D): DSIN-PE
    k               a session's number           from the latest on              from the latest on, so that older ones may be left out
    attention       scores over sqrt(D); W_O;    over a head's width; no W_O,    `attention`: paper, authors
                    a norm after each residual   no norm; an event never looks
                                                 at itself ("blinding")
    its keys        of a head's part of x        of x with the sinusoid twice;   of x, values too
                                                 values are made of keys
    feed forward    width not said               4 D, ReLU, no biases            4 D, ReLU
    mean            over T events                over T places, filled up        over the session's events
                                                 ones too
    interaction     Bi-LSTM with peepholes,      two layers, their average,      `interaction`: paper, authors, none; without
                    both ways side by side       dropout .2, biases from 1       peepholes
    its order       of time                      the latest session first        of time
    activation      softmax of I_k W q           softmax of an MLP, 64-16,       `activating`: bilinear, mlp
                                                 of q, k, q - k, q * k
    sessions        K of T events                5 of 10, if of 3 and more       all of a past (data.past of the run), also of one event;
                                                                                 past `sessions` and `places` the last k and t are shared
    head            ReLU; a softmax of 2         200-80, ReLU; a sigmoid         as the code
    heads           not said                     8 of width 1                    8, which share an item's width

`interaction` none is the paper's "DSIN-BE without interest interacting layer": I_k alone goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, Segments, Sessions, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.nn.attention import Bilinear, LocalActivation, Projected, Score, SelfAttention, TargetAttention, TransformerLayer, by_length
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import Activation, Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person

COMPARED = (64, 16)  # the hidden layers of the authors' activating units


class DSINConfig(Config):
    """Widths and variants."""

    encoding: Literal["bias", "sinusoid"] = "bias"  # what tells self-attention where an event stands
    attention: Literal["paper", "authors"] = "paper"  # of the events of a session
    interaction: Literal["paper", "authors", "none"] = "paper"  # of sessions
    activating: Literal["bilinear", "mlp"] = "bilinear"  # how a candidate is compared with sessions
    sessions: int = Limits(5, ge=1)  # K, session numbers that `bias` tells apart
    places: int = Limits(10, ge=1)  # T, places in a session that are told apart
    heads: int = Limits(8, ge=1)
    head: tuple[int, ...] = Limits((200, 80), min_length=1)
    activation: Activation = "relu"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class DSIN(Model):
    """Deep Session Interest Network. Raises ConfigError where `heads` do not divide an item's width.

    `explain` gives each session's say, the a_k of its own interest I_k: H_k is of all sessions, so its weight is nobody's in particular.
    An event's attention is its session's say times its share, the mean over the session of the self-attention that each of its events
    gives it; so it sums to 1 over a past, by each head and in their mean. What residuals and feed forward carry it leaves out. No shares
    are made in training.
    """

    Config = DSINConfig
    by_session = True

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: DSINConfig = DSINConfig()) -> None:
        super().__init__(encoding, item, config)
        dim = item.dim
        if dim % config.heads:
            can = ", ".join(str(n) for n in range(1, dim + 1) if dim % n == 0)
            raise ConfigError(f"dsin: {config.heads} heads share an item's width of {dim}, which is no multiple of it; heads can be {can}.")
        self.config, self.item = config, item
        self.past, self.person = Past(encoding, dim), Person(encoding, config.profile)
        biased = config.encoding == "bias"
        self.encoding = BiasEncoding(config.sessions, config.places, dim) if biased else Sinusoid(config.places, dim)
        self.extractor = extractor(dim, config.heads, authors=config.attention == "authors")
        self.interaction = None if config.interaction == "none" else BiLSTM(dim, authors=config.interaction == "authors")
        self.own, both = activating(config, dim, dim), 0
        if self.interaction is not None:
            both = self.interaction.dim
            self.mixed = activating(config, dim, both)
        self.head = Head(self.person.dim, 2 * dim + both, config.head, config.activation, config.dropout)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        events, requests = history.sessions.events, history.sessions.requests
        x = self.past(items, history) + self.encoding(history.sessions)  # [E, D]
        interest = events.mean(self.extractor(x, events))  # [S, D]
        each = {"interest": interest, "key": self.own.key(interest)}
        if self.interaction is not None:
            mixed = self.interaction(interest, requests)  # [S, D] or [S, 2 D]
            each |= {"mixed": mixed, "mixed_key": self.mixed.key(mixed)}
        share = {} if self.training else {"share": shares(self.extractor.attention, x, events)}
        return Memory(segments=requests, each=each, events=events, event=share)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        item, each = items[batch.item], memory.each  # [R, C, D]
        interest, say = self.own(item, each["interest"], each["key"], memory.segments)  # [R, C, D], [S, C]
        known = [item, interest.to(item.dtype)]
        if self.interaction is not None:
            known.append(self.mixed(item, each["mixed"], each["mixed_key"], memory.segments)[0].to(item.dtype))
        logit = self.head(self.person(batch), torch.cat(known, -1))
        if not explain or memory.events is None or "share" not in memory.event:
            return Output(logit=logit, session=say if explain else None)
        head = memory.events.spread(say)[:, :, None] * memory.event["share"][:, None]  # [E, C, H]
        return Output(logit=logit, attention=head.mean(-1), head=head, session=say)

    @property
    def without_gradient(self) -> Mapping[str, str]:
        units = ("own",) if self.interaction is None else ("own", "mixed")
        scores = [(unit, getattr(self, unit).score) for unit in units]
        within = {unit: f"{unit}.score" + ".activation" * isinstance(score, Projected) for unit, score in scores}
        bias = f"rest.{2 * len(COMPARED) - 2}.bias"
        why = "a constant added to all logits leaves a softmax as it is"
        return {f"{within[unit]}.{bias}": why for unit in units} if self.config.activating == "mlp" else {}

    @property
    def pair_bytes(self) -> int:  # of a session
        return 4 * (4 * self.item.dim + 4 * sum(COMPARED) * (self.config.activating == "mlp"))

    @property
    def candidate_bytes(self) -> int:
        return 4 * (8 * self.item.dim + 4 * sum(self.config.head))


def extractor(dim: int, heads: int, *, authors: bool) -> TransformerLayer:
    """What makes the events of a session see each other: [E, dim] -> [E, dim]; as the paper or as the authors' code has it."""
    if authors:
        return TransformerLayer(SelfAttention(dim, heads=heads, blind=True, out=False), dim, hidden=4 * dim, norm="none")
    return TransformerLayer(SelfAttention(dim, heads=heads, scale=dim**0.5), dim, hidden=4 * dim)


def activating(config: DSINConfig, item: int, past: int) -> TargetAttention:
    """A candidate's look at sessions, by the widths of both (eq. 9); the MLP first brings a candidate to the width of a session."""
    score: Score = Bilinear(item, past)
    if config.activating == "mlp":
        alike = item == past
        score = LocalActivation(past, COMPARED, "sigmoid") if alike else Projected(item, past, COMPARED)
    return TargetAttention(score, dim=past)


def shares(attention: SelfAttention, x: Tensor, events: Segments) -> Tensor:
    """float32 [E, H]: what each event is given by its session's events, a mean over these; it sums to 1 over a session."""
    return by_length(lambda x, events: events.unpad(events.mean(attention.say(x, events))), x, events)  # of say [E, longest, H]


class BiasEncoding(nn.Module):
    """BE[k, t, c] = wK_k + wT_t + wC_c (eq. 3): of K sessions, the latest first, T places and `dim` units, K + T + dim numbers.

    A session further back has the last session's, an event further on in its session the last place's.
    """

    def __init__(self, sessions: int, places: int, dim: int) -> None:
        super().__init__()
        self.session, self.place, self.unit = (nn.Parameter(torch.empty(n).normal_(std=1e-4)) for n in (sessions, places, dim))

    def forward(self, sessions: Sessions) -> Tensor:
        """[E, dim]."""
        events, requests = sessions.events, sessions.requests
        ago = requests.spread(requests.length) - 1 - requests.position  # [S]
        of_session = events.spread(self.session.index_select(0, ago.clamp(max=len(self.session) - 1)))
        of_place = self.place.index_select(0, events.position.clamp(max=len(self.place) - 1))
        return (of_session + of_place)[:, None] + self.unit


class Sinusoid(nn.Module):
    """sin(t / 10000^(2i / dim)) and the cosine by turns (Vaswani et al., NeurIPS 2017, section 3.5), times sqrt(dim); they are trained.

    Of places in a session only. An event further on than `places` has the last one's.
    """

    def __init__(self, places: int, dim: int) -> None:
        super().__init__()
        unit = torch.arange(dim)
        angle = torch.arange(places)[:, None] / 10000 ** (2 * (unit // 2) / dim)
        self.place = nn.Parameter(torch.where(unit % 2 == 0, angle.sin(), angle.cos()))

    def forward(self, sessions: Sessions) -> Tensor:
        """[E, dim]."""
        places, dim = self.place.shape
        return self.place.index_select(0, sessions.events.position.clamp(max=places - 1)) * math.sqrt(dim)


class BiLSTM(nn.Module):
    """Two nets over each owner's things, one from the first on and one from the last: [N, dim] -> [N, 2 dim], one beside the other.

    authors: of two layers each, that see their own direction only, with a dropout of .2 before each; [N, dim], the average of both.
    """

    def __init__(self, dim: int, *, authors: bool = False) -> None:
        super().__init__()
        self.authors, self.dim, dropout = authors, dim if authors else 2 * dim, 0.2 * authors
        self.onward, self.back = (nn.LSTM(dim, dim, 1 + authors, dropout=dropout) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        if authors:
            for name, parameter in self.named_parameters():
                if "bias" in name:  # of which torch has two, that are added
                    nn.init.constant_(parameter, float("bias_ih" in name))

    def forward(self, x: Tensor, things: Segments) -> Tensor:
        if not things.total:
            return x.new_zeros(0, self.dim)
        mirror = things.spread(things.start[:-1] + things.start[1:] - 1) - torch.arange(things.total, device=x.device)
        onward = self.run(self.onward, x, things)
        back = self.run(self.back, x.index_select(0, mirror), things).index_select(0, mirror)
        return (onward + back) / 2 if self.authors else torch.cat([onward, back], -1)

    def run(self, net: nn.LSTM, x: Tensor, things: Segments) -> Tensor:
        return things.unpack(net(things.pack(self.dropout(x)))[0])
