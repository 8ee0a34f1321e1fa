"""A server on a GPU -> what a replica may do, and the memory that is left for its cache."""

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

# Of the memory beside the weights; our choice. Beyond, one request with stored attention weights would leave next to no
# cache to all others.
LARGEST_ACTIVATION_SHARE = 0.5


def capacity_of(bound: ResolvedScenario, server: EngineConfig, fleet: ClusterConfig, activation_bytes: int) -> Capacity:
    """The limits of each replica, whose largest request has ``activation_bytes``, and of the router."""
    max_tokens, max_seqs = server.batch_on(bound.gpu)
    text = TokenCounts(0, 0, 0, 0, 0, 0, 0, max_tokens, 1, 1)
    counts = batch_estimates(bound, bound.dense_schedule, np.array([text], np.int64))[0]
    activation_bytes = max(activation_bytes, int(counts["activation_bytes"][0]))
    budget = server.encoder_budget_tokens or max_tokens
    return Capacity(
        max_seqs=max_seqs,
        max_tokens=max_tokens,
        encoder_budget_tokens=budget,
        encoder_cache_tokens=server.encoder_cache_tokens or budget,
        kv_bytes=kv_capacity_bytes(bound, server, activation_bytes),
        context_tokens=max_context_tokens(bound, server),
        prefix_share=server.prefix_share,
        router=("round_robin", "least_loaded").index(fleet.router),
        concurrency=fleet.concurrency,
        transfer_ticks_per_byte=TICKS_PER_S / fleet.transfer_bytes_per_s,
        transfer_ticks=round(fleet.transfer_latency_s * TICKS_PER_S),
    )


def kv_capacity_bytes(bound: ResolvedScenario, server: EngineConfig, activation_bytes: int) -> int:
    """Cache of a replica: what weights, activations and workspace leave of all its GPUs' memory.

    Raises
    ------
    InputError
        If they leave nothing.
    """
    if server.kv_cache_bytes is not None:
        return server.kv_cache_bytes
    left = (free_bytes(bound, server) - activation_bytes) / kv_share(bound.model, bound.precision.tp_size)
    if left < 1:
        raise InputError(
            "gpu", bound.gpu.name, f"{bound.model.name} leaves no memory for a cache: give more tp_size or a larger GPU"
        )
    return int(left)


def free_bytes(bound: ResolvedScenario, server: EngineConfig) -> float:
    """What weights and workspace leave of each GPU's memory."""
    weights = weights_bytes(bound.model, bound.precision)
    return free_memory_bytes(bound.gpu, weights, server.gpu_memory_utilization)


def activation_limit(bound: ResolvedScenario, server: EngineConfig, activation_bytes: Array) -> float:
    """The most that one request's activations may take, of which the requests have ``activation_bytes``.

    The usual request is not refused: if it leaves no cache, the model does not fit, and that is told elsewhere.
    """
    if server.kv_cache_bytes is not None or not len(activation_bytes):
        return np.inf
    return max(LARGEST_ACTIVATION_SHARE * free_bytes(bound, server), float(np.median(activation_bytes)))
