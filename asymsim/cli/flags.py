"""Flags of the command line, made from the fields of ``Scenario`` and its like; their docstrings are the help."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from asymsim.estimator.scenario import Scenario

SCENARIO = Group("Scenario", sort_key=1)
COMPARISON = Group("Comparison", sort_key=2)
OUTPUT = Group("Output", sort_key=9)
ALIASES = {"text_tokens": "--isl", "output_tokens": "--osl", "num_requests": "--limit"}
FLAGS = {"settings": "--set", "concurrency": "--target-concurrency"}


def scenario_command(
    *,
    without: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    also: Sequence[tuple[type, Group]] = (),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of ``Scenario`` as flags.

    The command takes the typed values as its first argument, a dictionary of strings for `parse_scenario`, and its
    other flags as keywords. For each class of ``also`` it takes a further dictionary, for `build`.

    Parameters
    ----------
    without : sequence of str
        Fields that make no sense for this command.
    texts : mapping
        Help of fields with another meaning here, such as several models joined by commas.
    also : sequence of (type, Group)
        Further dataclasses whose fields are flags too, each with its heading in the help.
    """
    classes = ((Scenario, SCENARIO), *also)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command_flags = list(inspect.signature(command).parameters.values())[len(classes) :]
        hints = get_type_hints(command, include_extras=True)
        flags_by_class = [
            [_flag(cls, field, group, texts or {}) for field in dataclasses.fields(cls) if field.name not in without]
            for cls, group in classes
        ]

        def wrapper(**values: Any) -> None:
            values_by_class = [
                {flag.name: values.pop(flag.name) for flag in class_flags if flag.name in values}
                for class_flags in flags_by_class
            ]
            command(*values_by_class, **values)

        parameters = [flag for class_flags in flags_by_class for flag in class_flags]
        parameters += [flag.replace(annotation=hints[flag.name]) for flag in command_flags]
        parameters.sort(key=lambda flag: flag.default is not inspect.Parameter.empty)
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {flag.name: flag.annotation for flag in parameters}
        return wrapper

    return decorate


def _flag(cls: type, field: dataclasses.Field[Any], group: Group, texts: Mapping[str, str]) -> inspect.Parameter:
    """One field as a flag that hands on the typed text, so that the class alone judges values."""
    names = [FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")]
    names += [ALIASES[field.name]] if field.name in ALIASES else []
    text = texts.get(field.name, descriptions(cls).get(field.name, ""))
    hint: Any = get_type_hints(cls)[field.name]
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if field.name == "settings":
        parameter = Parameter(name=names, help=text, group=group, negative="", show_default=False)
        hint, default = list[str] | None, None
    elif hint is bool:
        parameter = Parameter(name=names, help=text, group=group)
    else:
        parameter = Parameter(name=names, help=text, group=group, converter=_as_typed)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, parameter]
    )


def _as_typed(_hint: Any, tokens: Sequence[Any]) -> Any:
    return tokens[0].value


@cache
def descriptions(cls: type = Scenario) -> dict[str, str]:
    """Descriptions of a class's fields, from its docstring."""
    texts: dict[str, str] = {}
    names: list[str] = []
    # Under ``python -OO`` there is no docstring, and help without descriptions is still help.
    for line in (inspect.getdoc(cls) or "").partition("----------")[2].splitlines():
        if " : " in line and not line.startswith(" "):
            names = line.split(" : ")[0].split(", ")
        elif line.startswith(" "):
            texts.update({name: f"{texts.get(name, '')} {line.strip()}".strip() for name in names})
    return {name: text.replace("``", "") for name, text in texts.items()}
