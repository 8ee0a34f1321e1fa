"""Requests of traces, mixes and workloads, with numbers that no other reading of the input gives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymsim.estimator.scenario import Scenario
from asymsim.serving.planning.query import PlanQuery
from asymsim.serving.slo import Slo, SloTarget
from asymsim.serving.workload.arrivals import Arrivals
from asymsim.serving.workload.mix_file import parse_mix
from asymsim.serving.workload.mixes import EmpiricalDistribution, fixed_mix
from asymsim.serving.workload.requests import BY_SIZE
from asymsim.serving.workload.spec import WorkloadSpec, requests_for
from asymsim.serving.workload.traces.reader import Trace, read_trace
from asymsim.util.errors import InputError
from asymsim.util.sampling import uniform_samples
from asymsim.util.seeds import seed_of


def traced(path: Path, *rows: dict[str, Any], **options: Any) -> Trace:
    """A trace of rows with one prompt token and one generated token where they say nothing else."""
    plain = {"text_tokens": 1, "output_tokens": 1, "arrival_s": 0.0}
    path.write_text("".join(json.dumps({**plain, **row}) + "\n" for row in rows))
    return read_trace(str(path), **options)


@pytest.mark.parametrize(
    ("sizes", "largest", "resized"),
    [
        # 1,600 pixels are more than 1,000, whichever edge is longer and wherever it stands.
        ([[10, 100], [40, 40]], (40, 40), True),
        ([[40, 40], [100, 10], [39, 41]], (40, 40), True),
        ([[50, 20], [30, 33]], (50, 20), True),
        ([[7, 9], [7, 9], [7, 9]], (7, 9), False),
        ([[3, 5]], (3, 5), False),
    ],
)
def test_images_of_several_sizes_count_as_that_of_most_pixels(
    tmp_path: Path, sizes: list[list[int]], largest: tuple[int, int], resized: bool
) -> None:
    trace = traced(tmp_path / "trace", {"images": sizes})
    requests = trace.requests
    assert (requests.num_images[0], requests.image_height[0], requests.image_width[0]) == (len(sizes), *largest)
    assert trace.resized_requests == resized


def test_rows_that_tell_of_an_image_have_one(tmp_path: Path) -> None:
    requests = traced(
        tmp_path / "trace",
        {"visual_tokens": 9},
        {"image_height": 8},
        {"image_width": 8},
        {"num_images": 0},
        {},
        {"image_id": -1},
        {"image_id": "a", "num_images": 1},
        {"image_id": "b", "num_images": 2},
        {"image_id": "a", "num_images": 1},
        num_images=5,
        image_height=30,
        image_width=40,
    ).requests
    assert requests.num_images.tolist() == [1, 1, 1, 0, 5, 5, 1, 2, 1]
    assert requests.image_height.tolist() == [30, 8, 30, *[30] * 6]
    assert requests.image_width.tolist() == [40, 40, 8, *[40] * 6]
    assert requests.image_of.tolist() == [-1] * 6 + [0, 1, 0]


def test_rows_left_out_are_those_before_the_last_one_taken(tmp_path: Path) -> None:
    rows = [{"output_tokens": output, "text_tokens": text} for output, text in ((1, 1), (0, 1), (1, 0), (1, 1), (0, 5))]
    assert traced(tmp_path / "trace", *rows).skipped_rows == 3
    limited = traced(tmp_path / "trace", *rows, limit=2)
    assert (len(limited.requests), limited.skipped_rows) == (2, 2)
    assert traced(tmp_path / "trace", *rows, limit=1).skipped_rows == 0


def test_times_begin_with_the_first_request_and_shrink_with_the_scale(tmp_path: Path) -> None:
    rows = [{"arrival_s": second} for second in (100.5, 101.5, 105.0)]
    assert traced(tmp_path / "trace", *rows).requests.arrival_s.tolist() == [0.0, 1.0, 4.5]
    assert traced(tmp_path / "trace", *rows, rate_scale=2.0).requests.arrival_s.tolist() == [0.0, 0.5, 2.25]
    assert traced(tmp_path / "trace", *rows, time_unit="ms").requests.arrival_s == pytest.approx([0.0, 0.001, 0.0045])


@pytest.mark.parametrize("value", [2.5, "2.5", -1, 10**9, True, "x"])
def test_a_count_is_whole_and_in_range(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match="line 2: text_tokens"):
        traced(tmp_path / "trace", {}, {"text_tokens": value})
    for last in (12, 12.0, "12"):
        most = traced(tmp_path / "trace", {"text_tokens": 10**8}, {"text_tokens": last})
        assert most.requests.text_tokens.tolist() == [10**8, 12]


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN"])
def test_a_time_is_finite(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match="line 1: arrival_s"):
        traced(tmp_path / "trace", {"arrival_s": float(value)}, {"arrival_s": 2.0})


def test_values_come_by_their_weights_number_by_number() -> None:
    distribution = EmpiricalDistribution(((5,), (6,), (7,), (8,)), (0.0, 1.0, 3.0, 0.0), seed=4)
    uniform = uniform_samples(4, 0, np.arange(500, dtype=np.uint64))
    assert distribution.take(np.arange(500)).ravel().tolist() == [
        6 if value < 0.25 else 7 for value in uniform.tolist()
    ]


def test_images_reach_back_as_far_as_the_window(tmp_path: Path) -> None:
    """Request by request: with the share's chance the images of one of the last five, else new images."""
    mix = parse_mix({"image_reuse": 0.5, "image_window": 5, "image_height": {"values": [10, 20, 30]}, "image_width": 8})
    requests = mix.sample(np.arange(400.0), seed=3)
    reuse_seed = seed_of(3, "image_reuse")
    reused, back = (uniform_samples(reuse_seed, stream, np.arange(400, dtype=np.uint64)).tolist() for stream in (0, 1))
    image_of: list[int] = []
    for index in range(400):
        earlier = index - 1 - int(back[index] * min(index, 5))
        image_of.append(image_of[earlier] if index and reused[index] < 0.5 else index)
    assert requests.image_of.tolist() == image_of
    assert requests.image_height.tolist() == requests.image_height[image_of].tolist()


