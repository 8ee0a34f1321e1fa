"""Request classes: token counts, KV cache and selection work of all requests that share a shape and a schedule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.attention_rows import kv_entry_bytes
from asymsim.core.schedule_arrays import DECODING, ENCODER_END, LM, ScheduleArrays
from asymsim.core.serving import layout
from asymsim.core.serving.request_classes import describe_requests
from asymsim.core.workspace import MEMO_ENTRIES_SWEEP, workspace
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.serving.batch_estimates import batch_estimates, ticks
from asymsim.serving.capacity import activation_limit
from asymsim.serving.config import EngineConfig
from asymsim.serving.request_shapes import (
    BATCH,
    BATCH_SIZES,
    NO_TOKENS,
    OUTPUT,
    TEXT,
    RequestShapes,
    max_context_tokens,
    request_shapes,
)
from asymsim.serving.workload.requests import Requests
from asymsim.util.sampling import uniform_samples

# Seed of the schedule that each request gets from an adaptive method's mixture, beside the request's index.
MIXTURE_SEED = 0x5EED


class RequestClasses(NamedTuple):
    """Classes of requests, and the class of each request.

    Attributes
    ----------
    classes : numpy.ndarray of ``layout.REQUEST_CLASS``, shape (classes,)
    caches : numpy.ndarray of ``layout.CACHE``, shape (classes, groups)
    groups : numpy.ndarray of ``layout.GROUP``, shape (groups,)
        Layers that are alike under all schedules.
    encoder_ticks, batch_scaling : numpy.ndarray of int64
        As in ``core.serving.layout.State``.
    class_of : numpy.ndarray of int64, shape (requests,)
        Row of each request's class.
    visual_tokens : numpy.ndarray of int64, shape (requests,)
        Visual tokens before pruning.
    activation_bytes : int
        Most activation bytes of one request.
    """

    classes: Array
    caches: Array
    groups: Array
    encoder_ticks: Array
    batch_scaling: Array
    class_of: Array
    visual_tokens: Array
    activation_bytes: int


def request_classes(resolved: ResolvedScenario, requests: Requests, engine_config: EngineConfig) -> RequestClasses:
    """Classes of ``requests`` under a scenario: one for each schedule and request shape."""
    shapes = request_shapes(resolved, requests, max_context_tokens(resolved, engine_config))
    token_counts, num_images = shapes.token_counts, len(shapes.image_token_counts)
    schedules = [schedule for _, schedule in resolved.schedules]
    groups, segments = _groups(resolved.model_arrays, resolved.precision, schedules)
    classes = np.zeros((len(schedules), len(token_counts)), layout.REQUEST_CLASS)
    caches = np.zeros((len(schedules), len(token_counts), len(groups)), layout.CACHE)
    activation_bytes = 0
    for index, schedule in enumerate(schedules):
        row = classes[index]
        space = workspace(resolved.model_arrays, schedule, MEMO_ENTRIES_SWEEP)
        describe_requests(
            resolved.model_arrays, schedule, token_counts, space, groups, segments[index], row, caches[index]
        )
        counts, seconds = batch_estimates(resolved, schedule, token_counts)
        row["encoder_row"], row["schedule"] = index * num_images + shapes.image_index, index
        row["selection_ticks"] = ticks(seconds["selection_s"])
        row["decode_selection_ticks"] = _decode_selection_ticks(resolved, schedule, token_counts, seconds)
        row["selects_with_encoder"] = selects_with_encoder(schedule)
        row["chunkable"] = engine_config.chunked_prefill and not prunes_in_language_model(schedule)
        by_shape = counts["activation_bytes"]
        row["activations_fit"] = by_shape <= activation_limit(resolved, engine_config, by_shape[shapes.shape_of])
        activation_bytes = max(activation_bytes, int(by_shape[row["activations_fit"] == 1].max(initial=0)))
    classes["context_tokens"] = shapes.context_tokens
    classes["embedding_bytes"] *= resolved.precision.activation_bits
    classes["embedding_bytes"] //= 8
    typical = token_counts[np.bincount(shapes.shape_of).argmax()] if len(requests) else np.array(NO_TOKENS)
    return RequestClasses(
        classes=classes.reshape(-1),
        caches=caches.reshape(-1, len(groups)),
        groups=groups,
        encoder_ticks=np.concatenate([_encoder_ticks(resolved, schedule, shapes) for schedule in schedules]),
        batch_scaling=np.stack([_batch_scaling(resolved, schedule, typical) for schedule in schedules]),
        class_of=_schedule_of(resolved, len(requests)) * len(token_counts) + shapes.shape_of,
        visual_tokens=shapes.visual_tokens[shapes.shape_of],
        activation_bytes=activation_bytes,
    )


def _schedule_of(resolved: ResolvedScenario, num_requests: int) -> Array:
    """Index of each request's schedule, sampled with the shares of the mixture."""
    cumulative = np.cumsum([share for share, _ in resolved.schedules])
    samples = uniform_samples(MIXTURE_SEED, 0, np.arange(num_requests, dtype=np.uint64)) * cumulative[-1]
    schedule_of: Array = np.minimum(np.searchsorted(cumulative, samples, side="right"), len(cumulative) - 1)
    return schedule_of


