"""Serving runs of the golden set: fleets, loads and limits that reach each rule of the scheduler."""

from __future__ import annotations

from typing import Any

LLAVA = {"model": "llava-1.5-7b", "gpu": "l40s"}

# Fields of the scenario, the load, the server, the fleet, and limits in milliseconds.
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "chat on one replica": {
        "scenario": LLAVA,
        "load": {"target_request_rate": 4.0, "num_requests": 600, "workload": "chat"},
        "limits_ms": {"ttft": 500.0, "tpot": 40.0},
    },
    "documents of Qwen behind two replicas in turn": {
        "scenario": {"model": "qwen2.5-vl-7b", "gpu": "h100_sxm", "engine": "vllm", "dtype": "fp8", "kv_dtype": "fp8"},
        "load": {"target_request_rate": 6.0, "num_requests": 300, "workload": "documents", "seed": 3},
        "fleet": {"replicas": 2, "router": "round_robin"},
        "limits_ms": {"e2e": 20000.0},
    },
    "a cache so small that requests are preempted": {
        "scenario": {**LLAVA, "text_tokens": 100, "output_tokens": 400},
        "load": {"target_request_rate": 8.0, "num_requests": 300},
        "server": {"kv_cache_bytes": 4 * 2**30},
        "limits_ms": {"ttft": 2000.0, "tpot": 50.0},
    },
    "constant arrivals without chunked prefill": {
        "scenario": {**LLAVA, "method": "fastv", "keep": 0.5, "output_tokens": 60},
        "load": {"target_request_rate": 12.0, "arrival": "constant", "num_requests": 400},
        "server": {"chunked_prefill": False, "max_num_batched_tokens": 1500, "max_num_seqs": 24},
    },
    "gamma bursts on A100 with tp 2": {
        "scenario": {"model": "llava-1.5-13b", "gpu": "a100_80gb_sxm", "tp_size": 2, "engine": "sglang"},
        "load": {"target_request_rate": 9.0, "arrival": "gamma", "burstiness": 0.3, "num_requests": 400, "seed": 5},
        "server": {"prefix_share": 0.4},
        "limits_ms": {"ttft": 300.0, "tpot": 30.0, "e2e": 8000.0},
    },
    "pools for encoding, prefill and decoding": {
        "scenario": {"model": "qwen2.5-vl-7b", "gpu": "a100_80gb_sxm", "method": "asymvlm", "keep": 0.5},
        "load": {"target_request_rate": 5.0, "num_requests": 300, "workload": "charts", "seed": 1},
        "fleet": {
            "replicas": 0,
            "encoder_replicas": 1,
            "prefill_replicas": 2,
            "decode_replicas": 2,
            "transfer_latency_s": 0.002,
            "transfer_bytes_per_s": 5e9,
        },
        "limits_ms": {"ttft": 1000.0},
    },
    "pools for prefill and decoding": {
        "scenario": {"model": "internvl3-2b", "gpu": "l40s", "method": "h2o", "keep": 0.3},
        "load": {"target_request_rate": 8.0, "num_requests": 250, "workload": "dialogue"},
        "fleet": {"replicas": 0, "prefill_replicas": 1, "decode_replicas": 1},
        "server": {"max_num_batched_tokens": 900},
    },
    "at most 20 requests in flight": {
        "scenario": {**LLAVA, "method": "streamingllm", "keep": 0.4, "output_tokens": 90},
        "load": {"num_requests": 500},
        "fleet": {"replicas": 2, "concurrency": 20},
    },
    "a recorded trace played faster": {
        "scenario": {"model": "qwen3-vl-4b", "gpu": "l40s", "num_images": 1, "image_height": 480, "image_width": 640},
        "load": {"trace": "trace.csv", "rate_scale": 1.5},
        "server": {"max_model_len": 2000},
        "limits_ms": {"tpot": 25.0},
    },
    "shared images and a small encoder cache": {
        "scenario": {"model": "gemma-3-4b-it", "gpu": "h100_sxm"},
        "load": {"target_request_rate": 30.0, "num_requests": 500, "workload": "mix.toml", "seed": 2},
        "server": {"encoder_budget_tokens": 600, "encoder_cache_tokens": 1100, "gpu_memory_utilization": 0.7},
    },
    "text evicted while decoding": {
        "scenario": {**LLAVA, "schedule": "vision_and_kv.toml", "output_tokens": 700, "text_tokens": 60},
        "load": {"target_request_rate": 2.0, "num_requests": 200, "seed": 11},
        "server": {"max_num_seqs": 32},
    },
    "cross-attention of Llama 3.2": {
        "scenario": {"model": "llama-3.2-11b-vision", "gpu": "h100_sxm", "kv_dtype": "fp8", "engine": "trtllm"},
        "load": {"target_request_rate": 4.0, "num_requests": 250, "workload": "chat", "seed": 8},
        "limits_ms": {"ttft": 800.0},
    },
    "a budget that adapts to the sample": {
        "scenario": {
            "model": "llava-v1.6-mistral-7b", "gpu": "t4", "dtype": "fp16", "method": "asymvlm", "keep": 0.4,
            "tp_size": 4, "settings": {"budget": "linear", "retain": 0.5},
        },
        "load": {"target_request_rate": 0.8, "num_requests": 200},
    },
}  # fmt: skip
