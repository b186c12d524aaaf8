"""The configuration of a run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field as Limits

from penchant.config import Config
from penchant.data.load import LoadConfig
from penchant.data.split import SplitConfig
from penchant.nn.item import ItemConfig


class TrainConfig(Config):
    """How long, how fast, and when to stop."""

    epochs: int = Limits(20, ge=1)
    batch_size: int = Limits(256, ge=1)  # requests a step
    rate: float = Limits(1e-3, gt=0)  # of Adam, for dense parameters
    table_rate: float | None = Limits(None, gt=0)  # for embedding tables; None: the same
    weight_decay: float = Limits(0.0, ge=0)  # of dense parameters
    table_l2: float = Limits(0.0, ge=0)  # of embedding tables: table_l2 / 2 times the squares of the rows of a batch
    monitor: str = "ndcg@10"  # the validation metric that says which weights are best; larger is better
    patience: int = Limits(2, ge=1)  # validations without a better one before it stops
    valid_every: int | None = Limits(None, ge=1)  # steps between validations; None: an epoch
    valid_people: int = Limits(2000, ge=1)  # how many are validated on, drawn once


class RunConfig(Config):
    """All that decides what a run does."""

    log: str  # folder of the Log
    seed: int = 0
    split: SplitConfig = SplitConfig()
    # What validations judge by; None: loo-99, or last-99 of another split than leave-last-out.
    protocol: Literal["loo-99", "loo-full", "last-99", "last-full", "impressions"] | None = None
    data: LoadConfig = LoadConfig()
    model: dict[str, Any] = {"name": "din"}  # a name in MODELS, and that model's own keys
    start: tuple[str, ...] = ()  # bundles whose weights it starts from: one of the same model; of ncf one of each half
    item: ItemConfig | None = None  # what is not set here is what the model asks for
    loss: dict[str, Any] = {"name": "bce"}  # a name in LOSSES or "module:function", and that loss's own keys
    train: TrainConfig = TrainConfig()
