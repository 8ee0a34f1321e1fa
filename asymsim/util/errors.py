"""Errors about inputs, each one line: the field, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AsymsimError(Exception):
    """Any error a user can cause and mend; the command line prints it and exits with code 2."""


class InputError(AsymsimError):
    """A value that is out of range, of the wrong kind, or that contradicts another one.

    Parameters
    ----------
    field : str
        Name of the field, as the command line and the Python call spell it.
    value : object
        The offending value.
    remedy : str
        The right value or action.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        try:
            shown = repr(value)
        except ValueError:
            # Python refuses to write integers of more than 4300 digits.
            shown = f"a whole number of {int(value).bit_length()} bits" if isinstance(value, int) else "?"
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{field} = {shown}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way from a worker process, whatever the signature of a subclass."""
        return _again, (type(self), self.field, self.value, self.remedy)


def _again(kind: type[InputError], field: str, value: object, remedy: str) -> InputError:
    made = kind.__new__(kind)
    InputError.__init__(made, field, value, remedy)
    return made


class UnknownNameError(InputError):
    """A name that no catalogue or registry holds; says which come close, or all of them."""

    def __init__(self, field: str, value: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(value.lower(), names, n=3, cutoff=0.6)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
        super().__init__(field, value, remedy)


class FieldError(InputError):
    """A field of the wrong type, or without a value."""


class UnsupportedError(InputError):
    """A combination that has no meaning, such as a crop-wise method on a model without crops."""


class MissingExtraError(AsymsimError):
    """Packages are needed that the base install does not bring."""
