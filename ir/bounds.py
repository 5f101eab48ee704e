"""The interval of a neuron's state over a sample: what `infer` and `certificate` prove with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.channel_ranges import ChannelRanges
from lapilli.ir.tensor import IntArray
from lapilli.ir.types import IntRange, TensorType

_SAFE = 62 - ops.DECAY_BITS  # numbers below 2**_SAFE can be multiplied by DECAY_ONE in 64 bits


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


def apart(x: TensorType) -> ChannelRanges:
    """What is known of the single elements of a value; at least the range of all."""
    return x.channels or ChannelRanges.of(x.range, len(x.shape))


def neuron_bounds(name: str, op: ops.Integrating, x: TensorType, T: int) -> NeuronBounds:
    """Follow the interval of the state through `T` steps, resets included.

    Every channel is followed with its own current, bias and threshold; what is told is the smallest
    interval that holds them all.
    """
    if isinstance(op, ops.GeneralNeuron):
        return _general_bounds(name, op, x, T)
    current = x.channels or ChannelRanges.of(x.range, 1)
    bias, threshold = op.bias.array, op.threshold.array
    if _beyond(op, x.range, T) >> _SAFE:  # Python's integers, which are of any length
        current = ChannelRanges(current.lo.astype(object), current.hi.astype(object))
        bias, threshold = bias.astype(object), threshold.astype(object)
    driven, biased = current.shifted(op.fraction_bits), ChannelRanges(bias, bias)
    u = v = ChannelRanges(0 * bias, 0 * bias)  # before the step
    u_all = v_all = after = IntRange(0, 0)
    for _ in range(T):
        before = u, v
        u = _decayed(u, op.du) + driven
        h = _decayed(v, op.dv) + u + biased
        v = _after_reset(op, h, threshold)
        u_all, v_all, after = u_all | u.whole, v_all | h.whole, after | v.whole
        if _same(u, before[0]) and _same(v, before[1]):  # and so are all further steps
            break
    return NeuronBounds(name, x.range, u_all, v_all, after, finest_bit(op, T) < 0)


def _beyond(op: ops.Neuron, current: IntRange, T: int) -> int:
    """A number that no state reaches, found without any decay."""
    u = current.shifted(max(0, op.fraction_bits)).magnitude * T
    v = (u + op.bias.range.magnitude + op.reset_by) * T
    return v + op.threshold.range.magnitude + 1


def _same(a: ChannelRanges, b: ChannelRanges) -> bool:
    return np.array_equal(a.lo, b.lo) and np.array_equal(a.hi, b.hi)


def _general_bounds(name: str, op: ops.GeneralNeuron, x: TensorType, T: int) -> NeuronBounds:
    current, wide = x.channels or ChannelRanges.of(x.range, 1), _general_beyond(op, x.range, T)
    dtype: np.dtype[Any] = np.dtype(object if wide >> _SAFE else np.int64)
    current = ChannelRanges(current.lo.astype(dtype), current.hi.astype(dtype))
    taps, du, dv, bias = (c.array.astype(dtype) for c in (op.taps, op.du, op.dv, op.bias))
    none = np.zeros_like(_step(bias, 0))
    u = v = ChannelRanges(none, none)
    u_all = v_all = after = IntRange(0, 0)
    for t in range(T):
        driven = ChannelRanges(none, none)
        for tap in _step(taps, t)[: t + 1]:
            driven += ChannelRanges(tap, tap) * current
        u = _decayed(u, _step(du, t)) + driven.shifted(-op.shift)
        h = _decayed(v, _step(dv, t)) + u + ChannelRanges(_step(bias, t), _step(bias, t))
        if op.floored:
            h = h.clipped(op.floor)
        v = _left(op, h, t, dtype)
        u_all, v_all, after = u_all | u.whole, v_all | h.whole, after | v.whole
    return NeuronBounds(name, x.range, u_all, v_all, after, _general_finest_bit(op, T) < 0)


def _general_beyond(op: ops.GeneralNeuron, current: IntRange, T: int) -> int:
    """A number that no state reaches, and no sum of weighted inputs, found without any decay."""
    driven = (op.taps.range * current).magnitude * op.taps.shape[1]
    taken = op.reset_by.range.magnitude * op.threshold.shape[1]
    v = (driven * T + op.bias.range.magnitude + taken) * T
    return v + abs(op.floor) + op.threshold.range.magnitude + 1


def _step(constant: IntArray, t: int) -> IntArray:
    """What a constant of a general neuron is at step t: the axis of steps is 1 or T long."""
    each: IntArray = constant[t if len(constant) > 1 else 0]
    return each


def _left(op: ops.GeneralNeuron, h: ChannelRanges, t: int, dtype: np.dtype[Any]) -> ChannelRanges:
    """Where each membrane can be after its reset."""
    if op.reset is ops.Reset.NONE:
        return h
    levels, by = op.threshold.shape[1], _step(op.reset_by.array.astype(dtype), t)
    first = _step(op.threshold.array.astype(dtype), t).min(axis=0)  # of each neuron's levels
    silent = ChannelRanges(h.lo, np.minimum(h.hi, first - 1))
    fired = ChannelRanges(np.maximum(h.lo, first), h.hi)
    there = fired.lo <= fired.hi
    if op.reset is ops.Reset.TO_ZERO:
        fired = fired.times(0)
    else:
        fired += ChannelRanges(-levels * by, -by)
    return _either((silent.lo <= silent.hi, silent), (there, fired))


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


def _general_finest_bit(op: ops.GeneralNeuron, T: int) -> int:
    """As `finest_bit`, of a general neuron."""
    given = [op.taps, op.bias]
    given += [op.reset_by] if op.reset is ops.Reset.BY_SUBTRACTION else []
    added = [int(c) for tensor in given for c in tensor.array.ravel().tolist() if c]
    finest = min(map(trailing_zeros, added), default=0) - op.shift
    loss = max(fraction_loss(int(d)) for tensor in (op.du, op.dv) for d in np.unique(tensor.array))
    return finest - loss * (T - 1)


def _after_reset(op: ops.Neuron, h: ChannelRanges, threshold: IntArray) -> ChannelRanges:
    """Union of where each membrane can be after it was silent, or fired either way."""
    if op.reset is ops.Reset.NONE:
        return h
    quiet = np.maximum(h.lo, 1 - threshold) if op.ternary else h.lo
    silent = ChannelRanges(quiet, np.minimum(h.hi, threshold - 1))
    fired = [ChannelRanges(np.maximum(h.lo, threshold), h.hi)]
    if op.ternary:
        fired.append(ChannelRanges(h.lo, np.minimum(h.hi, -threshold)))
    parts = [(silent.lo <= silent.hi, silent)]
    for part, r in zip(fired, (op.reset_by, -op.reset_by), strict=False):
        left = ChannelRanges(part.lo - r, part.hi - r)
        left = left if op.reset is ops.Reset.BY_SUBTRACTION else left.times(0)
        parts.append((part.lo <= part.hi, left))
    return _either(*parts)


def _either(*parts: tuple[npt.NDArray[np.bool_], ChannelRanges]) -> ChannelRanges:
    """Smallest ranges that hold those of the parts that are there; one is, for each element."""
    least, most = min(r.hi.min() for _, r in parts), max(r.lo.max() for _, r in parts)
    return ChannelRanges(
        reduce(np.minimum, [np.where(there, r.lo, most) for there, r in parts]),
        reduce(np.maximum, [np.where(there, r.hi, least) for there, r in parts]),
    )


def _decayed(r: ChannelRanges, d: int | IntArray) -> ChannelRanges:
    return ChannelRanges(_decay(r.lo, d), _decay(r.hi, d))


def _decay(a: IntArray, d: int | IntArray) -> IntArray:
    """`semantics.decay`, of Python's integers, too: a proof must not wrap."""
    size: IntArray = np.abs(a)
    kept: IntArray = size * (ops.DECAY_ONE - d) >> ops.DECAY_BITS
    return np.sign(a) * kept


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
