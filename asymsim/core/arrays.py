"""Types of arrays and records that all kernels share, and integer codes that numba compiles once."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# One element of a structured array; NumPy's types know nothing of its fields.
Record = Any


def codes(count: int) -> tuple[int, ...]:
    """0, 1, ... as NumPy integers: numba would compile a function anew for each Python integer it is called with."""
    return tuple(np.int64(code) for code in range(count))  # type: ignore[misc]


def integers(*names: str) -> np.dtype[np.void]:
    """A record of 64-bit integers."""
    return np.dtype([(name, np.int64) for name in names], align=True)
