"""Flags that several commands share, and the checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from asymsim.cli import flags
from asymsim.cli.terminal import Format, say

if TYPE_CHECKING:
    from asymsim.serving.power import Tariff

WORKLOAD = Group("Workload", sort_key=2)
LIMITS = Group("Limits and prices", sort_key=5)
MAX_THREADS = 1024
# Fields of a scenario that say what every request asks for; a mix or a trace says it instead.
REQUEST_FIELDS = ("text_tokens", "output_tokens", "visual_tokens")
# A mix says these as well; a trace may leave them to the scenario.
IMAGE_FIELDS = ("num_images", "image_height", "image_width")

FormatFlag = Annotated[
    Format | None,
    Parameter(
        group=flags.OUTPUT,
        help="Form of the result: table, json or csv; by default by the ending of --out, otherwise table.",
    ),
]
OutFlag = Annotated[str | None, Parameter(group=flags.OUTPUT, help="File for the result, instead of stdout.")]
SETTINGS = "Further settings of the methods, written method.setting=value, such as fastv.layer=3."

TtftFlag = Annotated[float | None, Parameter(group=LIMITS, help="Limit of the time to the first token, milliseconds.")]
TpotFlag = Annotated[
    float | None, Parameter(group=LIMITS, help="Limit of the time for each token after the first, milliseconds.")
]
E2eFlag = Annotated[float | None, Parameter(group=LIMITS, help="Limit of the time to the last token, milliseconds.")]
PriceFlag = Annotated[
    str | None,
    Parameter(
        group=LIMITS,
        help="US dollars an hour of one GPU, such as h100_sxm=2.49,l40s=0.9, instead of the catalogue's list prices of "
        "one day.",
    ),
]
IdleShareFlag = Annotated[
    float | None,
    Parameter(group=LIMITS, help="Power of a waiting GPU as a share of its power limit; 0.17 by default."),
]


def refuse_request_fields(scenario_values: Mapping[str, Any], workload: str | None, trace: str | None) -> None:
    """Refuse flags of a scenario that its mix or trace states for each request.

    Raises
    ------
    InputError
        If there is one.
    """
    from asymsim.util.errors import InputError

    if not (workload or trace):
        return
    for field in REQUEST_FIELDS + (IMAGE_FIELDS if workload else ()):
        if field in scenario_values:
            raise InputError(field, scenario_values[field], f"{workload or trace} says this; leave it out")


def refuse_file_as_folder(out: str | None) -> None:
    """Refuse a file as ``--out`` of a command that writes several, before it has worked for minutes."""
    from asymsim.util.errors import InputError

    if out is not None and Path(out).is_file():
        raise InputError("out", out, "is a file; give a folder")


def refuse_without_folder(flag: str, given: bool, out: str | None) -> None:
    """Refuse a flag that asks for a further file where there is no folder for it."""
    from asymsim.util.errors import InputError

    if given and out is None:
        raise InputError(flag, True, "name a folder for it with --out")


def check_threads(workers: int | None) -> None:
    """Refuse a number of threads out of range."""
    from asymsim.util.errors import InputError

    if workers is not None and not 1 <= workers <= MAX_THREADS:
        raise InputError("workers", workers, f"give 1 to {MAX_THREADS} threads")


def parse_tariff(price: str | None, idle_share: float | None) -> Tariff:
    """The prices and the idle power of the user, or the defaults."""
    from asymsim.serving.power import IDLE_SHARE, Tariff, read_prices

    prices = {} if price is None else read_prices(price)
    return Tariff(prices=prices, idle_share=IDLE_SHARE if idle_share is None else idle_share)


def write_folder(out: str, contents: Mapping[str, str | bytes]) -> None:
    """Write finished files into a folder, and say so."""
    from asymsim.util.files import make_folder, write_file

    folder = make_folder(out)
    for name, content in contents.items():
        write_file(folder / name, content)
    say(f"wrote {', '.join(contents)} in {folder}")
