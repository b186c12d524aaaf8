"""The three steps that every model takes, and how many candidates are scored at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.nn.item import ItemConfig, ItemEncoder


@dataclass(frozen=True, kw_only=True)
class Wants:
    """What a model's own losses ask of training batches, beside requests with their candidates."""

    others: bool = False  # History.other: an item not chosen at each event of a past
    candidates: bool = False  # several of them a request, to be compared
    further: int = 0  # Batch.negative: so many further items drawn a request
    against_past: bool = False  # whether these stand against every event of a past, and not against the request's own item alone
    catalogue: bool = False  # Batch.row: every item with training rows


class Model(nn.Module):
    """A recommender: built as `DIN(encoding, item, config)`, it says something of the candidates of each request.

    `forward` is nothing but the three steps. A server takes them apart: it encodes the catalogue once, keeps memories,
    and runs `score`; what it answers is what was evaluated.
    """

    Config: ClassVar[type[Config]] = Config
    Item: ClassVar[ItemConfig] = ItemConfig()  # the item encoder that a model is given unless a run says otherwise
    Loss: ClassVar[Mapping[str, Any]] = {"name": "bce"}  # and the loss of its candidates
    latest: ClassVar[int | None] = None  # and examples a person: 1 of a model that learns from every event of a past at once
    by_session: ClassVar[bool] = False  # whether it reads a past session by session
    reads_past: bool = True  # False: what it says of candidates is the same whatever a person did
    item: ItemEncoder

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: Any = None) -> None:
        super().__init__()

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        """items [M, D] -> all of a person and past that no candidate or moment changes."""
        return Memory(segments=history.events)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        """What it says of these candidates now. Reads batch.history for training losses only; `explain` asks for attention."""
        raise TypeError(f"{type(self).__name__} has no score(items, memory, batch)")

    def forward(self, batch: Batch, *, explain: bool = False) -> Output:
        items = self.item(batch.row, batch.known)
        return self.score(items, self.read(items, batch.user, batch.history), batch, explain=explain)

    def start_from(self, others: Sequence[Model]) -> None:
        """Takes over what trained models learned, in place of what was drawn at random: here of one, of the same class and shapes.

        That they speak of the same ids is for the caller to see to. Raises ConfigError.
        """
        if len(others) != 1 or type(others[0]) is not type(self):
            given, mine = ", ".join(type(other).__name__ for other in others) or "nothing", type(self).__name__
            raise ConfigError(f"{mine} starts from one trained {mine}; what was given is {given}.")
        take_weights(self, others[0].state_dict())

    @property
    def wants(self) -> Wants:
        """What its own losses need."""
        return Wants()

    @property
    def aside(self) -> tuple[str, ...]:
        """Prefixes of what no logit is made of, but further losses and interests alone."""
        return ()

    @property
    def fixed(self) -> tuple[str, ...]:
        """Fields ("context.device") whose values must stay as many as they are, because dense weights or numbers are made of how many."""
        return ()

    @property
    def without_gradient(self) -> Mapping[str, str]:
        """Parameters that learn nothing, and why; `penchant check` asks about all others."""
        return {}

    @property
    def device(self) -> torch.device:
        """Where its parameters are, or its buffers when it has none."""
        first = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def pair_bytes(self) -> int:
        """About what scoring one candidate takes for each event of its past."""
        return 0

    @property
    def candidate_bytes(self) -> int:
        """About what scoring one candidate takes beside that."""
        return 4096


@runtime_checkable
class Retriever(Protocol):
    """What a model further offers whose items are found by searches, one for each vector of a person.

    The best items by the greatest product of a person's interests with an item's target are those to score.
    """

    def interests(self, memory: Memory) -> Tensor:
        """[R, K, D]."""

    def targets(self, items: Tensor) -> Tensor:
        """Items as the item encoder gives them [M, *] -> [M, D]."""


def take_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copies trained weights, all that a model has, into it. Raises ConfigError, which says what differs; then nothing is copied."""
    have, want = ({name: tuple(value.shape) for name, value in given.items()} for given in (weights, model.state_dict()))
    differ = [f"{n} is {_shape(have.get(n))}, not {_shape(want.get(n))}" for n in {**want, **have} if have.get(n) != want.get(n)]
    if differ:
        more = f"; and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise ConfigError(f"what was trained does not fit the {type(model).__name__} that starts from it: {'; '.join(differ[:3])}{more}.")
    model.load_state_dict(weights)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def score_in_chunks(model: Model, items: Tensor, memory: Memory, batch: Batch, *, budget: int = 64 << 20) -> Tensor:
    """The logits [R, C] of a batch, a chunk of candidates at a time, each within about `budget` bytes: quicker as well as smaller.

    For evaluation and serving; in training, chunks would change the moments of a batch.
    """
    return torch.cat([model.score(items, memory, part).logit for part in in_chunks(model, memory, batch, budget)], 1)


def in_chunks(model: Model, memory: Memory, batch: Batch, budget: int) -> Iterator[Batch]:
    """The batch with a chunk of its candidates at a time, such that scoring a chunk takes about `budget` bytes."""
    one = model.pair_bytes * memory.segments.total + model.candidate_bytes * batch.requests
    chunk = max(1, budget // max(one, 1))
    candidates = batch.item.shape[1]
    if candidates <= chunk:
        yield batch
    else:
        yield from (batch.candidates(slice(at, at + chunk)) for at in range(0, candidates, chunk))
