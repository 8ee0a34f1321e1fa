"""Times of several operators and phases together: errors within a class add up, errors of two classes do not."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from properties.schedules import BF16, table

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, VisionTower, VlmModel
from asymsim.core.operators.layout import (
    ATTEND,
    DECODE,
    DECODE_SELECTION,
    ELEMENTWISE,
    PREFILL,
    PROJECTOR,
    SELECTION,
    VISION,
)
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import (
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    FITTED,
    GEMM_TIME,
    GROUPED_TIME,
    HOST_TIME,
    MEASURED,
    NUM_TIME_CLASSES,
    PREFILL_ATTENTION_TIME,
    ROOFLINE,
    TRANSFERRED,
)
from asymsim.core.times.row_time import joint_interval
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.operator_table import OperatorTable, operator_times
from asymsim.methods.schedule import IDENTITY, Operation, Schedule, Step
from oracles.made_up_gpu import made_up_gpu

TOWER = VisionTower(
    layer_kinds=(Layer(hidden_size=6, heads=2, kv_heads=2, head_size=3, intermediate_size=10),),
    layer_pattern=(0, 0),
    patch=Linear(inputs=12, outputs=6),
)
TEXT = LanguageModel(
    hidden_size=8,
    vocab_size=50,
    layer_kinds=(Layer(hidden_size=8, heads=4, kv_heads=2, head_size=3, intermediate_size=5),),
    layer_pattern=(0, 0, 0),
)
MODEL = VlmModel(
    name="joint",
    model_type="llava",
    vision_tower=TOWER,
    projector=Projector(linears=(Linear(inputs=6, outputs=8),)),
    language_model=TEXT,
)
TOKEN_COUNTS = TokenCounts(
    images=1, sequences=1, sequence_tokens=9, patches=9, window_pairs=0, projector_tokens=9, visual_tokens=9,
    text_tokens=10, output_tokens=6, batch_size=2,
)  # fmt: skip
# A schedule with work in every phase.
BUSY = Schedule(
    steps=(Step(stage="lm", layer=1, share=Fraction(1, 2)),),
    operations=(
        Operation(kind="gemm", stage="lm", layer=1, rows="visual", columns="text", inner="hidden"),
        Operation(kind="gemm", stage="decode", rows="kv", columns="heads"),
    ),
)


def evaluated(gpu: GpuArrays, schedule: Schedule = BUSY, token_counts: TokenCounts = TOKEN_COUNTS) -> OperatorTable:
    return table(MODEL, schedule, token_counts, BF16, gpu)


def test_errors_of_a_class_add_up_and_those_of_two_do_not() -> None:
    seconds = np.zeros((3, 2, 3))
    # One class is 3 s early or 5 s late in the first phase, 1 s early or 7 s late in the last.
    seconds[0, 0], seconds[2, 0] = (7.0, 10.0, 15.0), (19.0, 20.0, 27.0)
    # The other is 3 s early or 16 s late.
    seconds[0, 1] = (2.0, 5.0, 21.0)
    # The phase between them is not asked for.
    seconds[1] = 1000.0
    quantiles = np.zeros(3)
    joint_interval(seconds, np.array([0, 2]), quantiles)
    assert quantiles == pytest.approx([35 - math.hypot(4, 3), 35, 35 + math.hypot(12, 16)])


def test_each_phase_and_class_sums_its_rows() -> None:
    gpu = made_up_gpu(bandwidth=1e9, link=1e9)
    operator_table = evaluated(gpu)
    rows = operator_times(operator_table.rows, gpu, 1)[0]
    kinds = operator_table.rows["kind"]
    for phase in (VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION):
        in_phase = operator_table.rows["phase"] == phase
        attends = operator_table.rows["name"] == ATTEND
        fused = {VISION: ENCODER_ATTENTION_TIME, PREFILL: PREFILL_ATTENTION_TIME, DECODE: DECODE_ATTENTION_TIME}
        weighted = operator_table.rows["weight_bytes"] > 0
        classes = {
            ELEMENTWISE_TIME: kinds == ELEMENTWISE,
            GEMM_TIME: weighted,
            GROUPED_TIME: ~attends & ~weighted & (kinds != ELEMENTWISE),
            fused.get(phase, PREFILL_ATTENTION_TIME): attends,
        }
        expected = np.zeros((NUM_TIME_CLASSES, 3))
        for time_class, chosen in classes.items():
            expected[time_class] = rows[in_phase & chosen].sum(axis=0)
        assert in_phase.any()
        np.testing.assert_allclose(operator_table.seconds[phase], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("vision_s", [VISION, PROJECTOR]),
        ("selection_s", [SELECTION]),
        ("prefill_s", [PREFILL]),
        ("decode_s", [DECODE, DECODE_SELECTION]),
        ("ttft_s", [VISION, PROJECTOR, SELECTION, PREFILL]),
        ("e2e_s", [VISION, PROJECTOR, SELECTION, PREFILL, DECODE, DECODE_SELECTION]),
    ],
)
def test_a_span_joins_its_phases(name: str, phases: list[int]) -> None:
    operator_table = evaluated(made_up_gpu(bandwidth=1e9))
    low, middle, high = operator_table.seconds[phases].sum(axis=0).T
    ends = middle.sum() - math.hypot(*(middle - low)), middle.sum() + math.hypot(*(high - middle))
    times = [operator_table.times[f"{name}{end}"] for end in ("_p05", "", "_p95")]
    assert times == pytest.approx([ends[0], middle.sum(), ends[1]])
    assert all(operator_table.seconds[phase].sum() > 0 for phase in phases)


def test_a_host_adds_its_interval_to_the_prefill_and_to_each_decode_step() -> None:
    operator_table = evaluated(made_up_gpu()._replace(host_s=2.0, host_p05=0.5, host_p95=7.0))
    assert operator_table.seconds[PREFILL, HOST_TIME].tolist() == [0.5, 2.0, 7.0]
    assert operator_table.seconds[DECODE, HOST_TIME].tolist() == [2.5, 10.0, 35.0]
    others = [VISION, PROJECTOR, SELECTION, DECODE_SELECTION]
    assert not operator_table.seconds[others, HOST_TIME].any()
    # The first output token is the prefill's.
    single = evaluated(made_up_gpu()._replace(host_s=2.0), token_counts=TOKEN_COUNTS._replace(output_tokens=1))
    assert not single.seconds[DECODE].any()


def test_a_phase_is_as_certain_as_its_least_certain_part() -> None:
    gpu = made_up_gpu()
    gpu.sources[:] = MEASURED
    # Head sizes of three were not measured, and neither were products of activations; the projector is a product.
    operator_table = evaluated(gpu)
    assert operator_table.sources[[PROJECTOR, PREFILL, DECODE]].tolist() == [MEASURED, TRANSFERRED, TRANSFERRED]
    # A phase without work leaves the sum as certain as it was; the host's time is fitted.
    assert evaluated(gpu, IDENTITY).sources[SELECTION] == MEASURED
    gpu.sources[ELEMENTWISE_TIME] = ROOFLINE
    assert evaluated(gpu).sources[[PROJECTOR, PREFILL]].tolist() == [MEASURED, ROOFLINE]


def test_a_host_s_time_is_fitted() -> None:
    gpu = made_up_gpu()
    for attention in (gpu.prefill_attention, gpu.decode_attention, gpu.encoder_attention):
        attention["fitted_size"] = 1.0
    gpu.sources[:] = MEASURED
    wide = Layer(hidden_size=128, heads=2, kv_heads=2, head_size=64, intermediate_size=5)
    text = LanguageModel(hidden_size=128, vocab_size=50, layer_kinds=(wide,), layer_pattern=(0,))
    model = VlmModel(name="wide", model_type="llama", language_model=text)
    token_counts = TokenCounts(0, 0, 0, 0, 0, 0, 0, 10, 6, 1)
    alone, hosted = (table(model, IDENTITY, token_counts, BF16, gpu._replace(host_s=host_s)) for host_s in (0.0, 1.0))
    assert alone.sources[[PREFILL, DECODE]].tolist() == [MEASURED, MEASURED]
    assert hosted.sources[[PREFILL, DECODE]].tolist() == [FITTED, FITTED]
