"""Weights as Loihi stores them: eight bits and an exponent; wider ones as sums of such."""

from __future__ import annotations

import numpy as np

from lapilli.ir.bounds import trailing_zeros
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange

_BITS = 8  # of a signed weight; an exponent of 7 and the factor of mixed signs reach 8 further
_DIGITS = IntRange(-(1 << (_BITS - 1)), (1 << (_BITS - 1)) - 1)


def digits(weights: IntArray) -> list[tuple[IntArray, int]]:
    """Weights as a sum of signed digits of 8 bits, each with an exponent.

    A digit d is stored as 2 d: mixed signs leave even numbers, and the exponent takes it back.
    What eight bits and a common power of two cannot say takes more axons, of unit 256.
    """
    shift = min(_BITS, trailing_zeros(int(np.bitwise_or.reduce(np.abs(weights)))))
    if all(int(w) >> shift in _DIGITS for w in (weights.min(), weights.max())):
        return [(weights >> shift, shift)]
    low = ((weights - _DIGITS.lo) & ((1 << _BITS) - 1)) + _DIGITS.lo
    found, rest = [(low, 0)], (weights - low) >> _BITS
    while rest.any():
        part = rest.clip(_DIGITS.lo, _DIGITS.hi)
        found.append((part, _BITS))
        rest = rest - part
    return found
