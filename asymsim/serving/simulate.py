"""Requests and a fleet -> what became of each request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymsim.core.estimate import MANY, workspace
from asymsim.core.latency import MEMO
from asymsim.core.layout import Array, Load
from asymsim.core.machine import TICK_S, TICKS_PER_S
from asymsim.core.serving import layout
from asymsim.core.serving.fleet import serve
from asymsim.core.serving.layout import Limits, Pace, State
from asymsim.errors import InputError
from asymsim.estimation import Setting, setting
from asymsim.memory import kv_share
from asymsim.scenario import Scenario
from asymsim.serving.prepare import Kinds, context_tokens, evaluated, free_bytes, kinds_of
from asymsim.serving.requests import Requests
from asymsim.serving.served import DONE, EVENT, GAP_BINS, SAMPLE, UNFINISHED, Served
from asymsim.serving.server import Fleet, Server

# Events between two looks at progress.
SLICE = 200_000
# Windows of the time line, and their first length.
SAMPLES, WINDOW_TICKS = 4096, 2**32
# Arrivals beyond are refused: ticks would leave 64 bits.
LONGEST_S = 10**6
# Step times by tokens are kept up to this many, and worked out anew beyond.
LARGEST_TABLE = 1 << 16
# Requests and shared images of all replicas: a gibibyte.
LARGEST_FLEET = 2**27
ROLES = ("replicas", "encoder_replicas", "prefill_replicas", "decode_replicas")
Progress = Callable[[int, int], None]


def simulate(
    scenario: Scenario,
    requests: Requests,
    server: Server | None = None,
    fleet: Fleet | None = None,
    *,
    events: int = 0,
    progress: Progress | None = None,
) -> Served:
    """Serve ``requests`` by a fleet of the scenario's model, GPU, parallelism, formats, engine and schedule.

    A request alone has the TTFT and TPOT of `asymsim.estimate` to the bit, if its prompt is prefilled in one step.

    Parameters
    ----------
    scenario : Scenario
        Its image, text and output counts and its batch size are not used: each request brings its own.
    requests : Requests
    server : Server, optional
        vLLM's defaults.
    fleet : Fleet, optional
        One replica by default.
    events : int
        How many of the first events to keep in the log.
    progress : callable, optional
        Called now and then with the number of requests that were sent, and of all.

    Returns
    -------
    Served

    Raises
    ------
    AsymsimError
        If a name is unknown, a value out of range, or the weights leave no room for a cache.
    """
    server, fleet = server or Server(), fleet or Fleet()
    bound = setting(scenario)
    kinds = kinds_of(bound, requests, server)
    return serve_kinds(bound, kinds, requests, server, fleet, events=events, progress=progress)


def serve_kinds(
    bound: Setting,
    kinds: Kinds,
    requests: Requests,
    server: Server,
    fleet: Fleet,
    *,
    events: int = 0,
    progress: Progress | None = None,
) -> Served:
    """`simulate` for a setting whose kinds of requests are known: they are the same for fleets of any size."""
    state, pace, limits = prepared(bound, kinds, requests, server, fleet, events)
    while serve(state, pace, limits, SLICE):
        if progress is not None:
            progress(int(state.fleet[0]["arrived"]), len(requests))
    unserved = int((state.requests["status"] == UNFINISHED).sum())
    if unserved:
        days = layout.LAST_TICK * TICK_S / 86400
        remedy = f"{unserved} would not be done within {days:.0f} days of simulated time: give fewer, or a larger fleet"
        raise InputError("requests", len(requests), remedy)
    return _served(requests, kinds, state, limits, bound.precision.tp_size, fleet)


def prepared(
    bound: Setting, kinds: Kinds, requests: Requests, server: Server, fleet: Fleet, events: int
) -> tuple[State, Pace, Limits]:
    """A fleet at rest and requests that are still to come, what step times follow from, and the limits."""
    limits = limits_of(bound, kinds, server, fleet)
    return _state(requests, kinds, fleet, limits, events), pace_of(bound, limits), limits


def kv_capacity_bytes(bound: Setting, server: Server, activation_bytes: int) -> int:
    """Cache of a replica: what weights, activations and workspace leave of all its GPUs' memory.

    Raises
    ------
    InputError
        If they leave nothing.
    """
    if server.kv_cache_bytes is not None:
        return server.kv_cache_bytes
    left = (free_bytes(bound, server) - activation_bytes) / kv_share(bound.model, bound.precision.tp_size)
    if left < 1:
        raise InputError(
            "gpu", bound.gpu.name, f"{bound.model.name} leaves no memory for a cache: give more tp_size or a larger GPU"
        )
    return int(left)


def limits_of(bound: Setting, kinds: Kinds, server: Server, fleet: Fleet) -> Limits:
    """The limits of each replica, and of the router."""
    max_tokens, max_seqs = server.batch_on(bound.gpu)
    text = Load(0, 0, 0, 0, 0, 0, 0, max_tokens, 1, 1)
    counts = evaluated(bound, bound.dense, np.array([text], np.int64))[0]
    activation_bytes = max(kinds.activation_bytes, int(counts["activation_bytes"][0]))
    budget = server.encoder_budget_tokens or max_tokens
    return Limits(
        max_seqs=max_seqs,
        max_tokens=max_tokens,
        encoder_budget=budget,
        encoder_cache=server.encoder_cache_tokens or budget,
        kv_capacity=kv_capacity_bytes(bound, server, activation_bytes),
        context=context_tokens(bound, server),
        prefix_share=server.prefix_share,
        router=("round_robin", "least_loaded").index(fleet.router),
        concurrency=fleet.concurrency,
        transfer_ticks_per_byte=TICKS_PER_S / fleet.transfer_bytes_per_s,
        transfer_ticks=round(fleet.transfer_latency_s * TICKS_PER_S),
    )


def pace_of(bound: Setting, limits: Limits) -> Pace:
    """What step times follow from."""
    most = min(LARGEST_TABLE, limits.max_tokens + limits.max_seqs) + 1
    return Pace(
        model=bound.model_arrays,
        gpu=bound.gpu_arrays,
        precision=bound.precision,
        dense=np.full((len(bound.model_arrays.lm_kinds), most), layout.NONE, np.int64),
        head=np.full(limits.max_seqs + 1, layout.NONE, np.int64),
        embed=np.full(most, layout.NONE, np.int64),
        rows=workspace(bound.model_arrays, bound.dense).operators,
        memo=np.zeros(MANY, MEMO),
        host_ticks=round(bound.gpu_arrays.host_s * TICKS_PER_S),
    )


def _state(requests: Requests, kinds: Kinds, fleet: Fleet, limits: Limits, events: int) -> State:
    """A fleet at rest and requests that are still to come."""
    if len(requests) and not 0 <= requests.arrival_s[0] <= requests.arrival_s[-1] <= LONGEST_S:
        raise InputError("arrival_s", float(requests.arrival_s[-1]), f"give arrivals from 0 to {LONGEST_S} s")
    asked = np.zeros(len(requests), layout.REQUEST)
    asked["arrival"] = np.rint(requests.arrival_s * TICKS_PER_S)
    asked["kind"] = kinds.of
    asked["image"], images = _shared_images(requests, kinds)
    asked["status"] = UNFINISHED
    for name in ("sent", "scheduled", "first", "finished", "encoded"):
        asked[name] = layout.NEVER
    for name in ("replica", "owed", "next", "freed_next"):
        asked[name] = layout.NONE
    numbers = [getattr(fleet, role) for role in ROLES]
    if sum(numbers) * (limits.max_seqs + 2 * images) > LARGEST_FLEET:
        raise InputError(
            "replicas", sum(numbers), f"give fewer: {limits.max_seqs} requests and {images} shared images each"
        )
    replicas = np.zeros(sum(numbers), layout.REPLICA)
    replicas["role"] = np.repeat(np.arange(len(ROLES)), numbers)
    for name in ("head", "tail", "planned", "freed_head", "freed_tail"):
        replicas[name] = layout.NONE
    whole = np.zeros(1, layout.FLEET)
    whole["number"], whole["to_cut"], whole["window_ticks"] = numbers, layout.NONE, WINDOW_TICKS
    whole["first"] = np.cumsum([0, *numbers[:-1]])
    return State(
        requests=asked,
        kinds=kinds.kinds,
        groups=kinds.groups,
        caches=kinds.caches,
        encoder=kinds.encoder,
        sharing=kinds.sharing,
        replicas=replicas,
        runs=np.zeros((len(replicas), limits.max_seqs), np.int64),
        holder=np.full((len(replicas), images), layout.NONE, np.int64),
        uses=np.zeros((len(replicas), images), np.int64),
        fleet=whole,
        heap=np.zeros(len(replicas) + (0 if fleet.replicas else len(requests)) + 1, layout.PLANNED),
        gaps=np.zeros(GAP_BINS, np.int64),
        samples=np.zeros(SAMPLES, layout.SAMPLE),
        log=np.zeros(events, EVENT),
    )


def _shared_images(requests: Requests, kinds: Kinds) -> tuple[Array, int]:
    """A number for each image that several requests have, ``NONE`` for the others; how many there are."""
    named = requests.image_of >= 0
    if not named.any():
        return np.full(len(requests), layout.NONE), 0
    # The same image at another number of tokens is another one.
    pair = np.stack([requests.image_of, kinds.visual_tokens])
    _, of, often = np.unique(pair[:, named], axis=1, return_inverse=True, return_counts=True)
    numbers = np.where(often > 1, np.cumsum(often > 1) - 1, layout.NONE)
    image = np.full(len(requests), layout.NONE)
    image[named] = numbers[of]
    return image, int((often > 1).sum())


def _samples(state: State) -> Array:
    """Means over the windows up to the last event."""
    whole = state.fleet[0]
    window, end = int(whole["window_ticks"]), int(whole["sampled"])
    found = state.samples[: -(-end // window)]
    starts = np.arange(len(found)) * window
    spans = np.minimum(starts + window, end) - starts
    made = np.zeros(len(found), SAMPLE)
    made["start_s"], made["kv_peak_bytes"] = starts * TICK_S, found["kv_peak"]
    for name in ("waiting", "running", "kv_bytes", "busy"):
        made[name] = found[name] / spans
    return made


def _served(requests: Requests, kinds: Kinds, state: State, limits: Limits, tp_size: int, fleet: Fleet) -> Served:
    asked, whole = state.requests, state.fleet[0]

    def since(name: str) -> Array:
        spans: Array = (asked[name] - asked["sent"]) * TICK_S
        return np.where(asked[name] == layout.NEVER, np.nan, spans)

    decoding = fleet.replicas + fleet.prefill_replicas + fleet.decode_replicas
    return Served(
        requests=requests,
        status=asked["status"].astype(np.int8),
        visual_tokens=kinds.visual_tokens,
        prompt_tokens=kinds.kinds["prompt"][kinds.of],
        replica=asked["replica"].astype(np.int32),
        preemptions=asked["preemptions"].astype(np.int32),
        sent_s=np.where(asked["sent"] == layout.NEVER, np.nan, asked["sent"] * TICK_S),
        queue_s=since("scheduled"),
        ttft_s=since("first"),
        e2e_s=since("finished"),
        gaps=state.gaps,
        samples=_samples(state),
        log=state.log[: min(whole["events"], len(state.log))],
        busy_s=state.replicas["busy_ticks"] * TICK_S,
        steps=int(whole["steps"]),
        end_s=float(asked["finished"][asked["status"] == DONE].max(initial=0) * TICK_S),
        kv_capacity_bytes=limits.kv_capacity * decoding,
        gpus=fleet.engines * tp_size,
    )
