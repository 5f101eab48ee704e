"""Real numbers of a file as integers times a power of two."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.nodes import Floats
from lapilli.ir.tensor import IntArray

_MOST_BITS = 62


def finest(values: Floats) -> Fraction | None:
    """The largest power of two of which all values are multiples; None if all are 0."""
    there = values[values != 0]
    if not there.size:
        return None
    mantissa, exponent = np.frexp(there.astype(np.float64))
    whole = (mantissa * 2.0**53).astype(np.int64)
    zeros = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return Fraction(2) ** int((exponent - 53 + zeros).min())


def over(values: Floats, unit: Fraction) -> IntArray:
    """Integers that times a power of two are these values."""
    flat = values.astype(np.float64)
    largest = Fraction(float(np.abs(flat).max())) / unit
    if largest >= 1 << _MOST_BITS:
        raise MalformedError(
            f"its numbers reach from {float(unit):.3g} to {float(np.abs(flat).max()):.3g}: "
            "they lie on no grid; quantize the model first"
        )
    exponent = unit.numerator.bit_length() - unit.denominator.bit_length()
    return np.ldexp(flat, -exponent).astype(np.int64)


def dilated(weight: Floats, dilation: tuple[int, int]) -> Floats:
    """The same kernel with its holes written out as zeros."""
    if min(dilation) < 1 or max(dilation) > 64:
        raise MalformedError(f"dilation {list(dilation)}")
    sides = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilation, strict=True)]
    if math.prod(sides) * math.prod(weight.shape[:2]) > limits.MOST_WEIGHTS:
        raise MalformedError(f"a kernel of {sides} after dilation {list(dilation)}")
    whole = np.zeros((*weight.shape[:2], *sides), weight.dtype)
    whole[:, :, :: dilation[0], :: dilation[1]] = weight
    return whole


def pair(values: Floats, field: str) -> tuple[int, int]:
    """A size for each axis of a map, from one number or two."""
    flat = values.ravel().tolist()
    if len(flat) not in (1, 2) or any(n != int(n) or not 0 <= n < 1 << 16 for n in flat):
        raise MalformedError(f"{field} {flat[:4]}: expected one or two small whole numbers")
    return int(flat[0]), int(flat[-1])


def whole(values: Floats, field: str) -> int:
    """The one whole number of a field."""
    if values.size != 1:
        raise MalformedError(f"{field}: expected one number")
    return int(values.ravel()[0])
