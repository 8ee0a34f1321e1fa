"""Imports of the whole package, those for types alone included, against the layers that pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import statistics
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "asymsim"
MAX_ENTRIES = 15
MAX_LINES = 300
MAX_MEDIAN_LINES = 110
# A file of more than MAX_LINES, with the reason why it is one. None is at present.
LONG_FILES: dict[str, str] = {}


def name_of(path: Path) -> str:
    """The module in a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports anywhere in its text, with their lines."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: write the whole name of the module"
            # "from package import module" imports the module, "from module import name" the module of the name.
            full_names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in full_names]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name in MODULES)


@cache
def graph() -> dict[str, set[str]]:
    """Modules with the modules that they import."""
    # The public door imports from all layers when a name is first used, and nothing below it imports the door.
    return {
        module: {name for name, _ in imported(module)} - {module, "asymsim"}
        for module in MODULES
        if module != "asymsim"
    }


def layers() -> list[set[str]]:
    """The folders of each layer, the uppermost first, as the contract of import-linter has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = [contract for contract in settings["contracts"] if contract["type"] == "layers"]
    assert contract["exhaustive"] is True
    return [{name.strip() for name in re.split(r"[|:]", layer)} for layer in contract["layers"]]


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972, algorithm STRONGCONNECT)."""
    indices: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        indices[node] = lowest[node] = len(indices)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in indices:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], indices[target])
        if lowest[node] == indices[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(component)

    for node in sorted(edges):
        if node not in indices:
            visit(node)
    return components


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]


def test_no_module_imports_itself_through_others() -> None:
    assert len(graph()) > 200
    assert circles(graph()) == []


def test_no_folder_imports_itself_through_others() -> None:
    edges: dict[str, set[str]] = {}
    for module, targets in graph().items():
        folder = module.split(".")[1]
        edges.setdefault(folder, set()).update({target.split(".")[1] for target in targets} - {folder})
    assert circles(edges) == []


def test_imports_point_down() -> None:
    height = {folder: -level for level, folders in enumerate(layers()) for folder in folders}
    upward = []
    for module in graph():
        for target, line in imported(module):
            source_folder, target_folder = module.split(".")[1], target.partition(".")[2].split(".")[0]
            if source_folder in ("__main__", target_folder) or not target_folder:
                continue
            if height[target_folder] >= height[source_folder]:
                upward.append(f"{module}:{line} imports {target}")
    assert upward == []


def test_the_contract_names_every_folder() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    named = set().union(*layers())
    assert folders == named


def test_the_page_has_the_layers_of_the_contract() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)/` \|", page, re.MULTILINE)
    assert len(rows) == len(dict.fromkeys(rows))
    written: dict[int, set[str]] = {}
    for level, folder in rows:
        written.setdefault(int(level), set()).add(folder)
    assert [written[level] for level in sorted(written, reverse=True)] == layers()


def test_the_package_has_few_entries() -> None:
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__" and path.suffix != ".pyc"]
    code = [name for name in entries if name != "py.typed"]
    assert len(code) <= MAX_ENTRIES, sorted(code)


def test_long_files_have_a_reason() -> None:
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values()
    }
    long_files = {name: length for name, length in lengths.items() if length > MAX_LINES}
    assert set(long_files) == set(LONG_FILES), long_files
    assert all(reason.strip() for reason in LONG_FILES.values())
    assert statistics.median(lengths.values()) <= MAX_MEDIAN_LINES


def test_every_folder_says_what_it_holds() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, f"{path.relative_to(ROOT)} has no docstring"
