"""The logic of the GPU measurements, on the CPU; what stands for a clock here never reaches a file that ships."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asymsim.calibration.kernel_operators import kernel_rows
from asymsim.calibration.kernel_records import COLUMNS, read_records
from asymsim.calibration.launch_shape import Shape
from asymsim.calibration.user_fit import calibrate_records
from asymsim.catalogue.gpu import load_gpu
from asymsim.catalogue.number_format import NUMBER_FORMATS
from asymsim.estimator.gpu_arrays import gpu_arrays
from asymsim.estimator.operator_table import operator_times
from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools import measure as program
from asymsim_kernels.tools.measure import SUBJECTS, arguments_of, main, measure, measure_all
from asymsim_kernels.tools.measure_plan import OPERATORS, Point, grid, plan, tunings
from asymsim_kernels.tools.measurements import Machine, Measurement, Run, csv_text, verdicts
from asymsim_kernels.tools.shapes import shape_text
from asymsim_kernels.tools.subject import Draw, Subject, error_share
from asymsim_kernels.tools.timing import Quantiles, quantiles, rate

CPU = torch.device("cpu")
MACHINE = Machine("NVIDIA H200", "python=3.12;torch=0;triton=0;cuda=0;driver=0", "2026-01-31")
HEADS: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_size": 20}
TINY: list[tuple[str, dict[str, Any]]] = [
    ("prefill", {"queries": [20, 20], "keys": [20, 20], **HEADS, "causal": True, "window": 0, "keep": 0.5}),
    ("prefill", {"queries": [17, 9], "keys": [17, 9], **HEADS, "causal": False, "window": 0}),
    ("column_mass", {"queries": [20, 9], "keys": [20, 9], **HEADS, "causal": True, "window": 0, "counted": 0}),
    ("column_mass", {"queries": [20, 9], "keys": [20, 9], **HEADS, "causal": True, "window": 0, "counted": 5}),
    ("decode", {"entries": [20, 20, 20, 20], **HEADS}),
    ("decode", {"entries": [20, 5, 7, 33], **HEADS}),
    ("scorer", {"visual": [20, 20], "text": [3, 3], "hidden": 40, "weighted": True}),
    ("similarity", {"visual": [20, 20], "text": [3, 3], "joint": 40}),
    ("top_k", {"tokens": [40, 40], "rows": 2, "capacity": 10, "adaptive": False}),
    ("top_k", {"tokens": [40, 40], "rows": 2, "capacity": 40, "adaptive": True}),
    ("merge_tokens", {"tokens": [20, 30], "kept": [4, 6], "assigned": 50, "hidden": 40}),
    ("compact", {"kept": [3, 5, 7, 8], "capacity": 9, "kv_heads": 2, "head_size": 20}),
]
IDS = [f"{operator}{i}" for i, (operator, _) in enumerate(TINY)]


class Refuses:
    """A timer for what must not be timed."""

    def __call__(self, call: Callable[[], object]) -> Quantiles:
        pytest.fail("timed")


def counting_timer(call: Callable[[], object]) -> Quantiles:
    """Stands for the clock in tests of bookkeeping."""
    call()
    return Quantiles(1.0, 2.0, 4.0)


def test_the_plan_begins_with_the_ceilings_and_repeats_nothing() -> None:
    points = plan()
    assert [point.operator for point in points[:4]] == ["copy", "matmul", "matmul", "matmul"]
    assert len({(point.operator, point.shape, point.dtype) for point in points}) == len(points)
    assert {point.operator for point in plan(quick=True)} == {*OPERATORS, "copy", "matmul"}
    assert {point.operator for point in plan(["compact"])} == {"copy", "matmul", "compact"}


def test_the_grid_is_enough_to_correct_every_class(tmp_path: Path) -> None:
    run, path = Run(), tmp_path / "grid.csv"
    for point in grid():
        rows = kernel_rows(point.operator, Shape(point.shape), NUMBER_FORMATS[point.dtype])
        seconds = 1.2 * float(
            operator_times(rows, gpu_arrays(load_gpu("h200_sxm"), NUMBER_FORMATS[point.dtype]), 1)[0][:, 1].sum()
        )
        variant = point.operator if point.operator in ("copy", "matmul") else "triton"
        each = Quantiles(seconds, seconds, seconds)
        run.measurements.append(Measurement(point.operator, variant, point.shape, point.dtype, "seconds", each))
    path.write_text(csv_text(run.measurements, MACHINE))
    said: list[str] = []
    corrected = calibrate_records("h200_sxm", str(path), out=tmp_path / "h200.toml", say=said.append)
    assert len(corrected) == 5
    assert sum(row["shapes"] for row in corrected) == len(grid())
    assert all(row["shape_groups"] >= 3 for row in corrected)
    assert said == []
    assert {point.operator for point in grid(("decode",))} == {"decode"}


def test_every_target_of_the_plan_can_be_judged() -> None:
    points = plan()
    run = Run()
    for point in points:
        for variant in ("triton", "sdpa", "materialised", "copy"):
            for metric in ("seconds", "bytes_per_s"):
                run.measurements.append(
                    Measurement(point.operator, variant, point.shape, point.dtype, metric, Quantiles(1, 1, 1))
                )
    judged = list(verdicts(points, run))
    assert len(judged) == sum(len(point.targets) for point in points)
    # All equally fast: only what must be several times faster than something else misses.
    missed = [text for met, text in judged if not met]
    assert len(missed) == 1
    assert "column_mass materialised" in missed[0]


def test_the_keep_ratios_of_prefill_are_held_against_all_tokens() -> None:
    pruned = [point for point in plan(["prefill"]) if "keep" in point.values]
    assert [point.values["keep"] for point in pruned] == [0.25, 0.5, 0.75]
    for point in pruned:
        dense = next(target for target in point.targets if target.shape)
        kept = Shape(point.shape).lengths("queries")[0]
        assert kept == point.values["keep"] * Shape(dense.shape or "").lengths("queries")[0]


def test_what_must_reach_the_copy_is_past_any_l2_cache() -> None:
    for point in plan():
        if any(target.operator == "copy" for target in point.targets):
            rows = kernel_rows(point.operator, Shape(point.shape), NUMBER_FORMATS[point.dtype])
            moved = sum(int(rows[name].sum()) for name in ("read_bytes", "write_bytes", "kv_read_bytes"))
            assert moved > 2 * 126 * 2**20, point.shape


@pytest.mark.parametrize("operator", OPERATORS)
def test_trials_are_powers_of_two(operator: str) -> None:
    trials = list(tunings(operator))
    assert len(set(trials)) == len(trials) > 8
    for blocks in trials:
        assert all(extent & (extent - 1) == 0 for extent in (blocks.m, blocks.n, blocks.warps))


@pytest.mark.parametrize(("operator", "values"), TINY, ids=IDS)
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_each_kernel_is_found_right_and_its_damage_found(operator: str, values: dict[str, Any], dtype: str) -> None:
    subject = SUBJECTS[operator](values, Draw(CPU, dtype))
    assert subject.kernel is not None
    outputs = subject.kernel(None)
    assert subject.judge(outputs) <= 1
    for index, output in enumerate(outputs):
        damaged = output.clone()
        if output.is_floating_point():
            damaged = damaged * 1.5 + 0.1
        else:
            damaged.flatten()[0] += 1
        assert subject.judge((*outputs[:index], damaged, *outputs[index + 1 :])) > 1
        if output.is_floating_point():
            broken = output.clone()
            broken.flatten()[0] = torch.nan
            assert subject.judge((*outputs[:index], broken, *outputs[index + 1 :])) > 1


@pytest.mark.parametrize(("operator", "values"), TINY, ids=IDS)
def test_flops_are_those_of_the_simulator(operator: str, values: dict[str, Any]) -> None:
    subject = SUBJECTS[operator](values, Draw(CPU, "fp32"))
    rows = kernel_rows(operator, Shape(shape_text(**values)), NUMBER_FORMATS["fp32"])
    assert subject.flops == rows["flops"].sum()


def as_one(result: Any) -> torch.Tensor:
    """The results of PyTorch's versions as heads-first attention outputs, packed."""
    parts = result if isinstance(result, list) else [result]
    rows = []
    for part in parts:
        heads = part.flatten(0, 1)[None] if part.dim() == 4 and part.shape[1] == 2 else part
        rows += [sequence.transpose(0, 1) for sequence in heads]
    return torch.cat(rows)


