"""Results as text: what the command line prints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # which import torch, while tables do not need it
    from penchant.compare import Compared
    from penchant.scorer import Scored
    from penchant.train.estimate import Estimate

METRICS = ("hr@10", "ndcg@10", "map@10", "mrr@10", "recall@10", "gauc", "auc", "log-loss", "calibration-error", "predicted/observed")
LENT = {  # what stands behind the steps of lending
    "similar": "what people did next who began alike",
    "profile": "what people of a like profile began with",
    "category": "what is popular in the categories of the past",
    "popular": "what was popular of late",
}
OF_LISTS = ("coverage@10", "gini@10", "popularity-lift@10", "novelty@10", "diversity@10", "taste-divergence@10")
WIDE = 140  # columns of a terminal, from where on an interval stands beside its value and not below


def results(console: Console, summaries: Sequence[Mapping[str, Any]], protocol: str) -> None:
    """A row a model: each metric, and its 95% interval; what its lists are like, where they are of the whole catalogue."""
    one_each = all(summary["lists"] == summary["people"] and "recall@10" not in summary for summary in summaries)
    shown = [metric for metric in METRICS if any(metric in summary for summary in summaries)]
    _table(console, summaries, [metric for metric in shown if not (one_each and metric == "map@10")])  # of one positive it is MRR
    of_lists = [metric for metric in OF_LISTS if any(metric in summary for summary in summaries)]
    if of_lists:
        console.print()
        _table(console, summaries, of_lists)
        by = next((summary["tastes-by"] for summary in summaries if "tastes-by" in summary), None)
        if by:
            console.print(f"Variety and tastes are by {by}.", soft_wrap=True, highlight=False)
        console.print()
    calibrated = {summary["calibration"] for summary in summaries if "calibration" in summary}
    if calibrated:
        named = {"none": "the sigmoid of logits, for which nobody vouches", "identity": "the sigmoid of logits, which are log-odds"}
        through = "; ".join(named.get(kind, f"calibrated ({kind})") for kind in sorted(calibrated))
        console.print(f"Probabilities: {through}.", soft_wrap=True, highlight=False)
    for summary in summaries:
        if "lent" in summary:
            steps = ", ".join(f"{many:,} {name}" for name, many in summary["lent"].items())
            console.print(f"Lists of {summary['model']} by what was lent: {steps}.", soft_wrap=True, highlight=False)
    if "keep" in summaries[0]:
        console.print(f"Of each past the {summaries[0]['keep']} latest events were looked at.", soft_wrap=True, highlight=False)
    people, dropped = summaries[0]["people"], summaries[0]["dropped"]
    console.print(f"{protocol}.", soft_wrap=True, highlight=False)
    console.print(
        f"{people:,} people judged, {dropped:,} dropped; intervals of 95% by bootstrap over people.", soft_wrap=True, highlight=False
    )


def dialect(console: Console, found: Mapping[str, Mapping[str, Any]]) -> None:
    """The numbers of another library, a row a model, and what it does otherwise."""
    first = next(iter(found.values()))
    metrics = [name for name in first if name not in ("dialect", "source", "says", "refused")]
    console.print(f"\nBy the arithmetic of {first['source']}:", soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for label, numbers in found.items():
        table.add_row(label, *("-" if numbers[metric] is None else f"{numbers[metric]:.4f}" for metric in metrics))
    console.print(table)
    refused = [f"{metric}: {why}" for metric, why in first["refused"].items()]
    for line in (*first["says"], *refused):
        console.print(f"- {line}", soft_wrap=True, highlight=False, markup=False)


def _table(console: Console, summaries: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for summary in summaries:
        table.add_row(str(summary["model"]), *(_cell(summary, metric, wide=console.width >= WIDE) for metric in metrics))
    console.print(table)


def slices(console: Console, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """A row a slice: how many people and lists it has, the metric and its interval."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in (("by", "left"), ("slice", "left"), ("people", "right"), ("lists", "right"), (metric, "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    before = ""
    for row in rows:
        value, (low, high) = row[metric], row.get("interval", (None, None))
        shown = f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")
        table.add_row(row["by"] if row["by"] != before else "", row["slice"], f"{row['people']:,}", f"{row['lists']:,}", shown)
        before = row["by"]
    console.print(table)


