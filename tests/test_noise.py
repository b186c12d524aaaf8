"""Events that do not fit, and people who are none: found by what trains alone, and what a run does about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from said import Said

from penchant.bundle import load_bundle
from penchant.config import read
from penchant.data import together as counting
from penchant.data.bots import ENOUGH, MOST, PEOPLE, SCORE, find_bots
from penchant.data.check import check
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.noise import SLACK, NoiseConfig, denoise, fits
from penchant.data.prepare import prepare
from penchant.data.sets import get
from penchant.data.sets.market import MarketConfig, make_market, read_truth
from penchant.data.split import SplitConfig, split_of
from penchant.data.together import Once, together
from penchant.errors import ConfigError
from penchant.schema import Schema
from penchant.train.config import RunConfig
from penchant.train.fit import fit as train

BY_TIME = SplitConfig(name="time")
FAST: dict[str, Any] = {"epochs": 1, "batch_size": 128}


def chosen_by(pasts: Sequence[Sequence[int]], genre: Sequence[int] | None = None, **events: Any) -> Log:
    """A Log in memory of what people chose, each in their order; with a genre of each item, 0 being none."""
    item = np.array([one for past in pasts for one in past], dtype=np.int32)
    end = np.cumsum([len(past) for past in pasts]).astype(np.int64)
    items: dict[str, Any] = {"id": [f"i{at}" for at in range(max(int(item.max(initial=0)) + 1, len(genre or ())))]}
    schema: dict[str, Any] = {"name": "chosen", "events": {"file": "e.csv", "time": {"unit": "ms"}}}
    if genre is not None:
        items["item.genre"] = np.array(genre, dtype=np.int32)
        schema["items"] = {"file": "i.csv", "fields": {"genre": {}, "tags": {"kind": "categories"}}}
    if "label" in events:
        schema["events"]["label"] = {"column": "label", "at_least": 1}
    return Log(
        folder=Path("chosen"),
        schema=read(Schema, schema),
        manifest={},
        events={"item": item, "time": np.arange(len(item)) * 60_000, "source": np.arange(len(item)), **events},
        users=pa.RecordBatch.from_pydict({"id": [f"u{at}" for at in range(len(pasts))], "end": end}),
        items=pa.RecordBatch.from_pydict(items),
        values={} if genre is None else {"item.genre": pa.array([f"g{at}" for at in range(1, max(genre) + 1)])},
    )


def two_tastes() -> list[list[int]]:
    """Forty people who choose among items 0 to 9, and forty who choose among 10 to 19."""
    random = np.random.default_rng(3)
    return [(random.choice(10, 8, replace=False) + 10 * (user % 2)).tolist() for user in range(80)]


def everything(log: Log) -> NDArray[Any]:
    return np.arange(log.size)


# Fit


def test_the_planted_event_does_not_fit() -> None:
    pasts = two_tastes()
    pasts[6][3] = 15  # of the other taste
    log = chosen_by(pasts)
    fit = fits(log, everything(log))
    planted = 6 * 8 + 3
    assert fit.dtype == np.float32
    assert fit[planted] < 0.2
    assert np.delete(fit, planted).min() > 0.6
    assert np.delete(fit, planted).mean() > 0.9


PASTS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), min_size=1, max_size=6)


@settings(max_examples=80)
@given(st.lists(st.lists(st.integers(0, 14), min_size=1, max_size=40), min_size=1, max_size=4))
def test_neighbours_equal_a_loop_that_leaves_the_choice_out(pasts: list[list[int]]) -> None:
    log = chosen_by(pasts)
    choices = Once.of(log, everything(log))
    firsts = [(user, item) for user, past in enumerate(pasts) for item in dict.fromkeys(past)]
    assert list(zip(choices.user.tolist(), choices.item.tolist(), strict=True)) == firsts
    assert [firsts[at] for at in choices.place] == [(user, item) for user, past in enumerate(pasts) for item in past]
    near = [
        (a, b)
        for a in range(len(firsts))
        for b in range(len(firsts))
        if a != b and firsts[a][0] == firsts[b][0] and abs(a - b) <= counting.WINDOW
    ]
    observed, expected = together(choices)
    for e in range(len(firsts)):
        others = [(firsts[a][1], firsts[b][1]) for a, b in near if e not in (a, b)]
        mine = [firsts[b][1] for a, b in near if a == e]
        assert observed[e] == sum(others.count((firsts[e][1], item)) for item in mine)
        centre = [a for a, _ in others]
        chance = centre.count(firsts[e][1]) * sum(centre.count(item) for item in mine) / max(len(others), 1)
        assert expected[e] == pytest.approx(chance)


def test_counting_in_many_turns_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    log = chosen_by(two_tastes())
    choices = Once.of(log, everything(log))
    at_once = together(choices)
    monkeypatch.setattr(counting, "PAIRS", 50)
    for one, other in zip(at_once, together(choices), strict=True):
        np.testing.assert_array_equal(one, other)
    assert at_once[0].sum() > 0


def test_it_does_not_explain_itself() -> None:
    pasts = [*two_tastes(), [0, 1, 2, 3, 4, 19]]
    log = chosen_by(pasts)
    alone = fits(log, everything(log))[-1]
    twice = chosen_by([*pasts, [0, 1, 2, 3, 4, 19]])
    assert alone == pytest.approx(SLACK / (SLACK + 0.4), abs=0.1)  # as often beside these as nobody else's: not at all
    assert fits(twice, everything(twice))[-1] > alone  # what somebody else does as well is evidence


def test_of_what_nothing_can_be_said_the_fit_is_one() -> None:
    pasts = [*two_tastes(), [0], [0, 0, 0], [1, 2, 3, 20]]
    pasts[6][3] = 15
    log = chosen_by(pasts)
    fit = fits(log, everything(log))
    assert fit[-8] == 1  # chose one item
    assert fit[-7:-4].tolist() == [1, 1, 1]  # and came back to it
    assert fit[-1] == 1  # an item that nobody else chose
    labels = np.ones(log.size, dtype=np.float32)
    labels[[3, 51]] = 0  # an honest one, and the planted one
    among = chosen_by(pasts, label=labels)
    assert fits(among, everything(among))[[3, 51]].tolist() == [1, 1]  # what was not chosen
    assert fits(log, everything(log)[:0]).tolist() == []


def test_an_item_that_everybody_chooses_fits_everybody() -> None:
    pasts = [[20, *past] for past in two_tastes()]
    log = chosen_by(pasts)
    fit = fits(log, everything(log))
    assert fit[log.events["item"] == 20].min() > 0.7


def test_attributes_speak_for_items_that_are_met_too_seldom() -> None:
    random = np.random.default_rng(0)
    pasts = [(random.choice(400, 8, replace=False) + 400 * (user % 2)).tolist() for user in range(150)]
    pasts[6][3] = next(one for past in pasts[1::2] for one in past)  # of the other genre, and somebody else's as well
    genre = [1] * 400 + [2] * 400
    log, plain = chosen_by(pasts, genre), chosen_by(pasts)
    planted, counts = 6 * 8 + 3, np.bincount(log.events["item"])[log.events["item"]]
    fit = fits(log, everything(log))
    assert fit[planted] < 0.5
    assert np.median(np.delete(fit, planted)[np.delete(counts, planted) > 1]) > 0.9
    assert fits(plain, everything(plain))[planted] > 0.9
    unknown = chosen_by(pasts, [0] * 800)
    np.testing.assert_array_equal(fits(unknown, everything(unknown)), fits(plain, everything(plain)))
    np.testing.assert_array_equal(fits(log, everything(log), "genre"), fit)


@settings(max_examples=60)
@given(PASTS)
def test_the_fit_equals_a_loop_of_its_equations(pasts: list[list[int]]) -> None:
    genre = [1, 2, 1, 2, 0, 1]
    log = chosen_by(pasts, genre)
    choices = Once.of(log, everything(log))
    own = list(zip(choices.user.tolist(), choices.item.tolist(), strict=True))
    beyond = []
    for (user, item), o, e in zip(own, *together(choices), strict=True):
        mine = [other for whose, other in own if whose == user and other != item]
        same = sum(genre[other] == genre[item] for other in mine)
        rest = [other for pair in own if pair != (user, item) for other in pair[1:]]
        chance = len(mine) * sum(genre[other] == genre[item] for other in rest) / max(len(rest), 1)
        alike = min(max((same - chance + 1) / (same + 1), 0), 1) if genre[item] else 1
        beyond.append(min(max((o - e + 5 * alike) / (o + 5), 0), 1))
    wanted = []
    for at, (_, item) in enumerate(own):
        others = [beyond[other] for other in range(len(own)) if other != at and own[other][1] == item]
        wanted.append(min((beyond[at] + 0.1) / (sum(others) / max(len(others), 1) + 0.1), 1))
    np.testing.assert_allclose(fits(log, everything(log)), np.array(wanted)[choices.place], atol=1e-6)


@settings(max_examples=60)
@given(PASTS, st.randoms(use_true_random=False), st.integers(0, 5))
def test_nothing_is_read_but_what_trains(pasts: list[list[int]], random: Any, other: int) -> None:
    size = sum(len(past) for past in pasts)
    train = np.array(sorted(random.sample(range(size), random.randint(0, size))), dtype=np.int64)
    genre = [1, 2, 1, 2, 0, 1]
    labels = np.array([random.random() < 0.8 for _ in range(size)], dtype=np.float32)
    log = chosen_by([*pasts, [5]], genre, label=np.append(labels, 1))
    events = {name: column.copy() for name, column in log.events.items()}
    outside = np.setdiff1d(np.arange(log.size), train)
    events["item"][outside], events["label"][outside] = other, 1 - events["label"][outside]
    changed = replace(log, events=events)
    np.testing.assert_array_equal(fits(log, train), fits(changed, train))
    fit = fits(log, train)
    assert ((fit >= 0) & (fit <= 1)).all()


# Bots


class World:
    """A market's Log, and who is a bot in truth."""

    def __init__(self, folder: Path, bots: float, **more: Any) -> None:
        made = {"people": 400, "items": 300, "requests": 25.0, "slots": 3, "bots": bots, "format": "parquet", **more}
        make_market(folder / "raw", MarketConfig(**made))
        self.log = prepare(folder / "raw", folder / "log")
        self.split = split_of(self.log, BY_TIME)
        truth = read_truth(folder / "raw")
        self.bot: NDArray[np.bool_] = truth.bot[[int(one) for one in self.log.users.column("id").to_pylist()]]
        self.flipped = truth.flipped[self.log.events["source"]]

    @property
    def rows(self) -> NDArray[Any]:
        """[U], training rows of each person."""
        return np.bincount(self.log.user_of(self.split.train), minlength=len(self.log.users))


