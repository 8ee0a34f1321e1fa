"""Image rules against the processors of ``transformers``, over ordinary and absurd sizes."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from transformers.models.got_ocr2 import image_processing_pil_got_ocr2 as got_ocr2
from transformers.models.idefics3 import image_processing_pil_idefics3 as idefics3
from transformers.models.llava_next import modeling_llava_next
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.pixtral import image_processing_pil_pixtral as pixtral

from asymsim.catalogue.hf.llava_next import PINPOINTS
from asymsim.catalogue.hf.llava_onevision import EDGES
from asymsim.catalogue.images.anyres import AnyRes
from asymsim.catalogue.images.base import ImageRule
from asymsim.catalogue.images.fixed import FixedTile
from asymsim.catalogue.images.idefics import SplitTiles
from asymsim.catalogue.images.pixtral import LongestEdge
from asymsim.catalogue.images.tiling import AspectTiles
from asymsim.util.errors import InputError

DRAW = random.Random(20240229)
SIZES = [
    *((1, 1), (1, 2), (2, 1), (1, 5000), (5000, 1), (3, 4099), (17, 19), (336, 336), (335, 337), (384, 384)),
    *((448, 448), (449, 447), (480, 640), (640, 480), (672, 672), (1000, 3000), (1024, 1024), (1025, 1023)),
    *((1080, 1920), (2048, 1536), (364, 365), (365, 364), (4096, 4096), (4097, 31), (2304, 2304), (800, 790)),
    *((DRAW.randint(1, 3000), DRAW.randint(1, 3000)) for _ in range(300)),
]

ONEVISION_PINPOINTS = tuple((height, width) for height in EDGES for width in EDGES)
LLAVA_NEXT = AnyRes(tile_size=336, patches_per_side=24, extra_tokens=1, pinpoints=PINPOINTS)
ONEVISION = AnyRes(tile_size=384, patches_per_side=27, pinpoints=ONEVISION_PINPOINTS, max_tiles=9)
INTERNVL = AspectTiles(tile_size=448, patches_per_tile=1024, tile_tokens=256)
IDEFICS3 = SplitTiles(tile_size=364, longest_edge=4 * 364, patches_per_tile=676, tile_tokens=169)
SMOLVLM_500M = SplitTiles(tile_size=512, longest_edge=4 * 512, patches_per_tile=1024, tile_tokens=64)
PIXTRAL = LongestEdge(longest_edge=1024, patch_size=16)
LLAVA = FixedTile(image_size=336, patch_size=14, extra_tokens=1, visual_tokens=576)
RULES: dict[str, ImageRule] = {
    "llava": LLAVA,
    "llava_next": LLAVA_NEXT,
    "onevision": ONEVISION,
    "internvl": INTERNVL,
    "idefics3": IDEFICS3,
    "smolvlm": SMOLVLM_500M,
    "pixtral": PIXTRAL,
}


def processor(cls: type, pinpoints: tuple[tuple[int, int], ...], **state: object) -> SimpleNamespace:
    """A stand-in for a processor's ``self`` with what its counting methods read, without a tokenizer."""
    listed = [list(pinpoint) for pinpoint in pinpoints]
    stand_in = SimpleNamespace(image_processor=SimpleNamespace(image_grid_pinpoints=listed), **state)
    stand_in._get_unpadded_features = lambda *sizes: cls._get_unpadded_features(stand_in, *sizes)  # type: ignore[attr-defined]
    return stand_in


def test_llava_next_token_count_is_its_processors() -> None:
    stand_in = processor(LlavaNextProcessor, PINPOINTS, patch_size=14, num_additional_image_tokens=1)
    for height, width in SIZES:
        # "default" takes the [CLS] away again, as the processor's caller does.
        expected = LlavaNextProcessor._get_number_of_features(stand_in, height, width, 336, 336) - 1
        assert LLAVA_NEXT.tokens(height, width).visual_tokens == expected, (height, width)


def test_llava_onevision_token_count_is_its_processors() -> None:
    stand_in = processor(
        LlavaOnevisionProcessor, ONEVISION_PINPOINTS, num_image_tokens=729, vision_aspect_ratio="anyres_max_9"
    )
    for height, width in SIZES:
        expected = LlavaOnevisionProcessor._get_number_of_features(stand_in, height, width, 384, 384)
        assert ONEVISION.tokens(height, width).visual_tokens == expected, (height, width)


@pytest.mark.parametrize("rule", [LLAVA_NEXT, ONEVISION], ids=["llava_next", "onevision"])
def test_anyres_tiles_are_those_the_model_encodes(rule: AnyRes) -> None:
    pinpoints = [list(pinpoint) for pinpoint in rule.pinpoints]
    for size in SIZES:
        tiles = modeling_llava_next.image_size_to_num_patches(list(size), pinpoints, rule.tile_size)
        assert rule.tokens(*size).sequences == tiles, size


def test_internvl_tiles_are_those_of_its_processor() -> None:
    theirs = got_ocr2.GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True)
    for height, width in SIZES:
        columns, rows = got_ocr2.get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)
        assert INTERNVL.grid(height, width) == (rows, columns), (height, width)
        assert INTERNVL.tokens(height, width).sequences == theirs.get_number_of_image_patches(height, width)


@pytest.mark.parametrize(("least", "most"), [(1, 1), (2, 6), (1, 40)])
def test_internvl_bounds_on_tiles(least: int, most: int) -> None:
    rule = AspectTiles(tile_size=448, patches_per_tile=1024, tile_tokens=256, min_tiles=least, max_tiles=most)
    for height, width in SIZES[::7]:
        columns, rows = got_ocr2.get_optimal_tiled_canvas((height, width), (448, 448), least, most)
        assert rule.grid(height, width) == (rows, columns)


