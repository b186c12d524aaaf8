"""One artefact: the model, and all that turns raw ids into what it reads.

    bundle.toml          name, the model's and the item encoder's configuration, how pasts are cut
    schema.toml          what the columns mean
    vocabularies.arrow   the text of every vocabulary, people's ids among them
    catalogue.arrow      every known item: id, title, attributes
    scales.json          how numbers are standardised
    weights.safetensors
    calibration.json     what makes probabilities of logits
    cold.arrow           what people with little past are lent, where they are lent anything: lists
    cold.json            and the rest of it
    facts.json           what it was trained on and how it was validated
    manifest.json        kind, version, checksums

Loading reads data and executes nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field as Limits
from safetensors import SafetensorError
from safetensors.torch import load_file

from penchant.arrow import map_batch, read_texts, write_batch, write_texts
from penchant.calibration import Calibration, calibration_from
from penchant.cold import ColdConfig, Lender, lender_from
from penchant.config import Config, dump, read
from penchant.encoding import Catalogue, Encoding, Scale, Vocabulary
from penchant.errors import ArtefactError, PenchantError
from penchant.files import read_manifest, whole, write_manifest
from penchant.models import build, label
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model
from penchant.schema import Tie, read_schema
from penchant.tensors import save_tensors

KIND, VERSION = "penchant bundle", 3
FILES = (
    "bundle.toml",
    "schema.toml",
    "vocabularies.arrow",
    "catalogue.arrow",
    "scales.json",
    "weights.safetensors",
    "calibration.json",
    "facts.json",
)
NOT_CALIBRATED = {"kind": "none"}
COLD = ("cold.arrow", "cold.json")  # further files, of a bundle that lends


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A model with its encoding."""

    name: str  # of the model, in MODELS
    model: Model
    encoding: Encoding
    config: Mapping[str, Any]  # the model's own keys
    item: ItemConfig
    past: int  # events of a past that are kept
    tie: Tie
    auxiliary: Mapping[str, Any] | None = None  # what the model is wrapped in, in AUXILIARIES, and its keys
    long: Mapping[str, Any] | None = None  # how its pasts are made short, in LONG, and its keys
    calibration: Calibration | None = None  # None: nobody says what its logits mean as probabilities
    lender: Lender | None = None  # what people with little past are lent; None: nothing
    facts: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""  # the first digits of the weights' checksum; "" before it was saved

    @property
    def label(self) -> str:
        name = label(self.name, self.auxiliary, self.long)
        return f"{name}@{self.version}" if self.version else name


class _BundleConfig(Config):
    """bundle.toml."""

    name: str
    past: int = Limits(ge=0)
    tie: Tie
    model: dict[str, Any] = {}
    auxiliary: dict[str, Any] | None = None
    long: dict[str, Any] | None = None
    cold: ColdConfig | None = None
    tail: int | None = None  # of the catalogue, once it has grown
    item: ItemConfig


def save_bundle(bundle: Bundle, folder: Path | str) -> None:
    """Writes a new folder, whole or not at all. Raises ExistsError, DiskError."""
    encoding = bundle.encoding
    with whole(Path(folder), what="bundle") as draft:
        shape = _BundleConfig(
            name=bundle.name,
            past=bundle.past,
            tie=bundle.tie,
            model=dict(bundle.config),
            auxiliary=dict(bundle.auxiliary) if bundle.auxiliary else None,
            long=dict(bundle.long) if bundle.long else None,
            cold=bundle.lender.config if bundle.lender else None,
            tail=encoding.catalogue.tail if encoding.catalogue.slot is not None else None,
            item=bundle.item,
        )
        (draft / "bundle.toml").write_text(dump(shape), encoding="utf-8")
        (draft / "schema.toml").write_text(dump(encoding.schema), encoding="utf-8")
        texts = {name: vocabulary.values for name, vocabulary in {"users": encoding.users, **encoding.vocabularies}.items()}
        write_texts(draft / "vocabularies.arrow", texts)
        write_batch(draft / "catalogue.arrow", _columns(encoding.catalogue))
        (draft / "scales.json").write_text(
            json.dumps({n: asdict(s) for n, s in encoding.scales.items()}, indent=1) + "\n", encoding="utf-8"
        )
        save_tensors(bundle.model.state_dict(), draft / "weights.safetensors")
        calibration = bundle.calibration.as_dict() if bundle.calibration else NOT_CALIBRATED
        (draft / "calibration.json").write_text(json.dumps(calibration, indent=1) + "\n", encoding="utf-8")
        if bundle.lender:
            write_batch(draft / COLD[0], bundle.lender.columns())
            (draft / COLD[1]).write_text(json.dumps(bundle.lender.facts(), indent=1) + "\n", encoding="utf-8")
        (draft / "facts.json").write_text(json.dumps(bundle.facts, indent=1) + "\n", encoding="utf-8")
        write_manifest(draft, {"kind": KIND, "version": VERSION})


