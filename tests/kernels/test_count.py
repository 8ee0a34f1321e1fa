"""The counter itself: what it counts, and that it refuses a process or a triton that it cannot count in."""

import os
import subprocess
import sys

import pytest
import torch
import triton
import triton.language as tl

from asymsim_kernels.tiles import TileCost, add
from asymsim_kernels.tools import count, hooks
from asymsim_kernels.tools.count import Counts, counting


@triton.jit
def _matrix_sum(a_ptr, b_ptr, c_ptr, hits_ptr, n, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, k, j = tl.arange(0, M), tl.arange(0, K), tl.arange(0, N)
    a = tl.load(a_ptr + m[:, None] * K + k[None, :], mask=k[None, :] < n, other=0.0)
    b = tl.load(b_ptr + k[:, None] * N + j[None, :], mask=k[:, None] < n, other=0.0)
    tl.store(c_ptr + m[:, None] * N + j[None, :], tl.dot(a, b, input_precision="ieee"))
    tl.atomic_add(hits_ptr + j, 1, mask=j < n)


def launch(programs=1):
    a, b = torch.ones(16, 64, dtype=torch.float16), torch.ones(64, 32, dtype=torch.float16)
    c, hits = torch.empty(16, 32), torch.zeros(32, dtype=torch.int32)
    _matrix_sum[(programs,)](a, b, c, hits, 10, M=16, N=32, K=64)
    return c, hits


def test_counts_whole_tiles_of_products_and_unmasked_lanes_of_memory():
    with counting() as counts:
        c, hits = launch()
    loads = 16 * 10 * 2 + 10 * 32 * 2
    assert counts == Counts(2 * 16 * 32 * 64, loads + 10 * 4, 16 * 32 * 4 + 10 * 4, 1, 2, 1, 1, 1)
    assert (c == 10).all()
    assert hits.sum() == 10


def test_blocks_nest_and_end():
    with counting() as outer:
        launch()
        with counting() as inner:
            launch(3)
        launch()
    launch()
    assert inner.programs == 3
    assert outer.programs == 5
    assert outer.flops == 5 * 2 * 16 * 32 * 64


def test_costs_add_by_field():
    assert add([TileCost(1, 2, 3), TileCost(10, 20, 30)]) == (11, 22, 33)
    assert add([]) == (0, 0, 0)


def test_compiled_kernels_are_refused():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    path = os.pathsep.join(p for p in sys.path if p)
    code = "from asymsim_kernels.tools.count import counting\nwith counting(): pass"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: kernels are not interpreted: set TRITON_INTERPRET=1" in done.stderr


def test_an_interpreter_without_a_hook_is_refused(monkeypatch):
    builder = hooks.require_interpreter().interpreter_builder
    monkeypatch.delattr(type(builder), "create_dot")
    with pytest.raises(RuntimeError, match=rf"triton {triton.__version__}: the interpreter has no create_dot"):
        count.self_test.__wrapped__()


def test_an_interpreter_that_bypasses_a_hook_is_refused(monkeypatch):
    builder = hooks.require_interpreter().interpreter_builder
    unseen = type(builder).create_masked_load
    monkeypatch.setattr(
        type(builder),
        "create_load",
        lambda self, ptr, *rest: unseen(self, ptr, hooks_mask(ptr), None, *rest),
    )
    with pytest.raises(RuntimeError, match=rf"triton {triton.__version__}: the interpreter's counter saw Counts"):
        count.self_test.__wrapped__()


def hooks_mask(ptr):
    """A mask that lets everything through, as the interpreter makes it for an unmasked load."""
    handle = hooks.require_interpreter().TensorHandle
    return handle(torch.ones(ptr.data.shape, dtype=torch.bool).numpy(), tl.int1)
