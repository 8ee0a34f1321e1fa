"""Shape of a vision-language model, as far as its cost depends on it.

A model has three parts, made from a ``config.json`` by the adapter of its ``model_type`` (``catalogue/hf``). Parameter
counts of matrices follow from the shapes. Biases, norms and embeddings, which cost no matrix product, are given as
counts.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from asymsim.catalogue.images.base import ImageRule
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class Layer:
    """One kind of transformer layer; a stack lists its kinds and the kind of each layer.

    Attributes
    ----------
    hidden_size, heads, kv_heads, head_size : int
        Widths in elements; ``heads * head_size`` need not equal ``hidden_size`` (Gemma, Pixtral).
    intermediate_size : int
        FFN width; the width of one expert where ``experts`` > 0.
    gated : bool
        Three FFN matrices (gate, up, down) instead of two.
    attention : {"self", "cross"}
        "cross": queries from the text, keys and values from the visual tokens (mllama).
    window_tokens : int
        Language model: sliding window, a token sees itself and ``window_tokens - 1`` before it.
        Encoder: non-zero marks windowed attention, whose pairs the image rule counts. 0: no window.
    chunk_tokens : int
        Language model: attention within chunks of this length (Llama 4); 0: no chunks.
    experts, experts_per_token, shared_intermediate_size : int
        Mixture of experts; 0 experts: a dense FFN. The shared expert runs for every token.
    framework_experts_per_token : int
        Experts that ``transformers`` executes for each token; 0: the same as ``experts_per_token``.
        Llama 4 runs all of them.
    norms : int
        Norms of width ``hidden_size`` that each token passes (element-wise work).
    vector_parameters : int
        Parameters of one layer outside its matrices: biases, norm weights, layer scales.
    """

    name: str = "full"
    hidden_size: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate_size: int
    gated: bool = True
    attention: Literal["self", "cross"] = "self"
    window_tokens: int = 0
    chunk_tokens: int = 0
    experts: int = 0
    experts_per_token: int = 0
    framework_experts_per_token: int = 0
    shared_intermediate_size: int = 0
    norms: int = 2
    vector_parameters: int = 0

    @property
    def matrix_parameters(self) -> int:
        """Elements of the projection, FFN, expert and router matrices."""
        attention = 2 * self.hidden_size * self.head_size * (self.heads + self.kv_heads)
        matrices = 3 if self.gated else 2
        ffn = matrices * self.hidden_size * self.intermediate_size * max(1, self.experts)
        shared = 3 * self.hidden_size * self.shared_intermediate_size
        router = self.hidden_size * self.experts
        return attention + ffn + shared + router

    @property
    def parameters(self) -> int:
        """All parameters of the layer."""
        return self.matrix_parameters + self.vector_parameters


@strict_dataclass
class Linear:
    """A matrix product outside the transformer stacks.

    Attributes
    ----------
    inputs, outputs : int
        Elements per row.
    bias : bool
        Whether it adds ``outputs`` parameters.
    rows : {"tokens", "encoder"}
        Rows of the product: one for each projector output token, or one for each encoder token (a resampler's keys
        and values).
    """

    inputs: int
    outputs: int
    bias: bool = False
    rows: Literal["tokens", "encoder"] = "tokens"

    @property
    def parameters(self) -> int:
        """Matrix and bias."""
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


@strict_dataclass
class VisionTower:
    """The image encoder.

    Attributes
    ----------
    layer_kinds : tuple of Layer
    layer_pattern : tuple of int
        Index into ``layer_kinds`` of each layer, as executed and in order.
    patch : Linear
        Patch embedding as a matrix: inputs = channels x patch area (x temporal patch).
    extra_tokens : int
        Tokens added to each sequence ([CLS], padding); they are never pruned.
    encoder_tokens_per_visual : int
        Encoder tokens that become one language-model token (spatial merge, pixel shuffle).
    other_parameters : int
        Parameters outside the layers and the patch embedding: position embeddings, outer norms, heads that inference
        does not run.
    framework_flops : int
        FLOPs a sequence that ``transformers`` spends on products whose result inference does not need (a mask made
        as an outer product, a pooling head); counted under the convention "torch" alone.
    """

    layer_kinds: tuple[Layer, ...]
    layer_pattern: tuple[int, ...]
    patch: Linear
    extra_tokens: int = 0
    encoder_tokens_per_visual: int = 1
    other_parameters: int = 0
    framework_flops: int = 0

    @property
    def parameters(self) -> int:
        """All parameters of the tower."""
        layers = sum(self.layer_kinds[kind].parameters for kind in self.layer_pattern)
        return layers + self.patch.parameters + self.other_parameters


@strict_dataclass
class Resampler:
    """Cross-attention of a fixed number of queries over one encoder sequence (MiniCPM-V).

    Projections of queries and keys are ``Linear`` entries of the projector. The resampler is the attention product
    alone, with one query for each projector output token.
    """

    heads: int
    head_size: int


@strict_dataclass
class Projector:
    """Linear layers, and a resampler in some models, between the encoder and the language model."""

    linears: tuple[Linear, ...] = ()
    resampler: Resampler | None = None
    other_parameters: int = 0

    @property
    def parameters(self) -> int:
        """All parameters of the projector."""
        return sum(linear.parameters for linear in self.linears) + self.other_parameters


@strict_dataclass
class LanguageModel:
    """The decoder.

    Attributes
    ----------
    vocab_size : int
        Width of the output head.
    embedding_rows : int
        Rows of the input embedding (mllama has 8 more than the vocabulary); 0: ``vocab_size``.
    tied : bool
        The output head shares the embedding's matrix, which counts once as parameters; the head's FLOPs count.
    mask : {"causal", "prefix", "image_bidirectional"}
        "prefix": prompt tokens attend to the whole prompt (PaliGemma); "image_bidirectional": causal, and the
        tokens of one image also attend to each other (Gemma 3).
    visual_in_sequence : bool
        False where visual tokens reach the model by cross-attention alone (mllama).
    other_parameters : int
        Parameters such as the final norm and the head's bias, counted with the layers.
    context_tokens : int, optional
        Longest prompt and output together; None where the file and its class give none.
    """

    hidden_size: int
    vocab_size: int
    layer_kinds: tuple[Layer, ...]
    layer_pattern: tuple[int, ...]
    tied: bool = False
    embedding_rows: int = 0
    mask: Literal["causal", "prefix", "image_bidirectional"] = "causal"
    visual_in_sequence: bool = True
    other_parameters: int = 0
    context_tokens: int | None = None

    @property
    def embedding_parameters(self) -> int:
        """Elements of the input embedding."""
        return (self.embedding_rows or self.vocab_size) * self.hidden_size

    @property
    def head_parameters(self) -> int:
        """Elements of the output head; 0 if tied to the embedding."""
        return 0 if self.tied else self.vocab_size * self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Layers and final norm."""
        return sum(self.layer_kinds[kind].parameters for kind in self.layer_pattern) + self.other_parameters


@strict_dataclass
class VlmModel:
    """A vision-language model, or a text-only one where ``vision_tower`` is None.

    Attributes
    ----------
    name : str
        Catalogue name, or the path it was read from.
    model_type : str
        As in ``config.json``.
    image_rule : ImageRule or None
        Rule by which an image becomes tokens.
    """

    name: str
    model_type: str
    vision_tower: VisionTower | None = None
    projector: Projector | None = None
    language_model: LanguageModel
    image_rule: ImageRule | None = None

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Parameter counts by part, and their total; keys as in the result document."""
        counts = {
            "vision_tower": self.vision_tower.parameters if self.vision_tower else 0,
            "projector": self.projector.parameters if self.projector else 0,
            "embeddings": self.language_model.embedding_parameters,
            "language_model": self.language_model.layer_parameters,
            "lm_head": self.language_model.head_parameters,
        }
        return {**counts, "total": sum(counts.values())}
