"""How does the KV cache grow over a dialogue under AsymVLM's, H2O's and StreamingLLM's eviction?

    python studies/11_dialogue_cache.py [--out FOLDER]

Each turn brings an image, a question of 32 tokens and an answer of 150. Each method is at "retention 50 %" as AsymVLM's
paper compares them: AsymVLM drops half of the previous answers and of the tokens generated, once text exceeds 512
tokens, and keeps all images and questions; H2O and StreamingLLM keep half of all entries, images included, and
StreamingLLM's own fixed window stands beside. The history is computed anew in each turn: no prefix cache.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from output import Row, legend, look, panels, percent, plain, run

from asymsim.catalogue.accuracy import published_accuracy
from asymsim.estimator.estimate import estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.units import MEGA, MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("gemma-3-12b-it", "qwen2.5-vl-7b")
TURNS = tuple(range(1, 17))
QUESTION_TOKENS = 32
ANSWER_TOKENS = 150
THRESHOLD_TOKENS = 512
RETAINED = 0.5
PANELS = (
    ("cache_bytes", MEGA, "KV cache after\nthe answer (MB)"),
    ("ttft_s", MILLI, "TTFT (ms)"),
    ("tpot_s", MILLI, "TPOT (ms)"),
)


def methods(turn: int) -> dict[str, Mapping[str, Any]]:
    """Scenarios compared at a turn, as fields by name."""
    answers = (turn - 1) * ANSWER_TOKENS
    past = turn * QUESTION_TOKENS + answers > THRESHOLD_TOKENS
    text = {
        "threshold_tokens": THRESHOLD_TOKENS,
        "retain": RETAINED,
        "history_tokens": answers if past else 0,
        "history_retain": RETAINED,
    }
    return {
        "unpruned": {},
        "asymvlm, text": {"method": "asymvlm", "keep": 1.0, "settings": text},
        "asymvlm, text and half of vision": {"method": "asymvlm", "keep": 0.5, "settings": text},
        "h2o": {"method": "h2o", "keep": RETAINED},
        "streamingllm": {"method": "streamingllm", "keep": RETAINED},
        "streamingllm, window 512": {"method": "streamingllm", "settings": {"window": 512}},
    }


def rows(models: Sequence[str] = MODELS, gpu: str = "h100_sxm", turns: Sequence[int] = TURNS) -> list[Row]:
    """A row for each model, turn and method."""
    kept = {
        (entry.model, entry.method): entry.share_kept
        for entry in published_accuracy()
        if entry.benchmark == "MMDU" and entry.budget == RETAINED
    }
    study_rows = []
    for model in models:
        for turn in turns:
            text = turn * QUESTION_TOKENS + (turn - 1) * ANSWER_TOKENS
            for label, fields in methods(turn).items():
                load = {"num_images": turn, "text_tokens": text, "output_tokens": ANSWER_TOKENS}
                result = estimate(Scenario(model=model, gpu=gpu, **load, **fields))
                entries = result.schedule.final_kv_tokens_by_layer
                study_rows.append(
                    {
                        "model": model,
                        "gpu": gpu,
                        "turn": turn,
                        "method": label,
                        "prompt_tokens": result.workload.prompt_tokens,
                        "visual_tokens": result.workload.visual_tokens,
                        "cache_bytes": sum(entries) * result.kv_cache.bytes_per_token / len(entries),
                        "ttft_s": result.latency.ttft_s.p50,
                        "tpot_s": result.latency.tpot_s.p50,
                        # Published for text eviction alone, and for shares rather than windows.
                        "mmdu_score_kept": kept.get((model, label.removesuffix(", text"))),
                    }
                )
    return study_rows


def findings(rows: list[Row]) -> list[str]:
    """The cache after the last turn against the unpruned one, and the changes in TTFT and TPOT."""
    said = []
    for model in dict.fromkeys(row["model"] for row in rows):
        model_rows = [row for row in rows if row["model"] == model]
        turn = max(row["turn"] for row in model_rows)
        last = {row["method"]: row for row in model_rows if row["turn"] == turn}
        dense = last["unpruned"]
        growth = (dense["cache_bytes"] - min(model_rows, key=lambda row: row["turn"])["cache_bytes"]) / max(1, turn - 1)
        vision = percent(dense["visual_tokens"] / dense["prompt_tokens"])
        said.append(
            f"{model}: unpruned, the cache grows by {growth / MEGA:.1f} MB a turn on average, to "
            f"{dense['cache_bytes'] / MEGA:.0f} MB after turn {turn}; vision is {vision} of its "
            "prompt"
        )
        for label, row in last.items():
            if label != "unpruned":
                score = row["mmdu_score_kept"]
                said.append(
                    f"{model}, turn {turn}, {label}: cache {percent(1 - row['cache_bytes'] / dense['cache_bytes'])} "
                    f"smaller, TTFT {100 * (row['ttft_s'] / dense['ttft_s'] - 1):+.1f} %, "
                    f"TPOT {100 * (row['tpot_s'] / dense['tpot_s'] - 1):+.1f} %"
                    + ("" if score is None else f", published MMDU score kept {percent(score)}")
                )
    return said


def draw(rows: list[Row]) -> Figure:
    """A column a model: the cache, TTFT and TPOT over the turns."""
    models, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "method"))
    figure, axes = panels(len(PANELS), len(models), max(4.5, 4.1 * len(models)), 8.4, sharex=True)
    for column, model in enumerate(models):
        for line, (quantity, unit, label) in enumerate(PANELS):
            panel = axes[line][column]
            for index, name in enumerate(names):
                series = [row for row in rows if (row["model"], row["method"]) == (model, name)]
                style = look(index)
                panel.plot(
                    [row["turn"] for row in series], [row[quantity] / unit for row in series], label=name, **style
                )
            # The cache hardly moves TPOT of a single request: from 0, all lines would be one.
            if quantity != "tpot_s":
                panel.set_ylim(bottom=0)
            title = model if line == 0 else ""
            plain(panel, title, "turn" if line == len(PANELS) - 1 else "", label if column == 0 else "")
    legend(figure, [axes[0][0]], 3)
    figure.suptitle(f"A dialogue with an image a turn, on {rows[0]['gpu']}", fontsize=10)
    return figure


if __name__ == "__main__":
    sys.exit(run(__file__, rows, draw, findings))
