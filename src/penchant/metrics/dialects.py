"""What other libraries' arithmetic gives on the same arrays, so that their numbers and ours can be laid side by side.

    DIALECTS["recbole"].gauc(score, label, group)
    DIALECTS["fuxictr"].at_k["ndcg"](score, label, group, 10)

Each was read in its source, named in `source`, and written anew from what it does: what follows is their rule, not ours.
Where a library leaves tied rows in whatever order its sort returns, there is no one number to reproduce (numpy's argsort
and torch's sort and topk order ties differently from one processor or size to the next): there the tied rows are taken in
the order of the arrays, or in the reverse of it, whichever the library gives where its sort is stable, and `says` says so.
Rounding is left out, and every sum is in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from penchant.errors import DataError
from penchant.metrics.labelled import By, auc, grouped_auc
from penchant.metrics.rows import Floats, Whole, as_numbers, at_least_one, codes, refuse, same, scored, starts

Pooled = Callable[[ArrayLike, ArrayLike], float]
Grouped = Callable[[ArrayLike, ArrayLike, ArrayLike], float]
AtK = Callable[[ArrayLike, ArrayLike, ArrayLike, int], float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Dialect:
    """The metrics of another library, each one number of all rows; None or absent is what the library has not.

    score [N] numbers, label [N] 0 or 1, group [N] ids in any order, k at least 1; log_loss is of a probability [N].
    """

    source: str  # which files of which version
    says: tuple[str, ...]  # what it does otherwise than penchant
    auc: Pooled  # (score, label)
    gauc: Grouped  # (score, label, group)
    log_loss: Pooled | None = None  # (probability, label)
    at_k: Mapping[str, AtK] = field(default_factory=dict)  # (score, label, group, k) by "hr", "ndcg", "map", "mrr", "recall"
    also: Mapping[str, Grouped] = field(default_factory=dict)  # further numbers of (score, label, group), by the library's names


@dataclass(frozen=True, eq=False)
class Listed:
    """The rows in the order of their groups' lists, highest score first: N rows of G groups, every tie broken."""

    positive: Floats  # [N]
    place: Whole  # [N]  1, 2, ... in the list
    code: Whole  # [N]  whose list
    first: Whole  # [G]  where each list begins
    total: Floats  # [G]  positives

    def sum(self, value: Floats) -> Floats:
        """The sum [G] of a value [N] over each list."""
        return np.add.reduceat(value, self.first)

    def before(self, value: Floats) -> Floats:
        """The sum [N] of a value [N] over the rows that come before each row in its list."""
        up_to = np.cumsum(value) - value
        return up_to - np.repeat(up_to[self.first], np.diff(self.first, append=len(value)))

    def pairs_won(self) -> Floats:
        """How many pairs [G] of a positive and a negative have the positive first."""
        return self.sum((1.0 - self.positive) * self.before(self.positive))


def listed(score: ArrayLike, label: ArrayLike, group: ArrayLike, *, last_first: bool = False) -> Listed:
    """Of tied rows the earlier comes first, or the later where `last_first`."""
    score, positive = scored(score, label)
    _, code = codes(group, len(score))
    if not len(score):
        raise DataError("score has no rows: wanted at least one.")
    step = -1 if last_first else 1
    order = np.lexsort((-score[::step], code[::step]))
    if last_first:
        order = len(score) - 1 - order
    code, positive = code[order], positive[order]
    first = starts(code)
    place = np.arange(len(code)) - np.repeat(first, np.diff(first, append=len(code))) + 1
    return Listed(positive, place, code, first, np.add.reduceat(positive, first))


# --- the metrics of one list, ties broken: [G], NaN or 0 where a list has no positive, as each says


def hit(lists: Listed, k: int) -> Floats:
    return (hits(lists, k) > 0).astype(np.float64)


def hits(lists: Listed, k: int) -> Floats:
    return lists.sum(lists.positive * (lists.place <= at_least_one("k", k)))


