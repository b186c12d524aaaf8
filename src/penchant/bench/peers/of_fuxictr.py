"""FuxiCTR's DIN of its model zoo, by its own training step: clipping by norm included, which is its default."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIN.DIN import DIN


class Peer:
    name, trims, version = "model_zoo.LongCTR.DIN", True, version("fuxictr")

    def __init__(self, arrays: Any, settings: dict[str, Any]) -> None:
        dim, fields = settings["dim"], FeatureMap("made", ".")
        for name, size in (("item", arrays.items), ("category", arrays.categories)):
            fields.features[name] = {"source": "item", "type": "categorical", "vocab_size": size, "padding_idx": 0}
        fields.labels, fields.num_fields, fields.default_emb_dim = ["label"], len(fields.features), dim
        self.model = DIN(
            fields,
            dnn_hidden_units=list(settings["head"]),
            dnn_activations="Dice",
            attention_hidden_units=list(settings["attention"]),
            attention_hidden_activations="Dice",
            learning_rate=settings["rate"],
            embedding_dim=dim,
            optimizer="adam",
            loss="binary_crossentropy",
            verbose=0,
            model_root=".",
            metrics=["AUC"],
        )
        self.model._max_gradient_norm, self.model._batch_index = 10.0, 0  # what its own loop sets before a step
        self.model.train()

    def step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = self.model.train_step(_given(batch))
        return loss.detach()

    def score(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        said: torch.Tensor = self.model.eval()(_given(batch))["y_pred"]
        return said


def _given(batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    """The candidate stands behind the past, and all are laid end to end."""
    cells = torch.arange(batch["past_item"].shape[1])
    flat = {name: torch.cat([batch[f"past_{name}"], batch[name][:, None]], 1).flatten() for name in ("item", "category")}
    return {"label": batch["label"]}, flat, (cells < batch["length"][:, None]).float()