def test_all_that_an_image_has_comes_with_it() -> None:
    mix = parse_mix({"image_reuse": 0.7, "visual_tokens": {"values": [10, 20, 30, 40, 50]}, "num_images": [1, 2, 3]})
    requests = mix.sample(np.arange(300.0))
    assert len(set(requests.image_of.tolist())) < 200
    assert requests.visual_tokens.tolist() == requests.visual_tokens[requests.image_of].tolist()
    assert requests.num_images.tolist() == requests.num_images[requests.image_of].tolist()


def test_values_of_a_shape_go_before_the_shared_ones() -> None:
    mix = parse_mix(
        {
            "text_tokens": 11,
            "output_tokens": 12,
            "shapes": [{"weight": 1, "text_tokens": 77}, {"weight": 0, "output_tokens": 99}],
        }
    )
    requests = mix.sample(np.arange(50.0))
    assert set(zip(requests.text_tokens.tolist(), requests.output_tokens.tolist(), strict=True)) == {(77, 12)}
    plain = fixed_mix().sample(np.arange(2.0))
    assert (plain.text_tokens.tolist(), plain.output_tokens.tolist()) == ([64, 64], [128, 128])


def test_gaps_are_inverses_of_their_distribution() -> None:
    uniform = uniform_samples(seed_of(9, "arrivals"), 0, np.arange(50, dtype=np.uint64))
    times = Arrivals(rate=4.0, seed=9).times(50)
    # One gap stands before the first request too.
    assert np.diff(times, prepend=0.0) == pytest.approx([-math.log(1 - value) / 4 for value in uniform.tolist()])
    assert Arrivals(rate=4.0, process="constant").times(3).tolist() == [0.25, 0.5, 0.75]
    special = pytest.importorskip("scipy.special")
    bursty = Arrivals(rate=4.0, process="gamma", burstiness=0.4, seed=9).times(50)
    # The distribution of gamma gaps of shape 0.4 and mean 1/4 gives the uniform numbers back.
    assert special.gammainc(0.4, 0.4 * 4 * np.diff(bursty, prepend=0.0)) == pytest.approx(uniform)


@pytest.mark.parametrize("burstiness", [0.00099, 1_000_001.0])
def test_burstiness_ends_at_a_thousandth_and_a_million(burstiness: float) -> None:
    with pytest.raises(InputError, match="burstiness"):
        Arrivals(rate=1.0, process="gamma", burstiness=burstiness)


