"""Attention as parts: how two vectors are compared, who looks at whom, and the transformer's layer.

    candidate ─┐                                         things of one owner
               ├─ score ─ normalise ─ pool ─▶ interest         └─ SelfAttention ─▶ things
    past ──────┘   (TargetAttention, MultiHead)          things of one owner, things of the same owner's other kind
                                                               └─ CoAttention ─▶ both

A score compares candidates [R, C, Q] with events [E, D] of the same owners -> [E, C]. What it needs of an event alone is its
`key`, made once and kept in a Memory; what it needs of a candidate alone is made once a candidate. None of them sees padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penchant.batch import Segments
from penchant.nn.mlp import ACTIVATIONS, MLP, Activation

Normalize = Literal["none", "softmax", "softmax_scaled"]
Interaction = Literal["product", "outer"]

NEVER = -1e30  # the logit of what is not there: finite, so that gradients are where nothing is


# ----------------------------------------------------------------------------------------------------------------- scores


class Score(nn.Module):
    """Compares candidates with events: `score(item, past, score.key(past), events)`."""

    def key(self, past: Tensor) -> Tensor:
        """past [E, D] -> [E, *], what of an event no candidate changes."""
        return past

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        """item [R, C, Q], past [E, D], key = self.key(past) -> [E, C]."""
        raise TypeError(f"{type(self).__name__} has no forward(item, past, key, events)")


class Dot(Score):
    """s(q, k) = q . k, or q . k / sqrt(D) (Vaswani et al., NeurIPS 2017, eq. 1). Both of one width."""

    def __init__(self, item: int, past: int, *, scaled: bool = False) -> None:
        super().__init__()
        if item != past:
            raise ValueError(f"a dot product is of two vectors of one width; these have {item} and {past}.")
        self.scale = past**-0.5 if scaled else 1.0

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        return events.dot(past, item * self.scale)


class Bilinear(Score):
    """s(q, k) = k W q (DIEN, AAAI 2019, eq. 8; DSIN, IJCAI 2019, eq. 9)."""

    def __init__(self, item: int, past: int) -> None:
        super().__init__()
        self.weight = nn.Linear(past, item, bias=False)

    def key(self, past: Tensor) -> Tensor:
        key: Tensor = self.weight(past)
        return key

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        return events.dot(key, item.to(key.dtype))


class Additive(Score):
    """s(q, k) = v tanh(W_q q + W_k k + b) (Bahdanau et al., ICLR 2015)."""

    def __init__(self, item: int, past: int, *, hidden: int = 32) -> None:
        super().__init__()
        self.query, self.key_weight = nn.Linear(item, hidden), nn.Linear(past, hidden, bias=False)
        self.out = nn.Linear(hidden, 1, bias=False)

    def key(self, past: Tensor) -> Tensor:
        key: Tensor = self.key_weight(past)
        return key

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        score: Tensor = self.out(torch.tanh(events.spread(self.query(item)) + key[:, None]))
        return score.squeeze(-1)


class LocalActivation(Score):
    """s(q, k) = MLP[q, k, q - k, q * k], the local activation unit of DIN (KDD 2018, section 4.3; the authors' code).

    The first layer is split, W [q; k; q - k; q * k] = (W_q + W_d) q + (W_k - W_d) k + W_p (q * k), so that a candidate's part
    is computed once a candidate and an event's part, `key`, once an event; only the product is left for each pair.
    interaction: "product", q * k, or "outer", all D x D products q_i k_j, of which the part k_j W_j is made once an event too.
    """

    def __init__(self, dim: int, hidden: tuple[int, ...], activation: Activation = "dice", interaction: Interaction = "product") -> None:
        super().__init__()
        self.outer, self.dim, self.width = interaction == "outer", dim, hidden[0]
        self.query = nn.Linear(dim, hidden[0])
        self.key_weight = nn.Linear(dim, hidden[0], bias=False)
        self.product = nn.Linear(dim, hidden[0] * dim if self.outer else hidden[0], bias=False)
        self.activation = ACTIVATIONS[activation](hidden[0])
        self.rest = MLP(hidden[0], hidden[1:], 1, activation)
        whole = nn.Linear(3 * dim + (dim * dim if self.outer else dim), hidden[0])
        self.load_concatenated(whole.weight.data, whole.bias.data)

    @torch.no_grad()
    def load_concatenated(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weights and bias of a first layer that reads [q, k, q - k, q * k] side by side: [hidden, 4 D] and [hidden].

        Of the outer product it reads all k_i q_j in the place of q * k, i first: [hidden, 3 D + D * D].
        """
        query, key, difference, product = weight.tensor_split((self.dim, 2 * self.dim, 3 * self.dim), 1)
        self.query.weight.copy_(query + difference)
        self.query.bias.copy_(bias)
        self.key_weight.weight.copy_(key - difference)
        if self.outer:  # [hidden, i, j] -> [hidden and j, i]
            product = product.reshape(self.width, self.dim, self.dim).transpose(1, 2).flatten(0, 1)
        self.product.weight.copy_(product)

    def key(self, past: Tensor) -> Tensor:
        key: Tensor = self.key_weight(past)
        return torch.cat([key, self.product(past)], -1) if self.outer else key  # [E, H], or [E, H + H D]

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        key, made = key.tensor_split((self.width,), -1)
        if self.outer:
            made = made.reshape(-1, self.width, self.dim)  # k_j W_j
            hidden = events.spread(item.to(made.dtype)) @ made.transpose(1, 2)  # [E, C, H]
        else:
            hidden = self.product(events.spread(item) * past[:, None])
        hidden += events.spread(self.query(item))
        hidden += key[:, None]
        score: Tensor = self.rest(self.activation(hidden))
        return score.squeeze(-1)


class Projected(Score):
    """Local activation of a candidate that is first brought to the width of an event, q' = PReLU(W q + b): what DIEN's authors do."""

    def __init__(self, item: int, past: int, hidden: tuple[int, ...] = (80, 40), activation: Activation = "sigmoid") -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(item, past), ACTIVATIONS["prelu"](past))
        self.activation = LocalActivation(past, hidden, activation)

    def key(self, past: Tensor) -> Tensor:
        return self.activation.key(past)

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> Tensor:
        score: Tensor = self.activation(self.project(item), past, key, events)
        return score


