"""The configuration of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field as Limits
from pydantic import field_validator, model_validator

from penchant.cold import ColdConfig
from penchant.config import Config
from penchant.data.grow import GrowConfig
from penchant.data.load import LoadConfig
from penchant.data.split import SplitConfig
from penchant.evaluate.judged import parse_metric
from penchant.evaluate.protocol import Protocol, find_protocol
from penchant.models import find
from penchant.nn.item import ItemConfig
from penchant.schema import Sessions


class ScheduleConfig(Config):
    """How all rates change while a run learns."""

    name: Literal["constant", "epoch", "plateau", "cosine"] = "constant"  # down each epoch, at each validation that is no better, or to 0
    factor: float | None = Limits(None, gt=0, lt=1)  # what is left of the rates each time, of epoch and plateau; None: half
    warm_up: int = Limits(0, ge=0)  # steps in which they rise from 0

    @model_validator(mode="after")
    def _consistent(self) -> ScheduleConfig:
        if self.factor is not None and self.name not in ("epoch", "plateau"):
            raise ValueError(f"schedule.factor is of 'epoch' and 'plateau'; the schedule is {self.name!r}")
        return self

    def multiple(self, step: int, steps: int, epochs: int, drops: int) -> float:
        """What the rates are multiplied with at a step, the first being 0, of `epochs` epochs of `steps` steps; drops: of a plateau."""
        left = 0.5 if self.factor is None else self.factor
        rise = min((step + 1) / self.warm_up, 1.0) if self.warm_up else 1.0
        if self.name == "epoch":
            return float(rise * left ** (step // steps))
        if self.name == "plateau":
            return float(rise * left**drops)
        return rise * (1 + math.cos(math.pi * step / (steps * epochs))) / 2 if self.name == "cosine" else rise


class TrainConfig(Config):
    """How long, how fast, and when to stop."""

    epochs: int = Limits(20, ge=1)
    batch_size: int = Limits(256, ge=1)  # requests a batch
    accumulate: int = Limits(1, ge=1)  # batches a step, each weighed by its requests
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of products of matrices; weights, sums and losses stay float32
    rate: float = Limits(1e-3, gt=0)  # of Adam, for dense parameters
    tables: Literal["adam", "adagrad", "sgd"] = "adam"  # what steps embedding tables: rows of a batch alone; adagrad keeps a number a row
    table_rate: float | None = Limits(None, gt=0)  # for embedding tables; None: the same
    schedule: ScheduleConfig = ScheduleConfig()
    clip: float | None = Limits(None, gt=0)  # the most that the norm of all gradients together may be
    average: float | None = Limits(None, gt=0, lt=1)  # validate and keep means of weights over steps: what is left of a mean after a step
    weight_decay: float = Limits(0.0, ge=0)  # of dense parameters
    table_l2: float = Limits(0.0, ge=0)  # of embedding tables: table_l2 / 2 times the squares of the rows of a batch
    mini_batch_aware: float = Limits(0.0, ge=0)  # of items' tables: lambda of DIN's regulariser, divided by how many examples a row is in
    monitor: str | None = None  # the validation metric that says which weights are best; None: the one that the protocol is read by
    patience: int = Limits(2, ge=1)  # validations without a better one before it stops
    valid_every: int | None = Limits(None, ge=1)  # steps between validations; None: an epoch
    valid_people: int = Limits(2000, ge=1)  # how many are validated on, drawn once
    save_every: float = Limits(300.0, ge=0)  # seconds between checkpoints to resume from, beside those of each validation


class CalibrateConfig(Config):
    """How logits become probabilities, once the best weights are found."""

    method: Literal["none", "prior", "platt", "isotonic"] = "none"
    rate: float | None = Limits(None, gt=0, lt=1)  # of "prior": the share of positives among what is really shown; None: of what trains

    @model_validator(mode="after")
    def _consistent(self) -> CalibrateConfig:
        if self.rate is not None and self.method != "prior":
            raise ValueError(f"calibrate.rate is of the method 'prior'; the method is {self.method!r}")
        return self


class RunConfig(Config):
    """All that decides what a run does."""

    log: str  # folder of the Log
    seed: int = 0
    protocol: str | None = None  # what validations judge by, in PROTOCOLS; None: loo-99, or last-99 of another split than leave-last-out
    split: SplitConfig | None = None  # None: what the protocol is of
    sessions: Sessions | None = None  # in place of those of the Log's schema; a column that it was not prepared with is refused
    data: LoadConfig = LoadConfig()
    model: dict[str, Any] = {"name": "din"}  # a name in MODELS, and that model's own keys
    auxiliary: dict[str, Any] | None = None  # a name in AUXILIARIES, and that one's own keys: what the model is wrapped in
    long: dict[str, Any] | None = None  # a name in LONG, and that one's own keys: how long pasts are made short
    start: tuple[str, ...] = ()  # bundles whose weights it starts from: one of the same model; of ncf one of each half
    grow: GrowConfig | None = None  # a bundle that it continues, on a Log that has grown; then what is not said here is as in its run
    embeddings: str | None = None  # a bundle of any model, whose vectors of items and of their attributes it starts from
    item: ItemConfig | None = None  # what is not set here is what the model asks for
    loss: dict[str, Any] | None = None  # a name in LOSSES or "module:function", and that loss's own keys; None: what the model asks for
    train: TrainConfig = TrainConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    cold: ColdConfig = ColdConfig()

    @field_validator("model", "auxiliary", "long", "loss", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A name alone is a table of that name."""
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_start(self) -> RunConfig:
        given = [key for key in ("start", "grow", "embeddings") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each say what the run starts from; one of them was wanted")
        return self

    def judging(self) -> Judging:
        """What validations judge by, with nothing left to be understood. Raises UnknownNameError, ConfigError."""
        of_last = "loo-99" if self.split is None or self.split.name == "leave-last-out" else "last-99"
        protocol = find_protocol(self.protocol or of_last)
        split, monitor = self.split or protocol.default_split(), self.train.monitor or protocol.headline
        protocol.refuse_split(split)
        parse_metric(monitor)
        return Judging(protocol=protocol, split=split, monitor=monitor)


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How a run is judged while it learns."""

    protocol: Protocol
    split: SplitConfig
    monitor: str

    def named(self, config: RunConfig) -> RunConfig:
        """The configuration with all of this said, and what the model asks for where the run says nothing."""
        kind = find(config.model.get("name", "din"))
        train = config.train.model_copy(update={"monitor": self.monitor})
        loss = dict(kind.Loss) if config.loss is None else config.loss
        latest = kind.latest if config.data.latest is None else config.data.latest
        data = config.data.model_copy(update={"latest": latest})
        item = kind.Item.model_copy(update=config.item.model_dump(include=config.item.model_fields_set) if config.item else {})
        settled = {"protocol": self.protocol.name, "split": self.split, "train": train, "data": data, "item": item, "loss": loss}
        return config.model_copy(update=settled)
