"""Maxima of binary spikes become OR neurons: for targets that can add but not compare."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import DECAY_ONE, LOIHI_FRACTION_BITS, Conv2d, MaxPool2d, Neuron
from lapilli.ir.tensor import IntTensor

OR = Neuron(
    threshold=IntTensor.of([1]),  # 64 * vth + 1 with vth = 0: one spike brings 64 and fires
    dv=DECAY_ONE,  # full leak: each step is judged alone
    fraction_bits=LOIHI_FRACTION_BITS,
)


def max_pools_to_or_neurons(graph: Graph) -> Graph:
    """Replace each `MaxPool2d` of binary spikes by a sum over its window and an OR neuron.

    The neuron keeps the pool's name and value; the sum is called `<pool>.count`. Pools of other
    values stay.
    """

    def replaced(node: Node) -> Iterator[Node]:
        if isinstance(node.op, MaxPool2d) and graph.types[node.inputs[0]].is_binary:
            count = f"{node.name}.count"
            channels = graph.types[node.inputs[0]].shape[0]
            yield Node(count, window_sum(node.op, channels), node.inputs)
            yield Node(node.name, OR, (count,))
        else:
            yield node

    nodes = tuple(new for node in graph.nodes for new in replaced(node))
    return Graph(nodes, graph.outputs, graph.T)


def window_sum(windows: MaxPool2d, channels: int) -> Conv2d:
    """Synapses of weight one: the sum of each window of each channel."""
    return Conv2d(
        weight=IntTensor.of(np.ones((channels, 1, *windows.kernel), np.int64)),
        bias=IntTensor.of(np.zeros(channels, np.int64)),
        stride=windows.stride,
        padding=windows.padding,
        groups=channels,
    )
