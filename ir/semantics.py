"""What every primitive computes, in int64 NumPy. This file is the definition of the ops.

A simulator is right iff it agrees with `evaluate` and `integrate`, value for value.
Arrays have a batch axis in front of the shapes that `ops` names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from typing_extensions import assert_never

from lapilli.ir import ops
from lapilli.ir.tensor import IntArray, IntTensor

_LOWEST = np.iinfo(np.int64).min
_ONE_PRODUCT = 1 << (63 - ops.DECAY_BITS)  # a state below it, times DECAY_ONE, has 63 bits


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Synaptic current and membrane of one neuron node, or the sum of a readout (in `v`).

    Attributes:
        past: earlier inputs of a general neuron, the latest first; those that are missing were 0.
        t: steps that are behind.
    """

    u: IntArray
    v: IntArray
    past: tuple[IntArray, ...] = ()
    t: int = 0

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> State:
        """The state in which every sample starts."""
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Fired:
    """One step of one neuron node: spikes, the membrane before its reset, the state after."""

    spikes: IntArray
    membrane: IntArray
    state: State


def decay(a: IntArray, d: int | IntArray) -> IntArray:
    """sign(a) * (|a| * (4096 - d) >> 12): truncation toward zero.

    >>> decay(np.array([-3, 3]), 2048).tolist()
    [-1, 1]
    """
    kept: IntArray = np.asarray(ops.DECAY_ONE - d, np.int64)
    size: IntArray = np.abs(a)
    if int(size.max(initial=0)) < _ONE_PRODUCT:
        size = size * kept >> ops.DECAY_BITS
    else:  # one product would wrap; those of the state's two parts do not, at any width
        high, low = size >> ops.DECAY_BITS, size & (ops.DECAY_ONE - 1)
        size = high * kept + (low * kept >> ops.DECAY_BITS)
    return np.asarray(np.sign(a) * size, np.int64)


def shifted(x: IntArray, bits: int) -> IntArray:
    """X << bits; to the right, and rounded down, where bits are negative.

    >>> shifted(np.array([-5, 5]), -2).tolist()
    [-2, 1]
    """
    return x << bits if bits >= 0 else x >> -bits


def integrate(op: ops.Integrating, x: IntArray, state: State) -> Fired:
    """One time step of a neuron, as its docstring says."""
    if isinstance(op, ops.GeneralNeuron):
        return _integrate_general(op, x, state)
    u = decay(state.u, op.du) + shifted(x, op.fraction_bits)
    v = decay(state.v, op.dv) + u + op.bias.array
    spikes = (v >= op.threshold.array).astype(np.int64)
    if op.ternary:
        spikes -= v <= -op.threshold.array
    return Fired(spikes, v, State(u, after_reset(op, v, spikes)))


def _integrate_general(op: ops.GeneralNeuron, x: IntArray, state: State) -> Fired:
    t, seen = state.t, (x, *state.past)[: op.taps.shape[1]]
    driven: IntArray = np.zeros_like(x)
    for tap, each in zip(at_step(op.taps, t), seen, strict=False):
        driven += tap * each
    u = decay(state.u, at_step(op.du, t)) + (driven >> op.shift)
    v = decay(state.v, at_step(op.dv, t)) + u + at_step(op.bias, t)
    if op.floored:
        v = np.maximum(v, op.floor)
    spikes = np.zeros_like(v)
    for level in at_step(op.threshold, t):
        spikes += v >= level
    match op.reset:
        case ops.Reset.TO_ZERO:
            left = np.where(spikes != 0, 0, v)
        case ops.Reset.BY_SUBTRACTION:
            left = v - spikes * at_step(op.reset_by, t)
        case ops.Reset.NONE:
            left = v
        case _:
            assert_never(op.reset)
    return Fired(spikes, v, State(u, left, seen[: op.taps.shape[1] - 1], t + 1))


def at_step(constant: IntTensor, t: int) -> IntArray:
    """What a constant of a general neuron is at step t: the axis of steps is 1 or T long."""
    each = constant.array
    value: IntArray = each[t if len(each) > 1 else 0]
    return value


def after_reset(op: ops.Neuron, v: IntArray, spikes: IntArray) -> IntArray:
    """What its spikes leave of a membrane."""
    match op.reset:
        case ops.Reset.TO_ZERO:
            return np.where(spikes != 0, 0, v)
        case ops.Reset.BY_SUBTRACTION:
            return v - spikes * op.reset_by
        case ops.Reset.NONE:
            return v
        case _:
            assert_never(op.reset)


