"""The figure of a run draws what was sampled, and says where its latencies mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asymsim.reporting.plots.timeline import MOST_POINTS, draw_timeline, timeline_figure
from asymsim.serving.slo import Slo
from oracles.served_by_hand import queue, served


def line(axes: Any) -> tuple[list[float], list[float]]:
    x, y = axes.get_lines()[0].get_data()
    return list(x), list(y)


def test_panels_share_time_and_show_the_samples() -> None:
    timeline = [(0, 3, 1, 250, 1, 250), (1, 0, 2, 1000, 1, 1000), (3, 1, 1, 500, 1, 500)]
    figure = draw_timeline(served([0.0, 1.0], [0.5, 1.0], [1.0, 3.0], timeline=timeline), Slo(), "a run")
    waiting, running, cache, *_ = figure.get_axes()
    assert line(waiting) == ([0, 1, 3], [3, 0, 1])
    assert line(running) == ([0, 1, 3], [1, 2, 1])
    assert line(cache) == ([0, 1, 3], [25, 100, 50])
    assert waiting.get_xlim() == cache.get_xlim() == (0, 4)
    assert figure.get_suptitle() == "a run"
    assert [axes.get_xlabel() for axes in figure.get_axes()] == ["", "", "time (s)", "TTFT (s)", "TPOT (ms)"]


def test_distributions_end_at_all_requests_and_say_how_many_meet_the_limit() -> None:
    result = served(np.arange(4.0), [0.1, 0.2, 0.3, 0.4], np.ones(4), output_tokens=[2, 2, 1, 11])
    *_, left, right = draw_timeline(result, Slo(ttft_s=0.3, tpot_s=0.1)).get_axes()
    assert line(left) == ([0.1, 0.1, 0.2, 0.3, 0.4], [0, 25, 50, 75, 100])
    assert left.get_title() == "75.0 % meet the SLO of 0.3 s"
    # The request of one token is in no distribution of time per token.
    assert line(right)[0] == pytest.approx([60, 60, 800, 900])
    assert right.get_title() == "33.3 % meet the SLO of 100 ms"


def test_a_saturated_run_says_so_in_place_of_a_share() -> None:
    sent, e2e = queue(2.0, 400, None)
    result = served(sent, e2e - 0.5, e2e, queue_s=e2e - 1.0)
    *_, left, right = draw_timeline(result, Slo(ttft_s=1.0, tpot_s=1.0)).get_axes()
    assert left.get_title() == "saturated: grows as long as requests arrive"
    assert right.get_title() == "100.0 % meet the SLO of 1000 ms"


def test_many_samples_and_requests_are_thinned_but_keep_their_extremes() -> None:
    count = 50 * MOST_POINTS
    timeline = [(at / 100, int(at == 777), 1, 1, 1, 1) for at in range(count)]
    sent = np.arange(count) / 100
    figure = draw_timeline(served(sent, 1 + sent / count, 2 + sent / count, timeline=timeline), Slo())
    waiting, *_, left, _ = figure.get_axes()
    assert len(line(waiting)[0]) <= MOST_POINTS
    assert waiting.get_ylim()[1] > 1
    assert len(line(left)[0]) <= MOST_POINTS + 1
    assert line(left)[1][-1] == 100


@pytest.mark.parametrize("result", [served([], [], []), served([0.0], [1.0], [1.0], output_tokens=1)])
def test_few_or_no_requests_are_a_picture_still(result: Any) -> None:
    assert timeline_figure(result, Slo(ttft_s=1.0), "few", dpi=40).startswith(b"\x89PNG")
