"""A dense decoder on one GPU, its decode step and its prefill summed from operator times."""

from __future__ import annotations

from typing import Any, NamedTuple

import context_attention
import gemm
import generation_attention
import memory_bound
import operators
from machine import machine_of
from store import stored


class Shape(NamedTuple):
    """Layers and widths of a decoder; ``inner`` is the width of the MLP."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int


SHAPES = {
    "Llama-3.1-8B": Shape(32, 4096, 14336, 32, 8, 128, 128256),
    "Llama-3.1-70B": Shape(80, 8192, 28672, 64, 8, 128, 128256),
    "Qwen3-32B": Shape(64, 5120, 25600, 64, 8, 128, 151936),
}


class Network:
    """Weights in bf16 or fp8, lm_head always in bf16; ``plain`` takes the roofline in place of fitted times."""

    def __init__(self, gpu: str, shape: Shape, dtype: str, plain: bool = False) -> None:
        self.shape, self.plain = shape, plain
        self.operand_bytes = 1.0 if dtype == "fp8" else 2.0
        self.machine, self.machine_bf16 = machine_of(gpu, dtype), machine_of(gpu)
        self.gemm, self.gemm_bf16 = self._fitted(gpu, f"gemm_{dtype}"), self._fitted(gpu, "gemm_bf16")
        self.context = self._fitted(gpu, "context_attention")
        self.generation = self._fitted(gpu, "generation_attention")
        memory = stored(gpu, "memory")
        if memory is None:
            raise SystemExit(f"{gpu} has no fitted times of element-wise work")
        fields = memory_bound.MemoryEfficiency._fields
        self.memory = memory_bound.MemoryEfficiency(*(float(memory[name]) for name in fields))
        self.kind = context_attention.CAUSAL_CLASSES.index(shape.head_size)

    @staticmethod
    def _fitted(gpu: str, kind: str) -> Any:
        record = stored(gpu, kind)
        if record is None:
            raise SystemExit(f"{gpu} has no fitted times of {kind}")
        return operators.build(kind, gpu, operators.vector_of(kind, record))

    def product_s(self, m: float, n: float, k: float, operand_bytes: float) -> float:
        """Seconds of one matrix product."""
        same = operand_bytes == self.operand_bytes
        machine, fitted = (self.machine, self.gemm) if same else (self.machine_bf16, self.gemm_bf16)
        if self.plain:
            moved = operand_bytes * (m * k + n * k) + 2 * m * n
            return max(2.0 * m * n * k / machine.flops_per_s, moved / machine.bandwidth_bytes_per_s)
        return gemm.gemm_seconds(float(m), float(n), float(k), operand_bytes, machine, fitted)

    def stream_s(self, moved_bytes: float) -> float:
        """Seconds of element-wise work."""
        if self.plain:
            return moved_bytes / self.machine_bf16.bandwidth_bytes_per_s
        return memory_bound.memory_seconds(float(moved_bytes), self.machine_bf16, self.memory)

    def dense_s(self, tokens: float, logits: float) -> float:
        """Seconds of everything but attention: projections, MLP, norms, rotation, activation, lm_head."""
        s, e = self.shape, self.operand_bytes
        query, kv = s.heads * s.head_size, 2 * s.kv_heads * s.head_size
        layer = self.product_s(tokens, query + kv, s.hidden, e) + self.product_s(tokens, s.hidden, query, e)
        layer += self.product_s(tokens, 2 * s.inner, s.hidden, e) + self.product_s(tokens, s.hidden, s.inner, e)
        layer += 2 * self.stream_s(8.0 * tokens * s.hidden) + self.stream_s(4.0 * tokens * (query + kv / 2))
        layer += self.stream_s(6.0 * tokens * s.inner)
        return s.layers * layer + self.product_s(logits, s.vocabulary, s.hidden, 2.0)

    def decode_s(self, batch: float, context: float) -> float:
        """Seconds of one decode step."""
        s, machine = self.shape, self.machine_bf16
        widths = float(s.heads), float(s.kv_heads), float(s.head_size)
        if self.plain:
            attention = 4.0 * batch * context * s.kv_heads * s.head_size / machine.bandwidth_bytes_per_s
        else:
            attention = generation_attention.generation_attention_seconds(
                float(batch), float(context), *widths, self.kind, 0.0, machine, self.generation
            )
        return self.dense_s(batch, batch) + s.layers * attention

    def prefill_s(self, batch: float, tokens: float) -> float:
        """Seconds of a prefill without a cached prefix."""
        s, machine = self.shape, self.machine_bf16
        widths = float(s.heads), float(s.kv_heads), float(s.head_size)
        if self.plain:
            attention = 2.0 * batch * s.heads * tokens * tokens * s.head_size / machine.flops_per_s
        else:
            attention = context_attention.context_attention_seconds(
                float(batch), float(tokens), *widths, self.kind, machine, self.context
            )
        return self.dense_s(batch * tokens, batch) + s.layers * attention
