"""How much of a load meets its limits as the load grows, and the most that a fleet bears."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from asymsim.estimator.scenario import Scenario
from asymsim.serving.metrics import serving_metrics
from asymsim.serving.planning.bisection import largest
from asymsim.serving.planning.candidate import Candidate, Outcome
from asymsim.serving.planning.per_gpu import GpuPlan, candidates, lone_request_s
from asymsim.serving.planning.plan import Plan
from asymsim.serving.planning.query import PlanQuery

# Even steps up to beyond the most that any method bears, and a few from there for each method, where its goodput falls.
STEPS, BEYOND = 10, 1.3
FALLING = (1.02, 1.05, 1.1, 1.15, 1.2, 1.3)
# How closely the sustained rate is found.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Point:
    """One request rate: requests that meet all limits, a second and as a share; None where they pile up."""

    request_rate: float
    request_goodput: float | None
    slo_share: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Curve:
    """Goodput of a fleet against the request rate.

    Attributes
    ----------
    scenario : Scenario
    replicas : int
    requests : int
        How many were simulated at each rate.
    sustained_rate : float, optional
        The largest requests a second that meet the limits at the percentile, within 1 %; None where none does.
    points : tuple of Point
        By rate.
    """

    scenario: Scenario
    replicas: int
    requests: int
    sustained_rate: float | None
    points: tuple[Point, ...]


def sustained_rate(trial: Candidate, rate_per_s: float, replicas: int = 1) -> float | None:
    """The largest rate that replicas serve within the limits while one 1 % higher is not; None if none is.

    Parameters
    ----------
    trial : Trial
    rate_per_s : float
        At which its requests come; other rates are the same requests, closer or farther apart.
    replicas : int
    """

    def bearable(rate: float) -> bool:
        return trial.faster(rate / rate_per_s).run(replicas).meets

    if trial.alone().missed:
        return None
    start = replicas * trial.capacity_per_s()
    return largest(bearable, start, TOLERANCE) if np.isfinite(start) else None


def goodput_curves(plan: Plan, *, replicas: int = 1, workers: int | None = None) -> list[Curve]:
    """A curve for each answer of a plan, at the tensor parallelism that it chose.

    Parameters
    ----------
    plan : Plan
    replicas : int
        Of the fleet.
    workers : int, optional
        Threads, one kind of GPU each; as many as cores by default.
    """
    gpus = plan.question.gpus
    answers = [[each for each in plan.answers if each.scenario.gpu == gpu] for gpu in gpus]
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda own: _curves(plan.question, own, replicas), answers))
    return [curve for curves in found for curve in curves]


def _curves(question: PlanQuery, answers: list[GpuPlan], replicas: int) -> list[Curve]:
    """The curves of one kind of GPU, with rates in common."""
    ready = [each for each in (_trial(question, answer, replicas) for answer in answers) if each is not None]
    ends = [sustained_rate(trial, rate, replicas) for _, trial, rate in ready]
    known = [end for end in ends if end is not None]
    top = BEYOND * max(known or [replicas * trial.capacity_per_s() for _, trial, _ in ready] or [1.0])
    curves = []
    for (scenario, trial, rate), end in zip(ready, ends, strict=True):
        rates = {top * (step + 1) / STEPS for step in range(STEPS)}
        if end is not None:
            rates |= {end, *(end * more for more in FALLING)}
        points = tuple(_point(trial, rate, each, replicas) for each in sorted(rates) if each <= top)
        curves.append(Curve(scenario, replicas, len(trial.requests), end, points))
    return curves


def _trial(question: PlanQuery, answer: GpuPlan, replicas: int) -> tuple[Scenario, Candidate, float] | None:
    """The answer's scenario and its trial, as long as the most that it may bear needs, with its rate."""
    tp_sizes = question.tp_sizes if answer.gpus is None else (answer.scenario.tp_size,)
    question = replace(question, tp_sizes=tp_sizes)
    for tp_size, short in candidates(question, answer.scenario, question.requests(answer.requests)):
        if isinstance(short, Candidate):
            load = question.load
            if load.trace is None:
                load = replace(load, target_request_rate=replicas * min(short.capacity_per_s(), 1e6))
            quick = replace(question, load=load)
            requests = quick.requests(quick.number_of_requests(lone_request_s(question, answer.scenario.gpu)))
            trial = Candidate.of(short.bound, requests, question.server, question.router, question.aim)
            return replace(answer.scenario, tp_size=tp_size), trial, quick.rate_per_s
    return None


def _point(trial: Candidate, from_rate: float, rate: float, replicas: int) -> Point:
    outcome = trial.faster(rate / from_rate).run(replicas)
    run = serving_metrics(outcome.served, trial.aim.slo)
    return Point(rate, run.rates["request_goodput"], run.shares["slo_share"], outcome)
