"""The optional pyarrow, for files in Parquet."""

from __future__ import annotations

from typing import Any

from asymsim.util.errors import MissingExtraError


def arrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet module.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'asymsim[sweep]', or ask for csv") from None
    return pa, parquet
