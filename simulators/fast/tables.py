"""Weights in the order in which kernels read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lapilli.ir import ops
from lapilli.ir.types import TensorType
from lapilli.simulators.fast.choice import zero_point
from lapilli.simulators.fast.sizes import BLOCK, LANES, padded

Array = npt.NDArray[Any]


def of_events(op: ops.Weighted, x: TensorType) -> tuple[Array, Array]:
    """A row of weights for each event, in panels (see `kernels.adding.add_rows`), and the bias.

    Inputs that can be negative have a second row, negated, behind all first ones.
    """
    matrix = _matrix(op)
    signed = [matrix] if x.range.lo >= 0 else [matrix, -matrix]
    table = np.zeros((len(matrix) * len(signed), padded(matrix.shape[1])), np.int8)
    table[:, : matrix.shape[1]] = np.concatenate(signed)
    return _in_panels(table), _wide(op.bias.array)


def of_products(op: ops.Weighted, x: TensorType) -> tuple[Array, Array]:
    """Weights int8 (width / BLOCK, quads, BLOCK * 4), four inputs of an output side by side.

    The bias makes up for what is added to inputs so that none is negative.
    """
    matrix = _matrix(op)
    quads, width = -(-len(matrix) // 4), padded(matrix.shape[1])
    whole = np.zeros((quads * 4, width), np.int8)
    whole[: len(matrix), : matrix.shape[1]] = matrix
    blocks = whole.reshape(quads, 4, width // BLOCK, BLOCK).transpose(2, 0, 3, 1)
    packed = np.ascontiguousarray(blocks).reshape(-1, quads, 4 * BLOCK)
    return packed, _wide(op.bias.array - zero_point(x.range) * matrix.sum(axis=0))


def _matrix(op: ops.Weighted) -> Array:
    """Weights (inputs, outputs); inputs are kernel row, kernel column, channel."""
    w = op.weight.array
    ordered = w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T
    return np.asarray(ordered.reshape(-1, w.shape[0]))


def _wide(bias: Array) -> Array:
    row = np.zeros(padded(len(bias)), np.int32)
    row[: len(bias)] = bias
    return row


def _in_panels(table: Array) -> Array:
    """Pairs of weights that are added as one word; the first of a pair is offset by 128."""
    panels = []
    for start in range(0, table.shape[1], 2 * LANES):
        panel = table[:, start : start + 2 * LANES]
        pairs = panel.reshape(len(table), 2, -1).transpose(0, 2, 1).copy()
        pairs[..., 0] ^= np.int8(-128)
        panels.append(pairs.reshape(len(table), -1))
    return np.concatenate(panels, axis=1)
