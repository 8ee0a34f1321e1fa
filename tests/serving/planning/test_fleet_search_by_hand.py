"""Search for the fewest replicas, and its repetition under sampled time errors, with fleets whose answers are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.document import serving_document
from asymsim.serving.planning import per_gpu
from asymsim.serving.planning.candidate import Candidate, outcome_of
from asymsim.serving.planning.latency_uncertainty import standard_normals, time_factors
from asymsim.serving.planning.per_gpu import GpuPlan, _typical_token_counts
from asymsim.serving.planning.replica_search import fewest_replicas, infeasibility_reason
from asymsim.serving.slo import Slo, SloTarget
from asymsim.serving.workload.requests import make_requests
from asymsim.serving.workload.spec import WorkloadSpec
from oracles.served_by_hand import served

TARGET = SloTarget(slo=Slo(ttft_s=1.0, e2e_s=5.0), percentile=99.0)
NAN = math.nan


def outcome(ttft_s: Any, e2e_s: Any, gap_s: float = 1.0, **more: Any) -> Any:
    """Requests that are sent a gap apart."""
    return outcome_of(served(np.arange(len(ttft_s)) * gap_s, ttft_s, e2e_s, **more), TARGET)


QUICK = outcome(np.full(200, 0.5), np.full(200, 2.0), queue_s=np.zeros(200))


@dataclass
class Replicas:
    """So many are enough; each serves three requests a second."""

    needed: int
    single: Any = QUICK
    target: SloTarget = TARGET
    replicas_tried: list[int] = field(default_factory=list)

    def full_batch_rate_per_s(self) -> float:
        return 3.0

    def one_at_a_time(self) -> Any:
        return self.single

    def run(self, replicas: int) -> Any:
        self.replicas_tried.append(replicas)
        late = outcome(np.full(200, 1.5), np.full(200, 2.0), queue_s=np.zeros(200))
        return QUICK if replicas >= self.needed else late


@pytest.mark.parametrize(("needed", "first"), [(33, 33), (40, 33), (7, 33)])
def test_the_search_begins_where_full_batches_would_serve_the_rate(needed: int, first: int) -> None:
    fleet = Replicas(needed)
    search = fewest_replicas(fleet, 100.0)  # type: ignore[arg-type]
    assert search.replicas == needed
    assert search.outcome is QUICK
    # 100 a second over three a second are 33 whole replicas.
    assert fleet.replicas_tried[0] == first
    assert len(fleet.replicas_tried) == len(set(fleet.replicas_tried))
    assert fewest_replicas(Replicas(needed), 0.1).replicas == needed  # type: ignore[arg-type]


def test_a_search_ends_at_the_most_and_says_so() -> None:
    assert fewest_replicas(Replicas(9), 5.0, max_replicas=8).reason == "no fewer GPUs"  # type: ignore[arg-type]
    assert fewest_replicas(Replicas(9), 5.0, max_replicas=9).replicas == 9  # type: ignore[arg-type]
    assert fewest_replicas(Replicas(5000), 5.0).reason == "4096 replicas are not enough"  # type: ignore[arg-type]


def test_a_limit_that_one_request_alone_misses_is_met_by_no_fleet() -> None:
    slow = outcome(np.full(200, 1.25), np.full(200, 2.0), queue_s=np.zeros(200))
    assert infeasibility_reason(slow, TARGET) == "ttft: p99 is 1250 ms even one request at a time, the limit 1000 ms"
    assert infeasibility_reason(QUICK, TARGET) is None
    # Without an explanation, as with sampled errors, the search goes on all the same.
    unexplained = fewest_replicas(Replicas(3, single=slow), 5.0, explain=False)  # type: ignore[arg-type]
    assert unexplained.replicas == 3
    hopeless = Replicas(5000, single=slow)
    assert fewest_replicas(hopeless, 5.0).reason == infeasibility_reason(slow, TARGET)  # type: ignore[arg-type]
    assert len(hopeless.replicas_tried) == 1


@pytest.mark.parametrize(("refused", "named"), [(2, False), (3, True)])
def test_more_refused_than_may_miss_is_the_reason(refused: int, named: bool) -> None:
    """Of 200 requests two may miss a limit at 99 %."""
    ttft, e2e = np.full(200, 1.25), np.full(200, 2.0)
    ttft[:refused], e2e[:refused] = NAN, NAN
    lone = outcome(ttft, e2e, status=[1] * refused + [0] * (200 - refused), queue_s=np.zeros(200))
    reason = infeasibility_reason(lone, TARGET)
    assert reason is not None
    assert reason.startswith(f"{refused} of 200 requests are refused") == named


def test_a_run_too_short_for_its_requests_is_the_reason() -> None:
    # 199 gaps of 0.04 s are 7.96 s, of which a request may take a quarter.
    for e2e_s, tells in ((1.98, True), (2.0, False)):
        short = outcome(np.full(200, 0.5), np.full(200, e2e_s), gap_s=0.04, queue_s=np.zeros(200))
        assert (infeasibility_reason(short, TARGET) is None) == tells


def test_a_faster_workload_has_its_requests_closer() -> None:
    requests = make_requests(np.array([0.0, 3.0, 9.0]), text_tokens=1, output_tokens=1)
    candidate = Candidate(None, requests, None, EngineConfig(), "round_robin", TARGET)  # type: ignore[arg-type]
    assert candidate.sped_up(3.0).requests.arrival_s.tolist() == [0.0, 1.0, 3.0]


def test_the_typical_request_is_of_middle_length_and_in_the_batch_of_littles_law() -> None:
    resolved = resolve(Scenario(model="llava-1.5-7b"))
    lengths = [900, 10, 300, 40, 50, 7000]
    requests = make_requests(np.arange(6.0), text_tokens=np.array(lengths), output_tokens=20, num_images=1)
    candidate = Candidate(resolved, requests, None, EngineConfig(), "round_robin", TARGET)  # type: ignore[arg-type]
    # The longest was refused: of five the third is that of 50. They take 84 s within 7 s on two replicas: six each.
    result = served(np.arange(6.0), [1.0] * 6, [20.0, 16.0, 16.0, 16.0, 16.0, NAN], status=[0] * 5 + [1], end_s=7.0)
    fewest = GpuPlan(
        scenario=Scenario(model="llava-1.5-7b"),
        attempts=(),
        num_requests=6,
        replicas=2,
        outcome=outcome_of(result, TARGET),
    )
    typical = TokenCounts(*_typical_token_counts(candidate, fewest).tolist())
    assert (typical.text_tokens, typical.output_tokens, typical.visual_tokens, typical.batch_size) == (50, 20, 576, 6)


def test_of_equally_many_gpus_the_lowest_degree_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six replicas of one GPU, three of two, two of three, and one of four: four GPUs are the fewest."""
    needed = {1: 6, 2: 3, 3: 2, 4: 1, 8: 1}
    query: Any = SimpleNamespace(rate_per_s=100.0)
    chosen = {}
    for degrees in ((1, 2, 3), (1, 2, 3, 4, 8), (8, 4)):
        fleets = {tp_size: Replicas(needed[tp_size]) for tp_size in degrees}
        monkeypatch.setattr(per_gpu, "candidates_by_tp", lambda *_, fleets=fleets: iter(fleets.items()))
        monkeypatch.setattr(per_gpu, "Candidate", Replicas)
        gpu_plan, _ = per_gpu._best_gpu_plan(query, Scenario(model="llava-1.5-7b"), QUICK.result.requests)
        chosen[degrees] = gpu_plan.scenario.tp_size, gpu_plan.replicas, gpu_plan.gpus
    assert chosen == {(1, 2, 3): (1, 6, 6), (1, 2, 3, 4, 8): (4, 1, 4), (8, 4): (4, 1, 4)}


