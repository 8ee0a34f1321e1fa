"""Eviction compaction: the kept entries of a KV cache gathered to the front of another, each KV head its own.

    k'[b, g, m] = k[b, g, kept[b, g, m]],   v' and positions' alike,   m < counts[b, g]

Original positions go along, since the next token's rotary position follows from them and never from how many entries
are left. Out of place, so that no program overwrites what another still has to read.

Suffixes: B sequences, G KV heads, C capacity of the cache, K kept entries listed at most, D head size; in the kernel M
are the kept entries of a tile.
"""

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.tiles import ELEMENT_BYTES, Blocks, Build, TileCost, architecture, ceil_div, padded_size

HEAD_SIZES = (64, 72, 80, 96, 128)

Cache = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@triton.jit
def _offset(index, stride, ALIGNED: tl.constexpr):
    """index x stride in int64, which long caches need."""
    step = tl.cast(stride, tl.int64)
    if ALIGNED:
        # Triton sees for itself only multiples of 16, and would move rows of 72 elements one by one.
        step = tl.multiple_of(step, 8)
    return index * step


@triton.jit
def _compact_kernel(
    k_ptr, v_ptr, p_ptr, kept_ptr, counts_ptr, ko_ptr, vo_ptr, po_ptr,
    stride_kb, stride_kg, stride_kc, stride_kd, stride_vb, stride_vg, stride_vc, stride_vd,
    stride_pb, stride_pg, stride_pc, stride_ib, stride_ig, stride_ik, stride_nb, stride_ng,
    stride_xb, stride_xg, stride_xc, stride_xd, stride_yb, stride_yg, stride_yc, stride_yd,
    stride_qb, stride_qg, stride_qc,
    HEAD_SIZE: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    m0 = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1).to(tl.int64)
    sequence = tl.program_id(2).to(tl.int64)
    count = tl.load(counts_ptr + sequence * stride_nb + head * stride_ng)
    if m0 >= count:
        return
    m_M = m0 + tl.arange(0, BLOCK_M)
    row_M = m_M < count
    m_M = m_M.to(tl.int64)
    d_D = tl.arange(0, PADDED)
    inside_MD = row_M[:, None] & (d_D < HEAD_SIZE)[None, :]
    d_D = d_D.to(tl.int64)
    c_M = tl.load(kept_ptr + sequence * stride_ib + head * stride_ig + m_M * stride_ik, mask=row_M, other=0)
    c_M = c_M.to(tl.int64)

    k_at = k_ptr + _offset(sequence, stride_kb, ALIGNED) + _offset(head, stride_kg, ALIGNED)
    v_at = v_ptr + _offset(sequence, stride_vb, ALIGNED) + _offset(head, stride_vg, ALIGNED)
    k_MD = tl.load(k_at + _offset(c_M, stride_kc, ALIGNED)[:, None] + d_D[None, :] * stride_kd, mask=inside_MD)
    v_MD = tl.load(v_at + _offset(c_M, stride_vc, ALIGNED)[:, None] + d_D[None, :] * stride_vd, mask=inside_MD)
    p_M = tl.load(p_ptr + sequence * stride_pb + head * stride_pg + c_M * stride_pc, mask=row_M)
    ko_at = ko_ptr + _offset(sequence, stride_xb, ALIGNED) + _offset(head, stride_xg, ALIGNED)
    vo_at = vo_ptr + _offset(sequence, stride_yb, ALIGNED) + _offset(head, stride_yg, ALIGNED)
    tl.store(ko_at + _offset(m_M, stride_xc, ALIGNED)[:, None] + d_D[None, :] * stride_xd, k_MD, mask=inside_MD)
    tl.store(vo_at + _offset(m_M, stride_yc, ALIGNED)[:, None] + d_D[None, :] * stride_yd, v_MD, mask=inside_MD)
    tl.store(po_ptr + sequence * stride_qb + head * stride_qg + m_M * stride_qc, p_M, mask=row_M)


