"""Requests and a fleet -> what became of each request."""

from __future__ import annotations

from asymsim.scenario import Scenario
from asymsim.serving.requests import Requests
from asymsim.serving.served import Served
from asymsim.serving.server import Fleet, Server


def simulate(
    scenario: Scenario,
    requests: Requests,
    server: Server | None = None,
    fleet: Fleet | None = None,
    *,
    events: int = 0,
) -> Served:
    """Serve ``requests`` by a fleet of the scenario's model, GPU, parallelism, formats, engine and schedule.

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
    """
    raise NotImplementedError
