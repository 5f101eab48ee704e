"""Synapses and sums as NIR nodes, wherever their inputs live."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lapilli.export.nir.write import canonical as nir_nodes
from lapilli.export.nir.write.builder import NirBuilder
from lapilli.export.nir.write.joins import move
from lapilli.export.nir.write.multiword import stacked, words
from lapilli.export.nir.write.placement import (
    NotRepresentableError,
    Placed,
    columns,
    pooled,
    tokens,
)
from lapilli.export.nir.write.routing import Weights, need_few, onto_elements
from lapilli.ir import ops
from lapilli.ir.graph import Node
from lapilli.ir.partial_sums import weighted_in_any_order
from lapilli.ir.tensor import IntArray, IntTensor


def read_out(
    file: NirBuilder, node: Node, op: ops.Linear, x: Placed
) -> tuple[Placed, tuple[int, ...]]:
    """Weights whose results only the host reads, in as many words as the floats need.

    Returns:
        (words, ...), or one number as it is, and what a unit of each is worth.
    """
    heard = file.sums[node.inputs[0]]

    def fits(part: ops.Linear) -> bool:
        return weighted_in_any_order(part, heard, axes=1).whole.magnitude < file.dialect.EXACT

    parts = words(op, fits)
    if len(parts) == 1:
        return linear(file, node.name, op, x), (1,)
    y = linear(file, node.name, stacked(parts), x)
    rows = y.positions.reshape(*y.positions.shape[:-1], len(parts), len(op.bias.array))
    return replace(y, positions=np.moveaxis(rows, -2, 0)), tuple(unit for unit, _ in parts)


def linear(file: NirBuilder, name: str, op: ops.Linear, x: Placed) -> Placed:
    """Weights, dealt out to wherever their inputs live, so that order never matters."""
    w, bias = op.weight.array, op.bias.array
    if _chooses(op):  # wiring, in the form of weights
        return replace(x, positions=x.positions[..., w.argmax(axis=1)])
    if w.shape == (1, 1):  # elementwise: stays where it lives
        if bias.any() and len(x.shape) not in (1, 3):
            size = (math.prod(x.shape),)
            home, flat = x.positions, nir_nodes.flatten(x.shape)
            x = replace(file.put(f"{name}.flatten", flat, x, size), positions=home)
        layer = nir_nodes.scaled(x.shape, int(w[0, 0]), int(bias[0]))
        return replace(file.put(name, layer, x, x.shape), positions=x.positions)
    if x.positions.ndim == 1 and w.any() and (file.dialect.FLATTENS or len(x.shape) == 1):
        row, length = x, math.prod(x.shape)
        if len(x.shape) > 1:
            row = file.put(f"{name}.flatten", nir_nodes.flatten(x.shape), x, (length,))
        file.reserve(len(w) * length)
        dealt = _deal(w, x.positions, length)
        return file.put(name, nir_nodes.affine(dealt, bias), row, bias.shape)
    try:
        return _at_each_pixel(file, name, op, x)
    except NotRepresentableError:
        return _linear_of_elements(file, name, op, x)


def _at_each_pixel(file: NirBuilder, name: str, op: ops.Linear, x: Placed) -> Placed:
    """The same weights at each pixel, once for each group of channels that tokens lie in."""
    read, (C, *size), out = tokens(x), x.shape, len(op.bias.array)
    need_few(len(read.groups) * out * C)
    file.reserve(len(read.groups) * out * C)
    weight = np.concatenate([_deal(op.weight.array, channels, C) for channels in read.groups])
    layer = nir_nodes.pointwise(weight, np.tile(op.bias.array, len(read.groups)), tuple(size))
    y = file.put(name, layer, x, (len(weight), *size))
    channel = read.group[..., None] * out + np.arange(out)
    return replace(y, positions=channel * math.prod(size) + read.pixel[..., None])


def _linear_of_elements(file: NirBuilder, name: str, op: ops.Linear, x: Placed) -> Placed:
    """One weight for each pair of elements, token by token."""
    w, out = op.weight.array, len(op.bias.array)
    sources = x.positions.reshape(-1, 1, w.shape[1])
    rows = np.arange(len(sources) * out).reshape(-1, out, 1)
    spread = (a.ravel() for a in np.broadcast_arrays(rows, sources, w[None]))
    bias = np.tile(op.bias.array, len(sources))
    stages = onto_elements(Weights(*spread), bias, x.shape)
    return file.elements(name, stages, x, (*x.positions.shape[:-1], out))


def convolve(file: NirBuilder, name: str, op: ops.Conv2d, x: Placed) -> Placed:
    """A convolution of a map."""
    if not x.is_plain and op.weight.shape[1:] == (x.positions.shape[0], 1, 1) and _is_still(op):
        # Token by token: where they lie does not matter.
        w = IntTensor.of(op.weight.array[:, :, 0, 0])
        features = replace(x, positions=np.moveaxis(x.positions, 0, -1))
        y = linear(file, name, ops.Linear(weight=w, bias=op.bias), features)
        return replace(y, positions=np.moveaxis(y.positions, -1, 0))
    x = _as_map(file, name, x)
    shape = file.graph.types[name].shape
    if _counts(op):  # each channel's windows, added up
        pool = nir_nodes.count(op.weight.shape[2:], op.stride, op.padding)
        sizes = zip(x.shape[1:], op.weight.shape[2:], op.stride, op.padding, strict=True)
        made = (shape[0], *((n + 2 * p - k) // s + 1 for n, k, s, p in sizes))
        y = file.put(name, pool, x, made)
    else:
        file.reserve(nir_nodes.convolution_weights(op))
        layer = nir_nodes.convolution(op, x.shape[1:])
        made = tuple(int(n) for n in layer.output_type["output"])
        y = file.put(name, layer, x, made)
    kept = np.arange(math.prod(made)).reshape(made)[:, : shape[1], : shape[2]]
    return replace(y, positions=kept)


def _as_map(file: NirBuilder, name: str, x: Placed) -> Placed:
    """The value as a tensor of its own shape (C, H, W), or with zeros at ends of the map."""
    if len(x.shape) == 3 and x.is_plain:
        return x
    shape = x.positions.shape
    return move(file, f"{name}.map", x, shape, np.arange(x.positions.size).reshape(shape))


def add_up(file: NirBuilder, name: str, op: ops.Sum, x: Placed) -> Placed:
    """A sum over axes: a pool where they are a map or one side of it, weights elsewhere."""
    shape = file.graph.types[name].shape
    count = x.positions.size // math.prod(shape)
    for way in (_over_maps, _over_lines, _over_channels):
        try:
            y = way(file, name, op, x)
        except NotRepresentableError:
            continue
        return replace(y, positions=y.positions.reshape(shape))
    sources = np.moveaxis(x.positions, op.axes, range(-len(op.axes), 0)).reshape(-1, count)
    rows = np.broadcast_to(np.arange(len(sources))[:, None], sources.shape)
    weights = Weights.of_moves(rows, sources)
    stages = onto_elements(weights, np.zeros(len(sources), np.int64), x.shape)
    return file.elements(name, stages, x, shape)


def _over_maps(file: NirBuilder, name: str, op: ops.Sum, x: Placed) -> Placed:
    home = pooled(x, op.axes)
    C, *size = x.shape
    pool = nir_nodes.count(tuple(size), tuple(size), (0, 0))
    return replace(file.put(name, pool, x, (C, 1, 1)), positions=home)


def _over_lines(file: NirBuilder, name: str, op: ops.Sum, x: Placed) -> Placed:
    window, home = columns(x, op.axes)
    if math.prod(window) & math.prod(window) - 1:
        raise NotRepresentableError("importers take the sum of a line where it has 2^n elements")
    C, H, W = x.shape
    pool = nir_nodes.count(window, window, (0, 0))
    y = file.put(name, pool, x, (C, H // window[0], W // window[1]))
    return replace(y, positions=home)


def _over_channels(file: NirBuilder, name: str, op: ops.Sum, x: Placed) -> Placed:
    rows = np.moveaxis(x.positions, op.axes, range(-len(op.axes), 0))
    rows = rows.reshape(*rows.shape[: rows.ndim - len(op.axes)], -1)
    ones = IntTensor.of(np.ones((1, rows.shape[-1]), np.int64))
    total = ops.Linear(weight=ones, bias=IntTensor.of([0]), graded=True)
    return _at_each_pixel(file, name, total, replace(x, positions=rows))


def _deal(weight: IntArray, home: IntArray, size: int) -> IntArray:
    """Columns to where their inputs live; two that live in one place add up."""
    dealt = np.zeros((len(weight), size), np.int64)
    np.add.at(dealt.T, home, weight.T)
    return dealt


def least_weights(op: ops.Op) -> int:
    """Count the weights that `op` takes at least, wherever its input lives, before any is made."""
    match op:
        case ops.Conv2d() if _counts(op):
            return 0
        case ops.Conv2d() if op.groups > 1 or op.weight.shape[2:] != (1, 1):
            return nir_nodes.convolution_weights(op)
        case ops.Conv2d():
            return int(np.count_nonzero(op.weight.array))
        case ops.Linear() if not _chooses(op):
            return int(np.count_nonzero(op.weight.array))
        case _:
            return 0


def _chooses(op: ops.Linear) -> bool:
    """Whether each result is one of the features."""
    w = op.weight.array
    return (
        bool((w.sum(axis=1) == 1).all() and ((w == 0) | (w == 1)).all()) and not op.bias.array.any()
    )


def _is_still(op: ops.Conv2d) -> bool:
    return op.stride == (1, 1) and op.padding == (0, 0)


def _counts(op: ops.Conv2d) -> bool:
    """Whether it is a sum over each window of each channel."""
    depthwise = op.groups == op.weight.shape[0] and op.weight.shape[1] == 1
    return depthwise and bool((op.weight.array == 1).all()) and not op.bias.array.any()
