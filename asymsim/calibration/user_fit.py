"""A user's own measured times into a GPU's file: a scale of each operator class, or a fit where they are many.

A class that has numbers, the GPU's own or a relative's, is corrected by one factor, the median of measured over
predicted. Its interval comes of residuals that the factor did not see: each row is predicted with the median of the
rows of all other sites (weights, head groups).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from asymsim.calibration.fit import ITERATIONS, Row, Section, fit_table
from asymsim.calibration.gpu_file import number_text, put_sections
from asymsim.calibration.kernel_records import Record, read_records
from asymsim.calibration.residual_intervals import ROWS_A_GROUP, intervals, level_of
from asymsim.calibration.sections import LOADERS
from asymsim.calibration.shape_groups import FOLDS, SEED
from asymsim.calibration.user_rows import LEFT_OUT, UserRows, user_section_rows
from asymsim.catalogue.fitted_parameters import SECTIONS, FittedSection, transferred_interval
from asymsim.catalogue.gpu import Gpu, gpu_path, load_gpu
from asymsim.core.arrays import Array
from asymsim.core.times.parameters import BANDS, FITTED
from asymsim.estimator.gpu_arrays import fitted_section, gpu_arrays
from asymsim.estimator.operator_table import operator_times
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.files import write_file

# Distinct shapes: for a scale; for a fit where there is nothing to scale; for a fit in place of a scale.
SCALE_SHAPES, FIRST_FIT_SHAPES, FIT_SHAPES = 8, 60, 200
# Held-out shapes that a fit must leave to be judged on.
JUDGED_SHAPES = 8
# 95 % quantiles of Student's t, by degrees of freedom from 1.
_T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943)


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
        Length of the search of a fit.
    out : str or pathlib.Path, optional
        File for the GPU's text with the new sections, instead of its own.
    say : callable
        Takes a line about each section, and about what was left out.

    Returns
    -------
    list of dict
        A row a section: ``gpu``, ``section``, ``way`` (scale or fit), ``shapes``, ``sites``, ``time_scale``, ``median``
        and ``p90`` of |predicted / measured - 1| on sites that were left out, and the interval's ends where
        they are farthest.

    Raises
    ------
    InputError
        If the file is malformed, of another GPU, or corrects nothing; if a file cannot be written.
    """
    if iterations < 0:
        raise InputError("iterations", iterations, "must be at least 0")
    for section in sections:
        if section not in LOADERS:
            raise UnknownNameError("section", section, LOADERS)
    device = load_gpu(name)
    records = read_records(path, device)
    found, left = user_section_rows(records, device)
    new: dict[str, Section] = {}
    rows, reasons = [], []
    for section in sections or LOADERS:
        if section not in found:
            continue
        made, why = _corrected(found[section], device, iterations, left)
        if made is None:
            reasons.append(f"{section}: {why}")
            continue
        if why:
            say(f"{device.name} {section}: {why}")
        made |= _provenance(made, records, device, section, iterations, path)
        new[section] = made
        rows.append(_row(device, found[section], made))
    for reason, number in left.items():
        say(f"left out {number} {reason}: {LEFT_OUT[reason]}")
    if not new:
        said = "; ".join(reasons) or ", ".join(f"{number} {reason}" for reason, number in left.items()) or "no time"
        raise InputError("records", path, f"holds nothing that corrects {device.name} ({said})")
    for reason in reasons:
        say(f"left out {reason}")
    file = Path(name) if name.lower().endswith(".toml") or "/" in name else gpu_path(device.name)
    write_file(out or file, put_sections(file, new))
    return rows


def _corrected(own: UserRows, device: Gpu, iterations: int, left: Counter[str]) -> tuple[Section | None, str]:
    """A section from its rows, and what there is to say of it; None where it is left out, and why."""
    if len(own) < SCALE_SHAPES:
        return None, f"{len(own)} distinct shapes, at least {SCALE_SHAPES}"
    base = fitted_section(device, own.section)
    if base is None and len(own) < FIRST_FIT_SHAPES:
        return None, f"{len(own)} distinct shapes and no numbers to scale, at least {FIRST_FIT_SHAPES} for a fit"
    if base is not None and len(own) < FIT_SHAPES:
        return scaled(own, device, base, left)
    made, why = _fitted(own, device, iterations)
    if made is None and base is not None:
        made, more = scaled(own, device, base, left)
        why = f"scaled, not fitted: {why}" if made is not None else more
    return made, why


def _fitted(own: UserRows, device: Gpu, iterations: int) -> tuple[Section | None, str]:
    if find_spec("scipy") is None:
        return None, "a fit needs scipy (pip install 'asymsim[measured]')"
    table = own.table("")
    judged = int(table.held_out.sum())
    if judged < JUDGED_SHAPES:
        return None, f"{judged} shapes at held-out sites, at least {JUDGED_SHAPES} for a fit; measure more sites"
    try:
        made, _ = fit_table(table, device, own.section, iterations)
    except InputError as error:
        return None, str(error)
    return made, ""


