"""Fully connected parts: activations by name, a stack of layers, and the head that ends most models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor, nn

from penchant.nn.dice import Dice

Activation = Literal["dice", "prelu", "relu", "sigmoid"]

ACTIVATIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "dice": Dice,
    "prelu": lambda dim: nn.PReLU(dim, init=0.1),
    "relu": lambda dim: nn.ReLU(),
    "sigmoid": lambda dim: nn.Sigmoid(),
}


class MLP(nn.Sequential):
    """Hidden layers with an activation each, then a linear one to `out` numbers: [*, dim] -> [*, out]."""

    def __init__(self, dim: int, hidden: tuple[int, ...], out: int, activation: Activation = "dice", dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width), ACTIVATIONS[activation](width)]
            layers += [nn.Dropout(dropout)] if dropout else []
            dim = width
        super().__init__(*layers, nn.Linear(dim, out))


class Head(nn.Module):
    """An MLP of what is known of a request [R, P] and of each candidate [R, C, Q] -> float32 [R, C].

    Its first layer is split, W [p; q] = W_p p + W_q q, so that a request is read once however many candidates it has.
    """

    def __init__(self, request: int, candidate: int, hidden: tuple[int, ...], activation: Activation = "dice", dropout: float = 0.0) -> None:
        super().__init__()
        whole = nn.Linear(request + candidate, hidden[0])
        self.request, self.candidate = nn.Linear(request, hidden[0]), nn.Linear(candidate, hidden[0], bias=False)
        self.request.weight.data = whole.weight.data[:, :request].clone()
        self.candidate.weight.data = whole.weight.data[:, request:].clone()
        self.activation, self.dropout = ACTIVATIONS[activation](hidden[0]), nn.Dropout(dropout)
        self.rest = MLP(hidden[0], hidden[1:], 1, activation, dropout)

    def forward(self, request: Tensor, candidate: Tensor) -> Tensor:
        hidden = self.request(request)[:, None] + self.candidate(candidate)
        logit: Tensor = self.rest(self.dropout(self.activation(hidden)))
        return logit.squeeze(-1).float()
