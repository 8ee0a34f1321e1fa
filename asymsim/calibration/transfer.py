"""What one GPU's fitted numbers are worth on another: the intervals of GPUs that nobody measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asymsim.calibration.gpu_file import number_text
from asymsim.calibration.measured_tables import PACKAGE, systems_folder
from asymsim.calibration.sections import LOADERS, load_section
from asymsim.catalogue.fitted_parameters import SECTIONS, TRANSFER_FILE, parameter_record
from asymsim.catalogue.gpu import load_gpu
from asymsim.core.arrays import Array
from asymsim.util.errors import InputError
from asymsim.util.files import write_file

# (predicted, whose numbers): successors and siblings within a family, and the nearest family where there is none.
PAIRS = (
    ("h200_sxm", "h100_sxm"),
    ("gb200", "b200_sxm"),
    ("b300_sxm", "b200_sxm"),
    ("rtx_pro_6000", "l40s"),
    ("l40s", "rtx_pro_6000"),
    ("rtx_pro_6000", "h100_sxm"),
    ("a100_80gb_sxm", "h100_sxm"),
)
Row = dict[str, Any]


def write_transfer(out: str | Path | None = None) -> list[Row]:
    """Try each pair's numbers, and write the pooled 5 % and 95 % of measured / predicted by section.

    What stands above the intervals in the file is kept.

    Parameters
    ----------
    out : str or pathlib.Path, optional
        File to write instead of the catalogue's.

    Returns
    -------
    list of dict
        ``section``, ``gpu``, ``numbers_of``, ``rows``, ``median``, ``p90`` of |predicted / measured - 1|, and
        ``ratio_p05``, ``ratio_p50``, ``ratio_p95`` of measured / predicted.

    Raises
    ------
    InputError
        If a file cannot be read or written, or no pair has a section.
    MissingExtraError
        If the tables are not installed.
    """
    systems_folder()
    rows: list[Row] = []
    text = TRANSFER_FILE.read_text().partition(_HEADER[:22])[0] + _HEADER
    for section in LOADERS:
        ratios = {pair: found for pair in PAIRS if (found := ratio(*pair, section)) is not None}
        if not ratios:
            raise InputError("section", section, "no pair of GPUs has numbers of one and a table of the other")
        errors = [_errors(section, *pair, one) for pair, one in ratios.items()]
        low, high = pooled(list(ratios.values()))
        text += "\n" + "".join(f"# {_comment(row)}\n" for row in errors)
        text += f"[interval.{section}]\nratio_p05 = {number_text(low)}\nratio_p95 = {number_text(high)}\n"
        rows += errors
    write_file(out or TRANSFER_FILE, text)
    return rows


def _comment(row: Row) -> str:
    return "{gpu} from {numbers_of}: median error {median:.1%}, p90 {p90:.1%}".format(**row).replace("%", " %")


_HEADER = f"""\
# measured / predicted at 5 % and 95 % where one measured GPU's numbers were tried on another, each pair with the same
# weight. Made by asymsim calibrate --transfer from the GPUs' files and the tables of
# {PACKAGE}.
"""


def ratio(target: str, source: str, section: str) -> Array | None:
    """Measured over predicted of all rows of a GPU with another's numbers; None where either has none."""
    lent = load_gpu(source).efficiency.get(section)
    if lent is None:
        return None
    device = load_gpu(target)
    if section == "grouped_gemm":
        # Its numbers are those of single products.
        lenders = {name: load_gpu(source).efficiency[name] for name in ("gemm_bf16", "elementwise")}
        device = replace(device, efficiency=lenders)
    table = load_section(device, section)
    if table is None:
        return None
    numbers = parameter_record(lent, SECTIONS[section])
    return table.seconds / table.predict(np.arange(len(table.seconds)), numbers)


def pooled(ratios: list[Array]) -> tuple[float, float]:
    """5 % and 95 % of several sets of ratios, each with the same weight whatever its length."""
    levels = np.linspace(0.0005, 0.9995, 1000)
    together = np.concatenate([np.quantile(each, levels) for each in ratios])
    low, high = np.quantile(together, (0.05, 0.95))
    return float(low), float(high)


def _errors(section: str, target: str, source: str, ratios: Array) -> Row:
    error = np.abs(1 / ratios - 1)
    low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95))
    return {
        "section": section,
        "gpu": target,
        "numbers_of": source,
        "rows": len(ratios),
        "median": float(np.median(error)),
        "p90": float(np.quantile(error, 0.9)),
        "ratio_p05": float(low),
        "ratio_p50": float(middle),
        "ratio_p95": float(high),
    }
