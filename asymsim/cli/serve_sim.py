"""The command ``serve-sim``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import build, parse_scenario
from asymsim.cli.shared_flags import (
    WORKLOAD,
    E2eFlag,
    FormatFlag,
    IdleShareFlag,
    PriceFlag,
    TpotFlag,
    TtftFlag,
    parse_tariff,
    refuse_file_as_folder,
    refuse_request_fields,
    refuse_without_folder,
    write_folder,
)
from asymsim.cli.terminal import emit, progress, say
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.workload.spec import WorkloadSpec

if TYPE_CHECKING:
    from asymsim.serving.results import SimulationResult
    from asymsim.serving.slo import Slo

CLUSTER, ENGINE = Group("Fleet", sort_key=3), Group("Engine", sort_key=4)
# Events that a trace keeps: about 20 MB of JSON, which Perfetto still opens at once.
MAX_EVENTS = 100_000


@flags.scenario_command(
    without=("batch_size", "convention"),
    also=((WorkloadSpec, WORKLOAD), (ClusterConfig, CLUSTER), (EngineConfig, ENGINE)),
)
def serve_sim(
    scenario_values: dict[str, Any],
    workload_values: dict[str, Any],
    cluster_values: dict[str, Any],
    engine_values: dict[str, Any],
    *,
    ttft: TtftFlag = None,
    tpot: TpotFlag = None,
    e2e: E2eFlag = None,
    price: PriceFlag = None,
    idle_share: IdleShareFlag = None,
    chrome_trace: Annotated[bool, Parameter(group=flags.OUTPUT, negative="")] = False,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Simulate a fleet under load: latencies, goodput, use, energy and cost.

    Parameters
    ----------
    chrome_trace
        Write also trace.json, the first events for Perfetto or chrome://tracing.
    out
        Folder for result.json, requests.parquet (without pyarrow requests.csv) and timeline.png.
    """
    from asymsim.catalogue.gpu import load_gpu
    from asymsim.estimator import result as estimates
    from asymsim.reporting import serving_view
    from asymsim.serving.document import serving_document
    from asymsim.serving.simulate import simulate
    from asymsim.serving.slo import slo_ms
    from asymsim.serving.workload.spec import requests_for
    from asymsim.util.errors import InputError

    scenario = parse_scenario(scenario_values)
    workload = build(WorkloadSpec, workload_values)
    cluster_config = build(ClusterConfig, cluster_values)
    engine_config = build(EngineConfig, engine_values)
    if workload.target_request_rate is None and workload.trace is None and not cluster_config.concurrency:
        raise InputError("target_request_rate", None, "give it, --target-concurrency or --trace")
    refuse_file_as_folder(out)
    refuse_without_folder("chrome_trace", chrome_trace, out)
    refuse_request_fields(scenario_values, workload.workload, workload.trace)
    slo = slo_ms(ttft, tpot, e2e)
    tariff = parse_tariff(price, idle_share)
    gpu_name = load_gpu(scenario.gpu).name
    if tariff.prices and gpu_name not in tariff.prices:
        raise InputError("price", price, f"gives none for {gpu_name}")
    requests = requests_for(workload, scenario, say)
    with progress("requests") as report_progress:
        result = simulate(
            scenario,
            requests,
            engine_config,
            cluster_config,
            events=MAX_EVENTS if chrome_trace else 0,
            progress=report_progress,
        )
    document = serving_document(scenario, workload, engine_config, cluster_config, result, slo, tariff)
    if out is not None:
        write_folder(out, _files(document, result, slo, chrome_trace))
    emit(document, [estimates.flatten(document)], lambda: serving_view.serve_parts(document), format, None)


def _files(document: dict[str, Any], result: SimulationResult, slo: Slo, chrome_trace: bool) -> dict[str, str | bytes]:
    """The files of a run by name."""
    from asymsim.reporting.plots.timeline import timeline_figure
    from asymsim.reporting.serving_view import title_of
    from asymsim.reporting.tables import json_text
    from asymsim.serving.chrome_trace import trace_text
    from asymsim.serving.request_log import csv_bytes, parquet_bytes
    from asymsim.util.errors import MissingExtraError

    contents: dict[str, str | bytes] = {"result.json": json_text(document)}
    try:
        contents["requests.parquet"] = parquet_bytes(result)
    except MissingExtraError as error:
        say(f"{error}; requests.csv this time")
        contents["requests.csv"] = csv_bytes(result)
    contents["timeline.png"] = timeline_figure(result, slo, title_of(document))
    if chrome_trace:
        contents["trace.json"] = trace_text(result)
    return contents
