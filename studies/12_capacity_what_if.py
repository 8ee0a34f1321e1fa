"""How much load does a GPU sustain within latency limits, and how many GPUs does pruning save?

    python studies/12_capacity_what_if.py [--out FOLDER]

Documents on L40S, charts on H100, dialogue on A100: a served load counts as sustained where 90 % of requests meet both
limits, as goodput is defined by DistServe (Zhong et al., OSDI 2024). Keeps are those of the papers: half of the tokens
for AsymVLM, 1/9 for DeSAP. Models, limits and loads are our choice. The three share their requests and their luck.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from output import Row, legend, look, panels, percent, plain, run

from asymsim.catalogue.gpu import load_gpu
from asymsim.estimator.scenario import Scenario
from asymsim.serving.config import ClusterConfig
from asymsim.serving.metrics import ServingMetrics, serving_metrics
from asymsim.serving.simulate import simulate
from asymsim.serving.slo import Slo
from asymsim.serving.workload.spec import WorkloadSpec, requests_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Case:
    """A workload on a GPU, its latency limits, and the load offered to a fleet."""

    workload: str
    gpu: str
    model: str
    slo: Slo
    load_per_s: float


CASES = (
    Case("documents", "l40s", "phi-3.5-vision", Slo(ttft_s=1.0, tpot_s=0.1), 10.0),
    Case("charts", "h100_sxm", "qwen2.5-vl-7b", Slo(ttft_s=0.5, tpot_s=0.05), 200.0),
    Case("dialogue", "a100_80gb_sxm", "qwen2.5-vl-7b", Slo(ttft_s=1.0, tpot_s=0.05), 20.0),
)
METHODS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("none", {}),
    ("asymvlm", {"keep": 0.5}),
    ("desap", {"keep": 1 / 9}),
)
SHARE = 0.9
# To judge one GPU by, and each of a fleet, whose waits even out: with more the answers move by no more than the seeds'.
REQUESTS, REQUESTS_A_REPLICA = 2000, 600
SEEDS = (0, 1, 2)
# Of what one GPU sustains unpruned; that at which latencies are compared is among them.
EASY = 0.75
RATES = (0.25, 0.5, EASY, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.3, 2.6)
PRECISION = 1.02


def rows(
    cases: Sequence[Case] = CASES,
    seeds: Sequence[int] = SEEDS,
    rates: Sequence[float] = RATES,
    requests: int = REQUESTS,
) -> list[Row]:
    """A row for each workload, method and rate; all rows of a method have its sustained rate and its fleet size."""
    study_rows = []
    for case in cases:
        unit = 0.0
        for method, settings in METHODS:
            scenario = Scenario(model=case.model, gpu=case.gpu, engine="vllm", method=method, **settings)
            serve = partial(served, case, scenario)
            sustained = [highest(serve, requests, seeds[0], unit or 1.0, 1.5)]
            sustained += [highest(serve, requests, seed, sustained[0], 1.1) for seed in seeds[1:]]
            middle = median(sustained)
            unit = unit or middle
            gpus = fewest(serve, case.load_per_s, middle)
            price = load_gpu(case.gpu).price_usd_per_hour
            for rate in rates:
                metrics = serve(rate * unit, requests, seeds[0])
                steady = metrics.backlog.saturated is False
                study_rows.append(
                    {
                        "workload": case.workload,
                        "gpu": case.gpu,
                        "model": case.model,
                        "method": method,
                        "keep": settings.get("keep", 1.0),
                        "requests_per_s": rate * unit,
                        "ttft_p90_s": metrics.times["ttft"].percentiles[90] if steady else None,
                        "tpot_p90_s": metrics.times["tpot"].percentiles[90],
                        "slo_share": met(metrics),
                        "ttft_limit_s": case.slo.ttft_s,
                        "tpot_limit_s": case.slo.tpot_s,
                        "sustained_per_s": middle,
                        "sustained_low_per_s": min(sustained),
                        "sustained_high_per_s": max(sustained),
                        "load_per_s": case.load_per_s,
                        "gpus": gpus,
                        "usd_per_1m_requests": price and gpus * price / 3600 / case.load_per_s * 1e6,
                    }
                )
    return study_rows


def served(
    case: Case, scenario: Scenario, rate: float, requests: int = REQUESTS, seed: int = 0, replicas: int = 1
) -> ServingMetrics:
    """A fleet under a load."""
    load = WorkloadSpec(target_request_rate=rate, num_requests=requests, workload=case.workload, seed=seed)
    fleet = ClusterConfig(replicas=replicas, router="round_robin")
    return serving_metrics(simulate(scenario, requests_for(load, scenario), cluster_config=fleet), case.slo)


def met(metrics: ServingMetrics) -> float:
    """The share of requests within the limits; 0 where waiting grows as long as requests arrive."""
    return metrics.shares["slo_share"] or 0.0


def highest(serve: Any, requests: int, seed: int, near: float, factor: float) -> float:
    """The highest sustained rate, to two per cent; requests arrive in the same pattern at any rate."""

    def sustained(rate: float) -> bool:
        return met(serve(rate, requests, seed)) >= SHARE

    low = near
    while not sustained(low):
        low /= factor
    high = low * factor
    while sustained(high):
        low, high = high, high * factor
    while high > PRECISION * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sustained(middle) else (low, middle)
    return low


def fewest(serve: Any, load_per_s: float, sustained_per_s: float) -> int:
    """The fewest GPUs that sustain a load behind one router."""

    def enough(replicas: int) -> bool:
        return met(serve(load_per_s, REQUESTS_A_REPLICA * replicas, 0, replicas)) >= SHARE

    replicas = math.ceil(load_per_s / sustained_per_s)
    while not enough(replicas):
        replicas += 1
    while replicas > 1 and enough(replicas - 1):
        replicas -= 1
    return replicas


def findings(rows: list[Row]) -> list[str]:
    """The rate that one GPU sustains, GPUs and cost for the load, and the latency below the unpruned GPU's limit."""
    said = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        workload_rows = [row for row in rows if row["workload"] == workload]
        first = {row["method"]: row for row in reversed(workload_rows)}
        dense = first["none"]
        common = EASY * dense["sustained_per_s"]
        for method, _ in METHODS:
            row = first[method]
            more = row["sustained_per_s"] / dense["sustained_per_s"] - 1
            spread = f"{row['sustained_low_per_s']:.3g} to {row['sustained_high_per_s']:.3g}"
            at = next(
                row for row in workload_rows if row["method"] == method and math.isclose(row["requests_per_s"], common)
            )
            text = f"one GPU sustains {row['sustained_per_s']:.3g} requests/s ({spread} by seed)"
            said.append(
                f"{workload}, {row['model']} on {row['gpu']}, {method}: {text}"
                + (f", {percent(more)} more than unpruned" if method != "none" else "")
                + f"; {row['load_per_s']:g} requests/s take {row['gpus']} GPUs"
                + (f", {row['usd_per_1m_requests']:.0f} USD a million" if row["usd_per_1m_requests"] else "")
                + f"; at {common:.3g} requests/s p90 TTFT is {1000 * at['ttft_p90_s']:.0f} ms"
            )
    return said


