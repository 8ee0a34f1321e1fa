"""Rows of a comparison against single estimates of the same scenarios, GPU by GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asymsim.analysis.comparison import compare, savings_curves
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError

LLAVA = Scenario(model="llava-1.5-7b", output_tokens=3)


def test_figures_of_a_row_are_those_of_the_estimate() -> None:
    dense, row = compare(LLAVA, ["fastv"], budget=0.25, match="keep")
    one = estimate(replace(LLAVA, method="fastv", keep=0.25))
    latency, saved = one.latency, one.savings
    assert row["selection_share_of_ttft"] == pytest.approx((latency.selection_s.p50 or 0) / (latency.ttft_s.p50 or 1))
    assert 0 < row["selection_share_of_ttft"] < 1
    expected = {
        "ttft_s": latency.ttft_s.p50,
        "ttft_saved": saved.ttft,
        "tpot_s": latency.tpot_s.p50,
        "tpot_saved": saved.tpot,
        "e2e_s": latency.e2e_s.p50,
        "e2e_saved": saved.e2e,
        "prefill_flops_saved": saved.prefill_flops,
        "flops_saved": saved.flops,
        "kv_saved": saved.kv_bytes,
        "peak_memory_saved": saved.peak_bytes,
        "mean_visual_tokens": one.schedule.mean_visual_tokens,
        "fits": one.memory.fits,
    }
    assert {name: row[name] for name in expected} == expected
    # Two layers of 576 tokens and thirty of 144.
    assert row["kept_share"] == pytest.approx((2 * 576 + 30 * 144) / 32 / 576)
    assert (dense["method"], dense["kept_share"], dense["ttft_saved"], dense["slower"]) == ("none", 1.0, 0.0, "")


def test_each_gpu_has_its_own_times() -> None:
    rows = savings_curves(["llava-1.5-7b"], ["h100_sxm", "l4"], ["fastv"], [0.5], output_tokens=3)
    assert [row["gpu"] for row in rows] == ["h100_sxm", "l4"]
    for row in rows:
        one = estimate(replace(LLAVA, gpu=row["gpu"], method="fastv", keep=row["keep"]))
        assert row["ttft_s"] == one.latency.ttft_s.p50
        assert row["e2e_saved"] == one.savings.e2e


def test_what_takes_no_longer_is_not_called_slower() -> None:
    (row,) = savings_curves(["llava-1.5-7b"], methods=["none"], budgets=[1.0])
    assert (row["ttft_saved"], row["slower"]) == (0.0, "")


@pytest.mark.parametrize("key", ["layer", "fastv", "dart.layer"])
def test_a_setting_names_its_method(key: str) -> None:
    with pytest.raises(InputError, match=r"method\.setting"):
        compare(LLAVA, ["fastv"], settings={key: 3})
