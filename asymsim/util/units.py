"""The only places where a prefix becomes a number: SI inside, GiB and ms where a person reads."""

from __future__ import annotations

KILO = 10**3
MEGA = 10**6
GIGA = 10**9
TERA = 10**12
MILLI = 1e-3
MICRO = 1e-6
MIB = 2**20
GIB = 2**30

_SI = ((10**18, "E"), (TERA, "T"), (GIGA, "G"), (MEGA, "M"), (KILO, "k"))


def human_flops(flops: float) -> str:
    """FLOPs with an SI prefix, such as ``8.53 TFLOP``, for reading only."""
    for scale, prefix in _SI:
        if abs(flops) >= scale:
            return f"{flops / scale:.3g} {prefix}FLOP"
    return f"{flops:.3g} FLOP"


def human_bytes(size_bytes: float) -> str:
    """Bytes in MiB or GiB, for reading only."""
    if abs(size_bytes) >= GIB:
        return f"{size_bytes / GIB:.2f} GiB"
    return f"{size_bytes / MIB:.1f} MiB"


def human_seconds(seconds: float) -> str:
    """Seconds in s, ms or us, for reading only."""
    if abs(seconds) >= 1:
        return f"{seconds:.2f} s"
    if abs(seconds) >= MILLI:
        return f"{seconds / MILLI:.2f} ms"
    return f"{seconds / MICRO:.1f} us" if seconds else "0 s"
