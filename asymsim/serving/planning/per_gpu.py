"""The fewest GPUs of one kind for each scenario of a plan, with and without errors of the latency model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.token_counts import TokenCounts as Counts
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario, unpruned
from asymsim.serving.planning.candidate import Candidate, Outcome
from asymsim.serving.planning.latency_uncertainty import class_ratios, standard_normals, time_factors, with_time_errors
from asymsim.serving.planning.query import TP_SIZES, PlanQuery
from asymsim.serving.planning.replica_search import MOST_REPLICAS, ReplicaSearch, fewest_replicas
from asymsim.serving.request_shapes import request_token_counts
from asymsim.serving.workload.requests import Requests
from asymsim.util.errors import InputError, UnsupportedError

# Requests that show how long one takes alone.
SAMPLE = 200
Advance = Callable[[int], None]


@dataclass(frozen=True)
class TpAttempt:
    """One degree of tensor parallelism: the fewest replicas, or why there are none."""

    tp_size: int
    replicas: int | None
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """The fewest GPUs of one kind for one scenario.

    Attributes
    ----------
    scenario : Scenario
        With the GPU, and the degree of tensor parallelism that takes fewest of them.
    tried : tuple of Tried
    requests : int
        How many were simulated.
    replicas, gpus : int, optional
        None where no fleet meets the limits.
    why : str, optional
        Why none does.
    outcome : Outcome, optional
        Of the fewest replicas.
    drawn_gpus : numpy.ndarray, optional
        The fewest in each draw of the latency model's error, at this ``tp_size``; infinite where no fleet meets the
        limits. None without draws, or where a time is a bare roofline.
    """

    scenario: Scenario
    tried: tuple[TpAttempt, ...]
    requests: int
    replicas: int | None = None
    why: str | None = None
    outcome: Outcome | None = None
    drawn_gpus: Array | None = None

    @property
    def gpus(self) -> int | None:
        """GPUs of all replicas."""
        return None if self.replicas is None else self.replicas * self.scenario.tp_size


def plans_on_gpu(question: PlanQuery, gpu: str, advance: Advance = lambda searches: None) -> list[GpuPlan]:
    """The answer for each scenario on one kind of GPU; ``advance`` is told of each search that is done."""
    requests = question.requests(question.number_of_requests(lone_request_s(question, gpu)))
    answers, chosen = [], []
    for scenario in question.scenarios:
        answer, trial = _answer(question, replace(scenario, gpu=gpu), requests)
        answers.append(answer)
        chosen.append(trial)
        advance(1)
    if not question.draws:
        return answers
    normal = standard_normals(question.draws, question.load.seed)
    ratios: dict[int, Array | None] = {}
    for place, (answer, trial) in enumerate(zip(answers, chosen, strict=True)):
        if trial is None:
            advance(question.draws)
            continue
        # A pruned scenario and its twin are drawn alike, so the first one's batch stands for both.
        tp_size = answer.scenario.tp_size
        if tp_size not in ratios:
            ratios[tp_size] = class_ratios(trial.bound, _typical(trial, answer))
        drawn_gpus = _drawn_gpus(question, trial, answer, ratios[tp_size], normal, advance)
        answers[place] = replace(answer, drawn_gpus=drawn_gpus)
    return answers


def candidates(question: PlanQuery, scenario: Scenario, requests: Requests) -> Iterator[tuple[int, Candidate | str]]:
    """A trial for each degree of tensor parallelism, or why there is none."""
    for tp_size in question.tp_sizes or TP_SIZES:
        try:
            bound = resolve(replace(scenario, tp_size=tp_size))
        except UnsupportedError as error:
            yield tp_size, f"not for this model: {error.remedy}"
            continue
        except InputError as error:
            if error.field == "dtype" or (error.field == "tp_size" and question.tp_sizes is None):
                yield tp_size, str(error)
                continue
            raise
        trial = Candidate.of(bound, requests, question.server, question.router, question.aim)
        yield tp_size, trial if trial.fits else "no memory for a cache beside the weights"


def lone_request_s(question: PlanQuery, gpu: str) -> float:
    """Mean time of a request alone, unpruned, by as few GPUs as it fits on; 0 where it fits on none."""
    requests = question.requests(SAMPLE).take(slice(SAMPLE))
    for _, trial in candidates(question, replace(unpruned(question.scenarios[0]), gpu=gpu), requests):
        if isinstance(trial, Candidate):
            e2e_s = trial.alone().served.e2e_s
            return float(np.nanmean(e2e_s)) if np.isfinite(e2e_s).any() else 0.0
    return 0.0


def _answer(question: PlanQuery, scenario: Scenario, requests: Requests) -> tuple[GpuPlan, Candidate | None]:
    """The degree of tensor parallelism that takes fewest GPUs, and its trial."""
    tried: list[TpAttempt] = []
    why: str | None = None
    best: tuple[int, ReplicaSearch, Candidate] | None = None
    for tp_size, trial in candidates(question, scenario, requests):
        if isinstance(trial, str):
            tried.append(TpAttempt(tp_size, None, trial))
            continue
        most = MOST_REPLICAS
        if best is not None:
            # What takes as many GPUs as are known to be enough is no better.
            most = (best[0] * (best[1].replicas or 0) - 1) // tp_size
        if most < 1:
            tried.append(TpAttempt(tp_size, None, "no fewer GPUs"))
            continue
        found = fewest_replicas(trial, question.rate_per_s, most, explain=best is None)
        tried.append(TpAttempt(tp_size, found.replicas, found.why))
        why = found.why
        if found.replicas is not None:
            best = tp_size, found, trial
    made = GpuPlan(scenario=scenario, tried=tuple(tried), requests=len(requests))
    if best is None:
        # Of the most GPUs that could be tried, or else why none could.
        return replace(made, why=why or tried[-1].why), None
    tp_size, found, trial = best
    scenario = replace(scenario, tp_size=tp_size)
    return replace(made, scenario=scenario, replicas=found.replicas, outcome=found.outcome), trial


def _typical(trial: Candidate, answer: GpuPlan) -> Array:
    """The request of middle length, of those served, in a batch as large as the answer's replicas have on average."""
    assert answer.outcome is not None
    assert answer.replicas is not None
    served = answer.outcome.served
    loads, of = request_token_counts(trial.bound, trial.requests, trial.server)
    of = of[np.isfinite(served.e2e_s)]
    columns = [Counts._fields.index(name) for name in ("visual_tokens", "text_tokens", "output_tokens")]
    length = loads[of][:, columns].sum(axis=1)
    load: Array = loads[of[np.argsort(length, kind="stable")[len(length) // 2]]].copy()
    # Little's law: requests in flight are their times' sum over the run's length.
    in_flight = float(np.nansum(served.e2e_s)) / max(served.end_s, 1e-9) / answer.replicas
    load[Counts._fields.index("batch_size")] = max(1, round(in_flight))
    return load


def _drawn_gpus(
    question: PlanQuery, trial: Candidate, answer: GpuPlan, ratios: Array | None, normal: Array, advance: Advance
) -> Array | None:
    """The fewest GPUs in each draw, looked for from the answer on."""
    if ratios is None:
        advance(len(normal))
        return None
    assert answer.replicas is not None
    gpus = np.empty(len(normal))
    for place, by_class in enumerate(time_factors(ratios, normal)):
        other = trial.on(with_time_errors(trial.bound, by_class))
        found = fewest_replicas(other, question.rate_per_s, start=answer.replicas)
        gpus[place] = math.inf if found.replicas is None else found.replicas * answer.scenario.tp_size
        advance(1)
    return gpus
