"""Documents as they are kept, one line of JSON each, and their comparison.

Whole numbers, texts and times of whole ticks must agree exactly, other numbers to `RELATIVE`: powers and logarithms may
end in other last bits on another processor.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENTRIES = Path(__file__).parent / "entries"
RELATIVE = 1e-8
# Digits that are kept of a number that is no whole tick; more than `RELATIVE` sees.
DIGITS = 10
# Simulated and predicted times are whole multiples of 2**-42 s.
TICKS_PER_S = 2.0**42
# Beyond it any number is a whole multiple.
LONGEST_TICKS = 2.0**52
RUNS = "runs"
TICKS = " t"
# Marks between the commands of a text file, and between the parts of one.
COMMAND, STDERR, EXIT = "==== asymsim ", "---- stderr\n", "---- exit "
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])|(?<![\w.])[-+]?\d+e[-+]?\d+(?![\w.])")


def kept(value: Any, ticks: bool = False) -> Any:
    """A document as it is kept: long lists of numbers as [how often, number], times of whole ticks as "n t"."""
    if isinstance(value, Mapping):
        return {str(key): kept(each, _is_time(str(key))) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return kept(value.tolist(), ticks)
    if isinstance(value, list | tuple):
        return _runs(value, ticks) if len(value) > 8 and _numeric(value) else [kept(each, ticks) for each in value]
    if isinstance(value, float):
        return _number(value, ticks)
    return value


def _is_time(key: str) -> bool:
    return key in ("p50", "seconds") or (key.endswith("_s") and not key.endswith("_per_s"))


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _runs(values: Sequence[float], ticks: bool) -> Any:
    runs = [[len(list(equal)), kept(value, ticks)] for value, equal in itertools.groupby(values)]
    return {RUNS: runs} if 2 * len(runs) < len(values) else [kept(each, ticks) for each in values]


def _number(value: float, ticks: bool) -> Any:
    if not math.isfinite(value):
        return str(value)
    count = value * TICKS_PER_S
    if ticks and value and abs(count) < LONGEST_TICKS and count == int(count):
        return f"{int(count)}{TICKS}"
    return float(f"{value:.{DIGITS}g}")


def number(value: Any) -> float:
    """A kept number as one of seconds or of its own unit; 0 for anything else."""
    if isinstance(value, str) and value.endswith(TICKS) and value.removesuffix(TICKS).isdigit():
        return int(value.removesuffix(TICKS)) / TICKS_PER_S
    return float(value) if isinstance(value, int | float) else 0.0


def digest(values: Iterable[Any]) -> str:
    """A hash of values, by their text."""
    return hashlib.sha256("\n".join(map(str, values)).encode()).hexdigest()[:20]


def differences(golden: Any, found: Any, path: str = "") -> Iterator[str]:
    """Each place where two kept documents differ, with both values."""
    if isinstance(golden, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*golden, *found)):
            place = f"{path}.{key}" if path else key
            if key not in found or key not in golden:
                yield f"{place}: only in {'the golden entry' if key in golden else 'the result'}"
            else:
                yield from differences(golden[key], found[key], place)
    elif isinstance(golden, list) and isinstance(found, list) and len(golden) == len(found):
        for number, (one, other) in enumerate(zip(golden, found, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif isinstance(golden, str) and isinstance(found, str) and "\n" in golden + found:
        yield from _text_differences(golden, found, path)
    elif not _same(golden, found):
        yield f"{path}: golden {_short(golden)}, now {_short(found)}"


def _same(golden: Any, found: Any) -> bool:
    if isinstance(golden, float) and isinstance(found, int | float) and not isinstance(found, bool):
        return math.isclose(golden, found, rel_tol=RELATIVE)
    if isinstance(golden, str) and isinstance(found, str) and golden != found:
        return _same_text(golden, found)
    return type(golden) is type(found) and bool(golden == found)


def _same_text(golden: str, found: str) -> bool:
    """Texts that agree but for last digits of numbers with a decimal point."""
    if _NUMBER.sub("#", golden) != _NUMBER.sub("#", found):
        return False
    pairs = zip(_NUMBER.findall(golden), _NUMBER.findall(found), strict=True)
    return all(math.isclose(float(one), float(other), rel_tol=RELATIVE) for one, other in pairs)


def _text_differences(golden: str, found: str, path: str) -> Iterator[str]:
    for number, (one, other) in enumerate(itertools.zip_longest(golden.splitlines(), found.splitlines()), 1):
        if one is None or other is None or not _same_text(one, other):
            yield f"{path} line {number}:\n      golden {_short(one)}\n      now    {_short(other)}"


def _short(value: Any, limit: int = 240) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def read(group: str) -> dict[str, Any]:
    """The golden entries of a group by name."""
    path = path_of(group)
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return dict(map(_read_command, text.split(COMMAND)[1:]))
    entries = map(json.loads, text.splitlines())
    return {entry["name"]: entry["golden"] for entry in entries}


def write(group: str, entries: Mapping[str, Any]) -> None:
    """Keep the entries of a group: documents one a line, output of commands as it is printed."""
    path = path_of(group)
    if path.suffix == ".txt":
        text = "".join(_command_text(name, entry) for name, entry in entries.items())
    else:
        lines = (
            json.dumps({"name": name, "golden": entry}, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
            for name, entry in entries.items()
        )
        text = "".join(f"{line}\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def path_of(group: str) -> Path:
    """The file of a group."""
    return ENTRIES / f"{group}.{'txt' if group.startswith('command') else 'jsonl'}"


def _command_text(name: str, entry: Mapping[str, Any]) -> str:
    for stream in ("stdout", "stderr"):
        assert entry[stream] == "" or entry[stream].endswith("\n"), f"{name}: {stream} ends within a line"
    return f"{COMMAND}{name}\n{entry['stdout']}{STDERR}{entry['stderr']}{EXIT}{entry['exit']}\n\n"


def _read_command(section: str) -> tuple[str, dict[str, Any]]:
    name, _, rest = section.partition("\n")
    stdout, _, rest = rest.partition(STDERR)
    stderr, _, code = rest.partition(EXIT)
    return name, {"stdout": stdout, "stderr": stderr, "exit": int(code)}
