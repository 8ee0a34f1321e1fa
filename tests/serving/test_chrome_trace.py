"""Chrome traces that viewers accept: spans that start and end, non-decreasing times, steps without overlap."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from asymsim.core.serving.layout import EVENTS, TOO_LARGE
from asymsim.core.times.device import TICK_S
from asymsim.serving.chrome_trace import trace_text
from oracles.served_by_hand import served

SECOND = round(1 / TICK_S)


def event(second: float, kind: str, request: int, replica: int = 0, value: int = 0, lasts: float = 0.0) -> Any:
    return round(second * SECOND), EVENTS.index(kind), request, replica, value, round(lasts * SECOND)


# Request 0 goes from an encoder (replica 0) by a transfer to prefill and decode (1), 1 is preempted there, 2 is
# refused, 3 still waits when the log ends; 4 has one token alone.
LOG = [
    event(0.0, "arrive", 0, 0),
    event(0.0, "encode", 0, 0, 576, 0.25),
    event(0.0, "schedule", 0, 0),
    event(0.25, "arrive", 1, 1),
    event(0.5, "schedule", 1, 1, 100),
    event(0.0, "step", -1, 0, 1, 0.5),
    event(0.5, "transfer", 0, 0, 10**6, 0.1),
    event(0.6, "arrive", 0, 1),
    event(0.5, "step", -1, 1, 1, 0.5),
    event(1.0, "first_token", 1, 1),
    event(1.0, "schedule", 0, 1, 640),
    event(2.0, "first_token", 0, 1),
    event(2.0, "preempt", 1, 1, 12),
    event(2.5, "schedule", 1, 1, 112),
    event(1.0, "step", -1, 1, 20, 2.0),
    event(3.0, "finish", 0, 1),
    event(3.0, "arrive", 4, 1),
    event(3.0, "schedule", 4, 1, 8),
    event(3.5, "first_token", 4, 1),
    event(3.5, "finish", 4, 1),
    event(3.5, "reject", 2, -1, TOO_LARGE),
    event(3.75, "arrive", 3, 1),
    event(3.0, "step", -1, 1, 2, 1.0),
]
SAMPLES = [(0, 1, 0, 0, 1, 0), (1, 0, 2, 2**30, 2, 2**30), (100, 9, 9, 9, 1, 9)]


@pytest.fixture
def events() -> list[dict[str, Any]]:
    document = json.loads(trace_text(served([0.0], [1.0], [2.0], event_log=LOG, timeline=SAMPLES)))
    return document["traceEvents"]


def test_times_never_fall(events: list[dict[str, Any]]) -> None:
    times = [each["ts"] for each in events]
    assert times == sorted(times)
    assert all(each["dur"] >= 0 for each in events if each["ph"] == "X")


def test_every_span_ends_where_the_next_begins(events: list[dict[str, Any]]) -> None:
    spans = [each for each in events if each["ph"] in "be"]
    opened: dict[Any, Any] = {}
    for span in spans:
        if span["ph"] == "b":
            assert span["id"] not in opened
            opened[span["id"]] = span
        else:
            begin = opened.pop(span["id"])
            assert (begin["name"], begin["cat"], begin["pid"]) == (span["name"], span["cat"], span["pid"])
            assert begin["ts"] <= span["ts"]
    assert not opened


def phases(events: list[dict[str, Any]], request: int) -> list[tuple[str, float, float]]:
    begins = [each for each in events if each["ph"] == "b" and each["id"] == request]
    ends = [each for each in events if each["ph"] == "e" and each["id"] == request]
    return [
        (one["name"], round(one["ts"] / 1e6, 9), round(other["ts"] / 1e6, 9))
        for one, other in zip(begins, ends, strict=True)
    ]


def test_a_request_goes_through_its_phases(events: list[dict[str, Any]]) -> None:
    at_first = [("encode", 0, 0.5), ("transfer", 0.5, 0.6), ("queue", 0.6, 1)]
    assert phases(events, 0) == [*at_first, ("prefill", 1, 2), ("decode", 2, 3)]
    # Preempted after its first token: what follows the queue is decoding again, cut off where the log ends.
    again = [("decode", 1, 2), ("queue", 2, 2.5), ("decode", 2.5, 4)]
    assert phases(events, 1) == [("queue", 0.25, 0.5), ("prefill", 0.5, 1), *again]
    assert phases(events, 2) == []
    assert phases(events, 3) == [("queue", 3.75, 4)]
    # Neither its queue nor its decoding takes any time.
    assert phases(events, 4) == [("prefill", 3, 3.5)]


def test_a_refusal_is_a_mark_with_its_reason(events: list[dict[str, Any]]) -> None:
    (mark,) = (each for each in events if each["ph"] == "i")
    assert (mark["name"], mark["args"], mark["ts"]) == ("too_large", {"request": 2}, 3.5e6)


def test_encoding_stands_in_the_phase_that_does_it(events: list[dict[str, Any]]) -> None:
    (begin,) = (each for each in events if each["ph"] == "b" and each["name"] == "encode")
    assert begin["args"] == {"request": 0, "encoder_tokens": 576, "encoder_us": 0.25e6}


def test_a_replica_is_a_process_with_its_steps(events: list[dict[str, Any]]) -> None:
    steps = [each for each in events if each["ph"] == "X"]
    assert [(each["pid"], each["ts"] / 1e6, each["dur"] / 1e6, each["args"]["steps"]) for each in steps] == [
        (1, 0, 0.5, 1),
        (2, 0.5, 0.5, 1),
        (2, 1, 2, 20),
        (2, 3, 1, 2),
    ]
    assert steps[2]["args"]["mean_step_us"] == pytest.approx(1e5)
    names = {each["pid"]: each["args"]["name"] for each in events if each["ph"] == "M"}
    assert names == {0: "fleet", 1: "replica 0", 2: "replica 1"}
    assert {each["pid"] for each in events} == set(names)


def test_counters_end_with_the_log(events: list[dict[str, Any]]) -> None:
    counters = [each for each in events if each["ph"] == "C"]
    assert Counter(each["name"] for each in counters) == {"requests": 2, "KV cache (GiB)": 2}
    assert counters[-1]["args"] == {"used": 1.0}


def test_an_empty_log_is_an_empty_trace() -> None:
    assert [each["ph"] for each in json.loads(trace_text(served([], [], [])))["traceEvents"]] == ["M"]
