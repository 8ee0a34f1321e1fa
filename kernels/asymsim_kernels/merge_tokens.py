"""Means of clusters of tokens: every dropped token averaged into the kept token that it was assigned to.

    out_k = mean of x_n over the tokens n assigned to k

ToMe, PruMerge and DeSAP merge in this way (DeSAP, arXiv 2604.11240v1, method section). The clusters' members are listed
once in `plan_merge`, so that each token is read once and each cluster is written by one program: the sum, in fp32, has
the same order on every run, without atomics, and a NaN stays in its cluster.

Suffixes: T packed tokens, S packed clusters, D features, B sequences; in the kernel M are clusters, N members of each,
D one chunk of the features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.scorer import longest_sequence
from asymsim_kernels.tiles import ELEMENT_BYTES, Blocks, Build, TileCost, architecture, ceil_div, padded_size

HIDDEN_SIZES = (1024, 3072, 4096)


@dataclass(frozen=True, eq=False)
class MergePlan:
    """Members of each cluster; made by `plan_merge`, and used for every tensor that is merged alike.

    Attributes
    ----------
    members : Tensor
        T packed token rows, int32: those of cluster 0, of cluster 1, ..., each rising; then the unassigned ones.
    starts : Tensor
        S + 1, int32: cluster s holds ``members[starts[s]:starts[s + 1]]``.
    assigned : int
        Tokens that belong to a cluster.
    """

    members: torch.Tensor
    starts: torch.Tensor
    assigned: int

    @property
    def clusters(self) -> int:
        """S."""
        return self.starts.numel() - 1


def plan_merge(assigned_T: torch.Tensor, cu_tokens: torch.Tensor, cu_kept: torch.Tensor) -> MergePlan:
    """List each cluster's members. Reads lengths back from the device.

    Parameters
    ----------
    assigned_T : Tensor
        For each packed token the place of its cluster among those of its sequence, int32; a kept token has its own, a
        token that goes nowhere -1.
    cu_tokens, cu_kept : Tensor
        B + 1 cumulative counts of tokens and of clusters, int32.

    Raises
    ------
    ValueError
        For places outside -1 to the sequence's clusters, or cumulative counts that fall or disagree.
    """
    device = checks.same_device(assigned_T=assigned_T, cu_tokens=cu_tokens, cu_kept=cu_kept)
    checks.integers("assigned_T", assigned_T)
    checks.shape("assigned_T", assigned_T, (None,), "one place a token")
    tokens = assigned_T.shape[0]
    longest_sequence("cu_tokens", cu_tokens, tokens, None, True)
    checks.shape("cu_kept", cu_kept, tuple(cu_tokens.shape), "as cu_tokens")
    clusters = int(cu_kept[-1])
    longest_sequence("cu_kept", cu_kept, clusters, None, True)

    sequence_T = torch.searchsorted(cu_tokens[1:].long(), torch.arange(tokens, device=device), right=True)
    room_T = (cu_kept[1:] - cu_kept[:-1])[sequence_T]
    wrong_T = (assigned_T < -1) | (assigned_T >= room_T)
    if bool(wrong_T.any()):
        at = int(wrong_T.nonzero()[0, 0])
        checks.fail(f"assigned_T[{at}]", int(assigned_T[at]), f"must be from -1 to {int(room_T[at]) - 1}")
    cluster_T = torch.where(assigned_T < 0, clusters, cu_kept[sequence_T] + assigned_T)
    ordered_T, members_T = torch.sort(cluster_T, stable=True)
    starts = torch.searchsorted(ordered_T, torch.arange(clusters + 1, device=device, dtype=ordered_T.dtype))
    return MergePlan(members_T.int(), starts.int(), int(starts[-1]))


@triton.jit
def _merge_kernel(
    x_ptr, o_ptr, members_ptr, starts_ptr, clusters, stride_xt, stride_xd, stride_os,
    FEATURES: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    s_M = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    row_M = s_M < clusters
    column_D = d_D < FEATURES
    begin_M = tl.load(starts_ptr + s_M, mask=row_M, other=0)
    count_M = tl.load(starts_ptr + s_M + 1, mask=row_M, other=0) - begin_M
    # Tokens times strides pass 2^31 in long batches.
    x_at_D = x_ptr + d_D * tl.cast(stride_xd, tl.int64)
    sum_MD = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    for n0 in range(0, tl.max(count_M, 0), BLOCK_N):
        n_N = n0 + tl.arange(0, BLOCK_N)
        member_MN = n_N[None, :] < count_M[:, None]
        t_MN = tl.load(members_ptr + begin_M[:, None] + n_N[None, :], mask=member_MN, other=0).to(tl.int64)
        x_MND = tl.load(
            x_at_D[None, None, :] + (t_MN * stride_xt)[:, :, None],
            mask=member_MN[:, :, None] & column_D[None, None, :], other=0.0,
        )  # fmt: skip
        sum_MD += tl.sum(x_MND.to(tl.float32), 1)
    mean_MD = sum_MD / tl.maximum(count_M, 1).to(tl.float32)[:, None]
    o_at_MD = o_ptr + s_M.to(tl.int64)[:, None] * stride_os + d_D[None, :]
    tl.store(o_at_MD, mean_MD.to(o_ptr.dtype.element_ty), mask=row_M[:, None] & column_D[None, :])


def default_blocks(features: int, dtype: str, arch: str) -> Blocks:
    """Clusters (m) and members (n) of a tile, and scheduling."""
    return Blocks(2, 4, 4, 1)


def chunk(features: int, dtype: str) -> int:
    """Features that a program takes: 1 KiB of each token."""
    return min(1024 // ELEMENT_BYTES[dtype], padded_size(features))


def merge_tokens(x_TD: torch.Tensor, plan: MergePlan, *, blocks: Blocks | None = None) -> torch.Tensor:
    """Mean of each cluster's tokens.

    Parameters
    ----------
    x_TD : Tensor
        Packed tokens x features, fp16, bf16 or fp32, with any strides.
    plan : MergePlan
        From `plan_merge`.
    blocks : Blocks, optional
        Clusters (m) and members (n) of a tile, powers of two; `default_blocks` otherwise.

    Returns
    -------
    Tensor
        S x D, in the type of `x_TD`; 0 for a cluster without members.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit.
    """
    dtype = checks.floating("x_TD", x_TD)
    checks.same_device(x_TD=x_TD, **{"plan.members": plan.members})
    checks.shape("x_TD", x_TD, (plan.members.numel(), None), "tokens of the plan, features")
    features = x_TD.shape[1]
    o_SD = torch.empty((plan.clusters, features), dtype=x_TD.dtype, device=x_TD.device)
    if o_SD.numel() == 0:
        return o_SD
    blocks = blocks or default_blocks(features, dtype, architecture(x_TD.device))
    step = chunk(features, dtype)
    _merge_kernel[(ceil_div(plan.clusters, blocks.m), ceil_div(features, step))](
        x_TD, o_SD, plan.members, plan.starts, plan.clusters, *x_TD.stride(), o_SD.stride(0),
        FEATURES=features, BLOCK_M=blocks.m, BLOCK_N=blocks.n, BLOCK_D=step,
        num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return o_SD


def cost(assigned: int, clusters: int, features: int, dtype: str) -> TileCost:
    """What `merge_tokens` executes, in closed form; `plan_merge` is not in it. No matrix product.

    Each assigned token is loaded once and each cluster stored once, whatever their sizes and the tile; each chunk of
    the features reads the members' rows and two bounds a cluster again.
    """
    element = ELEMENT_BYTES[dtype]
    chunks = ceil_div(features, chunk(features, dtype)) if features else 0
    loads = assigned * features * element + chunks * 4 * (assigned + 2 * clusters)
    return TileCost(0, loads if features else 0, clusters * features * element)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: every element type and common hidden sizes."""
    for dtype in ELEMENT_BYTES:
        for features in HIDDEN_SIZES:
            yield build(features, dtype, default_blocks(features, dtype, arch))


def build(features: int, dtype: str, blocks: Blocks) -> Build:
    """One compilation, for contiguous tensors."""
    tensors = dict.fromkeys(("x_ptr", "o_ptr"), f"*{dtype}")
    tables = dict.fromkeys(("members_ptr", "starts_ptr"), "*i32")
    strides = ("stride_xt", "stride_os")
    return Build(
        kernel="merge_tokens",
        label=f"{dtype} d{features}",
        function=_merge_kernel,
        arguments=tensors | tables | dict.fromkeys(("clusters", *strides), "i32"),
        constants={"stride_xd": 1, "FEATURES": features}
        | {"BLOCK_M": blocks.m, "BLOCK_N": blocks.n, "BLOCK_D": chunk(features, dtype)},
        aligned=(*tensors, *tables, *(strides if features % 16 == 0 else ())),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0,
    )
