"""Offline compilation: what ships spills nothing, fits, and runs the tiles' FLOPs on matrix units."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from asymsim_kernels.prefill import build
from asymsim_kernels.tiles import ARCHITECTURES, Blocks
from asymsim_kernels.tools.resources import MODULES, Resources, matrix_flops, measure, shipped

ATTENTION = ("prefill", "decode", "merge_states", "column_mass")


def compiled(tmp_path, *arguments):
    """Rows that the command prints; in a process of its own, since this one interprets."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TRITON_CACHE_DIR": str(tmp_path)}
    kernels = [word for kernel in ATTENTION for word in ("--kernel", kernel)]
    command = [sys.executable, "-m", "asymsim_kernels.tools.resources", "--format", "json", *kernels, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("target", ARCHITECTURES)
def test_shipped_builds_fit_their_target(tmp_path, target):
    size = {"sm_80": "d72", "sm_90": "d128", "sm_100": "d64", "gfx942": "d80"}[target]
    status, rows = compiled(tmp_path, "--target", target, "--match", "bf16", "--match", size)
    assert {row["kernel"] for row in rows} == set(ATTENTION)
    assert [row for row in rows if row["faults"]] == []
    assert status == 0
    for row in rows:
        assert 0 < row["registers"] <= 512
        assert row["shared_bytes"] <= row["shared_limit_bytes"]
    if target in ("sm_80", "sm_90"):
        products = [row for row in rows if row["kernel"] != "merge_states"]
        assert all(row["matrix_flops"] == row["tile_flops"] > 0 for row in products)


def test_full_precision_stays_off_the_matrix_units(tmp_path):
    _, rows = compiled(tmp_path, "--target", "sm_90", "--match", "fp32", "--match", "d96")
    assert len(rows) == 9
    assert all(row["matrix_flops"] == 0 and not row["faults"] for row in rows)


def test_every_kernel_ships_every_type_and_head_size_on_every_target():
    for target in ARCHITECTURES:
        for kernel in ATTENTION:
            labels = [set(build.label.split()) for build in shipped(target, [kernel])]
            for dtype in ("fp16", "bf16", "fp32"):
                for size in ("d64", "d72", "d80", "d96", "d128"):
                    assert any({dtype, size} <= label for label in labels)
    assert set(ATTENTION) <= set(MODULES)


def test_flops_are_read_from_warp_and_warp_group_mnemonics():
    ptx = """
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 { %r1, %r2 }, { %r3 }, { %r4 }, { %r5 };
        wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {%f1}, %rd1, %rd2, p, 1, 1, 0, 1;
    """
    assert matrix_flops(ptx, warps=8) == 8 * 2 * 16 * 8 * 16 + 2 * 2 * 64 * 128 * 16
    assert matrix_flops("fma.rn.f32 %f1, %f2, %f3, %f4;", warps=8) == 0


def test_faults_name_what_is_wrong():
    good = {
        "kernel": "prefill", "label": "bf16 d128", "target": "sm_80", "registers": 32, "stack_bytes": 0,
        "spill_bytes": 0, "shared_bytes": 100, "shared_limit_bytes": 100, "matrix_flops": 64, "tile_flops": 64,
    }  # fmt: skip
    assert Resources(**good).faults == []
    # Few registers beside a large stack must not pass.
    assert Resources(**good | {"stack_bytes": 12_000}).faults == ["0 bytes spilled, 12000 of stack"]
    assert Resources(**good | {"shared_bytes": 101}).faults == ["101 bytes of shared memory, 100 at most"]
    assert Resources(**good | {"matrix_flops": 32}).faults == ["32 FLOPs in matrix instructions, 64 in tiles"]
    assert Resources(**good | {"matrix_flops": None}).faults == []


def test_interpreted_kernels_are_refused():
    with pytest.raises(RuntimeError, match="unset TRITON_INTERPRET"):
        measure(build(64, "bf16", Blocks(64, 64)), "sm_90")
