"""Self-Attentive Sequential Recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

    past + places ─ dropout ─ L times (norm ─ causal attention ─ add, norm ─ feed forward ─ add) ─ norm ─ state after each event
    item ────────────────────────────────────────────────────────────────────────────── item . last state ─ logit

Each event looks at itself and at earlier ones, and the state after it is asked for the next item: a past of n events is n examples
at once, so a run takes one example a person (`latest`), and what is minimised is this model's own loss. An item is scored by the
same vector that it is read by; nothing else is known of a person or a moment, so the last state is all that is kept of a past.

                    paper                         authors' code (2018)          here
    vectors         ids                           ids, times sqrt(D) when       ids (`Item`; attributes widen them), `embedding`:
                                                  read, as they are in scores   paper, authors; what else is known of an event is added
    places          learned, of rows of n that    as the paper                  learned, counted from the end, which is the same; what
                    end with the latest event                                   is further back than `longest` shares the last one's
    block           x + g(norm(x))                norm(x) + g(norm(x)); keys    `block`: paper, authors; hstu, the later layer without
                                                  and values of x itself        a softmax (Zhai et al., ICML 2024)
    attention       one head, no W_O, no biases   no W_O, biases; dropout of    `heads`; no W_O, no biases; dropout of weights with
                                                  weights                       the authors' block
    loss            cross-entropy of the next     as the paper                  `loss`: bce, as the paper; sampled softmax; softmax over
                    item and one other (eq. 6)                                  all items
    n, L, D         200, 2, 50 on ML-1M           50, 2, 50                     the run's data.past and item.dim; `blocks`
    dropout         .2 on ML-1M, .5 elsewhere     .5                            .2
    empty past      -                             -                             the last norm of zeros: its offset

    bce             log(1 + exp(-s+)) + log(1 + exp(s-)), s- of an item not chosen then (History.other); at the end of a past the
                    mean over the request's other candidates takes the place of s-
    sampled         -log(exp(s+) / (exp(s+) + sum of exp(s-) / (n q))), over n items drawn a request (Batch.negative), q being the
                    probability of drawing each; one that is the next item itself is left out. What a person chose is never drawn, so the
                    softmax is over all others, and a little large: q is as if it could be
    cross_entropy   -log softmax(s) of the next item, over all rows of the batch, which are those of all items

A mean over all states whose next item was a positive; at the end of a past that is each positive candidate, which counts as its
weight says. On ML-1M, ranking all items, the loss alone moves NDCG@10 from .13 (bce) to .18 (softmax over all items, or over 3000
drawn): Klenitskiy and Vasilev, RecSys 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError, TrainingError
from penchant.nn.attention import NEVER, HSTULayer, SelfAttention, TransformerLayer
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig, ItemEncoder
from penchant.nn.loss import TINY
from penchant.nn.model import Model, Wants
from penchant.nn.person import Past


class SASRecConfig(Config):
    """Widths and variants; the width of all is that of an item's vector."""

    blocks: int = Limits(2, ge=1)
    heads: int = Limits(1, ge=1)
    block: Literal["paper", "authors", "hstu"] = "paper"  # what the residuals go around; or the layer of HSTU in its place
    embedding: Literal["paper", "authors"] = "paper"  # vectors as they are, or times the square root of their width
    longest: int = Limits(200, ge=1)  # places that are told apart
    loss: Literal["bce", "sampled", "cross_entropy"] = "bce"
    negatives: int = Limits(128, ge=1)  # items drawn a request, of the sampled loss
    dropout: float = Limits(0.2, ge=0, lt=1)


