"""What a scenario costs, how methods compare, what they save as the budget varies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from asymsim import flags
from asymsim.commands.shared import SETTINGS, FormatFlag, OutFlag
from asymsim.terminal import emit, progress, say


@flags.scenario_command()
def estimate(
    given: dict[str, Any],
    *,
    operators: Annotated[bool, Parameter(group=flags.OUTPUT, negative="")] = False,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """Predict what one scenario costs, phase by phase, and what its schedule saves.

    Parameters
    ----------
    operators
        List every operator with its shape, FLOPs and bytes; with csv, these rows alone.
    """
    from asymsim import report, views
    from asymsim.estimation import estimate as predict

    document = predict(flags.scenario(given), operators=operators).to_dict()
    rows = document.get("operators") or [report.flatten(document)]
    emit(document, rows, lambda: views.estimate_parts(document), format, out)


@flags.scenario_command(
    without=("method", "keep", "schedule"),
    texts={"settings": SETTINGS, "gpu": "A catalogue name, or several joined by commas with --break-even."},
)
def compare(
    given: dict[str, Any],
    *,
    methods: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    budget: Annotated[float, Parameter(group=flags.COMPARISON)] = 0.5,
    match: Annotated[Literal["budget", "keep"], Parameter(group=flags.COMPARISON)] = "budget",
    break_even: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """Set pruning methods side by side at one budget.

    Parameters
    ----------
    methods
        Methods joined by commas; all that prune visual tokens by default.
    budget
        Share of visual tokens that the mean language-model layer sees, in [0, 1]; for KV methods, of
        the cache after prefill.
    match
        "budget" solves each method's keep for the budget; "keep" gives each method the same keep.
    break_even
        Batch sizes joined by commas: the largest keep at which each method still saves time to first token,
        at each of them and on each GPU.
    """
    from asymsim import comparison, views

    chosen = None if methods is None else flags.names(methods, "methods")
    settings = flags.settings(given.pop("settings", None) or ())
    if break_even is not None:
        _break_even(given, chosen, settings, break_even, format, out)
        return
    rows = comparison.compare(flags.scenario(given), chosen, budget=budget, match=match, settings=settings)
    emit(rows, rows, lambda: views.comparison_parts(rows, budget, match), format, out)


def _break_even(
    given: dict[str, Any],
    chosen: list[str] | None,
    settings: dict[str, Any],
    batches: str,
    format: FormatFlag,
    out: OutFlag,
) -> None:
    from asymsim import breakeven, comparison, views

    gpus = flags.names(given.pop("gpu", "h100_sxm"), "gpu")
    sizes = flags.whole_numbers(batches, "break_even")
    scenario = flags.scenario(given, gpu=gpus[0], batch_size=max(sizes))
    names = comparison.checked(chosen, (), settings)
    with progress("methods") as show:
        rows = breakeven.break_evens(scenario, names, gpus, sizes, settings, show)
    emit(rows, rows, lambda: views.break_even_parts(rows), format, out)


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
    from asymsim import comparison, views

    models = flags.names(given.pop("model"), "model")
    gpus = flags.names(given.pop("gpu", "h100_sxm"), "gpu")
    settings = flags.settings(given.pop("settings", None) or ())
    first = flags.scenario(given, model=models[0], gpu=gpus[0])
    load = {name: getattr(first, name) for name in given}
    chosen = None if method is None else flags.names(method, "method")
    shares = comparison.BUDGETS if budgets is None else flags.numbers(budgets, "budgets")
    with progress("curves") as show:
        rows = comparison.savings_curves(models, gpus, chosen, shares, settings=settings, progress=show, **load)
    if out is not None:
        from asymsim.files import make_folder, write_file
        from asymsim.plots import savings_figure
        from asymsim.tables import csv_text

        picture = savings_figure(rows)
        folder = make_folder(out)
        write_file(folder / "savings.csv", csv_text(rows))
        write_file(folder / "savings.png", picture)
        say(f"wrote {folder / 'savings.csv'} and {folder / 'savings.png'}")
    emit(rows, rows, lambda: views.savings_parts(rows), format, None)


def reproduce(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """Recompute the tables that papers published, and show how far off they are."""
    from asymsim import views
    from asymsim.reproduce import rows as published

    rows = published()
    emit(rows, rows, lambda: views.reproduction_parts(rows), format, out)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        statuses = [row["status"] for row in rows if row["kind"] == kind]
        others = "".join(f", {statuses.count(each)} {each}" for each in sorted({*statuses} - {"reproduced"}))
        say(f"{kind}: {statuses.count('reproduced')} of {len(statuses)} published figures reproduced{others}")
