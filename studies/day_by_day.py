"""A recommender of news, day by day: left as it was, grown every day, or trained anew on everything.

    frozen   trained once, after the first days, and never again
    grown    yesterday's bundle, continued on what has happened since it was trained (`penchant train --from`)
    anew     trained from nothing on all days so far

Each is judged on the day after: the last click of each person on it, among 99 articles that they never clicked, drawn uniformly from
those with clicks by then. And on one of the first days again, which all have trained on by then: what a grown one has forgotten is what it
ranks worse there than one trained anew. Beside each stands how many of the judged clicks are on articles that it has a row for, and how
long its training took. Every run has the recipe's budget an epoch, with all clicks as examples.

Raw clicks (penchant data get globo data/raw-globo) are cut into days, of which each Log holds all up to one of them; that day tests, and
the last hours before it validate.

    OMP_NUM_THREADS=1 python studies/day_by_day.py OUT --raw data/raw-globo          # prints one JSON object
    OMP_NUM_THREADS=1 python studies/day_by_day.py OUT --raw data/raw-globo --days 4 --people 2000 --epochs 1

What OUT has already is not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from penchant.bundle import Bundle, load_bundle
from penchant.config import read
from penchant.data.encoded import EncodedLog
from penchant.data.fit import with_items_of
from penchant.data.grow import GrowConfig
from penchant.data.log import Log, open_log
from penchant.data.prepare import prepare
from penchant.data.split import SplitConfig, split_of
from penchant.evaluate.judge import judge
from penchant.evaluate.judged import Judged
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import bootstrap, paired
from penchant.schema import read_schema
from penchant.train.config import RunConfig
from penchant.train.fit import fit

RECIPE = Path(__file__).parents[1] / "recipes" / "globo.toml"
PROTOCOL, METRICS, ARMS = PROTOCOLS["last-99"], ("ndcg@10", "gauc"), ("frozen", "grown", "anew")
HOUR = 3_600_000  # milliseconds


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is asked, and where it is kept. Days are counted from 0."""

    out: Path
    raw: Path
    first: int  # the first day that somebody is judged on; the days before it train
    days: int  # how many days there are
    older: int  # the day that is judged again
    people: int | None  # clicks of as many people; None: of all
    hours: float  # before a day, whose clicks validate
    period: float  # hours of a day: of news, a shorter one may say more
    config: RunConfig  # the budget

    @cached_property
    def begin(self) -> int:
        """Unix milliseconds of the midnight that day 0 begins with, in the zone of the schema."""
        zone = ZoneInfo(read_schema(self.raw / "schema.toml").events.zone)
        files = str(self.raw / "clicks" / "*")
        [(least,)] = duckdb.connect().execute(f"SELECT min(click_timestamp) FROM read_csv('{files}', quote = '')").fetchall()
        day = datetime.fromtimestamp(least / 1000, tz=zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return int(day.timestamp() * 1000)

    def log(self, day: int) -> Log:
        """All clicks up to this day, itself among them."""
        folder = self.out / "logs" / f"day-{day}"
        if not (folder / "manifest.json").exists():
            raw = self.out / "raw" / f"day-{day}"
            if not (raw / "clicks.csv").exists():
                self.write(raw, day)
            schema = read_schema(self.raw / "schema.toml")
            events = schema.events.model_copy(update={"file": "clicks.csv"})
            prepare(raw, folder, schema.model_copy(update={"events": events}))
            (raw / "clicks.csv").unlink()
        return open_log(folder)

    def write(self, raw: Path, day: int) -> None:
        """The clicks of these days as one file."""
        raw.mkdir(parents=True, exist_ok=True)
        end, files, part = self.midnight(day + 1), str(self.raw / "clicks" / "*"), raw / "clicks.part"
        some = f"user_id IN (SELECT user_id FROM clicks GROUP BY 1 ORDER BY hash(user_id), user_id LIMIT {self.people})"
        chosen = "true" if self.people is None else some
        duckdb.connect().execute(
            f"COPY (WITH clicks AS (SELECT * FROM read_csv('{files}', quote = '', all_varchar = true)) SELECT * FROM clicks "
            f"WHERE click_timestamp::BIGINT < {end} AND {chosen}) TO '{part}' (FORMAT csv, HEADER)"
        )
        part.rename(raw / "clicks.csv")

    def split(self, day: int) -> SplitConfig:
        """Of the Log of this day: it tests, the hours before it validate, and what is before them trains."""
        test, valid = (datetime.fromtimestamp(at / 1000, tz=UTC).isoformat() for at in (self.midnight(day), self.valid_from(day)))
        return SplitConfig(name="time", valid_from=valid, test_from=test)

    def midnight(self, day: int) -> int:
        return self.begin + int(day * self.period * HOUR)

    def valid_from(self, day: int) -> int:
        return self.midnight(day) - int(self.hours * HOUR)

    def bundle(self, arm: str, day: int) -> tuple[Bundle, Mapping[str, Any]]:
        """What an arm has learned by the midnight that this day begins with, and what it took."""
        if arm == "frozen" or (arm == "grown" and day == self.first):
            arm, day = "anew", self.first
        run = self.out / "runs" / f"{arm}-{day}"
        if not (run / "took.json").exists():
            print(f"{arm}, day {day}", file=sys.stderr)
            config = self.config.model_copy(update={"log": str(self.out / "logs" / f"day-{day}"), "split": self.split(day)})
            if arm == "grown":
                self.bundle(arm, day - 1)
                before = f"anew-{self.first}" if day - 1 == self.first else f"grown-{day - 1}"
                config = config.model_copy(update={"grow": GrowConfig(bundle=str(self.out / "runs" / before / "bundle"))})
            done = fit(config, run, log=self.log(day))
            took = {"seconds": done.seconds, "best": done.best, "growth": done.growth}
            (run / "took.json").write_text(json.dumps(took) + "\n")
        found: dict[str, Any] = json.loads((run / "took.json").read_text())
        return load_bundle(run / "bundle"), found

    def judged(self, arm: str, day: int, on: int) -> tuple[Judged, float]:
        """What an arm of one day does on another, and the share of the judged clicks that are on articles it has a row for."""
        file = self.out / "judged" / f"{arm}-{day}-on-{on}.npz"
        log, (bundle, _) = self.log(on), self.bundle(arm, day)
        encoding = with_items_of(bundle.encoding, log)
        if encoding is not bundle.encoding:
            bundle.model.item.extend(encoding.catalogue)
        split = split_of(log, self.split(on))
        data = EncodedLog(log, encoding, split.hidden)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            judge(bundle.model, data, split, PROTOCOL, past=bundle.past).save(file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)
        found = Judged.load(file, PROTOCOL)
        return found, float(encoding.catalogue.own[data.rows(found.position)].mean())

    def compared(self, day: int, on: int) -> dict[str, Any]:
        """All arms of one day on another."""
        judged = {arm: self.judged(arm, day, on) for arm in ARMS}
        answer: dict[str, Any] = {"people": judged["grown"][0].people}
        for arm, (found, known) in judged.items():
            answer[arm] = {"known": known}
            for metric in METRICS:
                interval = bootstrap(found.each(metric), found.weight(metric))
                answer[arm][metric] = {"value": found.value(metric), "interval": [interval.low, interval.high]}
        for one, other in (("grown", "frozen"), ("grown", "anew")):
            a, b = judged[one][0], judged[other][0]
            a.refuse_other(b)
            for metric in METRICS:
                difference = paired(a.each(metric), b.each(metric), a.weight(metric))
                said = {"difference": difference.difference, "interval": [difference.low, difference.high], "p": difference.p}
                answer[f"{one} - {other}, {metric}"] = said
        return answer

    def answer(self) -> dict[str, Any]:
        days = range(self.first, self.days)
        found = []
        for day in days:
            row: dict[str, Any] = {"day": day, "next": self.compared(day, day)}
            if day > self.first:
                row["older"] = self.compared(day, self.older)
            for arm in ARMS:
                _, took = self.bundle(arm, day)
                row[arm] = {"seconds": took["seconds"], "valid": took["best"]}
                if arm == "grown" and took["growth"]:
                    row[arm]["growth"] = {key: took["growth"][key] for key in ("examples", "earlier", "ids")}
            found.append(row)
            print(json.dumps(row), file=sys.stderr)
        return {"protocol": PROTOCOL.says, "begins": self.begin, "older": self.older, "first": self.first, "days": found}


def main(words: Sequence[str] | None = None) -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("out", type=Path)
    asked.add_argument("--raw", type=Path, default=Path("data/raw-globo"))
    asked.add_argument("--first", type=int, default=3, help="the first day that is judged; those before it train")
    asked.add_argument("--days", type=int, default=10)
    asked.add_argument("--older", type=int, default=2, help="the day that is judged again")
    asked.add_argument("--people", type=int, help="clicks of as many people; all by default")
    asked.add_argument("--hours", type=float, default=4, help="before a day, that validate")
    asked.add_argument("--period", type=float, default=24, help="hours of what is a day here")
    asked.add_argument("--epochs", type=int)
    asked.add_argument("--model", default="din")
    given = asked.parse_args(words)
    if not 0 < given.older < given.first < given.days:
        asked.error("0 < older < first < days was wanted.")
    recipe = read(RunConfig, RECIPE)
    budget = recipe.train.model_copy(update={} if given.epochs is None else {"epochs": given.epochs})
    data = recipe.data.model_copy(update={"latest": None})
    config = recipe.model_copy(update={"model": {"name": given.model}, "protocol": PROTOCOL.name, "train": budget, "data": data})
    study = Study(
        out=given.out,
        raw=given.raw,
        first=given.first,
        days=given.days,
        older=given.older,
        people=given.people,
        hours=given.hours,
        period=given.period,
        config=config,
    )
    print(json.dumps(study.answer(), indent=1))


if __name__ == "__main__":
    main()
