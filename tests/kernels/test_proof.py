"""The table of predicted and counted costs: every kernel, to the integer, and a wrong prediction is noticed."""

from __future__ import annotations

import json

import pytest

from asymsim_kernels.tiles import TileCost
from asymsim_kernels.tools import proof, proof_cases
from asymsim_kernels.tools.proof import KERNELS, prove
from asymsim_kernels.tools.proof_cases import Case, cases


def test_every_kernel_has_cases_that_differ_in_what_the_closed_forms_branch_on() -> None:
    found = list(cases())
    assert {case.kernel for case in found} == set(KERNELS)
    for kernel, needed in {
        "prefill": ("causal=0", "causal=1", "window=11", "+0+", "heads=7;kv_heads=1"),
        "column_mass": ("causal=0", "causal=1", "window=11", "+0+", "counted=5"),
        "decode": ("+0+", "heads=7;kv_heads=1", "entries=0;"),
        "scorer": ("weighted=1", "weighted=0", "text=0+20"),
        "top_k": ("adaptive=1", "protected=1", "+0;"),
    }.items():
        shapes = [case.shape for case in found if case.kernel == kernel]
        for part in needed:
            assert any(part in shape for shape in shapes), (kernel, part)


@pytest.mark.parametrize("kernel", KERNELS)
def test_predicted_is_counted(kernel: str) -> None:
    results = list(prove(case for case in cases() if case.kernel == kernel))
    assert results
    for result in results:
        assert result.predicted == result.counted, result
        assert result.instruction_flops >= result.counted["flops"]
        assert result.counted["store_bytes"] > 0


def test_a_wrong_prediction_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = next(case for case in cases() if case.kernel == "compact")
    off = TileCost(right.predicted.flops, right.predicted.load_bytes + 1, right.predicted.store_bytes)
    monkeypatch.setattr(proof_cases, "cases", lambda: iter([right, Case(*right[:3], off, right.launch)]))
    assert proof.main(["--json"]) == 1
    assert [row["equal"] for row in json.loads(capsys.readouterr().out)] == [True, False]
    assert proof.main([]) == 1
    shown = capsys.readouterr().out
    assert "DIFFERS" in shown
    assert "1 of 2 cases equal" in shown


def test_instructions_round_the_extents_of_16_bit_products_up() -> None:
    import torch
    import triton
    import triton.language as tl

    @triton.jit
    def product(x_ptr, y_ptr, o_ptr):
        i, j = tl.arange(0, 4), tl.arange(0, 8)
        x = tl.load(x_ptr + i[:, None] * 8 + j[None, :])
        y = tl.load(y_ptr + j[:, None] * 4 + i[None, :])
        tl.store(o_ptr + i[:, None] * 4 + i[None, :], tl.dot(x, y))

    for dtype, flops in ((torch.float16, 2 * 16 * 8 * 16), (torch.float32, 2 * 4 * 4 * 8)):
        x, y, o = torch.ones(4, 8, dtype=dtype), torch.ones(8, 4, dtype=dtype), torch.zeros(4, 4)
        case = Case("test", "", "", TileCost(2 * 4 * 4 * 8, 64 * x.element_size(), 64), lambda: product[(1,)](x, y, o))  # noqa: B023
        (result,) = prove([case])
        assert result.equal
        assert result.instruction_flops == flops
