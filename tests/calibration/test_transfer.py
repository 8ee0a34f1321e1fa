"""Intervals of transferred parameters."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from asymsim.calibration import transfer
from asymsim.calibration.transfer import PAIRS, pooled, transferred_ratios, write_transfer
from asymsim.catalogue.fitted_parameters import SECTIONS, TRANSFER_FILE, transferred_interval
from asymsim.catalogue.gpu import load_gpu
from asymsim.util.errors import InputError

from .conftest import Put, quantisation


def test_pairs_weigh_the_same_whatever_their_rows() -> None:
    few, many = np.full(10, 0.5), np.full(10_000, 2.0)
    assert pooled([few, many]) == (0.5, 2.0)
    assert pooled([np.linspace(1.0, 2.0, 1001)]) == pytest.approx((1.05, 1.95), abs=0.002)


def test_ratios_are_measured_over_predicted_with_the_donors_parameters(put: Put) -> None:
    columns, _ = quantisation()
    donor = load_gpu("h100_sxm").efficiency["elementwise"]
    stream_s = 3.0 * columns["m"] * columns["k"] / (load_gpu("h200_sxm").bandwidth_bytes_per_s * donor["memory_share"])
    predicted = (donor["launch_s"] ** donor["overlap"] + stream_s ** donor["overlap"]) ** (1 / donor["overlap"])
    put(columns, 1.25 * predicted, "h200_sxm/quantize/vllm/0.24.0/scale_matrix")
    ratios = transferred_ratios("h200_sxm", "h100_sxm", "elementwise")
    assert ratios is not None
    assert ratios == pytest.approx(1.25, rel=1e-9)
    assert transferred_ratios("gb200", "b200_sxm", "elementwise") is None


def test_without_a_pair_nothing_is_written(put: Put) -> None:
    before = TRANSFER_FILE.read_bytes()
    with pytest.raises(InputError, match="section = 'gemm_bf16': no pair"):
        write_transfer()
    assert TRANSFER_FILE.read_bytes() == before


@pytest.mark.parametrize("section", SECTIONS)
def test_shipped_intervals_hold_the_prediction(section: str) -> None:
    interval = transferred_interval(section)[0]
    assert (interval["ratio_p05"] < 1).all()
    assert (interval["ratio_p95"] > 1).all()


def test_no_gpu_is_its_own_donor() -> None:
    assert all(target != source for target, source in PAIRS)


def test_the_donors_stay_and_a_second_run_changes_nothing(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(*quantisation())
    monkeypatch.setattr(transfer, "transferred_ratios", lambda target, donor, section: np.linspace(0.8, 1.4, 50))
    copy = tmp_path / "transfer.toml"
    copy.write_bytes(TRANSFER_FILE.read_bytes())
    monkeypatch.setattr(transfer, "TRANSFER_FILE", copy)
    rows = write_transfer()
    first = copy.read_text()
    assert len(rows) == len(PAIRS) * len(SECTIONS)
    assert first.partition("# measured")[0] == TRANSFER_FILE.read_text().partition("# measured")[0]
    made = tomllib.loads(first)
    assert set(made["interval"]) == set(SECTIONS)
    assert made["interval"]["gemm_bf16"]["ratio_p05"] == pytest.approx(0.83, abs=0.01)
    write_transfer()
    assert copy.read_text() == first
