"""The command line's flags: the fields of a ``Scenario`` and its like, described where they are defined alone."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import cyclopts
from cyclopts import Group, Parameter
from pydantic import ValidationError

from asymsim.errors import InputError
from asymsim.scenario import Scenario

SCENARIO = Group("Scenario", sort_key=1)
COMPARISON = Group("Comparison", sort_key=2)
OUTPUT = Group("Output", sort_key=9)
ALIASES = {"text_tokens": "--isl", "output_tokens": "--osl", "num_requests": "--limit"}
FLAGS = {"settings": "--set", "concurrency": "--target-concurrency"}
_Kind = TypeVar("_Kind")
_SHAPES = {
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "int_parsing_size": "give a whole number of fewer digits",
    "float_parsing": "give a number",
}


def scenario_command(
    *,
    without: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    also: Sequence[tuple[type, Group]] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of ``Scenario`` as flags.

    The command takes the values that were given as a first argument, a dictionary of strings to be
    checked by `scenario`, and flags of its own as keywords. For each class of ``also`` it takes a further
    dictionary, to be checked by `made`.

    Parameters
    ----------
    without : sequence of str
        Fields that make no sense for this command.
    texts : mapping
        Help of the fields that mean something else here, such as several models joined by commas.
    also : sequence of (type, Group)
        Further dataclasses whose fields are flags too, and the heading of these in the help.
    """
    kinds = ((Scenario, SCENARIO), *also)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())[len(kinds) :]
        hints = get_type_hints(command, include_extras=True)

        def wrapper(**values: Any) -> None:
            given = [{name: values.pop(name) for name in names if name in values} for names in fields]
            command(*given, **values)

        shown = [
            [_flag(kind, field, group, texts or {}) for field in dataclasses.fields(kind) if field.name not in without]
            for kind, group in kinds
        ]
        fields = [[flag.name for flag in flags] for flags in shown]
        parameters = [flag for flags in shown for flag in flags] + [
            each.replace(annotation=hints[each.name]) for each in own
        ]
        parameters.sort(key=lambda each: each.default is not inspect.Parameter.empty)
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return decorate


def _flag(kind: type, field: dataclasses.Field[Any], group: Group, texts: Mapping[str, str]) -> inspect.Parameter:
    """One field as a flag that hands on what was typed, so that the class alone judges values."""
    names = [FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")]
    names += [ALIASES[field.name]] if field.name in ALIASES else []
    text = texts.get(field.name, descriptions(kind).get(field.name, ""))
    hint: Any = get_type_hints(kind)[field.name]
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if field.name == "settings":
        how = Parameter(name=names, help=text, group=group, negative="", show_default=False)
        hint, default = list[str] | None, None
    elif hint is bool:
        how = Parameter(name=names, help=text, group=group)
    else:
        how = Parameter(name=names, help=text, group=group, converter=_as_typed)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, how]
    )


def _as_typed(_hint: Any, tokens: Sequence[Any]) -> Any:
    return tokens[0].value


@cache
def descriptions(kind: type = Scenario) -> dict[str, str]:
    """What the docstring of a class says of each field."""
    texts: dict[str, str] = {}
    names: list[str] = []
    # Under ``python -OO`` there is no docstring, and help without descriptions is still help.
    for line in (inspect.getdoc(kind) or "").partition("----------")[2].splitlines():
        if " : " in line and not line.startswith(" "):
            names = line.split(" : ")[0].split(", ")
        elif line.startswith(" "):
            texts.update({name: f"{texts.get(name, '')} {line.strip()}".strip() for name in names})
    return {name: text.replace("``", "") for name, text in texts.items()}


def scenario(given: Mapping[str, Any], **more: Any) -> Scenario:
    """Check the values of flags.

    Raises
    ------
    InputError
        If one has the wrong form or is out of range.
    """
    values = {**given, **more}
    if "settings" in values:
        values["settings"] = settings(values["settings"] or ())
    return made(Scenario, values)


