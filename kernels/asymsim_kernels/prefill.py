"""Prefill attention over pruned, packed sequences of unequal lengths.

    O[t, h] = sum_n softmax_n(scale q[t, h] . k[n, h // group]) v[n, h // group],   first[t] <= n < last[t]

The tokens that pruning left are packed without padding, and each sees the keys that `layout` found from original
positions. The online softmax is that of FlashAttention-2 (Dao, arXiv 2307.08691, algorithm 1), in base 2.

Suffixes: T packed query tokens, S packed keys, H query heads, G KV heads, D head size, B sequences; in the kernel M and
N are the rows of a query and a key tile, and D is padded to a power of two.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.layout import PackedLayout
from asymsim_kernels.tiles import (
    DTYPE_NAMES,
    ELEMENT_BYTES,
    LOG2_E,
    Blocks,
    Build,
    TileCost,
    architecture,
    ceil_div,
    padded_size,
    stride_unit,
)

HEAD_SIZES = (64, 72, 80, 96, 128)


@triton.jit
def _attend_tiles(
    acc_MD, max_M, sum_M, q_MD, k_ptr, v_ptr, begin, end, high, first_M, last_M,
    step_k, stride_kd, step_v, stride_vd, qk_scale,
    HEAD_SIZE: tl.constexpr, BLOCK_N: tl.constexpr, MASKED: tl.constexpr, WINDOWED: tl.constexpr,
):  # fmt: skip
    """Take the key tiles from `begin` to `end` into the running softmax; without MASKED all rows see all of them."""
    d_D = tl.arange(0, q_MD.shape[1])
    column_ND = (d_D < HEAD_SIZE)[None, :]
    # One offset a tile is all that the loop then adds to these.
    k_ND_ptr = k_ptr + tl.arange(0, BLOCK_N)[:, None] * step_k + d_D[None, :] * stride_kd
    v_ND_ptr = v_ptr + tl.arange(0, BLOCK_N)[:, None] * step_v + d_D[None, :] * stride_vd
    for n0 in range(begin, end, BLOCK_N):
        n_N = n0 + tl.arange(0, BLOCK_N)
        inside_ND = column_ND
        if MASKED:
            inside_ND = column_ND & (n_N < high)[:, None]
        k_ND = tl.load(k_ND_ptr + n0 * step_k, mask=inside_ND, other=0.0)
        s_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee")
        if MASKED:
            sees_MN = n_N[None, :] < last_M[:, None]
            if WINDOWED:
                sees_MN = sees_MN & (n_N[None, :] >= first_M[:, None])
            s_MN = tl.where(sees_MN, s_MN, float("-inf"))
        new_max_M = tl.maximum(max_M, tl.max(s_MN, 1) * qk_scale)
        shift_M = new_max_M
        if MASKED:
            # A row that has seen no key yet has a maximum of -inf, and -inf - -inf is NaN.
            shift_M = tl.where(new_max_M == float("-inf"), 0.0, new_max_M)
        p_MN = tl.exp2(s_MN * qk_scale - shift_M[:, None])
        shrink_M = tl.exp2(max_M - shift_M)
        v_ND = tl.load(v_ND_ptr + n0 * step_v, mask=inside_ND, other=0.0)
        acc_MD = tl.dot(p_MN.to(v_ND.dtype), v_ND, acc_MD * shrink_M[:, None], input_precision="ieee")
        sum_M = sum_M * shrink_M + tl.sum(p_MN, 1)
        max_M = new_max_M
    return acc_MD, max_M, sum_M


@triton.jit
def _prefill_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr, cu_q_ptr, cu_k_ptr, first_ptr, last_ptr, qk_scale,
    stride_qt, stride_qh, stride_qd, stride_ks, stride_kg, stride_kd, stride_vs, stride_vg, stride_vd,
    stride_ot, stride_oh, stride_od, stride_lh,
    GROUP: tl.constexpr, HEAD_SIZE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOWED: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    # Causal tiles grow towards the end of a sequence: the longest start first.
    m0 = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_M
    head = tl.program_id(1)
    sequence = tl.program_id(2)
    q_start = tl.load(cu_q_ptr + sequence)
    q_length = tl.load(cu_q_ptr + sequence + 1) - q_start
    if m0 >= q_length:
        return
    k_start = tl.load(cu_k_ptr + sequence)
    m_M = m0 + tl.arange(0, BLOCK_M)
    row_M = m_M < q_length
    t_M = q_start + m_M
    last_M = tl.load(last_ptr + t_M, mask=row_M, other=0)
    first_M = tl.zeros_like(last_M)
    high = tl.max(last_M, 0)
    if WINDOWED:
        first_M = tl.load(first_ptr + t_M, mask=row_M, other=0)

    # Tokens times strides pass 2^31 in long batches, so every offset but that within a head is int64. UNIT divides
    # the strides: a head size of 72 would otherwise be loaded element by element, since Triton looks for 16.
    d_D = tl.arange(0, PADDED)
    column_D = d_D < HEAD_SIZE
    t64_M = t_M.to(tl.int64)
    q_at = q_ptr + head * tl.multiple_of(tl.cast(stride_qh, tl.int64), UNIT)
    step_q = tl.multiple_of(tl.cast(stride_qt, tl.int64), UNIT)
    q_MD = tl.load(
        q_at + t64_M[:, None] * step_q + d_D[None, :] * stride_qd,
        mask=row_M[:, None] & column_D[None, :], other=0.0,
    )  # fmt: skip
    step_k = tl.multiple_of(tl.cast(stride_ks, tl.int64), UNIT)
    step_v = tl.multiple_of(tl.cast(stride_vs, tl.int64), UNIT)
    k_at = k_ptr + k_start * step_k + (head // GROUP) * tl.multiple_of(tl.cast(stride_kg, tl.int64), UNIT)
    v_at = v_ptr + k_start * step_v + (head // GROUP) * tl.multiple_of(tl.cast(stride_vg, tl.int64), UNIT)

    acc_MD = tl.zeros([BLOCK_M, PADDED], dtype=tl.float32)
    max_M = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    sum_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    if WINDOWED:
        low = tl.min(tl.where(row_M, first_M, high), 0) // BLOCK_N * BLOCK_N
        acc_MD, max_M, sum_M = _attend_tiles(
            acc_MD, max_M, sum_M, q_MD, k_at, v_at, low, high, high, first_M, last_M,
            step_k, stride_kd, step_v, stride_vd, qk_scale, HEAD_SIZE, BLOCK_N, True, True,
        )  # fmt: skip
    else:
        # Tiles that every row sees whole need no mask; only the diagonal ones do.
        whole = tl.min(tl.where(row_M, last_M, high), 0) // BLOCK_N * BLOCK_N
        acc_MD, max_M, sum_M = _attend_tiles(
            acc_MD, max_M, sum_M, q_MD, k_at, v_at, 0, whole, high, first_M, last_M,
            step_k, stride_kd, step_v, stride_vd, qk_scale, HEAD_SIZE, BLOCK_N, False, False,
        )  # fmt: skip
        acc_MD, max_M, sum_M = _attend_tiles(
            acc_MD, max_M, sum_M, q_MD, k_at, v_at, whole, high, high, first_M, last_M,
            step_k, stride_kd, step_v, stride_vd, qk_scale, HEAD_SIZE, BLOCK_N, True, False,
        )  # fmt: skip

    some_M = sum_M > 0
    safe_M = tl.where(some_M, sum_M, 1.0)
    o_MD = acc_MD / safe_M[:, None]
    o_at = o_ptr + head * tl.multiple_of(tl.cast(stride_oh, tl.int64), UNIT)
    step_o = tl.multiple_of(tl.cast(stride_ot, tl.int64), UNIT)
    tl.store(
        o_at + t64_M[:, None] * step_o + d_D[None, :] * stride_od,
        o_MD.to(o_ptr.dtype.element_ty), mask=row_M[:, None] & column_D[None, :],
    )  # fmt: skip
    lse_M = tl.where(some_M, (max_M + tl.log2(safe_M)) * 0.6931471805599453, float("-inf"))
    tl.store(lse_ptr + head * tl.cast(stride_lh, tl.int64) + t64_M, lse_M, mask=row_M)


def default_blocks(head_size: int, dtype: str, arch: str) -> Blocks:
    """Block sizes and scheduling that ship for a head size, an element type and one of `tiles.ARCHITECTURES`."""
    wide = padded_size(head_size) > 64
    if dtype == "fp32":
        # Products at full precision run on ordinary FMA units, whose unrolled code soon spills.
        if arch == "sm_80":
            return Blocks(32, 32, 8, 2)
        if arch == "gfx942":
            return Blocks(32, 32, 4, 1)
        return Blocks(32, 32, 16 if wide else 8, 1)
    if arch == "gfx942":
        return Blocks(128, 64, 8, 1) if wide else Blocks(128, 64, 4, 1)
    if arch == "sm_80":
        return Blocks(128, 32, 8, 3) if wide else Blocks(128, 64, 8, 2)
    return Blocks(128, 64, 8, 3) if wide else Blocks(128, 64, 4, 3)


def prefill_attention(
    q_THD: torch.Tensor,
    k_SGD: torch.Tensor,
    v_SGD: torch.Tensor,
    layout: PackedLayout,
    *,
    scale: float | None = None,
    blocks: Blocks | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of every packed query over the keys that it sees.

    Parameters
    ----------
    q_THD, k_SGD, v_SGD : Tensor
        Packed tokens x heads x head size, fp16, bf16 or fp32, with any strides.
    layout : PackedLayout
        Lengths and visible keys, from `layout.pack_layout`; the same for all heads and layers of a pruned batch.
    scale : float, optional
        Factor of the scores, 1/sqrt(head size) by default.
    blocks : Blocks, optional
        Rows and keys of a tile, powers of two of at least 16; `default_blocks` otherwise.

    Returns
    -------
    o_THD : Tensor
        Outputs, in the type of `q_THD`; 0 for a query that sees no key.
    lse_HT : Tensor
        Natural logarithm of the softmax's denominator, fp32; -inf for a query that sees no key.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit.
    """
    group = check_packed(q_THD, k_SGD, layout, v_SGD=v_SGD)
    tokens, heads, size = q_THD.shape
    blocks = blocks or default_blocks(size, DTYPE_NAMES[q_THD.dtype], architecture(q_THD.device))
    checks.tile_extents(**{"blocks.m": blocks.m, "blocks.n": blocks.n})
    o_THD = torch.empty((tokens, heads, size), dtype=q_THD.dtype, device=q_THD.device)
    lse_HT = torch.empty((heads, tokens), dtype=torch.float32, device=q_THD.device)
    if tokens == 0:
        return o_THD, lse_HT
    grid = (ceil_div(layout.max_q, blocks.m), heads, layout.batch_size)
    _prefill_kernel[grid](
        q_THD, k_SGD, v_SGD, o_THD, lse_HT, layout.cu_q, layout.cu_k, layout.first, layout.last,
        checks.softmax_scale(scale, size) * LOG2_E,
        *q_THD.stride(), *k_SGD.stride(), *v_SGD.stride(), *o_THD.stride(), lse_HT.stride(0),
        GROUP=group, HEAD_SIZE=size, PADDED=padded_size(size), BLOCK_M=blocks.m, BLOCK_N=blocks.n,
        WINDOWED=layout.windowed, UNIT=stride_unit(q_THD, k_SGD, v_SGD, o_THD),
        num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return o_THD, lse_HT


def check_packed(q_THD: torch.Tensor, k_SGD: torch.Tensor, layout: PackedLayout, **values: torch.Tensor) -> int:
    """Check packed queries, keys and further tensors of the keys' shape against a layout; query heads a KV head."""
    checks.same_dtype(q_THD=q_THD, k_SGD=k_SGD, **values)
    checks.same_device(q_THD=q_THD, k_SGD=k_SGD, **values, **{"layout.cu_q": layout.cu_q})
    queries, keys = layout.tokens
    checks.shape("q_THD", q_THD, (queries, None, None), "query tokens of the layout, heads, head size")
    size = q_THD.shape[2]
    checks.head_size(size)
    checks.shape("k_SGD", k_SGD, (keys, None, size), "keys of the layout, KV heads, head size")
    for name, tensor in values.items():
        checks.shape(name, tensor, tuple(k_SGD.shape), "as k_SGD")
    checks.below_int32("packed tokens x query heads", max(queries, keys) * q_THD.shape[1])
    return checks.head_groups(q_THD.shape[1], k_SGD.shape[1])


def cost(layout: PackedLayout, heads: int, head_size: int, dtype: str, blocks: Blocks) -> TileCost:
    """What `prefill_attention` executes, in closed form.

    A query tile of sequence b whose rows see keys ``low <= n < high`` takes t = ceil(high/BN) - floor(low/BN) tiles of
    4 BM BN D FLOPs (D padded), loads its rows of q and ``high - floor(low/BN) BN`` keys and values, and stores its rows
    of the output and LSE. Dense and causal over equal lengths, high = min(N, (i + 1) BM + N - M) in tile i.
    Grouped KV heads save none of these loads, only the memory behind the L2.
    """
    element = ELEMENT_BYTES[dtype]
    first, last = layout.first.cpu().numpy(), layout.last.cpu().numpy()
    tiles_in_grid = ceil_div(layout.max_q, blocks.m)
    tiles = loads = stores = start = 0
    for length in layout.q_lengths:
        active = ceil_div(length, blocks.m)
        # Every program reads its sequence's two bounds in cu_q, and those with rows its start in cu_k.
        loads += 4 * (2 * tiles_in_grid + active)
        for m0 in range(0, length, blocks.m):
            rows = slice(start + m0, start + min(m0 + blocks.m, length))
            high = int(last[rows].max())
            low = int(np.minimum(first[rows], high).min()) // blocks.n * blocks.n if layout.windowed else 0
            tiles += max(0, ceil_div(high - low, blocks.n))
            loads += 2 * max(0, high - low) * head_size * element
        loads += length * (head_size * element + 4 + 4 * layout.windowed)
        stores += length * (head_size * element + 4)
        start += length
    flops = tiles * 4 * blocks.m * blocks.n * padded_size(head_size)
    return TileCost(heads * flops, heads * loads, heads * stores)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: every element type and head size, with and without a sliding window."""
    for dtype in ELEMENT_BYTES:
        for size in HEAD_SIZES:
            for windowed in (False, True):
                yield build(size, dtype, default_blocks(size, dtype, arch), windowed)


def build(head_size: int, dtype: str, blocks: Blocks, windowed: bool = False) -> Build:
    """One compilation, for contiguous tensors."""
    tensors = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "o_ptr"), f"*{dtype}") | {"lse_ptr": "*fp32"}
    tables = dict.fromkeys(("cu_q_ptr", "cu_k_ptr", "first_ptr", "last_ptr"), "*i32")
    strides = ("stride_qt", "stride_qh", "stride_ks", "stride_kg", "stride_vs", "stride_vg", "stride_ot", "stride_oh")
    units = dict.fromkeys(("stride_qd", "stride_kd", "stride_vd", "stride_od"), 1)
    aligned = strides if head_size % 16 == 0 else ()
    tile_flops = 4 * blocks.m * blocks.n * padded_size(head_size)
    return Build(
        kernel="prefill",
        label=f"{dtype} d{head_size}{' window' if windowed else ''}",
        function=_prefill_kernel,
        arguments=tensors | tables | {"qk_scale": "fp32"} | dict.fromkeys((*strides, "stride_lh"), "i32"),
        constants=units
        | {"GROUP": 4, "HEAD_SIZE": head_size, "PADDED": padded_size(head_size), "WINDOWED": windowed}
        | {"BLOCK_M": blocks.m, "BLOCK_N": blocks.n, "UNIT": math.gcd(head_size, 16)},
        aligned=(*tensors, *tables, *aligned),
        warps=blocks.warps,
        stages=blocks.stages,
        # The key loop is written once with a window, and twice, whole and diagonal tiles, without.
        matrix_flops=0 if dtype == "fp32" else tile_flops * (1 if windowed else 2),
    )
