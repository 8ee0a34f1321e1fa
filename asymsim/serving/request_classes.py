"""A setting and requests -> what each kind of request takes: tokens, cache, the method's own work."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.operators.table import kv_entry_bytes
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

# Which of a mixture's schedules a request gets follows from its index and this.
MIXTURE_SEED = 0x5EED


class RequestClasses(NamedTuple):
    """What requests have in common: records of ``layout.REQUEST_CLASS``, their caches, and the kind of each request.

    ``encoder`` and ``sharing`` are those of ``core.serving.layout.State``.
    """

    classes: Array
    caches: Array
    groups: Array
    encoder: Array
    batch_scaling: Array
    class_of: Array
    visual_tokens: Array
    activation_bytes: int


def request_classes(bound: ResolvedScenario, requests: Requests, server: EngineConfig) -> RequestClasses:
    """The kinds of requests that a setting makes of ``requests``."""
    shapes = request_shapes(bound, requests, max_context_tokens(bound, server))
    loads, number = shapes.loads, len(shapes.image_loads)
    shares = np.cumsum([share for share, _ in bound.schedules])
    drawn = uniform_samples(MIXTURE_SEED, 0, np.arange(len(requests), dtype=np.uint64)) * shares[-1]
    schedule = np.minimum(np.searchsorted(shares, drawn, side="right"), len(shares) - 1)
    arrays = [each for _, each in bound.schedules]
    groups, segments = _groups(bound.model_arrays, bound.precision, arrays)
    classes = np.zeros((len(arrays), len(loads)), layout.REQUEST_CLASS)
    caches = np.zeros((len(arrays), len(loads), len(groups)), layout.CACHE)
    activation_bytes = 0
    for at, each in enumerate(arrays):
        work = workspace(bound.model_arrays, each, MEMO_ENTRIES_SWEEP)
        describe_requests(bound.model_arrays, each, loads, work, groups, segments[at], classes[at], caches[at])
        counts, seconds = batch_estimates(bound, each, loads)
        classes[at]["encoder_row"], classes[at]["schedule"] = at * number + shapes.images, at
        classes[at]["selection_ticks"] = ticks(seconds["selection_s"])
        classes[at]["decode_selection_ticks"] = _decode_selection(bound, each, loads, seconds)
        classes[at]["selects_with_encoder"] = len(each.operations) > 0 and bool(
            (each.operations["stage"] <= ENCODER_END).all()
        )
        classes[at]["chunkable"] = server.chunked_prefill and not prunes_in_language_model(each)
        alive_bytes = counts["activation_bytes"]
        classes[at]["activations_fit"] = alive_bytes <= activation_limit(bound, server, alive_bytes[shapes.of])
        activation_bytes = max(activation_bytes, int(alive_bytes[classes[at]["activations_fit"] == 1].max(initial=0)))
    classes["context_tokens"] = shapes.context
    classes["embedding_bytes"] *= bound.precision.activation_bits
    classes["embedding_bytes"] //= 8
    usual = loads[np.bincount(shapes.of).argmax()] if len(requests) else np.array(NO_TOKENS)
    return RequestClasses(
        classes=classes.reshape(-1),
        caches=caches.reshape(-1, len(groups)),
        groups=groups,
        encoder=np.concatenate([_encoder(bound, each, shapes) for each in arrays]),
        batch_scaling=np.stack([_batch_scaling(bound, each, usual) for each in arrays]),
        class_of=schedule * len(loads) + shapes.of,
        visual_tokens=shapes.visual_tokens[shapes.of],
        activation_bytes=activation_bytes,
    )


def prunes_in_language_model(schedule: ScheduleArrays) -> bool:
    """Whether tokens leave after the language model's first layer: its prompt must then be prefilled as a whole."""
    steps = schedule.pruning_steps
    return bool(((steps["stage"] == LM) & (steps["segment"] > 0)).any())


