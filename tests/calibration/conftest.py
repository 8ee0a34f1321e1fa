"""A stand-in for the package of measured tables, with synthetic times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from asymsim.catalogue.gpu import load_gpu

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes a table of the package; times in seconds, stored in milliseconds as the package does."""
    folder = tmp_path / "packages" / "aiconfigurator_core"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder.parent))

    def write(
        columns: Mapping[str, Any],
        seconds: Any,
        place: str = "h100_sxm/quantize/vllm/0.24.0/scale_matrix",
    ) -> Path:
        path = folder / "systems" / "data" / f"{place}_perf.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table({**columns, "latency": np.asarray(seconds, float) * 1e3}), path)
        return path

    return write


LAUNCH_S, MEMORY_SHARE, OVERLAP = 3.1e-6, 0.72, 1.8


def quantisation(noise: float = 0.0) -> tuple[dict[str, Any], Any]:
    """Shapes and times of element-wise kernels with known launch, bandwidth share and overlap, on an H100."""
    m, k = (axis.ravel() for axis in np.meshgrid(2 ** np.arange(4, 16), np.arange(1, 41) * 256))
    stream_s = 3.0 * m * k / (load_gpu("h100_sxm").bandwidth_bytes_per_s * MEMORY_SHARE)
    seconds = (LAUNCH_S**OVERLAP + stream_s**OVERLAP) ** (1 / OVERLAP)
    return {"m": m, "k": k}, seconds * np.exp(noise * np.random.default_rng(5).normal(size=len(m)))
