"""Metrics of a run against vLLM's definitions, also where a figure has no values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.core.serving.layout import DONE, GAP_BINS, GAP_FIRST_S, GAP_RATIO, TOO_LARGE, TOO_LONG
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.slo import Slo
from asymsim.serving.summary import PERCENTILES, summarise_histogram, summarise_values
from asymsim.util.errors import InputError
from oracles.served_by_hand import queue, served

# What ``vllm bench serve --save-result`` writes with --percentile-metrics ttft,tpot,itl,e2el and these percentiles.
VLLM = ["duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput"]
VLLM += ["request_goodput", "output_throughput", "total_token_throughput", "max_concurrent_requests"]
VLLM += [
    f"{figure}_{time}_ms"
    for time in ("ttft", "tpot", "itl", "e2el")
    for figure in ("mean", "median", "std", *(f"p{percent}" for percent in (50, 90, 95, 99)))
]


def three(**more: Any) -> Any:
    """Three requests: 11 tokens at 0.1 s each, 1 token, 5 tokens at 0.25 s each."""
    return served([0.0, 1.0, 2.0], [0.5, 0.2, 1.0], [1.5, 0.2, 2.0], output_tokens=[11, 1, 5], **more)


def test_every_name_of_vllm_is_there() -> None:
    assert set(VLLM) <= set(serving_metrics(three()).to_dict())


def test_figures_of_three_requests() -> None:
    found = serving_metrics(three(), Slo(ttft_s=0.5)).to_dict()
    assert found["duration"] == pytest.approx(4.0)
    assert (found["completed"], found["failed"], found["total_input_tokens"]) == (3, 0, 375)
    assert found["total_output_tokens"] == 17
    assert found["request_throughput"] == pytest.approx(0.75)
    assert found["total_token_throughput"] == pytest.approx((375 + 17) / 4)
    assert found["request_goodput"] == pytest.approx(2 / 4)
    assert found["slo_share"] == pytest.approx(2 / 3)
    assert found["mean_ttft_ms"] == pytest.approx(1e3 * (0.5 + 0.2 + 1.0) / 3)
    # The request of one token has no time per output token.
    assert found["mean_tpot_ms"] == pytest.approx((100 + 250) / 2)
    assert found["median_e2el_ms"] == pytest.approx(1500)
    # Ten gaps of 0.1 s and four of 0.25 s, each once: not the mean over requests.
    assert found["mean_itl_ms"] == pytest.approx(2e3 / 14)
    assert found["median_itl_ms"] == pytest.approx(100, rel=0.003)
    assert found["p99_itl_ms"] == pytest.approx(250, rel=0.003)
    assert found["max_concurrent_requests"] == 2
    assert found["gpu_busy_share"] == pytest.approx(0.25)


def test_tokens_a_second_times_seconds_are_tokens() -> None:
    found = serving_metrics(three()).to_dict()
    assert found["output_throughput"] * found["duration"] == pytest.approx(found["total_output_tokens"])


def test_goodput_needs_every_limit() -> None:
    assert serving_metrics(three()).to_dict()["request_goodput"] is None
    both = serving_metrics(three(), Slo(ttft_s=0.6, tpot_s=0.05)).to_dict()
    # The first fails in TPOT, the last in both; that of one token has none to fail in.
    assert both["request_goodput"] == pytest.approx(1 / 4)
    assert both["slo"] == {"ttft_ms": 600.0, "tpot_ms": 50.0}
    # A limit that is just met is met.
    assert serving_metrics(three(), Slo(e2e_s=2.0)).to_dict()["slo_share"] == 1.0


def test_refused_requests_are_counted_named_and_miss_the_slo() -> None:
    nan = np.nan
    made = served(
        [0.0, 1.0, 2.0, 3.0], [0.5, nan, nan, nan], [1.0, nan, nan, nan], status=[DONE, TOO_LONG, TOO_LARGE, TOO_LONG]
    )
    found = serving_metrics(made, Slo(ttft_s=1.0)).to_dict()
    assert (found["completed"], found["failed"], found["too_long"], found["too_large"]) == (1, 3, 2, 1)
    assert found["rejected_rows"] == {"too_long": [1, 3], "too_large": [2]}
    assert found["slo_share"] == 0.25
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("made", [served([], [], []), served([1.0], [np.nan], [np.nan], status=TOO_LONG)])
def test_no_request_done_is_no_number(made: Any) -> None:
    found = serving_metrics(made, Slo(ttft_s=1.0)).to_dict()
    json.dumps(found, allow_nan=False)
    assert found["completed"] == 0
    assert found["mean_ttft_ms"] is found["p99_itl_ms"] is found["request_throughput"] is found["saturated"] is None


def test_one_request_is_all_its_percentiles() -> None:
    found = serving_metrics(served([5.0], [0.5], [0.9])).to_dict()
    assert {found[f"p{percent}_ttft_ms"] for percent in PERCENTILES} == {500.0}
    assert found["std_ttft_ms"] == 0.0
    assert found["duration"] == pytest.approx(0.9)


def test_what_waits_without_end_has_no_mean() -> None:
    sent, e2e = queue(2.0, 400, None)
    made = served(sent, e2e - 0.5, e2e, queue_s=e2e - 1.0)
    found = serving_metrics(made, Slo(ttft_s=1.0)).to_dict()
    assert found["saturated"] is True
    assert found["mean_ttft_ms"] is found["p50_e2el_ms"] is found["p99_queue_ms"] is found["request_goodput"] is None
    assert found["mean_tpot_ms"] == pytest.approx(500)
    assert found["request_throughput"] == pytest.approx(1.0, rel=0.01)
    # A limit that waiting does not touch can still be judged.
    assert serving_metrics(made, Slo(tpot_s=0.6)).to_dict()["slo_share"] == 1.0


@given(st.lists(st.floats(2e-6, 1e3), min_size=1, max_size=50))
def test_a_histogram_and_its_values_have_the_same_percentiles(gaps: list[float]) -> None:
    counts = np.zeros(GAP_BINS, np.int64)
    np.add.at(counts, (np.log(np.array(gaps) / GAP_FIRST_S) / np.log(GAP_RATIO)).astype(int), 1)
    exact, binned = summarise_values(np.array(gaps)), summarise_histogram(counts)
    for percent in PERCENTILES:
        assert binned.percentiles[percent] == pytest.approx(exact.percentiles[percent], rel=0.006)
    assert binned.mean == pytest.approx(exact.mean, rel=0.006)


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_limits_are_times(limit: float) -> None:
    with pytest.raises(InputError, match="tpot_s"):
        Slo(tpot_s=limit)
