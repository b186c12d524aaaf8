"""Deep Interest Evolution Network (Zhou et al., AAAI 2019, arXiv 1809.03672).

    profile, moment ──────────────────────────────────────────┐
    past ── GRU ─┬─ states ─────────┬────────────┐            ├─ concat ─ head ─ logit
                 │                  ├─ attention ─ AUGRU ─────┤
    item ────────│──────────────────┴─────────────────────────┘
                 └─ next item? (a loss)

Interests move: a unit reads the past (interest extractor), and a second one goes over its states with an update gate that the
candidate's attention scales (interest evolution), so that what has nothing to do with the candidate hardly moves its interest. So
that a state is of an interest and not only of the click at the end, each is asked for the next item of its past (eq. 6).

                    paper                        authors' code (2018)            here
    reset gate      after the product            before it: TensorFlow's cell    `reset`: after, before
    AUGRU           v = a u: a = 0 keeps the     scales the gate that keeps:     `evolution`: augru, augru_authors; agru and aigru
                    state                        a = 0 is a plain step
    attention       softmax of h W q             softmax of an MLP of q', h,     `attention_score`: bilinear, mlp
                                                 q' - h, q' * h
    next item       sigmoid of h . e             an MLP of h and e, 100-50       `auxiliary_score`: dot, mlp
    its loss        a sum over steps, a mean     a mean over all cells of a      a mean over all real steps of a batch: it weighs as
                    over pasts                   batch, filled-up ones too       much whatever the lengths
    its weight      1                            1, beside half of the cross-    `auxiliary`: 1; 0: none
                                                 entropy of the candidates
    other item      not chosen then              by popularity, any but e        the run's: data.sampler, none that the person chose
    head's input    profile, q, final state      and sum k, q * sum k, in        `past_sum`
                                                 which what fills up is summed
    batch norm      -                            an affine map: never trained    none
    ids             -                            user's among them; in its       none: people are known by profile and past
                                                 tests one id stands for all
    longest past    50 (industrial)              100 in training, any in tests   the run's: data.past

The code's cross-entropy is a mean over two columns, of which one is 0 for each example. So its total is half of the cross-entropy
plus 2 f times the mean over real steps, f being the share of cells that are real: its `auxiliary` is 2 f, another one in each batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field as Limits
from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError, TrainingError
from penchant.nn.attention import SCORES
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import Activation, Head
from penchant.nn.model import Model, Wants
from penchant.nn.person import Past, Person
from penchant.nn.recurrent import GRU, Evolution, Evolving, Reset

NEXT = (100, 50)  # the hidden layers of the authors' score of a next item
COMPARED = (80, 40)  # and of their attention


class DIENConfig(Config):
    """Widths and variants."""

    hidden: int | None = Limits(None, ge=1)  # of both units; None: the width of an item's vector
    evolution: Evolution = "augru"  # what attention does to the second unit
    reset: Reset = "after"  # of both units
    attention_score: Literal["bilinear", "mlp", "additive", "dot", "scaled_dot"] = "bilinear"
    auxiliary: float = Limits(1.0, ge=0, allow_inf_nan=False)  # the weight of the loss that asks states for the next item; 0: none
    auxiliary_score: Literal["dot", "mlp"] = "dot"
    past_sum: bool = False  # whether the head also reads the sum of the past, and its product with the candidate
    head: tuple[int, ...] = Limits((200, 80), min_length=1)
    activation: Activation = "dice"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class DIEN(Model):
    """Deep Interest Evolution Network; `explain` gives each event's attention, which sums to 1 over a past."""

    Config = DIENConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: DIENConfig = DIENConfig()) -> None:
        super().__init__(encoding, item, config)
        hidden, asks = config.hidden or item.dim, config.auxiliary > 0
        by_dot = {"auxiliary_score": asks and config.auxiliary_score == "dot", "attention_score": "dot" in config.attention_score}
        if any(by_dot.values()) and hidden != item.dim:
            key = next(key for key, dot in by_dot.items() if dot)
            raise ConfigError(
                f"dien: hidden is {hidden}, but {key} {getattr(config, key)!r} multiplies a state with an item's vector, of width "
                f"{item.dim}. Leave hidden out, or set {key} to 'mlp'."
            )
        self.config, self.hidden, self.item = config, hidden, item
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        self.extractor = GRU(item.dim, hidden, reset=config.reset)
        self.attention = SCORES[config.attention_score](item.dim, hidden)
        self.evolution = Evolving(hidden, hidden, kind=config.evolution, reset=config.reset)
        self.next = Head(hidden, item.dim, NEXT, "sigmoid") if asks and config.auxiliary_score == "mlp" else None
        summed = item.dim * config.past_sum
        self.head = Head(self.person.dim + summed, item.dim + hidden + summed, config.head, config.activation, config.dropout)

    @property
    def wants(self) -> Wants:
        return Wants(others=self.config.auxiliary > 0)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        events, past = history.events, self.past(items, history)  # [E, D]
        state = self.extractor(events, past)  # [E, H]
        each = {"state": state, "key": self.attention.key(state), "gates": self.evolution.gates(state)}
        return Memory(segments=events, each=each, whole={"sum": events.sum(past)} if self.config.past_sum else {})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        events, state, item = memory.segments, memory.each["state"], items[batch.item]  # [R, C, D]
        say = events.softmax(self.attention(item, state, memory.each["key"], events))  # [E, C]  (eq. 8)
        interest = self.evolution(events, memory.each["gates"], say)  # [R, C, H]
        request, candidate = [self.person(batch)], [item, interest.to(item.dtype)]
        if self.config.past_sum:
            request.append(memory.whole["sum"])
            candidate.append(item * memory.whole["sum"][:, None])
        logit = self.head(torch.cat(request, -1), torch.cat(candidate, -1))
        losses = {}
        if self.training and self.config.auxiliary:
            losses["next"] = self.config.auxiliary * self.next_loss(items, state, batch.history)
        return Output(logit=logit, attention=say if explain else None, losses=losses)

    def next_loss(self, items: Tensor, state: Tensor, history: History) -> Tensor:
        """-log p(h_t, e_{t+1}) - log(1 - p(h_t, e'_{t+1})), a mean over all steps of a batch whose next was a positive (eq. 6).

        items [M, D], state [E, H]; e' is the item not chosen when e was. Raises TrainingError where the batch has none.
        """
        if history.other is None:
            raise TrainingError("this batch has no History.other, which model.auxiliary needs; set model.auxiliary to 0.")
        events = history.events
        steps = Segments.of((events.sizes - 1).clamp(min=0), state.device)  # N steps of R pasts
        now = events.start[:-1].index_select(0, steps.row) + steps.position
        before, after = state.index_select(0, now), now + 1
        right, wrong = (self._told(before, items.index_select(0, e.index_select(0, after))) for e in (history.item, history.other))
        each = F.softplus(-right) + F.softplus(wrong)
        if history.chosen is None:
            return each.sum() / max(steps.total, 1)
        chosen = history.chosen.index_select(0, after)
        return (each * chosen).sum() / chosen.sum().clamp(min=1)

    def _told(self, state: Tensor, item: Tensor) -> Tensor:
        """state [N, H], item [N, D] -> float32 [N], what a state says of an item as the next."""
        if self.next is None:
            dot: Tensor = torch.linalg.vecdot(state, item)  # [N, D] is not made again, as it is by a product and a sum
            return dot.float()
        told: Tensor = self.next(state, item[:, None])
        return told.squeeze(1)

    @property
    def without_gradient(self) -> Mapping[str, str]:
        if self.config.attention_score != "mlp":
            return {}
        last = 2 * len(COMPARED) - 2
        return {f"attention.activation.rest.{last}.bias": "a constant added to all logits leaves a softmax as it is"}

    @property
    def pair_bytes(self) -> int:
        compared = {"mlp": 2 * self.hidden + 2 * sum(COMPARED), "additive": 64}.get(self.config.attention_score, 0)
        weighed = 6 * self.hidden if self.config.evolution == "aigru" else 0  # its gates are of each pair
        return 4 * (max(compared, weighed + self.hidden) + 4)

    @property
    def candidate_bytes(self) -> int:
        return 4 * (12 * self.hidden + 2 * self.item.dim + 4 * sum(self.config.head))
