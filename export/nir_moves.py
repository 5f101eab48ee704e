"""Any linear map between NIR's tensors, written as weights: what wiring costs where NIR has none.

NIR cannot permute, repeat or join. Where elements do not lie as a node needs them, they are
moved by weights of 0 and 1: at each pixel alone where pixels stay, else through a kernel as
large as the map. A map (C, H, W) becomes N values (N, 1, 1) and these a map again, always by
convolutions of square kernels; a vector only ever becomes a vector. Channels that are all alike
are moved once and repeated at the end, so that repeated values cost what they cost once.

Shape letters: C channels, H x W map, N elements. Positions count in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapilli.export import nir_nodes
from lapilli.export.nir_layout import Placed, RefusedError
from lapilli.ir.tensor import IntArray

MOST_WEIGHTS = 1 << 26  # of one node; NIR has no sparse weights


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A node on the way, made when it is taken.

    Attributes:
        shape: that it gives.
        weights: how many it has, which is what a way costs.
        make: the NIR node.
    """

    shape: tuple[int, ...]
    weights: int
    make: Callable[[], Any]


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
        need_few(count * size)
        row = [] if len(shape) == 1 else [Stage((size,), 0, lambda: nir_nodes.flatten(shape))]
        return [
            *row,
            Stage(
                (count,),
                count * size,
                lambda: nir_nodes.affine(_matrix(weights, count, size), bias),
            ),
        ]
    C, H, W = shape
    side = max(H, W)
    need_few(count * C * side * side)
    ph, pw = -(-(side - H) // 2), -(-(side - W) // 2)

    def make() -> Any:
        channel, pixel = np.divmod(weights.columns, H * W)
        y, x = np.divmod(pixel, W)
        columns = (channel * side + y + ph) * side + x + pw
        matrix = _matrix(Weights(weights.rows, columns, weights.values), count, C * side * side)
        kernel = matrix.reshape(count, C, side, side)
        # One window in all: where the padded map is larger, the next is out of reach.
        return nir_nodes.conv2d(kernel, bias, (H, W), (side + 1, side + 1), (ph, pw))

    return [Stage((count, 1, 1), count * C * side * side, make)]


def onto_map(weights: Weights, count: int, shape: tuple[int, int, int]) -> Stage:
    """The map from (count, 1, 1) to a tensor (C, H, W): each pixel sees another kernel element.

    Where H + W is odd, the shorter side gets a line of zeros at its end: NIR checks square
    kernels only, and pads the same on both sides.

    Raises:
        RefusedError: the matrix is too large.
    """
    C, H, W = shape
    side = max(H, W)
    need_few(C * count * side * side)
    ph, pw = -(-(H + side) // 2) - 1, -(-(W + side) // 2) - 1

    def make() -> Any:
        channel, pixel = np.divmod(weights.rows, H * W)
        y, x = np.divmod(pixel, W)
        columns = (weights.columns * side + ph - y) * side + pw - x
        matrix = _matrix(Weights(channel, columns, weights.values), C, count * side * side)
        kernel = matrix.reshape(C, count, side, side)
        return nir_nodes.conv2d(kernel, np.zeros(C, np.int64), (1, 1), padding=(ph, pw))

    made = (C, 2 * ph + 2 - side, 2 * pw + 2 - side)
    return Stage(made, C * count * side * side, make)


def moved(x: Placed, shape: tuple[int, ...], home: IntArray) -> list[Stage]:
    """Bring each element to its `home` in a tensor of this shape; the rest of it is 0.

    The tensor that the last stage gives may have zeros more at the end of a side of its map.

    Raises:
        RefusedError: a vector cannot become a map, or a matrix is too large.
    """
    targets, first = np.unique(home, return_index=True)
    sources = x.home.ravel()[first]  # elements that share a home are one
    if len(shape) != 3:
        none = np.zeros(math.prod(shape), np.int64)
        return onto_elements(Weights.of_moves(targets, sources), none, x.shape)
    if len(x.shape) != 3:
        raise RefusedError(f"moves elements of a tensor {list(x.shape)} to a map {list(shape)}")
    return _between_maps(x.shape, sources, (shape[0], shape[1], shape[2]), targets)


def _between_maps(
    given: tuple[int, ...], sources: IntArray, shape: tuple[int, int, int], targets: IntArray
) -> list[Stage]:
    if (stage := _pixelwise(given, sources, shape, targets)) is not None:
        return [stage]
    C, size = shape[0], shape[1] * shape[2]
    content = np.full((C, size), -1)
    content.ravel()[targets] = sources
    alike, which = np.unique(content, axis=0, return_inverse=True)
    if len(alike) < C:
        once = np.flatnonzero(alike.ravel() >= 0)
        stages = _between_maps(given, alike.ravel()[once], (len(alike), *shape[1:]), once)
        need_few(C * len(alike))
        repeat = np.zeros((C, len(alike)), np.int64)
        repeat[np.arange(C), which.ravel()] = 1
        return [*stages, _at_each_pixel(repeat, stages[-1].shape)]
    if shape[1:] == (1, 1):
        weights = Weights.of_moves(targets, sources)
        return onto_elements(weights, np.zeros(C, np.int64), given)
    if given[1:] == (1, 1):
        return [onto_map(Weights.of_moves(targets, sources), given[0], shape)]
    used, element = np.unique(sources, return_inverse=True)
    row = Weights.of_moves(np.arange(len(used)), used)
    first = onto_elements(row, np.zeros(len(used), np.int64), given)
    return [*first, onto_map(Weights.of_moves(targets, element.ravel()), len(used), shape)]


def _pixelwise(
    given: tuple[int, ...], sources: IntArray, shape: tuple[int, ...], targets: IntArray
) -> Stage | None:
    """What does the same at each pixel; None if nothing does."""
    if given[1:] != shape[1:]:
        return None
    size = shape[1] * shape[2]
    (target, at), (source, pixel) = np.divmod(targets, size), np.divmod(sources, size)
    if not np.array_equal(at, pixel):
        return None
    feeds = np.full(shape[0], -1)
    feeds[target] = source
    if not np.array_equal(feeds[target], source):
        return None
    need_few(shape[0] * given[0])
    weight = np.zeros((shape[0], given[0]), np.int64)
    weight[target, source] = 1
    return _at_each_pixel(weight, given)


def _at_each_pixel(weight: IntArray, given: tuple[int, ...]) -> Stage:
    none = np.zeros(len(weight), np.int64)
    return Stage(
        (len(weight), *given[1:]),
        weight.size,
        lambda: nir_nodes.pointwise(weight, none, given[1:]),
    )


def _matrix(weights: Weights, rows: int, columns: int) -> IntArray:
    matrix = np.zeros((rows, columns), np.int64)
    np.add.at(matrix, (weights.rows, weights.columns), weights.values)
    return matrix


def need_few(count: int) -> None:
    """Refuse a node of more weights than are written.

    Raises:
        RefusedError: it is one.
    """
    if count > MOST_WEIGHTS:
        raise RefusedError(
            f"moves elements by {count:,} weights; at most {MOST_WEIGHTS:,} are written"
        )
