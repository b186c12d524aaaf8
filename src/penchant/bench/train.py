"""How quick a training step is: beside the yardstick, and beside what its matrix products alone would take.

    made data ──┬── ours:       collate ─ model ─ loss ─ backward ─ Optimiser ──┐
                ├── reference:  pad ───── model ─ loss ─ backward ─ Adam ───────┼── samples a second, in turns
                └── a peer:     another library's own model and step ───────────┘   (bench/against.py)

Loading is a part of the step in both. The floor is the number of floating-point operations of a step's matrix products,
divided by the rate that this machine reaches on one large product.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from penchant.batch import Batch
from penchant.bench.against import FOLDER, PeerLoop, peer_loop
from penchant.bench.reference import REFERENCE, ReferenceLoop
from penchant.bench.simulate import Made, simulate
from penchant.collate import Pasts, Requests, collate
from penchant.encoding import Ints
from penchant.errors import ConfigError
from penchant.models import apart, build, find
from penchant.nn.item import ItemConfig
from penchant.train.loss import read_loss
from penchant.train.optimiser import Optimiser
from penchant.train.step import Step

RATE = 1e-3  # of learning
WARM_UP = 3  # steps of each loop that are not measured
SIDE = 2048  # of the product that the machine's rate is measured with
OWN = {"attention": (80, 40), "head": (200, 80), "attention_activation": "dice", "activation": "dice"}  # where a model has such a key


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Samples a second over the rounds of a loop."""

    median: float
    least: float
    most: float
    each: tuple[float, ...]

    @classmethod
    def of(cls, each: list[float]) -> Speed:
        return cls(median=median(each), least=min(each), most=max(each), each=tuple(each))


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of both loops, for whoever shows it."""

    number: int  # 1, 2, ...
    rounds: int
    ours: float  # samples a second
    reference: float
    peer: float | None = None


@dataclass(frozen=True, kw_only=True)
class Against:
    """Another library's own model, in the same rounds."""

    facts: Mapping[str, Any]  # peer, version, model, trimmed: whether its pasts end with the longest of their batch
    speed: Speed
    ratio: Speed  # ours over the peer's, round by round


