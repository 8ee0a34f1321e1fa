"""Costs of a scenario under its mixture of schedules: FLOPs, cache, memory and times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.operators.layout import DECODE, DECODE_SELECTION, PREFILL, PROJECTOR, SELECTION, VISION
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.workspace import FIRST_STEP_FLOPS, FIRST_STEP_TORCH_FLOPS, KV_FINAL_BYTES, KV_PREFILL_BYTES
from asymsim.estimator import result as report
from asymsim.estimator.flop_conventions import literature_flops
from asymsim.estimator.latency import latency
from asymsim.estimator.memory import memory
from asymsim.estimator.operator_table import OperatorTable, kv_bytes_per_token, operator_table
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.estimator.token_counts import RequestTokens


class Costs(NamedTuple):
    """What a scenario costs, before it is held against its unpruned twin."""

    flops: report.Flops
    kv_cache: report.KvCache
    memory: report.Memory
    latency: report.Latency
    seconds: Array


def scenario_table(bound: ResolvedScenario, arrays: ScheduleArrays, load: RequestTokens) -> OperatorTable:
    return operator_table(bound.model_arrays, arrays, load.token_counts(), bound.precision, bound.gpu_arrays)


def is_dense(arrays: ScheduleArrays) -> bool:
    return (
        len(arrays.lm_starts) <= 2
        and len(arrays.tower_starts) <= 2
        and len(arrays.steps) + len(arrays.operations) == 0
        and arrays.threshold < 0
        and bool((arrays.kv_rule["num"] == arrays.kv_rule["den"]).all())
        and not arrays.hold
    )


def costs_of(
    bound: ResolvedScenario, load: RequestTokens, tables: list[tuple[float, OperatorTable]], counting: str
) -> Costs:
    """Costs of the mixture: expectations over its schedules."""
    flops = literature_flops(counting, bound.model, load.batch_size, tables) or _counted(tables, counting)
    kv = report.KvCache(
        bytes_per_token=kv_bytes_per_token(bound.model, bound.precision.kv_bits),
        prefill_bytes=mean_figure(tables, lambda table: int(table.totals[KV_PREFILL_BYTES])),
        peak_bytes=mean_figure(
            tables,
            lambda table: max(int(table.totals[KV_PREFILL_BYTES]), int(table.totals[KV_FINAL_BYTES])),
        ),
    )
    return Costs(
        flops=flops,
        kv_cache=kv,
        memory=memory(bound.model, bound.gpu, bound.precision, load.batch_size, tables),
        latency=latency(tables, load.output_tokens),
        seconds=np.sum([share * table.seconds for share, table in tables], axis=0),
    )


def mean_figure(tables: list[tuple[float, OperatorTable]], figure: Callable[[OperatorTable], int]) -> int:
    """Expectation of a whole-number figure; exact where there is one schedule."""
    if len(tables) == 1:
        return figure(tables[0][1])
    return round(sum(share * figure(table) for share, table in tables))


def _counted(tables: list[tuple[float, OperatorTable]], counting: str) -> report.Flops:
    column = "torch_flops" if counting == "torch" else "flops"
    first = FIRST_STEP_TORCH_FLOPS if counting == "torch" else FIRST_STEP_FLOPS

    def phase(*codes: int) -> int:
        return mean_figure(tables, lambda table: sum(table.flops(code, column) for code in codes))

    counts = {
        "vision_tower": phase(VISION),
        "projector": phase(PROJECTOR),
        "selection": phase(SELECTION, DECODE_SELECTION),
        "prefill": phase(PREFILL),
        "decode": phase(DECODE),
    }
    return report.Flops(
        **counts,
        decode_step_first=mean_figure(tables, lambda table: int(table.totals[first])),
        total=sum(counts.values()),
    )
