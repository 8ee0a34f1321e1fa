"""What a simulation shows of latency, throughput and goodput, by the names that ``vllm bench serve`` saves.

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
from asymsim.util.units import MILLI

# Refused requests that are named, of each kind.
MAX_REJECTED_ROWS = 10
# Times that grow with the run where the load is more than can be served.
WAITING_TIMES = ("ttft", "e2el", "queue")


@dataclass(frozen=True, kw_only=True)
class ServingMetrics:
    """One simulation in numbers; `to_dict` has the promised names.

    Attributes
    ----------
    times : mapping of str to Summary
        Seconds: ``ttft``, ``tpot``, ``itl``, ``e2el`` (end to end) and ``queue``. Those of ``WAITING_TIMES`` are empty where
        the load is more than can be served.
    counts : mapping of str to int
        Requests by what became of them, tokens in and out, preemptions, steps.
    rates : mapping of str to float or None
        A second, over ``duration_s``; goodput is None without an SLO, and where it would depend on the run's length.
    shares : mapping of str to float or None
        Of requests that meet the SLO, of time that GPUs are at work, of the cache at its fullest.
    rejected : mapping of str to list of int
        The first rows of refused requests, by the reason.
    duration_s : float
        From the first request sent to the last one done.
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
        """The document, ready for JSON: None where a figure has no meaning, times of percentiles in ms as vLLM has."""
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


def serving_metrics(served: SimulationResult, slo: Slo | None = None) -> ServingMetrics:
    """Sum up a simulation.

    Times are those of requests that were done. A request of one token has no TPOT and meets any limit of it; one that
    was refused or never done meets none.

    Parameters
    ----------
    served : Served
    slo : Slo, optional
        Limits for the goodput.
    """
    slo = slo or Slo()
    done = served.status == DONE
    sent, queue, ttft, e2e = (each[done] for each in (served.sent_s, served.queue_s, served.ttft_s, served.e2e_s))
    output = served.requests.output_tokens[done]
    long = output > 1
    tpot = np.where(long, (e2e - ttft) / np.maximum(output - 1, 1), 0.0)
    after = int((output - 1)[long].sum())
    state = backlog_of(served)
    times = {
        "ttft": summarise_values(ttft),
        "tpot": summarise_values(tpot[long]),
        "itl": summarise_histogram(served.gap_histogram, float((e2e - ttft)[long].sum()) / after if after else None),
        "e2el": summarise_values(e2e),
        "queue": summarise_values(queue),
    }
    if state.saturated:
        times |= dict.fromkeys(WAITING_TIMES, Summary())
    duration = max(0.0, served.end_s - float(np.nanmin(served.sent_s))) if done.any() else 0.0
    good = _good(slo, {"ttft_s": ttft, "tpot_s": tpot, "e2e_s": e2e})
    if state.saturated and (slo.ttft_s is not None or slo.e2e_s is not None):
        good = None
    counts = _counts(served, done, output, sent + e2e)
    rates = {
        "request_throughput": counts["completed"],
        "request_goodput": good,
        "output_throughput": counts["total_output_tokens"],
        "total_token_throughput": counts["total_input_tokens"] + counts["total_output_tokens"],
    }
    peak = int(served.timeline["kv_peak_bytes"].max(initial=0))
    return ServingMetrics(
        times=times,
        counts=counts,
        rates={name: None if count is None or not duration else count / duration for name, count in rates.items()},
        shares={
            "slo_share": None if good is None or not len(done) else good / len(done),
            "gpu_busy_share": float(served.busy_s.sum()) / len(served.busy_s) / duration if duration else None,
            "kv_peak_share": peak / served.kv_capacity_bytes if served.kv_capacity_bytes else None,
        },
        rejected={
            reason: np.flatnonzero(served.status == code)[:MAX_REJECTED_ROWS].tolist()
            for code, reason in enumerate(STATUS)
            if code != DONE and (served.status == code).any()
        },
        duration_s=duration,
        gpus=served.gpus,
        backlog=state,
        slo=slo,
    )


def _counts(served: SimulationResult, done: Array, output: Array, end: Array) -> dict[str, int]:
    refused = {reason: int((served.status == code).sum()) for code, reason in enumerate(STATUS) if code != DONE}
    return {
        "completed": int(done.sum()),
        "failed": int((~done).sum()),
        **refused,
        "total_input_tokens": int(served.prompt_tokens[done].sum()),
        "total_visual_tokens": int(served.visual_tokens[done].sum()),
        "total_output_tokens": int(output.sum()),
        "max_concurrent_requests": _most_at_once(served.sent_s[done], end),
        "preemptions": int(served.preemptions.sum()),
        "preempted_requests": int((served.preemptions > 0).sum()),
        "steps": int(served.engine_steps),
    }


def _most_at_once(begin: Array, end: Array) -> int:
    """The most intervals that share a moment; one that ends where another begins does not share it."""
    begin, end = np.sort(begin), np.sort(end)
    flying = np.arange(1, len(begin) + 1) - np.searchsorted(end, begin, side="right")
    return int(flying.max(initial=0))


def _good(slo: Slo, times: Mapping[str, Array]) -> int | None:
    """Requests that meet every limit; None where there is no limit."""
    if not slo.limits_s:
        return None
    met = np.ones(len(times["ttft_s"]), np.bool_)
    for name, limit in slo.limits_s.items():
        met &= times[name] <= limit
    return int(met.sum())
