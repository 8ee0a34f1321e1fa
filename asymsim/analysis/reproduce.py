"""Published figures of papers, computed again, each by its method's schedule.

``python -m asymsim.analysis.reproduce`` prints them as Markdown; ``docs/reproduction.md`` holds the counted ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from asymsim.analysis.published_figures import UNITS, Figure, Paper, Table, papers
from asymsim.analysis.quantities import COUNTED, QUANTITIES
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import UnknownNameError

# Ours reproduces a figure if it rounds to the printed digits or lies this close.
TOLERANCE = 0.01
TOLERANCE_POINTS = 0.005
STATUSES = ("reproduced", "differs", "underdetermined")

Row = dict[str, Any]


def scenario_of(table: Table, figure: Figure) -> Scenario:
    """The scenario that a figure was printed for."""
    return Scenario(
        model=table.model,
        gpu=table.gpu,
        visual_tokens=table.visual_tokens,
        # A prompt has at least one token; a figure that leaves text out does not count it.
        text_tokens=1 if table.text_tokens is None else table.text_tokens,
        output_tokens=table.output_tokens,
        dtype="fp16",
        method=figure.method,
        keep=figure.kept_share,
        settings=figure.settings,
        convention=table.convention,
    )


def computed_value(table: Table, figure: Figure) -> float:
    """Our value of a figure, in the figure's unit.

    Raises
    ------
    UnknownNameError
        If the table names an unknown quantity.
    """
    if table.quantity not in QUANTITIES:
        raise UnknownNameError("quantity", table.quantity, QUANTITIES)
    return QUANTITIES[table.quantity](scenario_of(table, figure)) / UNITS[table.unit]


def reproduced_row(paper: Paper, table: Table, figure: Figure) -> Row:
    """One published figure beside the computed one.

    Returns
    -------
    dict
        ``error`` is relative, for percentages the difference, as a fraction either way. ``status`` is
        "reproduced", "differs", or "underdetermined" where the source leaves out a condition of
        the figure. ``kind`` is "counted" or "time".
    """
    value, printed = computed_value(table, figure), figure.value
    counted, points = table.quantity in COUNTED, table.unit == "%"
    error = (value - printed) * UNITS["%"] if points else value / printed - 1
    close = abs(error) <= (TOLERANCE_POINTS if points else TOLERANCE)
    if table.underdetermined:
        status = "underdetermined"
    else:
        status = "reproduced" if close or abs(value - printed) <= figure.half_digit else "differs"
    notes = [f"inferred: {table.inferred}"] if table.inferred else []
    if status != "reproduced" and table.why:
        notes.append(table.why)
    if not counted:
        source = estimate(scenario_of(table, figure)).latency.prefill_s.source
        notes.append(f"measured by the authors in their own software, ours is a time by {source}")
    return {
        "paper": paper.name,
        "quantity": table.quantity,
        "setting": _setting(table, figure, counted),
        "convention": table.convention if table.quantity.startswith("prefill_flops") else "",
        "published": figure.published,
        "ours": float(f"{value:.6g}"),
        "error": round(error, 6),
        "unit": table.unit,
        "status": status,
        "kind": "counted" if counted else "time",
        "source": f"arXiv {paper.arxiv}, {table.where}",
        "note": "; ".join(notes),
    }


def _setting(table: Table, figure: Figure, counted: bool) -> str:
    text = "" if table.text_tokens is None else f" + {table.text_tokens}"
    parts = [table.model, *([] if counted else [table.gpu]), f"{table.visual_tokens}{text} tokens"]
    if figure.method != "none":
        more = [f"keep={figure.keep}"] if figure.keep else []
        more += [f"{name}={value}" for name, value in figure.settings.items()]
        parts.append(" ".join([figure.method, *more]))
    return ", ".join(parts)


def reproduced_rows() -> list[Row]:
    """All published figures beside ours, paper by paper."""
    return [
        reproduced_row(paper, table, figure) for paper in papers() for table in paper.tables for figure in table.figures
    ]


def summary(results: Sequence[Row]) -> list[Row]:
    """How many figures are reproduced: counted ones, times, and all; ``rate`` leaves out the underdetermined."""
    kinds = {"counted": ["counted"], "time": ["time"], "all": ["counted", "time"]}
    return [_counts(name, [each for each in results if each["kind"] in chosen]) for name, chosen in kinds.items()]


def _counts(name: str, group: Sequence[Row]) -> Row:
    counts = {status: sum(each["status"] == status for each in group) for status in STATUSES}
    judged = counts["reproduced"] + counts["differs"]
    return {"kind": name, "figures": len(group), **counts, "rate": counts["reproduced"] / judged if judged else None}


def markdown(results: Sequence[Row], kind: str) -> str:
    """The figures of one kind: how many reproduce, the table, and the notes that its rows point to."""
    group = [each for each in results if each["kind"] == kind]
    counts = _counts(kind, group)
    notes = list(dict.fromkeys(each["note"] for each in group if each["note"]))
    said = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    lines = [f"{len(group)} figures: {said}.", ""]
    lines += [
        "| paper | setting | quantity | printed | ours | error | status | note |",
        "|---|---|---|--:|--:|--:|---|--:|",
    ]
    for each in group:
        unit, note = each["unit"], notes.index(each["note"]) + 1 if each["note"] else ""
        quantity = each["quantity"] + (f" ({each['convention']})" if each["convention"] else "")
        error = f"{100 * each['error']:+.2f} {'points' if unit == '%' else '%'}"
        cells = (f"{each['published']} {unit}", f"{each['ours']:.5g}", error, each["status"], note)
        lines.append(f"| {each['paper']} | {each['setting']} | {quantity} | {' | '.join(map(str, cells))} |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, start=1))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    rows = reproduced_rows()
    sys.stdout.write(f"{markdown(rows, 'counted')}\n{markdown(rows, 'time')}")
