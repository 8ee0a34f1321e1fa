"""Serving engines: what the host adds to each step beside the GPU's own work."""

from __future__ import annotations

import math
import tomllib
from functools import lru_cache
from pathlib import Path

from pydantic.dataclasses import dataclass

from asymsim.catalogue.base import STRICT
from asymsim.errors import InputError, UnknownNameError

_DATA = Path(__file__).parent / "data" / "engines.toml"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Engine:
    """One engine.

    Attributes
    ----------
    host_s, host_p05_s, host_p95_s : float
        Seconds that scheduling, sampling and launching add to a step, and 5 % and 95 % of it.
    source : str
    fused_quantisation : bool
        Whether one-byte activations come from the kernel before, instead of one that only quantises.
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
