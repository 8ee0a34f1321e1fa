"""Efficiency figures that papers printed, with their scenarios: one TOML file a paper.

A new paper is a new file in ``data/published``. Figures are strings, verbatim, so that the digits
printed are known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.strict import strict_dataclass
from asymsim.util.units import GIGA, MEGA, MIB, MILLI, TERA

UNITS = {
    "FLOP": 1,
    "GFLOP": GIGA,
    "TFLOP": TERA,
    "MB": MEGA,
    "MiB": MIB,
    "tokens": 1,
    "%": 0.01,
    "x": 1,
    "s": 1,
    "ms": MILLI,
}

_FOLDER = Path(__file__).parent / "data" / "published"


@strict_dataclass
class Figure:
    """One printed number.

    Attributes
    ----------
    published : str
        As printed.
    method : str
        The pruning method, or "none".
    keep : str, optional
        Its kept share, such as "0.25" or "64/576".
    settings : mapping
        Its further settings.
    """

    published: str
    method: str = "none"
    keep: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The printed number."""
        return float(self.published)

    @property
    def half_digit(self) -> float:
        """Half a unit of the last printed digit."""
        exponent = Decimal(self.published).as_tuple().exponent
        assert isinstance(exponent, int)
        return 0.5 * 10.0**exponent

    @property
    def kept_share(self) -> float | None:
        """``keep`` as a number."""
        return None if self.keep is None else float(Fraction(self.keep))


@strict_dataclass
class Table:
    """Figures of one table, or of a passage, that share their setting.

    Attributes
    ----------
    where : str
        The table or passage that prints them.
    quantity, unit : str
        Names in ``quantities.QUANTITIES`` and ``UNITS``.
    figures : tuple of Figure
    model, gpu, convention : str
        As in a ``Scenario``.
    visual_tokens, text_tokens, output_tokens : int
        Of one request; no text tokens where the source leaves text out.
    inferred : str
        Conditions that the source does not print, taken from elsewhere.
    why : str
        Why the computed figure differs, where it does.
    underdetermined : bool
        Whether the source leaves out a condition of the figure, so that nobody can recompute it.
    """

    where: str
    quantity: str
    unit: str
    figures: tuple[Figure, ...]
    model: str
    visual_tokens: int
    text_tokens: int | None = None
    output_tokens: int = 1
    gpu: str = "a100_80gb_sxm"
    convention: str = "exact"
    inferred: str = ""
    why: str = ""
    underdetermined: bool = False

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UnknownNameError("unit", self.unit, UNITS)
        if self.underdetermined and not self.why:
            raise InputError("why", self.why, f"say what is missing for {self.where!r}")


@strict_dataclass
class Paper:
    """A paper's name, its arXiv number and its figures."""

    name: str
    arxiv: str
    tables: tuple[Table, ...]


def read_paper(path: Path) -> Paper:
    """Read one file of figures.

    Raises
    ------
    InputError
        If it cannot be read, or has a key that is unknown, missing or of the wrong kind.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        paper = TypeAdapter(Paper).validate_python(raw, strict=False)
        for figure in (figure for table in paper.tables for figure in table.figures):
            _ = figure.half_digit, figure.kept_share
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(where, first["input"], f"{first['msg'].lower()} (in {path.name})") from None
    except (OSError, ValueError, ZeroDivisionError, InvalidOperation) as error:
        raise InputError("published", path.name, f"cannot be read ({error})") from None
    return paper


def papers() -> list[Paper]:
    """All papers whose figures we hold, in the order of their file names."""
    return [read_paper(path) for path in sorted(_FOLDER.glob("*.toml"))]
