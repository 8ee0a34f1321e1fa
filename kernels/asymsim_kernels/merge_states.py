"""Attention over a union of key sets from the attention over each: the second half of split-KV decoding.

    lse = log sum_p exp(lse_p),   O = sum_p exp(lse_p - lse) O_p

It also joins kept and dropped keys, or a cached prefix and its continuation. FlashDecoding and FlashInfer (Ye et al.,
arXiv 2501.01005, section 2.2) merge by the same rule, which is associative and commutative but for rounding.

Suffixes: R rows (a query and head each), P parts, D head size, padded to powers of two in the kernel.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.tiles import ELEMENT_BYTES, Build, TileCost, next_power_of_2, padded_size

HEAD_SIZES = (64, 72, 80, 96, 128)
MAX_PARTS = 64
WARPS = 4


@triton.jit
def _merge_kernel(
    part_ptr, part_lse_ptr, o_ptr, lse_ptr, parts,
    stride_pr, stride_pp, stride_pd, stride_lr, stride_lp, stride_or, stride_od,
    HEAD_SIZE: tl.constexpr, PADDED: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    p_P = tl.arange(0, PARTS)
    d_D = tl.arange(0, PADDED)
    lse_P = tl.load(part_lse_ptr + row * stride_lr + p_P * stride_lp, mask=p_P < parts, other=float("-inf"))
    # What an empty part's output holds is never read: 0 times NaN would be NaN.
    some_P = lse_P > float("-inf")
    o_PD = tl.load(
        part_ptr + row * stride_pr + p_P[:, None] * tl.cast(stride_pp, tl.int64) + d_D[None, :] * stride_pd,
        mask=some_P[:, None] & (d_D < HEAD_SIZE)[None, :], other=0.0,
    )  # fmt: skip
    top = tl.max(lse_P, 0)
    top = tl.where(top == float("-inf"), 0.0, top)
    share_P = tl.exp2((lse_P - top) * 1.4426950408889634)
    total = tl.sum(share_P, 0)
    safe = tl.where(total > 0, total, 1.0)
    o_D = tl.sum(o_PD.to(tl.float32) * share_P[:, None], 0) / safe
    tl.store(o_ptr + row * stride_or + d_D * stride_od, o_D.to(o_ptr.dtype.element_ty), mask=d_D < HEAD_SIZE)
    tl.store(lse_ptr + row, tl.where(total > 0, top + tl.log2(safe) * 0.6931471805599453, float("-inf")))


def merge_states(
    part_RPD: torch.Tensor, lse_RP: torch.Tensor, *, dtype: torch.dtype | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge the attention of R rows over P disjoint key sets.

    Parameters
    ----------
    part_RPD : Tensor
        Output over each set, any of the kernels' types and strides. The output of an empty set is not read.
    lse_RP : Tensor
        LSE over each set, fp32; -inf for an empty one.
    dtype : torch.dtype, optional
        Type of the merged output; that of `part_RPD` by default.

    Returns
    -------
    o_RD, lse_R : Tensor
        Attention over the union, and its LSE in fp32; (0, -inf) where all sets are empty.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit, or more than `MAX_PARTS` parts.
    """
    checks.floating("part_RPD", part_RPD)
    checks.shape("part_RPD", part_RPD, (None, None, None), "rows, parts, head size")
    rows, parts, size = part_RPD.shape
    checks.head_size(size)
    checks.shape("lse_RP", lse_RP, (rows, parts), "rows, parts")
    checks.same_device(part_RPD=part_RPD, lse_RP=lse_RP)
    if lse_RP.dtype != torch.float32:
        checks.fail("lse_RP.dtype", lse_RP.dtype, "must be torch.float32")
    if not 1 <= parts <= MAX_PARTS:
        checks.fail("parts", parts, f"must be from 1 to {MAX_PARTS}")
    dtype = dtype or part_RPD.dtype
    o_RD = torch.empty((rows, size), dtype=dtype, device=part_RPD.device)
    checks.floating("dtype", o_RD)
    lse_R = torch.empty(rows, dtype=torch.float32, device=part_RPD.device)
    if rows:
        _merge_kernel[(rows,)](
            part_RPD, lse_RP, o_RD, lse_R, parts, *part_RPD.stride(), *lse_RP.stride(), *o_RD.stride(),
            HEAD_SIZE=size, PADDED=padded_size(size), PARTS=next_power_of_2(parts), num_warps=WARPS,
        )  # fmt: skip
    return o_RD, lse_R


def cost(rows: int, parts: int, filled: int, head_size: int, part_dtype: str, dtype: str) -> TileCost:
    """What `merge_states` executes: `filled` of the ``rows x parts`` sets hold keys and are read. No matrix product."""
    loads = rows * parts * 4 + filled * head_size * ELEMENT_BYTES[part_dtype]
    return TileCost(0, loads, rows * (head_size * ELEMENT_BYTES[dtype] + 4))


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: fp32 parts, as decoding leaves them, into every element type."""
    for dtype in ELEMENT_BYTES:
        for size in HEAD_SIZES:
            yield build(size, dtype, parts=16 if arch != "gfx942" else 32)
    yield build(HEAD_SIZES[-1], "bf16", parts=MAX_PARTS)


def build(head_size: int, dtype: str, parts: int) -> Build:
    """One compilation, for contiguous tensors."""
    pointers = {"part_ptr": "*fp32", "part_lse_ptr": "*fp32", "o_ptr": f"*{dtype}", "lse_ptr": "*fp32"}
    strides = ("stride_pr", "stride_pp", "stride_or")
    return Build(
        kernel="merge_states",
        label=f"{dtype} d{head_size} p{parts}",
        function=_merge_kernel,
        arguments=pointers | dict.fromkeys(("parts", *strides, "stride_lr"), "i32"),
        constants=dict.fromkeys(("stride_pd", "stride_lp", "stride_od"), 1)
        | {"HEAD_SIZE": head_size, "PADDED": padded_size(head_size), "PARTS": next_power_of_2(parts)},
        aligned=(*pointers, *(strides if head_size % 16 == 0 else ())),
        warps=WARPS,
        stages=2,
        matrix_flops=0,
    )
