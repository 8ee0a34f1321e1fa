"""Errors of fitted operator times on measured rows that no fit saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asymsim.calibration.fit_errors import fit_errors
from asymsim.calibration.measured_tables import FRAMEWORKS, SYSTEMS, measured_gpus
from asymsim.calibration.residual_intervals import bounds
from asymsim.calibration.sections import load_section
from asymsim.calibration.shape_groups import SEED, MeasuredRows
from asymsim.catalogue.fitted_parameters import SECTIONS, Section, parameter_record
from asymsim.core.arrays import Array
from asymsim.util.errors import UnknownNameError

Row = dict[str, Any]

# Framework whose tables the parameters are fitted on; no fit saw any row of the others.
FITTED_ON = "vllm"
# Most points of each operator class and GPU in a figure.
POINTS = 60


def held_out_report(
    gpus: Sequence[str] = (),
    frameworks: Sequence[str] = (FITTED_ON,),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], list[Row]]:
    """Errors of the fitted sections on held-out rows, and a sample of the rows for a figure.

    Parameters
    ----------
    gpus : sequence of str
        All measured GPUs by default.
    frameworks : sequence of str
        Frameworks of the tables: held-out shape groups of vllm, all rows of the others.
    progress : callable, optional
        Called with the number of finished tables and the number of all.

    Returns
    -------
    errors : list of dict
        A row for each GPU, operator class and framework: errors as fractions, with the errors of the roofline.
    points : list of dict
        For each GPU and operator class, under the first framework, up to ``POINTS`` rows sampled by the split's seed:
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
    loaded = measured_gpus(gpus or tuple(SYSTEMS))
    tables = [
        (name, gpu, framework)
        for name in SECTIONS
        for gpu in loaded
        for framework in frameworks
        if name in gpu.efficiency
    ]
    errors, points = [], []
    for finished, (name, gpu, framework) in enumerate(tables):
        if progress is not None:
            progress(finished, len(tables))
        rows = load_section(gpu, name, framework)
        if rows is None:
            continue
        index = np.flatnonzero(rows.held_out) if framework == FITTED_ON else np.arange(len(rows.seconds))
        if len(index):
            labels = {"gpu": gpu.name, "operator": name, "rows_of": framework}
            errors.append(labels | _errors(rows, name, gpu.efficiency[name], index))
            if framework == frameworks[0]:
                points += [labels | point for point in _points(rows, name, gpu.efficiency[name], index)]
    return errors, points


def _errors(rows: MeasuredRows, name: str, section: Section, index: Array) -> Row:
    errors = fit_errors(rows, parameter_record(section, SECTIONS[name]), section, index)
    names = {"median": "median_error", "mean": "mean_error", "p90": "p90_error", "narrow": "narrow_share"}
    names |= {"roofline_median": "roofline_median_error", "roofline_mean": "roofline_mean_error"}
    return {names.get(key, key): value for key, value in errors._asdict().items()}


def _points(rows: MeasuredRows, name: str, section: Section, index: Array) -> list[Row]:
    sample = np.random.default_rng(SEED).permutation(index)[:POINTS]
    predicted = rows.predict(sample, parameter_record(section, SECTIONS[name]))
    low, high = bounds(section, predicted)
    columns = {"measured_s": rows.seconds[sample], "p05_s": low, "p50_s": predicted, "p95_s": high}
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]