@pytest.mark.parametrize("values", [values for operator, values in TINY if operator == "prefill"])
def test_pytorch_computes_the_same_prefill(values: dict[str, Any]) -> None:
    subject = SUBJECTS["prefill"](values, Draw(CPU, "fp32"))
    assert subject.kernel is not None
    o, _ = subject.kernel(None)
    for name, call in subject.others.items():
        torch.testing.assert_close(as_one(call()), o, msg=name, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", ["decode", "scorer", "similarity", "column_mass", "merge_tokens", "compact"])
def test_pytorch_computes_the_same(operator: str) -> None:
    values = next(values for name, values in TINY if name == operator)
    subject = SUBJECTS[operator](values, Draw(CPU, "fp32"))
    assert subject.kernel is not None
    output = subject.kernel(None)[0]
    assert subject.others
    for name, call in subject.others.items():
        result: Any = call()
        if operator == "column_mass":
            result = torch.cat(result, dim=1)
        elif operator == "compact":
            # Entries past a list are not defined.
            result, output = (each[0, 0, :3] for each in (result[0], output))
        torch.testing.assert_close(result.reshape(output.shape), output, msg=name, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("output", "plain", "share"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.1], [1.0, 2.1], 0.5),
        ([1.0, 2.4], [1.0, 2.1], 2.0),
        ([1.0, float("nan")], [1.0, 2.1], float("inf")),
        ([1.0, float("inf")], [1.0, 2.1], float("inf")),
        ([1.0, 2.0 + 2**-22], [1.0, 2.0], 1.0),
    ],
)
def test_an_error_is_judged_by_that_of_the_plain_computation(
    output: list[float], plain: list[float], share: float
) -> None:
    exact = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert error_share(torch.tensor(output), exact, torch.tensor(plain)) == pytest.approx(share, rel=1e-5)


