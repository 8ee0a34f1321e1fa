"""The command line's flags: the fields of a ``Scenario`` and its like, described where they are defined alone."""

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