def compared(console: Console, found: Compared) -> None:
    """A row a model, best first, and how sure its difference from the best is."""
    several = len(found.seeds) > 1
    pairs = {pair.models[1]: pair for pair in found.pairs}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in (found.metric, *(["spread"] if several else []), "from the best", "p", *(["seeds"] if several else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in found.rows:
        pair = pairs.get(row.model)
        cells = [f"{row.value:.4f} [{row.interval.low:.4f}, {row.interval.high:.4f}]", *([f"{row.spread:.4f}"] if several else [])]
        if pair:
            d = pair.difference
            cells += [f"{-d.difference:+.4f} [{-d.high:+.4f}, {-d.low:+.4f}]", f"{pair.p:.4f}"]
            cells += [f"{pair.agree}/{len(found.seeds)}"] if several else []
            cells += ["*" if pair.significant else ""]
        table.add_row(row.model, *cells)
    console.print(table)
    mark = f"* a difference{' in every seed' if several else ''}, at 5% of the table together (Holm)"
    for line in (
        f"{found.protocol.says}.",
        f"{found.people:,} people judged, {found.dropped:,} dropped; intervals of 95% by bootstrap over people, of the mean over seeds.",
        f"{mark}; the others are not told apart.",
        found.budget,
        *found.warnings,
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def recommended(console: Console, scored: Scored) -> None:
    """A line an item, best first, with its logit, its probability where the bundle is calibrated, and the events of the greatest say."""
    chance = [""] * len(scored.item) if scored.probability is None else [f", {p:.2%}" for p in scored.probability]
    for place, (item, title, logit, p) in enumerate(zip(scored.item, scored.title, scored.logit, chance, strict=True), start=1):
        console.print(f"{place:3}. {title or item}  ({logit:+.2f}{p})", soft_wrap=True, highlight=False, markup=False)
        if scored.reasons and scored.reasons[place - 1]:
            because = "; ".join(f"{r.title or r.item} ({r.say:+.2f}{', lent' if r.lent else ''})" for r in scored.reasons[place - 1])
            console.print(f"     because of {because}", soft_wrap=True, highlight=False, markup=False, style="dim")
    for line in notes(scored):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def notes(scored: Scored) -> list[str]:
    """What the answer could not know, in words."""
    lines = [f"The past has {scored.past} events."] if scored.past else ["The past is empty: this is what anybody of this profile is told."]
    if scored.lent_events:
        lines.append(f"{scored.lent_events} events were lent: {LENT[scored.lent]}.")
    if scored.unknown_user:
        lines.append("The person's id was not seen in training.")
    if scored.unknown_items:
        few = ", ".join(scored.unknown_items[:3]) + (", ..." if len(scored.unknown_items) > 3 else "")
        lines.append(f"{len(scored.unknown_items)} items without training events are known by their attributes alone: {few}.")
    if scored.unknown_values:
        lines.append(f"Unknown: {', '.join(scored.unknown_values)}.")
    return lines


def bench(console: Console, found: Mapping[str, Any]) -> None:
    """Samples a second of both loops, their ratio, and the step beside its floor."""
    facts_of, spread = found["facts"], "{median:>10,.{digits}f}  ({least:,.{digits}f} to {most:,.{digits}f})"
    floor = f"{found['flops'] / 1e9:.2f} GFLOP at {found['flops_a_second'] / 1e9:.0f} GFLOP/s"
    rows = {
        f"{facts_of['model']}, samples/s": spread.format(**found["ours"], digits=0),
        "reference loop, samples/s": spread.format(**found["reference"], digits=0),
        "ratio": spread.format(**found["ratio"], digits=2),
        **_against(found["against"], spread),
        "step, ms": f"{found['step_seconds'] * 1e3:>10.1f}",
        "its floor, ms": f"{found['floor_seconds'] * 1e3:>10.1f}  ({floor})",
        "step over floor": f"{found['step_over_floor']:>10.2f}",
    }
    facts(console, rows)
    console.print(", ".join(f"{name} {value}" for name, value in facts_of.items()), soft_wrap=True, highlight=False, markup=False)


def bench_score(console: Console, found: Mapping[str, Any]) -> None:
    """Milliseconds of a request's parts, and of others beside it."""

    def spread(value: Mapping[str, float], digits: int) -> str:
        return f"{value['median']:>10,.{digits}f}  ({value['least']:,.{digits}f} to {value['most']:,.{digits}f})"

    half, against = found["half"], found["against"]
    rows = {
        "vectors of items, ms": spread(found["items"], 2),
        "reading the past, ms": spread(found["read"], 2),
        "scoring, ms": spread(found["score"], 2),
        f"{found['facts']['model']} in all, ms": spread(found["ours"], 2),
        "reference, tiled, ms": spread(found["reference"], 2),
        "times ours in all": spread(found["ratio"], 2),
        "times scoring alone": spread(found["kept_ratio"], 2),
    }
    if against is not None:
        name = f"{against['facts']['peer']} {against['facts']['version']}"
        rows |= {
            f"{name}, ms": spread(against["ms"], 2),
            "its times ours in all": spread(against["ratio"], 2),
            "its times scoring alone": spread(against["kept_ratio"], 2),
        }
    same = ", ".join(f"{half[f'overlap@{top}']:.0%} of the first {top}" for top in (10, 100))
    rows |= {
        "bfloat16 in all, ms": f"{spread(half['ms'], 2)}, {same} the same",
        "memory kept, bytes": f"{found['memory_bytes']:>10,}",
        "off candidates alone": f"{found['difference']:>10.1g}",
    }
    facts(console, rows)
    console.print(", ".join(f"{name} {value}" for name, value in found["facts"].items()), soft_wrap=True, highlight=False, markup=False)


def bench_prepare(console: Console, found: Mapping[str, Any]) -> None:
    """Time, memory and bytes."""
    rows = {
        "time": f"{_duration(found['seconds'])}, {found['events_a_second']:,.0f} events a second",
        "memory": f"{_size(found['peak_bytes'])} at most, {_size(found['before_bytes'])} of it before it began",
        "raw files": _size(found["raw_bytes"]),
        "log": _size(found["log_bytes"]),
    }
    facts(console, rows)
    console.print(", ".join(f"{name} {value}" for name, value in found["facts"].items()), soft_wrap=True, highlight=False, markup=False)


def baseline(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """A line a ratio."""
    rows = {
        one["name"]: f"{one['now']:>8.2f}  baseline {one['baseline']:.2f}, {one['now'] / one['baseline'] - 1:+.0%}{', FELL' * one['fell']}"
        for one in found
    }
    facts(console, rows)


def _against(found: Mapping[str, Any] | None, spread: str) -> dict[str, str]:
    if found is None:
        return {}
    name = f"{found['facts']['peer']} {found['facts']['version']}{', trimmed' if found['facts']['trimmed'] else ''}"
    return {f"{name}, samples/s": spread.format(**found["speed"], digits=0), "ratio to it": spread.format(**found["ratio"], digits=2)}


def laws(console: Console, found: Mapping[str, Any]) -> None:
    """A line a law, and below it what is broken or why it says nothing; then how many of each."""
    marks = {"ok": "ok", "failed": "FAILED", "not applicable": "not applicable"}
    width = max(map(len, marks.values()))
    for result in found["results"]:
        console.print(f"{marks[result['outcome']]:<{width}}  {result['law']}", soft_wrap=True, highlight=False, markup=False)
        below = {"ok": [], "failed": [result["words"], f"The law: {result['says']}"], "not applicable": [result["words"]]}
        for line in below[result["outcome"]]:
            console.print(f"{'':<{width}}    {line}", soft_wrap=True, highlight=False, markup=False)
    count = Counter(result["outcome"] for result in found["results"])
    said = f"{count['ok']} laws hold, {count['failed']} broken, {count['not applicable']} not applicable; {found['seconds']:.1f} s."
    console.print(f"\n{found['model']}: {said}", soft_wrap=True, highlight=False, markup=False)


def checked(console: Console, found: Mapping[str, Any]) -> None:
    """A paragraph a finding, grave ones first, with its examples; then what was clean, and what does not apply."""
    for one in found["findings"]:
        kind, style = ("grave", "bold red") if one["grave"] else ("known", "bold")
        console.print(f"{kind}  {one['name']}", soft_wrap=True, highlight=False, markup=False, style=style)
        console.print(f"       {one['says']}", soft_wrap=True, highlight=False, markup=False)
        for example in one["examples"]:
            console.print(f"       - {example}", soft_wrap=True, highlight=False, markup=False, style="dim")
    clean, left_out = ", ".join(found["clean"]) or "none", found["left_out"]
    console.print(f"Checked under split {found['split']}, tie {found['tie']}. Clean: {clean}.", soft_wrap=True, highlight=False)
    for why in dict.fromkeys(left_out.values()):
        names = ", ".join(name for name, reason in left_out.items() if reason == why)
        console.print(f"Not checked, because {why}: {names}.", soft_wrap=True, highlight=False, markup=False)


def grown(console: Console, growth: Mapping[str, Any] | None, embeddings: Mapping[str, Any] | None) -> None:
    """What a run took over from a bundle: a row a kind of ids or values; nothing where it took over nothing."""
    if growth is not None:
        _counts(console, growth["ids"], ("kept", "new", "without", "expired"))
        shared = f" Ids without a row share {growth['tail']:,}." if growth["tail"] else ""
        line = (
            f"Continues {growth['from']}: {growth['examples']:,} examples; {growth['earlier']:,} earlier events stand in pasts alone. "
            f"{growth['from_attributes']:,} new items started from their attributes.{shared}"
        )
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if embeddings is not None:
        _counts(console, embeddings["ids"], ("found", "not_found"))
        console.print(f"Vectors are from {embeddings['from']}.", soft_wrap=True, highlight=False, markup=False)


def _counts(console: Console, rows: Mapping[str, Mapping[str, int]], columns: Sequence[str]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for name, counts in rows.items():
        table.add_row(name, *(f"{counts[column]:,}" for column in columns))
    console.print(table)


def noise(console: Console, found: Mapping[str, Any]) -> None:
    """A line of who was left out of training, and one of what examples count for; nothing where nothing was done."""
    if bots := found.get("bots"):
        signs = ", ".join(f"{name} {count:,}" for name, count in bots["signs"].items() if count)
        line = (
            f"{bots['people']:,} of {bots['looked_at']:,} people with enough requests look like bots{f' ({signs})' if signs else ''}: "
            f"{bots['rows']:,} of {bots['of_rows']:,} training rows were left out."
        )
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if fit := found.get("fit"):
        line = (
            f"{fit['choices']:,} choices count for {fit['mean']:.2f} on average, by how well they fit; "
            f"{fit['below_half']:,} count for less than a half."
        )
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def diagnosis(console: Console, findings: Sequence[Mapping[str, Any]]) -> None:
    """A paragraph a finding, below a blank line; nothing where there is none."""
    for one in findings:
        console.print(f"\n{one['name']}", soft_wrap=True, highlight=False, markup=False, style="bold")
        console.print(one["says"], soft_wrap=True, highlight=False, markup=False)


def facts(console: Console, rows: Mapping[str, Any]) -> None:
    """Name and value, a line each."""
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if isinstance(value, float) else str(value)
        console.print(f"{name:<{width}}  {shown}", soft_wrap=True, highlight=False, markup=False)


def estimated(console: Console, found: Estimate) -> None:
    """What a run would take, at most."""
    epochs = f"{found.epochs:,} epochs of {found.steps:,} steps of {found.step_seconds:.2g} s"
    validations = f"{found.validations:,} validations of {found.validation_seconds:.2g} s"
    rows = {
        "parameters": f"{found.parameters:,}",
        "memory": _size(found.memory),
        "disk": _size(found.disk),
        "time": f"{_duration(found.seconds)} for all epochs: {found.begin_seconds:.2g} s to begin, {epochs}, {validations}",
    }
    facts(console, rows)


def _size(count: float) -> str:
    """Bytes as people say them."""
    at = min(int(math.log10(max(count, 1)) // 3), 4)
    return f"{count / 1000**at:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[at]}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _cell(summary: Mapping[str, Any], metric: str, *, wide: bool) -> str:
    if metric not in summary:
        return "-"
    value, *ends = (f"{number:.3f}".removeprefix("0") for number in (summary[metric], *summary["intervals"].get(metric, ())))
    if not ends:
        return value
    low, high = ends
    return f"{value} [{low}, {high}]" if wide else f"{value}\n{low}-{high}"
