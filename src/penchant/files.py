"""Folders that are written whole or not at all, with a manifest that says what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penchant.errors import ArtefactError, DiskError, ExistsError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG)
BLOCK = 1 << 20
CLEAN = "; nothing half-written was kept"
PART = ".part"


@contextmanager
def whole(folder: Path, *, what: str) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and vanishes when it does not.

    Raises ExistsError where `folder` is there already, DiskError where there is no room or no right to write.
    """
    if folder.exists():
        raise ExistsError(f"{folder}: this exists already; remove it, or write the {what} to another folder.")
    with disk_errors(folder, what=what, then=CLEAN):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PART, dir=folder.parent))
    try:
        with disk_errors(folder, what=what, then=CLEAN):
            yield draft
            for path in draft.rglob("*"):
                _flush(path)
            _flush(draft)
            draft.chmod(0o755)
            draft.rename(folder)
            _flush(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what a kill in the middle of `whole(folder)` has left. No other process may be writing it."""
    for draft in folder.parent.glob(f".{folder.name}.*{PART}"):
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def disk_errors(path: Path, *, what: str, then: str = "") -> Iterator[None]:
    """Inside, an operating system's refusal to write becomes a DiskError that says what was to be written where.

    then: what becomes of what was written before, for the message.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno in NO_ROOM:
            raise DiskError(f"{path}: no room to write the {what} ({_reason(fault)}){then}.") from fault
        if fault.errno in NO_RIGHT:
            raise DiskError(f"{path}: no right to write the {what} here ({_reason(fault)}).") from fault
        if fault.errno in NO_PLACE:
            raise DiskError(f"{path}: the {what} cannot be written here ({_reason(fault)}).") from fault
        raise


def write_new(path: Path, content: str, *, what: str) -> None:
    """A new text file. Raises ExistsError, DiskError."""
    if path.exists():
        raise ExistsError(f"{path}: this exists already; remove it, or write the {what} to another file.")
    with disk_errors(path, what=what):
        path.write_text(content, encoding="utf-8")


def write_text(path: Path, content: str, *, what: str) -> None:
    """A text file, in place of the one that is there: whole or, after a kill, as it was. Raises DiskError."""
    draft = path.with_name(f".{path.name}{PART}")
    try:
        with disk_errors(path, what=what):
            draft.write_text(content, encoding="utf-8")
            _flush(draft)
            draft.replace(path)
            _flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """manifest.json: `facts`, and the size and SHA-256 of every other file in `folder`."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps({**facts, "files": files}, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path, *, kind: str, version: int, files: Iterable[str] = ()) -> Mapping[str, Any]:
    """The manifest of a folder of this kind and version, every file of it checked, `files` among them. Raises ArtefactError."""
    path = folder / "manifest.json"
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{folder}: this is not a {kind}: it has no manifest.json.") from None
    except (ValueError, OSError) as fault:
        raise ArtefactError(f"{path}: cannot be read as the manifest of a {kind} ({fault}).") from None
    if not isinstance(manifest, dict):
        raise ArtefactError(f"{path}: cannot be read as the manifest of a {kind} (it holds no object).")
    if manifest.get("kind") != kind:
        raise ArtefactError(f"{folder}: this is a {manifest.get('kind')}; a {kind} was wanted.")
    if manifest.get("version") != version:
        raise ArtefactError(f"{folder}: this {kind} has version {manifest.get('version')}; this penchant reads version {version}.")
    try:
        listed = {name: (int(facts["bytes"]), str(facts["sha256"])) for name, facts in manifest["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ArtefactError(f"{path}: cannot be read as the manifest of a {kind} (it does not list its files).") from None
    for name in files:
        if name not in listed:
            raise ArtefactError(f"{path}: does not list {name}, which every {kind} has.")
    for name, (size, digest) in listed.items():
        _check(folder / name, size, digest, kind)
    return manifest


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check(path: Path, size: int, digest: str, kind: str) -> None:
    if not path.is_file():
        raise ArtefactError(f"{path}: this file of the {kind} is missing.")
    there = path.stat().st_size
    if there != size:
        raise ArtefactError(f"{path}: this file of the {kind} has {there} bytes; {size} were written. It was truncated or altered.")
    if sha256(path) != digest:
        raise ArtefactError(f"{path}: this file of the {kind} is not what was written: its checksum differs.")


def _reason(fault: OSError) -> str:
    return os.strerror(fault.errno or 0)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
