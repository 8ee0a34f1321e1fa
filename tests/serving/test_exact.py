"""Queues with known solutions: the simulation against closed forms and recursions of queueing theory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import poisson

from asymsim import Scenario
from asymsim.core.serving.layout import DONE
from asymsim.core.times.device import TICKS_PER_S
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.arrivals import Arrivals
from asymsim.serving.workload.requests import Requests, make_requests
from asymsim.serving.workload.spec import WorkloadSpec, requests_for

LLAVA = Scenario(model="llava-1.5-7b")
ROUTERS: tuple[Literal["round_robin", "least_loaded"], ...] = ("round_robin", "least_loaded")
ONE_AT_A_TIME = EngineConfig(max_num_seqs=1)
LOADS = (
    WorkloadSpec(target_request_rate=9.0, num_requests=2500, workload="chat"),
    WorkloadSpec(target_request_rate=40.0, num_requests=700, workload="documents"),
    WorkloadSpec(target_request_rate=9.0, arrival="gamma", burstiness=0.2, num_requests=6000),
)


def alike(arrival_s: Any) -> Requests:
    return make_requests(arrival_s, text_tokens=30, output_tokens=20)


def service_s() -> float:
    """How long a request takes where it is alone."""
    return float(simulate(LLAVA, alike([0.0])).e2e_s[0])


def ticks(seconds: Any) -> np.ndarray[Any, Any]:
    return np.rint(np.asarray(seconds) * TICKS_PER_S).astype(np.int64)


def waits(arrivals: np.ndarray[Any, Any], service: int) -> np.ndarray[Any, Any]:
    """Lindley's recursion for a fixed service, solved: W_n = max over k <= n of k's arrival + (n - k) S, less n's."""
    ahead = np.arange(len(arrivals)) * service
    return np.maximum.accumulate(arrivals - ahead) + ahead - arrivals


@pytest.mark.parametrize("seed", range(2))
def test_one_at_a_time_is_the_queue_m_d_1(seed: int) -> None:
    """Half a million requests at half of the load, twice: Pollaczek-Khinchine's mean wait within 1 %.

    W = rho S / (2 (1 - rho)); E[W^2] = 2 W^2 + lambda S^3 / (3 (1 - rho)) (Kleinrock 1975, section 5.7).
    """
    service, load = service_s(), 0.5
    result = simulate(LLAVA, alike(Arrivals(rate=load / service, seed=seed).times(500_000)), ONE_AT_A_TIME)
    mean = load * service / (2 * (1 - load))
    second = 2 * mean**2 + load * service**2 / (3 * (1 - load))
    assert result.queue_s.mean() == pytest.approx(mean, rel=0.01)
    assert np.mean(result.queue_s**2) == pytest.approx(second, rel=0.03)
    # Poisson arrivals see the server busy for the share of time that it is.
    assert np.mean(result.queue_s == 0) == pytest.approx(1 - load, rel=0.01)


@pytest.mark.parametrize("replicas", [1, 3, 8])
@pytest.mark.parametrize("load", [0.3, 0.9, 1.2])
def test_waits_behind_a_round_robin_are_those_of_lindley_to_the_tick(replicas: int, load: float) -> None:
    """E_c/D/1 at each replica, at its load of the fleet's."""
    service = service_s()
    arrival_s = Arrivals(rate=load * replicas / service, seed=7).times(4000)
    fleet = ClusterConfig(replicas=replicas, router="round_robin")
    result = simulate(LLAVA, alike(arrival_s), ONE_AT_A_TIME, fleet)
    for first in range(replicas):
        own = slice(first, None, replicas)
        assert (ticks(result.queue_s[own]) == waits(ticks(arrival_s[own]), ticks(service))).all()
        assert (result.replica[own] == first).all()


@pytest.mark.parametrize("replicas", [1, 4])
def test_even_arrivals_that_can_be_served_never_wait(replicas: int) -> None:
    service = int(ticks(service_s()))
    for gap in (service, 2 * service):
        arrival_s = np.repeat(np.arange(300) * gap, replicas) / TICKS_PER_S
        result = simulate(LLAVA, alike(arrival_s), ONE_AT_A_TIME, ClusterConfig(replicas=replicas))
        assert not result.queue_s.any()
        assert set(ticks(result.e2e_s)) == {service}
    late = simulate(LLAVA, alike(np.arange(300) * (service - 5) / TICKS_PER_S), ONE_AT_A_TIME)
    assert (ticks(late.queue_s) == 5 * np.arange(300)).all()


