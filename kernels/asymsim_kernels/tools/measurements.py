"""What a run of `measure` finds: measurements, their CSV, and whether the kernels' targets were met."""

from __future__ import annotations

import csv
import datetime
import io
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import triton

from asymsim_kernels.tools.measure_plan import Point
from asymsim_kernels.tools.timing import Quantiles

COLUMNS = (
    "gpu", "operator", "variant", "shape", "dtype", "metric", "p20", "p50", "p80", "unit", "versions", "date",
)  # fmt: skip
UNITS = {"seconds": "s", "flops_per_s": "FLOP/s", "bytes_per_s": "B/s", "error": "of allowed"}


@dataclass(frozen=True)
class Machine:
    """Where and when a run was made, as every row says it."""

    gpu: str
    versions: str
    date: str


@dataclass(frozen=True)
class Measurement:
    """One metric of one way to compute one point."""

    operator: str
    variant: str
    shape: str
    dtype: str
    metric: str
    value: Quantiles

    def row(self, machine: Machine) -> dict[str, str]:
        """The line of the CSV."""
        numbers = {name: f"{number:.6g}" for name, number in self.value._asdict().items()}
        own = {name: getattr(self, name) for name in ("operator", "variant", "shape", "dtype", "metric")}
        return {
            "gpu": machine.gpu,
            **own,
            **numbers,
            "unit": UNITS[self.metric],
            "versions": machine.versions,
            "date": machine.date,
        }


@dataclass
class Run:
    """What a run has found so far.

    Attributes
    ----------
    measurements : list of Measurement
    remarks : list of str
        What was left out, and why.
    wrong : int
        Configurations whose result was off; they have no time.
    """

    measurements: list[Measurement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    wrong: int = 0

    def find(self, operator: str, variant: str, shape: str, dtype: str, metric: str = "seconds") -> float | None:
        """Median of a metric; None if it was not measured. The copy is the same for all types."""
        for each in self.measurements:
            key = (each.operator, each.variant, each.shape, each.dtype, each.metric)
            if key == (operator, variant, shape, dtype, metric) or (
                operator == "copy" and (each.operator, each.metric) == (operator, metric)
            ):
                return each.value.p50
        return None


def verdicts(points: Sequence[Point], run: Run) -> Iterator[tuple[bool, str]]:
    """Whether each target was reached, as far as both sides were measured, and a line that says so."""
    for point in points:
        for target in point.targets:
            copy = target.operator == "copy"
            metric = "bytes_per_s" if copy else "seconds"
            own = run.find(point.operator, "triton", point.shape, point.dtype, metric)
            other = run.find(target.operator, target.variant, target.shape or point.shape, point.dtype, metric)
            if own is None or other is None:
                continue
            ratio = own / other if copy else other / own
            met = ratio >= target.least
            against = f"{target.operator} {target.variant}" + (f" at {target.shape}" if target.shape else "")
            what = f"{point.operator} {point.shape} {point.dtype}: {ratio:.3f} of {against}"
            yield met, f"{'met   ' if met else 'MISSED'} {what}, {target.least:.3g} wanted"


def csv_text(measurements: Iterable[Measurement], machine: Machine) -> str:
    """The measurements as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(each.row(machine) for each in measurements)
    return buffer.getvalue()


def write_aside(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def machine_of(device: torch.device) -> Machine:
    """Name of the GPU, versions of everything between it and the kernels, and today's date in UTC."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda" if torch.version.hip is None else "hip": torch.version.cuda or torch.version.hip,
        "driver": driver,
    }
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Machine(
        torch.cuda.get_device_name(device), ";".join(f"{name}={value}" for name, value in versions.items()), today
    )


def line(point: Point, run: Run) -> str:
    """The point's medians, and the kernel's share of the ceilings."""
    parts = [f"{point.operator} {point.shape} {point.dtype}:"]
    for each in run.measurements:
        if (each.operator, each.shape, each.dtype, each.metric) == (
            point.operator,
            point.shape,
            point.dtype,
            "seconds",
        ):
            parts.append(f"{each.variant} {each.value.p50 * 1e3:.4g} ms")
    ceilings = [("bytes_per_s", "GB/s", 1e9, run.find("copy", "copy", "", "", "bytes_per_s"))]
    products = [
        m for m in run.measurements if (m.operator, m.dtype, m.metric) == ("matmul", point.dtype, "flops_per_s")
    ]
    ceilings.append(("flops_per_s", "TFLOP/s", 1e12, products[0].value.p50 if products else None))
    for metric, unit, scale, ceiling in ceilings:
        own = run.find(point.operator, "triton", point.shape, point.dtype, metric)
        if own is not None and ceiling:
            parts.append(f"{own / scale:.4g} {unit} = {100 * own / ceiling:.0f} % of the ceiling")
    return " ".join(parts)
