"""The method's own work against its dimensions, multiplied out layer by layer."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from asymsim.catalogue.model import LanguageModel, Layer, VlmModel
from asymsim.core import layout
from asymsim.core.layout import Load
from asymsim.schedule import KvPolicy, Operation, Schedule
from oracles.naive_cache import heads
from oracles.naive_tokens import Tokens, tokens
from properties.schedules import operations, schedules, table
from properties.strategies import loads, models

FULL = Layer(hidden_size=4, heads=2, kv_heads=2, head_size=2, intermediate_size=1)
SLIDING = replace(FULL, name="sliding", window_tokens=5)


def two_kinds(*pattern: int) -> VlmModel:
    """Layers of kind 0 slide, those of kind 1 do not."""
    text = LanguageModel(hidden_size=4, vocab_size=3, layer_kinds=(SLIDING, FULL), layer_pattern=pattern)
    return VlmModel(name="two kinds", model_type="gemma3", language_model=text)


def places(operation: Operation, model: VlmModel, schedule: Schedule, load: Load) -> list[dict[str, int]]:
    """The quantities at every place and time where the operation runs."""
    made: Tokens = tokens(model, schedule, load)
    kind = model.language_model.layer_kinds[0]
    fixed = {"heads": kind.heads, "hidden": model.language_model.hidden_size}
    fixed["sequences"] = load.images * load.sequences
    if operation.stage in ("encoder", "encoder_mlp"):
        if not made.tower:
            return [fixed | _counts(0, 0, 0, 0)]
        place = made.tower[operation.layer]
        return [fixed | _counts(place.before, made.tower_mlp[operation.layer], place.merged, 0)]
    if operation.stage == "encoder_end":
        return [fixed | _counts(made.end.before, made.end.after, made.end.merged, load.text_tokens)]
    if operation.stage == "lm":
        place = made.lm[operation.layer]
        return [fixed | _counts(place.before, place.after, place.merged, place.text)]
    run = []
    text = model.language_model
    for layer, index in enumerate(text.layer_pattern):
        if operation.layer not in (-1, layer):
            continue
        place, own = made.lm[layer], text.layer_kinds[index]
        first = last = place.after
        if own.attention == "self":
            length = place.text + (place.after if text.visual_in_sequence else 0)
            cached = heads(own, schedule, layer, length, place.text, load.output_tokens - 1)
            first = sum(head.prefill for head in cached) // own.kv_heads
            last = sum(head.final for head in cached) // own.kv_heads
        counts = fixed | _counts(place.after, place.after, 0, place.text)
        if operation.stage == "kv":
            run.append(counts | {"kv": first})
        else:
            # Each step is charged at the mean of the first and the last length.
            run += [counts | {"kv": (first + last) // 2}] * (load.output_tokens - 1)
    return run


def _counts(before: int, after: int, merged: int, text: int) -> dict[str, int]:
    kept = after - merged
    return {
        "visual": before, "kept": kept, "dropped": before - kept, "merged": merged, "text": text,
        "tokens": before + text, "remaining": after + text, "kv": 0,
    }  # fmt: skip


def size(text: str, known: dict[str, int]) -> int:
    """A product of at most two factors."""
    first, sign, second = re.fullmatch(r"(\w+)(?:(\W+)(\w+))?", text).groups()  # type: ignore[union-attr]
    left, right = (int(word) if word.isdigit() else known[word] for word in (first, second or "1"))
    if sign in (None, "*"):
        return left * right
    share = Fraction(left, right or 1)
    return math.ceil(share) if sign == "/" else math.floor(share)


def expected(operation: Operation, model: VlmModel, schedule: Schedule, load: Load) -> tuple[int, int]:
    """FLOPs of products, and element-wise ones, of the batch."""
    flops = element_wise = 0
    for known in places(operation, model, schedule, load):
        rows, columns, inner, times = (
            size(getattr(operation, name), known) for name in ("rows", "columns", "inner", "times")
        )
        if operation.kind == "elementwise":
            element_wise += load.batch_size * times * rows * columns * operation.flops_per_element
        else:
            products = 4 if operation.kind == "attention" else 2
            flops += load.batch_size * times * products * rows * columns * inner
    return flops, element_wise


def check(operation: Operation, model: VlmModel, schedule: Schedule, load: Load) -> None:
    result = table(model, replace(schedule, operations=(operation,)), load)
    rows = result.rows[result.rows["name"] == layout.SELECT]
    assert (rows["flops"].sum(), rows["elementwise_flops"].sum()) == expected(operation, model, schedule, load)
    assert (rows["flops"] == rows["torch_flops"]).all()


@given(data=st.data())
def test_an_operation_costs_its_dimensions_at_its_place(data: st.DataObject) -> None:
    model = data.draw(models())
    load = data.draw(loads(model))
    operation = data.draw(operations(model))
    if operation.kind == "elementwise":
        operation = replace(operation, inner="1")
    check(operation, model, data.draw(schedules(model, added=False)), load)


@given(
    pattern=st.lists(st.integers(0, 1), min_size=1, max_size=5),
    layer=st.integers(-1, 4),
    stage=st.sampled_from(["kv", "decode"]),
    shares=st.lists(st.fractions(0, 1, max_denominator=9), min_size=5, max_size=5),
    text=st.integers(1, 30),
    output=st.integers(1, 20),
)
# Segments without a layer of kind 0, whose caches are longer than a window.
@example([1, 0, 1], -1, "kv", [Fraction(1, 2), Fraction(1), Fraction(1, 3), Fraction(0), Fraction(0)], 20, 5)
def test_work_on_the_cache_is_as_long_as_each_layers_own(
    pattern: list[int], layer: int, stage: str, shares: list[Fraction], text: int, output: int
) -> None:
    operation = Operation(kind="gemm", stage=stage, layer=min(layer, len(pattern) - 1), rows="kv", columns="heads")  # type: ignore[arg-type]
    policy = KvPolicy(share=tuple(shares[: len(pattern)]))
    check(operation, two_kinds(*pattern), Schedule(kv=policy), Load(0, 0, 0, 0, 0, 0, 0, text, output, 3))
