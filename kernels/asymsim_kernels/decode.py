"""Decode attention: one query a sequence over a KV cache whose length differs by sequence and by KV head.

Eviction leaves each sequence, and with head-wise methods each KV head, its own number of entries; they are compacted
to the front of the cache, and their order does not matter, since one query sees them all. The keys of a (sequence, KV
head) are split evenly over programs so that few sequences fill a GPU (FlashDecoding), each program taking all query
heads of the KV head in one tile so that K and V are read once. `merge_states` joins the splits.

Suffixes: B sequences, H query heads, G KV heads, C cache capacity, P splits, D head size; in the kernel M are the query
heads of one KV head, padded to a power of two, and N the entries of a tile.
"""

import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks, merge_states
from asymsim_kernels.tiles import (
    ELEMENT_BYTES,
    LOG2_E,
    Blocks,
    Build,
    TileCost,
    add,
    architecture,
    ceil_div,
    padded_size,
    stride_unit,
)

HEAD_SIZES = (64, 72, 80, 96, 128)
GROUPS = (1, 3, 7, 32)
MAX_GROUP = 64


@triton.jit
def _decode_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr, lengths_ptr, qk_scale,
    stride_qb, stride_qh, stride_qd, stride_kb, stride_kg, stride_kc, stride_kd,
    stride_vb, stride_vg, stride_vc, stride_vd, stride_nb, stride_ng,
    stride_ob, stride_oh, stride_op, stride_od, stride_lb, stride_lh, stride_lp,
    GROUP: tl.constexpr, HEAD_SIZE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(0)
    kv_head = tl.program_id(1)
    sequence = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + sequence * stride_nb + kv_head * stride_ng)
    # Whole tiles a split, so that at most one tile of a (sequence, KV head) is partly filled.
    share = tl.cdiv(tl.cdiv(length, BLOCK_N), tl.num_programs(0)) * BLOCK_N
    begin = split * share
    end = tl.minimum(begin + share, length)

    m_M = tl.arange(0, BLOCK_M)
    d_D = tl.arange(0, PADDED)
    head_M = m_M < GROUP
    column_D = d_D < HEAD_SIZE
    h_M = (kv_head * GROUP + m_M).to(tl.int64)
    inside_MD = head_M[:, None] & column_D[None, :]
    # Every offset but that within a head is int64; UNIT divides the strides, which lets loads take 16 bytes.
    step_q = tl.multiple_of(tl.cast(stride_qh, tl.int64), UNIT)
    q_at = q_ptr + sequence * tl.multiple_of(tl.cast(stride_qb, tl.int64), UNIT)
    q_MD = tl.load(q_at + h_M[:, None] * step_q + d_D[None, :] * stride_qd, mask=inside_MD, other=0.0)
    step_k = tl.multiple_of(tl.cast(stride_kc, tl.int64), UNIT)
    step_v = tl.multiple_of(tl.cast(stride_vc, tl.int64), UNIT)
    k_at = k_ptr + sequence * tl.multiple_of(tl.cast(stride_kb, tl.int64), UNIT)
    v_at = v_ptr + sequence * tl.multiple_of(tl.cast(stride_vb, tl.int64), UNIT)
    k_at += kv_head * tl.multiple_of(tl.cast(stride_kg, tl.int64), UNIT)
    v_at += kv_head * tl.multiple_of(tl.cast(stride_vg, tl.int64), UNIT)
    k_ND_ptr = k_at + tl.arange(0, BLOCK_N)[:, None] * step_k + d_D[None, :] * stride_kd
    v_ND_ptr = v_at + tl.arange(0, BLOCK_N)[:, None] * step_v + d_D[None, :] * stride_vd

    acc_MD = tl.zeros([BLOCK_M, PADDED], dtype=tl.float32)
    max_M = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    sum_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    for n0 in range(begin, end, BLOCK_N):
        n_N = n0 + tl.arange(0, BLOCK_N)
        entry_N = n_N < end
        inside_ND = entry_N[:, None] & column_D[None, :]
        k_ND = tl.load(k_ND_ptr + n0 * step_k, mask=inside_ND, other=0.0)
        v_ND = tl.load(v_ND_ptr + n0 * step_v, mask=inside_ND, other=0.0)
        s_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee") * qk_scale
        # Every tile holds an entry, so the maximum is finite from the first tile on.
        s_MN = tl.where(entry_N[None, :], s_MN, float("-inf"))
        new_max_M = tl.maximum(max_M, tl.max(s_MN, 1))
        p_MN = tl.exp2(s_MN - new_max_M[:, None])
        shrink_M = tl.exp2(max_M - new_max_M)
        acc_MD = tl.dot(p_MN.to(v_ND.dtype), v_ND, acc_MD * shrink_M[:, None], input_precision="ieee")
        sum_M = sum_M * shrink_M + tl.sum(p_MN, 1)
        max_M = new_max_M

    some_M = sum_M > 0
    safe_M = tl.where(some_M, sum_M, 1.0)
    o_MD = acc_MD / safe_M[:, None]
    o_at = o_ptr + sequence * stride_ob + split * tl.cast(stride_op, tl.int64)
    tl.store(
        o_at + h_M[:, None] * stride_oh + d_D[None, :] * stride_od,
        o_MD.to(o_ptr.dtype.element_ty), mask=inside_MD,
    )  # fmt: skip
    lse_M = tl.where(some_M, (max_M + tl.log2(safe_M)) * 0.6931471805599453, float("-inf"))
    lse_at = lse_ptr + sequence * stride_lb + split * tl.cast(stride_lp, tl.int64)
    tl.store(lse_at + h_M * stride_lh, lse_M, mask=head_M)


