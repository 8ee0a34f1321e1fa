"""Figure of the savings of methods against the budget, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asymsim.reporting.plots.style import A4_WIDTH_INCHES, COLORS, LINES, MARKERS, Rows, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Quantity, label, height: times are where methods of equal budget differ, so they get the most room.
PANELS = (
    ("prefill_flops_saved", "prefill FLOPs\nsaved (%)", 1.5),
    ("ttft_saved", "TTFT saved (%)", 3.4),
    ("kv_saved", "KV cache\nsaved (%)", 1.5),
)
KV_PANELS = (
    ("kv_saved", "KV cache\nsaved (%)", 1.5),
    ("tpot_saved", "TPOT saved (%)", 3.4),
    ("e2e_saved", "end to end\nsaved (%)", 1.5),
)
# Curves closer than this, in per cent, cannot be told apart on paper; the panel says so.
COINCIDE_PERCENT = 2.0
# A curve below this would flatten all others; the axis stops here, and a remark names the methods below.
LOWEST_PERCENT = -60.0


def savings_figure(rows: Rows, dpi: int = 200) -> bytes:
    """Savings against the budget, as a PNG.

    Parameters
    ----------
    rows : sequence of mapping
        As `asymsim.analysis.comparison.savings_curves` returns them; those without figures are left out.
    dpi : int
        Dots an inch.

    Returns
    -------
    bytes
    """
    return png(draw_savings(rows), dpi)


def draw_savings(rows: Rows) -> Figure:
    """The figure: a column a model and GPU, a row a saving, a line a method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = list(dict.fromkeys((row["model"], row["gpu"]) for row in rows))
    drawn = {row["method"] for row in rows if row["kept_share"] is not None}
    names = [name for name in dict.fromkeys(row["method"] for row in rows) if name in drawn]
    families = {row["family"] for row in rows}
    panels = KV_PANELS if families == {"kv"} else PANELS
    columns = max(1, len(places))
    width = max(A4_WIDTH_INCHES, 2.5 * columns) if columns > 1 else 5.0
    legend_columns = int(width / 1.35)
    heights = [height for _, _, height in panels]
    height = sum(heights) + 1.2 + 0.2 * -(-(len(names) + 1) // legend_columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    # A figure of its own canvas leaves pyplot, its global state and any display alone.
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(panels), columns, sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    several_gpus = len({gpu for _, gpu in places}) > 1
    kept = {("kv",): "KV cache kept (%)", ("kv", "vision"): "tokens or cache kept (%)"}
    xlabel = kept.get(tuple(sorted(families)), "visual tokens kept (%)")
    for column, (model, gpu) in enumerate(places):
        axes[0][column].set_title(f"{model}\n{gpu}" if several_gpus else model, fontsize=9)
        axes[-1][column].set_xlabel(xlabel, fontsize=9)
        panel_rows = [
            row for row in rows if (row["model"], row["gpu"]) == (model, gpu) and row["kept_share"] is not None
        ]
        for line, (quantity, _, _) in enumerate(panels):
            _panel(axes[line][column], panel_rows, names, quantity)
    for line, (quantity, _, _) in enumerate(panels):
        values = [100 * row[quantity] for row in rows if row[quantity] is not None]
        axes[line][0].set_ylim(max(LOWEST_PERCENT, min([0.0, *values])) - 5, max([20.0, *values]) + 6)
    for line, (_, label, _) in enumerate(panels):
        axes[line][0].set_ylabel(label, fontsize=9)
    _legend(figure, axes[0][0], legend_columns)
    where = "" if several_gpus or not places else f" on {places[0][1]}"
    budget = "the share of visual tokens kept in the mean layer" if "vision" in families else "the share of cache kept"
    separator = " " if columns > 1 else "\n"
    figure.suptitle(f"Savings of pruning{where},{separator}against {budget}", fontsize=10)
    return figure


def _panel(axes: Axes, rows: Rows, names: Sequence[str], quantity: str) -> None:
    axes.plot((0, 100), (100, 0), color="0.6", linestyle=(0, (4, 2)), linewidth=1.0, label="1 - budget", zorder=1)
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    below = []
    for index, name in enumerate(names):
        points = sorted(
            {(row["kept_share"], row[quantity]) for row in rows if row["method"] == name and row[quantity] is not None}
        )
        if points and 100 * max(saved for _, saved in points) < LOWEST_PERCENT:
            below.append(name)
        axes.plot(
            [100 * kept for kept, _ in points],
            [100 * saved for _, saved in points],
            label=name,
            color=COLORS[index % len(COLORS)],
            linestyle=LINES[(index + index // len(COLORS)) % len(LINES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.2,
            markerfacecolor="white" if index // len(MARKERS) % 2 else None,
            linewidth=1.1,
        )
    remark = "all methods coincide" if _coincide(rows, quantity) else f"below: {', '.join(below)}" if below else ""
    axes.text(0.03, 0.12, remark, transform=axes.transAxes, fontsize=7, color="0.35", wrap=True)
    axes.set_xlim(0, 103)
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92", linewidth=0.5)
    axes.set_axisbelow(True)


def _coincide(rows: Rows, quantity: str) -> bool:
    """Whether curves of methods at equal budgets coincide."""
    by_budget: dict[float, list[float]] = {}
    for row in rows:
        if row[quantity] is not None and "nearest" not in row["note"]:
            by_budget.setdefault(row["budget"], []).append(100 * row[quantity])
    spreads = [max(values) - min(values) for values in by_budget.values() if len(values) > 1]
    return bool(spreads) and max(spreads) < COINCIDE_PERCENT


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False, handlelength=3.5
    )
