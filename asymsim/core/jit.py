"""The one place where numba's flags stand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

# Both know more than numba's type stubs say.
_njit: Any = numba.njit
_config: Any = numba.config
P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> str:
    """A cache of compiled code that belongs to exactly these sources.

    numba renews a cached function when its own file changes, not when a function it calls does, so
    the state of every file of this package is part of the folder's name.
    """
    stamp = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        state = source.stat()
        stamp.update(f"{source}:{state.st_size}:{state.st_mtime_ns};".encode())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "asymsim" / "numba" / stamp.hexdigest()[:16])


_CACHE_FOLDER = _config.CACHE_DIR or _cache_folder()


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` on first use and cache it on disk.

    No fastmath: integers must be exact and sums reproducible. ``nogil`` lets callers run blocks in
    threads. ``error_model="numpy"``: callers have checked their divisors, so no branch per division.
    """
    return _compiled(function)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that is merged into its caller.

    For parts that take whole tuples of arrays: passing those by value, and counting references to
    each of their arrays, costs more than what the part does. Python cannot call it.
    """
    return _compiled(function, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _compiled(function: Callable[P, R], **flags: bool) -> Callable[P, R]:
    before, _config.CACHE_DIR = _config.CACHE_DIR, _CACHE_FOLDER
    try:
        compiled: Callable[P, R] = _njit(cache=True, nogil=True, error_model="numpy", **flags)(function)
    finally:
        _config.CACHE_DIR = before
    return compiled