def load_bundle(folder: Path | str) -> Bundle:
    """The bundle in a folder, every file of it checked, its model in evaluation mode. Raises ArtefactError."""
    folder = Path(folder)
    manifest = read_manifest(folder, kind=KIND, version=VERSION, files=FILES)
    try:
        shape = read(_BundleConfig, folder / "bundle.toml")
        encoding = _encoding(folder, shape.tail)
        model = build(encoding, shape.name, shape.model, shape.item, shape.auxiliary, shape.long, where=str(folder))
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        calibration = _calibration(folder / "calibration.json")
        lender = None if shape.cold is None else _lender(folder, shape.cold, encoding, manifest["files"])
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    except ArtefactError:
        raise
    except (
        PenchantError,
        SafetensorError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        OSError,
        pa.ArrowException,
    ) as fault:
        raise ArtefactError(f"{folder}: this bundle cannot be loaded: {fault}") from fault
    return Bundle(
        name=shape.name,
        model=model.eval(),
        encoding=encoding,
        config=shape.model,
        item=shape.item,
        auxiliary=shape.auxiliary,
        long=shape.long,
        past=shape.past,
        tie=shape.tie,
        calibration=calibration,
        lender=lender,
        facts=facts,
        version=manifest["files"]["weights.safetensors"]["sha256"][:8],
    )


def _encoding(folder: Path, tail: int | None) -> Encoding:
    vocabularies = {name: Vocabulary(values) for name, values in read_texts(folder / "vocabularies.arrow").items()}
    scales = json.loads((folder / "scales.json").read_text(encoding="utf-8"))
    return Encoding(
        schema=read_schema(folder / "schema.toml"),
        users=vocabularies.pop("users"),
        catalogue=_catalogue(map_batch(folder / "catalogue.arrow"), tail),
        vocabularies=vocabularies,
        scales={name: Scale(**scale) for name, scale in scales.items()},
    )


def _calibration(path: Path) -> Calibration | None:
    found = json.loads(path.read_text(encoding="utf-8"))
    try:
        return None if found == NOT_CALIBRATED else calibration_from(found)
    except ArtefactError as fault:
        raise ArtefactError(f"{path}: {fault}") from fault


def _lender(folder: Path, config: ColdConfig, encoding: Encoding, listed: Mapping[str, Any]) -> Lender:
    lists, facts = folder / COLD[0], folder / COLD[1]
    for name in COLD:
        if name not in listed:
            raise ArtefactError(f"{folder / 'manifest.json'}: does not list {name}, which every {KIND} that lends has.")
    try:
        return lender_from(config, map_batch(lists), json.loads(facts.read_text(encoding="utf-8")), encoding)
    except ArtefactError as fault:
        raise ArtefactError(f"{lists}: {fault}") from fault


def _columns(catalogue: Catalogue) -> dict[str, pa.Array]:
    """The catalogue as columns; row 0, UNKNOWN, has no id."""
    columns = {
        "id": pa.concat_arrays([pa.array([None], pa.string()), catalogue.items.values]),
        "title": pa.array(catalogue.title, pa.string()),
        "known": pa.array(catalogue.known),
        "count": pa.array(catalogue.count),
    }
    matrices: dict[str, Any] = {"code": catalogue.code, "length": catalogue.length, "number": catalogue.number}
    matrices |= {} if catalogue.slot is None else {"slot": catalogue.slot}
    for name, matrix in matrices.items():
        columns |= {f"{name}.{place}": pa.array(matrix[:, place]) for place in range(matrix.shape[1])}
    for place, values in enumerate(catalogue.many):
        columns[f"many.{place}"] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    for place, vectors in enumerate(catalogue.vector):
        columns[f"vector.{place}"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return columns


def _catalogue(stored: pa.RecordBatch, tail: int | None) -> Catalogue:
    def matrix(name: str, dtype: Any) -> Any:
        columns = [stored.column(column).to_numpy() for column in stored.schema.names if column.startswith(f"{name}.")]
        return np.stack(columns, axis=1) if columns else np.zeros((stored.num_rows, 0), dtype)

    made = Catalogue(
        items=Vocabulary(stored.column("id")[1:]),
        title=tuple(stored.column("title").to_pylist()),
        known=stored.column("known").to_numpy(zero_copy_only=False),
        count=stored.column("count").to_numpy().copy(),
        code=matrix("code", np.int64),
        many=tuple(_lists(stored.column(name)) for name in stored.schema.names if name.startswith("many.")),
        length=matrix("length", np.int64),
        number=matrix("number", np.float32),
        vector=tuple(_lists(stored.column(name)) for name in stored.schema.names if name.startswith("vector.")),
        slot=None if tail is None else matrix("slot", np.int64),
        tail=tail or 0,
    )
    _refuse_other_slots(made)
    return made


def _refuse_other_slots(catalogue: Catalogue) -> None:
    """Raises ValueError where items would look up rows of tables of ids that are not theirs, or not there."""
    slot, tail = catalogue.slot, catalogue.tail
    if slot is None:
        return
    if slot.shape == (catalogue.size, 2) and ((slot >= 0) & (slot <= np.array([tail, catalogue.ids - 1]))).all():
        mine = slot[catalogue.own, 1]
        if len(np.unique(mine)) == len(mine):
            return
    raise ValueError("its slots are not of its tables")


def _lists(column: pa.FixedSizeListArray) -> Any:
    return column.flatten().to_numpy().reshape(len(column), -1).copy()
