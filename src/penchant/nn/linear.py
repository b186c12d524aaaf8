"""Linear attention: the product of keys and values is made once a past, so that a query costs nothing of its length.

LinRec (Liu et al., SIGIR 2023): rows of ELU(Q) and columns of ELU(K) of length 1,

    attention = Q' (K'^T V) / sqrt(d)

The authors' K' is made of all places of a padded row, fillings and the future among them. Here a column is over an owner's own things.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Segments

TINY = 1e-12  # the least length


def remembered(key: Tensor, value: Tensor, events: Segments) -> Tensor:
    """key [E, d], value [E, D] -> [R, d, D], K'^T V of each owner; 0 of one without events."""
    key = F.elu(key)
    length = events.sum(key.square()).clamp(min=TINY**2).sqrt()  # [R, d]
    return events.pool(value, key / events.spread(length))


def recalled(query: Tensor, kept: Tensor) -> Tensor:
    """query [R, C, d], kept [R, d, D] -> [R, C, D]."""
    taken: Tensor = F.normalize(F.elu(query), dim=-1, eps=TINY) @ kept
    scale: float = query.shape[-1] ** -0.5
    return taken * scale
