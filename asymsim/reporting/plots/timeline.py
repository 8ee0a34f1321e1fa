"""Figure of a simulated fleet over time and of its latencies, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asymsim.core.serving.layout import DONE
from asymsim.core.times.device import TICK_S
from asymsim.reporting.plots.style import A4_WIDTH_INCHES, COLORS, png
from asymsim.serving.results import SimulationResult
from asymsim.serving.saturation import backlog_of
from asymsim.serving.slo import Slo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAITING, RUNNING, CACHE, LIMIT = COLORS[1], COLORS[0], COLORS[2], COLORS[4]
# More points than dots across the page say nothing, and a line of them is a blot.
MOST_POINTS = 1000


def timeline_figure(result: SimulationResult, slo: Slo | None = None, title: str = "", dpi: int = 200) -> bytes:
    """Requests waiting and running and the cache in use over time, and the distributions of TTFT and TPOT, as a PNG.

    Parameters
    ----------
    result : SimulationResult
    slo : Slo, optional
        Limits to draw.
    title : str
        Model, GPUs and load.
    dpi : int
        Dots an inch.

    Returns
    -------
    bytes
    """
    return png(draw_timeline(result, slo or Slo(), title), dpi)


def draw_timeline(result: SimulationResult, slo: Slo, title: str = "") -> Figure:
    """The figure: three panels over one time axis, and two distributions below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(A4_WIDTH_INCHES, 7.2), layout="constrained")
    # A figure of its own canvas leaves pyplot, its global state and any display alone.
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(4, 2, height_ratios=(1.0, 1.0, 1.0, 1.5))
    waiting = figure.add_subplot(grid[0, :])
    running, cache = (figure.add_subplot(grid[row, :], sharex=waiting) for row in (1, 2))
    seconds = result.timeline["start_s"]
    capacity = max(1, result.kv_capacity_bytes)
    _over_time(waiting, seconds, result.timeline["waiting"], WAITING, "waiting\n(requests)")
    _over_time(running, seconds, result.timeline["running"], RUNNING, "running\n(requests)")
    _over_time(cache, seconds, 100.0 * result.timeline["kv_bytes"] / capacity, CACHE, "KV cache\n(% of capacity)")
    cache.set_ylim(-3, 105)
    cache.set_xlabel("time (s)", fontsize=9)
    waiting.set_xlim(0, max(result.end_s, TICK_S))
    for panel in (waiting, running):
        panel.tick_params(labelbottom=False)
    _mark_last(result, (waiting, running, cache))
    done = result.status == DONE
    output = result.requests.output_tokens
    long = done & (output > 1)
    tpot = (result.e2e_s - result.ttft_s)[long] / (output[long] - 1)
    left = figure.add_subplot(grid[3, 0])
    right = figure.add_subplot(grid[3, 1], sharey=left)
    right.tick_params(labelleft=False)
    growing = backlog_of(result).saturated is True
    _distribution(left, result.ttft_s[done], slo.ttft_s, "TTFT", "s", 1.0, growing)
    _distribution(right, tpot, slo.tpot_s, "TPOT", "ms", 1e3, False)
    left.set_ylabel("requests that take\nno longer (%)", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _over_time(axes: Axes, seconds: Any, values: Any, color: str, label: str) -> None:
    """A quantity over time; of more samples than points, the mean of each group in a band from least to most."""
    from matplotlib.ticker import MaxNLocator

    most = float(np.max(values, initial=0.0))
    if len(seconds) > MOST_POINTS:
        edges = np.arange(0, len(seconds), -(-len(seconds) // MOST_POINTS))
        low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
        mean = np.add.reduceat(values, edges) / np.diff(np.append(edges, len(seconds)))
        axes.fill_between(seconds[edges], low, high, color=color, alpha=0.3, linewidth=0, step="post")
        seconds, values = seconds[edges], mean
    axes.plot(seconds, values, color=color, linewidth=0.9, drawstyle="steps-post")
    axes.set_ylabel(label, fontsize=9)
    top = 1.08 * most or 1.0
    # A little below, or a line at zero hides behind the frame.
    axes.set_ylim(-0.03 * top, top)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _plain(axes)


def _mark_last(result: SimulationResult, panels: Sequence[Axes]) -> None:
    """The last arrival: after it the fleet runs dry."""
    sent = result.sent_s[np.isfinite(result.sent_s)]
    if not len(sent):
        return
    for panel in panels:
        panel.axvline(sent.max(), color="0.55", linewidth=0.8, linestyle=(0, (4, 2)))
    panels[0].annotate(
        "last request sent",
        (float(sent.max()), 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center" if sent.max() < 0.9 * result.end_s else "right",
        fontsize=7,
        color="0.35",
    )


def _distribution(
    axes: Axes, values: Any, limit: float | None, name: str, unit: str, scale: float, growing: bool
) -> None:
    """Cumulative share of requests on a logarithmic time axis, with the limit and the share that meets it."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    ordered = scale * np.sort(values[np.isfinite(values)])
    if len(ordered):
        places = np.unique(np.linspace(0, len(ordered) - 1, MOST_POINTS).round().astype(int))
        shares = 100.0 * (places + 1) / len(ordered)
        axes.plot(
            np.append(ordered[0], ordered[places]),
            np.append(0.0, shares),
            color=RUNNING,
            linewidth=1.2,
            drawstyle="steps-post",
        )
    else:
        axes.text(0.5, 0.5, "no request done", transform=axes.transAxes, ha="center", fontsize=8, color="0.35")
    notes = ["saturated: grows as long as requests arrive"] if growing else []
    if limit is not None:
        axes.axvline(scale * limit, color=LIMIT, linewidth=1.0, linestyle="--")
        if len(ordered) and not growing:
            notes.append(f"{100.0 * np.mean(ordered <= scale * limit):.1f} % meet the SLO of {scale * limit:g} {unit}")
    axes.set_title("; ".join(notes), fontsize=8)
    inside = np.append(ordered, [] if limit is None else scale * limit)
    low, high = (inside.min(), inside.max()) if len(inside) else (1.0, 10.0)
    # Where all are equal, but for rounding, the axis still has a length.
    room = max(1.05, (high / low) ** 0.04)
    axes.set_xlim(low / room, high * room)
    axes.set_xscale("log")
    # Within a few octaves even steps give more marks than powers of ten do.
    narrow = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10))
    axes.xaxis.set_major_locator(
        narrow if high < 8 * low else LogLocator(subs=(1.0, 2.0, 5.0) if high < 200 * low else (1.0,))
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_ylim(0, 102)
    axes.set_xlabel(f"{name} ({unit})", fontsize=9)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92", linewidth=0.5)
    axes.set_axisbelow(True)
