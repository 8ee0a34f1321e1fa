"""Mix files: mixes of requests from TOML, shipped with the package or user-supplied."""

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
    """Names of the shipped mixes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_mix(name_or_path: str) -> Mix:
    """Mix by name, or from a TOML file; ``docs/workloads.md`` lists the keys.

    Raises
    ------
    UnknownNameError
        If the text is neither a name nor a file.
    InputError
        If the file cannot be read, is not TOML, or has an unknown key or a value of the wrong type or range.
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
    """Mix of a parsed file."""
    shapes = content.get("shapes")
    shared = {key: value for key, value in content.items() if key != "shapes"}
    if shapes is None:
        return Mix(name, (_mix_class({"weight": 1, **shared}, name, name),))
    if not isinstance(shapes, list) or not shapes or not all(isinstance(shape, Mapping) for shape in shapes):
        raise InputError(f"{name}: shapes", shapes, "give one [[shapes]] table or more")
    classes = []
    for position, shape in enumerate(shapes, start=1):
        # Shared columns come first, so that a shape's columns replace them.
        content = {**{key: value for key, value in shared.items() if key not in shape}, **shape}
        classes.append(_mix_class(content, f"{name}: shapes {position}", f"shape {position}"))
    if not sum(mix_class.weight for mix_class in classes):
        raise InputError(f"{name}: shapes: weight", 0, "give one shape a weight above 0")
    return Mix(name, tuple(classes))


def _mix_class(content: Mapping[str, Any], where: str, name: str) -> MixClass:
    settings: dict[str, Reader] = {
        "name": _quoted_name,
        "weight": _weight,
        "image_reuse": share,
        "image_window": integer(1),
    }
    column_readers = {key: _unread_column for key in content if key not in settings and _column_names(key) is not None}
    values = table(content, where, {**dict.fromkeys(COLUMNS, _unread_column), **settings, **column_readers})
    need(values, ("weight",), where)
    columns = tuple(_sampled_column(key, value, where) for key, value in values.items() if key not in settings)
    check_images(columns, where)
    return MixClass(
        values.get("name", name),
        values["weight"],
        columns,
        image_reuse=float(values.get("image_reuse", 0)),
        image_window=values.get("image_window", WINDOW),
    )


def _column_names(key: str) -> tuple[str, ...] | None:
    """Columns named by a key such as "image_height, image_width"; None where one is unknown or repeated."""
    columns = tuple(part.strip() for part in key.split(","))
    return columns if len(set(columns)) == len(columns) and set(columns) <= set(COLUMNS) else None


def _unread_column(value: object, where: str) -> object:
    """The value as it stands; `_sampled_column` reads it with its key."""
    return value


def _sampled_column(key: str, content: object, where: str) -> SampledColumn:
    columns = _column_names(key)
    assert columns is not None
    where = f"{where}: {key}"
    if isinstance(content, Mapping) and "distribution" in content:
        if len(columns) > 1:
            raise InputError(where, dict(content), "give a list with one value a field for each choice")
        return SampledColumn(columns, read_distribution(content, where, True, COLUMNS[columns[0]]))
    if isinstance(content, Mapping):
        return SampledColumn(columns, _empirical(columns, content, where))
    if isinstance(content, list):
        return SampledColumn(columns, _empirical(columns, {"values": content}, where))
    return SampledColumn(columns, EmpiricalDistribution((_column_values(columns, content, where),), (1.0,)))


def _empirical(columns: tuple[str, ...], content: Mapping[str, Any], where: str) -> EmpiricalDistribution:
    readers: dict[str, Reader] = {
        "values": each(lambda value, where: _column_values(columns, value, where), "values"),
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


def _column_values(columns: tuple[str, ...], value: object, where: str) -> tuple[int, ...]:
    items = value if len(columns) > 1 else [value]
    if not isinstance(items, list) or len(items) != len(columns):
        raise InputError(where, value, f"give {len(columns)} values, for {' and '.join(columns)}")
    return tuple(integer(*COLUMNS[field])(item, where) for field, item in zip(columns, items, strict=True))


def _weight(value: object, where: str) -> float:
    weight = float(number(value, where))
    if not 0 <= weight <= 1e12:
        raise InputError(where, value, "give a number from 0 to 1e12")
    return weight


def _quoted_name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(where, value, "give a name in quotes")
    return value
