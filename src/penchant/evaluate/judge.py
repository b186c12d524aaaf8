"""A model judged by a protocol: who is asked about, what stands beside it, and how the model ranks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch

from penchant.batch import Batch
from penchant.cold import Lender
from penchant.data.draw import bits
from penchant.data.encoded import EncodedLog, ranges
from penchant.data.load import LoadConfig, Loader
from penchant.data.log import Log
from penchant.data.negatives import Negatives, Pool, Seen, by_popularity
from penchant.data.split import Split
from penchant.encoding import Bools, Floats, Ints
from penchant.errors import ConfigError, DataError, TrainingError
from penchant.evaluate.judged import Judged, Rows
from penchant.evaluate.protocol import Protocol
from penchant.metrics import Lists
from penchant.nn.model import Model, score_in_chunks

SLOTS = 1 << 18  # candidates of all requests that are judged at once
REQUESTS = 512  # and requests
TOP = 10  # items of a list over the whole catalogue that are kept
ASKING = 1 << 16  # requests at a time whose lent events are looked up

Progress = Callable[[int, int], None]  # requests done, requests in all
Part = Literal["valid", "test"]
PARTS: tuple[Part, ...] = ("valid", "test")
Found = tuple[Ints, Ints, Lists, Rows | None, Ints | None]  # of Judged: position, user, lists, rows, top


@torch.inference_mode()
def judge(
    model: Model,
    data: EncodedLog,
    split: Split,
    protocol: Protocol,
    *,
    past: int,
    part: Part = "test",
    seed: int = 0,
    people: int | None = None,
    progress: Progress | None = None,
    lender: Lender | None = None,
    keep: int | None = None,
) -> Judged:
    """What the model makes of each judged event. The model is put into evaluation mode and left in it.

    past: events of a past that are kept, as in training. people: judge only as many, drawn by seed. lender: what people with little
    past are lent; None: nothing. keep: of each past only as many events are looked at, the latest, as if there were no others; what is
    ranked stays the same.
    Raises ConfigError where the protocol does not fit the Log or the split, DataError where nobody can be judged.
    """
    log = data.log
    protocol.refuse_split(split.config)
    if not data.item[np.unique(log.events["item"])].all():
        raise ConfigError(f"{log.folder}: some of its items are not in the encoding; `evaluate` adds them to it first.")
    model.eval()
    everybody = asked(log, split, protocol, part)
    position = _of_some(log, everybody, people, seed)
    if not len(position):
        raise DataError(f"{log.folder}: the {part} part of split {split.name!r} has {_nothing(protocol)} to judge by.")
    _refuse_positives_alone(log, position, protocol)
    loader = Loader(data=data, position=position, config=LoadConfig(past=past), seed=seed, tie=protocol.tie, lender=lender, keep=keep)
    items = catalogue_vectors(model, data)
    if protocol.candidates in ("shown", "own"):
        at, user, lists, rows, top = _logged(model, loader, items, protocol, progress)
    elif protocol.sampled:
        at, user, lists, rows, top = _sampled(model, loader, items, _drawn_from(data, split, protocol, part), protocol, progress)
    else:
        at, user, lists, rows, top = _whole(model, loader, items, split, protocol, part, progress)
    if not len(at):
        raise DataError(f"{log.folder}: nobody has a candidate beside the judged one.")
    never_asked = split.dropped + _people(log, split.judged(log, part)) - _people(log, everybody)
    return Judged(
        protocol=protocol,
        part=part,
        seed=seed,
        log=log.version,
        dropped=never_asked + _people(log, position) - len(np.unique(user)),
        position=at,
        user=user,
        lists=lists,
        rows=rows,
        top=top,
        step=_steps(loader, at),
        keep=keep,
    )


def _steps(loader: Loader, position: Ints) -> Ints | None:
    """int64, what the requests at these moments were lent by; None: there is no lender."""
    parts = [loader.lent(position[at : at + ASKING]) for at in range(0, len(position), ASKING)]
    steps = [lent.step for lent in parts if lent is not None]
    return np.concatenate(steps) if steps else None


def asked(log: Log, split: Split, protocol: Protocol, part: Part) -> Ints:
    """The events at whose moments a protocol asks, ascending."""
    position = split.valid if part == "valid" else split.test
    if protocol.judged == "last":
        return split.judged(log, part)
    if protocol.judged == "rest":
        return _firsts(log, position[log.positive[position]])
    if protocol.judged == "rows":
        return position
    if log.asked is None:
        raise _no_impressions(log)
    begin = np.unique(log.begin(position))
    shown, chosen = np.bincount(log.asked, minlength=log.size), np.bincount(log.asked, log.positive, log.size)
    mixed: Ints = begin[(chosen[begin] > 0) & (chosen[begin] < shown[begin])]
    return mixed


def refuse_unjudgeable(data: EncodedLog, split: Split, protocol: Protocol) -> None:
    """Raises ConfigError, before any work, where a protocol cannot judge the validation part of this split of this Log."""
    protocol.refuse_split(split.config)
    judged = asked(data.log, split, protocol, "valid")
    if not len(judged):
        raise ConfigError(
            f"{data.log.folder}: split {split.name!r} leaves {_nothing(protocol)} to validate by; give split.valid a larger share."
        )
    _refuse_positives_alone(data.log, judged, protocol)
    if protocol.sampled:
        for part in PARTS:
            _refuse_too_few(data, asked(data.log, split, protocol, part), _drawn_from(data, split, protocol, part), protocol)


def _refuse_positives_alone(log: Log, position: Ints, protocol: Protocol) -> None:
    if protocol.candidates == "own" and log.positive[position].all():
        raise ConfigError(f"{log.folder}: protocol {protocol.name} needs events that are no positives; all of this part's are.")


def catalogue_vectors(model: Model, data: EncodedLog) -> torch.Tensor:
    """[V, D] every item of the catalogue, encoded once."""
    known = torch.from_numpy(data.encoding.catalogue.known).to(model.device)
    return model.item(torch.arange(len(known), device=model.device), known)


def pool(data: EncodedLog) -> Ints:
    """int64, the catalogue rows that have events in the Log."""
    rows = data.item[np.bincount(data.log.events["item"], minlength=len(data.item)) > 0]
    return rows[rows > 0]


# ---------------------------------------------------------------------------------------------------------------- sampled


def _sampled(model: Model, loader: Loader, items: torch.Tensor, drawn_from: Pool, protocol: Protocol, progress: Progress | None) -> Found:
    """Against different drawn items, a function of (seed, judged event)."""
    data, log, position, count = loader.data, loader.data.log, loader.position, protocol.count
    _refuse_too_few(data, position, drawn_from, protocol)
    draws = Negatives(pool=drawn_from, seen=_not_drawn(data, position, protocol), seed=loader.seed)
    scores = []
    for mine in _blocks(position, count + 1, progress):
        item = np.concatenate([data.rows(mine)[:, None], draws.distinct(log.user_of(mine), mine, count)], axis=1)
        scores.append(_score(model, items, loader.assemble(mine, item)))
    score = np.concatenate(scores)
    above, tied = (score[:, 1:] > score[:, :1]).sum(1), (score[:, 1:] == score[:, :1]).sum(1)
    user, label = log.user_of(position), np.zeros(score.shape, np.float32)
    label[:, 0] = 1
    of_each = np.repeat(user, count + 1)
    rows = Rows(score.reshape(-1), label.reshape(-1), of_each, of_each)
    return position, user, Lists.of_one(above, tied, np.full(len(score), count)), rows, None


def _not_drawn(data: EncodedLog, position: Ints, protocol: Protocol) -> Seen:
    """What no candidate of each person may be: all that they ever chose, or the judged item alone."""
    if protocol.excluded == "chosen":
        return data.seen
    return Seen(data.log.user_of(position), data.rows(position), users=len(data.log.users), rows=data.encoding.catalogue.size)


def _drawn_from(data: EncodedLog, split: Split, protocol: Protocol, part: Part) -> Pool:
    if protocol.candidates == "uniform":
        return Pool.of(pool(data))
    if protocol.candidates == "held":
        return Pool.of(np.unique(data.rows(split.valid if part == "valid" else split.test)))
    chosen = split.train[data.log.positive[split.train]]  # of the Log's own training part, whatever the model was trained on
    size = data.encoding.catalogue.size
    return by_popularity(np.arange(1, size), np.bincount(data.rows(chosen), minlength=size), power=1)


def _refuse_too_few(data: EncodedLog, position: Ints, drawn_from: Pool, protocol: Protocol) -> None:
    """Raises ConfigError when somebody who is judged has chosen so much that the protocol's candidates cannot be drawn."""
    if protocol.excluded != "chosen":
        return
    rows, user = drawn_from.row, np.unique(data.log.user_of(position))
    if not len(user):
        return
    whose, row = data.seen.pairs
    left = len(rows) - np.bincount(whose[np.isin(row, rows)], minlength=len(data.log.users))[user]
    worst = int(left.argmin())
    if left[worst] < protocol.count:
        raise ConfigError(
            f"{protocol.count} items that a person never chose were wanted as candidates; "
            f"person {data.log.users.column('id')[int(user[worst])].as_py()!r} has only {left[worst]} left of {len(rows):,}. "
            f"Judge by {protocol.whole}."
        )


