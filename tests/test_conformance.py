"""What every model must obey, once for each: those of MODELS, and trials that use the contract harder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from trials import ETA

from penchant.batch import Batch, History, Segments
from penchant.conformance.check import ask
from penchant.conformance.laws import LAWS, PATTERNS, RAGGED, Subject
from penchant.conformance.spy import Spy
from penchant.conformance.world import raw_item
from penchant.data.encoded import EncodedLog
from penchant.data.load import Loader
from penchant.encoding import Encoding
from penchant.models import LONG, MODELS, build, item_encoder
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model

SMALL = ItemConfig(dim=4)
SIZES: dict[str, dict[str, Any]] = {
    "pooling": {"head": (16, 8), "profile": 4},
    "din": {"attention": (16, 8), "head": (16, 8), "profile": 4},
    "dien": {"head": (16, 8), "profile": 4},
    "dsin": {"heads": 2, "head": (16, 8), "profile": 4},
    "gru": {"head": (16, 8), "profile": 4},
    "hrnn": {"head": (16, 8), "profile": 4},
    "bst": {"heads": 2, "head": (16, 8), "profile": 4},
    "sasrec": {"heads": 2, "longest": 6, "negatives": 5},
    "ncf": {"layers": (16, 16, 8)},
    "amp": {"personas": 3},
    "dain": {"tower": (16, 8), "field": 4},
    "wide-deep": {"hidden": (16, 8), "profile": 4, "buckets": 4096},
    "deepfm": {"hidden": (16, 8)},
}
CROSSES = (("user.id", "item.id"), ("user.town", "context.hour"), ("past.maker", "item.maker", "context.device"), ("past.id", "item.id"))


def built(name: str, **more: Any) -> Callable[[Encoding], Model]:
    return lambda encoding: build(encoding, name, {**SIZES.get(name, {}), **more}, MODELS[name].Item.model_copy(update={"dim": 4}))


def wrapped(name: str, auxiliary: str, **more: Any) -> Callable[[Encoding], Model]:
    def make(encoding: Encoding) -> Model:
        item = MODELS[name].Item.model_copy(update={"dim": 4})
        return build(encoding, name, SIZES.get(name, {}), item, {"name": auxiliary, **more})

    return make


def long(name: str, how: str, **more: Any) -> Callable[[Encoding], Model]:
    """Ways that find something to leave out in pasts of ten events."""
    keys: dict[str, Any] = {} if how == "recent" else {"recent": 2}
    keys |= {"nearest": 3} if how in ("sim-hard", "sim-soft", "eta") else {}
    keys |= {"recent": {"most": 4}, "sample": {"most": 3}, "sparse": {"most": 2, "stride": 3}, "chunks": {"size": 3}}.get(how, {})
    keys |= {"low-rank": {"rank": 2}, "sdim": {"bits": 12}, "linear": {"width": 3}, "sim-soft": {"nearest": 3, "head": (8,)}}.get(how, {})
    item = MODELS[name].Item.model_copy(update={"dim": 4})
    auxiliary = {"name": "iacn"} if more.pop("iacn", False) else None
    return lambda encoding: build(encoding, name, SIZES.get(name, {}), item, auxiliary, {"name": how, **keys, **more})


def trial(kind: Callable[..., Model], *config: Any) -> Callable[[Encoding], Model]:
    return lambda encoding: kind(encoding, item_encoder(encoding, SMALL), *config)


MAKE: Mapping[str, Callable[[Encoding], Model]] = {
    **{name: built(name) for name in MODELS},
    "din softmax": built("din", normalize="softmax"),
    "din softmax_scaled": built("din", normalize="softmax_scaled"),
    "din relu": built("din", activation="relu", attention_activation="sigmoid"),
    "ncf gmf": built("ncf", parts=("gmf",)),
    "ncf mlp": built("ncf", parts=("mlp",)),
    "amp alone": built("amp", personas=1),
    "amp entropy": built("amp", attention_dim=3, temperature=5.0, chosen_entropy=0.5, other_entropy=0.2),
    "dain late": built("dain", fusion="late"),
    "dain onehot": built("dain", context="onehot", profile=True),
    "dain number": built("dain", context="number"),
    "dain none": built("dain", context="none", fusion="late"),
    "wide-deep crosses": built("wide-deep", crosses=CROSSES, person_id=True),
    "wide-deep no past": built("wide-deep", crosses=CROSSES[:2]),
    "deepfm no past": built("deepfm", past=False),
    "dien authors": built("dien", evolution="augru_authors", reset="before", attention_score="mlp", auxiliary_score="mlp", past_sum=True),
    "dien agru": built("dien", evolution="agru", auxiliary_score="mlp", hidden=6),
    "dien aigru": built("dien", evolution="aigru"),
    "dsin authors": built("dsin", encoding="sinusoid", attention="authors", interaction="authors", activating="mlp"),
    "dsin mlp": built("dsin", activating="mlp", places=3, sessions=2),
    "dsin alone": built("dsin", interaction="none"),
    "gru after": built("gru", reset="after", hidden=6),
    "hrnn both": built("hrnn", output="both", reset="after", hidden=6),
    "hrnn none": built("hrnn", start="none", output="both"),
    "dien no auxiliary": built("dien", auxiliary=0.0, hidden=6, reset="before"),
    "bst place": built("bst", position="place", longest=6, heads=3, hidden=5),
    "sasrec authors": built("sasrec", block="authors", embedding="authors", loss="cross_entropy"),
    "sasrec hstu": built("sasrec", block="hstu"),
    "sasrec sampled": built("sasrec", loss="sampled", blocks=1),
    "mind softmax": built("mind", read_out="softmax", power=2.0, adaptive=False, first="content", hidden=(8,)),
    "mind pow": built("mind", read_out="pow", power=2.0, rectify=False, through="last", rounds=2),
    "eta": trial(ETA),
    **{f"iacn {name}": wrapped(name, "iacn", **({"extra": 2} if name == "amp" else {})) for name in MODELS if name != "popularity"},
    "iacn plain": wrapped("din", "iacn", mix="plain", weight=0.3, extra=3, attributes=False, read_out="softmax"),
    "iacn request": wrapped("din", "iacn", negatives=0),
    "wider din": wrapped("din", "wider", extra=2),
    **{f"{how} din": long("din", how) for how in LONG},
    **{f"{how} {name}": long(name, how) for how in ("sparse", "chunks") for name in ("dsin", "sasrec", "mind")},
    **{f"{how} {name}": long(name, how) for how in ("eta", "sdim") for name in ("dien", "bst", "mind")},
    "eta alone": long("din", "eta", recent=0),
    "linear alone": long("din", "linear", recent=0),
    "chunks of sessions": long("din", "chunks", by="session"),
    "iacn sim-soft din": long("din", "sim-soft", iacn=True),
    "iacn sim-hard din": long("din", "sim-hard", iacn=True),
}
LEARNED = {"gradients", "sparse tables", "by heart", "same seed", "bfloat16", "no waiting"}  # laws of what has parameters
FURTHER = [
    name for name in MAKE if name.startswith(("dien", "sasrec", "iacn", "mind")) and name != "dien no auxiliary"
]  # what has further losses
FURTHER += ["amp entropy", "sim-soft din"]
FURTHER += [
    f"{how} {name}" for how in ("sparse", "chunks", "eta", "sdim") for name in ("dien", "sasrec", "mind") if f"{how} {name}" in MAKE
]
RETRIEVE = [name for name in MAKE if name.startswith(("mf", "amp", "sasrec", "mind", "iacn"))]
EXPLAIN = [name for name in MAKE if name.startswith(("pooling", "din", "dien", "dsin", "eta", "bst", "sasrec", "mind"))]
EXPLAIN += ["wide-deep", "wide-deep crosses", "chunks of sessions"]
EXPLAIN += [name for name in MAKE if name.startswith(("recent", "sample", "sparse", "chunks", "sim-"))]
SLOW = [  # what stands around many models, beyond the first few
    name
    for name in MAKE
    if (
        name.startswith("iacn ")
        and name.removeprefix("iacn ") in MODELS
        and name not in ("iacn din", "iacn dien", "iacn mf", "iacn sasrec")
    )
    or name
    in (
        "sparse mind",
        "chunks mind",
        "sparse sasrec",
        "sdim dien",
        "sdim mind",
        "eta bst",
        "eta mind",
        "sample din",
        "linear alone",
    )
]


# The laws, each as a whole but for two that take most of the time and are asked a case at a time.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((law, {}) for law in LAWS if law not in ("empty pasts", "chunks")),
    *(
        ("empty pasts", {"lengths": [length], "training": [training], "taken": [taken]})
        for length, training, taken in product(PATTERNS, (False, True), (False, True))
    ),
    *(("chunks", {"budgets": [budget]}) for budget in (1, 100_000, 64 << 20)),
]


def subject(name: str, loader: Loader) -> Subject:
    return Subject(build=MAKE[name], loader=loader, explains=name in EXPLAIN)


def of(loader: Loader, length: list[int], *, candidates: int = 5) -> Batch:
    return subject("mf", loader).batch(length, candidates=candidates)


def assert_near(actual: Tensor | None, expected: Tensor | None) -> None:
    assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def applies(law: str, name: str) -> bool:
    asked = {"further losses": FURTHER, "retrieval": RETRIEVE}.get(law, MAKE)
    return not (law in LEARNED and name == "popularity") and name in asked


@pytest.mark.parametrize(
    ("name", "law", "case"),
    [
        pytest.param(
            name,
            law,
            case,
            id="-".join([name, law, *(str(value[0]) for value in case.values())]),
            marks=[pytest.mark.slow] if name in SLOW else [],
        )
        for law, case in CASES
        for name in MAKE
        if applies(law, name)
    ],
)
def test_a_law_holds(name: str, law: str, case: dict[str, Any], loader: Loader) -> None:
    result = ask(law, subject(name, loader), **case)
    assert result.outcome == "ok", result.words


# ------------------------------------------------------------------------------------------------------- what laws stand on


def test_pasts_are_of_the_lengths_asked_for(loader: Loader) -> None:
    for length in (*PATTERNS, RAGGED):
        assert of(loader, length).history.events.sizes.tolist() == length


def test_a_new_item_has_an_old_twin(loader: Loader) -> None:
    """Of the same attributes; most people of the batch that is asked never met it. The new ones' ids are not known."""
    asked, encoding = subject("mf", loader), loader.data.encoding
    (twin,), size = encoding.catalogue.items.encode(["i10"]), encoding.catalogue.size
    with_new = encoding.with_items([raw_item("i10", "new"), {"id": "bare"}])
    for values in (with_new.catalogue.code[:, 1:], with_new.catalogue.number, *with_new.catalogue.many):
        assert np.array_equal(values[twin], values[size])
    grown = replace(asked, loader=replace(loader, data=EncodedLog(loader.data.log, with_new)))
    batch = grown.asked(grown.position(RAGGED), np.array([size, size + 1, twin]))
    assert batch.known[batch.item[0]].tolist() == [False, False, True]
    met = batch.history.events.sum((batch.row[batch.history.item] == twin).float()) > 0
    assert int(met.sum()) < len(RAGGED) / 2


