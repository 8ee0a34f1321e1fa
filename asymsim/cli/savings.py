"""The command ``savings``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_names, parse_numbers, parse_scenario, parse_settings
from asymsim.cli.shared_flags import SETTINGS, FormatFlag
from asymsim.cli.terminal import emit, progress, say
from asymsim.reporting.savings_view import savings_parts


@flags.scenario_command(
    without=("method", "keep", "schedule"),
    texts={"settings": SETTINGS, "model": "Models joined by commas.", "gpu": "GPUs joined by commas."},
)
def savings(
    given: dict[str, Any],
    *,
    method: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    budgets: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Draw what methods save as the budget varies, on models and GPUs.

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

    models = parse_names(given.pop("model"), "model")
    gpus = parse_names(given.pop("gpu", "h100_sxm"), "gpu")
    settings = parse_settings(given.pop("settings", None) or ())
    first = parse_scenario(given, model=models[0], gpu=gpus[0])
    load = {name: getattr(first, name) for name in given}
    chosen = None if method is None else parse_names(method, "method")
    shares = comparison.BUDGETS if budgets is None else parse_numbers(budgets, "budgets")
    with progress("curves") as show:
        rows = comparison.savings_curves(models, gpus, chosen, shares, settings=settings, progress=show, **load)
    if out is not None:
        from asymsim.reporting.plots.savings import savings_figure
        from asymsim.reporting.tables import csv_text
        from asymsim.util.files import make_folder, write_file

        picture = savings_figure(rows)
        folder = make_folder(out)
        write_file(folder / "savings.csv", csv_text(rows))
        write_file(folder / "savings.png", picture)
        say(f"wrote {folder / 'savings.csv'} and {folder / 'savings.png'}")
    emit(rows, rows, lambda: savings_parts(rows), format, None)
