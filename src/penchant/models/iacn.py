"""An auxiliary task that improves any model: the Interest-aware Capsule Network (Jaiswal and Xiong, "A Model-Agnostic Framework for
Recommendation via Interest-aware Item Embeddings").

                     ┌─ the model's own ─────────────────────────┐
    item ─ encoders ─┤                                           ├─ concat ─ the model ─ logit ── L_main
                     └─ auxiliary ─┬─ gradient times delta ──────┘
                                   └─ gradient times 1 - delta ──┬─ candidate ──────────────────┐
    past, profile ───────────────────────────────────────────────┴─ routing ─ interests 1 .. K ─┴─ sampled softmax ── L_aux

    L = L_main + lambda L_aux,    g_E = delta dL_main/dE + (1 - delta) lambda dL_aux/dE    for the auxiliary tables E

Both networks read one look-up of the auxiliary tables; each through an identity whose gradient is scaled, so that one backward pass
gives the mixture, and the loss knows nothing of delta. Adam and Adagrad take no notice of a factor on a whole gradient, so of lambda
and delta only lambda (1 - delta) / delta matters to the tables.

                      source                            here
    routing           a sum over i and j, x_j, W_ij     over i alone, x_i, one W: behaviour-to-interest routing (nn/capsule.py)
    c_t               f(i_t, r_t): the item and what    the auxiliary tables of id and attributes (`attributes`); with `negatives` 0
                      the system knows of it            the facts of showing it too, which drawn items do not have
    score             c_t . i_u^K; scaled in a figure   that of the label-aware vector (`read_out`), over the root of the width
    L_aux             sum of log P(c_i | i_u)           minus the mean, of what was chosen
    negatives         not said                          `negatives` drawn a request; 0: the request's other candidates
    lambda            not said                          `weight`, 1; `mix`: whether it counts in the tables' gradient
    width of E        not said                          `extra` for the id and each attribute; None: as the model's own
    control           none                              `Wider`: the same tables, and no second network
    the model         DIN, DIEN, Wide & Deep            any; of deepfm the auxiliary columns of the past stay unread, for its past is one
                                                        field of ids; sasrec's examples are whole pasts, so that one positive each is all
                                                        that the capsules learn from

In the source's own table delta = 1, which is no auxiliary gradient at all, already has two thirds of the gain: what the width is worth
has to be taken off. That is what `Wider` is for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field as Limits
from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.models.around import Around, Make
from penchant.nn.capsule import CapsuleConfig, Capsules, request_softmax, sampled_softmax
from penchant.nn.item import ItemConfig, ItemEncoder, Widened, item_encoder
from penchant.nn.model import Retriever, Wants
from penchant.nn.person import Facts


class WiderConfig(Config):
    """The auxiliary tables."""

    extra: int | None = Limits(None, ge=1)  # width of the auxiliary vector of an id and of each attribute; None: as the model's own
    attributes: bool = True  # False: ids alone, as where the model's own encoder reads ids alone
    std: float = Limits(0.05, gt=0)  # of the normal distribution that they start from


class IaCNConfig(WiderConfig, CapsuleConfig):
    """The auxiliary tables, the capsules that read them, and how much either network has to say."""

    weight: float = Limits(1.0, gt=0)  # lambda
    delta: float = Limits(0.3, ge=0, le=1)  # the model's share of the auxiliary tables' gradient
    mix: Literal["weighted", "plain"] = "weighted"  # plain: lambda does not count in that gradient, but for the capsules alone
    through: Literal["all", "last"] = "last"  # the rounds of routing that gradients go through: the last alone, for the step's sake
    negatives: int = Limits(4, ge=0)  # items drawn a request, of the sampled softmax; 0: the other candidates of the request


class Wider(Around):
    """Any model, given a wider item encoder, and nothing else: the control of `IaCN`.

    Raises ConfigError where the model does not use the item encoder that it is given.
    """

    Config = WiderConfig
    table = "auxiliary"

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: WiderConfig, make: Make) -> None:
        """make: builds the model that is wrapped, given an item encoder."""
        width = item.parts[0] if config.extra is None else config.extra
        extra = item_encoder(encoding, ItemConfig(dim=width, attributes=config.attributes and item.attributes, std=config.std))
        wide = Widened(item, extra)
        super().__init__(encoding, wide, make)
        self.columns = slice(item.dim, wide.dim)  # of `items`, whatever the model puts after them

    @property
    def extra(self) -> ItemEncoder:
        """The auxiliary tables."""
        extra: ItemEncoder = self.given.extra
        return extra


class IaCN(Wider):
    """Any model, and beside it a multi-interest network that both learn the auxiliary tables.

    `explain` adds to what the model says each interest's weight for each candidate and which interest each event belongs to, and the
    interests retrieve by the auxiliary columns of the items, unless the model has interests of its own. The logit is the model's.
    """

    Config = IaCNConfig

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: IaCNConfig, make: Make) -> None:
        super().__init__(encoding, item, config, make)
        self.config, width = config, self.columns.stop - self.columns.start
        self.capsules = Capsules(encoding, width, config)  # last, so that the model starts as its control does
        self.shown = Facts(encoding, "shown", width, std=0.01) if not config.negatives else None
        self.scale: float = width**-0.5
        self.rest = (1 - config.delta) / (config.weight if config.mix == "plain" else 1.0)  # the capsules' share of a gradient

    @property
    def wants(self) -> Wants:
        asked, drawn = self.model.wants, self.config.negatives
        return replace(asked, further=max(asked.further, drawn), candidates=asked.candidates or not drawn)

    @property
    def aside(self) -> tuple[str, ...]:
        return ("capsules.", "shown.", *super().aside)

    def forward(self, batch: Batch, *, explain: bool = False) -> Output:
        """The three steps; in training, items that are drawn for the capsules alone are looked up in the auxiliary tables alone."""
        first = batch.first_drawn
        if not self.training or first is None or self.model.wants.further:
            return super().forward(batch, explain=explain)
        main, table = self.views(self.item(batch.row[:first], batch.known[:first]))
        drawn = self.extra(batch.row[first:], batch.known[first:])
        drawn = scaled(drawn, self.rest) if self.rest else drawn.detach()  # an optimiser of rows steps those of a gradient of zeros too
        memory = self.remember(main, table, batch.user, batch.history)
        return self.say(main, torch.cat([table, drawn]), memory, batch, explain=explain)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        return self.remember(*self.views(items), user, history)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        return self.say(*self.views(items), memory, batch, explain=explain)

    def views(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Items [M, *] as the model reads them, and their auxiliary columns [M, h] as the capsules do."""
        if not self.training:
            return items, items[:, self.columns]
        return mixed(items, self.columns, self.config.delta, self.rest)

    def remember(self, main: Tensor, table: Tensor, user: User, history: History) -> Memory:
        """What the model keeps of a past, with its interests."""
        memory = self.model.read(main, user, history)
        interest, there, member = self.capsules(table, user, history)
        each, event = dict(memory.each), dict(memory.event)
        (each if memory.events is None else event)["auxiliary.member"] = member
        whole = {**memory.whole, "auxiliary.interest": interest, "auxiliary.there": there}
        return replace(memory, each=each, event=event, whole=whole)

    def say(self, main: Tensor, table: Tensor, memory: Memory, batch: Batch, *, explain: bool) -> Output:
        """What the model says, with the loss of the interests in training, and what they say where that is asked for."""
        output = self.model.score(main, memory, _drawn(batch, self.model.wants.further), explain=explain)
        if not self.training and not explain:
            return output
        interest, target = memory.whole["auxiliary.interest"], F.embedding(batch.item, table)  # [R, K, h], [R, C, h]
        if self.shown is not None:
            target = target + self.shown(batch.shown.code, batch.shown.number).sum(-2)
        score = (target @ interest.transpose(1, 2)).float() * self.scale
        weight = self.capsules.weights(score, memory.whole["auxiliary.there"])  # [R, C, K]
        if self.training:
            vector = weight @ interest * self.scale  # [R, C, h]
            loss = self.loss(vector, target, table, _drawn(batch, self.config.negatives))
            output = replace(output, losses={**output.losses, "auxiliary": self.config.weight * loss})
        if not explain:
            return output
        if output.interest is not None:  # the model has interests of its own
            return output
        member = (memory.each if memory.events is None else memory.event)["auxiliary.member"]
        return replace(output, interest=weight, member=member)

    def loss(self, vector: Tensor, target: Tensor, table: Tensor, batch: Batch) -> Tensor:
        """L_aux."""
        if self.shown is not None:
            return request_softmax(vector, target, batch)
        return sampled_softmax(vector, target, table[:0] if batch.negative is None else F.embedding(batch.negative, table), batch)

    def interests(self, memory: Memory) -> Tensor:
        """[R, K, h]; those of the model, where it has any."""
        return self.model.interests(memory) if isinstance(self.model, Retriever) else memory.whole["auxiliary.interest"]

    def targets(self, items: Tensor) -> Tensor:
        """[M, h]; those of the model, where it has any."""
        return self.model.targets(items) if isinstance(self.model, Retriever) else items[:, self.columns]


