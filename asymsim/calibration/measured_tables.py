"""Published operator times: the tables of ``aiconfigurator-core``.

The package 0.12.0 (NVIDIA, Apache-2.0, https://github.com/ai-dynamo/aiconfigurator) has Parquet tables at
``systems/data/<system>/<family>/<framework>/<version>/<table>_perf.parquet``, times in milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from asymsim.catalogue.gpu import Gpu, load_gpu
from asymsim.util.errors import InputError, MissingExtraError

PACKAGE = "aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0)"
# Name in the catalogue -> system in the package.
SYSTEMS = {
    "a100_80gb_sxm": "a100_sxm",
    "l40s": "l40s",
    "h100_sxm": "h100_sxm",
    "h200_sxm": "h200_sxm",
    "b200_sxm": "b200_sxm",
    "b300_sxm": "b300_sxm",
    "gb200": "gb200",
    "rtx_pro_6000": "rtx_pro_6000_server",
}
FRAMEWORKS = ("vllm", "sglang", "trtllm")
# Family and name of each section's table in the package.
TABLES = {
    "gemm_bf16": ("gemm", "gemm"),
    "gemm_fp8": ("gemm", "gemm"),
    "prefill_attention": ("attention", "context_attention"),
    "decode_attention": ("attention", "generation_attention"),
    "encoder_attention": ("encoder_attention", "encoder_attention"),
    "elementwise": ("quantize", "scale_matrix"),
    "all_reduce": ("comm", "custom_allreduce"),
    "grouped_gemm": ("moe", "moe"),
}


def systems_folder() -> Path:
    """Folder of the installed package's tables, without importing the package.

    Raises
    ------
    MissingExtraError
        If the package, or pyarrow or scipy, is not installed.
    """
    missing = [name for name in ("aiconfigurator_core", "pyarrow", "scipy") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"calibration needs {', '.join(missing)}: pip install 'asymsim[measured]'")
    spec = find_spec("aiconfigurator_core")
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations or ("",)))) / "systems"


def measured_gpus(names: Sequence[str]) -> list[Gpu]:
    """The GPUs of these names or files, each of which the package has tables of.

    Raises
    ------
    InputError
        If a GPU was not measured.
    MissingExtraError
        If the tables are not installed.
    UnknownNameError
        If there is no such GPU.
    """
    gpus = [load_gpu(name) for name in names]
    for gpu in gpus:
        _check_measured(gpu.name)
    systems_folder()
    return gpus


def _check_measured(gpu_name: str) -> None:
    if gpu_name not in SYSTEMS:
        raise InputError("gpu", gpu_name, f"has no measured tables; GPUs that have: {', '.join(SYSTEMS)}")


def table_path(gpu_name: str, section: str, framework: str) -> Path | None:
    """Path of the newest version of a section's table, or None where the GPU has none.

    Raises
    ------
    InputError
        If the GPU was not measured at all.
    """
    _check_measured(gpu_name)
    family, table = TABLES[section]
    folder = systems_folder() / "data" / SYSTEMS[gpu_name] / family / framework
    paths = folder.glob(f"*/{table}_perf.parquet")
    return max(paths, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)], default=None)
