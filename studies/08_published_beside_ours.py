"""Do the efficiency figures that papers printed follow from their own schedules?

    python studies/08_published_beside_ours.py [--out FOLDER]

All published figures on one page, each computed again by its method's own schedule under the paper's own way to count.
The table has the note of each: what had to be inferred, and why ours differs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from output import Row, legend, panels, percent, plain, run

from asymsim.analysis import reproduce
from asymsim.analysis.reproduce import STATUSES
from asymsim.reporting.plots.style import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "reproduced": {"color": COLORS[0], "marker": "o"},
    "differs": {"color": COLORS[1], "marker": "s"},
    "underdetermined": {"color": COLORS[6], "marker": "^"},
}
# Beyond this, in per cent, a point stands at the edge with its value beside it.
EDGE_PERCENT = 60.0


def rows() -> list[Row]:
    """A row for each published figure."""
    return reproduce.reproduced_rows()


def findings(rows: list[Row]) -> list[str]:
    """Numbers of reproduced figures, in all and by paper."""
    said = []
    for row in reproduce.summary(rows):
        rate = "" if row["rate"] is None else f", {percent(row['rate'])} of those that can be judged"
        counts = ", ".join(f"{row[status]} {status}" for status in STATUSES)
        said.append(f"{row['kind']}: {row['figures']} figures, {counts}{rate}")
    for paper in dict.fromkeys(row["paper"] for row in rows):
        differing = [row for row in rows if row["paper"] == paper and row["status"] == "differs"]
        if differing:
            worst = max(differing, key=lambda row: abs(row["error"]))
            said.append(
                f"{paper}: {len(differing)} differ, most by {percent(abs(worst['error']))} "
                f"({worst['quantity']}, {worst['setting']})"
            )
    return said


def draw(rows: list[Row]) -> Figure:
    """Recomputed over printed figure: a line a figure, a panel a kind."""
    groups = [(kind, [row for row in rows if row["kind"] == kind]) for kind in ("counted", "time")]
    groups = [(kind, group) for kind, group in groups if group]
    longest = max(len(group) for _, group in groups)
    figure, axes = panels(1, len(groups), 5.6 * len(groups), 1.4 + 0.135 * longest)
    for panel, (kind, group) in zip(axes[0], groups, strict=True):
        for status, style in STYLES.items():
            points = [(100 * row["error"], i) for i, row in enumerate(group) if row["status"] == status]
            x = [min(max(error, -EDGE_PERCENT), EDGE_PERCENT) for error, _ in points]
            panel.plot(x, [i for _, i in points], linestyle="none", markersize=4, label=status, **style)
            for error, i in points:
                if abs(error) > EDGE_PERCENT:
                    inside = -1 if error > 0 else 1
                    panel.annotate(
                        f"{error:+.0f} %", (EDGE_PERCENT * -inside, i), xytext=(6 * inside, 0), fontsize=6, va="center",
                        ha="right" if inside < 0 else "left", textcoords="offset points",
                    )  # fmt: skip
        panel.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        plain(panel, f"{kind} figures", "ours against printed (%)")
        panel.set_xlim(-1.05 * EDGE_PERCENT, 1.05 * EDGE_PERCENT)
        panel.set_yticks(range(len(group)), [_label(row) for row in group], fontsize=5.5)
        panel.set_ylim(len(group) - 0.5, -0.5)
    legend(figure, list(axes[0]), 3)
    return figure


def _label(row: Row) -> str:
    setting = row["setting"].replace("visual ", "").replace("llava-", "")
    text = f"{row['paper']}: {setting}, {row['published']} {row['unit']}"
    return text if len(text) <= 88 else text[:87] + "…"


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
