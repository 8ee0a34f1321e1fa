"""Times of many rows at once, by the simulator's own kernels; the columns of ``shapes`` are named in each."""

from __future__ import annotations

from asymsim.core.arrays import Array
from asymsim.core.jit import kernel
from asymsim.core.times.all_reduce import all_reduce_seconds
from asymsim.core.times.decode_attention import decode_attention_seconds
from asymsim.core.times.device import Device
from asymsim.core.times.elementwise import elementwise_seconds
from asymsim.core.times.encoder_attention import encoder_attention_seconds
from asymsim.core.times.gemm import gemm_seconds
from asymsim.core.times.prefill_attention import prefill_attention_seconds


@kernel
def gemm_times(shapes: Array, operand_bytes: float, machine: Device, numbers: Array, out: Array) -> None:
    """Products m, n, k of operands of ``operand_bytes`` an element."""
    for row in range(len(shapes)):
        m, n, k = shapes[row, 0], shapes[row, 1], shapes[row, 2]
        out[row] = gemm_seconds(m, n, k, 1.0, operand_bytes, operand_bytes, machine, numbers[0])


@kernel
def prefill_attention_times(shapes: Array, machine: Device, numbers: Array, out: Array) -> None:
    """Causal self-attention: sequences, tokens, heads, KV heads, head size, its class; 2-byte cache."""
    for row in range(len(shapes)):
        b, n, h = shapes[row, 0], shapes[row, 1], shapes[row, 2]
        kv, d, size = shapes[row, 3], shapes[row, 4], int(shapes[row, 5])
        met = 0.5 * (n + 1.0)
        out[row] = prefill_attention_seconds(b, n, n, met, h, kv, d, 4.0 * b * n * kv * d, size, machine, numbers[0])


@kernel
def decode_attention_times(shapes: Array, cached: float, machine: Device, numbers: Array, out: Array) -> None:
    """Decode steps: sequences, cached tokens, heads, KV heads, head size, its class; 2-byte cache."""
    for row in range(len(shapes)):
        b, n, h = shapes[row, 0], shapes[row, 1], shapes[row, 2]
        kv, d, size = shapes[row, 3], shapes[row, 4], int(shapes[row, 5])
        out[row] = decode_attention_seconds(b, n, h, kv, d, 4.0 * b * n * kv * d, size, cached, machine, numbers[0])


@kernel
def encoder_attention_times(shapes: Array, machine: Device, numbers: Array, out: Array) -> None:
    """Bidirectional attention: images, tokens, heads, head size, its class."""
    for row in range(len(shapes)):
        b, n, h, d = shapes[row, 0], shapes[row, 1], shapes[row, 2], shapes[row, 3]
        out[row] = encoder_attention_seconds(b, n, n, h, d, int(shapes[row, 4]), machine, numbers[0])


@kernel
def elementwise_times(shapes: Array, bandwidth_bytes_per_s: float, numbers: Array, out: Array) -> None:
    """Element-wise kernels: bytes read and written."""
    for row in range(len(shapes)):
        out[row] = elementwise_seconds(shapes[row, 0], bandwidth_bytes_per_s, numbers[0])


@kernel
def all_reduce_times(shapes: Array, link_bytes_per_s: float, numbers: Array, out: Array) -> None:
    """All-reduces: bytes of the message, GPUs."""
    for row in range(len(shapes)):
        out[row] = all_reduce_seconds(shapes[row, 0], shapes[row, 1], link_bytes_per_s, numbers[0])


@kernel
def expert_times(shapes: Array, machine: Device, products: Array, memory: Array, out: Array) -> None:
    """Gated experts: tokens an expert, experts, hidden size, width, bytes of the gate; the mean of the two products."""
    for row in range(len(shapes)):
        each, experts, hidden, width = shapes[row, 0], shapes[row, 1], shapes[row, 2], shapes[row, 3]
        up_s = gemm_seconds(each, 2.0 * width, hidden, experts, 2.0, 2.0, machine, products[0])
        down_s = gemm_seconds(each, hidden, width, experts, 2.0, 2.0, machine, products[0])
        gate_s = elementwise_seconds(shapes[row, 4], machine.bandwidth_bytes_per_s, memory[0])
        out[row] = 0.5 * (up_s + down_s + gate_s)
