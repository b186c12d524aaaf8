"""What training minimises: the losses by name, and one's own.

    [loss]
    name = "focal"                      # in LOSSES; the other keys are that loss's own
    gamma = 1.5

    [loss]
    name = "my_losses:tilted"           # a function (output, batch, **keys) -> scalar, found on Python's path
    tilt = 0.1

A loss is its own configuration: frozen options, checked, that are called with (output, batch, step). Below, s is a logit, p its
sigmoid, y a label. Every loss is a weighted mean: a slot of weight 0 is not there, a request whose slots weigh 2 is there twice.
Where a loss compares slots, a positive's weight is that of its term, and the weights of those that it is compared with are relative
to their mean. Positives are the slots with y > 1/2. All is worked out from logits, in float32, and waits for no device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, ClassVar

import torch
from pydantic import Field as Limits
from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, Output
from penchant.config import Config, find_own, validate
from penchant.data.load import LoadConfig
from penchant.errors import ConfigError, TrainingError, nearest, unknown_name
from penchant.nn.attention import NEVER
from penchant.nn.loss import TINY, labels, mean
from penchant.nn.model import Model


class Loss(Config):
    """Options of a loss; called, the scalar to minimise."""

    compares: ClassVar[bool] = False  # whether it is of several candidates of one request

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        """step: how many steps were taken before this one."""
        raise TypeError(f"{type(self).__name__} has no (output, batch, step)")

    def sized(self, *, items: int, negatives: int) -> Loss:
        """This loss for `items` that negatives are drawn from, `negatives` a request."""
        return self


class BCE(Loss):
    """Binary cross-entropy: -a y' log p - (1 - y') log(1 - p), with y' = y (1 - e) + e / 2 and a = `positive_weight`.

    e is `smoothing`, the form for two classes. It biases probabilities towards 1/2.
    """

    smoothing: float = Limits(0.0, ge=0, lt=1)
    positive_weight: float = Limits(1.0, gt=0, allow_inf_nan=False)

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        label = labels(batch)
        if self.smoothing:
            label = label * (1 - self.smoothing) + self.smoothing / 2
        return mean(cross_entropy(output.logit, label, self.positive_weight), batch.weight)


class MSE(Loss):
    """Squared error of the probability: (p - y)^2, for labels 0 and 1 or any share between them."""

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        return mean((output.logit.float().sigmoid() - labels(batch)).square(), batch.weight)


class Focal(Loss):
    """Focal loss (Lin et al., ICCV 2017, eq. 5): -a y (1 - p)^g log p - (1 - a) (1 - y) p^g log(1 - p), g being `gamma`.

    a is `alpha`; without it both sides count with 1 (eq. 4). The paper divides by the number of positives, this by that of slots.
    """

    gamma: float = Limits(2.0, ge=0, allow_inf_nan=False)
    alpha: float | None = Limits(None, gt=0, lt=1)

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        label, (yes, no) = labels(batch), sides(output.logit)
        one, zero = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        each = one * label * (-self.gamma * no).exp() * yes + zero * (1 - label) * (-self.gamma * yes).exp() * no
        return mean(each, batch.weight)


class BPR(Loss):
    """Bayesian personalised ranking (Rendle et al., UAI 2009): -log sigmoid(s+ - s-) over all pairs of a positive and another slot
    of the same request. A request without such a pair is left out.
    """

    compares: ClassVar[bool] = True

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        logit, (positive, other) = output.logit.float(), compared(batch)
        pair = positive[:, :, None] * other[:, None, :]  # [R, C, C]
        return mean(F.softplus(logit[:, None, :] - logit[:, :, None]), pair)


class Softmax(Loss):
    """Sampled softmax: -log(exp(a+) / (exp(a+) + sum of exp(a-))) for each positive, against the request's slots that are none.

    a = s - log q (Bengio and Senecal, IEEE TNN 2008; Yi et al., RecSys 2019), so that with ever more draws its gradient becomes that
    of the softmax over all items; a = s without `correct`. A positive against nothing is left out.
    """

    compares: ClassVar[bool] = True

    correct: bool = True

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        logit, (positive, other) = output.logit.float(), compared(batch)
        if self.correct and batch.log_q is None:
            raise TrainingError("this batch has no log_q, which loss.correct needs; set loss.correct to false.")
        if self.correct and batch.log_q is not None:
            logit = logit - batch.log_q
        out = other == 0
        rest = (logit + other.clamp(min=TINY).log()).masked_fill(out, NEVER).logsumexp(1, keepdim=True)  # [R, 1]
        return mean(F.softplus(rest - logit), positive * ~out.all(1, keepdim=True))


class GBCE(Loss):
    """Generalised BCE of gSASRec (Petrov and Macdonald, RecSys 2023, eq. 12): -b y log p - (1 - y) log(1 - p).

    b = alpha (t (1 - 1 / alpha) + 1 / alpha) = 1 - t (1 - alpha), alpha being `sampling_rate`, the share of the items not chosen
    that a request draws: negatives / (items - 1), unless it is given. The paper's p to the power b needs float64; b log p does not.
    """

    t: float = Limits(0.75, ge=0, le=1)  # 0: binary cross-entropy; 1: probabilities as if nothing had been sampled
    sampling_rate: float | None = Limits(None, gt=0, le=1)

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        label = labels(batch)
        if self.sampling_rate is None:
            raise ConfigError("loss.sampling_rate is not known outside of a run: set it to negatives / (items - 1).")
        return mean(cross_entropy(output.logit, label, 1 - self.t * (1 - self.sampling_rate)), batch.weight)

    def sized(self, *, items: int, negatives: int) -> Loss:
        if self.sampling_rate is not None or not negatives:
            return self
        return self.model_copy(update={"sampling_rate": min(negatives / max(items - 1, 1), 1.0)})


class Truncated(Loss):
    """Truncated cross-entropy, T-CE (Wang et al., WSDM 2021, arXiv 2006.04153): BCE without a batch's positives of the largest loss.

    A share of their weight is left out, `most` * min(step / `over`, 1); the positive on its border keeps the rest of its own.
    The authors' code drops that share of all slots, from the positives, in whole slots.
    """

    most: float = Limits(0.2, ge=0, lt=1)
    over: int = Limits(30_000, ge=1)  # steps until `most` is reached

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        label = labels(batch)
        each, share = cross_entropy(output.logit, label), self.most * min(step / self.over, 1.0)
        weight = torch.ones_like(each) if batch.weight is None else batch.weight
        own = torch.where(label > 0.5, weight, 0.0).view(-1)  # [R * C] what positives weigh
        order = each.detach().view(-1).argsort(descending=True, stable=True)
        own = own.index_select(0, order)
        before = own.cumsum(0)  # [R * C] of those with no smaller a loss, its own included
        kept = torch.minimum((before - share * before[-1]).clamp(min=0), own)
        kept = torch.zeros_like(kept).index_copy(0, order, kept).view_as(each)
        return mean(each, torch.where(label > 0.5, kept, weight))


class Reweighted(Loss):
    """Reweighted cross-entropy, R-CE (Wang et al., WSDM 2021, arXiv 2006.04153): -y f(p) log p - (1 - y) f(1 - p) log(1 - p).

    f(x) = x^beta is a weight and takes no gradient, as in the authors' code; the mean is over slots, not over these weights.
    """

    beta: float = Limits(0.2, ge=0, allow_inf_nan=False)

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        label, (yes, no) = labels(batch), sides(output.logit)
        each = label * (-self.beta * yes).exp().detach() * yes + (1 - label) * (-self.beta * no).exp().detach() * no
        return mean(each, batch.weight)


class GCE(Loss):
    """Generalised cross-entropy (Zhang and Sabuncu, NeurIPS 2018, eq. 6): y (1 - p^q) / q + (1 - y) (1 - (1 - p)^q) / q.

    As q goes to 0 it becomes the cross-entropy; with q = 1 it is the absolute error.
    """

    q: float = Limits(0.7, gt=0, le=1)

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        label, (yes, no) = labels(batch), sides(output.logit)
        each = label * torch.expm1(-self.q * yes) + (1 - label) * torch.expm1(-self.q * no)
        return mean(each / -self.q, batch.weight)


class Nothing(Loss):
    """0: what is minimised is what the model itself says is to be."""

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        return output.logit.sum() * 0.0


class Own(Loss):
    """A function that somebody wrote."""

    name: str  # module:function
    function: Callable[..., Any]
    keys: dict[str, Any] = {}

    def __call__(self, output: Output, batch: Batch, step: int = 0) -> Tensor:
        found = self.function(output, batch, **self.keys)
        if isinstance(found, Tensor) and found.dim() == 0:
            return found
        came = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ConfigError(f"loss.name is {self.name!r}, which gave {came}; a tensor of no dimension was wanted.")


LOSSES: dict[str, type[Loss]] = {
    "bce": BCE,
    "mse": MSE,
    "focal": Focal,
    "bpr": BPR,
    "softmax": Softmax,
    "gbce": GBCE,
    "truncated": Truncated,
    "reweighted": Reweighted,
    "gce": GCE,
    "none": Nothing,
}


def read_loss(config: Mapping[str, Any] | None, *, where: str = "loss") -> Loss:
    """The loss that `name` and its own keys describe; without any, bce. Raises ConfigError, UnknownNameError with the nearest."""
    keys = dict(config or {})
    name = keys.pop("name", "bce")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: loss.name is {name!r}; one of {', '.join(LOSSES)} was wanted, or 'module:function'.")
    if ":" in name:
        return _own(name, keys, where)
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return validate(LOSSES[name], keys, where=where, under="loss")


def refuse(loss: Loss, *, negatives: int, impressions: bool) -> None:
    """Raises ConfigError where batches cannot have what a loss needs: `negatives` drawn a request, or what a request showed."""
    if negatives:
        return
    name = next((name for name, kind in LOSSES.items() if type(loss) is kind), "")
    if loss.compares and not impressions:
        raise ConfigError(
            f"loss.name is {name!r}, which compares the candidates of a request, but data.negatives is 0 and the Log has no impressions: "
            "each request has one candidate. Set data.negatives to 1 or more."
        )
    if isinstance(loss, Softmax) and loss.correct:
        raise ConfigError("loss.correct is true, but data.negatives is 0: nothing is drawn that could be corrected for. Set it to false.")
    if isinstance(loss, GBCE) and loss.sampling_rate is None:
        raise ConfigError(f"loss.name is {name!r}, but data.negatives is 0: set that to 1 or more, or loss.sampling_rate.")


def refuse_for(model: Model, name: str, loss: Loss, data: LoadConfig, *, impressions: bool) -> None:
    """Raises ConfigError where a model has nothing to learn by, or its own losses would be of what this run's batches do not have."""
    own, sampler = model.Loss["name"] == "none", data.sampler.name
    if isinstance(loss, Nothing) and not own:
        raise ConfigError(f"loss.name is 'none', but {name} has no loss of its own that could take its place: it would learn nothing.")
    if (own or model.wants.further or model.wants.candidates) and data.target == "explicit":
        raise ConfigError(
            f"data.target is 'explicit', but the loss of {name} is of what was chosen next; it predicts no values. "
            "Take another model, or data.target 'implicit'."
        )
    if model.wants.candidates and not data.negatives and not impressions:
        raise ConfigError(
            f"{name} compares the candidates of a request, but data.negatives is 0 and the Log has no impressions: each request has one. "
            "Set data.negatives to 1 or more; or auxiliary.negatives, where it is the auxiliary network that compares them."
        )
    if model.wants.against_past and sampler in ("category", "alive"):
        raise ConfigError(
            f"data.sampler.name is {sampler!r}, but {name} asks for draws that every event of a past stands against: {sampler!r} draws for "
            "one moment. Take uniform or popularity, or another loss of the model."
        )


