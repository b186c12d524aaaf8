"""Capsules: several vectors a past, found by routing, and the sampled softmax that such vectors learn by.

    event i ── S ── low_i ─┬─ share w_ij over capsules j ── sum over i ── squash ── capsule j ─┐
                           └─── low_i . capsule_j is added to the logit of w_ij ───────────────┴─ `rounds` times

Behaviour-to-interest routing (Li et al., CIKM 2019, algorithm 1). S is one matrix for all pairs; the softmax runs over the capsules
of an event. All capsules would stay alike if their first logits were, so something has to tell them apart, and always in the same way,
that a person gets the same capsules whenever asked. `first` says what:

    place     numbers drawn once for each place in a past, the same whatever a run's seed (the paper's draws, kept)
    content   a projection of low_i, drawn once as well: the order of a past does not matter
    events    cos(low_i, low_s(j)), where s(1), s(2), ... are events of the past, each the one of greatest
              max(0, cos(low_i, mean of the past)) (1 - max over l < j of max(0, cos(low_i, low_s(l)))):
              of what there is much of, and unlike those before

Routing finds as many capsules as it is given, and splits a taste to fill them. With `merge`, capsules that point the same way are one
interest, so that how many a person has comes from the past.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.batch import Batch, History, Segments, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import TrainingError
from penchant.nn.attention import NEVER
from penchant.nn.embedding import Fields
from penchant.nn.loss import TINY, labels, mean
from penchant.nn.mlp import MLP
from penchant.nn.person import Past

PLACES = 512  # places of a past whose first logits are drawn; what is further on takes them in turn


class CapsuleConfig(Config):
    """How capsules are found and read out."""

    interests: int = Limits(4, ge=1)  # K, the most of a person
    adaptive: bool = True  # fewer for short pasts of n events: max(1, min(K, log2 n)), rounded down
    rounds: int = Limits(3, ge=1)  # of routing
    first: Literal["place", "content", "events"] = "place"  # what tells capsules apart before routing does
    spread: float = Limits(1.0, gt=0)  # what the first logits are multiplied by
    merge: float | None = Limits(None, ge=-1, le=1)  # capsules of a greater cosine are one interest; None: all are kept
    merge_learning: float | None = Limits(None, ge=-1, le=1)  # the same while it learns; None: as `merge`
    through: Literal["all", "last"] = "all"  # the rounds of routing that gradients go through
    profile: int = Limits(8, ge=1)  # width of each field of a profile
    hidden: tuple[int, ...] = ()  # of the layers between a capsule beside the profile and an interest
    rectify: bool = True  # whether the last of these layers ends in a ReLU
    read_out: Literal["max", "softmax", "pow"] = "max"  # which interests stand against an item while learning
    power: float = Limits(1.0, gt=0)  # p of "softmax", over p s, and of "pow", over s to the power p, as it is printed


class Capsules(nn.Module):
    """The interests of R people: their capsules, each beside the profile and through the same layers.

    `forward` gives interests float32 [R, K, D], where the first stands in for those that a short past does not have; which are
    there bool [R, K]; and which one each event belongs to, float32 [E, K], shares that sum to 1.
    """

    start: Tensor

    def __init__(self, encoding: Encoding, dim: int, config: CapsuleConfig) -> None:
        """dim: of the items' vectors and of the interests."""
        super().__init__()
        self.config, k = config, config.interests
        self.past, self.profile = Past(encoding, dim), Fields(encoding.sizes("user"), config.profile, of=encoding.named("user"))
        self.transform = nn.Linear(dim, dim, bias=False)  # S
        self.out = MLP(dim + self.profile.dim + encoding.numbers("user"), config.hidden, dim, "relu")
        drawn = {"place": PLACES, "content": dim, "events": 0}[config.first]
        self.register_buffer("start", torch.randn(drawn, k, generator=torch.Generator().manual_seed(0)) * config.spread)

    def forward(self, items: Tensor, user: User, history: History) -> tuple[Tensor, Tensor, Tensor]:
        events, config = history.events, self.config
        there = torch.arange(config.interests, device=items.device) < self.count(events)[:, None]
        low = self.transform(self.past(items, history)).float()
        capsule, member = route(events, low, self.logit(low, events), config.rounds, there, through=config.through)
        above = config.merge_learning if self.training and config.merge_learning is not None else config.merge
        if above is not None:
            with torch.autocast(low.device.type, enabled=False):
                capsule, member, there = merged(events, low, capsule, member, there, above)
        profile = torch.cat([self.profile(user.code[:, 1:]), user.number], -1)[:, None].expand(-1, config.interests, -1)
        interest = self.out(torch.cat([capsule, profile], -1)).float()
        interest = interest.relu() if config.rectify else interest
        return torch.where(there[..., None], interest, interest[:, :1]), there, member

    def count(self, events: Segments) -> Tensor:
        """int64 [R], how many interests each person has (equation 9)."""
        most = self.config.interests
        if not self.config.adaptive:
            return torch.full_like(events.length, most)
        return events.length.clamp(min=2).double().log2().floor().long().clamp(max=most)

    def logit(self, low: Tensor, events: Segments) -> Tensor:
        """The first logits [E, K]."""
        if self.config.first == "place":
            return self.start.index_select(0, events.position % len(self.start))
        unit = nn.functional.normalize(low.detach(), dim=-1)
        return unit @ self.start if self.config.first == "content" else self.config.spread * likeness(unit, events, self.config.interests)

    def weights(self, score: Tensor, there: Tensor) -> Tensor:
        """What each interest counts for an item: scores [R, C, K] and which are there [R, K] -> [R, C, K] (equation 11)."""
        return read_out(score, there, self.config.read_out, self.config.power)


