"""Selection operators that many methods share."""

from __future__ import annotations

from asymsim.catalogue.model import VisionTower, VlmModel
from asymsim.methods.schedule import Operation, Place


def head_mean(layer: int, queries: int = 1) -> Operation:
    """Average the stored attention weights of ``queries`` rows over the heads of the layer before ``layer``."""
    return Operation(kind="elementwise", stage="lm", layer=layer, rows="heads", columns=f"{queries}*visual")


def top_k(stage: Place, layer: int = -1, columns: str = "visual", times: str = "1") -> Operation:
    """Choose the largest of ``columns`` scores: two counting passes and the index list."""
    return Operation(kind="elementwise", stage=stage, layer=layer, columns=columns, times=times, reads=2, writes=1)


def gather(stage: Place, layer: int = -1, rows: str = "remaining", width: str = "hidden") -> Operation:
    """Copy the tokens that stay into a packed tensor."""
    return Operation(
        kind="elementwise", stage=stage, layer=layer, rows=rows, columns=width, writes=1, flops_per_element=0
    )


def normalise(
    stage: Place, layer: int = -1, rows: str = "visual", width: str = "hidden", times: str = "1"
) -> Operation:
    """Divide rows by their length: square and add, then scale, in one pass."""
    return Operation(
        kind="elementwise", stage=stage, layer=layer, rows=rows, columns=width, times=times, writes=1,
        flops_per_element=3,
    )  # fmt: skip


def similarity(
    stage: Place, layer: int = -1, *, rows: str, columns: str, inner: str = "hidden", times: str = "1"
) -> Operation:
    """Inner products of all pairs of two sets of vectors."""
    return Operation(kind="gemm", stage=stage, layer=layer, rows=rows, columns=columns, inner=inner, times=times)


def nearest_in_sequence(rows: str, columns: str, inner: str = "tower_hidden") -> tuple[Operation, ...]:
    """At the encoder's end: for each of ``rows`` the most similar of ``columns``, among those of its own sequence.

    The counts are those of the whole prompt. Their even share a sequence is rounded up, so where the sequences
    (crops, images) keep unequal numbers each is charged as the largest.
    """
    rows, columns = f"{rows}/sequences", f"{columns}/sequences"
    return (
        similarity("encoder_end", rows=rows, columns=columns, inner=inner, times="sequences"),
        reduce("encoder_end", rows=rows, columns=columns, times="sequences"),
    )


def reduce(stage: Place, layer: int = -1, *, rows: str, columns: str, times: str = "1", flops: int = 1) -> Operation:
    """Read a matrix once and leave a vector: a maximum, sum or mean, after ``flops`` operations on each element."""
    return Operation(
        kind="elementwise", stage=stage, layer=layer, rows=rows, columns=columns, times=times, flops_per_element=flops
    )


def average_into(stage: Place, layer: int = -1, *, rows: str = "dropped", width: str = "tower_hidden") -> Operation:
    """Add each of ``rows`` tokens onto the one it is merged into, which is read and written."""
    return Operation(
        kind="elementwise", stage=stage, layer=layer, rows=rows, columns=width, reads=2, writes=1, flops_per_element=2
    )


def saliency(tower: VisionTower, layer: int) -> Operation:
    """Head mean of the attention that encoder layer ``layer`` stored: the [CLS] row, or without [CLS] all rows.

    The layer must be among the schedule's ``unfused``.
    """
    columns = "tower_tokens" if tower.extra_tokens else "tower_tokens*tower_tokens"
    return Operation(kind="elementwise", stage="encoder", layer=layer, rows="tower_heads*sequences", columns=columns)


def bipartite_matching(layer: int, halvings: int = 0) -> tuple[Operation, ...]:
    """ToMe's matching and merging between attention and MLP of one encoder block, for every sequence.

    Similarities are taken between the tokens at even and at odd places, by the head mean of the keys: of n tokens
    ceil(n/2) x floor(n/2) x head_size. Each of ``halvings`` before it left ceil(n/2); averaging is counted on all
    that leave, an upper bound. Where nothing is merged nothing is compared.
    """
    present = f"visual/{2**halvings}"
    where_merged = "sequences*dropped/dropped"
    return (
        reduce("encoder_mlp", layer, rows=present, columns="tower_hidden", times=where_merged),
        normalise("encoder_mlp", layer, present, "tower_head_size", times=where_merged),
        similarity(
            "encoder_mlp",
            layer,
            rows=f"{present}/2",
            columns=f"{present}//2",
            inner="tower_head_size",
            times=where_merged,
        ),
        top_k("encoder_mlp", layer, present, times=where_merged),
        average_into("encoder_mlp", layer, rows="dropped*sequences"),
        gather("encoder_mlp", layer, f"remaining*{where_merged}", "tower_hidden"),
    )


def recomputed_attention(layer: int) -> tuple[Operation, ...]:
    """Attention of the last instruction token, taken anew before ``layer``: norm, q, k and v of all tokens, scores.

    It spares the layer before from storing its weights, so the model itself stays fused.
    """
    return (
        normalise("lm", layer, "tokens"),
        Operation(kind="projection", stage="lm", layer=layer, rows="tokens", columns="query_width", inner="hidden"),
        Operation(kind="projection", stage="lm", layer=layer, rows="tokens", columns="kv_width", inner="hidden"),
        similarity("lm", layer, rows="1", columns="tokens", inner="head_size", times="heads"),
        reduce("lm", layer, rows="heads", columns="tokens", flops=5),
    )


def query_group(model: VlmModel) -> int:
    """Query heads that share one KV head."""
    kind = model.language_model.layer_kinds[0]
    return kind.heads // kind.kv_heads


def cache_scores(model: VlmModel, queries: str) -> tuple[Operation, ...]:
    """After prefill, in every layer: softmaxed scores of some ``queries`` against all keys, summed over the queries."""
    return (
        similarity("kv", rows=f"{query_group(model)}*{queries}", columns="tokens", inner="head_size", times="kv_heads"),
        reduce("kv", rows=f"heads*{queries}", columns="tokens", flops=5),
    )


def cache_gather() -> Operation:
    """Copy the cache entries that stay, in every layer."""
    return gather("kv", rows="kv", width="kv_width")


def decode_scores(model: VlmModel, layer: int = -1) -> tuple[Operation, ...]:
    """With each generated token: its attention weights over the entries that it finds cached, which a fused kernel
    does not give away."""
    group = query_group(model)
    return (
        similarity("decode", layer, rows=str(group), columns="kv", inner="head_size", times="kv_heads"),
        reduce("decode", layer, rows="heads", columns="kv", flops=5),
    )
