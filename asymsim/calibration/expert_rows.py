"""Measured rows of mixtures of experts, predicted as two grouped products and the gate between them."""

from __future__ import annotations

import numpy as np

from asymsim.calibration import batch_times
from asymsim.calibration.measured_tables import table_path
from asymsim.calibration.shape_groups import MeasuredRows, assemble, hardware_bounds
from asymsim.calibration.table_rows import medians, read_table
from asymsim.catalogue.gpu import Gpu
from asymsim.catalogue.number_format import number_format
from asymsim.core.arrays import Array
from asymsim.core.operators.layer_rows import touched_experts
from asymsim.core.times.device import Device
from asymsim.estimator.gpu_arrays import gpu_arrays

_SHAPE = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size")


def expert_rows(gpu: Gpu, framework: str) -> MeasuredRows | None:
    """Fused experts in bf16, all on one GPU; a row's time is half of the kernel's, the mean of the two products.

    The kernel also sorts the tokens by expert and adds up their results, which the prediction leaves out: it uses the
    GPU's parameters of single products, so a fit gives residuals alone. Routing is predicted as uniform; the tables
    have balanced and skewed routing.
    """
    path = table_path(gpu.name, "grouped_gemm", framework)
    if path is None:
        return None
    rows = read_table(path, (*_SHAPE, "moe_ep_size"), ("distribution",), {"moe_dtype": "bfloat16"})
    rows = rows.drop("spread_experts", rows["moe_ep_size"] > 1)
    rows = medians(rows, (*_SHAPE, "distribution"))
    rows.columns["seconds"] = rows["seconds"] / 2.0
    tokens, hidden, intermediate, active, experts, tp_size = rows.floats(*_SHAPE)
    width = np.ceil(intermediate / tp_size)
    routings = zip(tokens, active, experts, strict=True)
    touched = np.array([touched_experts(int(t), int(a), int(e)) for t, a, e in routings], np.float64)
    tokens_per_expert = np.ceil(tokens * active / np.maximum(touched, 1.0))
    gate_bytes = 2.0 * tokens * active * 3.0 * width
    arrays = gpu_arrays(gpu, number_format("bf16"))
    device = Device(arrays.flops_per_s, arrays.bandwidth_bytes_per_s, arrays.l2_bytes, arrays.sm_count)

    def many(shapes: Array, _parameters: Array, out: Array) -> None:
        batch_times.expert_times(shapes, device, arrays.gemm[1:], arrays.elementwise, out)

    # Skewed routing may send every token to the experts of one token: only the weights of these are sure to be read.
    moved_bytes = 3.0 * np.minimum(active, experts) * hidden * width
    columns = {
        "tokens_per_expert": tokens_per_expert,
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
        bounds_s=hardware_bounds(device, 3.0 * tokens * active * hidden * width, moved_bytes),
        many=many,
    )
