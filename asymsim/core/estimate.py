"""One full estimate, and many: counts, memory and time of scenarios of one model, GPU and schedule."""

from __future__ import annotations

import numpy as np

from asymsim.core import layout
from asymsim.core.borrow import borrow_gpu, borrow_model, borrow_schedule, borrow_workspace
from asymsim.core.efficiency import FITTED, HOST_TIME, MEASURED, TIME_CLASSES
from asymsim.core.jit import kernel
from asymsim.core.latency import MEMO, joint_interval, row_time
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
# Times to the end of a phase or over several, and the phases that make each up.
SPANS = ("vision_s", "selection_s", "prefill_s", "decode_s", "ttft_s", "e2e_s")
_IN_VISION = np.array([VISION, PROJECTOR])
_IN_SELECTION = np.array([SELECTION])
_IN_PREFILL = np.array([PREFILL])
_IN_DECODE = np.array([DECODE, DECODE_SELECTION])
_IN_TTFT = np.array([VISION, PROJECTOR, SELECTION, PREFILL])
_IN_E2E = np.array([VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION])
# Each with its 5 % quantile, median and 95 % quantile.
TIMES = tuple(f"{span}{end}" for span in SPANS for end in ("_p05", "", "_p95"))
# Entries of a workspace's memory of matrix times: for one scenario, and for a sweep of many.
FEW, MANY = 1 << 6, 1 << 16


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

    ``counts`` has a column for each of ``COUNTS``, ``times`` for each of ``TIMES``.

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
        load = Load(given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7], given[8], given[9])
        rows = build(model, schedule, load, precision, work)
        work.totals[ACTIVATION_BYTES] = activation_bytes(model, schedule, load, precision, work)
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
            add_host(seconds, sources, DECODE, load.output_tokens - 1, gpu)
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


def workspace(model: ModelArrays, schedule: ScheduleArrays, memo_entries: int = FEW) -> Workspace:
    """Arrays large enough for any scenario of this model and schedule.

    ``memo_entries``, a power of two, is how many matrix times are kept for scenarios to come.
    """
    tower = max(1, len(schedule.tower_starts) - 1)
    segments = len(schedule.lm_starts) - 1
    kinds = len(model.lm_kinds)
    # A layer kind writes at most eleven dense rows and one attention row, a decode segment one more.
    most = (
        16
        + len(model.linears)
        + 13 * tower * max(1, len(model.tower_kinds))
        + 14 * segments * kinds
        + 13 * kinds
        + len(schedule.operations) * segments * kinds
    )
    symbols = np.zeros(len(layout.SYMBOLS) + len(schedule.literals), np.int64)
    symbols[len(layout.SYMBOLS) :] = schedule.literals
    operators = np.zeros(most, OPERATOR)
    words = operators.view(np.int64).reshape(most, -1)
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
        operators=operators,
        tower_counts=np.zeros((tower, 5), np.int64),
        lm_counts=np.zeros((segments, 5), np.int64),
        end=np.zeros(4, np.int64),
        kv=np.zeros((segments, kinds, 4), np.int64),
        totals=np.zeros(TOTALS, np.int64),
        symbols=symbols,
        seconds=np.zeros((len(layout.PHASES), TIME_CLASSES, 3)),
        sources=np.zeros(len(layout.PHASES), np.int64),
        phase_flops=np.zeros(len(layout.PHASES), np.int64),
        memo=np.zeros(memo_entries, MEMO),
        words=words,
        last=np.full_like(words, -1),
        last_s=np.zeros((most, 3)),
        last_codes=np.zeros((most, 2), np.int64),
        stamp=np.zeros(2, np.int64),
    )