# ---------------------------------------------------------------------------------------------------------- the catalogue


def _whole(
    model: Model, loader: Loader, items: torch.Tensor, split: Split, protocol: Protocol, part: Part, progress: Progress | None
) -> Found:
    """Against every item with events, but for those in the person's past."""
    data, rows = loader.data, pool(loader.data)
    place = np.full(data.encoding.catalogue.size, len(rows))
    place[rows] = np.arange(len(rows))
    kept, lists, tops = [], [], []
    for position in _blocks(loader.position, len(rows), progress):
        score = _score(model, items, loader.assemble(position, np.broadcast_to(rows, (len(position), len(rows)))))
        wanted = _wanted(data, position, split, protocol, part, place, len(rows))
        candidate = _candidates(loader, position, place, len(rows))
        if protocol.judged == "last":
            candidate |= wanted  # who chooses the same again is asked about it still
        wanted &= candidate
        use = wanted.any(1) & (candidate & ~wanted).any(1)
        lists.append(_ranked(score[use], wanted[use], candidate[use]))
        kept.append(use)
        tops.append(_first(np.where(candidate, score, -np.inf), rows))
    mine = np.concatenate(kept)
    position = loader.position[mine]
    return position, data.log.user_of(position), Lists.join(lists), None, np.concatenate(tops)[mine]


