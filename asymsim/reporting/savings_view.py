"""Tables of savings against the budget."""

from __future__ import annotations

from typing import Any

from asymsim.reporting.comparison_view import notes
from asymsim.reporting.estimate_view import SAVED
from asymsim.reporting.tables import Rows, heading, percent, table


def savings_parts(rows: Rows) -> list[Any]:
    """The saved share of TTFT (of TPOT for KV methods), a table a model and GPU: methods down, budgets across."""
    only_kv = {row["family"] for row in rows} == {"kv"}
    figure, share_of = ("tpot_saved", "cache after prefill") if only_kv else ("ttft_saved", "mean visual tokens")
    parts: list[Any] = []
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    columns = [("method", "left"), *((f"{100 * budget:.4g} %", "right") for budget in budgets)]
    for model, gpu in dict.fromkeys((row["model"], row["gpu"]) for row in rows):
        panel_rows = [row for row in rows if (row["model"], row["gpu"]) == (model, gpu)]
        lines = []
        for method in dict.fromkeys(row["method"] for row in panel_rows):
            method_rows = [row for row in panel_rows if row["method"] == method]
            lines.append([method, *(percent(row[figure]) + ("*" if row["note"] else "") for row in method_rows)])
        title = f"{model} on {gpu}: {SAVED[figure.removesuffix('_saved')]} saved, by share of the {share_of} kept"
        parts += [*([""] if parts else []), heading(title), table(columns, lines), *notes(panel_rows)]
    return parts
