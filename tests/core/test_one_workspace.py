"""A workspace that serves many scenarios: columns by name, and no trace of another GPU or tensor parallelism."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.arrays import Array
from asymsim.core.estimate import COUNT_COLUMNS, TIME_COLUMNS, evaluate_rows
from asymsim.core.model_arrays import Precision
from asymsim.core.operators.layout import DECODE, DECODE_SELECTION, PREFILL, PROJECTOR, SELECTION, VISION
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import MEMO_ENTRIES_SWEEP, Workspace, workspace
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.operator_table import operator_table
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import Operation, Schedule, Step
from oracles.made_up_gpu import made_up_gpu

MODEL = VlmModel(
    name="workspace",
    model_type="llava",
    vision_tower=VisionTower(
        layer_kinds=(Layer(hidden_size=6, heads=2, kv_heads=2, head_size=3, intermediate_size=10),),
        layer_pattern=(0, 0),
        patch=Linear(inputs=12, outputs=6),
    ),
    projector=Projector(linears=(Linear(inputs=6, outputs=8),)),
    language_model=LanguageModel(
        hidden_size=8,
        vocab_size=50,
        layer_kinds=(Layer(hidden_size=8, heads=4, kv_heads=2, head_size=3, intermediate_size=5),),
        layer_pattern=(0, 0, 0),
    ),
)
# Work in every phase.
BUSY = Schedule(
    steps=(Step(stage="lm", layer=1, share=Fraction(1, 2)),),
    operations=(
        Operation(kind="gemm", stage="lm", layer=1, rows="visual", columns="text", inner="hidden"),
        Operation(kind="gemm", stage="decode", rows="kv", columns="heads"),
    ),
)
TOKEN_COUNTS = TokenCounts(
    images=1, sequences=1, sequence_tokens=9, patches=9, window_pairs=0, projector_tokens=9, visual_tokens=9,
    text_tokens=10, output_tokens=6, batch_size=2,
)  # fmt: skip
ARRAYS, RULES = model_arrays(MODEL), schedule_arrays(BUSY, MODEL)


def evaluated(gpu: GpuArrays, tp_size: int, work: Workspace, *scenarios: TokenCounts) -> tuple[Array, Array]:
    token_counts = np.array(scenarios or (TOKEN_COUNTS,), np.int64)
    counts, times = (
        np.zeros((len(token_counts), len(COUNT_COLUMNS)), np.int64),
        np.zeros((len(token_counts), len(TIME_COLUMNS))),
    )
    evaluate_rows(ARRAYS, RULES, token_counts, Precision(16, 16, 16, tp_size), gpu, work, counts, times)
    return counts, times


def test_each_column_counts_what_its_name_says() -> None:
    expected_table = operator_table(ARRAYS, RULES, TOKEN_COUNTS, Precision(16, 16, 16, 1), made_up_gpu())

    def flops(*phases: int) -> int:
        return int(expected_table.rows["flops"][np.isin(expected_table.rows["phase"], phases)].sum())

    expected = {
        "vision_tower_flops": flops(VISION),
        "projector_flops": flops(PROJECTOR),
        "selection_flops": flops(SELECTION, DECODE_SELECTION),
        "prefill_flops": flops(PREFILL),
        "decode_flops": flops(DECODE),
        # Five steps take as much as the first but for 4 x 3 x 4 FLOPs of each entry more, 1 + 2 + 3 + 4 of them in each
        # of three layers and two requests.
        "decode_step_first_flops": (flops(DECODE) - 10 * 3 * 2 * 48) // 5,
        # Two heads of three elements, key and value of two bytes: 24 a token; 19 tokens in one layer, 14 in two.
        "kv_prefill_bytes": 2 * 24 * (19 + 14 + 14),
        "kv_peak_bytes": 2 * 24 * (24 + 19 + 19),
        "kv_cache_bytes": 2 * 24 * (32 + 32 + 32),
        # The prompt: 19 tokens of two streams of eight columns, beside 2 x 12 of queries and outputs and 12 of keys
        # and values.
        "activation_bytes": 2 * 2 * 19 * (16 + 36),
    }
    assert all(expected.values())
    counts, times = evaluated(made_up_gpu(), 1, workspace(ARRAYS, RULES))
    assert dict(zip(COUNT_COLUMNS, counts[0].tolist(), strict=True)) == expected
    assert dict(zip(TIME_COLUMNS, times[0].tolist(), strict=True)) == expected_table.times


@pytest.mark.parametrize("entries", [1, MEMO_ENTRIES_SWEEP])
def test_times_of_another_gpu_or_another_parallelism_are_not_kept(entries: int) -> None:
    slow, fast = made_up_gpu(bandwidth=1e9, link=1e9), made_up_gpu(bandwidth=4e9, link=4e9)
    shared = workspace(ARRAYS, RULES, entries)
    for gpu, tp_size in ((slow, 1), (fast, 1), (slow, 1), (slow, 2), (slow, 1), (fast, 2), (slow, 2), (slow, 2)):
        alone = evaluated(gpu, tp_size, workspace(ARRAYS, RULES, 1))
        again = evaluated(gpu, tp_size, shared)
        assert again[0].tolist() == alone[0].tolist()
        assert again[1].tolist() == alone[1].tolist()


def test_scenarios_of_a_sweep_leave_no_trace_in_each_other() -> None:
    scenarios = [
        TOKEN_COUNTS,
        TOKEN_COUNTS,
        TOKEN_COUNTS._replace(output_tokens=7),
        TOKEN_COUNTS._replace(text_tokens=11),
        TOKEN_COUNTS._replace(batch_size=1),
        TOKEN_COUNTS._replace(output_tokens=1),
        TOKEN_COUNTS,
    ]
    gpu = made_up_gpu(bandwidth=1e9)
    together = evaluated(gpu, 1, workspace(ARRAYS, RULES), *scenarios)
    for index, scenario in enumerate(scenarios):
        alone = evaluated(gpu, 1, workspace(ARRAYS, RULES), scenario)
        for several, single in zip(together, alone, strict=True):
            assert several[index].tolist() == single[0].tolist()
