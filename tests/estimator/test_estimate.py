"""Whole scenarios: closed forms of LLaVA-1.5-7B, the promised document, degenerate and huge loads."""

from __future__ import annotations

import json

import pytest

from asymsim.estimator.estimate import estimate
from asymsim.estimator.result import Estimate
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError, UnknownNameError

# Vicuna-7B: 32 layers of 4 d^2 + 3 d m, d = 4096, m = 11008, two FLOPs a multiply-add.
LAYERS = 2 * 32 * (4 * 4096**2 + 3 * 4096 * 11008)
ATTENTION = 4 * 4096 * 32
HEAD = 2 * 4096 * 32064

SECONDS = {"p05", "p50", "p95", "source"}
DOCUMENT = {
    "workload": {"num_images", "visual_tokens", "text_tokens", "prompt_tokens", "output_tokens", "batch_size"},
    "schedule": {
        "method", "settings", "masking", "mean_visual_tokens", "visual_tokens_by_layer", "text_tokens_by_layer",
        "kv_tokens_by_layer", "final_kv_tokens_by_layer",
    },
    "parameters": {"vision_tower", "projector", "embeddings", "language_model", "lm_head", "total"},
    "flops": {"vision_tower", "projector", "selection", "prefill", "decode", "decode_step_first", "total"},
    "kv_cache": {"bytes_per_token", "prefill_bytes", "peak_bytes"},
    "memory": {"weights_bytes", "kv_cache_bytes", "activation_bytes", "peak_bytes", "fits", "max_batch_size"},
    "latency": {"vision_s", "selection_s", "prefill_s", "ttft_s", "tpot_s", "e2e_s"},
    "savings_interval": {"ttft", "tpot", "e2e"},
    "savings": {"flops", "prefill_flops", "kv_bytes", "peak_bytes", "ttft", "tpot", "e2e"},
}  # fmt: skip


def of(model: str = "llava-1.5-7b", **more: object) -> Estimate:
    return estimate(Scenario(model=model, **more))  # type: ignore[arg-type]


def test_the_constants_are_the_published_ones() -> None:
    assert (LAYERS, ATTENTION, HEAD) == (12_952_010_752, 524_288, 262_668_288)


@pytest.mark.parametrize(("visual", "text"), [(576, 64), (576, 1), (0, 1), (0, 77), (1, 1), (1152, 2048)])
def test_prefill_as_the_framework_counts_it(visual: int, text: int) -> None:
    n = visual + text
    flops = of(convention="torch", visual_tokens=visual, text_tokens=text).flops
    assert flops.prefill == LAYERS * n + ATTENTION * n * n + HEAD
    # The causal mask leaves n (n + 1) / 2 of the n^2 pairs.
    assert of(visual_tokens=visual, text_tokens=text).flops.prefill == LAYERS * n + ATTENTION * n * (n + 1) // 2 + HEAD


@pytest.mark.parametrize("convention", ["exact", "torch"])
@pytest.mark.parametrize("output", [1, 2, 3, 129])
def test_decode_is_the_sum_of_its_steps(convention: str, output: int) -> None:
    flops = of(convention=convention, output_tokens=output, text_tokens=64, batch_size=3).flops
    cached = range(640, 640 + output - 1)
    assert flops.decode == 3 * sum(LAYERS + ATTENTION * (entries + 1) + HEAD for entries in cached)
    assert flops.decode_step_first == 3 * (LAYERS + ATTENTION * 641 + HEAD)


@pytest.mark.parametrize("images", [0, 1, 2, 5])
def test_the_tower_and_projector_see_each_image(images: int) -> None:
    flops = of(num_images=images, batch_size=2).flops
    assert flops.vision_tower == 2 * images * 381_918_216_192
    assert flops.projector == 2 * images * 24_159_191_040


@pytest.mark.parametrize(("kv_dtype", "entry"), [("auto", 524_288), ("fp8", 262_144), ("int4", 131_072)])
def test_cache_bytes(kv_dtype: str, entry: int) -> None:
    cache = of(kv_dtype=kv_dtype, text_tokens=64, output_tokens=101, batch_size=4).kv_cache
    assert cache.bytes_per_token == entry
    assert cache.prefill_bytes == 4 * 640 * entry
    # The last token is never attended to, so it is never cached.
    assert cache.peak_bytes == 4 * 740 * entry


def test_the_document_has_exactly_the_promised_keys() -> None:
    document = json.loads(json.dumps(of(method="fastv").to_dict(), allow_nan=False))
    assert set(document) == {"model", "gpu", "convention", *DOCUMENT}
    for key, names in DOCUMENT.items():
        assert set(document[key]) == names
    for name in DOCUMENT["savings_interval"]:
        assert set(document["savings_interval"][name]) == {"p05", "p95"}
    for name in DOCUMENT["latency"]:
        assert set(document["latency"][name]) == SECONDS
    for name in ("visual_tokens_by_layer", "text_tokens_by_layer", "kv_tokens_by_layer", "final_kv_tokens_by_layer"):
        assert len(document["schedule"][name]) == 32


def test_operators_are_listed_on_request_and_add_up() -> None:
    scenario = Scenario(model="qwen2.5-vl-7b", method="pyramiddrop")
    one = estimate(scenario, operators=True)
    document = one.to_dict()
    assert document["operators"]
    assert sum(row["flops"] for row in document["operators"]) == one.flops.total
    assert "operators" not in estimate(scenario).to_dict()


