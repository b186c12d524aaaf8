"""Attentive Multi-Persona Collaborative Filtering, AMP-CF (Barkan et al., RecSys 2020, arXiv 2010.07042).

    person ── id ── u_1 ... u_K ──┬─ A_u ─┐
                                  │       ├─ cosine ─ softmax over personas ─ a_1 ... a_K
    item ──── v ──────────────────┼─ A_v ─┘                                       │
                                  └─ u_1 . v ... u_K . v ─────────────────────────┴─ sum ── + b ── logit

One vector for all of a person's tastes serves none of them well. Here a person is K vectors, and each candidate is met by the mixture
of them that goes with it: x = sum of a_k u_k, s = x . v + b. DIN attends over the events of a past; this over K vectors that
training left in their place, so that what is kept of a person does not grow with what they did. It is sum of a_k (u_k . v) + b, so
the K mixtures of a request are never laid out. With K = 1 it is biased matrix factorisation (`mf`), and has no attention to learn.

               paper                              a public re-implementation      here
    a          softmax over k of cos(A_u u_k,     as the paper                    the cosines times `temperature`: 1, the paper's; more is
               A_v v), A affine                                                   sharper. At 1 no a is above e^2 times another
    loss       -log(exp(s+) / (exp(s+) + sum      the sum is over all of a        the run's softmax over a request's candidates without
               of exp(s-)))                       batch                           log q, which is the paper's (`Loss`)
    negatives  drawn as often as they are         uniformly, what the batch       the run's: data.sampler.name = "popularity", of power 1,
               chosen                             chose left out                  is the paper's
    entropy    (1 - alpha) (lambda_p H(a+) -      as the paper, means             `chosen_entropy`, `other_entropy`: (1 - alpha) / alpha
               lambda_n H(a-)) beside                                             times lambda_p, lambda_n; means over slots; 0 unless set
               alpha times the loss
    start      -                                  deviation 1                     `std`; of a person never seen all u_k are 0

The paper itself was not at hand: its column is what public code and summaries say of it, and no value of K, alpha or lambda is known.
On made worlds neither `temperature`, from .3 to 16 or learned, nor the entropies moved NDCG by more than another seed does. But with
no `other_entropy` one persona comes to take most of what a person likes, whatever the temperature; .2 keeps tastes apart
(tests/test_amp.py), and is to be set where `interest` and `member` are to explain something.

A person never seen has K personas that are alike, so that items are ordered by their bias, which is their popularity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.embedding import Table
from penchant.nn.item import Ids, ItemConfig, ItemEncoder, Widened
from penchant.nn.loss import mean
from penchant.nn.model import Model


class AMPConfig(Config):
    """How many personas, and how they are told apart; their width is the items'. With one persona the rest but `std` says nothing."""

    personas: int = Limits(4, ge=1)
    attention_dim: int | None = Limits(None, ge=1)  # where personas and items are compared; None: as wide as they are
    temperature: float = Limits(1.0, gt=0, allow_inf_nan=False)  # what the cosines are multiplied by; more is sharper
    chosen_entropy: float = Limits(0.0, ge=0, allow_inf_nan=False)  # above 0, each item chosen is drawn to one persona
    other_entropy: float = Limits(0.0, ge=0, allow_inf_nan=False)  # and each other item spread over all
    std: float = Limits(0.1, gt=0)  # of the normal distribution that personas start from


