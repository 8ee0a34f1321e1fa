"""Watching what a kernel does in Triton's interpreter, by wrapping methods of its builder.

The builder is private to Triton, so each use rests on `count.self_test`, which runs one tile and fails with the
version's name if the builder no longer works as assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import triton


def require_interpreter() -> Any:
    """Triton's interpreter module; RuntimeError unless kernels of this process are interpreted."""
    # `triton.language.sum` and its like became interpreted or compiled for good when triton was imported.
    interpreted = type(triton.language.standard.sum).__name__ == "InterpretedFunction"
    if not interpreted:
        raise RuntimeError("kernels are not interpreted: set TRITON_INTERPRET=1 before triton is first imported")
    from triton.runtime import interpreter

    return interpreter


@contextmanager
def wrapped(target: Any, **wrappers: Callable[..., Any]) -> Iterator[None]:
    """Replace methods of `target` for a while.

    Each wrapper is called as ``wrapper(original, *args, **kwargs)`` and decides whether to call the original.
    """
    missing = [name for name in wrappers if not hasattr(target, name)]
    if missing:
        raise RuntimeError(
            f"triton {triton.__version__}: the interpreter has no {', '.join(missing)}; use triton 3.7.1"
        )
    before = {name: target.__dict__.get(name) for name in wrappers}
    for name, wrapper in wrappers.items():
        setattr(target, name, _bind(wrapper, getattr(target, name), isinstance(target, type)))
    try:
        yield
    finally:
        for name, original in before.items():
            if original is None:
                delattr(target, name)
            else:
                setattr(target, name, original)


def _bind(wrapper: Callable[..., Any], original: Callable[..., Any], of_class: bool) -> Callable[..., Any]:
    if of_class:
        return lambda self, *args, **kwargs: wrapper(original, self, *args, **kwargs)
    return lambda *args, **kwargs: wrapper(original, *args, **kwargs)
