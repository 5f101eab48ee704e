"""Any linear map between NIR's tensors, written as weights: what wiring costs where NIR has none.

NIR cannot permute, repeat or join. Where elements do not lie as a node needs them, they are
moved by weights of 0 and 1: at each pixel alone where pixels stay, else through a kernel as
large as the map. A map (C, H, W) becomes N values (N, 1, 1) and these a map again, always by
convolutions of square kernels; a vector only ever becomes a vector. Channels that are all alike
are moved once and repeated at the end, so that repeated values cost what they cost once; a large
move goes some channels at a time, in branches that add up.

Shape letters: C channels, H x W map, N elements. Positions count in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapilli.export import limits
from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.placement import NotRepresentableError, Placed
from lapilli.ir.tensor import IntArray

_CHEAP = 1 << 22  # weights for which a move is not split
_PARTS = (1, 4, 8, 16, 32)


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


Branches = list[list[Stage]]


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
        NotRepresentableError: the matrix is too large.
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
        NotRepresentableError: the matrix is too large.
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


def moved(x: Placed, shape: tuple[int, ...], home: IntArray) -> Branches:
    """Bring each element to its `home` in a tensor of this shape; the rest of it is 0.

    The tensor that the last stages give may have zeros more at the end of a side of its map.

    Returns:
        Branches from x, whose ends add up.

    Raises:
        NotRepresentableError: a vector cannot become a map, or a matrix is too large.
    """
    targets, first = np.unique(home, return_index=True)
    sources = x.positions.ravel()[first]  # elements that share a home are one
    if len(shape) != 3:
        none = np.zeros(math.prod(shape), np.int64)
        return [onto_elements(Weights.of_moves(targets, sources), none, x.shape)]
    if len(x.shape) != 3:
        raise NotRepresentableError(
            f"moves elements of a tensor {list(x.shape)} to a map {list(shape)}"
        )
    to = (shape[0], shape[1], shape[2])
    if (stage := _pixelwise(x.shape, sources, to, targets)) is not None:
        return [[stage]]
    content = np.full((to[0], to[1] * to[2]), -1)
    content.ravel()[targets] = sources
    alike, which = np.unique(content, axis=0, return_inverse=True)
    reason = NotRepresentableError("")
    found: Branches | None = None
    for parts in _PARTS:
        try:
            ways = _in_parts(x.shape, alike, to, which.ravel(), parts)
        except NotRepresentableError as refused:
            reason = refused
            continue
        if found is None or weights_of(ways) < weights_of(found):
            found = ways
        if weights_of(found) <= _CHEAP:
            break
    if found is None:
        raise reason
    return found


def weights_of(branches: Branches) -> int:
    """What a way costs."""
    return sum(stage.weights for stages in branches for stage in stages)


def _in_parts(
    given: tuple[int, ...],
    alike: IntArray,
    shape: tuple[int, int, int],
    which: IntArray,
    parts: int,
) -> Branches:
    """Some channels at a time, so that what one does not need is nowhere a weight of zero.

    Args:
        given: shape of the tensor that is there.
        alike: (channels, pixels), sources of the channels that differ; -1 where there is none.
        shape: of the tensor wanted.
        which: (C,), the one of them that each channel is.
        parts: at most so many branches.
    """
    branches, size = [], given[1] * given[2]
    for rows in np.array_split(np.arange(len(alike)), min(parts, len(alike))):
        content = alike[rows]
        there = np.flatnonzero(content.ravel() >= 0)
        if not len(there):
            continue
        sources, stages, tensor = content.ravel()[there], [], given
        used, channel = np.unique(sources // size, return_inverse=True)
        if len(used) < given[0] and parts > 1:
            stages.append(_chosen(np.arange(len(used)), used, len(used), given))
            sources, tensor = channel.ravel() * size + sources % size, stages[-1].shape
        part = (len(rows), shape[1], shape[2])
        stages += _between_maps(tensor, sources, part, there)
        column = np.searchsorted(rows, which).clip(max=len(rows) - 1)
        into = np.flatnonzero(rows[column] == which)
        if len(into) < shape[0] or len(rows) < shape[0] or (column != np.arange(shape[0])).any():
            stages.append(_chosen(into, column[into], shape[0], stages[-1].shape))
        branches.append(stages)
    return branches


def _between_maps(
    given: tuple[int, ...], sources: IntArray, shape: tuple[int, int, int], targets: IntArray
) -> list[Stage]:
    if (stage := _pixelwise(given, sources, shape, targets)) is not None:
        return [stage]
    if shape[1:] == (1, 1):
        weights = Weights.of_moves(targets, sources)
        return onto_elements(weights, np.zeros(shape[0], np.int64), given)
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
    return _chosen(target, source, shape[0], given)


def _chosen(target: IntArray, source: IntArray, count: int, given: tuple[int, ...]) -> Stage:
    """Channels of a tensor, each to its place among `count`; the others are 0."""
    need_few(count * given[0])

    def make() -> Any:
        weight = np.zeros((count, given[0]), np.int64)
        weight[target, source] = 1
        return nir_nodes.pointwise(weight, np.zeros(count, np.int64), given[1:])

    return Stage((count, *given[1:]), count * given[0], make)


def _matrix(weights: Weights, rows: int, columns: int) -> IntArray:
    matrix = np.zeros((rows, columns), np.int64)
    np.add.at(matrix, (weights.rows, weights.columns), weights.values)
    return matrix


def need_few(count: int) -> None:
    """Refuse a node of more weights than are written.

    Raises:
        NotRepresentableError: it is one.
    """
    if count > limits.MOST_WEIGHTS:
        raise NotRepresentableError(
            f"takes {count:,} weights in one node; at most {limits.MOST_WEIGHTS:,} are written"
        )
