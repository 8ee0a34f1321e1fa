"""Seconds of element-wise work."""

from __future__ import annotations

from asymsim.core.arrays import Record
from asymsim.core.jit import kernel
from asymsim.core.times.device import overlapped


@kernel
def elementwise_seconds(moved_bytes: float, bandwidth_bytes_per_s: float, fitted: Record) -> float:
    """Seconds of one element-wise kernel that reads and writes ``moved_bytes`` in all.

    ``fitted`` is a record of ``parameters.ELEMENTWISE_PARAMETERS``.
    """
    stream_s = moved_bytes / (bandwidth_bytes_per_s * fitted["memory_share"])
    return max(overlapped(fitted["launch_s"], stream_s, fitted["overlap"]), moved_bytes / bandwidth_bytes_per_s)
