"""NeuMF, neural matrix factorisation (He et al., WWW 2017, arXiv 1708.05031).

    person ─ p ──┐
                 ├─ p * q ───────────────┐  GMF
    item ─── q ──┘                       │
                                         ├─ concat ─ linear ─ logit
    person ─ p' ─┐                       │
                 ├─ concat ─ hidden ─────┘  MLP
    item ─── q' ─┘

The two halves have tables of their own. A person never seen has p = p' = 0.

                   paper and authors' code (Keras, 2017)          here
    pre-training   GMF and MLP alone, last kernels joined,        `start_from`: the same, exactly
                   kernel and bias halved
    last layer     uniform of variance 1 / fan-in, bias 0         the same
    hidden layers  Keras' uniform of Glorot, bias 0               torch's uniform of variance 1 / (3 fan-in)
    loss           cross-entropy, 4 negatives redrawn an epoch    the run's, whose defaults are these
    optimiser      Adam; SGD after pre-training                   the run's
    q              of the id                                      whatever the given item encoder says, by default of the id
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field as Limits
from pydantic import field_validator
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.nn.embedding import Table
from penchant.nn.item import Ids, ItemConfig, ItemEncoder, Widened
from penchant.nn.mlp import Tower
from penchant.nn.model import Model, take_weights


class NCFConfig(Config):
    """Which halves there are, and their widths; that of GMF is the items'."""

    parts: tuple[Literal["gmf", "mlp"], ...] = Limits(("gmf", "mlp"), min_length=1)
    layers: tuple[int, ...] = Limits((64, 32, 16, 8), min_length=2)  # the first: person and item side by side
    std: float = Limits(0.01, gt=0)  # of the normal distribution that the tables start from

    @field_validator("parts")
    @classmethod
    def _once(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(parts)) < len(parts):
            raise ValueError("each half once was wanted")
        return parts

    @field_validator("layers")
    @classmethod
    def _halves(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if min(layers) < 1 or layers[0] % 2:
            raise ValueError("positive widths were wanted, the first of them even: half is the person's, half the item's")
        return layers


class NCF(Model):
    """Neural collaborative filtering: GMF, MLP or both. It looks at no past, so it explains nothing."""

    Config = NCFConfig
    Item = ItemConfig(attributes=False, dim=8, std=0.01)
    reads_past = False

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: NCFConfig = NCFConfig()) -> None:
        super().__init__(encoding, item, config)
        if "gmf" not in config.parts and item.attributes:
            raise ConfigError("ncf: parts is ['mlp'], whose items have a table of their own and no attributes; add 'gmf' to use them.")
        self.config, half = config, config.layers[0] // 2
        gmf, mlp = item.dim * ("gmf" in config.parts), half * ("mlp" in config.parts)
        own = Ids(encoding.catalogue, half, std=config.std)
        self.item = (Widened(item, own) if mlp else item) if gmf else own
        self.width = [gmf, mlp]
        width = {"gmf": gmf, "mlp": mlp}
        self.people = nn.ModuleDict({part: Table(encoding.users.size, width[part], std=config.std, of="users") for part in config.parts})
        self.tower = Tower(half, half, config.layers[1:]) if mlp else None
        self.out = nn.Linear(gmf + config.layers[-1] * bool(mlp), 1)
        limit = (3 / self.out.in_features) ** 0.5
        nn.init.uniform_(self.out.weight, -limit, limit)
        nn.init.zeros_(self.out.bias)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return Memory(segments=history.events, whole={part: table(user.code[:, 0]) for part, table in self.people.items()})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        gmf, mlp = torch.split(items[batch.item], self.width, -1)  # [R, C, dim], [R, C, layers[0] / 2]
        halves = []
        if "gmf" in memory.whole:
            halves.append(memory.whole["gmf"][:, None] * gmf)
        if self.tower is not None:
            halves.append(self.tower(memory.whole["mlp"], mlp))
        return Output(logit=self.out(torch.cat(halves, -1)).squeeze(-1).float())

    @torch.no_grad()
    def start_from(self, others: Sequence[Model]) -> None:
        """Of one trained NCF of the same shape; or of a GMF and an MLP, each alone, whose mean it then is (section 3.4.1)."""
        halves = {other.config.parts: other for other in others if isinstance(other, NCF)}
        if len(others) != 2 or set(halves) != {("gmf",), ("mlp",)} or len(self.config.parts) == 1:
            self._start_from_one(others)
            return
        gmf, mlp = halves[("gmf",)], halves[("mlp",)]
        weights = _renamed(gmf, item="item.item") | _renamed(mlp, item="item.extra")
        weights["out.weight"] = 0.5 * torch.cat([gmf.out.weight, mlp.out.weight], 1)
        weights["out.bias"] = 0.5 * (gmf.out.bias + mlp.out.bias)
        take_weights(self, weights)

    def _start_from_one(self, others: Sequence[Model]) -> None:
        if len(others) != 1 or not isinstance(others[0], NCF):
            given = " and ".join(f"an NCF of {list(o.config.parts)}" if isinstance(o, NCF) else type(o).__name__ for o in others)
            both = ", or from one of ['gmf'] and one of ['mlp']" if len(self.config.parts) == 2 else ""
            raise ConfigError(f"an NCF of {list(self.config.parts)} starts from another{both}; what was given is {given or 'nothing'}.")
        take_weights(self, others[0].state_dict())


def _renamed(half: NCF, *, item: str) -> dict[str, Tensor]:
    """The weights of a GMF or MLP alone, under the names that they have in both together."""
    return {f"{item}{name.removeprefix('item')}" if name.startswith("item.") else name: v for name, v in half.state_dict().items()}
