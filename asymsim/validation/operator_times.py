"""Fitted operator times against the measured rows that no fit saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asymsim.calibration.fit_errors import score
from asymsim.calibration.measured_tables import FRAMEWORKS, SYSTEMS, systems_folder
from asymsim.calibration.residual_intervals import bounds
from asymsim.calibration.sections import load_section
from asymsim.calibration.shape_groups import SEED, MeasuredRows
from asymsim.catalogue.fitted_parameters import SECTIONS, Section, parameter_record
from asymsim.catalogue.gpu import load_gpu
from asymsim.core.arrays import Array
from asymsim.util.errors import InputError, UnknownNameError

Row = dict[str, Any]

# What the numbers are fitted on; the tables of the others are new to them as a whole.
FITTED_ON = "vllm"
# Points of each operator class and GPU that a figure shows.
POINTS = 60


def held_out_report(
    gpus: Sequence[str] = (),
    frameworks: Sequence[str] = (FITTED_ON,),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], list[Row]]:
    """Errors of the fitted sections, and a few of the rows that they are over.

    Parameters
    ----------
    gpus : sequence of str
        All that were measured by default.
    frameworks : sequence of str
        Whose tables: held-out sites of vllm, all rows of the others.
    progress : callable, optional
        Told how many of the tables are done, and of how many.

    Returns
    -------
    errors : list of dict
        A row for each GPU, operator class and framework: errors as fractions, those of the plain roofline beside.
    points : list of dict
        For each of these, under the first of the frameworks, up to ``POINTS`` rows drawn by the seed of the split:
        measured and predicted seconds with the ends of the 90 % interval.

    Raises
    ------
    InputError
        If a GPU has no measured tables or a table cannot be read.
    MissingExtraError
        If the tables are not installed.
    UnknownNameError
        If there is no such GPU or framework.
    """
    for name in frameworks:
        if name not in FRAMEWORKS:
            raise UnknownNameError("framework", name, FRAMEWORKS)
    devices = [load_gpu(name) for name in gpus or SYSTEMS]
    for device in devices:
        if device.name not in SYSTEMS:
            raise InputError("gpu", device.name, f"has no measured tables; GPUs that have: {', '.join(SYSTEMS)}")
    systems_folder()
    wanted = [
        (name, device, framework)
        for name in SECTIONS
        for device in devices
        for framework in frameworks
        if name in device.efficiency
    ]
    errors, points = [], []
    for done, (name, device, framework) in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        table = load_section(device, name, framework)
        if table is None:
            continue
        index = np.flatnonzero(table.held_out) if framework == FITTED_ON else np.arange(len(table.seconds))
        if len(index):
            head = {"gpu": device.name, "operator": name, "rows_of": framework}
            errors.append(head | _errors(table, name, device.efficiency[name], index))
            if framework == frameworks[0]:
                points += [head | point for point in _points(table, name, device.efficiency[name], index)]
    return errors, points


def _errors(table: MeasuredRows, name: str, section: Section, index: Array) -> Row:
    found = score(table, parameter_record(section, SECTIONS[name]), section, index)
    names = {"median": "median_error", "mean": "mean_error", "p90": "p90_error", "narrow": "narrow_share"}
    names |= {"roofline_median": "roofline_median_error", "roofline_mean": "roofline_mean_error"}
    return {names.get(key, key): value for key, value in found._asdict().items()}


def _points(table: MeasuredRows, name: str, section: Section, index: Array) -> list[Row]:
    chosen = np.random.default_rng(SEED).permutation(index)[:POINTS]
    predicted = table.predict(chosen, parameter_record(section, SECTIONS[name]))
    low, high = bounds(section, predicted)
    columns = {"measured_s": table.seconds[chosen], "p05_s": low, "p50_s": predicted, "p95_s": high}
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*(each.tolist() for each in columns.values()), strict=True)
    ]
