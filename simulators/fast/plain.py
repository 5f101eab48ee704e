"""Ops without weights: views, and NumPy in the type of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.semantics import evaluate, wire
from lapilli.ir.types import TensorType
from lapilli.simulators.fast.choice import Path, dtype_of

Array = npt.NDArray[Any]


def compute(op: ops.Stateless, args: tuple[Array, ...], y: TensorType) -> tuple[Array, Path]:
    """Value of a node from (T * B, *shape) operands, and what computed it.

    Sums and products are taken modulo the width of the result's type, which holds the result.
    """
    dtype = dtype_of(y.range)
    match op:
        case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() | ops.Delay():
            return wire(op, args[0]), Path.MOVED
        case ops.Add():
            return np.add(*args, dtype=dtype, casting="unsafe"), Path.NUMPY
        case ops.Gate():
            return np.multiply(*args, dtype=dtype, casting="unsafe"), Path.NUMPY
        case ops.Sum(axes=axes, keepdims=keep):
            total = args[0].sum(axis=tuple(a + 1 for a in axes), keepdims=keep, dtype=dtype)
            return np.asarray(total), Path.NUMPY
        case ops.Relu():
            return np.maximum(args[0], 0).astype(dtype), Path.NUMPY
        case ops.Concat(axis=axis):
            joined = np.concatenate([a.astype(dtype, copy=False) for a in args], axis=axis + 1)
            return joined, Path.NUMPY
        case ops.MaxPool2d():
            return max_pool(op, args[0], y.shape), Path.NUMPY
        case _:
            wide = tuple(a.astype(np.int64) for a in args)
            return evaluate(op, wide).astype(dtype), Path.DEFINITION


def max_pool(op: ops.MaxPool2d, x: Array, shape: tuple[int, ...]) -> Array:
    """Largest value of each window, one place of the kernel after the other; padding never wins."""
    _, H, W = shape
    (kh, kw), (sh, sw), (ph, pw) = op.kernel, op.stride, op.padding
    maps = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y = np.full((len(x), H, W, shape[0]), np.iinfo(x.dtype).min, x.dtype)
    for dy in range(kh):
        top, bottom = _seen(dy - ph, sh, maps.shape[1], H)
        for dx in range(kw):
            left, right = _seen(dx - pw, sw, maps.shape[2], W)
            if top < bottom and left < right:
                seen = maps[:, top * sh + dy - ph :: sh, left * sw + dx - pw :: sw]
                mine = y[:, top:bottom, left:right]
                np.maximum(mine, seen[:, : bottom - top, : right - left], out=mine)
    return np.asarray(y.transpose(0, 3, 1, 2))


def _seen(offset: int, stride: int, size: int, count: int) -> tuple[int, int]:
    """First output, and the one behind the last, for which o * stride + offset is in the map."""
    first = max(0, -(offset // stride))
    return first, min(count, (size - 1 - offset) // stride + 1)