def _ranked(score: Floats, wanted: Bools, candidate: Bools) -> Lists:
    if (wanted.sum(1) == 1).all():
        target = score[wanted][:, None]
        rival = candidate & ~wanted
        return Lists.of_one(((score > target) & rival).sum(1), ((score == target) & rival).sum(1), rival.sum(1))
    owner = np.broadcast_to(np.arange(len(score))[:, None], score.shape)
    return Lists.of(score[candidate], wanted[candidate], owner[candidate])


def _wanted(data: EncodedLog, position: Ints, split: Split, protocol: Protocol, part: Part, place: Ints, size: int) -> Bools:
    """bool [R, size], what each person chose: the judged event, or all positives of the part."""
    wanted = np.zeros((len(position), size + 1), dtype=bool)
    if protocol.judged == "last":
        wanted[np.arange(len(position)), place[data.rows(position)]] = True
        return wanted[:, :size]
    log, of_part = data.log, split.valid if part == "valid" else split.test
    of_part = of_part[log.positive[of_part]]
    user = log.user_of(position)
    begin, end = np.searchsorted(of_part, log.start[user]), np.searchsorted(of_part, log.start[user + 1])
    mine = of_part[ranges(begin, end - begin)]
    wanted[np.repeat(np.arange(len(position)), end - begin), place[data.rows(mine)]] = True
    return wanted[:, :size]


def _candidates(loader: Loader, position: Ints, place: Ints, size: int) -> Bools:
    """bool [R, size], what is ranked: not what is in the person's past, nor what trained as chosen later."""
    past, length = _chosen(loader, position)
    candidate = np.ones((len(position), size + 1), dtype=bool)
    candidate[np.repeat(np.arange(len(position)), length), place[loader.data.rows(past)]] = False
    return candidate[:, :size]


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