def selects_with_encoder(schedule: ScheduleArrays) -> bool:
    """Whether a method has selection operators, all of them at the encoder or at its end."""
    return len(schedule.operations) > 0 and bool((schedule.operations["stage"] <= ENCODER_END).all())


def prunes_in_language_model(schedule: ScheduleArrays) -> bool:
    """Whether tokens are pruned after the language model's first layer, so that prompts must be prefilled whole."""
    steps = schedule.pruning_steps
    return bool(((steps["stage"] == LM) & (steps["segment"] > 0)).any())


def _encoder_ticks(resolved: ResolvedScenario, schedule: ScheduleArrays, shapes: RequestShapes) -> Array:
    """Ticks to encode the like images of 1, 2, 4 ... requests at once, shape (images, batch sizes)."""
    token_counts = np.repeat(shapes.image_token_counts, len(shapes.encoder_batch_sizes), axis=0)
    token_counts[:, TEXT] = token_counts[:, OUTPUT] = 1
    token_counts[:, BATCH] = np.tile(shapes.encoder_batch_sizes, len(shapes.image_token_counts))
    seconds = batch_estimates(resolved, schedule, token_counts)[1]
    return ticks(seconds["vision_s"]).reshape(-1, len(shapes.encoder_batch_sizes))


def _decode_selection_ticks(
    resolved: ResolvedScenario, schedule: ScheduleArrays, token_counts: Array, seconds: dict[str, Array]
) -> Array:
    """Ticks of the method's selection in all decode steps, for each row of counts, whose times are ``seconds``."""
    in_decode = schedule.operations["stage"] == DECODING
    if not in_decode.any():
        return np.zeros(len(token_counts), np.int64)
    without = batch_estimates(resolved, schedule._replace(operations=schedule.operations[~in_decode]), token_counts)[1]
    return ticks(seconds["decode_s"] - without["decode_s"])


def _batch_scaling(resolved: ResolvedScenario, schedule: ScheduleArrays, typical: Array) -> Array:
    """Batch scaling of selection before and in decoding, shape (2, batch sizes).

    The ticks for each request in a batch of 1, 2, 4 ... over the ticks of a request alone. They are those of the most
    frequent shape: how far kernels fill the GPU varies little among a workload's requests.
    """
    scaling = np.full((2, len(BATCH_SIZES)), layout.SHARE_UNIT, np.int64)
    if len(schedule.operations) == 0:
        return scaling
    token_counts = np.repeat(typical[None], len(BATCH_SIZES), axis=0)
    token_counts[:, BATCH] = BATCH_SIZES
    # Longer prompts and outputs would exceed 64 bits in the largest batch.
    token_counts[:, TEXT], token_counts[:, OUTPUT] = min(8192, typical[TEXT]), min(512, typical[OUTPUT])
    seconds = batch_estimates(resolved, schedule, token_counts)[1]
    parts = ticks(seconds["selection_s"]), _decode_selection_ticks(resolved, schedule, token_counts, seconds)
    for row, batch_ticks in enumerate(parts):
        if batch_ticks[0] > 0:
            scaling[row] = np.rint(layout.SHARE_UNIT * (batch_ticks / BATCH_SIZES / batch_ticks[0]))
    return scaling


def _groups(model: ModelArrays, precision: Precision, schedules: list[ScheduleArrays]) -> tuple[Array, Array]:
    """Groups of layers that are alike under all schedules, and the segment of each schedule for each group."""
    layer_kinds = np.argmax(np.diff(model.lm_prefix, axis=0), axis=1)
    layers_by_treatment: dict[tuple[int, tuple[object, ...]], list[int]] = {}
    for layer, kind in enumerate(layer_kinds.tolist()):
        treatment = tuple(_treatment(schedule, layer) for schedule in schedules)
        layers_by_treatment.setdefault((kind, treatment), []).append(layer)
    groups = np.zeros(len(layers_by_treatment), layout.GROUP)
    for group, ((kind, _), layers) in zip(groups, layers_by_treatment.items(), strict=True):
        group["layer_kind"], group["layers"] = kind, len(layers)
        group["entry_bytes"] = kv_entry_bytes(model.lm_kinds[kind], len(layers), precision)
    segments = [[_segment(schedule, layers[0]) for layers in layers_by_treatment.values()] for schedule in schedules]
    return groups, np.array(segments, np.int64)


def _segment(schedule: ScheduleArrays, layer: int) -> int:
    return int(np.searchsorted(schedule.lm_starts, layer, side="right")) - 1


def _treatment(schedule: ScheduleArrays, layer: int) -> tuple[object, ...]:
    """Treatment of a layer's tokens by a schedule: pruning steps up to it, its KV rule, its attention kernel."""
    segment, steps = _segment(schedule, layer), schedule.pruning_steps
    pruning_steps = int(((steps["stage"] == LM) & (steps["segment"] <= segment)).sum())
    return pruning_steps, schedule.kv_rule[segment].tobytes(), int(schedule.lm_unfused[segment])
