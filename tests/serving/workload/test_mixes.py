"""Mixes of requests: their samples, the reproducibility of a seed, and one line for each error in a file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asymsim.serving.workload.mix_file
from asymsim.serving.workload.mix_file import load_mix, mix_names, parse_mix
from asymsim.serving.workload.mixes import COLUMNS, Mix, fixed_mix
from asymsim.serving.workload.requests import BY_SIZE, TYPICAL, Requests
from asymsim.util.errors import InputError, UnknownNameError

FOLDER = Path(asymsim.serving.workload.mix_file.__file__).parent / "data" / "mixes"


def sample(text: str, count: int = 20_000, seed: int = 0) -> Requests:
    return parse(text).sample(np.arange(count, dtype=float), seed)


def parse(text: str) -> Mix:
    return parse_mix(tomllib.loads(text))


def test_fixed_requests_are_all_alike_and_the_rest_is_the_scenario_default() -> None:
    requests = fixed_mix(text_tokens=7, output_tokens=9).sample(np.array([0.0, 2.0]))
    assert requests.text_tokens.tolist() == [7, 7]
    assert requests.output_tokens.tolist() == [9, 9]
    assert requests.num_images.tolist() == [1, 1]
    assert requests.image_height.tolist() == [TYPICAL] * 2
    assert requests.visual_tokens.tolist() == [BY_SIZE] * 2
    assert requests.image_of.tolist() == [-1, -1]
    assert requests.arrival_s.tolist() == [0.0, 2.0]
    empty = parse("").sample(np.empty(0))
    assert len(empty) == 0


def test_a_lognormal_column_has_its_median_and_spread() -> None:
    requests = sample('text_tokens = { distribution = "lognormal", median = 1000, sigma = 0.5 }')
    logs = np.log(requests.text_tokens)
    assert logs.mean() == pytest.approx(np.log(1000), abs=0.015)
    assert logs.std() == pytest.approx(0.5, abs=0.01)


def test_bounds_hold_the_samples() -> None:
    requests = sample('output_tokens = { distribution = "normal", mean = 100, std = 80, min = 30, max = 150 }')
    assert (requests.output_tokens.min(), requests.output_tokens.max()) == (30, 150)


def test_listed_values_come_by_their_weights() -> None:
    requests = sample("num_images = { values = [0, 1, 4], weights = [1, 6, 3] }")
    shares = [(requests.num_images == count).mean() for count in (0, 1, 4)]
    assert shares == pytest.approx([0.1, 0.6, 0.3], abs=0.015)
    assert set(sample("num_images = { values = [5, 6], weights = [0, 1] }").num_images) == {6}


def test_columns_listed_together_stay_together() -> None:
    requests = sample('"image_height, image_width" = [[480, 640], [1754, 1240]]')
    pairs = set(zip(requests.image_height.tolist(), requests.image_width.tolist(), strict=True))
    assert pairs == {(480, 640), (1754, 1240)}


def test_columns_of_one_distribution_are_independent() -> None:
    distribution = '{ distribution = "uniform", low = 1, high = 1000 }'
    requests = sample(f"text_tokens = {distribution}\noutput_tokens = {distribution}")
    assert abs(np.corrcoef(requests.text_tokens, requests.output_tokens)[0, 1]) < 0.03


def test_shapes_are_whole_kinds_by_their_weights() -> None:
    requests = sample(
        """
        output_tokens = 5
        [[shapes]]
        name = "documents"
        weight = 3
        text_tokens = 1000
        num_images = 4
        [[shapes]]
        name = "dialogue"
        weight = 1
        text_tokens = 10
        output_tokens = 50
        """
    )
    documents = requests.text_tokens == 1000
    assert documents.mean() == pytest.approx(0.75, abs=0.015)
    assert set(requests.num_images[documents]) == {4}
    assert set(requests.output_tokens[documents]) == {5}
    assert set(requests.output_tokens[~documents]) == {50}
    assert set(requests.num_images[~documents]) == {1}


def test_a_request_without_images_has_no_visual_tokens() -> None:
    requests = sample("num_images = [0, 2]\nvisual_tokens = 100", 100)
    assert set(requests.visual_tokens[requests.num_images == 0]) == {0}
    assert set(requests.visual_tokens[requests.num_images == 2]) == {100}


REUSE = """
image_reuse = 0.6
num_images = { values = [0, 1, 2], weights = [1, 5, 4] }
image_height = { distribution = "uniform", low = 100, high = 2000 }
image_width = { distribution = "uniform", low = 100, high = 2000 }
"""


def test_images_are_met_again_as_often_as_the_share_says() -> None:
    requests = sample(REUSE, 50_000)
    seen = requests.num_images > 0
    again = requests.image_of[seen] != np.flatnonzero(seen)
    assert again.mean() == pytest.approx(0.6, abs=0.01)
    # A branching process: an image is in 1 / (1 - share) requests on average.
    assert np.unique(requests.image_of[seen], return_counts=True)[1].mean() == pytest.approx(2.5, rel=0.03)
    assert set(requests.image_of[~seen]) == {-1}


def test_the_same_images_have_the_same_sizes_and_were_there_before() -> None:
    requests = sample(REUSE, 3000)
    rows = np.flatnonzero(requests.num_images > 0)
    first = requests.image_of[rows]
    assert (first <= rows).all()
    for field in ("num_images", "image_height", "image_width", "visual_tokens"):
        column = getattr(requests, field)
        assert np.array_equal(column[rows], column[first])
    assert np.array_equal(requests.image_of[first], first)


def test_no_image_comes_back_from_beyond_the_window() -> None:
    requests = sample("image_reuse = 1\nimage_window = 1", 100)
    assert set(requests.image_of) == {0}
    requests = sample("image_reuse = 0.9\nimage_window = 3", 5000)
    for image in np.unique(requests.image_of):
        assert np.diff(np.flatnonzero(requests.image_of == image)).max(initial=0) <= 3


@given(name=st.sampled_from(mix_names()), seed=st.integers(0, 2**62), count=st.integers(0, 60), more=st.integers(0, 60))
def test_the_first_requests_of_a_longer_run_are_the_same(name: str, seed: int, count: int, more: int) -> None:
    short, long = (load_mix(name).sample(np.arange(size, dtype=float), seed) for size in (count, count + more))
    for field in ("image_of", *COLUMNS):
        assert np.array_equal(getattr(short, field), getattr(long, field)[:count])


def test_another_seed_is_other_requests() -> None:
    first, other = (load_mix("chat").sample(np.zeros(200), seed).text_tokens for seed in (0, 1))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", mix_names())
def test_a_shipped_mix_says_where_each_of_its_numbers_is_from(name: str) -> None:
    requests = load_mix(name.upper()).sample(np.zeros(2000))
    for field, (lowest, highest) in COLUMNS.items():
        column = getattr(requests, field)
        assert (column <= highest).all()
        assert ((column >= lowest) | (column == (BY_SIZE if field == "visual_tokens" else TYPICAL))).all()
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    for number, line in enumerate(lines):
        if ("[" in line and not line.startswith("#")) or "distribution" in line:
            assert lines[number - 1].startswith("#"), line


def test_the_shipped_mixes_differ_as_their_names_say() -> None:
    by_name = {name: load_mix(name).sample(np.zeros(4000)) for name in mix_names()}
    assert set(by_name) == {"chat", "charts", "dialogue", "documents"}
    assert by_name["documents"].text_tokens.mean() > 5 * by_name["chat"].text_tokens.mean()
    assert by_name["charts"].output_tokens.mean() < 30 < 200 < by_name["dialogue"].output_tokens.mean()
    assert by_name["documents"].image_height.mean() > 1500


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbftext_tokens = 3\r\n")
    assert load_mix(str(path)).sample(np.zeros(1)).text_tokens.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("text_token = 3", "did you mean text_tokens"),
        ("text_tokens = 0", "text_tokens = 0"),
        ("text_tokens = 2.5", "text_tokens = 2.5"),
        ("text_tokens = true", "text_tokens = True"),
        ("text_tokens = []", "one value or more"),
        ("text_tokens = [1, -2]", "values 2 = -2"),
        ("text_tokens = { values = [1, 2], weights = [1] }", "give 2 weights"),
        ("text_tokens = { values = [1, 2], weights = [0, 0] }", "one above 0"),
        ("text_tokens = { values = [1, 2], weights = [1, -1] }", "weights 2 = -1"),
        ("text_tokens = { values = [1, 2], weights = [1, nan] }", "weights 2"),
        ("text_tokens = { weights = [1] }", "add the key 'values'"),
        ('text_tokens = { distribution = "lognorm", median = 1, sigma = 1 }', "did you mean lognormal"),
        ('text_tokens = { distribution = "lognormal", median = 5 }', "add the key 'sigma'"),
        ('text_tokens = { distribution = "normal", mean = 5, std = -1 }', "std = -1"),
        ('text_tokens = { distribution = "normal", mean = 5, std = 1, min = 0 }', "stay within 1"),
        ('"image_height, image_width" = [480, 640]', "give 2 values"),
        ('"image_height, image_width" = [[480, 640, 3]]', "give 2 values"),
        ('"image_height, image_width" = { distribution = "poisson", mean = 5 }', "one value a field"),
        ('"image_height, image_widt" = [[1, 1]]', "image_height, image_widt"),
        ("visual_tokens = 5\nimage_height = 100", "either the image's size or its tokens"),
        ("image_reuse = 1.5", "image_reuse"),
        ("image_window = 0", "image_window = 0"),
        ("shapes = 3", r"\[\[shapes\]\]"),
        ("shapes = []", r"\[\[shapes\]\]"),
        ("[[shapes]]\ntext_tokens = 3", "add the key 'weight'"),
        ("[[shapes]]\nweight = 0", "a weight above 0"),
        ("[[shapes]]\nweight = 1\n[[shapes]]\nweight = 1\ntext_tokens = -1", "shapes 2: text_tokens = -1"),
    ],
)
def test_a_bad_file_is_one_line(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_bad_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean documents"):
        load_mix("document")
    with pytest.raises(InputError, match="no such file"):
        load_mix(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="workload"):
        load_mix(str(tmp_path))
    broken = tmp_path / "broken.toml"
    broken.write_text("text_tokens = = 3")
    with pytest.raises(InputError, match="give a TOML file"):
        load_mix(str(broken))
    broken.write_bytes(b"# \xff")
    with pytest.raises(InputError, match="not UTF-8 at byte 2"):
        load_mix(str(broken))


def test_an_image_beyond_any_model_is_refused_when_drawn() -> None:
    requests = parse("image_height = [10, 100000]\nimage_width = 100000")
    with pytest.raises(InputError, match="100000 x 100000"):
        requests.sample(np.zeros(50))


def test_fixed_values_are_checked() -> None:
    with pytest.raises(InputError, match="text_tokens = -1"):
        fixed_mix(text_tokens=-1)
    with pytest.raises(InputError, match="either the image's size or its tokens"):
        fixed_mix(visual_tokens=10, image_width=20)
    with pytest.raises(InputError, match="image_reuse"):
        fixed_mix(image_reuse=2.0)
