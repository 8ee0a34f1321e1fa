"""Working memory of one evaluation, allocated once and used for every row of a sweep."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array, codes
from asymsim.core.model_arrays import ModelArrays
from asymsim.core.operators.layout import OPERATOR, PHASE_NAMES
from asymsim.core.schedule_arrays import (
    S_HEAD_SIZE,
    S_HEADS,
    S_HIDDEN,
    S_KV_HEADS,
    S_KV_WIDTH,
    S_QUERY_WIDTH,
    S_TOWER_HEAD_SIZE,
    S_TOWER_HEADS,
    S_TOWER_HIDDEN,
    SYMBOLS,
    ScheduleArrays,
)
from asymsim.core.times.parameters import NUM_TIME_CLASSES
from asymsim.core.times.product_memo import MEMO

# Integer totals that do not follow from summing operator rows.
(
    KV_PREFILL_BYTES,
    KV_FINAL_BYTES,
    KV_PAGED_BYTES,
    FIRST_STEP_FLOPS,
    FIRST_STEP_TORCH_FLOPS,
    ACTIVATION_BYTES,
) = codes(6)


TOTALS = 6


class Workspace(NamedTuple):
    """Arrays that one evaluation fills; allocated once and used for every row of a sweep.

    Attributes
    ----------
    operators : records of ``OPERATOR``; ``words`` views them as int64, shape (rows, fields).
    tower_counts, lm_counts : tokens of each segment, shape (segments, 5), as ``core.schedule`` fills them.
    end : visual tokens at the encoder's end, shape (4,), as ``core.schedule`` fills it.
    kv : shape (segments, layer kinds, 4): mean entries of a KV head after prefill and at the end; entries of all KV
        heads after prefill, and the entries that decode steps find, added up over the steps.
    totals : shape (TOTALS,).
    symbols : values that selection operators name, then the schedule's literals.
    seconds : 5 %, median and 95 % of the time, shape (phases, classes, 3).
    sources : the least certain source of each phase's times, shape (phases,).
    phase_flops : shape (phases,).
    memo : seconds of matrix products computed before, records of ``MEMO``.
    last, last_s, last_codes : words of each row of the scenario before, its time, its class and source.
    stamp : the GPU and the tensor-parallel size that ``memo`` and ``last`` are about, shape (2,).
    """

    operators: Array
    tower_counts: Array
    lm_counts: Array
    end: Array
    kv: Array
    totals: Array
    symbols: Array
    seconds: Array
    sources: Array
    phase_flops: Array
    memo: Array
    words: Array
    last: Array
    last_s: Array
    last_codes: Array
    stamp: Array


# Entries of a workspace's memo of product times: for one scenario, and for a sweep of many.
MEMO_ENTRIES_SINGLE, MEMO_ENTRIES_SWEEP = 1 << 6, 1 << 16


def workspace(model: ModelArrays, schedule: ScheduleArrays, memo_entries: int = MEMO_ENTRIES_SINGLE) -> Workspace:
    """Arrays large enough for any scenario of this model and schedule.

    ``memo_entries``, a power of two, is the number of product times kept for later scenarios.
    """
    tower = max(1, len(schedule.tower_starts) - 1)
    segments = len(schedule.lm_starts) - 1
    kinds = len(model.lm_kinds)
    # A layer kind writes at most eleven dense rows and one attention row, a decode segment one more.
    max_rows = (
        16
        + len(model.linears)
        + 13 * tower * max(1, len(model.tower_kinds))
        + 14 * segments * kinds
        + 13 * kinds
        + len(schedule.operations) * segments * kinds
    )
    symbols = np.zeros(len(SYMBOLS) + len(schedule.literals), np.int64)
    symbols[len(SYMBOLS) :] = schedule.literals
    operators = np.zeros(max_rows, OPERATOR)
    words = operators.view(np.int64).reshape(max_rows, -1)
    kind = model.lm_kinds[0]
    symbols[S_HIDDEN] = model.hidden_size
    symbols[S_HEADS] = kind["heads"]
    symbols[S_KV_HEADS] = kind["kv_heads"]
    symbols[S_HEAD_SIZE] = kind["head_size"]
    symbols[S_QUERY_WIDTH] = kind["heads"] * kind["head_size"]
    symbols[S_KV_WIDTH] = 2 * kind["kv_heads"] * kind["head_size"]
    if len(model.tower_kinds) > 0:
        tower_kind = model.tower_kinds[0]
        symbols[S_TOWER_HIDDEN] = tower_kind["hidden_size"]
        symbols[S_TOWER_HEADS] = tower_kind["heads"]
        symbols[S_TOWER_HEAD_SIZE] = tower_kind["head_size"]
    return Workspace(
        operators=operators,
        tower_counts=np.zeros((tower, 5), np.int64),
        lm_counts=np.zeros((segments, 5), np.int64),
        end=np.zeros(4, np.int64),
        kv=np.zeros((segments, kinds, 4), np.int64),
        totals=np.zeros(TOTALS, np.int64),
        symbols=symbols,
        seconds=np.zeros((len(PHASE_NAMES), NUM_TIME_CLASSES, 3)),
        sources=np.zeros(len(PHASE_NAMES), np.int64),
        phase_flops=np.zeros(len(PHASE_NAMES), np.int64),
        memo=np.zeros(memo_entries, MEMO),
        words=words,
        last=np.full_like(words, -1),
        last_s=np.zeros((max_rows, 3)),
        last_codes=np.zeros((max_rows, 2), np.int64),
        stamp=np.zeros(2, np.int64),
    )