def _first(score: Floats, rows: Ints) -> Ints:
    """int64 [R, TOP] the catalogue rows that score highest, best first; -1 where there are fewer."""
    most = min(TOP, score.shape[1])
    found = np.argpartition(-score, most - 1, axis=1)[:, :most]
    value = np.take_along_axis(score, found, axis=1)
    order = np.lexsort((found, -value), axis=1)
    found, value = np.take_along_axis(found, order, axis=1), np.take_along_axis(value, order, axis=1)
    out = np.full((len(score), TOP), -1, dtype=np.int64)
    out[:, :most] = np.where(np.isfinite(value), rows[found], -1)
    return out


# ----------------------------------------------------------------------------------------------------- what the log shows


def _logged(model: Model, loader: Loader, items: torch.Tensor, protocol: Protocol, progress: Progress | None) -> Found:
    """The rows of logged requests, or single events: in a list a request, or a person."""
    log = loader.data.log
    begin, size = loader.position, np.ones(len(loader.position), dtype=np.int64)
    if log.asked is not None:
        begin = np.unique(log.begin(begin))
        size = np.bincount(log.asked, minlength=log.size)[begin]
    row = ranges(begin, size)
    score, end = np.empty(len(row), np.float32), np.cumsum(size)
    done = 0
    for candidates in map(int, np.unique(size)):
        for mine in _blocks(np.flatnonzero(size == candidates), candidates, None):
            shown = begin[mine, None] + np.arange(candidates)
            batch = loader.assemble(begin[mine], loader.data.rows(shown), shown=shown)
            score[end[mine, None] - candidates + np.arange(candidates)] = _score(model, items, batch)
            done += len(mine)
            if progress:
                progress(done, len(begin))
    user, label = log.user_of(row), log.positive[row].astype(np.float32)
    of_list = user if protocol.judged == "rows" else np.repeat(begin, size)
    lists = Lists.of(score, label, of_list)
    both = lists.positives < lists.rows
    lists = lists.take(both)
    at = _at_first(begin, log, lists.group) if protocol.judged == "rows" else lists.group
    return at, log.user_of(at), lists, Rows(score, label, user, of_list), None


def _at_first(begin: Ints, log: Log, user: Ints) -> Ints:
    """The first of these positions of each person."""
    first: Ints = begin[np.searchsorted(begin, log.start[user])]
    return first


# ----------------------------------------------------------------------------------------------------------------- shared


def _score(model: Model, items: torch.Tensor, batch: Batch) -> Floats:
    batch = batch.to(model.device)
    vectors = items.index_select(0, batch.row)
    memory = model.read(vectors, batch.user, batch.history)
    score: Floats = score_in_chunks(model, vectors, memory, batch).float().cpu().numpy()
    if not np.isfinite(score).all():
        raise TrainingError(f"the model scores {int((~np.isfinite(score)).sum()):,} of {score.size:,} candidates with no finite number.")
    return score


def _blocks(position: Ints, candidates: int, progress: Progress | None) -> Iterator[Ints]:
    step = max(1, min(REQUESTS, SLOTS // candidates))
    for at in range(0, len(position), step):
        yield position[at : at + step]
        if progress:
            progress(min(at + step, len(position)), len(position))


def _of_some(log: Log, position: Ints, people: int | None, seed: int) -> Ints:
    """The events of as many people, drawn by seed; who has one is drawn by it."""
    user = log.user_of(position)
    first = _firsts(log, position)
    if people is None or people >= len(first):
        return position
    drawn = first[np.argsort(bits(seed, first), kind="stable")[:people]]
    kept: Ints = position[np.isin(user, log.user_of(drawn))]
    return kept


def _firsts(log: Log, position: Ints) -> Ints:
    """The first of each person's positions."""
    user = log.user_of(position)
    first: Ints = position[np.append(True, user[1:] != user[:-1])] if len(position) else position
    return first


def _people(log: Log, position: Ints) -> int:
    return len(np.unique(log.user_of(position)))


def _nothing(protocol: Protocol) -> str:
    says = {"requests": "no request with both what was chosen and what was not", "rows": "no event"}
    return says.get(protocol.judged, "no positive event")


def _no_impressions(log: Log) -> ConfigError:
    says = "this log does not say what requests showed (schema: events.impressions)"
    return ConfigError(f"{log.folder}: {says}; judge by another protocol.")
