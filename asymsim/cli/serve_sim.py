"""A fleet under load, simulated request by request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import build, parse_scenario
from asymsim.cli.shared_flags import FormatFlag
from asymsim.cli.terminal import emit, progress, say
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.workload.spec import WorkloadSpec

if TYPE_CHECKING:
    from asymsim.serving.results import SimulationResult
    from asymsim.serving.slo import Slo

LOAD, FLEET, SERVER = (Group(name, sort_key=key) for key, name in enumerate(("Load", "Fleet", "Server"), start=2))
LIMITS = Group("Limits and prices", sort_key=5)
# What a trace keeps: about 20 MB of JSON, which Perfetto still opens at once.
EVENTS = 100_000
# What only requests that are all alike take from the scenario; a trace may leave the images to it.
OF_ALIKE = ("text_tokens", "output_tokens", "visual_tokens")
IMAGES = ("num_images", "image_height", "image_width")


@flags.scenario_command(
    without=("batch_size", "convention"), also=((WorkloadSpec, LOAD), (ClusterConfig, FLEET), (EngineConfig, SERVER))
)
def serve_sim(
    given: dict[str, Any],
    load: dict[str, Any],
    fleet: dict[str, Any],
    server: dict[str, Any],
    *,
    ttft: Annotated[float | None, Parameter(group=LIMITS)] = None,
    tpot: Annotated[float | None, Parameter(group=LIMITS)] = None,
    e2e: Annotated[float | None, Parameter(group=LIMITS)] = None,
    price: Annotated[str | None, Parameter(group=LIMITS)] = None,
    idle_share: Annotated[float | None, Parameter(group=LIMITS)] = None,
    chrome_trace: Annotated[bool, Parameter(group=flags.OUTPUT, negative="")] = False,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Simulate a fleet under load: latencies, goodput, use, energy and cost.

    Parameters
    ----------
    ttft
        Most milliseconds to the first token, for goodput.
    tpot
        Most milliseconds for each token after the first, for goodput.
    e2e
        Most milliseconds to the last token, for goodput.
    price
        US dollars an hour of one GPU, such as h100_sxm=2.49, instead of the catalogue's list price of one day.
    idle_share
        Power of a GPU that waits, as a share of its limit; 0.17 by default.
    chrome_trace
        Write also trace.json, the first events for Perfetto or chrome://tracing.
    out
        Folder for result.json, requests.parquet (without pyarrow requests.csv) and timeline.png.
    """
    from asymsim.catalogue.gpu import load_gpu
    from asymsim.estimator import result
    from asymsim.reporting import serving_view
    from asymsim.serving.document import serving_document
    from asymsim.serving.power import IDLE_SHARE, Tariff, read_prices
    from asymsim.serving.simulate import simulate
    from asymsim.serving.slo import slo_ms
    from asymsim.serving.workload.spec import requests_for
    from asymsim.util.errors import InputError

    scenario = parse_scenario(given)
    asked, behind, engine = build(WorkloadSpec, load), build(ClusterConfig, fleet), build(EngineConfig, server)
    if asked.target_request_rate is None and asked.trace is None and not behind.concurrency:
        raise InputError("target_request_rate", None, "give it, --target-concurrency or --trace")
    if out is not None and Path(out).is_file():
        raise InputError("out", out, "is a file; give a folder")
    if chrome_trace and out is None:
        raise InputError("chrome_trace", True, "name a folder for it with --out")
    for field in OF_ALIKE + (() if asked.workload is None else IMAGES):
        if field in given and (asked.workload or asked.trace):
            raise InputError(field, given[field], f"{asked.workload or asked.trace} says this; leave it out")
    slo = slo_ms(ttft, tpot, e2e)
    prices = {} if price is None else read_prices(price)
    device = load_gpu(scenario.gpu).name
    if prices and device not in prices:
        raise InputError("price", price, f"gives none for {device}")
    tariff = Tariff(prices=prices, idle_share=IDLE_SHARE if idle_share is None else idle_share)
    requests = requests_for(asked, scenario, say)
    with progress("requests") as report_progress:
        served = simulate(
            scenario, requests, engine, behind, events=EVENTS if chrome_trace else 0, progress=report_progress
        )
    document = serving_document(scenario, asked, engine, behind, served, slo, tariff)
    if out is not None:
        _write(out, document, served, slo, chrome_trace)
    emit(document, [result.flatten(document)], lambda: serving_view.serve_parts(document), format, None)


def _write(out: str, document: dict[str, Any], served: SimulationResult, slo: Slo, chrome_trace: bool) -> None:
    """The files of a run; all are made before any is written."""
    from asymsim.reporting.plots.timeline import timeline_figure
    from asymsim.reporting.serving_view import title_of
    from asymsim.reporting.tables import json_text
    from asymsim.serving.chrome_trace import trace_text
    from asymsim.serving.request_log import csv_bytes, parquet_bytes
    from asymsim.util.errors import MissingExtraError
    from asymsim.util.files import make_folder, write_file

    contents: dict[str, str | bytes] = {"result.json": json_text(document)}
    try:
        contents["requests.parquet"] = parquet_bytes(served)
    except MissingExtraError as error:
        say(f"{error}; requests.csv this time")
        contents["requests.csv"] = csv_bytes(served)
    contents["timeline.png"] = timeline_figure(served, slo, title_of(document))
    if chrome_trace:
        contents["trace.json"] = trace_text(served)
    folder = make_folder(out)
    for name, content in contents.items():
        write_file(folder / name, content)
    say(f"wrote {', '.join(contents)} in {folder}")
