"""Do the tests notice when the simulator is wrong? Plants the faults of mutants/*.toml, one at a time.

    python studies/mutation_check_simulator.py [--only workload/mixes.py] [--area core] [--workers 2] [--out out/x.csv]

Each fault goes into a copy of the repository; then the tests run against it, those nearest to the faulty file first.
Nothing is compiled (NUMBA_DISABLE_JIT=1) until the nearest tests let a fault through; then, unless it is in the core,
which would be compiled anew, the tests run with the core compiled, which the copies under out/ keep from one run to the
next. The result is a table by area, and a row a fault in the CSV. Exit code 1 if fewer than 95 % are found.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from mutation import ROOT, Copy, Mutant, Stage, Verdict, enough, read_mutants, share_killed, write_csv

PACKAGE = ROOT / "asymsim"
CATALOGUE = Path(__file__).with_name("mutants")
COPIES = ROOT / "out" / "mutation_copies"
LIMIT_S = 600
FIRST_FILES = 3
COMPILED = "core"
UNCOMPILED = {"NUMBA_DISABLE_JIT": "1"}
LEFT_OUT = {
    "kernels": "tests of the Triton kernels, which have a study of their own",
    "bench": "measures speed, which means nothing uncompiled",
    "golden": "equality with an earlier output, which notices every change and proves no value right",
    "test_mutants_fit": "compares the catalogue of faults with the sources: every fault changes them",
    "test_architecture": "reads the sources and runs none of them",
}
"""Folders and files of tests that never run, and why."""
TOO_LONG = {
    "test_framework_flops": "the framework's own counts of whole models",
    "test_framework_flops_qwen": "likewise",
    "test_hf_parameters": "builds the framework's classes",
    "test_hf_parameters_qwen": "likewise",
    "test_studies": "runs every study",
    "test_without_jit": "runs other tests again",
}
"""Files of tests that take minutes and see what others see sooner."""
TOO_LONG_UNCOMPILED = {
    "test_comparison": "a hundred methods' searches",
    "test_countable": "every model",
    "test_plan": "simulates fleets",
    "test_goodput_curves": "likewise",
    "test_alone": "simulates every model and method",
    "test_written_runs": "runs of thousands of steps",
    "test_savings_plot": "draws curves of many estimates",
    "test_exact": "simulates request by request",
    "test_naive_simulator": "likewise",
    "test_serve_sim": "likewise",
}
"""Files of tests that do so with an uncompiled core."""
GENERAL = ("analysis", "cli", "estimator", "properties")
"""Folders whose tests run whole estimates, in which all folders of the package take part."""


def area_of(mutant: Mutant) -> str:
    """The folder of a fault's file, or the package itself."""
    folder, slash, _ = mutant.file.partition("/")
    return folder if slash else PACKAGE.name


def read_catalogue(folder: Path = CATALOGUE) -> list[Mutant]:
    """The faults of all files, each checked against the source as it stands."""
    return [mutant for path in sorted(folder.glob("*.toml")) for mutant in read_mutants(path, PACKAGE)]


def simulator_tests(root: Path = ROOT, compiled: bool = True) -> list[Path]:
    """The test files that run, below the root."""
    without = {*LEFT_OUT, *TOO_LONG, *(() if compiled else TOO_LONG_UNCOMPILED)}
    paths = (path.relative_to(root) for path in sorted((root / "tests").rglob("test_*.py")))
    return [path for path in paths if not without & {*path.parts, path.stem}]


def nearness(file: str, test: Path, text: str) -> int:
    """Rank of a test file for faults in a file of the package.

    0 by its name or where it imports the faulty module, 1 in a folder of that module's name (tests of core/serving are
    those of core and those of serving), 2 by the name of such a folder, 3 where it is general, 4 in any other folder.
    """
    path, folders = Path(file), set(test.parts[1:-1])
    if path.suffix == ".py":
        module = ".".join((PACKAGE.name, *path.with_suffix("").parts)).removesuffix(".__init__")
        parent, _, name = module.rpartition(".")
        imported = rf"\b{re.escape(module)}\b|from {re.escape(parent)} import .*\b{name}\b"
        if test.stem.removeprefix("test_") == path.stem or re.search(imported, text):
            return 0
    if folders & set(path.parts[:-1]):
        return 1
    if test.stem.removeprefix("test_") in path.parts[:-1]:
        return 2
    return 3 if not folders or folders & set(GENERAL) else 4


