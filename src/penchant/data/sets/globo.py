"""Clicks on the news of globo.com (de Souza Pereira Moreira et al., 2018 and 2019), one file an hour, in real sessions.

The files stay as they are, compressed or not. Every click is a positive. Hours and weekdays are those of Brazil. How many
clicks a session came to have, session_size, is left out: of an earlier click of a session that goes on, it tells the future.

The checksum is that of hours 000 to 239; of another number of files, none is known.
"""

from __future__ import annotations

from pathlib import Path

from penchant.data.sets.public import Counts, Form, Found, Laid, Page, PublicSet, RawFile
from penchant.data.sets.tables import link
from penchant.schema import Events, Field, Schema, Sessions, Time

ZIPPED, PLAIN = "clicks/clicks_hour_*.csv.gz", "clicks/clicks_hour_*.csv"
PLACE = "https://www.kaggle.com/datasets/gspmoreira/news-portal-user-interactions-by-globocom"


def schema(file: str) -> Schema:
    """What the columns mean. file: a pattern of the files of clicks."""
    return Schema(
        name="globo",
        events=Events(
            file=file,
            user="user_id",
            item="click_article_id",
            time=Time(column="click_timestamp", unit="ms"),
            zone="America/Sao_Paulo",
            moment=("hour", "weekday"),
            session=Sessions(id="session_id"),
            context={
                "environment": Field(column="click_environment"),
                "device": Field(column="click_deviceGroup"),
                "os": Field(column="click_os"),
                "country": Field(column="click_country"),
                "region": Field(column="click_region"),
                "referrer": Field(column="click_referrer_type"),
            },
        ),
    )


def _lay(found: Found, folder: Path) -> Laid:
    paths = found.files[ZIPPED]
    for path in paths:
        link(path, folder / "clicks")
    return Laid(schema=schema("clicks/*.csv.gz" if paths[0].suffix == ".gz" else "clicks/*.csv"))


GLOBO = PublicSet(
    name="globo",
    about="Clicks on news in sessions, with device, system, place and referrer, 2017-10; every click is a positive.",
    counts=Counts(events=2_073_175),
    licence="CC BY-NC-SA 4.0 (Kaggle, News Portal User Interactions by Globo.com).",
    place=PLACE,
    forms=(
        Form(
            files=(
                RawFile(
                    name=ZIPPED,
                    sha256="3c371ea400a8d062238f750befdabf1f0da3658c7b101535ff4e5d936dcf7a96",
                    among=240,
                    instead=(RawFile(name=PLAIN),),
                ),
            ),
            place=Page(url=PLACE, asks="an account"),
            lay=_lay,
        ),
    ),
)
