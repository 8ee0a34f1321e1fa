"""Bad arguments of launchers raise one clear ValueError before anything runs."""

from __future__ import annotations

import pytest
import torch

from asymsim_kernels import checks
from asymsim_kernels.column_mass import column_mass
from asymsim_kernels.decode import decode_attention
from asymsim_kernels.layout import pack_layout
from asymsim_kernels.merge_states import merge_states
from asymsim_kernels.prefill import prefill_attention
from asymsim_kernels.tiles import Blocks
from oracles.kernel_cases import cumulative

Q, K = torch.zeros(5, 4, 16), torch.zeros(5, 2, 16)
LAYOUT = pack_layout(cumulative([5]))
LSE = torch.zeros(4, 5)
DQ, DK, LENGTHS = torch.zeros(2, 4, 16), torch.zeros(2, 2, 9, 16), torch.zeros(2, 2, dtype=torch.int32)


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Q.double(), K, K), r"q_THD.dtype = torch.float64: must be one of torch.float16"),
        ((Q, K.half(), K), r"k_SGD.dtype = torch.float16: must be torch.float32, that of q_THD"),
        ((Q, K, K.to("meta")), r"v_SGD.device = meta: must be cpu, that of q_THD"),
        ((Q[0], K, K), r"q_THD.shape = \(4, 16\): must have 3 axes"),
        ((Q[:4], K, K), r"q_THD.shape = \(4, 4, 16\): must be \(5, any, any\)"),
        ((Q, K[:3], K), r"k_SGD.shape = \(3, 2, 16\): must be \(5, any, 16\)"),
        ((Q, K[..., :8], K), r"k_SGD.shape"),
        ((Q, K, K[:, :1]), r"v_SGD.shape = \(5, 1, 16\): must be \(5, 2, 16\)"),
        ((Q[:, :3], K, K), r"query heads = 3: must be a positive multiple of the KV heads \(2\)"),
        ((torch.zeros(5, 4, 256), torch.zeros(5, 2, 256), K), r"head size = 256: must be from 1 to 128"),
    ],
)
def test_prefill(arguments, message):
    with pytest.raises(ValueError, match=message):
        prefill_attention(*arguments, LAYOUT)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match=r"scale = .*: must be positive and finite"):
        prefill_attention(Q, K, K, LAYOUT, scale=scale)


@pytest.mark.parametrize("blocks", [Blocks(8, 16), Blocks(16, 24), Blocks(0, 16)])
def test_tiles_must_be_powers_of_two(blocks):
    with pytest.raises(ValueError, match=r"blocks\.[mn] = .*: must be a power of two of at least 16"):
        prefill_attention(Q, K, K, LAYOUT, blocks=blocks)


@pytest.mark.parametrize(
    ("cu_q", "options", "message"),
    [
        (torch.tensor([0, 5]), {}, "cu_q.dtype = torch.int64: must be torch.int32"),
        (ints(1, 5), {}, r"cu_q = \[1, 5\]: must begin with 0"),
        (ints(), {}, r"cu_q = \[\]: must begin with 0"),
        (ints(0, 5, 3), {}, r"cu_q\[2\] = 3: must not be below cu_q\[1\] = 5"),
        (ints(0, 5), {"cu_k": ints(0, 2, 5)}, "cu_k = 3 entries: must have as many as cu_q"),
        (ints(0, 5), {"window": 0}, "window = 0: must be at least 1"),
        (ints(0, 3), {"k_positions": ints(0, 2, 1)}, r"k_positions\[2\] = 1: must not be below k_positions\[1\] = 2"),
        (ints(0, 3), {"q_positions": ints(4, 2, 3)}, r"q_positions\[1\] = 2: must not be below"),
        (ints(0, 3), {"k_positions": ints(-1, 2, 3)}, "k_positions = -1: positions must not be negative"),
        (ints(0, 3), {"k_positions": ints(1, 2)}, r"k_positions.shape = \(2,\): must be \(3\)"),
        (ints(0, 3), {"k_positions": torch.arange(3)}, "k_positions.dtype = torch.int64"),
        (ints(0, 5), {"cu_k": ints(0, 3)}, "q_positions = None: sequence 0 has 5 queries and 3 keys"),
    ],
)
def test_layout(cu_q, options, message):
    with pytest.raises(ValueError, match=message):
        pack_layout(cu_q, **options)


def test_positions_may_fall_between_sequences():
    layout = pack_layout(ints(0, 2, 2, 4), q_positions=ints(5, 9, 0, 1), k_positions=ints(5, 9, 0, 1))
    assert layout.last.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_BHD": DQ.int()}, "q_BHD.dtype = torch.int32"),
        ({"v_BGCD": DK[:, :, :8]}, r"v_BGCD.shape = \(2, 2, 8, 16\): must be \(2, 2, 9, 16\)"),
        ({"k_BGCD": DK[:1]}, r"k_BGCD.shape"),
        ({"lengths_BG": LENGTHS.long()}, "lengths_BG.dtype = torch.int64: must be torch.int32"),
        ({"lengths_BG": LENGTHS[0]}, r"lengths_BG.shape = \(2,\): must have 2 axes"),
        ({"lengths_BG": LENGTHS + 10}, "lengths_BG = 10: lengths must not exceed the cache's capacity of 9"),
        ({"lengths_BG": LENGTHS - 1}, "lengths_BG = -1: lengths must not be negative"),
        ({"splits": 0}, "splits = 0: must be from 1 to 64"),
        ({"splits": 65}, "splits = 65"),
        ({"blocks": Blocks(0, 8)}, "blocks.n = 8"),
        ({"q_BHD": torch.zeros(2, 130, 16)}, "query heads a KV head = 65: must be at most 64"),
    ],
)
def test_decode(change, message):
    arguments = {"q_BHD": DQ, "k_BGCD": DK, "v_BGCD": DK, "lengths_BG": LENGTHS, "splits": 1} | change
    with pytest.raises(ValueError, match=message):
        decode_attention(**arguments)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Q, K, LSE.half(), LAYOUT), {}, "lse_HT.dtype = torch.float16: must be torch.float32"),
        ((Q, K, LSE.T, LAYOUT), {}, r"lse_HT.shape = \(5, 4\): must be \(4, 5\)"),
        ((Q, K, LSE, LAYOUT), {"queries": slice(None, None, 2)}, "queries = .*: must be a slice without a step"),
        ((Q, K, LSE.to("meta"), LAYOUT), {}, "lse_HT.device = meta"),
    ],
)
def test_column_mass(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        column_mass(*arguments, **options)


def test_merge_states():
    with pytest.raises(ValueError, match=r"lse_RP.shape = \(2, 4\): must be \(2, 3\)"):
        merge_states(torch.zeros(2, 3, 16), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"lse_RP.dtype"):
        merge_states(torch.zeros(2, 3, 16), torch.zeros(2, 3).half())


def test_indices_beyond_int32_are_refused():
    with pytest.raises(ValueError, match="must be at most 2147483647, since kernels index it in int32"):
        checks.below_int32("packed tokens x query heads", 2**31)
