"""The command ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import (
    build,
    parse_names,
    parse_numbers,
    parse_scenario,
    parse_settings,
    parse_whole_numbers,
)
from asymsim.cli.shared_flags import (
    LIMITS,
    SETTINGS,
    WORKLOAD,
    E2eFlag,
    FormatFlag,
    IdleShareFlag,
    PriceFlag,
    TpotFlag,
    TtftFlag,
    check_threads,
    parse_tariff,
    refuse_request_fields,
    refuse_without_folder,
    write_folder,
)
from asymsim.cli.terminal import emit, progress, say
from asymsim.serving.config import EngineConfig
from asymsim.serving.workload.spec import WorkloadSpec

if TYPE_CHECKING:
    from asymsim.estimator.scenario import Scenario

SEARCH, ENGINE = Group("Search", sort_key=6), Group("Engine", sort_key=4)


@flags.scenario_command(
    without=("batch_size", "convention", "schedule", "keep", "tp_size"),
    texts={
        "gpu": "GPUs joined by commas.",
        "method": "Methods joined by commas; the unpruned model is always planned too.",
        "settings": SETTINGS,
        "num_requests": "Requests to simulate, 100 or more; by default as many as the percentile and rate need, with a "
        "trace all of it.",
    },
    also=((WorkloadSpec, WORKLOAD), (EngineConfig, ENGINE)),
)
def plan(
    scenario_values: dict[str, Any],
    workload_values: dict[str, Any],
    engine_values: dict[str, Any],
    *,
    keep: Annotated[str | None, Parameter(group=SEARCH)] = None,
    tp_size: Annotated[str | None, Parameter(group=SEARCH)] = None,
    ttft: TtftFlag = None,
    tpot: TpotFlag = None,
    e2e: E2eFlag = None,
    percentile: Annotated[float, Parameter(group=LIMITS)] = 99.0,
    price: PriceFlag = None,
    idle_share: IdleShareFlag = None,
    router: Annotated[Literal["least_loaded", "round_robin"], Parameter(group=SEARCH)] = "least_loaded",
    draws: Annotated[int, Parameter(group=SEARCH)] = 20,
    workers: Annotated[int | None, Parameter(group=SEARCH)] = None,
    goodput_curve: Annotated[bool, Parameter(group=flags.OUTPUT, negative="")] = False,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Find the fewest GPUs that serve a load within limits, and how many fewer with pruning.

    Parameters
    ----------
    keep
        Kept shares joined by commas, each for every method; the methods' own by default.
    tp_size
        GPUs that share the model, joined by commas; by default the smallest of 1, 2, 4, 8 that fits, and those above.
    percentile
        Share of all requests, in per cent, that must meet each limit.
    router
        Choice of a replica for each request: least_loaded, the one with the fewest waiting and running; round_robin,
        each in turn.
    draws
        Samples of the latency model's error for the intervals, 20 or more; 0 for none.
    workers
        Threads; all cores by default.
    goodput_curve
        Write also goodput.csv and goodput.png: goodput of one replica against the request rate.
    out
        Folder for plan.json and plan.csv.
    """
    from asymsim.reporting import plan_view
    from asymsim.serving.planning import plan as planning
    from asymsim.serving.planning.document import curve_rows, plan_document, sustained_rows
    from asymsim.serving.planning.goodput_curves import goodput_curves
    from asymsim.serving.planning.query import PlanQuery
    from asymsim.serving.slo import SloTarget, slo_ms
    from asymsim.util.errors import InputError

    refuse_without_folder("goodput_curve", goodput_curve, out)
    check_threads(workers)
    refuse_request_fields(scenario_values, workload_values.get("workload"), workload_values.get("trace"))
    gpus = parse_names(scenario_values.pop("gpu", "h100_sxm"), "gpu")
    tariff = parse_tariff(price, idle_share)
    _check_priced(price, tariff.prices, gpus)
    try:
        query = PlanQuery(
            scenarios=_scenarios(scenario_values, [] if keep is None else parse_numbers(keep, "keep")),
            gpus=tuple(gpus),
            workload=build(WorkloadSpec, workload_values),
            slo_target=SloTarget(slo=slo_ms(ttft, tpot, e2e), percentile=percentile),
            tp_sizes=None if tp_size is None else tuple(parse_whole_numbers(tp_size, "tp_size")),
            engine_config=build(EngineConfig, engine_values),
            router=router,
            tariff=tariff,
            samples=draws,
            notify=say,
        )
    except InputError as error:
        # The flag has another name than the field.
        if error.field != "samples":
            raise
        raise InputError("draws", error.value, error.remedy) from None
    with progress("searches") as report_progress:
        result = planning.plan(query, workers=workers, progress=report_progress)
        curves = goodput_curves(result, workers=workers) if goodput_curve else []
    document = plan_document(result)
    if goodput_curve:
        document["sustained"] = sustained_rows(curves)
    if out is not None:
        write_folder(out, _files(document, curve_rows(curves)))
    emit(document, document["answers"], lambda: plan_view.plan_parts(document), format, None)


def _files(document: dict[str, Any], curves: list[dict[str, Any]]) -> dict[str, str | bytes]:
    """The files of a plan by name."""
    from asymsim.reporting.plan_view import limits_of
    from asymsim.reporting.plots.goodput import goodput_figure
    from asymsim.reporting.tables import csv_text, json_text

    contents: dict[str, str | bytes] = {"plan.json": json_text(document), "plan.csv": csv_text(document["answers"])}
    if curves:
        title = f"Goodput of one replica of {document['model']} within {limits_of(document)}"
        contents["goodput.csv"] = csv_text(curves)
        contents["goodput.png"] = goodput_figure(curves, title, document["percentile"])
    return contents


def _check_priced(price: str | None, prices: Mapping[str, float], gpus: list[str]) -> None:
    """Refuse a price of a GPU that is not planned for."""
    from asymsim.catalogue.gpu import load_gpu
    from asymsim.util.errors import InputError

    for name in set(prices) - {load_gpu(gpu).name for gpu in gpus}:
        raise InputError("price", price, f"{name} is not among the GPUs {', '.join(gpus)}")


def _scenarios(scenario_values: dict[str, Any], keeps: list[float]) -> tuple[Scenario, ...]:
    """One scenario a method and keep."""
    from asymsim.analysis.budget_search import with_method
    from asymsim.analysis.comparison import check_methods
    from asymsim.methods.base import registered_methods
    from asymsim.util.errors import InputError

    names = parse_names(scenario_values.pop("method", "none"), "method")
    settings = parse_settings(scenario_values.pop("settings", None) or ())
    base = parse_scenario(scenario_values)
    pruning = [name for name in names if name != "none"]
    if (keeps or settings) and not pruning:
        raise InputError("keep" if keeps else "set", keeps or settings, "name the method it belongs to")
    check_methods(pruning, (), settings)
    unpruned = [base] if "none" in names or not pruning else []
    default_keeps = {name: registered_methods()[name.split("+")[0]]().keep for name in pruning}
    return (
        *unpruned,
        *(with_method(base, name, settings, keep) for name in pruning for keep in keeps or [default_keeps[name]]),
    )
