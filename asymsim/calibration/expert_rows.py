"""Measured mixtures of experts, predicted as the simulator charges them: two grouped products and a gate."""

from __future__ import annotations

import numpy as np

from asymsim.calibration import batch_times, measured_tables
from asymsim.calibration.shape_groups import MeasuredRows, assemble, hardware_bounds
from asymsim.catalogue.gpu import Gpu
from asymsim.catalogue.number_format import number_format
from asymsim.core.arrays import Array
from asymsim.core.operators.rows import touched_experts
from asymsim.core.times.device import Device
from asymsim.estimator.gpu_arrays import gpu_arrays

_SHAPE = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size")


def expert_rows(device: Gpu, framework: str) -> MeasuredRows | None:
    """Fused experts in bf16, all on one GPU; times are those of one of the two products, the mean of both.

    The kernel's time includes sorting the tokens by expert and adding up their results, the prediction does not:
    it stands on the GPU's numbers for single products, so only residuals come of it. Routing is predicted as
    uniform; the tables hold balanced and skewed ones.
    """
    path = measured_tables.table_path(device.name, "grouped_gemm", framework)
    if path is None:
        return None
    rows = measured_tables.read_table(path, (*_SHAPE, "moe_ep_size"), ("distribution",), {"moe_dtype": "bfloat16"})
    rows = rows.drop("spread_experts", rows["moe_ep_size"] > 1)
    rows = measured_tables.medians(rows, (*_SHAPE, "distribution"))
    rows.columns["seconds"] = rows["seconds"] / 2.0
    tokens, hidden, inter, active, experts, parts = rows.floats(*_SHAPE)
    width = np.ceil(inter / parts)
    shapes = zip(tokens, active, experts, strict=True)
    touched = np.array([touched_experts(int(t), int(a), int(e)) for t, a, e in shapes], np.float64)
    each = np.ceil(tokens * active / np.maximum(touched, 1.0))
    gate_bytes = 2.0 * tokens * active * 3.0 * width
    arrays = gpu_arrays(device, number_format("bf16"))
    machine = Device(arrays.flops_per_s, arrays.bandwidth_bytes_per_s, arrays.l2_bytes, arrays.sm_count)

    def many(shapes: Array, numbers: Array, out: Array) -> None:
        batch_times.expert_times(shapes, machine, arrays.gemm[1:], arrays.elementwise, out)

    # Skewed routing may leave all but the experts of one token untouched: only their weights are sure to move.
    moved_bytes = 3.0 * np.minimum(active, experts) * hidden * width
    columns = {
        "each": each,
        "touched": touched,
        "hidden": hidden,
        "width": width,
        "gate_bytes": gate_bytes,
        "experts": experts,
        "active": active,
        "distribution": np.unique(rows["distribution"], return_inverse=True)[1].astype(np.float64),
        "tokens": tokens,
    }
    return assemble(
        rows,
        columns,
        shape_group=("hidden", "width", "experts"),
        runs=("hidden", "width", "experts", "active", "distribution", "tokens"),
        bounds_s=hardware_bounds(machine, 3.0 * tokens * active * hidden * width, moved_bytes),
        many=many,
    )
