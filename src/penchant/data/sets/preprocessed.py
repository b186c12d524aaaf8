"""Sets in a form that papers hand on: people, items and attributes are numbers, and nothing says what they stand for.

Beauty and Yelp are those of S3-Rec (Zhou et al., CIKM 2020): five events and more for each person and each item. Their
files were joined from two public copies and lie at no official place.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from penchant.data.sets.public import Counts, Form, Found, Laid, PublicSet, RawFile
from penchant.data.sets.tables import link
from penchant.schema import Events, Field, Items, Schema, Time

EVENTS = Events(file="interactions.csv", user="user_id", item="item_id", time=Time(column="timestamp", unit="s"))
ITEMS = Items(
    file="items.csv",
    key="item_id",
    fields={"attributes": Field(column="attribute_ids", kind="categories", separator=" ", most=20)},  # 20: the most that an item has
)


def _lay(found: Found, folder: Path, *, name: str) -> Laid:
    link(found.path("interactions.csv"), folder)
    link(found.path("items.csv"), folder)
    return Laid(schema=Schema(name=name, events=EVENTS, items=ITEMS))


def form(name: str, *, interactions: str, items: str) -> Form:
    """The form of the set `name`, by the checksums of its files."""
    files = (RawFile(name="interactions.csv", sha256=interactions), RawFile(name="items.csv", sha256=items))
    return Form(files=files, lay=partial(_lay, name=name))


BEAUTY = form(
    "amazon-beauty",
    interactions="513e13b2bcc8fc6c320ad2974db8729f6423984ea9cbc3ed437b50eb77500cd5",
    items="7570ff74a2cea0c13bc871c75eab0e2a3af160ba0702a8c21a468b0995fb0c73",
)
YELP_2019 = PublicSet(
    name="yelp-2019",
    about="Reviews of businesses in 2019, with the numbers of their categories; every review is a positive.",
    counts=Counts(events=316_354, items=20_033, seen_items=20_033, active_users=30_431),
    licence="Yelp Dataset Terms of Use: academic research and teaching; no redistribution, no commercial use.",
    place="no official place: a folder of yours",
    forms=(
        form(
            "yelp-2019",
            interactions="061fd2c10a50e46cb62e63e2c6804b2490aa956f87fad04b619aba722a8e2593",
            items="dee467e62246d3974cbe26685decf7bf8ab1fff6ecb16654801a3aee970a4349",
        ),
    ),
)
