"""Galloping search and bisection for the fewest replicas that meet a target, and the largest rate that meets it.

A simulated percentile is not exactly monotone in the number of replicas, since the number changes how requests fall
into batches. "The fewest" therefore means a number that is enough while one fewer is not. The numbers that are tried
depend only on the answers so far and on the start. If a second test is passed wherever the first one is, as with a
looser limit on the same runs, its result is never larger, by induction over the numbers tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# The first stride of a gallop is the start over this.
FIRST_STRIDE = 8


def fewest(is_enough: Callable[[int], bool], start: int, maximum: int) -> int | None:
    """A number from 1 to ``maximum`` that is enough while one fewer is not; None if ``maximum`` was not enough.

    Parameters
    ----------
    is_enough : callable
        Takes a number.
    start : int
        Number tried first, best near the result.
    maximum : int
        Largest number tried, from 1.
    """
    start = max(1, min(start, maximum))
    stride = max(1, start // FIRST_STRIDE)
    if is_enough(start):
        low, high = start - stride, start
        while low > 0 and is_enough(low):
            stride *= 2
            low, high = low - stride, low
        low = max(0, low)
    else:
        if start == maximum:
            return None
        low, high = start, min(maximum, start + stride)
        while not is_enough(high):
            if high == maximum:
                return None
            stride *= 2
            low, high = high, min(maximum, high + stride)
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def largest(is_met: Callable[[float], bool], start: float, tolerance: float, doublings: int = 40) -> float | None:
    """A number above 0 that meets a target while one larger by the share ``tolerance`` does not.

    Parameters
    ----------
    is_met : callable
        Takes a number.
    start : float
        Number tried first, above 0.
    tolerance : float
        Relative width of the last bracket, above 0.
    doublings : int
        Most doublings or halvings of ``start``.

    Returns
    -------
    float or None
        None where no number down to ``start / 2**doublings`` meets the target; infinity where all up to
        ``start * 2**doublings`` do.
    """
    low = high = start
    if is_met(start):
        for _ in range(doublings):
            high *= 2.0
            if not is_met(high):
                break
            low = high
        else:
            return math.inf
    else:
        for _ in range(doublings):
            low /= 2.0
            if is_met(low):
                break
            high = low
        else:
            return None
    while high > low * (1.0 + tolerance):
        middle = math.sqrt(low * high)
        if is_met(middle):
            low = middle
        else:
            high = middle
    return low
