"""Registers, stack, spills, shared memory and matrix instructions of the shipped kernels, compiled without a GPU.

    python -m asymsim_kernels.tools.resources [--target sm_90] [--kernel prefill] [--match bf16] [--format json]

Compiles every `Build` that the kernel files list with Triton's own compiler and assembler, and reads what they report.
Registers alone mislead, since a kernel may show few of them beside a large stack: a configuration ships if it spills
nothing, keeps no stack and fits the shared memory that one block may have. Where Triton emits warp (``mma``) or
warp-group (``wgmma``) instructions, their FLOPs must be those of the tiles: neither lost nor padded.
Kernels interpreted (``TRITON_INTERPRET=1``) cannot be compiled in the same process.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from asymsim_kernels.tiles import ARCHITECTURES, Build

MODULES = (
    "prefill",
    "decode",
    "merge_states",
    "column_mass",
    "scorer",
    "similarity",
    "top_k",
    "merge_tokens",
    "compact",
)
"""Files that ship kernels; each offers `builds(arch)`."""

SHARED_LIMIT_BYTES = {
    # CUDA C++ programming guide, technical specifications per compute capability: maximum per thread block.
    "sm_80": 163 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    # CDNA 3 instruction set architecture, local data share of a compute unit.
    "gfx942": 64 * 1024,
}

# m16n8k16 and its like are per warp, m64n128k16 per warp group of four.
_MMA = re.compile(r"\bmma\.sync\.aligned\.m(\d+)n(\d+)k(\d+)")
_WGMMA = re.compile(r"\bwgmma\.mma_async\.sync\.aligned\.m(\d+)n(\d+)k(\d+)")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one compilation needs of the device.

    Attributes
    ----------
    kernel, label, target : str
        Which build, compiled for what.
    registers : int
        Per thread; vector registers on gfx942.
    stack_bytes, spill_bytes : int
        Local memory per thread, and what the assembler stored there for want of registers.
    shared_bytes, shared_limit_bytes : int
        Shared memory of one block, and the most that the device grants one.
    matrix_flops : int or None
        FLOPs of the matrix instructions in the PTX, each loop body once; None where they cannot be read from the
        mnemonics (tensor memory on sm_100, gfx942).
    tile_flops : int
        The same from the tile shapes, 0 where products do not run on matrix units.
    """

    kernel: str
    label: str
    target: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int
    shared_limit_bytes: int
    matrix_flops: int | None
    tile_flops: int

    @property
    def faults(self) -> list[str]:
        """Why this build must not ship; empty if it may."""
        faults = []
        if self.spill_bytes or self.stack_bytes:
            faults.append(f"{self.spill_bytes} bytes spilled, {self.stack_bytes} of stack")
        if self.shared_bytes > self.shared_limit_bytes:
            faults.append(f"{self.shared_bytes} bytes of shared memory, {self.shared_limit_bytes} at most")
        if self.matrix_flops is not None and self.matrix_flops != self.tile_flops:
            faults.append(f"{self.matrix_flops} FLOPs in matrix instructions, {self.tile_flops} in tiles")
        return faults


def shipped(target: str, modules: Iterable[str] = MODULES) -> Iterator[Build]:
    """Every build that the kernel files list for a target."""
    for module in modules:
        yield from importlib.import_module(f"asymsim_kernels.{module}").builds(target)


def measure(build: Build, target: str) -> Resources:
    """Compile one build for one of `tiles.ARCHITECTURES`.

    Raises
    ------
    RuntimeError
        If kernels of this process are interpreted.
    """
    if not hasattr(build.function, "cache_key"):
        raise RuntimeError("kernels are interpreted here: unset TRITON_INTERPRET and start a new process")
    names = build.function.arg_names
    signature = {name: build.arguments.get(name, "constexpr") for name in names}
    missing = set(names) - set(build.arguments) - set(build.constants)
    unknown = (set(build.arguments) | set(build.constants)) - set(names)
    if missing or unknown:
        raise ValueError(f"{build.kernel}: arguments without a type {sorted(missing)}, unknown {sorted(unknown)}")
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in build.aligned}
    source = ASTSource(build.function, signature, build.constants, attributes)
    options = {"num_warps": build.warps, "num_stages": build.stages}
    log = io.StringIO()
    with _assembler_log(), contextlib.redirect_stdout(log):
        kernel = triton.compile(source, target=_gpu_target(target), options=options)
    usage = _read_amd(kernel.asm["amdgcn"]) if target.startswith("gfx") else _read_ptxas(log.getvalue())
    return Resources(
        kernel=build.kernel,
        label=build.label,
        target=target,
        **usage,
        shared_bytes=kernel.metadata.shared,
        shared_limit_bytes=SHARED_LIMIT_BYTES[target],
        matrix_flops=matrix_flops(kernel.asm["ptx"], build.warps) if target in ("sm_80", "sm_90") else None,
        tile_flops=build.matrix_flops,
    )