@pytest.mark.parametrize(
    "wait",
    [lambda x: int(x.sum()), lambda x: x[x > 1], lambda x: x.nonzero(), lambda x: x.unique(), lambda x: x.repeat_interleave(x)],
    ids=["item", "mask", "nonzero", "unique", "repeat_interleave"],
)
def test_the_spy_sees_a_wait(wait: Callable[[Tensor], Any]) -> None:
    with Spy() as spy:
        wait(torch.tensor([2, 0, 1]))
    assert spy.seen


# ------------------------------------------------------------------------------------------------------------- long pasts


class Greatest(TorchDispatchMode):
    """The bytes of the largest tensor that was made."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, Tensor):
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("length", [[5000], [5000, 0, 40]], ids=str)
def test_a_long_past_makes_no_tensor_of_pairs_through_hashing(length: list[int], loader: Loader) -> None:
    encoding = loader.data.encoding
    model = ETA(encoding, item_encoder(encoding, ItemConfig(dim=16))).eval()
    batch = of(loader, [0] * len(length), candidates=200)
    events = Segments.of(torch.tensor(length))
    past = torch.randint(len(batch.row), (events.total,))
    nothing = torch.zeros(events.total, 1, dtype=torch.int64)
    history = History(item=past, time=nothing[:, 0], action=nothing, number=nothing.float().expand(-1, 2), events=events)
    batch = replace(batch, history=history)
    with Greatest() as greatest, torch.no_grad():
        logit = model(batch).logit
    assert logit.isfinite().all()
    assert greatest.bytes <= 8 * len(length) * max(length) * 200 < 4 * events.total * 200 * model.item.dim / 4
    with Greatest() as seen:
        torch.zeros(10, 10).sum()
    assert seen.bytes == 400


# ----------------------------------------------------------------------------------------------------------------- losses


def test_the_next_item_loss_of_each_alone_adds_up(loader: Loader) -> None:
    model, batch = subject("dien", loader).make().train(), of(loader, [4, 0, 7, 2, 1, 9])
    later = (batch.history.events.sizes - 1).clamp(min=0).float()
    each = torch.stack([model(batch.take(torch.tensor([r]))).losses["next"] for r in range(batch.requests)])
    assert_near((each * later).sum() / later.sum(), model(batch).losses["next"])


@pytest.mark.parametrize(("name", "loss"), [("iacn mf", "auxiliary"), ("iacn request", "auxiliary"), ("mind", "interest")])
def test_the_interest_loss_of_each_alone_adds_up(name: str, loss: str, loader: Loader) -> None:
    model, batch = subject(name, loader).make().train(), of(loader, [4, 0, 7, 2, 1, 9])
    each = torch.stack([model(batch.take(torch.tensor([r]))).losses[loss] for r in range(batch.requests)])
    assert_near(each.mean(), model(batch).losses[loss])