@pytest.mark.parametrize("gpu", ["h100_sxm", "h100_pcie", "mi300x"])
def test_operators_take_the_time_of_the_whole(gpu: str) -> None:
    one = estimate(Scenario(model="qwen2.5-vl-7b", gpu=gpu, method="fastv", batch_size=3), operators=True)
    rows, latency = one.operators or [], one.latency
    assert sum(row["seconds"] for row in rows) == pytest.approx(latency.e2e_s.p50, rel=1e-12)
    assert latency.e2e_s.source in {row["source"] for row in rows}
    if latency.e2e_s.source == "roofline":
        assert latency.e2e_s.p05 is latency.e2e_s.p95 is None
        assert one.savings_interval.ttft.p05 is None
    else:
        # Errors of different classes are independent, so the whole is surer than all parts together.
        assert sum(row["seconds_p05"] for row in rows) < latency.e2e_s.p05 < latency.e2e_s.p50
        assert sum(row["seconds_p95"] for row in rows) > latency.e2e_s.p95 > latency.e2e_s.p50
        assert one.savings_interval.ttft.p05 < one.savings.ttft < one.savings_interval.ttft.p95


def test_what_pruning_leaves_as_it_was_cancels_in_the_time_saved() -> None:
    same = of().savings_interval
    assert (same.ttft.p05, same.ttft.p95) == (0.0, 0.0)
    pruned = of(method="fastv", keep=0.5, output_tokens=1000)
    # Hardly anything of the end-to-end time changes, so hardly any of its error matters.
    wide = (pruned.latency.e2e_s.p95 - pruned.latency.e2e_s.p05) / pruned.latency.e2e_s.p50
    assert pruned.savings_interval.e2e.p95 - pruned.savings_interval.e2e.p05 < wide / 3


def test_a_phase_without_work_has_the_source_of_the_whole() -> None:
    assert of().latency.selection_s.source == of().latency.e2e_s.source == "fitted"
    assert of(gpu="mi300x").latency.selection_s.source == "roofline"
    assert of(output_tokens=1).latency.tpot_s.source == "fitted"


def test_tensor_parallelism_divides_rotation_and_activation_but_no_norm() -> None:
    def seconds(tp_size: int) -> list[float]:
        one = estimate(Scenario(model="llava-1.5-7b", text_tokens=8000, tp_size=tp_size), operators=True)
        rows = [row for row in one.operators or () if row["kind"] == "elementwise" and row["phase"] == "prefill"]
        return [row["seconds"] for row in rows if row["name"] == "elementwise"]

    (whole,), (divided, repeated) = seconds(1), seconds(8)
    assert repeated < whole
    assert divided + repeated < 0.75 * whole


def test_an_engine_adds_its_host_to_each_step() -> None:
    alone, served = of(), of(engine="vllm")
    more = (served.latency.tpot_s.p50 or 0) - (alone.latency.tpot_s.p50 or 0)
    assert more > 0
    assert served.latency.ttft_s.p50 - alone.latency.ttft_s.p50 == pytest.approx(more)
    with pytest.raises(UnknownNameError):
        of(engine="vlm")


def test_totals_are_the_sums_of_their_parts() -> None:
    one = of(method="sparsevlm")
    flops, time = one.flops, one.latency
    assert flops.total == flops.vision_tower + flops.projector + flops.selection + flops.prefill + flops.decode
    parts = one.parameters
    assert parts.total == parts.vision_tower + parts.projector + parts.embeddings + parts.language_model + parts.lm_head
    ttft, tpot, e2e = (seconds.p50 or 0.0 for seconds in (time.ttft_s, time.tpot_s, time.e2e_s))
    phases = (time.vision_s.p50 or 0) + (time.selection_s.p50 or 0) + (time.prefill_s.p50 or 0)
    assert ttft == pytest.approx(phases, rel=1e-12)
    assert e2e == pytest.approx(ttft + 127 * tpot, rel=1e-12)


def test_one_output_token_needs_no_decoding() -> None:
    one = of(output_tokens=1, method="h2o")
    assert one.flops.decode == 0
    assert one.latency.tpot_s.p50 is None
    assert one.savings.tpot is None
    assert one.latency.e2e_s == one.latency.ttft_s


def test_72b_does_not_fit_one_l4_and_says_so() -> None:
    memory = of("qwen2.5-vl-72b", gpu="l4").memory
    assert not memory.fits
    assert memory.max_batch_size == 0
    assert memory.weights_bytes > 5 * 24 * 10**9


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llama-3.2-11b-vision", "gemma-3-4b-it", "llama-3.1-8b"])
def test_no_method_saves_nothing(name: str) -> None:
    assert set(vars(of(name).savings).values()) == {0.0}


def test_a_capacity_below_the_prompt_saves_cache() -> None:
    pruned = of("llama-3.1-8b", text_tokens=4096, method="snapkv", settings={"capacity": 1024})
    assert pruned.savings.kv_bytes > 0.7


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tp_size": 5}, "tp_size"),
        ({"tp_size": 0}, "tp_size"),
        ({"dtype": "fp4"}, "dtype"),
        ({"convention": "own"}, "convention"),
        ({"gpu": "a100"}, "gpu"),
        ({"method": "fastest"}, "method"),
        ({"keep": 0.5}, "keep"),
        ({"method": "fastv", "keep": 1.5}, "keep"),
        ({"method": "fastv", "settings": {"depth": 1}}, "setting of fastv"),
        ({"method": "fastv", "schedule": "own.toml"}, "schedule"),
        ({"method": "h2o+snapkv"}, "method"),
        ({"batch_size": 0}, "batch_size"),
        ({"kv_dtype": "fp5"}, "kv_dtype"),
    ],
)
def test_bad_scenarios_name_the_field(more: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        of(**more)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_an_unknown_model_suggests_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"llava-1\.5-7b"):
        of("llava-1.5-7")
