"""A user's own times: known factors come back, intervals cover, and what cannot be used is named."""

from __future__ import annotations

import csv
import io
import itertools
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.calibration import user_fit
from asymsim.calibration.kernel_operators import kernel_rows
from asymsim.calibration.kernel_records import COLUMNS
from asymsim.calibration.launch_shape import Shape
from asymsim.calibration.user_fit import calibrate_records
from asymsim.calibration.user_scale import student_95, user_intervals
from asymsim.catalogue.gpu import gpu_path, load_gpu
from asymsim.catalogue.number_format import NUMBER_FORMATS
from asymsim.cli.app import run
from asymsim.core.times.parameters import BANDS
from asymsim.estimator.estimate import estimate
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import operator_times
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError

Work = tuple[str, str]
# Long enough that none of these is held up by its roofline.
MATMULS = [
    ("matmul", f"m={m};n={n};k={k}")
    for (n, k), m in itertools.product(((4096, 4096), (12288, 4096), (4096, 11008), (1024, 1024)), (8, 64, 512, 2048))
]
HEADS = [f"heads={h};kv_heads={kv};head_size=128" for h, kv in ((32, 32), (32, 8), (16, 16))]
PREFILLS = [("prefill", f"queries={n};keys={n};{heads};causal=1") for heads in HEADS for n in (256, 1024, 4096)]
DECODES = [
    ("decode", f"entries={b * int(heads.split(';')[1][9:])}x{n};{heads}")
    for heads in HEADS
    for b, n in itertools.product((1, 16), (512, 4096))
]
ENCODERS = [
    ("prefill", f"queries={b}x576;keys={b}x576;heads={h};kv_heads={h};head_size=64;causal=0")
    for h, b in itertools.product((12, 16, 24), (1, 4, 16))
]
COPIES = [("copy", f"bytes={2**size}") for size in range(12, 32)]
ALL = [*MATMULS, *PREFILLS, *DECODES, *ENCODERS, *COPIES]
VARIANTS = {"matmul": "matmul", "copy": "copy"}


def simulated(name: str, work: Work, number_format: str = "bf16") -> float:
    rates = gpu_arrays(load_gpu(name), NUMBER_FORMATS[number_format])
    rows = kernel_rows(work[0], Shape(work[1]), NUMBER_FORMATS[number_format])
    return float(operator_times(rows, rates, 1)[0][:, 1].sum())


def line(name: str, work: Work, seconds: float, **change: str) -> dict[str, str]:
    quantiles = dict.fromkeys(("p20", "p50", "p80"), repr(seconds))
    return {
        **dict(
            zip(COLUMNS, (name, work[0], VARIANTS.get(work[0], "triton"), work[1], "bf16", "seconds"), strict=False)
        ),
        **quantiles,
        "unit": "s",
        "versions": "python=3.12;torch=2.13.0",
        "date": "2026-01-31",
        **change,
    }


