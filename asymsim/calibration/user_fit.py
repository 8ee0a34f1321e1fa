"""Calibration of a GPU's file by a user's measured times: a factor for each operator class, or a fit of many rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asymsim.calibration.fit import ITERATIONS, Row, Section, fit_rows
from asymsim.calibration.gpu_file import put_sections
from asymsim.calibration.kernel_records import Record, read_records
from asymsim.calibration.sections import LOADERS
from asymsim.calibration.shape_groups import SEED
from asymsim.calibration.user_rows import UserRows
from asymsim.calibration.user_scale import SCALE_SHAPES, scaled_section
from asymsim.calibration.user_sections import LEFT_OUT, user_section_rows
from asymsim.catalogue.gpu import Gpu, gpu_path, load_gpu
from asymsim.core.times.parameters import FITTED
from asymsim.estimator.gpu_arrays import fitted_section
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.files import write_file

# Distinct shapes for a fit where there are no parameters to scale; for a fit in place of a scale.
FIRST_FIT_SHAPES, FIT_SHAPES = 60, 200
# Held-out shapes that a fit must leave for its errors.
JUDGED_SHAPES = 8


def calibrate_records(
    name: str,
    path: str,
    sections: Sequence[str] = (),
    iterations: int = ITERATIONS,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Correct a GPU's sections by a CSV of ``asymsim_kernels.tools.measure``, and write them into its file as measured.

    Parameters
    ----------
    name : str
        A GPU of the catalogue, or a TOML file.
    path : str
        The CSV. All of its rows must be of this GPU.
    sections : sequence of str
        Of ``catalogue.fitted_parameters.SECTIONS``; all that the file corrects by default.
    iterations : int
        Basin-hopping iterations of a fit.
    out : str or pathlib.Path, optional
        File for the GPU's text with the new sections, instead of the GPU's file.
    say : callable
        Takes a line about each section, and about the rows that were left out.

    Returns
    -------
    list of dict
        A row a section: ``gpu``, ``section``, ``way`` (scale or fit), ``shapes``, ``shape_groups``, ``time_scale``,
        ``median`` and ``p90`` of |predicted / measured - 1| on shape groups that were left out, and the least and
        greatest end of the interval, ``ratio_p05`` and ``ratio_p95``.

    Raises
    ------
    InputError
        If the file is malformed, of another GPU, or corrects nothing; if a file cannot be written.
    UnknownNameError
        If there is no such GPU or section.
    """
    if iterations < 0:
        raise InputError("iterations", iterations, "must be at least 0")
    for section_name in sections:
        if section_name not in LOADERS:
            raise UnknownNameError("section", section_name, LOADERS)
    gpu = load_gpu(name)
    records = read_records(path, gpu)
    rows_by_section, left_out = user_section_rows(records, gpu)
    new_sections: dict[str, Section] = {}
    summaries, refusals = [], []
    for section_name in sections or LOADERS:
        if section_name not in rows_by_section:
            continue
        user_rows = rows_by_section[section_name]
        section, reason = _corrected_section(user_rows, gpu, iterations, left_out)
        if section is None:
            refusals.append(f"{section_name}: {reason}")
            continue
        if reason:
            say(f"{gpu.name} {section_name}: {reason}")
        section |= _provenance(section, records, gpu, section_name, iterations, path)
        new_sections[section_name] = section
        summaries.append(_summary(gpu, user_rows, section))
    for rule, count in left_out.items():
        say(f"left out {count} {rule}: {LEFT_OUT[rule]}")
    if not new_sections:
        reasons = "; ".join(refusals) or ", ".join(f"{count} {rule}" for rule, count in left_out.items()) or "no time"
        raise InputError("records", path, f"holds nothing that corrects {gpu.name} ({reasons})")
    for refusal in refusals:
        say(f"left out {refusal}")
    file = Path(name) if name.lower().endswith(".toml") or "/" in name else gpu_path(gpu.name)
    write_file(out or file, put_sections(file, new_sections))
    return summaries


def _corrected_section(
    user_rows: UserRows, gpu: Gpu, iterations: int, left_out: Counter[str]
) -> tuple[Section | None, str]:
    """A section from its rows, with a remark; None where the rows are too few, with the reason."""
    shapes = len(user_rows)
    if shapes < SCALE_SHAPES:
        return None, f"{shapes} distinct shapes, at least {SCALE_SHAPES}"
    base = fitted_section(gpu, user_rows.section)
    if base is None and shapes < FIRST_FIT_SHAPES:
        return (
            None,
            f"{shapes} distinct shapes and no fitted parameters to scale, at least {FIRST_FIT_SHAPES} for a fit",
        )
    if base is not None and shapes < FIT_SHAPES:
        return scaled_section(user_rows, gpu, base, left_out)
    section, reason = _fitted_section(user_rows, gpu, iterations)
    if section is None and base is not None:
        section, refusal = scaled_section(user_rows, gpu, base, left_out)
        reason = f"scaled, not fitted: {reason}" if section is not None else refusal
    return section, reason


def _fitted_section(user_rows: UserRows, gpu: Gpu, iterations: int) -> tuple[Section | None, str]:
    if find_spec("scipy") is None:
        return None, "a fit needs scipy (pip install 'asymsim[measured]')"
    rows = user_rows.measured_rows()
    judged = int(rows.held_out.sum())
    if judged < JUDGED_SHAPES:
        return None, (
            f"{judged} shapes in held-out shape groups, at least {JUDGED_SHAPES} for a fit; measure more shape groups"
        )
    try:
        section, _ = fit_rows(rows, gpu, user_rows.section, iterations)
    except InputError as error:
        return None, str(error)
    return section, ""


def _provenance(
    section: Section, records: Sequence[Record], gpu: Gpu, section_name: str, iterations: int, path: str
) -> Section:
    versions = "; ".join(dict.fromkeys(record.versions for record in records))
    source = f"user-supplied measurements, {Path(path).name} ({versions})"
    if "time_scale" in section:
        base = fitted_section(gpu, section_name)
        assert base is not None
        donor = "" if base.source >= FITTED else "transferred "
        # A section that was scaled before is scaled anew, from the same parameters.
        base_source = str(base.section["source"])
        scaled_source = base_source.partition("; scale of ")[2] or f"{donor}parameters of: {base_source}"
        source += f"; scale of {scaled_source}"
    return {
        "measured": True,
        "source": source,
        "date": max(record.date for record in records),
        "command": f"asymsim calibrate --gpu {gpu.name} --section {section_name} --iterations {iterations} "
        f"--records {Path(path).name} (split seed {SEED})",
    }


def _summary(gpu: Gpu, user_rows: UserRows, section: Section) -> Row:
    return {
        "gpu": gpu.name,
        "section": user_rows.section,
        "way": "scale" if "time_scale" in section else "fit",
        "shapes": section["rows"],
        "shape_groups": len(np.unique(user_rows.shape_group_index())),
        "time_scale": section.get("time_scale", 1.0),
        "median": section["held_out_median_error"],
        "p90": section["held_out_p90_error"],
        "ratio_p05": float(np.min(section["ratio_p05"])),
        "ratio_p95": float(np.max(section["ratio_p95"])),
    }
