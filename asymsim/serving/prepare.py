"""A scenario and requests -> the arrays of a simulation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core import layout as core
from asymsim.core.estimate import COUNTS, MANY, TIMES, evaluate_rows, workspace
from asymsim.core.layout import DECODING, ENCODER_END, Array, ModelArrays, Precision, ScheduleArrays
from asymsim.core.machine import TICKS_PER_S
from asymsim.core.operators import kv_entry_bytes
from asymsim.core.serving import layout
from asymsim.core.serving.kinds import describe
from asymsim.estimation import Setting, check_countable
from asymsim.serving.requests import BY_SIZE, TYPICAL, Requests
from asymsim.sweep.draws import uniform
from asymsim.workload import Workload, workload

# Which of a mixture's schedules a request gets follows from its index and this.
MIXTURE_SEED = 0x5EED


class Kinds(NamedTuple):
    """What requests have in common: records of ``layout.KIND``, their caches, and the kind of each request."""

    kinds: Array
    caches: Array
    groups: Array
    of: Array
    visual_tokens: Array
    activation_bytes: int


def kinds_of(bound: Setting, requests: Requests, chunked_prefill: bool) -> Kinds:
    """The kinds of requests that a setting makes of ``requests``."""
    loads, shapes = loads_of(bound, requests)
    shares = np.cumsum([share for share, _ in bound.schedules])
    drawn = uniform(MIXTURE_SEED, 0, np.arange(len(requests), dtype=np.uint64)) * shares[-1]
    schedule = np.minimum(np.searchsorted(shares, drawn, side="right"), len(shares) - 1)
    arrays = [each for _, each in bound.schedules]
    groups, segments = _groups(bound.model_arrays, bound.precision, arrays)
    kinds = np.zeros((len(arrays), len(loads)), layout.KIND)
    caches = np.zeros((len(arrays), len(loads), len(groups)), layout.CACHE)
    activation_bytes = 0
    for at, each in enumerate(arrays):
        work = workspace(bound.model_arrays, each, MANY)
        describe(bound.model_arrays, each, loads, work, groups, segments[at], kinds[at], caches[at])
        counts, seconds = evaluated(bound, each, loads)
        kinds[at]["encoder_ticks"] = _ticks(seconds["vision_s"])
        kinds[at]["selection_ticks"] = _ticks(seconds["selection_s"])
        deciding = each.operations["stage"] == DECODING
        if deciding.any():
            without = evaluated(bound, each._replace(operations=each.operations[~deciding]), loads)[1]
            kinds[at]["decode_selection_ticks"] = _ticks(seconds["decode_s"] - without["decode_s"])
        kinds[at]["early"] = len(each.operations) > 0 and bool((each.operations["stage"] <= ENCODER_END).all())
        kinds[at]["splits"] = chunked_prefill and not prunes_inside(each)
        activation_bytes = max(activation_bytes, int(counts["activation_bytes"].max(initial=0)))
    kinds["embedding_bytes"] *= bound.precision.activation_bits
    kinds["embedding_bytes"] //= 8
    return Kinds(
        kinds=kinds.reshape(-1),
        caches=caches.reshape(-1, len(groups)),
        groups=groups,
        of=schedule * len(loads) + shapes,
        visual_tokens=loads[shapes, core.Load._fields.index("visual_tokens")],
        activation_bytes=activation_bytes,
    )


def prunes_inside(schedule: ScheduleArrays) -> bool:
    """Whether tokens leave after the language model's first layer: its prompt must then be prefilled as a whole."""
    steps = schedule.steps
    return bool(((steps["stage"] == core.LM) & (steps["segment"] > 0)).any())


def _ticks(seconds: Array) -> Array:
    return np.rint(seconds * TICKS_PER_S).astype(np.int64)


def evaluated(bound: Setting, schedule: ScheduleArrays, loads: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Counts and times of each load, by name, without what an engine's host adds to a step."""
    counts, times = np.empty((len(loads), len(COUNTS)), np.int64), np.empty((len(loads), len(TIMES)))
    work = workspace(bound.model_arrays, schedule, MANY)
    gpu = bound.gpu_arrays._replace(host_s=0.0)
    evaluate_rows(bound.model_arrays, schedule, loads, bound.precision, gpu, work, counts, times)
    return dict(zip(COUNTS, counts.T, strict=True)), dict(zip(TIMES, times.T, strict=True))


def loads_of(bound: Setting, requests: Requests) -> tuple[Array, Array]:
    """The different loads among the requests, shape (loads, 10), and the load of each request."""
    images, image_of = _distinct(
        requests.num_images, requests.image_height, requests.image_width, requests.visual_tokens
    )
    shapes, shape_of = _distinct(image_of, requests.text_tokens, requests.output_tokens)
    loads = np.empty((len(shapes), len(core.Load._fields)), np.int64)
    one = [_workload(bound, *map(int, image)) for image in images]
    for image, load in enumerate(one):
        check_countable(bound, load)
        loads[shapes[:, 0] == image] = load.load()
    loads[:, core.Load._fields.index("text_tokens")] = shapes[:, 1]
    loads[:, core.Load._fields.index("output_tokens")] = shapes[:, 2]
    return loads, shape_of


def _workload(bound: Setting, num_images: int, height: int, width: int, visual_tokens: int) -> Workload:
    return workload(
        bound.model,
        num_images=num_images if bound.model.image_rule else None,
        image_height=None if height == TYPICAL or visual_tokens != BY_SIZE else height,
        image_width=None if width == TYPICAL or visual_tokens != BY_SIZE else width,
        visual_tokens=None if visual_tokens == BY_SIZE else visual_tokens,
    )


def _distinct(*columns: Array) -> tuple[Array, Array]:
    """The different rows of some columns, and the row of each entry: far quicker than a sort of whole rows."""
    found, of = [np.zeros(1, np.int64)], np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, places = np.unique(column, return_inverse=True)
        keys, of = np.unique(of * len(values) + places, return_inverse=True)
        found = [each[keys // len(values)] for each in found] + [values[keys % len(values)]]
    return np.stack(found[1:], axis=1), of


def _groups(model: ModelArrays, precision: Precision, schedules: list[ScheduleArrays]) -> tuple[Array, Array]:
    """Layers that are alike under all schedules, and the segment of each schedule that stands for each group."""
    kinds = np.argmax(np.diff(model.lm_prefix, axis=0), axis=1)
    alike: dict[tuple[int, tuple[object, ...]], list[int]] = {}
    for layer, kind in enumerate(kinds.tolist()):
        alike.setdefault((kind, tuple(_treatment(each, layer) for each in schedules)), []).append(layer)
    groups = np.zeros(len(alike), layout.GROUP)
    for group, ((kind, _), layers) in zip(groups, alike.items(), strict=True):
        group["kind"], group["layers"] = kind, len(layers)
        group["entry_bytes"] = kv_entry_bytes(model.lm_kinds[kind], len(layers), precision)
    segments = [[_segment(each, layers[0]) for layers in alike.values()] for each in schedules]
    return groups, np.array(segments, np.int64)


def _segment(schedule: ScheduleArrays, layer: int) -> int:
    return int(np.searchsorted(schedule.lm_starts, layer, side="right")) - 1


def _treatment(schedule: ScheduleArrays, layer: int) -> tuple[object, ...]:
    """What a schedule does to the tokens of a layer: steps before it, its cache's rule, its attention."""
    segment, steps = _segment(schedule, layer), schedule.steps
    before = int(((steps["stage"] == core.LM) & (steps["segment"] <= segment)).sum())
    return before, schedule.kv_rule[segment].tobytes(), int(schedule.lm_unfused[segment])
