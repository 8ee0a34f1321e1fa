"""Errors of one GPU's fitted parameters on another, and from them the intervals of GPUs without measurements."""

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

# (predicted GPU, donor): successors and siblings within a family, and the nearest family where there is none.
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
    """Predict each pair's GPU with its donor's parameters, and write the pooled 5 % and 95 % of measured / predicted.

    The part of the file above the intervals is kept.

    Parameters
    ----------
    out : str or pathlib.Path, optional
        File to write instead of the catalogue's.

    Returns
    -------
    list of dict
        ``section``, ``gpu``, ``donor``, ``rows``, ``median``, ``p90`` of |predicted / measured - 1|, and
        ``ratio_p05``, ``ratio_p50``, ``ratio_p95`` of measured / predicted.

    Raises
    ------
    InputError
        If a file cannot be read or written, or a section has no pair.
    MissingExtraError
        If the tables are not installed.
    """
    systems_folder()
    summaries: list[Row] = []
    text = TRANSFER_FILE.read_text().partition(_HEADER[:22])[0] + _HEADER
    for section in LOADERS:
        ratios = {pair: ratios for pair in PAIRS if (ratios := transferred_ratios(*pair, section)) is not None}
        if not ratios:
            raise InputError("section", section, "no pair of GPUs has parameters of one and a table of the other")
        errors = [_errors(section, *pair, pair_ratios) for pair, pair_ratios in ratios.items()]
        low, high = pooled(list(ratios.values()))
        text += "\n" + "".join(f"# {_comment(row)}\n" for row in errors)
        text += f"[interval.{section}]\nratio_p05 = {number_text(low)}\nratio_p95 = {number_text(high)}\n"
        summaries += errors
    write_file(out or TRANSFER_FILE, text)
    return summaries


def _comment(row: Row) -> str:
    return "{gpu} from {donor}: median error {median:.1%}, p90 {p90:.1%}".format(**row).replace("%", " %")


_HEADER = f"""\
# measured / predicted at 5 % and 95 % where one measured GPU was predicted with another's parameters, each pair with
# the same weight. Made by asymsim calibrate --transfer from the GPUs' files and the tables of
# {PACKAGE}.
"""


def transferred_ratios(target: str, donor: str, section: str) -> Array | None:
    """Measured / predicted of all rows of a GPU with a donor's parameters; None without rows or parameters."""
    donor_sections = load_gpu(donor).efficiency
    if section not in donor_sections:
        return None
    gpu = load_gpu(target)
    if section == "grouped_gemm":
        # Grouped products are predicted with the parameters of single ones.
        gpu = replace(gpu, efficiency={name: donor_sections[name] for name in ("gemm_bf16", "elementwise")})
    rows = load_section(gpu, section)
    if rows is None:
        return None
    parameters = parameter_record(donor_sections[section], SECTIONS[section])
    return rows.seconds / rows.predict(np.arange(len(rows.seconds)), parameters)


def pooled(ratios: list[Array]) -> tuple[float, float]:
    """5 % and 95 % of several sets of ratios, each with the same weight whatever its length."""
    levels = np.linspace(0.0005, 0.9995, 1000)
    resampled = np.concatenate([np.quantile(pair_ratios, levels) for pair_ratios in ratios])
    low, high = np.quantile(resampled, (0.05, 0.95))
    return float(low), float(high)


def _errors(section: str, target: str, donor: str, ratios: Array) -> Row:
    error = np.abs(1 / ratios - 1)
    low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95))
    return {
        "section": section,
        "gpu": target,
        "donor": donor,
        "rows": len(ratios),
        "median": float(np.median(error)),
        "p90": float(np.quantile(error, 0.9)),
        "ratio_p05": float(low),
        "ratio_p50": float(middle),
        "ratio_p95": float(high),
    }
