"""Capacity of a replica: batch limits of its engine, and the memory that is left for its KV cache."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving.layout import Capacity
from asymsim.core.times.device import TICKS_PER_S
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.memory import free_memory_bytes, kv_share, weights_bytes
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.serving.batch_estimates import batch_estimates
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_shapes import max_context_tokens
from asymsim.util.errors import InputError

# Share of the memory beside the weights; our choice. Beyond it, one request with stored attention weights would leave
# next to no cache to the others.
LARGEST_ACTIVATION_SHARE = 0.5


def capacity_of(
    resolved: ResolvedScenario, engine_config: EngineConfig, cluster_config: ClusterConfig, activation_bytes: int
) -> Capacity:
    """Capacity of each replica, whose largest request has ``activation_bytes``, and settings of the router."""
    max_tokens, max_seqs = engine_config.batch_on(resolved.gpu)
    text_batch = TokenCounts(0, 0, 0, 0, 0, 0, 0, max_tokens, 1, 1)
    counts = batch_estimates(resolved, resolved.dense_schedule, np.array([text_batch], np.int64))[0]
    activation_bytes = max(activation_bytes, int(counts["activation_bytes"][0]))
    budget = engine_config.encoder_budget_tokens or max_tokens
    return Capacity(
        max_seqs=max_seqs,
        max_tokens=max_tokens,
        encoder_budget_tokens=budget,
        encoder_cache_tokens=engine_config.encoder_cache_tokens or budget,
        kv_bytes=kv_capacity_bytes(resolved, engine_config, activation_bytes),
        context_tokens=max_context_tokens(resolved, engine_config),
        prefix_share=engine_config.prefix_share,
        router=("round_robin", "least_loaded").index(cluster_config.router),
        concurrency=cluster_config.concurrency,
        transfer_ticks_per_byte=TICKS_PER_S / cluster_config.transfer_bytes_per_s,
        transfer_ticks=round(cluster_config.transfer_latency_s * TICKS_PER_S),
    )


def kv_capacity_bytes(resolved: ResolvedScenario, engine_config: EngineConfig, activation_bytes: int) -> int:
    """KV cache of a replica, on all its GPUs together: their memory without weights, activations and workspace.

    Raises
    ------
    InputError
        If no memory is left.
    """
    if engine_config.kv_cache_bytes is not None:
        return engine_config.kv_cache_bytes
    cache_bytes = (free_bytes_beside_weights(resolved, engine_config) - activation_bytes) / kv_share(
        resolved.model, resolved.precision.tp_size
    )
    if cache_bytes < 1:
        raise InputError(
            "gpu",
            resolved.gpu.name,
            f"{resolved.model.name} leaves no memory for a cache: give more tp_size or a larger GPU",
        )
    return int(cache_bytes)


def free_bytes_beside_weights(resolved: ResolvedScenario, engine_config: EngineConfig) -> float:
    """Memory of each GPU beside weights and workspace."""
    weights = weights_bytes(resolved.model, resolved.precision)
    return free_memory_bytes(resolved.gpu, weights, engine_config.gpu_memory_utilization)


def activation_limit(resolved: ResolvedScenario, engine_config: EngineConfig, activation_bytes: Array) -> float:
    """Most activation bytes that one request may take, where the requests take ``activation_bytes``.

    It is at least their median: if the median request leaves no cache, the model does not fit, which
    `kv_capacity_bytes` reports.
    """
    if engine_config.kv_cache_bytes is not None or not len(activation_bytes):
        return np.inf
    return max(
        LARGEST_ACTIVATION_SHARE * free_bytes_beside_weights(resolved, engine_config),
        float(np.median(activation_bytes)),
    )
