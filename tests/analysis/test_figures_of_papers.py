"""Quantities that papers print, from counts and times that are worked out beside them."""

from __future__ import annotations

import pytest

from asymsim.analysis.published_figures import UNITS, Figure, Table
from asymsim.analysis.quantities import COUNTED, QUANTITIES, TIMES
from asymsim.analysis.reproduce import scenario_of, summary
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario

# LLaVA-1.5-7B: 32 layers of width 4096 and FFN 11008; 2 x 4096 cached elements of 2 bytes a token and layer.
KV_BYTES = 32 * 2 * 4096 * 2


def half(**changed: object) -> Scenario:
    values: dict[str, object] = {"method": "asymvlm", "keep": 0.5, "settings": {"budget": "uniform"}}
    return Scenario(model="llava-1.5-7b", **{"visual_tokens": 576, **values, **changed})  # type: ignore[arg-type]


def test_counts_of_half_of_the_tokens() -> None:
    counts = {name: quantity(half()) for name, quantity in COUNTED.items() if name != "alignment_flops"}
    assert counts["retained_tokens"] == 288
    assert counts["kv_bytes_per_token"] == KV_BYTES
    assert counts["retained_kv_bytes"] == 288 * KV_BYTES
    assert counts["retained_kv_saved"] == 0.5
    assert counts["attention_matrix_saved"] == 0.75
    assert counts["prefill_flops"] == estimate(half()).flops.prefill
    dense = estimate(half(method="none", keep=None, settings={})).flops.prefill
    share_left = counts["prefill_flops"] / dense
    assert counts["prefill_flops_saved"] == pytest.approx(1 - share_left)
    assert counts["prefill_flops_left"] == pytest.approx(share_left)
    assert counts["prefill_flops_times_fewer"] == pytest.approx(1 / share_left)


def test_the_largest_layer_decides_the_attention_matrix() -> None:
    # FastV shows two layers everything, so that nothing is saved there; 30 of 32 keep half.
    scenario = half(method="fastv", settings={"layer": 2})
    assert QUANTITIES["attention_matrix_saved"](scenario) == 0.0
    # A layer after which tokens leave counts with what is left: one of 576, 31 of 288.
    assert QUANTITIES["retained_tokens"](scenario) == pytest.approx((576 + 31 * 288) / 32)


def test_half_of_an_odd_number_of_tokens_is_a_fraction() -> None:
    scenario = half(visual_tokens=577, convention="desap")
    n = 288.5
    layer = 4 * n * 4096**2 + 2 * n * n * 4096 + 3 * n * 4096 * 11008
    assert QUANTITIES["prefill_flops_of_fractions"](scenario) == pytest.approx(32 * layer, rel=1e-12)


def test_desap_s_product_is_of_all_visual_and_all_text_tokens() -> None:
    scenario = half(method="desap", settings={"text_tower_tokens": 30})
    assert QUANTITIES["alignment_flops"](scenario) == 2 * 576 * 30 * 768


def test_times_and_their_ratios() -> None:
    pruned, dense = half(), half(method="none", keep=None, settings={})
    pruned_latency, dense_latency = estimate(pruned).latency, estimate(dense).latency
    times = {name: quantity(pruned) for name, quantity in TIMES.items()}
    selection, prefill = pruned_latency.selection_s.p50, pruned_latency.prefill_s.p50
    assert selection
    assert prefill
    assert times["prefill_time"] == pytest.approx(selection + prefill)
    assert times["ttft"] == pruned_latency.ttft_s.p50
    assert times["ttft_speedup"] == pytest.approx((dense_latency.ttft_s.p50 or 0) / (pruned_latency.ttft_s.p50 or 1))
    assert times["e2e_speedup"] == pytest.approx((dense_latency.e2e_s.p50 or 0) / (pruned_latency.e2e_s.p50 or 1))
    assert times["prefill_speedup"] == pytest.approx((dense_latency.prefill_s.p50 or 0) / (selection + prefill))


def test_units_are_decimal_but_for_mib() -> None:
    assert UNITS == {
        "FLOP": 1,
        "GFLOP": 1e9,
        "TFLOP": 1e12,
        "MB": 1e6,
        "MiB": 1048576,
        "tokens": 1,
        "%": 0.01,
        "x": 1,
        "s": 1,
        "ms": 0.001,
    }


@pytest.mark.parametrize(("printed", "half_digit"), [("382", 0.5), ("3.82", 0.005), ("0.420", 0.0005), ("2.7e7", 5e5)])
def test_half_of_the_last_printed_digit(printed: str, half_digit: float) -> None:
    assert Figure(published=printed).half_digit == pytest.approx(half_digit)


def test_the_scenario_that_a_figure_was_printed_for() -> None:
    table = Table(where="t", quantity="ttft", unit="ms", model="llava-1.5-7b", visual_tokens=576, figures=())
    scenario = scenario_of(table, Figure(published="1", method="fastv", keep="64/576", settings={"layer": 3}))
    # Papers measure 16-bit models; one token of text stands for none.
    assert (scenario.dtype, scenario.text_tokens, scenario.output_tokens, scenario.gpu) == (
        "fp16",
        1,
        1,
        "a100_80gb_sxm",
    )
    assert (scenario.method, scenario.keep, dict(scenario.settings)) == ("fastv", pytest.approx(1 / 9), {"layer": 3})


def test_the_rate_leaves_out_what_nobody_can_recompute() -> None:
    statuses = ["reproduced"] * 3 + ["differs"] + ["underdetermined"] * 4
    rows = [{"kind": "counted", "status": status} for status in statuses] + [{"kind": "time", "status": "differs"}]
    counted, time, everything = summary(rows)
    assert (counted["figures"], counted["rate"]) == (8, 0.75)
    assert (time["figures"], time["rate"]) == (1, 0.0)
    assert (everything["figures"], everything["rate"]) == (9, 0.6)
