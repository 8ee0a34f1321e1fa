"""Bits of number formats, seconds of engines and quantiles of transferred times as they are kept."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.catalogue.accuracy import Accuracy
from asymsim.catalogue.engine import Engine, engine_text, load_engine
from asymsim.catalogue.fitted_parameters import SECTIONS, TRANSFER_FILE, check_sections, transferred_interval
from asymsim.catalogue.gpu import gpu_path
from asymsim.catalogue.number_format import KV_BITS, NUMBER_FORMATS, kv_bits, number_format
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError


@pytest.mark.parametrize(
    ("name", "weight", "activation", "peak"),
    [
        ("fp32", 32, 32, "fp32"),
        ("bf16", 16, 16, "bf16"),
        ("fp16", 16, 16, "fp16"),
        # 8-bit and 4-bit formats keep activations in 16 bits between products.
        ("fp8", 8, 16, "fp8"),
        ("int8", 8, 16, "int8"),
        ("w4a16", 4, 16, "fp16"),
        ("fp4", 4, 16, "fp4"),
    ],
)
def test_bits_of_weights_and_activations(name: str, weight: int, activation: int, peak: str) -> None:
    fmt = number_format(name)
    assert (fmt.weight_bits, fmt.activation_bits, fmt.peak) == (weight, activation, peak)
    # An automatic cache is as wide as the activations.
    assert kv_bits("auto", fmt) == activation
    assert len(NUMBER_FORMATS) == 7


def test_bits_of_cache_entries() -> None:
    assert KV_BITS == {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}


@pytest.mark.parametrize(("name", "bits"), [("w4a16", 4), ("int8", 8), ("bf16", 16)])
def test_weights_take_their_bits_of_memory(name: str, bits: int) -> None:
    # LLaVA-1.5-7B as published: 7,063,427,072 parameters.
    memory = estimate(Scenario(model="llava-1.5-7b", gpu="a100_80gb_sxm", dtype=name)).memory
    assert memory.weights_bytes == 7_063_427_072 * bits // 8


def test_an_engine_is_written_to_nine_digits_and_read_back(tmp_path: Path) -> None:
    source = 'a \\ and "b"'
    mine = Engine(name="mine", host_s=0.00123456789, host_p05_s=0.00123456789, host_p95_s=0.002, source=source)
    path = tmp_path / "mine.toml"
    path.write_text(engine_text(mine))
    assert load_engine(str(path)) == mine


@pytest.mark.parametrize(("low", "middle", "high"), [(0.0, 0.0, 0.0), (0.001, 0.001, 0.001), (0.0, 0.001, 0.001)])
def test_a_host_may_take_the_same_time_always(low: float, middle: float, high: float) -> None:
    engine = Engine(name="x", host_s=middle, host_p05_s=low, host_p95_s=high, source="s")
    assert engine.host_s == middle
    with pytest.raises(InputError, match="must rise"):
        Engine(name="x", host_s=middle, host_p05_s=middle + 1e-6, host_p95_s=high + 1e-6, source="s")


@pytest.mark.parametrize("section", SECTIONS)
def test_transferred_intervals_are_those_of_the_file(section: str) -> None:
    table = tomllib.loads(TRANSFER_FILE.read_text())["interval"].get(section)
    if table is None:
        with pytest.raises(KeyError):
            transferred_interval(section)
        return
    interval = transferred_interval(section)[0]
    assert 0 < table["ratio_p05"] < 1 < table["ratio_p95"]
    assert interval["ratio_p05"].tolist() == [table["ratio_p05"]] * 12
    assert interval["ratio_p95"].tolist() == [table["ratio_p95"]] * 12
    assert interval["time_scale"] == 1.0
    assert np.isinf(interval["band_edges_s"][1:]).all()


def sections() -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = tomllib.loads(gpu_path("h100_sxm").read_text())["efficiency"]
    return sections


def test_edges_of_bands_must_rise_and_scales_be_above_nothing() -> None:
    assert check_sections(sections()) == sections()
    for key, value in (("band_edges_s", "falling"), ("time_scale", 0.0), ("time_scale", -1.0), ("source", " ")):
        tables = sections()
        new_value = list(reversed(tables["gemm_bf16"]["band_edges_s"])) if value == "falling" else value
        tables["gemm_bf16"][key] = new_value
        with pytest.raises(InputError, match=key):
            check_sections(tables)


def accuracy(**changed: Any) -> Accuracy:
    plain: dict[str, Any] = {"method": "m", "model": "m", "benchmark": "b", "meaning": "count", "source": "s"}
    return Accuracy(**{**plain, "budget": 0.5, "accuracy": 40.0, "dense": 50.0, **changed})


def test_the_share_kept_is_of_the_unpruned_accuracy() -> None:
    assert accuracy().share_kept == 0.8
    assert accuracy(dense=None).share_kept is None


def test_an_average_of_shares_may_exceed_a_hundred() -> None:
    assert accuracy(accuracy=200.0, dense=100.0).share_kept == 2.0
    for changed in ({"accuracy": 200.1, "dense": 100.0}, {"accuracy": 100.1}, {"accuracy": -0.1}):
        with pytest.raises(InputError, match="accuracy"):
            accuracy(**changed)
    for budget in (0.0, 1.01):
        with pytest.raises(InputError, match="budget"):
            accuracy(budget=budget)
