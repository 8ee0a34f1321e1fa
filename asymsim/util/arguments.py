"""Types of the arguments of public functions, checked on each call."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from asymsim.util.errors import FieldError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def checked_arguments(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Refuse arguments of other types than the declared ones with a `FieldError`.

    Truth values and texts are no numbers, and a text is no list of names. Ranges are left to the function.
    """
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        # Resolved on the first call, when the module of the function is complete.
        variadic = {name for name, parameter in signature.parameters.items() if parameter.kind is parameter.VAR_KEYWORD}
        return {name: hint for name, hint in get_type_hints(function).items() if name not in {*variadic, "return"}}

    @functools.wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        arguments = signature.bind(*args, **kwargs).arguments
        for name, hint in hints().items():
            if name in arguments and not _fits(arguments[name], hint):
                raise FieldError(name, arguments[name], f"give {_in_words(hint)}")
        return function(*args, **kwargs)

    return checked


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a declared type."""
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        # The function says which texts there are.
        return isinstance(value, str)
    if origin in (int, float):
        return isinstance(value, numbers.Integral if origin is int else numbers.Real) and not isinstance(value, bool)
    if origin is Callable or getattr(origin, "__name__", "") == "Callable":
        return callable(value)
    if isinstance(origin, type) and issubclass(origin, Iterable) and parts and not issubclass(origin, Mapping):
        # An array of numbers is as good as a list; an iterator is not looked into, which would empty it.
        is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        return is_list and all(_fits(item, parts[0]) for item in (value if isinstance(value, Collection) else ()))
    return isinstance(value, origin)


def _in_words(hint: Any) -> str:
    """A declared type as a remedy names it."""
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(part) for part in parts if part is not NoneType)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "names with their values"
    if isinstance(origin, type) and issubclass(origin, Iterable) and parts:
        return f"a list, each item {_in_words(parts[0])}"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Literal: "a text"}
    name = getattr(origin, "__name__", str(origin))
    return words.get(origin) or f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
