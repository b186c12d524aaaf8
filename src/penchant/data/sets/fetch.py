"""The places that a public set is had from, and the checksums that say it is the right one.

    folder of PENCHANT_DATA ──┐
    official archive ─────────┼─▶ first that answers ─ checksums ─▶ Found (contents, by file name)
    wheel of a registry ──────┘

Nothing is unpacked, installed or imported: archives and wheels are read as zip files, in memory. An altered file in
the folder of PENCHANT_DATA stops the search, since that folder was chosen on purpose; every other failure is
collected, and said when no place is left.
"""

from __future__ import annotations

import http.client
import io
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import new as digest
from pathlib import Path
from typing import Literal

from penchant.errors import DataError, FetchError

VARIABLE = "PENCHANT_DATA"
SILENCE_SECONDS = 30  # how long an official place may say nothing
PIP_SECONDS = 600  # how long pip may take in all


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """A file of the original, as its makers published it."""

    name: str
    sha256: str
    md5: str | None = None  # where the makers, or others, published one

    def check(self, content: bytes, where: str) -> None:
        """Raises DataError when `content` is not this file's."""
        for algorithm, wanted in (("sha256", self.sha256), ("md5", self.md5)):
            if wanted is not None:
                _compare(content, algorithm, wanted, where)


@dataclass(frozen=True, kw_only=True)
class Original:
    """A set as its makers published it: one archive with a folder of files."""

    url: str
    folder: str  # in the archive
    files: tuple[RawFile, ...]


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A package of a registry that carries a set in a form of its own."""

    requirement: str
    sha256: str
    members: Mapping[str, str]  # the name it gets here: the path in the wheel


@dataclass(frozen=True, kw_only=True)
class Found:
    """The raw files of a set, whole and verified."""

    place: str
    form: Literal["original", "wheel"]
    files: Mapping[str, bytes]
    sha256: Mapping[str, str]  # of what was verified: the raw files, or the wheel


def find(name: str, original: Original, wheel: Wheel) -> Found:
    """The set `name` from the first of its places that has it.

    Raises DataError for an altered or missing file in the folder of PENCHANT_DATA, FetchError when every place fails.
    """
    places: dict[str, Callable[[], Found]] = {
        VARIABLE: lambda: from_folder(name, original),
        original.url: lambda: from_archive(original),
        f"wheel {wheel.requirement}": lambda: from_wheel(wheel),
    }
    failures = []
    for place, look in places.items():
        try:
            return look()
        except FetchError as failure:
            failures.append(f"  {place}: {failure}")
    names = ", ".join(file.name for file in original.files)
    way_out = f"Set {VARIABLE} to a folder that holds {name}/ with the original {names}."
    raise FetchError("\n".join([f"{name} could not be had from any of its places:", *failures, way_out]))


def from_folder(name: str, original: Original) -> Found:
    """The original files in the folder `name` of the folder that PENCHANT_DATA names."""
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        raise FetchError("this variable is not set.")
    folder = Path(chosen) / name
    if not folder.is_dir():
        raise FetchError(f"there is no folder {folder}.")
    return _found(VARIABLE, original, lambda file: _read(folder / file.name), lambda file: str(folder / file.name))


def from_archive(original: Original) -> Found:
    """The original files out of the archive that their makers offer."""
    try:
        with urllib.request.urlopen(original.url, timeout=SILENCE_SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as fault:
        raise FetchError(_say(fault)) from None
    members = _members(content, {file.name: f"{original.folder}/{file.name}" for file in original.files})
    try:
        return _found(original.url, original, lambda file: members[file.name], lambda file: file.name)
    except DataError as altered:
        raise FetchError(str(altered)) from None


def from_wheel(wheel: Wheel) -> Found:
    """The members of a wheel that pip downloads, alone, into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = _download(wheel, Path(folder))
        name, content = path.name, path.read_bytes()
    try:
        _compare(content, "sha256", wheel.sha256, name)
    except DataError as altered:
        raise FetchError(str(altered)) from None
    files = _members(content, wheel.members)
    return Found(place=f"wheel {wheel.requirement}", form="wheel", files=files, sha256={name: wheel.sha256})


def _found(place: str, original: Original, content: Callable[[RawFile], bytes], where: Callable[[RawFile], str]) -> Found:
    files = {}
    for file in original.files:
        files[file.name] = content(file)
        file.check(files[file.name], where(file))
    return Found(place=place, form="original", files=files, sha256={file.name: file.sha256 for file in original.files})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path}: {_say(fault)} Put the original file there, or unset {VARIABLE} to fetch the set.") from None


def _compare(content: bytes, algorithm: str, wanted: str, where: str) -> None:
    got = digest(algorithm, content, usedforsecurity=False).hexdigest()
    if got != wanted:
        raise DataError(f"{where}: this is not the published file: {algorithm} {wanted} was wanted, {got} came.")


def _members(content: bytes, members: Mapping[str, str]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(member) for name, member in members.items()}
    except KeyError as absent:
        raise FetchError(f"{absent.args[0]}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as fault:
        raise FetchError(f"not a readable zip file: {_say(fault)}") from None


def _download(wheel: Wheel, folder: Path) -> Path:
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise FetchError(f"pip did not finish within {PIP_SECONDS} seconds.") from None
    except OSError as fault:
        raise FetchError(_say(fault)) from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}, and nothing said"])[-1]
        raise FetchError(f"pip could not download it: {last}")
    return wheels[0]


def _say(fault: Exception) -> str:
    """What went wrong, as a sentence, without the machinery's decoration."""
    if isinstance(fault, urllib.error.HTTPError):
        return f"HTTP status {fault.code}, {fault.reason}."
    if isinstance(fault, urllib.error.URLError) and isinstance(fault.reason, Exception):
        return _say(fault.reason)
    reason = getattr(fault, "reason", None) or getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return f"{str(reason).rstrip('.')}."
