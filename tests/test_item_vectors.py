"""Vectors of items: read from every form, standardised by what trains, learned from, missing, added later, kept bit for bit."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_prepare import HEADER, NOW, made, refused, schema_of
from test_readers import jsonl, parquet

from penchant.bundle import Bundle, load_bundle
from penchant.data.encoded import EncodedLog
from penchant.data.fit import fit_encoding
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.split import leave_last_out
from penchant.encoding import Encoding
from penchant.errors import DataError
from penchant.evaluate.judge import Judged, judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.metrics import paired
from penchant.models import MODELS, build
from penchant.nn.item import CatalogueEncoder, ItemConfig, item_encoder
from penchant.request import Event, Request
from penchant.schema import Schema
from penchant.scorer import Scorer
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit

Vector = list[float] | None

TASTES, WIDTH, ITEMS, PEOPLE = 5, 6, 500, 300
BARE = 10  # every tenth item has no vector
CENTRE = np.eye(TASTES, WIDTH)
LATER = 1_100_000_000_000  # unix milliseconds, after every event
FIELDS = {"v": {"kind": "vector"}}


def schema_with(file: str = "items.csv", **events: Any) -> Schema:
    return schema_of(events, items={"file": file, "fields": FIELDS})


def numbers(values: Sequence[float]) -> str:
    """A vector as text. repr of a float that has 32 bits says all of them."""
    return " ".join(map(repr, values))


def write_tastes(folder: Path) -> dict[str, str]:
    """Raw files of people who pick items of one taste each, two training events an item or so; a vector tells the taste of its item."""
    random = np.random.default_rng(0)
    vectors = (CENTRE[np.arange(ITEMS) % TASTES] + 0.2 * random.normal(size=(ITEMS, WIDTH))).astype(np.float32)
    cells = ["" if item % BARE == BARE - 1 else numbers(vectors[item].tolist()) for item in range(ITEMS)]
    events = []
    for person in range(PEOPLE):
        chosen = random.choice(np.arange(person % TASTES, ITEMS, TASTES), size=6, replace=False)
        events += [f"u{person},i{item},{NOW + 60 * place}" for place, item in enumerate(chosen)]
    return {
        "events.csv": HEADER + "\n".join(events) + "\n",
        "items.csv": "item,v\n" + "".join(f"i{item},{cell}\n" for item, cell in enumerate(cells)),
    }


@dataclass(frozen=True)
class Trained:
    log: Log
    bundle: Bundle
    folder: Path
    judged: Judged


def trained(folder: Path, schema: Schema) -> Trained:
    folder.mkdir()
    log = made(folder, write_tastes(folder), schema)
    config = RunConfig(
        log=str(log.folder),
        model={"name": "din", "attention": (16, 8), "head": (32, 16)},
        item=ItemConfig(dim=8),
        data=LoadConfig(past=10, negatives=4),
        train=TrainConfig(epochs=10, batch_size=128, rate=3e-3, monitor="gauc", patience=10),
    )
    run = fit(config, folder / "run", log=log)
    return Trained(log, run.bundle, run.folder / "bundle", judge(run.model, run.data, run.split, PROTOCOLS["loo-99"], past=10))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """With vectors."""
    return trained(tmp_path_factory.mktemp("told") / "made", schema_with())


@pytest.fixture(scope="module")
def untold(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same without."""
    return trained(tmp_path_factory.mktemp("untold") / "made", schema_of(items={"file": "items.csv"}))


@pytest.fixture
def scorer(told: Trained) -> Scorer:
    """A new one each time: it may be given items."""
    return Scorer(load_bundle(told.folder))


def projection_of(item: Any) -> Any:
    """The part of an item encoder that reads the vectors."""
    (found,) = item.vectors
    return found


def fan(taste: int) -> Request:
    """Somebody who chose six items of a taste."""
    past = [Event(item=f"i{taste + TASTES * place}", time=LATER - 1000 * place) for place in range(6)]
    return Request(user="nobody", time=LATER, past=past)


# Learned from


def test_vectors_tell_what_cold_ids_cannot(told: Trained, untold: Trained) -> None:
    difference = paired(told.judged.each("gauc"), untold.judged.each("gauc"))
    assert told.judged.value("gauc") > 0.8
    assert difference.low > 0.15, difference


