"""DeSAP's decoupled similarity of visual tokens with the text, without the d1 x d2 matrix.

    m = A S^T,   alpha = A t,   beta = S v
    MV_ij = alpha_i exp(lambda beta_j m_ij)  / (d1 sum_k exp(lambda beta_k m_ik))     softmax over the text
    MT_ij = beta_j  exp(lambda alpha_i m_ij) / (d2 sum_k exp(lambda alpha_k m_kj))    softmax over the visual tokens
    score_i = 1/d2 sum_j (MV_ij + MT_ij) m_ij

A holds d1 visual rows and S d2 text rows in a joint space, v is the [CLS] row and t the [EOS] row (DeSAP, arXiv
2604.11240v1, method section). The first kernel leaves, for each visual tile and text token, the maximum and the sum of
the second softmax; the other combines these over the tiles, takes the first softmax online, and recomputes m.

Suffixes: V packed visual tokens, L packed text tokens, E joint size, B sequences, P visual tiles of the longest
sequence; in the kernels M and N are the rows of a visual and a text tile, and E one chunk of the joint size.
"""

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl

from asymsim_kernels import checks
from asymsim_kernels.scorer import chunk, longest_sequence
from asymsim_kernels.tiles import ELEMENT_BYTES, LOG2_E, Blocks, Build, TileCost, add, architecture, ceil_div

JOINT_SIZES = (512, 768, 1024)


@triton.jit
def _similarity_tile(
    a_at_M, s_at_N, side_ptr, row_M, column_N, stride_ae, stride_se, stride_side, end,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr, OF_ROWS: tl.constexpr,
):  # fmt: skip
    """m of a tile, and the product of its visual (OF_ROWS) or its text rows with one vector."""
    m_MN = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    side = tl.zeros([BLOCK_M if OF_ROWS else BLOCK_N], dtype=tl.float32)
    for e0 in range(0, end, BLOCK_E):
        e_E = e0 + tl.arange(0, BLOCK_E)
        inside_E = e_E < end
        a_ME = tl.load(a_at_M[:, None] + e_E[None, :] * stride_ae, mask=row_M[:, None] & inside_E[None, :], other=0.0)
        s_EN = tl.load(
            s_at_N[None, :] + e_E[:, None] * stride_se, mask=inside_E[:, None] & column_N[None, :], other=0.0
        )  # fmt: skip
        side_E = tl.load(side_ptr + e_E * stride_side, mask=inside_E, other=0.0).to(tl.float32)
        if OF_ROWS:
            side += tl.sum(a_ME.to(tl.float32) * side_E[None, :], 1)
        else:
            side += tl.sum(s_EN.to(tl.float32) * side_E[:, None], 0)
        m_MN = tl.dot(a_ME, s_EN, m_MN, input_precision="ieee")
    return m_MN, side


