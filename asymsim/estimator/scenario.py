"""Scenario: the input of an estimate. Its fields are the command line's flags and a sweep's axes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class Scenario:
    """A model, a GPU, token counts and a pruning schedule.

    Attributes
    ----------
    model : str
        Catalogue name, a ``config.json`` or its folder.
    gpu : str
        Catalogue name such as ``h100_sxm``, an alias, or a TOML file.
    num_images : int, optional
        Images a request; 1 by default where the model sees any.
    image_height, image_width : int, optional
        Pixels of each image; by default those of the model's typical image.
    visual_tokens : int, optional
        Visual tokens of the request outright, instead of image sizes.
    text_tokens : int
        Text tokens of the prompt, chat template included.
    output_tokens : int
        Generated tokens a request.
    batch_size : int
        Requests served together.
    tp_size : int
        GPUs that share the model by tensor parallelism.
    dtype : str
        Number format of the model: bf16, fp16, fp8, int8, w4a16, fp4 or fp32.
    kv_dtype : str
        Number format of the KV cache; "auto" takes the format of the activations.
    engine : str
        Serving engine whose host time counts in each step: vllm, sglang, trtllm, or a TOML file; "none": the
        GPU's work alone.
    method : str
        Pruning method; two joined by "+" work together, such as ``asymvlm+snapkv``.
    keep : float, optional
        Kept share in [0, 1] of the (first) method; the method's default otherwise.
    settings : mapping
        Further settings of the method; those of a second one are written ``name.setting``.
    schedule : str, optional
        The user's schedule, a TOML file, instead of a method.
    convention : str
        How FLOPs are counted: ``exact``, ``torch``, or one of the literature's.
    """

    model: str
    gpu: str = "h100_sxm"
    num_images: int | None = None
    image_height: int | None = None
    image_width: int | None = None
    visual_tokens: int | None = None
    text_tokens: int = 64
    output_tokens: int = 128
    batch_size: int = 1
    tp_size: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "auto"
    engine: str = "none"
    method: str = "none"
    keep: float | None = None
    settings: Mapping[str, Any] = Field(default_factory=dict)
    schedule: str | None = None
    convention: str = "exact"

    def __post_init__(self) -> None:
        if not 1 <= self.tp_size <= 1024:
            raise InputError("tp_size", self.tp_size, "give a number of GPUs from 1 to 1024")
        if self.schedule is not None and self.method != "none":
            raise InputError("schedule", self.schedule, f"give either a schedule or the method {self.method!r}")
        if self.method == "none" and (self.keep is not None or self.settings):
            field = "keep" if self.keep is not None else "settings"
            raise InputError(field, self.keep or dict(self.settings), "name the method it belongs to")
        object.__setattr__(self, "settings", types.MappingProxyType(dict(self.settings)))


def is_unpruned(scenario: Scenario) -> bool:
    """Whether a scenario has neither a method nor a schedule."""
    return scenario.method == "none" and scenario.schedule is None


def unpruned(scenario: Scenario) -> Scenario:
    """The dense baseline of a scenario: the same without its method or schedule."""
    return replace(scenario, method="none", keep=None, settings={}, schedule=None)
