"""A run that begins with what a bundle learned: that continues it on a Log that has grown, or takes its embeddings over.

    dense weights   as they are
    tables          row by row, by the text of ids and values; `Table.of` says what its rows are of
    a new item      where its attributes say that it belongs (`start_of_items`)
    all else new    from the row that it looked up before: UNKNOWN's, or of an item one of the tail

A continued run is the bundle's own run where its configuration says nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from penchant.bundle import Bundle, load_bundle
from penchant.config import Config, validate
from penchant.encoding import Bools, Catalogue, Encoding, Ints, bucket_of
from penchant.errors import ConfigError
from penchant.models import checked, checked_auxiliary, checked_long
from penchant.nn.embedding import Crossed, Table
from penchant.nn.item import CatalogueEncoder
from penchant.nn.model import Model, take_weights
from penchant.train.config import RunConfig

NEW_RUN = ("log", "start", "embeddings", "item")  # keys of a bundle's run that say nothing of one that continues it
PRIOR = 10.0  # training events: an attribute's value of as many is believed half


# ------------------------------------------------------------------------------------------------------- what is continued


def continued(config: RunConfig, bundle: Bundle, folder: str) -> RunConfig:
    """A run's configuration with all that it does not say as in the bundle's run; a table of another `name` is taken whole.

    Raises ConfigError where it asks for another model, another wrapping, other keys of these, or another item encoder.
    """
    told = config.model_dump(mode="json", exclude_unset=True)
    theirs: dict[str, Any] = {key: value for key, value in bundle.facts.get("run", {}).items() if key not in NEW_RUN}
    theirs["model"] = {"name": bundle.name, **bundle.config}
    theirs["data"] = {**theirs.get("data", {}), "past": bundle.past}
    theirs["grow"] = {key: value for key, value in theirs.get("grow", {}).items() if key not in ("bundle", "since")}
    for key, value in (("auxiliary", bundle.auxiliary), ("long", bundle.long)):
        theirs.pop(key, None)
        theirs |= {key: dict(value)} if value else {}
    where = f"grow: {folder}"
    for key in ("model", "auxiliary", "long"):
        if key in told:
            _refuse_other(key, theirs.get(key), told[key], where)
    has = bundle.item.model_dump()
    for key, value in (told.get("item") or {}).items():
        if has[key] != value:
            raise ConfigError(f"{where} has item.{key} = {has[key]!r}; this run asks for {value!r}. What it learned is of its own.")
    merged = _merged(theirs, {key: value for key, value in told.items() if key not in ("item", "auxiliary", "long")})
    return validate(RunConfig, {**merged, "item": has}, where="run")


def _merged(theirs: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(theirs)
    for key, value in told.items():
        there = found.get(key)
        alike = isinstance(value, dict) and isinstance(there, dict) and value.get("name", there.get("name")) == there.get("name")
        found[key] = _merged(there, value) if alike and isinstance(there, dict) else value
    return found


def _refuse_other(key: str, theirs: Mapping[str, Any] | None, told: Mapping[str, Any] | None, where: str) -> None:
    """Raises ConfigError where a run asks for another model or wrapping than the bundle's, or for other keys of it."""
    if theirs is None or told is None:
        if theirs is not told:
            has, asked = (("none" if one is None else repr(one.get("name"))) for one in (theirs, told))
            raise ConfigError(f"{where} has {key} {has}; this run asks for {asked}. Only the same can be continued.")
        return
    named = told.get("name", theirs["name"])
    if named != theirs["name"]:
        raise ConfigError(f"{where} has {key} {theirs['name']!r}; this run asks for {named!r}. Only the same can be continued.")
    mine, other = (_checked(key, one) for one in ({**theirs, **told}, theirs))
    differ = [name for name in mine if mine[name] != other[name]]
    if differ:
        has, asked = ("; ".join(f"{key}.{name} = {one[name]!r}" for name in differ) for one in (other, mine))
        raise ConfigError(f"{where} has {has}; this run asks for {asked}. Only the same can be continued.")


