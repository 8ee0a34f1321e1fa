"""Flags that several commands share."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from asymsim.cli import flags
from asymsim.cli.terminal import Format

FormatFlag = Annotated[
    Format | None,
    Parameter(
        group=flags.OUTPUT, help="How results are written: table, json or csv; by default as --out ends, or table."
    ),
]
OutFlag = Annotated[str | None, Parameter(group=flags.OUTPUT, help="File for the result, instead of stdout.")]
SETTINGS = "Further settings of the methods, written method.setting=value, such as fastv.layer=3."