class AMP(Model):
    """Attentive multi-persona collaborative filtering; `explain` gives the say of each persona on each candidate, as `interest`.

    It looks at no past; but in evaluation it says of each event which persona it belongs to (`member`): that of its item.
    """

    Config = AMPConfig
    Item = ItemConfig(attributes=False, std=0.1)
    Loss: ClassVar[Mapping[str, Any]] = {"name": "softmax", "correct": False}
    reads_past = False

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: AMPConfig = AMPConfig()) -> None:
        super().__init__(encoding, item, config)
        self.config, self.shape = config, (config.personas, item.dim)
        self.item = Widened(item, Ids(encoding.catalogue, 1, std=1e-4))  # the bias is one more column
        self.user = Table(encoding.users.size, config.personas * item.dim, std=config.std, of="users")
        self.width = config.attention_dim or item.dim
        self.attention = PersonaAttention(item.dim, self.width, config.temperature) if config.personas > 1 else None

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        persona = self.user(user.code[:, 0]).unflatten(1, self.shape)  # [R, K, D]
        whole, each = {"persona": persona}, {}
        if self.attention is not None:
            whole["key"] = self.attention.key(persona)  # [R, K, A]
        if not self.training:
            each["member"] = self.member(items[:, :-1].index_select(0, history.item), whole, history.events)
        return Memory(segments=history.events, each=each, whole=whole)

    def member(self, past: Tensor, whole: Mapping[str, Tensor], events: Segments) -> Tensor:
        """past [E, D] -> float32 [E, K], the say of each persona on the items of the past."""
        if self.attention is None:
            return torch.ones_like(past[:, :1], dtype=torch.float32)
        return self.attention.log_say(events.dot(self.attention.query(past), whole["key"])).exp()

    def interests(self, memory: Memory) -> Tensor:
        """[R, K, D + 1]: personas, with a 1 that the bias is taken with. No logit is above the greatest product with a target."""
        return F.pad(memory.whole["persona"], (0, 1), value=1.0)

    def targets(self, items: Tensor) -> Tensor:
        """[M, D + 1]."""
        return items

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        item = items[batch.item]  # [R, C, D + 1]
        each = item[..., :-1] @ memory.whole["persona"].transpose(1, 2)  # [R, C, K]
        log_say = self.log_say(item[..., :-1], memory)
        say = log_say.exp()
        logit = ((say * each).sum(-1) + item[..., -1]).float()
        losses = self.entropies(log_say, batch) if self.training else {}
        if not explain:
            return Output(logit=logit, losses=losses)
        return Output(logit=logit, interest=say, member=memory.each.get("member"), losses=losses)

    def log_say(self, item: Tensor, memory: Memory) -> Tensor:
        """item [R, C, D] -> float32 [R, C, K], the logarithm of the say of each persona."""
        if self.attention is None:
            return torch.zeros_like(item[..., :1], dtype=torch.float32)
        return self.attention.log_say(self.attention.query(item) @ memory.whole["key"].transpose(1, 2))

    def entropies(self, log_say: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """That of the say on what was chosen, to be small, and on other candidates, to be large: weighted means over slots."""
        config = self.config
        if batch.label is None or not config.chosen_entropy + config.other_entropy:
            return {}
        entropy, chosen = -(log_say.exp() * log_say).sum(-1), batch.label > 0.5  # [R, C]
        weight = torch.ones_like(entropy) if batch.weight is None else batch.weight
        slots = {
            "chosen_entropy": (config.chosen_entropy, torch.where(chosen, weight, 0.0)),
            "other_entropy": (-config.other_entropy, torch.where(chosen, 0.0, weight)),
        }
        return {name: by * mean(entropy, of) for name, (by, of) in slots.items() if by}

    @property
    def candidate_bytes(self) -> int:
        return 4 * (self.item.dim + 2 * self.width + 4 * self.config.personas)


class PersonaAttention(nn.Module):
    """softmax over k of temperature * cos(A_u u_k, A_v v), A_u and A_v affine. A cosine with nothing is 0."""

    def __init__(self, dim: int, width: int, temperature: float) -> None:
        super().__init__()
        self.persona, self.item, self.temperature = nn.Linear(dim, width), nn.Linear(dim, width), temperature

    def key(self, persona: Tensor) -> Tensor:
        """[*, D] -> float32 [*, A] of length 1."""
        return F.normalize(self.persona(persona).float(), dim=-1)

    def query(self, item: Tensor) -> Tensor:
        """[*, D] -> float32 [*, A] of length 1."""
        return F.normalize(self.item(item).float(), dim=-1)

    def log_say(self, cosine: Tensor) -> Tensor:
        """[*, K] -> float32 [*, K]."""
        return (self.temperature * cosine.float()).log_softmax(-1)
