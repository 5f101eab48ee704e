"""How large sums get on the way, whatever the order in which their terms are added."""

from __future__ import annotations

import math

import numpy as np

from lapilli.ir import ops
from lapilli.ir.bounds import apart
from lapilli.ir.channel_ranges import ChannelRanges
from lapilli.ir.graph import Graph, Node


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
