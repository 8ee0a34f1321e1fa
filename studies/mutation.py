"""Faults planted one at a time in a copy of the repository, and the tests that notice them.

Shared by the two studies of the tests: of the kernels (01_mutation_check.py) and of the simulator
(mutation_check_simulator.py).
"""

from __future__ import annotations

import ast
import csv
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEAST = 0.95
NO_END = "no end within"
CACHES = (".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__")
# Finding the smallest example of a failure takes longer than finding the failure.
PLUGIN = """
import pytest
from hypothesis import Phase, settings


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("unshrunk", parent=settings.get_profile("{profile}"), phases=phases)
    settings.load_profile("unshrunk")
"""


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, `old` becomes `new`; `breaks` says what then goes wrong.

    `survives` is the reason why no test can notice the fault, where there is one.
    """

    file: str
    breaks: str
    old: str
    new: str
    survives: str = ""


@dataclass(frozen=True)
class Verdict:
    """The tests' verdict on a fault; `by` is the test that failed, or says that they did not end in time.

    Tests that do not end find nothing: they may only be slow.
    """

    number: int
    file: str
    breaks: str
    killed: bool
    by: str
    seconds: float
    survives: str = ""

    def __str__(self) -> str:
        reason = f"({self.survives})" if self.survives else ""
        ending = f"killed by {self.by}" if self.killed else " ".join(filter(None, ("SURVIVED", self.by, reason)))
        return f"{self.number:3} {self.file:30} {self.breaks:80} {self.seconds:6.1f} s  {ending}"


class Stage(NamedTuple):
    """Test files that run together, and the variables of their environment."""

    files: Sequence[str]
    variables: Mapping[str, str] = {}


def read_mutants(path: Path, package: Path) -> list[Mutant]:
    """The faults of a TOML file, each checked against the source as it stands.

    Raises
    ------
    SystemExit
        If a fault's old text is not in its file exactly once, or changes nothing.
    SyntaxError, tomllib.TOMLDecodeError
        If the changed file is no valid Python or TOML.
    """
    mutants = [Mutant(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]
    for mutant in mutants:
        source = (package / mutant.file).read_text()
        times = source.count(mutant.old)
        if times != 1 or mutant.old == mutant.new:
            raise SystemExit(f"{mutant.file}: {mutant.breaks!r}: its old text stands {times} times; mend {path.name}")
        parse = tomllib.loads if mutant.file.endswith(".toml") else ast.parse
        parse(source.replace(mutant.old, mutant.new))
    return mutants


class Copy:
    """A copy of the repository, whose tests import its own packages.

    Parameters
    ----------
    folder : Path
        Where the copy goes.
    package : str
        Folder of the package that faults go into, below the repository's root.
    environment : mapping
        Variables of all test processes, beside those of this one.
    options : sequence of str
        Options of pytest.
    profile : str
        Hypothesis profile of the tests.
    limit_s : int
        Seconds after which tests are stopped.
    """

    def __init__(
        self,
        folder: Path,
        package: str,
        environment: Mapping[str, str],
        options: Sequence[str] = (),
        profile: str = "reproducible",
        limit_s: int = 600,
    ) -> None:
        self.root = folder / "repository"
        shutil.rmtree(self.root, ignore_errors=True)
        # Files keep their times, by which compiled code of an earlier copy at the same place is known again.
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(".git", ".venv", "out", *CACHES))
        (self.root / "unshrunk.py").write_text(PLUGIN.format(profile=profile))
        self.package = self.root / package
        self.options, self.limit_s = options, limit_s
        paths = [self.package.parent, *(self.root / part for part in ("", "reference", "kernels", "tests"))]
        # No bytecode: a source changed twice within a second would pass for the one before.
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        imported = self._python("-c", f"import {self.package.name} as package; print(package.__file__)").stdout.strip()
        if Path(imported).parent.resolve() != self.package.resolve():
            raise SystemExit(f"tests would import {imported} instead of the copy")

    def _python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**self.environment, **variables},
            cwd=self.root,
            check=False,
            timeout=self.limit_s,
        )

    def failing_test(self, files: Sequence[str], **variables: str) -> str:
        """Run test files, named from the root, until a test fails; its name, or nothing if all pass.

        ``variables`` are those of this run's environment alone.

        Raises
        ------
        SystemExit
            If the tests cannot run at all.
        """
        options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "unshrunk", "--no-header", *self.options)
        try:
            done = self._python("-m", "pytest", *options, *files, **variables)
        except subprocess.TimeoutExpired:
            return f"{NO_END} {self.limit_s} s"
        if done.returncode == 0:
            return ""
        if done.returncode < 0:
            return f"crash by signal {-done.returncode}"
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR "))]
        if done.returncode not in (1, 2) or not failed:
            raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
        return failed[0].split()[1].removeprefix("tests/")

    def judge(self, number: int, mutant: Mutant, *stages: Stage) -> Verdict:
        """Plant a fault, run the test files stage by stage until a test fails, and take the fault out again.

        Raises
        ------
        SystemExit
            If the faulty file cannot even be imported: a broken entry, not a fault that tests could find.
        """
        path = self.package / mutant.file
        source, times = path.read_text(), path.stat()
        begin = time.monotonic()
        failing = ""
        try:
            path.write_text(source.replace(mutant.old, mutant.new))
            if path.suffix == ".py":
                module = ".".join((self.package.name, *Path(mutant.file).with_suffix("").parts))
                imported = self._python("-c", f"import {module.removesuffix('.__init__')}")
                if imported.returncode:
                    raise SystemExit(f"{mutant.file}: {mutant.breaks!r} cannot be imported:\n{imported.stderr[-2000:]}")
            for stage in stages:
                failing = self.failing_test(stage.files, **stage.variables) if stage.files else ""
                if failing:
                    break
        finally:
            path.write_text(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        seconds = round(time.monotonic() - begin, 1)
        killed = bool(failing) and not failing.startswith(NO_END)
        return Verdict(number, mutant.file, mutant.breaks, killed, failing, seconds, mutant.survives)


def write_csv(path: Path, verdicts: Sequence[Verdict]) -> None:
    """A row a fault."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(verdicts[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(verdict) for verdict in verdicts)


def share_killed(verdicts: Sequence[Verdict]) -> str:
    """The number of faults that tests found, of how many, and the share."""
    killed = sum(verdict.killed for verdict in verdicts)
    return f"{killed} of {len(verdicts)} faults found ({100 * killed / len(verdicts):.1f} %)"


def enough(verdicts: Sequence[Verdict]) -> bool:
    """Whether tests found at least 95 % of the faults."""
    return sum(verdict.killed for verdict in verdicts) >= LEAST * len(verdicts)
