"""What the simulator predicts for a measured run: one decode step, one prefill, and how many requests fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from asymsim.catalogue.engine import load_engine
from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.load import load_model
from asymsim.catalogue.model import VlmModel
from asymsim.catalogue.number_format import kv_bits, number_format
from asymsim.core.arrays import Array
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.layout import DECODE, HEAD, PREFILL
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import NUM_TIME_CLASSES
from asymsim.core.times.row_time import joint_interval, row_interval, row_roofline
from asymsim.core.workspace import KV_PAGED_BYTES
from asymsim.estimator.countable import check_countable
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.memory import free_memory_bytes, weights_bytes
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.operator_table import operator_table
from asymsim.estimator.resolve import resolve
from asymsim.estimator.scenario import Scenario
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.estimator.token_counts import request_tokens, scenario_tokens
from asymsim.methods.schedule import IDENTITY
from asymsim.util.errors import InputError
from asymsim.validation.serving_runs.loader import Run

# Checkpoints of 8-bit models keep the embedding and the output head in this format.
HEAD_DTYPE = "bf16"


class Interval(NamedTuple):
    """Seconds: 5 %, median and 95 %."""

    p05: float
    p50: float
    p95: float


@dataclass(frozen=True)
class Work:
    """Time of some operators on the GPU, which adds up by class.

    Attributes
    ----------
    seconds : numpy.ndarray, shape (classes, 3)
        5 %, median, 95 % of each operator class.
    roofline_s : float
        What the data sheet's rates alone would allow.
    """

    seconds: Array
    roofline_s: float

    @staticmethod
    def none() -> Work:
        """Work of no time."""
        return Work(np.zeros((NUM_TIME_CLASSES, 3)), 0.0)

    def __mul__(self, factor: float) -> Work:
        return Work(self.seconds * factor, self.roofline_s * factor)

    def __add__(self, other: Work) -> Work:
        return Work(self.seconds + other.seconds, self.roofline_s + other.roofline_s)

    def interval(self) -> Interval:
        """All classes together, as `core.times.row_time.joint_interval` joins them."""
        found = np.empty(3)
        joint_interval(self.seconds[None], np.zeros(1, np.int64), found)
        return Interval(*found.tolist())


@dataclass(frozen=True)
class Prediction:
    """What is predicted for a run.

    Attributes
    ----------
    run : Run
    running : int
        Requests that decode together: the run's, or as many as the KV cache holds.
    decode, prefill : Work
        One step of all of them at the mean context; one request's prompt.
    """

    run: Run
    running: int
    decode: Work
    prefill: Work

    @cached_property
    def step(self) -> Work:
        """A decode step and its share of the prefills that other requests put between steps."""
        return self.decode + self.prefill * ((self.running - 1) / self.run.output_tokens)

    @property
    def possible(self) -> bool:
        """Whether the measured time is not below the roofline of a server that caches no prefix."""
        return self.run.tpot_s >= self.step.roofline_s

    @property
    def queued(self) -> bool:
        """Whether the run asks for more requests than the KV cache holds."""
        return self.running < self.run.batch_size

    @property
    def judged(self) -> bool:
        """Whether the run can tell of the host and of the queue."""
        return self.possible and not self.queued


@dataclass(frozen=True)
class _Served:
    """A model on a GPU, with a format and rates for the layers and for the head."""

    shape: VlmModel
    arrays: ModelArrays
    schedule: ScheduleArrays
    body: tuple[Precision, GpuArrays]
    head: tuple[Precision, GpuArrays]
    free_bytes: float

    def work(self, phase: int, input_tokens: int, output_tokens: int, batch_size: int) -> tuple[Work, float]:
        """Time of one phase, and the bytes of cache a request at its end."""
        load = request_tokens(
            self.shape, text_tokens=input_tokens, output_tokens=output_tokens, batch_size=batch_size
        ).token_counts()
        seconds, floor_s, cache = np.zeros((NUM_TIME_CLASSES, 3)), 0.0, 0.0
        for precision, rates, of_head in ((*self.body, False), (*self.head, True)):
            table = operator_table(self.arrays, self.schedule, load, precision, rates)
            for row in table.rows[(table.rows["phase"] == phase) & ((table.rows["name"] == HEAD) == of_head)]:
                *times, of = row_interval(row, rates, 1)
                seconds[of] += times
                floor_s += row_roofline(row, rates, 1)
            cache = float(table.totals[KV_PAGED_BYTES]) / batch_size
        return Work(seconds, floor_s), cache


def predict(run: Run) -> Prediction:
    """Times of a run's decode step and prefill on the GPU alone, without host and queue.

    Prefill is of one request, without a cached prefix and in one piece. ``running`` counts weights and KV cache
    against `memory.USABLE_SHARE` of the device.

    Raises
    ------
    InputError
        If the GPU has no units for the format, or the counts would pass 64 bits; with the run's line.
    """
    try:
        return _predict(run)
    except InputError as error:
        raise InputError(f"line {run.line}: {error.field}", error.value, error.remedy) from None


def _predict(run: Run) -> Prediction:
    scenario = Scenario(
        model=run.model,
        gpu=run.gpu.name,
        text_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        batch_size=run.batch_size,
        dtype=run.dtype,
        kv_dtype=run.kv_dtype,
    )
    bound = resolve(scenario)
    check_countable(bound, scenario_tokens(scenario, bound.model))
    served = _served(run.model, run.gpu.name, run.engine, run.dtype, run.kv_dtype)
    prefill, _ = served.work(PREFILL, run.input_tokens, 1, 1)
    _, cache = served.work(DECODE, run.input_tokens, run.output_tokens, 1)
    running = max(1, min(run.batch_size, int(served.free_bytes // cache)))
    decode, _ = served.work(DECODE, run.input_tokens, run.output_tokens, running)
    return Prediction(run, running, decode * (1 / (run.output_tokens - 1)), prefill)


@lru_cache(maxsize=64)
def _served(name: str, device_name: str, engine_name: str, dtype_name: str, kv_dtype: str) -> _Served:
    shape, device = load_model(name), load_gpu(device_name)
    server = load_engine(engine_name)
    assert server is not None
    # The host's share is what the runs are asked for.
    server = replace(server, host_s=0.0, host_p05_s=0.0, host_p95_s=0.0)

    def rates(of: str) -> tuple[Precision, GpuArrays]:
        chosen = number_format(of)
        cache_bits = kv_bits(kv_dtype, number_format(dtype_name))
        precision = Precision(chosen.weight_bits, chosen.activation_bits, cache_bits, 1)
        return precision, gpu_arrays(device, chosen, server)

    body, head = rates(dtype_name), rates(HEAD_DTYPE)
    wider = shape.parameters["embeddings"] + shape.parameters["lm_head"]
    weights = weights_bytes(shape, body[0]) + wider * (head[0].weight_bits - body[0].weight_bits) / 8
    free = free_memory_bytes(device, weights)
    return _Served(shape, model_arrays(shape), schedule_arrays(IDENTITY, shape), body, head, free)
