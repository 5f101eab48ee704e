"""Write a read-out in words: numbers too long for floats leave in parts, and the host adds them.

Nobody but the host reads the logits, and it adds them up over time as it is. So weights may be
written digit by digit, and what one digit still makes too long for half of the inputs at a
time: y = sum of 2^k_i y_i, where each y_i has rows of its own and fits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lapilli.export.nir.write.placement import NotRepresentableError
from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, IntTensor

Word = tuple[int, ops.Linear]  # what one of its units is worth, and its synapses


def words(op: ops.Linear, fits: Callable[[ops.Linear], bool]) -> tuple[Word, ...]:
    """The fewest words of equally many bits that fit; `op` itself, if it does.

    >>> op = ops.Linear(weight=IntTensor.of([[100, -7]]), bias=IntTensor.of([33]))
    >>> parts = words(op, lambda part: part.weight.range.magnitude < 32)
    >>> [(unit, p.weight.array.tolist(), p.bias.array.tolist()) for unit, p in parts]
    [(1, [[4, -7]], [1]), (32, [[3, 0]], [1])]

    Raises:
        NotRepresentableError: a weight of one on one input does not fit.
    """
    longest = max(op.weight.range.magnitude, op.bias.range.magnitude).bit_length()
    for bits in range(longest, 0, -1):
        parts = _digits(op, bits, longest)
        if all(fits(part) for _, part in parts):
            return parts
    half = op.weight.shape[1] // 2
    if half == 0:
        raise NotRepresentableError("one of its inputs alone leaves what floats hold")
    left, right = op.weight.array.copy(), op.weight.array.copy()
    left[:, half:] = 0
    right[:, :half] = 0
    none = np.zeros_like(op.bias.array)
    return (*words(_like(op, left, op.bias.array), fits), *words(_like(op, right, none), fits))


def _digits(op: ops.Linear, bits: int, longest: int) -> tuple[Word, ...]:
    """Digits of sign and magnitude, the lowest first."""

    def digit(array: IntArray, low: int) -> IntArray:
        return np.asarray(np.sign(array) * (np.abs(array) >> low & (1 << bits) - 1), np.int64)

    return tuple(
        (1 << low, _like(op, digit(op.weight.array, low), digit(op.bias.array, low)))
        for low in range(0, longest, bits)
    )


def _like(op: ops.Linear, weight: IntArray, bias: IntArray) -> ops.Linear:
    return ops.Linear(weight=IntTensor.of(weight), bias=IntTensor.of(bias), graded=op.graded)


def stacked(parts: tuple[Word, ...]) -> ops.Linear:
    """All of them on the same input, one below the other."""
    synapses = [op for _, op in parts]
    return _like(
        synapses[0],
        np.concatenate([op.weight.array for op in synapses]),
        np.concatenate([op.bias.array for op in synapses]),
    )
