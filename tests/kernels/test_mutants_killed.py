"""What faults planted by studies/01_mutation_check.py showed to be untested: each tensor alone with odd strides."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch

from asymsim_kernels.adaptive_budget import LinearBudget
from asymsim_kernels.column_mass import column_mass
from asymsim_kernels.compact import compact
from asymsim_kernels.decode import decode_attention
from asymsim_kernels.layout import pack_layout
from asymsim_kernels.merge_states import merge_states
from asymsim_kernels.merge_tokens import merge_tokens, plan_merge
from asymsim_kernels.prefill import prefill_attention
from asymsim_kernels.scorer import relevance_scores
from asymsim_kernels.similarity import text_alignment
from asymsim_kernels.tiles import Blocks
from asymsim_kernels.top_k import top_k

Launch = Callable[[dict[str, torch.Tensor]], Any]
TILES = Blocks(16, 16)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def cumulative(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)


def laid_out_oddly(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with steps of 3 along the first axis and 2 along the others, and poison between them."""
    steps = [3, *[2] * (tensor.dim() - 1)]
    extents = [step * size + 1 for step, size in zip(steps, tensor.shape, strict=True)]
    poison = torch.nan if tensor.is_floating_point() else True if tensor.dtype == torch.bool else 10**6
    buffer = torch.full(extents, poison, dtype=tensor.dtype)
    view = buffer[tuple(slice(1, None, step) for step in steps)]
    view.copy_(tensor)
    return view


CU = cumulative(19, 0, 14)
LAYOUT = pack_layout(CU)
INDICES = torch.tensor([[[0, 2, 5], [1, 3, 4]]], dtype=torch.int32)
CASES: dict[str, tuple[dict[str, torch.Tensor], Launch]] = {
    "prefill": (
        {"q": normal(33, 4, 20), "k": normal(33, 2, 20), "v": normal(33, 2, 20) + 1},
        lambda t: prefill_attention(t["q"], t["k"], t["v"], LAYOUT, blocks=TILES),
    ),
    "column_mass": (
        {"q": normal(33, 4, 20), "k": normal(33, 2, 20), "lse": normal(4, 33).abs() + 3},
        lambda t: column_mass(t["q"], t["k"], t["lse"], LAYOUT, blocks=TILES),
    ),
    "decode": (
        {
            "q": normal(2, 4, 20),
            "k": normal(2, 2, 37, 20),
            "v": normal(2, 2, 37, 20) + 1,
            "lengths": torch.tensor([[37, 5], [18, 30]], dtype=torch.int32),
        },
        lambda t: decode_attention(t["q"], t["k"], t["v"], t["lengths"], splits=2, blocks=Blocks(0, 16)),
    ),
    "merge_states": (
        {"parts": normal(5, 3, 20), "lse": normal(5, 3)},
        lambda t: merge_states(t["parts"], t["lse"]),
    ),
    "scorer": (
        {"v": normal(33, 40), "t": normal(9, 40), "w": normal(40)},
        lambda t: relevance_scores(t["v"], t["t"], CU, cumulative(4, 3, 2), t["w"], blocks=TILES),
    ),
    "similarity": (
        {"a": normal(33, 40), "s": normal(9, 40), "cls": normal(3, 40), "eos": normal(3, 40) + 1},
        lambda t: text_alignment(t["a"], t["s"], t["cls"], t["eos"], CU, cumulative(4, 3, 2), blocks=TILES),
    ),
    "top_k": (
        {
            "scores": normal(2, 33),
            "k": torch.tensor([[5, 7], [0, 0], [3, 9]], dtype=torch.int32),
            "protected": torch.arange(66).reshape(2, 33) % 11 == 0,
        },
        lambda t: top_k(t["scores"], CU, t["k"], t["protected"], blocks=Blocks(1, 16, 4, 1))[:2],
    ),
    "adaptive budget": (
        {"scores": normal(2, 33)},
        lambda t: top_k(t["scores"], CU, LinearBudget(0.5, -0.2, 1.0, 0.2, 0.8), blocks=Blocks(1, 16, 4, 1)),
    ),
    "merge_tokens": (
        {"x": normal(33, 40)},
        lambda t: merge_tokens(
            t["x"], plan_merge((torch.arange(33) % 4).int(), cumulative(19, 0, 14), cumulative(4, 0, 4))
        ),
    ),
    "compact": (
        {
            "k": normal(1, 2, 6, 20),
            "v": normal(1, 2, 6, 20) + 1,
            "positions": torch.arange(12, dtype=torch.int32).reshape(1, 2, 6) * 5,
            "kept": INDICES,
            "counts": torch.full((1, 2), 3, dtype=torch.int32),
        },
        lambda t: compact(t["k"], t["v"], t["positions"], t["kept"], t["counts"]),
    ),
}


@pytest.mark.parametrize(
    ("kernel", "odd"), [(kernel, name) for kernel, (tensors, _) in CASES.items() for name in tensors]
)
def test_each_tensor_is_read_by_its_own_strides(kernel: str, odd: str) -> None:
    tensors, launch = CASES[kernel]
    view = laid_out_oddly(tensors[odd])
    assert not view.is_contiguous()
    plain, found = launch(tensors), launch(tensors | {odd: view})
    pairs = zip(plain, found, strict=True) if isinstance(plain, tuple) else [(plain, found)]
    for expected, got in pairs:
        assert torch.equal(expected, got)
