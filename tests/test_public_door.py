"""The names that ``asymsim`` exports, and the Python of README and docs, which needs no others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asymsim

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]
# The public door as it was decided; a name that leaves breaks its users.
PROMISED = {
    "AsymsimError", "ClusterConfig", "EngineConfig", "Estimate", "InputError", "MissingExtraError", "PlanQuery",
    "Scenario", "SloTarget", "UnknownNameError", "UnsupportedError", "WorkloadSpec", "compare", "estimate", "evaluate",
    "list_methods", "load_gpu", "load_model", "plan", "savings_curves", "simulate",
}  # fmt: skip


def test_the_door_has_the_promised_names_and_each_opens() -> None:
    assert set(asymsim.__all__) >= PROMISED
    assert set(dir(asymsim)) >= set(asymsim.__all__)
    for name in set(asymsim.__all__) - {"__version__"}:
        assert getattr(asymsim, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'estimat'"):
        _ = asymsim.estimat


def test_type_checkers_see_the_names_that_are_exported() -> None:
    tree = ast.parse((ROOT / "asymsim" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        (alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    lazily = {(name, getattr(asymsim, name).__module__) for name in set(asymsim.__all__) - {"__version__"}}
    assert imported == lazily


def test_importing_the_package_imports_neither_numpy_nor_pydantic() -> None:
    script = "import asymsim, sys; print(sorted({'numpy', 'numba', 'pydantic', 'rich'} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_readme_and_docs_have_examples() -> None:
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_import_from_the_door_and_run(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {
        name
        for node in ast.walk(ast.parse(block))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert {name for name in modules if name.startswith("asymsim")} == {"asymsim"}
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "example", "exec"), {})
    if "print(" in block:
        assert capsys.readouterr().out.strip()
