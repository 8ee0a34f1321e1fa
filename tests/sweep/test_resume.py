"""Killed at any moment, by part or by worker: the result is that of a run that nobody disturbed, to the byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from asymsim.sweep.runner import run_study
from asymsim.sweep.study import Study
from asymsim.sweep.study_file import parse_study, read_study
from asymsim.util.errors import InputError

# As many as asked for: ASYMSIM_KILLS=20 pytest tests/sweep/test_resume.py
KILLS = int(os.environ.get("ASYMSIM_KILLS", "2"))
AXES = """
[axes]
method = ["none", "fastv"]
text_tokens = { from = 1, to = 200, step = 1 }
output_tokens = { distribution = "lognormal", median = 100, sigma = 0.8, samples = 100, seed = 5 }
batch_size = { from = 1, to = 64, points = 4, scale = "log" }
"""
STUDIES = {
    "parquet": '[scenario]\nmodel = "llava-1.5-7b"\n' + AXES + "[output]\npart_rows = 5000\n",
    "csv": '[scenario]\nmodel = "llava-1.5-7b"\n' + AXES + '[output]\nformat = "csv"\npart_rows = 5000\n',
    "reduce": 'filters = ["ttft_s < 5"]\n[scenario]\nmodel = "llava-1.5-7b"\n'
    + AXES
    + """
[output]
part_rows = 5000
[[reduce]]
kind = "quantiles"
figure = "e2e_s"
by = ["method", "batch_size"]
[[reduce]]
kind = "histogram"
figure = "ttft_s"
from = 0.001
to = 10
bins = 50
scale = "log"
[[reduce]]
kind = "pareto"
figures = ["ttft_s", "output_tokens_per_s"]
best = ["smallest", "largest"]
[[reduce]]
kind = "top"
figure = "e2e_s"
count = 5
[[reduce]]
kind = "slo"
by = ["method"]
conditions = ["ttft_s < 0.5", "tpot_s < 0.02", "fits"]
""",
}


def written(folder: Path, format: str) -> Path:
    path = folder / f"{format}.toml"
    path.write_text(STUDIES[format])
    return path


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("format", STUDIES)
def test_killed_at_random_and_started_again(format: str, tmp_path: Path) -> None:
    study = written(tmp_path, format)
    run_study(read_study(study), tmp_path / "whole", workers=1)
    expected = contents(tmp_path / "whole")
    random.seed(format)
    interrupted = 0
    for kill in range(KILLS):
        out = tmp_path / f"killed-{kill}"
        for _ in range(100):
            command = [sys.executable, "-m", "asymsim.cli.app", "sweep", str(study), "--out", str(out)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            begun = time.perf_counter()
            # Most of the start is imports; a kill counts once there is a part.
            while process.poll() is None and not list(out.rglob("part-*")) and time.perf_counter() - begun < 60:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                break
            interrupted += 1
            found = contents(out)
            assert all(expected[name] == found[name] for name in found if name in expected)
            if random.random() < 0.7:
                run_study(read_study(study), out)
                break
        assert contents(out) == expected
    assert interrupted >= KILLS / 2


def test_a_changed_study_has_a_folder_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "csv")
    first = run_study(read_study(path), tmp_path / "out")
    before = contents(tmp_path / "out")
    path.write_text(STUDIES["csv"].replace("median = 100", "median = 101"))
    second = run_study(read_study(path), tmp_path / "out")
    assert second.path != first.path
    assert second.present == 0
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_a_finished_study_is_left_as_it_is(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, "reduce"))
    first = run_study(study, tmp_path / "out")
    before = contents(tmp_path / "out")
    again = run_study(study, tmp_path / "out")
    assert (again.statistics.rows, again.present, again.result) == (0, study.parts, first.result)
    assert contents(tmp_path / "out") == before
    assert first.path.name == "result.json"


def test_missing_parts_alone_are_made(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, "parquet"))
    outcome = run_study(study, tmp_path / "out")
    before = contents(tmp_path / "out")
    for number in (0, 7, study.parts - 1):
        (outcome.path / f"part-{number:06d}.parquet").unlink()
    assert run_study(study, tmp_path / "out").statistics.rows == 3 * study.part_rows
    assert contents(tmp_path / "out") == before


def test_the_hash_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    content: dict[str, Any] = {"scenario": {"model": "llava-1.5-7b"}, "axes": {"text_tokens": [1, 2]}}
    same = {"scenario": {"model": "llava-1.5-7b"}, "axes": {"text_tokens": {"from": 1, "to": 2, "step": 1}}}
    assert parse_study(content, "a").hash == parse_study(same, "b").hash
    schedule = tmp_path / "mine.toml"
    content["scenario"]["schedule"] = str(schedule)
    hashes = set()
    for keep in ("0.5", "0.25"):
        schedule.write_text(f'[[step]]\nstage = "encoder_end"\nkeep = {keep}\n')
        hashes.add(parse_study(content, "a").hash)
    assert len(hashes) == 2


def test_processes_agree_on_the_hash(tmp_path: Path) -> None:
    path = written(tmp_path, "reduce")
    script = f"from asymsim.sweep.study_file import read_study; print(read_study({str(path)!r}).hash)"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    assert found == read_study(path).hash


def test_an_error_of_a_part_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asymsim.sweep import runner

    study = read_study(written(tmp_path, "csv"))
    real = runner.run_part

    def failing(study: Study, part: int, *rest: Any) -> Any:
        if part == 12:
            raise InputError("part", part, "no")
        return real(study, part, *rest)

    monkeypatch.setattr(runner, "run_part", failing)
    with pytest.raises(InputError, match="part = 12"):
        run_study(study, tmp_path / "out", workers=1)
    monkeypatch.undo()
    outcome = run_study(study, tmp_path / "out")
    assert outcome.present >= 9
    assert len(list(outcome.path.glob("part-*"))) == study.parts


def test_a_local_cluster_gives_the_same_bytes_even_if_a_worker_is_killed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    study = read_study(written(tmp_path, "reduce"))
    run_study(study, tmp_path / "here", workers=2)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = list(client.run(os.getpid).values())
        killed = threading.Event()

        def kill(done: int, total: int) -> None:
            if not killed.is_set():
                killed.set()
                os.kill(workers[0], signal.SIGKILL)

        outcome = run_study(study, tmp_path / "there", client=client, progress=kill)
    assert killed.is_set()
    assert outcome.statistics.rows == study.grid.rows
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
