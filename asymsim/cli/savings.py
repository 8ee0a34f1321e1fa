"""The command ``savings``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_names, parse_numbers, parse_scenario, parse_settings
from asymsim.cli.shared_flags import SETTINGS, FormatFlag, write_folder
from asymsim.cli.terminal import emit, progress
from asymsim.reporting.savings_view import savings_parts


@flags.scenario_command(
    without=("method", "keep", "schedule"),
    texts={"settings": SETTINGS, "model": "Models joined by commas.", "gpu": "GPUs joined by commas."},
)
def savings(
    scenario_values: dict[str, Any],
    *,
    method: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    budgets: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Draw the savings of methods against the budget, on models and GPUs.

    Parameters
    ----------
    method
        Methods joined by commas; all that prune visual tokens by default.
    budgets
        Mean shares of visual tokens joined by commas; by default 0.1 to 1 in steps of 0.1.
    out
        Folder for savings.csv and savings.png.
    """
    from asymsim.analysis import comparison

    models = parse_names(scenario_values.pop("model"), "model")
    gpus = parse_names(scenario_values.pop("gpu", "h100_sxm"), "gpu")
    settings = parse_settings(scenario_values.pop("settings", None) or ())
    first = parse_scenario(scenario_values, model=models[0], gpu=gpus[0])
    shared = {name: getattr(first, name) for name in scenario_values}
    methods = None if method is None else parse_names(method, "method")
    budget_shares = comparison.BUDGETS if budgets is None else parse_numbers(budgets, "budgets")
    with progress("curves") as report_progress:
        rows = comparison.savings_curves(
            models, gpus, methods, budget_shares, settings=settings, progress=report_progress, **shared
        )
    if out is not None:
        from asymsim.reporting.plots.savings import savings_figure
        from asymsim.reporting.tables import csv_text

        write_folder(out, {"savings.csv": csv_text(rows), "savings.png": savings_figure(rows)})
    emit(rows, rows, lambda: savings_parts(rows), format, None)
