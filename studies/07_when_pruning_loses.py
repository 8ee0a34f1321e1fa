"""How much does selection cost, and up to which kept share does pruning still save time to first token?

    python studies/07_when_pruning_loses.py [--out FOLDER]

Break-even is the largest `keep` at which a method's TTFT is below the unpruned one's, by method, GPU and batch.
Beside it stands what the method pays before the first token at half the visual tokens: its own operators, and layers
whose attention weights are stored instead of fused, counted whole. Times are those of the GPU's work: launch gaps of
unfused selection code on the host come on top.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from output import Row, panels, percent, run

from asymsim.analysis.break_even import break_even_table, pruning_cost
from asymsim.analysis.budget_search import solve_keep, with_method
from asymsim.analysis.comparison import vision_methods
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("llava-1.5-7b", "internvl3-1b")
GPUS = ("h100_sxm", "a100_80gb_sxm", "l4")
BATCH_SIZES = (1, 8, 32)
PRICED_AT = 0.5


def rows(
    models: Sequence[str] = MODELS,
    gpus: Sequence[str] = GPUS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    methods: Sequence[str] | None = None,
) -> list[Row]:
    """A row for each model, GPU, batch size and method that prunes visual tokens."""
    names = vision_methods() if methods is None else list(methods)
    study_rows = []
    for model in models:
        for row in break_even_table(Scenario(model=model), names, gpus, batch_sizes, {}):
            study_rows.append(row | _paid(row))
    return study_rows


def _paid(row: Row) -> Row:
    """The cost of selection at half the visual tokens, and the saving in all, for the method of a row."""
    scenario = Scenario(model=row["model"], gpu=row["gpu"], batch_size=row["batch_size"])
    dense = estimate(scenario)
    (half,) = solve_keep(scenario, row["method"], {}, dense, (PRICED_AT,), "budget")
    names = ("selection_s", "unfused_s", "paid_share_of_dense_ttft", "ttft_saved_at_half")
    if half.result is None or not dense.latency.ttft_s.p50:
        return dict.fromkeys(names)
    cost = pruning_cost(with_method(scenario, row["method"], {}, half.keep))
    share = (cost.selection_s + cost.unfused_s) / dense.latency.ttft_s.p50
    return dict(zip(names, (cost.selection_s, cost.unfused_s, share, half.result.savings.ttft), strict=True))


def findings(rows: list[Row]) -> list[str]:
    """The lowest break-even, its change with the batch size, and the method with the costliest selection."""
    said = []
    for model, batch in dict.fromkeys((row["model"], row["batch_size"]) for row in rows):
        batch_rows = [row for row in rows if (row["model"], row["batch_size"]) == (model, batch)]
        solved_rows = [row for row in batch_rows if row["kept_share"] is not None]
        never = [f"{row['method']} on {row['gpu']}" for row in batch_rows if "never" in row["note"]]
        if solved_rows:
            least, most = (pick(solved_rows, key=lambda row: row["kept_share"]) for pick in (min, max))
            text = (
                f"{model}, batch {batch}: pruning saves TTFT up to a kept share of "
                f"{percent(least['kept_share'])} ({least['method']} on {least['gpu']}) to "
                f"{percent(most['kept_share'])} ({most['method']} on {most['gpu']})"
            )
            said.append(text + (f"; never: {', '.join(never)}" if never else ""))
    for model in dict.fromkeys(row["model"] for row in rows):
        priced = [row for row in rows if row["model"] == model and row["paid_share_of_dense_ttft"] is not None]
        dear = max(priced, key=lambda row: row["paid_share_of_dense_ttft"])
        said.append(
            f"{model}: most paid for choosing half of the tokens is {percent(dear['paid_share_of_dense_ttft'])} of the "
            f"unpruned TTFT ({dear['method']}, {dear['gpu']}, batch {dear['batch_size']}); "
            f"TTFT changes by {-100 * dear['ttft_saved_at_half']:+.1f} %"
        )
    return said


def draw(rows: list[Row]) -> Figure:
    """Two heat maps, a panel a model and GPU: the break-even share, and the cost of selection at half the tokens."""
    places = list(dict.fromkeys((row["model"], row["gpu"]) for row in rows))
    batches, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("batch_size", "method"))
    figure, axes = panels(2, len(places), max(5.0, 1.95 * len(places) + 1.2), 2.4 + 0.4 * len(names), sharey=True)
    for line, (quantity, label, colors, form) in enumerate(
        (
            ("kept_share", "break-even: visual tokens kept (%)", "Blues", "{:.0f}"),
            ("paid_share_of_dense_ttft", "paid at half the tokens (% of unpruned TTFT)", "Oranges", "{:.1f}"),
        )
    ):
        highest = max([100 * row[quantity] for row in rows if row[quantity] is not None], default=1.0)
        for column, pair in enumerate(places):
            panel = axes[line][column]
            grid = [[float("nan")] * len(batches) for _ in names]
            for row in (row for row in rows if (row["model"], row["gpu"]) == pair):
                i, j = names.index(row["method"]), batches.index(row["batch_size"])
                value = None if row[quantity] is None else 100 * row[quantity]
                # A method that never saves breaks even at none kept; one that cannot run has no cell.
                if value is None and line == 0 and "never" in row["note"]:
                    grid[i][j], text = 0.0, "never"
                elif value is None:
                    text = "-"
                else:
                    grid[i][j], text = value, form.format(value)
                dark = value is not None and value > 0.6 * highest
                panel.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
            image = panel.imshow(grid, cmap=colors, vmin=0, vmax=highest, aspect="auto")
            panel.set_xticks(range(len(batches)), [str(batch) for batch in batches])
            panel.set_yticks(range(len(names)), names)
            panel.tick_params(labelsize=8, length=0)
            panel.set_title("\n".join(pair) if line == 0 else "", fontsize=9)
            panel.set_xlabel("batch size" if line == 1 else "", fontsize=9)
        bar = figure.colorbar(image, ax=list(axes[line]), shrink=0.8, pad=0.01)
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=8)
    title = "Where pruning stops to save time to first token, and what it pays (-: not for this model)"
    figure.suptitle(title, fontsize=10)
    return figure


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