def default_blocks(head_size: int, dtype: str, arch: str) -> Blocks:
    """Entries a tile and scheduling that ship; the tile's rows are the padded query heads of a KV head."""
    if dtype == "fp32":
        return Blocks(0, 16, 8, 2 if arch == "sm_100" else 1)
    return Blocks(0, 64, 4, 1) if arch == "gfx942" else Blocks(0, 32, 4, 3)


def default_splits(pairs: int, capacity: int, block_n: int, processors: int) -> int:
    """Splits that give each of a GPU's processors two programs, without leaving a split under two tiles.

    Parameters
    ----------
    pairs : int
        Sequences x KV heads.
    capacity : int
        Entries that the longest cache may hold.
    block_n, processors : int
        Entries a tile, and streaming multiprocessors (compute units on AMD) of the GPU.
    """
    wanted = ceil_div(2 * processors, max(1, pairs))
    return max(1, min(wanted, capacity // (2 * block_n), merge_states.MAX_PARTS))


def decode_attention(
    q_BHD: torch.Tensor,
    k_BGCD: torch.Tensor,
    v_BGCD: torch.Tensor,
    lengths_BG: torch.Tensor,
    *,
    scale: float | None = None,
    splits: int | None = None,
    blocks: Blocks | None = None,
    validate: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one query a sequence over the first entries of its cache.

    Parameters
    ----------
    q_BHD : Tensor
        Queries, fp16, bf16 or fp32, with any strides.
    k_BGCD, v_BGCD : Tensor
        Cache, in the type of the queries and with any strides; a B x C x G x D cache comes as its transposed view.
    lengths_BG : Tensor
        Entries held by each (sequence, KV head), int32; expand a B tensor where the heads agree. 0 is an empty cache.
    scale : float, optional
        Factor of the scores, 1/sqrt(head size) by default.
    splits : int, optional
        Programs that share a (sequence, KV head), at most `merge_states.MAX_PARTS`; `default_splits` otherwise.
    blocks : Blocks, optional
        Its `n` is the entries of a tile, a power of two of at least 16; `default_blocks` otherwise.
    validate : bool
        Check the lengths against the capacity, which waits for the device; leave out in a decode loop.

    Returns
    -------
    o_BHD : Tensor
        Outputs, in the type of the queries; 0 over an empty cache.
    lse_BH : Tensor
        Natural logarithm of the softmax's denominator, fp32; -inf over an empty cache.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit, or lengths beyond the cache.
    """
    dtype = checks.same_dtype(q_BHD=q_BHD, k_BGCD=k_BGCD, v_BGCD=v_BGCD)
    device = checks.same_device(q_BHD=q_BHD, k_BGCD=k_BGCD, v_BGCD=v_BGCD, lengths_BG=lengths_BG)
    checks.shape("q_BHD", q_BHD, (None, None, None), "sequences, query heads, head size")
    batch, heads, size = q_BHD.shape
    checks.head_size(size)
    checks.shape("k_BGCD", k_BGCD, (batch, None, None, size), "sequences, KV heads, capacity, head size")
    checks.shape("v_BGCD", v_BGCD, tuple(k_BGCD.shape), "as k_BGCD")
    kv_heads, capacity = k_BGCD.shape[1:3]
    group = checks.head_groups(heads, kv_heads)
    if group > MAX_GROUP:
        checks.fail("query heads a KV head", group, f"must be at most {MAX_GROUP}")
    checks.shape("lengths_BG", lengths_BG, (batch, kv_heads), "sequences, KV heads")
    checks.integers("lengths_BG", lengths_BG)
    if validate:
        checks.lengths_within("lengths_BG", lengths_BG, capacity)
    blocks = blocks or default_blocks(size, dtype, architecture(device))
    checks.tile_extents(**{"blocks.n": blocks.n})
    if splits is None:
        count = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
        splits = default_splits(batch * kv_heads, capacity, blocks.n, count)
    if not 1 <= splits <= merge_states.MAX_PARTS:
        checks.fail("splits", splits, f"must be from 1 to {merge_states.MAX_PARTS}")

    # A lone split writes the result itself; several write fp32 parts.
    part_dtype = q_BHD.dtype if splits == 1 else torch.float32
    part_BHPD = torch.empty((batch, heads, splits, size), dtype=part_dtype, device=device)
    lse_BHP = torch.empty((batch, heads, splits), dtype=torch.float32, device=device)
    if batch == 0:
        return part_BHPD[:, :, 0], lse_BHP[:, :, 0]
    _decode_kernel[(splits, kv_heads, batch)](
        q_BHD, k_BGCD, v_BGCD, part_BHPD, lse_BHP, lengths_BG, checks.softmax_scale(scale, size) * LOG2_E,
        *q_BHD.stride(), *k_BGCD.stride(), *v_BGCD.stride(), *lengths_BG.stride(),
        *part_BHPD.stride(), *lse_BHP.stride(),
        GROUP=group, HEAD_SIZE=size, PADDED=padded_size(size), BLOCK_M=padded_size(group), BLOCK_N=blocks.n,
        UNIT=stride_unit(q_BHD, k_BGCD, v_BGCD), num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    if splits == 1:
        return part_BHPD[:, :, 0], lse_BHP[:, :, 0]
    rows = batch * heads
    o_RD, lse_R = merge_states.merge_states(
        part_BHPD.view(rows, splits, size), lse_BHP.view(rows, splits), dtype=q_BHD.dtype
    )
    return o_RD.view(batch, heads, size), lse_R.view(batch, heads)


def cost(lengths_BG: torch.Tensor, heads: int, head_size: int, dtype: str, splits: int, blocks: Blocks) -> TileCost:
    """What `decode_attention` executes, its merge included, in closed form.

    A (sequence, KV head) of length n takes t = ceil(n / BN) tiles of 4 BM BN D FLOPs however it is split (BM the padded
    query heads of the KV head, D padded), and loads 2 n D elements. Every split, filled or not, also loads one length
    and its queries and stores an output and LSE. ceil(t / ceil(t / splits)) of the splits are filled.
    """
    batch, kv_heads = lengths_BG.shape
    group = heads // kv_heads
    element = ELEMENT_BYTES[dtype]
    part_dtype = dtype if splits == 1 else "fp32"
    tiles = entries = filled = 0
    for n in lengths_BG.flatten().tolist():
        t = ceil_div(n, blocks.n)
        tiles += t
        entries += n
        filled += ceil_div(t, ceil_div(t, splits)) if t else 0
    programs = batch * kv_heads * splits
    split_cost = TileCost(
        tiles * 4 * padded_size(group) * blocks.n * padded_size(head_size),
        programs * (4 + group * head_size * element) + 2 * entries * head_size * element,
        programs * group * (head_size * ELEMENT_BYTES[part_dtype] + 4),
    )
    if splits == 1:
        return split_cost
    merge = merge_states.cost(batch * heads, splits, filled * group, head_size, part_dtype, dtype)
    return add([split_cost, merge])


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: every element type and head size, writing fp32 parts, for narrow and for wide groups."""
    for dtype in ELEMENT_BYTES:
        for size in HEAD_SIZES:
            for group in GROUPS:
                yield build(size, dtype, group, default_blocks(size, dtype, arch))


def build(head_size: int, dtype: str, group: int, blocks: Blocks) -> Build:
    """One compilation, for a contiguous cache."""
    tensors = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr"), f"*{dtype}")
    pointers = tensors | {"o_ptr": "*fp32", "lse_ptr": "*fp32", "lengths_ptr": "*i32"}
    strides = tuple(f"stride_{s}" for s in ("qb", "qh", "kb", "kg", "kc", "vb", "vg", "vc", "ob", "oh", "op"))
    others = tuple(f"stride_{s}" for s in ("nb", "lb", "lh"))
    units = tuple(f"stride_{s}" for s in ("qd", "kd", "vd", "od", "ng", "lp"))
    return Build(
        kernel="decode",
        label=f"{dtype} d{head_size} g{group}",
        function=_decode_kernel,
        arguments=pointers | {"qk_scale": "fp32"} | dict.fromkeys((*strides, *others), "i32"),
        constants=dict.fromkeys(units, 1)
        | {"GROUP": group, "HEAD_SIZE": head_size, "PADDED": padded_size(head_size)}
        | {"BLOCK_M": padded_size(group), "BLOCK_N": blocks.n, "UNIT": math.gcd(head_size, 16)},
        aligned=(*pointers, *(strides if head_size % 16 == 0 else ())),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0 if dtype == "fp32" else 4 * padded_size(group) * blocks.n * padded_size(head_size),
    )
