"""Mistakes in the command line, each explained in one line."""

from __future__ import annotations

import difflib
from typing import Any, get_args

import cyclopts

from asymsim.util.errors import InputError


def explain(error: cyclopts.CycloptsError) -> str:
    """A mistake in the command line itself in one line: the flag, the value and the remedy."""
    argument = error.argument
    flag = argument.name if argument is not None else ""
    if isinstance(error, cyclopts.UnknownOptionError):
        typed = error.token.keyword or error.token.value
        flags = [name for argument in error.argument_collection for name in argument.names]
        close = difflib.get_close_matches(typed.split("=")[0], flags, n=1)
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
    options = [option for option in get_args(hint) or (hint,) if option is not type(None)]
    for expected, remedy in (
        (int, "give a whole number"),
        (float, "give a number"),
        (bool, "this flag takes no value"),
    ):
        if expected in options:
            return remedy
    choices = [choice for option in options for choice in get_args(option) or (option,)]
    return "give one of " + ", ".join(str(choice) for choice in choices)


def _short(text: str, limit: int = 80) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
