"""What sets NCF, DAIN, Wide & Deep and DeepFM apart: pre-training, fusion, crosses, and what each refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from penchant.batch import Batch, History, Segments, Shown, User
from penchant.data.load import Loader
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.models import build
from penchant.models.dain import DAIN
from penchant.models.ncf import NCF
from penchant.models.wide_deep import WideDeep
from penchant.nn.embedding import Crossed, Table
from penchant.nn.item import CatalogueEncoder, Coded, ItemConfig, item_encoder
from penchant.nn.mlp import Split, Tower
from penchant.nn.model import Model
from penchant.train.loss import total
from penchant.train.optimiser import Optimiser


def made(encoding: Encoding, name: str, *, seed: int = 0, item: ItemConfig | None = None, **config: Any) -> Any:
    torch.manual_seed(seed)
    return build(encoding, name, config, item, where="run")


def random(model: Any, std: float = 0.4) -> Any:
    for parameter in model.parameters():
        parameter.data.normal_(std=std)
    return model.eval()


def a_batch(loader: Loader) -> Batch:
    return loader.batch(loader.position[::40], 0)


def refused(encoding: Encoding, name: str, **config: Any) -> str:
    with pytest.raises(ConfigError) as error:
        made(encoding, name, **config)
    return str(error.value)


# -------------------------------------------------------------------------------------------------------------------- NCF


def test_ncf_starts_as_the_authors_have_it(encoding: Encoding) -> None:
    model = made(encoding, "ncf")
    assert [table.embedding_dim for table in model.modules() if isinstance(table, Table)] == [8, 32, 8, 32]
    for table in (part for part in model.modules() if isinstance(part, Table)):
        assert not table.weight[0].any()
        assert float(table.weight[1:].detach().std()) == pytest.approx(0.01, rel=0.1)
    assert [tuple(layer.weight.shape) for layer in (*model.tower.rest, model.out) if isinstance(layer, nn.Linear)] == [
        (16, 32),
        (8, 16),
        (1, 16),
    ]
    assert model.tower.first.request.weight.shape == model.tower.first.candidate.weight.shape == (32, 32)
    limit = (3 / 16) ** 0.5  # of a uniform distribution whose variance is 1 / 16
    drawn = torch.cat([made(encoding, "ncf", seed=seed).out.weight[0].detach() for seed in range(40)])
    assert 0.95 * limit < float(drawn.abs().max()) <= limit
    assert float(drawn.var()) == pytest.approx(1 / 16, rel=0.1)
    assert model.out.bias.item() == 0


def test_a_person_never_seen_is_scored_by_the_tower_alone(loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "ncf"), a_batch(loader)
    random(model)
    for table in model.people.values():
        table.weight.data[0] = 0
    nobody = replace(batch, user=replace(batch.user, code=torch.zeros_like(batch.user.code)))
    logit = model(nobody).logit
    assert logit.isfinite().all()
    same = batch.item.flatten()[:, None] == batch.item.flatten()
    assert same.sum() > len(same)  # some item is asked about twice, of two people
    assert_close(logit.flatten()[:, None].expand(same.shape)[same], logit.flatten().expand(same.shape)[same])


def trained_halves(encoding: Encoding, **config: Any) -> tuple[NCF, NCF]:
    return (
        random(made(encoding, "ncf", seed=1, parts=["gmf"], **config)),
        random(made(encoding, "ncf", seed=2, parts=["mlp"], **config)),
    )


@pytest.mark.parametrize("order", [1, -1], ids=["gmf first", "mlp first"])
def test_ncf_starts_from_the_mean_of_its_halves(order: int, loader: Loader) -> None:
    encoding, batch = loader.data.encoding, a_batch(loader)
    gmf, mlp = trained_halves(encoding)
    model = made(encoding, "ncf").eval()
    before = model(batch).logit
    model.start_from([gmf, mlp][::order])
    assert_close(model(batch).logit, (gmf(batch).logit + mlp(batch).logit) / 2, rtol=1e-4, atol=1e-5)
    assert_close(model.out.weight, torch.cat([gmf.out.weight, mlp.out.weight], 1) / 2)
    assert_close(model.out.bias, (gmf.out.bias + mlp.out.bias) / 2)
    assert not torch.equal(model(batch).logit, before)
    gmf.out.weight.data.zero_()  # what was taken over is a copy
    assert not torch.equal(model(batch).logit, mlp(batch).logit / 2)


@pytest.mark.parametrize("name", ["mf", "din", "ncf", "deepfm"])
def test_a_model_starts_from_one_of_its_kind(name: str, loader: Loader) -> None:
    encoding, batch = loader.data.encoding, a_batch(loader)
    trained, model = random(made(encoding, name)), made(encoding, name, seed=1).eval()
    model.start_from([trained])
    assert torch.equal(model(batch).logit, trained(batch).logit)
    for parameter in trained.parameters():
        parameter.data.zero_()
    assert model(batch).logit.any()


def test_a_half_starts_from_the_same_half(loader: Loader) -> None:
    encoding, batch = loader.data.encoding, a_batch(loader)
    gmf, _ = trained_halves(encoding)
    model = made(encoding, "ncf", parts=["gmf"]).eval()
    model.start_from([gmf])
    assert torch.equal(model(batch).logit, gmf(batch).logit)


def test_what_no_model_starts_from(encoding: Encoding) -> None:
    def said(model: Model, *others: Model) -> str:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ConfigError) as error:
            model.start_from(others)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return str(error.value)

    mf, small, ncf = made(encoding, "mf"), made(encoding, "mf", item=ItemConfig(attributes=False, dim=4)), made(encoding, "ncf")
    gmf, mlp = trained_halves(encoding)
    people, items = encoding.users.size, encoding.catalogue.size
    assert said(mf) == "MF starts from one trained MF; what was given is nothing."
    assert said(mf, mf, mf) == "MF starts from one trained MF; what was given is MF, MF."
    assert said(mf, ncf) == "MF starts from one trained MF; what was given is NCF."
    assert said(mf, small) == (
        "what was trained does not fit the MF that starts from it: "
        f"item.item.id.weight is [{items}, 4], not [{items}, 32]; user.weight is [{people}, 4], not [{people}, 32]."
    )
    both = "an NCF of ['gmf', 'mlp'] starts from another, or from one of ['gmf'] and one of ['mlp']; what was given is"
    assert said(ncf, gmf, gmf) == f"{both} an NCF of ['gmf'] and an NCF of ['gmf']."
    assert said(ncf, gmf, mlp, mlp) == f"{both} an NCF of ['gmf'] and an NCF of ['mlp'] and an NCF of ['mlp']."
    assert said(ncf, mf) == f"{both} MF."
    assert said(ncf) == f"{both} nothing."
    assert said(gmf, gmf, mlp) == "an NCF of ['gmf'] starts from another; what was given is an NCF of ['gmf'] and an NCF of ['mlp']."
    assert said(ncf, gmf) == (
        "what was trained does not fit the NCF that starts from it: "
        f"item.item.id.weight is absent, not [{items}, 8]; item.extra.table.weight is absent, not [{items}, 32]; "
        f"people.mlp.weight is absent, not [{people}, 32]; and 9 more."
    )
    _, narrow = trained_halves(encoding, layers=[32, 16, 8])
    assert said(ncf, gmf, narrow) == (
        f"what was trained does not fit the NCF that starts from it: item.extra.table.weight is [{items}, 16], not [{items}, 32]; "
        f"people.mlp.weight is [{people}, 16], not [{people}, 32]; tower.first.candidate.weight is [16, 16], not [32, 32]; and 6 more."
    )


def test_what_ncf_refuses(encoding: Encoding) -> None:
    wanted = "positive widths were wanted, the first of them even: half is the person's, half the item's."
    assert refused(encoding, "ncf", layers=[63, 8]) == f"run: model.layers is (63, 8); {wanted}"
    assert refused(encoding, "ncf", layers=[64, 0]) == f"run: model.layers is (64, 0); {wanted}"
    assert refused(encoding, "ncf", parts=["gmf", "gmf"]) == "run: model.parts is ('gmf', 'gmf'); each half once was wanted."
    assert refused(encoding, "ncf", parts=["mlp"], item=ItemConfig(dim=4)) == (
        "ncf: parts is ['mlp'], whose items have a table of their own and no attributes; add 'gmf' to use them."
    )
    assert refused(encoding, "ncf", parts=["gfm", "mlp"]) == "run: model.parts.0 is 'gfm'; input should be 'gmf' or 'mlp'."
    assert refused(encoding, "ncf", parts=[]) == "run: model.parts is (); tuple should have at least 1 item after validation, not 0."


def test_a_tower_reads_request_and_candidate_side_by_side() -> None:
    request, candidate = torch.randn(3, 2), torch.randn(3, 5, 4)
    together = torch.cat([request[:, None].expand(-1, 5, -1), candidate], -1)
    tower = Tower(2, 4, (6, 5, 3))
    first = torch.cat([tower.first.request.weight, tower.first.candidate.weight], 1)
    x = (together @ first.t() + tower.first.candidate.bias).relu()
    for layer in (part for part in tower.rest if isinstance(part, nn.Linear)):
        x = layer(x).relu()
    assert_close(tower(request, candidate), x)
    assert tower.dim == x.shape[-1] == 3
    assert Split(0, 4, 1).request is None


def test_a_split_layer_starts_as_the_whole_one_does() -> None:
    torch.manual_seed(5)
    whole = nn.Linear(6, 3)
    torch.manual_seed(5)
    split = Split(2, 4, 3)
    assert split.request is not None
    assert torch.equal(torch.cat([split.request.weight, split.candidate.weight], 1), whole.weight)
    assert torch.equal(split.candidate.bias, whole.bias)


# ------------------------------------------------------------------------------------------------------------------- DAIN


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.01])
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_dain_starts_at_the_base_rate(rate: float, fusion: str, loader: Loader) -> None:
    model = made(loader.data.encoding, "dain", base_rate=rate, fusion=fusion).eval()
    told = torch.sigmoid(model.out.candidate.bias).item()
    assert told == pytest.approx(rate)
    assert abs(float(model(a_batch(loader)).logit.mean().detach()) - float(model.out.candidate.bias.detach())) < 0.5


@pytest.mark.parametrize("context", ["embedding", "onehot", "number", "none"])
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_where_the_moment_enters(fusion: str, context: str, loader: Loader) -> None:
    """Early, it may order candidates otherwise; late, it moves all of a request alike; with none it is not read."""
    model, batch = random(made(loader.data.encoding, "dain", context=context, fusion=fusion)), a_batch(loader)
    other = replace(batch, context=batch.context.roll(1, 0), number=batch.number + 1)
    before, after = model(batch).logit, model(other).logit
    moved = after - before
    assert torch.equal(before, after) == (context == "none")
    alike = (moved - moved[:, :1]).abs().max() < 1e-4
    assert bool(alike) == (fusion == "late" or context == "none")


def test_the_profile_is_read_only_when_asked_for(loader: Loader) -> None:
    batch = a_batch(loader)
    user = User(code=torch.cat([batch.user.code[:, :1], batch.user.code[:, 1:].roll(1, 0)], 1), number=batch.user.number + 1)
    for profile in (False, True):
        model = random(made(loader.data.encoding, "dain", profile=profile))
        assert torch.equal(model(batch).logit, model(replace(batch, user=user)).logit) == (not profile)


def test_dain_without_any_context_in_the_schema(loader: Loader) -> None:
    encoding = loader.data.encoding
    events = encoding.schema.events.model_copy(update={"context": {}, "moment": ()})
    bare = replace(encoding, schema=encoding.schema.model_copy(update={"events": events}))
    batch = a_batch(loader)
    batch = replace(batch, context=batch.context[:, :0], number=batch.number[:, :0])
    for fusion in ("early", "late"):
        for context in ("embedding", "onehot", "number", "none"):
            model = made(bare, "dain", fusion=fusion, context=context)
            assert isinstance(model, DAIN)
            assert model(batch).logit.isfinite().all()


def test_what_dain_refuses(encoding: Encoding) -> None:
    assert refused(encoding, "dain", base_rate=0.0) == "run: model.base_rate is 0.0; input should be greater than 0."
    assert refused(encoding, "dain", fusion="middle") == "run: model.fusion is 'middle'; input should be 'early' or 'late'."


# ------------------------------------------------------------------------------------------------------------ Wide & Deep


def test_what_cannot_be_crossed(encoding: Encoding) -> None:
    there = (
        "user.id, user.town, context.hour, context.weekday, context.device, item.id, item.maker, past.id, past.maker"  # no tags, no numbers
    )
    for name, near in {"item.maken": "item.maker", "user.twn": "user.town", "past.idd": "past.id"}.items():
        assert refused(encoding, "wide-deep", crosses=[["item.id", name]]) == (
            f"wide-deep: the cross ['item.id', '{name}'] names '{name}'; what can be crossed is {there}. Did you mean '{near}'?"
        )
    assert refused(encoding, "wide-deep", crosses=[["user.id", "zzz"]]) == (
        f"wide-deep: the cross ['user.id', 'zzz'] names 'zzz'; what can be crossed is {there}."
    )
    few = "is not of two or more different fields."
    assert refused(encoding, "wide-deep", crosses=[["item.id"]]) == f"wide-deep: the cross ['item.id'] {few}"
    assert refused(encoding, "wide-deep", crosses=[[]]) == f"wide-deep: the cross [] {few}"
    assert refused(encoding, "wide-deep", crosses=[["item.id", "item.id"]]) == f"wide-deep: the cross ['item.id', 'item.id'] {few}"
    assert refused(encoding, "wide-deep", crosses=[["past.id", "past.maker", "item.id"]]) == (
        "wide-deep: the cross ['past.id', 'past.maker', 'item.id'] has several fields of the past; a cross has one at most."
    )
    assert refused(encoding, "wide-deep", buckets=1) == "run: model.buckets is 1; input should be greater than or equal to 2."


def test_an_unknown_id_has_no_crossed_weight_and_learns_none() -> None:
    crossed = Crossed(50)
    crossed.table.weight.data.fill_(1.0)
    weight = crossed(torch.tensor([3, 0, 3, 0]), torch.tensor([7, 7, 0, 0]))
    assert weight.tolist() == [1, 0, 0, 0]
    weight.sum().backward()
    assert not crossed.table.weight.grad.to_dense()[0].any()
    assert crossed.table.weight.grad.to_dense().count_nonzero() == 1


def test_the_order_of_a_cross_and_its_ids_tell_weights_apart() -> None:
    crossed, ids = Crossed(2**20), torch.arange(1, 200)
    bucket = crossed.bucket(ids[:, None], ids)
    assert len(bucket.unique()) > 0.95 * bucket.numel()  # 39601 pairs into a million weights
    assert bucket.min() >= 1
    assert bucket.max() < 2**20
    filled = torch.bincount(bucket.flatten() * 16 // 2**20, minlength=16)
    assert (filled > 0.9 * bucket.numel() / 16).all()
    assert not torch.equal(bucket, bucket.t())


def test_explain_is_what_each_event_adds(loader: Loader) -> None:
    crosses = [["past.id", "item.id"], ["user.id", "item.id"], ["past.maker", "item.maker", "context.hour"]]
    model, batch = random(made(loader.data.encoding, "wide-deep", crosses=crosses, hidden=[8])), a_batch(loader)
    out = model(batch, explain=True)
    for place in (0, 2):
        model.crosses[place].table.weight.data.zero_()
    assert out.attention.abs().max() > 0.1
    assert_close(out.logit - model(batch).logit, batch.history.events.sum(out.attention), rtol=1e-4, atol=1e-4)
    assert made(loader.data.encoding, "wide-deep", crosses=[["user.id", "item.id"]])(batch, explain=True).attention is None


def test_items_without_an_id_that_is_known_have_no_crosses_of_ids(loader: Loader) -> None:
    model, batch = made(loader.data.encoding, "wide-deep", hidden=[8]).eval(), a_batch(loader)
    model.crosses[0].table.weight.data.fill_(1.0)
    unknown = replace(batch, known=torch.zeros_like(batch.known))
    assert model(batch, explain=True).attention.any()
    assert not model(unknown, explain=True).attention.any()


@given(st.data())
def test_ids_come_back_from_their_digits(encoding: Encoding, data: st.DataObject) -> None:
    told = data.draw(st.sampled_from([(), (0,), (1,), (0, 1), (1, 0)]))
    item = _item(encoding)
    coded = Coded(item, encoding.catalogue, encoding.sizes("item"), told)
    row = torch.tensor(data.draw(st.lists(st.integers(0, encoding.catalogue.size - 1), max_size=9)), dtype=torch.int64)
    known = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))), dtype=torch.bool)
    vector, codes = coded(row, known), coded.codes(row, known)
    assert codes[:, 0].tolist() == [r if k else 0 for r, k in zip(row.tolist(), known.tolist(), strict=True)]
    assert codes[:, 1:].tolist() == encoding.catalogue.code[row.numpy()].tolist()
    assert torch.equal(vector[:, : item.dim], item(row, known))
    assert sum(coded.parts) == coded.dim == vector.shape[1]
    digits = vector[:, item.dim :]
    assert digits.shape[1] == coded.digits
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(coded.ids(digits.to(kind)), codes[:, list(told)])


_ITEM: dict[int, CatalogueEncoder] = {}


def _item(encoding: Encoding) -> CatalogueEncoder:
    return _ITEM.setdefault(id(encoding), item_encoder(encoding, ItemConfig(dim=2)))


def test_new_items_have_codes(encoding: Encoding) -> None:
    coded = Coded(item_encoder(encoding, ItemConfig(dim=2)), encoding.catalogue, encoding.sizes("item"), (0, 1))
    size, before = encoding.catalogue.size, coded.state_dict().keys()
    coded.extend(encoding.with_items([{"id": "new", "maker": "maker2"}]).catalogue)
    maker = int(encoding.vocabularies["item.maker"].encode(["maker2"])[0])
    row, known = torch.tensor([size]), torch.tensor([False])
    assert coded.codes(row, known).tolist() == [[0, maker]]
    assert coded.ids(coded(row, known)[:, -coded.digits :]).tolist() == [[0, maker]]
    assert coded.state_dict().keys() == before


def asked(encoding: Encoding, town: Tensor, row: Tensor, label: Tensor | None) -> Batch:
    """Requests of which the town alone is known, about an item each of which only the attributes are."""
    R, nothing = len(town), torch.zeros(0, dtype=torch.int64)
    missing = torch.tensor([0.0, 1.0])
    return Batch(
        row=torch.arange(encoding.catalogue.size),
        known=torch.zeros(encoding.catalogue.size, dtype=torch.bool),
        user=User(code=torch.stack([torch.zeros_like(town), town], 1), number=missing.repeat(R, encoding.numbers("user") // 2)),
        context=torch.zeros(R, len(encoding.sizes("context")), dtype=torch.int64),
        number=missing.repeat(R, encoding.numbers("context") // 2),
        time=torch.zeros(R, dtype=torch.int64),
        item=row[:, None],
        shown=Shown(code=row[:, None, None][..., :0], number=torch.zeros(R, 1, 0)),
        history=History(
            item=nothing,
            time=nothing,
            action=torch.zeros(0, len(encoding.sizes("action")), dtype=torch.int64),
            number=torch.zeros(0, encoding.numbers("action")),
            events=Segments.of(torch.zeros(R, dtype=torch.int64)),
        ),
        label=None if label is None else label.float()[:, None],
    )


def exception_logit(encoding: Encoding, crosses: list[list[str]], seed: int) -> tuple[float, float]:
    """The mean logit of the exception's pair, and of the pairs of the rule, for items that no training example showed.

    Every town likes makers 1 to 5 and not 6; but town 2 does not like maker 1: a dozen examples of 1800.
    """
    random, maker = np.random.default_rng(seed), encoding.catalogue.code[:, 0]
    shown = {m: np.flatnonzero(maker == m)[:6] for m in range(1, 7)}
    held = {m: np.flatnonzero(maker == m)[6:] for m in range(1, 7)}
    pairs = [(town, m) for town in (1, 2, 3) for m in range(1, 7) if (town, m) != (2, 1)]
    rows = [pairs[i] for i in random.integers(len(pairs), size=1788)] + [(2, 1)] * 12
    town, made_by = np.array(rows).T
    item = np.array([random.choice(shown[m]) for m in made_by])
    label = (made_by != 6) & ~((town == 2) & (made_by == 1))
    config: Mapping[str, Any] = {"crosses": crosses, "buckets": 1000, "hidden": [16, 8], "profile": 4}
    model = made(encoding, "wide-deep", seed=seed, item=ItemConfig(dim=4), **config)
    optimiser = Optimiser(model, rate=0.0005, table_rate=0.1)
    for _ in range(3):
        for part in np.array_split(random.permutation(len(rows)), 28):
            optimiser.zero_grad()
            batch = asked(encoding, *(torch.from_numpy(x[part]) for x in (town, item, label)))
            total(model(batch), batch).backward()
            optimiser.step()

    def told(pairs: list[tuple[int, int]]) -> float:
        held_out = [(t, i) for t, m in pairs for i in held[m]]
        t, i = torch.tensor(held_out).T
        with torch.no_grad():
            return float(model.eval()(asked(encoding, t, i, None)).logit.mean())

    assert isinstance(model, WideDeep)
    return told([(2, 1)]), told([(1, 1), (3, 1), (2, 2)])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cross_remembers_an_exception_that_the_deep_part_smooths_over(seed: int, encoding: Encoding) -> None:
    remembered, rule = exception_logit(encoding, [["user.town", "item.maker"]], seed)
    smoothed, same_rule = exception_logit(encoding, [], seed)
    assert min(rule, same_rule) > 1
    assert remembered < 0 < smoothed


# ----------------------------------------------------------------------------------------------------------------- DeepFM


def test_deepfm_without_the_past_reads_none(loader: Loader) -> None:
    batch = a_batch(loader)
    without = replace(batch, history=batch.history.take(torch.arange(batch.requests).roll(1)))
    for past in (False, True):
        model = random(made(loader.data.encoding, "deepfm", past=past, hidden=[8]))
        assert torch.equal(model(batch).logit, model(without).logit) == (not past)


@pytest.mark.parametrize("name", ["deepfm", "wide-deep"])
def test_items_have_a_weight_for_each_part_that_they_have_a_vector_of(name: str, encoding: Encoding) -> None:
    """id, maker, tags and price; or the id alone."""
    for attributes, parts in ((True, 4), (False, 1)):
        model = made(encoding, name, item=ItemConfig(dim=4, attributes=attributes))
        assert model.width[:3] == [4 * parts, parts, 1]