def test_infinities_must_agree() -> None:
    exact = torch.tensor([-torch.inf, 1.0], dtype=torch.float64)
    plain = exact.float()
    assert error_share(plain, exact, plain) == 0
    assert error_share(torch.tensor([0.0, 1.0]), exact, plain) == float("inf")
    assert error_share(torch.tensor([torch.inf, 1.0]), exact, plain) == float("inf")


def test_a_wrong_kernel_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Subject(kernel=lambda blocks: (torch.zeros(1),), judge=lambda outputs: 1.01)
    monkeypatch.setitem(SUBJECTS, "compact", lambda values, draw: wrong)
    run = Run()
    measure(Point("compact", {"x": 1}), CPU, Refuses(), run, [Blocks(16, 1)])
    assert run.wrong == 2
    assert [each.metric for each in run.measurements] == ["error", "error"]
    assert all("WRONG" in remark for remark in run.remarks)


def test_a_version_that_does_not_run_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("No available kernel.\nmore")

    def picky(blocks: Blocks | None) -> tuple[torch.Tensor, ...]:
        if blocks is not None:
            raise ValueError("blocks.m = 3: must be a power of two")
        return (torch.zeros(1),)

    subject = Subject(kernel=picky, others={"sdpa": fails}, moved_bytes=8)
    monkeypatch.setitem(SUBJECTS, "compact", lambda values, draw: subject)
    run = Run()
    measure(Point("compact", {"x": 1}), CPU, counting_timer, run, [Blocks(3, 1)])
    assert [(each.variant, each.metric) for each in run.measurements] == [
        ("triton", "error"), ("triton", "seconds"), ("triton", "bytes_per_s")
    ]  # fmt: skip
    assert "no sdpa (No available kernel.)" in run.remarks[0]
    assert "does not run" in run.remarks[1]
    assert run.wrong == 0


