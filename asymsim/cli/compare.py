"""The command ``compare``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_names, parse_scenario, parse_settings, parse_whole_numbers
from asymsim.cli.shared_flags import SETTINGS, FormatFlag, OutFlag
from asymsim.cli.terminal import emit, progress
from asymsim.reporting.comparison_view import break_even_parts, comparison_parts


@flags.scenario_command(
    without=("method", "keep", "schedule"),
    texts={"settings": SETTINGS, "gpu": "A catalogue name, or several joined by commas with --break-even."},
)
def compare(
    scenario_values: dict[str, Any],
    *,
    methods: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    budget: Annotated[float, Parameter(group=flags.COMPARISON)] = 0.5,
    match: Annotated[Literal["budget", "keep"], Parameter(group=flags.COMPARISON)] = "budget",
    break_even: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """Compare pruning methods side by side at one budget.

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
        Batch sizes joined by commas. For each batch size and GPU: the largest keep at which a method still saves
        time to first token.
    """
    from asymsim.analysis import comparison

    names = None if methods is None else parse_names(methods, "methods")
    settings = parse_settings(scenario_values.pop("settings", None) or ())
    if break_even is not None:
        _break_even(scenario_values, names, settings, break_even, format, out)
        return
    rows = comparison.compare(parse_scenario(scenario_values), names, budget=budget, match=match, settings=settings)
    emit(rows, rows, lambda: comparison_parts(rows, budget, match), format, out)


def _break_even(
    scenario_values: dict[str, Any],
    names: list[str] | None,
    settings: dict[str, Any],
    batches: str,
    format: FormatFlag,
    out: OutFlag,
) -> None:
    from asymsim.analysis import break_even, comparison

    gpus = parse_names(scenario_values.pop("gpu", "h100_sxm"), "gpu")
    sizes = parse_whole_numbers(batches, "break_even")
    scenario = parse_scenario(scenario_values, gpu=gpus[0], batch_size=max(sizes))
    methods = comparison.check_methods(names, (), settings)
    with progress("methods") as report_progress:
        rows = break_even.break_even_table(scenario, methods, gpus, sizes, settings, report_progress)
    emit(rows, rows, lambda: break_even_parts(rows), format, out)
