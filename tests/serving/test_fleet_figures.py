"""Metrics of a fleet by hand: shares of GPUs and cache, tokens in and out, energy, and columns of a request log."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asymsim.catalogue.gpu import load_gpu
from asymsim.core.serving.layout import DONE, TOO_LONG
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.power import Tariff, run_cost
from asymsim.serving.request_log import columns
from asymsim.serving.slo import Slo
from oracles.served_by_hand import served

NAN = math.nan


def fleet() -> Any:
    """Two replicas over ten seconds; the third of four requests is refused, the second has a single token."""
    windows = [(start, 0.0, 1.0, 300.0, 1.0, peak) for start, peak in ((0.0, 250), (2.0, 700), (4.0, 400))]
    return served(
        [2.0, 3.0, 4.0, 5.0],
        [0.5, 1.0, NAN, 2.0],
        [4.5, 1.0, NAN, 7.0],
        output_tokens=[5, 1, 9, 11],
        status=[DONE, DONE, TOO_LONG, DONE],
        queue_s=np.array([0.1, 0.2, NAN, 0.9]),
        timeline=windows,
        busy_s=np.array([6.0, 3.0]),
        gpus=4,
        visual_tokens=np.array([10, 20, 40, 80]),
        prompt_tokens=np.array([110, 120, 140, 180]),
        preemptions=np.array([0, 3, 0, 2]),
        replica=np.array([1, 0, -1, 1], np.int32),
        end_s=12.0,
    )


def test_shares_of_gpus_and_cache() -> None:
    metrics = serving_metrics(fleet()).to_dict()
    assert metrics["duration"] == 10.0
    # Nine of twenty seconds of two replicas; 700 of 1,000 bytes at the fullest.
    assert metrics["gpu_busy_share"] == pytest.approx(0.45)
    assert metrics["kv_peak_share"] == pytest.approx(0.7)


def test_tokens_count_completed_requests_alone() -> None:
    metrics = serving_metrics(fleet()).to_dict()
    assert (metrics["completed"], metrics["failed"], metrics["too_long"]) == (3, 1, 1)
    assert metrics["total_input_tokens"] == 110 + 120 + 180
    assert metrics["total_visual_tokens"] == 10 + 20 + 80
    assert metrics["total_output_tokens"] == 17
    assert (metrics["preemptions"], metrics["preempted_requests"]) == (5, 2)
    assert metrics["output_throughput"] == pytest.approx(1.7)
    assert metrics["total_token_throughput"] == pytest.approx(42.7)
    # The first from 2 to 6.5 s, the second from 3 to 4 s, the last from 5 to 12 s.
    assert metrics["max_concurrent_requests"] == 2


def test_times_by_hand() -> None:
    metrics = serving_metrics(fleet(), Slo(tpot_s=0.5, ttft_s=1.0)).to_dict()
    # Four gaps of one second and ten of a half.
    assert metrics["mean_tpot_ms"] == pytest.approx(750.0)
    assert metrics["mean_itl_ms"] == pytest.approx(9000 / 14)
    assert metrics["median_queue_ms"] == pytest.approx(200.0)
    # The first is too slow in TPOT, the last in its first token: one of four.
    assert metrics["slo_share"] == 0.25
    assert metrics["request_goodput"] == pytest.approx(0.1)


def test_no_more_than_ten_refused_requests_are_named() -> None:
    result = served(np.arange(15.0), [0.5] + [NAN] * 14, [0.9] + [NAN] * 14, status=[DONE] + [TOO_LONG] * 14)
    assert serving_metrics(result).to_dict()["rejected_rows"] == {"too_long": list(range(1, 11))}


def test_energy_and_rent_of_the_fleet() -> None:
    # Four H100 SXM of 700 W: 45 % of the time at work, else at 17 % of it, for ten seconds.
    cost = run_cost(serving_metrics(fleet()), load_gpu("h100_sxm"), Tariff(prices={"h100_sxm": 3.6}))
    power_w = 2800 * (0.45 + 0.55 * 0.17)
    assert cost.mean_power_w == pytest.approx(power_w)
    assert cost.energy_j == pytest.approx(10 * power_w)
    assert cost.output_tokens_per_j == pytest.approx(17 / (10 * power_w))
    assert cost.wh_per_1000_requests == pytest.approx(10 * power_w / 3600 / 3 * 1000)
    assert cost.cost_usd == pytest.approx(0.04)
    assert cost.usd_per_1m_requests == pytest.approx(0.04e6 / 3)
    assert cost.usd_per_1m_output_tokens == pytest.approx(0.04e6 / 17)


def test_columns_of_the_request_log() -> None:
    result = fleet()
    # Each was to be sent a second earlier, as where concurrency is limited.
    requests = replace(result.requests, arrival_s=result.sent_s - 1.0)
    log = columns(replace(result, requests=requests))
    assert log["arrival_s"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert log["status"].tolist() == ["done", "done", "too_long", "done"]
    assert log["sent_s"].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert log["queue_s"] == pytest.approx([0.1, 0.2, NAN, 0.9], nan_ok=True)
    assert log["tpot_s"] == pytest.approx([1.0, NAN, NAN, 0.5], nan_ok=True)
    assert log["ttft_s"] == pytest.approx([0.5, 1.0, NAN, 2.0], nan_ok=True)
    assert log["prompt_tokens"].tolist() == [110, 120, 140, 180]
    assert log["text_tokens"].tolist() == [100] * 4
    assert log["visual_tokens"].tolist() == [10, 20, 40, 80]
    assert log["replica"].tolist() == [1, 0, -1, 1]
    assert log["preemptions"].tolist() == [0, 3, 0, 2]
