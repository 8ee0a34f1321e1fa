"""Configuration of a fleet: limits of each engine, number of replicas, router and links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass
from asymsim.util.units import GIB

if TYPE_CHECKING:
    # Imports numpy, for which the command line's flags must not wait.
    from asymsim.catalogue.gpu import Gpu


@strict_dataclass
class EngineConfig:
    """Limits of one replica's engine, with vLLM's names and defaults.

    Attributes
    ----------
    max_num_seqs : int, optional
        Requests that run at once; by default as in a vLLM server on the GPU (`batch_on`).
    max_num_batched_tokens : int, optional
        Tokens of one engine step, decode and prefill together; by default as in a vLLM server on the GPU.
    chunked_prefill : bool
        Whether a prompt may be prefilled in several engine steps. Methods that prune inside the language model never
        split a prompt, since the tokens that a layer drops depend on the whole prompt.
    gpu_memory_utilization : float
        Share of a GPU's memory for weights, activations and KV cache (CacheConfig, default 0.9).
    max_model_len : int, optional
        Longest prompt and output together; the model's own by default.
    encoder_budget_tokens : int, optional
        Visual tokens that one engine step may encode; ``max_num_batched_tokens`` by default, as in vLLM.
    encoder_cache_tokens : int, optional
        Visual tokens held for their prefill or for a request with the same image; as the budget by default.
    prefix_share : float
        Share of each prompt found in the prefix cache, in [0, 1), as if it were text before the images. It saves
        prefill, but neither memory nor encoding.
    kv_cache_bytes : int, optional
        KV cache of one replica, all its GPUs together, instead of the memory that is left.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    chunked_prefill: bool = True
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    encoder_budget_tokens: int | None = None
    encoder_cache_tokens: int | None = None
    prefix_share: float = 0.0
    kv_cache_bytes: int | None = None

    def __post_init__(self) -> None:
        maximum = {"max_num_seqs": 10**5, "max_num_batched_tokens": 10**7}
        for field in (*maximum, "max_model_len", "encoder_budget_tokens", "encoder_cache_tokens", "kv_cache_bytes"):
            if getattr(self, field) is not None:
                _check_whole(field, getattr(self, field), 1, maximum.get(field, 2**60))
        if self.max_num_seqs and self.max_num_batched_tokens and self.max_num_seqs > self.max_num_batched_tokens:
            remedy = f"give {self.max_num_seqs} or more: each request that decodes takes one"
            raise InputError("max_num_batched_tokens", self.max_num_batched_tokens, remedy)
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise InputError("gpu_memory_utilization", self.gpu_memory_utilization, "give a share above 0, up to 1")
        if not 0.0 <= self.prefix_share < 1.0:
            raise InputError("prefix_share", self.prefix_share, "give a share from 0 to below 1")

    def batch_on(self, gpu: Gpu) -> tuple[int, int]:
        """Most tokens and requests of an engine step, after vLLM (``EngineArgs.get_batch_defaults``, API server)."""
        large_gpu = gpu.capacity_bytes >= 70 * GIB and "a100" not in gpu.name
        max_tokens = self.max_num_batched_tokens or max(8192 if large_gpu else 2048, self.max_num_seqs or 0)
        return max_tokens, self.max_num_seqs or min(1024 if large_gpu else 256, max_tokens)


@strict_dataclass
class ClusterConfig:
    """Replicas behind a router, of ``tp_size`` GPUs each.

    Attributes
    ----------
    replicas : int
        Engines that encode, prefill and decode; 0 in a disaggregated fleet.
    encoder_replicas, prefill_replicas, decode_replicas : int
        Pools of a disaggregated fleet. Without an encoder pool the prefill pool encodes.
    router : {"round_robin", "least_loaded"}
        Least loaded: the replica with the fewest requests, waiting ones counted four times as in vLLM; the first of
        equals.
    transfer_bytes_per_s, transfer_latency_s : float
        Bandwidth and latency of the link between pools, over which each replica sends embeddings and KV caches one
        after the other; 50 GB/s is a 400 Gb/s link (NVIDIA ConnectX-7 datasheet).
    concurrency : int
        Most requests in flight, as with ``--max-concurrency`` of ``vllm bench serve``; each further request is sent
        when another completes. 0: no limit.
    """

    replicas: int = 1
    encoder_replicas: int = 0
    prefill_replicas: int = 0
    decode_replicas: int = 0
    router: Literal["round_robin", "least_loaded"] = "least_loaded"
    transfer_bytes_per_s: float = 50e9
    transfer_latency_s: float = 0.0
    concurrency: int = 0

    def __post_init__(self) -> None:
        for field in ("replicas", "encoder_replicas", "prefill_replicas", "decode_replicas"):
            _check_whole(field, getattr(self, field), 0, 10**5)
        _check_whole("concurrency", self.concurrency, 0, 10**9)
        pools = self.prefill_replicas, self.decode_replicas
        if self.replicas and (any(pools) or self.encoder_replicas):
            raise InputError("replicas", self.replicas, "give 0 in a fleet with separate pools for each phase")
        if not self.replicas and not all(pools):
            raise InputError("prefill_replicas, decode_replicas", pools, "give both, or replicas instead")
        if not self.transfer_bytes_per_s > 0.0:
            raise InputError("transfer_bytes_per_s", self.transfer_bytes_per_s, "give bytes a second above 0")
        if not 0.0 <= self.transfer_latency_s < 3600.0:
            raise InputError("transfer_latency_s", self.transfer_latency_s, "give seconds from 0")

    @property
    def engines(self) -> int:
        """Number of replicas in all pools."""
        return self.replicas + self.encoder_replicas + self.prefill_replicas + self.decode_replicas


def _check_whole(field: str, value: int, minimum: int, maximum: int) -> None:
    if not minimum <= value <= maximum:
        raise InputError(field, value, f"give a whole number from {minimum} to {maximum}")