def membrane(op: ops.Membrane, fired: Fired) -> IntArray:
    """Which of a step's two membranes is read."""
    return fired.state.v if op.after_reset else fired.membrane


def evaluate(op: ops.Stateless, inputs: tuple[IntArray, ...]) -> IntArray:
    """One time step of a node without state."""
    match op:
        case ops.Linear(weight=w, bias=b):
            return np.asarray(inputs[0] @ w.array.T + b.array)
        case ops.Conv2d():
            return _convolve(op, inputs[0])
        case ops.SpikeMatmul():
            return inputs[0] @ inputs[1]
        case ops.Gate():
            return inputs[0] * inputs[1]
        case ops.ShiftSum(reach=reach):
            total = _powers(op, inputs[0]) @ inputs[1]
            return np.asarray(np.sign(total) * (np.abs(total) >> reach), np.int64)
        case ops.Add():
            return inputs[0] + inputs[1]
        case ops.Sum(axes=axes, keepdims=keep):
            total = inputs[0].sum(axis=tuple(a + 1 for a in axes), keepdims=keep)
            return np.asarray(total, np.int64)
        case ops.MaxPool2d():
            return np.asarray(
                windows(inputs[0], op.kernel, op.stride, op.padding, _LOWEST).max(axis=(-1, -2)),
                np.int64,
            )
        case ops.Staircase(thresholds=thresholds):
            reached = [inputs[0] >= threshold for threshold in thresholds.array]
            return np.asarray(np.sum(reached, axis=0), np.int64)
        case ops.Relu():
            return np.maximum(inputs[0], 0)
        case ops.Concat(axis=axis):
            return np.concatenate(inputs, axis=axis + 1)
        case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
            return wire(op, inputs[0])
        case _:
            assert_never(op)


def wire(op: ops.Wiring | ops.Delay, x: IntArray) -> IntArray:
    """Move values; compute nothing. The one thing that simulators may share."""
    match op:
        case ops.Reshape(shape=shape):
            return x.reshape(len(x), *shape)
        case ops.Permute(axes=axes):
            return np.transpose(x, (0, *(a + 1 for a in axes)))
        case ops.Expand(shape=shape):
            return np.broadcast_to(x, (len(x), *shape))
        case ops.Slice(axis=axis, start=start, stop=stop):
            return x[(slice(None),) * (axis + 1) + (slice(start, stop),)]
        case ops.Delay():
            return x
        case _:
            assert_never(op)


def windows(
    x: IntArray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    fill: int = 0,
) -> IntArray:
    """View of all windows: (B, C, H, W) -> (B, C, H', W', kh, kw)."""
    (ph, pw), (sh, sw) = padding, stride
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    view: IntArray = sliding_window_view(x, kernel, axis=(-2, -1))
    return view[:, :, ::sh, ::sw]


def _powers(op: ops.ShiftSum, scores: IntArray) -> IntArray:
    """2**(reach - n) for each score, and 0 where n is beyond reach."""
    below = scores.max(axis=-1, keepdims=True) - scores
    kept = np.where(below <= op.window, op.window - below, 0)
    terms = np.where(below <= op.window, np.left_shift(1, kept), 0)
    total = terms.sum(axis=-1, keepdims=True)  # in 2**-window of the largest term
    # Bits of total - 1 say the smallest power of two that is not below it; 53 at most: exact.
    gamma = np.frexp(total - 1)[1].astype(np.int64) - op.window  # above the largest score
    n = gamma + below
    left = np.where(n <= op.reach, op.reach - n, 0)
    return np.where(n <= op.reach, np.left_shift(1, left), 0)


def _convolve(op: ops.Conv2d, x: IntArray) -> IntArray:
    view = windows(x, op.weight.shape[2:], op.stride, op.padding)  # type: ignore[arg-type]
    B, _, H, W = view.shape[:4]
    out = op.weight.shape[0] // op.groups
    fan_in = math.prod(op.weight.shape[1:])
    # (B, groups, H * W, fan-in) @ (groups, fan-in, out)
    patches = view.reshape(B, op.groups, -1, H, W, *op.weight.shape[2:])
    patches = patches.transpose(0, 1, 3, 4, 2, 5, 6).reshape(B, op.groups, H * W, fan_in)
    weight = op.weight.array.reshape(op.groups, out, fan_in).swapaxes(1, 2)
    y = (patches @ weight).swapaxes(2, 3).reshape(B, -1, H, W)
    return np.asarray(y + op.bias.array[:, None, None])
