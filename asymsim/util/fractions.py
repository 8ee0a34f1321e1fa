"""Exact fractions from the decimals that people write."""

from __future__ import annotations

from fractions import Fraction

from asymsim.util.errors import InputError


def exact(value: float | str | Fraction, field: str = "keep") -> Fraction:
    """The fraction a person means by a decimal: 0.1 is 1/10, not its nearest binary number."""
    try:
        return value if isinstance(value, Fraction) else Fraction(str(value)).limit_denominator(10**6)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(field, value, "give a number such as 0.25 or 1/3") from error


def share_of_all(value: float | str | Fraction, field: str = "keep") -> Fraction:
    """An exact share in [0, 1].

    Raises
    ------
    InputError
        If it is no number or outside the interval.
    """
    share = exact(value, field)
    if not 0 <= share <= 1:
        raise InputError(field, value, "give a share between 0 and 1")
    return share


def check_at_least(field: str, value: int, lowest: int) -> None:
    if value < lowest:
        raise InputError(field, value, f"give {lowest} or more")