@dataclass(frozen=True, kw_only=True)
class TrainBench:
    """What was measured."""

    ours: Speed
    reference: Speed
    ratio: Speed  # ours over reference, round by round
    flops: int  # of the matrix products of one of our steps, forward and backward
    flops_a_second: float  # that one large product reaches
    floor_seconds: float  # what a step's products would take at that rate
    step_seconds: float  # what a step takes
    step_over_floor: float
    against: Against | None
    facts: dict[str, Any]  # of the machine and the shapes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench_train(
    *,
    model: str = "din",
    users: int = 192_403,
    items: int = 63_001,
    categories: int = 801,
    dim: int = 64,
    batch_size: int = 1024,
    mean_past: float = 9,
    longest: int = 50,
    full: bool = False,
    rounds: int = 5,
    steps: int = 20,
    threads: int | None = None,
    seed: int = 0,
    against: str | None = None,
    trim: bool = False,
    peers: Path = FOLDER,
    report: Callable[[Round], None] | None = None,
) -> TrainBench:
    """Measures `rounds` of `steps` training steps of a model and of the yardstick, in turns, on the same made requests.

    against: a peer, another library whose own model takes its turn too, in the environment that `peers` holds of it; trim: its pasts
    are cut to the longest of their batch, where it can.
    Raises UnknownNameError, and ConfigError for sizes below 1, a model that learns nothing, and a peer that does not run.
    """
    sizes = {
        "users": users,
        "items": items,
        "categories": categories,
        "dim": dim,
        "batch_size": batch_size,
        "mean_past": mean_past,
        "longest": longest,
        "rounds": rounds,
        "steps": steps,
    }
    at_least_one("bench train", {**sizes, "threads": 1 if threads is None else threads})
    made = simulate(users=users, items=items, categories=categories, mean_past=mean_past, longest=longest, full=full, seed=seed)
    with threads_of(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ours, reference = OurLoop(made, model, dim=dim), ReferenceLoop(made, dim=dim, longest=longest, rate=RATE)
        settings = asked_of_peer(model, dim, longest, seed)
        with nullcontext() if against is None else peer_loop(against, made, settings, trim=trim, folder=peers) as peer:
            first, second, third = _rounds(made, ours, reference, peer, batch_size, rounds, steps, report)
        flops = count_flops(lambda: ours.step(made.requests(0, batch_size)))
        rate = measure_rate()
        facts = machine() | {"model": model, **sizes, "full": full, "seed": seed, "events": _events(made, batch_size)}
    other = None if peer is None else Against(facts=peer.facts, speed=Speed.of(third), ratio=_ratio(first, third))
    return _result(first, second, other, flops, rate, batch_size, facts)


class OurLoop:
    """Batches and steps of a model of MODELS; din+iacn is the model din with the auxiliary network iacn."""

    def __init__(
        self, made: Made, model: str, *, dim: int, own: Mapping[str, Any] | None = None, auxiliary: Mapping[str, Any] | None = None
    ) -> None:
        """own: the model's keys; None: those of OWN that it has. auxiliary: the keys of what it is wrapped in."""
        name, long, around = apart(model)
        if own is None:
            own = {key: value for key, value in OWN.items() if key in find(name).Config.model_fields}
        wrapped = {**(auxiliary or {}), "name": around} if around else None
        self.made, self.model = made, build(made.encoding, name, own, ItemConfig(dim=dim), wrapped, {"name": long} if long else None)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise ConfigError(f"bench train: model {name!r} learns nothing; name one that does.")
        loss = read_loss(self.model.Loss)
        if loss.compares or self.model.wants.candidates:
            raise ConfigError(f"bench train: {model} compares the candidates of a request, and these requests have one each; name another.")
        self.learning = Step(self.model, Optimiser(self.model, RATE, RATE), loss)
        self.other = _others(made) if self.model.wants.others else None
        self.further = _further(made, self.model.wants.further) if self.model.wants.further else None

    def batch(self, request: Ints) -> Batch:
        """Requests of one candidate each."""
        return self._batch(request, request[:, None])

    def together(self, request: Ints) -> Batch:
        """These requests of one person as one, of as many candidates."""
        return self._batch(request[:1], request[None])

    def _batch(self, request: Ints, asked: Ints) -> Batch:
        """asked [R, C]: requests whose items are each one's candidates."""
        made = self.made
        past, length = made.past(request)
        requests = Requests(
            user=1 + made.person[request, None],
            user_number=np.zeros((len(request), 0), np.float32),
            number=np.zeros((len(request), 0), np.float32),
            context=np.zeros((len(request), 0), np.int64),
            time=made.time[made.start[made.person[request] + 1] - 1] + 1,
            item=made.item[asked],
            label=made.label[asked],
            further=None if self.further is None else self.further[request],
            further_log_q=None if self.further is None else np.full(self.further[request].shape, -np.log(made.items), np.float32),
        )
        pasts = Pasts(
            item=made.event[past],
            time=made.time[past],
            action=np.zeros((len(past), 0), np.int64),
            number=np.zeros((len(past), 0), np.float32),
            length=length,
            other=None if self.other is None else self.other[past],
        )
        return collate(made.encoding, requests, pasts)

    def step(self, request: Ints) -> Tensor:
        """One training step; the loss before it."""
        return self.learning([self.batch(request)])


def _others(made: Made) -> Ints:
    """int64 [E] of each event an item that it is not of, any with the same chance; drawn once, so that drawing is no part of a step."""
    drawn: Ints = np.random.default_rng(0).integers(1, max(made.items, 2), len(made.event))
    return 1 + (made.event - 1 + drawn) % made.items


def _further(made: Made, count: int) -> Ints:
    """int64 [Q, count] items of each request, any with the same chance; drawn once too."""
    return np.random.default_rng(1).integers(1, 1 + made.items, (len(made.item), count))


def count_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products that `step` makes, those of its backward pass included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def measure_rate(side: int = SIDE, tries: int = 5) -> float:
    """Floating-point operations a second of one large float32 product: the best of several."""
    one, other = torch.rand(side, side), torch.rand(side, side)
    best = float("inf")
    for _ in range(tries + 1):
        begun = time.perf_counter()
        torch.mm(one, other)
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best


def _rounds(
    made: Made,
    ours: OurLoop,
    reference: ReferenceLoop,
    peer: PeerLoop | None,
    size: int,
    rounds: int,
    steps: int,
    report: Callable[[Round], None] | None,
) -> tuple[list[float], list[float], list[float]]:
    """Samples a second of each round of all loops; they are given the same requests."""
    loops: list[Callable[[Sequence[Ints]], float]] = [partial(_seconds, ours), partial(_seconds, reference)]
    loops += [] if peer is None else [peer.seconds]
    found: list[list[float]] = [[] for _ in range(3)]
    for number in range(rounds + 1):
        warm = number == 0
        part = range(WARM_UP) if warm else range(WARM_UP + (number - 1) * steps, WARM_UP + number * steps)
        requests = [made.requests(step, size) for step in part]
        turns = [(place + number) % len(loops) for place in range(len(loops))]  # another begins each time
        took = {place: loops[place](requests) for place in turns}
        rates = [size * len(requests) / took[place] for place in range(len(loops))]
        if warm:
            continue
        for each, rate in zip(found, rates, strict=False):
            each.append(rate)
        if report is not None:
            report(Round(number=number, rounds=rounds, ours=rates[0], reference=rates[1], peer=rates[2] if peer else None))
    return found[0], found[1], found[2]


def _seconds(loop: OurLoop | ReferenceLoop, requests: Sequence[Ints]) -> float:
    begun = time.perf_counter()
    for request in requests:
        loop.step(request)
    return time.perf_counter() - begun


def _ratio(one: Sequence[float], other: Sequence[float]) -> Speed:
    return Speed.of([a / b for a, b in zip(one, other, strict=True)])


def _result(
    first: list[float], second: list[float], against: Against | None, flops: int, rate: float, size: int, facts: dict[str, Any]
) -> TrainBench:
    ours, step, floor = Speed.of(first), size / median(first), flops / rate
    return TrainBench(
        ours=ours,
        reference=Speed.of(second),
        ratio=_ratio(first, second),
        flops=flops,
        flops_a_second=rate,
        floor_seconds=floor,
        step_seconds=step,
        step_over_floor=step / floor,
        against=against,
        facts=facts,
    )


def asked_of_peer(model: str, dim: int, longest: int, seed: int) -> dict[str, Any]:
    """What a peer builds its model by."""
    shape = {"model": model, "dim": dim, "longest": longest, "attention": OWN["attention"], "head": OWN["head"]}
    return shape | {"rate": RATE, "threads": torch.get_num_threads(), "seed": seed}


def at_least_one(bench: str, sizes: Mapping[str, float]) -> None:
    """Raises ConfigError for a size that is below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ConfigError(f"{bench}: {name} is {value}; at least 1 was wanted.")


def _events(made: Made, size: int) -> int:
    """How many events the pasts of the first step hold."""
    return len(made.past(made.requests(0, size))[0])


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "reference": REFERENCE,
    }


def _cpu() -> str:
    """The processor's name, as far as the system tells it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
