"""Any linear map between NIR's tensors, written as weights: what wiring costs where NIR has none.

NIR cannot permute, repeat or join. Where elements do not lie as a node needs them, they are
moved by weights of 0 and 1: at each pixel alone where pixels stay, else through a kernel as
large as the map. A map (C, H, W) becomes N values (N, 1, 1) and these a map again, always by
convolutions of square kernels; a vector only ever becomes a vector.

Shape letters: C channels, H x W map, N elements. Positions count in row-major order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapilli.export import nir_nodes
from lapilli.export.nir_layout import Placed, RefusedError
from lapilli.ir.tensor import IntArray

MOST_WEIGHTS = 1 << 26  # of one node; NIR has no sparse weights

Stage = tuple[Any, tuple[int, ...]]  # a NIR node, and the shape that it gives


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Entries of a matrix, which add up where they meet: all three of one shape (entries,)."""

    rows: IntArray
    columns: IntArray
    values: IntArray

    @classmethod
    def of_moves(cls, targets: IntArray, sources: IntArray) -> Weights:
        """A weight of 1 from each source to its target."""
        return cls(targets.ravel(), sources.ravel(), np.ones(targets.size, np.int64))


def onto_elements(weights: Weights, bias: IntArray, shape: tuple[int, ...]) -> list[Stage]:
    """The map from a tensor of this shape to len(bias) elements: (N, 1, 1), or (N,).

    Raises:
        RefusedError: the matrix is too large.
    """
    count = len(bias)
    if len(shape) != 3:
        size = math.prod(shape)
        _need_few(count * size)
        matrix = _matrix(weights, count, size)
        row: list[Stage] = [] if len(shape) == 1 else [(nir_nodes.flatten(shape), (size,))]
        return [*row, (nir_nodes.affine(matrix, bias), (count,))]
    C, H, W = shape
    side = max(H, W)
    _need_few(count * C * side * side)
    ph, pw = -(-(side - H) // 2), -(-(side - W) // 2)
    channel, pixel = np.divmod(weights.columns, H * W)
    y, x = np.divmod(pixel, W)
    columns = (channel * side + y + ph) * side + x + pw
    matrix = _matrix(Weights(weights.rows, columns, weights.values), count, C * side * side)
    kernel = matrix.reshape(count, C, side, side)
    # One window in all: where the padded map is larger than the kernel, the next is out of reach.
    node = nir_nodes.conv2d(kernel, bias, (H, W), (side + 1, side + 1), (ph, pw))
    return [(node, (count, 1, 1))]


def onto_map(weights: Weights, count: int, shape: tuple[int, int, int]) -> Stage:
    """The map from (count, 1, 1) to a tensor (C, H, W): each pixel sees another kernel element.

    Where H + W is odd, the shorter side gets a line of zeros at its end: NIR checks square
    kernels only, and pads the same on both sides.

    Raises:
        RefusedError: the matrix is too large.
    """
    C, H, W = shape
    side = max(H, W)
    _need_few(C * count * side * side)
    ph, pw = -(-(H + side) // 2) - 1, -(-(W + side) // 2) - 1
    channel, pixel = np.divmod(weights.rows, H * W)
    y, x = np.divmod(pixel, W)
    columns = (weights.columns * side + ph - y) * side + pw - x
    matrix = _matrix(Weights(channel, columns, weights.values), C, count * side * side)
    kernel = matrix.reshape(C, count, side, side)
    none = np.zeros(C, np.int64)
    made = (C, 2 * ph + 2 - side, 2 * pw + 2 - side)
    return nir_nodes.conv2d(kernel, none, (1, 1), padding=(ph, pw)), made


def moved(x: Placed, shape: tuple[int, ...], home: IntArray) -> list[Stage]:
    """Bring each element to its `home` in a tensor of this shape; the rest of it is 0.

    The tensor that the last stage gives may have zeros more at the end of a side of its map.

    Raises:
        RefusedError: a vector cannot become a map, or a matrix is too large.
    """
    if len(shape) == 3 and len(x.shape) != 3:
        raise RefusedError(f"moves elements of a tensor {list(x.shape)} to a map {list(shape)}")
    none = np.zeros(math.prod(shape), np.int64)
    if len(shape) != 3 or shape[1:] == (1, 1):
        return onto_elements(Weights.of_moves(home, x.home), none, x.shape)
    to = (shape[0], shape[1], shape[2])
    if (weight := _pixelwise(x, to, home)) is not None:
        return [(nir_nodes.pointwise(weight, np.zeros(len(weight), np.int64), shape[1:]), shape)]
    if x.shape[1:] == (1, 1):
        return [onto_map(Weights.of_moves(home, x.home), x.shape[0], to)]
    row = np.arange(home.size)
    first = onto_elements(Weights.of_moves(row, x.home), row * 0, x.shape)
    return [*first, onto_map(Weights.of_moves(home, row), home.size, to)]


def _pixelwise(x: Placed, shape: tuple[int, int, int], home: IntArray) -> IntArray | None:
    """Weights (C, C of x) that do the same at each pixel; None if no such do."""
    if x.shape[1:] != shape[1:]:
        return None
    size = shape[1] * shape[2]
    (target, at), (source, pixel) = np.divmod(home, size), np.divmod(x.home, size)
    if not np.array_equal(at, pixel):
        return None
    weight = np.zeros((shape[0], x.shape[0]), np.int64)
    weight[target.ravel(), source.ravel()] = 1
    return weight if weight.sum(axis=1).max() == 1 else None


def _matrix(weights: Weights, rows: int, columns: int) -> IntArray:
    matrix = np.zeros((rows, columns), np.int64)
    np.add.at(matrix, (weights.rows, weights.columns), weights.values)
    return matrix


def _need_few(count: int) -> None:
    if count > MOST_WEIGHTS:
        raise RefusedError(
            f"moves elements by {count:,} weights; at most {MOST_WEIGHTS:,} are written"
        )
