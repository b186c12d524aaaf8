"""Mini-batch aware regularisation (Zhou et al., KDD 2018, section 5.1, eq. 4-7).

    R_m = sum over ids j of alpha_mj / n_j |w_j|^2,   w_j <- w_j - eta (dL/dw_j + lambda alpha_mj / n_j w_j)

alpha_mj is 1 if id j occurs in batch m and else 0, however often it occurs; n_j is in how many examples it does. So what shrinks is
what a batch looks up, an id of few examples more than one of many, and a step costs what its rows cost, not what the table does.
The paper's step is that of gradient descent; here the term goes through Adam's moments, as every gradient does.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, Segments
from penchant.data.load import Loader
from penchant.errors import ConfigError
from penchant.models.iacn import IaCN
from penchant.nn.embedding import Table
from penchant.nn.item import CatalogueEncoder, Ids
from penchant.nn.model import Model

AT_ONCE = 4096  # examples that are counted at a time


def mini_batch_aware(model: Model, loader: Loader, strength: float) -> dict[Table, Tensor]:
    """float32 [V] of each table of items, lambda / n_j; where an id occurs in no example, lambda.

    Raises ConfigError where every batch looks up the whole catalogue.
    """
    if model.wants.catalogue:
        raise ConfigError(
            "train.mini_batch_aware is of the rows that a batch looks up, but this model's loss looks up the whole catalogue in each. "
            "Set it to 0, or use train.table_l2."
        )
    return {table: strength / count.clamp(min=1) for table, count in occurrences(model, loader).items()}


def occurrences(model: Model, loader: Loader) -> dict[Table, Tensor]:
    """float32 [V] of each table of items: in how many examples of the first epoch each id occurs, in whatever place.

    UNKNOWN, which any id is for some epochs, counts as if it were in all of them.
    """
    encoders = [module for module in model.modules() if isinstance(module, CatalogueEncoder | Ids)]
    alone = model.extra if isinstance(model, IaCN) and not model.model.wants.further else None  # it alone looks drawn items up
    unmarked = replace(loader, config=loader.config.model_copy(update={"unknown": 0.0}))
    found: dict[Table, Tensor] = {}
    for batch in unmarked.epoch(0, AT_ONCE):
        batch = batch.to(model.device)
        met, own = _met(batch), _met(replace(batch, negative=None))
        for encoder in encoders:
            example, place = own if alone is not None and encoder is not alone else met
            for table, at, id in encoder.looked_up(batch.row, batch.known):
                count = found.setdefault(table, torch.zeros(table.num_embeddings, device=batch.row.device))
                count += _examples(example, place, at, id, table.num_embeddings)
    for count in found.values():
        count[0] = len(loader.position)
    return found


def _met(batch: Batch) -> tuple[Tensor, Tensor]:
    """Which example meets which place of Batch.row, as often as it does: int64 [n] each."""
    many, events = len(batch.row), batch.history.events
    of_request = [batch.item] if batch.negative is None else [batch.item, batch.negative]
    of_event = [batch.history.item] if batch.history.other is None else [batch.history.item, batch.history.other]
    request = torch.arange(batch.requests, device=batch.row.device)[:, None]
    pair = torch.cat([*((request * many + place).view(-1) for place in of_request), *(events.row * many + place for place in of_event)])
    return pair // many, pair % many


def _examples(example: Tensor, place: Tensor, at: Tensor, id: Tensor, size: int) -> Tensor:
    """In how many examples each id of a table occurs, places `at` looking up `id`: float32 [size]."""
    order = at.argsort(stable=True)
    length = torch.bincount(at, minlength=int(place.max()) + 1)
    start = F.pad(length.cumsum(0), (1, 0))
    kept = Segments.of(length[place].cpu(), id.device)
    looked = id[order][start[place][kept.row] + kept.position]
    pair = torch.unique(example[kept.row] * size + looked)
    return torch.bincount(pair % size, minlength=size).float()