def matrix_flops(ptx: str, warps: int) -> int:
    """FLOPs of the matrix instructions in PTX text, executed once by every warp of a block."""
    each_warp = sum(2 * prod(map(int, shape)) for shape in _MMA.findall(ptx))
    each_warp_group = sum(2 * prod(map(int, shape)) for shape in _WGMMA.findall(ptx))
    return each_warp * warps + each_warp_group * warps // 4


def _gpu_target(target: str) -> GPUTarget:
    return GPUTarget("hip", target, 64) if target.startswith("gfx") else GPUTarget("cuda", int(target[3:]), 32)


@contextlib.contextmanager
def _assembler_log() -> Iterator[None]:
    """Have Triton print what ptxas says, which a kernel taken from Triton's cache would not."""
    knobs = triton.knobs
    before = knobs.nvidia.dump_ptxas_log, knobs.compilation.always_compile
    knobs.nvidia.dump_ptxas_log, knobs.compilation.always_compile = True, True
    try:
        yield
    finally:
        knobs.nvidia.dump_ptxas_log, knobs.compilation.always_compile = before


def _read_ptxas(log: str) -> dict[str, int]:
    return {
        "registers": _number(r"Used (\d+) registers", log),
        "stack_bytes": _number(r"(\d+) bytes stack frame", log),
        "spill_bytes": _number(r"(\d+) bytes spill stores", log),
    }


def _read_amd(assembly: str) -> dict[str, int]:
    spilled_registers = _number(r"\.vgpr_spill_count:\s*(\d+)", assembly)
    return {
        "registers": _number(r"\.vgpr_count:\s*(\d+)", assembly),
        "stack_bytes": _number(r"\.private_segment_fixed_size:\s*(\d+)", assembly),
        "spill_bytes": 4 * spilled_registers,
    }


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"triton {triton.__version__}: nothing matches {pattern!r} in the assembler's report")
    return int(found[1])


def main(arguments: list[str] | None = None) -> int:
    """Compile what ships and print a row each; 1 if any must not ship."""
    parser = argparse.ArgumentParser(prog="asymsim_kernels.tools.resources", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--target", action="append", choices=ARCHITECTURES, help="may be repeated; all by default")
    parser.add_argument("--kernel", action="append", choices=MODULES, help="may be repeated; all by default")
    parser.add_argument("--match", action="append", default=[], help="words that the label must hold, such as bf16")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    chosen = parser.parse_args(arguments)
    rows = []
    if chosen.format == "table":
        print(_HEADER)
    for target in chosen.target or ARCHITECTURES:
        for build in shipped(target, chosen.kernel or MODULES):
            if not set(chosen.match) <= set(build.label.split()):
                continue
            row = measure(build, target)
            rows.append(row)
            if chosen.format == "table":
                print(_line(row), flush=True)
    if chosen.format == "json":
        json.dump([_record(row) for row in rows], sys.stdout, indent=1)
        print()
    return 1 if any(row.faults for row in rows) else 0


_HEADER = f"{'kernel':14}{'build':20}{'target':8}{'registers':>10}{'stack':>7}{'spills':>7}{'shared':>8}  matrix FLOPs"


def _line(row: Resources) -> str:
    flops = "-" if row.matrix_flops is None else f"{row.matrix_flops:,}"
    faults = "  FAULT: " + "; ".join(row.faults) if row.faults else ""
    return (
        f"{row.kernel:14}{row.label:20}{row.target:8}{row.registers:10}{row.stack_bytes:7}{row.spill_bytes:7}"
        f"{row.shared_bytes:8}  {flops}{faults}"
    )


def _record(row: Resources) -> dict[str, Any]:
    return asdict(row) | {"faults": row.faults}


if __name__ == "__main__":
    sys.exit(main())
