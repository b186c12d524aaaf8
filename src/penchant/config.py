"""Strict reading of a file, a dict or flags into frozen configurations.

Whatever the source, an unknown key, a wrong type or a value out of range fails, and all faults are reported at once
with their full path:

    config din.toml: model.hiden is not a key of DINConfig. Did you mean 'hidden'?
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from penchant.errors import ConfigError, nearest


class Config(BaseModel):
    """A frozen, keyword-only configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


C = TypeVar("C", bound=Config)


def read(
    kind: type[C],
    source: Mapping[str, Any] | Path | str,
    flags: Mapping[str, Any] | None = None,
    *,
    where: str | None = None,
    error: type[ConfigError] = ConfigError,
) -> C:
    """A `kind` from a TOML file or a mapping, with dotted `flags` laid over it.

    flags: {"train.epochs": 3, "model.head": [64, 32]}; each overrides one key.
    where: how messages name the source; by default the file.
    Raises `error` (ConfigError) for anything unknown, missing, ill-typed or out of range, all at once.
    """
    if isinstance(source, Mapping):
        values, where = _copy(source), where or kind.__name__
    else:
        path = Path(source)
        values, where = _toml(path, error), where or f"config {path.name}"
    for key, value in sorted((flags or {}).items(), key=lambda flag: flag[0].count(".")):  # a table before its keys, however they came
        first, _, rest = key.partition(".")
        if rest and isinstance(values.get(first), str) and _is_table(kind, first):
            values[first] = {"name": values[first]}  # a table that its name stood for, and now gets a key of its own
        _put(values, key.split("."), value, where, error)
    return validate(kind, values, where=where, error=error)


def validate(kind: type[C], values: Mapping[str, Any], *, where: str, under: str = "", error: type[ConfigError] = ConfigError) -> C:
    """`values` as a `kind`; `under` is the path of these values in the whole, for messages."""
    try:
        return kind.model_validate(_tuples(values))
    except ValidationError as fault:
        lines = [_say(kind, detail, where, under) for detail in fault.errors()]
        raise error("\n".join(dict.fromkeys(lines))) from None


def dump(config: Config) -> str:
    """The configuration as TOML. What is None is absent."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def parse_flags(words: Sequence[str]) -> dict[str, Any]:
    """["--train.epochs", "3", "--model.name=din"] -> {"train.epochs": 3, "model.name": "din"}; values are read as TOML, else as text."""
    flags: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ConfigError(f"{word!r} is not a flag: write --key.of.config VALUE.")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{key} has no value: write --{key} VALUE.")
            value = rest.pop(0)
        flags[key] = _value(value)
    return flags


def find_own(name: str, *, said: str, what: str, like: str) -> Callable[..., Any]:
    """What somebody wrote and "module:name" names, found on Python's path.

    said: how messages begin; what: "function" or "class"; like: an example of such a name. Raises ConfigError.
    """
    module, _, word = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), word)) or module.endswith(".py"):
        raise ConfigError(f"{said}; 'module:{what}' was wanted, such as {like!r}.")
    try:
        home = import_module(module)
    except ImportError as fault:
        if isinstance(fault, ModuleNotFoundError) and fault.name and f"{module}.".startswith(f"{fault.name}."):
            raise ConfigError(f"{said}, but there is no module {fault.name!r} on Python's path; PYTHONPATH can name its folder.") from None
        raise ConfigError(f"{said}, but {module!r} cannot be imported: {fault}.") from fault
    except Exception as fault:
        raise ConfigError(f"{said}, but {module!r} cannot be imported: {type(fault).__name__}: {fault}.") from fault
    found: Callable[..., Any] | None = getattr(home, word, None)
    if found is None or not callable(found):
        near = nearest(word, (n for n, v in vars(home).items() if callable(v)))
        raise ConfigError(f"{said}, but {module!r} has no {what} {word!r}.{near}")
    return found


def _value(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return values["value"] if len(values) == 1 else text  # a text of several lines may hold further keys


def _toml(path: Path, error: type[ConfigError]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise error(f"{path}: this is a folder; a TOML file was wanted.") from None
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}).") from None
    except UnicodeDecodeError as fault:
        raise error(f"{path}: not UTF-8 text ({fault.reason} at byte {fault.start}); a TOML file was wanted.") from None
    except tomllib.TOMLDecodeError as fault:
        raise error(f"{path}: not TOML: {fault}.") from None


def _put(values: dict[str, Any], keys: list[str], value: Any, where: str, error: type[ConfigError]) -> None:
    for depth, key in enumerate(keys[:-1]):
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise error(f"{where}: {'.'.join(keys[: depth + 1])} is a value, so {'.'.join(keys)} cannot be set under it.")
    values[keys[-1]] = value


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _tuples(value: Any) -> Any:
    """TOML and JSON have lists where configurations, being frozen, have tuples."""
    if isinstance(value, Mapping):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _say(kind: type[Config], detail: ErrorDetails, where: str, under: str) -> str:
    location = [str(part) for part in detail["loc"]]
    path = ".".join([under, *location] if under else location)
    owner = _owner(kind, location[:-1])
    if detail["type"] == "extra_forbidden":
        keys = list(owner.model_fields) if owner else []
        name = owner.__name__ if owner else kind.__name__
        return f"{where}: {path} is not a key of {name}.{nearest(location[-1], keys) or ' It has ' + ', '.join(keys) + '.'}"
    if detail["type"] == "missing":
        return f"{where}: {path} is missing, and has no default."
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not location:
        return f"{where}: {message}"
    return f"{where}: {path} is {detail['input']!r}; {message}."


def _owner(kind: type[Config], location: Sequence[str]) -> type[Config] | None:
    """The configuration class that a path leads to, through mappings and optional fields."""
    here: Any = kind
    for part in location:
        if isinstance(here, type) and issubclass(here, Config):
            field = here.model_fields.get(part)
            here = _unwrap(field.annotation) if field else None
        elif get_origin(here) is dict:
            here = _unwrap(get_args(here)[1])
    return here if isinstance(here, type) and issubclass(here, Config) else None


def _is_table(kind: type[Config], key: str) -> bool:
    """Whether a key of a configuration is a table of whatever keys."""
    field = kind.model_fields.get(key)
    return field is not None and get_origin(_unwrap(field.annotation)) is dict


def _unwrap(annotation: Any) -> Any:
    """X of X | None."""
    rest = [argument for argument in get_args(annotation) if argument is not type(None)]
    return rest[0] if get_origin(annotation) in (Union, UnionType) and len(rest) == 1 else annotation
