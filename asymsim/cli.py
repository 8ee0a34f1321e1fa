"""The command line: flags in, tables, JSON or CSV out; every mistake in one line, with exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Group, Parameter

from asymsim import __version__, flags
from asymsim.errors import AsymsimError
from asymsim.terminal import Format, emit, progress, say

FormatFlag = Annotated[
    Format | None,
    Parameter(
        group=flags.OUTPUT, help="How results are written: table, json or csv; by default as --out ends, or table."
    ),
]
OutFlag = Annotated[str | None, Parameter(group=flags.OUTPUT, help="File for the result, instead of stdout.")]

CHECKS = Group("Check", sort_key=2)
CALIBRATION = Group("Calibration", sort_key=2)
SWEEP = Group("Sweep", sort_key=2)
SETTINGS = "Further settings of the methods, written method.setting=value, such as fastv.layer=3."

app = App(
    name="asymsim",
    version=__version__,
    help="What vision-language-model inference costs, and what any token-pruning schedule saves.",
)
listing = App(name="list", help="List the models, GPUs, methods and counting conventions.")
app.command(listing)
checks = App(name="validate", help="Hold the simulator against kernels, compilers, measurements and dense attention.")
app.command(checks)
KernelFlag = Annotated[
    str | None, Parameter(group=CHECKS, help="Kernels joined by commas; all by default.", name="--kernels")
]


@app.command
@flags.scenario_command()
def estimate(
    given: dict[str, Any],
    *,
    operators: Annotated[bool, Parameter(group=flags.OUTPUT, negative="")] = False,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """Predict what one scenario costs, phase by phase, and what its schedule saves.

    Parameters
    ----------
    operators
        List every operator with its shape, FLOPs and bytes; with csv, these rows alone.
    """
    from asymsim import report, views
    from asymsim.estimation import estimate as predict

    document = predict(flags.scenario(given), operators=operators).to_dict()
    rows = document.get("operators") or [report.flatten(document)]
    emit(document, rows, lambda: views.estimate_parts(document), format, out)


@app.command
@flags.scenario_command(
    without=("method", "keep", "schedule"),
    texts={"settings": SETTINGS, "gpu": "A catalogue name, or several joined by commas with --break-even."},
)
def compare(
    given: dict[str, Any],
    *,
    methods: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    budget: Annotated[float, Parameter(group=flags.COMPARISON)] = 0.5,
    match: Annotated[Literal["budget", "keep"], Parameter(group=flags.COMPARISON)] = "budget",
    break_even: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """Set pruning methods side by side at one budget.

    Parameters
    ----------
    methods
        Methods joined by commas; all that prune visual tokens by default.
    budget
        Share of visual tokens that the mean language-model layer sees, in [0, 1]; for KV methods, of
        the cache after prefill.
    match
        "budget" solves each method's keep for the budget; "keep" gives each method the same keep.
    break_even
        Batch sizes joined by commas: the largest keep at which each method still saves time to first token,
        at each of them and on each GPU.
    """
    from asymsim import comparison, views

    chosen = None if methods is None else flags.names(methods, "methods")
    settings = flags.settings(given.pop("settings", None) or ())
    if break_even is not None:
        _break_even(given, chosen, settings, break_even, format, out)
        return
    rows = comparison.compare(flags.scenario(given), chosen, budget=budget, match=match, settings=settings)
    emit(rows, rows, lambda: views.comparison_parts(rows, budget, match), format, out)


def _break_even(
    given: dict[str, Any],
    chosen: list[str] | None,
    settings: dict[str, Any],
    batches: str,
    format: FormatFlag,
    out: OutFlag,
) -> None:
    from asymsim import breakeven, comparison, views

    gpus = flags.names(given.pop("gpu", "h100_sxm"), "gpu")
    sizes = flags.whole_numbers(batches, "break_even")
    scenario = flags.scenario(given, gpu=gpus[0], batch_size=max(sizes))
    names = comparison.checked(chosen, (), settings)
    with progress("methods") as show:
        rows = breakeven.break_evens(scenario, names, gpus, sizes, settings, show)
    emit(rows, rows, lambda: views.break_even_parts(rows), format, out)


@app.command
@flags.scenario_command(
    without=("method", "keep", "schedule"),
    texts={"settings": SETTINGS, "model": "Models joined by commas.", "gpu": "GPUs joined by commas."},
)
def savings(
    given: dict[str, Any],
    *,
    method: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    budgets: Annotated[str | None, Parameter(group=flags.COMPARISON)] = None,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Draw what methods save as the budget varies, on models and GPUs.

    Parameters
    ----------
    method
        Methods joined by commas; all that prune visual tokens by default.
    budgets
        Mean shares of visual tokens joined by commas; by default 0.1 to 1 in steps of 0.1.
    out
        Folder for savings.csv and savings.png.
    """
    from asymsim import comparison, views

    models = flags.names(given.pop("model"), "model")
    gpus = flags.names(given.pop("gpu", "h100_sxm"), "gpu")
    settings = flags.settings(given.pop("settings", None) or ())
    first = flags.scenario(given, model=models[0], gpu=gpus[0])
    load = {name: getattr(first, name) for name in given}
    chosen = None if method is None else flags.names(method, "method")
    shares = comparison.BUDGETS if budgets is None else flags.numbers(budgets, "budgets")
    with progress("curves") as show:
        rows = comparison.savings_curves(models, gpus, chosen, shares, settings=settings, progress=show, **load)
    if out is not None:
        from asymsim.files import make_folder, write_file
        from asymsim.plots import savings_figure
        from asymsim.tables import csv_text

        picture = savings_figure(rows)
        folder = make_folder(out)
        write_file(folder / "savings.csv", csv_text(rows))
        write_file(folder / "savings.png", picture)
        say(f"wrote {folder / 'savings.csv'} and {folder / 'savings.png'}")
    emit(rows, rows, lambda: views.savings_parts(rows), format, None)


