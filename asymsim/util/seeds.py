"""One seed for a whole workload, and independent draws for all that is random in it."""

from __future__ import annotations

from hashlib import blake2b


def seed_of(seed: int, purpose: str) -> int:
    """A seed for one purpose, such as "arrivals" or a column's name: two purposes never share their draws."""
    return int.from_bytes(blake2b(f"{seed} {purpose}".encode(), digest_size=7).digest())
