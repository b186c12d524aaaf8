"""Deep Adaptive Interest Network (arXiv 2409.02425): neural collaborative filtering that is told the moment.

    early                                       late
    person ─ p ─┐                               person ─ p ─┬─ concat ─ tower ─┐
    item ─── q ─┼─ concat ─ tower ─ logit       item ─── q ─┘                  ├─ concat ─ linear ─ logit
    moment ─ c ─┘                               moment ─ c ────────────────────┘

Despite its name nothing here is of a sequence: a past is not looked at. c is that of the request, the same for all its
candidates; so, the last layer being linear, late fusion moves the probability of a request and leaves the order of its
candidates as it is.

                     source                               here
    fusion           "alongside" p and q; "output layer"  `fusion`: early (before the tower) or late (after it)
    c                time, place, device; form not said   `context`: embedding, onehot, number, or none (the ablation)
    profile          -                                    no context; `profile` sets it beside p
    loss             MSE through an activation            the run's: loss.name = "mse" on the sigmoid, or cross-entropy
    target           rating or click, not said            the run's: the loader gives labels of 0 and 1, or scaled ratings
    negatives        not said                             the run's: data.negatives
    last bias        -                                    logit(`base_rate`): of the MSE of a saturated sigmoid nothing is learned
    K, depth         K of 32, 64, 128; 128-64-32          item.dim, `tower`
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.embedding import Fields, Table
from penchant.nn.item import ItemConfig, ItemEncoder
from penchant.nn.mlp import Split, Tower
from penchant.nn.model import Model


class DAINConfig(Config):
    """Widths and variants; the width of p is that of an item's id."""

    fusion: Literal["early", "late"] = "early"
    context: Literal["embedding", "onehot", "number", "none"] = "embedding"
    tower: tuple[int, ...] = Limits((128, 64, 32), min_length=1)
    profile: bool = False  # whether profile fields stand beside p
    field: int = Limits(8, ge=1)  # width of each embedded field of moment and profile
    base_rate: float = Limits(0.2, gt=0, lt=1)  # the probability that a new model tells of everything; 1 in 1 + 4 by default
    std: float = Limits(0.05, gt=0)  # of the normal distribution that p starts from


class DAIN(Model):
    """Context-aware collaborative filtering. It looks at no past, so it explains nothing."""

    Config = DAINConfig
    Item = ItemConfig(attributes=False, dim=64)
    reads_past = False

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: DAINConfig = DAINConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item, self.early = item, config.fusion == "early"
        self.user = Table(encoding.users.size, item.parts[0], std=config.std, of="users")
        self.profile = Fields(encoding.sizes("user"), config.field, of=encoding.named("user")) if config.profile else None
        person = item.parts[0] + (0 if self.profile is None else self.profile.dim + encoding.numbers("user"))
        self.context = Context(encoding, config.context, config.field)
        moment = self.context.dim
        self.tower = Tower(person + moment * self.early, item.dim, config.tower)
        self.out = Split(0 if self.early else moment, self.tower.dim, 1)
        nn.init.constant_(self.out.candidate.bias, math.log(config.base_rate / (1 - config.base_rate)))
        counted = config.context in ("onehot", "number")
        self._fixed = tuple(f"context.{name}" for name in encoding.schema.named("context", "category") if counted)

    @property
    def fixed(self) -> tuple[str, ...]:
        return self._fixed

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        person = [self.user(user.code[:, 0])]
        if self.profile is not None:
            person += [self.profile(user.code[:, 1:]), user.number]
        return Memory(segments=history.events, whole={"person": torch.cat(person, -1)})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        person, moment, item = memory.whole["person"], self.context(batch), items[batch.item]  # [R, P], [R, X], [R, C, D]
        request = torch.cat([person, moment], -1) if self.early else person
        return Output(logit=self.out(moment, self.tower(request, item)).squeeze(-1).float())


class Context(nn.Module):
    """The moment of each request [R, dim]: its categories in the form asked for, its numbers as they are, standardised."""

    size: Tensor

    def __init__(self, encoding: Encoding, form: Literal["embedding", "onehot", "number", "none"], width: int) -> None:
        super().__init__()
        self.form, self.sizes = form, encoding.sizes("context")
        of, sizes = (encoding.named("context"), self.sizes) if form == "embedding" else ((), ())
        self.fields = Fields(sizes, width, of=of)
        categories = {"embedding": self.fields.dim, "onehot": sum(self.sizes), "number": 2 * len(self.sizes), "none": 0}[form]
        self.dim = categories + encoding.numbers("context") * (form != "none")
        self.register_buffer("size", torch.tensor(self.sizes, dtype=torch.int64), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        if self.form == "none":
            return batch.number[:, :0]
        code = batch.context
        categories = self._onehot(code) if self.form == "onehot" else self._number(code) if self.form == "number" else self.fields(code)
        return torch.cat([categories, batch.number], -1)

    def _onehot(self, code: Tensor) -> Tensor:
        """int64 [R, X] -> [R, sum of sizes], UNKNOWN being a value as any other."""
        hot = [code[:, place, None] == torch.arange(size, device=code.device) for place, size in enumerate(self.sizes)]
        return torch.cat([*hot, code[:, :0] == 0], -1).float()

    def _number(self, code: Tensor) -> Tensor:
        """int64 [R, X] -> [R, 2 X]: the ids 1, 2, ... from 0 to 1, as an hour of 0 .. 23 over 23; (0, 1) where it is UNKNOWN."""
        unknown = code == 0
        value = (code - 1) / (self.size - 2).clamp(min=1)
        return torch.stack([value.masked_fill(unknown, 0.0), unknown.to(value.dtype)], -1).flatten(1)
