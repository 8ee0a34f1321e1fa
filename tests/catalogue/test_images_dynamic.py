"""Image rules against the processors whose arithmetic they repeat."""

from __future__ import annotations

import random

import pytest
import torch
from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import MiniCPMV4_6ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.vision_utils import get_vision_window_index

from asymsim.catalogue.images.base import ImageRule
from asymsim.catalogue.images.canvas import grids, smallest_grid
from asymsim.catalogue.images.dynamic import DynamicResolution
from asymsim.catalogue.images.hd import Phi3Hd, Phi4Hd
from asymsim.catalogue.images.llama4 import GlobalAndTiles
from asymsim.catalogue.images.mllama import PaddedTiles
from asymsim.catalogue.images.slices import AdaptiveSlices
from asymsim.util.errors import InputError
from oracles.processors import llama4_tiles, phi4_tokens

QWEN2 = DynamicResolution(patch_size=14, merge_size=2, min_pixels=3136, max_pixels=12845056)
QWEN2_5 = DynamicResolution(patch_size=14, merge_size=2, min_pixels=3136, max_pixels=12845056, window_size=112)
QWEN3 = DynamicResolution(patch_size=16, merge_size=2, min_pixels=65536, max_pixels=16777216)
LLAMA4 = GlobalAndTiles(image_size=336, patch_size=14, extra_tokens=1, most_tiles=16, tile_tokens=144)
MLLAMA = PaddedTiles(image_size=560, patch_size=14, tiles=4)
RULES: list[ImageRule] = [QWEN2, QWEN2_5, QWEN3, LLAMA4, MLLAMA, Phi3Hd(num_crops=4), Phi3Hd(num_crops=16), Phi4Hd()]
RULES.append(AdaptiveSlices())

EDGES = (1, 2, 13, 14, 27, 28, 29, 335, 336, 337, 448, 671, 672, 1343, 1344, 2000, 5000)


def sizes(count: int) -> list[tuple[int, int]]:
    """Every pair of sides at which some rule changes its mind, and random ones."""
    generator = random.Random(20250101)
    pairs = [(height, width) for height in EDGES for width in EDGES]
    return pairs + [(generator.randint(1, 3000), generator.randint(1, 3000)) for _ in range(count)]


