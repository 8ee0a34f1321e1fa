"""Records and arrays of a serving simulation: requests, replicas, fleet, events. All times are whole ticks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asymsim.core.arrays import Array, codes, integers
from asymsim.core.kv_cache import SequenceCache
from asymsim.core.model_arrays import ModelArrays, Precision
from asymsim.core.times.gpu_arrays import GpuArrays

NEVER = 2**62
NONE = -1
# Ticks of 2**-42 s: 12 days. A simulation that would go on beyond this ends before.
LAST_TICK = 2**62 - 2**58
# The unit of batch scaling: the time that a request takes alone.
SHARE_UNIT = 2**20

# Outcome of a request. Requests too long for the model, or too large for the memory, are refused as a server would.
STATUS = ("done", "too_long", "too_large", "unfinished")
DONE, TOO_LONG, TOO_LARGE, UNFINISHED = codes(4)

# Phases of a request that a replica runs.
AGGREGATED, ENCODER_ONLY, PREFILL_ONLY, DECODE_ONLY = codes(4)
ROUND_ROBIN, LEAST_LOADED = codes(2)

# Kinds of events. A "step" event stands for a replica's burst and has no request.
EVENTS = ("arrive", "reject", "encode", "schedule", "first_token", "preempt", "transfer", "finish", "step")
ARRIVE, REJECT, ENCODE, SCHEDULE, FIRST_TOKEN, PREEMPT, TRANSFER, FINISH, STEP = codes(9)

# Gaps between tokens are counted in bins of 0.5 %, from a microsecond to beyond an hour.
GAP_FIRST_S, GAP_RATIO, GAP_BINS = 1e-6, 1.005, 4500

EVENT = integers(
    "ticks",
    "kind",  # index of EVENTS
    "request",  # index, or NONE
    "replica",  # index, or NONE
    "value",  # role, status, tokens, bytes or engine steps, by the kind of event
    "duration_ticks",
)
# The fleet in one window of time: integrals over the window's ticks, and one maximum.
SAMPLE = np.dtype(
    [
        ("waiting", np.float64),  # requests x ticks
        ("running", np.float64),  # requests x ticks
        ("kv_bytes", np.float64),  # bytes x ticks
        ("busy", np.float64),  # replicas x ticks
        ("kv_peak", np.int64),  # bytes
    ]
)

# A request class: all requests of one shape under one schedule.
REQUEST_CLASS = integers(
    "prompt_tokens",  # tokens that enter the language model
    "output_tokens",
    "context_tokens",  # positions of prompt and output, pruned tokens included
    "encoder_tokens",  # visual tokens that the encoder makes
    "encoder_row",  # row of State.encoder_ticks
    "schedule",  # row of State.batch_scaling
    "selection_ticks",  # the method's selection before decoding
    "selects_with_encoder",  # 1: an encoder pool runs that selection
    "decode_selection_ticks",  # the method's selection in all decode steps
    "embedding_bytes",  # sent from an encoder pool to a prefill pool
    "chunkable",  # 1: the prompt may be spread over several engine steps
    "activations_fit",  # 0: the request is refused, because its activations are too large
)
# Layers that are alike under every schedule of the simulation.
GROUP = integers(
    "layer_kind",  # index of ModelArrays.lm_kinds
    "layers",
    "entry_bytes",  # one token of one KV head, in all layers of the group
)
# Cache of a request class in a group: the fields of SequenceCache, and its prefill.
CACHE = integers(
    *SequenceCache._fields,
    "queries",  # tokens of the prompt that enter the group
    "visual_tokens",  # visual tokens that enter the group
    "images",
    "unfused",  # 1: prefill stores the attention weights
)
# State of a request.
REQUEST = integers(
    "arrival",  # tick in the workload
    "request_class",  # row of State.request_classes
    "image",  # index of an image that several requests share, or NONE
    "sent",  # tick; NEVER until then, as in the following ticks
    "scheduled",  # tick of the first time that it runs
    "first_token",  # tick
    "finished",  # tick
    "status",  # index of STATUS
    "replica",  # index of the replica that made the first token
    "preemptions",
    "generated",  # output tokens so far
    "prefill_tokens",  # to be computed before the next token: the prompt, after a preemption with generated tokens
    "prefix_tokens",  # of these, found in the prefix cache
    "computed",  # of these, in the request's KV cache
    "chunk",  # prompt tokens in this engine step; 0: it decodes; NONE: it waits
    "kv_bytes",  # allocated blocks
    "gap_start",  # tick of the last token, where the next comes from a later engine step than the next one; else NONE
    "encoding_start",  # tick at which the encoding of its images began
    "queue_next",  # request behind it in a replica's queue, or NONE
    "eviction_next",  # request behind it in the encoder cache's eviction queue, or NONE
    "in_eviction_queue",  # 0 or 1
    "cached_unused",  # 1: its embeddings lie in the encoder cache and no request uses them
)
# State of a replica. A burst is a run of engine steps that are all alike.
REPLICA = integers(
    "role",  # AGGREGATED, ENCODER_ONLY, PREFILL_ONLY or DECODE_ONLY
    "waiting",  # requests
    "running",  # requests
    "queue_head",  # first request that waits, or NONE
    "queue_tail",  # last request that waits, or NONE
    "kv_bytes",  # allocated blocks
    "burst_start",  # tick
    "burst_ticks",  # duration of the burst
    "burst_steps",  # engine steps of the burst; 0: the replica is to be scheduled
    "extra_ticks",  # encoding and selection in the burst
    "encoder_budget_left",  # visual tokens that this engine step may still encode
    "heap_index",  # of the burst's end in State.heap, or NONE
    "busy",  # 0 or 1
    "busy_ticks",
    "link_free",  # tick at which its link to the next pool is free
    "referenced_tokens",  # visual tokens in the encoder cache that requests use
    "unreferenced_tokens",  # visual tokens in the encoder cache that no request uses
    "eviction_head",  # request whose embeddings are evicted next, or NONE
    "eviction_tail",  # request whose embeddings are evicted last, or NONE
)
# State of the fleet.
FLEET = np.dtype(
    [
        ("arrived", np.int64),  # requests sent so far
        ("burst_to_shorten", np.int64),  # replica whose burst ends early for a request that has just come, or NONE
        ("in_flight", np.int64),  # requests sent and not finished
        ("waiting", np.int64),  # requests
        ("running", np.int64),  # requests
        ("kv_bytes", np.int64),
        ("busy", np.int64),  # replicas
        ("allocated_bytes", np.int64),  # since the start
        ("freed_bytes", np.int64),  # since the start
        ("steps", np.int64),  # engine steps of all replicas
        ("last_event", np.int64),  # tick
        ("heap_size", np.int64),  # entries of State.heap
        ("events", np.int64),  # logged, and beyond the log's length
        ("decode_selection", np.int64),  # 1: a method selects in decode steps
        ("window_ticks", np.int64),  # length of a window of State.samples
        ("sampled_until", np.int64),  # tick
        ("first_replica", np.int64, (4,)),  # by role: index
        ("replicas", np.int64, (4,)),  # by role: how many
        ("next_turn", np.int64, (4,)),  # by role: the replica that round robin chooses next
    ],
    align=True,
)
# A planned event: the end of a replica's burst, or a request's arrival from a replica of another pool.
HEAP_ENTRY = integers(
    "ticks",
    "rank",  # order at the same tick
    "request",  # index; NONE: the end of a burst
    "replica",  # index
)


class Capacity(NamedTuple):
    """Limits of a replica and rules of the router.

    Attributes
    ----------
    max_seqs, max_tokens : requests that run at once; tokens of one engine step.
    encoder_budget_tokens, encoder_cache_tokens : visual tokens encoded in one engine step; kept in the encoder cache.
    kv_bytes : the KV cache of a replica.
    context_tokens : longest prompt and output together.
    prefix_share : share of a prompt that is found in the prefix cache.
    router : ROUND_ROBIN or LEAST_LOADED.
    concurrency : most requests in flight; 0: no limit.
    transfer_ticks_per_byte, transfer_ticks : rate and latency of the link between pools.
    """

    max_seqs: int
    max_tokens: int
    encoder_budget_tokens: int
    encoder_cache_tokens: int
    kv_bytes: int
    context_tokens: int
    prefix_share: float
    router: int
    concurrency: int
    transfer_ticks_per_byte: float
    transfer_ticks: int


class StepTimeModel(NamedTuple):
    """Model and GPU that step times follow from, and times of operators that were computed before.

    Attributes
    ----------
    dense_memo : ticks of a layer but for its attention, shape (layer kinds, tokens); NONE until computed.
    lm_head_memo : ticks of the language-model head, shape (sequences,).
    embedding_memo : ticks of the embedding, shape (tokens,).
    scratch_rows : operator rows of the step that is being timed.
    product_memo : seconds of matrix products by shape.
    host_ticks : added by the host to every engine step.
    """

    model: ModelArrays
    gpu: GpuArrays
    precision: Precision
    dense_memo: Array
    lm_head_memo: Array
    embedding_memo: Array
    scratch_rows: Array
    product_memo: Array
    host_ticks: int


class State(NamedTuple):
    """State of a simulation, and the request classes that it is about.

    Attributes
    ----------
    requests, request_classes, groups, replicas : records of ``REQUEST``, ``REQUEST_CLASS``, ``GROUP``, ``REPLICA``.
    caches : records of ``CACHE``, shape (request classes, groups).
    encoder_ticks : encoding of the like images of 1, 2, 4 ... requests at once, shape (image shapes, powers).
    batch_scaling : time of the method's selection for each of 1, 2, 4 ... requests, in prefill and in decoding, in
        units of ``SHARE_UNIT`` of its time for one alone; shape (schedules, 2, powers).
    running_requests : requests that run, in the order in which they were scheduled, shape (replicas, max_seqs).
    image_last_request : the request that left a shared image unused in the encoder cache, shape (replicas, images).
    image_references : requests that use a shared image, shape (replicas, images).
    fleet : one record of ``FLEET``.
    heap : records of ``HEAP_ENTRY``, the next event first.
    token_gaps : number of gaps between tokens, by size.
    samples : records of ``SAMPLE``, one a window.
    log : records of ``EVENT``.
    """

    requests: Array
    request_classes: Array
    groups: Array
    caches: Array
    encoder_ticks: Array
    batch_scaling: Array
    replicas: Array
    running_requests: Array
    image_last_request: Array
    image_references: Array
    fleet: Array
    heap: Array
    token_gaps: Array
    samples: Array
    log: Array
