"""One artefact: what is saved is what is loaded, and what was touched is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from penchant.bundle import Bundle, load_bundle, save_bundle
from penchant.calibration import Calibration, Identity, Isotonic, Platt, Prior
from penchant.data.load import Loader
from penchant.encoding import Encoding
from penchant.errors import ArtefactError, ExistsError
from penchant.files import write_manifest
from penchant.models import DIN, MODELS, build


@pytest.fixture
def folder(encoding: Encoding, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    own = {"head": (16, 8), "attention": (8,)}
    bundle = Bundle(
        name="din", model=build(encoding, "din", own), encoding=encoding, config=own, item=DIN.Item, past=10, tie="order", facts={"a": 1}
    )
    save_bundle(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", MODELS)
def test_loaded_is_saved(encoding: Encoding, loader: Loader, tmp_path: Path, name: str) -> None:
    model = build(encoding, name, {}).eval()
    save_bundle(Bundle(name=name, model=model, encoding=encoding, config={}, item=MODELS[name].Item, past=10, tie="strict"), tmp_path / "b")
    loaded = load_bundle(tmp_path / "b")
    batch = loader.batch(loader.position[:32], 0)
    with torch.inference_mode():
        assert torch.equal(loaded.model(batch).logit, model(batch).logit)
    assert (loaded.past, loaded.tie, loaded.name) == (10, "strict", name)
    assert len(loaded.version) == 8


def test_the_encoding_survives(encoding: Encoding, folder: Path) -> None:
    back = load_bundle(folder).encoding
    assert back.schema == encoding.schema
    assert back.scales == encoding.scales
    assert back.users.values.equals(encoding.users.values)
    assert {name: v.values.to_pylist() for name, v in back.vocabularies.items()} == {
        n: v.values.to_pylist() for n, v in encoding.vocabularies.items()
    }
    ours, theirs = encoding.catalogue, back.catalogue
    assert theirs.items.values.equals(ours.items.values)
    assert theirs.title == ours.title
    for name in ("known", "count", "code", "length", "number"):
        value = getattr(theirs, name)
        np.testing.assert_array_equal(value, getattr(ours, name))
        assert value.dtype == getattr(ours, name).dtype
    assert all(np.array_equal(a, b) for a, b in zip(theirs.many, ours.many, strict=True))


def test_the_same_bundle_is_the_same_bytes(encoding: Encoding, folder: Path, tmp_path: Path) -> None:
    save_bundle(load_bundle(folder), tmp_path / "again")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()}


def test_nothing_in_it_can_be_executed(folder: Path) -> None:
    assert {path.suffix for path in folder.iterdir()} == {".toml", ".arrow", ".json", ".safetensors"}


def test_existing(encoding: Encoding, folder: Path) -> None:
    with pytest.raises(ExistsError) as fault:
        save_bundle(load_bundle(folder), folder)
    assert str(fault.value) == f"{folder}: this exists already; remove it, or write the bundle to another folder."


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "catalogue.arrow", "vocabularies.arrow", "bundle.toml", "scales.json", "calibration.json", "facts.json"]
)
def test_touched(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ArtefactError) as short:
        load_bundle(folder)
    wanted = (
        f"{path}: this file of the penchant bundle has {len(content) - 1} bytes; {len(content)} were written. It was truncated or altered."
    )
    assert str(short.value) == wanted
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtefactError) as altered:
        load_bundle(folder)
    assert str(altered.value) == f"{path}: this file of the penchant bundle is not what was written: its checksum differs."
    path.unlink()
    with pytest.raises(ArtefactError) as gone:
        load_bundle(folder)
    assert str(gone.value) == f"{path}: this file of the penchant bundle is missing."


def test_a_forged_manifest_does_not_get_nonsense_in(folder: Path) -> None:
    """Checksums that fit are no proof of sense: whatever is wrong inside is an ArtefactError, and never runs."""
    facts = {key: value for key, value in json.loads((folder / "manifest.json").read_text()).items() if key != "files"}
    (folder / "weights.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    (folder / "manifest.json").unlink()
    write_manifest(folder, facts)
    with pytest.raises(ArtefactError, match=f"^{folder}: this bundle cannot be loaded: "):
        load_bundle(folder)


@pytest.mark.parametrize(
    "calibration",
    [None, Identity(), Prior(-3.25), Platt(0.1, 1 / 3), Isotonic(np.array([-1.0, 0.1]), np.array([0.1, 1 / 3]))],
    ids=lambda c: type(c).__name__,
)
def test_a_calibration_is_saved_bit_for_bit(folder: Path, tmp_path: Path, calibration: Calibration | None) -> None:
    save_bundle(replace(load_bundle(folder), calibration=calibration), tmp_path / "calibrated")
    back = load_bundle(tmp_path / "calibrated").calibration
    assert type(back) is type(calibration)
    if back and calibration:
        assert back.as_dict() == calibration.as_dict()
        logit = np.linspace(-9, 9, 50)
        assert np.array_equal(back.probability(logit), calibration.probability(logit))


def test_a_bundle_of_before(folder: Path) -> None:
    """Version 2 says nothing of calibration."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(ArtefactError) as fault:
        load_bundle(folder)
    assert str(fault.value) == f"{folder}: this penchant bundle has version 2; this penchant reads version 3."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "plat"}', "{file}: calibration: kind is 'plat': wanted one of identity, prior, platt, isotonic. Did you mean 'platt'?"),
        ('{"kind": "platt", "a": -1, "b": 0}', "{file}: calibration: a is -1.0: wanted a finite number above 0."),
        ("[]", "{folder}: this bundle cannot be loaded: 'list' object has no attribute 'get'"),
    ],
)
def test_a_calibration_that_is_none(folder: Path, text: str, message: str) -> None:
    facts = {key: value for key, value in json.loads((folder / "manifest.json").read_text()).items() if key != "files"}
    (folder / "calibration.json").write_text(text)
    (folder / "manifest.json").unlink()
    write_manifest(folder, facts)
    with pytest.raises(ArtefactError) as fault:
        load_bundle(folder)
    assert str(fault.value) == message.format(file=folder / "calibration.json", folder=folder)


def test_other_weights(folder: Path, encoding: Encoding) -> None:
    text = (folder / "bundle.toml").read_text()
    facts = {key: value for key, value in json.loads((folder / "manifest.json").read_text()).items() if key != "files"}
    (folder / "bundle.toml").write_text(text.replace("16,", "12,"))
    (folder / "manifest.json").unlink()
    write_manifest(folder, facts)
    with pytest.raises(ArtefactError, match=f"^{folder}: this bundle cannot be loaded: (.|\n)*head.request.weight"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["scales.json", "calibration.json"])
def test_a_manifest_that_leaves_a_file_out(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError) as fault:
        load_bundle(folder)
    assert str(fault.value) == f"{folder / 'manifest.json'}: does not list {name}, which every penchant bundle has."


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as fault:
        load_bundle(tmp_path / "nothing")
    assert str(fault.value) == f"{tmp_path / 'nothing'}: this is not a penchant bundle: it has no manifest.json."
