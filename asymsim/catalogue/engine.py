"""Serving engines: what the host adds to each step beside the GPU's own work."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path

from pydantic.dataclasses import dataclass

from asymsim.catalogue.base import STRICT
from asymsim.errors import UnknownNameError

_DATA = Path(__file__).parent / "data" / "engines.toml"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Engine:
    """One engine.

    Attributes
    ----------
    host_s, host_p05_s, host_p95_s : float
        Seconds that scheduling, sampling and launching add to a step, and 5 % and 95 % of it.
    source : str
    """

    name: str
    host_s: float
    host_p05_s: float
    host_p95_s: float
    source: str


def engine(name: str) -> Engine | None:
    """An engine by name; None for ``none``, the GPU's work alone.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name == "none":
        return None
    if name not in engines():
        raise UnknownNameError("engine", name, ("none", *engines()))
    return engines()[name]


@lru_cache(maxsize=1)
def engines() -> dict[str, Engine]:
    """All engines of the catalogue."""
    with _DATA.open("rb") as file:
        return {name: Engine(name=name, **table) for name, table in tomllib.load(file).items()}
