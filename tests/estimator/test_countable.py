"""Counts are 64-bit integers: right up to the largest load that is accepted, and a plain refusal beyond."""

from __future__ import annotations

import pytest

from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError


def of(name: str, operators: bool = False, **more: object) -> Estimate:
    return estimate(Scenario(model=name, **more), operators=operators)  # type: ignore[arg-type]


def largest_batch(name: str, **more: object) -> int:
    """The largest batch that is counted."""
    low, high = 1, 10**6 + 1
    while high - low > 1:
        middle = (low + high) // 2
        try:
            of(name, batch_size=middle, **more)
            low = middle
        except InputError:
            high = middle
    return low


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llama-4-scout-17b-16e", "qwen2.5-vl-72b", "smolvlm-256m"])
@pytest.mark.parametrize(
    "lengths",
    [
        {"text_tokens": 64, "output_tokens": 128},
        {"text_tokens": 10**5, "output_tokens": 1},
        {"text_tokens": 1, "output_tokens": 10**5},
        {"text_tokens": 1, "output_tokens": 1, "image_height": 3000, "image_width": 3000},
    ],
)
@pytest.mark.parametrize("formats", [{}, {"dtype": "fp32"}, {"method": "h2o"}, {"method": "dart"}])
def test_the_largest_counts_that_are_not_refused_are_right(
    name: str, lengths: dict[str, int], formats: dict[str, str]
) -> None:
    one = of(name, **lengths, **formats)
    batch = largest_batch(name, **lengths, **formats)
    many = of(name, operators=True, batch_size=batch, **lengths, **formats)
    assert vars(many.flops) == {key: batch * value for key, value in vars(one.flops).items()}
    assert many.kv_cache.peak_bytes == batch * one.kv_cache.peak_bytes
    assert many.memory.activation_bytes == batch * one.memory.activation_bytes
    assert all(value >= 0 for row in many.operators or () for value in row.values() if isinstance(value, int))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("qwen2.5-vl-72b", {"batch_size": 256, "text_tokens": 2048, "output_tokens": 512}),
        ("qwen2.5-vl-72b", {"batch_size": 64, "text_tokens": 8192, "output_tokens": 512}),
        ("llama-3.2-90b-vision", {"batch_size": 128, "text_tokens": 4000, "output_tokens": 1000}),
        ("qwen2.5-vl-7b", {"batch_size": 64, "text_tokens": 100_000, "output_tokens": 1000}),
    ],
)
def test_loads_that_people_serve_are_counted(name: str, more: dict[str, int]) -> None:
    one = of(name, **more)
    assert 0 < one.flops.total < 2**62
    assert one.flops.total % more["batch_size"] == 0


@pytest.mark.parametrize("more", [{"batch_size": 10**6}, {"text_tokens": 10**8}, {"output_tokens": 10**8}])
def test_counts_that_would_leave_64_bits_are_refused(more: dict[str, int]) -> None:
    with pytest.raises(InputError, match="64 bits") as caught:
        of("qwen2.5-vl-72b", **more)
    assert caught.value.field == "batch_size x tokens"
