"""Held-out shape groups, chosen by the group alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asymsim.calibration.sections import load_section
from asymsim.calibration.shape_groups import HELD_OUT, SEED, held_out
from asymsim.catalogue.gpu import load_gpu

from .conftest import Put


def test_the_seed_is_the_one_that_the_shipped_numbers_were_fitted_under() -> None:
    for name in ("h100_sxm", "l40s"):
        for section in load_gpu(name).efficiency.values():
            assert f"split seed {SEED}" in section["command"]


def test_a_quarter_is_held_out() -> None:
    n, k = (axis.ravel() for axis in np.meshgrid(np.arange(1, 101) * 128.0, np.arange(1, 101) * 64.0))
    assert abs(held_out(n, k).mean() - HELD_OUT) < 0.02


@given(st.lists(st.integers(1, 2**20), min_size=1, max_size=20), st.integers(1, 2**20))
def test_other_rows_do_not_matter(groups: list[int], other: int) -> None:
    alone = held_out(np.array(groups, float))
    among = held_out(np.array([other, *groups, other], float))
    assert (among[1:-1] == alone).all()


def test_all_token_counts_of_a_site_and_all_gpus_agree(put: Put) -> None:
    m, n = (axis.ravel() for axis in np.meshgrid([1, 16, 512], np.arange(1, 60) * 128))
    shapes = {"m": m, "n": n, "k": np.full(len(m), 4096), "gemm_dtype": ["bfloat16"] * len(m)}
    split = {}
    for system, name, slower in (("h100_sxm", "h100_sxm", 1.0), ("a100_sxm", "a100_80gb_sxm", 3.0)):
        # Rows that one GPU alone drops must not move the others.
        seconds = np.where((m == 1) & (system == "a100_sxm"), np.nan, slower * 1e-3)
        put(shapes, seconds, f"{system}/gemm/vllm/0.24.0/gemm")
        table = load_section(load_gpu(name), "gemm_bf16")
        assert table is not None
        rows = zip(table.columns["n"], table.held_out, strict=True)
        split[name] = set(rows)
        assert len(split[name]) == len(np.unique(n))
    assert split["h100_sxm"] == split["a100_80gb_sxm"]
