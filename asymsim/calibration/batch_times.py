"""Times of many rows at once, by the kernels that estimates use; each function names the columns of its ``shapes``."""

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
def gemm_times(shapes: Array, operand_bytes: float, device: Device, parameters: Array, out: Array) -> None:
    """Products m, n, k of operands of ``operand_bytes`` an element."""
    for row in range(len(shapes)):
        m, n, k = shapes[row, 0], shapes[row, 1], shapes[row, 2]
        out[row] = gemm_seconds(m, n, k, 1.0, operand_bytes, operand_bytes, device, parameters[0])


@kernel
def prefill_attention_times(shapes: Array, device: Device, parameters: Array, out: Array) -> None:
    """Causal self-attention: sequences, tokens, heads, KV heads, head size, its class; 2-byte cache."""
    for row in range(len(shapes)):
        b, n, h = shapes[row, 0], shapes[row, 1], shapes[row, 2]
        kv, d, size = shapes[row, 3], shapes[row, 4], int(shapes[row, 5])
        mean_keys = 0.5 * (n + 1.0)
        out[row] = prefill_attention_seconds(
            b, n, n, mean_keys, h, kv, d, 4.0 * b * n * kv * d, size, device, parameters[0]
        )


@kernel
def decode_attention_times(shapes: Array, cached: float, device: Device, parameters: Array, out: Array) -> None:
    """Decode steps: sequences, cached tokens, heads, KV heads, head size, its class; 2-byte cache."""
    for row in range(len(shapes)):
        b, n, h = shapes[row, 0], shapes[row, 1], shapes[row, 2]
        kv, d, size = shapes[row, 3], shapes[row, 4], int(shapes[row, 5])
        out[row] = decode_attention_seconds(b, n, h, kv, d, 4.0 * b * n * kv * d, size, cached, device, parameters[0])


@kernel
def encoder_attention_times(shapes: Array, device: Device, parameters: Array, out: Array) -> None:
    """Bidirectional attention: images, tokens, heads, head size, its class."""
    for row in range(len(shapes)):
        b, n, h, d = shapes[row, 0], shapes[row, 1], shapes[row, 2], shapes[row, 3]
        out[row] = encoder_attention_seconds(b, n, n, h, d, int(shapes[row, 4]), device, parameters[0])


@kernel
def elementwise_times(shapes: Array, bandwidth_bytes_per_s: float, parameters: Array, out: Array) -> None:
    """Element-wise kernels: bytes read and written."""
    for row in range(len(shapes)):
        out[row] = elementwise_seconds(shapes[row, 0], bandwidth_bytes_per_s, parameters[0])


@kernel
def all_reduce_times(shapes: Array, link_bytes_per_s: float, parameters: Array, out: Array) -> None:
    """All-reduces: bytes of the message, GPUs."""
    for row in range(len(shapes)):
        out[row] = all_reduce_seconds(shapes[row, 0], shapes[row, 1], link_bytes_per_s, parameters[0])


@kernel
def expert_times(
    shapes: Array, device: Device, gemm_parameters: Array, elementwise_parameters: Array, out: Array
) -> None:
    """Gated experts: tokens an expert, touched experts, hidden size, width, gate bytes; mean of the two products."""
    for row in range(len(shapes)):
        tokens_per_expert, experts, hidden, width = shapes[row, 0], shapes[row, 1], shapes[row, 2], shapes[row, 3]
        up_s = gemm_seconds(tokens_per_expert, 2.0 * width, hidden, experts, 2.0, 2.0, device, gemm_parameters[0])
        down_s = gemm_seconds(tokens_per_expert, hidden, width, experts, 2.0, 2.0, device, gemm_parameters[0])
        gate_s = elementwise_seconds(shapes[row, 4], device.bandwidth_bytes_per_s, elementwise_parameters[0])
        out[row] = 0.5 * (up_s + down_s + gate_s)
