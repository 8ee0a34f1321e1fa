"""Views that are not reference-counted.

numba counts references to an array each time it is taken out of a tuple, with an atomic operation
that costs more than most of what the kernels then do with it. The caller of an entry point keeps
its arrays alive for the whole call, so inside it they can be borrowed.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numba.core import cgutils, types
from numba.extending import intrinsic, overload

Arrays = TypeVar("Arrays")


def borrow(arrays: Arrays) -> Arrays:
    """An array, or a tuple of arrays and tuples, as it is; inside a kernel, its arrays without an owner."""
    return arrays


def _disown(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        view = context.make_array(kind)(context, builder, value)
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()
    if isinstance(kind, types.BaseTuple):
        kinds: Any = kind
        values = cgutils.unpack_tuple(builder, value)
        items = [_disown(context, builder, kinds[index], values[index]) for index in range(len(values))]
        return context.make_tuple(builder, kind, items)
    return value


@intrinsic
def _without_owner(_context: Any, arrays: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _disown(context, builder, signature.args[0], arguments[0])

    return arrays(arrays), codegen


@overload(borrow, inline="always")
def _borrow(arrays: Any) -> Any:
    # numba compares the two signatures, annotations included.
    def implementation(arrays: Any) -> Any:
        return _without_owner(arrays)

    return implementation
