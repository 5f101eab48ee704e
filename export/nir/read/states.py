"""The integer state of a neuron of a file: no decay truncates, and floats would not round it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from lapilli.export.malformed import MalformedError
from lapilli.export.nir.read.dynamics import FLOAT32, Dynamics, Integration
from lapilli.ir import ops
from lapilli.ir.bounds import fraction_loss, neuron_bounds, trailing_zeros
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import TensorType

_MOST_FRACTION_BITS = 32


def neuron(rule: Dynamics, unit: Fraction, shape: tuple[int, ...], T: int) -> ops.Neuron:
    """The integer neuron of a rule; no decay truncates.

    Args:
        rule: in real numbers.
        unit: real value of one integer of its input.
        shape: of its input, for thresholds of each neuron.
        T: steps of a sample.

    Raises:
        MalformedError: more than 32 fraction bits, or a threshold that is not above rest.
    """
    dv, du, lost = _decays(rule, T)
    state = unit * rule.gain
    below = (rule.reset_by / state).denominator
    if below & (below - 1):
        raise MalformedError(
            f"a spike subtracts {float(rule.reset_by):g}, off the grid of its state"
        )
    bits = _fraction_bits(lost + below.bit_length() - 1, T)
    state /= 1 << bits
    flat = rule.threshold.ravel()
    if flat.size > 1 and (flat == flat[0]).all():
        flat = flat[:1]
    levels = [(Fraction(v) - rule.rest) / state for v in flat.tolist()]
    whole = [int(v // 1) + 1 if rule.strict else -int(-v // 1) for v in levels]
    if min(levels) <= 0 or max(whole) >= 1 << 62:
        raise MalformedError("v_threshold is not above the resting potential, or out of all bounds")
    where = rule.threshold.shape if len(whole) > 1 else (1,)
    if len(whole) > 1 and where != shape:
        raise MalformedError(f"thresholds {list(where)} for values {list(shape)}")
    return ops.Neuron(
        threshold=IntTensor.of(np.array(whole, np.int64).reshape(where)),
        dv=dv,
        du=du,
        reset=rule.reset,
        reset_by=int(rule.reset_by / state),
        fraction_bits=bits,
    )


def integrator(
    name: str, rule: Integration, unit: Fraction, x: TensorType, T: int
) -> tuple[ops.Membrane, Fraction]:
    """Return the membrane of a neuron that never fires, and the real value of one of its integers.

    Args:
        name: of the node.
        rule: in real numbers.
        unit: real value of one integer of its input.
        x: its input.
        T: steps of a sample.

    Raises:
        MalformedError: more than 32 fraction bits.
    """
    dv, du, lost = _decays(rule, T)
    bits = _fraction_bits(lost, T)
    op = ops.Neuron(
        threshold=IntTensor.of([1]), dv=dv, du=du, reset=ops.Reset.NONE, fraction_bits=bits
    )
    beyond = neuron_bounds(name, op, x, T).v.magnitude + 1
    if beyond >= 1 << 62:
        raise MalformedError(f"its membrane grows to {beyond.bit_length()} bits over {T} steps")
    silent = replace(op, threshold=IntTensor.of([beyond]))
    return ops.Membrane(neuron=silent), unit * rule.gain / (1 << bits)


def _decays(rule: Dynamics | Integration, T: int) -> tuple[int, int, int]:
    """What the membrane and the current lose of 4096, and the bits that both shift down in T."""
    dv, du = (ops.DECAY_ONE - round(k * ops.DECAY_ONE) for k in (rule.keeps, rule.current_keeps))
    return dv, du, max(fraction_loss(dv), fraction_loss(du)) * (T - 1)


def _fraction_bits(needed: int, T: int) -> int:
    bits = max(ops.LOIHI_FRACTION_BITS, needed)
    if bits > _MOST_FRACTION_BITS:
        raise MalformedError(
            f"{T} steps of its decay need {bits} bits below the unit, 32 are there"
        )
    return bits


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
