"""A sanitizer for kernels in Triton's interpreter, which itself reads garbage out of bounds and hides races.

    with sanitizing(inputs={"q": q}, outputs={"o": o}) as report:
        kernel[grid](q, o, ...)
    report.check()

It watches every load, store and atomic for
- bounds: an address that is no element of a tensor passed to the launch. The access is left out. Views count by their
  own elements, so the gap between the rows of a slice is out of bounds;
- writes to a tensor named as input;
- races: an address that two programs of one launch write, or one writes and another reads, atomics aside, or that two
  lanes of one store write;
- coverage: an element of a written tensor that nothing wrote by the end;
- int32 overflow in index arithmetic, which wraps silently on a device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from asymsim_kernels.tools.count import self_test
from asymsim_kernels.tools.hooks import require_interpreter, wrapped

_NOBODY, _MANY = -1, -2


@dataclass
class Report:
    """What a sanitized run did wrong: one line for each kind of fault, tensor and launch."""

    violations: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Note a fault once."""
        if line not in self.violations:
            self.violations.append(line)

    def check(self) -> None:
        """Raise AssertionError that lists the faults, if there are any."""
        if self.violations:
            raise AssertionError("\n".join(self.violations))


class _Region:
    """The elements of one tensor by address, and who touched them in the current launch."""

    def __init__(self, name: str, tensor: torch.Tensor, kind: str) -> None:
        self.name, self.kind = name, kind
        self.tensor = tensor  # Kept alive, so that no later tensor takes its addresses.
        offsets = np.zeros(1, dtype=np.uint64)
        for extent, stride in zip(tensor.shape, tensor.stride(), strict=True):
            steps = np.arange(extent, dtype=np.int64) * (stride * tensor.element_size())
            offsets = (offsets[:, None] + steps.astype(np.uint64)[None, :]).reshape(-1)
        # Expanded axes have several indices at one address.
        self.addresses = np.unique(offsets + np.uint64(tensor.data_ptr()))
        self.element_bytes = tensor.element_size()
        self.writer = np.full(self.addresses.size, _NOBODY, dtype=np.int64)
        self.reader = np.full(self.addresses.size, _NOBODY, dtype=np.int64)
        self.atomic = np.zeros(self.addresses.size, dtype=bool)
        self.written = np.zeros(self.addresses.size, dtype=bool)

    def same_as(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor is this very view."""
        mine = self.tensor
        return (
            mine.data_ptr() == tensor.data_ptr()
            and mine.dtype == tensor.dtype
            and mine.shape == tensor.shape
            and mine.stride() == tensor.stride()
        )

    def start_launch(self) -> None:
        """Forget who touched what: launches run one after another."""
        self.writer.fill(_NOBODY)
        self.reader.fill(_NOBODY)
        self.atomic.fill(False)

    def find(self, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of each address among the elements, and whether it is one."""
        if self.addresses.size == 0:
            return np.zeros(addresses.shape, dtype=np.int64), np.zeros(addresses.shape, dtype=bool)
        index = np.searchsorted(self.addresses, addresses)
        index[index == self.addresses.size] = 0
        return index, self.addresses[index] == addresses


class _Memory:
    """All tensors that kernels may touch, and the rules for touching them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.regions: list[_Region] = []
        self.program = 0
        self.launch = 0

    def register(self, name: str, tensor: torch.Tensor, kind: str) -> None:
        """Make a tensor's elements known; the first name of a view stays."""
        if not any(region.same_as(tensor) for region in self.regions):
            self.regions.append(_Region(name, tensor, kind))

    def start_launch(self) -> None:
        """Begin a new launch, in which every program may again touch everything."""
        self.launch += 1
        for region in self.regions:
            region.start_launch()

    def access(self, pointers: Any, mask: np.ndarray, action: str) -> np.ndarray:
        """Judge an access of the current program; the mask of the lanes that may go ahead."""
        addresses = np.broadcast_to(pointers.data, mask.shape)
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        left = mask.astype(bool).copy()
        allowed = np.zeros_like(left)
        for region in self.regions:
            if region.element_bytes != size or not left.any():
                continue
            index, inside = region.find(addresses)
            inside &= left
            if inside.any():
                self._touch(region, index[inside], action)
                allowed |= inside
                left &= ~inside
        if left.any():
            self._fault(f"out of bounds: {action} of {int(left.sum())} lanes outside every tensor")
        return allowed

    def _touch(self, region: _Region, index: np.ndarray, action: str) -> None:
        me = self.program
        if action == "load":
            others = (region.writer[index] != _NOBODY) & (region.writer[index] != me)
            if others.any():
                self._fault(f"race: {region.name} read by one program and written by another")
            region.reader[index] = np.where(np.isin(region.reader[index], (_NOBODY, me)), me, _MANY)
            return
        if region.kind == "input":
            self._fault(f"write to input {region.name}")
        if action == "store":
            if np.unique(index).size != index.size:
                self._fault(f"race: two lanes of one store write one element of {region.name}")
            if (~np.isin(region.writer[index], (_NOBODY, me))).any() or region.atomic[index].any():
                self._fault(f"race: {region.name} written by two programs")
        elif (~np.isin(region.writer[index], (_NOBODY, me)) & ~region.atomic[index]).any():
            self._fault(f"race: {region.name} stored by one program and updated atomically by another")
        if (~np.isin(region.reader[index], (_NOBODY, me))).any():
            self._fault(f"race: {region.name} read by one program and written by another")
        region.writer[index] = me
        region.atomic[index] = action == "atomic"
        region.written[index] = True

    def check_coverage(self) -> None:
        """Report elements that were to be written and were not."""
        for region in self.regions:
            due = region.kind == "output" or (region.kind == "argument" and region.written.any())
            if due and not region.written.all():
                missing = int((~region.written).sum())
                self.report.add(f"coverage: {missing} of {region.written.size} elements of {region.name} not written")

    def _fault(self, line: str) -> None:
        self.report.add(f"launch {self.launch}: {line}")


@contextmanager
def sanitizing(
    inputs: Mapping[str, torch.Tensor] | None = None,
    outputs: Mapping[str, torch.Tensor] | None = None,
    partial: Mapping[str, torch.Tensor] | None = None,
) -> Iterator[Report]:
    """Watch the kernels launched inside the block; `Report.check` afterwards raises if they did wrong.

    Tensors passed to a launch are known by themselves, under their argument's name, and must be wholly written if they
    are written at all; naming them says more.

    Parameters
    ----------
    inputs : mapping of str to Tensor, optional
        Must not be written.
    outputs : mapping of str to Tensor, optional
        Must be wholly written, even if no kernel is given them.
    partial : mapping of str to Tensor, optional
        May be written in part.

    Raises
    ------
    RuntimeError
        If kernels are compiled rather than interpreted, or this triton's interpreter is not the one known.
    """
    self_test()
    interpreter = require_interpreter()
    builder = interpreter.interpreter_builder
    report = Report()
    memory = _Memory(report)
    for kind, tensors in (("input", inputs), ("output", outputs), ("partial", partial)):
        for name, tensor in (tensors or {}).items():
            memory.register(name, tensor, kind)

    def launch(original: Callable[..., Any], executor: Any, *args: Any, **kwargs: Any) -> Any:
        for name, value in [*zip(executor.arg_names, args, strict=False), *kwargs.items()]:
            if isinstance(value, torch.Tensor):
                memory.register(name, value, "argument")
        memory.start_launch()
        return original(executor, *args, **kwargs)

    def grid_index(original: Callable[..., Any], x: int, y: int, z: int) -> Any:
        _, columns, depth = builder.grid_dim
        memory.program = (x * columns + y) * depth + z
        return original(x, y, z)

    def load(original: Callable[..., Any], pointers: Any, mask: Any, *rest: Any) -> Any:
        return original(pointers, _masked(mask, memory.access(pointers, mask.data, "load")), *rest)

    def store(original: Callable[..., Any], pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        return original(pointers, value, _masked(mask, memory.access(pointers, mask.data, "store")), *rest)

    def atomic_rmw(original: Callable[..., Any], op: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        return original(op, pointers, value, _masked(mask, memory.access(pointers, mask.data, "atomic")), *rest)

    def atomic_cas(original: Callable[..., Any], pointers: Any, *rest: Any) -> Any:
        if not memory.access(pointers, np.ones(pointers.data.shape, dtype=bool), "atomic").all():
            raise AssertionError("out of bounds: atomic compare-and-swap, which takes no mask, cannot be left out")
        return original(pointers, *rest)

    def assertion(original: Callable[..., Any], condition: Any, message: str) -> Any:
        if "overflow" not in message:
            return original(condition, message)
        if not np.all(condition.data):
            report.add(f"launch {memory.launch}: {message}")
        return None

    options = builder.options
    # Triton then asserts after every 32-bit sum and product that it did not overflow.
    builder.options = dataclasses.replace(options, debug=True)
    try:
        with (
            wrapped(
                builder,
                create_masked_load=load,
                create_masked_store=store,
                create_atomic_rmw=atomic_rmw,
                create_atomic_cas=atomic_cas,
                create_assert=assertion,
                set_grid_idx=grid_index,
            ),
            wrapped(interpreter.GridExecutor, __call__=launch),
        ):
            yield report
    finally:
        builder.options = options
    memory.check_coverage()


def _masked(mask: Any, allowed: np.ndarray) -> Any:
    return type(mask)(allowed, mask.dtype)
