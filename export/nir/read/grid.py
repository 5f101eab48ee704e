"""Real numbers of a file as integers times a power of two; what floats would round, refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.dynamics import FLOAT32
from lapilli.export.nir.read.reader import Floats
from lapilli.ir import ops
from lapilli.ir.bounds import fraction_loss, neuron_bounds, trailing_zeros
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import TensorType

_MOST_BITS = 62


def check_float(name: str, op: ops.Neuron, x: TensorType, rest: Fraction, T: int) -> None:
    """Refuse a membrane that float32, in which the framework runs, would round."""
    bounds = neuron_bounds(name, op, x, T)
    lost = max(fraction_loss(op.dv), fraction_loss(op.du)) * (T - 1)
    added = [op.fraction_bits]
    if op.reset_by:
        added.append(trailing_zeros(op.reset_by))
    step = Fraction(1 << (min(added) - lost))
    offset = rest * (1 << op.fraction_bits)
    if offset:
        step = min(step, Fraction(1, offset.denominator) * (1 << trailing_zeros(offset.numerator)))
    span = (max(bounds.u.magnitude, bounds.v.magnitude) + abs(offset)) / step
    if span >= 1 << FLOAT32 or offset.denominator & (offset.denominator - 1):
        raise MalformedError(
            f"its membrane needs {int(span).bit_length()} bits over {T} steps, and float32 holds "
            f"{FLOAT32}: what the framework rounds is not certain; take fewer steps or bits"
        )


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
