"""Tables of published figures beside recomputed ones."""

from __future__ import annotations

from typing import Any

from asymsim.reporting.tables import Rows, heading, percent, share, table


def reproduction_parts(rows: Rows) -> list[Any]:
    """One table a paper, with the reasons of differences below it."""
    columns = [("quantity", "left"), ("setting", "left"), ("published", "right"), ("ours", "right")]
    columns += [("unit", "left"), ("off by", "right"), ("status", "left")]
    parts: list[Any] = []
    for paper in dict.fromkeys(row["paper"] for row in rows):
        paper_rows = [row for row in rows if row["paper"] == paper]
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
            for row in paper_rows
        ]
        reasons = dict.fromkeys(row["note"] for row in paper_rows if row["status"] != "reproduced" and row["note"])
        parts += [
            *([""] if parts else []),
            heading(paper),
            table(columns, lines),
            *(f"  * {reason}" for reason in reasons),
        ]
    return parts
