"""What a scenario costs, how methods compare, what they save as the budget varies."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_scenario
from asymsim.cli.shared_flags import FormatFlag, OutFlag
from asymsim.cli.terminal import emit


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
    from asymsim.estimator import result
    from asymsim.estimator.estimate import estimate as predict
    from asymsim.reporting import estimate_view

    document = predict(parse_scenario(given), operators=operators).to_dict()
    rows = document.get("operators") or [result.flatten(document)]
    emit(document, rows, lambda: estimate_view.estimate_parts(document), format, out)
