"""Mini-batch aware regularisation: who is counted, and what a step adds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.errors import ConfigError
from penchant.models import build
from penchant.nn.embedding import Table
from penchant.nn.item import ItemConfig
from penchant.train.aware import mini_batch_aware, occurrences
from penchant.train.config import RunConfig, TrainConfig
from penchant.train.fit import fit
from penchant.train.optimiser import Optimiser
from penchant.train.rows import with_l2


def test_the_gradient_of_spec_k3() -> None:
    """W, a batch of ids 0, 0, 2 and n as there: 0.5 lambda sum of |w|^2 / n is .0100, which counts id 0 once."""
    weight, n, strength = torch.tensor([[1.0, 1], [2, 0], [0, 3]]), torch.tensor([10.0, 4, 5]), 0.01
    row = torch.tensor([0, 2])  # each once: alpha is 0 or 1
    found = torch.zeros(3, 2).index_copy(0, row, with_l2(torch.zeros(2, 2), weight, row, strength / n))
    torch.testing.assert_close(found, torch.tensor([[0.001, 0.001], [0, 0], [0, 0.006]]))
    assert float((0.5 * strength * weight.square().sum(1) / n)[row].sum()) == pytest.approx(0.0100)
    assert float(0.5 * (found * weight).sum()) == pytest.approx(0.0100)  # a quadratic form is half its gradient's product with w


@pytest.mark.parametrize("past", [3, 10])
def test_an_id_is_counted_once_an_example(loader: Loader, past: int) -> None:
    data, config = loader.data, LoadConfig(past=past, negatives=2, unknown=0.3)  # an epoch's marks do not count
    small = replace(loader, config=config, position=loader.position[:300])
    model = build(data.encoding, "din", {"attention": [4], "head": [4]}, ItemConfig(dim=3))
    found = occurrences(model, small)
    item, catalogue = model.item, data.encoding.catalogue
    expected: dict[Table, Counter[int]] = {table: Counter() for table in found}
    for position in small.position:
        batch = small.batch(position[None], 0)
        assert batch.history.other is not None
        assert batch.negative is not None
        places = (batch.item, batch.history.item, batch.history.other, batch.negative)
        rows = {int(batch.row[place]) for part in places for place in part.flatten().tolist()}
        for table, ids in {
            item.id: {row if catalogue.known[row] else 0 for row in rows},
            item.fields.tables[0]: {int(catalogue.code[row, 0]) for row in rows},
            item.many[0]: {int(id) for row in rows for id in catalogue.many[0][row, : catalogue.length[row, 0]]},
        }.items():
            expected[table].update(ids)
    assert len(found) == 3
    for table, count in found.items():
        expected[table][0] = 300  # UNKNOWN
        assert {id: int(n) for id, n in enumerate(count.tolist()) if n} == dict(expected[table])


def test_only_rows_of_a_batch_shrink_and_rare_ones_more(loader: Loader) -> None:
    """Two rows of like weights, one of few examples: with no other gradient a step moves both, and it moves no third."""
    model = build(loader.data.encoding, "pooling", {"head": [4]}, ItemConfig(dim=3, attributes=False))
    table = model.item.id
    count = occurrences(model, loader)[table]
    shrink = mini_batch_aware(model, loader, 0.5)
    assert shrink.keys() == {table}
    torch.testing.assert_close(shrink[table], 0.5 / count.clamp(min=1))
    rare, common = int(torch.where(count > 0, count, 1e9).argmin()), int(count.argmax())
    assert count[rare] < count[common]
    with torch.no_grad():
        table.weight.fill_(1.0)
    optimiser = Optimiser(model, 0.1, 0.1, row_l2=shrink)
    (table(torch.tensor([rare, rare, common])) * 0).sum().backward()
    gradient = with_l2(torch.zeros(2, 3), table.weight, torch.tensor([rare, common]), shrink[table])
    assert (gradient[0] > gradient[1]).all()
    optimiser.step()
    moved = (table.weight != 1).any(1).nonzero()[:, 0].tolist()
    assert moved == sorted([rare, common])


def test_a_run_is_asked_for_it(log: Log, tmp_path: Path) -> None:
    def weights(strength: float) -> torch.Tensor:
        config = RunConfig(
            log=str(log.folder),
            protocol="loo-full",
            model={"name": "pooling", "head": [8]},
            item=ItemConfig(dim=4),
            train=TrainConfig(epochs=2, mini_batch_aware=strength, batch_size=64),
        )
        return fit(config, tmp_path / f"run{strength}", log=log).model.item.id.weight.detach()

    plain, shrunk = weights(0.0), weights(10.0)
    assert shrunk.norm() < 0.9 * plain.norm()


def test_a_loss_over_the_whole_catalogue_is_refused(loader: Loader) -> None:
    model = build(loader.data.encoding, "sasrec", {"loss": "cross_entropy"}, ItemConfig(dim=4))
    with pytest.raises(ConfigError) as caught:
        mini_batch_aware(model, loader, 0.1)
    assert str(caught.value) == (
        "train.mini_batch_aware is of the rows that a batch looks up, but this model's loss looks up the whole catalogue in each. "
        "Set it to 0, or use train.table_l2."
    )


def test_what_learns_nothing_shrinks_nothing(loader: Loader) -> None:
    assert mini_batch_aware(build(loader.data.encoding, "popularity", {}), loader, 0.1) == {}