@pytest.mark.parametrize("rule", [QWEN2, QWEN3], ids=["patch 14", "patch 16"])
def test_smart_resize(rule: DynamicResolution) -> None:
    for height, width in sizes(2000):
        try:
            expected = smart_resize(height, width, rule.factor, rule.min_pixels, rule.max_pixels)
        except ValueError:
            with pytest.raises(InputError, match="200 times"):
                rule.tokens(height, width)
            continue
        assert rule.resize(height, width) == expected
        patches = expected[0] * expected[1] // rule.patch_size**2
        tokens = rule.tokens(height, width)
        assert (tokens.patches, tokens.sequence_tokens, tokens.visual_tokens) == (patches, patches, patches // 4)


def test_aspect_ratio_of_200_is_the_last_one() -> None:
    assert QWEN2.tokens(10, 2000).visual_tokens == 29
    with pytest.raises(InputError, match="image_width = 2001"):
        QWEN2.tokens(10, 2001)


def test_window_pairs_are_those_of_the_ragged_windows() -> None:
    for height, width in sizes(50):
        if max(height, width) > 200 * min(height, width):
            continue
        rows, columns = (side // 14 for side in QWEN2_5.resize(height, width))
        grid = torch.tensor([[1, rows, columns]])
        _, bounds = get_vision_window_index(grid, spatial_merge_size=2, window_size=112, patch_size=14)
        lengths = bounds.diff().long()
        assert QWEN2_5.tokens(height, width).window_pairs == int((lengths**2).sum())
        assert int(lengths.sum()) == rows * columns


def test_llama4_canvas() -> None:
    for height, width in sizes(2000):
        tiles = llama4_tiles(height, width, 16, 336)
        tokens = LLAMA4.tokens(height, width)
        assert (tokens.sequences, tokens.visual_tokens) == (tiles, 144 * tiles)


def test_llama4_small_image_is_one_tile_without_a_global_one() -> None:
    assert LLAMA4.tokens(1, 1).visual_tokens == 144
    assert LLAMA4.tokens(336, 672).visual_tokens == 3 * 144
    assert LLAMA4.tokens(5000, 5000).sequences == 17


@pytest.mark.parametrize("dynamic_hd", [36, 16, 4])
def test_phi4_crops_and_tokens(dynamic_hd: int) -> None:
    rule = Phi4Hd(dynamic_hd=dynamic_hd)
    for height, width in sizes(200):
        try:
            crops, count = phi4_tokens(height, width, dynamic_hd)
        except ValueError:
            with pytest.raises(InputError, match="too elongated"):
                rule.tokens(height, width)
            continue
        tokens = rule.tokens(height, width)
        assert (tokens.sequences, tokens.visual_tokens, tokens.projector_tokens) == (crops, count, count)


def test_minicpm_slices() -> None:
    """MiniCPM-V 4.6 kept the slicing of 2.6 and rounds to four patches; a quarter patch undoes that."""
    processor, rule = MiniCPMV4_6ImageProcessorPil(), AdaptiveSlices()
    for height, width in sizes(2000):
        grid = processor.get_sliced_grid((height, width), 9, 448)
        view = processor.find_best_resize((height, width), 448, 3.5, "16x", allow_upscale=grid is None)
        longest = view[0] * view[1]
        slices = 1
        if grid is not None:
            refined = processor.get_refine_size((height, width), grid, 448, 3.5, "16x", allow_upscale=True)
            longest = max(longest, refined[0] * refined[1] / (grid[0] * grid[1]))
            slices += grid[0] * grid[1]
        tokens = rule.tokens(height, width)
        assert (tokens.sequences, tokens.sequence_tokens * 14**2) == (slices, longest)
        assert tokens.visual_tokens == 64 * slices


@pytest.mark.parametrize(
    ("num_crops", "size", "crops", "tokens"),
    [
        # num_img_tokens = (h//336 * w//336 + 1) * 144 + 1 + (h//336 + 1) * 12 in the Hub's processing_phi3_v.py.
        (4, (336, 336), (2, 2), 5 * 144 + 1 + 3 * 12),
        (16, (336, 336), (4, 4), 17 * 144 + 1 + 5 * 12),
        (16, (1, 1), (4, 4), 17 * 144 + 1 + 5 * 12),
        (4, (100, 1000), (1, 4), 5 * 144 + 1 + 2 * 12),
        (4, (1000, 100), (4, 1), 5 * 144 + 1 + 5 * 12),
        (16, (480, 640), (3, 4), 13 * 144 + 1 + 4 * 12),
        (16, (640, 480), (4, 3), 13 * 144 + 1 + 5 * 12),
    ],
)
def test_phi3_crops(num_crops: int, size: tuple[int, int], crops: tuple[int, int], tokens: int) -> None:
    rule = Phi3Hd(num_crops=num_crops)
    assert rule.grid(*size) == crops
    assert rule.tokens(*size).visual_tokens == tokens
    assert rule.tokens(*size).sequences == num_crops + 1


def test_phi3_strip_too_thin_for_one_pixel() -> None:
    Phi3Hd(num_crops=4).tokens(1, 1344)
    with pytest.raises(InputError, match=r"image_width = 1345.*at most 1344"):
        Phi3Hd(num_crops=4).tokens(1, 1345)


def test_mllama_runs_all_tiles_whatever_the_image() -> None:
    for height, width in sizes(0):
        tokens = MLLAMA.tokens(height, width)
        assert (tokens.sequences, tokens.sequence_tokens, tokens.patches) == (1, 4 * 1608, 4 * 1600)
        assert tokens.projector_tokens == tokens.visual_tokens == 4 * 1601


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_counts_hold_together(rule: ImageRule) -> None:
    assert rule.tokens(*rule.default_size()).visual_tokens > 0
    for height, width in sizes(30):
        try:
            tokens = rule.tokens(height, width)
        except InputError:
            continue
        assert min(tokens.sequences, tokens.sequence_tokens, tokens.patches, tokens.visual_tokens) >= 1
        assert tokens.patches <= tokens.sequences * tokens.sequence_tokens
        assert 0 <= tokens.window_pairs <= tokens.sequences * tokens.sequence_tokens**2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_tokens_given_outright(rule: ImageRule) -> None:
    previous = 0
    for count in (1, 2, 3, 63, 64, 65, 143, 144, 145, 288, 576, 997, 1000, 2509, 6404, 20000):
        tokens = rule.tokens_for(count)
        assert tokens.visual_tokens == count
        assert tokens.projector_tokens >= count
        assert tokens.sequences * tokens.sequence_tokens >= previous
        previous = tokens.sequences * tokens.sequence_tokens
    for height, width in ((336, 672), (900, 300)):
        whole = rule.tokens(height, width)
        # An image that yields this many exists, so the smallest such image is no larger.
        assert rule.tokens_for(whole.visual_tokens).sequences <= whole.sequences


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5), (5, 2**30), (1.5, 5), (True, 5)])
def test_bad_sizes(rule: ImageRule, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"image_(height|width) = "):
        rule.tokens(*size)
    with pytest.raises(InputError, match="visual_tokens = "):
        rule.tokens_for(0)


def test_smallest_grid_is_smallest() -> None:
    for cells in range(1, 400):
        rows, columns = smallest_grid(cells)
        allowed = [r * c for r in range(1, 41) for c in range(r, 2 * r + 1) if r * c >= cells]
        assert rows * columns == min(allowed)
        assert rows <= columns <= 2 * rows


def test_grids_come_by_area() -> None:
    assert grids(4) == ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (2, 2), (4, 1))
