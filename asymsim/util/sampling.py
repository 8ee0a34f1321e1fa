"""Random axes: every sample follows from the seed and its own index, so any block can be drawn alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.util.errors import InputError
from asymsim.util.toml import Reader, choice, integer, need, number, table

LARGEST_SAMPLES = 10**12
# The inverse of a Poisson distribution is a table as long as its mean.
LARGEST_POISSON_MEAN = 10**6
PARAMETERS = {
    "lognormal": ("median", "sigma"),
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
    "poisson": ("mean",),
}


@dataclass(frozen=True)
class Distribution:
    """Samples of a distribution, whole numbers where the field is one, kept within its bounds.

    Attributes
    ----------
    distribution : str
        lognormal (``median``, ``sigma`` of the logarithm), uniform (``low``, ``high``, both included where
        whole), normal (``mean``, ``std``) or poisson (``mean``).
    parameters : tuple of float
        In that order.
    seed : int
    whole : bool
    lowest, highest : float
        Samples beyond are moved to these.
    """

    distribution: str
    parameters: tuple[float, ...]
    seed: int
    whole: bool
    lowest: float
    highest: float

    def take(self, indices: Array) -> Array:
        """The samples of these indices: int64, or float64 where the field is no whole number."""
        drawn = np.clip(self._values(indices.astype(np.uint64)), self.lowest, self.highest)
        return np.rint(drawn).astype(np.int64) if self.whole else drawn

    def item(self, index: int) -> int | float:
        """One sample as a Python number."""
        value: int | float = self.take(np.array([index])).item()
        return value

    def _values(self, indices: Array) -> Array:
        first = uniform_samples(self.seed, 0, indices)
        if self.distribution == "uniform":
            low, high = self.parameters
            # Each whole number has the same share, those at the ends included.
            return np.floor(low + first * (high - low + 1.0)) if self.whole else low + first * (high - low)
        if self.distribution == "poisson":
            return np.searchsorted(_poisson_cumulative(self.parameters[0]), first, side="right").astype(np.float64)
        # Box and Muller (1958), equation 1: two uniform numbers make a normal one.
        second = uniform_samples(self.seed, 1, indices)
        normal = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
        middle, spread = self.parameters
        return middle + spread * normal if self.distribution == "normal" else middle * np.exp(spread * normal)


def uniform_samples(seed: int, stream: int, indices: Array) -> Array:
    """Numbers in [0, 1), one an index, by the finaliser of SplitMix64 (Steele et al. 2014, figure 12)."""
    start = np.uint64((2 * seed + stream) * 0xD1B54A32D192ED03 & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        mixed = _mix(_mix(start + np.uint64(0x9E3779B97F4A7C15)) + (indices + np.uint64(1)) * _GOLDEN)
    numbers: Array = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: Any) -> Any:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _poisson_cumulative(mean: float) -> Array:
    counts = np.arange(int(mean + 12.0 * math.sqrt(mean) + 30.0))
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, len(counts))))))
    return np.cumsum(np.exp(counts * math.log(mean) - mean - logs)) if mean > 0 else np.ones(len(counts))


def read_sampled_axis(
    content: Mapping[str, Any], where: str, whole: bool, bounds: tuple[float, float]
) -> tuple[Distribution, int, str | None]:
    """A distribution from its table, the number of samples, and the name of its group of axes sampled together.

    Raises
    ------
    InputError
        If a key is unknown or missing, or a parameter out of range.
    """
    drawn, values = _read(content, where, whole, bounds, {"samples": integer(1, LARGEST_SAMPLES), "with": _name})
    need(values, ("samples",), where)
    return drawn, values["samples"], values.get("with")


def read_distribution(content: Mapping[str, Any], where: str, whole: bool, bounds: tuple[float, float]) -> Distribution:
    """A distribution from its table, of which any number of samples can be taken.

    Raises
    ------
    InputError
        If a key is unknown or missing, or a parameter out of range.
    """
    return _read(content, where, whole, bounds, {})[0]


def _read(
    content: Mapping[str, Any], where: str, whole: bool, bounds: tuple[float, float], others: Mapping[str, Reader]
) -> tuple[Distribution, dict[str, Any]]:
    """A distribution, and all values of its table, those of other keys too."""
    name = choice(*PARAMETERS)(content["distribution"], f"{where}: distribution")
    readers: dict[str, Reader] = {
        "distribution": choice(*PARAMETERS),
        "seed": integer(0, 2**62),
        **others,
        **dict.fromkeys((*PARAMETERS[name], "min", "max"), _number),
    }
    values = table(content, where, readers)
    need(values, PARAMETERS[name], where)
    parameters = tuple(values[key] for key in PARAMETERS[name])
    for key, value in zip(PARAMETERS[name], parameters, strict=True):
        if (
            (value < 0 and key in ("sigma", "std"))
            or (value <= 0 and key == "median")
            or (value < 0 and name == "poisson")
        ):
            raise InputError(f"{where}: {key}", value, "give a number above 0")
    if name == "uniform" and parameters[0] > parameters[1]:
        raise InputError(f"{where}: high", parameters[1], f"give {parameters[0]:g} or more, as low is")
    if name == "poisson" and parameters[0] > LARGEST_POISSON_MEAN:
        raise InputError(f"{where}: mean", parameters[0], f"give at most {LARGEST_POISSON_MEAN}; normal serves above")
    lowest, highest = (values.get(key, bound) for key, bound in zip(("min", "max"), bounds, strict=True))
    if not bounds[0] <= lowest <= highest <= bounds[1]:
        raise InputError(
            f"{where}: min to max", f"{lowest:g} to {highest:g}", f"stay within {bounds[0]} to {bounds[1]}"
        )
    return Distribution(name, parameters, values.get("seed", 0), whole, lowest, highest), values


def _number(value: object, where: str) -> float:
    return float(number(value, where))


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(where, value, "give a name that the distributions drawn together share")
    return value