SCORES: Mapping[str, Callable[[int, int], Score]] = {  # by the widths of a candidate and of an event
    "dot": Dot,
    "scaled_dot": lambda item, past: Dot(item, past, scaled=True),
    "bilinear": Bilinear,
    "additive": Additive,
    "mlp": Projected,
}


def normalized(say: Tensor, events: Segments, normalize: Normalize, dim: int) -> Tensor:
    """say [E, C] as it is, or as a softmax over each owner's events; `softmax_scaled` divides by sqrt(dim) first."""
    if normalize == "none":
        return say
    return events.softmax(say * dim**-0.5 if normalize == "softmax_scaled" else say)


class TargetAttention(nn.Module):
    """Each candidate looks at a past: its interest is the sum of the events, each by its say."""

    def __init__(self, score: Score, *, dim: int, normalize: Normalize = "softmax") -> None:
        """dim: the width that `softmax_scaled` is of."""
        super().__init__()
        self.score, self.normalize, self.dim = score, normalize, dim

    def key(self, past: Tensor) -> Tensor:
        return self.score.key(past)

    def forward(self, item: Tensor, past: Tensor, key: Tensor, events: Segments) -> tuple[Tensor, Tensor]:
        """item [R, C, Q], past [E, D], key = self.key(past) -> interest [R, C, D], say [E, C]."""
        say = normalized(self.score(item, past, key, events), events, self.normalize, self.dim)
        return events.pool(past, say), say


# ------------------------------------------------------------------------------------------------------------------ heads