def _encoder(bound: ResolvedScenario, schedule: ScheduleArrays, shapes: RequestShapes) -> Array:
    """Ticks of encoding each image of 1, 2, 4 ... requests at once, shape (images, powers)."""
    loads = np.repeat(shapes.image_loads, len(shapes.together), axis=0)
    loads[:, TEXT] = loads[:, OUTPUT] = 1
    loads[:, BATCH] = np.tile(shapes.together, len(shapes.image_loads))
    return ticks(batch_estimates(bound, schedule, loads)[1]["vision_s"]).reshape(-1, len(shapes.together))


def _decode_selection(
    bound: ResolvedScenario, schedule: ScheduleArrays, loads: Array, seconds: dict[str, Array]
) -> Array:
    """Ticks of the method's own work in all decode steps of each load, whose times are ``seconds``."""
    deciding = schedule.operations["stage"] == DECODING
    if not deciding.any():
        return np.zeros(len(loads), np.int64)
    without = batch_estimates(bound, schedule._replace(operations=schedule.operations[~deciding]), loads)[1]
    return ticks(seconds["decode_s"] - without["decode_s"])


def _batch_scaling(bound: ResolvedScenario, schedule: ScheduleArrays, usual: Array) -> Array:
    """What the method's work on each of 1, 2, 4 ... requests takes of what it takes alone, shape (2, powers).

    Taken from the usual load: how far kernels fill the GPU depends little on which of a workload's requests it is.
    """
    made = np.full((2, len(BATCH_SIZES)), layout.SHARE_UNIT, np.int64)
    if len(schedule.operations) == 0:
        return made
    loads = np.repeat(usual[None], len(BATCH_SIZES), axis=0)
    loads[:, BATCH] = BATCH_SIZES
    # Longer ones would leave 64 bits in the largest batch.
    loads[:, TEXT], loads[:, OUTPUT] = min(8192, usual[TEXT]), min(512, usual[OUTPUT])
    seconds = batch_estimates(bound, schedule, loads)[1]
    both = ticks(seconds["selection_s"]), _decode_selection(bound, schedule, loads, seconds)
    for row, taken in enumerate(both):
        if taken[0] > 0:
            made[row] = np.rint(layout.SHARE_UNIT * (taken / BATCH_SIZES / taken[0]))
    return made


def _groups(model: ModelArrays, precision: Precision, schedules: list[ScheduleArrays]) -> tuple[Array, Array]:
    """Layers that are alike under all schedules, and the segment of each schedule that stands for each group."""
    layer_kinds = np.argmax(np.diff(model.lm_prefix, axis=0), axis=1)
    alike: dict[tuple[int, tuple[object, ...]], list[int]] = {}
    for layer, kind in enumerate(layer_kinds.tolist()):
        alike.setdefault((kind, tuple(_treatment(each, layer) for each in schedules)), []).append(layer)
    groups = np.zeros(len(alike), layout.GROUP)
    for group, ((kind, _), layers) in zip(groups, alike.items(), strict=True):
        group["layer_kind"], group["layers"] = kind, len(layers)
        group["entry_bytes"] = kv_entry_bytes(model.lm_kinds[kind], len(layers), precision)
    segments = [[_segment(each, layers[0]) for layers in alike.values()] for each in schedules]
    return groups, np.array(segments, np.int64)


def _segment(schedule: ScheduleArrays, layer: int) -> int:
    return int(np.searchsorted(schedule.lm_starts, layer, side="right")) - 1


def _treatment(schedule: ScheduleArrays, layer: int) -> tuple[object, ...]:
    """What a schedule does to the tokens of a layer: steps before it, its cache's rule, its attention."""
    segment, steps = _segment(schedule, layer), schedule.pruning_steps
    before = int(((steps["stage"] == LM) & (steps["segment"] <= segment)).sum())
    return before, schedule.kv_rule[segment].tobytes(), int(schedule.lm_unfused[segment])
