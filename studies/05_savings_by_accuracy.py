"""How much does pruning save at the accuracy that was measured for it?

    python studies/05_savings_by_accuracy.py [--accuracy OWN.csv] [--gpu GPU] [--out FOLDER]

Each published accuracy of a method at a budget of visual tokens stands beside what asymsim says that the method saves
at this budget on this model. Where the source gives no token count, the model's typical image is taken. A table of
your own (its columns stand in docs/studies.md) is drawn with the published points.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from output import Row, legend, look, panels, percent, plain, run

from asymsim.analysis.budget_search import solve_keep
from asymsim.catalogue.accuracy import Accuracy, published_accuracy, read_accuracy
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.methods.base import registered_methods as registry
from asymsim.util.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAVED = (("prefill_flops_saved", "prefill FLOPs saved (%)"), ("ttft_saved", "TTFT saved (%)"))
# What is set, so that our cost is that of the measured variant.
VARIANTS = {
    "": {},
    "masking": {"fastv.masking": True},
    "uniform budget": {"asymvlm.budget": "uniform"},
    "threshold budget": {"asymvlm.budget": "threshold"},
    "linear budget": {"asymvlm.budget": "linear"},
}
GOOD = 0.98
COLUMNS = 4


def rows(accuracy: str | None = None, gpu: str = "h100_sxm", published: Sequence[Accuracy] | None = None) -> list[Row]:
    """A row for each accuracy of a method that prunes visual tokens, where the unpruned accuracy is known."""
    entries = list(published_accuracy() if published is None else published)
    if accuracy is not None:
        entries += read_accuracy(accuracy)
    study_rows = []
    for entry in entries:
        if entry.meaning == "text" or entry.share_kept is None or entry.variant not in VARIANTS:
            continue
        if entry.method not in registry() or registry()[entry.method].family != "vision":
            continue
        scenario = Scenario(model=entry.model, gpu=gpu, visual_tokens=entry.visual_tokens)
        dense = estimate(scenario)
        # A masking method shortens nothing, so no `keep` meets a budget.
        match = "keep" if entry.variant == "masking" else "budget"
        (point,) = solve_keep(scenario, entry.method, VARIANTS[entry.variant], dense, (entry.budget,), match)
        if point.result is None:
            continue
        saved = point.result.savings
        study_rows.append(
            {
                "method": entry.method + (f" ({entry.variant})" if entry.variant else ""),
                "model": entry.model,
                "benchmark": entry.benchmark,
                "visual_tokens": dense.workload.visual_tokens,
                "gpu": gpu,
                "meaning": entry.meaning,
                "budget": entry.budget,
                "keep": point.keep,
                "accuracy_kept": entry.share_kept,
                "prefill_flops_saved": saved.prefill_flops,
                "flops_saved": saved.flops,
                "kv_saved": saved.kv_bytes,
                "ttft_saved": saved.ttft,
                "source": entry.source,
                "note": point.note,
            }
        )
    if not study_rows:
        raise InputError("accuracy", accuracy, "holds no method that prunes visual tokens, with an unpruned accuracy")
    return study_rows


def groups(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by model and benchmark, the pairs of most methods first, without budgets that our schedule cannot meet."""
    rows = [row for row in rows if "nearest" not in row["note"]]
    keys = dict.fromkeys((row["model"], row["benchmark"]) for row in rows)
    rows_by_pair = {key: [row for row in rows if (row["model"], row["benchmark"]) == key] for key in keys}
    return dict(sorted(rows_by_pair.items(), key=lambda item: -len({row["method"] for row in item[1]})))


def front(group: list[Row]) -> list[Row]:
    """The Pareto front of kept accuracy and saved time to first token."""
    return [
        row
        for row in group
        if not any(
            other["accuracy_kept"] >= row["accuracy_kept"]
            and other["ttft_saved"] >= row["ttft_saved"]
            and (other["accuracy_kept"], other["ttft_saved"]) != (row["accuracy_kept"], row["ttft_saved"])
            for other in group
        )
    ]


def findings(rows: list[Row]) -> list[str]:
    """The most time saved at good accuracy, and the methods on the Pareto front."""
    said = []
    for (model, benchmark), group in groups(rows).items():
        good = [row for row in group if row["accuracy_kept"] >= GOOD]
        name = f"{model}, {benchmark.split(',')[0]}"
        if good:
            best = max(good, key=lambda row: row["ttft_saved"])
            said.append(
                f"{name}: with at least {percent(GOOD)} of the accuracy, most TTFT saved is "
                f"{percent(best['ttft_saved'])}, {best['method']} at a budget of {percent(best['budget'])}; "
                f"on the front: {', '.join(dict.fromkeys(row['method'] for row in front(group)))}"
            )
        else:
            best = max(group, key=lambda row: row["accuracy_kept"])
            said.append(
                f"{name}: none keeps {percent(GOOD)}; most is {percent(best['accuracy_kept'])}, {best['method']}"
            )
    return said


def draw(rows: list[Row]) -> Figure:
    """A column a model and benchmark, the pairs of most methods; a row a saving, a curve a method."""
    shown = list(groups(rows).items())[:COLUMNS]
    drawn = [row for _, group in shown for row in group]
    names = sorted({row["method"] for row in drawn})
    figure, axes = panels(len(SAVED), len(shown), max(4.0, 2.6 * len(shown)), 6.6, sharex="col", sharey="row")
    for column, ((model, benchmark), group) in enumerate(shown):
        for line, (quantity, label) in enumerate(SAVED):
            panel = axes[line][column]
            for index, name in enumerate(names):
                # Joined in the order of the budget: accuracy need not rise with it.
                ordered = sorted((row for row in group if row["method"] == name), key=lambda row: row["budget"])
                points = [(100 * row["accuracy_kept"], 100 * row[quantity]) for row in ordered]
                if points:
                    panel.plot(*zip(*points, strict=True), label=name, **look(index) | {"markersize": 4.5})
            panel.axhline(0, color="0.6", linewidth=0.8, zorder=0)
            panel.axvline(100, color="0.6", linewidth=0.8, zorder=0)
            title = f"{model}\n{benchmark.split(',')[0]}" if line == 0 else ""
            below = "accuracy kept (%)" if line == len(SAVED) - 1 else ""
            plain(panel, title, below, label if column == 0 else "")
    legend(figure, list(axes[0]), 5)
    figure.suptitle(f"Savings of pruning on {drawn[0]['gpu']}, against the measured accuracy", fontsize=10)
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Options: the GPU, and a table of the user's measurements."""
    parser.add_argument("--accuracy", metavar="CSV", help="accuracy that you measured")
    parser.add_argument("--gpu", default="h100_sxm")


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings, options=options))
