"""What `ir.semantics` defines, fast: synapses at BLAS speed, membranes in place.

Sums are matrix products in floats. That is exact, because no partial sum, in whatever order,
leaves the integers that the floats hold: the lowering proves it, and so picks float32,
float64, or the definition itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from lapilli.ir import ops
from lapilli.ir.semantics import State, evaluate, integrate
from lapilli.ir.tensor import IntArray

Kernel = Callable[..., IntArray]  # one operand or two, lanes in front, to the value
Messages = npt.NDArray[np.int32] | IntArray  # Lava carries 32 bits
Membranes = Callable[[Messages, IntArray, IntArray], IntArray]  # x, u, v in place: spikes
_FLOATS = ((24, np.float32), (53, np.float64))  # bits of the integers that they hold


def kernel(op: ops.Synaptic, largest: int) -> Kernel:
    """What computes `op`, of which no partial sum is larger than `largest`."""
    dtype = next((d for bits, d in _FLOATS if largest < 1 << bits), None)
    match op:
        case ops.Linear() if dtype:
            return _linear(op, dtype)
        case ops.Conv2d() if dtype and op.groups == 1:
            return _convolution(op, dtype)
        case ops.Conv2d() if op.weight.shape[:2] == (op.groups, 1):
            return _depthwise(op)
        case ops.SpikeMatmul() if dtype:
            return lambda a, b: _whole(a.astype(dtype) @ b.astype(dtype))
        case _:
            return lambda *operands: evaluate(op, tuple(x.astype(np.int64) for x in operands))


def _linear(op: ops.Linear, dtype: Any) -> Kernel:
    weight, bias = op.weight.array.T.astype(dtype), op.bias.array.astype(dtype)

    def run(x: IntArray) -> IntArray:
        y = x.astype(dtype).reshape(-1, x.shape[-1]) @ weight
        y += bias
        return _whole(y).reshape(*x.shape[:-1], -1)

    return run


def _convolution(op: ops.Conv2d, dtype: Any) -> Kernel:
    out = op.weight.shape[0]
    weight = op.weight.array.reshape(out, -1).astype(dtype)
    bias = op.bias.array.astype(dtype)[:, None]

    def run(x: IntArray) -> IntArray:
        view = _windows(x.astype(dtype), op)  # (B, C, H', W', kh, kw)
        B, _, H, W = view.shape[:4]
        sums = np.empty((B, out, H * W), np.int32)
        for lane, y in zip(view.transpose(0, 1, 4, 5, 2, 3), sums, strict=True):
            # One at a time: the columns of a map are many times the map.
            floats = weight @ lane.reshape(-1, H * W)
            floats += bias
            y[:] = floats
        return _whole(sums).reshape(B, out, H, W)

    return run


def _depthwise(op: ops.Conv2d) -> Kernel:
    weight, bias = op.weight.array[:, 0], op.bias.array[:, None, None]

    def run(x: IntArray) -> IntArray:
        view = _windows(x.astype(np.int64), op)
        y: IntArray = np.broadcast_to(bias, view.shape[:4]).copy()
        for i, j in np.ndindex(*weight.shape[1:]):
            y += weight[:, i, j, None, None] * view[..., i, j]
        return y

    return run


def _windows(x: Any, op: ops.Conv2d) -> Any:
    (ph, pw), (sh, sw) = op.padding, op.stride
    if ph or pw:
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    return sliding_window_view(x, op.weight.shape[2:], axis=(-2, -1))[:, :, ::sh, ::sw]


def _whole(y: Any) -> IntArray:
    """Floats that are integers, as the 32-bit integers that messages carry."""
    return y.astype(np.int32, copy=False)  # type: ignore[no-any-return]


def membranes(op: ops.Neuron) -> Membranes:
    """What integrates one step of `op` in place, and returns its spikes."""
    if (
        op.du == ops.DECAY_ONE
        and op.dv in _LEAKS
        and op.reset is ops.Reset.TO_ZERO
        and not op.ternary
    ):
        return _simple(op)

    def run(x: Messages, u: IntArray, v: IntArray) -> IntArray:
        fired = integrate(op, x.astype(np.int64), State(u, v))
        u[:], v[:] = fired.state.u, fired.state.v
        return fired.spikes

    return run


_LEAKS = (0, ops.DECAY_ONE // 2, ops.DECAY_ONE)


def _simple(op: ops.Neuron) -> Membranes:
    """No current that lasts, a leak of nothing, one half, or all; hard reset."""
    threshold, bias = op.threshold.array, op.bias.array

    def run(x: Messages, u: IntArray, v: IntArray) -> IntArray:
        if op.fraction_bits < 0:
            np.right_shift(x, -op.fraction_bits, out=u, dtype=u.dtype)
        else:
            np.left_shift(x, op.fraction_bits, out=u, dtype=u.dtype)
        if op.dv == ops.DECAY_ONE:
            v[:] = u
        else:
            if op.dv:
                v += v < 0  # a shift rounds down; the decay, toward zero
                v >>= 1
            v += u
        if bias.any():
            v += bias
        spikes = v >= threshold
        v *= ~spikes
        return spikes  # type: ignore[return-value]

    return run
