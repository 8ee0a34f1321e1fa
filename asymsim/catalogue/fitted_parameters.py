"""Fitted parameters of operator times: a GPU's sections, and the donors of GPUs without measurements.

A GPU's file has a table ``[efficiency.<section>]`` for each operator class that was measured on it;
``core.times.parameters`` explains each parameter. ``data/transfer.toml`` lists the donors of each architecture and the
interval of times predicted with a donor's parameters.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.times import parameters as layout
from asymsim.util.errors import InputError, UnknownNameError

SECTIONS: dict[str, np.dtype[np.void]] = {
    "gemm_bf16": layout.GEMM_PARAMETERS,
    "gemm_fp8": layout.GEMM_PARAMETERS,
    "prefill_attention": layout.PREFILL_ATTENTION_PARAMETERS,
    "decode_attention": layout.DECODE_ATTENTION_PARAMETERS,
    "encoder_attention": layout.ENCODER_ATTENTION_PARAMETERS,
    "elementwise": layout.ELEMENTWISE_PARAMETERS,
    "all_reduce": layout.ALL_REDUCE_PARAMETERS,
    # Residuals alone: grouped products are predicted with the parameters of single ones.
    "grouped_gemm": np.dtype([]),
}
# Keys beside the parameters and the residual quantiles: provenance and held-out errors.
PROVENANCE = (
    "source",
    "measured",
    "rows",
    "fitted_rows",
    "dropped",
    "date",
    "command",
    "shape_group_correlation",
    "held_out_median_error",
    "held_out_mean_error",
    "held_out_p90_error",
    "held_out_bias",
    "held_out_coverage",
)
# Parameters that a section may leave out.
DEFAULTS = {"time_scale": 1.0}
TRANSFER_FILE = Path(__file__).parent / "data" / "transfer.toml"
Section = Mapping[str, Any]
Fields = Mapping[str, Any]


class FittedSection(NamedTuple):
    """A section of the GPU or of a donor.

    Attributes
    ----------
    section : mapping
    source : int
        A code of ``core.times.parameters.SOURCE_NAMES``.
    """

    section: Section
    source: int


def check_sections(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The ``[efficiency]`` tables of a GPU's file, checked.

    Raises
    ------
    InputError
        If a parameter is missing, of the wrong length or below 0; if there is no source, or bands do not rise.
    UnknownNameError
        If there is no such section or parameter.
    """
    for name, table in tables.items():
        if name not in SECTIONS:
            raise UnknownNameError("efficiency", name, SECTIONS)
        where = f"efficiency.{name}"
        parameters: Fields = SECTIONS[name].fields or {}
        intervals: Fields = layout.INTERVAL.fields or {}
        for key in table:
            if key not in parameters and key not in intervals and key not in PROVENANCE:
                raise UnknownNameError(where, key, (*parameters, *intervals, *PROVENANCE))
        for key, (kind, *_) in (*parameters.items(), *intervals.items()):
            if key not in table and key in DEFAULTS:
                continue
            if key not in table:
                raise InputError(f"{where}.{key}", None, "is missing; fit the section with asymsim calibrate")
            _check_numbers(f"{where}.{key}", table[key], kind.shape)
        if not 0 < table.get("time_scale", 1.0) < math.inf:
            raise InputError(f"{where}.time_scale", table["time_scale"], "must be a finite number above 0")
        if not str(table.get("source", "")).strip():
            raise InputError(
                f"{where}.source", None, "is missing; name the measurements that the section was fitted on"
            )
        if list(table["band_edges_s"]) != sorted(table["band_edges_s"]):
            raise InputError(f"{where}.band_edges_s", table["band_edges_s"], "must rise")
    return tables


def _check_numbers(where: str, value: Any, shape: tuple[int, ...]) -> None:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise InputError(where, value, "must be a number or a list of numbers") from None
    if array.shape != shape:
        raise InputError(where, value, f"must be {'a number' if not shape else f'of shape {shape}'}")
    if np.isnan(array).any() or (array < 0).any():
        raise InputError(where, value, "must be at least 0")


def parameter_record(section: Section, dtype: np.dtype[np.void]) -> Array:
    """One record of a section's parameters, shape (1,)."""
    record = np.zeros(1, dtype)
    for name in dtype.names or ():
        record[name] = section[name] if name in section else DEFAULTS[name]
    return record


@lru_cache(maxsize=1)
def transfer() -> dict[str, Any]:
    """Content of ``data/transfer.toml``: donors by architecture, and intervals of transferred parameters by section."""
    with TRANSFER_FILE.open("rb") as file:
        return tomllib.load(file)


def donors(architecture: str) -> Iterable[str]:
    """Donors of an architecture, the nearest first; none if no related GPU was measured."""
    return tuple(transfer()["donors"].get(architecture, ()))


def transferred_interval(section: str) -> Array:
    """Residual quantiles of parameters that were fitted on another GPU, one record."""
    table = transfer()["interval"][section]
    record = np.zeros(1, layout.INTERVAL)
    record["time_scale"] = 1.0
    record["band_edges_s"] = [0.0] + [math.inf] * layout.BANDS
    record["ratio_p05"], record["ratio_p95"] = table["ratio_p05"], table["ratio_p95"]
    return record
