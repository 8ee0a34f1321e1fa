"""Result of a simulation: columns of each request, and the fleet over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asymsim.core.arrays import Array
from asymsim.serving.workload.requests import Requests

# The fleet over one window of time.
TIMELINE_WINDOW = np.dtype(
    [
        # Start of the window, seconds.
        ("start_s", np.float64),
        # Mean number of requests that wait.
        ("waiting", np.float64),
        # Mean number of requests that run.
        ("running", np.float64),
        # Mean bytes of KV cache in use.
        ("kv_bytes", np.float64),
        # Mean number of replicas at work.
        ("busy", np.float64),
        # Most bytes of KV cache in use.
        ("kv_peak_bytes", np.int64),
    ]
)


@dataclass(frozen=True)
class SimulationResult:
    """Result of a simulation; columns of shape (requests,) unless said otherwise.

    Times are exact multiples of ``core.times.device.TICK_S``; nan where a request never reached the event.

    Attributes
    ----------
    requests : Requests
    status : numpy.ndarray of int8
        Index into ``core.serving.layout.STATUS``; ``GAP_BINS`` and ``EVENT`` are defined in the same module.
    visual_tokens : numpy.ndarray of int64
        Visual tokens before pruning.
    prompt_tokens : numpy.ndarray of int64
        Tokens that enter the language model: text, and the visual tokens kept at the encoder's end.
    replica : numpy.ndarray of int32
        Replica that generated the first token; -1 for none.
    preemptions : numpy.ndarray of int32
    sent_s : numpy.ndarray of float64
        Time of sending; after ``requests.arrival_s`` where concurrency is limited.
    queue_s, ttft_s, e2e_s : numpy.ndarray of float64
        From ``sent_s`` to the first engine step that schedules the request, to its first token, to its last.
    gap_histogram : numpy.ndarray of int64, shape (GAP_BINS,)
        Histogram of the times between two tokens of a request: bin i begins at ``GAP_FIRST_S * GAP_RATIO**i``.
    timeline : numpy.ndarray of ``TIMELINE_WINDOW``
        The fleet over windows of equal length, longer ones in a longer run; the last may be cut short by the end. The
        cache in use is the blocks allocated to requests, in advance for a whole decode burst.
    event_log : numpy.ndarray of ``EVENT``
        First events, up to the number in the call of `simulate`.
    busy_s : numpy.ndarray of float64, shape (replicas,)
        Time that each replica was busy.
    engine_steps : int
        Engine steps of all replicas.
    end_s : float
        Time of the last token.
    kv_capacity_bytes : int
        KV cache of the whole fleet.
    gpus : int
    """

    requests: Requests
    status: Array
    visual_tokens: Array
    prompt_tokens: Array
    replica: Array
    preemptions: Array
    sent_s: Array
    queue_s: Array
    ttft_s: Array
    e2e_s: Array
    gap_histogram: Array
    timeline: Array
    event_log: Array
    busy_s: Array
    engine_steps: int
    end_s: float
    kv_capacity_bytes: int
    gpus: int
