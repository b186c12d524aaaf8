"""Two logs of Taobao, from Alibaba's Tianchi: what people did with goods, and which advertisements they clicked.

taobao-userbehavior (Zhu et al., KDD 2018): 100 million page views, purchases, goods put into the cart and goods marked, of
nine days. The original has rows of 1902 and of 2037 too; what lies outside the nine days is left out, and source.json says
how much that is. An item's category stands in every row, so items.csv is gathered from them; where they differ, the
first counts. Every row is a positive, to predict which item comes next, and what was done is known once it is done. To
predict purchases instead, from pasts that hold everything:

    [events]
    label = { column = "behaviour", one_of = ["buy"] }

taobao-ad: 26 million advertisements that were shown, clicked or not, during eight days; rows of one person and second are
one request, and `pid` is the place on the page. The log of what people did elsewhere, behavior_log.csv, tells only categories
and brands, which no item here stands for, so it is left alone.
"""

from __future__ import annotations

from pathlib import Path

from penchant.data.sets.public import Form, Found, Laid, Page, PublicSet, RawFile
from penchant.data.sets.tables import columns_of, copy, link, scan, scanning, write_csv
from penchant.errors import DataError
from penchant.schema import Events, Field, Impressions, Items, Label, Schema, Table, Time, Users

LICENCE = "Tianchi's terms for the data set: research use, citing its source; no commercial use."
ZONE = "Asia/Shanghai"

FIRST, END = 1511539200, 1512316800  # 2017-11-25 and 2017-12-04, both at midnight in ZONE
BEHAVIOUR = Table(file="UserBehavior.csv", columns=("user", "item", "category", "behaviour", "time"))
BEHAVIOUR_SCHEMA = Schema(
    name="taobao-userbehavior",
    events=Events(
        file="events.csv",
        time=Time(column="time", unit="s"),
        zone=ZONE,
        moment=("hour", "weekday"),
        action={"behaviour": Field()},
    ),
    items=Items(file="items.csv", key="item", fields={"category": Field()}),
)

ITEM_COLUMNS = ("adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price")
USER_COLUMNS = (
    "userid",
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)
AD_SCHEMA = Schema(
    name="taobao-ad",
    events=Events(
        file="raw_sample.csv",
        user="user",
        item="adgroup_id",
        time=Time(column="time_stamp", unit="s"),
        zone=ZONE,
        label=Label(column="clk", at_least=1),
        moment=("hour", "weekday"),
        impressions=Impressions(shown={"pid": Field()}),
    ),
    items=Items(
        file="items.csv",
        key="adgroup_id",
        fields={name: Field(kind="number") if name == "price" else Field() for name in ITEM_COLUMNS[1:]},
    ),
    users=Users(file="users.csv", key="userid", fields={name: Field() for name in USER_COLUMNS[1:]}),
)


def _lay_behaviour(found: Found, folder: Path) -> Laid:
    log = found.path(BEHAVIOUR.file)
    with scanning(folder, BEHAVIOUR.file) as connection:
        rows = scan(BEHAVIOUR, log.parent, BEHAVIOUR.columns or ())
        kept = f"FROM {rows} WHERE time::BIGINT >= {FIRST} AND time::BIGINT < {END}"
        events = copy(connection, f'SELECT "user", item, behaviour, time {kept}', folder / "events.csv")
        ((everything,),) = connection.execute(f"SELECT count(*) FROM {rows}").fetchall()
        if not events:
            raise DataError(f"{log}: none of {everything:,} rows is of the nine days from 2017-11-25 on.")
        numbered = f"SELECT item, category, row_number() OVER () AS place {kept}"
        items = f"SELECT item, arg_min(category, place) AS category FROM ({numbered}) GROUP BY item ORDER BY min(place)"
        copy(connection, items, folder / "items.csv")
    return Laid(schema=BEHAVIOUR_SCHEMA, facts={"rows_of_other_days": everything - events})


def _lay_ad(found: Found, folder: Path) -> Laid:
    link(found.path("raw_sample.csv"), folder)
    ads = columns_of(found.path("ad_feature.csv"), ITEM_COLUMNS)
    write_csv(folder / "items.csv", ITEM_COLUMNS, (["" if cell == "NULL" else cell for cell in row] for row in ads))
    write_csv(folder / "users.csv", USER_COLUMNS, columns_of(found.path("user_profile.csv"), USER_COLUMNS))
    return Laid(schema=AD_SCHEMA)


USER_BEHAVIOUR = PublicSet(
    name="taobao-userbehavior",
    about="Page views, purchases, carts and marks of goods with their categories, 2017-11-25 to 2017-12-03; every row is a positive.",
    licence=LICENCE,
    place="https://tianchi.aliyun.com/dataset/649",
    forms=(
        Form(
            files=(RawFile(name="UserBehavior.csv"),),
            place=Page(url="https://tianchi.aliyun.com/dataset/649", asks="an account"),
            lay=_lay_behaviour,
        ),
    ),
)
AD = PublicSet(
    name="taobao-ad",
    about="Advertisements shown, clicked or not, with their goods and the people's profiles, 2017-05-06 to 2017-05-13.",
    licence=LICENCE,
    place="https://tianchi.aliyun.com/dataset/56",
    forms=(
        Form(
            files=tuple(RawFile(name=name) for name in ("raw_sample.csv", "ad_feature.csv", "user_profile.csv")),
            place=Page(url="https://tianchi.aliyun.com/dataset/56", asks="an account"),
            lay=_lay_ad,
        ),
    ),
)
