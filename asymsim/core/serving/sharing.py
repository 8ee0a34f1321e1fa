"""What requests of one step share: a batch's kernels take less than as many of one request."""

from __future__ import annotations

from asymsim.core.jit import kernel
from asymsim.core.layout import Array
from asymsim.core.serving.layout import WHOLE_SHARE


@kernel
def of_number(powers: Array, number: int) -> int:
    """A quantity at ``number``, from its values at 1, 2, 4 ...; in proportion beyond the last."""
    place, low = 0, 1
    while place < len(powers) - 1 and 2 * low <= number:
        place, low = place + 1, 2 * low
    if place == len(powers) - 1:
        return powers[place] // low * number + powers[place] % low * number // low
    return powers[place] + (powers[place + 1] - powers[place]) * (number - low) // low


@kernel
def share_at(powers: Array, number: int) -> int:
    """A share at ``number``, from those at 1, 2, 4 ...; that of the last beyond."""
    place, low = 0, 1
    while place < len(powers) - 1 and 2 * low <= number:
        place, low = place + 1, 2 * low
    if place == len(powers) - 1:
        return powers[place]
    return powers[place] + (powers[place + 1] - powers[place]) * (number - low) // low


@kernel
def shared(ticks: int, share: int) -> int:
    """A share of some ticks; multiplied in two parts, because their product would leave 64 bits."""
    return ticks // WHOLE_SHARE * share + ticks % WHOLE_SHARE * share // WHOLE_SHARE


@kernel
def part_of(ticks: int, steps: int, all_steps: int) -> int:
    """The ticks of the first ``steps`` of ``all_steps``, to the tick, and within 64 bits."""
    return ticks // all_steps * steps + ticks % all_steps * steps // all_steps
