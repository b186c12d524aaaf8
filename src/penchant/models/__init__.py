"""The models, one file each; LONG, what makes their pasts short; AUXILIARIES, what they can be wrapped in. Dicts are registry enough.

A name such as din+eta+iacn means the model din, with a past shortened by eta, wrapped in the auxiliary network iacn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penchant.config import Config, validate
from penchant.encoding import Encoding
from penchant.errors import ConfigError, unknown_name
from penchant.models.amp import AMP
from penchant.models.around import Make
from penchant.models.bst import BST
from penchant.models.dain import DAIN
from penchant.models.deepfm import DeepFM
from penchant.models.dien import DIEN
from penchant.models.din import DIN
from penchant.models.dsin import DSIN
from penchant.models.gru import Recurrent
from penchant.models.hrnn import HRNN
from penchant.models.iacn import IaCN, Wider
from penchant.models.long import ONCE, Long
from penchant.models.mf import MF
from penchant.models.mind import MIND
from penchant.models.ncf import NCF
from penchant.models.pooling import Pooling
from penchant.models.popularity import Popularity
from penchant.models.sasrec import SASRec
from penchant.models.search import SEARCHES
from penchant.models.wide_deep import WideDeep
from penchant.nn.item import ItemConfig, ItemEncoder, item_encoder
from penchant.nn.model import Model

MODELS: dict[str, type[Model]] = {
    "popularity": Popularity,
    "mf": MF,
    "ncf": NCF,
    "amp": AMP,
    "dain": DAIN,
    "wide-deep": WideDeep,
    "deepfm": DeepFM,
    "pooling": Pooling,
    "din": DIN,
    "dien": DIEN,
    "dsin": DSIN,
    "gru": Recurrent,
    "hrnn": HRNN,
    "bst": BST,
    "sasrec": SASRec,
    "mind": MIND,
}


LONG: dict[str, type[Long]] = {**ONCE, **SEARCHES}
AUXILIARIES: dict[str, type[Wider]] = {"iacn": IaCN, "wider": Wider}


def find(name: str) -> type[Model]:
    """The model of this name. Raises UnknownNameError with the nearest."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def apart(name: str) -> tuple[str, str, str]:
    """din+eta+iacn -> the names of the model, of what shortens its past, and of what it is wrapped in; "" of none.

    Raises ConfigError, UnknownNameError (of what stands after a +).
    """
    model, *further = name.split("+")
    found = {"long": "", "auxiliary": ""}
    for one in further:
        if not one:
            raise ConfigError(f"{name!r}: after + a name was wanted, one of {', '.join([*LONG, *AUXILIARIES])}.")
        kind = "long" if one in LONG else "auxiliary"
        if kind == "auxiliary" and one not in AUXILIARIES:
            raise unknown_name("name of what stands around a model", one, [*AUXILIARIES, *LONG])
        if found[kind]:
            raise ConfigError(f"{name!r}: {found[kind]} and {one} are two of a kind; one was wanted.")
        found[kind] = one
    return model, found["long"], found["auxiliary"]


def label(name: str, auxiliary: Mapping[str, Any] | None, long: Mapping[str, Any] | None) -> str:
    """What `apart` takes apart: din+eta+iacn."""
    return "+".join([name, *(str(one.get("name")) for one in (long, auxiliary) if one)])


def build(
    encoding: Encoding,
    name: str,
    config: Mapping[str, Any],
    item: ItemConfig | None = None,
    auxiliary: Mapping[str, Any] | None = None,
    long: Mapping[str, Any] | None = None,
    *,
    where: str = "model",
) -> Model:
    """The model of this name for an encoding.

    config: the model's own keys, checked; item: the encoder it is given; auxiliary, long: a name in AUXILIARIES, in LONG, and that one's
    own keys. Raises ConfigError, UnknownNameError.
    """
    kind, own = checked(name, config, where=where)
    encoder = item_encoder(encoding, item or kind.Item)
    return around(lambda encoding, item: kind(encoding, item, own), auxiliary, long, where=where)(encoding, encoder)


def around(make: Make, auxiliary: Mapping[str, Any] | None, long: Mapping[str, Any] | None, *, where: str) -> Make:
    """What makes a model with a past shortened by `long`, wrapped in `auxiliary`. Raises ConfigError, UnknownNameError."""
    if long is not None:
        make = _put(*checked_long(long, where=where), make)
    return make if auxiliary is None else _put(*checked_auxiliary(auxiliary, where=where), make)


def _put(kind: Callable[[Encoding, ItemEncoder, Any, Make], Model], config: Any, make: Make) -> Make:
    return lambda encoding, item: kind(encoding, item, config, make)


def checked(name: str, config: Mapping[str, Any], *, where: str) -> tuple[type[Model], Config]:
    """The model of this name and its configuration. Raises ConfigError, UnknownNameError."""
    kind = find(name)
    return kind, validate(kind.Config, config, where=where, under="model")


def checked_auxiliary(auxiliary: Mapping[str, Any], *, where: str) -> tuple[type[Wider], Any]:
    """The auxiliary network that `name` and its own keys describe. Raises ConfigError, UnknownNameError."""
    return _checked(auxiliary, AUXILIARIES, "auxiliary", "auxiliary network", where)


def checked_long(long: Mapping[str, Any], *, where: str) -> tuple[type[Long], Any]:
    """The way with long pasts that `name` and its own keys describe. Raises ConfigError, UnknownNameError."""
    return _checked(long, LONG, "long", "way with long pasts", where)


def _checked(given: Mapping[str, Any], kinds: Mapping[str, Any], table: str, what: str, where: str) -> tuple[Any, Any]:
    own = dict(given)
    name = own.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: {table}.name is {name!r}; one of {', '.join(kinds)} was wanted.")
    if name not in kinds:
        raise unknown_name(what, name, kinds)
    return kinds[name], validate(kinds[name].Config, own, where=where, under=table)
