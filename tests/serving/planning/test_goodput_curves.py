"""Goodput curves: goodput never exceeds the request rate, and the limits fail just above the sustained rate."""

from __future__ import annotations

import pytest

from asymsim.estimator.scenario import Scenario
from asymsim.reporting.plots.goodput import draw_goodput, goodput_figure
from asymsim.serving.planning.document import curve_rows, sustained_rows
from asymsim.serving.planning.goodput_curves import RATES_PAST_SUSTAINED, TOLERANCE, GoodputCurve, goodput_curves
from asymsim.serving.planning.plan import plan
from asymsim.serving.planning.query import PlanQuery
from asymsim.serving.slo import Slo, SloTarget
from asymsim.serving.workload.spec import WorkloadSpec


@pytest.fixture(scope="module")
def curves() -> list[GoodputCurve]:
    scenarios = tuple(
        Scenario(model="llava-1.5-7b", method=name, keep=keep) for name, keep in (("none", None), ("asymvlm", 0.5))
    )
    query = PlanQuery(
        scenarios=scenarios,
        gpus=("a100_80gb_sxm", "h100_sxm"),
        workload=WorkloadSpec(target_request_rate=5.0, num_requests=1000),
        slo_target=SloTarget(slo=Slo(ttft_s=0.3, tpot_s=0.03)),
        samples=0,
    )
    return goodput_curves(plan(query))


def test_goodput_is_at_most_what_is_asked(curves: list[GoodputCurve]) -> None:
    assert [curve.scenario.method for curve in curves] == ["none", "asymvlm"] * 2
    for curve in curves:
        rates = [point.request_rate for point in curve.points]
        assert rates == sorted(rates)
        for point in curve.points:
            if point.request_goodput is not None:
                assert point.slo_share is not None
                # A run of finite length asks a little more or less than its rate.
                assert point.request_goodput <= 1.1 * point.request_rate * point.slo_share + 1e-9


def test_the_limits_hold_at_the_sustained_rate_and_fail_beyond(curves: list[GoodputCurve]) -> None:
    for curve in curves:
        assert curve.sustained_rate is not None
        by_rate = {point.request_rate: point.outcome for point in curve.points}
        assert by_rate[curve.sustained_rate].meets_target
        assert RATES_PAST_SUSTAINED[0] - 1 > TOLERANCE
        assert not by_rate[curve.sustained_rate * RATES_PAST_SUSTAINED[0]].meets_target
    unpruned, pruned = curves[:2]
    assert (pruned.sustained_rate or 0) > (unpruned.sustained_rate or 0)


def test_rows_and_figure(curves: list[GoodputCurve]) -> None:
    rows = curve_rows(curves)
    assert len(rows) == sum(len(curve.points) for curve in curves)
    assert [row["sustained_rate"] for row in sustained_rows(curves)] == [curve.sustained_rate for curve in curves]
    figure = draw_goodput(rows, "a title")
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["a100_80gb_sxm", "h100_sxm"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["offered load", "unpruned", "asymvlm, keep 0.5"]
    assert goodput_figure(rows, "a title", dpi=40).startswith(b"\x89PNG")


def test_a_limit_that_nobody_meets_still_has_a_curve() -> None:
    query = PlanQuery(
        scenarios=(Scenario(model="llava-1.5-7b"),),
        gpus=("h100_sxm",),
        workload=WorkloadSpec(target_request_rate=5.0, num_requests=200),
        slo_target=SloTarget(slo=Slo(ttft_s=0.001)),
        samples=0,
    )
    (curve,) = goodput_curves(plan(query))
    assert curve.sustained_rate is None
    assert all(point.request_goodput in (0.0, None) for point in curve.points)
    assert goodput_figure(curve_rows([curve]), dpi=40).startswith(b"\x89PNG")