def nearest(mutant: Mutant, tests: Sequence[Path], root: Path = ROOT) -> tuple[list[str], list[str]]:
    """The test files that import the faulty module, are named after it or lie in its folder; and the wider set."""
    texts = {test: (root / test).read_text() for test in tests}
    ranks = {test: nearness(mutant.file, test, text) for test, text in texts.items()}
    # Tests name a method, a GPU or a model as its file is named. Short files are mostly quick ones, but for those that
    # take many random examples.
    name = re.compile(rf"\b{re.escape(Path(mutant.file).stem)}\b")

    def order(test: Path) -> tuple[int, bool, bool, int]:
        return ranks[test], "properties" in test.parts, not name.search(texts[test]), len(texts[test])

    ordered = sorted(tests, key=order)
    near = [str(test) for test in ordered if ranks[test] < 2]
    return near, [str(test) for test in ordered if ranks[test] in (2, 3)]


def stages(mutant: Mutant, root: Path = ROOT) -> list[Stage]:
    """The nearest tests uncompiled; the wider set, compiled unless the fault is in the core."""
    near, wide = nearest(mutant, simulator_tests(root, compiled=False), root)
    # Most faults are found by the first few files; importing the others takes as long as running these.
    first = [Stage(near[:FIRST_FILES], UNCOMPILED), Stage(near[FIRST_FILES:], UNCOMPILED)]
    if area_of(mutant) == COMPILED:
        return [*first, Stage(wide, UNCOMPILED)]
    compiled_near, compiled_wide = nearest(mutant, simulator_tests(root), root)
    slow = [file for file in compiled_near if file not in near]
    return [*first, Stage(slow), Stage(compiled_wide)]


def judged(mutants: Sequence[tuple[int, Mutant]], workers: int, out: Path) -> list[Verdict]:
    """The verdicts on all faults, printed and written as they come."""
    verdicts: list[Verdict] = []
    idle: SimpleQueue[Copy] = SimpleQueue()
    for worker in range(workers):
        folder = COPIES / str(worker)
        cache = {"NUMBA_CACHE_DIR": str(folder / "numba")}
        idle.put(Copy(folder, PACKAGE.name, cache, profile="plain", limit_s=LIMIT_S))

    def judge(numbered: tuple[int, Mutant]) -> Verdict:
        number, mutant = numbered
        copy = idle.get()
        try:
            return copy.judge(number, mutant, *stages(mutant))
        finally:
            idle.put(copy)

    with ThreadPoolExecutor(workers) as pool:
        for verdict in pool.map(judge, mutants):
            verdicts.append(verdict)
            print(verdict, flush=True)
            write_csv(out, verdicts)
    return verdicts


def main(arguments: list[str] | None = None) -> int:
    """Judge every fault and say how many the tests found, by area."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="faults whose file or description holds this text")
    parser.add_argument("--area", default="", help="faults in this folder of the package, such as core")
    parser.add_argument("--workers", type=int, default=2, help="test processes at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mutations_simulator.csv")
    chosen = parser.parse_args(arguments)
    mutants = [
        (number, mutant)
        for number, mutant in enumerate(read_catalogue(), start=1)
        if (chosen.only in mutant.file or chosen.only in mutant.breaks) and chosen.area in ("", area_of(mutant))
    ]
    if not mutants:
        raise SystemExit(f"--only = {chosen.only!r}, --area = {chosen.area!r}: no fault is both")
    verdicts = judged(mutants, chosen.workers, chosen.out)
    by_area: dict[str, list[Verdict]] = {}
    for (_, mutant), verdict in zip(mutants, verdicts, strict=True):
        by_area.setdefault(area_of(mutant), []).append(verdict)
    for area, area_verdicts in sorted(by_area.items()):
        print(f"{area:12} {share_killed(area_verdicts)}")
    print(f"{'all':12} {share_killed(verdicts)}")
    return 0 if enough(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
