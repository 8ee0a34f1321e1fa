"""Memory on each GPU: weights, cache, activations and workspace, and the largest batch that fits."""

from __future__ import annotations

from asymsim.catalogue.gpu import Gpu
from asymsim.catalogue.model import VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.workspace import ACTIVATION_BYTES, KV_PAGED_BYTES
from asymsim.estimator.operator_table import WeightedTables
from asymsim.estimator.result import Memory
from asymsim.util.units import MIB

# Share of a GPU's memory that a serving engine takes; vLLM, CacheConfig.gpu_memory_utilization, default 0.9.
USABLE_SHARE = 0.9
# cuBLAS workspace on Hopper; PyTorch documentation, CUBLAS_WORKSPACE_CONFIG: 32 MiB.
WORKSPACE_BYTES = 32 * MIB


def weights_bytes(model: VlmModel, precision: Precision) -> int:
    """Bytes of parameters on each GPU, shared evenly by tensor parallelism."""
    total_bits: int = model.parameters["total"] * precision.weight_bits
    return -(-total_bits // (8 * precision.tp_size))


def kv_share(model: VlmModel, tp_size: int) -> float:
    """Share of the cache on each GPU: KV heads are divided among the GPUs, and copied where there are fewer."""
    heads = model.language_model.layer_kinds[0].kv_heads
    return -(-heads // tp_size) / heads


def free_memory_bytes(gpu: Gpu, weights: float, usable_share: float = USABLE_SHARE) -> float:
    """Memory of one GPU for cache and activations: its usable share less ``weights`` bytes and the workspace.

    Negative where the weights do not fit.
    """
    return usable_share * gpu.capacity_bytes - weights - WORKSPACE_BYTES


def memory(model: VlmModel, gpu: Gpu, precision: Precision, batch_size: int, tables: WeightedTables) -> Memory:
    """Peak memory of a batch on each GPU.

    Where the budget adapts to the sample, bytes are expectations, and ``fits`` and
    ``max_batch_size`` hold for the schedule that needs most.
    """
    share_on_gpu = kv_share(model, precision.tp_size)
    weights = weights_bytes(model, precision)
    kv, activations, worst = 0.0, 0.0, 0.0
    for share, table in tables:
        table_kv = float(table.totals[KV_PAGED_BYTES]) * share_on_gpu
        table_activations = float(table.totals[ACTIVATION_BYTES])
        kv += share * table_kv
        activations += share * table_activations
        worst = max(worst, table_kv + table_activations)
    free = free_memory_bytes(gpu, weights)
    kv_bytes, activation_bytes = round(kv), round(activations)
    return Memory(
        weights_bytes=weights,
        kv_cache_bytes=kv_bytes,
        activation_bytes=activation_bytes,
        peak_bytes=weights + kv_bytes + activation_bytes + WORKSPACE_BYTES,
        fits=worst <= free,
        # Cache and activations are proportional to the batch.
        max_batch_size=max(0, int(free // (worst / batch_size))),
    )
