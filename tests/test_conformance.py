"""What every model must obey, once for each: those of MODELS, and trials that use the contract harder.

In evaluation mode unless it says otherwise, with tables of deviation 1: at initialisation a leak hides under any tolerance.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from trials import BST, DIEN, ETA, SMALL_DIN, Capsules, IaCN, IaCNConfig

from penchant.batch import Batch, History, Memory, Segments, User
from penchant.data.encoded import EncodedLog
from penchant.data.load import Loader
from penchant.encoding import Encoding
from penchant.metrics import auc
from penchant.models import MODELS, build, item_encoder
from penchant.models.deepfm import DeepFM, DeepFMConfig
from penchant.models.mf import MF
from penchant.nn.dice import Dice
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig
from penchant.nn.model import Model, score_in_chunks
from penchant.train.loss import BCE, total
from penchant.train.optimiser import Optimiser

SMALL, SMALL_DEEPFM = ItemConfig(dim=4), DeepFMConfig(hidden=(16, 8))
SIZES: dict[str, dict[str, Any]] = {
    "pooling": {"head": (16, 8), "profile": 4},
    "din": {"attention": (16, 8), "head": (16, 8), "profile": 4},
    "ncf": {"layers": (16, 16, 8)},
    "dain": {"tower": (16, 8), "field": 4},
    "wide-deep": {"hidden": (16, 8), "profile": 4, "buckets": 4096},
    "deepfm": {"hidden": (16, 8)},
}
CROSSES = (("user.id", "item.id"), ("user.town", "context.hour"), ("past.maker", "item.maker", "context.device"), ("past.id", "item.id"))


def built(name: str, **more: Any) -> Callable[[Encoding], Model]:
    return lambda encoding: build(encoding, name, {**SIZES.get(name, {}), **more}, MODELS[name].Item.model_copy(update={"dim": 4}))


def trial(kind: Callable[..., Model], *config: Any) -> Callable[[Encoding], Model]:
    return lambda encoding: kind(encoding, item_encoder(encoding, SMALL), *config)


MAKE: Mapping[str, Callable[[Encoding], Model]] = {
    **{name: built(name) for name in MODELS},
    "din softmax": built("din", normalize="softmax"),
    "din softmax_scaled": built("din", normalize="softmax_scaled"),
    "din relu": built("din", activation="relu", attention_activation="sigmoid"),
    "ncf gmf": built("ncf", parts=("gmf",)),
    "ncf mlp": built("ncf", parts=("mlp",)),
    "dain late": built("dain", fusion="late"),
    "dain onehot": built("dain", context="onehot", profile=True),
    "dain number": built("dain", context="number"),
    "dain none": built("dain", context="none", fusion="late"),
    "wide-deep crosses": built("wide-deep", crosses=CROSSES, person_id=True),
    "wide-deep no past": built("wide-deep", crosses=CROSSES[:2]),
    "deepfm no past": built("deepfm", past=False),
    "dien": trial(DIEN),
    "capsules": trial(Capsules),
    "eta": trial(ETA),
    "bst": trial(BST),
    "iacn din": trial(partial(IaCN, model_config=SMALL_DIN)),
    "iacn mf": trial(partial(IaCN, model=MF)),
    "iacn deepfm": trial(partial(IaCN, model=DeepFM, model_config=SMALL_DEEPFM)),
}
LEARN = [name for name in MAKE if name != "popularity"]  # what has parameters
EXPLAIN = [name for name in MAKE if name.startswith(("pooling", "din", "dien", "eta", "bst", "iacn din"))]
EXPLAIN += ["wide-deep", "wide-deep crosses"]
NO_GRADIENT = {  # parameters that may go without, and why
    "din softmax": {"activation.rest.2.bias"},  # a constant added to all logits leaves a softmax as it is
    "din softmax_scaled": {"activation.rest.2.bias"},
}

every_model = pytest.mark.parametrize("name", MAKE)
every_learner = pytest.mark.parametrize("name", LEARN)
PATTERNS = [[0], [0, 0, 0], [0, 3], [3, 0]]
RAGGED = [4, 0, 7, 2, 1, 0, 10]


# ------------------------------------------------------------------------------------------------------------------- help


def example(loader: Loader, length: list[int], skip: int = 0) -> np.ndarray:
    """Positions whose pasts are of these lengths, each another person's where there are enough."""
    have = loader.data.past(loader.position, loader.config.past, loader.tie)[1]
    taken: Counter[int] = Counter(dict.fromkeys(length, skip))
    out = []
    for n in length:
        found = loader.position[have == n]
        out.append(found[(taken[n] * 7) % len(found)])
        taken[n] += 1
    return np.array(out)


