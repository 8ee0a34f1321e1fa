"""Data sheet of a device, and the parts that all operator times share: waves over the SMs, overlap, power limit.

Each operator time is a kernel's schedule in closed form: tiles, waves, bytes, a launch. It ends in
``max(..., roofline)``: with the data sheet's peak and bandwidth and each operand moved once it is never
faster than the hardware, whatever the fitted parameters are. Times are of a kernel inside a CUDA graph
or a full stream: the host's time is a class of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asymsim.core.jit import inlined, kernel

# Times are whole multiples of this, a quarter of a picosecond: as multiples of a power of two, up to 2048 s, they add
# up without rounding, so that a simulation's sum of steps is the estimate's product to the bit.
TICKS_PER_S = 2.0**42
TICK_S = 1.0 / TICKS_PER_S


class Device(NamedTuple):
    """The data sheet: FLOP/s at the operands' format, bytes/s of device memory, L2 bytes, SMs."""

    flops_per_s: float
    bandwidth_bytes_per_s: float
    l2_bytes: float
    sm_count: float


@inlined
def whole_ticks_s(seconds: float) -> float:
    """Seconds rounded up to whole ticks: never below a bound, and as monotone as they were."""
    return float(np.ceil(seconds * TICKS_PER_S) * TICK_S)


@kernel
def waves(tiles: float, slots: float, quantised_share: float) -> float:
    """Rounds that ``tiles`` take on ``slots``; at least one, broken or whole as the kernel is."""
    rounds = tiles / slots
    return (1.0 - quantised_share) * max(rounds, 1.0) + quantised_share * math.ceil(rounds)


@kernel
def overlapped(one: float, other: float, overlap: float) -> float:
    """Time of two parts that overlap in part: (a^p + b^p)^(1/p), between their maximum and their sum."""
    longer, shorter = max(one, other), min(one, other)
    # Quicker than two powers, and as exact.
    return longer * math.exp(math.log1p(math.exp(overlap * math.log(shorter / longer))) / overlap)


@kernel
def throttled(seconds: float, throttle: float, half_s: float, sharpness: float) -> float:
    """Compute time under the power limit: up to ``throttle`` longer, half of that at ``half_s``."""
    hot = (seconds / half_s) ** sharpness
    return seconds * (1.0 + throttle * hot / (1.0 + hot))