def ndcg(lists: Listed, k: int) -> Floats:
    """DCG over the ideal DCG of min(positives, k) places; 0 without a positive."""
    k = at_least_one("k", k)
    gain = lists.sum(lists.positive * (lists.place <= k) / np.log2(lists.place + 1))
    discount = np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(2, k + 2))))
    ideal = discount[np.minimum(lists.total, k).astype(np.int64)]
    value = np.zeros(len(gain))
    np.divide(gain, ideal, out=value, where=ideal > 0)
    return value


def average_precision(lists: Listed, k: int) -> Floats:
    """Sum of precision at each positive among the first k, over min(positives, k); 0 without a positive."""
    k = at_least_one("k", k)
    precision = lists.positive * (lists.before(lists.positive) + 1) / lists.place
    return lists.sum(precision * (lists.place <= k)) / np.maximum(np.minimum(lists.total, k), 1)


def reciprocal_rank(lists: Listed, k: int) -> Floats:
    """1 over the place of the first positive, 0 beyond k or without one."""
    return np.maximum.reduceat(lists.positive * (lists.place <= at_least_one("k", k)) / lists.place, lists.first)


def recall(lists: Listed, k: int) -> Floats:
    """NaN without a positive."""
    value = np.full(len(lists.total), np.nan)
    np.divide(hits(lists, k), lists.total, out=value, where=lists.total > 0)
    return value


def mean_at_k(
    each: Callable[[Listed, int], Floats], score: ArrayLike, label: ArrayLike, group: ArrayLike, k: int, *, last_first: bool = False
) -> float:
    """The mean over every list, with a positive or without."""
    return float(each(listed(score, label, group, last_first=last_first), k).mean())


def pooled_recall(score: ArrayLike, label: ArrayLike, group: ArrayLike, k: int) -> float:
    """The share of all positives that are among the first k of their lists; NaN where there is none."""
    lists = listed(score, label, group)
    total = lists.total.sum()
    return float(hits(lists, k).sum() / total) if total else float("nan")


def mean_auc(score: ArrayLike, label: ArrayLike, group: ArrayLike, by: By) -> float:
    return grouped_auc(score, label, group, by=by).value


def clipped_log_loss(probability: ArrayLike, label: ArrayLike, least: float, *, bits: bool = False) -> float:
    """The mean cross-entropy of probabilities held within least .. 1 - least."""
    chance, positive = probabilities(probability, label)
    chance = np.clip(chance, least, 1 - least)
    loss = float(-np.mean(positive * np.log(chance) + (1 - positive) * np.log(1 - chance)))
    return loss / np.log(2.0) if bits else loss


def probabilities(probability: ArrayLike, label: ArrayLike) -> tuple[Floats, Floats]:
    chance, positive = as_numbers("probability", probability), as_numbers("label", label)
    same("label", positive, "probability", chance)
    refuse("probability", chance, ~((chance >= 0) & (chance <= 1)), "a number from 0 to 1")
    refuse("label", positive, (positive != 0) & (positive != 1), "0 or 1")
    if not len(chance):
        raise DataError("probability has no rows: wanted at least one.")
    return chance, positive


# --- what is one library's own


def fuxictr_log_loss(probability: ArrayLike, label: ArrayLike) -> float:
    _, positive = probabilities(probability, label)
    if positive.all() or not positive.any():
        raise DataError(f"label is {positive[0]:.0f} in all {len(positive)} rows: FuxiCTR's log loss (scikit-learn's) wants both classes.")
    return clipped_log_loss(probability, label, float(np.finfo(np.float64).eps))