@app.command
def sweep(
    study: str,
    /,
    *,
    workers: Annotated[int | None, Parameter(group=SWEEP)] = None,
    scheduler: Annotated[str | None, Parameter(group=SWEEP)] = None,
    local_cluster: Annotated[int | None, Parameter(group=SWEEP)] = None,
    yes: Annotated[bool, Parameter(group=SWEEP, negative="")] = False,
    out: Annotated[str, Parameter(group=flags.OUTPUT)] = "out",
) -> None:
    """Evaluate all scenarios of a study; started again, it goes on with what is missing.

    Parameters
    ----------
    study
        TOML file with axes, filters and outputs.
    workers
        Threads of this process; all cores by default.
    scheduler
        Address of a running Dask scheduler, such as tcp://host:8786, to run there instead.
    local_cluster
        Start a Dask cluster of this many local processes for the run.
    yes
        Start also with more than 10^12 scenarios.
    out
        Folder below which the study gets one of its own.
    """
    from asymsim.errors import InputError
    from asymsim.sweep.cluster import client
    from asymsim.sweep.drive import sweep as run_study
    from asymsim.sweep.study import read_study
    from asymsim.sweep.watch import Watch, summary

    asked = read_study(study)
    if workers is not None and not 1 <= workers <= 1024:
        raise InputError("workers", workers, "give 1 to 1024 threads")
    watch = Watch()
    try:
        with client(scheduler, local_cluster) as given:
            outcome = run_study(asked, out, workers=workers, client=given, yes=yes, progress=watch)
    finally:
        watch.close()
    for line in summary(outcome):
        say(line)
    say(f"wrote {outcome.path}")


