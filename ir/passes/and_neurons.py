"""Gates of two binary spikes become AND neurons: for targets that can add but not select."""

from __future__ import annotations

from lapilli.ir.graph import Graph, Node
from lapilli.ir.ops import DECAY_ONE, LOIHI_FRACTION_BITS, Add, Gate, Neuron
from lapilli.ir.tensor import IntTensor

# 64 * vth + 1 with vth = 1: two spikes bring v = 128 and fire, one brings 64 and does not.
# This form of threshold means the same under >= and under Loihi's v > 64 * vth.
AND = Neuron(
    threshold=IntTensor.of([(1 << LOIHI_FRACTION_BITS) + 1]),
    dv=DECAY_ONE,  # full leak: each step is judged alone
    fraction_bits=LOIHI_FRACTION_BITS,
)


def gates_to_and_neurons(graph: Graph) -> Graph:
    """Replace each `Gate` of two binary spikes by `Add` and a neuron without memory.

    The neuron keeps the gate's name and value; the sum is called `<gate>.sum`. Gates with a
    ternary or graded operand stay: one threshold does not say them.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, Gate) and all(graph.types[i].is_binary for i in node.inputs):
            total = f"{node.name}.sum"
            nodes += [Node(total, Add(), node.inputs), Node(node.name, AND, (total,))]
        else:
            nodes.append(node)
    return Graph(tuple(nodes), graph.outputs, graph.T)
