"""The fewest GPUs that serve a load within limits, for each kind of GPU and each way of pruning."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from asymsim.catalogue.gpu import load_gpu
from asymsim.core.arrays import Array
from asymsim.estimator.scenario import is_unpruned
from asymsim.serving.planning.per_gpu import GpuPlan, plans_on_gpu
from asymsim.serving.planning.query import PlanQuery

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GpuSaving:
    """What pruning saves on one kind of GPU; negative where it needs more.

    Attributes
    ----------
    unpruned, pruned : Answer
    gpus : int
    p05_gpus, p95_gpus : float, optional
        The ends of the middle 90 % of the draws, in which both err together; infinite where only one of the two can
        meet the limits at all. None where the times are a bare roofline.
    """

    unpruned: GpuPlan
    pruned: GpuPlan
    gpus: int
    p05_gpus: float | None
    p95_gpus: float | None


@dataclass(frozen=True)
class Plan:
    """What was asked, and an answer for each kind of GPU and each scenario, in the order of both."""

    question: PlanQuery
    answers: tuple[GpuPlan, ...]

    @property
    def fewest(self) -> GpuPlan | None:
        """The answer of fewest GPUs, the first of equals."""
        met = [each for each in self.answers if each.gpus is not None]
        return min(met, key=lambda each: each.gpus or 0, default=None)

    @property
    def cheapest(self) -> GpuPlan | None:
        """The answer of least rent, the first of equals; None where no price is known."""
        priced = [(price, each) for each in self.answers if (price := self.usd_per_hour(each)) is not None]
        return min(priced, key=lambda each: each[0])[1] if priced else None

    def usd_per_hour(self, answer: GpuPlan) -> float | None:
        """Rent of an answer's GPUs, US dollars an hour."""
        price = self.question.tariff.price_usd_per_hour(load_gpu(answer.scenario.gpu))
        return None if price is None or answer.gpus is None else price * answer.gpus

    @property
    def savings(self) -> list[GpuSaving]:
        """Each answer with pruning against the one without, on the same kind of GPU, where both exist."""
        found = []
        unpruned = {each.scenario.gpu: each for each in self.answers if is_unpruned(each.scenario)}
        for each in self.answers:
            twin = unpruned[each.scenario.gpu]
            if each is not twin and each.gpus is not None and twin.gpus is not None:
                ends = middle_90_percent(difference(twin.drawn_gpus, each.drawn_gpus))
                found.append(GpuSaving(twin, each, twin.gpus - each.gpus, *ends))
        return found


def difference(more: Array | None, less: Array | None) -> Array | None:
    """``more - less`` of each draw, without draws in which both are infinite."""
    if more is None or less is None:
        return None
    some = np.isfinite(more) | np.isfinite(less)
    made: Array = more[some] - less[some]
    return made


def middle_90_percent(values: Array | None) -> tuple[float | None, float | None]:
    """The ends of the middle 90 % of some draws: with 20, the second and the last but one."""
    if values is None or not len(values):
        return None, None
    ordered, out = np.sort(values), len(values) // 20
    return float(ordered[out]), float(ordered[-1 - out])


def plan(question: PlanQuery, *, workers: int | None = None, progress: Progress | None = None) -> Plan:
    """Find the fewest GPUs that meet the limits, on each kind of GPU and for each scenario.

    The fewest is a number of replicas that meets every limit and keeps up while one fewer does not, in simulations of
    the same requests. Of several degrees of tensor parallelism the one that takes fewest GPUs is chosen, the lowest of
    equals. The unpruned twin of the scenarios is added where it is missing. Answers of one kind of GPU follow from it
    alone: they are the same whatever others are asked for, and on any number of threads.

    Parameters
    ----------
    question : Question
    workers : int, optional
        Threads, one kind of GPU each; as many as cores by default.
    progress : callable, optional
        Called with the number of searches done, and of all; from several threads.

    Raises
    ------
    AsymsimError
        If a name is unknown, a value out of range, or there is neither a rate nor a trace.
    """
    # Read before there are threads: a trace is read once.
    _ = question.rate_per_s
    total = len(question.gpus) * len(question.scenarios) * (1 + question.draws)
    done = 0

    def advance(searches: int) -> None:
        nonlocal done
        done += searches
        if progress is not None:
            progress(done, total)

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda name: plans_on_gpu(question, name, advance), question.gpus))
    return Plan(question, tuple(answer for answers in found for answer in answers))
