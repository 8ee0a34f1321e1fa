"""Values of flags, parsed and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError
from asymsim.util.strict import remedy

_Class = TypeVar("_Class")


def parse_scenario(flag_values: Mapping[str, Any], **more: Any) -> Scenario:
    """A scenario from the values of flags.

    Raises
    ------
    InputError
        If one has the wrong form or is out of range.
    """
    values = {**flag_values, **more}
    if "settings" in values:
        values["settings"] = parse_settings(values["settings"] or ())
    return build(Scenario, values)


def build(cls: type[_Class], flag_values: Mapping[str, Any]) -> _Class:
    """A dataclass from the values of flags, each text converted to its field's type.

    Raises
    ------
    InputError
        If one has the wrong form or is out of range.
    """
    return cls(**{name: _converted(cls, name, value) for name, value in flag_values.items()})


def _converted(cls: type, field: str, value: Any) -> Any:
    """A text as a value of its field's type; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return _adapter(cls, field).validate_python(value)
    except ValidationError as error:
        raise InputError(field, value, remedy(error.errors()[0])) from None


@cache
def _adapter(cls: type, field: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(cls)[field])


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings such as ``layer=2`` as a mapping; values as TOML writes them, lists also without brackets.

    Raises
    ------
    InputError
        If a pair has no name or no "=", or a name comes twice.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError("set", pair, "write name=value, such as layer=2")
        if name.strip() in settings:
            raise InputError("set", pair, "this setting is given twice")
        settings[name.strip()] = _parse_value(value.strip())
    return settings


def _parse_value(text: str) -> Any:
    for toml in (text, f"[{text}]" if "," in text else text):
        try:
            value = tomllib.loads(f"value = {toml}")["value"]
        except (ValueError, RecursionError):
            continue
        flat = value if isinstance(value, list) else [value]
        if all(isinstance(item, (bool, int, float, str)) for item in flat):
            return value
    return text


def parse_names(text: str, field: str) -> list[str]:
    """Names joined by commas, each once.

    Raises
    ------
    InputError
        If there is none.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(field, text, "give one name, or several joined by commas")
    return names


def parse_numbers(text: str, field: str) -> list[float]:
    """Numbers joined by commas.

    Raises
    ------
    InputError
        If one is no number.
    """
    numbers = []
    for part in parse_names(text, field):
        try:
            numbers.append(float(part))
        except ValueError:
            raise InputError(field, part, "give numbers joined by commas") from None
    return numbers


def parse_whole_numbers(text: str, field: str) -> list[int]:
    """Whole numbers above 0, joined by commas.

    Raises
    ------
    InputError
        If one is none.
    """
    numbers = parse_numbers(text, field)
    for number in numbers:
        if number < 1 or number != int(number):
            raise InputError(field, number, "give whole numbers above 0, joined by commas")
    return [int(number) for number in numbers]
