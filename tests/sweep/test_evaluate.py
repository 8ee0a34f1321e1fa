"""Columns of a sweep: what is accepted, what comes back, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.estimator.scenario import Scenario
from asymsim.sweep.evaluate import COLUMNS, evaluate
from asymsim.sweep.evaluator import BLOCK_ROWS, FIGURES, MEDIANS
from asymsim.util.errors import InputError, UnknownNameError

LLAVA = Scenario(model="llava-1.5-7b")


def test_without_columns_there_is_one_row() -> None:
    result = evaluate(LLAVA, {})
    assert set(result) == set(MEDIANS) < set(FIGURES)
    assert {len(values) for values in result.values()} == {1}


@pytest.mark.parametrize("values", [7, [7], (7,), np.array([7], np.uint8), np.int32(7)])
def test_any_whole_numbers_make_a_column(values: object) -> None:
    assert evaluate(LLAVA, {"text_tokens": values}, ("prefill_flops",))["prefill_flops"].tolist() == [
        evaluate(Scenario(model="llava-1.5-7b", text_tokens=7), {})["prefill_flops"][0]
    ]


def test_a_number_stands_for_every_row() -> None:
    both = evaluate(LLAVA, {"text_tokens": [5, 6, 7], "batch_size": 2}, FIGURES)
    each = evaluate(LLAVA, {"text_tokens": [5, 6, 7], "batch_size": [2, 2, 2]}, FIGURES)
    for name in FIGURES:
        assert both[name].tolist() == each[name].tolist()


def is_time(name: str) -> bool:
    return name.removesuffix("_p05").removesuffix("_p95").endswith("_s")


def test_counts_are_whole_and_times_are_not() -> None:
    result = evaluate(LLAVA, {"output_tokens": [1, 2]}, FIGURES)
    assert all(result[name].dtype == (np.float64 if is_time(name) else np.int64) for name in FIGURES)
    assert np.isnan(result["tpot_s"]).tolist() == [True, False]
    mixture = evaluate(Scenario(model="llava-1.5-7b", method="asymvlm"), {})
    assert mixture["prefill_flops"].dtype == np.float64
    assert mixture["max_batch_size"].dtype == np.int64


@pytest.mark.parametrize("rows", [BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS])
def test_rows_at_the_edges_of_blocks(rows: int) -> None:
    text = np.arange(1, rows + 1)
    flops = evaluate(LLAVA, {"text_tokens": text}, ("prefill_flops",))["prefill_flops"]
    n = 576 + text
    assert (flops == 12_952_010_752 * n + 524_288 * (n * (n + 1) // 2) + 262_668_288).all()


@pytest.mark.parametrize("method", ["none", "fastv", "sparsevlm", "h2o", "asymvlm+snapkv"])
def test_rows_do_not_depend_on_those_before(method: str) -> None:
    # Operators that did not change keep their time from the row before.
    scenario = Scenario(model="llava-1.5-7b", method=method)
    text, output = np.repeat([1, 64, 65, 1000], 6), np.tile([1, 2, 2, 128, 1000, 1], 4)
    order = np.random.default_rng(1).permutation(len(text))
    one = evaluate(scenario, {"text_tokens": text, "output_tokens": output}, FIGURES)
    other = evaluate(scenario, {"text_tokens": text[order], "output_tokens": output[order]}, FIGURES)
    for name in FIGURES:
        np.testing.assert_array_equal(one[name][order], other[name])


def test_no_images_cost_no_vision() -> None:
    result = evaluate(Scenario(model="llava-1.5-7b", method="visionzip"), {"num_images": [0, 1]})
    assert result["vision_tower_flops"].tolist() == [0, 381_918_216_192]
    assert result["selection_flops"][0] == 0
    assert result["vision_s"][0] == 0


def test_memory_of_a_row_is_its_own() -> None:
    result = evaluate(Scenario(model="llava-1.5-7b", gpu="l4"), {"batch_size": [1, 2, 64], "text_tokens": 2000})
    assert len(set(result["max_batch_size"].tolist())) == 1
    assert (np.diff(result["peak_bytes"]) > 0).all()


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns_out_of_range_name_themselves(name: str) -> None:
    lowest, highest = COLUMNS[name]
    for values in ([lowest - 1], [lowest, highest + 1], [-(2**60)], np.array([2**63], np.uint64)):
        with pytest.raises(InputError, match=f"{lowest} to {highest}") as caught:
            evaluate(LLAVA, {name: values})
        assert caught.value.field == name


@pytest.mark.parametrize("values", [[], [1.5], ["7"], [[1, 2]], [True], None, [None], [1, 2.0], np.empty((0, 3), int)])
def test_columns_of_anything_else_are_refused(values: object) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(LLAVA, {"text_tokens": values})
    assert caught.value.field == "text_tokens"


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(InputError, match="1 value or 3") as caught:
        evaluate(LLAVA, {"text_tokens": [1, 2, 3], "batch_size": [1, 2]})
    assert caught.value.field == "batch_size"


@pytest.mark.parametrize("columns", [{"texts": [1]}, {"visual_tokens": [1]}])
def test_unknown_columns_are_refused(columns: dict[str, list[int]]) -> None:
    with pytest.raises(UnknownNameError, match="column"):
        evaluate(LLAVA, columns)


def test_unknown_figures_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="figure"):
        evaluate(LLAVA, {}, ("speed",))


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llava-1.5-7b"])
def test_images_need_one_to_repeat(model: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(Scenario(model=model, num_images=0), {"num_images": [0, 2]})
    assert caught.value.field == "num_images"


def test_rows_that_would_leave_64_bits_are_refused() -> None:
    with pytest.raises(InputError, match="64 bits"):
        evaluate(Scenario(model="qwen2.5-vl-72b"), {"batch_size": [1, 10**6], "text_tokens": [10**8, 1]})
