"""The models, one file each. MODELS is registry enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penchant.config import validate
from penchant.encoding import Encoding
from penchant.errors import unknown_name
from penchant.models.bst import BST
from penchant.models.dain import DAIN
from penchant.models.deepfm import DeepFM
from penchant.models.dien import DIEN
from penchant.models.din import DIN
from penchant.models.dsin import DSIN
from penchant.models.gru import Recurrent
from penchant.models.hrnn import HRNN
from penchant.models.mf import MF
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
}


def find(name: str) -> type[Model]:
    """The model of this name. Raises UnknownNameError with the nearest."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def build(encoding: Encoding, name: str, config: Mapping[str, Any], item: ItemConfig | None = None, *, where: str = "model") -> Model:
    """The model of this name for an encoding: `config` is the model's own, checked; `item` the encoder it is given."""
    kind = find(name)
    return kind(encoding, item_encoder(encoding, item or kind.Item), validate(kind.Config, config, where=where, under="model"))
