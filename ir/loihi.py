"""Loihi's registers: how wide they are, which neurons they hold, and how to fit one into them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import NeuronBounds, finest_bit
from lapilli.ir.errors import Unsupported
from lapilli.ir.targets.loihi1 import BIAS, STATE, THRESHOLD
from lapilli.ir.tensor import IntArray, IntTensor

_MOST_BITS = 62  # of a number that is shifted, so that what lies above it fits 64 bits, too
TIE = 1 << ops.LOIHI_FRACTION_BITS  # Loihi fires on v > vth * 64


def unsupported(op: ops.Neuron, bounds: NeuronBounds) -> tuple[Unsupported, ...]:
    """Why no neuron of a Loihi population can be this one; empty if one can.

    Args:
        op: the neuron.
        bounds: of its state over a sample; its name is the node's.
    """
    reasons = []
    if op.threshold.array.size != 1:
        reasons.append("one threshold per neuron; a stock population has one for all")
    elif (theta := int(op.threshold.array.ravel()[0])) % TIE != 1:
        reasons.append(f"threshold {theta} is not 64 * vth + 1, so that >= and > would differ")
    elif not THRESHOLD.holds(op.threshold.range):
        reasons.append(f"vth {theta // TIE} needs more than {THRESHOLD.bits} bits")
    if not BIAS.holds(op.bias.range):
        reasons.append(f"bias up to {op.bias.range.magnitude} needs more than {BIAS.bits} bits")
    if fault := state_fault(bounds):
        reasons.append(fault)
    found = tuple(Unsupported(bounds.name, reason) for reason in reasons)
    return (*found, *unsupported_dynamics(bounds.name, op))


def unsupported_dynamics(name: str, op: ops.Neuron) -> tuple[Unsupported, ...]:
    """Which decays and input shifts of a neuron the registers of `LIFReset` cannot say."""
    reasons = []
    if op.du == 0:
        reasons.append("a current that never decays; the register counts from 1 of 4096")
    if op.dv == ops.DECAY_ONE and op.du < ops.DECAY_ONE:
        reasons.append("a full leak of v under a decaying current; dv ends at 4095 of 4096")
    if op.fraction_bits < ops.LOIHI_FRACTION_BITS:
        reasons.append(f"{op.fraction_bits} fraction bits; Loihi shifts its input by 6")
    return tuple(Unsupported(name, reason) for reason in reasons)


def state_fault(bounds: NeuronBounds) -> str | None:
    """Why Loihi's 24 bits do not hold the state of a neuron; None if they do."""
    state = bounds.u | bounds.v
    if STATE.holds(state):
        return None
    return f"state needs {STATE.needed(state)} bits, there are {STATE.bits}"


def with_fraction_bits(op: ops.Neuron, T: int, bits: int) -> ops.Neuron | None:
    """Rewrite a neuron to `bits` fraction bits and thresholds 64 * vth + 1; it fires as before.

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
    largest = max(op.threshold.range.magnitude, op.bias.range.magnitude, op.reset_by)
    if largest.bit_length() + more > _MOST_BITS:
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