class SASRec(Model):
    """Self-attentive sequential recommendation; `explain` gives each event's weight in the last state, of the last block.

    Those are by head, and their mean; they are alike for all candidates. Raises ConfigError where the heads cannot share an item's
    width, and in training TrainingError where a batch lacks what the loss wants.
    """

    Config = SASRecConfig
    Item = ItemConfig(attributes=False, dim=64)
    Loss: ClassVar[Mapping[str, Any]] = {"name": "none"}  # its own takes the place of one of the candidates alone
    latest = 1  # a past is an example at each of its events

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: SASRecConfig = SASRecConfig()) -> None:
        super().__init__(encoding, item, config)
        if item.dim % config.heads:
            raise ConfigError(f"sasrec: heads is {config.heads}, but an item's vector is {item.dim} wide, which is no multiple of it.")
        self.config, self.item, self.past = config, item, Past(encoding, item.dim)
        self.scale = item.dim**0.5 if config.embedding == "authors" else 1.0
        self.place, self.drop = Table(config.longest, item.dim), nn.Dropout(config.dropout)  # 0 is the latest event's
        self.layers = nn.ModuleList(self.layer() for _ in range(config.blocks))
        self.norm = nn.LayerNorm(item.dim)

    def layer(self) -> TransformerLayer | HSTULayer:
        """One block."""
        config, dim, authors = self.config, self.item.dim, self.config.block == "authors"
        if config.block == "hstu":
            return HSTULayer(dim, heads=config.heads, most=config.longest, dropout=config.dropout)
        attention = SelfAttention(dim, heads=config.heads, causal=True, out=False, dropout=config.dropout * authors)
        kind, inner = (AuthorsLayer, config.dropout) if authors else (TransformerLayer, 0.0)
        return kind(attention, dim, hidden=dim, norm="before", dropout=config.dropout, inner=inner)

    @property
    def wants(self) -> Wants:
        loss = self.config.loss
        sampled = loss == "sampled"
        return Wants(others=loss == "bce", further=self.config.negatives * sampled, against_past=sampled, catalogue=loss == "cross_entropy")

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        events = history.events
        age = events.spread(events.length) - 1 - events.position
        x = self.drop(self.past(items, history) * self.scale + self.place(age.clamp(max=self.config.longest - 1)))  # [E, D]
        before = x
        for layer in self.layers:
            before, x = x, layer(x, events)
        if self.training:
            each = {"state": self.norm(x)}
        else:
            each = {"say": self.layers[-1].say_on_last(before, events)}  # type: ignore[operator]  # [E, H]
        ends = F.pad(x, (0, 0, 1, 0)).index_select(0, events.start[1:])  # [R, D]
        last = torch.where(events.length[:, None] > 0, ends, 0.0)
        return Memory(segments=events, each=each, whole={"state": self.norm(last)})

    def interests(self, memory: Memory) -> Tensor:
        """[R, 1, D]."""
        return memory.whole["state"][:, None]

    def targets(self, items: Tensor) -> Tensor:
        """[M, D]."""
        return items

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        logit = (items[batch.item] @ memory.whole["state"][:, :, None]).squeeze(-1).float()  # [R, C]
        losses = {"next": self.next_loss(items, memory, batch, logit)} if self.training else {}
        if not explain:
            return Output(logit=logit, losses=losses)
        say = memory.each["say"][:, None].expand(-1, logit.shape[1], -1)  # [E, C, H]
        return Output(logit=logit, attention=say.mean(-1), head=say, losses=losses)

    def next_loss(self, items: Tensor, memory: Memory, batch: Batch, logit: Tensor) -> Tensor:
        """The loss of every state that has a next item, a mean; logit [R, C] is of the last ones."""
        events = memory.segments
        steps = Segments.of((events.sizes - 1).clamp(min=0), logit.device)  # N events with one after them
        now = events.start[:-1].index_select(0, steps.row) + steps.position
        state, next = memory.each["state"].index_select(0, now), batch.history.item.index_select(0, now + 1)
        label = logit.new_zeros(logit.shape) if batch.label is None else batch.label
        weight = torch.ones_like(label) if batch.weight is None else batch.weight
        positive, other = torch.where(label > 0.5, weight, 0.0), torch.where(label > 0.5, 0.0, weight)
        chosen = batch.history.chosen
        counts = torch.ones_like(state[:, 0]).float() if chosen is None else chosen.index_select(0, now + 1)  # [N]
        asked = Asked(
            items=items,
            batch=batch,
            steps=steps,
            after=now + 1,
            state=state,
            last=memory.whole["state"],
            next=next,
            right=(state * items.index_select(0, next)).sum(-1).float(),
            logit=logit,
            other=other,
        )
        each, end = LOSSES[self.config.loss](asked)
        return ((each * counts).sum() + (end * positive).sum()) / (counts.sum() + positive.sum()).clamp(min=TINY)

    @property
    def candidate_bytes(self) -> int:
        return 4 * (self.item.dim + 2)


