"""What a run stands on before its first step: the Log split, cleaned and encoded, and the model that begins on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from penchant.bundle import Bundle, load_bundle
from penchant.cold import Lender
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.grow import Grown, first_example, grow_encoding
from penchant.data.lend import fit_lender
from penchant.data.log import Log
from penchant.data.noise import Denoised, denoise
from penchant.data.split import Split, split_of
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.evaluate.judge import refuse_unjudgeable
from penchant.models import MODELS, build, checked, checked_auxiliary, checked_long, find, label
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model
from penchant.train.config import Judging, RunConfig
from penchant.train.grow import carry_over, take_embeddings
from penchant.train.loss import Loss, read_loss, refuse, refuse_for


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """All that a run stands on before its first step."""

    config: RunConfig
    judging: Judging
    loss: Loss
    name: str  # of the model
    own: dict[str, Any]  # its keys
    item: ItemConfig
    model: Model
    data: EncodedLog
    split: Split
    learned: Split  # with the training events that are learned from: what judges is the split's own
    denoised: Denoised
    lender: Lender | None
    since: int | None  # unix milliseconds from which on events are examples; None: all
    grown: Mapping[str, Grown]
    started: int  # new items that start from their attributes
    embeddings: Mapping[str, Any] | None


def settled(config: RunConfig) -> tuple[Judging, Loss]:
    """How the run is judged, and its loss; all that can be refused before the Log is read is refused here."""
    checked(*name_and_keys(config), where="run")
    if config.auxiliary is not None:
        checked_auxiliary(config.auxiliary, where="run")
    if config.long is not None:
        checked_long(config.long, where="run")
    judging = config.judging()
    return judging, read_loss(judging.named(config).loss, where="run")


def prepared(config: RunConfig, judging: Judging, loss: Loss, log: Log, origin: Bundle | None) -> Ground:
    """The Log split, cleaned and encoded, and the model that begins on it."""
    name, own = name_and_keys(config)
    impressions = log.schema.events.impressions is not None
    refuse(loss, negatives=config.data.negatives, impressions=impressions)
    schema = log.schema if config.sessions is None else log.schema.with_sessions(config.sessions, where="run")
    split = split_of(log, judging.split)
    denoised = denoise(log, split.train, config.data.noise)
    learned = replace(split, train=denoised.train)
    encoding, since, grown = _encoding(config, log, learned, origin)
    encoding = replace(encoding, schema=schema)
    torch.manual_seed(config.seed)
    item = config.item or find(name).Item
    model = build(encoding, name, own, item, config.auxiliary, config.long, where="run")
    said = label(name, config.auxiliary, config.long)
    refuse_for(model, said, loss, config.data, impressions=impressions)
    if config.cold.method == "lend" and not model.reads_past:
        raise ConfigError(f"cold.method is 'lend', but {said} reads no past: events that are lent change none of its scores. Take 'none'.")
    _start(model, encoding, config.start)
    started = 0 if origin is None else carry_over(model, encoding, origin)
    embeddings = None if config.embeddings is None else take_embeddings(model, encoding, config.embeddings)
    data = EncodedLog(log, encoding, split.hidden)
    refuse_unjudgeable(data, split, judging.protocol)
    return Ground(
        config=config,
        judging=judging,
        loss=loss,
        name=name,
        own=own,
        item=item,
        model=model,
        data=data,
        split=split,
        learned=learned,
        denoised=denoised,
        lender=fit_lender(data, learned.train, config.cold, config.seed),
        since=since,
        grown=grown,
        started=started,
        embeddings=embeddings,
    )


def _encoding(config: RunConfig, log: Log, split: Split, origin: Bundle | None) -> tuple[Encoding, int | None, Mapping[str, Grown]]:
    """The Log's encoding; of a run that continues a bundle that one's, grown, with when its examples begin and what has grown."""
    if config.grow is None or origin is None:
        return fit_encoding(log, split.train), None, {}
    since = first_example(log, config.grow, origin.facts.get("trained_until"))
    encoding, grown = grow_encoding(origin.encoding, log, split.train, config.grow, origin.model.fixed)
    return encoding, since, grown


def _start(model: Model, encoding: Encoding, folders: Sequence[str]) -> None:
    """The model takes over what the bundles in these folders learned. Raises ArtefactError, ConfigError."""
    if not folders:
        return
    bundles = [load_bundle(folder) for folder in folders]
    for folder, bundle in zip(folders, bundles, strict=True):
        if not encoding.same_ids(bundle.encoding):
            raise ConfigError(f"start: {folder} knows other people, items or values than this run; train it on the same Log and split.")
    model.start_from([bundle.model for bundle in bundles])


def name_and_keys(config: RunConfig) -> tuple[str, dict[str, Any]]:
    own = dict(config.model)
    name = own.pop("name", "din")
    if not isinstance(name, str):
        raise ConfigError(f"run: model.name is {name!r}; one of {', '.join(MODELS)} was wanted.")
    return name, own
