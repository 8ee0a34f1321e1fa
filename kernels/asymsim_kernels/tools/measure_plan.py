"""What `measure` runs: shapes, and which of the kernels' targets each of them is to prove.

All sizes but those of attention are past any L2 cache, so that a bandwidth is that of the memory. The whole plan is
made for less than 8 minutes on an H200, most of it compilation and float64 references.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from asymsim_kernels.tiles import Blocks
from asymsim_kernels.tools.shapes import Value, shape_text

OPERATORS = ("prefill", "decode", "column_mass", "scorer", "similarity", "top_k", "merge_tokens", "compact")


class Target(NamedTuple):
    """What a kernel must reach: time of the other / own time >= least; against "copy", the ratio of bytes a second.

    Attributes
    ----------
    least : float
    operator, variant : str
        What it is compared with.
    shape : str or None
        The other's shape; the same by default.
    """

    least: float
    operator: str
    variant: str
    shape: str | None = None


@dataclass(frozen=True)
class Point:
    """One operator at one shape.

    Attributes
    ----------
    operator : str
    values : dict
        Its shape, by the keys that `shapes` lists.
    dtype : str
    targets : tuple of Target
    quick : bool
        Whether ``--quick`` and ``--tune`` run it.
    """

    operator: str
    values: dict[str, Value]
    dtype: str = "bf16"
    targets: tuple[Target, ...] = ()
    quick: bool = False

    @property
    def shape(self) -> str:
        """The shape as text."""
        return shape_text(**self.values)


AT_COPY_SPEED = Target(0.8, "copy", "copy")
COPY = Point("copy", {"bytes": 2**31}, quick=True)
MATMULS = tuple(
    Point("matmul", {"m": side, "n": side, "k": side}, dtype, quick=dtype == "bf16")
    for dtype, side in (("bf16", 8192), ("fp16", 8192), ("fp32", 4096))
)


def plan(chosen: Sequence[str] = OPERATORS, *, quick: bool = False) -> list[Point]:
    """Ceilings first, then the points of the chosen operators."""
    points = [point for operator in OPERATORS if operator in chosen for point in _POINTS[operator]()]
    wanted = [point for point in (COPY, *MATMULS, *points) if point.quick or not quick]
    # What several operators are compared with is measured once.
    unique: dict[tuple[str, str, str], Point] = {}
    for point in wanted:
        unique.setdefault((point.operator, point.shape, point.dtype), point)
    return list(unique.values())


def grid(chosen: Sequence[str] = ("copy", "matmul", "prefill", "decode")) -> list[Point]:
    """Shapes for ``asymsim calibrate --records``: several sites of each operator class, in bf16.

    Products by the weights of models of 1 to 8 billion parameters, attention by their heads; all fit 16 GB.
    """
    points = [Point("copy", {"bytes": 2**size}) for size in range(14, 32)]
    for n, k in ((2048, 2048), (6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (3584, 18944), (1024, 4096)):
        points += [Point("matmul", {"m": m, "n": n, "k": k}) for m in (1, 16, 128, 512, 2048, 8192)]
    for heads, kv_heads in ((32, 32), (32, 8), (28, 4), (16, 16)):
        sites = {"heads": heads, "kv_heads": kv_heads}
        points += [Point("prefill", _attention([length], **sites)) for length in (256, 1024, 2048, 4096)]
        points += [
            Point("decode", {"entries": [length] * (batch * kv_heads), **sites, "head_size": 128})
            for batch, length in ((1, 1024), (1, 8192), (8, 1024), (8, 8192), (64, 1024))
        ]
    for heads, size in ((16, 64), (16, 72), (16, 80)):
        sites = {"heads": heads, "kv_heads": heads, "head_size": size, "causal": False}
        points += [
            Point("prefill", _attention([length] * images, **sites))
            for length, images in ((576, 4), (1024, 1), (1024, 8), (2304, 2))
        ]
    return [point for point in points if point.operator in chosen]


def _attention(
    queries: Sequence[int], *, heads: int = 32, kv_heads: int = 8, head_size: int = 128, causal: bool = True
) -> dict[str, Value]:
    return {
        "queries": queries,
        "keys": queries,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": head_size,
        "causal": causal,
        "window": 0,
    }


def _prefill() -> Iterator[Point]:
    flash = Target(0.9, "prefill", "sdpa")
    dense = _attention([4096])
    yield Point("prefill", dense, targets=(flash,), quick=True)
    # What is left of 4096 tokens, at their original positions, against SDPA over all of them.
    for keep in (0.25, 0.5, 0.75):
        values = _attention([int(4096 * keep)]) | {"keep": keep}
        ahead = Target(1.0, "prefill", "sdpa", shape_text(**dense))
        yield Point("prefill", values, targets=(flash, ahead), quick=keep == 0.5)
    yield Point("prefill", _attention([8192]), targets=(flash,))
    yield Point("prefill", _attention([2048] * 4), targets=(flash,))
    yield Point("prefill", _attention([4096], causal=False), targets=(flash,))
    yield Point("prefill", _attention([4096] * 2, head_size=64), targets=(flash,))
    # Vision encoders: many heads of their own keys, no causal mask, head sizes of SigLIP (72) and Qwen's tower (80).
    for size in (72, 80):
        values = _attention([1024] * 16, heads=16, kv_heads=16, head_size=size, causal=False)
        yield Point("prefill", values, targets=(flash,))
    yield Point("prefill", _attention([4096]), "fp16", targets=(flash,))
    yield Point("prefill", _attention([2048], heads=8, kv_heads=2), "fp32")
    yield Point("prefill", _attention(_ragged(16, 64, 2048)))


def _decode() -> Iterator[Point]:
    for entries, kv_heads, size, quick in (
        ([4096] * 256, 8, 128, True),
        ([32768] * 32, 8, 128, False),
        ([4096] * 256, 32, 128, False),
        ([8192] * 256, 8, 64, False),
        ([8192] * 128, 8, 80, False),
        # Evicted head by head.
        (_ragged(256, 512, 8192), 8, 128, False),
    ):
        values = {"entries": entries, "heads": 32, "kv_heads": kv_heads, "head_size": size}
        yield Point("decode", values, targets=(AT_COPY_SPEED,), quick=quick)
    yield Point("decode", {"entries": [4096] * 64, "heads": 32, "kv_heads": 8, "head_size": 128}, "fp32")


def _column_mass() -> Iterator[Point]:
    dense = _attention([4096])
    targets = (
        Target(1 / 1.3, "prefill", "triton", shape_text(**dense)),
        Target(5.0, "column_mass", "materialised"),
    )
    yield Point("prefill", dense, quick=True)
    yield Point("column_mass", dense | {"counted": 0}, targets=targets, quick=True)
    yield Point("column_mass", dense | {"counted": 32})
    yield Point("column_mass", _attention([1024] * 4) | {"counted": 0})


def _scorer() -> Iterator[Point]:
    for hidden, dtype, quick in ((4096, "bf16", True), (3072, "fp16", False)):
        values = {"visual": [2880] * 64, "text": [32] * 64, "hidden": hidden, "weighted": True}
        yield Point("scorer", values, dtype, (AT_COPY_SPEED,), quick)
    yield Point("scorer", {"visual": [576] * 64, "text": [100] * 64, "hidden": 4096, "weighted": True})


def _similarity() -> Iterator[Point]:
    for joint, quick in ((768, True), (1024, False)):
        values = {"visual": [2880] * 256, "text": [32] * 256, "joint": joint}
        yield Point("similarity", values, targets=(AT_COPY_SPEED,), quick=quick)


def _top_k() -> Iterator[Point]:
    for adaptive in (False, True):
        values = {"tokens": [2880] * 1024, "rows": 1, "capacity": 2880 if adaptive else 1440, "adaptive": adaptive}
        yield Point("top_k", values, "fp32", quick=not adaptive)
    yield Point("top_k", {"tokens": [8192] * 32, "rows": 8, "capacity": 4096, "adaptive": False}, "fp32")


def _merge_tokens() -> Iterator[Point]:
    for hidden, dtype, quick in ((4096, "bf16", True), (1024, "fp16", False)):
        values = {"tokens": [2880] * 64, "kept": [640] * 64, "assigned": 64 * 2880, "hidden": hidden}
        yield Point("merge_tokens", values, dtype, (AT_COPY_SPEED,), quick)


def _compact() -> Iterator[Point]:
    for kept, size, quick in (
        ([4096] * 256, 128, True),
        ([4096] * 256, 72, False),
        (_ragged(256, 64, 8192), 128, False),
    ):
        yield Point(
            "compact",
            {"kept": kept, "capacity": 8192, "kv_heads": 8, "head_size": size},
            "bf16",
            (AT_COPY_SPEED,),
            quick,
        )


def _ragged(count: int, low: int, high: int) -> list[int]:
    """Lengths as eviction leaves them, the same on every run."""
    chance = Random(0)
    return [chance.randint(low, high) for _ in range(count)]


_POINTS = {
    "prefill": _prefill,
    "decode": _decode,
    "column_mass": _column_mass,
    "scorer": _scorer,
    "similarity": _similarity,
    "top_k": _top_k,
    "merge_tokens": _merge_tokens,
    "compact": _compact,
}


def tunings(operator: str) -> Iterator[Blocks]:
    """Block sizes and schedules that ``--tune`` tries."""
    for m, n, warps, stages in {
        "prefill": [(m, n, w, s) for m in (64, 128) for n in (32, 64, 128) for w in (4, 8) for s in (2, 3, 4)],
        "column_mass": [(m, n, w, s) for m in (32, 64, 128) for n in (64, 128) for w in (4, 8) for s in (2, 3)],
        "decode": [(0, n, w, s) for n in (32, 64, 128) for w in (2, 4, 8) for s in (2, 3, 4)],
        "scorer": [(m, n, w, s) for m in (32, 64, 128) for n in (32, 64) for w in (4, 8) for s in (2, 3, 4)],
        "similarity": [(m, n, w, s) for m in (32, 64, 128) for n in (32, 64) for w in (4, 8) for s in (2, 3, 4)],
        "top_k": [(1, n, w, 1) for n in (256, 512, 1024, 2048, 4096) for w in (2, 4, 8)],
        "merge_tokens": [(m, n, w, s) for m in (1, 2, 4) for n in (2, 4, 8) for w in (2, 4, 8) for s in (1, 2)],
        "compact": [(m, 1, w, 1) for m in (16, 32, 64, 128) for w in (2, 4, 8)],
    }[operator]:
        yield Blocks(m, n, warps, stages)
