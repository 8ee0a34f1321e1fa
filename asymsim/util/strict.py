"""Strict dataclasses: fields take their declared types alone, and refuse others with an `InputError`."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import ConfigDict, Field, ValidationError

from asymsim.util.errors import FieldError, InputError, UnknownNameError

Class = TypeVar("Class")

# Strict: True, "5" and b"5" are no numbers, and 5 is no name.
_CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, strict=True)
_REMEDIES = {
    "bool": "give true or false",
    "dict": "give names with their values",
    "float": "give a number",
    "int": "give a whole number",
    "mapping": "give names with their values",
    "string": "give a text",
    "tuple": "give a list",
}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field, Field))
def strict_dataclass(cls: type[Class]) -> type[Class]:
    """A frozen dataclass of keywords whose values have the declared types.

    A whole number may also be one of NumPy's, a number a whole number, and a tuple a list; nothing else is
    converted. A wrong, missing or unknown field raises a `FieldError`, or for an unknown one an `UnknownNameError`.
    """
    made = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    fields = dataclasses.fields(made)
    tuples = {field.name for field in fields if str(field.type).startswith(("tuple", "Annotated[tuple"))}
    validate = made.__init__

    @functools.wraps(validate)
    def init(self: Class, **values: Any) -> None:
        try:
            validate(self, **{name: _plain(value, name in tuples) for name, value in values.items()})
        except ValidationError as error:
            raise refusal(error, [field.name for field in fields]) from None

    made.__init__ = init  # type: ignore[method-assign, assignment]
    return made  # type: ignore[return-value]


def _plain(value: Any, is_tuple: bool) -> Any:
    """NumPy's numbers as Python's, and lists as tuples where the field is one."""
    if is_tuple and isinstance(value, list | tuple):
        return tuple(_plain(item, True) for item in value)
    # bool is a whole number to Python, but its type is none of those that are converted.
    if isinstance(value, numbers.Integral) and not isinstance(value, int):
        return int(value)
    return value


def refusal(error: ValidationError, names: Sequence[str] = ()) -> InputError:
    """The first of pydantic's complaints in one line: the field, the value and the remedy."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "value"
    if first["type"] in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        return UnknownNameError("field", field, names)
    if first["type"] in ("missing", "missing_keyword_only_argument"):
        return FieldError(field, None, "is missing; give it")
    return FieldError(field, first["input"], remedy(first))


def remedy(complaint: Mapping[str, Any]) -> str:
    """Remedy for one of pydantic's complaints."""
    if complaint["type"] == "literal_error":
        return f"give {complaint['ctx']['expected']}"
    if complaint["type"] == "int_parsing_size":
        return "give a whole number of fewer digits"
    message: str = complaint["msg"]
    return _REMEDIES.get(complaint["type"].split("_")[0], message[0].lower() + message[1:])
