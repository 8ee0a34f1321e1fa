"""Assignment of a user's measured times to the sections of fitted parameters that they can correct."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np

from asymsim.calibration.kernel_operators import kernel_rows
from asymsim.calibration.kernel_records import Record
from asymsim.calibration.user_rows import HEAD_SIZES, UserRows
from asymsim.catalogue.gpu import Gpu
from asymsim.catalogue.number_format import NUMBER_FORMATS, NumberFormat
from asymsim.core.arrays import Array
from asymsim.core.times.parameters import ELEMENTWISE_TIME, GEMM_TIME, GROUPED_TIME
from asymsim.core.times.row_time import time_class
from asymsim.estimator.gpu_arrays import GEMM_SECTION, MEASURED_FORMATS, SECTION_OF, gpu_arrays
from asymsim.estimator.operator_table import operator_times

# Rules by which a measured time corrects nothing.
LEFT_OUT = {
    "trial": "a trial of other block sizes",
    "other_kernel": "a kernel that no operator class stands for",
    "sliding_window": "a sliding window: another kernel",
    "ragged": "sequences of several lengths, which the simulator charges as several kernels",
    "grouped": "grouped products, which are predicted with the parameters of single ones",
    "several_classes": "work of several operator classes, none of them with nine tenths of the time",
    "format": "a number format whose times are not fitted",
    "head_size": "a head size that the class has no fitted parameters for",
    "repeated": "the same work measured more than once: the fastest variant is kept, the median of its times",
    "beats_roofline": "faster than peak and bandwidth allow",
}
# Kernels that stand for an operator class: libraries' products and attention, and kernels that only move bytes.
STANDING_FOR_A_CLASS = ("matmul", "prefill", "decode", "copy", "top_k", "merge_tokens", "compact")
# Share of a kernel's time from which its largest operator class stands for it.
DOMINANT = 0.9
# Fields of the first operator that make a shape group.
_GROUP_FIELDS = {GEMM_TIME: ("n", "k"), ELEMENTWISE_TIME: ("read_bytes", "write_bytes")}
_ATTENTION_GROUP_FIELDS = ("heads", "kv_heads", "k")

SectionClass = tuple[str, int]
TimesByVariant = dict[str, list[float]]


def user_section_rows(records: Sequence[Record], gpu: Gpu) -> tuple[dict[str, UserRows], Counter[str]]:
    """Measured times of a file by section, and the number left out by each rule of `LEFT_OUT`."""
    left_out: Counter[str] = Counter()
    # By section and class: operators of a kernel as bytes -> variant -> seconds.
    times: dict[SectionClass, dict[bytes, TimesByVariant]] = defaultdict(lambda: defaultdict(dict))
    operators_by_key: dict[bytes, Array] = {}
    for record in records:
        if record.metric != "seconds":
            continue
        operators = kernel_rows(
            record.operator, record.shape, NUMBER_FORMATS[record.dtype], fused=record.variant != "materialised"
        )
        section_class = _section_class(record, operators, gpu)
        if isinstance(section_class, str):
            left_out[section_class] += 1
            continue
        key = operators.tobytes()
        operators_by_key[key] = operators.copy()
        times[section_class][key].setdefault(record.variant, []).append(record.p50)
    rows_by_section = {}
    for (section, of_class), times_by_key in times.items():
        seconds = [min(median(values) for values in by_variant.values()) for by_variant in times_by_key.values()]
        measured = sum(len(values) for by_variant in times_by_key.values() for values in by_variant.values())
        left_out["repeated"] += measured - len(seconds)
        rows = _user_rows(section, of_class, gpu, [operators_by_key[key] for key in times_by_key], np.array(seconds))
        possible = rows.seconds >= rows.roofline_seconds(gpu_arrays(gpu, rows.dtype))
        left_out["beats_roofline"] += int((~possible).sum())
        rows = rows.keep(possible)
        if len(rows):
            rows_by_section[section] = rows
    return rows_by_section, +left_out


def _section_class(record: Record, operators: Array, gpu: Gpu) -> SectionClass | str:
    """Section and operator class of a record; the rule that leaves it out where it has none."""
    if "blocks" in record.shape:
        return "trial"
    if record.operator not in STANDING_FOR_A_CLASS or not len(operators):
        return "other_kernel"
    if record.shape.count("window", 0):
        return "sliding_window"
    classes = np.array([time_class(row) for row in operators])
    of_class = int(classes[0])
    if len(np.unique(classes)) > 1:
        seconds = operator_times(operators, gpu_arrays(gpu, rates_dtype(gpu)), 1)[0][:, 1]
        shares = np.bincount(classes, seconds) / seconds.sum()
        of_class = int(shares.argmax())
        if shares[of_class] < DOMINANT:
            return "several_classes"
    if of_class == GROUPED_TIME:
        return "grouped"
    if of_class == ELEMENTWISE_TIME:
        # Only bytes count, whatever their format.
        return SECTION_OF[of_class], of_class
    if of_class == GEMM_TIME:
        return (GEMM_SECTION[record.dtype], of_class) if record.dtype in MEASURED_FORMATS else "format"
    if record.dtype not in ("bf16", "fp16"):
        return "format"
    if len(operators) > 1:
        return "ragged"
    head_size = int(operators[0]["k"])
    return (SECTION_OF[of_class], of_class) if head_size in HEAD_SIZES[of_class] else "head_size"


def rates_dtype(gpu: Gpu, section: str = "") -> NumberFormat:
    """Number format at whose rates a section is predicted: fp8 for fp8 products, else 16 bits."""
    if section == "gemm_fp8":
        return NUMBER_FORMATS["fp8"]
    return NUMBER_FORMATS["bf16" if "bf16" in gpu.peak_flops_per_s else "fp16"]


def _user_rows(section: str, of_class: int, gpu: Gpu, operators: list[Array], seconds: Array) -> UserRows:
    lengths = np.array([len(row_operators) for row_operators in operators])
    all_operators = np.concatenate(operators)
    begin = np.cumsum(lengths) - lengths
    first_operators = all_operators[begin]
    fields = _GROUP_FIELDS.get(of_class, _ATTENTION_GROUP_FIELDS)
    shape_group = np.stack([first_operators[name] for name in fields], axis=1).astype(np.int64)
    return UserRows(
        section=section,
        time_class=of_class,
        gpu=gpu,
        dtype=rates_dtype(gpu, section),
        operators=all_operators,
        begin=begin,
        seconds=seconds,
        shape_group=shape_group,
    )