@triton.jit
def _column_statistics_kernel(
    a_ptr, s_ptr, eos_ptr, alpha_ptr, max_ptr, sum_ptr, cu_v_ptr, cu_t_ptr, scale,
    stride_av, stride_ae, stride_sl, stride_se, stride_eb, stride_ee, stride_p,
    JOINT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    sequence = tl.program_id(1)
    v_start = tl.load(cu_v_ptr + sequence)
    v_length = tl.load(cu_v_ptr + sequence + 1) - v_start
    t_start = tl.load(cu_t_ptr + sequence)
    t_length = tl.load(cu_t_ptr + sequence + 1) - t_start
    m_M = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    row_M = m_M < v_length
    # A tile past the sequence's end still leaves the statistics of no rows, -inf and 0, so that all are defined.
    end = tl.where(tile * BLOCK_M < v_length, JOINT, 0)

    v64_M = (v_start + m_M).to(tl.int64)
    a_at_M = a_ptr + v64_M * stride_av
    eos_at = eos_ptr + sequence * tl.cast(stride_eb, tl.int64)
    alpha_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    for n0 in range(0, t_length, BLOCK_N):
        n_N = n0 + tl.arange(0, BLOCK_N)
        column_N = n_N < t_length
        l64_N = (t_start + n_N).to(tl.int64)
        m_MN, alpha_M = _similarity_tile(
            a_at_M, s_ptr + l64_N * stride_sl, eos_at, row_M, column_N,
            tl.cast(stride_ae, tl.int64), tl.cast(stride_se, tl.int64), tl.cast(stride_ee, tl.int64), end,
            BLOCK_M, BLOCK_N, BLOCK_E, True,
        )  # fmt: skip
        x_MN = tl.where(row_M[:, None], scale * alpha_M[:, None] * m_MN, float("-inf"))
        max_N = tl.max(x_MN, 0)
        shift_N = tl.where(max_N == float("-inf"), 0.0, max_N)
        sum_N = tl.sum(tl.exp2(x_MN - shift_N[None, :]), 0)
        at_N = tile * tl.cast(stride_p, tl.int64) + l64_N
        tl.store(max_ptr + at_N, max_N, mask=column_N)
        tl.store(sum_ptr + at_N, sum_N, mask=column_N)
    tl.store(alpha_ptr + v64_M, alpha_M, mask=row_M)


@triton.jit
def _alignment_kernel(
    a_ptr, s_ptr, cls_ptr, alpha_ptr, max_ptr, sum_ptr, o_ptr, cu_v_ptr, cu_t_ptr, scale,
    stride_av, stride_ae, stride_sl, stride_se, stride_cb, stride_ce, stride_p,
    JOINT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    m0 = tl.program_id(0) * BLOCK_M
    sequence = tl.program_id(1)
    v_start = tl.load(cu_v_ptr + sequence)
    v_length = tl.load(cu_v_ptr + sequence + 1) - v_start
    if m0 >= v_length:
        return
    t_start = tl.load(cu_t_ptr + sequence)
    t_length = tl.load(cu_t_ptr + sequence + 1) - t_start
    m_M = m0 + tl.arange(0, BLOCK_M)
    row_M = m_M < v_length
    v64_M = (v_start + m_M).to(tl.int64)
    a_at_M = a_ptr + v64_M * stride_av
    alpha_M = tl.load(alpha_ptr + v64_M, mask=row_M, other=0.0)
    cls_at = cls_ptr + sequence * tl.cast(stride_cb, tl.int64)

    max_M = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    sum_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    over_text_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    over_visual_M = tl.zeros([BLOCK_M], dtype=tl.float32)
    for n0 in range(0, t_length, BLOCK_N):
        n_N = n0 + tl.arange(0, BLOCK_N)
        column_N = n_N < t_length
        l64_N = (t_start + n_N).to(tl.int64)
        m_MN, beta_N = _similarity_tile(
            a_at_M, s_ptr + l64_N * stride_sl, cls_at, row_M, column_N,
            tl.cast(stride_ae, tl.int64), tl.cast(stride_se, tl.int64), tl.cast(stride_ce, tl.int64), JOINT,
            BLOCK_M, BLOCK_N, BLOCK_E, False,
        )  # fmt: skip
        # Softmax over the visual tokens: its statistics from those of all visual tiles.
        top_N = tl.full([BLOCK_N], float("-inf"), dtype=tl.float32)
        total_N = tl.zeros([BLOCK_N], dtype=tl.float32)
        for tile in range(0, tl.cdiv(v_length, BLOCK_M)):
            at_N = tl.cast(tile, tl.int64) * stride_p + l64_N
            tile_max_N = tl.load(max_ptr + at_N, mask=column_N, other=0.0)
            tile_sum_N = tl.load(sum_ptr + at_N, mask=column_N, other=1.0)
            new_top_N = tl.maximum(top_N, tile_max_N)
            total_N = total_N * tl.exp2(top_N - new_top_N) + tile_sum_N * tl.exp2(tile_max_N - new_top_N)
            top_N = new_top_N
        share_MN = tl.exp2(scale * alpha_M[:, None] * m_MN - top_N[None, :]) * (beta_N / total_N)[None, :]
        # Columns past the text hold m = 0, and so add nothing.
        over_visual_M += tl.sum(share_MN * m_MN, 1)
        # Softmax over the text, online.
        x_MN = tl.where(column_N[None, :], scale * beta_N[None, :] * m_MN, float("-inf"))
        new_max_M = tl.maximum(max_M, tl.max(x_MN, 1))
        p_MN = tl.exp2(x_MN - new_max_M[:, None])
        shrink_M = tl.exp2(max_M - new_max_M)
        sum_M = sum_M * shrink_M + tl.sum(p_MN, 1)
        over_text_M = over_text_M * shrink_M + tl.sum(p_MN * m_MN, 1)
        max_M = new_max_M
    # Without text the sums are empty, and the score is 0.
    d2 = tl.maximum(t_length, 1).to(tl.float32)
    visual_M = alpha_M * over_text_M / (tl.where(t_length > 0, sum_M, 1.0) * v_length.to(tl.float32))
    tl.store(o_ptr + v64_M, (visual_M + over_visual_M / d2) / d2, mask=row_M)


def default_blocks(joint: int, dtype: str, arch: str) -> Blocks:
    """Visual and text rows of a tile, and scheduling, for a joint size, an element type and an architecture."""
    if dtype == "fp32":
        return Blocks(32, 32, 4, 2 if arch != "gfx942" else 1)
    # The addresses of a tile's rows leave few registers: less pipelining on sm_80, a narrower tile on sm_100.
    return {
        "sm_80": Blocks(64, 64, 4, 2),
        "sm_90": Blocks(64, 64, 4, 3),
        "sm_100": Blocks(64, 32, 4, 3),
        "gfx942": Blocks(64, 64, 4, 1),
    }[arch]


def text_alignment(
    a_VE: torch.Tensor,
    s_LE: torch.Tensor,
    cls_BE: torch.Tensor,
    eos_BE: torch.Tensor,
    cu_v: torch.Tensor,
    cu_t: torch.Tensor,
    *,
    sharpness: float = 0.1,
    max_v: int | None = None,
    validate: bool = True,
    blocks: Blocks | None = None,
) -> torch.Tensor:
    """DeSAP's text score A_t of every packed visual token.

    Parameters
    ----------
    a_VE, s_LE : Tensor
        Packed visual and text rows x joint size, fp16, bf16 or fp32, with any strides.
    cls_BE, eos_BE : Tensor
        v and t: one visual and one text vector a sequence.
    cu_v, cu_t : Tensor
        B + 1 cumulative lengths, int32.
    sharpness : float
        lambda, finite; 0.1 in the paper.
    max_v : int, optional
        Visual rows of the longest sequence; read back from the device otherwise.
    validate : bool
        Read the lengths back and check them; without it, and with `max_v`, nothing is synchronised.
    blocks : Blocks, optional
        Visual and text rows of a tile, powers of two of at least 16; `default_blocks` otherwise.

    Returns
    -------
    Tensor
        V scores, fp32; 0 in a sequence without text.

    Raises
    ------
    ValueError
        For shapes, types, devices, lengths or a lambda that do not fit.
    """
    dtype = checks.same_dtype(a_VE=a_VE, s_LE=s_LE, cls_BE=cls_BE, eos_BE=eos_BE)
    checks.same_device(a_VE=a_VE, s_LE=s_LE, cls_BE=cls_BE, eos_BE=eos_BE, cu_v=cu_v, cu_t=cu_t)
    checks.shape("a_VE", a_VE, (None, None), "visual rows, joint size")
    tokens, joint = a_VE.shape
    if joint < 1:
        checks.fail("a_VE.shape", tuple(a_VE.shape), "the joint size must be at least 1")
    checks.shape("s_LE", s_LE, (None, joint), "text rows, joint size of a_VE")
    longest = longest_sequence("cu_v", cu_v, tokens, max_v, validate)
    checks.shape("cu_t", cu_t, tuple(cu_v.shape), "as cu_v")
    longest_sequence("cu_t", cu_t, s_LE.shape[0], 0, validate)
    sequences = cu_v.numel() - 1
    for name, tensor in (("cls_BE", cls_BE), ("eos_BE", eos_BE)):
        checks.shape(name, tensor, (sequences, joint), "sequences, joint size of a_VE")
    if not abs(sharpness) < float("inf"):
        checks.fail("sharpness", sharpness, "must be finite")

    o_V = torch.empty(tokens, dtype=torch.float32, device=a_VE.device)
    if tokens == 0:
        return o_V
    blocks = blocks or default_blocks(joint, dtype, architecture(a_VE.device))
    tiles = ceil_div(longest, blocks.m)
    alpha_V = torch.empty_like(o_V)
    max_PL = torch.empty((tiles, s_LE.shape[0]), dtype=torch.float32, device=a_VE.device)
    sum_PL = torch.empty_like(max_PL)
    strides = (*a_VE.stride(), *s_LE.stride())
    constants = {
        "JOINT": joint, "BLOCK_M": blocks.m, "BLOCK_N": blocks.n, "BLOCK_E": chunk(joint, dtype),
        "num_warps": blocks.warps, "num_stages": blocks.stages,
    }  # fmt: skip
    _column_statistics_kernel[(tiles, sequences)](
        a_VE, s_LE, eos_BE, alpha_V, max_PL, sum_PL, cu_v, cu_t, sharpness * LOG2_E,
        *strides, *eos_BE.stride(), max_PL.stride(0), **constants,
    )  # fmt: skip
    _alignment_kernel[(tiles, sequences)](
        a_VE, s_LE, cls_BE, alpha_V, max_PL, sum_PL, o_V, cu_v, cu_t, sharpness * LOG2_E,
        *strides, *cls_BE.stride(), max_PL.stride(0), **constants,
    )  # fmt: skip
    return o_V


def cost(v_lengths: Sequence[int], t_lengths: Sequence[int], joint: int, dtype: str, blocks: Blocks) -> TileCost:
    """What both passes of `text_alignment` execute, in closed form.

    A sequence of d1 visual and d2 text rows has a = ceil(d1/BM) visual and b = ceil(d2/BN) text tiles. Each pass takes
    2 a b BM BN E FLOPs (E rounded up to whole chunks) and loads b d1 E elements of A, a d2 E of S and a b E of the
    [EOS] or [CLS] row. Between them lie alpha (d1) and P x d2 maxima and sums, of which the second pass reads a x d2
    in each of its a programs.
    """
    element = ELEMENT_BYTES[dtype]
    step = chunk(joint, dtype)
    tiles = ceil_div(max(v_lengths, default=0), blocks.m)
    costs = []
    for visual, text in zip(v_lengths, t_lengths, strict=True):
        a, b = ceil_div(visual, blocks.m), ceil_div(text, blocks.n)
        flops = a * b * 2 * blocks.m * blocks.n * ceil_div(joint, step) * step
        loads = (b * visual + a * text + a * b) * joint * element
        costs.append(TileCost(flops, loads + 16 * tiles, 4 * visual + 8 * tiles * text))
        costs.append(TileCost(flops, loads + 8 * (tiles + a) + 4 * visual + 8 * a * a * text, 4 * visual))
    return add(costs)


def builds(arch: str) -> Iterator[Build]:
    """What ships on `arch`: both kernels for every element type and common joint sizes."""
    for dtype in ELEMENT_BYTES:
        for joint in JOINT_SIZES:
            for first in (True, False):
                yield build(joint, dtype, default_blocks(joint, dtype, arch), first)


def build(joint: int, dtype: str, blocks: Blocks, first: bool) -> Build:
    """One compilation of the first or the second pass, for contiguous tensors."""
    side, batch = ("eos_ptr", "stride_eb") if first else ("cls_ptr", "stride_cb")
    tensors = dict.fromkeys(("a_ptr", "s_ptr", side), f"*{dtype}")
    tensors |= dict.fromkeys(("alpha_ptr", "max_ptr", "sum_ptr", *(() if first else ("o_ptr",))), "*fp32")
    tables = dict.fromkeys(("cu_v_ptr", "cu_t_ptr"), "*i32")
    strides = ("stride_av", "stride_sl", batch)
    step = chunk(joint, dtype)
    return Build(
        kernel="similarity",
        label=f"{dtype} d{joint} pass {1 if first else 2}",
        function=_column_statistics_kernel if first else _alignment_kernel,
        arguments=tensors | tables | {"scale": "fp32"} | dict.fromkeys((*strides, "stride_p"), "i32"),
        constants=dict.fromkeys(("stride_ae", "stride_se", "stride_ee" if first else "stride_ce"), 1)
        | {"JOINT": joint, "BLOCK_M": blocks.m, "BLOCK_N": blocks.n, "BLOCK_E": step},
        aligned=(*tensors, *tables, *(strides if joint % 16 == 0 else ())),
        warps=blocks.warps,
        stages=blocks.stages,
        matrix_flops=0 if dtype == "fp32" else 2 * blocks.m * blocks.n * step,
    )
