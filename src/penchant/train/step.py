"""One step: batches, their losses, their gradients, and what the optimiser makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from penchant.batch import Batch
from penchant.nn.model import Model
from penchant.train.loss import Loss, total
from penchant.train.optimiser import Optimiser

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Step:
    """A model learns from batches. Nothing in it waits for a device, but for float16, whose steps can fail."""

    def __init__(self, model: Model, optimiser: Optimiser, loss: Loss, precision: str = "float32") -> None:
        """precision: a name in PRECISIONS, of products of matrices."""
        self.model, self.optimiser, self.loss, self.dtype = model, optimiser, loss, PRECISIONS[precision]

    def __call__(self, batches: Sequence[Batch], number: int = 0, multiple: float = 1.0) -> Tensor:
        """The loss of the batches together, each weighed by how many requests it has, before the step. number: of the step.

        Gradients are those of one batch of all requests, but for what a layer sees of a batch as a whole: Dice's moments, and a loss's
        own mean over something else than requests.
        """
        self.optimiser.zero_grad()
        device, requests, found = self.model.device, sum(batch.requests for batch in batches), []
        for batch in batches:
            batch = batch.to(device)
            with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
                loss = total(self.model(batch), batch, self.loss, number)
            loss = loss if len(batches) == 1 else loss * (batch.requests / requests)
            self.optimiser.backward(loss)
            found.append(loss.detach())
        self.optimiser.step(multiple)
        return found[0] if len(found) == 1 else torch.stack(found).sum()