def _drawn(batch: Batch, count: int) -> Batch:
    """The batch with the first `count` of its further items: what one of the two asked for, where the other asked for more."""
    if batch.negative is None or batch.negative_log_q is None or batch.negative.shape[1] <= count:
        return batch
    return replace(batch, negative=batch.negative[:, :count], negative_log_q=batch.negative_log_q[:, :count])


def mixed(items: Tensor, columns: slice, delta: float, rest: float) -> tuple[Tensor, Tensor]:
    """items [M, D], and some of their columns [M, h]; their gradient is `delta` times the first's and `rest` times the second's."""
    main, table = _Mixed.apply(items, columns, delta, rest)  # type: ignore[no-untyped-call]
    return main, table


def scaled(x: Tensor, scale: float) -> Tensor:
    """x, whose gradient is `scale` times what comes back."""
    return mixed(x, slice(0, x.shape[1]), 0.0, scale)[1]


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, columns: slice, delta: float, rest: float) -> tuple[Tensor, Tensor]:
        ctx.columns, ctx.delta, ctx.rest = columns, delta, rest
        return items.view_as(items), items[:, columns].clone()

    @staticmethod
    def backward(ctx: Any, main: Tensor, table: Tensor) -> tuple[Tensor, None, None, None]:
        before, own, after = main.tensor_split((ctx.columns.start, ctx.columns.stop), 1)
        return torch.cat([before, ctx.delta * own + ctx.rest * table, after], 1), None, None, None
