"""How fast a fleet is simulated. Run by ``make bench``; nothing here passes or fails on a time."""

from __future__ import annotations

from typing import Any

import pytest

from asymsim import Scenario
from asymsim.serving.config import ClusterConfig
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.arrivals import Arrivals
from asymsim.serving.workload.requests import Requests, make_requests

# A steady load, most of what the GPU can serve: 576 visual tokens beside the text.
LLAVA = Scenario(model="llava-1.5-7b", gpu="h100_sxm", engine="vllm")
RATE_PER_S = 15.0


def asked(number: int, replicas: int = 1) -> Requests:
    arrivals = Arrivals(rate=RATE_PER_S * replicas)
    return make_requests(arrivals.times(number), text_tokens=500, output_tokens=128)


@pytest.mark.benchmark(group="serving")
@pytest.mark.parametrize("replicas", [1, 10, 100])
@pytest.mark.parametrize("number", [10_000, 100_000, 1_000_000])
def test_requests_on_one_core(number: int, replicas: int, benchmark: Any) -> None:
    """Requests to outcomes, the binding of names included; compiled before."""
    given, fleet = asked(number, replicas), ClusterConfig(replicas=replicas)
    simulate(LLAVA, asked(10))
    rounds = 1 if number > 100_000 else 3
    served = benchmark.pedantic(simulate, args=(LLAVA, given), kwargs={"cluster_config": fleet}, rounds=rounds)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info["requests_per_s"] = round(number / seconds)
    batch = served.timeline["running"].mean() / replicas
    print(
        f"\n{number:>9,} requests, {replicas:>3} replicas: {number / seconds:>9,.0f} a second; "
        f"{served.engine_steps:,} steps, {batch:.1f} run on a replica on average"
    )
    assert serving_metrics(served).counts["completed"] == number


@pytest.mark.benchmark(group="serving")
@pytest.mark.parametrize("workload", ["chat", "documents"])
def test_requests_of_a_mix_on_one_core(workload: str, benchmark: Any) -> None:
    """Nearly every request of a kind of its own, with a budget that adapts."""
    from asymsim.serving.workload.spec import WorkloadSpec, requests_for

    scenario = Scenario(model="qwen2.5-vl-7b", gpu="h100_sxm", engine="vllm", method="asymvlm", keep=0.5)
    rate = {"chat": 15.0, "documents": 1.5}[workload]
    given = requests_for(WorkloadSpec(target_request_rate=rate, num_requests=100_000, workload=workload), scenario)
    simulate(scenario, given.take(slice(10)))
    served = benchmark.pedantic(simulate, args=(scenario, given), rounds=1)
    seconds = benchmark.stats.stats.min
    print(f"\n{workload}: {len(given) / seconds:,.0f} requests a second; {served.engine_steps:,} steps")
    assert serving_metrics(served).counts["completed"] > 0
