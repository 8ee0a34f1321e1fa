"""A scenario and requests -> the arrays of a simulation."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from asymsim.core import layout as core
from asymsim.core.estimate import COUNTS, MANY, TIMES, evaluate_rows, workspace
from asymsim.core.layout import DECODING, ENCODER_END, Array, ModelArrays, Precision, ScheduleArrays
from asymsim.core.machine import TICKS_PER_S
from asymsim.core.operators import kv_entry_bytes
from asymsim.core.serving import layout
from asymsim.core.serving.kinds import describe
from asymsim.errors import InputError
from asymsim.estimation import Setting, check_countable
from asymsim.memory import WORKSPACE_BYTES, weights_bytes
from asymsim.serving.requests import BY_SIZE, TYPICAL, Requests
from asymsim.serving.server import Server
from asymsim.sweep.draws import uniform
from asymsim.workload import Workload, workload

# Numbers of requests that are timed together. Images only as long as there are fewer kinds of them than that: hardly
# two alike would meet in a step.
TOGETHER = 2 ** np.arange(9)
FEW_IMAGES = 2000
_VISUAL, _TEXT, _OUTPUT, _BATCH = (
    core.Load._fields.index(name) for name in ("visual_tokens", "text_tokens", "output_tokens", "batch_size")
)
_NOTHING = core.Load(0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
# Of the memory beside the weights; our choice. Beyond, one request with stored attention weights would leave next to no
# cache to all others.
LARGEST_ACTIVATION_SHARE = 0.5
# Which of a mixture's schedules a request gets follows from its index and this.
MIXTURE_SEED = 0x5EED


class Kinds(NamedTuple):
    """What requests have in common: records of ``layout.KIND``, their caches, and the kind of each request.

    ``encoder`` and ``sharing`` are those of ``core.serving.layout.State``.
    """

    kinds: Array
    caches: Array
    groups: Array
    encoder: Array
    sharing: Array
    of: Array
    visual_tokens: Array
    activation_bytes: int


def kinds_of(bound: Setting, requests: Requests, server: Server) -> Kinds:
    """The kinds of requests that a setting makes of ``requests``."""
    shapes = _shapes(bound, requests, context_tokens(bound, server))
    loads, number = shapes.loads, len(shapes.image_loads)
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
        kinds[at]["images"], kinds[at]["schedule"] = at * number + shapes.images, at
        kinds[at]["selection_ticks"] = _ticks(seconds["selection_s"])
        kinds[at]["decode_selection_ticks"] = _decode_selection(bound, each, loads, seconds)
        kinds[at]["early"] = len(each.operations) > 0 and bool((each.operations["stage"] <= ENCODER_END).all())
        kinds[at]["splits"] = server.chunked_prefill and not prunes_inside(each)
        alive_bytes = counts["activation_bytes"]
        kinds[at]["fits"] = alive_bytes <= activation_limit(bound, server, alive_bytes[shapes.of])
        activation_bytes = max(activation_bytes, int(alive_bytes[kinds[at]["fits"] == 1].max(initial=0)))
    kinds["context"] = shapes.context
    kinds["embedding_bytes"] *= bound.precision.activation_bits
    kinds["embedding_bytes"] //= 8
    usual = loads[np.bincount(shapes.of).argmax()] if len(requests) else np.array(_NOTHING)
    return Kinds(
        kinds=kinds.reshape(-1),
        caches=caches.reshape(-1, len(groups)),
        groups=groups,
        encoder=np.concatenate([_encoder(bound, each, shapes) for each in arrays]),
        sharing=np.stack([_sharing(bound, each, usual) for each in arrays]),
        of=schedule * len(loads) + shapes.of,
        visual_tokens=shapes.visual_tokens[shapes.of],
        activation_bytes=activation_bytes,
    )


def free_bytes(bound: Setting, server: Server) -> float:
    """What weights and workspace leave of each GPU's memory."""
    usable = server.gpu_memory_utilization * bound.gpu.capacity_bytes - WORKSPACE_BYTES
    return usable - weights_bytes(bound.model, bound.precision)


def activation_limit(bound: Setting, server: Server, activation_bytes: Array) -> float:
    """The most that one request's activations may take, of which the requests have ``activation_bytes``.

    The usual request is not refused: if it leaves no cache, the model does not fit, and that is told elsewhere.
    """
    if server.kv_cache_bytes is not None or not len(activation_bytes):
        return np.inf
    return max(LARGEST_ACTIVATION_SHARE * free_bytes(bound, server), float(np.median(activation_bytes)))


def context_tokens(bound: Setting, server: Server) -> int:
    """The longest sequence, prompt and output, that is served."""
    return server.max_model_len or bound.model.language_model.context_tokens or layout.NEVER


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


