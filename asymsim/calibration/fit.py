"""Fit the sections of measured GPUs and put them into their files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asymsim.calibration.fit_errors import Score, score, shape_group_correlation
from asymsim.calibration.gpu_file import number_text, put_sections
from asymsim.calibration.measured_tables import PACKAGE, SYSTEMS, systems_folder
from asymsim.calibration.parameters import FREE_PARAMETERS, fill_head_sizes, search_space
from asymsim.calibration.residual_intervals import intervals, level_of
from asymsim.calibration.search import fit_parameters
from asymsim.calibration.sections import LOADERS, load_section
from asymsim.calibration.shape_groups import SEED, MeasuredRows
from asymsim.catalogue.fitted_parameters import SECTIONS
from asymsim.catalogue.gpu import Gpu, gpu_path, load_gpu
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
    """Fit sections from their start and write them into each GPU's file; one row of held-out errors a section.

    Parameters
    ----------
    gpus : sequence of str
        Names of GPUs that the package has tables of, or files of the user's that describe such.
    sections : sequence of str
        Of ``catalogue.fitted_parameters.SECTIONS``; all by default. Those without a table are passed over.
    iterations : int
        Length of each search, at least 0.
    out : str or pathlib.Path, optional
        File for the GPU's text with the new sections, instead of its own; for one GPU alone.
    say : callable
        Takes a line about each section as it is done.

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
    devices = [load_gpu(name) for name in gpus]
    for device in devices:
        if device.name not in SYSTEMS:
            raise InputError("gpu", device.name, f"has no measured tables; GPUs that have: {', '.join(SYSTEMS)}")
    systems_folder()
    rows = []
    for name, device in zip(gpus, devices, strict=True):
        path = gpu_path(name)
        new: dict[str, dict[str, Any]] = {}
        for section in sections or LOADERS:
            found = fit_section(device, section, iterations)
            if found is None:
                say(f"{device.name} {section}: no table")
                continue
            made, result = found
            new[section] = made
            # What stands on another section's numbers, such as grouped products, takes them as they are now.
            device = replace(device, efficiency={**device.efficiency, **new})
            write_file(out or path, put_sections(path, new))
            rows.append({"gpu": device.name, "section": section, **result._asdict()})
            say(f"{device.name} {section}: held-out median {100 * result.median:.1f} %, p90 {100 * result.p90:.1f} %")
    return rows


def fit_section(device: Gpu, section: str, iterations: int) -> tuple[Section, Score] | None:
    """Numbers, residual quantiles and provenance of a section, and its held-out errors; None without a table."""
    table = load_section(device, section)
    if table is None:
        return None
    made, result = fit_table(table, device, section, iterations)
    made |= {
        "source": f"{PACKAGE}, systems/data/{table.source}",
        "date": datetime.date.today().isoformat(),
        "command": f"asymsim calibrate --gpu {device.name} --section {section} --iterations {iterations} "
        f"(split seed {SEED})",
    }
    return made, result


def fit_table(table: MeasuredRows, device: Gpu, section: str, iterations: int) -> tuple[Section, Score]:
    """Numbers and residual quantiles fitted on a table's sites that are not held out, and errors on those that are.

    Raises
    ------
    InputError
        If it has too few rows.
    """
    training, judged = np.flatnonzero(~table.held_out), np.flatnonzero(table.held_out)
    if FREE_PARAMETERS[section]:
        whole = search_space(section, device, table.sizes[training] if len(table.sizes) else table.sizes)
        try:
            numbers = fit_parameters(table, whole, iterations, training)
        except InputError as error:
            raise InputError(f"{device.name} {section} {error.field}", error.value, error.remedy) from None
        fill_head_sizes(numbers)
        # What is judged is what the file will hold.
        vector = numbers.view(np.float64)
        vector[:] = [float(number_text(value)) for value in vector]
    else:
        numbers = np.zeros(1, SECTIONS[section])
    predicted = table.predict(training, numbers)
    ratio = table.seconds[training] / predicted
    quantiles = intervals(ratio, predicted, level_of(ratio, predicted, table.fold[training]))
    result = score(table, numbers, quantiles, judged)
    made: Section = {name: numbers[name][0] for name in numbers.dtype.names or ()}
    made |= quantiles
    made |= {
        "rows": len(table.seconds),
        "fitted_rows": len(training),
        "dropped": table.dropped,
        "shape_group_correlation": shape_group_correlation(table, numbers),
    }
    made |= {f"held_out_{name}_error": getattr(result, name) for name in ("median", "mean", "p90")}
    made |= {"held_out_bias": result.bias, "held_out_coverage": result.coverage}
    return made, result
