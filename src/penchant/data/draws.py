"""What negatives are drawn from, as a configuration says, of the items of one Log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from penchant.data.encoded import EncodedLog
from penchant.data.negatives import PARTS_OF_WINDOW, Negatives, Pool, SamplerConfig, Seen, by_category, by_life, by_popularity
from penchant.encoding import Ints
from penchant.errors import ConfigError, nearest

MOST_BUCKETS = 10_000_000  # of "alive", parts of its window


@dataclass(frozen=True, eq=False)
class Draws:
    """Negatives, and which of their groups each is drawn from."""

    negatives: Negatives
    group: Callable[[Ints, Ints], Ints]  # catalogue rows and times (unix milliseconds) of what negatives stand beside -> groups

    @staticmethod
    def of(data: EncodedLog, train: Ints, config: SamplerConfig, seed: int) -> Draws:
        """As a sampler is configured, of the items with training rows. Raises ConfigError for a field that items do not have."""
        log, catalogue = data.log, data.encoding.catalogue
        chosen = train[log.positive[train]]
        seen = Seen(log.user_of(chosen), data.rows(chosen), users=len(log.users), rows=catalogue.size)
        row = np.flatnonzero(catalogue.known)
        pool, group = _pool(data, train, config, row)
        return Draws(Negatives(pool=pool, seen=seen, seed=seed), group)


def _pool(data: EncodedLog, train: Ints, config: SamplerConfig, row: Ints) -> tuple[Pool, Callable[[Ints, Ints], Ints]]:
    catalogue, time = data.encoding.catalogue, np.asarray(data.log.events["time"])
    if config.name == "category":
        names = data.encoding.schema.named("item", "category")
        name = config.field or (names[0] if names else "")
        if name not in names:
            raise ConfigError(
                f"data.sampler 'category' needs an item field of one category; "
                f"there {f'is no {config.field!r}' if config.field else 'is none'}, only {', '.join(names) or 'ids'}.{nearest(name, names)}"
            )
        code = catalogue.code[:, names.index(name)]
        return by_category(row, code), lambda row, time: code[row]
    if config.name == "alive" and data.log.schema.events.time.unit == "rows":
        raise ConfigError("data.sampler 'alive' needs times; this log knows the order of its rows alone.")
    if config.name == "alive":
        width = max(int(config.hours * 3_600_000 / PARTS_OF_WINDOW), 1)
        first = int(time[train].min())
        bucket = (time[train] - first) // width
        buckets = int(bucket.max()) + 1
        if buckets > MOST_BUCKETS:
            raise ConfigError(f"data.sampler.hours is {config.hours:g}, too few for a log of {buckets * width // 3_600_000:,} hours.")
        pool = by_life(row, data.rows(train), bucket, buckets)
        return pool, lambda row, time: np.clip((time - first) // width, 0, buckets - 1)
    pool = by_popularity(row, catalogue.count, config.power) if config.name == "popularity" else Pool.of(row)
    return pool, lambda row, time: np.zeros(len(row), dtype=np.int64)
