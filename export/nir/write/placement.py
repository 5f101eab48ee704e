"""Where the values of a graph live in NIR, which cannot reshape, permute or repeat.

NIR's tensors keep the shape that their node gives them. Wiring therefore emits nothing: it
only changes the book-keeping of which element of a tensor is which element of our value.
Neurons and sums work element by element, so they do not mind; the other nodes ask here
whether the elements lie as NIR's node needs them.

Shape letters: C channels, H x W map. Positions count in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lapilli.ir import ops
from lapilli.ir.semantics import wire
from lapilli.ir.tensor import IntArray


class NotRepresentableError(Exception):
    """Internal: one reason why NIR cannot say a node, before the node is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where a value lives.

    Attributes:
        sources: NIR nodes; the sum of their outputs is the physical tensor.
        shape: of that tensor, and of each term.
        positions: of the value's own shape: the position in that tensor of each element.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    positions: IntArray

    @classmethod
    def whole(cls, source: str, shape: tuple[int, ...]) -> Placed:
        """The output of one NIR node, element by element."""
        return cls((source,), shape, np.arange(math.prod(shape)).reshape(shape))

    @property
    def is_plain(self) -> bool:
        """Whether the value is its tensor, in shape and order."""
        plain = np.arange(math.prod(self.shape)).reshape(self.shape)
        return np.array_equal(self.positions, plain)

    def wired(self, op: ops.Wiring | ops.Delay) -> Placed:
        """The value after wiring; its tensor stays."""
        return replace(self, positions=wire(op, self.positions[None])[0])


def pooled(x: Placed, axes: tuple[int, ...]) -> IntArray:
    """Positions, after a pool over the whole map, of the sums over `axes`.

    Returns:
        The positions of the result in a tensor (C, 1, 1): a channel for each element.

    Raises:
        NotRepresentableError: some sum is not over exactly one channel's map.
    """
    if len(x.shape) != 3:
        raise NotRepresentableError(
            f"a sum over axes {axes} of a tensor {list(x.shape)}; it must be a map"
        )
    size = x.shape[1] * x.shape[2]
    last = tuple(range(-len(axes), 0))
    rows = np.moveaxis(x.positions, axes, last)
    outer = rows.shape[: rows.ndim - len(axes)]
    rows = np.sort(rows.reshape(*outer, -1), axis=-1)
    channel = np.asarray(rows[..., 0] // size, np.int64)
    if not np.array_equal(rows, channel[..., None] * size + np.arange(size)):
        raise NotRepresentableError("a sum that is not over exactly the map of one channel")
    return channel


def columns(x: Placed, axes: tuple[int, ...]) -> tuple[tuple[int, int], IntArray]:
    """Read sums over `axes` as pools over one side of the map.

    Returns:
        The window, and the positions of the result, whose map has one line.

    Raises:
        NotRepresentableError: some sum is not over exactly one side of one channel's map.
    """
    if len(x.shape) == 3:
        _, H, W = x.shape
        rows = np.moveaxis(x.positions, axes, range(-len(axes), 0))
        rows = np.sort(rows.reshape(*rows.shape[: rows.ndim - len(axes)], -1), axis=-1)
        channel, pixel = np.divmod(rows[..., 0], H * W)
        if np.array_equal(rows, rows[..., :1] + W * np.arange(H)) and (pixel < W).all():
            return (H, 1), channel * W + pixel
        if np.array_equal(rows, rows[..., :1] + np.arange(W)) and (pixel % W == 0).all():
            return (1, W), channel * H + pixel // W
    raise NotRepresentableError("a sum that is not over exactly one side of a map")


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A value (..., in) whose features are channels of a map, at the token's pixel.

    Attributes:
        groups: (groups, in), the channels; tokens at one pixel lie in different ones.
        group, pixel: (...), of each token.
    """

    groups: IntArray
    group: IntArray
    pixel: IntArray


def tokens(x: Placed) -> Tokens:
    """Read (..., in) as tokens on a map.

    Raises:
        NotRepresentableError: the features of a token are not at one pixel.
    """
    if len(x.shape) != 3:
        raise NotRepresentableError(
            f"one weight for each token of a tensor {list(x.shape)}; tokens must "
            "lie on a map (C, H, W)"
        )
    channel, pixel = np.divmod(x.positions, x.shape[1] * x.shape[2])
    if not np.array_equal(pixel, np.broadcast_to(pixel[..., :1], pixel.shape)):
        raise NotRepresentableError("its features are not the channels of a map")
    rows = channel.reshape(-1, channel.shape[-1])
    groups, group = np.unique(rows, axis=0, return_inverse=True)
    return Tokens(groups, group.reshape(channel.shape[:-1]), pixel[..., 0])


def spreads(x: Placed, over: Placed) -> bool:
    """Whether x, on (C, 1, 1), repeats over the map on which the other value lies."""
    if len(over.shape) != 3 or over.shape == x.shape or x.shape != (over.shape[0], 1, 1):
        return False
    return np.array_equal(x.positions, over.positions // (over.shape[1] * over.shape[2]))


def describe(x: Placed) -> dict[str, Any]:
    """The layout for a file: strides where wiring left them regular, else every position."""
    shape, home = x.positions.shape, x.positions
    offset = int(home.ravel()[0])
    strides = [int(np.take(home, min(1, n - 1), axis=i).ravel()[0]) - offset
               for i, n in enumerate(shape)]  # fmt: skip
    layout = {"shape": list(shape), "offset": offset, "strides": strides}
    if np.array_equal(positions(layout), home):
        return layout
    return {"shape": list(shape), "positions": [int(p) for p in home.ravel()]}


def positions(layout: Mapping[str, Any]) -> IntArray:
    """The positions that `describe` wrote down."""
    shape = tuple(layout["shape"])
    if "positions" in layout:
        return np.array(layout["positions"], np.int64).reshape(shape)
    home = np.full(shape, layout["offset"], np.int64)
    for axis, stride in enumerate(layout["strides"]):
        steps = np.arange(shape[axis]) * stride
        home += steps.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return home
