"""A fleet at rest and requests that are still to come, as arrays."""

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

# Windows of the time line, and their first length.
TIMELINE_WINDOWS, WINDOW_TICKS = 4096, 2**32
# Arrivals beyond are refused: ticks would leave 64 bits.
LAST_ARRIVAL_S = 10**6
# Step times by tokens are kept up to this many, and worked out anew beyond.
MAX_TABULATED_TOKENS = 1 << 16
# Requests and shared images of all replicas: a gibibyte.
MAX_FLEET_SLOTS = 2**27
ROLES = ("replicas", "encoder_replicas", "prefill_replicas", "decode_replicas")


def initial_state(
    bound: ResolvedScenario,
    classes: RequestClasses,
    requests: Requests,
    server: EngineConfig,
    fleet: ClusterConfig,
    events: int,
) -> tuple[State, StepTimeModel, Capacity]:
    """A fleet at rest and requests that are still to come, what step times follow from, and the limits."""
    limits = capacity_of(bound, server, fleet, classes.activation_bytes)
    return _state(requests, classes, fleet, limits, events), step_time_model(bound, limits), limits


def step_time_model(bound: ResolvedScenario, limits: Capacity) -> StepTimeModel:
    """What step times follow from."""
    most = min(MAX_TABULATED_TOKENS, limits.max_tokens + limits.max_seqs) + 1
    return StepTimeModel(
        model=bound.model_arrays,
        gpu=bound.gpu_arrays,
        precision=bound.precision,
        dense_memo=np.full((len(bound.model_arrays.lm_kinds), most), layout.NONE, np.int64),
        lm_head_memo=np.full(limits.max_seqs + 1, layout.NONE, np.int64),
        embedding_memo=np.full(most, layout.NONE, np.int64),
        scratch_rows=workspace(bound.model_arrays, bound.dense_schedule).operators,
        product_memo=np.zeros(MEMO_ENTRIES_SWEEP, MEMO),
        host_ticks=round(bound.gpu_arrays.host_s * TICKS_PER_S),
    )


def _state(requests: Requests, classes: RequestClasses, fleet: ClusterConfig, limits: Capacity, events: int) -> State:
    """A fleet at rest and requests that are still to come."""
    if len(requests) and not 0 <= requests.arrival_s[0] <= requests.arrival_s[-1] <= LAST_ARRIVAL_S:
        raise InputError("arrival_s", float(requests.arrival_s[-1]), f"give arrivals from 0 to {LAST_ARRIVAL_S} s")
    asked = np.zeros(len(requests), layout.REQUEST)
    asked["arrival"] = np.rint(requests.arrival_s * TICKS_PER_S)
    asked["request_class"] = classes.class_of
    asked["image"], images = _shared_images(requests, classes)
    asked["status"] = UNFINISHED
    for name in ("sent", "scheduled", "first_token", "finished", "encoding_start"):
        asked[name] = layout.NEVER
    for name in ("replica", "gap_start", "queue_next", "eviction_next"):
        asked[name] = layout.NONE
    numbers = [getattr(fleet, role) for role in ROLES]
    if sum(numbers) * (limits.max_seqs + 2 * images) > MAX_FLEET_SLOTS:
        raise InputError(
            "replicas", sum(numbers), f"give fewer: {limits.max_seqs} requests and {images} shared images each"
        )
    replicas = np.zeros(sum(numbers), layout.REPLICA)
    replicas["role"] = np.repeat(np.arange(len(ROLES)), numbers)
    for name in ("queue_head", "queue_tail", "heap_index", "eviction_head", "eviction_tail"):
        replicas[name] = layout.NONE
    whole = np.zeros(1, layout.FLEET)
    whole["replicas"], whole["burst_to_shorten"], whole["window_ticks"] = numbers, layout.NONE, WINDOW_TICKS
    whole["decode_selection"] = (classes.classes["decode_selection_ticks"] > 0).any()
    whole["first_replica"] = np.cumsum([0, *numbers[:-1]])
    return State(
        requests=asked,
        request_classes=classes.classes,
        groups=classes.groups,
        caches=classes.caches,
        encoder_ticks=classes.encoder,
        batch_scaling=classes.batch_scaling,
        replicas=replicas,
        running_requests=np.zeros((len(replicas), limits.max_seqs), np.int64),
        image_last_request=np.full((len(replicas), images), layout.NONE, np.int64),
        image_references=np.zeros((len(replicas), images), np.int64),
        fleet=whole,
        heap=np.zeros(len(replicas) + (0 if fleet.replicas else len(requests)) + 1, layout.HEAP_ENTRY),
        token_gaps=np.zeros(GAP_BINS, np.int64),
        samples=np.zeros(TIMELINE_WINDOWS, layout.SAMPLE),
        log=np.zeros(events, EVENT),
    )


def _shared_images(requests: Requests, classes: RequestClasses) -> tuple[Array, int]:
    """A number for each image that several requests have, ``NONE`` for the others; how many there are."""
    named = requests.image_of >= 0
    if not named.any():
        return np.full(len(requests), layout.NONE), 0
    # The same image at another number of tokens is another one.
    pair = np.stack([requests.image_of, classes.visual_tokens])
    _, of, often = np.unique(pair[:, named], axis=1, return_inverse=True, return_counts=True)
    numbers = np.where(often > 1, np.cumsum(often > 1) - 1, layout.NONE)
    image = np.full(len(requests), layout.NONE)
    image[named] = numbers[of]
    return image, int((often > 1).sum())
