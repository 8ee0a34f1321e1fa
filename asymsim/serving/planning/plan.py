"""Plan of the fewest GPUs that serve a workload within latency limits, for each GPU model and pruning method."""

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
from asymsim.util.arguments import checked_arguments

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GpuSaving:
    """GPUs that pruning saves on one GPU model; negative where it needs more.

    Attributes
    ----------
    unpruned, pruned : GpuPlan
    gpus_saved : int
    p05_gpus_saved, p95_gpus_saved : float, optional
        Ends of the middle 90 % of the samples, in which both plans get the same errors; infinite where only one of the
        two can meet the limits at all. None where the times are a bare roofline.
    """

    unpruned: GpuPlan
    pruned: GpuPlan
    gpus_saved: int
    p05_gpus_saved: float | None
    p95_gpus_saved: float | None


@dataclass(frozen=True)
class Plan:
    """A query, and a plan for each GPU model and each scenario, in the order of both."""

    query: PlanQuery
    gpu_plans: tuple[GpuPlan, ...]

    @property
    def fewest_gpus(self) -> GpuPlan | None:
        """The plan of fewest GPUs, the first of equals."""
        feasible = [plan for plan in self.gpu_plans if plan.gpus is not None]
        return min(feasible, key=lambda plan: plan.gpus or 0, default=None)

    @property
    def cheapest(self) -> GpuPlan | None:
        """The plan of the lowest rent, the first of equals; None where no price is known."""
        priced = [(price, plan) for plan in self.gpu_plans if (price := self.usd_per_hour(plan)) is not None]
        return min(priced, key=lambda pair: pair[0])[1] if priced else None

    def usd_per_hour(self, gpu_plan: GpuPlan) -> float | None:
        """Rent of a plan's GPUs, US dollars an hour."""
        price = self.query.tariff.price_usd_per_hour(load_gpu(gpu_plan.scenario.gpu))
        return None if price is None or gpu_plan.gpus is None else price * gpu_plan.gpus

    @property
    def savings(self) -> list[GpuSaving]:
        """Savings of each pruned plan against the unpruned one on the same GPU model, where both exist."""
        savings = []
        baselines = {plan.scenario.gpu: plan for plan in self.gpu_plans if is_unpruned(plan.scenario)}
        for gpu_plan in self.gpu_plans:
            baseline = baselines[gpu_plan.scenario.gpu]
            if gpu_plan is not baseline and gpu_plan.gpus is not None and baseline.gpus is not None:
                ends = middle_90_percent(difference(baseline.sampled_gpus, gpu_plan.sampled_gpus))
                savings.append(GpuSaving(baseline, gpu_plan, baseline.gpus - gpu_plan.gpus, *ends))
        return savings


def difference(minuend: Array | None, subtrahend: Array | None) -> Array | None:
    """``minuend - subtrahend`` of each sample, without samples in which both are infinite."""
    if minuend is None or subtrahend is None:
        return None
    either_finite = np.isfinite(minuend) | np.isfinite(subtrahend)
    paired: Array = minuend[either_finite] - subtrahend[either_finite]
    return paired


def middle_90_percent(values: Array | None) -> tuple[float | None, float | None]:
    """Ends of the middle 90 % of some samples: of 20, the second and the last but one."""
    if values is None or not len(values):
        return None, None
    ordered, tail = np.sort(values), len(values) // 20
    return float(ordered[tail]), float(ordered[-1 - tail])


@checked_arguments
def plan(query: PlanQuery, *, workers: int | None = None, progress: Progress | None = None) -> Plan:
    """Fewest GPUs that meet the latency limits, for each GPU model and each scenario.

    The fewest is a number of replicas that meets every limit and keeps up while one fewer does not, in simulations of
    the same requests. Of several degrees of tensor parallelism the one that takes fewest GPUs is chosen, the lowest of
    equals. The dense baseline is added where the scenarios lack it. The plans of one GPU model do not depend on the
    other GPU models of the query, nor on the number of threads.

    Parameters
    ----------
    query : PlanQuery
    workers : int, optional
        Threads, each for one GPU model; as many as cores by default.
    progress : callable, optional
        Called from several threads with the number of searches done and the total.

    Raises
    ------
    AsymsimError
        If a name is unknown, a value out of range, or there is neither a rate nor a trace.
    """
    # Before any thread starts, so that a trace is read once.
    _ = query.rate_per_s
    searches_total = len(query.gpus) * len(query.scenarios) * (1 + query.samples)
    searches_done = 0

    def advance(searches: int) -> None:
        nonlocal searches_done
        searches_done += searches
        if progress is not None:
            progress(searches_done, searches_total)

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        by_gpu = list(pool.map(lambda name: plans_on_gpu(query, name, advance), query.gpus))
    return Plan(query, tuple(gpu_plan for gpu_plans in by_gpu for gpu_plan in gpu_plans))
