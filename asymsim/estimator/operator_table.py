"""Operator table of a scenario: each operator that runs, how often, and its FLOPs, bytes and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asymsim.catalogue.model import VlmModel
from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.layout import KIND_NAMES, OPERATOR, OPERATOR_NAMES, PHASE_NAMES
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import ROOFLINE, SOURCE_NAMES
from asymsim.core.times.row_time import row_times
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import workspace


@dataclass(frozen=True)
class OperatorTable:
    """Operator rows of one scenario, and the totals that do not follow from them.

    Attributes
    ----------
    rows : numpy.ndarray of ``core.operators.layout.OPERATOR``
        One row an operator and group of equal layers; FLOPs and bytes are totals over all its
        executions, the whole batch and all GPUs.
    totals : numpy.ndarray of int64
        Cache, first-step and activation totals, indexed by the names in ``core.workspace``.
    seconds : numpy.ndarray of float64, shape (phases, classes, 3)
        Time by phase and operator class: 5 %, median, 95 %.
    sources : numpy.ndarray of int64, shape (phases,)
        The least certain source of each phase's times, a code of ``core.times.parameters.SOURCE_NAMES``.
    times : dict of str to float
        By the names of ``core.estimate.TIME_COLUMNS``.
    visual, text, kv, final_kv : numpy.ndarray of int64, shape (layers,)
        Tokens entering each layer in prefill; cached entries after prefill and at the end.
    """

    rows: Array
    totals: Array
    seconds: Array
    sources: Array
    times: dict[str, float]
    visual: Array
    text: Array
    kv: Array
    final_kv: Array

    @property
    def phase_seconds(self) -> Array:
        """Median time of each phase, shape (phases,)."""
        medians: Array = self.seconds[:, :, 1].sum(axis=1)
        return medians

    def flops(self, phase: int, column: str = "flops") -> int:
        """FLOPs of one phase: ``flops`` exactly, or ``torch_flops`` as the framework counts."""
        return int(self.rows[column][self.rows["phase"] == phase].sum())

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries with names in place of codes."""
        records = []
        for row in self.rows:
            record: dict[str, Any] = {name: int(row[name]) for name in OPERATOR.names or ()}
            record["name"] = OPERATOR_NAMES[record["name"]]
            record["kind"] = KIND_NAMES[record["kind"]]
            record["phase"] = PHASE_NAMES[record["phase"]]
            del record["split"]
            records.append(record)
        return records

    def timed_records(self, gpu: GpuArrays, tp_size: int) -> list[dict[str, Any]]:
        """``records`` with the seconds of all executions on each GPU, their interval and source."""
        records = self.records()
        seconds, sources = operator_times(self.rows, gpu, tp_size)
        for record, (p05, median, p95), source in zip(records, seconds.tolist(), sources.tolist(), strict=True):
            has_interval = source != ROOFLINE
            record["seconds"] = median
            record["seconds_p05"], record["seconds_p95"] = (p05, p95) if has_interval else (None, None)
            record["source"] = SOURCE_NAMES[source]
        return records


WeightedTables = list[tuple[float, OperatorTable]]


def operator_table(
    model: ModelArrays, schedule: ScheduleArrays, counts: TokenCounts, precision: Precision, gpu: GpuArrays
) -> OperatorTable:
    """Operator table of one scenario, by the compiled entry point that sweeps share."""
    work = workspace(model, schedule)
    totals, times = np.empty((1, len(COUNT_COLUMNS)), np.int64), np.empty((1, len(TIME_COLUMNS)))
    rows = evaluate_rows(model, schedule, np.array([counts], np.int64), precision, gpu, work, totals, times)
    starts = schedule.lm_starts
    lengths = np.diff(starts)
    # A layer caches as many entries as its kind does.
    kinds = np.argmax(np.diff(model.lm_prefix, axis=0), axis=1)
    segments = np.repeat(np.arange(len(lengths)), lengths)
    return OperatorTable(
        rows=work.operators[:rows],
        totals=work.totals,
        seconds=work.seconds,
        sources=work.sources,
        times=dict(zip(TIME_COLUMNS, times[0].tolist(), strict=True)),
        visual=np.repeat(work.lm_counts[:, 1], lengths),
        text=np.repeat(work.lm_counts[:, 2], lengths),
        kv=work.kv[segments, kinds, 0],
        final_kv=work.kv[segments, kinds, 1],
    )


def operator_times(rows: Array, gpu: GpuArrays, tp_size: int) -> tuple[Array, Array]:
    """Time of all executions of each operator row on each of ``tp_size`` GPUs.

    Returns
    -------
    numpy.ndarray, shape (rows, 3)
        Seconds at 5 %, at the median and at 95 %; nan at both ends of a roofline.
    numpy.ndarray of int64, shape (rows,)
        Codes of ``core.times.parameters.SOURCE_NAMES``.
    """
    seconds, sources = np.empty((len(rows), 3)), np.empty(len(rows), np.int64)
    row_times(rows, gpu, tp_size, seconds, sources)
    return seconds, sources


def kv_bytes_per_token(model: VlmModel, kv_bits: int) -> int:
    """Cache bytes that one more prompt token takes in all self-attention layers."""
    text = model.language_model
    layers = (text.layer_kinds[kind] for kind in text.layer_pattern)
    return sum(2 * layer.kv_heads * layer.head_size * kv_bits // 8 for layer in layers if layer.attention == "self")
