"""Views that are not reference-counted.

numba counts references to an array each time it is taken out of a tuple, with an atomic operation
that costs more than most of what the kernels then do with it. The caller of an entry point holds
its arrays for the whole call, so inside it they can be borrowed.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils
from numba.extending import intrinsic, overload

from asymsim.core.arrays import Array
from asymsim.core.jit import inlined
from asymsim.core.model_arrays import ModelArrays
from asymsim.core.schedule_arrays import ScheduleArrays
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.workspace import Workspace


def borrow(array: Array) -> Array:
    """The same array; inside a kernel, without an owner."""
    return array


@intrinsic
def _without_owner(_context: Any, array: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), codegen


@overload(borrow, inline="always")
def _borrow(array: Any) -> Any:
    # numba compares the two signatures, annotations included.
    def implementation(array: Any) -> Any:
        return _without_owner(array)

    return implementation


@inlined
def borrow_model(model: ModelArrays) -> ModelArrays:
    """A model's arrays, borrowed."""
    return ModelArrays(
        borrow(model.tower_kinds),
        borrow(model.tower_prefix),
        model.patch_inputs,
        model.tower_hidden_size,
        model.tower_framework_flops,
        model.extra_tokens,
        borrow(model.linears),
        model.resampler_heads,
        model.resampler_head_size,
        borrow(model.lm_kinds),
        borrow(model.lm_prefix),
        model.hidden_size,
        model.vocab_size,
        model.mask,
        model.visual_in_sequence,
    )


@inlined
def borrow_schedule(schedule: ScheduleArrays) -> ScheduleArrays:
    """A schedule's arrays, borrowed."""
    return ScheduleArrays(
        borrow(schedule.tower_starts),
        borrow(schedule.tower_unfused),
        borrow(schedule.lm_starts),
        borrow(schedule.lm_unfused),
        borrow(schedule.kv_rule),
        borrow(schedule.pruning_steps),
        borrow(schedule.operations),
        schedule.full_head_num,
        schedule.full_head_den,
        schedule.budget_in_decoding,
        schedule.eviction_threshold_tokens,
        schedule.retain_num,
        schedule.retain_den,
        borrow(schedule.literals),
    )


@inlined
def borrow_workspace(work: Workspace) -> Workspace:
    """A workspace's arrays, borrowed."""
    return Workspace(
        borrow(work.operators),
        borrow(work.tower_counts),
        borrow(work.lm_counts),
        borrow(work.end),
        borrow(work.kv),
        borrow(work.totals),
        borrow(work.symbols),
        borrow(work.seconds),
        borrow(work.sources),
        borrow(work.phase_flops),
        borrow(work.memo),
        borrow(work.words),
        borrow(work.last),
        borrow(work.last_s),
        borrow(work.last_codes),
        borrow(work.stamp),
    )


@inlined
def borrow_gpu(gpu: GpuArrays) -> GpuArrays:
    """A GPU's arrays, borrowed."""
    return GpuArrays(
        gpu.flops_per_s,
        gpu.activation_flops_per_s,
        gpu.vector_flops_per_s,
        gpu.bandwidth_bytes_per_s,
        gpu.link_bytes_per_s,
        gpu.l2_bytes,
        gpu.sm_count,
        gpu.input_bytes,
        gpu.weight_bytes,
        gpu.host_s,
        gpu.host_p05,
        gpu.host_p95,
        borrow(gpu.gemm),
        borrow(gpu.prefill_attention),
        borrow(gpu.decode_attention),
        borrow(gpu.encoder_attention),
        borrow(gpu.elementwise),
        borrow(gpu.all_reduce),
        borrow(gpu.intervals),
        borrow(gpu.sources),
        gpu.stamp,
    )
