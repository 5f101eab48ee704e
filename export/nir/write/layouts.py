"""Layouts in which two values can meet: a shape of NIR's, and where in it each element lies.

Weights that are the same at each pixel cost channels times channels, and nothing for the size
of the map. So what a product repeats over its rows should be repeated in channels, or be the
pixels of a map.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lapilli.export.nir.write.placement import Placed
from lapilli.ir.tensor import IntArray

Layout = tuple[tuple[int, ...], IntArray]


def existing_layouts(a: Placed, b: Placed) -> Iterator[Layout]:
    """Where one of them lies, the pairs of their channels, one row of all elements."""
    count, maps = a.positions.size, len(a.shape) == len(b.shape) == 3
    for p in (a, b):
        if len(np.unique(p.positions)) == count and len(p.shape) == (3 if maps else 1):
            yield p.shape, p.positions
    if maps and a.shape[1:] == b.shape[1:]:
        size = a.shape[1] * a.shape[2]
        (one, pixel), (other, at) = np.divmod(a.positions, size), np.divmod(b.positions, size)
        if np.array_equal(pixel, at):
            pairs, which = np.unique(one * b.shape[0] + other, return_inverse=True)
            yield (len(pairs), *a.shape[1:]), which.reshape(pixel.shape) * size + pixel
    yield (count, 1, 1) if maps else (count,), np.arange(count).reshape(a.positions.shape)


def new_layouts(a: Placed, b: Placed) -> Iterator[Layout]:
    """Maps whose pixels are those of one of them, or one or two axes of the value; of maps."""
    if not len(a.shape) == len(b.shape) == 3:
        return
    sizes = a.positions.shape
    for p in (a, b):
        pixel = p.positions % (p.shape[1] * p.shape[2])
        axes = [i for i, n in enumerate(sizes) if n > 1 and (np.diff(pixel, axis=i) != 0).any()]
        rows = np.moveaxis(pixel, axes, range(len(axes))).reshape(
            math.prod(sizes[i] for i in axes), -1
        )
        if len(np.unique(rows[:, 0])) == len(rows):
            yield _channelled(sizes, axes, pixel, p.shape[1:])
    for i in range(len(sizes) - 1):
        for axes in ([i], [i, i + 1]):
            size = [sizes[j] for j in axes]
            if (axes[-1] == len(sizes) - 1 and len(sizes) > 2) or math.prod(size) == 1:
                continue  # synapses of the last axis come next: it must be channels
            steps = np.arange(math.prod(size)).reshape(
                [n if j in axes else 1 for j, n in enumerate(sizes)]
            )
            yield _channelled(sizes, axes, np.broadcast_to(steps, sizes), (*size, 1)[:2])


def _channelled(
    sizes: tuple[int, ...], axes: list[int], pixel: IntArray, size: tuple[int, ...]
) -> Layout:
    """Elements at these pixels, which `axes` decide; each of the others has its own channel."""
    others = [1 if i in axes else n for i, n in enumerate(sizes)]
    channel = np.arange(math.prod(others)).reshape(others)
    return (channel.size, *size), channel * math.prod(size) + pixel


def concatenated(a: Placed, b: Placed) -> tuple[tuple[int, ...], tuple[IntArray, IntArray]]:
    """A tensor with room for both, and their homes: channels behind channels, or in a row."""
    maps = len(a.shape) == len(b.shape) == 3
    if maps and a.shape[1:] == b.shape[1:]:
        size = a.shape[1] * a.shape[2]
        homes, channels = [], 0
        for p in (a, b):
            used, which = np.unique(p.positions // size, return_inverse=True)
            homes.append((channels + which.reshape(p.positions.shape)) * size + p.positions % size)
            channels += len(used)
        return (channels, *a.shape[1:]), (homes[0], homes[1])
    count = a.positions.size + b.positions.size
    rows = np.arange(count)
    one, other = rows[: a.positions.size], rows[a.positions.size :]
    tensor = (count, 1, 1) if maps else (count,)
    return tensor, (one.reshape(a.positions.shape), other.reshape(b.positions.shape))


def cropped(home: IntArray, shape: tuple[int, ...], made: tuple[int, ...]) -> IntArray:
    """Positions in a tensor that has lines more at the ends of its map."""
    if made == shape:
        return home
    rows = np.arange(math.prod(made)).reshape(made)
    kept: IntArray = rows[:, : shape[1], : shape[2]].ravel()[home]
    return kept
