"""The host's linear map of all time steps, in integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from lapilli.ir.answers import Answer
from lapilli.ir.errors import QuantizeError
from lapilli.ir.tensor import IntTensor
from lapilli.model.capture.host_map import HostMap

_BITS = 16  # of a weight, sign included: the host has them
_NEAR = 1e-12  # of weights that are multiples of the smallest, but for float64's rounding


def host_answer(name: str, host: HostMap, unit: Fraction) -> Answer:
    """Round a map's weights, and its bias in the unit of the result.

    Args:
        name: of the answer.
        host: the map in real numbers.
        unit: what an integer of the steps' values is worth.

    Raises:
        QuantizeError: all weights are 0.
    """
    weights, worth = _integers(name, host.weight)
    scale = unit * worth
    if weights.ndim == 1:
        return Answer(name=name, scale=scale, weights=tuple(weights.tolist()))
    bias = tuple(round(Fraction(float(b)) / scale) for b in host.bias)
    return Answer(name=name, scale=scale, matrix=IntTensor.of(weights), offset=bias)


def _integers(name: str, weight: np.ndarray) -> tuple[np.ndarray, Fraction]:
    """Multiples of the smallest weight where all are, as of a mean; else of a power of two."""
    sizes = np.abs(weight[weight != 0])
    if not sizes.size:
        raise QuantizeError(name, "multiplies every step by 0")
    top = (1 << (_BITS - 1)) - 1
    counts = weight / sizes.min()
    if np.abs(counts).max() <= top and np.abs(counts - np.rint(counts)).max() < _NEAR:
        return np.rint(counts).astype(np.int64), _simple(float(sizes.min()))
    exponent = int(np.floor(np.log2(top / sizes.max())))
    return np.rint(np.ldexp(weight, exponent)).astype(np.int64), Fraction(1, 2) ** exponent


def _simple(value: float) -> Fraction:
    """The fraction that a float was meant to be, such as 1/3, or else the float."""
    near = Fraction(value).limit_denominator(1 << 12)
    return near if abs(near / Fraction(value) - 1) < _NEAR else Fraction(value)
