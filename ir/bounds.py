"""The interval of a neuron's state over a sample: what `infer` and `certificate` prove with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lapilli.ir import ops
from lapilli.ir.tensor import IntTensor
from lapilli.ir.types import IntRange, TensorType


@dataclass(frozen=True, slots=True)
class NeuronBounds:
    """Proven for one neuron node over the T steps of a sample, in state units.

    Attributes:
        current: the input before the fraction shift, in synaptic units.
        u: synaptic current; v: membrane before reset; after: what resets leave of it.
        truncates: whether a decay, or a shift to the right, can drop a bit that is not zero.
    """

    name: str
    current: IntRange
    u: IntRange
    v: IntRange
    after: IntRange
    truncates: bool

    @property
    def state_bits(self) -> int:
        """Bits that u and v need, sign included."""
        return (self.u | self.v | IntRange(-1, 0)).bits


def neuron_bounds(name: str, op: ops.Integrating, x: TensorType, T: int) -> NeuronBounds:
    """Follow the interval of the state through `T` steps, resets included."""
    if isinstance(op, ops.GeneralNeuron):
        return _general_bounds(name, op, x, T)
    u = v = IntRange(0, 0)  # before the step
    u_all = v_all = after = IntRange(0, 0)
    for _ in range(T):
        before = u, v
        u = _decayed(u, op.du) + x.range.shifted(op.fraction_bits)
        h = _decayed(v, op.dv) + u + op.bias.range
        u_all, v_all = u_all | u, v_all | h
        v = _after_reset(op, h)
        after |= v
        if (u, v) == before:  # and so are all further steps
            break
    return NeuronBounds(name, x.range, u_all, v_all, after, finest_bit(op, T) < 0)


def _general_bounds(name: str, op: ops.GeneralNeuron, x: TensorType, T: int) -> NeuronBounds:
    u = v = u_all = v_all = after = IntRange(0, 0)
    for t in range(T):
        h = _decayed_by(v, _at(op.dv, t))
        u = _decayed_by(u, _at(op.du, t)) + driven_range(op, x.range, t).shifted(-op.shift)
        h = h + u + _at(op.bias, t)
        if op.floored:
            h = IntRange(max(op.floor, h.lo), max(op.floor, h.hi))
        u_all, v_all = u_all | u, v_all | h
        v = _left(op, h, t)
        after |= v
    truncates = _general_finest_bit(op, T) < 0
    return NeuronBounds(name, x.range, u_all, v_all, after, truncates)


def input_range(op: ops.Integrating, current: IntRange) -> IntRange:
    """What one step's input adds to the state."""
    if isinstance(op, ops.Neuron):
        return current.shifted(op.fraction_bits)
    steps = range(max(len(op.taps.array), op.taps.shape[1]))
    ranges = [driven_range(op, current, t).shifted(-op.shift) for t in steps]
    return IntRange(min(r.lo for r in ranges), max(r.hi for r in ranges))


def driven_range(op: ops.GeneralNeuron, x: IntRange, t: int) -> IntRange:
    """What the taps can make of the inputs up to step t, before the shift."""
    taps = op.taps.array[min(t, len(op.taps.array) - 1)][: t + 1]
    total = IntRange(0, 0)
    for tap in taps:
        total += IntRange(int(tap.min()), int(tap.max())) * x
    return total


def _at(constant: IntTensor, t: int) -> IntRange:
    each = constant.array[t if len(constant.array) > 1 else 0]
    return IntRange(int(each.min()), int(each.max()))


def _left(op: ops.GeneralNeuron, h: IntRange, t: int) -> IntRange:
    """Where the membrane can be after its reset."""
    if op.reset is ops.Reset.NONE:
        return h
    levels, by = op.threshold.shape[1], _at(op.reset_by, t)
    lowest = op.threshold.array.min(axis=1, keepdims=True)  # of each neuron's levels
    first = _at(IntTensor(lowest), t)
    if h.hi < first.lo:  # it cannot fire
        return h
    silent = _overlap(h, h.lo, first.hi - 1)
    after = [silent] if silent else []
    if op.reset is ops.Reset.TO_ZERO:
        after.append(IntRange(0, 0))
    else:
        fired = IntRange(max(h.lo, first.lo), h.hi)
        after.append(fired + IntRange(-levels * by.hi, -by.lo))
    return IntRange(min(r.lo for r in after), max(r.hi for r in after))


def _decayed_by(r: IntRange, d: IntRange) -> IntRange:
    corners = [_decay(a, each) for a in (r.lo, r.hi) for each in (d.lo, d.hi)]
    return IntRange(min(corners), max(corners))


def _general_finest_bit(op: ops.GeneralNeuron, T: int) -> int:
    """As `finest_bit`, of a general neuron."""
    given = [op.taps, op.bias]
    given += [op.reset_by] if op.reset is ops.Reset.BY_SUBTRACTION else []
    added = [int(c) for tensor in given for c in tensor.array.ravel().tolist() if c]
    finest = min(map(trailing_zeros, added), default=0) - op.shift
    loss = max(fraction_loss(int(d)) for tensor in (op.du, op.dv) for d in np.unique(tensor.array))
    return finest - loss * (T - 1)


def _after_reset(op: ops.Neuron, h: IntRange) -> IntRange:
    """Union of where the membrane can be after it was silent, or fired either way."""
    if op.reset is ops.Reset.NONE:
        return h
    low, high = op.threshold.range.lo, op.threshold.range.hi
    silent = _overlap(h, 1 - high if op.ternary else h.lo, high - 1)
    fired = [_overlap(h, low, h.hi), _overlap(h, h.lo, -low) if op.ternary else None]
    after = [silent] if silent else []
    for part, r in zip(fired, (op.reset_by, -op.reset_by), strict=True):
        if part and op.reset is ops.Reset.BY_SUBTRACTION:
            after.append(IntRange(part.lo - r, part.hi - r))
        elif part:
            after.append(IntRange(0, 0))
    return IntRange(min(r.lo for r in after), max(r.hi for r in after))


def _overlap(r: IntRange, lo: int, hi: int) -> IntRange | None:
    lo, hi = max(r.lo, lo), min(r.hi, hi)
    return IntRange(lo, hi) if lo <= hi else None


def _decayed(r: IntRange, d: int) -> IntRange:
    return IntRange(_decay(r.lo, d), _decay(r.hi, d))


def _decay(a: int, d: int) -> int:
    """`semantics.decay` in Python's integers, which are of any length: a proof must not wrap."""
    kept = abs(a) * (ops.DECAY_ONE - d) >> ops.DECAY_BITS
    return kept if a >= 0 else -kept


def trailing_zeros(value: int) -> int:
    """Number of times that 2 divides a value that is not zero."""
    return (value & -value).bit_length() - 1


def fraction_loss(d: int) -> int:
    """Bits that one decay moves below the unit: 1 for a half, 12 at most, 0 for all or none."""
    kept = ops.DECAY_ONE - d
    return 0 if kept == 0 else ops.DECAY_BITS - trailing_zeros(kept)


def finest_bit(op: ops.Neuron, T: int) -> int:
    """Power of two of which every membrane is a multiple; negative if a decay can truncate."""
    added = [int(b) for b in op.bias.array.ravel() if b]
    added += [op.reset_by] if op.reset is ops.Reset.BY_SUBTRACTION and op.reset_by else []
    finest = min([op.fraction_bits, *map(trailing_zeros, added)])
    # Between two steps a value decays once, in u or in v: T - 1 times, of either kind, in all.
    loss = max(fraction_loss(op.du), fraction_loss(op.dv)) * (T - 1)
    return finest - loss