def made(kind: type[_Kind], given: Mapping[str, Any]) -> _Kind:
    """A dataclass from the values of flags.

    Raises
    ------
    InputError
        If one has the wrong form or is out of range.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field, message = str(first["loc"][0]), first["msg"][0].lower() + first["msg"][1:]
        raise InputError(field, first["input"], _SHAPES.get(first["type"], message)) from None


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``layer=2`` and the like as a mapping; values as TOML writes them, lists also without brackets.

    Raises
    ------
    InputError
        If a pair has no name or no "=", or a name comes twice.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError("set", pair, "write name=value, such as layer=2")
        if name.strip() in result:
            raise InputError("set", pair, "this setting is given twice")
        result[name.strip()] = _value(value.strip())
    return result


def _value(text: str) -> Any:
    for written in (text, f"[{text}]" if "," in text else text):
        try:
            value = tomllib.loads(f"value = {written}")["value"]
        except (ValueError, RecursionError):
            continue
        flat = value if isinstance(value, list) else [value]
        if all(isinstance(each, (bool, int, float, str)) for each in flat):
            return value
    return text


def names(text: str, field: str) -> list[str]:
    """Names joined by commas, each once.

    Raises
    ------
    InputError
        If there is none.
    """
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise InputError(field, text, "give one name, or several joined by commas")
    return found


def numbers(text: str, field: str) -> list[float]:
    """Numbers joined by commas.

    Raises
    ------
    InputError
        If one is no number.
    """
    result = []
    for part in names(text, field):
        try:
            result.append(float(part))
        except ValueError:
            raise InputError(field, part, "give numbers joined by commas") from None
    return result


def whole_numbers(text: str, field: str) -> list[int]:
    """Whole numbers above 0, joined by commas.

    Raises
    ------
    InputError
        If one is none.
    """
    found = numbers(text, field)
    for number in found:
        if number < 1 or number != int(number):
            raise InputError(field, number, "give whole numbers above 0, joined by commas")
    return [int(number) for number in found]


def explain(error: cyclopts.CycloptsError) -> str:
    """A mistake in the command line itself in one line: the flag, the value and what would be right."""
    argument = error.argument
    flag = argument.name if argument is not None else ""
    if isinstance(error, cyclopts.UnknownOptionError):
        typed = error.token.keyword or error.token.value
        known = [name for each in error.argument_collection for name in each.names]
        close = difflib.get_close_matches(typed.split("=")[0], known, n=1)
        return f"{_short(typed)}: no such flag; " + (f"did you mean {close[0]}?" if close else "--help lists all")
    if isinstance(error, cyclopts.MissingArgumentError) and flag:
        text = (argument.parameter.help or "").rstrip(".") if argument is not None else ""
        return f"{flag}: needs a value" + (f" ({text[0].lower()}{text[1:]})" if text else "")
    if isinstance(error, (cyclopts.CoercionError, cyclopts.ValidationError)) and argument is not None:
        typed = argument.tokens[0].value if argument.tokens else ""
        return str(InputError(argument.name.lstrip("-").replace("-", "_"), typed, _remedy(argument.hint)))
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"{_short(' '.join(error.unused_tokens or ()))}: belongs to no flag; write --name value"
    if isinstance(error, cyclopts.RepeatArgumentError):
        return f"{error.token.keyword}: given more than once"
    return _short(" ".join(str(error).split()), 300)


def _remedy(hint: Any) -> str:
    options = [each for each in get_args(hint) or (hint,) if each is not type(None)]
    for wanted, remedy in ((int, "give a whole number"), (float, "give a number"), (bool, "this flag takes no value")):
        if wanted in options:
            return remedy
    choices = [choice for option in options for choice in get_args(option) or (option,)]
    return "give one of " + ", ".join(str(choice) for choice in choices)


def _short(text: str, limit: int = 80) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
