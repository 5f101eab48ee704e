"""Layers in BLAS, in floats that hold every partial sum; or by the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.semantics import evaluate, windows
from lapilli.ir.types import TensorType
from lapilli.simulators.fast.choice import Path, dtype_of

Array = npt.NDArray[Any]


def layer(op: ops.Weighted, path: Path, given: Array, y: TensorType) -> Array:
    """Currents (T * B, *shape of y) of inputs (T * B, *shape)."""
    if path is Path.DEFINITION:
        return evaluate(op, (given.astype(np.int64),))
    real = np.float32 if path is Path.FLOAT32 else np.float64
    x: Array = given.astype(real)
    weight, bias = op.weight.array.astype(real), op.bias.array.astype(real)
    if isinstance(op, ops.Linear):
        return np.asarray((x @ weight.T + bias).astype(dtype_of(y.range)))
    currents = np.empty((len(x), *y.shape), dtype_of(y.range))
    kernel = op.weight.shape[2:4]
    for i in range(len(x)):
        view: Array = windows(x[i : i + 1], (kernel[0], kernel[1]), op.stride, op.padding)[0]
        H, W = view.shape[1:3]
        patches = view.reshape(op.groups, -1, H, W, *kernel).transpose(0, 1, 4, 5, 2, 3)
        sums = weight.reshape(op.groups, -1, weight[0].size) @ patches.reshape(op.groups, -1, H * W)
        currents[i] = sums.reshape(-1, H, W) + bias[:, None, None]
    return currents
