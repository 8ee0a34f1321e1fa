"""Traces in every form, read back; and one line, with its number, for everything that is wrong with one."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asymsim.serving.workload.arrivals import Arrivals
from asymsim.serving.workload.requests import BY_SIZE, TYPICAL, Requests, make_requests
from asymsim.serving.workload.traces.formats import FORMATS
from asymsim.serving.workload.traces.reader import Trace, read_trace
from asymsim.util.errors import InputError

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def trace(tmp_path: Path) -> Any:
    def read(content: str | bytes, **options: Any) -> Trace:
        path = tmp_path / "trace"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_trace(str(path), **options)

    return read


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def columns(requests: Requests, *names: str) -> list[list[Any]]:
    return [getattr(requests, name).tolist() for name in names]


def test_burstgpt(trace: Any) -> None:
    trace_read = trace(
        BURST + "5,ChatGPT,472,18,490,Conversation log\n45.5,GPT-4,1087,0,1087,API log\n50,GPT-4,30,2,32,x\n"
    )
    assert trace_read.format_name == "BurstGPT"
    # The failure, without response tokens, is left out.
    assert trace_read.skipped_rows == 1
    assert columns(trace_read.requests, "arrival_s", "text_tokens", "output_tokens", "num_images") == [
        [0.0, 45.0],
        [472, 30],
        [18, 2],
        [0, 0],
    ]


def test_a_session_column_changes_nothing(trace: Any) -> None:
    trace_read = trace("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n1,a,2,m,3,4\n")
    assert columns(trace_read.requests, "text_tokens", "output_tokens") == [[3], [4]]


def test_azure_text(trace: Any) -> None:
    trace_read = trace(AZURE + "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319612,110,27\n")
    assert trace_read.format_name == "Azure"
    assert columns(trace_read.requests, "text_tokens", "output_tokens") == [[4808, 110], [10, 27]]
    assert trace_read.requests.arrival_s.tolist() == [0.0, pytest.approx(0.0520012, abs=1e-12)]


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+0530"])
def test_azure_with_images_and_zones(trace: Any, zone: str) -> None:
    stamps = [f"2024-10-15T12:00:0{second}{zone}" for second in ("0.269", "5.819", "6")]
    rows = zip(stamps, (0, 1, 16), (770, 949, 4564), (491, 126, 137), strict=True)
    trace_read = trace(
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n" + "".join("{},{},{},{}\n".format(*row) for row in rows),
        image_height=336,
        image_width=448,
    )
    assert columns(trace_read.requests, "num_images", "image_height", "image_width") == [
        [0, 1, 16],
        [336] * 3,
        [448] * 3,
    ]
    assert trace_read.requests.arrival_s.tolist() == pytest.approx([0, 5.55, 5.731])


def test_mooncake_counts_milliseconds(trace: Any) -> None:
    trace_read = trace(
        lines(
            {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]},
            {"timestamp": 3052, "input_length": 7319, "output_length": 490, "hash_ids": [0, 14]},
        )
    )
    assert trace_read.format_name == "Mooncake"
    assert columns(trace_read.requests, "arrival_s", "text_tokens") == [[0.0, 3.052], [6758, 7319]]


def test_bailian_counts_seconds_under_the_same_names(trace: Any) -> None:
    row = {"chat_id": 159, "parent_chat_id": -1, "input_length": 521, "output_length": 132, "type": "text", "turn": 1}
    trace_read = trace(lines({**row, "timestamp": 61.114}, {**row, "timestamp": 62.5}))
    assert trace_read.format_name == "Bailian"
    assert trace_read.requests.arrival_s.tolist() == pytest.approx([0, 1.386])


def test_a_clock_of_ones_own(trace: Any) -> None:
    rows = [{"timestamp": stamp, "input_length": 5, "output_length": 6} for stamp in (0, 2)]
    assert trace(lines(*rows), time_unit="s").requests.arrival_s.tolist() == [0, 2]


@pytest.mark.parametrize("prompt", ["prompt_len", "prompt_tokens", "input_len", "input_length", "input_tokens"])
@pytest.mark.parametrize("output", ["output_len", "output_tokens", "expected_output_len", "output_length"])
def test_names_that_clients_use(trace: Any, prompt: str, output: str) -> None:
    trace_read = trace(lines({prompt: 11, output: 12}, {prompt: 13, output: 14}), arrivals=Arrivals(rate=2.0, seed=1))
    assert columns(trace_read.requests, "text_tokens", "output_tokens") == [[11, 13], [12, 14]]
    assert np.array_equal(trace_read.requests.arrival_s, Arrivals(rate=2.0, seed=1).times(2))


def test_a_result_of_vllm_bench_serve(trace: Any) -> None:
    result = {
        "duration": 3.0,
        "input_lens": [10, 20, 30, 40],
        "output_lens": [1, 2, 0, 4],
        "start_times": [353399.5, 353401.0, 353400.5, 353400.25],
        "errors": ["", "", "timeout", ""],
    }
    for content in (json.dumps(result), json.dumps(result, indent=2)):
        trace_read = trace(content)
        assert trace_read.format_name == "vLLM result"
        # Its requests stand in order of their numbers, which is not quite that of their start.
        assert columns(trace_read.requests, "arrival_s", "text_tokens") == [[0.0, 0.75, 1.5], [10, 40, 20]]
        assert trace_read.skipped_rows == 1
    del result["start_times"]
    with pytest.raises(InputError, match="rate = None: give one"):
        trace(json.dumps(result))


def test_images_in_every_way(trace: Any) -> None:
    row = {"prompt_len": 5, "output_len": 6}
    trace_read = trace(
        lines(
            row,
            {**row, "images": [[480, 640], [480, 640]], "image_id": "cat"},
            {**row, "images": [[480, 640], [1000, 900], [10, 20]], "image_id": "dog"},
            {**row, "images": []},
            {**row, "num_images": 3, "visual_tokens": 1728, "image_id": "cat"},
            {**row, "visual_tokens": 576},
            {**row, "image_height": 336.0, "image_width": 336},
            {**row, "num_images": 2},
        ),
        arrivals=Arrivals(rate=1.0),
    )
    requests = trace_read.requests
    assert requests.num_images.tolist() == [0, 2, 3, 0, 3, 1, 1, 2]
    assert requests.image_height.tolist() == [TYPICAL, 480, 1000, TYPICAL, TYPICAL, TYPICAL, 336, TYPICAL]
    assert requests.image_width.tolist() == [TYPICAL, 640, 900, TYPICAL, TYPICAL, TYPICAL, 336, TYPICAL]
    assert requests.visual_tokens.tolist() == [BY_SIZE] * 4 + [1728, 576] + [BY_SIZE] * 2
    assert requests.image_of.tolist() == [-1, 0, 1, -1, 0, -1, -1, -1]
    assert trace_read.resized_requests == 1


def test_a_trace_without_images_takes_those_of_the_caller(trace: Any) -> None:
    trace_read = trace(BURST + "5,m,4,5,9,x\n", num_images=2, image_height=10, image_width=20)
    assert columns(trace_read.requests, "num_images", "image_height", "image_width") == [[2], [10], [20]]


def test_a_trace_sped_up_and_cut(trace: Any) -> None:
    rows = "".join(f"{second},m,{second},5,9,x\n" for second in (10, 20, 30, 40))
    trace_read = trace(BURST + rows, rate_scale=4.0, limit=3)
    assert columns(trace_read.requests, "arrival_s", "text_tokens") == [[0.0, 2.5, 5.0], [10, 20, 30]]


def test_a_limit_looks_at_the_head_of_a_file_alone(trace: Any) -> None:
    head = BURST + "1,m,4,5,9,x\n2,m,4,0,4,x\n3,m,4,5,9,x\n"
    trace_read = trace(head + "4,m,4,5,9,x\nrubbish\n", limit=2)
    assert columns(trace_read.requests, "arrival_s") == [[0.0, 2.0]]
    assert trace_read.skipped_rows == 1
    assert trace(head + "4,m,4,0,4,x\n" * 3, limit=1).skipped_rows == 0


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_line_ends_marks_blank_lines_and_gzip(trace: Any, end: str, mark: bytes, pack: Any) -> None:
    table = end.join([BURST.strip(), "", "1,m,4,5,9,x", "", '2,"a, b",6,7,13,x', ""])
    objects = end.join([json.dumps({"prompt_len": 4, "output_len": 5}), "", '{"prompt_len":6,"output_len":7.0}'])
    for content, options in ((table, {}), (objects, {"arrivals": Arrivals(rate=1.0)})):
        trace_read = trace(pack(mark + content.encode()), **options)
        assert columns(trace_read.requests, "text_tokens", "output_tokens") == [[4, 6], [5, 7]]


COUNTS = st.integers(1, 10**8)


@given(
    rows=st.lists(
        st.tuples(COUNTS, COUNTS, st.integers(0, 40), st.integers(0, 5000), st.integers(0, 5000), st.integers(-1, 3)),
        min_size=1,
        max_size=30,
    ),
    seconds=st.lists(st.floats(0, 1e7), min_size=30, max_size=30).map(sorted),
    table=st.booleans(),
)
def test_requests_written_are_read_back(rows: Any, seconds: Any, table: bool, tmp_path_factory: Any) -> None:
    text, output, images, height, width, image = np.array(rows).T
    written = make_requests(
        np.array(seconds[: len(rows)]) - seconds[0],
        text_tokens=text,
        output_tokens=output,
        num_images=images,
        image_height=height,
        image_width=width,
        image_of=image,
    )
    names = [field.name for field in dataclasses.fields(Requests)]
    values = list(zip(*columns(written, *names), strict=True))
    path = tmp_path_factory.mktemp("written") / "trace"
    if table:
        content = io.StringIO()
        csv.writer(content).writerows([names, *values])
        path.write_text(content.getvalue())
    else:
        path.write_text(lines(*(dict(zip(names, value, strict=True)) for value in values)))
    trace_read = read_trace(str(path)).requests
    for name in names[:-1]:
        assert np.array_equal(getattr(trace_read, name), getattr(written, name)), name
    # Images keep who shares them, not their numbers.
    same = written.image_of[:, None] == written.image_of
    assert np.array_equal(trace_read.image_of[:, None] == trace_read.image_of, same)
    assert np.array_equal(trace_read.image_of == -1, written.image_of == -1)


def test_rows_beyond_a_chunk_are_read_and_numbered(trace: Any) -> None:
    count = 70_000
    rows = [f"{place},m,{place % 900 + 1},5,9,x\n" for place in range(count)]
    trace_read = trace(BURST + "".join(rows))
    assert np.array_equal(trace_read.requests.text_tokens, np.arange(count) % 900 + 1)
    rows[-1] = "1,m,2,5,9,x\n"
    with pytest.raises(InputError, match=f"line {count + 1}: Timestamp = 1.0: is before line {count}"):
        trace(BURST + "".join(rows))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (BURST + "9,m,4,5,9,x\n\n3,m,4,5,9,x\n", r"line 4: Timestamp = 3.0: is before line 2 \(9.0\); sort"),
        (BURST + "1,m,-4,5,9,x\n", "line 2: Request tokens = '-4': give a whole number from 0 to 100000000"),
        (BURST + "1,m,4,5,9,x\n1,m,4.5,5,9,x\n", "line 3: Request tokens = '4.5'"),
        (BURST + "1,m,,5,9,x\n", "line 2: Request tokens = ''"),
        (BURST + "1,m,nan,5,9,x\n", "line 2: Request tokens = 'nan'"),
        (BURST + "1,m,inf,5,9,x\n", "line 2: Request tokens = 'inf'"),
        (BURST + "1,m,four,5,9,x\n", "line 2: Request tokens = 'four'"),
        (BURST + "1,m,4,100000001,9,x\n", "line 2: Response tokens = '100000001'"),
        (BURST + f"1,m,4,{'9' * 40},9,x\n", "line 2: Response tokens = '9999"),
        (BURST + "nan,m,4,5,9,x\n", "line 2: Timestamp = 'nan': give a finite number"),
        (BURST + "inf,m,4,5,9,x\n", "line 2: Timestamp = 'inf'"),
        (BURST + "noon,m,4,5,9,x\n", "line 2: Timestamp = 'noon'"),
        (BURST + "1,m,4,5\n", "line 2 = '1,m,4,5': give 6 values"),
        (BURST + "1,m,4,5,9,x,y\n", "give 6 values"),
        (BURST, "no rows below it"),
        (BURST + "1,m,4,0,4,x\n", "no request with both a prompt and output"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("a,b\n1,2\n", "columns = 'a, b': needs both counts of one form"),
        ("Timestamp,Request tokens\n1,2\n", "Response tokens"),
        (AZURE + "yesterday,1,2\n", "line 2: TIMESTAMP = 'yesterday': give a date and time"),
        (AZURE + "2023-11-16 18:17:03,1,2\n,1,2\n", "line 3: TIMESTAMP = ''"),
        (AZURE + "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:04Z,1,2\n", "line 3: TIMESTAMP .* one zone"),
        (AZURE + "2023-11-16 18:17:03Z,1,2\n2023-11-16 18:17:04+01:00,1,2\n", "line 3: TIMESTAMP .* one zone"),
        (AZURE + "2023-11-16 18:17:03,1,2\n2023-13-16 18:17:04,1,2\n", "line 3: TIMESTAMP = '2023-13-16"),
        (AZURE + "2023-11-16 18:17:03,1,2\n2023-11-16 18:17:02,1,2\n", "line 3: TIMESTAMP .* is before line 2"),
        ("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2023-11-16,-1,1,2\n", "line 2: NumImages = '-1'"),
        (
            b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16,1,2\n\xff\xfe,1,2\n",
            "line 3 = b'.*': not UTF-8 at its byte 1",
        ),
        ('TIMESTAMP,ContextTokens,GeneratedTokens\n"2023-11-16\n,1,2\n', "line"),
        (gzip.compress(AZURE.encode() * 50, mtime=0)[:-20], "cannot be read"),
        ("[1, 2]", "one object a line"),
        ("{}", "columns = ''"),
        ("{", "line 1 = '{': is no JSON"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2}) + "{\n", "line 2 = '{': is no JSON"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2}) + "3\n", "line 2 = '3': give one JSON object"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2}, {"timestamp": 1}), "line 2: prompt_len = None"),
        (lines({"timestamp": 0, "prompt_len": True, "output_len": 2}), "line 1: prompt_len = True"),
        (lines({"timestamp": 0, "prompt_len": [1], "output_len": 2}), r"line 1: prompt_len = \[1\]"),
        (lines({"timestamp": 0, "prompt_len": 10**30, "output_len": 2}), "line 1: prompt_len = 1000"),
        (lines({"timestamp": 10**400, "prompt_len": 1, "output_len": 2}), "line 1: timestamp"),
        (lines({"timestamp": True, "prompt_len": 1, "output_len": 2}), "line 1: timestamp = True"),
        (lines({"timestamp": None, "prompt_len": 1, "output_len": 2}), "line 1: timestamp = None"),
        (lines({"timestamp": float("nan"), "prompt_len": 1, "output_len": 2}), "line 1: timestamp = nan"),
        (lines({"prompt_len": 1, "output_len": 2}), "rate = None: give one: .* no column 'timestamp'"),
        (lines({"prompt": "What is this?"}), "needs both counts"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2, "images": 3}), "line 1: images = 3: give a list"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2, "images": [[1]]}), r"images = \[1\]"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2, "images": [[0, 5]]}), r"images = \[0, 5\]"),
        (lines({"timestamp": 0, "prompt_len": 1, "output_len": 2, "image_height": -1}), "image_height = -1"),
        (
            lines({"timestamp": 0, "prompt_len": 1, "output_len": 2, "image_height": 10**6, "image_width": 10**6}),
            "image size = '1000000 x 1000000'",
        ),
        (
            lines({"timestamp": 0, "prompt_len": 1, "output_len": 2, "num_images": 0, "visual_tokens": 5}),
            "visual_tokens = 5: visual tokens need an image",
        ),
        (json.dumps({"input_lens": [1, 2], "output_lens": [1]}), "lists of one length"),
        (json.dumps({"input_lens": 3, "output_lens": [1]}), "lists of one length"),
        (json.dumps({"input_lens": [1], "output_lens": [-1], "start_times": [0]}), "request 1: output_lens = -1"),
    ],
)
def test_a_bad_trace_is_one_line(trace: Any, content: str | bytes, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        trace(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("rate_scale", {"rate_scale": 0.0}),
        ("rate_scale", {"rate_scale": float("nan")}),
        ("rate_scale", {"rate_scale": float("inf")}),
        ("limit", {"limit": 0}),
        ("num_images", {"num_images": -1}),
        ("image_height", {"image_height": -1}),
    ],
)
def test_bad_options_are_named(trace: Any, field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        trace(BURST + "1,m,4,5,9,x\n", **options)
    assert caught.value.field == field


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv", "nul\0byte"):
        with pytest.raises(InputError, match="cannot be read"):
            read_trace(str(path))


@given(content=st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_rubbish_is_an_input_error(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("rubbish") / "trace"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_trace(str(path))


CELLS = st.sampled_from(["", "1", "2.0", "-1", "x", '"', "nan", "1e3", "2023-11-16 18:17:03", "\n", "{", "é"])


@given(
    trace_format=st.sampled_from([trace_format for trace_format in FORMATS if trace_format.ordered]),
    cells=st.lists(CELLS, min_size=3, max_size=9),
)
def test_any_cells_are_requests_or_an_input_error(trace_format: Any, cells: list[str], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("cells") / "trace"
    body = "\n".join(",".join(cells[at : at + 3]) for at in range(0, len(cells), 3))
    path.write_text(
        f"{trace_format.time_columns[0]},{trace_format.prompt_columns[0]},{trace_format.output_columns[0]}\n{body}\n"
    )
    try:
        requests = read_trace(str(path)).requests
    except InputError:
        return
    assert (np.diff(requests.arrival_s) >= 0).all()
    assert requests.arrival_s[0] == 0
    assert (requests.text_tokens > 0).all()
    assert (requests.output_tokens > 0).all()


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
KEYS = ("timestamp", "num_images", "image_height", "image_width", "visual_tokens", "image_id")


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"prompt_len": VALUES | st.integers(0, 9), "output_len": VALUES | st.integers(0, 9)},
            optional={
                **dict.fromkeys(KEYS, VALUES | st.integers(0, 9)),
                "images": st.lists(VALUES | st.lists(VALUES | st.integers(0, 9), max_size=3), max_size=2),
            },
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_objects_are_requests_or_an_input_error(rows: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("objects") / "trace"
    path.write_text(lines(*rows))
    try:
        requests = read_trace(str(path), arrivals=Arrivals(rate=1.0)).requests
    except InputError:
        return
    assert (requests.num_images >= 0).all()
    assert (requests.visual_tokens >= BY_SIZE).all()
    assert ((requests.num_images > 0) | (requests.visual_tokens <= 0)).all()
