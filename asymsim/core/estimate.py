"""One full estimate, and many: counts, memory and time of scenarios of one model, GPU and schedule."""

from __future__ import annotations

import numpy as np

from asymsim.core import layout
from asymsim.core.borrow import borrow_model, borrow_schedule, borrow_workspace
from asymsim.core.jit import kernel
from asymsim.core.latency import row_seconds
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
def evaluate_rows(
    owned_model: ModelArrays,
    owned_schedule: ScheduleArrays,
    loads: Array,
    precision: Precision,
    gpu: GpuArrays,
    owned_work: Workspace,
    counts: Array,
    times: Array,
) -> int:
    """Evaluate every row of ``loads`` (rows, 10; the fields of ``Load``) into ``counts`` and ``times``.

    Returns the number of operator rows of the last scenario, whose table is left in ``work``: the one
    compiled entry point serves a single estimate and a sweep alike.
    """
    model, schedule, work = borrow_model(owned_model), borrow_schedule(owned_schedule), borrow_workspace(owned_work)
    seconds, phase_flops, rows = work.seconds, work.phase_flops, 0
    for index in range(len(loads)):
        given = loads[index]
        load = Load(given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7], given[8], given[9])
        rows = build(model, schedule, load, precision, work)
        work.totals[ACTIVATION_BYTES] = activation_bytes(model, schedule, load, precision, work)
        phase_flops[:] = 0
        seconds[:] = 0.0
        for operator in range(rows):
            row = work.operators[operator]
            phase_flops[row["phase"]] += row["flops"]
            seconds[row["phase"]] += row_seconds(row, gpu, precision.tp_size)
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
    return rows


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
        + len(schedule.operations) * segments * kinds
    )
    symbols = np.zeros(len(layout.SYMBOLS) + len(schedule.literals), np.int64)
    symbols[len(layout.SYMBOLS) :] = schedule.literals
    kind = model.lm_kinds[0]
    symbols[layout.S_HIDDEN] = model.hidden_size
    symbols[layout.S_HEADS] = kind["heads"]
    symbols[layout.S_KV_HEADS] = kind["kv_heads"]
    symbols[layout.S_HEAD_SIZE] = kind["head_size"]
    symbols[layout.S_QUERY_WIDTH] = kind["heads"] * kind["head_size"]
    symbols[layout.S_KV_WIDTH] = 2 * kind["kv_heads"] * kind["head_size"]
    if len(model.tower_kinds) > 0:
        tower_kind = model.tower_kinds[0]
        symbols[layout.S_TOWER_HIDDEN] = tower_kind["hidden_size"]
        symbols[layout.S_TOWER_HEADS] = tower_kind["heads"]
        symbols[layout.S_TOWER_HEAD_SIZE] = tower_kind["head_size"]
    return Workspace(
        operators=np.zeros(most, OPERATOR),
        tower_counts=np.zeros((tower, 5), np.int64),
        lm_counts=np.zeros((segments, 5), np.int64),
        end=np.zeros(4, np.int64),
        kv=np.zeros((segments, kinds, 4), np.int64),
        totals=np.zeros(TOTALS, np.int64),
        symbols=symbols,
        seconds=np.zeros(len(layout.PHASES)),
        phase_flops=np.zeros(len(layout.PHASES), np.int64),
    )
