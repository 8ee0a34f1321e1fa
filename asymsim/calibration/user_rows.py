"""A user's own measured times, by the section of fitted numbers that they can correct."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from asymsim.calibration.kernel_operators import kernel_rows
from asymsim.calibration.kernel_records import Record
from asymsim.calibration.shape_groups import FOLDS, MeasuredRows, held_out, shape_group_hash
from asymsim.catalogue.gpu import Gpu
from asymsim.catalogue.number_format import NUMBER_FORMATS, NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import (
    CAUSAL_SIZES,
    DECODE_ATTENTION_TIME,
    ELEMENTWISE_TIME,
    ENCODER_ATTENTION_TIME,
    ENCODER_SIZES,
    FITTED,
    GEMM_TIME,
    GROUPED_TIME,
    PREFILL_ATTENTION_TIME,
)
from asymsim.core.times.row_time import row_roofline, time_class
from asymsim.estimator.gpu_arrays import GEMM_SECTION, MEASURED_FORMATS, SECTION_OF, gpu_arrays
from asymsim.estimator.operator_table import operator_times

# Why a measured time corrects nothing.
LEFT_OUT = {
    "trial": "a trial of other block sizes",
    "other_kernel": "a kernel that no operator class stands for",
    "sliding_window": "a sliding window: another kernel",
    "ragged": "sequences of several lengths, which the simulator takes as as many kernels",
    "grouped": "products side by side: they stand on the numbers of single ones",
    "several_classes": "work of several operator classes, none of them with nine tenths of the time",
    "format": "a number format whose times nobody fits",
    "head_size": "a head size that the class has no numbers for",
    "repeated": "the same work measured more than once: the fastest way to do it is kept, the median of its times",
    "beats_roofline": "faster than peak and bandwidth allow",
}
# Kernels that stand for an operator class: libraries' products and attention, and what only moves bytes.
STANDING_FOR_A_CLASS = ("matmul", "prefill", "decode", "copy", "top_k", "merge_tokens", "compact")
DOMINANT = 0.9
HEAD_SIZES = {
    PREFILL_ATTENTION_TIME: CAUSAL_SIZES,
    DECODE_ATTENTION_TIME: CAUSAL_SIZES,
    ENCODER_ATTENTION_TIME: ENCODER_SIZES,
}
# Lifts a time off its roofline; a power of two, so that no bit is lost.
LIFT = 2.0**40


@dataclass(frozen=True)
class UserRows:
    """Measured times of one section on one GPU, a row for each distinct shape.

    Attributes
    ----------
    section : str
    of : int
        The operator class.
    device : Gpu
    dtype : Dtype
        Whose rates they are predicted with.
    operators : array of ``core.operators.layout.OPERATOR``
        Of all rows, one after another.
    begin : array of int64, shape (rows,)
        Where the operators of each row begin.
    seconds : array, shape (rows,)
        Measured.
    shape_group : array of int64, shape (rows, fields)
        What makes its site: n and k of a product, heads, KV heads and head size of attention, else bytes.
    """

    section: str
    of: int
    device: Gpu
    dtype: NumberFormat
    operators: Array
    begin: Array
    seconds: Array
    shape_group: Array

    def __len__(self) -> int:
        return len(self.seconds)

    def shape_group_index(self) -> Array:
        """Index of each row's site."""
        return np.unique(self.shape_group, axis=0, return_inverse=True)[1].ravel()

    def only(self, mask: Array) -> UserRows:
        """The rows of a mask."""
        owner = np.repeat(np.arange(len(self)), np.diff([*self.begin, len(self.operators)]))
        kept = self.operators[mask[owner]]
        lengths = np.bincount(owner, minlength=len(self))[mask]
        begin = np.cumsum(lengths) - lengths
        return UserRows(
            self.section, self.of, self.device, self.dtype, kept, begin, self.seconds[mask], self.shape_group[mask]
        )

    def simulated(self, arrays: GpuArrays) -> Array:
        """Predicted seconds of each row before scale and roofline; alters the scales of ``arrays``."""
        arrays.intervals["time_scale"] = LIFT
        return np.add.reduceat(operator_times(self.operators, arrays, 1)[0][:, 1] / LIFT, self.begin)

    def roofline(self, arrays: GpuArrays) -> Array:
        """Seconds of each row that peak and bandwidth allow."""
        return np.add.reduceat([row_roofline(row, arrays, 1) for row in self.operators], self.begin)

    def table(self, source: str) -> MeasuredRows:
        """The rows as a fit takes them; head sizes without numbers must have been left out."""
        arrays = gpu_arrays(self.device, self.dtype)
        target = {
            GEMM_TIME: arrays.gemm[:1],
            PREFILL_ATTENTION_TIME: arrays.prefill_attention,
            DECODE_ATTENTION_TIME: arrays.decode_attention,
            ENCODER_ATTENTION_TIME: arrays.encoder_attention,
            ELEMENTWISE_TIME: arrays.elementwise,
        }[self.of]
        arrays.sources[self.of] = FITTED
        first = self.operators[self.begin]
        places = [column.astype(np.float64) for column in self.shape_group.T]
        tokens = first["n"] if self.of == DECODE_ATTENTION_TIME else first["m"]
        sizes = HEAD_SIZES.get(self.of)

        def predict(index: Array, numbers: Array) -> Array:
            target[:] = numbers
            return self.simulated(arrays)[index]

        return MeasuredRows(
            seconds=self.seconds,
            roofline_s=self.roofline(arrays),
            held_out=held_out(*places),
            fold=(shape_group_hash(*places) // np.uint64(10_000) % np.uint64(FOLDS)).astype(np.int64),
            columns={"site": self.shape_group_index(), "groups": first["groups"], "tokens": tokens},
            predict=predict,
            runs=("site", "groups", "tokens"),
            sizes=np.searchsorted(sizes, first["k"]) if sizes else np.zeros(0, np.int64),
            dropped={},
            source=source,
        )


def user_section_rows(records: Sequence[Record], device: Gpu) -> tuple[dict[str, UserRows], Counter[str]]:
    """The times of a file by section, and how many were left out by each reason of `LEFT_OUT`."""
    left: Counter[str] = Counter()
    # section -> work -> variant -> times
    found: dict[tuple[str, int], dict[bytes, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    work: dict[bytes, Array] = {}
    for record in records:
        if record.metric != "seconds":
            continue
        rows = kernel_rows(
            record.operator, record.shape, NUMBER_FORMATS[record.dtype], fused=record.variant != "materialised"
        )
        placed = _placed(record, rows, device)
        if isinstance(placed, str):
            left[placed] += 1
            continue
        key = rows.tobytes()
        work[key] = rows.copy()
        found[placed][key].setdefault(record.variant, []).append(record.p50)
    result = {}
    for (section, of), shapes in found.items():
        made, more = _section(section, of, shapes, work, device)
        left += more
        if len(made):
            result[section] = made
    return result, left


def _placed(record: Record, rows: Array, device: Gpu) -> tuple[str, int] | str:
    """Section and operator class of a record, or why it has none."""
    if "blocks" in record.shape:
        return "trial"
    if record.operator not in STANDING_FOR_A_CLASS or not len(rows):
        return "other_kernel"
    if record.shape.count("window", 0):
        return "sliding_window"
    classes = np.array([time_class(row) for row in rows])
    of = int(classes[0])
    if len(np.unique(classes)) > 1:
        seconds = operator_times(rows, gpu_arrays(device, rates_dtype(device)), 1)[0][:, 1]
        shares = np.bincount(classes, seconds) / seconds.sum()
        of = int(shares.argmax())
        if shares[of] < DOMINANT:
            return "several_classes"
    if of == GROUPED_TIME:
        return "grouped"
    if of == ELEMENTWISE_TIME:
        # Only bytes count, whatever they mean.
        return SECTION_OF[of], of
    if of == GEMM_TIME:
        return (GEMM_SECTION[record.dtype], of) if record.dtype in MEASURED_FORMATS else "format"
    if record.dtype not in ("bf16", "fp16"):
        return "format"
    if len(rows) > 1:
        return "ragged"
    return (SECTION_OF[of], of) if int(rows[0]["k"]) in HEAD_SIZES[of] else "head_size"


def rates_dtype(device: Gpu, section: str = "") -> NumberFormat:
    """The number format that stands for a section: fp8 for its products, else 16 bits."""
    if section == "gemm_fp8":
        return NUMBER_FORMATS["fp8"]
    return NUMBER_FORMATS["bf16" if "bf16" in device.peak_flops_per_s else "fp16"]


def _section(
    section: str,
    of: int,
    shapes: dict[bytes, dict[str, list[float]]],
    work: dict[bytes, Array],
    device: Gpu,
) -> tuple[UserRows, Counter[str]]:
    left: Counter[str] = Counter()
    seconds, rows = [], []
    for key, variants in shapes.items():
        seconds.append(min(median(times) for times in variants.values()))
        rows.append(work[key])
        left["repeated"] += sum(map(len, variants.values())) - 1
    lengths = np.array([len(each) for each in rows])
    operators = np.concatenate(rows)
    begin = np.cumsum(lengths) - lengths
    first = operators[begin]
    fields = {GEMM_TIME: ("n", "k"), ELEMENTWISE_TIME: ("read_bytes", "write_bytes")}.get(
        of, ("heads", "kv_heads", "k")
    )
    site = np.stack([first[name] for name in fields], axis=1)
    made = UserRows(
        section, of, device, rates_dtype(device, section), operators, begin, np.array(seconds), site.astype(np.int64)
    )
    possible = made.seconds >= made.roofline(gpu_arrays(device, made.dtype))
    left["beats_roofline"] += int((~possible).sum())
    return made.only(possible), +left
