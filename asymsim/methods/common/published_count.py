"""Methods whose paper fixes a count, not a share: the count by default, a share where the caller names one."""

from __future__ import annotations

from typing import Any

from pydantic_core import ArgsKwargs


def unless_keep(data: Any, **native: Any) -> Any:
    """Fill in the paper's ``native`` settings where the arguments name neither these nor ``keep``.

    For a pydantic validator that runs before the fields are set.
    """
    if not isinstance(data, ArgsKwargs):
        return data
    given = data.kwargs or {}
    if "keep" in given:
        return data
    return ArgsKwargs(data.args, {**native, **given})
