"""Protocols as named values: a number without its protocol is not a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from penchant.schema import Tie


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is judged, against which candidates."""

    name: str
    split: Literal["leave-last-out"] | None  # None: any
    tie: Tie  # which events make up the past of the judged one
    sampled: int | None  # other candidates, drawn; None: the whole catalogue, or what was shown
    shown: bool = False  # ranked with what its request showed

    @property
    def whole(self) -> str:
        """The protocol of the same events over the whole catalogue, where there are too few items to draw from."""
        return "loo-full" if self.split else "last-full"

    @property
    def says(self) -> str:
        """The protocol in words."""
        events = "the last positive event of each person" + ("" if self.split else " in the judged part") + " by (time, source row)"
        past = "all events before it in that order" if self.tie == "order" else "events of earlier times only"
        if self.shown:
            others = "what its request showed and was not chosen"
        elif self.sampled is None:
            others = "every item with events, but for those in the person's past"
        else:
            others = f"{self.sampled} different items drawn uniformly from those with events, none of them ever chosen by the person"
        return f"{self.name}: {events}, given {past}, ranked with {others}; tied scores share their ranks"


PROTOCOLS = {
    "loo-99": Protocol(name="loo-99", split="leave-last-out", tie="order", sampled=99),
    "loo-full": Protocol(name="loo-full", split="leave-last-out", tie="order", sampled=None),
    "last-99": Protocol(name="last-99", split=None, tie="order", sampled=99),
    "last-full": Protocol(name="last-full", split=None, tie="order", sampled=None),
    "impressions": Protocol(name="impressions", split=None, tie="order", sampled=None, shown=True),
}