def draw(rows: list[Row]) -> Figure:
    """TTFT and the share within the limits against the load, a panel a workload, with each method's sustained rate."""
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    figure, axes = panels(2, len(workloads), 3.6 * len(workloads), 5.6, sharex="col", sharey="row")
    for column, workload in enumerate(workloads):
        upper, lower = axes[0][column], axes[1][column]
        workload_rows = [row for row in rows if row["workload"] == workload]
        for index, (method, settings) in enumerate(METHODS):
            method_rows = [row for row in workload_rows if row["method"] == method]
            name = "unpruned" if method == "none" else f"{method}, {100 * settings['keep']:.3g} % kept"
            loads = [row["requests_per_s"] for row in method_rows]
            upper.plot(loads, [row["ttft_p90_s"] or math.nan for row in method_rows], label=name, **look(index))
            lower.plot(loads, [100 * row["slo_share"] for row in method_rows], label=name, **look(index))
            for panel in (upper, lower):
                panel.axvline(method_rows[0]["sustained_per_s"], color=look(index)["color"], linewidth=0.8, alpha=0.6)
        first = workload_rows[0]
        gpus = ", ".join(
            str(next(row["gpus"] for row in workload_rows if row["method"] == method)) for method, _ in METHODS
        )
        upper.axhline(first["ttft_limit_s"], color="black", linewidth=0.9, linestyle="--")
        lower.axhline(100 * SHARE, color="black", linewidth=0.9, linestyle="--")
        upper.set_yscale("log")
        upper.yaxis.set_major_formatter("{x:g}")
        plain(
            upper,
            f"{workload}: {first['model']}, {first['gpu']}\n{first['load_per_s']:g} requests/s take {gpus} GPUs",
            y="" if column else "p90 TTFT (s)",
        )
        limits = f"TTFT {first['ttft_limit_s']:g} s, TPOT {1000 * first['tpot_limit_s']:g} ms"
        plain(lower, f"within {limits}", x="requests/s a GPU", y="" if column else "requests within limits (%)")
        lower.set_ylim(0, 103)
    legend(figure, [axes[0][0]], len(METHODS))
    return figure


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
