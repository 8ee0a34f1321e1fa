"""Do the tests notice when a kernel is wrong? Plants the faults of 01_mutants.toml, one at a time, and runs the tests.

    python studies/01_mutation_check.py [--only decode.py] [--out out/mutations.csv]

Each fault goes into a copy of the kernels; then the tests of the kernel that it hits run against the copy, sanitizer
included, and those of all kernels if they let it through. The result is a table, and a row a fault in the CSV. Exit
code 1 if fewer than 95 % are found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mutation import ROOT, Copy, Mutant, Stage, enough, read_mutants, share_killed, write_csv

PACKAGE = ROOT / "kernels" / "asymsim_kernels"
TESTS = ROOT / "tests" / "kernels"
FIRST_TESTS = {
    "layout": ("prefill", "column_mass"),
    "merge_states": ("merge_states", "decode"),
    "adaptive_budget": ("adaptive_budget", "top_k"),
}
"""Tests that see a file's faults soonest; those of its own name otherwise."""
NOT_OF_KERNELS = ("count", "sanitize", "resources", "mutation_check")


def kernels_copy(folder: Path) -> Copy:
    """A copy whose kernels are interpreted. Compilation needs no kernel to be right, and takes longest."""
    return Copy(folder, "kernels/asymsim_kernels", {"TRITON_INTERPRET": "1"}, ("-k", "not compile"))


def first_tests(file: str) -> tuple[str, ...]:
    """The tests that are nearest to a file."""
    name = file.removesuffix(".py")
    return FIRST_TESTS.get(name, (name,))


def kernel_tests() -> list[str]:
    """All tests of what kernels compute, those that this study gave rise to first."""
    names = sorted(path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py"))
    return sorted((name for name in names if name not in NOT_OF_KERNELS), key=lambda name: name != "mutants_killed")


def files(names: Sequence[str]) -> list[str]:
    """The test files of these names."""
    return [f"tests/kernels/test_{name}.py" for name in names]


def stages(mutant: Mutant) -> tuple[Stage, Stage]:
    """The nearest test files, and all others."""
    first = first_tests(mutant.file)
    return Stage(files(first)), Stage(files([name for name in kernel_tests() if name not in first]))


def main(arguments: list[str] | None = None) -> int:
    """Judge every fault and say how many the tests found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="faults whose file or description holds this text")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutations.csv")
    chosen = parser.parse_args(arguments)
    numbered = enumerate(read_mutants(Path(__file__).with_name("01_mutants.toml"), PACKAGE), start=1)
    mutants = [(i, each) for i, each in numbered if chosen.only in each.file or chosen.only in each.breaks]
    if not mutants:
        raise SystemExit(f"--only = {chosen.only!r}: no fault's file or description holds this text")
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        copy = kernels_copy(Path(folder))
        needed = dict.fromkeys(name for _, mutant in mutants for name in first_tests(mutant.file))
        if broken := copy.failing_test(files([*needed])):
            raise SystemExit(f"{broken} fails without any fault")
        for number, mutant in mutants:
            verdicts.append(copy.judge(number, mutant, *stages(mutant)))
            print(verdicts[-1], flush=True)
            write_csv(chosen.out, verdicts)
    print(share_killed(verdicts))
    return 0 if enough(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
