"""Serving metrics of a simulation: latency, throughput and goodput, by the names that ``vllm bench serve`` saves.

Names and definitions: vLLM, ``vllm/benchmarks/serve.py`` (`calculate_metrics` and the result that `benchmark` saves).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving.layout import DONE, STATUS
from asymsim.serving.results import SimulationResult
from asymsim.serving.saturation import Backlog, backlog_of
from asymsim.serving.slo import Slo
from asymsim.serving.summary import Summary, summarise_histogram, summarise_values
from asymsim.util.arguments import checked_arguments
from asymsim.util.units import MILLI

# Rows listed for each reason of refusal.
MAX_REJECTED_ROWS = 10
# Times that grow with the length of the run where the offered load exceeds the fleet's capacity.
WAITING_TIMES = ("ttft", "e2el", "queue")


@dataclass(frozen=True, kw_only=True)
class ServingMetrics:
    """Figures of one simulation; `to_dict` gives them under their documented names.

    Attributes
    ----------
    times : mapping of str to Summary
        Seconds: ``ttft``, ``tpot``, ``itl``, ``e2el`` (end to end) and ``queue``. ``WAITING_TIMES`` are empty where the
        offered load exceeds the fleet's capacity.
    counts : mapping of str to int
        Requests by status, tokens in and out, preemptions, engine steps.
    rates : mapping of str to float or None
        Requests and tokens a second over ``duration_s``. Goodput is None without an SLO, and where it would depend on
        the length of the run.
    shares : mapping of str to float or None
        Shares of requests that meet the SLO, of time that GPUs are busy, of the KV cache in use at its peak.
    rejected : mapping of str to list of int
        First rows of refused requests, by the reason.
    duration_s : float
        From sending the first request to the last token of the last one.
    gpus : int
    backlog : Backlog
    slo : Slo
    """

    times: Mapping[str, Summary]
    counts: Mapping[str, int]
    rates: Mapping[str, float | None]
    shares: Mapping[str, float | None]
    rejected: Mapping[str, list[int]]
    duration_s: float
    gpus: int
    backlog: Backlog
    slo: Slo

    def to_dict(self) -> dict[str, Any]:
        """The document, ready for JSON: None where a figure has no meaning, latencies in ms as in vLLM."""
        document: dict[str, Any] = {"duration": self.duration_s, **self.counts, **self.rates}
        for name, summary in self.times.items():
            document |= summary.named(name)
        return {
            **document,
            **self.shares,
            "gpus": self.gpus,
            "slo": {f"{name.removesuffix('_s')}_ms": limit / MILLI for name, limit in self.slo.limits_s.items()},
            "rejected_rows": dict(self.rejected),
            "saturated": self.backlog.saturated,
            "asked_per_s": self.backlog.offered_per_s,
            "served_per_s": self.backlog.served_per_s,
            "backlog_growth_per_s": self.backlog.growth_per_s,
        }


@checked_arguments
def serving_metrics(result: SimulationResult, slo: Slo | None = None) -> ServingMetrics:
    """Metrics of a simulation.

    Times are of completed requests. A request of one output token has no TPOT and meets any limit on it; a request that
    was refused or not completed meets no limit.

    Parameters
    ----------
    result : SimulationResult
    slo : Slo, optional
        Latency limits for the goodput.
    """
    slo = slo or Slo()
    done = result.status == DONE
    sent, queue, ttft, e2e = (column[done] for column in (result.sent_s, result.queue_s, result.ttft_s, result.e2e_s))
    output = result.requests.output_tokens[done]
    several_tokens = output > 1
    tpot = np.where(several_tokens, (e2e - ttft) / np.maximum(output - 1, 1), 0.0)
    later_tokens = int((output - 1)[several_tokens].sum())
    mean_gap_s = float((e2e - ttft)[several_tokens].sum()) / later_tokens if later_tokens else None
    backlog = backlog_of(result)
    times = {
        "ttft": summarise_values(ttft),
        "tpot": summarise_values(tpot[several_tokens]),
        "itl": summarise_histogram(result.gap_histogram, mean_gap_s),
        "e2el": summarise_values(e2e),
        "queue": summarise_values(queue),
    }
    if backlog.saturated:
        times |= dict.fromkeys(WAITING_TIMES, Summary())
    duration = max(0.0, result.end_s - float(np.nanmin(result.sent_s))) if done.any() else 0.0
    num_good = _requests_within(slo, {"ttft_s": ttft, "tpot_s": tpot, "e2e_s": e2e})
    if backlog.saturated and (slo.ttft_s is not None or slo.e2e_s is not None):
        num_good = None
    counts = _counts(result, done, output, sent + e2e)
    rates = {
        "request_throughput": counts["completed"],
        "request_goodput": num_good,
        "output_throughput": counts["total_output_tokens"],
        "total_token_throughput": counts["total_input_tokens"] + counts["total_output_tokens"],
    }
    peak = int(result.timeline["kv_peak_bytes"].max(initial=0))
    return ServingMetrics(
        times=times,
        counts=counts,
        rates={name: None if count is None or not duration else count / duration for name, count in rates.items()},
        shares={
            "slo_share": None if num_good is None or not len(done) else num_good / len(done),
            "gpu_busy_share": float(result.busy_s.sum()) / len(result.busy_s) / duration if duration else None,
            "kv_peak_share": peak / result.kv_capacity_bytes if result.kv_capacity_bytes else None,
        },
        rejected={
            reason: np.flatnonzero(result.status == code)[:MAX_REJECTED_ROWS].tolist()
            for code, reason in enumerate(STATUS)
            if code != DONE and (result.status == code).any()
        },
        duration_s=duration,
        gpus=result.gpus,
        backlog=backlog,
        slo=slo,
    )


def _counts(result: SimulationResult, done: Array, output: Array, end: Array) -> dict[str, int]:
    refused = {reason: int((result.status == code).sum()) for code, reason in enumerate(STATUS) if code != DONE}
    return {
        "completed": int(done.sum()),
        "failed": int((~done).sum()),
        **refused,
        "total_input_tokens": int(result.prompt_tokens[done].sum()),
        "total_visual_tokens": int(result.visual_tokens[done].sum()),
        "total_output_tokens": int(output.sum()),
        "max_concurrent_requests": _max_in_flight(result.sent_s[done], end),
        "preemptions": int(result.preemptions.sum()),
        "preempted_requests": int((result.preemptions > 0).sum()),
        "steps": int(result.engine_steps),
    }


def _max_in_flight(start: Array, end: Array) -> int:
    """Largest number of intervals that overlap; an interval that ends where another starts does not overlap it."""
    start, end = np.sort(start), np.sort(end)
    in_flight = np.arange(1, len(start) + 1) - np.searchsorted(end, start, side="right")
    return int(in_flight.max(initial=0))


def _requests_within(slo: Slo, times: Mapping[str, Array]) -> int | None:
    """Number of requests that meet every limit; None where there is no limit."""
    if not slo.limits_s:
        return None
    meets_all = np.ones(len(times["ttft_s"]), np.bool_)
    for name, limit in slo.limits_s.items():
        meets_all &= times[name] <= limit
    return int(meets_all.sum())
