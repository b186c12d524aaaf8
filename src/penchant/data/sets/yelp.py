"""The Yelp open dataset, as Yelp publishes it: who reviewed which business, when, with how many stars.

Reviews and businesses stay as they are. Every review is a positive. What Yelp counts over all time tells of reviews that
were yet to be written, so it is no field here: a business's stars, review_count and is_open, a person's votes, fans and
elite years. Of a person, the year of joining remains.
"""

from __future__ import annotations

from pathlib import Path

from penchant.data.sets.public import Form, Found, Laid, Page, PublicSet, RawFile
from penchant.data.sets.tables import copy, link, scan, scanning
from penchant.schema import Events, Field, Items, Schema, Time, Users

REVIEW, BUSINESS, USER = (f"yelp_academic_dataset_{name}.json" for name in ("review", "business", "user"))

SCHEMA = Schema(
    name="yelp",
    events=Events(
        file=REVIEW,
        format="jsonl",
        user="user_id",
        item="business_id",
        time=Time(column="date", unit="iso"),
        action={"stars": Field()},
    ),
    items=Items(
        file=BUSINESS,
        format="jsonl",
        key="business_id",
        title="name",
        fields={"categories": Field(kind="categories", separator=","), "city": Field(), "state": Field()},
    ),
    users=Users(file="users.csv", key="user_id", fields={"since": Field(kind="number")}),
)


def _lay(found: Found, folder: Path) -> Laid:
    link(found.path(REVIEW), folder)
    link(found.path(BUSINESS), folder)
    user = found.path(USER)
    with scanning(folder, USER) as connection:
        people = scan(Users(file=USER, format="jsonl"), user.parent, ["user_id", "yelping_since"])
        copy(connection, f"SELECT user_id, left(yelping_since, 4) AS since FROM {people}", folder / "users.csv")
    return Laid(schema=SCHEMA)


YELP = PublicSet(
    name="yelp",
    about="Reviews of businesses with their categories and places, from 2004 on; every review is a positive.",
    licence="Yelp Dataset Terms of Use: academic research and teaching; no redistribution, no commercial use.",
    place="https://www.yelp.com/dataset",
    forms=(
        Form(
            files=(RawFile(name=REVIEW), RawFile(name=BUSINESS), RawFile(name=USER)),
            place=Page(url="https://www.yelp.com/dataset", asks="your name and consent to its terms"),
            lay=_lay,
        ),
    ),
)
