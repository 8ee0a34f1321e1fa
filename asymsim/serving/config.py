"""How a fleet serves: the limits of one engine, and how many of them stand behind which router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass
from asymsim.util.units import GIB

if TYPE_CHECKING:
    # Its numbers need numpy, and the command line's flags must not wait for that.
    from asymsim.catalogue.gpu import Gpu


@strict_dataclass
class EngineConfig:
    """Limits of one replica's engine, by vLLM's names and with its defaults.

    Attributes
    ----------
    max_num_seqs : int, optional
        Requests that run at once; by default as a vLLM server has it on the GPU (`batch_on`).
    max_num_batched_tokens : int, optional
        Tokens of one step, decoding and prefill together; by default as a vLLM server has it on the GPU.
    chunked_prefill : bool
        Whether a prompt may be spread over steps. Prompts of methods that prune inside the language model never are:
        what a layer drops depends on the whole prompt.
    gpu_memory_utilization : float
        Share of the device that weights, activations and cache may take (CacheConfig, default 0.9).
    max_model_len : int, optional
        Longest prompt and output together; the model's own by default.
    encoder_budget_tokens : int, optional
        Visual tokens that one step may encode; ``max_num_batched_tokens`` by default, as in vLLM.
    encoder_cache_tokens : int, optional
        Visual tokens that wait for their prefill or for a request with the same image; as the budget by default.
    prefix_share : float
        Share of each prompt that the prefix cache already holds, in [0, 1), as if it were text before the images: its
        prefill is saved, its memory is not, nor any encoding.
    kv_cache_bytes : int, optional
        Cache of one replica, all its GPUs together, instead of what memory leaves.
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
        highest = {"max_num_seqs": 10**5, "max_num_batched_tokens": 10**7}
        for field in (*highest, "max_model_len", "encoder_budget_tokens", "encoder_cache_tokens", "kv_cache_bytes"):
            if getattr(self, field) is not None:
                _whole(field, getattr(self, field), 1, highest.get(field, 2**60))
        if self.max_num_seqs and self.max_num_batched_tokens and self.max_num_seqs > self.max_num_batched_tokens:
            remedy = f"give {self.max_num_seqs} or more: each request that decodes takes one"
            raise InputError("max_num_batched_tokens", self.max_num_batched_tokens, remedy)
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise InputError("gpu_memory_utilization", self.gpu_memory_utilization, "give a share above 0, up to 1")
        if not 0.0 <= self.prefix_share < 1.0:
            raise InputError("prefix_share", self.prefix_share, "give a share from 0 to below 1")

    def batch_on(self, gpu: Gpu) -> tuple[int, int]:
        """Most tokens and requests of a step, by default vLLM's (``EngineArgs.get_batch_defaults``, API server)."""
        large = gpu.capacity_bytes >= 70 * GIB and "a100" not in gpu.name
        tokens = self.max_num_batched_tokens or max(8192 if large else 2048, self.max_num_seqs or 0)
        return tokens, self.max_num_seqs or min(1024 if large else 256, tokens)


@strict_dataclass
class ClusterConfig:
    """Replicas behind a router; each takes ``tp_size`` GPUs.

    Attributes
    ----------
    replicas : int
        Engines that do all of a request's work; 0 where pools share it.
    encoder_replicas, prefill_replicas, decode_replicas : int
        Pools of a disaggregated fleet. Without an encoder pool the prefill pool encodes.
    router : {"round_robin", "least_loaded"}
        Least loaded: the fewest requests, those that wait counted four times as vLLM does; the first of equals.
    transfer_bytes_per_s, transfer_latency_s : float
        Between pools, for embeddings and caches, one after the other from each replica; 50 GB/s is a 400 Gb/s link
        (NVIDIA ConnectX-7 datasheet).
    concurrency : int
        Requests in flight at most, as with ``--max-concurrency`` of ``vllm bench serve``; the others are not yet
        sent, and arrive when one is done. 0: no limit.
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
            _whole(field, getattr(self, field), 0, 10**5)
        _whole("concurrency", self.concurrency, 0, 10**9)
        pools = self.prefill_replicas, self.decode_replicas
        if self.replicas and (any(pools) or self.encoder_replicas):
            raise InputError("replicas", self.replicas, "give 0 where the fleet has pools of its own for each phase")
        if not self.replicas and not all(pools):
            raise InputError("prefill_replicas, decode_replicas", pools, "give both, or whole replicas instead")
        if not self.transfer_bytes_per_s > 0.0:
            raise InputError("transfer_bytes_per_s", self.transfer_bytes_per_s, "give bytes a second above 0")
        if not 0.0 <= self.transfer_latency_s < 3600.0:
            raise InputError("transfer_latency_s", self.transfer_latency_s, "give seconds from 0")

    @property
    def engines(self) -> int:
        """All replicas of all pools."""
        return self.replicas + self.encoder_replicas + self.prefill_replicas + self.decode_replicas


def _whole(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise InputError(field, value, f"give a whole number from {lowest} to {highest}")
