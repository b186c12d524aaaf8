"""Every error that penchant raises.

    PenchantError
    ├── ConfigError        ValueError     a key, a value or a flag that cannot be honoured
    │   └── SchemaError                   a schema that contradicts itself or its files
    ├── DataError          ValueError     rows that cannot be read, or none left to use
    ├── ExistsError        ValueError     a folder that would be overwritten
    ├── UnknownNameError   KeyError       a name that no table here holds
    ├── ArtefactError      RuntimeError   a Log, a checkpoint or a bundle that is not whole, or not of this version
    ├── FetchError         RuntimeError   a public data set that could not be had from any of its places
    ├── DiskError          RuntimeError   no room, or no right, to write
    └── TrainingError      RuntimeError   a run that cannot go on

A message says where, what came, what was wanted, and the nearest good choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PenchantError(Exception):
    """The one class to catch."""


class ConfigError(PenchantError, ValueError):
    """A key, a value or a flag that cannot be honoured."""


class SchemaError(ConfigError):
    """A schema that contradicts itself or the files that it speaks of."""


class DataError(PenchantError, ValueError):
    """Rows that cannot be read, or none left to use."""


class ExistsError(PenchantError, ValueError):
    """A folder or file that would be overwritten."""


class UnknownNameError(PenchantError, KeyError):
    """A name that no table here holds."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0]) if self.args else ""


class ArtefactError(PenchantError, RuntimeError):
    """A Log, a checkpoint or a bundle that is truncated, altered, or of another version."""


class FetchError(PenchantError, RuntimeError):
    """A public data set that could not be had from any of its places."""


class DiskError(PenchantError, RuntimeError):
    """No room, or no right, to write where something was to be written."""


class TrainingError(PenchantError, RuntimeError):
    """A run that cannot go on, such as one whose loss is no longer a number."""


def nearest(name: str, names: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest of `names`, or nothing when none is near."""
    near = get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown_name(what: str, name: str, names: Iterable[str]) -> UnknownNameError:
    """An error for `name` that says what there is and which one is nearest."""
    names, article = list(names), "an" if what[0] in "aeiou" else "a"
    return UnknownNameError(f"{name!r} is not {article} {what}: there are {', '.join(names)}.{nearest(name, names)}")