def test_quantiles_and_rates_keep_their_order() -> None:
    assert quantiles([5.0, 1.0, 2.0, 3.0, 4.0, 6.0]) == Quantiles(2.0, 3.5, 5.0)
    assert quantiles([7.0]) == Quantiles(7.0, 7.0, 7.0)
    assert rate(8.0, Quantiles(1.0, 2.0, 4.0)) == Quantiles(2.0, 4.0, 8.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"queries": [4, 4, 4, 7], "causal": True}, "queries=3x4+7;causal=1"),
        ({"n": [5], "keep": 0.25, "m": 3}, "n=5;keep=0.25;m=3"),
        ({"n": [0, 0, 2, 0]}, "n=2x0+2+0"),
    ],
)
def test_shapes_are_written_as_they_are_read(values: dict[str, Any], text: str) -> None:
    assert shape_text(**values) == text
    for name, value in values.items():
        if isinstance(value, list):
            assert Shape(text).lengths(name) == value


def test_the_file_is_one_that_the_simulator_reads(tmp_path: Path) -> None:
    run = Run()
    for operator, values in TINY:
        measure(
            Point(operator, values, "fp16"), CPU, counting_timer, run, [Blocks(16, 16)] if operator == "prefill" else []
        )
    path = tmp_path / "records.csv"
    path.write_text(csv_text(run.measurements, MACHINE))
    records = read_records(str(path))
    assert len(records) == len(run.measurements)
    assert tuple(path.read_text().splitlines()[0].split(",")) == COLUMNS
    assert {record.gpu.name for record in records} == {"h200_sxm"}
    seconds = [record for record in records if record.metric == "seconds"]
    assert all((record.p20, record.p50, record.p80) == (1.0, 2.0, 4.0) for record in seconds)
    assert sum("blocks" in record.shape for record in seconds) == 2


def test_the_time_limit_ends_a_run_with_a_whole_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(program.time, "monotonic", lambda: float(next(clock)))
    points = [Point(operator, values, "fp32") for operator, values in TINY[:6]]
    out = tmp_path / "out.csv"
    chosen = arguments_of(["--out", str(out), "--limit", "250"])
    run = measure_all(points, CPU, counting_timer, MACHINE, chosen)
    assert len({each.shape for each in run.measurements}) == 2
    assert "stopped after 2 of 6 shapes" in run.remarks[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert out.read_text() == csv_text(run.measurements, MACHINE)
    assert "prefill" in capsys.readouterr().err


def test_without_a_gpu_there_is_one_line_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "x.csv")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "no GPU" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernels", "prefil"], "prefil"),
        (["--kernels", ","], "give some of"),
        (["--limit", "0"], "seconds above 0"),
        (["--limit", "nan"], "seconds above 0"),
        (["--limit", "x"], "invalid float"),
        (["--out", "no/such/folder/x.csv"], "folder that exists"),
        (["--out", "."], "folder that exists"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        arguments_of(["--out", "x.csv", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_measurements_are_rows_of_the_named_columns() -> None:
    each = Measurement("copy", "copy", "bytes=8", "bf16", "seconds", Quantiles(1e-9, 2.5e-3, 1e6))
    row = each.row(MACHINE)
    assert tuple(row) == COLUMNS
    assert (row["p20"], row["p50"], row["p80"], row["unit"]) == ("1e-09", "0.0025", "1e+06", "s")
    assert {field.name for field in dataclasses.fields(Machine)} == {"gpu", "versions", "date"}
