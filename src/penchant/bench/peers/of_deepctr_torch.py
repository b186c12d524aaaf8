"""DeepCTR-Torch's DIN and DIEN, by the operations of its own `fit` on one batch. It is built for one length and cannot trim.

Its head has ReLU, its default: its Dice takes no matrix there.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIEN, DIN


class Peer:
    trims, version = False, version("deepctr-torch")

    def __init__(self, arrays: Any, settings: dict[str, Any]) -> None:
        self.evolves = settings["model"] == "dien"
        self.name = f"deepctr_torch.models.{'DIEN' if self.evolves else 'DIN'}"
        dim, kinds = settings["dim"], {"item": arrays.items, "category": arrays.categories}
        columns: list[Any] = [SparseFeat(name, size, embedding_dim=dim) for name, size in kinds.items()]
        lists = {"hist": "past", "neg_hist": "not"} if self.evolves else {"hist": "past"}
        for prefix in lists:
            columns += [
                VarLenSparseFeat(
                    SparseFeat(f"{prefix}_{name}", size, embedding_dim=dim, embedding_name=name), arrays.longest, length_name="length"
                )
                for name, size in kinds.items()
            ]
        layers: dict[str, Any] = {"dnn_hidden_units": tuple(settings["head"])}
        attention = tuple(settings["attention"])
        if self.evolves:
            layers |= {"gru_type": "AUGRU", "use_negsampling": True, "att_hidden_units": attention}
        else:
            layers |= {"att_hidden_size": attention}
        self.model = (DIEN if self.evolves else DIN)(columns, list(kinds), **layers)
        self.model.compile(torch.optim.Adam(self.model.parameters(), lr=settings["rate"]), "binary_crossentropy")
        self.model.train()
        parts = {"item": "item", "category": "category", "length": "length"}
        parts |= {f"{prefix}_{name}": f"{ours}_{name}" for prefix, ours in lists.items() for name in kinds}
        self.order = [parts[name] for name in self.model.feature_index]  # of the columns of one matrix of floats

    def step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        label = batch["label"].float()
        self.model.optim.zero_grad()
        loss: torch.Tensor = self.model.loss_func(self.model(self._given(batch)).squeeze(-1), label, reduction="sum")
        (loss + self.model.get_regularization_loss() + self.model.aux_loss).backward()
        self.model.optim.step()
        return loss.detach() / len(label)

    def score(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        said: torch.Tensor = self.model.eval()(self._given(batch))
        return said

    def _given(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """All columns as one matrix of floats."""
        return torch.cat([batch[name] if batch[name].dim() == 2 else batch[name][:, None] for name in self.order], 1).float()
