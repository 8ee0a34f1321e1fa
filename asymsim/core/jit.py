"""The one place where numba's flags stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` on first use and cache it on disk.

    No fastmath: integers must be exact and sums reproducible. ``nogil`` lets callers run blocks in
    threads. ``error_model="numpy"``: callers have checked their divisors, so no branch per division.
    """
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled
