"""Tables of methods side by side and of their break-even points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asymsim.reporting.tables import Rows, heading, number, percent, seconds, share, table


def comparison_parts(rows: Rows, budget: float, match: str) -> list[Any]:
    """Methods side by side, with remarks on them below."""
    only_kv = {row["family"] for row in rows[1:]} == {"kv"}
    share_of = "cache after prefill" if only_kv else "mean visual tokens"
    budget_text = f"keep = {share(budget)}" if match == "keep" else f"{100 * budget:.4g} % of the {share_of}"
    columns = [("method", "left"), ("keep", "right"), ("visual\ntokens", "right")]
    columns += [
        (name, "right")
        for name in (
            "prefill\nFLOPs\nsaved",
            "FLOPs\nsaved",
            "KV\nsaved",
            "TTFT",
            "TTFT\nsaved",
            "TPOT",
            "e2e\nsaved",
            "selection\nin TTFT",
        )
    ]
    title = f"{rows[0]['model']} on {rows[0]['gpu']}: methods at {budget_text}"
    slower = [f"  - {row['method']}: {row['slower']}" for row in rows if row["slower"]]
    return [heading(title), table(columns, [_compared(row) for row in rows]), *notes(rows), *slower]


def notes(rows: Rows) -> list[str]:
    """Each remark once, after the names of its methods."""
    methods_by_note: dict[str, dict[str, None]] = {}
    for row in rows:
        for note in filter(None, row["note"].split("; ")):
            methods_by_note.setdefault(note, {})[row["method"]] = None
    return [f"  * {', '.join(names)}: {note}" for note, names in methods_by_note.items()]


def _compared(row: Mapping[str, Any]) -> list[str]:
    return [
        row["method"] + ("*" if row["note"] else ""),
        share(row["keep"]),
        number(row["mean_visual_tokens"]),
        percent(row["prefill_flops_saved"]),
        percent(row["flops_saved"]),
        percent(row["kv_saved"]),
        seconds(row["ttft_s"]),
        percent(row["ttft_saved"]),
        seconds(row["tpot_s"]),
        percent(row["e2e_saved"]),
        percent(row["selection_share_of_ttft"]),
    ]


def break_even_parts(rows: Rows) -> list[Any]:
    """The largest keep that still saves time to first token: methods down, GPUs and batch sizes across."""
    cells = list(dict.fromkeys((row["gpu"], row["batch_size"]) for row in rows))
    columns = [("method", "left"), *((f"{gpu}\nbatch {batch}", "right") for gpu, batch in cells)]
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        by_cell = {(row["gpu"], row["batch_size"]): row for row in rows if row["method"] == method}
        lines.append([method, *(share(by_cell[cell]["break_even_keep"]) for cell in cells)])
    title = f"{rows[0]['model']}: the largest keep at which the first token still comes sooner than unpruned"
    remarks = [{"method": row["method"], "note": row["note"]} for row in rows]
    return [heading(title), table(columns, lines), *notes(remarks)]
