"""The sustained rate and the goodput of several replicas, by a fleet whose capacity is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from asymsim.estimator.scenario import Scenario
from asymsim.serving.planning import goodput_curves
from asymsim.serving.planning.candidate import outcome_of
from asymsim.serving.planning.document import curve_rows, sustained_rows
from asymsim.serving.planning.goodput_curves import GoodputCurve, GoodputPoint, _CurveInput, _point, sustained_rate
from asymsim.serving.slo import Slo, SloTarget
from oracles.served_by_hand import served

TARGET = SloTarget(slo=Slo(ttft_s=1.0), percentile=50.0)


@dataclass
class Fleet:
    """Replicas that bear ``bears`` requests a second each; the workload was recorded at ``recorded`` a second."""

    bears: float
    recorded: float = 2.0
    rate: float = 2.0
    missed_limits: tuple[str, ...] = ()
    target: SloTarget = TARGET
    rates_tried: list[float] = field(default_factory=list)
    requests: range = range(200)

    def one_at_a_time(self) -> Any:
        return self

    def full_batch_rate_per_s(self) -> float:
        return 4.0

    def sped_up(self, factor: float) -> Fleet:
        return Fleet(self.bears, self.recorded, self.recorded * factor, rates_tried=self.rates_tried)

    def run(self, replicas: int) -> Any:
        """200 requests, of which one in ``rate / (replicas bears)`` is served within a second."""
        self.rates_tried.append(self.rate)
        share = min(1.0, replicas * self.bears / self.rate)
        sent = np.arange(200) / self.rate
        ttft = np.where(np.arange(200) < round(200 * share), 0.5, 1.5)
        result = served(sent, ttft, ttft + 0.5, queue_s=np.zeros(200), output_tokens=2)
        return _Outcome(result, self.rate <= replicas * self.bears)


@dataclass
class _Outcome:
    result: Any
    meets_target: bool


@pytest.mark.parametrize("replicas", [1, 3])
def test_replicas_sustain_their_sum(replicas: int) -> None:
    fleet = Fleet(bears=7.3)
    rate = sustained_rate(fleet, 2.0, replicas)  # type: ignore[arg-type]
    assert rate is not None
    assert rate <= 7.3 * replicas <= 1.01 * rate
    # From the capacity of all replicas on: one doubling, and as many halvings as a hundredth needs.
    assert fleet.rates_tried[0] == pytest.approx(4.0 * replicas)
    assert len(fleet.rates_tried) <= 2 + math.ceil(math.log2(math.log(2) / math.log(1.01)))


def test_limits_that_one_request_alone_misses_have_no_rate() -> None:
    assert sustained_rate(Fleet(bears=7.3, missed_limits=("ttft_s",)), 2.0) is None  # type: ignore[arg-type]
    assert sustained_rate(Fleet(bears=0.0), 2.0) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("replicas", "share"), [(1, 0.25), (2, 0.5), (5, 1.0)])
def test_a_point_is_of_its_rate_and_of_all_replicas(replicas: int, share: float) -> None:
    point = _point(_CurveInput(Scenario(model="llava-1.5-7b"), Fleet(bears=1.0, recorded=0.5), 0.5), 4.0, replicas)  # type: ignore[arg-type]
    assert point.request_rate == 4.0
    assert point.slo_share == share
    # The last of 200 requests is sent after 199 / 4 s, and takes 2 s, or 1 s where all are in time.
    assert point.request_goodput == pytest.approx(200 * share / (199 / 4 + (1.0 if share == 1.0 else 2.0)))


def test_curves_of_one_gpu_share_their_rates_up_to_beyond_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario(model="llava-1.5-7b")
    inputs: list[Any] = [_CurveInput(scenario, Fleet(bears=bears), 2.0) for bears in (4.0, 7.0)]  # type: ignore[arg-type]
    monkeypatch.setattr(goodput_curves, "_curve_input", lambda query, index, replicas: inputs[index])
    low, high = goodput_curves._curves_on_gpu(None, [0, 1], 2)  # type: ignore[arg-type,list-item]
    assert high.sustained_rate is not None
    assert low.sustained_rate is not None
    assert low.sustained_rate == pytest.approx(8.0, rel=0.01)
    assert high.sustained_rate == pytest.approx(14.0, rel=0.01)
    # Ten even steps up to 1.3 times the most that either bears.
    even = [1.3 * high.sustained_rate * step / 10 for step in range(1, 11)]
    for curve in (low, high):
        rates = [point.request_rate for point in curve.points]
        past_sustained = {curve.sustained_rate * more for more in (1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3)}
        assert rates == pytest.approx(sorted({*even, *(rate for rate in past_sustained if rate <= even[-1])}))
        assert curve.num_requests == 200


def test_rows_count_gpus_not_replicas() -> None:
    sent = np.arange(200.0)
    outcome = outcome_of(served(sent, np.full(200, 0.5), np.full(200, 0.9), queue_s=np.zeros(200)), TARGET)
    scenario = Scenario(model="llava-1.5-7b", gpu="h100_sxm", method="fastv", keep=0.5, tp_size=2)
    (row,) = curve_rows([GoodputCurve(scenario, 3, 200, 6.5, (GoodputPoint(4.0, 3.9, 0.975, outcome),))])
    assert (row["replicas"], row["tp_size"], row["gpus"]) == (3, 2, 6)
    assert (row["ttft_ms"], row["tpot_ms"], row["e2e_ms"]) == pytest.approx((500.0, 400.0, 900.0))
    assert (row["request_rate"], row["request_goodput"], row["slo_share"]) == (4.0, 3.9, 0.975)
    assert row["saturated"] is False
    (sustained,) = sustained_rows([GoodputCurve(scenario, 3, 200, 6.5, ())])
    assert (sustained["gpu"], sustained["replicas"], sustained["sustained_rate"]) == ("h100_sxm", 3, 6.5)
