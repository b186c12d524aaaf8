"""DeepFM (Guo et al., IJCAI 2017, arXiv 1703.04247): a factorisation machine and a network over the same vectors.

    person, profile ─┐              ┌─ sum of weights ────────────────┐
    moment ──────────┤              │                                 │
    past ─ mean ─────┼─ a vector    ├─ products of all pairs ─────────┼─ + ─ logit
    item's parts ────┤   a field ───┤                                 │
    shown ───────────┘              └─ concat ─ hidden ─ linear ──────┘

    logit = w0 + sum_i w_i x_i + 1/2 sum_f [(sum_i v_if x_i)^2 - sum_i v_if^2 x_i^2] + MLP(v)

The pairs are those within the request, those within the candidate, and one product of the two sums, so that a request
is summed once however many candidates it has.

                   paper                         here
    w0             - (the MLP's bias)            the MLP's last bias
    a number       times one vector, or binned   linear in (value, missing)
    items' numbers a field each                  one field together, as the item encoder has them
    several values the field's sum               their mean: of an item's values; of a past's items (`past`)
    network        400-400-400, ReLU             `hidden`, ReLU
    dropout        0.5                           `dropout`, 0 by default
    width          10                            item.dim, 10 by default
"""

from __future__ import annotations

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.item import Ids, ItemConfig, ItemEncoder, Widened, item_weights
from penchant.nn.mlp import Head
from penchant.nn.model import Model
from penchant.nn.person import Facts


class DeepFMConfig(Config):
    """Widths and variants; the width of every field is that of an item's id."""

    hidden: tuple[int, ...] = Limits((400, 400, 400), min_length=1)
    dropout: float = Limits(0.0, ge=0, lt=1)
    past: bool = True  # whether the past is a field: the mean of its items' id vectors


class DeepFM(Model):
    """A factorisation machine with a network beside it. All events of a past count alike, so it explains nothing."""

    Config = DeepFMConfig
    Item = ItemConfig(dim=10)

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: DeepFMConfig = DeepFMConfig()) -> None:
        super().__init__(encoding, item, config)
        self.config, weights = config, item_weights(encoding, item)
        past = Ids(encoding.catalogue, int(config.past), std=1e-4)  # the weight of an item in a past is not that of a candidate
        self.item = Widened(Widened(item, weights), past) if config.past else Widened(item, weights)
        self.reads_past = config.past
        self.width = [item.dim, weights.dim, int(config.past)]
        self.parts, dim = list(item.parts), item.parts[0]
        self.projections = nn.ModuleList(nn.Identity() if part == dim else nn.Linear(part, dim, bias=False) for part in item.parts)
        self.user, self.context, self.shown = (Facts(encoding, group, dim) for group in ("user", "context", "shown"))
        self.user_weight, self.context_weight, self.shown_weight = (
            Facts(encoding, group, 1, std=1e-4) for group in ("user", "context", "shown")
        )
        request, candidate = self.user.fields + config.past + self.context.fields, len(item.parts) + self.shown.fields
        self.network = Head(request * dim, candidate * dim, config.hidden, "relu", config.dropout)

    def fields(self, vector: Tensor) -> Tensor:
        """Items' vectors [M, D] -> [M, F, dim], their parts side by side."""
        parts = zip(self.projections, torch.split(vector, self.parts, -1), strict=True)
        return torch.stack([projection(part) for projection, part in parts], -2)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        vector, _, weight = torch.split(items, self.width, -1)
        field, first = self.user(user.code, user.number), self.user_weight(user.code, user.number).sum((1, 2))
        if weight.shape[-1]:
            id = vector[:, : self.parts[0]]
            past = history.events.mean(torch.cat([id, weight], -1).index_select(0, history.item))  # [R, dim + 1]
            field, first = torch.cat([field, past[:, None, :-1]], 1), first + past[:, -1]
        return Memory(segments=history.events, whole={"field": field, "first": first})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        vector, weight, _ = torch.split(items, self.width, -1)
        shown = (batch.shown.code, batch.shown.number)
        request = torch.cat([memory.whole["field"], self.context(batch.context, batch.number)], 1)  # [R, F, dim]
        candidate = torch.cat([self.fields(vector)[batch.item], self.shown(*shown)], 2)  # [R, C, G, dim]
        of_request = memory.whole["first"] + self.context_weight(batch.context, batch.number).sum((1, 2))
        first = of_request[:, None] + weight.sum(-1)[batch.item] + self.shown_weight(*shown).sum((2, 3))  # [R, C]
        deep = self.network(request.flatten(1), candidate.flatten(2))
        return Output(logit=(first + pairs(request, candidate) + deep).float())

    @property
    def candidate_bytes(self) -> int:
        return 8 * (self.network.candidate.in_features + sum(self.config.hidden))


def pairs(request: Tensor, candidate: Tensor) -> Tensor:
    """request [R, F, dim], candidate [R, C, G, dim] -> [R, C], the sum of v_i . v_j over all pairs of the F + G fields."""
    own, others = request.sum(-2), candidate.sum(-2)  # [R, dim], [R, C, dim]
    return _within(request)[:, None] + _within(candidate) + (others @ own[..., None]).squeeze(-1)


def _within(field: Tensor) -> Tensor:
    """[*, F, dim] -> [*], the sum over the pairs of F fields: half the square of the sum less the sum of the squares."""
    return (field.sum(-2).square() - field.square().sum(-2)).sum(-1) / 2
