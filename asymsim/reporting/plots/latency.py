"""Figure of predicted against measured times, a panel an operator class, as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asymsim.reporting.plots.style import A4_WIDTH_INCHES, COLORS, png
from asymsim.util.units import MICRO, MILLI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

TITLES = {
    "gemm_bf16": "matrix products, bf16",
    "gemm_fp8": "matrix products, fp8",
    "grouped_gemm": "experts' products",
    "prefill_attention": "prefill attention",
    "decode_attention": "decode attention",
    "encoder_attention": "encoder attention",
    "elementwise": "element-wise",
    "all_reduce": "all-reduce",
    "TPOT": "TPOT, end to end",
    "TTFT": "TTFT, end to end",
}
COLUMNS = 3
# What the legend needs in width.
LEGEND_INCHES = 5.5
# Points need more contrast than lines: two of Tol's "bright" and "vibrant" schemes for the palest of the "muted".
_COLORS = tuple({"#88CCEE": "#4477AA", "#DDCC77": "#EE7733"}.get(color, color) for color in COLORS)
COLOR_OF = dict(zip(TITLES, _COLORS, strict=True))
# Decades that carry a label.
MOST_LABELS = 3
# Bands of predicted time, in each of which the interval drawn is the median of its points' intervals.
BANDS = 12


def latency_figure(points: Rows, dpi: int = 200) -> bytes:
    """Predicted against measured times, as a PNG.

    Parameters
    ----------
    points : sequence of mapping
        With ``operator``, a key of ``TITLES``, ``measured_s``, ``p05_s``, ``p50_s`` and ``p95_s``.
    dpi : int
        Dots an inch.

    Returns
    -------
    bytes
    """
    return png(draw_latency(points), dpi)


def draw_latency(points: Rows) -> Figure:
    """The figure, on logarithmic axes: a right prediction lies on the diagonal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    operators = {point["operator"] for point in points}
    names = [name for name in TITLES if name in operators]
    columns = max(1, min(COLUMNS if len(names) <= COLUMNS**2 else COLUMNS + 1, len(names)))
    lines = max(1, -(-len(names) // columns))
    side = A4_WIDTH_INCHES / max(columns, COLUMNS)
    figure = Figure(figsize=(max(LEGEND_INCHES, side * columns), (side + 0.15) * lines + 0.5), layout="constrained")
    # A figure of its own canvas leaves pyplot, its global state and any display alone.
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, name in zip(axes, names, strict=False):
        _panel(panel, name, [point for point in points if point["operator"] == name])
    for panel in axes[len(names) :]:
        panel.set_axis_off()
    if names:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False, markerscale=2)
    for panel in axes[max(0, len(names) - columns) : len(names)]:
        panel.set_xlabel("measured", fontsize=8)
    for panel in axes[: len(names) : columns]:
        panel.set_ylabel("predicted", fontsize=8)
    return figure


def _panel(axes: Axes, name: str, points: Rows) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    columns = ("measured_s", "p05_s", "p50_s", "p95_s")
    measured, low, predicted, high = np.array([[point[column] for column in columns] for point in points]).T
    color = COLOR_OF[name]
    least, most = min(measured.min(), predicted.min()) / 1.5, max(measured.max(), predicted.max()) * 1.5
    inside = (low <= measured) & (measured <= high)
    for chosen, marker, size, label in ((inside, "o", 2.4, "inside its interval"), (~inside, "x", 3.4, "outside it")):
        axes.plot(
            measured[chosen],
            predicted[chosen],
            marker,
            color=color,
            markersize=size,
            alpha=0.7,
            markeredgewidth=0.7 if marker == "x" else 0,
            label=label,
        )
    axes.plot((least, most), (least, most), color="black", linewidth=0.6, label="predicted = measured")
    heights, lows, highs = _band(low, predicted, high)
    axes.fill_betweenx(heights, lows, highs, color="0.83", linewidth=0, zorder=0, label="90 % interval")
    for ends in (lows, highs):
        axes.plot(ends, heights, color="0.4", linewidth=0.4)
    axes.set_title(
        f"{TITLES[name]}\nmedian error {100 * np.median(np.abs(predicted / measured - 1)):.1f} %", fontsize=8
    )
    axes.set(xscale="log", yscale="log", xlim=(least, most), ylim=(least, most), aspect="equal")
    ticks = _decades(least, most)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [_short(tick) for tick in ticks])
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=7)
    axes.grid(color="0.92", linewidth=0.5, zorder=-1)
    axes.set_axisbelow(True)


def _decades(least: float, most: float) -> list[float]:
    """Powers of ten in a range, evenly thinned to `MOST_LABELS`; 1, 2 and 5 of each where one decade holds all."""
    powers = range(math.ceil(math.log10(least)), math.floor(math.log10(most)) + 1)
    if len(powers) < 2:
        steps = [digit * 10.0**power for power in range(powers.start - 1, powers.stop + 1) for digit in (1, 2, 5)]
        return [step for step in steps if least <= step <= most]
    return [10.0**power for power in powers[:: -(-len(powers) // MOST_LABELS)]]


def _short(seconds: float) -> str:
    """A tick's label, such as 10 us."""
    for scale, unit in ((1.0, "s"), (MILLI, "ms"), (MICRO, "us")):
        # A little below: 1e-6 / 1e-6 need not be 1.
        if seconds >= 0.999 * scale or unit == "us":
            break
    return f"{seconds / scale:g} {unit}"


def _band(low: Any, predicted: Any, high: Any) -> tuple[Any, Any, Any]:
    """Predicted times and the ends of the interval there: the median of each band of as many points."""
    order = np.argsort(predicted)
    parts = [part for part in np.array_split(order, min(BANDS, len(order))) if len(part)]
    centres = np.array([np.median(predicted[part]) for part in parts])
    lows, highs = (np.array([np.median((end / predicted)[part]) for part in parts]) for end in (low, high))
    edges = np.concatenate([[predicted.min()], centres, [predicted.max()]])
    lows, highs = (np.concatenate([[ratios[0]], ratios, [ratios[-1]]]) for ratios in (lows, highs))
    return edges, edges * lows, edges * highs
