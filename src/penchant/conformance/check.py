"""The laws, asked of one model: a name in MODELS, "module:Class", a class, or a function that builds one.

    checked = check_model("my_models:Mine", {"head": [16, 8]})
    checked.holds, [result.words for result in checked.results if result.outcome == "failed"]

A fault in somebody's own code breaks the law that met it, and the other laws are asked all the same.
"""

from __future__ import annotations

import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import penchant
from penchant.config import Config, find_own, validate
from penchant.conformance.laws import LAWS, Broken, NotApplicable, Subject
from penchant.conformance.world import made_world
from penchant.encoding import Encoding
from penchant.errors import ConfigError, unknown_name
from penchant.models import apart, around, find
from penchant.nn.item import ItemConfig, item_encoder

Outcome = Literal["ok", "failed", "not applicable"]
FIRST = "contract"  # what all other laws stand on
HERE, PENCHANT, TORCH = Path(__file__).parent, Path(penchant.__file__).parent, Path(torch.__file__).parent
LIBRARY, INSTALLED = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))


class CheckConfig(Config):
    """What is checked of a model, beside its name."""

    model: dict[str, Any] = {}  # the model's own keys
    item: ItemConfig | None = None  # the item encoder that it is given; what is not set here is what the model asks for
    auxiliary: dict[str, Any] = {}  # the keys of the auxiliary network that it is wrapped in, where its name says one
    long: dict[str, Any] = {}  # and of what shortens its past


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one law."""

    law: str
    says: str  # what must hold, and what it is to a user when it does not
    outcome: Outcome
    words: str  # what is broken, or why the law says nothing of this model; empty when it holds
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What became of all laws that were asked."""

    model: str
    results: tuple[Result, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no law is broken."""
        return not any(result.outcome == "failed" for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        return {"model": self.model, "holds": self.holds, "seconds": round(self.seconds, 3), "results": [asdict(r) for r in self.results]}


def check_model(
    model: str | type[nn.Module] | Callable[[Encoding], nn.Module],
    config: Mapping[str, Any] | None = None,
    *,
    item: ItemConfig | None = None,
    auxiliary: Mapping[str, Any] | None = None,
    long: Mapping[str, Any] | None = None,
    laws: Iterable[str] | None = None,
    without_gradient: Mapping[str, str] | None = None,
    report: Callable[[str], None] | None = None,
) -> Checked:
    """Asks the laws of a model, on a made world in a temporary folder.

    model: a name in MODELS, "module:Class", a class built as Class(encoding, item, config), or a function of an Encoding. "din+eta+iacn"
    or "module:Class+eta+iacn" is the model with a past shortened by eta, wrapped in the auxiliary network iacn.
    config: the model's own keys; item: its item encoder; auxiliary, long: the keys of what stands around it; all are for classes alone.
    laws: names in LAWS; None: all. without_gradient: parameters that may go without a gradient, and why. report: is told each law's name.
    Raises ConfigError, UnknownNameError for a model, key or law that cannot be found; what is wrong with a model is in the answer.
    """
    begin, names = time.perf_counter(), list(LAWS if laws is None else laws)
    for name in names:
        if name not in LAWS:
            raise unknown_name("law", name, LAWS)
    build, called = _builder(model, config or {}, item, {"long": long or {}, "auxiliary": auxiliary or {}})
    results: list[Result] = []
    with made_world() as loader, torch.random.fork_rng(devices=[]):
        subject = Subject(build=build, loader=loader, without_gradient=without_gradient or {})
        for name in names:
            if report:
                report(name)
            torch.manual_seed(0)
            stands = not results or results[0].law != FIRST or results[0].outcome == "ok"
            results.append(ask(name, subject) if stands else _unasked(name))
    return Checked(model=called, results=tuple(results), seconds=time.perf_counter() - begin)


def ask(name: str, subject: Subject, **case: Any) -> Result:
    """What becomes of one law; case: the law's own arguments, to ask it of a part."""
    begin, words = time.perf_counter(), ""
    outcome: Outcome = "ok"
    try:
        LAWS[name](subject, **case)
    except Broken as broken:
        outcome, words = "failed", f"{broken}."
    except NotApplicable as reason:
        outcome, words = "not applicable", f"{reason}."
    except Exception as fault:
        outcome, words = "failed", _fault(fault)
    return Result(law=name, says=_says(name), outcome=outcome, words=words, seconds=round(time.perf_counter() - begin, 3))


def _unasked(name: str) -> Result:
    return Result(law=name, says=_says(name), outcome="not applicable", words=f"{FIRST!r} is broken, and must hold first.", seconds=0.0)


def _says(name: str) -> str:
    return " ".join((LAWS[name].__doc__ or "").split())


def _fault(fault: Exception) -> str:
    """An exception and where in somebody's own code it came from, in words."""
    frames = traceback.extract_tb(fault.__traceback__)
    theirs = _outside(frames, PENCHANT, TORCH, INSTALLED, LIBRARY)
    known = _outside(frames, HERE, TORCH)  # of a model of ours, or of one that is installed
    said = f"{type(fault).__name__}: {' '.join(str(fault).split()) or 'it says nothing'}"
    if not (theirs or known):
        return f"{said}."
    last = (theirs or known)[-1]
    return f"{said} ({last.filename}, line {last.lineno}, in {last.name})."


def _outside(frames: Iterable[traceback.FrameSummary], *homes: Path) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if not any(Path(frame.filename).is_relative_to(home) for home in homes)]