def fuxictr_mrr(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> float:
    lists = listed(score, label, group, last_first=True)
    return float(np.mean(lists.sum(lists.positive / lists.place) / (lists.total + 1e-12)))


def fuxictr_ndcg(score: ArrayLike, label: ArrayLike, group: ArrayLike, k: int) -> float:
    lists = listed(score, label, group, last_first=True)
    places = np.arange(1, at_least_one("k", k) + 1)
    ideal = np.cumsum(1.0 / np.log2(places + 1))[np.maximum(np.minimum(lists.total, k).astype(np.int64), 1) - 1]
    return float(np.mean(ndcg(lists, k) * ideal / (ideal + 1e-12)))


def torchrec_auc(score: ArrayLike, label: ArrayLike) -> float:
    return torchrec_grouped_auc(score, label, np.zeros(len(as_numbers("score", score))))


def torchrec_grouped_auc(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> float:
    lists = listed(as_numbers("score", score).astype(np.float32), label, group)
    pairs = lists.total * (lists.sum(np.ones(len(lists.code))) - lists.total)
    return float(np.divide(lists.pairs_won(), pairs, out=np.full(len(pairs), 0.5), where=pairs > 0).mean())


def torchrec_gauc(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> float:
    lists = listed(score, label, group, last_first=True)
    pairs = lists.total * (lists.sum(np.ones(len(lists.code))) - lists.total)
    score = as_numbers("score", score)
    ids, code = codes(group, len(score))
    lead = np.empty(len(ids))
    lead[code[::-1]] = score[::-1]  # the score of each group's first row
    says = np.bincount(code, (score != lead[code]) & (score != 0), len(ids)) > 0
    kept = (pairs > 0) & says
    value = lists.pairs_won()[kept] / (pairs[kept] + 1e-10)
    return float((value.sum() + 1e-9) / (len(value) + 2e-9))


def din_auc(score: ArrayLike, label: ArrayLike) -> float:
    lists = listed(score, label, np.zeros(len(as_numbers("score", score))), last_first=True)
    pairs = float(lists.total[0] * (len(lists.code) - lists.total[0]))
    return float(lists.pairs_won()[0] / pairs) if pairs else -0.5


def din_gauc(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> float:
    numbers, positive = scored(score, label)
    ids, code = codes(group, len(numbers))
    if not len(ids):
        raise DataError("score has no rows: wanted at least one.")
    won, lost = np.bincount(code, positive), np.bincount(code, 1 - positive)
    odd = (won != 1) | (lost != 1)
    if odd.any():
        raise DataError(
            f"group {ids[odd][0]} has {won[odd][0]:.0f} positives and {lost[odd][0]:.0f} negatives, the first of {odd.sum()} such "
            f"in {len(ids)}: DIN's official GAUC wants one of each."
        )
    up, down = np.empty(len(ids)), np.empty(len(ids))
    up[code[positive == 1]], down[code[positive == 0]] = numbers[positive == 1], numbers[positive == 0]
    return float(np.mean(up > down))


def rechub_gauc(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> float:
    ours = grouped_auc(score, label, group)
    return float("nan") if ours.dropped else ours.value


def rechub_log_loss(probability: ArrayLike, label: ArrayLike) -> float:
    chance, positive = probabilities(probability, label)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(-np.mean(positive * np.log(chance) + (1 - positive) * np.log(1 - chance)))


DIALECTS: Mapping[str, Dialect] = {
    "recbole": Dialect(
        source="RecBole 1.2.1: recbole/evaluator/metrics.py, collector.py, utils.py",
        says=(
            "GAUC weighs users by their positives, drops those of one class, and counts a tie one half.",
            "Lists are torch.topk's, which orders ties by no rule: here the earlier row comes first.",
            "HR, NDCG, MAP and MRR count a user without a positive as 0, and recall as nan.",
            "Log loss holds probabilities within 1e-15 of 0 and 1.",
            "Results are rounded to metric_decimal_place, 4 unless set; ranks of GAUC are summed in float32.",
        ),
        auc=auc,
        gauc=partial(mean_auc, by="positives"),
        log_loss=partial(clipped_log_loss, least=1e-15),
        at_k={
            "hr": partial(mean_at_k, hit),
            "ndcg": partial(mean_at_k, ndcg),
            "map": partial(mean_at_k, average_precision),
            "mrr": partial(mean_at_k, reciprocal_rank),
            "recall": partial(mean_at_k, recall),
        },
    ),
    "fuxictr": Dialect(
        source="FuxiCTR 2.3.10: fuxictr/metrics.py",
        says=(
            "gAUC weighs users by their rows, avgAUC counts each once; both drop those of one class and count a tie one half.",
            "MRR has no cut, and is the mean of 1 / place over all of a user's positives, not that of the first.",
            "Lists are a reversed np.argsort: of tied rows the later comes first where numpy sorts without vector "
            "instructions, in groups of at most 16, and by no rule elsewhere; here the later comes first.",
            "MRR and NDCG count a user without a positive as 0.",
            "Log loss is scikit-learn's: it holds probabilities within 2.2e-16 of 0 and 1, and refuses labels of one class.",
        ),
        auc=auc,
        gauc=partial(mean_auc, by="impressions"),
        log_loss=fuxictr_log_loss,
        at_k={"ndcg": fuxictr_ndcg},
        also={"avgAUC": partial(mean_auc, by="users"), "MRR": fuxictr_mrr},
    ),
    "torchrec": Dialect(
        source="TorchRec 1.9.0: torchrec/metrics/gauc.py, auc.py, ndcg.py, ne.py",
        says=(
            "GAUC counts each user once and drops those of one class; of tied rows the later is ranked above.",
            "GAUC also drops a user whose scores are all 0 or all equal to that of the first row; with none left it is 0.5.",
            "AUC, and grouped_auc, round scores to float32; of tied rows the earlier is ranked above, and one class alone is 0.5.",
            "grouped_auc counts each user once, those of one class as 0.5.",
            "The order of tied rows is that of torch.argsort, which is stable on a CPU for at most 16 rows: here it is stable always.",
            "NDCG is reported as 1 - NDCG unless report_ndcg_as_decreasing_curve is off (here it is NDCG); it takes tied rows "
            "in their order, and counts a user without a positive as 0.",
            "Log loss is in bits, not nats, and holds probabilities within 1e-12 of 0 and 1.",
        ),
        auc=torchrec_auc,
        gauc=torchrec_gauc,
        log_loss=partial(clipped_log_loss, least=1e-12, bits=True),
        at_k={"ndcg": partial(mean_at_k, ndcg)},
        also={"grouped_auc": torchrec_grouped_auc},
    ),
    "din": Dialect(
        source="zhougr1993/DeepInterestNetwork: din/model.py at 2db0cd9 (mf_auc), din/train.py at 58dcc8d (calc_auc, _eval)",
        says=(
            "GAUC is the share of users whose one positive scores above their one negative: a tie counts 0.",
            "AUC gives a tie to the later row; labels of one class are -0.5.",
            "AUC is of sigmoids in float32, which tie where logits do not; here it is of the scores as they are.",
        ),
        auc=din_auc,
        gauc=din_gauc,
    ),
    "torch-rechub": Dialect(
        source="torch-rechub 0.9.0: torch_rechub/basic/metric.py",
        says=(
            "GAUC weighs users by their rows and drops nobody: one user of one class makes it nan.",
            "Hit is the share of all positives that are found, pooled over users.",
            "NDCG, MRR and recall count a user without a positive as 0.",
            "It is given lists in order, each of at least k items: here the earlier of tied rows comes first, and lists may be shorter.",
            "Log loss holds nothing away from 0 and 1: it is inf or nan there.",
            "Metrics of lists are rounded to 4 places.",
        ),
        auc=auc,
        gauc=rechub_gauc,
        log_loss=rechub_log_loss,
        at_k={
            "hr": pooled_recall,
            "ndcg": partial(mean_at_k, ndcg),
            "mrr": partial(mean_at_k, reciprocal_rank),
            "recall": partial(mean_at_k, lambda lists, k: np.nan_to_num(recall(lists, k))),
        },
    ),
}
"""By name: RecBole, FuxiCTR, TorchRec, the official code of DIN, and torch-rechub."""