def test_an_item_added_later_is_ranked_among_items_of_its_taste(scorer: Scorer) -> None:
    scorer.add_items([{"id": f"new{taste}", "v": CENTRE[taste].tolist()} for taste in range(TASTES)])
    for taste in range(TASTES):
        new = scorer.score(fan(taste), [f"new{other}" for other in range(TASTES)])
        own = scorer.score(fan(taste), [f"i{item}" for item in range(taste, ITEMS, TASTES) if item % BARE != BARE - 1]).logit
        assert set(new.item) <= set(new.unknown_items)
        assert new.logit[taste] > np.quantile(own, 0.1)
        assert new.logit.argmax() == taste
        assert (np.delete(new.logit, taste) < np.quantile(own, 0.5)).all()
        best = scorer.recommend(fan(taste), ITEMS // TASTES).item
        assert [item for item in best if item.startswith("new")] == [f"new{taste}"]


def test_text_says_the_same_as_a_list(scorer: Scorer) -> None:
    vector = CENTRE[2].astype(np.float32)
    ways = [vector, vector.tolist(), tuple(vector), numbers(vector.tolist()), json.dumps(vector.tolist()), list(map(repr, vector.tolist()))]
    scorer.add_items([{"id": f"way{place}", "v": way} for place, way in enumerate(ways)])
    stored = scorer.encoding.catalogue.vector[0][-len(ways) :]
    assert {row.tobytes() for row in stored} == {stored[0].tobytes()}
    logit = scorer.score(fan(2), [f"way{place}" for place in range(len(ways))]).logit
    np.testing.assert_allclose(logit, logit[0], rtol=1e-6)
    scorer.add_items([{"id": "other", "v": (-vector).tolist()}])
    assert abs(scorer.score(fan(2), ["other"]).logit[0] - logit[0]) > 0.1


# Missing


def test_items_without_a_vector_share_a_learned_one(told: Trained) -> None:
    item = item_encoder(told.bundle.encoding, ItemConfig(dim=4))
    catalogue = told.bundle.encoding.catalogue
    bare, some = catalogue.items.encode([f"i{BARE - 1}", f"i{2 * BARE - 1}"]), catalogue.items.encode(["i0", "i1"])
    projection = projection_of(item)
    with torch.no_grad():
        projection.missing += torch.arange(4.0)
    row = torch.tensor([0, *bare, *some])
    part = item(row, torch.zeros(len(row), dtype=torch.bool))[:, -4:]
    assert torch.equal(part[:3], (projection.linear.bias + projection.missing).expand(3, 4))
    wanted = projection.linear(torch.from_numpy(catalogue.vector[0][some]))
    torch.testing.assert_close(part[3:], wanted)
    part[:3].sum().backward()
    assert projection.missing.grad.tolist() == [3.0] * 4
    assert not projection.linear.weight.grad.any()


def test_a_missing_one_starts_as_the_mean(told: Trained) -> None:
    projection = projection_of(item_encoder(told.bundle.encoding, ItemConfig(dim=4)))
    absent, mean = torch.full((1, 6), torch.nan), torch.zeros(1, 6)  # vectors are standardised
    assert torch.equal(projection(absent), projection(mean))


def test_items_with_a_vector_do_not_teach_the_missing_one(told: Trained) -> None:
    item = item_encoder(told.bundle.encoding, ItemConfig(dim=4))
    row = torch.from_numpy(told.bundle.encoding.catalogue.items.encode(["i0", "i1"]))
    item(row, torch.ones(2, dtype=torch.bool)).sum().backward()
    projection = projection_of(item)
    assert not projection.missing.grad.any()
    assert projection.linear.weight.grad.isfinite().all()
    assert projection.linear.weight.grad.any()


def test_training_moves_the_missing_vector(told: Trained) -> None:
    torch.manual_seed(0)  # as the run began
    bundle = told.bundle
    begun = build(bundle.encoding, bundle.name, dict(bundle.config), bundle.item, where="test")
    before, after = projection_of(begun.item).missing.detach(), projection_of(bundle.model.item).missing.detach()
    assert (before - after).abs().max() > 0.01


def test_an_item_added_without_a_vector(scorer: Scorer) -> None:
    scorer.add_items([{"id": "none", "v": None}, {"id": "left out"}])
    found = scorer.score(fan(0), ["none", "left out", "never heard of"]).logit
    assert np.isfinite(found).all()
    assert np.isnan(scorer.encoding.catalogue.vector[0][-2:]).all()
    np.testing.assert_allclose(found, found[2], rtol=1e-6)  # nothing at all is known of any of them


@pytest.mark.parametrize("name", [name for name in MODELS if name != "popularity"])  # which reads nothing of an item
def test_every_model_reads_vectors_and_learns_the_missing_one(name: str, told: Trained) -> None:
    encoding, log = told.bundle.encoding, told.log
    split = leave_last_out(log)
    data = EncodedLog(log, encoding)
    loader = Loader.for_training(data, split.train, LoadConfig(past=5, negatives=4), 0, others=True, further=5)
    model = build(encoding, name, {}, ItemConfig(dim=4, attributes=True), where="test").train()  # mf and ncf read ids alone, unless told so
    logit = model(loader.batch(split.train[:64], 0)).logit
    assert logit.isfinite().all()
    parts = [projection_of(module) for module in model.modules() if isinstance(module, CatalogueEncoder)]
    assert parts
    logit.square().sum().backward()
    for part in parts:
        for parameter in (part.missing, part.linear.weight):
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
            assert parameter.grad.any()


# Kept


def test_a_bundle_keeps_vectors_bit_for_bit(told: Trained) -> None:
    loaded = load_bundle(told.folder)
    (before,), (after,) = told.bundle.encoding.catalogue.vector, loaded.encoding.catalogue.vector
    assert (before.dtype, before.shape) == (after.dtype, after.shape) == (np.dtype(np.float32), (ITEMS + 1, WIDTH))
    assert before.tobytes() == after.tobytes()
    assert 0 < np.isnan(after).any(1).sum() == np.isnan(after).all(1).sum() == 1 + ITEMS // BARE  # UNKNOWN among them
    assert told.bundle.encoding.scales == loaded.encoding.scales
    items = [f"i{item}" for item in range(ITEMS)]
    for taste in range(TASTES):
        first, second = (Scorer(bundle).score(fan(taste), items).logit for bundle in (told.bundle, loaded))
        assert first.tobytes() == second.tobytes()


def encoding_of(folder: Path, vectors: Mapping[str, Vector]) -> Encoding:
    """Of one person's events: x and y train, p validates, q tests, r never happens."""
    folder.mkdir()
    cells = {item: "" if values is None else numbers(values) for item, values in vectors.items()}
    files = {
        "events.csv": HEADER + "".join(f"a,{item},{NOW + place}\n" for place, item in enumerate("xyxpq")),
        "items.csv": "item,v\n" + "".join(f"{item},{cell}\n" for item, cell in cells.items()),
    }
    log = made(folder, files, schema_with())
    return fit_encoding(log, leave_last_out(log).train)


def test_only_training_items_say_how_vectors_are_standardised(tmp_path: Path) -> None:
    near = {"x": [1.0, -2.0], "y": [4.0, 5.0]}
    far = encoding_of(tmp_path / "far", {**near, "p": [1e6, -3e5], "q": [-7e6, 1.0], "r": [1e9, 1e9]})
    none = encoding_of(tmp_path / "none", {**near, "p": None, "q": None, "r": None})
    values = np.array([1, -2, 4, 5])
    assert (far.scales["item.v"].mean, far.scales["item.v"].deviation) == pytest.approx((values.mean(), values.std()))
    assert far.scales == none.scales
    assert far.catalogue.items.values.to_pylist() == list("pqrxy")
    assert far.catalogue.vector[0][4:].tobytes() == none.catalogue.vector[0][4:].tobytes()
    np.testing.assert_allclose(far.catalogue.vector[0][4:].reshape(-1), (values - values.mean()) / values.std(), rtol=1e-6)
    assert np.isnan(none.catalogue.vector[0][:4]).all()
    other = encoding_of(tmp_path / "other", {"x": [1.0, -2.0], "y": [4.0, 9.0], "p": None, "q": None, "r": None})
    assert other.scales != far.scales


def test_training_items_without_vectors_leave_those_of_others_as_they_are(tmp_path: Path) -> None:
    encoding = encoding_of(tmp_path / "bare", {"x": None, "y": None, "p": [3.0, 4.0], "q": None, "r": None})
    assert (encoding.scales["item.v"].mean, encoding.scales["item.v"].deviation) == (0.0, 1.0)
    assert encoding.catalogue.vector[0][1].tolist() == [3.0, 4.0]


# Refused

NO_VECTOR: list[tuple[Any, str]] = [
    ([1.0, 2.0, 3.0], "item.v is a vector of 3 numbers; 6 were wanted."),
    ("1 2 3 4 5 6 7", "item.v is a vector of 7 numbers; 6 were wanted."),
    ([1.0, 2.0, 3.0, 4.0, 5.0, float("nan")], "item.v holds nan among its 6 numbers; finite ones of 32 bits were wanted."),
    ("1 2 3 4 5 -inf", "item.v holds -inf among its 6 numbers; finite ones of 32 bits were wanted."),
    ("deep red", "item.v is 'deep red'; a vector of 6 numbers, or nothing, was wanted."),
    ([1.0, None], "item.v is [1.0, None]; a vector of 6 numbers, or nothing, was wanted."),
    ([[1.0], [2.0]], "item.v is [[1.0], [2.0]]; a vector of 6 numbers, or nothing, was wanted."),
    (5, "item.v is 5; a vector of 6 numbers, or nothing, was wanted."),
]


@pytest.mark.parametrize(("bad", "message"), NO_VECTOR)
def test_a_new_item_with_no_vector_of_this_width(scorer: Scorer, bad: Any, message: str) -> None:
    size, good = scorer.encoding.catalogue.size, {"id": "good", "v": [0.0] * WIDTH}
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        scorer.add_items([good, {"id": "bad", "v": bad}])
    assert scorer.encoding.catalogue.size == size  # none of them was added
    scorer.add_items([good])
    assert scorer.encoding.catalogue.size == size + 1


CELLS = [
    ("1 2 3", "is no vector of 2 numbers, as most are,"),
    ("7", "is no vector of 2 numbers, as most are,"),
    ("nan 1", "is no vector of finite numbers"),
    ("1 Infinity", "is no vector of finite numbers"),
    ("1e39 0", "is no vector of finite numbers"),
    ("red", "is no vector of finite numbers"),
]


@pytest.mark.parametrize(("cell", "why"), CELLS)
def test_a_cell_that_is_no_vector(tmp_path: Path, cell: str, why: str) -> None:
    files = {"events.csv": HEADER + f"a,x,{NOW}\n", "items.csv": f"item,v\nx,1 2\ny,3 4\nz,{cell}\n"}
    said = refused(DataError, tmp_path, files, schema_with())
    assert said == f"items.csv: column 'v' {why} in 1 row: line 4: {cell!r}."


@pytest.mark.parametrize(
    ("bad", "shown", "why"),
    [
        ([1.0, 2.0, 3.0], "[1.0,2.0,3.0]", "is no vector of 2 numbers, as most are,"),
        ([1.0, None], "[1.0,null]", "is no vector of finite numbers"),
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_list_that_is_no_vector(tmp_path: Path, form: str, bad: list[float | None], shown: str, why: str) -> None:
    lists = [[1.0, 2.0], [3.0, 4.0], bad]
    rows = [{"item": item, "v": values} for item, values in zip("xyz", lists, strict=True)]
    content = jsonl(*rows).encode() if form == "jsonl" else parquet({"item": list("xyz"), "v": pa.array(lists, pa.list_(pa.float32()))})
    said = refused(DataError, tmp_path, {"events.csv": HEADER + f"a,x,{NOW}\n", f"items.{form}": content}, schema_with(f"items.{form}"))
    assert said == f"items.{form}: column 'v' {why} in 1 row: {'line' if form == 'jsonl' else 'row'} 3: {shown!r}."


def test_a_column_without_any_vector(tmp_path: Path) -> None:
    files = {"events.csv": HEADER + f"a,x,{NOW}\n", "items.csv": "item,v\nx,\ny,[]\n"}
    assert refused(DataError, tmp_path, files, schema_with()) == "items.csv: column 'v' has no vector in any row."


# There and back


def _csv(cells: Sequence[str]) -> bytes:
    with tempfile.TemporaryFile("w+", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["item", "v"], *([f"i{row}", cell] for row, cell in enumerate(cells))])
        file.seek(0)
        return file.read().encode()


def _json(values: Sequence[Any]) -> bytes:
    return jsonl(*({"item": f"i{row}", "v": value} for row, value in enumerate(values))).encode()


def _table(vectors: Sequence[Vector], kind: pa.DataType) -> bytes:
    return parquet({"item": [f"i{row}" for row in range(len(vectors))], "v": pa.array(vectors, kind)})


def _width(vectors: Sequence[Vector]) -> int:
    return next(len(values) for values in vectors if values is not None)


# The files that vectors may stand in: their names, and their bytes.
FORMS: dict[str, tuple[str, Callable[[Sequence[Vector]], bytes]]] = {
    "text in CSV": ("items.csv", lambda vectors: _csv(["" if v is None else numbers(v) for v in vectors])),
    "list in CSV": ("items.csv", lambda vectors: _csv(["" if v is None else json.dumps(v) for v in vectors])),
    "list in JSON": ("items.jsonl", _json),
    "text in JSON": ("items.jsonl", lambda vectors: _json([None if v is None else numbers(v) for v in vectors])),
    "float lists": ("items.parquet", lambda vectors: _table(vectors, pa.list_(pa.float32()))),
    "double lists": ("items.parquet", lambda vectors: _table(vectors, pa.list_(pa.float64()))),
    "fixed lists": ("items.parquet", lambda vectors: _table(vectors, pa.list_(pa.float32(), _width(vectors)))),
}


def lists_of(number: st.SearchStrategy[float]) -> st.SearchStrategy[list[Vector]]:
    """Vectors of one width, some of them missing, the first there."""

    def of_width(width: int) -> st.SearchStrategy[list[Vector]]:
        vector = st.lists(number, min_size=width, max_size=width)
        rest: st.SearchStrategy[list[Vector]] = st.lists(st.none() | vector, min_size=1, max_size=8)
        return st.builds(lambda first, others: [first, *others], vector, rest)

    return st.integers(1, 4).flatmap(of_width)


def bits_of(vectors: Sequence[Vector]) -> NDArray[np.float32]:
    width = _width(vectors)
    return np.array([[np.nan] * width if values is None else values for values in vectors], dtype=np.float32)


def log_of(form: str, vectors: Sequence[Vector], folder: Path) -> Log:
    """Every item happens once, in the order of the rows."""
    name, make = FORMS[form]
    events = HEADER + "".join(f"a,i{row},{NOW + row}\n" for row in range(len(vectors)))
    return made(folder, {"events.csv": events, name: make(vectors)}, schema_with(name))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=4)
@given(vectors=lists_of(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_a_log_holds_the_bits_of_any_vectors(form: str, vectors: list[Vector]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        column = log_of(form, vectors, Path(folder)).items.column("item.v")
        assert column.type == pa.list_(pa.float32(), _width(vectors))
        found = column.values.to_numpy().reshape(len(vectors), -1)
        assert found.tobytes() == bits_of(vectors).tobytes()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=4)
@given(vectors=lists_of(st.integers(-(2**20), 2**20).map(lambda number: number / 1024)), train=st.integers(1, 9))
def test_an_encoding_holds_them_as_a_request_would(form: str, vectors: list[Vector], train: int) -> None:
    """From raw to Log to Encoding, and raw to Encoding as items added later are: the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        encoding = fit_encoding(log_of(form, vectors, Path(folder)), np.arange(min(train, len(vectors))))
        raw, found = bits_of(vectors), encoding.catalogue.vector[0]
        assert np.isnan(found[0]).all()
        there = raw[:train][~np.isnan(raw[:train])].astype(np.float64)
        deviation = there.std() or 1.0
        np.testing.assert_allclose(found[1:], (raw - there.mean()) / deviation, rtol=1e-3, atol=1e-3)
        for way in (lambda v: v, numbers, json.dumps, np.array):
            (again,) = encoding.items({"v": [None if v is None else way(v) for v in vectors]}, len(vectors))[4]
            assert again.tobytes() == found[1:].tobytes()
