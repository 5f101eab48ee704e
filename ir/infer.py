"""The type of a node's value from the types of its inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.bounds import apart, driven_range, neuron_bounds
from lapilli.ir.carried import Carrying, along_channels, carried, weighted
from lapilli.ir.channel_ranges import ChannelRanges
from lapilli.ir.targets.wide import STATE
from lapilli.ir.types import BINARY, TERNARY, IntRange, Kind, TensorType


def infer(op: ops.Op, inputs: tuple[TensorType, ...], T: int) -> TensorType:
    """Return the tightest type we can prove for a sample of `T` time steps.

    Raises:
        ValueError: with the rule that the inputs break; the caller names the node.
    """
    match op:
        case ops.Input(type=t):
            _take(0, inputs)
            return t
        case ops.SpikeMatmul() | ops.Gate() | ops.ShiftSum() | ops.Add() | ops.Concat():
            return _of_two(op, *_take(2, inputs))
        case ops.Neuron() | ops.GeneralNeuron() | ops.Membrane() | ops.Readout():
            (x,) = _take(1, inputs)
            return _stateful(op, x, T)
        case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice():
            return _wired(op, *_take(1, inputs))
        case _:
            return _of_one(op, *_take(1, inputs))


def _of_one(
    op: ops.Weighted | ops.Sum | ops.MaxPool2d | ops.Delay | ops.Staircase | ops.Relu,
    x: TensorType,
) -> TensorType:
    """Of an op that computes from one operand, and remembers nothing."""
    match op:
        case ops.Linear(weight=w):
            fits = len(w.shape) == 2 and x.shape[-1:] == w.shape[1:]
            _need(fits, f"input {x} does not fit weight {w.shape}")
            return _accumulated(op, x, (*x.shape[:-1], w.shape[0]))
        case ops.Conv2d(weight=w):
            _need(op.groups > 0, f"{op.groups} groups")
            fits = len(x.shape) == 3 and len(w.shape) == 4
            fits = fits and x.shape[0] == w.shape[1] * op.groups
            _need(fits and w.shape[0] % op.groups == 0, f"{x} does not fit weight {w.shape}")
            size = _windows(x.shape, w.shape[2:], op.stride, op.padding)
            return _accumulated(op, x, (w.shape[0], *size))
        case ops.Sum(axes=axes, keepdims=keep):
            inside = bool(axes) and all(0 <= a < len(x.shape) for a in axes)
            _need(inside and len(set(axes)) == len(axes), f"no axes {axes} in {x}")
            count = math.prod(x.shape[a] for a in axes)
            sizes = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
            made = TensorType(tuple(sizes), x.range.times(count), _summed(x))
            return _refined(made, op, x)
        case ops.MaxPool2d():
            _need(len(x.shape) == 3, f"takes (C, H, W), got {x}")
            padded = all(2 * p <= k for p, k in zip(op.padding, op.kernel, strict=True))
            _need(padded, f"padding {op.padding} exceeds half of kernel {op.kernel}")
            size = _windows(x.shape, op.kernel, op.stride, op.padding)
            made = TensorType((x.shape[0], *size), x.range, x.kind)
            return _refined(made, op, x)
        case ops.Delay(steps=steps):
            _need(steps > 0, f"a delay of {steps} steps")
            return x
        case ops.Staircase(thresholds=thresholds):
            levels = thresholds.shape[0] if thresholds.shape else 0
            _need(levels > 0, "a staircase without a threshold")
            _check_broadcast("thresholds", thresholds.shape[1:], x)
            kind = Kind.SPIKES if levels == 1 else Kind.COUNTS
            return TensorType(x.shape, IntRange(0, levels), kind)
        case ops.Relu():
            made = TensorType(x.shape, IntRange(max(0, x.range.lo), max(0, x.range.hi)), x.kind)
            return _refined(made, op, x)
        case _:
            assert_never(op)


def _of_two(
    op: ops.SpikeMatmul | ops.Gate | ops.ShiftSum | ops.Add | ops.Concat,
    a: TensorType,
    b: TensorType,
) -> TensorType:
    """Of an op of two operands."""
    spikes = a.kind is b.kind is Kind.SPIKES
    match op:
        case ops.SpikeMatmul():
            shape = _chained(a, b)
            return TensorType(shape, _product(a, b).times(a.shape[-1]), _summed(a, b))
        case ops.ShiftSum():
            return _shift_summed(op, a, b)
        case ops.Gate():
            _need(a.shape == b.shape, f"shapes differ: {a}, {b}")
            kind = Kind.SPIKES if spikes else _summed(a, b)
            made = TensorType(a.shape, _product(a, b), kind)
            return _refined(made, op, a, b)
        case ops.Add():
            _need(a.shape == b.shape, f"shapes differ: {a}, {b}")
            made = TensorType(a.shape, a.range + b.range, _summed(a, b))
            return _refined(made, op, a, b)
        case ops.Concat(axis=axis):
            _need(0 <= axis < len(a.shape) == len(b.shape), f"no axis {axis} in {a}, {b}")
            others = [(*t.shape[:axis], *t.shape[axis + 1 :]) for t in (a, b)]
            _need(others[0] == others[1], f"shapes differ outside axis {axis}: {a}, {b}")
            shape = (*a.shape[:axis], a.shape[axis] + b.shape[axis], *a.shape[axis + 1 :])
            kind = Kind.SPIKES if spikes else _summed(a, b)
            return _refined(TensorType(shape, a.range | b.range, kind), op, a, b)
        case _:
            assert_never(op)


def _wired(op: ops.Wiring, x: TensorType) -> TensorType:
    """Of the same elements elsewhere: only the shape changes."""
    match op:
        case ops.Reshape(shape=shape):
            same = min(shape, default=1) > 0 and math.prod(shape) == math.prod(x.shape)
            _need(same, f"{x} has not the elements of {shape}")
        case ops.Permute(axes=axes):
            _need(sorted(axes) == list(range(len(x.shape))), f"{axes} does not permute {x}")
            shape = tuple(x.shape[a] for a in axes)
        case ops.Expand(shape=shape):
            fits = len(shape) == len(x.shape)
            fits = fits and all(m > 0 and n in (1, m) for n, m in zip(x.shape, shape, strict=True))
            _need(fits, f"{x} does not expand to {shape}")
        case ops.Slice(axis=axis, start=start, stop=stop):
            inside = 0 <= axis < len(x.shape) and 0 <= start < stop <= x.shape[axis]
            _need(inside, f"no elements {start}..{stop} on axis {axis} of {x}")
            shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
        case _:
            assert_never(op)
    return _refined(TensorType(shape, x.range, x.kind), op, x)


def _stateful(op: ops.Stateful, x: TensorType, T: int) -> TensorType:
    """Of an op that remembers earlier steps: what can be reached in `T` of them."""
    match op:
        case ops.Neuron():
            _check_neuron(op, x, T)
            return TensorType(x.shape, TERNARY if op.ternary else BINARY, Kind.SPIKES)
        case ops.GeneralNeuron():
            _check_general(op, x, T)
            events = IntRange(0, op.threshold.shape[1])
            return TensorType(x.shape, events, Kind.SPIKES if events == BINARY else Kind.COUNTS)
        case ops.Membrane(neuron=neuron):
            _check_neuron(neuron, x, T)
            proven = neuron_bounds("", neuron, x, T)
            return TensorType(x.shape, proven.after if op.after_reset else proven.v, Kind.GRADED)
        case ops.Readout():
            made = TensorType(x.shape, x.range | x.range.times(T), _summed(x))
            if x.channels is None or made.range.magnitude >> 62:
                return made
            return _narrowed(made, x.channels | x.channels.times(T))
        case _:
            assert_never(op)


def _shift_summed(op: ops.ShiftSum, scores: TensorType, values: TensorType) -> TensorType:
    shape, window, reach = _chained(scores, values), op.window, op.reach
    ordered = 0 <= reach <= window <= 53
    _need(ordered, f"0 <= reach <= window <= 53 is not so of {reach}, {window}")
    few = scores.shape[-1] << window <= 1 << 53
    _need(few, f"{scores.shape[-1]} powers of two over a window of {window} leave 53 bits")
    wide = values.range.magnitude << reach < 1 << 63
    _need(wide, f"sums of {values}, {reach} bits to the left, leave 64 bits")
    _need(scores.range.magnitude < 1 << 62, f"differences of {scores} leave 64 bits")
    # A row's weights sum to at most 1: no sum lies beyond the values, or 0.
    return TensorType(shape, values.range | IntRange(0, 0), Kind.GRADED)


def _refined(made: TensorType, op: Carrying, *operands: TensorType) -> TensorType:
    """The type with the ranges of single elements, if some are known of an operand."""
    if all(x.channels is None for x in operands) or made.range.magnitude >> 62:
        return made
    return _narrowed(made, carried(op, [x.shape for x in operands], [*map(apart, operands)]))


def _narrowed(made: TensorType, channels: ChannelRanges) -> TensorType:
    told = channels if channels.lo.size > 1 else None
    return replace(made, range=channels.whole, channels=told)


def _accumulated(op: ops.Weighted, x: TensorType, shape: tuple[int, ...]) -> TensorType:
    """One-sided sums of the actual weights, times the range of the input."""
    if x.kind is Kind.GRADED and not op.graded:
        raise ValueError(f"input must be spikes or counts, got {x}; mark the layer graded")
    rows, fan_in = op.weight.shape[0], math.prod(op.weight.shape[1:])
    fits = op.bias.shape == (rows,)
    _need(fits, f"bias {op.bias.shape} does not fit weight {op.weight.shape}")
    _need(op.weight.range.magnitude * fan_in < 1 << 63, "sums of weights leave 64 bits")
    bias = along_channels(op, op.bias.array, len(shape))
    each = weighted(op, x.range, len(shape)) + ChannelRanges(bias, bias)
    made = TensorType(shape, each.whole, Kind.GRADED)  # leaves no 64 bits, or is refused
    return _narrowed(made, ChannelRanges(each.lo.astype(np.int64), each.hi.astype(np.int64)))


def _chained(a: TensorType, b: TensorType) -> tuple[int, ...]:
    """Shape of a matrix product."""
    fits = len(a.shape) == len(b.shape) >= 2 and a.shape[:-2] == b.shape[:-2]
    _need(fits and a.shape[-1] == b.shape[-2], f"shapes do not chain: {a} x {b}")
    return (*a.shape[:-1], b.shape[-1])


def gates(x: TensorType) -> bool:
    """Whether a product with `x` is a sum: spikes, or counts of few events."""
    few = x.kind is Kind.COUNTS and x.range.hi <= ops.MOST_EVENTS
    return x.kind is Kind.SPIKES or few


def _product(a: TensorType, b: TensorType) -> IntRange:
    if not gates(a) and not gates(b):
        raise ValueError(
            f"one operand must be spikes, or counts of at most {ops.MOST_EVENTS}: {a}, {b}"
        )
    return a.range * b.range


def _summed(*types: TensorType) -> Kind:
    """A sum or a gated sum of spikes and counts is a count, unless it can be negative."""
    countable = all(t.kind is not Kind.GRADED and t.range.lo >= 0 for t in types)
    return Kind.COUNTS if countable else Kind.GRADED


def _windows(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> tuple[int, ...]:
    legal = min(kernel) > 0 and min(stride) > 0 and min(padding) >= 0
    _need(legal, f"kernel {kernel}, stride {stride} or padding {padding} makes no sense")
    sizes = zip(shape[1:], kernel, stride, padding, strict=True)
    size = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
    _need(min(size) > 0, f"kernel {kernel} is larger than the padded map {shape}")
    return size


def _check_neuron(op: ops.Neuron, x: TensorType, T: int) -> None:
    for name, tensor in (("threshold", op.threshold), ("bias", op.bias)):
        _check_broadcast(name, tensor.shape, x)
    _need(op.threshold.range.lo > 0, "a threshold must be positive")
    _need(0 <= op.dv <= 4096 and 0 <= op.du <= 4096, f"decays {op.dv}, {op.du} leave 0..4096")
    _need(-32 <= op.fraction_bits <= 32, f"fraction_bits {op.fraction_bits} leave -32..32")
    _need(op.reset_by >= 0, "reset_by must not be negative")
    # What one step adds, for as many steps as are not forgotten; a decay multiplies by 4096.
    u = x.range.shifted(op.fraction_bits).magnitude * _steps_kept(op.du, T)
    v = (u + op.bias.range.magnitude) * _steps_kept(op.dv, T)
    if v >= op.threshold.range.lo:  # it can fire
        v += op.reset_by * _steps_kept(op.dv, T)
    if v > STATE.largest:  # nearer, and slower, only where it matters
        proven = neuron_bounds("", op, x, T)
        v = (proven.u | proven.v | proven.after).magnitude
    grows = f"its state can grow to {STATE.needed(IntRange(-v, v))} bits"
    _need(v <= STATE.largest, f"{grows}; 64-bit arithmetic takes {STATE.bits}: take fewer bits")


def _check_general(op: ops.GeneralNeuron, x: TensorType, T: int) -> None:
    leading = {"taps": 2, "threshold": 2, "dv": 1, "du": 1, "bias": 1, "reset_by": 1}
    for name, axes in leading.items():
        shape = getattr(op, name).shape
        fits = len(shape) > axes and shape[0] in (1, T) and min(shape) > 0
        _need(fits, f"{name} {shape} has no axis of 1 or {T} steps in front")
        _check_broadcast(name, shape[axes:], x)
    _need(op.taps.shape[1] <= T, f"{op.taps.shape[1]} taps in {T} steps")
    _need(op.threshold.shape[1] <= 255, f"{op.threshold.shape[1]} levels; at most 255")
    decays = op.dv.range | op.du.range
    _need(decays.lo >= 0 and decays.hi <= 4096, f"decays {decays.lo}..{decays.hi} leave 0..4096")
    _need(0 <= op.shift <= 32, f"shift {op.shift} leaves 0..32")
    _need(-32 <= op.fraction_bits <= 32, f"fraction_bits {op.fraction_bits} leave -32..32")
    _need(op.reset_by.range.lo >= 0, "reset_by must not be negative")
    _need(op.floor <= 0, f"a floor of {op.floor} lies above a membrane at rest")
    _need(op.floored or not op.floor, f"a floor of {op.floor} of a neuron that has none")
    most = max(driven_range(op, x.range, t).magnitude for t in range(T))
    _need(most < 1 << 62, "sums of weighted inputs leave 64 bits")
    proven = neuron_bounds("", op, x, T)
    v = (proven.u | proven.v | proven.after).magnitude
    grows = f"its state can grow to {STATE.needed(IntRange(-v, v))} bits"
    _need(v <= STATE.largest, f"{grows}; 64-bit arithmetic takes {STATE.bits}: take fewer bits")


def _check_broadcast(name: str, shape: tuple[int, ...], x: TensorType) -> None:
    sizes = zip(shape[::-1], x.shape[::-1] or (1,), strict=False)
    fits = len(shape) <= max(1, len(x.shape)) and all(n in (1, m) for n, m in sizes)
    _need(fits, f"{name} {shape} does not broadcast to {x.shape}")


def _steps_kept(d: int, T: int) -> int:
    """Bound of 1 + (1 - d) + (1 - d)**2 + ... over `T` steps, d in 1/4096."""
    return T if d == 0 else min(T, -(-4096 // d))


def _take(count: int, inputs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    _need(len(inputs) == count, f"takes {count} inputs, got {len(inputs)}")
    return inputs


def _need(condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(rule)
