"""The command ``validate``: the simulator against kernels, compilers, measurements and dense attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_names
from asymsim.cli.shared_flags import FormatFlag, OutFlag
from asymsim.cli.terminal import emit, progress, say

CHECKS = Group("Check", sort_key=2)
checks = App(name="validate", help="Compare the simulator with kernels, compilers, measurements and dense attention.")
KernelFlag = Annotated[
    str | None, Parameter(group=CHECKS, help="Kernels joined by commas; all by default.", name="--kernels")
]


def _names(text: str | None, field: str) -> Sequence[str]:
    """Names joined by commas, or none, which stands for all."""
    return parse_names(text, field) if text else ()


@checks.command
def kernels(*, chosen: KernelFlag = None, format: FormatFlag = None, out: OutFlag = None) -> int:
    """Compare predicted with counted FLOPs and bytes of every kernel, in Triton's interpreter; 1 if any differs."""
    from asymsim.reporting import validation_view
    from asymsim.validation import programs

    rows = programs.kernels(_names(chosen, "kernels"))
    emit(rows, rows, lambda: validation_view.kernel_parts(rows), format, out)
    return 0 if all(row["equal"] and row["ordered"] for row in rows) else 1


@checks.command
def resources(
    *,
    target: Annotated[str | None, Parameter(group=CHECKS)] = None,
    chosen: KernelFlag = None,
    match: Annotated[str | None, Parameter(group=CHECKS)] = None,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> int:
    """Compile the kernels without a GPU: registers, spills, shared memory; 1 if any exceeds its target's limits.

    Parameters
    ----------
    target
        Architectures joined by commas: sm_80, sm_90, sm_100, gfx942; all by default.
    match
        Words in the label of a build, joined by commas, such as bf16,d128. Without any, all builds are compiled, which
        takes minutes.
    """
    from asymsim.reporting import validation_view
    from asymsim.validation import programs

    targets, names, words = _names(target, "target"), _names(chosen, "kernels"), _names(match, "match")
    with progress("targets") as report_progress:
        rows = programs.resources(targets, names, words, report_progress)
    emit(rows, rows, lambda: validation_view.resource_parts(rows), format, out)
    return 1 if any(row["faults"] for row in rows) else 0


@checks.command
def records(file: str, /, *, format: FormatFlag = None, out: OutFlag = None) -> None:
    """Compare predicted with measured times; the error of each operator class.

    Parameters
    ----------
    file
        CSV that ``python -m asymsim_kernels.tools.measure`` wrote.
    """
    from asymsim.calibration.kernel_records import read_records
    from asymsim.reporting import validation_view
    from asymsim.validation.kernel_times import compare_records, error_summary

    rows = compare_records(read_records(file))
    summary = error_summary(rows)
    emit({"summary": summary, "records": rows}, rows, lambda: validation_view.record_parts(rows, summary), format, out)


@checks.command
def outputs(*, format: FormatFlag = None, out: OutFlag = None) -> int:
    """Compare pruned with dense attention: measured error beside its bound; 1 if any case exceeds it."""
    from asymsim.reporting import validation_view
    from asymsim.validation import programs

    rows = programs.outputs()
    emit(rows, rows, lambda: validation_view.output_parts(rows), format, out)
    return 0 if all(row["within"] for row in rows) else 1


@checks.command
def latency(
    *,
    part: Annotated[Literal["all", "operators", "end-to-end"], Parameter(group=CHECKS)] = "all",
    gpu: Annotated[str | None, Parameter(group=CHECKS)] = None,
    framework: Annotated[str, Parameter(group=CHECKS)] = "vllm",
    sample: Annotated[str | None, Parameter(group=CHECKS)] = None,
    engines: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
    figure: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> int:
    """Compare predicted with measured operator times and serving runs; 1 if the error of TPOT or TTFT is too large.

    Parameters
    ----------
    part
        Operators alone, measured serving runs alone, or both.
    gpu
        GPUs of the operators joined by commas; all measured ones by default.
    framework
        Frameworks of the operator tables, joined by commas: vllm (shape groups held out of the fit), sglang and trtllm
        (all rows).
    sample
        CSV of serving runs, of the columns of aiconfigurator-core's silicon_sample.csv; that file by default.
    engines
        File for the fitted host times, as the catalogue keeps them.
    figure
        PNG for predicted against measured times.
    """
    from asymsim.reporting import latency_view
    from asymsim.util.files import write_file

    document: dict[str, Any] = {}
    parts: list[Any] = []
    points: list[dict[str, Any]] = []
    report = None
    if part != "end-to-end":
        from asymsim.validation.operator_times import held_out_report

        frameworks = parse_names(framework, "framework")
        with progress("tables") as report_progress:
            document["operators"], points = held_out_report(_names(gpu, "gpu"), frameworks, report_progress)
        parts += latency_view.operator_parts(document["operators"])
    if part != "operators":
        from asymsim.validation.serving_runs import error_report, error_rows
        from asymsim.validation.serving_runs.host import engines_text

        with progress("runs") as report_progress:
            report = error_report.end_to_end(sample, report_progress)
        document["end_to_end"] = asdict(report)
        points += error_rows.plot_points(report.runs)
        parts += latency_view.end_to_end_parts(report.errors, report.deployments, report.hosts, report.left_out)
        if engines is not None:
            write_file(engines, engines_text(report.hosts), "engines")
            say(f"wrote {engines}")
    if figure is not None:
        from asymsim.reporting.plots.latency import latency_figure

        write_file(figure, latency_figure(points), "figure")
        say(f"wrote {figure}")
    rows = [*document.get("operators", ()), *(report.errors if report else ())]
    emit(document, rows, lambda: parts, format, out)
    return 0 if report is None or report.within else 1
