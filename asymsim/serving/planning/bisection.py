"""The fewest that are enough, and the most that can be borne, by galloping and bisection.

A simulated percentile is not exactly monotone in the number of replicas: how requests fall into batches changes with
it. So "the fewest" is defined by what is tried, a number that is enough while one fewer is not. Which numbers are tried
depends only on the answers and on where the search begins. If one question is answered yes wherever another is, as with
a looser limit on the same runs, the numbers found for the two are ordered as well, by induction over the tries.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# A gallop's first step is this part of where it begins.
STRIDE = 8


def fewest(enough: Callable[[int], bool], start: int, most: int) -> int | None:
    """A number from 1 to ``most`` that is enough while one fewer is not; None if ``most`` is not found enough.

    Parameters
    ----------
    enough : callable
        Says of a number whether it is enough.
    start : int
        Where to begin, best near the answer.
    most : int
        From 1.
    """
    start = max(1, min(start, most))
    step = max(1, start // STRIDE)
    if enough(start):
        low, high = start - step, start
        while low > 0 and enough(low):
            step *= 2
            low, high = low - step, low
        low = max(0, low)
    else:
        if start == most:
            return None
        low, high = start, min(most, start + step)
        while not enough(high):
            if high == most:
                return None
            step *= 2
            low, high = high, min(most, high + step)
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def largest(bearable: Callable[[float], bool], start: float, tolerance: float, doublings: int = 40) -> float | None:
    """A number above 0 that is bearable while one larger by the share ``tolerance`` is not.

    Parameters
    ----------
    bearable : callable
        Says of a number whether it is bearable.
    start : float
        Where to begin, above 0.
    tolerance : float
        Above 0.
    doublings : int
        How far from ``start`` to look.

    Returns
    -------
    float or None
        None where nothing down to ``start / 2**doublings`` is bearable; infinity where all up to
        ``start * 2**doublings`` is.
    """
    low = high = start
    if bearable(start):
        for _ in range(doublings):
            high *= 2.0
            if not bearable(high):
                break
            low = high
        else:
            return math.inf
    else:
        for _ in range(doublings):
            low /= 2.0
            if bearable(low):
                break
            high = low
        else:
            return None
    while high > low * (1.0 + tolerance):
        middle = math.sqrt(low * high)
        if bearable(middle):
            low = middle
        else:
            high = middle
    return low
