"""Initial state of a simulation: an idle fleet and requests that have not arrived, as arrays."""

from __future__ import annotations

import numpy as np

from asymsim.core.arrays import Array
from asymsim.core.serving import layout
from asymsim.core.serving.layout import EVENT, GAP_BINS, UNFINISHED, Capacity, State, StepTimeModel
from asymsim.core.times.device import TICKS_PER_S
from asymsim.core.times.product_memo import MEMO
from asymsim.core.workspace import MEMO_ENTRIES_SWEEP, workspace
from asymsim.estimator.resolve import ResolvedScenario
from asymsim.serving.capacity import capacity_of
from asymsim.serving.config import ClusterConfig, EngineConfig
from asymsim.serving.request_classes import RequestClasses
from asymsim.serving.workload.requests import Requests
from asymsim.util.errors import InputError

# Windows of the timeline, and their length at the start; it doubles when the windows are full.
TIMELINE_WINDOWS, WINDOW_TICKS = 4096, 2**32
# Later arrivals are refused: ticks would exceed 64 bits.
LAST_ARRIVAL_S = 10**6
# Dense times of an engine step are memoised up to this many tokens, and computed anew beyond.
MAX_TABULATED_TOKENS = 1 << 16
# Batch slots and shared images of all replicas: a gibibyte of memory.
MAX_FLEET_SLOTS = 2**27
ROLES = ("replicas", "encoder_replicas", "prefill_replicas", "decode_replicas")


def initial_state(
    resolved: ResolvedScenario,
    classes: RequestClasses,
    requests: Requests,
    engine_config: EngineConfig,
    cluster_config: ClusterConfig,
    events: int,
) -> tuple[State, StepTimeModel, Capacity]:
    """Initial state of a fleet, its step-time model and the capacity of its replicas."""
    capacity = capacity_of(resolved, engine_config, cluster_config, classes.activation_bytes)
    return _state(requests, classes, cluster_config, capacity, events), step_time_model(resolved, capacity), capacity


def step_time_model(resolved: ResolvedScenario, capacity: Capacity) -> StepTimeModel:
    """Step-time model of a scenario, with empty memos for batches within ``capacity``."""
    max_tokens = min(MAX_TABULATED_TOKENS, capacity.max_tokens + capacity.max_seqs) + 1
    return StepTimeModel(
        model=resolved.model_arrays,
        gpu=resolved.gpu_arrays,
        precision=resolved.precision,
        dense_memo=np.full((len(resolved.model_arrays.lm_kinds), max_tokens), layout.NONE, np.int64),
        lm_head_memo=np.full(capacity.max_seqs + 1, layout.NONE, np.int64),
        embedding_memo=np.full(max_tokens, layout.NONE, np.int64),
        scratch_rows=workspace(resolved.model_arrays, resolved.dense_schedule).operators,
        product_memo=np.zeros(MEMO_ENTRIES_SWEEP, MEMO),
        host_ticks=round(resolved.gpu_arrays.host_s * TICKS_PER_S),
    )


def _state(
    requests: Requests, classes: RequestClasses, cluster_config: ClusterConfig, capacity: Capacity, events: int
) -> State:
    """An idle fleet and requests that have not arrived."""
    if len(requests) and not 0 <= requests.arrival_s[0] <= requests.arrival_s[-1] <= LAST_ARRIVAL_S:
        raise InputError("arrival_s", float(requests.arrival_s[-1]), f"give arrivals from 0 to {LAST_ARRIVAL_S} s")
    records = np.zeros(len(requests), layout.REQUEST)
    records["arrival"] = np.rint(requests.arrival_s * TICKS_PER_S)
    records["request_class"] = classes.class_of
    records["image"], num_images = _shared_images(requests, classes)
    records["status"] = UNFINISHED
    for name in ("sent", "scheduled", "first_token", "finished", "encoding_start"):
        records[name] = layout.NEVER
    for name in ("replica", "gap_start", "queue_next", "eviction_next"):
        records[name] = layout.NONE
    pool_sizes = [getattr(cluster_config, role) for role in ROLES]
    if sum(pool_sizes) * (capacity.max_seqs + 2 * num_images) > MAX_FLEET_SLOTS:
        raise InputError(
            "replicas", sum(pool_sizes), f"give fewer: {capacity.max_seqs} requests and {num_images} shared images each"
        )
    replicas = np.zeros(sum(pool_sizes), layout.REPLICA)
    replicas["role"] = np.repeat(np.arange(len(ROLES)), pool_sizes)
    for name in ("queue_head", "queue_tail", "heap_index", "eviction_head", "eviction_tail"):
        replicas[name] = layout.NONE
    fleet = np.zeros(1, layout.FLEET)
    fleet["replicas"], fleet["burst_to_shorten"], fleet["window_ticks"] = pool_sizes, layout.NONE, WINDOW_TICKS
    fleet["decode_selection"] = (classes.classes["decode_selection_ticks"] > 0).any()
    fleet["first_replica"] = np.cumsum([0, *pool_sizes[:-1]])
    return State(
        requests=records,
        request_classes=classes.classes,
        groups=classes.groups,
        caches=classes.caches,
        encoder_ticks=classes.encoder_ticks,
        batch_scaling=classes.batch_scaling,
        replicas=replicas,
        running_requests=np.zeros((len(replicas), capacity.max_seqs), np.int64),
        image_last_request=np.full((len(replicas), num_images), layout.NONE, np.int64),
        image_references=np.zeros((len(replicas), num_images), np.int64),
        fleet=fleet,
        heap=np.zeros(len(replicas) + (0 if cluster_config.replicas else len(requests)) + 1, layout.HEAP_ENTRY),
        token_gaps=np.zeros(GAP_BINS, np.int64),
        samples=np.zeros(TIMELINE_WINDOWS, layout.SAMPLE),
        log=np.zeros(events, EVENT),
    )


def _shared_images(requests: Requests, classes: RequestClasses) -> tuple[Array, int]:
    """Index of each request's image among those of several requests, else ``NONE``; the number of these images."""
    has_image = requests.image_of >= 0
    if not has_image.any():
        return np.full(len(requests), layout.NONE), 0
    # The same image with another number of tokens counts as another image.
    keys = np.stack([requests.image_of, classes.visual_tokens])
    _, key_index, uses = np.unique(keys[:, has_image], axis=1, return_inverse=True, return_counts=True)
    shared_index = np.where(uses > 1, np.cumsum(uses > 1) - 1, layout.NONE)
    image = np.full(len(requests), layout.NONE)
    image[has_image] = shared_index[key_index]
    return image, int((uses > 1).sum())
