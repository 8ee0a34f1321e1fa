"""The result of a serving simulation as one document: what was asked, what came of it, what it cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from asymsim.catalogue.gpu import load_gpu
from asymsim.estimator.scenario import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.power import Tariff, run_cost
from asymsim.serving.results import SimulationResult
from asymsim.serving.slo import Slo
from asymsim.serving.workload.spec import WorkloadSpec


def serving_document(
    scenario: Scenario,
    load: WorkloadSpec,
    server: EngineConfig,
    fleet: ClusterConfig,
    served: SimulationResult,
    slo: Slo | None = None,
    tariff: Tariff | None = None,
) -> dict[str, Any]:
    """The document, ready for JSON.

    The keys from ``model_id`` to ``max_concurrency``, and all of the metrics, are those that ``vllm bench serve``
    saves, so what reads its results reads these.
    """
    run = serving_metrics(served, slo)
    device = load_gpu(scenario.gpu)
    endless = load.target_request_rate is None and load.trace is None
    return {
        "model_id": scenario.model,
        "num_prompts": len(served.requests),
        "request_rate": "inf" if endless else load.target_request_rate,
        "burstiness": load.burstiness,
        "max_concurrency": fleet.concurrency or None,
        "gpu": device.name,
        "method": scenario.method if scenario.schedule is None else scenario.schedule,
        "keep": scenario.keep,
        "settings": dict(scenario.settings),
        "tp_size": scenario.tp_size,
        "dtype": scenario.dtype,
        "kv_dtype": scenario.kv_dtype,
        "engine": scenario.engine,
        **run.to_dict(),
        **run_cost(run, device, tariff).to_dict(),
        "load": asdict(load),
        "fleet": asdict(fleet),
        "server": asdict(server),
    }
