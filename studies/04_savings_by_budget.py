"""How much does each method save at a budget, and does it matter which of two meanings the budget has?

    python studies/04_savings_by_budget.py [--out FOLDER]

"64 of 576 tokens" is a count before the language model for methods that prune there, and a mean over its layers for
methods that prune inside it. Every method is solved for the same mean; each row says also what share of the visual
tokens enters the language model and what share its last layer still sees. KV methods are solved for the share of the
cache after prefill. Throughput is that of the largest batch that fits: a smaller cache admits more requests.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from output import Row, legend, look, panels, percent, plain, run

from asymsim.analysis.budget_search import with_method
from asymsim.analysis.comparison import BUDGETS, savings_curves
from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario
from asymsim.methods.base import registered_methods as registry
from asymsim.util.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAVED = (
    ("prefill_flops_saved", "prefill FLOPs\nsaved (%)"),
    ("kv_saved", "KV cache\nsaved (%)"),
    ("ttft_saved", "TTFT\nsaved (%)"),
    ("tpot_saved", "TPOT\nsaved (%)"),
    ("throughput_gained", "throughput\ngained (%)"),
)
# Curves far below would flatten all others.
LOWEST_PERCENT = -40.0
JUDGED_AT = 0.3


def rows(
    model: str = "llava-1.5-7b",
    gpu: str = "h100_sxm",
    methods: Sequence[str] | None = None,
    budgets: Sequence[float] = BUDGETS,
) -> list[Row]:
    """A row for each method and budget that it can meet."""
    names = [name for name in registry() if name != "none"] if methods is None else list(methods)
    scenario = Scenario(model=model, gpu=gpu)
    dense = estimate(scenario)
    dense_rate = requests_per_s(scenario, dense)
    study_rows = []
    for row in savings_curves([model], [gpu], names, budgets):
        if row["kept_share"] is None or "nearest" in row["note"]:
            continue
        pruned = with_method(scenario, row["method"], {}, row["keep"])
        result = estimate(pruned)
        visual = result.schedule.visual_tokens_by_layer
        chosen = ("model", "gpu", "method", "family", "budget", "keep", "kept_share")
        saved = ("prefill_flops_saved", "kv_saved", "ttft_saved", "tpot_saved", "e2e_saved")
        study_rows.append(
            {name: row[name] for name in chosen}
            | {
                "entering_share": visual[0] / dense.workload.visual_tokens,
                "last_layer_share": visual[-1] / dense.workload.visual_tokens,
            }
            | {name: row[name] for name in saved}
            | {
                "max_batch_size": result.memory.max_batch_size,
                "throughput_gained": requests_per_s(pruned, result) / dense_rate - 1,
                "selection_share_of_ttft": row["selection_share_of_ttft"],
            }
        )
    return study_rows


def requests_per_s(scenario: Scenario, result: Estimate) -> float:
    """Requests a second of batches that follow each other, each the largest that fits."""
    batch = result.memory.max_batch_size
    if batch == 0:
        raise InputError("gpu", scenario.gpu, f"does not hold one request of {scenario.model}")
    seconds = estimate(dataclasses.replace(scenario, batch_size=batch)).latency.e2e_s.p50
    assert seconds
    return batch / seconds


def findings(rows: list[Row]) -> list[str]:
    """The spread of savings under each meaning of one budget."""
    said = []
    at = [row for row in rows if row["family"] == "vision" and abs(row["budget"] - JUDGED_AT) < 1e-9]
    inside = [row for row in at if row["entering_share"] > 0.99]
    for name, label in (("prefill_flops_saved", "prefill FLOPs"), ("kv_saved", "KV"), ("ttft_saved", "TTFT")):
        low, high = min(at, key=lambda row: row[name]), max(at, key=lambda row: row[name])
        said.append(
            f"at {percent(JUDGED_AT)} in the mean layer, {label} saved: from {percent(low[name])} ({low['method']}) "
            f"to {percent(high[name])} ({high['method']})"
        )
    if inside:
        shares = ", ".join(f"{row['method']} {percent(row['last_layer_share'])}" for row in inside)
        said.append(f"of these, all visual tokens enter the language model under, and the last layer sees: {shares}")
    tpot, rate = max(at, key=lambda row: row["tpot_saved"]), max(at, key=lambda row: row["throughput_gained"])
    said.append(
        f"there, TPOT of one request falls by {percent(tpot['tpot_saved'])} at most ({tpot['method']}); throughput at "
        f"the largest batch rises by up to {percent(rate['throughput_gained'])} ({rate['method']})"
    )
    slower = sorted({row["method"] for row in rows if row["ttft_saved"] < 0 and row["budget"] <= 0.5})
    said.append(f"slower to the first token than unpruned at some budget up to 50 %: {', '.join(slower) or 'none'}")
    return said


def draw(rows: list[Row]) -> Figure:
    """A line a saving; columns: the budget as a mean over layers, as a count before the model, and KV methods."""
    vision = [row for row in rows if row["family"] == "vision"]
    cache = [row for row in rows if row["family"] == "kv"]
    columns: list[tuple[str, str, list[Row]]] = [
        ("kept_share", "visual tokens kept,\nmean over LM layers (%)", vision),
        ("entering_share", "visual tokens that\nenter the LM (%)", vision),
        ("kept_share", "cache kept\nafter prefill (%)", cache),
    ]
    columns = [column for column in columns if column[2]]
    names = list(dict.fromkeys(row["method"] for row in vision + cache))
    figure, axes = panels(
        len(SAVED), len(columns), 8.27, 11.0, sharex="col", sharey="row", gridspec_kw={"wspace": 0.05}
    )
    for column, (share, label, group) in enumerate(columns):
        for line, (quantity, ylabel) in enumerate(SAVED):
            panel = axes[line][column]
            below = []
            for index, name in enumerate(names):
                points = sorted((100 * row[share], 100 * row[quantity]) for row in group if row["method"] == name)
                if not points:
                    continue
                if max(y for _, y in points) < LOWEST_PERCENT:
                    below.append(name)
                panel.plot(*zip(*points, strict=True), label=name, **_style(index, points))
            panel.axhline(0, color="0.6", linewidth=0.8, zorder=0)
            panel.set_xlim(0, 104)
            if below:
                panel.text(0.03, 0.06, f"below: {', '.join(below)}", transform=panel.transAxes, fontsize=7)
            plain(panel, y=ylabel if column == 0 else "", x=label if line == len(SAVED) - 1 else "")
    if len(columns) > 1:
        axes[0][1].text(97, 74, "these prune\ninside the LM", ha="right", va="center", fontsize=7)
    for line, (quantity, _) in enumerate(SAVED):
        values = [100 * row[quantity] for row in rows]
        low, high = max(LOWEST_PERCENT, min(values)), max(values)
        axes[line][0].set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    legend(figure, axes[-1], 5)
    figure.suptitle(f"Savings of pruning: {rows[0]['model']} on {rows[0]['gpu']}, one request", fontsize=10)
    return figure


def _style(index: int, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Points of a method whose count before the model never changes are not joined."""
    style = look(index)
    if all(abs(left - right) < 1e-9 for (left, _), (right, _) in pairwise(points)):
        style["linestyle"] = "none"
    return style


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
