"""Events that fit nothing else that their person did, and what a run does about them.

    [data.noise]
    fit = "weight"         # an example counts for floor + (1 - floor) fit, the fit of its event
    bots = "drop"          # people who look like none are neither examples nor counted (penchant.data.bots)

Fit. Of everybody's choices in training, each item of a person counted once, those are neighbours that are at most WINDOW apart in
the person's order. For a choice e of item i with neighbours j, leaving e itself out of all counts,

    observed  O = sum over j of how often others have i and j as neighbours
    expected  E = what O would be if items were chosen by chance, each as often as it is
    beyond    b = (O - E + SHRINK a) / (O + SHRINK), cut to 0 .. 1: the share of O that chance does not make
    fit         = (b + SLACK) / (b' + SLACK), at most 1; b' is the mean of b over the item's other choices

Where items are met too seldom to tell, a speaks for them, the same by an attribute: of the person's other items k are of this
value, and chance would have it c: a = (k - c + 1) / (k + 1), cut to 0 .. 1. It is 1 where there is no attribute, or no value.

The last line compares a choice with other choices of its own item. An item that everybody likes stands beside everything, and one
of a rare taste beside little; neither says anything against those who chose it, and so no item loses as a whole. Of a choice that
nothing can be said of (the person chose nothing else; nobody else chose the item) the fit is 1, as it is of what was not chosen.

Wang et al. (WSDM 2021, arXiv 2006.04153) take what a model finds hard for noise; this looks at the data before there is a model, so
that it goes with any loss.

What it may change. A fit needs the choices of everybody, those around it in time on either side, and a count without its own: a
server that is sent a past has none of these. So a fit weighs examples and never takes an event out of a past: a past that
training reads otherwise than serving would be skew (docs/design.md, idea 5). For the same reason pasts of bots stay in evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field as Limits
from pydantic import model_validator

from penchant.config import Config
from penchant.data.bots import find_bots
from penchant.data.log import Log
from penchant.data.together import Once, Reals, together
from penchant.encoding import Floats, Ints
from penchant.errors import ConfigError, nearest

SHRINK = 5.0  # neighbours: of fewer an attribute says as much
SLACK = 0.1  # of the share that chance does not make, on either side: without it little differences of little would be all


class NoiseConfig(Config):
    """What training does about events that do not fit, and about people who are none."""

    fit: Literal["none", "weight"] = "none"  # weight: an example counts for floor + (1 - floor) fit; all its candidates do
    floor: float = Limits(0.0, ge=0, lt=1)  # what an example counts for whose event fits nothing
    field: str | None = None  # an item's field of one category, for items that are met too seldom; None: the first
    bots: Literal["keep", "drop"] = "keep"  # drop: who looks like a bot is neither learned from nor counted

    @model_validator(mode="after")
    def _consistent(self) -> NoiseConfig:
        for name in ("floor", "field"):
            if getattr(self, name) and self.fit == "none":
                raise ValueError(f"data.noise.{name} is of the fit 'weight'; the fit is 'none'")
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Denoised:
    """What a run learns from, of a Log of N events."""

    train: Ints  # positions, ascending
    weight: Floats | None = None  # [N] what each event's example counts for; None: all the same
    facts: Mapping[str, Any] = field(default_factory=dict)  # what was done, as JSON: {"bots": ..., "fit": ...}


def denoise(log: Log, train: Ints, config: NoiseConfig) -> Denoised:
    """What is left of the events at `train` (positions, ascending), and what each counts for; all of it by these events alone.

    Raises ConfigError for a field that items do not have.
    """
    weight, facts = None, {}
    if config.bots == "drop":
        found = find_bots(log, train)
        out = found.bot[log.user_of(train)]
        facts["bots"] = {
            "people": int(found.bot.sum()),
            "looked_at": int(found.looked_at.sum()),
            "rows": int(out.sum()),
            "of_rows": len(train),
            "signs": dict(found.counts()),
        }
        train = train[~out]
    if config.fit == "weight":
        chosen = train[log.positive[train]]
        fit = fits(log, train, config.field)
        mine = config.floor + (1 - config.floor) * fit[log.positive[train]]
        weight = np.ones(log.size, dtype=np.float32)
        weight[chosen] = mine
        facts["fit"] = {"choices": len(chosen), "mean": float(mine.mean()) if len(chosen) else 1.0, "below_half": int((mine < 0.5).sum())}
    return Denoised(train=train, weight=weight, facts=facts)


def fits(log: Log, train: Ints, field: str | None = None) -> Floats:
    """float32 [n], 0 to 1: how well each of the events at `train` (positions, ascending) fits what else its person chose there.

    field: an item's field of one category that stands in for items met too seldom; None: the first, if there is any.
    Raises ConfigError for one that items do not have.
    """
    code = _attribute(log, field)
    fit, chosen = np.ones(len(train), dtype=np.float32), log.positive[train]
    choices = Once.of(log, train[chosen])
    if not len(choices.user):
        return fit
    observed, expected = together(choices)
    alike = np.ones(len(observed)) if code is None else _alike(choices, code)
    beyond = np.clip((observed - expected + SHRINK * alike) / (observed + SHRINK), 0, 1)
    others = np.bincount(choices.item)[choices.item] - 1
    usual = (np.bincount(choices.item, beyond)[choices.item] - beyond) / np.maximum(others, 1)
    found = np.minimum((beyond + SLACK) / (np.maximum(usual, 0) + SLACK), 1.0)  # 1 where nobody else chose the item: usual is 0
    fit[chosen] = found[choices.place]
    return fit


def _alike(choices: Once, code: Ints) -> Reals:
    """[M], a of each choice: how many of its person's other items have its value, beside what chance makes of it; 1 without a value."""
    user, value = choices.user, code[choices.item].astype(np.int64)
    _, pair, count = np.unique(user * (int(code.max(initial=0)) + 1) + value, return_inverse=True, return_counts=True)
    same, other = count[pair] - 1.0, np.bincount(user)[user] - 1.0
    chance = other * (np.bincount(value)[value] - 1.0) / max(len(user) - 1, 1)
    return np.where(value > 0, np.clip((same - chance + 1) / (same + 1), 0, 1), 1.0)


def _attribute(log: Log, name: str | None) -> Ints | None:
    """int64 [I], a place among the values of a field of each of the Log's items, 0 being none; None: there is no field."""
    names = log.schema.named("item", "category")
    if name is not None and name not in names:
        raise ConfigError(
            f"data.noise.field is {name!r}, which is no item field of one category; there is {', '.join(names) or 'none'}."
            f"{nearest(name, names)}"
        )
    if not names:
        return None
    code: Ints = log.items.column(f"item.{name or names[0]}").to_numpy().astype(np.int64)
    return code
