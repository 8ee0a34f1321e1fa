"""What became of each request, and of the fleet over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asymsim.core.arrays import Array
from asymsim.serving.workload.requests import Requests

# The fleet over a window of time that begins at ``start_s``: mean number of requests waiting and running, of bytes of
# cache in use and of replicas at work; the most bytes of cache in use.
TIMELINE_WINDOW = np.dtype(
    [(name, np.float64) for name in ("start_s", "waiting", "running", "kv_bytes", "busy")]
    + [("kv_peak_bytes", np.int64)]
)


@dataclass(frozen=True)
class SimulationResult:
    """A simulation's outcome; columns of shape (requests,) unless said otherwise.

    Times are exact multiples of ``core.times.device.TICK_S``; nan where a request never got so far.

    Attributes
    ----------
    requests : Requests
    status : numpy.ndarray of int8
        Index of ``core.serving.layout.STATUS``, where ``GAP_BINS`` and ``EVENT`` stand too.
    visual_tokens : numpy.ndarray of int64
        Visual tokens before pruning.
    prompt_tokens : numpy.ndarray of int64
        Tokens that enter the language model: text, and visual tokens that the encoder's end kept.
    replica : numpy.ndarray of int32
        Which replica made the first token; -1 for none.
    preemptions : numpy.ndarray of int32
    sent_s : numpy.ndarray of float64
        Arrival; later than asked for where concurrency is limited.
    queue_s, ttft_s, e2e_s : numpy.ndarray of float64
        From ``sent_s`` to the first step that works on it, to its first token, to its last.
    gap_histogram : numpy.ndarray of int64, shape (GAP_BINS,)
        Times between two tokens of a request, counted by size: bin i begins at ``GAP_FIRST_S * GAP_RATIO**i``.
    timeline : numpy.ndarray of ``TIMELINE_WINDOW``
        The fleet over windows of equal length, longer ones in a longer run; the last may be cut short by the end. A
        cache in use is what requests hold: blocks for all the steps until the next request comes or goes.
    event_log : numpy.ndarray of ``EVENT``
        The first events, as many as were asked for.
    busy_s : numpy.ndarray of float64, shape (replicas,)
        Time that each replica was at work.
    engine_steps : int
        Steps of all replicas.
    end_s : float
        When the last request was done.
    kv_capacity_bytes : int
        Cache of the whole fleet.
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
