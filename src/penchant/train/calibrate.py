"""What makes probabilities of a run's logits, once the best weights are in the model.

    [calibrate]
    method = "prior"       # the rate of positives is put right: exact for a loss of log-odds, nothing to fit
    rate = 0.02            # of what is really shown; left out: as the log's own labels say

    [calibrate]
    method = "isotonic"    # or "platt": fitted on the validation part, by the log's own labels

A loss of log-odds is one whose best logit of training odds o is log(a o), a being known. Training's odds are 1 : n with n
negatives drawn a positive, and else those of the rows that it learns from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from penchant.calibration import Calibration, Identity, fit_isotonic, fit_platt, prior_shift
from penchant.cold import Lender
from penchant.data.encoded import EncodedLog, ranges
from penchant.data.load import Loader
from penchant.data.log import Log
from penchant.data.split import Split
from penchant.encoding import Ints
from penchant.errors import ConfigError, DataError
from penchant.evaluate.judge import judge
from penchant.evaluate.protocol import PROTOCOLS
from penchant.nn.model import Model
from penchant.train.config import RunConfig
from penchant.train.loss import BCE, BPR, GBCE, GCE, MSE, Focal, Loss, Reweighted, Softmax, Truncated

LOGGED = PROTOCOLS["logged"]  # all rows: "impressions" leaves out requests without a click, and so would promise too much
NO_ODDS: Mapping[type[Loss], str] = {
    BCE: "loss.smoothing draws its probabilities towards 1/2",
    Focal: "a loss.gamma above 0 draws its probabilities towards 1/2",
    BPR: "it compares the candidates of a request, and says nothing of how often any is chosen",
    Softmax: "it compares the candidates of a request, and says nothing of how often any is chosen",
    Truncated: "it leaves out positives by their loss, nobody knows which",
    Reweighted: "it weighs rows by its own probabilities",
    GCE: "its best probabilities are not those of the labels",
}
DRAWN_BY = "each item has a rate of its own there, which no one number can put right; draw uniformly, or learn from the log's own labels"


def refuse_uncalibratable(config: RunConfig, model: Model, loss: Loss, loader: Loader, split: Split) -> None:
    """Raises ConfigError, before any work, where the run cannot be calibrated as it is configured."""
    method, log = config.calibrate.method, loader.data.log
    if method == "prior":
        _prior(config, model, loss, loader, split)
    if method in ("platt", "isotonic"):
        _refuse_unlabelled(method, log, split)


def calibrate(
    config: RunConfig, model: Model, loss: Loss, loader: Loader, split: Split, lender: Lender | None = None
) -> Calibration | None:
    """What the run's configuration asks for; None: nothing. The model is put into evaluation mode.

    loss: as it trained, sized. loader: what it trained on. lender: what people with little past are lent. Raises ConfigError, and
    DataError where nothing can be fitted.
    """
    method = config.calibrate.method
    if method == "none":
        return None
    if method == "prior":
        return _prior(config, model, loss, loader, split)
    protocol = replace(LOGGED, tie=loader.tie)
    judged = judge(model, loader.data, split, protocol, past=config.data.past, part="valid", seed=config.seed, lender=lender)
    if judged.rows is None:
        raise TypeError(f"protocol {protocol.name} gave no rows")
    try:
        return (fit_platt if method == "platt" else fit_isotonic)(judged.rows.score, judged.rows.label)
    except DataError as fault:
        raise DataError(f"calibrate.method is {method!r}, which the rows that validate do not allow: {fault}") from fault


def _prior(config: RunConfig, model: Model, loss: Loss, loader: Loader, split: Split) -> Calibration:
    """From the odds that training saw, and the loss made of them, to those of `rate`."""
    _refuse_no_odds(config, model, loss)
    if config.data.noise.fit == "weight":
        raise ConfigError(
            "calibrate.method is 'prior', but data.noise.fit is 'weight': logits say how often what fits is chosen, not how often anything "
            "is. Take the method platt or isotonic, or the fit none."
        )
    data, wanted = loader.data, config.calibrate.rate
    if loader.rows is None:
        if config.data.sampler.name != "uniform":
            raise ConfigError(f"calibrate.method is 'prior', but data.sampler.name is {config.data.sampler.name!r}: {DRAWN_BY}.")
        trained, true = 1 / (1 + config.data.negatives), _rate(data, split.train) if wanted is None else wanted
    else:
        trained = _rate(data, ranges(loader.position, loader.rows))
        true = trained if wanted is None else wanted
    if not 0 < true < 1:
        has = f"no {'negative' if true else 'positive'} of its own that trains"
        raise ConfigError(
            f"calibrate.method is 'prior', but {data.log.folder} has {has}: how often what is shown is chosen cannot be measured. "
            "Set calibrate.rate to the share of positives among what is really shown."
        )
    factor = _factor(loss)
    if true == trained and factor == 1:
        return Identity()
    return prior_shift(factor * trained / true, (1 - trained) / (1 - true))


def _refuse_no_odds(config: RunConfig, model: Model, loss: Loss) -> None:
    """Raises ConfigError where logits are not the log-odds of anything."""
    of_odds = isinstance(loss, MSE | GBCE) or (isinstance(loss, BCE) and not loss.smoothing) or (isinstance(loss, Focal) and not loss.gamma)
    why = None if of_odds else NO_ODDS.get(type(loss), "what its logits mean is not known here")
    said = f"loss.name is {(config.loss or {}).get('name', 'bce')!r}"
    if not any(parameter.requires_grad for parameter in model.parameters()):
        said, why = f"model.name is {config.model.get('name', 'din')!r}", "it learns nothing, by no loss"
    if model.Loss["name"] == "none":
        said, why = f"model.name is {config.model.get('name', 'din')!r}", "it learns by a loss of its own"
    if config.data.target == "explicit":
        said, why = "data.target is 'explicit'", "what is learned is a value, not whether it is positive"
    if why:
        raise ConfigError(
            f"calibrate.method is 'prior', but {said}: {why}, so that its logits are no log-odds. "
            "Choose the loss bce, mse or gbce, or the method platt or isotonic."
        )


def _factor(loss: Loss) -> float:
    """By how much the best odds of a loss of log-odds are greater than those of its labels."""
    if isinstance(loss, BCE):
        return loss.positive_weight
    if isinstance(loss, Focal) and loss.alpha is not None:
        return loss.alpha / (1 - loss.alpha)
    if isinstance(loss, GBCE) and loss.sampling_rate is not None:
        return 1 - loss.t * (1 - loss.sampling_rate)
    return 1.0


def _rate(data: EncodedLog, position: Ints) -> float:
    """The share of positives among these events, by their weights where they have any."""
    log = data.log
    weight = np.asarray(log.events["weight"])[position].astype(np.float64) if "weight" in log.events else np.ones(len(position))
    return float(weight @ log.positive[position] / weight.sum()) if weight.any() else 0.0


def _refuse_unlabelled(method: str, log: Log, split: Split) -> None:
    """Raises ConfigError where the validation part has no labels of its own to fit by."""
    if split.name == "leave-last-out":
        raise ConfigError(
            f"calibrate.method is {method!r}, but split 'leave-last-out' validates by what was chosen, so that its rows say nothing of how "
            "often that is. Split by time, ratio, random, people or column; or take the method prior with calibrate.rate."
        )
    label = log.positive[split.valid]
    if not len(label) or label.all() or not label.any():
        has = f"no {'negative' if label.any() else 'positive'} of its own" if len(label) else "no event"
        raise ConfigError(
            f"calibrate.method is {method!r}, but {log.folder} has {has} in the part that validates, and drawn candidates would only tell "
            "how often drawn candidates are chosen. Take the method prior, with the share of positives among what is really shown as "
            "calibrate.rate."
        )
