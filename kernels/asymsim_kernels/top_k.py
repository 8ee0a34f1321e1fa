"""Which tokens of a row stay: exactly k of them, ties to the lowest index, protected ones always, indices rising.

A radix select: scores become unsigned keys of the same order, four passes over the row find the k-th largest key digit
by digit from histograms, and a last pass writes the indices. The work does not depend on the scores. k is given for
each row, or follows in the same launch from AsymVLM's gap (arXiv 2605.29535v1, method section)

    g = s_(q) - s_(N-q+1),   q = max(1, floor(N/4)),   k = floor(r(g) N)

the q-th largest less the q-th smallest score, whose keys four more passes find together. NaN counts as lower than
-inf, 0 equals -0.

Suffixes: G rows a sequence (KV heads, or 1), T packed tokens, B sequences, K capacity of a row of indices; in the
kernel N are the tokens of a tile.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.adaptive_budget import (
    GIVEN,
    LINEAR,
    THRESHOLD,
    LinearBudget,
    ThresholdBudget,
    budget_parts,
    kept_count,
    key_digit,
    next_digit,
    score_gap,
    sort_keys,
)
from asymsim_kernels.scorer import longest_sequence
from asymsim_kernels.tiles import DTYPE_NAMES, ELEMENT_BYTES, Blocks, Build, TileCost, architecture


class Kept(NamedTuple):
    """Result of `top_k`.

    Attributes
    ----------
    indices : Tensor
        B x G x K, int32: each row's kept tokens, counted within the sequence, rising, then -1.
    counts : Tensor
        B x G, int32.
    gaps : Tensor or None
        B x G, fp32, under an adaptive budget; 0 in a row without tokens.
    """

    indices: torch.Tensor
    counts: torch.Tensor
    gaps: torch.Tensor | None


@triton.jit
def _top_k_kernel(
    s_ptr, protected_ptr, k_ptr, cu_ptr, kept_ptr, count_ptr, gap_ptr, capacity, b0, b1, b2, b3, b4,
    stride_sg, stride_st, stride_pg, stride_pt, stride_kb, stride_kg, stride_ob, stride_og,
    BLOCK: tl.constexpr, BUDGET: tl.constexpr, PROTECTED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    start = tl.load(cu_ptr + sequence)
    length = tl.load(cu_ptr + sequence + 1) - start
    step_s = tl.cast(stride_st, tl.int64)
    step_p = tl.cast(stride_pt, tl.int64)
    s_at = s_ptr + row * tl.cast(stride_sg, tl.int64) + start * step_s
    p_at = protected_ptr + row * tl.cast(stride_pg, tl.int64) + start * step_p
    out = sequence * stride_ob + row * tl.cast(stride_og, tl.int64)
    out_count = sequence * tl.num_programs(0) + row

    guarded = 0
    if PROTECTED:
        for n0 in range(0, length, BLOCK):
            n_N = n0 + tl.arange(0, BLOCK)
            flag_N = tl.load(p_at + n_N * step_p, mask=n_N < length, other=0)
            guarded += tl.sum((flag_N != 0).to(tl.int32), 0)
    if BUDGET == 0:
        k = tl.load(k_ptr + sequence * stride_kb + row * tl.cast(stride_kg, tl.int64))
    else:
        gap = score_gap(s_at, step_s, length, BLOCK)
        k = tl.maximum(kept_count(gap, length, b0, b1, b2, b3, b4, BUDGET), guarded)
        tl.store(gap_ptr + out_count, gap.to(tl.float32))
    k = tl.minimum(tl.minimum(tl.maximum(k, 0), length), capacity)
    tl.store(count_ptr + out_count, k)

    # Protected tokens are in, and the others compete for what is left. Should there be too many, they compete.
    crowded = guarded > k
    rank = tl.where(crowded, k, k - guarded)
    threshold = tl.full([], 0, tl.uint32)
    known = tl.full([], 0, tl.uint32)
    for i in tl.static_range(4):
        histogram = tl.zeros([256], dtype=tl.int32)
        for n0 in range(0, length, BLOCK):
            n_N = n0 + tl.arange(0, BLOCK)
            candidate_N = n_N < length
            key_N = sort_keys(tl.load(s_at + n_N * step_s, mask=candidate_N, other=0.0))
            if PROTECTED:
                flag_N = tl.load(p_at + n_N * step_p, mask=n_N < length, other=0) != 0
                candidate_N = candidate_N & (flag_N == crowded)
            histogram += tl.histogram(
                key_digit(key_N, 24 - 8 * i), 256, mask=candidate_N & ((key_N & known) == threshold)
            )
        threshold, rank = next_digit(histogram, threshold, rank, 24 - 8 * i)
        known = known | (tl.full([], 255, tl.uint32) << (24 - 8 * i))

    # `rank` tokens of the threshold's own key are still wanted: the first ones.
    written = 0
    tied = 0
    for n0 in range(0, length, BLOCK):
        n_N = n0 + tl.arange(0, BLOCK)
        candidate_N = n_N < length
        sure_N = n_N < 0
        key_N = sort_keys(tl.load(s_at + n_N * step_s, mask=candidate_N, other=0.0))
        if PROTECTED:
            flag_N = tl.load(p_at + n_N * step_p, mask=n_N < length, other=0) != 0
            candidate_N = candidate_N & (flag_N == crowded)
            sure_N = flag_N & (guarded <= k)
        tie_N = (candidate_N & (key_N == threshold)).to(tl.int32)
        first_N = tied + tl.cumsum(tie_N, 0) <= rank
        take_N = sure_N | (candidate_N & (key_N > threshold)) | ((tie_N > 0) & first_N)
        place_N = written + tl.cumsum(take_N.to(tl.int32), 0) - 1
        tl.store(kept_ptr + out + place_N, n_N, mask=take_N)
        written += tl.sum(take_N.to(tl.int32), 0)
        tied += tl.sum(tie_N, 0)
    for i0 in range(0, capacity, BLOCK):
        i_N = i0 + tl.arange(0, BLOCK)
        tl.store(kept_ptr + out + i_N, tl.full([BLOCK], -1, tl.int32), mask=(i_N >= k) & (i_N < capacity))


def default_blocks(longest: int, dtype: str, arch: str) -> Blocks:
    """Tokens of a tile (n) and scheduling. Rows differ too little in their needs for sizes of their own."""
    return Blocks(1, 1024, 8, 1)


def top_k(
    scores_GT: torch.Tensor,
    cu: torch.Tensor,
    k: int | torch.Tensor | ThresholdBudget | LinearBudget,
    protected_GT: torch.Tensor | None = None,
    *,
    capacity: int | None = None,
    max_tokens: int | None = None,
    validate: bool = True,
    blocks: Blocks | None = None,
) -> Kept:
    """Choose the highest scores of each row.

    Parameters
    ----------
    scores_GT : Tensor
        G x T (or T, which is G = 1), fp16, bf16 or fp32, with any strides.
    cu : Tensor
        B + 1 cumulative lengths of the sequences, int32.
    k : int, Tensor, ThresholdBudget or LinearBudget
        Tokens to keep: the same in all rows, B or B x G of them (int32), or by the gap of each row's own scores.
    protected_GT : Tensor, optional
        True for tokens that are kept whatever their score, within k; bool, T or G x T. An adaptive budget below
        their number is raised to it.
    capacity : int, optional
        Indices that a row of the result holds; the largest k, or the longest sequence under an adaptive budget.
        An adaptive budget is cut to it.
    max_tokens : int, optional
        Tokens of the longest sequence; read back from the device otherwise.
    validate : bool
        Read lengths, k and protected counts back and check them; without it, and with `capacity` and `max_tokens`,
        nothing is synchronised, k is cut to the row, and of too many protected tokens the best k are kept.
    blocks : Blocks, optional
        Tokens of a tile (n), a power of two; `default_blocks` otherwise.

    Raises
    ------
    ValueError
        For shapes, types or devices that do not fit, k outside 0 to the row's tokens or below its protected ones,
        or a budget's number out of range.
    """
    scores_GT = scores_GT.unsqueeze(0) if scores_GT.dim() == 1 else scores_GT
    checks.floating("scores_GT", scores_GT)
    checks.shape("scores_GT", scores_GT, (None, None), "rows a sequence, packed tokens")
    rows, tokens = scores_GT.shape
    device = checks.same_device(scores_GT=scores_GT, cu=cu)
    longest = longest_sequence("cu", cu, tokens, max_tokens, validate)
    sequences = cu.numel() - 1
    if protected_GT is not None:
        protected_GT = protected_GT.expand(rows, -1) if protected_GT.dim() == 1 else protected_GT
        checks.same_device(scores_GT=scores_GT, protected_GT=protected_GT)
        checks.shape("protected_GT", protected_GT, (rows, tokens), "as scores_GT")
        if protected_GT.dtype != torch.bool:
            checks.fail("protected_GT.dtype", protected_GT.dtype, "must be torch.bool")
    if capacity is not None and capacity < 0:
        checks.fail("capacity", capacity, "must not be negative")
    adaptive = isinstance(k, (ThresholdBudget, LinearBudget))
    if adaptive:
        k_BG, parts, capacity = None, budget_parts(k, longest), longest if capacity is None else capacity
    else:
        k_BG, parts = _counts(k, sequences, rows, device), (0,) * 5
        if validate:
            _check_counts(k_BG, cu, protected_GT)
        if capacity is None or validate:
            largest = int(k_BG.max()) if k_BG.numel() else 0
            capacity = largest if capacity is None else capacity
            if capacity < largest:
                checks.fail("capacity", capacity, f"must be at least the largest k, {largest}")
    indices = torch.empty((sequences, rows, capacity), dtype=torch.int32, device=device)
    counts = torch.empty((sequences, rows), dtype=torch.int32, device=device)
    gaps = torch.empty((sequences, rows), dtype=torch.float32, device=device) if adaptive else None
    if sequences * rows == 0:
        return Kept(indices, counts, gaps)
    blocks = blocks or default_blocks(longest, DTYPE_NAMES[scores_GT.dtype], architecture(device))
    flags = scores_GT if protected_GT is None else protected_GT.view(torch.uint8)
    k_BG = counts if k_BG is None else k_BG
    _top_k_kernel[(rows, sequences)](
        scores_GT, flags, k_BG, cu, indices, counts, counts if gaps is None else gaps, capacity, *parts,
        *scores_GT.stride(), *flags.stride(), *k_BG.stride(), *indices.stride()[:2],
        BLOCK=blocks.n, BUDGET={ThresholdBudget: THRESHOLD, LinearBudget: LINEAR}.get(type(k), GIVEN),
        PROTECTED=protected_GT is not None, num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return Kept(indices, counts, gaps)


def _counts(k: int | torch.Tensor, sequences: int, rows: int, device: torch.device) -> torch.Tensor:
    """k of every row, B x G."""
    if not isinstance(k, torch.Tensor):
        return torch.full((sequences, rows), k, dtype=torch.int32, device=device)
    checks.integers("k", k)
    checks.same_device(scores_GT=torch.empty(0, device=device), k=k)
    k_BG = k[:, None].expand(-1, rows) if k.dim() == 1 else k
    checks.shape("k", k_BG, (sequences, rows), "sequences, rows a sequence")
    return k_BG


def _check_counts(k_BG: torch.Tensor, cu: torch.Tensor, protected_GT: torch.Tensor | None) -> None:
    lengths_B1 = (cu[1:] - cu[:-1])[:, None]
    wrong_BG = (k_BG < 0) | (k_BG > lengths_B1)
    if bool(wrong_BG.any()):
        b, g = wrong_BG.nonzero()[0].tolist()
        checks.fail(f"k[{b}, {g}]", int(k_BG[b, g]), f"must be from 0 to the sequence's {int(lengths_B1[b])} tokens")
    if protected_GT is None:
        return
    before_GT = torch.nn.functional.pad(protected_GT.cumsum(1), (1, 0))
    guarded_BG = (before_GT[:, cu[1:].long()] - before_GT[:, cu[:-1].long()]).T
    crowded_BG = guarded_BG > k_BG
    if bool(crowded_BG.any()):
        b, g = crowded_BG.nonzero()[0].tolist()
        checks.fail(
            f"k[{b}, {g}]", int(k_BG[b, g]), f"must be at least the row's {int(guarded_BG[b, g])} protected tokens"
        )


def cost(
    lengths: Sequence[int], rows: int, capacity: int, dtype: str, *, protected: bool = False, adaptive: bool = False
) -> TileCost:
    """What `top_k` executes, in closed form: no matrix product, and nothing that depends on the scores.

    A row of N tokens is read four times for k's key and once to write the indices; an adaptive budget reads it four
    times more, and protected tokens add six passes over their flags of a byte. It stores K indices, -1 included, its
    count, and its gap under an adaptive budget; it loads two bounds, and k where that is given.
    """
    token_bytes = ELEMENT_BYTES[dtype] * (9 if adaptive else 5) + 6 * protected
    loads = sum(8 + (0 if adaptive else 4) + length * token_bytes for length in lengths)
    stores = len(lengths) * (4 * capacity + (8 if adaptive else 4))
    return TileCost(0, rows * loads, rows * stores)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: k given, with and without protected tokens, and both budgets, for every element type."""
    for dtype in ELEMENT_BYTES:
        for protected in (False, True):
            yield build(dtype, default_blocks(1024, dtype, arch), GIVEN, protected)
        for budget in (THRESHOLD, LINEAR):
            yield build(dtype, default_blocks(1024, dtype, arch), budget)


def build(dtype: str, blocks: Blocks, budget: int, protected: bool = False) -> Build:
    """One compilation, for contiguous tensors."""
    tensors = {"s_ptr": f"*{dtype}", "protected_ptr": "*u8" if protected else f"*{dtype}", "gap_ptr": "*fp32"}
    tables = dict.fromkeys(("k_ptr", "cu_ptr", "kept_ptr", "count_ptr"), "*i32")
    strides = ("stride_sg", "stride_pg", "stride_kb", "stride_ob", "stride_og")
    return Build(
        kernel="top_k",
        label=f"{dtype} {'protected' if protected else ('given', 'threshold', 'linear')[budget]}",
        function=_top_k_kernel,
        arguments=tensors
        | tables
        | dict.fromkeys(("capacity", *strides), "i32")
        | dict.fromkeys(("b0", "b1", "b2", "b3", "b4"), "i64" if budget else "i32"),
        constants=dict.fromkeys(("stride_st", "stride_pt", "stride_kg"), 1)
        | {"BLOCK": blocks.n, "BUDGET": budget, "PROTECTED": protected},
        aligned=(*tensors, *tables),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0,
    )
