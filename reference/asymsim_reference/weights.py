"""Shapes and random weights of the small model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Draw = Callable[..., Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes of the small model; heads times size need not be the width, and KV heads serve groups of queries.

    Attributes
    ----------
    patches, patch_inputs : int
        Patches of one encoder sequence (a square number), and the values in each.
    cls : bool
        Whether the tower has a [CLS] token.
    crops : bool
        Whether images may come as several encoder sequences; changes no weight.
    """

    patches: int = 64
    patch_inputs: int = 12
    cls: bool = True
    crops: bool = False
    tower_hidden: int = 64
    tower_heads: int = 4
    tower_intermediate: int = 96
    tower_layers: int = 8
    projector_hidden: int = 40
    hidden: int = 48
    heads: int = 6
    kv_heads: int = 2
    head_size: int = 16
    intermediate: int = 80
    layers: int = 8
    vocabulary: int = 61

    @property
    def extra_tokens(self) -> int:
        """[CLS] tokens of an encoder sequence."""
        return int(self.cls)

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class Block:
    """One encoder block; matrices are (inputs, outputs)."""

    norm1: Tensor
    norm1_bias: Tensor
    q: Tensor
    q_bias: Tensor
    k: Tensor
    k_bias: Tensor
    v: Tensor
    v_bias: Tensor
    out: Tensor
    out_bias: Tensor
    norm2: Tensor
    norm2_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    @classmethod
    def random(cls, width: int, intermediate: int, draw: Draw) -> Block:
        """A block of a tower; also of a text tower."""
        square = {name: draw(width, width) for name in ("q", "k", "v", "out")}
        square_biases = {f"{name}_bias": draw(width) for name in square}
        norms = {name: 1 + draw(width) for name in ("norm1", "norm2")}
        norm_biases = {f"{name}_bias": draw(width) for name in norms}
        return cls(
            **square,
            **square_biases,
            **norms,
            **norm_biases,
            up=draw(width, intermediate),
            up_bias=draw(intermediate),
            down=draw(intermediate, width),
            down_bias=draw(width),
        )


@dataclass(frozen=True)
class Layer:
    """One decoder layer; matrices are (inputs, outputs)."""

    norm1: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    norm2: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Weights:
    """All of the model's parameters."""

    patch: Tensor
    cls: Tensor
    tower_positions: Tensor
    tower_norm: tuple[Tensor, Tensor]
    blocks: tuple[Block, ...]
    project_in: Tensor
    project_in_bias: Tensor
    project_out: Tensor
    project_out_bias: Tensor
    embedding: Tensor
    layers: tuple[Layer, ...]
    final_norm: Tensor
    head: Tensor

    @classmethod
    def random(cls, shape: Shape, seed: int) -> Weights:
        """Draw everything from one seed."""
        draw = drawing(seed)
        tower, hidden = shape.tower_hidden, shape.hidden
        query, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        return cls(
            patch=draw(shape.patch_inputs, tower),
            cls=draw(tower) * (10 if shape.cls else 0),
            tower_positions=draw(shape.extra_tokens + shape.patches, tower) * 4,
            tower_norm=(1 + draw(tower), draw(tower)),
            blocks=tuple(Block.random(tower, shape.tower_intermediate, draw) for _ in range(shape.tower_layers)),
            project_in=draw(tower, shape.projector_hidden),
            project_in_bias=draw(shape.projector_hidden),
            project_out=draw(shape.projector_hidden, hidden),
            project_out_bias=draw(hidden),
            embedding=draw(shape.vocabulary, hidden) * 8,
            layers=tuple(
                Layer(
                    norm1=1 + draw(hidden),
                    q=draw(hidden, query) * 2,
                    k=draw(hidden, kv),
                    v=draw(hidden, kv),
                    out=draw(query, hidden),
                    norm2=1 + draw(hidden),
                    gate=draw(hidden, shape.intermediate),
                    up=draw(hidden, shape.intermediate),
                    down=draw(shape.intermediate, hidden),
                )
                for _ in range(shape.layers)
            ),
            final_norm=1 + draw(hidden),
            head=draw(hidden, shape.vocabulary),
        )


def drawing(seed: int) -> Draw:
    """A source of normal numbers: matrices scaled by 1/sqrt(inputs), vectors by 0.1."""
    source = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        scale = size[0] ** -0.5 if len(size) > 1 else 0.1
        return torch.randn(*size, generator=source, dtype=torch.float64) * scale

    return draw


def vector_parameters(part: Block | Layer) -> int:
    """Norm weights and biases of a layer: all parameters that are no matrix."""
    fields = (getattr(part, field.name) for field in dataclasses.fields(part))
    return sum(tensor.numel() for tensor in fields if tensor.ndim == 1)