@pytest.mark.parametrize("servers", [1, 2, 4, 10])
def test_turns_of_equal_requests_are_one_shared_queue(servers: int) -> None:
    """M/D/c, where to take turns is to join the least work: Crommelin's mean wait, from Poisson tails, within 3 %.

    W = S sum over i >= 1 of P(N_i >= i c) - P(N_i > i c) / rho, with N_i of mean i c rho (Crommelin 1932; Tijms 2003,
    section 9.6.2). The number of requests alone says less than their turn, so the least loaded waits longer.
    """
    service, load = service_s(), 0.8
    turns = servers * np.arange(1, 1000)
    mean = service * (poisson.sf(turns - 1, turns * load) - poisson.sf(turns, turns * load) / load).sum()
    requests = alike(Arrivals(rate=load * servers / service, seed=2).times(150_000))
    routed = {
        router: simulate(LLAVA, requests, ONE_AT_A_TIME, ClusterConfig(replicas=servers, router=router)).queue_s.mean()
        for router in ROUTERS
    }
    assert routed["round_robin"] == pytest.approx(mean, rel=0.03)
    assert routed["least_loaded"] >= routed["round_robin"]


def same(one: SimulationResult, other: SimulationResult) -> bool:
    names = [field.name for field in fields(SimulationResult) if field.name != "requests"]
    pairs = ((getattr(one, name), getattr(other, name)) for name in names)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def test_a_seed_gives_the_same_bytes_on_any_number_of_threads() -> None:
    def run(load: WorkloadSpec) -> SimulationResult:
        scenario = Scenario(model="qwen2.5-vl-7b", method="asymvlm", keep=0.5)
        return simulate(scenario, requests_for(load, scenario), events=10_000)

    alone = [run(load) for load in LOADS]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(run, LOADS * 4))
    assert all(same(one, alone[at % len(LOADS)]) for at, one in enumerate(together))
    assert not same(alone[0], run(WorkloadSpec(target_request_rate=9.0, num_requests=2500, workload="chat", seed=1)))


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.workload or "alike")
@pytest.mark.parametrize(
    "fleet",
    [
        ClusterConfig(),
        ClusterConfig(replicas=3),
        ClusterConfig(replicas=0, encoder_replicas=1, prefill_replicas=2, decode_replicas=2),
    ],
    ids=["one", "three", "pools"],
)
def test_what_comes_in_goes_out(load: WorkloadSpec, fleet: ClusterConfig) -> None:
    """Tokens, time at work and cache are neither lost nor made; Little's law is met by the samples."""
    requests = requests_for(load, LLAVA)
    result = simulate(LLAVA, requests, cluster_config=fleet)
    done = result.status == DONE
    assert result.gap_histogram.sum() == (requests.output_tokens[done] - 1).sum()
    assert (result.busy_s <= result.end_s).all()
    assert np.nanmax(result.sent_s + result.e2e_s) == result.end_s
    assert ((result.queue_s <= result.ttft_s) & (result.ttft_s <= result.e2e_s))[done].all()
    assert 0 < result.timeline["kv_peak_bytes"].max() <= result.kv_capacity_bytes
    # In the system on average, over all the time, is rate x mean time in the system; those on their way between pools
    # are in neither queue nor step.
    inside = ((result.timeline["waiting"] + result.timeline["running"]) * windows_s(result)).sum()
    moving = result.e2e_s[done].sum() - inside
    assert moving == pytest.approx(0, abs=1e-9 * inside) if fleet.replicas else 0 < moving < 0.1 * inside
    assert (result.timeline["busy"] * windows_s(result)).sum() == pytest.approx(result.busy_s.sum())


def windows_s(result: SimulationResult) -> np.ndarray[Any, Any]:
    return np.diff(np.append(result.timeline["start_s"], result.end_s))