def of(loader: Loader, length: list[int], *, candidates: int = 5, skip: int = 0) -> Batch:
    return replace(loader, config=loader.config.model_copy(update={"negatives": candidates - 1})).batch(example(loader, length, skip), 0)


def enlarge(model: Model) -> Model:
    """Tables of deviation 1 and Dice with a leak."""
    for part in model.modules():
        if isinstance(part, Table):
            part.weight.data.normal_()
        if isinstance(part, Dice):
            part.alpha.data.fill_(0.2)
    return model


def make(name: str, loader: Loader, *, large: bool = True, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    model = MAKE[name](loader.data.encoding)
    return enlarge(model) if large else model


def warm(name: str, loader: Loader) -> Model:
    """In evaluation mode, after some steps that moved its moving averages."""
    model = make(name, loader).train()
    with torch.no_grad():
        for batch in loader.epoch(0, 128):
            model(batch)
    return model.eval()


def assert_near(actual: Tensor, expected: Tensor) -> None:
    assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def items_of(model: Model, batch: Batch) -> Tensor:
    return model.item(batch.row, batch.known)


def read(model: Model, batch: Batch) -> Memory:
    return model.read(items_of(model, batch), batch.user, batch.history)


def assert_same_memory(actual: Memory, expected: Memory) -> None:
    assert torch.equal(actual.segments.sizes, expected.segments.sizes)
    for one, other in ((actual.each, expected.each), (actual.whole, expected.whole)):
        assert one.keys() == other.keys()
        for name in one:
            assert_near(one[name].float(), other[name].float())


def no_past(requests: int, like: History) -> History:
    return like.take(torch.zeros(0, dtype=torch.int64)).__class__(
        item=like.item[:0],
        time=like.time[:0],
        action=like.action[:0],
        number=like.number[:0],
        events=Segments.of(torch.zeros(requests, dtype=torch.int64)),
    )


def gradients(model: Model) -> dict[str, Tensor | None]:
    return {n: None if p.grad is None else p.grad.to_dense() for n, p in model.named_parameters()}


# ------------------------------------------------------------------------------------------------------------------ shape


@every_model
@pytest.mark.parametrize("length", PATTERNS, ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("taken", [False, True], ids=["loaded", "taken"])
def test_empty_pasts_are_finite(name: str, length: list[int], training: bool, taken: bool, loader: Loader) -> None:
    batch = of(loader, length)
    if taken:
        whole = of(loader, [3, 0, 5])
        batch = whole.take(torch.tensor([{0: 1, 3: 0}[n] for n in length]))
    assert batch.history.events.sizes.tolist() == length
    model = warm(name, loader).train(training)
    output = model(batch)
    assert output.logit.shape == batch.item.shape
    assert output.logit.dtype == torch.float32
    assert output.logit.isfinite().all()
    assert all(loss.isfinite() and loss.dim() == 0 for loss in output.losses.values())
    if name in LEARN:
        total(output, batch).backward()
        assert all(g is None or g.isfinite().all() for g in gradients(model).values())


@every_model
def test_alone_is_together(name: str, loader: Loader) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    whole = model(batch, explain=True)
    for r in range(batch.requests):
        alone = model(batch.take(torch.tensor([r])), explain=True)
        assert_near(alone.logit, whole.logit[r : r + 1])
        mine = batch.history.events.row == r
        for field in ("attention", "member"):
            if getattr(whole, field) is not None:
                assert_near(getattr(alone, field), getattr(whole, field)[mine])
        if whole.interest is not None:
            assert_near(alone.interest, whole.interest[r : r + 1])


@every_model
def test_the_order_of_a_batch_changes_nothing(name: str, loader: Loader) -> None:
    model, batch, order = warm(name, loader), of(loader, RAGGED), torch.tensor([6, 5, 3, 0, 1, 4, 2])
    assert_near(model(batch.take(order)).logit, model(batch).logit[order])


@every_model
def test_many_candidates_are_one_at_a_time(name: str, loader: Loader) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    whole, items, memory = model(batch, explain=True), items_of(model, batch), read(model, batch)
    for c in range(batch.item.shape[1]):
        one = model.score(items, memory, batch.candidates(slice(c, c + 1)), explain=True)
        assert_near(one.logit, whole.logit[:, c : c + 1])
        if whole.attention is not None:
            assert_near(one.attention, whole.attention[:, c : c + 1])
    index = torch.randint(batch.item.shape[1], (batch.requests, 9))
    assert_near(model.score(items, memory, batch.candidates(index)).logit, whole.logit.gather(1, index))


@every_model
@pytest.mark.parametrize("budget", [1, 100_000, 64 << 20])
def test_chunks_change_nothing(name: str, budget: int, loader: Loader) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    assert_near(score_in_chunks(model, items_of(model, batch), read(model, batch), batch, budget=budget), model(batch).logit)


@every_model
def test_the_whole_catalogue_may_be_asked_about(name: str, loader: Loader) -> None:
    model, position = warm(name, loader), example(loader, RAGGED)
    everything = np.arange(loader.data.encoding.catalogue.size)
    batch = loader.assemble(position, np.broadcast_to(everything, (len(position), len(everything))))
    logit = model(batch).logit
    assert logit.isfinite().all()
    some = loader.assemble(position, np.broadcast_to(everything[[0, 5, 40]], (len(position), 3)))
    assert_near(model(some).logit, logit[:, [0, 5, 40]])
    assert_near(score_in_chunks(model, items_of(model, batch), read(model, batch), batch, budget=1_000_000), logit)


# ----------------------------------------------------------------------------------------------------------------- memory


@every_model
def test_memory_knows_no_candidate_and_no_batch_mate(name: str, loader: Loader) -> None:
    model, position = warm(name, loader), example(loader, RAGGED)
    memory = read(model, loader.assemble(position, np.full((len(position), 1), 1)))
    other = loader.assemble(position[[2, 0]], np.tile(np.arange(1, 60), (2, 1)))
    other = replace(other, context=other.context * 0, number=other.number + 1, time=other.time * 2)
    assert_same_memory(read(model, other), Memory.join([read_alone(model, loader, position[2]), read_alone(model, loader, position[0])]))
    assert_same_memory(memory, Memory.join([read_alone(model, loader, p) for p in position]))


def read_alone(model: Model, loader: Loader, position: int) -> Memory:
    return read(model, loader.assemble(np.array([position]), np.full((1, 2), 3)))


@every_model
def test_score_reads_no_history(name: str, loader: Loader) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    memory, items = read(model, batch), items_of(model, batch)
    expected = model.score(items, memory, batch).logit
    for history in (no_past(batch.requests, batch.history), batch.history.take(torch.tensor([2] * batch.requests))):
        output = model.score(items, memory, replace(batch, history=history))
        assert torch.equal(output.logit, expected)
        assert not output.losses


@every_model
def test_kept_memories_join_and_answer_new_questions(name: str, loader: Loader) -> None:
    """What a server does: memories of several moments ago, each read alone; other candidates."""
    model, position = warm(name, loader), example(loader, RAGGED)
    memory = Memory.join([read_alone(model, loader, p) for p in position])
    item = np.random.default_rng(0).integers(0, loader.data.encoding.catalogue.size, (len(position), 12))
    batch = loader.assemble(position, item)
    asked = replace(batch, history=no_past(batch.requests, batch.history))
    assert_near(model.score(items_of(model, batch), memory, asked).logit, model(batch).logit)
    assert memory.bytes > 0


@every_model
def test_nothing_but_a_request_s_own_is_read(name: str, loader: Loader) -> None:
    """All that is not of request r is made NaN, or ids of others; its logits stay."""
    model, batch = warm(name, loader), of(loader, RAGGED)
    whole = model(batch)
    for r in range(batch.requests):
        mine, events = torch.arange(batch.requests) == r, batch.history.events
        own = events.row == r
        items = items_of(model, batch).detach()
        used = torch.zeros(len(items), dtype=torch.bool)
        used[batch.history.item[own]] = used[batch.item[r]] = True
        items = torch.where(used[:, None], items, torch.nan)
        history = replace(
            batch.history,
            time=torch.where(own, batch.history.time, 0),
            action=torch.where(own[:, None], batch.history.action, 0),
            number=torch.where(own[:, None], batch.history.number, torch.nan),
            other=None,
        )
        alone = replace(
            batch,
            user=User(code=torch.where(mine[:, None], batch.user.code, 0), number=torch.where(mine[:, None], batch.user.number, torch.nan)),
            context=torch.where(mine[:, None], batch.context, 0),
            number=torch.where(mine[:, None], batch.number, torch.nan),
            time=torch.where(mine, batch.time, 0),
            history=history,
            negative=None,
            label=None,
        )
        assert_near(model.score(items, model.read(items, alone.user, history), alone).logit[r], whole.logit[r])


# --------------------------------------------------------------------------------------------------------------- learning


@every_learner
def test_every_parameter_gets_a_gradient(name: str, loader: Loader) -> None:
    model = make(name, loader).train()
    for batch in loader.epoch(0, 256):
        total(model(batch), batch).backward()
    found = gradients(model)
    greatest = max(float(g.abs().max()) for g in found.values() if g is not None)
    dead = {n for n, g in found.items() if g is None or float(g.abs().max()) < 1e-6 * greatest}
    assert dead == NO_GRADIENT.get(name, set())


@every_learner
def test_tables_have_sparse_gradients(name: str, loader: Loader) -> None:
    """But for the one that is the whole of a vocabulary's use, a table's step must cost what its batch has, not its size."""
    model, batch = make(name, loader).train(), of(loader, RAGGED)
    total(model(batch), batch).backward()
    assert all(part.weight.grad.is_sparse for part in model.modules() if isinstance(part, Table) and part.weight.grad is not None)


@every_learner
def test_a_handful_can_be_learned_by_heart(name: str, loader: Loader) -> None:
    model, batch = make(name, loader, large=False).train(), of(loader, [3, 0, 5, 1, 8, 2], candidates=3)
    batch = replace(batch, known=torch.ones_like(batch.known))  # two items with UNKNOWN's id cannot be told apart by a model of ids
    optimiser = Optimiser(model, rate=0.01, table_rate=0.05)
    loss = np.inf
    for _ in range(400):
        optimiser.zero_grad()
        output = model(batch)
        total(output, batch).backward()
        optimiser.step()
        loss = float(BCE()(output, batch).detach())
        if loss < 0.02:
            break
    assert loss < 0.05
    assert auc(output.logit.detach().reshape(-1).numpy(), batch.label.reshape(-1).numpy()) == 1


@every_model
def test_saved_and_loaded_it_says_the_same_bits(name: str, loader: Loader, tmp_path: Path) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other = make(name, loader, seed=99).eval()
    if name in LEARN:
        assert not torch.equal(other(batch).logit, model(batch).logit)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(batch).logit, model(batch).logit)


@every_learner
def test_same_seed_same_bits(name: str, loader: Loader) -> None:
    def run() -> Tensor:
        model = make(name, loader, large=False, seed=3).train()
        optimiser = Optimiser(model, rate=0.01, table_rate=0.01)
        for batch in loader.epoch(1, 256):
            optimiser.zero_grad()
            total(model(batch), batch).backward()
            optimiser.step()
        return model.eval()(of(loader, RAGGED)).logit

    assert torch.equal(run(), run())


@every_learner
def test_bfloat16_stays_close(name: str, loader: Loader) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch).logit
    exact = model(batch).logit
    assert half.dtype == torch.float32
    assert_close(half, exact, rtol=0.1, atol=0.1 * float(exact.detach().std()))
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(model(batch), batch)
    loss.backward()
    assert loss.isfinite()
    assert all(g is None or g.isfinite().all() for g in gradients(model).values())


WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "equal"}
HOST = {"of", "sizes", "longest", "_steps"}  # of Segments: they work in host memory, where nothing is waited for


class Spy(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        waits = name in WAITS
        if name == "repeat_interleave":
            waits = not kwargs.get("output_size") and not (len(args) > 1 and isinstance(args[1], int))
        if name in ("index", "index_put", "index_put_"):
            waits = any(i is not None and i.dtype == torch.bool for i in args[1])
        if waits:
            stack = traceback.extract_stack()[:-1]
            frame = next(f for f in reversed(stack) if "/torch/" not in f.filename)
            on_host = frame.filename.endswith("penchant/batch.py") and frame.name in HOST
            of_pack = any(f.filename.endswith("torch/nn/modules/rnn.py") for f in stack)  # reads a pack's sizes, on the host too
            if not on_host and not of_pack:
                self.seen[name, f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"] += 1
        return func(*args, **kwargs)


@every_learner
def test_no_step_waits_for_the_device(name: str, loader: Loader) -> None:
    model, batch = make(name, loader).train(), of(loader, RAGGED)
    with Spy() as spy:
        total(model(batch), batch).backward()
    assert not spy.seen


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
    model, batch = make("dien", loader).train(), of(loader, [4, 0, 7, 2, 1, 9])
    later = (batch.history.events.sizes - 1).clamp(min=0).float()
    each = torch.stack([model(batch.take(torch.tensor([r]))).losses["next"] for r in range(batch.requests)])
    assert_near((each * later).sum() / later.sum(), model(batch).losses["next"])


def test_the_interest_loss_of_each_alone_adds_up(loader: Loader) -> None:
    model, batch = make("iacn mf", loader).train(), of(loader, [4, 0, 7, 2, 1, 9])
    counts = (batch.history.events.sizes > 0).float()
    each = torch.stack([model(batch.take(torch.tensor([r]))).losses["interest"] for r in range(batch.requests)])
    assert_near((each * counts).sum() / counts.sum(), model(batch).losses["interest"])


@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
def test_iacn_mixes_the_gradients_of_its_extra_table(delta: float, loader: Loader) -> None:
    batch, table = of(loader, RAGGED), "model.item.extra.table.weight"

    def gradient(share: float, main: float, interest: float) -> Mapping[str, Tensor | None]:
        torch.manual_seed(1)
        encoding = loader.data.encoding
        model = enlarge(IaCN(encoding, item_encoder(encoding, SMALL), IaCNConfig(delta=share), model_config=SMALL_DIN)).train()
        output = model(batch)
        (main * total(replace(output, losses={}), batch) + interest * output.losses["interest"]).backward()
        return gradients(model)

    mixed, main, interest = gradient(delta, 1, 1), gradient(1, 1, 0), gradient(0, 0, 1)
    assert_near(mixed[table], delta * main[table] + (1 - delta) * interest[table])
    assert_near(mixed["transform.weight"], interest["transform.weight"])  # what is not shared is not scaled
    for n in ("model.item.item.id.weight", "model.head.request.weight"):
        assert_near(mixed[n], main[n])


# ------------------------------------------------------------------------------------------------------------- catalogue


@every_model
def test_an_item_added_after_training(name: str, loader: Loader) -> None:
    """It is scored by its attributes, its id UNKNOWN: as an old item of the same attributes whose id is not known. Old scores stay."""
    model, encoding, log, position = warm(name, loader), loader.data.encoding, loader.data.log, example(loader, RAGGED)
    (twin,), size = encoding.catalogue.items.encode(["i10"]), encoding.catalogue.size
    kept = loader.assemble(position, np.full((len(position), 1), twin))
    before = model(kept).logit
    with_new = encoding.with_items([raw_item("i10", "new"), {"id": "bare"}])
    model.item.extend(with_new.catalogue)
    assert torch.equal(model(kept).logit, before)
    grown = replace(loader, data=EncodedLog(log, with_new))
    batch = grown.assemble(position, np.tile([size, size + 1, twin], (len(position), 1)))
    assert batch.known[batch.item[0]].tolist() == [False, False, True]
    logit = model(batch).logit
    assert logit.isfinite().all()
    assert_near(logit[:, 2:], before)
    if name != "popularity":  # which goes by how often an item happened, and so tells the twins apart
        met = kept.history.events.sum((kept.row[kept.history.item] == twin).float()) > 0  # a past that holds the twin would change too
        assert not met.all()
        assert_near(logit[~met, :1], model(replace(kept, known=kept.known & (kept.row != twin))).logit[~met])


def raw_item(like: str, id: str) -> dict[str, Any]:
    """What the world's items.csv says of an item, under another id."""
    number = int(like[1:])
    tags = [f"tag{(number * step) % 7}" for step in range(1, 1 + number % 4)]
    return {"id": id, "title": "New", "maker": f"maker{number % 6}", "tags": tags, "price": 1 + number}


# ------------------------------------------------------------------------------------------------------------ explanation


@every_model
def test_attention_is_made_only_when_asked_for(name: str, loader: Loader) -> None:
    model, batch = warm(name, loader), of(loader, RAGGED)
    plain, explained = model(batch), model(batch, explain=True)
    assert {f.name for f in fields(plain) if isinstance(getattr(plain, f.name), Tensor)} == {"logit"}
    assert torch.equal(plain.logit, explained.logit)
    if name in EXPLAIN:
        assert explained.attention.shape == (batch.history.events.total, batch.item.shape[1])
        assert explained.attention.dtype == torch.float32
    for value, first in ((explained.interest, batch.item.shape), (explained.member, (batch.history.events.total,))):
        assert value is None or value.shape[: len(first)] == first
