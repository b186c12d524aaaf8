"""Pictures of results, drawn by matplotlib (pip install 'penchant[viz]')."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from penchant.compare import Compared
from penchant.errors import ConfigError
from penchant.files import disk_errors

FORMS = (".svg", ".png", ".pdf")
INK, FAINT, ACCENT = "#1b1b1f", "#8a8a93", "#0b6e4f"


def refuse_form(file: Path) -> None:
    """Raises ConfigError for a file that no picture can be written to, before what it is to show is worked out."""
    if file.suffix.lower() not in FORMS:
        raise ConfigError(f"{file}: a figure is {', '.join(FORMS[:-1])} or {FORMS[-1]}; give it one of these endings.")


def comparison(compared: Compared, file: Path) -> None:
    """The table of a comparison: a line a model, best first, its interval over people, and a dot a seed. Raises ConfigError, DiskError."""
    refuse_form(file)
    count = len(compared.rows)
    figure = Figure(figsize=(7, 1.3 + 0.42 * count), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    told_apart = {pair.models[1] for pair in compared.pairs if pair.significant}
    for place, row in enumerate(compared.rows):
        colour = FAINT if row.model in told_apart else ACCENT
        axes.plot([row.interval.low, row.interval.high], [place, place], color=colour, linewidth=3, solid_capstyle="round", zorder=1)
        axes.plot([row.value], [place], "o", color=colour, markersize=8, zorder=3)
        axes.plot(list(row.seeds), [place] * len(row.seeds), "|", color=INK, markersize=9, zorder=2)
        axes.annotate(
            f"{row.value:.4f}", (row.interval.high, place), (6, 0), textcoords="offset points", va="center", color=INK, fontsize=9
        )
    axes.set_yticks(range(count), [row.model for row in compared.rows])
    axes.set_ylim(count - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel(f"{compared.metric} by {compared.protocol.name}, {compared.people:,} people, {_seeds(compared)}")
    axes.set_title("Green: not told apart from the best. Lines: 95% over people. Ticks: seeds.", fontsize=9, color=INK, loc="left")
    axes.grid(axis="x", color="#e4e4e8", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    with disk_errors(file, what="figure"):
        figure.savefig(file, dpi=160)


def _seeds(compared: Compared) -> str:
    return "one seed" if len(compared.seeds) == 1 else f"{len(compared.seeds)} seeds"
