"""The host's share of a step: recovered where it is known, never negative, kept as the catalogue reads it."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from asymsim import Scenario, estimate
from asymsim.catalogue.engine import Engine, engine_names, load_engine
from asymsim.util.errors import InputError
from asymsim.validation.serving_runs.deployment import Prediction, predict
from asymsim.validation.serving_runs.host import engines_text, fit_hosts, host_times
from oracles.serving_runs import run_of


def measured(rest_s: list[float], **changes: object) -> list[Prediction]:
    """Runs that take as long as predicted and ``rest_s`` more."""
    made = []
    for index, rest in enumerate(rest_s):
        bare = predict(run_of(input_tokens=512 + 64 * index, **changes))
        run = run_of(input_tokens=512 + 64 * index, tpot_s=bare.engine_step.interval().p50 + rest, **changes)
        made.append(Prediction(run, bare.running, bare.decode, bare.prefill))
    return made


def test_a_constant_host_is_recovered() -> None:
    (found,) = fit_hosts(measured([0.001] * 6), [True] * 6).values()
    assert (found.name, found.host_s, found.host_p05_s, found.host_p95_s) == ("vllm", 0.001, 0.001, 0.001)
    assert not found.fused_quantisation


def test_only_the_chosen_half_counts() -> None:
    found = fit_hosts(measured([0.001, 0.009] * 4), [True, False] * 4)
    assert found["vllm"].host_s == 0.001


def test_the_spread_is_that_of_the_shorter_steps() -> None:
    found = fit_hosts(measured([0.001, 0.002, 0.003, 0.050, 0.060]), [True] * 5)["vllm"]
    assert found.host_s == 0.003
    assert found.host_p05_s == pytest.approx(np.quantile([0.001, 0.002, 0.003], 0.05), abs=1e-6)
    assert found.host_p95_s == 0.003


def test_a_host_takes_no_negative_time() -> None:
    found = fit_hosts(measured([-0.0005] * 4), [True] * 4)["vllm"]
    assert (found.host_p05_s, found.host_s, found.host_p95_s) == (0, 0, 0)


def test_runs_that_queue_or_beat_the_roofline_tell_nothing() -> None:
    fast = measured([-0.02], batch_size=4)
    assert not fast[0].possible
    assert fit_hosts(measured([0.001]) + fast, [True, True])["vllm"].host_s == 0.001
    assert fit_hosts(fast, [True]) == {}


def test_the_catalogue_reads_what_is_written() -> None:
    hosts = {
        name: Engine(
            name=name, host_s=2e-4, host_p05_s=0, host_p95_s=1.5e-3, source="made up", fused_quantisation=fused
        )
        for name, fused in (("trtllm", True), ("vllm", False))
    }
    tables = tomllib.loads(engines_text(hosts))
    assert {name: Engine(name=name, **table) for name, table in tables.items()} == hosts


def test_the_catalogue_keeps_the_three_engines() -> None:
    assert set(engine_names()) == {"vllm", "sglang", "trtllm"}
    assert [name for name, each in engine_names().items() if each.fused_quantisation] == ["trtllm"]


@pytest.mark.parametrize("quantiles", [(1, 0, 2), (0, 2, 1), (-1, 0, 1), (0, 0, np.inf), (0, np.nan, 1)])
def test_quantiles_out_of_order_are_refused(quantiles: tuple[float, float, float]) -> None:
    low, middle, high = map(float, quantiles)
    with pytest.raises(InputError, match="engine x: host_s"):
        Engine(name="x", host_s=middle, host_p05_s=low, host_p95_s=high, source="made up")


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_estimate_adds_the_host_to_each_step(name: str) -> None:
    server = load_engine(name)
    assert server is not None
    bare, served = (
        estimate(Scenario(model="qwen3-8b", output_tokens=9, engine=each)).latency.tpot_s for each in ("none", name)
    )
    assert served.p50 - bare.p50 == pytest.approx(server.host_s, abs=1e-9)
    assert host_times(server).interval() == (server.host_p05_s, server.host_s, server.host_p95_s)