def test_requests_of_a_workload_have_the_tokens_of_the_scenario() -> None:
    scenario = Scenario(model="llava-v1.6-mistral-7b", visual_tokens=700, text_tokens=5, output_tokens=6)
    requests = requests_for(WorkloadSpec(target_request_rate=2.0), scenario)
    assert len(requests) == 4000
    assert (set(requests.visual_tokens), set(requests.text_tokens), set(requests.output_tokens)) == ({700}, {5}, {6})
    tall = requests_for(WorkloadSpec(num_requests=1), Scenario(model="llava-v1.6-mistral-7b", image_height=336))
    # The typical image is 672 x 672.
    assert (tall.image_height[0], tall.image_width[0], tall.visual_tokens[0]) == (336, 672, BY_SIZE)
    assert tall.arrival_s.tolist() == [0.0]


def test_images_that_a_model_does_not_take_are_left_out_by_request(tmp_path: Path) -> None:
    path, messages = tmp_path / "trace", list[str]()
    traced(path, {"num_images": 3}, {"num_images": 0}, {"num_images": 2})
    requests = requests_for(WorkloadSpec(trace=str(path)), Scenario(model="llama-3.1-8b"), messages.append)
    assert requests.num_images.tolist() == [0, 0, 0]
    assert messages[-1] == "llama-3.1-8b takes no images: left out those of 2 requests"
    # A trace that says nothing of images has none.
    traced(path, {}, {})
    assert requests_for(WorkloadSpec(trace=str(path)), Scenario(model="llava-1.5-7b")).num_images.tolist() == [0, 0]


def query(rate: float | None = 10.0, percentile: float = 99.0, **workload: Any) -> PlanQuery:
    return PlanQuery(
        scenarios=(Scenario(model="llava-1.5-7b", method="fastv"),),
        gpus=("l4",),
        workload=WorkloadSpec(target_request_rate=rate, **workload),
        slo_target=SloTarget(slo=Slo(ttft_s=1.0), percentile=percentile),
    )


@pytest.mark.parametrize(
    ("rate", "percentile", "lone_s", "number"),
    [
        # At least 4,000; 40 beyond the percentile; twenty requests one after the other at the rate.
        (10.0, 99.0, 1.0, 4000),
        (10.0, 99.5, 1.0, 8000),
        (10.0, 99.9, 1.0, 40_000),
        (10.0, 99.0, 100.0, 20_000),
        (3.0, 99.0, 100.01, 6001),
    ],
)
def test_so_many_requests_are_simulated(rate: float, percentile: float, lone_s: float, number: int) -> None:
    assert query(rate, percentile).number_of_requests(lone_s) == number
    assert query(rate, percentile, num_requests=123).number_of_requests(lone_s) == 123


def test_the_rate_of_a_trace_is_that_of_the_gaps_between_its_requests(tmp_path: Path) -> None:
    traced(tmp_path / "trace", *({"arrival_s": second} for second in (3.0, 4.0, 5.0, 11.0)))
    assert query(None, trace=str(tmp_path / "trace")).rate_per_s == 3 / 8


def test_an_unpruned_scenario_is_put_first_where_there_is_none() -> None:
    first, second = query().scenarios
    assert (first.method, second.method) == ("none", "fastv")
    scheduled = Scenario(model="llava-1.5-7b", schedule="some.toml")
    scheduled_query = PlanQuery(
        scenarios=(scheduled,),
        gpus=("l4",),
        workload=WorkloadSpec(target_request_rate=1.0),
        slo_target=SloTarget(slo=Slo(ttft_s=1.0)),
    )
    assert [item.schedule for item in scheduled_query.scenarios] == [None, "some.toml"]


@pytest.mark.parametrize("samples", [1, 19, 1001])
def test_samples_are_twenty_to_a_thousand(samples: int) -> None:
    with pytest.raises(InputError, match="samples"):
        PlanQuery(
            scenarios=(Scenario(model="llava-1.5-7b"),),
            gpus=("l4",),
            workload=WorkloadSpec(target_request_rate=1.0),
            slo_target=SloTarget(slo=Slo(ttft_s=1.0)),
            samples=samples,
        )
