"""Counts, memory and times of one scenario or many, of one model, GPU and schedule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.activations import activation_bytes
from asymsim.core.arrays import Array
from asymsim.core.borrow import borrow
from asymsim.core.fields import read_fields, write_fields
from asymsim.core.jit import kernel
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.layout import (
    DECODE,
    DECODE_SELECTION,
    PREFILL,
    PROJECTOR,
    SELECTION,
    SPAN_PHASES,
    VISION,
)
from asymsim.core.operators.table import build_operator_table
from asymsim.core.schedule_arrays import (
    ScheduleArrays,
)
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import FITTED, HOST_TIME, MEASURED
from asymsim.core.times.row_time import joint_interval, row_time
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import (
    ACTIVATION_BYTES,
    FIRST_STEP_FLOPS,
    KV_FINAL_BYTES,
    KV_PAGED_BYTES,
    KV_PREFILL_BYTES,
    Workspace,
)


class ScenarioCounts(NamedTuple):
    """Integer results of one scenario, the integer columns of a sweep."""

    vision_tower_flops: int
    projector_flops: int
    selection_flops: int
    prefill_flops: int
    decode_flops: int
    decode_step_first_flops: int
    kv_prefill_bytes: int
    kv_peak_bytes: int
    kv_cache_bytes: int
    activation_bytes: int


COUNT_COLUMNS = ScenarioCounts._fields
_PHASES_OF_SPANS = tuple(np.array(phases) for phases in SPAN_PHASES.values())
# Each reported time with its 5 % quantile, median and 95 % quantile.
TIME_COLUMNS = tuple(f"{span}{end}" for span in SPAN_PHASES for end in ("_p05", "", "_p95"))


@kernel
def evaluate_rows(
    owned_model: ModelArrays,
    owned_schedule: ScheduleArrays,
    token_counts: Array,
    precision: Precision,
    owned_gpu: GpuArrays,
    owned_work: Workspace,
    counts: Array,
    times: Array,
) -> int:
    """Evaluate every row of ``token_counts`` (rows; the fields of ``TokenCounts``) into ``counts`` and ``times``.

    ``counts`` has a column for each of ``COUNT_COLUMNS``, ``times`` for each of ``TIME_COLUMNS``.

    Returns the number of operator rows of the last scenario, whose table is left in ``work``: the one
    compiled entry point serves a single estimate and a sweep alike.
    """
    model, schedule, work = borrow(owned_model), borrow(owned_schedule), borrow(owned_work)
    gpu = borrow(owned_gpu)
    seconds, sources, phase_flops, rows = work.seconds, work.sources, work.phase_flops, 0
    if work.stamp[0] != gpu.stamp or work.stamp[1] != precision.tp_size:
        work.stamp[0], work.stamp[1] = gpu.stamp, precision.tp_size
        work.memo["m"][:] = 0
        work.last[:] = -1
    for index in range(len(token_counts)):
        scenario = read_fields(TokenCounts, token_counts[index])
        rows = build_operator_table(model, schedule, scenario, precision, work)
        work.totals[ACTIVATION_BYTES] = activation_bytes(model, schedule, scenario, precision, work)
        phase_flops[:] = 0
        seconds[:] = 0.0
        sources[:] = MEASURED
        for operator in range(rows):
            row = work.operators[operator]
            phase = row["phase"]
            phase_flops[phase] += row["flops"]
            row_s, row_codes = work.last_s[operator], work.last_codes[operator]
            if not same_as_before(work.words[operator], work.last[operator]):
                row_s[0], row_s[1], row_s[2], row_codes[0], row_codes[1] = row_time(
                    row, gpu, precision.tp_size, work.memo
                )
            operator_class, source = row_codes[0], row_codes[1]
            seconds[phase, operator_class, 0] += row_s[0]
            seconds[phase, operator_class, 1] += row_s[1]
            seconds[phase, operator_class, 2] += row_s[2]
            sources[phase] = min(sources[phase], source)
        if gpu.host_s > 0.0:
            add_host(seconds, sources, PREFILL, 1, gpu)
            add_host(seconds, sources, DECODE, scenario.output_tokens - 1, gpu)
        write_fields(
            counts[index],
            ScenarioCounts(
                vision_tower_flops=phase_flops[VISION],
                projector_flops=phase_flops[PROJECTOR],
                selection_flops=phase_flops[SELECTION] + phase_flops[DECODE_SELECTION],
                prefill_flops=phase_flops[PREFILL],
                decode_flops=phase_flops[DECODE],
                decode_step_first_flops=work.totals[FIRST_STEP_FLOPS],
                kv_prefill_bytes=work.totals[KV_PREFILL_BYTES],
                kv_peak_bytes=work.totals[KV_FINAL_BYTES],
                kv_cache_bytes=work.totals[KV_PAGED_BYTES],
                activation_bytes=work.totals[ACTIVATION_BYTES],
            ),
        )
        for span in range(len(_PHASES_OF_SPANS)):
            joint_interval(seconds, _PHASES_OF_SPANS[span], times[index, 3 * span : 3 * span + 3])
    return rows


@kernel
def same_as_before(words: Array, last: Array) -> bool:
    """Whether a row has the words of the row in its place before; ``last`` takes them over from where they differ.

    In a sweep most rows repeat: as outputs grow, prefill does not change.
    """
    index, number = 0, len(words)
    while index < number and words[index] == last[index]:
        index += 1
    if index == number:
        return True
    while index < number:
        last[index] = words[index]
        index += 1
    return False


@kernel
def add_host(seconds: Array, sources: Array, phase: int, steps: int, gpu: GpuArrays) -> None:
    """Add the host's time of each of a phase's steps."""
    if steps > 0:
        seconds[phase, HOST_TIME, 0] += steps * gpu.host_p05
        seconds[phase, HOST_TIME, 1] += steps * gpu.host_s
        seconds[phase, HOST_TIME, 2] += steps * gpu.host_p95
        sources[phase] = min(sources[phase], FITTED)
