"""Fit of the sections of measured GPUs, written into the GPUs' files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asymsim.calibration.fit_errors import FitErrors, fit_errors, shape_group_correlation
from asymsim.calibration.gpu_file import number_text, put_sections
from asymsim.calibration.measured_tables import PACKAGE, measured_gpus
from asymsim.calibration.parameters import FREE_PARAMETERS, fill_head_sizes, search_space
from asymsim.calibration.residual_intervals import intervals, level_of
from asymsim.calibration.search import fit_parameters
from asymsim.calibration.sections import LOADERS, load_section
from asymsim.calibration.shape_groups import SEED, MeasuredRows
from asymsim.catalogue.fitted_parameters import SECTIONS
from asymsim.catalogue.gpu import Gpu, gpu_path
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.files import write_file

ITERATIONS = 40
Row = dict[str, Any]
Section = dict[str, Any]


def calibrate(
    gpus: Sequence[str],
    sections: Sequence[str] = (),
    iterations: int = ITERATIONS,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Fit sections from their starting values and write them into each GPU's file.

    Parameters
    ----------
    gpus : sequence of str
        Names of GPUs that the package has tables of, or a user's files that describe them.
    sections : sequence of str
        Of ``catalogue.fitted_parameters.SECTIONS``; all by default. A section without a table is passed over.
    iterations : int
        Basin-hopping iterations of each search, at least 0.
    out : str or pathlib.Path, optional
        File for the GPU's text with the new sections, instead of the GPU's file; for one GPU alone.
    say : callable
        Takes a line about each section as it is done.

    Returns
    -------
    list of dict
        A row of held-out errors for each GPU and section.

    Raises
    ------
    InputError
        If a GPU has no tables, a table cannot be read or is too short, ``iterations`` is negative, or a file cannot
        be written.
    MissingExtraError
        If the tables are not installed.
    UnknownNameError
        If there is no such GPU or section.
    """
    if iterations < 0:
        raise InputError("iterations", iterations, "must be at least 0")
    if out is not None and len(gpus) > 1:
        raise InputError("out", str(out), "takes one GPU; give one, or leave it out")
    for section in sections:
        if section not in LOADERS:
            raise UnknownNameError("section", section, LOADERS)
    loaded = measured_gpus(gpus)
    summaries = []
    for name, gpu in zip(gpus, loaded, strict=True):
        path = gpu_path(name)
        new_sections: dict[str, Section] = {}
        for section in sections or LOADERS:
            fitted = fit_section(gpu, section, iterations)
            if fitted is None:
                say(f"{gpu.name} {section}: no table")
                continue
            new_sections[section], errors = fitted
            # Grouped products are predicted with other sections' parameters, which must be the new ones.
            gpu = replace(gpu, efficiency={**gpu.efficiency, **new_sections})
            write_file(out or path, put_sections(path, new_sections))
            summaries.append({"gpu": gpu.name, "section": section, **errors._asdict()})
            say(f"{gpu.name} {section}: held-out median {100 * errors.median:.1f} %, p90 {100 * errors.p90:.1f} %")
    return summaries


def fit_section(gpu: Gpu, section_name: str, iterations: int) -> tuple[Section, FitErrors] | None:
    """Parameters, residual quantiles and provenance of a section, and its held-out errors; None without a table."""
    rows = load_section(gpu, section_name)
    if rows is None:
        return None
    section, errors = fit_rows(rows, gpu, section_name, iterations)
    section |= {
        "source": f"{PACKAGE}, systems/data/{rows.source}",
        "date": datetime.date.today().isoformat(),
        "command": f"asymsim calibrate --gpu {gpu.name} --section {section_name} --iterations {iterations} "
        f"(split seed {SEED})",
    }
    return section, errors


def fit_rows(rows: MeasuredRows, gpu: Gpu, section_name: str, iterations: int) -> tuple[Section, FitErrors]:
    """Parameters and residual quantiles fitted on the training shape groups, and errors on the held-out ones.

    Raises
    ------
    InputError
        If the rows are too few.
    """
    training, held_out = np.flatnonzero(~rows.held_out), np.flatnonzero(rows.held_out)
    if FREE_PARAMETERS[section_name]:
        space = search_space(section_name, gpu, rows.sizes[training] if len(rows.sizes) else rows.sizes)
        try:
            parameters = fit_parameters(rows, space, iterations, training)
        except InputError as error:
            raise InputError(f"{gpu.name} {section_name} {error.field}", error.value, error.remedy) from None
        fill_head_sizes(parameters)
        # Errors are of the rounded values that the file holds.
        vector = parameters.view(np.float64)
        vector[:] = [float(number_text(value)) for value in vector]
    else:
        parameters = np.zeros(1, SECTIONS[section_name])
    predicted = rows.predict(training, parameters)
    ratio = rows.seconds[training] / predicted
    quantiles = intervals(ratio, predicted, level_of(ratio, predicted, rows.fold[training]))
    errors = fit_errors(rows, parameters, quantiles, held_out)
    section: Section = {name: parameters[name][0] for name in parameters.dtype.names or ()}
    section |= quantiles
    section |= {
        "rows": len(rows.seconds),
        "fitted_rows": len(training),
        "dropped": rows.dropped,
        "shape_group_correlation": shape_group_correlation(rows, parameters),
    }
    section |= {f"held_out_{name}_error": getattr(errors, name) for name in ("median", "mean", "p90")}
    section |= {"held_out_bias": errors.bias, "held_out_coverage": errors.coverage}
    return section, errors
