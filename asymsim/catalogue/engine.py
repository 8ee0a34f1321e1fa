"""Serving engines: host time of each engine step, and fusion of quantisation."""

from __future__ import annotations

import math
import tomllib
from functools import lru_cache
from pathlib import Path

from asymsim.util.errors import FieldError, InputError, UnknownNameError
from asymsim.util.strict import strict_dataclass

_DATA = Path(__file__).parent / "data" / "engines.toml"


@strict_dataclass
class Engine:
    """One engine.

    Attributes
    ----------
    host_s, host_p05_s, host_p95_s : float
        Seconds that scheduling, sampling and launching add to an engine step, with the 5 % and 95 % quantiles.
    source : str
    fused_quantisation : bool
        Whether the kernel before a product writes its one-byte activations, instead of a kernel that only quantises.
    """

    name: str
    host_s: float
    host_p05_s: float
    host_p95_s: float
    source: str
    fused_quantisation: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.host_p05_s <= self.host_s <= self.host_p95_s < math.inf:
            interval = f"{self.host_p05_s} <= {self.host_s} <= {self.host_p95_s}"
            raise InputError(f"engine {self.name}: host_s", interval, "must rise from 0 or more, and be finite")


def load_engine(name: str) -> Engine | None:
    """An engine by name, or from a file; None for ``none``, which adds no host time.

    Parameters
    ----------
    name : str
        A name of the catalogue; or the path of a TOML file with one table of the form of the tables in
        ``data/engines.toml``, recognised by its ``.toml`` or by a slash. A file is read anew each time.

    Raises
    ------
    UnknownNameError
        If the catalogue has no such engine.
    InputError
        If the file cannot be read, or holds anything but one engine.
    """
    if name == "none":
        return None
    if name.lower().endswith(".toml") or "/" in name:
        return _read_engine(name)
    if name not in engine_names():
        raise UnknownNameError("engine", name, ("none", *engine_names()))
    return engine_names()[name]


@lru_cache(maxsize=1)
def engine_names() -> dict[str, Engine]:
    """All engines of the catalogue."""
    with _DATA.open("rb") as file:
        return {name: Engine(name=name, **table) for name, table in tomllib.load(file).items()}


def _read_engine(path: str) -> Engine:
    """The single engine of a user's file."""
    try:
        with Path(path).open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise InputError("engine", path, f"cannot be read ({error.strerror}); give a TOML file") from None
    except (ValueError, RecursionError) as error:
        raise InputError("engine", path, f"is no valid TOML: {error}") from None
    if len(tables) != 1 or not isinstance(table := next(iter(tables.values())), dict):
        raise InputError("engine", path, "must hold one table, named as the engine")
    try:
        return Engine(**{**table, "name": next(iter(tables))})
    except FieldError as error:
        raise InputError(f"engine: {error.field}", error.value, f"{error.remedy} (in {path!r})") from None


def engine_text(entry: Engine) -> str:
    """An engine as a TOML table."""
    source = entry.source.replace("\\", "\\\\").replace('"', '\\"')
    lines = [f"[{entry.name}]"]
    lines += [f"{key} = {getattr(entry, key):.9g}" for key in ("host_s", "host_p05_s", "host_p95_s")]
    return "\n".join([*lines, f'source = "{source}"']) + "\n"
