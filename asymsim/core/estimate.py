"""One full estimate, and many: counts, memory and time of scenarios of one model, GPU and schedule."""

from __future__ import annotations

import numpy as np

from asymsim.core.jit import kernel
from asymsim.core.latency import phase_seconds
from asymsim.core.layout import (
    ACTIVATION_BYTES,
    DECODE,
    DECODE_SELECTION,
    FIRST_STEP_FLOPS,
    KV_FINAL_BYTES,
    KV_PAGED_BYTES,
    KV_PREFILL_BYTES,
    OPERATOR,
    PREFILL,
    PROJECTOR,
    SELECTION,
    TOTALS,
    VISION,
    Array,
    GpuArrays,
    Load,
    ModelArrays,
    Precision,
    ScheduleArrays,
    Workspace,
)
from asymsim.core.memory import activation_bytes
from asymsim.core.operators import build

# Columns of the integer and the floating-point results of a sweep.
COUNTS = (
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
TIMES = ("vision_s", "selection_s", "prefill_s", "decode_s")


@kernel
def evaluate(
    model: ModelArrays,
    schedule: ScheduleArrays,
    load: Load,
    precision: Precision,
    gpu: GpuArrays,
    work: Workspace,
    seconds: Array,
) -> int:
    """Fill ``work`` and ``seconds`` (6 phases) for one scenario; returns the number of operator rows."""
    rows = build(model, schedule, load, precision, work)
    work.totals[ACTIVATION_BYTES] = activation_bytes(model, schedule, load, precision, work)
    phase_seconds(work.operators, rows, gpu, precision.tp_size, seconds)
    return rows


@kernel
def evaluate_rows(
    model: ModelArrays,
    schedule: ScheduleArrays,
    loads: Array,
    precision: Precision,
    gpu: GpuArrays,
    work: Workspace,
    counts: Array,
    times: Array,
) -> None:
    """Evaluate every row of ``loads`` (rows, 10; the fields of ``Load``) into ``counts`` and ``times``."""
    seconds = np.zeros(DECODE_SELECTION + 1)
    phase_flops = np.zeros(DECODE_SELECTION + 1, np.int64)
    for index in range(len(loads)):
        row = loads[index]
        load = Load(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9])
        rows = evaluate(model, schedule, load, precision, gpu, work, seconds)
        phase_flops[:] = 0
        for operator in range(rows):
            phase_flops[work.operators[operator]["phase"]] += work.operators[operator]["flops"]
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
        times[index, 0] = seconds[VISION] + seconds[PROJECTOR]
        times[index, 1] = seconds[SELECTION]
        times[index, 2] = seconds[PREFILL]
        times[index, 3] = seconds[DECODE] + seconds[DECODE_SELECTION]


def workspace(model: ModelArrays, schedule: ScheduleArrays) -> Workspace:
    """Arrays large enough for any scenario of this model and schedule."""
    tower = max(1, len(schedule.tower_starts) - 1)
    segments = len(schedule.lm_starts) - 1
    kinds = len(model.lm_kinds)
    # A layer kind writes at most ten dense rows and one attention row, a decode segment one more.
    most = (
        16
        + len(model.linears)
        + 12 * tower * max(1, len(model.tower_kinds))
        + 13 * segments * kinds
        + 12 * kinds
        + len(schedule.operations) * segments
    )
    return Workspace(
        operators=np.zeros(most, OPERATOR),
        tower_counts=np.zeros((tower, 4), np.int64),
        lm_counts=np.zeros((segments, 4), np.int64),
        end=np.zeros(3, np.int64),
        kv=np.zeros((segments, kinds, 2), np.int64),
        totals=np.zeros(TOTALS, np.int64),
        symbols=np.zeros(32, np.int64),
    )
