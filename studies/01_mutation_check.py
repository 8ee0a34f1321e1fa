"""Do the tests notice when a kernel is wrong? Plants the faults of 01_mutants.toml, one at a time, and runs the tests.

    python studies/01_mutation_check.py [--only decode.py] [--out out/mutations.csv]

Each fault goes into a copy of the kernels; then the tests of the kernel that it hits run against the copy, sanitizer
included, and those of all kernels if they let it through. The result is a table, and a row a fault in the CSV. Exit
code 1 if fewer than 95 % are found.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kernels" / "asymsim_kernels"
LEAST = 0.95
LIMIT_S = 600
TESTS = ROOT / "tests" / "kernels"
FIRST_TESTS = {
    "layout": ("prefill", "column_mass"),
    "merge_states": ("merge_states", "decode"),
    "adaptive_budget": ("adaptive_budget", "top_k"),
}
"""Tests that see a file's faults soonest; those of its own name otherwise."""
NOT_OF_KERNELS = ("count", "sanitize", "resources", "mutation_check")
# Finding the smallest example of a failure takes longer than finding the failure.
PLUGIN = """
import pytest
from hypothesis import Phase, settings


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("unshrunk", parent=settings.get_profile("reproducible"), phases=phases)
    settings.load_profile("unshrunk")
"""


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, `old` becomes `new`; `breaks` says what then goes wrong."""

    file: str
    breaks: str
    old: str
    new: str


@dataclass(frozen=True)
class Verdict:
    """What the tests said of a fault; `by` is the test that failed."""

    number: int
    file: str
    breaks: str
    killed: bool
    by: str
    seconds: float


def read_mutants(path: Path) -> list[Mutant]:
    """The faults of a TOML file, each checked against the source as it stands.

    Raises
    ------
    SystemExit
        If a fault's old text is not in its file exactly once, changes nothing, or leaves no valid Python.
    """
    mutants = [Mutant(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]
    for mutant in mutants:
        source = (PACKAGE / mutant.file).read_text()
        times = source.count(mutant.old)
        if times != 1 or mutant.old == mutant.new:
            raise SystemExit(f"{mutant.file}: {mutant.breaks!r}: its old text stands {times} times; mend {path.name}")
        ast.parse(source.replace(mutant.old, mutant.new))
    return mutants


class Copy:
    """A copy of the kernels that tests import instead of the repository's."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "kernels" / PACKAGE.name
        shutil.copytree(PACKAGE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "unshrunk.py").write_text(PLUGIN)
        paths = [str(self.package.parent), str(folder), str(ROOT), str(ROOT / "reference"), str(ROOT / "tests")]
        # No bytecode: a source changed twice within a second would pass for the one before.
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRITON_INTERPRET": "1",
        }
        shown = self._python("-c", "import asymsim_kernels; print(asymsim_kernels.__file__)").stdout.strip()
        if Path(shown).parent.resolve() != self.package.resolve():
            raise SystemExit(f"tests would import {shown} instead of the copy")

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=ROOT, check=False, timeout=LIMIT_S
        )

    def failing_test(self, names: Sequence[str]) -> str:
        """Run tests/kernels/test_<name>.py until one fails; its name, or nothing if all pass.

        Raises
        ------
        SystemExit
            If the tests cannot run at all.
        """
        files = [f"tests/kernels/test_{name}.py" for name in names]
        # Compilation needs no kernel to be right, and takes longest.
        options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "unshrunk", "-k", "not compile", "--no-header")
        try:
            done = self._python("-m", "pytest", *options, *files)
        except subprocess.TimeoutExpired:
            return f"no end within {LIMIT_S} s"
        if done.returncode == 0:
            return ""
        if done.returncode < 0:
            return f"crash by signal {-done.returncode}"
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        if done.returncode != 1 or not failed:
            raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
        return failed[0].split()[1].removeprefix("tests/kernels/")

    def judge(self, number: int, mutant: Mutant) -> Verdict:
        """Plant a fault, run the tests, and take it out again."""
        path = self.package / mutant.file
        source = path.read_text()
        begin = time.monotonic()
        try:
            path.write_text(source.replace(mutant.old, mutant.new))
            first = first_tests(mutant.file)
            by = self.failing_test(first) or self.failing_test([name for name in kernel_tests() if name not in first])
        finally:
            path.write_text(source)
        return Verdict(number, mutant.file, mutant.breaks, bool(by), by, round(time.monotonic() - begin, 1))


def first_tests(file: str) -> tuple[str, ...]:
    """The tests that are nearest to a file."""
    name = file.removesuffix(".py")
    return FIRST_TESTS.get(name, (name,))


def kernel_tests() -> list[str]:
    """All tests of what kernels compute, those that this study gave rise to first."""
    names = sorted(path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py"))
    return sorted((name for name in names if name not in NOT_OF_KERNELS), key=lambda name: name != "mutants_killed")


def write_csv(path: Path, verdicts: Sequence[Verdict]) -> None:
    """A row a fault."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(verdicts[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(verdict) for verdict in verdicts)


def main(arguments: list[str] | None = None) -> int:
    """Judge every fault and say how many the tests found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="faults whose file or description holds this text")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutations.csv")
    chosen = parser.parse_args(arguments)
    numbered = enumerate(read_mutants(Path(__file__).with_name("01_mutants.toml")), start=1)
    mutants = [(i, each) for i, each in numbered if chosen.only in each.file or chosen.only in each.breaks]
    if not mutants:
        raise SystemExit(f"--only = {chosen.only!r}: no fault's file or description holds this text")
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        needed = dict.fromkeys(name for _, mutant in mutants for name in first_tests(mutant.file))
        if broken := copy.failing_test([*needed]):
            raise SystemExit(f"{broken} fails without any fault")
        for number, mutant in mutants:
            verdict = copy.judge(number, mutant)
            verdicts.append(verdict)
            said = f"killed by {verdict.by}" if verdict.killed else "SURVIVED"
            print(f"{number:3} {verdict.file:19} {verdict.breaks:68} {verdict.seconds:6.1f} s  {said}", flush=True)
            write_csv(chosen.out, verdicts)
    killed = sum(verdict.killed for verdict in verdicts)
    print(f"{killed} of {len(verdicts)} faults found ({100 * killed / len(verdicts):.1f} %)")
    return 0 if killed >= LEAST * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
