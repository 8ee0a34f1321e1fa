"""Settings that all tests share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Read when triton is first imported, which transformers does: kernels are interpreted here, compiled in subprocesses.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples everywhere and no deadline: the first call of a kernel compiles it.
settings.register_profile(
    "reproducible",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# For a search beyond the fixed examples: pytest --hypothesis-profile=search
settings.register_profile("search", parent=settings.get_profile("reproducible"), derandomize=False, max_examples=2000)
# Uncompiled kernels are a hundred times slower.
settings.register_profile("plain", parent=settings.get_profile("reproducible"), max_examples=15)
settings.load_profile("reproducible")
