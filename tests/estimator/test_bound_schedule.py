"""A schedule bound to a model: segments of equal layers, rules and operators at their own, written out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from properties.schedules import BF16, table

from asymsim.catalogue.model import LanguageModel, Layer, Linear, Projector, Resampler, VisionTower, VlmModel
from asymsim.core.operators.layout import ATTEND, PHASE_NAMES, PROJECT, VISION
from asymsim.core.schedule_arrays import CEIL, LM, PRESENT, SIGNS, SYMBOLS, VISUAL
from asymsim.core.times.parameters import ELEMENTWISE_TIME, ROOFLINE
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import KvPolicy, Operation, Recycle, Schedule, Step, TextEviction
from asymsim.util.errors import InputError
from oracles.made_up_gpu import made_up_gpu

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)
FULL = Layer(hidden_size=8, heads=6, kv_heads=2, head_size=5, intermediate_size=11)
SLIDING = replace(FULL, name="sliding", window_tokens=7)
BLOCK = Layer(hidden_size=7, heads=3, kv_heads=3, head_size=4, intermediate_size=9, gated=False)
MODEL = VlmModel(
    name="bound",
    model_type="llava",
    vision_tower=VisionTower(
        layer_kinds=(BLOCK,), layer_pattern=(0, 0, 0), patch=Linear(inputs=12, outputs=7), extra_tokens=1
    ),
    projector=Projector(linears=(Linear(inputs=7, outputs=8),)),
    language_model=LanguageModel(
        hidden_size=8, vocab_size=50, layer_kinds=(FULL, SLIDING), layer_pattern=(0, 1, 1, 0, 0)
    ),
)
# Two images of one sequence of twelve patches and a class token.
TOKEN_COUNTS = TokenCounts(
    images=2, sequences=1, sequence_tokens=13, patches=12, window_pairs=0, projector_tokens=12, visual_tokens=24,
    text_tokens=10, output_tokens=3, batch_size=1,
)  # fmt: skip


def starts(**rules: object) -> tuple[list[int], list[int]]:
    bound = schedule_arrays(Schedule(**rules), MODEL)  # type: ignore[arg-type]
    return bound.tower_starts.tolist(), bound.lm_starts.tolist()


@pytest.mark.parametrize(
    ("rules", "tower", "text"),
    [
        ({}, [0, 3], [0, 5]),
        ({"steps": (Step(stage="encoder", layer=1),)}, [0, 1, 3], [0, 5]),
        ({"steps": (Step(stage="encoder", layer=0),)}, [0, 3], [0, 5]),
        # Between attention and MLP the block is like no other.
        ({"steps": (Step(stage="encoder_mlp", layer=1),)}, [0, 1, 2, 3], [0, 5]),
        ({"steps": (Step(stage="encoder_mlp", layer=2),)}, [0, 2, 3], [0, 5]),
        ({"steps": (Step(stage="encoder_end"),)}, [0, 3], [0, 5]),
        ({"steps": (Step(stage="lm", layer=3), Step(stage="lm", layer=1))}, [0, 3], [0, 1, 3, 5]),
        # Masked scores make nothing shorter; work of their own still has its place.
        ({"steps": (Step(stage="lm", layer=3),), "masking": True}, [0, 3], [0, 5]),
        (
            {
                "steps": (Step(stage="lm", layer=3),),
                "operations": (Operation(kind="gemm", stage="lm", layer=2),),
                "masking": True,
            },
            [0, 3],
            [0, 2, 5],
        ),
        ({"operations": (Operation(kind="gemm", stage="encoder", layer=2),)}, [0, 2, 3], [0, 5]),
        ({"operations": (Operation(kind="gemm", stage="kv", layer=2),)}, [0, 3], [0, 2, 3, 5]),
        ({"operations": (Operation(kind="gemm", stage="decode", layer=4),)}, [0, 3], [0, 4, 5]),
        ({"operations": (Operation(kind="gemm", stage="decode"),)}, [0, 3], [0, 5]),
        ({"unfused": (("encoder", 1), ("lm", 2))}, [0, 1, 2, 3], [0, 2, 3, 5]),
        ({"kv": KvPolicy(share=(HALF, HALF, THIRD, THIRD, THIRD))}, [0, 3], [0, 2, 5]),
        ({"kv": KvPolicy(plus=(1, 1, 1, 2, 1))}, [0, 3], [0, 3, 4, 5]),
        ({"kv": KvPolicy(share=(HALF,), plus=(3,))}, [0, 3], [0, 5]),
    ],
)
def test_layers_fall_into_segments_at_every_change(rules: dict[str, object], tower: list[int], text: list[int]) -> None:
    assert starts(**rules) == (tower, text)


def test_each_segment_has_its_own_rules() -> None:
    bound = schedule_arrays(
        Schedule(
            unfused=(("encoder", 1), ("lm", 2)),
            kv=KvPolicy(share=(HALF, HALF, THIRD, THIRD, THIRD), plus=(4,), full_heads=Fraction(2, 3), hold=True),
            text_eviction=TextEviction(threshold_tokens=9, retain=Fraction(3, 4)),
        ),
        MODEL,
    )
    assert bound.tower_unfused.tolist() == [0, 1, 0]
    assert bound.lm_starts.tolist() == [0, 2, 3, 5]
    assert bound.lm_unfused.tolist() == [0, 1, 0]
    assert bound.kv_rule.tolist() == [(1, 2, 4), (1, 3, 4), (1, 3, 4)]
    assert (bound.full_head_num, bound.full_head_den, bound.budget_in_decoding) == (2, 3, 1)
    assert (bound.eviction_threshold_tokens, bound.retain_num, bound.retain_den) == (9, 3, 4)
    plain = schedule_arrays(Schedule(), MODEL)
    assert (plain.full_head_num, plain.budget_in_decoding, plain.eviction_threshold_tokens) == (0, 0, -1)
    assert (plain.retain_num, plain.retain_den) == (1, 1)


def test_pruning_steps_and_operators_stand_in_the_segment_of_their_layer() -> None:
    steps = (
        Step(stage="encoder", layer=2, share=HALF),
        Step(stage="encoder_mlp", layer=0, share=HALF),
        Step(stage="encoder_end", share=HALF),
        Step(stage="lm", layer=3, share=HALF),
        Step(stage="lm", layer=1, target="text", share=HALF),
    )
    operations = tuple(
        Operation(kind="gemm", stage=stage, layer=layer)  # type: ignore[arg-type]
        for stage, layer in (("encoder", 1), ("encoder_end", -1), ("lm", 4), ("kv", 3), ("kv", -1), ("decode", -1))
    )
    bound = schedule_arrays(Schedule(steps=steps, operations=operations), MODEL)
    # Segments begin at blocks 0, 1, 2 and at layers 0, 1, 3, 4.
    assert bound.pruning_steps["segment"].tolist() == [2, 0, 0, 2, 1]
    assert bound.operations["segment"].tolist() == [1, 0, 3, 2, -1, -1]


def test_a_pruning_step_has_the_shares_and_counts_of_its_rule() -> None:
    step = Step(
        stage="lm", layer=1, share=Fraction(2, 3), of="present", rounding="ceil", plus=-4, at_least=Fraction(1, 5),
        recycled=Recycle(share=Fraction(3, 7), plus=6, divisor=8, extra=9),
    )  # fmt: skip
    (record,) = schedule_arrays(Schedule(steps=(step,)), MODEL).pruning_steps
    numbers = ("num", "den", "plus", "at_least_num", "at_least_den")
    assert [int(record[name]) for name in numbers] == [2, 3, -4, 1, 5]
    recycled = ("recycle_num", "recycle_den", "recycle_plus", "recycle_divisor", "recycle_extra")
    assert [int(record[name]) for name in recycled] == [3, 7, 6, 8, 9]
    codes = record["stage"], record["target"], record["share_of"], record["rounding"]
    assert codes == (LM, VISUAL, PRESENT, CEIL)


def test_an_operator_s_dimensions_are_factors_from_left_to_right() -> None:
    operation = Operation(
        kind="elementwise", stage="lm", layer=1, rows="heads*3//visual", columns="5/text", inner="3*5*7*heads",
        reads=2, writes=4, flops_per_element=6,
    )  # fmt: skip
    bound = schedule_arrays(Schedule(operations=(operation,)), MODEL)
    (record,) = bound.operations
    words = [*SYMBOLS, *bound.literals.tolist()]

    def named(dimension: str) -> list[tuple[object, str]]:
        return [(words[index], SIGNS[sign]) for index, sign in record[dimension]]

    assert named("rows") == [("heads", "*"), (3, "*"), ("visual", "//"), (1, "*")]
    assert named("columns") == [(5, "*"), ("text", "/"), (1, "*"), (1, "*")]
    assert named("inner") == [(3, "*"), (5, "*"), (7, "*"), ("heads", "*")]
    assert named("times") == [(1, "*")] * 4
    assert (record["reads"], record["writes"], record["flops_per_element"]) == (2, 4, 6)
    with pytest.raises(InputError, match="at most 4"):
        schedule_arrays(Schedule(operations=(replace(operation, rows="2*3*4*5*6"),)), MODEL)
    with pytest.raises(InputError, match="whole numbers"):
        schedule_arrays(Schedule(operations=(replace(operation, rows="nothing"),)), MODEL)


@pytest.mark.parametrize(
    "rules",
    [
        {"steps": (Step(stage="encoder", layer=3),)},
        {"steps": (Step(stage="encoder_mlp", layer=3),)},
        {"steps": (Step(stage="lm", layer=5),)},
        {"operations": (Operation(kind="gemm", stage="lm"),)},
        {"operations": (Operation(kind="gemm", stage="decode", layer=5),)},
        {"unfused": (("encoder", 3),)},
        {"unfused": (("lm", 5),)},
        {"kv": KvPolicy(share=(HALF, HALF))},
        {"kv": KvPolicy(plus=(1,) * 6)},
    ],
)
def test_layers_that_the_model_lacks_are_refused(rules: dict[str, object]) -> None:
    with pytest.raises(InputError):
        starts(**rules)


def test_a_model_s_layers_and_linears_are_its_own() -> None:
    projector = Projector(
        linears=(Linear(inputs=7, outputs=30, rows="encoder"), Linear(inputs=30, outputs=8)),
        resampler=Resampler(heads=5, head_size=6),
    )
    arrays = model_arrays(replace(MODEL, projector=projector))
    assert arrays.lm_prefix.tolist() == [[0, 0], [1, 0], [1, 1], [1, 2], [2, 2], [3, 2]]
    assert arrays.tower_prefix.tolist() == [[0], [1], [2], [3]]
    assert arrays.linears.tolist() == [[1, 7, 30], [0, 30, 8]]
    assert (arrays.resampler_heads, arrays.resampler_head_size) == (5, 6)
    assert (arrays.patch_inputs, arrays.tower_hidden_size, arrays.extra_tokens) == (12, 7, 1)
    full, sliding = arrays.lm_kinds
    assert (full["ups"], full["queries_per_kv_head"], full["window_tokens"]) == (2, 3, 0)
    assert sliding["window_tokens"] == 7
    assert arrays.tower_kinds[0]["ups"] == 1
    experts = replace(FULL, experts=4, experts_per_token=2)
    for executed in (0, 3):
        text = replace(
            MODEL.language_model, layer_kinds=(replace(experts, framework_experts_per_token=executed), SLIDING)
        )
        kind = model_arrays(replace(MODEL, language_model=text)).lm_kinds[0]
        assert kind["framework_experts_per_token"] == (executed or 2)


def test_tokens_of_every_layer_follow_the_rules_one_by_one() -> None:
    steps = (
        # Of twelve patches eight stay, and four dropped make one.
        Step(stage="encoder", layer=1, plus=8, recycled=Recycle(extra=1)),
        # Nine of twelve are left of each image, so 18 of 24: a third of the original ones and 2 stay, 8 make 4 more.
        Step(stage="encoder_end", share=THIRD, plus=2, recycled=Recycle(share=Fraction(1), divisor=2)),
        # Half of 14; seven tenths of the text, and later seven tenths of those seven, rounded up.
        Step(stage="lm", layer=1, share=HALF, of="present"),
        Step(stage="lm", layer=1, target="text", share=Fraction(7, 10)),
        Step(stage="lm", layer=3, target="text", share=Fraction(7, 10), of="present", rounding="ceil"),
    )
    operator_table = table(MODEL, Schedule(steps=steps), TOKEN_COUNTS, BF16)
    assert operator_table.visual.tolist() == [14, 7, 7, 7, 7]
    assert operator_table.text.tolist() == [10, 7, 7, 5, 5]
    # The sliding layers cache six; two more tokens come in decoding.
    assert operator_table.kv.tolist() == [24, 6, 6, 12, 12]
    assert operator_table.final_kv.tolist() == [26, 6, 6, 14, 14]
    attends = operator_table.rows[(operator_table.rows["name"] == ATTEND) & (operator_table.rows["phase"] == VISION)]
    assert attends["m"].tolist() == [13, 10]
    (projected,) = operator_table.rows[operator_table.rows["name"] == PROJECT]
    assert projected["m"] == 14


def test_medians_of_a_table_are_those_of_its_classes() -> None:
    operator_table = table(MODEL, Schedule(), TOKEN_COUNTS, BF16)
    expected = [operator_table.seconds[phase, :, 1].sum() for phase in range(len(PHASE_NAMES))]
    assert operator_table.phase_seconds.tolist() == expected
    assert np.isfinite(operator_table.phase_seconds).all()


def test_rows_are_listed_with_their_source_and_an_interval_where_one_is_known() -> None:
    gpu = made_up_gpu()
    gpu.sources[ELEMENTWISE_TIME] = ROOFLINE
    records = table(MODEL, Schedule(), TOKEN_COUNTS, BF16, gpu).timed_records(gpu, 1)
    for record in records:
        if record["kind"] == "elementwise":
            assert (record["source"], record["seconds_p05"], record["seconds_p95"]) == ("roofline", None, None)
        else:
            assert record["source"] in ("fitted", "transferred")
            assert record["seconds_p05"] < record["seconds"] < record["seconds_p95"]
    assert {"patch_embedding", "attention", "lm_head"} <= {record["name"] for record in records}
