"""Protocols as named values: a number without its protocol is not a result."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from penchant.data.split import SplitConfig
from penchant.errors import ConfigError, unknown_name
from penchant.schema import Tie

STRICT = "-strict"  # behind any name: events of the judged moment stand in no past
MOMENT = {
    "last": "the last positive event of each person{in_part}",
    "rest": "all positive events of each person{in_part}, asked for at the moment of the first of them",
    "requests": "every logged request{in_part} that shows both what was chosen and what was not",
    "rows": "every event{in_part} with its own label, each at its own moment",
}
RIVALS = {
    "uniform": "{count} different items drawn uniformly from those with events",
    "popular": "{count} different items drawn in proportion to their training positives",
    "held": "{count} different items drawn uniformly from those of the judged part, as unknown to training as the judged one",
    "catalogue": "every item with events",
    "shown": "what its request showed and was not chosen",
    "own": "the person's other events in the judged part",
}
EXCLUDED = {
    "chosen": "none of them ever chosen by the person",
    "past": "but for those in the person's past",
    "itself": "any but the judged one, those of the person's past among them",
    "nothing": "",
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is judged, against which candidates."""

    name: str
    split: str | None = None  # the split that it needs; None: any
    test: float | None = None  # the share of it that tests; None: any
    judged: Literal["last", "rest", "requests", "rows"] = "last"
    tie: Tie = "order"  # which events make up the past of a judged one
    candidates: Literal["uniform", "popular", "held", "catalogue", "shown", "own"]
    count: int = 0  # of sampled candidates
    excluded: Literal["chosen", "past", "itself", "nothing"] = "nothing"
    headline: str = "ndcg@10"  # the metric that it is usually read by

    @property
    def paired_by(self) -> str:
        """The metric that two models are compared by, person by person."""
        return "gauc" if self.headline == "auc" else self.headline

    @property
    def sampled(self) -> bool:
        return self.candidates in ("uniform", "popular", "held")

    @property
    def labelled(self) -> bool:
        """Whether it is of single rows and their labels, rather than of lists: then probabilities mean something."""
        return self.candidates == "own" or self.count == 1

    @property
    def whole(self) -> str:
        """The protocol of the same events over the whole catalogue, where there are too few items to draw from."""
        return "loo-full" if self.split == "leave-last-out" else "last-full"

    @property
    def says(self) -> str:
        """The protocol in words."""
        events = MOMENT[self.judged].format(in_part="" if self.split == "leave-last-out" else " in the judged part")
        past = "all events before it by (time, source row)" if self.tie == "order" else "events of earlier times only"
        excluded = EXCLUDED[self.excluded]
        rivals = RIVALS[self.candidates].format(count=self.count) + (f", {excluded}" if excluded else "")
        split = f"split {self.split}" + (f" with {self.test:.0%} of it testing" if self.test else "") + ": " if self.split else ""
        return f"{self.name}: {split}{events}, given {past}, ranked with {rivals}; tied scores share their ranks"

    def default_split(self) -> SplitConfig:
        """The split of a run that names this protocol alone."""
        named = {"name": self.split or "leave-last-out"} | ({} if self.test is None else {"test": self.test})
        return SplitConfig.model_validate(named)

    def refuse_split(self, split: SplitConfig) -> None:
        """Raises ConfigError where the protocol is of another split."""
        if self.split is not None and split.name != self.split:
            raise ConfigError(f"protocol {self.name} needs split {self.split}; this log was split by {split.name}.")
        if self.test is not None and split.test != self.test:
            raise ConfigError(f"protocol {self.name} needs split.test {self.test:g}; this log was split with {split.test:g}.")

    def differs(self, other: Protocol) -> list[str]:
        """In which of its parts it differs from another one: "candidates uniform, not popular"."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.name not in ("name", "headline"))
        return [f"{name} {mine}, not {theirs}" for name, mine, theirs in pairs if mine != theirs]


def _named(*protocols: Protocol) -> dict[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols}


PROTOCOLS = _named(
    Protocol(name="loo-99", split="leave-last-out", candidates="uniform", count=99, excluded="chosen"),
    Protocol(name="loo-99-popular", split="leave-last-out", candidates="popular", count=99, excluded="chosen"),
    Protocol(name="loo-full", split="leave-last-out", candidates="catalogue", excluded="past"),
    Protocol(name="last-99", candidates="uniform", count=99, excluded="chosen"),
    Protocol(name="last-full", candidates="catalogue", excluded="past"),
    Protocol(name="temporal-80-20", split="time", test=0.2, judged="rest", candidates="catalogue", excluded="past"),
    Protocol(name="temporal-80-20-user", split="ratio", test=0.2, judged="rest", candidates="catalogue", excluded="past"),
    Protocol(name="ctr", split="leave-last-out", candidates="uniform", count=1, excluded="chosen", headline="gauc"),
    Protocol(name="dien", split="people", test=0.1, candidates="popular", count=1, excluded="itself", headline="auc"),
    Protocol(name="cold-99", split="items", candidates="held", count=99, excluded="chosen"),
    Protocol(name="impressions", judged="requests", candidates="shown"),
    Protocol(name="logged", judged="rows", candidates="own", headline="gauc"),
)


def find_protocol(name: str) -> Protocol:
    """The protocol of this name; "loo-99-strict" is loo-99 with pasts of earlier times only, and so are all. Raises UnknownNameError."""
    plain = name.removesuffix(STRICT)
    if plain not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    protocol = PROTOCOLS[plain]
    return protocol if plain == name else replace(protocol, name=name, tie="strict")
