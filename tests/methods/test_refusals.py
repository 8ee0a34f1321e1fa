"""Models on which a method has no meaning, and settings out of range: one line each."""

from __future__ import annotations

import pytest

from asymsim.methods.base import make_method, registered_methods
from asymsim.util.errors import InputError, UnknownNameError, UnsupportedError
from oracles.run_schedule import run
from oracles.small_models import CASES

IN_ENCODER = ("tome", "flowcut", "folder")
IN_SEQUENCE = ("sparsevlm", "pyramiddrop", "vscan", "dart", "vl_cache", "h2o", "snapkv", "pyramidkv")


def refusal(name: str, case: str) -> str:
    with pytest.raises(UnsupportedError) as caught:
        registered_methods()[name]().schedule(CASES[case].model)
    return str(caught.value)


@pytest.mark.parametrize("name", IN_ENCODER)
def test_encoders_that_merge_neighbours(name: str) -> None:
    assert "merges 4 neighbours" in refusal(name, "merged")


@pytest.mark.parametrize("name", IN_SEQUENCE)
def test_visual_tokens_behind_cross_attention(name: str) -> None:
    assert "cross-attention alone" in refusal(name, "cross")


@pytest.mark.parametrize("name", [name for name, kind in registered_methods().items() if kind.family == "vision"])
def test_without_vision_tower(name: str) -> None:
    """FastV and the identity have nothing to prune there, and prune nothing; all others say so."""
    case = CASES["text_only"]
    if name in ("fastv", "none"):
        assert set(run(registered_methods()[name]().schedule(case.model), case).visual) == {0}
    else:
        assert "no vision tower" in refusal(name, "text_only")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sparsevlm", {"layers": (2, 6, 40)}),
        ("sparsevlm", {"layers": (6, 2, 15)}),
        ("sparsevlm", {"counts": (-1, 0, 0)}),
        ("pyramiddrop", {"ratio": 1.5}),
        ("pyramiddrop", {"layers": (0,)}),
        ("pyramiddrop", {"layers": (8, 8)}),
        ("visionzip", {"dominant": 54}),
        ("visionzip", {"dominant": -1, "contextual": 1}),
        ("hired", {"full_image_share": 2.0}),
        ("tome", {"r": -1}),
        ("flowcut", {"entropy_ratio": 1.1}),
        ("flowcut", {"crop_factor": 0.5}),
        ("holov", {"crops": 0}),
        ("vscan", {"layer": 32}),
        ("vscan", {"second_share": 0.0}),
        ("vscan", {"local_layer": 99}),
        ("dart", {"layer": 0}),
        ("dart", {"image_pivots": -1}),
        ("folder", {"blocks_from_end": 25}),
        ("flashvlm", {"removed_at_once": 0}),
        ("flashvlm", {"important_share": -1.0}),
        ("desap", {"joint_size": 0}),
        ("desap", {"text_tower_layers": -1}),
        ("vl_cache", {"layer_shares": (0.1, 0.2)}),
        ("vl_cache", {"layer_shares": (1.1,) * 32}),
        ("snapkv", {"capacity": 8}),
        ("snapkv", {"window": 0}),
        ("pyramidkv", {"capacity": 8}),
        ("streamingllm", {"window": -1}),
        ("h2o", {"recent_share": 7.0}),
        ("duoattention", {"sinks": -1}),
        ("duoattention", {"retrieval_heads": 2.0}),
    ],
)
def test_settings_out_of_range(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        make_method(name, None, settings).schedule(CASES["crops" if name == "hired" else "cls"].model)
    assert name in caught.value.field
    assert "\n" not in str(caught.value)


def test_misspelt_setting() -> None:
    with pytest.raises(UnknownNameError, match="did you mean ratio"):
        make_method("pyramiddrop", None, {"rato": 0.5})