def default_blocks(head_size: int, dtype: str, arch: str) -> Blocks:
    """Kept entries of a tile (m) and scheduling: 8 KiB each of K and V at most."""
    return Blocks(8192 // (padded_size(head_size) * ELEMENT_BYTES[dtype]), 1, 4, 1)


def compact(
    k_BGCD: torch.Tensor,
    v_BGCD: torch.Tensor,
    positions_BGC: torch.Tensor,
    kept_BGK: torch.Tensor,
    counts_BG: torch.Tensor,
    *,
    out: Cache | None = None,
    validate: bool = True,
    blocks: Blocks | None = None,
) -> Cache:
    """Gather the kept entries of every (sequence, KV head).

    Parameters
    ----------
    k_BGCD, v_BGCD : Tensor
        Cache, fp16, bf16 or fp32, with any strides; a B x C x G x D cache comes as its transposed view.
    positions_BGC : Tensor
        Original position of each entry, int32; expand a B x C tensor where the heads agree.
    kept_BGK : Tensor
        Entries to keep, int32, rising within each list; what follows the list is not read. `top_k.Kept.indices`.
    counts_BG : Tensor
        Length of each list, int32: the lengths of the compacted cache. `top_k.Kept.counts`.
    out : tuple of Tensor, optional
        Cache to write: keys, values (B x G x at least K x D) and positions, apart from the source. New ones of
        capacity K otherwise.
    validate : bool
        Read the lists back and check them.
    blocks : Blocks, optional
        Kept entries of a tile (m), a power of two; `default_blocks` otherwise.

    Returns
    -------
    keys, values, positions : Tensor
        `out` or the new cache. Entries from a list's length on are left as they were: undefined in a new cache.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit, lists longer than K, unsorted, or with entries beyond the cache.
    """
    dtype = checks.same_dtype(k_BGCD=k_BGCD, v_BGCD=v_BGCD)
    named = {"positions_BGC": positions_BGC, "kept_BGK": kept_BGK, "counts_BG": counts_BG}
    device = checks.same_device(k_BGCD=k_BGCD, v_BGCD=v_BGCD, **named)
    checks.shape("k_BGCD", k_BGCD, (None, None, None, None), "sequences, KV heads, capacity, head size")
    batch, heads, capacity, size = k_BGCD.shape
    checks.head_size(size)
    checks.shape("v_BGCD", v_BGCD, tuple(k_BGCD.shape), "as k_BGCD")
    checks.shape("positions_BGC", positions_BGC, (batch, heads, capacity), "as k_BGCD without the head size")
    checks.shape("kept_BGK", kept_BGK, (batch, heads, None), "sequences, KV heads, kept entries")
    checks.shape("counts_BG", counts_BG, (batch, heads), "sequences, KV heads")
    for name, tensor in named.items():
        checks.integers(name, tensor)
    listed = kept_BGK.shape[2]
    if validate:
        checks.lengths_within("counts_BG", counts_BG, listed)
        _check_lists(kept_BGK, counts_BG, capacity)
    if out is None:
        keys = torch.empty((batch, heads, listed, size), dtype=k_BGCD.dtype, device=device)
        out = keys, torch.empty_like(keys), torch.empty((batch, heads, listed), dtype=torch.int32, device=device)
    else:
        _check_out(out, k_BGCD, v_BGCD, positions_BGC, listed)
    if batch * heads * listed == 0:
        return out
    blocks = blocks or default_blocks(size, dtype, architecture(device))
    tensors = (k_BGCD, v_BGCD, positions_BGC, kept_BGK, counts_BG, *out)
    _compact_kernel[(ceil_div(listed, blocks.m), heads, batch)](
        *tensors, *(stride for tensor in tensors for stride in tensor.stride()),
        HEAD_SIZE=size, PADDED=padded_size(size), BLOCK_M=blocks.m,
        ALIGNED=all(stride % 8 == 0 for tensor in (k_BGCD, v_BGCD, *out[:2]) for stride in tensor.stride()[:3]),
        num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return out


def _check_lists(kept_BGK: torch.Tensor, counts_BG: torch.Tensor, capacity: int) -> None:
    listed_BGK = torch.arange(kept_BGK.shape[2], device=kept_BGK.device) < counts_BG[..., None]
    outside_BGK = listed_BGK & ((kept_BGK < 0) | (kept_BGK >= capacity))
    if bool(outside_BGK.any()):
        at = outside_BGK.nonzero()[0].tolist()
        checks.fail(f"kept_BGK{at}", int(kept_BGK[tuple(at)]), f"must be from 0 to {capacity - 1}, the cache's entries")
    falls_BGK = listed_BGK[..., 1:] & (kept_BGK[..., 1:] <= kept_BGK[..., :-1])
    if bool(falls_BGK.any()):
        b, g, m = falls_BGK.nonzero()[0].tolist()
        checks.fail(
            f"kept_BGK{[b, g, m + 1]}", int(kept_BGK[b, g, m + 1]), "must exceed the entry before it: sort each list"
        )


def _check_out(
    out: Cache, k_BGCD: torch.Tensor, v_BGCD: torch.Tensor, positions_BGC: torch.Tensor, listed: int
) -> None:
    room = out[0].shape[2] if out[0].dim() == 4 else None
    for name, tensor, source in zip(("out[0]", "out[1]", "out[2]"), out, (k_BGCD, v_BGCD, positions_BGC), strict=True):
        batch, heads, _, *size = source.shape
        checks.shape(name, tensor, (batch, heads, room, *size), "as the source, but for the capacity")
        checks.same_device(k_BGCD=k_BGCD, **{name: tensor})
        if tensor.dtype != source.dtype:
            checks.fail(f"{name}.dtype", tensor.dtype, f"must be {source.dtype}, that of the source")
        if tensor.numel() and tensor.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
            checks.fail(name, "the source's memory", "must be apart from the source: compaction is out of place")
    if room is not None and room < listed:
        checks.fail("out[0].shape", tuple(out[0].shape), f"must have room for the {listed} entries of a list")


def cost(counts_BG: Sequence[Sequence[int]], listed: int, head_size: int, dtype: str, blocks: Blocks) -> TileCost:
    """What `compact` executes, in closed form: no matrix product.

    Each kept entry has its index, position, key and value loaded, and the last three stored; each of the
    ceil(K / BM) programs of a (sequence, KV head) loads its count.
    """
    kept = sum(map(sum, counts_BG))
    pairs = sum(map(len, counts_BG))
    moved = 2 * head_size * ELEMENT_BYTES[dtype] + 4
    return TileCost(0, kept * (4 + moved) + 4 * pairs * ceil_div(listed, blocks.m), kept * moved)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: every element type and head size."""
    for dtype in ELEMENT_BYTES:
        for size in HEAD_SIZES:
            yield build(size, dtype, default_blocks(size, dtype, arch))


def build(head_size: int, dtype: str, blocks: Blocks) -> Build:
    """One compilation, for contiguous caches and positions that the heads share."""
    caches = dict.fromkeys(("k_ptr", "v_ptr", "ko_ptr", "vo_ptr"), f"*{dtype}")
    tables = dict.fromkeys(("p_ptr", "kept_ptr", "counts_ptr", "po_ptr"), "*i32")
    strides = tuple(f"stride_{t}{axis}" for t in "kvxy" for axis in "bgc")
    others = ("pb", "pg", "ib", "ig", "nb", "qb", "qg")
    units = ("kd", "vd", "xd", "yd", "pc", "ik", "ng", "qc")
    return Build(
        kernel="compact",
        label=f"{dtype} d{head_size}",
        function=_compact_kernel,
        arguments=caches | tables | dict.fromkeys((*strides, *(f"stride_{name}" for name in others)), "i32"),
        constants={f"stride_{name}": 1 for name in units}
        | {"HEAD_SIZE": head_size, "PADDED": padded_size(head_size), "BLOCK_M": blocks.m, "ALIGNED": True},
        aligned=(*caches, *tables, *(strides if head_size % 16 == 0 else ())),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0,
    )
