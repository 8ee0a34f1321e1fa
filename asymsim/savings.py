"""An estimate against its unpruned twin."""

from __future__ import annotations

from asymsim.report import Flops, KvCache, Latency, Memory, Savings


def fraction_saved(pruned: float | None, dense: float | None) -> float | None:
    """1 - pruned / dense; 0 where the dense cost is 0; None where either is not defined."""
    if pruned is None or dense is None:
        return None
    return 1.0 - pruned / dense if dense else 0.0


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
