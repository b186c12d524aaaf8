"""Leaks and traps of a Log, named with examples before a number is believed.

    leaks     target-in-past, unseen-in-vocabulary, parts-overlap-in-time, tells-the-label, before-it-existed
    traps     same-moment, negatives-that-are-positives, one-timestamp, wrong-units, duplicates
    changes   drift, people-with-almost-everything, bot-like-people

What is grave spoils numbers; what is not explains some. Every threshold is a constant with its reason, beside its check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from penchant.data.checks.bots import bot_like_people
from penchant.data.checks.labels import negatives_that_are_positives, tells_the_label
from penchant.data.checks.past import parts_overlap_in_time, same_moment, target_in_past
from penchant.data.checks.rows import duplicates, people_with_almost_everything
from penchant.data.checks.subject import Finding, Found, Subject
from penchant.data.checks.times import before_it_existed, one_timestamp, wrong_units
from penchant.data.checks.training import drift, unseen_in_vocabulary
from penchant.data.log import Log
from penchant.data.split import SplitConfig, split_of
from penchant.encoding import Encoding
from penchant.schema import Tie

CHECKS: Mapping[str, Callable[[Subject], Found]] = {
    "target-in-past": target_in_past,
    "same-moment": same_moment,
    "unseen-in-vocabulary": unseen_in_vocabulary,
    "parts-overlap-in-time": parts_overlap_in_time,
    "negatives-that-are-positives": negatives_that_are_positives,
    "one-timestamp": one_timestamp,
    "wrong-units": wrong_units,
    "duplicates": duplicates,
    "tells-the-label": tells_the_label,
    "before-it-existed": before_it_existed,
    "drift": drift,
    "people-with-almost-everything": people_with_almost_everything,
    "bot-like-people": bot_like_people,
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found, grave findings first, and what was looked at."""

    split: str
    tie: Tie
    findings: tuple[Finding, ...]
    clean: tuple[str, ...]  # checks that found nothing
    left_out: Mapping[str, str] = field(default_factory=dict)  # checks that do not apply, and why

    @property
    def grave(self) -> bool:
        """Whether any finding spoils numbers."""
        return any(one.grave for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "grave": self.grave}


def check(log: Log, split: SplitConfig = SplitConfig(), *, encoding: Encoding | None = None, tie: Tie = "order", seed: int = 0) -> Checked:
    """Leaks and traps of a Log under a split.

    encoding: of a bundle, to see whether it was fitted on the training part alone.
    tie: which events of the judged moment a past holds.
    seed: of the rows that are drawn where there are too many to look at.
    Raises DataError when nobody could be judged, ConfigError for what the Log does not have.
    """
    now = int(datetime.now(UTC).timestamp() * 1000)
    subject = Subject(log=log, split=split_of(log, split), encoding=encoding, tie=tie, seed=seed, now=now)
    found = {name: look(subject) for name, look in CHECKS.items()}
    findings = [finding for listed in found.values() if not isinstance(listed, str) for finding in listed]
    return Checked(
        split=split.name,
        tie=tie,
        findings=tuple(sorted(findings, key=lambda finding: not finding.grave)),
        clean=tuple(name for name, listed in found.items() if not listed),
        left_out={name: why for name, why in found.items() if isinstance(why, str)},
    )
