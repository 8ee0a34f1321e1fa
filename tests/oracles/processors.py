"""The framework's own image-size arithmetic, from processors that cannot be imported without torchvision.

Named functions are compiled out of the installed source; what they would do to pixels is replaced by no-ops.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch


def functions(module: str, names: tuple[str, ...], **names_inside: Any) -> SimpleNamespace:
    """Functions or methods of a module of ``transformers.models``, compiled without importing it."""
    package = importlib.util.find_spec("transformers")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "models" / f"{module.replace('.', '/')}.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    for node in found:
        node.decorator_list = []
    future = ast.parse("from __future__ import annotations").body
    scope: dict[str, Any] = {"torch": torch, "math": math, "defaultdict": defaultdict, **names_inside}
    exec(compile(ast.Module(body=[*future, *found], type_ignores=[]), str(source), "exec"), scope)
    return SimpleNamespace(**{name: scope[name] for name in names})


LLAMA4 = functions("llama4.image_processing_llama4", ("get_factors", "find_supported_resolutions", "get_best_fit"))
PHI4 = functions(
    "phi4_multimodal.image_processing_phi4_multimodal",
    ("find_closest_aspect_ratio", "dynamic_preprocess"),
    tvF=SimpleNamespace(resize=lambda image, size: image, pad=lambda image, padding, fill: image),
)


@lru_cache(maxsize=4)
def _resolutions(most_tiles: int, tile_size: int) -> torch.Tensor:
    size = SimpleNamespace(height=tile_size, width=tile_size)
    return torch.tensor(LLAMA4.find_supported_resolutions(most_tiles, size))


def llama4_tiles(height: int, width: int, most_tiles: int, tile_size: int) -> int:
    """Tiles of one image, the global one included."""
    rows, columns = (
        int(side) // tile_size for side in LLAMA4.get_best_fit((height, width), _resolutions(most_tiles, tile_size))
    )
    return rows * columns + (rows * columns > 1)


def phi4_tokens(height: int, width: int, dynamic_hd: int) -> tuple[int, int]:
    """(crops with the global one, tokens) of one image; ValueError where the processor gives up.

    The last lines of ``_preprocess``, counting in the mask that ``dynamic_preprocess`` returns.
    """
    size, patch = 448, 14
    owner = SimpleNamespace(find_closest_aspect_ratio=lambda *values: PHI4.find_closest_aspect_ratio(None, *values))
    host = SimpleNamespace(shape=(3, height, width), device="cpu")
    _, mask = PHI4.dynamic_preprocess(owner, host, size, patch, size // patch, max_num=dynamic_hd)
    kept = mask[0::2, 0::2]
    crops = mask.shape[0] * mask.shape[1] // (size // patch) ** 2
    return crops + 1, 256 + 1 + int(kept.sum()) + int(kept[:, 0].sum()) + 16
