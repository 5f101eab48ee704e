"""What can be proved about a graph's numbers before it runs.

For each neuron: the interval of its current and membrane over a whole sample, and whether
a decay can ever truncate. From these follow what fits Loihi's registers (`loihi`) and what a
float runtime holds exactly (24 bits of float32, 53 of float64).
"""

from __future__ import annotations

from lapilli.ir import loihi, ops
from lapilli.ir.bounds import NeuronBounds, neuron_bounds
from lapilli.ir.errors import RangeError
from lapilli.ir.graph import Graph, Node


def certify(graph: Graph) -> tuple[NeuronBounds, ...]:
    """Bounds of every neuron and of every membrane that is read, in topological order."""
    return tuple(
        neuron_bounds(node.name, op, graph.types[node.inputs[0]], graph.T)
        for node in graph.nodes
        if (op := _integrates(node)) is not None
    )


def _integrates(node: Node) -> ops.Neuron | None:
    if isinstance(node.op, ops.Membrane):
        return node.op.neuron
    return node.op if isinstance(node.op, ops.Neuron) else None


def check_registers(graph: Graph) -> None:
    """Refuse a graph whose state could leave Loihi's 24 bits.

    Raises:
        RangeError: the node, the bits it needs and the bits there are.
    """
    for bounds in certify(graph):
        for found in loihi.unsupported_state(bounds):
            raise RangeError(found.node, f"{found.reason}; quantize this layer to fewer bits")
