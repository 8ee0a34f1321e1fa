"""One full estimate, and many: counts, memory and time of scenarios of one model, GPU and schedule."""

from __future__ import annotations

import numpy as np

from asymsim.core.activations import activation_bytes
from asymsim.core.arrays import Array
from asymsim.core.borrow import borrow_gpu, borrow_model, borrow_schedule, borrow_workspace
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

# Columns of the integer and the floating-point results of a sweep.
COUNT_COLUMNS = (
    "vision_tower_flops",
    "projector_flops",
    "selection_flops",
    "prefill_flops",
    "decode_flops",
    "decode_step_first_flops",
    "kv_prefill_bytes",
    "kv_peak_bytes",
    "kv_cache_bytes",
    "activation_bytes",
)
_IN_VISION, _IN_SELECTION, _IN_PREFILL, _IN_DECODE, _IN_TTFT, _IN_E2E = map(np.array, SPAN_PHASES.values())
# Each with its 5 % quantile, median and 95 % quantile.
TIME_COLUMNS = tuple(f"{span}{end}" for span in SPAN_PHASES for end in ("_p05", "", "_p95"))


@kernel
def evaluate_rows(
    owned_model: ModelArrays,
    owned_schedule: ScheduleArrays,
    loads: Array,
    precision: Precision,
    owned_gpu: GpuArrays,
    owned_work: Workspace,
    counts: Array,
    times: Array,
) -> int:
    """Evaluate every row of ``loads`` (rows, 10; the fields of ``Load``) into ``counts`` and ``times``.

    ``counts`` has a column for each of ``COUNT_COLUMNS``, ``times`` for each of ``TIME_COLUMNS``.

    Returns the number of operator rows of the last scenario, whose table is left in ``work``: the one
    compiled entry point serves a single estimate and a sweep alike.
    """
    model, schedule, work = borrow_model(owned_model), borrow_schedule(owned_schedule), borrow_workspace(owned_work)
    gpu = borrow_gpu(owned_gpu)
    seconds, sources, phase_flops, rows = work.seconds, work.sources, work.phase_flops, 0
    if work.stamp[0] != gpu.stamp or work.stamp[1] != precision.tp_size:
        work.stamp[0], work.stamp[1] = gpu.stamp, precision.tp_size
        work.memo["m"][:] = 0
        work.last[:] = -1
    for index in range(len(loads)):
        given = loads[index]
        token_counts = TokenCounts(
            given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7], given[8], given[9]
        )
        rows = build_operator_table(model, schedule, token_counts, precision, work)
        work.totals[ACTIVATION_BYTES] = activation_bytes(model, schedule, token_counts, precision, work)
        phase_flops[:] = 0
        seconds[:] = 0.0
        sources[:] = MEASURED
        for operator in range(rows):
            row = work.operators[operator]
            phase = row["phase"]
            phase_flops[phase] += row["flops"]
            timed, known = work.last_s[operator], work.last_codes[operator]
            if not same_as_before(work.words[operator], work.last[operator]):
                timed[0], timed[1], timed[2], known[0], known[1] = row_time(row, gpu, precision.tp_size, work.memo)
            of = known[0]
            seconds[phase, of, 0] += timed[0]
            seconds[phase, of, 1] += timed[1]
            seconds[phase, of, 2] += timed[2]
            sources[phase] = min(sources[phase], known[1])
        if gpu.host_s > 0.0:
            add_host(seconds, sources, PREFILL, 1, gpu)
            add_host(seconds, sources, DECODE, token_counts.output_tokens - 1, gpu)
        counts[index, 0] = phase_flops[VISION]
        counts[index, 1] = phase_flops[PROJECTOR]
        counts[index, 2] = phase_flops[SELECTION] + phase_flops[DECODE_SELECTION]
        counts[index, 3] = phase_flops[PREFILL]
        counts[index, 4] = phase_flops[DECODE]
        counts[index, 5] = work.totals[FIRST_STEP_FLOPS]
        counts[index, 6] = work.totals[KV_PREFILL_BYTES]
        counts[index, 7] = work.totals[KV_FINAL_BYTES]
        counts[index, 8] = work.totals[KV_PAGED_BYTES]
        counts[index, 9] = work.totals[ACTIVATION_BYTES]
        joint_interval(seconds, _IN_VISION, times[index, 0:3])
        joint_interval(seconds, _IN_SELECTION, times[index, 3:6])
        joint_interval(seconds, _IN_PREFILL, times[index, 6:9])
        joint_interval(seconds, _IN_DECODE, times[index, 9:12])
        joint_interval(seconds, _IN_TTFT, times[index, 12:15])
        joint_interval(seconds, _IN_E2E, times[index, 15:18])
    return rows


@kernel
def same_as_before(words: Array, last: Array) -> bool:
    """Whether a row has the words of the one in its place before; ``last`` takes over those from where they differ.

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
    """What the serving engine's host adds to each of a phase's steps."""
    if steps > 0:
        seconds[phase, HOST_TIME, 0] += steps * gpu.host_p05
        seconds[phase, HOST_TIME, 1] += steps * gpu.host_s
        seconds[phase, HOST_TIME, 2] += steps * gpu.host_p95
        sources[phase] = min(sources[phase], FITTED)