class AuthorsLayer(TransformerLayer):
    """The block of the authors' code: residuals go around what was normalised, and keys and values are of what was not."""

    def forward(self, x: Tensor, things: Segments) -> Tensor:
        query = self.first(x)
        x = self.second(query + self.attention(query, things, x))
        out: Tensor = x + self.drop(self.feed(x))
        return out

    def say_on_last(self, x: Tensor, things: Segments) -> Tensor:
        return self.attention.say_on_last(self.first(x), things, x)


# ----------------------------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """N states after events of R pasts that have an event after them, and the R last states: what they are asked, and what they say."""

    items: Tensor  # [M, D]
    batch: Batch
    steps: Segments  # N states of R pasts
    after: Tensor  # int64 [N]  the event after each
    state: Tensor  # [N, D]
    last: Tensor  # [R, D]
    next: Tensor  # int64 [N]  its item
    right: Tensor  # float32 [N]  what is said of it
    logit: Tensor  # float32 [R, C]  what the last states say of the candidates
    other: Tensor  # float32 [R, C]  weights of the candidates that are not positive


def bce(asked: Asked) -> tuple[Tensor, Tensor]:
    """The loss of each state [N], and of each candidate as if it were positive [R, C]; so of all three."""
    if asked.batch.history.other is None:
        raise TrainingError("this batch has no History.other, which the loss 'bce' of sasrec needs.")
    item = asked.items.index_select(0, asked.batch.history.other.index_select(0, asked.after))
    wrong = (asked.state * item).sum(-1).float()
    against = (F.softplus(asked.logit) * asked.other).sum(1, keepdim=True) / asked.other.sum(1, keepdim=True).clamp(min=TINY)
    return F.softplus(-asked.right) + F.softplus(wrong), F.softplus(-asked.logit) + against


def sampled(asked: Asked) -> tuple[Tensor, Tensor]:
    """Each item drawn stands for 1 / (n q) of those that a person never chose."""
    drawn, log_q, steps = asked.batch.negative, asked.batch.negative_log_q, asked.steps
    if drawn is None or log_q is None:
        raise TrainingError("this batch has no Batch.negative with its log-probabilities, which the loss 'sampled' of sasrec needs.")
    item, share = F.embedding(drawn, asked.items), log_q + math.log(drawn.shape[1])  # [R, n, D], [R, n]
    wrong = steps.dot(asked.state, item).float() - steps.spread(share)  # [N, n]
    wrong = wrong.masked_fill(steps.spread(drawn) == asked.next[:, None], NEVER)
    end = (item @ asked.last[:, :, None]).squeeze(-1).float() - share  # [R, n]
    end = end[:, None].masked_fill(drawn[:, None] == asked.batch.item[..., None], NEVER)  # [R, C, n]
    return F.softplus(wrong.logsumexp(-1) - asked.right), F.softplus(end.logsumexp(-1) - asked.logit)


def cross_entropy(asked: Asked) -> tuple[Tensor, Tensor]:
    """Over all rows of the batch; both parts share one product with them."""
    whole = (torch.cat([asked.state, asked.last]) @ asked.items.t()).float().logsumexp(-1)  # [N + R]
    return whole[: asked.steps.total] - asked.right, whole[asked.steps.total :, None] - asked.logit


LOSSES: Mapping[str, Callable[[Asked], tuple[Tensor, Tensor]]] = {"bce": bce, "sampled": sampled, "cross_entropy": cross_entropy}
