"""Mixes of requests from TOML: those that come with the package, and a user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from asymsim.serving.workload.mixes import (
    COLUMNS,
    WINDOW,
    EmpiricalDistribution,
    Mix,
    MixClass,
    SampledColumn,
    check_images,
)
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.sampling import read_distribution
from asymsim.util.toml import Reader, each, integer, need, number, share, table

_FOLDER = Path(__file__).parent / "data" / "mixes"


@cache
def mix_names() -> tuple[str, ...]:
    """Names of the mixes that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_mix(name_or_path: str) -> Mix:
    """A mix by name, or from a TOML file; ``docs/workloads.md`` lists the keys.

    Raises
    ------
    UnknownNameError
        If it is neither a name nor a file.
    InputError
        If the file cannot be read, is no TOML, or has an unknown key or a value of the wrong kind or range.
    """
    name = name_or_path.lower()
    path = _FOLDER / f"{name}.toml" if name in mix_names() else Path(name_or_path)
    if path.suffix != ".toml" and path.name == name_or_path and not path.exists():
        raise UnknownNameError("workload", name_or_path, mix_names())
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputError("workload", name_or_path, f"no such file; give one, or {', '.join(mix_names())}") from None
    except UnicodeDecodeError as error:
        raise InputError("workload", name_or_path, f"not UTF-8 at byte {error.start}; save it as UTF-8 text") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError("workload", name_or_path, f"{reason}; give a TOML file") from None
    return parse_mix(content, name_or_path)


def parse_mix(content: Mapping[str, Any], name: str = "workload") -> Mix:
    """The mix that a parsed file describes."""
    kinds = content.get("shapes")
    shared = {key: value for key, value in content.items() if key != "shapes"}
    if kinds is None:
        return Mix(name, (_kind({"weight": 1, **shared}, name, name),))
    if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, Mapping) for kind in kinds):
        raise InputError(f"{name}: shapes", kinds, "give one [[shapes]] table or more")
    made = []
    for place, kind in enumerate(kinds, start=1):
        where = f"{name}: shapes {place}"
        # What the shapes share comes first, so that a shape's own columns replace it.
        made.append(_kind({**{key: shared[key] for key in shared if key not in kind}, **kind}, where, f"shape {place}"))
    if not sum(kind.weight for kind in made):
        raise InputError(f"{name}: shapes: weight", 0, "give one shape a weight above 0")
    return Mix(name, tuple(made))


def _kind(content: Mapping[str, Any], where: str, name: str) -> MixClass:
    settings: dict[str, Reader] = {
        "name": _text,
        "weight": _weight,
        "image_reuse": share,
        "image_window": integer(1),
    }
    columns = {key: _column for key in content if key not in settings and _fields(key) is not None}
    values = table(content, where, {**dict.fromkeys(COLUMNS, _column), **settings, **columns})
    need(values, ("weight",), where)
    made = tuple(_read(key, value, where) for key, value in values.items() if key not in settings)
    check_images(made, where)
    return MixClass(
        values.get("name", name),
        values["weight"],
        made,
        image_reuse=float(values.get("image_reuse", 0)),
        image_window=values.get("image_window", WINDOW),
    )


def _fields(key: str) -> tuple[str, ...] | None:
    """The columns that a key such as "image_height, image_width" names, or None."""
    fields = tuple(part.strip() for part in key.split(","))
    return fields if len(set(fields)) == len(fields) and set(fields) <= set(COLUMNS) else None


def _column(value: object, where: str) -> object:
    """Read once its fields are known."""
    return value


def _read(key: str, content: object, where: str) -> SampledColumn:
    fields = _fields(key)
    assert fields is not None
    where = f"{where}: {key}"
    if isinstance(content, Mapping) and "distribution" in content:
        if len(fields) > 1:
            raise InputError(where, dict(content), "give a list with one value a field for each choice")
        return SampledColumn(fields, read_distribution(content, where, True, COLUMNS[fields[0]]))
    if isinstance(content, Mapping):
        return SampledColumn(fields, _weighted(fields, content, where))
    if isinstance(content, list):
        return SampledColumn(fields, _weighted(fields, {"values": content}, where))
    return SampledColumn(fields, EmpiricalDistribution((_item(fields, content, where),), (1.0,)))


def _weighted(fields: tuple[str, ...], content: Mapping[str, Any], where: str) -> EmpiricalDistribution:
    readers: dict[str, Reader] = {
        "values": each(lambda value, where: _item(fields, value, where), "values"),
        "weights": each(_weight, "weights, one a value"),
        "seed": integer(0, 2**62),
    }
    values = table(content, where, readers)
    need(values, ("values",), where)
    choices = values["values"]
    weights = values.get("weights", (1.0,) * len(choices))
    if not choices:
        raise InputError(where, [], "give one value or more")
    if len(weights) != len(choices) or not sum(weights):
        raise InputError(f"{where}: weights", list(weights), f"give {len(choices)} weights, one above 0")
    return EmpiricalDistribution(choices, weights, values.get("seed", 0))


def _item(fields: tuple[str, ...], value: object, where: str) -> tuple[int, ...]:
    items = value if len(fields) > 1 else [value]
    if not isinstance(items, list) or len(items) != len(fields):
        raise InputError(where, value, f"give {len(fields)} values, for {' and '.join(fields)}")
    return tuple(integer(*COLUMNS[field])(item, where) for field, item in zip(fields, items, strict=True))


def _weight(value: object, where: str) -> float:
    weight = float(number(value, where))
    if not 0 <= weight <= 1e12:
        raise InputError(where, value, "give a number from 0 to 1e12")
    return weight


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(where, value, "give a name in quotes")
    return value
