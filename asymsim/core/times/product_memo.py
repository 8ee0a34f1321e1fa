"""Times of matrix products that were computed before, found by their shape."""

from __future__ import annotations

import numpy as np

# Seconds of a matrix product. Entries are found by a hash of the shape; `groups` is negative without a weight.
MEMO = np.dtype([(name, np.int64) for name in ("m", "n", "k", "groups")] + [("seconds", np.float64)], align=True)
