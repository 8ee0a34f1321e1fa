"""Operator rows with the fields that a test names, and 0 in the others."""

from __future__ import annotations

import numpy as np

from asymsim.core.operators.layout import ATTENTION, BY_HEADS, GEMM, OPERATOR
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.estimator.operator_table import operator_times


def row(**values: int) -> np.void:
    """One execution of one group; every field that is not named is 0."""
    rows = np.zeros(1, OPERATOR)
    rows["count"] = rows["groups"] = rows["heads"] = rows["kv_heads"] = 1
    for name, value in values.items():
        rows[name] = value
    return rows[0]


def product(m: int, n: int, k: int, **values: int) -> np.void:
    """A product with a weight."""
    return row(**{"kind": GEMM, "m": m, "n": n, "k": k, "weight_bytes": n * k, "flops": 2 * m * n * k, **values})


def attention(phase: int, sequences: int, queries: int, keys: int, pairs: int, **values: int) -> np.void:
    """Fused attention, at a head size ``k`` of 64 by default; ``pairs`` of one sequence and head."""
    fields = {"heads": 1, "kv_heads": 1, "count": 1, "k": 64, **values}
    groups = sequences * fields["heads"]
    flops = 4 * pairs * groups * fields["k"] * fields["count"]
    shape = {"m": queries, "n": keys, "groups": groups, "flops": flops}
    return row(**{"kind": ATTENTION, "phase": phase, "split": BY_HEADS, **shape, **fields})


def interval(operator_row: np.void, gpu: GpuArrays, tp_size: int = 1) -> tuple[float, float, float, int]:
    """5 %, median and 95 % of a row's seconds, and the code of their source."""
    seconds, sources = operator_times(np.array([operator_row], OPERATOR), gpu, tp_size)
    low, middle, high = seconds[0].tolist()
    return low, middle, high, int(sources[0])
