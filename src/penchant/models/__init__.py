"""The models, one file each; and AUXILIARIES, what any of them can be wrapped in. Two dicts are registry enough.

A name such as din+iacn means the model din wrapped in the auxiliary network iacn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.config import Config, validate
from penchant.encoding import Encoding
from penchant.errors import ConfigError, unknown_name
from penchant.models.amp import AMP
from penchant.models.bst import BST
from penchant.models.dain import DAIN
from penchant.models.deepfm import DeepFM
from penchant.models.dien import DIEN
from penchant.models.din import DIN
from penchant.models.dsin import DSIN
from penchant.models.gru import Recurrent
from penchant.models.hrnn import HRNN
from penchant.models.iacn import IaCN, Wider
from penchant.models.mf import MF
from penchant.models.mind import MIND
from penchant.models.ncf import NCF
from penchant.models.pooling import Pooling
from penchant.models.popularity import Popularity
from penchant.models.sasrec import SASRec
from penchant.models.wide_deep import WideDeep
from penchant.nn.item import ItemConfig, item_encoder
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


AUXILIARIES: dict[str, type[Wider]] = {"iacn": IaCN, "wider": Wider}


def find(name: str) -> type[Model]:
    """The model of this name. Raises UnknownNameError with the nearest."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def apart(name: str) -> tuple[str, str]:
    """din+iacn -> the model's name and that of what it is wrapped in, "" where it is wrapped in nothing. Raises ConfigError."""
    model, plus, around = name.partition("+")
    if plus and not around:
        raise ConfigError(f"{name!r}: after + the name of an auxiliary network was wanted, one of {', '.join(AUXILIARIES)}.")
    return model, around


def build(
    encoding: Encoding,
    name: str,
    config: Mapping[str, Any],
    item: ItemConfig | None = None,
    auxiliary: Mapping[str, Any] | None = None,
    *,
    where: str = "model",
) -> Model:
    """The model of this name for an encoding.

    config: the model's own keys, checked; item: the encoder it is given; auxiliary: a name in AUXILIARIES and that one's own keys.
    Raises ConfigError, UnknownNameError.
    """
    kind, own = checked(name, config, where=where)
    encoder = item_encoder(encoding, item or kind.Item)
    if auxiliary is None:
        return kind(encoding, encoder, own)
    around, further = checked_auxiliary(auxiliary, where=where)
    return around(encoding, encoder, further, lambda encoding, item: kind(encoding, item, own))


def checked(name: str, config: Mapping[str, Any], *, where: str) -> tuple[type[Model], Config]:
    """The model of this name and its configuration. Raises ConfigError, UnknownNameError."""
    kind = find(name)
    return kind, validate(kind.Config, config, where=where, under="model")


def checked_auxiliary(auxiliary: Mapping[str, Any], *, where: str) -> tuple[type[Wider], Any]:
    """The auxiliary network that `name` and its own keys describe. Raises ConfigError, UnknownNameError."""
    own = dict(auxiliary)
    name = own.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: auxiliary.name is {name!r}; one of {', '.join(AUXILIARIES)} was wanted.")
    if name not in AUXILIARIES:
        raise unknown_name("auxiliary network", name, AUXILIARIES)
    around = AUXILIARIES[name]
    return around, validate(around.Config, own, where=where, under="auxiliary")
