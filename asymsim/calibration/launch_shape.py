"""Shapes of kernel launches, read from texts such as ``queries=4x1024+37;heads=32;causal=1``."""

from __future__ import annotations

import re

from asymsim.util.errors import InputError

_LENGTHS = re.compile(r"(\d{1,7}x)?\d{1,15}(\+(\d{1,7}x)?\d{1,15})*")
MOST_LENGTHS = 100_000
# Longest sequence and widest tensor, so that FLOPs fit in 64 bits.
LARGEST = 2**24


class Shape:
    """Shape of a kernel launch, as measurements and proofs write it; errors name the missing or malformed part.

    Parameters
    ----------
    text : str
        Parts ``key=value`` joined by semicolons. A value is a number, or lengths joined by ``+``; ``BxN`` stands for
        B lengths of N.

    Raises
    ------
    InputError
        If a part is not ``key=value``, or a key comes twice.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._values: dict[str, str] = {}
        for part in filter(None, text.split(";")):
            key, equals, value = part.partition("=")
            if not equals or key in self._values:
                raise InputError("shape", text, f"write {part!r} as key=value, each key once")
            self._values[key] = value

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def lengths(self, key: str, largest: int = LARGEST) -> list[int]:
        """Lengths that a value lists.

        Raises
        ------
        InputError
            If the key is missing, its value is no list of lengths, or there are too many or too large ones.
        """
        value = self._values.get(key, "")
        if not _LENGTHS.fullmatch(value):
            raise InputError("shape", self.text, f"give {key} as a number, or lengths such as 4x1024+37")
        parts = (part.rpartition("x") for part in value.split("+"))
        runs = [(int(times or 1), int(length)) for times, _, length in parts]
        if sum(times for times, _ in runs) > MOST_LENGTHS or max(length for _, length in runs) > largest:
            raise InputError("shape", self.text, f"give {key} as at most {MOST_LENGTHS} lengths up to {largest}")
        return [length for times, length in runs for _ in range(times)]

    def count(self, key: str, default: int | None = None, largest: int = LARGEST) -> int:
        """A single number; the default, if any, where the key is missing.

        Raises
        ------
        InputError
            If the key is missing and has no default, or its value is no single number.
        """
        if default is not None and key not in self:
            return default
        values = self.lengths(key, largest)
        if len(values) != 1:
            raise InputError("shape", self.text, f"give {key} as one number")
        return values[0]

    def pairs(self, first: str, second: str) -> list[tuple[int, int]]:
        """Two lists of lengths of the same sequences, side by side.

        Raises
        ------
        InputError
            If one is longer than the other.
        """
        left, right = self.lengths(first), self.lengths(second)
        if len(left) != len(right):
            raise InputError("shape", self.text, f"give {first} and {second} for the same sequences")
        return list(zip(left, right, strict=True))
