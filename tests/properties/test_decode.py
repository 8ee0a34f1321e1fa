"""Decoding over growing, evicted, windowed and chunked caches, against a head simulated step by step."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from asymsim.catalogue.model import LanguageModel, Layer, VlmModel
from asymsim.core.operators.layout import ATTEND, DECODE
from asymsim.core.token_counts import TokenCounts
from asymsim.core.workspace import FIRST_STEP_FLOPS, FIRST_STEP_TORCH_FLOPS, KV_FINAL_BYTES, KV_PREFILL_BYTES
from asymsim.methods.schedule import KvPolicy, Schedule, TextEviction
from oracles.naive import count
from properties.schedules import SHARES, table

# (sliding window, chunk): at most one of them.
LIMITS = st.one_of(
    st.just((0, 0)), st.tuples(st.integers(1, 40), st.just(0)), st.tuples(st.just(0), st.integers(1, 40))
)
BUDGETS = st.builds(
    KvPolicy,
    share=st.tuples(SHARES),
    plus=st.tuples(st.integers(-3, 60)),
    full_heads=st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(1, 2), Fraction(1)]),
    hold=st.booleans(),
)
EVICTIONS = st.builds(TextEviction, threshold_tokens=st.integers(0, 90), retain=SHARES)


def decoder(limit: tuple[int, int]) -> VlmModel:
    """One layer of three KV heads and six query heads."""
    layer = Layer(
        hidden_size=4, heads=6, kv_heads=3, head_size=2, intermediate_size=1, window_tokens=limit[0],
        chunk_tokens=limit[1],
    )  # fmt: skip
    text = LanguageModel(hidden_size=4, vocab_size=3, layer_kinds=(layer,), layer_pattern=(0,))
    return VlmModel(name="decoder", model_type="llama", language_model=text)


def load_of(text: int, output: int) -> TokenCounts:
    return TokenCounts(0, 0, 0, 0, 0, 0, 0, text, output, 1)


@settings(max_examples=300)
@given(
    limit=LIMITS,
    policy=st.one_of(st.just(KvPolicy()), BUDGETS),
    eviction=st.one_of(st.none(), EVICTIONS),
    text=st.integers(1, 60),
    output=st.integers(1, 90),
)
# An evicted cache under chunks; a held budget that is not full when eviction of text sets in; a negative budget.
@example((0, 20), KvPolicy(), TextEviction(threshold_tokens=0, retain=Fraction(0)), 5, 30)
@example((0, 0), KvPolicy(plus=(40,), hold=True), TextEviction(threshold_tokens=20, retain=Fraction(1, 2)), 10, 80)
@example((0, 0), KvPolicy(share=(Fraction(1, 2),), plus=(-9,)), None, 8, 5)
def test_every_cache_costs_what_its_simulated_steps_cost(
    limit: tuple[int, int], policy: KvPolicy, eviction: TextEviction | None, text: int, output: int
) -> None:
    model, schedule, load = decoder(limit), Schedule(kv=policy, text_eviction=eviction), load_of(text, output)
    result = table(model, schedule, load)
    exact, framework = count(model, schedule, load), count(model, schedule, load, framework=True)
    assert result.flops(DECODE) == sum(exact.decode_steps)
    assert result.flops(DECODE, "torch_flops") == sum(framework.decode_steps)
    assert result.totals[KV_PREFILL_BYTES] == exact.kv_prefill_bytes
    assert result.totals[KV_FINAL_BYTES] == exact.kv_final_bytes
    if output > 1:
        assert result.totals[FIRST_STEP_FLOPS] == exact.decode_steps[0]
        assert result.totals[FIRST_STEP_TORCH_FLOPS] == framework.decode_steps[0]


@given(limit=LIMITS, policy=BUDGETS, eviction=EVICTIONS, text=st.integers(1, 60), output=st.integers(1, 90))
def test_bytes_read_are_the_entries_that_the_steps_attend_to(
    limit: tuple[int, int], policy: KvPolicy, eviction: TextEviction, text: int, output: int
) -> None:
    model, schedule, load = decoder(limit), Schedule(kv=policy, text_eviction=eviction), load_of(text, output)
    rows = table(model, schedule, load).rows
    attends = rows[(rows["phase"] == DECODE) & (rows["name"] == ATTEND)]
    # A key costs a KV head 16 FLOPs (two query heads, two products, two dimensions, multiply and add)
    # and 8 bytes (key and value, two dimensions, two bytes).
    assert attends["kv_read_bytes"].sum() * 16 == attends["flops"].sum() * 8
    assert attends["kv_write_bytes"].sum() == (output - 1) * 3 * 8


@given(limit=LIMITS, policy=BUDGETS, text=st.integers(1, 60), output=st.integers(1, 90), more=st.integers(0, 30))
def test_a_longer_output_never_costs_less(
    limit: tuple[int, int], policy: KvPolicy, text: int, output: int, more: int
) -> None:
    model, schedule = decoder(limit), Schedule(kv=policy)
    short, long = (table(model, schedule, load_of(text, length)) for length in (output, output + more))
    assert short.flops(DECODE) <= long.flops(DECODE)
    assert (short.totals <= long.totals).all()


@given(
    limit=LIMITS, share=SHARES, less=SHARES, text=st.integers(1, 60), output=st.integers(2, 90), late=st.integers(0, 90)
)
def test_keeping_less_of_the_text_never_costs_more(
    limit: tuple[int, int], share: Fraction, less: Fraction, text: int, output: int, late: int
) -> None:
    low, high = sorted((share, less))
    model, load = decoder(limit), load_of(text, output)
    few, many = (
        table(model, Schedule(text_eviction=TextEviction(threshold_tokens=late, retain=kept)), load)
        for kept in (low, high)
    )
    assert few.flops(DECODE) <= many.flops(DECODE)
    assert (few.totals <= many.totals).all()
