"""Images and lengths to token counts, and what is refused."""

from __future__ import annotations

import pytest

from asymsim.catalogue.load import load_model
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.token_counts import LARGEST_BATCH, LARGEST_IMAGES, LARGEST_TOKENS, request_tokens
from asymsim.util.errors import InputError

LLAVA, QWEN, LLAMA = load_model("llava-1.5-7b"), load_model("qwen2.5-vl-7b"), load_model("llama-3.1-8b")


def test_one_typical_image_is_the_default() -> None:
    assert request_tokens(LLAVA).token_counts() == TokenCounts(1, 1, 577, 576, 0, 576, 576, 64, 128, 1)
    assert request_tokens(LLAMA).token_counts() == TokenCounts(0, 0, 0, 0, 0, 0, 0, 64, 128, 1)


@pytest.mark.parametrize("images", [1, 2, 7, LARGEST_IMAGES])
def test_images_add_up(images: int) -> None:
    made = request_tokens(QWEN, num_images=images, image_height=448, image_width=448)
    # 448 / 14 = 32 patches a side, of which 2 x 2 become a token.
    assert made.visual_tokens == images * 256
    assert made.image is not None
    assert made.image.patches == 1024


def test_no_images_is_a_load_of_text() -> None:
    for made in (request_tokens(LLAVA, num_images=0), request_tokens(LLAVA, visual_tokens=0)):
        assert made.token_counts()._replace(text_tokens=0, output_tokens=0, batch_size=0) == TokenCounts(*[0] * 10)
    assert request_tokens(LLAMA, num_images=0, visual_tokens=0).visual_tokens == 0


@pytest.mark.parametrize(("visual", "images"), [(1, 1), (1, 5), (575, 1), (577, 2), (1000, 3)])
def test_tokens_given_outright_are_exactly_those(visual: int, images: int) -> None:
    made = request_tokens(LLAVA, visual_tokens=visual, num_images=images)
    assert made.visual_tokens == visual
    # No image without a token of its own.
    assert made.num_images == min(images, visual)
    assert made.image is not None
    assert made.num_images * made.image.visual_tokens >= visual


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 150), (3, 5), (337, 335), (10_000, 17_000)])
@pytest.mark.parametrize("name", ["llava-1.5-7b", "qwen2.5-vl-7b", "llava-v1.6-mistral-7b", "phi-3.5-vision"])
def test_odd_images_make_tokens(name: str, height: int, width: int) -> None:
    made = request_tokens(load_model(name), image_height=height, image_width=width)
    assert made.image is not None
    assert made.visual_tokens == made.image.visual_tokens > 0
    assert min(made.image.sequences, made.image.patches, made.image.projector_tokens) > 0


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("text_tokens", 1, LARGEST_TOKENS),
        ("output_tokens", 1, LARGEST_TOKENS),
        ("batch_size", 1, LARGEST_BATCH),
        ("num_images", 0, LARGEST_IMAGES),
        ("visual_tokens", 0, LARGEST_TOKENS),
    ],
)
def test_numbers_out_of_range_name_their_field(field: str, lowest: int, highest: int) -> None:
    for good in (lowest, highest):
        request_tokens(LLAVA, **{field: good})
    for bad in (lowest - 1, -(10**18), highest + 1, 10**18):
        with pytest.raises(InputError, match=f"{lowest} to {highest}") as caught:
            request_tokens(LLAVA, **{field: bad})
        assert (caught.value.field, caught.value.value) == (field, bad)


@pytest.mark.parametrize("side", ["image_height", "image_width"])
@pytest.mark.parametrize("pixels", [0, -1])
def test_an_image_has_pixels(side: str, pixels: int) -> None:
    with pytest.raises(InputError) as caught:
        request_tokens(LLAVA, **{side: pixels})
    assert caught.value.field == side


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("llava-1.5-7b", {"image_height": 20_000, "image_width": 20_000}, "image_height x image_width"),
        ("llava-1.5-7b", {"visual_tokens": 5, "image_height": 5}, "visual_tokens"),
        ("llava-1.5-7b", {"visual_tokens": 5, "num_images": 0}, "num_images"),
        ("llama-3.1-8b", {"num_images": 1}, "num_images"),
        ("llama-3.1-8b", {"visual_tokens": 9}, "num_images"),
    ],
)
def test_contradictions_are_refused(name: str, arguments: dict[str, int], field: str) -> None:
    with pytest.raises(InputError) as caught:
        request_tokens(load_model(name), **arguments)
    assert caught.value.field == field
