"""Delays of whole steps: spikes that a neuron holds, and currents that the next neuron takes late.

The graph's own `Delay` is of latency and changes no value. What arrives k steps later in model
time is the k-th tap of a general neuron: one without memory holds spikes, or sums of a few, and
any other takes the delay of its current into its own taps. Steps before a sample are 0.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lapilli.export import limits
from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.dynamics import rounding
from lapilli.export.nir.read.nodes import NirNode
from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, IntTensor
from lapilli.ir.types import TensorType


def steps_of(node: NirNode, dt: Fraction, T: int) -> IntArray:
    """Return by how many steps a `Delay` holds each element: one number, or of its own shape.

    Args:
        node: of type `Delay`.
        dt: seconds; a step.
        T: steps of a sample.

    Raises:
        MalformedError: no whole steps, below 0, or nothing arrives in a sample.
    """
    given = node.arrays["delay"]
    each, where = np.unique(given, return_inverse=True)
    kept = np.empty(each.size, np.int64)
    for i, seconds in enumerate(each.tolist()):
        exact = Fraction(seconds) / dt
        kept[i] = min(round(exact), T)
        if exact < 0 or abs(exact - round(exact)) > exact * rounding([given]):
            raise MalformedError(
                f"delays by {seconds:g} s, which are {float(exact):g} steps of {float(dt):g} s; "
                "whole steps from 0 on are exact"
            )
    if int(kept.min()) >= T:
        raise MalformedError(f"delays by {T} steps or more; nothing of a sample of {T} arrives")
    return kept[:1] if (kept == kept[0]).all() else kept[where].reshape(given.shape)


def late_taps(late: IntArray, T: int) -> IntArray:
    """Return taps (1, K, ...) that are 1 at the step from which each element is taken.

    Args:
        late: steps, of one element or of the shape of the value.
        T: steps of a sample: what comes later is not there.

    Raises:
        MalformedError: so many that a file should not ask for them.
    """
    K = min(int(late.max()), T - 1) + 1
    if K * late.size > limits.MOST_WEIGHTS:
        raise MalformedError(f"{K} taps of {late.size} elements; {limits.MOST_WEIGHTS} in all")
    places = np.arange(K).reshape(1, K, *(1 for _ in late.shape))
    taps: IntArray = (places == late).astype(np.int64)
    return taps


def held(late: IntArray, given: TensorType, T: int) -> ops.GeneralNeuron | None:
    """Make the neurons that hold spikes, or sums of a few, so long; None of other values."""
    events = given.range
    if events.lo < 0 or not 1 <= events.hi <= ops.MOST_EVENTS:
        return None
    return ops.GeneralNeuron(
        taps=IntTensor.of(late_taps(late, T)),
        threshold=IntTensor.of(np.arange(1, events.hi + 1).reshape(1, -1, 1)),
        dv=IntTensor.of([[ops.DECAY_ONE]]),
        reset=ops.Reset.NONE,
        fraction_bits=0,
    )


def later(op: ops.Neuron, late: IntArray, T: int) -> ops.GeneralNeuron:
    """Make the same neuron, which takes its current so many steps late."""
    return ops.GeneralNeuron(
        taps=IntTensor.of(late_taps(late, T) << op.fraction_bits),
        threshold=IntTensor.of(op.threshold.array[None, None]),
        dv=IntTensor.of([[op.dv]]),
        du=IntTensor.of([[op.du]]),
        reset=op.reset,
        reset_by=IntTensor.of([[op.reset_by]]),
        fraction_bits=op.fraction_bits,
    )


def fits(late: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Return delays in the shape of the value that they are of, or one for all.

    Raises:
        MalformedError: they are of another shape.
    """
    if late.size == 1:
        return late.reshape(1)
    if late.size != math.prod(shape) or (late.ndim > 1 and late.shape != shape):
        raise MalformedError(f"delays {list(late.shape)} for values {list(shape)}")
    return late.reshape(shape)
