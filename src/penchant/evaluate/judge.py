"""A model judged by a protocol, person by person, so that intervals and paired tests can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.batch import Batch
from penchant.data.draw import bits
from penchant.data.encoded import EncodedLog, ranges
from penchant.data.load import LoadConfig, Loader
from penchant.data.negatives import Negatives, Pool
from penchant.data.split import Split
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import ConfigError, DataError, TrainingError, unknown_name
from penchant.evaluate.protocol import Protocol
from penchant.metrics import Interval, Ranking, auc, bootstrap, bootstrap_auc, ranking_of_one
from penchant.nn.model import Model, score_in_chunks

RANKED = ("hr", "ndcg", "mrr", "map", "recall")
SLOTS = 1 << 18  # candidates of all requests that are judged at once

Progress = Callable[[int, int], None]  # people done, people in all


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a model did for each of U people."""

    protocol: Protocol
    part: Literal["valid", "test"]
    seed: int
    people: int
    dropped: int  # people whom the split leaves out, or who have no other candidate
    position: Ints  # [U] the judged event, a position in the Log
    above: Ints  # [U] candidates that scored higher than it
    tied: Ints  # [U] others that scored the same
    others: Ints  # [U] candidates beside it
    score: Floats | None  # [U, 1 + sampled], the judged event first; None over the whole catalogue

    @cached_property
    def auc(self) -> NDArray[np.float64]:
        """[U] the share of other candidates below the judged event, ties counting half."""
        return 1 - (self.above + self.tied / 2) / np.maximum(self.others, 1)

    def at(self, k: int) -> Ranking:
        """The ranking metrics of each person at cut k."""
        return ranking_of_one(self.above, self.tied, k)

    def each(self, metric: str) -> NDArray[np.float64]:
        """[U] one metric, person by person: "hr@10", "ndcg@5", "mrr@10", "map@10", "gauc". Raises UnknownNameError."""
        name, cut = parse_metric(metric)
        values: NDArray[np.float64] = self.auc if cut is None else getattr(self.at(cut), name)
        return values

    def value(self, metric: str) -> float:
        """The mean over people of one metric."""
        return float(self.each(metric).mean())

    def summary(self, k: int = 10, *, resamples: int = 1000) -> dict[str, Any]:
        """Every metric with its 95% interval (bootstrap over people), and what was judged how.

        One positive a person, so that map@k equals mrr@k, and GAUC, every person having as many candidates, their mean AUC.
        """
        found: dict[str, Any] = {"protocol": self.protocol.name, "part": self.part, "order": self.protocol.tie, "ties": "shared ranks"}
        found |= {"people": self.people, "dropped": self.dropped, "seed": self.seed}
        intervals: dict[str, Interval] = {}
        for metric in (f"hr@{k}", f"ndcg@{k}", f"map@{k}", f"mrr@{k}", "gauc"):
            found[metric] = self.value(metric)
            intervals[metric] = bootstrap(self.each(metric), resamples=resamples, seed=self.seed)
        if self.score is not None:
            found["auc"], intervals["auc"] = _pooled(self.score, min(resamples, 100), self.seed)
        return {**found, "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()}}


def _pooled(score: Floats, resamples: int, seed: int) -> tuple[float, Interval]:
    """AUC over all people's candidates together, the judged event of each standing first, and its interval."""
    label = np.zeros(score.shape)
    label[:, 0] = 1
    flat, group = score.reshape(-1), np.repeat(np.arange(len(score)), score.shape[1])
    return auc(flat, label.reshape(-1)), bootstrap_auc(flat, label.reshape(-1), group, resamples=resamples, seed=seed)


def parse_metric(metric: str) -> tuple[str, int | None]:
    """ "ndcg@10" -> ("ndcg", 10), "gauc" -> ("gauc", None). Raises UnknownNameError for what is no metric of a judged event."""
    name, _, cut = metric.partition("@")
    if metric == "gauc":
        return name, None
    if name in RANKED and cut.isdigit() and int(cut) > 0:
        return name, int(cut)
    raise unknown_name("metric here", metric, [*(f"{one}@10" for one in RANKED), "gauc"])


@torch.inference_mode()
def judge(
    model: Model,
    data: EncodedLog,
    split: Split,
    protocol: Protocol,
    *,
    past: int,
    part: Literal["valid", "test"] = "test",
    seed: int = 0,
    people: int | None = None,
    progress: Progress | None = None,
) -> Judged:
    """The model's rankings of each judged event. The model is put into evaluation mode and left in it.

    past: events of a past that are kept, as in training. people: judge only as many, drawn by seed.
    """
    _refuse_other_split(split, protocol)
    if not data.item[np.unique(data.log.events["item"])].all():
        raise ConfigError(f"{data.log.folder}: some of its items are not in the encoding; `evaluate` adds them to it first.")
    model.eval()
    position = _some(split.judged(data.log, part), people, seed)
    if not len(position):
        raise DataError(f"{data.log.folder}: the {part} part of split {split.name!r} has no positive event to judge by.")
    if protocol.sampled:
        _refuse_too_few(data, position, protocol)
    loader = Loader(data=data, position=position, config=LoadConfig(past=past), seed=seed, tie=protocol.tie)
    items = catalogue_vectors(model, data)
    if protocol.shown:
        above, tied, others, score = _shown(model, loader, items, progress)
    elif protocol.sampled:
        above, tied, others, score = _sampled(model, loader, items, protocol.sampled, progress)
    else:
        above, tied, others, score = _whole(model, loader, items, progress)
    alone = others == 0  # whoever has no other candidate shows nothing
    if alone.any():
        position, above, tied, others = position[~alone], above[~alone], tied[~alone], others[~alone]
    if not len(position):
        raise DataError(f"{data.log.folder}: nobody has a candidate beside the judged one.")
    return Judged(
        protocol=protocol,
        part=part,
        seed=seed,
        people=len(position),
        dropped=split.dropped + int(alone.sum()),
        position=position,
        above=above,
        tied=tied,
        others=others,
        score=score,
    )


def catalogue_vectors(model: Model, data: EncodedLog) -> torch.Tensor:
    """[V, D] every item of the catalogue, encoded once."""
    known = torch.from_numpy(data.encoding.catalogue.known).to(model.device)
    return model.item(torch.arange(len(known), device=model.device), known)


def pool(data: EncodedLog) -> Ints:
    """int64, the catalogue rows that have events in the Log."""
    rows = data.item[np.bincount(data.log.events["item"], minlength=len(data.item)) > 0]
    return rows[rows > 0]


Ranks = tuple[Ints, Ints, Ints, Floats | None]


def _sampled(model: Model, loader: Loader, items: torch.Tensor, count: int, progress: Progress | None) -> Ranks:
    """Against `count` different items that a person never chose, a function of (seed, judged event)."""
    data, log = loader.data, loader.data.log
    draws = Negatives(pool=Pool.of(pool(data)), seen=data.seen, seed=loader.seed)
    scores = []
    for position in _blocks(loader.position, count + 1, progress):
        item = np.concatenate([data.rows(position)[:, None], draws.distinct(log.user_of(position), position, count)], axis=1)
        scores.append(_score(model, items, loader.assemble(position, item)))
    score = np.concatenate(scores)
    above, tied = (score[:, 1:] > score[:, :1]).sum(1), (score[:, 1:] == score[:, :1]).sum(1)
    return above, tied, np.full(len(score), count), score


def refuse_unjudgeable(data: EncodedLog, split: Split, protocol: Protocol) -> None:
    """Raises ConfigError, before any work, where a protocol cannot judge the validation part of this split of this Log."""
    _refuse_other_split(split, protocol)
    if protocol.shown and data.log.asked is None:
        raise _no_impressions(data)
    judged = split.judged(data.log, "valid")
    if not len(judged):
        raise ConfigError(
            f"{data.log.folder}: split {split.name!r} leaves no positive event to validate by; give split.valid a larger share."
        )
    if protocol.sampled:
        _refuse_too_few(data, np.concatenate([judged, split.judged(data.log, "test")]), protocol)


def _refuse_other_split(split: Split, protocol: Protocol) -> None:
    if protocol.split is not None and split.name != protocol.split:
        raise ConfigError(f"protocol {protocol.name} needs split {protocol.split}; this log was split by {split.name}.")


def _no_impressions(data: EncodedLog) -> ConfigError:
    says = "this log does not say what requests showed (schema: events.impressions)"
    return ConfigError(f"{data.log.folder}: {says}; judge by another protocol.")


def _refuse_too_few(data: EncodedLog, position: Ints, protocol: Protocol) -> None:
    """Raises ConfigError when somebody who is judged has chosen so much that the protocol's candidates cannot be drawn."""
    rows, user = pool(data), np.unique(data.log.user_of(position))
    left = len(rows) - data.seen.count[user]
    worst = int(left.argmin())
    if left[worst] < (protocol.sampled or 0):
        raise ConfigError(
            f"{protocol.sampled} items that a person never chose were wanted as candidates; "
            f"person {data.log.users.column('id')[int(user[worst])].as_py()!r} has only {left[worst]} left of {len(rows):,}. "
            f"Judge by {protocol.whole}."
        )


def _whole(model: Model, loader: Loader, items: torch.Tensor, progress: Progress | None) -> Ranks:
    """Against every item with events, but for those in the person's past."""
    data, rows = loader.data, pool(loader.data)
    place = np.full(data.encoding.catalogue.size, len(rows))
    place[rows] = np.arange(len(rows))
    above, tied, others = [], [], []
    for position in _blocks(loader.position, len(rows), progress):
        score = _score(model, items, loader.assemble(position, np.broadcast_to(rows, (len(position), len(rows)))))
        own = place[data.rows(position)]
        rival = _rivals(loader, position, place, own, len(rows))
        target = np.take_along_axis(score, own[:, None], axis=1)
        above.append(((score > target) & rival).sum(1))
        tied.append(((score == target) & rival).sum(1))
        others.append(rival.sum(1))
    return np.concatenate(above), np.concatenate(tied), np.concatenate(others), None


def _shown(model: Model, loader: Loader, items: torch.Tensor, progress: Progress | None) -> Ranks:
    """Against the items that the event's own request showed and that were not chosen."""
    log, data = loader.data.log, loader.data
    if log.asked is None:
        raise _no_impressions(data)
    begin = log.begin(loader.position)
    size = np.bincount(log.asked)[begin]
    above, tied, others = (np.zeros(len(begin), dtype=np.int64) for _ in range(3))
    done = 0
    for candidates in map(int, np.unique(size)):
        for mine in _blocks(np.flatnonzero(size == candidates), candidates, None):
            row = begin[mine, None] + np.arange(candidates)
            score = _score(model, items, loader.assemble(loader.position[mine], data.rows(row), shown=row))
            target = np.take_along_axis(score, (loader.position - begin)[mine, None], axis=1)
            rival = ~log.positive[row]
            above[mine], tied[mine] = ((score > target) & rival).sum(1), ((score == target) & rival).sum(1)
            others[mine] = rival.sum(1)
            done += len(mine)
            if progress:
                progress(done, len(begin))
    return above, tied, others, None


def _rivals(loader: Loader, position: Ints, place: Ints, own: Ints, size: int) -> Bools:
    """bool [R, size], the candidates beside the judged one: not in the person's past, nor trained as chosen later."""
    past, length = _chosen(loader, position)
    rival = np.ones((len(position), size + 1), dtype=bool)
    rival[np.repeat(np.arange(len(position)), length), place[loader.data.rows(past)]] = False
    rival[np.arange(len(position)), own] = False
    return rival[:, :size]


def _chosen(loader: Loader, position: Ints) -> tuple[Ints, Ints]:
    """Positions of what is no rival of each judged event, and how many: its past, and, of a split that hides events, all that trained."""
    data, log = loader.data, loader.data.log
    if data.hidden is None:
        return data.past(position, log.size, loader.tie)
    user = log.user_of(position)
    length = log.start[user + 1] - log.start[user]
    index = ranges(log.start[user], length)
    kept = ~data.hidden[index]
    owner = np.repeat(np.arange(len(position)), length)[kept]
    return index[kept], np.bincount(owner, minlength=len(position))


def _score(model: Model, items: torch.Tensor, batch: Batch) -> Floats:
    batch = batch.to(model.device)
    vectors = items.index_select(0, batch.row)
    memory = model.read(vectors, batch.user, batch.history)
    score: Floats = score_in_chunks(model, vectors, memory, batch).float().cpu().numpy()
    if not np.isfinite(score).all():
        raise TrainingError(f"the model scores {int((~np.isfinite(score)).sum()):,} of {score.size:,} candidates with no finite number.")
    return score


def _blocks(position: Ints, candidates: int, progress: Progress | None) -> Iterator[Ints]:
    step = max(1, min(512, SLOTS // candidates))
    for at in range(0, len(position), step):
        yield position[at : at + step]
        if progress:
            progress(min(at + step, len(position)), len(position))


def _some(position: Ints, people: int | None, seed: int) -> Ints:
    if people is None or people >= len(position):
        return position
    return np.sort(position[np.argsort(bits(seed, position), kind="stable")[:people]])
