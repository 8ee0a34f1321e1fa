"""Kernels run in Triton's interpreter here, which must be chosen before triton is first imported."""

from __future__ import annotations

import os
import sys

import pytest

os.environ["TRITON_INTERPRET"] = "1"

_language = sys.modules.get("triton.language.standard")
if _language is not None and type(_language.sum).__name__ != "InterpretedFunction":
    raise pytest.UsageError(
        "triton was imported before tests/kernels could choose its interpreter (transformers imports it): "
        "run pytest with TRITON_INTERPRET=1, or tests/kernels by itself"
    )
