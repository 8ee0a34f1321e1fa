"""Encoding of images: what one step may encode, what the encoder cache takes, and what it still holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymsim import Scenario
from asymsim.core.serving.layout import ENCODE, SCHEDULE
from asymsim.serving.config import EngineConfig
from asymsim.serving.results import SimulationResult
from asymsim.serving.simulate import simulate
from asymsim.serving.workload.requests import make_requests
from oracles.round_numbers import TICKS_EACH, encoder_bytes, gpu_file, image_model

# Long enough for all before to be done.
FAR_S = 0.0625


def serve(
    folder: Path, arrivals: object, images: object = -1, visual: object = 16, **server: object
) -> SimulationResult:
    scenario = Scenario(model=image_model(folder), gpu=gpu_file(folder))
    asked = make_requests(arrivals, text_tokens=4, output_tokens=1, visual_tokens=visual, image_of=images)  # type: ignore[arg-type]
    return simulate(scenario, asked, EngineConfig(**server), events=10_000)  # type: ignore[arg-type]


def encoded(made: SimulationResult) -> list[int]:
    return [int(each) for each in made.event_log[made.event_log["kind"] == ENCODE]["request"]]


def begun_at_once(made: SimulationResult) -> list[int]:
    """Requests scheduled in each step, one number a step."""
    times = made.event_log[made.event_log["kind"] == SCHEDULE]["ticks"]
    return [int(each) for each in np.unique(times, return_counts=True)[1]]


@pytest.mark.parametrize(
    ("budget", "steps"), [(64, [4, 1]), (79, [4, 1]), (80, [5]), (31, [1] * 5), (32, [2, 2, 1]), (10, [1] * 5)]
)
def test_a_step_encodes_as_many_visual_tokens_as_its_budget(budget: int, steps: list[int], tmp_path: Path) -> None:
    """More than the whole budget may be encoded alone."""
    made = serve(tmp_path, np.zeros(5), encoder_budget_tokens=budget, encoder_cache_tokens=1000)
    assert begun_at_once(made) == steps


@pytest.mark.parametrize(
    ("cache", "steps"), [(64, [4, 1]), (79, [4, 1]), (80, [5]), (31, [1] * 5), (32, [2, 2, 1]), (10, [1] * 5)]
)
def test_embeddings_in_use_fill_the_encoder_cache_exactly(cache: int, steps: list[int], tmp_path: Path) -> None:
    """More than the whole cache may be in use alone."""
    made = serve(tmp_path, np.zeros(5), encoder_budget_tokens=1000, encoder_cache_tokens=cache)
    assert begun_at_once(made) == steps


def test_budget_and_cache_are_as_large_as_a_step_by_default(tmp_path: Path) -> None:
    """A step of 44 tokens encodes two images of 16, although it has 4 tokens left for a third prompt's chunk.

    With a budget of 16, the cache has room for one: the second waits until the first one's second chunk is through.
    """
    made = serve(tmp_path, np.zeros(3), max_num_batched_tokens=44, max_num_seqs=5)
    assert begun_at_once(made) == [2, 1]
    roomy = serve(tmp_path, np.zeros(3), max_num_batched_tokens=44, max_num_seqs=5, encoder_budget_tokens=48)
    assert begun_at_once(roomy) == [3]
    chunks = serve(tmp_path, np.zeros(2), max_num_batched_tokens=16, max_num_seqs=4, encoder_budget_tokens=16)
    assert chunks.event_log[chunks.event_log["kind"] == SCHEDULE]["value"].tolist() == [16, 16]


def test_embeddings_are_in_use_until_the_prompt_is_through(tmp_path: Path) -> None:
    """A prompt of 20 + 4 tokens in chunks of 16 keeps the only place of the encoder cache for a second step."""
    made = serve(
        tmp_path,
        np.zeros(2),
        max_num_batched_tokens=16,
        max_num_seqs=4,
        encoder_budget_tokens=1000,
        encoder_cache_tokens=16,
    )
    assert begun_at_once(made) == [1, 1]
    wide = serve(
        tmp_path,
        np.zeros(2),
        max_num_batched_tokens=16,
        max_num_seqs=4,
        encoder_budget_tokens=1000,
        encoder_cache_tokens=32,
    )
    starts = wide.event_log[wide.event_log["kind"] == SCHEDULE]
    # The second begins in the step that ends the first one's prompt, with the 12 tokens that are left of it.
    assert starts["value"].tolist() == [16, 12]
    assert made.event_log[made.event_log["kind"] == SCHEDULE]["value"].tolist() == [16, 16]


@pytest.mark.parametrize("together", [1, 2, 3, 4, 7])
def test_images_of_one_step_share_the_encoder(together: int, tmp_path: Path) -> None:
    """Bytes grow by the same amount with each image, so that times between powers of two lie on a line."""
    made = serve(tmp_path, np.zeros(together))
    events = made.event_log[made.event_log["kind"] == ENCODE]
    totals = [TICKS_EACH * encoder_bytes(number) for number in range(1, together + 1)]
    assert events["duration_ticks"].cumsum().tolist() == totals
    assert events["value"].tolist() == [16] * together


def test_images_of_different_steps_do_not_share_the_encoder(tmp_path: Path) -> None:
    """The second comes while the first decodes: each is encoded alone."""
    scenario = Scenario(model=image_model(tmp_path), gpu=gpu_file(tmp_path))
    asked = make_requests([0.0, 0.01], text_tokens=4, output_tokens=np.array([60, 1]), visual_tokens=16)
    made = simulate(scenario, asked, events=100)
    assert made.e2e_s[0] > 0.01 + made.queue_s[1]
    assert (
        made.event_log[made.event_log["kind"] == ENCODE]["duration_ticks"].tolist()
        == [TICKS_EACH * encoder_bytes(1)] * 2
    )


def test_unlike_images_do_not_share_the_encoder(tmp_path: Path) -> None:
    made = serve(tmp_path, np.zeros(4), visual=np.array([16, 32, 16, 32]))
    one, two = (TICKS_EACH * encoder_bytes(1, tiles) for tiles in (1, 2))
    more_of_one, more_of_two = (TICKS_EACH * encoder_bytes(2, tiles) for tiles in (1, 2))
    durations = made.event_log[made.event_log["kind"] == ENCODE]["duration_ticks"].tolist()
    assert durations == [one, two, more_of_one - one, more_of_two - two]


def test_the_same_image_is_encoded_once(tmp_path: Path) -> None:
    """Of two at once the second uses what the first makes; a later one finds it in the cache."""
    assert encoded(serve(tmp_path, [0.0, 0.0, FAR_S], [7, 7, 7])) == [0]
    assert encoded(serve(tmp_path, [0.0, 0.0, FAR_S], [7, -1, 7])) == [0, 1]
    assert encoded(serve(tmp_path, [0.0, 0.0, FAR_S], [7, 8, 8])) == [0, 1]


def test_the_same_image_in_other_tokens_is_another(tmp_path: Path) -> None:
    assert encoded(serve(tmp_path, [0.0, FAR_S], [7, 7], np.array([16, 32]))) == [0, 1]


def test_an_image_in_the_cache_takes_nothing_of_the_budget(tmp_path: Path) -> None:
    """Once the first is done, one fresh image fits the budget, and the known ones beside it."""
    arrivals, images = [0.0, FAR_S, FAR_S, FAR_S, FAR_S], [7, 7, 8, 7, 9]
    made = serve(tmp_path, arrivals, images, encoder_budget_tokens=16, encoder_cache_tokens=1000)
    assert encoded(made) == [0, 2, 4]
    assert begun_at_once(made) == [1, 3, 1]


def test_the_oldest_image_that_nobody_uses_leaves_first(tmp_path: Path) -> None:
    """A cache of two images: the third takes the place of the first, then the first that of the second."""
    images = [1, 2, 3, 3, 2, 1, 2]
    arrivals = FAR_S * np.arange(7)
    made = serve(tmp_path, arrivals, images, encoder_budget_tokens=1000, encoder_cache_tokens=32)
    # The order is that of the last use: when the first comes back the third leaves, and the second is still there.
    assert encoded(made) == [0, 1, 2, 5]
    larger = serve(tmp_path, arrivals, images, encoder_budget_tokens=1000, encoder_cache_tokens=48)
    assert encoded(larger) == [0, 1, 2]
    smaller = serve(tmp_path, arrivals, images, encoder_budget_tokens=1000, encoder_cache_tokens=47)
    assert encoded(smaller) == encoded(made)
    single = serve(tmp_path, arrivals, images, encoder_budget_tokens=1000, encoder_cache_tokens=16)
    assert encoded(single) == [0, 1, 2, 4, 5, 6]


def test_images_of_one_request_alone_leave_the_cache_too(tmp_path: Path) -> None:
    """Nobody asks again for the second request's image, but it has pushed the first one's out."""
    made = serve(tmp_path, FAR_S * np.arange(3), [7, -1, 7], encoder_budget_tokens=1000, encoder_cache_tokens=16)
    assert encoded(made) == [0, 1, 2]


def test_an_image_is_in_use_as_long_as_any_request_uses_it(tmp_path: Path) -> None:
    """Two requests leave one image; the room of one image then takes the next two one after the other."""
    made = serve(tmp_path, [0.0, 0.0, FAR_S, FAR_S], [7, 7, 8, 9], encoder_budget_tokens=1000, encoder_cache_tokens=16)
    assert begun_at_once(made) == [2, 1, 1]


def test_an_image_leaves_when_its_room_is_taken(tmp_path: Path) -> None:
    """The known image is gone as soon as the fresh one before it in the queue is scheduled."""
    made = serve(tmp_path, [0.0, FAR_S, FAR_S], [7, 8, 7], encoder_budget_tokens=1000, encoder_cache_tokens=16)
    assert encoded(made) == [0, 1, 2]
    assert begun_at_once(made) == [1, 1, 1]
