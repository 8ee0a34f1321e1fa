"""Layout of a simulation's arrays: requests, replicas, events; times are whole ticks throughout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array, codes
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.times.gpu_arrays import GpuArrays

NEVER = 2**62
NONE = -1
# Ticks of 2**-42 s: 12 days. A simulation that would go on beyond it ends before.
LAST_TICK = 2**62 - 2**58
# The unit of shares of a time.
SHARE_UNIT = 2**20

# How a request ended. Those too long for the model, or too large for the memory, are refused as a server would.
STATUS = ("done", "too_long", "too_large", "unfinished")
DONE, TOO_LONG, TOO_LARGE, UNFINISHED = codes(4)

# What a replica does of a request's work.
WHOLE, ENCODES, PREFILLS, DECODES = codes(4)
ROUND_ROBIN, LEAST_LOADED = codes(2)

# What happens to a request, and to a replica: a step lasts ``duration_ticks`` for ``value`` steps, and has no request.
EVENTS = ("arrive", "reject", "encode", "schedule", "first_token", "preempt", "transfer", "finish", "step")
ARRIVE, REJECT, ENCODE, SCHEDULE, FIRST_TOKEN, PREEMPT, TRANSFER, FINISH, STEP = codes(9)

# Gaps between tokens are counted in bins of 0.5 %, from a microsecond to beyond an hour.
GAP_FIRST_S, GAP_RATIO, GAP_BINS = 1e-6, 1.005, 4500


def _integers(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names], align=True)


EVENT = _integers("ticks", "kind", "request", "replica", "value", "duration_ticks")
# The fleet over windows of equal length: means, once they are divided by it, and the most cache in use.
SAMPLE = np.dtype([(name, np.float64) for name in ("waiting", "running", "kv_bytes", "busy")] + [("kv_peak", np.int64)])

# A kind of request: what all requests of one shape and schedule have in common.
# prompt: tokens that enter the language model. context: positions that prompt and output take, pruned ones included.
# encoder_tokens, images, schedule: visual tokens that the encoder makes; rows of ``encoder`` and of ``sharing``.
# selection_ticks: of the method's own work before decoding. early: 1 where an encoder pool does it.
# decode_selection_ticks: of its work in all decode steps. embedding_bytes: what leaves an encoder pool.
# splits: 1 where the prompt may be spread over steps. fits: 0 where its activations are too large.
REQUEST_CLASS = _integers(
    "prompt",
    "output",
    "context",
    "encoder_tokens",
    "images",
    "schedule",
    "selection_ticks",
    "early",
    "decode_selection_ticks",
    "embedding_bytes",
    "splits",
    "fits",
)
# A group of layers that are alike under every schedule of the simulation: layers of one kind, how many, and what a
# token of one KV head takes in all of them.
GROUP = _integers("kind", "layers", "entry_bytes")
# The cache of a kind of request in a group: core.kv_cache.SequenceCache; the visual tokens among them, their images;
# whether the group's prefill stores attention weights.
CACHE = _integers(
    "tokens",
    "held",
    "kv_heads",
    "whole",
    "window",
    "limit",
    "chunk",
    "free",
    "retain_num",
    "retain_den",
    "own",
    "queries",
    "visual",
    "images",
    "unfused",
)
# State of a request. sent, scheduled, first, finished: ticks. generated: tokens it has. goal, shared, computed: tokens
# of its prompt (after a preemption with what was generated), those that the prefix cache had, and those in its own
# cache. chunk: of the prompt in this step; 0 decodes, NONE waits. kv_bytes: blocks it holds. owed: when its last token
# came, where the next follows from another step than the next one; else NONE. encoded: when the encoding of its images
# began. next: behind it in a queue. freed_next, in_freed, resident: in the encoder cache's queue of what nobody uses.
REQUEST = _integers(
    "arrival",
    "kind",
    "image",
    "sent",
    "scheduled",
    "first",
    "finished",
    "status",
    "replica",
    "preemptions",
    "generated",
    "goal",
    "shared",
    "computed",
    "chunk",
    "kv_bytes",
    "owed",
    "encoded",
    "next",
    "freed_next",
    "in_freed",
    "resident",
)
# State of a replica. head, tail: of its queue. start, ticks, steps: of the stretch of like steps that it is in. other:
# ticks of it that are none of the steps' (encoding, selection). encoder_left: of the step's budget. planned: where its
# end stands in the heap. sends_until: when its link to the next pool is free. referenced, unreferenced, freed_head,
# freed_tail: of its encoder cache.
REPLICA = _integers(
    "role",
    "waiting",
    "running",
    "head",
    "tail",
    "kv_bytes",
    "start",
    "ticks",
    "other",
    "encoder_left",
    "steps",
    "planned",
    "at_work",
    "busy_ticks",
    "sends_until",
    "referenced",
    "unreferenced",
    "freed_head",
    "freed_tail",
)
# State of the fleet. arrived: requests sent so far. to_cut: a replica that is to end its stretch soon. end: of the last
# event. selects: 1 where a method works in decoding. window_ticks, sampled: length of the samples' windows, and how far
# they are filled. For each role: the first replica, how many, the turn of round robin.
FLEET = np.dtype(
    [
        (name, np.int64)
        for name in (
            "arrived",
            "to_cut",
            "in_flight",
            "waiting",
            "running",
            "kv_bytes",
            "busy",
            "allocated_bytes",
            "freed_bytes",
            "steps",
            "end",
            "heap",
            "events",
            "selects",
            "window_ticks",
            "sampled",
        )
    ]
    + [(name, np.int64, (4,)) for name in ("first", "number", "turn")],
    align=True,
)
# What is planned: a replica's end of a stretch, or a request that comes from another pool's replica.
PLANNED = _integers("ticks", "rank", "request", "replica")


class Capacity(NamedTuple):
    """What a replica and the router may do; 0 concurrency: no limit. Cache and embeddings of one replica."""

    max_seqs: int
    max_tokens: int
    encoder_budget: int
    encoder_cache: int
    kv_capacity: int
    context: int
    prefix_share: float
    router: int
    concurrency: int
    transfer_ticks_per_byte: float
    transfer_ticks: int


class StepTimeModel(NamedTuple):
    """What step times follow from: model and GPU, and times of rows that were worked out before.

    ``dense`` (kinds, tokens): ticks of a layer but for its attention; ``head`` (sequences), ``embed`` (tokens).
    """

    model: ModelArrays
    gpu: GpuArrays
    precision: Precision
    dense: Array
    head: Array
    embed: Array
    rows: Array
    memo: Array
    host_ticks: int


class State(NamedTuple):
    """All that changes in a simulation, and the kinds of requests.

    ``encoder`` (images, powers): ticks of encoding the like images of 1, 2, 4 ... requests at once. ``sharing``
    (schedules, 2, powers): what the method's own work on each of 1, 2, 4 ... prompts, and in decoding, takes of what it
    takes alone, in units of ``SHARE_UNIT``.
    ``runs`` (replicas, max_seqs): requests that run, in the order in which they were scheduled. ``holder``, ``uses``
    (replicas, images): the request that left a shared image in the encoder cache, and those that use it.
    """

    requests: Array
    kinds: Array
    groups: Array
    caches: Array
    encoder: Array
    sharing: Array
    replicas: Array
    runs: Array
    holder: Array
    uses: Array
    fleet: Array
    heap: Array
    gaps: Array
    samples: Array
    log: Array
