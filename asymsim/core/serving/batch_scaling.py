"""What requests of one step share: a batch's kernels take less than as many of one request."""

from __future__ import annotations

from asymsim.core.arrays import Array
from asymsim.core.jit import kernel
from asymsim.core.serving.layout import SHARE_UNIT


@kernel
def prefix_ticks(ticks: int, steps: int, all_steps: int) -> int:
    """The ticks of the first ``steps`` of ``all_steps``, to the tick, and within 64 bits."""
    return ticks // all_steps * steps + ticks % all_steps * steps // all_steps


@kernel
def power_below(powers: Array, number: int) -> int:
    """The last entry of those at 1, 2, 4 ... that is not beyond ``number``."""
    place = 0
    while place < len(powers) - 1 and 2 << place <= number:
        place += 1
    return place


@kernel
def interpolated_share(powers: Array, number: int) -> int:
    """A share at ``number``, from those at 1, 2, 4 ...; that of the last beyond."""
    place = power_below(powers, number)
    if place == len(powers) - 1:
        return powers[place]
    return powers[place] + (powers[place + 1] - powers[place]) * (number - (1 << place)) // (1 << place)


@kernel
def interpolated_ticks(powers: Array, number: int) -> int:
    """A time at ``number``, from those at 1, 2, 4 ...; in proportion beyond the last."""
    place = power_below(powers, number)
    if place == len(powers) - 1:
        return prefix_ticks(powers[place], number, 1 << place)
    return interpolated_share(powers, number)


@kernel
def scaled_ticks(ticks: int, share: int) -> int:
    """A share of some ticks; multiplied in two parts, because their product would leave 64 bits."""
    return ticks // SHARE_UNIT * share + ticks % SHARE_UNIT * share // SHARE_UNIT
