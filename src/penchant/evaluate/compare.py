"""Bundles judged on a Log, and two models compared on the same people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from penchant.bundle import Bundle
from penchant.config import validate
from penchant.data.encoded import EncodedLog
from penchant.data.fit import with_items_of
from penchant.data.log import Log
from penchant.data.split import SplitConfig, split_of
from penchant.errors import ConfigError
from penchant.evaluate.judge import Progress, judge
from penchant.evaluate.judged import Judged
from penchant.evaluate.lists import of_lists
from penchant.evaluate.protocol import Protocol
from penchant.evaluate.slices import slicings
from penchant.metrics import Difference, paired, rel_improvement


def evaluate(
    bundle: Bundle,
    log: Log,
    protocol: Protocol,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    lend: bool | None = None,
    keep: int | None = None,
) -> Judged:
    """The bundle's rankings on the test part of a Log, which need not be the one it was trained on.

    Items of the Log that the bundle does not know are added to its catalogue: they live on their attributes. Probabilities are
    calibrated as the bundle is, but among drawn candidates. lend: whether people with little past are lent events; None: as the bundle
    serves them. keep: as if nobody had more events than that, the latest. Raises ConfigError for a bundle that has nothing to lend.
    """
    if lend and bundle.lender is None:
        raise ConfigError("this bundle has nothing to lend: train it with cold.method 'lend'.")
    if keep is not None and keep < 0:
        raise ConfigError(f"keep is {keep}; 0 or more events of each past were wanted.")
    if bundle.tie != protocol.tie:
        raise ConfigError(f"this bundle reads pasts by the rule {bundle.tie!r}; {protocol.name} judges by {protocol.tie!r}.")
    encoding = with_items_of(bundle.encoding, log)
    if encoding is not bundle.encoding:
        bundle = replace(bundle, encoding=encoding)
        bundle.model.item.extend(encoding.catalogue)
    split = split_of(log, _split(bundle, log, protocol))
    data = EncodedLog(log, encoding, split.hidden)
    lender = None if lend is False else bundle.lender
    judged = judge(bundle.model, data, split, protocol, past=bundle.past, seed=seed, progress=progress, lender=lender, keep=keep)
    if not protocol.sampled:  # of drawn candidates nobody says how often they are chosen
        judged = judged.calibrated(bundle.calibration)
    return replace(judged, model=bundle.version, slices=slicings(data, judged), of_lists=of_lists(data, judged))


def _split(bundle: Bundle, log: Log, protocol: Protocol) -> SplitConfig:
    """How the Log is split for this bundle. Raises ConfigError where it would be judged by events that it learned from."""
    own = validate(SplitConfig, bundle.facts.get("run", {}).get("split", {}), where="bundle", under="split")
    wanted = protocol.default_split()
    if protocol.split is None or (own.name, own.test) == (wanted.name, protocol.test or own.test):
        return own
    if bundle.facts.get("data") == log.manifest.get("name"):
        raise ConfigError(
            f"this bundle was trained by split {own.name!r} ({own.test:.0%} testing); {protocol.name} would judge it by events that it may "
            "have learned from. Judge it by last-99 or last-full."
        )
    return wanted


def compare(a: Judged, b: Judged, metric: str = "ndcg@10") -> Difference:
    """Model a less model b, person by person. Raises ConfigError when the two were not judged alike."""
    a.refuse_other(b)
    return paired(a.each(metric), b.each(metric), a.weight(metric))


def described(difference: Difference, a: str, b: str, metric: str, base: float | None = None) -> dict[str, Any]:
    """The difference as plain values, with what it says in words.

    base: the value of model b, of which GAUC's RelaImpr is (DIN, section 6.3): how much further than b the model a is from 0.5.
    """
    verdict = "significant" if difference.significant else "not significant: the interval holds zero"
    relative = {}
    if base is not None and metric.startswith("gauc") and base != 0.5:
        relative["rel-improvement"] = rel_improvement(base + difference.difference, base)
        verdict = f"RelaImpr {relative['rel-improvement']:+.2f}%, {verdict}"
    return {
        **relative,
        "models": [a, b],
        "metric": metric,
        "difference": difference.difference,
        "interval": [difference.low, difference.high],
        "p": difference.p,
        "people": difference.users,
        "significant": difference.significant,
        "says": f"{difference.says(a, b, metric)}, {verdict}",
    }
