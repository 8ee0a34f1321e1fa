"""Identity of a study: a hash of all that its results depend on, and of nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from asymsim.catalogue.engine import load_engine
from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.load import load_model
from asymsim.estimator.scenario import Scenario
from asymsim.methods.schedule_file import read_schedule
from asymsim.util.version import __version__

if TYPE_CHECKING:
    from asymsim.sweep.study import Study


def study_hash(study: Study) -> str:
    """Hash of a study with models, GPUs, engines and schedules by their present content, not by their names."""
    grid = study.grid
    named: dict[str, set[Any]] = {"model": set(), "gpu": set(), "engine": set(), "schedule": set()}
    base = {**{field.name: field.default for field in dataclasses.fields(Scenario)}, **grid.fixed}
    for field, names in named.items():
        axis = next((axis for axis in grid.axes if field in axis.fields), None)
        if axis is None:
            names.add(base[field])
        else:
            names.update(axis.item(index).get(field, base[field]) for index in range(axis.size))
    resolved = {
        "model": [repr(load_model(name)) for name in sorted(named["model"])],
        "gpu": [repr(load_gpu(name)) for name in sorted(named["gpu"])],
        "engine": [repr(load_engine(name)) for name in sorted(named["engine"])],
        "schedule": [repr(read_schedule(name)) for name in sorted(named["schedule"] - {None})],
    }
    content = {
        "version": __version__,
        "fixed": grid.fixed,
        "axes": [repr(axis) for axis in grid.axes],
        "resolved": resolved,
        "filters": [study.only_possible, *(repr(condition) for condition in study.filters)],
        "output": [study.figures, study.format, study.single, study.part_rows],
        "reducers": [repr(reducer) for reducer in study.reducers],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:16]
