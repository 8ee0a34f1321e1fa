"""Result document of a serving simulation: its configuration, metrics, energy and cost."""

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
    workload: WorkloadSpec,
    engine_config: EngineConfig,
    cluster_config: ClusterConfig,
    result: SimulationResult,
    slo: Slo | None = None,
    tariff: Tariff | None = None,
) -> dict[str, Any]:
    """The document, ready for JSON.

    The keys from ``model_id`` to ``max_concurrency``, and the metrics, have the names that ``vllm bench serve`` saves,
    so that tools for its results can read these.
    """
    metrics = serving_metrics(result, slo)
    gpu = load_gpu(scenario.gpu)
    all_at_once = workload.target_request_rate is None and workload.trace is None
    return {
        "model_id": scenario.model,
        "num_prompts": len(result.requests),
        "request_rate": "inf" if all_at_once else workload.target_request_rate,
        "burstiness": workload.burstiness,
        "max_concurrency": cluster_config.concurrency or None,
        "gpu": gpu.name,
        "method": scenario.method if scenario.schedule is None else scenario.schedule,
        "keep": scenario.keep,
        "settings": dict(scenario.settings),
        "tp_size": scenario.tp_size,
        "dtype": scenario.dtype,
        "kv_dtype": scenario.kv_dtype,
        "engine": scenario.engine,
        **metrics.to_dict(),
        **run_cost(metrics, gpu, tariff).to_dict(),
        "load": asdict(workload),
        "fleet": asdict(cluster_config),
        "server": asdict(engine_config),
    }
