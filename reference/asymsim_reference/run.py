"""One request through the small model under one method: encoder, projector, prefill, decoding."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from asymsim_reference.cache import LayerCache
from asymsim_reference.flops import Meter
from asymsim_reference.methods.base import ReferenceMethod
from asymsim_reference.tokens import AttentionTrace, Prompt, PromptTokens, VisualTokens
from asymsim_reference.vlm import SmallVlm


@dataclass
class Result:
    """Token counts, caches, logits and FLOPs of one run.

    Attributes
    ----------
    encoder, encoder_mlp : list of int
        Tokens that enter each block's attention and MLP, per sequence, with [CLS].
    visual_positions : list of Tensor
        Original positions of the visual tokens that enter each layer of the language model.
    text : list of int
        Text tokens that enter each layer.
    kv, final_kv : list of list of int
        Entries of each layer and KV head after prefill, and after the last step.
    logits : Tensor (steps, vocabulary)
        One row a generated token.
    generated : list of int
    caches : list of LayerCache
        Caches after the last step.
    flops : dict
        By phase, where a ``Meter`` ran along.
    """

    encoder: list[int] = field(default_factory=list)
    encoder_mlp: list[int] = field(default_factory=list)
    visual_positions: list[Tensor] = field(default_factory=list)
    text: list[int] = field(default_factory=list)
    kv: list[list[int]] = field(default_factory=list)
    final_kv: list[list[int]] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    generated: list[int] = field(default_factory=list)
    caches: list[LayerCache] = field(default_factory=list)
    flops: dict[str, int] = field(default_factory=dict)

    @property
    def visual(self) -> list[int]:
        """Visual tokens that enter each layer."""
        return [len(positions) for positions in self.visual_positions]


def run(vlm: SmallVlm, prompt: Prompt, method: ReferenceMethod, output_tokens: int = 1) -> Result:
    """Greedy generation of ``output_tokens`` with the method's prunings, and FLOPs by phase."""
    result = Result()
    method.start(vlm, prompt)
    with torch.no_grad(), Meter() as meter:
        visual = encode(vlm, prompt, method, meter, result)
        with meter.phase("projector"):
            projected = vlm.project(visual.features)
        last = prefill(vlm, method, vlm.prompt_tokens(prompt, projected, visual.index), meter, result)
        first = prompt.patches.shape[0] * vlm.shape.patches + len(prompt.text)
        decode(vlm, method, last, first, output_tokens, meter, result)
    result.flops = dict(meter.flops)
    result.final_kv = [cache.entries for cache in result.caches]
    return result


def encode(vlm: SmallVlm, prompt: Prompt, method: ReferenceMethod, meter: Meter, result: Result) -> VisualTokens:
    """The vision tower."""
    with meter.phase("vision_tower"):
        tokens = vlm.embed_patches(prompt.patches)
    stored = method.encoder_reads()
    for block in range(vlm.shape.tower_layers):
        with meter.phase("selection"):
            tokens = method.before_block(block, tokens)
        result.encoder.append(tokens.hidden.shape[1])
        with meter.phase("vision_tower"):
            trace = vlm.encoder_attention(block, tokens, store=block in stored)
            tokens = tokens.with_hidden(tokens.hidden + trace.output)
        with meter.phase("selection"):
            tokens = method.between(block, tokens, trace)
        result.encoder_mlp.append(tokens.hidden.shape[1])
        with meter.phase("vision_tower"):
            tokens = tokens.with_hidden(tokens.hidden + vlm.encoder_mlp(block, tokens.hidden))
        with meter.phase("selection"):
            method.after_block(block, tokens, trace)
    with meter.phase("selection"):
        return method.encoder_end(tokens)


def prefill(vlm: SmallVlm, method: ReferenceMethod, tokens: PromptTokens, meter: Meter, result: Result) -> Tensor:
    """All layers over the prompt; returns the last position's logits and fills the caches."""
    stored = method.lm_reads()
    traces: list[AttentionTrace] = []
    for layer in range(vlm.shape.layers):
        with meter.phase("selection"):
            tokens = method.before_layer(layer, tokens)
        result.visual_positions.append(tokens.positions[tokens.visual])
        result.text.append(len(tokens.text_index))
        with meter.phase("prefill"):
            trace = vlm.prefill_attention(layer, tokens, store=layer in stored)
            attended = tokens.with_hidden(tokens.hidden + trace.output)
        with meter.phase("selection"):
            method.after_layer(layer, tokens, trace)
        result.caches.append(LayerCache.of(trace.raw_keys, trace.values, tokens.positions, tokens.masked))
        traces.append(trace)
        with meter.phase("prefill"):
            tokens = attended.with_hidden(attended.hidden + vlm.mlp(layer, attended.hidden))
    with meter.phase("prefill"):
        logits = vlm.logits(tokens.hidden[-1:])
    with meter.phase("selection"):
        method.after_prefill(traces, result.caches)
    result.kv = [cache.entries for cache in result.caches]
    return logits


def decode(
    vlm: SmallVlm, method: ReferenceMethod, logits: Tensor, first: int, output_tokens: int, meter: Meter, result: Result
) -> None:
    """Greedy steps from position ``first`` on; positions go on from the original prompt, whatever was evicted."""
    rows = [logits]
    for step in range(output_tokens):
        result.generated.append(int(rows[-1].argmax()))
        if step + 1 == output_tokens:
            break
        hidden = vlm.embed_text(torch.tensor([result.generated[-1]]))
        queries = []
        with meter.phase("decode"):
            for layer, cache in enumerate(result.caches):
                output, query = vlm.decode_attention(layer, hidden, first + step, cache)
                hidden = hidden + output
                hidden = hidden + vlm.mlp(layer, hidden)
                queries.append(query)
            rows.append(vlm.logits(hidden))
        with meter.phase("decode_selection"):
            method.after_step(step + 1, queries, result.caches)
    result.logits = torch.cat(rows)
