"""Fully connected parts: activations by name, a stack of layers, and the head that ends most models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from penchant.nn.dice import Dice

Activation = Literal["dice", "prelu", "relu", "leaky_relu", "sigmoid"]

ACTIVATIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "dice": Dice,
    "prelu": lambda dim: PReLU(dim),
    "relu": lambda dim: nn.ReLU(),
    "leaky_relu": lambda dim: nn.LeakyReLU(),
    "sigmoid": lambda dim: nn.Sigmoid(),
}


class PReLU(nn.Module):
    """max(x, 0) + slope min(x, 0), a slope for each of the last dimension's channels: [*, dim] -> [*, dim]. torch's has them second."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, x, x * self.slope.to(x.dtype))


class MLP(nn.Sequential):
    """Hidden layers with an activation each, then a linear one to `out` numbers: [*, dim] -> [*, out]."""

    def __init__(self, dim: int, hidden: tuple[int, ...], out: int, activation: Activation = "dice", dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width), ACTIVATIONS[activation](width)]
            layers += [nn.Dropout(dropout)] if dropout else []
            dim = width
        super().__init__(*layers, nn.Linear(dim, out))


class Split(nn.Module):
    """A linear layer of what is known of a request [R, P] and of each candidate [R, C, Q], side by side -> [R, C, dim].

    W [p; q] = W_p p + W_q q, so that a request is read once however many candidates it has.
    """

    def __init__(self, request: int, candidate: int, dim: int) -> None:
        super().__init__()
        whole = nn.Linear(request + candidate, dim)
        self.candidate = nn.Linear(candidate, dim)
        self.candidate.weight.data, self.candidate.bias.data = whole.weight.data[:, request:].clone(), whole.bias.data
        self.request = nn.Linear(request, dim, bias=False) if request else None
        if self.request is not None:
            self.request.weight.data = whole.weight.data[:, :request].clone()

    def forward(self, request: Tensor, candidate: Tensor) -> Tensor:
        out: Tensor = self.candidate(candidate)
        return out if self.request is None else out + self.request(request)[:, None]


class Tower(nn.Module):
    """Hidden layers, each with its activation, over a request [R, P] and each of its candidates [R, C, Q] -> [R, C, dim]."""

    def __init__(self, request: int, candidate: int, hidden: tuple[int, ...], activation: Activation = "relu") -> None:
        super().__init__()
        self.first = Split(request, candidate, hidden[0])
        layers = [ACTIVATIONS[activation](hidden[0])]
        for dim, width in pairwise(hidden):
            layers += [nn.Linear(dim, width), ACTIVATIONS[activation](width)]
        self.rest = nn.Sequential(*layers)
        self.dim = hidden[-1]

    def forward(self, request: Tensor, candidate: Tensor) -> Tensor:
        out: Tensor = self.rest(self.first(request, candidate))
        return out


class Head(nn.Module):
    """An MLP of what is known of a request [R, P] and of each candidate [R, C, Q] -> float32 [R, C].

    Its first layer is split, W [p; q] = W_p p + W_q q, so that a request is read once however many candidates it has.
    """

    def __init__(
        self, request: int, candidate: int, hidden: tuple[int, ...], activation: Activation = "dice", dropout: float = 0.0
    ) -> None:
        super().__init__()
        first = Split(request, candidate, hidden[0])
        self.candidate, self.request = first.candidate, first.request
        self.activation, self.dropout = ACTIVATIONS[activation](hidden[0]), nn.Dropout(dropout)
        self.rest = MLP(hidden[0], hidden[1:], 1, activation, dropout)

    def forward(self, request: Tensor, candidate: Tensor) -> Tensor:
        hidden = self.candidate(candidate)
        if self.request is not None:
            hidden = hidden + self.request(request)[:, None]
        logit: Tensor = self.rest(self.dropout(self.activation(hidden)))
        return logit.squeeze(-1).float()
