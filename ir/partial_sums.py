"""How large sums get on the way, whatever the order in which their terms are added.

A node's own sum is one thing (`partial_sum`), what becomes of it where nodes are added at once is
another (`in_any_order`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import apart
from lapilli.ir.carried import along_channels, carried, weighted
from lapilli.ir.channel_ranges import ChannelRanges
from lapilli.ir.graph import Graph, Node
from lapilli.ir.types import IntRange, TensorType


def partial_sum(graph: Graph, node: Node) -> int:
    """The magnitude that no partial sum of a node exceeds, in its unit.

    Of a node that adds nothing, that of its value.
    """
    given = [graph.types[name] for name in node.inputs]
    magnitudes = [t.range.magnitude for t in given]
    match node.op:
        case ops.Linear(weight=w, bias=b) | ops.Conv2d(weight=w, bias=b):
            negative, positive = w.row_sums
            each = zip((positive - negative).tolist(), np.abs(b.array).tolist(), strict=True)
            return max(int(row) * magnitudes[0] + int(bias) for row, bias in each)
        case ops.SpikeMatmul():
            return magnitudes[0] * magnitudes[1] * given[0].shape[-1]
        case ops.Gate():
            return magnitudes[0] * magnitudes[1]
        case ops.Sum(axes=axes):
            if (channels := given[0].channels) is not None:
                sizes = ChannelRanges(channels.magnitude, channels.magnitude)
                return sizes.summed(given[0].shape, axes, keepdims=False).whole.hi
            return magnitudes[0] * math.prod(given[0].shape[a] for a in axes)
        case ops.Add():
            if any(t.channels is not None for t in given):
                one, other = (apart(t).magnitude for t in given)
                return int((one + other).max())
            return sum(magnitudes)
        case ops.ShiftSum(window=window, reach=reach):
            return max(magnitudes[1] << reach, given[0].shape[-1] << window)
        case _:
            return graph.types[node.name].range.magnitude


def in_any_order(
    graph: Graph, proved: Mapping[str, TensorType] = MappingProxyType({})
) -> dict[str, IntRange]:
    """Where all partial sums of each value lie, by node, if adds take the terms of earlier nodes.

    So a reader may add who gets several edges into one node, or a residual stream term by term.
    Each channel is followed with its own sums; 0, with which every sum begins, is inside.

    Args:
        graph: to follow.
        proved: types of some of its values that may say more than its own.
    """
    found: dict[str, ChannelRanges] = {}
    for node in graph.nodes:
        given = [found[name] for name in node.inputs]
        shapes = [graph.types[name].shape for name in node.inputs]
        whole = apart(proved.get(node.name, graph.types[node.name]))
        match node.op:
            case ops.Linear() | ops.Conv2d() as op:
                sums = weighted_in_any_order(op, given[0].whole, whole.lo.ndim)
            case ops.Add() | ops.Sum() | ops.Concat() as op:
                sums = carried(op, shapes, given)
            case ops.Reshape() | ops.Permute() | ops.Expand() | ops.Slice() as op:
                sums = carried(op, shapes, given)
            case ops.Delay() | ops.Readout():
                (sums,) = given
            case _:
                sums = whole | whole.times(0)
        found[node.name] = _with_the_rest(sums, whole)
    return {name: each.whole for name, each in found.items()}


def _with_the_rest(sums: ChannelRanges, whole: ChannelRanges) -> ChannelRanges:
    """What is summed up and the rest, which is a partial sum too, are together the value."""
    return ChannelRanges(
        np.maximum(sums.lo, whole.lo - sums.hi), np.minimum(sums.hi, whole.hi - sums.lo)
    )


def weighted_in_any_order(op: ops.Weighted, x: IntRange, axes: int) -> ChannelRanges:
    """The same of one map of inputs in this range, whose value has so many axes."""
    bias = along_channels(op, op.bias.array, axes)
    early = ChannelRanges(np.minimum(bias, 0), np.maximum(bias, 0))
    return weighted(op, x, axes) + early
