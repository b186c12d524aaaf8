"""Wide & Deep (Cheng et al., DLRS 2016, arXiv 1606.07792): a linear model that remembers beside a network that generalises.

    single fields ───┐
                     ├─ sum of weights ───────────────┐  wide
    crossed fields ──┘                                │
                                                      ├─ + ─ logit
    person, moment ──┐                                │
    past ─── mean ───┼─ concat ─ hidden ─ linear ─────┘  deep
    item ────────────┘

    logit = w . [x, cross(x)] + MLP(embeddings) + b

A cross is AND of two or more fields, such as ["past.id", "item.id"], the paper's AND(installed app, shown app): a weight
for each combination of ids. One with a field of the past is the sum over the past's events.

                   paper                              here
    optimiser      wide: FTRL with L1; deep: AdaGrad  both: the run's Adam, jointly; no L1
    crosses        of installed and shown apps        `crosses`, by default these
    cross weights  of those met in training           `buckets` a cross, by a hash (nn.embedding.Crossed)
    single fields  of the linear model                person, profile, moment, item, shown; of a past the ids
    deep           3 ReLU layers, 32 a field          `hidden`, item.dim, `profile`
    numbers        quantiles from 0 to 1              standardised, with an indicator
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError, nearest
from penchant.nn.embedding import Crossed
from penchant.nn.item import Coded, Ids, ItemEncoder, Widened, item_weights
from penchant.nn.mlp import Head
from penchant.nn.model import Model
from penchant.nn.person import Facts, Past, Person

Place = tuple[str, int]  # a group of fields, and a column of its codes


class WideDeepConfig(Config):
    """Which fields are crossed, and widths.

    Fields: user.id, user.FIELD, context.FIELD (derived moments too), item.id, item.FIELD, shown.FIELD, past.id, past.FIELD
    (what items have), each a category.
    """

    crosses: tuple[tuple[str, ...], ...] = (("past.id", "item.id"),)
    buckets: int = Limits(2**18, ge=2)  # weights of each cross
    hidden: tuple[int, ...] = Limits((1024, 512, 256), min_length=1)
    profile: int = Limits(32, ge=1)  # width of each field of profile and moment
    person_id: bool = False  # whether the deep part is told who it is, beside the profile
    dropout: float = Limits(0.0, ge=0, lt=1)


class WideDeep(Model):
    """Wide & Deep; `explain` gives what each event adds to each logit through the crosses, and nothing without one of the past."""

    Config = WideDeepConfig
    item: Coded

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: WideDeepConfig = WideDeepConfig()) -> None:
        super().__init__(encoding, item, config)
        self.config = config
        self.places = tuple(places_of(encoding, cross) for cross in config.crosses)
        self.told = tuple(sorted({column for places in self.places for group, column in places if group == "past"}))
        weights, past = item_weights(encoding, item), Ids(encoding.catalogue, 1, std=1e-4)
        self.item = Coded(Widened(Widened(item, weights), past), encoding.catalogue, encoding.sizes("item"), self.told)
        self.width = [item.dim, weights.dim, past.dim, self.item.digits]
        self.user, self.context, self.shown = (Facts(encoding, group, 1, std=1e-4) for group in ("user", "context", "shown"))
        named = {"user.id": "users", "item.id": "items", "past.id": "items"}  # what ids are of
        of = (tuple(named.get(name, name.replace("past.", "item.")) for name in cross) for cross in config.crosses)
        self.crosses = nn.ModuleList(Crossed(config.buckets, of=names) for names in of)
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile, with_id=config.person_id)
        self.deep = Head(self.person.dim + item.dim, item.dim, config.hidden, "relu", config.dropout)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        vector, _, weight, digits = torch.split(items, self.width, -1)
        events, past = history.events, history.item
        wide = self.user(user.code, user.number).sum((1, 2)) + events.sum(weight.squeeze(-1).index_select(0, past))  # [R]
        each = {"code": self.item.ids(digits.index_select(0, past))} if self.told else {}  # int64 [E, told]
        return Memory(segments=events, each=each, whole={"wide": wide, "mean": events.mean(self.past(vector, history))})

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        vector, weight, _, _ = torch.split(items, self.width, -1)
        of_request = memory.whole["wide"] + self.context(batch.context, batch.number).sum((1, 2))  # [R]
        of_candidate = weight.sum(-1)[batch.item] + self.shown(batch.shown.code, batch.shown.number).sum((2, 3))  # [R, C]
        deep = self.deep(torch.cat([self.person(batch), memory.whole["mean"]], -1), vector[batch.item])
        logit, codes = of_request[:, None] + of_candidate + deep, self.codes(batch)
        say: Tensor | None = None  # [E, C]
        for cross, places in zip(self.crosses, self.places, strict=True):
            if any(group == "past" for group, _ in places):
                added = self.of_events(cross, places, codes, memory).expand(-1, batch.item.shape[1])
                say = added if say is None else say + added
            else:
                logit = logit + cross(*(codes[group][..., column] for group, column in places))
        if say is not None:
            logit = logit + memory.segments.sum(say)
        return Output(logit=logit.float(), attention=say if explain else None)

    def codes(self, batch: Batch) -> Mapping[str, Tensor]:
        """int64 [R, 1 or C, *] of each group but the past."""
        item = self.item.codes(batch.row, batch.known)[batch.item]
        return {"user": batch.user.code[:, None], "context": batch.context[:, None], "item": item, "shown": batch.shown.code}

    def of_events(self, cross: nn.Module, places: tuple[Place, ...], codes: Mapping[str, Tensor], memory: Memory) -> Tensor:
        """[E, C], or [E, 1] of a cross that has no field of the candidate: the weight of each event."""
        event = {column: memory.each["code"][:, None, place] for place, column in enumerate(self.told)}  # [E, 1]
        ids = [event[column] if group == "past" else memory.segments.spread(codes[group][..., column]) for group, column in places]
        added: Tensor = cross(*ids)
        return added

    @property
    def candidate_bytes(self) -> int:
        return 8 * (self.item.dim + sum(self.config.hidden))

    @property
    def pair_bytes(self) -> int:
        return 64 * sum(any(group == "past" for group, _ in places) for places in self.places)


def places_of(encoding: Encoding, cross: tuple[str, ...]) -> tuple[Place, ...]:
    """Where the fields of a cross stand. Raises ConfigError for a field that is not there or cannot be crossed."""
    schema = encoding.schema
    groups = {
        "user": ("id", *schema.named("user", "category")),
        "context": (*schema.events.moment, *schema.named("context", "category")),
        "item": ("id", *schema.named("item", "category")),
        "shown": schema.named("shown", "category"),
        "past": ("id", *schema.named("item", "category")),
    }
    there = {f"{group}.{name}": (group, column) for group, names in groups.items() for column, name in enumerate(names)}
    where = f"wide-deep: the cross {list(cross)}"
    for name in cross:
        if name not in there:
            raise ConfigError(f"{where} names {name!r}; what can be crossed is {', '.join(there)}.{nearest(name, there)}")
    if len(set(cross)) < max(len(cross), 2):
        raise ConfigError(f"{where} is not of two or more different fields.")
    if sum(there[name][0] == "past" for name in cross) > 1:
        raise ConfigError(f"{where} has several fields of the past; a cross has one at most.")
    return tuple(there[name] for name in cross)