def _builder(
    model: str | type[nn.Module] | Callable[[Encoding], nn.Module],
    config: Mapping[str, Any],
    item: ItemConfig | None,
    further: Mapping[str, Mapping[str, Any]],
) -> tuple[Callable[[Encoding], nn.Module], str]:
    """A function that builds the model, and what the model is called."""
    names = dict.fromkeys(further, "")
    if isinstance(model, str):
        name, names["long"], names["auxiliary"] = apart(model)
        kind, called = _named(name), model
    elif isinstance(model, type):
        kind, called = model, model.__name__
    else:
        if config or item or any(further.values()):
            raise ConfigError("a function that builds a model was given, so there is nothing that a configuration could be given to.")
        return model, getattr(model, "__name__", type(model).__name__)
    own = _configured(kind, config, called)
    encoder: ItemConfig = getattr(kind, "Item", ItemConfig()) if item is None else item
    for table, keys in further.items():
        if keys and not names[table]:
            without = "is wrapped in nothing" if table == "auxiliary" else "has its past as it is"
            raise ConfigError(f"{called} {without}, so {', '.join(f'{table}.{key}' for key in keys)} cannot be set.")
    auxiliary, long = ({**further[table], "name": names[table]} if names[table] else None for table in ("auxiliary", "long"))
    make: Any = lambda encoding, item: kind(encoding, item, *own)  # noqa: E731  # any module of the contract
    whole = around(make, auxiliary, long, where=called)
    return lambda encoding: whole(encoding, item_encoder(encoding, encoder)), called


def _named(name: str) -> type[nn.Module]:
    """The class of a name in MODELS, or that "module:Class" names."""
    if ":" not in name:
        return find(name)
    found = find_own(name, said=f"the model is {name!r}", what="class", like="my_models:Mine")
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        came = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise ConfigError(f"the model is {name!r}, which is {came}; a class derived from torch.nn.Module was wanted.")
    return found


def _configured(kind: type[nn.Module], config: Mapping[str, Any], called: str) -> tuple[Config, ...]:
    """The configuration as the last argument of the model's class; nothing where the class has no Config."""
    wanted = getattr(kind, "Config", None)
    if wanted is None or wanted is Config:  # the latter is what Model has
        if config:
            raise ConfigError(f"{called} has no Config, so {', '.join(f'model.{key}' for key in config)} cannot be set.")
        return ()
    if not isinstance(wanted, type) or not issubclass(wanted, Config):
        raise ConfigError(f"{called}.Config is {wanted!r}; a class of penchant.config.Config was wanted.")
    return (validate(wanted, config, where=called, under="model"),)
