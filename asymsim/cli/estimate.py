"""The command ``estimate``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_scenario
from asymsim.cli.shared_flags import FormatFlag, OutFlag
from asymsim.cli.terminal import emit


@flags.scenario_command()
def estimate(
    scenario_values: dict[str, Any],
    *,
    operators: Annotated[bool, Parameter(group=flags.OUTPUT, negative="")] = False,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """Predict the cost of one scenario, phase by phase, and the savings of its schedule.

    Parameters
    ----------
    operators
        List every operator with its shape, FLOPs and bytes; with csv, these rows alone.
    """
    from asymsim.estimator import estimate as estimator
    from asymsim.estimator import result
    from asymsim.reporting import estimate_view

    document = estimator.estimate(parse_scenario(scenario_values), operators=operators).to_dict()
    rows = document.get("operators") or [result.flatten(document)]
    emit(document, rows, lambda: estimate_view.estimate_parts(document), format, out)
