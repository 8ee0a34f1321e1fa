"""Published accuracy under pruning, one TOML file a paper, and a user's table as CSV.

Accuracy is data, never a result: asymsim predicts cost, and lists measured losses of accuracy beside it. A new paper is
a new file in ``data/accuracy``. Figures are strings, verbatim.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.strict import strict_dataclass

MEANINGS = {
    "count": "share of the visual tokens that enter the language model",
    "mean": "mean share of the visual tokens over the language model's layers",
    "text": "share of the generated text that stays",
}
COLUMNS = ("method", "model", "benchmark", "meaning", "budget", "accuracy", "dense", "source")
OPTIONAL = ("variant", "scale", "visual_tokens")

_FOLDER = Path(__file__).parent / "data" / "accuracy"


@strict_dataclass
class Accuracy:
    """One measured accuracy of a pruned model.

    Attributes
    ----------
    method, model : str
        As asymsim names them; a name outside its registry or catalogue stands for itself.
    benchmark : str
        Name of the benchmark, or of the average over several.
    meaning : str
        Quantity of which ``budget`` is a share: one of ``MEANINGS``.
    budget : float
        In (0, 1].
    accuracy, dense : float
        Accuracy of the pruned and of the unpruned model, from 0 to ``scale``; ``dense`` is None where it is not given.
    source : str
        Paper or author, and the place of the figure.
    variant : str
        Difference from the method's defaults in asymsim.
    scale : float
        The best possible accuracy, such as 100 for per cent.
    visual_tokens : int, optional
        Visual tokens of the unpruned model.
    inferred : str
        Values that the source does not print.
    """

    method: str
    model: str
    benchmark: str
    meaning: str
    budget: float
    accuracy: float
    dense: float | None
    source: str
    variant: str = ""
    scale: float = 100.0
    visual_tokens: int | None = None
    inferred: str = ""

    def __post_init__(self) -> None:
        for name in ("method", "model", "benchmark", "source"):
            if not getattr(self, name).strip():
                raise InputError(name, getattr(self, name), "must not be empty")
        if self.meaning not in MEANINGS:
            raise UnknownNameError("meaning", self.meaning, MEANINGS)
        if not 0 < self.budget <= 1:
            raise InputError("budget", self.budget, "give a share above 0, at most 1, such as 0.5 or 64/576")
        if not 0 < self.scale < math.inf:
            raise InputError("scale", self.scale, "give the best possible accuracy, such as 100")
        # A share of the unpruned accuracy may exceed 1, so an average of such shares may exceed 100.
        highest = 2 * self.scale if self.dense == self.scale else self.scale
        if not 0 <= self.accuracy <= highest:
            raise InputError("accuracy", self.accuracy, f"must lie between 0 and {highest:g}")
        if self.dense is not None and not 0 < self.dense <= self.scale:
            raise InputError("dense", self.dense, f"must lie above 0, at most {self.scale:g}")
        if self.visual_tokens is not None and self.visual_tokens < 1:
            raise InputError("visual_tokens", self.visual_tokens, "give at least 1")

    @property
    def share_kept(self) -> float | None:
        """Accuracy over the unpruned model's; above 1 where pruning helped, None where ``dense`` is."""
        return None if self.dense is None else self.accuracy / self.dense


@strict_dataclass
class _Figure:
    method: str
    budget: str
    accuracy: str
    variant: str = ""


@strict_dataclass
class _Table:
    where: str
    model: str
    benchmark: str
    meaning: str
    figures: tuple[_Figure, ...]
    dense: str | None = None
    scale: float = 100.0
    visual_tokens: int | None = None
    inferred: str = ""


@strict_dataclass
class _Paper:
    name: str
    arxiv: str
    tables: tuple[_Table, ...]


def read_paper(path: Path) -> list[Accuracy]:
    """Published figures of one paper's file.

    Raises
    ------
    InputError
        If it cannot be read, a key is unknown, missing or of the wrong kind, or a figure is out of range.
    """
    try:
        paper = TypeAdapter(_Paper).validate_python(tomllib.loads(path.read_text(encoding="utf-8")), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(where, first["input"], f"{first['msg'].lower()} (in {path.name})") from None
    except (OSError, ValueError) as error:
        raise InputError("accuracy", path.name, f"cannot be read ({error})") from None
    return [
        _entry(
            f"{path.name}, {table.where!r}, figure {number}",
            {
                "method": figure.method,
                "model": table.model,
                "benchmark": table.benchmark,
                "meaning": table.meaning,
                "budget": figure.budget,
                "accuracy": figure.accuracy,
                "dense": table.dense or "",
                "source": f"{paper.name}, arXiv {paper.arxiv}, {table.where}",
                "variant": figure.variant,
                "scale": str(table.scale),
                "visual_tokens": str(table.visual_tokens or ""),
                "inferred": table.inferred,
            },
        )
        for table in paper.tables
        for number, figure in enumerate(table.figures, start=1)
    ]


def published_accuracy() -> list[Accuracy]:
    """All published figures of the catalogue, in the order of the files' names."""
    return [entry for path in sorted(_FOLDER.glob("*.toml")) for entry in read_paper(path)]


def read_accuracy(path: str) -> list[Accuracy]:
    """A user's table: a CSV with the columns ``COLUMNS``, and any of ``OPTIONAL``, in any order.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing or unknown, or a row is malformed: its line and column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise InputError("accuracy", path, f"cannot be read ({error.strerror or error})") from None
    # Not UTF-8 and a NUL in the path are ValueErrors.
    except (ValueError, csv.Error) as error:
        raise InputError("accuracy", path, f"is no CSV ({error})") from None
    header = _header(path, lines[0] if lines else [])
    if len(lines) == 1:
        raise InputError("accuracy", path, "holds no row below its header")
    entries = []
    for number, cells in enumerate(lines[1:], start=2):
        where = f"{path}, row {number}"
        if len(cells) != len(header):
            raise InputError(where, len(cells), f"must have {len(header)} columns")
        entries.append(_entry(where, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    return entries


def _header(path: str, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    for column in header:
        if column not in (*COLUMNS, *OPTIONAL):
            raise UnknownNameError(f"{path}: column", column, (*COLUMNS, *OPTIONAL))
    missing = [column for column in COLUMNS if column not in header]
    if missing or len(set(header)) < len(header):
        wrong = f"lacks {', '.join(missing)}" if missing else "names a column twice"
        raise InputError("accuracy", path, f"its first line {wrong}")
    return header


def _entry(where: str, cells: Mapping[str, str]) -> Accuracy:
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(Accuracy)):
        text = cells.get(name, "")
        if name in ("budget", "accuracy", "dense", "scale", "visual_tokens"):
            if not text and name in ("scale", "visual_tokens", "dense"):
                if name == "dense":
                    values[name] = None
                continue
            values[name] = _number(where, name, text)
        else:
            values[name] = text
    try:
        return Accuracy(**values)
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.remedy) from None


def _number(where: str, name: str, text: str) -> float | int:
    try:
        if name == "visual_tokens":
            return int(text)
        return float(Fraction(text)) if name == "budget" else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"{where}: {name}", text, "give a number") from None