def _checked(key: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of a model or wrapping, its defaults among them."""
    own: Config
    if key == "model":
        name = table["name"]
        _, own = checked(name, {one: value for one, value in table.items() if one != "name"}, where="run")
    else:
        _, own = (checked_auxiliary if key == "auxiliary" else checked_long)(table, where="run")
    return own.model_dump()


def carry_over(model: Model, encoding: Encoding, bundle: Bundle) -> int:
    """Puts all that a bundle learned into a model of a grown encoding: how many new items started from their attributes.

    Raises ConfigError for a model that is made of the numbers of people, where some have expired.
    """
    ours, weights, began = dict(model.named_modules()), bundle.model.state_dict(), 0
    _refuse_renumbered(ours, bundle.encoding, encoding)
    for name, table in ours.items():
        if not isinstance(table, Table):
            continue
        weight = weights[f"{name}.weight"]
        if table.of is None:
            if weight.shape != table.weight.shape:
                raise TypeError(f"{name} of {type(model).__name__} has other ids now, and does not say which: Table(..., of=...)")
            continue
        row, own = rows_of(table.of, encoding, bundle.encoding)
        made = weight[torch.from_numpy(row)]
        if table.of == "items":
            place, vectors = start_of_items(encoding.catalogue, made, own, trained_on(encoding.catalogue, bundle.encoding.catalogue))
            made[place] = vectors
            began = max(began, len(place))
        weights[f"{name}.weight"] = made
    take_weights(model, weights)
    return began


def _refuse_renumbered(modules: Mapping[str, nn.Module], old: Encoding, new: Encoding) -> None:
    if new.users.values[: len(old.users.values)].equals(old.users.values):
        return
    for name, module in modules.items():
        if isinstance(module, Crossed) and "users" in module.of:
            raise ConfigError(
                f"grow.expire_days lets people go, which numbers the others anew, but {name} hashes these numbers "
                f"(a cross of {', '.join(module.of)}). Leave expire_days out, or cross other fields."
            )


# ------------------------------------------------------------------------------------------------------------- embeddings


def take_embeddings(model: Model, encoding: Encoding, folder: str) -> dict[str, Any]:
    """Vectors of items' ids and attribute values that a bundle has too, put into a model; what embeddings.json says.

    UNKNOWN's vector comes with them. Raises ArtefactError, and ConfigError where either has no item encoder, or where widths differ.
    """
    bundle = load_bundle(folder)
    mine, theirs = (_encoder(one) for one in (model, bundle.model))
    if mine is None or theirs is None:
        which = f"this run's {type(model).__name__}" if mine is None else f"{folder}, a {type(bundle.model).__name__},"
        raise ConfigError(f"embeddings: {which} has no item encoder, so there are no vectors of items.")
    dims = (theirs.id.embedding_dim, mine.id.embedding_dim)
    if dims[0] != dims[1]:
        raise ConfigError(
            f"embeddings: items of {folder} have vectors of {dims[0]} numbers, this run's have {dims[1]}; set item.dim to {dims[0]}."
        )
    there = {str(table.of): table for table in _tables(theirs)}
    found: dict[str, dict[str, int]] = {}
    for table in _tables(mine):
        of = str(table.of)
        known = _known(of, encoding)
        taken = np.zeros(len(known), dtype=bool)
        if of in there:
            row, own = rows_of(of, encoding, bundle.encoding)
            taken = own & known
            place = np.append(0, np.flatnonzero(taken))
            with torch.no_grad():
                table.weight[place] = there[of].weight[row[place]]
        found[of] = {"found": int(taken.sum()), "not_found": int((known & ~taken).sum())}
    return {"from": bundle.label, "ids": found}


def _encoder(model: Model) -> CatalogueEncoder | None:
    """The item encoder that a model was given; what it puts beside it comes later."""
    return next((module for module in model.modules() if isinstance(module, CatalogueEncoder)), None)


def _tables(encoder: CatalogueEncoder) -> list[Table]:
    return [module for module in encoder.modules() if isinstance(module, Table)]


def _known(of: str, encoding: Encoding) -> Bools:
    """bool, the rows of a table that stand for an id or value of their own."""
    if of == "items":
        known = np.zeros(encoding.catalogue.ids, dtype=bool)
        known[_slots(encoding.catalogue)[encoding.catalogue.own, 1]] = True
        return known
    return np.arange(encoding.vocabularies[of].size) > 0


# ------------------------------------------------------------------------------------------------------------------- rows


def rows_of(of: str, new: Encoding, old: Encoding) -> tuple[Ints, Bools]:
    """Of each row of a table that is `of` something (`Table.of`): the old table's row that it goes on from, and whether that is its own.

    int64 [n] and bool [n]; what it goes on from is otherwise what its id looked up there.
    """
    if of == "items":
        return _rows_of_items(new.catalogue, old.catalogue)
    if of == "users":
        mine, theirs = new.users, old.users
    elif of in new.vocabularies:
        mine, theirs = new.vocabularies[of], old.vocabularies[of]
    else:  # a derived moment, whose values are always the same
        row = np.arange(new.sizes("context")[new.named("context").index(of)])
        return row, row > 0
    row = np.append(0, theirs.encode(mine.values))
    return row, row > 0


def _rows_of_items(new: Catalogue, old: Catalogue) -> tuple[Ints, Bools]:
    before = np.append(0, old.items.encode(new.items.values))  # [V] its row of the old catalogue
    slot, was = _slots(new), _slots(old)
    had = old.own[before] & (before > 0)
    shared = was[before, 0]
    if old.tail:
        shared[1:] = 1 + bucket_of(new.items.values, old.tail)
    row, own = np.zeros(new.ids, dtype=np.int64), np.zeros(new.ids, dtype=bool)
    if new.tail == old.tail:
        row[: 1 + new.tail] = np.arange(1 + new.tail)
    place = slot[new.own, 1]
    row[place] = np.where(had, was[before, 1], shared)[new.own]
    own[place] = had[new.own]
    return row, own


def _slots(catalogue: Catalogue) -> Ints:
    """Catalogue.slot, with nothing left to be understood."""
    row = np.arange(catalogue.size)
    return np.stack([np.zeros_like(row), row], 1) if catalogue.slot is None else catalogue.slot


def trained_on(new: Catalogue, old: Catalogue) -> Ints:
    """int64 [V], the positive training events that each item of a new catalogue had in the old one."""
    before = np.append(0, old.items.encode(new.items.values))
    return np.where(before > 0, old.count[before], 0)


def start_of_items(catalogue: Catalogue, weight: Tensor, own: Bools, count: Ints) -> tuple[Tensor, Tensor]:
    """Where new items start in a table of ids, from the old items that share attribute values: their places int64 [n], vectors [n, D].

    weight [rows, D] and own [rows]: the table, and which of its rows were learned. count [V]: the training events that they learned from.

        v_a = (sum of c_i (w_i - m) over the old items with value a) / (sum of these c_i + PRIOR)
        start = m + mean of v_a over the item's values

    m is the mean of the old rows, each counted c_i = its training events. Items of which no value is of an old item that trained are left
    out. Why so: studies/new_items.py lets trained models forget items and judges them before a step. UNKNOWN's row ranked such items worse
    than this; ridge regression on the same values did no better than means, which are simpler; and with every old item counting alike
    it was worse than UNKNOWN's row.
    """
    slot = _slots(catalogue)[:, 1]
    row, value = values_of(catalogue)
    learned, fresh = catalogue.own & own[slot], catalogue.own & ~own[slot]
    events = torch.from_numpy(count[learned].astype(np.float64))[:, None]
    vectors = weight[torch.from_numpy(slot[learned])].double()
    mean = (events * vectors).sum(0) / events.sum().clamp(min=1.0)
    place = np.cumsum(learned) - 1  # among those that learned
    mine = learned[row]
    at, of = torch.from_numpy(place[row[mine]]), torch.from_numpy(value[mine])
    size = int(value.max(initial=-1)) + 1
    seen = torch.zeros(size, 1, dtype=torch.float64).index_add_(0, of, events[at])
    effect = torch.zeros(size, weight.shape[1], dtype=torch.float64).index_add_(0, of, (events * (vectors - mean))[at]) / (seen + PRIOR)
    mine = fresh[row] & (seen[:, 0].numpy() > 0)[value]
    items, whose = np.unique(row[mine], return_inverse=True)
    told = torch.zeros(len(items), weight.shape[1], dtype=torch.float64)
    told.index_add_(0, torch.from_numpy(whose), effect[torch.from_numpy(value[mine])])
    start = mean + told / torch.from_numpy(np.bincount(whose, minlength=len(items)))[:, None]
    return torch.from_numpy(slot[items]), start.to(weight.dtype)


def values_of(catalogue: Catalogue) -> tuple[Ints, Ints]:
    """Which items have which attribute values, each once: int64 [n] catalogue rows, and numbers of values, all fields counted together."""
    rows, values, size = [], [], 0
    for column in (*catalogue.code.T[:, :, None], *catalogue.many):
        row, place = np.nonzero(column)
        rows.append(row)
        values.append(size + column[row, place])
        size += int(column.max(initial=0)) + 1
    none = np.zeros(0, dtype=np.int64)
    row, value = np.divmod(np.unique(np.concatenate([none, *rows]) * size + np.concatenate([none, *values])), max(size, 1))
    return row, value
