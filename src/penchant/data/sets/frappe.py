"""Frappe (Baltrunas et al., 2015, arXiv 1505.03014): which app somebody used, how often, and in what context.

The log stays as it is. Nothing says when anything happened, so the order of the rows is all that is known, and `weekday`, which
is a word here and not derived from a time, is the context field `day`. Every row is a positive; `cnt`, how often the app
was used, is known afterwards only. Prices and ratings of the apps are texts such as "$1.99", "Free" and "unknown". They
become numbers, and are absent where they are unknown; so are the prices of six apps in other money than dollars.
"""

from __future__ import annotations

from pathlib import Path

from penchant.data.sets.public import Counts, Form, Found, Laid, Page, PublicSet, RawFile
from penchant.data.sets.tables import columns_of, link, write_csv
from penchant.schema import Events, Field, Items, Schema, Time

COLUMNS = ("item", "name", "category", "price", "rating", "downloads", "language", "developer")
SCHEMA = Schema(
    name="frappe",
    events=Events(
        file="frappe.csv",
        separator="\t",
        user="user",
        item="item",
        time=Time(unit="rows"),
        action={"cnt": Field(kind="number")},
        context={
            "daytime": Field(),
            "day": Field(column="weekday"),
            **{name: Field() for name in ("isweekend", "homework", "cost", "weather", "country", "city")},
        },
    ),
    items=Items(
        file="items.csv",
        key="item",
        title="name",
        fields={name: Field(kind="number") if name in ("price", "rating") else Field() for name in COLUMNS[2:]},
    ),
)


def _lay(found: Found, folder: Path) -> Laid:
    link(found.path("frappe.csv"), folder)
    apps = columns_of(found.path("meta.csv"), COLUMNS, "\t")
    write_csv(folder / "items.csv", COLUMNS, ((*app[:3], _price(app[3]), "" if app[4] == "unknown" else app[4], *app[5:]) for app in apps))
    return Laid(schema=SCHEMA)


def _price(text: str) -> str:
    return "0" if text == "Free" else text[1:] if text.startswith("$") else ""


FRAPPE = PublicSet(
    name="frappe",
    about="Uses of mobile apps with time of day, weather, place and more, in no order of time; every row is a positive.",
    counts=Counts(events=96_203, items=4_082, seen_items=4_082, active_users=957, categories=32),
    licence="Research use with acknowledgement; no redistribution, no commercial use without permission, no deanonymising.",
    place="https://www.baltrunas.info/context-aware/frappe",
    forms=(
        Form(
            files=(
                RawFile(name="frappe.csv", sha256="409edc12f4e2153c5dd58ae171938735911d9b0f70961d5f1086b241656b2cb5"),
                RawFile(name="meta.csv", sha256="de87f6b2e7cd0428f9179167e2e7826b5dd3bf490d5af680261b685763ac214f"),
            ),
            place=Page(url="https://www.baltrunas.info/context-aware/frappe", asks="consent to its terms"),
            lay=_lay,
        ),
    ),
)
