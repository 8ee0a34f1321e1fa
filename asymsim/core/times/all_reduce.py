"""Seconds of an all-reduce among the GPUs that share a model."""

from __future__ import annotations

from asymsim.core.arrays import Record
from asymsim.core.jit import kernel


@kernel
def all_reduce_seconds(message_bytes: float, gpus: float, link_bytes_per_s: float, fitted: Record) -> float:
    """Seconds of an all-reduce of ``message_bytes`` among ``gpus``, the better of two ways.

    One shot: every GPU reads all p messages, (p - 1) B over its link, once. Two shots (reduce-scatter and
    all-gather, also a ring): 2 (p - 1) / p B, twice the latency. Switches that add up on the way (NVLS) need
    half of that, which is the floor. ``fitted`` is a record of ``parameters.ALL_REDUCE_PARAMETERS``.
    """
    if gpus < 2.0:
        return 0.0
    latency_s = fitted["launch_s"] + fitted["peer_s"] * (gpus - 1.0)
    one_shot_s = latency_s + (gpus - 1.0) * message_bytes / (link_bytes_per_s * fitted["one_shot_share"])
    two_shot_s = 2.0 * latency_s + 2.0 * (gpus - 1.0) / gpus * message_bytes / (link_bytes_per_s * fitted["link_share"])
    return max(min(one_shot_s, two_shot_s), (gpus - 1.0) / gpus * message_bytes / link_bytes_per_s)
