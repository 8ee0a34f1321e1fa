"""The faults that the mutation check plants still fit the kernels' sources, and its bookkeeping is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from oracles.study_modules import STUDIES, imported_studies

FILES = {
    "prefill": ("prefill.py", "layout.py"),
    "decode": ("decode.py", "merge_states.py"),
    "column_mass": ("column_mass.py",),
    "scorer": ("scorer.py",),
    "similarity": ("similarity.py",),
    "top_k": ("top_k.py", "adaptive_budget.py"),
    "merge_tokens": ("merge_tokens.py",),
    "compact": ("compact.py",),
}


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    with imported_studies([STUDIES / "01_mutation_check.py"], "mutation") as modules:
        yield modules["mutation_check"]


def test_every_fault_fits_the_sources_and_every_kernel_has_several(study: ModuleType) -> None:
    mutants = study.read_mutants(STUDIES / "01_mutants.toml", study.PACKAGE)
    assert len(mutants) >= 20
    assert len({(mutant.file, mutant.new, mutant.old) for mutant in mutants}) == len(mutants)
    for kernel, files in FILES.items():
        assert sum(mutant.file in files for mutant in mutants) >= 4, kernel


@pytest.mark.parametrize(
    ("old", "new"),
    [("text that no kernel holds", "x"), ("import torch", "import torch"), ("tl.load(", "tl.load(")],
)
def test_a_fault_that_no_longer_fits_stops_the_study(study: ModuleType, old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(f'[[mutant]]\nfile = "prefill.py"\nbreaks = "b"\nold = "{old}"\nnew = "{new}"\n')
    with pytest.raises(SystemExit, match="old text stands"):
        study.read_mutants(path, study.PACKAGE)


def test_a_fault_must_leave_valid_python(study: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text('[[mutant]]\nfile = "tiles.py"\nbreaks = "b"\nold = "import math"\nnew = "import ("\n')
    with pytest.raises(SyntaxError):
        study.read_mutants(path, study.PACKAGE)


def test_faults_go_into_a_copy_that_the_tests_import(study: ModuleType, tmp_path: Path) -> None:
    copy = study.kernels_copy(tmp_path)
    before = (study.PACKAGE / "compact.py").read_text()
    mutant = study.Mutant("compact.py", "kernels cannot be imported", "import torch\n", "import torch_is_not_here\n")
    # What cannot even be imported is a broken entry, not a fault that was found.
    with pytest.raises(SystemExit, match="cannot be imported"):
        copy.judge(1, mutant)
    assert (copy.package / "compact.py").read_text() == before
    assert (study.PACKAGE / "compact.py").read_text() == before
