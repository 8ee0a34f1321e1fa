"""Times of the kernels on the GPU at hand, right ones only, beside PyTorch's and beside what the GPU can do at most.

    python -m asymsim_kernels.tools.measure --out FILE.csv [--kernels prefill,decode] [--quick] [--grid] [--tune]
        [--limit S]

Ceilings first: a large copy (reads and writes counted) and large matrix products. Then, at every shape of
`measure_plan`, the kernel's result is held to a float64 reference, and only if it is right are the kernel, PyTorch's
SDPA and the operator-by-operator version timed, with a cold L2. ``--tune`` tries other block sizes and records each.
Rows are kept as long CSV: a line a metric, with the quantiles, versions and date.

Without a GPU: one line and exit code 2, and no file. Exit code 1 if a kernel was wrong or missed a target.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from triton.errors import TritonError

from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.attention_subjects import column_mass_subject, decode_subject, prefill_subject
from asymsim_kernels.tools.measure_plan import OPERATORS, Point, grid, plan, tunings
from asymsim_kernels.tools.measurements import (
    Machine,
    Measurement,
    Run,
    csv_text,
    line,
    machine_of,
    verdicts,
    write_aside,
)
from asymsim_kernels.tools.shapes import Value
from asymsim_kernels.tools.subject import Draw, Subject
from asymsim_kernels.tools.timing import GpuTimer, Quantiles, Timer, rate
from asymsim_kernels.tools.token_subjects import (
    compact_subject,
    copy_subject,
    matmul_subject,
    merge_tokens_subject,
    scorer_subject,
    similarity_subject,
    top_k_subject,
)

SUBJECTS: dict[str, Callable[[Mapping[str, Value], Draw], Subject]] = {
    "copy": copy_subject,
    "matmul": matmul_subject,
    "prefill": prefill_subject,
    "decode": decode_subject,
    "column_mass": column_mass_subject,
    "scorer": scorer_subject,
    "similarity": similarity_subject,
    "top_k": top_k_subject,
    "merge_tokens": merge_tokens_subject,
    "compact": compact_subject,
}


def measure(point: Point, device: torch.device, timer: Timer, run: Run, blocks: Iterable[Blocks] = ()) -> None:
    """Measure one point: the kernel as it ships, the other ways, then the kernel with the block sizes given."""
    subject = SUBJECTS[point.operator](point.values, Draw(device, point.dtype))
    name = f"{point.operator} {point.shape} {point.dtype}"

    def keep(variant: str, metric: str, value: Quantiles, shape: str = point.shape) -> None:
        run.measurements.append(Measurement(point.operator, variant, shape, point.dtype, metric, value))

    def clock(variant: str, call: Callable[[], object], shape: str = point.shape) -> None:
        seconds = timer(call)
        keep(variant, "seconds", seconds, shape)
        if subject.flops:
            keep(variant, "flops_per_s", rate(subject.flops, seconds), shape)
        keep(variant, "bytes_per_s", rate(subject.moved_bytes, seconds), shape)

    def kernel(chosen: Blocks | None, shape: str) -> None:
        assert subject.kernel is not None
        share = subject.judge(subject.kernel(chosen))
        keep("triton", "error", Quantiles(share, share, share), shape)
        if share > 1:
            run.wrong += 1
            run.remarks.append(f"{name} {chosen or ''}: WRONG, {share:.3g} times the error allowed; not timed")
            return
        clock("triton", lambda: subject.kernel(chosen), shape)  # type: ignore[misc]

    if subject.kernel is not None:
        kernel(None, point.shape)
    for variant, call in subject.others.items():
        try:
            clock(variant, call)
        except RuntimeError as error:
            # Out of memory, or no SDPA kernel for this shape.
            run.remarks.append(f"{name}: no {variant} ({str(error).splitlines()[0]})")
    for chosen in blocks:
        label = f"{point.shape};blocks={chosen.m}x{chosen.n};warps={chosen.warps};stages={chosen.stages}"
        try:
            kernel(chosen, label)
        except (TritonError, RuntimeError, ValueError) as error:
            run.remarks.append(f"{name} {chosen}: does not run ({str(error).splitlines()[0]})")


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="asymsim_kernels.tools.measure", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="CSV to write; its folder must exist")
    parser.add_argument("--kernels", default=",".join(OPERATORS), help="operators joined by commas; all by default")
    parser.add_argument("--quick", action="store_true", help="one shape an operator, fewer repetitions")
    parser.add_argument("--grid", action="store_true", help="shapes for asymsim calibrate --records instead")
    parser.add_argument("--tune", action="store_true", help="try other block sizes at one shape an operator")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds after which no further shape is begun")
    chosen = parser.parse_args(arguments)
    chosen.kernels = [name.strip() for name in chosen.kernels.split(",") if name.strip()]
    unknown = [name for name in chosen.kernels if name not in OPERATORS]
    if unknown or not chosen.kernels:
        parser.error(f"--kernels = {','.join(unknown)!r}: give some of {', '.join(OPERATORS)}")
    if not chosen.limit > 0:
        parser.error(f"--limit = {chosen.limit}: give seconds above 0")
    if not chosen.out.resolve().parent.is_dir() or chosen.out.is_dir():
        parser.error(f"--out = {str(chosen.out)!r}: give a file in a folder that exists")
    return chosen


def measure_all(
    points: Sequence[Point], device: torch.device, timer: Timer, machine: Machine, chosen: argparse.Namespace
) -> Run:
    """Measure point by point until the time is over, and write the file anew after each."""
    run, begin = Run(), time.monotonic()
    for number, point in enumerate(points):
        if time.monotonic() - begin > chosen.limit:
            run.remarks.append(f"stopped after {number} of {len(points)} shapes: {chosen.limit:g} s are over")
            break
        tries = tunings(point.operator) if chosen.tune and point.quick and point.operator in OPERATORS else ()
        timely = (blocks for blocks in tries if time.monotonic() - begin <= chosen.limit)
        try:
            measure(point, device, timer, run, timely)
        except torch.cuda.OutOfMemoryError:
            run.remarks.append(f"{point.operator} {point.shape} {point.dtype}: does not fit the GPU's memory")
        write_aside(chosen.out, csv_text(run.measurements, machine))
        print(line(point, run), file=sys.stderr, flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return run


def main(arguments: list[str] | None = None) -> int:
    """Measure on this machine's GPU."""
    chosen = arguments_of(arguments)
    if not torch.cuda.is_available():
        print("asymsim_kernels.tools.measure: no GPU here, and times are only ever measured", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    points = grid(("copy", "matmul", *chosen.kernels)) if chosen.grid else plan(chosen.kernels, quick=chosen.quick)
    timer = GpuTimer(device, budget_s=0.1 if chosen.quick else 0.3)
    run = measure_all(points, device, timer, machine_of(device), chosen)
    found = list(verdicts(points, run))
    for text in (*run.remarks, *(text for _, text in found)):
        print(text, file=sys.stderr)
    return 1 if run.wrong or not all(met for met, _ in found) else 0


if __name__ == "__main__":
    sys.exit(main())
