"""The package as the golden set reaches it: all imports of ``asymsim`` and its names for arrays stand here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asymsim import AsymsimError, Scenario, estimate
from asymsim.cli.app import run
from asymsim.core.serving.layout import EVENTS, STATUS
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.document import serving_document
from asymsim.serving.simulate import simulate
from asymsim.serving.slo import slo_ms
from asymsim.serving.workload.spec import WorkloadSpec, requests_for

Fields = Mapping[str, Any]
# More than any of these runs has, so that logs are whole.
LOGGED_EVENTS = 10**6


def estimate_document(fields: Fields, operators: bool) -> dict[str, Any]:
    """The result document of a scenario, or its refusal."""
    try:
        return estimate(Scenario(**fields), operators=operators).to_dict()
    except AsymsimError as error:
        return {"refused": str(error)}


def command_line(argv: tuple[str, ...]) -> int:
    """The exit code of a command line."""
    return run(argv)


def serving_run(
    scenario: Fields, load: Fields, server: Fields, fleet: Fields, limits_ms: Fields
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A simulated run: its document; columns of its event log; columns of its requests, times in seconds."""
    asked, arrivals, engine, replicas = (
        Scenario(**scenario),
        WorkloadSpec(**load),
        EngineConfig(**server),
        ClusterConfig(**fleet),
    )
    served = simulate(asked, requests_for(arrivals, asked), engine, replicas, events=LOGGED_EVENTS)
    document = serving_document(asked, arrivals, engine, replicas, served, slo_ms(**limits_ms))
    log = {
        "ticks": served.event_log["ticks"],
        "event": [EVENTS[kind] for kind in served.event_log["kind"].tolist()],
        "request": served.event_log["request"],
        "replica": served.event_log["replica"],
        "value": served.event_log["value"],
        "duration_ticks": served.event_log["duration_ticks"],
    }
    requests = {
        "status": [STATUS[code] for code in served.status.tolist()],
        "text_tokens": served.requests.text_tokens,
        "output_tokens": served.requests.output_tokens,
        "visual_tokens": served.visual_tokens,
        "prompt_tokens": served.prompt_tokens,
        "replica": served.replica,
        "preemptions": served.preemptions,
        "sent_s": served.sent_s,
        "queue_s": served.queue_s,
        "ttft_s": served.ttft_s,
        "e2e_s": served.e2e_s,
    }
    whole = {
        "steps": served.engine_steps,
        "gaps": served.gap_histogram,
        "busy_s": served.busy_s,
        "end_s": served.end_s,
        "kv_capacity_bytes": served.kv_capacity_bytes,
    }
    return document, log, {"requests": requests, "whole": whole}
