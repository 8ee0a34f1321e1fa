"""Faults that the mutation check of the simulator plants, against the sources; its choice and order of tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from oracles.study_modules import STUDIES, imported_studies

ROOT = Path(__file__).parents[2]
AREAS = ("analysis", "calibration", "catalogue", "core", "estimator", "methods", "serving", "sweep", "validation")


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    with imported_studies([STUDIES / "mutation_check_simulator.py"], "mutation") as modules:
        yield modules["mutation_check_simulator"]


def test_every_fault_fits_the_sources_and_every_area_has_several(study: ModuleType) -> None:
    # Reading refuses a fault whose old text does not stand exactly once, or that leaves no valid Python.
    mutants = study.read_catalogue()
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in mutants}) == len(mutants)
    areas = Counter(map(study.area_of, mutants))
    assert sum(areas[area] for area in AREAS) >= 400
    for area in AREAS:
        assert areas[area] >= 10, area


def test_a_fault_that_no_longer_fits_stops_the_study(study: ModuleType, tmp_path: Path) -> None:
    entry = '[[mutant]]\nfile = "util/units.py"\nbreaks = "b"\nold = "{old}"\nnew = "x"\n'
    for old in ("text that stands nowhere", "def "):
        (tmp_path / "some.toml").write_text(entry.format(old=old))
        with pytest.raises(SystemExit, match="old text stands"):
            study.read_catalogue(tmp_path)


def test_the_nearest_tests_come_first_and_none_twice(study: ModuleType, tmp_path: Path) -> None:
    texts = {
        "serving/workload/test_mixes.py": "mixes",
        "serving/planning/test_plan.py": "from asymsim.serving.workload.mixes import Mix",
        "serving/test_other.py": "from asymsim.serving import metrics",
        "properties/test_costs.py": "import asymsim",
        "sweep/test_run.py": "import asymsim",
        "cli/test_mix.py": "from asymsim.serving.workload import mixes, spec\n" + "\n" * 99,
        "bench/test_speed.py": "from asymsim.serving.workload.mixes import Mix",
        "studies/test_studies.py": "from asymsim.serving.workload.mixes import Mix",
    }
    for name, text in texts.items():
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mutant = study.Mutant("serving/workload/mixes.py", "b", "old", "new")
    assert "tests/serving/planning/test_plan.py" not in map(str, study.simulator_tests(tmp_path, compiled=False))
    near, others = study.nearest(mutant, study.simulator_tests(tmp_path), tmp_path)
    assert others == ["tests/properties/test_costs.py"]
    quick = ["tests/serving/workload/test_mixes.py", "tests/cli/test_mix.py", "tests/serving/test_other.py"]
    assert near == [quick[0], "tests/serving/planning/test_plan.py", *quick[1:]]
    uncompiled, more, slow, wide = study.stages(mutant, tmp_path)
    assert uncompiled == (quick, {"NUMBA_DISABLE_JIT": "1"})
    # The core is compiled only where these let a fault through, and never where it is the faulty one.
    assert (more.files, slow, wide) == ([], (["tests/serving/planning/test_plan.py"], {}), (others, {}))
    faulty_core = study.stages(study.Mutant("core/operators/rows.py", "b", "old", "new"), tmp_path)
    assert all(stage.variables == {"NUMBA_DISABLE_JIT": "1"} for stage in faulty_core)


def test_tests_that_name_the_faulty_file_come_before_others_of_its_folder(study: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "tests" / "methods").mkdir(parents=True)
    for name, text in (("test_kv.py", ""), ("test_work.py", '"dart", "fastv"'), ("test_other.py", '"darts"')):
        (tmp_path / "tests" / "methods" / name).write_text(text)
    near, _ = study.nearest(
        study.Mutant("methods/dart.py", "b", "old", "new"), study.simulator_tests(tmp_path), tmp_path
    )
    assert near == [f"tests/methods/{name}" for name in ("test_work.py", "test_kv.py", "test_other.py")]


def test_every_folder_of_the_package_has_tests_of_its_name(study: ModuleType) -> None:
    tests = [str(test) for test in study.simulator_tests()]
    for folder in sorted(path.parent.name for path in study.PACKAGE.glob("*/__init__.py")):
        assert any(test.startswith(f"tests/{folder}/") for test in tests), folder


def test_tests_that_are_left_out_exist(study: ModuleType) -> None:
    paths = [path for path in (ROOT / "tests").rglob("*") if "__pycache__" not in path.parts]
    names = {path.stem for path in paths}
    assert {*study.LEFT_OUT, *study.TOO_LONG, *study.TOO_LONG_UNCOMPILED, *study.GENERAL} <= names


def test_verdicts_count_and_a_named_survivor_counts_as_not_found(study: ModuleType) -> None:
    killed = study.Verdict(1, "util/units.py", "b", True, "test_units.py::test_x", 1.0)
    survivor = study.Verdict(2, "util/units.py", "b", False, "", 1.0, survives="changes no result")
    assert study.share_killed([killed] * 19 + [survivor]) == "19 of 20 faults found (95.0 %)"
    assert study.enough([killed] * 19 + [survivor])
    assert not study.enough([killed] * 18 + [survivor])
    assert "SURVIVED (changes no result)" in str(survivor)
