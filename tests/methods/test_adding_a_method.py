"""A method added to a copy of the package by its two files alone: found, proved, and caught where its cost is wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = (
    "pyproject.toml",
    "asymsim",
    "reference",
    "tests/conftest.py",
    "tests/oracles",
    "tests/methods/test_registry.py",
    "tests/methods/test_refusals.py",
    "tests/reference/test_method_proof.py",
)
COST_FILE = "asymsim/methods/{name}.py"
# All tests of the one method, and of the other those that it must fail.
SELECTED = "toy- or toy] or (toy_forgets and test_counts_and_flops)"
REFERENCE_FILE = "reference/asymsim_reference/methods/{name}.py"

COST = '''
"""Toy: keep the image tokens whose inner products with the text tokens add up to most."""

from __future__ import annotations

from typing import ClassVar

from asymsim.catalogue.model import VlmModel
from asymsim.methods.base import Examples, Method, Requirements, register
from asymsim.methods.common.operations import gather, reduce, similarity, top_k
from asymsim.methods.common.requirements import vision_tower
from asymsim.methods.schedule import Schedule, keep_share
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@register("{name}")
@strict_dataclass
class Toy(Method):
    """``keep`` of the image tokens stay; ``spare`` is a setting to be out of range."""

    source: ClassVar[str] = "made up"
    requires: ClassVar[Requirements] = (vision_tower,)
    refused_settings: ClassVar[Examples] = ({{"spare": -1}},)

    spare: int = 0

    def build_schedule(self, model: VlmModel) -> Schedule:
        if self.spare < 0:
            raise InputError("{name}: spare", self.spare, "give 0 or more")
        compare = similarity("lm", 0, rows="visual", columns="{columns}")
        return Schedule(
            steps=(keep_share(self.keep),),
            operations=(compare, reduce("lm", 0, rows="visual", columns="text"), top_k("lm", 0), gather("lm", 0)),
        )
'''

REFERENCE = '''
"""Toy: keep the image tokens whose inner products with the text tokens add up to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asymsim_reference.methods.base import ReferenceMethod, register
from asymsim_reference.proof import ProofCases, same_settings, with_and_without_cls
from asymsim_reference.selection import floor_share, top_k
from asymsim_reference.tokens import PromptTokens


@register("{name}")
@dataclass
class Toy(ReferenceMethod):
    """The floor(keep N) best of N."""

    proof_cases: ClassVar[ProofCases] = with_and_without_cls(*same_settings({{}}, {{"keep": 0.3}}))

    keep: float = 0.5

    def before_layer(self, layer: int, tokens: PromptTokens) -> PromptTokens:
        if layer != 0:
            return tokens
        visual, text = tokens.hidden[tokens.visual], tokens.hidden[~tokens.visual]
        return tokens.keep_visual(top_k((visual @ text.T).sum(1), floor_share(self.keep, len(visual))))
'''


def copy_of_the_project(place: Path) -> None:
    for name in COPIED:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)


def add_method(place: Path, name: str, columns: str) -> None:
    (place / COST_FILE.format(name=name)).write_text(COST.lstrip().format(name=name, columns=columns))
    (place / REFERENCE_FILE.format(name=name)).write_text(REFERENCE.lstrip().format(name=name))


def contents(place: Path) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def test_two_files_add_a_method(tmp_path: Path) -> None:
    """``toy`` passes all tests that run over the registry; ``toy_forgets`` counts one text token instead of all."""
    copy_of_the_project(tmp_path)
    before = contents(tmp_path)
    add_method(tmp_path, "toy", columns="text")
    add_method(tmp_path, "toy_forgets", columns="1")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "reference")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_DISABLE_JIT": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfp", "-p", "no:cacheprovider", "-k", SELECTED, "tests"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    passed = set(re.findall(r"^PASSED (\S+)", done.stdout, re.MULTILINE))
    failed = set(re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE))
    proof = "tests/reference/test_method_proof.py::test_counts_and_flops"
    assert {f"{proof}[toy-{number}]" for number in range(4)} <= passed, done.stdout + done.stderr
    assert "tests/methods/test_refusals.py::test_models_without_what_a_method_requires[toy-text_only]" in passed
    for test in ("test_refusals.py::test_settings_out_of_range", "test_registry.py::test_invariants"):
        assert any(name.startswith(f"tests/methods/{test}[toy-") for name in passed)
    assert failed == {f"{proof}[toy_forgets-{number}]" for number in range(4)}
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {
        file.format(name=name) for file in (COST_FILE, REFERENCE_FILE) for name in ("toy", "toy_forgets")
    }
