"""Attention of a candidate over a past."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from penchant.batch import Segments
from penchant.nn.mlp import ACTIVATIONS, MLP, Activation


class LocalActivation(nn.Module):
    """w(q, k) = MLP[q, k, q - k, q * k], the local activation unit of DIN (KDD 2018, section 4.3; the authors' code).

    The first layer is split, W [q; k; q - k; q * k] = (W_q + W_d) q + (W_k - W_d) k + W_p (q * k), so that a candidate's part
    is computed once a candidate and an event's part, `key`, once an event; only the product is left for each pair.
    """

    def __init__(self, dim: int, hidden: tuple[int, ...], activation: Activation = "dice") -> None:
        super().__init__()
        self.query = nn.Linear(dim, hidden[0])
        self.key = nn.Linear(dim, hidden[0], bias=False)
        self.product = nn.Linear(dim, hidden[0], bias=False)
        self.activation = ACTIVATIONS[activation](hidden[0])
        self.rest = MLP(hidden[0], hidden[1:], 1, activation)
        whole = nn.Linear(4 * dim, hidden[0])
        self.load_concatenated(whole.weight.data, whole.bias.data)

    @torch.no_grad()
    def load_concatenated(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weights [hidden, 4 dim] and bias of a first layer that reads [q, k, q - k, q * k] side by side."""
        query, key, difference, product = weight.chunk(4, 1)
        self.query.weight.copy_(query + difference)
        self.query.bias.copy_(bias)
        self.key.weight.copy_(key - difference)
        self.product.weight.copy_(product)

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        """item [R, C, D], past [E, D], key = self.key(past) [E, H] -> [E, C], the weight of each event for each candidate."""
        hidden = self.product(events.spread(item) * past[:, None])  # [E, C, H]
        hidden += events.spread(self.query(item))
        hidden += key[:, None]
        weight: Tensor = self.rest(self.activation(hidden))
        return weight.squeeze(-1)