def write(path: Path, rows: Iterable[dict[str, str]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def lines(name: str, factor: float, noise: float = 0.0, works: list[Work] = ALL, seed: int = 3) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    return [line(name, work, simulated(name, work) * factor * float(np.exp(noise * rng.normal()))) for work in works]


@pytest.mark.parametrize("name", ["h100_sxm", "a10"])
def test_a_known_factor_comes_back(name: str, tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    rows = calibrate_records(name, write(tmp_path / "a.csv", lines(name, 1.3)), out=out)
    assert [row["section"] for row in rows] == [
        "gemm_bf16", "prefill_attention", "decode_attention", "encoder_attention", "elementwise",
    ]  # fmt: skip
    for row in rows:
        assert row["way"] == "scale"
        assert row["time_scale"] == pytest.approx(1.3, rel=1e-6)
        assert row["median"] < 1e-6
    # What was measured is what is predicted now.
    for work in ALL:
        assert simulated(str(out), work) == pytest.approx(1.3 * simulated(name, work), rel=1e-3)


def test_times_are_tagged_measured_and_the_shipped_file_is_left_alone(tmp_path: Path) -> None:
    out, before = tmp_path / "mine.toml", gpu_path("a10").read_bytes()
    calibrate_records("a10", write(tmp_path / "a.csv", lines("a10", 1.3)), out=out)
    assert gpu_path("a10").read_bytes() == before
    for name, source in (("a10", "transferred"), (str(out), "measured")):
        times = estimate(Scenario(model="llava-1.5-7b", gpu=name)).latency
        assert {times.vision_s.source, times.prefill_s.source, times.tpot_s.source} == {source}
    section = load_gpu(str(out)).efficiency["gemm_bf16"]
    assert section["measured"] is True
    assert section["date"] == "2026-01-31"
    assert "a.csv (python=3.12;torch=2.13.0); scale of transferred parameters of: " in section["source"]
    assert "--gpu a10 --section gemm_bf16" in section["command"]


def test_a_second_calibration_replaces_the_first(tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    first = write(tmp_path / "a.csv", lines("h100_sxm", 1.3))
    calibrate_records("h100_sxm", first, out=out)
    once = out.read_text()
    calibrate_records(str(out), first)
    assert out.read_text() == once
    second = write(tmp_path / "b.csv", lines("h100_sxm", 1.7))
    for row in calibrate_records(str(out), second):
        assert row["time_scale"] == pytest.approx(1.7, rel=1e-6)
    assert out.read_text().count("[efficiency.gemm_bf16]") == 1
    assert load_gpu(str(out)).efficiency["gemm_bf16"]["source"].count("scale of") == 1
    # What the second file does not hold stays as the first one made it.
    third = write(tmp_path / "c.csv", lines("h100_sxm", 1.1, works=MATMULS))
    calibrate_records(str(out), third)
    sections = load_gpu(str(out)).efficiency
    assert sections["gemm_bf16"]["time_scale"] == pytest.approx(1.1, rel=1e-6)
    assert sections["elementwise"]["time_scale"] == pytest.approx(1.7, rel=1e-6)


@pytest.mark.parametrize("works", [MATMULS, PREFILLS, COPIES], ids=["matmul", "prefill", "copy"])
def test_intervals_cover_shapes_that_were_not_measured(works: list[Work], tmp_path: Path) -> None:
    inside = []
    for seed in range(40):
        out = tmp_path / "mine.toml"
        measured = lines("h100_sxm", 1.4, 0.15, works, seed)
        held = measured[seed % len(works)]
        kept = [each for each in measured if each is not held]
        if len(kept) < user_fit.SCALE_SHAPES:
            continue
        calibrate_records("h100_sxm", write(tmp_path / "a.csv", kept), out=out)
        rows = kernel_rows(held["operator"], Shape(held["shape"]), NUMBER_FORMATS["bf16"])
        low, _, high = operator_times(rows, gpu_arrays(load_gpu(str(out)), NUMBER_FORMATS["bf16"]), 1)[0].sum(axis=0)
        inside.append(low <= float(held["p50"]) <= high)
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize(("rows", "num_groups"), [(8, 8), (8, 2), (12, 3), (30, 30), (60, 4), (60, 12), (300, 60)])
def test_few_rows_give_wide_intervals(rows: int, num_groups: int) -> None:
    # Half of the variance is the shape group's.
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        group = np.arange(rows) % num_groups
        log_ratio = 0.1 * rng.normal(size=num_groups)[group] + 0.1 * rng.normal(size=rows)
        unseen = np.array([np.median(log_ratio[group != left_out]) for left_out in group])
        predicted = np.exp(rng.uniform(-12, -6, rows))
        made = user_intervals(np.exp(log_ratio - unseen), predicted, group, "gemm_bf16")
        fresh = np.exp(np.hypot(0.1, 0.1) * rng.normal(size=500) - np.median(log_ratio))
        covered.append(((fresh >= made["ratio_p05"][0]) & (fresh <= made["ratio_p95"][0])).mean())
    assert np.mean(covered) >= 0.87


def test_one_site_tells_nothing_of_others(tmp_path: Path) -> None:
    works = [("matmul", f"m={m};n=4096;k=4096") for m in range(64, 1024, 64)]
    out = tmp_path / "mine.toml"
    (row,) = calibrate_records("h100_sxm", write(tmp_path / "a.csv", lines("h100_sxm", 1.3, works=works)), out=out)
    assert row["shape_groups"] == 1
    assert row["time_scale"] == pytest.approx(1.3, rel=1e-6)
    assert row["ratio_p05"] <= 0.8
    assert row["ratio_p95"] >= 1.2


def test_student_s_quantiles_are_those_of_tables() -> None:
    # Abramowitz and Stegun, table 26.10.
    for freedom, quantile in ((1, 6.314), (4, 2.132), (7, 1.895), (10, 1.812), (30, 1.697), (120, 1.658)):
        assert student_95(freedom) == pytest.approx(quantile, abs=1e-3)


def test_many_shapes_are_fitted(tmp_path: Path) -> None:
    # A machine unlike the shipped one: 4 us, 55 % of the bandwidth.
    device = load_gpu("h100_sxm")
    sizes = np.unique(np.geomspace(2**12, 2**31, 300).astype(np.int64) // 2 * 2)
    works = [("copy", f"bytes={size}") for size in sizes]
    seconds = np.hypot(4e-6, 2 * sizes / (0.55 * device.bandwidth_bytes_per_s))
    path = write(tmp_path / "a.csv", (line("h100_sxm", *each) for each in zip(works, seconds.tolist(), strict=True)))
    out = tmp_path / "mine.toml"
    (row,) = calibrate_records("h100_sxm", path, iterations=2, out=out)
    section = load_gpu(str(out)).efficiency["elementwise"]
    assert (row["way"], section["measured"]) == ("fit", True)
    assert "time_scale" not in section
    assert section["launch_s"] == pytest.approx(4e-6, rel=1e-3)
    assert section["memory_share"] == pytest.approx(0.55, rel=1e-3)
    assert row["p90"] < 1e-3
    assert section["fitted_rows"] < section["rows"] == len(sizes)


def test_a_gpu_without_numbers_is_fitted_or_refused(tmp_path: Path) -> None:
    device, out = load_gpu("t4"), tmp_path / "mine.toml"
    sizes = np.unique(np.geomspace(2**14, 2**30, 80).astype(np.int64) // 2 * 2)
    seconds = np.hypot(5e-6, 2 * sizes / (0.7 * device.bandwidth_bytes_per_s)).tolist()
    rows = [
        line("t4", ("copy", f"bytes={size}"), each, dtype="fp16") for size, each in zip(sizes, seconds, strict=True)
    ]
    (row,) = calibrate_records("t4", write(tmp_path / "a.csv", rows), iterations=1, out=out)
    assert row["way"] == "fit"
    assert load_gpu(str(out)).efficiency["elementwise"]["memory_share"] == pytest.approx(0.7, rel=0.02)
    with pytest.raises(
        InputError, match="elementwise: 59 distinct shapes and no fitted parameters to scale, at least 60"
    ):
        calibrate_records("t4", write(tmp_path / "a.csv", rows[:59]), out=out)


def test_too_few_shape_groups_are_scaled_and_said_to_be(tmp_path: Path) -> None:
    works = [("matmul", f"m={m};n={n};k=4096") for n in (2048, 4096, 6144) for m in range(16, 1136, 16)]
    said: list[str] = []
    path = write(tmp_path / "a.csv", lines("h100_sxm", 1.2, works=works))
    (row,) = calibrate_records("h100_sxm", path, out=tmp_path / "mine.toml", say=said.append)
    assert row["way"] == "scale"
    assert any("scaled, not fitted" in text and "measure more shape groups" in text for text in said)


def test_without_scipy_many_shapes_are_scaled_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_fit, "find_spec", lambda name: None)
    works = [("copy", f"bytes={size}") for size in range(2**20, 2**20 + 2**13, 32)]
    said: list[str] = []
    path = write(tmp_path / "a.csv", lines("h100_sxm", 1.2, works=works))
    (row,) = calibrate_records("h100_sxm", path, out=tmp_path / "mine.toml", say=said.append)
    assert row["way"] == "scale"
    assert any("pip install 'asymsim[measured]'" in text for text in said)


def test_what_is_left_out_is_counted_by_name(tmp_path: Path) -> None:
    heads = HEADS[0]
    slow = line("h100_sxm", MATMULS[0], 1.0)
    extra = [
        line("h100_sxm", ("prefill", f"{PREFILLS[0][1]};blocks=64x64"), 1.0),
        line("h100_sxm", ("scorer", "visual=64;text=8;hidden=128"), 1.0),
        line("h100_sxm", ("column_mass", f"queries=64;keys=64;{heads};causal=1"), 1.0),
        line("h100_sxm", ("prefill", f"queries=64;keys=64;{heads};causal=1;window=16"), 1.0),
        line("h100_sxm", ("prefill", f"queries=64+32;keys=64+32;{heads};causal=1"), 1.0),
        line("h100_sxm", PREFILLS[0], 1.0, variant="materialised"),
        line("h100_sxm", ("matmul", "m=64;n=64;k=64"), 1.0, dtype="int8"),
        line("h100_sxm", ("prefill", "queries=64;keys=64;heads=8;kv_heads=8;head_size=80;causal=1"), 1.0),
        slow | {"variant": "triton"},
        line("h100_sxm", ("copy", f"bytes={2**40}"), 1e-9),
        line("h100_sxm", MATMULS[0], 1e12, metric="flops_per_s", unit="FLOP/s"),
    ]
    said: list[str] = []
    path = write(tmp_path / "a.csv", [*lines("h100_sxm", 1.3), *extra])
    rows = calibrate_records("h100_sxm", path, out=tmp_path / "mine.toml", say=said.append)
    assert all(row["time_scale"] == pytest.approx(1.3, rel=1e-6) for row in rows)
    counts = {text.split()[3].rstrip(":"): int(text.split()[2]) for text in said if text.startswith("left out")}
    assert counts == {
        "trial": 1,
        "other_kernel": 2,
        "sliding_window": 1,
        "ragged": 1,
        "grouped": 1,
        "format": 1,
        "head_size": 1,
        "repeated": 1,
        "beats_roofline": 1,
    }


def test_a_gpu_of_one_s_own_is_known_by_its_own_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    text = gpu_path("a10").read_text().replace('name = "a10"', 'name = "x9000"')
    mine.write_text("\n".join(row for row in text.splitlines() if not row.startswith("aliases")))
    rows = [row | {"gpu": "X9000"} for row in lines("a10", 1.3, works=COPIES)]
    (row,) = calibrate_records(str(mine), write(tmp_path / "a.csv", rows))
    assert row["gpu"] == "x9000"
    assert tomllib.loads(mine.read_text())["efficiency"]["elementwise"]["time_scale"] == pytest.approx(1.3)


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p50": "nan"}, "a.csv, line 3: p50 = 'nan'"),
        ({"p50": "-1"}, "a.csv, line 3: p50 = '-1'"),
        ({"p50": "0"}, "a.csv, line 3: p50 = '0'"),
        ({"gpu": "h300"}, "a.csv, line 3: gpu = 'h300'"),
        ({"gpu": "NVIDIA L40S"}, "a.csv, line 3: gpu = 'NVIDIA L40S': must be h100_sxm"),
        ({"unit": "ms"}, "a.csv, line 3: unit = 'ms': must be s"),
        ({"dtype": "fp4"}, "a.csv, line 3: dtype = 'fp4': h100_sxm has no units"),
    ],
)
def test_a_bad_row_is_named_and_nothing_written(
    change: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines("h100_sxm", 1.3, works=COPIES)
    rows[1] |= change
    out = tmp_path / "mine.toml"
    path = write(tmp_path / "a.csv", rows)
    argv = ("calibrate", "--gpu", "h100_sxm", "--records", path, "--out", str(out))
    assert said in refusal(capsys, *argv)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the first line must be"), (b"a,b\n", "the first line must be"), (None, "cannot be read")],
)
def test_a_bad_file_is_named(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    assert said in refusal(capsys, "calibrate", "--gpu", "h100_sxm", "--records", str(path))


def test_bad_flags_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", lines("h100_sxm", 1.3, works=COPIES))
    few = write(tmp_path / "few.csv", lines("h100_sxm", 1.3, works=COPIES[:7]))
    given: list[tuple[list[str], str]] = [
        (["--gpu", "h100_sxm,l40s", "--records", path], "the one GPU"),
        (["--transfer", "--records", path], "the one GPU"),
        (["--gpu", "h300", "--records", path], "gpu = 'h300'"),
        (["--gpu", "h100_sxm", "--records", path, "--section", "gemm"], "section = 'gemm'"),
        (["--gpu", "h100_sxm", "--records", path, "--section", "gemm_fp8"], "holds nothing that corrects h100_sxm"),
        (["--gpu", "h100_sxm", "--records", path, "--iterations", "-1"], "iterations"),
        (["--gpu", "h100_sxm", "--records", path, "--model", "qwen2.5-7b"], "benchmark"),
        (["--gpu", "h100_sxm", "--records", path, "--out", str(tmp_path / "no" / "x.toml")], "cannot be written"),
        (["--gpu", "h100_sxm", "--records", few], "elementwise: 7 distinct shapes, at least 8"),
    ]
    before = sorted(tmp_path.iterdir())
    for argv, said in given:
        assert said in refusal(capsys, "calibrate", *argv)
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_prints_a_row_a_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", lines("h100_sxm", 1.3))
    out = str(tmp_path / "mine.toml")
    argv = ["calibrate", "--gpu", "NVIDIA H100 80GB HBM3", "--records", path, "--out", out, "--format", "csv"]
    assert run(argv) == 0
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 5
    assert {row["gpu"] for row in rows} == {"h100_sxm"}
    assert all(float(row["time_scale"]) == pytest.approx(1.3, rel=1e-6) for row in rows)
    assert len(load_gpu(out).efficiency["gemm_bf16"]["ratio_p05"]) == BANDS
