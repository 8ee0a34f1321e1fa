"""Batch scaling: the time of a batch's kernels, less than as many times that of one request."""

from __future__ import annotations

from asymsim.core.arrays import Array
from asymsim.core.jit import kernel
from asymsim.core.serving.layout import SHARE_UNIT


@kernel
def prefix_ticks(ticks: int, steps: int, all_steps: int) -> int:
    """Ticks of the first ``steps`` of ``all_steps`` steps that take ``ticks``, without leaving 64 bits."""
    return ticks // all_steps * steps + ticks % all_steps * steps // all_steps


@kernel
def power_below(powers: Array, number: int) -> int:
    """Index of the last entry at 1, 2, 4 ... that is not beyond ``number``."""
    power = 0
    while power < len(powers) - 1 and 2 << power <= number:
        power += 1
    return power


@kernel
def interpolated_share(powers: Array, number: int) -> int:
    """A share at ``number``, between the shares at 1, 2, 4 ...; the last share beyond."""
    power = power_below(powers, number)
    if power == len(powers) - 1:
        return powers[power]
    return powers[power] + (powers[power + 1] - powers[power]) * (number - (1 << power)) // (1 << power)


@kernel
def interpolated_ticks(powers: Array, number: int) -> int:
    """A time at ``number``, between the times at 1, 2, 4 ...; in proportion to the last beyond."""
    power = power_below(powers, number)
    if power == len(powers) - 1:
        return prefix_ticks(powers[power], number, 1 << power)
    return interpolated_share(powers, number)


@kernel
def scaled_ticks(ticks: int, share: int) -> int:
    """A share of ``ticks``, multiplied in two parts, because the product would leave 64 bits."""
    return ticks // SHARE_UNIT * share + ticks % SHARE_UNIT * share // SHARE_UNIT
