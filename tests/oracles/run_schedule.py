"""Runs a schedule on a case and gives the counts by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.number_format import number_format
from asymsim.core.model_arrays import Precision
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.operator_table import OperatorTable, operator_table
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import Schedule
from oracles.small_models import Case


@dataclass(frozen=True)
class Run:
    """Tokens that enter each layer, cached entries a KV head after prefill and at the end, operators.

    ``tower`` counts those of the encoder's attention, ``tower_mlp`` of its MLP, per sequence and with [CLS].
    """

    tower: list[int]
    tower_mlp: list[int]
    visual: list[int]
    text: list[int]
    kv: list[int]
    final_kv: list[int]
    operators: list[dict[str, Any]]
    table: OperatorTable

    @property
    def selection(self) -> list[dict[str, Any]]:
        """The operators that the method itself adds."""
        return [row for row in self.operators if row["name"] == "select"]

    def products(self, m: int, n: int, k: int) -> list[dict[str, Any]]:
        """Selection products of one shape."""
        return [row for row in self.selection if (row["m"], row["n"], row["k"]) == (m, n, k)]


@cache
def _gpu() -> GpuArrays:
    return gpu_arrays(load_gpu("h100_sxm"), number_format("bf16"))


def run(schedule: Schedule, case: Case, **changes: int) -> Run:
    """Evaluate; ``changes`` replace counts of the case's load."""
    load: TokenCounts = case.load._replace(**changes)
    arrays = model_arrays(case.model)
    table = operator_table(arrays, schedule_arrays(schedule, case.model), load, Precision(16, 16, 16, 1), _gpu())
    records = table.records()
    blocks = len(case.model.vision_tower.layer_pattern) if case.model.vision_tower else 0
    sequences = max(1, load.images * load.sequences * load.batch_size)
    return Run(
        tower=_by_block(records, "qkv_projection", blocks, sequences),
        tower_mlp=_by_block(records, "ffn_up", blocks, sequences),
        visual=table.visual.tolist(),
        text=table.text.tolist(),
        kv=table.kv.tolist(),
        final_kv=table.final_kv.tolist(),
        operators=records,
        table=table,
    )


def resized(case: Case, visual: int) -> Case:
    """The case with other visual tokens and an encoder to match."""
    per_sequence = visual // (case.load.images * case.load.sequences)
    extra = case.load.sequence_tokens - case.tower_tokens
    return replace(
        case,
        load=case.load._replace(
            visual_tokens=visual, sequence_tokens=per_sequence + extra, patches=per_sequence * case.load.sequences
        ),
    )


def _by_block(records: list[dict[str, Any]], name: str, blocks: int, sequences: int) -> list[int]:
    """Rows of one encoder operator, spread over the blocks of its segment."""
    starts = {row["layer"]: row["m"] // sequences for row in records if _in_tower(row) and row["name"] == name}
    counts: list[int] = []
    for block in range(blocks):
        counts.append(starts[block] if block in starts else counts[-1])
    return counts


def _in_tower(row: dict[str, Any]) -> bool:
    return bool(row["phase"] == "vision_tower")
