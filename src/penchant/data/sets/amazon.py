"""Amazon reviews of 2014 (He and McAuley, WWW 2016; McAuley et al., SIGIR 2015), one set a category of goods.

The reviews are JSON lines and stay as they are, with their text and in their order: a day is all that is known of a time,
so that the order breaks many ties. Every review is a positive, as in DIN and DIEN; the stars are known once it is written.

The metadata are Python literals, one a line. Of the goods that are reviewed they become items.csv. Goods stand under several
paths of categories, such as [["Electronics", "GPS"], ["Electronics", "Car", "Mounts"]], and papers differ in which counts:

    rule "din"   the last category of the last path, "Mounts"    (Zhou et al., KDD 2018)
    rule "dien"  the last category of the first path, "GPS"      (Zhou et al., AAAI 2019)

Without metadata, which may be missing from a folder of one's own, items have no attributes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from penchant.data.sets import preprocessed
from penchant.data.sets.public import Addresses, Counts, Form, Found, Laid, PublicSet, RawFile
from penchant.data.sets.tables import lines, link, values, write_csv
from penchant.errors import ConfigError, DataError
from penchant.schema import Events, Field, Items, Schema, Time

FAMILY = "amazon-<category>"
BASE = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
LICENCE = "Research use, citing He and McAuley (WWW 2016) or McAuley et al. (SIGIR 2015); the makers state no licence."

CATEGORIES = (
    "Amazon_Instant_Video",
    "Apps_for_Android",
    "Automotive",
    "Baby",
    "Beauty",
    "Books",
    "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories",
    "Clothing_Shoes_and_Jewelry",
    "Digital_Music",
    "Electronics",
    "Grocery_and_Gourmet_Food",
    "Health_and_Personal_Care",
    "Home_and_Kitchen",
    "Kindle_Store",
    "Movies_and_TV",
    "Musical_Instruments",
    "Office_Products",
    "Patio_Lawn_and_Garden",
    "Pet_Supplies",
    "Sports_and_Outdoors",
    "Tools_and_Home_Improvement",
    "Toys_and_Games",
    "Video_Games",
)
COUNTS = {
    "Beauty": Counts(events=198_502, seen_items=12_101, active_users=22_363),
    "Books": Counts(seen_items=367_982, active_users=603_668),
    "Electronics": Counts(events=1_689_188, seen_items=63_001, active_users=192_403, categories=801),
    "Musical_Instruments": Counts(events=10_261, seen_items=900, active_users=1_429),
}
MUSICAL_INSTRUMENTS = RawFile(  # another name for the reviews
    name="Musical_Instruments.json", sha256="8e1aaab451ba61484dfe393f53d11886246bc426c7046b180b62352580f68c1d"
)

Paths = Sequence[Sequence[str]]
RULES: Mapping[str, Callable[[Paths], Sequence[str]]] = {"din": lambda paths: paths[-1], "dien": lambda paths: paths[0]}
DEFAULT_RULE = "din"

ITEM_COLUMNS = ("item_id", "title", "brand", "price", "category")
ITEMS = Items(file="items.csv", key="item_id", title="title", fields={"category": Field(), "brand": Field(), "price": Field(kind="number")})
ASIN = re.compile(r"'asin': '([^']*)'")


def name_of(category: str) -> str:
    """ "Movies_and_TV" -> "amazon-movies-and-tv"."""
    return f"amazon-{category.lower().replace('_', '-')}"


def public(category: str) -> PublicSet:
    """The set of one of CATEGORIES."""
    words = category.replace("_", " ")
    return PublicSet(
        name=name_of(category),
        about=f"Reviews of {words}, 1996-05 to 2014-07, five and more of each person and each item; every review is a positive.",
        counts=COUNTS.get(category, Counts()),
        licence=LICENCE,
        place=BASE,
        forms=(_form(category), *([preprocessed.BEAUTY] if category == "Beauty" else [])),
    )


def category_of(record: Mapping[str, Any], rule: str) -> str:
    """The category of goods by a rule, or "" when their metadata tell none."""
    paths = record.get("categories") or [[]]
    path = RULES[rule](paths)
    return str(path[-1]) if path else ""


def _form(category: str) -> Form:
    reviews, meta = f"reviews_{category}_5.json", f"meta_{category}.json"
    others = (MUSICAL_INSTRUMENTS,) if category == "Musical_Instruments" else ()
    return Form(
        files=(
            RawFile(name=f"{reviews}.gz", instead=(RawFile(name=reviews), *others)),
            RawFile(name=f"{meta}.gz", instead=(RawFile(name=meta),), optional=True),
        ),
        place=Addresses(base=BASE),
        lay=partial(_lay, category=category, rule=None),
        rules={rule: partial(_lay, category=category, rule=rule) for rule in RULES},
    )


def _lay(found: Found, folder: Path, *, category: str, rule: str | None) -> Laid:
    """rule: None takes the default one where there are metadata."""
    name, reviews, meta = name_of(category), found.path(f"reviews_{category}_5.json.gz"), f"meta_{category}.json.gz"
    link(reviews, folder)
    events = Events(
        file=reviews.name,
        format="jsonl",
        user="reviewerID",
        item="asin",
        time=Time(column="unixReviewTime", unit="s"),
        action={"rating": Field(column="overall")},
    )
    if meta not in found.files:
        if rule:
            raise ConfigError(f"rule is {rule!r}, but there is no {meta} beside {reviews}, so that {name} has no categories; leave it out.")
        return Laid(schema=Schema(name=name, events=events))
    rule = rule or DEFAULT_RULE
    write_csv(folder / "items.csv", ITEM_COLUMNS, _goods(found.path(meta), values(events, folder, "asin"), rule))
    counted = () if rule == DEFAULT_RULE else ("categories",)  # by the default rule
    return Laid(schema=Schema(name=name, events=events, items=ITEMS), facts={"rule": rule}, unlike=counted)


def _goods(meta: Path, reviewed: set[str], rule: str) -> Iterator[tuple[str, ...]]:
    """The goods that are `reviewed`, in the order of their metadata, the first of those that stand there twice."""
    left = set(reviewed)
    for number, line in enumerate(lines(meta), start=1):
        named = ASIN.findall(line)
        if not line.strip() or (named and left.isdisjoint(named)):  # reading a literal takes long, and most are of no use here
            continue
        record = _literal(line, f"{meta.name}: line {number}")
        if (asin := record["asin"]) in left:
            left.remove(asin)
            price = record.get("price")
            yield asin, _words(record, "title"), _words(record, "brand"), "" if price is None else str(price), category_of(record, rule)


def _literal(line: str, where: str) -> dict[str, Any]:
    try:
        record = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise DataError(
            f"{where} is {line[:60]!r}; a Python literal such as \"{{'asin': '0528881469', 'categories': [['GPS']]}}\" was wanted."
        ) from None
    if not isinstance(record, dict) or "asin" not in record:
        raise DataError(f"{where} is {line[:60]!r}; it names no 'asin'.")
    return record


def _words(record: Mapping[str, Any], key: str) -> str:
    return " ".join(str(record.get(key) or "").split())


SETS = {name_of(category): public(category) for category in CATEGORIES}
THE_FAMILY = PublicSet(
    name=FAMILY,
    about=f"Reviews of goods, 1996-05 to 2014-07. <category> is one of {', '.join(name.removeprefix('amazon-') for name in SETS)}.",
    licence=LICENCE,
    place=BASE,
)
