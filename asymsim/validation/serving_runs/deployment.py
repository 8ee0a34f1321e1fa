"""Predicted times of a measured run: one decode step, one prefill, and the requests that the KV cache holds."""

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
class ClassTimes:
    """Time of some operators on the GPU, by operator class; sums and multiples are taken class by class.

    Attributes
    ----------
    seconds : numpy.ndarray, shape (classes, 3)
        5 %, median, 95 % of each operator class.
    roofline_s : float
        Time at the data sheet's rates.
    """

    seconds: Array
    roofline_s: float

    @staticmethod
    def zero() -> ClassTimes:
        """No time in any class."""
        return ClassTimes(np.zeros((NUM_TIME_CLASSES, 3)), 0.0)

    def __mul__(self, factor: float) -> ClassTimes:
        return ClassTimes(self.seconds * factor, self.roofline_s * factor)

    def __add__(self, other: ClassTimes) -> ClassTimes:
        return ClassTimes(self.seconds + other.seconds, self.roofline_s + other.roofline_s)

    def interval(self) -> Interval:
        """Seconds of all classes together, joined by `core.times.row_time.joint_interval`."""
        ends = np.empty(3)
        joint_interval(self.seconds[None], np.zeros(1, np.int64), ends)
        return Interval(*ends.tolist())


@dataclass(frozen=True)
class Prediction:
    """Predicted times of a run.

    Attributes
    ----------
    run : Run
    running : int
        Requests that decode together: the run's batch, or as many as the KV cache holds.
    decode, prefill : ClassTimes
        One decode step of these requests at the mean context; the prefill of one prompt.
    """

    run: Run
    running: int
    decode: ClassTimes
    prefill: ClassTimes

    @cached_property
    def engine_step(self) -> ClassTimes:
        """A decode step and its share of the prefills of other requests that run between decode steps."""
        return self.decode + self.prefill * ((self.running - 1) / self.run.output_tokens)

    @property
    def possible(self) -> bool:
        """Whether the measured TPOT is at least the roofline of a server without prefix caching."""
        return self.run.tpot_s >= self.engine_step.roofline_s

    @property
    def queued(self) -> bool:
        """Whether the run's batch is larger than the KV cache holds."""
        return self.running < self.run.batch_size

    @property
    def judged(self) -> bool:
        """Whether the run is used for errors, and for fits of host and queue."""
        return self.possible and not self.queued


@dataclass(frozen=True)
class _Deployment:
    """A model on a GPU, with number format and rates of the layers and of the output head.

    Attributes
    ----------
    model : VlmModel
    model_arrays : ModelArrays
    schedule : ScheduleArrays
    layers, head : tuple of Precision and GpuArrays
    free_bytes : float
        Device memory beside the weights.
    """

    model: VlmModel
    model_arrays: ModelArrays
    schedule: ScheduleArrays
    layers: tuple[Precision, GpuArrays]
    head: tuple[Precision, GpuArrays]
    free_bytes: float

    def phase_times(
        self, phase: int, input_tokens: int, output_tokens: int, batch_size: int
    ) -> tuple[ClassTimes, float]:
        """Time of one phase, and the KV-cache bytes of a request at its end."""
        counts = request_tokens(
            self.model, text_tokens=input_tokens, output_tokens=output_tokens, batch_size=batch_size
        ).token_counts()
        seconds, roofline_s, kv_bytes = np.zeros((NUM_TIME_CLASSES, 3)), 0.0, 0.0
        for precision, rates, of_head in ((*self.layers, False), (*self.head, True)):
            table = operator_table(self.model_arrays, self.schedule, counts, precision, rates)
            for row in table.rows[(table.rows["phase"] == phase) & ((table.rows["name"] == HEAD) == of_head)]:
                *times, time_class = row_interval(row, rates, 1)
                seconds[time_class] += times
                roofline_s += row_roofline(row, rates, 1)
            kv_bytes = float(table.totals[KV_PAGED_BYTES]) / batch_size
        return ClassTimes(seconds, roofline_s), kv_bytes


def predict(run: Run) -> Prediction:
    """Times of a run's decode step and prefill on the GPU, without host and queue.

    The prefill is of one request, without a cached prefix, in one chunk. ``running`` counts weights and KV cache
    against the usable share of the device's memory.

    Raises
    ------
    InputError
        If the GPU has no units for the format, or a count exceeds 64 bits; with the run's line.
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
    resolved = resolve(scenario)
    check_countable(resolved, scenario_tokens(scenario, resolved.model))
    deployment = _deployment(run.model, run.gpu.name, run.engine, run.dtype, run.kv_dtype)
    prefill, _ = deployment.phase_times(PREFILL, run.input_tokens, 1, 1)
    _, kv_bytes = deployment.phase_times(DECODE, run.input_tokens, run.output_tokens, 1)
    running = max(1, min(run.batch_size, int(deployment.free_bytes // kv_bytes)))
    decode, _ = deployment.phase_times(DECODE, run.input_tokens, run.output_tokens, running)
    return Prediction(run, running, decode * (1 / (run.output_tokens - 1)), prefill)


@lru_cache(maxsize=64)
def _deployment(model_name: str, gpu_name: str, engine_name: str, dtype_name: str, kv_dtype: str) -> _Deployment:
    model, gpu = load_model(model_name), load_gpu(gpu_name)
    engine = load_engine(engine_name)
    assert engine is not None
    # Host times are fitted on these runs, so predictions leave them out.
    engine = replace(engine, host_s=0.0, host_p05_s=0.0, host_p95_s=0.0)

    def rates(name: str) -> tuple[Precision, GpuArrays]:
        dtype = number_format(name)
        cache_bits = kv_bits(kv_dtype, number_format(dtype_name))
        precision = Precision(dtype.weight_bits, dtype.activation_bits, cache_bits, 1)
        return precision, gpu_arrays(gpu, dtype, engine)

    layers, head = rates(dtype_name), rates(HEAD_DTYPE)
    head_parameters = model.parameters["embeddings"] + model.parameters["lm_head"]
    head_extra_bytes = head_parameters * (head[0].weight_bits - layers[0].weight_bits) / 8
    free_bytes = free_memory_bytes(gpu, weights_bytes(model, layers[0]) + head_extra_bytes)
    return _Deployment(model, model_arrays(model), schedule_arrays(IDENTITY, model), layers, head, free_bytes)