def test_sampled_fleets_are_counted_in_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas of four GPUs are enough; three where times are half as long again, and none where ten times."""

    class Slower(Replicas):
        resolved = None

        def with_scenario(self, factor: float) -> Replicas:
            return Replicas(self.needed if factor == 1.0 else 3 if factor == 1.5 else 5000)

    monkeypatch.setattr(per_gpu, "with_time_errors", lambda resolved, by_class: float(by_class[0]))
    end = NormalDist().inv_cdf(0.95)
    normal = np.array([[0.0], [end], [18 * end]])
    gpu_plan = GpuPlan(scenario=Scenario(model="llava-1.5-7b", tp_size=4), attempts=(), num_requests=200, replicas=2)
    query: Any = SimpleNamespace(rate_per_s=100.0)
    searches: list[int] = []
    fleet: Any = Slower(2)
    gpus = per_gpu._sampled_gpus(query, fleet, gpu_plan, np.array([[0.5, 1.5]]), normal, searches.append)
    assert gpus is not None
    assert gpus.tolist() == [8.0, 12.0, math.inf]
    # A time that is a bare roofline has no error to sample.
    assert per_gpu._sampled_gpus(query, fleet, gpu_plan, None, normal, searches.append) is None
    assert searches == [1, 1, 1, 3]


def test_a_class_errs_between_the_ends_of_its_interval() -> None:
    ratios = np.array([[0.8, 1.5], [0.9, 1.1]])
    end = NormalDist().inv_cdf(0.95)
    normal = np.array([[0.0, 0.0], [-end, end], [end, -end], [2 * end, -2 * end], [-6 * end, 0.5 * end]])
    expected = [[1.0, 1.0], [0.8, 1.1], [1.5, 0.9], [2.0, 0.8], [0.0, 1.05]]
    assert time_factors(ratios, normal) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("samples", [20, 25])
def test_samples_are_the_middles_of_equal_strata(samples: int) -> None:
    normals = standard_normals(samples, 1)
    middles = [NormalDist().inv_cdf((2 * stratum + 1) / (2 * samples)) for stratum in range(samples)]
    for column in normals.T:
        assert np.sort(column) == pytest.approx(middles)


def test_the_document_names_a_rate_only_where_there_is_one() -> None:
    scenario = Scenario(model="llava-1.5-7b", gpu="h100_sxm")
    result = served([0.0, 1.0], [0.5, 0.5], [1.0, 1.0])

    def named(workload: WorkloadSpec, cluster_config: ClusterConfig) -> tuple[object, object]:
        document = serving_document(scenario, workload, EngineConfig(), cluster_config, result)
        return document["request_rate"], document["max_concurrency"]

    assert named(WorkloadSpec(), ClusterConfig()) == ("inf", None)
    assert named(WorkloadSpec(target_request_rate=2.5), ClusterConfig(concurrency=7)) == (2.5, 7)
    assert named(WorkloadSpec(trace="x"), ClusterConfig()) == (None, None)
