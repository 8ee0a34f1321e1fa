"""Sections go into a GPU's file behind a head that stays as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from asymsim.calibration.fit import calibrate, fit_section
from asymsim.calibration.gpu_file import put_sections
from asymsim.catalogue.gpu import gpu_path, load_gpu
from asymsim.cli.app import run
from asymsim.util.errors import InputError

from .conftest import Put, quantisation

FILE = gpu_path("h100_sxm")


def _head(text: str) -> str:
    return text.partition("[efficiency")[0]


def test_the_head_and_the_other_sections_are_kept(put: Put, tmp_path: Path) -> None:
    put(*quantisation(noise=0.1))
    out = tmp_path / "gpu.toml"
    before = FILE.read_bytes()
    rows = calibrate(["h100_sxm"], ["elementwise"], 1, out)
    assert FILE.read_bytes() == before
    old, new = before.decode(), out.read_text()
    assert _head(new) == _head(old)
    parsed = tomllib.loads(new)["efficiency"]
    others = tomllib.loads(old)["efficiency"]
    assert list(parsed) == list(others)
    assert all(parsed[name] == others[name] for name in others if name != "elementwise")
    section = parsed["elementwise"]
    assert section["held_out_median_error"] == pytest.approx(rows[0]["median"], rel=1e-8)
    assert "--section elementwise --iterations 1" in section["command"]
    assert load_gpu(str(out)).efficiency["elementwise"] == section
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_a_file_without_sections_gets_its_first(put: Put, tmp_path: Path) -> None:
    put(*quantisation())
    bare = tmp_path / "bare.toml"
    bare.write_text(_head(FILE.read_text()).rstrip("\n"))
    found = fit_section(load_gpu("h100_sxm"), "elementwise", 0)
    assert found is not None
    text = put_sections(bare, {"elementwise": found[0]})
    assert text.startswith(bare.read_text() + "\n\n[efficiency.elementwise]\n")
    assert list(tomllib.loads(text)["efficiency"]) == ["elementwise"]


def test_a_file_of_the_users_is_written_itself(put: Put, tmp_path: Path) -> None:
    put(*quantisation())
    mine = tmp_path / "mine.toml"
    mine.write_bytes(FILE.read_bytes())
    before = FILE.read_bytes()
    calibrate([str(mine)], ["elementwise"], 0)
    assert FILE.read_bytes() == before
    assert "--iterations 0" in load_gpu(str(mine)).efficiency["elementwise"]["command"]


def test_what_is_stored_is_what_was_judged(put: Put, tmp_path: Path) -> None:
    put(*quantisation(noise=0.1))
    found = fit_section(load_gpu("h100_sxm"), "elementwise", 1)
    assert found is not None
    stored = tomllib.loads(put_sections(FILE, {"elementwise": found[0]}))["efficiency"]["elementwise"]
    for name in ("launch_s", "memory_share", "overlap"):
        assert stored[name] == found[0][name]


def test_a_number_that_the_catalogue_refuses_is_not_written(tmp_path: Path) -> None:
    section = dict(load_gpu("h100_sxm").efficiency["elementwise"])
    with pytest.raises(InputError, match=r"efficiency\.elementwise\.launch_s"):
        put_sections(FILE, {"elementwise": {**section, "launch_s": np.nan}})
    with pytest.raises(InputError, match="cannot be read"):
        put_sections(tmp_path / "none.toml", {"elementwise": section})


def test_a_failed_fit_leaves_the_file_alone(put: Put, tmp_path: Path) -> None:
    columns, seconds = quantisation()
    put({name: column[:8] for name, column in columns.items()}, seconds[:8])
    out = tmp_path / "gpu.toml"
    out.write_text("kept")
    with pytest.raises(InputError):
        calibrate(["h100_sxm"], ["elementwise"], 1, out)
    assert out.read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--gpu", "h1000"], "gpu = 'h1000'"),
        (["--gpu", "h100_sxm", "--section", "gemm"], "section = 'gemm'"),
        (["--gpu", "h100_sxm", "--transfer"], "either --gpu or --transfer"),
        ([], "either --gpu or --transfer"),
        (["--transfer", "--section", "gemm_bf16"], "section = 'gemm_bf16'"),
        (["--gpu", "h100_sxm", "--iterations", "many"], "iterations"),
        (["--gpu", " , "], "gpu"),
    ],
)
def test_the_command_refuses_in_one_line(
    put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert run(["calibrate", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert text in said.err
    assert said.err.count("\n") == 1


def test_the_command_prints_its_errors(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(*quantisation(noise=0.1))
    out = str(tmp_path / "gpu.toml")
    chosen = "elementwise,encoder_attention"
    assert (
        run(
            [
                "calibrate",
                "--gpu",
                "h100_sxm",
                "--section",
                chosen,
                "--iterations",
                "0",
                "--out",
                out,
                "--format",
                "csv",
            ]
        )
        == 0
    )
    said = capsys.readouterr()
    header, row = said.out.splitlines()
    assert header.startswith("gpu,section,rows,median,mean,p90,bias,coverage,narrow")
    assert row.startswith("h100_sxm,elementwise,")
    assert "h100_sxm encoder_attention: no table" in said.err


def test_without_the_extra_the_command_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asymsim.calibration.measured_tables.find_spec", lambda name: None)
    for arguments in (["--gpu", "h100_sxm"], ["--transfer"]):
        assert run(["calibrate", *arguments]) == 2
        assert "pip install 'asymsim[measured]'" in capsys.readouterr().err
