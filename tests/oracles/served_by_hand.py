"""Outcomes of simulations made by hand: what a queue of one server does to requests of a fixed length."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymsim.core.serving.layout import EVENT, GAP_BINS, GAP_FIRST_S, GAP_RATIO
from asymsim.serving.results import TIMELINE_WINDOW, SimulationResult
from asymsim.serving.workload.requests import make_requests


def served(
    sent_s: Any,
    ttft_s: Any,
    e2e_s: Any,
    *,
    output_tokens: Any = 2,
    status: Any = 0,
    timeline: Any = (),
    event_log: Any = (),
    **more: Any,
) -> SimulationResult:
    """An outcome with one gap between any two tokens of a request, and plain values elsewhere."""
    sent, ttft, e2e = (np.asarray(each, np.float64) for each in (sent_s, ttft_s, e2e_s))
    asked = make_requests(sent, text_tokens=100, output_tokens=output_tokens)
    count = len(sent)
    gaps = np.zeros(GAP_BINS, np.int64)
    for tokens, first, last in zip(asked.output_tokens, ttft, e2e, strict=True):
        if tokens > 1 and last > first:
            place = int(np.log((last - first) / (tokens - 1) / GAP_FIRST_S) / np.log(GAP_RATIO))
            gaps[place] += tokens - 1
    values: dict[str, Any] = {
        "visual_tokens": np.full(count, 50),
        "prompt_tokens": np.full(count, 125),
        "replica": np.zeros(count, np.int32),
        "preemptions": np.zeros(count, np.int32),
        "queue_s": ttft / 2,
        "busy_s": np.array([1.0]),
        "engine_steps": 7,
        "end_s": float(np.nanmax(sent + e2e, initial=0.0)),
        "kv_capacity_bytes": 1000,
        "gpus": 1,
    }
    return SimulationResult(
        requests=asked,
        status=np.broadcast_to(np.asarray(status, np.int8), count).copy(),
        sent_s=sent,
        ttft_s=ttft,
        e2e_s=e2e,
        gap_histogram=gaps,
        timeline=np.array(list(timeline), TIMELINE_WINDOW),
        event_log=np.array(list(event_log), EVENT),
        **{**values, **more},
    )


def lindley(between_s: Any, service_s: Any) -> tuple[Any, Any]:
    """Arrivals and times in a first-come-first-served queue of one server: W' = max(0, W + S - A)."""
    waits = [0.0]
    for service, between in zip(service_s[:-1], between_s, strict=True):
        waits.append(max(0.0, waits[-1] + service - between))
    sent = np.concatenate([[0.0], np.cumsum(between_s)])
    return sent, np.array(waits) + service_s


def queue(load: float, count: int, seed: int | None) -> tuple[Any, Any]:
    """M/M/1 with a service of one second in the mean, or D/D/1 without a seed."""
    if seed is None:
        return lindley(np.full(count - 1, 1 / load), np.ones(count))
    draw = np.random.default_rng(seed)
    return lindley(draw.exponential(1 / load, count - 1), draw.exponential(1.0, count))
