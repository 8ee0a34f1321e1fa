"""AsymVLM's query-conditioned score of visual tokens, without the N x L similarity matrix.

    s_i = max_j sum_d (v_id / |v_i|) w_d (t_jd / |t_j|)

v_i are projected visual tokens, t_j the text embeddings of the same sequence and w a learnt vector (AsymVLM, arXiv
2605.29535v1, method section). The norms are taken while the products run, so a visual tile is read once for each text
tile, which for a question of up to BLOCK_N tokens means once.

Suffixes: V packed visual tokens, L packed text tokens, D hidden size, B sequences; in the kernel M and N are the rows
of a visual and a text tile, and D one chunk of the hidden size.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.tiles import ELEMENT_BYTES, Blocks, Build, TileCost, architecture, ceil_div, padded_size

HIDDEN_SIZES = (1024, 3072, 4096)


@triton.jit
def _scorer_kernel(
    v_ptr, t_ptr, w_ptr, s_ptr, cu_v_ptr, cu_t_ptr,
    stride_vv, stride_vd, stride_tl, stride_td, stride_wd,
    HIDDEN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    m0 = tl.program_id(0) * BLOCK_M
    sequence = tl.program_id(1)
    v_start = tl.load(cu_v_ptr + sequence)
    v_length = tl.load(cu_v_ptr + sequence + 1) - v_start
    if m0 >= v_length:
        return
    t_start = tl.load(cu_t_ptr + sequence)
    t_length = tl.load(cu_t_ptr + sequence + 1) - t_start

    # Rows times strides pass 2^31 in long batches, and so may columns of a transposed view.
    m_M = m0 + tl.arange(0, BLOCK_M)
    row_M = m_M < v_length
    v_at_M = v_ptr + (v_start + m_M).to(tl.int64) * stride_vv
    step_v = tl.cast(stride_vd, tl.int64)
    step_t = tl.cast(stride_td, tl.int64)
    step_w = tl.cast(stride_wd, tl.int64)
    best_M = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    nan_M = tl.zeros([BLOCK_M], dtype=tl.int32)
    v2_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    for n0 in range(0, t_length, BLOCK_N):
        n_N = n0 + tl.arange(0, BLOCK_N)
        column_N = n_N < t_length
        t_at_N = t_ptr + (t_start + n_N).to(tl.int64) * stride_tl
        acc_MN = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
        v2_M = tl.zeros([BLOCK_M], dtype=tl.float32)
        t2_N = tl.zeros([BLOCK_N], dtype=tl.float32)
        for d0 in range(0, HIDDEN, BLOCK_D):
            d_D = d0 + tl.arange(0, BLOCK_D)
            inside_D = d_D < HIDDEN
            v_MD = tl.load(
                v_at_M[:, None] + d_D[None, :] * step_v, mask=row_M[:, None] & inside_D[None, :], other=0.0
            )  # fmt: skip
            t_DN = tl.load(
                t_at_N[None, :] + d_D[:, None] * step_t, mask=inside_D[:, None] & column_N[None, :], other=0.0
            )  # fmt: skip
            wide_MD = v_MD.to(tl.float32)
            wide_DN = t_DN.to(tl.float32)
            v2_M += tl.sum(wide_MD * wide_MD, 1)
            t2_N += tl.sum(wide_DN * wide_DN, 0)
            if WEIGHTED:
                w_D = tl.load(w_ptr + d_D * step_w, mask=inside_D, other=0.0)
                v_MD = (wide_MD * w_D.to(tl.float32)[None, :]).to(v_MD.dtype)
            acc_MN = tl.dot(v_MD, t_DN, acc_MN, input_precision="ieee")
        s_MN = acc_MN / tl.maximum(tl.sqrt(t2_N), 1e-12)[None, :]
        s_MN = tl.where(column_N[None, :], s_MN, float("-inf"))
        # The hardware's maximum drops NaN, which would hide a broken row behind a plausible score.
        nan_M = tl.maximum(nan_M, tl.max((s_MN != s_MN).to(tl.int32), 1))
        best_M = tl.maximum(best_M, tl.max(s_MN, 1))
    s_M = best_M / tl.maximum(tl.sqrt(v2_M), 1e-12)
    s_M = tl.where(nan_M > 0, float("nan"), s_M)
    tl.store(s_ptr + v_start.to(tl.int64) + m_M, s_M, mask=row_M)


def default_blocks(hidden: int, dtype: str, arch: str) -> Blocks:
    """Visual and text rows of a tile, and scheduling, for a hidden size, an element type and an architecture."""
    if dtype == "fp32":
        return Blocks(32, 32, 4, 2 if arch != "gfx942" else 1)
    if arch == "gfx942":
        return Blocks(64, 64, 4, 1)
    # The addresses of a tile's rows overfill the registers of four warps on sm_80.
    return Blocks(64, 64, 8 if arch == "sm_80" else 4, 3)


def chunk(hidden: int, dtype: str) -> int:
    """Columns of the hidden size that a step takes: 128 bytes of each row."""
    return min(128 // ELEMENT_BYTES[dtype], padded_size(hidden))


def relevance_scores(
    v_VD: torch.Tensor,
    t_LD: torch.Tensor,
    cu_v: torch.Tensor,
    cu_t: torch.Tensor,
    weight_D: torch.Tensor | None = None,
    *,
    max_v: int | None = None,
    validate: bool = True,
    blocks: Blocks | None = None,
) -> torch.Tensor:
    """Score every packed visual token by its most similar text token.

    Parameters
    ----------
    v_VD, t_LD : Tensor
        Packed visual and text tokens x hidden size, fp16, bf16 or fp32, with any strides. Norms below 1e-12 count as
        1e-12, so a zero row scores 0.
    cu_v, cu_t : Tensor
        B + 1 cumulative lengths, int32.
    weight_D : Tensor, optional
        w, in any of the three types; all ones, plain cosine similarity, by default. w v is rounded to the type of
        `v_VD`, whose range it must not leave.
    max_v : int, optional
        Visual tokens of the longest sequence; read back from the device otherwise.
    validate : bool
        Read the lengths back and check them; without it, and with `max_v`, nothing is synchronised.
    blocks : Blocks, optional
        Visual and text rows of a tile, powers of two of at least 16; `default_blocks` otherwise.

    Returns
    -------
    Tensor
        V scores, fp32: -inf in a sequence without text, NaN where the token or any text token of its sequence holds
        NaN or an infinity.

    Raises
    ------
    ValueError
        For shapes, types, devices or lengths that do not fit.
    """
    dtype = checks.same_dtype(v_VD=v_VD, t_LD=t_LD)
    tensors = {"v_VD": v_VD, "t_LD": t_LD, "cu_v": cu_v, "cu_t": cu_t}
    checks.same_device(**tensors, **({} if weight_D is None else {"weight_D": weight_D}))
    checks.shape("v_VD", v_VD, (None, None), "visual tokens, hidden size")
    tokens, hidden = v_VD.shape
    if hidden < 1:
        checks.fail("v_VD.shape", tuple(v_VD.shape), "the hidden size must be at least 1")
    checks.shape("t_LD", t_LD, (None, hidden), "text tokens, hidden size of v_VD")
    if weight_D is not None:
        checks.floating("weight_D", weight_D)
        checks.shape("weight_D", weight_D, (hidden,), "hidden size of v_VD")
    longest = longest_sequence("cu_v", cu_v, tokens, max_v, validate)
    checks.shape("cu_t", cu_t, tuple(cu_v.shape), "as cu_v")
    longest_sequence("cu_t", cu_t, t_LD.shape[0], 0, validate)
    scores_V = torch.empty(tokens, dtype=torch.float32, device=v_VD.device)
    if tokens == 0:
        return scores_V
    blocks = blocks or default_blocks(hidden, dtype, architecture(v_VD.device))
    _scorer_kernel[(ceil_div(longest, blocks.m), cu_v.numel() - 1)](
        v_VD, t_LD, v_VD if weight_D is None else weight_D, scores_V, cu_v, cu_t,
        *v_VD.stride(), *t_LD.stride(), 1 if weight_D is None else weight_D.stride(0),
        HIDDEN=hidden, BLOCK_M=blocks.m, BLOCK_N=blocks.n, BLOCK_D=chunk(hidden, dtype),
        WEIGHTED=weight_D is not None, num_warps=blocks.warps, num_stages=blocks.stages,
    )  # fmt: skip
    return scores_V


def longest_sequence(name: str, cu: torch.Tensor, rows: int, given: int | None, validate: bool) -> int:
    """Rows of the longest sequence: as given, or read back from the cumulative lengths, which are then checked."""
    checks.integers(name, cu)
    checks.shape(name, cu, (None,), "cumulative lengths")
    checks.below_int32(f"rows of {name}", rows)
    if given is not None and not validate:
        return given
    starts: list[int] = cu.tolist()
    if not starts or starts[0] != 0 or starts[-1] != rows:
        checks.fail(name, f"{starts[:1]} to {starts[-1:]}", f"must begin with 0 and end with the {rows} rows packed")
    for i, (low, high) in enumerate(pairwise(starts)):
        if high < low:
            checks.fail(f"{name}[{i + 1}]", high, f"must not be below {name}[{i}] = {low}")
    return max((high - low for low, high in pairwise(starts)), default=0)


def cost(
    v_lengths: Sequence[int],
    t_lengths: Sequence[int],
    hidden: int,
    dtype: str,
    blocks: Blocks,
    weight_dtype: str | None = None,
) -> TileCost:
    """What `relevance_scores` executes, in closed form.

    A sequence of N visual and L text tokens has a = ceil(N/BM) visual and b = ceil(L/BN) text tiles: 2 a b BM BN D
    FLOPs (D rounded up to whole chunks); b N D elements of v, a L D of t and a b D of w loaded; N scores stored.
    """
    element = ELEMENT_BYTES[dtype]
    step = chunk(hidden, dtype)
    tiles_in_grid = ceil_div(max(v_lengths, default=0), blocks.m)
    flops = loads = stores = 0
    for visual, text in zip(v_lengths, t_lengths, strict=True):
        a, b = ceil_div(visual, blocks.m), ceil_div(text, blocks.n)
        flops += a * b * 2 * blocks.m * blocks.n * ceil_div(hidden, step) * step
        # Every program reads its sequence's two bounds in cu_v, and those with rows the two in cu_t.
        loads += 8 * (tiles_in_grid + a) + (b * visual + a * text) * hidden * element
        if weight_dtype is not None:
            loads += a * b * hidden * ELEMENT_BYTES[weight_dtype]
        stores += 4 * visual
    return TileCost(flops, loads, stores)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: every element type and common hidden sizes, with the learnt weights in fp32."""
    for dtype in ELEMENT_BYTES:
        for hidden in HIDDEN_SIZES:
            yield build(hidden, dtype, default_blocks(hidden, dtype, arch))


def build(hidden: int, dtype: str, blocks: Blocks) -> Build:
    """One compilation, for contiguous tensors."""
    tensors = dict.fromkeys(("v_ptr", "t_ptr"), f"*{dtype}") | dict.fromkeys(("w_ptr", "s_ptr"), "*fp32")
    tables = dict.fromkeys(("cu_v_ptr", "cu_t_ptr"), "*i32")
    strides = ("stride_vv", "stride_tl")
    step = chunk(hidden, dtype)
    return Build(
        kernel="scorer",
        label=f"{dtype} d{hidden}",
        function=_scorer_kernel,
        arguments=tensors | tables | dict.fromkeys(strides, "i32"),
        constants=dict.fromkeys(("stride_vd", "stride_td", "stride_wd"), 1)
        | {"HIDDEN": hidden, "BLOCK_M": blocks.m, "BLOCK_N": blocks.n, "BLOCK_D": step, "WEIGHTED": True},
        aligned=(*tensors, *tables, *(strides if hidden % 16 == 0 else ())),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0 if dtype == "fp32" else 2 * blocks.m * blocks.n * step,
    )