def test_pixtral_grid_is_that_of_its_processor() -> None:
    for height, width in SIZES:
        pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
        high, wide = pixtral.get_resize_output_image_size(pixels, 1024, 16, input_data_format="channels_last")
        rows, columns = max(1, high // 16), max(1, wide // 16)
        tokens = PIXTRAL.tokens(height, width)
        assert (tokens.patches, tokens.visual_tokens) == (rows * columns, rows * (columns + 1)), (height, width)


@pytest.mark.parametrize("rule", [IDEFICS3, SMOLVLM_500M], ids=["idefics3", "smolvlm"])
def test_idefics_tiles_are_those_of_its_processor(rule: SplitTiles) -> None:
    theirs = idefics3.Idefics3ImageProcessorPil(
        size={"longest_edge": rule.longest_edge}, max_image_size={"longest_edge": rule.tile_size}
    )
    for height, width in SIZES:
        sequences, rows, columns = theirs.get_number_of_image_patches(height, width)
        assert rule.grid(height, width) == (rows, columns), (height, width)
        assert rule.tokens(height, width).sequences == sequences


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (31, 47), (364, 364), (500, 375)])
def test_idefics_tiles_are_those_that_come_out_of_its_processor(size: tuple[int, int]) -> None:
    rule = SplitTiles(tile_size=64, longest_edge=256, patches_per_tile=16, tile_tokens=4)
    theirs = idefics3.Idefics3ImageProcessorPil(size={"longest_edge": 256}, max_image_size={"longest_edge": 64})
    height, width = size
    out = theirs(Image.new("RGB", (width, height)), return_tensors="np", return_row_col_info=True)
    assert rule.tokens(height, width).sequences == out["pixel_values"].shape[1]
    assert out["pixel_values"].shape[-2:] == (64, 64)
    assert rule.grid(height, width) == (out["rows"][0][0], out["cols"][0][0])


@pytest.mark.parametrize(
    ("rule", "size", "sequences", "visual"),
    [
        # 672 x 672: a base tile and 2 x 2 tiles; 576 + 48 rows of 48 tokens and a newline.
        (LLAVA_NEXT, (672, 672), 5, 576 + 48 * 49),
        (LLAVA, (10, 5000), 1, 576),
        (INTERNVL, (448, 448), 1, 256),
        (INTERNVL, (448, 896), 3, 3 * 256),
        (PIXTRAL, (1024, 1024), 1, 64 * 65),
        (PIXTRAL, (16, 16), 1, 2),
        # SmolVLM-500M: 64 tokens for each of 4 x 4 tiles and the whole image.
        (SMOLVLM_500M, (512, 512), 17, 17 * 64),
    ],
)
def test_known_counts(rule: ImageRule, size: tuple[int, int], sequences: int, visual: int) -> None:
    tokens = rule.tokens(*size)
    assert (tokens.sequences, tokens.visual_tokens) == (sequences, visual)


@pytest.mark.parametrize("name", RULES)
def test_counts_hang_together(name: str) -> None:
    rule = RULES[name]
    for height, width in SIZES:
        tokens = rule.tokens(height, width)
        assert tokens.sequences >= 1
        assert tokens.visual_tokens >= 1
        assert tokens.patches <= tokens.sequences * tokens.sequence_tokens
        assert tokens.projector_tokens % tokens.sequences == 0


@pytest.mark.parametrize("name", RULES)
def test_tokens_outright_are_met_and_cost_never_falls(name: str) -> None:
    rule = RULES[name]
    before = 0
    for wanted in [*range(1, 700), *range(700, 9000, 37), 100_000]:
        tokens = rule.tokens_for(wanted)
        assert tokens.visual_tokens == wanted
        assert tokens.patches >= before
        before = tokens.patches


def sizes_of(rule: ImageRule) -> list[tuple[int, int]]:
    """Images whose token count is the most that their number of tiles can make."""
    if isinstance(rule, AnyRes):
        return [(672, 336), (1008, 336), (672, 672)]
    edge = rule.longest_edge if isinstance(rule, SplitTiles) else 448
    return [(edge, edge), (edge, 4 * edge), (2 * edge, edge)]


@pytest.mark.parametrize("name", ["llava", "llava_next", "internvl", "idefics3", "smolvlm"])
def test_tokens_outright_take_the_fewest_tiles(name: str) -> None:
    rule = RULES[name]
    for size in sizes_of(rule):
        tokens = rule.tokens(*size)
        assert rule.tokens_for(tokens.visual_tokens) == tokens
        assert rule.tokens_for(tokens.visual_tokens + 1).sequences > tokens.sequences


def test_pixtral_tokens_outright_take_the_smallest_square() -> None:
    for edge in range(1, 65):
        tokens = PIXTRAL.tokens(16 * edge, 16 * edge)
        assert PIXTRAL.tokens_for(tokens.visual_tokens) == tokens
        if edge < 64:
            assert PIXTRAL.tokens_for(tokens.visual_tokens + 1).patches > tokens.patches
    assert PIXTRAL.tokens_for(64 * 65 + 1).sequences == 2


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"llava"}))
@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5, 2**40), (True, 5), (2.5, 5)])
def test_bad_sizes_are_input_errors(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"image_(?:height|width) = "):
        RULES[name].tokens(*size)
    with pytest.raises(InputError, match="visual_tokens = "):
        RULES[name].tokens_for(0)


@pytest.mark.parametrize("name", RULES)
def test_default_size_is_an_image(name: str) -> None:
    rule = RULES[name]
    height, width = rule.default_size()
    assert rule.tokens(height, width).visual_tokens > 0
