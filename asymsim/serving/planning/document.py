"""Result document of a plan: the query, a row for each GPU and method, the best of them, the savings of pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from asymsim.catalogue.gpu import load_gpu
from asymsim.estimator.scenario import Scenario
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.planning.goodput_curves import GoodputCurve
from asymsim.serving.planning.per_gpu import GpuPlan, TpAttempt
from asymsim.serving.planning.plan import GpuSaving, Plan, middle_90_percent
from asymsim.serving.power import run_cost
from asymsim.util.units import MILLI


def plan_document(plan: Plan) -> dict[str, Any]:
    """The document, ready for JSON: None where there is no fleet, no interval or no price."""
    query = plan.query
    first = query.scenarios[0]
    return {
        "model": first.model,
        "request_rate": query.rate_per_s,
        "percentile": query.slo_target.percentile,
        "slo": _ms(query.slo_target.slo.limits_s),
        "dtype": first.dtype,
        "kv_dtype": first.kv_dtype,
        "engine": first.engine,
        "router": query.router,
        "draws": query.samples,
        "answers": [answer_row(plan, gpu_plan) for gpu_plan in plan.gpu_plans],
        "fewest_gpus": _named(plan, plan.fewest_gpus),
        "cheapest": _named(plan, plan.cheapest),
        "savings": [_saving(saving) for saving in plan.savings],
        "load": asdict(query.workload),
        "server": asdict(query.engine_config),
    }


def answer_row(plan: Plan, gpu_plan: GpuPlan) -> dict[str, Any]:
    """Row of one plan: the fleet, its latencies at the percentile, its cost and energy."""
    sampled = gpu_plan.sampled_gpus
    p05, p95 = (_finite(end) for end in middle_90_percent(sampled))
    return {
        **_method(gpu_plan.scenario),
        "tp_size": None if gpu_plan.replicas is None else gpu_plan.scenario.tp_size,
        "replicas": gpu_plan.replicas,
        "gpus": gpu_plan.gpus,
        "gpus_p05": p05,
        "gpus_p95": p95,
        "unmet_draws": None if sampled is None else int((sampled == math.inf).sum()),
        "num_requests": gpu_plan.num_requests,
        **_figures(plan, gpu_plan),
        "why": gpu_plan.reason,
        "tried": [_attempt(attempt) for attempt in gpu_plan.attempts],
    }


def curve_rows(curves: Sequence[GoodputCurve]) -> list[dict[str, Any]]:
    """Rows of goodput curves, one for each curve and request rate; goodput is None where the backlog grows."""
    return [
        {
            **_method(curve.scenario),
            "tp_size": curve.scenario.tp_size,
            "replicas": curve.replicas,
            "gpus": curve.replicas * curve.scenario.tp_size,
            "sustained_rate": curve.sustained_rate,
            "request_rate": point.request_rate,
            "request_goodput": point.request_goodput,
            "slo_share": point.slo_share,
            "saturated": point.outcome.saturated,
            **{name: _finite(value) for name, value in _ms(point.outcome.percentiles_s).items()},
            "num_requests": curve.num_requests,
        }
        for curve in curves
        for point in curve.points
    ]


def sustained_rows(curves: Sequence[GoodputCurve]) -> list[dict[str, Any]]:
    """Rows of the largest rate that each curve's fleet sustains within the limits."""
    return [
        {
            **_method(curve.scenario),
            "tp_size": curve.scenario.tp_size,
            "replicas": curve.replicas,
            "sustained_rate": curve.sustained_rate,
        }
        for curve in curves
    ]


def _attempt(attempt: TpAttempt) -> dict[str, Any]:
    return {"tp_size": attempt.tp_size, "replicas": attempt.replicas, "why": attempt.reason}


def _method(scenario: Scenario) -> dict[str, Any]:
    return {
        "gpu": load_gpu(scenario.gpu).name,
        "method": scenario.method if scenario.schedule is None else scenario.schedule,
        "keep": scenario.keep,
    }


def _figures(plan: Plan, gpu_plan: GpuPlan) -> dict[str, Any]:
    names = ("ttft_ms", "tpot_ms", "e2e_ms", "refused", "request_goodput", "slo_share", "gpu_busy_share")
    money = ("price_usd_per_gpu_hour", "usd_per_hour", "usd_per_1m_requests", "usd_per_1m_output_tokens")
    energy = ("mean_power_w", "wh_per_1000_requests")
    if gpu_plan.outcome is None:
        return dict.fromkeys((*names, *money, *energy))
    outcome, query = gpu_plan.outcome, plan.query
    metrics = serving_metrics(outcome.result, query.slo_target.slo)
    cost = run_cost(metrics, load_gpu(gpu_plan.scenario.gpu), query.tariff).to_dict()
    figures = {
        **{name: _finite(value) for name, value in _ms(outcome.percentiles_s).items()},
        "refused": sum(outcome.refused.values()),
        "request_goodput": metrics.rates["request_goodput"],
        **metrics.shares,
        **cost,
        "usd_per_hour": plan.usd_per_hour(gpu_plan),
    }
    return {name: figures[name] for name in (*names, *money, *energy)}


def _named(plan: Plan, gpu_plan: GpuPlan | None) -> dict[str, Any] | None:
    if gpu_plan is None:
        return None
    fleet = {"tp_size": gpu_plan.scenario.tp_size, "gpus": gpu_plan.gpus, "usd_per_hour": plan.usd_per_hour(gpu_plan)}
    return {**_method(gpu_plan.scenario), **fleet}


def _saving(saving: GpuSaving) -> dict[str, Any]:
    return {
        **_method(saving.pruned.scenario),
        "unpruned_gpus": saving.unpruned.gpus,
        "gpus": saving.pruned.gpus,
        "gpus_saved": saving.gpus_saved,
        "gpus_saved_p05": _finite(saving.p05_gpus_saved),
        "gpus_saved_p95": _finite(saving.p95_gpus_saved),
    }


def _ms(seconds: Mapping[str, float]) -> dict[str, float]:
    return {f"{name.removesuffix('_s')}_ms": value / MILLI for name, value in seconds.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
