"""Command lines of the golden set, by group; they run in a folder that holds the files of ``inputs``."""

from __future__ import annotations

LLAVA = ("--model", "llava-1.5-7b")
PLAN = ("plan", "--target-request-rate", "20", "--num-requests", "300", "--workers", "1")

PLANS: dict[str, tuple[str, ...]] = {
    "three GPUs and two methods": (
        *PLAN, *LLAVA, "--ttft", "300", "--tpot", "30", "--gpu", "l40s,a100_80gb_sxm,h100_sxm", "--method",
        "asymvlm,fastv", "--keep", "0.5,0.25", "--draws", "0",
    ),
    "with intervals": (
        *PLAN, "--model", "qwen2.5-vl-7b", "--e2e", "8000", "--percentile", "90", "--workload", "chat", "--gpu", "l40s",
        "--method", "asymvlm", "--engine", "vllm", "--draws", "20", "--price", "l40s=0.9",
    ),
    "tensor parallelism and an 8-bit cache": (
        *PLAN, "--model", "llava-1.5-13b", "--ttft", "500", "--gpu", "h100_sxm,mi300x", "--tp-size", "1,2,4", "--dtype",
        "fp8", "--kv-dtype", "fp8", "--draws", "0", "--router", "round_robin", "--method", "none,h2o",
    ),
    "a trace, and a limit that nothing meets": (
        "plan", *LLAVA, "--trace", "trace.csv", "--ttft", "0.5", "--tpot", "60", "--gpu", "l40s", "--draws", "0",
        "--workers", "1",
    ),
}  # fmt: skip

