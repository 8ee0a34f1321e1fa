"""Element-wise work."""

from __future__ import annotations

from typing import NamedTuple

from machine import Machine, joined, kernel


class MemoryEfficiency(NamedTuple):
    """Fitted numbers of element-wise work: seconds of a launch, share of the bandwidth, rate of one SM."""

    launch_s: float
    memory_share: float
    overlap: float


@kernel
def memory_seconds(moved_bytes: float, machine: Machine, fitted: MemoryEfficiency) -> float:
    """Seconds of element-wise work that reads and writes ``moved_bytes`` in all."""
    stream_s = moved_bytes / (machine.bandwidth_bytes_per_s * fitted.memory_share)
    return max(joined(fitted.launch_s, stream_s, fitted.overlap), moved_bytes / machine.bandwidth_bytes_per_s)
