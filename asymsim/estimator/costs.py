"""Costs of a scenario under its mixture of schedules: FLOPs, cache, memory and times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.operators.layout import DECODE, DECODE_SELECTION, PREFILL, PROJECTOR, SELECTION, VISION
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.workspace import FIRST_STEP_FLOPS, FIRST_STEP_TORCH_FLOPS, KV_FINAL_BYTES, KV_PREFILL_BYTES
from asymsim.estimator.flop_conventions import literature_flops
from asymsim.estimator.latency import latency
from asymsim.estimator.memory import memory
from asymsim.estimator.operator_table import OperatorTable, WeightedTables, kv_bytes_per_token, operator_table
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.estimator.result import Flops, KvCache, Latency, Memory
from asymsim.estimator.token_counts import RequestTokens


class Costs(NamedTuple):
    """Costs of a scenario under one mixture of schedules.

    ``seconds`` (phases, classes, 3) are times by phase and operator class: 5 %, median and 95 %.
    """

    flops: Flops
    kv_cache: KvCache
    memory: Memory
    latency: Latency
    seconds: Array


def scenario_table(resolved: ResolvedScenario, schedule: ScheduleArrays, counts: RequestTokens) -> OperatorTable:
    """Operator table of a scenario under one schedule."""
    return operator_table(
        resolved.model_arrays, schedule, counts.token_counts(), resolved.precision, resolved.gpu_arrays
    )


def is_dense(schedule: ScheduleArrays) -> bool:
    """Whether a schedule leaves the model as it is, so that its costs are the dense baseline's."""
    return (
        len(schedule.lm_starts) <= 2
        and len(schedule.tower_starts) <= 2
        and len(schedule.pruning_steps) + len(schedule.operations) == 0
        and schedule.eviction_threshold_tokens < 0
        and bool((schedule.kv_rule["num"] == schedule.kv_rule["den"]).all())
        and not schedule.budget_in_decoding
    )


def costs_of(resolved: ResolvedScenario, counts: RequestTokens, tables: WeightedTables, convention: str) -> Costs:
    """Costs under a mixture of schedules: expectations over their operator tables."""
    flops = literature_flops(convention, resolved.model, counts.batch_size, tables)
    return Costs(
        flops=flops or _counted_flops(tables, convention),
        kv_cache=KvCache(
            bytes_per_token=kv_bytes_per_token(resolved.model, resolved.precision.kv_bits),
            prefill_bytes=mean_count(tables, lambda table: int(table.totals[KV_PREFILL_BYTES])),
            peak_bytes=mean_count(
                tables,
                lambda table: max(int(table.totals[KV_PREFILL_BYTES]), int(table.totals[KV_FINAL_BYTES])),
            ),
        ),
        memory=memory(resolved.model, resolved.gpu, resolved.precision, counts.batch_size, tables),
        latency=latency(tables, counts.output_tokens),
        seconds=np.sum([share * table.seconds for share, table in tables], axis=0),
    )


def mean_count(tables: WeightedTables, count: Callable[[OperatorTable], int]) -> int:
    """Expectation of a whole number over the tables; exact where there is one table."""
    if len(tables) == 1:
        return count(tables[0][1])
    return round(sum(share * count(table) for share, table in tables))


def _counted_flops(tables: WeightedTables, convention: str) -> Flops:
    """FLOPs summed over the rows of the operator tables: ``exact``, or as ``torch`` counts them."""
    column = "torch_flops" if convention == "torch" else "flops"
    first_step = FIRST_STEP_TORCH_FLOPS if convention == "torch" else FIRST_STEP_FLOPS

    def phase_flops(*phases: int) -> int:
        return mean_count(tables, lambda table: sum(table.flops(phase, column) for phase in phases))

    by_phase = {
        "vision_tower": phase_flops(VISION),
        "projector": phase_flops(PROJECTOR),
        "selection": phase_flops(SELECTION, DECODE_SELECTION),
        "prefill": phase_flops(PREFILL),
        "decode": phase_flops(DECODE),
    }
    return Flops(
        **by_phase,
        decode_step_first=mean_count(tables, lambda table: int(table.totals[first_step])),
        total=sum(by_phase.values()),
    )
