"""Folders that are written whole or not at all, and the manifests that say what they hold."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any

import pytest

from penchant.errors import ArtefactError, DiskError, ExistsError
from penchant.files import disk_errors, read_manifest, sha256, whole, write_manifest


@pytest.fixture
def open_place(tmp_path: Path) -> Iterator[Path]:
    """A folder that anybody can get to, and nobody but its owner can write to."""
    place = Path(f"/tmp/penchant-files-{os.getpid()}")
    place.mkdir()
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def somebody() -> Iterator[None]:
    """Inside, root is somebody who may write nowhere of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_block_that_ends_well_leaves_the_folder_alone(tmp_path: Path) -> None:
    with whole(tmp_path / "a" / "out", what="thing") as draft:
        (draft / "one").write_text("1")
        assert not (tmp_path / "a" / "out").exists()
        assert draft.parent == tmp_path / "a"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    assert (tmp_path / "a" / "out" / "one").read_text() == "1"
    assert (tmp_path / "a" / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("fault", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.EIO, "x")])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    def write() -> None:
        with whole(tmp_path / "out", what="thing") as draft:
            (draft / "one").write_text("1")
            raise fault

    with pytest.raises(type(fault)):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    def write() -> None:
        with whole(tmp_path / "out", what="Log"):
            pytest.fail("the block was entered")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(ExistsError) as caught:
        write()
    assert str(caught.value) == f"{tmp_path / 'out'}: this exists already; remove it, or write the Log to another folder."
    assert (tmp_path / "out" / "mine").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room(tmp_path: Path, number: int) -> None:
    def write() -> None:
        with whole(tmp_path / "out", what="Log") as draft:
            (draft / "one").write_text("1")
            raise OSError(number, "x")

    with pytest.raises(DiskError) as caught:
        write()
    reason = os.strerror(number)
    assert str(caught.value) == f"{tmp_path / 'out'}: no room to write the Log ({reason}); nothing half-written was kept."
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from pathlib import Path
from penchant.errors import DiskError
from penchant.files import whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with whole(Path(sys.argv[1]), what="Log") as draft:
        (draft / "small").write_bytes(b"x" * 900)
        (draft / "large").write_bytes(b"x" * 2000)
except DiskError as fault:
    print(fault, end="")
"""


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "out")], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'out'}: no room to write the Log (File too large); nothing half-written was kept."
    assert list(tmp_path.iterdir()) == []


def test_no_right_to_write(open_place: Path, somebody: None) -> None:
    def write() -> None:
        with whole(open_place / "out", what="bundle"):
            pytest.fail("the block was entered")

    with pytest.raises(DiskError) as caught:
        write()
    assert str(caught.value) == f"{open_place / 'out'}: no right to write the bundle here (Permission denied)."


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        with whole(folder, what="Log"):
            pytest.fail("the block was entered")

    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError) as caught:
        write(tmp_path / "file" / "sub" / "out")
    assert str(caught.value) == f"{tmp_path / 'file' / 'sub' / 'out'}: the Log cannot be written here (Not a directory)."
    with pytest.raises(DiskError) as caught:
        write(tmp_path / "file" / "out")
    assert str(caught.value) == f"{tmp_path / 'file' / 'out'}: the Log cannot be written here (File exists)."


def test_somebody_else_was_quicker(tmp_path: Path) -> None:
    def write() -> None:
        with whole(tmp_path / "out", what="Log"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_text("kept")

    with pytest.raises(DiskError) as caught:
        write()
    assert str(caught.value) == f"{tmp_path / 'out'}: the Log cannot be written here (Directory not empty)."
    assert (tmp_path / "out" / "theirs").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_faults_pass_through_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^\[Errno 5\] x$"), disk_errors(tmp_path, what="Log"):
        raise OSError(errno.EIO, "x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    (made / "a.bin").write_bytes(bytes(range(256)) * 5000)  # more than one block of the checksum
    (made / "b.txt").write_text("b")
    write_manifest(made, {"kind": "thing", "version": 3, "name": "x"})
    return made


def refused(folder: Path, *, kind: str = "thing", version: int = 3) -> str:
    with pytest.raises(ArtefactError) as caught:
        read_manifest(folder, kind=kind, version=version)
    return str(caught.value)


def test_manifest_says_what_is_there(folder: Path) -> None:
    manifest = read_manifest(folder, kind="thing", version=3)
    assert list(manifest) == ["kind", "version", "name", "files"]
    assert list(manifest["files"]) == ["a.bin", "b.txt"]
    assert manifest["files"]["b.txt"] == {"bytes": 1, "sha256": digest_of(b"b").hexdigest()}
    assert sha256(folder / "a.bin") == digest_of(bytes(range(256)) * 5000).hexdigest()


def test_truncated_file(folder: Path) -> None:
    os.truncate(folder / "a.bin", 1000)
    assert refused(folder) == (
        f"{folder / 'a.bin'}: this file of the thing has 1000 bytes; 1280000 were written. It was truncated or altered."
    )


def test_altered_file(folder: Path) -> None:
    with (folder / "a.bin").open("r+b") as file:
        file.seek(1_100_000)  # in the second block
        file.write(b"\x00\x00")
    assert refused(folder) == f"{folder / 'a.bin'}: this file of the thing is not what was written: its checksum differs."


def test_missing_file(folder: Path) -> None:
    (folder / "b.txt").unlink()
    assert refused(folder) == f"{folder / 'b.txt'}: this file of the thing is missing."


def test_other_kind_and_version(folder: Path) -> None:
    assert refused(folder, kind="penchant log") == f"{folder}: this is a thing; a penchant log was wanted."
    assert refused(folder, version=4) == f"{folder}: this thing has version 3; this penchant reads version 4."


def test_no_manifest(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"{tmp_path}: this is not a thing: it has no manifest.json."
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: this is not a thing: it has no manifest.json."


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"kind": ', "Expecting value: line 1 column 10 (char 9)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[1]", "it holds no object"),
        (b'{"kind": "thing", "version": 3}', "it does not list its files"),
        (b'{"kind": "thing", "version": 3, "files": ["a"]}', "it does not list its files"),
        (b'{"kind": "thing", "version": 3, "files": {"b.txt": {"bytes": 1}}}', "it does not list its files"),
    ],
)
def test_broken_manifest(folder: Path, content: bytes, why: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert refused(folder) == f"{folder / 'manifest.json'}: cannot be read as the manifest of a thing ({why})."


def test_manifest_is_plain_json(folder: Path) -> None:
    held: Any = json.loads((folder / "manifest.json").read_text())
    assert held["name"] == "x"
