"""Attention that each key receives, summed over queries and heads, without storing any attention weights.

    c[s, g] = sum_t sum_h exp(scale q[t, h] . k[s, g] - lse[t, h]),   queries t that see s, query heads h of KV head g

A first pass, `prefill.prefill_attention`, leaves the LSE of every query; this second pass gives each program a tile of
keys, recomputes the scores and sums the weights down the columns. FastV (arXiv 2403.06764), H2O (2306.14048), SnapKV
(2404.14469), VL-Cache (2410.23317) and [CLS] saliency rank tokens by it, over all queries or a few.

Suffixes: T packed query tokens, S packed keys, H query heads, G KV heads, D head size. In the kernel N are the keys of
a tile and M packed rows, (query, head) with the query heads of the KV head next to each other, so that a window of a
single query still fills a tile's rows with its heads.
"""

import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.layout import PackedLayout
from asymsim_kernels.prefill import check_packed
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
def _column_mass_kernel(
    q_ptr, k_ptr, lse_ptr, mass_ptr, cu_q_ptr, cu_k_ptr, first_ptr, last_ptr, seen_from_ptr, seen_to_ptr,
    counted_ptr, qk_scale,
    stride_qt, stride_qh, stride_qd, stride_ks, stride_kg, stride_kd, stride_lh, stride_lt, stride_cg,
    GROUP: tl.constexpr, HEAD_SIZE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOWED: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    n0 = tl.program_id(0) * BLOCK_N
    kv_head = tl.program_id(1)
    sequence = tl.program_id(2)
    k_start = tl.load(cu_k_ptr + sequence)
    k_length = tl.load(cu_k_ptr + sequence + 1) - k_start
    if n0 >= k_length:
        return
    q_start = tl.load(cu_q_ptr + sequence)
    # Positions are sorted, so the first key of the tile is the first to be seen and the last one the last.
    final = tl.minimum(n0 + BLOCK_N, k_length) - 1
    begin = tl.maximum(tl.load(seen_from_ptr + k_start + n0), tl.load(counted_ptr + 2 * sequence))
    end = tl.minimum(tl.load(seen_to_ptr + k_start + final), tl.load(counted_ptr + 2 * sequence + 1))

    n_N = n0 + tl.arange(0, BLOCK_N)
    d_D = tl.arange(0, PADDED)
    key_N = n_N < k_length
    column_D = d_D < HEAD_SIZE
    s64_N = (k_start + n_N).to(tl.int64)
    # Every offset but that within a head is int64; UNIT divides the strides, which lets loads take 16 bytes.
    step_k = tl.multiple_of(tl.cast(stride_ks, tl.int64), UNIT)
    step_q = tl.multiple_of(tl.cast(stride_qt, tl.int64), UNIT)
    step_h = tl.multiple_of(tl.cast(stride_qh, tl.int64), UNIT)
    k_at = k_ptr + kv_head * tl.multiple_of(tl.cast(stride_kg, tl.int64), UNIT)
    k_ND = tl.load(
        k_at + s64_N[:, None] * step_k + d_D[None, :] * stride_kd,
        mask=key_N[:, None] & column_D[None, :], other=0.0,
    )  # fmt: skip
    k_DN = tl.trans(k_ND)
    # Summed down the columns once at the end: a sum a tile would cross warps every time.
    mass_MN = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for r0 in range(begin * GROUP, end * GROUP, BLOCK_M):
        r_M = r0 + tl.arange(0, BLOCK_M)
        row_M = r_M < end * GROUP
        t_M = q_start + r_M // GROUP
        t64_M = t_M.to(tl.int64)
        h64_M = (kv_head * GROUP + r_M % GROUP).to(tl.int64)
        q_MD = tl.load(
            q_ptr + t64_M[:, None] * step_q + h64_M[:, None] * step_h + d_D[None, :] * stride_qd,
            mask=row_M[:, None] & column_D[None, :], other=0.0,
        )  # fmt: skip
        lse_M = tl.load(lse_ptr + h64_M * stride_lh + t64_M * stride_lt, mask=row_M, other=float("inf"))
        last_M = tl.load(last_ptr + t_M, mask=row_M, other=0)
        sees_MN = n_N[None, :] < last_M[:, None]
        if WINDOWED:
            first_M = tl.load(first_ptr + t_M, mask=row_M, other=0)
            sees_MN = sees_MN & (n_N[None, :] >= first_M[:, None])
        s_MN = tl.dot(q_MD, k_DN, input_precision="ieee")
        p_MN = tl.exp2(s_MN * qk_scale - (lse_M * 1.4426950408889634)[:, None])
        mass_MN += tl.where(sees_MN, p_MN, 0.0)
    mass_N = tl.sum(mass_MN, 0)
    tl.store(mass_ptr + kv_head * tl.cast(stride_cg, tl.int64) + s64_N, mass_N, mask=key_N)


def default_blocks(head_size: int, dtype: str, arch: str) -> Blocks:
    """Block sizes and scheduling that ship for a head size, an element type and one of `tiles.ARCHITECTURES`."""
    if dtype == "fp32":
        return Blocks(32, 32, 8, 1)
    if arch == "gfx942":
        return Blocks(64, 64, 4, 1)
    return Blocks(128, 64, 8, 2) if arch == "sm_100" else Blocks(64, 128, 8, 2)


def column_mass(
    q_THD: torch.Tensor,
    k_SGD: torch.Tensor,
    lse_HT: torch.Tensor,
    layout: PackedLayout,
    *,
    queries: slice = slice(None),
    scale: float | None = None,
    blocks: Blocks | None = None,
) -> torch.Tensor:
    """Attention received by every packed key, per KV head.

    Parameters
    ----------
    q_THD, k_SGD : Tensor
        Packed tokens x heads x head size, fp16, bf16 or fp32, with any strides.
    lse_HT : Tensor
        LSE of every query over the keys that it sees, fp32, from `prefill.prefill_attention`.
    layout : PackedLayout
        The layout of that pass.
    queries : slice
        Queries of each sequence that count: ``slice(-32, None)`` the last 32 (SnapKV), ``slice(-1, None)`` the last
        (FastV's code), ``slice(0, 1)`` the first ([CLS]); all by default.
    scale : float, optional
        Factor of the scores, 1/sqrt(head size) by default.
    blocks : Blocks, optional
        Packed rows and keys of a tile, powers of two of at least 16; `default_blocks` otherwise.

    Returns
    -------
    mass_GS : Tensor
        Sum over the counted queries and the query heads of each KV head, fp32. The mean over all query heads is
        ``mass_GS.sum(0) / H``. Over all keys and KV heads it sums to H for each counted query that sees a key.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit, or a slice with a step.
    """
    group = check_packed(q_THD, k_SGD, layout)
    tokens, heads, size = q_THD.shape
    keys, kv_heads, _ = k_SGD.shape
    checks.shape("lse_HT", lse_HT, (heads, tokens), "query heads, query tokens")
    checks.same_device(q_THD=q_THD, lse_HT=lse_HT)
    if lse_HT.dtype != torch.float32:
        checks.fail("lse_HT.dtype", lse_HT.dtype, "must be torch.float32")
    blocks = blocks or default_blocks(size, DTYPE_NAMES[q_THD.dtype], architecture(q_THD.device))
    checks.tile_extents(**{"blocks.m": blocks.m, "blocks.n": blocks.n})
    counted = torch.tensor(_counted(layout, queries), dtype=torch.int32).to(q_THD.device)
    mass_GS = torch.empty((kv_heads, keys), dtype=torch.float32, device=q_THD.device)
    if keys == 0:
        return mass_GS
    _column_mass_kernel[(ceil_div(layout.max_k, blocks.n), kv_heads, layout.batch_size)](
        q_THD, k_SGD, lse_HT, mass_GS, layout.cu_q, layout.cu_k, layout.first, layout.last,
        layout.seen_from, layout.seen_to, counted, checks.softmax_scale(scale, size) * LOG2_E,
        *q_THD.stride(), *k_SGD.stride(), *lse_HT.stride(), mass_GS.stride(0),
        GROUP=group, HEAD_SIZE=size, PADDED=padded_size(size), BLOCK_M=blocks.m, BLOCK_N=blocks.n,
        WINDOWED=layout.windowed, UNIT=stride_unit(q_THD, k_SGD), num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return mass_GS


def _counted(layout: PackedLayout, queries: slice) -> list[tuple[int, int]]:
    """First and one past the last counted query of each sequence."""
    if queries.step not in (None, 1):
        checks.fail("queries", queries, "must be a slice without a step")
    bounds = [queries.indices(length)[:2] for length in layout.q_lengths]
    return [(start, max(start, stop)) for start, stop in bounds]


def cost(
    layout: PackedLayout,
    heads: int,
    kv_heads: int,
    head_size: int,
    dtype: str,
    blocks: Blocks,
    queries: slice = slice(None),
) -> TileCost:
    """What `column_mass` executes, the first pass not included, in closed form.

    A key tile that the counted queries ``begin <= m < end`` see packs R = (end - begin) H/G rows and takes
    ceil(R / BM) tiles of 2 BM BN D FLOPs (D padded); it loads its keys once, and each row's query, LSE and range.
    """
    group = heads // kv_heads
    element = ELEMENT_BYTES[dtype]
    row_bytes = head_size * element + 4 + 4 + 4 * layout.windowed
    seen_from, seen_to = layout.seen_from.tolist(), layout.seen_to.tolist()
    tiles_in_grid = ceil_div(layout.max_k, blocks.n)
    tiles = loads = stores = start = 0
    for length, (first, stop) in zip(layout.k_lengths, _counted(layout, queries), strict=True):
        active = ceil_div(length, blocks.n)
        # Two bounds in every program; cu_q, seen_from, seen_to and the counted range in those with keys.
        loads += 4 * (2 * tiles_in_grid + 5 * active)
        for n0 in range(0, length, blocks.n):
            final = min(n0 + blocks.n, length) - 1
            rows = max(0, min(seen_to[start + final], stop) - max(seen_from[start + n0], first)) * group
            tiles += ceil_div(rows, blocks.m)
            loads += rows * row_bytes
        loads += length * head_size * element
        stores += length * 4
        start += length
    flops = tiles * 2 * blocks.m * blocks.n * padded_size(head_size)
    return TileCost(kv_heads * flops, kv_heads * loads, kv_heads * stores)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: every element type and head size, with and without a sliding window."""
    for dtype in ELEMENT_BYTES:
        for size in HEAD_SIZES:
            for windowed in (False, True):
                yield build(size, dtype, default_blocks(size, dtype, arch), windowed)


def build(head_size: int, dtype: str, blocks: Blocks, windowed: bool = False) -> Build:
    """One compilation, for contiguous tensors."""
    tensors = {"q_ptr": f"*{dtype}", "k_ptr": f"*{dtype}", "lse_ptr": "*fp32", "mass_ptr": "*fp32"}
    names = ("cu_q", "cu_k", "first", "last", "seen_from", "seen_to", "counted")
    tables = {f"{name}_ptr": "*i32" for name in names}
    strides = ("stride_qt", "stride_qh", "stride_ks", "stride_kg")
    return Build(
        kernel="column_mass",
        label=f"{dtype} d{head_size}{' window' if windowed else ''}",
        function=_column_mass_kernel,
        arguments=tensors | tables | {"qk_scale": "fp32"} | dict.fromkeys((*strides, "stride_lh", "stride_cg"), "i32"),
        constants=dict.fromkeys(("stride_qd", "stride_kd", "stride_lt"), 1)
        | {"GROUP": 4, "HEAD_SIZE": head_size, "PADDED": padded_size(head_size), "WINDOWED": windowed}
        | {"BLOCK_M": blocks.m, "BLOCK_N": blocks.n, "UNIT": math.gcd(head_size, 16)},
        aligned=(*tensors, *tables, *(strides if head_size % 16 == 0 else ())),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0 if dtype == "fp32" else 2 * blocks.m * blocks.n * padded_size(head_size),
    )
