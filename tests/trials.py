"""Small models that try the contract where it is hardest: several vectors a person, wrapped, hashed.

Each is of its paper's shape, no more: what a real one also needs (variants, published settings) is left out.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, Segments, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.models.din import DIN, DINConfig
from penchant.nn.attention import LocalActivation
from penchant.nn.embedding import Fields
from penchant.nn.item import Ids, ItemEncoder, Widened
from penchant.nn.mlp import MLP, Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person

# --------------------------------------------------------------------------------------------------------------- capsules


def squash(z: Tensor) -> Tensor:
    norm2 = z.square().sum(-1, keepdim=True)
    return norm2 / (1 + norm2) * z / (norm2 + 1e-9).sqrt()


def route(events: Segments, low: Tensor, logit: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Behaviour-to-interest routing (Li et al., CIKM 2019, algorithm 1): low [E, D], first logits [E, K] -> [R, K, D], say [E, K]."""
    say = logit.softmax(-1)  # over the capsules
    capsule = squash(events.pool(low, say))
    for _ in range(rounds - 1):
        logit = logit + events.dot(low, capsule)
        say = logit.softmax(-1)
        capsule = squash(events.pool(low, say))
    return capsule, say


def noise(most: int, interests: int) -> Tensor:
    """The first logits of routing, by place in a past: alike, all capsules would stay alike; drawn anew, a person would not."""
    return torch.randn(most, interests, generator=torch.Generator().manual_seed(0))


class CapsulesConfig(Config):
    interests: int = 3
    rounds: int = 3


class Capsules(Model):
    """Several vectors a person, each a capsule of the past (MIND); a candidate is scored by the one that is nearest to it."""

    Config = CapsulesConfig
    first: Tensor

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: CapsulesConfig = CapsulesConfig()) -> None:
        super().__init__(encoding, item, config)
        self.item, self.rounds = item, config.rounds
        self.past, self.profile = Past(encoding, item.dim), Fields(encoding.sizes("user"), 4)
        self.transform = nn.Linear(item.dim, item.dim, bias=False)  # one for all pairs
        self.out = MLP(item.dim + self.profile.dim, (16,), item.dim, "relu")
        self.register_buffer("first", noise(64, config.interests))

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        events = history.events
        low = self.transform(self.past(items, history))
        capsule, say = route(events, low, self.first[events.position % len(self.first)], self.rounds)
        profile = self.profile(user.code[:, 1:])[:, None].expand(-1, capsule.shape[1], -1)
        interest = self.out(torch.cat([capsule, profile], -1))
        return Memory(segments=events, each={"member": say.float()}, whole={"interest": interest})

    def interests(self, memory: Memory) -> Tensor:
        return memory.whole["interest"]

    def targets(self, items: Tensor) -> Tensor:
        return items

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        each = self.targets(items)[batch.item] @ self.interests(memory).transpose(1, 2)  # [R, C, K]
        logit = each.amax(-1).float()
        return Output(logit=logit, interest=each.float(), member=memory.each["member"]) if explain else Output(logit=logit)


# ------------------------------------------------------------------------------------------------------------------- IaCN


def scale_grad(x: Tensor, scale: float) -> Tensor:
    """x, whose gradient is `scale` times what comes back."""
    kept = x.detach()
    return kept + scale * (x - kept)  # bit for bit x: the bracket is 0


class IaCNConfig(Config):
    extra: int = 6  # width of the auxiliary table
    delta: float = 0.3  # share of the main tower in the auxiliary table's gradient
    interests: int = 4
    rounds: int = 3


class IaCN(Model):
    """Any model given a wider item encoder, and beside it a multi-interest network that reads the extra columns alone.

    Both learn the extra table: grad = delta * that of the main tower + (1 - delta) * that of the interest network.
    """

    Config = IaCNConfig
    first: Tensor

    def __init__(
        self,
        encoding: Encoding,
        item: ItemEncoder,
        config: IaCNConfig = IaCNConfig(),
        model: type[Model] = DIN,
        model_config: Config | None = None,
    ) -> None:
        super().__init__(encoding, item, config)
        wide = Widened(item, Ids(encoding.catalogue.size, config.extra))
        self.model = model(encoding, wide, model_config or model.Config())
        self.columns = slice(item.dim, wide.dim)
        self.transform = nn.Linear(config.extra, config.extra, bias=False)
        self.delta, self.rounds = config.delta, config.rounds
        self.register_buffer("first", noise(64, config.interests))

    @property
    def item(self) -> ItemEncoder:  # type: ignore[override]
        return self.model.item

    def main(self, items: Tensor) -> Tensor:
        """items as the wrapped model sees them."""
        before, extra, after = items.tensor_split((self.columns.start, self.columns.stop), -1)
        return torch.cat([before, scale_grad(extra, self.delta), after], -1)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return self.model.read(self.main(items), user, history)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        out = self.model.score(self.main(items), memory, batch, explain=explain)
        if not self.training or batch.negative is None:
            return out
        return replace(out, losses={**out.losses, "interest": self.interest_loss(items, batch)})

    def interest_loss(self, items: Tensor, batch: Batch) -> Tensor:
        """-log P(chosen | the past's nearest interest), by sampled softmax, a mean over what was chosen after some past."""
        extra, events = scale_grad(items[:, self.columns], 1 - self.delta), batch.history.events
        low = self.transform(extra[batch.history.item])
        capsule, _ = route(events, low, self.first[events.position % len(self.first)], self.rounds)  # [R, K, h]
        scale = extra.shape[-1] ** -0.5
        own = (extra[batch.item] @ capsule.transpose(1, 2)).float() * scale  # [R, C, K]
        nearest, which = own.max(-1)  # [R, C]
        others = (extra[batch.negative] @ capsule.transpose(1, 2)).float() * scale  # [R, n, K]
        others = others - batch.negative_log_q[..., None] - math.log(others.shape[1])  # each stands for 1 / (n q) items
        others = others.transpose(1, 2).gather(1, which[..., None].expand(-1, -1, others.shape[1]))  # [R, C, n]
        others = others.masked_fill(batch.negative[:, None] == batch.item[..., None], -torch.inf)
        loss = torch.cat([nearest[..., None], others], -1).logsumexp(-1) - nearest
        weight = batch.label * (events.length > 0)[:, None]
        return (loss * weight).sum() / weight.sum().clamp(min=1)


# -------------------------------------------------------------------------------------------------------------------- ETA


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


SMALL_DIN = DINConfig(attention=(16, 8), head=(16, 8), profile=4)
