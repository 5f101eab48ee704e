"""The same neuron with another number of fraction bits: where Loihi has 6, and graphs any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import finest_bit
from lapilli.ir.certificate import TIE
from lapilli.ir.tensor import IntArray, IntTensor


def with_fraction_bits(op: ops.Neuron, T: int, bits: int) -> ops.Neuron | None:
    """A neuron that fires as `op` does, with `bits` fraction bits and thresholds 64 * vth + 1.

    Where no decay truncates, every membrane is a multiple of a power of two; a threshold then
    means the same anywhere between two of them, and so does a state with fewer bits, or more.

    Returns:
        None if there is no such neuron.
    """
    finest, more = finest_bit(op, T), bits - op.fraction_bits
    if finest < 0:  # it truncates: only itself
        return op if more == 0 and not np.any(op.threshold.array % TIE != 1) else None
    if finest + more < 0:
        return None
    unit = 1 << (finest + more)
    reached = _shifted(-(-op.threshold.array >> finest) << finest, more)
    tied = (reached - 1) // TIE * TIE + 1
    if np.any(tied <= reached - unit):
        return None
    return replace(
        op,
        threshold=IntTensor(tied),
        bias=IntTensor(_shifted(op.bias.array, more)),
        reset_by=int(_shifted(np.array([op.reset_by]), more)[0]),
        fraction_bits=bits,
    )


def _shifted(values: IntArray, more: int) -> IntArray:
    return values << more if more >= 0 else values >> -more
