"""Named tuples read from rows and records, and written to them, by the one list of fields that each class has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba.core import types
from numba.extending import overload

from asymsim.core.arrays import Record

Fields = TypeVar("Fields", bound=NamedTuple)


def read_fields(fields: type[Fields], source: Record) -> Fields:
    """A named tuple of the class ``fields``, from a row with its fields in order or a record with fields so named."""
    if isinstance(source, np.void):
        return fields(*(source[name] for name in fields._fields))
    return fields(*source)


def write_fields(target: Record, values: NamedTuple) -> None:
    """Put a named tuple into a row with its fields in order, or into a record with fields so named."""
    for index, name in enumerate(values._fields):
        target[name if isinstance(target, np.void) else index] = values[index]


def _places(holder: Any, names: tuple[str, ...]) -> list[str]:
    """Subscripts of the fields: their names in a record, their indices in a row."""
    return [repr(name) if isinstance(holder, types.Record) else str(index) for index, name in enumerate(names)]


def _defined(source: str) -> Callable[..., Any]:
    # numba unrolls no loop over a record's fields, so the function is spelt out. It compares signatures, annotations
    # included.
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    function: Callable[..., Any] = namespace["implementation"]
    return function


@overload(read_fields)
def _read_fields(fields: Any, source: Any) -> Any:
    places = _places(source, fields.instance_class._fields)
    values = ", ".join(f"source[{place}]" for place in places)
    return _defined(f"def implementation(fields: Any, source: Any) -> Any: return fields({values})")


@overload(write_fields)
def _write_fields(target: Any, values: Any) -> Any:
    places = _places(target, values.instance_class._fields)
    lines = [f"    target[{place}] = values[{index}]" for index, place in enumerate(places)]
    return _defined("\n".join(["def implementation(target: Any, values: Any) -> Any:", *lines]))
