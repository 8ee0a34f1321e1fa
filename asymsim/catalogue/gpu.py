"""GPUs by name: data-sheet rates and memory, each number with its source, one TOML file a GPU.

Peaks are dense. Vendors' sheets often print the rate with 2:4 structured sparsity, which is twice as high; it is never
used. A new GPU is a new file in ``data/gpus``, or a user's ``.toml`` anywhere.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ValidationInfo

from asymsim.catalogue.fitted_parameters import check_sections
from asymsim.util.arguments import checked_arguments
from asymsim.util.errors import FieldError, InputError, UnknownNameError
from asymsim.util.strict import strict_dataclass

PEAK_DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")

_DATA = Path(__file__).parent / "data" / "gpus"
_Number = TypeVar("_Number", int, float)


# InputError is no ValueError, so pydantic lets it pass as it is: one line instead of its report.
def _positive(value: _Number, info: ValidationInfo, key: str = "") -> _Number:
    if not 0 < value < math.inf:
        raise InputError(f"{info.field_name}{key}", value, "must be a finite number above 0")
    return value


def _peaks(value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
    for dtype, flops_per_s in value.items():
        if dtype not in PEAK_DTYPES:
            raise UnknownNameError("peak_flops_per_s", dtype, PEAK_DTYPES)
        _positive(flops_per_s, info, f".{dtype}")
    if "fp32" not in value:
        raise InputError("peak_flops_per_s", sorted(value), "must hold fp32, the vector peak of every GPU")
    return value


def _snake(value: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", value):
        raise InputError(str(info.field_name), value, "must be lower snake case, such as h100_sxm")
    return value


_Count = Annotated[int, AfterValidator(_positive)]
_Quantity = Annotated[float, AfterValidator(_positive)]
_Name = Annotated[str, AfterValidator(_snake)]


@strict_dataclass
class Gpu:
    """One GPU product; a single one of a server with several.

    Attributes
    ----------
    name, aliases : str, tuple of str
        Lower snake case; the name that CUDA or ROCm reports is among the aliases.
    vendor, architecture : str
        Such as ``nvidia`` and ``hopper``; donors of fitted parameters are chosen by architecture.
    peak_flops_per_s : dict of str to float
        Dense peak in FLOP/s for each of ``PEAK_DTYPES`` that the hardware has: ``fp32`` on the
        vector units, all others on the tensor (matrix) cores, with fp32 (int32) accumulation.
    bandwidth_bytes_per_s : float
        Peak of the device memory, bytes/s.
    capacity_bytes : int
        Device memory that the driver reports: less than the nominal size where ECC keeps a part.
    l2_bytes, sm_count : int
        L2 cache of the whole GPU, bytes; streaming multiprocessors, or AMD's compute units.
    link, link_bytes_per_s : str, float
        Link to its peers, such as ``NVLink 4``; bytes/s to all peers together, one direction.
    tdp_w : float
        Board or module power limit, W.
    price_usd_per_hour : float, optional
        Rent of one GPU on demand, US dollars an hour: one provider's list price on one day, which the source names.
        Providers differ by a factor of 4, and prices move within weeks: plan with the price that you pay.
    sources : dict of str to str
        Source of each number, by the name of its field.
    efficiency : dict of str to dict
        Fitted parameters of operator times, by the names of ``catalogue.fitted_parameters.SECTIONS``, each section
        with its source.

    Raises
    ------
    InputError
        If a field is missing, unknown or of the wrong type, a number is not finite and above 0, a name is not snake
        case, or a dtype is unknown.
    """

    name: _Name
    aliases: tuple[_Name, ...] = ()
    vendor: str
    architecture: str
    # Dictionaries have no hash; the other fields tell GPUs apart well enough.
    peak_flops_per_s: Annotated[dict[str, float], AfterValidator(_peaks)] = field(hash=False)
    bandwidth_bytes_per_s: _Quantity
    capacity_bytes: _Count
    l2_bytes: _Count
    sm_count: _Count
    link: str
    link_bytes_per_s: _Quantity
    tdp_w: _Quantity
    price_usd_per_hour: _Quantity | None = None
    sources: dict[str, str] = field(default_factory=dict, hash=False)
    efficiency: Annotated[dict[str, dict[str, Any]], AfterValidator(check_sections)] = field(
        default_factory=dict, hash=False
    )


_FIELDS = tuple(Gpu.__dataclass_fields__)
_TEXT_FIELDS = ("name", "aliases", "vendor", "architecture", "link", "sources", "efficiency")
NUMERIC_FIELDS = tuple(name for name in _FIELDS if name not in _TEXT_FIELDS)


@checked_arguments
def load_gpu(name: str) -> Gpu:
    """A GPU by its name, or from a file.

    Parameters
    ----------
    name : str
        A canonical name, an alias, or the beginning of a single canonical name (``h200`` for ``h200_sxm``), in any
        case, with spaces, hyphens or underscores; or the path of a TOML file of the form of the files in
        ``data/gpus``, recognised by its ``.toml`` or by a slash.

    Returns
    -------
    Gpu
        Catalogue entries are read once; a user's file is read anew each time.

    Raises
    ------
    UnknownNameError
        If no GPU has this name.
    InputError
        If the name fits several GPUs, or the file cannot be read, is no TOML, lacks or misspells a
        field, has a value of the wrong type or range, or a number without a source.
    """
    if _is_path(name):
        return _read(Path(name))
    wanted = lower_snake(name)
    catalogue = _catalogue()
    if wanted in catalogue:
        return catalogue[wanted]
    completions = [full_name for full_name in gpu_names() if full_name.startswith(wanted + "_")]
    if not completions:
        raise UnknownNameError("gpu", name, gpu_names())
    if len(completions) > 1:
        raise InputError("gpu", name, f"ambiguous, say which: {', '.join(completions)}")
    return catalogue[completions[0]]


def lower_snake(name: str) -> str:
    """A name as the catalogue spells it."""
    return re.sub(r"[\s_-]+", "_", name.strip()).lower()


def gpu_names() -> list[str]:
    """Canonical names of the catalogue, sorted."""
    return sorted(path.stem for path in _DATA.glob("*.toml"))


def gpu_path(name: str) -> Path:
    """Path of the file that `load_gpu` reads for a name."""
    return Path(name) if _is_path(name) else _DATA / f"{load_gpu(name).name}.toml"


def _is_path(name: str) -> bool:
    return name.lower().endswith(".toml") or "/" in name


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, Gpu]:
    """Every GPU of the catalogue under its name and each alias."""
    gpus = [_read(path) for path in sorted(_DATA.glob("*.toml"))]
    return {name: entry for entry in gpus for name in (entry.name, *entry.aliases)}


def _read(path: Path) -> Gpu:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise InputError("gpu", str(path), f"cannot read {path.name!r} ({error.strerror}); give a TOML file") from None
    # Not UTF-8, a NUL in the path and TOMLDecodeError are all ValueErrors.
    except (ValueError, RecursionError) as error:
        raise InputError("gpu", str(path), f"{path.name!r} is no valid TOML: {error}") from None
    try:
        return _entry(table)
    except InputError as error:
        raise InputError(error.field, error.value, f"{error.remedy} (in {str(path)!r})") from None


def _entry(table: dict[str, Any]) -> Gpu:
    _check_keys("field", table)
    try:
        entry = Gpu(**table)
    except FieldError as error:
        if error.value is None:
            raise InputError(error.field, None, "is missing; add it, and its source if it is a number") from None
        raise
    _check_keys("sources", entry.sources)
    for key in NUMERIC_FIELDS:
        if getattr(entry, key) is not None and not entry.sources.get(key, "").strip():
            raise InputError(key, getattr(entry, key), "has no source; name one in the table [sources]")
    return entry


def _check_keys(table_name: str, table: dict[str, Any]) -> None:
    for key in table:
        if key not in _FIELDS:
            raise UnknownNameError(table_name, key, _FIELDS)
