"""torch-rechub's DIN, by its own trainer's epoch of one batch: a local activation unit for items and one for categories."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DIN
from torch_rechub.trainers import CTRTrainer


class Peer:
    name, trims, version = "torch_rechub.models.ranking.DIN", True, version("torch-rechub")

    def __init__(self, arrays: Any, settings: dict[str, Any]) -> None:
        dim = settings["dim"]
        kinds = {"item": arrays.items, "category": arrays.categories}
        asked = [SparseFeature(name, size, dim, padding_idx=0) for name, size in kinds.items()]
        past = [SequenceFeature(f"past_{name}", size, dim, "concat", name, padding_idx=0) for name, size in kinds.items()]
        nothing = [SparseFeature("nothing", 2, 1)]  # it asks for a field of the person
        model = DIN(
            nothing,
            past,
            asked,
            mlp_params={"dims": list(settings["head"])},
            attention_mlp_params={"dims": list(settings["attention"]), "activation": "dice"},
        )
        rate = {"lr": settings["rate"]}
        self.trainer = CTRTrainer(model, optimizer_params=rate)

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        return float(self.trainer.train_one_epoch([(_given(batch), batch["label"])]))

    def score(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        said: torch.Tensor = self.trainer.model.eval()(_given(batch))
        return said


def _given(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    given = {name: batch[name] for name in ("item", "category", "past_item", "past_category")}
    return given | {"nothing": torch.zeros_like(batch["item"])}
