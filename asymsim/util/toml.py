"""Readers of single values from a parsed TOML file, each with a one-line refusal of anything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.fractions import exact, share_of_all

Reader = Callable[[object, str], Any]

# Larger counts than any prompt has; keeps the kernels' 64-bit products safe.
LARGEST = 10**9


def table(value: object, where: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The values of a table, each by its key's reader; an unknown key is refused with the nearest names."""
    if not isinstance(value, Mapping):
        raise InputError(where, value, "give a table of keys")
    for key in value:
        if key not in readers:
            raise UnknownNameError(f"{where}: key", key, readers)
    return {key: readers[key](content, f"{where}: {key}") for key, content in value.items()}


def need(values: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Refuse a table without these keys."""
    for key in keys:
        if key not in values:
            raise InputError(where, dict(values), f"add the key {key!r}")


def integer(lowest: int, highest: int = LARGEST) -> Reader:
    """A whole number between bounds."""

    def read(value: object, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise InputError(where, value, f"give a whole number from {lowest} to {highest}")
        return value

    return read


def number(value: object, where: str) -> Fraction:
    """A decimal exactly as written, or a fraction in quotes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(where, value, 'give a number such as 0.25 or "1/3"')
    return exact(value, where)


def share(value: object, where: str) -> Fraction:
    """A number from 0 to 1."""
    return share_of_all(number(value, where), where)


def choice(*names: str) -> Reader:
    """One of a few words."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str):
            raise InputError(where, value, f"give one of {', '.join(names)}")
        if value not in names:
            raise UnknownNameError(where, value, names)
        return value

    return read


def flag(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InputError(where, value, "give true or false")
    return value


def size(value: object, where: str) -> str:
    """A product of quantities, or a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(where, value, 'give a product such as "visual*heads"')
    return str(integer(0)(value, where)) if isinstance(value, int) else value


def each(reader: Reader, what: str) -> Reader:
    """A list, every item by the same reader."""

    def read(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InputError(where, value, f"give a list of {what}")
        return tuple(reader(item, f"{where} {number}") for number, item in enumerate(value, start=1))

    return read


def per_layer(reader: Reader) -> Reader:
    """One value for all layers, or a list with one a layer."""

    def read(value: object, where: str) -> tuple[Any, ...]:
        return tuple(each(reader, "one value a layer")(value if isinstance(value, list) else [value], where))

    return read