COMMANDS: dict[str, tuple[str, ...]] = {
    "help": (
        "--help", "estimate --help", "compare --help", "savings --help", "serve-sim --help", "plan --help",
        "sweep --help", "reproduce --help", "calibrate --help", "list --help", "list models --help",
        "list gpus --help", "list methods --help", "list conventions --help", "list accuracy --help",
        "validate --help", "validate kernels --help", "validate resources --help", "validate records --help",
        "validate outputs --help", "validate latency --help",
    ),
    "list": (
        "list models", "list models --format csv", "list gpus", "list gpus --format json", "list methods",
        "list methods --format json", "list conventions", "list conventions --format csv",
        "list accuracy --format csv",
    ),
    "estimate": (
        "estimate --model llava-1.5-7b",
        "estimate --model llava-1.5-7b --format json",
        "estimate --model llava-1.5-7b --method fastv --keep 0.25 --set layer=3 --format csv",
        "estimate --model qwen2.5-vl-7b --gpu l40s --method asymvlm --convention torch --isl 100 --osl 7",
        "estimate --model llava-1.5-7b --schedule two_stage.toml --batch-size 8 --engine vllm",
        "estimate --model llama-3.2-11b-vision --gpu t4 --dtype fp16 --tp-size 2",
        "estimate --model llava-1.5-7b --operators",
        "estimate --model smolvlm-256m --operators --format csv",
        "estimate --model qwen3-8b --osl 1",
        "estimate --model llava-1.5-7b --method asymvlm+snapkv --set snapkv.window=16 --out made.json",
    ),
    "compare": (
        "compare --model llava-1.5-7b",
        "compare --model llava-1.5-7b --format json --budget 0.25 --methods fastv,asymvlm,h2o,visionzip",
        "compare --model qwen2.5-vl-7b --format csv --match keep --methods fastv,dart --set fastv.layer=3",
        "compare --model llava-1.5-7b --gpu h100_sxm,l40s --methods fastv,sparsevlm --break-even 1,16",
        "compare --model llava-1.5-7b --gpu t4 --dtype fp16 --methods desap --break-even 4 --format csv",
    ),
    "savings": (
        "savings --model llava-1.5-7b,phi-3.5-vision --gpu h100_sxm --method asymvlm,fastv --budgets 0.25,0.5",
        "savings --model llava-1.5-7b --gpu h100_sxm,l40s --method sparsevlm --format csv",
        "savings --model llava-1.5-7b --method desap --budgets 0.3 --format json",
    ),
    "serve": (
        "serve-sim --model llava-1.5-7b --gpu l40s --target-request-rate 5 --num-requests 200",
        "serve-sim --model qwen2.5-vl-7b --workload documents --target-request-rate 2 --limit 100 --engine vllm"
        " --ttft 2000 --tpot 30 --format json",
        "serve-sim --model llava-1.5-7b --trace trace.csv --replicas 2 --method asymvlm --price h100_sxm=2.5"
        " --idle-share 0.2 --format csv",
        "serve-sim --model llava-1.5-7b --target-concurrency 8 --num-requests 60 --e2e 3000",
        "serve-sim --model qwen3-8b --workload chat --target-request-rate 9 --num-requests 50",
    ),
    "plan": (
        "plan --model llava-1.5-7b --target-request-rate 20 --num-requests 300 --ttft 300 --tpot 30"
        " --gpu l40s,h100-sxm --method asymvlm --keep 0.5 --workers 1",
        "plan --model llava-1.5-7b --target-request-rate 20 --num-requests 300 --ttft 0.5 --draws 0 --workers 1"
        " --format csv",
    ),
    "reproduce": ("reproduce", "reproduce --format csv"),
    "records": (
        "validate records records.csv", "validate records records.csv --format json",
        "validate records records.csv --format csv",
    ),
    "mistakes": (
        "estimate",
        "estimate --model llava-1.5-7b --gpus l4",
        "estimate --model",
        "estimate --model llava-1.5-7c",
        "estimate --model llava-1.5-7b --gpu h100",
        "estimate --model llava-1.5-7b --keep 0.5",
        "estimate --model llava-1.5-7b --method fastv --keep 1.5",
        "estimate --model llava-1.5-7b --method fastv --keep half",
        "estimate --model llava-1.5-7b --batch-size 2.5",
        "estimate --model llava-1.5-7b --batch-size 10000000000000000000000000",
        "estimate --model llava-1.5-7b --set layer",
        "estimate --model llava-1.5-7b --method fastv --set layer=2 --set layer=3",
        "estimate --model llava-1.5-7b --format xml",
        "estimate --model llava-1.5-7b extra",
        "estimate --model llava-1.5-7b --model llava-1.5-13b",
        "estimate --model llava-1.5-7b --schedule records.csv",
        "estimate --model missing/config.json",
        "estimate --model llava-1.5-7b --operators yes",
        "estimate --model llava-1.5-7b --out missing/made.json",
        "estimat --model llava-1.5-7b",
        "compare --model llava-1.5-7b --budget 2",
        "compare --model llava-1.5-7b --methods ,",
        "compare --model llava-1.5-7b --methods fastv --set dart.layer=2",
        "compare --model llava-1.5-7b --break-even 1,x",
        "savings --model llava-1.5-7b --budgets 0.1,x",
        "savings --model llava-1.5-7b --method nothing",
        "serve-sim --model llava-1.5-7b",
        "serve-sim --model llava-1.5-7b --target-request-rate 0",
        "serve-sim --model llava-1.5-7b --target-request-rate 5 --workload chat --isl 5",
        "serve-sim --model llava-1.5-7b --target-request-rate 5 --chrome-trace",
        "serve-sim --model llava-1.5-7b --target-request-rate 5 --replicas 0",
        "serve-sim --model llava-1.5-7b --target-request-rate 5 --price l4=2",
        "serve-sim --model llava-1.5-7b --trace records.csv",
        "serve-sim --model llava-1.5-13b --gpu t4 --dtype fp16 --target-request-rate 5",
        "serve-sim --model llava-1.5-7b --target-request-rate 5 --max-num-seqs 64 --max-num-batched-tokens 8",
        "plan --model llava-1.5-7b --ttft 300",
        "plan --model llava-1.5-7b --target-request-rate 5",
        "plan --model llava-1.5-7b --target-request-rate 5 --ttft 300 --percentile 100",
        "plan --model llava-1.5-7b --target-request-rate 5 --ttft 300 --tp-size 3",
        "plan --model llava-1.5-7b --target-request-rate 5 --ttft 300 --draws 3",
        "sweep missing.toml",
        "sweep two_stage.toml",
        "sweep records.csv --workers 0",
        "calibrate",
        "calibrate --gpu l4 --transfer",
        "calibrate --gpu t4",
        "validate records trace.csv",
        "validate records missing.csv",
        "validate latency --part some",
        "list",
        "list mods",
    ),
}  # fmt: skip
