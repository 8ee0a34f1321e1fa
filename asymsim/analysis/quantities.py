"""Efficiency quantities of papers, read off an estimate; SI units, percentages and ratios as plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from asymsim.catalogue.load import load_model
from asymsim.estimator.estimate import estimate
from asymsim.estimator.flop_conventions import CONVENTIONS, prefill_flops, retained_tokens
from asymsim.estimator.result import Seconds
from asymsim.estimator.scenario import Scenario, unpruned

Quantity = Callable[[Scenario], float]

# Whole tokens of a hundredfold image are hundredths of a token.
FINENESS = 100


def _prefill_flops(scenario: Scenario) -> float:
    return estimate(scenario).flops.prefill


def _fractional_prefill_flops(scenario: Scenario) -> float:
    """Where (1 - R) N is no whole number: the schedule runs on a finer image, and its counts are scaled back."""
    fine = estimate(replace(scenario, visual_tokens=FINENESS * (scenario.visual_tokens or 0))).schedule
    visual = [tokens / FINENESS for tokens in fine.visual_tokens_by_layer]
    language_model = load_model(scenario.model).language_model
    return prefill_flops(CONVENTIONS[scenario.convention], language_model, visual, fine.text_tokens_by_layer)


def _prefill_flops_saved(scenario: Scenario) -> float:
    return estimate(scenario).savings.prefill_flops


def _alignment_flops(scenario: Scenario) -> float:
    """The one selection product of all visual and all text tokens in the joint space."""
    result = estimate(scenario, operators=True)
    settings = result.schedule.settings
    shape = (result.workload.visual_tokens, settings["text_tower_tokens"], settings["joint_size"])
    return float(sum(row["flops"] for row in result.operators or () if (row["m"], row["n"], row["k"]) == shape))


def _retained_tokens(scenario: Scenario) -> float:
    return retained_tokens(estimate(scenario).schedule.visual_tokens_by_layer)


def _retained_share(scenario: Scenario) -> float:
    return _retained_tokens(scenario) / estimate(scenario).workload.visual_tokens


def _largest_share(scenario: Scenario) -> float:
    result = estimate(scenario)
    return max(result.schedule.visual_tokens_by_layer) / result.workload.visual_tokens


def _kv_bytes_per_token(scenario: Scenario) -> float:
    return estimate(scenario).kv_cache.bytes_per_token


def _median(time: Seconds) -> float:
    assert time.p50 is not None
    return time.p50


def _prefill_time(scenario: Scenario) -> float:
    """Selection and prefill together, since pruning costs the one to save the other."""
    latency = estimate(scenario).latency
    return _median(latency.prefill_s) + _median(latency.selection_s)


COUNTED: dict[str, Quantity] = {
    "prefill_flops": _prefill_flops,
    "prefill_flops_of_fractions": _fractional_prefill_flops,
    "prefill_flops_saved": _prefill_flops_saved,
    "prefill_flops_left": lambda scenario: 1 - _prefill_flops_saved(scenario),
    "prefill_flops_times_fewer": lambda scenario: 1 / (1 - _prefill_flops_saved(scenario)),
    "alignment_flops": _alignment_flops,
    "retained_tokens": _retained_tokens,
    "retained_kv_bytes": lambda scenario: _retained_tokens(scenario) * _kv_bytes_per_token(scenario),
    "retained_kv_saved": lambda scenario: 1 - _retained_share(scenario),
    "attention_matrix_saved": lambda scenario: 1 - _largest_share(scenario) ** 2,
    "kv_bytes_per_token": _kv_bytes_per_token,
}
TIMES: dict[str, Quantity] = {
    "ttft": lambda scenario: _median(estimate(scenario).latency.ttft_s),
    "prefill_time": _prefill_time,
    "ttft_speedup": lambda scenario: 1 / (1 - estimate(scenario).savings.ttft),
    "prefill_speedup": lambda scenario: _prefill_time(unpruned(scenario)) / _prefill_time(scenario),
    "e2e_speedup": lambda scenario: 1 / (1 - estimate(scenario).savings.e2e),
}
QUANTITIES = COUNTED | TIMES
