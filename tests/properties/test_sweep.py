"""A sweep is the single estimate, row by row and to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario
from asymsim.sweep.evaluate import COLUMNS, evaluate
from asymsim.sweep.evaluator import FIGURES

SCENARIOS = {
    "dense": Scenario(model="llava-1.5-7b"),
    "crops": Scenario(model="llava-v1.6-mistral-7b", gpu="a100_80gb_sxm", image_height=700, method="fastv", keep=0.3),
    "windows": Scenario(model="qwen2.5-vl-7b", gpu="l40s", tp_size=2, dtype="fp8", method="pyramiddrop"),
    "sliding": Scenario(model="gemma-3-4b-it", gpu="l4", kv_dtype="fp8", method="pyramidkv", keep=0.4),
    "cross": Scenario(model="llama-3.2-11b-vision", gpu="b200_sxm", tp_size=8),
    "resampler": Scenario(model="minicpm-v-2.6", method="visionzip", keep=0.5, num_images=3),
    "experts": Scenario(model="llama-4-scout-17b-16e", gpu="h200_sxm", tp_size=4, method="streamingllm", keep=0.2),
    "given_tokens": Scenario(model="phi-3.5-vision", visual_tokens=777, method="vscan"),
    "two_methods": Scenario(model="llava-1.5-7b", method="sparsevlm+h2o", keep=0.4),
    "text_only": Scenario(model="llama-3.1-8b", method="snapkv", keep=0.5),
}
MIXTURE = Scenario(model="llava-1.5-7b", method="asymvlm", keep=0.5)
LENGTHS = {
    "num_images": st.integers(0, 6),
    "text_tokens": st.one_of(st.integers(1, 200), st.integers(1, 20_000)),
    "output_tokens": st.one_of(st.just(1), st.integers(1, 3000)),
    "batch_size": st.integers(1, 64),
}


@st.composite
def columns(draw: st.DrawFn, scenario: Scenario) -> dict[str, int | list[int]]:
    """Some of the columns, each a number or as many as there are rows."""
    rows = draw(st.integers(1, 6))
    names = draw(st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1))
    if scenario.model == "llama-3.1-8b" or scenario.visual_tokens is not None:
        names.discard("num_images")
    return {
        name: draw(st.one_of(LENGTHS[name], st.lists(LENGTHS[name], min_size=rows, max_size=rows)))
        for name in sorted(names)
    }


def rows_of(chosen: dict[str, int | list[int]]) -> list[dict[str, int]]:
    count = max((len(values) for values in chosen.values() if isinstance(values, list)), default=1)
    return [
        {name: values[row] if isinstance(values, list) else values for name, values in chosen.items()}
        for row in range(count)
    ]


def figures(one: Estimate) -> dict[str, float | None]:
    """The figures of a sweep in a single estimate that are named otherwise there."""
    flops, time = one.flops, one.latency
    return {
        "vision_tower_flops": flops.vision_tower,
        "projector_flops": flops.projector,
        "selection_flops": flops.selection,
        "prefill_flops": flops.prefill,
        "decode_flops": flops.decode,
        "decode_step_first_flops": flops.decode_step_first,
        "kv_prefill_bytes": one.kv_cache.prefill_bytes,
        "kv_peak_bytes": one.kv_cache.peak_bytes,
        "activation_bytes": one.memory.activation_bytes,
        "vision_s": time.vision_s.p50,
        "selection_s": time.selection_s.p50,
        "prefill_s": time.prefill_s.p50,
        "peak_bytes": one.memory.peak_bytes,
        "max_batch_size": one.memory.max_batch_size,
        **{
            f"{name}{end}": getattr(getattr(time, name), quantile)
            for name in ("ttft_s", "e2e_s", "tpot_s")
            for end, quantile in (("_p05", "p05"), ("", "p50"), ("_p95", "p95"))
        },
    }


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=12)
@given(data=st.data())
def test_every_row_is_the_single_estimate(name: str, data: st.DataObject) -> None:
    scenario = SCENARIOS[name]
    chosen = data.draw(columns(scenario))
    result = evaluate(scenario, chosen, FIGURES)
    assert set(result) == set(FIGURES)
    for row, values in enumerate(rows_of(chosen)):
        for figure, expected in figures(estimate(replace(scenario, **values))).items():
            found = result[figure][row]
            assert found == expected or (expected is None and found != found), (figure, values)


@settings(max_examples=12)
@given(data=st.data())
def test_expectations_of_a_mixture_are_those_of_the_single_estimate(data: st.DataObject) -> None:
    chosen = data.draw(columns(MIXTURE))
    result = evaluate(MIXTURE, chosen, FIGURES)
    for row, values in enumerate(rows_of(chosen)):
        one = figures(estimate(replace(MIXTURE, **values)))
        # The largest batch is no expectation: it must fit whatever the sample.
        assert result["max_batch_size"][row] == one.pop("max_batch_size")
        for figure, expected in one.items():
            found = result[figure][row]
            # The single estimate rounds counts to whole numbers.
            same = expected is None and found != found
            assert same or found == pytest.approx(expected, rel=1e-9, abs=1 if isinstance(expected, int) else 0), figure


@settings(max_examples=30)
@given(rows=st.lists(st.integers(1, 5000), min_size=1, max_size=9), copies=st.integers(1, 9000))
def test_rows_do_not_depend_on_their_neighbours_or_block(rows: list[int], copies: int) -> None:
    # Long enough that some columns reach over the end of a block.
    scenario = SCENARIOS["crops"]
    short = evaluate(scenario, {"text_tokens": rows}, ("e2e_s", "prefill_flops"))
    long = evaluate(scenario, {"text_tokens": rows * copies}, ("e2e_s", "prefill_flops"))
    for figure, values in short.items():
        assert (long[figure].reshape(copies, len(rows)) == values).all()
