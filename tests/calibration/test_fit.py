"""Fits of synthetic times: known numbers come back, and what cannot be fitted says so."""

from __future__ import annotations

import numpy as np
import pytest

from asymsim.calibration.fit import calibrate, fit_section
from asymsim.calibration.fit_errors import fit_errors, shape_group_correlation
from asymsim.calibration.parameters import search_space
from asymsim.calibration.sections import load_section
from asymsim.catalogue.fitted_parameters import SECTIONS, parameter_record
from asymsim.catalogue.gpu import load_gpu
from asymsim.util.errors import InputError, UnknownNameError

from .conftest import LAUNCH_S, MEMORY_SHARE, OVERLAP, Put, quantisation

H100 = load_gpu("h100_sxm")


def test_known_numbers_come_back(put: Put) -> None:
    put(*quantisation())
    found = fit_section(H100, "elementwise", 3)
    assert found is not None
    made, result = found
    assert made["launch_s"] == pytest.approx(LAUNCH_S, rel=1e-3)
    assert made["memory_share"] == pytest.approx(MEMORY_SHARE, rel=1e-3)
    assert made["overlap"] == pytest.approx(OVERLAP, rel=1e-2)
    assert result.p90 < 1e-3
    assert made["rows"] - made["fitted_rows"] == result.rows


def test_intervals_cover_sites_that_were_not_fitted(put: Put) -> None:
    put(*quantisation(noise=0.1))
    found = fit_section(H100, "elementwise", 3)
    assert found is not None
    made, result = found
    # |log error| of noise 0.1: median 0.0674.
    assert result.median == pytest.approx(0.0674, rel=0.3)
    assert 0.82 < result.coverage < 0.97
    assert abs(made["shape_group_correlation"]) < 0.15


