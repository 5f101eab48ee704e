"""Windows of maps as rows of bytes: what a convolution multiplies, and a pool compares.

`Gather` with constant positions moves all channels of a pixel at once; then products are those
of a matrix, and onnxruntime's `MatMulInteger` of unsigned by signed bytes is the fastest it has.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lapilli.export.onnx.body import I32, Array, Body, limits
from lapilli.ir import ops
from lapilli.ir.graph import Node

# Where rows are faster on onnxruntime's CPU; measured with maps of 8 x 8 to 112 x 112
# (docs/onnx.md). Below, the channels of a pixel are too few bytes to move at once, and a sum is
# too short to pay for turning the map and the result.
CHANNELS, TERMS = 32, 256
POOLED_CHANNELS = 16


def convolves_faster(op: ops.Conv2d) -> bool:
    """Whether rows pay for a convolution."""
    _, channels, height, width = op.weight.shape
    return op.groups == 1 and channels >= CHANNELS and channels * height * width >= TERMS


def pools_faster(channels: int) -> bool:
    """Whether rows pay for a pool of bytes."""
    return channels >= POOLED_CHANNELS


def convolution_rows(body: Body, node: Node, op: ops.Conv2d) -> str:
    """What each place of a kernel meets, (batch, H' * W', height * width * channels)."""
    pixels = _pixels(body, node)
    if (op.weight.shape[2:], op.stride, op.padding) == ((1, 1), (1, 1), (0, 0)):
        return pixels
    _, channels, height, width = op.weight.shape
    windows = _windows(body, node, pixels, op, (height, width), 0)
    shape = body.ints(
        0, math.prod(body.graph.types[node.name].shape[1:]), channels * height * width
    )
    return body.emit("Reshape", [windows, shape], node.name)


def pool_of_bytes(body: Body, node: Node, op: ops.MaxPool2d) -> None:
    """Say a pool as the largest of each window; what lies around the map is the least."""
    carrier = body.carrier(node.name)
    windows = _windows(body, node, _pixels(body, node), op, op.kernel, limits(carrier).lo)
    largest = body.emit("ReduceMax", [windows, body.ints(2)], node.name, keepdims=0)
    map_of(body, node, largest, carrier)


def map_of(body: Body, node: Node, pixels: str, carrier: int) -> None:
    """Turn (batch, H' * W', channels) into the map (batch, channels, H', W') of a node."""
    turned = body.emit("Transpose", [pixels], node.name, perm=[0, 2, 1])
    shape = body.ints(0, *body.graph.types[node.name].shape)
    body.name(node.name, body.emit("Reshape", [turned, shape], node.name), carrier)


def _pixels(body: Body, node: Node) -> str:
    """The node's map, turned: (batch, H * W, channels)."""
    (source,) = node.inputs
    channels, height, width = body.graph.types[source].shape
    shape = body.ints(0, channels, height * width)
    flat = body.emit("Reshape", [body.value(source), shape], node.name)
    return body.emit("Transpose", [flat], node.name, perm=[0, 2, 1])


def _windows(
    body: Body,
    node: Node,
    pixels: str,
    op: ops.Conv2d | ops.MaxPool2d,
    kernel: tuple[int, int],
    around: int,
) -> str:
    """Windows of pixels, (batch, H' * W', places of the kernel, channels)."""
    (source,) = node.inputs
    _, height, width = body.graph.types[source].shape
    if any(op.padding):
        outside = body.scalar(around, body.carrier(source))
        pixels = body.emit("Pad", [pixels, body.ints(0, 0, 0, 0, 1, 0), outside], node.name)
    at = _positions(op, (height, width), kernel)
    places = body.table(f"windows_{height}x{width}", at, I32)
    return body.emit("Gather", [pixels, places], node.name, axis=1)


def _positions(
    op: ops.Conv2d | ops.MaxPool2d, size: tuple[int, int], kernel: tuple[int, int]
) -> Array:
    """Pixel, row by row, of each place in each window; outside the map, one beyond all."""
    (ph, pw), (sh, sw) = op.padding, op.stride
    inside = np.arange(size[0] * size[1]).reshape(size)
    pixels = np.pad(inside, ((ph, ph), (pw, pw)), constant_values=inside.size)
    windows = sliding_window_view(pixels, kernel)[::sh, ::sw]
    return windows.reshape(-1, kernel[0] * kernel[1])