@app.command
def reproduce(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """Recompute the tables that papers published, and show how far off they are."""
    from asymsim import views
    from asymsim.reproduce import rows as published

    rows = published()
    emit(rows, rows, lambda: views.reproduction_parts(rows), format, out)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        statuses = [row["status"] for row in rows if row["kind"] == kind]
        others = "".join(f", {statuses.count(each)} {each}" for each in sorted({*statuses} - {"reproduced"}))
        say(f"{kind}: {statuses.count('reproduced')} of {len(statuses)} published figures reproduced{others}")


@app.command
def calibrate(
    *,
    gpu: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    section: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    hops: Annotated[int, Parameter(group=CALIBRATION)] = 40,
    transfer: Annotated[bool, Parameter(group=CALIBRATION, negative="")] = False,
    records: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    model: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    dtype: Annotated[str, Parameter(group=CALIBRATION)] = "bf16",
    tp_size: Annotated[int, Parameter(group=CALIBRATION)] = 1,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Fit operator times on measured tables, into the GPUs' files; prints errors on sites the fit never saw.

    Parameters
    ----------
    gpu
        GPUs joined by commas.
    section
        Sections joined by commas, such as gemm_bf16; all by default.
    hops
        Length of each search; the same number gives the same fit.
    transfer
        Instead of fitting, try the fitted numbers of one GPU on another, and write the intervals of GPUs without
        measurements.
    records
        Your own measurements instead of the tables: a CSV of ``python -m asymsim_kernels.measure`` corrects the GPU's
        operator times; a JSON of ``vllm bench serve --save-result`` gives the host's time per step, as an engine.
    model
        With a benchmark: what it served, where its model_id is no name of the catalogue.
    dtype
        With a benchmark: the served number format.
    tp_size
        With a benchmark: the GPUs that served it together.
    out
        File to write instead of the GPU's own, for one GPU; with --transfer, instead of the catalogue's; with a
        benchmark, the engine's file, for --engine.
    """
    from asymsim import tables
    from asymsim.calibration.run import calibrate as fit
    from asymsim.calibration.transfer import write_transfer
    from asymsim.errors import InputError

    if transfer == (gpu is not None):
        raise InputError("gpu", gpu, "give either --gpu or --transfer")
    if transfer and section is not None:
        raise InputError("section", section, "goes with --gpu; --transfer writes all")
    if records is not None:
        if gpu is None or "," in gpu:
            raise InputError("gpu", gpu, "give the one GPU that the records are of")
        rows = _own(gpu, records, section, hops, {"model": model, "dtype": dtype, "tp_size": tp_size}, out)
    elif gpu is None:
        rows = write_transfer(out)
    else:
        chosen = flags.names(section, "section") if section else ()
        rows = fit(flags.names(gpu, "gpu"), chosen, hops, out, say)
    emit(rows, rows, lambda: [tables.records_table(rows)], format, None)


def _own(
    gpu: str, records: str, section: str | None, hops: int, served: dict[str, Any], out: str | None
) -> list[dict[str, Any]]:
    from asymsim.errors import InputError

    if records.lower().endswith(".json"):
        from asymsim.benchmark import host_of

        if section is not None:
            raise InputError("section", section, "a benchmark corrects none; leave it out")
        return [host_of(gpu, records, out=out, say=say, **served)]
    from asymsim.calibration.own import calibrate_records

    if served["model"] is not None:
        raise InputError("model", served["model"], "belongs to a benchmark's .json; leave it out")
    return calibrate_records(gpu, records, flags.names(section, "section") if section else (), hops, out, say)


@listing.command
def models(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the models of the catalogue, with the visual tokens of their typical image."""
    from asymsim.listing import model_rows, model_table

    rows = model_rows()
    emit(rows, rows, lambda: [model_table(rows)], format, out)


@listing.command
def gpus(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the GPUs of the catalogue; peaks are dense."""
    from asymsim.listing import gpu_rows, gpu_table

    rows = gpu_rows()
    emit(rows, rows, lambda: [gpu_table(rows)], format, out)


@listing.command
def methods(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the pruning methods: what each prunes, its usual keep, its settings and its paper."""
    from asymsim.listing import method_rows
    from asymsim.tables import records_table

    rows = method_rows()
    emit(rows, rows, lambda: [records_table(rows)], format, out)


@listing.command
def conventions(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the ways to count FLOPs, with their sources."""
    from asymsim.listing import convention_rows
    from asymsim.tables import records_table

    rows = convention_rows()
    emit(rows, rows, lambda: [records_table(rows)], format, out)


@checks.command
def kernels(*, chosen: KernelFlag = None, format: FormatFlag = None, out: OutFlag = None) -> int:
    """Predicted against counted FLOPs and bytes of every kernel, in Triton's interpreter; 1 if any differs."""
    from asymsim import validation, validation_views

    rows = validation.kernels(flags.names(chosen, "kernels") if chosen else ())
    emit(rows, rows, lambda: validation_views.kernel_parts(rows), format, out)
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
    """Registers, spills and shared memory of the shipped kernels, compiled without a GPU; 1 if any must not ship.

    Parameters
    ----------
    target
        Architectures joined by commas: sm_80, sm_90, sm_100, gfx942; all by default.
    match
        Words that a build's label must hold, joined by commas, such as bf16,d128; without any, all builds are
        compiled, which takes minutes.
    """
    from asymsim import validation, validation_views

    lists = [flags.names(each, name) if each else () for name, each in (("target", target), ("match", match))]
    with progress("targets") as show:
        rows = validation.resources(lists[0], flags.names(chosen, "kernels") if chosen else (), lists[1], show)
    emit(rows, rows, lambda: validation_views.resource_parts(rows), format, out)
    return 1 if any(row["faults"] for row in rows) else 0


@checks.command
def records(file: str, /, *, format: FormatFlag = None, out: OutFlag = None) -> None:
    """Predicted against measured times, and the error of each operator class.

    Parameters
    ----------
    file
        CSV that ``python -m asymsim_kernels.measure`` wrote.
    """
    from asymsim import validation_views
    from asymsim.records import compare_records, error_summary, read_records

    rows = compare_records(read_records(file))
    summary = error_summary(rows)
    emit({"summary": summary, "records": rows}, rows, lambda: validation_views.record_parts(rows, summary), format, out)


@checks.command
def outputs(*, format: FormatFlag = None, out: OutFlag = None) -> int:
    """Pruned against dense attention: measured error beside its bound; 1 if any case passes it."""
    from asymsim import validation, validation_views

    rows = validation.outputs()
    emit(rows, rows, lambda: validation_views.output_parts(rows), format, out)
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
    """Predicted against measured operator times and serving runs; 1 if TPOT or TTFT misses its limit.

    Parameters
    ----------
    part
        Operators alone, measured serving runs alone, or both.
    gpu
        GPUs of the operators joined by commas; all that were measured by default.
    framework
        Whose operator tables, joined by commas: vllm (sites held out of the fit), sglang and trtllm (all rows).
    sample
        CSV of serving runs, of the columns of aiconfigurator-core's silicon_sample.csv; that file by default.
    engines
        File for the fitted host times, as the catalogue keeps them.
    figure
        PNG for predicted against measured times.
    """
    from asymsim import latency_views
    from asymsim.files import write_file

    document: dict[str, Any] = {}
    parts: list[Any] = []
    points: list[dict[str, Any]] = []
    found = None
    if part != "end-to-end":
        from asymsim.held_out import held_out

        chosen = flags.names(gpu, "gpu") if gpu else ()
        with progress("tables") as show:
            document["operators"], points = held_out(chosen, flags.names(framework, "framework"), show)
        parts += latency_views.operator_parts(document["operators"])
    if part != "operators":
        from asymsim.silicon import judge
        from asymsim.silicon.host import engines_text

        with progress("runs") as show:
            found = judge.end_to_end(sample, show)
        document["end_to_end"] = asdict(found)
        points += judge.points(found.runs)
        parts += latency_views.end_to_end_parts(found.errors, found.deployments, found.hosts, found.left_out)
        if engines is not None:
            write_file(engines, engines_text(found.hosts), "engines")
            say(f"wrote {engines}")
    if figure is not None:
        from asymsim.latency_figure import latency_figure

        write_file(figure, latency_figure(points), "figure")
        say(f"wrote {figure}")
    rows = [*document.get("operators", ()), *(found.errors if found else ())]
    emit(document, rows, lambda: parts, format, out)
    return 0 if found is None or found.within else 1


def run(argv: Sequence[str]) -> int:
    """Run one command line.

    Returns
    -------
    int
        The exit code: 0; 1 where a validation fails; 2 for a mistake of the user's, told in one line on
        stderr; 130 where interrupted; 141 where the reader of stdout has gone, as shells report it.
    """
    try:
        command, bound, _ = app.parse_args(list(argv), exit_on_error=False, print_error=False)
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        return _refuse(flags.explain(error))
    except AsymsimError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except OSError as error:
        return _refuse(f"stdout: cannot be written ({error.strerror or error})")
    return code or 0


def _refuse(message: str) -> int:
    say("error: " + " ".join(message.split()))
    return 2


def main() -> None:
    """Entry point of the console script."""
    code = run(sys.argv[1:])
    if code in (2, 141):
        # What could not be written would be tried again, and complained of, when the interpreter ends.
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