def scaled(own: UserRows, device: Gpu, base: FittedSection, left: Counter[str]) -> tuple[Section | None, str]:
    """The numbers that a GPU has, with the factor of its own measurements and their interval.

    The factor exp(median(log(measured / predicted))) is applied before the roofline. Residuals are those of each site
    under the factor of all others, of each row where there is one site alone. Of 40 rows at 5 sites or more, the
    interval is their quantiles by band, widened until left-out sites are covered. Of fewer, it is the wider of their
    outermost quantiles and of t s about the median, s the root of their mean square and t the 95 % quantile of
    Student's distribution with one degree of freedom less than there are sites. One site tells nothing of others, so
    its interval is nowhere narrower than that of borrowed numbers.
    """
    numbers = {name: value for name, value in base.section.items() if name in (SECTIONS[own.section].names or ())}
    plain = {**base.section, "time_scale": 1.0}
    own, arrays = _known(own, replace(device, efficiency={**device.efficiency, own.section: plain}), left)
    if len(own) < SCALE_SHAPES:
        return None, f"{len(own)} distinct shapes that it has numbers for, at least {SCALE_SHAPES}"
    raw, floor = own.simulated(arrays), own.roofline(arrays)
    log_ratio, site = np.log(own.seconds / raw), own.shape_group_index()
    groups = site if len(np.unique(site)) > 1 else np.arange(len(own))
    scale = float(number_text(math.exp(np.median(log_ratio))))
    unseen = np.exp([np.median(log_ratio[groups != group]) for group in groups])
    ratio = own.seconds / np.maximum(unseen * raw, floor)
    predicted = np.maximum(scale * raw, floor)
    error = np.abs(1 / ratio - 1)
    made: Section = {**numbers, "time_scale": scale, **user_intervals(ratio, predicted, site, own.section)}
    made |= {
        "rows": len(own),
        "fitted_rows": len(own),
        "held_out_median_error": float(np.median(error)),
        "held_out_mean_error": float(error.mean()),
        "held_out_p90_error": float(np.quantile(error, 0.9)),
        "held_out_bias": float(np.median(1 / ratio) - 1),
    }
    return made, ""


def _known(own: UserRows, device: Gpu, left: Counter[str]) -> tuple[UserRows, Any]:
    """The rows that the class has numbers for, and the rates with these numbers."""
    arrays = gpu_arrays(device, own.dtype)
    sources = operator_times(own.operators, arrays, 1)[1]
    # Of several operators some are of another class, whatever its source.
    known = (np.maximum.reduceat(sources, own.begin) >= FITTED) | (np.diff([*own.begin, len(own.operators)]) > 1)
    if not known.all():
        left["head_size"] += int((~known).sum())
    return own.only(known), arrays


def user_intervals(ratio: Array, predicted: Array, site: Array, section: str) -> Section:
    """The interval of `scaled`, by measured / predicted of left-out rows."""
    sites = len(np.unique(site))
    if len(ratio) >= ROWS_A_GROUP and sites >= FOLDS:
        return intervals(ratio, predicted, level_of(ratio, predicted, site % FOLDS))
    reach = student_95(max(1, (sites if sites > 1 else len(ratio)) - 1)) * math.sqrt(np.mean(np.log(ratio) ** 2))
    low = min(math.exp(-reach), float(np.quantile(ratio, 0.05, method="weibull")))
    high = max(math.exp(reach), float(np.quantile(ratio, 0.95, method="weibull")))
    if sites == 1:
        borrowed = transferred_interval(section)[0]
        low, high = min(low, borrowed["ratio_p05"][0]), max(high, borrowed["ratio_p95"][0])
    edges = np.linspace(predicted.min(), predicted.max(), BANDS + 1)
    return {"band_edges_s": edges, "ratio_p05": np.full(BANDS, low), "ratio_p95": np.full(BANDS, high)}


def student_95(freedom: int) -> float:
    """95 % quantile of Student's t: a table, then the expansion of Abramowitz and Stegun, 26.7.5, to 1/freedom^3."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = 1.6448536
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _provenance(
    made: Section, records: Sequence[Record], device: Gpu, section: str, iterations: int, path: str
) -> Section:
    versions = "; ".join(dict.fromkeys(record.versions for record in records))
    what = f"own measurements, {Path(path).name} ({versions})"
    if "time_scale" in made:
        base = fitted_section(device, section)
        assert base is not None
        of = "" if base.source >= FITTED else "a relative's "
        # What was scaled before is scaled anew, from the same numbers.
        source = str(base.section["source"])
        what += f"; scale of {source.partition('; scale of ')[2] or f'{of}numbers of: {source}'}"
    return {
        "measured": True,
        "source": what,
        "date": max(record.date for record in records),
        "command": f"asymsim calibrate --gpu {device.name} --section {section} --iterations {iterations} "
        f"--records {Path(path).name} (split seed {SEED})",
    }


def _row(device: Gpu, own: UserRows, made: Section) -> Row:
    return {
        "gpu": device.name,
        "section": own.section,
        "way": "scale" if "time_scale" in made else "fit",
        "shapes": made["rows"],
        "shape_groups": len(np.unique(own.shape_group_index())),
        "time_scale": made.get("time_scale", 1.0),
        "median": made["held_out_median_error"],
        "p90": made["held_out_p90_error"],
        "ratio_p05": float(np.min(made["ratio_p05"])),
        "ratio_p95": float(np.max(made["ratio_p95"])),
    }