def total(output: Output, batch: Batch, loss: Loss = BCE(), step: int = 0) -> Tensor:
    """The loss of the candidates and whatever else the model says is to be minimised."""
    return sum(output.losses.values(), start=loss(output, batch, step))


def compared(batch: Batch) -> tuple[Tensor, Tensor]:
    """What positives weigh, and what the other slots do as multiples of their mean in their request; 0 elsewhere: float32 [R, C] each."""
    label = labels(batch)
    weight = torch.ones_like(label) if batch.weight is None else batch.weight
    positive, other = torch.where(label > 0.5, weight, 0.0), torch.where(label > 0.5, 0.0, weight)
    return positive, other * (other > 0).sum(1, keepdim=True) / other.sum(1, keepdim=True).clamp(min=TINY)


def sides(logit: Tensor) -> tuple[Tensor, Tensor]:
    """-log p and -log(1 - p)."""
    return F.softplus(-logit.float()), F.softplus(logit.float())


def cross_entropy(logit: Tensor, label: Tensor, positive: float = 1.0) -> Tensor:
    """-positive y log p - (1 - y) log(1 - p) of each."""
    if positive == 1:
        return F.binary_cross_entropy_with_logits(logit.float(), label, reduction="none")
    yes, no = sides(logit)
    return positive * label * yes + (1 - label) * no


def _own(name: str, keys: Mapping[str, Any], where: str) -> Own:
    """The function that "module:function" names, which takes these keys."""
    function = find_own(name, said=f"{where}: loss.name is {name!r}", what="function", like="my_losses:tilted")
    _refuse_keys(function, name, keys, where)
    return Own(name=name, function=function, keys=dict(keys))


def _refuse_keys(function: Callable[..., Any], name: str, keys: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError when the function cannot be called with (output, batch, **keys)."""
    taken = signature(function)
    named = [p.name for p in list(taken.parameters.values())[2:] if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    if not any(p.kind is Parameter.VAR_KEYWORD for p in taken.parameters.values()):
        for key in keys:
            if key not in named:
                has = nearest(key, named) or (f" It has {', '.join(named)}." if named else " It has none.")
                raise ConfigError(f"{where}: loss.{key} is not a key of {name}.{has}")
    try:
        taken.bind(None, None, **keys)
    except TypeError as fault:
        raise ConfigError(f"{where}: loss.name is {name!r}, which cannot be called with (output, batch) and its keys: {fault}.") from None