@pytest.fixture(scope="module")
def haunted(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("haunted"), 0.04)


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("flipped"), 0.0, flip=0.1)


def test_planted_bots_are_found(haunted: World) -> None:
    found = find_bots(haunted.log, haunted.split.train)
    assert haunted.bot.sum() >= 10
    hits = found.bot & haunted.bot
    assert hits.sum() >= 0.95 * found.bot.sum()  # precision
    assert hits.sum() >= 0.4 * haunted.bot.sum()  # recall: who asks seldom passes
    assert haunted.rows[hits].sum() > 0.75 * haunted.rows[haunted.bot].sum()
    assert (found.score[found.bot] >= SCORE).all()
    assert len({sign.kind for sign in found.signs}) == 3
    for user in np.flatnonzero(found.bot):
        assert len({sign.kind for sign in found.reasons(int(user))}) >= 2  # no kind alone


def test_nobody_is_a_bot_in_a_calm_world(flipped: World) -> None:
    found = find_bots(flipped.log, flipped.split.train)
    assert found.looked_at.sum() > 100
    assert found.bot.sum() == 0
    assert found.score.max() > 0.6 * SCORE  # the busiest are not far off


def busy(times: int) -> Log:
    """Forty people alike, but that the first does as many times as much, at the same hours of as many days more."""
    random = np.random.default_rng(1)
    pasts = [random.choice(60, 30, replace=False).tolist() for _ in range(40)]
    pasts[0] = [one for _ in range(times) for one in pasts[0]]
    hour = np.array([at % 3 * 3_600_000 + at // 3 * 86_400_000 for past in pasts for at in range(len(past))])
    return chosen_by(pasts, time=hour + random.integers(0, 3_000_000, len(hour)))


def test_much_alone_makes_no_bot() -> None:
    log = busy(100)
    found = find_bots(log, everything(log))
    assert found.score[0] < SCORE
    assert found.score[0] >= MOST
    assert found.score[0] == found.score.max()
    assert [sign.name for sign in found.reasons(0)] == ["requests"]
    assert found.reasons(0)[0].says(0) == "3,000 requests, not 30"
    deviations = found.signs[0].deviations
    assert deviations[0] == pytest.approx(np.log2(100) / 0.5)  # doublings over the least spread: the others are alike
    assert (deviations[1:] == 0).all()  # and one of them moves nobody else
    assert not found.bot.any()


def test_who_does_little_is_not_looked_at() -> None:
    few = chosen_by([list(range(ENOUGH - 1))] * 50)
    found = find_bots(few, everything(few))
    assert not found.looked_at.any()
    assert found.signs == ()
    some = chosen_by([list(range(ENOUGH))] * PEOPLE + [[0]])
    assert find_bots(some, everything(some)).looked_at.tolist() == [True] * PEOPLE + [False]
    assert find_bots(some, everything(some)[: -ENOUGH - 1]).signs == ()
    assert not find_bots(some, everything(some)[:0]).bot.any()


@pytest.mark.parametrize(("unit", "times", "signs"), [("ms", 3_600_000, 3), ("rows", 1, 2), ("ms", 1, 5)])
def test_what_a_clock_does_not_show_counts_for_nobody(unit: str, times: int, signs: int) -> None:
    log = busy(2)
    schema = read(Schema, {"name": "chosen", "events": {"file": "e.csv", "time": {"unit": unit}}})
    coarse = replace(log, schema=schema, events={**log.events, "time": log.events["time"] // times * times})
    assert len(find_bots(coarse, everything(coarse)).signs) == signs


def test_bots_are_found_by_what_trains_alone(haunted: World) -> None:
    log, split = haunted.log, haunted.split
    outside = np.setdiff1d(np.arange(log.size), split.train)
    events = {name: np.array(column) for name, column in log.events.items()}
    events["item"][outside], events["label"][outside], events["time"][outside] = 0, 1, events["time"][outside] + 7
    a, b = find_bots(log, split.train), find_bots(replace(log, events=events), split.train)
    np.testing.assert_array_equal(a.score, b.score)
    np.testing.assert_array_equal(fits(log, split.train), fits(replace(log, events=events), split.train))


def test_the_check_names_them(haunted: World, flipped: World) -> None:
    found = check(haunted.log, BY_TIME)
    (one,) = [finding for finding in found.findings if finding.name == "bot-like-people"]
    bots = find_bots(haunted.log, haunted.split.train)
    assert (one.grave, one.count, one.of) == (False, bots.bot.sum(), bots.looked_at.sum())
    rows, every = haunted.rows[bots.bot].sum(), len(haunted.split.train)
    assert one.says.startswith(
        f"{one.count} of {one.of} ({one.count / one.of:.1%}) people with 20 training requests or more look like bots, by a score of 9 or "
        f"more (signs: requests {one.count}, "
    )
    assert one.says.endswith(
        f"). Theirs are {rows:,} of {every:,} ({rows / every:.1%}) training rows. If they are none of those you serve, leave them out of "
        "training (data.noise.bots = 'drop'), or out of the log."
    )
    worst = int(bots.score.argmax())
    reasons = "; ".join(sign.says(worst) for sign in bots.reasons(worst))
    assert one.examples[0] == f"person {haunted.log.users.column('id')[worst].as_py()}, {bots.score[worst]:.1f}: {reasons}"
    assert " requests, not " in one.examples[0]
    assert len(one.examples) == 3
    assert "bot-like-people" in check(flipped.log, BY_TIME).clean


# What a run does


def loader_of(log: Log, positions: NDArray[Any], **config: Any) -> Loader:
    encoding = fit_encoding(log, positions)
    return Loader.for_training(EncodedLog(log, encoding), positions, read(LoadConfig, config), 0)


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_the_fit_weighs_an_example_and_its_candidates(floor: float) -> None:
    pasts = two_tastes()
    pasts[6][3] = 15
    log = chosen_by(pasts)
    loader = loader_of(log, everything(log), negatives=3, noise={"fit": "weight", "floor": floor})
    position = np.array([51, 3, 100])
    weight = loader.batch(position, 0).weight
    assert weight is not None
    wanted = floor + (1 - floor) * fits(log, everything(log))[position]
    np.testing.assert_allclose(weight.numpy(), np.repeat(wanted[:, None], 4, axis=1), rtol=1e-6)
    assert weight[0, 0] < 0.5 < weight[1, 0]
    assert loader_of(log, everything(log), negatives=3).batch(position, 0).weight is None


def test_of_logged_rows_choices_alone_are_weighed(flipped: World) -> None:
    log, positions = flipped.log, flipped.split.train
    loader = loader_of(log, positions, negatives=0, noise={"fit": "weight"})
    batch = loader.batch(loader.position[:200], 0)
    assert batch.label is not None
    assert batch.weight is not None
    fit = np.ones(log.size, dtype=np.float32)
    fit[positions] = fits(log, positions)
    row = loader.position[:200, None] + np.arange(3)
    np.testing.assert_array_equal(batch.weight.numpy(), fit[row])
    assert (batch.weight[batch.label == 0] == 1).all()
    assert (batch.weight[batch.label == 1] < 1).any()


def test_it_multiplies_the_weights_of_the_log() -> None:
    log = chosen_by(two_tastes(), weight=np.tile(np.array([0.5, 2.0], np.float32), 320))
    loader = loader_of(log, everything(log), negatives=1, noise={"fit": "weight"})
    weight = loader.batch(everything(log)[:10], 0).weight
    assert weight is not None
    np.testing.assert_allclose(weight[:, 1].numpy(), fits(log, everything(log))[:10] * np.tile([0.5, 2.0], 5), rtol=1e-6)
    assert (
        loader_of(log, everything(log), negatives=1).batch(everything(log)[:10], 0).weight == weight.new_tensor([0.5, 2] * 5)[:, None]
    ).all()


def test_pasts_are_the_same_whatever_is_done(flipped: World) -> None:
    log, positions = flipped.log, flipped.split.train
    plain, other = (
        loader_of(log, positions, negatives=0, noise={"fit": fit, "bots": bots}) for fit, bots in (("none", "keep"), ("weight", "drop"))
    )
    np.testing.assert_array_equal(plain.position, other.position)
    a, b = (one.batch(one.position[-50:], 0).history for one in (plain, other))
    assert len(a.item)
    assert a.item.tolist() == b.item.tolist()
    assert a.events.start.tolist() == b.events.start.tolist()


def test_a_flipped_click_fits_less(flipped: World) -> None:
    log, chosen = flipped.log, flipped.split.train[flipped.log.positive[flipped.split.train]]
    fit = fits(log, chosen)
    noise = flipped.flipped[chosen]
    assert 0.2 < noise.mean() < 0.6
    assert fit[~noise].mean() > 0.85
    assert fit[noise].mean() < 0.75


def test_who_is_dropped_is_neither_an_example_nor_counted(haunted: World) -> None:
    log, positions = haunted.log, haunted.split.train
    found = find_bots(log, positions)
    done = denoise(log, positions, NoiseConfig(bots="drop"))
    gone = found.bot[log.user_of(positions)]
    np.testing.assert_array_equal(done.train, positions[~gone])
    assert done.weight is None
    assert done.facts == {
        "bots": {
            "people": found.bot.sum(),
            "looked_at": found.looked_at.sum(),
            "rows": gone.sum(),
            "of_rows": len(positions),
            "signs": found.counts(),
        }
    }
    assert len(done.train) + done.facts["bots"]["rows"] == len(positions)
    loader = loader_of(log, positions, negatives=0, noise={"bots": "drop"})
    assert not found.bot[log.user_of(loader.position)].any()
    assert found.bot[log.user_of(loader_of(log, positions, negatives=0).position)].any()
    nothing = denoise(log, positions, NoiseConfig())
    assert (nothing.weight, nothing.facts) == (None, {})
    assert nothing.train is positions


def test_a_run_without_bots(haunted: World, tmp_path: Path, run: Said) -> None:
    words = ["--log", haunted.log.folder, "--model.name", "mf", "--split.name", "time", "--data.negatives", "0", "--protocol", "logged"]
    fast = ["--train.epochs", "1", "--train.batch_size", "512"]
    noise = ["--data.noise.bots", "drop", "--data.noise.fit", "weight"]
    said = run("train", *words, *fast, *noise, "--out", tmp_path / "run")
    assert (said.status, said.err) == (0, "")
    bundle = load_bundle(tmp_path / "run" / "bundle")
    facts = bundle.facts["noise"]
    found = find_bots(haunted.log, haunted.split.train)
    bots, fit = facts["bots"], facts["fit"]
    assert (bots["people"], bots["rows"]) == (found.bot.sum(), haunted.rows[found.bot].sum())
    assert bundle.facts["train_events"] == len(haunted.split.train) - bots["rows"]
    names = haunted.log.users.column("id").filter(pa.array(found.bot))
    assert (bundle.encoding.users.encode(names) == 0).all()  # nobody that the bundle knows
    learned = haunted.split.train[~found.bot[haunted.log.user_of(haunted.split.train)]]
    assert bundle.encoding.catalogue.count.sum() == haunted.log.positive[learned].sum()
    assert fit["choices"] == haunted.log.positive[learned].sum()
    weight = fits(haunted.log, learned)[haunted.log.positive[learned]]
    assert fit == {"choices": len(weight), "mean": pytest.approx(weight.mean()), "below_half": (weight < 0.5).sum()}
    signs = ", ".join(f"{name} {count}" for name, count in bots["signs"].items() if count)
    lines = said.out.splitlines()
    assert (
        f"{bots['people']} of {bots['looked_at']} people with enough requests look like bots ({signs}): {bots['rows']:,} of "
        f"{bots['of_rows']:,} training rows were left out."
    ) in lines
    assert (
        f"{fit['choices']:,} choices count for {fit['mean']:.2f} on average, by how well they fit; {fit['below_half']:,} count for less "
        "than a half."
    ) in lines
    judged = run("evaluate", tmp_path / "run" / "bundle", "--protocol", "logged", "--json")
    plain = run("train", *words, *fast, "--out", tmp_path / "plain", "--json")
    assert plain.json["noise"] == {}
    assert "noise" not in json.loads((tmp_path / "plain" / "bundle" / "facts.json").read_text())
    before = run("evaluate", tmp_path / "plain" / "bundle", "--protocol", "logged", "--json").json["results"][0]
    assert [judged.json["results"][0][name] for name in ("people", "lists", "dropped")] == [
        before[name] for name in ("people", "lists", "dropped")
    ]


# Errors


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fit": "past"}, "run: data.noise.fit is 'past'; input should be 'none' or 'weight'."),
        ({"floor": 0.2}, "run: data.noise is {'floor': 0.2}; data.noise.floor is of the fit 'weight'; the fit is 'none'."),
        ({"field": "genre"}, "run: data.noise is {'field': 'genre'}; data.noise.field is of the fit 'weight'; the fit is 'none'."),
        ({"bot": "drop"}, "run: data.noise.bot is not a key of NoiseConfig. Did you mean 'bots'?"),
    ],
)
def test_what_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(RunConfig, {"log": "log", "data": {"noise": config}}, where="run")
    assert str(caught.value) == message


def test_a_field_that_items_do_not_have() -> None:
    log = chosen_by([[0, 1], [1, 2]], [1, 2, 1])
    with pytest.raises(ConfigError) as caught:
        fits(log, everything(log), "ganre")
    assert str(caught.value) == "data.noise.field is 'ganre', which is no item field of one category; there is genre. Did you mean 'genre'?"
    bare = chosen_by([[0, 1], [1, 2]])
    with pytest.raises(ConfigError) as caught:
        denoise(bare, everything(bare), NoiseConfig(fit="weight", field="genre"))
    assert str(caught.value) == "data.noise.field is 'genre', which is no item field of one category; there is none."


def test_weighed_choices_say_nothing_of_how_often(flipped: World, tmp_path: Path) -> None:
    config = {
        "log": str(flipped.log.folder),
        "split": {"name": "time"},
        "protocol": "logged",
        "model": "mf",
        "data": {"negatives": 0, "noise": {"fit": "weight"}},
        "calibrate": {"method": "prior"},
    }
    with pytest.raises(ConfigError) as caught:
        train(read(RunConfig, config), tmp_path / "run", log=flipped.log)
    assert str(caught.value) == (
        "calibrate.method is 'prior', but data.noise.fit is 'weight': logits say how often what fits is chosen, not how often anything is. "
        "Take the method platt or isotonic, or the fit none."
    )
    assert not (tmp_path / "run").exists()


# Real data


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("name", "most"), [("movielens-1m", 3), ("amazon-beauty", 3)])
def test_hardly_anybody_of_real_sets_looks_like_a_bot(
    name: str, most: int, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENCHANT_DATA", str(real_data))
    get(name, tmp_path / "raw")
    log = prepare(tmp_path / "raw", tmp_path / "log")
    found = find_bots(log, split_of(log).train)
    assert found.looked_at.sum() > 500
    assert found.bot.sum() <= most
