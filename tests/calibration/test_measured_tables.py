"""Rows that mislead are dropped by name and counted; a table that cannot be read is one clear line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from asymsim.calibration import measured_tables, table_rows
from asymsim.calibration.sections import load_section
from asymsim.catalogue.gpu import load_gpu
from asymsim.util.errors import InputError, MissingExtraError, UnknownNameError

from .conftest import Put

GEMM = "h100_sxm/gemm/vllm/0.24.0/gemm"
CONTEXT = "h100_sxm/attention/vllm/0.24.0/context_attention"


def _gemm(seconds: list[float], m: list[int], dtype: str = "bfloat16") -> dict[str, list[object]]:
    rows = len(seconds)
    return {"m": m, "n": [4096] * rows, "k": [4096] * rows, "gemm_dtype": [dtype] * rows}


def test_each_trap_of_a_matrix_table_is_counted(put: Put) -> None:
    # 4096^2 weights of 2 bytes take 10.0 us of an H100's bandwidth; 8192 rows take 278 us of its peak.
    seconds = [2e-5, 2.2e-5, 2.4e-5, np.nan, -1.0, 0.0, np.inf, 9e-6, 2.7e-4]
    m = [16, 16, 16, 32, 32, 32, 32, 16, 8192]
    put(_gemm(seconds, m), seconds, GEMM)
    table = load_section(load_gpu("h100_sxm"), "gemm_bf16")
    assert table is not None
    # The 9 us row repeats a shape: the lower of the middle two stays, and none beats the memory then.
    assert table.dropped == {"not_positive": 4, "repeated": 3, "beats_peak": 1}
    assert table.seconds == pytest.approx([2e-5])
    put(_gemm([9e-6, 3e-5], [16, 64]), [9e-6, 3e-5], GEMM)
    again = load_section(load_gpu("h100_sxm"), "gemm_bf16")
    assert again is not None
    assert again.dropped == {"beats_memory": 1}
    assert set(table_rows.EXCLUSION_RULES) >= {*table.dropped, *again.dropped}


def test_each_trap_of_a_context_table_is_counted(put: Put) -> None:
    rows = {
        "batch_size": [1] * 7,
        "isl": [512, 512, 512, 512, 512, 1, 1024],
        "num_heads": [32] * 7,
        "num_key_value_heads": [8] * 7,
        "head_dim": [128, 128, 128, 512, 128, 128, 128],
        "attn_dtype": ["bfloat16"] * 7,
        "kv_cache_dtype": ["bfloat16", "fp8", *["bfloat16"] * 5],
        "window_size": [0, 0, 128, 0, 0, 0, 0],
        "step": [0, 0, 0, 0, 64, 0, 0],
    }
    put(rows, [1e-4] * 7, CONTEXT)
    table = load_section(load_gpu("h100_sxm"), "prefill_attention")
    assert table is not None
    assert table.dropped == dict.fromkeys(("fp8_cache", "sliding_window", "head_size_512", "cached_prefix", "empty"), 1)
    assert sorted(table.columns["n"]) == [512, 1024]


def test_eager_all_reduces_and_spread_experts_are_left_out(put: Put) -> None:
    rows = {
        "num_gpus": [2, 2],
        "message_size": [4096, 4096],
        "kernel_source": ["vLLM_custom_graph", "vLLM_custom_eager"],
    }
    put(rows, [5e-6, 4e-6], "h100_sxm/comm/vllm/0.24.0/custom_allreduce")
    table = load_section(load_gpu("h100_sxm"), "all_reduce")
    assert table is not None
    assert (table.dropped, list(table.seconds)) == ({"eager": 1}, pytest.approx([5e-6]))
    experts = {
        "num_tokens": [64, 64],
        "hidden_size": [4096, 4096],
        "inter_size": [1024, 1024],
        "topk": [8, 8],
        "num_experts": [64, 64],
        "moe_tp_size": [1, 1],
        "moe_ep_size": [1, 4],
        "moe_dtype": ["bfloat16"] * 2,
        "distribution": ["balanced"] * 2,
    }
    put(experts, [9e-4, 3e-4], "h100_sxm/moe/vllm/0.24.0/moe")
    found = load_section(load_gpu("h100_sxm"), "grouped_gemm")
    assert found is not None
    # Half of the fused kernel: the time of one of its two products.
    assert (found.dropped, list(found.seconds)) == ({"spread_experts": 1}, pytest.approx([4.5e-4]))


def test_the_newest_version_is_read(put: Put) -> None:
    for version, seconds in (("0.9.0", 3e-5), ("0.24.0", 4e-5), ("0.3.1", 5e-5)):
        put(_gemm([seconds], [16]), [seconds], f"h100_sxm/gemm/vllm/{version}/gemm")
    table = load_section(load_gpu("h100_sxm"), "gemm_bf16")
    assert table is not None
    assert table.seconds == pytest.approx([4e-5])
    assert table.source == "h100_sxm/gemm/vllm/0.24.0/gemm_perf.parquet"


def test_a_format_that_the_table_or_the_gpu_lacks_is_no_table(put: Put) -> None:
    put(_gemm([4e-5], [16]), [4e-5], GEMM)
    put(_gemm([4e-5], [16], "fp8"), [4e-5], "a100_sxm/gemm/vllm/0.24.0/gemm")
    assert load_section(load_gpu("h100_sxm"), "gemm_fp8") is None
    assert load_section(load_gpu("a100_80gb_sxm"), "gemm_fp8") is None
    assert load_section(load_gpu("h100_sxm"), "encoder_attention") is None


def test_mistakes_are_named(put: Put, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="gemm_bf16"):
        load_section(load_gpu("h100_sxm"), "gemm_bf")
    with pytest.raises(UnknownNameError, match="vllm"):
        load_section(load_gpu("h100_sxm"), "gemm_bf16", "vlm")
    with pytest.raises(InputError, match="gpu = 't4': has no measured tables"):
        load_section(load_gpu("t4"), "gemm_bf16")
    broken = put(_gemm([4e-5], [16]), [4e-5], GEMM)
    broken.write_bytes(b"PAR1 no table")
    with pytest.raises(InputError, match="cannot be read"):
        load_section(load_gpu("h100_sxm"), "gemm_bf16")
    put({"m": ["sixteen"], "n": [1], "k": [1]}, [4e-5], GEMM)
    with pytest.raises(InputError, match="cannot be read"):
        load_section(load_gpu("h100_sxm"), "gemm_bf16")


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        measured_tables, "find_spec", lambda name: None if name == "aiconfigurator_core" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'asymsim\[measured\]'"):
        load_section(load_gpu("h100_sxm"), "gemm_bf16")
