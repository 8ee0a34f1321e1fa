"""Tables of published figures beside recomputed ones."""

from __future__ import annotations

from typing import Any

from asymsim.reporting.tables import Rows, heading, percent, share, table


def reproduction_parts(rows: Rows) -> list[Any]:
    """One table a paper; below it, why figures differ."""
    columns = [("quantity", "left"), ("setting", "left"), ("published", "right"), ("ours", "right")]
    columns += [("unit", "left"), ("off by", "right"), ("status", "left")]
    parts: list[Any] = []
    for paper in dict.fromkeys(row["paper"] for row in rows):
        here = [row for row in rows if row["paper"] == paper]
        lines = [
            [
                row["quantity"].replace("_", " "),
                row["setting"],
                str(row["published"]),
                share(row["ours"]),
                row["unit"],
                percent(row["error"]),
                row["status"] + ("" if row["status"] == "reproduced" else "*"),
            ]
            for row in here
        ]
        reasons = dict.fromkeys(row["note"] for row in here if row["status"] != "reproduced" and row["note"])
        parts += [
            *([""] if parts else []),
            heading(paper),
            table(columns, lines),
            *(f"  * {reason}" for reason in reasons),
        ]
    return parts
