"""Savings of a schedule: its costs against those of the dense baseline."""

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

    Both times err by operator class. Operators that the schedule leaves as they were err alike in both times. Errors
    of the others correlate as far as those of one weight at two token counts do, so that part of them cancels.

    Parameters
    ----------
    pruned, dense : array, shape (phases, classes, 3)
        5 %, median and 95 % of the time of each operator class in the phases of the span.
    correlation : array, shape (classes,)
        Correlation of the errors of both times, by operator class.

    Returns
    -------
    tuple of float or None
        None where a time has no interval.
    """
    pruned_s, dense_s = pruned[..., 1].sum(), dense[..., 1].sum()
    if not dense_s or np.isnan(pruned).any() or np.isnan(dense).any():
        return None, None
    same = (pruned == dense).all(axis=2)
    saved = 1.0 - pruned_s / dense_s
    distances = []
    for quantile in (2, 0):
        pruned_error, dense_error = (np.abs(seconds[..., quantile] - seconds[..., 1]) for seconds in (pruned, dense))
        unchanged = abs(saved) * np.where(same, pruned_error, 0.0).sum(axis=0) / dense_s
        of_pruned = np.where(same, 0.0, pruned_error).sum(axis=0) / dense_s
        of_dense = np.where(same, 0.0, dense_error).sum(axis=0) * pruned_s / dense_s**2
        changed = np.sqrt(np.maximum(0.0, of_pruned**2 + of_dense**2 - 2 * correlation * of_pruned * of_dense))
        distances.append(float(np.sqrt(((unchanged + changed) ** 2).sum())))
    return saved - distances[0], saved + distances[1]


def savings_interval(pruned: Array, dense: Array, correlation: Array) -> SavingsInterval:
    """Intervals of the time saved, from seconds by phase and operator class, shape (phases, classes, 3)."""

    def interval(span: str) -> Interval:
        phases = list(SPAN_PHASES[span])
        p05, p95 = interval_saved(pruned[phases], dense[phases], correlation)
        return Interval(p05=p05, p95=p95)

    return SavingsInterval(ttft=interval("ttft_s"), tpot=interval("decode_s"), e2e=interval("e2e_s"))


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
