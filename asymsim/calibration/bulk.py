"""Times of many rows at once, by the simulator's own kernels."""

from __future__ import annotations

from asymsim.core.context_time import context_attention_seconds
from asymsim.core.encoder_time import encoder_attention_seconds
from asymsim.core.gemm_time import gemm_seconds
from asymsim.core.generation_time import generation_attention_seconds
from asymsim.core.jit import kernel
from asymsim.core.layout import Array
from asymsim.core.machine import Machine
from asymsim.core.small_times import all_reduce_seconds, memory_seconds


@kernel
def gemm_many(m: Array, n: Array, k: Array, operand_bytes: float, machine: Machine, numbers: Array, out: Array) -> None:
    """Products of operands of ``operand_bytes`` an element."""
    for row in range(len(m)):
        out[row] = gemm_seconds(m[row], n[row], k[row], 1.0, operand_bytes, operand_bytes, machine, numbers[0])


@kernel
def context_many(
    b: Array, n: Array, h: Array, kv: Array, d: Array, size: Array, machine: Machine, numbers: Array, out: Array
) -> None:
    """Causal self-attention of ``b`` sequences of ``n`` tokens, 2-byte cache."""
    for row in range(len(b)):
        kv_bytes = 4.0 * b[row] * n[row] * kv[row] * d[row]
        met = 0.5 * (n[row] + 1.0)
        out[row] = context_attention_seconds(
            b[row], n[row], n[row], met, h[row], kv[row], d[row], kv_bytes, int(size[row]), machine, numbers[0]
        )


@kernel
def generation_many(
    b: Array, n: Array, h: Array, kv: Array, d: Array, size: Array, machine: Machine, numbers: Array, out: Array
) -> None:
    """Decode steps over ``n`` cached tokens, which the measuring loop leaves in L2 as far as they fit."""
    for row in range(len(b)):
        kv_bytes = 4.0 * b[row] * n[row] * kv[row] * d[row]
        out[row] = generation_attention_seconds(
            b[row], n[row], h[row], kv[row], d[row], kv_bytes, int(size[row]), 1.0, machine, numbers[0]
        )


@kernel
def encoder_many(
    b: Array, n: Array, h: Array, d: Array, size: Array, machine: Machine, numbers: Array, out: Array
) -> None:
    """Bidirectional attention of ``b`` images of ``n`` tokens."""
    for row in range(len(b)):
        out[row] = encoder_attention_seconds(
            b[row], n[row], n[row], h[row], d[row], int(size[row]), machine, numbers[0]
        )


@kernel
def memory_many(moved_bytes: Array, bandwidth_bytes_per_s: float, numbers: Array, out: Array) -> None:
    """Element-wise kernels."""
    for row in range(len(moved_bytes)):
        out[row] = memory_seconds(moved_bytes[row], bandwidth_bytes_per_s, numbers[0])


@kernel
def all_reduce_many(
    message_bytes: Array, gpus: Array, link_bytes_per_s: float, numbers: Array, out: Array
) -> None:
    """All-reduces."""
    for row in range(len(gpus)):
        out[row] = all_reduce_seconds(message_bytes[row], gpus[row], link_bytes_per_s, numbers[0])


@kernel
def experts_many(
    each: Array,
    touched: Array,
    hidden: Array,
    width: Array,
    moved_bytes: Array,
    machine: Machine,
    products: Array,
    memory: Array,
    out: Array,
) -> None:
    """Gated experts side by side: up, gate, activation and down, ``each`` tokens to each of ``touched`` experts."""
    for row in range(len(each)):
        up_s = gemm_seconds(
            each[row], 2.0 * width[row], hidden[row], touched[row], 2.0, 2.0, machine, products[0]
        )
        down_s = gemm_seconds(each[row], hidden[row], width[row], touched[row], 2.0, 2.0, machine, products[0])
        out[row] = up_s + down_s + memory_seconds(moved_bytes[row], machine.bandwidth_bytes_per_s, memory[0])
