"""What stands around any model: built with a function that makes the model, it gives it its items or its past, and is a model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from penchant.batch import Batch, History, Memory, Output, User
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.nn.item import ItemEncoder
from penchant.nn.model import Model, Wants, take_weights

Make = Callable[[Encoding, ItemEncoder], Model]


class Around(Model):
    """A model within, which is all that it says until something is added.

    `hops` is how many encoders the model puts around the one that it was given, whose columns come first. Raises ConfigError where the
    model does not use the encoder that it is given.
    """

    model: Model

    def __init__(self, encoding: Encoding, item: ItemEncoder, make: Make) -> None:
        """make: builds the model within, given an item encoder."""
        super().__init__(encoding, item)
        self.model = make(encoding, item)
        hops = _hops(self.model.item, item)
        if hops is None:
            kind = type(self.model).__name__
            raise ConfigError(f"{self.table}: {kind} does not use the item encoder that it is given, so nothing can be put around it.")
        self.hops = hops

    table = "around"  # of a configuration, which says what is put around a model

    @property
    def item(self) -> ItemEncoder:  # type: ignore[override]
        return self.model.item

    @property
    def given(self) -> Any:
        """The item encoder that the model was given, without what it put around it."""
        encoder: Any = self.model.item
        for _ in range(self.hops):
            encoder = encoder.item
        return encoder

    @property
    def Loss(self) -> Mapping[str, Any]:  # type: ignore[override]  # noqa: N802
        return self.model.Loss

    @property
    def latest(self) -> int | None:  # type: ignore[override]
        return self.model.latest

    @property
    def by_session(self) -> bool:  # type: ignore[override]
        return self.model.by_session

    @property
    def reads_past(self) -> bool:  # type: ignore[override]
        return self.model.reads_past

    @property
    def wants(self) -> Wants:
        return self.model.wants

    @property
    def aside(self) -> tuple[str, ...]:
        return tuple(f"model.{prefix}" for prefix in self.model.aside)

    @property
    def fixed(self) -> tuple[str, ...]:
        return self.model.fixed

    @property
    def without_gradient(self) -> Mapping[str, str]:
        return {f"model.{name}": why for name, why in self.model.without_gradient.items()}

    @property
    def pair_bytes(self) -> int:
        return self.model.pair_bytes

    @property
    def candidate_bytes(self) -> int:
        return self.model.candidate_bytes

    def start_from(self, others: Sequence[Model]) -> None:
        """Of one model that stands alike around one, of the same classes and shapes."""
        if len(others) != 1 or called(others[0]) != called(self):
            mine, theirs = called(self), " and ".join(map(called, others)) or "nothing"
            raise ConfigError(f"{mine} starts from one trained {mine}; what was given is {theirs}.")
        take_weights(self, others[0].state_dict())

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return self.model.read(items, user, history)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return self.model.score(items, memory, batch, explain=explain)


def called(model: Model) -> str:
    """IaCN of ETA of DIN."""
    return f"{type(model).__name__} of {called(model.model)}" if isinstance(model, Around) else type(model).__name__


def _hops(encoder: object, given: object) -> int | None:
    """How many encoders an item encoder has around `given`; None where it does not have it there."""
    hops = 0
    while encoder is not None and encoder is not given:
        encoder, hops = getattr(encoder, "item", None), hops + 1
    return None if encoder is None else hops