class _Shapes(NamedTuple):
    """The different loads among the requests, shape (loads, 10), and the load of each request.

    ``image_loads`` are those of the different images, of which ``together`` are timed at once; ``images`` (loads) the
    one that each load has, ``context`` (loads) the positions that it takes. What is too long for the model stands there
    as one token of text.
    """

    image_loads: Array
    together: Array
    images: Array
    loads: Array
    context: Array
    visual_tokens: Array
    of: Array


def loads_of(bound: Setting, requests: Requests, server: Server) -> tuple[Array, Array]:
    """The different loads among the requests, shape (loads, 10), and the load of each request."""
    shapes = _shapes(bound, requests, context_tokens(bound, server))
    return shapes.loads, shapes.of


def _shapes(bound: Setting, requests: Requests, context_tokens: int) -> _Shapes:
    sizes, image_of = _distinct(
        requests.num_images, requests.image_height, requests.image_width, requests.visual_tokens
    )
    shapes, shape_of = _distinct(image_of, requests.text_tokens, requests.output_tokens)
    images, text, output = shapes.T
    workloads = [_workload(bound, *map(int, size)) for size in sizes]
    image_loads = np.array([each.load() for each in workloads], np.int64).reshape(-1, len(core.Load._fields))
    loads = image_loads[images]
    visual = loads[:, _VISUAL].copy()
    context = visual * bound.model_arrays.visual_in_sequence + text + output
    loads[:, _TEXT], loads[:, _OUTPUT] = text, output
    loads[context > context_tokens] = _NOTHING
    for image, each in enumerate(workloads):
        own = loads[images == image] if len(workloads) < FEW_IMAGES else loads
        text_tokens, output_tokens = int(own[:, _TEXT].max()), int(own[:, _OUTPUT].max())
        check_countable(bound, replace(each, text_tokens=text_tokens, output_tokens=output_tokens))
    return _Shapes(image_loads, _countable(bound, workloads), images, loads, context, visual, shape_of)


def _countable(bound: Setting, workloads: list[Workload]) -> Array:
    """The numbers of requests whose images may be timed together without leaving 64 bits."""
    if len(workloads) >= FEW_IMAGES:
        return TOGETHER[:1]
    powers = TOGETHER
    for each in workloads:
        while len(powers) > 1:
            try:
                check_countable(bound, replace(each, text_tokens=1, output_tokens=1, batch_size=int(powers[-1])))
                break
            except InputError:
                powers = powers[:-1]
    return powers


def _encoder(bound: Setting, schedule: ScheduleArrays, shapes: _Shapes) -> Array:
    """Ticks of encoding each image of 1, 2, 4 ... requests at once, shape (images, powers)."""
    loads = np.repeat(shapes.image_loads, len(shapes.together), axis=0)
    loads[:, _TEXT] = loads[:, _OUTPUT] = 1
    loads[:, _BATCH] = np.tile(shapes.together, len(shapes.image_loads))
    return _ticks(evaluated(bound, schedule, loads)[1]["vision_s"]).reshape(-1, len(shapes.together))


def _decode_selection(bound: Setting, schedule: ScheduleArrays, loads: Array, seconds: dict[str, Array]) -> Array:
    """Ticks of the method's own work in all decode steps of each load, whose times are ``seconds``."""
    deciding = schedule.operations["stage"] == DECODING
    if not deciding.any():
        return np.zeros(len(loads), np.int64)
    without = evaluated(bound, schedule._replace(operations=schedule.operations[~deciding]), loads)[1]
    return _ticks(seconds["decode_s"] - without["decode_s"])


def _sharing(bound: Setting, schedule: ScheduleArrays, usual: Array) -> Array:
    """What the method's work on each of 1, 2, 4 ... requests takes of what it takes alone, shape (2, powers).

    Taken from the usual load: how far kernels fill the GPU depends little on which of a workload's requests it is.
    """
    made = np.full((2, len(TOGETHER)), layout.WHOLE_SHARE, np.int64)
    if len(schedule.operations) == 0:
        return made
    loads = np.repeat(usual[None], len(TOGETHER), axis=0)
    loads[:, _BATCH] = TOGETHER
    # Longer ones would leave 64 bits in the largest batch.
    loads[:, _TEXT], loads[:, _OUTPUT] = min(8192, usual[_TEXT]), min(512, usual[_OUTPUT])
    seconds = evaluated(bound, schedule, loads)[1]
    for row, ticks in enumerate((_ticks(seconds["selection_s"]), _decode_selection(bound, schedule, loads, seconds))):
        if ticks[0] > 0:
            made[row] = np.rint(layout.WHOLE_SHARE * (ticks / TOGETHER / ticks[0]))
    return made


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
