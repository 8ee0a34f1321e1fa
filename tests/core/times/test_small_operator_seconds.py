"""Seconds of element-wise kernels and all-reduces, each term alone, worked out by hand with round numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymsim.core.times import parameters
from asymsim.core.times.all_reduce import all_reduce_seconds
from asymsim.core.times.elementwise import elementwise_seconds

US = 1e-6


def element_wise(moved_bytes: float, *, launch_s: float = 3 * US, share: float = 0.5, overlap: float = 1.0) -> float:
    fitted = np.zeros(1, parameters.ELEMENTWISE_PARAMETERS)
    fitted["launch_s"], fitted["memory_share"], fitted["overlap"] = launch_s, share, overlap
    return float(elementwise_seconds(moved_bytes, 1024 / US, fitted[0]))


def all_reduce(message_bytes: float, gpus: int, *, link_share: float = 0.5, one_shot_share: float = 0.25) -> float:
    fitted = np.zeros(1, parameters.ALL_REDUCE_PARAMETERS)
    fitted["launch_s"], fitted["peer_s"] = 5 * US, 2 * US
    fitted["link_share"], fitted["one_shot_share"] = link_share, one_shot_share
    return float(all_reduce_seconds(message_bytes, float(gpus), 1024 / US, fitted[0]))


def test_an_element_wise_kernel_streams_its_bytes_after_its_launch() -> None:
    # 4096 bytes at half of 1024 bytes/us.
    assert element_wise(4096) == pytest.approx((3 + 8) * US)
    assert element_wise(2048, overlap=2.0) == pytest.approx(math.hypot(3, 4) * US)
    assert element_wise(4096, share=8.0, launch_s=1e-3 * US, overlap=9.0) == pytest.approx(4 * US)


def test_a_small_all_reduce_reads_every_message_at_once() -> None:
    # 5 us and 2 us for each of three peers; three messages of 128 bytes at a quarter of the link.
    assert all_reduce(128, 4) == pytest.approx((11 + 3 * 0.5) * US)
    assert all_reduce(128, 2) == pytest.approx((7 + 0.5) * US)


def test_a_large_all_reduce_scatters_and_gathers() -> None:
    # Twice the latency; 2 x 3 / 4 of 8192 bytes at half of the link, where one shot would take 11 + 96 us.
    assert all_reduce(8192, 4) == pytest.approx((22 + 24) * US)
    assert all_reduce(8192, 8) == pytest.approx((38 + 28) * US)


def test_no_all_reduce_is_faster_than_switches_that_add_up() -> None:
    # 3 / 4 of the message over the link.
    fast = all_reduce(1 << 20, 4, link_share=1e3, one_shot_share=1e3)
    assert fast == pytest.approx(768 * US)
    assert all_reduce(1 << 20, 1) == 0.0
