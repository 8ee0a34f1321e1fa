"""How much of the cost is due to vision and how much to text, and when does evicting text matter?

    python studies/06_asymmetry.py [--out FOLDER]

Cost is split by token. Prefill: a matrix product by its rows, attention by the pairs of its queries, the visual tokens
coming first; encoder and projector are vision's, the head is the text's. Decoding: reading the cache by the entries of
each kind, at the mean length; weights, norms and the head are nobody's ("each token's own"). Dialogues: one image in
the first turn, 32 tokens a question and 150 an answer, the whole history in the prompt of each turn.

Eviction is AsymVLM's: half of what is generated past 90 tokens of text, or, once a dialogue's text exceeds 512 tokens,
half of the previous answers. It stands beside keeping half of the visual tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from output import Row, legend, panels, percent, plain, run

from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.reporting.plots.style import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("llava-1.5-7b", "phi-3.5-vision", "qwen2.5-vl-7b")
OUTPUTS = (2, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
TURNS = (1, 2, 3, 4, 6, 8, 12, 16)
QUESTION_TOKENS = 32
ANSWER_TOKENS = 150
THRESHOLD_TOKENS = 512
"""Of dialogues (MMDU); 90 is that of single answers."""
PARTS = ("vision", "prompt_text", "answer", "own")
LABELS = ("vision", "text of the prompt", "the answer", "each token's own (weights, norms, head)")
QUANTITIES = (
    ("prefill_flops", "prefill FLOPs (%)"),
    ("kv_entries", "KV cache\nafter the answer (%)"),
    ("decode_s", "decode time,\none request (%)"),
    ("batch_decode_s", "decode time,\n32 requests (%)"),
)


def rows(
    models: Sequence[str] = MODELS,
    gpu: str = "h100_sxm",
    outputs: Sequence[int] = OUTPUTS,
    turns: Sequence[int] = TURNS,
) -> list[Row]:
    """A row for each model and output length of one turn, then for each model and turn of a dialogue."""
    study_rows = []
    for model in models:
        for output_tokens in outputs:
            load = {"text_tokens": QUESTION_TOKENS, "output_tokens": output_tokens}
            shares = _shares(model, gpu, load, {"retain": 0.5})
            study_rows.append({"model": model, "gpu": gpu, "axis": "output_tokens", "at": output_tokens} | shares)
        for turn in turns:
            history = (turn - 1) * (QUESTION_TOKENS + ANSWER_TOKENS)
            load = {"text_tokens": history + QUESTION_TOKENS, "output_tokens": ANSWER_TOKENS}
            answers = (turn - 1) * ANSWER_TOKENS if load["text_tokens"] > THRESHOLD_TOKENS else 0
            shares = _shares(model, gpu, load, {"history_tokens": answers, "history_retain": 0.5})
            study_rows.append({"model": model, "gpu": gpu, "axis": "turn", "at": turn} | shares)
    return study_rows


def _shares(model: str, gpu: str, load: dict[str, int], eviction: dict[str, float]) -> Row:
    scenario = {"model": model, "gpu": gpu, **load}
    single_estimate = estimate(Scenario(**scenario), operators=True)
    batch_estimate = estimate(Scenario(**scenario, batch_size=32), operators=True)
    workload = single_estimate.workload
    visual, text, output = workload.visual_tokens, workload.text_tokens, workload.output_tokens
    shares: Row = {"visual_tokens": visual, "text_tokens": text, "output_tokens": output}
    shares |= _named("prefill_flops", prefill_flops(single_estimate.operators or [], visual, text))
    shares |= _named("kv_entries", {"vision": visual, "prompt_text": text, "answer": output - 1, "own": 0})
    for prefix, result in (("decode_s", single_estimate), ("batch_decode_s", batch_estimate)):
        shares |= _named(prefix, decode_seconds(result.operators or [], visual, text, output))
    for name, settings in (("vision_half", {"keep": 0.5}), ("text_half", {"keep": 1.0, "settings": eviction})):
        saved = estimate(Scenario(**scenario, method="asymvlm", **settings)).savings
        shares |= {f"{name}_kv_saved": saved.kv_bytes, f"{name}_tpot_saved": saved.tpot}
    return shares


def prefill_flops(operators: Sequence[Row], visual: int, text: int) -> dict[str, float]:
    """FLOPs until the first token, of visual tokens and of text tokens."""
    tokens = visual + text
    # Each query sees itself and all before it, visual ones first.
    of_pairs = visual * (visual + 1) / (tokens * (tokens + 1))
    parts = dict.fromkeys(PARTS, 0.0)
    for row in operators:
        if row["phase"] in ("vision_tower", "projector"):
            parts["vision"] += row["flops"]
        elif row["phase"] == "prefill":
            share = of_pairs if row["kind"] == "attention" else 0.0 if row["name"] == "lm_head" else visual / tokens
            parts["vision"] += share * row["flops"]
            parts["prompt_text"] += (1 - share) * row["flops"]
    return parts


def decode_seconds(operators: Sequence[Row], visual: int, text: int, output: int) -> dict[str, float]:
    """Seconds of decoding, by the cache entries that are read: visual, text."""
    length = visual + text + output / 2
    parts = dict.fromkeys(PARTS, 0.0)
    for row in operators:
        if row["phase"] != "decode":
            continue
        if row["kind"] != "attention":
            parts["own"] += row["seconds"]
            continue
        for name, entries in (("vision", visual), ("prompt_text", text), ("answer", output / 2)):
            parts[name] += row["seconds"] * entries / length
    return parts


def _named(prefix: str, parts: dict[str, float]) -> Row:
    total = sum(parts.values())
    return {f"{prefix}_{name}": parts[name] / total for name in PARTS}


def crossing(rows: list[Row], model: str, axis: str, left: str, right: str) -> Row | None:
    """The first row of an axis at which one figure reaches another."""
    axis_rows = (row for row in rows if (row["model"], row["axis"]) == (model, axis))
    return next((row for row in axis_rows if row[left] >= row[right] > 0), None)


def findings(rows: list[Row]) -> list[str]:
    """Shares at the shortest and longest answer, and where text takes over."""
    said = []
    for model in dict.fromkeys(row["model"] for row in rows):
        series = [row for row in rows if (row["model"], row["axis"]) == (model, "output_tokens")]
        first, last = series[0], series[-1]
        name = f"{model} ({first['visual_tokens']} visual tokens)"
        text = last["kv_entries_prompt_text"] + last["kv_entries_answer"]
        alone, batch = (max(row[f"{label}_vision"] for row in series) for label in ("decode_s", "batch_decode_s"))
        said.append(
            f"{name}: vision is {percent(first['prefill_flops_vision'])} of the FLOPs to the first token, and "
            f"{percent(first['kv_entries_vision'])} of the cache; after {last['at']} tokens text is {percent(text)} "
            "of the cache"
        )
        said.append(
            f"{name}: reading vision's cache is at most {percent(alone)} of the decode time of one request, "
            f"{percent(batch)} of 32's"
        )
        where = []
        for axis, label in (("output_tokens", "an answer of {} tokens"), ("turn", "turn {}")):
            row = crossing(rows, model, axis, "text_half_kv_saved", "vision_half_kv_saved")
            where.append(f"from {label.format(row['at'])} on" if row else f"at no {axis.replace('_', ' ')} tried")
        said.append(
            f"{name}: evicting half the text saves as much cache as half the visual tokens {' and '.join(where)}"
        )
    return said


def draw(rows: list[Row]) -> Figure:
    """Stacked shares over the length of one answer, a column a model; below, the cache that eviction saves."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, axes = panels(len(QUANTITIES) + 1, 2 * len(models), 2.1 * 2 * len(models), 9.8, sharey="row", sharex="col")
    for column, (model, axis) in enumerate((model, axis) for model in models for axis in ("output_tokens", "turn")):
        series = [row for row in rows if (row["model"], row["axis"]) == (model, axis)]
        at = [row["at"] for row in series]
        for line, (quantity, label) in enumerate(QUANTITIES):
            panel = axes[line][column]
            stacks = [[100 * row[f"{quantity}_{part}"] for row in series] for part in PARTS]
            panel.stackplot(at, stacks, labels=LABELS, colors=(COLORS[0], COLORS[9], COLORS[8], "0.85"), linewidth=0)
            panel.set_ylim(0, 100)
            title = f"{model}\n{series[0]['visual_tokens']} visual tokens" if line == 0 else ""
            plain(panel, title, y=label if column == 0 else "")
        panel = axes[-1][column]
        for name, label, style in (
            ("vision_half", "half the visual tokens", {"color": COLORS[0], "linestyle": "-", "marker": "o"}),
            ("text_half", "half the text past the threshold", {"color": COLORS[1], "linestyle": "--", "marker": "s"}),
        ):
            saved = [100 * row[f"{name}_kv_saved"] for row in series]
            panel.plot(at, saved, label=f"without {label}", markersize=3, linewidth=1.1, **style)
        xlabel = "output tokens,\none turn" if axis == "output_tokens" else "turn of a\ndialogue"
        plain(panel, x=xlabel, y="KV cache\nsaved (%)" if column == 0 else "")
        if axis == "output_tokens":
            panel.set_xscale("log", base=4)
            panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlim(at[0], at[-1])
    legend(figure, [axes[0][0], axes[-1][0]], 3)
    figure.suptitle(f"Whose cost it is, token by token, on {rows[0]['gpu']}", fontsize=10)
    return figure


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
