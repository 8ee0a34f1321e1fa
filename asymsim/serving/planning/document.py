"""A plan as one document: what was asked, an answer a GPU and method, the best of them, what pruning saves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from asymsim.catalogue.gpu import load_gpu
from asymsim.estimator.scenario import Scenario
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.planning.goodput_curves import Curve
from asymsim.serving.planning.per_gpu import GpuPlan
from asymsim.serving.planning.plan import GpuSaving, Plan, middle_90_percent
from asymsim.serving.power import run_cost
from asymsim.util.units import MILLI


def plan_document(plan: Plan) -> dict[str, Any]:
    """The document, ready for JSON: None where there is no answer, no interval or no price."""
    asked = plan.question
    first = asked.scenarios[0]
    return {
        "model": first.model,
        "request_rate": asked.rate_per_s,
        "percentile": asked.aim.percentile,
        "slo": _ms(asked.aim.slo.given),
        "dtype": first.dtype,
        "kv_dtype": first.kv_dtype,
        "engine": first.engine,
        "router": asked.router,
        "draws": asked.draws,
        "answers": [answer_row(plan, answer) for answer in plan.answers],
        "fewest_gpus": _named(plan, plan.fewest),
        "cheapest": _named(plan, plan.cheapest),
        "savings": [_saving(saving) for saving in plan.savings],
        "load": asdict(asked.load),
        "server": asdict(asked.server),
    }


def answer_row(plan: Plan, answer: GpuPlan) -> dict[str, Any]:
    """One answer: the fleet, what it does at the percentile, and what it takes."""
    drawn = answer.drawn_gpus
    low, high = (_finite(end) for end in middle_90_percent(drawn))
    return {
        **_way(answer.scenario),
        "tp_size": None if answer.replicas is None else answer.scenario.tp_size,
        "replicas": answer.replicas,
        "gpus": answer.gpus,
        "gpus_p05": low,
        "gpus_p95": high,
        "unmet_draws": None if drawn is None else int((drawn == math.inf).sum()),
        "num_requests": answer.requests,
        **_figures(plan, answer),
        "why": answer.why,
        "tried": [asdict(tried) for tried in answer.tried],
    }


def curve_rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """A row a curve and request rate; goodput is None where requests pile up."""
    return [
        {
            **_way(curve.scenario),
            "tp_size": curve.scenario.tp_size,
            "replicas": curve.replicas,
            "gpus": curve.replicas * curve.scenario.tp_size,
            "sustained_rate": curve.sustained_rate,
            "request_rate": point.request_rate,
            "request_goodput": point.request_goodput,
            "slo_share": point.slo_share,
            "saturated": point.outcome.saturated,
            **{name: _finite(value) for name, value in _ms(point.outcome.values_s).items()},
            "num_requests": curve.requests,
        }
        for curve in curves
        for point in curve.points
    ]


def sustained_rows(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """The largest rate that each curve's fleet sustains within the limits."""
    return [
        {
            **_way(curve.scenario),
            "tp_size": curve.scenario.tp_size,
            "replicas": curve.replicas,
            "sustained_rate": curve.sustained_rate,
        }
        for curve in curves
    ]


def _way(scenario: Scenario) -> dict[str, Any]:
    return {
        "gpu": load_gpu(scenario.gpu).name,
        "method": scenario.method if scenario.schedule is None else scenario.schedule,
        "keep": scenario.keep,
    }


def _figures(plan: Plan, answer: GpuPlan) -> dict[str, Any]:
    names = ("ttft_ms", "tpot_ms", "e2e_ms", "refused", "request_goodput", "slo_share", "gpu_busy_share")
    money = ("price_usd_per_gpu_hour", "usd_per_hour", "usd_per_1m_requests", "usd_per_1m_output_tokens")
    energy = ("mean_power_w", "wh_per_1000_requests")
    if answer.outcome is None:
        return dict.fromkeys((*names, *money, *energy))
    outcome, question = answer.outcome, plan.question
    run = serving_metrics(outcome.served, question.aim.slo)
    spent = run_cost(run, load_gpu(answer.scenario.gpu), question.tariff).to_dict()
    figures = {
        **{name: _finite(value) for name, value in _ms(outcome.values_s).items()},
        "refused": sum(outcome.refused.values()),
        "request_goodput": run.rates["request_goodput"],
        **run.shares,
        **spent,
        "usd_per_hour": plan.usd_per_hour(answer),
    }
    return {name: figures[name] for name in (*names, *money, *energy)}


def _named(plan: Plan, answer: GpuPlan | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    found = {"tp_size": answer.scenario.tp_size, "gpus": answer.gpus, "usd_per_hour": plan.usd_per_hour(answer)}
    return {**_way(answer.scenario), **found}


def _saving(saving: GpuSaving) -> dict[str, Any]:
    return {
        **_way(saving.pruned.scenario),
        "unpruned_gpus": saving.unpruned.gpus,
        "gpus": saving.pruned.gpus,
        "gpus_saved": saving.gpus,
        "gpus_saved_p05": _finite(saving.p05_gpus),
        "gpus_saved_p95": _finite(saving.p95_gpus),
    }


def _ms(seconds: Mapping[str, float]) -> dict[str, float]:
    return {f"{name.removesuffix('_s')}_ms": value / MILLI for name, value in seconds.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
