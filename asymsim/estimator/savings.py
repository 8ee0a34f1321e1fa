"""An estimate against its unpruned twin."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.operators.layout import SPAN_PHASES
from asymsim.estimator.result import Flops, Interval, KvCache, Latency, Memory, Savings, SavingsInterval


def fraction_saved(pruned: float | None, dense: float | None) -> float | None:
    """1 - pruned / dense; 0 where the dense cost is 0; None where either is not defined."""
    if pruned is None or dense is None:
        return None
    return 1.0 - pruned / dense if dense else 0.0


def interval_saved(pruned: Array, dense: Array, correlation: Array) -> tuple[float | None, float | None]:
    """The 90 % interval of the share of time saved.

    Both times err by operator class. What the schedule leaves as it was errs alike in both; in the rest, errors
    of a class go together as far as those of one weight at two token counts do, so that part of them cancels.

    Parameters
    ----------
    pruned, dense : array, shape (phases, classes, 3)
        5 %, median and 95 % of the time of each operator class in the phases of the span.
    correlation : array, shape (classes,)

    Returns
    -------
    tuple of float or None
        None where a time has no interval.
    """
    of, whole = pruned[..., 1].sum(), dense[..., 1].sum()
    if not whole or np.isnan(pruned).any() or np.isnan(dense).any():
        return None, None
    same = (pruned == dense).all(axis=2)
    saved = 1.0 - of / whole
    distances = []
    for end in (2, 0):
        mine, twin = (np.abs(each[..., end] - each[..., 1]) for each in (pruned, dense))
        unchanged = abs(saved) * np.where(same, mine, 0.0).sum(axis=0) / whole
        mine = np.where(same, 0.0, mine).sum(axis=0) / whole
        twin = np.where(same, 0.0, twin).sum(axis=0) * of / whole**2
        changed = np.sqrt(np.maximum(0.0, mine**2 + twin**2 - 2 * correlation * mine * twin))
        distances.append(float(np.sqrt(((unchanged + changed) ** 2).sum())))
    return saved - distances[0], saved + distances[1]


def savings_interval(pruned: Array, dense: Array, correlation: Array) -> SavingsInterval:
    """Intervals of the time saved, from seconds by phase and operator class, shape (phases, classes, 3)."""

    def ends(span: str) -> Interval:
        phases = list(SPAN_PHASES[span])
        low, high = interval_saved(pruned[phases], dense[phases], correlation)
        return Interval(p05=low, p95=high)

    return SavingsInterval(ttft=ends("ttft_s"), tpot=ends("decode_s"), e2e=ends("e2e_s"))


def savings(pruned: tuple[Flops, KvCache, Memory, Latency], dense: tuple[Flops, KvCache, Memory, Latency]) -> Savings:
    """Fractions of FLOPs, bytes and median times that a schedule saves."""
    flops, kv, memory, latency = pruned
    dense_flops, dense_kv, dense_memory, dense_latency = dense
    return Savings(
        flops=fraction_saved(flops.total, dense_flops.total) or 0.0,
        prefill_flops=fraction_saved(flops.prefill, dense_flops.prefill) or 0.0,
        kv_bytes=fraction_saved(kv.peak_bytes, dense_kv.peak_bytes) or 0.0,
        peak_bytes=fraction_saved(memory.peak_bytes, dense_memory.peak_bytes) or 0.0,
        ttft=fraction_saved(latency.ttft_s.p50, dense_latency.ttft_s.p50) or 0.0,
        tpot=fraction_saved(latency.tpot_s.p50, dense_latency.tpot_s.p50),
        e2e=fraction_saved(latency.e2e_s.p50, dense_latency.e2e_s.p50) or 0.0,
    )
