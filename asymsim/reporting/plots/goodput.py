"""Figure of goodput against the offered load, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asymsim.reporting.plots.style import A4_WIDTH_INCHES, COLORS, LINES, MARKERS, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
# Kinds of GPU side by side; more go below.
ACROSS = 3


def goodput_figure(rows: Sequence[Row], title: str = "", percentile: float = 99.0, dpi: int = 200) -> bytes:
    """Goodput and the share of requests within the limits against the offered load, a column a GPU, as a PNG.

    Parameters
    ----------
    rows : sequence of mapping
        As `asymsim.serving.planning.document.curve_rows` makes them.
    title : str
        Model and latency limits.
    percentile : float
        Share of requests, in per cent, that must meet the limits.
    dpi : int
        Dots an inch.

    Returns
    -------
    bytes
    """
    return png(draw_goodput(rows, title, percentile), dpi)


def draw_goodput(rows: Sequence[Row], title: str = "", percentile: float = 99.0) -> Figure:
    """The figure: two panels a kind of GPU, a line a method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    gpus = list(dict.fromkeys(row["gpu"] for row in rows))
    ways = list(dict.fromkeys(_way(row) for row in rows))
    # Four stand better two by two.
    across = 2 if len(gpus) == 4 else max(1, min(ACROSS, len(gpus)))
    bands = -(-len(gpus) // across)
    width = A4_WIDTH_INCHES if across > 1 else 5.0
    figure = Figure(figsize=(width, 0.9 + 4.1 * bands + 0.2 * -(-len(ways) // 3)), layout="constrained")
    # A figure of its own canvas leaves pyplot, its global state and any display alone.
    FigureCanvasAgg(figure)
    heights = (2.2, 1.3) * max(1, bands)
    axes = figure.subplots(2 * max(1, bands), across, squeeze=False, gridspec_kw={"height_ratios": heights})
    for panel in range(across * max(1, bands)):
        band, column = divmod(panel, across)
        rate, share = axes[2 * band][column], axes[2 * band + 1][column]
        if panel >= len(gpus):
            rate.set_axis_off()
            share.set_axis_off()
            continue
        _column(rate, share, [row for row in rows if row["gpu"] == gpus[panel]], ways, percentile)
        share.sharex(rate)
        rate.tick_params(labelbottom=False)
        if not column:
            rate.set_ylabel("goodput (requests/s)", fontsize=9)
            share.set_ylabel("within the\nlimits (%)", fontsize=9)
    if gpus:
        handles, labels = axes[0][0].get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True))
        figure.legend(
            entries.values(), entries, loc="outside lower center", ncols=across + 1, fontsize=8, frameon=False,
            handlelength=3.5,
        )  # fmt: skip
    reading = f"marker: highest load at which {percentile:g} % meet each limit; a line ends where the backlog grows"
    figure.suptitle(f"{title}\n{reading}", fontsize=9 if across > 1 else 6.5)
    return figure


def _column(rate: Axes, share: Axes, rows: Sequence[Row], ways: Sequence[str], percentile: float) -> None:
    """The two panels of one kind of GPU."""
    top = max(row["request_rate"] for row in rows)
    fleets = sorted({row["gpus"] for row in rows})
    fleet = f"{fleets[0]} to {fleets[-1]} x " if len(fleets) > 1 else f"{fleets[0]} x " if fleets != [1] else ""
    rate.set_title(fleet + rows[0]["gpu"], fontsize=9)
    rate.plot((0, top), (0, top), color="0.6", linestyle=(0, (4, 2)), linewidth=1.0, label="offered load")
    share.axhline(percentile, color="0.6", linestyle=(0, (4, 2)), linewidth=1.0)
    for index, way in enumerate(ways):
        way_rows = [row for row in rows if _way(row) == way]
        style: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "linestyle": LINES[(index + index // len(COLORS)) % len(LINES)],
            "linewidth": 1.2,
        }
        served = [row for row in way_rows if row["request_goodput"] is not None]
        rates = [0.0, *(row["request_rate"] for row in served)]
        rate.plot(rates, [0.0, *(row["request_goodput"] for row in served)], **style)
        share.plot(rates, [100.0, *(100 * row["slo_share"] for row in served)], **style)
        sustained: Any = way_rows[0]["sustained_rate"] if way_rows else None
        marker: dict[str, Any] = {"marker": MARKERS[index % len(MARKERS)], "markersize": 5, "linestyle": "none"}
        sustained_goodput = [row["request_goodput"] for row in served if row["request_rate"] == sustained]
        rate.plot([sustained] * len(sustained_goodput), sustained_goodput, color=style["color"], **marker)
        # One entry of the legend for line and marker.
        rate.plot([], [], label=way, **{**style, **marker, "linestyle": style["linestyle"]})
    for axes in (rate, share):
        axes.set_xlim(0, top)
        axes.tick_params(labelsize=8)
        axes.grid(color="0.92", linewidth=0.5)
        axes.set_axisbelow(True)
    rate.set_ylim(0, 1.02 * max([row["request_goodput"] or 0.0 for row in rows] + [1e-9]) * 1.05)
    share.set_ylim(0, 105)
    share.set_xlabel("offered load (requests/s)", fontsize=9)


def _way(row: Row) -> str:
    if row["method"] == "none":
        return "unpruned"
    return f"{row['method']}" + ("" if row["keep"] is None else f", keep {row['keep']:.3g}")
