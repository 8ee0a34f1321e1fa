"""Study files: what axes mean, and one line for everything that is wrong with one."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.cli.app import run
from asymsim.estimator.estimate import estimate
from asymsim.sweep.axes import read_axes
from asymsim.sweep.runner import run_study
from asymsim.sweep.study_file import parse_study
from asymsim.util.errors import InputError
from asymsim.util.sampling import uniform_samples

LLAVA = '[scenario]\nmodel = "llava-1.5-7b"\n'


def values(field: str, content: object) -> list[Any]:
    (axis,) = read_axes({field: content})
    return [axis.item(index)[field] for index in range(axis.size)]


@pytest.mark.parametrize(
    ("field", "content", "expected"),
    [
        ("text_tokens", [5, 3], [5, 3]),
        ("text_tokens", {"from": 1, "to": 10, "step": 3}, [1, 4, 7, 10]),
        ("text_tokens", {"from": 1, "to": 9, "step": 3}, [1, 4, 7]),
        ("text_tokens", {"from": 7, "to": 7, "step": 3}, [7]),
        ("text_tokens", {"from": 1, "to": 100, "points": 3, "scale": "log"}, [1, 10, 100]),
        ("text_tokens", {"from": 1, "to": 3, "points": 9, "scale": "log"}, [1, 2, 3]),
        ("batch_size", {"from": 1, "to": 4, "points": 4}, [1, 2, 3, 4]),
        ("keep", {"from": 0.1, "to": 0.4, "step": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ("keep", {"from": 0, "to": 1, "points": 1}, [0]),
        ("settings.layer", {"from": 1, "to": 2, "step": 1}, [1, 2]),
    ],
)
def test_ranges_hold_both_ends(field: str, content: object, expected: list[Any]) -> None:
    assert values(field, content) == expected


def test_axes_that_make_settings_come_first_and_token_counts_last() -> None:
    grid = parse_study(
        {
            "axes": {
                "text_tokens": [1, 2],
                "num_images": [1, 3],
                "settings": {"layer": [2, 3]},
                "method, keep": [["fastv", 0.5], ["fastv", 0.25]],
                "model": ["llava-1.5-7b"],
            }
        },
        "order",
    ).grid
    assert grid.varied == ("settings.layer", "method", "keep", "model", "num_images", "text_tokens")
    assert (grid.rows, grid.configurations) == (16, 4)
    scenario = grid.scenario(11)
    assert (scenario.settings["layer"], scenario.keep, scenario.num_images, scenario.text_tokens) == (3, 0.5, 3, 2)


def test_samples_have_the_moments_of_their_distribution() -> None:
    def drawn(**content: Any) -> Any:
        (axis,) = read_axes({"text_tokens": {"samples": 100_000, "seed": 1, **content}})
        return axis.values[0].take(np.arange(axis.size))

    assert np.median(drawn(distribution="lognormal", median=500, sigma=0.7)) == pytest.approx(500, rel=0.02)
    assert np.log(drawn(distribution="lognormal", median=5000, sigma=0.7)).std() == pytest.approx(0.7, rel=0.02)
    normal = drawn(distribution="normal", mean=1000, std=50)
    assert (normal.mean(), normal.std()) == (pytest.approx(1000, rel=1e-3), pytest.approx(50, rel=0.02))
    poisson = drawn(distribution="poisson", mean=200)
    assert (poisson.mean(), poisson.var()) == (pytest.approx(200, rel=1e-3), pytest.approx(200, rel=0.02))
    counts = np.bincount(drawn(distribution="uniform", low=3, high=6))
    assert counts[:3].tolist() == [0, 0, 0]
    assert counts[3:] / 25_000 == pytest.approx(1, rel=0.03)
    assert drawn(distribution="poisson", mean=0).tolist() == [1] * 100_000
    assert drawn(distribution="normal", mean=10, std=99, min=5, max=12).min() == 5


def test_samples_do_not_depend_on_which_are_drawn() -> None:
    (axis,) = read_axes({"output_tokens": {"distribution": "lognormal", "median": 99, "sigma": 1, "samples": 10**12}})
    whole = axis.values[0].take(np.arange(1000))
    assert [axis.item(index)["output_tokens"] for index in (0, 17, 999)] == whole[[0, 17, 999]].tolist()
    assert axis.item(10**12 - 1)["output_tokens"] >= 1
    assert len(np.unique(uniform_samples(0, 0, np.arange(10**5, dtype=np.uint64)))) == 10**5


def test_samples_drawn_together_make_one_axis() -> None:
    drawn = {"distribution": "lognormal", "median": 99, "sigma": 1, "samples": 50, "with": "request"}
    (axis,) = read_axes({"text_tokens": {**drawn, "seed": 1}, "output_tokens": {**drawn, "seed": 2}})
    assert (axis.fields, axis.size) == (("text_tokens", "output_tokens"), 50)
    both = [axis.item(index) for index in range(50)]
    assert np.corrcoef([[each[field] for field in axis.fields] for each in both], rowvar=False)[0, 1] < 0.5
    assert any(each["text_tokens"] != each["output_tokens"] for each in both)


def test_filters_leave_out_rows(tmp_path: Path) -> None:
    content = {
        "filters": ["text_tokens >= 100", "ttft_s < 0.02", "gpu != l4", "keep != 0.5", "possible"],
        "scenario": {"model": "llava-1.5-7b"},
        "axes": {
            "gpu": ["l4", "h100_sxm", "a100_80gb_sxm"],
            "dtype": ["bf16", "fp8"],
            "method, keep": [["none"], ["fastv", 0.5], ["fastv", 0.25]],
            "text_tokens": [10, 100, 1000],
        },
        "output": {"format": "csv", "figures": ["ttft_s"]},
    }
    study = parse_study(content, "filtered")
    outcome = run_study(study, tmp_path)
    expected = 0
    for row in range(study.grid.rows):
        scenario = study.grid.scenario(row)
        impossible = scenario.gpu == "a100_80gb_sxm" and scenario.dtype == "fp8"
        if scenario.text_tokens < 100 or scenario.gpu == "l4" or scenario.keep in (None, 0.5) or impossible:
            continue
        expected += estimate(scenario).latency.ttft_s.p50 < 0.02
    assert outcome.statistics.kept == expected > 0
    # A keep that is not given meets no comparison, not even that it is unequal.
    assert "none" not in (outcome.path / "part-000000.csv").read_text()


BAD = {
    "an axis that does not exist": (LLAVA + "[axes]\ntext_token = [1]", "did you mean text_tokens"),
    "an unknown field": ('[scenario]\nmodle = "llava-1.5-7b"\n[axes]\n', "did you mean model?"),
    "an unknown setting": (
        LLAVA + '[axes]\nmethod = ["fastv"]\nsettings.layr = [2]',
        "did you mean layer? (at method fastv, settings.layr 2)",
    ),
    "no model": ("[axes]\ntext_tokens = [1]", "name a model"),
    "an unknown model": ('[axes]\nmodel = ["llava"]', "llava"),
    "an empty product": (LLAVA + "[axes]\ntext_tokens = []", "nothing to sweep"),
    "an empty range": (LLAVA + "[axes]\ntext_tokens = { from = 5, to = 4, step = 1 }", "to must be at least from"),
    "a step of zero": (LLAVA + "[axes]\ntext_tokens = { from = 5, to = 9, step = 0 }", "step above 0"),
    "half a token": (LLAVA + "[axes]\ntext_tokens = { from = 5, to = 9, step = 0.5 }", "whole numbers"),
    "a logarithm of zero": (LLAVA + '[axes]\ntext_tokens = { from = 0, to = 9, points = 3, scale = "log" }', "above 0"),
    "an unknown key of a range": (LLAVA + "[axes]\ntext_tokens = { form = 5, to = 9, step = 1 }", "did you mean from?"),
    "text for a number": (LLAVA + '[axes]\ntext_tokens = ["many"]', "whole number"),
    "out of range": (LLAVA + "[axes]\nbatch_size = [0]", "from 1 to"),
    "fixed out of range": ('[scenario]\nmodel = "llava-1.5-7b"\ntext_tokens = 0\n[axes]\n', "from 1 to"),
    "fixed and varied": (LLAVA + '[axes]\nmodel = ["llava-1.5-7b"]', "give it once"),
    "twice": (LLAVA + '[axes]\nkeep = [0.5]\n"method, keep" = [["fastv", 0.5]]', "given twice"),
    "too many scenarios": (
        LLAVA + "[axes]\n" + "\n".join(f"{f} = {{ from = 1, to = 20000, step = 1 }}" for f in
        ("text_tokens", "output_tokens", "batch_size")), "--yes",
    ),
    "far too many scenarios": (
        LLAVA + "[axes]\n" + "\n".join(f"{f} = {{ from = 1, to = 1000000, step = 1 }}" for f in
        ("text_tokens", "output_tokens", "batch_size", "visual_tokens")), "at most 1e+18",
    ),
    "an unknown distribution": (LLAVA + '[axes]\ntext_tokens = { distribution = "zipf", samples = 3 }', "poisson"),
    "a missing parameter": (LLAVA + '[axes]\ntext_tokens = { distribution = "normal", samples = 3 }', "'mean'"),
    "a random name": ('[axes]\nmodel = { distribution = "poisson", mean = 1, samples = 3 }', "give a list"),
    "samples of two lengths": (
        LLAVA + '[axes]\ntext_tokens = { distribution = "poisson", mean = 9, samples = 3, with = "r" }\n'
        'output_tokens = { distribution = "poisson", mean = 9, samples = 4, seed = 1, with = "r" }', "the same number",
    ),
    "an unknown figure in a filter": ('filters = ["ttfs_s < 2"]\n' + LLAVA + "[axes]\n", "did you mean ttft_s"),
    "a filter without sense": ('filters = ["ttft_s is small"]\n' + LLAVA + "[axes]\n", "such as ttft_s < 2"),
    "a name below a number": ('filters = ["gpu < 3"]\n' + LLAVA + "[axes]\n", "compare it with =="),
    "a figure and a word": ('filters = ["ttft_s < fast"]\n' + LLAVA + "[axes]\n", "is a number"),
    "an unknown figure": (LLAVA + '[axes]\n[output]\nfigures = ["speed"]', "output: figures 1 = 'speed'"),
    "an unknown format": (LLAVA + '[axes]\n[output]\nformat = "xlsx"', "parquet"),
    "reductions of rows": (LLAVA + '[axes]\n[output]\nformat = "csv"\n[[reduce]]\nkind = "slo"', "leave out"),
    "nothing to reduce to": (LLAVA + '[axes]\n[output]\nformat = "reduce"', "add a [[reduce]] table"),
    "an unknown reduction": (LLAVA + '[axes]\n[[reduce]]\nkind = "mean"', "histogram"),
    "groups of nothing": (LLAVA + '[axes]\n[[reduce]]\nkind = "top"\nfigure = "ttft_s"\nby = ["gpu"]', "by = 'gpu'"),
    "no bins": (LLAVA + '[axes]\n[[reduce]]\nkind = "histogram"\nfigure = "ttft_s"', "add the key 'from'"),
    "a format that the GPU lacks": (
        LLAVA + '[axes]\ngpu = ["h100_sxm", "a100_80gb_sxm"]\ndtype = ["fp8"]', "(at gpu a100_80gb_sxm",
    ),
    "a settings list of numbers": (LLAVA + "[axes]\nsettings = [3]", "tables of settings"),
    "no TOML": ("scenario = [", "give a TOML file"),
    "an unknown table": (LLAVA + "[axes]\n[filter]\nx = 1", "did you mean filters?"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_studies_are_refused_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, told = BAD[name]
    study = tmp_path / "bad.toml"
    study.write_text(content)
    assert run(["sweep", str(study), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--workers", "0"], ["--workers", "x"], ["--local-cluster", "0"]])
def test_bad_flags_are_refused(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.toml"
    study.write_text(LLAVA + "[axes]\n")
    assert run(["sweep", str(study), *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.toml"
    study.write_text(LLAVA + "[axes]\n")
    for out in (study, study / "below", Path("/proc/none")):
        assert run(["sweep", str(study), "--out", str(out)]) == 2
        assert "out = " in capsys.readouterr().err
    assert study.read_text() == LLAVA + "[axes]\n"


def test_a_full_disk_loses_no_part(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    axes = "[axes]\nmodel = ['llava-1.5-7b', 'llava-1.5-13b']\ntext_tokens = { from = 1, to = 400, step = 1 }\n"
    study.write_text(axes + "[output]\nformat = 'csv'\npart_rows = 400\n")
    command = [
        sys.executable,
        "-m",
        "asymsim.cli.app",
        "sweep",
        str(study),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    # The second model's name is one letter longer, so its part does not fit.
    whole = subprocess.run(command, capture_output=True, text=True, check=True)
    parts = sorted((tmp_path / "out").rglob("part-*"))
    sizes = [path.stat().st_size for path in parts]
    assert sizes[1] > sizes[0] > 4096, whole.stderr
    for path in parts:
        path.unlink()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[0], sizes[0]))

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == ["_study.json", "part-000000.csv"]
    subprocess.run(command, check=True, capture_output=True)
    assert [path.stat().st_size for path in parts] == sizes


def test_an_unreachable_scheduler_is_told_within_ten_seconds(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    study = tmp_path / "study.toml"
    study.write_text(LLAVA + "[axes]\n")
    begun = time.perf_counter()
    command = [sys.executable, "-m", "asymsim.cli.app", "sweep", str(study), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--scheduler", "tcp://127.0.0.1:9"], capture_output=True, text=True, check=False)
    assert time.perf_counter() - begun < 10
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: scheduler = 'tcp://127.0.0.1:9': cannot be reached")
    assert not (tmp_path / "out").exists()


def test_a_row_beyond_64_bits_is_refused(tmp_path: Path) -> None:
    content = {"scenario": {"model": "qwen2.5-vl-72b"}, "axes": {"text_tokens": [1, 10**8], "batch_size": [1, 10**6]}}
    with pytest.raises(InputError, match="64 bits"):
        run_study(parse_study(content, "large"), tmp_path)