def test_a_fit_can_be_made_again(put: Put) -> None:
    put(*quantisation(noise=0.2))
    first, second = (fit_section(H100, "elementwise", 2) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first[0]["launch_s"] == second[0]["launch_s"]
    assert first[1] == second[1]


def test_matrix_products_are_predicted_at_sites_that_were_not_fitted(put: Put) -> None:
    m, n, k = (
        axis.ravel().astype(float)
        for axis in np.meshgrid(
            2 ** np.arange(0, 14, 2), [768, 1024, 2560, 4096, 5120, 11008], [512, 4096, 8192, 14336]
        )
    )
    # A machine that is not of the model's form: half the peak, 80 % of the bandwidth, 5 us.
    flops_s, memory_s = 4 * m * n * k / 989.4e12, 2 * (m * k + n * k + m * n) / (0.8 * 3.35e12)
    columns = {"m": m, "n": n, "k": k, "gemm_dtype": ["bfloat16"] * len(m)}
    put(columns, 5e-6 + np.maximum(flops_s, memory_s), "h100_sxm/gemm/vllm/0.24.0/gemm")
    found = fit_section(H100, "gemm_bf16", 0)
    assert found is not None
    made, result = found
    assert result.median < 0.06
    assert result.roofline_median > 0.2
    assert (made["dispatched"], made["quantise_share"]) == (0, 1)


def test_a_head_size_without_rows_borrows_and_says_so(put: Put) -> None:
    b, n, h = (axis.ravel() for axis in np.meshgrid([1, 4, 16], 2 ** np.arange(5, 14), np.arange(1, 13) * 4))
    seconds = 1e-5 + 8.0 * b * n * n * h * 128 / 989.4e12
    columns = {"batch_size": b, "isl": n, "num_heads": h, "num_key_value_heads": h, "head_dim": np.full(len(b), 128)}
    columns |= {"attn_dtype": ["bfloat16"] * len(b), "kv_cache_dtype": ["bfloat16"] * len(b)}
    columns |= {"window_size": np.zeros(len(b), int), "step": np.zeros(len(b), int)}
    put(columns, seconds, "h100_sxm/attention/vllm/0.24.0/context_attention")
    found = fit_section(H100, "prefill_attention", 0)
    assert found is not None
    made = found[0]
    assert list(made["fitted_size"]) == [0, 1, 0, 0]
    assert set(made["launch_s"]) == {made["launch_s"][1]}
    assert (made["tile_efficiency"] == made["tile_efficiency"][1]).all()
    assert made["packs"] == 1


def test_kernels_of_the_architecture_are_settled() -> None:
    tiles = {name: search_space("encoder_attention", load_gpu(name), np.arange(3)) for name in ("h100_sxm", "gb200")}
    assert [tiles[name].record(tiles[name].start)["query_tiles"][0, 2] for name in tiles] == [192, 256]
    for name, flash2 in (("a100_80gb_sxm", 1), ("b200_sxm", 0), ("rtx_pro_6000", 1), ("h200_sxm", 0)):
        whole = search_space("decode_attention", load_gpu(name), np.arange(4))
        assert whole.record(whole.start)["flash2"][0] == flash2
        assert not whole.free[0]
    fp8 = search_space("gemm_fp8", H100, np.zeros(0))
    assert np.isinf(fp8.record(fp8.start)["vector_s"][0])


def test_too_few_rows_are_refused(put: Put) -> None:
    columns, seconds = quantisation()
    put({name: column[:8] for name, column in columns.items()}, seconds[:8])
    with pytest.raises(InputError, match=r"h100_sxm elementwise rows = \d+: too few to fit 3 parameters; at least 15"):
        fit_section(H100, "elementwise", 1)


def test_neighbours_that_err_alike_correlate(put: Put) -> None:
    columns, seconds = quantisation()
    # Every second shape group is slower as a whole.
    put(columns, seconds * np.where(columns["k"] // 256 % 2, 1.3, 1.0))
    table = load_section(H100, "elementwise")
    assert table is not None
    numbers = np.zeros(1, SECTIONS["elementwise"])
    numbers["launch_s"], numbers["memory_share"], numbers["overlap"] = LAUNCH_S, MEMORY_SHARE, OVERLAP
    assert shape_group_correlation(table, numbers) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"gpus": ["h1000"]}, UnknownNameError, "gpu = 'h1000'"),
        ({"gpus": ["t4"]}, InputError, "has no measured tables"),
        ({"gpus": ["h100_sxm"], "sections": ["gemm"]}, UnknownNameError, "section = 'gemm'"),
        ({"gpus": ["h100_sxm"], "iterations": -1}, InputError, "iterations = -1"),
        ({"gpus": ["h100_sxm", "l40s"], "out": "one.toml"}, InputError, "takes one GPU"),
    ],
)
def test_mistakes_are_one_line(put: Put, given: dict[str, object], error: type[InputError], text: str) -> None:
    with pytest.raises(error) as caught:
        calibrate(**given)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shipped_numbers_are_within_their_bounds() -> None:
    for name in ("h100_sxm", "l40s", "gb200"):
        device = load_gpu(name)
        for section in ("gemm_bf16", "prefill_attention", "decode_attention", "encoder_attention"):
            whole = search_space(section, device, np.arange(4))
            vector = parameter_record(device.efficiency[section], SECTIONS[section]).view(np.float64)
            free = whole.free
            assert (vector[free] >= whole.low[free] * 0.999).all()
            assert (vector[free] <= whole.high[free] * 1.001).all()


def test_an_interval_of_the_prediction_itself_covers_all(put: Put) -> None:
    put(*quantisation())
    table = load_section(H100, "elementwise")
    assert table is not None
    numbers = np.zeros(1, SECTIONS["elementwise"])
    numbers["launch_s"], numbers["memory_share"], numbers["overlap"] = LAUNCH_S, MEMORY_SHARE, OVERLAP
    wide = {"band_edges_s": [0.0] + [np.inf] * 12, "ratio_p05": [0.999] * 12, "ratio_p95": [1.001] * 12}
    result = fit_errors(table, numbers, wide, np.arange(len(table.seconds)))
    assert (result.coverage, result.narrow) == (1.0, 1.0)
    assert result.median < 1e-9
