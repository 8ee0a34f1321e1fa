"""The fewest GPUs for a load and its limits."""

from __future__ import annotations

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
from asymsim.cli.shared_flags import SETTINGS, FormatFlag
from asymsim.cli.terminal import emit, progress, say
from asymsim.serving.config import EngineConfig
from asymsim.serving.workload.spec import WorkloadSpec

if TYPE_CHECKING:
    from asymsim.estimator.scenario import Scenario

LOAD, LIMITS, SEARCH, SERVER = (
    Group(name, sort_key=key) for key, name in enumerate(("Load", "Limits and prices", "Search", "Server"), start=2)
)
# What only requests that are all alike take from the scenario; a trace may leave the images to it.
OF_ALIKE = ("text_tokens", "output_tokens", "visual_tokens")
IMAGES = ("num_images", "image_height", "image_width")


@flags.scenario_command(
    without=("batch_size", "convention", "schedule", "keep", "tp_size"),
    texts={
        "gpu": "GPUs joined by commas.",
        "method": "Methods joined by commas; the unpruned model is always planned too.",
        "settings": SETTINGS,
        "num_requests": "Requests to simulate, 100 or more; by default as many as the percentile and rate need, with a "
        "trace all of it.",
    },
    also=((WorkloadSpec, LOAD), (EngineConfig, SERVER)),
)
def plan(
    given: dict[str, Any],
    load: dict[str, Any],
    server: dict[str, Any],
    *,
    keep: Annotated[str | None, Parameter(group=SEARCH)] = None,
    tp_size: Annotated[str | None, Parameter(group=SEARCH)] = None,
    ttft: Annotated[float | None, Parameter(group=LIMITS)] = None,
    tpot: Annotated[float | None, Parameter(group=LIMITS)] = None,
    e2e: Annotated[float | None, Parameter(group=LIMITS)] = None,
    percentile: Annotated[float, Parameter(group=LIMITS)] = 99.0,
    price: Annotated[str | None, Parameter(group=LIMITS)] = None,
    idle_share: Annotated[float | None, Parameter(group=LIMITS)] = None,
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
    ttft
        Most milliseconds to the first token.
    tpot
        Most milliseconds for each token after the first.
    e2e
        Most milliseconds to the last token.
    percentile
        Share of all requests, in per cent, that must meet each limit.
    price
        US dollars an hour of one GPU, such as h100_sxm=2.49,l40s=0.9, instead of the catalogue's list prices of one
        day.
    idle_share
        Power of a GPU that waits, as a share of its limit; 0.17 by default.
    router
        Who gets a request: least_loaded, the replica with the fewest waiting and running; round_robin, each in turn.
    draws
        Drawn errors of the latency model for the intervals, 20 or more; 0 for none.
    workers
        Threads; all cores by default.
    goodput_curve
        Write also goodput.csv and goodput.png: goodput of one replica against the request rate.
    out
        Folder for plan.json and plan.csv.
    """
    from asymsim.reporting import plan_view
    from asymsim.serving.planning.document import curve_rows, plan_document, sustained_rows
    from asymsim.serving.planning.goodput_curves import goodput_curves
    from asymsim.serving.planning.plan import plan as find
    from asymsim.serving.planning.query import PlanQuery
    from asymsim.serving.power import IDLE_SHARE, Tariff
    from asymsim.serving.slo import SloTarget, slo_ms
    from asymsim.util.errors import InputError

    if goodput_curve and out is None:
        raise InputError("goodput_curve", True, "name a folder for it with --out")
    if workers is not None and not 1 <= workers <= 1024:
        raise InputError("workers", workers, "give 1 to 1024 threads")
    for field in OF_ALIKE + (() if load.get("workload") is None else IMAGES):
        if field in given and (load.get("workload") or load.get("trace")):
            raise InputError(field, given[field], f"{load.get('workload') or load['trace']} says this; leave it out")
    gpus = parse_names(given.pop("gpu", "h100_sxm"), "gpu")
    try:
        query = PlanQuery(
            scenarios=_scenarios(given, [] if keep is None else parse_numbers(keep, "keep")),
            gpus=tuple(gpus),
            workload=build(WorkloadSpec, load),
            slo_target=SloTarget(slo=slo_ms(ttft, tpot, e2e), percentile=percentile),
            tp_sizes=None if tp_size is None else tuple(parse_whole_numbers(tp_size, "tp_size")),
            engine_config=build(EngineConfig, server),
            router=router,
            tariff=Tariff(prices=_prices(price, gpus), idle_share=IDLE_SHARE if idle_share is None else idle_share),
            samples=draws,
            notify=say,
        )
    except InputError as error:
        if error.field != "samples":
            raise
        raise InputError("draws", error.value, error.remedy) from None
    with progress("searches") as show:
        found = find(query, workers=workers, progress=show)
        curves = goodput_curves(found, workers=workers) if goodput_curve else []
    document = plan_document(found)
    if goodput_curve:
        document["sustained"] = sustained_rows(curves)
    if out is not None:
        _write(out, document, curve_rows(curves))
    emit(document, document["answers"], lambda: plan_view.plan_parts(document), format, None)


def _write(out: str, document: dict[str, Any], curves: list[dict[str, Any]]) -> None:
    """The files of a plan; all are made before any is written."""
    from asymsim.reporting.plan_view import limits_of
    from asymsim.reporting.plots.goodput import goodput_figure
    from asymsim.reporting.tables import csv_text, json_text
    from asymsim.util.files import make_folder, write_file

    contents: dict[str, str | bytes] = {"plan.json": json_text(document), "plan.csv": csv_text(document["answers"])}
    if curves:
        title = f"Goodput of one replica of {document['model']} within {limits_of(document)}"
        contents["goodput.csv"] = csv_text(curves)
        contents["goodput.png"] = goodput_figure(curves, title, document["percentile"])
    folder = make_folder(out)
    for name, content in contents.items():
        write_file(folder / name, content)
    say(f"wrote {', '.join(contents)} in {folder}")


def _prices(price: str | None, gpus: list[str]) -> dict[str, float]:
    """Prices that were given, each of a GPU that may serve."""
    from asymsim.catalogue.gpu import load_gpu
    from asymsim.serving.power import read_prices
    from asymsim.util.errors import InputError

    prices = {} if price is None else read_prices(price)
    for name in set(prices) - {load_gpu(each).name for each in gpus}:
        raise InputError("price", price, f"{name} is not among the GPUs {', '.join(gpus)}")
    return prices


def _scenarios(given: dict[str, Any], keeps: list[float]) -> tuple[Scenario, ...]:
    """One scenario a method and keep."""
    from asymsim.analysis.budget_search import with_method
    from asymsim.analysis.comparison import check_methods
    from asymsim.methods.base import registered_methods
    from asymsim.util.errors import InputError

    names = parse_names(given.pop("method", "none"), "method")
    settings = parse_settings(given.pop("settings", None) or ())
    base = parse_scenario(given)
    pruning = [name for name in names if name != "none"]
    if (keeps or settings) and not pruning:
        raise InputError("keep" if keeps else "set", keeps or settings, "name the method it belongs to")
    check_methods(pruning, (), settings)
    unpruned = [base] if "none" in names or not pruning else []
    usual = {name: registered_methods()[name.split("+")[0]]().keep for name in pruning}
    return (
        *unpruned,
        *(with_method(base, name, settings, keep) for name in pruning for keep in keeps or [usual[name]]),
    )
