"""Each planted fault is found and named; correct kernels, and what only looks like a fault, are left alone."""

import pytest
import torch
import triton
import triton.language as tl

from asymsim_kernels.tools.sanitize import sanitizing


@triton.jit
def _copy(x_ptr, y_ptr, n, stride_x, stride_y, N: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, N)
    tl.store(y_ptr + row * stride_y + i, tl.load(x_ptr + row * stride_x + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def _fold(x_ptr, n, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(x_ptr + i % n, i.to(tl.float32))


@triton.jit
def _shift(x_ptr):
    i = tl.program_id(0)
    tl.store(x_ptr + i, tl.load(x_ptr + i + 1) + 1)


@triton.jit
def _count(x_ptr, y_ptr):
    tl.atomic_add(y_ptr, 1.0)
    tl.store(x_ptr + tl.program_id(0), 1.0)


def copy(x, y, columns, strides=None, rows=None):
    stride_x, stride_y = strides or (x.stride(0), y.stride(0))
    _copy[(rows or x.shape[0],)](x, y, columns, stride_x, stride_y, N=16)


def test_a_correct_kernel_passes():
    x, y = torch.rand(4, 16), torch.empty(4, 16)
    with sanitizing(inputs={"x": x}, outputs={"y": y}) as report:
        copy(x, y, 16)
    report.check()
    assert torch.equal(x, y)


@pytest.mark.parametrize("columns", [11, 16])
def test_a_slice_owns_its_own_elements_only(columns):
    x, y = torch.rand(4, 24)[:, 3:14], torch.empty(4, 11)
    with sanitizing() as report:
        copy(x, y, columns)
    assert any("out of bounds: load" in line for line in report.violations) is (columns == 16)


def test_a_store_outside_every_tensor_is_left_out_and_reported():
    buffer = torch.zeros(5, 16)
    x, y = torch.ones(5, 16), buffer[:4]
    with sanitizing() as report:
        copy(x, y, 16, rows=5)
    assert report.violations == ["launch 1: out of bounds: store of 16 lanes outside every tensor"]
    assert not buffer[4].any()
    with pytest.raises(AssertionError, match="out of bounds"):
        report.check()


def test_two_programs_that_write_one_element_race():
    x, y = torch.rand(4, 16), torch.empty(4, 16)
    with sanitizing(outputs={"y": y}) as report:
        copy(x, y, 16, strides=(16, 8))
    assert "launch 1: race: y written by two programs" in report.violations
    assert "coverage: 24 of 64 elements of y not written" in report.violations


def test_two_lanes_that_write_one_element_race():
    x = torch.zeros(8)
    with sanitizing() as report:
        _fold[(1,)](x, 8, N=16)
    assert report.violations == ["launch 1: race: two lanes of one store write one element of x_ptr"]


def test_reading_what_another_program_writes_is_a_race_in_either_order():
    x = torch.zeros(5)
    with sanitizing(partial={"x": x}) as report:
        _shift[(4,)](x)
    assert report.violations == ["launch 1: race: x read by one program and written by another"]


def test_launches_run_one_after_another():
    x, y, z = torch.rand(4, 16), torch.empty(4, 16), torch.empty(4, 16)
    with sanitizing(inputs={"x": x}, outputs={"z": z}) as report:
        copy(x, y, 16)
        copy(y, z, 16)
        copy(x, y, 16)
    report.check()


def test_atomics_may_meet():
    x, y = torch.zeros(4), torch.zeros(1)
    with sanitizing(outputs={"x": x, "y": y}) as report:
        _count[(4,)](x, y)
    report.check()
    assert y.item() == 4


def test_an_element_not_written_is_reported_unless_meant():
    x, y = torch.rand(4, 16), torch.empty(4, 16)
    for named, expected in (({}, ["coverage: 20 of 64 elements of y_ptr not written"]), ({"partial": {"y": y}}, [])):
        with sanitizing(**named) as report:
            copy(x, y, 11)
        assert report.violations == expected
    with sanitizing(outputs={"y": y}) as report:
        pass
    assert report.violations == ["coverage: 64 of 64 elements of y not written"]


def test_writing_an_input_is_reported():
    x, y = torch.rand(4, 16), torch.empty(4, 16)
    with sanitizing(inputs={"y": y}) as report:
        copy(x, y, 16)
    assert report.violations == ["launch 1: write to input y"]


def test_int32_overflow_is_reported():
    x, y = torch.rand(4, 16), torch.empty(4, 16)
    with sanitizing() as report:
        copy(x, y, 16, strides=(2**30, 16))
    assert "launch 1: int32 overflow detected for operation mul" in report.violations


def test_the_interpreter_is_left_as_it_was():
    from triton.runtime.interpreter import GridExecutor, interpreter_builder

    options, call = interpreter_builder.options, GridExecutor.__call__
    with pytest.raises(KeyError), sanitizing():
        raise KeyError
    assert interpreter_builder.options == options
    assert GridExecutor.__call__ is call
    assert "create_masked_load" not in vars(interpreter_builder)
