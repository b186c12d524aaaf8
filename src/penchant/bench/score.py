"""How quick one person's candidates are scored: the past read once and kept, beside tiling it for every candidate.

    made person ──┬── ours:       item vectors ─ read ─ score ───┐
                  ├── reference:  tile ─ model ──────────────────┼── milliseconds a request, in turns
                  └── a peer:     tile ─ its own model ──────────┘   (bench/against.py)

Weights are untrained: what is measured does not depend on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from penchant.batch import Batch
from penchant.bench.against import FOLDER, PeerLoop, peer_loop
from penchant.bench.reference import ReferenceLoop
from penchant.bench.simulate import DAY, FIRST, Made, simulate
from penchant.bench.train import RATE, OurLoop, Speed, asked_of_peer, at_least_one, machine, threads_of
from penchant.errors import ConfigError
from penchant.nn.model import score_in_chunks

WARM_UP = 2  # requests of each that are not measured
ATOL = 1e-5  # within which a candidate's logit is what it is alone
TOPS = (10, 100)


@dataclass(frozen=True, kw_only=True)
class ScoreBench:
    """Milliseconds a request; all ratios are round by round."""

    items: Speed  # the vectors of candidates and past, which a server keeps
    read: Speed  # of the past, whose memory a server keeps
    score: Speed
    ours: Speed  # the three together, and what makes a batch of the request
    reference: Speed  # the reference model, the past tiled
    ratio: Speed  # reference over ours
    kept_ratio: Speed  # reference over `score` alone
    memory_bytes: int  # of what is kept of the past
    difference: float  # the greatest of a logit from that of the same candidate, asked about alone with a past of its own
    half: Mapping[str, Any]  # ours in bfloat16: ms, ratio of float32's to it, and the share of its first 10 and 100 that are float32's
    against: Mapping[str, Any] | None  # a peer: facts, ms, ratio (its over ours), kept_ratio
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench_score(
    *,
    model: str = "din",
    events: int = 200,
    candidates: int = 1000,
    items: int = 63_001,
    categories: int = 801,
    dim: int = 64,
    rounds: int = 9,
    threads: int | None = None,
    seed: int = 0,
    against: str | None = None,
    peers: Path = FOLDER,
) -> ScoreBench:
    """Measures `rounds` requests of one person. Raises UnknownNameError, and ConfigError for sizes below 1 or a peer that does not run."""
    sizes = {"events": events, "candidates": candidates, "items": items, "categories": categories, "dim": dim, "rounds": rounds}
    at_least_one("bench score", {**sizes, "threads": 1 if threads is None else threads})
    made = one_person(events, candidates, items, categories, seed)
    with threads_of(threads), torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        ours, reference = OurLoop(made, model, dim=dim), ReferenceLoop(made, dim=dim, longest=events, rate=RATE)
        ours.model.eval()
        reference.model.eval()
        asked, together = np.arange(candidates), ours.together(np.arange(candidates))
        with nullcontext() if against is None else peer_loop(against, made, asked_of_peer(model, dim, events, seed), folder=peers) as peer:
            found = _rounds(ours, reference, peer, asked, rounds)
        (logit, memory, _), (half, *_) = _scored(ours, together), _scored(ours, together, half=True)
        alone = torch.cat([ours.model(ours.batch(part)).logit[:, 0] for part in np.array_split(asked, max(candidates // 50, 1))])
        facts = machine() | {"model": model, **sizes, "seed": seed}
    return _result(found, logit[0], half[0], alone, memory, peer, facts)


def one_person(events: int, candidates: int, items: int, categories: int, seed: int) -> Made:
    """A person with so long a past, and a request about each of so many items."""
    made = simulate(users=1, items=items, categories=categories, mean_past=2, longest=2, full=True, seed=seed)
    draw = np.random.default_rng(seed)
    return replace(
        made,
        start=np.array([0, events]),
        event=draw.integers(1, items + 1, events),
        time=FIRST + DAY * np.arange(events),
        person=np.zeros(candidates, np.int64),
        item=draw.integers(1, items + 1, candidates),
        label=np.zeros(candidates, np.float32),
    )


def _scored(ours: OurLoop, batch: Batch, *, half: bool = False) -> tuple[Tensor, int, list[float]]:
    """Logits float32 [1, C]; the bytes of the memory; seconds of item vectors, of reading, of scoring."""
    model, at = ours.model, [time.perf_counter()]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        items = model.item(batch.row, batch.known)
        at.append(time.perf_counter())
        memory = model.read(items, batch.user, batch.history)
        at.append(time.perf_counter())
        logit = score_in_chunks(model, items, memory, batch)
        at.append(time.perf_counter())
    return logit, memory.bytes, [end - begin for begin, end in pairwise(at)]


def _rounds(ours: OurLoop, reference: ReferenceLoop, peer: PeerLoop | None, asked: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round. Making a batch of the request is in all of them: ours has the past once, theirs for each candidate."""
    found: dict[str, list[float]] = {name: [] for name in ("items", "read", "score", "ours", "half", "reference", "peer", "batch")}
    for number in range(WARM_UP + rounds):
        begun = time.perf_counter()
        together = ours.together(asked)
        batch = time.perf_counter() - begun
        *_, parts = _scored(ours, together)
        *_, halves = _scored(ours, together, half=True)
        took = {**dict(zip(("items", "read", "score"), parts, strict=True)), "batch": batch}
        took |= {"ours": batch + sum(parts), "half": batch + sum(halves)}
        took["reference"] = _seconds(lambda: reference.model(reference.batch(asked)))
        took["peer"] = 0.0 if peer is None else peer.scoring(asked)
        if number >= WARM_UP:
            for name, seconds in took.items():
                found[name].append(1000 * seconds)
    return found


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _result(
    found: Mapping[str, list[float]],
    logit: Tensor,
    half: Tensor,
    alone: Tensor,
    memory: int,
    peer: PeerLoop | None,
    facts: dict[str, Any],
) -> ScoreBench:
    def over(one: str, other: str) -> Speed:
        return Speed.of([a / b for a, b in zip(found[one], found[other], strict=True)])

    def of_top(top: int) -> float:
        best = [set(scores.topk(min(top, len(scores))).indices.tolist()) for scores in (logit, half)]
        return len(best[0] & best[1]) / len(best[0])

    difference = float((logit - alone).abs().max())
    if difference > ATOL * max(1.0, float(alone.abs().max())):
        raise ConfigError(f"bench score: logits differ by {difference:.2g} from those of the same candidates asked about alone.")
    against = None
    if peer is not None:
        named = {"ms": Speed.of(found["peer"]), "ratio": over("peer", "ours"), "kept_ratio": over("peer", "score")}
        against = {"facts": peer.facts, **{name: asdict(value) for name, value in named.items()}}
    return ScoreBench(
        **{name: Speed.of(found[name]) for name in ("items", "read", "score", "ours", "reference")},
        ratio=over("reference", "ours"),
        kept_ratio=over("reference", "score"),
        memory_bytes=memory,
        difference=difference,
        half={
            "ms": asdict(Speed.of(found["half"])),
            "ratio": asdict(over("ours", "half")),
            **{f"overlap@{top}": of_top(top) for top in TOPS},
        },
        against=against,
        facts=facts,
    )
