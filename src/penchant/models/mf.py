"""Matrix factorisation for ranking: logit(u, i) = p_u . q_i + b_i (Koren et al., Computer 2009; Rendle et al., RecSys 2020).

    person ── id ── p_u ──┐
                          ├─ dot ── + b_i ── logit
    item ──────── q_i ────┘

A person never seen has p_u = 0, so that items are ordered by their bias, which is their popularity.
"""

from __future__ import annotations

from pydantic import Field as Limits
from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.nn.embedding import Table
from penchant.nn.item import Ids, ItemConfig, ItemEncoder, Widened
from penchant.nn.model import Model


class MFConfig(Config):
    """How the people's vectors start; their width is the items'."""

    std: float = Limits(0.1, gt=0)  # of the normal distribution that the people's vectors start from


class MF(Model):
    """Matrix factorisation. It looks at no past, so it explains nothing."""

    Config = MFConfig
    Item = ItemConfig(attributes=False, std=0.1)
    reads_past = False

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: MFConfig = MFConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item = Widened(item, Ids(encoding.catalogue, 1, std=1e-4))  # the bias is one more column
        self.user = Table(encoding.users.size, item.dim, std=config.std, of="users")

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return Memory(segments=history.events, whole={"user": self.user(user.code[:, 0])})

    def interests(self, memory: Memory) -> Tensor:
        """[R, 1, D + 1]: p_u, with a 1 that the bias is taken with."""
        return F.pad(memory.whole["user"], (0, 1), value=1.0)[:, None]

    def targets(self, items: Tensor) -> Tensor:
        """[M, D + 1]."""
        return items

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        item = items[batch.item]  # [R, C, D + 1]
        dot = (item[..., :-1] @ memory.whole["user"][:, :, None]).squeeze(-1)
        return Output(logit=(dot + item[..., -1]).float())