def route(
    events: Segments, low: Tensor, logit: Tensor, rounds: int, there: Tensor | None = None, *, through: Literal["all", "last"] = "all"
) -> tuple[Tensor, Tensor]:
    """low float32 [E, D] and first logits [E, K] -> capsules [R, K, D], each shorter than 1, and shares [E, K] of an event's capsules.

    there: bool [R, K], the capsules that a person has; the others stay 0. Under "last" shares are constants: the events alone learn.
    """
    if there is not None:
        logit = logit.masked_fill(~events.spread(there), NEVER)
    low, logit = low.float(), logit.float()
    with torch.autocast(low.device.type, enabled=False):  # small products that build on one another
        made = _LastRound.apply if through == "last" else _routed
        total, share = made(events, low, logit, rounds)
        return squash(total), share


def _routed(events: Segments, low: Tensor, logit: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """What each capsule sums to before it is squashed [R, K, D], and shares [E, K]."""
    total, share = low.new_zeros(events.owners, logit.shape[1], low.shape[1]), torch.zeros_like(logit)
    groups = events.alike(4)  # pasts of like lengths, which are filled up
    if not groups:
        return total + low.sum() + logit.sum(), share  # nothing, that a gradient can go through
    owners, totals, shares = [], [], []
    for place, some in groups:
        own = some.pad(low.index_select(0, place))
        found, of_events = _rounds(own, some.pad(logit.index_select(0, place)).transpose(1, 2), rounds)
        owners.append(events.row.index_select(0, place.index_select(0, some.start[:-1])))
        totals.append(found)
        shares.append(some.unpad(of_events.transpose(1, 2)))
    total = total.index_copy(0, torch.cat(owners), torch.cat(totals))
    return total, share.index_copy(0, torch.cat([place for place, _ in groups]), torch.cat(shares))


def _rounds(low: Tensor, logit: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """low [R, longest, D] and logits [R, K, longest] -> sums [R, K, D], shares [R, K, longest].

    What fills a past up has a share too, of zeros.
    """
    across = low.transpose(1, 2)
    for _ in range(rounds - 1):
        logit = torch.baddbmm(logit, squash(logit.softmax(1) @ low), across)
    share = logit.softmax(1)
    return share @ low, share


class _LastRound(torch.autograd.Function):
    """As `_routed`, with a gradient to low alone, through the last sum alone."""

    @staticmethod
    def forward(ctx: Any, events: Segments, low: Tensor, logit: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
        total, share = _routed(events, low, logit, rounds)
        ctx.events = events
        ctx.save_for_backward(share)
        ctx.mark_non_differentiable(share)
        return total, share

    @staticmethod
    def backward(ctx: Any, total: Tensor, _: Tensor) -> tuple[None, Tensor, None, None]:
        return None, ctx.events.unpool(total, *ctx.saved_tensors), None, None


def likeness(unit: Tensor, events: Segments, count: int) -> Tensor:
    """Directions [E, D] -> [E, count], the cosine of each event with the events of its past that stand out."""
    weight = (unit * events.spread(events.mean(unit))).sum(-1).clamp(min=0)  # [E]
    place, near, found = torch.arange(events.total, device=unit.device), unit.new_zeros(events.total), []
    for _ in range(count):
        score = weight * (1 - near)
        best = events.spread(score.new_full((events.owners,), -torch.inf).scatter_reduce(0, events.row, score, "amax"))
        candidate = torch.where(score == best, place, events.total)  # the first of those that share a place
        chosen = candidate.new_full((events.owners,), events.total).scatter_reduce(0, events.row, candidate, "amin")
        found.append((unit * unit.index_select(0, events.spread(chosen))).sum(-1))
        near = torch.maximum(near, found[-1])
    return torch.stack(found, -1)


def merged(events: Segments, low: Tensor, capsule: Tensor, share: Tensor, there: Tensor, above: float) -> tuple[Tensor, Tensor, Tensor]:
    """Capsules [R, K, D], shares [E, K] and which are there [R, K], with those of a cosine above `above` put together.

    Each goes to the first one that it is alike; what it leaves is not there.
    """
    unit = nn.functional.normalize(capsule.detach(), dim=-1)
    count = unit.shape[1]
    earlier = torch.ones(count, count, device=unit.device).tril(-1) > 0
    alike = (unit @ unit.transpose(1, 2) > above) & there[:, :, None] & there[:, None, :] & earlier  # [R, K, K], of a later with an earlier
    goes = torch.arange(count, device=unit.device).expand(len(unit), count).clone()
    for later in range(1, count):
        first = alike[:, later].float().argmax(-1)
        goes[:, later] = torch.where(alike[:, later].any(-1), goes.gather(1, first[:, None])[:, 0], later)
    there = there & (goes == torch.arange(count, device=unit.device))
    to = nn.functional.one_hot(goes, count).to(share.dtype)  # [R, K, K]
    share = (share[:, None] @ events.spread(to))[:, 0]
    return squash(events.pool(low, share)), share, there


def squash(z: Tensor) -> Tensor:
    """|z|^2 / (1 + |z|^2) z / |z|: the direction of z, and a length below 1."""
    square = z.square().sum(-1, keepdim=True)
    return z * (square / (1 + square) / (square + 1e-9).sqrt())


def read_out(score: Tensor, there: Tensor, how: Literal["max", "softmax", "pow"], power: float) -> Tensor:
    """Weights [R, C, K] of interests, given their scores of an item; none of an interest that is not there bool [R, K].

    max: all on the nearest. softmax: of power times the score. pow: of the score to that power, which for scores below 1 is the
    flatter the greater it is, and which no negative score has unless the power is whole: those count as 0.
    """
    there = there[:, None]
    if how == "max":
        nearest = score.masked_fill(~there, NEVER).argmax(-1, keepdim=True)
        return torch.zeros_like(score).scatter(-1, nearest, 1.0)
    raised = power * score if how == "softmax" else (score if power == int(power) else score.clamp(min=TINY)).pow(power).clamp(max=-NEVER)
    return raised.masked_fill(~there, NEVER).softmax(-1)


def sampled_softmax(vector: Tensor, target: Tensor, drawn: Tensor, batch: Batch) -> Tensor:
    """-log P(candidate | vector), a mean over what was chosen: a scalar (Jean et al., ACL 2015).

    vector [R, C, D] of the person for each candidate; target [R, C, D] of the candidates; drawn [R, n, D] of Batch.negative, each of
    which stands for 1 / (n q) items. One that is the candidate itself is left out.
    """
    if batch.negative is None or batch.negative_log_q is None:
        raise TrainingError("this batch has no Batch.negative with its log-probabilities, which sampled softmax needs.")
    wrong = (vector @ drawn.transpose(1, 2)).float() - (batch.negative_log_q + math.log(drawn.shape[1]))[:, None]  # [R, C, n]
    wrong = wrong.masked_fill(batch.negative[:, None] == batch.item[..., None], NEVER)
    return _against((vector * target).sum(-1).float(), wrong, batch)


def request_softmax(vector: Tensor, target: Tensor, batch: Batch) -> Tensor:
    """The same against the candidates of the request that were not chosen, each less its log q where it was drawn."""
    score = (vector @ target.transpose(1, 2)).float()  # [R, C, C]
    score = score if batch.log_q is None else score - batch.log_q[:, None]
    out = labels(batch) > 0.5 if batch.weight is None else (labels(batch) > 0.5) | (batch.weight == 0)
    return _against(score.diagonal(dim1=1, dim2=2), score.masked_fill(out[:, None], NEVER), batch)


def _against(right: Tensor, wrong: Tensor, batch: Batch) -> Tensor:
    """The mean of log(1 + sum of exp(wrong - right)) over what was chosen and stands against something: [R, C], [R, C, n] -> a scalar."""
    weight = torch.ones_like(right) if batch.weight is None else batch.weight
    weight = torch.where((labels(batch) > 0.5) & (wrong > NEVER / 2).any(-1), weight, 0.0)
    return mean(nn.functional.softplus(wrong.logsumexp(-1) - right), weight)