class MultiHead(nn.Module):
    """Each candidate looks at a past with H heads: softmax(q k / sqrt(d)) v of each, side by side, then W_O.

    (Vaswani et al., NeurIPS 2017, section 3.2.2.) Keys and values are made once an event, whatever the candidates.
    own: whether a candidate is among the things that it looks at, as the last one of a sequence that it ends.
    """

    def __init__(self, item: int, past: int, dim: int, *, heads: int, own: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads share a width of {dim}, which is no multiple of it.")
        if own and item != past:
            raise ValueError(f"a candidate that looks at itself has the width of an event; these are {item} and {past}.")
        self.heads, self.own = heads, own
        self.query = nn.Linear(item, dim, bias=False)
        self.key, self.value = nn.Linear(past, dim, bias=False), nn.Linear(past, dim, bias=False)
        self.out = nn.Linear(dim, item)

    def read(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """past [E, D] -> keys and values [E, dim] each."""
        return self.key(past), self.value(past)

    def forward(self, item: Tensor, key: Tensor, value: Tensor, events: Segments) -> tuple[Tensor, Tensor]:
        """item [R, C, Q] -> [R, C, Q], say float32 [E, C, H]. An owner without events, and without `own`, gets W_O's bias."""
        query, key, value = self.split(self.query(item)), self.split(key), self.split(value)
        query = query * key.shape[-1] ** -0.5  # [R, C, H, d]
        each = range(self.heads)
        logit = torch.stack([events.dot(key[:, h], query[:, :, h].to(key.dtype)) for h in each], -1).float()  # [E, C, H]
        if self.own:
            mine = (query * self.split(self.key(item))).sum(-1).float()  # [R, C, H]
            say, share = softmax_with_own(logit, mine, events)
        else:
            say = events.softmax(logit)
        pooled = torch.stack([events.pool(value[:, h], say[..., h]) for h in each], 2)  # [R, C, H, d]
        if self.own:
            pooled = pooled + share[..., None].to(pooled.dtype) * self.split(self.value(item))
        out: Tensor = self.out(pooled.flatten(2))
        return out, say

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)


def softmax_with_own(logit: Tensor, own: Tensor, events: Segments) -> tuple[Tensor, Tensor]:
    """Softmax over each owner's events and one thing more: logit [E, *], own [R, *] -> shares [E, *] and [R, *], 1 together."""
    row = events.row.view(-1, *[1] * (logit.dim() - 1)).expand_as(logit)
    greatest = own.detach().scatter_reduce(0, row, logit.detach(), "amax")
    mine, each = (own - greatest).exp(), (logit - events.spread(greatest)).exp()
    total = mine + events.sum(each)
    return each / events.spread(total), mine / total


# ------------------------------------------------------------------------------------------------------------ self and co


class SelfAttention(nn.Module):
    """The things of one owner look at each other with H heads: [N, dim] -> [N, dim].

    causal: at itself and earlier ones only. blind: never at itself, unless it is alone. scale: what scores are divided by; None: the
    square root of a head's width. out: whether W_O follows. Inside, the things of owners of like lengths are laid into rows of one
    length; no thing ever looks at what only fills a row up.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        causal: bool = False,
        blind: bool = False,
        scale: float | None = None,
        out: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads share a width of {dim}, which is no multiple of it.")
        self.heads, self.causal, self.blind = heads, causal, blind
        self.dropout = nn.Dropout(dropout)  # of the weights; a module, so that it can be switched off as any other
        self.scale = scale or (dim // heads) ** 0.5
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.out = nn.Linear(dim, dim) if out else None

    def forward(self, x: Tensor, things: Segments, seen: Tensor | None = None) -> Tensor:
        """seen [N, dim]: what keys and values are made of, where that is not what queries are made of."""
        if not things.total:
            return x
        y = by_length(self.attend, self.made(x, seen), things)
        return y if self.out is None else self.out(y)

    def attend(self, made: Tensor, things: Segments) -> Tensor:
        """made [N, 3 dim] -> [N, dim]."""
        query, key, value = self.split(made, things)
        dropout = self.dropout.p if self.dropout.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, self.allowed(things), dropout, scale=1 / self.scale)
        return things.unpad(y.transpose(1, 2).flatten(2))

    def say(self, x: Tensor, things: Segments) -> Tensor:
        """The weights themselves, for explanations: float32 [N, longest, H], of each thing the say of its owner's first, second, ..."""
        if not things.total:
            return x.new_zeros(0, 0, self.heads)
        query, key, _ = self.split(self.made(x), things)
        logit = (query @ key.transpose(-1, -2)).float() / self.scale  # [R, H, longest, longest]
        say = logit.masked_fill(~self.allowed(things), -torch.inf).softmax(-1)
        return things.unpad(say.permute(0, 2, 3, 1))

    def say_on_last(self, x: Tensor, things: Segments, seen: Tensor | None = None) -> Tensor:
        """Of these weights those of each owner's last thing: float32 [N, H], of each thing its say on the last. Not where it is blind.

        k q = (W_K x) q = x (W_K' q), so that one product an owner takes the place of one a thing.
        """
        if not things.total:
            return x.new_zeros(0, self.heads)
        last = F.pad(x, (0, 0, 1, 0)).index_select(0, things.start[1:])  # of an owner without things, another's that nothing looks at
        query = self.query(last).view(things.owners, self.heads, -1) / self.scale  # [R, H, d]
        key = self.key.weight.view(self.heads, -1, x.shape[1])  # [H, d, dim]
        query = torch.einsum("rhd,hdi->rhi", query, key.to(query.dtype))
        return things.softmax(things.dot(x if seen is None else seen, query.to(x.dtype)))

    def made(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Queries, keys and values side by side, [N, 3 dim]."""
        seen = x if seen is None else seen
        return torch.cat([self.query(x), self.key(seen), self.value(seen)], -1)

    def split(self, made: Tensor, things: Segments) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [R, H, longest, d] each."""
        padded = things.pad(made)
        query, key, value = padded.view(*padded.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return query, key, value

    def allowed(self, things: Segments) -> Tensor:
        """bool [R, 1, longest, longest], who looks at whom. What fills a row up looks at itself, so that no softmax is over nothing."""
        place = torch.arange(things.longest, device=things.start.device)
        itself = place[:, None] == place
        seen = (place[None, :] < things.length[:, None])[:, None, :] & (place[:, None] >= place if self.causal else True)
        if self.blind:  # the first that a causal one sees is itself
            alone = (place[:, None] == 0) if self.causal else (things.length[:, None, None] == 1)
            seen = seen & (~itself | alone)
        seen = seen | (itself & (place >= things.length[:, None])[:, :, None])
        return seen[:, None]


def by_length(part: Callable[[Tensor, Segments], Tensor], x: Tensor, things: Segments) -> Tensor:
    """part(x, things), [N, *] -> [N, *], of owners of like lengths at a time: rows are then filled up by less than half."""
    groups = things.alike()
    if len(groups) < 2:
        return part(x, things)
    made = torch.cat([part(x.index_select(0, place), some) for place, some in groups])
    return torch.empty_like(made).index_copy(0, torch.cat([place for place, _ in groups]), made)


class CoAttention(nn.Module):
    """Two kinds of things of the same owners look at each other by one affinity, A = x W y (Lu et al., NeurIPS 2016, section 3.2, eq. 3).

    Each x gets the sum of its owner's ys by softmax over them of A, each y that of the xs by softmax over them of A transposed.
    """

    def __init__(self, one: int, other: int) -> None:
        super().__init__()
        self.affinity = nn.Linear(one, other, bias=False)

    def forward(self, x: Tensor, xs: Segments, y: Tensor, ys: Segments) -> tuple[Tensor, Tensor]:
        """x [N, D] of segments xs, y [M, Q] of ys, of the same owners -> of each x [N, Q], of each y [M, D]; 0 where none is there."""
        if not xs.total or not ys.total:
            return x.new_zeros(xs.total, y.shape[-1]), y.new_zeros(ys.total, x.shape[-1])
        wide, tall = xs.pad(x), ys.pad(y)  # [R, n, D], [R, m, Q]
        logit = (xs.pad(self.affinity(x)) @ tall.transpose(1, 2)).float()  # [R, n, m]
        here, there = self.there(xs)[:, :, None], self.there(ys)[:, None]
        to_y = logit.masked_fill(~there, NEVER).softmax(2).masked_fill(~there, 0.0)
        to_x = logit.masked_fill(~here, NEVER).softmax(1).masked_fill(~here, 0.0)
        return xs.unpad(to_y.to(tall.dtype) @ tall), ys.unpad(to_x.transpose(1, 2).to(wide.dtype) @ wide)

    @staticmethod
    def there(things: Segments) -> Tensor:
        """bool [R, longest]."""
        return torch.arange(things.longest, device=things.start.device) < things.length[:, None]


class TransformerLayer(nn.Module):
    """Self-attention and a two-layer network, a residual around each: [N, dim] -> [N, dim].

    norm: "after" each residual sum (Vaswani et al., NeurIPS 2017), "before" each part (as in SASRec), or "none".
    """

    def __init__(
        self,
        attention: SelfAttention,
        dim: int,
        *,
        hidden: int,
        activation: Activation = "relu",
        norm: Literal["after", "before", "none"] = "after",
        dropout: float = 0.0,
        inner: float = 0.0,
    ) -> None:
        """dropout: of each part's result. inner: and within the two-layer network."""
        super().__init__()
        self.attention, self.feed = attention, MLP(dim, (hidden,), dim, activation, inner)
        self.before = norm == "before"
        self.first, self.second = (nn.Identity() if norm == "none" else nn.LayerNorm(dim) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, things: Segments) -> Tensor:
        if self.before:
            x = x + self.drop(self.attention(self.first(x), things))
            whole: Tensor = x + self.drop(self.feed(self.second(x)))
            return whole
        x = self.first(x + self.drop(self.attention(x, things)))
        out: Tensor = self.second(x + self.drop(self.feed(x)))
        return out

    def say_on_last(self, x: Tensor, things: Segments) -> Tensor:
        """float32 [N, H], of each thing its say on its owner's last."""
        return self.attention.say_on_last(self.first(x) if self.before else x, things)


class HSTULayer(nn.Module):
    """The layer of HSTU (Zhai et al., ICML 2024, eq. 1-3) without its relative bias, each thing looking at itself and earlier ones.

    u, v, q, k = SiLU(W norm(x) + b),   y = x + W_o (u o norm(sum of SiLU(q k) / n v)) + b_o

    No softmax: a weight may be less than 0, and how much there is to look at is not divided away, for n, `most`, is one number for all
    owners. [N, dim] -> [N, dim].
    """

    def __init__(self, dim: int, *, heads: int, most: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads share a width of {dim}, which is no multiple of it.")
        self.heads, self.most = heads, most
        self.before, self.made, self.drop = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Dropout(dropout)
        self.after, self.out = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, things: Segments) -> Tensor:
        if not things.total:
            return x
        gate, rest = F.silu(self.made(self.before(x))).tensor_split((x.shape[1],), -1)
        out: Tensor = x + self.out(self.drop(gate * self.after(by_length(self.attend, rest, things))))
        return out

    def attend(self, made: Tensor, things: Segments) -> Tensor:
        """Values, queries and keys side by side [N, 3 dim] -> [N, dim]."""
        padded = things.pad(made)
        value, query, key = padded.view(*padded.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return things.unpad(pointwise(query, key, value, self.most).transpose(1, 2).flatten(2))

    def say_on_last(self, x: Tensor, things: Segments) -> Tensor:
        """float32 [N, H], of each thing its weight in its owner's last."""
        _, _, query, key = F.silu(self.made(self.before(x))).chunk(4, -1)
        last = F.pad(query, (0, 0, 1, 0)).index_select(0, things.start[1:])  # of an owner without things, another's that nothing looks at
        product = (things.spread(last) * key).view(-1, self.heads, x.shape[1] // self.heads).sum(-1)
        return F.silu(product.float()) / self.most


def pointwise(query: Tensor, key: Tensor, value: Tensor, most: int) -> Tensor:
    """Causal attention without a softmax: [*, n, d] each -> [*, n, d], of row i the sum over j <= i of SiLU(q_i k_j) / most v_j."""
    weight: Tensor = F.silu(query @ key.transpose(-1, -2)).tril() / most
    return weight @ value
