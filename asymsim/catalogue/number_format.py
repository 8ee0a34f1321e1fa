"""Number formats: bits of weights, activations and KV-cache entries, and the peak that applies."""

from __future__ import annotations

from asymsim.util.errors import UnknownNameError
from asymsim.util.strict import strict_dataclass


@strict_dataclass
class NumberFormat:
    """Storage and arithmetic format of a model.

    Attributes
    ----------
    weight_bits, activation_bits : int
        Bits per element. Between the products of 8-bit formats, activations have 16 bits, as serving engines keep
        them.
    peak : str
        Key of the GPU's peak that its matrix products run at.
    """

    name: str
    weight_bits: int
    activation_bits: int
    peak: str


NUMBER_FORMATS = {
    number_format.name: number_format
    for number_format in (
        NumberFormat(name="fp32", weight_bits=32, activation_bits=32, peak="fp32"),
        NumberFormat(name="bf16", weight_bits=16, activation_bits=16, peak="bf16"),
        NumberFormat(name="fp16", weight_bits=16, activation_bits=16, peak="fp16"),
        NumberFormat(name="fp8", weight_bits=8, activation_bits=16, peak="fp8"),
        NumberFormat(name="int8", weight_bits=8, activation_bits=16, peak="int8"),
        NumberFormat(name="w4a16", weight_bits=4, activation_bits=16, peak="fp16"),
        NumberFormat(name="fp4", weight_bits=4, activation_bits=16, peak="fp4"),
    )
}
KV_BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}


def number_format(name: str) -> NumberFormat:
    """A number format by name.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name not in NUMBER_FORMATS:
        raise UnknownNameError("dtype", name, NUMBER_FORMATS)
    return NUMBER_FORMATS[name]


def kv_bits(name: str, weights: NumberFormat) -> int:
    """Bits per cache element; ``auto`` takes the activations' width.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    """
    if name == "auto":
        return weights.activation_bits
    if name not in KV_BITS:
        raise UnknownNameError("kv_dtype", name, (*KV_BITS, "auto"))
    return KV_BITS[name]
