"""The method's own work against its dimensions, multiplied out layer by layer."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asymsim.catalogue.model import LanguageModel, Layer, VlmModel
from asymsim.core.operators.layout import SELECT
from asymsim.core.token_counts import TokenCounts
from asymsim.methods.schedule import KvPolicy, Operation, Schedule, TextEviction
from asymsim.util.errors import InputError
from oracles.naive_cache import heads
from oracles.naive_tokens import Place, Tokens, tokens
from properties.schedules import evictions, operations, schedules, table
from properties.strategies import loads, models

FULL = Layer(hidden_size=4, heads=2, kv_heads=2, head_size=2, intermediate_size=1)
THIRD = Fraction(1, 3)
FALLING = [Fraction(1, 2), Fraction(1), THIRD]
SLIDING = replace(FULL, name="sliding", window_tokens=5)


def two_kinds(*pattern: int) -> VlmModel:
    """Layers of kind 0 slide, those of kind 1 do not."""
    text = LanguageModel(hidden_size=4, vocab_size=3, layer_kinds=(SLIDING, FULL), layer_pattern=pattern)
    return VlmModel(name="two kinds", model_type="gemma3", language_model=text)


def places(operation: Operation, model: VlmModel, schedule: Schedule, load: TokenCounts) -> list[list[dict[str, int]]]:
    """The quantities wherever the operation runs: for each place one time, or one a decode step and KV head."""
    made: Tokens = tokens(model, schedule, load)
    kind = model.language_model.layer_kinds[0]
    fixed = {"heads": kind.heads, "hidden": model.language_model.hidden_size}
    fixed["sequences"] = load.images * load.sequences
    if operation.stage in ("encoder", "encoder_mlp"):
        if not made.tower:
            return [[fixed | _counts(Place(0, 0))]]
        place = made.tower[operation.layer]
        return [[fixed | _counts(replace(place, after=made.tower_mlp[operation.layer]))]]
    if operation.stage == "encoder_end":
        return [[fixed | _counts(replace(made.end, text=load.text_tokens))]]
    if operation.stage == "lm":
        return [[fixed | _counts(made.lm[operation.layer])]]
    run = []
    text = model.language_model
    for layer, index in enumerate(text.layer_pattern):
        if operation.layer not in (-1, layer):
            continue
        place, own = made.lm[layer], text.layer_kinds[index]
        steps = load.output_tokens - 1
        entries = [[place.after] * (steps if operation.stage == "decode" else 1)] * own.kv_heads
        if own.attention == "self":
            length = place.text + (place.after if text.visual_in_sequence else 0)
            cached = heads(own, schedule, layer, length, place.text, steps)
            entries = [head.found if operation.stage == "decode" else [head.prefill] for head in cached]
        counts = fixed | _counts(Place(place.after, place.after, text=place.text))
        run.append([counts | {"kv": found, "heads_apart": own.kv_heads} for head in entries for found in head])
    return run


def _counts(place: Place) -> dict[str, int]:
    kept = place.after - place.merged
    return {
        "visual": place.before, "kept": kept, "dropped": place.before - kept, "merged": place.merged,
        "pool": place.pool, "text": place.text, "tokens": place.before + place.text,
        "remaining": place.after + place.text, "kv": 0,
    }  # fmt: skip


def size(text: str, known: dict[str, int]) -> int:
    """A product of at most two factors."""
    first, sign, second = re.fullmatch(r"(\w+)(?:(\W+)(\w+))?", text).groups()  # type: ignore[union-attr]
    left, right = (int(word) if word.isdigit() else known[word] for word in (first, second or "1"))
    if sign in (None, "*"):
        return left * right
    share = Fraction(left, right or 1)
    return math.ceil(share) if sign == "/" else math.floor(share)


def expected(operation: Operation, model: VlmModel, schedule: Schedule, load: TokenCounts) -> dict[str, int]:
    """Totals of the batch in BF16; a request's mean over KV heads is whole in each layer."""
    columns = ("flops", "elementwise_flops", "weight_bytes", "read_bytes", "write_bytes")
    totals = dict.fromkeys(columns, 0)
    for moments in places(operation, model, schedule, load):
        once = dict.fromkeys(columns, Fraction(0))
        runs = False
        for known in moments:
            sizes = [size(getattr(operation, name), known) for name in ("rows", "columns", "inner", "times")]
            runs |= math.prod(sizes) > 0
            for name, cost in zip(columns, _costs(operation, *sizes), strict=True):
                once[name] += Fraction(cost, known.get("heads_apart", 1))
        for name in columns if runs else ():
            # The batch shares a weight; an element takes two bytes.
            requests = 1 if name == "weight_bytes" else load.batch_size
            totals[name] += requests * (2 if "bytes" in name else 1) * math.floor(once[name])
    return totals


def _costs(operation: Operation, rows: int, columns: int, inner: int, times: int) -> tuple[int, int, int, int, int]:
    """FLOPs of products, element-wise ones, elements of weights, read and written, of one request."""
    if operation.kind == "elementwise":
        elements = times * rows * columns
        return 0, elements * operation.flops_per_element, 0, elements * operation.reads, elements * operation.writes
    products = times * 2 * rows * columns * inner
    queries, keys, scores = times * rows * inner, times * columns * inner, times * rows * columns
    if operation.kind == "attention":
        return 2 * products, 0, 0, queries + 2 * keys, queries
    if operation.kind == "projection":
        return products, 0, keys, queries, scores
    return products, 0, 0, queries + keys, scores


def check(operation: Operation, model: VlmModel, schedule: Schedule, load: TokenCounts) -> None:
    result = table(model, replace(schedule, operations=(operation,)), load)
    rows = result.rows[result.rows["name"] == SELECT]
    totals = expected(operation, model, schedule, load)
    assert {name: rows[name].sum() for name in totals} == totals
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
    full_heads=st.sampled_from([Fraction(0), Fraction(1, 2)]),
    hold=st.booleans(),
    eviction=st.one_of(st.none(), evictions()),
    text=st.integers(1, 30),
    output=st.integers(1, 60),
)
# Segments without a layer of kind 0, whose caches are longer than a window.
@example([1, 0, 1], -1, "kv", FALLING, Fraction(0), False, None, 20, 5)
# A cache that grows for five steps and then by a third of them.
@example([1], -1, "decode", [Fraction(1)], Fraction(0), False, TextEviction(threshold_tokens=25, retain=THIRD), 20, 13)
def test_work_on_the_cache_is_as_long_as_each_layers_own(
    pattern: list[int],
    layer: int,
    stage: str,
    shares: list[Fraction],
    full_heads: Fraction,
    hold: bool,
    eviction: TextEviction | None,
    text: int,
    output: int,
) -> None:
    operation = Operation(kind="gemm", stage=stage, layer=min(layer, len(pattern) - 1), rows="kv", columns="heads")  # type: ignore[arg-type]
    policy = KvPolicy(share=tuple(shares[: len(pattern)]), full_heads=full_heads, hold=hold)
    schedule = Schedule(kv=policy, text_eviction=eviction)
    check(operation, two_kinds(*pattern), schedule, TokenCounts(0, 0, 0, 0, 0, 0, 0, text, output, 3))


@pytest.mark.parametrize(
    "sizes", [{"rows": "kv", "columns": "kv"}, {"inner": "2*kv * kv"}, {"rows": "kv", "times": "kv"}]
)
def test_the_square_of_the_cache_is_refused(sizes: dict[str, str]) -> None:
    with pytest.raises(InputError, match="kv once"):
        Operation(kind="gemm", stage="decode", **sizes)  # type: ignore[arg-type]
