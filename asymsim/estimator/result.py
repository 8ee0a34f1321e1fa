"""Result document of an estimate: its keys, which users rely on, with their units, and its exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from asymsim.util.strict import strict_dataclass


@strict_dataclass
class WorkloadCounts:
    """Tokens of one request, and the batch."""

    num_images: int
    visual_tokens: int
    text_tokens: int
    prompt_tokens: int
    output_tokens: int
    batch_size: int


@strict_dataclass
class ScheduleCounts:
    """Tokens that enter each language-model layer, and entries that it caches.

    Lists have one entry a layer. Numbers are whole; where the budget adapts to the sample they are means over samples.
    """

    method: str
    settings: dict[str, Any]
    masking: bool
    mean_visual_tokens: float
    visual_tokens_by_layer: list[int] | list[float]
    text_tokens_by_layer: list[int] | list[float]
    kv_tokens_by_layer: list[int] | list[float]
    final_kv_tokens_by_layer: list[int] | list[float]


@strict_dataclass
class Parameters:
    """Numbers of parameters; the language model is its layers and norms, a tied head counts 0."""

    vision_tower: int
    projector: int
    embeddings: int
    language_model: int
    lm_head: int
    total: int


@strict_dataclass
class Flops:
    """FLOPs of the whole batch, under the result's convention.

    ``selection`` is all work that the method adds, in decoding too. ``decode`` is all output tokens after the first.
    ``decode_step_first`` is the first decode step alone, also where a single output token needs none.
    """

    vision_tower: int
    projector: int
    selection: int
    prefill: int
    decode: int
    decode_step_first: int
    total: int


@strict_dataclass
class KvCache:
    """Cache bytes of the whole batch over all GPUs, before rounding to blocks; ``bytes_per_token`` over all layers."""

    bytes_per_token: int
    prefill_bytes: int
    peak_bytes: int


@strict_dataclass
class Memory:
    """Bytes on each GPU; the cache is rounded up to blocks. ``max_batch_size`` is the largest that fits."""

    weights_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    peak_bytes: int
    fits: bool
    max_batch_size: int


@strict_dataclass
class Seconds:
    """A predicted time with its 90 % interval and its source.

    ``fitted``: by parameters fitted on measurements of this GPU. ``measured``: on the user's measurements.
    ``transferred``: any part of the time is by parameters of another GPU, number format or kernel. ``roofline``: the
    hardware's bound, without an interval, because no measurement stands behind it. A time that is not defined, such
    as TPOT with a single output token, is None.
    """

    p05: float | None
    p50: float | None
    p95: float | None
    source: str


@strict_dataclass
class Latency:
    """TTFT = vision + selection + prefill; TPOT = (end to end - TTFT) / (output tokens - 1)."""

    vision_s: Seconds
    selection_s: Seconds
    prefill_s: Seconds
    ttft_s: Seconds
    tpot_s: Seconds
    e2e_s: Seconds


@strict_dataclass
class Savings:
    """Fractions saved against the same scenario unpruned; negative where pruning loses.

    Fractions of time are at the medians; their intervals stand in ``savings_interval``.
    """

    flops: float
    prefill_flops: float
    kv_bytes: float
    peak_bytes: float
    ttft: float
    tpot: float | None
    e2e: float


@strict_dataclass
class Interval:
    """A 90 % interval; None where a roofline stands in for a fitted time, or the figure is not defined."""

    p05: float | None
    p95: float | None


@strict_dataclass
class SavingsInterval:
    """Intervals of the fractions of time saved; errors of operators that pruning leaves as they were cancel."""

    ttft: Interval
    tpot: Interval
    e2e: Interval


@strict_dataclass
class Estimate:
    """Costs of one scenario, end to end. FLOPs and cache bytes are for the whole batch."""

    model: str
    gpu: str
    convention: str
    workload: WorkloadCounts
    schedule: ScheduleCounts
    parameters: Parameters
    flops: Flops
    kv_cache: KvCache
    memory: Memory
    latency: Latency
    savings: Savings
    savings_interval: SavingsInterval
    operators: list[dict[str, Any]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The result document, ready for JSON; ``operators`` only where asked for."""
        document = dataclasses.asdict(self)
        if self.operators is None:
            del document["operators"]
        return document


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The document on one level, keys joined by dots, for a row of CSV; lists and operators are left out."""
    row: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            row.update(flatten(value, f"{prefix}{key}."))
        elif not isinstance(value, list):
            row[f"{prefix}{key}"] = value
    return row
