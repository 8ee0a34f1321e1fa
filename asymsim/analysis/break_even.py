"""Break-even of a pruning method: the largest kept share at which it saves time, and the cost of pruning beyond it.

Pruning costs selection, and where it reads attention weights, the fused kernel of a layer; the work that it
saves falls in steps of whole tiles and waves. So the time saved is no monotone function of the kept share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from asymsim.analysis.budget_search import GRID, Ladder, family_of
from asymsim.core.operators.layout import DECODE, KIND_NAMES, PHASE_NAMES, UNFUSED_ATTENTION
from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario, unpruned
from asymsim.util.errors import InputError, UnsupportedError

# Evaluations on the way down from the largest keep, before the crossing is bisected.
STEPS = 40


@dataclasses.dataclass(frozen=True)
class BreakEven:
    """The largest ``keep`` at which a method saves time, and the share of visual tokens (cache) that it keeps.

    Both are None where it saves nothing at any ``keep``, or cannot run; ``note`` says which.
    """

    keep: float | None
    kept_share: float | None
    note: str


def break_even(
    scenario: Scenario, name: str, settings: Mapping[str, Any], dense: Estimate, figure: str = "ttft"
) -> BreakEven:
    """Find the largest ``keep`` that saves time to first token.

    Parameters
    ----------
    scenario : Scenario
        Model, GPU and token counts; its method plays no part.
    name : str
        A method, or two joined by "+".
    settings : mapping
        As for `asymsim.analysis.comparison.compare`.
    dense : Estimate
        Estimate of the scenario unpruned.
    figure : str
        Any time of ``estimator.result.Savings``: ttft, tpot or e2e.
    """
    if family_of(name) == "vision" and dense.workload.visual_tokens == 0:
        return BreakEven(None, None, "not for this load: it has no visual tokens")
    try:
        ladder = Ladder(scenario, name, settings, dense)
    except UnsupportedError as error:
        return BreakEven(None, None, f"not for this model: {error.remedy}")
    except InputError as error:
        if any(key.split(".")[0] in name.split("+") for key in settings):
            raise
        return BreakEven(None, None, f"not here: {error}")

    def saves(step: int) -> bool:
        return (getattr(ladder.at(step).savings, figure) or 0.0) > 0.0

    losing = ladder.high + 1
    for step in np.linspace(ladder.high, ladder.low, STEPS).round().astype(int).tolist():
        if saves(step):
            break
        losing = step
    else:
        return BreakEven(None, None, f"never saves {figure.upper()}")
    saving = step
    while losing - saving > 1 and losing <= ladder.high:
        middle = (saving + losing) // 2
        if saves(middle):
            saving = middle
        else:
            losing = middle
    return BreakEven(saving / GRID, ladder.kept(saving), "")


def break_even_table(
    scenario: Scenario,
    names: Sequence[str],
    gpus: Sequence[str],
    batch_sizes: Sequence[int],
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """The break-even ``keep`` of each method on each GPU at each batch size, a row for each combination."""
    rows = []
    cells = [(gpu, batch, name) for gpu in gpus for batch in batch_sizes for name in names]
    for done, (gpu, batch, name) in enumerate(cells):
        if progress:
            progress(done, len(cells))
        cell = dataclasses.replace(scenario, gpu=gpu, batch_size=batch)
        dense = estimate(unpruned(cell))
        point = break_even(cell, name, settings, dense)
        rows.append(
            {
                "model": dense.model,
                "gpu": dense.gpu,
                "batch_size": batch,
                "method": name,
                "break_even_keep": point.keep,
                "kept_share": point.kept_share,
                "source": dense.latency.ttft_s.source,
                "note": point.note,
            }
        )
    if progress:
        progress(len(cells), len(cells))
    return rows


@dataclasses.dataclass(frozen=True)
class PruningCost:
    """Seconds that a method adds before the first token: its own operators, and layers without fused attention."""

    selection_s: float
    unfused_s: float


def pruning_cost(scenario: Scenario) -> PruningCost:
    """Seconds that a method adds before the first token; those of the likeliest schedule where the budget adapts."""
    result = estimate(scenario, operators=True)
    stored = sum(
        row["seconds"]
        for row in result.operators or ()
        if row["kind"] == KIND_NAMES[UNFUSED_ATTENTION] and row["phase"] != PHASE_NAMES[DECODE]
    )
    return PruningCost(result.latency.selection_s.p50 or 0.0, stored)
