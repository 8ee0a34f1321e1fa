"""Scenarios of the golden estimates: a fixed walk through models, methods, GPUs, formats and conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

TEXT_MODELS = (
    "gemma-2-9b-it", "gemma-3-1b-it", "llama-3.1-70b", "llama-3.1-8b", "mistral-7b-v0.3", "phi-3-mini-4k",
    "qwen2.5-7b", "qwen3-32b", "qwen3-8b",
)  # fmt: skip
VISION_MODELS = (
    "gemma-3-12b-it", "gemma-3-27b-it", "gemma-3-4b-it", "idefics3-8b", "internvl3-1b", "internvl3-2b",
    "internvl3-8b", "llama-3.2-11b-vision", "llama-3.2-90b-vision", "llama-4-scout-17b-16e", "llava-1.5-13b",
    "llava-1.5-7b", "llava-onevision-qwen2-0.5b-ov", "llava-onevision-qwen2-7b-ov", "llava-v1.6-mistral-7b",
    "llava-v1.6-vicuna-7b", "minicpm-v-2.6", "paligemma-3b-mix-224", "paligemma2-3b-pt-224", "phi-3.5-vision",
    "phi-4-multimodal", "pixtral-12b", "qwen2-vl-2b", "qwen2-vl-7b", "qwen2.5-vl-32b", "qwen2.5-vl-3b",
    "qwen2.5-vl-72b", "qwen2.5-vl-7b", "qwen3-vl-2b", "qwen3-vl-30b-a3b", "qwen3-vl-4b", "qwen3-vl-8b",
    "smolvlm-2.2b", "smolvlm-256m", "smolvlm-500m",
)  # fmt: skip
LARGE_MODELS = (
    "llama-3.2-90b-vision", "llama-4-scout-17b-16e", "qwen2.5-vl-72b", "llama-3.1-70b", "qwen3-vl-30b-a3b",
)  # fmt: skip
# Their attention heads are divided by no power of two.
ODD_HEADS_MODELS = ("internvl3-1b", "llava-onevision-qwen2-0.5b-ov", "smolvlm-256m", "smolvlm-500m")
KV_METHODS: tuple[dict[str, Any], ...] = (
    {"method": "h2o"},
    {"method": "snapkv", "keep": 0.25},
    {"method": "duoattention", "settings": {"sinks": 16, "recent": 128}},
    {"method": "pyramidkv", "settings": {"capacity": 256}},
    {"method": "streamingllm", "settings": {"window": 200}},
    {"method": "vl_cache", "keep": 0.2},
    {"method": "h2o", "keep": 0.4, "settings": {"recent_share": 0.25}},
    {"method": "streamingllm", "keep": 0.3},
)
PRUNING: tuple[dict[str, Any], ...] = (
    {"method": "asymvlm"},
    {"method": "fastv"},
    {"method": "sparsevlm"},
    {"method": "dart", "keep": 0.3},
    {"method": "pyramiddrop"},
    {},
    {"method": "desap"},
    {"method": "visionzip", "keep": 0.25},
    KV_METHODS[0],
    {"method": "prumerge"},
    {"method": "tome"},
    {"method": "holov"},
    KV_METHODS[1],
    {"schedule": "two_stage.toml"},
    {"method": "flashvlm", "keep": 0.25},
    {"method": "flowcut"},
    KV_METHODS[2],
    {"method": "folder"},
    {"method": "hired"},
    {"method": "vscan"},
    KV_METHODS[3],
    {"method": "asymvlm+snapkv", "keep": 0.5, "settings": {"snapkv.window": 16}},
    {"method": "fastv", "keep": 0.25, "settings": {"layer": 3, "masking": True}},
    KV_METHODS[4],
    {"schedule": "vision_and_kv.toml"},
    {"method": "asymvlm", "keep": 0.4, "settings": {"budget": "linear", "retain": 0.75}},
    {"method": "pyramiddrop", "keep": 0.3},
    KV_METHODS[5],
    {"method": "fastv+h2o", "keep": 0.5},
    {"method": "asymvlm", "keep": 0.25, "settings": {"budget": "uniform", "history_tokens": 40, "history_retain": 0.5}},
    {"method": "prumerge", "settings": {"plus": True}},
    {"method": "sparsevlm", "keep": 0.6},
    KV_METHODS[6],
)
# A GPU with the formats it has, so that the walk tries few that it has not.
GPUS: tuple[tuple[str, Sequence[str]], ...] = (
    ("h100_sxm", ("bf16", "fp8", "fp16", "w4a16", "int8")),
    ("a100_80gb_sxm", ("bf16", "int8", "fp16", "w4a16")),
    ("l40s", ("fp8", "bf16", "fp16", "int8")),
    ("t4", ("fp16", "int8", "fp32")),
    ("mi300x", ("bf16", "fp8")),
)
CONVENTIONS = (
    "exact", "torch", "exact", "fastv", "exact", "sparsevlm", "pyramiddrop", "exact", "desap", "asymvlm", "torch",
    "asymvlm_tables",
)  # fmt: skip
KV_DTYPES = ("auto", "fp8", "auto", "bf16", "auto", "fp16")
TP_SIZES = (1, 1, 2, 1, 4, 1, 1)
ENGINES = ("none", "vllm", "none", "sglang", "trtllm")
TEXT_TOKENS = (64, 1, 37, 512, 2000, 128)
OUTPUT_TOKENS = (128, 1, 17, 300, 2, 64, 1000)
BATCH_SIZES = (1, 4, 1, 32, 3, 1, 128, 8)
IMAGES: tuple[dict[str, int], ...] = (
    {},
    {"image_height": 336, "image_width": 336},
    {"num_images": 2},
    {"image_height": 1024, "image_width": 768, "num_images": 3},
    {},
    {"image_height": 401, "image_width": 1237},
    {"visual_tokens": 777},
    {"num_images": 0},
    {"image_height": 672, "image_width": 672},
)
WALK = 300

# Mistakes of a user, one kind each, and a few combinations that look like one.
MISTAKES: tuple[dict[str, Any], ...] = (
    {"model": "llava-1.5-7c"},
    {"model": "llava-1.5-7b", "gpu": "h100"},
    {"model": "llava-1.5-7b", "gpu": "h101_sxm"},
    {"model": "llava-1.5-7b", "method": "fasty"},
    {"model": "llava-1.5-7b", "method": "fastv", "keep": 1.5},
    {"model": "llava-1.5-7b", "method": "fastv", "settings": {"layer": 99}},
    {"model": "llava-1.5-7b", "method": "fastv", "settings": {"layers": 2}},
    {"model": "llava-1.5-7b", "method": "fastv+visionzip+h2o"},
    {"model": "llava-1.5-7b", "method": "h2o+fastv"},
    {"model": "llava-1.5-7b", "keep": 0.5},
    {"model": "llava-1.5-7b", "schedule": "missing.toml"},
    {"model": "llava-1.5-7b", "schedule": "two_stage.toml", "method": "fastv"},
    {"model": "llava-1.5-7b", "convention": "papers"},
    {"model": "llava-1.5-7b", "dtype": "fp8", "gpu": "a100_80gb_sxm"},
    {"model": "llava-1.5-7b", "dtype": "bf16", "gpu": "t4"},
    {"model": "llava-1.5-7b", "dtype": "fp9"},
    {"model": "llava-1.5-7b", "engine": "tgi"},
    {"model": "llava-1.5-7b", "tp_size": 3},
    {"model": "llava-1.5-7b", "tp_size": 2000},
    {"model": "llava-1.5-7b", "batch_size": 0},
    {"model": "llava-1.5-7b", "text_tokens": -1},
    {"model": "llava-1.5-7b", "output_tokens": 0},
    {"model": "llava-1.5-7b", "image_height": 0, "image_width": 5},
    {"model": "llava-1.5-7b", "visual_tokens": 100, "image_height": 336, "image_width": 336},
    {"model": "qwen3-8b", "num_images": 1},
    {"model": "qwen3-8b", "method": "fastv"},
    {"model": "qwen2.5-vl-7b", "method": "hired"},
    {"model": "llama-3.2-11b-vision", "method": "fastv"},
    {"model": "llava-1.5-7b", "text_tokens": 10**12},
)


def scenarios() -> dict[str, tuple[dict[str, Any], bool]]:
    """Fields of each scenario by a name that shows them, and whether its operators are listed."""
    walk = [_scenario(number) for number in range(WALK)]
    # Every method once more on one model, with nothing else changed.
    walk += [{"model": "llava-v1.6-vicuna-7b", "gpu": "l40s", **how} for how in PRUNING]
    listed = {number for number in range(len(walk)) if number % 19 == 1}
    found = {name_of(fields): (fields, number in listed) for number, fields in enumerate((*walk, *MISTAKES))}
    assert len(found) == len(walk) + len(MISTAKES)
    return found


def name_of(fields: dict[str, Any]) -> str:
    """The values of a scenario, in the order in which they are given."""
    shown = [f"{key}={value}" for key, value in fields.items() if key not in ("model", "settings")]
    shown += [f"{key}={value}" for key, value in fields.get("settings", {}).items()]
    return " ".join((fields["model"], *shown))


def _scenario(number: int) -> dict[str, Any]:
    lap = number // 12
    text_only = number % 8 == 7
    model = _turn(TEXT_MODELS, number // 8) if text_only else _turn(VISION_MODELS, number - number // 8)
    gpu, dtypes = _turn(GPUS, number + lap)
    how = _turn(({}, *KV_METHODS), number // 8 + number // 72) if text_only else _turn(PRUNING, number + lap)
    fields: dict[str, Any] = {"model": model, "gpu": gpu, **how}
    fields |= {
        "dtype": _turn(dtypes, number // 5 + lap),
        "kv_dtype": _turn(KV_DTYPES, number + number // 6),
        "tp_size": _tp_size(model, number),
        "engine": _turn(ENGINES, number + number // 5),
        "text_tokens": _turn(TEXT_TOKENS, number + number // 6),
        "output_tokens": _turn(OUTPUT_TOKENS, number + number // 7),
        "batch_size": _turn(BATCH_SIZES, number + number // 8),
        "convention": _turn(CONVENTIONS, number + number // 12),
        **({} if text_only else _turn(IMAGES, number + number // 9)),
    }
    return fields


def _tp_size(model: str, number: int) -> int:
    if model in ODD_HEADS_MODELS:
        return 1
    return 8 if model in LARGE_MODELS else _turn(TP_SIZES, number + number // 7)


def _turn(items: Sequence[T], number: int) -> T:
    return items[number % len(items)]
