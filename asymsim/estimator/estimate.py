"""Scenario -> Estimate: the one entry that all else calls."""

from __future__ import annotations

import numpy as np

from asymsim.estimator import result as report
from asymsim.estimator.costs import costs_of, is_dense, scenario_table
from asymsim.estimator.countable import check_countable
from asymsim.estimator.flop_conventions import convention
from asymsim.estimator.operator_table import OperatorTable
from asymsim.estimator.resolve import ResolvedScenario, resolve
from asymsim.estimator.savings import savings, savings_interval
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.token_counts import scenario_tokens


def estimate(scenario: Scenario, *, operators: bool = False) -> report.Estimate:
    """Predict what a scenario costs and what its schedule saves.

    Parameters
    ----------
    scenario : Scenario
    operators : bool
        Whether to list the operator rows; of the likeliest schedule where the budget adapts.

    Returns
    -------
    Estimate

    Raises
    ------
    AsymsimError
        If a name is unknown or a value out of range; the message names field, value and remedy.
    """
    convention(scenario.convention)
    bound = resolve(scenario)
    load = scenario_tokens(scenario, bound.model)
    check_countable(bound, load)
    tables = [(share, scenario_table(bound, arrays, load)) for share, arrays in bound.schedules]
    costs = costs_of(bound, load, tables, scenario.convention)
    dense = costs
    if not (len(bound.schedules) == 1 and is_dense(bound.schedules[0][1])):
        dense = costs_of(bound, load, [(1.0, scenario_table(bound, bound.dense_schedule, load))], scenario.convention)
    likeliest = max(tables, key=lambda each: each[0])[1]
    rows = likeliest.timed_records(bound.gpu_arrays, bound.precision.tp_size) if operators else None
    return report.Estimate(
        model=bound.model.name,
        gpu=bound.gpu.name,
        convention=scenario.convention,
        workload=report.WorkloadCounts(
            num_images=load.num_images,
            visual_tokens=load.visual_tokens,
            text_tokens=load.text_tokens,
            prompt_tokens=load.visual_tokens * bound.model_arrays.visual_in_sequence + load.text_tokens,
            output_tokens=load.output_tokens,
            batch_size=load.batch_size,
        ),
        schedule=_schedule_counts(scenario, bound, tables),
        parameters=report.Parameters(**bound.model.parameters),
        flops=costs.flops,
        kv_cache=costs.kv_cache,
        memory=costs.memory,
        latency=costs.latency,
        savings=savings(costs[:4], dense[:4]),
        savings_interval=savings_interval(costs.seconds, dense.seconds, bound.error_correlation),
        operators=rows,
    )


def _schedule_counts(
    scenario: Scenario, bound: ResolvedScenario, tables: list[tuple[float, OperatorTable]]
) -> report.ScheduleCounts:
    def by_layer(name: str) -> list[int] | list[float]:
        if len(tables) == 1:
            return list(getattr(tables[0][1], name).tolist())
        return list(np.sum([share * getattr(table, name) for share, table in tables], axis=0).tolist())

    visual = by_layer("visual")
    return report.ScheduleCounts(
        method=scenario.method if scenario.schedule is None else scenario.schedule,
        settings=bound.settings,
        masking=bound.masking,
        mean_visual_tokens=sum(visual) / len(visual),
        visual_tokens_by_layer=visual,
        text_tokens_by_layer=by_layer("text"),
        kv_tokens_by_layer=by_layer("kv"),
        final_kv_tokens_by_layer=by_layer("final_kv"),
    )
