"""Estimate of one scenario: the document of its costs, and of the savings of its schedule."""

from __future__ import annotations

import numpy as np

from asymsim.estimator.costs import costs_of, is_dense, scenario_table
from asymsim.estimator.countable import check_countable
from asymsim.estimator.flop_conventions import convention
from asymsim.estimator.operator_table import WeightedTables
from asymsim.estimator.resolve import ResolvedScenario, resolve
from asymsim.estimator.result import Estimate, Parameters, ScheduleCounts, WorkloadCounts
from asymsim.estimator.savings import savings, savings_interval
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.token_counts import RequestTokens, scenario_tokens
from asymsim.util.arguments import checked_arguments


@checked_arguments
def estimate(scenario: Scenario, *, operators: bool = False) -> Estimate:
    """Costs of a scenario and the savings of its schedule.

    Parameters
    ----------
    scenario : Scenario
    operators : bool
        Whether to list the operator rows; where the budget adapts to the sample, those of the likeliest schedule.

    Returns
    -------
    Estimate

    Raises
    ------
    AsymsimError
        If a name is unknown or a value out of range; the message names field, value and remedy.
    """
    convention(scenario.convention)
    resolved = resolve(scenario)
    counts = scenario_tokens(scenario, resolved.model)
    check_countable(resolved, counts)
    tables = [(share, scenario_table(resolved, schedule, counts)) for share, schedule in resolved.schedules]
    costs = costs_of(resolved, counts, tables, scenario.convention)
    dense = costs
    if len(resolved.schedules) > 1 or not is_dense(resolved.schedules[0][1]):
        dense_table = scenario_table(resolved, resolved.dense_schedule, counts)
        dense = costs_of(resolved, counts, [(1.0, dense_table)], scenario.convention)
    _, likeliest = max(tables, key=lambda weighted: weighted[0])
    return Estimate(
        model=resolved.model.name,
        gpu=resolved.gpu.name,
        convention=scenario.convention,
        workload=_workload_counts(resolved, counts),
        schedule=_schedule_counts(scenario, resolved, tables),
        parameters=Parameters(**resolved.model.parameters),
        flops=costs.flops,
        kv_cache=costs.kv_cache,
        memory=costs.memory,
        latency=costs.latency,
        savings=savings(costs[:4], dense[:4]),
        savings_interval=savings_interval(costs.seconds, dense.seconds, resolved.error_correlation),
        operators=likeliest.timed_records(resolved.gpu_arrays, resolved.precision.tp_size) if operators else None,
    )


def _workload_counts(resolved: ResolvedScenario, counts: RequestTokens) -> WorkloadCounts:
    return WorkloadCounts(
        num_images=counts.num_images,
        visual_tokens=counts.visual_tokens,
        text_tokens=counts.text_tokens,
        prompt_tokens=counts.visual_tokens * resolved.model_arrays.visual_in_sequence + counts.text_tokens,
        output_tokens=counts.output_tokens,
        batch_size=counts.batch_size,
    )


def _schedule_counts(scenario: Scenario, resolved: ResolvedScenario, tables: WeightedTables) -> ScheduleCounts:
    def by_layer(name: str) -> list[int] | list[float]:
        if len(tables) == 1:
            return list(getattr(tables[0][1], name).tolist())
        return list(np.sum([share * getattr(table, name) for share, table in tables], axis=0).tolist())

    visual_tokens = by_layer("visual")
    return ScheduleCounts(
        method=scenario.method if scenario.schedule is None else scenario.schedule,
        settings=resolved.settings,
        masking=resolved.masking,
        mean_visual_tokens=sum(visual_tokens) / len(visual_tokens),
        visual_tokens_by_layer=visual_tokens,
        text_tokens_by_layer=by_layer("text"),
        kv_tokens_by_layer=by_layer("kv"),
        final_kv_tokens_by_layer=by_layer("final_kv"),
    )
